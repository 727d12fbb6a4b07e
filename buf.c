/*
 * Bytes that know their length: struct span borrows them, struct buf and
 * struct strings own them.  And memory itself, whose end is the process's.
 */
#include "relayd.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <unistd.h>

/* The spool makes a sudden end safe; no caller has a path to get wrong. */
static void
out_of_memory(void)
{
	log_error(NULL, "out of memory");
	_exit(EX_TEMPFAIL);
}

void *
mem_alloc(size_t size)
{
	void *p = calloc(1, size == 0 ? 1 : size);

	if (p == NULL)
		out_of_memory();
	return p;
}

void *
mem_array(void *old, size_t count, size_t size)
{
	void *p = reallocarray(old, count == 0 ? 1 : count, size);

	if (p == NULL)
		out_of_memory();
	return p;
}

char *
mem_text(const char *text)
{
	char *copy;

	if (text == NULL)
		return NULL;
	copy = strdup(text);
	if (copy == NULL)
		out_of_memory();
	return copy;
}

/* ---- spans ---- */

struct span
span_of(const char *text)
{
	return (struct span){ text, text == NULL ? 0 : strlen(text) };
}

struct span
span_from(struct span s, size_t offset)
{
	if (s.len == 0) /* data may be NULL, to which nothing can be added */
		return s;
	if (offset > s.len)
		offset = s.len;
	return (struct span){ s.data + offset, s.len - offset };
}

struct span
span_first(struct span s, size_t count)
{
	return (struct span){ s.data, count < s.len ? count : s.len };
}

bool
span_equal(struct span a, struct span b)
{
	return a.len == b.len &&
	    (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static char
lower(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c + 'a' - 'A');
	return c;
}

/* ASCII only: what a locale thinks of other bytes must not matter. */
bool
span_equal_nocase(struct span a, struct span b)
{
	size_t i;

	if (a.len != b.len)
		return false;
	for (i = 0; i < a.len; i++) {
		if (lower(a.data[i]) != lower(b.data[i]))
			return false;
	}
	return true;
}

bool
span_starts_nocase(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	    span_equal_nocase(span_first(s, prefix.len), prefix);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span
span_trim(struct span s)
{
	while (s.len > 0 && is_blank(s.data[0]))
		s = span_from(s, 1);
	while (s.len > 0 && is_blank(s.data[s.len - 1]))
		s.len--;
	return s;
}

bool
span_cut(struct span s, char c, struct span *head, struct span *tail)
{
	const char *at = s.len == 0 ? NULL : memchr(s.data, c, s.len);

	if (at == NULL) {
		*head = s;
		*tail = span_from(s, s.len);
		return false;
	}
	*head = span_first(s, (size_t)(at - s.data));
	*tail = span_from(s, head->len + 1);
	return true;
}

char *
span_text(struct span s)
{
	char *text = mem_alloc(s.len + 1);

	if (s.len > 0)
		memcpy(text, s.data, s.len);
	return text;
}

size_t
span_utf8(struct span s)
{
	unsigned char c = (unsigned char)s.data[0];
	size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	uint32_t code = c < 0x80 ? c : c & (0x7fu >> len);
	size_t i;

	if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || s.len < len)
		return 0;
	for (i = 1; i < len; i++) {
		if ((s.data[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s.data[i] & 0x3f);
	}
	if ((len == 3 && code < 0x800) || (len == 4 && code < 0x10000) ||
	    (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
		return 0;
	return len;
}

bool
span_is_utf8(struct span s)
{
	size_t len = 1;

	while (s.len > 0 && len > 0) {
		len = span_utf8(s);
		s = span_from(s, len);
	}
	return len > 0;
}

bool
span_is_ascii(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		if ((unsigned char)s.data[i] >= 0x80)
			return false;
	}
	return true;
}

/* ---- buffers ---- */

void
buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ NULL, 0, 0 };
}

void
buf_wipe(struct buf *b)
{
	if (b->data != NULL)
		explicit_bzero(b->data, b->size);
	buf_free(b);
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
}

void
buf_reserve(struct buf *b, size_t more)
{
	size_t size = b->size == 0 ? 64 : b->size;

	if (b->size - b->len >= more)
		return;
	if (more > SIZE_MAX / 2 - b->len)
		out_of_memory();
	while (size - b->len < more)
		size *= 2;
	b->data = mem_array(b->data, size, 1);
	b->size = size;
}

void
buf_append(struct buf *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	buf_reserve(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void
buf_add(struct buf *b, struct span s)
{
	buf_append(b, s.data, s.len);
}

void
buf_add_text(struct buf *b, const char *text)
{
	buf_append(b, text, strlen(text));
}

void
buf_add_char(struct buf *b, char c)
{
	buf_append(b, &c, 1);
}

void
buf_vprintf(struct buf *b, const char *format, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	assert(n >= 0);
	buf_reserve(b, (size_t)n + 1);
	(void)vsnprintf(b->data + b->len, (size_t)n + 1, format, ap);
	b->len += (size_t)n;
}

void
buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	buf_vprintf(b, format, ap);
	va_end(ap);
}

void
buf_drop(struct buf *b, size_t count)
{
	assert(count <= b->len);
	b->len -= count;
	if (b->len > 0 && count > 0)
		memmove(b->data, b->data + count, b->len);
}

struct span
buf_span(const struct buf *b)
{
	return (struct span){ b->data, b->len };
}

const char *
buf_text(struct buf *b)
{
	buf_reserve(b, 1);
	b->data[b->len] = '\0';
	return b->data;
}

void
buf_add_escaped(struct buf *b, struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];

		if (c >= ' ' && c <= '~' && c != '\\')
			buf_add_char(b, (char)c);
		else
			buf_printf(b, "\\x%02x", c);
	}
}

/* ---- text from outside in a log line ---- */

/*
 * Programs that read logs (pflogsumm, fail2ban) find fields by patterns such
 * as "to=<([^>]*)>, relay=" anywhere in a line.
 */
void
buf_add_value(struct buf *b, struct span s)
{
	size_t i, end = b->len + LIMIT_ADDRESS;

	for (i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];
		bool plain =
		    c > ' ' && c <= '~' && strchr("\\,<>()", c) == NULL;

		if (b->len + (plain ? 1 : 4) > end) {
			buf_add_text(b, "...");
			return;
		}
		if (plain)
			buf_add_char(b, (char)c);
		else
			buf_printf(b, "\\x%02x", c);
	}
}

/* Names of fields in log lines of ours. */
static bool
is_field(struct span name)
{
	static const char *const names[] = { "client", "delay", "delays", "dsn",
		"from", "helo", "message-id", "nrcpt", "orig_to", "proto",
		"relay", "size", "status", "to", "uid" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (span_equal_nocase(name, span_of(names[i])))
			return true;
	return false;
}

void
buf_add_words(struct buf *b, struct span s)
{
	size_t i, word = 0; /* where the present one begins */

	for (i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];
		bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
		bool field = c == '=' &&
		    is_field((struct span){ s.data + word, i - word });

		if (c < ' ' || c > '~' || field)
			buf_printf(b, "\\x%02x", c);
		else
			buf_add_char(b, (char)c);
		if (!letter && c != '_' && c != '-')
			word = i + 1;
	}
}

/* ---- JSON (RFC 8259, section 7) ---- */

void
buf_add_json(struct buf *b, struct span s)
{
	buf_add_char(b, '"');
	while (s.len > 0) {
		unsigned char c = (unsigned char)s.data[0];
		size_t len = span_utf8(s);

		if (len == 0) {
			buf_add_text(b, "\\ufffd");
			len = 1;
		} else if (c == '"' || c == '\\') {
			buf_add_char(b, '\\');
			buf_add_char(b, (char)c);
		} else if (c < ' ' || c == 0x7f) {
			buf_printf(b, "\\u%04x", c);
		} else {
			buf_append(b, s.data, len);
		}
		s = span_from(s, len);
	}
	buf_add_char(b, '"');
}

/* ---- lists ---- */

void
strings_add(struct strings *list, struct span s)
{
	/* Grows at powers of two, so that the size needs no field. */
	if ((list->count & (list->count - 1)) == 0)
		list->item = mem_array(list->item,
		    list->count == 0 ? 1 : list->count * 2,
		    sizeof(*list->item));
	list->item[list->count++] = span_text(s);
}

void
strings_free(struct strings *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		free(list->item[i]);
	free(list->item);
	*list = (struct strings){ NULL, 0 };
}

bool
strings_have(const struct strings *list, struct span s)
{
	size_t i;

	for (i = 0; i < list->count; i++) {
		if (span_equal_nocase(span_of(list->item[i]), s))
			return true;
	}
	return false;
}
