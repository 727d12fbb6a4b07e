/*
 * Content transfer encodings (encode.c): what is encoded can be decoded, by a
 * decoder that is written here from RFC 2045.
 *
 * input: an octet that chooses the coding and the pieces, and text.
 */
#include "../../mime.h"

#include "fuzz.h"

#include <string.h>

/* ---- decoders ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Lines of quoted-printable; blanks at their end are not theirs. */
static void
decode_qp(struct span in, struct buf *out)
{
	struct span line;
	bool more = true;
	size_t i;

	while (more) {
		more = span_cut(in, '\n', &line, &in);
		while (line.len > 0 && is_blank(line.data[line.len - 1]))
			line.len--;
		for (i = 0; i < line.len; i++) {
			if (line.data[i] != '=' || line.len - i < 3 ||
			    hex_value(line.data[i + 1]) > 15 ||
			    hex_value(line.data[i + 2]) > 15) {
				if (line.data[i] != '=' || i + 1 < line.len)
					buf_add_char(out, line.data[i]);
				continue;
			}
			buf_add_char(out,
			    (char)(hex_value(line.data[i + 1]) << 4 |
				hex_value(line.data[i + 2])));
			i += 2;
		}
		if (more && (line.len == 0 || line.data[line.len - 1] != '='))
			buf_add_text(out, "\r\n");
	}
}

static unsigned
digit_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c == '\0' ? NULL : strchr(digits, c);

	return at == NULL ? 64 : (unsigned)(at - digits);
}

/* What is no digit is skipped. */
static void
decode_base64(struct span in, struct buf *out)
{
	uint32_t bits = 0;
	unsigned count = 0;
	size_t i;

	for (i = 0; i < in.len; i++) {
		if (digit_of(in.data[i]) == 64)
			continue;
		bits = bits << 6 | digit_of(in.data[i]);
		count += 6;
		if (count >= 8) {
			count -= 8;
			buf_add_char(out, (char)(bits >> count & 0xff));
		}
	}
}

/* ---- */

static void
run(enum coding coding, struct span in, size_t piece, struct buf *out)
{
	struct encoder e = { .coding = coding };

	for (; in.len > 0; in = span_from(in, piece))
		encode(&e, span_first(in, piece), out);
	encode_end(&e, true, out);
}

static void
check_lines(struct span text, size_t longest, bool ascii)
{
	struct span line;
	size_t i;

	for (i = 0; ascii && i < text.len; i++)
		assert((text.data[i] & 0x80) == 0);
	while (text.len > 0) {
		line = span_trim(take_line(&text));
		assert(line.len <= longest);
	}
}

/* More blanks in a row than a line of quoted-printable has are text. */
static bool
has_too_many_blanks(struct span s)
{
	size_t i, blanks = 0;

	for (i = 0; i < s.len && blanks <= 76; i++)
		blanks = s.data[i] == ' ' || s.data[i] == '\t' ? blanks + 1 : 0;
	return blanks > 76;
}

static void
check_decoded(enum coding coding, struct span in, struct span out)
{
	struct buf was = { 0 }, is = { 0 };

	if (coding == CODING_QP || coding == CODING_QP_AGAIN)
		decode_qp(out, &is);
	else
		decode_base64(out, &is);
	if (coding == CODING_QP_AGAIN)
		decode_qp(in, &was);
	else if (coding == CODING_BASE64_AGAIN)
		decode_base64(in, &was);
	else
		buf_add(&was, in);
	assert(span_equal(buf_span(&was), buf_span(&is)));
	buf_free(&was);
	buf_free(&is);
}

static void
try_utf8(struct span text, size_t piece)
{
	struct utf8_check u = { .left = 0 };
	struct span rest;

	for (rest = text; rest.len > 0; rest = span_from(rest, piece))
		utf8_check(&u, span_first(rest, piece));
	assert(utf8_check_end(&u) == span_is_utf8(text));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum coding codings[] = { CODING_QP, CODING_BASE64,
		CODING_QP_AGAIN, CODING_BASE64_AGAIN, CODING_PROSE,
		CODING_PROSE_7BIT };
	struct span in = fuzz_input(data, size);
	unsigned bits = take_octet(&in);
	enum coding coding = codings[bits % 6];
	size_t piece = 1 + bits / 6;
	struct buf text = { 0 }, out = { 0 }, pieces = { 0 };
	bool prose = coding == CODING_PROSE || coding == CODING_PROSE_7BIT;

	try_utf8(in, piece);
	make_canonical(in, &text);
	run(coding, buf_span(&text), SIZE_MAX, &out);
	run(coding, buf_span(&text), piece, &pieces);
	assert(span_equal(buf_span(&out), buf_span(&pieces)));
	check_lines(buf_span(&out), prose ? 998 : 76,
	    coding == CODING_QP || coding == CODING_BASE64 ||
		coding == CODING_PROSE_7BIT);
	if (!prose &&
	    !(coding == CODING_QP_AGAIN &&
		has_too_many_blanks(buf_span(&text))))
		check_decoded(coding, buf_span(&text), buf_span(&out));
	if (coding == CODING_BASE64 && text.len > 0)
		assert(base64_length(text.len) + strlen("\r\n") == out.len);
	buf_free(&text);
	buf_free(&out);
	buf_free(&pieces);
	return 0;
}
