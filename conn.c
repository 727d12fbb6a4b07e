/*
 * A connection to the relayhost, up to the point where mail may be sent.
 *
 * libcurl makes it, from the name look-up to the EHLO that follows TLS, and
 * gives it away (CURLOPT_CONNECT_ONLY): connector.c runs it, handle.c tells it
 * what to do.  Then auth.c logs in.  setup.c watches the replies and finds the
 * words for what goes wrong; the mail itself is relay.c's.
 */
#include "conn.h"
#include "auth.h"
#include "helper.h"

#include <openssl/ssl.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A little more than the helper gives a command. */
enum { COMMAND_MS = 35 * 1000 };

struct conn {
	struct connector *connector;
	const char *hostname;       /* the configuration's */
	struct helper_run *command; /* whose password is waited for; or NULL */
	struct setup setup;
	struct conn_handlers handlers;
	void *arg;
	conn_heard *heard; /* NULL: nobody wants to know */
	struct handle handle;
	bool ready;
	int fd; /* once connected; else -1 */
	struct timer deadline;
	char *tls;
	struct auth auth;
	size_t sent;   /* of auth.out */
	struct buf in; /* what replies to AUTH have no line end yet */
};

static bool
is_sound(const struct conn *c)
{
	return c->setup.fault.kind == FAULT_NONE;
}

/* ---- bytes ---- */

static ssize_t
octets_or_errno(CURLcode result, size_t octets)
{
	if (result == CURLE_OK)
		return (ssize_t)octets;
	errno = result == CURLE_AGAIN ? EAGAIN : ECONNRESET;
	return -1;
}

ssize_t
conn_send(struct conn *c, const void *data, size_t len)
{
	size_t sent = 0;
	CURLcode result = curl_easy_send(c->handle.easy, data, len, &sent);

	return octets_or_errno(result, sent);
}

ssize_t
conn_recv(struct conn *c, void *data, size_t size)
{
	size_t received = 0;
	CURLcode result = curl_easy_recv(c->handle.easy, data, size, &received);

	return octets_or_errno(result, received);
}

/* ---- the end of the set-up ---- */

/* Wait for nothing more, and say nothing more to the relayhost. */
static void
stop(struct conn *c)
{
	loop_timer_clear(c->connector->loop, &c->deadline);
	/* First, as libcurl may watch and unwatch it once more. */
	loop_unwatch(c->connector->loop, c->fd);
	connector_stop(c->connector, &c->handle);
	helper_cancel(c->command);
	c->command = NULL;
	auth_wipe(&c->auth);
}

static void
fail(struct conn *c)
{
	stop(c);
	c->handlers.failed(c->arg, &c->setup.fault);
}

static void
get_ready(struct conn *c)
{
	loop_timer_clear(c->connector->loop, &c->deadline);
	auth_wipe(&c->auth);
	c->ready = true;
	conn_want(c, LOOP_READ);
	c->handlers.ready(c->arg);
}

static void
name_peer(struct conn *c)
{
	const char *ip = NULL;

	/* Behind a proxy it is the proxy's. */
	if (handle_is_past(&c->handle, CURLINFO_CONNECT_TIME_T) &&
	    c->setup.relay->proxy[0] == '\0')
		(void)curl_easy_getinfo(c->handle.easy, CURLINFO_PRIMARY_IP,
		    &ip);
	setup_name_peer(&c->setup, ip);
}

/* Time is over; or conn_open() met a fault and left it to the loop. */
static void
on_deadline(void *arg)
{
	struct conn *c = arg;

	if (c->command != NULL) {
		setup_fault(&c->setup, FAULT_CONFIG,
		    "password_command: relayd's helper process does not "
		    "answer");
	} else if (is_sound(c)) {
		name_peer(c);
		handle_explain(&c->handle, CURLE_OPERATION_TIMEDOUT, &c->setup);
	}
	fail(c);
}

/* At once where there is a fault: handlers are called from the loop. */
static void
set_deadline(struct conn *c, int64_t delay_ms)
{
	loop_timer_set(c->connector->loop, &c->deadline,
	    is_sound(c) ? delay_ms : 0);
}

/* ---- replies ---- */

/* With its line end.  false: there is a fault. */
static bool
take_line(struct conn *c, struct span line)
{
	if (c->heard != NULL)
		c->heard(c->arg, setup_step(&c->setup), span_trim(line));
	return setup_line(&c->setup, line);
}

/* CURLOPT_HEADERFUNCTION.  libcurl skips lines that are no reply, and would
 * wait for one until the deadline; a result of 0 ends the connection at the
 * first. */
static size_t
on_header(const char *data, size_t one, size_t len, void *arg)
{
	(void)one; /* always 1 */
	return take_line(arg, (struct span){ data, len }) ? len : 0;
}

/* ---- the login ---- */

/* What nobody asked for.  The rest of a line is in c->in. */
static void
refuse_surplus(struct conn *c)
{
	struct span surplus = span_trim(buf_span(&c->in));

	setup_fault(&c->setup, FAULT_PROTOCOL,
	    "%s sent what nobody asked for: %.*s", c->setup.peer,
	    (int)span_first(surplus, 256).len, surplus.data);
}

static void
lose(struct conn *c, const char *how)
{
	setup_explain(&c->setup,
	    &(struct setup_facts){ .end = SETUP_LOST,
		.connected = true,
		.error = how });
}

/* The lines that are there; each reply is answered. */
static void
take_replies(struct conn *c)
{
	struct span line, rest;

	while (is_sound(c) && span_cut(buf_span(&c->in), '\n', &line, &rest)) {
		line.len++;
		if (c->setup.phase == PHASE_LOGGED_IN || c->auth.out.len > 0)
			refuse_surplus(c);
		else if (take_line(c, line) && c->setup.complete) {
			auth_reply(&c->auth);
			c->sent = 0;
		}
		buf_drop(&c->in, line.len);
	}
	if (is_sound(c) && c->in.len > 0 && c->setup.phase == PHASE_LOGGED_IN)
		refuse_surplus(c);
	else if (c->in.len > LIMIT_REPLY_LINE) /* it can only be refused */
		(void)take_line(c, buf_span(&c->in));
}

/* Until there is nothing more: TLS keeps what the loop does not see. */
static void
read_replies(struct conn *c)
{
	char data[1024];
	ssize_t n = -1;

	while (is_sound(c) && (n = conn_recv(c, data, sizeof(data))) > 0) {
		buf_append(&c->in, data, (size_t)n);
		take_replies(c);
	}
	if (is_sound(c) && n == 0)
		lose(c, "closed by the relayhost");
	else if (is_sound(c) && errno != EAGAIN)
		lose(c, strerror(errno));
}

static void
write_line(struct conn *c)
{
	const struct buf *out = &c->auth.out;
	ssize_t n = 0;

	while (c->sent < out->len && n != -1) {
		n = conn_send(c, out->data + c->sent, out->len - c->sent);
		if (n != -1)
			c->sent += (size_t)n;
	}
	if (n == -1 && errno != EAGAIN)
		lose(c, strerror(errno));
	if (c->sent == out->len)
		buf_wipe(&c->auth.out);
	conn_want(c, c->auth.out.len > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

/* The next step of the login, and its end; the connection may be gone then. */
static void
log_in(struct conn *c)
{
	read_replies(c);
	if (is_sound(c) && c->auth.out.len > 0)
		write_line(c);
	if (!is_sound(c))
		fail(c);
	else if (c->setup.phase == PHASE_LOGGED_IN)
		get_ready(c);
}

static void
on_event(void *arg, unsigned events)
{
	struct conn *c = arg;

	if (c->ready)
		c->handlers.event(c->arg, events);
	else
		log_in(c);
}

/* ---- taking over from libcurl ---- */

/*
 * Until the first receive the connection counts as idle, and libcurl may
 * close it to make room for another; it also has no SSL object to show
 * before.  There is nothing to receive yet from an honest relayhost.
 */
static void
attach(struct conn *c)
{
	char data[256];
	ssize_t n = conn_recv(c, data, sizeof(data));

	if (n > 0) {
		buf_append(&c->in, data, (size_t)n);
		refuse_surplus(c);
	} else if (n == 0 || errno != EAGAIN) {
		setup_fault(&c->setup, FAULT_LOST,
		    "%s closed the connection after EHLO", c->setup.peer);
	}
}

static void
note_tls(struct conn *c)
{
	struct curl_tlssessioninfo *session = NULL;
	struct buf facts = { .len = 0 };
	SSL *ssl = NULL;

	(void)curl_easy_getinfo(c->handle.easy, CURLINFO_TLS_SSL_PTR, &session);
	if (session != NULL)
		ssl = session->internals;
	if (ssl != NULL) {
		buf_printf(&facts, "%s with cipher %s", SSL_get_version(ssl),
		    SSL_get_cipher_name(ssl));
		free(c->tls);
		c->tls = mem_text(buf_text(&facts));
		buf_free(&facts);
	} else if (c->setup.relay->tls == TLS_STARTTLS ||
	    c->setup.relay->tls == TLS_IMPLICIT) {
		setup_fault(&c->setup, FAULT_TLS,
		    "the connection to %s is not encrypted, so nothing was "
		    "sent",
		    c->setup.peer);
	}
}

static void
watch(struct conn *c)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	(void)curl_easy_getinfo(c->handle.easy, CURLINFO_ACTIVESOCKET, &fd);
	if (fd == CURL_SOCKET_BAD ||
	    loop_watch(c->connector->loop, fd, LOOP_READ, on_event, c) == -1)
		setup_fault(&c->setup, FAULT_LOST,
		    "the connection to %s can't be watched", c->setup.peer);
	else
		c->fd = fd;
}

/* libcurl's success is not ours. */
static void
on_done(void *arg, CURLcode result)
{
	struct conn *c = arg;
	bool login = config_has_login(c->setup.relay);

	name_peer(c);
	if (result != CURLE_OK)
		handle_explain(&c->handle, result, &c->setup);
	if (is_sound(c))
		attach(c);
	if (is_sound(c))
		note_tls(c);
	if (is_sound(c))
		watch(c);
	if (is_sound(c) && login)
		auth_begin(&c->auth);
	if (!is_sound(c))
		fail(c);
	else if (login)
		log_in(c);
	else
		get_ready(c);
}

/* ---- one connection ---- */

/* Have libcurl begin. */
static void
connect_to(struct conn *c)
{
	CURLcode result = handle_configure(&c->handle, &c->setup, c->hostname);

	if (result == CURLE_OK)
		result =
		    curl_easy_setopt(c->handle.easy, CURLOPT_HEADERDATA, c);
	if (result == CURLE_OK)
		result = curl_easy_setopt(c->handle.easy,
		    CURLOPT_HEADERFUNCTION, on_header);
	if (result != CURLE_OK)
		handle_explain(&c->handle, result, &c->setup);
	else if (!connector_start(c->connector, &c->handle))
		setup_fault(&c->setup, FAULT_CONFIG,
		    "libcurl takes no connection");
	set_deadline(c, c->setup.relay->connect_timeout * 1000);
}

static void
take_result(struct conn *c, const struct helper_result *result)
{
	struct buf says = { NULL, 0, 0 };

	buf_add_words(&says, buf_span(&result->says));
	if (says.len > 0)
		log_warning("smtp", "relay %s: password_command says: %s",
		    c->setup.relay->name, buf_text(&says));
	buf_free(&says);
	if (result->error.len > 0)
		setup_fault(&c->setup, FAULT_CONFIG, "password_command %.*s",
		    (int)result->error.len, result->error.data);
	buf_reserve(&c->auth.password, result->password.len);
	buf_add(&c->auth.password, buf_span(&result->password));
}

static void
on_password(void *arg, struct helper_result *result)
{
	struct conn *c = arg;

	take_result(c, result);
	helper_cancel(c->command);
	c->command = NULL;
	if (is_sound(c))
		connect_to(c);
	else
		fail(c);
}

/* True: it comes later. */
static bool
ask_command(struct conn *c)
{
	c->command = helper_start(c->connector->helper, c->connector->loop,
	    c->setup.relay->password_command, on_password, c);
	if (c->command == NULL)
		setup_fault(&c->setup, FAULT_CONFIG,
		    "password_command can't be run: %s", strerror(errno));
	return is_sound(c);
}

/* What can't be had need not be connected for. */
static void
start(struct conn *c)
{
	const struct config_relay *r = c->setup.relay;
	bool later = false;

	if (!connector_prepare(c->connector, &c->handle))
		setup_fault(&c->setup, FAULT_CONFIG,
		    "libcurl could not be started");
	else if (setup_certificate(&c->setup) && config_has_password(r) &&
	    setup_may_log_in(&c->setup)) {
		if (r->password_command[0] != '\0')
			later = ask_command(c);
		else
			(void)setup_password(&c->setup, &c->auth.password);
	}
	if (later)
		set_deadline(c, COMMAND_MS);
	else if (is_sound(c))
		connect_to(c);
	else
		set_deadline(c, 0);
}

struct conn *
conn_open(struct connector *connector, const struct config *config,
    const struct config_relay *r, const struct conn_handlers *handlers,
    void *arg)
{
	struct conn *c = mem_alloc(sizeof(*c));

	c->connector = connector;
	c->hostname = config->hostname;
	c->setup.relay = r;
	c->auth.setup = &c->setup;
	c->handle.done = on_done;
	c->handle.arg = c;
	c->handlers = *handlers;
	c->arg = arg;
	c->fd = -1;
	c->tls = mem_text("");
	c->deadline.handler = on_deadline;
	c->deadline.arg = c;
	setup_name_peer(&c->setup, NULL);
	start(c);
	return c;
}

void
conn_observe(struct conn *c, conn_heard *heard)
{
	c->heard = heard;
}

const char *
conn_step(const struct conn *c)
{
	return setup_step(&c->setup);
}

void
conn_close(struct conn *c)
{
	if (c == NULL)
		return;
	stop(c);
	curl_easy_cleanup(c->handle.easy);
	buf_free(&c->in);
	free(c->setup.peer);
	free(c->tls);
	free(c);
}

void
conn_want(struct conn *c, unsigned events)
{
	(void)loop_watch(c->connector->loop, c->fd, events, on_event, c);
}

const char *
conn_peer(const struct conn *c)
{
	return c->setup.peer;
}

const char *
conn_tls(const struct conn *c)
{
	return c->tls;
}

unsigned
conn_can(const struct conn *c, uint64_t *size_limit)
{
	*size_limit = c->setup.promise.size_limit;
	return c->setup.promise.can;
}
