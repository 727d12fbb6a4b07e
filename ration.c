/*
 * At most so many reports an hour to one address: a bounded table.
 *
 * When more addresses had one within the hour than the table has rows, the
 * others get none; that many senders at once are no senders.
 */
#include "notice.h"

#include <stdlib.h>

enum {
	ROWS = 1000,
	RATION = 10,
	HOUR_MS = 3600 * 1000,
};

/* When one address got its last reports: a ring. */
struct row {
	uint64_t hash; /* of the address; 0: unused */
	int64_t at_ms[RATION];
	unsigned next; /* the oldest */
};

struct ration {
	struct row row[ROWS];
	uint64_t seed; /* so that nobody can choose two of one hash */
};

static uint64_t
hash(const struct ration *r, const char *address)
{
	uint64_t h = r->seed; /* FNV-1a */

	for (; *address != '\0'; address++) {
		unsigned char c = (unsigned char)*address;

		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		h = (h ^ c) * 0x100000001b3;
	}
	return h | 1;
}

static int64_t
newest(const struct row *row)
{
	return row->at_ms[(row->next + RATION - 1) % RATION];
}

/* The row of an address, if need be a new one in place of one that had none
 * within the hour; NULL: there is none such. */
static struct row *
find(struct ration *r, const char *address, int64_t now_ms)
{
	uint64_t wanted = hash(r, address);
	struct row *unused = NULL;
	size_t i;

	for (i = 0; i < ROWS; i++) {
		if (r->row[i].hash == wanted)
			return &r->row[i];
		if (r->row[i].hash == 0 ||
		    newest(&r->row[i]) <= now_ms - HOUR_MS)
			unused = &r->row[i];
	}
	if (unused != NULL)
		*unused = (struct row){ .hash = wanted };
	return unused;
}

bool
ration_take(struct ration *r, const char *address, int64_t now_ms)
{
	struct row *row = find(r, address, now_ms);
	int64_t oldest;

	if (row == NULL)
		return false;
	oldest = row->at_ms[row->next];
	if (oldest != 0 && oldest > now_ms - HOUR_MS)
		return false;
	row->at_ms[row->next] = now_ms;
	row->next = (row->next + 1) % RATION;
	return true;
}

struct ration *
ration_new(void)
{
	struct ration *r = mem_alloc(sizeof(*r));

	r->seed = random_bits();
	return r;
}

void
ration_free(struct ration *r)
{
	free(r);
}
