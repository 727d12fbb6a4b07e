/*
 * A relayhost that takes so many messages in a time and refuses the others,
 * by a clock that its test sets.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum kind { OPEN, SLIDING, FIXED, BUCKET };

/* BUCKET: count tokens at most, as many again in each window. */
struct policy {
	enum kind kind;
	unsigned count;
	int64_t window_ms;
	int64_t phase_ms; /* FIXED: how far into its window time 0 is */
};

enum { HISTORY = 65536 };
struct relayhost {
	struct policy policy;
	int64_t accepted_ms[HISTORY]; /* SLIDING */
	unsigned accepted;
	int64_t window; /* FIXED */
	unsigned in_window;
	double tokens; /* BUCKET */
	int64_t filled_ms;
};

static void
relayhost_set(struct relayhost *r, struct policy policy, int64_t now_ms)
{
	r->policy = policy;
	r->tokens = policy.count;
	r->filled_ms = now_ms;
	r->window = -1;
}

/* Would it take one more just now? */
static bool
relayhost_takes(struct relayhost *r, int64_t now_ms)
{
	const struct policy *p = &r->policy;
	int64_t window;

	switch (p->kind) {
	case OPEN:
		return true;
	case SLIDING:
		return r->accepted < p->count ||
		    r->accepted_ms[(r->accepted - p->count) % HISTORY] +
			p->window_ms <=
		    now_ms;
	case FIXED:
		window = (now_ms + p->phase_ms) / p->window_ms;
		if (window != r->window)
			r->in_window = 0;
		r->window = window;
		return r->in_window < p->count;
	case BUCKET:
		r->tokens += (double)(now_ms - r->filled_ms) * p->count /
		    (double)p->window_ms;
		if (r->tokens > p->count)
			r->tokens = p->count;
		r->filled_ms = now_ms;
		return r->tokens >= 1;
	}
	return false;
}

static bool
relayhost_accepts(struct relayhost *r, int64_t now_ms)
{
	if (!relayhost_takes(r, now_ms))
		return false;
	r->accepted_ms[r->accepted++ % HISTORY] = now_ms;
	r->in_window++;
	r->tokens -= 1;
	return true;
}

#endif
