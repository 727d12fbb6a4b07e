/*
 * A configuration being read: what is wrong with it is told here, and where
 * its keys stand is found.
 */
#include "config_parts.h"

#include <stdlib.h>
#include <string.h>

void
config_refuse(struct config_reading *r, const struct scan_entry *at,
    const char *format, ...)
{
	va_list ap;

	if (++r->error_count > CONFIG_ERRORS)
		return;
	va_start(ap, format);
	config_report(&r->scan, at, r->errors, format, ap);
	va_end(ap);
	if (r->error_count == CONFIG_ERRORS)
		buf_add_text(r->errors, "more errors are not shown\n");
}

void
config_warn(struct config_reading *r, const struct scan_entry *at,
    const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	config_report(&r->scan, at, r->warnings, format, ap);
	va_end(ap);
}

struct span
config_raw(const struct config_reading *r, const struct scan_entry *e)
{
	return (struct span){ r->scan.text.data + e->value, e->end - e->value };
}

void
config_explain(const struct config_reading *r, const struct scan_entry *e,
    struct buf *out)
{
	struct span raw = config_raw(r, e);
	const char *at = memmem(raw.data, raw.len, "${", 2);
	struct span name, rest;
	char *text;

	if (at == NULL)
		return;
	(void)span_cut(span_from(raw, (size_t)(at - raw.data) + 2), '}', &name,
	    &rest);
	text = span_text(name);
	if (strstr(text, ":-") == NULL && getenv(text) == NULL) {
		buf_add_text(out, " (environment variable ");
		buf_add_escaped(out, name);
		buf_add_text(out, " is not set)");
	}
	free(text);
}

const struct scan_entry *
config_entry(const struct config_reading *r, size_t section, const char *name)
{
	return config_scan_find(&r->scan, section, name);
}

struct scan_entry
config_place(const struct config_reading *r, size_t section, const char *name)
{
	const struct scan_entry *e = config_entry(r, section, name);
	struct scan_entry at = { .line = 1, .section = section };

	if (e != NULL)
		return *e;
	if (section != SCAN_GLOBAL) {
		at.file = r->scan.entry[section].file;
		at.line = r->scan.entry[section].line;
	}
	memcpy(at.key, name, strnlen(name, SCAN_KEY));
	return at;
}

void
config_refuse_key(struct config_reading *r, size_t section, const char *name,
    const char *format, ...)
{
	struct scan_entry at = config_place(r, section, name);
	struct buf text = { 0 };
	va_list ap;

	va_start(ap, format);
	buf_vprintf(&text, format, ap);
	va_end(ap);
	if (at.end > at.start)
		config_explain(r, &at, &text);
	config_refuse(r, &at, "%s", buf_text(&text));
	buf_free(&text);
}
