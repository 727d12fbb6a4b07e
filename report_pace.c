/*
 * What "status" prints of how fast, how much and over how many connections a
 * relay may be sent to.
 */
#include "report.h"

#include <inttypes.h>

static void
add_limit(const char *name, uint64_t limit, struct buf *out)
{
	buf_printf(out, ", \"%s\": ", name);
	if (limit > 0)
		buf_printf(out, "%" PRIu64, limit);
	else
		buf_add_text(out, "null");
}

void
report_pace_json(const struct sched_relay_status *r, struct buf *out)
{
	buf_printf(out, "\"throttled\": %" PRIu64 ", \"rate\": ", r->throttled);
	if (r->rate > 0)
		buf_printf(out, "%.3g", r->rate);
	else
		buf_add_text(out, "null");
	buf_printf(out, ", \"paced_for\": %" PRId64,
	    (r->paced_ms + 999) / 1000);
	add_limit("connection_limit", r->connection_limit, out);
	add_limit("daily", r->daily, out);
	buf_printf(out, ", \"used_today\": %" PRIu64, r->used_today);
}

void
report_pace_text(const struct sched_relay_status *r, struct buf *out)
{
	if (r->rate > 0)
		buf_printf(out, "    rate: at most %.3g recipients a second\n",
		    r->rate);
	if (r->throttled > 0)
		buf_printf(out,
		    "    throttled: %" PRIu64 " recipients, sent to later\n",
		    r->throttled);
	if (r->connection_limit > 0)
		buf_printf(out, "    connections: it takes no more than %u\n",
		    r->connection_limit);
	if (r->daily > 0)
		buf_printf(out,
		    "    daily: %" PRIu64 " of %" PRIu64 " recipients\n",
		    r->used_today, r->daily);
}
