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
		{ "FOO", "555 5.5.4", 0, 0, 0 }, { "=x", "501 5.5.4", 0, 0, 0 },
		{ "F\x1bO", "501 5.5.4", 0, 0, 0 },
		{ "-F", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=1 SIZE=2", "501 5.5.4", 0, 0, 0 },
		{ "SIZE=1 FOO SIZE=x", "555 5.5.4", 0, 0, 0 },
		{ "NOTIFY=NEVER", "555 5.5.4", 0, 0, 0 }, /* it is RCPT's */
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

/* A value of count octets, each of them this, behind the start. */
static void
long_value(struct buf *b, const char *start, size_t count, const char *each)
{
	buf_clear(b);
	buf_add_text(b, start);
	while (count-- > 0)
		buf_add_text(b, each);
}

static void
mail_takes_ret_and_envid(void **state) /* A45 */
{
	static const struct {
		const char *text;
		enum dsn_return ret;
		const char *envid;
	} rows[] = {
		{ "", RETURN_NOT_SAID, "" },
		{ "RET=FULL", RETURN_FULL, "" },
		{ "ret=hdrs", RETURN_HEADERS, "" },
		{ "ENVID=QQ314159", RETURN_NOT_SAID, "QQ314159" },
		{ "ENVID=", RETURN_NOT_SAID, "" },
		{ "ENVID=a+2Bb+3Dc+20d+7E RET=FULL", RETURN_FULL, "a+b=c d~" },
		{ "ENVID=+2b", RETURN_NOT_SAID, "+" },
		{ "ENVID=!~", RETURN_NOT_SAID, "!~" },
	};
	struct smtp_mail mail;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_refusal(rows[i].text,
		    smtp_mail_parameters(span_of(rows[i].text), &mail), NULL);
		assert_int_equal(mail.ret, rows[i].ret);
		assert_string_equal(mail.envid, rows[i].envid);
	}
}

static void
rcpt_takes_notify_and_orcpt(void **state)
{
	static const struct {
		const char *text;
		unsigned notify;
		const char *orcpt;
	} rows[] = {
		{ "", 0, "" },
		{ "NOTIFY=NEVER", NOTIFY_NEVER, "" },
		{ "notify=success", NOTIFY_SUCCESS, "" },
		{ "NOTIFY=DELAY,failure,Success",
		    NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY, "" },
		{ "ORCPT=rfc822;a@b", 0, "rfc822;a@b" },
		{ "ORCPT=RFC822;a+2Bx@b NOTIFY=DELAY", NOTIFY_DELAY,
		    "RFC822;a+x@b" },
		{ "ORCPT=x-y_z;;+20", 0, "x-y_z;; " },
		{ "ORCPT=utf-8;\\x{E4}@b", 0, "utf-8;\\x{E4}@b" },
	};
	struct smtp_rcpt rcpt;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_refusal(rows[i].text,
		    smtp_rcpt_parameters(span_of(rows[i].text), &rcpt), NULL);
		assert_int_equal(rcpt.notify, rows[i].notify);
		assert_string_equal(rcpt.orcpt, rows[i].orcpt);
	}
}

static void
bad_values_of_dsn_are_refused(void **state) /* A44 to A46 */
{
	static const char *const mail_rows[] = { "RET", "RET=", "RET=X",
		"RET=FULL,HDRS", "RET=FULL RET=FULL", "ENVID", "ENVID=a+0Db",
		"ENVID=a+0Ab", "ENVID=+00", "ENVID=+09", "ENVID=+1F",
		"ENVID=+7F", "ENVID=+80", "ENVID=+C3+A4", "ENVID=+FF",
		"ENVID=a+3", "ENVID=a+", "ENVID=a+zz", "ENVID=a+2z",
		"ENVID=a+z2", "ENVID=a+:0", "ENVID=a+@0", "ENVID=a+G0",
		"ENVID=a+`0", "ENVID=a++", "ENVID=a=b", "ENVID=\xc3\xa4",
		"ENVID=a\x1b", "ENVID=a\x7f", "ENVID=a\tb", "ENVID=a ENVID=b" };
	static const char *const rcpt_rows[] = { "NOTIFY",
		"NOTIFY=", "NOTIFY=X", "NOTIFY=NEVER,SUCCESS",
		"NOTIFY=SUCCESS,NEVER", "NOTIFY=NEVER,NEVER", "NOTIFY=SUCCESS,",
		"NOTIFY=,SUCCESS", "NOTIFY=SUCCESS,,DELAY",
		"NOTIFY=SUCCESS,SUCCESS", "NOTIFY=SUCCESSX", "NOTIFY=SUCCES",
		"NOTIFY=SUCCESS NOTIFY=SUCCESS", "ORCPT",
		"ORCPT=", "ORCPT=rfc822", "ORCPT=rfc822;", "ORCPT=;a@b",
		"ORCPT=rfc822;a+0Ab@c", "ORCPT=rfc822;a+0Db@c",
		"ORCPT=rfc822;a+", "ORCPT=rfc822;a+3", "ORCPT=rfc822;a+zz",
		"ORCPT=rfc822;+C3+A4@b", "ORCPT=rfc822;\xc3\xa4@b",
		"ORCPT=rfc822;a=b@c", "ORCPT=rfc(822;a@b", "ORCPT=a@b;c",
		"ORCPT=rfc\x1b;a@b", "ORCPT=rfc\xc3\xa4;a@b", "ORCPT=a=b;c",
		"ORCPT=rfc822;a@b ORCPT=rfc822;a@b", "=x" };
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(mail_rows); i++)
		assert_refusal(mail_rows[i],
		    smtp_mail_parameters(span_of(mail_rows[i]), &mail),
		    "501 5.5.4");
	for (i = 0; i < COUNT(rcpt_rows); i++)
		assert_refusal(rcpt_rows[i],
		    smtp_rcpt_parameters(span_of(rcpt_rows[i]), &rcpt),
		    "501 5.5.4");
	assert_refusal("NUL", smtp_mail_parameters(SPAN("ENVID=a\0b"), &mail),
	    "501 5.5.4");
	assert_refusal("NUL",
	    smtp_rcpt_parameters(SPAN("ORCPT=rfc\0;b"), &rcpt), "501 5.5.4");
	/* What stands behind the line is none of its value. */
	assert_refusal("+4|1",
	    smtp_mail_parameters(span_first(SPAN("ENVID=+41"), 8), &mail),
	    "501 5.5.4");
	assert_refusal("RET", smtp_rcpt_parameters(SPAN("RET=FULL"), &rcpt),
	    "555 5.5.4");
}

static void
limits_of_dsn_hold_at_their_edge(void **state) /* A45 */
{
	struct buf b = { 0 };
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;

	(void)state;
	long_value(&b, "ENVID=", LIMIT_ENVID, "x");
	assert_null(smtp_mail_parameters(buf_span(&b), &mail));
	assert_int_equal(strlen(mail.envid), LIMIT_ENVID);
	long_value(&b, "ENVID=", LIMIT_ENVID + 1, "x");
	assert_refusal("101", smtp_mail_parameters(buf_span(&b), &mail),
	    "501 5.5.4");
	long_value(&b, "ENVID=", LIMIT_ENVID / 3 + 1, "+2B");
	assert_refusal("102 as xtext",
	    smtp_mail_parameters(buf_span(&b), &mail), "501 5.5.4");
	long_value(&b, "ORCPT=rfc822;", LIMIT_ORCPT - 7, "x");
	assert_null(smtp_rcpt_parameters(buf_span(&b), &rcpt));
	assert_int_equal(strlen(rcpt.orcpt), LIMIT_ORCPT);
	long_value(&b, "ORCPT=rfc822;", LIMIT_ORCPT - 6, "x");
	assert_refusal("501", smtp_rcpt_parameters(buf_span(&b), &rcpt),
	    "501 5.5.4");
	long_value(&b, "", LIMIT_ENVID, "x");
	assert_true(dsn_envid_valid(buf_span(&b)));
	long_value(&b, "", LIMIT_ENVID + 1, "x");
	assert_false(dsn_envid_valid(buf_span(&b)));
	long_value(&b, "", LIMIT_ENVID / 3, "+");
	assert_true(dsn_envid_valid(buf_span(&b)));
	long_value(&b, "", LIMIT_ENVID / 3 + 1, "+");
	assert_false(dsn_envid_valid(buf_span(&b)));
	assert_false(dsn_envid_valid(SPAN("")));
	assert_false(dsn_envid_valid(SPAN("a\nb")));
	assert_false(dsn_envid_valid(SPAN("\xc3\xa4")));
	assert_false(dsn_envid_valid(SPAN("a\x7f")));
	buf_free(&b);
}

/* What the peer is told; what is read from it again is the same. */
static void
parameters_of_dsn_are_written_as_they_are_read(void **state)
{
	static const struct {
		const char *mail, *mail_out, *rcpt, *rcpt_out;
	} rows[] = {
		{ "", "", "", "" },
		{ "envid=a+2b+20c ret=full", " RET=FULL ENVID=a+2B+20c",
		    "notify=delay,success orcpt=rfc822;+61+3Db@c",
		    " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+3Db@c" },
		{ "RET=HDRS", " RET=HDRS", "NOTIFY=NEVER", " NOTIFY=NEVER" },
		{ "ENVID=x", " ENVID=x", "ORCPT=a;b;+2B+2B",
		    " ORCPT=a;b;+2B+2B" },
		{ "SIZE=1 BODY=8BITMIME SMTPUTF8 ENVID=", "", "NOTIFY=FAILURE",
		    " NOTIFY=FAILURE" },
	};
	struct buf out = { 0 };
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;
	const char *from, *to;
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		from = rows[i].mail;
		to = rows[i].rcpt;
		for (n = 0; n < 2; n++) {
			assert_null(smtp_mail_parameters(span_of(from), &mail));
			assert_null(smtp_rcpt_parameters(span_of(to), &rcpt));
			buf_clear(&out);
			dsn_add_mail(&out, mail.ret, mail.envid);
			assert_string_equal(buf_text(&out), rows[i].mail_out);
			buf_clear(&out);
			dsn_add_rcpt(&out, rcpt.notify, rcpt.orcpt);
			assert_string_equal(buf_text(&out), rows[i].rcpt_out);
			from = rows[i].mail_out;
			to = rows[i].rcpt_out;
		}
	}
	buf_clear(&out);
	dsn_add_mail(&out, RETURN_NOT_SAID, NULL);
	dsn_add_rcpt(&out, 0, NULL);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_parameters_are_read_or_refused),
		cmocka_unit_test(mail_takes_ret_and_envid),
		cmocka_unit_test(rcpt_takes_notify_and_orcpt),
		cmocka_unit_test(bad_values_of_dsn_are_refused),
		cmocka_unit_test(limits_of_dsn_hold_at_their_edge),
		cmocka_unit_test(
		    parameters_of_dsn_are_written_as_they_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
