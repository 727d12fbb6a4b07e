/*
 * What a client is told, and what the log is told about it; how long it may
 * take.  When to say what is dialogue.c's.
 */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	REPORT_MS = 60 * 1000, /* from what floods the log to the sum of it */
};

/* As the log has them, Postfix's way. */
static const char *const verb_names[SMTP_VERBS] = {
	[SMTP_UNKNOWN] = "UNKNOWN",
	[SMTP_EHLO] = "EHLO",
	[SMTP_HELO] = "HELO",
	[SMTP_MAIL] = "MAIL",
	[SMTP_RCPT] = "RCPT",
	[SMTP_DATA] = "DATA",
	[SMTP_BDAT] = "BDAT",
	[SMTP_RSET] = "RSET",
	[SMTP_NOOP] = "NOOP",
	[SMTP_VRFY] = "VRFY",
	[SMTP_EXPN] = "EXPN",
	[SMTP_HELP] = "HELP",
	[SMTP_QUIT] = "QUIT",
	[SMTP_STARTTLS] = "STARTTLS",
	[SMTP_AUTH] = "AUTH",
	[SMTP_HTTP] = "HTTP",
};

/* ---- log ---- */

static const char *
log_part(const struct session *s)
{
	return s->peer.uid == -1 ? "smtpd" : "pickup";
}

/* Where the session stands: "RCPT", "DATA (100 bytes)". */
static void
add_place(const struct session *s, struct buf *b)
{
	buf_add_text(b, s->commands == 0 ? "CONNECT" : verb_names[s->verb]);
	if (s->state >= AWAIT_BDAT && s->state <= IN_CHUNK)
		buf_printf(b, " (%llu bytes)", (unsigned long long)s->content);
}

void
session_log_after(const struct session *s, const char *what)
{
	struct buf place = { 0 };

	add_place(s, &place);
	log_info(log_part(s), "%s after %s from %s", what, buf_text(&place),
	    s->peer.name);
	buf_free(&place);
}

void
sessions_report(struct sessions *all)
{
	if (all->silent > 0)
		log_info("smtpd",
		    "%llu connections ended without a command, the last from %s",
		    (unsigned long long)all->silent, all->last_silent.name);
	if (all->refusals > LIMIT_REJECT_LINES)
		log_warning("smtpd",
		    "%llu more commands were rejected within a minute, the last from %s",
		    (unsigned long long)all->refusals - LIMIT_REJECT_LINES,
		    all->last_refused.name);
	all->silent = 0;
	all->refusals = 0;
}

static void
on_report(void *arg)
{
	sessions_report(arg);
}

static void
expect_report(struct sessions *all)
{
	all->report.handler = on_report;
	all->report.arg = all;
	if (all->report.place == 0)
		loop_timer_set(all->loop, &all->report, REPORT_MS);
}

static void
add_path(struct buf *b, const char *name, struct span address)
{
	buf_printf(b, " %s=<", name);
	buf_add_value(b, address);
	buf_add_char(b, '>');
}

static void
log_reject(const struct session *s, const char *text)
{
	struct buf b = { 0 };

	s->all->last_refused = s->peer;
	expect_report(s->all);
	if (++s->all->refusals > LIMIT_REJECT_LINES)
		return;
	if (s->draft != NULL)
		add_path(&b, "from", span_of(draft_sender(s->draft)));
	else if (s->verb == SMTP_MAIL)
		add_path(&b, "from", s->subject);
	if (s->verb == SMTP_RCPT)
		add_path(&b, "to", s->subject);
	buf_printf(&b, " proto=%s", s->esmtp ? "ESMTP" : "SMTP");
	add_path(&b, "helo",
	    s->verb == SMTP_EHLO || s->verb == SMTP_HELO ? s->subject
							 : span_of(s->helo));
	log_info(log_part(s), "%s: reject: %s from %s: %s;%s",
	    s->draft == NULL ? "NOQUEUE" : draft_id(s->draft),
	    verb_names[s->verb], s->peer.name, text, buf_text(&b));
	buf_free(&b);
}

/* Lazily, so that port scans don't fill the log. */
void
session_log_connect(const struct session *s)
{
	if (s->peer.uid == -1)
		log_info("smtpd", "connect from %s", s->peer.name);
	else
		log_debug("pickup", "connect from %s", s->peer.name);
}

static void
add_count(struct buf *b, const char *name, unsigned granted, unsigned asked)
{
	buf_add_char(b, ' ');
	for (; *name != '\0'; name++)
		buf_add_char(b, (char)(*name | 0x20));
	buf_add_char(b, '=');
	if (granted != asked)
		buf_printf(b, "%u/", granted);
	buf_printf(b, "%u", asked);
}

/* "client=" or, from this machine's programs, "uid=": the message has an id. */
void
session_log_client(const struct session *s)
{
	struct buf b = { 0 };

	buf_printf(&b, "%s: ", draft_id(s->draft));
	if (s->peer.uid == -1) {
		buf_printf(&b, "client=%s", s->peer.name);
	} else {
		buf_printf(&b, "uid=%lld", (long long)s->peer.uid);
		add_path(&b, "from", span_of(draft_sender(s->draft)));
	}
	log_info(log_part(s), "%s", buf_text(&b));
	buf_free(&b);
}

static void
note_silent(struct session *s)
{
	s->all->silent++;
	s->all->last_silent = s->peer;
	expect_report(s->all);
}

static void
log_disconnect(const struct session *s)
{
	struct buf b = { 0 };
	unsigned verb, granted = 0;

	for (verb = 0; verb < SMTP_VERBS; verb++) {
		granted += s->granted[verb];
		if (s->asked[verb] > 0)
			add_count(&b, verb_names[verb], s->granted[verb],
			    s->asked[verb]);
	}
	add_count(&b, "commands", granted, s->commands);
	if (s->peer.uid == -1)
		log_info("smtpd", "disconnect from %s%s", s->peer.name,
		    buf_text(&b));
	else
		log_debug("pickup", "disconnect from %s%s", s->peer.name,
		    buf_text(&b));
	buf_free(&b);
}

void
session_log_end(struct session *s)
{
	char id[QUEUE_ID_MAX];

	if (s->told != 0) {
		queue_id_text(s->told, id);
		log_info(log_part(s),
		    "%s: lost connection with %s before it knew of \"queued\": it may send the message again",
		    id, s->peer.name);
	}
	if (s->commands > 0)
		log_disconnect(s);
	else
		note_silent(s);
}

/* ---- replies and deadlines ---- */

/* Without a word about it in counters and log. */
void
session_say(struct session *s, const char *text)
{
	buf_add_text(&s->output, text);
	buf_add_text(&s->output, "\r\n");
}

/* The final reply to the command that is being served. */
void
session_reply(struct session *s, const char *text)
{
	session_say(s, text);
	if (text[0] == '2') {
		s->granted[s->verb]++;
		return;
	}
	log_reject(s, text);
	s->all->count.rejected++;
	/* A 4xx is our trouble, not the client's mistake. */
	if (text[0] == '5')
		s->errors++;
}

static int64_t
patience_ms(const struct session *s)
{
	const struct config *c = s->all->config;

	/* Where seats are few nobody keeps one for nothing. */
	if (s->all->count.open > c->connection_limit / 2)
		return c->client_timeout * 100;
	return c->client_timeout * 1000;
}

void
session_set_deadline(struct session *s)
{
	s->content_was = s->content;
	s->patience_ms = patience_ms(s);
	loop_timer_set(s->all->loop, &s->deadline, s->patience_ms);
}

void
session_drop_message(struct session *s)
{
	draft_free(s->draft);
	s->draft = NULL;
	s->tried = false;
	s->decoder = (struct smtp_decoder){ 0 };
	s->content = 0;
}

/* End the session with this reply (a farewell that no command asked for). */
enum state
session_hang_up(struct session *s, const char *text, const char *why)
{
	session_log_after(s, why);
	session_say(s, text);
	session_drop_message(s);
	session_set_deadline(s);
	s->refused = true;
	return CLOSING;
}

void
session_flush(struct session *s)
{
	ssize_t n;

	while (!s->gone && s->output.len > 0) {
		n = write(s->out, s->output.data, s->output.len);
		if (n == -1 && errno == EAGAIN)
			return;
		if (n >= 0) {
			buf_drop(&s->output, (size_t)n);
		} else if (errno != EINTR) {
			if (s->state != CLOSING) /* who says QUIT may go */
				session_log_after(s, "lost connection");
			s->gone = true;
		}
	}
	if (!s->gone)
		s->told = 0;
}
