/*
 * The effective configuration, written as relayd.conf would have it.
 *
 * Secrets never appear.  What was written, in whatever file, is found by
 * config_scan.c; with what, by the rows of config_keys.c.
 */
#include "config_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

static void
add_text(struct buf *out, const struct config_key *key, const char *value)
{
	struct buf whole = { NULL, 0, 0 };

	/* Its field has lost what it begins with. */
	if (key->check == config_check_socket &&
	    !span_starts_nocase(span_of(value), SPAN("unix:")))
		buf_add_text(&whole, "unix:");
	buf_add_text(&whole, value);
	config_add_quoted(out, buf_span(&whole));
	buf_free(&whole);
}

static void
add_word(struct buf *out, const struct config_key *key, uint64_t place)
{
	struct span rest = span_of(key->words), word = { NULL, 0 };

	do
		(void)span_cut(rest, ' ', &word, &rest);
	while (place-- > 0);
	if (span_equal(word, SPAN("true")) || span_equal(word, SPAN("false")))
		buf_add(out, word);
	else
		config_add_quoted(out, word);
}

static void
add_amount(struct buf *out, enum key_kind kind, uint64_t value)
{
	if (kind != KEY_NUMBER)
		buf_add_char(out, '"');
	config_add_amount(out, kind, value);
	if (kind != KEY_NUMBER)
		buf_add_char(out, '"');
}

/* In the first unit that it is a whole number of, else with a point. */
static void
add_rate(struct buf *out, double per_second)
{
	static const char letters[] = "smhd";
	static const double seconds[] = { 1, 60, 3600, 86400 };
	struct buf text = { NULL, 0, 0 };
	double same = 0;
	size_t i;

	for (i = 0; i < 8 && same != per_second; i++) {
		buf_clear(&text);
		buf_printf(&text, "%.*f/%c", i < 4 ? 0 : 9,
		    per_second * seconds[i % 4], letters[i % 4]);
		if (!parse_rate(buf_span(&text), &same))
			same = 0;
	}
	config_add_quoted(out, buf_span(&text));
	buf_free(&text);
}

static void
add_durations(struct buf *out, const struct config *c)
{
	size_t i;

	buf_add_char(out, '{');
	for (i = 0; i < c->retry_count; i++) {
		buf_add_text(out, i == 0 ? "" : ", ");
		add_amount(out, KEY_DURATION, (uint64_t)c->retry[i]);
	}
	buf_add_char(out, '}');
}

static uint64_t
stored(const struct config_key *key, const void *field)
{
	unsigned narrow;
	uint64_t wide = 0;
	bool yes;

	if (key->size == sizeof(yes)) {
		memcpy(&yes, field, sizeof(yes));
		wide = yes;
	} else if (key->size == sizeof(narrow)) {
		memcpy(&narrow, field, sizeof(narrow));
		wide = narrow;
	} else if (key->size == sizeof(wide)) {
		memcpy(&wide, field, sizeof(wide));
	}
	return wide;
}

/* The value that a key has in the struct at base. */
static void
add_value(struct buf *out, const struct config_key *key, const void *base)
{
	const void *field = (const char *)base + key->field;

	switch (key->kind) {
	case KEY_TEXT:
		add_text(out, key, *(char *const *)field);
		break;
	case KEY_LIST:
		config_add_list(out, field);
		break;
	case KEY_WORD:
		if (key->size == 0) /* nothing but the default can be */
			config_add_quoted(out, span_of(key->fallback));
		else
			add_word(out, key, stored(key, field) - key->lowest);
		break;
	case KEY_MODE:
		buf_printf(out, "\"%04o\"", (unsigned)stored(key, field));
		break;
	case KEY_NUMBER:
	case KEY_SIZE:
	case KEY_DURATION:
		add_amount(out, key->kind, stored(key, field));
		break;
	case KEY_DURATIONS:
		add_durations(out, base);
		break;
	case KEY_RATE:
		add_rate(out, *(const double *)field);
		break;
	case KEY_LATER:
	case KEY_SECTION:
	case KEY_INCLUDE:
	case KEY_SECRET:
		break; /* not shown */
	}
}

/* ---- defaults, to compare with ---- */

static void *
relay_defaults(const struct config_relay *relay)
{
	struct config_relay *d = mem_alloc(sizeof(*d));

	config_set_defaults(config_relay_keys, d);
	config_set_preset(d, relay->preset);
	if (d->port == 0)
		d->port = relay->tls == TLS_IMPLICIT ? 465 : 587;
	return d;
}

/* As if the section said nothing but what preset it is of. */
static void *
make_defaults(const char *section, const void *base)
{
	void *defaults;

	if (section != NULL && strcmp(section, "relay") == 0)
		return relay_defaults(base);
	defaults = mem_alloc(section == NULL ? sizeof(struct config)
					     : sizeof(struct config_listen));
	config_set_defaults(config_section_keys(section), defaults);
	return defaults;
}

/* ---- what is shown ---- */

struct showing {
	const struct config *config;
	struct scan scan; /* what is written */
	const struct config_place *only;
	bool changed; /* only what isn't the default */
	bool found;
	struct buf *out;
};

/* Is it to be written, for the same configuration?  What nobody wrote is a
 * default, on this host, but for a port that stands in host. */
static bool
is_changed(const struct showing *s, size_t section,
    const struct config_key *key, const void *base, const void *defaults)
{
	struct buf is = { NULL, 0, 0 }, was = { NULL, 0, 0 };
	bool changed,
	    written = config_scan_find(&s->scan, section, key->name) != NULL;

	if (strcmp(key->name, "port") == 0)
		written |= config_scan_find(&s->scan, section, "host") != NULL;
	add_value(&is, key, base);
	add_value(&was, key, defaults);
	/* No local name at all is not the default. */
	changed = !span_equal(buf_span(&is), buf_span(&was)) ||
	    strcmp(key->name, "local_names") == 0;
	buf_free(&is);
	buf_free(&was);
	return changed && written;
}

/* A key does not show where it may not be written. */
static bool
applies(const char *section, const char *key, const void *base)
{
	const struct config_listen *listen = base;
	const struct config_relay *relay = base;

	if (section == NULL)
		return true;
	if (strcmp(section, "listen") == 0)
		return strcmp(key,
			   strncmp(listen->address, "unix:", 5) == 0
			       ? "allow"
			       : "mode") != 0;
	return *relay->maildir == '\0' || strcmp(key, "maildir") == 0 ||
	    strcmp(key, "senders") == 0;
}

static void
show_secret(struct showing *s, const struct config_key *key, const char *indent,
    const void *base)
{
	const char *value =
	    *(char *const *)(const void *)((const char *)base + key->field);

	if (*value != '\0')
		buf_printf(s->out, "%s# %s = (hidden)\n", indent, key->name);
}

/* The entries of a section, whose index in the scan is given, or those that
 * stand in none. */
static void
show_entries(struct showing *s, const char *name, size_t section,
    const void *base)
{
	const struct config_key *key = config_section_keys(name);
	const char *indent = name == NULL || s->only != NULL ? "" : "    ";
	void *defaults = make_defaults(name, base);

	for (; key->name != NULL; key++) {
		if (key->kind <= KEY_INCLUDE ||
		    !applies(name, key->name, base) ||
		    (s->only != NULL && strcmp(s->only->key, key->name) != 0))
			continue;
		s->found = true;
		if (key->kind == KEY_SECRET) {
			show_secret(s, key, indent, base);
		} else if (!s->changed ||
		    is_changed(s, section, key, base, defaults)) {
			buf_printf(s->out, "%s%s = ", indent, key->name);
			add_value(s->out, key, base);
			buf_add_char(s->out, '\n');
		}
	}
	config_free_values(config_section_keys(name), defaults);
	free(defaults);
}

/* The n-th section of a kind in the scan; SCAN_GLOBAL: written nowhere. */
static size_t
nth_section(const struct scan *scan, const char *name, size_t n)
{
	size_t i;

	for (i = 0; i < scan->entry_count; i++)
		if (scan->entry[i].form == SCAN_SECTION &&
		    strcmp(scan->entry[i].key, name) == 0 && n-- == 0)
			return i;
	return SCAN_GLOBAL;
}

static void
show_section(struct showing *s, const char *name, const char *title, size_t n,
    const void *base)
{
	size_t section = nth_section(&s->scan, name, n);

	if (s->only != NULL &&
	    (s->only->section == NULL || strcmp(s->only->section, name) != 0 ||
		strcmp(s->only->title, title) != 0))
		return;
	if (s->only == NULL) {
		buf_printf(s->out, "\n%s ", name);
		config_add_quoted(s->out, span_of(title));
		buf_add_text(s->out, " {\n");
	}
	show_entries(s, name, section, base);
	if (s->only == NULL)
		buf_add_text(s->out, "}\n");
}

static void
show_all(struct showing *s)
{
	const struct config *c = s->config;
	size_t i;

	if (s->only == NULL || s->only->section == NULL)
		show_entries(s, NULL, SCAN_GLOBAL, c);
	for (i = 0; i < c->listen_count; i++)
		if (!s->changed || !c->listen[i].implicit)
			show_section(s, "listen", c->listen[i].address, i,
			    &c->listen[i]);
	for (i = 0; i < c->relay_count; i++)
		show_section(s, "relay", c->relay[i].name, i, &c->relay[i]);
}

int
config_show(const struct config *c, const char *key, bool changed,
    struct buf *out, struct buf *error)
{
	struct showing s = { .config = c, .changed = changed, .out = out };
	struct config_place place = { NULL, NULL, NULL, NULL };
	int ret = config_scan(c->path, &s.scan, error);

	if (ret == 0 && key != NULL) {
		ret = config_place_parse(&place, key, error);
		s.only = &place;
	}
	if (ret == 0)
		show_all(&s);
	if (ret == 0 && key != NULL && !s.found) {
		buf_add_text(error, "there is no such section\n");
		ret = -1;
	}
	config_place_free(&place);
	config_scan_free(&s.scan);
	return ret;
}
