/*
 * failed/ is swept once a day: what has been there for failed_lifetime goes.
 * What is no message of ours stays, whatever its age.
 */
#include "relayd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	DAY_MS = 24 * 3600 * 1000,
	SLICE = 50, /* messages looked at in a turn */
};

struct sweep {
	struct loop *loop;
	struct queue *queue;
	struct config *config; /* held */
	struct timer timer;
	struct queue_walk *walk; /* NULL: it waits for the next day */
};

static void
remove_failed(struct sweep *s, const struct queue_info *info)
{
	if (queue_delete(s->queue, info->id) == -1)
		log_error("qmgr", "%s can't be removed from failed/: %s",
		    info->name, strerror(errno));
	else
		log_warning("qmgr",
		    "%s: removed from failed/: failed_lifetime is over",
		    info->name);
}

static void
sweep_slice(void *arg)
{
	struct sweep *s = arg;
	int64_t life_ms = s->config->failed_lifetime * 1000;
	int64_t now_ms = loop_now(s->loop).wall_ms;
	const struct queue_info *info;
	int64_t next_ms = 0;
	int n;

	if (s->walk == NULL && life_ms > 0)
		s->walk = queue_walk_new(s->queue, PLACE_FAILED, 0);
	for (n = 0; n < SLICE && s->walk != NULL; n++) {
		if (!queue_walk_next(s->walk, &info)) {
			queue_walk_free(s->walk);
			s->walk = NULL;
		} else if (!info->damaged &&
		    now_ms - info->changed_ms > life_ms) {
			remove_failed(s, info);
		}
	}
	if (s->walk == NULL)
		next_ms = DAY_MS;
	loop_timer_set(s->loop, &s->timer, next_ms);
}

struct sweep *
sweep_new(struct loop *l, struct queue *q, struct config *config)
{
	struct sweep *s = mem_alloc(sizeof(*s));

	s->loop = l;
	s->queue = q;
	s->config = config_hold(config);
	s->timer = (struct timer){ .handler = sweep_slice, .arg = s };
	loop_timer_set(l, &s->timer, 0);
	return s;
}

void
sweep_configure(struct sweep *s, struct config *config)
{
	config_release(s->config);
	s->config = config_hold(config);
	loop_timer_set(s->loop, &s->timer, 0);
}

void
sweep_free(struct sweep *s)
{
	if (s == NULL)
		return;
	loop_timer_clear(s->loop, &s->timer);
	queue_walk_free(s->walk);
	config_release(s->config);
	free(s);
}
