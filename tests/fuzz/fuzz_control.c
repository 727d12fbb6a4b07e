/*
 * A request on the control socket (control.c, client.c, verbs.c, operate.c);
 * connection, spool and scheduler are in memory.
 *
 * input: an octet that chooses who asks and how things stand, and what it
 * sends.
 *
 * wrap: accept4 getsockopt recv send fd_close fd_nonblocking loop_watch
 * wrap: loop_unwatch loop_timer_set loop_timer_clear loop_now
 * wrap: sched_observe sched_flush sched_flush_all
 * wrap: sched_flush_relay sched_add sched_status sched_relay_status
 * wrap: sched_is_active sched_forget submit_message submit_listeners
 * wrap: submit_status submit_requeue bounce_has bounce_now queue_walk_new
 * wrap: queue_walk_next queue_walk_free queue_release queue_hold queue_delete
 * wrap: queue_is_failing queue_has_room metrics_text
 */
#include "../../control.h"
#include "../../metrics.h"
#include "../behind_control.h"

#include "fuzz.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	LISTENER = 1 << 20,
	CONNECTION,
	MESSAGES = 5, /* a place; of two users in turn */
	BOUNCES = 4096,
	TURNS = 10000,
};

/* What the first octet chooses. */
enum {
	OTHER = 1, /* no operator asks */
	NOBODY = 2,
	PAUSED = 4,
	REFUSED = 8,
	PIECES = 16,
	FAILS = 32, /* what is to be done with a message */
	LEAVES = 64,
	STUCK = 128, /* the test message goes nowhere */
};

/* A report that is being stored. */
struct bounced {
	queue_id id;
	queue_committed *handler;
	void *arg;
};

static struct world {
	unsigned manners;
	struct span request;
	struct buf answer;
	bool open;
	unsigned watched;
	void (*event)(void *arg, unsigned events);
	void *event_arg;
	void (*connect)(void *arg, unsigned events);
	void *connect_arg;
	struct timer *timer; /* the client's; NULL: not running */
	int64_t now_ms;
	size_t done; /* what changes anything */
	unsigned walks;
	sched_observer *observer;
	void *observer_arg;
	queue_committed *committed;
	void *committed_arg;
	struct bounced bounced[BOUNCES];
	size_t bounces;
} w;

int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
void __wrap_fd_close(int *fd);
void __real_fd_close(int *fd);
int __wrap_fd_nonblocking(int fd);
int __wrap_loop_watch(struct loop *l, int fd, unsigned events,
    void (*handler)(void *arg, unsigned events), void *arg);
void __wrap_loop_unwatch(struct loop *l, int fd);
void __wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms);
void __wrap_loop_timer_clear(struct loop *l, struct timer *t);
struct instant __wrap_loop_now(const struct loop *l);
void __wrap_metrics_text(const struct report_source *source, bool all,
    bool openmetrics, struct buf *out);

/* ---- the connection ---- */

int
__wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	(void)a;
	(void)len;
	(void)flags;
	assert(fd == LISTENER && !w.open);
	w.open = true;
	return CONNECTION;
}

int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct ucred *peer = value;

	(void)level;
	assert(
	    fd == CONNECTION && name == SO_PEERCRED && *len == sizeof(*peer));
	*peer = (struct ucred){ .uid = (w.manners & OTHER) != 0 ? OTHER_UID
		    : (w.manners & NOBODY) != 0                 ? OVERFLOW_UID
								: 0 };
	return 0;
}

ssize_t
__wrap_recv(int fd, void *data, size_t size, int flags)
{
	(void)flags;
	assert(fd == CONNECTION && w.open && size > 0);
	if ((w.manners & PIECES) != 0 && size > 3)
		size = 3;
	return take_from(&w.request, data, size);
}

ssize_t
__wrap_send(int fd, const void *data, size_t size, int flags)
{
	(void)flags;
	assert(fd == CONNECTION && w.open && size > 0);
	if ((w.manners & LEAVES) != 0) {
		errno = EPIPE;
		return -1;
	}
	if ((w.manners & PIECES) != 0 && size > 7)
		size = 7;
	buf_append(&w.answer, data, size);
	return (ssize_t)size;
}

void
__wrap_fd_close(int *fd)
{
	if (*fd == CONNECTION)
		w.open = false;
	else if (*fd != LISTENER)
		__real_fd_close(fd);
	*fd = -1;
}

int
__wrap_fd_nonblocking(int fd)
{
	assert(fd == LISTENER);
	return 0;
}

int
__wrap_loop_watch(struct loop *l, int fd, unsigned events,
    void (*handler)(void *arg, unsigned events), void *arg)
{
	(void)l;
	if (fd == LISTENER) {
		w.connect = handler;
		w.connect_arg = arg;
		return 0;
	}
	assert(fd == CONNECTION && w.open);
	w.watched = events;
	w.event = handler;
	w.event_arg = arg;
	return 0;
}

void
__wrap_loop_unwatch(struct loop *l, int fd)
{
	(void)l;
	(void)fd;
}

void
__wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms)
{
	(void)l;
	t->at_ms = w.now_ms + delay_ms;
	w.timer = t;
}

void
__wrap_loop_timer_clear(struct loop *l, struct timer *t)
{
	(void)l;
	if (w.timer == t)
		w.timer = NULL;
}

struct instant
__wrap_loop_now(const struct loop *l)
{
	(void)l;
	return (struct instant){ w.now_ms, 1700000000000 + w.now_ms };
}

/* ---- the scheduler and all else ---- */

static int
change(queue_id id)
{
	static const int errors[] = { ENOENT, EBUSY, EBADMSG, EPERM, EALREADY,
		EDESTADDRREQ, EIO };

	w.done++;
	errno = errors[id % 7];
	return (w.manners & FAILS) != 0 ? -1 : 0;
}

void
__wrap_sched_observe(struct sched *s, sched_observer *observer, void *arg)
{
	(void)s;
	w.observer = observer;
	w.observer_arg = arg;
}

int
__wrap_sched_flush(struct sched *s, queue_id id)
{
	(void)s;
	return change(id);
}

void
__wrap_sched_flush_all(struct sched *s)
{
	(void)s;
	w.done++;
}

int
__wrap_sched_flush_relay(struct sched *s, struct span name)
{
	(void)s;
	(void)name;
	return change(0);
}

void
__wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms)
{
	(void)s;
	(void)id;
	(void)due_ms;
	w.done++;
}

bool
__wrap_sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status)
{
	(void)s;
	*status = (struct sched_relay_status){ .name = "one",
		.host = "smtp.example.net",
		.port = 587,
		.tls = "",
		.paused = (w.manners & PAUSED) != 0 };
	return index == 0;
}

bool
__wrap_sched_is_active(const struct sched *s, queue_id id)
{
	(void)s;
	return id == 3;
}

void
__wrap_sched_forget(struct sched *s, queue_id id)
{
	(void)s;
	(void)id;
	w.done++;
}

const char *
__wrap_submit_message(struct submit *s, const char *sender,
    const char *recipient, struct span text, queue_committed *handler,
    void *arg)
{
	(void)s;
	assert(smtp_address_valid(span_of(sender), ADDRESS_BARE));
	assert(smtp_address_valid(span_of(recipient),
	    ADDRESS_BARE | ADDRESS_UTF8));
	assert(is_canonical(text));
	w.done++;
	if ((w.manners & REFUSED) != 0)
		return "451 4.3.0 no";
	w.committed = handler;
	w.committed_arg = arg;
	return NULL;
}

int
__wrap_submit_requeue(struct submit *s, queue_id id)
{
	(void)s;
	return change(id);
}

bool
__wrap_bounce_has(const struct bounce *b, queue_id id)
{
	(void)b;
	return id == 4;
}

/* The report is stored later. */
int
__wrap_bounce_now(struct bounce *b, queue_id id, queue_committed *handler,
    void *arg)
{
	(void)b;
	assert(w.bounces < BOUNCES);
	if (change(id) == -1 && id % 2 == 0)
		return -1;
	w.bounced[w.bounces++] = (struct bounced){ id, handler, arg };
	return 0;
}

struct queue_walk *
__wrap_queue_walk_new(struct queue *q, enum queue_place place, unsigned flags)
{
	struct queue_walk *walk = mem_alloc(sizeof(*walk));

	(void)q;
	assert(place < PLACES && (flags & QUEUE_WALK_ENVELOPE) != 0);
	walk->place = place;
	w.walks++;
	return walk;
}

bool
__wrap_queue_walk_next(struct queue_walk *walk, const struct queue_info **info)
{
	static char sender[] = "me@example.com", to[] = "you@example.net";
	static struct recipient recipient = { .address = to, .original = to };

	if (walk->next == MESSAGES)
		return false;
	walk->next++;
	recipient.state = RECIPIENT_WAITING;
	walk->info = (struct queue_info){ .id = walk->next,
		.place = walk->place,
		.size = 10 * walk->next,
		.damaged = walk->next == 5,
		.envelope = { .sender = sender,
		    .original_sender = sender,
		    .uid = walk->next % 2 == 1 ? OTHER_UID : OVERFLOW_UID,
		    .recipient = &recipient,
		    .recipient_count = 1 } };
	queue_id_text(walk->next, walk->info.name);
	*info = &walk->info;
	return true;
}

void
__wrap_queue_walk_free(struct queue_walk *walk)
{
	w.walks--;
	free(walk);
}

int
__wrap_queue_release(struct queue *q, queue_id id)
{
	(void)q;
	return change(id);
}

int
__wrap_queue_hold(struct queue *q, queue_id id)
{
	(void)q;
	return change(id);
}

int
__wrap_queue_delete(struct queue *q, queue_id id)
{
	(void)q;
	return change(id);
}

void
__wrap_metrics_text(const struct report_source *source, bool all,
    bool openmetrics, struct buf *out)
{
	(void)source;
	(void)all;
	(void)openmetrics;
	buf_add_text(out, "relayd_up 1\n");
}

static void
reload(void *arg, struct buf *error)
{
	(void)arg;
	w.done++;
	if ((w.manners & FAILS) != 0)
		buf_add_text(error, "relayd.conf:1: no\nand no\n");
}

/* ---- a request ---- */

static void
store_reports(void)
{
	size_t i;

	for (i = 0; i < w.bounces; i++)
		w.bounced[i].handler(w.bounced[i].arg, w.bounced[i].id,
		    (w.manners & FAILS) != 0 ? EIO : 0);
	w.bounces = 0;
}

/* What a client waits for comes, or the time is up. */
static void
go_on(void)
{
	queue_committed *committed = w.committed;

	if (w.bounces > 0) {
		store_reports();
	} else if (committed != NULL) {
		w.committed = NULL;
		committed(w.committed_arg, 7,
		    (w.manners & FAILS) != 0 ? EIO : 0);
	} else if ((w.manners & (FAILS | STUCK)) == 0 && w.now_ms < 2000) {
		w.now_ms += 1000;
		w.observer(w.observer_arg, 7, "to=<x>, status=sent (250 ok)",
		    true, w.now_ms >= 2000);
	} else {
		assert(w.timer != NULL);
		w.now_ms = w.timer->at_ms;
		w.timer->handler(w.timer->arg);
	}
}

static void
play(void)
{
	unsigned turns;

	w.connect(w.connect_arg, LOOP_READ);
	for (turns = 0; w.open; turns++) {
		assert(turns < TURNS);
		if (w.watched != 0)
			w.event(w.event_arg, w.watched);
		else
			go_on();
	}
	assert(w.walks == 0);
	/* It has left, but its messages come. */
	store_reports();
	if (w.committed != NULL)
		w.committed(w.committed_arg, 7, 0);
}

/* Lines that begin with what they are, and the status at last. */
static void
check_answer(void)
{
	struct span rest = buf_span(&w.answer), line = { NULL, 0 };
	unsigned ends = 0;
	uint64_t status;

	while (span_cut(rest, '\n', &line, &rest)) {
		assert(ends == 0);
		assert(line.len > 0 && strchr("oemx", line.data[0]) != NULL);
		if (line.data[0] == 'x') {
			assert(parse_number(span_from(line, 1), 64, &status));
			ends++;
		}
		/* Others see what they sent themselves: the odd ones. */
		if (line.data[0] == 'm') {
			assert((w.manners & (OTHER | NOBODY)) == 0 ||
			    ((w.manners & OTHER) != 0 &&
				line.data[1] % 2 == '1' % 2));
		}
	}
	assert(line.len == 0 && ends == 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char hostname[] = "web1.example.com", spool[] = "/spool";
	static struct config config = { .hostname = hostname,
		.spool = spool,
		.references = 1 };
	const struct control_parts parts = { .reload = reload };
	struct buf error = { 0 };
	struct control *control;
	struct span in = fuzz_input(data, size);

	log_open(LOG_TO_STDERR, LOG_LEVEL_ERROR, false);
	w = (struct world){ .manners = take_octet(&in), .request = in };
	control = control_new(&parts, &config, LISTENER, &error);
	assert(control != NULL);
	play();
	if (in.len > 0 && (w.manners & LEAVES) == 0 &&
	    (memchr(in.data, '\n', in.len) != NULL || in.len >= 4096))
		check_answer();
	else
		assert(w.answer.len == 0);
	assert((w.manners & (OTHER | NOBODY)) == 0 || w.done == 0);
	control_free(control);
	assert(config.references == 1);
	buf_free(&w.answer);
	return 0;
}
