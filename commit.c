/*
 * A message on its way in: received into memory or a file, and made durable
 * together with others that became complete meanwhile.
 *
 * The files of a group are named and then synced by helpers (sync.c) while the
 * loop goes on; then the directory that names them is, and each handler is
 * told.  The order of steps is told at the top of queue.c.
 */
#include "spool.h"

#include <sys/eventfd.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	GROUP_MAX = 32,         /* messages made durable together */
	MEMORY_MAX = 256 << 10, /* of a message; the rest is in its file */
	FAILURES_MAX = 3,
	FAILING_MS = 30 * 1000,
};

struct msg {
	struct queue *queue;
	struct msg *next;
	queue_id id;
	char name[QUEUE_ID_MAX];
	char tmp_name[QUEUE_ID_MAX]; /* under tmp/ */
	struct buf pending;          /* not written yet */
	int fd;                      /* -1: all is in memory */
	uint64_t old_octets;         /* of the file, if it is a spare one */
	uint64_t envelope_octets;
	uint32_t envelope_crc;
	uint64_t size;
	uint32_t crc;
	struct text_facts facts;
	struct spool_state state;
	int error;
	bool named; /* it stands in new/ */
	queue_committed *handler;
	void *arg;
};

/* ---- being received ---- */

/* Unique in this process even when the clock is set back, and by chance
 * across processes; no file is ever overwritten all the same. */
static queue_id
new_id(struct queue *q)
{
	struct instant now;

	clock_read(&now);
	if (now.wall_ms > q->last_id_ms)
		q->last_id_ms = now.wall_ms;
	q->next_chance++;
	return (queue_id)q->last_id_ms << SPOOL_CHANCE_BITS |
	    (q->next_chance & ((1u << SPOOL_CHANCE_BITS) - 1));
}

struct msg *
queue_begin_again(struct queue *q, queue_id id)
{
	struct msg *m = mem_alloc(sizeof(*m));

	m->queue = q;
	m->fd = -1;
	m->id = id;
	queue_id_text(m->id, m->name);
	buf_reserve(&m->pending, 4096);
	m->pending.len = SPOOL_ENVELOPE_AT; /* for head and state */
	return m;
}

struct msg *
queue_begin(struct queue *q)
{
	return queue_begin_again(q, new_id(q));
}

queue_id
msg_id(const struct msg *m)
{
	return m->id;
}

uint64_t
msg_size(const struct msg *m)
{
	return m->size;
}

void
msg_envelope(struct msg *m, const struct envelope *e)
{
	size_t at = m->pending.len;

	assert(m->envelope_octets == 0 && m->size == 0);
	if (spool_format_envelope(e, &m->pending, &m->envelope_crc) == -1)
		m->error = errno;
	m->envelope_octets = m->pending.len - at;
}

void
msg_waits(struct msg *m, const char *reason)
{
	spool_set_reason(&m->state, reason);
}

static void
open_file(struct msg *m)
{
	struct queue *q = m->queue;

	m->fd = spare_open(q, m->tmp_name, &m->old_octets);
	if (m->fd != -1)
		return;
	memcpy(m->tmp_name, m->name, sizeof(m->name));
	m->fd = openat(q->tmp, m->tmp_name,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (m->fd == -1)
		m->error = errno;
	if (m->error == ENOENT)
		spool_recover(q); /* for the next */
}

/* Write what is in memory; the head's place stays empty until the commit. */
static int
write_pending(struct msg *m)
{
	if (m->error == 0 && m->fd == -1)
		open_file(m);
	if (m->error == 0 && write_all(m->fd, buf_span(&m->pending)) == -1)
		m->error = errno;
	m->pending.len = 0;
	if (m->error == 0)
		return 0;
	errno = m->error;
	return -1;
}

int
msg_write(struct msg *m, struct span content)
{
	if (m->error != 0) {
		errno = m->error;
		return -1;
	}
	buf_add(&m->pending, content);
	m->crc = crc32c(m->crc, content.data, content.len);
	text_note(&m->facts, content);
	m->size += content.len;
	return m->pending.len < MEMORY_MAX ? 0 : write_pending(m);
}

/* Free m and whatever name it has in the spool. */
void
msg_abort(struct msg *m)
{
	int saved = errno;

	if (m == NULL)
		return;
	if (m->named)
		(void)unlinkat(m->queue->place[PLACE_NEW], m->name, 0);
	else if (m->fd != -1)
		(void)unlinkat(m->queue->tmp, m->tmp_name, 0);
	fd_close(&m->fd);
	buf_free(&m->pending);
	free(m);
	errno = saved;
}

/* The head goes in front of what is in memory, or into the file. */
static int
write_head(struct msg *m)
{
	struct spool_head h = { m->id, m->envelope_octets, m->size,
		m->envelope_crc, m->crc, m->facts.has };
	char block[SPOOL_ENVELOPE_AT];

	spool_format_head(&h, block);
	spool_format_state(&m->state, block + SPOOL_STATE_AT);
	if (m->fd == -1) {
		memcpy(m->pending.data, block, sizeof(block));
		return 0;
	}
	return pwrite_all(m->fd, (struct span){ block, sizeof(block) }, 0);
}

/* Write all that is left of it. */
static void
complete(struct msg *m)
{
	char end[SPOOL_END];
	uint64_t octets =
	    SPOOL_ENVELOPE_AT + m->envelope_octets + m->size + SPOOL_END;

	assert(m->envelope_octets > 0 || m->error != 0);
	spool_format_end(m->id, end);
	buf_append(&m->pending, end, sizeof(end));
	if (m->error == 0 && write_head(m) == -1)
		m->error = errno;
	(void)write_pending(m);
	if (m->error == 0 && m->old_octets > octets &&
	    ftruncate(m->fd, (off_t)octets) == -1)
		m->error = errno;
}

/* The new file is on stable storage before the old one is no more; which of
 * them the name means after a crash does not matter. */
int
msg_replace(struct msg *m, enum queue_place place)
{
	struct queue *q = m->queue;
	int error;

	complete(m);
	if (m->error == 0 &&
	    (fdatasync(m->fd) == -1 ||
		renameat(q->tmp, m->tmp_name, q->place[place], m->name) == -1))
		m->error = errno;
	error = m->error;
	if (error == 0) {
		q->unsynced[place] = true;
		fd_close(&m->fd); /* it has no name of its own any more */
	}
	msg_abort(m);
	errno = error;
	return error == 0 ? 0 : -1;
}

void
queue_commit(struct msg *m, queue_committed *handler, void *arg)
{
	struct queue *q = m->queue;

	complete(m);
	m->handler = handler;
	m->arg = arg;
	*q->group_end = m;
	q->group_end = &m->next;
	q->committing++;
}

/* ---- group commit ---- */

/* A group that is being synced. */
struct flight {
	struct msg *group; /* oldest first */
	struct sync_file file[GROUP_MAX];
	struct instant began;
};

/* Name it and start its write-back, so that the group's is one. */
static void
name_and_start(struct queue *q, struct msg *m)
{
	if (m->error != 0)
		return;
	if (renameat2(q->tmp, m->tmp_name, q->place[PLACE_NEW], m->name,
		RENAME_NOREPLACE) == -1) {
		m->error = errno;
		if (m->error == ENOENT)
			spool_recover(q); /* for the next */
		return;
	}
	m->named = true;
	(void)sync_file_range(m->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* It can't be written: it is given up and never synced again. */
static void
give_up(struct queue *q, struct msg *m, int error)
{
	struct instant now;

	m->error = error;
	log_error(NULL, "%s: the spool can't be written: %s", m->name,
	    strerror(error));
	if (++q->failures < FAILURES_MAX)
		return;
	clock_read(&now);
	q->failing_until_ms = now.mono_ms + FAILING_MS;
}

/*
 * After an error of fsync() the kernel calls the pages clean: a second one
 * would lie.  True: there is a file that is on stable storage.
 */
static bool
take_errors(struct queue *q, const struct flight *f)
{
	bool any = false;
	struct msg *m;
	size_t i = 0;

	for (m = f->group; m != NULL; m = m->next) {
		if (m->error != 0)
			continue;
		if (f->file[i].error != 0)
			give_up(q, m, f->file[i].error);
		else
			any = true;
		i++;
	}
	return any;
}

/* The oldest that wait for it, as many as make a group. */
static struct msg *
take_group(struct queue *q)
{
	struct msg *group = q->group, *last = group;
	size_t n;

	for (n = 1; n < GROUP_MAX && last->next != NULL; n++)
		last = last->next;
	q->group = last->next;
	last->next = NULL;
	if (q->group == NULL)
		q->group_end = &q->group;
	return group;
}

/* Name a group's files and have them synced. */
static void
begin_flight(struct queue *q)
{
	struct flight *f = mem_alloc(sizeof(*f));
	size_t count = 0;
	struct msg *m;

	clock_read(&f->began);
	f->group = take_group(q);
	for (m = f->group; m != NULL; m = m->next) {
		name_and_start(q, m);
		if (m->error == 0)
			f->file[count++] = (struct sync_file){ m->fd, 0 };
	}
	q->flight = f;
	syncer_start(q->syncer, f->file, count, q->event);
}

/*
 * Its files are synced: now the directory that names them.  Not by a helper:
 * new/ must not lose a name for good while cur/ has it only for now, so that
 * nothing may move meanwhile.  Returns the group.
 */
static struct msg *
end_flight(struct queue *q)
{
	struct flight *f = q->flight;
	struct msg *m, *group = f->group;
	struct instant ended;
	int error = 0;
	bool any = take_errors(q, f);

	q->unsynced[PLACE_NEW] |= any;
	if (any && spool_sync_places(q) == -1) {
		error = errno;
		q->failures++;
	} else if (any) {
		q->failures = 0;
	}
	for (m = group; m != NULL; m = m->next) {
		if (m->error == 0)
			m->error = error;
	}
	clock_read(&ended);
	histogram_add(&q->commits, ended.mono_ms - f->began.mono_ms);
	q->flight = NULL;
	free(f);
	return group;
}

/* Tell the outcome; a failed message leaves nothing behind. */
static void
tell(struct msg *m)
{
	queue_committed *handler = m->handler;
	void *arg = m->arg;
	queue_id id = m->id;
	int error = m->error;

	m->queue->committing--;
	if (error == 0)
		m->named = false, fd_close(&m->fd);
	msg_abort(m);
	handler(arg, id, error);
}

/* Has what is in flight, if anything, come to its end?  Without an event there
 * is nobody who would ask again. */
static bool
is_landed(const struct queue *q)
{
	if (q->flight != NULL && q->event == -1)
		syncer_wait(q->syncer);
	return q->flight == NULL || syncer_is_done(q->syncer);
}

/* The next group takes off before those of the last one are told, so that the
 * disk does not wait. */
bool
queue_sync(struct queue *q)
{
	struct msg *m, *group = NULL;

	closer_run(q->closer);
	if (q->flight == NULL && q->group != NULL)
		begin_flight(q);
	if (q->flight == NULL || !is_landed(q))
		return false;
	group = end_flight(q);
	if (q->event != -1 && q->group != NULL)
		begin_flight(q);
	while (group != NULL) {
		m = group;
		group = m->next;
		tell(m);
	}
	if (q->flight != NULL)
		return syncer_is_done(q->syncer); /* it was a small one */
	return q->group != NULL;
}

bool
queue_is_committing(const struct queue *q, queue_id id)
{
	const struct msg *m = q->flight == NULL ? NULL : q->flight->group;

	while (m != NULL && m->id != id)
		m = m->next;
	return m != NULL;
}

int
queue_event(struct queue *q)
{
	q->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->event;
}

void
queue_settle(struct queue *q)
{
	int event = q->event;

	q->event = -1;
	while (queue_sync(q))
		continue;
	fd_close(&event); /* not before: a flight may have had it */
}

const struct histogram *
queue_commits(const struct queue *q)
{
	return &q->commits;
}

bool
queue_is_failing(const struct queue *q)
{
	struct instant now;

	if (q->failures < FAILURES_MAX)
		return false;
	clock_read(&now);
	return now.mono_ms < q->failing_until_ms;
}

void
queue_close(struct queue *q)
{
	int saved = errno;

	if (q == NULL)
		return;
	queue_settle(q);
	queue_sync_marks(q);
	spool_close(q);
	errno = saved;
}
