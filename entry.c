/*
 * A message on its way out: taken from the spool, read, marked, finished or
 * left for later.
 *
 * The order of steps is told at the top of queue.c.
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
	struct stat st;

	queue_id_text(id, name);
	e->fd = spool_open(q, place, name, flags, &st, why);
	if (e->fd != -1)
		*why = spool_load(e->fd, &st, id, &head, &state, &e->envelope);
	if (e->fd == -1 || *why != NULL) {
		fd_close(&e->fd);
		free(e);
		return NULL;
	}
	e->id = id;
	e->queue = q;
	e->place = place;
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

/* What waits for its sync stays open for that, if it is worth one, as that of a
 * message that is over is not. */
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
	if (sync)
		fd_close(&e->fd);
	else
		closer_add(q->closer, e->fd);
}

static void
entry_free(struct entry *e, bool sync)
{
	leave_file(e, sync);
	envelope_clear(&e->envelope);
	free(e->reason);
	free(e);
}

static struct entry *
take_from(struct queue *q, enum queue_place place, queue_id id)
{
	char name[QUEUE_ID_MAX];
	const char *why;
	struct entry *e = open_entry(q, place, id, O_RDWR, &why);

	if (e != NULL || *why == '\0')
		return e;
	queue_id_text(id, name);
	spool_condemn(q, place, name, why);
	errno = EBADMSG;
	return NULL;
}

struct entry *
queue_take(struct queue *q, queue_id id)
{
	struct entry *e = take_from(q, PLACE_NEW, id);
	char name[QUEUE_ID_MAX];

	if (e == NULL)
		return errno == ENOENT ? take_from(q, PLACE_CUR, id) : NULL;
	queue_id_text(id, name);
	if (faccessat(q->place[PLACE_CUR], name, F_OK, AT_SYMLINK_NOFOLLOW) ==
	    -1)
		return e;
	entry_free(e, true);
	spool_condemn(q, PLACE_NEW, name, "cur/ has one of that name");
	return take_from(q, PLACE_CUR, id);
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

static int
rename_to_cur(const struct queue *q, const char *name)
{
	return renameat2(q->place[PLACE_NEW], name, q->place[PLACE_CUR], name,
	    RENAME_NOREPLACE);
}

/* If it can't be moved it stays in new/, and after a restart it would only be
 * tried too early. */
void
entry_tried(struct entry *e)
{
	struct queue *q = e->queue;
	char name[QUEUE_ID_MAX];
	int ret;

	if (e->place != PLACE_NEW)
		return;
	queue_id_text(e->id, name);
	ret = rename_to_cur(q, name);
	if (ret == -1 && errno == ENOENT) {
		spool_recover(q); /* cur/ may have been removed */
		ret = rename_to_cur(q, name);
	}
	if (ret == 0) {
		q->unsynced[PLACE_NEW] = q->unsynced[PLACE_CUR] = true;
		e->place = PLACE_CUR;
	} else {
		log_error("qmgr", "%s can't be moved to cur/: %s", name,
		    strerror(errno));
	}
}

void
entry_defer(struct entry *e, unsigned attempts, int64_t next_ms,
    const char *reason)
{
	e->attempts = attempts;
	e->next_ms = next_ms;
	put_state(e, reason);
	need_sync(e);
	entry_tried(e);
}

void
entry_note(struct entry *e, const char *reason)
{
	put_state(e, reason);
}

void
entry_close(struct entry *e)
{
	char name[QUEUE_ID_MAX];

	if (e == NULL)
		return;
	queue_id_text(e->id, name);
	if (e->damaged)
		spool_condemn(e->queue, e->place, name,
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

static int
remove_file(const struct entry *e, const char *name)
{
	struct queue *q = e->queue;

	if (spare_keep(q, e->place, name, e->content_at + e->size) == 0)
		return 0;
	return unlinkat(q->place[e->place], name, 0);
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
		ret = renameat(q->place[e->place], name, q->place[PLACE_FAILED],
		    name);
		if (ret == -1)
			log_error("qmgr", "%s can't be moved to failed/: %s",
			    name, strerror(errno));
		q->unsynced[PLACE_FAILED] = true;
	} else {
		ret = remove_file(e, name);
		if (ret == -1) {
			log_error("qmgr", "%s can't be removed: %s", name,
			    strerror(errno));
			entry_done(e);
		}
	}
	q->unsynced[e->place] = true;
	entry_free(e, failed || ret == -1);
	return ret;
}
