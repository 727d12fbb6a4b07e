/*
 * Looking at the spool: one place after the other, a message at a time, in
 * no order.  The daemon reads its queue with it at the start, in slices, and
 * the operator's commands list it.
 */
#include "spool.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct queue_walk {
	struct queue *queue;
	enum queue_place place; /* being read */
	bool all;
	bool failed;
	unsigned flags;
	DIR *dir;
	struct queue_info info;
};

struct queue_walk *
queue_walk_new(struct queue *q, enum queue_place place, unsigned flags)
{
	struct queue_walk *w = mem_alloc(sizeof(*w));

	w->queue = q;
	w->all = place == PLACES;
	w->place = w->all ? PLACE_NEW : place;
	w->flags = flags;
	w->info.envelope.uid = -1;
	return w;
}

static void
tell_unread(struct queue_walk *w)
{
	log_error("qmgr", "%s/ can't be read: %s", spool_place_name(w->place),
	    strerror(errno));
	w->failed = true;
}

static bool
open_place(struct queue_walk *w)
{
	int fd = openat(w->queue->place[w->place], ".",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	w->dir = fd == -1 ? NULL : fdopendir(fd);
	if (w->dir == NULL) {
		tell_unread(w);
		fd_close(&fd);
	}
	return w->dir != NULL;
}

static const struct dirent *
next_entry(struct queue_walk *w)
{
	const struct dirent *d;

	if (w->dir == NULL && !open_place(w))
		return NULL;
	errno = 0;
	d = readdir(w->dir);
	if (d == NULL && errno != 0)
		tell_unread(w);
	return d;
}

/* The next one, of the next place if need be; NULL at the end. */
static const struct dirent *
next_file(struct queue_walk *w)
{
	for (; w->place < PLACES; w->place++) {
		const struct dirent *d = next_entry(w);

		if (d != NULL)
			return d;
		if (w->dir != NULL)
			(void)closedir(w->dir);
		w->dir = NULL;
		if (!w->all)
			w->place = PLACES - 1;
	}
	return NULL;
}

/*
 * It can't be read now.  One that is gone is none; the daemon takes any other
 * as due, for it would not hear of it again.
 */
static bool
is_there(const struct queue_walk *w)
{
	return errno != ENOENT && !w->queue->read_only &&
	    (w->flags & QUEUE_WALK_ENVELOPE) == 0;
}

/* What the file says; false when there is nothing to say. */
static bool
load(struct queue_walk *w, const struct dirent *d)
{
	struct queue_info *info = &w->info;
	struct envelope *envelope =
	    (w->flags & QUEUE_WALK_ENVELOPE) != 0 ? &info->envelope : NULL;
	struct spool_head head = { .content_octets = 0 };
	struct spool_state state = { .attempts = 0 };
	const char *why = NULL;
	struct stat st;
	int fd = d->d_type == DT_REG
	    ? spool_open_regular(w->queue, w->place, d->d_name, &st, &why)
	    : spool_open(w->queue, w->place, d->d_name, O_RDONLY, &st, &why);

	if (fd != -1) {
		why = spool_load(fd, &st, info->id, &head, &state, envelope);
		info->changed_ms = (int64_t)st.st_mtim.tv_sec * 1000;
	}
	fd_close(&fd);
	if (why != NULL && *why == '\0') {
		if (!is_there(w))
			return false;
		state = (struct spool_state){ .attempts = 0 };
		why = NULL;
	}
	if (why != NULL) {
		spool_condemn(w->queue, w->place, d->d_name, why);
		(void)snprintf(state.reason, sizeof(state.reason), "%s", why);
	}
	info->damaged = why != NULL;
	info->size = head.content_octets;
	info->attempts = state.attempts;
	info->next_ms = state.next_ms;
	memcpy(info->reason, state.reason, sizeof(state.reason));
	return true;
}

/* A name that is no id is not ours to touch; hidden ones are not told. */
static bool
visit(struct queue_walk *w, const struct dirent *d)
{
	struct queue_info *info = &w->info;
	const char *name = d->d_name;

	if (name[0] == '.')
		return false;
	if (!queue_id_parse(span_of(name), &info->id)) {
		if (!w->queue->read_only && w->place != PLACE_FAILED)
			log_warning("qmgr", "%s/%s is no message; left alone",
			    spool_place_name(w->place), name);
		return false;
	}
	envelope_clear(&info->envelope);
	info->place = w->place;
	queue_id_text(info->id, info->name);
	if (w->place == PLACE_NEW && (w->flags & QUEUE_WALK_ENVELOPE) == 0) {
		info->next_ms = 0; /* never tried: queue_take() looks closer */
		info->attempts = 0;
		return true;
	}
	if (!load(w, d))
		return false;
	return !info->damaged || w->place == PLACE_FAILED ||
	    w->queue->read_only;
}

bool
queue_walk_next(struct queue_walk *w, const struct queue_info **info)
{
	const struct dirent *d;

	while ((d = next_file(w)) != NULL) {
		if (visit(w, d)) {
			*info = &w->info;
			return true;
		}
	}
	return false;
}

bool
queue_walk_failed(const struct queue_walk *w)
{
	return w->failed;
}

void
queue_walk_free(struct queue_walk *w)
{
	if (w == NULL)
		return;
	if (w->dir != NULL)
		(void)closedir(w->dir);
	envelope_clear(&w->info.envelope);
	free(w);
}
