/*
 * A client's connection: its descriptors, its deadline, its end.  What is
 * said on it is dialogue.c's.
 */
#include "session.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	INPUT_OCTETS = 32 << 10,  /* read at once */
	OUTPUT_OCTETS = 64 << 10, /* unsent ones that stop the reading */
	RATE = 500,               /* octets a second that content must make */
	LINGER_MS = 1000,
};

static bool
wants_input(const struct session *s)
{
	return !s->gone && s->state != IN_COMMIT && s->state != CLOSING &&
	    s->output.len <= OUTPUT_OCTETS;
}

static void
receive(struct session *s)
{
	ssize_t n;

	if (!wants_input(s) || s->again.place != 0)
		return; /* what has been read comes first */
	buf_reserve(&s->input, INPUT_OCTETS);
	n = read(s->in, s->input.data + s->input.len, INPUT_OCTETS);
	if (n > 0) {
		s->input.len += (size_t)n;
		session_run(s);
	} else if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
		if (s->input.len == 0)
			buf_free(&s->input);
	} else if (s->state == LINGERING) {
		s->gone = true;
	} else {
		/* Replies may still be read: only its own side is closed. */
		if (s->commands > 0)
			session_log_after(s, "lost connection");
		session_drop_message(s);
		s->state = CLOSING;
	}
}

static void
watch_one(struct session *s, int fd, unsigned events, unsigned *watched)
{
	struct loop *l = s->all->loop;

	if (events == *watched)
		return;
	*watched = events;
	if (events == 0) {
		loop_unwatch(l, fd);
	} else if (loop_watch(l, fd, events, s->event, s) == -1) {
		*watched = 0;
		s->file = errno == EPERM;
		s->gone = !s->file;
		loop_timer_set(l, &s->again, 0);
	}
}

static void
watch(struct session *s)
{
	/* Few send anything before their message is stored; once one has, it
	 * is looked at again behind that. */
	bool quiet = s->state == IN_COMMIT && !s->early && !s->gone;
	unsigned in = wants_input(s) || quiet ? LOOP_READ : 0;
	unsigned out = s->output.len > 0 && !s->gone ? LOOP_WRITE : 0;

	if (s->in == s->out) {
		watch_one(s, s->in, in | out, &s->watched_in);
	} else {
		watch_one(s, s->in, in, &s->watched_in);
		watch_one(s, s->out, out, &s->watched_out);
	}
}

/*
 * A client that was hung up on may still be sending.  Closing now would make
 * the kernel reset the connection, and with it the reply that says why.
 */
static void
linger(struct session *s)
{
	if (!s->refused || shutdown(s->out, SHUT_WR) == -1) {
		s->gone = true;
		return;
	}
	s->state = LINGERING;
	loop_timer_set(s->all->loop, &s->deadline, LINGER_MS);
}

/* Whatever it does. */
static void
end(struct session *s)
{
	struct loop *l = s->all->loop;

	session_log_end(s);
	LIST_REMOVE(s, entry);
	s->all->count.open--;
	loop_timer_clear(l, &s->deadline);
	loop_timer_clear(l, &s->again);
	loop_unwatch(l, s->in);
	loop_unwatch(l, s->out);
	if (s->out != s->in)
		fd_close(&s->out);
	fd_close(&s->in);
	if (s->state != IN_COMMIT) /* else it is no longer ours */
		draft_free(s->draft);
	buf_free(&s->input);
	buf_free(&s->output);
	free(s->helo);
	if (s->ended != NULL)
		s->ended(s->ended_arg);
	free(s);
}

/* To be called at the end of every handler; s may be no more afterwards. */
static void
settle(struct session *s)
{
	if (s->all->stopping &&
	    (s->state == AWAIT_HELLO || s->state == AWAIT_MAIL))
		s->state = session_hang_up(s,
		    "421 4.3.2 The service is stopping", "stopping");
	session_flush(s);
	if (s->state == CLOSING && s->output.len == 0)
		linger(s);
	if (s->gone && s->state != IN_COMMIT)
		end(s);
	else
		watch(s);
}

static void
on_event(void *arg, unsigned events)
{
	struct session *s = arg;

	s->early = s->state == IN_COMMIT && (events & LOOP_READ) != 0;
	if ((events & LOOP_READ) != 0)
		receive(s);
	settle(s);
}

static void
on_again(void *arg)
{
	struct session *s = arg;

	session_run(s);
	if (s->file)
		receive(s);
	settle(s);
}

static void
on_deadline(void *arg)
{
	struct session *s = arg;
	uint64_t least = (uint64_t)s->patience_ms * RATE / 1000;

	if ((s->state == IN_DATA || s->state == IN_CHUNK) &&
	    s->content - s->content_was >= least) {
		session_set_deadline(s);
		return;
	}
	if (s->state == LINGERING) {
		s->gone = true;
	} else if (s->output.len > 0) { /* it does not read */
		session_log_after(s, "timeout");
		s->gone = true;
	} else {
		s->state = session_hang_up(s, "421 4.4.2 Timeout", "timeout");
	}
	settle(s);
}

/* ---- sessions ---- */

struct session *
session_new(struct sessions *all, int in, int out, const struct peer *peer)
{
	struct session *s = mem_alloc(sizeof(*s));

	s->all = all;
	s->in = in;
	s->out = out;
	s->peer = *peer;
	s->helo = mem_text("");
	s->event = on_event;
	s->deadline.handler = on_deadline;
	s->deadline.arg = s;
	s->again.handler = on_again;
	s->again.arg = s;
	LIST_INSERT_HEAD(&all->list, s, entry);
	all->count.sessions++;
	all->count.open++;
	return s;
}

void
session_on_end(struct session *s, void (*ended)(void *arg), void *arg)
{
	s->ended = ended;
	s->ended_arg = arg;
}

void
session_start(struct session *s)
{
	struct buf b = { 0 };

	buf_printf(&b, "220 %s ESMTP relayd", s->all->config->hostname);
	session_say(s, buf_text(&b));
	buf_free(&b);
	session_set_deadline(s);
	/* sendmail does not wait for the greeting: one write for both replies. */
	if (s->in == s->out && s->peer.uid != -1)
		receive(s);
	settle(s);
}

void
sessions_stop(struct sessions *all)
{
	struct session *s, *next;

	all->stopping = true;
	for (s = LIST_FIRST(&all->list); s != NULL; s = next) {
		next = LIST_NEXT(s, entry);
		settle(s);
	}
}

void
sessions_end(struct sessions *all)
{
	struct session *s, *next;

	for (s = LIST_FIRST(&all->list); s != NULL; s = next) {
		next = LIST_NEXT(s, entry);
		end(s);
	}
	sessions_report(all);
	loop_timer_clear(all->loop, &all->report);
	buf_free(&all->text);
}

size_t
sessions_of(const struct sessions *all, const struct peer *peer)
{
	const struct session *s;
	size_t count = 0;

	LIST_FOREACH(s, &all->list, entry)
	count += peer_equal(&s->peer, peer);
	return count;
}
