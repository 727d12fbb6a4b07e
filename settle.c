/*
 * What follows from a verdict: the log line, the mark in the spool, and
 * whether the message is over, waits, or goes on at once.
 *
 * A fault of the message (4xx, 5xx, an outcome that is not known) costs it
 * one of its retries; a fault of the relay never does.
 */
#include "history.h"
#include "sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Losses behind others after which a message goes again at once: a first one,
 * and one more if that has not told which of them was the cause. */
enum { LOST_BEHIND_MAX = 2 };

/* ---- jobs ---- */

struct job *
job_new(struct pool *pool, struct entry *e, struct instant now)
{
	struct job *j = mem_alloc(sizeof(*j));

	j->pool = pool;
	j->entry = e;
	j->taken_ms = now.mono_ms;
	j->taken_wall_ms = now.wall_ms;
	return j;
}

static void
clear_delivery(struct job *j)
{
	size_t i;

	for (i = 0; i < j->delivery.recipient_count; i++)
		free(j->delivery.recipient[i].reply);
	free(j->delivery.recipient);
	j->delivery = (struct delivery){ .entry = j->entry };
}

bool
job_prepare(struct job *j, size_t limit)
{
	const struct envelope *e = &j->entry->envelope;
	struct delivery *d = &j->delivery;
	size_t i;

	clear_delivery(j);
	if (limit > e->recipient_count)
		limit = e->recipient_count;
	d->recipient = mem_alloc(limit * sizeof(*d->recipient));
	for (i = 0; i < e->recipient_count && d->recipient_count < limit; i++) {
		const struct recipient *r = &e->recipient[i];

		if (r->state == RECIPIENT_WAITING && !r->tried)
			d->recipient[d->recipient_count++].index = i;
	}
	return d->recipient_count > 0;
}

void
job_free(struct job *j)
{
	if (j == NULL)
		return;
	clear_delivery(j);
	entry_close(j->entry);
	free(j->reason);
	free(j);
}

/* ---- log lines ---- */

static double
seconds(int64_t ms)
{
	return ms < 0 ? 0 : (double)ms / 1000;
}

struct line {
	const struct recipient *to;
	const char *relay;
	const char *dsn;
	const char *status;
	const char *text;
};

/* For "relayctl log": how it ended, and the first time that it did not. */
static void
record(const struct settle_scene *scene, const struct entry *e, bool tried,
    const struct line *line)
{
	const struct history_line outcome = {
		.wall_ms = scene->now.wall_ms,
		.delay_ms = scene->now.wall_ms - e->envelope.arrived_ms,
		.id = e->id,
		.status = span_of(line->status),
		.dsn = span_of(line->dsn),
		.sender = span_of(e->envelope.sender),
		.to = span_of(line->to->address),
		.original = span_of(line->to->original),
		.relay = span_of(line->relay),
		.reply = span_of(line->text),
	};

	if (strcmp(line->status, "deferred") != 0 ||
	    (tried && e->attempts == 0))
		history_add(scene->history, &outcome);
}

/* Postfix's words in Postfix's order; pflogsumm and people read it. */
static void
log_line(const struct settle_scene *scene, const struct entry *e,
    const char *delays, const struct line *line)
{
	struct buf b = { NULL, 0, 0 };
	char id[QUEUE_ID_MAX];
	int64_t delay = scene->now.wall_ms - e->envelope.arrived_ms;

	record(scene, e, *delays != '\0', line);
	buf_add_text(&b, "to=<");
	buf_add_value(&b, span_of(line->to->address));
	if (strcmp(line->to->address, line->to->original) != 0) {
		buf_add_text(&b, ">, orig_to=<");
		buf_add_value(&b, span_of(line->to->original));
	}
	buf_printf(&b, ">, relay=%s, delay=%.2f, %sdsn=%s, status=%s (",
	    line->relay, seconds(delay), delays, line->dsn, line->status);
	buf_add_words(&b, span_first(span_of(line->text), 512));
	buf_add_char(&b, ')');
	queue_id_text(e->id, id);
	log_info("smtp", "%s: %s", id, buf_text(&b));
	if (scene->observer != NULL)
		scene->observer(scene->observer_arg, e->id, buf_text(&b),
		    strcmp(line->status, "sent") == 0, false);
	buf_free(&b);
}

/* "delays=a/b/c/d": before it was taken, waiting for the connection, its
 * set-up, the transaction. */
static void
format_delays(const struct settle_scene *scene, const struct job *j,
    char out[80])
{
	const struct delivery *d = &j->delivery;
	/* Links pull: the set-up is over before the message is taken, and may
	 * have begun for another one before this arrived. */
	int64_t before = j->taken_wall_ms - j->entry->envelope.arrived_ms;
	int64_t setup = d->setup_ms < before ? d->setup_ms : before;
	int64_t sending = scene->now.mono_ms - d->begun_ms;
	int64_t waiting = d->begun_ms - j->taken_ms;

	if (d->begun_ms == 0)
		sending = waiting = 0;
	(void)snprintf(out, 80, "delays=%.2f/%.2f/%.2f/%.2f, ",
	    seconds(before - setup), seconds(waiting), seconds(setup),
	    seconds(sending));
}

static void
log_verdict(const struct settle_scene *scene, const struct job *j,
    const struct delivery_recipient *dr, const char *status)
{
	char delays[80];
	struct buf text = { NULL, 0, 0 };
	struct line line = {
		.to = &j->entry->envelope.recipient[dr->index],
		.relay = scene->peer,
		.dsn = dr->status[0] == '\0' ? "4.0.0" : dr->status,
		.status = status,
	};

	if (dr->verdict == VERDICT_UNKNOWN)
		buf_add_text(&text, "dup=possible, ");
	if (dr->reply != NULL)
		buf_add_text(&text, dr->reply);
	line.text = buf_text(&text);
	format_delays(scene, j, delays);
	log_line(scene, j->entry, delays, &line);
	buf_free(&text);
}

/* ---- verdicts ---- */

/* A failure of the message's own, and why. */
static void
note_failure(struct job *j, const struct delivery_recipient *dr)
{
	free(j->reason);
	j->reason = mem_text(dr->reply == NULL ? "" : dr->reply);
}

static void
diagnose(const struct settle_scene *scene, struct recipient *r,
    const struct delivery_recipient *dr)
{
	recipient_diagnose(r, dr->status[0] == '\0' ? "4.0.0" : dr->status,
	    scene->peer, dr->reply, scene->now.wall_ms);
}

/* Does the sender want to hear that it was sent, and will nobody else say so?
 * (RFC 3461, section 5.2.2) */
static bool
is_to_be_told(const struct job *j, const struct recipient *r)
{
	return (r->notify & NOTIFY_SUCCESS) != 0 && !j->delivery.dsn;
}

static void
apply(const struct settle_scene *scene, struct job *j,
    const struct delivery_recipient *dr)
{
	struct recipient *r = &j->entry->envelope.recipient[dr->index];

	if (dr->cause == CAUSE_SENDER)
		j->entry->no_report = "the relayhost refuses its sender";
	switch (dr->verdict) {
	case VERDICT_SENT:
		r->state = RECIPIENT_SENT;
		scene->counts->sent++;
		histogram_add(&scene->counts->delay,
		    scene->now.wall_ms - j->entry->envelope.arrived_ms);
		log_verdict(scene, j, dr, "sent");
		if (is_to_be_told(j, r))
			diagnose(scene, r, dr);
		break;
	case VERDICT_FAILED:
		log_verdict(scene, j, dr, "bounced");
		entry_mark(j->entry, dr->index, RECIPIENT_FAILED);
		diagnose(scene, r, dr);
		entry_diagnosed(j->entry, dr->index);
		scene->counts->failed++;
		note_failure(j, dr);
		break;
	case VERDICT_DEFERRED:
	case VERDICT_UNKNOWN:
		r->tried = true;
		log_verdict(scene, j, dr, "deferred");
		diagnose(scene, r, dr);
		scene->counts->deferred++;
		note_failure(j, dr);
		break;
	case VERDICT_NONE:
		break;
	}
}

/* The mark of a delivery is needed only where its message stays. */
static void
mark_sent(const struct job *j)
{
	const struct delivery *d = &j->delivery;
	size_t i, n;

	for (i = 0; i < d->recipient_count; i++) {
		if (d->recipient[i].verdict != VERDICT_SENT)
			continue;
		n = d->recipient[i].index;
		entry_mark(j->entry, n, RECIPIENT_SENT);
		if (is_to_be_told(j, &j->entry->envelope.recipient[n]))
			entry_diagnosed(j->entry, n);
	}
}

/* Is the sender to hear of any who got it? */
static bool
any_to_be_told(const struct envelope *e)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		if (e->recipient[i].state == RECIPIENT_SENT &&
		    (e->recipient[i].notify & NOTIFY_SUCCESS) != 0 &&
		    e->recipient[i].last.status[0] == '2')
			return true;
	}
	return false;
}

static void
observe_end(const struct settle_scene *scene, queue_id id, bool sent,
    const char *text)
{
	if (scene->observer != NULL)
		scene->observer(scene->observer_arg, id, text, sent, true);
}

/* Nobody waits any more. */
static void
finish(const struct settle_scene *scene, struct entry *e)
{
	size_t failed = envelope_count(&e->envelope, RECIPIENT_FAILED);
	queue_id id = e->id;
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	if (scene->over != NULL &&
	    (failed > 0 || any_to_be_told(&e->envelope))) {
		scene->over(scene->over_arg, e);
	} else if (entry_finish(e) == 0 && failed == 0) {
		log_info("qmgr", "%s: removed", name);
	}
	observe_end(scene, id, failed == 0,
	    failed == 0 ? "removed" : "it can't be delivered");
}

/* Bounces have a shorter life. */
static bool
is_too_old(const struct settle_scene *scene, const struct entry *e)
{
	return age_ms(scene->ages, scene->now, e->envelope.arrived_ms) >
	    config_lifetime_ms(scene->config, e->envelope.sender);
}

/* Who still waits has failed, with its last reply or for this reason. */
static void
give_up(const struct settle_scene *scene, struct entry *e, const char *reason)
{
	struct buf text = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < e->envelope.recipient_count; i++) {
		struct recipient *r = &e->envelope.recipient[i];
		bool heard = r->last.reply != NULL;
		struct line line = { r, heard ? r->last.peer : scene->peer,
			"4.4.7", "bounced", "" };

		if (r->state != RECIPIENT_WAITING)
			continue;
		buf_clear(&text);
		buf_printf(&text, "queue_lifetime is over; last reply: %s",
		    heard ? r->last.reply : reason);
		line.text = buf_text(&text);
		log_line(scene, e, "", &line);
		recipient_diagnose(r, line.dsn, line.relay, line.text,
		    scene->now.wall_ms);
		entry_mark(e, i, RECIPIENT_FAILED);
		entry_diagnosed(e, i);
		scene->counts->failed++;
	}
	buf_free(&text);
}

/* Too old, and with failures of its own: the first refusal, which may come
 * when a long outage ends (greylisting), is never the last word. */
static enum outcome
expire(const struct settle_scene *scene, struct job *j)
{
	struct entry *e = j->entry;
	struct buf text = { NULL, 0, 0 };

	buf_printf(&text, "queue_lifetime is over; last reply: %s", j->reason);
	give_up(scene, e, j->reason);
	entry_defer(e, e->attempts + 1, 0, buf_text(&text));
	buf_free(&text);
	j->entry = NULL;
	finish(scene, e);
	return OUTCOME_OVER;
}

/* The wait after the message's n-th failure, n from 1, ten percent about. */
static int64_t
retry_wait_ms(const struct config *c, unsigned n)
{
	size_t i = n < c->retry_count ? n : c->retry_count;
	int64_t wait = c->retry[i - 1] * 1000;

	return wait + (int64_t)(random_bits() % (uint64_t)(wait / 5 + 1)) -
	    wait / 10;
}

/* Is its sender to be warned now? */
static bool
is_late(const struct settle_scene *scene, const struct entry *e)
{
	int64_t after_ms = scene->config->delay_warning * 1000;

	return scene->late != NULL && after_ms > 0 && !e->warned &&
	    age_ms(scene->ages, scene->now, e->envelope.arrived_ms) >= after_ms;
}

/*
 * Of messages that were lost together the oldest is most likely the cause, and
 * the others, having hardly been looked at, go again at once in their places.
 * If it is in doubt so does the oldest, once, but behind all that are due.
 */
static bool
goes_again_at_once(const struct job *j)
{
	unsigned attempts = j->entry->attempts;

	return j->delivery.behind ? attempts < LOST_BEHIND_MAX
				  : j->delivery.doubtful && attempts == 0;
}

static enum outcome
defer(const struct settle_scene *scene, struct job *j)
{
	struct entry *e = j->entry;
	bool at_once = goes_again_at_once(j);
	int64_t wait =
	    at_once ? 0 : retry_wait_ms(scene->config, e->attempts + 1);

	if (e->attempts > 0 && is_too_old(scene, e))
		return expire(scene, j);
	entry_defer(e, e->attempts + 1, scene->now.wall_ms + wait, j->reason);
	if (is_late(scene, e))
		scene->late(scene->over_arg, e);
	observe_end(scene, e->id, false, "deferred");
	return at_once && j->delivery.behind ? OUTCOME_AGAIN : OUTCOME_LATER;
}

static size_t
untried(const struct delivery *d)
{
	size_t i, n = 0;

	for (i = 0; i < d->recipient_count; i++)
		n += d->recipient[i].verdict == VERDICT_NONE;
	return n;
}

/* Does anybody wait who has, or has not, been tried in this attempt? */
static bool
any_waiting(const struct envelope *e, bool tried)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		if (e->recipient[i].state == RECIPIENT_WAITING &&
		    e->recipient[i].tried == tried)
			return true;
	}
	return false;
}

static bool
any_unsent(const struct delivery *d)
{
	size_t i;

	for (i = 0; i < d->recipient_count; i++) {
		enum verdict v = d->recipient[i].verdict;

		if (v != VERDICT_SENT && v != VERDICT_NONE)
			return true;
	}
	return false;
}

enum outcome
settle(const struct settle_scene *scene, struct job *j)
{
	struct delivery *d = &j->delivery;
	struct entry *entry = j->entry;
	const struct envelope *e = &entry->envelope;
	bool waiting, failed;
	size_t i;

	if (any_unsent(d))
		entry_tried(entry); /* before the log says so */
	for (i = 0; i < d->recipient_count; i++)
		apply(scene, j, &d->recipient[i]);
	waiting = envelope_count(e, RECIPIENT_WAITING) > 0;
	failed = envelope_count(e, RECIPIENT_FAILED) > 0;
	if (waiting || failed || any_to_be_told(e))
		mark_sent(j);
	if (!waiting && failed && j->reason != NULL)
		entry_note(entry, j->reason);
	if (!waiting) {
		j->entry = NULL;
		finish(scene, entry);
		return OUTCOME_OVER;
	}
	if (!any_waiting(e, false))
		return defer(scene, j);
	if (j->reason != NULL || d->recipient_count > untried(d))
		return OUTCOME_MORE;
	if (d->recipient[0].cause == CAUSE_RATE)
		entry_note(entry, d->recipient[0].reply);
	return OUTCOME_AGAIN;
}

enum outcome
settle_rest(const struct settle_scene *scene, struct job *j)
{
	return any_waiting(&j->entry->envelope, true) ? defer(scene, j)
						      : OUTCOME_AGAIN;
}

/* ---- waiting for the relay ---- */

/* RFC 3463 codes for what is wrong with a relay. */
static const char *
fault_status(enum fault_kind kind)
{
	static const char *const status[FAULTS] = {
		[FAULT_NONE] = "4.0.0",
		[FAULT_CONFIG] = "4.3.5",
		[FAULT_DNS] = "4.4.3",
		[FAULT_CONNECT] = "4.4.1",
		[FAULT_GREETING] = "4.3.2",
		[FAULT_EHLO] = "4.3.2",
		[FAULT_STARTTLS] = "4.7.4",
		[FAULT_TLS] = "4.7.5",
		[FAULT_CERTIFICATE] = "4.7.5",
		[FAULT_AUTH] = "4.7.8",
		[FAULT_NO_AUTH] = "4.7.8",
		[FAULT_SHUTDOWN] = "4.3.2",
		[FAULT_ACCOUNT] = "4.7.0",
		[FAULT_QUOTA] = "4.3.2",
		[FAULT_LOST] = "4.4.2",
		[FAULT_TIMEOUT] = "4.4.2",
		[FAULT_PROTOCOL] = "4.5.0",
	};

	return status[kind];
}

/* Too old.  What has never been refused by itself has no report: who could
 * send it? */
static void
strand(const struct settle_scene *scene, struct entry *e,
    const struct fault *fault)
{
	if (e->attempts == 0)
		e->no_report = "the relayhost was at fault all the time";
	give_up(scene, e, e->attempts == 0 ? fault->text : e->reason);
	entry_note(e, fault->text);
	finish(scene, e);
}

static void
tell_waiting(const struct settle_scene *scene, const struct entry *e,
    const struct fault *fault)
{
	size_t i;

	for (i = 0; i < e->envelope.recipient_count; i++) {
		const struct recipient *r = &e->envelope.recipient[i];
		struct line line = { r, scene->peer, fault_status(fault->kind),
			"deferred", fault->text };

		if (r->state == RECIPIENT_WAITING)
			log_line(scene, e, "", &line);
	}
	observe_end(scene, e->id, false, fault->text);
}

void
settle_new(const struct settle_scene *scene, queue_id id,
    const struct envelope *e, const struct fault *fault)
{
	const struct entry entry = { .id = id, .envelope = *e }; /* borrowed */

	tell_waiting(scene, &entry, fault);
}

bool
settle_waiting(const struct settle_scene *scene, struct entry *e,
    const struct fault *fault)
{
	int64_t life = config_lifetime_ms(scene->config, e->envelope.sender);

	if (age_left_ms(scene->ages, scene->now, e->envelope.arrived_ms, life) <
	    0) {
		strand(scene, e, fault);
		return false;
	}
	entry_note(e, fault->text);
	tell_waiting(scene, e, fault);
	return true;
}
