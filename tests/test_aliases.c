/* aliases.c: the aliases(5) format.  Names carry the case numbers of hostile
 * input where there is one. */
#include "relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CASES(table) (sizeof(table) / sizeof((table)[0]))

/* Notes "LINE: text", one a line. */
static void
note(void *arg, unsigned line, const char *text)
{
	buf_printf(arg, "%u: %s\n", line, text);
}

/* What name stands for, joined by '|'; "-" for no alias. */
static char *
found(const struct aliases *a, const char *name)
{
	const struct strings *targets = aliases_find(a, span_of(name));
	struct buf text = { NULL, 0, 0 };
	size_t i;

	for (i = 0; targets != NULL && i < targets->count; i++)
		buf_printf(&text, "%s%s", i > 0 ? "|" : "", targets->item[i]);
	if (targets == NULL)
		buf_add_char(&text, '-');
	(void)buf_text(&text);
	return text.data;
}

static const struct {
	const char *text;
	const char *name;
	const char *targets;
	const char *warning; /* how the only one begins; "": none */
} cases[] = {
	{ "root: you@x.example\n", "root", "you@x.example", "" },
	{ "root: you@x.example\n", "toor", "-", "" },
	{ "root:you@x.example, bob,\\carl\n", "root",
	    "you@x.example|bob|\\carl", "" },
	{ "root : Admin <you@x.example> (me)\n", "root", "you@x.example", "" },
	{ "root: \"Doe, J\" <j@x.example>, \"a,b\"@x.example\n", "root",
	    "j@x.example|\"a,b\"@x.example", "" },
	{ "\"a: b\": c@x.example\n", "\"a: b\"", "c@x.example", "" },
	{ "\"root\": c@x.example\n", "root", "c@x.example", "" },
	{ "root: c@x.example\n", "\"root\"", "c@x.example", "" },
	{ "root: c@x.example\n*: d@x.example\n", "bob", "d@x.example", "" },
	{ "root: c@x.example\n*: d@x.example\n", "root", "c@x.example", "" },
	{ "", "root", "-", "" },
	{ "\xc3\xa4: b@x.example\n", "\xc3\xa4", "b@x.example", "" },
	/* plussed users */
	{ "root: a@x.example\n", "root+cron", "a@x.example", "" },
	{ "root: a@x.example\nROOT+Cron: b\n", "Root+cRon", "b", "" },
	{ "root: a@x.example\nroot+*: b\nroot+x: c\n", "root+cron", "b", "" },
	{ "root: a@x.example\nroot+*: b\n", "root", "a@x.example", "" },
	{ "root: a\n*: b\n", "root+", "a", "" },
	{ "root: a\n*: b\n", "+root", "b", "" },
	{ "root: a\n*: b\n", "rootx+y", "b", "" },
	{ "root+x: a\n*: b\n", "root+x+y", "b", "" },
	{ "root: a\nroot+*: b\n", "root+x+y", "b", "" },
	/* two for one name: sendmail keeps the first */
	{ "root: a@x.example\nROOT: b@x.example\n", "root", "a@x.example",
	    "2: duplicate name, ignored: root" },
	/* F3 */
	{ "root: |/bin/sh -c id\n", "root", "postmaster",
	    "1: only addresses are supported, ignored: |/bin/sh -c id" },
	{ "#\nroot: \"|id\"\n", "root", "postmaster",
	    "2: only addresses are supported" },
	{ "root: \"|a, b\", you@x.example\n", "root", "you@x.example",
	    "1: only addresses are supported" },
	{ "root: /var/mail/x\n", "root", "postmaster",
	    "1: only addresses are supported" },
	{ "root: :include:/etc/shadow\n", "root", "postmaster",
	    "1: only addresses are supported" },
	{ "root: \":Include:/etc/shadow\"\n", "root", "postmaster",
	    "1: only addresses are supported" },
	{ "root: a b c\n", "root", "postmaster", "1: not an address" },
	{ "root: a@\n", "root", "postmaster", "1: not an address" },
	/* F4 */
	{ "root: admin@x.example, \n", "root", "admin@x.example", "" },
	{ "root:\ta,\n\tb,\n # no\n\n    c\nbob: d\n", "root", "a|b|c", "" },
	{ "root:\ta,\n\tb\nbob: d\n", "bob", "d", "" },
	{ "root:\n a@x.example\n", "root", "a@x.example", "" },
	{ "root: \"a #b\"@x.example # me\n", "root", "\"a #b\"@x.example", "" },
	{ "root: a#b@x.example,#c@x.example\n", "root",
	    "a#b@x.example|#c@x.example", "" },
	{ "# root: a\n#root: b\n  # c\n", "root", "-", "" },
	{ "ROOT: A@x.example\n", "root", "A@x.example", "" },
	{ "root: a@x.example\n", "Root", "a@x.example", "" },
	{ "root:\nbob: c\n", "root", "-", "1: no address, ignored: root:" },
	{ "root: ,\n", "root", "-", "1: no address" },
	/* F5 */
	{ "root: a@x.example", "root", "a@x.example", "" },
	{ "root: a@x.example\r\nbob: b\r\n", "root", "a@x.example", "" },
	{ "root: a,\r\n b\r\n\r\n", "root", "a|b", "" },
	{ "bob: a@x.example\rroot: b\r", "root", "-", "1: not an address" },
	{ "\xff\xfe: a\nroot: b\n", "root", "b",
	    "1: not a local name, ignored: \\xff\\xfe: a" },
	{ "bob: \xff\nroot: b\n", "root", "b", "1: not an address" },
	{ "bob\nroot: b\n", "root", "b", "1: no colon, ignored: bob" },
	{ ": a\nroot: b\n", "root", "b", "1: not a local name" },
	{ "a b: c\nroot: b\n", "root", "b", "1: not a local name" },
	{ "bob@x.example: c\nroot: b\n", "root", "b", "1: not a local name" },
	{ " a\nroot: b\n", "root", "b", "1: continues no entry" },
	{ "bob: \"a\nroot: b\n", "root", "b", "1: not an address" },
	{ "bob: \\\nroot: b\n", "root", "b", "1: not an address" },
};

static void
aliases_are_read_as_sendmail_does(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(cases); i++) {
		struct buf notes = { NULL, 0, 0 };
		struct aliases *a =
		    aliases_parse(span_of(cases[i].text), note, &notes);
		char *targets = found(a, cases[i].name);
		struct span warning = span_of(cases[i].warning);

		assert_string_equal(targets, cases[i].targets);
		assert_true(span_starts_nocase(buf_span(&notes), warning));
		assert_int_equal(notes.len == 0, warning.len == 0);
		if (notes.len > 0)
			assert_ptr_equal(memchr(notes.data, '\n', notes.len),
			    notes.data + notes.len - 1);
		free(targets);
		buf_free(&notes);
		aliases_free(a);
	}
}

static void
f5_a_nul_costs_its_entry_only(void **state)
{
	struct buf notes = { NULL, 0, 0 };
	struct aliases *a =
	    aliases_parse(SPAN("a: x\nb: y\0z,\n c\nd: e\n"), note, &notes);
	char *targets = found(a, "d");

	(void)state;
	assert_int_equal(aliases_count(a), 2);
	assert_string_equal(targets, "e");
	assert_string_equal(buf_text(&notes),
	    "2: NUL in an entry, ignored: b: y\\x00z, c\n");
	free(targets);
	buf_free(&notes);
	aliases_free(a);
}

/* An entry of so many octets, in all, with the blank that ends it. */
static struct aliases *
parse_long(size_t len, struct buf *notes)
{
	struct buf text = { NULL, 0, 0 };
	struct aliases *a;

	buf_add_text(&text, "b: c");
	while (text.len < len - 1)
		buf_add_char(&text, ',');
	buf_add_text(&text, "\nd: e\n");
	a = aliases_parse(buf_span(&text), note, notes);
	buf_free(&text);
	return a;
}

static void
f5_an_entry_ends_below_a_mebibyte(void **state)
{
	size_t over;

	(void)state;
	for (over = 0; over <= 1; over++) {
		struct buf notes = { NULL, 0, 0 };
		struct aliases *a = parse_long((1 << 20) - 1 + over, &notes);

		assert_int_equal(aliases_count(a), 2 - over);
		assert_int_equal(notes.len > 0, over);
		assert_true(notes.len < 1000);
		buf_free(&notes);
		aliases_free(a);
	}
}

static void
a_hundred_thousand_aliases_are_fine(void **state)
{
	enum { COUNT = 100000 };
	struct buf text = { NULL, 0, 0 };
	struct aliases *a;
	unsigned i;

	(void)state;
	for (i = 0; i < COUNT; i++)
		buf_printf(&text, "n%u: m%u@x.example\n", i * 7919 % COUNT,
		    i * 7919 % COUNT);
	a = aliases_parse(buf_span(&text), note, NULL);
	assert_int_equal(aliases_count(a), COUNT);
	for (i = 0; i < COUNT; i++) {
		char name[32];
		char target[32];
		const struct strings *targets;

		(void)snprintf(name, sizeof(name), "n%u", i);
		(void)snprintf(target, sizeof(target), "m%u@x.example", i);
		targets = aliases_find(a, span_of(name));
		assert_non_null(targets);
		assert_string_equal(targets->item[0], target);
	}
	assert_null(aliases_find(a, SPAN("n100000")));
	buf_free(&text);
	aliases_free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aliases_are_read_as_sendmail_does),
		cmocka_unit_test(f5_a_nul_costs_its_entry_only),
		cmocka_unit_test(f5_an_entry_ends_below_a_mebibyte),
		cmocka_unit_test(a_hundred_thousand_aliases_are_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
