/* limit.c */
#include "../sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

struct step {
	struct pace_limit from, to;
};

static void
assert_limit(struct pace_limit got, struct pace_limit want)
{
	assert_int_equal(got.count, want.count);
	assert_int_equal(got.window_ms, want.window_ms);
}

static void
assert_steps(const struct step *rows, size_t count,
    void (*change)(struct pace_limit *))
{
	size_t i;

	for (i = 0; i < count; i++) {
		struct pace_limit limit = rows[i].from;

		change(&limit);
		assert_limit(limit, rows[i].to);
	}
}

static void
nearly_a_usual_window_is_one(void **state)
{
	static const struct step rows[] = {
		{ { 14, 999 }, { 14, 1010 } }, { { 14, 900 }, { 14, 900 } },
		{ { 14, 1011 }, { 14, 1011 } },
		{ { 30, 57000 }, { 30, 60600 } },
		{ { 3, 999 }, { 3, 999 } }, /* a bucket, rather */
	};

	(void)state;
	assert_steps(rows, COUNT(rows), limit_round_up);
}

/* Chance first, then the count. */
static void
it_is_lowered_by_little(void **state)
{
	static const struct step rows[] = {
		{ { 14, 1010 }, { 14, 1030 } },
		{ { 14, 1050 }, { 14, 1071 } },
		{ { 14, 1071 }, { 13, 1010 } },
		{ { 100, 60600 }, { 100, 61812 } },
		{ { 40, 500 }, { 38, 500 } },
		{ { 1, 1000 }, { 1, 1051 } },
	};
	size_t i;

	(void)state;
	assert_steps(rows, COUNT(rows), limit_lower);
	for (i = 0; i < COUNT(rows); i++)
		assert_true(
		    limit_rate(&rows[i].to) < limit_rate(&rows[i].from));
}

static void
shorten_by_an_eighth(struct pace_limit *l)
{
	limit_shorten(l, 0.125);
}

static void
a_shorter_window_does_not_pass_a_usual_one(void **state)
{
	static const struct step rows[] = {
		{ { 14, 1300 }, { 14, 1155 } },
		{ { 14, 1100 }, { 14, 1010 } },
		{ { 14, 1010 }, { 14, 897 } },
		{ { 2, 1100 }, { 2, 977 } },
		{ { 1, 1 }, { 1, 1 } },
	};

	(void)state;
	assert_steps(rows, COUNT(rows), shorten_by_an_eighth);
}

static void
one_more_at_least(void **state)
{
	struct pace_limit limit = { 14, 1010 };

	(void)state;
	limit_add(&limit, 0.05);
	assert_limit(limit, (struct pace_limit){ 15, 1010 });
	limit_add(&limit, 1);
	assert_limit(limit, (struct pace_limit){ 30, 1010 });
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nearly_a_usual_window_is_one),
		cmocka_unit_test(it_is_lowered_by_little),
		cmocka_unit_test(a_shorter_window_does_not_pass_a_usual_one),
		cmocka_unit_test(one_more_at_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
