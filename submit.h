/*
 * The parts of the submission side; between listen.c, intake.c, session.c,
 * submit.c and bounce.c only (listen_unix() is in relayd.h).
 */
#ifndef SUBMIT_H
#define SUBMIT_H

#include "relayd.h"

#include <sys/queue.h>

/* ---- listen.c: listening sockets, and who is at the other end ------------ */

struct peer {
	int64_t uid;               /* of a unix socket's; -1 on TCP */
	unsigned char address[16]; /* IPv6, or IPv4 mapped; 0 on unix */
	bool local;                /* on this machine */
	bool may_relay;
	bool reject_bare_newline;
	char name[64];     /* for the log: "localhost[127.0.0.1]" */
	char received[64]; /* for Received: "localhost [127.0.0.1]" */
};

void peer_user(struct peer *p, uid_t uid); /* a local one: "userid 1000" */
bool peer_equal(const struct peer *a, const struct peer *b);

struct listener;

/* A connection; fd is the handler's. */
typedef void listener_accepted(void *arg, int fd, const struct peer *peer);

/*
 * Listen on c->address, or on fd (which becomes ours) unless it is -1.
 * returns NULL with errno and a line of text in error.
 */
struct listener *listener_new(struct loop *l, const struct config_listen *c,
    int fd, struct buf *error);
void listener_accept(struct listener *l, listener_accepted *accepted,
    void *arg);
void listener_configure(struct listener *l, const struct config_listen *c);
void listener_free(struct listener *l); /* a socket file that we made goes */

bool listener_is_for(const struct listener *l, const struct config_listen *c);
bool listener_adopted(const struct listener *l);
const char *listener_bound(const struct listener *l); /* "127.0.0.1:2525" */

/* ---- intake.c: a message on its way in, from MAIL to the spool ----------- */

struct intake; /* what all messages share: rules, aliases, queue */

struct intake *intake_new(struct loop *l, struct queue *q, struct sched *sched,
    struct config *config);
void intake_free(struct intake *in);
void intake_configure(struct intake *in, struct config *config);
size_t intake_aliases(const struct intake *in);
unsigned intake_pending(const struct intake *in); /* commits not done */
struct queue *intake_queue(const struct intake *in);
/* The rules of now, with the aliases read again if they have changed. */
struct rewrite_rules intake_rules(struct intake *in);
/* The reply for the errno of a commit. */
const char *intake_refusal(int error);

/* Where a message comes from; borrowed until draft_commit(). */
struct draft_facts {
	const struct peer *peer;
	const char *helo; /* "" none */
	bool esmtp;
	struct smtp_mail mail;
};

struct draft; /* a message that is not committed */

/* In what follows const char * is NULL, or the reply to refuse with (static
 * text). */
const char *draft_new(struct intake *in, const struct draft_facts *facts,
    struct span sender, struct draft **out);
void draft_free(struct draft *d); /* nothing is kept; NULL is fine */
/* Of several that stand for one address, the first's parameters count. */
const char *draft_recipient(struct draft *d, struct span address,
    const struct smtp_rcpt *parameters);
/* Content is to follow, of so many octets as far as is known.  May be called
 * again, for more.  From then on there is an id. */
const char *draft_begin(struct draft *d, uint64_t octets);
/* More content, canonical text.  Once there is a refusal it is dropped. */
void draft_write(struct draft *d, struct span text);
void draft_refuse(struct draft *d,
    const char *reply); /* the first one counts */
const char *draft_refusal(const struct draft *d);
/*
 * The content is complete.  NULL: handler will be called, as queue_commit()
 * says; the draft is freed behind that call.  Else it is still the caller's.
 */
const char *draft_commit(struct draft *d, queue_committed *handler, void *arg);
const char *draft_id(
    const struct draft *d); /* "NOQUEUE" before draft_begin() */
const char *draft_sender(const struct draft *d); /* as given */

/* ---- requeue.c ---- */

/* Read at least the header section of e, from where it stands, into text; how
 * long it is, and where the body begins.  -1: errno. */
int intake_read_header(struct entry *e, struct buf *text, size_t *header,
    size_t *body);

int intake_requeue(struct intake *in, queue_id id); /* see submit_requeue() */

/* ---- submit.c ---- */

struct intake *submit_intake(struct submit *s);

/* ---- session.c: the dialogue with one client ------------------------------ */

struct session;

/* What all sessions share; submit.c owns it. */
struct sessions {
	struct loop *loop;
	struct intake *intake;
	struct config *config;
	struct submit_status count;
	LIST_HEAD(session_list, session) list;
	bool stopping;
	struct buf text; /* scratch: content being decoded */
	/* For the log, of the minute that ends with the report. */
	uint64_t silent; /* sessions that ended without a command */
	struct peer last_silent;
	uint64_t refusals;
	struct peer last_refused;
	struct timer report;
};

/*
 * A session on two descriptors, which may be one and become its own.  It
 * frees itself when it is over, and calls ended first, unless that is NULL.
 */
struct session *session_new(struct sessions *all, int in, int out,
    const struct peer *peer);
void session_on_end(struct session *s, void (*ended)(void *arg), void *arg);
void session_start(struct session *s); /* greets; it may be over at once */
size_t sessions_of(const struct sessions *all, const struct peer *peer);
/* Those between two messages get 421, the others after theirs. */
void sessions_stop(struct sessions *all);
void sessions_end(struct sessions *all); /* whatever they do */

#endif
