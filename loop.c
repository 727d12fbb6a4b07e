/*
 * Waits for descriptors, timers and signals, and calls their handlers.
 *
 * One turn: wait, read the clocks, run what is due, then the end-of-turn
 * handlers (which make everything that the turn accepted durable together).
 * Timers live in a heap and are served by the wait's own timeout.
 */
#include "relayd.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	EVENTS_A_TURN = 64,
	WAIT_MAX_MS = 60 * 60 * 1000,
	SIGNALS = 65,
	TURN_HANDLERS = 4,
};

struct watch {
	void (*handler)(void *arg, unsigned events);
	void *arg;
	uint32_t generation; /* tells a reused descriptor from its elder */
	bool watched;
};

struct call {
	void (*handler)(void *arg);
	void *arg;
};

struct loop {
	int epoll;
	int signal;
	sigset_t signals;
	struct call on_signal[SIGNALS];
	struct watch *watch; /* by descriptor */
	size_t watch_count;
	struct timer **heap; /* the earliest first */
	size_t timer_count;
	size_t timer_size;
	struct call on_turn_end[TURN_HANDLERS];
	size_t on_turn_end_count;
	struct instant now;
	struct histogram turns; /* without the waiting */
	bool turned;
	bool hurry;
	bool stop;
};

/* ---- descriptors ---- */

static struct watch *
watch_of(struct loop *l, int fd)
{
	size_t i = (size_t)fd, old = l->watch_count;

	if (i >= old) {
		l->watch_count = i + 16;
		l->watch =
		    mem_array(l->watch, l->watch_count, sizeof(*l->watch));
		for (; old < l->watch_count; old++)
			l->watch[old] = (struct watch){ .watched = false };
	}
	return &l->watch[i];
}

int
loop_watch(struct loop *l, int fd, unsigned events,
    void (*handler)(void *arg, unsigned events), void *arg)
{
	struct watch *w = watch_of(l, fd);
	struct epoll_event ev = { .events = 0 };

	if (!w->watched)
		w->generation++;
	if ((events & LOOP_READ) != 0)
		ev.events |= EPOLLIN;
	if ((events & LOOP_WRITE) != 0)
		ev.events |= EPOLLOUT;
	ev.data.u64 = (uint64_t)w->generation << 32 | (uint32_t)fd;
	if (epoll_ctl(l->epoll, w->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
		&ev) == -1)
		return -1;
	w->watched = true;
	w->handler = handler;
	w->arg = arg;
	return 0;
}

void
loop_unwatch(struct loop *l, int fd)
{
	if (fd < 0 || (size_t)fd >= l->watch_count || !l->watch[fd].watched)
		return;
	l->watch[fd].watched = false;
	(void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void
run_event(struct loop *l, const struct epoll_event *ev)
{
	uint32_t fd = (uint32_t)ev->data.u64;
	const struct watch *w = &l->watch[fd];
	unsigned events = 0;

	if (!w->watched || w->generation != ev->data.u64 >> 32)
		return;
	if ((ev->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		events |= LOOP_READ;
	if ((ev->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
		events |= LOOP_WRITE;
	w->handler(w->arg, events);
}

/* ---- timers ---- */

static void
heap_put(struct loop *l, size_t i, struct timer *t)
{
	l->heap[i] = t;
	t->place = i + 1;
}

static void
heap_up(struct loop *l, size_t i, struct timer *t)
{
	while (i > 0 && t->at_ms < l->heap[(i - 1) / 2]->at_ms) {
		heap_put(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(l, i, t);
}

static void
heap_down(struct loop *l, size_t i, struct timer *t)
{
	size_t child;

	while ((child = 2 * i + 1) < l->timer_count) {
		if (child + 1 < l->timer_count &&
		    l->heap[child + 1]->at_ms < l->heap[child]->at_ms)
			child++;
		if (t->at_ms <= l->heap[child]->at_ms)
			break;
		heap_put(l, i, l->heap[child]);
		i = child;
	}
	heap_put(l, i, t);
}

void
loop_timer_clear(struct loop *l, struct timer *t)
{
	struct timer *last;
	size_t i = t->place - 1;

	if (t->place == 0)
		return;
	assert(l->heap[i] == t);
	t->place = 0;
	last = l->heap[--l->timer_count];
	if (last == t)
		return;
	heap_down(l, i, last);
	heap_up(l, last->place - 1, last);
}

void
loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms)
{
	loop_timer_clear(l, t);
	if (l->timer_count == l->timer_size) {
		l->timer_size = l->timer_size == 0 ? 64 : l->timer_size * 2;
		l->heap =
		    mem_array(l->heap, l->timer_size, sizeof(struct timer *));
	}
	t->at_ms = l->now.mono_ms + (delay_ms < 0 ? 0 : delay_ms);
	heap_up(l, l->timer_count++, t);
}

/* A timer is unhooked before its handler runs, so that it may be set again;
 * one set to "at once" by a handler waits for the next turn. */
static void
run_timers(struct loop *l)
{
	size_t left = l->timer_count;

	while (left-- > 0 && l->timer_count > 0 &&
	    l->heap[0]->at_ms <= l->now.mono_ms) {
		struct timer *t = l->heap[0];

		loop_timer_clear(l, t);
		t->handler(t->arg);
	}
}

static int
wait_ms(const struct loop *l)
{
	int64_t wait = WAIT_MAX_MS;

	if (l->hurry || l->stop)
		return 0;
	if (l->timer_count > 0 && l->heap[0]->at_ms - l->now.mono_ms < wait)
		wait = l->heap[0]->at_ms - l->now.mono_ms;
	return wait < 0 ? 0 : (int)wait;
}

/* ---- signals ---- */

static void
run_signals(void *arg, unsigned events)
{
	struct loop *l = arg;
	struct signalfd_siginfo info;

	(void)events;
	while (read(l->signal, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		struct call *c = &l->on_signal[info.ssi_signo % SIGNALS];

		if (c->handler != NULL)
			c->handler(c->arg);
	}
}

int
loop_signal(struct loop *l, int signo, void (*handler)(void *arg), void *arg)
{
	int fd;

	assert(signo > 0 && signo < SIGNALS);
	(void)sigaddset(&l->signals, signo);
	l->on_signal[signo] = (struct call){ handler, arg };
	if (sigprocmask(SIG_BLOCK, &l->signals, NULL) == -1)
		return -1;
	fd = signalfd(l->signal, &l->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd == -1)
		return -1;
	l->signal = fd;
	return loop_watch(l, fd, LOOP_READ, run_signals, l);
}

/* ---- the loop ---- */

struct loop *
loop_new(void)
{
	struct loop *l = mem_alloc(sizeof(*l));

	l->signal = -1;
	(void)sigemptyset(&l->signals);
	clock_read(&l->now);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll == -1) {
		free(l);
		return NULL;
	}
	return l;
}

void
loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	fd_close(&l->signal);
	fd_close(&l->epoll);
	free(l->watch);
	free(l->heap);
	free(l);
}

void
loop_at_turn_end(struct loop *l, void (*handler)(void *arg), void *arg)
{
	assert(l->on_turn_end_count < TURN_HANDLERS);
	l->on_turn_end[l->on_turn_end_count++] = (struct call){ handler, arg };
}

void
loop_hurry(struct loop *l)
{
	l->hurry = true;
}

struct instant
loop_now(const struct loop *l)
{
	return l->now;
}

const struct histogram *
loop_turns(const struct loop *l)
{
	return &l->turns;
}

int
loop_turn(struct loop *l)
{
	struct epoll_event events[EVENTS_A_TURN];
	int64_t began_ms = l->now.mono_ms;
	int i, n;
	size_t k;

	clock_read(&l->now);
	if (l->turned)
		histogram_add(&l->turns, l->now.mono_ms - began_ms);
	l->turned = true;
	n = epoll_wait(l->epoll, events, EVENTS_A_TURN, wait_ms(l));
	if (n == -1 && errno != EINTR)
		return -1;
	clock_read(&l->now);
	l->hurry = false;
	for (i = 0; i < n; i++)
		run_event(l, &events[i]);
	run_timers(l);
	for (k = 0; k < l->on_turn_end_count; k++)
		l->on_turn_end[k].handler(l->on_turn_end[k].arg);
	return 0;
}

int
loop_run(struct loop *l)
{
	l->stop = false;
	while (!l->stop) {
		if (loop_turn(l) == -1)
			return -1;
	}
	return 0;
}

void
loop_stop(struct loop *l)
{
	l->stop = true;
}
