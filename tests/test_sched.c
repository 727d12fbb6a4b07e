/*
 * The scheduler on a real spool, with links that only the test speaks for and
 * a clock that it sets.
 *
 * wrap: relay_open relay_wake relay_shut relay_idle relay_ready relay_match
 * wrap: relay_peer relay_tls clock_read openat readdir
 */
#include "links.h"

#include <dirent.h>
#include <fcntl.h>

/* ---- a spool that can't be read ---- */

static struct {
	unsigned closed;  /* times that a directory can't be opened */
	unsigned entries; /* after so many its reading fails once; 0: never */
} unread;

int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);
struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir);

int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	if (unread.closed == 0 || strcmp(name, ".") != 0)
		return __real_openat(dir, name, flags, 0600);
	unread.closed--;
	errno = EMFILE;
	return -1;
}

struct dirent *
__wrap_readdir(DIR *dir)
{
	if (unread.entries == 0 || --unread.entries > 0)
		return __real_readdir(dir);
	errno = EIO;
	return NULL;
}

/* ---- tests ---- */

static void
a_sent_message_leaves_the_queue(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 1);

	assert_int_equal(fake.opened, 1);
	make_ready(b, &fake.link[0]);
	finish(b, &fake.link[0], all_sent);
	assert_null(queue_take(b->queue, id));
	assert_int_equal(errno, ENOENT);
	assert_int_equal(relay_status(b).sent, 1);
}

static void
a_second_link_opens_only_when_the_first_is_busy(void **state)
{
	struct bench *b = *state;

	(void)submit(b, 1);
	(void)submit(b, 1);
	(void)submit(b, 1);
	assert_int_equal(fake.opened, 1);
	make_ready(b, &fake.link[0]);
	assert_int_equal(fake.opened, 2);
	make_ready(b, &fake.link[1]);
	assert_int_equal(fake.opened, 2); /* connections = 2 */
	assert_int_equal(waiting(b), 1);
	finish(b, &fake.link[1], all_sent);
	assert_int_equal(waiting(b), 0);
}

static void
submit_many(struct bench *b, unsigned count)
{
	while (count-- > 0)
		sched_add(b->sched, store(b, 1), 0);
	turn(b);
	turn(b);
}

static void
two_links_at_once_are_opened_for_many_messages(void **state)
{
	struct bench *b = *state;

	b->relay[0].connections = 3;
	sched_configure(b->sched, &b->config);
	submit_many(b, 16);
	assert_int_equal(fake.opened, 1);
	submit_many(b, 1);
	assert_int_equal(fake.opened, 2);
	submit_many(b, 50);
	assert_int_equal(fake.opened, 2); /* the next may be one too many */
	make_ready(b, &fake.link[0]);
	make_ready(b, &fake.link[1]);
	assert_int_equal(fake.opened, 3);
}

static void
a_link_that_is_lost_is_replaced_while_another_is_set_up(void **state)
{
	static const enum verdict unknown[] = { VERDICT_UNKNOWN };
	struct bench *b = *state;

	submit_many(b, 40);
	make_ready(b, &fake.link[0]);
	fake.link[0].delivery->lost = true;
	end_delivery(&fake.link[0], unknown);
	fail_link(b, &fake.link[0], FAULT_LOST);
	assert_false(relay_status(b).paused);
	assert_false(fake.link[1].ready);
	assert_int_equal(fake.opened, 3);
}

static void
a_paused_relay_gets_one_probe_however_many_wait(void **state)
{
	struct bench *b = *state;

	submit_many(b, 40);
	fail_link(b, &fake.link[0], FAULT_AUTH);
	fail_link(b, &fake.link[1], FAULT_AUTH);
	advance(b, relay_status(b).retry_in_ms + 50);
	assert_int_equal(fake.opened, 3);
	make_ready(b, &fake.link[2]);
	assert_int_equal(fake.opened, 4);
}

static void
a_link_begins_with_the_window_of_the_others(void **state)
{
	struct bench *b = *state;

	submit_many(b, 3);
	make_ready(b, &fake.link[0]);
	assert_int_equal(fake.link[0].window, 0);
	fake.link[0].window = 8;
	make_ready(b, &fake.link[1]);
	assert_int_equal(fake.link[1].window, 8);
}

static void
a_fault_of_the_relay_costs_no_retry(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 1);
	struct entry *e;

	fail_link(b, &fake.link[0], FAULT_AUTH);
	assert_true(relay_status(b).paused);
	assert_int_equal(waiting(b), 1);
	e = queue_take(b->queue, id);
	assert_int_equal(e->attempts, 0);
	entry_close(e);
}

static void
BDAT_that_is_not_there_is_remembered_for_a_day(void **state)
{
	static const int64_t hour = 3600 * 1000;
	struct bench *b = *state;
	struct relay_link *link = &fake.link[0];
	int round;

	for (round = 0; round < 2; round++) {
		(void)submit(b, 1);
		if (round == 0)
			make_ready(b, link);
		assert_false(link->delivery->by_data);
		link->delivery->no_bdat = true;
		finish(b, link, none_tried);
		assert_true(link->delivery->by_data);
		finish(b, link, all_sent);
		advance(b, 23 * hour);
		(void)submit(b, 1);
		assert_true(link->delivery->by_data);
		finish(b, link, all_sent);
		advance(b, hour);
	}
	/* A reload may be why it is there now. */
	(void)submit(b, 1);
	link->delivery->no_bdat = true;
	finish(b, link, all_sent);
	sched_configure(b->sched, &b->config);
	(void)submit(b, 1);
	make_ready(b, &fake.link[1]);
	assert_false(fake.link[1].delivery->by_data);
	finish(b, &fake.link[1], all_sent);
}

static void
assert_one_probe_a_pause(struct bench *b, enum fault_kind kind,
    int64_t first_ms)
{
	int64_t last = 0;
	unsigned i;

	(void)submit(b, 1);
	(void)submit(b, 1);
	for (i = 0; i < 6; i++) {
		int64_t wait, usual = first_ms << i;

		fail_link(b, &fake.link[i], kind);
		wait = relay_status(b).retry_in_ms;
		assert_in_range(wait, usual * 9 / 10 - 1, usual * 11 / 10);
		assert_true(wait > last);
		last = wait;
		advance(b, wait - 50);
		assert_int_equal(fake.opened, i + 1);
		advance(b, 100);
		assert_int_equal(fake.opened, i + 2);
	}
	make_ready(b, &fake.link[6]);
	assert_false(relay_status(b).paused);
	finish(b, &fake.link[6], all_sent);
	assert_int_equal(waiting(b), 0);
	assert_non_null(fake.link[6].delivery);
}

static void
a_pause_lets_one_probe_through_and_its_wait_doubles(void **state)
{
	assert_one_probe_a_pause(*state, FAULT_CONNECT, 1000);
}

static void
I28_a_refused_login_is_tried_once_a_pause_which_begins_longer(void **state)
{
	assert_one_probe_a_pause(*state, FAULT_AUTH, 5000);
}

/* A message of which a part was sent when the relay failed: the rest waits as
 * any other does, and is no reason to try the relay earlier. */
static void
I28_the_rest_of_a_message_waits_for_the_pause(void **state)
{
	struct bench *b = *state;

	(void)submit(b, 3);
	make_ready(b, &fake.link[0]);
	end_delivery(&fake.link[0], all_sent);
	fail_link(b, &fake.link[0], FAULT_ACCOUNT);
	assert_int_equal(waiting(b), 1);
	advance(b, relay_status(b).retry_in_ms - 50);
	assert_int_equal(fake.opened, 1);
	advance(b, 100);
	assert_int_equal(fake.opened, 2);
	make_ready(b, &fake.link[1]);
	assert_int_equal(fake.link[1].delivery->recipient_count, 1);
	assert_int_equal(fake.link[1].delivery->recipient[0].index, 2);
	finish(b, &fake.link[1], all_sent);
	assert_int_equal(waiting(b) + b->sched->backlog.active_count, 0);
}

static void
the_rest_of_a_message_goes_by_the_next_relay(void **state)
{
	struct bench *b = *state;

	use_relays(b, 2, NULL);
	(void)submit(b, 3);
	make_ready(b, &fake.link[0]);
	end_delivery(&fake.link[0], all_sent);
	fail_link(b, &fake.link[0], FAULT_CONNECT);
	assert_string_equal(fake.link[1].relay, "second");
	make_ready(b, &fake.link[1]);
	assert_int_equal(fake.link[1].delivery->recipient[0].index, 2);
	finish(b, &fake.link[1], all_sent);
	assert_int_equal(waiting(b) + b->sched->backlog.active_count, 0);
}

/* The first part was refused for now: that costs a retry, whatever became of
 * the rest. */
static void
a_refused_part_waits_by_its_own_retries(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 3);
	struct entry *e;

	make_ready(b, &fake.link[0]);
	end_delivery(&fake.link[0], deferred);
	fail_link(b, &fake.link[0], FAULT_CONNECT);
	e = queue_take(b->queue, id);
	assert_int_equal(e->attempts, 1);
	entry_close(e);
	advance(b, 50 * 1000);
	assert_int_equal(fake.opened, 1);
	advance(b, 20 * 1000);
	make_ready(b, &fake.link[1]);
	assert_int_equal(fake.link[1].delivery->recipient_count, 2);
	finish(b, &fake.link[1], all_sent);
	assert_int_equal(fake.link[1].delivery->recipient_count, 1);
	finish(b, &fake.link[1], all_sent);
	assert_int_equal(waiting(b) + b->sched->backlog.active_count, 0);
}

static void
an_untried_message_goes_again_after_the_pause(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 1);
	struct entry *e;

	make_ready(b, &fake.link[0]);
	end_delivery(&fake.link[0], none_tried);
	fail_link(b, &fake.link[0], FAULT_SHUTDOWN);
	e = queue_take(b->queue, id);
	assert_int_equal(e->attempts, 0);
	entry_close(e);
	advance(b, 2000);
	make_ready(b, &fake.link[1]);
	assert_true(relay_status(b).paused); /* the login was never wrong */
	finish(b, &fake.link[1], all_sent);
	assert_false(relay_status(b).paused);
	assert_null(queue_take(b->queue, id));
}

static void
a_refused_message_waits_by_its_own_retries(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 1);
	static const int64_t waits[] = { 60, 300, 300 };
	size_t i;

	make_ready(b, &fake.link[0]);
	for (i = 0; i < 3; i++) {
		struct entry *e;

		finish(b, &fake.link[0], deferred);
		assert_false(relay_status(b).paused);
		e = queue_take(b->queue, id);
		assert_int_equal(e->attempts, i + 1);
		entry_close(e);
		advance(b, waits[i] * 890);
		assert_null(fake.link[0].delivery);
		advance(b, waits[i] * 220);
		assert_non_null(fake.link[0].delivery);
	}
}

/* What the link sends is lost, two others being due: how many of those are
 * sent before it goes again; -1: all are, and it waits. */
static int
lose(struct bench *b, bool behind, bool doubtful)
{
	static const enum verdict unknown[] = { VERDICT_UNKNOWN };
	struct relay_link *link = &fake.link[0];
	queue_id id = link->delivery->entry->id;
	int before = 0;

	(void)submit(b, 1);
	(void)submit(b, 1);
	advance(b, 1);
	link->delivery->lost = true;
	link->delivery->behind = behind;
	link->delivery->doubtful = doubtful;
	finish(b, link, unknown);
	for (; link->delivery != NULL; before++) {
		if (link->delivery->entry->id == id)
			return before;
		finish(b, link, all_sent);
	}
	return -1;
}

static void
lost_with_others_a_message_goes_again_at_once(void **state)
{
	struct bench *b = *state;

	b->relay[0].connections = 1;
	(void)submit(b, 1);
	make_ready(b, &fake.link[0]);
	assert_int_equal(lose(b, false, true), 2);
	assert_int_equal(lose(b, false, true), -1); /* once */
	(void)submit(b, 1);
	assert_int_equal(lose(b, true, false), 0); /* in its place */
	assert_int_equal(lose(b, true, false), 0);
	assert_int_equal(lose(b, true, false), -1); /* twice */
	(void)submit(b, 1);
	assert_int_equal(lose(b, false, false), -1); /* alone */
}

static void
a_restart_does_not_shorten_the_wait(void **state)
{
	struct bench *b = *state;

	(void)submit(b, 1);
	make_ready(b, &fake.link[0]);
	finish(b, &fake.link[0], deferred);
	sched_free(b->sched);
	loop_free(b->loop);
	b->loop = loop_new();
	b->sched = sched_new(b->loop, b->queue, NULL, &b->config);
	sched_start(b->sched);
	advance(b, 50 * 1000);
	assert_int_equal(fake.opened, 1);
	advance(b, 20 * 1000);
	assert_int_equal(fake.opened, 2);
}

static void
who_has_it_is_not_sent_to_again(void **state)
{
	static const enum verdict first[] = { VERDICT_SENT, VERDICT_DEFERRED };
	struct bench *b = *state;
	struct relay_link *link = &fake.link[0];

	(void)submit(b, 2);
	make_ready(b, link);
	finish(b, link, first);
	advance(b, 70 * 1000);
	assert_int_equal(link->delivery->recipient_count, 1);
	assert_int_equal(link->delivery->recipient[0].index, 1);
}

static void
recipients_are_split_and_only_the_deferred_one_is_retried(void **state)
{
	struct bench *b = *state;
	static const enum verdict first[] = { VERDICT_SENT, VERDICT_FAILED };
	static const enum verdict second[] = { VERDICT_DEFERRED };
	struct relay_link *link = &fake.link[0];
	queue_id id = submit(b, 3);

	make_ready(b, link);
	assert_int_equal(link->delivery->recipient_count, 2);
	finish(b, link, first);
	assert_int_equal(link->delivery->recipient_count, 1);
	assert_int_equal(link->delivery->recipient[0].index, 2);
	finish(b, link, second);
	assert_null(link->delivery);
	advance(b, 70 * 1000);
	assert_int_equal(link->delivery->recipient_count, 1);
	assert_int_equal(link->delivery->recipient[0].index, 2);
	finish(b, link, all_sent);
	assert_null(queue_take(b->queue, id));
	assert_int_equal(queue_release(b->queue, id), 0); /* kept in failed/ */
}

static void
an_old_message_that_is_refused_for_now_has_failed(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 1);
	struct relay_link *link = &fake.link[0];

	make_ready(b, link);
	advance(b, (int64_t)6 * 86400 * 1000);
	finish(b, link, deferred); /* for the first time */
	assert_int_equal(waiting(b), 1);
	advance(b, 70 * 1000);
	finish(b, link, deferred);
	assert_null(queue_take(b->queue, id));
	assert_int_equal(queue_release(b->queue, id), 0);
}

/* H21: no step of the clock ends a message, however often it was refused; nor
 * its wait for a relay. */
static void
H21_a_message_is_no_older_because_the_clock_is_set(void **state)
{
	struct bench *b = *state;
	struct relay_link *link = &fake.link[0];
	queue_id id = submit(b, 1);

	make_ready(b, link);
	finish(b, link, deferred);
	fake.step_ms = (int64_t)56 * 365 * 86400 * 1000;
	advance(b, 70 * 1000);
	finish(b, link, deferred);
	assert_int_equal(waiting(b), 1);
	advance(b, 400 * 1000);
	end_delivery(link, none_tried);
	fail_link(b, link, FAULT_ACCOUNT);
	fake.step_ms *= 2;
	advance(b, 60 * 1000);
	assert_int_equal(waiting(b) + b->sched->backlog.active_count, 1);
	advance(b, (int64_t)6 * 86400 * 1000); /* and this is real */
	assert_int_equal(waiting(b), 0);
	assert_int_equal(queue_release(b->queue, id), 0);
}

struct ending {
	struct entry *entry;
	unsigned late;
};

static void
on_over(void *arg, struct entry *e)
{
	struct ending *end = arg;

	assert_null(end->entry);
	end->entry = e;
}

static void
on_late(void *arg, struct entry *e)
{
	struct ending *end = arg;

	assert_false(e->warned);
	end->late++;
}

/* J13: nothing was tried by then, but not for want of time. */
static void
J13_who_waits_for_a_relay_for_too_long_has_failed(void **state)
{
	static const int64_t too_long = (int64_t)5 * 86400 * 1000;
	struct bench *b = *state;
	struct ending end = { NULL, 0 };
	unsigned opened;
	queue_id id;

	sched_on_end(b->sched, on_over, on_late, &end);
	id = submit(b, 2);
	fail_link(b, &fake.link[0], FAULT_AUTH);
	advance(b, too_long - 60 * 1000);
	assert_null(end.entry);
	opened = fake.opened;
	fail_link(b, &fake.link[opened - 1], FAULT_AUTH);
	advance(b, 2 * 60 * 1000);
	assert_non_null(end.entry);
	assert_true(end.entry->id == id);
	assert_non_null(end.entry->no_report);
	assert_int_equal(end.entry->attempts, 0);
	assert_int_equal(envelope_count(&end.entry->envelope, RECIPIENT_FAILED),
	    2);
	assert_string_equal(end.entry->envelope.recipient[1].last.status,
	    "4.4.7");
	entry_close(end.entry);
}

/* The end that a crash, or a full disk, has put off. */
static void
who_waits_for_nobody_is_at_its_end_again(void **state)
{
	struct bench *b = *state;
	struct ending end = { NULL, 0 };
	struct relay_link *link = &fake.link[0];
	static const enum verdict refused[] = { VERDICT_FAILED };
	queue_id id = submit(b, 1);

	sched_on_end(b->sched, on_over, on_late, &end);
	make_ready(b, link);
	finish(b, link, refused);
	assert_non_null(end.entry);
	assert_null(end.entry->no_report);
	assert_string_equal(end.entry->envelope.recipient[0].last.peer,
	    "mx[192.0.2.1]:587");
	entry_close(end.entry);
	end.entry = NULL;
	sched_add(b->sched, id, 0);
	turn(b);
	turn(b);
	assert_non_null(end.entry);
	assert_true(end.entry->id == id);
	entry_close(end.entry);
}

static void
delay_is_told_when_it_has_lasted(void **state)
{
	struct bench *b = *state;
	struct ending end = { NULL, 0 };
	struct relay_link *link = &fake.link[0];

	b->config.delay_warning = 3600;
	sched_on_end(b->sched, on_over, on_late, &end);
	(void)submit(b, 1);
	make_ready(b, link);
	finish(b, link, deferred);
	assert_int_equal(end.late, 0);
	advance(b, 3600 * 1000);
	finish(b, link, deferred);
	assert_int_equal(end.late, 1);
}

static void
a_flush_lifts_the_pause_and_tries_all(void **state)
{
	struct bench *b = *state;

	(void)submit(b, 1);
	fail_link(b, &fake.link[0], FAULT_AUTH);
	assert_int_equal(fake.opened, 1);
	sched_flush_all(b->sched);
	turn(b);
	assert_int_equal(fake.opened, 2);
	assert_int_equal(sched_flush(b->sched, 1), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(sched_flush_relay(b->sched, SPAN("none")), -1);
	assert_int_equal(sched_flush_relay(b->sched, SPAN("mx")), 0);
}

static void
the_spool_is_read_once(void **state)
{
	struct bench *b = *state;
	unsigned i;

	for (i = 0; i < 450; i++)
		(void)store(b, 1);
	sched_start(b->sched);
	for (i = 0; i < 10; i++)
		turn(b);
	assert_int_equal(waiting(b), 450);
}

static void
what_of_the_spool_cannot_be_read_is_read_later(void **state)
{
	struct bench *b = *state;
	unsigned i;

	for (i = 0; i < 450; i++)
		(void)store(b, 1);
	unread.closed = 2;
	unread.entries = 300;
	sched_start(b->sched);
	for (i = 0; i < 2; i++) {
		turn(b);
		turn(b);
		assert_int_equal(waiting(b), 0);
		advance(b, 10 * 1000);
	}
	turn(b);
	turn(b);
	assert_in_range(waiting(b), 200, 300);
	for (i = 0; i < 10; i++)
		advance(b, 10 * 1000);
	assert_int_equal(waiting(b), 450);
}

static void
on_stopped(void *arg)
{
	struct bench *b = arg;

	b->stopped++;
}

static void
a_stop_waits_for_what_is_in_flight(void **state)
{
	struct bench *b = *state;
	struct relay_link *link = &fake.link[0];

	(void)submit(b, 1);
	(void)submit(b, 1);
	make_ready(b, link);
	sched_stop(b->sched, on_stopped, b);
	assert_int_equal(b->stopped, 0);
	assert_false(fake.link[1].open); /* was connecting */
	finish(b, link, all_sent);
	assert_null(link->delivery); /* nothing new begins */
	close_link(link, NULL);
	assert_int_equal(b->stopped, 1);
	assert_int_equal(waiting(b), 1);
}

static void
a_new_configuration_leaves_running_transactions_alone(void **state)
{
	struct bench *b = *state;
	queue_id id = submit(b, 1);
	struct relay_link *link = &fake.link[0];

	make_ready(b, link);
	sched_configure(b->sched, &b->config);
	(void)submit(b, 1);
	assert_int_equal(fake.opened, 2);
	finish(b, link, all_sent);
	assert_null(queue_take(b->queue, id));
	assert_null(link->delivery);
	close_link(link, NULL);
}

/* ---- several relays ---- */

static void
the_first_relay_that_serves_the_sender_is_used(void **state)
{
	struct bench *b = *state;

	use_relays(b, 2, "*@shop.example");
	(void)submit_from(b, "a@other.example");
	assert_int_equal(fake.opened, 1);
	assert_string_equal(fake.link[0].relay, "second");
	(void)submit_from(b, "A@SHOP.example");
	assert_int_equal(fake.opened, 2);
	assert_string_equal(fake.link[1].relay, "mx");
	make_ready(b, &fake.link[0]);
	make_ready(b, &fake.link[1]);
	assert_string_equal(fake.link[0].delivery->entry->envelope.sender,
	    "a@other.example");
	finish(b, &fake.link[0], all_sent);
	finish(b, &fake.link[1], all_sent);
	assert_int_equal(waiting(b), 0);
	assert_int_equal(status_of(b, 0).sent, 1);
	assert_int_equal(status_of(b, 1).sent, 1);
}

static void
mail_of_a_paused_relay_goes_by_the_next_and_comes_back(void **state)
{
	struct bench *b = *state;

	use_relays(b, 2, NULL);
	(void)submit(b, 1);
	assert_string_equal(fake.link[0].relay, "mx");
	fail_link(b, &fake.link[0], FAULT_CONNECT);
	assert_string_equal(fake.link[1].relay, "second");
	make_ready(b, &fake.link[1]);
	assert_non_null(fake.link[1].delivery);
	finish(b, &fake.link[1], all_sent);
	/* The probe holds up nobody: it has no message. */
	(void)submit(b, 1);
	assert_non_null(fake.link[1].delivery);
	advance(b, 1200);
	assert_int_equal(fake.opened, 3);
	assert_string_equal(fake.link[2].relay, "mx");
	assert_true(status_of(b, 0).paused);
	finish(b, &fake.link[1], all_sent);
	make_ready(b, &fake.link[2]);
	assert_false(status_of(b, 0).paused);
	(void)submit(b, 1);
	assert_non_null(fake.link[2].delivery);
	assert_null(fake.link[1].delivery);
	finish(b, &fake.link[2], all_sent);
	assert_int_equal(status_of(b, 0).sent, 1);
	assert_int_equal(status_of(b, 1).sent, 2);
}

static void
a_relay_that_nobody_misses_is_not_probed(void **state)
{
	struct bench *b = *state;

	use_relays(b, 2, "*@shop.example");
	(void)submit_from(b, "a@shop.example");
	fail_link(b, &fake.link[0], FAULT_CONNECT);
	make_ready(b, &fake.link[1]);
	finish(b, &fake.link[1], all_sent);
	advance(b, 1200); /* that message had wanted it */
	assert_int_equal(fake.opened, 3);
	fail_link(b, &fake.link[2], FAULT_CONNECT);
	(void)submit_from(b, "a@other.example");
	advance(b, 60000);
	assert_int_equal(fake.opened, 3);
}

static void
what_no_relay_takes_waits_for_the_first_that_comes_back(void **state)
{
	struct bench *b = *state;
	queue_id id;
	struct entry *e;

	use_relays(b, 3, NULL);
	id = submit(b, 1);
	fail_link(b, &fake.link[0], FAULT_CONNECT);
	fail_link(b, &fake.link[1], FAULT_AUTH);
	fail_link(b, &fake.link[2], FAULT_DNS);
	assert_int_equal(waiting(b), 1);
	advance(b, 1200);
	assert_int_equal(fake.opened, 5); /* mx and third */
	assert_string_equal(fake.link[4].relay, "third");
	make_ready(b, &fake.link[4]);
	assert_non_null(fake.link[4].delivery);
	finish(b, &fake.link[4], all_sent);
	e = queue_take(b->queue, id);
	assert_null(e);
	assert_int_equal(waiting(b), 0);
}

static void
an_account_is_probed_with_a_message_while_others_go_by_the_next(void **state)
{
	struct bench *b = *state;

	use_relays(b, 2, NULL);
	(void)submit(b, 1);
	make_ready(b, &fake.link[0]);
	end_delivery(&fake.link[0], none_tried);
	fail_link(b, &fake.link[0], FAULT_ACCOUNT);
	make_ready(b, &fake.link[1]);
	assert_string_equal(fake.link[1].relay, "second");
	finish(b, &fake.link[1], all_sent);
	(void)submit(b, 1);
	finish(b, &fake.link[1], all_sent);
	advance(b, 6000);
	assert_string_equal(fake.link[2].relay, "mx");
	make_ready(b, &fake.link[2]);
	assert_true(status_of(b, 0).paused);
	(void)submit(b, 1);
	assert_non_null(fake.link[2].delivery); /* the probe */
	(void)submit(b, 1);
	assert_non_null(fake.link[1].delivery);
	finish(b, &fake.link[2], all_sent);
	assert_false(status_of(b, 0).paused);
}

static void
a_sender_that_no_relay_serves_waits_by_the_retries(void **state)
{
	struct bench *b = *state;
	queue_id id;
	struct entry *e;

	use_relays(b, 1, "*@shop.example");
	id = submit_from(b, "a@other.example");
	assert_int_equal(fake.opened, 0);
	assert_int_equal(waiting(b), 1);
	e = queue_take(b->queue, id);
	assert_int_equal(e->attempts, 1);
	entry_close(e);
	strings_free(&b->relay[0].senders);
	sched_configure(b->sched, &b->config);
	advance(b, 70 * 1000);
	assert_int_equal(fake.opened, 1);
}

static void
a_reload_keeps_what_is_known_of_a_relay(void **state)
{
	struct bench *b = *state;

	use_relays(b, 2, NULL);
	(void)submit(b, 1);
	fail_link(b, &fake.link[0], FAULT_CONNECT);
	make_ready(b, &fake.link[1]);
	finish(b, &fake.link[1], all_sent);
	sched_configure(b->sched, &b->config);
	assert_int_equal(status_of(b, 0).fault.kind, FAULT_CONNECT);
	assert_int_equal(status_of(b, 1).sent, 1);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(a_sent_message_leaves_the_queue),
		T(a_second_link_opens_only_when_the_first_is_busy),
		T(two_links_at_once_are_opened_for_many_messages),
		T(a_link_that_is_lost_is_replaced_while_another_is_set_up),
		T(a_paused_relay_gets_one_probe_however_many_wait),
		T(a_link_begins_with_the_window_of_the_others),
		T(a_fault_of_the_relay_costs_no_retry),
		T(BDAT_that_is_not_there_is_remembered_for_a_day),
		T(a_pause_lets_one_probe_through_and_its_wait_doubles),
		T(I28_a_refused_login_is_tried_once_a_pause_which_begins_longer),
		T(I28_the_rest_of_a_message_waits_for_the_pause),
		T(the_rest_of_a_message_goes_by_the_next_relay),
		T(a_refused_part_waits_by_its_own_retries),
		T(an_untried_message_goes_again_after_the_pause),
		T(a_refused_message_waits_by_its_own_retries),
		T(lost_with_others_a_message_goes_again_at_once),
		T(a_restart_does_not_shorten_the_wait),
		T(who_has_it_is_not_sent_to_again),
		T(recipients_are_split_and_only_the_deferred_one_is_retried),
		T(an_old_message_that_is_refused_for_now_has_failed),
		T(H21_a_message_is_no_older_because_the_clock_is_set),
		T(J13_who_waits_for_a_relay_for_too_long_has_failed),
		T(who_waits_for_nobody_is_at_its_end_again),
		T(delay_is_told_when_it_has_lasted),
		T(a_flush_lifts_the_pause_and_tries_all),
		T(the_spool_is_read_once),
		T(what_of_the_spool_cannot_be_read_is_read_later),
		T(a_stop_waits_for_what_is_in_flight),
		T(a_new_configuration_leaves_running_transactions_alone),
		T(the_first_relay_that_serves_the_sender_is_used),
		T(mail_of_a_paused_relay_goes_by_the_next_and_comes_back),
		T(a_relay_that_nobody_misses_is_not_probed),
		T(what_no_relay_takes_waits_for_the_first_that_comes_back),
		T(an_account_is_probed_with_a_message_while_others_go_by_the_next),
		T(a_sender_that_no_relay_serves_waits_by_the_retries),
		T(a_reload_keeps_what_is_known_of_a_relay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
