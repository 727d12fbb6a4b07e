/*
 * The doctor's visit at the relayhost: the connection is made by the daemon's
 * own connector, so that it meets what the daemon would meet; then MAIL with
 * each sender, RSET and QUIT.  No mail is sent.
 */
#include "helper.h"
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MAX_MS = 10000 };

/* The reply of a step. */
struct heard {
	const char *step;
	int64_t took_ms;
	struct buf words;
};

enum { HEARD_MAX = 8 };

struct session {
	struct walk *walk;
	struct loop *loop;
	struct conn *conn;
	const struct probe_address *address; /* NULL: behind a proxy */
	const struct strings *senders;
	struct heard heard[HEARD_MAX];
	size_t heard_count;
	int64_t last_ms;    /* when the step before was over */
	struct fault fault; /* of the set-up */
	bool ready;
	struct timer deadline;
	size_t sender; /* whose MAIL is asked */
	bool resetting;
	struct smtp_reply reply;
	struct buf in;
};

int64_t
walk_wait_ms(const struct config_relay *r)
{
	return r->connect_timeout * 1000 < WAIT_MAX_MS
	    ? r->connect_timeout * 1000
	    : WAIT_MAX_MS;
}

/* ---- what is heard while the connection is set up ---- */

static struct heard *
find_heard(struct session *s, const char *step)
{
	size_t i;

	for (i = 0; i < s->heard_count; i++)
		if (strcmp(s->heard[i].step, step) == 0)
			return &s->heard[i];
	return NULL;
}

/* Capabilities in a row; of several replies (AUTH) the last. */
static void
on_line(void *arg, const char *step, struct span line)
{
	struct session *s = arg;
	struct heard *h = find_heard(s, step);

	if (h == NULL && s->heard_count < HEARD_MAX) {
		h = &s->heard[s->heard_count++];
		*h = (struct heard){ .step = step };
	}
	if (h == NULL)
		return;
	if (h->words.len > 0 &&
	    (h->words.len < 4 || line.len < 4 ||
		memcmp(h->words.data, line.data, 3) != 0))
		buf_clear(&h->words);
	if (h->words.len == 0) {
		buf_add(&h->words, line);
		if (line.len > 3 && line.data[3] == '-')
			h->words.data[3] = ' ';
	} else if (h->words.len < LIMIT_REPLY_KEPT) {
		buf_add_text(&h->words, ", ");
		buf_add(&h->words, span_from(line, 4));
	}
	h->took_ms = walk_now_ms() - s->last_ms;
	if (line.len < 4 || line.data[3] != '-')
		s->last_ms = walk_now_ms();
}

static const char *
fault_step(const struct session *s)
{
	static const char *const steps[FAULTS] = {
		[FAULT_CONFIG] = "configuration",
		[FAULT_DNS] = "dns",
		[FAULT_CONNECT] = "tcp",
		[FAULT_GREETING] = "greeting",
		[FAULT_STARTTLS] = "starttls",
		[FAULT_TLS] = "tls",
		[FAULT_CERTIFICATE] = "certificate",
		[FAULT_AUTH] = "auth",
		[FAULT_NO_AUTH] = "auth",
	};
	const char *step = steps[s->fault.kind];

	return step != NULL ? step : conn_step(s->conn);
}

static void
on_failed(void *arg, const struct fault *fault)
{
	struct session *s = arg;

	s->fault = *fault;
	loop_stop(s->loop);
}

/* ---- MAIL, RSET, QUIT ---- */

static void
say(struct session *s, const char *text)
{
	size_t len = strlen(text);

	s->reply = (struct smtp_reply){ .code = 0 };
	s->last_ms = walk_now_ms();
	loop_timer_set(s->loop, &s->deadline, walk_wait_ms(s->walk->relay));
	/* So little goes out at once, or the connection is broken. */
	if (conn_send(s->conn, text, len) != (ssize_t)len)
		loop_stop(s->loop);
}

static void
say_next(void *arg)
{
	struct session *s = arg;
	struct buf text = { NULL, 0, 0 };
	const char *sender;
	uint64_t limit;

	if (s->sender == s->senders->count) {
		/* Its reply changes nothing. */
		say(s, "QUIT\r\n");
		loop_stop(s->loop);
		return;
	}
	sender = s->senders->item[s->sender];
	buf_printf(&text, "MAIL FROM:<%s>", sender);
	if (!smtp_address_valid(span_of(sender), 0) &&
	    (conn_can(s->conn, &limit) & SMTP_CAN_SMTPUTF8) != 0)
		buf_add_text(&text, " SMTPUTF8");
	buf_add_text(&text, "\r\n");
	say(s, buf_text(&text));
	buf_free(&text);
}

static void
judge_sender(struct session *s)
{
	const struct smtp_reply *r = &s->reply;
	struct fault fault = { .kind = FAULT_NONE, .code = r->code };
	struct buf text = { NULL, 0, 0 };
	enum reply_cause cause;
	char status[12];
	bool good = r->code / 100 == 2;

	smtp_reply_status(r->text, r->code, status);
	cause = reply_cause(r->code, status, r->text);
	if (cause == CAUSE_ACCOUNT)
		fault.kind = FAULT_ACCOUNT;
	else if (cause == CAUSE_QUOTA)
		fault.kind = FAULT_QUOTA;
	else if (r->code == 421)
		fault.kind = FAULT_SHUTDOWN;
	memcpy(fault.text, r->text,
	    r->len < sizeof(fault.text) ? r->len : sizeof(fault.text) - 1);
	buf_printf(&text, "<%s>: %s", s->senders->item[s->sender], r->text);
	walk_step(s->walk, "mail", good ? STEP_GOOD : STEP_WRONG,
	    walk_now_ms() - s->last_ms, buf_span(&text));
	if (!good)
		walk_advise(s->walk, advice_find(&fault), NULL);
	buf_free(&text);
}

static void
lose(struct session *s, enum fault_kind kind, const char *text)
{
	const struct fault fault = { .kind = kind };

	walk_step(s->walk, "mail", STEP_WRONG, walk_now_ms() - s->last_ms,
	    span_of(text));
	walk_advise(s->walk, advice_find(&fault), NULL);
	s->sender = s->senders->count;
	loop_stop(s->loop);
}

static void
on_deadline(void *arg)
{
	lose(arg, FAULT_TIMEOUT, "no reply in time");
}

static void
take_line(struct session *s, struct span line)
{
	enum smtp_reply_state state = smtp_reply_line(&s->reply, line);

	if (state == SMTP_REPLY_BAD) {
		lose(s, FAULT_PROTOCOL, "that is no reply of SMTP");
	} else if (state == SMTP_REPLY_DONE && s->resetting) {
		s->resetting = false;
		s->sender++;
		say_next(s);
	} else if (state == SMTP_REPLY_DONE) {
		judge_sender(s);
		s->resetting = true;
		say(s, "RSET\r\n");
	}
}

static void
on_event(void *arg, unsigned events)
{
	struct session *s = arg;
	struct span line, rest;
	char data[4096];
	ssize_t len;
	bool closed;

	(void)events;
	while ((len = conn_recv(s->conn, data, sizeof(data))) > 0)
		buf_append(&s->in, data, (size_t)len);
	closed = len == 0 || errno != EAGAIN;
	if (s->sender == s->senders->count)
		return;
	while (span_cut(buf_span(&s->in), '\n', &line, &rest)) {
		struct buf copy = { NULL, 0, 0 };

		buf_add(&copy, span_trim(line));
		buf_drop(&s->in, s->in.len - rest.len);
		take_line(s, buf_span(&copy));
		buf_free(&copy);
		if (s->sender == s->senders->count)
			return;
	}
	if (closed)
		lose(s, FAULT_LOST, "the relayhost closed the connection");
	else if (s->in.len > LIMIT_REPLY_LINE)
		lose(s, FAULT_PROTOCOL, "that is no reply of SMTP");
}

static void
on_ready(void *arg)
{
	struct session *s = arg;

	s->ready = true;
	loop_stop(s->loop);
}

/* ---- the set-up, step by step ---- */

/* What the fault's own table can't know. */
static const struct advice *
refine(struct session *s)
{
	const struct config_relay *r = s->walk->relay;
	struct heard *h = find_heard(s, "ehlo");
	const struct advice *advice = advice_find(&s->fault);
	struct probe_tls tls;

	/* Firewalls that inspect SMTP write XXXXXXXA over it; and a provider
	 * that we know offers it. */
	if (strcmp(advice->cause, "starttls-missing") == 0 &&
	    (r->preset[0] != '\0' ||
		(h != NULL && strstr(buf_text(&h->words), "XXXX") != NULL)))
		advice = advice_named("starttls-stripped");
	if ((s->fault.kind == FAULT_TIMEOUT || s->fault.kind == FAULT_LOST) &&
	    r->tls != TLS_IMPLICIT && s->heard_count == 0 &&
	    s->address != NULL) {
		probe_tls(r, s->address, NULL, walk_wait_ms(r), &tls);
		if (tls.version[0] != '\0')
			advice = advice_named("tls-implicit-port");
		buf_free(&tls.certificate);
	}
	return advice;
}

/* A step that went well, or the one that did not; false: no further. */
static bool
show(struct session *s, const char *step, int64_t took_ms, struct span good,
    struct span detail)
{
	struct buf text = { NULL, 0, 0 };

	if (s->ready || strcmp(fault_step(s), step) != 0) {
		if (good.len > 0)
			walk_step(s->walk, step, STEP_GOOD, took_ms, good);
		return true;
	}
	buf_add_text(&text, s->fault.text);
	if (detail.len > 0) {
		buf_add_text(&text, "; it has: ");
		buf_add(&text, detail);
	}
	walk_step(s->walk, step, STEP_WRONG, took_ms, buf_span(&text));
	walk_advise(s->walk, refine(s), NULL);
	buf_free(&text);
	return false;
}

static bool
show_heard(struct session *s, const char *step)
{
	struct heard *h = find_heard(s, step);

	return show(s, step,
	    h != NULL ? h->took_ms : walk_now_ms() - s->last_ms,
	    h != NULL ? buf_span(&h->words) : SPAN(""), SPAN(""));
}

static bool
show_tls(struct session *s)
{
	const struct walk *w = s->walk;
	bool implicit = w->relay->tls == TLS_IMPLICIT, good;
	const struct heard *h = find_heard(s, "starttls");
	struct probe_tls tls = { .took_ms = 0 };

	if (!implicit && (h == NULL || h->words.data[0] != '2'))
		return true;
	if (s->address != NULL)
		probe_tls(w->relay, s->address,
		    implicit ? NULL : w->config->hostname,
		    walk_wait_ms(w->relay), &tls);
	good = show(s, "tls", tls.took_ms,
	    s->ready ? span_of(conn_tls(s->conn)) : span_of(tls.version),
	    span_of(tls.version));
	if (good)
		good = show(s, "certificate", tls.took_ms,
		    buf_span(&tls.certificate), buf_span(&tls.certificate));
	buf_free(&tls.certificate);
	return good;
}

static void
show_all(struct session *s)
{
	bool implicit = s->walk->relay->tls == TLS_IMPLICIT;

	/* What the connector found where the walk saw nothing. */
	if (!show(s, "configuration", 0, SPAN(""), SPAN("")) ||
	    !show(s, "dns", 0, SPAN(""), SPAN("")) ||
	    !show(s, "tcp", 0, SPAN(""), SPAN("")))
		return;
	if (implicit && !show_tls(s))
		return;
	if (!show_heard(s, "greeting") || !show_heard(s, "ehlo") ||
	    !show_heard(s, "starttls"))
		return;
	if (!implicit && !show_tls(s))
		return;
	if (show_heard(s, "ehlo-tls") && show_heard(s, "auth") && !s->ready) {
		walk_step(s->walk, fault_step(s), STEP_WRONG, 0,
		    span_of(s->fault.text));
		walk_advise(s->walk, refine(s), NULL);
	}
}

static void
run(struct session *s, struct connector *connector)
{
	static const struct conn_handlers handlers = { on_ready, on_failed,
		on_event };
	struct timer begin;

	s->last_ms = walk_now_ms();
	s->conn =
	    conn_open(connector, s->walk->config, s->walk->relay, &handlers, s);
	conn_observe(s->conn, on_line);
	(void)loop_run(s->loop);
	show_all(s);
	if (s->ready) {
		/* From the loop, whose clock stood still meanwhile. */
		begin = (struct timer){ .handler = say_next, .arg = s };
		loop_timer_set(s->loop, &begin, 0);
		(void)loop_run(s->loop);
	}
	loop_timer_clear(s->loop, &s->deadline);
	conn_close(s->conn);
}

/* By now we are the daemon's user. */
static int
stay(void *arg)
{
	(void)arg;
	return 0;
}

/* It runs password_command as the daemon's does. */
static struct helper *
start_helper(const struct config_relay *r)
{
	struct strings commands = { NULL, 0 };
	struct helper *helper;

	if (r->password_command[0] != '\0')
		strings_add(&commands, span_of(r->password_command));
	helper = helper_new(&commands, stay, NULL);
	strings_free(&commands);
	return helper;
}

void
session_walk(struct walk *w, const struct probe_address *address,
    const struct strings *senders)
{
	struct session s = {
		.walk = w,
		.address = address,
		.senders = senders,
		.loop = loop_new(),
	};
	struct helper *helper = start_helper(w->relay);
	struct connector *connector =
	    s.loop == NULL ? NULL : connector_new(s.loop);
	size_t i;

	s.deadline = (struct timer){ .handler = on_deadline, .arg = &s };
	if (connector != NULL && helper != NULL) {
		connector_set_helper(connector, helper);
		run(&s, connector);
	} else {
		const struct fault fault = { .kind = FAULT_CONFIG };

		walk_step(w, "configuration", STEP_WRONG, 0,
		    SPAN("no connection can be made here"));
		walk_advise(w, advice_find(&fault), NULL);
	}
	connector_free(connector);
	helper_free(helper);
	loop_free(s.loop);
	for (i = 0; i < s.heard_count; i++)
		buf_free(&s.heard[i].words);
	buf_free(&s.in);
}
