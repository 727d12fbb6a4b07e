/*
 * When messages go, and over how many links.
 *
 * backlog.c knows all messages and gives those that are due their way.  At the
 * end of each turn links are woken or opened for them, as far as pace and
 * pauses allow; what they are given is dispatch.c's.  Paused, a relay gets one
 * probe at a time, the wait doubling, while the next relay in the file, if
 * there is one, takes the mail.
 */
#include "sched.h"
#include "history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	READ_SLICE = 200,          /* messages of the spool a turn, at start */
	READ_AGAIN_MS = 10 * 1000, /* what of it can't be read now */
	MAILDIR_SLICE = 20,        /* messages written to a Maildir a turn */
	LINK_WORTH = 16,           /* messages that a second link is worth */
	SAVE_MS = 1000,            /* quotas are kept so long after a change */
};

/* ---- quotas, kept over a restart ---- */

static const char quota_name[] = "quota";

static bool
is_unsaved(const struct sched *s)
{
	bool unsaved = false;
	size_t i;

	for (i = 0; i < s->backlog.pool_count; i++)
		unsaved |= s->backlog.pool[i]->throttle->unsaved;
	return unsaved;
}

static void
save_quotas(void *arg)
{
	struct sched *s = arg;
	struct buf text = { NULL, 0, 0 };
	bool failed;
	size_t i;

	for (i = 0; i < s->backlog.pool_count; i++)
		throttle_save(s->backlog.pool[i]->throttle,
		    s->backlog.pool[i]->relay->name, loop_now(s->loop), &text);
	failed = queue_keep(s->queue, quota_name, buf_span(&text)) == -1;
	if (failed && !s->save_failed)
		log_error("smtp", "the count for daily can't be kept: %s",
		    strerror(errno));
	s->save_failed = failed;
	buf_free(&text);
}

static void
load_quotas(struct sched *s)
{
	struct buf text = { NULL, 0, 0 };
	size_t i;

	if (queue_kept(s->queue, quota_name, &text) == -1)
		log_error("smtp", "the count for daily can't be read: %s",
		    strerror(errno));
	for (i = 0; i < s->backlog.pool_count; i++)
		throttle_load(s->backlog.pool[i]->throttle,
		    s->backlog.pool[i]->relay->name, loop_now(s->loop),
		    buf_span(&text));
	buf_free(&text);
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

/* Has it anything to send, now or when the pace allows it? */
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
	struct settle_scene scene = dispatch_scene(p, "maildir");
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
		dispatch_conclude(p, j, &scene);
	}
	loop_hurry(s->loop);
}

static bool
may_send(const struct sched *s, const struct pool *p, struct instant now)
{
	return has_work(s, p) && pool_wait_ms(p, now.mono_ms) == 0;
}

/* Idle links first, and those that had room for more but were held back; one
 * more only when all that there are are busy, or when many messages wait for
 * the only one. */
static void
employ(struct sched *s, struct pool *p, struct instant now)
{
	bool enough = false, held = p->held;
	size_t i;

	for (i = p->link_count; i > 0 && may_send(s, p, now); i--) {
		if (i > p->link_count)
			continue; /* closed by the one before */
		p->held = false;
		if (held || relay_idle(p->link[i - 1]))
			relay_wake(p->link[i - 1]);
		/* It will take one, if not in this turn. */
		enough |= held || relay_idle(p->link[i - 1]) ||
		    !relay_ready(p->link[i - 1]);
	}
	enough &= p->link_count > 1 || p->ready.count <= LINK_WORTH;
	if (may_send(s, p, now) && !enough && pool_may_open(p, now.mono_ms))
		dispatch_open(s, p);
}

static bool
tell_parked(struct pool *p, struct entry *e)
{
	struct settle_scene scene = dispatch_scene(p, "none");

	return settle_waiting(&scene, e, &p->fault);
}

/* As if a relay had refused it for now: somebody may add one. */
static void
defer_orphan(void *arg, struct entry *e)
{
	struct sched *s = arg;
	struct pool *p = s->backlog.pool[0];
	struct settle_scene scene = dispatch_scene(p, "none");
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

/* When the pace lets the next message of a pool go; INT64_MAX: no wait ends by
 * itself. */
static int64_t
paced_until(const struct sched *s, const struct pool *p, struct instant now)
{
	int64_t wait = pool_wait_ms(p, now.mono_ms);

	return wait == 0 || wait == INT64_MAX || !has_work(s, p)
	    ? INT64_MAX
	    : now.mono_ms + wait;
}

/* Wake up for the next probe, when a relay may be sent more, or when the next
 * message falls due. */
static void
set_timer(struct sched *s, struct instant now)
{
	const struct backlog *b = &s->backlog;
	int64_t at = INT64_MAX, paced;
	size_t i;

	for (i = 0; i < b->pool_count; i++) {
		const struct pool *p = b->pool[i];

		if (pool_probes(p, INT64_MAX) && p->probe_at_ms < at)
			at = p->probe_at_ms;
		if (p->parked.count > 0 && p->parked.item[0].at_ms < at)
			at = p->parked.item[0].at_ms;
		paced = paced_until(s, p, now);
		if (paced < at)
			at = paced;
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
	age_look(&s->ages, now);
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
			dispatch_open(s, p);
		else
			employ(s, p, now);
	}
	set_timer(s, now);
	if (is_unsaved(s) && s->save_timer.place == 0)
		loop_timer_set(s->loop, &s->save_timer, SAVE_MS);
}

/* The timer only ends the wait: turn_end() does the work. */
static void
on_timer(void *arg)
{
	(void)arg;
}

/* ---- the queue at start ---- */

/* What came in since the start has been added already, or will be. */
static bool
is_known(const struct sched *s, queue_id id)
{
	return queue_is_committing(s->queue, id) ||
	    ((s->walk_again || queue_id_time_ms(id) >= s->started_wall_ms) &&
		backlog_has(&s->backlog, id));
}

static void
read_place(struct sched *s, enum queue_place place, int64_t wait_ms)
{
	queue_walk_free(s->walk);
	s->walk_place = place;
	s->walk = queue_walk_new(s->queue, place, 0);
	loop_timer_set(s->loop, &s->walk_timer, wait_ms);
}

/*
 * cur/ before new/: a message moves from new/ to cur/ only once it has been
 * added, so none is seen twice.  What can't be read now, as there are no
 * descriptors for it, is not given up.
 */
static void
end_place(struct sched *s)
{
	if (queue_walk_failed(s->walk)) {
		s->walk_again = true;
		read_place(s, s->walk_place, READ_AGAIN_MS);
	} else if (s->walk_place == PLACE_CUR) {
		read_place(s, PLACE_NEW, 0);
	} else {
		queue_walk_free(s->walk);
		s->walk = NULL;
	}
}

static void
read_slice(void *arg)
{
	struct sched *s = arg;
	const struct queue_info *info;
	int n;

	for (n = 0; n < READ_SLICE; n++) {
		if (!queue_walk_next(s->walk, &info)) {
			end_place(s);
			return;
		}
		if (!is_known(s, info->id))
			sched_add(s, info->id, info->next_ms);
	}
	loop_timer_set(s->loop, &s->walk_timer, 0);
}

void
sched_start(struct sched *s)
{
	s->started_wall_ms = loop_now(s->loop).wall_ms;
	read_place(s, PLACE_CUR, 0);
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
	s->history = history_new(q, config->history_size);
	make_pools(s);
	load_quotas(s);
	s->timer = (struct timer){ .handler = on_timer, .arg = s };
	s->walk_timer = (struct timer){ .handler = read_slice, .arg = s };
	s->save_timer = (struct timer){ .handler = save_quotas, .arg = s };
	loop_at_turn_end(l, turn_end, s);
	return s;
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

	for (i = 0; i < b->pool_count; i++)
		dispatch_put_back(b->pool[i]);
	config_release(s->config);
	s->config = config_hold(config);
	history_resize(s->history, config->history_size);
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
	for (i = 0; i < s->backlog.pool_count; i++)
		dispatch_put_back(s->backlog.pool[i]);
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
	loop_timer_clear(s->loop, &s->save_timer);
	if (is_unsaved(s))
		save_quotas(s);
	queue_walk_free(s->walk);
	for (i = 0; i < s->backlog.pool_count; i++)
		pool_free(s->backlog.pool[i]);
	free_retired(s, true);
	free(s->retired);
	backlog_clear(&s->backlog);
	history_free(s->history);
	config_release(s->config);
	free(s);
}
