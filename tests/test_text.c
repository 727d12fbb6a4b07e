/* text.c: no text is two messages; numbers are those of the catalogue of bad
 * input. */
#include "relayd.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void
assert_span(struct span got, struct span want)
{
	if (!span_equal(got, want))
		fail_msg("'%.*s' is not '%.*s'", (int)got.len, got.data,
		    (int)want.len, want.data);
}

/* Decode all of in, given in two pieces; returns the octets taken. */
static size_t
decode_split(struct span in, size_t split, struct buf *out,
    struct smtp_decoder *d, bool *end)
{
	size_t taken;

	buf_clear(out);
	*d = (struct smtp_decoder){ 0 };
	taken = smtp_decode_data(d, span_first(in, split), out, end);
	if (!*end)
		taken += smtp_decode_data(d, span_from(in, split), out, end);
	return taken;
}

static void
data_ends_at_crlf_dot_crlf_only(void **state)
{
	static const struct {
		const char *in, *out;
		bool bare;
		size_t left; /* octets behind the end of data */
	} rows[] = {
		{ "a\r\n.\r\n", "a\r\n", false, 0 }, /* B1 */
		{ ".\r\n", "", false, 0 },           /* B2 */
		{ "a\r\n.\r\nQUIT\r\n", "a\r\n", false, 6 },
		{ "a\n.\nM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 },   /* B3 */
		{ "a\n.\r\nM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 }, /* B4 */
		{ "a\r\n.\nM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 }, /* B5 */
		{ "a\r.\rM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 },   /* B6 */
		{ "a\r\n.\rM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 }, /* B7 */
		{ "a\r.\r\nM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 }, /* B8 */
		{ "a\n.\rM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 },   /* B9 */
		{ "a\r.\nM\r\n.\r\n", "a\r\n.\r\nM\r\n", true, 0 },   /* B10 */
		{ "a\r\n.\r\r\nM\r\n.\r\n", "a\r\n.\r\n\r\nM\r\n", true, 0 },
		{ "a\r\r\n.\r\nM", "a\r\n\r\n", true, 1 }, /* B14 */
		{ "a\r\n. \r\nM\r\n.\r\n", "a\r\n \r\nM\r\n", false, 0 },
		{ "a\x85.\x85M\r\n.\r\n", "a\x85.\x85M\r\n", false,
		    0 }, /* B16 */
		{ "a\x0b.\x0bM\r\n.\r\n", "a\x0b.\x0bM\r\n", false, 0 },
		{ "..\r\n...\r\n.a\r\n.\r\n", ".\r\n..\r\na\r\n", false, 0 },
		{ "10%\r20%\r\n.\r\n", "10%\r\n20%\r\n", true, 0 }, /* D4 */
		{ "\r\n.\r\n", "\r\n", false, 0 },
		/* stuffed by a client that leaves LFs as they are */
		{ "a\n..\n..b\r...\n.c\r\n.\r\n",
		    "a\r\n.\r\n.b\r\n..\r\n.c\r\n", true, 0 },
	};
	struct smtp_decoder d;
	struct buf out = { 0 };
	struct span in;
	size_t i, split;
	bool end;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		in = span_of(rows[i].in);
		for (split = 0; split <= in.len; split++) { /* A7, B19 */
			assert_int_equal(
			    decode_split(in, split, &out, &d, &end),
			    in.len - rows[i].left);
			assert_true(end);
			assert_int_equal(d.bare, rows[i].bare);
			assert_span(buf_span(&out), span_of(rows[i].out));
		}
	}
	buf_free(&out);
}

static void
nul_beside_a_dot_is_content(void **state) /* B11, B12, B22 */
{
	struct smtp_decoder d;
	struct buf out = { 0 };
	bool end;

	(void)state;
	(void)decode_split(SPAN("a\r\n\0.\r\nM\r\n.\r\n"), 3, &out, &d, &end);
	assert_true(end);
	assert_span(buf_span(&out), SPAN("a\r\n\0.\r\nM\r\n"));
	(void)decode_split(SPAN("a\r\n.\0\r\nM\r\n.\r\n"), 4, &out, &d, &end);
	assert_true(end);
	assert_span(buf_span(&out), SPAN("a\r\n\0\r\nM\r\n"));
	buf_free(&out);
}

static bool
contains(struct span s, const char *text, size_t len)
{
	return memmem(s.data, s.len, text, len) != NULL;
}

/* Is every CR before an LF and every LF behind a CR? */
static bool
is_canonical(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		if (s.data[i] == '\r' &&
		    !(i + 1 < s.len && s.data[i + 1] == '\n'))
			return false;
		if (s.data[i] == '\n' && !(i > 0 && s.data[i - 1] == '\r'))
			return false;
	}
	return true;
}

/* The number-th string over {CR, LF, '.', 'x'} of this length. */
static struct span
nth_string(unsigned number, size_t len, char out[8])
{
	size_t i;

	for (i = 0; i < len; i++, number /= 4)
		out[i] = "\r\n.x"[number % 4];
	return (struct span){ out, len };
}

/* What any decoded text must be, and what it is on the wire. */
static void
check_wire(struct span text, struct buf *wire)
{
	struct smtp_decoder d = { 0 };
	struct buf back = { 0 };
	bool line_start = true, end;

	assert_true(is_canonical(text));
	buf_clear(wire);
	smtp_encode_dots(&line_start, text, wire);
	assert_true(is_canonical(buf_span(wire)));
	assert_false(contains(buf_span(wire), "\r\n.\r\n", 5));
	assert_false(span_starts_nocase(buf_span(wire), SPAN(".\r\n")));
	(void)smtp_decode_data(&d, buf_span(wire), &back, &end);
	assert_false(end);
	smtp_decode_end(&d, &back);
	assert_span(buf_span(&back), text);
	buf_free(&back);
}

static void
no_short_string_smuggles_a_message(void **state) /* B18 */
{
	struct buf whole = { 0 }, out = { 0 }, wire = { 0 };
	struct smtp_decoder d, d_split;
	bool end, end_split;
	size_t len, split, taken, at;
	unsigned n;
	char text[8];

	(void)state;
	for (len = 1; len <= sizeof(text); len++)
		for (n = 0; n < 1u << (2 * len); n++) {
			struct span in = nth_string(n, len, text);

			taken = decode_split(in, len, &whole, &d, &end);
			for (split = 0; split < len; split++) {
				at = decode_split(in, split, &out, &d_split,
				    &end_split);
				assert_int_equal(at, taken);
				assert_int_equal(end_split, end);
				assert_int_equal(d_split.bare, d.bare);
				assert_span(buf_span(&out), buf_span(&whole));
			}
			/* Only these five octets, or three at first, end it. */
			assert_int_equal(end,
			    contains(in, "\r\n.\r\n", 5) ||
				(len >= 3 && memcmp(text, ".\r\n", 3) == 0));
			smtp_decode_end(&d, &whole);
			check_wire(buf_span(&whole), &wire);
		}
	buf_free(&whole);
	buf_free(&out);
	buf_free(&wire);
}

static void
chunks_are_decoded_the_same_wherever_they_are_cut(void **state) /* B38 */
{
	struct buf whole = { 0 }, out = { 0 }, wire = { 0 };
	size_t len, split;
	unsigned n;
	char text[8];

	(void)state;
	for (len = 1; len <= 6; len++)
		for (n = 0; n < 1u << (2 * len); n++) {
			struct span in = nth_string(n, len, text);
			struct smtp_decoder all = { 0 };

			buf_clear(&whole);
			smtp_decode_chunk(&all, in, &whole);
			smtp_decode_end(&all, &whole);
			check_wire(buf_span(&whole), &wire);
			for (split = 0; split < len; split++) {
				struct smtp_decoder d = { 0 };

				buf_clear(&out);
				smtp_decode_chunk(&d, span_first(in, split),
				    &out);
				smtp_decode_chunk(&d, span_from(in, split),
				    &out);
				smtp_decode_end(&d, &out);
				assert_int_equal(d.bare, all.bare);
				assert_span(buf_span(&out), buf_span(&whole));
			}
		}
	buf_free(&whole);
	buf_free(&out);
	buf_free(&wire);
}

static void
chunk_gets_line_ends_and_keeps_dots(void **state) /* B32, B39, B40 */
{
	static const struct {
		const char *in, *out;
		bool bare;
	} rows[] = {
		{ "hello", "hello\r\n", false },
		{ "a\nb\n", "a\r\nb\r\n", true },
		{ ".", ".\r\n", false },
		{ "..\r\n.\r\n", "..\r\n.\r\n", false },
		{ "a\r", "a\r\n", true },
		{ "", "", false },
	};
	struct buf out = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		struct smtp_decoder d = { 0 };

		buf_clear(&out);
		smtp_decode_chunk(&d, span_of(rows[i].in), &out);
		smtp_decode_end(&d, &out);
		assert_span(buf_span(&out), span_of(rows[i].out));
		assert_int_equal(d.bare, rows[i].bare);
	}
	buf_free(&out);
}

static void
dots_are_stuffed_wherever_the_text_is_cut(void **state) /* B20, B40 */
{
	struct span in = SPAN(".\r\n..a.\r\nb.\r\n\r\n.c\r\n");
	struct buf out = { 0 };
	bool line_start;
	size_t split;

	(void)state;
	for (split = 0; split <= in.len; split++) {
		line_start = true;
		buf_clear(&out);
		smtp_encode_dots(&line_start, span_first(in, split), &out);
		smtp_encode_dots(&line_start, span_from(in, split), &out);
		assert_true(line_start);
		assert_span(buf_span(&out),
		    SPAN("..\r\n...a.\r\nb.\r\n\r\n..c\r\n"));
	}
	buf_free(&out);
}

/* B21, B22, B23 */
static void
facts_are_the_same_wherever_the_text_is_cut(void **state)
{
	static const struct {
		size_t line; /* octets of an 'x' line in the middle */
		const char *tail;
		unsigned has;
	} rows[] = {
		{ 0, "", 0 },
		{ 998, "", 0 },
		{ 999, "", TEXT_LONG_LINE },
		{ 1000, "", TEXT_LONG_LINE },
		{ 65536, "\xe4\r\n", TEXT_LONG_LINE | TEXT_8BIT },
		{ 998, "0123456789abcdef0123456789abcdef\x80\r\n", TEXT_8BIT },
		{ 3, "\xff", TEXT_8BIT },
	};
	struct buf text = { 0 };
	size_t i, split;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		buf_clear(&text);
		buf_printf(&text, "a\r\n\r\n");
		buf_reserve(&text, rows[i].line);
		memset(text.data + text.len, 'x', rows[i].line);
		text.len += rows[i].line;
		buf_printf(&text, "\r\n%s", rows[i].tail);
		for (split = 0; split <= text.len; split += 1 + split / 2000) {
			struct text_facts facts = { 0 };

			text_note(&facts, span_first(buf_span(&text), split));
			text_note(&facts, span_from(buf_span(&text), split));
			assert_int_equal(facts.has, rows[i].has);
		}
	}
	buf_free(&text);
}

static void
nul_is_noted(void **state) /* B22 */
{
	struct text_facts facts = { 0 };

	(void)state;
	text_note(&facts, SPAN("a\0\r\n"));
	assert_int_equal(facts.has, TEXT_NUL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_ends_at_crlf_dot_crlf_only),
		cmocka_unit_test(nul_beside_a_dot_is_content),
		cmocka_unit_test(no_short_string_smuggles_a_message),
		cmocka_unit_test(
		    chunks_are_decoded_the_same_wherever_they_are_cut),
		cmocka_unit_test(chunk_gets_line_ends_and_keeps_dots),
		cmocka_unit_test(dots_are_stuffed_wherever_the_text_is_cut),
		cmocka_unit_test(facts_are_the_same_wherever_the_text_is_cut),
		cmocka_unit_test(nul_is_noted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
