/*
 * What stands behind the control socket in its tests: the calls that they
 * replace, and those of the answers that are always the same.  A test that
 * includes this wraps
 *
 *   sched_observe sched_flush sched_flush_all sched_flush_relay sched_add
 *   sched_status sched_relay_status submit_message submit_listeners
 *   submit_status queue_is_failing queue_has_room queue_release queue_hold
 *   queue_delete submit_requeue bounce_has bounce_now sched_is_active
 *   sched_forget queue_walk_new queue_walk_next queue_walk_free
 */
#ifndef BEHIND_CONTROL_H
#define BEHIND_CONTROL_H

#include "../relayd.h"

enum { OTHER_UID = 4711, OVERFLOW_UID = 65534 };

/* A spool is a number of messages a place, of two users in turn. */
struct queue_walk {
	enum queue_place place;
	uint64_t next;
	struct queue_info info;
};

void __wrap_sched_observe(struct sched *s, sched_observer *observer, void *arg);
int __wrap_sched_flush(struct sched *s, queue_id id);
void __wrap_sched_flush_all(struct sched *s);
int __wrap_sched_flush_relay(struct sched *s, struct span name);
void __wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms);
void __wrap_sched_status(const struct sched *s, struct sched_status *status);
bool __wrap_sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status);
const char *__wrap_submit_message(struct submit *s, const char *sender,
    const char *recipient, struct span text, queue_committed *handler,
    void *arg);
void __wrap_submit_listeners(const struct submit *s, struct strings *out);
void __wrap_submit_status(const struct submit *s, struct submit_status *status);
bool __wrap_queue_is_failing(const struct queue *q);
bool __wrap_queue_has_room(const struct queue *q, uint64_t octets,
    uint64_t min_free);
int __wrap_queue_release(struct queue *q, queue_id id);
int __wrap_queue_hold(struct queue *q, queue_id id);
int __wrap_queue_delete(struct queue *q, queue_id id);
int __wrap_submit_requeue(struct submit *s, queue_id id);
bool __wrap_bounce_has(const struct bounce *b, queue_id id);
int __wrap_bounce_now(struct bounce *b, queue_id id, queue_committed *handler,
    void *arg);
bool __wrap_sched_is_active(const struct sched *s, queue_id id);
void __wrap_sched_forget(struct sched *s, queue_id id);
struct queue_walk *__wrap_queue_walk_new(struct queue *q,
    enum queue_place place, unsigned flags);
bool __wrap_queue_walk_next(struct queue_walk *w,
    const struct queue_info **info);
void __wrap_queue_walk_free(struct queue_walk *w);

void
__wrap_sched_status(const struct sched *s, struct sched_status *status)
{
	(void)s;
	*status = (struct sched_status){ .waiting = 3, .active = 1 };
}

void
__wrap_submit_listeners(const struct submit *s, struct strings *out)
{
	(void)s;
	strings_add(out, SPAN("127.0.0.1:25"));
}

void
__wrap_submit_status(const struct submit *s, struct submit_status *status)
{
	(void)s;
	*status = (struct submit_status){ .accepted = 5 };
}

bool
__wrap_queue_is_failing(const struct queue *q)
{
	(void)q;
	return false;
}

bool
__wrap_queue_has_room(const struct queue *q, uint64_t octets, uint64_t min_free)
{
	(void)q;
	(void)octets;
	(void)min_free;
	return true;
}

#endif
