/*
 * One client; between reply.c, dialogue.c and session.c only.
 */
#ifndef SESSION_H
#define SESSION_H

#include "submit.h"

enum state {
	AWAIT_HELLO,
	AWAIT_MAIL,
	AWAIT_RCPT, /* the first */
	AWAIT_DATA, /* or more recipients */
	AWAIT_BDAT, /* a chunk has come, the last has not */
	IN_DATA,
	IN_CHUNK,
	IN_COMMIT, /* the reply waits for the disk, and all else for it */
	CLOSING,   /* as soon as the output is written */
	LINGERING, /* it is; what still comes in is dropped */
};

struct session {
	struct sessions *all;
	LIST_ENTRY(session) entry;
	struct peer peer;
	enum state state;

	/* The connection. */
	int in;
	int out;
	bool gone;    /* to be freed when no commit waits */
	bool refused; /* hung up on: it may still be sending */
	bool file;    /* in is one, which epoll refuses: it is always ready */
	struct buf input;
	struct buf output;
	bool early; /* there is input while the message is being stored */
	unsigned watched_in;
	unsigned watched_out;
	void (*event)(void *arg, unsigned events);
	struct timer again; /* there is work of which no event tells */
	struct timer deadline;
	void (*ended)(void *arg);
	void *ended_arg;

	/* The dialogue. */
	size_t at;       /* octets of input that are done with */
	size_t overlong; /* octets of a command line already dropped */
	char *helo;      /* "" none */
	bool esmtp;
	bool utf8; /* SMTPUTF8 was given to MAIL */
	enum smtp_verb verb;
	struct span subject; /* the command's address, for the log */
	unsigned asked[SMTP_VERBS];
	unsigned granted[SMTP_VERBS];
	unsigned commands;
	unsigned errors;
	unsigned junk; /* since the last message */

	/* The message. */
	struct draft *draft; /* from MAIL on */
	bool tried;          /* a recipient, taken or not */
	struct smtp_decoder decoder;
	uint64_t content;     /* octets that came so far */
	uint64_t content_was; /* when the deadline was set ... */
	int64_t patience_ms;  /* ... so far ahead */
	uint64_t chunk_left;
	bool chunk_last;
	const char *chunk_refusal; /* NULL, or why the chunk is dropped */
	enum state after_refusal;
	queue_id told; /* "queued as" this is in output; 0: nothing */
};

/* ---- reply.c: what a client is told, and the log about it ----------------- */

void session_log_after(const struct session *s, const char *what);
void session_log_connect(const struct session *s);
void session_log_client(const struct session *s); /* draft has its id */
void session_log_end(struct session *s);
void sessions_report(struct sessions *all); /* what had no line of its own */

void session_say(struct session *s, const char *text); /* just that */
/* The final reply to s->verb: counted, and logged if it is a refusal. */
void session_reply(struct session *s, const char *text);
void session_set_deadline(struct session *s);
void session_drop_message(struct session *s);
/* End the session with a reply that no command asked for.  returns CLOSING */
enum state session_hang_up(struct session *s, const char *text,
    const char *why);
void session_flush(struct session *s); /* as far as output can be written */

/* ---- dialogue.c: commands and content ------------------------------------- */

void session_run(struct session *s); /* all that input has */

#endif
