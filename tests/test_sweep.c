/*
 * What leaves failed/, and when: a spool that is a table, timers that the test
 * lets run.
 *
 * wrap: queue_walk_new queue_walk_next queue_walk_free queue_delete
 * wrap: loop_timer_set loop_timer_clear loop_now
 * wrap: log_warning log_error
 */
#include "relayd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h needs the ones above. */
#include <cmocka.h>

struct queue_walk *__wrap_queue_walk_new(struct queue *q,
    enum queue_place place, unsigned flags);
bool __wrap_queue_walk_next(struct queue_walk *w,
    const struct queue_info **info);
void __wrap_queue_walk_free(struct queue_walk *w);
int __wrap_queue_delete(struct queue *q, queue_id id);
void __wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms);
void __wrap_loop_timer_clear(struct loop *l, struct timer *t);
struct instant __wrap_loop_now(const struct loop *l);
void __wrap_log_warning(const char *part, const char *format, ...);
void __wrap_log_error(const char *part, const char *format, ...);

enum { SECOND = 1000, DAY = 24 * 3600 * SECOND, MESSAGES = 120 };

/* ---- the world ---- */

static struct {
	struct queue_info info[MESSAGES]; /* their ids from 1 */
	bool gone[MESSAGES];
	size_t count, next; /* of the walk */
	unsigned walks, deleted, warnings, errors;
	int delete_error;
	struct timer *timer; /* it runs: */
	int64_t delay_ms;
	struct instant now;
} world;

struct queue_walk *
__wrap_queue_walk_new(struct queue *q, enum queue_place place, unsigned flags)
{
	(void)q;
	(void)flags;
	assert_int_equal(place, PLACE_FAILED);
	world.walks++;
	world.next = 0;
	return (struct queue_walk *)&world;
}

bool
__wrap_queue_walk_next(struct queue_walk *w, const struct queue_info **info)
{
	(void)w;
	while (world.next < world.count && world.gone[world.next])
		world.next++;
	if (world.next == world.count)
		return false;
	*info = &world.info[world.next++];
	return true;
}

void
__wrap_queue_walk_free(struct queue_walk *w)
{
	if (w != NULL)
		world.walks--;
}

int
__wrap_queue_delete(struct queue *q, queue_id id)
{
	(void)q;
	errno = world.delete_error;
	if (errno != 0)
		return -1;
	world.gone[id - 1] = true;
	world.deleted++;
	return 0;
}

void
__wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms)
{
	(void)l;
	world.timer = t;
	world.delay_ms = delay_ms;
}

void
__wrap_loop_timer_clear(struct loop *l, struct timer *t)
{
	(void)l;
	(void)t;
	world.timer = NULL;
}

struct instant
__wrap_loop_now(const struct loop *l)
{
	(void)l;
	return world.now;
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
	world.warnings++;
}

void
__wrap_log_error(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
	world.errors++;
}

static int
setup(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.now.wall_ms = (int64_t)100 * DAY;
	return 0;
}

static void
add(unsigned days_old, bool damaged)
{
	struct queue_info *info = &world.info[world.count++];

	info->id = world.count;
	info->damaged = damaged;
	info->changed_ms = world.now.wall_ms - (int64_t)days_old * DAY;
}

/* Until it waits for the next day; how many turns that took. */
static unsigned
run(void)
{
	unsigned turns = 0;

	while (world.delay_ms == 0) {
		world.timer->handler(world.timer->arg);
		turns++;
	}
	assert_int_equal(world.walks, 0);
	assert_int_equal(world.delay_ms, DAY);
	world.delay_ms = 0;
	return turns;
}

/* ---- tests ---- */

static void
what_is_older_goes_and_what_is_damaged_stays(void **state)
{
	struct config config = { .references = 1,
		.failed_lifetime = 2 * 86400 };
	struct sweep *s = sweep_new(NULL, NULL, &config);

	(void)state;
	add(1, false);
	add(3, false);
	add(3, true);
	add(2, false); /* not a moment longer */
	(void)run();
	assert_int_equal(world.deleted, 1);
	assert_true(world.gone[1]);
	assert_int_equal(world.warnings, 1);
	world.now.wall_ms += DAY;
	(void)run();
	assert_int_equal(world.deleted, 2);
	assert_true(world.gone[3]);
	sweep_free(s);
	assert_int_equal(config.references, 1);
	assert_null(world.timer);
}

static void
zero_keeps_all(void **state)
{
	struct config config = { .references = 1, .failed_lifetime = 0 };
	struct sweep *s = sweep_new(NULL, NULL, &config);

	(void)state;
	add(90, false);
	(void)run();
	assert_int_equal(world.deleted, 0);
	/* A new configuration is acted upon at once. */
	config.failed_lifetime = 86400;
	sweep_configure(s, &config);
	assert_int_equal(world.delay_ms, 0);
	(void)run();
	assert_int_equal(world.deleted, 1);
	sweep_free(s);
	assert_int_equal(config.references, 1);
}

static void
a_clock_set_back_removes_nothing(void **state)
{
	struct config config = { .references = 1, .failed_lifetime = 86400 };
	struct sweep *s = sweep_new(NULL, NULL, &config);

	(void)state;
	add(0, false);
	world.now.wall_ms = DAY;
	(void)run();
	assert_int_equal(world.deleted, 0);
	sweep_free(s);
	assert_int_equal(config.references, 1);
}

static void
many_go_in_slices(void **state)
{
	struct config config = { .references = 1, .failed_lifetime = 86400 };
	struct sweep *s = sweep_new(NULL, NULL, &config);
	unsigned i;

	(void)state;
	for (i = 0; i < MESSAGES; i++)
		add(3, false);
	assert_int_equal(run(), 3);
	assert_int_equal(world.deleted, MESSAGES);
	sweep_free(s);
	assert_int_equal(config.references, 1);
}

static void
one_that_cannot_be_removed_is_told(void **state)
{
	struct config config = { .references = 1, .failed_lifetime = 86400 };
	struct sweep *s = sweep_new(NULL, NULL, &config);

	(void)state;
	add(3, false);
	add(3, false);
	world.delete_error = EIO;
	(void)run();
	assert_int_equal(world.errors, 2);
	assert_int_equal(world.warnings, 0);
	sweep_free(s);
	assert_int_equal(config.references, 1);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup(name, setup)
	static const struct CMUnitTest tests[] = {
		T(what_is_older_goes_and_what_is_damaged_stays),
		T(zero_keeps_all),
		T(a_clock_set_back_removes_nothing),
		T(many_go_in_slices),
		T(one_that_cannot_be_removed_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
