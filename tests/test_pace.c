/*
 * pace.c against a simulated relayhost: no clock is read, minutes are
 * simulated in milliseconds.  The measured figures are printed.
 */
#include "../sched.h"
#include "limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* ---- the sender ---- */

struct change {
	int64_t at_ms;
	struct policy policy;
};

struct scene {
	struct change change[4]; /* the first at 0 */
	int64_t latency_ms;      /* from a message to its reply */
	int64_t jitter_ms;       /* and up to so much more */
	unsigned in_flight;      /* at most */
	unsigned messages;       /* 0: without end */
	int64_t end_ms;
	int64_t settled_ms; /* refusals from here on are counted apart */
};

enum { IN_FLIGHT_MAX = 64, SECONDS = 8000 };
struct reply {
	struct pace_ticket ticket;
	int64_t at_ms;
	bool accepted;
};

struct result {
	unsigned sent, accepted, refused, refused_late, sent_late;
	int64_t last_ms; /* when the last one was sent that was accepted */
	int64_t waits;
	unsigned second[SECONDS]; /* accepted in each */
};

struct simulation {
	const struct scene *scene;
	struct pace *pace; /* NULL: one that knows what it will accept */
	struct relayhost host;
	struct reply reply[IN_FLIGHT_MAX]; /* in order of their times */
	unsigned reply_count;
	unsigned changes;
	uint32_t chance;
	int64_t now_ms, arrival_ms;
	struct result result;
};

static void
read_replies(struct simulation *s)
{
	unsigned n = 0;

	for (; n < s->reply_count && s->reply[n].at_ms <= s->now_ms; n++) {
		const struct reply *r = &s->reply[n];

		if (s->pace != NULL && r->accepted)
			pace_accepted(s->pace, r->ticket, s->now_ms, 1);
		else if (s->pace != NULL)
			pace_throttled(s->pace, r->ticket, s->now_ms, 1);
	}
	s->reply_count -= n;
	memmove(s->reply, s->reply + n, s->reply_count * sizeof(*s->reply));
}

static int64_t
wait_ms(struct simulation *s)
{
	if (s->pace != NULL)
		return pace_wait_ms(s->pace, s->now_ms, 1);
	return relayhost_takes(&s->host, s->now_ms) ? 0 : 1;
}

static void
send_one(struct simulation *s)
{
	struct result *result = &s->result;
	struct reply *r = &s->reply[s->reply_count++];
	int64_t way = s->scene->latency_ms;

	s->chance = s->chance * 1664525u + 1013904223u;
	if (s->scene->jitter_ms > 0)
		way += (s->chance >> 8) % (unsigned)s->scene->jitter_ms;
	/* One connection: nothing overtakes. */
	if (s->now_ms + way / 2 > s->arrival_ms)
		s->arrival_ms = s->now_ms + way / 2;
	if (s->pace == NULL)
		s->arrival_ms = s->now_ms;
	r->at_ms = s->arrival_ms + (s->pace == NULL ? way : way - way / 2);
	if (s->reply_count > 1 && r->at_ms < r[-1].at_ms)
		r->at_ms = r[-1].at_ms;
	r->accepted = relayhost_accepts(&s->host, s->arrival_ms);
	if (s->pace != NULL)
		r->ticket = pace_sent(s->pace, s->now_ms, 1);
	result->sent++;
	result->sent_late += s->now_ms >= s->scene->settled_ms;
	if (!r->accepted) {
		result->refused++;
		result->refused_late += s->now_ms >= s->scene->settled_ms;
		return;
	}
	result->accepted++;
	result->last_ms = s->now_ms;
	if (s->now_ms / 1000 < SECONDS)
		result->second[s->now_ms / 1000]++;
}

static bool
has_work(const struct simulation *s)
{
	return s->reply_count < s->scene->in_flight &&
	    (s->scene->messages == 0 ||
		s->result.accepted < s->scene->messages);
}

static void
simulate(struct simulation *s, const struct scene *scene, struct pace *pace)
{
	int64_t wait;

	memset(s, 0, sizeof(*s));
	s->scene = scene;
	s->pace = pace;
	s->chance = 1;
	while (s->now_ms < scene->end_ms &&
	    (scene->messages == 0 || s->reply_count > 0 ||
		s->result.accepted < scene->messages)) {
		if (s->changes < COUNT(scene->change) &&
		    scene->change[s->changes].policy.kind != OPEN &&
		    scene->change[s->changes].at_ms <= s->now_ms)
			relayhost_set(&s->host,
			    scene->change[s->changes++].policy, s->now_ms);
		read_replies(s);
		while (has_work(s) && (wait = wait_ms(s)) == 0)
			send_one(s);
		s->result.waits += has_work(s);
		if (s->reply_count == 0 || s->reply[0].at_ms > s->now_ms)
			s->now_ms++;
	}
}

/* ---- limits that stay ---- */

struct worst {
	double ratio;  /* time taken to the ideal's */
	double late;   /* refused once it has settled, of those sent */
	unsigned most; /* refused in all */
};

static void
compare(const struct scene *scene, struct worst *worst)
{
	static struct simulation ideal, real;
	struct pace pace;
	double ratio, late;

	pace_init(&pace, 0, 0);
	simulate(&ideal, scene, NULL);
	simulate(&real, scene, &pace);
	assert_int_equal(real.result.accepted, scene->messages);
	assert_int_equal(pace.open, 0);
	assert_int_equal(pace.throttled, real.result.refused);
	ratio =
	    (double)real.result.last_ms / (double)(ideal.result.last_ms + 1);
	late = real.result.sent_late == 0
	    ? 0
	    : (double)real.result.refused_late / real.result.sent_late;
	if (ratio > worst->ratio)
		worst->ratio = ratio;
	if (late > worst->late)
		worst->late = late;
	if (real.result.refused > worst->most)
		worst->most = real.result.refused;
}

/*
 * At most 1.15 times the ideal time, and once it has settled at most one of
 * twenty refused: by the second, after 5 s; by the minute, after two minutes.
 * "most" bounds what finding the limit costs.
 */
static void
the_limit_of_the_relayhost_is_found(void **state)
{
	static const struct {
		const char *name;
		struct policy policy;
		unsigned messages;
		int64_t jitter_ms, settled_ms;
		unsigned most;
	} rows[] = {
		{ "14/s, sliding", { SLIDING, 14, 1000, 0 }, 300, 0, 5000, 60 },
		{ "14/s, fixed", { FIXED, 14, 1000, 0 }, 300, 0, 5000, 60 },
		{ "14/s, fixed", { FIXED, 14, 1000, 300 }, 300, 0, 5000, 60 },
		{ "14/s, fixed", { FIXED, 14, 1000, 700 }, 300, 0, 5000, 60 },
		{ "14/s, bucket", { BUCKET, 14, 1000, 0 }, 300, 0, 5000, 60 },
		{ "14/s, jitter", { SLIDING, 14, 1000, 0 }, 300, 20, 5000, 60 },
		{ "1/s, sliding", { SLIDING, 1, 1000, 0 }, 60, 0, 5000, 60 },
		{ "5/s, sliding", { SLIDING, 5, 1000, 0 }, 150, 0, 5000, 60 },
		{ "5/10s, jitter", { SLIDING, 5, 10000, 0 }, 60, 20, 30000,
		    60 },
		{ "200/s, fixed", { FIXED, 200, 1000, 0 }, 4000, 0, 5000, 200 },
		{ "30/m, sliding", { SLIDING, 30, 60000, 0 }, 90, 0, 125000,
		    60 },
		{ "30/m, sliding", { SLIDING, 30, 60000, 0 }, 300, 0, 125000,
		    60 },
		{ "30/m, fixed", { FIXED, 30, 60000, 5000 }, 300, 0, 125000,
		    60 },
		{ "30/m, fixed", { FIXED, 30, 60000, 20000 }, 90, 0, 125000,
		    60 },
		{ "30/m, fixed", { FIXED, 30, 60000, 20000 }, 300, 0, 125000,
		    60 },
		{ "30/m, fixed", { FIXED, 30, 60000, 45000 }, 300, 0, 125000,
		    60 },
		{ "30/m, bucket", { BUCKET, 30, 60000, 0 }, 90, 0, 125000, 60 },
		{ "30/m, bucket", { BUCKET, 30, 60000, 0 }, 300, 0, 125000,
		    60 },
		{ "100/h, sliding", { SLIDING, 100, 3600000, 0 }, 250, 0,
		    7300000, 60 },
	};
	static const int64_t latency[] = { 0, 50, 200 };
	static const unsigned in_flight[] = { 1, 2, 16 };
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		struct worst worst = { 0, 0, 0 };

		for (j = 0; j < 9; j++) {
			struct scene scene = { .change = { { 0,
						   rows[i].policy } },
				.latency_ms = latency[j % 3],
				.jitter_ms = rows[i].jitter_ms,
				.in_flight = in_flight[j / 3],
				.messages = rows[i].messages,
				.end_ms = 20000000,
				.settled_ms = rows[i].settled_ms };

			compare(&scene, &worst);
		}
		print_message("%-14s %4u messages: %.3f of the ideal time, "
			      "%u refused, later %.1f %%\n",
		    rows[i].name, rows[i].messages, worst.ratio, worst.most,
		    100 * worst.late);
		assert_true(worst.ratio <= 1.15);
		assert_true(worst.late <= 0.05);
		assert_true(worst.most <= rows[i].most);
	}
}

/* Each refusal starts a new measurement: too short a one by itself, where few
 * fit in the window and replies come unevenly. */
static void
a_few_at_a_time_are_measured_over_two_runs(void **state)
{
	struct scene scene = { .change = { { 0, { SLIDING, 3, 3000, 0 } } },
		.jitter_ms = 20,
		.in_flight = 1,
		.messages = 60,
		.end_ms = 1000000,
		.settled_ms = 11000 };
	struct worst worst = { 0, 0, 0 };

	(void)state;
	compare(&scene, &worst);
	print_message("3/3s, jitter: %.3f of the ideal time\n", worst.ratio);
	assert_true(worst.ratio <= 1.3);
	assert_true(worst.late <= 0.05);
}

/* ---- limits that change ---- */

static unsigned
accepted_between(const struct result *r, int64_t from_ms, int64_t to_ms)
{
	unsigned sum = 0;
	int64_t i;

	for (i = from_ms / 1000; i < to_ms / 1000; i++)
		sum += r->second[i];
	return sum;
}

/* At least 80 % of it is used: after 5 s of the first, 15 s of the lower one,
 * and a minute of the one that is ten times higher. */
static void
a_limit_that_changes_is_followed(void **state)
{
	static const enum kind kinds[] = { SLIDING, FIXED, BUCKET };
	static const int64_t latency[] = { 0, 50, 200 };
	static const struct {
		unsigned per_second;
		int64_t from_ms, followed_ms, to_ms;
	} rows[] = {
		{ 14, 0, 5000, 60000 },
		{ 5, 60000, 75000, 180000 },
		{ 50, 180000, 240000, 320000 },
	};
	double least[] = { 2, 2, 2 }, refused = 0;
	size_t i, j;

	(void)state;
	for (i = 0; i < 9; i++) {
		static struct simulation s;
		struct pace pace = { 0 };
		struct scene scene = { .latency_ms = latency[i / 3],
			.in_flight = 16,
			.end_ms = 320000 };

		for (j = 0; j < COUNT(rows); j++)
			scene.change[j] = (struct change){ rows[j].from_ms,
				{ kinds[i % 3], rows[j].per_second, 1000, 0 } };
		simulate(&s, &scene, &pace);
		for (j = 0; j < COUNT(rows); j++) {
			int64_t from = rows[j].followed_ms, to = rows[j].to_ms;
			double used = accepted_between(&s.result, from, to) *
			    1000.0 / (double)(to - from) / rows[j].per_second;

			if (used < least[j])
				least[j] = used;
		}
		if ((double)s.result.refused / s.result.sent > refused)
			refused = (double)s.result.refused / s.result.sent;
	}
	print_message("14/s, then 5/s, then 50/s: uses %.2f, %.2f, %.2f of "
		      "them; refused %.1f %%\n",
	    least[0], least[1], least[2], 100 * refused);
	for (j = 0; j < COUNT(rows); j++)
		assert_true(least[j] >= 0.8);
	assert_true(refused <= 0.05);
}

/* ---- what is configured, and what costs nothing ---- */

static void
without_throttling_nothing_waits(void **state)
{
	static struct simulation s;
	struct scene scene = { .in_flight = 16,
		.latency_ms = 1,
		.messages = 100000,
		.end_ms = 1000000 };
	struct pace pace = { 0 };

	(void)state;
	simulate(&s, &scene, &pace);
	assert_int_equal(s.result.accepted, 100000);
	assert_int_equal(s.result.waits, 0);
	assert_int_equal(s.result.last_ms, 100000 / 16 - 1);
}

/* In no second, nor any longer time, more than that time's and a burst. */
static void
a_ceiling_is_never_exceeded(void **state)
{
	static const struct {
		double ceiling;
		unsigned burst; /* at the start, at once */
		int64_t end_ms;
		unsigned least; /* sent by then */
	} rows[] = {
		{ 14, 14, 100000, 1400 },
		{ 0.5, 1, 100000, 50 }, /* 30/m */
		{ 2000.0 / 86400, 1, 7000000, 162 },
		{ 2.5, 2, 60000, 150 },
		{ 1000, 1000, 5000, 5900 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		static struct simulation s;
		struct scene scene = { .in_flight = 16,
			.end_ms = rows[i].end_ms };
		struct pace pace;
		double most;
		int64_t from, to;
		unsigned sum;

		scene.latency_ms = 1;
		pace_init(&pace, rows[i].ceiling, 0);
		simulate(&s, &scene, &pace);
		assert_true(s.result.accepted >= rows[i].least);
		assert_true(s.result.second[0] >= rows[i].burst);
		for (from = 0; from < rows[i].end_ms / 1000; from += 7) {
			sum = 0;
			most = rows[i].ceiling < 1 ? 1 : rows[i].ceiling;
			for (to = from; to < rows[i].end_ms / 1000; to++) {
				sum += s.result.second[to];
				most += rows[i].ceiling;
				assert_true(sum <= most + 1e-6);
			}
		}
	}
}

static void
below_a_ceiling_it_still_adapts(void **state)
{
	static struct simulation s;
	struct scene scene = {
		.change = { { 0, { SLIDING, 5, 1000, 0 } } },
		.latency_ms = 50,
		.in_flight = 4,
		.messages = 150,
		.end_ms = 100000,
		.settled_ms = 5000,
	};
	struct pace pace;
	struct pace_status status;

	(void)state;
	pace_init(&pace, 14, 0);
	simulate(&s, &scene, &pace);
	assert_true(s.result.last_ms <= 29000 * 115 / 100);
	assert_true(s.result.refused_late * 20 <= s.result.sent_late);
	pace_status(&pace, s.now_ms, &status);
	assert_true(status.rate > 4 && status.rate < 7);
	assert_int_equal(status.throttled, s.result.refused);
	assert_false(status.probing);
}

static void
the_daily_quota_makes_wait(void **state)
{
	const int64_t hour = 3600 * 1000;
	struct pace pace;
	struct pace_status status;
	struct pace_ticket ticket;

	(void)state;
	pace_init(&pace, 0, 10);
	ticket = pace_sent(&pace, hour, 9);
	assert_int_equal(pace_wait_ms(&pace, hour, 1), 0);
	assert_true(pace_wait_ms(&pace, hour, 2) >= 24 * hour);
	assert_true(pace_wait_ms(&pace, hour, 2) <= 24 * hour + hour / 4);
	pace_throttled(&pace, ticket, hour, 4); /* they have not counted */
	pace_accepted(&pace, ticket, hour, 5);
	pace_status(&pace, hour, &status);
	assert_int_equal(status.used_today, 5);
}

/* ---- events ---- */

/* A burst of 16, of which 4 go through. */
static void
throttle(struct pace *pace, int64_t now_ms, struct pace_ticket ticket[16])
{
	unsigned i;

	for (i = 0; i < 16; i++)
		ticket[i] = pace_sent(pace, now_ms, 1);
	for (i = 0; i < 4; i++)
		pace_accepted(pace, ticket[i], now_ms + 50, 1);
	for (; i < 16; i++)
		pace_throttled(pace, ticket[i], now_ms + 50 + i, 1);
}

static void
refusals_of_one_burst_are_one_event(void **state)
{
	struct pace pace = { 0 };
	struct pace_ticket ticket[16], probe;

	(void)state;
	throttle(&pace, 1000, ticket);
	assert_int_equal(pace.throttled, 12);
	/* The first refusal was told at 1054. */
	assert_int_equal(pace_wait_ms(&pace, 1066, 1), 8);
	assert_int_equal(pace_wait_ms(&pace, 1074, 1), 0);
	probe = pace_sent(&pace, 1074, 1);
	assert_true(pace_wait_ms(&pace, 1090, 1) == INT64_MAX);
	pace_accepted(&pace, probe, 1100, 1);
	assert_int_equal(pace.limit.count, 4); /* what went through */
	assert_int_equal(pace.limit.window_ms, 75);
}

/* Brought to "14 in 1010 ms", which three full windows have proved. */
static int64_t
prove_a_limit(struct pace *p)
{
	struct pace_ticket ticket[16];
	int64_t now = 1000;
	unsigned i, windows;

	*p = (struct pace){ .state = PACE_KNOWN,
		.limit = { 14, 1010 },
		.interval = 1000 };
	for (windows = 0; windows < 3; windows++, now += 1010)
		for (i = 0; i < 14; i++) {
			assert_int_equal(pace_wait_ms(p, now, 1), 0);
			ticket[i] = pace_sent(p, now, 1);
			pace_accepted(p, ticket[i], now, 1);
		}
	return now;
}

/* A few milliseconds went otherwise than usual: that costs a pause and a
 * scout, and if it happens again a little of the window, but no probes. */
static void
a_refusal_by_chance_leaves_the_limit(void **state)
{
	struct pace pace;
	int64_t now = prove_a_limit(&pace);
	struct pace_ticket ticket = pace_sent(&pace, now, 1);
	unsigned i;

	(void)state;
	pace_accepted(&pace, ticket, now, 1);
	ticket = pace_sent(&pace, now, 1);
	pace_throttled(&pace, ticket, now + 2, 1);
	assert_int_equal(pace.state, PACE_KNOWN);
	assert_int_equal(pace.limit.count, 14);
	assert_int_equal(pace.limit.window_ms, 1010);
	assert_int_equal(pace_wait_ms(&pace, now + 2, 1), 63);
	now += 65;
	ticket = pace_sent(&pace, now, 1);
	assert_true(pace_wait_ms(&pace, now, 1) == INT64_MAX); /* a scout */
	pace_accepted(&pace, ticket, now + 1, 1);
	assert_int_equal(pace_wait_ms(&pace, now + 5, 1), 0);
	for (i = 2; i < 14; i++) {
		ticket = pace_sent(&pace, now, 1);
		pace_accepted(&pace, ticket, now, 1);
	}
	now += 1010;
	ticket = pace_sent(&pace, now, 1);
	pace_throttled(&pace, ticket, now + 2, 1);
	assert_int_equal(pace.state, PACE_KNOWN);
	assert_int_equal(pace.limit.count, 14);
	assert_int_equal(pace.limit.window_ms, 1030);
}

static void
refused_again_at_once_is_not_chance(void **state)
{
	struct pace pace;
	int64_t now = prove_a_limit(&pace);
	struct pace_ticket ticket = pace_sent(&pace, now, 1);

	(void)state;
	pace_throttled(&pace, ticket, now + 2, 1);
	ticket = pace_sent(&pace, now + 65, 1);
	pace_throttled(&pace, ticket, now + 67, 1);
	assert_int_equal(pace.state, PACE_PROBING);
}

/* The last of a burst waited for 60 ms behind the others there: so much later
 * the last of the next one may follow. */
static void
the_relayhost_counts_when_it_comes_to_it(void **state)
{
	struct pace pace = { .state = PACE_KNOWN,
		.limit = { 4, 1010 },
		.interval = 1000 };
	struct pace_ticket ticket[4];
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++) {
		ticket[i] = pace_sent(&pace, 1000, 1);
		if (i == 0) /* the scout */
			pace_accepted(&pace, ticket[i], 1010, 1);
	}
	for (i = 1; i < 4; i++)
		pace_accepted(&pace, ticket[i], 1010 + i * 20, 1);
	pace_accepted(&pace, pace_sent(&pace, 2010, 1), 2020, 1);
	assert_in_range(pace_wait_ms(&pace, 2020, 3), 48, 50);
}

/* A probe that ended otherwise says nothing: there is another one. */
static void
a_probe_that_is_lost_is_repeated(void **state)
{
	struct pace pace = { 0 };
	struct pace_ticket ticket[16], probe;
	int64_t wait;

	(void)state;
	throttle(&pace, 1000, ticket);
	probe = pace_sent(&pace, 1100, 1);
	pace_dropped(&pace, probe, 1150, 1);
	wait = pace_wait_ms(&pace, 1150, 1);
	assert_true(wait > 0 && wait < 1000);
	assert_int_equal(pace.state, PACE_PROBING);
	assert_int_equal(pace.open, 0);
}

/* More recipients than the limit has: when nothing else was sent. */
static void
a_message_to_many_is_not_starved(void **state)
{
	struct pace pace = { 0 };
	struct pace_ticket ticket[16], probe;
	int64_t wait;

	(void)state;
	throttle(&pace, 1000, ticket);
	probe = pace_sent(&pace, 2010, 1);
	pace_accepted(&pace, probe, 2050, 1);
	wait = pace_wait_ms(&pace, 2050, 50);
	assert_true(wait > 0 && wait <= pace.limit.window_ms);
	assert_int_equal(pace_wait_ms(&pace, 2050 + wait, 50), 0);
}

static void
a_limit_is_forgotten_after_an_hour(void **state)
{
	struct pace pace = { 0 };
	struct pace_ticket ticket[16], probe;
	int64_t later = 2010 + 3600 * 1000 + 100;
	unsigned i;

	(void)state;
	throttle(&pace, 1000, ticket);
	probe = pace_sent(&pace, 2010, 1);
	pace_accepted(&pace, probe, 2050, 1);
	for (i = 0; i < 1000; i++) {
		assert_int_equal(pace_wait_ms(&pace, later, 1), 0);
		(void)pace_sent(&pace, later, 1);
	}
	assert_int_equal(pace.state, PACE_FREE);
}

/* ---- connections ---- */

/* Every second one more is opened as long as it is allowed; the relayhost
 * takes three at most, from the fifth hour on five. */
static void
the_number_of_connections_is_found(void **state)
{
	struct pace_links links = { 0 };
	unsigned open = 0, refused = 0, least = 10;
	int64_t second;

	(void)state;
	for (second = 0; second < 10 * 3600; second++) {
		unsigned most = second < 5 * 3600 ? 3 : 5;

		if (open < pace_links_allowed(&links, second * 1000, 10)) {
			open++;
			if (open > most) {
				refused++;
				pace_links_refused(&links, second * 1000,
				    open--);
			} else {
				pace_links_ready(&links, second * 1000, open);
			}
		}
		if (second == 5 * 3600 - 1) {
			assert_int_equal(open, 3);
			print_message("3 connections: %u refused in 5 hours\n",
			    refused);
			assert_true(refused <= 6);
		}
		if (second > 10 && open < least)
			least = open;
	}
	assert_int_equal(least, 3);
	assert_int_equal(open, 5);
	assert_true(refused <= 12);
}

/* Two more at the same time, both refused: three are left, not two. */
static void
two_connections_refused_at_once_are_counted_once(void **state)
{
	struct pace_links links = { 0 };

	(void)state;
	pace_links_refused(&links, 0, 5);
	pace_links_refused(&links, 0, 4);
	assert_int_equal(pace_links_allowed(&links, 1, 10), 3);
	assert_int_equal(pace_links_allowed(&links, 1, 2), 2);
	assert_int_equal(pace_links_allowed(&links, 600000, 10), 4);
	pace_links_refused(&links, 600000, 1);
	assert_int_equal(pace_links_allowed(&links, 600001, 10), 1);
}

/* Neither the day's count nor the ceiling has it any more, and nobody waits
 * for its reply. */
static void
what_was_not_sent_does_not_count(void **state)
{
	struct pace pace;
	struct pace_ticket ticket;

	(void)state;
	pace_init(&pace, 1, 10);
	ticket = pace_sent(&pace, 1000, 10);
	assert_true(pace_wait_ms(&pace, 1000, 1) > 0);
	pace_unsent(&pace, ticket, 1500, 10);
	assert_int_equal(quota_used(&pace.quota, 1500), 0);
	assert_int_equal(pace_wait_ms(&pace, 1500, 1), 0);
	assert_int_equal(pace.open, 0);
}

/* Nor was it the probe. */
static void
a_probe_that_was_not_sent_is_due_at_once(void **state)
{
	struct pace pace;
	struct pace_ticket ticket;

	(void)state;
	pace_init(&pace, 0, 0);
	ticket = pace_sent(&pace, 0, 1);
	pace_throttled(&pace, ticket, 10, 1);
	ticket = pace_sent(&pace, 100, 1);
	assert_true(pace_wait_ms(&pace, 100, 1) == INT64_MAX);
	pace_unsent(&pace, ticket, 110, 1);
	assert_int_equal(pace_wait_ms(&pace, 110, 1), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_limit_of_the_relayhost_is_found),
		cmocka_unit_test(a_few_at_a_time_are_measured_over_two_runs),
		cmocka_unit_test(a_limit_that_changes_is_followed),
		cmocka_unit_test(without_throttling_nothing_waits),
		cmocka_unit_test(a_ceiling_is_never_exceeded),
		cmocka_unit_test(below_a_ceiling_it_still_adapts),
		cmocka_unit_test(the_daily_quota_makes_wait),
		cmocka_unit_test(refusals_of_one_burst_are_one_event),
		cmocka_unit_test(a_refusal_by_chance_leaves_the_limit),
		cmocka_unit_test(refused_again_at_once_is_not_chance),
		cmocka_unit_test(the_relayhost_counts_when_it_comes_to_it),
		cmocka_unit_test(a_probe_that_is_lost_is_repeated),
		cmocka_unit_test(a_message_to_many_is_not_starved),
		cmocka_unit_test(a_limit_is_forgotten_after_an_hour),
		cmocka_unit_test(the_number_of_connections_is_found),
		cmocka_unit_test(
		    two_connections_refused_at_once_are_counted_once),
		cmocka_unit_test(what_was_not_sent_does_not_count),
		cmocka_unit_test(a_probe_that_was_not_sent_is_due_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
