/*
 * What becomes of a message at its end when it was not sent to all: a report
 * to its sender, a copy to postmaster, or a place in failed/.
 *
 * A report is an ordinary message (intake.c), and it is on stable storage
 * before the message that it is about is removed.  A report is never
 * reported.  The text is notice.c's.
 */
#include "notice.h"
#include "submit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE = 64 << 10,
	PART_MAX = 1 << 20,   /* octets of a report's part */
	ENVELOPE_ROOM = 4096, /* for Received and the like */
	AGAIN_MS = 60 * 1000, /* the spool can't take it now */
};

/* Who sends them, in the envelope; no client has such a name. */
static const char sent_by_us[] = "bounce", sent_as_copy[] = "postmaster";

struct bounce {
	struct loop *loop;
	struct queue *queue;
	struct sched *sched;
	struct submit *submit;
	struct config *config; /* held */
	struct ration *ration;
	struct letter *letters;
};

/* A report on its way to the disk. */
struct letter {
	struct bounce *bounce;
	struct letter *next;
	queue_id about;
	struct entry *entry;   /* to be removed then; NULL: it stays */
	bool waits;            /* it is in the queue, not held or failed */
	const char *name;      /* for the log */
	queue_committed *told; /* the operator has asked for it; may be NULL */
	void *told_arg;
};

/* ---- the end of a message ---- */

/* Without a report: those who failed keep it in failed/. */
static void
keep(struct entry *e, const char *why)
{
	size_t failed = envelope_count(&e->envelope, RECIPIENT_FAILED);
	char name[QUEUE_ID_MAX];

	queue_id_text(e->id, name);
	if (entry_finish(e) == -1)
		return;
	if (failed == 0)
		log_info("qmgr", "%s: removed", name);
	else
		log_error("bounce",
		    "%s: kept in failed/: %zu of its recipients can't be "
		    "reached, and nobody was told: %s; see relayctl queue "
		    "--failed",
		    name, failed, why);
}

/* Its end has to wait: the original is all there is. */
static void
put_off(struct bounce *b, struct entry *e, bool waits, const char *why)
{
	int64_t at_ms = loop_now(b->loop).wall_ms + AGAIN_MS;
	queue_id id = e->id;
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	log_warning("bounce", "%s: the report can't be stored now: %s", name,
	    why);
	entry_close(e);
	if (waits)
		sched_add(b->sched, id, at_ms);
}

static struct letter *
letter_new(struct bounce *b, queue_id about)
{
	struct letter *l = mem_alloc(sizeof(*l));

	l->bounce = b;
	l->about = about;
	l->next = b->letters;
	b->letters = l;
	return l;
}

static void
letter_free(struct letter *l)
{
	struct letter **at = &l->bounce->letters;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	free(l);
}

/* By relayctl. */
static void
log_given_up(const struct bounce *b, const struct entry *e)
{
	int64_t age_ms = loop_now(b->loop).wall_ms - e->envelope.arrived_ms;
	struct buf text = { NULL, 0, 0 };
	char name[QUEUE_ID_MAX];
	size_t i;

	queue_id_text(e->id, name);
	for (i = 0; i < e->envelope.recipient_count; i++) {
		const struct recipient *r = &e->envelope.recipient[i];

		if (!r->tried)
			continue;
		buf_clear(&text);
		buf_add_text(&text, "to=<");
		buf_add_value(&text, span_of(r->address));
		buf_printf(&text,
		    ">, relay=none, delay=%.2f, dsn=%s, status=bounced (",
		    (double)age_ms / 1000, r->last.status);
		buf_add_words(&text, span_first(span_of(r->last.reply), 512));
		log_info("bounce", "%s: %s)", name, buf_text(&text));
	}
	buf_free(&text);
}

static void
remove_original(struct bounce *b, struct entry *e)
{
	char name[QUEUE_ID_MAX];

	queue_id_text(e->id, name);
	if (queue_delete(b->queue, e->id) == 0) {
		log_info("qmgr", "%s: removed", name);
	} else {
		log_error("qmgr", "%s can't be removed: %s", name,
		    strerror(errno));
		entry_done(e); /* or its sender would be told again */
	}
	entry_close(e);
}

/* The report is on stable storage, or can't be had. */
static void
on_committed(void *arg, queue_id id, int error)
{
	struct letter l = *(struct letter *)arg;
	char about[QUEUE_ID_MAX], name[QUEUE_ID_MAX];

	letter_free(arg);
	queue_id_text(l.about, about);
	queue_id_text(id, name);
	if (error == 0 && l.told != NULL)
		log_given_up(l.bounce, l.entry);
	if (error == 0)
		log_info("bounce", "%s: %s: %s", about, l.name, name);
	if (error == 0 && l.entry != NULL)
		remove_original(l.bounce, l.entry);
	else if (l.entry != NULL)
		put_off(l.bounce, l.entry, l.waits, strerror(error));
	if (l.told != NULL)
		l.told(l.told_arg, l.about, error);
}

/* ---- the report as a message ---- */

/* The header section of a message, and what was read with it. */
struct opening {
	struct buf text;
	size_t header;
};

static int
read_opening(struct entry *e, struct opening *o)
{
	size_t body;

	entry_rewind(e);
	return intake_read_header(e, &o->text, &o->header, &body);
}

/* All of the message, as it stands in the spool; -1: it can't be read. */
static int
copy_message(struct entry *e, struct draft *d)
{
	char piece[PIECE];
	ssize_t n;

	entry_rewind(e);
	while ((n = entry_read(e, piece, sizeof(piece))) > 0)
		draft_write(d, (struct span){ piece, (size_t)n });
	return (int)n;
}

/* The notice with as much of the message as there is room for. */
static void
write_notice(struct notice *n, struct buf *out)
{
	uint64_t limit = n->config->message_size_limit;

	n->limit = limit / 8 < PART_MAX ? (size_t)(limit / 8) : PART_MAX;
	n->full = n->kind == NOTICE_POSTMASTER ||
	    (n->kind == NOTICE_END && n->entry->envelope.ret == RETURN_FULL);
	notice_write(n, out);
	if (!n->full || out->len + n->entry->size + ENVELOPE_ROOM <= limit)
		return;
	n->full = false;
	buf_clear(out);
	notice_write(n, out);
}

/* Write all of it; NULL, or the reply that refuses it. */
static const char *
write_draft(struct notice *n, struct entry *e, struct draft *d)
{
	static const struct smtp_rcpt none;
	struct buf text = { NULL, 0, 0 };
	const char *refusal;

	refusal = draft_recipient(d, span_of(n->to), &none);
	if (refusal == NULL) {
		write_notice(n, &text);
		refusal = draft_begin(d, text.len + (n->full ? e->size : 0));
	}
	if (refusal == NULL) {
		draft_write(d, buf_span(&text));
		if (n->full && copy_message(e, d) == -1)
			refusal = "451 4.3.0 The message can't be read";
		buf_clear(&text);
		notice_end(n, &text);
		draft_write(d, buf_span(&text));
	}
	buf_free(&text);
	return refusal;
}

/* NULL: l will be told of the commit, and is its own then. */
static const char *
send_notice(struct bounce *b, struct notice *n, struct entry *e,
    struct letter *l)
{
	struct peer peer = { .uid = -1, .local = true, .may_relay = true };
	struct draft_facts facts = { .peer = &peer, .helo = "", .esmtp = true };
	struct draft *d = NULL;
	const char *refusal;

	(void)snprintf(peer.name, sizeof(peer.name), "%s",
	    n->kind == NOTICE_POSTMASTER ? sent_as_copy : sent_by_us);
	(void)snprintf(peer.received, sizeof(peer.received), "relayd");
	facts.mail.eight_bit = true;
	facts.mail.utf8 = !span_is_ascii(span_of(n->to));
	refusal = draft_new(submit_intake(b->submit), &facts, SPAN(""), &d);
	if (refusal == NULL)
		refusal = write_draft(n, e, d);
	if (refusal == NULL)
		refusal = draft_commit(d, on_committed, l);
	if (refusal != NULL)
		draft_free(d);
	else
		loop_hurry(b->loop); /* for the commit */
	return refusal;
}

/* ---- to whom ---- */

/* RFC 3834, section 2: what answers by itself is not answered.  What a program
 * sends by itself (cron) is no answer. */
static bool
is_automatic_reply(struct span header)
{
	struct buf value = { NULL, 0, 0 };
	struct span word, rest;
	bool is = false;

	if (notice_field(header, SPAN("Auto-Submitted"), &value)) {
		(void)span_cut(buf_span(&value), ';', &word, &rest);
		word = span_trim(word);
		is = !span_equal_nocase(word, SPAN("no")) &&
		    !span_equal_nocase(word, SPAN("auto-generated"));
	}
	buf_free(&value);
	return is;
}

/* Would a copy for postmaster go to somebody who can't be reached? */
static bool
is_postmasters(struct bounce *b, const struct envelope *e)
{
	struct rewrite_rules rules = intake_rules(submit_intake(b->submit));
	struct address_set to = { .slots = 0 };
	bool is = false;
	size_t i;

	(void)rewrite_recipient(&rules, span_of(b->config->postmaster), &to,
	    NULL);
	for (i = 0; i < e->recipient_count && !is; i++)
		is = e->recipient[i].state == RECIPIENT_FAILED &&
		    address_set_have(&to, span_of(e->recipient[i].address));
	address_set_free(&to);
	return is;
}

/* Did a relayhost refuse it for good? */
static bool
was_refused(const struct envelope *e)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		if (e->recipient[i].state == RECIPIENT_FAILED &&
		    e->recipient[i].last.status[0] != '4')
			return true;
	}
	return false;
}

/* What has the null sender is a report, or wants none. */
static const char *
address_to_postmaster(struct bounce *b, const struct entry *e, struct notice *n)
{
	if (strcmp(e->envelope.client, sent_as_copy) == 0)
		return "it is the copy for postmaster";
	if (!was_refused(&e->envelope))
		return "it has the null sender, and bounce_lifetime is over";
	if (is_postmasters(b, &e->envelope))
		return "it is to postmaster, from the null sender";
	n->kind = NOTICE_POSTMASTER;
	n->to = b->config->postmaster;
	return NULL;
}

/* Who gets a report about what has a sender. */
static const char *
reader_of(const struct bounce *b, const struct entry *e)
{
	return b->config->bounce_to[0] == '\0' ? e->envelope.sender
					       : b->config->bounce_to;
}

/* Fill in whom to tell; NULL, or why nobody is told. */
static const char *
address_notice(struct bounce *b, const struct entry *e, struct notice *n)
{
	if (e->no_report != NULL)
		return e->no_report;
	if (e->envelope.sender[0] == '\0')
		return address_to_postmaster(b, e, n);
	if (notice_count(n->kind, &e->envelope) == 0)
		return "its sender wants no report";
	if (is_automatic_reply(n->header))
		return "it is an automatic reply";
	n->to = reader_of(b, e);
	return NULL;
}

static const char *
name_notice(const struct notice *n)
{
	if (n->kind == NOTICE_POSTMASTER)
		return "postmaster non-delivery notification";
	if (n->kind == NOTICE_DELAY)
		return "sender delay notification";
	return envelope_count(&n->entry->envelope, RECIPIENT_FAILED) == 0
	    ? "sender delivery status notification"
	    : "sender non-delivery notification";
}

static struct notice
notice_about(struct bounce *b, enum notice_kind kind, const struct entry *e,
    const struct opening *o)
{
	return (struct notice){ .kind = kind,
		.config = b->config,
		.entry = e,
		.header = span_first(buf_span(&o->text), o->header),
		.now_ms = loop_now(b->loop).wall_ms };
}

/* ---- what the scheduler tells ---- */

static void
on_over(void *arg, struct entry *e)
{
	struct bounce *b = arg;
	struct opening o = { .header = 0 };
	const char *refusal, *why = NULL;
	struct letter *l;
	struct notice n;

	if (read_opening(e, &o) == -1) {
		put_off(b, e, true, strerror(errno));
		buf_free(&o.text);
		return;
	}
	n = notice_about(b, NOTICE_END, e, &o);
	why = address_notice(b, e, &n);
	if (why == NULL &&
	    !ration_take(b->ration, n.to, loop_now(b->loop).mono_ms))
		why = "too many reports to its sender";
	if (why != NULL) {
		keep(e, why);
		buf_free(&o.text);
		return;
	}
	l = letter_new(b, e->id);
	l->name = name_notice(&n);
	l->entry = e;
	l->waits = true;
	refusal = send_notice(b, &n, e, l);
	if (refusal != NULL)
		letter_free(l);
	if (refusal != NULL && refusal[0] == '4')
		put_off(b, e, true, refusal);
	else if (refusal != NULL)
		keep(e, refusal);
	buf_free(&o.text);
}

/* A warning is not worth a second try. */
static void
on_late(void *arg, struct entry *e)
{
	struct bounce *b = arg;
	struct opening o = { .header = 0 };
	struct letter *l;
	struct notice n;

	if (e->envelope.sender[0] != '\0' && read_opening(e, &o) == 0) {
		n = notice_about(b, NOTICE_DELAY, e, &o);
		if (address_notice(b, e, &n) == NULL &&
		    ration_take(b->ration, n.to, loop_now(b->loop).mono_ms)) {
			l = letter_new(b, e->id);
			l->name = name_notice(&n);
			if (send_notice(b, &n, e, l) != NULL)
				letter_free(l);
		}
		entry_warned(e);
	}
	buf_free(&o.text);
}

/* ---- what the operator asks for ---- */

/* Whoever still waits has failed, but not on the disk before the report is
 * there. */
static void
give_up(struct bounce *b, struct entry *e)
{
	int64_t now_ms = loop_now(b->loop).wall_ms;
	struct buf text = { NULL, 0, 0 };
	size_t i;

	buf_add_text(&text, "returned by the administrator");
	if (e->reason[0] != '\0')
		buf_printf(&text, "; last reply: %s", e->reason);
	for (i = 0; i < e->envelope.recipient_count; i++) {
		struct recipient *r = &e->envelope.recipient[i];

		if (r->state != RECIPIENT_WAITING)
			continue;
		r->state = RECIPIENT_FAILED;
		r->tried = true; /* and is to be logged */
		recipient_diagnose(r, "5.0.0", "none", buf_text(&text), now_ms);
	}
	buf_free(&text);
}

/* Whatever speaks against it by itself: 0, or an errno. */
static int
return_to_sender(struct bounce *b, struct entry *e, struct letter *l)
{
	struct opening o = { .header = 0 };
	const char *refusal;
	struct notice n;
	int error;

	if (read_opening(e, &o) == -1) {
		error = errno;
		buf_free(&o.text);
		return error;
	}
	give_up(b, e);
	n = notice_about(b, NOTICE_END, e, &o);
	n.to = reader_of(b, e);
	l->name = name_notice(&n);
	refusal = send_notice(b, &n, e, l);
	buf_free(&o.text);
	if (refusal == NULL)
		return 0;
	return refusal[0] == '4' ? EAGAIN : EPERM;
}

/* Is anybody named in a report once all who wait have failed? */
static bool
has_reader(const struct envelope *e)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		struct recipient r = e->recipient[i];

		if (r.state == RECIPIENT_WAITING)
			r.state = RECIPIENT_FAILED;
		if (r.state == RECIPIENT_FAILED && notice_names(NOTICE_END, &r))
			return e->sender[0] != '\0';
	}
	return false;
}

int
bounce_now(struct bounce *b, queue_id id, queue_committed *told, void *arg)
{
	enum queue_place place;
	struct letter *l;
	struct entry *e;
	int error = EDESTADDRREQ;

	if (bounce_has(b, id)) {
		errno = EBUSY;
		return -1;
	}
	e = queue_look(b->queue, id, &place);
	if (e == NULL)
		return -1;
	if (has_reader(&e->envelope)) {
		l = letter_new(b, id);
		l->entry = e;
		l->waits = place == PLACE_NEW || place == PLACE_CUR;
		l->told = told;
		l->told_arg = arg;
		error = return_to_sender(b, e, l);
		if (error == 0)
			return 0;
		letter_free(l);
	}
	entry_close(e);
	errno = error;
	return -1;
}

/* ---- all of it ---- */

bool
bounce_has(const struct bounce *b, queue_id id)
{
	const struct letter *l = b->letters;

	while (l != NULL && (l->about != id || l->entry == NULL))
		l = l->next;
	return l != NULL;
}

struct bounce *
bounce_new(struct loop *l, struct queue *q, struct sched *sched,
    struct submit *submit, struct config *config)
{
	struct bounce *b = mem_alloc(sizeof(*b));

	b->loop = l;
	b->queue = q;
	b->sched = sched;
	b->submit = submit;
	b->config = config_hold(config);
	b->ration = ration_new();
	sched_on_end(sched, on_over, on_late, b);
	return b;
}

void
bounce_configure(struct bounce *b, struct config *config)
{
	config_release(b->config);
	b->config = config_hold(config);
}

void
bounce_free(struct bounce *b)
{
	struct letter *l, *next;

	if (b == NULL)
		return;
	for (l = b->letters; l != NULL; l = next) {
		next = l->next;
		entry_close(l->entry);
		free(l);
	}
	config_release(b->config);
	ration_free(b->ration);
	free(b);
}
