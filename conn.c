/*
 * A connection to the relayhost, up to the point where mail may be sent: name
 * look-up, TCP, greeting, EHLO, TLS and whom we trust, login.  libcurl makes
 * it and gives it away (CURLOPT_CONNECT_ONLY); setup.c watches the replies and
 * finds the words for what goes wrong; the mail itself is relay.c's.
 */
#include "setup.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct connector {
	struct loop *loop;
	CURLM *multi; /* NULL until the first connection */
	struct timer timer;
};

/* A descriptor that libcurl waits for. */
struct watched {
	struct connector *connector;
	curl_socket_t fd;
};

struct conn {
	struct connector *connector;
	struct setup setup;
	struct conn_handlers handlers;
	void *arg;
	conn_heard *heard; /* NULL: nobody wants to know */
	CURL *easy;
	bool running; /* in the multi handle */
	int fd;       /* once ready; else -1 */
	struct timer deadline;
	char *tls;
	char error[CURL_ERROR_SIZE];
};

/* ---- what libcurl knows of a failure ---- */

static long
info_long(const struct conn *c, CURLINFO name)
{
	long value = 0;

	(void)curl_easy_getinfo(c->easy, name, &value);
	return value;
}

/* Has libcurl come past a point of the set-up (CURLINFO_..._TIME_T)? */
static bool
is_past(const struct conn *c, CURLINFO point)
{
	curl_off_t microseconds = 0;

	(void)curl_easy_getinfo(c->easy, point, &microseconds);
	return microseconds > 0;
}

/* What the system said, else OpenSSL or libcurl. */
static const char *
cause(const struct conn *c, CURLcode result)
{
	int error = (int)info_long(c, CURLINFO_OS_ERRNO);

	if (error != 0)
		return strerror(error);
	/* The errno in this text of libcurl's is a stale one. */
	if (strstr(c->error, "response reading failed") != NULL)
		return "closed by the relayhost";
	return c->error[0] != '\0' ? c->error : curl_easy_strerror(result);
}

static enum setup_end
end_of(CURLcode result)
{
	static const struct {
		CURLcode result;
		enum setup_end end;
	} ends[] = {
		{ CURLE_COULDNT_RESOLVE_HOST, SETUP_DNS },
		{ CURLE_COULDNT_CONNECT, SETUP_CONNECT },
		{ CURLE_OPERATION_TIMEDOUT, SETUP_TIMEOUT },
		{ CURLE_REMOTE_ACCESS_DENIED, SETUP_REFUSED },
		{ CURLE_WEIRD_SERVER_REPLY, SETUP_WEIRD },
		{ CURLE_USE_SSL_FAILED, SETUP_STARTTLS },
		{ CURLE_SSL_CONNECT_ERROR, SETUP_TLS },
		{ CURLE_PEER_FAILED_VERIFICATION, SETUP_CERTIFICATE },
		{ CURLE_SSL_CACERT_BADFILE, SETUP_CA_FILE },
		{ CURLE_LOGIN_DENIED, SETUP_AUTH },
		{ CURLE_SEND_ERROR, SETUP_LOST },
		{ CURLE_RECV_ERROR, SETUP_LOST },
	};
	size_t i;

	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (ends[i].result == result)
			return ends[i].end;
	return SETUP_OTHER;
}

static void
explain(struct conn *c, CURLcode result)
{
	long verdict = info_long(c, CURLINFO_SSL_VERIFYRESULT);

	setup_explain(&c->setup,
	    &(struct setup_facts){
		.end = end_of(result),
		.resolved = is_past(c, CURLINFO_NAMELOOKUP_TIME_T),
		.connected = is_past(c, CURLINFO_CONNECT_TIME_T),
		.encrypted = is_past(c, CURLINFO_APPCONNECT_TIME_T),
		.error = cause(c, result),
		/* The chain is fine, or there would be a verdict. */
		.wrong_name = verdict == X509_V_OK ||
		    verdict == X509_V_ERR_UNSPECIFIED ||
		    verdict == X509_V_ERR_HOSTNAME_MISMATCH ||
		    verdict == X509_V_ERR_IP_ADDRESS_MISMATCH,
		.wrong_time = verdict == X509_V_ERR_CERT_HAS_EXPIRED ||
		    verdict == X509_V_ERR_CERT_NOT_YET_VALID,
		.certificate_error = X509_verify_cert_error_string(verdict),
	    });
}

/* ---- options ---- */

/* CURLOPT_HEADERFUNCTION: one line of a reply.  libcurl skips lines that are
 * no reply, and would wait for one until the deadline; a result of 0 ends the
 * connection at the first. */
static size_t
take_line(const char *data, size_t one, size_t len, void *arg)
{
	struct conn *c = arg;

	(void)one; /* always 1 */
	if (c->heard != NULL)
		c->heard(c->arg, setup_step(&c->setup),
		    span_trim((struct span){ data, len }));
	return setup_line(&c->setup, (struct span){ data, len }) ? len : 0;
}

/* CURLOPT_SSL_CTX_FUNCTION */
static CURLcode
on_context(CURL *easy, void *context, void *arg)
{
	(void)easy;
	return trust_require(context, arg) ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

static const long use_ssl[] = {
	[TLS_STARTTLS] = CURLUSESSL_ALL,
	[TLS_IMPLICIT] = CURLUSESSL_ALL,
	[TLS_OPPORTUNISTIC] = CURLUSESSL_TRY,
	[TLS_NONE] = CURLUSESSL_NONE,
};

static const long ip_resolve[] = {
	[FAMILY_ANY] = CURL_IPRESOLVE_WHATEVER,
	[FAMILY_IPV4] = CURL_IPRESOLVE_V4,
	[FAMILY_IPV6] = CURL_IPRESOLVE_V6,
};

/* Left to itself libcurl would pick DIGEST-MD5 and try nothing else; of these
 * two it takes PLAIN where it is offered. */
static const char *const login_options[] = {
	[AUTH_AUTO] = "AUTH=PLAIN;AUTH=LOGIN",
	[AUTH_PLAIN] = "AUTH=PLAIN",
	[AUTH_LOGIN] = "AUTH=LOGIN",
	[AUTH_NONE] = "",
};

static CURLcode
set_numbers(CURL *easy, const struct config_relay *r)
{
	const struct {
		CURLoption option;
		long value;
	} numbers[] = {
		{ CURLOPT_CONNECT_ONLY, 1 },
		{ CURLOPT_USE_SSL, use_ssl[r->tls] },
		{ CURLOPT_SSL_VERIFYPEER, r->tls_verify ? 1 : 0 },
		{ CURLOPT_SSL_VERIFYHOST, r->tls_verify ? 2 : 0 },
		{ CURLOPT_SSLVERSION,
		    r->tls_min == 13 ? CURL_SSLVERSION_TLSv1_3
				     : CURL_SSLVERSION_TLSv1_2 },
		{ CURLOPT_CA_CACHE_TIMEOUT, 3600 },
		{ CURLOPT_CONNECTTIMEOUT_MS, (long)r->connect_timeout * 1000 },
		{ CURLOPT_IPRESOLVE, ip_resolve[r->family] },
		/* One round trip less with PLAIN. */
		{ CURLOPT_SASL_IR, 1 },
		/* Don't wait for a resolver that hangs. */
		{ CURLOPT_QUICK_EXIT, 1 },
		{ CURLOPT_NOSIGNAL, 1 },
	};
	CURLcode result = CURLE_OK;
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (result == CURLE_OK)
			result = curl_easy_setopt(easy, numbers[i].option,
			    numbers[i].value);
	return result;
}

static CURLcode
set_pointers(struct conn *c, const char *url)
{
	const struct {
		CURLoption option;
		const void *value;
	} pointers[] = {
		{ CURLOPT_URL, url },
		{ CURLOPT_PRIVATE, c },
		{ CURLOPT_HEADERDATA, c },
		{ CURLOPT_SSL_CTX_DATA, c->setup.relay },
		{ CURLOPT_ERRORBUFFER, c->error },
		{ CURLOPT_PROTOCOLS_STR, "smtp,smtps" },
		/* Not the environment's. */
		{ CURLOPT_PROXY, "" },
		/* With a path libcurl doesn't cache the authorities: 30 ms
		 * and 800 KB a connection. */
		{ CURLOPT_CAPATH, NULL },
	};
	CURLcode result =
	    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, take_line);
	size_t i;

	if (result == CURLE_OK)
		result = curl_easy_setopt(c->easy, CURLOPT_SSL_CTX_FUNCTION,
		    on_context);
	for (i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++)
		if (result == CURLE_OK)
			result = curl_easy_setopt(c->easy, pointers[i].option,
			    pointers[i].value);
	if (result == CURLE_OK && c->setup.relay->tls_ca_file[0] != '\0')
		result = curl_easy_setopt(c->easy, CURLOPT_CAINFO,
		    c->setup.relay->tls_ca_file);
	return result;
}

static CURLcode
set_login(struct conn *c)
{
	const struct config_relay *r = c->setup.relay;
	struct buf password = { .len = 0 };
	CURLcode result = CURLE_OK;

	if (setup_password(&c->setup, &password)) {
		result = curl_easy_setopt(c->easy, CURLOPT_LOGIN_OPTIONS,
		    login_options[r->auth]);
		if (result == CURLE_OK)
			result = curl_easy_setopt(c->easy, CURLOPT_USERNAME,
			    r->user);
		if (result == CURLE_OK)
			result = curl_easy_setopt(c->easy, CURLOPT_PASSWORD,
			    buf_text(&password));
	}
	buf_wipe(&password);
	return result;
}

static void
set_options(struct conn *c, const char *hostname)
{
	struct buf url = { .len = 0 };
	CURLcode result;

	setup_url(&c->setup, hostname, &url);
	result = set_pointers(c, buf_text(&url));
	if (result == CURLE_OK)
		result = set_numbers(c->easy, c->setup.relay);
	if (result == CURLE_OK && setup_has_login(c->setup.relay))
		result = set_login(c);
	if (result != CURLE_OK)
		explain(c, result);
	buf_free(&url);
}

/* ---- the end of the set-up ---- */

static void
leave_multi(struct conn *c)
{
	if (c->running)
		(void)curl_multi_remove_handle(c->connector->multi, c->easy);
	c->running = false;
}

/* Nothing more is said to the relayhost once there is a fault. */
static void
fail(struct conn *c)
{
	loop_timer_clear(c->connector->loop, &c->deadline);
	leave_multi(c);
	c->handlers.failed(c->arg, &c->setup.fault);
}

static void
name_peer(struct conn *c)
{
	const char *ip = NULL;

	if (is_past(c, CURLINFO_CONNECT_TIME_T))
		(void)curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip);
	setup_name_peer(&c->setup, ip);
}

/*
 * Until the first receive the connection counts as idle, and libcurl may
 * close it to make room for another; it also has no SSL object to show
 * before.  There is nothing to receive yet from an honest relayhost.
 */
static void
attach(struct conn *c)
{
	char data[256];
	struct span early = { data, 0 };
	CURLcode result =
	    curl_easy_recv(c->easy, data, sizeof(data), &early.len);

	if (result == CURLE_OK && early.len > 0) {
		early = span_trim(early);
		setup_fault(&c->setup, FAULT_PROTOCOL,
		    "%s sent what nobody asked for: %.*s", c->setup.peer,
		    (int)early.len, early.data);
	} else if (result != CURLE_AGAIN) {
		setup_fault(&c->setup, FAULT_LOST,
		    "%s closed the connection after %s", c->setup.peer,
		    setup_has_login(c->setup.relay) ? "the login" : "EHLO");
	}
}

static void
note_tls(struct conn *c)
{
	struct curl_tlssessioninfo *session = NULL;
	struct buf facts = { .len = 0 };
	SSL *ssl = NULL;

	(void)curl_easy_getinfo(c->easy, CURLINFO_TLS_SSL_PTR, &session);
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
use_event(void *arg, unsigned events)
{
	struct conn *c = arg;

	c->handlers.event(c->arg, events);
}

static void
watch(struct conn *c)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	(void)curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &fd);
	if (fd == CURL_SOCKET_BAD ||
	    loop_watch(c->connector->loop, fd, LOOP_READ, use_event, c) == -1)
		setup_fault(&c->setup, FAULT_LOST,
		    "the connection to %s can't be watched", c->setup.peer);
	else
		c->fd = fd;
}

static bool
is_sound(const struct conn *c)
{
	return c->setup.fault.kind == FAULT_NONE;
}

/* libcurl's success is not ours: it goes on where AUTH is not offered. */
static void
take_over(struct conn *c)
{
	setup_check_login(&c->setup);
	if (is_sound(c))
		attach(c);
	if (is_sound(c))
		note_tls(c);
	if (is_sound(c))
		watch(c);
}

static void
finish(struct conn *c, CURLcode result)
{
	name_peer(c);
	if (result == CURLE_OK)
		take_over(c);
	else
		explain(c, result);
	if (!is_sound(c)) {
		fail(c);
		return;
	}
	loop_timer_clear(c->connector->loop, &c->deadline);
	c->handlers.ready(c->arg);
}

/* Time is over; or conn_open() met a fault and left it to the loop. */
static void
on_deadline(void *arg)
{
	struct conn *c = arg;

	if (is_sound(c)) {
		name_peer(c);
		explain(c, CURLE_OPERATION_TIMEDOUT);
	}
	fail(c);
}

/* ---- libcurl on the loop ---- */

/* Tell the results there are; from the loop only, as libcurl allows no call
 * from within its own callbacks, and handlers do call. */
static void
tell_results(struct connector *c)
{
	const CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
		CURLcode result = m->data.result;
		struct conn *conn = NULL;

		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE,
		    &conn);
		finish(conn, result);
	}
}

static void
on_socket(void *arg, unsigned events)
{
	const struct watched *w = arg; /* libcurl may free it */
	struct connector *c = w->connector;
	int action = 0, running;

	if ((events & LOOP_READ) != 0)
		action |= CURL_CSELECT_IN;
	if ((events & LOOP_WRITE) != 0)
		action |= CURL_CSELECT_OUT;
	(void)curl_multi_socket_action(c->multi, w->fd, action, &running);
	tell_results(c);
}

static void
on_timer(void *arg)
{
	struct connector *c = arg;
	int running;

	(void)curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0,
	    &running);
	tell_results(c);
}

/* CURLMOPT_SOCKETFUNCTION.  It can't say no: that would end the whole multi
 * handle, where a descriptor that isn't watched meets its deadline. */
static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct connector *c = arg;
	struct watched *w = known;
	unsigned events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		loop_unwatch(c->loop, fd);
		free(w);
		return 0;
	}
	if (w == NULL) {
		w = mem_alloc(sizeof(*w));
		*w = (struct watched){ c, fd };
		(void)curl_multi_assign(c->multi, fd, w);
	}
	if ((what & CURL_POLL_IN) != 0)
		events |= LOOP_READ;
	if ((what & CURL_POLL_OUT) != 0)
		events |= LOOP_WRITE;
	(void)loop_watch(c->loop, fd, events, on_socket, w);
	return 0;
}

/* CURLMOPT_TIMERFUNCTION */
static int
set_timer(CURLM *multi, long delay_ms, void *arg)
{
	struct connector *c = arg;

	(void)multi;
	if (delay_ms < 0)
		loop_timer_clear(c->loop, &c->timer);
	else
		loop_timer_set(c->loop, &c->timer, delay_ms);
	return 0;
}

/* libcurl takes memory and time to start: not before it is needed. */
static bool
start_curl(struct connector *c)
{
	if (c->multi != NULL)
		return true;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return false;
	c->multi = curl_multi_init();
	return c->multi != NULL &&
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION,
		watch_socket) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer) ==
	    CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK;
}

struct connector *
connector_new(struct loop *l)
{
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
	struct connector *c;
	const char *const *p;
	bool smtps = false;

	for (p = info->protocols; *p != NULL; p++)
		smtps |= strcmp(*p, "smtps") == 0;
	if (!smtps || info->ssl_version == NULL ||
	    strncmp(info->ssl_version, "OpenSSL/", 8) != 0) {
		log_error(NULL,
		    "this libcurl (%s) can't be used: it must have "
		    "been built with OpenSSL and SMTP",
		    info->version);
		return NULL;
	}
	c = mem_alloc(sizeof(*c));
	c->loop = l;
	c->timer.handler = on_timer;
	c->timer.arg = c;
	return c;
}

void
connector_free(struct connector *c)
{
	/* From 8.20 on it may wait there for a name look-up. */
	enum { CLEANUP_WAITS = 0x081400 };

	if (c == NULL)
		return;
	if (c->multi != NULL &&
	    curl_version_info(CURLVERSION_NOW)->version_num < CLEANUP_WAITS)
		(void)curl_multi_cleanup(c->multi);
	loop_timer_clear(c->loop, &c->timer);
	free(c);
}

/* ---- one connection ---- */

static void
start(struct conn *c, const char *hostname)
{
	if (start_curl(c->connector))
		c->easy = curl_easy_init();
	if (c->easy == NULL) {
		setup_fault(&c->setup, FAULT_CONFIG,
		    "libcurl could not be started");
		return;
	}
	set_options(c, hostname);
	if (!is_sound(c))
		return;
	c->running =
	    curl_multi_add_handle(c->connector->multi, c->easy) == CURLM_OK;
	if (!c->running)
		setup_fault(&c->setup, FAULT_CONFIG,
		    "libcurl takes no connection");
}

struct conn *
conn_open(struct connector *connector, const struct config *config,
    const struct config_relay *r, const struct conn_handlers *handlers,
    void *arg)
{
	struct conn *c = mem_alloc(sizeof(*c));

	c->connector = connector;
	c->setup.relay = r;
	c->handlers = *handlers;
	c->arg = arg;
	c->fd = -1;
	c->tls = mem_text("");
	c->deadline.handler = on_deadline;
	c->deadline.arg = c;
	setup_name_peer(&c->setup, NULL);
	start(c, config->hostname);
	loop_timer_set(connector->loop, &c->deadline,
	    is_sound(c) ? r->connect_timeout * 1000 : 0);
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
	loop_timer_clear(c->connector->loop, &c->deadline);
	/* First, as libcurl may watch and unwatch it once more. */
	loop_unwatch(c->connector->loop, c->fd);
	leave_multi(c);
	curl_easy_cleanup(c->easy);
	free(c->setup.peer);
	free(c->tls);
	free(c);
}

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
	CURLcode result = curl_easy_send(c->easy, data, len, &sent);

	return octets_or_errno(result, sent);
}

ssize_t
conn_recv(struct conn *c, void *data, size_t size)
{
	size_t received = 0;
	CURLcode result = curl_easy_recv(c->easy, data, size, &received);

	return octets_or_errno(result, received);
}

void
conn_want(struct conn *c, unsigned events)
{
	(void)loop_watch(c->connector->loop, c->fd, events, use_event, c);
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
