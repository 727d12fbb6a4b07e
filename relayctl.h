/*
 * The parts of relayctl; between relayctl.c, relayctl_list.c,
 * relayctl_check.c and relayctl_explain.c only.
 */
#ifndef RELAYCTL_H
#define RELAYCTL_H

#include "report.h"

enum { STATUS_GOOD = 0, STATUS_WRONG = 1, STATUS_USAGE = 64 };

/* ---- relayctl_list.c: what "queue" prints ---- */

struct message {
	queue_id id;
	uint64_t size;
	size_t at; /* its text in the listing's */
	size_t len;
};

/* All zero is an empty one. */
struct listing {
	struct message *message;
	size_t count;
	struct buf text;
};

/* Take a line of the daemon's answer; arg: the listing. */
void listing_line(void *arg, char kind, struct span text);
/* Take what is in the spool. */
void listing_read(struct listing *l, struct queue *q,
    const struct report_filter *f, bool json);
/* Print it, the oldest first; returns the exit status. */
int listing_print(struct listing *l, const struct report_filter *f, bool json);
void listing_free(struct listing *l);

/* ---- relayctl_check.c ---- */

/*
 * The verb "check", once the configuration is read: look at all that it
 * names with the rights that the daemon will have, and print what is well and
 * what is not.
 * running  a daemon answers on the control socket.
 * returns  the exit status.
 */
int relayctl_check(const struct config *config, bool running);

/* ---- relayctl_explain.c ---- */

/*
 * The verb "explain": print how a message from sender ("": the null sender) to
 * the recipients (valid addresses) would be rewritten.
 * returns  the exit status; STATUS_WRONG when a recipient would be refused.
 */
int relayctl_explain(const struct config *config, const char *sender,
    const struct strings *recipients, bool json);

#endif
