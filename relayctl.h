/*
 * The parts of relayctl; between relayctl*.c only.
 */
#ifndef RELAYCTL_H
#define RELAYCTL_H

#include "report.h"

#include <getopt.h>
#include <stdio.h>

enum { STATUS_GOOD = 0, STATUS_WRONG = 1, STATUS_USAGE = 64 };

struct ctl {
	const char *file;
	bool file_given;
	struct config *config; /* NULL: it can't be read, or is wrong */
	struct buf errors;
	struct buf warnings;
};

/* ---- relayctl_ask.c: what the verbs have in common ---- */

void relayctl_print(FILE *to, struct span text);
int relayctl_usage(void); /* to standard error; STATUS_USAGE */
int relayctl_help(void);
int relayctl_refuse(const char *what, const char *why); /* STATUS_USAGE */

enum { LATER = 'L' }; /* the value of an option for a later version */
/* The next option of a verb: its value, -1 at the end, '?' after a complaint. */
int relayctl_option(int argc, char **argv, const struct option *options);
/* Queue ids, an address, a duration among the arguments; false: complained. */
bool relayctl_ids(int argc, char **argv, struct report_filter *f);
bool relayctl_address(const char *text);
bool relayctl_duration(const char *text, int64_t *seconds);

/* The spool, where it may and is to be read without the daemon; or NULL. */
struct queue *relayctl_spool(const struct ctl *ctl);
/* The same for verbs that can't ask the daemon; NULL: complained. */
struct queue *relayctl_need_spool(const struct ctl *ctl);

/* Told each line of an answer: its first octet and the rest. */
typedef void relayctl_line(void *arg, char kind, struct span text);
relayctl_line relayctl_print_line;

enum { NOT_RUNNING = -1 }; /* instead of an exit status */
/* Have the daemon do what argv says, its options first.
 * returns its exit status, or NOT_RUNNING with errno. */
int relayctl_ask(const struct ctl *ctl, int argc, char **argv,
    relayctl_line *handler, void *arg);
int relayctl_ask_and_print(const struct ctl *ctl, int argc, char **argv);
int relayctl_unreachable(const struct ctl *ctl); /* errno; STATUS_WRONG */
int relayctl_connect(const struct ctl *ctl);     /* to the daemon, or -1 */

/* ---- relayctl_operate.c: these verbs ---- */

int relayctl_flush(const struct ctl *ctl, int argc, char **argv);
/* hold, release, requeue, delete: of messages named or sought. */
int relayctl_operate(const struct ctl *ctl, int argc, char **argv);

/* ---- relayctl_show.c, relayctl_history.c: "show" and "log" ---- */

int relayctl_show(const struct ctl *ctl, int argc, char **argv);
int relayctl_history(const struct ctl *ctl, int argc, char **argv);

/* ---- relayctl_config.c: "config" and "set" ---- */

int relayctl_config(const struct ctl *ctl, int argc, char **argv);
int relayctl_set(const struct ctl *ctl, int argc, char **argv);

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
/* Have it done by a process with the rights of the daemon's user. */
int relayctl_as_user(const struct config *config, int (*job)(void *arg),
    void *arg);

/* ---- relayctl_online.c: "check --online", the doctor ---- */

/* Walk to the relay of this name, or all of them (NULL), and say what is the
 * first thing wrong.  Returns the exit status. */
int relayctl_online(const struct config *config, const char *relay, bool json);

/* ---- relayctl_explain.c ---- */

/*
 * The verb "explain": print how a message from sender ("": the null sender) to
 * the recipients (valid addresses) would be rewritten.
 * returns  the exit status; STATUS_WRONG when a recipient would be refused.
 */
int relayctl_explain(const struct config *config, const char *sender,
    const struct strings *recipients, bool json);

#endif
