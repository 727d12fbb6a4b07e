/*
 * Addresses and headers on their way in: who gets the mail, whom it is from,
 * and a header that a relayhost accepts.  All that it leaves alone stays byte
 * for byte as it was.  No input or output.
 */
#include "header.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- addresses ---- */

/* Is the address one of this machine: bare, or in local_names? */
static bool
is_local(const struct rewrite_rules *rules, struct span address)
{
	struct span local, domain;

	smtp_address_split(address, &local, &domain);
	return domain.data == NULL || strings_have(rules->local_names, domain);
}

/*
 * Append a local address as one that the world knows.  A domain without a dot
 * ("localhost", "web1") is no better than none: no relayhost takes it.
 */
static void
complete(const struct rewrite_rules *rules, struct span address,
    struct buf *out)
{
	struct span local, domain;

	smtp_address_split(address, &local, &domain);
	if (domain.data != NULL &&
	    memchr(domain.data, '.', domain.len) != NULL) {
		buf_add(out, address);
		return;
	}
	buf_add(out, local);
	buf_add_char(out, '@');
	buf_add_text(out, rules->origin);
}

char *
rewrite_sender(const struct rewrite_rules *rules, struct span sender)
{
	struct buf out = { NULL, 0, 0 };
	bool local = sender.len > 0 && is_local(rules, sender);
	bool replace = *rules->from != '\0' && sender.len > 0 &&
	    (rules->from_mode == FROM_ALWAYS ||
		(rules->from_mode == FROM_LOCAL && local));

	if (replace)
		buf_add_text(&out, rules->from);
	else if (local)
		complete(rules, sender, &out);
	else
		buf_add(&out, sender);
	(void)buf_text(&out);
	return out.data;
}

/* ---- recipients ---- */

/* An address on the way from what was given to what it stands for. */
struct step {
	struct span address;       /* borrowed from the rules or the caller */
	size_t parent;             /* the step that led here */
	unsigned depth;            /* how many did; 0: the first */
	const struct strings *via; /* what it was replaced by; NULL: nothing */
};

struct expansion {
	const struct rewrite_rules *rules;
	struct strings local_to; /* the alias of every name without one */
	struct step *step;
	size_t count;
	size_t size;
};

static void
add_step(struct expansion *x, struct span address, size_t parent,
    unsigned depth)
{
	if (x->count == x->size) {
		x->size = x->size == 0 ? 16 : x->size * 2;
		x->step = mem_array(x->step, x->size, sizeof(*x->step));
	}
	x->step[x->count++] = (struct step){ address, parent, depth, NULL };
}

/* What the address is to be replaced by; NULL: it is final. */
static const struct strings *
find_targets(const struct expansion *x, struct span address)
{
	const struct strings *targets = NULL;
	struct span local, domain;

	if (address.data[0] == '\\' || !is_local(x->rules, address))
		return NULL;
	smtp_address_split(address, &local, &domain);
	if (x->rules->aliases != NULL)
		targets = aliases_find(x->rules->aliases, local);
	if (targets == NULL && x->local_to.count > 0)
		targets = &x->local_to;
	return targets;
}

/* Did one of the steps that led to this one go the same way? */
static bool
is_cycle(const struct expansion *x, size_t at, const struct strings *via)
{
	while (x->step[at].depth > 0) {
		at = x->step[at].parent;
		if (x->step[at].via == via)
			return true;
	}
	return false;
}

/* Has any step gone this way, so that its targets are known already? */
static bool
is_known(const struct expansion *x, size_t before, const struct strings *via)
{
	size_t i;

	for (i = 0; i < before; i++) {
		if (x->step[i].via == via)
			return true;
	}
	return false;
}

static enum rewrite_result
add_recipient(const struct rewrite_rules *rules, struct span address,
    struct strings *out)
{
	struct buf full = { NULL, 0, 0 };

	if (address.data[0] == '\\')
		address = span_from(address, 1);
	if (is_local(rules, address))
		complete(rules, address, &full);
	else
		buf_add(&full, address);
	if (!strings_have(out, buf_span(&full)))
		strings_add(out, buf_span(&full));
	buf_free(&full);
	return out->count > rules->recipient_limit ? REWRITE_TOO_MANY
						   : REWRITE_OK;
}

static enum rewrite_result
take_step(struct expansion *x, size_t at, struct strings *out)
{
	const struct strings *targets = find_targets(x, x->step[at].address);
	unsigned depth = x->step[at].depth + 1;
	size_t i;

	if (targets == NULL || is_cycle(x, at, targets))
		return add_recipient(x->rules, x->step[at].address, out);
	if (is_known(x, at, targets))
		return REWRITE_OK;
	if (depth > LIMIT_ALIAS_DEPTH)
		return REWRITE_DEEP;
	x->step[at].via = targets;
	for (i = 0; i < targets->count; i++)
		add_step(x, span_of(targets->item[i]), at, depth);
	return x->count / LIMIT_ALIAS_DEPTH > x->rules->recipient_limit
	    ? REWRITE_TOO_MANY
	    : REWRITE_OK;
}

enum rewrite_result
rewrite_recipient(const struct rewrite_rules *rules, struct span address,
    struct strings *out)
{
	struct expansion x = { .rules = rules };
	enum rewrite_result result = REWRITE_OK;
	size_t before = out->count, i;

	if (*rules->local_to != '\0')
		strings_add(&x.local_to, span_of(rules->local_to));
	add_step(&x, address, 0, 0);
	for (i = 0; i < x.count && result == REWRITE_OK; i++)
		result = take_step(&x, i, out);
	while (result != REWRITE_OK && out->count > before)
		free(out->item[--out->count]);
	strings_free(&x.local_to);
	free(x.step);
	return result;
}

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
 * its comment says, or the old address. */
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
	} else if (is_local(e->rules, old)) {
		smtp_address_split(old, &local, &domain);
		(void)span_cut(span_of(e->rules->hostname), '.', &host,
		    &domain);
		header_add_unquoted(&text, span_first(local, LIMIT_NAME));
		buf_add_text(&text, " on ");
		buf_add(&text, host);
	} else if (old.len <= LIMIT_ADDRESS) {
		buf_add(&text, old);
	}
	if (text.len > 0)
		header_add_phrase(name, buf_span(&text));
	buf_free(&text);
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
			buf_add(e->out, buf_span(&name));
			buf_add_char(e->out, ' ');
			fold(e, len, LINE_WANTED);
		}
		buf_printf(e->out, "<%s>", to->item[i]);
	}
	buf_free(&name);
}

/* What the address of a mailbox becomes; none: it stays. */
typedef void resolver(struct edit *e, struct mailbox *m, struct strings *to);

static void
resolve_sender(struct edit *e, struct mailbox *m, struct strings *to)
{
	char *address;

	/* "MAILER-DAEMON <>" is no address to write mail from. */
	if (m->address.len == 0)
		buf_add_text(&m->address, "MAILER-DAEMON");
	address = rewrite_sender(e->rules, buf_span(&m->address));
	if (smtp_address_valid(span_of(address), ADDRESS_UTF8))
		strings_add(to, span_of(address));
	free(address);
}

static void
resolve_recipient(struct edit *e, struct mailbox *m, struct strings *to)
{
	struct rewrite_rules rules = *e->rules;
	struct span address = buf_span(&m->address);
	struct buf full = { NULL, 0, 0 };

	if (!smtp_address_valid(address, ADDRESS_BARE | ADDRESS_UTF8) ||
	    !is_local(&rules, address))
		return;
	rules.recipient_limit = e->budget;
	if (e->budget > 0 &&
	    rewrite_recipient(&rules, address, to) == REWRITE_OK) {
		e->budget -= to->count;
		return;
	}
	/* A header is no place to be refused for: only the envelope is. */
	e->budget = 0;
	complete(&rules, address, &full);
	strings_add(to, buf_span(&full));
	buf_free(&full);
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
			buf_add(e->out, m.text);
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
	address = rewrite_sender(&rules, buf_span(&m.address));
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
	struct header_field field;
	char date[DATE_MAX];

	if (refused != NULL)
		return refused;
	date_format(date, facts->wall_ms);
	add_received(&e, date);
	while (header_next(&header, &field)) {
		edit_field(&e, &field);
		/* A megabyte of "a,a,a," would become hundreds. */
		if (out->len - e.begin > (size_t)2 * LIMIT_HEADER)
			return "550 5.6.0 header section too large";
	}
	add_missing(&e, date);
	return NULL;
}
