/*
 * sendmail's way to the daemon: the submission socket, or "relayd --stdio"
 * while the daemon is down.
 */
#include "sendmail.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	CONNECT_WAIT = 5 * 60,
	HURRY_WAIT = 1,
	DOWN_WAIT_MS = 10 * 1000, /* a restart of the daemon takes less */
	PAUSE_MIN_MS = 10,
	PAUSE_MAX_MS = 500,
	COPY_SIZE = 64 << 10,
};

int64_t
now_ms(void)
{
	struct instant now;

	clock_read(&now);
	return now.mono_ms;
}

void
program_path(const char *name, struct buf *path)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self));

	while (n > 0 && self[n - 1] != '/')
		n--;
	buf_clear(path);
	if (n > 0)
		buf_append(path, self, (size_t)n);
	buf_add_text(path, name);
	if (n > 0 && access(buf_text(path), X_OK) == 0)
		return;
	buf_clear(path);
	buf_printf(path, "%s/sbin/%s", PREFIX, name);
}

static int
connect_once(const struct sockaddr_un *address, time_t wait)
{
	const struct timeval patience = { .tv_sec = wait };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return -1;
	/* While the backlog is full connect() waits. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
	    sizeof(patience));
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) ==
		-1 ||
	    fd_nonblocking(fd) == -1)
		fd_close(&fd);
	return fd;
}

static bool
is_down(int error)
{
	return error == ENOENT || error == ECONNREFUSED;
}

static int
connect_patiently(const struct sockaddr_un *address)
{
	const char *wanted = getenv("RELAYD_WAIT");
	bool wait = wanted == NULL || strcmp(wanted, "0") != 0;
	int64_t deadline_ms = now_ms() + (wait ? DOWN_WAIT_MS : 0);
	long pause_ms = PAUSE_MIN_MS;
	int fd = connect_once(address, CONNECT_WAIT);

	while (fd == -1 && is_down(errno) && now_ms() < deadline_ms) {
		struct timespec pause = { .tv_nsec = pause_ms * 1000000 };

		(void)nanosleep(&pause, NULL);
		pause_ms =
		    pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
		fd = connect_once(address, CONNECT_WAIT);
	}
	return fd;
}

/* Run "relayd --stdio" on a socket; returns our end. */
static int
spawn_relayd(const char *path, pid_t *child)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		return -1;
	*child = fork();
	if (*child == 0) {
		if (dup2(pair[1], STDIN_FILENO) != -1 &&
		    dup2(pair[1], STDOUT_FILENO) != -1)
			(void)execl(path, "relayd", "--stdio", (char *)NULL);
		_exit(EX_OSERR);
	}
	fd_close(&pair[1]);
	if (*child == -1 || fd_nonblocking(pair[0]) == -1)
		fd_close(&pair[0]);
	return pair[0];
}

/* Do without the daemon, as only the spool's owner and root can. */
static int
open_without(struct talk *t)
{
	struct buf path = { 0 };
	int fd = -1;

	program_path("relayd", &path);
	if ((geteuid() == 0 ||
		access(LOCALSTATEDIR "/spool/relayd", W_OK) == 0) &&
	    access(buf_text(&path), X_OK) == 0)
		fd = spawn_relayd(buf_text(&path), &t->child);
	buf_free(&path);
	return fd;
}

static int
connect_exit(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return EX_NOPERM;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return EX_OSERR;
	default:
		return EX_TEMPFAIL;
	}
}

int
talk_open(struct talk *t, struct buf *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("RELAYD_SOCKET");
	int reason;

	if (path == NULL || path[0] == '\0')
		path = RUNSTATEDIR "/relayd/submit.sock";
	if (strncmp(path, "unix:", 5) == 0)
		path += 5;
	if (strlen(path) >= sizeof(address.sun_path)) {
		buf_add_text(error, "RELAYD_SOCKET is too long for a socket\n");
		return EX_CONFIG;
	}
	memcpy(address.sun_path, path, strlen(path));
	t->fd = t->hurry ? connect_once(&address, HURRY_WAIT)
			 : connect_patiently(&address);
	reason = errno;
	if (t->fd == -1 && !t->hurry && is_down(reason))
		t->fd = open_without(t);
	if (t->fd != -1)
		return EX_OK;
	buf_add_text(error,
	    is_down(reason) ? "relayd is not running: "
			    : "can't reach relayd: ");
	buf_add_escaped(error, span_of(path));
	buf_printf(error, ": %s\n", strerror(reason));
	return connect_exit(reason);
}

/* ---- -bs ---- */

/* One direction of the copying. */
struct flow {
	int from; /* -1: at its end */
	int to;   /* -1: can't be written to any more */
	struct buf data;
};

static void
flow_read(struct flow *f)
{
	ssize_t n;

	buf_reserve(&f->data, COPY_SIZE);
	n = read(f->from, f->data.data, COPY_SIZE);
	if (n > 0)
		f->data.len = (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		f->from = -1;
}

static void
flow_write(struct flow *f)
{
	/* A pipe that poll() calls writable takes this much at once. */
	struct span piece = span_first(buf_span(&f->data), PIPE_BUF);
	ssize_t n = write(f->to, piece.data, piece.len);

	if (n > 0)
		buf_drop(&f->data, (size_t)n);
	else if (n == -1 && errno != EAGAIN && errno != EINTR)
		f->to = -1;
}

/* What poll() is to wait for: data, or room for the data that we hold. */
static struct pollfd
flow_wait(const struct flow *f)
{
	if (f->data.len > 0)
		return (struct pollfd){ .fd = f->to, .events = POLLOUT };
	return (struct pollfd){ .fd = f->from, .events = POLLIN };
}

static void
flow_move(struct flow *f, const struct pollfd *p)
{
	if (p->revents == 0)
		return;
	if (f->data.len > 0)
		flow_write(f);
	else
		flow_read(f);
}

static bool
flow_ended(const struct flow *f)
{
	return f->from == -1 && f->data.len == 0;
}

int
talk_copy(struct talk *t)
{
	struct flow in = { STDIN_FILENO, t->fd, { 0 } };
	struct flow out = { t->fd, STDOUT_FILENO, { 0 } };
	bool told = false, cut;
	struct pollfd p[2];

	while (!flow_ended(&out) && out.to != -1) {
		p[0] = flow_wait(&in);
		p[1] = flow_wait(&out);
		if (poll(p, 2, -1) == -1 && errno != EINTR)
			return EX_OSERR;
		flow_move(&in, &p[0]);
		flow_move(&out, &p[1]);
		/* Or the daemon waits for more. */
		if (!told && (in.to == -1 || flow_ended(&in))) {
			(void)shutdown(t->fd, SHUT_WR);
			told = true;
		}
	}
	cut = in.to == -1 || out.to == -1;
	t->closed = true;
	buf_free(&in.data);
	buf_free(&out.data);
	return cut ? EX_IOERR : EX_OK;
}
