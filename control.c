/*
 * The control socket: takes relayctl's requests and has client.c answer them.
 *
 * A unix stream socket, open to all; a connection serves one request.
 *
 *   request  one line of at most LINE octets: the verb and its arguments as
 *            on relayctl's command line, a NUL between two words, LF at the end
 *   answer   lines; their first octet says what the rest is:
 *              o  text for standard output
 *              e  text for standard error
 *              m  "ID SIZE" in decimal: the "o" lines up to the next "m" are
 *                 this message's.  To "queue" only: messages come as the
 *                 spool is read, relayctl puts them in order
 *              x  the exit status: the last line
 *
 * Rights go by the peer's uid (SO_PEERCRED): root and the daemon's own user
 * may do everything, others see the status and what they sent themselves.
 */
#include "control.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LINE = 4 << 10,
	CLIENTS = 32,
	CLIENTS_OTHERS = 24, /* the rest is kept for root and our user */
	ACCEPT_PAUSE_MS = 1000,
	OVERFLOW_UID = 65534,
};

/* ---- requests ---- */

static void
on_request(void *arg, unsigned events)
{
	struct client *c = arg;
	struct span line, word, rest;
	bool more = true;
	ssize_t n;

	(void)events;
	buf_reserve(&c->in, LINE);
	n = recv(c->fd, c->in.data + c->in.len, LINE - c->in.len, 0);
	if (n == -1 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_free(c);
		return;
	}
	c->in.len += (size_t)n;
	if (span_cut(buf_span(&c->in), '\n', &line, &rest)) {
		while (more) {
			more = span_cut(line, '\0', &word, &line);
			strings_add(&c->words, word);
		}
		client_run(c);
	} else if (c->in.len == LINE) {
		client_complain(c, "the request", "too long");
		client_finish(c, STATUS_USAGE);
	}
}

static void
greet_client(struct control *control, int fd, uid_t uid)
{
	static const char busy[] = "etoo many requests at once\nx1\n";
	struct client *c = mem_alloc(sizeof(*c));

	c->control = control;
	c->fd = fd;
	c->uid = uid;
	c->timer.handler = client_on_timer;
	c->timer.arg = c;
	c->next = control->clients;
	control->clients = c;
	control->client_count++;
	loop_timer_set(control->parts.loop, &c->timer, CLIENT_TIMEOUT_MS);
	if (control->client_count >
	    (client_is_operator(c) ? CLIENTS : CLIENTS_OTHERS)) {
		(void)send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL);
		client_free(c);
	} else if (loop_watch(control->parts.loop, fd, LOOP_READ, on_request,
		       c) == -1) {
		client_free(c);
	}
}

/* ---- the socket ---- */

static void
on_connect(void *arg, unsigned events)
{
	struct control *control = arg;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(control->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd == -1 && errno != EAGAIN && errno != ECONNABORTED) {
		/* No descriptor is left: asking on would be a busy loop. */
		loop_unwatch(control->parts.loop, control->fd);
		loop_timer_set(control->parts.loop, &control->accept_again,
		    ACCEPT_PAUSE_MS);
	}
	if (fd == -1)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		fd_close(&fd);
	else
		greet_client(control, fd, peer.uid);
}

static void
accept_again(void *arg)
{
	struct control *control = arg;

	(void)loop_watch(control->parts.loop, control->fd, LOOP_READ,
	    on_connect, control);
}

static void
socket_close(struct control *control)
{
	loop_timer_clear(control->parts.loop, &control->accept_again);
	loop_unwatch(control->parts.loop, control->fd);
	fd_close(&control->fd);
	if (control->path != NULL)
		(void)unlink(control->path);
	free(control->path);
	control->path = NULL;
}

static uid_t
read_overflow_uid(void)
{
	struct buf text = { NULL, 0, 0 };
	uint64_t uid = OVERFLOW_UID;

	if (file_read("/proc/sys/kernel/overflowuid", 32, &text, NULL) == 0)
		(void)parse_number(span_trim(buf_span(&text)), UINT32_MAX,
		    &uid);
	buf_free(&text);
	return (uid_t)uid;
}

struct control *
control_new(const struct control_parts *parts, struct config *config, int fd,
    struct buf *error)
{
	struct control *control;
	char *path = NULL;

	if (fd == -1) {
		fd = listen_unix(config->control, 0666, error);
		if (fd == -1)
			return NULL;
		path = mem_text(config->control);
	} else if (fd_nonblocking(fd) == -1) {
		buf_printf(error, "control: %s", strerror(errno));
		return NULL;
	}
	control = mem_alloc(sizeof(*control));
	control->parts = *parts;
	control->config = config_hold(config);
	control->path = path;
	control->fd = fd;
	control->accept_again.handler = accept_again;
	control->accept_again.arg = control;
	control->overflow_uid = read_overflow_uid();
	sched_observe(parts->sched, client_on_delivery, control);
	accept_again(control);
	return control;
}

void
control_configure(struct control *control, struct config *config)
{
	config_hold(config);
	config_release(control->config);
	control->config = config;
}

void
control_free(struct control *control)
{
	struct client *c, *next;

	if (control == NULL)
		return;
	for (c = control->clients; c != NULL; c = next) {
		next = c->next;
		client_free(c);
	}
	sched_observe(control->parts.sched, NULL, NULL);
	socket_close(control);
	config_release(control->config);
	free(control);
}
