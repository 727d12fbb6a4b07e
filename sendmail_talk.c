/*
 * sendmail's dialogue with the daemon.  Whoever listens on the socket is not
 * trusted: time and memory are bounded, and only a good reply to the last
 * chunk makes a message sent.
 */
#include "sendmail.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	REPLY_WAIT_MS = 5 * 60 * 1000,
	HURRY_WAIT_MS = 1000,
	GOODBYE_WAIT_MS = 1000,
	PIECE = 64 << 10,
};

/* ---- reading and writing ---- */

/* The peer has done something, or is to: its time begins anew. */
static void
set_deadline(struct talk *t)
{
	t->deadline_ms = now_ms() + (t->hurry ? HURRY_WAIT_MS : REPLY_WAIT_MS);
}

/* Wait for the peer; returns what it is ready for, 0 when time is over. */
static int
wait_for(const struct talk *t, short events, int64_t deadline_ms)
{
	struct pollfd p = { .fd = t->fd, .events = events };
	int64_t left_ms;
	int n;

	do {
		left_ms = deadline_ms - now_ms();
		if (left_ms <= 0)
			return 0;
		n = poll(&p, 1, (int)left_ms);
	} while (n == -1 && errno == EINTR);
	return n == 1 ? p.revents : 0;
}

/* Read what has come. */
static void
fill(struct talk *t)
{
	ssize_t n;

	buf_drop(&t->input, t->used);
	t->used = 0;
	buf_reserve(&t->input, LIMIT_REPLY_LINE);
	n = read(t->fd, t->input.data + t->input.len, LIMIT_REPLY_LINE);
	if (n > 0)
		t->input.len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		t->closed = true;
}

static void
show(const struct talk *t, const char *mark, struct span line)
{
	struct buf text = { 0 };

	if (!t->verbose)
		return;
	buf_add_text(&text, mark);
	buf_add_escaped(&text, line);
	buf_add_char(&text, '\n');
	(void)write_all(STDERR_FILENO, buf_span(&text));
	buf_free(&text);
}

/*
 * Write all of text, to be answered by so many replies; those that come
 * meanwhile are read, so that neither side waits for the other.  When the peer
 * is gone, t->closed is set; its last words may say why.
 */
static int
send_all(struct talk *t, struct span text, size_t replies, struct buf *error)
{
	size_t room = (replies + 1) * LIMIT_REPLY_LINE;
	ssize_t n;
	short events;
	int ready;

	set_deadline(t);
	while (text.len > 0 && !t->closed) {
		events = t->input.len < room ? POLLIN | POLLOUT : POLLOUT;
		ready = wait_for(t, events, t->deadline_ms);
		if (ready == 0) {
			buf_add_text(error, "relayd takes no more data\n");
			t->closed = true;
			return EX_TEMPFAIL;
		}
		if ((ready & POLLIN) != 0)
			fill(t);
		if ((ready & ~POLLIN) == 0)
			continue;
		n = write(t->fd, text.data, text.len);
		if (n == -1 && errno != EAGAIN && errno != EINTR) {
			fill(t); /* its last words */
			t->closed = true;
		}
		if (n > 0) {
			text = span_from(text, (size_t)n);
			set_deadline(t);
		}
	}
	return EX_OK;
}

/* Take the next line, without its end, out of the input. */
static bool
next_line(struct talk *t, struct span *line)
{
	struct span rest;

	if (!span_cut(span_from(buf_span(&t->input), t->used), '\n', line,
		&rest))
		return false;
	t->used = t->input.len - rest.len;
	if (line->len > 0 && line->data[line->len - 1] == '\r')
		line->len--;
	return true;
}

static int
read_line(struct talk *t, struct span *line, struct buf *error)
{
	while (!next_line(t, line)) {
		if (t->input.len - t->used > LIMIT_REPLY_LINE) {
			buf_add_text(error, "what relayd says is not SMTP\n");
			return EX_TEMPFAIL;
		}
		if (t->closed) {
			buf_add_text(error, "relayd closed the connection\n");
			return EX_TEMPFAIL;
		}
		if (wait_for(t, POLLIN, t->deadline_ms) == 0) {
			buf_add_text(error, "relayd does not answer\n");
			return EX_TEMPFAIL;
		}
		fill(t);
	}
	return EX_OK;
}

/* Read a reply; what an EHLO reply offers is noted.  With a peer that gives
 * none there is nothing more to talk about. */
static int
read_reply(struct talk *t, bool ehlo, struct buf *error)
{
	enum smtp_reply_state state = SMTP_REPLY_MORE;
	struct span line;

	t->reply = (struct smtp_reply){ 0 };
	while (state == SMTP_REPLY_MORE) {
		if (read_line(t, &line, error) != EX_OK) {
			t->closed = true;
			return EX_TEMPFAIL;
		}
		show(t, "", line);
		state = smtp_reply_line(&t->reply, line);
		if (ehlo && t->reply.lines > 1)
			t->can |= smtp_capability(line, &t->size_limit);
	}
	if (state == SMTP_REPLY_DONE)
		return EX_OK;
	t->closed = true;
	buf_add_text(error, "what relayd says is not SMTP: ");
	buf_add_escaped(error, span_first(line, 200));
	buf_add_char(error, '\n');
	return EX_TEMPFAIL;
}

/* Is it this status, or one of the class that ends in a dot? */
static bool
status_is(const char *status, const char *pattern)
{
	size_t len = strlen(pattern);

	return pattern[len - 1] == '.' ? strncmp(status, pattern, len) == 0
				       : strcmp(status, pattern) == 0;
}

/* What a reply means for whoever called sendmail. */
static int
reply_exit(const struct smtp_reply *r)
{
	static const struct {
		const char *status;
		int exit;
	} rows[] = {
		{ "4.5.3", EX_DATAERR }, /* too many recipients ... */
		{ "5.5.3", EX_DATAERR },
		{ "4.", EX_TEMPFAIL },
		{ "5.1.3", EX_DATAERR }, /* an address that is none */
		{ "5.1.7", EX_DATAERR },
		{ "5.1.", EX_NOUSER },
		{ "5.4.6", EX_DATAERR }, /* a loop */
		{ "5.6.", EX_DATAERR },
		{ "5.7.", EX_NOPERM },
		{ "5.", EX_UNAVAILABLE },
	};
	char status[12];
	size_t i;

	if (r->code < 400)
		return r->code < 300 ? EX_OK : EX_TEMPFAIL;
	smtp_reply_status(r->text, r->code, status);
	if (r->code == 550 && status_is(status, "5.4.6"))
		return EX_NOUSER; /* its aliases have no end */
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (status_is(status, rows[i].status))
			return rows[i].exit;
	return EX_TEMPFAIL;
}

/* Append "what: reply". */
static void
tell(struct buf *out, const char *what, const char *reply)
{
	buf_add_escaped(out, span_of(what));
	buf_add_text(out, ": ");
	buf_add_escaped(out, span_of(reply));
	buf_add_char(out, '\n');
}

/* Read the reply to a command that all depends on. */
static int
expect_ok(struct talk *t, bool ehlo, struct buf *error)
{
	int status = read_reply(t, ehlo, error);

	if (status != EX_OK)
		return status;
	status = reply_exit(&t->reply);
	if (status != EX_OK)
		tell(error, "relayd", t->reply.text);
	return status;
}

/* A reply that nothing asked for would be taken for one of the next. */
static int
expect_silence(const struct talk *t, struct buf *error)
{
	if (t->used == t->input.len)
		return EX_OK;
	buf_add_text(error, "relayd says more than it was asked\n");
	return EX_TEMPFAIL;
}

/* ---- the mail transaction ---- */

int
talk_greet(struct talk *t, struct buf *error)
{
	int status;

	/* Nothing else can follow the greeting, so it is not waited for. */
	show(t, ">>> ", SPAN("EHLO localhost"));
	status = send_all(t, SPAN("EHLO localhost\r\n"), 2, error);
	if (status == EX_OK)
		status = expect_ok(t, false, error);
	return status == EX_OK ? expect_ok(t, true, error) : status;
}

static bool
needs_utf8(const struct mail *mail)
{
	bool ascii = span_is_ascii(span_of(mail->sender));
	size_t i;

	for (i = 0; i < mail->recipients.count && ascii; i++)
		ascii = span_is_ascii(span_of(mail->recipients.item[i]));
	return !ascii;
}

static void
add_mail(const struct talk *t, const struct mail *mail, struct buf *out)
{
	buf_printf(out, "MAIL FROM:<%s>", mail->sender);
	if ((t->can & SMTP_CAN_SIZE) != 0 && mail->size > 0)
		buf_printf(out, " SIZE=%llu", (unsigned long long)mail->size);
	if ((t->can & SMTP_CAN_8BITMIME) != 0)
		buf_add_text(out, " BODY=8BITMIME");
	if ((t->can & SMTP_CAN_SMTPUTF8) != 0 && needs_utf8(mail))
		buf_add_text(out, " SMTPUTF8");
	if ((t->can & SMTP_CAN_DSN) != 0)
		dsn_add_mail(out, mail->ret, mail->envid);
	buf_add_text(out, "\r\n");
}

static void
add_rcpt(const struct talk *t, const struct mail *mail, const char *address,
    struct buf *out)
{
	buf_printf(out, "RCPT TO:<%s>", address);
	if ((t->can & SMTP_CAN_DSN) != 0)
		dsn_add_rcpt(out, mail->notify, NULL);
	buf_add_text(out, "\r\n");
}

static void
show_lines(const struct talk *t, struct span lines)
{
	struct span line;

	while (span_cut(lines, '\n', &line, &lines))
		show(t, ">>> ", span_trim(line));
}

/* Append what is known of a recipient, in Sendmail's words. */
static void
tell_verified(struct buf *out, const char *address, const char *refusal)
{
	buf_add_escaped(out, span_of(address));
	buf_add_text(out, "... ");
	if (refusal != NULL) {
		buf_add_escaped(out, span_of(refusal));
	} else {
		buf_add_text(out, "deliverable: mailer relay, user ");
		buf_add_escaped(out, span_of(address));
	}
	buf_add_char(out, '\n');
}

/* Read the replies to RCPT; returns the exit status for the first refusal,
 * even when the daemon has hung up on so many. */
static int
read_recipients(struct talk *t, const struct mail *mail, struct buf *told)
{
	int status, first = EX_OK;
	size_t i;

	for (i = 0; i < mail->recipients.count; i++) {
		const char *address = mail->recipients.item[i];

		if (read_reply(t, false, told) != EX_OK)
			return first == EX_OK ? EX_TEMPFAIL : first;
		status = reply_exit(&t->reply);
		if (mail->verify)
			tell_verified(told, address,
			    status == EX_OK ? NULL : t->reply.text);
		else if (status != EX_OK)
			tell(told, address, t->reply.text);
		if (first == EX_OK)
			first = status;
	}
	return first;
}

int
talk_envelope(struct talk *t, const struct mail *mail, struct buf *told)
{
	struct buf out = { 0 };
	int status;
	size_t i;

	if (t->size_limit > 0 && mail->size > t->size_limit) {
		buf_add_text(told, "message too big\n");
		return EX_UNAVAILABLE;
	}
	add_mail(t, mail, &out);
	for (i = 0; i < mail->recipients.count; i++)
		add_rcpt(t, mail, mail->recipients.item[i], &out);
	show_lines(t, buf_span(&out));
	status = expect_silence(t, told);
	if (status == EX_OK)
		status = send_all(t, buf_span(&out), mail->recipients.count + 1,
		    told);
	buf_free(&out);
	if (status == EX_OK)
		status = read_reply(t, false, told);
	if (status != EX_OK)
		return status;
	status = reply_exit(&t->reply);
	if (status != EX_OK) {
		tell(told, mail->sender[0] == '\0' ? "<>" : mail->sender,
		    t->reply.text);
		return status;
	}
	return read_recipients(t, mail, told);
}

/* Send what did not fit in memory. */
static int
send_file(struct talk *t, const struct message *m, struct buf *error)
{
	uint64_t offset = 0;
	int status = EX_OK;
	char piece[PIECE];
	ssize_t n;

	while (status == EX_OK && offset < m->file_size) {
		n = pread(m->file, piece, sizeof(piece), (off_t)offset);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			buf_add_text(error, "can't read the temporary file\n");
			return EX_IOERR;
		}
		offset += (uint64_t)n;
		status =
		    send_all(t, (struct span){ piece, (size_t)n }, 1, error);
	}
	return status;
}

/* What ends the dialogue; reset: and gives the transaction up before. */
static struct span
goodbye(struct talk *t, bool reset)
{
	struct span words = reset ? SPAN("RSET\r\nQUIT\r\n") : SPAN("QUIT\r\n");

	show_lines(t, words);
	t->quit = true;
	return words;
}

int
talk_content(struct talk *t, const struct message *m, struct buf *error)
{
	struct buf out = { 0 };
	bool cut;
	int status;

	if ((t->can & SMTP_CAN_CHUNKING) == 0) {
		buf_add_text(error, "what listens is not relayd\n");
		return EX_TEMPFAIL;
	}
	buf_printf(&out, "BDAT %llu LAST\r\n",
	    (unsigned long long)message_size(m));
	show_lines(t, buf_span(&out));
	buf_add(&out, buf_span(&m->top));
	buf_add(&out, span_from(buf_span(&m->text), m->skip));
	status = expect_silence(t, error);
	if (status == EX_OK && m->file_size > 0) {
		status = send_all(t, buf_span(&out), 1, error);
		buf_clear(&out);
		if (status == EX_OK)
			status = send_file(t, m, error);
	}
	/* Whatever becomes of the message, this ends the dialogue; behind the
	 * content it costs no write and no round trip. */
	if (status == EX_OK) {
		buf_add(&out, goodbye(t, false));
		status = send_all(t, buf_span(&out), 2, error);
	}
	buf_free(&out);
	cut = status != EX_OK || t->closed;
	if (status == EX_OK)
		status = expect_ok(t, false, error);
	/* More octets would count as content, and the reply to QUIT, which is
	 * not waited for, says nothing. */
	t->closed = true;
	if (cut && status == EX_OK) {
		buf_add_text(error, "relayd did not wait for the message\n");
		status = EX_TEMPFAIL;
	}
	return status;
}

void
talk_close(struct talk *t)
{
	int64_t deadline_ms = now_ms() + GOODBYE_WAIT_MS;
	struct buf error = { 0 };

	if (t->fd != -1 && !t->quit && !t->closed)
		(void)send_all(t, goodbye(t, true), 2, &error);
	/* A client that is gone before 221 would show in the daemon's log. */
	while (t->quit && !t->closed && wait_for(t, POLLIN, deadline_ms) != 0) {
		t->used = t->input.len;
		fill(t);
	}
	fd_close(&t->fd);
	/* Until it has ended the spool is locked. */
	if (t->child > 0)
		while (waitpid(t->child, NULL, 0) == -1 && errno == EINTR)
			continue;
	buf_free(&t->input);
	buf_free(&error);
}

uint64_t
talk_size_limit(void)
{
	struct talk t = { .fd = -1, .hurry = true };
	struct buf unused = { 0 };
	uint64_t limit = 0;

	if (talk_open(&t, &unused) == EX_OK &&
	    talk_greet(&t, &unused) == EX_OK) {
		limit = t.size_limit;
		(void)send_all(&t, goodbye(&t, false), 1, &unused);
	}
	talk_close(&t);
	buf_free(&unused);
	return limit;
}
