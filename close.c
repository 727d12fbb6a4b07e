/*
 * Files closed by somebody else.
 *
 * To close a file that has been removed gives its room back, for which some
 * file systems wait for the disk: far too long for the loop.  So a thread,
 * which does nothing else, does it when there are several.
 */
#include "spool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	CLOSING_MAX = 64, /* of each kind */
	WORTH_IT = 4,     /* that wait at the same time */
};

struct closer {
	int waiting[CLOSING_MAX]; /* the loop's own */
	size_t waiting_count;
	bool tried; /* to make the thread */
	bool made;
	pthread_t thread;
	pthread_mutex_t mutex; /* of what follows */
	pthread_cond_t begun;
	int fd[CLOSING_MAX];
	size_t count;
	bool stop;
};

static void
close_all(const int *fd, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		(void)close(fd[i]);
}

static void *
serve(void *arg)
{
	struct closer *c = arg;
	int fd[CLOSING_MAX];
	size_t count;

	(void)pthread_mutex_lock(&c->mutex);
	while (!c->stop || c->count > 0) {
		if (c->count == 0) {
			(void)pthread_cond_wait(&c->begun, &c->mutex);
			continue;
		}
		count = c->count;
		memcpy(fd, c->fd, count * sizeof(*fd));
		c->count = 0;
		(void)pthread_mutex_unlock(&c->mutex);
		close_all(fd, count);
		(void)pthread_mutex_lock(&c->mutex);
	}
	(void)pthread_mutex_unlock(&c->mutex);
	return NULL;
}

struct closer *
closer_new(void)
{
	struct closer *c = mem_alloc(sizeof(*c));

	(void)pthread_mutex_init(&c->mutex, NULL);
	(void)pthread_cond_init(&c->begun, NULL);
	return c;
}

/* As many as there is room for; returns the count. */
static size_t
hand_over(struct closer *c)
{
	size_t count = c->waiting_count;

	(void)pthread_mutex_lock(&c->mutex);
	if (count > CLOSING_MAX - c->count)
		count = CLOSING_MAX - c->count;
	memcpy(c->fd + c->count, c->waiting, count * sizeof(*c->fd));
	c->count += count;
	(void)pthread_cond_signal(&c->begun);
	(void)pthread_mutex_unlock(&c->mutex);
	return count;
}

void
closer_run(struct closer *c)
{
	size_t given = 0;

	if (c->waiting_count >= WORTH_IT && !c->tried) {
		c->made = spool_thread(&c->thread, serve, c) == 0;
		c->tried = true;
	}
	if (c->waiting_count >= WORTH_IT && c->made)
		given = hand_over(c);
	close_all(c->waiting + given, c->waiting_count - given);
	c->waiting_count = 0;
}

void
closer_add(struct closer *c, int fd)
{
	if (c->waiting_count == CLOSING_MAX)
		closer_run(c);
	c->waiting[c->waiting_count++] = fd;
}

void
closer_free(struct closer *c)
{
	if (c == NULL)
		return;
	closer_run(c);
	(void)pthread_mutex_lock(&c->mutex);
	c->stop = true;
	(void)pthread_cond_signal(&c->begun);
	(void)pthread_mutex_unlock(&c->mutex);
	if (c->made)
		(void)pthread_join(c->thread, NULL);
	(void)pthread_cond_destroy(&c->begun);
	(void)pthread_mutex_destroy(&c->mutex);
	free(c);
}
