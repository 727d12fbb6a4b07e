/*
 * What tests of the scheduler share: a real spool, links that only the test
 * speaks for, and a clock that it sets.  A test that includes this wraps
 *
 *   relay_open relay_wake relay_shut relay_idle relay_ready relay_match
 *   relay_peer relay_tls clock_read
 */
#ifndef LINKS_H
#define LINKS_H

#include "scheduler.h"

#include <errno.h>
#include <unistd.h>

/* ---- links ---- */

struct relay_link {
	const struct relay_handlers *handlers;
	void *arg;
	const char *relay;
	bool ready;
	bool open;
	unsigned window; /* at least another's, if the scheduler says so */
	struct delivery *delivery; /* being made */
};

enum { LINKS = 8 };
static struct {
	struct relay_link link[LINKS];
	unsigned opened;
	int64_t clock_ms;
	int64_t step_ms; /* of the wall clock alone */
} fake;

struct relay_link *
__wrap_relay_open(struct connector *c, struct loop *l, struct config *config,
    const struct config_relay *r, const struct relay_handlers *handlers,
    void *arg)
{
	struct relay_link *link = &fake.link[fake.opened++ % LINKS];

	(void)c;
	(void)l;
	(void)config;
	assert_false(link->open);
	*link = (struct relay_link){ .handlers = handlers,
		.arg = arg,
		.relay = r->name,
		.open = true };
	return link;
}

void
__wrap_relay_wake(struct relay_link *link)
{
	if (link->ready && link->delivery == NULL)
		link->delivery = link->handlers->next(link->arg, link);
}

static inline void
close_link(struct relay_link *link, const struct fault *fault)
{
	link->open = false;
	link->handlers->closed(link->arg, link, fault);
}

void
__wrap_relay_shut(struct relay_link *link)
{
	if (link->delivery == NULL)
		close_link(link, NULL);
}

bool
__wrap_relay_idle(const struct relay_link *link)
{
	return link->ready && link->delivery == NULL;
}

bool
__wrap_relay_ready(const struct relay_link *link)
{
	return link->ready;
}

void
__wrap_relay_match(struct relay_link *link, const struct relay_link *other)
{
	if (link->window < other->window)
		link->window = other->window;
}

void
__wrap_clock_read(struct instant *now)
{
	__real_clock_read(now);
	now->mono_ms += fake.clock_ms;
	now->wall_ms += fake.clock_ms + fake.step_ms;
}

/* ---- a scheduler to test ---- */

struct bench {
	char path[64];
	struct loop *loop;
	struct queue *queue;
	struct config config;
	struct config_relay relay[3];
	int64_t retry[2];
	struct sched *sched;
	queue_id id;
	unsigned stopped;
};

static char mx[] = "mx", mx2[] = "second", mx3[] = "third", none[] = "";

static inline int
setup(void **state)
{
	static char *const names[] = { mx, mx2, mx3 };
	struct bench *b = mem_alloc(sizeof(*b));
	pid_t owner;
	size_t i;

	memset(&fake, 0, sizeof(fake));
	(void)snprintf(b->path, sizeof(b->path), "/tmp/test_sched.XXXXXX");
	assert_non_null(mkdtemp(b->path));
	b->loop = loop_new();
	b->queue = queue_open(b->path, 0, &owner);
	b->retry[0] = 60;
	b->retry[1] = 300;
	for (i = 0; i < 3; i++)
		b->relay[i] = (struct config_relay){ .name = names[i],
			.host = names[i],
			.maildir = none,
			.port = 587,
			.connections = 2,
			.recipients_per_message = 2 };
	b->config = (struct config){ .relay = b->relay,
		.relay_count = 1,
		.retry = b->retry,
		.retry_count = 2,
		.queue_lifetime = 5 * 86400,
		.references = 1000 };
	b->sched = sched_new(b->loop, b->queue, NULL, &b->config);
	*state = b;
	return 0;
}

static inline int
teardown(void **state)
{
	struct bench *b = *state;
	size_t i;

	sched_free(b->sched);
	for (i = 0; i < 3; i++)
		strings_free(&b->relay[i].senders);
	queue_close(b->queue);
	loop_free(b->loop);
	remove_spool(b->path);
	free(b);
	return 0;
}

static inline void
committed(void *arg, queue_id id, int error)
{
	struct bench *b = arg;

	assert_int_equal(error, 0);
	b->id = id;
}

static inline queue_id
store_from(struct bench *b, const char *sender, unsigned recipients)
{
	put_message(b->queue, sender, recipients, committed, b);
	(void)queue_sync(b->queue);
	return b->id;
}

static inline queue_id
store(struct bench *b, unsigned recipients)
{
	return store_from(b, "from@here.example", recipients);
}

/* One turn of the loop; nothing waits in it. */
static inline void
turn(struct bench *b)
{
	loop_hurry(b->loop);
	assert_int_equal(loop_turn(b->loop), 0);
}

static inline queue_id
submit(struct bench *b, unsigned recipients)
{
	queue_id id = store(b, recipients);

	sched_add(b->sched, id, 0);
	turn(b);
	return id;
}

static inline queue_id
submit_from(struct bench *b, const char *sender)
{
	queue_id id = store_from(b, sender, 1);

	sched_add(b->sched, id, 0);
	turn(b);
	return id;
}

/* So many of the relays, the first of them only for this sender. */
static inline void
use_relays(struct bench *b, size_t count, const char *sender)
{
	b->config.relay_count = count;
	if (sender != NULL)
		strings_add(&b->relay[0].senders, span_of(sender));
	sched_configure(b->sched, &b->config);
}

static inline void
make_ready(struct bench *b, struct relay_link *link)
{
	link->ready = true;
	link->handlers->ready(link->arg, link);
	turn(b);
}

/* The link's delivery ends with these verdicts, one a recipient. */
static inline void
end_delivery(struct relay_link *link, const enum verdict *verdict)
{
	struct delivery *d = link->delivery;
	size_t i;

	assert_non_null(d);
	for (i = 0; i < d->recipient_count; i++) {
		d->recipient[i].verdict = verdict[i];
		d->recipient[i].reply = mem_text("250 said so");
	}
	link->delivery = NULL;
	link->handlers->done(link->arg, link, d);
}

static inline void
finish(struct bench *b, struct relay_link *link, const enum verdict *verdict)
{
	end_delivery(link, verdict);
	turn(b);
}

static inline void
fail_link(struct bench *b, struct relay_link *link, enum fault_kind kind)
{
	struct fault fault = { .kind = kind, .text = "it is broken" };

	close_link(link, &fault);
	turn(b);
}

static inline void
advance(struct bench *b, int64_t ms)
{
	fake.clock_ms += ms;
	turn(b);
	turn(b);
}

static inline size_t
waiting(const struct bench *b)
{
	struct sched_status status;

	sched_status(b->sched, &status);
	return status.waiting;
}

static inline struct sched_relay_status
status_of(const struct bench *b, size_t relay)
{
	struct sched_relay_status status;

	assert_true(sched_relay_status(b->sched, relay, &status));
	return status;
}

static inline struct sched_relay_status
relay_status(const struct bench *b)
{
	return status_of(b, 0);
}

static const enum verdict all_sent[] = { VERDICT_SENT, VERDICT_SENT };
static const enum verdict none_tried[] = { VERDICT_NONE, VERDICT_NONE };
static const enum verdict deferred[] = { VERDICT_DEFERRED, VERDICT_DEFERRED };

#endif
