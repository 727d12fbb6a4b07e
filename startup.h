/*
 * Between startup.c and relayd.c only: the daemon, and what must be there
 * before its loop turns.
 */
#ifndef STARTUP_H
#define STARTUP_H

#include "confine.h"
#include "metrics.h"
#include "system.h"

enum { ACTIVATED_MAX = 64 };

struct options {
	const char *path;
	bool check;
	bool verbose;
	bool stdio;
};

struct relayd {
	struct options options;
	struct loop *loop;
	struct config *config;
	struct identity identity;
	struct queue *queue;
	int synced; /* queue_event() */
	struct connector *connector;
	struct helper *helper; /* NULL: no password_command */
	struct sched *sched;
	struct submit *submit;
	struct bounce *bounce;
	struct sweep *sweep;
	struct control *control;
	struct metrics *metrics;
	struct confinement *confinement;
	struct activated activated[ACTIVATED_MAX];
	size_t activated_count;
	struct timer sync_timer;
	struct timer stop_timer;
	bool stopping;
	bool links_closed;
};

/* Each returns EX_OK, or the exit status when its line is on stderr. */
int startup_fail(int status, const char *text);
int startup_helper(struct relayd *d); /* before descriptors are opened */
int startup_spool(struct relayd *d);
int startup_control(struct relayd *d, void (*reload)(void *, struct buf *));
int startup_listeners(struct relayd *d);
int startup_metrics(struct relayd *d);
/* What needs root's rights comes first; then they are given up for good. */
int startup_become_user(struct relayd *d);

#endif
