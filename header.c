/*
 * The grammar of a header section (RFC 5322): where it ends, its fields, the
 * mailboxes of an address list.  What becomes of them is for rewrite.c, and
 * whether an address is a good one for smtp.c.
 *
 * Everything here is one pass over the text, without recursion.
 */
#include "header.h"

#include <string.h>

/* The longest encoded word that we make: RFC 2047, section 2, has 75, and 76
 * for a line, which begins with the field's name. */
enum { ENCODED_WORD = 64 };

/* ---- fields ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Some editors put a byte order mark first. */
static struct span
skip_mark(struct span text)
{
	struct span mark = SPAN("\xef\xbb\xbf");

	return span_starts_nocase(text, mark) ? span_from(text, mark.len)
					      : text;
}

/* What separates messages in an mbox, or the quoted form of it. */
static bool
is_mbox_line(struct span line)
{
	return span_equal(span_first(line, 5), SPAN("From ")) ||
	    span_equal(span_first(line, 6), SPAN(">From "));
}

/*
 * The length of the field name at the start of a line, 0 if that is no field
 * (RFC 5322, 2.2; blanks before the colon: 4.5).  NUL passes for a letter:
 * what has one is to be refused, not to be taken for text.
 */
static size_t
name_length(struct span line, size_t *value)
{
	size_t len, colon;

	for (len = 0; len < line.len; len++) {
		char c = line.data[len];

		if (c != '\0' && (c < '!' || c > '~' || c == ':'))
			break;
	}
	for (colon = len; colon < line.len; colon++) {
		if (line.data[colon] != ' ' && line.data[colon] != '\t')
			break;
	}
	if (colon == line.len || line.data[colon] != ':')
		return 0;
	*value = colon + 1;
	return len;
}

static bool
is_empty_line(struct span line)
{
	return span_equal(line, SPAN("\r\n")) || span_equal(line, SPAN("\n"));
}

/* Is the line part of the header, given that those above it are? */
static bool
is_header_line(struct span line, bool first)
{
	size_t value;

	if (first)
		line = skip_mark(line);
	if (name_length(line, &value) > 0)
		return true;
	return first ? is_mbox_line(line)
		     : line.data[0] == ' ' || line.data[0] == '\t';
}

/* Where the line ends that holds the octet at offset, with its CRLF. */
static size_t
line_end(struct span text, size_t offset)
{
	const char *lf = memchr(text.data + offset, '\n', text.len - offset);

	return lf == NULL ? text.len : (size_t)(lf - text.data) + 1;
}

/* Where the line starts that holds the octet at offset. */
static size_t
line_start(struct span text, size_t offset)
{
	const char *lf = offset == 0 ? NULL : memrchr(text.data, '\n', offset);

	return lf == NULL ? 0 : (size_t)(lf - text.data) + 1;
}

bool
header_end(struct span text, size_t *scanned, size_t *header, size_t *body)
{
	while (*scanned < text.len) {
		size_t end = line_end(text, *scanned);
		struct span line;

		if (text.data[end - 1] != '\n')
			break;
		*header = line_start(text, *scanned);
		line = span_from(span_first(text, end), *header);
		*body = is_empty_line(line) ? end : *header;
		if (*body == end || !is_header_line(line, *header == 0))
			return true;
		*scanned = end;
	}
	*scanned = text.len;
	return false;
}

bool
header_next(struct span *header, struct header_field *field)
{
	struct span text = skip_mark(*header);
	size_t name, end, value = 0;

	if (text.len == 0)
		return false;
	end = line_end(text, 0);
	while (
	    end < text.len && (text.data[end] == ' ' || text.data[end] == '\t'))
		end = line_end(text, end);
	*header = span_from(text, end);
	field->text = span_first(text, end);
	name = name_length(field->text, &value);
	field->name = span_first(text, name);
	field->value = span_from(field->text, name == 0 ? end : value);
	return true;
}

bool
header_has(struct span header, struct span name)
{
	struct header_field field;

	while (header_next(&header, &field)) {
		if (span_equal_nocase(field.name, name))
			return true;
	}
	return false;
}

/* Those that may stand there only once (RFC 5322, 3.6). */
void
header_repeated(struct span header, struct buf *names)
{
	static const char *const once[] = { "From", "Date", "Message-ID", "To",
		"Cc", "Sender", "Reply-To", "Subject" };
	unsigned seen[sizeof(once) / sizeof(once[0])] = { 0 };
	struct header_field field;
	size_t i;

	while (header_next(&header, &field)) {
		for (i = 0; i < sizeof(once) / sizeof(once[0]); i++) {
			if (span_equal_nocase(field.name, span_of(once[i])) &&
			    ++seen[i] == 2)
				buf_printf(names, "%s%s",
				    names->len == 0 ? "" : ", ", once[i]);
		}
	}
}

/* ---- quoting ---- */

void
header_add_unquoted(struct buf *out, struct span quoted)
{
	size_t i;

	for (i = 0; i < quoted.len; i++) {
		if (quoted.data[i] == '\\' && i + 1 < quoted.len)
			i++;
		if (quoted.data[i] != '\r' && quoted.data[i] != '\n')
			buf_add_char(out, quoted.data[i]);
	}
}

/* Atoms that say something else when decoded (RFC 2047, section 2). */
static bool
is_encoded(struct span text)
{
	size_t i;

	for (i = 0; i < text.len; i++) {
		if (text.data[i] < ' ' || text.data[i] > '~' ||
		    strchr("\"(),.:;<>@[\\]", text.data[i]) != NULL)
			return false;
	}
	return text.len > 0 && memmem(text.data, text.len, "=?", 2) != NULL;
}

static bool
is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

static void
add_quoted(struct buf *out, struct span text)
{
	size_t i;

	buf_add_char(out, '"');
	for (i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (c == '"' || c == '\\')
			buf_add_char(out, '\\');
		if (is_control(c))
			c = ' ';
		buf_add_char(out, c);
	}
	buf_add_char(out, '"');
}

/* Append an octet as it is written inside of an encoded word that stands in a
 * phrase (RFC 2047, sections 4.2 and 5 (3)). */
static void
add_encoded(struct buf *out, char c)
{
	if (c == ' ' || is_control(c))
		buf_add_char(out, '_');
	else if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	    (c >= 'a' && c <= 'z') || c == '-')
		buf_add_char(out, c);
	else
		buf_printf(out, "=%02X", (unsigned char)c);
}

/* How the text is encoded; NULL: it is ASCII.  RFC 1428 has a name for what
 * nobody can tell. */
static const char *
charset(struct span text)
{
	const char *name = NULL;
	size_t len;

	for (; text.len > 0; text = span_from(text, len)) {
		len = span_utf8(text);
		if (len == 0)
			return "unknown-8bit";
		if (len > 1)
			name = "utf-8";
	}
	return name;
}

/* As many encoded words as it takes; none is cut inside of a character. */
static void
add_encoded_words(struct buf *out, struct span text, const char *name)
{
	size_t len, i, begin = out->len;

	buf_printf(out, "=?%s?q?", name);
	for (; text.len > 0; text = span_from(text, len)) {
		len = span_utf8(text);
		if (len == 0)
			len = 1;
		if (out->len - begin + len * strlen("=00") + strlen("?=") >
		    ENCODED_WORD) {
			buf_add_text(out, "?=\r\n\t");
			begin = out->len;
			buf_printf(out, "=?%s?q?", name);
		}
		for (i = 0; i < len; i++)
			add_encoded(out, text.data[i]);
	}
	buf_add_text(out, "?=");
}

void
header_add_phrase(struct buf *out, struct span text)
{
	const char *name = charset(text);

	if (is_encoded(text))
		buf_add(out, text);
	else if (name != NULL)
		add_encoded_words(out, text, name);
	else
		add_quoted(out, text);
}

/* ---- address lists (RFC 5322, 3.2.2 to 3.4 and 4.4) ---- */

/* The end of what opens at `at`; comments nest.  0: it is never closed. */
static size_t
enclosed_end(struct span s, size_t at, char open, char close)
{
	size_t depth = 1;

	while (++at < s.len) {
		if (s.data[at] == '\\')
			at++;
		else if (s.data[at] == close && --depth == 0)
			return at + 1;
		else if (s.data[at] == open)
			depth++;
	}
	return 0;
}

/* Atoms are taken with their dots and '@'; smtp.c judges the whole. */
static bool
is_atom(char c)
{
	return !is_blank(c) && strchr("\"(<>,;:[", c) == NULL;
}

/* The end of the token at `at`, or 0. */
static size_t
token_end(struct span s, size_t at)
{
	switch (s.data[at]) {
	case '"':
		return enclosed_end(s, at, '"', '"');
	case '(':
		return enclosed_end(s, at, '(', ')');
	case '[':
		return enclosed_end(s, at, '[', ']');
	default:
		break;
	}
	if (is_blank(s.data[at])) {
		while (at < s.len && is_blank(s.data[at]))
			at++;
	} else if (is_atom(s.data[at])) {
		while (at < s.len && is_atom(s.data[at]))
			at++;
	} else {
		at++;
	}
	return at;
}

/* A mailbox on its way through the tokens. */
struct reading {
	struct mailbox *m;
	enum { BEFORE, INSIDE, BEHIND } part; /* the angle brackets */
	bool gap;    /* blanks or a comment stand behind the last word */
	bool spaced; /* the words are apart: a name, but no address */
};

static struct reading
begin_mailbox(struct mailbox *m)
{
	struct span none = { NULL, 0 };

	m->text = none;
	m->name = none;
	m->comment = none;
	buf_clear(&m->address);
	return (struct reading){ .m = m };
}

/* Let s reach to the end of a token that follows it. */
static void
extend(struct span *s, struct span token)
{
	if (s->len == 0)
		*s = token;
	else
		s->len = (size_t)(token.data - s->data) + token.len;
}

/* Parts of an address may have blanks between them (obs-local-part). */
static bool
joins(char c)
{
	return c == '.' || c == '@';
}

/* Is the token an address behind an address, a comma missing between them? */
static bool
is_another(const struct reading *r, struct span token)
{
	struct span address = buf_span(&r->m->address);

	return r->part == BEFORE && r->gap && !r->spaced && address.len > 0 &&
	    memchr(address.data, '@', address.len - 1) != NULL &&
	    is_atom(token.data[0]) &&
	    memchr(token.data + 1, '@', token.len - 1) != NULL;
}

static bool
take_word(struct reading *r, struct span word)
{
	struct buf *address = &r->m->address;
	size_t i;

	if (r->part == BEHIND)
		return false;
	if (r->part == BEFORE)
		extend(&r->m->name, word);
	extend(&r->m->text, word);
	if (r->gap && address->len > 0 && !joins(word.data[0]) &&
	    !joins(address->data[address->len - 1]))
		r->spaced = true;
	r->gap = false;
	for (i = 0; i < word.len; i++) {
		if (word.data[i] != '\r' && word.data[i] != '\n')
			buf_add_char(address, word.data[i]);
	}
	return true;
}

static bool
take_comment(struct reading *r, struct span comment)
{
	r->gap = true;
	r->m->comment = (struct span){ comment.data + 1, comment.len - 2 };
	/* Behind a name and address it is no part of either. */
	if (r->part != BEHIND || r->m->name.len == 0)
		extend(&r->m->text, comment);
	return true;
}

static bool
take_angle(struct reading *r, struct span angle)
{
	bool open = angle.data[0] == '<';

	if (r->part != (open ? BEFORE : INSIDE) || (!open && r->spaced))
		return false;
	extend(&r->m->text, angle);
	r->part = open ? INSIDE : BEHIND;
	r->spaced = false;
	if (open)
		buf_clear(&r->m->address);
	return true;
}

/* "<@a,@b:c@d>": the route is not used (RFC 5322, 4.4). */
static bool
in_route(const struct reading *r)
{
	const struct buf *address = &r->m->address;

	return r->part == INSIDE && address->len > 0 && address->data[0] == '@';
}

/* What was read is a group's name, or a route. */
static bool
take_colon(struct address_scan *scan, struct reading *r)
{
	if (in_route(r)) {
		buf_clear(&r->m->address);
		return true;
	}
	if (r->part != BEFORE || r->m->name.len == 0 || scan->in_group)
		return false;
	scan->in_group = true;
	*r = begin_mailbox(r->m);
	return true;
}

static bool
take_token(struct address_scan *scan, struct reading *r, struct span token)
{
	switch (token.data[0]) {
	case '(':
		return take_comment(r, token);
	case '<':
	case '>':
		return take_angle(r, token);
	case ':':
		return take_colon(scan, r);
	case ',':
		return in_route(r);
	case ';':
	case '\0':
		return false;
	default:
		break;
	}
	if (!is_blank(token.data[0]))
		return take_word(r, token);
	r->gap = true;
	return true;
}

/* Is what has been read up to a separator a mailbox, or nothing at all? */
static bool
end_mailbox(struct reading *r)
{
	struct span address = buf_span(&r->m->address);

	if (r->part != BEFORE)
		return r->part == BEHIND;
	/* The words were not a name, nor does an encoded word hide one. */
	r->m->name.len = 0;
	return !r->spaced && !span_starts_nocase(address, SPAN("=?"));
}

static bool
read_mailbox(struct address_scan *scan, struct reading *r)
{
	while (scan->at < scan->list.len) {
		size_t end = token_end(scan->list, scan->at);
		struct span token =
		    span_from(span_first(scan->list, end), scan->at);
		char c = scan->list.data[scan->at];

		if (end == 0)
			return false;
		if (scan->lenient && is_another(r, token))
			break;
		scan->at = end;
		if (c == ',' && r->part != INSIDE)
			break;
		if (c == ';' && r->part != INSIDE && scan->in_group) {
			scan->in_group = false;
			break;
		}
		if (!take_token(scan, r, token))
			return false;
	}
	return end_mailbox(r);
}

bool
address_next(struct address_scan *scan, struct mailbox *m)
{
	while (scan->at < scan->list.len && !scan->bad) {
		struct reading r = begin_mailbox(m);

		scan->bad = !read_mailbox(scan, &r);
		if (!scan->bad && (r.part == BEHIND || m->address.len > 0))
			return true;
	}
	if (scan->in_group)
		scan->bad = true;
	return false;
}

bool
address_list(struct span list, struct strings *out)
{
	struct address_scan scan = { .list = list, .lenient = true };
	struct mailbox m = { .address = { NULL, 0, 0 } };
	bool valid = true;

	while (valid && address_next(&scan, &m)) {
		valid = smtp_address_valid(buf_span(&m.address),
		    ADDRESS_BARE | ADDRESS_UTF8);
		if (valid)
			strings_add(out, buf_span(&m.address));
	}
	buf_free(&m.address);
	return valid && !scan.bad;
}

const char *
header_recipients(struct span header, struct strings *out)
{
	static const char *const names[2][3] = {
		{ "To", "Cc", "Bcc" },
		{ "Resent-To", "Resent-Cc", "Resent-Bcc" },
	};
	struct header_field field;
	size_t i, resent = 0;

	for (i = 0; i < 3; i++) {
		if (header_has(header, span_of(names[1][i])))
			resent = 1;
	}
	while (header_next(&header, &field)) {
		for (i = 0; i < 3; i++) {
			const char *name = names[resent][i];

			if (span_equal_nocase(field.name, span_of(name)) &&
			    !address_list(field.value, out))
				return name;
		}
	}
	return NULL;
}
