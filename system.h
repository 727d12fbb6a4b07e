/*
 * Between system.c, startup.c, relayd.c and relayctl_check.c only: what the
 * system has in store for a daemon.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#include "relayd.h"

/* Descriptors 0 to 2 are open, all others but the passed ones are closed;
 * umask, signals and limits are as a daemon needs them. */
void system_prepare(void);
/* No privileges to be had by exec, no core dump, no reader of our memory. */
void system_confine(void);

/* Who we are to be. */
struct identity {
	bool change; /* started as root: become uid and gid */
	uid_t uid;
	gid_t gid;
};

/* 0, or -1 with the line to show: there is no such user. */
int system_identity(const char *user, struct identity *id, struct buf *error);
/* A directory for that user, with missing parents; -1 and the line to show. */
int system_directory(const char *path, mode_t mode, const struct identity *id,
    struct buf *error);
/* Take and give back the user's rights, for a while. */
int system_act_as(const struct identity *id);
int system_act_as_root(const struct identity *id);
int system_become(const struct identity *id); /* for good */

/* Socket activation (sd_listen_fds(3)). */
struct activated {
	int fd;
	char *address; /* "unix:/path", "127.0.0.1:25", "[::1]:25" */
	bool loopback; /* or unix */
};
/* Up to size of them; returns how many. */
size_t system_activated(struct activated *out, size_t size);

void system_notify(const char *state); /* sd_notify(3): "READY=1" */

#endif
