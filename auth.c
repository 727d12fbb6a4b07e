/*
 * Logging in: which mechanism, and the lines of AUTH's exchange.  What they
 * compute is scram.c's, the connection conn.c's; setup.c reads the replies.
 *
 * Each mechanism is tried once a connection, and so shows a password once.
 * Only one that is offered and then not there makes room for the next.
 */
#include "auth.h"

#include <string.h>

enum {
	COMMAND_LINE = 512, /* RFC 5321, 4.5.3.1.4 */
	NONCE_OCTETS = 18,  /* 24 characters */
};

/* The nth response, raw, to a challenge, into out; NULL, or what is wrong with
 * the challenge. */
typedef const char *respond(struct auth *a, unsigned nth, struct span challenge,
    struct buf *out);

struct mechanism {
	const char *name;
	unsigned bit;
	enum auth_mode mode;
	respond *respond;
	unsigned responses;
	bool initial; /* the first may go with the command */
	bool prompts; /* what is asked for is known, so nobody reads it */
};

/* ---- mechanisms ---- */

static const char *
respond_plain(struct auth *a, unsigned nth, struct span challenge,
    struct buf *out)
{
	(void)nth;
	(void)challenge;
	buf_add_char(out, '\0');
	buf_add_text(out, a->setup->relay->user);
	buf_add_char(out, '\0');
	buf_add(out, buf_span(&a->password));
	return NULL;
}

static const char *
respond_login(struct auth *a, unsigned nth, struct span challenge,
    struct buf *out)
{
	(void)challenge;
	if (nth == 0)
		buf_add_text(out, a->setup->relay->user);
	else
		buf_add(out, buf_span(&a->password));
	return NULL;
}

static const char *
respond_cram_md5(struct auth *a, unsigned nth, struct span challenge,
    struct buf *out)
{
	(void)nth;
	return cram_md5_answer(span_of(a->setup->relay->user),
		   buf_span(&a->password), challenge, out)
	    ? NULL
	    : "OpenSSL has no MD5";
}

static void
make_nonce(struct buf *out)
{
	uint64_t chance[] = { random_bits(), random_bits(), random_bits() };

	sasl_encode(out, (struct span){ (char *)chance, NONCE_OCTETS });
}

static const char *
respond_scram(struct auth *a, unsigned nth, struct span challenge,
    struct buf *out)
{
	struct buf nonce = { .len = 0 };

	if (nth == 1)
		return scram_final(&a->scram, buf_span(&a->password), challenge,
		    out);
	if (nth == 2)
		return scram_verify(&a->scram, challenge);
	make_nonce(&nonce);
	scram_first(&a->scram, span_of(a->setup->relay->user), buf_span(&nonce),
	    out);
	buf_free(&nonce);
	return NULL;
}

/* Who we are is in the client certificate; user: who we want to be. */
static const char *
respond_external(struct auth *a, unsigned nth, struct span challenge,
    struct buf *out)
{
	(void)nth;
	(void)challenge;
	buf_add_text(out, a->setup->relay->user);
	return NULL;
}

/* Those of "auto" first, the best first. */
static const struct mechanism mechanisms[] = {
	{ "SCRAM-SHA-256", SMTP_AUTH_SCRAM_SHA_256, AUTH_SCRAM_SHA_256,
	    respond_scram, .responses = 3, .initial = true },
	{ "PLAIN", SMTP_AUTH_PLAIN, AUTH_PLAIN, respond_plain, .responses = 1,
	    .initial = true },
	{ "LOGIN", SMTP_AUTH_LOGIN, AUTH_LOGIN, respond_login, .responses = 2,
	    .prompts = true },
	{ "CRAM-MD5", SMTP_AUTH_CRAM_MD5, AUTH_CRAM_MD5, respond_cram_md5,
	    .responses = 1 },
	{ "EXTERNAL", SMTP_AUTH_EXTERNAL, AUTH_EXTERNAL, respond_external,
	    .responses = 1, .initial = true },
};

static bool
is_wanted(const struct mechanism *m, enum auth_mode mode)
{
	return mode == m->mode ||
	    (mode == AUTH_AUTO && m->mode != AUTH_EXTERNAL);
}

/* NULL: none in common that has not been refused. */
static const struct mechanism *
choose(const struct auth *a)
{
	unsigned offered = a->setup->promise.can & ~a->refused;
	enum auth_mode mode = a->setup->relay->auth;
	size_t i;

	for (i = 0; i < sizeof(mechanisms) / sizeof(*mechanisms); i++) {
		const struct mechanism *m = &mechanisms[i];

		if (is_wanted(m, mode) && (offered & m->bit) != 0)
			return m;
	}
	return NULL;
}

/* ---- lines ---- */

static void
add_response(struct auth *a, struct span challenge, struct buf *line)
{
	struct buf raw = { .len = 0 };
	const char *why;

	/* What grows leaves copies behind. */
	buf_reserve(&raw, a->password.len + strlen(a->setup->relay->user) + 8);
	why = a->mechanism->respond(a, a->answered, challenge, &raw);
	if (why != NULL)
		setup_fault(a->setup, FAULT_AUTH,
		    "%s: AUTH %s failed: %s; so the password was not confirmed "
		    "and nothing was sent",
		    a->setup->peer, a->mechanism->name, why);
	else
		sasl_encode(line, buf_span(&raw));
	a->answered++;
	buf_wipe(&raw);
}

static void
refuse_offer(struct auth *a)
{
	struct setup *s = a->setup;
	enum auth_mode mode = s->relay->auth;
	struct buf wanted = { .len = 0 };
	size_t i;

	if ((s->promise.can & SMTP_AUTH_ANY) == 0) {
		setup_fault(s, FAULT_NO_AUTH,
		    "%s offers no AUTH%s although a login is configured, so "
		    "nothing was sent; check host and port, or set auth = "
		    "\"none\" if it needs no login",
		    s->peer,
		    s->relay->tls == TLS_STARTTLS ? " after STARTTLS" : "");
		return;
	}
	for (i = 0; i < sizeof(mechanisms) / sizeof(*mechanisms); i++)
		if (is_wanted(&mechanisms[i], mode))
			buf_printf(&wanted, "%s%s", wanted.len > 0 ? ", " : "",
			    mechanisms[i].name);
	setup_fault(s, FAULT_AUTH,
	    "no common AUTH mechanism with %s: relayd is to use %s (auth), the "
	    "relayhost offers: %.400s",
	    s->peer, buf_text(&wanted), s->reply.text);
	buf_free(&wanted);
}

void
auth_begin(struct auth *a)
{
	struct buf response = { .len = 0 };

	a->mechanism = choose(a);
	a->answered = 0;
	if (a->mechanism == NULL) {
		refuse_offer(a);
		return;
	}
	buf_wipe(&a->out);
	buf_printf(&a->out, "AUTH %s", a->mechanism->name);
	if (a->mechanism->initial)
		add_response(a, (struct span){ 0 }, &response);
	/* One that is too long for a command comes when it is asked for; an
	 * empty one is "=" (RFC 4954, 4). */
	if (a->out.len + response.len + SPAN(" =\r\n").len > COMMAND_LINE) {
		a->answered = 0;
	} else if (a->mechanism->initial) {
		buf_reserve(&a->out, response.len + SPAN(" =\r\n").len);
		buf_add_char(&a->out, ' ');
		buf_add(&a->out,
		    response.len > 0 ? buf_span(&response) : SPAN("="));
	}
	buf_add_text(&a->out, "\r\n");
	buf_wipe(&response);
}

static void
refuse_reply(struct auth *a, const char *text)
{
	setup_fault(a->setup, FAULT_PROTOCOL, "%s, in AUTH %s: %s: %.200s",
	    a->setup->peer, a->mechanism->name, text, a->setup->reply.text);
}

static void
answer(struct auth *a)
{
	const struct smtp_reply *reply = &a->setup->reply;
	struct span text = span_trim(span_from(
	    (struct span){ reply->text, reply->len }, SPAN("334").len));
	struct buf challenge = { .len = 0 };

	buf_wipe(&a->out);
	if (a->answered == a->mechanism->responses)
		refuse_reply(a, "it asks for more than there is to say");
	else if (reply->len >= LIMIT_REPLY_KEPT)
		refuse_reply(a, "its challenge is too long");
	else if (!sasl_decode(&challenge, text) && !a->mechanism->prompts)
		refuse_reply(a, "its challenge is not in base64");
	else
		add_response(a, buf_span(&challenge), &a->out);
	buf_add_text(&a->out, "\r\n"); /* there is room */
	buf_free(&challenge);
}

static void
refuse_login(struct auth *a)
{
	struct setup *s = a->setup;
	const struct config_relay *r = s->relay;
	struct buf hint = { .len = 0 };

	if (s->reply.code >= 500)
		buf_printf(&hint, "; check user and %s",
		    r->auth == AUTH_EXTERNAL ? "tls_cert"
					     : setup_password_key(r));
	/* Its users' passwords may be stored in a form that allows none. */
	if (s->reply.code >= 500 && r->auth == AUTH_AUTO &&
	    a->mechanism->mode == AUTH_SCRAM_SHA_256)
		buf_add_text(&hint, ", or try auth = \"plain\"");
	setup_fault(s, FAULT_AUTH, "%s refused the login: %.300s%s", s->peer,
	    s->reply.text, buf_text(&hint));
	buf_free(&hint);
}

/* Is the mechanism not there after all (RFC 4954, 4)? */
static bool
is_unsupported(const struct smtp_reply *reply)
{
	char status[12];

	smtp_reply_status(reply->text, reply->code, status);
	return reply->code == 504 || strcmp(status, "5.7.4") == 0;
}

void
auth_reply(struct auth *a)
{
	const struct smtp_reply *reply = &a->setup->reply;

	if (reply->code == 334) {
		answer(a);
		return;
	}
	if (reply->code != 235 && is_unsupported(reply)) {
		a->refused |= a->mechanism->bit;
		if (choose(a) != NULL) {
			auth_begin(a);
			return;
		}
	}
	buf_wipe(&a->out);
	if (reply->code != 235)
		refuse_login(a);
	else if (a->answered != a->mechanism->responses)
		setup_fault(a->setup, FAULT_AUTH,
		    "%s takes a login by %s that is not complete, so it may "
		    "not be who it says; nothing was sent: %.200s",
		    a->setup->peer, a->mechanism->name, reply->text);
}

void
auth_wipe(struct auth *a)
{
	buf_wipe(&a->password);
	buf_wipe(&a->out);
	scram_wipe(&a->scram);
}
