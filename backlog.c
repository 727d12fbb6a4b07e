/*
 * All messages that wait or are in flight, and which way each goes: to the
 * first relay, in the order of the file, that serves its sender and is not
 * paused.
 *
 * A message that waits is 16 octets in a heap.  When it falls due it moves to
 * the heap of its relay, "ready"; when every relay for it is paused it is told
 * so once and moves to "parked", which costs it no retry.  A pause and its end
 * let all of these find their way anew.
 */
#include "sched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	SORT_SLICE = 100,     /* messages that are given their way a turn ... */
	OPEN_SLICE = 50,      /* ... or have to be opened for it */
	LATER_MS = 60 * 1000, /* the spool can't be read just now */
};

/* ---- in flight ---- */

bool
backlog_is_active(const struct backlog *b, queue_id id)
{
	const struct job *j;

	for (j = b->active; j != NULL; j = j->next) {
		if (j->entry->id == id)
			return true;
	}
	return false;
}

void
backlog_end(struct backlog *b, struct job *job)
{
	struct job **at = &b->active;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	b->active_count--;
	job_free(job);
}

/* Open a message that is due; NULL: it needs no care any more, or will later. */
static struct entry *
open_message(struct backlog *b, struct due due, struct instant now)
{
	struct entry *e;

	if (backlog_is_active(b, due.id))
		return NULL;
	e = queue_take(b->queue, due.id);
	if (e == NULL && (errno == ENOENT || errno == EBADMSG))
		return NULL; /* removed by hand, or told by queue.c */
	if (e == NULL) {
		log_warning("qmgr", "the spool can't be read: %s",
		    strerror(errno));
		due_add(&b->waiting, due.id, now.mono_ms + LATER_MS);
		return NULL;
	}
	if (envelope_count(&e->envelope, RECIPIENT_WAITING) > 0)
		return e;
	/* Its end was cut short by a crash, or put off. */
	if (b->over != NULL)
		b->over(b->over_arg, e);
	else
		(void)entry_finish(e);
	return NULL;
}

/* ---- which way ---- */

/* sender NULL: it does not matter. */
static bool
serves(const struct pool *p, const char *sender)
{
	return sender == NULL || config_relay_serves(p->relay, span_of(sender));
}

/*
 * The first relay that serves the sender and is not paused.
 * first  the one that would be it without any pause; NULL: nobody serves it.
 */
static struct pool *
choose(const struct backlog *b, const char *sender, struct pool **first)
{
	size_t i;

	*first = NULL;
	for (i = 0; i < b->pool_count; i++) {
		struct pool *p = b->pool[i];

		if (!serves(p, sender))
			continue;
		if (*first == NULL)
			*first = p;
		if (!p->paused || (p->probing && p->ready.count == 0))
			return p;
		p->wanted = true;
	}
	return NULL;
}

struct pool *
backlog_next(const struct backlog *b, const struct pool *p, const char *sender)
{
	bool behind = false;
	size_t i;

	for (i = 0; i < b->pool_count; i++) {
		if (behind && serves(b->pool[i], sender) && !b->pool[i]->paused)
			return b->pool[i];
		behind |= b->pool[i] == p;
	}
	return NULL;
}

/* When it is too old for sure, if it waits for p. */
static int64_t
gives_up_at_ms(const struct pool *p, const struct envelope *e,
    struct instant now)
{
	int64_t left = age_left_ms(&p->sched->ages, now, e->arrived_ms,
	    config_lifetime_ms(p->config, e->sender));

	return now.mono_ms + (left < 0 ? 0 : left + 1);
}

void
backlog_park(struct pool *p, queue_id id, const struct envelope *e,
    struct instant now)
{
	due_add(&p->parked, id, gives_up_at_ms(p, e, now));
}

struct pool *
backlog_paused(const struct backlog *b, const char *sender)
{
	struct pool *first;

	return choose(b, sender, &first) == NULL ? first : NULL;
}

/* Give a message its way; true: it had to be opened for that. */
static bool
sort_one(struct backlog *b, struct due due, struct instant now,
    const struct backlog_handlers *handlers)
{
	struct pool *first, *to = b->by_sender ? NULL : choose(b, NULL, &first);
	struct entry *e;

	if (to != NULL) {
		due_add(&to->ready, due.id, due.at_ms);
		return false;
	}
	e = open_message(b, due, now);
	if (e == NULL)
		return true;
	to = choose(b, e->envelope.sender, &first);
	if (first == NULL) {
		handlers->orphan(handlers->arg, e);
		return true;
	}
	if (to != NULL)
		due_add(&to->ready, due.id, due.at_ms);
	else if (handlers->parked(first, e))
		backlog_park(first, due.id, &e->envelope, now);
	else
		return true;
	entry_close(e);
	return true;
}

bool
backlog_sort(struct backlog *b, struct instant now,
    const struct backlog_handlers *handlers)
{
	unsigned sorted = 0, opened = 0;
	struct due due;

	while (sorted < SORT_SLICE && opened < OPEN_SLICE) {
		if (!due_pop(&b->waiting, now.mono_ms, &due))
			return false;
		opened += sort_one(b, due, now, handlers);
		sorted++;
	}
	return b->waiting.count > 0 && b->waiting.item[0].at_ms <= now.mono_ms;
}

void
backlog_again(struct backlog *b)
{
	size_t i;

	for (i = 0; i < b->pool_count; i++) {
		due_move(&b->pool[i]->ready, &b->waiting);
		due_all(&b->pool[i]->parked, 0);
		due_move(&b->pool[i]->parked, &b->waiting);
	}
}

void
backlog_expire(struct backlog *b, int64_t now_ms)
{
	struct due due;
	size_t i;

	for (i = 0; i < b->pool_count; i++) {
		while (due_pop(&b->pool[i]->parked, now_ms, &due))
			due_add(&b->waiting, due.id, now_ms);
	}
}

/* ---- on the way ---- */

/* Not the same one twice: it may be why the last probe has failed. */
static bool
pop_probe(struct pool *p, struct due *due)
{
	struct due first;

	if (!due_pop(&p->parked, INT64_MAX, due))
		return false;
	first = *due;
	if (first.id == p->taken && due_pop(&p->parked, INT64_MAX, due))
		due_add(&p->parked, first.id, first.at_ms);
	return true;
}

/* The next message for p: what was put aside for it only if it is a probe. */
static bool
pop(struct pool *p, int64_t now_ms, struct due *due)
{
	return due_pop(&p->ready, now_ms, due) ||
	    (p->probing && pop_probe(p, due));
}

struct job *
backlog_take(struct backlog *b, struct pool *p, struct instant now)
{
	struct entry *e = NULL;
	struct due due;
	struct job *j;

	for (j = b->active; j != NULL; j = j->next) {
		if (j->more && j->pool == p)
			return j;
	}
	while (e == NULL && pop(p, now.mono_ms, &due))
		e = open_message(b, due, now);
	if (e == NULL)
		return NULL;
	p->probing = false; /* it has its message */
	p->taken = due.id;
	j = job_new(p, e, now);
	j->due_ms = due.at_ms < now.mono_ms ? due.at_ms : now.mono_ms;
	j->next = b->active;
	b->active = j;
	b->active_count++;
	return j;
}

/* ---- all of it ---- */

bool
backlog_has(const struct backlog *b, queue_id id)
{
	bool has = due_has(&b->waiting, id) || backlog_is_active(b, id);
	size_t i;

	for (i = 0; i < b->pool_count && !has; i++)
		has = due_has(&b->pool[i]->ready, id) ||
		    due_has(&b->pool[i]->parked, id);
	return has;
}

bool
backlog_drop(struct backlog *b, queue_id id)
{
	bool dropped = due_take(&b->waiting, id);
	size_t i;

	for (i = 0; i < b->pool_count && !dropped; i++)
		dropped = due_take(&b->pool[i]->ready, id) ||
		    due_take(&b->pool[i]->parked, id);
	return dropped;
}

size_t
backlog_waiting(const struct backlog *b)
{
	size_t i, count = b->waiting.count;

	for (i = 0; i < b->pool_count; i++)
		count += b->pool[i]->ready.count + b->pool[i]->parked.count;
	return count;
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

queue_id
backlog_oldest_active(const struct backlog *b)
{
	queue_id oldest = UINT64_MAX;
	const struct job *j;

	for (j = b->active; j != NULL; j = j->next) {
		if (j->entry->id < oldest)
			oldest = j->entry->id;
	}
	return oldest;
}

queue_id
backlog_oldest(const struct backlog *b)
{
	queue_id oldest = oldest_of(&b->waiting, backlog_oldest_active(b));
	size_t i;

	for (i = 0; i < b->pool_count; i++) {
		oldest = oldest_of(&b->pool[i]->ready, oldest);
		oldest = oldest_of(&b->pool[i]->parked, oldest);
	}
	return oldest;
}

void
backlog_set_pools(struct backlog *b, struct pool **pool, size_t count)
{
	size_t i;

	backlog_again(b);
	free(b->pool);
	b->pool = pool;
	b->pool_count = count;
	b->by_sender = false;
	for (i = 0; i < count; i++)
		b->by_sender |= pool[i]->relay->senders.count > 0;
}

void
backlog_clear(struct backlog *b)
{
	while (b->active != NULL)
		backlog_end(b, b->active);
	due_free(&b->waiting);
	free(b->pool);
	b->pool = NULL;
	b->pool_count = 0;
}
