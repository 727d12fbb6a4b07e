/*
 * The text of a report to the sender: multipart/report (RFC 6522) with a part
 * for people, one for programs (RFC 3464) and the message or its header.
 *
 * It is valid whatever a relayhost has said or an address contains: foreign
 * text is printable ASCII by the time that it comes here (recipient_diagnose),
 * addresses are those that smtp.c has judged, and nobody can know the boundary
 * before it is chosen.  Who gets a report, and whether, is for bounce.c.
 */
#include "notice.h"

#include "header.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	COLUMNS = 76,
	LINE_MAX_OCTETS =
	    900,     /* RFC 5322, 2.1.1, and room for what is around */
	LISTED = 20, /* recipients that people are told of */
	SUBJECT_MAX = 200,
};

/* ---- who ---- */

bool
notice_names(enum notice_kind kind, const struct recipient *r)
{
	unsigned wish = r->notify;

	switch (kind) {
	case NOTICE_END:
		if (r->state == RECIPIENT_SENT)
			return (wish & NOTIFY_SUCCESS) != 0 &&
			    r->last.status[0] == '2';
		return r->state == RECIPIENT_FAILED &&
		    (wish == 0 || (wish & NOTIFY_FAILURE) != 0);
	case NOTICE_DELAY:
		return r->state == RECIPIENT_WAITING &&
		    (wish == 0 || (wish & NOTIFY_DELAY) != 0);
	case NOTICE_POSTMASTER:
	case NOTICES:
		break;
	}
	return r->state == RECIPIENT_FAILED;
}

size_t
notice_count(enum notice_kind kind, const struct envelope *e)
{
	size_t i, count = 0;

	for (i = 0; i < e->recipient_count; i++)
		count += notice_names(kind, &e->recipient[i]);
	return count;
}

/* ---- text ---- */

/* The words of text behind what stands on the line, in lines of COLUMNS where
 * they let us; indent begins each line but the first. */
static void
add_wrapped(struct buf *out, size_t column, const char *indent,
    struct span text)
{
	struct span word, rest = text;
	size_t width = strlen(indent);

	while (rest.len > 0) {
		(void)span_cut(rest, ' ', &word, &rest);
		while (word.len > 0) {
			struct span piece = span_first(word, LINE_MAX_OCTETS);

			if (column > width &&
			    column + 1 + piece.len > COLUMNS) {
				buf_printf(out, "\r\n%s", indent);
				column = width;
			} else if (column > width) {
				buf_add_char(out, ' ');
				column++;
			}
			buf_add(out, piece);
			column += piece.len;
			word = span_from(word, piece.len);
		}
	}
	buf_add_text(out, "\r\n");
}

static void
add_paragraph(struct buf *out, const char *text)
{
	add_wrapped(out, 0, "", span_of(text));
	buf_add_text(out, "\r\n");
}

/* A field of a report whose value may have to be folded. */
static void
add_field(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s:", name);
	add_wrapped(out, strlen(name) + 1, " ", span_of(value));
}

static void
add_date(struct buf *out, const char *name, int64_t wall_ms)
{
	char date[DATE_MAX];

	date_format(date, wall_ms);
	buf_printf(out, "%s: %s\r\n", name, date);
}

bool
notice_field(struct span header, struct span name, struct buf *out)
{
	struct header_field field;
	struct span line, rest;

	while (header_next(&header, &field)) {
		if (!span_equal_nocase(field.name, name))
			continue;
		for (rest = field.value; rest.len > 0;) {
			(void)span_cut(rest, '\n', &line, &rest);
			line = span_trim(line);
			if (out->len > 0 && line.len > 0)
				buf_add_char(out, ' ');
			buf_add(out, line);
		}
		return true;
	}
	return false;
}

/* ---- the header ---- */

/* No encoded word is cut. */
static struct span
shorten(struct span s)
{
	if (s.len <= SUBJECT_MAX)
		return s;
	s.len = SUBJECT_MAX;
	while (s.len > 0 && s.data[s.len - 1] != ' ')
		s.len--;
	return span_trim(s);
}

static void
add_subject(const struct notice *n, struct buf *out)
{
	static const char *const begin[NOTICES] = {
		[NOTICE_END] = "Undelivered mail:",
		[NOTICE_DELAY] = "Delayed mail:",
		[NOTICE_POSTMASTER] = "Undelivered mail:",
	};
	const char *first = begin[n->kind];
	struct buf subject = { NULL, 0, 0 };
	struct span s;

	if (n->kind == NOTICE_END &&
	    envelope_count(&n->entry->envelope, RECIPIENT_FAILED) == 0)
		first = "Relayed mail:";
	buf_printf(out, "Subject: %s", first);
	if (!notice_field(n->header, SPAN("Subject"), &subject) ||
	    subject.len == 0)
		buf_add_text(&subject, "(no subject)");
	s = shorten(buf_span(&subject));
	if (span_is_ascii(s)) {
		add_wrapped(out, strlen("Subject: ") + strlen(first), " ", s);
	} else {
		buf_add_char(out, ' ');
		header_add_phrase(out, s);
		buf_add_text(out, "\r\n");
	}
	buf_free(&subject);
}

/* "<a@b>" and nothing else that could confuse a header. */
static bool
is_message_id(struct span s)
{
	size_t i;

	if (s.len < 3 || s.len > LINE_MAX_OCTETS || s.data[0] != '<' ||
	    s.data[s.len - 1] != '>')
		return false;
	for (i = 0; i < s.len; i++) {
		if (s.data[i] <= ' ' || s.data[i] >= 0x7f)
			return false;
	}
	return true;
}

static void
add_references(const struct notice *n, struct buf *out)
{
	struct buf id = { NULL, 0, 0 };

	if (notice_field(n->header, SPAN("Message-ID"), &id) &&
	    is_message_id(buf_span(&id)))
		buf_printf(out, "In-Reply-To: %s\r\nReferences: %s\r\n",
		    buf_text(&id), buf_text(&id));
	buf_free(&id);
}

static void
add_header(const struct notice *n, bool ascii, struct buf *out)
{
	buf_printf(out,
	    "From: \"Mail Delivery System\" <MAILER-DAEMON@%s>\r\n"
	    "To: %s\r\n",
	    n->config->origin, n->to);
	add_subject(n, out);
	add_references(n, out);
	/* RFC 3834, section 5 */
	buf_printf(out,
	    "Auto-Submitted: auto-replied\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/report; report-type=delivery-status;\r\n"
	    "\tboundary=\"%s\"\r\n"
	    "Content-Transfer-Encoding: %s\r\n\r\n",
	    n->boundary, ascii ? "7bit" : "8bit");
}

static void
begin_part(const struct notice *n, const char *type, bool ascii,
    struct buf *out)
{
	buf_printf(out,
	    "\r\n--%s\r\n"
	    "Content-Type: %s\r\n"
	    "Content-Transfer-Encoding: %s\r\n\r\n",
	    n->boundary, type, ascii ? "7bit" : "8bit");
}

/* ---- for people ---- */

static const struct hint {
	const char *status; /* how it begins */
	const char *text;
} hints[] = {
	{ "2.",
	    "That mail server does not tell when it delivers; it will tell "
	    "if it can't." },
	{ "4.4.7",
	    "It was tried again and again, but its time is over. If the mail "
	    "server has been mended, send it again." },
	{ "5.1.1", "Check the address: that mailbox does not exist there." },
	{ "5.1.", "Check the address." },
	{ "5.2.2", "The mailbox is full. Try again when there is room in it." },
	{ "5.2.3", "Send something smaller." },
	{ "5.3.4", "Send something smaller." },
	{ "5.6.7",
	    "The mail server can't handle addresses with letters beyond "
	    "ASCII. Is there another address?" },
	{ "5.7.",
	    "The mail server does not want it from here. Its administrator "
	    "can say why; yours, whether the sender address is right." },
	{ "5.", "The administrator of that mail server can say more." },
	{ "", "You need not do anything." },
};

enum { HINTS = sizeof(hints) / sizeof(hints[0]) };

static size_t
hint_for(enum notice_kind kind, const struct recipient *r)
{
	size_t i = 0;

	if (kind == NOTICE_DELAY)
		return HINTS - 1;
	while (strncmp(r->last.status, hints[i].status,
		   strlen(hints[i].status)) != 0)
		i++;
	return i;
}

static const char *
introduction(const struct notice *n)
{
	if (n->kind == NOTICE_DELAY)
		return "A message of yours could not be delivered yet. It will "
		       "be tried again; you need not send it again.";
	if (n->kind == NOTICE_POSTMASTER)
		return "The message below could not be delivered. It has no "
		       "sender who could be told (most such messages are "
		       "reports about others), so you are.";
	if (envelope_count(&n->entry->envelope, RECIPIENT_FAILED) == 0)
		return "A message of yours was handed on to the next mail "
		       "server.";
	return "A message that you, or a program that runs as you, have sent "
	       "could not be delivered. It will not be tried again.";
}

/* The address, how it was given, and what was said. */
static void
add_recipient_text(const struct recipient *r, struct buf *out)
{
	buf_printf(out, "<%s>", r->address);
	if (strcmp(r->address, r->original) != 0)
		buf_printf(out, " (from \"%s\")", r->original);
	if (r->state == RECIPIENT_SENT)
		buf_add_text(out, ": handed on");
	buf_add_text(out, "\r\n");
	if (r->last.reply == NULL)
		return;
	buf_add_text(out, "    ");
	if (strcmp(r->last.peer, "none") != 0)
		buf_printf(out, "%s said:\r\n    ", r->last.peer);
	add_wrapped(out, strlen("    "), "    ", span_of(r->last.reply));
}

/* What is to be done, each but once. */
static void
add_hints(const struct notice *n, struct buf *out)
{
	const struct envelope *e = &n->entry->envelope;
	bool given[HINTS] = { false };
	size_t i, which;

	for (i = 0; i < e->recipient_count; i++) {
		const struct recipient *r = &e->recipient[i];

		if (!notice_names(n->kind, r))
			continue;
		which = hint_for(n->kind, r);
		if (!given[which])
			add_paragraph(out, hints[which].text);
		given[which] = true;
	}
}

static void
add_facts(const struct notice *n, struct buf *out)
{
	char id[QUEUE_ID_MAX];
	struct buf subject = { NULL, 0, 0 };

	if (notice_field(n->header, SPAN("Subject"), &subject) &&
	    span_is_ascii(buf_span(&subject))) {
		buf_add_text(out, "    Subject:");
		add_wrapped(out, strlen("    Subject:"), "        ",
		    shorten(buf_span(&subject)));
	}
	buf_free(&subject);
	add_date(out, "    Sent", n->entry->envelope.arrived_ms);
	queue_id_text(n->entry->id, id);
	buf_printf(out, "    Queue id: %s\r\n\r\n", id);
}

/* reported: how many recipients the other part has room for. */
static void
write_text(const struct notice *n, size_t reported, struct buf *out)
{
	const struct envelope *e = &n->entry->envelope;
	size_t i, listed = 0, count = notice_count(n->kind, e);

	buf_printf(out, "This is the mail system (relayd) of %s.\r\n\r\n",
	    n->config->hostname);
	add_paragraph(out, introduction(n));
	add_facts(n, out);
	for (i = 0; i < e->recipient_count && listed < LISTED; i++) {
		if (!notice_names(n->kind, &e->recipient[i]))
			continue;
		add_recipient_text(&e->recipient[i], out);
		listed++;
	}
	if (listed < count)
		buf_printf(out, "... and %zu more, see the attached report\r\n",
		    count - listed);
	if (reported < count)
		buf_printf(out,
		    "(which was cut: it names only the first %zu of them)\r\n",
		    reported);
	buf_add_text(out, "\r\n");
	add_hints(n, out);
}

/* ---- for programs ---- */

/* RFC 6533, section 3: utf-8-addr-xtext, for a report in ASCII. */
static void
add_utf8_address(struct buf *out, struct span address)
{
	size_t len, i;

	for (; address.len > 0; address = span_from(address, len)) {
		unsigned char c = (unsigned char)address.data[0];
		uint32_t point = c;

		len = span_utf8(address);
		if (len > 1)
			point = c & (0xffu >> (len + 1));
		for (i = 1; i < len; i++)
			point = point << 6 |
			    ((unsigned char)address.data[i] & 0x3f);
		if (len == 0)
			len = 1; /* smtp.c lets no such address in */
		if (c <= ' ' || c >= 0x7f || strchr("\\+=", c) != NULL)
			buf_printf(out, "\\x{%" PRIX32 "}", point);
		else
			buf_add_char(out, (char)c);
	}
}

static void
add_recipients_address(const struct recipient *r, struct buf *out)
{
	struct span address = span_of(r->address);

	if (r->orcpt != NULL && r->orcpt[0] != '\0')
		buf_printf(out, "Original-Recipient: %s\r\n", r->orcpt);
	if (span_is_ascii(address)) {
		buf_printf(out, "Final-Recipient: rfc822; %s\r\n", r->address);
		return;
	}
	buf_add_text(out, "Final-Recipient: utf-8; ");
	add_utf8_address(out, address);
	buf_add_text(out, "\r\n");
}

/* The name in "host[192.0.2.1]:587"; empty where it was not reached. */
static struct span
name_of(const char *peer)
{
	struct span s = span_of(peer), name, rest;

	if (!span_cut(s, '[', &name, &rest))
		name.len = 0;
	return name;
}

static bool
is_smtp_reply(const char *text)
{
	return strspn(text, "0123456789") == 3 &&
	    (text[3] == ' ' || text[3] == '-' || text[3] == '\0');
}

static void
add_diagnosis(const struct diagnosis *d, struct buf *out)
{
	struct span mta = name_of(d->peer);
	struct buf text = { NULL, 0, 0 };

	if (mta.len > 0) {
		buf_add_text(out, "Remote-MTA: dns; ");
		buf_add(out, mta);
		buf_add_text(out, "\r\n");
	}
	buf_printf(&text, "%s; %s",
	    is_smtp_reply(d->reply) ? "smtp" : "x-relayd", d->reply);
	add_field(out, "Diagnostic-Code", buf_text(&text));
	buf_free(&text);
	add_date(out, "Last-Attempt-Date", d->at_ms);
}

static const char *
action(const struct recipient *r)
{
	switch (r->state) {
	case RECIPIENT_SENT:
		return "relayed";
	case RECIPIENT_WAITING:
		return "delayed";
	case RECIPIENT_FAILED:
		break;
	}
	return "failed";
}

static void
write_recipient(const struct notice *n, const struct recipient *r,
    struct buf *out)
{
	const char *unknown = n->kind == NOTICE_DELAY ? "4.0.0" : "5.0.0";

	buf_add_text(out, "\r\n");
	add_recipients_address(r, out);
	buf_printf(out, "Action: %s\r\nStatus: %s\r\n", action(r),
	    r->last.status[0] == '\0' ? unknown : r->last.status);
	if (r->last.reply != NULL)
		add_diagnosis(&r->last, out);
	if (n->kind == NOTICE_DELAY)
		add_date(out, "Will-Retry-Until",
		    n->entry->envelope.arrived_ms +
			config_lifetime_ms(n->config,
			    n->entry->envelope.sender));
}

/* How many recipients there was room for; one at least. */
static size_t
write_status(const struct notice *n, struct buf *out)
{
	const struct envelope *e = &n->entry->envelope;
	char id[QUEUE_ID_MAX];
	size_t i, count = 0;

	queue_id_text(n->entry->id, id);
	if (e->envid != NULL && e->envid[0] != '\0')
		buf_printf(out, "Original-Envelope-Id: %s\r\n", e->envid);
	buf_printf(out, "Reporting-MTA: dns; %s\r\nX-Relayd-Queue-ID: %s\r\n",
	    n->config->hostname, id);
	add_date(out, "Arrival-Date", e->arrived_ms);
	for (i = 0; i < e->recipient_count; i++) {
		if (!notice_names(n->kind, &e->recipient[i]))
			continue;
		if (count > 0 && out->len > n->limit)
			break;
		write_recipient(n, &e->recipient[i], out);
		count++;
	}
	return count;
}

/* ---- all of it ---- */

/* At most limit octets of a header, whole lines. */
static struct span
cut_header(struct span header, size_t limit)
{
	header = span_first(header, limit);
	while (header.len > 0 && header.data[header.len - 1] != '\n')
		header.len--;
	return header;
}

/* RFC 6533, section 4, has types of its own for what is UTF-8. */
static const char *
type_of_message(const struct notice *n, bool ascii)
{
	bool utf8 = !ascii && n->entry->envelope.utf8;

	if (n->full)
		return utf8 ? "message/global" : "message/rfc822";
	return utf8 ? "message/global-headers" : "text/rfc822-headers";
}

void
notice_write(struct notice *n, struct buf *out)
{
	struct buf text = { NULL, 0, 0 }, status = { NULL, 0, 0 };
	struct span header = cut_header(n->header, n->limit);
	bool ascii =
	    n->full ? (n->entry->has & TEXT_8BIT) == 0 : span_is_ascii(header);
	size_t reported = write_status(n, &status);

	(void)snprintf(n->boundary, sizeof(n->boundary),
	    "=_%016" PRIx64 "%016" PRIx64, random_bits(), random_bits());
	write_text(n, reported, &text);
	add_header(n, ascii && span_is_ascii(buf_span(&text)), out);
	buf_add_text(out, "This is a report in MIME format.\r\n");
	begin_part(n, "text/plain; charset=utf-8",
	    span_is_ascii(buf_span(&text)), out);
	buf_add(out, buf_span(&text));
	begin_part(n, "message/delivery-status", true, out);
	buf_add(out, buf_span(&status));
	begin_part(n, type_of_message(n, ascii), ascii, out);
	if (!n->full)
		buf_add(out, header);
	buf_free(&text);
	buf_free(&status);
}

void
notice_end(const struct notice *n, struct buf *out)
{
	buf_printf(out, "\r\n--%s--\r\n", n->boundary);
}
