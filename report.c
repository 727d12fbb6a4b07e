/*
 * What "queue" and "status" print, for people and for programs: relayctl
 * prints it of a spool that it reads itself, control.c of the running daemon.
 *
 * The field names of the JSON are an interface; relayctl(8) lists them.
 */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In text: where sender and recipients begin. */
enum { ADDRESS_COLUMN = 45 };

enum { NAME_MAX_SHOWN = 80 }; /* more than struct queue_info has */

/* ---- one message of the queue ---- */

void
report_filter_sort(struct report_filter *f)
{
	if (f->id_count > 0)
		qsort(f->id, f->id_count, sizeof(*f->id), queue_id_compare);
}

bool
report_wants_place(const struct report_filter *f, enum queue_place place)
{
	if (place == PLACE_FAILED)
		return f->failed || f->id_count > 0;
	return !f->failed;
}

static bool
is_one_of(const char *address, const char *a, const char *b)
{
	return span_equal_nocase(span_of(address), span_of(a)) ||
	    span_equal_nocase(span_of(address), span_of(b));
}

static bool
goes_to(const struct envelope *e, const char *address)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		if (is_one_of(address, e->recipient[i].address,
			e->recipient[i].original))
			return true;
	}
	return false;
}

/* What can't be read is nobody's. */
static bool
is_sought(const struct report_filter *f, const struct queue_info *info)
{
	const struct envelope *e = &info->envelope;

	if (f->everyones && f->sender == NULL && f->recipient == NULL &&
	    f->before_ms == 0)
		return true;
	return !info->damaged && (f->everyones || e->uid == (int64_t)f->uid) &&
	    (f->sender == NULL ||
		is_one_of(f->sender, e->sender, e->original_sender)) &&
	    (f->recipient == NULL || goes_to(e, f->recipient)) &&
	    (f->before_ms == 0 || e->arrived_ms < f->before_ms);
}

bool
report_wants(const struct report_filter *f, const struct queue_info *info)
{
	if (!is_sought(f, info))
		return false;
	return f->id_count == 0 ||
	    bsearch(&info->id, f->id, f->id_count, sizeof(*f->id),
		queue_id_compare) != NULL;
}

const char *
report_place(enum queue_place place)
{
	static const char *const names[PLACES] = {
		[PLACE_NEW] = "new",
		[PLACE_CUR] = "waiting",
		[PLACE_HOLD] = "hold",
		[PLACE_FAILED] = "failed",
	};

	return names[place];
}

static const char *
message_state(const struct queue_info *info)
{
	return info->damaged ? "damaged" : report_place(info->place);
}

/* The id, or the file's name where that is none; hold/ has mailq's mark. */
static void
message_name(const struct queue_info *info, const char *mark, char *out,
    size_t size)
{
	char id[QUEUE_ID_MAX];

	queue_id_text(info->id, id);
	(void)snprintf(out, size, "%s%s", info->damaged ? info->name : id,
	    mark);
}

const char *
report_recipient_state(enum recipient_state state)
{
	if (state == RECIPIENT_SENT)
		return "sent";
	return state == RECIPIENT_FAILED ? "failed" : "waiting";
}

static void
message_json(const struct queue_info *info, struct buf *out)
{
	const struct envelope *e = &info->envelope;
	char name[NAME_MAX_SHOWN];
	size_t i;

	message_name(info, "", name, sizeof(name));
	buf_add_text(out, "{\"id\": ");
	buf_add_json(out, span_of(name));
	buf_printf(out,
	    ", \"state\": \"%s\", \"size\": %" PRIu64 ", \"arrived\": ",
	    message_state(info), info->size);
	report_add_json_time(out, e->arrived_ms);
	buf_add_text(out, ", \"sender\": ");
	buf_add_json(out, span_of(e->sender));
	buf_add_text(out, ", \"original_sender\": ");
	buf_add_json(out, span_of(e->original_sender));
	if (info->damaged || e->uid == -1)
		buf_add_text(out, ", \"uid\": null");
	else
		buf_printf(out, ", \"uid\": %" PRId64, e->uid);
	buf_printf(out, ", \"attempts\": %u, \"next_try\": ", info->attempts);
	report_add_json_time(out, info->next_ms);
	buf_add_text(out, ", \"reason\": ");
	buf_add_json(out, span_of(info->reason));
	buf_add_text(out, ", \"recipients\": [");
	for (i = 0; i < e->recipient_count; i++) {
		const struct recipient *r = &e->recipient[i];

		buf_add_text(out,
		    i == 0 ? "{\"address\": " : ", {\"address\": ");
		buf_add_json(out, span_of(r->address));
		buf_add_text(out, ", \"original\": ");
		buf_add_json(out, span_of(r->original));
		buf_printf(out, ", \"state\": \"%s\"}",
		    report_recipient_state(r->state));
	}
	buf_add_text(out, "]}\n");
}

/* In the shape of Postfix's mailq, which scripts know. */
static void
message_text(const struct queue_info *info, struct buf *out)
{
	const struct envelope *e = &info->envelope;
	bool given_up = info->damaged || info->place == PLACE_FAILED;
	char name[NAME_MAX_SHOWN], when[REPORT_TIME];
	size_t i;

	message_name(info, info->place == PLACE_HOLD ? "!" : "", name,
	    sizeof(name));
	report_mailq_time(when, e->arrived_ms);
	buf_printf(out, "%-13s %9" PRIu64 " %-19s  ", name, info->size, when);
	if (e->sender == NULL || e->sender[0] == '\0')
		buf_add_text(out, info->damaged ? "-" : "MAILER-DAEMON");
	else
		buf_add_escaped(out, span_of(e->sender));
	buf_add_char(out, '\n');
	if (given_up || info->reason[0] != '\0')
		buf_printf(out, "    (%s%s%s)\n",
		    given_up ? message_state(info) : "",
		    given_up && info->reason[0] != '\0' ? ": " : "",
		    info->reason);
	for (i = 0; i < e->recipient_count; i++) {
		const struct recipient *r = &e->recipient[i];

		if (r->state == RECIPIENT_SENT ||
		    (r->state == RECIPIENT_FAILED && !given_up))
			continue;
		buf_printf(out, "%*s", ADDRESS_COLUMN, "");
		buf_add_escaped(out, span_of(r->address));
		buf_add_char(out, '\n');
	}
	buf_add_char(out, '\n');
}

void
report_message(const struct queue_info *info, bool json, struct buf *out)
{
	if (json)
		message_json(info, out);
	else
		message_text(info, out);
}

/* ---- counts of the queue ---- */

static void
note_oldest(int64_t *oldest_ms, int64_t arrived_ms)
{
	if (*oldest_ms == 0 || arrived_ms < *oldest_ms)
		*oldest_ms = arrived_ms;
}

void
report_count(struct report_counts *counts, const struct queue_info *info)
{
	int64_t arrived = queue_id_time_ms(info->id);

	switch (info->place) {
	case PLACE_NEW:
	case PLACE_CUR:
		counts->waiting++;
		if (!info->damaged)
			note_oldest(&counts->oldest_ms, arrived);
		break;
	case PLACE_HOLD:
		counts->hold++;
		note_oldest(&counts->oldest_hold_ms, arrived);
		break;
	case PLACE_FAILED:
		counts->failed++;
		note_oldest(&counts->oldest_failed_ms, arrived);
		counts->failed_octets += info->size;
		break;
	case PLACES:
		break;
	}
}

static void
counts_json(const struct report_counts *c, int64_t wall_ms, struct buf *out)
{
	buf_printf(out,
	    "\"queue\": {\"waiting\": %" PRIu64 ", \"active\": %" PRIu64
	    ", \"hold\": %" PRIu64 ", \"failed\": %" PRIu64
	    ", \"failed_octets\": %" PRIu64
	    ", \"reading\": %s, \"oldest_age\": ",
	    c->waiting, c->active, c->hold, c->failed, c->failed_octets,
	    c->reading ? "true" : "false");
	if (c->oldest_ms == 0)
		buf_add_text(out, "null}");
	else
		buf_printf(out, "%" PRId64 "}",
		    (wall_ms - c->oldest_ms) / 1000);
}

static void
counts_text(const struct report_counts *c, int64_t wall_ms, struct buf *out)
{
	buf_printf(out, "queue: %" PRIu64 " waiting%s, %" PRIu64 " active",
	    c->waiting, c->reading ? " (and still counting)" : "", c->active);
	if (c->oldest_ms != 0) {
		buf_add_text(out, ", oldest ");
		report_add_duration(out, (wall_ms - c->oldest_ms) / 1000);
	}
	buf_printf(out, "; %" PRIu64 " on hold; %" PRIu64 " failed", c->hold,
	    c->failed);
	if (c->failed > 0)
		buf_printf(out,
		    "\n    failed: %" PRIu64
		    " Kbytes; see relayctl queue --failed",
		    (c->failed_octets + 1023) / 1024);
	buf_add_char(out, '\n');
}

void
report_stopped(const struct report_counts *counts, int64_t wall_ms, bool json,
    struct buf *out)
{
	if (json)
		buf_add_text(out, "{\"running\": false");
	else
		buf_add_text(out, "relayd is not running\n");
	if (json && counts != NULL) {
		buf_add_text(out, ",\n");
		counts_json(counts, wall_ms, out);
	} else if (counts != NULL) {
		counts_text(counts, wall_ms, out);
	}
	if (json)
		buf_add_text(out, "}\n");
}

/* ---- relays ---- */

static const char *
relay_state(const struct sched_relay_status *r)
{
	if (r->paused)
		return "paused";
	return r->connections > 0 || r->sent_wall_ms != 0 ? "ok" : "idle";
}

/* Is what the relay sends to checked?  (A renamed relay counts as checked.) */
static bool
relay_verified(const struct config *config, const char *name)
{
	size_t i;

	for (i = 0; i < config->relay_count; i++)
		if (span_equal(span_of(config->relay[i].name), span_of(name)))
			return config->relay[i].tls == TLS_NONE ||
			    config->relay[i].tls_verify;
	return true;
}

static void
relay_json(const struct sched_relay_status *r, bool verified, struct buf *out)
{
	buf_add_text(out, "{\"name\": ");
	buf_add_json(out, span_of(r->name));
	buf_add_text(out, ", \"host\": ");
	buf_add_json(out, span_of(r->host));
	buf_printf(out,
	    ", \"port\": %u, \"state\": \"%s\", \"connections\": %u"
	    ", \"tls\": ",
	    r->port, relay_state(r), r->connections);
	buf_add_json(out, span_of(r->tls));
	buf_printf(out, ", \"tls_verify\": %s, \"last_error\": ",
	    verified ? "true" : "false");
	if (r->fault.kind == FAULT_NONE) {
		buf_add_text(out, "null");
	} else {
		buf_printf(out, "{\"kind\": \"%s\", \"code\": %d, \"text\": ",
		    fault_name(r->fault.kind), r->fault.code);
		buf_add_json(out, span_of(r->fault.text));
		buf_add_text(out, ", \"at\": ");
		report_add_json_time(out, r->fault_wall_ms);
		buf_add_char(out, '}');
	}
	buf_add_text(out, ", \"next_try_in\": ");
	if (r->paused)
		buf_printf(out, "%" PRId64, (r->retry_in_ms + 999) / 1000);
	else
		buf_add_text(out, "null");
	buf_add_text(out, ", \"last_success\": ");
	report_add_json_time(out, r->sent_wall_ms);
	buf_printf(out,
	    ", \"sent\": %" PRIu64 ", \"deferred\": %" PRIu64
	    ", \"failed\": %" PRIu64 ", ",
	    r->sent, r->deferred, r->failed);
	report_pace_json(r, out);
	buf_add_char(out, '}');
}

/* When that was, and how long ago. */
static void
add_age(struct buf *out, int64_t then_ms, int64_t wall_ms)
{
	report_add_time(out, then_ms);
	buf_add_text(out, " (");
	report_add_duration(out, (wall_ms - then_ms) / 1000);
	buf_add_text(out, " ago)");
}

static void
relay_text(const struct sched_relay_status *r, bool verified, int64_t wall_ms,
    struct buf *out)
{
	buf_printf(out, "relay %s (%s:%u): %s", r->name, r->host, r->port,
	    relay_state(r));
	if (r->paused) {
		buf_add_text(out, ", next try in ");
		report_add_duration(out, (r->retry_in_ms + 999) / 1000);
	}
	buf_printf(out,
	    "\n    %" PRIu64 " sent, %" PRIu64 " deferred, %" PRIu64
	    " failed; %u connection%s\n",
	    r->sent, r->deferred, r->failed, r->connections,
	    r->connections == 1 ? "" : "s");
	report_pace_text(r, out);
	if (r->paced_ms >= 1000) {
		buf_add_text(out, "    next message in ");
		report_add_duration(out, (r->paced_ms + 999) / 1000);
		buf_add_char(out, '\n');
	}
	if (!verified)
		buf_add_text(out,
		    "    warning: its certificate is not verified "
		    "(tls_verify = false)\n");
	/* An error that a success has followed is history. */
	if (r->fault.kind != FAULT_NONE &&
	    (r->paused || r->fault_wall_ms > r->sent_wall_ms)) {
		buf_add_text(out, "    last error: ");
		add_age(out, r->fault_wall_ms, wall_ms);
		buf_printf(out, ", %s:", fault_name(r->fault.kind));
		report_add_paragraph(out, r->fault.text);
		buf_add_text(out, "    what to do:");
		report_add_paragraph(out, advice_find(&r->fault)->mend);
	}
	if (r->sent_wall_ms != 0) {
		buf_add_text(out, "    last success: ");
		add_age(out, r->sent_wall_ms, wall_ms);
		buf_printf(out, "%s%s\n",
		    r->tls[0] == '\0' ? "" : "\n    encrypted: ", r->tls);
	}
}

/* ---- the whole status ---- */

/* How many relays there are, and how many of them are paused. */
static size_t
count_relays(const struct sched *sched, size_t *paused)
{
	struct sched_relay_status r;
	size_t count = 0;

	*paused = 0;
	while (sched_relay_status(sched, count, &r)) {
		count++;
		if (r.paused)
			++*paused;
	}
	return count;
}

bool
report_is_flowing(const struct sched *sched)
{
	size_t paused, count = count_relays(sched, &paused);

	return paused < count;
}

const char *
report_refusal(const struct report_source *s)
{
	if (queue_is_failing(s->queue))
		return "the spool can't be written";
	return queue_has_room(s->queue, 0, s->config->min_free_space)
	    ? NULL
	    : "the spool has less than min_free_space left";
}

static void
status_json(const struct report_source *s, const char *refusal, struct buf *out)
{
	struct strings listeners = { NULL, 0 };
	struct sched_relay_status r;
	struct submit_status submit;
	size_t i;

	submit_listeners(s->submit, &listeners);
	submit_status(s->submit, &submit);
	buf_printf(out,
	    "{\"running\": true,\n\"version\": \"%s\",\n"
	    "\"pid\": %ld,\n\"accepting\": %s,\n\"flowing\": %s,\n"
	    "\"listeners\": [",
	    RELAYD_VERSION, (long)getpid(), refusal == NULL ? "true" : "false",
	    report_is_flowing(s->sched) ? "true" : "false");
	for (i = 0; i < listeners.count; i++) {
		buf_add_text(out, i == 0 ? "" : ", ");
		buf_add_json(out, span_of(listeners.item[i]));
	}
	buf_add_text(out, "],\n\"relays\": [");
	for (i = 0; sched_relay_status(s->sched, i, &r); i++) {
		buf_add_text(out, i == 0 ? "" : ",\n");
		relay_json(&r, relay_verified(s->config, r.name), out);
	}
	buf_add_text(out, "],\n");
	counts_json(&s->counts, s->wall_ms, out);
	buf_printf(out,
	    ",\n\"submission\": {\"open\": %u, \"sessions\": %" PRIu64
	    ", \"accepted\": %" PRIu64 ", \"rejected\": %" PRIu64
	    ", \"aliases\": %zu}}\n",
	    submit.open, submit.sessions, submit.accepted, submit.rejected,
	    submit.aliases);
	strings_free(&listeners);
}

static void
status_text(const struct report_source *s, const char *refusal, struct buf *out)
{
	struct strings listeners = { NULL, 0 };
	struct sched_relay_status r;
	struct submit_status submit;
	size_t i;

	submit_listeners(s->submit, &listeners);
	submit_status(s->submit, &submit);
	buf_printf(out, "relayd %s is running (pid %ld)\n", RELAYD_VERSION,
	    (long)getpid());
	if (refusal != NULL)
		buf_printf(out, "mail is not accepted: %s\n", refusal);
	buf_add_text(out,
	    report_is_flowing(s->sched)
		? "mail is flowing\n"
		: "mail is not flowing: every relay is paused\n");
	for (i = 0; i < listeners.count; i++)
		buf_printf(out, "listening on %s\n", listeners.item[i]);
	for (i = 0; sched_relay_status(s->sched, i, &r); i++)
		relay_text(&r, relay_verified(s->config, r.name), s->wall_ms,
		    out);
	counts_text(&s->counts, s->wall_ms, out);
	buf_printf(out,
	    "submission: %" PRIu64 " accepted, %" PRIu64 " rejected; %" PRIu64
	    " sessions, %u open\n",
	    submit.accepted, submit.rejected, submit.sessions, submit.open);
	strings_free(&listeners);
}

bool
report_status(const struct report_source *s, bool json, struct buf *out)
{
	const char *refusal = report_refusal(s);
	size_t paused;

	if (json)
		status_json(s, refusal, out);
	else
		status_text(s, refusal, out);
	(void)count_relays(s->sched, &paused);
	return paused == 0 && s->counts.failed == 0 && refusal == NULL;
}
