/*
 * A header with UTF-8 (RFC 6532) for a relayhost that has no SMTPUTF8: what is
 * there for people to read becomes encoded words (RFC 2047).  Addresses can't
 * be changed; a field whose grammar has no place for encoded words is left.
 */
#include "header.h"
#include "mime.h"

#include <string.h>

enum {
	WORD_LIMIT = 75, /* RFC 2047, 2: an encoded word */
	LINE_WANTED = 76,
	CHARACTER_MAX = 4 * 3, /* octets of one in Q */
};

/* ---- lines ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t
skip_blanks(struct span s, size_t at)
{
	while (at < s.len && is_blank(s.data[at]))
		at++;
	return at;
}

/* Octets on the last line. */
static size_t
column(const struct buf *out)
{
	const char *lf =
	    out->len == 0 ? NULL : memrchr(out->data, '\n', out->len);

	return lf == NULL ? out->len : out->len - (size_t)(lf - out->data) - 1;
}

/* Continue on a new line, in the place of blanks. */
static void
fold(struct buf *out)
{
	while (out->len > 0 && is_blank(out->data[out->len - 1]))
		out->len--;
	buf_add_text(out, "\r\n ");
}

/* Add text as it is, on a new line if it starts with a blank and would make
 * this one too long. */
static void
add_text(struct buf *out, struct span text)
{
	struct span line, rest;

	if (text.len == 0)
		return;
	(void)span_cut(text, '\r', &line, &rest);
	if (line.len > 0 && is_blank(line.data[0]) &&
	    column(out) + line.len > LINE_WANTED)
		buf_add_text(out, "\r\n");
	buf_add(out, text);
}

/* ---- encoded words ---- */

/* What may stand for itself in Q wherever an encoded word may be (5). */
static bool
is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || (c != '\0' && strchr("!*+-/", c) != NULL);
}

static size_t
q_length(struct span text)
{
	size_t i, length = 0;

	for (i = 0; i < text.len; i++)
		length += is_plain(text.data[i]) || text.data[i] == ' ' ? 1 : 3;
	return length;
}

static void
add_q(struct buf *out, struct span text)
{
	size_t i;

	for (i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (c == ' ')
			buf_add_char(out, '_');
		else if (is_plain(c))
			buf_add_char(out, c);
		else
			buf_printf(out, "=%02X", (unsigned char)c);
	}
}

/* How an encoded word is written. */
struct word_style {
	const char *charset;
	bool q; /* else B */
};

static struct word_style
choose_style(struct span text)
{
	struct utf8_check u = { 0 };

	utf8_check(&u, text);
	return (struct word_style){
		.charset = utf8_check_end(&u) ? "utf-8" : "unknown-8bit",
		.q = q_length(text) <= base64_length(text.len),
	};
}

/* The length of the first character, of all if it is not to be split. */
static size_t
character(struct span text)
{
	size_t len = 1;

	while (len < text.len && len < 4 && (text.data[len] & 0xc0) == 0x80)
		len++;
	return len;
}

/* As many whole characters of text as go into a word of so many octets. */
static size_t
word_fill(const struct word_style *style, struct span text, size_t room)
{
	size_t len = 0, used = 0;

	while (len < text.len) {
		size_t more = character(span_from(text, len));
		struct span c = span_first(span_from(text, len), more);

		used = style->q ? used + q_length(c) : (len + more + 2) / 3 * 4;
		if (used > room)
			break;
		len += more;
	}
	return len;
}

static void
add_words(struct buf *out, struct span text)
{
	struct word_style style = choose_style(text);
	size_t frame = strlen(style.charset) +
	    strlen("=?"
		   "?Q?"
		   "?="),
	       room, len;

	while (text.len > 0) {
		if (column(out) + frame + CHARACTER_MAX > LINE_WANTED)
			fold(out);
		room = LINE_WANTED - column(out);
		if (room > WORD_LIMIT)
			room = WORD_LIMIT;
		len = word_fill(&style, text, room - frame);
		buf_printf(out, "=?%s?%c?", style.charset, style.q ? 'Q' : 'B');
		if (style.q)
			add_q(out, span_first(text, len));
		else
			base64_add(out, span_first(text, len));
		buf_add_text(out, "?=");
		text = span_from(text, len);
		if (text.len > 0)
			fold(out);
	}
}

/* ---- free text ---- */

static bool
ends_word(struct span s)
{
	s = span_trim(s);
	return s.len > 2 && span_equal(span_from(s, s.len - 2), SPAN("?="));
}

/* Words from the first to the last that is not ASCII are encoded.  Blanks
 * between encoded words are not shown, so one there goes into the text. */
static void
add_free_text(struct buf *out, struct span value)
{
	size_t from = 0, to = value.len;
	struct buf text = { NULL, 0, 0 };
	struct span before, after;

	while ((value.data[from] & 0x80) == 0)
		from++;
	while (from > 0 && !is_blank(value.data[from - 1]))
		from--;
	while ((value.data[to - 1] & 0x80) == 0)
		to--;
	while (to < value.len && !is_blank(value.data[to]))
		to++;
	before = span_first(value, from);
	after = span_from(value, to);
	if (ends_word(before))
		buf_add_char(&text, ' ');
	for (; from < to; from++) {
		if (value.data[from] != '\r' && value.data[from] != '\n')
			buf_add_char(&text, value.data[from]);
	}
	if (span_starts_nocase(span_trim(after), SPAN("=?")))
		buf_add_char(&text, ' ');
	if (before.len == 0)
		before = SPAN(" ");
	buf_add(out, before);
	add_words(out, buf_span(&text));
	add_text(out, after);
	buf_free(&text);
}

/* ---- address lists ---- */

/* The end of a quoted string, a comment, an address in brackets. */
static size_t
enclosed_end(struct span s, size_t at)
{
	char open = s.data[at];
	char close = '"';
	size_t depth = 1;

	if (open == '(')
		close = ')';
	else if (open == '<')
		close = '>';
	while (++at < s.len) {
		if (s.data[at] == '\\')
			at++;
		else if (s.data[at] == close && --depth == 0)
			return at + 1;
		else if (s.data[at] == open && open == '(')
			depth++;
	}
	return s.len;
}

static bool
is_special(char c)
{
	return c != '\0' && strchr("(<>,;:", c) != NULL;
}

/* The end of the words of a display name, and what they say. */
static size_t
read_phrase(struct span s, size_t at, struct buf *text)
{
	size_t end, next = at;

	for (;;) {
		size_t from = next;

		if (s.data[from] == '"') {
			end = enclosed_end(s, from);
			header_add_unquoted(text,
			    span_from(span_first(s, end - 1), from + 1));
		} else {
			for (end = from;
			     end < s.len && !is_blank(s.data[end]) &&
			     s.data[end] != '"' && !is_special(s.data[end]);
			     end++)
				;
			buf_add(text, span_from(span_first(s, end), from));
		}
		next = skip_blanks(s, end);
		if (next == s.len || is_special(s.data[next]))
			return end;
		header_add_unquoted(text, span_from(span_first(s, next), end));
	}
}

/* Words stand apart from what is before them. */
static void
separate(struct buf *out, char c)
{
	if (c != ' ' || out->len == 0 || !is_blank(out->data[out->len - 1]))
		buf_add_char(out, c);
}

/* Add the token at `at`, encoded if need be; returns its end. */
static size_t
add_token(struct buf *out, struct span s, size_t at)
{
	struct buf text = { NULL, 0, 0 };
	struct span token;
	size_t end = at + 1;
	bool comment = s.data[at] == '(';

	if (is_blank(s.data[at])) { /* with what may go on a line with it */
		end = skip_blanks(s, at);
		buf_add(out, span_from(span_first(s, end), at));
		return end;
	}
	if (comment) {
		end = enclosed_end(s, at);
		header_add_unquoted(&text,
		    span_from(span_first(s, end - 1), at + 1));
	} else if (s.data[at] == '<') {
		end = enclosed_end(s, at);
	} else if (!is_special(s.data[at])) {
		end = read_phrase(s, at, &text);
	}
	token = span_from(span_first(s, end), at);
	if (span_is_ascii(token) || text.len == 0) {
		if (column(out) + token.len > LINE_WANTED && out->len > 0 &&
		    is_blank(out->data[out->len - 1]) &&
		    memchr(token.data, '\r', token.len) == NULL)
			fold(out);
		buf_add(out, token);
	} else {
		separate(out, comment ? '(' : ' ');
		add_words(out, buf_span(&text));
		if (comment)
			buf_add_char(out, ')');
		else if (end < s.len && !is_blank(s.data[end]))
			buf_add_char(out, ' ');
	}
	buf_free(&text);
	return end;
}

/* False: it can't be read, or an address in it has other than ASCII. */
static bool
addresses_are_ascii(struct span value)
{
	struct address_scan scan = { .list = value, .lenient = true };
	struct mailbox m = { .address = { NULL, 0, 0 } };
	bool ascii = true;

	while (ascii && address_next(&scan, &m))
		ascii = span_is_ascii(buf_span(&m.address));
	buf_free(&m.address);
	return ascii && !scan.bad;
}

static bool
add_addresses(struct buf *out, struct span value)
{
	size_t at = 0, begin = out->len, end = value.len;

	if (!addresses_are_ascii(value))
		return false;
	/* A quoted string without an end does not take that of the line. */
	while (end > 0 && is_blank(value.data[end - 1]))
		end--;
	while (at < end)
		at = add_token(out, span_first(value, end), at);
	buf_add(out, span_from(value, end));
	return span_is_ascii(span_from(buf_span(out), begin));
}

/* ---- fields ---- */

static bool
is_one_of(struct span name, const char *const *names, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (span_equal_nocase(name, span_of(names[i])))
			return true;
	}
	return false;
}

static bool
has_addresses(struct span name)
{
	static const char *const names[] = { "From", "Sender", "Reply-To", "To",
		"Cc", "Bcc" };
	struct span resent = SPAN("Resent-");

	if (span_starts_nocase(name, resent))
		name = span_from(name, resent.len);
	return is_one_of(name, names, sizeof(names) / sizeof(names[0]));
}

static bool
has_no_words(struct span name)
{
	static const char *const names[] = { "Received", "Return-Path", "Date",
		"Message-ID", "In-Reply-To", "References", "Resent-Date",
		"Resent-Message-ID", "MIME-Version", "DKIM-Signature" };

	return is_one_of(name, names, sizeof(names) / sizeof(names[0])) ||
	    span_starts_nocase(name, SPAN("Content-")) ||
	    span_starts_nocase(name, SPAN("List-")) ||
	    span_starts_nocase(name, SPAN("ARC-"));
}

bool
header_downgrade(struct span header, struct buf *out)
{
	struct header_field field;

	while (header_next(&header, &field)) {
		size_t before = field.text.len - field.value.len;

		if (span_is_ascii(field.value) || field.name.len == 0 ||
		    has_no_words(field.name)) {
			buf_add(out, field.text);
			continue;
		}
		buf_add(out, span_first(field.text, before));
		if (!has_addresses(field.name))
			add_free_text(out, field.value);
		else if (!add_addresses(out, field.value))
			return false;
	}
	return true;
}
