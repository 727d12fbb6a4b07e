/*
 * The transactions in flight on a link, the replies that they are owed, and
 * how many there may be.
 *
 * Each command written adds an expected reply, each reply read takes the
 * oldest.  So PIPELINING (RFC 2920) is the natural way; without it a command
 * is written only when no reply is outstanding.  With CHUNKING (RFC 3030)
 * whole messages are in flight, RSET before each, so that one that was
 * refused does not drag the next along.
 */
#include "transaction.h"

#include <stdlib.h>
#include <string.h>

enum { UNCONFIRMED_MAX = 1 << 20 }; /* octets, of more than one message */

void
pipeline_init(struct pipeline *p, unsigned can, unsigned limit)
{
	p->can = can;
	if ((can & SMTP_CAN_PIPELINING) == 0)
		p->can &= ~SMTP_CAN_CHUNKING;
	p->window = 1;
	p->limit = limit;
}

/* ---- expected replies ---- */

void
pipeline_expect(struct pipeline *p, enum command command, struct transaction *t,
    uint64_t end)
{
	if (p->first + p->waiting == p->size && p->first > p->size / 2) {
		memmove(p->expected, p->expected + p->first,
		    p->waiting * sizeof(*p->expected));
		p->first = 0;
	} else if (p->first + p->waiting == p->size) {
		p->size = 2 * p->size + 16;
		p->expected =
		    mem_array(p->expected, p->size, sizeof(*p->expected));
	}
	p->expected[p->first + p->waiting++] =
	    (struct expected){ command, t, end };
	if (t != NULL)
		t->waiting++;
}

const struct expected *
pipeline_expected(const struct pipeline *p)
{
	return &p->expected[p->first];
}

struct expected
pipeline_take(struct pipeline *p)
{
	struct expected e = p->expected[p->first++];

	p->waiting--;
	if (e.transaction != NULL)
		e.transaction->waiting--;
	return e;
}

enum written
expected_written(const struct expected *e, uint64_t octets)
{
	if (octets < e->end)
		return WRITTEN_PART;
	if (command_is_end(e->command) && octets < e->transaction->end)
		return WRITTEN_COMMAND;
	return WRITTEN_ALL;
}

/* ---- transactions ---- */

bool
pipeline_has_room(const struct pipeline *p)
{
	if (p->count == 0)
		return true;
	if ((p->can & SMTP_CAN_CHUNKING) != 0)
		return p->count < p->window;
	/* The content of the next waits for its 354, so it is at no risk. */
	return (p->can & SMTP_CAN_PIPELINING) != 0 && p->count < 2 &&
	    p->limit > 1;
}

void
pipeline_add(struct pipeline *p, struct transaction *t)
{
	bool behind = p->count > 0 && (p->can & SMTP_CAN_CHUNKING) != 0;

	if (behind || (p->count == 0 && p->dirty))
		t->step = STEP_RSET;
	if (p->oldest == NULL)
		p->oldest = t;
	else
		p->newest->next = t;
	p->newest = t;
	p->count++;
}

static uint64_t
octets_of(const struct pipeline *p)
{
	const struct transaction *t;
	uint64_t octets = 0;

	for (t = p->oldest; t != NULL; t = t->next)
		octets += t->size;
	return octets;
}

bool
pipeline_may_ask(const struct pipeline *p)
{
	const struct transaction *t = p->newest;

	if ((p->can & SMTP_CAN_PIPELINING) == 0)
		return p->waiting == 0;
	if ((p->can & SMTP_CAN_CHUNKING) == 0)
		return true;
	if (t->step <= STEP_MAIL)
		return t == p->oldest || octets_of(p) <= UNCONFIRMED_MAX;
	return t->step != STEP_DATA || t->size <= TRANSACTION_LARGE ||
	    t->waiting == 0;
}

void
pipeline_confirm(struct pipeline *p)
{
	p->window = p->window * 2 < p->limit ? p->window * 2 : p->limit;
}

void
pipeline_lock_step(struct pipeline *p)
{
	p->can &= ~(SMTP_CAN_PIPELINING | SMTP_CAN_CHUNKING);
}

void
pipeline_no_bdat(struct pipeline *p)
{
	p->can &= ~SMTP_CAN_CHUNKING;
}

struct delivery *
pipeline_drop(struct pipeline *p)
{
	struct transaction *t = p->oldest;
	struct delivery *d = t->delivery;

	p->oldest = t->next;
	if (p->oldest == NULL)
		p->newest = NULL;
	p->count--;
	p->dirty = t->open || t->chunked;
	transaction_free(t);
	return d;
}
