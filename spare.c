/*
 * Files of messages that are over, kept under tmp/ for the next ones.
 *
 * To make a file and to remove it costs a file system more than all the rest
 * of a message's way; under load each is overwritten by one that comes later
 * instead.  That must wait until a power cut can't bring the old name back.
 */
#include "spool.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	SPARE_OCTETS_MAX = 64 << 10, /* of one, or it is not worth its room */
	WORTH_IT = 4,                /* messages coming in */
};

/* Is a file of that size wanted?  Only where several come in just now, so that
 * an agent with little to do has nothing lying about. */
static bool
is_wanted(const struct queue *q, uint64_t octets)
{
	return q->spares.count < SPARES_MAX && octets <= SPARE_OCTETS_MAX &&
	    q->committing >= WORTH_IT;
}

int
spare_keep(struct queue *q, enum queue_place place, const char *name,
    uint64_t octets)
{
	struct spares *s = &q->spares;

	if (!is_wanted(q, octets) ||
	    renameat2(q->place[place], name, q->tmp, name, RENAME_NOREPLACE) ==
		-1)
		return -1;
	memcpy(s->name[s->count++], name, QUEUE_ID_MAX);
	return 0;
}

void
spares_synced(struct queue *q)
{
	q->spares.ready = q->spares.count;
}

int
spare_open(struct queue *q, char name[QUEUE_ID_MAX], uint64_t *octets)
{
	struct spares *s = &q->spares;
	const char *why;
	struct stat st;
	int fd;

	if (s->ready == 0)
		return -1;
	s->ready--;
	s->count--;
	s->used = true;
	memcpy(name, s->name[s->ready], QUEUE_ID_MAX);
	memmove(s->name[s->ready], s->name[s->count], QUEUE_ID_MAX);
	fd = openat(q->tmp, name,
	    O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	/* It may have got another name meanwhile, or be another file. */
	if (fd != -1 && spool_prove(q, fd, &st, &why) == -1)
		fd_close(&fd);
	if (fd == -1)
		(void)unlinkat(q->tmp, name, 0);
	else
		*octets = (uint64_t)st.st_size;
	return fd;
}

void
spares_drop(struct queue *q)
{
	struct spares *s = &q->spares;

	while (s->count > 0)
		(void)unlinkat(q->tmp, s->name[--s->count], 0);
	s->ready = 0;
}

void
spares_age(struct queue *q)
{
	if (!q->spares.used)
		spares_drop(q);
	q->spares.used = false;
}
