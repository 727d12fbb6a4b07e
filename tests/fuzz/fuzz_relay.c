/*
 * The dialogue with the relayhost (relay.c, wire.c, pipeline.c, transaction.c,
 * convert.c, smtp.c): the peer is in memory and says what it likes.
 *
 * What was written is read again beside what was answered.  A recipient was
 * sent to when and only when its MAIL, its RCPT and the end of the message
 * were taken, all of them, after they had been written; it has failed only if
 * one was refused for good.  How octets come and go makes no difference.
 *
 * input: an octet of what the relayhost offers, one that chooses messages, and
 * lines: what it says, or, behind '!', what happens (see happen()).
 *
 * wrap: conn_open conn_close conn_send conn_recv conn_want conn_can
 * wrap: conn_peer conn_tls entry_read entry_rewind loop_timer_set
 * wrap: loop_timer_clear loop_now
 */
#include "../behind_relay.h"
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES = 6, RECIPIENTS = 3, REPLIES = 512, SIZE_LIMIT = 3000 };

/* ---- a run ---- */

struct answer {
	int code;
	size_t written; /* octets, by when it came */
};

struct run {
	struct relay_link *link; /* NULL: closed */
	bool open;
	unsigned manners;
	struct buf in;
	bool hung_up;
	bool broken;   /* for sending */
	size_t budget; /* octets that can be written */
	bool stumbles; /* every other send is refused, the others are short */
	bool stumbled;
	const char *refused; /* by conn_send() */
	struct buf refused_copy;
	unsigned wanted;
	bool unreadable; /* messages are */
	struct buf out;  /* what was written */
	struct smtp_reply reply;
	struct answer answer[REPLIES];
	size_t answers;
	struct entry entry[MESSAGES];
	struct delivery delivery[MESSAGES];
	bool given[MESSAGES];
	size_t count, next;
	struct config_relay relay;
	struct buf result;
};

static struct run *r;
static const struct conn_handlers *handlers;
static void *handlers_arg;

/* ---- the connection ---- */

struct conn *
__wrap_conn_open(struct connector *c, const struct config *config,
    const struct config_relay *relay, const struct conn_handlers *h, void *arg)
{
	(void)c;
	(void)config;
	assert(relay == &r->relay);
	handlers = h;
	handlers_arg = arg;
	r->open = true;
	return NULL;
}

void
__wrap_conn_close(struct conn *c)
{
	(void)c;
	assert(r->open);
	r->open = false;
}

/* What is refused must come again from the same place. */
ssize_t
__wrap_conn_send(struct conn *c, const void *data, size_t len)
{
	(void)c;
	assert(r->open && len > 0);
	if (r->refused != NULL) {
		assert(data == r->refused && len >= r->refused_copy.len);
		assert(memcmp(data, r->refused_copy.data,
			   r->refused_copy.len) == 0);
		r->refused = NULL;
	}
	if (r->broken) {
		errno = EPIPE;
		return -1;
	}
	r->stumbled = r->stumbles && !r->stumbled;
	if (r->stumbled || r->budget == 0) {
		r->refused = data;
		buf_clear(&r->refused_copy);
		buf_append(&r->refused_copy, data, len);
		errno = EAGAIN;
		return -1;
	}
	if (r->stumbles && len > 5)
		len = len / 2 + 1;
	if (len > r->budget)
		len = r->budget;
	r->budget -= len;
	buf_append(&r->out, data, len);
	return (ssize_t)len;
}

ssize_t
__wrap_conn_recv(struct conn *c, void *data, size_t size)
{
	struct span piece = span_first(buf_span(&r->in), size);

	(void)c;
	assert(r->open);
	if (piece.len == 0 && r->hung_up)
		return 0;
	if (piece.len == 0) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(data, piece.data, piece.len);
	buf_drop(&r->in, piece.len);
	return (ssize_t)piece.len;
}

void
__wrap_conn_want(struct conn *c, unsigned events)
{
	(void)c;
	r->wanted = events;
}

unsigned
__wrap_conn_can(const struct conn *c, uint64_t *size_limit)
{
	(void)c;
	*size_limit = (r->manners & SMTP_CAN_SIZE) != 0 ? SIZE_LIMIT : 0;
	return r->manners & 127;
}

/* ---- messages ---- */

#define HEAD   "From: a@b.example\r\n"
#define TYPE   "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
#define TEN(x) x x x x x x x x x x

static const struct message {
	const char *content;
	bool utf8;
} messages[] = {
	{ HEAD "\r\nbody\r\n", false },
	{ HEAD "\r\n.\r\n..\r\n.x\r\nMAIL FROM:<x@y>\r\n", false },
	{ HEAD TYPE "\r\n\xc3\xa4 = \xc3\xb6\r\n", false },
	{ HEAD TYPE "\r\n" TEN(TEN(TEN("x"))) "\r\n.\r\n", false },
	{ "Subject: \xc3\xa4\r\n" HEAD "\r\n", true },
	{ "From: \xc3\xa4@b.example\r\n\r\n", true },
	{ TEN(TEN("X: " TEN("x") TEN("x") TEN("x") "\r\n")) "\r\n", false },
	{ "", false },
};

enum { KINDS = sizeof(messages) / sizeof(messages[0]) };

static struct span
content_of(const struct entry *e)
{
	return span_of(messages[e->attempts].content);
}

ssize_t
__wrap_entry_read(struct entry *e, char *out, size_t size)
{
	struct span left = span_from(content_of(e), e->read_at);
	ssize_t n;

	if (r->unreadable) {
		errno = EIO;
		return -1;
	}
	n = take_from(&left, out, size);
	e->read_at += (size_t)n;
	return n;
}

static void
make_delivery(size_t n, unsigned kind)
{
	struct entry *e = &r->entry[n];
	struct delivery *d = &r->delivery[n];
	struct text_facts facts = { 0 };
	char address[32];
	size_t i;

	e->attempts = kind % KINDS;
	e->size = content_of(e).len;
	text_note(&facts, content_of(e));
	e->has = facts.has;
	e->envelope.utf8 = messages[e->attempts].utf8;
	(void)snprintf(address, sizeof(address), "s%zu@x.org", n);
	e->envelope.sender = mem_text(address);
	d->entry = e;
	d->recipient_count = 1 + (kind + n) % RECIPIENTS;
	d->recipient = mem_alloc(d->recipient_count * sizeof(*d->recipient));
	for (i = 0; i < d->recipient_count; i++) {
		(void)snprintf(address, sizeof(address), "r%zu@x.org", i);
		envelope_add(&e->envelope, address, address);
		d->recipient[i].index = i;
	}
}

static void
free_delivery(size_t n)
{
	struct delivery *d = &r->delivery[n];
	size_t i;

	for (i = 0; i < d->recipient_count; i++)
		free(d->recipient[i].reply);
	free(d->recipient);
	envelope_clear(&r->entry[n].envelope);
}

/* ---- the link's handlers ---- */

static struct delivery *
next(void *arg, struct relay_link *link)
{
	(void)arg;
	(void)link;
	return r->next < r->count ? &r->delivery[r->next++] : NULL;
}

static void
done(void *arg, struct relay_link *link, struct delivery *d)
{
	size_t i, n = (size_t)(d - r->delivery);

	(void)arg;
	(void)link;
	assert(n < r->next && !r->given[n]);
	r->given[n] = true;
	buf_printf(&r->result, "%zu:", n);
	for (i = 0; i < d->recipient_count; i++) {
		assert(d->recipient[i].reply != NULL);
		buf_printf(&r->result, " %c (%s)",
		    "NSDFU"[d->recipient[i].verdict], d -> recipient[i].reply);
	}
}

static void
ready(void *arg, struct relay_link *link)
{
	(void)arg;
	assert(relay_ready(link));
}

static void
closed(void *arg, struct relay_link *link, const struct fault *fault)
{
	(void)arg;
	(void)link;
	if (fault != NULL) {
		assert(is_printable(span_of(fault->text)));
		buf_printf(&r->result, " %s: %s", fault_name(fault->kind),
		    fault->text);
	}
	r->link = NULL;
}

static const struct relay_handlers link_handlers = { next, done, ready,
	closed };

/* ---- what happens ---- */

/* Let the link write for as long as it wants to and can. */
static void
settle(void)
{
	unsigned left;

	for (left = 10000; left > 0 && r->link != NULL &&
	     (r->wanted & LOOP_WRITE) != 0 && r->budget > 0;
	     left--)
		handlers->event(handlers_arg, LOOP_WRITE);
	assert(left > 0);
}

/* Note a line as a part of an answer. */
static void
note_line(struct span line)
{
	switch (smtp_reply_line(&r->reply, line)) {
	case SMTP_REPLY_MORE:
		return;
	case SMTP_REPLY_DONE:
		if (r->answers < REPLIES)
			r->answer[r->answers++] =
			    (struct answer){ r->reply.code, r->out.len };
		break;
	case SMTP_REPLY_BAD:
		break;
	}
	r->reply = (struct smtp_reply){ .code = 0 };
}

static void
say(struct span line)
{
	size_t piece = r->stumbles ? 1 + line.len / 3 : line.len + 2;
	struct buf text = { 0 };
	struct span rest;

	buf_add(&text, line);
	buf_add_text(&text, "\r\n");
	for (rest = buf_span(&text); rest.len > 0 && r->link != NULL;
	     rest = span_from(rest, piece)) {
		if (rest.len <= piece)
			note_line(line);
		buf_add(&r->in, span_first(rest, piece));
		handlers->event(handlers_arg, LOOP_READ);
	}
	settle();
	buf_free(&text);
}

static void
run_timer(void)
{
	now_ms = timer->at_ms;
	timer->handler(timer->arg);
}

static void
happen(struct span what)
{
	unsigned char c = (unsigned char)take_octet(&what);

	switch (c) {
	case 'h': /* it hangs up */
		r->hung_up = true;
		handlers->event(handlers_arg, LOOP_READ);
		break;
	case 'b': /* it takes nothing more */
		r->broken = true;
		break;
	case 't': /* time is up */
		run_timer();
		break;
	case 's': /* the link is told to end */
		relay_shut(r->link);
		run_timer();
		break;
	case 'e': /* messages can't be read any more */
		r->unreadable = true;
		break;
	default: /* so many octets can be written */
		r->budget = c >= '0' && c <= '9' ? (c - '0') * 7u : SIZE_MAX;
		break;
	}
	if (r->link != NULL)
		settle();
}

static void
play(struct run *run, struct span in)
{
	struct config config = { .references = 1 };
	unsigned kinds;
	struct span line;
	size_t n;

	r = run;
	now_ms = 1000;
	r->manners = take_octet(&in);
	kinds = take_octet(&in);
	r->budget = SIZE_MAX;
	r->relay = (struct config_relay){ .pipeline = 1 + kinds % 5,
		.messages_per_connection = 2 + kinds % 7,
		.timeout = 300,
		.idle = 30 };
	r->count = MESSAGES;
	for (n = 0; n < MESSAGES; n++)
		make_delivery(n, kinds / 7 + (unsigned)n);
	r->link =
	    relay_open(NULL, NULL, &config, &r->relay, &link_handlers, NULL);
	handlers->ready(handlers_arg);
	settle();
	while (in.len > 0 && r->link != NULL) {
		line = take_line(&in);
		if (line.len > 0 && line.data[0] == '!')
			happen(span_from(line, 1));
		else
			say(line);
	}
	r->hung_up = true;
	if (r->link != NULL)
		handlers->event(handlers_arg, LOOP_READ);
	assert(r->link == NULL && !r->open && timer == NULL);
	assert(config.references == 1);
	for (n = 0; n < r->next; n++)
		assert(r->given[n]);
}

/* ---- the model ---- */

/* What became of a message, by what was written and answered. */
struct story {
	int mail;
	int rcpt[RECIPIENTS];
	int data;
	int end;
	bool written; /* to its end */
	bool in_time; /* the end was answered behind it */
};

struct reading {
	const struct run *run;
	struct span out;
	size_t answers; /* taken */
	struct story story[MESSAGES];
	struct story *now; /* NULL: none yet */
	size_t now_index;
};

/* The answer to the command just read; 0: none came once it was written. */
static struct answer
take_answer(struct reading *m)
{
	const struct run *run = m->run;
	struct answer none = { 0, 0 }, a;

	if (m->answers == run->answers)
		return none;
	a = run->answer[m->answers++];
	return a.written >= run->out.len - m->out.len ? a : none;
}

/* The content as it was to be sent; converted, it is only known in length. */
static void
check_content(const struct reading *m, struct span content)
{
	const struct entry *e = &m->run->entry[m->now_index];
	unsigned can = m->run->manners;
	bool converted = (e->has & TEXT_LONG_LINE) != 0 ||
	    ((e->has & TEXT_8BIT) != 0 &&
		((can & SMTP_CAN_8BITMIME) == 0 ||
		    (e->envelope.utf8 && (can & SMTP_CAN_SMTPUTF8) == 0)));
	struct text_facts facts = { 0 };

	assert(is_canonical(content));
	if (!converted) {
		assert(span_equal(content, content_of(e)));
		return;
	}
	text_note(&facts, content);
	assert((facts.has & TEXT_LONG_LINE) == 0);
	assert((facts.has & TEXT_8BIT) == 0 || (can & SMTP_CAN_8BITMIME) != 0 ||
	    (e->envelope.utf8 && (can & SMTP_CAN_SMTPUTF8) != 0));
}

/* All of it has been read, and this was answered. */
static void
end_content(struct reading *m, const struct answer *a)
{
	m->now->written = true;
	m->now->in_time = a->written >= m->run->out.len - m->out.len;
}

static bool
is_taken(int code)
{
	return code / 100 == 2;
}

static void
read_data(struct reading *m)
{
	struct answer a = take_answer(m);
	struct smtp_decoder d = { 0 };
	struct buf text = { 0 };
	bool end = false, nobody = true;
	size_t i, n;

	m->now->data = a.code;
	assert(a.code != 0 || m->out.len == 0);
	if (a.code != 354)
		return;
	a = take_answer(m);
	m->now->end = a.code;
	n = smtp_decode_data(&d, m->out, &text, &end);
	m->out = span_from(m->out, n);
	for (i = 0; i < RECIPIENTS; i++)
		nobody &= !is_taken(m->now->mail) || !is_taken(m->now->rcpt[i]);
	if (end && !nobody)
		check_content(m, buf_span(&text));
	assert(!d.bare && (!nobody || text.len == 0));
	if (end)
		end_content(m, &a);
	buf_free(&text);
}

static void
read_chunk(struct reading *m, struct span arg)
{
	struct answer a = take_answer(m);
	uint64_t octets;
	bool last;

	assert(smtp_bdat(arg, &octets, &last) && last);
	m->now->end = a.code;
	if (m->out.len < octets) {
		m->out.len = 0;
		return;
	}
	check_content(m, span_first(m->out, octets));
	m->out = span_from(m->out, octets);
	end_content(m, &a);
}

/* "MAIL FROM:<s2@x.org>": of which message. */
static size_t
index_in(struct span arg, const char *before)
{
	size_t at = strlen(before), index;

	assert(span_starts_nocase(arg, span_of(before)) && arg.len > at);
	index = (size_t)(arg.data[at] - '0');
	assert(index < MESSAGES);
	return index;
}

static void
read_command(struct reading *m, struct span line)
{
	struct span arg;
	enum smtp_verb verb = smtp_command(line, &arg);

	switch ((int)verb) {
	case SMTP_MAIL:
		m->now_index = index_in(arg, "FROM:<s");
		m->now = &m->story[m->now_index];
		assert(m->now->mail == 0);
		m->now->mail = take_answer(m).code;
		break;
	case SMTP_RCPT:
		m->now->rcpt[index_in(arg, "TO:<r")] = take_answer(m).code;
		break;
	case SMTP_DATA:
		read_data(m);
		break;
	case SMTP_BDAT:
		read_chunk(m, arg);
		break;
	default:
		assert(verb == SMTP_RSET || verb == SMTP_QUIT);
		(void)take_answer(m);
		break;
	}
}

static void
check_verdict(const struct story *s, size_t i,
    const struct delivery_recipient *d)
{
	bool sent = is_taken(s->mail) && is_taken(s->rcpt[i]) && s->written &&
	    is_taken(s->end) && s->in_time;

	switch (d->verdict) {
	case VERDICT_SENT:
		assert(sent);
		break;
	case VERDICT_FAILED:
		assert(s->mail >= 500 || s->rcpt[i] >= 500 || s->data >= 500 ||
		    s->end >= 500 || d->cause == CAUSE_UNSUITED);
		break;
	case VERDICT_UNKNOWN:
		assert(s->written && !is_taken(s->end));
		break;
	case VERDICT_NONE:
	case VERDICT_DEFERRED:
		break;
	}
	assert(!sent || d->verdict == VERDICT_SENT);
}

static void
check_run(const struct run *run)
{
	struct reading m = { .run = run, .out = buf_span(&run->out) };
	struct span line, rest;
	size_t n, i;

	while (span_cut(m.out, '\n', &line, &rest)) {
		assert(line.len > 0 && line.data[line.len - 1] == '\r');
		m.out = rest;
		read_command(&m, span_first(line, line.len - 1));
	}
	for (n = 0; n < run->next; n++)
		for (i = 0; i < run->delivery[n].recipient_count; i++)
			check_verdict(&m.story[n], i,
			    &run->delivery[n].recipient[i]);
}

static void
free_run(struct run *run)
{
	size_t n;

	r = run;
	for (n = 0; n < MESSAGES; n++)
		free_delivery(n);
	buf_free(&run->in);
	buf_free(&run->out);
	buf_free(&run->refused_copy);
	buf_free(&run->result);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole = { .stumbles = false }, pieces = { .stumbles = true };

	log_open(LOG_TO_STDERR, LOG_LEVEL_ERROR, false);
	play(&whole, fuzz_input(data, size));
	check_run(&whole);
	play(&pieces, fuzz_input(data, size));
	check_run(&pieces);
	free_run(&whole);
	free_run(&pieces);
	return 0;
}
