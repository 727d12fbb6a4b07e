/* window.c */
#include "../sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A burst counts as a whole until its end is over, and then not at all. */
static void
a_burst_leaves_at_once(void **state)
{
	struct window w = { .count = 0 };

	(void)state;
	window_add(&w, 1000, 30, 3000);
	assert_int_equal(window_since(&w, 999).count, 30);
	assert_int_equal(window_since(&w, 1000).count, 0);
	assert_int_equal(window_wait_ms(&w, 1500, 1000, 29), 500);
	assert_int_equal(window_wait_ms(&w, 1500, 1000, 30), 0);
	assert_int_equal(window_wait_ms(&w, 2000, 1000, 0), 0);
}

/* Thousands in 64 marks: none is off by more than the length of a mark. */
static void
many_are_counted_in_bounded_memory(void **state)
{
	struct window w = { .count = 0 };
	int64_t now, wait;
	uint64_t count;

	(void)state;
	for (now = 0; now < 100000; now++)
		window_add(&w, now, 1, 3000);
	now--;
	count = window_since(&w, now - 1000).count;
	assert_in_range(count, 1000, 1001);
	wait = window_wait_ms(&w, now, 1000, 900);
	assert_in_range(wait, 99, 102);
	assert_int_equal(window_since(&w, now - 4000).first_ms / 100, 969);
}

static void
what_is_given_back_does_not_count(void **state)
{
	struct window w = { .count = 0 };

	(void)state;
	window_add(&w, 1000, 5, 6400);
	window_add(&w, 2000, 7, 6400);
	window_give_back(&w, 1500, 2); /* was sent before 2000 */
	assert_int_equal(window_since(&w, 0).count, 10);
	assert_int_equal(window_since(&w, 1000).count, 7);
	window_give_back(&w, 2000, 100);
	assert_int_equal(window_since(&w, 0).count, 3);
	assert_int_equal(window_since(&w, 0).last_ms, 1000);
	window_add(&w, 3000, 2, 6400);
	window_add(&w, 3100, 2, 6400);
	window_give_back(&w, 3100, 4);
	assert_int_equal(window_since(&w, 3050).count, 0); /* in its midst */
	assert_int_equal(window_wait_ms(&w, 3100, 50, 0), 0);
	window_give_back(&w, 500, 1); /* forgotten already */
	assert_int_equal(window_since(&w, 0).count, 3);
}

/* As if it had been sent at the later time; what is forgotten stays so. */
static void
what_counted_later_is_moved(void **state)
{
	struct window w = { .count = 0 };
	int64_t sent, now;

	(void)state;
	window_add(&w, 1000, 10, 6400);
	window_add(&w, 1500, 1, 6400);
	window_move(&w, 1000, 1200, 3, 6400); /* between the two */
	window_move(&w, 1000, 1250, 2, 6400); /* within one mark */
	assert_int_equal(window_since(&w, 999).count, 11);
	assert_int_equal(window_since(&w, 1000).count, 6);
	assert_int_equal(window_since(&w, 1260).count, 1);
	assert_int_equal(window_wait_ms(&w, 1500, 1000, 1), 750);
	window_move(&w, 900, 1600, 1, 6400);
	assert_int_equal(window_since(&w, 0).count, 11);
	for (sent = 2000; sent < 9000; sent += 101) /* all marks are used */
		window_add(&w, sent, 1, 6400);
	now = sent - 101;
	assert_int_equal(w.count, WINDOW_MARKS);
	for (sent = now - 1010; sent <= now; sent += 101)
		window_move(&w, sent, sent + 50, 1, 6400);
	assert_int_equal(w.count, WINDOW_MARKS);
	assert_int_equal(window_since(&w, now).count, 1);
	assert_int_equal(window_since(&w, now - 1010).count, 11);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_burst_leaves_at_once),
		cmocka_unit_test(many_are_counted_in_bounded_memory),
		cmocka_unit_test(what_is_given_back_does_not_count),
		cmocka_unit_test(what_counted_later_is_moved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
