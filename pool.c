/*
 * The links to one relay under one configuration: how many there may be, and
 * the pause that a fault of the relay costs it.
 */
#include "sched.h"

#include <stdlib.h>
#include <string.h>

/* How long a pause is; it doubles with each fault. */
enum {
	PAUSE_MS = 1000,
	PAUSE_LOGIN_MS = 5000,
	PAUSE_QUOTA_MS = 10 * 60 * 1000,
	PAUSE_MAX_MS = 5 * 60 * 1000,
	PAUSE_QUOTA_MAX_MS = 60 * 60 * 1000,
};

/* A relayhost may be mended, and each try costs a connection. */
enum { BY_DATA_MS = 24 * 60 * 60 * 1000 };

struct pool *
pool_new(struct sched *s, struct config *config,
    const struct config_relay *relay)
{
	struct pool *p = mem_alloc(sizeof(*p));

	p->sched = s;
	p->config = config_hold(config);
	p->relay = relay;
	p->link = mem_alloc(relay->connections * sizeof(struct relay_link *));
	p->throttle = throttle_new(relay);
	p->next_size = 1;
	return p;
}

void
pool_free(struct pool *p)
{
	due_free(&p->ready);
	due_free(&p->parked);
	throttle_release(p->throttle);
	config_release(p->config);
	free(p->link);
	free(p);
}

void
pool_inherit(struct pool *p, const struct pool *old)
{
	p->counts = old->counts;
	p->fault = old->fault;
	p->fault_wall_ms = old->fault_wall_ms;
	p->sent_wall_ms = old->sent_wall_ms;
	if (strcmp(p->relay->host, old->relay->host) != 0 ||
	    p->relay->port != old->relay->port) {
		p->throttle->pace.quota = old->throttle->pace.quota;
		p->throttle->pace.quota.limit = p->relay->daily;
		return;
	}
	throttle_release(p->throttle);
	p->throttle = throttle_hold(old->throttle, p->relay);
}

int64_t
pool_wait_ms(const struct pool *p, int64_t now_ms)
{
	return pace_wait_ms(&p->throttle->pace, now_ms, p->next_size);
}

bool
pool_may_open(const struct pool *p, int64_t now_ms)
{
	return p->link_count < pace_links_allowed(&p->throttle->links, now_ms,
				   p->relay->connections);
}

void
pool_lift(struct pool *p)
{
	p->paused = p->probing = p->wanted = false;
	p->pause_ms = 0;
}

bool
pool_probes(const struct pool *p, int64_t now_ms)
{
	return p->paused && now_ms >= p->probe_at_ms && p->link_count == 0 &&
	    (p->wanted || p->ready.count + p->parked.count > 0);
}

/* The first wait after a fault, and the longest.  Failed logins must not lock
 * us out, and a quota is not given back soon. */
static int64_t
first_pause_ms(enum fault_kind kind, int64_t *most_ms)
{
	*most_ms = kind == FAULT_QUOTA ? PAUSE_QUOTA_MAX_MS : PAUSE_MAX_MS;
	if (kind == FAULT_QUOTA)
		return PAUSE_QUOTA_MS;
	return kind == FAULT_AUTH || kind == FAULT_ACCOUNT ? PAUSE_LOGIN_MS
							   : PAUSE_MS;
}

void
pool_pause(struct pool *p, const struct fault *fault, struct instant now)
{
	int64_t wait, most, first = first_pause_ms(fault->kind, &most);
	struct buf text = { NULL, 0, 0 };

	p->fault = *fault;
	p->fault_wall_ms = now.wall_ms;
	if (p->paused && now.mono_ms < p->probe_at_ms)
		return; /* another link of the same moment */
	p->pause_ms = p->pause_ms < first ? first : p->pause_ms * 2;
	if (p->pause_ms > most)
		p->pause_ms = most;
	wait = p->pause_ms * 9 / 10 +
	    (int64_t)(random_bits() % (uint64_t)(p->pause_ms / 5 + 1));
	p->paused = true;
	p->probing = false;
	p->probe_at_ms = now.mono_ms + wait;
	buf_add_words(&text, span_of(fault->text));
	log_warning("smtp", "relay %s is paused (%s): %s; next try in %.1f s",
	    p->relay->name, fault_name(fault->kind), buf_text(&text),
	    (double)wait / 1000);
	buf_free(&text);
}

void
pool_crowded(struct pool *p, const char *reply, struct instant now)
{
	struct pace_links *links = &p->throttle->links;
	unsigned before = links->limit;
	struct buf text = { NULL, 0, 0 };

	pace_links_refused(links, now.mono_ms, (unsigned)p->link_count);
	buf_add_words(&text, span_of(reply));
	if (links->limit != before)
		log_info("smtp",
		    "relay %s takes no more than %u connections: %s",
		    p->relay->name, links->limit, buf_text(&text));
	buf_free(&text);
}

bool
pool_by_data(const struct pool *p, int64_t now_ms)
{
	return now_ms < p->by_data_ms;
}

void
pool_no_bdat(struct pool *p, int64_t now_ms)
{
	if (!pool_by_data(p, now_ms))
		log_info("smtp",
		    "relay %s offers CHUNKING but has no BDAT; DATA is used "
		    "for a day",
		    p->relay->name);
	p->by_data_ms = now_ms + BY_DATA_MS;
}

void
pool_recover(struct pool *p)
{
	if (p->paused)
		log_info("smtp", "relay %s works again", p->relay->name);
	p->paused = p->probing = p->wanted = false;
}

void
pool_status(const struct pool *p, struct instant now,
    struct sched_relay_status *status)
{
	const struct throttle *t = p->throttle;
	int64_t wait = pool_wait_ms(p, now.mono_ms);
	struct pace_status pace;

	pace_status(&t->pace, now.mono_ms, &pace);
	*status = (struct sched_relay_status){ .name = p->relay->name,
		.host = p->relay->host,
		.port = p->relay->port,
		.paused = p->paused,
		.connections = (unsigned)p->link_count,
		.retry_in_ms = p->paused && p->probe_at_ms > now.mono_ms
		    ? p->probe_at_ms - now.mono_ms
		    : 0,
		.fault = p->fault,
		.fault_wall_ms = p->fault_wall_ms,
		.sent_wall_ms = p->sent_wall_ms,
		.tls = p->tls,
		.sent = p->counts.sent,
		.deferred = p->counts.deferred,
		.failed = p->counts.failed,
		.delay = &p->counts.delay,
		.rate = pace.rate,
		.paced_ms = wait == INT64_MAX ? 0 : wait,
		.throttled = pace.throttled,
		.connection_limit = t->links.limit,
		.daily = t->pace.quota.limit,
		.used_today = pace.used_today };
}
