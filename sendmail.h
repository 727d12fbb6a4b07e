/*
 * What the parts of the sendmail command share.  None of them writes to
 * stderr: they append lines to a buf, and sendmail.c tells them.  Their int
 * results are exit statuses of sysexits.h, 0 for success.
 */
#ifndef SENDMAIL_H
#define SENDMAIL_H

#include "relayd.h"

/* ---- sendmail_caller.c: who calls it --------------------------------------- */

/* Sought when it is asked for, once; zeroed before. */
struct caller {
	struct buf login, gecos; /* "": not known */
	bool sought;
};

/* The login; one that is not known or can't stand in an address: "uid12". */
void caller_add_login(struct caller *c, struct buf *out);
/* The first part of GECOS, where & is the login; "": not known. */
void caller_add_full_name(struct caller *c, struct buf *out);
void caller_free(struct caller *c);

/* ---- sendmail_message.c: the message as read from standard input --------- */

enum {
	MESSAGE_IN_MEMORY = 1 << 20,
	MESSAGE_MAX = 1 << 30, /* whatever the daemon takes */
	LIMIT_NAME = 256,      /* of a full name: what follows is cut off */
};

/* All zero but file, which is -1, and ask_limit before message_read(). */
struct message {
	/* How much the daemon takes, 0 if that can't be told; asked for when
	 * the text does not fit in memory. */
	uint64_t (*ask_limit)(void);
	uint64_t limit;  /* 0: not known */
	struct buf top;  /* what is put before the text */
	struct buf text; /* its first MESSAGE_IN_MEMORY octets */
	size_t skip;     /* octets at its start that are not sent */
	int file;        /* what follows them, unlinked; -1: nothing does */
	uint64_t file_size;
	struct buf header; /* the header section, canonical */
	bool headless;     /* the text starts with its body */
};

/* Read fd to its end.  dot_ends: or to a line with a single dot. */
int message_read(struct message *m, int fd, bool dot_ends, struct buf *error);
/* Put a From field on top; name: "" for none. */
void message_add_from(struct message *m, struct span name, const char *address);
uint64_t message_size(const struct message *m); /* of what is sent, octets */
void message_free(struct message *m);

/* ---- sendmail_connect.c: the way to the daemon ---------------------------- */

struct talk {
	int fd;       /* -1 before talk_open() */
	pid_t child;  /* "relayd --stdio" when the daemon is down; else 0 */
	bool verbose; /* show the dialogue on stderr */
	bool hurry;   /* wait neither for the daemon nor long for replies */
	bool quit;    /* QUIT has been said */
	bool closed;  /* nothing more can be read, nor may be written */
	unsigned can; /* SMTP_CAN_* */
	uint64_t size_limit;     /* 0: not told */
	int64_t deadline_ms;     /* for the replies to what was sent last */
	struct buf input;        /* what was read ... */
	size_t used;             /* ... and how much of it has been looked at */
	struct smtp_reply reply; /* the last one */
};

int64_t now_ms(void); /* CLOCK_MONOTONIC */
/* The path of another program of ours: beside this one, or installed. */
void program_path(const char *name, struct buf *path);

/* Connect to the submission socket; wait for the daemon to come up, or do
 * without it where this user may, unless in a hurry. */
int talk_open(struct talk *t, struct buf *error);
/* Copy SMTP from and to standard input and output, instead of what follows. */
int talk_copy(struct talk *t);

/* ---- sendmail_talk.c: the dialogue with the daemon --------------------- */

struct mail {
	const char *sender; /* "" is the null sender */
	struct strings recipients;
	uint64_t size;   /* 0: not known */
	bool verify;     /* tell of accepted recipients too */
	unsigned notify; /* of all recipients; 0: not given */
	enum dsn_return ret;
	const char *envid; /* NULL: not given */
};

int talk_greet(struct talk *t, struct buf *error);
/* Begin a transaction; a line for each recipient that was refused. */
int talk_envelope(struct talk *t, const struct mail *mail, struct buf *told);
/* Hand over the content; 0: the message is durable. */
int talk_content(struct talk *t, const struct message *m, struct buf *error);
/* End the dialogue; a transaction that is open is given up. */
void talk_close(struct talk *t);
/* The largest message that the daemon takes, octets; 0: it does not tell, or
 * is not there. */
uint64_t talk_size_limit(void);

#endif
