/*
 * What the operator does to chosen messages: hold, release, requeue, delete,
 * bounce.
 *
 * The messages are named by their ids, or sought in the spool first, since it
 * changes under the hands of what is done.  Both go in slices, so that mail
 * flows meanwhile; a message that is being sent at the moment is left alone
 * and told.
 */
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define IN(place) (1u << (place))

struct operation {
	const char *verb;
	const char *done;   /* "held", for answer and log */
	const char *absent; /* what to say of a message that is not there */
	unsigned places;    /* where messages are sought */
	unsigned slice;     /* messages a turn */
	int (*act)(struct client *c, queue_id id); /* -1: errno */
};

/* ---- what can be done ---- */

static int
hold(struct client *c, queue_id id)
{
	return queue_hold(c->control->parts.queue, id);
}

static int
release(struct client *c, queue_id id)
{
	return queue_release(c->control->parts.queue, id);
}

static int
requeue(struct client *c, queue_id id)
{
	return submit_requeue(c->control->parts.submit, id);
}

static int
erase(struct client *c, queue_id id)
{
	return queue_delete(c->control->parts.queue, id);
}

static const char *
reason(const struct operation *o, int error)
{
	if (error == ENOENT)
		return o->absent;
	if (error == EBUSY)
		return "it is being sent, or some of its recipients wait";
	if (error == EBADMSG)
		return "it is damaged";
	if (error == EPERM)
		return "one of its recipients would be refused now; see "
		       "relayctl explain";
	if (error == EDESTADDRREQ)
		return "it has no sender who wants to be told";
	if (error == EALREADY)
		return "nobody is left to send it to";
	return strerror(error);
}

static void
complain(struct client *c, queue_id id, int error)
{
	char name[QUEUE_ID_MAX];

	/* One that was found may have been delivered meanwhile. */
	if (error == ENOENT && c->filter.id_count == 0)
		return;
	queue_id_text(id, name);
	client_complain(c, name, reason(c->operation, error));
	c->operation_failed = true;
}

/* A report is stored, or can't be; go on with the next slice after the last. */
static void
on_bounced(void *arg, queue_id id, int error)
{
	struct pending *pending = arg;
	struct client *c = pending->client;
	bool last = --pending->left == 0;

	if (last)
		free(pending);
	if (c == NULL)
		return;
	if (error == 0)
		c->chosen_done++;
	else
		complain(c, id, error);
	if (last) {
		c->pending = NULL;
		client_wake(c);
	}
}

static int
bounce(struct client *c, queue_id id)
{
	struct pending *pending = c->pending;

	if (pending == NULL)
		pending = mem_alloc(sizeof(*pending));
	pending->client = c;
	if (bounce_now(c->control->parts.bounce, id, on_bounced, pending) ==
	    -1) {
		if (c->pending == NULL)
			free(pending);
		return -1;
	}
	pending->left++;
	c->pending = pending;
	return 0;
}

static const struct operation operations[] = {
	{ "bounce", "bounced", "no such message",
	    IN(PLACE_NEW) | IN(PLACE_CUR) | IN(PLACE_HOLD) | IN(PLACE_FAILED),
	    5, bounce },
	{ "delete", "deleted", "no such message",
	    IN(PLACE_NEW) | IN(PLACE_CUR) | IN(PLACE_HOLD) | IN(PLACE_FAILED),
	    50, erase },
	{ "hold", "held", "not in the queue", IN(PLACE_NEW) | IN(PLACE_CUR), 50,
	    hold },
	{ "release", "released", "neither failed nor on hold",
	    IN(PLACE_HOLD) | IN(PLACE_FAILED), 10, release },
	{ "requeue", "requeued", "no such message",
	    IN(PLACE_NEW) | IN(PLACE_CUR) | IN(PLACE_FAILED), 1, requeue },
};

/* ---- doing it ---- */

/* Whatever becomes of it, the scheduler is told where it is to be now. */
static void
operate(struct client *c, queue_id id)
{
	const struct operation *o = c->operation;
	const struct control_parts *p = &c->control->parts;
	char name[QUEUE_ID_MAX];

	queue_id_text(id, name);
	errno = EBUSY;
	if (sched_is_active(p->sched, id) || bounce_has(p->bounce, id) ||
	    o->act(c, id) == -1) {
		complain(c, id, errno);
		return;
	}
	c->chosen_done += o->act != bounce; /* on_bounced() counts those */
	log_info("qmgr", "%s: %s by uid=%lld", name, o->done,
	    (long long)c->uid);
	sched_forget(p->sched, id);
	if (o->act == release || o->act == requeue)
		sched_add(p->sched, id, loop_now(p->loop).wall_ms);
}

static void
operate_slice(struct client *c)
{
	struct buf text = { NULL, 0, 0 };
	unsigned n;

	for (n = 0; n < c->operation->slice; n++) {
		if (c->chosen_at == c->chosen_count)
			break;
		operate(c, c->chosen[c->chosen_at++]);
	}
	if (c->chosen_at < c->chosen_count || c->pending != NULL)
		return;
	c->produce = NULL;
	buf_printf(&text, "%zu message%s %s\n", c->chosen_done,
	    c->chosen_done == 1 ? "" : "s", c->operation->done);
	client_say(c, 'o', buf_span(&text));
	buf_free(&text);
	client_finish(c, c->operation_failed ? STATUS_WRONG : STATUS_GOOD);
}

static void
choose(struct client *c, queue_id id)
{
	/* A power of two: full. */
	if ((c->chosen_count & (c->chosen_count - 1)) == 0)
		c->chosen = mem_array(c->chosen,
		    c->chosen_count == 0 ? 1 : c->chosen_count * 2, sizeof(id));
	c->chosen[c->chosen_count++] = id;
}

static void
start(struct client *c)
{
	c->produce = operate_slice;
	client_wake(c);
}

/* ---- choosing ---- */

static void
visit(struct client *c, const struct queue_info *info)
{
	if (report_wants(&c->filter, info))
		choose(c, info->id);
}

/* The oldest first; one may stand in cur/ and in failed/. */
static void
visited(struct client *c)
{
	size_t i, kept = 0;

	if (c->chosen_count > 0)
		qsort(c->chosen, c->chosen_count, sizeof(*c->chosen),
		    queue_id_compare);
	for (i = 0; i < c->chosen_count; i++) {
		if (i == 0 || c->chosen[i] != c->chosen[kept - 1])
			c->chosen[kept++] = c->chosen[i];
	}
	c->chosen_count = kept;
	start(c);
}

/* The option at *i, with its value, sets what is sought; false: it is none,
 * or its value is wrong. */
static bool
take_choice(struct client *c, size_t *i)
{
	struct report_filter *f = &c->filter;
	const char *value;
	int64_t seconds;

	if (client_take_option(c, "--all", i))
		return true;
	if (*i + 1 >= c->words.count)
		return false;
	value = c->words.item[*i + 1];
	if (client_take_option(c, "--sender", i))
		f->sender = strcmp(value, "<>") == 0 ? "" : value;
	else if (client_take_option(c, "--recipient", i))
		f->recipient = value;
	else if (!client_take_option(c, "--older", i) ||
	    !parse_duration(span_of(value), &seconds))
		return false;
	else
		f->before_ms =
		    loop_now(c->control->parts.loop).wall_ms - seconds * 1000;
	++*i;
	return true;
}

void
client_operate(struct client *c)
{
	size_t i = 1, o = 0;

	while (strcmp(operations[o].verb, c->words.item[0]) != 0)
		o++;
	c->operation = &operations[o];
	c->filter.everyones = true;
	while (i < c->words.count && c->words.item[i][0] == '-') {
		if (!take_choice(c, &i)) {
			client_usage(c);
			return;
		}
	}
	if ((i == 1) == (i == c->words.count)) { /* both or neither */
		client_usage(c);
		return;
	}
	if (i > 1) {
		client_walk(c, c->operation->places, visit, visited);
		return;
	}
	if (!client_take_ids(c, i))
		return;
	for (i = 0; i < c->filter.id_count; i++)
		choose(c, c->filter.id[i]);
	start(c);
}
