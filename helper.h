/*
 * helper.c's contract: commands that print a password.  For conn.c, startup.c,
 * relayd.c, relayctl_check.c, relayctl_online.c and relayctl_session.c.
 */
#ifndef HELPER_H
#define HELPER_H

#include "relayd.h"

struct helper;     /* a process that runs them */
struct helper_run; /* one of them, running */
struct helper_result {
	struct buf password;
	struct buf says;  /* on stderr: raw, less newlines at its end */
	struct buf error; /* why there is no password; empty: there is one */
};
void helper_result_wipe(struct helper_result *r);

/* Fork the process, which calls enter() first (-1: it ends) and runs nothing
 * but these commands.  No descriptor that matters may be open.  NULL: errno. */
struct helper *helper_new(const struct strings *commands,
    int (*enter)(void *arg), void *arg);
void helper_free(struct helper *h); /* NULL is fine */
bool helper_knows(const struct helper *h, const char *command); /* h or NULL */
/* Run a command, of at most 30 s; done() is called from the loop, and its
 * result is the caller's to wipe by helper_cancel().  NULL: it can't be. */
struct helper_run *helper_start(struct helper *h, struct loop *l,
    const char *command, void (*done)(void *arg, struct helper_result *result),
    void *arg);
void helper_cancel(struct helper_run *run); /* NULL is fine */
/* Run it here and wait (relayctl).  -1: error says why. */
int helper_output(const char *command, struct helper_result *result);

#endif
