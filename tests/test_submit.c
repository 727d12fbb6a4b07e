/*
 * Listeners, seats, patience, reload, stop, aliases and log lines of the
 * submission side; case numbers are those of the catalogue of bad input.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: random_bits log_info log_warning accept4
 */
#include "submission.h"

/* ---- a directory for sockets and files ---- */

static struct {
	char dir[32];
	char path[64];    /* of a file or socket in it */
	char address[80]; /* "unix:" and that */
} place;

static int
set_up_place(void **state)
{
	(void)snprintf(place.dir, sizeof(place.dir), "/tmp/submit.XXXXXX");
	assert_non_null(mkdtemp(place.dir));
	(void)snprintf(place.path, sizeof(place.path), "%s/s", place.dir);
	(void)snprintf(place.address, sizeof(place.address), "unix:%s",
	    place.path);
	return set_up(state);
}

static int
tear_down_place(void **state)
{
	(void)tear_down(state);
	(void)unlink(place.path);
	assert_int_equal(rmdir(place.dir), 0);
	return 0;
}

static void
write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(place.path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fchmod(fileno(f), mode), 0);
	assert_int_equal(fclose(f), 0);
}

/* ---- listeners ---- */

static int
try_listen(const char *address, struct buf *error)
{
	char copy[256];
	const struct config_listen c = { .address = copy, .mode = 0666 };

	(void)snprintf(copy, sizeof(copy), "%s", address);
	buf_clear(error);
	return submit_listen(world.submit, &c, -1, error);
}

/* E22 */
static void
only_a_stale_socket_file_is_replaced(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct buf error = { 0 };
	struct stat st;
	int fd;

	(void)state;
	write_file("precious", 0600);
	assert_int_equal(try_listen(place.address, &error), -1);
	assert_non_null(strstr(buf_text(&error), "File exists"));
	assert_int_equal(stat(place.path, &st), 0);
	assert_int_equal(unlink(place.path), 0);

	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", place.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(try_listen(place.address, &error), -1);
	assert_int_equal(errno, EADDRINUSE);
	(void)close(fd);
	(void)umask(077);
	assert_int_equal(try_listen(place.address, &error), 0);
	assert_int_equal(stat(place.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	(void)umask(022);
	submit_stop(world.submit);
	assert_int_equal(stat(place.path, &st), -1);
	buf_free(&error);
}

static void
addresses_that_cannot_be_bound_say_why(void **state)
{
	static const char *const bad[] = { "127.0.0.1", "127.0.0.1:65536",
		"127.0.0.1:-1", "localhost:0", "[::1:0", "192.0.2.1:0",
		"unix:/nonexistent/s" };
	struct buf error = { 0 };
	char longer[200] = "unix:/";
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(try_listen(bad[i], &error), -1);
		assert_true(error.len > strlen(bad[i]) - 5);
	}
	memset(longer + 6, 'x', 108);
	assert_int_equal(try_listen(longer, &error), -1);
	assert_non_null(strstr(buf_text(&error), "107 octets"));
	buf_free(&error);
}

static void
port_0_is_told_as_what_it_became(void **state)
{
	struct strings bound = { 0 };
	struct buf error = { 0 }, line = { 0 };

	(void)state;
	assert_int_equal(try_listen("127.0.0.1:0", &error), 0);
	assert_int_equal(try_listen(place.address, &error), 0);
	submit_listeners(world.submit, &bound);
	assert_int_equal(bound.count, 2);
	assert_memory_equal(bound.item[0], "127.0.0.1:", 10);
	assert_string_not_equal(bound.item[0], "127.0.0.1:0");
	assert_string_equal(bound.item[1], place.address);
	buf_printf(&line, "relayd: listening on %s\n", bound.item[0]);
	assert_true(logged(buf_text(&line)));
	strings_free(&bound);
	buf_free(&error);
	buf_free(&line);
}

static void
a_reload_opens_and_closes_by_difference_or_does_nothing(void **state)
{
	char tcp[] = "127.0.0.1:0", bad[] = "192.0.2.1:0";
	struct config_listen listen[2] = {
		{ .address = place.address, .mode = 0600 }, { .address = bad }
	};
	struct config next = world.config;
	struct strings before = { 0 }, after = { 0 };
	struct buf error = { 0 };
	struct stat st;

	(void)state;
	next.references = 1;
	next.listen = listen;
	next.listen_count = 2;
	assert_int_equal(try_listen(tcp, &error), 0);
	submit_listeners(world.submit, &before);
	assert_int_equal(submit_configure(world.submit, &next, &error), -1);
	assert_non_null(strstr(buf_text(&error), "192.0.2.1:0"));
	submit_listeners(world.submit, &after);
	assert_int_equal(after.count, 1);
	assert_string_equal(after.item[0], before.item[0]);
	assert_int_equal(stat(place.path, &st), -1);
	strings_free(&after);

	listen[1].address = tcp;
	buf_clear(&error);
	assert_int_equal(submit_configure(world.submit, &next, &error), 0);
	submit_listeners(world.submit, &after);
	assert_int_equal(after.count, 2);
	assert_string_equal(after.item[0], before.item[0]);
	assert_int_equal(stat(place.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	listen[0].mode = 0666;
	next.listen_count = 1;
	assert_int_equal(submit_configure(world.submit, &next, &error), 0);
	strings_free(&after);
	submit_listeners(world.submit, &after);
	assert_int_equal(after.count, 1);
	assert_string_equal(after.item[0], place.address);
	assert_int_equal(stat(place.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);

	next.listen_count = 0;
	assert_int_equal(submit_configure(world.submit, &next, &error), 0);
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	assert_int_equal(next.references, 1);
	strings_free(&before);
	strings_free(&after);
	buf_free(&error);
}

static void
an_adopted_socket_stays_over_a_reload(void **state)
{
	const struct config_listen c = { .address = place.address };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct strings bound = { 0 };
	struct buf error = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", place.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(submit_listen(world.submit, &c, fd, &error), -1);
	assert_non_null(strstr(buf_text(&error), "not a listening socket"));
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(submit_listen(world.submit, &c, fd, &error), 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	submit_listeners(world.submit, &bound);
	assert_int_equal(bound.count, 1);
	strings_free(&bound);
	buf_free(&error);
}

/* K1, K2 */
static void
accepting_rests_while_there_are_no_descriptors(void **state)
{
	const struct config_listen c = { .address = place.address,
		.mode = 0600 };
	struct buf replies = { 0 };
	int i, fd;

	(void)state;
	listen_at(&c);
	fd = connect_to(&c);
	world.accept_error = EMFILE;
	for (i = 0; i < 10; i++)
		turn();
	assert_int_equal(world.accepts, 1);
	pass(1);
	turn();
	assert_int_equal(world.accepts, 2);
	assert_true(logged("Too many open files; trying every second"));
	world.accept_error = 0;
	pass(1);
	assert_true(settle_down(fd, &replies));
	assert_memory_equal(buf_text(&replies), "220 ", 4);
	(void)close(fd);
	buf_free(&replies);
}

/* A57 */
static void
only_allowed_addresses_may_relay(void **state)
{
	static const struct {
		const char *allow;
		const char *codes;
	} cases[] = {
		{ NULL, "220 250 250 250 501" },
		{ "127.0.0.0/8", "220 250 250 250 501" },
		{ "127.0.0.1", "220 250 250 250 501" },
		{ "::ffff:127.0.0.0/104", "220 250 250 250 501" },
		{ "0.0.0.0/0", "220 250 250 250 501" },
		{ "::/0", "220 250 250 250 501" },
		{ "10.0.0.0/8", "220 250 250 554 554" },
		{ "127.0.0.2/31", "220 250 250 554 554" },
		{ "127.0.0.2", "220 250 250 554 554" },
		{ "::1", "220 250 250 554 554" },
	};
	char address[] = "127.0.0.1:0";
	struct buf replies = { 0 }, got = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config_listen c = { .address = address };
		int fd;

		if (cases[i].allow != NULL)
			strings_add(&c.allow, span_of(cases[i].allow));
		listen_at(&c);
		fd = connect_to(&c);
		buf_clear(&replies);
		(void)tell_text(fd, HELLO ENVELOPE "RCPT TO:<x@>\r\n",
		    &replies);
		codes(&replies, &got);
		assert_string_equal(buf_text(&got), cases[i].codes);
		(void)close(fd);
		turn();
		strings_free(&c.allow);
	}
	buf_free(&replies);
	buf_free(&got);
}

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

/* ---- messages of our own ---- */

static void
on_own(void *arg, queue_id id, int error)
{
	assert_int_equal(error, 0);
	*(queue_id *)arg = id;
}

static void
a_message_of_our_own_goes_the_same_way(void **state)
{
	queue_id id = 0;

	(void)state;
	world.held = true;
	assert_null(submit_message(world.submit, "", "root",
	    SPAN("Subject: x\r\n\r\ny\r\n"), on_own, &id));
	assert_int_equal(id, 0);
	assert_true(submit_busy(world.submit));
	complete();
	assert_int_equal(id, 1);
	assert_false(submit_busy(world.submit));
	assert_int_equal(world.scheduled, 1);
	assert_non_null(strstr(buf_text(&world.message[0].envelope),
	    "admin@example.com<root>"));
	world.full = true;
	assert_string_equal(submit_message(world.submit, "", "root",
				SPAN("x\r\n"), on_own, &id),
	    "452 4.3.1 Insufficient system storage");
}

/* ---- aliases ---- */

static void
expect_root(const char *address)
{
	char expected[100];

	play_text(HELLO "MAIL FROM:<>\r\nRCPT TO:<root>\r\nBDAT 0 LAST\r\n",
	    "220 250 250 250 250 open");
	(void)snprintf(expected, sizeof(expected), ": %s<root>", address);
	assert_non_null(strstr(buf_text(&world.message[0].envelope), expected));
	forget_messages();
}

/* F8, F10 */
static void
aliases_are_read_again_when_they_change(void **state)
{
	struct buf error = { 0 };
	struct submit_status status;

	(void)state;
	expect_root("admin@example.com");
	free(world.config.aliases);
	world.config.aliases = mem_text(place.path);
	world.config.aliases_given = true;
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	assert_true(logged("No such file"));
	write_file("root: one@example.com\n", 0600);
	pass(1);
	expect_root("one@example.com");
	write_file("root: another@example.com\nx: y\n", 0666);
	expect_root("one@example.com"); /* not looked at yet */
	pass(1);
	expect_root("another@example.com");
	submit_status(world.submit, &status);
	assert_int_equal(status.aliases, 2);
	assert_int_equal(unlink(place.path), 0);
	pass(1);
	expect_root("another@example.com"); /* it may come back */
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	expect_root("admin@example.com");
	buf_free(&error);
}

static void
without_aliases_a_warning_says_where_roots_mail_goes(void **state)
{
	struct buf error = { 0 };

	(void)state;
	assert_false(logged("no aliases"));
	world.config.local_to[0] = '\0';
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	assert_true(
	    logged("no aliases: mail for root goes to root@example.com\n"));
	buf_free(&error);
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
	    "to=<<x@> proto=ESMTP helo=<client.example>\n"
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

int
main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, set_up_place, tear_down_place)
	const struct CMUnitTest tests[] = {
		TEST(only_a_stale_socket_file_is_replaced),
		TEST(addresses_that_cannot_be_bound_say_why),
		TEST(port_0_is_told_as_what_it_became),
		TEST(a_reload_opens_and_closes_by_difference_or_does_nothing),
		TEST(an_adopted_socket_stays_over_a_reload),
		TEST(accepting_rests_while_there_are_no_descriptors),
		TEST(only_allowed_addresses_may_relay),
		TEST(one_user_gets_half_of_the_seats),
		TEST(no_seat_beyond_the_limit),
		TEST(a_silent_client_is_sent_away_in_time),
		TEST(octets_alone_buy_no_time),
		TEST(a_command_buys_time),
		TEST(patience_is_short_when_seats_are_few),
		TEST(content_has_to_keep_a_rate),
		TEST(a_client_that_does_not_read_is_bounded_in_memory_and_time),
		TEST(a_stop_lets_messages_end_and_takes_no_new_ones),
		TEST(replies_reach_a_client_that_closed_its_own_side),
		TEST(quitting_without_waiting_loses_nothing),
		TEST(a_session_may_come_from_a_file),
		TEST(a_message_of_our_own_goes_the_same_way),
		TEST(aliases_are_read_again_when_they_change),
		TEST(without_aliases_a_warning_says_where_roots_mail_goes),
		TEST(log_lines_are_those_of_postfix),
		TEST(what_comes_from_outside_cannot_forge_a_line),
		TEST(connections_without_a_command_are_summed_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
