/*
 * Mail transactions, apart from any connection: what transaction.c and
 * pipeline.c offer to relay.c and to nobody else.
 */
#ifndef TRANSACTION_H
#define TRANSACTION_H

#include "relayd.h"

/* Everything that is answered. */
enum command {
	COMMAND_RSET,
	COMMAND_MAIL,
	COMMAND_RCPT,
	COMMAND_DATA,
	COMMAND_END, /* the dot */
	COMMAND_BDAT,
	COMMAND_QUIT,
};
const char *command_name(enum command c); /* "MAIL"; "message" */

/* What a transaction writes next, in this order. */
enum step {
	STEP_RSET,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA, /* DATA or BDAT */
	STEP_WAIT, /* nothing until 354 */
	STEP_CONTENT,
	STEP_WRITTEN, /* nothing more */
};

struct transaction {
	struct transaction *next;
	struct delivery *delivery;
	const char *null_sender; /* in place of <>; NULL or "": <> */
	enum step step;
	size_t asked;    /* recipients: their RCPT is written */
	size_t answered; /* of these */
	size_t accepted; /* of these */
	size_t waiting;  /* replies outstanding, of any kind */
	bool chunked;    /* BDAT, not DATA */
	bool open;       /* MAIL was taken and nothing has ended it since */
	bool line_start; /* of the content, for the dots */
	struct conversion *conversion; /* NULL: the content goes as it is */
	uint64_t size;                 /* of the content as sent, octets */
	uint64_t left;                 /* of these */
	uint64_t end; /* where in the link's stream the content ends;
			    UINT64_MAX until it is queued */
};

/* Give every undecided recipient this verdict. */
void delivery_settle(struct delivery *d, enum verdict verdict,
    const char *status, const char *text);
/* The one that this refusal is. */
void delivery_settle_reply(struct delivery *d, const struct smtp_reply *reply);

/* Octets: too dear to send in vain, or to read once more. */
enum { TRANSACTION_LARGE = 256 << 10 };

/* For a relayhost that offers this (SMTP_CAN_*). */
struct transaction *transaction_new(struct delivery *d, unsigned can);
void transaction_free(struct transaction *t);

enum preparation {
	PREPARATION_MORE,  /* call again: the message is large */
	PREPARATION_READY, /* at STEP_MAIL */
	PREPARATION_OVER,  /* not possible: every recipient has its verdict */
};
/* Find out, for some milliseconds, whether and how the relayhost can take it,
 * and unless it is large, whether all of it can be read.
 * size_limit: 0: none. */
enum preparation transaction_prepare(struct transaction *t, unsigned can,
    uint64_t size_limit);
/* The content can't be read (errno): every recipient waits. */
void transaction_unreadable(struct transaction *t);

/* Neither of the next two appends more than so many octets. */
enum { TRANSACTION_ROOM = 64 << 10 };

/* Append the command that the step asks for, which is at most STEP_DATA, and
 * go on to the next.  BDAT is used when can has SMTP_CAN_CHUNKING. */
enum command transaction_command(struct transaction *t, unsigned can,
    struct buf *out);
/* Append more of the content.  -1: it can't be read (EBADMSG: it is damaged)
 * and so must never be completed. */
int transaction_content(struct transaction *t, struct buf *out);

enum reply_meaning {
	REPLY_FINE,     /* nothing that concerns the connection */
	REPLY_SENT,     /* the message has been taken */
	REPLY_ACCOUNT,  /* not the message's fault but our account's */
	REPLY_QUOTA,    /* the same until tomorrow */
	REPLY_CROWDED,  /* we have too many connections */
	REPLY_NO_BDAT,  /* CHUNKING was offered but is not there */
	REPLY_NONSENSE, /* we are out of step with each other */
};

/* How much of what a reply answers was written when it was read. */
enum written {
	WRITTEN_PART,    /* not all of the command */
	WRITTEN_COMMAND, /* not all of the content that follows it */
	WRITTEN_ALL,
};

/* Judge by a whole reply (not 421) to a command of t. */
enum reply_meaning transaction_reply(struct transaction *t,
    enum command command, enum written written, const struct smtp_reply *reply);

bool command_is_end(enum command c); /* END or BDAT */

/* ---- pipeline.c ---- */

/* A reply that a command is owed. */
struct expected {
	enum command command;
	struct transaction *transaction; /* NULL: QUIT */
	uint64_t end; /* of the command in the stream; DATA, for the dot */
};

/* What is in flight on a link, oldest first; all zero at first. */
struct pipeline {
	unsigned can;    /* SMTP_CAN_*; CHUNKING only with PIPELINING */
	unsigned window; /* messages: grows ... */
	unsigned limit;  /* ... to this */
	bool dirty;      /* RSET before the next MAIL */
	struct transaction *oldest;
	struct transaction *newest;
	unsigned count;
	struct expected *expected;   /* in the order of the commands */
	size_t first, waiting, size; /* of expected */
};

void pipeline_init(struct pipeline *p, unsigned can, unsigned limit);

/* May a transaction be added?  (The newest one is written.) */
bool pipeline_has_room(const struct pipeline *p);
void pipeline_add(struct pipeline *p, struct transaction *t); /* consumed */
/* May the newest write its next command? */
bool pipeline_may_ask(const struct pipeline *p);
/* Take the oldest out, which waits for nothing, and free it. */
struct delivery *pipeline_drop(struct pipeline *p);

void pipeline_confirm(struct pipeline *p);   /* a message was taken */
void pipeline_lock_step(struct pipeline *p); /* from now on */
void pipeline_no_bdat(struct pipeline *p);   /* the same; nothing in flight */

/* A command has been queued that ends here in the stream. */
void pipeline_expect(struct pipeline *p, enum command command,
    struct transaction *t, uint64_t end);
/* The oldest reply owed, of which there is one; take: it has come. */
const struct expected *pipeline_expected(const struct pipeline *p);
struct expected pipeline_take(struct pipeline *p);
/* When so much of the stream is written. */
enum written expected_written(const struct expected *e, uint64_t octets);

#endif
