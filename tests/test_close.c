/*
 * Files closed by somebody else: all of them, and when.
 */
#include "../spool.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { MANY = 300 };

static int
setup(void **state)
{
	*state = closer_new();
	return 0;
}

/* Hand over an end of a pipe; returns the other one. */
static int
add(struct closer *c)
{
	int end[2];

	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	closer_add(c, end[1]);
	return end[0];
}

/* Waits until the other end is closed. */
static void
assert_closes(int fd)
{
	char octet;

	assert_int_equal(read(fd, &octet, 1), 0);
	(void)close(fd);
}

static void
assert_is_open(int fd)
{
	char octet;

	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(read(fd, &octet, 1), -1);
	(void)fcntl(fd, F_SETFL, 0);
}

static void
few_are_closed_by_the_run(void **state)
{
	struct closer *c = *state;
	int fd = add(c);

	assert_is_open(fd);
	closer_run(c);
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_closes(fd);
	closer_free(c);
}

/* More than there is room for, again and again. */
static void
many_are_closed_without_a_wait_for_the_end(void **state)
{
	struct closer *c = *state;
	int round, i, fd[MANY];

	for (round = 0; round < 3; round++) {
		for (i = 0; i < MANY; i++)
			fd[i] = add(c);
		closer_run(c);
		for (i = 0; i < MANY; i++)
			assert_closes(fd[i]);
	}
	closer_free(c);
}

static void
nothing_is_open_at_the_end(void **state)
{
	struct closer *c = *state;
	int i, fd[11];

	for (i = 0; i < 10; i++)
		fd[i] = add(c);
	closer_run(c);
	fd[10] = add(c);
	closer_free(c);
	for (i = 0; i < 11; i++) {
		(void)fcntl(fd[i], F_SETFL, O_NONBLOCK);
		assert_closes(fd[i]);
	}
}

#define T(name) cmocka_unit_test_setup(name, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(few_are_closed_by_the_run),
		T(many_are_closed_without_a_wait_for_the_end),
		T(nothing_is_open_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
