/*
 * Preloaded, it makes every read and write of a file, a pipe or a stream a
 * short one, of at most SHORT_IO octets, and interrupts one in three of them,
 * and of all waits: as signals, full buffers and slow peers may.
 */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { ONE_IN = 3 };

static __thread unsigned chance;

/* By chance, as what is interrupted at every turn gets nowhere. */
static bool
is_interrupted(void)
{
	if (rand_r(&chance) % ONE_IN != 0)
		return false;
	errno = EINTR;
	return true;
}

/* What does not wait is not. */
static bool
interrupts(int fd)
{
	return (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0 && is_interrupted();
}

/* What has no such mode, as a signalfd, is not read in part. */
static size_t
cut(int fd, size_t len)
{
	size_t most = (size_t)atol(getenv("SHORT_IO"));
	struct stat st;

	if (fstat(fd, &st) == -1 || (st.st_mode & S_IFMT) == 0)
		return len;
	return len < most ? len : most;
}

/* What the C library's own function of that name returns. */
#define NEXT(name, ...)                                    \
	__extension__({                                    \
		__typeof__(&name) next;                    \
		*(void **)&next = dlsym(RTLD_NEXT, #name); \
		next(__VA_ARGS__);                         \
	})

ssize_t
read(int fd, void *data, size_t len)
{
	return interrupts(fd) ? -1 : NEXT(read, fd, data, cut(fd, len));
}

ssize_t
write(int fd, const void *data, size_t len)
{
	if (fd == STDERR_FILENO) /* a line is written in one piece */
		return NEXT(write, fd, data, len);
	return interrupts(fd) ? -1 : NEXT(write, fd, data, cut(fd, len));
}

ssize_t
pread(int fd, void *data, size_t len, off_t at)
{
	return interrupts(fd) ? -1 : NEXT(pread, fd, data, cut(fd, len), at);
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t at)
{
	return interrupts(fd) ? -1 : NEXT(pwrite, fd, data, cut(fd, len), at);
}

ssize_t
recv(int fd, void *data, size_t len, int flags)
{
	return interrupts(fd) ? -1 : NEXT(recv, fd, data, cut(fd, len), flags);
}

ssize_t
send(int fd, const void *data, size_t len, int flags)
{
	return interrupts(fd) ? -1 : NEXT(send, fd, data, cut(fd, len), flags);
}

int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
	if (timeout != 0 && is_interrupted())
		return -1;
	return NEXT(poll, fds, count, timeout);
}

int
epoll_wait(int fd, struct epoll_event *events, int count, int timeout)
{
	if (timeout != 0 && is_interrupted())
		return -1;
	return NEXT(epoll_wait, fd, events, count, timeout);
}
