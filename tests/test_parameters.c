/* parameters.c; numbers are those of the catalogue of bad input. */
#include "relayd.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* The words of a refusal are free, its codes are not. */
static void
assert_refusal(const char *what, const char *got, const char *codes)
{
	bool equal = codes == NULL
	    ? got == NULL
	    : got != NULL && strncmp(got, codes, strlen(codes)) == 0;

	if (!equal)
		fail_msg("%s: %s, not %s", what, got ? got : "accepted",
		    codes ? codes : "accepted");
}

static void
mail_parameters_are_read_or_refused(void **state)
{
	static const struct {
		const char *text, *codes;
		uint64_t size;
		bool eight_bit, utf8;
	} rows[] = {
		{ "", NULL, 0, false, false },
		{ "SIZE=52428800", NULL, 52428800, false, false },
		{ "size=0", NULL, 0, false, false },
		{ "BODY=7BIT", NULL, 0, false, false }, /* A43 */
		{ "body=8bitmime", NULL, 0, true, false },
		{ "SMTPUTF8", NULL, 0, false, true },
		{ "SIZE=1 BODY=8BITMIME  SMTPUTF8", NULL, 1, true, true },
		{ "SIZE=99999999999999999999", "552 5.3.4", 0, 0, 0 }, /* A41 */
		{ "SIZE=-1", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=", "501 5.5.4", 0, 0, 0 },
		{ "SIZE", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=1x", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=0x10", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=9999999999999999999999x", "501 5.5.4", 0, 0, 0 },
		{ "BODY=9BIT", "501 5.5.4", 0, 0, 0 },
		{ "BODY", "501 5.5.4", 0, 0, 0 },
		{ "BODY=BINARYMIME", "555 5.5.4", 0, 0, 0 },
		{ "SMTPUTF8=x", "501 5.5.4", 0, 0, 0 },
		{ "FOO=BAR", "555 5.5.4", 0, 0, 0 }, /* A44 */
		{ "FOO", "555 5.5.4", 0, 0, 0 },
		{ "=x", "501 5.5.4", 0, 0, 0 },
		{ "F\x1bO", "501 5.5.4", 0, 0, 0 },
		{ "-F", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=1 SIZE=2", "501 5.5.4", 0, 0, 0 },
		{ "RET=FULL", "555 5.5.4", 0, 0, 0 },
		{ "ENVID=a", "555 5.5.4", 0, 0, 0 },
	};
	struct smtp_mail mail;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_refusal(rows[i].text,
		    smtp_mail_parameters(span_of(rows[i].text), &mail),
		    rows[i].codes);
		if (rows[i].codes != NULL)
			continue;
		assert_int_equal(mail.size, rows[i].size);
		assert_int_equal(mail.eight_bit, rows[i].eight_bit);
		assert_int_equal(mail.utf8, rows[i].utf8);
	}
}

static void
rcpt_has_no_parameters(void **state) /* A46 */
{
	(void)state;
	assert_null(smtp_rcpt_parameters(SPAN("")));
	assert_refusal("ORCPT",
	    smtp_rcpt_parameters(SPAN("ORCPT=rfc822;a+0Ab@c")), "555 5.5.4");
	assert_refusal("NOTIFY", smtp_rcpt_parameters(SPAN("NOTIFY=NEVER")),
	    "555 5.5.4");
	assert_refusal("=", smtp_rcpt_parameters(SPAN("=x")), "501 5.5.4");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_parameters_are_read_or_refused),
		cmocka_unit_test(rcpt_has_no_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
