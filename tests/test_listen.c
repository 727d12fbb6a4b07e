/*
 * Listeners: binding, adopting, reload, accepting, and who may relay; case
 * numbers are those of the catalogue of bad input.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: sched_waits random_bits log_info log_warning accept4
 */
#include "submission.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
