/*
 * What a client of the control socket may ask for, but for what is done to
 * chosen messages (operate.c).
 */
#include "control.h"
#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	TEST_TICK_MS = 100,
	TEST_TIMEOUT_MS = 60 * 1000,
};

/* ---- reading ---- */

static void
list_message(struct client *c, const struct queue_info *info)
{
	struct buf text = { NULL, 0, 0 };

	if (!report_wants(&c->filter, info))
		return;
	buf_printf(&c->out, "m%" PRIu64 " %" PRIu64 "\n", info->id, info->size);
	report_message(info, c->json, &text);
	client_add(c, 'o', buf_span(&text));
	buf_free(&text);
}

static void
listed(struct client *c)
{
	client_finish(c, STATUS_GOOD);
}

static void
run_queue(struct client *c)
{
	unsigned place, places = 0;
	size_t i = 1;

	c->json = client_take_option(c, "--json", &i);
	c->filter.failed = client_take_option(c, "--failed", &i);
	if (!client_take_ids(c, i))
		return;
	report_filter_sort(&c->filter);
	c->filter.everyones = client_is_operator(c);
	c->filter.uid = c->uid;
	for (place = 0; place < PLACES; place++)
		if (report_wants_place(&c->filter, (enum queue_place)place))
			places |= 1u << place;
	if (!client_is_operator(c) && c->uid == c->control->overflow_uid)
		places = 0;
	client_walk(c, places, list_message, listed);
}

static void
count_message(struct client *c, const struct queue_info *info)
{
	report_count(&c->counts, info);
}

static struct report_source
source_of(const struct client *c)
{
	const struct control_parts *p = &c->control->parts;

	return (struct report_source){
		.loop = p->loop,
		.config = c->control->config,
		.queue = p->queue,
		.sched = p->sched,
		.submit = p->submit,
		.counts = c->counts,
		.wall_ms = loop_now(p->loop).wall_ms,
	};
}

static void
counted(struct client *c)
{
	struct report_source source = source_of(c);
	struct buf text = { NULL, 0, 0 };
	struct sched_status sched;
	bool good;

	sched_status(source.sched, &sched);
	source.counts.waiting = sched.waiting;
	source.counts.active = sched.active;
	source.counts.oldest_ms = sched.oldest_ms;
	source.counts.reading = sched.reading;
	good = report_status(&source, c->json, &text);
	client_say(c, 'o', buf_span(&text));
	buf_free(&text);
	client_finish(c, good ? STATUS_GOOD : STATUS_WRONG);
}

/* Only what the scheduler does not know is counted on the disk. */
static void
run_status(struct client *c)
{
	size_t i = 1;

	c->json = client_take_option(c, "--json", &i);
	if (i < c->words.count)
		client_usage(c);
	else
		client_walk(c, 1u << PLACE_HOLD | 1u << PLACE_FAILED,
		    count_message, counted);
}

/* Silent, and without a look at the disk: for every few seconds. */
static void
run_healthcheck(struct client *c)
{
	const struct sched *sched = c->control->parts.sched;
	int64_t now_ms = loop_now(c->control->parts.loop).wall_ms;
	struct sched_relay_status relay;
	struct sched_status status;
	uint64_t seconds;
	bool good;
	size_t i;

	if (c->words.count != 2 ||
	    !parse_number(span_of(c->words.item[1]), INT64_MAX / 1000,
		&seconds)) {
		client_usage(c);
		return;
	}
	sched_status(sched, &status);
	good = status.oldest_ms == 0 ||
	    now_ms - status.oldest_ms <= (int64_t)seconds * 1000;
	for (i = 0; sched_relay_status(sched, i, &relay); i++)
		good = good && !relay.paused;
	client_finish(c, good ? STATUS_GOOD : STATUS_WRONG);
}

static void
measured(struct client *c)
{
	struct report_source source = source_of(c);
	struct buf text = { NULL, 0, 0 };

	metrics_text(&source, true, false, &text);
	client_say(c, 'o', buf_span(&text));
	buf_free(&text);
	client_finish(c, STATUS_GOOD);
}

static void
run_metrics(struct client *c)
{
	if (c->words.count > 1)
		client_usage(c);
	else
		client_walk(c, 1u << PLACE_HOLD | 1u << PLACE_FAILED,
		    count_message, measured);
}

static void
flush_relay(struct client *c, const char *name)
{
	int status = STATUS_GOOD;

	if (sched_flush_relay(c->control->parts.sched, span_of(name)) == -1) {
		client_complain(c, name, "no such relay");
		status = STATUS_WRONG;
	}
	client_finish(c, status);
}

/* Try each message named. */
static void
flush_messages(struct client *c)
{
	char name[QUEUE_ID_MAX];
	int status = STATUS_GOOD;
	size_t i;

	for (i = 0; i < c->filter.id_count; i++) {
		if (sched_flush(c->control->parts.sched, c->filter.id[i]) == 0)
			continue;
		queue_id_text(c->filter.id[i], name);
		client_complain(c, name, "not waiting in the queue");
		status = STATUS_WRONG;
	}
	client_finish(c, status);
}

static void
run_flush(struct client *c)
{
	size_t i = 1;

	if (client_take_option(c, "--relay", &i)) {
		if (c->words.count == i + 1)
			flush_relay(c, c->words.item[i]);
		else
			client_usage(c);
		return;
	}
	if (!client_take_ids(c, i))
		return;
	if (c->filter.id_count == 0)
		sched_flush_all(c->control->parts.sched);
	flush_messages(c);
}

static void
run_reload(struct client *c)
{
	struct buf error = { NULL, 0, 0 };

	c->control->parts.reload(c->control->parts.arg, &error);
	client_say(c, 'e', buf_span(&error));
	client_finish(c, error.len == 0 ? STATUS_GOOD : STATUS_WRONG);
	buf_free(&error);
}

/* ---- the verb "test" ---- */

static void
tell_pauses(struct client *c)
{
	struct sched_relay_status r;
	struct buf text = { NULL, 0, 0 };
	size_t i;

	for (i = 0; sched_relay_status(c->control->parts.sched, i, &r); i++)
		buf_printf(&text, "relay %s is paused: %s\nwhat to do: %s\n",
		    r.name, r.fault.text, advice_find(&r.fault)->mend);
	buf_add_text(&text, "relayctl flush tries again at once\n");
	client_say(c, 'e', buf_span(&text));
	buf_free(&text);
}

static void
test_tick(struct client *c)
{
	const struct control_parts *p = &c->control->parts;

	if (!report_is_flowing(p->sched)) {
		tell_pauses(c);
		client_finish(c, STATUS_WRONG);
	} else if (loop_now(p->loop).mono_ms >= c->test_ends_ms) {
		client_complain(c, "test",
		    "not sent within 60 s; relayd goes on trying");
		client_finish(c, STATUS_WRONG);
	} else {
		loop_timer_set(p->loop, &c->timer, TEST_TICK_MS);
	}
}

static void
on_test_committed(void *arg, queue_id id, int error)
{
	struct pending *pending = arg;
	struct client *c = pending->client;
	char name[QUEUE_ID_MAX];

	free(pending);
	if (c == NULL)
		return;
	c->pending = NULL;
	if (c->testing && error != 0) {
		client_complain(c, "the test message is not queued",
		    strerror(error));
		client_finish(c, STATUS_WRONG);
	} else if (c->testing) {
		c->test = id;
		queue_id_text(id, name);
		buf_printf(&c->out, "o%s: queued\n", name);
		client_wake(c);
	}
}

void
client_on_delivery(void *arg, queue_id id, const char *text, bool sent,
    bool settled)
{
	struct control *control = arg;
	struct client *c;

	for (c = control->clients; c != NULL; c = c->next) {
		if (!c->testing || c->test != id)
			continue;
		if (settled && !sent &&
		    !report_is_flowing(control->parts.sched))
			tell_pauses(c);
		else
			client_say(c, 'o', span_of(text));
		if (settled)
			client_finish(c, sent ? STATUS_GOOD : STATUS_WRONG);
	}
}

static void
send_test(struct client *c, const char *recipient)
{
	const struct control_parts *p = &c->control->parts;
	const char *host = c->control->config->hostname, *refusal;
	struct pending *pending = mem_alloc(sizeof(*pending));
	struct buf text = { NULL, 0, 0 };

	buf_printf(&text,
	    "Subject: relayd test message from %s\r\n"
	    "To: %s\r\n"
	    "\r\n"
	    "This message was sent by \"relayctl test\" on %s.\r\n"
	    "That it is here shows that mail from this machine flows.\r\n",
	    host, recipient, host);
	pending->client = c;
	refusal = submit_message(p->submit, "root", recipient, buf_span(&text),
	    on_test_committed, pending);
	buf_free(&text);
	if (refusal != NULL) {
		free(pending);
		client_complain(c, "the test message is refused", refusal);
		client_finish(c, STATUS_WRONG);
		return;
	}
	c->pending = pending;
	c->testing = true;
	c->test_ends_ms = loop_now(p->loop).mono_ms + TEST_TIMEOUT_MS;
	loop_timer_set(p->loop, &c->timer, TEST_TICK_MS);
	client_wait(c);
}

static void
run_test(struct client *c)
{
	const char *recipient = c->words.count > 1 ? c->words.item[1] : "root";

	if (c->words.count > 2) {
		client_usage(c);
	} else if (!smtp_address_valid(span_of(recipient),
		       ADDRESS_BARE | ADDRESS_UTF8)) {
		client_complain(c, recipient, "not an address");
		client_finish(c, STATUS_USAGE);
	} else if (!report_is_flowing(c->control->parts.sched)) {
		tell_pauses(c);
		client_finish(c, STATUS_WRONG);
	} else {
		send_test(c, recipient);
	}
}

/* ---- running a request ---- */

void
client_run(struct client *c)
{
	static const struct {
		const char *name;
		void (*run)(struct client *c);
		bool open_to_all;
	} verbs[] = {
		{ "delete", client_operate, false },
		{ "flush", run_flush, false },
		{ "healthcheck", run_healthcheck, true },
		{ "hold", client_operate, false },
		{ "metrics", run_metrics, true },
		{ "queue", run_queue, true },
		{ "release", client_operate, false },
		{ "requeue", client_operate, false },
		{ "bounce", client_operate, false },
		{ "reload", run_reload, false },
		{ "status", run_status, true },
		{ "test", run_test, false },
	};
	size_t i = 0, count = sizeof(verbs) / sizeof(verbs[0]);

	while (i < count && strcmp(verbs[i].name, c->words.item[0]) != 0)
		i++;
	if (i == count) {
		client_complain(c, c->words.item[0], "unknown verb");
		client_finish(c, STATUS_USAGE);
	} else if (!verbs[i].open_to_all && !client_is_operator(c)) {
		client_complain(c, verbs[i].name, "permission denied");
		client_finish(c, STATUS_WRONG);
	} else {
		verbs[i].run(c);
	}
}

void
client_on_timer(void *arg)
{
	struct client *c = arg;

	if (c->testing)
		test_tick(c);
	else
		client_free(c);
}
