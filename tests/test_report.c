/*
 * What "queue" and "status" print, octet by octet: scripts read it.
 *
 * wrap: sched_relay_status submit_listeners submit_status
 * wrap: queue_is_failing queue_has_room
 */
#include "../report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* 2026-11-24 05:14:29 UTC */
#define WALL_MS INT64_C(1795497269000)

bool __wrap_sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status);
void __wrap_submit_listeners(const struct submit *s, struct strings *out);
void __wrap_submit_status(const struct submit *s, struct submit_status *status);
bool __wrap_queue_is_failing(const struct queue *q);
bool __wrap_queue_has_room(const struct queue *q, uint64_t octets,
    uint64_t min_free);

/* ---- a daemon ---- */

static struct {
	struct sched_relay_status relay[2];
	size_t relays;
	bool failing;
	bool full;
} daemon_now;

bool
__wrap_sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status)
{
	(void)s;
	if (index < daemon_now.relays)
		*status = daemon_now.relay[index];
	return index < daemon_now.relays;
}

void
__wrap_submit_listeners(const struct submit *s, struct strings *out)
{
	(void)s;
	strings_add(out, SPAN("127.0.0.1:25"));
	strings_add(out, SPAN("unix:/run/relayd/submit.sock"));
}

void
__wrap_submit_status(const struct submit *s, struct submit_status *status)
{
	(void)s;
	*status = (struct submit_status){ .sessions = 7,
		.accepted = 5,
		.rejected = 2,
		.open = 1,
		.aliases = 3 };
}

bool
__wrap_queue_is_failing(const struct queue *q)
{
	(void)q;
	return daemon_now.failing;
}

bool
__wrap_queue_has_room(const struct queue *q, uint64_t octets, uint64_t min_free)
{
	(void)q;
	(void)octets;
	(void)min_free;
	return !daemon_now.full;
}

static int
set_up(void **state)
{
	(void)state;
	memset(&daemon_now, 0, sizeof(daemon_now));
	daemon_now.relays = 1;
	daemon_now.relay[0] = (struct sched_relay_status){ .name = "gmail",
		.host = "smtp.example.net",
		.port = 587,
		.tls = "" };
	return 0;
}

static void
pause_relay(struct sched_relay_status *r)
{
	r->paused = true;
	r->retry_in_ms = 41500;
	r->fault.kind = FAULT_AUTH;
	r->fault.code = 535;
	(void)snprintf(r->fault.text, sizeof(r->fault.text), "%s",
	    "login refused: 535 5.7.8 \"no\"");
	r->fault_wall_ms = WALL_MS - 60000;
}

/* ---- messages ---- */

/* With a recipient in each state. */
static struct queue_info
a_message(enum queue_place place)
{
	struct queue_info info = {
		.id = 1,
		.place = place,
		.size = 1234,
		.attempts = 2,
		.next_ms = WALL_MS + 60000,
		.reason = "451 4.7.1 later",
	};
	struct envelope *e = &info.envelope;

	queue_id_text(info.id, info.name);
	e->sender = mem_text("me@example.com");
	e->original_sender = mem_text("me");
	e->uid = 1000;
	e->arrived_ms = WALL_MS;
	envelope_add(e, "a@example.com", "root");
	envelope_add(e, "b@example.com", "b@example.com");
	envelope_add(e, "c@example.com", "c@example.com");
	e->recipient[1].state = RECIPIENT_SENT;
	e->recipient[2].state = RECIPIENT_FAILED;
	return info;
}

/* In what is expected, % stands for the id. */
static void
assert_message(const struct queue_info *info, bool json, const char *expected)
{
	struct buf want = { NULL, 0, 0 }, got = { NULL, 0, 0 };
	char id[QUEUE_ID_MAX];

	queue_id_text(1, id);
	for (; *expected != '\0'; expected++) {
		if (*expected == '%')
			buf_add_text(&want, id);
		else
			buf_add_char(&want, *expected);
	}
	report_message(info, json, &got);
	assert_string_equal(buf_text(&got), buf_text(&want));
	buf_free(&want);
	buf_free(&got);
}

static void
text_names_reason_and_waiting_recipients(void **state)
{
	struct queue_info info = a_message(PLACE_CUR);

	(void)state;
	assert_message(&info, false,
	    "%       1234 Tue Nov 24 05:14:29  me@example.com\n"
	    "    (451 4.7.1 later)\n"
	    "                                             a@example.com\n"
	    "\n");
	envelope_clear(&info.envelope);
}

static void
text_of_a_new_message_has_no_reason(void **state)
{
	struct queue_info info = a_message(PLACE_NEW);

	(void)state;
	info.reason[0] = '\0';
	info.envelope.sender[0] = '\0';
	assert_message(&info, false,
	    "%       1234 Tue Nov 24 05:14:29  MAILER-DAEMON\n"
	    "                                             a@example.com\n"
	    "\n");
	envelope_clear(&info.envelope);
}

static void
text_marks_what_is_on_hold_and_what_failed(void **state)
{
	struct queue_info info = a_message(PLACE_HOLD);

	(void)state;
	info.envelope.recipient[0].state = RECIPIENT_SENT;
	assert_message(&info, false,
	    "%!      1234 Tue Nov 24 05:14:29  me@example.com\n"
	    "    (451 4.7.1 later)\n"
	    "\n");
	info.place = PLACE_FAILED;
	info.envelope.recipient[0].state = RECIPIENT_WAITING;
	assert_message(&info, false,
	    "%       1234 Tue Nov 24 05:14:29  me@example.com\n"
	    "    (failed: 451 4.7.1 later)\n"
	    "                                             a@example.com\n"
	    "                                             c@example.com\n"
	    "\n");
	envelope_clear(&info.envelope);
}

static void
text_keeps_control_and_foreign_octets_off_the_terminal(void **state)
{
	struct queue_info info = a_message(PLACE_NEW);

	(void)state;
	free(info.envelope.sender);
	info.envelope.sender = mem_text("\x1b[2J@\xc3\xa4");
	info.reason[0] = '\0';
	info.envelope.recipient[0].state = RECIPIENT_SENT;
	assert_message(&info, false,
	    "%       1234 Tue Nov 24 05:14:29  \\x1b[2J@\\xc3\\xa4\n\n");
	envelope_clear(&info.envelope);
}

static void
a_damaged_message_goes_by_its_file_name(void **state)
{
	struct queue_info info = { .place = PLACE_FAILED,
		.damaged = true,
		.name = "odd",
		.size = 7,
		.envelope = { .uid = -1 } };

	(void)state;
	(void)snprintf(info.reason, sizeof(info.reason), "%s", "too short");
	assert_message(&info, false,
	    "odd                   7                      -\n"
	    "    (damaged: too short)\n"
	    "\n");
	assert_message(&info, true,
	    "{\"id\": \"odd\", \"state\": \"damaged\", \"size\": 7, "
	    "\"arrived\": null, \"sender\": \"\", \"original_sender\": \"\", "
	    "\"uid\": null, \"attempts\": 0, \"next_try\": null, "
	    "\"reason\": \"too short\", \"recipients\": []}\n");
}

static void
json_has_every_field_in_one_line(void **state)
{
	struct queue_info info = a_message(PLACE_CUR);

	(void)state;
	assert_message(&info, true,
	    "{\"id\": \"%\", \"state\": \"waiting\", \"size\": 1234, "
	    "\"arrived\": \"2026-11-24T05:14:29Z\", "
	    "\"sender\": \"me@example.com\", \"original_sender\": \"me\", "
	    "\"uid\": 1000, \"attempts\": 2, "
	    "\"next_try\": \"2026-11-24T05:15:29Z\", "
	    "\"reason\": \"451 4.7.1 later\", \"recipients\": ["
	    "{\"address\": \"a@example.com\", \"original\": \"root\", "
	    "\"state\": \"waiting\"}, "
	    "{\"address\": \"b@example.com\", "
	    "\"original\": \"b@example.com\", \"state\": \"sent\"}, "
	    "{\"address\": \"c@example.com\", "
	    "\"original\": \"c@example.com\", \"state\": \"failed\"}]}\n");
	envelope_clear(&info.envelope);
}

/* ---- what is listed ---- */

static void
places_follow_from_the_question(void **state)
{
	static const struct {
		bool failed;
		size_t ids;
		unsigned places; /* bits */
	} cases[] = {
		{ false, 0,
		    1u << PLACE_NEW | 1u << PLACE_CUR | 1u << PLACE_HOLD },
		{ true, 0, 1u << PLACE_FAILED },
		{ false, 1, (1u << PLACES) - 1 },
		{ true, 1, 1u << PLACE_FAILED },
	};
	size_t i;
	unsigned place;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct report_filter f = { .failed = cases[i].failed,
			.id_count = cases[i].ids };

		for (place = 0; place < PLACES; place++)
			assert_int_equal(
			    report_wants_place(&f, (enum queue_place)place),
			    (cases[i].places >> place & 1u) != 0);
	}
}

static void
others_see_only_what_they_sent(void **state)
{
	struct queue_info info = a_message(PLACE_CUR);
	struct report_filter f = { .uid = 1000 };

	(void)state;
	assert_true(report_wants(&f, &info));
	f.uid = 1001;
	assert_false(report_wants(&f, &info));
	f.uid = 1000;
	info.damaged = true;
	assert_false(report_wants(&f, &info));
	info.damaged = false;
	info.envelope.uid = -1;
	f.uid = (uid_t)-1;
	assert_false(report_wants(&f, &info));
	f.everyones = true;
	assert_true(report_wants(&f, &info));
	envelope_clear(&info.envelope);
}

static void
ids_restrict_the_list(void **state)
{
	struct queue_info info = a_message(PLACE_CUR);
	queue_id ids[] = { 9, 5, 1, 7 };
	struct report_filter f = { .everyones = true,
		.id = ids,
		.id_count = 4 };
	queue_id id;

	(void)state;
	report_filter_sort(&f);
	for (id = 0; id < 12; id++) {
		info.id = id;
		assert_int_equal(report_wants(&f, &info),
		    id == 1 || id == 5 || id == 7 || id == 9);
	}
	envelope_clear(&info.envelope);
}

/* ---- status ---- */

static void
assert_status(bool json, bool good, const char *expected)
{
	struct config_relay relay = { .name = (char[]){ "gmail" },
		.tls_verify = true };
	struct config config = { .relay = &relay, .relay_count = 1 };
	struct report_source source = { .config = &config,
		.counts = { .waiting = 3,
		    .active = 1,
		    .oldest_ms = WALL_MS - 7260000 },
		.wall_ms = WALL_MS };
	struct buf want = { NULL, 0, 0 }, got = { NULL, 0, 0 };
	struct span head, tail;

	/* In what is expected, % stands for the process id. */
	while (span_cut(span_of(expected), '%', &head, &tail)) {
		buf_add(&want, head);
		buf_printf(&want, "%ld", (long)getpid());
		expected = tail.data;
	}
	buf_add(&want, head);
	assert_int_equal(report_status(&source, json, &got), good);
	assert_string_equal(buf_text(&got), buf_text(&want));
	buf_free(&want);
	buf_free(&got);
}

static void
status_says_that_mail_flows(void **state)
{
	(void)state;
	daemon_now.relay[0].connections = 1;
	daemon_now.relay[0].sent = 12;
	daemon_now.relay[0].sent_wall_ms = WALL_MS - 5000;
	daemon_now.relay[0].tls = "TLSv1.3";
	assert_status(false, true,
	    "relayd " RELAYD_VERSION " is running (pid %)\n"
	    "mail is flowing\n"
	    "listening on 127.0.0.1:25\n"
	    "listening on unix:/run/relayd/submit.sock\n"
	    "relay gmail (smtp.example.net:587): ok\n"
	    "    12 sent, 0 deferred, 0 failed; 1 connection\n"
	    "    last success: 2026-11-24 05:14:24 (5 s ago)\n"
	    "    encrypted: TLSv1.3\n"
	    "queue: 3 waiting, 1 active, oldest 2 h; 0 on hold; 0 failed\n"
	    "submission: 5 accepted, 2 rejected; 7 sessions, 1 open\n");
}

static void
status_says_why_mail_does_not_flow(void **state)
{
	(void)state;
	pause_relay(&daemon_now.relay[0]);
	assert_status(false, false,
	    "relayd " RELAYD_VERSION " is running (pid %)\n"
	    "mail is not flowing: every relay is paused\n"
	    "listening on 127.0.0.1:25\n"
	    "listening on unix:/run/relayd/submit.sock\n"
	    "relay gmail (smtp.example.net:587): paused, next try in 42 s\n"
	    "    0 sent, 0 deferred, 0 failed; 0 connections\n"
	    "    last error: 2026-11-24 05:13:29 (60 s ago), auth:\n"
	    "        login refused: 535 5.7.8 \"no\"\n"
	    "    what to do:\n"
	    "        check user and password (many providers want an app "
	    "password), then\n"
	    "        relayctl flush\n"
	    "queue: 3 waiting, 1 active, oldest 2 h; 0 on hold; 0 failed\n"
	    "submission: 5 accepted, 2 rejected; 7 sessions, 1 open\n");
}

static void
status_in_json_has_every_field(void **state)
{
	(void)state;
	pause_relay(&daemon_now.relay[0]);
	assert_status(true, false,
	    "{\"running\": true,\n"
	    "\"version\": \"" RELAYD_VERSION "\",\n"
	    "\"pid\": %,\n"
	    "\"accepting\": true,\n"
	    "\"flowing\": false,\n"
	    "\"listeners\": [\"127.0.0.1:25\", "
	    "\"unix:/run/relayd/submit.sock\"],\n"
	    "\"relays\": [{\"name\": \"gmail\", "
	    "\"host\": \"smtp.example.net\", \"port\": 587, "
	    "\"state\": \"paused\", \"connections\": 0, \"tls\": \"\", "
	    "\"tls_verify\": true, \"last_error\": {\"kind\": \"auth\", "
	    "\"code\": 535, "
	    "\"text\": \"login refused: 535 5.7.8 \\\"no\\\"\", "
	    "\"at\": \"2026-11-24T05:13:29Z\"}, \"next_try_in\": 42, "
	    "\"last_success\": null, \"sent\": 0, \"deferred\": 0, "
	    "\"failed\": 0, \"throttled\": 0, \"rate\": null, "
	    "\"paced_for\": 0, \"connection_limit\": null, "
	    "\"daily\": null, \"used_today\": 0}],\n"
	    "\"queue\": {\"waiting\": 3, \"active\": 1, \"hold\": 0, "
	    "\"failed\": 0, \"failed_octets\": 0, \"reading\": false, "
	    "\"oldest_age\": 7260},\n"
	    "\"submission\": {\"open\": 1, \"sessions\": 7, \"accepted\": 5, "
	    "\"rejected\": 2, \"aliases\": 3}}\n");
}

static void
status_tells_the_pace(void **state)
{
	struct sched_relay_status *r = &daemon_now.relay[0];
	struct config config = { .relay_count = 0 };
	struct report_source source = { .config = &config };
	struct buf text = { NULL, 0, 0 };

	(void)state;
	r->rate = 0.5;
	r->throttled = 12;
	r->daily = 500;
	r->used_today = 480;
	r->connection_limit = 3;
	r->paced_ms = 41500;
	assert_true(report_status(&source, false, &text));
	assert_non_null(strstr(buf_text(&text),
	    "    rate: at most 0.5 recipients a second\n"
	    "    throttled: 12 recipients, sent to later\n"
	    "    connections: it takes no more than 3\n"
	    "    daily: 480 of 500 recipients\n"
	    "    next message in 42 s\n"));
	buf_clear(&text);
	(void)report_status(&source, true, &text);
	assert_non_null(strstr(buf_text(&text),
	    "\"throttled\": 12, \"rate\": 0.5, \"paced_for\": 42, "
	    "\"connection_limit\": 3, \"daily\": 500, "
	    "\"used_today\": 480}"));
	buf_free(&text);
}

static bool
status_is_good(const struct report_counts *counts)
{
	struct config config = { .relay_count = 0 };
	struct report_source source = { .config = &config, .counts = *counts };
	struct buf text = { NULL, 0, 0 };
	bool good = report_status(&source, false, &text);

	buf_free(&text);
	return good;
}

static void
status_is_wrong_when_anything_needs_a_person(void **state)
{
	struct report_counts counts = { .waiting = 5, .hold = 1 };

	(void)state;
	assert_true(status_is_good(&counts));
	counts.failed = 1;
	assert_false(status_is_good(&counts));
	counts.failed = 0;
	daemon_now.failing = true;
	assert_false(status_is_good(&counts));
	daemon_now.failing = false;
	daemon_now.full = true;
	assert_false(status_is_good(&counts));
	daemon_now.full = false;
	/* One of two relays is enough for mail to flow, not to be well. */
	daemon_now.relay[1] = daemon_now.relay[0];
	daemon_now.relays = 2;
	pause_relay(&daemon_now.relay[0]);
	assert_true(report_is_flowing(NULL));
	assert_false(status_is_good(&counts));
}

static void
status_forgets_an_error_that_a_success_followed(void **state)
{
	struct config config = { .relay_count = 0 };
	struct report_source source = { .config = &config };
	struct buf text = { NULL, 0, 0 };

	(void)state;
	pause_relay(&daemon_now.relay[0]);
	daemon_now.relay[0].paused = false;
	daemon_now.relay[0].sent_wall_ms = WALL_MS;
	assert_true(report_status(&source, false, &text));
	assert_null(strstr(buf_text(&text), "last error"));
	buf_free(&text);
}

/* E19 */
static void
status_warns_of_a_certificate_that_is_not_verified(void **state)
{
	struct config_relay relay = { .name = (char[]){ "gmail" } };
	struct config config = { .relay = &relay, .relay_count = 1 };
	struct report_source source = { .config = &config };
	struct buf text = { NULL, 0, 0 };

	(void)state;
	(void)report_status(&source, false, &text);
	assert_non_null(strstr(buf_text(&text), "is not verified"));
	buf_clear(&text);
	(void)report_status(&source, true, &text);
	assert_non_null(strstr(buf_text(&text), "\"tls_verify\": false"));
	buf_free(&text);
}

static void
a_stopped_daemon_still_has_a_queue(void **state)
{
	struct report_counts counts = { .failed = 2, .failed_octets = 2049 };
	struct buf text = { NULL, 0, 0 };

	(void)state;
	report_stopped(&counts, WALL_MS, false, &text);
	assert_string_equal(buf_text(&text),
	    "relayd is not running\n"
	    "queue: 0 waiting, 0 active; 0 on hold; 2 failed\n"
	    "    failed: 3 Kbytes; see relayctl queue --failed\n");
	buf_clear(&text);
	report_stopped(&counts, WALL_MS, true, &text);
	assert_string_equal(buf_text(&text),
	    "{\"running\": false,\n"
	    "\"queue\": {\"waiting\": 0, \"active\": 0, \"hold\": 0, "
	    "\"failed\": 2, \"failed_octets\": 2049, \"reading\": false, "
	    "\"oldest_age\": null}}\n");
	buf_clear(&text);
	report_stopped(NULL, WALL_MS, true, &text);
	assert_string_equal(buf_text(&text), "{\"running\": false}\n");
	buf_free(&text);
}

static void
messages_are_counted_by_place(void **state)
{
	static const enum queue_place places[] = { PLACE_NEW, PLACE_CUR,
		PLACE_CUR, PLACE_HOLD, PLACE_FAILED, PLACE_FAILED };
	struct report_counts counts = { .waiting = 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct queue_info info = { .id = UINT64_C(1) << 58,
			.place = places[i],
			.size = 10 };

		report_count(&counts, &info);
	}
	assert_int_equal(counts.waiting, 3);
	assert_int_equal(counts.hold, 1);
	assert_int_equal(counts.failed, 2);
	assert_int_equal(counts.failed_octets, 20);
	assert_true(counts.oldest_ms == queue_id_time_ms(UINT64_C(1) << 58));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_names_reason_and_waiting_recipients),
		cmocka_unit_test(text_of_a_new_message_has_no_reason),
		cmocka_unit_test(text_marks_what_is_on_hold_and_what_failed),
		cmocka_unit_test(
		    text_keeps_control_and_foreign_octets_off_the_terminal),
		cmocka_unit_test(a_damaged_message_goes_by_its_file_name),
		cmocka_unit_test(json_has_every_field_in_one_line),
		cmocka_unit_test(places_follow_from_the_question),
		cmocka_unit_test(others_see_only_what_they_sent),
		cmocka_unit_test(ids_restrict_the_list),
		cmocka_unit_test_setup(status_says_that_mail_flows, set_up),
		cmocka_unit_test_setup(status_says_why_mail_does_not_flow,
		    set_up),
		cmocka_unit_test_setup(status_in_json_has_every_field, set_up),
		cmocka_unit_test_setup(status_tells_the_pace, set_up),
		cmocka_unit_test_setup(
		    status_is_wrong_when_anything_needs_a_person, set_up),
		cmocka_unit_test_setup(
		    status_forgets_an_error_that_a_success_followed, set_up),
		cmocka_unit_test_setup(
		    status_warns_of_a_certificate_that_is_not_verified, set_up),
		cmocka_unit_test(a_stopped_daemon_still_has_a_queue),
		cmocka_unit_test(messages_are_counted_by_place),
	};

	/* Local times are UTC here. */
	(void)setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
