/*
 * The spool: a test for each row of the table of states in queue.c, faults at
 * every system call of the commit, and damage of every kind.
 *
 * wrap: fdatasync fsync write pwrite renameat2 openat fstatat unlinkat
 * wrap: clock_read
 */
#include "../spool.h"

#include "spool_directory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t at);
int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags);
int __real_renameat2(int from, const char *old, int to, const char *new,
    unsigned flags);
int __wrap_renameat2(int from, const char *old, int to, const char *new,
    unsigned flags);
int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);
int __real_fstatat(int dir, const char *name, struct stat *st, int flags);
int __wrap_fstatat(int dir, const char *name, struct stat *st, int flags);
void __real_clock_read(struct instant *now);
void __wrap_clock_read(struct instant *now);

/* ---- faults ---- */

/* The n-th of the counted calls from now fails with error; 0: none does. */
static struct {
	unsigned left;
	int error;
	unsigned syncs;   /* how many there were */
	int synced[64];   /* their descriptors */
	int64_t clock_ms; /* added to both clocks */
	size_t piece;     /* pwrite() takes no more at once; 0: all */
	bool unremovable; /* unlinkat() fails */
	/* Done to a file when it has been looked at, before it is opened. */
	void (*meanwhile)(const char *path);
	const char *path;
} fault;

static bool
fails(void)
{
	if (fault.left == 0 || --fault.left > 0)
		return false;
	errno = fault.error;
	return true;
}

int
__wrap_fdatasync(int fd)
{
	fault.synced[fault.syncs++ % 64] = fd;
	return fails() ? -1 : __real_fdatasync(fd);
}

int
__wrap_fsync(int fd)
{
	fault.synced[fault.syncs++ % 64] = fd;
	return fails() ? -1 : __real_fsync(fd);
}

ssize_t
__wrap_write(int fd, const void *data, size_t len)
{
	if (fd > STDERR_FILENO && fails())
		return -1;
	return __real_write(fd, data, len);
}

/* A short write is no error: errno says nothing. */
ssize_t
__wrap_pwrite(int fd, const void *data, size_t len, off_t at)
{
	if (fault.piece > 0 && len > fault.piece) {
		len = fault.piece;
		errno = 0;
	}
	return __real_pwrite(fd, data, len, at);
}

int
__wrap_unlinkat(int dir, const char *name, int flags)
{
	if (!fault.unremovable)
		return __real_unlinkat(dir, name, flags);
	errno = EIO;
	return -1;
}

int
__wrap_renameat2(int from, const char *old, int to, const char *new,
    unsigned flags)
{
	return fails() ? -1 : __real_renameat2(from, old, to, new, flags);
}

int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	if ((flags & O_CREAT) != 0 && fails())
		return -1;
	return __real_openat(dir, name, flags, 0600);
}

int
__wrap_fstatat(int dir, const char *name, struct stat *st, int flags)
{
	int ret = __real_fstatat(dir, name, st, flags);

	if (fault.meanwhile != NULL)
		fault.meanwhile(fault.path);
	return ret;
}

void
__wrap_clock_read(struct instant *now)
{
	__real_clock_read(now);
	now->mono_ms += fault.clock_ms;
	now->wall_ms += fault.clock_ms;
}

/* ---- a spool to test in ---- */

struct outcome {
	unsigned calls;
	queue_id id;
	int error;
};

struct spool {
	char path[64];
	struct queue *queue;
	struct outcome told;
};

static void
committed(void *arg, queue_id id, int error)
{
	struct spool *s = arg;

	s->told = (struct outcome){ s->told.calls + 1, id, error };
}

static int
setup(void **state)
{
	struct spool *s = mem_alloc(sizeof(*s));

	memset(&fault, 0, sizeof(fault));
	s->queue = make_spool(s->path);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct spool *s = *state;

	memset(&fault, 0, sizeof(fault));
	remove_spool(s->path, s->queue);
	free(s);
	return 0;
}

static void
reopen(struct spool *s)
{
	pid_t owner;

	queue_close(s->queue);
	s->queue = queue_open(s->path, 0, &owner);
	assert_non_null(s->queue);
}

static void
assert_places(const struct spool *s, unsigned tmp, unsigned new, unsigned cur,
    unsigned failed)
{
	assert_int_equal(files_in(s->path, "tmp"), tmp);
	assert_int_equal(files_in(s->path, "new"), new);
	assert_int_equal(files_in(s->path, "cur"), cur);
	assert_int_equal(files_in(s->path, "failed"), failed);
}

static void
path_of(const struct spool *s, const char *place, queue_id id, char out[96])
{
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	(void)snprintf(out, 96, "%s/%s/%s", s->path, place, name);
}

static const char *const rcpts[] = { "a@one.example", "b@two.example",
	"\"c d\"@three.example" };

/* Envelope and content; the recipients have this state. */
static struct msg *
fill(struct msg *m, size_t recipients, enum recipient_state state,
    const char *body)
{
	struct envelope e = { .uid = 1000, .arrived_ms = 1764000000123 };
	struct recipient *r;
	size_t i;

	e.sender = mem_text("from@here.example");
	e.original_sender = mem_text("root");
	e.client = mem_text("userid 1000");
	e.ret = RETURN_HEADERS;
	e.envid = mem_text("a+b=c d;");
	for (i = 0; i < recipients; i++) {
		r = envelope_add(&e, rcpts[i], i == 0 ? "root" : rcpts[i]);
		r->state = state;
		if (i == 1) {
			r->notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
			r->orcpt = mem_text("rfc822;a +=;b@c");
		}
	}
	envelope_add_name(&e, rcpts[0], "postmaster");
	msg_envelope(m, &e);
	envelope_clear(&e);
	(void)msg_write(m, span_of(body));
	return m;
}

static struct msg *
begin(struct spool *s, size_t recipients, const char *body)
{
	return fill(queue_begin(s->queue), recipients, RECIPIENT_WAITING, body);
}

static queue_id
add(struct spool *s, size_t recipients, const char *body)
{
	queue_commit(begin(s, recipients, body), committed, s);
	assert_false(queue_sync(s->queue));
	assert_int_equal(s->told.error, 0);
	return s->told.id;
}

static void
assert_content(struct entry *e, const char *body)
{
	char out[8192];
	size_t len = 0;
	ssize_t n;

	while ((n = entry_read(e, out + len, 7)) > 0)
		len += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(len, strlen(body));
	assert_memory_equal(out, body, len);
}

/* ---- accepting ---- */

static void
commit_tells_only_from_the_sync(void **state)
{
	struct spool *s = *state;

	queue_commit(begin(s, 1, "body\r\n"), committed, s);
	assert_int_equal(s->told.calls, 0);
	assert_false(queue_sync(s->queue));
	assert_int_equal(s->told.calls, 1);
	assert_int_equal(s->told.error, 0);
	assert_places(s, 0, 1, 0, 0);
}

static void
commit_syncs_the_file_and_then_its_directory(void **state)
{
	struct spool *s = *state;

	fault.syncs = 0;
	(void)add(s, 1, "body\r\n");
	assert_int_equal(fault.syncs, 2);
}

static void
a_group_shares_the_sync_of_its_directory(void **state)
{
	struct spool *s = *state;
	int i;

	for (i = 0; i < 10; i++)
		queue_commit(begin(s, 1, "body\r\n"), committed, s);
	fault.syncs = 0;
	assert_false(queue_sync(s->queue));
	assert_int_equal(s->told.calls, 10);
	assert_int_equal(fault.syncs, 11);
}

/* Or a power cut could find a message in neither. */
static void
what_has_moved_to_cur_is_there_before_new_forgets_it(void **state)
{
	struct spool *s = *state;
	struct entry *e = queue_take(s->queue, add(s, 2, "body\r\n"));

	entry_defer(e, 1, 0, "try again");
	fault.syncs = 0;
	(void)add(s, 1, "body\r\n");
	assert_int_equal(fault.syncs, 3);
	assert_int_equal(fault.synced[1], s->queue->place[PLACE_CUR]);
	assert_int_equal(fault.synced[2], s->queue->place[PLACE_NEW]);
	entry_mark(e, 0, RECIPIENT_FAILED);
	entry_mark(e, 1, RECIPIENT_FAILED);
	entry_finish(e);
	fault.syncs = 0;
	queue_sync_marks(s->queue);
	assert_int_equal(fault.syncs, 3);
	assert_int_equal(fault.synced[1], s->queue->place[PLACE_FAILED]);
	assert_int_equal(fault.synced[2], s->queue->place[PLACE_CUR]);
}

static void
a_group_is_bounded(void **state)
{
	struct spool *s = *state;
	int i;

	for (i = 0; i < 33; i++)
		queue_commit(begin(s, 1, "body\r\n"), committed, s);
	assert_true(queue_sync(s->queue));
	assert_int_equal(s->told.calls, 32);
	assert_false(queue_sync(s->queue));
	assert_int_equal(s->told.calls, 33);
}

/* Groups of one kind, then of others, as they come together meanwhile. */
static void
groups_are_told_while_others_are_being_synced(void **state)
{
	struct spool *s = *state;
	int i, fd = queue_event(s->queue);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	queue_id last;
	struct msg *m;

	assert_int_not_equal(fd, -1);
	for (i = 0; i < 40; i++) {
		m = begin(s, 1, "body\r\n");
		last = msg_id(m);
		queue_commit(m, committed, s);
	}
	assert_false(queue_is_committing(s->queue, last));
	(void)queue_sync(s->queue);
	while (s->told.calls == 0) {
		assert_int_equal(poll(&p, 1, 20000), 1);
		(void)queue_sync(s->queue);
	}
	assert_int_equal(s->told.calls, 32);
	assert_true(queue_is_committing(s->queue, last));
	queue_commit(begin(s, 1, "body\r\n"), committed, s);
	queue_settle(s->queue);
	assert_int_equal(s->told.calls, 41);
	assert_false(queue_is_committing(s->queue, last));
	assert_places(s, 0, 41, 0, 0);
}

static void
remove_told(struct spool *s)
{
	entry_finish(queue_take(s->queue, s->told.id));
	queue_sync_marks(s->queue);
}

/* Each call of the commit fails once: creation, write, rename, two syncs. */
static void
commit_queues_nothing_when_a_call_fails(void **state)
{
	struct spool *s = *state;
	static const int errors[] = { EIO, ENOSPC, EDQUOT, EROFS };
	unsigned nth, runs = 0;
	size_t i;

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		for (nth = 1;; nth++) {
			struct msg *m = begin(s, 1, "body\r\n");

			fault.left = nth;
			fault.error = errors[i];
			queue_commit(m, committed, s);
			(void)queue_sync(s->queue);
			if (fault.left > 0)
				break; /* none was left to fail */
			assert_int_equal(s->told.error, errors[i]);
			assert_places(s, 0, 0, 0, 0);
			runs++;
			/* A success in between, so that it goes on accepting. */
			queue_commit(begin(s, 1, "x\r\n"), committed, s);
			(void)queue_sync(s->queue);
			assert_int_equal(s->told.error, 0);
			remove_told(s);
		}
		fault.left = 0;
		assert_int_equal(s->told.error, 0);
		remove_told(s);
	}
	assert_int_equal(runs, 5 * 4);
}

static void
three_failed_syncs_stop_accepting_for_a_while(void **state)
{
	struct spool *s = *state;
	int i;

	for (i = 0; i < 3; i++) {
		struct msg *m = begin(s, 1, "body\r\n");

		assert_false(queue_is_failing(s->queue));
		queue_commit(m, committed, s);
		fault.left =
		    2; /* the rename goes well, the file's sync fails */
		fault.error = EIO;
		(void)queue_sync(s->queue);
		assert_int_equal(s->told.error, EIO);
	}
	assert_true(queue_is_failing(s->queue));
	fault.clock_ms += 31 * 1000;
	assert_false(queue_is_failing(s->queue));
	(void)add(s, 1, "body\r\n");
	fault.clock_ms -= 31 * 1000;
	assert_false(queue_is_failing(s->queue));
}

static void
an_aborted_message_leaves_nothing(void **state)
{
	struct spool *s = *state;
	char *big = mem_alloc(300 << 10);

	msg_abort(begin(s, 1, "body\r\n"));
	memset(big, 'x', (300 << 10) - 1);
	msg_abort(begin(s, 1, big)); /* one that has a file already */
	free(big);
	msg_abort(NULL);
	assert_places(s, 0, 0, 0, 0);
}

static void
a_control_byte_in_the_envelope_is_refused(void **state)
{
	struct spool *s = *state;
	struct envelope e = { .uid = -1 };
	struct msg *m = queue_begin(s->queue);

	e.sender = mem_text("a@b\nrcpt\t-\tx@y\tx@y");
	envelope_add(&e, "c@d", "c@d");
	msg_envelope(m, &e);
	envelope_clear(&e);
	queue_commit(m, committed, s);
	(void)queue_sync(s->queue);
	assert_int_equal(s->told.error, EINVAL);
	assert_places(s, 0, 0, 0, 0);
}

/* What was said to be stored must be read again, however long. */
static void
the_longest_envelope_that_can_be_set_is_within_its_limit(void **state)
{
	/* The domain of a completed one may be the longest. */
	char address[LIMIT_LOCAL_PART + 1 + LIMIT_DOMAIN + 1] = { 0 };
	char original[LIMIT_ADDRESS + 1] = { 0 };
	char orcpt[LIMIT_ORCPT + 1] = { 0 };
	struct envelope e = { .uid = -1 };
	struct recipient *r;
	uint32_t crc;
	struct buf one = { 0 };

	(void)state;
	memset(address, 'a', sizeof(address) - 1);
	memset(original, 'a', sizeof(original) - 1);
	memset(orcpt, ';', sizeof(orcpt) - 1);
	orcpt[0] = 'x';
	r = envelope_add(&e, address, original);
	r->notify = NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY;
	r->orcpt = mem_text(orcpt);
	assert_int_equal(spool_format_envelope(&e, &one, &crc), 0);
	assert_true(one.len < SPOOL_ENVELOPE_MAX / LIMIT_RECIPIENTS);
	buf_free(&one);
	envelope_clear(&e);
}

static void
ids_are_unique_when_the_clock_goes_back(void **state)
{
	struct spool *s = *state;
	queue_id last = 0;
	int i;

	for (i = 0; i < 1000; i++) {
		struct msg *m = queue_begin(s->queue);
		queue_id id = msg_id(m);
		char text[QUEUE_ID_MAX];
		queue_id again;

		assert_true(id != last);
		queue_id_text(id, text);
		assert_true(queue_id_parse(span_of(text), &again));
		assert_true(id == again);
		last = id;
		fault.clock_ms -= 1000;
		msg_abort(m);
	}
}

/* ---- sending ---- */

/* B21, B22, B23 */
static void
a_taken_message_tells_what_its_content_has(void **state)
{
	struct spool *s = *state;
	static const struct {
		struct span text;
		unsigned has;
	} rows[] = {
		{ { "Subject: x\r\n\r\nbody\r\n", 20 }, 0 },
		{ { "\r\n\xe4\r\n", 5 }, TEXT_8BIT },
		{ { "\r\n\0\xe4\r\n", 6 }, TEXT_8BIT | TEXT_NUL },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct msg *m = begin(s, 1, "");
		struct entry *e;

		assert_int_equal(msg_write(m, rows[i].text), 0);
		queue_commit(m, committed, s);
		(void)queue_sync(s->queue);
		e = queue_take(s->queue, s->told.id);
		assert_int_equal(e->has, rows[i].has);
		entry_finish(e);
	}
}

static void
a_taken_message_is_what_was_committed(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 3, "Subject: x\r\n\r\nbody\r\n");
	struct entry *e = queue_take(s->queue, id);

	assert_non_null(e);
	assert_places(s, 0, 1, 0, 0);
	assert_string_equal(e->envelope.sender, "from@here.example");
	assert_string_equal(e->envelope.original_sender, "root");
	assert_int_equal(e->envelope.uid, 1000);
	assert_int_equal(e->envelope.arrived_ms, 1764000000123);
	assert_int_equal(e->envelope.recipient_count, 3);
	assert_string_equal(e->envelope.recipient[0].original, "root");
	assert_int_equal(e->envelope.names.count, 1);
	assert_non_null(strstr(e->envelope.names.item[0], "\tpostmaster"));
	assert_string_equal(e->envelope.recipient[2].address, rcpts[2]);
	assert_content(e, "Subject: x\r\n\r\nbody\r\n");
	entry_rewind(e);
	assert_content(e, "Subject: x\r\n\r\nbody\r\n");
	entry_finish(e);
	assert_places(s, 0, 0, 0, 0);
	assert_null(queue_take(s->queue, id));
	assert_int_equal(errno, ENOENT);
}

static void
the_parameters_of_dsn_survive_a_restart_and_marks(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 3, "body\r\n");
	struct entry *e = queue_take(s->queue, id);
	const struct recipient *r;

	entry_mark(e, 1, RECIPIENT_FAILED);
	entry_mark(e, 0, RECIPIENT_SENT);
	entry_close(e);
	reopen(s);
	e = queue_take(s->queue, id);
	assert_non_null(e);
	r = e->envelope.recipient;
	assert_int_equal(e->envelope.ret, RETURN_HEADERS);
	assert_string_equal(e->envelope.envid, "a+b=c d;");
	assert_int_equal(r[0].notify, 0);
	assert_string_equal(r[0].orcpt, "");
	assert_int_equal(r[1].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
	assert_string_equal(r[1].orcpt, "rfc822;a +=;b@c");
	assert_int_equal(r[1].state, RECIPIENT_FAILED);
	assert_string_equal(r[2].orcpt, "");
	entry_close(e);
}

static void
why_a_new_message_waits_is_in_its_file(void **state)
{
	struct spool *s = *state;
	struct msg *m = begin(s, 1, "body\r\n");
	const struct queue_info *info;
	struct queue_walk *w;

	msg_waits(m, "no route \x1b to it");
	queue_commit(m, committed, s);
	assert_false(queue_sync(s->queue));
	w = queue_walk_new(s->queue, PLACE_NEW, QUEUE_WALK_ENVELOPE);
	assert_true(queue_walk_next(w, &info));
	assert_int_equal(info->attempts, 0);
	assert_string_equal(info->reason, "no route \\x1b to it");
	queue_walk_free(w);
}

static void
marks_and_attempts_survive_a_restart(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 3, "body\r\n");
	struct entry *e = queue_take(s->queue, id);
	const struct queue_info *info;
	struct queue_walk *w;

	entry_mark(e, 1, RECIPIENT_SENT);
	entry_defer(e, 7, 1764000099000, "450 4.2.1 \x1b later");
	entry_close(e);
	reopen(s);
	w = queue_walk_new(s->queue, PLACES, QUEUE_WALK_ENVELOPE);
	assert_true(queue_walk_next(w, &info));
	assert_int_equal(info->place, PLACE_CUR);
	assert_int_equal(info->attempts, 7);
	assert_int_equal(info->next_ms, 1764000099000);
	assert_string_equal(info->reason, "450 4.2.1 \\x1b later");
	assert_int_equal(info->envelope.recipient[0].state, RECIPIENT_WAITING);
	assert_int_equal(info->envelope.recipient[1].state, RECIPIENT_SENT);
	assert_false(queue_walk_next(w, &info));
	queue_walk_free(w);
	e = queue_take(s->queue, id);
	assert_int_equal(e->attempts, 7);
	assert_content(e, "body\r\n");
	entry_close(e);
}

/* A message that is refused for ever stays one of ours. */
static void
notes_end_at_their_limit(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, "body\r\n");
	struct entry *e = queue_take(s->queue, id);
	char reply[LIMIT_REPLY_KEPT];
	size_t i;

	memset(reply, 'x', sizeof(reply) - 1);
	reply[sizeof(reply) - 1] = '\0';
	recipient_diagnose(&e->envelope.recipient[0], "4.0.0", "mx", reply, 1);
	for (i = 0; i < SPOOL_NOTES_MAX / sizeof(reply) + 2; i++)
		entry_diagnosed(e, 0);
	entry_close(e);
	reopen(s);
	e = queue_take(s->queue, id);
	assert_non_null(e);
	assert_string_equal(e->envelope.recipient[0].last.reply, reply);
	entry_close(e);
}

/* Of a recipient the last one counts; what a crash has torn is none. */
static void
what_was_said_of_a_recipient_survives_a_restart(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 2, "body\r\n");
	struct entry *e = queue_take(s->queue, id);
	struct recipient *r = &e->envelope.recipient[1];

	entry_mark(e, 1, RECIPIENT_FAILED);
	recipient_diagnose(r, "4.0.0", "mx[1]:25", "450 later", 1);
	entry_diagnosed(e, 1);
	assert_false(e->warned);
	entry_warned(e);
	recipient_diagnose(r, "5.1.1", "mx[2]:25", "550 no\r\n\tM\xc3\xa4x",
	    77);
	entry_diagnosed(e, 1);
	entry_defer(e, 1, 0, "why");
	assert_int_equal(
	    pwrite(e->fd, "note\t0\t5.0.0\t1\tm", 17, (off_t)e->notes_at), 17);
	entry_close(e);
	assert_places(s, 0, 0, 1, 0);
	reopen(s);
	e = queue_take(s->queue, id);
	assert_non_null(e);
	assert_true(e->warned);
	assert_string_equal(e->reason, "why");
	assert_null(e->envelope.recipient[0].last.reply);
	r = &e->envelope.recipient[1];
	assert_string_equal(r->last.status, "5.1.1");
	assert_string_equal(r->last.peer, "mx[2]:25");
	assert_string_equal(r->last.reply, "550 no\\x0d\\x0a\\x09M\\xc3\\xa4x");
	assert_int_equal(r->last.at_ms, 77);
	recipient_diagnose(&e->envelope.recipient[0], "5.2.2", "mx", "full", 3);
	entry_diagnosed(e, 0); /* in place of the torn one */
	entry_close(e);
	e = queue_take(s->queue, id);
	assert_string_equal(e->envelope.recipient[0].last.status, "5.2.2");
	assert_string_equal(e->envelope.recipient[1].last.status, "5.1.1");
	entry_mark(e, 0, RECIPIENT_SENT);
	entry_finish(e);
	assert_places(s, 0, 0, 0, 1);
}

static void
a_released_message_waits_for_its_failed_recipients(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 2, "body\r\n");
	struct entry *e = queue_take(s->queue, id);

	entry_mark(e, 0, RECIPIENT_FAILED);
	entry_mark(e, 1, RECIPIENT_SENT);
	entry_defer(e, 3, 0, "550 5.1.1 no");
	entry_finish(e);
	assert_places(s, 0, 0, 0, 1);
	assert_int_equal(queue_release(s->queue, id), 0);
	assert_places(s, 0, 1, 0, 0);
	e = queue_take(s->queue, id);
	assert_int_equal(e->attempts, 0);
	assert_int_equal(e->envelope.recipient[0].state, RECIPIENT_WAITING);
	assert_int_equal(e->envelope.recipient[1].state, RECIPIENT_SENT);
	entry_finish(e);
	assert_int_equal(queue_release(s->queue, id), -1);
	assert_int_equal(errno, ENOENT);
}

static void
what_cannot_be_removed_is_not_sent_again(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 2, "body\r\n");
	struct entry *e = queue_take(s->queue, id);

	e->envelope.recipient[0].state = RECIPIENT_SENT; /* but unmarked: ... */
	e->envelope.recipient[1].state = RECIPIENT_SENT; /* ... see settle.c */
	fault.unremovable = true;
	assert_int_equal(entry_finish(e), -1);
	fault.unremovable = false;
	assert_places(s, 0, 1, 0, 0);
	reopen(s);
	e = queue_take(s->queue, id);
	assert_int_equal(envelope_count(&e->envelope, RECIPIENT_SENT), 2);
	assert_int_equal(entry_finish(e), 0);
	assert_places(s, 0, 0, 0, 0);
}

/* More than is kept in memory, so that its head is written last. */
static void
short_writes_go_on(void **state)
{
	struct spool *s = *state;
	struct msg *m =
	    fill(queue_begin(s->queue), 1, RECIPIENT_WAITING, "body\r\n");
	struct entry *e;
	size_t i;

	for (i = 0; i < 50000; i++)
		(void)msg_write(m, SPAN("some line\r\n"));
	fault.piece = 10;
	queue_commit(m, committed, s);
	assert_false(queue_sync(s->queue));
	assert_int_equal(s->told.error, 0);
	e = queue_take(s->queue, s->told.id);
	assert_non_null(e);
	entry_defer(e, 3, 12345, "a reason");
	fault.piece = 0;
	entry_close(e);
	reopen(s);
	e = queue_take(s->queue, s->told.id);
	assert_int_equal(e->attempts, 3);
	assert_string_equal(e->reason, "a reason");
	entry_close(e);
}

/* The file stays open for as long as others of its recipients are sent to. */
static void
a_mark_is_synced_while_its_message_is_sent(void **state)
{
	struct spool *s = *state;
	struct entry *e = queue_take(s->queue, add(s, 2, "body\r\n"));

	queue_sync_marks(s->queue);
	assert_false(queue_unsynced(s->queue));
	entry_mark(e, 0, RECIPIENT_SENT);
	assert_true(queue_unsynced(s->queue));
	fault.syncs = 0;
	queue_sync_marks(s->queue);
	assert_int_equal(fault.syncs, 1);
	assert_int_equal(fault.synced[0], e->fd);
	assert_false(queue_unsynced(s->queue));
	entry_mark(e, 1, RECIPIENT_SENT);
	fault.syncs = 0;
	entry_finish(e);
	queue_sync_marks(s->queue);
	assert_int_equal(fault.syncs, 1); /* of cur/ */
	assert_places(s, 0, 0, 0, 0);
}

static void
a_message_is_new_until_it_is_deferred(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, "body\r\n");
	struct entry *e = queue_take(s->queue, id);

	entry_note(e, "the relayhost is down");
	assert_places(s, 0, 1, 0, 0);
	entry_defer(e, 1, 12345, "try again");
	assert_places(s, 0, 0, 1, 0);
	entry_defer(e, 2, 23456, "try again");
	entry_close(e);
	reopen(s);
	e = queue_take(s->queue, id);
	assert_int_equal(e->attempts, 2);
	entry_finish(e);
	assert_places(s, 0, 0, 0, 0);
}

/* Of a rename, a power cut may leave the new name and the old one. */
static void
a_name_that_a_crash_has_left_is_dropped(void **state)
{
	static const char *const place[] = { "new", "hold", "failed" };
	struct spool *s = *state;
	size_t i;

	for (i = 0; i < sizeof(place) / sizeof(place[0]); i++) {
		queue_id id = add(s, 1, "body\r\n");
		char cur[96], other[96];
		const struct queue_info *info;
		struct queue_walk *w;
		struct entry *e;

		e = queue_take(s->queue, id);
		entry_defer(e, 1, 0, "try again");
		entry_close(e);
		path_of(s, "cur", id, cur);
		path_of(s, place[i], id, other);
		assert_int_equal(link(cur, other), 0);
		reopen(s);
		w = queue_walk_new(s->queue, PLACE_CUR, 0);
		assert_true(queue_walk_next(w, &info));
		queue_walk_free(w);
		e = queue_take(s->queue, id);
		assert_non_null(e);
		entry_mark(e, 0, RECIPIENT_SENT);
		entry_finish(e);
		assert_places(s, 0, 0, 0, 0);
		assert_int_equal(files_in(s->path, "hold"), 0);
	}
}

/* One that was killed has synced nothing since. */
static void
a_start_syncs_what_the_last_daemon_has_moved(void **state)
{
	struct spool *s = *state;
	enum queue_place place;
	unsigned i, found = 0;

	fault.syncs = 0;
	reopen(s);
	for (i = 0; i < fault.syncs; i++) {
		for (place = 0; place < PLACES; place++)
			found += fault.synced[i] == s->queue->place[place];
	}
	assert_int_equal(found, PLACES);
}

static struct msg *
again(struct spool *s, queue_id id)
{
	return fill(queue_begin_again(s->queue, id), 2, RECIPIENT_SENT,
	    "new\r\n");
}

static void
a_replaced_message_has_its_new_content_and_states(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, "body\r\n");
	enum queue_place place;
	struct entry *e = queue_take(s->queue, id);

	entry_defer(e, 3, 1764000099000, "450 4.2.1 later");
	entry_close(e);
	assert_int_equal(msg_replace(again(s, id), PLACE_CUR), 0);
	assert_int_equal(queue_replaced(s->queue, id, PLACE_CUR), 0);
	reopen(s);
	e = queue_look(s->queue, id, &place);
	assert_non_null(e);
	assert_int_equal(place, PLACE_CUR);
	assert_int_equal(e->attempts, 0);
	assert_int_equal(e->envelope.recipient_count, 2);
	assert_int_equal(e->envelope.recipient[1].state, RECIPIENT_SENT);
	assert_content(e, "new\r\n");
	entry_close(e);
	assert_places(s, 0, 0, 1, 0);
}

/* Whichever call fails, the message is as it was; and so it is in failed/. */
static void
a_message_that_cannot_be_replaced_stays_as_it_is(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, "body\r\n");
	enum queue_place place;
	struct entry *e;
	unsigned nth;

	for (nth = 1;; nth++) {
		fault.left = nth;
		fault.error = ENOSPC;
		if (msg_replace(again(s, id), PLACE_NEW) == 0)
			break;
		assert_int_equal(errno, ENOSPC);
		fault.left = 0;
		e = queue_look(s->queue, id, &place);
		assert_non_null(e);
		assert_content(e, "body\r\n");
		entry_close(e);
		assert_places(s, 0, 1, 0, 0);
	}
	fault.left = 0;
	assert_int_equal(nth, 4); /* creation, write, sync */
	e = queue_take(s->queue, id);
	assert_content(e, "new\r\n");
	entry_close(e);
}

static void
a_message_is_looked_at_wherever_it_is(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, "body\r\n");
	enum queue_place place;
	struct entry *e;

	assert_int_equal(queue_hold(s->queue, id), 0);
	e = queue_look(s->queue, id, &place);
	assert_non_null(e);
	assert_int_equal(place, PLACE_HOLD);
	entry_close(e);
	assert_int_equal(queue_hold(s->queue, id), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(queue_delete(s->queue, id), 0);
	assert_null(queue_look(s->queue, id, &place));
	assert_int_equal(errno, ENOENT);
	assert_int_equal(queue_delete(s->queue, id), -1);
	assert_int_equal(errno, ENOENT);
}

/* ---- damage ---- */

/* Change one octet, or cut the file, and see it refused. */
static void
spoil(const char *path, off_t at, int value)
{
	int fd = open(path, O_RDWR);
	char c;

	assert_true(fd >= 0);
	if (value == -1) {
		assert_int_equal(ftruncate(fd, at), 0);
	} else {
		assert_int_equal(pread(fd, &c, 1, at), 1);
		c = (char)(c ^ value);
		assert_int_equal(pwrite(fd, &c, 1, at), 1);
	}
	(void)close(fd);
}

/* Is the message given out whole, in spite of what was done to it? */
static bool
is_sent(struct spool *s, queue_id id, const char *body)
{
	struct entry *e = queue_take(s->queue, id);
	char out[256];
	size_t len = 0;
	ssize_t n = 0;
	bool whole;

	if (e == NULL) {
		assert_int_equal(errno, EBADMSG);
		return false;
	}
	while (len < sizeof(out) &&
	    (n = entry_read(e, out + len, sizeof(out) - len)) > 0)
		len += (size_t)n;
	whole = n == 0;
	if (whole) {
		assert_int_equal(len, strlen(body));
		assert_memory_equal(out, body, len);
	}
	entry_close(e);
	return whole;
}

static const char short_body[] = "Subject: x\r\n\r\nbody\r\n";

static void
H2_a_cut_message_is_never_sent(void **state)
{
	struct spool *s = *state;
	off_t at = 0, size = 1;

	for (at = 0; at < size; at++) {
		queue_id id = add(s, 2, short_body);
		char path[96];
		struct stat st;

		path_of(s, "new", id, path);
		assert_int_equal(stat(path, &st), 0);
		size = st.st_size;
		spoil(path, at, -1);
		assert_false(is_sent(s, id, short_body));
		path_of(s, "failed", id, path);
		assert_int_equal(unlink(path), 0);
	}
	assert_true(size > SPOOL_ENVELOPE_AT);
}

/* The state's octets may change: they say nothing that could harm. */
static void
H5_a_flipped_bit_is_never_sent(void **state)
{
	struct spool *s = *state;
	off_t at, size = 1;
	unsigned sent = 0;

	for (at = 0; at < size; at++) {
		queue_id id = add(s, 2, short_body);
		char path[96];
		struct stat st;

		path_of(s, "new", id, path);
		assert_int_equal(stat(path, &st), 0);
		size = st.st_size;
		spoil(path, at, 1 << (at % 8));
		if (is_sent(s, id, short_body)) {
			assert_in_range(at, SPOOL_STATE_AT,
			    SPOOL_ENVELOPE_AT - 1);
			sent++;
			entry_finish(queue_take(s->queue, id));
			continue;
		}
		assert_places(s, 0, 0, 0, 1);
		path_of(s, "failed", id, path);
		assert_int_equal(unlink(path), 0);
	}
	assert_in_range(sent, SPOOL_STATE - 1, SPOOL_STATE);
}

/* Without a disk, so that it can be every bit. */
static void
H5_each_bit_of_head_and_envelope_counts(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 2, short_body);
	int file = memfd_create("message", MFD_CLOEXEC);
	char path[96], all[4096];
	struct spool_head head;
	struct spool_state tried;
	struct envelope e = { .uid = -1 };
	struct stat st;
	ssize_t size, at;
	unsigned bit;
	int fd;

	path_of(s, "new", id, path);
	fd = open(path, O_RDONLY);
	size = read(fd, all, sizeof(all));
	(void)close(fd);
	assert_int_equal(pwrite(file, all, (size_t)size, 0), size);
	assert_int_equal(fstat(file, &st), 0);
	assert_null(spool_load(file, &st, id, &head, &tried, &e));
	envelope_clear(&e);
	for (at = 0; at < size - SPOOL_END - (ssize_t)strlen(short_body);
	     at++) {
		if (at >= SPOOL_STATE_AT && at < SPOOL_ENVELOPE_AT)
			continue;
		for (bit = 0; bit < 8; bit++) {
			char c = (char)(all[at] ^ 1 << bit);
			bool is_content = at >= 59 && at < 67; /* its sum */
			const char *wrong;

			assert_int_equal(pwrite(file, &c, 1, at), 1);
			wrong = spool_load(file, &st, id, &head, &tried, &e);
			envelope_clear(&e);
			if (wrong == NULL && !is_content)
				fail_msg("octet %zd, bit %u", at, bit);
		}
		assert_int_equal(pwrite(file, all + at, 1, at), 1);
	}
	(void)close(file);
}

static void
H3_trailing_octets_are_damage(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, short_body);
	char path[96];
	int fd;

	path_of(s, "new", id, path);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "x", 1), 1);
	(void)close(fd);
	assert_false(is_sent(s, id, short_body));
	assert_places(s, 0, 0, 0, 1);
}

static void
H1_H4_empty_and_zeroed_files_go_to_failed(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, short_body);
	char path[96];

	path_of(s, "new", id, path);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(truncate(path, 700), 0); /* all NUL */
	assert_false(is_sent(s, id, short_body));
	id = add(s, 1, short_body);
	path_of(s, "new", id, path);
	assert_int_equal(truncate(path, 0), 0);
	assert_false(is_sent(s, id, short_body));
	assert_places(s, 0, 0, 0, 2);
}

/* Is a file with these lines in its envelope, all of its checksums right, a
 * message? */
static bool
is_envelope(struct spool *s, struct span lines)
{
	struct spool_head head = { .id = 1,
		.envelope_octets = lines.len,
		.envelope_crc = crc32c(0, lines.data, lines.len) };
	struct spool_state none = { 0 };
	char start[SPOOL_ENVELOPE_AT], end[SPOOL_END], path[96];
	struct buf file = { 0 };
	int fd;

	spool_format_head(&head, start);
	spool_format_state(&none, start + SPOOL_STATE_AT);
	spool_format_end(head.id, end);
	buf_append(&file, start, sizeof(start));
	buf_add(&file, lines);
	buf_append(&file, end, sizeof(end));
	path_of(s, "new", head.id, path);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, buf_span(&file)), 0);
	(void)close(fd);
	buf_free(&file);
	if (!is_sent(s, head.id, "")) {
		path_of(s, "failed", head.id, path);
		assert_int_equal(unlink(path), 0);
		return false;
	}
	entry_finish(queue_take(s->queue, head.id));
	return true;
}

static const char start_of_envelope[] =
    "arrived\t0\nuid\t-1\nflags\t7bit\nclient\tx\nsender\ta@b\n"
    "original\ta@b\n";

/* A checksum can be forged, or be that of another relayd's lines. */
static void
H5_H7_lines_that_mean_nothing_are_damage(void **state)
{
	static const struct {
		const char *lines;
		bool good;
	} rows[] = {
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\t\n", true },
		{ "dsn\t RET=FULL ENVID=a+2Bb\nrcpt\t-\ta@b\ta@b\t "
		  "NOTIFY=NEVER ORCPT=rfc822;a+20b\n",
		    true },
		{ "rcpt\t-\ta@b\ta@b\t\n", false },
		{ "dsn\t\ndsn\t\nrcpt\t-\ta@b\ta@b\t\n", false },
		{ "dsn\t ENVID=a+0Ab\nrcpt\t-\ta@b\ta@b\t\n", false },
		{ "dsn\t RET=X\nrcpt\t-\ta@b\ta@b\t\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\t NOTIFY=X\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\t ORCPT=a;+0Ab\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\t ORCPT=a;\xc3\xa4\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\t\tx\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\ta@b\t\nnew\tx\n", false },
		/* H7 */
		{ "dsn\t\nsender\tx@y\nrcpt\t-\ta@b\ta@b\t\n", false },
		{ "dsn\t\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\r\ta@b\t\n", false },
		{ "dsn\t\nrcpt\t-\ta@b\nRCPT\ta@b\t\n", false },
		{ "dsn\t\nrcpt\t-\t\ta@b\t\n", false },
		{ "dsn\t\nrcpt\tx\ta@b\ta@b\t\n", false },
		{ "dsn\t\nrcpt\t--\ta@b\ta@b\t\n", false },
	};
	struct buf lines = { 0 };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_clear(&lines);
		buf_add_text(&lines, start_of_envelope);
		buf_add_text(&lines, rows[i].lines);
		if (is_envelope(*state, buf_span(&lines)) != rows[i].good)
			fail_msg("%s", rows[i].lines);
	}
	buf_free(&lines);
}

static void
H7_no_message_has_more_recipients_than_can_be_set(void **state)
{
	struct envelope e = { .sender = NULL };
	struct buf lines = { 0 };
	uint32_t crc;
	size_t i;

	buf_add_text(&lines, start_of_envelope);
	buf_add_text(&lines, "dsn\t\n");
	for (i = 0; i < LIMIT_RECIPIENTS; i++) {
		buf_add_text(&lines, "rcpt\t-\ta@b\ta@b\t\n");
		(void)envelope_add(&e, "a@b", "a@b");
	}
	assert_true(is_envelope(*state, buf_span(&lines)));
	buf_add_text(&lines, "rcpt\t-\ta@b\ta@b\t\n");
	assert_false(is_envelope(*state, buf_span(&lines)));
	buf_clear(&lines);
	assert_int_equal(spool_format_envelope(&e, &lines, &crc), 0);
	(void)envelope_add(&e, "a@b", "a@b");
	assert_int_equal(spool_format_envelope(&e, &lines, &crc), -1);
	assert_int_equal(errno, EFBIG);
	buf_free(&lines);
	envelope_clear(&e);
}

static void
H6_a_newer_format_is_kept(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, short_body);
	char path[96];

	path_of(s, "new", id, path);
	spoil(path, 7, '1' ^ '2');
	assert_false(is_sent(s, id, short_body));
	assert_places(s, 0, 0, 0, 1);
}

static void
H8_to_H14_planted_files_are_not_followed(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, short_body);
	char path[96], other[96];

	path_of(s, "new", id, path);
	path_of(s, "tmp", id, other);

	assert_int_equal(link(path, other), 0);
	assert_false(is_sent(s, id, short_body)); /* a hard link */
	assert_int_equal(unlink(other), 0);

	assert_int_equal(symlink("/etc/passwd", path), 0);
	path_of(s, "failed", id, other);
	assert_int_equal(unlink(other), 0);
	assert_false(is_sent(s, id, short_body));
	assert_int_equal(unlink(other), 0);

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_false(is_sent(s, id, short_body));
	assert_int_equal(unlink(other), 0);

	assert_int_equal(mkdir(path, 0700), 0);
	assert_false(is_sent(s, id, short_body));
	assert_int_equal(rmdir(other), 0);

	id = add(s, 1, short_body);
	path_of(s, "new", id, path);
	assert_int_equal(chmod(path, 0666), 0);
	assert_false(is_sent(s, id, short_body));
	assert_places(s, 0, 0, 0, 1);
}

static void
become_a_link(const char *path)
{
	char other[128];

	(void)snprintf(other, sizeof(other), "%s.moved", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
}

static void
become_open_to_all(const char *path)
{
	assert_int_equal(chmod(path, 0666), 0);
}

/* It was fine when it was looked at. */
static void
H8_to_H14_what_is_exchanged_meanwhile_is_not_followed(void **state)
{
	static void (*const meanwhile[])(
	    const char *path) = { become_a_link, become_open_to_all };
	struct spool *s = *state;
	char path[96];
	size_t i;

	for (i = 0; i < 2; i++) {
		queue_id id = add(s, 1, short_body);

		path_of(s, "new", id, path);
		fault.meanwhile = meanwhile[i];
		fault.path = path;
		assert_null(queue_take(s->queue, id));
		fault.meanwhile = NULL;
	}
}

static void
H16_foreign_names_are_left_alone(void **state)
{
	struct spool *s = *state;
	static const char *const names[] = { ".hidden", "..x", "core", "a\nb",
		"0123456789abc", "0123456789I1" };
	const struct queue_info *info;
	struct queue_walk *w;
	char path[128];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/new/%s", s->path,
		    names[i]);
		(void)close(open(path, O_CREAT | O_WRONLY, 0600));
	}
	w = queue_walk_new(s->queue, PLACES, 0);
	assert_false(queue_walk_next(w, &info));
	queue_walk_free(w);
	assert_int_equal(files_in(s->path, "new"), 4);
}

static void
H16_of_two_with_one_id_one_is_sent(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, short_body);
	char path[96], other[96], command[256];

	path_of(s, "new", id, path);
	path_of(s, "cur", id, other);
	(void)snprintf(command, sizeof(command), "cp -p %s %s", path, other);
	assert_int_equal(system(command), 0);
	entry_finish(queue_take(s->queue, id));
	assert_places(s, 0, 0, 0, 1);
}

/* ---- start-up ---- */

static void
S1_H17_what_was_being_received_is_gone_after_a_restart(void **state)
{
	struct spool *s = *state;
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/tmp/0123456789ab", s->path);
	(void)close(open(path, O_CREAT | O_WRONLY, 0600));
	(void)snprintf(path, sizeof(path), "%s/tmp/not-ours", s->path);
	(void)close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(files_in(s->path, "tmp"), 2);
	reopen(s);
	assert_int_equal(files_in(s->path, "tmp"), 1);
}

/* The spool has one owner, so nobody else removes what it writes. */
static void
H17_what_is_being_received_stays(void **state)
{
	struct spool *s = *state;
	struct msg *m = begin(s, 1, short_body);
	pid_t owner, child;
	int status;

	while (files_in(s->path, "tmp") == 0)
		assert_int_equal(msg_write(m, span_of(short_body)), 0);
	queue_close(queue_open(s->path, QUEUE_READ_ONLY, &owner));
	child = fork();
	if (child == 0)
		_exit(queue_open(s->path, 0, &owner) == NULL ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_places(s, 1, 0, 0, 0);
	queue_commit(m, committed, s);
	assert_false(queue_sync(s->queue));
	assert_int_equal(s->told.error, 0);
	assert_places(s, 0, 1, 0, 0);
}

static void
S2_an_accepted_message_is_found_after_a_restart(void **state)
{
	struct spool *s = *state;
	queue_id id = add(s, 1, short_body);
	const struct queue_info *info;
	struct queue_walk *w;

	reopen(s);
	w = queue_walk_new(s->queue, PLACE_NEW, 0);
	assert_true(queue_walk_next(w, &info));
	assert_true(info->id == id);
	assert_int_equal(info->next_ms, 0);
	queue_walk_free(w);
	assert_true(is_sent(s, id, short_body));
}

static void
H19_a_second_owner_is_told_who_has_it(void **state)
{
	struct spool *s = *state;
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		pid_t owner;
		const struct queue *q = queue_open(s->path, 0, &owner);

		_exit(
		    q == NULL && errno == EBUSY && owner == getppid() ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(commit_tells_only_from_the_sync),
		T(commit_syncs_the_file_and_then_its_directory),
		T(a_group_shares_the_sync_of_its_directory),
		T(what_has_moved_to_cur_is_there_before_new_forgets_it),
		T(a_group_is_bounded),
		T(groups_are_told_while_others_are_being_synced),
		T(commit_queues_nothing_when_a_call_fails),
		T(three_failed_syncs_stop_accepting_for_a_while),
		T(an_aborted_message_leaves_nothing),
		T(a_control_byte_in_the_envelope_is_refused),
		T(the_longest_envelope_that_can_be_set_is_within_its_limit),
		T(ids_are_unique_when_the_clock_goes_back),
		T(a_taken_message_is_what_was_committed),
		T(a_taken_message_tells_what_its_content_has),
		T(the_parameters_of_dsn_survive_a_restart_and_marks),
		T(why_a_new_message_waits_is_in_its_file),
		T(marks_and_attempts_survive_a_restart),
		T(notes_end_at_their_limit),
		T(what_was_said_of_a_recipient_survives_a_restart),
		T(a_released_message_waits_for_its_failed_recipients),
		T(what_cannot_be_removed_is_not_sent_again),
		T(short_writes_go_on),

		T(a_mark_is_synced_while_its_message_is_sent),
		T(a_message_is_new_until_it_is_deferred),
		T(a_name_that_a_crash_has_left_is_dropped),
		T(a_start_syncs_what_the_last_daemon_has_moved),
		T(a_replaced_message_has_its_new_content_and_states),
		T(a_message_that_cannot_be_replaced_stays_as_it_is),
		T(a_message_is_looked_at_wherever_it_is),
		T(H2_a_cut_message_is_never_sent),
		T(H5_a_flipped_bit_is_never_sent),
		T(H5_each_bit_of_head_and_envelope_counts),
		T(H3_trailing_octets_are_damage),
		T(H1_H4_empty_and_zeroed_files_go_to_failed),
		T(H5_H7_lines_that_mean_nothing_are_damage),
		T(H7_no_message_has_more_recipients_than_can_be_set),
		T(H6_a_newer_format_is_kept),
		T(H8_to_H14_planted_files_are_not_followed),
		T(H8_to_H14_what_is_exchanged_meanwhile_is_not_followed),
		T(H16_foreign_names_are_left_alone),
		T(H16_of_two_with_one_id_one_is_sent),
		T(S1_H17_what_was_being_received_is_gone_after_a_restart),
		T(H17_what_is_being_received_stays),
		T(S2_an_accepted_message_is_found_after_a_restart),
		T(H19_a_second_owner_is_told_who_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
