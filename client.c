/*
 * One client of the control socket: its rights, its request's words, its
 * answer.  What a verb does is in verbs.c and operate.c.
 *
 * Nothing here waits: the spool is read in slices, and an answer is made as
 * its client takes it.  Only the client's own handlers free a client; what
 * else happens to it (a commit, a delivery) just adds to its answer.
 */
#include "control.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SLICE = 100,             /* messages looked at in a turn ... */
	SLICE_OCTETS = 64 << 10, /* ... until the answer is so long */
};

/* ---- a client and its answer ---- */

void
client_free(struct client *c)
{
	struct client **p = &c->control->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->control->client_count--;
	if (c->pending != NULL)
		c->pending->client = NULL;
	loop_timer_clear(c->control->parts.loop, &c->timer);
	loop_unwatch(c->control->parts.loop, c->fd);
	fd_close(&c->fd);
	if (c->walk != NULL)
		queue_walk_free(c->walk);
	free(c->filter.id);
	free(c->chosen);
	strings_free(&c->words);
	buf_free(&c->in);
	buf_free(&c->out);
	free(c);
}

/* Begin with the next place when none is being walked; false: none is left. */
static bool
walk_place(struct client *c)
{
	for (; c->walk == NULL && c->place < PLACES; c->place++)
		if ((c->places & 1u << c->place) != 0)
			c->walk = queue_walk_new(c->control->parts.queue,
			    (enum queue_place)c->place, QUEUE_WALK_ENVELOPE);
	return c->walk != NULL;
}

static void
walk_slice(struct client *c)
{
	const struct queue_info *info;
	int n;

	for (n = 0; n < SLICE && c->out.len < SLICE_OCTETS; n++) {
		if (!walk_place(c)) {
			c->produce = NULL;
			c->visited(c);
			return;
		}
		if (queue_walk_next(c->walk, &info)) {
			c->visit(c, info);
		} else {
			queue_walk_free(c->walk);
			c->walk = NULL;
		}
	}
}

/* Is nothing more of the answer made until something happens? */
static bool
is_waiting(const struct client *c)
{
	return c->out.len == 0 && (c->produce == NULL || c->pending != NULL);
}

/* Write what there is of the answer; nobody is left to hear it when there is
 * nothing to write. */
static void
on_answer(void *arg, unsigned events)
{
	struct client *c = arg;
	struct loop *l = c->control->parts.loop;
	ssize_t n = 0;

	(void)events;
	if (is_waiting(c)) {
		client_free(c);
		return;
	}
	if (!c->testing)
		loop_timer_set(l, &c->timer, CLIENT_TIMEOUT_MS);
	if (c->out.len == 0)
		c->produce(c);
	if (c->out.len > 0)
		n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
	if (n == -1 && errno == EAGAIN)
		return;
	if (n >= 0)
		buf_drop(&c->out, (size_t)n);
	if (n == -1 || (c->ended && c->out.len == 0))
		client_free(c);
	else if (is_waiting(c))
		(void)loop_watch(l, c->fd, 0, on_answer, c);
}

void
client_wait(struct client *c)
{
	(void)loop_watch(c->control->parts.loop, c->fd, 0, on_answer, c);
}

void
client_wake(struct client *c)
{
	(void)loop_watch(c->control->parts.loop, c->fd, LOOP_WRITE, on_answer,
	    c);
}

void
client_add(struct client *c, char kind, struct span text)
{
	struct span line;

	while (text.len > 0) {
		(void)span_cut(text, '\n', &line, &text);
		buf_add_char(&c->out, kind);
		buf_add(&c->out, line);
		buf_add_char(&c->out, '\n');
	}
}

void
client_say(struct client *c, char kind, struct span text)
{
	client_add(c, kind, text);
	if (c->out.len > 0)
		client_wake(c);
}

void
client_complain(struct client *c, const char *about, const char *text)
{
	buf_add_text(&c->out, "erelayctl: ");
	buf_add_escaped(&c->out, span_of(about));
	buf_printf(&c->out, ": %s\n", text);
	client_wake(c);
}

void
client_finish(struct client *c, int status)
{
	buf_printf(&c->out, "x%d\n", status);
	c->ended = true;
	c->testing = false;
	loop_timer_set(c->control->parts.loop, &c->timer, CLIENT_TIMEOUT_MS);
	client_wake(c);
}

bool
client_is_operator(const struct client *c)
{
	return c->uid == 0 || c->uid == geteuid();
}

bool
client_take_option(const struct client *c, const char *option, size_t *i)
{
	if (*i >= c->words.count || strcmp(c->words.item[*i], option) != 0)
		return false;
	++*i;
	return true;
}

bool
client_take_ids(struct client *c, size_t i)
{
	struct report_filter *f = &c->filter;
	queue_id id;

	for (; i < c->words.count; i++) {
		if (!queue_id_parse(span_of(c->words.item[i]), &id)) {
			client_complain(c, c->words.item[i], "not a queue id");
			client_finish(c, STATUS_USAGE);
			return false;
		}
		f->id = mem_array(f->id, f->id_count + 1, sizeof(id));
		f->id[f->id_count++] = id;
	}
	return true;
}

void
client_usage(struct client *c)
{
	client_complain(c, c->words.item[0], "wrong arguments");
	client_finish(c, STATUS_USAGE);
}

void
client_walk(struct client *c, unsigned places,
    void (*visit)(struct client *c, const struct queue_info *info),
    void (*visited)(struct client *c))
{
	c->produce = walk_slice;
	c->places = places;
	c->visit = visit;
	c->visited = visited;
	client_wake(c);
}
