/*
 * What became of recipients: the spool's files "history.1" and "history", the
 * older half and the newer one, a line for each outcome, the newest last.
 *
 *   TIME TAB ID TAB STATUS TAB DSN TAB DELAY TAB SENDER TAB TO TAB ORIGINAL
 *   TAB RELAY TAB REPLY LF
 *
 * Times are in ms; other octets than printable ASCII are as \xNN.  When the
 * newer half is full it becomes the older one.  It is a record for people: it
 * is never synced, and mail doesn't wait or fail because of it.
 */
#include "history.h"
#include "spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	REPLY_MAX = 512, /* octets of it that are kept, before escaping */
	LINE_MAX_READ = 16 << 10,
	READ_SIZE = 32 << 10,
	WARNING_MS = 60 * 1000,
};

static const char newer[] = "history", older[] = "history.1";

struct history {
	const struct queue *queue;
	uint64_t half; /* octets; 0: off */
	int fd;        /* of the newer half; -1: not open */
	uint64_t size; /* of it, of whole lines */
	unsigned lost;
	int64_t warn_at_ms; /* monotonic: not before */
};

/* ---- writing ---- */

struct history *
history_new(const struct queue *q, uint64_t limit)
{
	struct history *h = mem_alloc(sizeof(*h));

	h->queue = q;
	h->fd = -1;
	history_resize(h, limit);
	return h;
}

void
history_resize(struct history *h, uint64_t limit)
{
	h->half = limit / 2;
	if (h->half == 0)
		fd_close(&h->fd);
}

void
history_free(struct history *h)
{
	if (h == NULL)
		return;
	fd_close(&h->fd);
	free(h);
}

/* The octets of a file up to its last line end; a crash may have cut a line. */
static off_t
whole_lines(int fd, off_t size)
{
	char piece[4096];

	while (size > 0) {
		size_t want =
		    size < (off_t)sizeof(piece) ? (size_t)size : sizeof(piece);
		off_t at = size - (off_t)want;
		const char *end = NULL;

		if (spool_read_at(fd, piece, want, (uint64_t)at) == 1)
			end = memrchr(piece, '\n', want);
		if (end != NULL)
			return at + (end - piece) + 1;
		size = at;
	}
	return 0;
}

/* Whatever lies there by that name: a regular file, or nothing. */
static int
open_half(const struct queue *q, const char *name, int flags, struct stat *st)
{
	int fd = openat(q->top, name,
	    flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);

	if (fd == -1)
		return -1;
	if (fstat(fd, st) == -1 || !S_ISREG(st->st_mode)) {
		fd_close(&fd);
		errno = EINVAL;
	}
	return fd;
}

static int
open_newer(struct history *h)
{
	struct stat st;

	if (h->fd != -1)
		return 0;
	h->fd = open_half(h->queue, newer, O_RDWR | O_APPEND | O_CREAT, &st);
	if (h->fd == -1)
		return -1;
	h->size = (uint64_t)whole_lines(h->fd, st.st_size);
	if (h->size != (uint64_t)st.st_size &&
	    ftruncate(h->fd, (off_t)h->size) == -1) {
		fd_close(&h->fd);
		return -1;
	}
	return 0;
}

/* All of the line, or nothing of it. */
static int
append(struct history *h, struct span line)
{
	int error;

	if (open_newer(h) == -1)
		return -1;
	if (h->size > 0 && h->size + line.len > h->half) {
		if (renameat(h->queue->top, newer, h->queue->top, older) == -1)
			return -1;
		fd_close(&h->fd);
		if (open_newer(h) == -1)
			return -1;
	}
	if (write_all(h->fd, line) == 0) {
		h->size += line.len;
		return 0;
	}
	error = errno;
	if (ftruncate(h->fd, (off_t)h->size) == -1)
		fd_close(&h->fd); /* opening it mends it */
	errno = error;
	return -1;
}

/* One warning a minute, with the count. */
static void
tell_lost(struct history *h, int error)
{
	struct instant now;

	h->lost++;
	clock_read(&now);
	if (now.mono_ms < h->warn_at_ms)
		return;
	log_warning(NULL, "history: %u lines could not be written: %s", h->lost,
	    strerror(error));
	h->lost = 0;
	h->warn_at_ms = now.mono_ms + WARNING_MS;
}

static void
add_field(struct buf *b, struct span text)
{
	buf_add_char(b, '\t');
	buf_add_escaped(b, text);
}

void
history_add(struct history *h, const struct history_line *line)
{
	struct buf b = { NULL, 0, 0 };
	char id[QUEUE_ID_MAX];

	if (h == NULL || h->half == 0)
		return;
	queue_id_text(line->id, id);
	buf_printf(&b, "%" PRId64 "\t%s", line->wall_ms, id);
	add_field(&b, line->status);
	add_field(&b, line->dsn);
	buf_printf(&b, "\t%" PRId64, line->delay_ms < 0 ? 0 : line->delay_ms);
	add_field(&b, line->sender);
	add_field(&b, line->to);
	add_field(&b, line->original);
	add_field(&b, line->relay);
	add_field(&b, span_first(line->reply, REPLY_MAX));
	buf_add_char(&b, '\n');
	if (append(h, buf_span(&b)) == -1)
		tell_lost(h, errno);
	buf_free(&b);
}

/* ---- reading ---- */

struct reader {
	history_handler *handler;
	void *arg;
	struct buf text;  /* not told yet */
	struct buf plain; /* the line's fields without their escapes */
};

/* The next field of a line, unescaped; false: there is none. */
static bool
next_field(struct reader *r, struct span *line, struct span *field)
{
	size_t begin = r->plain.len, i;
	struct span raw;

	if (line->data == NULL)
		return false;
	if (!span_cut(*line, '\t', &raw, line))
		*line = (struct span){ NULL, 0 };
	for (i = 0; i < raw.len; i++) {
		const char *at = raw.data + i;
		bool escape = raw.len - i >= 4 && at[0] == '\\' &&
		    at[1] == 'x' && hex_value(at[2]) < 16 &&
		    hex_value(at[3]) < 16;

		if (escape) {
			buf_add_char(&r->plain,
			    (char)(hex_value(at[2]) << 4 | hex_value(at[3])));
			i += 3;
		} else {
			buf_add_char(&r->plain, *at);
		}
	}
	*field = (struct span){ r->plain.data + begin, r->plain.len - begin };
	return true;
}

static bool
next_number(struct reader *r, struct span *line, int64_t *value)
{
	struct span text;
	uint64_t number;

	if (!next_field(r, line, &text) ||
	    !parse_number(text, INT64_MAX, &number))
		return false;
	*value = (int64_t)number;
	return true;
}

/* What is no line of ours is left out. */
static void
tell_line(struct reader *r, struct span line)
{
	struct history_line out = { .wall_ms = 0 };
	struct span id;

	buf_clear(&r->plain);
	buf_reserve(&r->plain, line.len + 1); /* so that it stays in place */
	if (next_number(r, &line, &out.wall_ms) && next_field(r, &line, &id) &&
	    queue_id_parse(id, &out.id) && next_field(r, &line, &out.status) &&
	    next_field(r, &line, &out.dsn) &&
	    next_number(r, &line, &out.delay_ms) &&
	    next_field(r, &line, &out.sender) &&
	    next_field(r, &line, &out.to) &&
	    next_field(r, &line, &out.original) &&
	    next_field(r, &line, &out.relay) &&
	    next_field(r, &line, &out.reply) && line.data == NULL)
		r->handler(r->arg, &out);
}

/* Tell the lines that are complete, and keep the rest. */
static void
tell_lines(struct reader *r)
{
	struct span rest = buf_span(&r->text), line, after;

	while (span_cut(rest, '\n', &line, &after)) {
		tell_line(r, line);
		rest = after;
	}
	buf_drop(&r->text, r->text.len - rest.len);
	if (r->text.len > LINE_MAX_READ) /* no line of ours */
		buf_clear(&r->text);
}

static int
read_half(struct reader *r, int fd)
{
	ssize_t n;

	buf_clear(&r->text);
	do {
		buf_reserve(&r->text, READ_SIZE);
		n = read(fd, r->text.data + r->text.len,
		    r->text.size - r->text.len);
		if (n > 0)
			r->text.len += (size_t)n;
		if (n > 0)
			tell_lines(r);
	} while (n > 0 || (n == -1 && errno == EINTR));
	return n == -1 ? -1 : 0;
}

/*
 * Open both halves as they are at one moment: were they renamed in between,
 * what was the newer one is the older one now.  -1 in fd: there is none.
 */
static int
open_halves(const struct queue *q, int fd[2])
{
	static const char *const names[2] = { older, newer };
	struct stat st[2] = { { .st_ino = 0 }, { .st_ino = 0 } };
	int i;

	for (i = 1; i >= 0; i--) {
		fd[i] = open_half(q, names[i], O_RDONLY, &st[i]);
		if (fd[i] == -1 && errno != ENOENT)
			return -1;
	}
	if (fd[0] != -1 && fd[1] != -1 && st[0].st_ino == st[1].st_ino) {
		fd_close(&fd[1]);
		fd[1] = open_half(q, newer, O_RDONLY, &st[1]);
		if (fd[1] == -1 && errno != ENOENT)
			return -1;
	}
	return 0;
}

int
history_read(const struct queue *q, history_handler *handler, void *arg)
{
	struct reader r = { .handler = handler, .arg = arg };
	int i, fd[2] = { -1, -1 }, ret = open_halves(q, fd);

	for (i = 0; i < 2 && ret == 0; i++)
		if (fd[i] != -1)
			ret = read_half(&r, fd[i]);
	fd_close(&fd[0]);
	fd_close(&fd[1]);
	buf_free(&r.text);
	buf_free(&r.plain);
	return ret;
}
