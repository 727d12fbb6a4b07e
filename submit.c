/*
 * The submission side as a whole: its listeners and sessions, who gets a seat,
 * reload and stop.
 */
#include "submit.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct submit {
	struct sessions all;
	struct listener **listener;
	size_t listener_count;
	int64_t full_until_ms; /* until when a refusal isn't logged again */
};

enum { FULL_MS = 60 * 1000 };

/* ---- connections ---- */

/* NULL: there is a seat.  Else the reply to send away with. */
static const char *
find_seat(const struct submit *s, const struct peer *peer)
{
	unsigned limit = s->all.config->connection_limit;

	if (s->all.count.open >= limit)
		return "421 4.7.0 Too many connections\r\n";
	if (sessions_of(&s->all, peer) >= (limit + 1) / 2)
		return "421 4.7.0 Too many connections of yours\r\n";
	return NULL;
}

static void
log_full(struct submit *s, const struct peer *peer)
{
	int64_t now = loop_now(s->all.loop).mono_ms;

	if (now < s->full_until_ms)
		return;
	s->full_until_ms = now + FULL_MS;
	log_warning("smtpd", "too many connections: %u open, %zu from %s",
	    s->all.count.open, sessions_of(&s->all, peer), peer->name);
}

static void
on_accepted(void *arg, int fd, const struct peer *peer)
{
	struct submit *s = arg;
	const char *refusal = find_seat(s, peer);

	if (refusal != NULL) {
		log_full(s, peer);
		(void)send(fd, refusal, strlen(refusal), MSG_NOSIGNAL);
		fd_close(&fd);
		return;
	}
	session_start(session_new(&s->all, fd, fd, peer));
}

void
submit_session(struct submit *s, int in, int out, uid_t uid,
    void (*ended)(void *arg), void *arg)
{
	struct session *session;
	struct peer peer;

	peer_user(&peer, uid);
	(void)fd_nonblocking(in);
	(void)fd_nonblocking(out);
	session = session_new(&s->all, in, out, &peer);
	session_on_end(session, ended, arg);
	session_start(session);
}

/* ---- listeners ---- */

static void
begin_listener(struct submit *s, struct listener *l)
{
	s->listener = mem_array(s->listener, s->listener_count + 1,
	    sizeof(struct listener *));
	s->listener[s->listener_count++] = l;
	listener_accept(l, on_accepted, s);
	log_info(NULL, "listening on %s", listener_bound(l));
}

static struct listener *
find_listener(const struct submit *s, const struct config_listen *c)
{
	size_t i;

	for (i = 0; i < s->listener_count; i++)
		if (listener_is_for(s->listener[i], c))
			return s->listener[i];
	return NULL;
}

int
submit_listen(struct submit *s, const struct config_listen *l, int fd,
    struct buf *error)
{
	struct listener *new = listener_new(s->all.loop, l, fd, error);

	if (new == NULL)
		return -1;
	begin_listener(s, new);
	return 0;
}

/* Open those of config that are not there yet into fresh, all or none; NULL
 * where there is nothing to open. */
static int
open_listeners(struct submit *s, const struct config *config,
    struct listener **fresh, struct buf *error)
{
	size_t i;

	for (i = 0; i < config->listen_count; i++) {
		const struct config_listen *c = &config->listen[i];

		if (find_listener(s, c) != NULL)
			continue;
		fresh[i] = listener_new(s->all.loop, c, -1, error);
		if (fresh[i] != NULL)
			continue;
		if (!c->implicit)
			goto fail;
		log_warning(NULL, "%s", buf_text(error));
		buf_clear(error);
	}
	return 0;
fail:
	while (i-- > 0)
		listener_free(fresh[i]);
	return -1;
}

static bool
is_wanted(const struct listener *l, const struct config *config)
{
	size_t i;

	for (i = 0; i < config->listen_count; i++)
		if (listener_is_for(l, &config->listen[i]))
			return true;
	return listener_adopted(l); /* it came with the service's start */
}

static void
close_unwanted(struct submit *s, const struct config *config)
{
	size_t i, kept = 0;

	for (i = 0; i < s->listener_count; i++) {
		if (is_wanted(s->listener[i], config))
			s->listener[kept++] = s->listener[i];
		else
			listener_free(s->listener[i]);
	}
	s->listener_count = kept;
}

int
submit_configure(struct submit *s, struct config *config, struct buf *error)
{
	struct listener **fresh =
	    mem_alloc((config->listen_count + 1) * sizeof(struct listener *));
	struct listener *old;
	size_t i;
	int ret = open_listeners(s, config, fresh, error);

	if (ret == -1)
		goto out;
	close_unwanted(s, config);
	for (i = 0; i < config->listen_count; i++) {
		old = find_listener(s, &config->listen[i]);
		if (old != NULL)
			listener_configure(old, &config->listen[i]);
		if (fresh[i] != NULL) {
			begin_listener(s, fresh[i]);
		}
	}
	config_release(s->all.config);
	s->all.config = config_hold(config);
	intake_configure(s->all.intake, config);
out:
	free(fresh);
	return ret;
}

static void
close_listeners(struct submit *s)
{
	while (s->listener_count > 0)
		listener_free(s->listener[--s->listener_count]);
}

/* ---- the whole ---- */

struct submit *
submit_new(struct loop *l, struct queue *q, struct sched *sched,
    struct config *config)
{
	struct submit *s = mem_alloc(sizeof(*s));

	s->all.loop = l;
	s->all.config = config_hold(config);
	s->all.intake = intake_new(l, q, sched, config);
	LIST_INIT(&s->all.list);
	return s;
}

void
submit_free(struct submit *s)
{
	if (s == NULL)
		return;
	close_listeners(s);
	sessions_end(&s->all);
	intake_free(s->all.intake);
	config_release(s->all.config);
	free(s->listener);
	free(s);
}

void
submit_stop(struct submit *s)
{
	close_listeners(s);
	sessions_stop(&s->all);
}

bool
submit_busy(const struct submit *s)
{
	return intake_pending(s->all.intake) > 0;
}

const char *
submit_message(struct submit *s, const char *sender, const char *recipient,
    struct span text, queue_committed *handler, void *arg)
{
	struct draft *d = NULL;
	struct draft_facts facts = { .helo = "" };
	struct smtp_rcpt parameters = { 0 };
	struct peer peer;
	const char *refusal;

	peer_user(&peer, getuid());
	facts.peer = &peer;
	refusal = draft_new(s->all.intake, &facts, span_of(sender), &d);
	if (refusal != NULL)
		return refusal;
	refusal = draft_recipient(d, span_of(recipient), &parameters);
	if (refusal == NULL)
		refusal = draft_begin(d, text.len);
	if (refusal == NULL) {
		draft_write(d, text);
		refusal = draft_commit(d, handler, arg);
	}
	if (refusal != NULL)
		draft_free(d);
	return refusal;
}

struct intake *
submit_intake(struct submit *s)
{
	return s->all.intake;
}

int
submit_requeue(struct submit *s, queue_id id)
{
	return intake_requeue(s->all.intake, id);
}

void
submit_status(const struct submit *s, struct submit_status *status)
{
	*status = s->all.count;
	status->aliases = intake_aliases(s->all.intake);
}

void
submit_listeners(const struct submit *s, struct strings *out)
{
	size_t i;

	for (i = 0; i < s->listener_count; i++)
		strings_add(out, span_of(listener_bound(s->listener[i])));
}
