/*
 * The list of the queue: puts messages in order and prints them, whether the
 * daemon told them or they are read from the spool.
 */
#include "relayctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void
listing_add(struct listing *l, queue_id id, uint64_t size)
{
	/* Grows at powers of two. */
	if ((l->count & (l->count - 1)) == 0)
		l->message = mem_array(l->message,
		    l->count == 0 ? 1 : l->count * 2, sizeof(*l->message));
	l->message[l->count++] = (struct message){ id, size, l->text.len, 0 };
}

/* The last message's text is complete so far. */
static void
listing_extend(struct listing *l)
{
	struct message *m = &l->message[l->count - 1];

	m->len = l->text.len - m->at;
}

void
listing_line(void *arg, char kind, struct span text)
{
	struct listing *l = arg;
	struct span id, size;
	uint64_t id_number = 0, size_number = 0;

	if (kind == 'o' && l->count > 0) {
		buf_add(&l->text, text);
		listing_extend(l);
	} else if (kind == 'm') {
		(void)span_cut(span_trim(text), ' ', &id, &size);
		(void)parse_number(id, UINT64_MAX, &id_number);
		(void)parse_number(size, UINT64_MAX, &size_number);
		listing_add(l, id_number, size_number);
	} else {
		relayctl_print(stderr, text);
	}
}

void
listing_read(struct listing *l, struct queue *q, const struct report_filter *f,
    bool json)
{
	const struct queue_info *info;
	unsigned place;

	for (place = 0; place < PLACES; place++) {
		struct queue_walk *w;

		if (!report_wants_place(f, (enum queue_place)place))
			continue;
		w = queue_walk_new(q, (enum queue_place)place,
		    QUEUE_WALK_ENVELOPE);
		while (queue_walk_next(w, &info)) {
			if (!report_wants(f, info))
				continue;
			listing_add(l, info->id, info->size);
			report_message(info, json, &l->text);
			listing_extend(l);
		}
		queue_walk_free(w);
	}
}

/* By age, as ids are; of one id first what was found first. */
static int
compare_messages(const void *a, const void *b)
{
	const struct message *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

/* Put into order; a message that moved meanwhile was found twice. */
static void
listing_sort(struct listing *l)
{
	size_t i, kept = 0;

	if (l->count > 0)
		qsort(l->message, l->count, sizeof(*l->message),
		    compare_messages);
	for (i = 0; i < l->count; i++)
		if (kept == 0 || l->message[i].id == 0 ||
		    l->message[i].id != l->message[kept - 1].id)
			l->message[kept++] = l->message[i];
	l->count = kept;
}

static void
print_json(const struct listing *l)
{
	size_t i;

	(void)fputs("[", stdout);
	for (i = 0; i < l->count; i++) {
		const struct message *m = &l->message[i];

		(void)fputs(i == 0 ? "\n" : ",\n", stdout);
		relayctl_print(stdout,
		    (struct span){ l->text.data + m->at, m->len - 1 });
	}
	(void)fputs(l->count == 0 ? "]\n" : "\n]\n", stdout);
}

/* As Postfix's mailq has it. */
static void
print_text(const struct listing *l, bool failed)
{
	uint64_t octets = 0;
	size_t i;

	if (l->count == 0) {
		(void)puts(
		    failed ? "No message has failed" : "Mail queue is empty");
		return;
	}
	(void)puts("-Queue ID-    --Size--- ----Arrival Time---  "
		   "-Sender/Recipient-------");
	for (i = 0; i < l->count; i++) {
		const struct message *m = &l->message[i];

		octets += m->size;
		relayctl_print(stdout,
		    (struct span){ l->text.data + m->at, m->len });
	}
	(void)printf("-- %" PRIu64 " Kbytes in %zu Request%s.\n",
	    (octets + 1023) / 1024, l->count, l->count == 1 ? "" : "s");
}

/* Name each message that was asked for and is not there. */
static int
tell_missing(const struct listing *l, const struct report_filter *f)
{
	int status = STATUS_GOOD;
	char name[QUEUE_ID_MAX];
	size_t i, m = 0;

	for (i = 0; i < f->id_count; i++) {
		while (m < l->count && l->message[m].id < f->id[i])
			m++;
		if (m < l->count && l->message[m].id == f->id[i])
			continue;
		queue_id_text(f->id[i], name);
		(void)fprintf(stderr, "relayctl: %s: no such message\n", name);
		status = STATUS_WRONG;
	}
	return status;
}

int
listing_print(struct listing *l, const struct report_filter *f, bool json)
{
	listing_sort(l);
	if (json)
		print_json(l);
	else if (l->count > 0 || f->id_count == 0)
		print_text(l, f->failed);
	return tell_missing(l, f);
}

void
listing_free(struct listing *l)
{
	free(l->message);
	buf_free(&l->text);
}
