/*
 * Mail transactions (RFC 5321, 3.3; RFC 3030, 2): the commands and content
 * that they write, step by step, the replies that they are owed, and what
 * these mean for each recipient.  When to write, and what becomes of the
 * connection, is relay.c's to say.
 *
 * A recipient is undecided as long as its reply is NULL.  Once every RCPT is
 * answered, the undecided ones are those that were accepted.
 */
#include "transaction.h"

#include "convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Dots at worst add a third, so this fits in TRANSACTION_ROOM. */
enum { READ_SIZE = 32 << 10 };

const char *
command_name(enum command c)
{
	static const char *const name[] = {
		[COMMAND_RSET] = "RSET",
		[COMMAND_MAIL] = "MAIL",
		[COMMAND_RCPT] = "RCPT",
		[COMMAND_DATA] = "DATA",
		[COMMAND_END] = "message",
		[COMMAND_BDAT] = "message",
		[COMMAND_QUIT] = "QUIT",
	};

	return name[c];
}

bool
command_is_end(enum command c)
{
	return c == COMMAND_END || c == COMMAND_BDAT;
}

/* ---- verdicts ---- */

static void
decide(struct delivery_recipient *r, enum verdict verdict, const char *status,
    const char *text)
{
	r->verdict = verdict;
	(void)snprintf(r->status, sizeof(r->status), "%s", status);
	r->reply = mem_text(text);
}

void
delivery_settle(struct delivery *d, enum verdict verdict, const char *status,
    const char *text)
{
	size_t i;

	for (i = 0; i < d->recipient_count; i++) {
		if (d->recipient[i].reply == NULL)
			decide(&d->recipient[i], verdict, status, text);
	}
}

/* ---- before it is begun ---- */

struct transaction *
transaction_new(struct delivery *d, unsigned can)
{
	struct transaction *t = mem_alloc(sizeof(*t));
	unsigned wanted = convert_wanted(d->entry, can);

	t->delivery = d;
	d->dsn = (can & SMTP_CAN_DSN) != 0;
	t->size = d->entry->size;
	if (wanted != 0)
		t->conversion = conversion_new(d->entry, wanted);
	t->step = STEP_MAIL;
	t->end = UINT64_MAX;
	return t;
}

void
transaction_free(struct transaction *t)
{
	conversion_free(t->conversion);
	free(t);
}

static bool
envelope_is_ascii(const struct delivery *d)
{
	const struct envelope *e = &d->entry->envelope;
	size_t i;

	if (!span_is_ascii(span_of(e->sender)))
		return false;
	for (i = 0; i < d->recipient_count; i++) {
		if (!span_is_ascii(
			span_of(e->recipient[d->recipient[i].index].address)))
			return false;
	}
	return true;
}

void
transaction_unreadable(struct transaction *t)
{
	delivery_settle(t->delivery, VERDICT_DEFERRED, "4.3.0",
	    errno == EBADMSG ? "message file is damaged; it was not sent"
			     : "read error on message file; it was not sent");
}

/* The relayhost does not offer what the message needs; another one may. */
static void
settle_unsuited(struct transaction *t, const char *status, const char *text)
{
	struct delivery *d = t->delivery;
	size_t i;

	delivery_settle(d, VERDICT_FAILED, status, text);
	for (i = 0; i < d->recipient_count; i++)
		d->recipient[i].cause = CAUSE_UNSUITED;
}

static void
settle_utf8(struct transaction *t)
{
	settle_unsuited(t, "5.6.7",
	    "5.6.7 the relayhost does not take addresses beyond ASCII "
	    "(SMTPUTF8)");
}

static void
settle_size(struct transaction *t, uint64_t size_limit)
{
	struct buf text = { NULL, 0, 0 };

	buf_printf(&text,
	    "5.3.4 message of %" PRIu64 " octets is over the "
	    "relayhost's limit of %" PRIu64,
	    t->size, size_limit);
	settle_unsuited(t, "5.3.4", buf_text(&text));
	buf_free(&text);
}

static void
take_converted(struct transaction *t)
{
	char id[QUEUE_ID_MAX];

	queue_id_text(t->delivery->entry->id, id);
	t->size = conversion_size(t->conversion);
	log_info("smtp",
	    "%s: converted to what the relayhost takes, size=%" PRIu64, id,
	    t->size);
}

/*
 * A message found to be damaged while it is sent costs the connection, and
 * all that is in flight there, so it is read before.  A large one is sent when
 * nothing else is in flight (pipeline.c).
 */
static enum preparation
verify(struct transaction *t)
{
	struct entry *e = t->delivery->entry;
	char piece[READ_SIZE];
	ssize_t n;

	if (e->size > TRANSACTION_LARGE)
		return PREPARATION_READY;
	entry_rewind(e);
	do {
		n = entry_read(e, piece, sizeof(piece));
	} while (n > 0);
	if (n == 0)
		return PREPARATION_READY;
	transaction_unreadable(t);
	return PREPARATION_OVER;
}

/* As preparation below; READY: the size is known. */
static enum preparation
prepare_content(struct transaction *t)
{
	if (t->conversion == NULL)
		return verify(t);
	switch (conversion_prepare(t->conversion)) {
	case CONVERSION_MORE:
		return PREPARATION_MORE;
	case CONVERSION_READY:
		take_converted(t);
		return PREPARATION_READY;
	case CONVERSION_NEEDLESS:
		conversion_free(t->conversion);
		t->conversion = NULL;
		return PREPARATION_READY;
	case CONVERSION_IMPOSSIBLE:
		settle_utf8(t);
		return PREPARATION_OVER;
	case CONVERSION_ERROR:
		transaction_unreadable(t);
		return PREPARATION_OVER;
	}
	return PREPARATION_OVER;
}

enum preparation
transaction_prepare(struct transaction *t, unsigned can, uint64_t size_limit)
{
	const struct delivery *d = t->delivery;
	enum preparation result;

	if (d->entry->envelope.utf8 && (can & SMTP_CAN_SMTPUTF8) == 0 &&
	    !envelope_is_ascii(d)) {
		settle_utf8(t);
		return PREPARATION_OVER;
	}
	result = prepare_content(t);
	if (result != PREPARATION_READY || size_limit == 0 ||
	    t->size <= size_limit)
		return result;
	settle_size(t, size_limit);
	return PREPARATION_OVER;
}

/* ---- what is written ---- */

static void
add_mail(const struct transaction *t, unsigned can, struct buf *out)
{
	const struct entry *e = t->delivery->entry;
	const char *sender = e->envelope.sender;

	if (sender[0] == '\0' && t->null_sender != NULL)
		sender = t->null_sender;
	buf_printf(out, "MAIL FROM:<%s>", sender);
	if ((can & SMTP_CAN_SIZE) != 0)
		buf_printf(out, " SIZE=%" PRIu64, t->size);
	if ((e->envelope.eight_bit || (e->has & TEXT_8BIT) != 0) &&
	    (can & SMTP_CAN_8BITMIME) != 0)
		buf_add_text(out, " BODY=8BITMIME");
	if (e->envelope.utf8 && (can & SMTP_CAN_SMTPUTF8) != 0)
		buf_add_text(out, " SMTPUTF8");
	if ((can & SMTP_CAN_DSN) != 0)
		dsn_add_mail(out, e->envelope.ret, e->envelope.envid);
	buf_add_text(out, "\r\n");
}

static void
add_rcpt(const struct recipient *r, unsigned can, struct buf *out)
{
	buf_printf(out, "RCPT TO:<%s>", r->address);
	if ((can & SMTP_CAN_DSN) != 0)
		dsn_add_rcpt(out, r->notify, r->orcpt);
	buf_add_text(out, "\r\n");
}

static void
begin_content(struct transaction *t, uint64_t octets)
{
	t->step = STEP_CONTENT;
	t->line_start = true;
	t->left = octets;
	if (t->conversion != NULL)
		conversion_rewind(t->conversion);
	else
		entry_rewind(t->delivery->entry);
}

static enum command
add_data(struct transaction *t, unsigned can, struct buf *out)
{
	t->chunked = (can & SMTP_CAN_CHUNKING) != 0;
	if (!t->chunked) {
		buf_add_text(out, "DATA\r\n");
		t->step = STEP_WAIT;
		return COMMAND_DATA;
	}
	buf_printf(out, "BDAT %" PRIu64 " LAST\r\n", t->size);
	begin_content(t, t->size);
	return COMMAND_BDAT;
}

enum command
transaction_command(struct transaction *t, unsigned can, struct buf *out)
{
	const struct delivery *d = t->delivery;
	const struct envelope *e = &d->entry->envelope;

	if (t->step == STEP_RSET) {
		buf_add_text(out, "RSET\r\n");
		t->step = STEP_MAIL;
		return COMMAND_RSET;
	}
	if (t->step == STEP_MAIL) {
		add_mail(t, can, out);
		t->step = STEP_RCPT;
		return COMMAND_MAIL;
	}
	if (t->step == STEP_RCPT) {
		add_rcpt(&e->recipient[d->recipient[t->asked].index], can, out);
		if (++t->asked == d->recipient_count)
			t->step = STEP_DATA;
		return COMMAND_RCPT;
	}
	return add_data(t, can, out);
}

static ssize_t
read_content(struct transaction *t, char *out, size_t size)
{
	if (t->conversion != NULL)
		return conversion_read(t->conversion, out, size);
	return entry_read(t->delivery->entry, out, size);
}

int
transaction_content(struct transaction *t, struct buf *out)
{
	char piece[READ_SIZE];
	ssize_t n = 0;

	if (t->left > 0) {
		n = read_content(t, piece, sizeof(piece));
		if (n == -1)
			return -1;
		if (n == 0 || (uint64_t)n > t->left) {
			errno = EBADMSG; /* not the size that was announced */
			return -1;
		}
	}
	t->left -= (uint64_t)n;
	if (t->chunked)
		buf_append(out, piece, (size_t)n);
	else
		smtp_encode_dots(&t->line_start,
		    (struct span){ piece, (size_t)n }, out);
	if (t->left > 0)
		return 0;
	if (!t->chunked)
		buf_add_text(out, ".\r\n");
	t->step = STEP_WRITTEN;
	return 0;
}

/* ---- what is answered ---- */

/* Enough recipients for one transaction (RFC 5321, 4.5.3.1.10); alone, the
 * code means what it says. */
static bool
is_too_many(const struct transaction *t, int code, const char *status)
{
	return t->accepted > 0 && (code == 452 || code == 552) &&
	    (strcmp(status + 1, ".5.3") == 0 ||
		strcmp(status + 1, ".0.0") == 0);
}

/* A reply, and what it is about. */
struct answer {
	const struct smtp_reply *reply;
	char status[12];
	enum reply_cause cause;
};

static struct answer
read_answer(const struct smtp_reply *reply)
{
	struct answer a = { .reply = reply };

	smtp_reply_status(reply->text, reply->code, a.status);
	a.cause = reply_cause(reply->code, a.status, reply->text);
	return a;
}

/* No account's trouble ever fails a message, nor costs it a retry; but who
 * may not send as this sender waits, so that others go on. */
static enum verdict
verdict_of(const struct answer *a)
{
	switch (a->cause) {
	case CAUSE_MESSAGE:
	case CAUSE_UNSUITED:
		return a->reply->code >= 500 ? VERDICT_FAILED
					     : VERDICT_DEFERRED;
	case CAUSE_SENDER:
		return VERDICT_DEFERRED;
	case CAUSE_RATE:
	case CAUSE_CONNECTIONS:
	case CAUSE_QUOTA:
	case CAUSE_ACCOUNT:
		break;
	}
	return VERDICT_NONE;
}

static void
decide_by(struct delivery_recipient *r, const struct answer *a)
{
	decide(r, verdict_of(a), a->status, a->reply->text);
	r->cause = a->cause;
}

/* For all that are undecided. */
static void
settle_by(struct delivery *d, const struct answer *a)
{
	size_t i;

	for (i = 0; i < d->recipient_count; i++) {
		if (d->recipient[i].reply == NULL)
			decide_by(&d->recipient[i], a);
	}
}

void
delivery_settle_reply(struct delivery *d, const struct smtp_reply *reply)
{
	struct answer a = read_answer(reply);

	settle_by(d, &a);
}

static void
take_mail_reply(struct transaction *t, const struct answer *a)
{
	if (a->reply->code < 300) {
		t->open = true;
		return;
	}
	settle_by(t->delivery, a);
	if (t->step <= STEP_DATA)
		t->step = STEP_WRITTEN; /* the rest need not be */
}

static void
take_rcpt_reply(struct transaction *t, const struct answer *a)
{
	struct delivery *d = t->delivery;
	struct delivery_recipient *r = &d->recipient[t->answered++];

	if (r->reply == NULL && a->reply->code < 300)
		t->accepted++;
	else if (r->reply == NULL && is_too_many(t, a->reply->code, a->status))
		decide(r, VERDICT_NONE, a->status, a->reply->text);
	else if (r->reply == NULL)
		decide_by(r, a);
	if (t->accepted == 0 && t->step == STEP_DATA &&
	    t->answered == d->recipient_count)
		t->step = STEP_WRITTEN;
}

static void
take_data_reply(struct transaction *t, const struct answer *a)
{
	if (a->reply->code == 354) {
		/* Nobody accepted: a lone dot (RFC 2920, 3.1). */
		begin_content(t, t->accepted == 0 ? 0 : t->size);
		return;
	}
	settle_by(t->delivery, a);
	t->step = STEP_WRITTEN;
}

/* To the dot or BDAT. */
static enum reply_meaning
take_end_reply(struct transaction *t, enum command command,
    const struct answer *a)
{
	int code = a->reply->code;
	bool sent = code < 300 && t->accepted > 0;
	bool no_bdat = command == COMMAND_BDAT && t->accepted > 0 &&
	    (code == 500 || code == 502);

	t->delivery->no_bdat |= no_bdat;
	if (command == COMMAND_END || code < 300)
		t->open = false;
	if (sent)
		delivery_settle(t->delivery, VERDICT_SENT, a->status,
		    a->reply->text);
	else if (no_bdat)
		delivery_settle(t->delivery, VERDICT_NONE, a->status,
		    a->reply->text);
	else
		settle_by(t->delivery, a);
	if (sent)
		return REPLY_SENT;
	return no_bdat ? REPLY_NO_BDAT : REPLY_FINE;
}

/*
 * Is it a reply that this command can't have?  Content can be refused before
 * all of it has come (relay.c closes then); nothing else is answered early, and
 * nothing at all that was not even asked for.
 */
static bool
is_nonsense(enum command command, enum written written, int code)
{
	bool refusal = code >= 400;

	if (written == WRITTEN_PART || (written == WRITTEN_COMMAND && !refusal))
		return true;
	if (command == COMMAND_RSET)
		return code >= 300;
	if (command == COMMAND_DATA)
		return code != 354 && !refusal;
	return code >= 300 && !refusal;
}

/* What this transaction was told before may not have been about it either,
 * so no recipient has failed for good. */
static void
take_nonsense(struct transaction *t, enum command command,
    const struct smtp_reply *reply)
{
	struct buf text = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < t->delivery->recipient_count; i++) {
		free(t->delivery->recipient[i].reply);
		t->delivery->recipient[i].reply = NULL;
	}
	buf_printf(&text, "out of step: %s was answered by: %s",
	    command_name(command), reply->text);
	delivery_settle(t->delivery, VERDICT_DEFERRED, "4.5.0",
	    buf_text(&text));
	buf_free(&text);
}

enum reply_meaning
transaction_reply(struct transaction *t, enum command command,
    enum written written, const struct smtp_reply *reply)
{
	static const enum reply_meaning meaning_of[] = {
		[CAUSE_MESSAGE] = REPLY_FINE,
		[CAUSE_SENDER] = REPLY_FINE,
		[CAUSE_UNSUITED] = REPLY_FINE,
		[CAUSE_RATE] = REPLY_FINE, /* the scheduler slows down */
		[CAUSE_CONNECTIONS] = REPLY_CROWDED,
		[CAUSE_QUOTA] = REPLY_QUOTA,
		[CAUSE_ACCOUNT] = REPLY_ACCOUNT,
	};
	enum reply_meaning meaning = REPLY_FINE;
	struct answer a;

	if (is_nonsense(command, written, reply->code)) {
		if (command != COMMAND_RSET)
			take_nonsense(t, command, reply);
		return REPLY_NONSENSE;
	}
	a = read_answer(reply);
	switch (command) {
	case COMMAND_MAIL:
		take_mail_reply(t, &a);
		break;
	case COMMAND_RCPT:
		take_rcpt_reply(t, &a);
		break;
	case COMMAND_DATA:
		take_data_reply(t, &a);
		break;
	case COMMAND_END:
	case COMMAND_BDAT:
		meaning = take_end_reply(t, command, &a);
		break;
	case COMMAND_RSET:
	case COMMAND_QUIT:
		break;
	}
	return meaning == REPLY_FINE ? meaning_of[a.cause] : meaning;
}
