/*
 * A message on its way in: commits, errors of the disk, sizes, aliases; case
 * numbers are those of the catalogue of bad input.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: sched_waits random_bits log_info log_warning accept4
 */
#include "submission.h"

/* ---- commit ---- */

static void
nothing_is_promised_before_the_commit(void **state)
{
	struct buf replies = { 0 };
	int fd = open_session();

	(void)state;
	world.held = true;
	(void)tell_text(fd,
	    HELLO ENVELOPE "DATA\r\nx\r\n.\r\nNOOP\r\n" ENVELOPE
			   "BDAT 1 LAST\r\nyQUIT\r\n",
	    &replies);
	assert_non_null(strstr(buf_text(&replies), "\r\n354 "));
	assert_null(strstr(buf_text(&replies), "queued"));
	buf_clear(&replies);
	complete();
	assert_true(hear(fd, &replies));
	/* At once, and nothing else: the rest waits for the next turn. */
	assert_string_equal(buf_text(&replies),
	    "250 2.0.0 Ok: queued as 000000000001\r\n");
	buf_clear(&replies);
	assert_true(settle_down(fd, &replies));
	assert_string_equal(buf_text(&replies),
	    "250 2.0.0 Ok\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
	buf_clear(&replies);
	complete();
	assert_false(settle_down(fd, &replies));
	assert_string_equal(buf_text(&replies),
	    "250 2.0.0 Ok: queued as 000000000002\r\n221 2.0.0 Bye\r\n");
	(void)close(fd);
	buf_free(&replies);
}

/* B28, A61 */
static void
a_client_gone_during_the_commit_leaves_its_message(void **state)
{
	struct buf replies = { 0 };
	struct submit_status status;
	int fd = open_session();

	(void)state;
	world.held = true;
	(void)tell_text(fd, HELLO ENVELOPE "DATA\r\nx\r\n.\r\n", &replies);
	(void)close(fd);
	turn();
	turn();
	submit_status(world.submit, &status);
	assert_int_equal(status.open, 1);
	assert_true(submit_busy(world.submit));
	complete();
	turn();
	submit_status(world.submit, &status);
	assert_int_equal(status.open, 0);
	assert_int_equal(status.accepted, 1);
	assert_false(submit_busy(world.submit));
	assert_int_equal(stored(), 1);
	assert_int_equal(world.ended, 1);
	assert_true(logged("000000000001: lost connection with userid 1000"));
	buf_free(&replies);
}

/* B43 */
static void
a_commit_that_fails_is_refused_and_the_next_one_works(void **state)
{
	static const struct {
		int write_error;
		int commit_error;
		const char *reply;
	} cases[] = {
		{ 0, ENOSPC, "452 4.3.1" },
		{ 0, EDQUOT, "452 4.3.1" },
		{ 0, EIO, "451 4.3.0" },
		{ ENOSPC, 0, "452 4.3.1" },
		{ EIO, 0, "451 4.3.0" },
	};
	struct buf replies = { 0 };
	int fd = open_session();
	size_t i;

	(void)state;
	(void)tell_text(fd, HELLO, &replies);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		world.write_error = cases[i].write_error;
		world.commit_error = cases[i].commit_error;
		(void)tell_text(fd, ENVELOPE "DATA\r\nx\r\n", &replies);
		buf_clear(&replies);
		(void)tell_text(fd, ".\r\n", &replies);
		assert_memory_equal(buf_text(&replies), cases[i].reply, 9);
		assert_int_equal(stored(), i);
		assert_int_equal(left_over(), 0);
		world.write_error = world.commit_error = 0;
		(void)tell_text(fd, ENVELOPE "BDAT 0 LAST\r\n", &replies);
		assert_int_equal(stored(), i + 1);
	}
	(void)close(fd);
	buf_free(&replies);
}

static void
a_full_or_failing_disk_is_told_before_the_message_is_read(void **state)
{
	struct buf replies = { 0 }, got = { 0 };
	int fd = open_session();

	(void)state;
	(void)tell_text(fd, HELLO, &replies);
	world.failing = true;
	(void)tell_text(fd, "MAIL FROM:<>\r\n", &replies);
	world.failing = false;
	world.full = true;
	(void)tell_text(fd, "MAIL FROM:<>\r\n", &replies);
	world.full = false;
	(void)tell_text(fd, ENVELOPE, &replies);
	world.full = true;
	(void)tell_text(fd, "DATA\r\nBDAT 4 LAST\r\nQUITNOOP\r\n", &replies);
	codes(&replies, &got);
	assert_string_equal(buf_text(&got),
	    "220 250 451 452 250 250 452 452 250");
	assert_int_equal(world.begun, 0);
	(void)close(fd);
	buf_free(&replies);
	buf_free(&got);
}

/* B24 */
static void
the_size_limit_is_exact(void **state)
{
	struct buf text = { 0 };
	uint64_t i;

	(void)state;
	world.config.message_size_limit = 1000;
	for (i = 0; i < 2; i++) {
		buf_clear(&text);
		buf_printf(&text, HELLO ENVELOPE "DATA\r\n%*s\r\n.\r\nNOOP\r\n",
		    (int)(998 + i), "x");
		play(buf_span(&text),
		    i == 0 ? "220 250 250 250 354 250 250 open"
			   : "220 250 250 250 354 552 250 open");
		assert_int_equal(stored(), 1);
		buf_clear(&text);
		buf_printf(&text,
		    HELLO ENVELOPE "BDAT %d\r\n%*s\r\nBDAT 0 LAST\r\nNOOP\r\n",
		    (int)(1000 + i), (int)(998 + i), "x");
		play(buf_span(&text),
		    i == 0 ? "220 250 250 250 250 250 250 open"
			   : "220 250 250 250 552 503 250 open");
		forget_messages();
		world.message[0].stored = true; /* for the count above */
		world.begun = 1;
	}
	world.message[0].stored = false;
	world.begun = 0;
	buf_free(&text);
}

static void
a_header_without_an_end_is_refused_and_not_kept(void **state)
{
	struct buf text = { 0 };

	(void)state;
	world.config.message_size_limit = 4 << 20;
	buf_add_text(&text, HELLO ENVELOPE "DATA\r\n");
	while (text.len < 2 << 20)
		buf_add_text(&text, "X: y\r\n");
	buf_add_text(&text, ".\r\nNOOP\r\n");
	play(buf_span(&text), "220 250 250 250 354 550 250 open");
	assert_true(logged("550 5.6.0 Header section too big"));
	assert_int_equal(left_over(), 0);
	buf_free(&text);
}

/* What the content has is the queue's to see. */
static void
eight_bit_is_what_the_client_said(void **state)
{
	(void)state;
	play_text(HELLO ENVELOPE "BDAT 4 LAST\r\nabc\xe4"
				 "MAIL FROM:<> BODY=8BITMIME\r\n"
				 "RCPT TO:<c@d.example>\r\nBDAT 0 LAST\r\n",
	    "220 250 250 250 250 250 250 250 open");
	assert_null(strstr(buf_text(&world.message[0].envelope), " 8bit:"));
	assert_non_null(strstr(buf_text(&world.message[1].envelope), " 8bit:"));
}

/* B27 */
static void
a_connection_lost_in_the_data_leaves_nothing(void **state)
{
	static const char *const ends[] = { "x", "x\r\n.", "x\r\n.\r" };
	struct buf replies = { 0 };
	char line[80];
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		int fd = open_session();

		(void)tell_text(fd, HELLO ENVELOPE "DATA\r\n", &replies);
		(void)tell_text(fd, ends[i], &replies);
		(void)close(fd);
		turn();
		turn();
		assert_int_equal(stored(), 0);
		assert_int_equal(left_over(), 0);
		assert_int_equal(world.ended, i + 1);
		(void)snprintf(line, sizeof(line),
		    "lost connection after DATA (%zu bytes) from userid 1000",
		    strlen(ends[i]));
		assert_true(logged(line));
	}
	buf_free(&replies);
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
	expect_root("one@example.com");
	write_file("root: another@example.com\nx: y\n", 0666);
	expect_root("another@example.com"); /* at once */
	submit_status(world.submit, &status);
	assert_int_equal(status.aliases, 2);
	assert_int_equal(unlink(place.path), 0);
	expect_root("another@example.com"); /* it may come back */
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	expect_root("admin@example.com");
	buf_free(&error);
}

/* What the sender asked for holds for all that an alias makes of a recipient;
 * of two that become the same the first counts. */
static void
aliases_inherit_the_parameters_of_their_recipient(void **state)
{
	struct buf error = { 0 };

	(void)state;
	free(world.config.aliases);
	world.config.aliases = mem_text(place.path);
	write_file("ops: a@x.example, b@x.example\nall: ops, c@x.example\n",
	    0600);
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	play_text(HELLO "MAIL FROM:<s@x.example> RET=HDRS ENVID=a+2Bb\r\n"
			"RCPT TO:<b@x.example> NOTIFY=NEVER\r\n"
			"RCPT TO:<all> NOTIFY=DELAY ORCPT=rfc822;all+3D@x\r\n"
			"RCPT TO:<a@x.example> NOTIFY=SUCCESS\r\n"
			"BDAT 0 LAST\r\n",
	    "220 250 250 250 250 250 250 open");
	assert_string_equal(buf_text(&world.message[0].envelope),
	    "s@x.example<s@x.example> userid 1000 1000 RET=HDRS ENVID=a+2Bb: "
	    "b@x.example<b@x.example> NOTIFY=NEVER "
	    "a@x.example<all> NOTIFY=DELAY ORCPT=rfc822;all+3D@x "
	    "c@x.example<all> NOTIFY=DELAY ORCPT=rfc822;all+3D@x");
	buf_free(&error);
}

/* Set when the file was written, by the clock of the daemon. */
static void
set_age(int64_t age_ms)
{
	int64_t at_ms = world.now.wall_ms - age_ms;
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000 } };

	assert_int_equal(utimensat(AT_FDCWD, place.path, times, 0), 0);
}

static void
f8_a_half_written_file_leaves_the_old_table(void **state)
{
	struct buf error = { 0 };

	(void)state;
	free(world.config.aliases);
	world.config.aliases = mem_text(place.path);
	write_file("root: one@example.com\n", 0600);
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	expect_root("one@example.com");
	write_file("", 0600);
	set_age(0);
	expect_root("one@example.com");
	write_file("root: another@exam", 0600);
	set_age(-1); /* the loop's clock is a little behind */
	expect_root("one@example.com");
	write_file("root: another@example.com\n", 0600);
	set_age(0);
	expect_root("another@example.com");
	/* It is not going to be longer. */
	write_file("root: you@example.com", 0600);
	set_age(2000);
	expect_root("you@example.com");
	buf_free(&error);
}

/* What there is at the start is better than nothing. */
static void
f8_a_half_written_file_is_read_when_there_is_no_table(void **state)
{
	struct buf error = { 0 };

	(void)state;
	free(world.config.aliases);
	world.config.aliases = mem_text(place.path);
	write_file("root: one@example.com", 0600);
	set_age(0);
	assert_int_equal(submit_configure(world.submit, &world.config, &error),
	    0);
	expect_root("one@example.com");
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

int
main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, set_up_place, tear_down_place)
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_promised_before_the_commit),
		TEST(a_client_gone_during_the_commit_leaves_its_message),
		TEST(a_commit_that_fails_is_refused_and_the_next_one_works),
		TEST(a_full_or_failing_disk_is_told_before_the_message_is_read),
		TEST(the_size_limit_is_exact),
		TEST(a_header_without_an_end_is_refused_and_not_kept),
		TEST(eight_bit_is_what_the_client_said),
		TEST(a_connection_lost_in_the_data_leaves_nothing),
		TEST(a_message_of_our_own_goes_the_same_way),
		TEST(aliases_are_read_again_when_they_change),
		TEST(aliases_inherit_the_parameters_of_their_recipient),
		TEST(f8_a_half_written_file_leaves_the_old_table),
		TEST(f8_a_half_written_file_is_read_when_there_is_no_table),
		TEST(without_aliases_a_warning_says_where_roots_mail_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
