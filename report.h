/*
 * The contract of report_text.c, report_pace.c and report.c: what "queue" and
 * "status" print.  For control.c and relayctl.c.
 */
#ifndef REPORT_H
#define REPORT_H

#include "relayd.h"

/* Times and waits as every verb shows them. */
enum { REPORT_TIME = 32 };
void report_mailq_time(char out[REPORT_TIME], int64_t wall_ms); /* "Tue Nov 24
    05:14:29" */
void report_add_time(struct buf *out, int64_t wall_ms); /* local, and short */
void report_add_json_time(struct buf *out, int64_t wall_ms); /* RFC 3339 in
    UTC, with quotes; 0 is null */
void report_add_duration(struct buf *out, int64_t seconds);  /* "3 m" */
/* A sentence below what it is about, in lines of 80 columns where its words
 * allow. */
void report_add_paragraph(struct buf *out, const char *text);

const char *report_place(enum queue_place place); /* "new", "waiting" ... */
const char *report_recipient_state(enum recipient_state state);

/* Which messages "queue" lists, or others are about. */
struct report_filter {
	bool failed;    /* those in failed/ only; else all others */
	bool everyones; /* or only those that uid sent */
	uid_t uid;
	queue_id *id;          /* only these, in whatever place; owned */
	size_t id_count;       /* 0: all */
	const char *sender;    /* only from it, as given or rewritten; "" is
				  the null sender; NULL: from anybody */
	const char *recipient; /* only to it, the same way; NULL: to anybody */
	int64_t before_ms;     /* arrived before (wall clock); 0: ever */
};
void report_filter_sort(struct report_filter *f); /* once, before the rest */
bool report_wants_place(const struct report_filter *f, enum queue_place place);
bool report_wants(const struct report_filter *f, const struct queue_info *info);

/* One message (walked with its envelope): a line of JSON without comma, or
 * lines in mailq's manner and an empty one. */
void report_message(const struct queue_info *info, bool json, struct buf *out);

struct report_counts {
	uint64_t waiting, active, hold, failed; /* messages */
	uint64_t failed_octets;
	int64_t oldest_ms; /* wall clock arrival of the oldest that waits; 0:
			      none */
	int64_t oldest_hold_ms, oldest_failed_ms; /* the same of the others */
	bool reading; /* there may be more waiting */
};
void report_count(struct report_counts *counts, const struct queue_info *info);

/* The status while no daemon runs; counts NULL: the spool can't be read. */
void report_stopped(const struct report_counts *counts, int64_t wall_ms,
    bool json, struct buf *out);

/* Of a relay, how fast it may be sent to: members of its object; lines. */
void report_pace_json(const struct sched_relay_status *r, struct buf *out);
void report_pace_text(const struct sched_relay_status *r, struct buf *out);

struct report_source {
	const struct loop *loop; /* for metrics.c */
	const struct config *config;
	const struct queue *queue;
	const struct sched *sched;
	const struct submit *submit;
	struct report_counts counts;
	int64_t wall_ms;
};
/* The status of this daemon; true: all is well. */
bool report_status(const struct report_source *s, bool json, struct buf *out);
const char *report_refusal(const struct report_source *s); /* why mail is not
    accepted; NULL: it is */
bool report_is_flowing(const struct sched *sched); /* not every relay paused */

#endif
