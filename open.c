/*
 * Files of the spool, opened with distrust: whatever is no regular file of our
 * own is never followed, sent or deleted.
 */
#include "spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "", or what a file that is ours is not. */
static const char *
what_is_wrong(const struct queue *q, const struct stat *st)
{
	if (S_ISLNK(st->st_mode))
		return "it is a symbolic link";
	if (!S_ISREG(st->st_mode))
		return "it is no regular file";
	if (!q->read_only && st->st_uid != geteuid())
		return "it belongs to another user";
	if ((st->st_mode & 077) != 0)
		return "others may read or write it";
	if (!q->read_only && (st->st_mode & 0600) != 0600)
		return "its owner may not read and write it";
	if (st->st_nlink != 1)
		return "it has another name somewhere (a hard link)";
	return "";
}

/* A power cut may leave a file both names of a rename.  Where the queue looks
 * it is the queue's to deal with, and the other name goes. */
static void
drop_other_name(struct queue *q, enum queue_place place, const char *name,
    const struct stat *st)
{
	enum queue_place i;
	struct stat other;

	for (i = 0; i < PLACES; i++) {
		if (i == place ||
		    fstatat(q->place[i], name, &other, AT_SYMLINK_NOFOLLOW) ==
			-1 ||
		    other.st_ino != st->st_ino || other.st_dev != st->st_dev ||
		    unlinkat(q->place[i], name, 0) == -1)
			continue;
		q->unsynced[i] = true;
		log_warning("qmgr", "%s was in %s/ and in %s/; it is in %s/",
		    name, spool_place_name(place), spool_place_name(i),
		    spool_place_name(place));
	}
}

int
spool_prove(const struct queue *q, int fd, struct stat *st, const char **why)
{
	*why = "";
	if (fstat(fd, st) == -1)
		return -1;
	*why = what_is_wrong(q, st);
	return **why == '\0' ? 0 : -1;
}

/* What was opened is what counts, whatever the name meant before. */
static int
open_and_prove(struct queue *q, enum queue_place place, const char *name,
    int flags, struct stat *st, const char **why)
{
	int fd = openat(q->place[place], name,
	    flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	*why = "";
	if (fd != -1 && spool_prove(q, fd, st, why) == -1)
		fd_close(&fd);
	return fd;
}

/* Looked at before it is opened, which alone sets some devices going. */
int
spool_open(struct queue *q, enum queue_place place, const char *name, int flags,
    struct stat *st, const char **why)
{
	*why = "";
	if (fstatat(q->place[place], name, st, AT_SYMLINK_NOFOLLOW) == -1)
		return -1;
	if ((place == PLACE_NEW || place == PLACE_CUR) && !q->read_only &&
	    st->st_nlink > 1) {
		drop_other_name(q, place, name, st);
		if (fstatat(q->place[place], name, st, AT_SYMLINK_NOFOLLOW) ==
		    -1)
			return -1;
	}
	*why = what_is_wrong(q, st);
	if (**why != '\0')
		return -1;
	return open_and_prove(q, place, name, flags, st, why);
}

int
spool_open_regular(struct queue *q, enum queue_place place, const char *name,
    struct stat *st, const char **why)
{
	int fd;

	errno = 0; /* a file that is not ours sets none */
	fd = open_and_prove(q, place, name, O_RDONLY, st, why);
	return fd != -1 || errno == ENOENT
	    ? fd
	    : spool_open(q, place, name, O_RDONLY, st, why);
}

void
spool_condemn(struct queue *q, enum queue_place place, const char *name,
    const char *why)
{
	if (q->read_only || place == PLACE_FAILED)
		return;
	if (renameat2(q->place[place], name, q->place[PLACE_FAILED], name,
		RENAME_NOREPLACE) == -1) {
		log_error("qmgr", "%s/%s can't be sent: %s; left there: %s",
		    spool_place_name(place), name, why, strerror(errno));
		return;
	}
	q->unsynced[place] = q->unsynced[PLACE_FAILED] = true;
	log_error("qmgr", "%s/%s can't be sent: %s; moved to failed/",
	    spool_place_name(place), name, why);
}
