/*
 * A queued message rewritten from its original envelope, after "from" or the
 * aliases have changed.  It keeps its id and its age; who has it already does
 * not get it again.
 */
#include "submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 64 << 10 };

struct again {
	const struct rewrite_rules *rules;
	struct entry *entry;        /* as it was */
	struct envelope envelope;   /* as it is to be */
	struct address_set address; /* of its recipients */
	struct rewrite_change *change;
	size_t change_count;
};

/* ---- envelope ---- */

static struct recipient *
add_recipient(struct again *a, const char *address, const char *original,
    const struct recipient *was)
{
	struct recipient *r = envelope_add(&a->envelope, address, original);

	r->notify = was->notify;
	r->orcpt = mem_text(was->orcpt);
	return r;
}

static void
keep_sent(struct again *a)
{
	const struct envelope *e = &a->entry->envelope;
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		const struct recipient *r = &e->recipient[i];

		if (r->state == RECIPIENT_SENT &&
		    address_set_add(&a->address, span_of(r->address)))
			add_recipient(a, r->address, r->original, r)->state =
			    RECIPIENT_SENT;
	}
}

static void
add_change(struct again *a, const char *was, const struct strings *now)
{
	struct rewrite_change *c;
	size_t i;

	a->change = mem_array(a->change, a->change_count + 1, sizeof(*c));
	c = &a->change[a->change_count++];
	*c = (struct rewrite_change){ .was = was };
	for (i = 0; i < now->count; i++)
		strings_add(&c->now, span_of(now->item[i]));
}

/* How many recipients the same original address had become. */
static size_t
count_of(const struct envelope *e, const char *original)
{
	size_t i, count = 0;

	for (i = 0; i < e->recipient_count; i++)
		count += strcmp(e->recipient[i].original, original) == 0;
	return count;
}

/* What an original address of a recipient stands for now; -1: it would be
 * refused. */
static int
expand(struct again *a, const char *original, const struct recipient *was)
{
	struct address_set now = { .slots = 0 };
	size_t i;
	int ret = -1;

	if (rewrite_recipient(a->rules, span_of(original), &now, NULL) ==
	    REWRITE_OK)
		ret = 0;
	for (i = 0; i < now.list.count; i++) {
		const char *address = now.list.item[i];

		if (address_set_add(&a->address, span_of(address)))
			(void)add_recipient(a, address, original, was);
		else
			envelope_add_name(&a->envelope, address, original);
	}
	/* Which of several the header means by which can't be told. */
	if (ret == 0 && count_of(&a->entry->envelope, original) == 1)
		add_change(a, was->address, &now.list);
	address_set_free(&now);
	errno = EPERM;
	return ret;
}

static const struct recipient *
find_recipient(const struct envelope *e, struct span address)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		if (span_equal_nocase(span_of(e->recipient[i].address),
			address))
			return &e->recipient[i];
	}
	return NULL;
}

/* The other names that recipients were given by. */
static int
expand_names(struct again *a, struct address_set *seen)
{
	const struct envelope *e = &a->entry->envelope;
	int ret = 0;
	size_t i;

	for (i = 0; i < e->names.count && ret == 0; i++) {
		struct span address, original;
		const struct recipient *r;

		(void)span_cut(span_of(e->names.item[i]), '\t', &address,
		    &original);
		r = find_recipient(e, address);
		if (r == NULL || r->state == RECIPIENT_SENT)
			strings_add(&a->envelope.names,
			    span_of(e->names.item[i]));
		else if (address_set_add(seen, original))
			ret = expand(a, original.data, r);
	}
	return ret;
}

static int
add_recipients(struct again *a)
{
	const struct envelope *e = &a->entry->envelope;
	struct address_set seen = { .slots = 0 };
	int ret = 0;
	size_t i;

	keep_sent(a);
	for (i = 0; i < e->recipient_count && ret == 0; i++) {
		const struct recipient *r = &e->recipient[i];

		if (r->state != RECIPIENT_SENT &&
		    address_set_add(&seen, span_of(r->original)))
			ret = expand(a, r->original, r);
	}
	if (ret == 0)
		ret = expand_names(a, &seen);
	address_set_free(&seen);
	if (ret == 0 && envelope_count(&a->envelope, RECIPIENT_WAITING) == 0) {
		errno = EALREADY;
		ret = -1;
	}
	return ret;
}

static int
make_envelope(struct again *a)
{
	const struct envelope *was = &a->entry->envelope;
	struct envelope *e = &a->envelope;
	struct strings sender = { NULL, 0 };

	e->sender =
	    rewrite_sender(a->rules, span_of(was->original_sender), NULL);
	e->original_sender = mem_text(was->original_sender);
	e->client = mem_text(was->client);
	e->uid = was->uid;
	e->arrived_ms = was->arrived_ms;
	e->eight_bit = was->eight_bit;
	e->utf8 = was->utf8;
	e->ret = was->ret;
	e->envid = mem_text(was->envid);
	if (*was->sender != '\0') {
		strings_add(&sender, span_of(e->sender));
		add_change(a, was->sender, &sender);
		strings_free(&sender);
	}
	return add_recipients(a);
}

/* ---- content ---- */

int
intake_read_header(struct entry *e, struct buf *text, size_t *header,
    size_t *body)
{
	size_t scanned = 0;
	ssize_t n;

	do {
		buf_reserve(text, PIECE);
		n = entry_read(e, text->data + text->len, PIECE);
		if (n > 0)
			text->len += (size_t)n;
		if (n > 0 && header_end(buf_span(text), &scanned, header, body))
			return 0;
	} while (n > 0);
	*header = *body = text->len;
	return (int)n;
}

static int
write_rest(struct entry *e, struct msg *m)
{
	char piece[PIECE];
	ssize_t n;

	while ((n = entry_read(e, piece, sizeof(piece))) > 0) {
		if (msg_write(m, (struct span){ piece, (size_t)n }) == -1)
			return -1;
	}
	return (int)n;
}

/* Write the whole message under tmp/; NULL: errno. */
static struct msg *
write_message(struct again *a, struct queue *q)
{
	struct buf text = { NULL, 0, 0 }, fields = { NULL, 0, 0 };
	struct msg *m = queue_begin_again(q, a->entry->id);
	size_t header, body;
	int ret, error;

	ret = intake_read_header(a->entry, &text, &header, &body);
	if (ret == 0) {
		rewrite_header_again(a->rules, a->change, a->change_count,
		    span_first(buf_span(&text), header), &fields);
		buf_add_text(&fields, "\r\n");
		msg_envelope(m, &a->envelope);
		ret = msg_write(m, buf_span(&fields));
	}
	if (ret == 0)
		ret = msg_write(m, span_from(buf_span(&text), body));
	if (ret == 0)
		ret = write_rest(a->entry, m);
	error = errno;
	buf_free(&text);
	buf_free(&fields);
	if (ret == 0)
		return m;
	msg_abort(m);
	errno = error;
	return NULL;
}

/* ---- all of it ---- */

static void
clear(struct again *a)
{
	size_t i;

	for (i = 0; i < a->change_count; i++)
		strings_free(&a->change[i].now);
	free(a->change);
	address_set_free(&a->address);
	envelope_clear(&a->envelope);
	entry_close(a->entry);
}

int
intake_requeue(struct intake *in, queue_id id)
{
	struct rewrite_rules rules = intake_rules(in);
	struct queue *q = intake_queue(in);
	struct again a = { .rules = &rules, .envelope = { .uid = -1 } };
	enum queue_place place;
	struct msg *m = NULL;
	int error, ret = -1;

	a.entry = queue_look(q, id, &place);
	if (a.entry == NULL)
		return -1;
	if (make_envelope(&a) == 0)
		m = write_message(&a, q);
	if (m != NULL)
		ret = msg_replace(m, place);
	error = errno;
	clear(&a);
	errno = error;
	if (ret == 0)
		ret = queue_replaced(q, id, place);
	return ret;
}
