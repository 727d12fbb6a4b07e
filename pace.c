/*
 * How fast a relay may be sent to: not over a ceiling and a daily quota of the
 * configuration, and just under what the relayhost is seen to take.
 *
 * What relayhosts do is nearly always "at most COUNT in any WINDOW" (sliding,
 * or by the clock) or a token bucket.  So the limit that is found is kept as
 * count and window: a burst after a quiet window is what such a relayhost
 * takes, and for a bucket it comes out as a few in a short window.
 *
 * At first there is no limit.  Once throttled, single probes look for the
 * moment when the relayhost accepts again: what it took since the run began,
 * and the time from there to that moment, are the limit.  From then on trials
 * raise it: half-way to what was refused last, or by a step that doubles while
 * they succeed; each one that fails makes the next one rarer.  What a trial
 * costs is a few messages refused, which are sent again at once.
 *
 * Nothing here is exact to the millisecond: the relayhost counts a message
 * when it comes to it, behind others.  What is refused at a limit that was
 * used to the full is therefore chance at first, and costs a pause.
 *
 * Which reply means "slow down" is decided elsewhere; no clock is read here.
 */
#include "sched.h"

enum {
	/* The first probe: a token bucket gives the next token soon. */
	PROBE_MIN_MS = 20,
	/* The longest a limit that was lifted goes unnoticed.  No limit is set
	 * lower than one in this time either: what is refused so slowly is
	 * refused for another reason. */
	PROBE_MAX_MS = 5 * 60 * 1000,
	/* The first trial after so many: enough for a few seconds' work at
	 * the usual limits, so that a bad first estimate is mended soon. */
	INTERVAL_FIRST = 16,
	/* The rarest: less than one in a hundred is refused for it. */
	INTERVAL_MAX = 128,
	/* A trial that this many survive has succeeded: fewer would mostly
	 * use up what a bucket has saved. */
	TRIAL_MIN = 16,
	/* What was sent before anything is refused is kept for so long: most
	 * limits are by the second. */
	FREE_KEEP_MS = 3000,
	/* So many are enough for a measured window to keep its length. */
	COUNT_DIVIDED = 5,
	/* So many windows are kept: the last one, and those before it to see
	 * whether there was as much as allowed. */
	KEEP = 3,
	/* One refused after so many accepted is no reason to probe. */
	CALM = 16,
	CALM_WINDOWS = 3,
	/* Not to be refused again by the same few milliseconds: so small a
	 * part of a window nothing is sent. */
	PAUSE = 16,
	/* A limit just measured was refused at once, and the first probe was
	 * not, so many times in a row: that comes at any pace, and a slower one
	 * is of no use. */
	ODD_MAX = 3,
	/* Nothing was refused for so long, and so many windows: there is no
	 * limit any more.  A busy relay's trials come more often. */
	FORGET_MS = 60 * 60 * 1000,
	FORGET_WINDOWS = 60,
};

/* Each wait between probes is longer than the last by this: the moment is
 * found at most two sevenths too late, by 17 probes in a minute. */
static const double probe_growth = 1.4;
/* Trials start with this much more. */
static const double step_first = 0.05;
/* The same after a measurement, which may be two sevenths too low. */
static const double step_measured = 0.125;
/* Below what was refused once, and that was far too fast perhaps: no more than
 * this.  Above it the step doubles, up to 1. */
static const double step_max = 0.25;
/* A limit that was refused is too high by at least so much. */
static const double decrease = 0.95;

void
pace_init(struct pace *p, double ceiling, uint64_t daily)
{
	*p = (struct pace){ .ceiling = ceiling, .quota.limit = daily };
}

/* Until enough of them have left the window; to more than the whole count is
 * sent when the window is empty. */
static int64_t
limit_wait(const struct pace *p, int64_t now_ms, unsigned recipients)
{
	uint64_t most = p->limit.count;
	int64_t wait, pause;

	if (limit_is_fine(&p->limit) && p->open > 0 &&
	    (p->calm < 2 * most || limit_is_likely(&p->limit)) &&
	    (p->calm == 0 || now_ms - p->accepted_ms > p->limit.window_ms / 4))
		return INT64_MAX; /* the first of a burst is a scout */
	wait = window_wait_ms(&p->sent, now_ms, p->limit.window_ms,
	    recipients < most ? most - recipients : 0);
	pause = p->resume_ms - now_ms;
	return wait > pause ? wait : pause;
}

/* ---- the ceiling: a token bucket of one second's worth ---- */

static double
ceiling_burst(const struct pace *p)
{
	return p->ceiling < 1 ? 1 : p->ceiling;
}

static int64_t
ceiling_wait(const struct pace *p, int64_t now_ms, unsigned recipients)
{
	double burst = ceiling_burst(p);
	double want = recipients < burst ? recipients : burst;
	double wait =
	    p->full_ms - (double)now_ms - (burst - want) * 1000 / p->ceiling;

	return wait <= 0 ? 0 : (int64_t)wait + 1;
}

static void
ceiling_take(struct pace *p, int64_t now_ms, double recipients)
{
	if (p->ceiling <= 0)
		return;
	if (p->full_ms < (double)now_ms)
		p->full_ms = (double)now_ms;
	p->full_ms += recipients * 1000 / p->ceiling;
}

/* The next trial must wait for twice as many. */
static void
make_rarer(struct pace *p)
{
	if (p->interval < INTERVAL_FIRST)
		p->interval = INTERVAL_FIRST;
	p->interval *= 2;
	if (p->interval > INTERVAL_MAX)
		p->interval = INTERVAL_MAX;
}

/* ---- throttled: looking for the moment when it accepts again ---- */

/* Not past the moment where a limit by the second, the minute or the hour
 * would end, or the one that was known: nor so short before it that the reply,
 * which takes reply_ms, would keep the next one from it. */
static void
schedule_probe(struct pace *p, int64_t now_ms, int64_t reply_ms)
{
	int64_t wait = p->delay_ms;
	unsigned i;

	for (i = 0; i <= USUAL_WINDOWS; i++) {
		int64_t at = p->recent.first_ms +
		    (i < USUAL_WINDOWS ? limit_usual_ms(i)
				       : limit_behind(p->limit.window_ms));

		if (at > p->probe_ms && at < now_ms + wait + reply_ms)
			wait = at > now_ms ? at - now_ms : 0;
	}
	p->probe_ms = now_ms + wait;
	p->probe_out = false;
	p->delay_ms = (int64_t)((double)p->delay_ms * probe_growth) + 1;
	if (p->delay_ms > PROBE_MAX_MS)
		p->delay_ms = PROBE_MAX_MS;
}

static void
start_probing(struct pace *p, int64_t now_ms, int64_t reply_ms)
{
	int64_t window = p->limit.window_ms;

	p->recent = window_since(&p->sent, now_ms - window);
	if (2 * p->recent.count < p->limit.count + 2 * (uint64_t)p->open)
		/* Just after the window's end, it seems. */
		p->recent = window_since(&p->sent, now_ms - window * 3 / 2);
	p->young = p->run.first_ms > now_ms - window / 2;
	if (p->state == PACE_FREE ||
	    (!p->young && p->run.first_ms >= now_ms - 2 * window))
		p->recent = p->run;
	mark_take(&p->recent, p->open);
	if (p->recent.count == 0) /* all of it awaits its reply */
		p->recent.first_ms = now_ms - reply_ms - window;
	p->odd = p->state == PACE_KNOWN && p->calm == 0 ? p->odd + 1 : 0;
	if (p->odd == 1)
		p->odd_limit = p->limit;
	p->state = PACE_PROBING;
	p->event = p->number;
	p->refused_ms = now_ms;
	p->delay_ms = p->limit.window_ms / 16;
	if (p->delay_ms < PROBE_MIN_MS)
		p->delay_ms = PROBE_MIN_MS;
	p->probe_ms = now_ms;
	schedule_probe(p, now_ms, reply_ms);
}

/* So many a second, from the mark's begin to a moment. */
static double
rate_until(const struct mark *m, int64_t end_ms)
{
	return end_ms <= m->first_ms
	    ? 0
	    : (double)m->count * 1000 / (double)(end_ms - m->first_ms);
}

/* So many at this rate, in the time from the first of them that was seen. */
static void
shape(struct pace_limit *limit, double rate, int64_t seen_ms, int64_t run_ms)
{
	int64_t window = limit->window_ms;

	if (limit->count == 0)
		limit->count = 1;
	limit->window_ms = rate > 0
	    ? (int64_t)((double)limit->count * 1000 / rate) + 1
	    : run_ms;
	if (limit->window_ms < 1)
		limit->window_ms = 1;
	/* The window was right: less in it, which trials can mend. */
	if (limit->count >= COUNT_DIVIDED && seen_ms >= window * 9 / 10 &&
	    seen_ms < limit->window_ms) {
		limit->count = (uint64_t)(rate * (double)seen_ms / 1000);
		limit->window_ms = seen_ms;
	}
	if (limit->count == 0)
		limit->count = 1;
	if (limit->window_ms / PROBE_MAX_MS >= (int64_t)limit->count)
		limit->window_ms = (int64_t)limit->count * PROBE_MAX_MS;
}

/*
 * Accepted again: the limit is what went through, in the time until now.  The
 * last window alone is too coarse where it holds one or two; all since the
 * last probe accepted is wrong, for once, where the limit has changed.
 */
static void
measure(struct pace *p, int64_t again_ms)
{
	struct pace_limit *limit = &p->limit;
	double old = limit_rate(limit);
	double rate = rate_until(&p->run, again_ms);
	double recent, longer;
	struct mark both = p->last;
	int64_t window = limit->window_ms;
	int64_t seen;

	/* Slower than ever since the last probe: what was taken before it, by
	 * a bucket that was full, says nothing. */
	if (p->young && rate < old * decrease)
		p->recent = p->run;
	seen = again_ms - p->recent.first_ms;
	recent = rate_until(&p->recent, again_ms);
	both.count += p->run.count;
	longer = p->last.count == 0 ? 0 : rate_until(&both, again_ms);
	if (recent > rate)
		rate = recent;
	if (longer > rate)
		rate = longer;
	if (old == 0) { /* the first burst */
		limit->count = p->run.count;
	} else {
		if (2 * seen <= 3 * window)
			limit->count = p->recent.count;
		if (rate > old * decrease)
			rate = old * decrease;
	}
	shape(limit, rate, seen, again_ms - p->run.first_ms);
	p->refused_rate = old;
	limit_round_up(limit);
}

static void
resume(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients)
{
	int64_t sent_ms = ticket.sent_ms;
	double old = limit_rate(&p->limit);

	mark_take(&p->run, recipients);
	measure(p, sent_ms);
	if (p->odd > ODD_MAX)
		p->limit = p->odd_limit;
	if (p->sent.count == 0)
		window_add(&p->sent, sent_ms, recipients,
		    KEEP * p->limit.window_ms);
	p->last = old == 0 ? (struct mark){ 0, 0, 0 } : p->run;
	p->run = (struct mark){ sent_ms, sent_ms, recipients };
	p->state = PACE_KNOWN;
	p->event = ticket.number;
	p->refused_ms = now_ms;
	p->changed = p->number;
	p->step = step_measured;
	p->shorter = true;
	make_rarer(p);
	if (old == 0 || 2 * limit_rate(&p->limit) < old) /* a new limit */
		p->interval = INTERVAL_FIRST;
	p->steady = p->calm = 0;
	p->chance = false;
}

/* ---- trials: is a little more accepted? ---- */

/* Throttled, but the limit for now is known. */
static void
settle_for(struct pace *p, struct pace_limit limit, int64_t now_ms)
{
	p->limit = limit;
	p->state = PACE_KNOWN;
	p->event = p->changed = p->number;
	p->refused_ms = now_ms;
	p->resume_ms = now_ms + limit.window_ms / PAUSE;
	p->step = step_first;
	make_rarer(p);
	p->steady = 0;
}

static void
begin_trial(struct pace *p)
{
	double rate = limit_rate(&p->limit);
	double gap = p->refused_rate / rate - 1;
	double more = gap > 2 * step_first ? gap / 2 : p->step;

	if (gap > 2 * step_first && more > step_max && limit_is_fine(&p->limit))
		more = step_max;
	if (more > 1)
		more = 1;
	p->before = p->limit;
	if (!limit_is_fine(&p->limit) ||
	    (p->shorter && !limit_is_usual(&p->limit)))
		limit_shorten(&p->limit, more);
	else
		limit_add(&p->limit, more);
	p->state = PACE_TRIAL;
	p->changed = p->number;
	p->steady = 0;
}

static void
trial_failed(struct pace *p, int64_t now_ms)
{
	p->refused_rate = limit_rate(&p->limit);
	p->shorter = !p->shorter;
	settle_for(p, p->before, now_ms);
}

/*
 * Refused, though as much as this was accepted before: by a bucket that has
 * run dry, or because a few milliseconds went otherwise than usual.  Not so if
 * it comes again at once, or if less than the limit was sent: then the limit
 * is another one.
 */
static bool
is_chance(const struct pace *p, int64_t now_ms)
{
	const struct pace_limit *l = &p->limit;
	uint64_t used;

	if (p->calm >= CALM && p->calm >= CALM_WINDOWS * l->count)
		return true;
	used = window_since(&p->sent, now_ms - l->window_ms * 11 / 10).count;
	return limit_is_likely(l) && 10 * used >= 9 * l->count &&
	    (!p->chance || 2 * p->calm >= l->count);
}

static void
slow_down(struct pace *p, int64_t now_ms)
{
	struct pace_limit less = p->limit;

	if (!limit_is_likely(&less) || p->calm < CALM_WINDOWS * less.count)
		limit_lower(&less);
	p->refused_rate = limit_rate(&p->limit);
	settle_for(p, less, now_ms);
	p->calm = 0;
	p->chance = true;
}

/* The next one at once, but where this is near what was refused: there a
 * bucket may just have had something saved. */
static void
trial_succeeded(struct pace *p)
{
	double rate = limit_rate(&p->limit);
	bool near = rate * (1 + step_max) > p->refused_rate;

	p->interval = p->refused_rate > 0 && near ? p->interval / 2 : 1;
	if (rate >= p->refused_rate) {
		p->refused_rate = 0;
		p->step = p->step * 2 > 1 ? 1 : p->step * 2;
	}
	p->state = PACE_KNOWN;
	p->steady = 0;
}

/* Accepted, and in a stretch that used the limit: else it says nothing.  The
 * half window more is for the time that a reply takes. */
static void
steady(struct pace *p, int64_t now_ms, unsigned recipients)
{
	uint64_t used =
	    window_since(&p->sent, now_ms - p->limit.window_ms * 5 / 2).count;

	if (2 * used < 3 * p->limit.count)
		return;
	p->steady += recipients;
	if (p->state == PACE_KNOWN && p->steady >= p->interval)
		begin_trial(p);
	else if (p->state == PACE_TRIAL && p->steady >= TRIAL_MIN &&
	    p->steady >= p->limit.count)
		trial_succeeded(p);
}

/* ---- what the scheduler asks and tells ---- */

static bool
forgotten(const struct pace *p, int64_t now_ms)
{
	int64_t quiet = FORGET_WINDOWS * p->limit.window_ms;

	return p->state != PACE_PROBING &&
	    now_ms - p->refused_ms >= (quiet > FORGET_MS ? quiet : FORGET_MS);
}

static int64_t
keep_ms(const struct pace *p)
{
	return p->limit.count == 0 ? FREE_KEEP_MS : KEEP * p->limit.window_ms;
}

int64_t
pace_wait_ms(const struct pace *p, int64_t now_ms, unsigned recipients)
{
	int64_t wait = 0, other;

	if (p->state == PACE_PROBING) {
		if (p->probe_out)
			return INT64_MAX;
		wait = p->probe_ms > now_ms ? p->probe_ms - now_ms : 0;
	} else if (p->state != PACE_FREE && !forgotten(p, now_ms)) {
		wait = limit_wait(p, now_ms, recipients);
	}
	if (p->ceiling > 0) {
		other = ceiling_wait(p, now_ms, recipients);
		wait = other > wait ? other : wait;
	}
	other = quota_wait_ms(&p->quota, now_ms, recipients);
	return other > wait ? other : wait;
}

struct pace_ticket
pace_sent(struct pace *p, int64_t now_ms, unsigned recipients)
{
	if (p->quota.limit > 0)
		quota_add(&p->quota, now_ms, recipients);
	ceiling_take(p, now_ms, recipients);
	if (p->state != PACE_FREE && forgotten(p, now_ms)) {
		p->state = PACE_FREE;
		p->limit = (struct pace_limit){ 0, 0 };
		p->sent.count = 0;
	}
	if (p->state == PACE_FREE && now_ms - p->run.last_ms >= FORGET_MS)
		p->run.count = 0;
	if (p->run.count == 0)
		p->run.first_ms = now_ms;
	p->run.last_ms = now_ms;
	p->run.count += recipients;
	p->open += recipients;
	window_add(&p->sent, now_ms, recipients, keep_ms(p));
	if (p->state == PACE_PROBING) {
		p->probe_out = true;
		p->probe_ms = now_ms;
	}
	return (struct pace_ticket){ ++p->number, now_ms };
}

/*
 * When the relayhost counted it, as far as can be told: a message that waited
 * behind others there was counted later than it was sent, by as much as its
 * reply took longer than others' do.  Without this the end of a burst would
 * be thought of as earlier than it was, and the next burst be refused.
 */
static void
stamp(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients)
{
	double took = (double)(now_ms - ticket.sent_ms);
	int64_t late;

	if (p->latency_ms == 0 || took < p->latency_ms)
		p->latency_ms = took;
	else /* the way may have become longer */
		p->latency_ms += (took - p->latency_ms) / 256;
	late = (int64_t)(took - p->latency_ms);
	if (late > 0)
		window_move(&p->sent, ticket.sent_ms, ticket.sent_ms + late,
		    recipients, keep_ms(p));
}

void
pace_accepted(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients)
{
	p->open -= recipients;
	stamp(p, ticket, now_ms, recipients);
	if (p->state == PACE_FREE)
		return;
	p->accepted_ms = now_ms;
	if (p->state == PACE_PROBING && ticket.number <= p->event)
		p->recent.count += recipients;
	else if (p->state == PACE_PROBING)
		resume(p, ticket, now_ms, recipients);
	else if (ticket.number > p->event)
		p->calm += recipients;
	if (p->state != PACE_PROBING && ticket.number > p->changed)
		steady(p, now_ms, recipients);
}

/* It has not counted. */
static void
take_back(struct pace *p, struct pace_ticket ticket, unsigned recipients)
{
	p->open -= recipients;
	if (p->quota.limit > 0)
		quota_give_back(&p->quota, ticket.sent_ms, recipients);
	ceiling_take(p, ticket.sent_ms, -(double)recipients);
	window_give_back(&p->sent, ticket.sent_ms, recipients);
	mark_take(&p->run, recipients);
}

/* Several refusals of one burst are one event: what was sent before the first
 * of them was told says nothing new. */
void
pace_throttled(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients)
{
	take_back(p, ticket, recipients);
	p->throttled += recipients;
	if (ticket.number <= p->event)
		return;
	switch (p->state) {
	case PACE_KNOWN:
		if (is_chance(p, now_ms)) {
			slow_down(p, now_ms);
			break;
		}
		start_probing(p, now_ms, now_ms - ticket.sent_ms);
		break;
	case PACE_FREE:
		start_probing(p, now_ms, now_ms - ticket.sent_ms);
		break;
	case PACE_TRIAL:
		trial_failed(p, now_ms);
		break;
	case PACE_PROBING:
		p->odd = 0;
		schedule_probe(p, now_ms, now_ms - ticket.sent_ms);
		break;
	}
}

void
pace_unsent(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients)
{
	take_back(p, ticket, recipients);
	if (p->state == PACE_PROBING && ticket.number > p->event) {
		p->probe_out = false;
		p->probe_ms = now_ms;
	}
}

void
pace_dropped(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients)
{
	p->open -= recipients;
	if (p->state == PACE_PROBING && ticket.number > p->event)
		schedule_probe(p, now_ms, now_ms - ticket.sent_ms);
}

void
pace_status(const struct pace *p, int64_t now_ms, struct pace_status *status)
{
	double rate = forgotten(p, now_ms) ? 0 : limit_rate(&p->limit);

	if (p->ceiling > 0 && (rate == 0 || rate > p->ceiling))
		rate = p->ceiling;
	*status = (struct pace_status){ .rate = rate,
		.refused_rate = p->refused_rate,
		.probing = p->state == PACE_PROBING,
		.throttled = p->throttled,
		.used_today = quota_used(&p->quota, now_ms) };
}
