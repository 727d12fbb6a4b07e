/*
 * A relayhost that is away for long, in simulated time: the scheduler on a
 * real spool, with a relayhost that is only a rule.
 *
 * wrap: relay_open relay_wake relay_shut relay_idle relay_ready relay_match
 * wrap: relay_peer relay_tls clock_read fsync fdatasync sync_file_range
 */
#include "links.h"
#include "unsynced.h"

enum {
	SECOND = 1000,
	HOUR = 3600 * SECOND,
};

/* ---- the relayhost ---- */

static unsigned
open_links(void)
{
	unsigned i, n = 0;

	for (i = 0; i < LINKS; i++)
		n += fake.link[i].open;
	return n;
}

/* Every link meets this fault: a login that is refused, or a session that
 * takes no mail. */
static void
refuse(struct bench *b, enum fault_kind kind)
{
	bool late = kind >= FAULT_SHUTDOWN;
	unsigned i;

	for (i = 0; i < LINKS; i++) {
		struct relay_link *link = &fake.link[i];

		if (!link->open)
			continue;
		if (late && !link->ready)
			make_ready(b, link);
		if (link->delivery != NULL)
			end_delivery(link, none_tried);
		fail_link(b, link, kind);
	}
}

/* Everything is taken. */
static void
serve(struct bench *b)
{
	unsigned i;

	for (i = 0; i < LINKS; i++) {
		struct relay_link *link = &fake.link[i];

		if (link->open && !link->ready)
			make_ready(b, link);
		else if (link->open && link->delivery != NULL)
			finish(b, link, all_sent);
	}
}

static void
serve_all(struct bench *b, unsigned most_turns)
{
	while (most_turns-- > 0 && waiting(b) > 0) {
		advance(b, SECOND);
		serve(b);
	}
	serve(b);
	assert_int_equal(waiting(b), 0);
}

/* How many are queued; none of them has paid for anything. */
static unsigned
count_untouched(struct bench *b)
{
	struct queue_walk *w = queue_walk_new(b->queue, PLACES, 0);
	const struct queue_info *info;
	unsigned n = 0;

	while (queue_walk_next(w, &info)) {
		assert_false(info->damaged);
		assert_int_equal(info->attempts, 0);
		assert_int_not_equal(info->place, PLACE_FAILED);
		n++;
	}
	queue_walk_free(w);
	return n;
}

/* ---- tests ---- */

static void
an_hour_costs_ten_thousand_messages_nothing(void **state)
{
	enum { MESSAGES = 10000 };
	struct bench *b = *state;
	unsigned i, probes;

	for (i = 0; i < MESSAGES; i++)
		sched_add(b->sched, store(b, 1), 0);
	for (i = 0; i < HOUR / SECOND; i++) {
		advance(b, SECOND);
		/* Two at first, but one for each probe. */
		assert_in_range(open_links(), 0, i == 0 ? 2 : 1);
		refuse(b, FAULT_CONNECT);
	}
	/* 1 s, 2 s, ... 256 s, and then every five minutes. */
	probes = fake.opened;
	assert_in_range(probes, 17, 24);
	assert_int_equal(waiting(b), MESSAGES);
	assert_int_equal(count_untouched(b), MESSAGES);
	advance(b, relay_status(b).retry_in_ms + 1);
	assert_int_equal(open_links(), 1);
	serve_all(b, 2 * MESSAGES);
	assert_int_equal(relay_status(b).sent, MESSAGES);
	assert_int_equal(count_untouched(b), 0);
	assert_in_range(fake.opened, probes + 1, probes + 2);
}

static void
nothing_is_over(void *arg, struct entry *e)
{
	(void)arg;
	(void)e;
	fail();
}

/* Whatever is wrong with a relay, for queue_lifetime but for the hour that the
 * longest pause may take. */
static void
no_fault_of_a_relay_ends_a_message(void **state)
{
	static const int64_t minute = 60 * SECOND;
	struct bench *b = *state;
	int64_t left;
	int kind;

	sched_on_end(b->sched, nothing_is_over, NULL, NULL);
	for (kind = FAULT_NONE + 1; kind < FAULTS; kind++) {
		(void)submit(b, 1);
		(void)submit(b, 2);
		left = b->config.queue_lifetime * SECOND - 2 * (int64_t)HOUR;
		for (; left > 0; left -= minute) {
			refuse(b, (enum fault_kind)kind);
			advance(b, minute);
		}
		assert_int_equal(count_untouched(b), 2);
		/* The last pause may have been an hour and its jitter. */
		serve_all(b, HOUR / SECOND * 11 / 10 + 4);
	}
	assert_int_equal(relay_status(b).sent, 3 * (FAULTS - 1));
}

static void
one_is_over(void *arg, struct entry *e)
{
	unsigned *over = arg;

	assert_non_null(e->no_report);
	++*over;
	entry_close(e);
}

/* It was switched off for longer than its messages live, and its network is
 * not there at once. */
static void
J13_a_machine_that_was_off_has_an_hour(void **state)
{
	struct bench *b = *state;
	unsigned over = 0;
	int minute;

	sched_on_end(b->sched, one_is_over, NULL, &over);
	fake.step_ms = -(int64_t)6 * 24 * HOUR;
	(void)store(b, 1);
	fake.step_ms = 0;
	sched_add(b->sched, b->id, 0);
	for (minute = 0; minute < 70; minute++) {
		advance(b, 60 * SECOND);
		refuse(b, FAULT_CONNECT);
		/* The first turn, which is when it starts, is that of minute
		 * 0; at 60 it depends on what the test itself has taken. */
		if (minute != 60)
			assert_int_equal(over, minute > 60);
	}
}

/* Each try of one message ends in a fault; that it is the oldest does not let
 * it hold up those behind it. */
static void
a_message_that_always_ends_the_session_is_passed_by(void **state)
{
	struct bench *b = *state;
	queue_id bad = submit(b, 1);
	unsigned i, k;

	b->relay[0].connections = 1;
	for (i = 0; i < 20; i++)
		(void)submit(b, 1);
	for (i = 0; i < 200 && relay_status(b).sent < 20; i++) {
		for (k = 0; k < LINKS; k++) {
			struct delivery *d = fake.link[k].delivery;

			if (fake.link[k].open && d != NULL &&
			    d->entry->id == bad)
				refuse(b, FAULT_SHUTDOWN);
		}
		serve(b);
		advance(b, SECOND);
	}
	assert_int_equal(relay_status(b).sent, 20);
	assert_int_equal(count_untouched(b), 1);
}

/* It may have been the message; the second time it was the relay. */
static void
only_the_second_link_lost_in_a_row_pauses_the_relay(void **state)
{
	struct bench *b = *state;
	unsigned i;

	b->relay[0].connections = 1;
	for (i = 0; i < 5; i++)
		(void)submit(b, 1);
	for (i = 0; i < 4; i++) {
		struct relay_link *link = &fake.link[i];

		make_ready(b, link);
		if (i == 1) /* in between one is answered */
			finish(b, link, deferred);
		link->delivery->lost = true;
		end_delivery(link, deferred);
		fail_link(b, link, FAULT_LOST);
		assert_int_equal(relay_status(b).paused, i >= 2);
		if (i < 2)
			continue;
		assert_in_range(relay_status(b).retry_in_ms, 900 << (i - 2),
		    1100 << (i - 2));
		advance(b, relay_status(b).retry_in_ms + 1);
	}
}

/* One that was lost among others and now alone is the cause by itself. */
static void
a_message_that_had_been_lost_before_is_excused_once_more(void **state)
{
	static const enum verdict unknown[] = { VERDICT_UNKNOWN };
	struct bench *b = *state;
	unsigned i;

	b->relay[0].connections = 1;
	(void)submit(b, 1);
	(void)submit(b, 1);
	for (i = 0; i < 3; i++) {
		struct relay_link *link = &fake.link[i];

		make_ready(b, link);
		link->delivery->lost = true;
		link->delivery->behind = i == 0;
		end_delivery(link, unknown);
		fail_link(b, link, FAULT_LOST);
		assert_int_equal(relay_status(b).paused, i == 2);
	}
}

/* Why it waits is in its file from the start, so that nothing needs to be
 * opened, moved or written for it before the relay works. */
static void
a_new_message_is_left_alone_while_its_relay_is_paused(void **state)
{
	const struct queue_info *info;
	struct bench *b = *state;
	struct queue_walk *w;
	struct entry *e;
	enum queue_place place;
	queue_id id;

	assert_null(sched_waits(b->sched, "from@here.example"));
	(void)submit(b, 1);
	refuse(b, FAULT_CONNECT);
	assert_true(relay_status(b).paused);
	assert_string_equal(sched_waits(b->sched, "from@here.example"),
	    b->sched->backlog.pool[0]->fault.text);
	id = store(b, 2);
	e = queue_look(b->queue, id, &place);
	sched_add_waiting(b->sched, id, &e->envelope);
	entry_close(e);
	turn(b);
	w = queue_walk_new(b->queue, PLACE_NEW, 0);
	do { /* the other one may come first */
		assert_true(queue_walk_next(w, &info));
	} while (info->id != id);
	queue_walk_free(w);
	assert_int_equal(waiting(b), 2);
	serve_all(b, HOUR / SECOND);
	assert_int_equal(relay_status(b).sent, 3);
	assert_int_equal(count_untouched(b), 0);
	/* It works again: there is nothing to wait for. */
	id = store(b, 1);
	e = queue_look(b->queue, id, &place);
	sched_add_waiting(b->sched, id, &e->envelope);
	entry_close(e);
	serve_all(b, 10);
	assert_int_equal(count_untouched(b), 0);
}

/* A thousand machines have lost the same relayhost at the same moment.  They
 * must not come back as one. */
static void
a_fleet_does_not_come_back_at_once(void **state)
{
	enum { AGENTS = 1000, WINDOW = 330 };
	static const struct fault fault = { .kind = FAULT_CONNECT };
	struct bench *b = *state;
	unsigned agent, second, most = 0, last = 0, probes[WINDOW] = { 0 };

	for (agent = 0; agent < AGENTS; agent++) {
		struct pool *p = pool_new(NULL, &b->config, b->relay);
		struct instant now = { 0, 0 };

		while (now.mono_ms < HOUR) {
			pool_pause(p, &fault, now);
			assert_false(pool_probes(p, p->probe_at_ms));
			now.mono_ms = p->probe_at_ms;
		}
		second = (unsigned)((now.mono_ms - HOUR) / SECOND);
		assert_in_range(second, 0, WINDOW - 1);
		probes[second]++;
		pool_free(p);
	}
	for (second = 0; second < WINDOW; second++) {
		if (probes[second] > most)
			most = probes[second];
		if (probes[second] > 0)
			last = second;
	}
	print_message("at most %u of %u probes in a second, in %u s\n", most,
	    (unsigned)AGENTS, last + 1);
	assert_in_range(most, 1, AGENTS / 40);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(an_hour_costs_ten_thousand_messages_nothing),
		T(no_fault_of_a_relay_ends_a_message),
		T(J13_a_machine_that_was_off_has_an_hour),
		T(a_message_that_always_ends_the_session_is_passed_by),
		T(only_the_second_link_lost_in_a_row_pauses_the_relay),
		T(a_message_that_had_been_lost_before_is_excused_once_more),
		T(a_new_message_is_left_alone_while_its_relay_is_paused),
		T(a_fleet_does_not_come_back_at_once),
	};

	/* The lines of ten thousand messages say no more than those of one. */
	log_open(LOG_TO_STDERR, LOG_LEVEL_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
