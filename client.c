/*
 * One client of the control socket: its rights, what it asks for, its answer.
 *
 * Nothing here waits: the spool is read in slices, and an answer is made as
 * its client takes it.  Only the client's own handlers free a client; what
 * else happens to it (a commit, a delivery) just adds to its answer.
 */
#include "control.h"

#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SLICE = 100,             /* messages looked at in a turn ... */
	SLICE_OCTETS = 64 << 10, /* ... until the answer is so long */
	TEST_TICK_MS = 100,
	TEST_TIMEOUT_MS = 60 * 1000,
};

/* ---- a client and its answer ---- */

void
client_free(struct client *c)
{
	struct client **p = &c->control->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->control->client_count--;
	if (c->pending != NULL)
		c->pending->client = NULL;
	loop_timer_clear(c->control->parts.loop, &c->timer);
	loop_unwatch(c->control->parts.loop, c->fd);
	fd_close(&c->fd);
	if (c->walk != NULL)
		queue_walk_free(c->walk);
	free(c->filter.id);
	strings_free(&c->words);
	buf_free(&c->in);
	buf_free(&c->out);
	free(c);
}

/* Begin with the next place when none is being walked; false: none is left. */
static bool
walk_place(struct client *c)
{
	for (; c->walk == NULL && c->place < PLACES; c->place++)
		if ((c->places & 1u << c->place) != 0)
			c->walk = queue_walk_new(c->control->parts.queue,
			    (enum queue_place)c->place, QUEUE_WALK_ENVELOPE);
	return c->walk != NULL;
}

static void
walk_slice(struct client *c)
{
	const struct queue_info *info;
	int n;

	for (n = 0; n < SLICE && c->out.len < SLICE_OCTETS; n++) {
		if (!walk_place(c)) {
			c->walking = false;
			c->visited(c);
			return;
		}
		if (queue_walk_next(c->walk, &info)) {
			c->visit(c, info);
		} else {
			queue_walk_free(c->walk);
			c->walk = NULL;
		}
	}
}

/* Write what there is of the answer; nobody is left to hear it when there is
 * nothing to write. */
static void
on_answer(void *arg, unsigned events)
{
	struct client *c = arg;
	struct loop *l = c->control->parts.loop;
	ssize_t n = 0;

	(void)events;
	if (!c->walking && c->out.len == 0) {
		client_free(c);
		return;
	}
	if (!c->testing)
		loop_timer_set(l, &c->timer, CLIENT_TIMEOUT_MS);
	if (c->out.len == 0)
		walk_slice(c);
	if (c->out.len > 0)
		n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
	if (n == -1 && errno == EAGAIN)
		return;
	if (n >= 0)
		buf_drop(&c->out, (size_t)n);
	if (n == -1 || (c->ended && c->out.len == 0))
		client_free(c);
	else if (!c->walking && c->out.len == 0)
		(void)loop_watch(l, c->fd, 0, on_answer, c);
}

static void
wake(struct client *c)
{
	(void)loop_watch(c->control->parts.loop, c->fd, LOOP_WRITE, on_answer,
	    c);
}

/* Add lines to the answer; kind: 'o' or 'e'. */
static void
add_lines(struct client *c, char kind, struct span text)
{
	struct span line;

	while (text.len > 0) {
		(void)span_cut(text, '\n', &line, &text);
		buf_add_char(&c->out, kind);
		buf_add(&c->out, line);
		buf_add_char(&c->out, '\n');
	}
}

static void
say(struct client *c, char kind, struct span text)
{
	add_lines(c, kind, text);
	if (c->out.len > 0)
		wake(c);
}

void
client_complain(struct client *c, const char *about, const char *text)
{
	buf_add_text(&c->out, "erelayctl: ");
	buf_add_escaped(&c->out, span_of(about));
	buf_printf(&c->out, ": %s\n", text);
	wake(c);
}

void
client_finish(struct client *c, int status)
{
	buf_printf(&c->out, "x%d\n", status);
	c->ended = true;
	c->testing = false;
	loop_timer_set(c->control->parts.loop, &c->timer, CLIENT_TIMEOUT_MS);
	wake(c);
}

/* ---- verbs ---- */

bool
client_is_operator(const struct client *c)
{
	return c->uid == 0 || c->uid == geteuid();
}

/* Is the word at *i this option?  Then go past it. */
static bool
take_option(const struct client *c, const char *option, size_t *i)
{
	if (*i >= c->words.count || strcmp(c->words.item[*i], option) != 0)
		return false;
	++*i;
	return true;
}

/* The words from the i-th on are queue ids; false: refused. */
static bool
take_ids(struct client *c, size_t i)
{
	struct report_filter *f = &c->filter;
	queue_id id;

	for (; i < c->words.count; i++) {
		if (!queue_id_parse(span_of(c->words.item[i]), &id)) {
			client_complain(c, c->words.item[i], "not a queue id");
			client_finish(c, STATUS_USAGE);
			return false;
		}
		f->id = mem_array(f->id, f->id_count + 1, sizeof(id));
		f->id[f->id_count++] = id;
	}
	return true;
}

static void
usage(struct client *c)
{
	client_complain(c, c->words.item[0], "wrong arguments");
	client_finish(c, STATUS_USAGE);
}

static void
start_walk(struct client *c, unsigned places,
    void (*visit)(struct client *c, const struct queue_info *info),
    void (*visited)(struct client *c))
{
	c->walking = true;
	c->places = places;
	c->visit = visit;
	c->visited = visited;
	wake(c);
}

static void
list_message(struct client *c, const struct queue_info *info)
{
	struct buf text = { NULL, 0, 0 };

	if (!report_wants(&c->filter, info))
		return;
	buf_printf(&c->out, "m%" PRIu64 " %" PRIu64 "\n", info->id, info->size);
	report_message(info, c->json, &text);
	add_lines(c, 'o', buf_span(&text));
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

	c->json = take_option(c, "--json", &i);
	c->filter.failed = take_option(c, "--failed", &i);
	if (!take_ids(c, i))
		return;
	report_filter_sort(&c->filter);
	c->filter.everyones = client_is_operator(c);
	c->filter.uid = c->uid;
	for (place = 0; place < PLACES; place++)
		if (report_wants_place(&c->filter, (enum queue_place)place))
			places |= 1u << place;
	if (!client_is_operator(c) && c->uid == c->control->overflow_uid)
		places = 0;
	start_walk(c, places, list_message, listed);
}

static void
count_message(struct client *c, const struct queue_info *info)
{
	report_count(&c->counts, info);
}

static void
counted(struct client *c)
{
	const struct control_parts *p = &c->control->parts;
	struct report_source source = {
		.config = c->control->config,
		.queue = p->queue,
		.sched = p->sched,
		.submit = p->submit,
		.counts = c->counts,
		.wall_ms = loop_now(p->loop).wall_ms,
	};
	struct buf text = { NULL, 0, 0 };
	struct sched_status sched;
	bool good;

	sched_status(p->sched, &sched);
	source.counts.waiting = sched.waiting;
	source.counts.active = sched.active;
	source.counts.oldest_ms = sched.oldest_ms;
	source.counts.reading = sched.reading;
	good = report_status(&source, c->json, &text);
	say(c, 'o', buf_span(&text));
	buf_free(&text);
	client_finish(c, good ? STATUS_GOOD : STATUS_WRONG);
}

/* Only what the scheduler does not know is counted on the disk. */
static void
run_status(struct client *c)
{
	size_t i = 1;

	c->json = take_option(c, "--json", &i);
	if (i < c->words.count)
		usage(c);
	else
		start_walk(c, 1u << PLACE_HOLD | 1u << PLACE_FAILED,
		    count_message, counted);
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

/* Do something to each message named; text: said of one that is not there. */
static void
each_message(struct client *c, int (*act)(struct control *control, queue_id id),
    const char *text)
{
	char name[QUEUE_ID_MAX];
	int status = STATUS_GOOD;
	size_t i;

	for (i = 0; i < c->filter.id_count; i++) {
		if (act(c->control, c->filter.id[i]) == 0)
			continue;
		queue_id_text(c->filter.id[i], name);
		client_complain(c, name,
		    errno == ENOENT ? text : strerror(errno));
		status = STATUS_WRONG;
	}
	client_finish(c, status);
}

static int
flush_message(struct control *control, queue_id id)
{
	return sched_flush(control->parts.sched, id);
}

static void
run_flush(struct client *c)
{
	size_t i = 1;

	if (take_option(c, "--relay", &i)) {
		if (c->words.count == i + 1)
			flush_relay(c, c->words.item[i]);
		else
			usage(c);
		return;
	}
	if (!take_ids(c, i))
		return;
	if (c->filter.id_count == 0)
		sched_flush_all(c->control->parts.sched);
	each_message(c, flush_message, "not waiting in the queue");
}

static int
release_message(struct control *control, queue_id id)
{
	const struct control_parts *p = &control->parts;

	if (queue_release(p->queue, id) == -1)
		return -1;
	sched_add(p->sched, id, loop_now(p->loop).wall_ms);
	return 0;
}

static void
run_release(struct client *c)
{
	if (c->words.count < 2)
		usage(c);
	else if (take_ids(c, 1))
		each_message(c, release_message, "neither failed nor on hold");
}

static void
run_reload(struct client *c)
{
	struct buf error = { NULL, 0, 0 };

	c->control->parts.reload(c->control->parts.arg, &error);
	say(c, 'e', buf_span(&error));
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
		    r.name, r.fault.text, report_advice(r.fault.kind));
	buf_add_text(&text, "relayctl flush tries again at once\n");
	say(c, 'e', buf_span(&text));
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
		wake(c);
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
			say(c, 'o', span_of(text));
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
	(void)loop_watch(p->loop, c->fd, 0, on_answer, c);
}

static void
run_test(struct client *c)
{
	const char *recipient = c->words.count > 1 ? c->words.item[1] : "root";

	if (c->words.count > 2) {
		usage(c);
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
		{ "flush", run_flush, false },
		{ "queue", run_queue, true },
		{ "release", run_release, false },
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
