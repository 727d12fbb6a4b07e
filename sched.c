/*
 * Which message goes where and when.
 *
 * A waiting message is 16 octets in a heap.  When one is due, a link of the
 * relay's pool asks for it (relay.c pulls, nothing is pushed).  A fault of the
 * relay pauses its pool: one probe at a time, the wait doubling; messages that
 * fall due meanwhile are told once why they wait and are parked, which costs
 * them no retry.
 */
#include "sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	READ_SLICE = 200,     /* messages of the spool a turn, at start */
	PARK_SLICE = 50,      /* messages parked a turn */
	LATER_MS = 60 * 1000, /* the spool can't be read just now */
};

struct sched {
	struct loop *loop;
	struct queue *queue;
	struct connector *connector;
	struct config *config; /* held */
	struct pool *pool;
	struct due_heap waiting;
	struct due_heap parked; /* fell due while the relay is paused */
	struct job *active;     /* in flight, of every pool */
	size_t active_count;
	size_t link_count;       /* of every pool */
	struct queue_walk *walk; /* the spool is being read */
	enum queue_place walk_place;
	int64_t started_wall_ms;
	struct timer timer;
	struct timer walk_timer;
	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
	sched_observer *observer;
	void *observer_arg;
};

/* ---- messages in flight ---- */

static bool
in_flight(const struct sched *s, queue_id id)
{
	const struct job *j;

	for (j = s->active; j != NULL; j = j->next) {
		if (j->entry->id == id)
			return true;
	}
	return false;
}

static void
end_job(struct sched *s, struct job *job)
{
	struct job **at = &s->active;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	s->active_count--;
	job_free(job);
}

/* The next message that is due, opened; NULL when there is none. */
static struct entry *
take_due(struct sched *s)
{
	struct instant now = loop_now(s->loop);
	queue_id id;

	while (due_pop(&s->parked, now.mono_ms, &id) ||
	    due_pop(&s->waiting, now.mono_ms, &id)) {
		struct entry *e;

		if (in_flight(s, id))
			continue;
		e = queue_take(s->queue, id);
		if (e == NULL && (errno == ENOENT || errno == EBADMSG))
			continue; /* removed by hand, or told by queue.c */
		if (e == NULL) {
			log_warning("qmgr", "the spool can't be read: %s",
			    strerror(errno));
			due_add(&s->waiting, id, now.mono_ms + LATER_MS);
			return NULL;
		}
		if (envelope_count(&e->envelope, RECIPIENT_WAITING) > 0)
			return e;
		entry_finish(e); /* its end was cut short by a crash */
	}
	return NULL;
}

/* ---- pools ---- */

static struct settle_scene
scene_of(struct pool *p, const char *peer)
{
	const struct sched *s = p->sched;

	return (struct settle_scene){ .config = p->config,
		.now = loop_now(s->loop),
		.peer = peer,
		.counts = &p->counts,
		.observer = s->observer,
		.observer_arg = s->observer_arg };
}

/* ---- what the links ask and tell ---- */

static struct job *
next_job(struct pool *p)
{
	struct sched *s = p->sched;
	struct entry *e;
	struct job *j;

	for (j = s->active; j != NULL; j = j->next) {
		if (j->more && j->pool == p)
			return j;
	}
	e = take_due(s);
	if (e == NULL)
		return NULL;
	j = job_new(p, e, loop_now(s->loop));
	j->next = s->active;
	s->active = j;
	s->active_count++;
	return j;
}

static struct delivery *
next(void *arg, struct relay_link *link)
{
	struct pool *p = arg;
	struct job *j;

	(void)link;
	if (p->sched->stopping || p->retired)
		return NULL;
	j = next_job(p);
	if (j == NULL)
		return NULL;
	j->more = false;
	(void)job_prepare(j, p->relay->recipients_per_message);
	return &j->delivery;
}

static void
done(void *arg, struct relay_link *link, struct delivery *d)
{
	struct pool *p = arg;
	struct sched *s = p->sched;
	struct job *j = (struct job *)(void *)d; /* its first member */
	struct settle_scene scene = scene_of(p, relay_peer(link));
	queue_id id = j->entry->id;
	uint64_t sent = p->counts.sent;
	enum outcome outcome = settle(&scene, j);

	if (p->counts.sent > sent)
		p->sent_wall_ms = scene.now.wall_ms;
	if (outcome == OUTCOME_AGAIN) {
		due_add(&s->parked, id, scene.now.mono_ms);
	} else {
		pool_recover(p); /* it dealt with a message */
		p->pause_ms = 0;
	}
	if (outcome == OUTCOME_LATER)
		sched_add(s, id, j->entry->next_ms);
	if (outcome == OUTCOME_MORE && !p->retired && !s->stopping) {
		j->more = true;
		return;
	}
	if (outcome == OUTCOME_MORE)
		due_add(&s->waiting, id, scene.now.mono_ms);
	end_job(s, j);
}

static void
ready(void *arg, struct relay_link *link)
{
	struct pool *p = arg;

	(void)snprintf(p->tls, sizeof(p->tls), "%s", relay_tls(link));
	if (p->fault.kind < FAULT_SHUTDOWN)
		pool_recover(p); /* setting up is what had failed */
}

static void
closed(void *arg, struct relay_link *link, const struct fault *fault)
{
	struct pool *p = arg;
	struct sched *s = p->sched;
	size_t i = 0;

	while (p->link[i] != link)
		i++;
	p->link[i] = p->link[--p->link_count];
	s->link_count--;
	if (fault != NULL && !p->retired && !s->stopping)
		pool_pause(p, fault, loop_now(s->loop));
	if (p->retired && p->link_count == 0)
		pool_free(p);
	if (s->stopping && s->link_count == 0)
		s->stopped(s->stopped_arg);
}

/* ---- the end of each turn: who goes next ---- */

static void
open_link(struct sched *s, struct pool *p)
{
	static const struct relay_handlers handlers = { next, done, ready,
		closed };

	p->link[p->link_count++] = relay_open(s->connector, s->loop, p->config,
	    p->relay, &handlers, p);
	s->link_count++;
}

static bool
has_work(const struct sched *s, int64_t now_ms)
{
	const struct job *j;

	for (j = s->active; j != NULL; j = j->next) {
		if (j->more)
			return true;
	}
	return s->parked.count > 0 ||
	    (s->waiting.count > 0 && s->waiting.item[0].at_ms <= now_ms);
}

/* Idle links first; one more only when all that there are are busy. */
static void
employ(struct sched *s, struct pool *p, int64_t now_ms)
{
	size_t most = p->paused ? 1 : p->relay->connections;
	bool connecting = false;
	size_t i;

	for (i = p->link_count; i > 0 && has_work(s, now_ms); i--) {
		if (i > p->link_count)
			continue; /* closed by the one before */
		if (relay_idle(p->link[i - 1]))
			relay_wake(p->link[i - 1]);
		else if (!relay_ready(p->link[i - 1]))
			connecting = true;
	}
	if (has_work(s, now_ms) && !connecting && p->link_count < most)
		open_link(s, p);
}

/* Tell those who fall due during a pause why they wait. */
static void
park_due(struct sched *s, struct pool *p, struct instant now)
{
	struct settle_scene scene = scene_of(p, "none");
	queue_id id;
	int n;

	for (n = 0; n < PARK_SLICE; n++) {
		struct entry *e;

		if (!due_pop(&s->waiting, now.mono_ms, &id))
			return;
		if (in_flight(s, id))
			continue;
		e = queue_take(s->queue, id);
		if (e != NULL)
			settle_waiting(&scene, e, &p->fault);
		if (e != NULL || (errno != ENOENT && errno != EBADMSG))
			due_add(&s->parked, id, now.mono_ms);
		entry_close(e);
	}
	loop_hurry(s->loop);
}

/* Wake up for the next probe, or the next message that falls due. */
static void
set_timer(struct sched *s, struct pool *p, struct instant now)
{
	int64_t at = INT64_MAX;

	if (p->paused && s->parked.count > 0)
		at = p->probe_at_ms;
	if (s->waiting.count > 0 && s->waiting.item[0].at_ms < at)
		at = s->waiting.item[0].at_ms;
	if (at == INT64_MAX || at <= now.mono_ms)
		loop_timer_clear(s->loop, &s->timer);
	else if (s->timer.place == 0 || s->timer.at_ms != at)
		loop_timer_set(s->loop, &s->timer, at - now.mono_ms);
}

static void
turn_end(void *arg)
{
	struct sched *s = arg;
	struct instant now = loop_now(s->loop);

	if (s->stopping)
		return;
	if (s->pool->paused && now.mono_ms < s->pool->probe_at_ms)
		park_due(s, s->pool, now);
	else
		employ(s, s->pool, now.mono_ms);
	set_timer(s, s->pool, now);
}

/* The timer only ends the wait: turn_end() does the work. */
static void
on_timer(void *arg)
{
	(void)arg;
}

/* ---- the queue at start ---- */

void
sched_add(struct sched *s, queue_id id, int64_t due_ms)
{
	struct instant now = loop_now(s->loop);
	int64_t most = s->config->retry[s->config->retry_count - 1] * 1100;
	int64_t wait = due_ms - now.wall_ms;

	/* The clock may have been set meanwhile: no wait is longer than the
	 * longest. */
	if (wait > most)
		wait = most;
	due_add(&s->waiting, id, now.mono_ms + (wait < 0 ? 0 : wait));
}

/* What came in since the start has been added already. */
static bool
is_known(const struct sched *s, queue_id id)
{
	return queue_id_time_ms(id) >= s->started_wall_ms &&
	    (due_has(&s->waiting, id) || due_has(&s->parked, id) ||
		in_flight(s, id));
}

/*
 * cur/ before new/: a message moves from new/ to cur/ only once it has been
 * added, so none is seen twice.
 */
static void
read_slice(void *arg)
{
	struct sched *s = arg;
	const struct queue_info *info;
	int n;

	for (n = 0; n < READ_SLICE; n++) {
		if (queue_walk_next(s->walk, &info)) {
			if (!is_known(s, info->id))
				sched_add(s, info->id, info->next_ms);
			continue;
		}
		queue_walk_free(s->walk);
		s->walk = NULL;
		if (s->walk_place == PLACE_NEW)
			return;
		s->walk_place = PLACE_NEW;
		s->walk = queue_walk_new(s->queue, PLACE_NEW, 0);
	}
	loop_timer_set(s->loop, &s->walk_timer, 0);
}

void
sched_start(struct sched *s)
{
	s->started_wall_ms = loop_now(s->loop).wall_ms;
	s->walk_place = PLACE_CUR;
	s->walk = queue_walk_new(s->queue, PLACE_CUR, 0);
	loop_timer_set(s->loop, &s->walk_timer, 0);
}

/* ---- life ---- */

struct sched *
sched_new(struct loop *l, struct queue *q, struct connector *c,
    struct config *config)
{
	struct sched *s = mem_alloc(sizeof(*s));

	s->loop = l;
	s->queue = q;
	s->connector = c;
	s->config = config_hold(config);
	s->pool = pool_new(s, config);
	s->timer = (struct timer){ .handler = on_timer, .arg = s };
	s->walk_timer = (struct timer){ .handler = read_slice, .arg = s };
	loop_at_turn_end(l, turn_end, s);
	return s;
}

/* Messages between two transactions go back to the queue. */
static void
drop_unfinished(struct sched *s)
{
	int64_t now_ms = loop_now(s->loop).mono_ms;
	struct job *j, *next;

	for (j = s->active; j != NULL; j = next) {
		next = j->next;
		if (!j->more)
			continue;
		due_add(&s->waiting, j->entry->id, now_ms);
		end_job(s, j);
	}
}

static void
shut_links(struct pool *p)
{
	size_t i;

	for (i = p->link_count; i > 0; i--) {
		if (i <= p->link_count)
			relay_shut(p->link[i - 1]);
	}
}

void
sched_configure(struct sched *s, struct config *config)
{
	struct pool *old = s->pool;

	drop_unfinished(s);
	config_release(s->config);
	s->config = config_hold(config);
	s->pool = pool_new(s, config);
	s->pool->counts = old->counts;
	s->pool->fault = old->fault;
	s->pool->fault_wall_ms = old->fault_wall_ms;
	s->pool->sent_wall_ms = old->sent_wall_ms;
	old->retired = true;
	if (old->link_count == 0)
		pool_free(old);
	else
		shut_links(old);
}

void
sched_stop(struct sched *s, void (*stopped)(void *arg), void *arg)
{
	s->stopping = true;
	s->stopped = stopped;
	s->stopped_arg = arg;
	loop_timer_clear(s->loop, &s->timer);
	loop_timer_clear(s->loop, &s->walk_timer);
	drop_unfinished(s);
	if (s->link_count == 0)
		stopped(arg);
	else
		shut_links(s->pool);
}

void
sched_free(struct sched *s)
{
	if (s == NULL)
		return;
	while (s->active != NULL)
		end_job(s, s->active);
	loop_timer_clear(s->loop, &s->timer);
	loop_timer_clear(s->loop, &s->walk_timer);
	queue_walk_free(s->walk);
	due_free(&s->waiting);
	due_free(&s->parked);
	pool_free(s->pool);
	config_release(s->config);
	free(s);
}

/* ---- the operator ---- */

int
sched_flush(struct sched *s, queue_id id)
{
	int64_t now_ms = loop_now(s->loop).mono_ms;

	pool_lift(s->pool);
	if (!due_take(&s->waiting, id) && !due_take(&s->parked, id)) {
		errno = ENOENT;
		return in_flight(s, id) ? 0 : -1;
	}
	due_add(&s->waiting, id, now_ms);
	loop_hurry(s->loop);
	return 0;
}

bool
sched_is_active(const struct sched *s, queue_id id)
{
	return in_flight(s, id);
}

void
sched_forget(struct sched *s, queue_id id)
{
	if (!due_take(&s->waiting, id))
		(void)due_take(&s->parked, id);
}

void
sched_flush_all(struct sched *s)
{
	pool_lift(s->pool);
	due_all(&s->waiting, loop_now(s->loop).mono_ms);
	loop_hurry(s->loop);
}

int
sched_flush_relay(struct sched *s, struct span name)
{
	if (!span_equal(name, span_of(s->pool->relay->name))) {
		errno = ENOENT;
		return -1;
	}
	pool_lift(s->pool);
	loop_hurry(s->loop);
	return 0;
}

void
sched_observe(struct sched *s, sched_observer *observer, void *arg)
{
	s->observer = observer;
	s->observer_arg = arg;
}

static queue_id
oldest_of(const struct due_heap *h, queue_id oldest)
{
	size_t i;

	for (i = 0; i < h->count; i++) {
		if (h->item[i].id < oldest)
			oldest = h->item[i].id;
	}
	return oldest;
}

void
sched_status(const struct sched *s, struct sched_status *status)
{
	queue_id oldest = oldest_of(&s->waiting, UINT64_MAX);
	const struct job *j;

	oldest = oldest_of(&s->parked, oldest);
	for (j = s->active; j != NULL; j = j->next) {
		if (j->entry->id < oldest)
			oldest = j->entry->id;
	}
	*status = (struct sched_status){ .reading = s->walk != NULL,
		.waiting = s->waiting.count + s->parked.count,
		.active = s->active_count,
		.oldest_ms =
		    oldest == UINT64_MAX ? 0 : queue_id_time_ms(oldest) };
}

bool
sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status)
{
	if (index > 0)
		return false;
	pool_status(s->pool, loop_now(s->loop), status);
	return true;
}
