/*
 * Files made durable side by side.
 *
 * Each fdatasync() has the disk empty its cache, one after the other; those
 * that wait at the same time share it.  So a few threads, which do nothing
 * else and know nothing, take their part of a group.  They are made when there
 * is a group that is worth it; without any it only takes longer.
 */
#include "spool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	HELPERS = 3,
	WORTH_IT = 4, /* files in a group */
	STACK_OCTETS = 128 << 10,
};

struct syncer {
	pthread_mutex_t mutex;
	pthread_cond_t begun, ended;
	pthread_t helper[HELPERS];
	size_t helpers;
	bool tried; /* to make them */
	bool stop;
	struct sync_file *file; /* the group's */
	size_t count, next, finished;
};

/* Sync what is left of the group; the mutex is held but for the waiting. */
static void
take_part(struct syncer *s)
{
	while (s->next < s->count) {
		struct sync_file *f = &s->file[s->next++];

		(void)pthread_mutex_unlock(&s->mutex);
		f->error = fdatasync(f->fd) == -1 ? errno : 0;
		(void)pthread_mutex_lock(&s->mutex);
		if (++s->finished == s->count)
			(void)pthread_cond_signal(&s->ended);
	}
}

static void *
help(void *arg)
{
	struct syncer *s = arg;

	(void)pthread_mutex_lock(&s->mutex);
	while (!s->stop) {
		take_part(s);
		(void)pthread_cond_wait(&s->begun, &s->mutex);
	}
	(void)pthread_mutex_unlock(&s->mutex);
	return NULL;
}

/* Signals are the loop's: none is to interrupt a helper. */
static void
make_helpers(struct syncer *s)
{
	pthread_attr_t attributes;
	sigset_t all, before;

	s->tried = true;
	if (pthread_attr_init(&attributes) != 0)
		return;
	(void)pthread_attr_setstacksize(&attributes, STACK_OCTETS);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	while (s->helpers < HELPERS &&
	    pthread_create(&s->helper[s->helpers], &attributes, help, s) == 0)
		s->helpers++;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attributes);
}

struct syncer *
syncer_new(void)
{
	struct syncer *s = mem_alloc(sizeof(*s));

	(void)pthread_mutex_init(&s->mutex, NULL);
	(void)pthread_cond_init(&s->begun, NULL);
	(void)pthread_cond_init(&s->ended, NULL);
	return s;
}

void
syncer_run(struct syncer *s, struct sync_file *file, size_t count)
{
	if (count >= WORTH_IT && !s->tried)
		make_helpers(s);
	(void)pthread_mutex_lock(&s->mutex);
	s->file = file;
	s->count = count;
	s->next = s->finished = 0;
	if (count >= WORTH_IT)
		(void)pthread_cond_broadcast(&s->begun);
	take_part(s);
	while (s->finished < s->count)
		(void)pthread_cond_wait(&s->ended, &s->mutex);
	(void)pthread_mutex_unlock(&s->mutex);
}

void
syncer_free(struct syncer *s)
{
	size_t i;

	if (s == NULL)
		return;
	(void)pthread_mutex_lock(&s->mutex);
	s->stop = true;
	(void)pthread_cond_broadcast(&s->begun);
	(void)pthread_mutex_unlock(&s->mutex);
	for (i = 0; i < s->helpers; i++)
		(void)pthread_join(s->helper[i], NULL);
	(void)pthread_cond_destroy(&s->ended);
	(void)pthread_cond_destroy(&s->begun);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s);
}
