/* util.c */
#include "../relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void
rates_are_read_or_refused(void **state)
{
	static const struct {
		const char *text;
		double per_second; /* 0: refused */
	} rows[] = {
		{ "14/s", 14 },
		{ "0.5/s", 0.5 },
		{ "30/m", 0.5 },
		{ "1.25/m", 1.25 / 60 },
		{ "3600/h", 1 },
		{ "2000/d", 2000.0 / 86400 },
		{ "0.000000001/s", 0.000000001 },
		{ "999999999.999999999/s", 999999999.999999999 },
		{ "", 0 },
		{ "/", 0 },
		{ "/s", 0 },
		{ "14", 0 },
		{ "14/", 0 },
		{ "14/x", 0 },
		{ "14/ss", 0 },
		{ "14/s/s", 0 },
		{ "14 /s", 0 },
		{ " 14/s", 0 },
		{ "14/s ", 0 },
		{ "0/s", 0 },
		{ "0.0/s", 0 },
		{ ".5/s", 0 },
		{ "5./s", 0 },
		{ "1.2.3/s", 0 },
		{ "-1/s", 0 },
		{ "+1/s", 0 },
		{ "1e3/s", 0 },
		{ "0x10/s", 0 },
		{ "nan/s", 0 },
		{ "1000000000/s", 0 },
		{ "0.0000000001/s", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		double got = 0;
		bool valid = parse_rate(span_of(rows[i].text), &got);

		if (valid != (rows[i].per_second > 0) ||
		    got < rows[i].per_second * 0.999999999 ||
		    got > rows[i].per_second * 1.000000001)
			fail_msg("%s: %d, %.12f", rows[i].text, valid, got);
	}
	assert_false(parse_rate((struct span){ "1/\0", 3 }, &(double){ 0 }));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_are_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
