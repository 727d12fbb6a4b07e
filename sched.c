/*
 * Which message goes where and when.
 *
 * backlog.c knows all messages and gives those that are due their way.  A
 * link of the relay's pool asks for the next (relay.c pulls, nothing is
 * pushed).  A fault of the relay pauses its pool: one probe at a time, the
 * wait doubling, while the next relay in the file, if there is one, takes the
 * mail.
 */
#include "sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	READ_SLICE = 200,   /* messages of the spool a turn, at start */
	MAILDIR_SLICE = 20, /* messages written to a Maildir a turn */
};

static struct settle_scene
scene_of(struct pool *p, const char *peer)
{
	const struct sched *s = p->sched;

	return (struct settle_scene){ .config = p->config,
		.now = loop_now(s->loop),
		.peer = peer,
		.counts = &p->counts,
		.observer = s->observer,
		.observer_arg = s->observer_arg,
		.over = s->backlog.over,
		.late = s->late,
		.over_arg = s->backlog.over_arg };
}

/* A pool works again: what was put aside because of it goes on. */
static void
recover(struct pool *p)
{
	bool paused = p->paused;

	pool_recover(p);
	if (paused)
		backlog_again(&p->sched->backlog);
}

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
	due_add(&s->backlog.waiting, id, now.mono_ms + (wait < 0 ? 0 : wait));
}

/* ---- what the links ask and tell ---- */

static struct delivery *
next(void *arg, struct relay_link *link)
{
	struct pool *p = arg;
	struct sched *s = p->sched;
	struct job *j;

	(void)link;
	if (s->stopping || p->retired)
		return NULL;
	j = backlog_take(&s->backlog, p, loop_now(s->loop));
	if (j == NULL)
		return NULL;
	j->more = false;
	(void)job_prepare(j, p->relay->recipients_per_message);
	return &j->delivery;
}

/* A message that this relayhost can't take goes to the next that serves its
 * sender; false: there is none, or it has taken a part. */
static bool
hand_on(struct pool *p, struct job *j)
{
	struct backlog *b = &p->sched->backlog;
	const struct envelope *e = &j->entry->envelope;
	struct pool *to = backlog_next(b, p, e->sender);

	if (to == NULL || j->delivery.recipient_count == 0 ||
	    j->delivery.recipient[0].cause != CAUSE_UNSUITED)
		return false;
	due_add(&to->ready, j->entry->id, loop_now(p->sched->loop).mono_ms);
	backlog_end(b, j);
	return true;
}

/* Every recipient of the job's delivery has its verdict. */
static void
conclude(struct pool *p, struct job *j, const struct settle_scene *scene)
{
	struct sched *s = p->sched;
	queue_id id = j->entry->id;
	uint64_t sent = p->counts.sent;
	enum outcome outcome = settle(scene, j);

	if (p->counts.sent > sent)
		p->sent_wall_ms = scene->now.wall_ms;
	if (outcome != OUTCOME_AGAIN) {
		recover(p); /* it dealt with a message */
		p->pause_ms = 0;
	}
	if (outcome == OUTCOME_LATER)
		sched_add(s, id, j->entry->next_ms);
	if (outcome == OUTCOME_MORE && !p->retired && !s->stopping) {
		j->more = true;
		return;
	}
	if (outcome == OUTCOME_MORE || outcome == OUTCOME_AGAIN)
		due_add(&s->backlog.waiting, id, scene->now.mono_ms);
	backlog_end(&s->backlog, j);
}

static void
done(void *arg, struct relay_link *link, struct delivery *d)
{
	struct pool *p = arg;
	struct job *j = (struct job *)(void *)d; /* its first member */
	struct settle_scene scene = scene_of(p, relay_peer(link));

	if (!hand_on(p, j))
		conclude(p, j, &scene);
}

static void
ready(void *arg, struct relay_link *link)
{
	struct pool *p = arg;

	(void)snprintf(p->tls, sizeof(p->tls), "%s", relay_tls(link));
	if (p->fault.kind < FAULT_SHUTDOWN)
		recover(p); /* setting up is what had failed */
	else
		p->probing = p->paused;
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
	p->probing = false;
	if (fault != NULL && !p->retired && !s->stopping) {
		pool_pause(p, fault, loop_now(s->loop));
		due_move(&p->ready, &s->backlog.waiting);
	}
	if (s->stopping && s->link_count == 0)
		s->stopped(s->stopped_arg);
}

/* ---- the end of each turn: who goes next ---- */

/* Free those retired pools whose last link has ended. */
static void
free_retired(struct sched *s, bool all)
{
	size_t i, kept = 0;

	for (i = 0; i < s->retired_count; i++) {
		if (all || s->retired[i]->link_count == 0)
			pool_free(s->retired[i]);
		else
			s->retired[kept++] = s->retired[i];
	}
	s->retired_count = kept;
}

static void
open_link(struct sched *s, struct pool *p)
{
	static const struct relay_handlers handlers = { next, done, ready,
		closed };

	p->wanted = false;
	p->link[p->link_count++] = relay_open(s->connector, s->loop, p->config,
	    p->relay, &handlers, p);
	s->link_count++;
}

static bool
has_work(const struct sched *s, const struct pool *p)
{
	const struct job *j;

	for (j = s->backlog.active; j != NULL; j = j->next) {
		if (j->more && j->pool == p)
			return true;
	}
	return p->ready.count > 0 || (p->probing && p->parked.count > 0);
}

/* A Maildir is written to at once, a slice of what is due a turn. */
static void
deliver_here(struct sched *s, struct pool *p)
{
	struct settle_scene scene = scene_of(p, "maildir");
	struct job *j;
	int n;

	for (n = 0; n < MAILDIR_SLICE; n++) {
		j = backlog_take(&s->backlog, p, scene.now);
		if (j == NULL)
			return;
		(void)job_prepare(j, j->entry->envelope.recipient_count);
		j->delivery.begun_ms = scene.now.mono_ms;
		maildir_deliver(p->relay->maildir, &j->delivery,
		    scene.now.wall_ms);
		conclude(p, j, &scene);
	}
	loop_hurry(s->loop);
}

/* Idle links first; one more only when all that there are are busy. */
static void
employ(struct sched *s, struct pool *p)
{
	bool connecting = false;
	size_t i;

	for (i = p->link_count; i > 0 && has_work(s, p); i--) {
		if (i > p->link_count)
			continue; /* closed by the one before */
		if (relay_idle(p->link[i - 1]))
			relay_wake(p->link[i - 1]);
		else if (!relay_ready(p->link[i - 1]))
			connecting = true;
	}
	if (has_work(s, p) && !connecting &&
	    p->link_count < p->relay->connections && !p->paused)
		open_link(s, p);
}

static bool
tell_parked(struct pool *p, struct entry *e)
{
	struct settle_scene scene = scene_of(p, "none");

	return settle_waiting(&scene, e, &p->fault);
}

/* As if a relay had refused it for now: somebody may add one. */
static void
defer_orphan(void *arg, struct entry *e)
{
	struct sched *s = arg;
	struct pool *p = s->backlog.pool[0];
	struct settle_scene scene = scene_of(p, "none");
	struct job *j = job_new(p, e, scene.now);
	queue_id id = e->id;
	struct buf text = { NULL, 0, 0 };
	size_t i;

	buf_add_text(&text, "no relay serves the sender <");
	buf_add_value(&text, span_of(e->envelope.sender));
	buf_add_char(&text, '>');
	(void)job_prepare(j, e->envelope.recipient_count);
	for (i = 0; i < j->delivery.recipient_count; i++) {
		struct delivery_recipient *r = &j->delivery.recipient[i];

		r->verdict = VERDICT_DEFERRED;
		memcpy(r->status, "4.3.5", sizeof("4.3.5"));
		r->reply = mem_text(buf_text(&text));
	}
	buf_free(&text);
	if (settle(&scene, j) == OUTCOME_LATER)
		sched_add(s, id, j->entry->next_ms);
	job_free(j);
}

/* Wake up for the next probe, or the next message that falls due. */
static void
set_timer(struct sched *s, struct instant now)
{
	const struct backlog *b = &s->backlog;
	int64_t at = INT64_MAX;
	size_t i;

	for (i = 0; i < b->pool_count; i++) {
		const struct pool *p = b->pool[i];

		if (pool_probes(p, INT64_MAX) && p->probe_at_ms < at)
			at = p->probe_at_ms;
		if (p->parked.count > 0 && p->parked.item[0].at_ms < at)
			at = p->parked.item[0].at_ms;
	}
	if (b->waiting.count > 0 && b->waiting.item[0].at_ms < at)
		at = b->waiting.item[0].at_ms;
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
	const struct backlog_handlers handlers = { tell_parked, defer_orphan,
		s };
	size_t i;

	free_retired(s, false);
	if (s->stopping)
		return;
	backlog_expire(&s->backlog, now.mono_ms);
	if (backlog_sort(&s->backlog, now, &handlers))
		loop_hurry(s->loop);
	for (i = 0; i < s->backlog.pool_count; i++) {
		struct pool *p = s->backlog.pool[i];

		if (*p->relay->maildir != '\0')
			deliver_here(s, p);
		else if (pool_probes(p, now.mono_ms))
			open_link(s, p);
		else
			employ(s, p);
	}
	set_timer(s, now);
}

/* The timer only ends the wait: turn_end() does the work. */
static void
on_timer(void *arg)
{
	(void)arg;
}

/* ---- the queue at start ---- */

/* What came in since the start has been added already. */
static bool
is_known(const struct sched *s, queue_id id)
{
	return queue_id_time_ms(id) >= s->started_wall_ms &&
	    backlog_has(&s->backlog, id);
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

/* The pools of a configuration; what is known of a relay stays known. */
static void
make_pools(struct sched *s)
{
	const struct config *c = s->config;
	struct pool **pool = mem_alloc(c->relay_count * sizeof(struct pool *));
	size_t i, k;

	for (i = 0; i < c->relay_count; i++) {
		pool[i] = pool_new(s, s->config, &c->relay[i]);
		for (k = 0; k < s->backlog.pool_count; k++) {
			struct pool *old = s->backlog.pool[k];

			if (strcmp(old->relay->name, c->relay[i].name) == 0)
				pool_inherit(pool[i], old);
		}
	}
	backlog_set_pools(&s->backlog, pool, c->relay_count);
}

struct sched *
sched_new(struct loop *l, struct queue *q, struct connector *c,
    struct config *config)
{
	struct sched *s = mem_alloc(sizeof(*s));

	s->loop = l;
	s->queue = q;
	s->connector = c;
	s->config = config_hold(config);
	s->backlog.queue = q;
	make_pools(s);
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

	for (j = s->backlog.active; j != NULL; j = next) {
		next = j->next;
		if (!j->more)
			continue;
		due_add(&s->backlog.waiting, j->entry->id, now_ms);
		backlog_end(&s->backlog, j);
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
	struct backlog *b = &s->backlog;
	size_t i, first = s->retired_count;

	drop_unfinished(s);
	config_release(s->config);
	s->config = config_hold(config);
	s->retired =
	    mem_array(s->retired, first + b->pool_count, sizeof(struct pool *));
	for (i = 0; i < b->pool_count; i++)
		s->retired[s->retired_count++] = b->pool[i];
	make_pools(s);
	for (i = first; i < s->retired_count; i++) {
		s->retired[i]->retired = true;
		shut_links(s->retired[i]);
	}
	free_retired(s, false);
}

void
sched_stop(struct sched *s, void (*stopped)(void *arg), void *arg)
{
	size_t i;

	s->stopping = true;
	s->stopped = stopped;
	s->stopped_arg = arg;
	loop_timer_clear(s->loop, &s->timer);
	loop_timer_clear(s->loop, &s->walk_timer);
	drop_unfinished(s);
	if (s->link_count == 0) {
		stopped(arg);
		return;
	}
	for (i = 0; i < s->backlog.pool_count; i++)
		shut_links(s->backlog.pool[i]);
}

void
sched_free(struct sched *s)
{
	size_t i;

	if (s == NULL)
		return;
	loop_timer_clear(s->loop, &s->timer);
	loop_timer_clear(s->loop, &s->walk_timer);
	queue_walk_free(s->walk);
	for (i = 0; i < s->backlog.pool_count; i++)
		pool_free(s->backlog.pool[i]);
	free_retired(s, true);
	free(s->retired);
	backlog_clear(&s->backlog);
	config_release(s->config);
	free(s);
}
