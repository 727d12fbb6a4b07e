/*
 * What was sent lately, when and how much, in bounded memory: enough to say
 * how much of it a window that ends now holds.  What that means is pace.c's.
 */
#include "sched.h"

static unsigned
mark_index(const struct window *w, unsigned i)
{
	return (w->first + i) % WINDOW_MARKS;
}

void
window_add(struct window *w, int64_t now_ms, unsigned recipients,
    int64_t keep_ms)
{
	struct mark *last;

	while (w->count > 0 && w->mark[w->first].last_ms + keep_ms <= now_ms) {
		w->first = mark_index(w, 1);
		w->count--;
	}
	last = &w->mark[mark_index(w, w->count + WINDOW_MARKS - 1)];
	if (w->count > 0 &&
	    (w->count == WINDOW_MARKS ||
		now_ms - last->first_ms <= keep_ms / WINDOW_MARKS)) {
		last->last_ms = now_ms;
		last->count += recipients;
		return;
	}
	w->mark[mark_index(w, w->count++)] =
	    (struct mark){ now_ms, now_ms, recipients };
}

void
mark_take(struct mark *m, unsigned recipients)
{
	m->count -= recipients < m->count ? recipients : m->count;
}

/* So many marks begin no later than at_ms. */
static unsigned
marks_until(const struct window *w, int64_t at_ms)
{
	unsigned n = w->count;

	while (n > 0 && w->mark[mark_index(w, n - 1)].first_ms > at_ms)
		n--;
	return n;
}

void
window_give_back(struct window *w, int64_t sent_ms, unsigned recipients)
{
	unsigned n = marks_until(w, sent_ms);

	if (n > 0)
		mark_take(&w->mark[mark_index(w, n - 1)], recipients);
}

void
window_move(struct window *w, int64_t sent_ms, int64_t counted_ms,
    unsigned recipients, int64_t keep_ms)
{
	unsigned from = marks_until(w, sent_ms), to, i;
	struct mark *m;

	if (from == 0) /* forgotten already */
		return;
	mark_take(&w->mark[mark_index(w, from - 1)], recipients);
	to = marks_until(w, counted_ms);
	m = &w->mark[mark_index(w, to - 1)];
	if (w->count < WINDOW_MARKS &&
	    counted_ms - m->first_ms > keep_ms / WINDOW_MARKS) {
		for (i = w->count++; i > to; i--)
			w->mark[mark_index(w, i)] =
			    w->mark[mark_index(w, i - 1)];
		w->mark[mark_index(w, to)] =
		    (struct mark){ counted_ms, counted_ms, recipients };
		return;
	}
	m->count += recipients;
	if (m->last_ms < counted_ms)
		m->last_ms = counted_ms;
}

/* How many of a mark are later than a moment: they were sent evenly. */
static uint64_t
mark_after(const struct mark *m, int64_t after_ms)
{
	double part = (double)(m->last_ms - after_ms) /
	    (double)(m->last_ms - m->first_ms + 1);

	if (m->last_ms <= after_ms || m->count == 0)
		return 0;
	return part >= 1 ? m->count : (uint64_t)(part * (double)m->count) + 1;
}

/* When more than keep of a mark will have been sent before. */
static int64_t
mark_left(const struct mark *m, uint64_t keep)
{
	return m->last_ms -
	    (int64_t)((double)(m->last_ms - m->first_ms) * (double)keep /
		(double)m->count);
}

struct mark
window_since(const struct window *w, int64_t after_ms)
{
	struct mark sum = { 0, 0, 0 };
	unsigned i;

	for (i = 0; i < w->count; i++) {
		const struct mark *m = &w->mark[mark_index(w, i)];
		uint64_t count = mark_after(m, after_ms);

		if (count == 0)
			continue;
		if (sum.count == 0)
			sum.first_ms = m->first_ms;
		sum.last_ms = m->last_ms;
		sum.count += count;
	}
	return sum;
}

int64_t
window_wait_ms(const struct window *w, int64_t now_ms, int64_t length_ms,
    uint64_t keep)
{
	int64_t since = now_ms - length_ms;
	uint64_t left = window_since(w, since).count;
	int64_t wait = 0;
	unsigned i;

	for (i = 0; left > keep; i++) {
		const struct mark *m = &w->mark[mark_index(w, i)];
		uint64_t count = mark_after(m, since);

		if (count == 0)
			continue;
		left -= count;
		wait = mark_left(m, keep > left ? keep - left : 0) - since;
	}
	return wait;
}
