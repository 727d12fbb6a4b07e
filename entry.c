/*
 * A message on its way out: taken from the spool, read, marked, finished or
 * left for later.
 *
 * Files in the spool are opened with distrust: whatever is no regular file of
 * our own is never followed, sent or deleted.  The order of steps is told at
 * the top of queue.c.
 */
#include "spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MARKS_MAX = 64 }; /* descriptors that may wait for their sync */

/* ---- files that may not be ours ---- */

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

/* A power cut may leave a file both names of a rename.  In cur/ it is the
 * queue's to deal with, and the other name goes. */
static void
drop_other_name(struct queue *q, const char *name, const struct stat *st)
{
	enum queue_place i;
	struct stat other;

	for (i = 0; i < PLACES; i++) {
		if (i == PLACE_CUR ||
		    fstatat(q->place[i], name, &other, AT_SYMLINK_NOFOLLOW) ==
			-1 ||
		    other.st_ino != st->st_ino || other.st_dev != st->st_dev ||
		    unlinkat(q->place[i], name, 0) == -1)
			continue;
		q->unsynced[i] = true;
		log_warning("qmgr", "%s was in cur/ and in %s/; it is in cur/",
		    name, spool_place_name(i));
	}
}

/* Looked at before it is opened, which alone sets some devices going. */
int
spool_open(struct queue *q, enum queue_place place, const char *name, int flags,
    struct stat *st, const char **why)
{
	struct stat own;
	int fd;

	if (st == NULL)
		st = &own;
	*why = "";
	if (fstatat(q->place[place], name, st, AT_SYMLINK_NOFOLLOW) == -1)
		return -1;
	if (place == PLACE_CUR && !q->read_only && st->st_nlink > 1) {
		drop_other_name(q, name, st);
		if (fstatat(q->place[place], name, st, AT_SYMLINK_NOFOLLOW) ==
		    -1)
			return -1;
	}
	*why = what_is_wrong(q, st);
	if (**why != '\0')
		return -1;
	fd = openat(q->place[place], name,
	    flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	if (fstat(fd, st) == 0) {
		*why = what_is_wrong(q, st);
		if (**why == '\0')
			return fd;
	}
	fd_close(&fd);
	return -1;
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

/* ---- a message on its way out ---- */

static int
rename_to_cur(const struct queue *q, const char *name)
{
	return renameat2(q->place[PLACE_NEW], name, q->place[PLACE_CUR], name,
	    RENAME_NOREPLACE);
}

/* To cur/, where it stays until it is finished. */
static int
move_to_cur(struct queue *q, const char *name)
{
	int ret = rename_to_cur(q, name);

	if (ret == -1 && errno == ENOENT &&
	    faccessat(q->place[PLACE_NEW], name, F_OK, AT_SYMLINK_NOFOLLOW) ==
		0) {
		spool_recover(q); /* it is cur/ that is not there */
		ret = rename_to_cur(q, name);
	}
	if (ret == 0) {
		q->unsynced[PLACE_NEW] = q->unsynced[PLACE_CUR] = true;
		return 0;
	}
	if (errno == EEXIST)
		spool_condemn(q, PLACE_NEW, name, "cur/ has one of that name");
	else if (errno != ENOENT)
		return -1;
	return 0;
}

/*
 * Open a file of a place as an entry.
 * returns NULL with *why: what is wrong with it ("" : errno says it).
 */
static struct entry *
open_entry(struct queue *q, enum queue_place place, queue_id id, int flags,
    const char **why)
{
	struct entry *e = mem_alloc(sizeof(*e));
	struct spool_head head;
	struct spool_state state;
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	e->fd = spool_open(q, place, name, flags, NULL, why);
	if (e->fd != -1)
		*why = spool_load(e->fd, id, &head, &state, &e->envelope);
	if (e->fd == -1 || *why != NULL) {
		fd_close(&e->fd);
		free(e);
		return NULL;
	}
	e->id = id;
	e->queue = q;
	e->size = head.content_octets;
	e->has = head.content_has;
	e->attempts = state.attempts;
	e->next_ms = state.next_ms;
	e->content_at = SPOOL_ENVELOPE_AT + head.envelope_octets;
	e->crc_wanted = head.content_crc;
	e->reason = mem_text(state.reason);
	e->warned = spool_load_notes(e->fd, e->content_at + e->size + SPOOL_END,
	    &e->envelope, &e->notes_at);
	return e;
}

/* It stays in new/: what can't be a message of ours may be why. */
static void
refuse_new(struct queue *q, const char *name)
{
	const char *why;
	int saved = errno;
	int fd = spool_open(q, PLACE_NEW, name, O_RDONLY, NULL, &why);

	errno = saved;
	if (fd == -1 && *why != '\0') {
		spool_condemn(q, PLACE_NEW, name, why);
		errno = EBADMSG;
	}
	fd_close(&fd);
}

struct entry *
queue_take(struct queue *q, queue_id id)
{
	struct entry *e;
	char name[QUEUE_ID_MAX];
	const char *why;

	queue_id_text(id, name);
	if (move_to_cur(q, name) == -1) {
		refuse_new(q, name);
		return NULL;
	}
	e = open_entry(q, PLACE_CUR, id, O_RDWR, &why);
	if (e == NULL && *why != '\0') {
		spool_condemn(q, PLACE_CUR, name, why);
		errno = EBADMSG;
	}
	return e;
}

/* Where others of its recipients wait comes before where some have failed. */
struct entry *
queue_look(struct queue *q, queue_id id, enum queue_place *place)
{
	struct entry *e = NULL;
	const char *why = "";
	int i;

	errno = ENOENT;
	for (i = 0; i < PLACES && e == NULL && *why == '\0' && errno == ENOENT;
	     i++) {
		*place = (enum queue_place)i;
		e = open_entry(q, *place, id, O_RDONLY, &why);
	}
	if (e == NULL && *why != '\0')
		errno = EBADMSG;
	return e;
}

ssize_t
entry_read(struct entry *e, char *out, size_t size)
{
	uint64_t left = e->size - e->read_at;
	ssize_t n;

	if (left == 0)
		return 0;
	do {
		n = pread(e->fd, out, left < size ? (size_t)left : size,
		    (off_t)(e->content_at + e->read_at));
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return -1;
	e->crc = crc32c(e->crc, out, (size_t)n);
	e->read_at += (uint64_t)n;
	if (n == 0 || (e->read_at == e->size && e->crc != e->crc_wanted)) {
		e->damaged = true;
		errno = EBADMSG;
		return -1;
	}
	return n;
}

void
entry_rewind(struct entry *e)
{
	e->read_at = 0;
	e->crc = 0;
}

/* Its file is to be synced within a second, though it may stay open for long. */
static void
need_sync(struct entry *e)
{
	struct queue *q = e->queue;

	if (e->unsynced)
		return;
	if (q->mark_count == MARKS_MAX)
		queue_sync_marks(q);
	q->mark = mem_array(q->mark, q->mark_count + 1, sizeof(*q->mark));
	q->mark[q->mark_count++] = (struct unsynced){ e->fd, e };
	e->unsynced = true;
}

void
entry_mark(struct entry *e, size_t recipient, enum recipient_state state)
{
	struct recipient *r = &e->envelope.recipient[recipient];
	char name[QUEUE_ID_MAX], mark = (char)state;

	r->state = state;
	queue_id_text(e->id, name);
	if (pwrite_all(e->fd, (struct span){ &mark, 1 }, r->mark_at) == -1)
		log_error("qmgr",
		    "%s: what became of <%s> can't be recorded: "
		    "%s; it may be repeated after a restart",
		    name, r->address, strerror(errno));
	need_sync(e);
}

/* Over what a crash may have left of a line. */
static void
put_note(struct entry *e, struct span line)
{
	uint64_t used = e->notes_at - (e->content_at + e->size + SPOOL_END);
	char name[QUEUE_ID_MAX];

	errno = EFBIG;
	if (used + line.len <= SPOOL_NOTES_MAX &&
	    pwrite_all(e->fd, line, e->notes_at) == 0) {
		e->notes_at += line.len;
		need_sync(e);
		return;
	}
	queue_id_text(e->id, name);
	log_warning("qmgr", "%s: the report to its sender will say less: %s",
	    name, strerror(errno));
}

void
entry_diagnosed(struct entry *e, size_t recipient)
{
	struct buf line = { NULL, 0, 0 };

	spool_format_note(&e->envelope.recipient[recipient], recipient, &line);
	put_note(e, buf_span(&line));
	buf_free(&line);
}

void
entry_warned(struct entry *e)
{
	e->warned = true;
	put_note(e, SPAN("warned\n"));
}

/* Overwrite the state in the file. */
static void
put_state(struct entry *e, const char *reason)
{
	struct spool_state s = { .attempts = e->attempts,
		.next_ms = e->next_ms };
	char line[SPOOL_STATE], name[QUEUE_ID_MAX];

	spool_set_reason(&s, reason);
	spool_format_state(&s, line);
	free(e->reason);
	e->reason = mem_text(s.reason);
	if (pwrite_all(e->fd, (struct span){ line, sizeof(line) },
		SPOOL_STATE_AT) == 0)
		return;
	queue_id_text(e->id, name);
	log_error("qmgr", "%s: its next try can't be recorded: %s", name,
	    strerror(errno));
}

void
entry_defer(struct entry *e, unsigned attempts, int64_t next_ms,
    const char *reason)
{
	e->attempts = attempts;
	e->next_ms = next_ms;
	put_state(e, reason);
	need_sync(e);
}

void
entry_note(struct entry *e, const char *reason)
{
	put_state(e, reason);
}

/* What waits for its sync stays open for that, if it is worth one. */
static void
leave_file(struct entry *e, bool sync)
{
	struct queue *q = e->queue;
	size_t i = 0;

	if (e->unsynced) {
		while (q->mark[i].entry != e)
			i++;
		q->mark[i].entry = NULL;
		if (sync)
			return;
		q->mark[i] = q->mark[--q->mark_count];
	}
	fd_close(&e->fd);
}

static void
entry_free(struct entry *e, bool sync)
{
	leave_file(e, sync);
	envelope_clear(&e->envelope);
	free(e->reason);
	free(e);
}

void
entry_close(struct entry *e)
{
	char name[QUEUE_ID_MAX];

	if (e == NULL)
		return;
	queue_id_text(e->id, name);
	if (e->damaged)
		spool_condemn(e->queue, PLACE_CUR, name,
		    "its content does not match its checksum");
	entry_free(e, true);
}

void
entry_done(struct entry *e)
{
	size_t i;

	for (i = 0; i < e->envelope.recipient_count; i++)
		entry_mark(e, i, RECIPIENT_SENT);
}

int
entry_finish(struct entry *e)
{
	struct queue *q = e->queue;
	bool failed = envelope_count(&e->envelope, RECIPIENT_FAILED) > 0;
	char name[QUEUE_ID_MAX];
	int ret;

	queue_id_text(e->id, name);
	if (failed) {
		ret = renameat(q->place[PLACE_CUR], name,
		    q->place[PLACE_FAILED], name);
		if (ret == -1)
			log_error("qmgr", "%s can't be moved to failed/: %s",
			    name, strerror(errno));
		q->unsynced[PLACE_FAILED] = true;
	} else {
		ret = unlinkat(q->place[PLACE_CUR], name, 0);
		if (ret == -1) {
			log_error("qmgr", "%s can't be removed: %s", name,
			    strerror(errno));
			entry_done(e);
		}
	}
	q->unsynced[PLACE_CUR] = true;
	entry_free(e, failed || ret == -1);
	return ret;
}
