/*
 * A relay's pace at work: what the start and the end of a delivery say to it,
 * what the log says of it, and the text that its quota is kept as.
 *
 * How fast, how many a day and over how many connections is reckoned in
 * pace.c and quota.c; who has to wait is the caller's.
 */
#include "sched.h"

#include <inttypes.h>
#include <stdlib.h>

/* A rate that has changed by less is not told again. */
static const double worth_telling = 1.5;

/* ---- one for a relay ---- */

struct throttle *
throttle_new(const struct config_relay *r)
{
	struct throttle *t = mem_alloc(sizeof(*t));

	t->references = 1;
	pace_init(&t->pace, r->rate, r->daily);
	return t;
}

struct throttle *
throttle_hold(struct throttle *t, const struct config_relay *r)
{
	t->references++;
	t->pace.ceiling = r->rate;
	t->pace.quota.limit = r->daily;
	return t;
}

void
throttle_release(struct throttle *t)
{
	if (--t->references == 0)
		free(t);
}

/* ---- a delivery's start and end ---- */

void
throttle_begin(struct throttle *t, struct job *j, int64_t now_ms)
{
	const struct quota *q = &t->pace.quota;
	uint64_t before = quota_used(q, now_ms);

	j->ticket =
	    pace_sent(&t->pace, now_ms, (unsigned)j->delivery.recipient_count);
	if (q->limit == 0)
		return;
	t->unsaved = true;
	if (before < q->limit && quota_used(q, now_ms) >= q->limit)
		log_warning("smtp",
		    "relay %s has had its %" PRIu64
		    " recipients of a day (daily); the rest waits",
		    j->pool->relay->name, q->limit);
}

/* What has become of the recipients of a delivery. */
enum fate { FATE_ACCEPTED, FATE_THROTTLED, FATE_UNSENT, FATE_DROPPED, FATES };

static enum fate
fate_of(const struct delivery_recipient *r)
{
	switch (r->verdict) {
	case VERDICT_SENT:
		return FATE_ACCEPTED;
	case VERDICT_NONE:
		return r->cause == CAUSE_RATE ? FATE_THROTTLED : FATE_UNSENT;
	case VERDICT_DEFERRED:
	case VERDICT_FAILED:
	case VERDICT_UNKNOWN:
		break;
	}
	return FATE_DROPPED;
}

const struct delivery_recipient *
throttle_cause(const struct delivery *d, enum reply_cause cause)
{
	size_t i;

	for (i = 0; i < d->recipient_count; i++) {
		if (d->recipient[i].cause == cause)
			return &d->recipient[i];
	}
	return NULL;
}

/* That it throttles at all, and then what it takes, where that is news. */
static void
tell(struct throttle *t, const struct job *j, enum pace_state before,
    int64_t now_ms)
{
	const char *name = j->pool->relay->name;
	const struct delivery_recipient *r =
	    throttle_cause(&j->delivery, CAUSE_RATE);
	struct buf text = { NULL, 0, 0 };
	struct pace_status status;

	if (before == PACE_FREE && t->pace.state != PACE_FREE && r != NULL) {
		buf_add_words(&text, span_of(r->reply));
		log_info("smtp", "relay %s throttles: %s", name,
		    buf_text(&text));
		buf_free(&text);
	}
	if (before != PACE_PROBING || t->pace.state == PACE_PROBING)
		return;
	pace_status(&t->pace, now_ms, &status);
	if (status.rate < t->told_rate * worth_telling &&
	    status.rate * worth_telling > t->told_rate)
		return;
	t->told_rate = status.rate;
	log_info("smtp", "relay %s takes %.3g recipients a second", name,
	    status.rate);
}

void
throttle_end(struct throttle *t, const struct job *j, int64_t now_ms)
{
	static void (*const tell_pace[FATES])(struct pace * p,
	    struct pace_ticket ticket, int64_t now_ms, unsigned recipients) = {
		[FATE_ACCEPTED] = pace_accepted,
		[FATE_THROTTLED] = pace_throttled,
		[FATE_UNSENT] = pace_unsent,
		[FATE_DROPPED] = pace_dropped,
	};
	enum pace_state before = t->pace.state;
	unsigned count[FATES] = { 0 };
	size_t i;

	for (i = 0; i < j->delivery.recipient_count; i++)
		count[fate_of(&j->delivery.recipient[i])]++;
	for (i = 0; i < FATES; i++) {
		if (count[i] > 0)
			tell_pace[i](&t->pace, j->ticket, now_ms, count[i]);
	}
	if (t->pace.quota.limit > 0)
		t->unsaved = true;
	tell(t, j, before, now_ms);
}

/* ---- what is kept of it: "NAME TAB QUOTA" ---- */

void
throttle_save(struct throttle *t, const char *name, struct instant now,
    struct buf *out)
{
	t->unsaved = false;
	if (t->pace.quota.limit == 0)
		return;
	buf_printf(out, "%s\t", name);
	quota_save(&t->pace.quota, now, out);
}

void
throttle_load(struct throttle *t, const char *name, struct instant now,
    struct span text)
{
	struct span line, key, rest;

	while (span_cut(text, '\n', &line, &text)) {
		line.len++; /* with its end */
		if (!span_cut(line, '\t', &key, &rest) ||
		    !span_equal(key, span_of(name)))
			continue;
		if (!quota_load(&t->pace.quota, now, rest))
			log_warning("smtp",
			    "relay %s: what was sent today is not known; the "
			    "count for daily begins anew",
			    name);
		return;
	}
}
