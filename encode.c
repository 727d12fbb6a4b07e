/*
 * Content transfer encodings (RFC 2045, 6.7 and 6.8) of a stream of text: the
 * same octets go through whatever the pieces are.  Which part gets which is
 * for mime.c to say.
 */
#include "mime.h"

#include <string.h>

enum {
	LINE_ENCODED = 76, /* RFC 2045: at most, without CRLF */
	LINE_PROSE = 998,
	NO_MATCH = 5, /* of "From " */
};

/* ---- base64 ---- */

static void
add_group(struct buf *out, const unsigned char *in, size_t count)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = (unsigned)in[0] << 16 |
	    (count > 1 ? (unsigned)in[1] << 8 : 0) | (count > 2 ? in[2] : 0);
	char group[4] = { digits[bits >> 18], digits[bits >> 12 & 63],
		digits[bits >> 6 & 63], digits[bits & 63] };

	memset(group + count + 1, '=', 3 - count);
	buf_append(out, group, sizeof(group));
}

static void
begin_word(struct encoder *e, struct buf *out)
{
	if (e->column < LINE_ENCODED)
		return;
	buf_append(out, "\r\n", 2);
	e->column = 0;
}

static void
flush_group(struct encoder *e, struct buf *out)
{
	begin_word(e, out);
	add_group(out, e->held, e->held_count);
	e->held_count = 0;
	e->column += 4;
}

static void
encode_base64(struct encoder *e, struct span in, struct buf *out)
{
	size_t i;

	for (i = 0; i < in.len; i++) {
		e->held[e->held_count++] = (unsigned char)in.data[i];
		if (e->held_count == sizeof(e->held))
			flush_group(e, out);
	}
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_base64(char c)
{
	return is_letter(c) || is_digit(c) || c == '+' || c == '/' || c == '=';
}

/* Decoders skip what is none of theirs (RFC 2045, 6.8). */
static void
wrap_base64(struct encoder *e, struct span in, struct buf *out)
{
	size_t run;

	for (; in.len > 0; in = span_from(in, run == 0 ? 1 : run)) {
		if (is_base64(in.data[0]))
			begin_word(e, out);
		for (run = 0; run < in.len && run < LINE_ENCODED - e->column &&
		     is_base64(in.data[run]);
		     run++)
			;
		buf_append(out, in.data, run);
		e->column += run;
	}
}

uint64_t
base64_length(uint64_t octets)
{
	uint64_t length = (octets + 2) / 3 * 4;

	return length == 0 ? 0 : length + (length - 1) / LINE_ENCODED * 2;
}

void
base64_add(struct buf *out, struct span in)
{
	unsigned char group[3];
	size_t count;

	for (; in.len > 0; in = span_from(in, count)) {
		count = span_first(in, sizeof(group)).len;
		memcpy(group, in.data, count);
		add_group(out, group, count);
	}
}

/* ---- quoted-printable ---- */

static bool
is_plain(char c)
{
	return c > ' ' && c <= '~' && c != '=';
}

/*
 * Add an octet as it is or coded.  What a soft break puts at the start of a
 * line could be taken for a dot, a mailbox separator or a boundary there.
 */
static void
put(struct encoder *e, char c, bool coded, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";
	unsigned char octet = (unsigned char)c;
	char escape[3] = { '=', digits[octet >> 4], digits[octet & 15] };

	if (e->column + (coded ? 3 : 1) >= LINE_ENCODED) {
		buf_append(out, "=\r\n", 3);
		e->column = 0;
		coded |= c == '.' || c == 'F' || c == '-';
	}
	if (coded)
		buf_append(out, escape, sizeof(escape));
	else
		buf_add_char(out, c);
	e->column += coded ? 3 : 1;
}

/* What was taken for the start of "From " is other text. */
static void
release_match(struct encoder *e, struct buf *out)
{
	unsigned i, count = e->match;

	e->match = NO_MATCH;
	for (i = 0; i < count && count < NO_MATCH; i++)
		put(e, "From"[i], false, out);
}

/* coded: the line ends behind it. */
static void
release_blank(struct encoder *e, bool coded, struct buf *out)
{
	if (e->blank != 0)
		put(e, e->blank, coded, out);
	e->blank = 0;
}

/* Is the octet one more of "From " at the start of a line? */
static bool
matches_from(struct encoder *e, char c, struct buf *out)
{
	if (e->match >= NO_MATCH)
		return false;
	if (c != "From "[e->match]) {
		release_match(e, out);
		return false;
	}
	if (++e->match == NO_MATCH) {
		put(e, 'F', true, out);
		put(e, 'r', false, out);
		put(e, 'o', false, out);
		put(e, 'm', false, out);
		e->blank = ' ';
	}
	return true;
}

static void
end_line(struct encoder *e, struct buf *out)
{
	release_match(e, out);
	release_blank(e, true, out);
	buf_append(out, "\r\n", 2);
	e->column = 0;
	e->match = 0;
}

static void
put_qp(struct encoder *e, char c, struct buf *out)
{
	if (e->cr) {
		e->cr = false;
		if (c == '\n') {
			end_line(e, out);
			return;
		}
		release_match(e, out);
		release_blank(e, false, out);
		put(e, '\r', true, out);
	}
	if (c == '\r')
		e->cr = true;
	if (c == '\r' || matches_from(e, c, out))
		return;
	release_blank(e, false, out);
	if (c == ' ' || c == '\t')
		e->blank = c;
	else
		put(e, c, !is_plain(c) || (c == '.' && e->column == 0), out);
}

/* How much of the text goes on the line as it is? */
static size_t
plain_run(const struct encoder *e, struct span in)
{
	size_t i, room = LINE_ENCODED - 1 - e->column;

	if (e->column == 0 || e->cr || e->blank != 0 || e->match < NO_MATCH)
		return 0;
	for (i = 0; i < in.len && i < room && is_plain(in.data[i]); i++)
		;
	return i;
}

static void
encode_qp(struct encoder *e, struct span in, struct buf *out)
{
	while (in.len > 0) {
		size_t run = plain_run(e, in);

		buf_append(out, in.data, run);
		e->column += run;
		in = span_from(in, run);
		if (in.len > 0)
			put_qp(e, in.data[0], out);
		in = span_from(in, 1);
	}
}

static void
end_qp(struct encoder *e, struct buf *out)
{
	release_match(e, out);
	release_blank(e, !e->cr, out);
	if (e->cr)
		put(e, '\r', true, out);
	e->cr = false;
}

/* ---- quoted-printable, decoded and encoded again ---- */

enum {
	NO_ESCAPE,
	AT_EQUALS,
	AT_BLANKS, /* behind "=" */
	AT_DIGIT,  /* "=X" */
	AT_BREAK,  /* "=" CR */
};

static void
release_blanks(struct encoder *e, struct buf *out)
{
	size_t i;

	for (i = 0; i < e->blank_count; i++)
		put_qp(e, e->blanks[i], out);
	e->blank_count = 0;
}

/* No line of quoted-printable has more: what comes then is text. */
static void
hold_blank(struct encoder *e, char c, struct buf *out)
{
	if (e->blank_count == sizeof(e->blanks))
		release_blanks(e, out);
	e->blanks[e->blank_count++] = c;
}

/* An octet that no escape takes. */
static void
decode_plain(struct encoder *e, char c, struct buf *out)
{
	if (c == ' ' || c == '\t') {
		hold_blank(e, c, out);
		return;
	}
	if (c == '\r') /* what stands before it was added on the way */
		e->blank_count = 0;
	release_blanks(e, out);
	if (c == '=')
		e->escape = AT_EQUALS;
	else
		put_qp(e, c, out);
}

/* The escape is none: it stands for itself, as RFC 2045, 6.7 wants it. */
static void
spoil_escape(struct encoder *e, struct buf *out)
{
	put_qp(e, '=', out);
	if (e->escape == AT_DIGIT)
		put_qp(e, e->digit, out);
	e->escape = NO_ESCAPE;
}

/* False: the octet is not the escape's. */
static bool
decode_escape(struct encoder *e, char c, struct buf *out)
{
	switch (e->escape) {
	case AT_EQUALS:
	case AT_BLANKS:
		if (c == '\r') {
			e->blank_count = 0;
			e->escape = AT_BREAK;
			return true;
		}
		if ((c == ' ' || c == '\t') &&
		    e->blank_count < sizeof(e->blanks)) {
			e->blanks[e->blank_count++] = c;
			e->escape = AT_BLANKS;
			return true;
		}
		if (e->escape == AT_BLANKS || hex_value(c) == 16)
			break;
		e->digit = c;
		e->escape = AT_DIGIT;
		return true;
	case AT_DIGIT:
		if (hex_value(c) == 16)
			break;
		put_qp(e, (char)(hex_value(e->digit) << 4 | hex_value(c)), out);
		e->escape = NO_ESCAPE;
		return true;
	case AT_BREAK:
		e->escape = NO_ESCAPE;
		return c == '\n';
	default:
		return false;
	}
	spoil_escape(e, out);
	release_blanks(e, out);
	return false;
}

static void
wrap_qp(struct encoder *e, struct span in, struct buf *out)
{
	size_t i;

	for (i = 0; i < in.len; i++) {
		if (!decode_escape(e, in.data[i], out))
			decode_plain(e, in.data[i], out);
	}
}

/* ---- what no reader shows ---- */

/* A continuation starts with a blank, so that it is no boundary. */
static void
encode_prose(struct encoder *e, struct span in, struct buf *out)
{
	size_t i;

	for (i = 0; i < in.len; i++) {
		char c = in.data[i];

		if (c != '\r' && c != '\n' && e->column == LINE_PROSE) {
			buf_append(out, "\r\n ", 3);
			e->column = 1;
		}
		if (e->coding == CODING_PROSE_7BIT && (c & 0x80) != 0)
			c = '?';
		buf_add_char(out, c);
		if (c == '\n')
			e->column = 0;
		else if (c != '\r')
			e->column++;
	}
}

/* ---- any of them ---- */

void
encode(struct encoder *e, struct span in, struct buf *out)
{
	switch (e->coding) {
	case CODING_QP:
		encode_qp(e, in, out);
		break;
	case CODING_BASE64:
		encode_base64(e, in, out);
		break;
	case CODING_QP_AGAIN:
		wrap_qp(e, in, out);
		break;
	case CODING_BASE64_AGAIN:
		wrap_base64(e, in, out);
		break;
	case CODING_PROSE:
	case CODING_PROSE_7BIT:
		encode_prose(e, in, out);
		break;
	case CODING_NONE:
	case CODING_TEXT:
		buf_add(out, in);
		break;
	}
}

void
encode_end(struct encoder *e, bool last, struct buf *out)
{
	bool soft = e->coding == CODING_QP || e->coding == CODING_QP_AGAIN;

	if (e->escape == AT_DIGIT)
		spoil_escape(e, out);
	if (soft)
		end_qp(e, out);
	if (e->coding == CODING_BASE64 && e->held_count > 0)
		flush_group(e, out);
	if (last && e->column > 0)
		buf_add_text(out, soft ? "=\r\n" : "\r\n");
}

/* ---- UTF-8 (RFC 3629, 4) ---- */

static void
begin_character(struct utf8_check *u, unsigned char c)
{
	u->low = 0x80;
	u->high = 0xbf;
	if (c < 0x80) {
		u->left = 0;
	} else if (c >= 0xc2 && c <= 0xdf) {
		u->left = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		u->left = 2;
		u->low = c == 0xe0 ? 0xa0 : 0x80;
		u->high = c == 0xed ? 0x9f : 0xbf;
	} else if (c >= 0xf0 && c <= 0xf4) {
		u->left = 3;
		u->low = c == 0xf0 ? 0x90 : 0x80;
		u->high = c == 0xf4 ? 0x8f : 0xbf;
	} else {
		u->bad = true;
	}
}

void
utf8_check(struct utf8_check *u, struct span piece)
{
	size_t i;

	for (i = 0; i < piece.len && !u->bad; i++) {
		unsigned char c = (unsigned char)piece.data[i];

		if (u->left == 0) {
			begin_character(u, c);
			continue;
		}
		u->bad = c < u->low || c > u->high;
		u->left--;
		u->low = 0x80;
		u->high = 0xbf;
	}
}

bool
utf8_check_end(const struct utf8_check *u)
{
	return !u->bad && u->left == 0;
}
