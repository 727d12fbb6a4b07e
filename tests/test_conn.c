/*
 * conn.c with real connections, to conn_peer.py on loopback: each scene is a
 * row of a table.  In all of them no login and no mail may go out in clear.
 * The case numbers are those of the collection of hostile relayhosts.
 *
 * wrap: config_password
 */
#include "relayd.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PEER            "tests/conn_peer.py"
#define HERE            "127.0.0.1"

#define PASSWORD_BASE64 "c2VjcmV0LXdvcmQ"

enum { WATCHDOG = 120 }; /* seconds; a call that blocks ends in its alarm */

struct scene {
	const char *name;
	const char *peer; /* conn_peer.py's name of it; NULL: none is needed */
	char *host;       /* NULL: HERE */
	enum tls_mode tls;
	enum auth_mode auth;
	bool anyone; /* no login is configured */
	bool wrong_ca;
	bool unverified;
	bool tls13;
	bool no_password;
	bool short_time; /* the deadline is what it is about */
	/* What comes of it. */
	bool clear_login;     /* in clear, as was asked for */
	enum fault_kind kind; /* FAULT_NONE: ready */
	bool or_connect;      /* or FAULT_CONNECT: the end may come before the
			    connection was looked at */
	int code;
	const char *text;      /* part of the fault's text, or of conn_tls() */
	const char *auth_line; /* what the peer saw, if any */
};

struct world {
	char directory[32];
	char ca_file[64];
	pid_t pid;
	FILE *to_peer;
	FILE *from_peer;
};

static struct world world;

struct run {
	struct loop *loop;
	struct conn *conn;
	size_t *open; /* connections of this test */
	bool ready;
	bool answered; /* NOOP, with 250 */
	struct fault fault;
	char tls[128];
	char peer[128];
	unsigned can;
	uint64_t size_limit;
};

static bool password_fails;

int __wrap_config_password(const struct config_relay *r, struct buf *password,
    struct buf *error);

int
__wrap_config_password(const struct config_relay *r, struct buf *password,
    struct buf *error)
{
	(void)r;
	if (password_fails) {
		buf_add_text(error, "password_file: no such file");
		return -1;
	}
	buf_add_text(password, "secret-word");
	return 0;
}

/* libcurl's look-ups come here, as the program's symbols go before libc's. */
static sem_t resolver_may_return;

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *req,
    struct addrinfo **pai)
{
	int (*real)(const char *, const char *, const struct addrinfo *,
	    struct addrinfo **);

	if (req != NULL && (req->ai_flags & AI_NUMERICHOST) != 0) {
		*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
		return real(name, service, req, pai);
	}
	if (strcmp(name, "hangs.test") == 0)
		(void)sem_wait(&resolver_may_return);
	return EAI_NONAME;
}

/* ---- handlers; each closes the connection from within ---- */

static void
end(struct run *run)
{
	conn_close(run->conn);
	run->conn = NULL;
	if (--*run->open == 0)
		loop_stop(run->loop);
}

static void
on_ready(void *arg)
{
	struct run *run = arg;

	run->ready = true;
	run->can = conn_can(run->conn, &run->size_limit);
	(void)snprintf(run->tls, sizeof(run->tls), "%s", conn_tls(run->conn));
	(void)snprintf(run->peer, sizeof(run->peer), "%s",
	    conn_peer(run->conn));
	assert_int_equal(conn_send(run->conn, "NOOP\r\n", 6), 6);
	conn_want(run->conn, LOOP_READ);
}

static void
on_failed(void *arg, const struct fault *fault)
{
	struct run *run = arg;

	run->fault = *fault;
	(void)snprintf(run->peer, sizeof(run->peer), "%s",
	    conn_peer(run->conn));
	end(run);
}

static void
on_event(void *arg, unsigned events)
{
	struct run *run = arg;
	char text[256];
	ssize_t n;

	assert_true((events & LOOP_READ) != 0);
	n = conn_recv(run->conn, text, sizeof(text));
	if (n == -1)
		return;
	run->answered = n > 4 && memcmp(text, "250 ", 4) == 0;
	assert_int_equal(conn_recv(run->conn, text, sizeof(text)), -1);
	end(run);
}

static const struct conn_handlers handlers = { on_ready, on_failed, on_event };

/* ---- a scene ---- */

static unsigned
ask_port(const char *scene)
{
	uint64_t port = 0;
	char line[16];

	(void)fprintf(world.to_peer, "%s\n", scene);
	(void)fflush(world.to_peer);
	assert_non_null(fgets(line, sizeof(line), world.from_peer));
	assert_true(parse_number(span_trim(span_of(line)), 65535, &port));
	return (unsigned)port;
}

/* What the peer saw, into seen. */
static void
end_peer(struct buf *seen)
{
	char line[1024];

	(void)fputs("end\n", world.to_peer);
	(void)fflush(world.to_peer);
	while (fgets(line, sizeof(line), world.from_peer) != NULL &&
	    strcmp(line, ".\n") != 0)
		buf_add_text(seen, line);
}

static char empty[] = "", user[] = "me@example.com", file[] = "secret",
	    hostname[] = "web1", here[] = HERE;

static const struct config config = { .hostname = hostname };

static struct config_relay
relay_at(unsigned port)
{
	return (struct config_relay){ .name = empty,
		.host = here,
		.port = port,
		.tls_ca_file = world.ca_file,
		.tls_verify = true,
		.tls_min = 12,
		.user = user,
		.password = empty,
		.password_file = file,
		.password_credential = empty,
		.password_command = empty,
		.tls_pin = empty,
		.tls_cert = empty,
		.tls_key = empty,
		.source = empty,
		.proxy = empty,
		.connect_timeout = WATCHDOG };
}

static void
run_relay(struct run *run, const struct config_relay *r)
{
	struct connector *connector;
	size_t open = 1;

	run->open = &open;
	run->loop = loop_new();
	connector = connector_new(run->loop);
	assert_non_null(connector);
	run->conn = conn_open(connector, &config, r, &handlers, run);
	assert_false(run->ready);
	assert_int_equal(run->fault.kind, FAULT_NONE);
	assert_int_equal(loop_run(run->loop), 0);
	connector_free(connector);
	loop_free(run->loop);
}

static void
run_scene(struct run *run, const struct scene *s, unsigned port)
{
	struct config_relay r = relay_at(port);

	if (s->host != NULL)
		r.host = s->host;
	if (s->anyone)
		r.user = empty;
	if (s->wrong_ca)
		r.tls_ca_file = empty;
	if (s->short_time)
		r.connect_timeout = 1;
	if (s->tls13)
		r.tls_min = 13;
	r.tls = s->tls;
	r.tls_verify = !s->unverified;
	r.auth = s->auth;
	password_fails = s->no_password;
	run_relay(run, &r);
	password_fails = false;
}

static void
check_seen(const struct scene *s, const char *seen)
{
	if (!s->clear_login)
		assert_null(strstr(seen, "clear AUTH"));
	assert_null(strstr(seen, "MAIL"));
	if (s->auth_line != NULL)
		assert_non_null(strstr(seen, s->auth_line));
	else
		assert_null(strstr(seen, "AUTH"));
	if (strstr(seen, "AUTH PLAIN") == NULL &&
	    strstr(seen, "AUTH LOGIN") == NULL)
		assert_null(strstr(seen, PASSWORD_BASE64));
}

static size_t
open_descriptors(void)
{
	size_t count = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) != -1;
	return count;
}

static void
comes_out_as_told(void **state)
{
	const struct scene *s = *state;
	struct run run = { .ready = false };
	struct buf seen = { .len = 0 };
	size_t descriptors = open_descriptors();
	unsigned port = 9;

	if (s->peer != NULL)
		port = ask_port(s->peer);
	run_scene(&run, s, port);
	if (s->peer != NULL)
		end_peer(&seen);
	if (s->or_connect && run.fault.kind == FAULT_CONNECT) {
		assert_non_null(strstr(run.fault.text, "cannot connect to"));
	} else if (run.fault.kind != s->kind || run.fault.code != s->code ||
	    strstr(run.ready ? run.tls : run.fault.text, s->text) == NULL)
		fail_msg("%s %d: %s", fault_name(run.fault.kind),
		    run.fault.code, run.fault.text);
	assert_int_equal(run.ready, s->kind == FAULT_NONE);
	assert_int_equal(run.answered, s->kind == FAULT_NONE);
	if (run.ready) {
		assert_true((run.can & SMTP_CAN_PIPELINING) != 0);
		assert_int_equal(run.size_limit, 104857600);
	}
	check_seen(s, buf_text(&seen));
	if (s->host == NULL && s->peer != NULL)
		assert_int_equal(open_descriptors(), descriptors);
	buf_free(&seen);
}

#define PLAIN_LINE "tls AUTH PLAIN AG1lQGV4YW1wbGUuY29tAHNlY3JldC13b3Jk\n"

/* "n,,n=me@example.com" in base64 */
#define SCRAM_LINE "tls AUTH SCRAM-SHA-256 biwsbj1tZUBleGFtcGxlLmNvbS"

static char elsewhere[] = "192.0.2.1", gone[] = "gone.test",
	    hangs[] = "hangs.test";

static struct scene scenes[] = {
	{ "starttls_and_plain_get_ready", "good",
	    .text = "TLSv1.3 with cipher TLS_", .auth_line = PLAIN_LINE },
	{ "implicit_tls_gets_ready", "implicit", .tls = TLS_IMPLICIT,
	    .text = "TLSv1.", .auth_line = PLAIN_LINE },
	{ "auto_takes_login_where_plain_is_not_offered", "login-only",
	    .text = "TLSv1.", .auth_line = "tls AUTH LOGIN" },
	{ "login_when_asked_for", "good", .auth = AUTH_LOGIN, .text = "TLSv1.",
	    .auth_line = "tls AUTH LOGIN" },
	{ "no_login_sends_no_auth", "good", .anyone = true, .text = "TLSv1." },
	{ "no_tls_where_none_is_wanted", "plain", .tls = TLS_NONE,
	    .anyone = true, .text = "" },
	{ "opportunistic_takes_tls", "good", .tls = TLS_OPPORTUNISTIC,
	    .anyone = true, .text = "TLSv1." },
	{ "opportunistic_goes_on_in_clear", "plain", .tls = TLS_OPPORTUNISTIC,
	    .anyone = true, .text = "" },
	{ "opportunistic_goes_on_when_refused", "starttls-454",
	    .tls = TLS_OPPORTUNISTIC, .anyone = true, .text = "" },
	{ "login_in_clear_to_loopback", "all-in-clear", .tls = TLS_NONE,
	    .text = "", .clear_login = true, .auth_line = "clear AUTH PLAIN" },
	{ "login_in_clear_elsewhere_is_refused", .host = elsewhere,
	    .tls = TLS_NONE, .kind = FAULT_CONFIG, .text = "without TLS" },
	{ "opportunistic_login_elsewhere_is_refused", .host = elsewhere,
	    .tls = TLS_OPPORTUNISTIC, .kind = FAULT_CONFIG,
	    .text = "without TLS" },
	{ "no_password_is_told_from_the_loop", "good", .no_password = true,
	    .kind = FAULT_CONFIG, .text = "password_file: no such file" },
	{ "I1_refused", .kind = FAULT_CONNECT,
	    .text = "cannot connect to 127.0.0.1:9: Connection refused" },
	{ "I1_closed_at_once", "closes", .kind = FAULT_LOST,
	    .text = "waiting for the greeting" },
	{ "I1_reset", "resets", .kind = FAULT_LOST, .or_connect = true,
	    .text = "waiting for the greeting" },
	{ "I1_silent", "silent", .short_time = true, .kind = FAULT_TIMEOUT,
	    .text = "for the greeting of 127.0.0.1[127.0.0.1]:" },
	{ "I2_http", "http", .kind = FAULT_GREETING,
	    .text = "does not speak SMTP: while waiting for the greeting this "
		    "came: HTTP/1.1 400 Bad Request" },
	{ "I3_tls_alert", "tls-alert", .kind = FAULT_GREETING,
	    .text = "set tls = \"implicit\"?" },
	{ "I3_tls_port", "implicit", .short_time = true, .kind = FAULT_TIMEOUT,
	    .text = "set tls = \"implicit\"" },
	{ "plain_port_for_tls", "good", .tls = TLS_IMPLICIT, .kind = FAULT_TLS,
	    .text = "set tls = \"starttls\"" },
	{ "I9_short_code", "short-code", .kind = FAULT_GREETING,
	    .text = "this came: 22" },
	{ "I10_endless_greeting", "endless", .kind = FAULT_GREETING,
	    .text = "this came: 220-x" },
	{ "I11_two_codes", "two-codes", .kind = FAULT_GREETING,
	    .text = "this came: 250 b" },
	{ "greeting_421", "greeting-421", .kind = FAULT_GREETING, .code = 421,
	    .text = "refused the connection: 421 4.3.2 come back later" },
	{ "greeting_554_is_escaped", "greeting-554", .kind = FAULT_GREETING,
	    .code = 554, .text = "554 no mail \\x1b[1mhere" },
	{ "ehlo_550", "ehlo-550", .kind = FAULT_EHLO, .code = 550,
	    .text = "refused EHLO: 550 5.7.1" },
	{ "closed_in_ehlo", "ehlo-closes", .kind = FAULT_LOST,
	    .text = "waiting for the reply to EHLO" },
	{ "I17_starttls_stripped", "all-in-clear", .kind = FAULT_STARTTLS,
	    .text = "does not offer STARTTLS, so nothing was sent" },
	{ "I18_starttls_refused", "starttls-454", .kind = FAULT_STARTTLS,
	    .code = 454, .text = "refused STARTTLS: 454 4.7.0 not now" },
	{ "I19_injected_reply", "starttls-injects", .kind = FAULT_PROTOCOL,
	    .text = "plain text where TLS was to begin" },
	{ "I20_closed_in_handshake", "starttls-closes", .kind = FAULT_TLS,
	    .text = "the TLS handshake with" },
	{ "I21_unknown_authority", "good", .wrong_ca = true,
	    .kind = FAULT_CERTIFICATE,
	    .text = "is not trusted: unable to get local issuer certificate; "
		    "set tls_ca_file" },
	{ "I21_self_signed", "self-signed", .kind = FAULT_CERTIFICATE,
	    .text = "is not trusted: self-signed certificate" },
	{ "I21_expired", "expired", .kind = FAULT_CERTIFICATE,
	    .text = "certificate has expired" },
	{ "I21_wrong_name", "wrong-name", .kind = FAULT_CERTIFICATE,
	    .text = "is not for the name 127.0.0.1" },
	{ "self_signed_is_fine_where_nothing_is_verified", "self-signed",
	    .unverified = true, .text = "TLSv1.", .auth_line = PLAIN_LINE },
	{ "tls_1_2_is_fine", "tls-1.2", .text = "TLSv1.2 with cipher ",
	    .auth_line = PLAIN_LINE },
	{ "I22_tls_too_old", "tls-1.2", .tls13 = true, .kind = FAULT_TLS,
	    .text = "it may have no TLS as new as tls_min asks for" },
	{ "I25_no_such_name", .host = gone, .kind = FAULT_DNS,
	    .text = "the name gone.test could not be resolved (DNS)" },
	{ "I25_hanging_resolver", .short_time = true, .host = hangs,
	    .kind = FAULT_DNS,
	    .text = "timed out while looking up the name hangs.test (DNS)" },
	{ "I26_no_auth_offered", "no-auth", .kind = FAULT_NO_AUTH,
	    .text = "offers no AUTH after STARTTLS" },
	{ "I27_no_common_mechanism", "strange-auth", .kind = FAULT_AUTH,
	    .text = "AUTH DIGEST-MD5 XOAUTH2" },
	{ "plain_only_where_login_is_offered", "login-only", .auth = AUTH_PLAIN,
	    .kind = FAULT_AUTH, .text = "relayd is to use PLAIN (auth)" },
	{ "I28_auth_535", "auth-535", .kind = FAULT_AUTH, .code = 535,
	    .text = "refused the login: 535 5.7.8 who are you?; check user and "
		    "password_file",
	    .auth_line = PLAIN_LINE },
	{ "I29_auth_454", "auth-454", .kind = FAULT_AUTH, .code = 454,
	    .text = "refused the login: 454 4.7.0 not now",
	    .auth_line = PLAIN_LINE },
	{ "auth_250_is_no_login", "auth-250", .kind = FAULT_AUTH,
	    .text = "250 2.0.0 fine", .auth_line = PLAIN_LINE },
	{ "closed_in_auth", "auth-closes", .kind = FAULT_LOST,
	    .text = "waiting for the reply to AUTH", .auth_line = PLAIN_LINE },
	{ "auto_takes_scram_first", "scram", .text = "TLSv1.",
	    .auth_line = SCRAM_LINE },
	{ "scram_when_asked_for", "scram", .auth = AUTH_SCRAM_SHA_256,
	    .text = "TLSv1.", .auth_line = SCRAM_LINE },
	{ "plain_where_scram_is_offered", "scram", .auth = AUTH_PLAIN,
	    .text = "TLSv1.", .auth_line = PLAIN_LINE },
	{ "auto_takes_plain", "plain-only", .text = "TLSv1.",
	    .auth_line = PLAIN_LINE },
	{ "auto_takes_cram_md5_at_last", "cram-only", .text = "TLSv1.",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "cram_md5_when_asked_for", "scram", .auth = AUTH_CRAM_MD5,
	    .text = "TLSv1.", .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "auto_never_takes_external", "external-only", .kind = FAULT_AUTH,
	    .text = "to use SCRAM-SHA-256, PLAIN, LOGIN, CRAM-MD5 (auth)" },
	{ "unsupported_mechanisms_make_room_for_the_next", "scram-504",
	    .text = "TLSv1.", .auth_line = "tls AUTH LOGIN\n" },
	{ "one_that_is_asked_for_has_no_next", "scram-504",
	    .auth = AUTH_SCRAM_SHA_256, .kind = FAULT_AUTH, .code = 504,
	    .text = "refused the login: 504 5.7.4", .auth_line = SCRAM_LINE },
	{ "no_mechanism_is_tried_twice", "all-504", .kind = FAULT_AUTH,
	    .code = 504, .text = "refused the login: 504 5.7.4",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "I28_a_wrong_password_is_not_shown_to_another_mechanism",
	    "scram-password", .kind = FAULT_AUTH, .code = 535,
	    .text = "check user and password_file, or try auth = \"plain\"",
	    .auth_line = SCRAM_LINE },
	{ "I28_plain_535_ends_it", "plain-535", .kind = FAULT_AUTH, .code = 535,
	    .text = "535 5.7.8 no", .auth_line = PLAIN_LINE },
	{ "a_server_must_prove_itself", "scram-signature", .kind = FAULT_AUTH,
	    .text = "it does not prove that it knows the password",
	    .auth_line = SCRAM_LINE },
	{ "a_server_must_not_leave_its_proof_out", "scram-no-signature",
	    .kind = FAULT_AUTH, .text = "a login by SCRAM-SHA-256 that is not",
	    .auth_line = SCRAM_LINE },
	{ "a_nonce_of_another_login", "scram-nonce", .kind = FAULT_AUTH,
	    .text = "nonce does not begin with ours", .auth_line = SCRAM_LINE },
	{ "too_many_iterations", "scram-iterations", .kind = FAULT_AUTH,
	    .text = "too many iterations", .auth_line = SCRAM_LINE },
	{ "an_extension_that_must_be_known", "scram-extension",
	    .kind = FAULT_AUTH, .text = "can't be understood",
	    .auth_line = SCRAM_LINE },
	{ "I29_auth_534", "auth-534", .kind = FAULT_AUTH, .code = 534,
	    .text = "534 5.7.9 app password", .auth_line = PLAIN_LINE },
	{ "I29_auth_432", "auth-432", .kind = FAULT_AUTH, .code = 432,
	    .text = "432 4.7.12 a transition", .auth_line = PLAIN_LINE },
	{ "auth_is_never_answered", "auth-stalls", .short_time = true,
	    .kind = FAULT_TIMEOUT, .text = "for the reply to AUTH of",
	    .auth_line = PLAIN_LINE },
	{ "I30_challenge_not_in_base64", "challenge-bad",
	    .kind = FAULT_PROTOCOL, .text = "challenge is not in base64: 334 $",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "I30_challenge_over_what_is_kept", "challenge-long",
	    .kind = FAULT_PROTOCOL, .text = "its challenge is too long: 334 A",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "I30_challenge_of_a_mebibyte", "challenge-huge",
	    .kind = FAULT_PROTOCOL, .text = "does not speak SMTP",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "I30_endless_challenges", "challenge-endless", .kind = FAULT_PROTOCOL,
	    .text = "asks for more than there is to", .auth_line = PLAIN_LINE },
	{ "I30_a_challenge_too_many", "challenge-again", .kind = FAULT_PROTOCOL,
	    .text = "asks for more than there is to", .auth_line = PLAIN_LINE },
	{ "a_login_before_its_answer", "challenge-early", .kind = FAULT_AUTH,
	    .text = "a login by CRAM-MD5 that is not complete",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "closed_in_a_challenge", "challenge-closes", .kind = FAULT_LOST,
	    .text = "waiting for the reply to AUTH",
	    .auth_line = "tls AUTH CRAM-MD5\n" },
	{ "I31_surplus_reply", "surplus", .kind = FAULT_PROTOCOL,
	    .text = "sent what nobody asked for: 250 2.0.0 surplus",
	    .auth_line = PLAIN_LINE },
};

/* libcurl closes idle connections to make room: not those it gave away. */
static void
many_connections_share_a_connector(void **state)
{
	enum { MANY = 12 };
	struct run runs[MANY] = { { .ready = false } };
	struct config_relay r = relay_at(ask_port("good"));
	struct loop *l = loop_new();
	struct connector *connector = connector_new(l);
	struct buf seen = { .len = 0 };
	size_t i, open = MANY;

	(void)state;
	for (i = 0; i < MANY; i++) {
		runs[i].loop = l;
		runs[i].open = &open;
		runs[i].conn =
		    conn_open(connector, &config, &r, &handlers, &runs[i]);
	}
	assert_int_equal(loop_run(l), 0);
	for (i = 0; i < MANY; i++)
		assert_true(runs[i].answered);
	connector_free(connector);
	loop_free(l);
	end_peer(&seen);
	buf_free(&seen);
}

/* At each turn of the set-up, until it gets ready before. */
static void
may_be_closed_at_any_time(void **state)
{
	struct config_relay r = relay_at(ask_port("good"));
	size_t descriptors = open_descriptors();
	struct buf seen = { .len = 0 };
	unsigned turns, i;
	bool ready = false;

	(void)state;
	for (turns = 0; !ready; turns++) {
		struct loop *l = loop_new();
		struct connector *connector = connector_new(l);
		size_t open = 1;
		struct run run = { .loop = l, .open = &open };

		run.conn = conn_open(connector, &config, &r, &handlers, &run);
		for (i = 0; i < turns && !run.ready; i++)
			assert_int_equal(loop_turn(l), 0);
		ready = run.ready;
		conn_close(run.conn);
		connector_free(connector);
		loop_free(l);
		assert_int_equal(open_descriptors(), descriptors);
	}
	end_peer(&seen);
	buf_free(&seen);
}

/* ---- the peer's life ---- */

static int
start_peer(void **state)
{
	char python[] = "/usr/bin/python3", script[] = PEER;
	char *argv[] = { python, script, world.directory, NULL };
	posix_spawn_file_actions_t actions;
	int to[2], from[2];

	(void)state;
	(void)strcpy(world.directory, "/tmp/test_conn.XXXXXX");
	assert_non_null(mkdtemp(world.directory));
	(void)snprintf(world.ca_file, sizeof(world.ca_file), "%s/ca.pem",
	    world.directory);
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, to[0], 0);
	(void)posix_spawn_file_actions_adddup2(&actions, from[1], 1);
	assert_int_equal(
	    posix_spawn(&world.pid, python, &actions, NULL, argv, environ), 0);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(to[0]);
	(void)close(from[1]);
	world.to_peer = fdopen(to[1], "w");
	world.from_peer = fdopen(from[0], "r");
	return world.to_peer == NULL || world.from_peer == NULL;
}

static int
stop_peer(void **state)
{
	char rm[] = "/bin/rm", flags[] = "-rf";
	char *argv[] = { rm, flags, world.directory, NULL };
	pid_t pid;

	(void)state;
	(void)sem_post(&resolver_may_return);
	(void)fclose(world.to_peer);
	(void)fclose(world.from_peer);
	(void)waitpid(world.pid, NULL, 0);
	if (posix_spawn(&pid, rm, NULL, NULL, argv, environ) == 0)
		(void)waitpid(pid, NULL, 0);
	return 0;
}

int
main(void)
{
	enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };
	struct CMUnitTest tests[SCENES + 2] = {
		cmocka_unit_test(many_connections_share_a_connector),
		cmocka_unit_test(may_be_closed_at_any_time),
	};
	size_t i;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)alarm(WATCHDOG);
	(void)sem_init(&resolver_may_return, 0, 0);
	for (i = 0; i < SCENES; i++)
		tests[2 + i] = (struct CMUnitTest){ .name = scenes[i].name,
			.test_func = comes_out_as_told,
			.initial_state = &scenes[i] };
	return cmocka_run_group_tests_name("conn", tests, start_peer,
	    stop_peer);
}
