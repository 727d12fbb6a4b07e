/*
 * A Maildir instead of a relayhost, for development: messages are laid into
 * it as a mail reader expects them, and nothing leaves the machine.
 */
#include "transaction.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 64 << 10 };

/* What the envelope says, which is lost otherwise (RFC 5321, 4.4). */
static void
add_envelope(const struct delivery *d, struct buf *out)
{
	const struct envelope *e = &d->entry->envelope;
	size_t i;

	buf_printf(out, "Return-Path: <%s>\n", e->sender);
	for (i = 0; i < d->recipient_count; i++)
		buf_printf(out, "Delivered-To: %s\n",
		    e->recipient[d->recipient[i].index].address);
}

/* Canonical text with the line ends of files; every CR is part of one. */
static void
add_lines(struct buf *out, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (text[i] != '\r')
			buf_add_char(out, text[i]);
	}
}

static int
write_message(int fd, const struct delivery *d)
{
	char piece[PIECE];
	struct buf out = { NULL, 0, 0 };
	ssize_t n;
	int ret;

	add_envelope(d, &out);
	entry_rewind(d->entry);
	do {
		n = entry_read(d->entry, piece, sizeof(piece));
		if (n > 0)
			add_lines(&out, piece, (size_t)n);
		ret = n == -1 ? -1 : write_all(fd, buf_span(&out));
		buf_clear(&out);
	} while (n > 0 && ret == 0);
	buf_free(&out);
	return ret == 0 ? fsync(fd) : -1;
}

static int
open_directory(int top, const char *name)
{
	if (mkdirat(top, name, 0700) == -1 && errno != EEXIST)
		return -1;
	return openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int
deliver(int tmp, int new, const struct delivery *d, int64_t wall_ms)
{
	char id[QUEUE_ID_MAX], name[80];
	int fd, ret = -1;

	queue_id_text(d->entry->id, id);
	(void)snprintf(name, sizeof(name),
	    "%" PRId64 ".%s_%016" PRIx64 ".relayd", wall_ms / 1000, id,
	    random_bits());
	fd = openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -1)
		return -1;
	if (write_message(fd, d) == 0 && renameat(tmp, name, new, name) == 0)
		ret = fsync(new);
	else
		(void)unlinkat(tmp, name, 0);
	fd_close(&fd);
	return ret;
}

void
maildir_deliver(const char *path, struct delivery *d, int64_t wall_ms)
{
	int top, tmp = -1, new = -1, cur = -1, ret = -1;
	struct buf text = { NULL, 0, 0 };

	top = open_directory(AT_FDCWD, path);
	if (top != -1) {
		tmp = open_directory(top, "tmp");
		new = open_directory(top, "new");
		cur = open_directory(top, "cur");
	}
	if (tmp != -1 && new != -1 && cur != -1)
		ret = deliver(tmp, new, d, wall_ms);
	if (ret == 0) {
		delivery_settle(d, VERDICT_SENT, "2.0.0",
		    "delivered to maildir");
	} else {
		buf_printf(&text, "%s: %s", path, strerror(errno));
		delivery_settle(d, VERDICT_DEFERRED, "4.3.0", buf_text(&text));
	}
	buf_free(&text);
	fd_close(&cur);
	fd_close(&new);
	fd_close(&tmp);
	fd_close(&top);
}
