/*
 * The spool's inside: between envelope.c, spool.c, diagnosis.c, open.c, sync.c,
 * close.c, spare.c, queue.c, commit.c, keep.c, entry.c, move.c, walk.c and
 * history.c only.
 *
 * A file of it:
 *
 *   head      72 octets: version, id, lengths, checksums, what the content
 *             has ("8" 8-bit octets, "l" a long line, "0" NUL); written once
 *   state     440 octets: attempts, next try, reason; overwritten in place
 *   envelope  lines "key TAB value"; "dsn" and the last part of
 *             "rcpt TAB STATE TAB to TAB original TAB dsn" are parameters of
 *             MAIL and RCPT; STATE is one octet, overwritten in place
 *   content   the message in canonical form
 *   end       "\nend ID\n"
 *   notes     lines for the report to the sender, appended when there are any:
 *             "note TAB RECIPIENT TAB status TAB time TAB peer TAB reply", the
 *             last one counts, and "warned"; what is no such line is ignored
 *
 * Head and state share the first 512 octets, so one sector holds both.  The
 * checksum of the envelope is taken with every STATE as "-".  Everything
 * that must change after the commit changes in place: finishing a message
 * needs no free disk space.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include "relayd.h"

#include <pthread.h>

enum {
	SPOOL_VERSION = 1,
	SPOOL_STATE_AT = 72,
	SPOOL_STATE = 440,
	SPOOL_ENVELOPE_AT = SPOOL_STATE_AT + SPOOL_STATE,
	SPOOL_END = 18,
	SPOOL_REASON = 400,
	SPOOL_NOTES_MAX = 16 << 20,
	/* For LIMIT_RECIPIENTS at their longest. */
	SPOOL_ENVELOPE_MAX = 128 << 20,
	SPOOL_CHANCE_BITS = 18, /* of an id; the rest is its time */
};

struct spool_head {
	queue_id id;
	uint64_t envelope_octets;
	uint64_t content_octets;
	uint32_t envelope_crc;
	uint32_t content_crc;
	unsigned content_has; /* TEXT_* */
};

struct spool_state {
	unsigned attempts;
	int64_t next_ms; /* wall clock */
	char reason[SPOOL_REASON + 1];
};

void spool_format_head(const struct spool_head *h, char out[SPOOL_STATE_AT]);
void spool_format_state(const struct spool_state *s, char out[SPOOL_STATE]);
/* Escaped, cut where it is too long. */
void spool_set_reason(struct spool_state *s, const char *reason);
void spool_format_end(queue_id id, char out[SPOOL_END]);
/* crc receives its checksum.  -1: EINVAL, a value contains a control byte;
 * EFBIG, it is over the limit; out is then undefined. */
int spool_format_envelope(const struct envelope *e, struct buf *out,
    uint32_t *crc);

/*
 * Read and check all but the content; st is of the file.  envelope may be
 * NULL: then it is neither read nor checked.
 * returns NULL, or what is wrong with the file ("" : errno says it: try
 * again later, the file may be fine).
 */
const char *spool_load(int fd, const struct stat *st, queue_id id,
    struct spool_head *head, struct spool_state *state,
    struct envelope *envelope);

/* A value must not contain what ends it, here or in a log line or on the wire:
 * no control byte at all. */
bool spool_is_clean(struct span s);
/* Exactly len octets at offset: 1; 0: the file is shorter; -1 errno. */
int spool_read_at(int fd, void *out, size_t len, uint64_t offset);

/* ---- envelope.c ---- */

/* One that waits, without any address yet; valid until the next. */
struct recipient *envelope_new_recipient(struct envelope *e);

/* ---- diagnosis.c ---- */

/* The line of a recipient's diagnosis. */
void spool_format_note(const struct recipient *r, size_t index,
    struct buf *out);
/* Read the notes, which begin at an offset, into the envelope; end receives
 * where the last whole line ends.  True: the sender was warned. */
bool spool_load_notes(int fd, uint64_t at, struct envelope *e, uint64_t *end);

/* ---- sync.c ---- */

/* A thread that no signal interrupts: they are the loop's.  0, or an errno. */
int spool_thread(pthread_t *thread, void *run(void *arg), void *arg);

struct sync_file {
	int fd;
	int error; /* receives 0, or the errno of its fdatasync() */
};

struct syncer *syncer_new(void);
/* Begin a group; files are the syncer's until it is done.  event: an eventfd to
 * be written to then, or -1.  A small group is done at once. */
void syncer_start(struct syncer *s, struct sync_file *file, size_t count,
    int event);
bool syncer_is_done(struct syncer *s);
void syncer_wait(struct syncer *s); /* until it is, taking part */
void syncer_free(struct syncer *s);

/* ---- close.c ---- */

struct closer *closer_new(void);
void closer_add(struct closer *c, int fd); /* to be closed by the next run */
void closer_run(struct closer *c);         /* by a thread if they are several */
void closer_free(struct closer *c);        /* when they are closed */

/* ---- queue.c, commit.c, entry.c ---- */

/* A file with what is not on stable storage yet. */
struct unsynced {
	int fd;
	struct entry *entry; /* whose it is; NULL: to be closed then */
};

enum { SPARES_MAX = 128 };

/* Files under tmp/ that may be overwritten (spare.c). */
struct spares {
	char name[SPARES_MAX][QUEUE_ID_MAX];
	size_t ready; /* so many, from the first; the rest has to be synced */
	size_t count;
	bool used; /* lately */
};

/* The spool's directories, held open for life. */
struct queue {
	int top; /* the spool itself */
	int tmp; /* being received */
	int place[PLACES];
	int lock;
	bool read_only;
	int64_t last_id_ms;   /* ids: time never goes back ... */
	uint32_t next_chance; /* ... and the rest is counted */
	struct msg *group;    /* waiting for their sync, oldest first */
	struct msg **group_end;
	size_t committing; /* and those that are being synced */
	struct syncer *syncer;
	struct closer *closer;    /* of the files of what has been sent */
	int event;                /* tells of the end of a flight; -1: nobody */
	struct flight *flight;    /* the group that is being synced, or NULL */
	unsigned failures;        /* syncs failed in a row */
	int64_t failing_until_ms; /* monotonic */
	struct histogram commits; /* the time that a group's sync takes */
	struct spares spares;
	bool unsynced[PLACES]; /* removals and moves since the last sync */
	struct unsynced *mark; /* files with marks */
	size_t mark_count;
};

const char *spool_place_name(enum queue_place place); /* "new", "cur" ... */

/* Free it and whatever of it is open; nothing may wait for a sync. */
void spool_close(struct queue *q);

/* Sync the directories that have changed; -1 errno. */
int spool_sync_places(struct queue *q);

/* Make a directory again that has been removed by hand. */
void spool_recover(struct queue *q);

/* ---- open.c ---- */

/* Is what is open a regular file of ours?  -1 and *why ("" : errno says it)
 * otherwise.  st receives what it looks like. */
int spool_prove(const struct queue *q, int fd, struct stat *st,
    const char **why);
/* Open a file of a place for reading (writing: O_RDWR) and prove it.  -1 and
 * *why as above. */
int spool_open(struct queue *q, enum queue_place place, const char *name,
    int flags, struct stat *st, const char **why);
/* The same for reading, where the directory has just called it a regular file:
 * no need to look at it first. */
int spool_open_regular(struct queue *q, enum queue_place place,
    const char *name, struct stat *st, const char **why);
/* Move what can't be a message of ours to failed/, or leave it; logged. */
void spool_condemn(struct queue *q, enum queue_place place, const char *name,
    const char *why);

/* ---- spare.c ---- */

/* Instead of removing a file of so many octets from a place; -1: it is still
 * there. */
int spare_keep(struct queue *q, enum queue_place place, const char *name,
    uint64_t octets);
/* All directories are synced: what was kept may be overwritten. */
void spares_synced(struct queue *q);
/* One of them, for writing: its name under tmp/, the octets that it has; or
 * -1. */
int spare_open(struct queue *q, char name[QUEUE_ID_MAX], uint64_t *octets);
void spares_drop(struct queue *q); /* remove them */
void spares_age(struct queue *q);  /* if none was used since the last call */

#endif
