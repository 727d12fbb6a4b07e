/*
 * How many connections a relayhost takes: found by being refused, and looked
 * for anew now and then by trying one more.
 */
#include "sched.h"

enum {
	/* One connection more is tried so rarely, doubling up to the second. */
	LINKS_WAIT_MS = 10 * 60 * 1000,
	LINKS_WAIT_MAX_MS = 4 * 60 * 60 * 1000,
};

unsigned
pace_links_allowed(const struct pace_links *l, int64_t now_ms,
    unsigned configured)
{
	unsigned allowed = l->limit + (now_ms >= l->again_ms);

	return l->limit == 0 || allowed > configured ? configured : allowed;
}

void
pace_links_refused(struct pace_links *l, int64_t now_ms, unsigned open)
{
	unsigned accepted = open > 1 ? open - 1 : 1;

	/* The trial of one more, or something new? */
	if (l->limit > 0 && accepted == l->limit && l->wait_ms > 0)
		l->wait_ms *= 2;
	else
		l->wait_ms = LINKS_WAIT_MS;
	if (l->wait_ms > LINKS_WAIT_MAX_MS)
		l->wait_ms = LINKS_WAIT_MAX_MS;
	l->limit = accepted;
	l->again_ms = now_ms + l->wait_ms;
}

void
pace_links_ready(struct pace_links *l, int64_t now_ms, unsigned open)
{
	if (l->limit == 0 || open <= l->limit)
		return;
	l->limit = open;
	l->wait_ms = LINKS_WAIT_MS;
	l->again_ms = now_ms + l->wait_ms;
}
