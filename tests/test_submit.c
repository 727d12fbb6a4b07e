/*
 * Seats, patience, ends and log lines of the submission side; case numbers are
 * those of the catalogue of bad input.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: sched_waits random_bits log_info log_warning accept4
 */
#include "submission.h"

/* ---- seats ---- */

/* K3 */
static void
one_user_gets_half_of_the_seats(void **state)
{
	const struct config_listen c = { .address = place.address,
		.mode = 0600 };
	struct buf replies = { 0 };
	int fd[5], i;

	(void)state;
	listen_at(&c);
	for (i = 0; i < 5; i++) {
		fd[i] = connect_to(&c);
		buf_clear(&replies);
		assert_int_equal(settle_down(fd[i], &replies), i < 4);
		assert_memory_equal(buf_text(&replies),
		    i < 4 ? "220 " : "421 4.7.0", 4);
	}
	assert_true(logged("too many connections: 4 open, 4 from userid 0"));
	for (i = 0; i < 5; i++)
		(void)close(fd[i]);
	turn();
	turn();
	fd[0] = connect_to(&c);
	assert_true(settle_down(fd[0], &replies));
	(void)close(fd[0]);
	buf_free(&replies);
}

static void
no_seat_beyond_the_limit(void **state)
{
	const struct config_listen c = { .address = place.address,
		.mode = 0600 };
	struct buf replies = { 0 };
	int fd[9], i;

	(void)state;
	listen_at(&c);
	for (i = 0; i < 8; i++)
		fd[i] = open_session();
	fd[8] = connect_to(&c);
	assert_false(settle_down(fd[8], &replies));
	assert_string_equal(buf_text(&replies),
	    "421 4.7.0 Too many connections\r\n");
	for (i = 0; i < 9; i++)
		(void)close(fd[i]);
	buf_free(&replies);
}

/* ---- patience ---- */

/* A1 */
static void
a_silent_client_is_sent_away_in_time(void **state)
{
	struct buf replies = { 0 };
	int fd = open_session();

	(void)state;
	(void)settle_down(fd, &replies);
	pass(299);
	assert_true(settle_down(fd, &replies));
	pass(1);
	assert_false(settle_down(fd, &replies));
	assert_non_null(strstr(buf_text(&replies), "\r\n421 4.4.2 "));
	assert_true(logged("timeout after CONNECT from userid 1000"));
	assert_int_equal(world.ended, 0); /* lingers */
	pass(1);
	assert_int_equal(world.ended, 1);
	(void)close(fd);
	buf_free(&replies);
}

/* K5 */
static void
octets_alone_buy_no_time(void **state)
{
	struct buf replies = { 0 };
	int i, fd = open_session();

	(void)state;
	for (i = 0; i < 299; i++) {
		pass(1);
		assert_true(tell_text(fd, "N", &replies));
	}
	pass(1);
	assert_false(settle_down(fd, &replies));
	(void)close(fd);
	buf_free(&replies);
}

static void
a_command_buys_time(void **state)
{
	struct buf replies = { 0 };
	int i, fd = open_session();

	(void)state;
	for (i = 0; i < 3; i++) {
		pass(299);
		assert_true(tell_text(fd, "NOOP\r\n", &replies));
	}
	(void)close(fd);
	buf_free(&replies);
}

static void
patience_is_short_when_seats_are_few(void **state)
{
	struct buf replies = { 0 };
	int fd[5], i;

	(void)state;
	for (i = 0; i < 5; i++)
		fd[i] = open_session();
	pass(30);
	assert_false(settle_down(fd[4], &replies));
	assert_true(settle_down(fd[0], &replies));
	for (i = 0; i < 5; i++)
		(void)close(fd[i]);
	buf_free(&replies);
}

/* B37 */
static void
content_has_to_keep_a_rate(void **state)
{
	static const char *const begins[] = { "DATA\r\n",
		"BDAT 100000000 LAST\r\n" };
	struct buf replies = { 0 }, text = { 0 };
	size_t i;

	(void)state;
	buf_printf(&text, "%*s", 500 * 300, "\r\n");
	for (i = 0; i < 2; i++) {
		int fd = open_session();

		buf_clear(&replies);
		(void)tell_text(fd, HELLO ENVELOPE, &replies);
		(void)tell_text(fd, begins[i], &replies);
		assert_true(tell(fd, buf_span(&text), &replies));
		pass(300);
		assert_true(settle_down(fd, &replies)); /* just enough */
		assert_true(tell(fd, span_from(buf_span(&text), 1), &replies));
		pass(300);
		assert_false(settle_down(fd, &replies));
		assert_non_null(strstr(buf_text(&replies), "\r\n421 4.4.2 "));
		assert_int_equal(left_over(), 0);
		(void)close(fd);
	}
	buf_free(&replies);
	buf_free(&text);
}

/* A60 */
static void
a_client_that_does_not_read_is_bounded_in_memory_and_time(void **state)
{
	struct submit_status status;
	struct buf text = { 0 };
	int i, small = 1, fd;

	(void)state;
	world.config.recipient_limit = 1000;
	fd = open_session();
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	buf_add_text(&text, HELLO "MAIL FROM:<>\r\n");
	for (i = 0; i < 1000; i++)
		buf_add_text(&text, "RCPT TO:<c@d.example>\r\n");
	for (i = 0; i < 200; i++) {
		(void)send(fd, text.data, text.len, MSG_NOSIGNAL);
		if (i == 0)
			buf_drop(&text, strlen(HELLO "MAIL FROM:<>\r\n"));
		turn();
	}
	/* It is no longer read, so what it sends fills its own buffer. */
	assert_int_equal(send(fd, text.data, text.len, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EAGAIN);
	pass(300);
	submit_status(world.submit, &status);
	assert_int_equal(status.open, 0);
	(void)close(fd);
	buf_free(&text);
}

/* ---- ends ---- */

static void
a_stop_lets_messages_end_and_takes_no_new_ones(void **state)
{
	struct buf replies = { 0 };
	int idle = open_session(), busy = open_session();

	(void)state;
	(void)tell_text(idle, HELLO, &replies);
	(void)tell_text(busy, HELLO ENVELOPE "DATA\r\nx\r\n", &replies);
	submit_stop(world.submit);
	buf_clear(&replies);
	assert_false(settle_down(idle, &replies));
	assert_memory_equal(buf_text(&replies), "421 4.3.2", 9);
	buf_clear(&replies);
	assert_false(tell_text(busy, ".\r\nNOOP\r\n", &replies));
	assert_int_equal(stored(), 1);
	assert_memory_equal(buf_text(&replies), "250 2.0.0 Ok: queued", 20);
	assert_non_null(strstr(buf_text(&replies), "\r\n421 4.3.2"));
	(void)close(idle);
	(void)close(busy);
	buf_free(&replies);
}

static void
replies_reach_a_client_that_closed_its_own_side(void **state)
{
	struct buf replies = { 0 };
	struct span text = SPAN(HELLO ENVELOPE "BDAT 1 LAST\r\nxNOOP\r\n");
	int fd = open_session();

	(void)state;
	assert_int_equal(send(fd, text.data, text.len, 0), text.len);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	(void)settle_down(fd, &replies);
	turn();
	assert_false(settle_down(fd, &replies));
	assert_non_null(strstr(buf_text(&replies), "queued as"));
	assert_non_null(strstr(buf_text(&replies), "\r\n250 2.0.0 Ok\r\n"));
	assert_int_equal(world.ended, 1);
	(void)close(fd);
	buf_free(&replies);
}

static void
quitting_without_waiting_loses_nothing(void **state)
{
	struct span text = SPAN(HELLO "QUIT\r\n");
	int fd = open_session();

	(void)state;
	assert_int_equal(send(fd, text.data, text.len, 0), text.len);
	(void)close(fd);
	turn();
	assert_int_equal(world.ended, 1);
	assert_false(logged("lost connection"));
}

static void
a_session_may_come_from_a_file(void **state)
{
	char got[2000];
	size_t len;
	FILE *f;
	int i, out;

	(void)state;
	write_file(HELLO ENVELOPE "DATA\r\nx\r\n.\r\nQUIT\r\n", 0600);
	f = tmpfile();
	assert_non_null(f);
	out = dup(fileno(f));
	submit_session(world.submit, open(place.path, O_RDONLY), out, 1000,
	    on_ended, NULL);
	for (i = 0; i < 10; i++)
		turn();
	assert_int_equal(world.ended, 1);
	assert_int_equal(stored(), 1);
	rewind(f);
	len = fread(got, 1, sizeof(got) - 1, f);
	got[len] = '\0';
	assert_non_null(strstr(got, "\r\n221 2.0.0 Bye\r\n"));
	(void)fclose(f);
}

/* ---- log ---- */

static void
log_lines_are_those_of_postfix(void **state)
{
	char address[] = "127.0.0.1:0";
	const struct config_listen c = { .address = address };
	struct buf replies = { 0 };
	int fd;

	(void)state;
	listen_at(&c);
	buf_clear(&world.log);
	fd = connect_to(&c);
	(void)tell_text(fd,
	    HELLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@\r\n"
		  "RCPT TO:<c@d.example>\r\nDATA\r\n" HEADER
		  "\r\nx\r\n.\r\nQUIT\r\n",
	    &replies);
	assert_string_equal(buf_text(&world.log),
	    "smtpd: connect from localhost[127.0.0.1]\n"
	    "smtpd: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: "
	    "501 5.1.3 Bad recipient address syntax; from=<a@b.example> "
	    "to=<\\x3cx@> proto=ESMTP helo=<client.example>\n"
	    "smtpd: 000000000001: client=localhost[127.0.0.1]\n"
	    "cleanup: 000000000001: message-id=<1@b.example>\n"
	    "qmgr: 000000000001: from=<a@b.example>, size=256, nrcpt=1 "
	    "(queue active)\n"
	    "smtpd: disconnect from localhost[127.0.0.1] ehlo=1 mail=1 "
	    "rcpt=1/2 data=1 quit=1 commands=5/6\n");
	(void)close(fd);
	buf_clear(&world.log);
	play_text(HELLO "MAIL FROM:<root>\r\nRCPT TO:<root>\r\n"
			"BDAT 0 LAST\r\n",
	    "220 250 250 250 250 open");
	assert_true(logged("pickup: 000000000002: uid=1000 from=<root>\n"));
	assert_false(logged("connect from"));
	buf_free(&replies);
}

/* L1 */
static void
what_comes_from_outside_cannot_forge_a_line(void **state)
{
	(void)state;
	play_text("EHLO a\x1b]0;x\x07\r\n" HELLO
		  "MAIL FROM:<\"\x80%s%n\"@b.example>\r\n",
	    "220 501 250 501 open");
	assert_true(logged("helo=<a\\x1b]0;x\\x07>\n")); /* A21 */
	assert_true(logged("from=<\"\\x80%s%n\"@b.example>"));
	assert_false(logged("\x1b"));
}

/* A2 */
static void
connections_without_a_command_are_summed_up(void **state)
{
	char address[] = "127.0.0.1:0";
	const struct config_listen c = { .address = address };
	int i;

	(void)state;
	listen_at(&c);
	buf_clear(&world.log);
	for (i = 0; i < 100; i++) {
		(void)close(connect_to(&c));
		turn();
		turn();
	}
	assert_int_equal(world.log.len, 0);
	pass(60);
	assert_string_equal(buf_text(&world.log),
	    "smtpd: 100 connections ended without a command, the last from "
	    "localhost[127.0.0.1]\n");
}

static unsigned
times_logged(const char *text)
{
	const char *at = buf_text(&world.log);
	unsigned n = 0;

	for (; (at = strstr(at, text)) != NULL; at++)
		n++;
	return n;
}

static void
be_rejected(unsigned times)
{
	struct buf replies = { 0 };

	while (times-- > 0) {
		int fd = open_session();

		(void)tell_text(fd, "X\r\n", &replies);
		assert_non_null(strstr(buf_text(&replies), "\r\n500 5.5.2 "));
		buf_clear(&replies);
		(void)close(fd);
		turn();
	}
	buf_free(&replies);
}

/* K14 */
static void
rejects_beyond_a_hundred_a_minute_are_summed_up(void **state)
{
	int minute;

	(void)state;
	for (minute = 0; minute < 2; minute++) {
		buf_clear(&world.log);
		be_rejected(LIMIT_REJECT_LINES - 1);
		assert_int_equal(times_logged("reject:"),
		    LIMIT_REJECT_LINES - 1);
		be_rejected(1);
		assert_int_equal(times_logged("reject:"), LIMIT_REJECT_LINES);
		be_rejected(2);
		assert_int_equal(times_logged("reject:"), LIMIT_REJECT_LINES);
		assert_int_equal(times_logged("more commands"), 0);
		pass(60);
		assert_true(
		    logged("smtpd: 2 more commands were rejected within "
			   "a minute, the last from userid 1000\n"));
	}
	be_rejected(LIMIT_REJECT_LINES);
	pass(60);
	assert_int_equal(times_logged("more commands"), 1);
}

/* B37: a deadline set while seats were many asks for the rate of that time. */
static void
the_rate_is_that_of_the_time_it_was_asked_for(void **state)
{
	struct buf replies = { 0 }, text = { 0 };
	int fd[5], i;

	(void)state;
	buf_printf(&text, "%*s", 500 * 30, "\r\n");
	for (i = 0; i < 5; i++)
		fd[i] = open_session();
	(void)tell_text(fd[0], HELLO ENVELOPE "DATA\r\n", &replies);
	assert_true(tell(fd[0], buf_span(&text), &replies));
	for (i = 1; i < 5; i++)
		(void)close(fd[i]);
	pass(30);
	assert_true(settle_down(fd[0], &replies));
	(void)close(fd[0]);
	buf_free(&replies);
	buf_free(&text);
}

int
main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, set_up_place, tear_down_place)
	const struct CMUnitTest tests[] = {
		TEST(one_user_gets_half_of_the_seats),
		TEST(no_seat_beyond_the_limit),
		TEST(a_silent_client_is_sent_away_in_time),
		TEST(octets_alone_buy_no_time),
		TEST(a_command_buys_time),
		TEST(patience_is_short_when_seats_are_few),
		TEST(content_has_to_keep_a_rate),
		TEST(the_rate_is_that_of_the_time_it_was_asked_for),
		TEST(a_client_that_does_not_read_is_bounded_in_memory_and_time),
		TEST(a_stop_lets_messages_end_and_takes_no_new_ones),
		TEST(replies_reach_a_client_that_closed_its_own_side),
		TEST(quitting_without_waiting_loses_nothing),
		TEST(a_session_may_come_from_a_file),
		TEST(log_lines_are_those_of_postfix),
		TEST(what_comes_from_outside_cannot_forge_a_line),
		TEST(connections_without_a_command_are_summed_up),
		TEST(rejects_beyond_a_hundred_a_minute_are_summed_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
