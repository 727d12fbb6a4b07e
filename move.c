/*
 * What the operator does to a message in the spool: put it on hold, bring it
 * back from there and from failed/, delete it.  The order of steps is told at
 * the top of queue.c.
 */
#include "spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* ---- back to the queue ---- */

/* Every recipient that failed waits again, and nothing was tried yet. */
static int
reset_state(int fd, const struct envelope *e)
{
	static const struct spool_state untried;
	char line[SPOOL_STATE], mark = RECIPIENT_WAITING;
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		if (e->recipient[i].state == RECIPIENT_FAILED &&
		    pwrite_all(fd, (struct span){ &mark, 1 },
			e->recipient[i].mark_at) == -1)
			return -1;
	}
	spool_format_state(&untried, line);
	if (pwrite_all(fd, (struct span){ line, sizeof(line) },
		SPOOL_STATE_AT) == -1)
		return -1;
	return fdatasync(fd);
}

/* Against the stream, so the order of the syncs is its own (see queue.c):
 * nothing else may be waiting for one. */
static int
move_back(struct queue *q, enum queue_place place, const char *name)
{
	queue_sync_marks(q);
	if (renameat2(q->place[place], name, q->place[PLACE_NEW], name,
		RENAME_NOREPLACE) == -1 ||
	    fsync(q->place[PLACE_NEW]) == -1)
		return -1;
	q->unsynced[place] = true;
	return 0;
}

static int
release_from(struct queue *q, enum queue_place place, queue_id id,
    const char *name)
{
	struct envelope e = { .uid = -1 };
	struct spool_head head;
	struct spool_state state;
	const char *why;
	struct stat st;
	int ret = -1, fd = spool_open(q, place, name, O_RDWR, &st, &why);

	if (fd == -1) {
		if (*why != '\0')
			errno = EBADMSG;
		return -1;
	}
	why = spool_load(fd, &st, id, &head, &state, &e);
	if (why != NULL) {
		if (*why != '\0')
			errno = EBADMSG;
	} else if (faccessat(q->place[PLACE_CUR], name, F_OK, 0) == 0) {
		errno = EBUSY;
	} else if (reset_state(fd, &e) == 0) {
		ret = move_back(q, place, name);
	}
	envelope_clear(&e);
	fd_close(&fd);
	return ret;
}

int
queue_release(struct queue *q, queue_id id)
{
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	if (release_from(q, PLACE_FAILED, id, name) == 0)
		return 0;
	if (errno != ENOENT)
		return -1;
	return release_from(q, PLACE_HOLD, id, name);
}

/* ---- out of the queue ---- */

int
queue_hold(struct queue *q, queue_id id)
{
	enum queue_place place = PLACE_CUR;
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	if (renameat2(q->place[place], name, q->place[PLACE_HOLD], name,
		RENAME_NOREPLACE) == -1) {
		if (errno != ENOENT)
			return -1;
		place = PLACE_NEW;
		if (renameat2(q->place[place], name, q->place[PLACE_HOLD], name,
			RENAME_NOREPLACE) == -1)
			return -1;
	}
	q->unsynced[place] = q->unsynced[PLACE_HOLD] = true;
	return 0;
}

int
queue_replaced(struct queue *q, queue_id id, enum queue_place place)
{
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	if (place == PLACE_HOLD || place == PLACE_FAILED)
		return move_back(q, place, name);
	return 0;
}

int
queue_delete(struct queue *q, queue_id id)
{
	char name[QUEUE_ID_MAX];
	bool any = false;
	int place;

	queue_id_text(id, name);
	for (place = 0; place < PLACES; place++) {
		if (unlinkat(q->place[place], name, 0) == 0)
			any = q->unsynced[place] = true;
		else if (errno != ENOENT)
			return -1;
	}
	if (!any)
		errno = ENOENT;
	return any ? 0 : -1;
}
