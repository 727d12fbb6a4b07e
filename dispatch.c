/*
 * Deliveries: which message a link is given, and what follows when one ends
 * or the link does.
 *
 * A link asks for the next message (relay.c pulls, nothing is pushed), and
 * gets none while the pace says to wait.  A fault of the relay pauses its pool.
 */
#include "sched.h"

#include <stdio.h>

struct settle_scene
dispatch_scene(struct pool *p, const char *peer)
{
	const struct sched *s = p->sched;

	return (struct settle_scene){ .config = p->config,
		.now = loop_now(s->loop),
		.ages = &s->ages,
		.peer = peer,
		.counts = &p->counts,
		.history = s->history,
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

const char *
sched_waits(const struct sched *s, const char *sender)
{
	const struct pool *p = backlog_paused(&s->backlog, sender);

	return p == NULL ? NULL : p->fault.text;
}

void
sched_add_waiting(struct sched *s, queue_id id, const struct envelope *e)
{
	struct pool *p = backlog_paused(&s->backlog, e->sender);
	struct settle_scene scene;

	if (p == NULL) {
		sched_add(s, id, 0);
		return;
	}
	scene = dispatch_scene(p, "none");
	settle_new(&scene, id, e, &p->fault);
	backlog_park(p, id, e, scene.now);
}

/* ---- what the links ask and tell ---- */

/* Is it too early for a message of next_size? */
static bool
must_wait(struct pool *p)
{
	if (pool_wait_ms(p, loop_now(p->sched->loop).mono_ms) == 0)
		return false;
	p->held = true;
	return true;
}

/* Back to where it was: it was not tried, and its place is kept. */
static void
put_back(struct pool *p, struct job *j)
{
	struct backlog *b = &p->sched->backlog;

	due_add(p->paused || p->retired ? &b->waiting : &p->ready, j->entry->id,
	    j->due_ms);
	backlog_end(b, j);
}

static struct delivery *
next(void *arg, struct relay_link *link)
{
	struct pool *p = arg;
	struct sched *s = p->sched;
	bool probing = p->probing;
	struct job *j;

	(void)link;
	if (s->stopping || p->retired || must_wait(p))
		return NULL;
	j = backlog_take(&s->backlog, p, loop_now(s->loop));
	if (j == NULL)
		return NULL;
	(void)job_prepare(j, p->relay->recipients_per_message);
	p->next_size = (unsigned)j->delivery.recipient_count;
	if (must_wait(p)) { /* so many */
		p->probing = probing;
		if (!j->more)
			put_back(p, j);
		return NULL;
	}
	p->next_size = 1;
	j->more = false;
	throttle_begin(p->throttle, j, loop_now(s->loop).mono_ms);
	j->delivery.by_data = pool_by_data(p, loop_now(s->loop).mono_ms);
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

/* The job is over, for now at least. */
static void
end_job(struct pool *p, struct job *j, enum outcome outcome)
{
	struct sched *s = p->sched;

	if (outcome == OUTCOME_LATER)
		sched_add(s, j->entry->id, j->entry->next_ms);
	if (outcome == OUTCOME_MORE || outcome == OUTCOME_AGAIN)
		put_back(p, j);
	else
		backlog_end(&s->backlog, j);
}

void
dispatch_put_back(struct pool *p)
{
	struct settle_scene scene = dispatch_scene(p, "none");
	struct job *j, *next;

	for (j = p->sched->backlog.active; j != NULL; j = next) {
		next = j->next;
		if (j->more && j->pool == p)
			end_job(p, j, settle_rest(&scene, j));
	}
}

void
dispatch_conclude(struct pool *p, struct job *j,
    const struct settle_scene *scene)
{
	const struct sched *s = p->sched;
	uint64_t sent = p->counts.sent;
	bool throttled = throttle_cause(&j->delivery, CAUSE_RATE) != NULL;
	enum outcome outcome = settle(scene, j);

	if (p->counts.sent > sent)
		p->sent_wall_ms = scene->now.wall_ms;
	if ((outcome != OUTCOME_AGAIN && !j->delivery.lost) || throttled) {
		recover(p); /* it dealt with a message */
		p->pause_ms = 0;
		p->losses = 0;
	}
	if (outcome == OUTCOME_MORE && !p->retired && !s->stopping)
		j->more = true;
	else
		end_job(p, j, outcome);
}

/* A fault of the relay: what was to go there finds another way, or waits. */
static void
take_fault(struct pool *p, const struct fault *fault, struct instant now)
{
	pool_pause(p, fault, now);
	due_move(&p->ready, &p->sched->backlog.waiting);
	dispatch_put_back(p);
}

/* A connection is refused as one too many: that is a fault only when it is our
 * only one. */
static void
take_crowded(struct pool *p, const char *reply, struct instant now)
{
	struct fault fault = { .kind = FAULT_SHUTDOWN };
	struct buf text = { NULL, 0, 0 };

	if (p->link_count > 1) {
		pool_crowded(p, reply, now);
		return;
	}
	buf_add_text(&text, "not even one connection is taken: ");
	buf_add_escaped(&text, span_of(reply));
	(void)snprintf(fault.text, sizeof(fault.text), "%s", buf_text(&text));
	buf_free(&text);
	take_fault(p, &fault, now);
}

static void
done(void *arg, struct relay_link *link, struct delivery *d)
{
	struct pool *p = arg;
	struct job *j = (struct job *)(void *)d; /* its first member */
	struct settle_scene scene = dispatch_scene(p, relay_peer(link));
	const struct delivery_recipient *crowded =
	    throttle_cause(d, CAUSE_CONNECTIONS);

	p->lost |= d->lost;
	p->suspect |= d->lost && j->entry->attempts > 0;
	throttle_end(p->throttle, j, scene.now.mono_ms);
	if (d->no_bdat)
		pool_no_bdat(p, scene.now.mono_ms);
	if (crowded != NULL && !p->retired)
		take_crowded(p, crowded->reply, scene.now);
	if (!hand_on(p, j))
		dispatch_conclude(p, j, &scene);
}

static void
ready(void *arg, struct relay_link *link)
{
	struct pool *p = arg;
	size_t i;

	(void)snprintf(p->tls, sizeof(p->tls), "%s", relay_tls(link));
	pace_links_ready(&p->throttle->links, loop_now(p->sched->loop).mono_ms,
	    (unsigned)p->link_count);
	for (i = 0; i < p->link_count; i++)
		relay_match(link, p->link[i]);
	if (p->fault.kind < FAULT_SHUTDOWN)
		recover(p); /* setting up is what had failed */
	else
		p->probing = p->paused;
}

/* It was refused while others are open. */
static bool
is_crowded(const struct pool *p, const struct fault *fault)
{
	return p->link_count > 1 &&
	    reply_cause(fault->code, "", fault->text) == CAUSE_CONNECTIONS;
}

/*
 * A link that is lost may be so because of the message that was being sent.
 * That one has paid and waits now; the next tells whether it was the relay, or
 * the one after it if that next one had failed before.
 */
static bool
is_excused(struct pool *p, const struct fault *fault)
{
	bool excused = fault != NULL && p->lost && !p->paused &&
	    p->losses < (p->suspect ? 2u : 1u);

	p->losses += excused;
	p->lost = p->suspect = false;
	return excused;
}

static void
closed(void *arg, struct relay_link *link, const struct fault *fault)
{
	struct pool *p = arg;
	struct sched *s = p->sched;
	struct instant now = loop_now(s->loop);
	bool excused = is_excused(p, fault);
	size_t i = 0;

	if (fault != NULL && !p->retired && is_crowded(p, fault)) {
		pool_crowded(p, fault->text, now);
		fault = NULL;
	}
	while (p->link[i] != link)
		i++;
	p->link[i] = p->link[--p->link_count];
	s->link_count--;
	p->probing = false;
	if (fault != NULL && !excused && !p->retired && !s->stopping)
		take_fault(p, fault, now);
	if (s->stopping && s->link_count == 0)
		s->stopped(s->stopped_arg);
}

void
dispatch_open(struct sched *s, struct pool *p)
{
	static const struct relay_handlers handlers = { next, done, ready,
		closed };

	p->wanted = false;
	p->link[p->link_count++] = relay_open(s->connector, s->loop, p->config,
	    p->relay, &handlers, p);
	s->link_count++;
}
