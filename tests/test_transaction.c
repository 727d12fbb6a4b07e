/* transaction.c: the commands it writes; the dialogue is in test_relay.c. */
#include "../transaction.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The commands of a transaction up to DATA. */
static void
expect_commands(struct delivery *d, unsigned can, const char *commands)
{
	struct transaction *t = transaction_new(d, can);
	struct buf out = { 0 };

	while (t->step < STEP_DATA)
		(void)transaction_command(t, can, &out);
	assert_string_equal(buf_text(&out), commands);
	buf_free(&out);
	transaction_free(t);
}

static void
what_the_sender_asked_for_goes_where_dsn_is_offered(void **state)
{
	struct delivery_recipient to[] = { { .index = 0 }, { .index = 2 } };
	struct entry e = { .size = 3, .envelope = { .eight_bit = true } };
	struct delivery d = { .entry = &e,
		.recipient = to,
		.recipient_count = 2 };
	struct recipient *r;

	(void)state;
	e.envelope.sender = mem_text("s@x.org");
	(void)envelope_add(&e.envelope, "r1@x.org", "r1@x.org");
	(void)envelope_add(&e.envelope, "r2@x.org", "r2@x.org");
	(void)envelope_add(&e.envelope, "r3@x.org", "r3@x.org");
	expect_commands(&d, SMTP_CAN_DSN,
	    "MAIL FROM:<s@x.org>\r\nRCPT TO:<r1@x.org>\r\n"
	    "RCPT TO:<r3@x.org>\r\n");
	e.envelope.ret = RETURN_HEADERS;
	e.envelope.envid = mem_text("a+b c=");
	r = e.envelope.recipient;
	r[1].notify = NOTIFY_NEVER;
	r[2].notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
	r[2].orcpt = mem_text("rfc822;q+r@x.org");
	expect_commands(&d, SMTP_CAN_DSN | SMTP_CAN_SIZE | SMTP_CAN_8BITMIME,
	    "MAIL FROM:<s@x.org> SIZE=3 BODY=8BITMIME RET=HDRS "
	    "ENVID=a+2Bb+20c+3D\r\nRCPT TO:<r1@x.org>\r\n"
	    "RCPT TO:<r3@x.org> NOTIFY=SUCCESS,FAILURE "
	    "ORCPT=rfc822;q+2Br@x.org\r\n");
	expect_commands(&d, 0,
	    "MAIL FROM:<s@x.org>\r\nRCPT TO:<r1@x.org>\r\n"
	    "RCPT TO:<r3@x.org>\r\n");
	envelope_clear(&e.envelope);
}

static void
another_sender_stands_in_for_the_null_sender(void **state)
{
	static const struct {
		const char *sender, *null_sender, *mail;
	} rows[] = {
		{ "", NULL, "MAIL FROM:<>\r\n" },
		{ "", "", "MAIL FROM:<>\r\n" },
		{ "", "b@x.org", "MAIL FROM:<b@x.org>\r\n" },
		{ "s@x.org", "b@x.org", "MAIL FROM:<s@x.org>\r\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct entry e = { .size = 3 };
		struct delivery d = { .entry = &e };
		struct transaction *t = transaction_new(&d, 0);
		struct buf out = { 0 };

		e.envelope.sender = mem_text(rows[i].sender);
		t->null_sender = rows[i].null_sender;
		assert_int_equal(transaction_command(t, 0, &out), COMMAND_MAIL);
		assert_string_equal(buf_text(&out), rows[i].mail);
		buf_free(&out);
		transaction_free(t);
		envelope_clear(&e.envelope);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_the_sender_asked_for_goes_where_dsn_is_offered),
		cmocka_unit_test(another_sender_stands_in_for_the_null_sender),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
