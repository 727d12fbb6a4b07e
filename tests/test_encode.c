/*
 * encode.c: what each coding makes of a text, wherever it is cut.
 */
#include "mime.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define TEXT(literal)                          \
	{                                      \
		(literal), sizeof(literal) - 1 \
	}
#define X10 "xxxxxxxxxx"
#define X70 X10 X10 X10 X10 X10 X10 X10

struct row {
	enum coding coding;
	struct span in, out;
	bool last;
};

static void
assert_span(struct span got, struct span wanted)
{
	assert_int_equal(got.len, wanted.len);
	assert_memory_equal(got.data, wanted.data, wanted.len);
}

/* Wherever the text is cut, the result is the same. */
static void
run(const struct row *rows, size_t count)
{
	struct buf out = { 0 };
	size_t i, cut;

	for (i = 0; i < count; i++) {
		for (cut = 0; cut <= rows[i].in.len; cut++) {
			struct encoder e = { .coding = rows[i].coding };

			buf_clear(&out);
			encode(&e, span_first(rows[i].in, cut), &out);
			encode(&e, span_from(rows[i].in, cut), &out);
			encode_end(&e, rows[i].last, &out);
			assert_span(buf_span(&out), rows[i].out);
		}
	}
	buf_free(&out);
}

static void
quoted_printable_keeps_lines_and_codes_the_rest(void **state)
{
	static const struct row rows[] = {
		{ CODING_QP, TEXT(""), TEXT(""), true },
		{ CODING_QP, TEXT("a=b\r\n"), TEXT("a=3Db\r\n"), true },
		{ CODING_QP, TEXT("\xc3\xa4\x80\x7f\x01\r\n"),
		    TEXT("=C3=A4=80=7F=01\r\n"), true },
		{ CODING_QP, TEXT("a\0b\r\n\0"), TEXT("a=00b\r\n=00"), 0 },
		/* blanks at the end of a line, and of all */
		{ CODING_QP, TEXT("a \t\r\n \r\n b\t"),
		    TEXT("a =09\r\n=20\r\n b=09"), false },
		/* what starts a line */
		{ CODING_QP, TEXT(".\r\n..\r\na.\r\n-- \r\n"),
		    TEXT("=2E\r\n=2E.\r\na.\r\n--=20\r\n"), true },
		{ CODING_QP,
		    TEXT("From a\r\nFrom\r\nFro\r\n From \r\nFrom \r\nF"),
		    TEXT("=46rom a\r\nFrom\r\nFro\r\n From=20\r\n"
			 "=46rom=20\r\nF"),
		    false },
		/* bare CR and LF */
		{ CODING_QP, TEXT("a\rb\nc \r"), TEXT("a=0Db=0Ac =0D"), false },
	};

	(void)state;
	run(rows, COUNT(rows));
}

static void
quoted_printable_lines_have_76_octets_at_most(void **state)
{
	static const struct row rows[] = {
		{ CODING_QP, TEXT(X70 "12345\r\n"), TEXT(X70 "12345\r\n"), 0 },
		{ CODING_QP, TEXT(X70 "1234567\r\n"),
		    TEXT(X70 "12345=\r\n67\r\n"), true },
		{ CODING_QP, TEXT(X70 "123\xff\r\n"),
		    TEXT(X70 "123=\r\n=FF\r\n"), true },
		{ CODING_QP, TEXT(X70 "1234 \r\n"),
		    TEXT(X70 "1234=\r\n=20\r\n"), true },
		{ CODING_QP, TEXT(X70 "1234 a\r\n"),
		    TEXT(X70 "1234 =\r\na\r\n"), true },
		/* a soft break makes no dot, mailbox line nor boundary */
		{ CODING_QP, TEXT(X70 "12345.\r\n"),
		    TEXT(X70 "12345=\r\n=2E\r\n"), true },
		{ CODING_QP, TEXT(X70 "12345--b\r\n"),
		    TEXT(X70 "12345=\r\n=2D-b\r\n"), true },
		{ CODING_QP, TEXT(X70 "12345From b\r\n"),
		    TEXT(X70 "12345=\r\n=46rom b\r\n"), true },
	};

	(void)state;
	run(rows, COUNT(rows));
}

static void
base64_is_cut_into_lines(void **state)
{
	static const struct row rows[] = {
		{ CODING_BASE64, TEXT(""), TEXT(""), true },
		{ CODING_BASE64, TEXT("f"), TEXT("Zg=="), false },
		{ CODING_BASE64, TEXT("fo"), TEXT("Zm8=\r\n"), true },
		{ CODING_BASE64, TEXT("foo\0\xff"), TEXT("Zm9vAP8="), false },
		{ CODING_BASE64,
		    TEXT("012345678901234567890123456789012345678901234567"
			 "890123456"),
		    TEXT("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4"
			 "OTAxMjM0NTY3ODkwMTIzNDU2"),
		    false },
		{ CODING_BASE64,
		    TEXT("012345678901234567890123456789012345678901234567"
			 "8901234567"),
		    TEXT("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4"
			 "OTAxMjM0NTY3ODkwMTIzNDU2\r\nNw==\r\n"),
		    true },
	};
	struct buf out = { 0 };
	size_t i;

	(void)state;
	run(rows, COUNT(rows));
	for (i = 0; i < COUNT(rows); i++)
		assert_int_equal(rows[i].out.len,
		    base64_length(rows[i].in.len) +
			(rows[i].last && rows[i].in.len > 0 ? 2 : 0));
	base64_add(&out, SPAN("foob"));
	assert_span(buf_span(&out), SPAN("Zm9vYg=="));
	buf_free(&out);
}

static void
what_is_encoded_is_only_wrapped(void **state)
{
	static const struct row rows[] = {
		{ CODING_BASE64_AGAIN, TEXT("Zm9v\xc3 \r\n\r\nZg==\r\n"),
		    TEXT("Zm9vZg==\r\n"), true },
		{ CODING_BASE64_AGAIN, TEXT(X70 "123456789" X70),
		    TEXT(X70 "123456\r\n789" X70), false },
		{ CODING_BASE64_AGAIN, TEXT(X70 "123456\r\n"),
		    TEXT(X70 "123456\r\n"), true },
		{ CODING_QP_AGAIN, TEXT("a=3Db=\r\nc=c3=A4\r\n"),
		    TEXT("a=3Dbc=C3=A4\r\n"), true },
		{ CODING_QP_AGAIN, TEXT("\xc3\xa4 \t\r\nb= \t\r\nc\r\n"),
		    TEXT("=C3=A4\r\nbc\r\n"), true },
		/* no escapes */
		{ CODING_QP_AGAIN, TEXT("a=x = y==3D =4\r\n"),
		    TEXT("a=3Dx =3D y=3D=3D =3D4\r\n"), true },
		{ CODING_QP_AGAIN, TEXT("a=\r\n"), TEXT("a=\r\n"), true },
		{ CODING_QP_AGAIN, TEXT("a="), TEXT("a"), false },
		{ CODING_QP_AGAIN, TEXT("a=4"), TEXT("a=3D4"), false },
		{ CODING_QP_AGAIN, TEXT(X70 X10 " x=20\r\n"),
		    TEXT(X70 "xxxxx=\r\nxxxxx x=20\r\n"), true },
	};

	(void)state;
	run(rows, COUNT(rows));
}

static void
prose_is_folded_at_998_and_no_sooner(void **state)
{
	struct encoder e = { .coding = CODING_PROSE_7BIT };
	struct buf in = { 0 }, out = { 0 };

	(void)state;
	buf_reserve(&in, 1000);
	memset(in.data, '-', 1000);
	in.len = 998;
	buf_add_text(&in, "\r\n\xe4");
	encode(&e, buf_span(&in), &out);
	assert_int_equal(out.len, in.len);
	assert_int_equal(out.data[out.len - 1], '?');
	buf_clear(&out);
	e = (struct encoder){ .coding = CODING_PROSE };
	in.len = 0;
	buf_reserve(&in, 1000);
	memset(in.data, '-', 998);
	in.len = 998;
	buf_add_text(&in, "\xe4-b\r\n");
	encode(&e, buf_span(&in), &out);
	assert_span(span_from(buf_span(&out), 996), SPAN("--\r\n \xe4-b\r\n"));
	buf_free(&in);
	buf_free(&out);
}

static void
utf8_is_checked_wherever_it_is_cut(void **state)
{
	static const struct {
		struct span text;
		bool valid;
	} rows[] = {
		{ TEXT("abc"), true },
		{ TEXT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), true },
		{ TEXT("\xed\x9f\xbf\xf4\x8f\xbf\xbf"), true },
		{ TEXT("\xc3"), false },
		{ TEXT("\xc0\x80"), false },
		{ TEXT("\xe0\x9f\xbf"), false },
		{ TEXT("\xed\xa0\x80"), false }, /* a surrogate */
		{ TEXT("\xf4\x90\x80\x80"), false },
		{ TEXT("\xf0\x8f\xbf\xbf"), false },
		{ TEXT("\xff"), false },
		{ TEXT("\x80"), false },
		{ TEXT("\xc3\xc3\xa4"), false },
	};
	size_t i, cut;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		for (cut = 0; cut <= rows[i].text.len; cut++) {
			struct utf8_check u = { 0 };

			utf8_check(&u, span_first(rows[i].text, cut));
			utf8_check(&u, span_from(rows[i].text, cut));
			assert_int_equal(utf8_check_end(&u), rows[i].valid);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    quoted_printable_keeps_lines_and_codes_the_rest),
		cmocka_unit_test(quoted_printable_lines_have_76_octets_at_most),
		cmocka_unit_test(base64_is_cut_into_lines),
		cmocka_unit_test(what_is_encoded_is_only_wrapped),
		cmocka_unit_test(prose_is_folded_at_998_and_no_sooner),
		cmocka_unit_test(utf8_is_checked_wherever_it_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
