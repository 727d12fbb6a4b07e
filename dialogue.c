/*
 * The dialogue with a client, as the server (RFC 5321, 2920, 3030): commands,
 * their order, and content.  Grammar is smtp.c's, the message intake.c's.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>

/* ---- commands: each step returns the state to go to ---- */

static enum state
on_unknown(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s, "500 5.5.2 Command not recognized");
	return s->state;
}

static bool
greet(struct session *s, struct span name, bool esmtp)
{
	if (!smtp_helo_valid(name)) {
		session_reply(s, "501 5.5.4 Bad host name");
		return false;
	}
	session_drop_message(s);
	free(s->helo);
	s->helo = span_text(name);
	s->esmtp = esmtp;
	return true;
}

static enum state
on_helo(struct session *s, struct span arg)
{
	struct buf b = { 0 };

	if (!greet(s, arg, false))
		return s->state;
	buf_printf(&b, "250 %s", s->all->config->hostname);
	session_reply(s, buf_text(&b));
	buf_free(&b);
	return AWAIT_MAIL;
}

static enum state
on_ehlo(struct session *s, struct span arg)
{
	const struct config *c = s->all->config;
	struct buf b = { 0 };

	if (!greet(s, arg, true))
		return s->state;
	buf_printf(&b,
	    "250-%s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n250-8BITMIME\r\n"
	    "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250 CHUNKING",
	    c->hostname, (unsigned long long)c->message_size_limit);
	session_reply(s, buf_text(&b));
	buf_free(&b);
	return AWAIT_MAIL;
}

static enum state
on_mail(struct session *s, struct span arg)
{
	struct draft_facts facts = { .peer = &s->peer,
		.helo = s->helo,
		.esmtp = s->esmtp };
	struct span parameters;
	const char *refusal;

	refusal = smtp_path(arg, SPAN("FROM:"), true, &s->subject, &parameters);
	if (refusal == NULL)
		refusal = smtp_mail_parameters(parameters, &facts.mail);
	if (refusal == NULL && !facts.mail.utf8) /* only now it is known */
		refusal = smtp_path(arg, SPAN("FROM:"), false, &s->subject,
		    &parameters);
	if (refusal == NULL)
		refusal =
		    draft_new(s->all->intake, &facts, s->subject, &s->draft);
	s->utf8 = facts.mail.utf8;
	session_reply(s, refusal == NULL ? "250 2.1.0 Ok" : refusal);
	return refusal == NULL ? AWAIT_RCPT : s->state;
}

static const char *
take_recipient(struct session *s, struct span arg)
{
	struct span parameters;
	struct smtp_rcpt rcpt;
	const char *refusal;

	/* First, so that nothing about names leaks to strangers. */
	if (!s->peer.may_relay)
		return "554 5.7.1 Relay access denied";
	refusal =
	    smtp_path(arg, SPAN("TO:"), s->utf8, &s->subject, &parameters);
	if (refusal == NULL)
		refusal = smtp_rcpt_parameters(parameters, &rcpt);
	if (refusal == NULL)
		refusal = draft_recipient(s->draft, s->subject, &rcpt);
	return refusal;
}

static enum state
on_rcpt(struct session *s, struct span arg)
{
	const char *refusal = take_recipient(s, arg);

	s->tried = true;
	session_reply(s, refusal == NULL ? "250 2.1.5 Ok" : refusal);
	return refusal == NULL ? AWAIT_DATA : s->state;
}

/* Content follows, if NULL is returned. */
static const char *
begin_content(struct session *s, uint64_t octets)
{
	const char *refusal = draft_begin(s->draft, octets);

	if (refusal == NULL && s->state != AWAIT_BDAT)
		session_log_client(s);
	return refusal;
}

static enum state
on_data(struct session *s, struct span arg)
{
	const char *refusal = "554 5.5.1 No valid recipients";

	(void)arg;
	if (s->state == AWAIT_DATA)
		refusal = begin_content(s, 0);
	if (refusal != NULL) {
		session_reply(s, refusal);
		return s->state;
	}
	/* A program here may well send everything in one go; from elsewhere
	 * that is one that does not listen (RFC 2920, section 3.1). */
	if (!s->peer.local && s->at < s->input.len)
		return session_hang_up(s, "554 5.5.0 Data before its 354",
		    "improper pipelining");
	session_say(s, "354 End data with <CR><LF>.<CR><LF>");
	return IN_DATA;
}

static enum state
on_bdat(struct session *s, struct span arg)
{
	s->after_refusal = s->state;
	if (!smtp_bdat(arg, &s->chunk_left, &s->chunk_last)) {
		/* What follows can't be told from commands. */
		session_reply(s, "501 5.5.4 Syntax: BDAT octets [LAST]");
		s->refused = true;
		return CLOSING;
	}
	if (s->state < AWAIT_DATA) {
		s->chunk_refusal = s->tried
		    ? "554 5.5.1 No valid recipients"
		    : "503 5.5.1 Bad sequence of commands";
	} else {
		s->chunk_refusal = begin_content(s, s->chunk_left);
		s->after_refusal = AWAIT_MAIL;
	}
	return IN_CHUNK;
}

static enum state
on_rset(struct session *s, struct span arg)
{
	(void)arg;
	session_drop_message(s);
	session_reply(s, "250 2.0.0 Ok");
	return s->state == AWAIT_HELLO ? AWAIT_HELLO : AWAIT_MAIL;
}

static enum state
on_noop(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s, "250 2.0.0 Ok");
	return s->state;
}

static enum state
on_vrfy(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s, "252 2.5.0 Send some mail, it will be tried");
	return s->state;
}

static enum state
on_help(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s,
	    "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT");
	return s->state;
}

static enum state
on_absent(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s, "502 5.5.1 Not offered");
	return s->state;
}

static enum state
on_auth(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s, "503 5.5.1 Authentication is not offered");
	return s->state;
}

static enum state
on_quit(struct session *s, struct span arg)
{
	(void)arg;
	session_reply(s, "221 2.0.0 Bye");
	return CLOSING;
}

/* No SMTP by way of a browser. */
static enum state
on_http(struct session *s, struct span arg)
{
	(void)arg;
	return session_hang_up(s, "421 5.7.0 This is no web server",
	    "non-SMTP command");
}

#define IN(state) (1u << (state))
#define ANY       (~0u)

/* What each command may follow (RFC 5321, section 4.1.4) and what it does. */
static const struct {
	enum state (*step)(struct session *s, struct span arg);
	unsigned after;
	bool bare; /* takes no argument */
	bool junk; /* brings nothing forward */
} commands[SMTP_VERBS] = {
	[SMTP_UNKNOWN] = { on_unknown, ANY, false, false },
	[SMTP_EHLO] = { on_ehlo, ANY, false, true },
	[SMTP_HELO] = { on_helo, ANY, false, true },
	[SMTP_MAIL] = { on_mail, IN(AWAIT_MAIL), false, false },
	[SMTP_RCPT] = { on_rcpt, IN(AWAIT_RCPT) | IN(AWAIT_DATA), false,
	    false },
	[SMTP_DATA] = { on_data, IN(AWAIT_RCPT) | IN(AWAIT_DATA), true, false },
	[SMTP_BDAT] = { on_bdat, ANY, false, false },
	[SMTP_RSET] = { on_rset, ANY, true, true },
	[SMTP_NOOP] = { on_noop, ANY, false, true },
	[SMTP_VRFY] = { on_vrfy, ANY, false, true },
	[SMTP_EXPN] = { on_absent, ANY, false, true },
	[SMTP_HELP] = { on_help, ANY, false, true },
	[SMTP_QUIT] = { on_quit, ANY, true, false },
	[SMTP_STARTTLS] = { on_absent, ANY, false, false },
	[SMTP_AUTH] = { on_auth, ANY, false, false },
	[SMTP_HTTP] = { on_http, ANY, false, false },
};

static enum state
run_command(struct session *s, enum smtp_verb verb, struct span arg)
{
	if (s->commands++ == 0)
		session_log_connect(s);
	s->verb = verb;
	s->asked[verb]++;
	s->subject = arg;
	if (commands[verb].junk && ++s->junk > LIMIT_JUNK)
		return session_hang_up(s,
		    "421 4.7.0 Too many commands without mail",
		    "too many commands");
	if ((commands[verb].after & IN(s->state)) == 0) {
		session_reply(s, "503 5.5.1 Bad sequence of commands");
		return s->state;
	}
	if (commands[verb].bare && arg.len > 0) {
		session_reply(s, "501 5.5.4 No argument is allowed");
		return s->state;
	}
	return commands[verb].step(s, arg);
}

/* A line with its LF; octets: its whole length, of which the beginning may
 * have been dropped. */
static enum state
take_line(struct session *s, struct span line, size_t octets)
{
	struct span arg = { NULL, 0 };
	enum smtp_verb verb = SMTP_UNKNOWN;
	bool bare = line.len < 2 || line.data[line.len - 2] != '\r';
	enum state next;

	line.len -= bare ? 1 : 2;
	if (octets <= LIMIT_COMMAND && !(bare && s->peer.reject_bare_newline))
		verb = smtp_command(line, &arg);
	next = run_command(s, verb, arg);
	if (next != CLOSING && s->errors >= LIMIT_ERRORS)
		next = session_hang_up(s, "421 4.7.0 Too many errors",
		    "too many errors");
	return next;
}

static struct span
unread(const struct session *s)
{
	return span_from(buf_span(&s->input), s->at);
}

/* Serve one command; false: there is no whole line yet. */
static bool
take_command(struct session *s)
{
	struct span rest = unread(s);
	const char *lf =
	    rest.len == 0 ? NULL : memchr(rest.data, '\n', rest.len);
	struct span line = span_first(rest,
	    lf == NULL ? rest.len : (size_t)(lf - rest.data) + 1);
	size_t octets = s->overlong + line.len;

	if (s->commands == 0 && span_starts_nocase(rest, SPAN("\x16\x03"))) {
		s->state = session_hang_up(s,
		    "500 5.5.2 TLS is not offered here", "TLS on a plain port");
	} else if (octets > LIMIT_COMMAND_FLOOD) {
		s->state =
		    session_hang_up(s, "421 4.7.0 Line too long", "long line");
	} else if (lf != NULL) {
		s->at += line.len;
		s->overlong = 0;
		s->state = take_line(s, line, octets);
		session_set_deadline(s);
	} else if (octets > LIMIT_COMMAND) {
		s->at += line.len;
		s->overlong = octets;
	}
	return lf != NULL;
}

/* ---- content ---- */

/* What the client sent behind the message is served in the next turn: this
 * is called in the middle of the queue's work. */
static void
on_committed(void *arg, queue_id id, int error)
{
	struct session *s = arg;
	struct buf b = { 0 };

	if (error == 0) {
		buf_printf(&b, "250 2.0.0 Ok: queued as %s",
		    draft_id(s->draft));
		session_reply(s, buf_text(&b));
		buf_free(&b);
		s->all->count.accepted++;
		s->junk = 0;
		s->told = id;
	} else {
		session_reply(s, intake_refusal(error));
	}
	s->draft = NULL;
	session_drop_message(s);
	s->state = AWAIT_MAIL;
	session_set_deadline(s);
	session_flush(s);
	loop_timer_set(s->all->loop, &s->again, 0);
}

static enum state
end_content(struct session *s)
{
	struct buf *text = &s->all->text;
	const char *refusal;
	bool bare;

	buf_clear(text);
	smtp_decode_end(&s->decoder, text);
	draft_write(s->draft, buf_span(text));
	bare = s->decoder.bare && s->peer.reject_bare_newline;
	if (bare)
		draft_refuse(s->draft,
		    "550 5.6.11 Bare newline in the message");
	refusal = draft_commit(s->draft, on_committed, s);
	if (refusal == NULL) {
		loop_timer_clear(s->all->loop, &s->deadline);
		return IN_COMMIT;
	}
	session_reply(s, refusal);
	session_drop_message(s);
	s->refused = bare;
	return bare ? CLOSING : AWAIT_MAIL;
}

static bool
take_data(struct session *s)
{
	struct span in = unread(s);
	struct buf *text = &s->all->text;
	bool end = false;
	size_t n;

	if (in.len == 0)
		return false;
	buf_clear(text);
	n = smtp_decode_data(&s->decoder, in, text, &end);
	s->at += n;
	s->content += n;
	draft_write(s->draft, buf_span(text));
	if (end)
		s->state = end_content(s);
	return true;
}

static enum state
end_chunk(struct session *s)
{
	struct buf b = { 0 };

	if (s->chunk_refusal == NULL && s->chunk_last)
		return end_content(s);
	if (s->chunk_refusal == NULL)
		s->chunk_refusal = draft_refusal(s->draft);
	if (s->chunk_refusal != NULL) {
		session_reply(s, s->chunk_refusal);
		if (s->after_refusal == AWAIT_MAIL)
			session_drop_message(s);
		return s->after_refusal;
	}
	buf_printf(&b, "250 2.0.0 Ok: %llu octets so far",
	    (unsigned long long)s->content);
	session_reply(s, buf_text(&b));
	buf_free(&b);
	return AWAIT_BDAT;
}

static bool
take_chunk(struct session *s)
{
	struct span in = unread(s);
	struct buf *text = &s->all->text;

	if (in.len > s->chunk_left)
		in.len = (size_t)s->chunk_left;
	if (in.len == 0 && s->chunk_left > 0)
		return false;
	s->at += in.len;
	s->content += in.len;
	s->chunk_left -= in.len;
	if (s->chunk_refusal == NULL) {
		buf_clear(text);
		smtp_decode_chunk(&s->decoder, in, text);
		draft_write(s->draft, buf_span(text));
	}
	if (s->chunk_left == 0)
		s->state = end_chunk(s);
	return true;
}

/* ---- all of it ---- */

/* One piece of what has been read; false: nothing more can be done with it. */
static bool
step(struct session *s)
{
	switch (s->state) {
	case AWAIT_HELLO:
	case AWAIT_MAIL:
	case AWAIT_RCPT:
	case AWAIT_DATA:
	case AWAIT_BDAT:
		return take_command(s);
	case IN_DATA:
		return take_data(s);
	case IN_CHUNK:
		return take_chunk(s);
	case IN_COMMIT:
		return false;
	case CLOSING:
	case LINGERING:
		s->at = s->input.len;
		return false;
	}
	return false;
}

void
session_run(struct session *s)
{
	while (step(s))
		continue;
	buf_drop(&s->input, s->at);
	s->at = 0;
	if (s->input.len == 0)
		buf_free(&s->input);
}
