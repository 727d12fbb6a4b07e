/*
 * What operator and reports ask of the scheduler: to try at once, to forget,
 * and how things are.
 */
#include "sched.h"

#include <errno.h>

static void
lift(struct sched *s, struct pool *p)
{
	pool_lift(p);
	backlog_again(&s->backlog);
	loop_hurry(s->loop);
}

static void
lift_all(struct sched *s)
{
	size_t i;

	for (i = 0; i < s->backlog.pool_count; i++)
		lift(s, s->backlog.pool[i]);
}

int
sched_flush(struct sched *s, queue_id id)
{
	lift_all(s);
	if (!backlog_drop(&s->backlog, id)) {
		errno = ENOENT;
		return backlog_is_active(&s->backlog, id) ? 0 : -1;
	}
	due_add(&s->backlog.waiting, id, loop_now(s->loop).mono_ms);
	return 0;
}

bool
sched_is_active(const struct sched *s, queue_id id)
{
	return backlog_is_active(&s->backlog, id);
}

void
sched_forget(struct sched *s, queue_id id)
{
	(void)backlog_drop(&s->backlog, id);
}

void
sched_flush_all(struct sched *s)
{
	lift_all(s);
	due_all(&s->backlog.waiting, loop_now(s->loop).mono_ms);
}

int
sched_flush_relay(struct sched *s, struct span name)
{
	size_t i;

	for (i = 0; i < s->backlog.pool_count; i++) {
		struct pool *p = s->backlog.pool[i];

		if (span_equal(name, span_of(p->relay->name))) {
			lift(s, p);
			return 0;
		}
	}
	errno = ENOENT;
	return -1;
}

void
sched_on_end(struct sched *s, sched_over *over, sched_late *late, void *arg)
{
	s->backlog.over = over;
	s->backlog.over_arg = arg;
	s->late = late;
}

void
sched_observe(struct sched *s, sched_observer *observer, void *arg)
{
	s->observer = observer;
	s->observer_arg = arg;
}

void
sched_status(const struct sched *s, struct sched_status *status)
{
	queue_id oldest = backlog_oldest(&s->backlog);
	queue_id active = backlog_oldest_active(&s->backlog);

	*status = (struct sched_status){ .reading = s->walk != NULL,
		.waiting = backlog_waiting(&s->backlog),
		.active = s->backlog.active_count,
		.oldest_ms =
		    oldest == UINT64_MAX ? 0 : queue_id_time_ms(oldest),
		.oldest_active_ms =
		    active == UINT64_MAX ? 0 : queue_id_time_ms(active),
		.started_ms = s->started_wall_ms };
}

bool
sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status)
{
	if (index >= s->backlog.pool_count)
		return false;
	pool_status(s->backlog.pool[index], loop_now(s->loop), status);
	return true;
}
