/*
 * history.c's contract: what became of recipients, for "relayctl log".
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "relayd.h"

struct history_line {
	int64_t wall_ms;  /* when it was known */
	int64_t delay_ms; /* since the message was accepted */
	queue_id id;
	struct span status; /* "sent", "deferred", "bounced" */
	struct span dsn, sender, to, original, relay, reply;
};

/* Written to the spool's files "history.1" and "history", limit octets
 * together; 0: not at all.  Never fails: what can't be written is counted. */
struct history;
struct history *history_new(const struct queue *q, uint64_t limit);
void history_resize(struct history *h, uint64_t limit);
void history_add(struct history *h, const struct history_line *line); /* NULL
    is fine */
void history_free(struct history *h);
/* Tell every line, the oldest first; -1: errno. */
typedef void history_handler(void *arg, const struct history_line *line);
int history_read(const struct queue *q, history_handler *handler, void *arg);

#endif
