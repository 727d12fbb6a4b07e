/*
 * The SMTP client dialogue on one connection to the relayhost.
 *
 * What a transaction writes and what a reply means for it is transaction.c's,
 * how many there may be at once pipeline.c's.  Here is what becomes of the
 * connection, and who pays when it ends: the message that was being sent, so
 * that none can hold up the rest.
 *
 * Handlers run only from the loop's calls, and whatever they do to the link
 * is noted and carried out by work(), the last step of each such call.  The
 * link is freed there and nowhere else.
 */
#include "transaction.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	ROUNDS = 8,                  /* of WIRE_SIZE, before others' turn */
	END_TIMEOUT_MS = 600 * 1000, /* RFC 5321, 4.5.3.2.6 */
	QUIT_TIMEOUT_MS = 5 * 1000,
};

enum state { CONNECTING, READY, QUITTING, OVER };

struct relay_link {
	struct loop *loop;
	struct config *config;
	const struct config_relay *relay;
	struct relay_handlers handlers;
	void *arg;

	enum state state;
	bool shut;          /* take nothing more */
	struct fault fault; /* why it ends; FAULT_NONE: in good order */
	int64_t opened_ms, setup_ms;

	uint64_t size_limit;
	unsigned begun, sent;       /* messages */
	struct transaction *coming; /* being prepared; NULL: none */
	struct pipeline pipeline;
	struct smtp_reply reply; /* being read */
	struct wire wire;

	struct timer timer;
	int64_t deadline_ms;
	bool progress; /* since the deadline was set */
};

/* ---- ends of transactions and of the link ---- */

static bool
is_busy(const struct relay_link *l)
{
	return l->pipeline.oldest != NULL || l->coming != NULL;
}

/* The oldest is decided: give it back. */
static void
complete(struct relay_link *l)
{
	l->handlers.done(l->arg, l, pipeline_drop(&l->pipeline));
}

/* The coming one is over before it was begun. */
static void
drop_coming(struct relay_link *l)
{
	struct delivery *d = l->coming->delivery;

	transaction_free(l->coming);
	l->coming = NULL;
	delivery_settle(d, VERDICT_NONE, "4.3.2",
	    "not tried: the connection was closed");
	l->handlers.done(l->arg, l, d);
}

/* "WHAT COMMAND: WORDS"; the first fault is the one that counts. */
static void
blame(struct relay_link *l, enum fault_kind kind, int code, const char *what,
    const char *command, struct span words)
{
	struct buf text = { NULL, 0, 0 };

	if (l->fault.kind != FAULT_NONE)
		return;
	buf_printf(&text, "%s %s", what, command);
	if (words.len > 0)
		buf_add_text(&text, ": ");
	buf_add_escaped(&text, words);
	l->fault.kind = kind;
	l->fault.code = code;
	(void)snprintf(l->fault.text, sizeof(l->fault.text), "%s",
	    buf_text(&text));
	buf_free(&text);
}

/* The same by the reply just read. */
static void
blame_reply(struct relay_link *l, enum fault_kind kind, const char *what,
    enum command command)
{
	blame(l, kind, l->reply.code, what, command_name(command),
	    (struct span){ l->reply.text, l->reply.len });
}

/* Its content is out and the relayhost may have taken it. */
static bool
is_unknown(const struct relay_link *l, const struct transaction *t)
{
	return t->end <= l->wire.written;
}

static bool
is_begun(const struct transaction *t)
{
	return t->step > STEP_MAIL || t->waiting > 0;
}

/* What a reply is awaited to. */
static const char *
doing(const struct relay_link *l)
{
	return l->pipeline.waiting == 0
	    ? "the next command"
	    : command_name(pipeline_expected(&l->pipeline)->command);
}

/* Is anything in flight behind it that may have been taken? */
static bool
is_followed(const struct relay_link *l, const struct transaction *t)
{
	return t->next != NULL && is_unknown(l, t->next);
}

/*
 * Nothing more can be read or written.  The message that was being sent pays,
 * unless the connection had served before and may just have been worn out.
 * A peer that closes before it has read all drops what it has still to send,
 * so with others behind it that message may have had its reply.
 */
static void
lose(struct relay_link *l, enum fault_kind kind)
{
	const char *what = kind == FAULT_TIMEOUT
	    ? "timed out while sending"
	    : "lost connection while sending";
	bool fresh = l->sent == 0 || kind == FAULT_TIMEOUT;
	struct transaction *t = l->pipeline.oldest;
	struct buf text = { NULL, 0, 0 };

	if (l->state == CONNECTING)
		blame(l, kind, 0, "lost connection right after", "the login",
		    SPAN(""));
	if (l->state == READY && t != NULL && is_begun(t)) {
		if (fresh)
			blame(l, kind, 0, what, doing(l), SPAN(""));
		buf_printf(&text, "%s %s", what, doing(l));
		t->delivery->doubtful = kind == FAULT_LOST && is_followed(l, t);
		if (!is_unknown(l, t) && (fresh || t->open)) {
			t->delivery->lost = true;
			delivery_settle(t->delivery, VERDICT_DEFERRED, "4.4.2",
			    buf_text(&text));
		}
	}
	buf_free(&text);
	l->state = OVER;
}

static void
finish(struct relay_link *l)
{
	struct transaction *t;
	bool behind = false;

	while ((t = l->pipeline.oldest) != NULL) {
		t->delivery->lost |= is_unknown(l, t);
		t->delivery->behind = behind;
		behind = true;
		if (is_unknown(l, t))
			delivery_settle(t->delivery, VERDICT_UNKNOWN, "4.4.2",
			    "lost connection after end of data, may be a "
			    "duplicate");
		else
			delivery_settle(t->delivery, VERDICT_NONE, "4.3.2",
			    "not tried: the connection was closed");
		complete(l);
	}
	if (l->coming != NULL)
		drop_coming(l);
	loop_timer_clear(l->loop, &l->timer);
	l->handlers.closed(l->arg, l,
	    l->fault.kind == FAULT_NONE ? NULL : &l->fault);
	wire_close(&l->wire);
	config_release(l->config);
	free(l->pipeline.expected);
	free(l);
}

/* ---- replies ---- */

/*
 * 421 (RFC 5321, 3.8): nothing that was not answered before is taken.  A link
 * that has taken a message has done its duty: some relayhosts take so many
 * and no more.
 */
static void
take_shutdown(struct relay_link *l, const struct expected *e)
{
	struct transaction *t = e->transaction;
	enum reply_cause cause;
	char status[12];

	smtp_reply_status(l->reply.text, l->reply.code, status);
	cause = reply_cause(l->reply.code, status, l->reply.text);
	if (cause == CAUSE_RATE || cause == CAUSE_CONNECTIONS)
		delivery_settle_reply(t->delivery, &l->reply);
	else if (command_is_end(e->command))
		delivery_settle(t->delivery, VERDICT_DEFERRED, status,
		    l->reply.text);
	for (; t != NULL; t = t->next)
		delivery_settle(t->delivery, VERDICT_NONE, status,
		    l->reply.text);
	if (l->sent == 0 && cause == CAUSE_MESSAGE)
		blame_reply(l, FAULT_SHUTDOWN,
		    "the relayhost ended the session at", e->command);
	l->state = OVER;
}

static void
judge(struct relay_link *l, const struct expected *e, enum written written)
{
	switch (
	    transaction_reply(e->transaction, e->command, written, &l->reply)) {
	case REPLY_FINE:
		break;
	case REPLY_SENT:
		l->sent++;
		pipeline_confirm(&l->pipeline);
		break;
	case REPLY_ACCOUNT:
		/* What is in flight may still be taken. */
		blame_reply(l, FAULT_ACCOUNT, "the account was refused at",
		    e->command);
		l->shut = true;
		break;
	case REPLY_QUOTA:
		blame_reply(l, FAULT_QUOTA, "the quota is used up, at",
		    e->command);
		l->shut = true;
		break;
	case REPLY_CROWDED:
		l->shut = true;
		break;
	case REPLY_NO_BDAT:
		/* In lock-step the RSET that comes next is awaited, which
		 * tells whether the chunk was taken for commands. */
		pipeline_lock_step(&l->pipeline);
		break;
	case REPLY_NONSENSE:
		blame_reply(l, FAULT_PROTOCOL,
		    written < WRITTEN_ALL ? "answered before it was sent:"
					  : "out of step, not a reply to",
		    e->command);
		l->state = OVER;
		break;
	}
}

static void
take_reply(struct relay_link *l)
{
	struct expected e = pipeline_take(&l->pipeline);
	struct transaction *t = e.transaction;
	enum written written;

	l->progress = true;
	if (t == NULL) { /* QUIT */
		l->state = OVER;
		return;
	}
	if (l->reply.code == 421) {
		take_shutdown(l, &e);
		return;
	}
	written = expected_written(&e, l->wire.written);
	judge(l, &e, written);
	if (written < WRITTEN_ALL)
		l->state = OVER; /* or content would follow as commands */
	if (l->state == OVER)
		return;
	if (e.command == COMMAND_DATA && t->step == STEP_CONTENT)
		pipeline_expect(&l->pipeline, COMMAND_END, t, e.end);
	if (t->step == STEP_WRITTEN && t->waiting == 0)
		complete(l);
}

/* Bytes that no command asked for.  Between two messages they cost nothing
 * but the connection. */
static void
take_unasked(struct relay_link *l)
{
	struct span bytes = wire_unread(&l->wire);
	bool shutdown = span_starts_nocase(bytes, SPAN("421"));

	if (l->sent == 0 || (!shutdown && l->pipeline.oldest != NULL))
		blame(l, shutdown ? FAULT_SHUTDOWN : FAULT_PROTOCOL, 0,
		    "the relayhost said", "without being asked",
		    span_trim(bytes));
	l->state = OVER;
}

static void
take_line(struct relay_link *l, struct span line)
{
	switch (smtp_reply_line(&l->reply, line)) {
	case SMTP_REPLY_MORE:
		return;
	case SMTP_REPLY_DONE:
		take_reply(l);
		break;
	case SMTP_REPLY_BAD:
		blame(l, FAULT_PROTOCOL, 0, "no SMTP reply to", doing(l), line);
		l->state = OVER;
		break;
	}
	l->reply = (struct smtp_reply){ .code = 0 };
}

static void
take_lines(struct relay_link *l)
{
	struct span line;

	while (l->state != OVER) {
		if (l->pipeline.waiting == 0) {
			if (wire_unread(&l->wire).len > 0)
				take_unasked(l);
			return;
		}
		if (!wire_line(&l->wire, &line))
			return;
		take_line(l, line);
	}
}

static void
receive(struct relay_link *l)
{
	ssize_t n;

	while (l->state != OVER) {
		n = wire_receive(&l->wire);
		if (n == -1 && errno == EAGAIN)
			return;
		if (n > 0)
			take_lines(l);
		else
			lose(l, FAULT_LOST);
	}
}

/* ---- writing ---- */

static bool
may_begin(const struct relay_link *l)
{
	return !l->shut && l->begun < l->relay->messages_per_connection;
}

/* Ask for a message; false: there is none. */
static bool
take_next(struct relay_link *l)
{
	struct delivery *d = l->handlers.next(l->arg, l);

	if (d == NULL)
		return false;
	l->progress = true;
	d->begun_ms = loop_now(l->loop).mono_ms;
	d->setup_ms = l->begun == 0 ? l->setup_ms : 0;
	if (d->by_data && l->pipeline.oldest == NULL)
		pipeline_no_bdat(&l->pipeline);
	l->coming = transaction_new(d, l->pipeline.can);
	l->coming->null_sender = l->relay->null_sender;
	return true;
}

/* Go on with the one that is coming; false: in a later turn. */
static bool
prepare(struct relay_link *l)
{
	struct transaction *t = l->coming;

	if (l->shut) {
		drop_coming(l);
		return true;
	}
	switch (transaction_prepare(t, l->pipeline.can, l->size_limit)) {
	case PREPARATION_MORE:
		l->progress = true;
		return false;
	case PREPARATION_READY:
		pipeline_add(&l->pipeline, t);
		l->coming = NULL;
		l->begun++;
		break;
	case PREPARATION_OVER:
		drop_coming(l);
		break;
	}
	return true;
}

static bool
may_prepare(const struct relay_link *l)
{
	return l->coming != NULL && pipeline_has_room(&l->pipeline);
}

static void
write_command(struct relay_link *l, struct transaction *t)
{
	enum command c = transaction_command(t, l->pipeline.can, &l->wire.out);

	if (c == COMMAND_MAIL)
		t->delivery->begun_ms = loop_now(l->loop).mono_ms;
	pipeline_expect(&l->pipeline, c, t, wire_position(&l->wire));
}

static void
write_content(struct relay_link *l, struct transaction *t)
{
	if (transaction_content(t, &l->wire.out) == 0) {
		if (t->step == STEP_WRITTEN)
			t->end = wire_position(&l->wire);
		return;
	}
	transaction_unreadable(t);
	l->state = OVER;
}

/* Queue one thing more for writing; false: nothing can be now. */
static bool
write_more(struct relay_link *l)
{
	struct transaction *t = l->pipeline.newest;

	if (l->state != READY || wire_room(&l->wire) < TRANSACTION_ROOM)
		return false;
	if (may_prepare(l))
		return prepare(l);
	if (t == NULL || t->step == STEP_WRITTEN)
		return l->coming == NULL && may_begin(l) &&
		    pipeline_has_room(&l->pipeline) && take_next(l);
	if (t->step == STEP_CONTENT)
		write_content(l, t);
	else if (t->step != STEP_WAIT && pipeline_may_ask(&l->pipeline))
		write_command(l, t);
	else
		return false;
	return true;
}

/* True: all is sent. */
static bool
send_out(struct relay_link *l)
{
	uint64_t before = l->wire.written;
	int result = wire_send(&l->wire);
	bool lost = result == -1 && errno != EAGAIN;

	if (l->wire.written > before)
		l->progress = true;
	if (lost) {
		receive(l); /* its last words, if any */
		if (l->state != OVER)
			lose(l, FAULT_LOST);
	}
	return result == 0;
}

/* Write what can be written.  True: more could be, in a later turn. */
static bool
write_out(struct relay_link *l)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		while (write_more(l))
			;
		if (l->state == OVER)
			return false;
		if (l->wire.out.len == 0)
			return may_prepare(l);
		if (!send_out(l))
			return false;
	}
	return true;
}

/* ---- the link's life ---- */

static int64_t
patience_ms(const struct relay_link *l)
{
	const struct expected *e;
	int64_t timeout = l->relay->timeout * 1000;

	if (l->state == QUITTING)
		return QUIT_TIMEOUT_MS;
	if (!is_busy(l))
		return l->relay->idle * 1000;
	if (l->pipeline.waiting > 0 && timeout < END_TIMEOUT_MS) {
		e = pipeline_expected(&l->pipeline);
		if (command_is_end(e->command) &&
		    expected_written(e, l->wire.written) == WRITTEN_ALL)
			timeout = END_TIMEOUT_MS;
	}
	return timeout;
}

static void
arm(struct relay_link *l, bool more)
{
	int64_t now = loop_now(l->loop).mono_ms;

	wire_wait(&l->wire, more);
	if (l->progress)
		l->deadline_ms = now + patience_ms(l);
	l->progress = false;
	loop_timer_set(l->loop, &l->timer, l->deadline_ms - now);
}

/* Nothing is in flight and nothing will be. */
static void
say_goodbye(struct relay_link *l)
{
	if (l->fault.kind != FAULT_NONE) {
		l->state = OVER;
		return;
	}
	l->state = QUITTING;
	l->progress = true;
	buf_add_text(&l->wire.out, "QUIT\r\n");
	pipeline_expect(&l->pipeline, COMMAND_QUIT, NULL,
	    wire_position(&l->wire));
	(void)send_out(l);
}

/* The last step of every call from the loop; the link may be gone then. */
static void
work(struct relay_link *l)
{
	bool more = l->state != OVER && write_out(l);

	if (l->state == READY && !is_busy(l) && !may_begin(l))
		say_goodbye(l);
	if (l->state == OVER)
		finish(l);
	else
		arm(l, more);
}

static void
on_timer(void *arg)
{
	struct relay_link *l = arg;

	if (l->state != OVER && loop_now(l->loop).mono_ms >= l->deadline_ms) {
		if (l->state == READY && !is_busy(l))
			l->shut = true; /* idle for long enough */
		else
			lose(l, FAULT_TIMEOUT);
	}
	work(l);
}

static void
on_event(void *arg, unsigned events)
{
	struct relay_link *l = arg;

	(void)events; /* trying both is cheaper than telling them apart */
	receive(l);
	work(l);
}

static void
on_ready(void *arg)
{
	struct relay_link *l = arg;

	l->setup_ms = loop_now(l->loop).mono_ms - l->opened_ms;
	pipeline_init(&l->pipeline, conn_can(l->wire.conn, &l->size_limit),
	    l->relay->pipeline);
	l->progress = true;
	receive(l); /* what follows the login unasked spoils it */
	if (l->state != OVER) {
		l->state = READY;
		l->handlers.ready(l->arg, l);
	}
	work(l);
}

static void
on_failed(void *arg, const struct fault *fault)
{
	struct relay_link *l = arg;

	if (l->state != OVER)
		l->fault = *fault;
	l->state = OVER;
	work(l);
}

struct relay_link *
relay_open(struct connector *c, struct loop *loop, struct config *config,
    const struct config_relay *r, const struct relay_handlers *handlers,
    void *arg)
{
	static const struct conn_handlers on_conn = { on_ready, on_failed,
		on_event };
	struct relay_link *l = mem_alloc(sizeof(*l));

	l->loop = loop;
	l->config = config_hold(config);
	l->relay = r;
	l->handlers = *handlers;
	l->arg = arg;
	l->opened_ms = loop_now(loop).mono_ms;
	l->timer = (struct timer){ .handler = on_timer, .arg = l };
	wire_init(&l->wire);
	l->wire.conn = conn_open(c, config, r, &on_conn, l);
	return l;
}

void
relay_wake(struct relay_link *l)
{
	if (l->state == READY)
		loop_timer_set(l->loop, &l->timer, 0);
}

void
relay_shut(struct relay_link *l)
{
	l->shut = true;
	if (l->state == CONNECTING)
		l->state = OVER;
	else if (l->state != READY)
		return;
	loop_timer_set(l->loop, &l->timer, 0);
}

bool
relay_idle(const struct relay_link *l)
{
	return l->state == READY && !is_busy(l) && !l->shut;
}

bool
relay_ready(const struct relay_link *l)
{
	return l->state == READY;
}

void
relay_match(struct relay_link *l, const struct relay_link *other)
{
	if (l->pipeline.window < other->pipeline.window)
		l->pipeline.window = other->pipeline.window;
}

const char *
relay_peer(const struct relay_link *l)
{
	return conn_peer(l->wire.conn);
}

const char *
relay_tls(const struct relay_link *l)
{
	return conn_tls(l->wire.conn);
}
