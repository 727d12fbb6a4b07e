/*
 * The forms of a message's text: what clients send, the canonical one that the
 * spool holds, and the dot-stuffed one (RFC 5321, 4.5.2 and 2.3.8).  There is
 * no other reader and no other writer of dots, so nothing can be smuggled
 * between two readings of the same octets.
 */
#include "relayd.h"

#include <string.h>

/*
 * Where the decoder stands.  Only a line that follows a true CRLF can end the
 * data: a single dot behind a bare CR or LF is content.  Of two, one was put
 * there by a client that stuffs dots and leaves LFs as they are (smtplib).
 */
enum {
	AT_START,  /* of a line behind CRLF, or of all */
	AT_DOT,    /* such a line began with a dot, not passed on yet */
	AT_DOT_CR, /* "." CR */
	AT_CR,     /* CR behind text, not passed on yet */
	IN_TEXT,
	AT_BARE,     /* the start of a line behind a bare CR or LF */
	AT_BARE_DOT, /* such a line began with a dot, not passed on yet */
	AT_END,      /* CRLF "." CRLF is complete */
};

static void
end_line(struct smtp_decoder *d, struct buf *out, bool bare)
{
	buf_append(out, "\r\n", 2);
	d->bare |= bare;
	d->state = bare ? AT_BARE : AT_START;
}

/* Where c is in s, from the octet at on; s.len: nowhere. */
static size_t
find(struct span s, size_t at, char c)
{
	const char *found = memchr(s.data + at, c, s.len - at);

	return found == NULL ? s.len : (size_t)(found - s.data);
}

/* From the start of a line: the end of those whole lines that can be passed on
 * as they are. */
static size_t
canonical_lines(struct span in, size_t at, bool dots)
{
	size_t lf;

	while (at < in.len && !(dots && in.data[at] == '.')) {
		lf = find(in, at, '\n');
		if (lf == in.len ||
		    find(span_first(in, lf), at, '\r') + 1 != lf)
			break;
		at = lf + 1;
	}
	return at;
}

/*
 * Pass text on up to and with its line end.  lf: where the next LF is known to
 * be unless it is behind us, so that no octet is looked at more than twice.
 */
static size_t
decode_text(struct smtp_decoder *d, struct span in, size_t at, size_t *lf,
    struct buf *out)
{
	size_t end;

	if (*lf < at || at == 0)
		*lf = find(in, at, '\n');
	end = find(span_first(in, *lf), at, '\r');
	buf_append(out, in.data + at, end - at);
	if (end == in.len) {
		d->state = IN_TEXT;
		return end;
	}
	if (in.data[end] == '\r')
		d->state = AT_CR;
	else
		end_line(d, out, true);
	return end + 1;
}

/* One octet behind a held back dot or CR; false: it is to be looked at again
 * in the new state. */
static bool
decode_held(struct smtp_decoder *d, char c, struct buf *out)
{
	if (d->state == AT_CR) {
		end_line(d, out, c != '\n');
		return c == '\n';
	}
	if (d->state == AT_BARE_DOT) {
		if (c != '.')
			buf_add_char(out, '.');
		d->state = IN_TEXT;
		return false;
	}
	if (d->state == AT_DOT_CR && c == '\n') {
		d->state = AT_END;
		return true;
	}
	if (d->state == AT_DOT && c == '\r') {
		d->state = AT_DOT_CR;
		return true;
	}
	if (d->state == AT_DOT && c != '\n') {
		d->state = IN_TEXT; /* the dot was stuffed */
		return false;
	}
	/* A dot alone on a line, but no CRLF ends it. */
	buf_add_char(out, '.');
	end_line(d, out, true);
	return c == '\n';
}

static size_t
decode(struct smtp_decoder *d, struct span in, struct buf *out, bool dots)
{
	size_t at = 0, lf = 0, end;

	while (at < in.len && d->state != AT_END) {
		switch (d->state) {
		case AT_START:
			end = canonical_lines(in, at, dots);
			buf_append(out, in.data + at, end - at);
			at = end;
			if (at == in.len)
				break;
			d->state =
			    dots && in.data[at] == '.' ? AT_DOT : IN_TEXT;
			at += d->state == AT_DOT;
			break;
		case AT_BARE:
			d->state =
			    dots && in.data[at] == '.' ? AT_BARE_DOT : IN_TEXT;
			at += d->state == AT_BARE_DOT;
			break;
		case IN_TEXT:
			at = decode_text(d, in, at, &lf, out);
			break;
		default:
			at += decode_held(d, in.data[at], out);
		}
	}
	return at;
}

size_t
smtp_decode_data(struct smtp_decoder *d, struct span in, struct buf *out,
    bool *end)
{
	size_t taken = decode(d, in, out, true);

	*end = d->state == AT_END;
	if (*end)
		d->state = AT_START;
	return taken;
}

void
smtp_decode_chunk(struct smtp_decoder *d, struct span in, struct buf *out)
{
	(void)decode(d, in, out, false);
}

void
smtp_decode_end(struct smtp_decoder *d, struct buf *out)
{
	if (d->state == IN_TEXT || d->state == AT_CR)
		end_line(d, out, d->state == AT_CR);
}

/* ---- what a text has ---- */

static bool
has_eight_bit(struct span s)
{
	uint64_t word[4], all = 0;
	size_t i;

	for (; s.len >= sizeof(word); s = span_from(s, sizeof(word))) {
		memcpy(word, s.data, sizeof(word));
		all |= word[0] | word[1] | word[2] | word[3];
	}
	for (i = 0; i < s.len; i++)
		all |= (unsigned char)s.data[i];
	return (all & UINT64_C(0x8080808080808080)) != 0;
}

/* Only the ends of the lines that stand farthest apart need be found: every
 * stretch of so many octets has one, or there is a long line. */
static bool
has_long_line(struct span s, size_t *line)
{
	enum { LINE_MAX_CRLF = 998 + 2 };
	size_t room = LINE_MAX_CRLF - *line;
	const char *lf;

	while (s.len >= room) {
		lf = memrchr(s.data, '\n', room);
		if (lf == NULL)
			return true;
		s = span_from(s, (size_t)(lf - s.data) + 1);
		room = LINE_MAX_CRLF;
		*line = 0;
	}
	lf = s.len == 0 ? NULL : memrchr(s.data, '\n', s.len);
	*line = lf == NULL ? *line + s.len : s.len - (size_t)(lf - s.data) - 1;
	return false;
}

void
text_note(struct text_facts *facts, struct span piece)
{
	if ((facts->has & TEXT_8BIT) == 0 && has_eight_bit(piece))
		facts->has |= TEXT_8BIT;
	if ((facts->has & TEXT_NUL) == 0 && piece.len > 0 &&
	    memchr(piece.data, '\0', piece.len) != NULL)
		facts->has |= TEXT_NUL;
	if ((facts->has & TEXT_LONG_LINE) == 0 &&
	    has_long_line(piece, &facts->line))
		facts->has |= TEXT_LONG_LINE;
}

void
smtp_encode_dots(bool *line_start, struct span in, struct buf *out)
{
	size_t dot, from = 0;

	if (in.len == 0)
		return;
	/* Dots are rarer than lines. */
	for (dot = find(in, 0, '.'); dot < in.len;
	     dot = find(in, dot + 1, '.')) {
		if (dot == 0 ? !*line_start : in.data[dot - 1] != '\n')
			continue;
		buf_append(out, in.data + from, dot - from);
		buf_add_char(out, '.');
		from = dot; /* the dot itself begins the next run */
	}
	buf_append(out, in.data + from, in.len - from);
	*line_start = in.data[in.len - 1] == '\n';
}
