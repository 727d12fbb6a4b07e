/*
 * The control socket, with everything behind it replaced: the protocol, who
 * may do what, and that no client can hold up the daemon.
 *
 * wrap: sched_observe sched_flush sched_flush_all sched_flush_relay sched_add
 * wrap: sched_status sched_relay_status submit_message submit_listeners
 * wrap: submit_status queue_is_failing queue_has_room queue_release
 * wrap: queue_hold queue_delete sched_is_active sched_forget submit_requeue
 * wrap: bounce_has bounce_now
 * wrap: queue_walk_new queue_walk_next queue_walk_free
 * wrap: config_hold config_release getsockopt clock_read
 */
#include "../report.h"
#include "behind_control.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct config *__wrap_config_hold(struct config *c);
void __wrap_config_release(struct config *c);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
void __real_clock_read(struct instant *now);
void __wrap_clock_read(struct instant *now);

/* ---- the world behind the control socket ---- */

static struct {
	struct loop *loop;
	struct control *control;
	struct config config;
	char path[64];
	uid_t peer_uid;
	int64_t clock_ms; /* added to both clocks */

	sched_observer *observer;
	void *observer_arg;
	bool paused;
	queue_id active;   /* is being sent */
	queue_id bouncing; /* its report is being stored */
	struct {
		queue_id id;
		queue_committed *told;
		void *arg;
	} report[8]; /* to be stored at the end of the turn */
	size_t reports;
	bool disk_stalls;
	int disk_error;
	struct buf done; /* what was asked of others */

	uint64_t messages[PLACES];
	unsigned walks;   /* open */
	uint64_t visited; /* messages, by any walk */

	const char *refusal; /* of the test message */
	struct buf test_message;
	queue_committed *committed;
	void *committed_arg;
} world;

void
__wrap_sched_observe(struct sched *s, sched_observer *observer, void *arg)
{
	(void)s;
	world.observer = observer;
	world.observer_arg = arg;
}

/* Of the messages that are asked for only the odd ones are there. */
int
__wrap_sched_flush(struct sched *s, queue_id id)
{
	(void)s;
	buf_printf(&world.done, "flush %d\n", (int)id);
	errno = ENOENT;
	return id % 2 == 1 ? 0 : -1;
}

void
__wrap_sched_flush_all(struct sched *s)
{
	(void)s;
	buf_add_text(&world.done, "flush all\n");
}

int
__wrap_sched_flush_relay(struct sched *s, struct span name)
{
	(void)s;
	buf_printf(&world.done, "flush relay %.*s\n", (int)name.len, name.data);
	errno = ENOENT;
	return span_equal(name, SPAN("the one")) ? 0 : -1;
}

void
__wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms)
{
	(void)s;
	(void)due_ms;
	buf_printf(&world.done, "add %d\n", (int)id);
}

bool
__wrap_sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status)
{
	(void)s;
	*status = (struct sched_relay_status){ .name = "the one",
		.host = "smtp.example.net",
		.port = 587,
		.tls = "",
		.paused = world.paused };
	if (world.paused) {
		status->fault.kind = FAULT_AUTH;
		(void)snprintf(status->fault.text, sizeof(status->fault.text),
		    "%s", "535 5.7.8 no");
	}
	return index == 0;
}

const char *
__wrap_submit_message(struct submit *s, const char *sender,
    const char *recipient, struct span text, queue_committed *handler,
    void *arg)
{
	(void)s;
	buf_printf(&world.done, "submit %s %s\n", sender, recipient);
	if (world.refusal != NULL)
		return world.refusal;
	buf_add(&world.test_message, text);
	world.committed = handler;
	world.committed_arg = arg;
	return NULL;
}

static int
operated(const char *what, queue_id id)
{
	buf_printf(&world.done, "%s %d\n", what, (int)id);
	errno = ENOENT;
	return id % 2 == 1 ? 0 : -1;
}

int
__wrap_queue_release(struct queue *q, queue_id id)
{
	(void)q;
	return operated("release", id);
}

int
__wrap_queue_hold(struct queue *q, queue_id id)
{
	(void)q;
	return operated("hold", id);
}

int
__wrap_queue_delete(struct queue *q, queue_id id)
{
	(void)q;
	return operated("delete", id);
}

int
__wrap_submit_requeue(struct submit *s, queue_id id)
{
	(void)s;
	(void)operated("requeue", id);
	errno = EPERM;
	return id % 2 == 1 ? 0 : -1;
}

bool
__wrap_bounce_has(const struct bounce *b, queue_id id)
{
	(void)b;
	return id == world.bouncing;
}

int
__wrap_bounce_now(struct bounce *b, queue_id id, queue_committed *told,
    void *arg)
{
	(void)b;
	(void)operated("bounce", id);
	errno = EDESTADDRREQ;
	if (id % 2 == 0)
		return -1;
	world.report[world.reports].id = id;
	world.report[world.reports].told = told;
	world.report[world.reports++].arg = arg;
	return 0;
}

static void
store_reports(void *arg)
{
	size_t i;

	(void)arg;
	for (i = 0; i < world.reports && !world.disk_stalls; i++)
		world.report[i].told(world.report[i].arg, world.report[i].id,
		    world.disk_error);
	if (!world.disk_stalls)
		world.reports = 0;
}

bool
__wrap_sched_is_active(const struct sched *s, queue_id id)
{
	(void)s;
	return id == world.active;
}

void
__wrap_sched_forget(struct sched *s, queue_id id)
{
	(void)s;
	buf_printf(&world.done, "forget %d\n", (int)id);
}

struct queue_walk *
__wrap_queue_walk_new(struct queue *q, enum queue_place place, unsigned flags)
{
	struct queue_walk *w = mem_alloc(sizeof(*w));

	(void)q;
	assert_true((flags & QUEUE_WALK_ENVELOPE) != 0);
	w->place = place;
	world.walks++;
	return w;
}

bool
__wrap_queue_walk_next(struct queue_walk *w, const struct queue_info **info)
{
	static char sender[] = "me@example.com";

	if (w->next == world.messages[w->place])
		return false;
	w->next++;
	world.visited++;
	w->info = (struct queue_info){ .id = w->next,
		.place = w->place,
		.size = 10 * w->next,
		.envelope = { .sender = sender,
		    .original_sender = sender,
		    .uid = w->next % 2 == 1 ? OTHER_UID : OVERFLOW_UID } };
	*info = &w->info;
	return true;
}

void
__wrap_queue_walk_free(struct queue_walk *w)
{
	if (w != NULL)
		world.walks--;
	free(w);
}

struct config *
__wrap_config_hold(struct config *c)
{
	c->references++;
	return c;
}

void
__wrap_config_release(struct config *c)
{
	c->references--;
}

int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int ret = __real_getsockopt(fd, level, name, value, len);

	if (name == SO_PEERCRED)
		((struct ucred *)value)->uid = world.peer_uid;
	return ret;
}

void
__wrap_clock_read(struct instant *now)
{
	__real_clock_read(now);
	now->mono_ms += world.clock_ms;
	now->wall_ms += world.clock_ms;
}

static void
reload(void *arg, struct buf *error)
{
	buf_add_text(&world.done, "reload\n");
	if (arg != NULL && *(bool *)arg)
		buf_add_text(error, "a.conf:1: x: one\na.conf:2: y: two\n");
}

/* ---- set-up ---- */

static bool reload_fails;

static void
start(void)
{
	struct control_parts parts = { .loop = world.loop,
		.reload = reload,
		.arg = &reload_fails };
	struct buf error = { NULL, 0, 0 };

	world.control = control_new(&parts, &world.config, -1, &error);
	assert_non_null(world.control);
	assert_int_equal(error.len, 0);
}

static int
set_up(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	reload_fails = false;
	(void)snprintf(world.path, sizeof(world.path), "/tmp/control.%ld",
	    (long)getpid());
	world.config.control = world.path;
	world.config.hostname = mem_text("web1.example.com");
	world.loop = loop_new();
	loop_at_turn_end(world.loop, store_reports, NULL);
	start();
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	control_free(world.control);
	loop_free(world.loop);
	assert_int_equal(world.walks, 0);
	assert_int_equal(world.config.references, 0);
	assert_null(world.observer);
	assert_int_equal(access(world.path, F_OK), -1);
	free(world.config.hostname);
	buf_free(&world.done);
	buf_free(&world.test_message);
	return 0;
}

/* ---- a client ---- */

static int
dial(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(name.sun_path, path, strlen(path));
	assert_int_not_equal(fd, -1);
	assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)),
	    0);
	return fd;
}

static void
turn(void)
{
	loop_hurry(world.loop);
	assert_int_equal(loop_turn(world.loop), 0);
}

static void
turns(unsigned count)
{
	while (count-- > 0)
		turn();
}

static void
pass_time(int64_t ms)
{
	world.clock_ms += ms;
	turns(2);
}

/* What has come from the daemon; true: it has hung up. */
static bool
listen_to(int fd, struct buf *heard)
{
	ssize_t n;

	do {
		buf_reserve(heard, 4096);
		n = recv(fd, heard->data + heard->len, 4096, 0);
		if (n > 0)
			heard->len += (size_t)n;
	} while (n > 0);
	return n == 0;
}

static void
tell(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Turns the loop until the daemon hangs up. */
static void
assert_answer(int fd, const char *expected)
{
	struct buf heard = { NULL, 0, 0 };
	unsigned left = 1000;

	while (!listen_to(fd, &heard)) {
		assert_int_not_equal(left--, 0);
		turn();
	}
	assert_string_equal(buf_text(&heard), expected);
	buf_free(&heard);
	assert_int_equal(close(fd), 0);
}

/* In a request | stands for NUL. */
static int
request(uid_t uid, const char *words)
{
	int fd = dial(world.path);
	char *copy = mem_text(words);
	size_t i, len = strlen(copy);

	world.peer_uid = uid;
	turn(); /* accepted as uid */
	for (i = 0; i < len; i++)
		if (copy[i] == '|')
			copy[i] = '\0';
	tell(fd, copy, len);
	tell(fd, "\n", 1);
	free(copy);
	return fd;
}

static void
assert_done(const char *expected)
{
	assert_string_equal(buf_text(&world.done), expected);
	buf_clear(&world.done);
}

/* ---- the socket ---- */

static void
the_socket_is_open_to_all(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(world.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
}

static void
a_second_daemon_does_not_take_the_socket(void **state)
{
	struct control_parts parts = { .loop = world.loop };
	struct buf error = { NULL, 0, 0 };

	(void)state;
	assert_null(control_new(&parts, &world.config, -1, &error));
	assert_non_null(strstr(buf_text(&error), world.path));
	buf_free(&error);
	assert_answer(request(0, "flush"), "x0\n");
}

static void
reload_holds_the_new_configuration_and_keeps_the_socket(void **state)
{
	struct config other = world.config;

	(void)state;
	other.references = 0;
	control_configure(world.control, &other);
	assert_int_equal(world.config.references, 0);
	assert_int_equal(other.references, 1);
	assert_answer(request(0, "flush"), "x0\n");
	control_configure(world.control, &world.config);
	assert_int_equal(other.references, 0);
}

/* ---- requests ---- */

static void
a_request_may_come_octet_by_octet(void **state)
{
	static const char text[] = "flush\0--relay\0the one\n";
	int fd = dial(world.path);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(text) - 1; i++) {
		tell(fd, text + i, 1);
		turn();
	}
	assert_answer(fd, "x0\n");
	assert_done("flush relay the one\n");
}

/* H24, and what else is no request. */
static void
what_is_no_request_is_refused(void **state)
{
	static const struct {
		const char *words;
		const char *answer;
	} cases[] = {
		{ "", "erelayctl: : unknown verb\nx64\n" },
		{ "sing", "erelayctl: sing: unknown verb\nx64\n" },
		{ "a\x1b[2J", "erelayctl: a\\x1b[2J: unknown verb\nx64\n" },
		{ "flush|../../etc/passwd",
		    "erelayctl: ../../etc/passwd: not a queue id\nx64\n" },
		{ "release|", "erelayctl: : not a queue id\nx64\n" },
		{ "release", "erelayctl: release: wrong arguments\nx64\n" },
		{ "queue|--all", "erelayctl: --all: not a queue id\nx64\n" },
		{ "status|x", "erelayctl: status: wrong arguments\nx64\n" },
		{ "flush|--relay", "erelayctl: flush: wrong arguments\nx64\n" },
		{ "flush|--relay|a|b",
		    "erelayctl: flush: wrong arguments\nx64\n" },
		{ "test|a|b", "erelayctl: test: wrong arguments\nx64\n" },
		{ "test|a b", "erelayctl: a b: not an address\nx64\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_answer(request(0, cases[i].words), cases[i].answer);
	assert_done("");
}

static void
a_request_is_at_most_4096_octets(void **state)
{
	struct buf text = { NULL, 0, 0 };
	int fd = dial(world.path);

	(void)state;
	buf_add_text(&text, "flush");
	buf_add_char(&text, '\0');
	buf_add_text(&text, "--relay");
	buf_add_char(&text, '\0');
	while (text.len < 4095)
		buf_add_char(&text, 'r');
	buf_add_char(&text, '\n');
	tell(fd, text.data, text.len);
	turns(5);
	assert_int_equal(world.done.len,
	    strlen("flush relay ") + 4095 - strlen("flush --relay ") + 1);
	assert_int_equal(close(fd), 0);
	buf_clear(&world.done);

	fd = dial(world.path);
	text.data[4095] = 'r';
	tell(fd, text.data, text.len);
	assert_answer(fd, "erelayctl: the request: too long\nx64\n");
	assert_done("");
	buf_free(&text);
}

static void
a_client_without_a_request_is_dropped_after_30_s(void **state)
{
	struct buf heard = { NULL, 0, 0 };
	int fd = dial(world.path);

	(void)state;
	turn();
	tell(fd, "flu", 3);
	turn();
	pass_time(29000);
	assert_false(listen_to(fd, &heard));
	pass_time(1500);
	assert_true(listen_to(fd, &heard));
	assert_int_equal(heard.len, 0);
	buf_free(&heard);
	assert_int_equal(close(fd), 0);
}

static void
a_client_that_leaves_is_forgotten(void **state)
{
	int fd = dial(world.path);

	(void)state;
	turn();
	assert_int_equal(close(fd), 0);
	turns(2);
	world.messages[PLACE_CUR] = 100000;
	fd = request(0, "queue");
	turns(3);
	assert_int_equal(world.walks, 1);
	assert_int_equal(close(fd), 0);
	turns(3);
	assert_int_equal(world.walks, 0);
}

static void
others_leave_room_for_root(void **state)
{
	struct buf heard = { NULL, 0, 0 };
	int fd[32];
	size_t i;

	(void)state;
	world.peer_uid = OTHER_UID;
	for (i = 0; i < 24; i++) {
		fd[i] = dial(world.path);
		turn();
	}
	assert_answer(dial(world.path), "etoo many requests at once\nx1\n");
	world.peer_uid = 0;
	for (; i < 32; i++) {
		fd[i] = dial(world.path);
		turn();
		assert_false(listen_to(fd[i], &heard));
	}
	assert_answer(dial(world.path), "etoo many requests at once\nx1\n");
	for (i = 0; i < 32; i++)
		assert_int_equal(close(fd[i]), 0);
	turn();
	assert_answer(request(0, "flush"), "x0\n");
	buf_free(&heard);
}

/* ---- rights ---- */

static void
others_may_not_act(void **state)
{
	static const struct {
		const char *words;
		const char *answer;
	} cases[] = {
		{ "flush", "erelayctl: flush: permission denied\nx1\n" },
		{ "release|000000000001",
		    "erelayctl: release: permission denied\nx1\n" },
		{ "reload", "erelayctl: reload: permission denied\nx1\n" },
		{ "test", "erelayctl: test: permission denied\nx1\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_answer(request(OTHER_UID, cases[i].words),
		    cases[i].answer);
	assert_done("");
}

/* Of three messages the first and the third are OTHER_UID's. */
static void
the_queue_shows_to_others_what_they_sent(void **state)
{
	static const struct {
		uid_t uid;
		unsigned seen;
	} cases[] = {
		{ 0, 3 }, { OTHER_UID, 2 }, { OTHER_UID + 1, 0 },
		{ OVERFLOW_UID, 0 }, /* is anybody */
	};
	size_t i;

	(void)state;
	world.messages[PLACE_CUR] = 3;
	world.messages[PLACE_FAILED] = 5; /* not asked for */
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf heard = { NULL, 0, 0 };
		int fd = request(cases[i].uid, "queue|--json");
		const char *at;
		unsigned seen = 0;

		turns(5);
		assert_true(listen_to(fd, &heard));
		assert_int_equal(close(fd), 0);
		for (at = buf_text(&heard); *at != 'x';
		     at = strchr(at, '\n') + 1)
			seen += *at == 'm';
		assert_string_equal(at, "x0\n");
		assert_int_equal(seen, cases[i].seen);
		buf_free(&heard);
	}
}

static void
the_status_is_for_all(void **state)
{
	(void)state;
	world.messages[PLACE_HOLD] = 2;
	world.messages[PLACE_FAILED] = 3;
	world.messages[PLACE_CUR] = 1000; /* not looked at */
	for (world.paused = false;; world.paused = true) {
		struct buf heard = { NULL, 0, 0 };
		int fd = request(OTHER_UID, "status");

		turns(5);
		assert_true(listen_to(fd, &heard));
		assert_int_equal(close(fd), 0);
		assert_non_null(strstr(buf_text(&heard),
		    "oqueue: 3 waiting, 1 active; 2 on hold; 3 failed\n"));
		assert_non_null(strstr(buf_text(&heard), "\nx1\n"));
		buf_free(&heard);
		if (world.paused)
			break;
	}
	assert_int_equal(world.visited, 10);
}

/* ---- verbs ---- */

static void
queue_answers_in_records(void **state)
{
	(void)state;
	world.messages[PLACE_HOLD] = 1;
	assert_answer(request(0, "queue"),
	    "m1 10\n"
	    "o000000000001!        10                      me@example.com\n"
	    "o\n"
	    "x0\n");
	world.messages[PLACE_FAILED] = 2;
	assert_answer(request(0, "queue|--json|--failed|000000000002"),
	    "m2 20\n"
	    "o{\"id\": \"000000000002\", \"state\": \"failed\", "
	    "\"size\": 20, \"arrived\": null, "
	    "\"sender\": \"me@example.com\", "
	    "\"original_sender\": \"me@example.com\", \"uid\": 65534, "
	    "\"attempts\": 0, \"next_try\": null, \"reason\": \"\", "
	    "\"recipients\": []}\n"
	    "x0\n");
}

static void
a_long_queue_is_told_in_slices_as_the_client_reads(void **state)
{
	struct buf heard = { NULL, 0, 0 };
	uint64_t before = 0;
	unsigned records = 0;
	int fd;
	const char *at;

	(void)state;
	world.messages[PLACE_CUR] = 20000;
	fd = request(0, "queue");
	/* A client that does not read is not read for. */
	turns(300);
	assert_true(world.visited < 20000);
	while (!listen_to(fd, &heard)) {
		before = world.visited;
		turn();
		assert_true(world.visited - before <= 100);
	}
	for (at = buf_text(&heard); *at != 'x'; at = strchr(at, '\n') + 1)
		records += *at == 'm';
	assert_string_equal(at, "x0\n");
	assert_int_equal(records, 20000);
	buf_free(&heard);
	assert_int_equal(close(fd), 0);
}

static void
a_client_that_stops_reading_is_dropped_after_30_s(void **state)
{
	int fd;

	(void)state;
	world.messages[PLACE_CUR] = 20000;
	fd = request(0, "queue");
	turns(300);
	assert_int_equal(world.walks, 1);
	pass_time(31000);
	assert_int_equal(world.walks, 0);
	assert_int_equal(close(fd), 0);
}

static void
flush_takes_all_some_or_a_relay(void **state)
{
	(void)state;
	assert_answer(request(0, "flush"), "x0\n");
	assert_done("flush all\n");
	assert_answer(request(geteuid(), "flush|000000000001|000000000003"),
	    "x0\n");
	assert_done("flush 1\nflush 3\n");
	assert_answer(request(0, "flush|000000000002|000000000003"),
	    "erelayctl: 000000000002: not waiting in the queue\nx1\n");
	assert_done("flush 2\nflush 3\n");
	assert_answer(request(0, "flush|--relay|the one"), "x0\n");
	assert_done("flush relay the one\n");
	assert_answer(request(0, "flush|--relay|none"),
	    "erelayctl: none: no such relay\nx1\n");
}

/* Of those with even numbers none is there (see operated()); 3 is in flight. */
static void
an_operation_is_done_to_the_messages_named(void **state)
{
	static const struct {
		const char *words;
		const char *answer;
		const char *done;
	} cases[] = {
		{ "release|000000000001|000000000002",
		    "erelayctl: 000000000002: neither failed nor on hold\n"
		    "o1 message released\nx1\n",
		    "release 1\nforget 1\nadd 1\nrelease 2\n" },
		{ "requeue|000000000001|000000000002",
		    "erelayctl: 000000000002: one of its recipients would be "
		    "refused now; see relayctl explain\n"
		    "o1 message requeued\nx1\n",
		    "requeue 1\nforget 1\nadd 1\nrequeue 2\n" },
		{ "bounce|000000000001|000000000002|000000000007",
		    "erelayctl: 000000000002: it has no sender who wants to be "
		    "told\n"
		    "erelayctl: 000000000007: it is being sent, or some of its "
		    "recipients wait\n"
		    "o1 message bounced\nx1\n",
		    "bounce 1\nforget 1\nbounce 2\n" },
		{ "hold|000000000001|000000000005", "o2 messages held\nx0\n",
		    "hold 1\nforget 1\nhold 5\nforget 5\n" },
		{ "delete|000000000003",
		    "erelayctl: 000000000003: it is being sent, or some of "
		    "its recipients wait\no0 messages deleted\nx1\n",
		    "" },
	};
	size_t i;

	(void)state;
	world.active = 3;
	world.bouncing = 7;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_answer(request(0, cases[i].words), cases[i].answer);
		assert_done(cases[i].done);
	}
}

/* "bounced" is said of what is on the disk, and only of that. */
static void
the_answer_waits_for_the_reports(void **state)
{
	struct buf heard = { NULL, 0, 0 };
	int fd;

	(void)state;
	world.disk_stalls = true;
	fd = request(0, "bounce|000000000001|000000000002|000000000005");
	turns(10);
	assert_int_equal(world.reports, 2);
	assert_false(listen_to(fd, &heard));
	assert_string_equal(buf_text(&heard),
	    "erelayctl: 000000000002: it has no sender who wants to be told\n");
	buf_free(&heard);
	world.disk_stalls = false;
	assert_answer(fd, "o2 messages bounced\nx1\n");
	world.disk_error = ENOSPC;
	assert_answer(request(0, "bounce|000000000001"),
	    "erelayctl: 000000000001: No space left on device\n"
	    "o0 messages bounced\nx1\n");
}

/* Six make two slices.  Nobody hears of the second, which is not begun. */
static void
a_client_that_leaves_stops_bouncing(void **state)
{
	int fd;

	(void)state;
	world.disk_stalls = true;
	fd = request(0,
	    "bounce|000000000001|000000000003|000000000005|000000000007"
	    "|000000000009|00000000000b");
	turns(4);
	assert_int_equal(world.reports, 5);
	assert_int_equal(close(fd), 0);
	turns(2);
	world.disk_stalls = false;
	turns(4);
	assert_done("bounce 1\nforget 1\nbounce 3\nforget 3\n"
		    "bounce 5\nforget 5\nbounce 7\nforget 7\n"
		    "bounce 9\nforget 9\n");
}

/* The walk has the same messages in each place: each is dealt with once. */
static void
an_operation_is_done_to_the_messages_sought(void **state)
{
	static const struct {
		const char *words;
		const char *answer;
		const char *done;
	} cases[] = {
		{ "delete|--all", "o1 message deleted\nx0\n",
		    "delete 1\nforget 1\n" },
		{ "hold|--sender|ME@example.com", "o1 message held\nx0\n",
		    "hold 1\nforget 1\n" },
		{ "hold|--sender|<>", "o0 messages held\nx0\n", "" },
		{ "hold|--recipient|a@example.com", "o0 messages held\nx0\n",
		    "" },
		{ "hold|--older|1h|--sender|me@example.com",
		    "o1 message held\nx0\n", "hold 1\nforget 1\n" },
		{ "hold|--older|9223372036854776s",
		    "erelayctl: hold: wrong arguments\nx64\n", "" },
		{ "hold|--older|1y", "erelayctl: hold: wrong arguments\nx64\n",
		    "" },
		{ "hold|--older", "erelayctl: hold: wrong arguments\nx64\n",
		    "" },
		{ "hold|--all|000000000001",
		    "erelayctl: hold: wrong arguments\nx64\n", "" },
	};
	size_t i;

	(void)state;
	world.messages[PLACE_CUR] = world.messages[PLACE_FAILED] = 1;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_answer(request(0, cases[i].words), cases[i].answer);
		assert_done(cases[i].done);
	}
}

/* One by one would not do: mail is to flow meanwhile. */
static void
many_messages_are_operated_on_in_slices(void **state)
{
	int fd = request(0, "delete|--all");
	struct buf heard = { NULL, 0, 0 };
	size_t before = 0;

	(void)state;
	world.messages[PLACE_NEW] = 1000;
	while (!listen_to(fd, &heard)) {
		turn();
		assert_true(world.done.len - before < 60 * 24);
		before = world.done.len;
	}
	assert_string_equal(buf_text(&heard), "o500 messages deleted\nx0\n");
	buf_free(&heard);
	assert_int_equal(close(fd), 0);
}

static void
reload_tells_the_errors(void **state)
{
	(void)state;
	assert_answer(request(0, "reload"), "x0\n");
	assert_done("reload\n");
	reload_fails = true;
	assert_answer(request(0, "reload"),
	    "ea.conf:1: x: one\nea.conf:2: y: two\nx1\n");
}

/* ---- test ---- */

/* A test message that is on the disk as number 5. */
static int
start_test(void)
{
	int fd = request(0, "test|a@example.com");

	turns(3);
	assert_done("submit root a@example.com\n");
	world.committed(world.committed_arg, 5, 0);
	return fd;
}

static void
a_test_is_followed_until_it_is_sent(void **state)
{
	int fd = start_test();

	(void)state;
	assert_non_null(strstr(buf_text(&world.test_message),
	    "Subject: relayd test message from web1.example.com\r\n"));
	assert_non_null(
	    strstr(buf_text(&world.test_message), "To: a@example.com\r\n"));
	world.observer(world.observer_arg, 6, "another", true, true);
	world.observer(world.observer_arg, 5, "status=sent", true, false);
	world.observer(world.observer_arg, 5, "removed", true, true);
	world.observer(world.observer_arg, 5, "after the end", true, true);
	assert_answer(fd,
	    "o000000000005: queued\nostatus=sent\noremoved\nx0\n");
}

static void
a_test_goes_to_root_by_default(void **state)
{
	int fd = request(0, "test");

	(void)state;
	turns(3);
	assert_done("submit root root\n");
	assert_int_equal(close(fd), 0);
	turn();
	world.committed(world.committed_arg, 5, 0);
	world.observer(world.observer_arg, 5, "sent", true, true);
}

static void
a_test_that_is_not_sent_is_wrong(void **state)
{
	int fd = start_test();

	(void)state;
	world.observer(world.observer_arg, 5, "deferred", false, true);
	assert_answer(fd, "o000000000005: queued\nodeferred\nx1\n");

	world.refusal = "452 4.3.1 full";
	assert_answer(request(0, "test"),
	    "erelayctl: the test message is refused: 452 4.3.1 full\nx1\n");
	world.refusal = NULL;

	fd = request(0, "test");
	turns(3);
	world.committed(world.committed_arg, 5, ENOSPC);
	assert_answer(fd,
	    "erelayctl: the test message is not queued: "
	    "No space left on device\nx1\n");
}

static const char paused[] =
    "erelay the one is paused: 535 5.7.8 no\n"
    "ewhat to do: check user and password (many providers want an app "
    "password), then relayctl flush\n"
    "erelayctl flush tries again at once\n"
    "x1\n";

static void
a_test_ends_at_once_while_the_relay_is_paused(void **state)
{
	struct buf expected = { NULL, 0, 0 };
	int fd = start_test();

	(void)state;
	/* By its own message, ... */
	world.paused = true;
	world.observer(world.observer_arg, 5, "535 5.7.8 no", false, true);
	buf_printf(&expected, "o000000000005: queued\n%s", paused);
	assert_answer(fd, buf_text(&expected));
	/* ... or before it is sent, ... */
	assert_answer(request(0, "test"), paused);
	assert_done("");
	/* ... or by another's. */
	world.paused = false;
	fd = start_test();
	turns(3);
	world.paused = true;
	pass_time(150);
	assert_answer(fd, buf_text(&expected));
	buf_free(&expected);
}

static void
a_test_ends_after_60_s(void **state)
{
	int fd = start_test();
	unsigned i;

	(void)state;
	for (i = 0; i < 60; i++) {
		turns(2);
		pass_time(980);
	}
	world.observer(world.observer_arg, 5, "still trying", false, false);
	pass_time(2000);
	assert_answer(fd,
	    "o000000000005: queued\nostill trying\n"
	    "erelayctl: test: not sent within 60 s; relayd goes on trying\n"
	    "x1\n");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		TEST(the_socket_is_open_to_all),
		TEST(a_second_daemon_does_not_take_the_socket),
		TEST(reload_holds_the_new_configuration_and_keeps_the_socket),
		TEST(a_request_may_come_octet_by_octet),
		TEST(what_is_no_request_is_refused),
		TEST(a_request_is_at_most_4096_octets),
		TEST(a_client_without_a_request_is_dropped_after_30_s),
		TEST(a_client_that_leaves_is_forgotten),
		TEST(others_leave_room_for_root),
		TEST(others_may_not_act),
		TEST(the_queue_shows_to_others_what_they_sent),
		TEST(the_status_is_for_all),
		TEST(queue_answers_in_records),
		TEST(a_long_queue_is_told_in_slices_as_the_client_reads),
		TEST(a_client_that_stops_reading_is_dropped_after_30_s),
		TEST(flush_takes_all_some_or_a_relay),
		TEST(an_operation_is_done_to_the_messages_named),
		TEST(the_answer_waits_for_the_reports),
		TEST(a_client_that_leaves_stops_bouncing),
		TEST(an_operation_is_done_to_the_messages_sought),
		TEST(many_messages_are_operated_on_in_slices),
		TEST(reload_tells_the_errors),
		TEST(a_test_is_followed_until_it_is_sent),
		TEST(a_test_goes_to_root_by_default),
		TEST(a_test_that_is_not_sent_is_wrong),
		TEST(a_test_ends_at_once_while_the_relay_is_paused),
		TEST(a_test_ends_after_60_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
