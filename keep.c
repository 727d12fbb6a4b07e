/*
 * What the daemon has to remember over a restart, beside messages: small texts
 * in the spool, each replaced as a whole.
 */
#include "spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { KEEP_MAX = 1 << 20 };

/* Durable: a crash leaves the old text or the new one. */
static int
write_whole(const struct queue *q, const char *name, struct span text)
{
	int result,
	    fd = openat(q->top, name,
		O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK |
		    O_CLOEXEC,
		0600);

	if (fd == -1)
		return -1;
	result = write_all(fd, text) == -1 || fdatasync(fd) == -1 ? -1 : 0;
	fd_close(&fd);
	return result;
}

int
queue_keep(const struct queue *q, const char *name, struct span text)
{
	char fresh[64];

	(void)snprintf(fresh, sizeof(fresh), "%s.new", name);
	if (write_whole(q, fresh, text) == -1)
		return -1;
	return renameat(q->top, fresh, q->top, name);
}

int
queue_kept(const struct queue *q, const char *name, struct buf *text)
{
	struct stat st;
	size_t size;
	int got = 0,
	    fd = openat(q->top, name,
		O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd == -1)
		return errno == ENOENT ? 0 : -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size <= KEEP_MAX) {
		size = (size_t)st.st_size;
		buf_reserve(text, size + 1);
		got = spool_read_at(fd, text->data, size, 0);
		text->len = got == 1 ? size : 0;
	}
	if (got == 0)
		errno = EBADMSG;
	fd_close(&fd);
	return got == 1 ? 0 : -1;
}
