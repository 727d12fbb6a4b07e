/* header.c: sections, fields and address lists.  Names carry the case numbers
 * of hostile input where there is one. */
#include "header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CASES(table) (sizeof(table) / sizeof((table)[0]))

/* ---- where a header section ends ---- */

static const struct {
	const char *text;
	size_t header; /* octets */
	size_t body;   /* its offset; 0 with header 0: not found */
	bool found;
} ends[] = {
	{ "To: a\r\n\r\nbody\r\n", 7, 9, true },
	{ "\r\nbody\r\n", 0, 2, true },
	{ "To: a\r\n\tb\r\n c\r\n\r\n", 15, 17, true },
	{ "To: a\r\n \r\n\r\n", 10, 12, true },
	{ "", 0, 0, false },
	{ "To: a\r\n", 0, 0, false },         /* D5 */
	{ "To: a\r\nhello", 0, 0, false },    /* the line is not complete */
	{ "hello\r\nworld\r\n", 0, 0, true }, /* D6 */
	{ "hello: \r\nworld\r\n", 9, 9, true },
	{ "From root Mon Jan  1\r\nTo: a\r\n\r\n", 29, 31, true }, /* D7 */
	{ ">From root\r\nTo: a\r\n\r\n", 19, 21, true },
	{ "To: a\r\nFrom root\r\n\r\n", 7, 7, true },
	{ "from me to you\r\n", 0, 0, true },
	{ "From : a\r\n\r\n", 10, 12, true },
	{ "To : a\r\n\r\n", 8, 10, true }, /* D15 */
	{ "To\t: a\r\n\r\n", 8, 10, true },
	{ ": x\r\n", 0, 0, true },
	{ "\x80: x\r\n", 0, 0, true },
	{ "T o: x\r\n", 0, 0, true },
	{ " x\r\nTo: a\r\n", 0, 0, true },             /* D16 */
	{ "\xef\xbb\xbfTo: a\r\n\r\n", 10, 12, true }, /* D27 */
	{ "\xef\xbb\xbfhello\r\n", 0, 0, true },
	{ "To: a\n\nbody\n", 6, 7, true },
};

static void
check_end(size_t i, bool found, size_t header, size_t body)
{
	if (found != ends[i].found ||
	    (found && (header != ends[i].header || body != ends[i].body)))
		fail_msg("\"%s\": found %d, header %zu, body %zu", ends[i].text,
		    found, header, body);
}

static void
header_end_finds_the_body(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(ends); i++) {
		size_t scanned = 0, header = 0, body = 0;
		struct span text = span_of(ends[i].text);
		bool found;

		found = header_end(text, &scanned, &header, &body);
		check_end(i, found, header, body);
	}
}

/* The text grows by one octet at a time. */
static void
header_end_goes_on_where_it_stopped(void **state)
{
	size_t i, len;

	(void)state;
	for (i = 0; i < CASES(ends); i++) {
		size_t scanned = 0, header = 0, body = 0;
		struct span text = span_of(ends[i].text);
		bool found = false;

		for (len = 0; len <= text.len && !found; len++) {
			found = header_end(span_first(text, len), &scanned,
			    &header, &body);
			if (!found)
				assert_int_equal(scanned, len);
		}
		check_end(i, found, header, body);
	}
}

static void
d15_a_nul_in_a_field_name_stays_in_the_header(void **state)
{
	size_t scanned = 0, header, body;

	(void)state;
	assert_true(
	    header_end(SPAN("T\0o: a\r\n\r\n"), &scanned, &header, &body));
	assert_int_equal(header, 8);
}

/* ---- fields ---- */

static void
header_next_gives_whole_fields(void **state)
{
	struct span header = SPAN("\xef\xbb\xbf"
				  "From root Mon\r\nTo: a,\r\n\tb\r\n"
				  "Cc \t:c\r\nX:\r\n");
	struct header_field f;

	(void)state;
	assert_true(header_next(&header, &f));
	assert_int_equal(f.name.len, 0);
	assert_true(span_equal(f.text, SPAN("From root Mon\r\n")));
	assert_true(header_next(&header, &f));
	assert_true(span_equal(f.name, SPAN("To")));
	assert_true(span_equal(f.value, SPAN(" a,\r\n\tb\r\n")));
	assert_true(header_next(&header, &f));
	assert_true(span_equal(f.name, SPAN("Cc")));
	assert_true(span_equal(f.value, SPAN("c\r\n")));
	assert_true(header_next(&header, &f));
	assert_true(span_equal(f.text, SPAN("X:\r\n")));
	assert_false(header_next(&header, &f));
}

static void
header_has_looks_at_names_only(void **state)
{
	struct span header = SPAN("Subject: x\r\n From: y\r\nDATE : z\r\n");

	(void)state;
	assert_true(header_has(header, SPAN("date")));
	assert_true(header_has(header, SPAN("Subject")));
	assert_false(header_has(header, SPAN("From")));
	assert_false(header_has(header, SPAN("Sub")));
	assert_false(header_has(SPAN(""), SPAN("From")));
}

/* ---- address lists ---- */

static char *
joined(const struct strings *list)
{
	struct buf text = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < list->count; i++)
		buf_printf(&text, "%s%s", i > 0 ? "|" : "", list->item[i]);
	(void)buf_text(&text);
	return text.data;
}

/* addresses: joined by '|'; NULL: refused. */
static const struct {
	const char *list;
	const char *addresses;
} lists[] = {
	{ "root", "root" },
	{ "a@b.example", "a@b.example" },
	{ " <a@b.example> ", "a@b.example" },
	{ "A B <a@b.example>", "a@b.example" },
	{ "a@b.example (x)", "a@b.example" },
	{ "mdadm monitoring <root>", "root" },
	{ "\"(Cron Daemon)\" <root>", "root" },
	{ "root (Cron Daemon)", "root" },
	{ "<a@b.example>,<c@d.example>", "a@b.example|c@d.example" },
	{ "a@b.example,c@d.example", "a@b.example|c@d.example" },
	{ "J. R. Public <j@d.example>", "j@d.example" },
	{ "j@d.example <j@d.example>", "j@d.example" },
	{ "\xc3\xa4 <j@d.example>", "j@d.example" },
	{ "", "" },
	{ "  ", "" },
	{ "(nobody)", "" },
	{ ",,", "" },
	/* D9 */
	{ "\r\n a@b.example,\r\n\tc@d.example\r\n", "a@b.example|c@d.example" },
	{ "a@b.example, , ,c@d.example,", "a@b.example|c@d.example" },
	/* D10 */
	{ "undisclosed-recipients:;", "" },
	{ "g: a@b.example, c@d.example;", "a@b.example|c@d.example" },
	{ "g: a@b.example;, \"h i\": c;, d", "a@b.example|c|d" },
	/* D11 */
	{ "\"Doe, John\" <j@d.example>, (comment, with <e@x>) k@d.example,"
	  " <l@d.example> (x)",
	    "j@d.example|k@d.example|l@d.example" },
	/* D12 */
	{ "\"never closed", NULL },
	{ "(never closed", NULL },
	{ "[1", NULL },
	{ "a\\", NULL },
	{ "\"a\\", NULL },
	{ "<<<<", NULL },
	{ "<a", NULL },
	{ "a>", NULL },
	{ "a:b:c:;;", NULL },
	{ "a:b:c;", NULL },
	{ "g: a@b.example", NULL },
	{ ":include:/etc/passwd", NULL }, /* C16 */
	{ "a;", NULL },
	{ "<a@b.example> c", NULL },
	{ "<a@b.example> <c@d.example>", NULL },
	{ "<a b@c.example>", NULL },
	{ "a b", NULL },
	{ "<>", NULL },
	{ "a@@b.example", NULL },
	/* D13 */
	{ "=?utf-8?q?a=40b.example?= <c@d.example>", "c@d.example" },
	{ "=?utf-8?q?a=40b.example?=", NULL },
	/* D28 */
	{ "\"a@b.example\r\n.\r\nMAIL", NULL },
	{ "\"a\r\n b\"@c.example", "\"a b\"@c.example" },
	{ "\"a\x01\"@c.example", NULL },
	/* obsolete syntax (RFC 5322, 4.4) */
	{ "a . b (x) @ (y) c . example", "a.b@c.example" },
	{ "<@x.example, @y.example:a@b.example>", "a@b.example" },
	{ "<x.example,a@b.example>", NULL },
	{ "a@b.example c@d.example", "a@b.example|c@d.example" },
	{ "a@b.example (x) c@d.example, e", "a@b.example|c@d.example|e" },
	{ "a@b.example via c@d.example <e@f.example>", "e@f.example" },
	{ "a@b.example c", NULL },
	{ "a c@d.example", NULL },
	/* quoted and literal parts */
	{ "\"a,b\"@c.example", "\"a,b\"@c.example" },
	{ "\"a\\\"b\" <c@d.example>", "c@d.example" },
	{ "((a) \\) (b)) c", "c" },
	{ "c@[10.0.0.1]", "c@[10.0.0.1]" },
};

static void
address_list_takes_addresses_and_nothing_else(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(lists); i++) {
		struct strings out = { NULL, 0 };
		bool good = address_list(span_of(lists[i].list), &out);
		char *text = joined(&out);

		if (good != (lists[i].addresses != NULL))
			fail_msg("\"%s\": %d", lists[i].list, good);
		if (good)
			assert_string_equal(text, lists[i].addresses);
		free(text);
		strings_free(&out);
	}
}

static void
address_list_refuses_a_nul(void **state)
{
	struct strings out = { NULL, 0 };

	(void)state;
	assert_false(address_list(SPAN("a\0b@c.example"), &out));
	strings_free(&out);
	assert_false(address_list(SPAN("\"a\0b\"@c.example"), &out));
	strings_free(&out);
}

/* Recursion, or a second look at every octet, would not survive these. */
static void
d12_nesting_is_read_in_one_pass(void **state)
{
	static const char patterns[] = "(<\"[:,;a \\@";
	size_t i, len = 1 << 20;
	char *text = mem_alloc(len);

	(void)state;
	for (i = 0; patterns[i] != '\0'; i++) {
		struct strings out = { NULL, 0 };

		memset(text, patterns[i], len);
		assert_int_equal(address_list((struct span){ text, len }, &out),
		    patterns[i] == ',' || patterns[i] == ' ');
		strings_free(&out);
	}
	free(text);
}

static void
d12_a_comment_may_nest_100000_deep(void **state)
{
	struct buf text = { NULL, 0, 0 };
	struct strings out = { NULL, 0 };
	size_t i;

	(void)state;
	for (i = 0; i < 100000; i++)
		buf_add_char(&text, '(');
	for (i = 0; i < 100000; i++)
		buf_add_char(&text, ')');
	buf_add_text(&text, " root");
	assert_true(address_list(buf_span(&text), &out));
	assert_int_equal(out.count, 1);
	assert_string_equal(out.item[0], "root");
	strings_free(&out);
	buf_free(&text);
}

/* ---- recipients of a header ---- */

static const struct {
	const char *header;
	const char *addresses;
	const char *bad; /* the field that is named */
} headers[] = {
	{ "Subject: x\r\n", "", NULL },
	{ "To: root\r\nFrom: x\r\nCC: a@b.example\r\n", "root|a@b.example",
	    NULL },
	/* D8 */
	{ "Bcc: e@x.example\r\n f@x.example\r\n", "e@x.example|f@x.example",
	    NULL },
	{ "Bcc: e@x.example,\r\n f@x.example\r\n", "e@x.example|f@x.example",
	    NULL },
	{ "BCC: a\r\nBcc : b\r\nbcc:c\r\n", "a|b|c", NULL },
	{ "To: a\r\nTo: b\r\n", "a|b", NULL },
	{ "To: undisclosed-recipients:;\r\nBcc: a@b.example\r\n", "a@b.example",
	    NULL },
	{ "To: a\r\nResent-To: b\r\nResent-bcc: c\r\nBcc: d\r\n", "b|c", NULL },
	{ "To: a b\r\nResent-To: b\r\n", "b", NULL },
	{ "To: a\r\nCc: \"x\r\n", "a", "Cc" },
	{ "To: a\r\nResent-Cc: <\r\n", "", "Resent-Cc" },
};

static void
header_recipients_takes_to_cc_and_bcc(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(headers); i++) {
		struct strings out = { NULL, 0 };
		const char *bad =
		    header_recipients(span_of(headers[i].header), &out);
		char *text = joined(&out);

		if (headers[i].bad == NULL) {
			assert_null(bad);
			assert_string_equal(text, headers[i].addresses);
		} else {
			assert_non_null(bad);
			assert_string_equal(bad, headers[i].bad);
		}
		free(text);
		strings_free(&out);
	}
}

/* ---- fields that stand there twice ---- */

static const struct {
	const char *header;
	const char *names;
} repeated[] = {
	{ "", "" },
	{ "From: a\r\nTo: b\r\nReceived: x\r\nReceived: y\r\n", "" },
	{ "To: a\r\nFrom: b\r\nTO : a\r\n\tTo: c\r\nto:\r\n", "To" },
	{ "Date: x\r\nFrom: a\r\nFrom: b\r\nDate: y\r\n", "From, Date" },
};

static void
d17_repeated_fields_are_named_once(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(repeated); i++) {
		struct buf names = { NULL, 0, 0 };

		header_repeated(span_of(repeated[i].header), &names);
		assert_string_equal(buf_text(&names), repeated[i].names);
		buf_free(&names);
	}
}

/* ---- quoting ---- */

static const struct {
	const char *text;
	const char *phrase;
} phrases[] = {
	{ "Cron Daemon", "\"Cron Daemon\"" },
	{ "", "\"\"" },
	{ "a \"b\" \\c", "\"a \\\"b\\\" \\\\c\"" },
	{ "x\r\nBcc: e@x.example", "\"x  Bcc: e@x.example\"" }, /* C13 */
	{ "\x1b[31m\x7f", "\" [31m \"" },
	{ "J\xc3\xbcrgen", "=?utf-8?q?J=C3=BCrgen?=" }, /* C34 */
	{ "\xe2\x82\xac_= ?\"\n", "=?utf-8?q?=E2=82=AC=5F=3D_=3F=22_?=" },
	{ "J\xfcrgen \xc3", "=?unknown-8bit?q?J=FCrgen_=C3?=" },
	{ "=?utf-8?q?J=C3=BCrgen?=", "=?utf-8?q?J=C3=BCrgen?=" },
	{ "=?x?=, <a@b>", "\"=?x?=, <a@b>\"" },
};

static void
a_phrase_is_quoted_or_encoded(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(phrases); i++) {
		struct buf out = { NULL, 0, 0 };

		header_add_phrase(&out, span_of(phrases[i].text));
		assert_string_equal(buf_text(&out), phrases[i].phrase);
		buf_free(&out);
	}
}

/* RFC 2047, section 2 and 5 (3): short lines, whole characters. */
static void
c34_a_long_name_becomes_several_encoded_words(void **state)
{
	struct buf name = { NULL, 0, 0 }, out = { NULL, 0, 0 };
	struct span rest, line, end = SPAN("=E2=82=AC?=");
	size_t i, words = 0;
	bool more;

	(void)state;
	for (i = 0; i < 40; i++)
		buf_add_text(&name, i == 0 ? "x" : "\xe2\x82\xac");
	header_add_phrase(&out, buf_span(&name));
	rest = buf_span(&out);
	do {
		more = span_cut(rest, '\n', &line, &rest);
		line = span_trim(line);
		assert_true(line.len <= 64);
		assert_true(span_starts_nocase(line, SPAN("=?utf-8?q?")));
		assert_true(
		    span_equal(span_from(line, line.len - end.len), end));
		words++;
	} while (more);
	assert_true(words > 4);
	buf_free(&name);
	buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_end_finds_the_body),
		cmocka_unit_test(header_end_goes_on_where_it_stopped),
		cmocka_unit_test(d15_a_nul_in_a_field_name_stays_in_the_header),
		cmocka_unit_test(header_next_gives_whole_fields),
		cmocka_unit_test(header_has_looks_at_names_only),
		cmocka_unit_test(address_list_takes_addresses_and_nothing_else),
		cmocka_unit_test(address_list_refuses_a_nul),
		cmocka_unit_test(d12_nesting_is_read_in_one_pass),
		cmocka_unit_test(d12_a_comment_may_nest_100000_deep),
		cmocka_unit_test(header_recipients_takes_to_cc_and_bcc),
		cmocka_unit_test(d17_repeated_fields_are_named_once),
		cmocka_unit_test(a_phrase_is_quoted_or_encoded),
		cmocka_unit_test(c34_a_long_name_becomes_several_encoded_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
