/*
 * Tests of sync.c.
 *
 * wrap: fdatasync pthread_create
 */
#include "spool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/eventfd.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILES = 32, HELPERS = 16 };

int __wrap_fdatasync(int fd);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
    void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
    void *(*run)(void *), void *arg);

/* Of the test that runs; helpers write to it. */
static unsigned synced[FILES];
static unsigned helpers_allowed, together, most_together;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* Every third fails.  The first waits for all helpers to be in here too, but
 * not for ever. */
int
__wrap_fdatasync(int fd)
{
	struct timespec until;
	int error = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	(void)pthread_mutex_lock(&mutex);
	synced[fd]++;
	together++;
	if (together > most_together)
		most_together = together;
	(void)pthread_cond_broadcast(&changed);
	while (most_together <= helpers_allowed && error == 0)
		error = pthread_cond_timedwait(&changed, &mutex, &until);
	together--;
	(void)pthread_mutex_unlock(&mutex);
	errno = EIO;
	return fd % 3 == 0 ? -1 : 0;
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
    void *(*run)(void *), void *arg)
{
	if (helpers_allowed == 0)
		return EAGAIN;
	return __real_pthread_create(thread, attributes, run, arg);
}

static void
sync_groups(unsigned helpers)
{
	struct syncer *s = syncer_new();
	struct sync_file file[FILES];
	size_t count, i;

	helpers_allowed = helpers;
	most_together = 0;
	/* The large one first: without it there are no helpers to wait for. */
	for (count = FILES; count > 0; count--) {
		for (i = 0; i < count; i++) {
			file[i] = (struct sync_file){ (int)i, -1 };
			synced[i] = 0;
		}
		syncer_start(s, file, count, -1);
		syncer_wait(s);
		for (i = 0; i < count; i++) {
			assert_int_equal(synced[i], 1);
			assert_int_equal(file[i].error, i % 3 == 0 ? EIO : 0);
		}
	}
	syncer_start(s, file, 0, -1);
	syncer_wait(s);
	syncer_free(s);
	assert_int_equal(most_together, helpers + 1);
}

static void
test_each_file_is_synced_once_and_several_at_a_time(void **state)
{
	(void)state;
	sync_groups(HELPERS);
}

/* Whoever gave it the group does other things, and is told. */
static void
test_a_group_is_synced_while_nobody_waits_for_it(void **state)
{
	struct syncer *s = syncer_new();
	struct sync_file file[FILES];
	struct pollfd p = { .fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN };
	size_t i;

	(void)state;
	helpers_allowed = most_together = 0;
	for (i = 0; i < FILES; i++)
		file[i] = (struct sync_file){ (int)i, -1 };
	syncer_start(s, file, 3, p.fd); /* too small for it: done at once */
	assert_true(syncer_is_done(s));
	assert_int_equal(poll(&p, 1, 0), 0);
	/* The first file waits for one more than there are helpers: us. */
	helpers_allowed = HELPERS;
	syncer_start(s, file, FILES, p.fd);
	assert_false(syncer_is_done(s));
	assert_int_equal(poll(&p, 1, 0), 0);
	(void)pthread_mutex_lock(&mutex);
	most_together = HELPERS + 1;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&mutex);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_true(syncer_is_done(s));
	for (i = 0; i < FILES; i++)
		assert_int_equal(file[i].error, i % 3 == 0 ? EIO : 0);
	syncer_free(s);
	(void)close(p.fd);
}

static void
test_it_works_where_there_can_be_no_helper(void **state)
{
	(void)state;
	sync_groups(0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_each_file_is_synced_once_and_several_at_a_time),
		cmocka_unit_test(
		    test_a_group_is_synced_while_nobody_waits_for_it),
		cmocka_unit_test(test_it_works_where_there_can_be_no_helper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
