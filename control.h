/*
 * The control socket's inside: between client.c, operate.c, verbs.c and
 * control.c only.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "report.h"

enum { STATUS_GOOD = 0, STATUS_WRONG = 1, STATUS_USAGE = 64 };

enum { CLIENT_TIMEOUT_MS = 30 * 1000 }; /* for the request; without progress */

struct control {
	struct control_parts parts;
	struct config *config;
	char *path; /* of the socket; NULL: it was handed to us */
	int fd;
	struct timer accept_again;
	uid_t overflow_uid; /* stands for every uid without a name here */
	struct client *clients;
	unsigned client_count;
};

/* A test message, or reports, on their way to the disk; freed when they are
 * there. */
struct pending {
	struct client *client; /* NULL: has left */
	unsigned left;         /* reports */
};

struct client {
	struct control *control;
	struct client *next;
	int fd;
	uid_t uid;
	struct timer timer;
	struct buf in;
	struct strings words; /* of the request */
	struct buf out;
	bool ended; /* the answer is complete */

	/* Makes more of the answer; NULL: nothing more is to come by itself. */
	void (*produce)(struct client *c);

	/* The walk through the spool, place by place. */
	unsigned places; /* bits: 1 << PLACE_... */
	unsigned place;  /* the next one */
	struct queue_walk *walk;
	void (*visit)(struct client *c, const struct queue_info *info);
	void (*visited)(struct client *c); /* that was all */
	bool json;
	struct report_filter filter;
	struct report_counts counts;

	/* What is done to chosen messages. */
	const struct operation *operation;
	bool operation_failed; /* with one of them */
	queue_id *chosen;
	size_t chosen_count;
	size_t chosen_at; /* the next one */
	size_t chosen_done;

	/* The test message that is followed. */
	bool testing;
	struct pending *pending; /* the answer waits for it */
	queue_id test;           /* 0: not known yet */
	int64_t test_ends_ms;    /* monotonic */
};

/* ---- client.c: a client and its answer ---- */

bool client_is_operator(const struct client *c);
/* Is the word at *i this option?  Then go past it. */
bool client_take_option(const struct client *c, const char *option, size_t *i);
/* The words from the i-th on are queue ids, for c->filter; false: refused. */
bool client_take_ids(struct client *c, size_t i);
/* Look at each message in places (1 << PLACE_...), in slices. */
void client_walk(struct client *c, unsigned places,
    void (*visit)(struct client *c, const struct queue_info *info),
    void (*visited)(struct client *c));

/* Add lines to the answer; kind: 'o' or 'e'. */
void client_add(struct client *c, char kind, struct span text);
void client_say(struct client *c, char kind, struct span text); /* and send */
/* A line on standard error: what it is about (escaped) and the text. */
void client_complain(struct client *c, const char *about, const char *text);
void client_usage(struct client *c); /* the arguments are wrong; ends it */
void client_finish(struct client *c, int status); /* ends the answer */
void client_wake(struct client *c); /* there is something to send or to do */
void client_wait(struct client *c); /* there will be, by itself */
void client_free(struct client *c);

/* ---- operate.c: the verbs that are about chosen messages ---- */

void client_operate(struct client *c);

/* ---- verbs.c ---- */

/* Do what c->words ask for; the answer follows. */
void client_run(struct client *c);
void client_on_timer(void *arg);
/* The sched_observer; its arg is the struct control. */
void client_on_delivery(void *arg, queue_id id, const char *text, bool sent,
    bool settled);

#endif
