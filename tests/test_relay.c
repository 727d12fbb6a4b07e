/*
 * relay.c with transaction.c, pipeline.c and wire.c: dialogues with a peer in
 * memory.  Numbers are those of the catalogue of bad input.
 *
 * wrap: conn_open conn_close conn_send conn_recv conn_want conn_can
 * wrap: conn_peer conn_tls entry_read entry_rewind loop_timer_set
 * wrap: loop_timer_clear loop_now
 */
#include "behind_relay.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

enum {
	MESSAGES = 8,
	STEPS = 24,
	ALL = SMTP_CAN_PIPELINING | SMTP_CAN_CHUNKING,
};

/* Beside what the relayhost can do: not message n by BDAT. */
#define BY_DATA(n) (1u << (15 + (n)))

/* ---- what a test is made of ---- */

struct message {
	const char *content;
	size_t recipients; /* 0: one */
	bool eight_bit, utf8;
	int error;       /* of the last read ... */
	unsigned passes; /* ... after so many times of all of it */
};

struct step {
	enum {
		END,
		CLIENT,  /* this, and no more, has been written */
		SERVER,  /* this can be read */
		HANG_UP, /* the peer closes */
		BREAK,   /* sending will fail; this can be read then */
		TIMER,   /* it runs so many seconds from now; let it */
		BLOCK,   /* no more than so many octets can be written */
		SHUT,    /* relay_shut() */
	} kind;
	const char *text;
	unsigned number;
};

#define C(text)                 \
	{                       \
		CLIENT, text, 0 \
	}
#define S(text)                 \
	{                       \
		SERVER, text, 0 \
	}
#define MAIL(params) "MAIL FROM:<s@x.org>" params "\r\n"
#define RCPT(n)      "RCPT TO:<r" #n "@x.org>\r\n"
#define OK           "250 2.0.0 ok\r\n"
#define BYE          "421 4.3.2 bye\r\n"

struct dialogue {
	const char *name;
	unsigned can;
	unsigned pipeline; /* 0: 16 */
	unsigned messages; /* a connection; 0: 1000 */
	struct message message[MESSAGES];
	struct step step[STEPS];
	/*
	 * In order: "N:" and a letter for each recipient of message N (Sent,
	 * Deferred, Failed, None, Unknown), "!" when BDAT is not there, "<"
	 * when it was lost behind another, "?" as that other; the name of the
	 * fault at the end, "-" for none, nothing when it stays open.
	 */
	const char *result;
};

/* How bytes come and go; the result must not depend on it. */
struct manner {
	size_t piece;  /* octets a read, 0: all there is */
	size_t split;  /* not beyond this octet of the replies in one read */
	bool stumbles; /* every other send is EAGAIN, the others are short */
};

/* ---- the world ---- */

static struct world {
	const struct conn_handlers *handlers;
	void *arg;
	bool open;
	unsigned can;
	uint64_t size_limit;
	struct config config;

	struct manner manner;
	struct buf in; /* what the link can read */
	size_t in_total;
	bool hung_up;
	const char *last_words; /* of a peer that is gone; else NULL */
	struct buf out;
	size_t budget; /* octets that can be written */
	bool stumbled;
	const char *refused; /* by conn_send() */
	size_t refused_len;
	char *refused_copy;
	unsigned sends, wanted;

	const struct message *message;
	size_t message_count, next;
	struct entry entry[MESSAGES];
	struct delivery delivery[MESSAGES];
	bool given[MESSAGES];
	unsigned passes[MESSAGES];
	struct config_relay relay;
	struct relay_link *link;
	const struct relay_link *other; /* whose window it begins with */
	struct buf result;
	struct fault fault;
} w;

struct conn *
__wrap_conn_open(struct connector *c, const struct config *config,
    const struct config_relay *r, const struct conn_handlers *handlers,
    void *arg)
{
	(void)c;
	(void)config;
	assert_ptr_equal(r, &w.relay);
	w.handlers = handlers;
	w.arg = arg;
	w.open = true;
	return NULL;
}

void
__wrap_conn_close(struct conn *c)
{
	(void)c;
	assert_true(w.open);
	w.open = false;
}

/* What was refused must come again from the same place, unchanged. */
static void
check_retry(const char *data, size_t len)
{
	if (w.refused == NULL)
		return;
	assert_ptr_equal(data, w.refused);
	assert_true(len >= w.refused_len);
	assert_memory_equal(data, w.refused_copy, w.refused_len);
	free(w.refused_copy);
	w.refused_copy = NULL;
	w.refused = NULL;
}

static ssize_t
refuse(const char *data, size_t len)
{
	w.refused = data;
	w.refused_len = len;
	w.refused_copy = span_text((struct span){ data, len });
	errno = EAGAIN;
	return -1;
}

ssize_t
__wrap_conn_send(struct conn *c, const void *data, size_t len)
{
	(void)c;
	assert_true(w.open && len > 0);
	check_retry(data, len);
	w.sends++;
	if (w.last_words != NULL) {
		buf_add_text(&w.in, w.last_words);
		w.hung_up = true;
		errno = EPIPE;
		return -1;
	}
	w.stumbled = w.manner.stumbles && !w.stumbled;
	if (w.stumbled || w.budget == 0)
		return refuse(data, len);
	if (w.manner.stumbles && len > 5)
		len = len / 2 + 1;
	if (len > w.budget)
		len = w.budget;
	w.budget -= len;
	buf_append(&w.out, data, len);
	return (ssize_t)len;
}

ssize_t
__wrap_conn_recv(struct conn *c, void *data, size_t size)
{
	size_t n = w.in.len;

	(void)c;
	assert_true(w.open);
	if (n == 0 && w.hung_up)
		return 0;
	if (n == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (n > size)
		n = size;
	memcpy(data, w.in.data, n);
	buf_drop(&w.in, n);
	return (ssize_t)n;
}

void
__wrap_conn_want(struct conn *c, unsigned events)
{
	(void)c;
	w.wanted = events;
}

unsigned
__wrap_conn_can(const struct conn *c, uint64_t *size_limit)
{
	(void)c;
	*size_limit = w.size_limit;
	return w.can;
}

ssize_t
__wrap_entry_read(struct entry *e, char *out, size_t size)
{
	const struct message *m = &w.message[e->id - 1];
	uint64_t left = e->size - e->read_at;

	if (size > left)
		size = left;
	if (m->error != 0 && left > 0 && size == left &&
	    w.passes[e->id - 1]++ == m->passes) {
		errno = m->error;
		return -1;
	}
	memcpy(out, m->content + e->read_at, size);
	e->read_at += size;
	return (ssize_t)size;
}

/* ---- the link's handlers ---- */

static struct delivery *
next(void *arg, struct relay_link *link)
{
	(void)arg;
	(void)link;
	return w.next < w.message_count ? &w.delivery[w.next++] : NULL;
}

static void
done(void *arg, struct relay_link *link, struct delivery *d)
{
	size_t i, n = (size_t)(d - w.delivery);

	(void)arg;
	relay_wake(link);
	assert_false(w.given[n]);
	w.given[n] = true;
	buf_printf(&w.result, "%zu:", n + 1);
	for (i = 0; i < d->recipient_count; i++) {
		assert_non_null(d->recipient[i].reply);
		buf_add_char(&w.result, "NSDFU"[d->recipient[i].verdict]);
	}
	if (d->no_bdat)
		buf_add_char(&w.result, '!');
	if (d->recipient[0].verdict == VERDICT_UNKNOWN && d->behind)
		buf_add_char(&w.result, '<');
	if (d->doubtful)
		buf_add_char(&w.result, '?');
	buf_add_char(&w.result, ' ');
}

static void
ready(void *arg, struct relay_link *link)
{
	(void)arg;
	if (w.other != NULL)
		relay_match(link, w.other);
	relay_wake(link);
}

static void
closed(void *arg, struct relay_link *link, const struct fault *fault)
{
	static const char *const name[FAULTS] = {
		[FAULT_CONNECT] = "connect",
		[FAULT_SHUTDOWN] = "shutdown",
		[FAULT_ACCOUNT] = "account",
		[FAULT_LOST] = "lost",
		[FAULT_TIMEOUT] = "timeout",
		[FAULT_PROTOCOL] = "protocol",
	};

	(void)arg;
	relay_wake(link);
	relay_shut(link);
	if (fault != NULL)
		w.fault = *fault;
	buf_printf(&w.result, "%s ", fault ? name[fault->kind] : "-");
	w.link = NULL;
}

static const struct relay_handlers handlers = { next, done, ready, closed };

/* ---- running a dialogue ---- */

static void
make_delivery(size_t n, const struct message *m)
{
	struct entry *e = &w.entry[n];
	struct delivery *d = &w.delivery[n];
	struct text_facts facts = { 0 };
	char address[32];
	size_t i;

	*e = (struct entry){ .id = n + 1, .size = strlen(m->content) };
	text_note(&facts, span_of(m->content));
	e->has = facts.has;
	e->read_at = 1; /* as a former try left it */
	e->envelope.sender = mem_text("s@x.org");
	e->envelope.eight_bit = m->eight_bit;
	e->envelope.utf8 = m->utf8;
	d->entry = e;
	d->by_data = (w.can & BY_DATA(e->id)) != 0;
	d->recipient_count = m->recipients == 0 ? 1 : m->recipients;
	d->recipient = mem_alloc(d->recipient_count * sizeof(*d->recipient));
	e->envelope.recipient =
	    mem_alloc(d->recipient_count * sizeof(*e->envelope.recipient));
	for (i = 0; i < d->recipient_count; i++) {
		(void)snprintf(address, sizeof(address), "r%zu@x.org", i + 1);
		e->envelope.recipient[i].address = mem_text(address);
		d->recipient[i].index = i;
	}
}

static void
free_delivery(size_t n)
{
	struct delivery *d = &w.delivery[n];
	struct entry *e = &w.entry[n];
	size_t i;

	for (i = 0; i < d->recipient_count; i++) {
		free(e->envelope.recipient[i].address);
		free(d->recipient[i].reply);
	}
	free(e->envelope.recipient);
	free(e->envelope.sender);
	free(d->recipient);
}

static void
begin(const struct dialogue *d, const struct manner *manner)
{
	size_t n;

	w = (struct world){ .can = d->can, .message = d->message };
	w.size_limit = (d->can & SMTP_CAN_SIZE) != 0 ? 100 : 0;
	w.budget = SIZE_MAX;
	w.manner = *manner;
	w.config.references = 1;
	now_ms = 1000;
	timer = NULL;
	w.relay = (struct config_relay){
		.pipeline = d->pipeline == 0 ? 16 : d->pipeline,
		.messages_per_connection =
		    d->messages == 0 ? 1000 : d->messages,
		.timeout = 300,
		.idle = 30,
	};
	for (n = 0; n < MESSAGES && d->message[n].content != NULL; n++)
		make_delivery(n, &d->message[n]);
	w.message_count = n;
	w.link = relay_open(NULL, NULL, &w.config, &w.relay, &handlers, NULL);
}

/* Let the link write for as long as it wants to and can. */
static void
settle(void)
{
	int left;

	for (left = 100000; left > 0 && w.link != NULL &&
	     (w.wanted & LOOP_WRITE) != 0 && w.budget > 0;
	     left--)
		w.handlers->event(w.arg, LOOP_WRITE);
	assert_true(left > 0);
}

static void
feed(const char *text)
{
	size_t len = strlen(text), n;

	while (len > 0 && w.link != NULL) {
		n = len;
		if (w.manner.piece > 0 && n > w.manner.piece)
			n = w.manner.piece;
		if (w.manner.split > w.in_total &&
		    n > w.manner.split - w.in_total)
			n = w.manner.split - w.in_total;
		buf_append(&w.in, text, n);
		w.in_total += n;
		text += n;
		len -= n;
		w.handlers->event(w.arg, LOOP_READ);
		settle();
	}
}

static void
run_timer(const char *name, unsigned seconds)
{
	if (timer->at_ms - now_ms != (int64_t)seconds * 1000)
		fail_msg("%s: the timer runs in %lld ms", name,
		    (long long)(timer->at_ms - now_ms));
	now_ms = timer->at_ms;
	timer->handler(timer->arg);
}

static void
take_step(const struct dialogue *d, const struct step *s)
{
	const char *name = d->name;

	switch (s->kind) {
	case CLIENT:
		if (!span_equal(buf_span(&w.out), span_of(s->text)))
			fail_msg("%s: wrote\n%s\nnot\n%s", name,
			    buf_text(&w.out), s->text);
		buf_clear(&w.out);
		break;
	case SERVER:
		feed(s->text);
		break;
	case HANG_UP:
		w.hung_up = true;
		w.handlers->event(w.arg, LOOP_READ);
		break;
	case BREAK:
		w.last_words = s->text;
		break;
	case TIMER:
		run_timer(name, s->number);
		break;
	case BLOCK:
		w.budget = s->number;
		break;
	case SHUT:
		relay_shut(w.link);
		run_timer(name, 0);
		break;
	case END:
		break;
	}
	settle();
}

static void
finish(const struct dialogue *d)
{
	size_t n;

	if (w.result.len > 0)
		w.result.len--; /* the blank */
	if (!span_equal(buf_span(&w.result), span_of(d->result)))
		fail_msg("%s: %s, not %s (%s)", d->name, buf_text(&w.result),
		    d->result, w.fault.text);
	if (w.link != NULL) {
		w.message_count = 0;
		w.hung_up = true;
		w.handlers->event(w.arg, LOOP_READ);
	}
	assert_false(w.open);
	assert_null(timer);
	assert_int_equal(w.config.references, 1);
	for (n = 0; n < MESSAGES && d->message[n].content != NULL; n++)
		free_delivery(n);
	free(w.refused_copy);
	buf_free(&w.in);
	buf_free(&w.out);
	buf_free(&w.result);
}

static size_t
run_in(const struct dialogue *d, const struct manner *manner)
{
	size_t i, read;

	begin(d, manner);
	for (i = 0; d->step[i].kind == BLOCK; i++)
		take_step(d, &d->step[i]);
	w.handlers->ready(w.arg);
	settle();
	for (; i < STEPS && d->step[i].kind != END; i++)
		take_step(d, &d->step[i]);
	read = w.in_total;
	finish(d);
	return read;
}

/* All ways of cutting the replies must come to the same. */
static void
run(const struct dialogue *d)
{
	struct manner manner = { 0, 0, false };
	size_t octets = run_in(d, &manner);

	for (manner.split = 1; manner.split < octets; manner.split++)
		(void)run_in(d, &manner);
	(void)run_in(d, &(struct manner){ 1, 0, false });
	(void)run_in(d, &(struct manner){ 0, 0, true });
	(void)run_in(d, &(struct manner){ 3, 0, true });
}

static void
run_all(const struct dialogue *d, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		run(&d[i]);
}

/* ---- dialogues ---- */

#define ONE                                \
	{                                  \
		{                          \
			.content = "a\r\n" \
		}                          \
	}
#define TWO                                \
	{                                  \
		{ .content = "a\r\n" },    \
		{                          \
			.content = "b\r\n" \
		}                          \
	}
#define THREE                                               \
	{                                                   \
		{                                           \
			.content = "a\r\n", .recipients = 3 \
		}                                           \
	}
#define THREE_CHUNKS                                            \
	{                                                       \
		{ .content = "a\r\n" }, { .content = "b\r\n" }, \
		{                                               \
			.content = "c\r\n"                      \
		}                                               \
	}
#define RCPTS      RCPT(1) RCPT(2) RCPT(3)
#define BDAT(text) "BDAT 3 LAST\r\n" text "\r\n"
#define DATA1      C(MAIL("") RCPT(1) "DATA\r\n")
#define BDAT1      C(MAIL("") RCPT(1) BDAT("a"))
#define GO         "354 go\r\n"
#define PIPE       SMTP_CAN_PIPELINING

static void
lock_step_waits_for_each_reply(void **state)
{
	static const struct dialogue d[] = {
		{ "two messages", SMTP_CAN_CHUNKING, 0, 0, TWO,
		    { C(MAIL("")), S(OK), C(RCPT(1)), S(OK), C("DATA\r\n"),
			S(GO), C("a\r\n.\r\n"), S(OK), C(MAIL("")), S(OK),
			C(RCPT(1)), S(OK), C("DATA\r\n"), S(GO),
			C("b\r\n.\r\n"), S(OK), C("") },
		    "1:S 2:S" },
		{ "no RCPT after a refused MAIL, no RSET", 0, 0, 0, TWO,
		    { C(MAIL("")), S("451 4.3.0 no\r\n"), C(MAIL("")), S(OK),
			C(RCPT(1)), S(OK), C("DATA\r\n"), S(GO),
			C("b\r\n.\r\n"), S(OK) },
		    "1:D 2:S" },
		{ "no DATA for nobody, but RSET", 0, 0, 0, TWO,
		    { C(MAIL("")), S(OK), C(RCPT(1)), S("550 5.1.1 no\r\n"),
			C("RSET\r\n"), S(OK), C(MAIL("")), S(OK), C(RCPT(1)),
			S(OK), C("DATA\r\n"), S(GO), C("b\r\n.\r\n"), S(OK) },
		    "1:F 2:S" },
		{ "I37", 0, 0, 0, THREE,
		    { C(MAIL("")), S(OK), C(RCPT(1)), S("450 4.2.1 no\r\n"),
			C(RCPT(2)), S("550 5.1.1 no\r\n"), C(RCPT(3)),
			S("251 2.1.5 forwarded\r\n"), C("DATA\r\n"), S(GO),
			C("a\r\n.\r\n"), S(OK) },
		    "1:DFS" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

static void
pipelining_sends_an_envelope_in_one_go(void **state)
{
	static const struct dialogue d[] = {
		{ "the next follows the dot", PIPE, 0, 0, TWO,
		    { DATA1, S(OK OK GO),
			C("a\r\n.\r\n" MAIL("") RCPT(1) "DATA\r\n"), S(OK),
			C(""), S(OK OK GO), C("b\r\n.\r\n"), S(OK) },
		    "1:S 2:S" },
		{ "pipeline = 1: it does not", PIPE, 1, 0, TWO,
		    { DATA1, S(OK OK GO), C("a\r\n.\r\n"), S(OK), DATA1,
			S(OK OK GO), C("b\r\n.\r\n"), S(OK) },
		    "1:S 2:S" },
		{ "I37", PIPE, 0, 0, THREE,
		    { C(MAIL("") RCPTS "DATA\r\n"),
			S(OK OK "450 4.2.1 no\r\n550 5.1.1 no\r\n" GO),
			C("a\r\n.\r\n"), S(OK) },
		    "1:SDF" },
		{ "I38: a lone dot", PIPE, 0, 0, THREE,
		    { C(MAIL("") RCPTS "DATA\r\n"),
			S(OK "550 5.1.1 no\r\n550 no\r\n450 no\r\n" GO),
			C(".\r\n"), S(OK), C("") },
		    "1:FFD" },
		{ "a lone dot after a refused MAIL", PIPE, 0, 0, ONE,
		    { DATA1, S("451 no\r\n" OK GO), C(".\r\n"), S(OK) },
		    "1:D" },
		{ "DATA refused for want of recipients; RSET", PIPE, 0, 0, TWO,
		    { DATA1, S(OK "550 5.1.1 no\r\n554 5.5.1 no\r\n"),
			C("RSET\r\n" MAIL("") RCPT(1) "DATA\r\n"),
			S(OK OK OK GO), C("b\r\n.\r\n"), S(OK) },
		    "1:F 2:S" },
		{ "I36", PIPE, 0, 0, ONE,
		    { DATA1, S("552 5.3.4 big\r\n503 no\r\n503 no\r\n") },
		    "1:F" },
		{ "I39", PIPE, 0, 0, THREE,
		    { C(MAIL("") RCPTS "DATA\r\n"),
			S(OK OK "452 4.5.3 many\r\n552 5.5.3 many\r\n" GO),
			C("a\r\n.\r\n"), S(OK) },
		    "1:SNN" },
		{ "452 to the first means it", PIPE, 0, 0, THREE,
		    { C(MAIL("") RCPTS "DATA\r\n"),
			S(OK "452 4.5.3 many\r\n" OK "452 4.2.2 full\r\n" GO),
			C("a\r\n.\r\n"), S("451 later\r\n") },
		    "1:DDD" },
		{ "I44: DATA 451", PIPE, 0, 0, THREE,
		    { C(MAIL("") RCPTS "DATA\r\n"),
			S(OK OK "550 no\r\n" OK "451 no\r\n") },
		    "1:DFD" },
		{ "I44: DATA 250", PIPE, 0, 0, ONE,
		    { DATA1, S(OK OK OK), C("") }, "1:D protocol" },
		{ "the end refused", PIPE, 0, 0, ONE,
		    { DATA1, S(OK OK GO), C("a\r\n.\r\n"),
			S("554 5.6.0 no\r\n") },
		    "1:F" },
		{ "a reply of many lines", PIPE, 0, 0, ONE,
		    { DATA1, S("250-a\r\n250-b\r\n" OK OK GO), C("a\r\n.\r\n"),
			S("250-x\r\n250 y\r\n") },
		    "1:S" },
		{ "I50: a surplus reply does not judge the next", PIPE, 0, 0,
		    TWO,
		    { DATA1, S(OK OK GO),
			C("a\r\n.\r\n" MAIL("") RCPT(1) "DATA\r\n"),
			S(OK "550 oops\r\n" OK OK GO), C("") },
		    "1:S 2:D protocol" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

#define RBDAT(text) "RSET\r\n" MAIL("") RCPT(1) BDAT(text)

static void
chunking_keeps_messages_in_flight(void **state)
{
	static const struct dialogue d[] = {
		{ "one, two, four", ALL, 0, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" }, { .content = "d\r\n" },
			{ .content = "e\r\n" }, { .content = "f\r\n" },
			{ .content = "g\r\n" } },
		    { BDAT1, S(OK OK OK), C(RBDAT("b") RBDAT("c")),
			S(OK OK OK OK), C(RBDAT("d") RBDAT("e") RBDAT("f")),
			S(OK OK OK), C(""), S(OK), C(RBDAT("g")),
			S(OK OK OK OK), S(OK OK OK OK OK OK OK OK),
			S(OK OK OK OK) },
		    "1:S 2:S 3:S 4:S 5:S 6:S 7:S" },
		{ "not more than pipeline", ALL, 2, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" }, { .content = "d\r\n" } },
		    { BDAT1, S(OK OK OK), C(RBDAT("b") RBDAT("c")),
			S(OK OK OK OK), C(RBDAT("d")), S(OK OK OK OK),
			S(OK OK OK OK) },
		    "1:S 2:S 3:S 4:S" },
		{ "I54: one of them refused", ALL, 0, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" } },
		    { BDAT1, S(OK OK OK), C(RBDAT("b") RBDAT("c")),
			S(OK "550 5.1.8 no\r\n503 no\r\n503 no\r\n"),
			S(OK OK OK OK) },
		    "1:S 2:F 3:S" },
		{ "I54: lost after one", ALL, 0, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" } },
		    { BDAT1, S(OK OK OK), C(RBDAT("b") RBDAT("c")),
			S(OK OK OK OK), { HANG_UP, "", 0 } },
		    "1:S 2:S 3:U -" },
		{ "nobody accepted", ALL, 0, 0, ONE,
		    { BDAT1, S(OK "550 no\r\n554 no\r\n") }, "1:F" },
		{ "nobody accepted, yet 250: none is sent", ALL, 0, 0, TWO,
		    { BDAT1, S(OK "550 no\r\n" OK), C(RBDAT("b")), S(BYE) },
		    "1:F 2:N shutdown" },
		{ "RSET refused", ALL, 0, 0, TWO,
		    { BDAT1, S(OK OK OK), C(RBDAT("b")), S("550 oops\r\n") },
		    "1:S 2:U protocol" },
		{ "I55: BDAT is not there", ALL, 0, 0, TWO,
		    { BDAT1, S(OK OK "502 5.5.1 what\r\n"), C("RSET\r\n"),
			S(OK), C(MAIL("")), S(OK), C(RCPT(1)), S(OK),
			C("DATA\r\n"), S(GO), C("b\r\n.\r\n"), S(OK) },
		    "1:N! 2:S" },
		{ "I55: the chunk was taken for commands", ALL, 0, 0, TWO,
		    { BDAT1, S(OK OK "502 5.5.1 what\r\n"), C("RSET\r\n"),
			S("500 a?\r\n"), C("") },
		    "1:N! 2:N protocol" },
		{ "I55: known not to be there", ALL | BY_DATA(1) | BY_DATA(2),
		    0, 0, TWO,
		    { C(MAIL("") RCPT(1) "DATA\r\n"), S(OK OK GO),
			C("a\r\n.\r\n" MAIL("") RCPT(1) "DATA\r\n"),
			S(OK OK OK GO), C("b\r\n.\r\n"), S(OK) },
		    "1:S 2:S" },
		{ "I55: known once the window is empty", ALL | BY_DATA(2), 0, 0,
		    TWO,
		    { BDAT1, S(OK OK OK),
			C("RSET\r\n" MAIL("") RCPT(1) "DATA\r\n"),
			S(OK OK OK GO), C("b\r\n.\r\n"), S(OK) },
		    "1:S 2:S" },
		{ "I55: known while a chunk is in flight", ALL | BY_DATA(3), 0,
		    0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" } },
		    { BDAT1, S(OK OK OK), C(RBDAT("b") RBDAT("c")),
			S(OK OK OK OK OK OK OK OK) },
		    "1:S 2:S 3:S" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

static void
hang_up(void *link_arg)
{
	w.open = w.hung_up = true;
	w.handlers->event(link_arg, LOOP_READ);
}

static void
a_link_may_begin_with_the_window_of_another(void **state)
{
	struct dialogue d = { .name = "",
		.can = ALL,
		.message = { { .content = "a\r\n" }, { .content = "b\r\n" },
		    { .content = "c\r\n" }, { .content = "d\r\n" },
		    { .content = "e\r\n" }, { .content = "f\r\n" } },
		.result = "1:S 4:U? 5:U< lost 2:U? 3:U< -" };
	struct manner manner = { 0, 0, false };
	void *first;

	(void)state;
	begin(&d, &manner);
	w.handlers->ready(w.arg);
	feed(OK OK OK);
	first = w.arg;
	w.other = w.link;
	buf_clear(&w.out);
	w.link = relay_open(NULL, NULL, &w.config, &w.relay, &handlers, NULL);
	w.handlers->ready(w.arg);
	assert_string_equal(buf_text(&w.out),
	    MAIL("") RCPT(1) BDAT("d") RBDAT("e"));
	hang_up(w.arg);
	hang_up(first);
	finish(&d);
}

static void
parameters_are_those_that_are_offered(void **state)
{
	static const struct dialogue d[] = {
		{ "all",
		    PIPE | SMTP_CAN_SIZE | SMTP_CAN_8BITMIME |
			SMTP_CAN_SMTPUTF8,
		    0, 0, { { "a\r\n", 0, true, true, 0, 0 } },
		    { C(MAIL(" SIZE=3 BODY=8BITMIME SMTPUTF8")
			    RCPT(1) "DATA\r\n") },
		    "" },
		{ "8-bit octets nobody spoke of", PIPE | SMTP_CAN_8BITMIME, 0,
		    0, { { .content = "\r\n\xe4\r\n" } },
		    { C(MAIL(" BODY=8BITMIME") RCPT(1) "DATA\r\n") }, "" },
		{ "8-bit spoken of that are not there", PIPE, 0, 0,
		    { { "a\r\n", 0, true, false, 0, 0 } }, { DATA1 }, "" },
		{ "I15: too large", PIPE | SMTP_CAN_SIZE, 0, 0,
		    { { .content = "0123456789012345678901234567890123456789"
				   "0123456789012345678901234567890123456789"
				   "0123456789012345678\r\n" } },
		    { C("") }, "1:F" },
		{ "just not too large", PIPE | SMTP_CAN_SIZE, 0, 0,
		    { { .content = "0123456789012345678901234567890123456789"
				   "0123456789012345678901234567890123456789"
				   "012345678901234567\r\n" } },
		    { C(MAIL(" SIZE=100") RCPT(1) "DATA\r\n") }, "" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

#define BIT8     "S: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
#define ENCODING "Content-Transfer-Encoding: quoted-printable\r\n"

static void
I56_content_is_converted_for_the_relayhost(void **state)
{
	static const struct dialogue d[] = {
		{ "its size is known before", ALL | SMTP_CAN_SIZE, 0, 0,
		    { { .content = "S: x\r\n\r\n\xe4\xe4\xe4\r\n" },
			{ .content = "b\r\n" } },
		    { C(MAIL(" SIZE=3") RCPT(1) BDAT("b")) }, "1:F" },
		{ "DATA", PIPE, 0, 0,
		    { { .content = BIT8 "\r\n.\xe4 long enough\r\n" },
			{ .content = "b\r\n" } },
		    { DATA1, S(OK OK GO),
			C(BIT8 ENCODING "\r\n=2E=E4 long enough\r\n.\r\n" MAIL(
			    "") RCPT(1) "DATA\r\n"),
			S(OK) },
		    "1:S" },
		{ "BDAT", ALL, 0, 0,
		    { { .content = BIT8 "\r\n\xe4 long enough\r\n" } },
		    { C(MAIL("") RCPT(1) "BDAT 115 LAST\r\n" BIT8 ENCODING
					 "\r\n=E4 long enough\r\n"),
			S(OK OK OK) },
		    "1:S" },
		{ "no SMTPUTF8, but only the text needs it",
		    PIPE | SMTP_CAN_8BITMIME, 0, 0,
		    { { "S: attach\xc3\xa9\r\n\r\n", 0, false, true, 0, 0 } },
		    { C(MAIL(" BODY=8BITMIME") RCPT(1) "DATA\r\n"), S(OK OK GO),
			C("S: =?utf-8?Q?attach=C3=A9?=\r\n\r\n.\r\n"), S(OK) },
		    "1:S" },
		{ "no SMTPUTF8, and an address needs it", PIPE, 0, 0,
		    { { "To: \xc3\xa4@b\r\n\r\n", 2, false, true, 0, 0 },
			{ .content = "b\r\n" } },
		    { DATA1 }, "1:FF" },
		{ "it can't be read", PIPE, 0, 0,
		    { { "\r\n\xe4\r\n", 2, false, false, EBADMSG, 0 },
			{ .content = "b\r\n" } },
		    { DATA1 }, "1:DD" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

/* While it is prepared the link stays awake, and what is asked for meanwhile
 * is done. */
static void
a_large_message_is_prepared_in_slices(void **state)
{
	static char large[(1 << 20) + 16];
	static struct dialogue d = { "slices", PIPE, 0, 0,
		{ { .content = large } }, { C("") }, "" };
	static const struct manner manner = { 0 };
	size_t n;

	(void)state;
	(void)snprintf(large, sizeof(large), "\r\n\xe4");
	memset(large + 3, 'x', sizeof(large) - 6);
	memcpy(large + sizeof(large) - 3, "\r\n", 3);
	begin(&d, &manner);
	w.handlers->ready(w.arg);
	for (n = 0; w.out.len == 0; n++) {
		assert_in_range(n, 0, 20);
		assert_int_equal(w.wanted, LOOP_READ | LOOP_WRITE);
		assert_false(relay_idle(w.link));
		w.handlers->event(w.arg, LOOP_WRITE);
	}
	assert_in_range(n, 3, 20);
	finish(&d);
}

static void
shutdown_costs_no_message_its_try(void **state)
{
	static const struct dialogue d[] = {
		{ "at once", PIPE, 0, 0, ONE, { S(BYE) }, "1:N shutdown" },
		{ "at RCPT", PIPE, 0, 0, THREE, { S(OK "550 no\r\n" BYE) },
		    "1:FNN shutdown" },
		{ "at DATA", PIPE, 0, 0, ONE, { S(OK OK BYE) },
		    "1:N shutdown" },
		{ "I48: at the end", PIPE, 0, 0, ONE, { S(OK OK GO), S(BYE) },
		    "1:D shutdown" },
		{ "at the end, the next begun", PIPE, 0, 0, TWO,
		    { S(OK OK GO), S(BYE) }, "1:D 2:N shutdown" },
		{ "at MAIL, the chunk out", ALL, 0, 0, ONE, { S(BYE) },
		    "1:N shutdown" },
		{ "I57: after a message", PIPE, 0, 0, TWO,
		    { S(OK OK GO), S(OK BYE) }, "1:S 2:N -" },
		{ "I57: with chunks", ALL, 0, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" } },
		    { S(OK OK OK), S(OK OK OK BYE) }, "1:S 2:D 3:N -" },
		{ "I53: idle", PIPE, 0, 0, ONE, { S(OK OK GO), S(OK), S(BYE) },
		    "1:S -" },
		{ "in content", PIPE, 0, 0, ONE,
		    { S(OK OK), { BLOCK, "", 2 }, S(GO), S(BYE) },
		    "1:D shutdown" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

static void
account_trouble_is_not_the_messages_fault(void **state)
{
	static const struct dialogue d[] = {
		{ "I33", 0, 0, 0, TWO, { S("530 5.7.0 who?\r\n"), C(MAIL("")) },
		    "1:N account" },
		{ "pipelined", PIPE, 0, 0, TWO,
		    { S("535 5.7.8 no\r\n503 no\r\n503 no\r\n") },
		    "1:N account" },
		{ "one recipient: the other is sent", PIPE, 0, 0,
		    { { .content = "a\r\n", .recipients = 2 },
			{ .content = "b\r\n" } },
		    { S(OK OK "550 5.7.30 no\r\n" GO),
			C(MAIL("") RCPT(1) RCPT(2) "DATA\r\n"
						   "a\r\n.\r\n"),
			S(OK) },
		    "1:SN account" },
		{ "what is in flight is waited for", ALL, 0, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ .content = "c\r\n" }, { .content = "d\r\n" } },
		    { S(OK OK OK), S(OK "534 5.7.9 no\r\n503 no\r\n503 no\r\n"),
			S(OK OK OK OK) },
		    "1:S 2:N 3:S account" },
		{ "I34: 454 is for the message", PIPE, 0, 0, ONE,
		    { S("454 4.7.0 slow\r\n503 no\r\n503 no\r\n") }, "1:D" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

#define LOST                   \
	{                      \
		HANG_UP, "", 0 \
	}

static void
a_lost_connection_is_paid_by_the_message_being_sent(void **state)
{
	static const struct dialogue d[] = {
		{ "before MAIL's reply", PIPE, 0, 0, ONE, { LOST },
		    "1:D lost" },
		{ "after MAIL", PIPE, 0, 0, THREE, { S(OK "550 no\r\n"), LOST },
		    "1:FDD lost" },
		{ "after MAIL, lock-step", 0, 0, 0, ONE, { S(OK), LOST },
		    "1:D lost" },
		{ "before DATA's reply", PIPE, 0, 0, ONE, { S(OK OK), LOST },
		    "1:D lost" },
		{ "in content", PIPE, 0, 0, ONE,
		    { S(OK OK), { BLOCK, "", 5 }, S(GO), LOST }, "1:D lost" },
		{ "I48: after the dot", PIPE, 0, 0, TWO, { S(OK OK GO), LOST },
		    "1:U 2:N lost" },
		{ "I48: in the reply to it", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S("250 2.0.0 o"), LOST }, "1:U lost" },
		{ "I24: a whole reply counts", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S(OK), LOST }, "1:S -" },
		{ "after a chunk", ALL, 0, 0, ONE, { LOST }, "1:U lost" },
		{ "in a chunk", ALL, 0, 0, ONE, { { BLOCK, "", 50 }, LOST },
		    "1:D lost" },
		{ "I53: idle", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S("451 no\r\n"), LOST }, "1:D -" },
		{ "a used link, the next not answered", PIPE, 0, 0, TWO,
		    { S(OK OK GO), S(OK), LOST }, "1:S 2:N -" },
		{ "a used link, the next answered", PIPE, 0, 0, TWO,
		    { S(OK OK GO), S(OK), S(OK), LOST }, "1:S 2:D -" },
		{ "two chunks, the first may have been answered", ALL, 0, 0,
		    THREE_CHUNKS, { S(OK OK OK), LOST }, "1:S 2:U? 3:U< -" },
		{ "two chunks, the first is not", ALL, 0, 0, THREE_CHUNKS,
		    { S(OK OK OK), { TIMER, "", 300 } },
		    "1:S 2:U 3:U< timeout" },
		{ "one and a part", ALL, 0, 0, THREE_CHUNKS,
		    { { BLOCK, "", 135 }, S(OK OK OK), LOST },
		    "1:S 2:U 3:N -" },
		{ "sending fails", PIPE, 0, 0, ONE,
		    { S(OK OK), { BREAK, "", 0 }, S(GO) }, "1:D lost" },
		{ "sending fails, the reason can be read", PIPE, 0, 0, ONE,
		    { S(OK OK), { BREAK, BYE, 0 }, S(GO) }, "1:D shutdown" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

static void
what_nobody_asked_for_ends_the_link(void **state)
{
	static const struct dialogue d[] = {
		{ "I50, I53: after a message", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S(OK "550 oops\r\n") }, "1:S -" },
		{ "nothing taken", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S("451 no\r\n250 hm\r\n") },
		    "1:D protocol" },
		{ "no SMTP", PIPE, 0, 0, ONE, { S("HTTP/1.1 400 no\r\n") },
		    "1:N protocol" },
		{ "codes differ", PIPE, 0, 0, ONE, { S("250-a\r\n251 b\r\n") },
		    "1:N protocol" },
		{ "I51: before the last octet", PIPE, 0, 0, ONE,
		    { S(OK OK), { BLOCK, "", 5 }, S(GO), S(OK),
			C(MAIL("") RCPT(1) "DATA\r\n"
					   "a\r\n.\r") },
		    "1:D protocol" },
		{ "I51: just after it", PIPE, 0, 0, ONE,
		    { S(OK OK), { BLOCK, "", 6 }, S(GO), S(OK) }, "1:S" },
		{ "I51: a chunk", ALL, 0, 0, ONE,
		    { { BLOCK, "", 56 }, S(OK OK), S(OK) }, "1:D protocol" },
		{ "before the command is written", PIPE, 0, 0, ONE,
		    { { BLOCK, "", 25 }, S(OK OK) }, "1:D protocol" },
		{ "refused early: nothing more is written", PIPE, 0, 0, ONE,
		    { S(OK OK), { BLOCK, "", 2 }, S(GO), S("552 5.3.4 no\r\n"),
			{ BLOCK, "", 99 },
			C(MAIL("") RCPT(1) "DATA\r\n"
					   "a\r") },
		    "1:F -" },
		{ "a chunk, nothing more is written", ALL, 0, 0, ONE,
		    { { BLOCK, "", 56 }, S(OK OK), S("552 5.3.4 no\r\n"),
			{ BLOCK, "", 99 },
			C(MAIL("") RCPT(1) "BDAT 3 LAST\r\n"
					   "a\r") },
		    "1:F -" },
		{ "but not before it is asked for", ALL, 0, 0, ONE,
		    { { BLOCK, "", 53 }, S(OK OK), S("552 5.3.4 no\r\n") },
		    "1:D protocol" },
		{ "I55: BDAT unknown, refused early", ALL, 0, 0, ONE,
		    { { BLOCK, "", 56 }, S(OK OK), S("502 what\r\n") },
		    "1:N! -" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

static void
damaged_content_is_never_completed(void **state)
{
	static const struct dialogue d[] = {
		{ "before it is begun", PIPE, 0, 0,
		    { { "a\r\n", 2, false, false, EBADMSG, 0 } }, { C("") },
		    "1:DD" },
		{ "before, and others in flight", ALL, 0, 0,
		    { { .content = "a\r\n" },
			{ "b\r\n", 0, false, false, EIO, 0 },
			{ .content = "c\r\n" } },
		    { BDAT1, S(OK OK OK),
			C("RSET\r\n" MAIL("") RCPT(1) BDAT("c")),
			S(OK OK OK OK) },
		    "1:S 2:D 3:S" },
		{ "meanwhile, DATA", PIPE, 0, 0,
		    { { "a\r\n", 2, false, false, EBADMSG, 1 } },
		    { C(MAIL("") RCPT(1) RCPT(2) "DATA\r\n"),
			S(OK OK "550 no\r\n" GO), C("") },
		    "1:DF -" },
		{ "meanwhile, BDAT, the one before it in flight", ALL, 0, 0,
		    { { .content = "a\r\n" }, { .content = "b\r\n" },
			{ "c\r\n", 0, false, false, EIO, 1 } },
		    { BDAT1, S(OK OK OK) }, "1:S 2:N 3:D -" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

#define AFTER(seconds)             \
	{                          \
		TIMER, "", seconds \
	}

static void
waits_are_limited(void **state)
{
	static const struct dialogue d[] = {
		{ "for MAIL", PIPE, 0, 0, ONE, { AFTER(300) }, "1:D timeout" },
		{ "I41", PIPE, 0, 0, TWO, { S(OK), AFTER(300) },
		    "1:D timeout" },
		{ "a line of many is no reply", PIPE, 0, 0, ONE,
		    { S(OK "250-a\r\n"), AFTER(300) }, "1:D timeout" },
		{ "I47: for room to write", PIPE, 0, 0, ONE,
		    { S(OK OK), { BLOCK, "", 2 }, S(GO), AFTER(300) },
		    "1:D timeout" },
		{ "after the dot", PIPE, 1, 0, ONE, { S(OK OK GO), AFTER(600) },
		    "1:U timeout" },
		{ "after a chunk", ALL, 0, 0, ONE, { S(OK OK), AFTER(600) },
		    "1:U timeout" },
		{ "on a used link", PIPE, 1, 0, TWO,
		    { S(OK OK GO), S(OK), AFTER(300) }, "1:S 2:D timeout" },
		{ "idle, QUIT", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S(OK), { BLOCK, "", 6 }, AFTER(30),
			S("221 bye\r\n") },
		    "1:S -" },
		{ "I52: QUIT not answered", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S(OK), AFTER(30), AFTER(5) }, "1:S -" },
		{ "I52: closed instead", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S(OK), AFTER(30), LOST }, "1:S -" },
		{ "I52: 421 instead", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S("451 no\r\n"), AFTER(30), S(BYE) },
		    "1:D -" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

static void
a_link_ends_when_it_is_told_to(void **state)
{
	static const struct dialogue d[] = {
		{ "enough messages", PIPE, 0, 1, TWO,
		    { DATA1, S(OK OK GO), C("a\r\n.\r\n"), S(OK), C("QUIT\r\n"),
			S("221 bye\r\n") },
		    "1:S -" },
		{ "shut while sending", PIPE, 0, 0, TWO,
		    { DATA1, { SHUT, "", 0 }, C(""), S(OK OK GO),
			C("a\r\n.\r\n"), S(OK), C("QUIT\r\n"),
			S("221 bye\r\n") },
		    "1:S -" },
		{ "shut twice when idle", PIPE, 0, 0, { { .content = NULL } },
		    { C(""), { SHUT, "", 0 }, C("QUIT\r\n"), S("221 bye\r\n") },
		    "-" },
	};

	(void)state;
	run_all(d, COUNT(d));
}

/* ---- what fits in no table ---- */

static void
shut_before_ready_closes_from_the_loop(void **state)
{
	static const struct dialogue d = { .name = "", .result = "-" };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&d, &manner);
	relay_shut(w.link);
	relay_wake(w.link);
	assert_non_null(w.link);
	timer->handler(timer->arg);
	assert_null(w.link);
	finish(&d);
}

static void
a_connection_that_fails_tells_why(void **state)
{
	static const struct dialogue d = { .name = "", .result = "connect" };
	static const struct fault fault = { FAULT_CONNECT, 0, "refused" };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&d, &manner);
	w.handlers->failed(w.arg, &fault);
	assert_string_equal(w.fault.text, "refused");
	finish(&d);
}

/* These can't be told when they come in pieces. */
static void
unasked_replies_are_read_when_whole(void **state)
{
	static const struct dialogue d[] = {
		{ "I42: two replies to one command", 0, 0, 0, ONE, { S(OK OK) },
		    "1:N protocol" },
		{ "421 when idle, nothing taken", PIPE, 0, 0, ONE,
		    { S(OK OK GO), S("451 no\r\n"), S(BYE) }, "1:D shutdown" },
	};
	struct manner manner = { 0, 0, false };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(d); i++)
		(void)run_in(&d[i], &manner);
}

/* I31, I32 */
static void
what_follows_the_login_ends_the_link(void **state)
{
	static const struct dialogue surplus = { .name = "I31",
		.message = ONE,
		.result = "protocol" };
	static const struct dialogue gone = { .name = "I32",
		.message = ONE,
		.result = "lost" };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&surplus, &manner);
	buf_add_text(&w.in, "250 x\r\n");
	w.handlers->ready(w.arg);
	assert_int_equal(w.out.len, 0);
	finish(&surplus);

	begin(&gone, &manner);
	w.hung_up = true;
	w.handlers->ready(w.arg);
	assert_int_equal(w.out.len, 0);
	finish(&gone);
}

static void
faults_and_replies_have_the_peers_words(void **state)
{
	static const struct dialogue d = { .name = "I43",
		.can = PIPE,
		.message = THREE,
		.result = "1:FNN shutdown" };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&d, &manner);
	w.handlers->ready(w.arg);
	feed(OK "550 5.1.1 no\x1b[0m\r\n421 4.7.0 \xff%n\r\n");
	assert_string_equal(w.delivery[0].recipient[0].reply,
	    "550 5.1.1 no\x1b[0m");
	assert_string_equal(w.delivery[0].recipient[0].status, "5.1.1");
	assert_string_equal(w.fault.text,
	    "the relayhost ended the session at RCPT: 421 4.7.0 \\xff%n");
	assert_int_equal(w.fault.code, 421);
	finish(&d);
}

static void
small_messages_leave_together(void **state)
{
	static const struct dialogue d = { .name = "",
		.can = ALL,
		.message = { { .content = "a\r\n" }, { .content = "b\r\n" },
		    { .content = "c\r\n" } },
		.result = "1:S 2:S 3:S" };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&d, &manner);
	w.handlers->ready(w.arg);
	assert_int_equal(w.sends, 1);
	feed(OK OK OK);
	assert_int_equal(w.sends, 2);
	feed(OK OK OK OK OK OK OK OK);
	finish(&d);
}

/* A text of so many octets, full of lines and dots. */
static char *
large_text(size_t size)
{
	char *text = mem_alloc(size + 1);
	size_t i;

	for (i = 0; i + 2 < size; i++)
		text[i] = "..x.\r\n..\r\n.ab\r\n"[i % 15];
	memcpy(text + size - 2, "\r\n", 2);
	return text;
}

/* The content as it came, without the doubled dots, equals text. */
static void
assert_stuffed(struct span got, const char *text)
{
	struct smtp_decoder decoder = { .state = 0 };
	struct buf out = { NULL, 0, 0 };
	bool end = false;

	assert_int_equal(smtp_decode_data(&decoder, got, &out, &end), got.len);
	assert_true(end);
	assert_true(span_equal(buf_span(&out), span_of(text)));
	buf_free(&out);
}

static void
large_content_arrives_whole(void **state)
{
	char *text = large_text(700000);
	struct dialogue d = { .name = "",
		.result = "1:S",
		.message = { { .content = text } } };
	struct manner manner = { 0, 0, false };
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		manner.stumbles = (i & 1) != 0;
		d.can = (i & 2) != 0 ? ALL : PIPE;
		begin(&d, &manner);
		w.handlers->ready(w.arg);
		settle();
		if (i & 2) { /* too large to be sent in vain */
			assert_null(strstr(buf_text(&w.out), "BDAT"));
			feed(OK OK);
			assert_non_null(strstr(buf_text(&w.out), "LAST"));
			assert_true(span_equal(span_of(text),
			    span_from(buf_span(&w.out),
				w.out.len - strlen(text))));
			feed(OK);
		} else {
			buf_clear(&w.out);
			feed(OK OK GO);
			assert_stuffed(buf_span(&w.out), text);
			feed(OK);
		}
		finish(&d);
	}
	free(text);
}

/* At most 1 MiB unconfirmed unless it is a single message. */
static void
large_messages_go_alone(void **state)
{
	char *text = large_text(600000), *larger = large_text(1200000);
	struct dialogue d = { .name = "",
		.can = ALL,
		.message = { { .content = "a\r\n" }, { .content = text },
		    { .content = text }, { .content = larger } },
		.result = "1:S 2:S 3:S 4:S" };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&d, &manner);
	w.handlers->ready(w.arg);
	feed(OK OK OK);
	buf_clear(&w.out);
	feed(OK OK OK);
	assert_true(w.out.len < 650000); /* message 3 is held back */
	assert_null(strstr(buf_text(&w.out), "RSET"));
	feed(OK);
	feed(OK OK OK);
	feed(OK);
	feed(OK OK OK);
	feed(OK);
	finish(&d);
	free(text);
	free(larger);
}

/* A peer that takes everything at once must not have the loop to itself. */
static void
a_turn_is_bounded(void **state)
{
	char *text = large_text(3000000);
	struct dialogue d = { .name = "",
		.can = PIPE,
		.result = "1:S",
		.message = { { .content = text } } };
	struct manner manner = { 0, 0, false };

	(void)state;
	begin(&d, &manner);
	w.handlers->ready(w.arg);
	buf_add_text(&w.in, OK OK GO);
	w.handlers->event(w.arg, LOOP_READ);
	assert_true(w.out.len < (2 << 20));
	assert_int_equal(w.wanted, LOOP_READ | LOOP_WRITE);
	settle();
	assert_int_equal(w.wanted, LOOP_READ);
	feed(OK);
	finish(&d);
	free(text);
}

/* More than fit in the block; written and answered by turns, so that the
 * queue of replies is used from end to end. */
static void
each_of_many_recipients_is_judged(void **state)
{
	struct dialogue d = { .name = "",
		.can = PIPE,
		.message = { { .content = "a\r\n", .recipients = 20000 } } };
	struct manner manner = { 0, 0, true };
	struct buf result = { NULL, 0, 0 };
	size_t i;

	(void)state;
	buf_add_text(&result, "1:");
	begin(&d, &manner);
	w.budget = 1000;
	w.handlers->ready(w.arg);
	settle();
	feed(OK);
	for (i = 0; i < 20000; i++) {
		w.budget += 24;
		feed(i % 3 == 0 ? "550 no\r\n" : OK);
		buf_add_char(&result, i % 3 == 0 ? 'F' : 'S');
	}
	w.budget = SIZE_MAX;
	feed(GO);
	feed(OK);
	d.result = buf_text(&result);
	finish(&d);
	buf_free(&result);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lock_step_waits_for_each_reply),
		cmocka_unit_test(pipelining_sends_an_envelope_in_one_go),
		cmocka_unit_test(chunking_keeps_messages_in_flight),
		cmocka_unit_test(a_link_may_begin_with_the_window_of_another),
		cmocka_unit_test(parameters_are_those_that_are_offered),
		cmocka_unit_test(shutdown_costs_no_message_its_try),
		cmocka_unit_test(account_trouble_is_not_the_messages_fault),
		cmocka_unit_test(
		    a_lost_connection_is_paid_by_the_message_being_sent),
		cmocka_unit_test(what_nobody_asked_for_ends_the_link),
		cmocka_unit_test(damaged_content_is_never_completed),
		cmocka_unit_test(I56_content_is_converted_for_the_relayhost),
		cmocka_unit_test(a_large_message_is_prepared_in_slices),
		cmocka_unit_test(waits_are_limited),
		cmocka_unit_test(a_link_ends_when_it_is_told_to),
		cmocka_unit_test(shut_before_ready_closes_from_the_loop),
		cmocka_unit_test(a_connection_that_fails_tells_why),
		cmocka_unit_test(unasked_replies_are_read_when_whole),
		cmocka_unit_test(what_follows_the_login_ends_the_link),
		cmocka_unit_test(faults_and_replies_have_the_peers_words),
		cmocka_unit_test(small_messages_leave_together),
		cmocka_unit_test(large_content_arrives_whole),
		cmocka_unit_test(large_messages_go_alone),
		cmocka_unit_test(a_turn_is_bounded),
		cmocka_unit_test(each_of_many_recipients_is_judged),
	};

	log_open(LOG_TO_STDERR, LOG_LEVEL_ERROR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
