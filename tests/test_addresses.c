/* addresses.c: sets, maps and patterns.  Names carry the case numbers of
 * hostile input where there is one. */
#include "relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CASES(table) (sizeof(table) / sizeof((table)[0]))

static void
a_set_has_no_two_alike(void **state)
{
	enum { COUNT = 100000 };
	struct address_set set = { .slots = 0 };
	char name[32];
	unsigned i;

	(void)state;
	assert_false(address_set_have(&set, SPAN("n1@x.example")));
	for (i = 0; i < 2 * COUNT; i++) {
		(void)snprintf(name, sizeof(name), "%c%u@x.example",
		    i < COUNT ? 'n' : 'N', i % COUNT);
		assert_int_equal(address_set_add(&set, span_of(name)),
		    i < COUNT);
	}
	assert_int_equal(set.list.count, COUNT);
	assert_string_equal(set.list.item[7], "n7@x.example");
	assert_true(address_set_have(&set, SPAN("N99999@X.example")));
	assert_false(address_set_have(&set, SPAN("n100000@x.example")));
	address_set_free(&set);
	assert_int_equal(set.list.count, 0);
}

static const struct {
	const char *entry; /* several: separated by blanks */
	const char *address;
	const char *result; /* NULL: not replaced */
} maps[] = {
	{ "root@a.example=x@b.example", "root@a.example", "x@b.example" },
	{ "Root@a.example=X@b.example", "rOOt@A.example", "X@b.example" },
	{ "@a.example=@b.example", "Root@A.example", "Root@b.example" },
	{ "@a.example=@b.example root@a.example=x@c.example", "root@a.example",
	    "x@c.example" },
	{ "@a.example=@b.example root@a.example=x@c.example", "bob@a.example",
	    "bob@b.example" },
	/* the result is not looked up again */
	{ "@a.example=@b.example @b.example=@c.example", "x@a.example",
	    "x@b.example" },
	/* '=' in local parts */
	{ "a=b@c.example=d=e@f.example", "a=b@c.example", "d=e@f.example" },
	{ "\"a@b=c\"@d.example=e@f.example", "\"a@b=c\"@d.example",
	    "e@f.example" },
	{ "@a.example=@b.example", "\"@a.example\"@c.example", NULL },
	{ "@a.example=@b.example", "\"x y\"@a.example", "\"x y\"@b.example" },
	{ "@a.example=@b.example", "\xc3\xa4@a.example", "\xc3\xa4@b.example" },
	/* D20: only whole ones */
	{ "root@a.example=x@b.example", "xroot@a.example", NULL },
	{ "root@a.example=x@b.example", "root@a.example.org", NULL },
	{ "root@a.example=x@b.example", "\"root@a.example\"@c.example", NULL },
	{ "@a.example=@b.example", "root@x.a.example", NULL },
	{ "@a.example=@b.example", "root@xa.example", NULL },
	{ "@a.example=@b.example", "root@a.exampl", NULL },
	{ "@a.example=@b.example", "root", NULL },
	{ "@a.example=@b.example", "@a.example", NULL },
	{ "@a.example=@b.example", "", NULL },
	{ "", "root@a.example", NULL },
};

static struct address_map *
map_of(const char *entries)
{
	struct strings list = { NULL, 0 };
	struct span rest = span_of(entries), entry;
	struct address_map *map;
	bool more = rest.len > 0;

	/* Blanks in quotes don't occur in entries here. */
	while (more) {
		more = span_cut(rest, ' ', &entry, &rest);
		strings_add(&list, entry);
	}
	map = address_map_new(&list);
	strings_free(&list);
	return map;
}

static void
d20_only_whole_addresses_are_mapped(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(maps); i++) {
		struct address_map *map = map_of(maps[i].entry);
		struct buf out = { NULL, 0, 0 };
		bool found =
		    address_map_find(map, span_of(maps[i].address), &out);

		assert_int_equal(found, maps[i].result != NULL);
		assert_string_equal(buf_text(&out),
		    found ? maps[i].result : "");
		buf_free(&out);
		address_map_free(map);
	}
	assert_false(address_map_find(NULL, SPAN("a@b.example"), NULL));
	address_map_free(NULL);
}

/* A domain that would leave too little room for the local part. */
#define LABEL "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk."
#define LONG  LABEL LABEL LABEL "example"

static const struct {
	const char *entry;
	bool good;
} entries[] = {
	{ "a@b.example=c@d.example", true },
	{ "@b.example=@d.example", true },
	{ "@b=@d", true },
	{ "", false },
	{ "=", false },
	{ "a@b.example", false },
	{ "a@b.example=", false },
	{ "=c@d.example", false },
	{ "@=@", false },
	{ "a=b", false },
	{ "@b.example=c@d.example", false },
	{ "a@b.example=@d.example", false },
	{ "a@b.example=c@d.example=e@f.example", false },
	{ "a@b.example = c@d.example", false },
	{ "@b.example=@-", false },
	{ "@b.example=@d.example\r\nBcc:", false },
	{ "@b.example=@" LONG, false },
	{ "\xc3\xa4@b.example=c@d.example", false },
};

static void
d21_an_entry_has_an_address_or_a_domain_on_both_sides(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(entries); i++)
		assert_int_equal(address_map_check(span_of(entries[i].entry)) ==
			NULL,
		    entries[i].good);
}

static void
what_stands_left_of_two_entries_is_told(void **state)
{
	struct address_map *map =
	    map_of("@b.x=@c.x a@b.x=d@e.x A@B.x=f@g.x @a.x=@c.x");

	(void)state;
	assert_string_equal(address_map_twice(map), "a@b.x");
	address_map_free(map);
	map = map_of("@b.x=@c.x a@b.x=d@e.x");
	assert_null(address_map_twice(map));
	address_map_free(map);
}

/* 10^10 comparisons if each were looked for from the start. */
static void
a_hundred_thousand_entries_are_fine(void **state)
{
	enum { COUNT = 100000 };
	struct strings list = { NULL, 0 };
	struct address_map *map;
	struct buf out = { NULL, 0, 0 };
	char text[64];
	unsigned i;

	(void)state;
	for (i = 0; i < COUNT; i++) {
		(void)snprintf(text, sizeof(text), "n%u@x=m%u@y",
		    i * 7919 % COUNT, i * 7919 % COUNT);
		strings_add(&list, span_of(text));
	}
	map = address_map_new(&list);
	for (i = 0; i < COUNT; i++) {
		(void)snprintf(text, sizeof(text), "n%u@x", i);
		buf_clear(&out);
		assert_true(address_map_find(map, span_of(text), &out));
		(void)snprintf(text, sizeof(text), "m%u@y", i);
		assert_string_equal(buf_text(&out), text);
	}
	buf_free(&out);
	address_map_free(map);
	strings_free(&list);
}

static const struct {
	const char *pattern;
	const char *address;
	bool matches;
} patterns[] = {
	{ "me@example.com", "ME@Example.com", true },
	{ "me@example.com", "me@example.comx", false },
	{ "me@example.com", "xme@example.com", false },
	{ "@example.com", "me@EXAMPLE.com", true },
	{ "@example.com", "me@a.example.com", false },
	{ "@example.com", "\"@example.com\"@evil.example", false },
	{ "@*.example.com", "me@a.b.example.com", true },
	{ "@*.example.com", "me@example.com", false },
	{ "@example.com", "me", false },
	{ "*@dev.example.com", "a.b+c@dev.example.com", true },
	{ "*@dev.example.com", "\"x@dev.example.com\"@evil.example", false },
	{ "*@dev.example.com", "x@dev.example.com.evil.example", false },
	{ "me+*@example.com", "me+@example.com", true },
	{ "me+*@example.com", "me@example.com", false },
	{ "*", "a@b.example", true },
	{ "a*b*c@x.example", "aXbYbZc@x.example", true },
	{ "a*b*c@x.example", "aXbYbZ@x.example", false },
	{ "*@*.example", "a@b.example", true },
	{ "**@x.example", "a@x.example", true },
};

static void
patterns_match_the_whole_address(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(patterns); i++) {
		struct span pattern = span_of(patterns[i].pattern);

		assert_null(address_pattern_check(pattern));
		assert_int_equal(
		    address_matches(pattern, span_of(patterns[i].address)),
		    patterns[i].matches);
	}
}

/* Not exponential, whatever the number of stars. */
static void
a_pattern_of_stars_takes_no_time(void **state)
{
	struct buf pattern = { NULL, 0, 0 }, address = { NULL, 0, 0 };
	unsigned i;

	(void)state;
	for (i = 0; i < 30; i++) {
		buf_add_text(&pattern, "*a");
		buf_add_text(&address, "aa");
	}
	buf_add_text(&pattern, "@x.example");
	buf_add_text(&address, "@y.example");
	for (i = 0; i < 1000; i++)
		assert_false(
		    address_matches(buf_span(&pattern), buf_span(&address)));
	buf_free(&pattern);
	buf_free(&address);
}

static void
what_can_match_nothing_is_no_pattern(void **state)
{
	static const char *const bad[] = { "", "@", "me", "a b@*", "a@b@c",
		"*@", "\xff*@b.example", "*@-" };
	size_t i;

	(void)state;
	for (i = 0; i < CASES(bad); i++)
		assert_non_null(address_pattern_check(span_of(bad[i])));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_has_no_two_alike),
		cmocka_unit_test(d20_only_whole_addresses_are_mapped),
		cmocka_unit_test(
		    d21_an_entry_has_an_address_or_a_domain_on_both_sides),
		cmocka_unit_test(what_stands_left_of_two_entries_is_told),
		cmocka_unit_test(a_hundred_thousand_entries_are_fine),
		cmocka_unit_test(patterns_match_the_whole_address),
		cmocka_unit_test(a_pattern_of_stars_takes_no_time),
		cmocka_unit_test(what_can_match_nothing_is_no_pattern),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
