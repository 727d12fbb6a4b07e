/*
 * A message on its way in, from MAIL to the spool: its envelope, its header
 * as it will be sent, its content.  Here too: the aliases file, which is read
 * again when it changes.  Nothing here knows how the bytes came.
 */
#include "submit.h"

#include <sys/stat.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Who writes a file in place does not pause for longer. */
enum { WRITING_MS = 2000 };

struct intake {
	struct loop *loop;
	struct queue *queue;
	struct sched *sched; /* NULL: messages are only stored */
	struct config *config;
	struct aliases *aliases; /* NULL: none */
	struct stat seen;        /* the aliases file when it was read */
	unsigned pending;
};

struct draft {
	struct intake *intake;
	struct draft_facts facts;
	struct envelope envelope;
	struct address_set given; /* recipients, as the client named them */
	struct address_set recipients; /* what envelope has, rewritten */
	struct msg *msg; /* NULL: not begun, given up, committed */
	char id[QUEUE_ID_MAX];
	struct buf head; /* header, and the body that came with it */
	size_t scanned;
	size_t header; /* octets of head */
	size_t body;   /* where in head it begins */
	bool found;    /* these two are known */
	bool written;  /* head is in the spool; the rest goes there directly */
	bool waits;    /* why it will have to is in the spool */
	uint64_t octets;
	const char *refusal;
	queue_committed *handler;
	void *arg;
};

/* ---- the aliases file ---- */

static void
warn_alias(void *arg, unsigned line, const char *text)
{
	log_warning(NULL, "%s:%u: %s", (const char *)arg, line, text);
}

/* Is it being written in place, as far as can be told from a size that has
 * changed meanwhile, or a last line that has just been begun? */
static bool
is_half_written(const struct intake *in, struct span text,
    const struct stat *st)
{
	int64_t age_ms = loop_now(in->loop).wall_ms -
	    (int64_t)st->st_mtim.tv_sec * 1000 - st->st_mtim.tv_nsec / 1000000;
	bool ended = text.len > 0 && text.data[text.len - 1] == '\n';

	return text.len != (size_t)st->st_size ||
	    (!ended && age_ms > -WRITING_MS && age_ms < WRITING_MS);
}

/* Until a file has been read whole, the old table stays. */
static void
load_aliases(struct intake *in)
{
	char *path = in->config->aliases;
	struct buf text = { 0 };
	struct stat st;
	bool half;

	if (file_read(path, LIMIT_ALIASES_FILE, &text, &st) == -1) {
		log_warning(NULL, "%s: %s; aliases stay as they were", path,
		    strerror(errno));
		buf_free(&text);
		return;
	}
	half = is_half_written(in, buf_span(&text), &st);
	if (half)
		in->seen = (struct stat){ 0 }; /* look again */
	if (!half || in->aliases == NULL) {
		if ((st.st_mode & S_IWOTH) != 0)
			log_warning(NULL, "%s: everybody may write it", path);
		aliases_free(in->aliases);
		in->aliases = aliases_parse(buf_span(&text), warn_alias, path);
	}
	buf_free(&text);
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	    a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A file that vanishes does not take the table with it: it may be about to be
 * replaced, and root's mail must not go astray meanwhile. */
static void
refresh_aliases(struct intake *in)
{
	struct stat st;

	if (in->config->aliases[0] == '\0' ||
	    stat(in->config->aliases, &st) == -1 || same_file(&st, &in->seen))
		return;
	in->seen = st;
	load_aliases(in);
}

static void
start_aliases(struct intake *in)
{
	const struct config *c = in->config;

	in->seen = (struct stat){ 0 };
	if (c->aliases_given && c->aliases[0] != '\0' &&
	    access(c->aliases, F_OK) == -1)
		log_warning(NULL, "%s: %s", c->aliases, strerror(errno));
	refresh_aliases(in);
	if (in->aliases == NULL && c->local_to[0] == '\0')
		log_warning(NULL, "no aliases: mail for root goes to root@%s",
		    c->origin);
}

/* ---- what all messages share ---- */

struct intake *
intake_new(struct loop *l, struct queue *q, struct sched *sched,
    struct config *config)
{
	struct intake *in = mem_alloc(sizeof(*in));

	in->loop = l;
	in->queue = q;
	in->sched = sched;
	in->config = config_hold(config);
	start_aliases(in);
	return in;
}

void
intake_free(struct intake *in)
{
	if (in == NULL)
		return;
	aliases_free(in->aliases);
	config_release(in->config);
	free(in);
}

void
intake_configure(struct intake *in, struct config *config)
{
	struct config *old = in->config;

	in->config = config_hold(config);
	if (strcmp(old->aliases, config->aliases) != 0 ||
	    access(config->aliases, F_OK) == -1) {
		aliases_free(in->aliases);
		in->aliases = NULL;
	}
	config_release(old);
	start_aliases(in);
}

size_t
intake_aliases(const struct intake *in)
{
	return in->aliases == NULL ? 0 : aliases_count(in->aliases);
}

unsigned
intake_pending(const struct intake *in)
{
	return in->pending;
}

const char *
intake_refusal(int error)
{
	if (error == ENOSPC || error == EDQUOT)
		return "452 4.3.1 Insufficient system storage";
	return "451 4.3.0 The message could not be stored";
}

static const char *
check_room(const struct intake *in, uint64_t octets)
{
	if (queue_has_room(in->queue, octets, in->config->min_free_space))
		return NULL;
	return intake_refusal(ENOSPC);
}

struct queue *
intake_queue(const struct intake *in)
{
	return in->queue;
}

struct rewrite_rules
intake_rules(struct intake *in)
{
	struct rewrite_rules rules = { 0 };

	refresh_aliases(in);
	config_rules(in->config, &rules);
	rules.aliases = in->aliases;
	return rules;
}

/* ---- envelope ---- */

const char *
draft_new(struct intake *in, const struct draft_facts *facts,
    struct span sender, struct draft **out)
{
	struct rewrite_rules rules;
	const char *refusal;
	struct draft *d;

	if (queue_is_failing(in->queue))
		return "451 4.3.0 The spool is failing";
	if (facts->mail.size > in->config->message_size_limit)
		return "552 5.3.4 Message too big";
	refusal = check_room(in, facts->mail.size);
	if (refusal != NULL)
		return refusal;
	rules = intake_rules(in);
	d = mem_alloc(sizeof(*d));
	d->intake = in;
	d->facts = *facts;
	d->envelope.sender = rewrite_sender(&rules, sender, NULL);
	d->envelope.original_sender = span_text(sender);
	d->envelope.client = mem_text(facts->peer->name);
	d->envelope.uid = facts->peer->uid;
	d->envelope.eight_bit = facts->mail.eight_bit;
	d->envelope.utf8 = facts->mail.utf8;
	d->envelope.ret = facts->mail.ret;
	d->envelope.envid = mem_text(facts->mail.envid);
	*out = d;
	return NULL;
}

void
draft_free(struct draft *d)
{
	if (d == NULL)
		return;
	msg_abort(d->msg);
	envelope_clear(&d->envelope);
	address_set_free(&d->recipients);
	address_set_free(&d->given);
	buf_free(&d->head);
	free(d);
}

const char *
draft_id(const struct draft *d)
{
	return d->id[0] == '\0' ? "NOQUEUE" : d->id;
}

/* The reply does not say where a recipient would go to, but the log does. */
static void
log_refused(void *arg, const struct rewrite_hop *hop, size_t count,
    enum rewrite_result result)
{
	const struct draft *d = arg;
	struct buf way = { 0 };

	if (result == REWRITE_OK)
		return;
	rewrite_add_way(&way, hop, count);
	if (result == REWRITE_DEEP)
		log_warning("cleanup", "%s: alias chain over %d deep: %s",
		    draft_id(d), LIMIT_ALIAS_DEPTH, buf_text(&way));
	else
		log_warning("cleanup", "%s: not among allow_recipients: %s",
		    draft_id(d), buf_text(&way));
	buf_free(&way);
}

/* How many of these the message does not have yet. */
static size_t
count_new(const struct draft *d, const struct strings *to)
{
	size_t i, count = 0;

	for (i = 0; i < to->count; i++)
		count +=
		    !address_set_have(&d->recipients, span_of(to->item[i]));
	return count;
}

/* A recipient is sent to once, but what it was called is kept each time. */
static void
add_recipient(struct draft *d, const char *address, const char *original,
    const struct smtp_rcpt *parameters)
{
	struct recipient *r;

	if (!address_set_add(&d->recipients, span_of(address))) {
		envelope_add_name(&d->envelope, address, original);
		return;
	}
	r = envelope_add(&d->envelope, address, original);
	r->notify = parameters->notify;
	r->orcpt = mem_text(parameters->orcpt);
}

const char *
draft_recipient(struct draft *d, struct span address,
    const struct smtp_rcpt *parameters)
{
	struct rewrite_rules rules = intake_rules(d->intake);
	const struct rewrite_trace trace = { log_refused, d };
	struct address_set to = { .slots = 0 };
	enum rewrite_result result = REWRITE_OK;
	char *original = span_text(address);
	size_t i;

	if (!address_set_have(&d->given, address))
		result = rewrite_recipient(&rules, address, &to, &trace);
	if (result == REWRITE_OK &&
	    (d->recipients.list.count + count_new(d, &to.list) >
		    rules.recipient_limit ||
		d->given.list.count > 2 * rules.recipient_limit))
		result = REWRITE_TOO_MANY;
	if (result == REWRITE_OK) {
		(void)address_set_add(&d->given, address);
		for (i = 0; i < to.list.count; i++)
			add_recipient(d, to.list.item[i], original, parameters);
	}
	address_set_free(&to);
	free(original);
	return rewrite_refusal(result);
}

const char *
draft_sender(const struct draft *d)
{
	return d->envelope.original_sender;
}

/* ---- content ---- */

void
draft_refuse(struct draft *d, const char *reply)
{
	if (d->refusal != NULL)
		return;
	d->refusal = reply;
	msg_abort(d->msg);
	d->msg = NULL;
	buf_free(&d->head);
}

const char *
draft_refusal(const struct draft *d)
{
	return d->refusal;
}

const char *
draft_begin(struct draft *d, uint64_t octets)
{
	const char *refusal = check_room(d->intake, octets);

	if (refusal != NULL || d->id[0] != '\0')
		return refusal;
	d->msg = queue_begin(d->intake->queue);
	queue_id_text(msg_id(d->msg), d->id);
	return NULL;
}

static void
store(struct draft *d, struct span text)
{
	if (d->refusal == NULL && text.len > 0 && msg_write(d->msg, text) == -1)
		draft_refuse(d, intake_refusal(errno));
}

/* The Message-ID of a header section, or an empty span. */
static struct span
find_message_id(struct span header)
{
	struct span line, name = SPAN("Message-ID:");
	bool found, more = true;

	for (found = false; !found && more;) {
		more = span_cut(header, '\n', &line, &header);
		found = span_starts_nocase(line, name);
	}
	if (!found)
		return (struct span){ NULL, 0 };
	line = span_trim(span_from(line, name.len));
	if (line.len == 0 && span_starts_nocase(header, SPAN(" "))) /* folded */
		(void)span_cut(header, '\n', &line, &header);
	return span_trim(line);
}

static void
log_message_id(const struct draft *d, struct span header)
{
	struct span id = find_message_id(header);
	struct buf text = { 0 };
	bool brackets =
	    id.len > 1 && id.data[0] == '<' && id.data[id.len - 1] == '>';

	if (brackets)
		id = span_first(span_from(id, 1), id.len - 2);
	buf_add_text(&text, brackets ? "<" : "");
	buf_add_value(&text, id);
	buf_add_text(&text, brackets ? ">" : "");
	log_info("cleanup", "%s: message-id=%s", d->id, buf_text(&text));
	buf_free(&text);
}

/* Such a header is passed on: who reads it may make sense of it, or refuse. */
static void
log_repeated(const struct draft *d, struct span header)
{
	struct buf names = { 0 };

	header_repeated(header, &names);
	if (names.len > 0)
		log_info("cleanup", "%s: more than one header field: %s", d->id,
		    buf_text(&names));
	buf_free(&names);
}

static const char *
protocol(const struct draft_facts *facts)
{
	if (facts->mail.utf8)
		return "UTF8SMTP"; /* RFC 6531, section 4.3 */
	return facts->esmtp ? "ESMTP" : "SMTP";
}

/* Envelope, new header, and what there is of the body. */
static void
store_head(struct draft *d)
{
	struct rewrite_rules rules = intake_rules(d->intake);
	struct span text = buf_span(&d->head);
	struct buf header = { 0 };
	const char *refusal;
	struct rewrite_facts facts = {
		.id = d->id,
		.client = d->facts.peer->received,
		.helo = d->facts.helo,
		.protocol = protocol(&d->facts),
		.sender = d->envelope.original_sender,
		.recipient = d->envelope.recipient_count == 1
		    ? d->envelope.recipient[0].address
		    : NULL,
		.wall_ms = loop_now(d->intake->loop).wall_ms,
	};

	refusal = rewrite_header(&rules, &facts, span_first(text, d->header),
	    &header);
	if (refusal != NULL) {
		draft_refuse(d, refusal);
		goto out;
	}
	log_message_id(d, buf_span(&header));
	log_repeated(d, buf_span(&header));
	buf_add_text(&header, "\r\n");
	d->envelope.arrived_ms = facts.wall_ms;
	msg_envelope(d->msg, &d->envelope);
	store(d, buf_span(&header));
	store(d, span_from(text, d->body));
	d->written = true;
out:
	buf_free(&d->head);
	buf_free(&header);
}

void
draft_write(struct draft *d, struct span text)
{
	static const char too_big[] = "552 5.3.4 Message too big";

	d->octets += text.len;
	/* Whatever else is wrong: how the octets came in makes no difference. */
	if (d->octets > d->intake->config->message_size_limit) {
		draft_refuse(d, too_big);
		d->refusal = too_big;
	}
	if (d->refusal != NULL)
		return;
	if (d->written) {
		store(d, text);
		return;
	}
	buf_add(&d->head, text);
	if (!d->found)
		d->found = header_end(buf_span(&d->head), &d->scanned,
		    &d->header, &d->body);
	if (!d->found && d->head.len > LIMIT_HEADER)
		draft_refuse(d, "550 5.6.0 Header section too big");
	else if (d->found)
		store_head(d);
}

/* ---- commit ---- */

/* What is known now need not be written later. */
static void
note_wait(struct draft *d)
{
	struct sched *sched = d->intake->sched;
	const char *why = NULL;

	if (sched != NULL)
		why = sched_waits(sched, d->envelope.sender);
	if (why != NULL)
		msg_waits(d->msg, why);
	d->waits = why != NULL;
}

static void
log_queued(const struct draft *d, uint64_t size)
{
	struct buf sender = { 0 };

	buf_add_value(&sender, span_of(d->envelope.sender));
	log_info("qmgr", "%s: from=<%s>, size=%llu, nrcpt=%zu (queue active)",
	    d->id, buf_text(&sender), (unsigned long long)size,
	    d->envelope.recipient_count);
	buf_free(&sender);
}

static void
on_committed(void *arg, queue_id id, int error)
{
	struct draft *d = arg;
	struct intake *in = d->intake;

	in->pending--;
	if (error == 0) {
		log_queued(d, d->octets);
		if (d->waits)
			sched_add_waiting(in->sched, id, &d->envelope);
		else if (in->sched != NULL)
			sched_add(in->sched, id, loop_now(in->loop).wall_ms);
	}
	d->handler(d->arg, id, error);
	draft_free(d);
}

const char *
draft_commit(struct draft *d, queue_committed *handler, void *arg)
{
	struct msg *m;

	if (d->refusal == NULL && !d->written) {
		if (!d->found)
			d->header = d->body = d->head.len;
		store_head(d);
	}
	if (d->refusal != NULL)
		return d->refusal;
	note_wait(d);
	m = d->msg;
	d->msg = NULL;
	d->handler = handler;
	d->arg = arg;
	d->octets = msg_size(m);
	d->intake->pending++;
	queue_commit(m, on_committed, d);
	return NULL;
}
