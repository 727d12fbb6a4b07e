/*
 * Between control.c and client.c only: a client of the control socket.
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

/* A test message on its way to the disk; freed when it is there. */
struct pending {
	struct client *client; /* NULL: has left */
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

	/* The walk through the spool, place by place. */
	bool walking;
	unsigned places; /* bits: 1 << PLACE_... */
	unsigned place;  /* the next one */
	struct queue_walk *walk;
	void (*visit)(struct client *c, const struct queue_info *info);
	void (*visited)(struct client *c); /* that was all */
	bool json;
	struct report_filter filter;
	struct report_counts counts;

	/* The test message that is followed. */
	bool testing;
	struct pending *pending;
	queue_id test;        /* 0: not known yet */
	int64_t test_ends_ms; /* monotonic */
};

/* ---- client.c ---- */

bool client_is_operator(const struct client *c);
/* Do what c->words ask for; the answer follows. */
void client_run(struct client *c);
/* A line on standard error: what it is about (escaped) and the text. */
void client_complain(struct client *c, const char *about, const char *text);
void client_finish(struct client *c, int status); /* ends the answer */
void client_on_timer(void *arg);
void client_free(struct client *c);
/* The sched_observer; its arg is the struct control. */
void client_on_delivery(void *arg, queue_id id, const char *text, bool sent,
    bool settled);

#endif
