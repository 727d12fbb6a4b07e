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
 *    -   +   -    -     accepted, perhaps being sent     to be tried now; an
 *                       (or, when not complete, written  incomplete one:
 *                       at the moment of a crash)        failed/
 *    -   -   +    -     deferred                          tried when it is due
 *    -   -   -    +     given up, kept for the operator   left alone
 *
 * hold/ is as failed/, and tmp/ has spare files (spare.c).  Accepting: the file
 * is written under tmp/ and renamed to new/, then file and directory are
 * synced, then the handler is called.  The name comes before the sync since
 * that costs one journal commit instead of two; it is safe as an incomplete
 * file proves itself incomplete.
 *
 * Order decides what a crash can do: a delivery is marked at once, the report
 * to the sender is durable, or failed/ has the entry, before the queue loses
 * it, and the removal comes last.  So a crash can repeat the deliveries and
 * reports of the last second, and lose none.
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

/* ---- opening ---- */

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
int
spool_sync_places(struct queue *q)
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
	spares_synced(q);
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
	return fsync(q->top) == -1 ? -1 : spool_sync_places(q);
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

void
spool_close(struct queue *q)
{
	int saved = errno;
	size_t i;

	syncer_free(q->syncer);
	closer_free(q->closer);
	free(q->mark);
	spares_drop(q);
	for (i = 0; i < PLACES; i++)
		fd_close(&q->place[i]);
	fd_close(&q->tmp);
	fd_close(&q->lock);
	fd_close(&q->top);
	free(q);
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
	q->closer = closer_new();
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
	spool_close(q);
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

/* ---- what waits for its sync ---- */

bool
queue_unsynced(const struct queue *q)
{
	size_t i;

	for (i = 0; i < PLACES; i++) {
		if (q->unsynced[i])
			return true;
	}
	return q->mark_count > 0 || q->spares.count > 0;
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
	(void)spool_sync_places(q);
	spares_age(q);
}
