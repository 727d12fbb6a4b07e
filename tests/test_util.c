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

static void
a_histogram_counts_each_in_the_bucket_of_its_bound(void **state)
{
	struct histogram h = { .count = 0 };
	int64_t last = histogram_bound_ms(HISTOGRAM_BUCKETS - 1), sum = 0;
	size_t i;

	(void)state;
	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		int64_t bound = histogram_bound_ms(i);

		assert_true(i == 0 || bound > histogram_bound_ms(i - 1));
		histogram_add(&h, bound);
		histogram_add(&h, bound);
		histogram_add(&h, bound + 1); /* is the next one's */
		sum += 3 * bound + 1;
	}
	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		assert_int_equal(h.bucket[i], i == 0 ? 2 : 3);
	assert_int_equal(h.count, 3 * HISTOGRAM_BUCKETS);
	assert_int_equal(h.sum_ms, sum);
	assert_int_equal(h.longest_ms, last + 1);
	histogram_add(&h, -5); /* the clock was set back */
	assert_int_equal(h.bucket[0], 3);
	assert_int_equal(h.sum_ms, sum);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_histogram_counts_each_in_the_bucket_of_its_bound),
		cmocka_unit_test(rates_are_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
