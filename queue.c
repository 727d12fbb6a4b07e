/*
 * The spool: nobody else knows its directories and file names.
 *
 * What is promised can be read off the directories, so a crash at any
 * instruction leaves a readable queue.  A message is one file named by its
 * id; a row is a state, and tests/test_queue.c has a test for each:
 *
 *   tmp new cur failed  meaning                          at start-up
 *    -   -   -    -     no such message
 *    +   -   -    -     being received, nobody was told   removed
 *    -   +   -    -     accepted (or, when not complete,  to be tried now; an
 *                       written at the moment of a crash) incomplete one: failed/
 *    -   -   +    -     tried before                      tried when it is due
 *    -   -   -    +     given up, kept for the operator   left alone
 *
 * hold/ is as failed/.  Accepting: the file is written under tmp/ and renamed
 * to new/, then file and directory are synced, then the handler is called.
 * The name comes before the sync since that costs one journal commit instead
 * of two; it is safe as an incomplete file proves itself incomplete.
 *
 * Order decides what a crash can do: a delivery is marked at once, the report
 * to the sender is durable, or failed/ has the entry, before cur/ loses it, and
 * the removal comes last.  So a crash can repeat the deliveries and reports of
 * the last second, and lose none.
 */
#include "spool.h"

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <assert.h>
#include <dirent.h>
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
	struct buf pending; /* not written yet */
	int fd;             /* -1: all is in memory */
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

/* ---- opening ---- */

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

static int
open_directory(const struct queue *q, const char *name)
{
	if (!q->read_only && mkdirat(q->top, name, 0700) == -1 &&
	    errno != EEXIST)
		return -1;
	return openat(q->top, name,
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* The lock is the process's: it ends with it, however that ends. */
static int
lock_spool(struct queue *q, pid_t *owner)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	q->lock = openat(q->top, "lock",
	    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (q->lock == -1)
		return -1;
	if (fcntl(q->lock, F_SETLK, &lock) == 0)
		return 0;
	if (errno != EACCES && errno != EAGAIN)
		return -1;
	*owner = fcntl(q->lock, F_GETLK, &lock) == 0 ? lock.l_pid : 0;
	errno = EBUSY;
	return -1;
}

/* What is under tmp/ was never promised to anybody, and we hold the lock.
 * What is no file was not made by us. */
static void
clean_tmp(const struct queue *q)
{
	int fd = openat(q->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd == -1 ? NULL : fdopendir(fd);
	const struct dirent *d;
	struct stat st;
	queue_id id;

	if (dir == NULL) {
		fd_close(&fd);
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		if (queue_id_parse(span_of(d->d_name), &id) &&
		    fstatat(q->tmp, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			(void)unlinkat(q->tmp, d->d_name, 0);
	}
	(void)closedir(dir);
}

/*
 * Sync the directories that have changed.  Messages move from new/ to cur/ to
 * failed/: the later directory comes first, for once the earlier one has lost
 * a name for good, the later one must have it for good.  One that fails is
 * synced again, unlike a file: a file system that has lost a change of names
 * takes no more of them.
 */
static int
sync_places(struct queue *q)
{
	int i;

	for (i = PLACES - 1; i >= 0; i--) {
		if (!q->unsynced[i])
			continue;
		if (fsync(q->place[i]) == -1) {
			log_error(NULL, "%s/ in the spool can't be written: %s",
			    spool_place_name((enum queue_place)i),
			    strerror(errno));
			return -1;
		}
		q->unsynced[i] = false;
	}
	return 0;
}

static int
open_places(struct queue *q)
{
	enum queue_place i;

	q->tmp = open_directory(q, "tmp");
	if (q->tmp == -1)
		return -1;
	for (i = 0; i < PLACES; i++) {
		q->place[i] = open_directory(q, spool_place_name(i));
		if (q->place[i] == -1)
			return -1;
		/* What the last daemon has moved, if it was killed. */
		q->unsynced[i] = !q->read_only;
	}
	if (q->read_only)
		return 0;
	return fsync(q->top) == -1 ? -1 : sync_places(q);
}

/* The same for one that was open and has been removed by hand. */
static void
open_again(const struct queue *q, const char *name, int *place)
{
	struct stat st;
	int fd;

	if (fstat(*place, &st) == -1 || st.st_nlink > 0)
		return;
	fd = open_directory(q, name);
	if (fd == -1)
		return;
	log_error(NULL, "%s/ in the spool was removed; it is made again", name);
	fd_close(place);
	*place = fd;
}

void
spool_recover(struct queue *q)
{
	int saved = errno;
	enum queue_place i;

	open_again(q, "tmp", &q->tmp);
	for (i = 0; i < PLACES; i++)
		open_again(q, spool_place_name(i), &q->place[i]);
	(void)fsync(q->top);
	errno = saved;
}

struct queue *
queue_open(const char *path, unsigned flags, pid_t *owner)
{
	struct queue *q = mem_alloc(sizeof(*q));
	size_t i;

	q->tmp = q->lock = q->event = -1;
	for (i = 0; i < PLACES; i++)
		q->place[i] = -1;
	q->read_only = (flags & QUEUE_READ_ONLY) != 0;
	q->group_end = &q->group;
	q->syncer = syncer_new();
	q->next_chance = (uint32_t)random_bits();
	*owner = 0;
	if (!q->read_only && mkdir(path, 0700) == -1 && errno != EEXIST)
		goto fail;
	q->top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (q->top == -1)
		goto fail;
	if (!q->read_only && lock_spool(q, owner) == -1)
		goto fail;
	if (open_places(q) == -1)
		goto fail;
	if (!q->read_only)
		clean_tmp(q);
	return q;
fail:
	queue_close(q);
	return NULL;
}

/* Does this error of a call say that it will never work here? */
static bool
is_lacking(int error)
{
	return error == EPERM || error == EINVAL || error == ENOSYS ||
	    error == EOPNOTSUPP;
}

const char *
queue_lacks(const struct queue *q)
{
	/* Ids: should we die here, the next start removes them. */
	static const char *const name[] = { "000000000000", "000000000001",
		"000000000002" };
	const char *what = NULL;
	int saved,
	    fd = openat(q->tmp, name[0],
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t i;

	if (fd == -1)
		return NULL; /* no room, perhaps: it can change */
	fd_close(&fd);
	if (linkat(q->tmp, name[0], q->tmp, name[1], 0) == -1 &&
	    is_lacking(errno))
		what = "make hard links";
	else if (renameat2(q->tmp, name[0], q->tmp, name[2],
		     RENAME_NOREPLACE) == -1 &&
	    is_lacking(errno))
		what = "rename without replacing";
	saved = errno;
	for (i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		(void)unlinkat(q->tmp, name[i], 0);
	errno = saved;
	return what;
}

int
queue_free_octets(const struct queue *q, uint64_t *octets)
{
	struct statvfs fs;

	if (fstatvfs(q->top, &fs) == -1)
		return -1;
	*octets = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}

bool
queue_has_room(const struct queue *q, uint64_t octets, uint64_t min_free)
{
	struct statvfs fs;
	uint64_t room;

	if (fstatvfs(q->top, &fs) == -1)
		return true; /* the write will tell */
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	return room >= octets && room - octets >= min_free &&
	    (fs.f_files == 0 || fs.f_favail > 0);
}

/* ---- a message on its way in ---- */

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

/* Write what is in memory; the head's place stays empty until the commit. */
static int
write_pending(struct msg *m)
{
	if (m->error == 0 && m->fd == -1) {
		m->fd = openat(m->queue->tmp, m->name,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (m->fd == -1)
			m->error = errno;
		if (m->error == ENOENT)
			spool_recover(m->queue); /* for the next */
	}
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
		(void)unlinkat(m->queue->tmp, m->name, 0);
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

	assert(m->envelope_octets > 0 || m->error != 0);
	spool_format_end(m->id, end);
	buf_append(&m->pending, end, sizeof(end));
	if (m->error == 0 && write_head(m) == -1)
		m->error = errno;
	(void)write_pending(m);
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
		renameat(q->tmp, m->name, q->place[place], m->name) == -1))
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
	if (renameat2(q->tmp, m->name, q->place[PLACE_NEW], m->name,
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
	if (any && sync_places(q) == -1) {
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

bool
queue_unsynced(const struct queue *q)
{
	size_t i;

	for (i = 0; i < PLACES; i++) {
		if (q->unsynced[i])
			return true;
	}
	return q->mark_count > 0;
}

void
queue_sync_marks(struct queue *q)
{
	size_t i;

	for (i = 0; i < q->mark_count; i++) {
		struct unsynced *u = &q->mark[i];

		(void)fdatasync(u->fd);
		if (u->entry == NULL)
			(void)close(u->fd);
		else
			u->entry->unsynced = false;
	}
	q->mark_count = 0;
	(void)sync_places(q);
}

void
queue_close(struct queue *q)
{
	int saved = errno;
	size_t i;

	if (q == NULL)
		return;
	queue_settle(q);
	queue_sync_marks(q);
	syncer_free(q->syncer);
	free(q->mark);
	for (i = 0; i < PLACES; i++)
		fd_close(&q->place[i]);
	fd_close(&q->tmp);
	fd_close(&q->lock);
	fd_close(&q->top);
	free(q);
	errno = saved;
}
