/*
 * provider.c: what the replies of providers mean, word for word as they come.
 */
#include "../relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
replies_mean_what_their_provider_says(void **state)
{
	static const struct {
		const char *reply;
		enum reply_cause cause;
	} cases[] = {
		/* Amazon SES */
		{ "454 Throttling failure: Maximum sending rate exceeded",
		    CAUSE_RATE },
		{ "454 Throttling failure: Daily message quota exceeded",
		    CAUSE_QUOTA },
		{ "421 Too many concurrent SMTP connections",
		    CAUSE_CONNECTIONS },
		{ "554 Message rejected: Email address is not verified. The "
		  "following identities failed the check in region EU-WEST-1",
		    CAUSE_SENDER },
		{ "530 Authentication required", CAUSE_ACCOUNT },
		/* Gmail */
		{ "550 5.4.5 Daily user sending limit exceeded", CAUSE_QUOTA },
		{ "550 5.7.1 Daily SMTP relay limit exceeded for customer",
		    CAUSE_QUOTA },
		{ "450 4.2.1 Peak SMTP relay limit exceeded for customer",
		    CAUSE_RATE },
		{ "450 4.2.1 The user you are trying to contact is receiving "
		  "mail at a rate that prevents additional messages",
		    CAUSE_MESSAGE },
		{ "452 4.2.2 The recipient's mailbox is over quota",
		    CAUSE_MESSAGE },
		{ "534 5.7.9 Application-specific password required",
		    CAUSE_ACCOUNT },
		/* Microsoft 365 */
		{ "432 4.3.2 Concurrent connections limit exceeded",
		    CAUSE_CONNECTIONS },
		{ "550 5.7.30 Basic authentication is not supported for "
		  "Client Submission",
		    CAUSE_ACCOUNT },
		{ "550 5.7.60 SMTP; Client does not have permissions to send "
		  "as this sender",
		    CAUSE_SENDER },
		{ "554 5.2.0 STOREDRV.Submission.Exception:"
		  "SubmissionQuotaExceededException",
		    CAUSE_QUOTA },
		/* Postfix, SendGrid, Postmark, anybody */
		{ "553 5.7.1 <a@b.example>: Sender address rejected: not "
		  "owned by user c@b.example",
		    CAUSE_SENDER },
		{ "550 The from address does not match a verified Sender "
		  "Identity",
		    CAUSE_SENDER },
		{ "450 4.7.0 rate", CAUSE_RATE },
		{ "450 4.7.1 Error: too much mail from 192.0.2.1", CAUSE_RATE },
		{ "421 4.7.0 mx Error: too many connections from 192.0.2.1",
		    CAUSE_CONNECTIONS },
		{ "421 4.3.2 Too many open connections.", CAUSE_CONNECTIONS },
		{ "450 4.7.1 <c@d.example>: Recipient address rejected: "
		  "Greylisted, see ...",
		    CAUSE_MESSAGE },
		{ "550 5.1.1 no such user", CAUSE_MESSAGE },
		{ "554 5.7.1 Spam message rejected", CAUSE_MESSAGE },
		{ "250 2.0.0 OK, sending rate noted", CAUSE_MESSAGE },
	};
	char status[12];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int code = (cases[i].reply[0] - '0') * 100 +
		    (cases[i].reply[1] - '0') * 10 + cases[i].reply[2] - '0';

		smtp_reply_status(cases[i].reply, code, status);
		if (reply_cause(code, status, cases[i].reply) != cases[i].cause)
			fail_msg("%s", cases[i].reply);
	}
}

static void
every_preset_is_found_and_told(void **state)
{
	static const char *const names[] = { "gmail", "gmail-relay", "ses",
		"sendgrid", "mailgun", "office365", "fastmail", "postmark" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_non_null(preset_find(span_of(names[i])));
		assert_null(preset_check(span_of(names[i])));
	}
	assert_null(preset_find(SPAN("Gmail")));
	assert_non_null(preset_check(SPAN("gmai")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_mean_what_their_provider_says),
		cmocka_unit_test(every_preset_is_found_and_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
