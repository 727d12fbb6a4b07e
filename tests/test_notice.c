/*
 * Reports to senders as text.
 *
 * wrap: random_bits
 */
#include "notice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h needs the ones above. */
#include <cmocka.h>

uint64_t __wrap_random_bits(void);

uint64_t
__wrap_random_bits(void)
{
	static uint64_t last = 0xabcdef;

	return last++;
}

/* A message with one recipient, in a report of some kind. */
struct bench {
	struct config config;
	struct entry entry;
	struct notice notice;
	struct buf out;
};

static char hostname[] = "web1.example.com", origin[] = "example.com";

static const char header[] = "Received: x\r\nSubject: the\r\n disk\r\n"
			     "Message-ID: <1@web1>\r\n";

static int
setup(void **state)
{
	struct bench *b = mem_alloc(sizeof(*b));

	b->config = (struct config){ .hostname = hostname,
		.origin = origin,
		.queue_lifetime = 86400,
		.bounce_lifetime = 3600 };
	b->entry.id = 1;
	b->entry.envelope.sender = mem_text("me@example.net");
	b->entry.envelope.arrived_ms = 1000;
	b->notice = (struct notice){ .kind = NOTICE_END,
		.config = &b->config,
		.entry = &b->entry,
		.header = span_of(header),
		.to = b->entry.envelope.sender,
		.limit = 1 << 20 };
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	envelope_clear(&b->entry.envelope);
	buf_free(&b->out);
	free(b);
	return 0;
}

static struct recipient *
add(struct bench *b, const char *address, enum recipient_state state,
    const char *reply)
{
	struct recipient *r =
	    envelope_add(&b->entry.envelope, address, address);

	r->state = state;
	if (reply != NULL)
		recipient_diagnose(r,
		    state == RECIPIENT_SENT ? "2.0.0" : "5.1.1",
		    "mx.example[192.0.2.1]:25", reply, 5000);
	return r;
}

static const char *
write_it(struct bench *b)
{
	buf_clear(&b->out);
	notice_write(&b->notice, &b->out);
	notice_end(&b->notice, &b->out);
	return buf_text(&b->out);
}

static void
assert_has(struct bench *b, const char *text)
{
	if (strstr(buf_text(&b->out), text) == NULL)
		fail_msg("no \"%s\" in\n%s", text, buf_text(&b->out));
}

static void
assert_has_not(struct bench *b, const char *text)
{
	if (strstr(buf_text(&b->out), text) != NULL)
		fail_msg("\"%s\" is in\n%s", text, buf_text(&b->out));
}

/* Every line ends in CRLF, none is too long, nothing is a control. */
static void
assert_text(const struct buf *out, bool ascii)
{
	size_t i, line = 0;

	for (i = 0; i < out->len; i++) {
		unsigned char c = (unsigned char)out->data[i];

		if (c == '\r') {
			assert_true(out->data[i + 1] == '\n');
			assert_in_range(line, 0, 998);
			line = 0;
			i++;
			continue;
		}
		assert_true(c == '\t' || (c >= ' ' && c != 0x7f));
		assert_true(!ascii || c < 0x80);
		line++;
	}
	assert_int_equal(line, 0);
}

static unsigned
count(struct bench *b, const char *text)
{
	const char *at = buf_text(&b->out);
	unsigned n = 0;

	while ((at = strstr(at, text)) != NULL) {
		at += strlen(text);
		n++;
	}
	return n;
}

static void
a_failure_is_told_to_people_and_to_programs(void **state)
{
	struct bench *b = *state;
	struct recipient *r =
	    add(b, "you@x.example", RECIPIENT_FAILED, "550 5.1.1 no such user");

	r->orcpt = mem_text("rfc822;root@web1");
	free(r->original);
	r->original = mem_text("root");
	b->entry.envelope.envid = mem_text("QQ314");
	write_it(b);
	assert_text(&b->out, true);
	assert_has(b, "\r\nTo: me@example.net\r\n");
	assert_has(b, "<MAILER-DAEMON@example.com>");
	assert_has(b, "\r\nSubject: Undelivered mail: the disk\r\n");
	assert_has(b, "\r\nIn-Reply-To: <1@web1>\r\n");
	assert_has(b, "\r\nAuto-Submitted: auto-replied\r\n");
	assert_has(b,
	    "<you@x.example> (from \"root\")\r\n"
	    "    mx.example[192.0.2.1]:25 said:\r\n"
	    "    550 5.1.1 no such user\r\n");
	assert_has(b, "Check the address");
	assert_has(b,
	    "Original-Envelope-Id: QQ314\r\n"
	    "Reporting-MTA: dns; web1.example.com\r\n");
	assert_has(b,
	    "Original-Recipient: rfc822;root@web1\r\n"
	    "Final-Recipient: rfc822; you@x.example\r\n"
	    "Action: failed\r\nStatus: 5.1.1\r\n"
	    "Remote-MTA: dns; mx.example\r\n"
	    "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
	    "Last-Attempt-Date: ");
	assert_has(b, "Content-Type: text/rfc822-headers\r\n");
	assert_has(b, "Received: x\r\n");
	assert_has_not(b, "Will-Retry-Until");
}

/* RFC 3461, section 4.1 and 5.2 */
static void
who_is_named_is_for_state_and_notify(void **state)
{
	static const struct {
		enum notice_kind kind;
		enum recipient_state state;
		unsigned notify;
		bool named;
	} rows[] = {
		{ NOTICE_END, RECIPIENT_FAILED, 0, true },
		{ NOTICE_END, RECIPIENT_FAILED, NOTIFY_NEVER, false },
		{ NOTICE_END, RECIPIENT_FAILED, NOTIFY_FAILURE, true },
		{ NOTICE_END, RECIPIENT_FAILED, NOTIFY_SUCCESS | NOTIFY_DELAY,
		    false },
		{ NOTICE_END, RECIPIENT_SENT, 0, false },
		{ NOTICE_END, RECIPIENT_SENT, NOTIFY_SUCCESS, true },
		{ NOTICE_END, RECIPIENT_WAITING, NOTIFY_FAILURE, false },
		{ NOTICE_DELAY, RECIPIENT_WAITING, 0, true },
		{ NOTICE_DELAY, RECIPIENT_WAITING, NOTIFY_DELAY, true },
		{ NOTICE_DELAY, RECIPIENT_WAITING, NOTIFY_FAILURE, false },
		{ NOTICE_DELAY, RECIPIENT_FAILED, 0, false },
		{ NOTICE_POSTMASTER, RECIPIENT_FAILED, NOTIFY_NEVER, true },
		{ NOTICE_POSTMASTER, RECIPIENT_SENT, NOTIFY_SUCCESS, false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct recipient r = { .state = rows[i].state,
			.notify = rows[i].notify,
			.last = { .status = "2.0.0" } };

		if (notice_names(rows[i].kind, &r) != rows[i].named)
			fail_msg("row %zu", i);
	}
}

static void
each_action_has_its_word(void **state)
{
	struct bench *b = *state;
	struct recipient *r =
	    add(b, "a@x.example", RECIPIENT_SENT, "250 2.0.0 Ok");

	r->notify = NOTIFY_SUCCESS;
	write_it(b);
	assert_has(b, "Subject: Relayed mail: the disk\r\n");
	assert_has(b, "Action: relayed\r\nStatus: 2.0.0\r\n");
	add(b, "b@x.example", RECIPIENT_FAILED, "550 no");
	write_it(b);
	assert_has(b, "Subject: Undelivered mail: the disk\r\n");
	assert_has(b, "Action: relayed\r\n");
	assert_has(b, "Action: failed\r\n");
	add(b, "c@x.example", RECIPIENT_WAITING, "450 later");
	b->notice.kind = NOTICE_DELAY;
	write_it(b);
	assert_has(b, "Subject: Delayed mail: the disk\r\n");
	assert_has(b, "Action: delayed\r\n");
	assert_has(b, "Will-Retry-Until: ");
	assert_has_not(b, "a@x.example");
	assert_has_not(b, "b@x.example");
}

/* J7: whatever a relayhost says. */
static void
J7_a_reply_never_breaks_the_report(void **state)
{
	static const char *const words[] = { "550 a\r\nb\r\n\r\n--",
		"550 \x80\xff", "550 --=_0000000000abcdef", "no code at all",
		"", "550", "550-\t\x01\x7f", "550    spaces   between  " };
	struct bench *b = *state;
	struct buf wide = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < 60 << 10; i++)
		buf_add_char(&wide, 'x');
	for (i = 0; i <= sizeof(words) / sizeof(words[0]); i++) {
		bool last = i == sizeof(words) / sizeof(words[0]);

		add(b, "a@x.example", RECIPIENT_FAILED,
		    last ? buf_text(&wide) : words[i]);
		write_it(b);
		assert_text(&b->out, true);
		/* Nothing but the parts' own delimiters. */
		assert_int_equal(count(b, b->notice.boundary), 5);
	}
	assert_has(b, "Diagnostic-Code: smtp; 550 a\\x0d\\x0ab");
	assert_has(b, "Diagnostic-Code: x-relayd; no code at all\r\n");
	buf_free(&wide);
}

/* RFC 6533, section 3 */
static void
a_utf8_address_is_written_in_ascii_for_programs(void **state)
{
	struct bench *b = *state;

	add(b,
	    "zo\xc3\xab+\xf0\x9f\x98\x80@b\xc3\xbc"
	    "cher.example",
	    RECIPIENT_FAILED, "550 no");
	write_it(b);
	assert_text(&b->out, false);
	assert_has(b,
	    "Final-Recipient: utf-8; "
	    "zo\\x{EB}\\x{2B}\\x{1F600}@b\\x{FC}cher.example\r\n");
	assert_has(b, "charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
	assert_has(b,
	    "message/delivery-status\r\nContent-Transfer-Encoding: 7bit\r\n");
}

static void
a_strange_header_stays_in_its_part(void **state)
{
	static const char strange[] = "Subject: Gr\xc3\xbc\xc3\x9f"
				      "e\r\nMessage-ID: <a b\x01>\r\n";
	struct bench *b = *state;

	add(b, "a@x.example", RECIPIENT_FAILED, "550 no");
	b->notice.header = span_of(strange);
	write_it(b);
	assert_has(b, "Subject: Undelivered mail: =?utf-8?q?Gr=C3=BC=C3=9Fe?=");
	assert_has_not(b, "In-Reply-To");
	assert_has(b,
	    "text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n");
	b->entry.envelope.utf8 = true;
	write_it(b);
	assert_has(b, "Content-Type: message/global-headers\r\n");
	b->notice.header = SPAN("");
	write_it(b);
	assert_has(b, "Subject: Undelivered mail: (no subject)\r\n");
}

static void
all_of_the_message_goes_behind_the_report(void **state)
{
	struct bench *b = *state;

	add(b, "a@x.example", RECIPIENT_FAILED, "550 no");
	b->notice.full = true;
	notice_write(&b->notice, &b->out);
	assert_has(b,
	    "Content-Type: message/rfc822\r\n"
	    "Content-Transfer-Encoding: 7bit\r\n\r\n");
	assert_int_equal(memcmp(b->out.data + b->out.len - 4, "\r\n\r\n", 4),
	    0);
	b->entry.has = TEXT_8BIT;
	write_it(b);
	assert_has(b, "message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n");
	assert_int_equal(count(b, "Content-Transfer-Encoding: 8bit"), 2);
}

/* J9: each has its own words, and all together they are bounded. */
static void
J9_many_recipients_have_one_report(void **state)
{
	struct bench *b = *state;
	char address[32];
	unsigned i;

	for (i = 0; i < 999; i++) {
		(void)snprintf(address, sizeof(address), "r%u@x.example", i);
		add(b, address, RECIPIENT_FAILED, "550 5.1.1 no");
	}
	write_it(b);
	assert_int_equal(count(b, "Final-Recipient:"), 999);
	assert_has(b, "... and 979 more, see the attached report\r\n");
	assert_has_not(b, "it was cut");
	b->notice.limit = 10000;
	write_it(b);
	assert_in_range(b->out.len, 10000, 20000);
	assert_in_range(count(b, "Final-Recipient:"), 20, 200);
	(void)snprintf(address, sizeof(address), "first %u of them",
	    count(b, "Final-Recipient:"));
	assert_has(b, address);
}

static void
a_header_is_cut_at_the_end_of_a_line(void **state)
{
	struct bench *b = *state;

	add(b, "a@x.example", RECIPIENT_FAILED, "550 no");
	b->notice.limit = strlen("Received: x\r\nSub");
	write_it(b);
	assert_has(b, "\r\n\r\nReceived: x\r\n\r\n--");
}

int
main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_failure_is_told_to_people_and_to_programs),
		T(who_is_named_is_for_state_and_notify),
		T(each_action_has_its_word),
		T(J7_a_reply_never_breaks_the_report),
		T(a_utf8_address_is_written_in_ascii_for_programs),
		T(a_strange_header_stays_in_its_part),
		T(all_of_the_message_goes_behind_the_report),
		T(J9_many_recipients_have_one_report),
		T(a_header_is_cut_at_the_end_of_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
