/*
 * At most so many reports to one address.
 */
#include "notice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

/* cmocka.h needs the ones above. */
#include <cmocka.h>

enum { HOUR = 3600 * 1000 };

static unsigned
take(struct ration *r, const char *address, int64_t now_ms, unsigned times)
{
	unsigned given = 0;

	while (times-- > 0)
		given += ration_take(r, address, now_ms);
	return given;
}

static void
J14_ten_in_any_hour(void **state)
{
	struct ration *r = ration_new();

	(void)state;
	assert_int_equal(take(r, "a@b", 1, 4), 4);
	assert_int_equal(take(r, "a@b", HOUR / 2, 20), 6);
	assert_int_equal(take(r, "A@B", HOUR / 2, 1), 0);
	assert_int_equal(take(r, "c@b", HOUR / 2, 1), 1);
	assert_int_equal(take(r, "a@b", HOUR, 20), 0);
	assert_int_equal(take(r, "a@b", HOUR + 1, 20), 4);
	assert_int_equal(take(r, "a@b", HOUR / 2 * 3, 20), 6);
	ration_free(r);
}

/* Whoever comes when the table is full gets none, until it is an hour old. */
static void
J14_many_addresses_are_bounded(void **state)
{
	struct ration *r = ration_new();
	unsigned i, given = 0;
	char address[32];

	(void)state;
	for (i = 0; i < 3000; i++) {
		(void)snprintf(address, sizeof(address), "a%u@b", i);
		given += ration_take(r, address, 1);
	}
	assert_int_equal(given, 1000);
	assert_int_equal(take(r, "a1@b", 2, 20), 9);
	assert_int_equal(take(r, address, HOUR + 1, 1), 1);
	assert_int_equal(take(r, "a1@b", HOUR + 1, 20), 1);
	ration_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(J14_ten_in_any_hour),
		cmocka_unit_test(J14_many_addresses_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
