/*
 * The whole scheduler, on a real spool, against a simulated relayhost that
 * throttles: the clock stands still until the next thing would happen, so
 * minutes pass in milliseconds.  The measured figures are printed.
 *
 * wrap: relay_open relay_wake relay_shut relay_idle relay_ready relay_match
 * wrap: relay_peer relay_tls clock_read
 */
#include "limits.h"
#include "scheduler.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

enum { WINDOW = 16, LINKS = 16, START_MS = 1000000 };
static const char ok[] = "250 2.0.0 ok";
static const char ses[] =
    "454 Throttling failure: Maximum sending rate exceeded.";
static const char rate[] = "450 4.7.0 rate";
static const char shutdown[] = "421 4.3.2 that is enough";
static const char crowded[] = "432 4.3.2 Concurrent connections limit exceeded";
static const char turned_away[] =
    "mx refused the connection: 421 Too many concurrent SMTP connections";

/* ---- the relayhost and the links to it ---- */

struct scene {
	struct policy policy;
	const char *refusal;      /* NULL: it takes all */
	bool every_second;        /* is refused, however late it comes */
	unsigned links;           /* at most; 0: any number */
	bool full;                /* no connection is taken */
	bool late;                /* ... told at a message, not at connect */
	unsigned messages_a_link; /* 0: any number; then 421 */
	unsigned window;          /* messages in flight on a link */
	int64_t latency_ms;       /* from a message to its reply */
	unsigned work_ms;         /* at most, on each: one after the other */
	int64_t settled_ms;       /* refusals from here on are counted apart */
	int64_t apart_ms;         /* from one that is handed over to the next */
};

struct flight {
	struct delivery *delivery;
	const char *reply;
	int64_t at_ms;
};

struct relay_link {
	const struct relay_handlers *handlers;
	void *arg;
	bool open, ready, shut;
	int64_t ready_ms;
	struct flight flight[WINDOW];
	unsigned count;
	unsigned taken;
};

static struct {
	struct scene scene;
	struct relayhost host;
	struct relay_link link[LINKS];
	unsigned opened, most_open;
	int64_t now_ms;
	int64_t arrival_ms; /* of the last message */
	uint32_t chance;
	unsigned to_come; /* messages that programs still hand over ... */
	int64_t comes_ms; /* ... the next one then */
	int64_t last_ms;  /* the last one that was taken was sent */
	unsigned tried, taken, refused, tried_late, refused_late;
	bool flip;
	bool attempts; /* one of its own was counted */
	bool disordered;
	queue_id last_id;
} world;

void
__wrap_clock_read(struct instant *now)
{
	now->mono_ms = world.now_ms;
	now->wall_ms = INT64_C(1700000000000) + world.now_ms;
}

static unsigned
open_links(void)
{
	unsigned i, n = 0;

	for (i = 0; i < LINKS; i++)
		n += world.link[i].open;
	return n;
}

struct relay_link *
__wrap_relay_open(struct connector *c, struct loop *l, struct config *config,
    const struct config_relay *r, const struct relay_handlers *handlers,
    void *arg)
{
	struct relay_link *link = world.link;

	(void)c;
	(void)l;
	(void)config;
	(void)r;
	while (link->open)
		link++;
	assert_true(world.opened < 1000); /* it tries in vain, and at once */
	*link = (struct relay_link){ .handlers = handlers,
		.arg = arg,
		.open = true,
		.ready_ms = world.now_ms + 2 * world.scene.latency_ms };
	world.opened++;
	if (open_links() > world.most_open)
		world.most_open = open_links();
	return link;
}

static const char *
answer(const struct relay_link *link)
{
	const struct scene *s = &world.scene;

	if (s->full)
		return crowded;
	if (s->late && s->links > 0 && open_links() > s->links)
		return crowded;
	if (s->messages_a_link > 0 && link->taken >= s->messages_a_link)
		return shutdown;
	if (s->every_second && (world.flip = !world.flip))
		return s->refusal;
	if (s->refusal != NULL && !s->every_second &&
	    !relayhost_accepts(&world.host, world.arrival_ms - START_MS))
		return s->refusal;
	return ok;
}

static void
send_one(struct relay_link *link, struct delivery *d)
{
	struct flight *f = &link->flight[link->count++];
	bool late = world.now_ms - START_MS >= world.scene.settled_ms;

	if (world.arrival_ms < world.now_ms + world.scene.latency_ms / 2)
		world.arrival_ms = world.now_ms + world.scene.latency_ms / 2;
	world.chance = world.chance * 1664525u + 1013904223u;
	if (world.scene.work_ms > 0)
		world.arrival_ms +=
		    (world.chance >> 8) % (world.scene.work_ms + 1);
	*f = (struct flight){ d, answer(link),
		world.arrival_ms + world.scene.latency_ms / 2 };
	world.tried++;
	world.tried_late += late;
	world.attempts |= d->entry->attempts > 0;
	if (f->reply != ok) {
		world.refused += f->reply == world.scene.refusal;
		world.refused_late += late && f->reply == world.scene.refusal;
		return;
	}
	link->taken++;
	world.taken++;
	world.last_ms = world.now_ms;
	world.disordered |= d->entry->id < world.last_id;
	world.last_id = d->entry->id;
}

static void
pull(struct relay_link *link)
{
	struct delivery *d;

	while (link->open && link->ready && !link->shut &&
	    link->count < world.scene.window &&
	    (d = link->handlers->next(link->arg, link)) != NULL)
		send_one(link, d);
}

/* What transaction.c makes of a reply. */
static void
judge(struct delivery *d, const char *reply)
{
	int code = atoi(reply);
	char status[12];
	enum reply_cause cause;
	size_t i;

	smtp_reply_status(reply, code, status);
	cause = reply_cause(code, status, reply);
	for (i = 0; i < d->recipient_count; i++) {
		struct delivery_recipient *r = &d->recipient[i];

		r->verdict = code < 300                     ? VERDICT_SENT
		    : code == 421 || cause != CAUSE_MESSAGE ? VERDICT_NONE
							    : VERDICT_DEFERRED;
		r->cause = code < 300 ? CAUSE_MESSAGE : cause;
		r->reply = mem_text(reply);
	}
}

static void
close_link(struct relay_link *link, const struct fault *fault)
{
	while (link->count > 0) {
		struct delivery *d = link->flight[--link->count].delivery;

		judge(d, "421 not tried");
		link->handlers->done(link->arg, link, d);
	}
	link->open = false;
	link->handlers->closed(link->arg, link, fault);
}

static void
take_reply(struct relay_link *link)
{
	struct flight f = link->flight[0];

	memmove(link->flight, link->flight + 1,
	    --link->count * sizeof(link->flight[0]));
	judge(f.delivery, f.reply);
	link->shut |= f.reply == crowded || f.reply == shutdown;
	link->handlers->done(link->arg, link, f.delivery);
	if (f.reply == shutdown || (link->shut && link->count == 0))
		close_link(link, NULL);
	else
		pull(link);
}

static void
get_ready(struct relay_link *link)
{
	struct fault fault = { .kind = FAULT_GREETING, .code = 421 };

	if (world.scene.links > 0 && !world.scene.late &&
	    open_links() > world.scene.links) {
		memcpy(fault.text, turned_away, sizeof(turned_away));
		close_link(link, &fault);
		return;
	}
	link->ready = true;
	link->handlers->ready(link->arg, link);
	pull(link);
}

void
__wrap_relay_wake(struct relay_link *link)
{
	pull(link);
}

void
__wrap_relay_shut(struct relay_link *link)
{
	link->shut = true;
	if (link->count == 0)
		close_link(link, NULL);
}

bool
__wrap_relay_idle(const struct relay_link *link)
{
	return link->ready && link->count == 0 && !link->shut;
}

bool
__wrap_relay_ready(const struct relay_link *link)
{
	return link->ready;
}

void
__wrap_relay_match(struct relay_link *link, const struct relay_link *other)
{
	(void)link;
	(void)other;
}

/* ---- a scheduler ---- */

struct bench {
	char path[64];
	struct loop *loop;
	struct queue *queue;
	struct config config;
	struct config_relay relay;
	int64_t retry[1];
	struct sched *sched;
	unsigned over;
};

static void
on_over(void *arg, struct entry *e)
{
	struct bench *b = arg;

	b->over++;
	entry_close(e);
}

static void
open_sched(struct bench *b)
{
	pid_t owner;

	b->loop = loop_new();
	b->queue = queue_open(b->path, 0, &owner);
	assert_non_null(b->queue);
	b->sched = sched_new(b->loop, b->queue, NULL, &b->config);
	sched_on_end(b->sched, on_over, NULL, b);
}

static void
close_sched(struct bench *b)
{
	sched_free(b->sched);
	queue_close(b->queue);
	loop_free(b->loop);
}

static int
setup(void **state)
{
	static char mx[] = "mx", none[] = "";
	struct bench *b = mem_alloc(sizeof(*b));

	memset(&world, 0, sizeof(world));
	world.now_ms = START_MS;
	world.scene.window = WINDOW;
	(void)snprintf(b->path, sizeof(b->path), "/tmp/test_throttle.XXXXXX");
	assert_non_null(mkdtemp(b->path));
	b->retry[0] = 60;
	b->relay = (struct config_relay){ .name = mx,
		.host = mx,
		.maildir = none,
		.port = 587,
		.connections = 2,
		.recipients_per_message = 50 };
	b->config = (struct config){ .relay = &b->relay,
		.relay_count = 1,
		.retry = b->retry,
		.retry_count = 1,
		.queue_lifetime = 5 * 86400,
		.references = 1000 };
	open_sched(b);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	close_sched(b);
	remove_spool(b->path);
	free(b);
	return 0;
}

/* The same anew. */
static struct bench *
again(void **state)
{
	assert_int_equal(teardown(state), 0);
	assert_int_equal(setup(state), 0);
	return *state;
}

static void
committed(void *arg, queue_id id, int error)
{
	struct bench *b = arg;

	assert_int_equal(error, 0);
	sched_add(b->sched, id, 0);
}

static void
store(struct bench *b, unsigned recipients)
{
	put_message(b->queue, "a@here.example", recipients, committed, b);
}

static void
store_many(struct bench *b, unsigned messages)
{
	while (messages-- > 0)
		store(b, 1);
	while (queue_sync(b->queue))
		;
}

/* One after the other, as a program hands them over. */
static void
hand_over(struct bench *b)
{
	for (; world.to_come > 0 && world.comes_ms <= world.now_ms;
	     world.to_come--) {
		store_many(b, 1);
		world.comes_ms += world.scene.apart_ms;
	}
}

static void
turn(struct bench *b)
{
	loop_hurry(b->loop);
	assert_int_equal(loop_turn(b->loop), 0);
}

static int64_t
sooner(int64_t at_ms, const struct timer *t)
{
	return t->place != 0 && t->at_ms < at_ms ? t->at_ms : at_ms;
}

/* When anything will happen; INT64_MAX: never. */
static int64_t
next_event(const struct bench *b)
{
	int64_t at = sooner(INT64_MAX, &b->sched->timer);
	size_t i;

	if (world.to_come > 0 && world.comes_ms < at)
		at = world.comes_ms;
	for (i = 0; i < LINKS; i++) {
		const struct relay_link *link = &world.link[i];

		if (link->open && !link->ready && link->ready_ms < at)
			at = link->ready_ms;
		if (link->open && link->count > 0 && link->flight[0].at_ms < at)
			at = link->flight[0].at_ms;
	}
	return sooner(at, &b->sched->save_timer);
}

/* All that happens until then. */
static void
happen(struct bench *b, int64_t at_ms)
{
	size_t i;

	world.now_ms = at_ms > world.now_ms ? at_ms : world.now_ms;
	hand_over(b);
	turn(b);
	for (i = 0; i < LINKS; i++) {
		struct relay_link *link = &world.link[i];

		if (link->open && !link->ready &&
		    link->ready_ms <= world.now_ms)
			get_ready(link);
		while (link->open && link->count > 0 &&
		    link->flight[0].at_ms <= world.now_ms)
			take_reply(link);
	}
	turn(b);
	turn(b);
}

static bool
has_mail(const struct bench *b)
{
	struct sched_status status;

	sched_status(b->sched, &status);
	return status.waiting + status.active > 0;
}

static struct sched_relay_status
relay_status(const struct bench *b)
{
	struct sched_relay_status status;

	assert_true(sched_relay_status(b->sched, 0, &status));
	return status;
}

/* Until all is sent, or for so long. */
static void
run(struct bench *b, int64_t most_ms)
{
	int64_t end = world.now_ms + most_ms, at;

	turn(b);
	while (has_mail(b) || world.to_come > 0) {
		at = next_event(b);
		if (at == INT64_MAX)
			fail_msg("mail waits for nothing");
		if (at > end) {
			world.now_ms = end;
			return;
		}
		happen(b, at);
	}
}

/* The time of somebody who knows what will be taken. */
static int64_t
ideal_ms(const struct policy *policy, unsigned messages)
{
	static struct relayhost host;
	int64_t at = 0;

	memset(&host, 0, sizeof(host));
	relayhost_set(&host, *policy, 0);
	while (messages > 0) {
		if (relayhost_accepts(&host, at))
			messages--;
		else
			at++;
	}
	return at;
}

/* ---- limits ---- */

/* All are sent, none has failed or been counted as tried. */
static void
assert_all_sent(const struct bench *b, unsigned messages)
{
	struct sched_relay_status status = relay_status(b);

	assert_false(has_mail(b));
	assert_int_equal(world.taken, messages);
	assert_int_equal(status.sent, messages);
	assert_int_equal(status.deferred + status.failed, 0);
	assert_int_equal(status.throttled, world.refused);
	assert_int_equal(b->over, 0);
	assert_false(world.attempts);
}

static const struct row {
	const char *name;
	struct scene scene;
	unsigned connections;
} rows[] = {
	{ "14/s",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 16, .latency_ms = 50,
		.settled_ms = 5000 },
	    2 },
	{ "14/s, handed over one by one",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 1, .latency_ms = 2,
		.settled_ms = 5000, .apart_ms = 20 },
	    2 },
	{ "14/s, handed over one by one, fast",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 16, .latency_ms = 1,
		.settled_ms = 5000, .apart_ms = 5 },
	    2 },
	{ "14/s, up to 10 ms' work on each",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 16, .latency_ms = 2,
		.work_ms = 10, .settled_ms = 5000 },
	    2 },
	{ "14/s, up to 40 ms' work on each",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 16, .latency_ms = 50,
		.work_ms = 40, .settled_ms = 5000 },
	    2 },
	{ "14/s, up to 10 ms' work on each, handed over one by one",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 16, .latency_ms = 2,
		.work_ms = 10, .settled_ms = 5000, .apart_ms = 4 },
	    2 },
	{ "14/s, fixed",
	    { { FIXED, 14, 1000, 300 }, ses, .window = 16, .latency_ms = 50,
		.settled_ms = 5000 },
	    2 },
	{ "14/s, bucket",
	    { { BUCKET, 14, 1000, 0 }, ses, .window = 16, .latency_ms = 200,
		.settled_ms = 5000 },
	    2 },
	{ "14/s, in lock-step",
	    { { SLIDING, 14, 1000, 0 }, ses, .window = 1, .latency_ms = 20,
		.settled_ms = 5000 },
	    2 },
	{ "14/s, 3 connections, told at connect",
	    { { SLIDING, 14, 1000, 0 }, ses, .links = 3, .window = 1,
		.latency_ms = 50, .settled_ms = 5000 },
	    10 },
	{ "14/s, 3 connections, told at a message",
	    { { SLIDING, 14, 1000, 0 }, ses, .links = 3, .late = true,
		.window = 1, .latency_ms = 50, .settled_ms = 5000 },
	    10 },
	{ "30/m, 3 connections",
	    { { SLIDING, 30, 60000, 0 }, ses, .links = 3, .window = 1,
		.latency_ms = 50, .settled_ms = 125000 },
	    10 },
	{ "30/m, fixed, 3 connections",
	    { { FIXED, 30, 60000, 20000 }, ses, .links = 3, .late = true,
		.window = 1, .latency_ms = 50, .settled_ms = 125000 },
	    10 },
};

/* At most 1.15 times the time of one who knows the limit, and at most one of
 * twenty refused once it has settled: after 5 s, or after two minutes. */
static void
a_relayhost_that_throttles_is_sent_to_at_its_limit(void **state)
{
	enum { MESSAGES = 300 };
	double ratio, late;
	size_t i;

	for (i = 0; i < COUNT(rows); i++) {
		struct bench *b = i == 0 ? *state : again(state);

		world.scene = rows[i].scene;
		relayhost_set(&world.host, world.scene.policy, 0);
		b->relay.connections = rows[i].connections;
		sched_configure(b->sched, &b->config);
		world.comes_ms = world.now_ms;
		world.to_come = MESSAGES;
		hand_over(b);
		run(b, 3600 * 1000);
		assert_all_sent(b, MESSAGES);
		ratio = (double)(world.last_ms - START_MS) /
		    (double)ideal_ms(&world.scene.policy, MESSAGES);
		late = (double)world.refused_late / world.tried_late;
		print_message("%s: %.3f of the ideal time, %u refused, later "
			      "%.1f %%; %u connections\n",
		    rows[i].name, ratio, world.refused, 100 * late,
		    world.opened);
		assert_true(ratio <= 1.15);
		assert_true(late <= 0.05);
		if (world.scene.links > 0)
			assert_int_equal(world.opened, world.scene.links + 1);
	}
}

/* ---- other cases ---- */

/* I57: one message a connection, every second one refused, ten seconds for a
 * reply.  It is not faster by trying harder, nor by waiting longer, and costs
 * no message a try. */
static void
I57_an_odd_relayhost_gets_all_without_counted_tries(void **state)
{
	struct bench *b = *state;
	enum { MESSAGES = 20 };

	world.scene = (struct scene){ .refusal = rate,
		.every_second = true,
		.messages_a_link = 1,
		.window = 1,
		.latency_ms = 10000 };
	store_many(b, MESSAGES);
	run(b, 24 * 3600 * 1000);
	assert_all_sent(b, MESSAGES);
	print_message("%u tried, %u refused, in %lld s\n", world.tried,
	    world.refused, (long long)(world.now_ms - START_MS) / 1000);
	assert_true(world.refused <= MESSAGES + 1);
	/* Three replies are awaited for each. */
	assert_true(world.now_ms - START_MS < MESSAGES * 3 * 10000 * 3 / 2);
}

static void
throttled_messages_keep_their_order(void **state)
{
	struct bench *b = *state;

	world.scene = (struct scene){ { SLIDING, 5, 1000, 0 }, .refusal = ses,
		.window = 1, .latency_ms = 10 };
	relayhost_set(&world.host, world.scene.policy, 0);
	b->relay.connections = 1;
	sched_configure(b->sched, &b->config);
	store_many(b, 100);
	run(b, 3600 * 1000);
	assert_all_sent(b, 100);
	assert_true(world.refused > 0);
	assert_false(world.disordered);
}

/* One to many waits until the burst is full, holds up those behind it, and is
 * paid for by a wait. */
static void
a_ceiling_counts_recipients(void **state)
{
	struct bench *b = *state;

	b->relay.rate = 2;
	sched_configure(b->sched, &b->config);
	store(b, 1);
	store(b, 10);
	store(b, 1);
	while (queue_sync(b->queue))
		;
	run(b, 400);
	assert_int_equal(world.taken, 1);
	run(b, 3600 * 1000);
	assert_false(has_mail(b));
	assert_int_equal(world.taken, 3);
	assert_false(world.disordered);
	/* 0, 0.5 when the burst is full, and when all 11 but the burst are
	 * paid for. */
	assert_in_range(world.last_ms - START_MS, 5000, 5010);
}

/* A link with room for more is told when the wait is over, though it still
 * awaits replies. */
static void
a_busy_link_is_woken_when_a_wait_ends(void **state)
{
	struct bench *b = *state;

	world.scene.latency_ms = 3000;
	b->relay.rate = 5;
	b->relay.connections = 1;
	sched_configure(b->sched, &b->config);
	store_many(b, 50);
	run(b, 3600 * 1000);
	assert_all_sent(b, 50);
	/* Behind the burst and the time that connecting takes. */
	assert_in_range(world.last_ms - START_MS, 6000 + 9000, 6000 + 9100);
}

static void
the_daily_quota_outlives_a_restart(void **state)
{
	static const int64_t hour_ms = 3600 * 1000;
	struct bench *b = *state;
	int64_t began = world.now_ms;

	b->relay.daily = 10;
	sched_configure(b->sched, &b->config);
	store_many(b, 15);
	run(b, hour_ms);
	assert_int_equal(world.taken, 10);
	assert_int_equal(relay_status(b).used_today, 10);
	assert_true(relay_status(b).paced_ms > 22 * hour_ms);
	close_sched(b);
	world.now_ms = START_MS + hour_ms;
	memset(world.link, 0, sizeof(world.link));
	open_sched(b);
	assert_int_equal(relay_status(b).used_today, 10);
	sched_start(b->sched);
	turn(b);
	turn(b);
	run(b, 22 * hour_ms);
	assert_int_equal(world.taken, 10);
	run(b, 3 * hour_ms);
	assert_false(has_mail(b));
	assert_int_equal(world.taken, 15);
	assert_true(world.last_ms - began >= 24 * hour_ms);
}

/* What was learnt, and what is in flight, goes on under the new one. */
static void
a_reload_keeps_the_pace(void **state)
{
	struct bench *b = *state;
	double before;

	world.scene = (struct scene){ { SLIDING, 5, 1000, 0 }, .refusal = ses,
		.window = WINDOW, .latency_ms = 100 };
	relayhost_set(&world.host, world.scene.policy, 0);
	store_many(b, 100);
	run(b, 8000);
	before = relay_status(b).rate;
	assert_true(before > 4 && before < 6);
	sched_configure(b->sched, &b->config);
	assert_true(relay_status(b).rate == before);
	run(b, 3600 * 1000);
	assert_int_equal(world.taken, 100);
	assert_true(world.last_ms - START_MS <
	    ideal_ms(&world.scene.policy, 100) * 115 / 100);
}

/* Another host is another matter, but for the count of the day. */
static void
a_reload_with_another_host_starts_afresh(void **state)
{
	static char other[] = "other", mx[] = "mx";
	struct config_relay relay;
	struct config config;
	struct bench *b = *state;

	world.scene = (struct scene){ { SLIDING, 5, 1000, 0 }, .refusal = ses,
		.window = WINDOW };
	relayhost_set(&world.host, world.scene.policy, 0);
	b->relay.daily = 1000;
	sched_configure(b->sched, &b->config);
	store_many(b, 50);
	run(b, 3600 * 1000);
	assert_true(relay_status(b).rate > 0);
	relay = b->relay;
	relay.name = mx;
	relay.host = other;
	config = b->config;
	config.relay = &relay;
	sched_configure(b->sched, &config);
	assert_true(relay_status(b).rate == 0);
	assert_int_equal(relay_status(b).used_today, 50);
	sched_configure(b->sched, &b->config);
}

static void
where_not_even_one_connection_is_taken_the_relay_pauses(void **state)
{
	struct bench *b = *state;

	world.scene.full = true;
	store_many(b, 20);
	run(b, 60 * 1000);
	assert_true(relay_status(b).paused);
	assert_true(world.opened < 10);
	assert_non_null(strstr(relay_status(b).fault.text, "Concurrent"));
	world.scene.full = false;
	run(b, 3600 * 1000);
	assert_all_sent(b, 20);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(a_relayhost_that_throttles_is_sent_to_at_its_limit),
		T(I57_an_odd_relayhost_gets_all_without_counted_tries),
		T(throttled_messages_keep_their_order),
		T(a_ceiling_counts_recipients),
		T(a_busy_link_is_woken_when_a_wait_ends),
		T(the_daily_quota_outlives_a_restart),
		T(a_reload_keeps_the_pace),
		T(a_reload_with_another_host_starts_afresh),
		T(where_not_even_one_connection_is_taken_the_relay_pauses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
