/*
 * setup.c: the replies of a connection's set-up and the words for its faults.
 *
 * wrap: config_password
 */
#include "setup.h"

#include <openssl/ssl.h>

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What the password's file holds; NULL: nobody may ask. */
static const struct span *secret;

int __wrap_config_password(const struct config_relay *r, struct buf *password,
    struct buf *error);

int
__wrap_config_password(const struct config_relay *r, struct buf *password,
    struct buf *error)
{
	(void)r;
	assert_non_null(secret);
	if (secret->len == 0) {
		buf_add_text(error, "it is empty");
		return -1;
	}
	buf_add(password, *secret);
	return 0;
}

static char host[] = "mx.example", user[] = "me", file[] = "/etc/secret",
	    none[] = "";

static struct config_relay
relay_with(enum tls_mode tls)
{
	return (struct config_relay){ .host = host,
		.port = 587,
		.tls = tls,
		.user = user,
		.password = none,
		.password_file = file,
		.password_credential = none,
		.password_command = none,
		.tls_ca_file = none,
		.tls_pin = none,
		.tls_cert = none,
		.tls_key = none,
		.source = none,
		.proxy = none };
}

/* Feed lines, each ended by LF; the result of the last. */
static bool
say(struct setup *s, const char *lines)
{
	struct span rest = span_of(lines), line;
	bool fine = true;

	while (rest.len > 0) {
		(void)span_cut(rest, '\n', &line, &rest);
		line.len++; /* with its end */
		fine = setup_line(s, line);
	}
	return fine;
}

static void
replies_move_the_phase(void **state)
{
	static const struct {
		const char *lines;
		enum tls_mode tls;
		enum setup_phase phase;
	} rows[] = {
		{ "", TLS_STARTTLS, PHASE_GREETING },
		{ "220-a\r\n", TLS_STARTTLS, PHASE_GREETING },
		{ "421 a\r\n", TLS_STARTTLS, PHASE_GREETING },
		{ "220-a\r\n220 b\r\n", TLS_STARTTLS, PHASE_EHLO },
		{ "220 a\r\n502 what\r\n", TLS_STARTTLS, PHASE_EHLO },
		{ "220 a\r\n250 b\r\n", TLS_STARTTLS, PHASE_STARTTLS },
		{ "220 a\r\n250 b\r\n454 c\r\n", TLS_STARTTLS, PHASE_STARTTLS },
		{ "220 a\r\n250 b\r\n220 c\r\n", TLS_STARTTLS,
		    PHASE_HANDSHAKE },
		{ "220 a\r\n250 b\r\n220 c\r\n250-d\r\n", TLS_STARTTLS,
		    PHASE_TLS_EHLO },
		{ "220 a\r\n250 b\r\n220 c\r\n250 d\r\n", TLS_STARTTLS,
		    PHASE_AUTH },
		{ "220 a\r\n250 b\r\n220 c\r\n250 d\r\n334 e\r\n250 f\r\n",
		    TLS_STARTTLS, PHASE_AUTH },
		{ "220 a\r\n250 b\r\n220 c\r\n250 d\r\n334 e\r\n235 f\r\n",
		    TLS_STARTTLS, PHASE_LOGGED_IN },
		{ "220 a\r\n250 b\r\n", TLS_IMPLICIT, PHASE_AUTH },
		{ "220 a\r\n250-b\r\n250 STARTTLS\r\n", TLS_NONE, PHASE_AUTH },
		{ "220 a\r\n250 b\r\n", TLS_OPPORTUNISTIC, PHASE_AUTH },
		{ "220 a\r\n250-b\r\n250 STARTTLS\r\n", TLS_OPPORTUNISTIC,
		    PHASE_STARTTLS },
		{ "220 a\r\n250-b\r\n250 STARTTLS\r\n502 c\r\n",
		    TLS_OPPORTUNISTIC, PHASE_AUTH },
		/* A 235 that answers nothing is no login. */
		{ "235 a\r\n", TLS_NONE, PHASE_GREETING },
		{ "220 a\r\n250 b\r\n235 c\r\n", TLS_STARTTLS, PHASE_STARTTLS },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_relay r = relay_with(rows[i].tls);
		struct setup s = { .relay = &r };

		assert_true(say(&s, rows[i].lines));
		assert_int_equal(s.phase, rows[i].phase);
	}
}

static void
i16_only_the_ehlo_reply_under_tls_counts(void **state)
{
	struct config_relay r = relay_with(TLS_STARTTLS);
	struct setup s = { .relay = &r };

	(void)state;
	say(&s,
	    "220 a\r\n"
	    "250-b\r\n250-CHUNKING\r\n250-SIZE 1\r\n250 AUTH PLAIN\r\n");
	assert_int_equal(s.promise.can,
	    SMTP_CAN_CHUNKING | SMTP_CAN_SIZE | SMTP_AUTH_PLAIN);
	say(&s, "220 go\r\n250-b\r\n250-DSN\r\n");
	/* Half a reply changes nothing. */
	assert_true((s.promise.can & SMTP_CAN_CHUNKING) != 0);
	say(&s, "250 SIZE 2000\r\n");
	assert_int_equal(s.promise.can, SMTP_CAN_DSN | SMTP_CAN_SIZE);
	assert_int_equal(s.promise.size_limit, 2000);
}

static void
helo_promises_nothing(void **state)
{
	struct config_relay r = relay_with(TLS_STARTTLS);
	struct setup s = { .relay = &r };

	(void)state;
	say(&s, "220 a\r\n250-b\r\n250 CHUNKING\r\n220 go\r\n");
	say(&s, "502 no EHLO\r\n250 CHUNKING\r\n");
	assert_int_equal(s.phase, PHASE_AUTH);
	assert_int_equal(s.promise.can, 0);
}

static void
the_first_line_is_no_capability(void **state)
{
	struct config_relay r = relay_with(TLS_NONE);
	struct setup s = { .relay = &r };

	(void)state;
	say(&s, "220 a\r\n250-CHUNKING\r\n250 DSN\r\n");
	assert_int_equal(s.promise.can, SMTP_CAN_DSN);
}

static void
what_is_no_smtp_ends_it(void **state)
{
	static const char *const lines[] = { "22\r\n", "2200 x\r\n",
		"2a0 x\r\n", "220_x\r\n", "99999999999999999999 x\r\n",
		" 220 x\r\n", "\r\n", "\n", "220-a\r\n250 b\r\n" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct config_relay r = relay_with(TLS_NONE);
		struct setup s = { .relay = &r };

		setup_name_peer(&s, NULL);
		assert_false(say(&s, lines[i]));
		assert_int_equal(s.fault.kind, FAULT_GREETING);
		free(s.peer);
	}
}

static void
i43_hostile_words_stay_bounded_and_printable(void **state)
{
	struct config_relay r = relay_with(TLS_NONE);
	struct setup s = { .relay = &r };
	struct buf line = { .len = 0 };
	const char *p;
	int i;

	(void)state;
	setup_name_peer(&s, "192.0.2.1");
	buf_add_text(&line, "554 ");
	for (i = 0; i < 1000; i++)
		buf_add_char(&line, '\x1b');
	buf_add_text(&line, "%s%n\r\n");
	assert_true(setup_line(&s, buf_span(&line)));
	setup_explain(&s, &(struct setup_facts){ .end = SETUP_WEIRD });
	assert_int_equal(strlen(s.fault.text), sizeof(s.fault.text) - 1);
	assert_int_equal(s.fault.code, 554);
	for (p = s.fault.text; *p != '\0'; p++)
		assert_true(*p >= ' ' && *p <= '~');
	assert_non_null(
	    strstr(s.fault.text, "mx.example[192.0.2.1]:587 refused"));
	free(s.peer);
	buf_free(&line);
}

static void
the_first_fault_is_told(void **state)
{
	struct config_relay r = relay_with(TLS_NONE);
	struct setup s = { .relay = &r };

	(void)state;
	setup_fault(&s, FAULT_DNS, "first");
	setup_fault(&s, FAULT_TLS, "second");
	assert_int_equal(s.fault.kind, FAULT_DNS);
	assert_string_equal(s.fault.text, "first");
}

/* It comes in the handshake, or as late as TLS 1.3 has it. */
static void
an_alert_about_our_certificate_is_told_as_such(void **state)
{
	static const struct {
		const char *error, *hint;
	} rows[] = {
		{ "tlsv13 alert certificate required", "it wants a client" },
		{ "tlsv1 alert unknown ca", "does not take the client" },
		{ "ssl/tls alert certificate expired", "not take the client" },
		{ "sslv3 alert handshake failure", NULL },
		{ "self-signed certificate", NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_relay r = relay_with(TLS_STARTTLS);
		struct setup s = { .relay = &r };
		const char *hint = rows[i / 2].hint;

		setup_name_peer(&s, NULL);
		setup_explain(&s,
		    &(struct setup_facts){ .end = i % 2 == 0 ? SETUP_TLS
							     : SETUP_LOST,
			.error = rows[i / 2].error });
		if (hint != NULL)
			assert_non_null(strstr(s.fault.text, hint));
		else
			assert_null(strstr(s.fault.text, "client certificate"));
		free(s.peer);
	}
}

static void
the_password_is_not_even_read_where_it_must_not_go(void **state)
{
	static const struct {
		const char *host;
		enum tls_mode tls;
		bool fine;
	} rows[] = {
		{ "mx.example", TLS_STARTTLS, true },
		{ "mx.example", TLS_IMPLICIT, true },
		{ "mx.example", TLS_NONE, false },
		{ "mx.example", TLS_OPPORTUNISTIC, false },
		{ "localhost.example", TLS_NONE, false },
		{ "126.0.0.1", TLS_NONE, false },
		{ "127.1", TLS_NONE, false },
		{ "::2", TLS_NONE, false },
		{ "localhost", TLS_NONE, true },
		{ "LOCALHOST", TLS_OPPORTUNISTIC, true },
		{ "127.0.0.1", TLS_NONE, true },
		{ "127.8.9.10", TLS_NONE, true },
		{ "::1", TLS_NONE, true },
	};
	static const struct span word = { "word", 4 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_relay r = relay_with(rows[i].tls);
		struct setup s = { .relay = &r };
		struct buf password = { .len = 0 };

		r.host = mem_text(rows[i].host);
		setup_name_peer(&s, NULL);
		secret = rows[i].fine ? &word : NULL;
		assert_int_equal(setup_may_log_in(&s) &&
			setup_password(&s, &password),
		    rows[i].fine);
		assert_int_equal(s.fault.kind,
		    rows[i].fine ? FAULT_NONE : FAULT_CONFIG);
		assert_int_equal(password.len, rows[i].fine ? word.len : 0);
		buf_wipe(&password);
		free(s.peer);
		free(r.host);
	}
}

static void
a_password_that_cant_be_used_is_a_fault_of_the_configuration(void **state)
{
	static const struct {
		struct span secret;
		const char *text;
	} rows[] = {
		{ { "", 0 }, "it is empty" },
		{ { "a\0b", 3 }, "the password in password_file has a NUL" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_relay r = relay_with(TLS_STARTTLS);
		struct setup s = { .relay = &r };
		struct buf password = { .len = 0 };

		secret = &rows[i].secret;
		assert_false(setup_password(&s, &password));
		assert_int_equal(s.fault.kind, FAULT_CONFIG);
		assert_non_null(strstr(s.fault.text, rows[i].text));
		buf_wipe(&password);
	}
}

/* Undo the %XX of a URL's path. */
static void
ehlo_name(const char *url, char *out)
{
	const char *p = strrchr(url, '/') + 1;

	for (; p[0] == '%'; p += 3) {
		char hex[] = { p[1], p[2], '\0' };

		*out++ = (char)strtoul(hex, NULL, 16);
	}
	*out = '\0';
}

static void
url_names_the_relayhost_and_us(void **state)
{
	static const struct {
		enum tls_mode tls;
		const char *relayhost;
		const char *hostname;
		const char *begins;
		const char *ehlo; /* NULL: some address literal */
	} rows[] = {
		{ TLS_STARTTLS, "mx.example", "web1.example.com",
		    "smtp://mx.example:587/", "web1.example.com" },
		{ TLS_IMPLICIT, "::1", "web1.example.com", "smtps://[::1]:587/",
		    "web1.example.com" },
		{ TLS_NONE, "127.0.0.1", "4f2a", "smtp://127.0.0.1:587/",
		    "[127.0.0.1]" },
		{ TLS_NONE, "mx.example", "4f2a", "smtp://mx.example:587/",
		    NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_relay r = relay_with(rows[i].tls);
		struct setup s = { .relay = &r };
		struct buf url = { .len = 0 };
		char name[256];

		r.host = mem_text(rows[i].relayhost);
		setup_url(&s, rows[i].hostname, &url);
		assert_memory_equal(url.data, rows[i].begins,
		    strlen(rows[i].begins));
		ehlo_name(buf_text(&url), name);
		if (rows[i].ehlo != NULL)
			assert_string_equal(name, rows[i].ehlo);
		else
			assert_true(
			    smtp_helo_valid(span_of(name)) && name[0] == '[');
		buf_free(&url);
		free(r.host);
	}
}

/* Where the system's OpenSSL is set to take less; and who does without
 * verification gets what it takes. */
static void
I21_weak_keys_are_refused_where_it_is_verified(void **state)
{
	static const bool verify[] = { true, false };
	struct config_relay r = relay_with(TLS_STARTTLS);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(verify) / sizeof(verify[0]); i++) {
		SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

		assert_non_null(ctx);
		SSL_CTX_set_security_level(ctx, 0);
		r.tls_verify = verify[i];
		assert_true(trust_require(ctx, &r));
		assert_int_equal(SSL_CTX_get_security_level(ctx),
		    verify[i] ? 2 : 0);
		SSL_CTX_set_security_level(ctx, 3);
		assert_true(trust_require(ctx, &r));
		assert_int_equal(SSL_CTX_get_security_level(ctx), 3);
		SSL_CTX_free(ctx);
	}
}

static void
every_fault_has_a_name(void **state)
{
	enum fault_kind kind;

	(void)state;
	for (kind = FAULT_NONE; kind < FAULTS; kind++)
		assert_non_null(fault_name(kind));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_move_the_phase),
		cmocka_unit_test(i16_only_the_ehlo_reply_under_tls_counts),
		cmocka_unit_test(helo_promises_nothing),
		cmocka_unit_test(the_first_line_is_no_capability),
		cmocka_unit_test(what_is_no_smtp_ends_it),
		cmocka_unit_test(i43_hostile_words_stay_bounded_and_printable),
		cmocka_unit_test(the_first_fault_is_told),
		cmocka_unit_test(
		    an_alert_about_our_certificate_is_told_as_such),
		cmocka_unit_test(
		    the_password_is_not_even_read_where_it_must_not_go),
		cmocka_unit_test(
		    a_password_that_cant_be_used_is_a_fault_of_the_configuration),
		cmocka_unit_test(url_names_the_relayhost_and_us),
		cmocka_unit_test(
		    I21_weak_keys_are_refused_where_it_is_verified),
		cmocka_unit_test(every_fault_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
