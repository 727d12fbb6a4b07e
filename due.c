/*
 * When each waiting message is to be tried: a heap, the earliest first.
 */
#include "sched.h"

#include <stdlib.h>

/* Of those due at one time the oldest goes first. */
static bool
before(const struct due *a, const struct due *b)
{
	return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->id < b->id);
}

static void
sift_up(struct due_heap *h, size_t i, struct due d)
{
	while (i > 0 && before(&d, &h->item[(i - 1) / 2])) {
		h->item[i] = h->item[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->item[i] = d;
}

static void
sift_down(struct due_heap *h, size_t i, struct due d)
{
	size_t child;

	while ((child = 2 * i + 1) < h->count) {
		if (child + 1 < h->count &&
		    before(&h->item[child + 1], &h->item[child]))
			child++;
		if (!before(&h->item[child], &d))
			break;
		h->item[i] = h->item[child];
		i = child;
	}
	h->item[i] = d;
}

static void
remove_at(struct due_heap *h, size_t i)
{
	struct due last = h->item[--h->count];

	if (i == h->count)
		return;
	if (i > 0 && before(&last, &h->item[(i - 1) / 2]))
		sift_up(h, i, last);
	else
		sift_down(h, i, last);
}

void
due_add(struct due_heap *h, queue_id id, int64_t at_ms)
{
	if (h->count == h->size) {
		h->size = h->size == 0 ? 64 : h->size * 2;
		h->item = mem_array(h->item, h->size, sizeof(*h->item));
	}
	sift_up(h, h->count++, (struct due){ id, at_ms });
}

bool
due_pop(struct due_heap *h, int64_t now_ms, struct due *d)
{
	if (h->count == 0 || h->item[0].at_ms > now_ms)
		return false;
	*d = h->item[0];
	remove_at(h, 0);
	return true;
}

void
due_free(struct due_heap *h)
{
	free(h->item);
	*h = (struct due_heap){ NULL, 0, 0 };
}

void
due_move(struct due_heap *from, struct due_heap *to)
{
	size_t i;

	for (i = 0; i < from->count; i++)
		due_add(to, from->item[i].id, from->item[i].at_ms);
	due_free(from);
}

bool
due_take(struct due_heap *h, queue_id id)
{
	size_t i;

	for (i = 0; i < h->count; i++) {
		if (h->item[i].id == id) {
			remove_at(h, i);
			return true;
		}
	}
	return false;
}

bool
due_has(const struct due_heap *h, queue_id id)
{
	size_t i;

	for (i = 0; i < h->count; i++) {
		if (h->item[i].id == id)
			return true;
	}
	return false;
}

static int
by_id(const void *a, const void *b)
{
	queue_id x = ((const struct due *)a)->id;
	queue_id y = ((const struct due *)b)->id;

	return x < y ? -1 : x > y;
}

/* Equal times in the order of arrival: sorted is a heap too. */
void
due_all(struct due_heap *h, int64_t now_ms)
{
	size_t i;

	if (h->count == 0)
		return;
	qsort(h->item, h->count, sizeof(*h->item), by_id);
	for (i = 0; i < h->count; i++)
		h->item[i].at_ms = now_ms;
}
