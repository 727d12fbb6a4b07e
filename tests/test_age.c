/*
 * Ages, while the clock is set.
 */
#include "../sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { HOUR = 3600 * 1000 };
static const int64_t year = (int64_t)8766 * HOUR;

/* Real time goes on by hours and then the clock is set forward by so much. */
static void
pass(struct age_clock *c, struct instant *now, int64_t hours, int64_t set_ms)
{
	now->mono_ms += hours * HOUR;
	now->wall_ms += hours * HOUR;
	age_look(c, *now);
	now->wall_ms += set_ms;
	age_look(c, *now);
}

static void
assert_age(const struct age_clock *c, struct instant now, int64_t arrived_ms,
    int64_t hours)
{
	assert_int_equal(age_ms(c, now, arrived_ms), hours * HOUR);
}

static void
age_is_that_of_the_wall_clock(void **state)
{
	struct age_clock c = { .looked = false };
	struct instant now = { 5, year };

	(void)state;
	pass(&c, &now, 3, 0);
	assert_age(&c, now, year, 3);
	assert_age(&c, now, year - HOUR, 4); /* from before the start */
	pass(&c, &now, 1, 59 * 1000);        /* no step */
	assert_int_equal(age_ms(&c, now, year), 4 * HOUR + 59 * 1000);
}

static void
H21_set_forward(void **state)
{
	struct age_clock c = { .looked = false };
	struct instant now = { 0, HOUR };
	int64_t before;

	(void)state;
	pass(&c, &now, 1, 0);
	before = now.wall_ms;
	pass(&c, &now, 2, 50 * year);
	assert_age(&c, now, before, 2);
	assert_age(&c, now, now.wall_ms, 0); /* and of what comes now */
	before = now.wall_ms;
	/* What was dated rightly before a start at a wrong time. */
	assert_int_equal(age_ms(&c, now, 50 * year), 4 * HOUR);
	pass(&c, &now, 4, 0);
	assert_age(&c, now, before, 4);
}

static void
H21_set_forward_and_back(void **state)
{
	struct age_clock c = { .looked = false };
	struct instant now = { 0, year };

	(void)state;
	pass(&c, &now, 1, 10 * year);
	assert_age(&c, now, year, 1);
	pass(&c, &now, 1, -10 * year);
	assert_age(&c, now, year, 2);
	/* Back alone makes nothing older. */
	pass(&c, &now, 1, -year);
	assert_int_equal(age_ms(&c, now, year), 3 * HOUR - year);
	pass(&c, &now, 1, year);
	assert_in_range(age_ms(&c, now, year) + year, 0, year + 4 * HOUR);
}

/* K17: for sleep, the clock of the waits stands still. */
static void
K17_sleep_does_not_count(void **state)
{
	struct age_clock c = { .looked = false };
	struct instant now = { 0, year };
	int i;

	(void)state;
	for (i = 0; i < 30; i++)
		pass(&c, &now, 1, (int64_t)23 * HOUR);
	assert_age(&c, now, year, 30);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(age_is_that_of_the_wall_clock),
		cmocka_unit_test(H21_set_forward),
		cmocka_unit_test(H21_set_forward_and_back),
		cmocka_unit_test(K17_sleep_does_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
