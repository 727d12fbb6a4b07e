/*
 * The header on its way in, following the envelope, so that a relayhost
 * accepts it.  All that it leaves alone stays byte for byte as it was.
 */
#include "header.h"
#include "rewrite.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- mailboxes in a header ---- */

enum {
	LINE_WANTED = 78, /* RFC 5322, 2.1.1; less its CRLF */
	LINE_LIMIT = 998,
	LIMIT_NAME = 128, /* of a display name that we make */
};

/* A header section in the making. */
struct edit {
	const struct rewrite_rules *rules;
	const struct rewrite_facts *facts;
	struct buf *out;
	size_t begin;          /* in out: where the section is */
	size_t value_at;       /* in out: where the present field's value is */
	size_t budget;         /* addresses that aliases may still put in */
	struct span from_text; /* of a From that has no address */
	const struct rewrite_change *change; /* rewritten before: go first */
	size_t change_count;
	bool again;
	bool has_from;
	bool has_date;
	bool has_message_id;
};

/* Continue on a new line if len more octets would make this one too long. */
static void
fold(const struct edit *e, size_t len, size_t limit)
{
	struct buf *out = e->out;
	const char *lf = memrchr(out->data, '\n', out->len);
	size_t start = lf == NULL ? 0 : (size_t)(lf - out->data) + 1;
	size_t end = out->len;

	while (end > start &&
	    (out->data[end - 1] == ' ' || out->data[end - 1] == '\t'))
		end--;
	/* No line may be left that is blank, or a field's name alone. */
	if (out->len - start + len <= limit || end == start ||
	    end <= e->value_at)
		return;
	out->len = end;
	buf_add_text(out, "\r\n\t");
}

/* The display name for a mailbox whose address is replaced: its own, or what
 * its comment says, or the old address, but for one that is masqueraded. */
static void
add_name(const struct edit *e, const struct mailbox *m, struct buf *name)
{
	struct span comment = span_trim(m->comment);
	struct span old = buf_span(&m->address);
	struct span local, domain, host;
	struct buf text = { NULL, 0, 0 };

	if (m->name.len > 0) {
		buf_add(name, m->name);
		return;
	}
	if (comment.len > 0 && comment.len <= LIMIT_NAME) {
		header_add_unquoted(&text, comment);
	} else if (e->again) {
		return; /* it has been given one, or needs none */
	} else if (rewrite_is_local(e->rules, old)) {
		smtp_address_split(old, &local, &domain);
		(void)span_cut(span_of(e->rules->hostname), '.', &host,
		    &domain);
		header_add_unquoted(&text, span_first(local, LIMIT_NAME));
		buf_add_text(&text, " on ");
		buf_add(&text, host);
	} else if (old.len <= LIMIT_ADDRESS &&
	    !address_map_find(e->rules->masquerade, old, &text)) {
		buf_add(&text, old);
	} else {
		buf_clear(&text);
	}
	if (text.len > 0)
		header_add_phrase(name, buf_span(&text));
	buf_free(&text);
}

/* Copy words, beginning new lines only where one would be too long for SMTP
 * (RFC 5322, 2.1.1).  A quoted blank is no place for that. */
static void
add_words(const struct edit *e, struct span words)
{
	while (words.len > 0) {
		const char *blank = memchr(words.data, ' ', words.len);
		struct span word = span_first(words,
		    blank == NULL ? words.len
				  : (size_t)(blank - words.data) + 1);

		if (e->out->data[e->out->len - 1] == ' ' &&
		    e->out->data[e->out->len - 2] != '\\')
			fold(e, word.len, LINE_LIMIT);
		buf_add(e->out, word);
		words = span_from(words, word.len);
	}
}

/* Write a mailbox anew, once for each address that it stands for now. */
static void
put_mailbox(const struct edit *e, const struct mailbox *m,
    const struct strings *to)
{
	struct buf name = { NULL, 0, 0 };
	size_t i;

	add_name(e, m, &name);
	for (i = 0; i < to->count; i++) {
		size_t len = strlen(to->item[i]) + strlen("<>,");

		if (i > 0)
			buf_add_text(e->out, ", ");
		fold(e, name.len + 1 + len, LINE_WANTED);
		if (name.len > 0) {
			add_words(e, buf_span(&name));
			buf_add_char(e->out, ' ');
			fold(e, len, LINE_WANTED);
		}
		buf_printf(e->out, "<%s>", to->item[i]);
	}
	buf_free(&name);
}

/* Has the address changed in the envelope? */
static bool
take_change(const struct edit *e, const struct mailbox *m, struct strings *to)
{
	size_t i, k;

	for (i = 0; i < e->change_count; i++) {
		const struct rewrite_change *c = &e->change[i];

		if (!span_equal_nocase(span_of(c->was), buf_span(&m->address)))
			continue;
		for (k = 0; k < c->now.count; k++)
			strings_add(to, span_of(c->now.item[k]));
		return true;
	}
	return false;
}

/* What the address of a mailbox becomes; none: it stays. */
typedef void resolver(struct edit *e, struct mailbox *m, struct strings *to);

static void
resolve_sender(struct edit *e, struct mailbox *m, struct strings *to)
{
	char *address;

	if (take_change(e, m, to))
		return;
	/* "MAILER-DAEMON <>" is no address to write mail from. */
	if (m->address.len == 0)
		buf_add_text(&m->address, "MAILER-DAEMON");
	address = rewrite_sender(e->rules, buf_span(&m->address), NULL);
	if (smtp_address_valid(span_of(address), ADDRESS_UTF8))
		strings_add(to, span_of(address));
	free(address);
}

/* What a valid address stands for, as in the envelope.  But the header says
 * nothing of redirect, and is no place to be refused for. */
static void
expand_recipient(struct edit *e, struct span address, struct address_set *to)
{
	struct rewrite_rules rules = *e->rules;
	struct buf full = { NULL, 0, 0 };

	rules.allow_recipients = NULL;
	rules.redirect = "";
	rules.recipient_limit = e->budget;
	if (!rewrite_is_local(&rules, address)) {
		(void)address_set_add(to, address);
	} else if (e->budget > 0 &&
	    rewrite_recipient(&rules, address, to, NULL) == REWRITE_OK) {
		e->budget -= to->list.count;
	} else {
		e->budget = 0;
		rewrite_complete(&rules, address, &full);
		(void)address_set_add(to, buf_span(&full));
		buf_free(&full);
	}
}

static void
resolve_recipient(struct edit *e, struct mailbox *m, struct strings *to)
{
	struct span address = buf_span(&m->address);
	struct address_set plain = { .slots = 0 };
	size_t i;

	if (take_change(e, m, to) ||
	    !smtp_address_valid(address, ADDRESS_BARE | ADDRESS_UTF8))
		return;
	expand_recipient(e, address, &plain);
	for (i = 0; i < plain.list.count; i++) {
		struct span one = span_of(plain.list.item[i]);
		struct buf mapped = { NULL, 0, 0 };

		if (address_map_find(e->rules->masquerade, one, &mapped))
			one = buf_span(&mapped);
		strings_add(to, one);
		buf_free(&mapped);
	}
	address_set_free(&plain);
}

static bool
is_changed(const struct mailbox *m, const struct strings *to)
{
	return to->count > 1 ||
	    (to->count == 1 &&
		!span_equal(span_of(to->item[0]), buf_span(&m->address)));
}

/* ---- fields ---- */

enum list { LIST_BAD, LIST_EMPTY, LIST_GOOD };

/* Copy a field, its mailboxes resolved.  One that can't be parsed, or where
 * nothing is to be changed, is copied as it is. */
static enum list
edit_list(struct edit *e, const struct header_field *field, resolver *resolve)
{
	struct address_scan scan = { .list = field->value };
	struct mailbox m = { .address = { NULL, 0, 0 } };
	size_t begin = e->out->len, copied = 0, count = 0;
	bool changed = false;

	buf_add(e->out,
	    span_first(field->text, field->text.len - field->value.len));
	e->value_at = e->out->len;
	while (address_next(&scan, &m)) {
		struct strings to = { NULL, 0 };
		size_t at = (size_t)(m.text.data - field->value.data);

		buf_add(e->out,
		    span_from(span_first(field->value, at), copied));
		copied = at + m.text.len;
		resolve(e, &m, &to);
		if (is_changed(&m, &to)) {
			put_mailbox(e, &m, &to);
			changed = true;
		} else {
			fold(e, m.text.len + strlen(","), LINE_LIMIT);
			add_words(e, m.text);
		}
		strings_free(&to);
		count++;
	}
	buf_free(&m.address);
	buf_add(e->out, span_from(field->value, copied));
	if (!changed || scan.bad) {
		e->out->len = begin;
		buf_add(e->out, field->text);
	}
	if (scan.bad)
		return LIST_BAD;
	return count == 0 ? LIST_EMPTY : LIST_GOOD;
}

/* A From without an address is left out, to be made anew in add_from().  One
 * that only others may understand stays, unless it is to be replaced. */
static void
edit_from(struct edit *e, const struct header_field *field)
{
	bool replace =
	    e->rules->from_mode == FROM_ALWAYS && *e->rules->from != '\0';
	size_t begin = e->out->len;
	enum list list = edit_list(e, field, resolve_sender);

	if (list == LIST_GOOD ||
	    (list == LIST_BAD && !replace &&
		memchr(field->value.data, '@', field->value.len) != NULL)) {
		e->has_from = true;
		return;
	}
	e->out->len = begin;
	e->from_text = span_trim(field->value);
}

static void
add_from(struct edit *e)
{
	struct rewrite_rules rules = *e->rules;
	struct mailbox m = { .comment = e->from_text };
	struct strings to = { NULL, 0 };
	char *address;

	if (rules.from_mode == FROM_MISSING)
		rules.from_mode = FROM_ALWAYS;
	buf_add_text(&m.address,
	    *e->facts->sender == '\0' ? "MAILER-DAEMON" : e->facts->sender);
	address = rewrite_sender(&rules, buf_span(&m.address), NULL);
	strings_add(&to, span_of(address));
	buf_add_text(e->out, "From: ");
	e->value_at = e->out->len;
	if (is_changed(&m, &to) || m.comment.len > 0)
		put_mailbox(e, &m, &to);
	else
		buf_add_text(e->out, address);
	buf_add_text(e->out, "\r\n");
	free(address);
	strings_free(&to);
	buf_free(&m.address);
}

static void
add_received(struct edit *e, const char *date)
{
	const struct rewrite_facts *f = e->facts;

	/* RFC 5321, 4.4. */
	buf_printf(e->out,
	    "Received: from %s (%s)\r\n\tby %s (relayd) with %s id %s",
	    *f->helo == '\0' ? "localhost" : f->helo, f->client,
	    e->rules->hostname, f->protocol, f->id);
	if (f->recipient != NULL)
		buf_printf(e->out, "\r\n\tfor <%s>; %s\r\n", f->recipient,
		    date);
	else
		buf_printf(e->out, ";\r\n\t%s\r\n", date);
}

static void
add_missing(struct edit *e, const char *date)
{
	const struct rewrite_rules *rules = e->rules;

	if (!e->has_from)
		add_from(e);
	if (!e->has_date)
		buf_printf(e->out, "Date: %s\r\n", date);
	/* The queue id alone might come again when the clock goes back. */
	if (!e->has_message_id)
		buf_printf(e->out, "Message-ID: <%s.%016" PRIx64 "@%s>\r\n",
		    e->facts->id, random_bits(),
		    strchr(rules->hostname, '.') != NULL ? rules->hostname
							 : rules->origin);
}

/* The fields of header_add, folded at blanks. */
static void
add_given(struct edit *e)
{
	const struct strings *fields = e->rules->header_add;
	size_t i;

	for (i = 0; fields != NULL && i < fields->count; i++) {
		struct span name, rest, word;

		(void)span_cut(span_of(fields->item[i]), ':', &name, &rest);
		buf_add(e->out, name);
		buf_add_char(e->out, ':');
		e->value_at = e->out->len + 1;
		rest = span_trim(rest);
		while (rest.len > 0) {
			(void)span_cut(rest, ' ', &word, &rest);
			buf_add_char(e->out, ' ');
			fold(e, word.len, LINE_WANTED);
			buf_add(e->out, word);
		}
		buf_add_text(e->out, "\r\n");
	}
}

enum kind { OTHER, DROPPED, FROM, SENDER, RECIPIENTS, DATE, MESSAGE_ID };

static enum kind
kind_of(struct span name)
{
	static const struct {
		const char *name;
		enum kind kind;
	} fields[] = {
		{ "Bcc", DROPPED }, { "Cc", RECIPIENTS }, { "Date", DATE },
		{ "From", FROM }, { "Message-ID", MESSAGE_ID },
		{ "Reply-To", RECIPIENTS }, { "Resent-Bcc", DROPPED },
		{ "Resent-Cc", RECIPIENTS }, { "Resent-From", SENDER },
		{ "Resent-Reply-To", RECIPIENTS }, { "Resent-Sender", SENDER },
		{ "Resent-To", RECIPIENTS }, { "Return-Path", DROPPED },
		{ "Sender", SENDER }, { "To", RECIPIENTS },
		{ "", DROPPED }, /* a "From " line */
	};
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (span_equal_nocase(name, span_of(fields[i].name)))
			return fields[i].kind;
	}
	return OTHER;
}

static void
edit_field(struct edit *e, const struct header_field *field)
{
	enum kind kind = kind_of(field->name);

	switch (kind) {
	case DROPPED:
		return;
	case FROM:
		edit_from(e, field);
		return;
	case SENDER:
		(void)edit_list(e, field, resolve_sender);
		return;
	case RECIPIENTS:
		(void)edit_list(e, field, resolve_recipient);
		return;
	case DATE:
		e->has_date = true;
		break;
	case MESSAGE_ID:
		e->has_message_id = true;
		break;
	case OTHER:
		break;
	}
	buf_add(e->out, field->text);
}

/* The reply to refuse a header with, or NULL. */
static const char *
refusal(struct span header)
{
	struct header_field field;
	unsigned fields = 0, received = 0;

	if (header.len > LIMIT_HEADER)
		return "550 5.6.0 header section too large";
	if (header.len > 0 && memchr(header.data, '\0', header.len) != NULL)
		return "550 5.6.0 NUL in the header section";
	while (header_next(&header, &field)) {
		if (field.text.len > LIMIT_HEADER_FIELD)
			return "550 5.6.0 header field too large";
		if (++fields > LIMIT_HEADER_FIELDS)
			return "550 5.6.0 too many header fields";
		if (span_equal_nocase(field.name, SPAN("Received")))
			received++;
	}
	return received > LIMIT_RECEIVED
	    ? "554 5.4.6 routing loop: too many Received fields"
	    : NULL;
}

/* Control characters have no place in a header (RFC 5322, 2.2); terminals obey
 * them, and no two readers agree.  Of NUL see refusal(). */
static void
mask_controls(struct span header, struct buf *out)
{
	size_t i;

	buf_add(out, header);
	for (i = 0; i < out->len; i++) {
		unsigned char c = (unsigned char)out->data[i];

		if ((c < ' ' && strchr("\t\r\n", c) == NULL) || c == 0x7f)
			out->data[i] = '?';
	}
}

static const char *
edit_fields(struct edit *e, struct span header)
{
	struct header_field field;

	while (header_next(&header, &field)) {
		edit_field(e, &field);
		/* A megabyte of "a,a,a," would become hundreds. */
		if (e->out->len - e->begin > (size_t)2 * LIMIT_HEADER)
			return "550 5.6.0 header section too large";
	}
	return NULL;
}

const char *
rewrite_header(const struct rewrite_rules *rules,
    const struct rewrite_facts *facts, struct span header, struct buf *out)
{
	struct edit e = { .rules = rules,
		.facts = facts,
		.out = out,
		.begin = out->len,
		.budget = rules->recipient_limit };
	const char *refused = refusal(header);
	struct buf clean = { NULL, 0, 0 };
	char date[DATE_MAX];

	if (refused != NULL)
		return refused;
	date_format(date, facts->wall_ms);
	add_received(&e, date);
	mask_controls(header, &clean);
	refused = edit_fields(&e, buf_span(&clean));
	if (refused == NULL) {
		add_missing(&e, date);
		add_given(&e);
	}
	buf_free(&clean);
	return refused;
}

void
rewrite_header_again(const struct rewrite_rules *rules,
    const struct rewrite_change *change, size_t count, struct span header,
    struct buf *out)
{
	struct edit e = { .rules = rules,
		.out = out,
		.begin = out->len,
		.budget = rules->recipient_limit,
		.change = change,
		.change_count = count,
		.again = true };
	struct header_field field;

	while (header_next(&header, &field)) {
		enum kind kind = kind_of(field.name);

		if (kind == FROM || kind == SENDER)
			(void)edit_list(&e, &field, resolve_sender);
		else if (kind == RECIPIENTS)
			(void)edit_list(&e, &field, resolve_recipient);
		else
			buf_add(out, field.text);
	}
}
