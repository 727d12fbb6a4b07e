/*
 * What a relayhost says while a connection is set up and logged in to
 * (setup.c, auth.c, scram.c).
 *
 * input: an octet that chooses TLS and mechanism, and the lines it says.
 *
 * wrap: random_bits PKCS5_PBKDF2_HMAC
 */
#include "../../auth.h"

#include "fuzz.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define PASSWORD "pencil"

uint64_t __wrap_random_bits(void);
int __real_PKCS5_PBKDF2_HMAC(const char *password, int len,
    const unsigned char *salt, int salt_len, int iterations,
    const EVP_MD *digest, int out_len, unsigned char *out);
int __wrap_PKCS5_PBKDF2_HMAC(const char *password, int len,
    const unsigned char *salt, int salt_len, int iterations,
    const EVP_MD *digest, int out_len, unsigned char *out);

uint64_t
__wrap_random_bits(void)
{
	return 42;
}

/* It need not be hard. */
int
__wrap_PKCS5_PBKDF2_HMAC(const char *password, int len,
    const unsigned char *salt, int salt_len, int iterations,
    const EVP_MD *digest, int out_len, unsigned char *out)
{
	assert(iterations > 0 && iterations <= 100000 && salt_len > 0);
	return __real_PKCS5_PBKDF2_HMAC(password, len, salt, salt_len, 1,
	    digest, out_len, out);
}

/* ---- what must hold ---- */

struct login {
	struct setup setup;
	struct auth auth;
	bool begun;
	bool may_show; /* the mechanism is one that shows the password */
	unsigned shown;
	unsigned said; /* lines */
};

/* A mechanism is given up only if it is not there (RFC 4954, 4), and the next
 * may show the password, too. */
static void
check_next(struct login *l)
{
	const struct smtp_reply *reply = &l->setup.reply;
	char status[12];

	smtp_reply_status(reply->text, reply->code, status);
	assert(
	    l->said == 0 || reply->code == 504 || strcmp(status, "5.7.4") == 0);
	l->shown = 0;
}

/* "AUTH NAME", and base64 or "=" (RFC 4954, 4). */
static void
check_command(struct login *l, struct span line, struct span *response)
{
	struct span verb, name;

	check_next(l);
	(void)span_cut(line, ' ', &verb, &name);
	assert(span_equal(verb, SPAN("AUTH")) && line.len <= 510);
	(void)span_cut(name, ' ', &name, response);
	l->may_show =
	    span_equal(name, SPAN("PLAIN")) || span_equal(name, SPAN("LOGIN"));
	if (span_equal(*response, SPAN("=")))
		response->len = 0;
}

/* One line of base64.  A mechanism that has the password so has it in one of
 * them, no other in any. */
static void
check_said(struct login *l)
{
	struct span line = buf_span(&l->auth.out);
	struct buf plain = { 0 };

	if (l->setup.fault.kind != FAULT_NONE || line.len == 0)
		return;
	assert(line.len > 1 && is_canonical(line));
	line.len -= 2;
	assert(is_printable(line));
	if (span_starts_nocase(line, SPAN("AUTH ")))
		check_command(l, line, &line);
	assert(sasl_decode(&plain, line));
	if (plain.len > 0 &&
	    memmem(plain.data, plain.len, PASSWORD, strlen(PASSWORD)) != NULL) {
		assert(l->may_show);
		l->shown++;
	}
	assert(l->shown <= 1 && ++l->said <= 20);
	buf_free(&plain);
}

static void
hear(struct login *l, struct span line)
{
	if (!setup_line(&l->setup, line)) {
		assert(l->setup.fault.kind != FAULT_NONE);
		return;
	}
	if (!l->setup.complete)
		return;
	if (l->begun) {
		auth_reply(&l->auth);
	} else if (l->setup.phase == PHASE_AUTH) {
		l->begun = true;
		auth_begin(&l->auth);
	} else {
		return;
	}
	check_said(l);
}

static bool
is_over(const struct login *l)
{
	return l->setup.fault.kind != FAULT_NONE ||
	    (l->begun && l->auth.out.len == 0) ||
	    (l->setup.complete && l->setup.answered &&
		l->setup.reply.code >= 400 && !l->begun);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char empty[] = "", host[] = "smtp.example.net", user[] = "user";
	struct span in = fuzz_input(data, size);
	unsigned bits = take_octet(&in);
	struct config_relay relay = { .name = host,
		.host = host,
		.port = 587,
		.tls = (enum tls_mode)(bits % 4),
		.auth = (enum auth_mode)(bits / 4 % AUTH_NONE),
		.user = user,
		.password = empty,
		.password_file = empty,
		.password_credential = empty,
		.password_command = empty,
		.proxy = (bits & 128) != 0 ? host : empty };
	struct login l = { .setup = { .relay = &relay } };

	l.auth.setup = &l.setup;
	buf_add_text(&l.auth.password, PASSWORD);
	setup_name_peer(&l.setup, "192.0.2.1");
	while (in.len > 0 && !is_over(&l))
		hear(&l, take_line(&in));
	assert(is_printable(span_of(l.setup.fault.text)));
	assert((l.setup.fault.kind == FAULT_NONE) ==
	    (l.setup.fault.text[0] == '\0'));
	if (l.begun && l.setup.fault.kind == FAULT_NONE && l.auth.out.len == 0)
		assert(l.setup.reply.code == 235);
	auth_wipe(&l.auth);
	free(l.setup.peer);
	return 0;
}
