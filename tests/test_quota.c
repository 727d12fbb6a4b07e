/* quota.c */
#include "../sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

enum { QUARTER = 15 * 60 * 1000, DAY = 96 * QUARTER };

/* At any moment those of the last 24 hours count, and none that is a quarter
 * of an hour older. */
static void
a_day_rolls(void **state)
{
	struct quota q = { .limit = 1000000 };
	unsigned sent[200] = { 0 };
	int64_t now, i, least, most;

	(void)state;
	for (i = 0; i < 200; i++) {
		now = i * 13 * 60 * 1000; /* every 13 minutes */
		sent[i] = (unsigned)(i % 7);
		quota_add(&q, now, sent[i]);
		for (least = most = 0; now >= 0; now -= 13 * 60 * 1000) {
			int64_t age = i * 13 * 60 * 1000 - now;
			unsigned count = sent[now / (13 * 60 * 1000)];

			least += age < DAY ? count : 0;
			most += age < DAY + QUARTER ? count : 0;
		}
		now = i * 13 * 60 * 1000;
		assert_in_range(quota_used(&q, now), least, most);
	}
	assert_int_equal(quota_used(&q, now + DAY + QUARTER), 0);
	assert_int_equal(quota_used(&q, now + 1000 * (int64_t)DAY), 0);
}

static void
the_wait_is_until_enough_are_free(void **state)
{
	struct quota q = { .limit = 10 };

	(void)state;
	assert_int_equal(quota_wait_ms(&q, 0, 10), 0);
	assert_int_equal(quota_wait_ms(&q, 0, 11), 0); /* never better */
	quota_add(&q, 0, 4);
	quota_add(&q, 2 * QUARTER + 5, 6);
	assert_int_equal(quota_wait_ms(&q, 3 * QUARTER, 4), 94 * QUARTER);
	assert_int_equal(quota_wait_ms(&q, 3 * QUARTER, 5), 96 * QUARTER);
	assert_int_equal(quota_wait_ms(&q, 3 * QUARTER, 99), 96 * QUARTER);
	quota_give_back(&q, 2 * QUARTER + 5, 1);
	assert_int_equal(quota_wait_ms(&q, 3 * QUARTER, 1), 0);
	quota_give_back(&q, -1000 * (int64_t)DAY, 1); /* too old: nothing */
	quota_give_back(&q, 0, 100);
	assert_int_equal(quota_used(&q, 3 * QUARTER), 5);
	q.limit = 0;
	assert_int_equal(quota_wait_ms(&q, 3 * QUARTER, 1000), 0);
}

/* Save, restart under a monotonic clock that begins anew, load. */
static void
it_survives_restarts_and_clock_steps(void **state)
{
	static const struct {
		int64_t wall_step_ms, mono_ms;
		int64_t used;
	} rows[] = {
		{ 0, 5, 7 }, { 60 * 1000, 5, 7 },
		{ 22 * (int64_t)4 * QUARTER, 123456789, 7 },
		{ 23 * (int64_t)4 * QUARTER + 2 * QUARTER, 5, 3 },
		{ DAY + QUARTER, 5, 0 }, { 1000 * (int64_t)DAY, 5, 0 },
		{ -1000 * (int64_t)DAY, 5, 7 }, /* set back: no time */
	};
	struct quota q = { .limit = 100 };
	struct instant now = { 100 * (int64_t)DAY, 20000 * (int64_t)DAY };
	struct buf text = { NULL, 0, 0 };
	size_t i;

	(void)state;
	quota_add(&q, now.mono_ms, 4);
	now.mono_ms += 4 * QUARTER;
	now.wall_ms -= 50 * (int64_t)DAY; /* a step that nothing looks at */
	quota_add(&q, now.mono_ms, 3);
	assert_int_equal(quota_used(&q, now.mono_ms), 7);
	quota_save(&q, now, &text);
	for (i = 0; i < COUNT(rows); i++) {
		struct quota again = { .limit = 100 };
		struct instant then = { rows[i].mono_ms,
			now.wall_ms + rows[i].wall_step_ms };

		assert_true(quota_load(&again, then, buf_span(&text)));
		assert_int_equal(quota_used(&again, then.mono_ms),
		    rows[i].used);
		quota_add(&again, then.mono_ms, 1);
		assert_int_equal(quota_used(&again, then.mono_ms),
		    rows[i].used + 1);
		assert_int_equal(
		    quota_used(&again, then.mono_ms + DAY + QUARTER), 0);
	}
	buf_free(&text);
}

/* However often it is restarted, a day is a day. */
static void
restarts_do_not_stretch_the_day(void **state)
{
	struct quota q = { .limit = 100 };
	struct instant now = { 7777, 20000 * (int64_t)DAY };
	int minute;

	(void)state;
	quota_add(&q, now.mono_ms, 50);
	for (minute = 0; minute < 24 * 60 + 15; minute++) {
		struct buf text = { NULL, 0, 0 };

		assert_true(
		    minute > 24 * 60 - 1 || quota_used(&q, now.mono_ms) == 50);
		now.wall_ms += 60 * 1000;
		now.mono_ms += 60 * 1000;
		quota_save(&q, now, &text);
		now.mono_ms = minute % 3 * 1000;
		assert_true(quota_load(&q, now, buf_span(&text)));
		buf_free(&text);
	}
	assert_int_equal(quota_used(&q, now.mono_ms), 0);
}

static void
the_text_is_small_and_any_other_is_refused(void **state)
{
	static const char *const bad[] = { "", "\n", "1", "1 5\n", "2 5 5\n",
		"1 5 5", "1 -5 5 1\n", "1 5 5 1 x\n", "1 5 5 4294967296\n",
		"1 5 5 1 1\n", /* before time 0 */
		"1 9223372036854775807 5\n", "1 5 9223372036854775807\n",
		"1 5 5  1\n" };
	struct quota q = { .limit = 10000, .used = 0 };
	struct instant now = { 5 * (int64_t)DAY, 20000 * (int64_t)DAY };
	struct buf text = { NULL, 0, 0 };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(bad); i++) {
		quota_add(&q, 0, 1);
		if (quota_load(&q, now, span_of(bad[i])))
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(q.used, i + 1);
	}
	for (i = 0; i < 97; i++)
		quota_add(&q, now.mono_ms - (int64_t)(96 - i) * QUARTER, 100);
	quota_save(&q, now, &text);
	assert_true(text.len < 500);
	/* One quarter more than there can be. */
	text.len--;
	buf_add_text(&text, " 1\n");
	assert_false(quota_load(&q, now, buf_span(&text)));
	buf_free(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_day_rolls),
		cmocka_unit_test(the_wait_is_until_enough_are_free),
		cmocka_unit_test(it_survives_restarts_and_clock_steps),
		cmocka_unit_test(restarts_do_not_stretch_the_day),
		cmocka_unit_test(the_text_is_small_and_any_other_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
