/*
 * The little HTTP server (RFC 9110, 9112) for those who watch the daemon: one
 * request a connection, GET and HEAD, everything bounded: seats, octets, time.
 * What is told is metrics.c's.
 *
 * Mail comes first: who finds no seat is hung up on, nothing is logged.
 */
#include "http.h"
#include "submit.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SEATS = 8,
	REQUEST = 8 << 10, /* the longest header section */
	TIMEOUT_MS = 5000, /* from accept to close */
};

struct seat {
	struct http *http;
	int fd; /* -1: free */
	struct buf in;
	struct buf out;
	bool answered;
	struct timer timer;
};

struct http {
	struct loop *loop;
	http_handler *handler;
	void *arg;
	struct listener *listener; /* NULL: none */
	struct listener *prepared;
	char *address;
	char *prepared_address; /* NULL: there is nothing to decide */
	struct seat seat[SEATS];
};

/* ---- requests ---- */

bool
http_ended(struct span in, size_t from)
{
	struct span tail = span_from(in, from < 3 ? 0 : from - 3);

	return memmem(tail.data, tail.len, "\n\r\n", 3) != NULL ||
	    memmem(tail.data, tail.len, "\n\n", 2) != NULL;
}

/* A line without its end; LF alone is one, too (RFC 9112, 2.2). */
static struct span
cut_line(struct span *rest)
{
	struct span line;

	(void)span_cut(*rest, '\n', &line, rest);
	if (line.len > 0 && line.data[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* RFC 9110, section 5.6.2. */
static bool
is_token(struct span s)
{
	static const char others[] = "!#$%&'*+-.^_`|~";
	size_t i;

	for (i = 0; i < s.len; i++) {
		char c = s.data[i], lower = (char)(c | 0x20);

		if (!(c >= '0' && c <= '9') &&
		    !(lower >= 'a' && lower <= 'z') &&
		    (c == '\0' || strchr(others, c) == NULL))
			return false;
	}
	return s.len > 0;
}

/* "/path?query", or with "http://host" before it (RFC 9112, 3.2). */
static struct span
path_of(struct span target)
{
	struct span path, rest;

	if (span_starts_nocase(target, SPAN("http://"))) {
		target = span_from(target, sizeof("http://") - 1);
		(void)span_cut(target, '/', &path, &rest);
		target.data += path.len;
		target.len -= path.len;
	}
	(void)span_cut(target, '?', &path, &rest);
	return path;
}

/* The fields that matter; false: they are malformed. */
static bool
parse_fields(struct span head, bool host_needed, struct http_request *request)
{
	static const char openmetrics[] = "application/openmetrics-text";
	struct span line, name, value;
	unsigned hosts = 0;

	for (line = cut_line(&head); line.len > 0; line = cut_line(&head)) {
		if (!span_cut(line, ':', &name, &value) || !is_token(name))
			return false;
		if (span_equal_nocase(name, SPAN("Host")))
			hosts++;
		if (span_equal_nocase(name, SPAN("Accept")))
			request->openmetrics |=
			    memmem(value.data, value.len, openmetrics,
				sizeof(openmetrics) - 1) != NULL;
	}
	return hosts == 1 || (hosts == 0 && !host_needed);
}

enum http_status
http_parse(struct span head, struct http_request *request)
{
	struct span line, method, target, version;

	*request = (struct http_request){ .head = false };
	if (memchr(head.data, '\0', head.len) != NULL)
		return HTTP_BAD_REQUEST;
	line = cut_line(&head);
	if (!span_cut(line, ' ', &method, &target) || !is_token(method) ||
	    !span_cut(target, ' ', &target, &version) || target.len == 0 ||
	    !(span_equal(version, SPAN("HTTP/1.1")) ||
		span_equal(version, SPAN("HTTP/1.0"))))
		return HTTP_BAD_REQUEST;
	if (!parse_fields(head, version.data[version.len - 1] == '1', request))
		return HTTP_BAD_REQUEST;
	request->path = path_of(target);
	request->head = span_equal(method, SPAN("HEAD"));
	return request->head || span_equal(method, SPAN("GET"))
	    ? HTTP_OK
	    : HTTP_NOT_ALLOWED;
}

/* ---- replies ---- */

static const char *
status_text(enum http_status status)
{
	switch (status) {
	case HTTP_OK:
		return "200 OK";
	case HTTP_BAD_REQUEST:
		return "400 Bad Request";
	case HTTP_NOT_FOUND:
		return "404 Not Found";
	case HTTP_NOT_ALLOWED:
		return "405 Method Not Allowed";
	case HTTP_TIMEOUT:
		return "408 Request Timeout";
	case HTTP_UNAVAILABLE:
		break;
	}
	return "503 Service Unavailable";
}

static void
format_reply(struct buf *out, const struct http_reply *reply, bool head)
{
	buf_printf(out,
	    "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
	    "%sConnection: close\r\n\r\n",
	    status_text(reply->status), reply->type, reply->body.len,
	    reply->status == HTTP_NOT_ALLOWED ? "Allow: GET, HEAD\r\n" : "");
	if (!head)
		buf_add(out, buf_span(&reply->body));
}

static void
answer(struct seat *s, enum http_status status,
    const struct http_request *request)
{
	struct http_reply reply = { status, "text/plain; charset=utf-8",
		{ NULL, 0, 0 } };

	if (status == HTTP_OK) {
		reply.status = HTTP_NOT_FOUND;
		s->http->handler(s->http->arg, request, &reply);
	}
	if (reply.status != HTTP_OK && reply.body.len == 0)
		buf_printf(&reply.body, "%s\n", status_text(reply.status));
	format_reply(&s->out, &reply, status == HTTP_OK && request->head);
	buf_free(&reply.body);
	s->answered = true;
}

/* ---- seats ---- */

static void
leave(struct seat *s)
{
	loop_timer_clear(s->http->loop, &s->timer);
	loop_unwatch(s->http->loop, s->fd);
	fd_close(&s->fd);
	buf_free(&s->in);
	buf_free(&s->out);
	s->answered = false;
}

/* Is the peer still there?  Reads into the seat what there is room for. */
static bool
read_some(struct seat *s, size_t room)
{
	ssize_t n;

	buf_reserve(&s->in, room);
	n = recv(s->fd, s->in.data + s->in.len, room, 0);
	if (n > 0)
		s->in.len += (size_t)n;
	return n > 0 || (n == -1 && (errno == EAGAIN || errno == EINTR));
}

static void
read_request(struct seat *s)
{
	struct http_request request;
	size_t before = s->in.len;
	struct span in;

	if (!read_some(s, REQUEST - s->in.len)) {
		leave(s);
		return;
	}
	in = buf_span(&s->in);
	if (http_ended(in, before))
		answer(s, http_parse(in, &request), &request);
	else if (in.len == REQUEST)
		answer(s, HTTP_BAD_REQUEST, NULL);
}

/*
 * Send what is left of the reply.  Behind it the peer is read to its end,
 * unseen: closing with unread octets would be a reset, which can overtake the
 * reply (RFC 9112, 9.6).
 */
static void
send_reply(struct seat *s)
{
	ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL);

	if (n == -1 && errno != EAGAIN && errno != EINTR) {
		leave(s);
		return;
	}
	if (n > 0)
		buf_drop(&s->out, (size_t)n);
	if (s->out.len == 0)
		(void)shutdown(s->fd, SHUT_WR);
}

static void
on_event(void *arg, unsigned events)
{
	struct seat *s = arg;

	if (s->answered && s->out.len == 0) {
		buf_clear(&s->in);
		if (!read_some(s, REQUEST))
			leave(s);
		return;
	}
	if (!s->answered && (events & LOOP_READ) != 0)
		read_request(s);
	if (s->answered)
		send_reply(s);
	if (s->answered)
		(void)loop_watch(s->http->loop, s->fd,
		    s->out.len > 0 ? LOOP_WRITE : LOOP_READ, on_event, s);
}

static void
on_timeout(void *arg)
{
	struct seat *s = arg;

	if (!s->answered) {
		answer(s, HTTP_TIMEOUT, NULL);
		send_reply(s);
	}
	if (s->fd != -1)
		leave(s);
}

static void
on_accepted(void *arg, int fd, const struct peer *peer)
{
	struct http *h = arg;
	size_t i = 0;

	while (i < SEATS && h->seat[i].fd != -1)
		i++;
	if (i == SEATS || !peer->may_relay ||
	    loop_watch(h->loop, fd, LOOP_READ, on_event, &h->seat[i]) == -1) {
		fd_close(&fd);
		return;
	}
	h->seat[i].fd = fd;
	loop_timer_set(h->loop, &h->seat[i].timer, TIMEOUT_MS);
}

/* ---- the socket ---- */

int
http_prepare(struct http *h, const char *address, struct buf *error)
{
	char *copy = mem_text(address);
	struct config_listen c = { .address = copy };

	http_decide(h, false);
	if (*copy != '\0' && strcmp(copy, h->address) != 0) {
		config_private_networks(&c.allow);
		h->prepared = listener_new(h->loop, &c, -1, error);
		strings_free(&c.allow);
		if (h->prepared == NULL) {
			free(copy);
			return -1;
		}
	}
	h->prepared_address = copy;
	return 0;
}

void
http_decide(struct http *h, bool change)
{
	if (h->prepared_address == NULL)
		return;
	if (change && strcmp(h->prepared_address, h->address) != 0) {
		listener_free(h->listener);
		h->listener = h->prepared;
		h->prepared = NULL;
		free(h->address);
		h->address = mem_text(h->prepared_address);
		if (h->listener != NULL) {
			listener_accept(h->listener, on_accepted, h);
			log_info(NULL, "metrics on %s",
			    listener_bound(h->listener));
		}
	}
	listener_free(h->prepared);
	h->prepared = NULL;
	free(h->prepared_address);
	h->prepared_address = NULL;
}

struct http *
http_new(struct loop *l, http_handler *handler, void *arg)
{
	struct http *h = mem_alloc(sizeof(*h));
	size_t i;

	h->loop = l;
	h->handler = handler;
	h->arg = arg;
	h->address = mem_text("");
	for (i = 0; i < SEATS; i++) {
		h->seat[i] = (struct seat){ .http = h, .fd = -1 };
		h->seat[i].timer.handler = on_timeout;
		h->seat[i].timer.arg = &h->seat[i];
	}
	return h;
}

void
http_free(struct http *h)
{
	size_t i;

	if (h == NULL)
		return;
	http_decide(h, false);
	listener_free(h->listener);
	for (i = 0; i < SEATS; i++) {
		if (h->seat[i].fd != -1)
			leave(&h->seat[i]);
	}
	free(h->address);
	free(h);
}
