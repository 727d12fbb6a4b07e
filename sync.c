/*
 * Files made durable side by side.
 *
 * Each fdatasync() has the disk empty its cache, one after the other; those
 * that wait at the same time share it.  So some threads, which do nothing else
 * and know nothing, do it for a group, while whoever gave it to them goes on or
 * takes part.  They are made when there is a group that is worth it; without
 * any it only takes longer.
 */
#include "spool.h"

#include <sys/eventfd.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	HELPERS = 16,
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
	int event; /* to be written to when the group is done; -1: none */
};

static void
end_group(struct syncer *s)
{
	(void)pthread_cond_signal(&s->ended);
	if (s->event != -1)
		(void)eventfd_write(s->event, 1);
}

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
			end_group(s);
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

int
spool_thread(pthread_t *thread, void *run(void *arg), void *arg)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int error = pthread_attr_init(&attributes);

	if (error != 0)
		return error;
	(void)pthread_attr_setstacksize(&attributes, STACK_OCTETS);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(thread, &attributes, run, arg);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attributes);
	return error;
}

static void
make_helpers(struct syncer *s)
{
	s->tried = true;
	while (s->helpers < HELPERS &&
	    spool_thread(&s->helper[s->helpers], help, s) == 0)
		s->helpers++;
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
syncer_start(struct syncer *s, struct sync_file *file, size_t count, int event)
{
	bool helped = count >= WORTH_IT;

	if (helped && !s->tried)
		make_helpers(s);
	helped = helped && s->helpers > 0;
	(void)pthread_mutex_lock(&s->mutex);
	s->file = file;
	s->count = count;
	s->next = s->finished = 0;
	s->event = helped ? event : -1;
	if (helped)
		(void)pthread_cond_broadcast(&s->begun);
	else
		take_part(s);
	(void)pthread_mutex_unlock(&s->mutex);
}

bool
syncer_is_done(struct syncer *s)
{
	bool done;

	(void)pthread_mutex_lock(&s->mutex);
	done = s->finished == s->count;
	(void)pthread_mutex_unlock(&s->mutex);
	return done;
}

void
syncer_wait(struct syncer *s)
{
	(void)pthread_mutex_lock(&s->mutex);
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
