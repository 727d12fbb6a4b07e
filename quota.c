/*
 * How many recipients were sent to in the last 24 hours, kept by quarters of
 * an hour; where the text of it is stored is up to the caller.
 *
 * Within a process only the monotonic clock counts, so setting the clock
 * neither frees nor blocks anything.
 */
#include "sched.h"

#include <inttypes.h>
#include <string.h>

enum { QUARTER_MS = 15 * 60 * 1000 };

static int64_t
quarter_at(const struct quota *q, int64_t ms)
{
	return (ms + q->shift_ms) / QUARTER_MS;
}

static uint32_t *
slot(struct quota *q, int64_t quarter)
{
	return &q->count[quarter % QUOTA_QUARTERS];
}

/* Forget what is over a day old. */
static void
advance(struct quota *q, int64_t quarter)
{
	if (quarter - q->quarter >= QUOTA_QUARTERS) {
		memset(q->count, 0, sizeof(q->count));
		q->used = 0;
		q->quarter = quarter;
	}
	while (q->quarter < quarter) {
		uint32_t *count = slot(q, ++q->quarter);

		q->used -= *count;
		*count = 0;
	}
}

void
quota_add(struct quota *q, int64_t now_ms, unsigned recipients)
{
	uint32_t *count;

	advance(q, quarter_at(q, now_ms));
	count = slot(q, q->quarter);
	if (recipients > UINT32_MAX - *count)
		recipients = UINT32_MAX - *count;
	*count += recipients;
	q->used += recipients;
}

void
quota_give_back(struct quota *q, int64_t sent_ms, unsigned recipients)
{
	int64_t quarter = quarter_at(q, sent_ms);
	uint32_t *count;

	if (quarter < 0 || quarter <= q->quarter - QUOTA_QUARTERS)
		return;
	count = slot(q, quarter);
	if (recipients > *count)
		recipients = *count;
	*count -= recipients;
	q->used -= recipients;
}

uint64_t
quota_used(const struct quota *q, int64_t now_ms)
{
	struct quota then = *q;

	advance(&then, quarter_at(q, now_ms));
	return then.used;
}

/* A message to more than a whole day's worth goes when nothing else did. */
int64_t
quota_wait_ms(const struct quota *q, int64_t now_ms, unsigned recipients)
{
	struct quota then;
	int64_t quarter;

	if (q->limit == 0 || q->used + recipients <= q->limit)
		return 0;
	then = *q;
	quarter = quarter_at(q, now_ms);
	advance(&then, quarter);
	if (then.used == 0 || then.used + recipients <= then.limit)
		return 0;
	while (then.used > 0 && then.used + recipients > then.limit)
		advance(&then, ++quarter);
	return quarter * QUARTER_MS - q->shift_ms - now_ms;
}

/* "1 WALL QUARTERS NEWEST OLDER ...": the same moment in milliseconds of both
 * times, and the counts without the zeros at the end. */
void
quota_save(const struct quota *q, struct instant now, struct buf *out)
{
	struct quota then = *q;
	uint64_t left;
	int64_t i;

	advance(&then, quarter_at(q, now.mono_ms));
	left = then.used;
	buf_printf(out, "1 %" PRId64 " %" PRId64, now.wall_ms,
	    now.mono_ms + q->shift_ms);
	for (i = then.quarter; left > 0; i--) {
		uint32_t count = *slot(&then, i);

		buf_printf(out, " %" PRIu32, count);
		left -= count;
	}
	buf_add_char(out, '\n');
}

/* A number and what separates it from the next. */
static bool
take_number(struct span *s, uint64_t max, uint64_t *out)
{
	struct span word;

	(void)span_cut(*s, ' ', &word, s);
	return parse_number(word, max, out);
}

bool
quota_load(struct quota *q, struct instant now, struct span text)
{
	/* Far enough for any date, and for sums of two. */
	const uint64_t latest = INT64_MAX / 4;
	struct quota then = { .limit = q->limit };
	uint64_t version, wall, time, count;
	int64_t i, elapsed;

	if (!span_cut(text, '\n', &text, &(struct span){ NULL, 0 }) ||
	    !take_number(&text, 1, &version) || version != 1 ||
	    !take_number(&text, latest, &wall) ||
	    !take_number(&text, latest, &time))
		return false;
	then.quarter = (int64_t)time / QUARTER_MS;
	for (i = then.quarter; text.len > 0; i--) {
		if (i < 0 || i <= then.quarter - QUOTA_QUARTERS ||
		    !take_number(&text, UINT32_MAX, &count))
			return false;
		*slot(&then, i) = (uint32_t)count;
		then.used += count;
	}
	elapsed = now.wall_ms - (int64_t)wall;
	if (elapsed < 0)
		elapsed = 0;
	then.shift_ms = (int64_t)time + elapsed - now.mono_ms;
	*q = then;
	return true;
}
