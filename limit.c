/*
 * A limit as relayhosts set it: at most so many in any time so long.  Which
 * windows are likely, and how a window is made to fit them; pace.c finds out
 * and tries.
 */
#include "sched.h"

enum {
	/* From here on the count is fine enough to be raised, which costs a
	 * window only the few that are too many; below that, where it is a
	 * bucket most likely, a shorter window is finer. */
	COUNT_FINE = 4,
	/* A window ends for us this part of it later: one in a hundred, for
	 * the relayhost's clock is not ours. */
	MARGIN = 100,
	/* What is refused now and then in a usual window is so by chance: the
	 * window is stretched by so small a part at a time, up to this part in
	 * all, before the count is made less by this. */
	STRETCH_STEP = 50,
	STRETCH = 15,
	LESS = 20,
};

double
limit_rate(const struct pace_limit *l)
{
	return l->count == 0 ? 0
			     : (double)l->count * 1000 / (double)l->window_ms;
}

bool
limit_is_fine(const struct pace_limit *l)
{
	return l->count >= COUNT_FINE;
}

int64_t
limit_behind(int64_t window_ms)
{
	return window_ms + window_ms / MARGIN;
}

int64_t
limit_usual_ms(unsigned i)
{
	static const int64_t usual[USUAL_WINDOWS] = { 1000, 10000, 60000,
		600000, 3600000 };

	return limit_behind(usual[i]);
}

bool
limit_is_usual(const struct pace_limit *l)
{
	unsigned i;

	for (i = 0; i < USUAL_WINDOWS; i++)
		if (l->window_ms == limit_usual_ms(i))
			return true;
	return false;
}

void
limit_round_up(struct pace_limit *l)
{
	unsigned i;

	for (i = 0; i < USUAL_WINDOWS && limit_is_fine(l); i++) {
		int64_t usual = limit_usual_ms(i);

		if (l->window_ms > usual * 9 / 10 && l->window_ms < usual)
			l->window_ms = usual;
	}
}

/* The usual window that this one is, or is a little longer than; 0: none. */
static int64_t
nearest_usual(const struct pace_limit *l)
{
	unsigned i;

	for (i = 0; i < USUAL_WINDOWS && limit_is_fine(l); i++) {
		int64_t usual = limit_usual_ms(i);

		if (l->window_ms >= usual &&
		    l->window_ms <= usual + usual / STRETCH)
			return usual;
	}
	return 0;
}

bool
limit_is_likely(const struct pace_limit *l)
{
	return nearest_usual(l) > 0;
}

void
limit_lower(struct pace_limit *l)
{
	int64_t usual = nearest_usual(l), longer;

	longer = l->window_ms + l->window_ms / STRETCH_STEP;
	if (usual > 0 && longer <= usual + usual / STRETCH) {
		l->window_ms = longer;
		return;
	}
	if (usual > 0)
		l->window_ms = usual;
	if (limit_is_fine(l))
		l->count -= (l->count + LESS - 1) / LESS;
	else
		l->window_ms += l->window_ms / LESS + 1;
}

void
limit_add(struct pace_limit *l, double more)
{
	uint64_t add = (uint64_t)((double)l->count * more);

	l->count += add == 0 ? 1 : add;
}

void
limit_shorten(struct pace_limit *l, double more)
{
	int64_t less = (int64_t)((double)l->window_ms / (1 + more));
	unsigned i;

	for (i = 0; i < USUAL_WINDOWS && limit_is_fine(l); i++) {
		int64_t usual = limit_usual_ms(i);

		if (l->window_ms > usual && less < usual)
			less = usual;
	}
	l->window_ms = less < 1 ? 1 : less;
}
