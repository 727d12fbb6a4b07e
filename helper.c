/*
 * Commands that print a password.
 *
 * A process forked early, before the daemon is confined and before it has
 * opened the spool, runs them as the daemon's user: only those that were in
 * the configuration then, so that nothing can be had run by it later.  Each is
 * watched over by a process of its own, which has 30 seconds; the daemon
 * waits for the result on its loop.
 *
 * A result comes as packets, the first octet saying of what: 'o' the
 * password, 's' what the command said on stderr, 'e' why there is none.
 */
#include "helper.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	TIME_MS = 30 * 1000,
	SAYS_MOST = 512,
	COMMAND_MOST = 4096,
	READS_MOST = 65, /* of 1 KiB: all that a pipe holds */
	NOT_RUN = 127,
};

struct helper {
	struct strings commands;
	int socket;
	pid_t pid;
};

struct helper_run {
	struct loop *loop;
	int socket;
	struct helper_result result;
	void (*done)(void *arg, struct helper_result *result);
	void *arg;
};

void
helper_result_wipe(struct helper_result *r)
{
	buf_wipe(&r->password);
	buf_free(&r->says);
	buf_free(&r->error);
}

/* ---- one command ---- */

/* Not what relayd.conf may have put there. */
static void
clean_environment(void)
{
	size_t i = 0;

	while (environ[i] != NULL) {
		struct span name, value;

		(void)span_cut(span_of(environ[i]), '=', &name, &value);
		if (span_starts_nocase(name, SPAN("RELAYD_")) ||
		    span_equal(name, SPAN("NOTIFY_SOCKET"))) {
			char *copy = span_text(name);

			(void)unsetenv(copy); /* moves the others down */
			free(copy);
		} else {
			i++;
		}
	}
}

static _Noreturn void
become_command(const char *command, int out, int err)
{
	sigset_t none;
	int null = open("/dev/null", O_RDONLY);

	(void)setpgid(0, 0);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGCHLD, SIG_DFL);
	(void)signal(SIGHUP, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_DFL);
	clean_environment();
	if (chdir("/") == 0 && dup2(null, STDIN_FILENO) != -1 &&
	    dup2(out, STDOUT_FILENO) != -1 && dup2(err, STDERR_FILENO) != -1 &&
	    close_range(STDERR_FILENO + 1, ~0u, 0) == 0)
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(NOT_RUN);
}

/* What there is on a pipe; what is over most is dropped.  false: nothing more
 * will come. */
static bool
take_output(int fd, struct buf *out, size_t most)
{
	char data[1024];
	ssize_t n = 1;
	int i;

	for (i = 0; i < READS_MOST && n > 0; i++) {
		n = read(fd, data, sizeof(data));
		if (n == -1 && errno == EINTR)
			n = 1;
		else if (n > 0)
			buf_append(out, data, (size_t)n);
		if (out->len > most)
			out->len = most;
	}
	explicit_bzero(data, sizeof(data));
	return n > 0 || (n == -1 && errno == EAGAIN);
}

/* Until the command is over, has said too much, or nobody waits any more;
 * false: time is over. */
static bool
watch_command(int process, int asker, int out, int err, struct helper_result *r)
{
	struct pollfd fds[] = { { .fd = process, .events = POLLIN },
		{ .fd = asker }, { .fd = out, .events = POLLIN },
		{ .fd = err, .events = POLLIN } };
	struct instant now;
	int64_t end;

	clock_read(&now);
	end = now.mono_ms + TIME_MS;
	while (now.mono_ms < end) {
		if (poll(fds, sizeof(fds) / sizeof(*fds),
			(int)(end - now.mono_ms)) == -1 &&
		    errno != EINTR)
			return false;
		if (!take_output(out, &r->password, LIMIT_SECRET + 1))
			fds[2].fd = -1;
		if (!take_output(err, &r->says, SAYS_MOST))
			fds[3].fd = -1;
		if (fds[0].revents != 0 || fds[1].revents != 0 ||
		    r->password.len > LIMIT_SECRET)
			return true;
		clock_read(&now);
	}
	return false;
}

static void
judge(int status, bool in_time, struct helper_result *r)
{
	struct buf *password = &r->password;

	if (password->len > LIMIT_SECRET)
		buf_add_text(&r->error, "prints more than 16 KiB");
	else if (!in_time)
		buf_printf(&r->error, "was not over within %d s",
		    TIME_MS / 1000);
	else if (WIFSIGNALED(status))
		buf_printf(&r->error, "was ended by signal %d",
		    WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		buf_printf(&r->error, "failed with exit status %d",
		    WEXITSTATUS(status));
	if (password->len > 0 && password->data[password->len - 1] == '\n')
		password->len--;
	while (r->says.len > 0 && r->says.data[r->says.len - 1] == '\n')
		r->says.len--;
	if (r->error.len > 0)
		return;
	if (password->len == 0)
		buf_add_text(&r->error, "prints no password");
	else if (memchr(password->data, '\n', password->len) != NULL)
		buf_add_text(&r->error, "prints more than one line");
	else if (memchr(password->data, '\0', password->len) != NULL)
		buf_add_text(&r->error, "prints a NUL byte");
}

/* asker: a descriptor whose hang-up ends it, or -1. */
static void
run_command(const char *command, int asker, struct helper_result *r)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, process = -1, status = 0;
	bool in_time = false;
	pid_t pid = -1;

	/* What grows would leave copies behind. */
	buf_reserve(&r->password, LIMIT_SECRET + 2048);
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0 &&
	    pipe2(err, O_CLOEXEC | O_NONBLOCK) == 0)
		pid = fork();
	if (pid == 0) {
		/* Its own ends may block. */
		(void)fcntl(out[1], F_SETFL, 0);
		(void)fcntl(err[1], F_SETFL, 0);
		become_command(command, out[1], err[1]);
	}
	if (pid == -1) {
		buf_printf(&r->error, "can't be run: %s", strerror(errno));
	} else {
		(void)setpgid(pid, pid); /* whoever of us comes first */
		fd_close(&out[1]);
		fd_close(&err[1]);
		process = (int)syscall(SYS_pidfd_open, pid, 0);
		in_time = watch_command(process, asker, out[0], err[0], r);
		/* Before it is reaped, so that the number is still its own. */
		(void)kill(-pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
		judge(status, in_time, r);
	}
	fd_close(&process);
	fd_close(&out[0]);
	fd_close(&out[1]);
	fd_close(&err[0]);
	fd_close(&err[1]);
}

int
helper_output(const char *command, struct helper_result *result)
{
	run_command(command, -1, result);
	return result->error.len == 0 ? 0 : -1;
}

/* ---- the process that runs them ---- */

static void
send_packet(int fd, char kind, const struct buf *b)
{
	struct iovec parts[] = { { &kind, 1 }, { b->data, b->len } };
	const struct msghdr packet = { .msg_iov = parts, .msg_iovlen = 2 };

	if (b->len > 0)
		(void)sendmsg(fd, &packet, MSG_NOSIGNAL);
}

static _Noreturn void
serve_request(const char *command, int asker)
{
	struct helper_result r = { .password = { 0 } };

	(void)signal(SIGCHLD, SIG_DFL);
	run_command(command, asker, &r);
	send_packet(asker, 's', &r.says);
	if (r.error.len > 0)
		send_packet(asker, 'e', &r.error);
	else
		send_packet(asker, 'o', &r.password);
	helper_result_wipe(&r);
	_exit(0);
}

/* A command and the socket for its result; false: the daemon is gone. */
static bool
take_request(int socket, char command[COMMAND_MOST + 1], int *asker)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec text = { command, COMMAND_MOST };
	struct msghdr packet = { .msg_iov = &text,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t n;

	*asker = -1;
	do {
		n = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
	} while (n == -1 && errno == EINTR);
	if (n <= 0)
		return false;
	command[n] = '\0';
	c = CMSG_FIRSTHDR(&packet);
	if (c != NULL && c->cmsg_level == SOL_SOCKET &&
	    c->cmsg_type == SCM_RIGHTS)
		memcpy(asker, CMSG_DATA(c), sizeof(*asker));
	return true;
}

bool
helper_knows(const struct helper *h, const char *command)
{
	size_t i;

	for (i = 0; h != NULL && i < h->commands.count; i++)
		if (strcmp(h->commands.item[i], command) == 0)
			return true;
	return false;
}

/* With no descriptor but 0 to 2 and its socket: sockets that were handed over
 * to the daemon would stay open with it. */
static _Noreturn void
serve(struct helper *h)
{
	static const struct rlimit none = { 0, 0 };
	char command[COMMAND_MOST + 1];
	int asker;

	(void)prctl(PR_SET_NAME, "relayd-helper");
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)signal(SIGCHLD, SIG_IGN); /* reaped by themselves */
	(void)signal(SIGHUP, SIG_IGN);
	if (dup3(h->socket, STDERR_FILENO + 1, O_CLOEXEC) != -1)
		h->socket = STDERR_FILENO + 1;
	(void)close_range((unsigned)h->socket + 1, ~0u, 0);
	while (take_request(h->socket, command, &asker)) {
		bool known = helper_knows(h, command);

		if (known && asker != -1 && fork() == 0) {
			(void)close(h->socket);
			serve_request(command, asker);
		}
		fd_close(&asker);
	}
	_exit(0);
}

void
helper_free(struct helper *h)
{
	if (h == NULL)
		return;
	fd_close(&h->socket); /* which ends it */
	if (h->pid > 0)
		(void)waitpid(h->pid, NULL, 0);
	strings_free(&h->commands);
	free(h);
}

struct helper *
helper_new(const struct strings *commands, int (*enter)(void *arg), void *arg)
{
	struct helper *h = mem_alloc(sizeof(*h));
	int pair[2] = { -1, -1 };
	size_t i;

	h->pid = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0)
		h->pid = fork();
	for (i = 0; i < commands->count; i++)
		strings_add(&h->commands, span_of(commands->item[i]));
	if (h->pid == 0) {
		(void)close(pair[0]);
		h->socket = pair[1];
		if (enter(arg) == -1)
			_exit(1);
		serve(h);
	}
	fd_close(&pair[1]);
	h->socket = pair[0];
	if (h->pid == -1) {
		helper_free(h);
		h = NULL;
	}
	return h;
}

/* ---- the daemon's side ---- */

static int
send_request(int socket, const char *command, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	char *copy = mem_text(command);
	struct iovec text = { copy, strlen(copy) };
	const struct msghdr packet = { .msg_iov = &text,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	ssize_t n;

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	n = sendmsg(socket, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(copy);
	return n == -1 ? -1 : 0;
}

void
helper_cancel(struct helper_run *run)
{
	if (run == NULL)
		return;
	loop_unwatch(run->loop, run->socket);
	fd_close(&run->socket); /* which ends the command */
	helper_result_wipe(&run->result);
	free(run);
}

static void
on_result(void *arg, unsigned events)
{
	struct helper_run *run = arg;
	struct helper_result *r = &run->result;
	char packet[1 + LIMIT_SECRET];
	struct span text = { packet + 1, 0 };
	ssize_t n;

	(void)events;
	while (
	    (n = recv(run->socket, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
		text.len = (size_t)n - 1;
		buf_add(packet[0] == 'o'   ? &r->password
			: packet[0] == 's' ? &r->says
					   : &r->error,
		    text);
	}
	explicit_bzero(packet, sizeof(packet));
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (r->password.len == 0 && r->error.len == 0)
		buf_add_text(&r->error,
		    "can't be run: relayd's helper process is gone; restart "
		    "relayd");
	loop_unwatch(run->loop, run->socket);
	run->done(run->arg, r); /* it may cancel, but need not */
}

struct helper_run *
helper_start(struct helper *h, struct loop *l, const char *command,
    void (*done)(void *arg, struct helper_result *result), void *arg)
{
	struct helper_run *run = mem_alloc(sizeof(*run));
	int pair[2] = { -1, -1 };

	run->loop = l;
	run->done = done;
	run->arg = arg;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    send_request(h->socket, command, pair[1]) == -1 ||
	    loop_watch(l, pair[0], LOOP_READ, on_result, run) == -1) {
		fd_close(&pair[0]);
		fd_close(&pair[1]);
		free(run);
		return NULL;
	}
	fd_close(&pair[1]);
	run->socket = pair[0];
	return run;
}
