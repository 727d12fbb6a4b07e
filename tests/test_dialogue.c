/*
 * The dialogue with a client; case numbers are those of the catalogue of bad
 * input.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: sched_waits random_bits log_info log_warning accept4
 */
#include "submission.h"

/* ---- commands ---- */

static const struct {
	const char *text;
	const char *codes;
} commands[] = {
	{ "", "220 open" }, { "\r\n", "220 500 open" },            /* A8 */
	{ HELLO "RCPT TO:<c@d.example>\r\n", "220 250 503 open" }, /* A11 */
	{ HELLO "DATA\r\n", "220 250 503 open" },                  /* A12 */
	{ HELLO "MAIL FROM:<>\r\nDATA\r\n", "220 250 250 554 open" },
	{ HELLO ENVELOPE HELLO "RCPT TO:<c@d.example>\r\n", /* A14 */
	    "220 250 250 250 250 503 open" },
	{ "RSET x\r\nRSET\r\n", "220 501 250 open" }, /* A15 */
	{ HELLO ENVELOPE "RSET\r\nDATA\r\n", "220 250 250 250 250 503 open" },
	{ "EHLO\r\nHELO\r\nEHLO \r\n", "220 501 501 501 open" },
	{ "EHLO <script>\x1b[31m\r\n", "220 501 open" }, /* A21 */
	{ "EHLO [127.0.0.1]\r\nEHLO [IPv6:::1]\r\nEHLO a_b\r\n",
	    "220 250 250 250 open" },          /* A22 */
	{ "HELO x\nMAIL FROM:<a@b.example>\n", /* A23 */
	    "220 250 250 open" },
	{ HELLO "MAIL FROM:<a@b.example>\r\r\n"
		"MAIL FROM:<a@b.example\r>\r\n", /* A24 */
	    "220 250 500 500 open" },
	{ HELLO "MAIL  FROM:<a@b.example>\r\n", "220 250 501 open" },
	{ HELLO "MAIL FROM: <a@b.example>\r\n", "220 250 250 open" },
	{ HELLO "MAIL FROM:<\xc3\xa4@b.example>\r\n", /* A34 */
	    "220 250 553 open" },
	{ HELLO "MAIL FROM:<a@b.example> SMTPUTF8\r\n"
		"RCPT TO:<\xc3\xa4@b.example>\r\n",
	    "220 250 250 250 open" },
	{ HELLO "MAIL FROM:<a@b.example>\r\n"
		"RCPT TO:<\xc3\xa4@b.example>\r\n",
	    "220 250 250 553 open" },
	{ HELLO "MAIL FROM:<> SIZE=1048576\r\n", "220 250 250 open" },
	{ HELLO "MAIL FROM:<> SIZE=1048577\r\n", "220 250 552 open" },
	{ HELLO "MAIL FROM:<> SIZE=99999999999999999999\r\n",
	    "220 250 552 open" }, /* A41 */
	{ HELLO "MAIL FROM:<> FOO=BAR\r\n", "220 250 555 open" },
	{ HELLO "MAIL FROM:<> ENVID=a+0Db\r\nRCPT TO:<c@d.example>\r\n",
	    "220 250 501 503 open" }, /* A45 */
	{ HELLO "MAIL FROM:<> RET=FULL ENVID=a\r\n"
		"RCPT TO:<c@d.example> ORCPT=rfc822;a+0Ab@c\r\n"
		"RCPT TO:<c@d.example> NOTIFY=NEVER,DELAY\r\nDATA\r\n",
	    "220 250 250 501 501 554 open" }, /* A46 */
	{ HELLO "MAIL FROM:<>\r\nRCPT TO:<>\r\n", "220 250 250 501 open" },
	{ HELLO "MAIL FROM:<>\r\nMAIL FROM:<>\r\n", "220 250 250 503 open" },
	{ "MAIL FROM:<>\r\n", "220 503 open" },
	{ HELLO ENVELOPE "DATA x\r\n", "220 250 250 250 501 open" },
	{ "AUTH PLAIN x\r\nSTARTTLS\r\nEXPN x\r\n", /* A53 */
	    "220 503 502 502 open" },
	{ "NOOP x\r\nHELP\r\nVRFY x\r\n", "220 250 214 252 open" },
	{ "QUIT\r\nNOOP\r\n", "220 221 closed" }, /* A52 */
	{ "GET / HTTP/1.1\r\nHost: x\r\n", "220 421 closed" },
	{ "X\r\nHost: x\r\n", "220 500 421 closed" }, /* A49 */
	{ "\x16\x03\x01\x02", "220 500 closed" },     /* A50 */
};

static void
commands_get_their_replies(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		play_text(commands[i].text, commands[i].codes);
	play(SPAN("EHLO a\0b\r\n"), "220 500 open"); /* A20 */
	assert_int_equal(world.begun, 0);
	assert_true(logged("TLS on a plain port"));
}

static void
ehlo_offers_what_works_and_nothing_else(void **state)
{
	struct buf replies = { 0 };
	int fd = open_session();

	(void)state;
	assert_true(tell_text(fd, HELLO, &replies));
	assert_string_equal(buf_text(&replies),
	    "220 web1.example.com ESMTP relayd\r\n250-web1.example.com\r\n"
	    "250-PIPELINING\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n"
	    "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n"
	    "250 CHUNKING\r\n");
	buf_free(&replies);
	(void)close(fd);
}

/* A31 */
static void
command_lines_have_a_limit(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_printf(&b, "NOOP %*s\r\n", LIMIT_COMMAND - 7, "");
	play(buf_span(&b), "220 250 open");
	buf_clear(&b);
	buf_printf(&b, "NOOP %*s\r\nNOOP\r\n", LIMIT_COMMAND - 6, "");
	play(buf_span(&b), "220 500 250 open");
	buf_clear(&b);
	buf_printf(&b, "%*s\r\nNOOP\r\n", LIMIT_COMMAND_FLOOD - 2, "");
	play(buf_span(&b), "220 500 250 open");
	buf_clear(&b);
	buf_printf(&b, "%*s\r\nNOOP\r\n", LIMIT_COMMAND_FLOOD - 1, "");
	play(buf_span(&b), "220 421 closed");
	buf_clear(&b);
	buf_printf(&b, "%*s", 1 << 20, "");
	play(buf_span(&b), "220 421 closed");
	buf_free(&b);
}

/* A51 */
static void
errors_and_junk_have_a_limit(void **state)
{
	struct buf text = { 0 }, expected = { 0 };
	unsigned i;

	(void)state;
	buf_add_text(&expected, "220");
	for (i = 0; i < LIMIT_ERRORS; i++) {
		buf_add_text(&text, "X\r\n");
		buf_add_text(&expected, " 500");
	}
	buf_add_text(&text, "NOOP\r\n");
	buf_add_text(&expected, " 421 closed");
	play(buf_span(&text), buf_text(&expected));

	buf_clear(&text);
	buf_clear(&expected);
	buf_add_text(&expected, "220 250");
	buf_add_text(&text, HELLO);
	for (i = 1; i < LIMIT_JUNK; i++) {
		buf_add_text(&text, i % 2 == 0 ? "NOOP\r\n" : "RSET\r\n");
		buf_add_text(&expected, " 250");
	}
	buf_add_text(&text, ENVELOPE "BDAT 0 LAST\r\nNOOP\r\n");
	buf_add_text(&expected, " 250 250 250 250 open");
	play(buf_span(&text), buf_text(&expected)); /* begins anew */

	buf_clear(&text);
	buf_add_text(&text, HELLO);
	for (i = 0; i < LIMIT_JUNK; i++)
		buf_add_text(&text, "NOOP\r\n");
	buf_clear(&expected);
	buf_add_text(&expected, "220");
	for (i = 0; i < LIMIT_JUNK; i++)
		buf_add_text(&expected, " 250");
	buf_add_text(&expected, " 421 closed");
	play(buf_span(&text), buf_text(&expected));
	buf_free(&text);
	buf_free(&expected);
}

/* A40 */
static void
recipients_have_a_limit_and_are_delivered_to_once(void **state)
{
	(void)state;
	play_text(HELLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<1@d.example>\r\n"
			"RCPT TO:<2@d.example>\r\nRCPT TO:<1@d.example>\r\n"
			"RCPT TO:<3@d.example>\r\nRCPT TO:<4@d.example>\r\n"
			"RCPT TO:<2@d.example>\r\nBDAT 0 LAST\r\n",
	    "220 250 250 250 250 250 250 452 250 250 open");
	assert_string_equal(buf_text(&world.message[0].envelope),
	    "a@b.example<a@b.example> userid 1000 1000:"
	    " 1@d.example<1@d.example> 2@d.example<2@d.example>"
	    " 3@d.example<3@d.example>");
}

/* A16 */
static void
a_second_message_has_its_own_recipients(void **state)
{
	(void)state;
	play_text(HELLO ENVELOPE "BDAT 0 LAST\r\nMAIL FROM:<>\r\n"
				 "RCPT TO:<root>\r\nBDAT 0 LAST\r\n",
	    "220 250 250 250 250 250 250 250 open");
	assert_string_equal(buf_text(&world.message[1].envelope),
	    "<> userid 1000 1000: admin@example.com<root>");
	assert_int_equal(world.scheduled, 2);
}

/* ---- content ---- */

static const struct {
	struct span body;
	bool bare;
} smuggling[] = {
	{ SPAN("a\n.\nMAIL FROM:<e@x>\r\n"), true }, /* B3 ... */
	{ SPAN("a\n.\r\nMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r\n.\nMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r.\rMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r\n.\rMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r.\r\nMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\n.\rMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r.\nMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r\n\0.\r\nMAIL FROM:<e@x>\r\n"), false },
	{ SPAN("a\r\n.\0\r\nMAIL FROM:<e@x>\r\n"), false },
	{ SPAN("a\r\n.\r\r\nMAIL FROM:<e@x>\r\n"), true },
	{ SPAN("a\r\n. \r\nMAIL FROM:<e@x>\r\n"), false },
	{ SPAN("a\x85.\x85MAIL FROM:<e@x>\r\n"), false },
	{ SPAN("a\x0b.\x0bMAIL FROM:<e@x>\r\n"), false }, /* ... B17 */
};

enum { SMUGGLING = sizeof(smuggling) / sizeof(smuggling[0]) };

static void
say_smuggling(size_t i, bool chunk, struct buf *out)
{
	struct span body = smuggling[i].body;

	buf_clear(out);
	buf_add_text(out, HELLO ENVELOPE);
	if (chunk)
		buf_printf(out, "BDAT %zu LAST\r\n", body.len);
	else
		buf_add_text(out, "DATA\r\n");
	buf_add(out, body);
	buf_add_text(out, chunk ? "NOOP\r\n" : ".\r\nNOOP\r\n");
}

/* B3 to B17 */
static void
nothing_but_crlf_dot_crlf_ends_a_message(void **state)
{
	struct buf text = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < SMUGGLING; i++) {
		say_smuggling(i, false, &text);
		play(buf_span(&text), "220 250 250 250 354 250 250 open");
		assert_non_null(memmem(world.message[0].content.data,
		    world.message[0].content.len, "MAIL FROM", 9));
		say_smuggling(i, true, &text);
		play(buf_span(&text), "220 250 250 250 250 250 open");
		assert_int_equal(stored(), 2);
		forget_messages();
	}
	/* B14: here CRLF "." CRLF does stand; what follows is commands. */
	play_text(HELLO ENVELOPE "DATA\r\na\r\r\n.\r\nMAIL FROM:<e@x>\r\n"
				 "DATA\r\n",
	    "220 250 250 250 354 250 250 554 open");
	assert_int_equal(stored(), 1);
	buf_free(&text);
}

/* B3, B39 */
static void
bare_newlines_are_rejected_where_that_is_wanted(void **state)
{
	char address[] = "127.0.0.1:0";
	const struct config_listen c = { .address = address,
		.reject_bare_newline = true };
	struct buf text = { 0 }, replies = { 0 }, got = { 0 };
	size_t i, chunk;

	(void)state;
	listen_at(&c);
	for (i = 0; i < 2 * (size_t)SMUGGLING; i++) {
		bool bare = smuggling[i / 2].bare;
		int fd = connect_to(&c);

		chunk = i % 2;
		say_smuggling(i / 2, chunk == 1, &text);
		buf_clear(&replies);
		assert_int_equal(tell(fd, buf_span(&text), &replies), !bare);
		codes(&replies, &got);
		if (chunk == 1)
			assert_string_equal(buf_text(&got),
			    bare ? "220 250 250 250 550"
				 : "220 250 250 250 250 250");
		else
			assert_string_equal(buf_text(&got),
			    bare ? "220 250 250 250 354 550"
				 : "220 250 250 250 354 250 250");
		assert_int_equal(stored(), !bare);
		forget_messages();
		(void)close(fd);
	}
	buf_free(&text);
	buf_free(&replies);
	buf_free(&got);
}

static void
a_bare_cr_at_the_very_end_is_one_too(void **state)
{
	char address[] = "127.0.0.1:0";
	const struct config_listen c = { .address = address,
		.reject_bare_newline = true };
	struct buf replies = { 0 }, got = { 0 };
	int fd;

	(void)state;
	listen_at(&c);
	fd = connect_to(&c);
	assert_false(tell_text(fd, HELLO ENVELOPE "BDAT 2 LAST\r\na\rNOOP\r\n",
	    &replies));
	codes(&replies, &got);
	assert_string_equal(buf_text(&got), "220 250 250 250 550");
	(void)close(fd);
	buf_free(&replies);
	buf_free(&got);
}

static const struct {
	const char *text; /* after HELLO */
	const char *codes;
	const char *body; /* of the message stored, or NULL */
} chunks[] = {
	{ ENVELOPE "BDAT 5 LAST\r\nhello", /* B29 */
	    "220 250 250 250 250 open", "hello\r\n" },
	{ ENVELOPE "BDAT 0 LAST\r\n", "220 250 250 250 250 open",
	    "" },                                    /* B30 */
	{ ENVELOPE "BDAT 5\r\nhelloBDAT 0 LAST\r\n", /* B32 */
	    "220 250 250 250 250 250 open", "hello\r\n" },
	{ ENVELOPE "BDAT\r\nQUIT\r\n", "220 250 250 250 501 closed",
	    NULL }, /* B31 */
	{ ENVELOPE "BDAT x\r\n", "220 250 250 250 501 closed", NULL },
	{ ENVELOPE "BDAT -1\r\n", "220 250 250 250 501 closed", NULL },
	{ ENVELOPE "BDAT 5 FIRST\r\n", "220 250 250 250 501 closed", NULL },
	{ ENVELOPE "BDAT 18446744073709551616 LAST\r\n",
	    "220 250 250 250 501 closed", NULL },
	{ "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "220 250 503 250 open",
	    NULL }, /* B33 */
	{ "MAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
	    "220 250 250 503 250 open", NULL },
	{ "MAIL FROM:<>\r\nRCPT TO:<x@>\r\nBDAT 6 LAST\r\nQUIT\r\n",
	    "220 250 250 501 554 open", NULL },            /* B34 */
	{ ENVELOPE "DATA\r\n.\r\nBDAT 6 LAST\r\nQUIT\r\n", /* B35 */
	    "220 250 250 250 354 250 503 open", "" },
	{ ENVELOPE "BDAT 5\r\nhelloDATA\r\nRCPT TO:<x@y.example>\r\n",
	    "220 250 250 250 250 503 503 open", NULL },
	{ ENVELOPE "BDAT 5\r\nhelloRSET\r\nBDAT 0 LAST\r\n",
	    "220 250 250 250 250 250 503 open", NULL },
	{ ENVELOPE "BDAT 10 LAST\r\nQUIT\r\nabcd", /* B36 */
	    "220 250 250 250 250 open", "QUIT\r\nabcd\r\n" },
	{ ENVELOPE "BDAT 1 LAST\r\n.", "220 250 250 250 250 open",
	    ".\r\n" },                   /* B40 */
	{ ENVELOPE "DATA\r\na\r\n.\r\n", /* B1 */
	    "220 250 250 250 354 250 open", "a\r\n" },
	{ ENVELOPE "DATA\r\n..\r\n...\r\n.a\r\n.\r\n", /* B20 */
	    "220 250 250 250 354 250 open", ".\r\n..\r\na\r\n" },
};

static void
chunks_are_counted_not_read(void **state)
{
	struct buf text = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		buf_clear(&text);
		buf_add_text(&text, HELLO);
		buf_add_text(&text, chunks[i].text);
		play(buf_span(&text), chunks[i].codes);
		assert_int_equal(stored(), chunks[i].body != NULL);
		if (chunks[i].body != NULL)
			assert_string_equal(
			    strstr(buf_text(&world.message[0].content),
				"\r\n\r\n") +
				4,
			    chunks[i].body);
		assert_int_equal(left_over(), 0);
		forget_messages();
	}
	buf_free(&text);
}

/* A5 */
static void
data_before_its_354_is_for_this_machine_only(void **state)
{
	struct peer peer = { .uid = -1, .may_relay = true };
	struct sessions all = { .loop = world.loop, .config = &world.config };
	struct buf replies = { 0 }, got = { 0 };
	int fd[2];

	(void)state;
	play_text(HELLO ENVELOPE "DATA\r\nx\r\n.\r\n",
	    "220 250 250 250 354 250 open");
	all.intake = intake_new(world.loop, NULL, NULL, &world.config);
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	session_start(session_new(&all, fd[1], fd[1], &peer));
	assert_false(
	    tell_text(fd[0], HELLO ENVELOPE "DATA\r\nx\r\n.\r\n", &replies));
	codes(&replies, &got);
	assert_string_equal(buf_text(&got), "220 250 250 250 554");
	assert_int_equal(stored(), 1);
	(void)close(fd[0]);
	sessions_end(&all);
	intake_free(all.intake);
	buf_free(&replies);
	buf_free(&got);
}

/* As sendmail does. */
static void
who_does_not_wait_for_the_greeting_gets_one_write(void **state)
{
	struct peer peer = { .uid = 1000, .local = true, .may_relay = true };
	struct sessions all = { .loop = world.loop, .config = &world.config };
	struct buf replies = { 0 }, got = { 0 };
	int fd[2];

	(void)state;
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(write_all(fd[0], SPAN(HELLO)), 0);
	session_start(session_new(&all, fd[1], fd[1], &peer));
	buf_reserve(&replies, 4096);
	replies.len = (size_t)read(fd[0], replies.data, 4096);
	codes(&replies, &got);
	assert_string_equal(buf_text(&got), "220 250");
	(void)close(fd[0]);
	sessions_end(&all);
	buf_free(&replies);
	buf_free(&got);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(commands_get_their_replies),
		TEST(ehlo_offers_what_works_and_nothing_else),
		TEST(command_lines_have_a_limit),
		TEST(errors_and_junk_have_a_limit),
		TEST(recipients_have_a_limit_and_are_delivered_to_once),
		TEST(a_second_message_has_its_own_recipients),
		TEST(nothing_but_crlf_dot_crlf_ends_a_message),
		TEST(bare_newlines_are_rejected_where_that_is_wanted),
		TEST(a_bare_cr_at_the_very_end_is_one_too),
		TEST(chunks_are_counted_not_read),
		TEST(data_before_its_354_is_for_this_machine_only),
		TEST(who_does_not_wait_for_the_greeting_gets_one_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
