/*
 * A submission side to talk to, for tests: the queue is one in memory whose
 * commits the test completes, the clock stands still, log lines are kept.
 *
 * A test that includes this has at its top a line "wrap:" with
 * queue_begin msg_id msg_envelope msg_write msg_size msg_abort queue_commit
 * queue_has_room queue_is_failing sched_add sched_waits clock_read random_bits
 * log_info log_warning accept4
 */
#ifndef SUBMISSION_H
#define SUBMISSION_H

#include "../submit.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the queue in memory ---- */

struct msg {
	queue_id id;
	struct buf
	    envelope; /* "sender client uid flags dsn: recipient dsn ..." */
	struct buf content;
	queue_committed *handler;
	void *arg;
	bool live; /* begun, and neither aborted nor done */
	bool committing;
	bool stored;
};

enum { MESSAGES = 2000 };

static struct world {
	struct loop *loop;
	struct config config;
	struct submit *submit;
	struct instant now;
	struct buf log;
	struct msg message[MESSAGES];
	size_t begun;
	size_t scheduled;
	bool held; /* commits wait for complete() */
	bool full; /* no room */
	bool failing;
	int write_error;
	int commit_error;
	int accept_error;
	unsigned accepts;
	unsigned ended;
} world;

struct msg *__wrap_queue_begin(struct queue *q);
queue_id __wrap_msg_id(const struct msg *m);
void __wrap_msg_envelope(struct msg *m, const struct envelope *e);
int __wrap_msg_write(struct msg *m, struct span content);
uint64_t __wrap_msg_size(const struct msg *m);
void __wrap_msg_abort(struct msg *m);
void __wrap_queue_commit(struct msg *m, queue_committed *handler, void *arg);
bool __wrap_queue_has_room(const struct queue *q, uint64_t octets,
    uint64_t min_free);
bool __wrap_queue_is_failing(const struct queue *q);
void __wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms);
const char *__wrap_sched_waits(const struct sched *s, const char *sender);
void __wrap_clock_read(struct instant *now);
uint64_t __wrap_random_bits(void);
void __wrap_log_info(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);
void __wrap_log_warning(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);
int __real_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);

struct msg *
__wrap_queue_begin(struct queue *q)
{
	struct msg *m = &world.message[world.begun];

	(void)q;
	assert_true(world.begun < MESSAGES);
	m->id = ++world.begun;
	m->live = true;
	return m;
}

queue_id
__wrap_msg_id(const struct msg *m)
{
	return m->id;
}

void
__wrap_msg_envelope(struct msg *m, const struct envelope *e)
{
	size_t i;

	assert_int_equal(m->envelope.len, 0);
	assert_int_equal(m->content.len, 0);
	buf_printf(&m->envelope, "%s<%s> %s %d%s%s", e->sender,
	    e->original_sender, e->client, (int)e->uid,
	    e->eight_bit ? " 8bit" : "", e->utf8 ? " utf8" : "");
	dsn_add_mail(&m->envelope, e->ret, e->envid);
	buf_add_char(&m->envelope, ':');
	for (i = 0; i < e->recipient_count; i++) {
		buf_printf(&m->envelope, " %s<%s>", e->recipient[i].address,
		    e->recipient[i].original);
		dsn_add_rcpt(&m->envelope, e->recipient[i].notify,
		    e->recipient[i].orcpt);
	}
}

int
__wrap_msg_write(struct msg *m, struct span content)
{
	assert_true(m->live && !m->committing);
	assert_true(m->envelope.len > 0);
	if (world.write_error != 0) {
		errno = world.write_error;
		return -1;
	}
	buf_add(&m->content, content);
	return 0;
}

uint64_t
__wrap_msg_size(const struct msg *m)
{
	return m->content.len;
}

void
__wrap_msg_abort(struct msg *m)
{
	if (m == NULL)
		return;
	assert_true(m->live && !m->committing);
	m->live = false;
}

void
__wrap_queue_commit(struct msg *m, queue_committed *handler, void *arg)
{
	assert_true(m->live && !m->committing);
	assert_true(m->envelope.len > 0);
	m->committing = true;
	m->handler = handler;
	m->arg = arg;
}

bool
__wrap_queue_has_room(const struct queue *q, uint64_t octets, uint64_t min_free)
{
	(void)q;
	(void)min_free;
	return !world.full && octets < (uint64_t)1 << 40;
}

bool
__wrap_queue_is_failing(const struct queue *q)
{
	(void)q;
	return world.failing;
}

void
__wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms)
{
	(void)s;
	(void)id;
	assert_int_equal(due_ms, world.now.wall_ms);
	world.scheduled++;
}

/* No relay is paused. */
const char *
__wrap_sched_waits(const struct sched *s, const char *sender)
{
	(void)s;
	(void)sender;
	return NULL;
}

void
__wrap_clock_read(struct instant *now)
{
	*now = world.now;
}

uint64_t
__wrap_random_bits(void)
{
	return 42;
}

static inline void PRINTF_LIKE(2, 0)
    keep_line(const char *part, const char *format, va_list ap)
{
	buf_printf(&world.log, "%s: ", part == NULL ? "relayd" : part);
	buf_vprintf(&world.log, format, ap);
	buf_add_char(&world.log, '\n');
}

void
__wrap_log_info(const char *part, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	keep_line(part, format, ap);
	va_end(ap);
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	keep_line(part, format, ap);
	va_end(ap);
}

int
__wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	world.accepts++;
	if (world.accept_error != 0) {
		errno = world.accept_error;
		return -1;
	}
	return __real_accept4(fd, a, len, flags);
}

/* Make the waiting commits durable, or not. */
static inline void
complete(void)
{
	size_t i;

	for (i = 0; i < world.begun; i++) {
		struct msg *m = &world.message[i];

		if (!m->committing)
			continue;
		m->committing = false;
		m->live = false;
		m->stored = world.commit_error == 0;
		m->handler(m->arg, m->id, world.commit_error);
	}
}

static inline size_t
stored(void)
{
	size_t i, count = 0;

	for (i = 0; i < world.begun; i++)
		count += world.message[i].stored;
	return count;
}

/* Messages begun that nobody gave back. */
static inline size_t
left_over(void)
{
	size_t i, count = 0;

	for (i = 0; i < world.begun; i++)
		count += world.message[i].live;
	return count;
}

/* ---- the world ---- */

static inline void
forget_messages(void)
{
	size_t i;

	for (i = 0; i < world.begun; i++) {
		buf_free(&world.message[i].envelope);
		buf_free(&world.message[i].content);
		world.message[i] = (struct msg){ 0 };
	}
	world.begun = 0;
	buf_clear(&world.log);
}

static inline int
set_up(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	world = (struct world){
		.config = {
			.hostname = mem_text("web1.example.com"),
			.origin = mem_text("example.com"),
			.aliases = mem_text(""),
			.local_to = mem_text("admin@example.com"),
			.redirect = mem_text(""),
			.from = mem_text(""),
			.message_size_limit = 1 << 20,
			.recipient_limit = 3,
			.connection_limit = 8,
			.client_timeout = 300,
			.references = 1,
		},
		.now = { .mono_ms = 1000, .wall_ms = 1700000000000 },
	};
	strings_add(&world.config.local_names, SPAN("localhost"));
	world.loop = loop_new();
	world.submit =
	    submit_new(world.loop, NULL, (struct sched *)&world, &world.config);
	return 0;
}

static inline int
tear_down(void **state)
{
	struct config *c = &world.config;

	(void)state;
	submit_free(world.submit);
	loop_free(world.loop);
	assert_int_equal(c->references, 1);
	assert_int_equal(left_over(), 0);
	forget_messages();
	buf_free(&world.log);
	strings_free(&c->local_names);
	free(c->hostname);
	free(c->origin);
	free(c->aliases);
	free(c->local_to);
	free(c->redirect);
	free(c->from);
	return 0;
}

/* ---- a directory for sockets and files ---- */

static struct {
	char dir[32];
	char path[64];    /* of a file or socket in it */
	char address[80]; /* "unix:" and that */
} place;

static inline int
set_up_place(void **state)
{
	(void)snprintf(place.dir, sizeof(place.dir), "/tmp/submit.XXXXXX");
	assert_non_null(mkdtemp(place.dir));
	(void)snprintf(place.path, sizeof(place.path), "%s/s", place.dir);
	(void)snprintf(place.address, sizeof(place.address), "unix:%s",
	    place.path);
	return set_up(state);
}

static inline int
tear_down_place(void **state)
{
	(void)tear_down(state);
	(void)unlink(place.path);
	assert_int_equal(rmdir(place.dir), 0);
	return 0;
}

static inline void
write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(place.path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fchmod(fileno(f), mode), 0);
	assert_int_equal(fclose(f), 0);
}

static inline void
turn(void)
{
	loop_hurry(world.loop);
	assert_int_equal(loop_turn(world.loop), 0);
	if (!world.held)
		complete();
}

static inline void
pass(int64_t seconds)
{
	world.now.mono_ms += seconds * 1000;
	world.now.wall_ms += seconds * 1000;
	turn();
}

static inline bool
logged(const char *text)
{
	return strstr(buf_text(&world.log), text) != NULL;
}

/* ---- a client ---- */

static inline void
on_ended(void *arg)
{
	(void)arg;
	world.ended++;
}

static inline int
open_session(void)
{
	int fd[2];

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	submit_session(world.submit, fd[1], fd[1], 1000, on_ended, NULL);
	return fd[0];
}

/* Connect to the listener opened last, of this address. */
static inline int
connect_to(const struct config_listen *c)
{
	struct strings bound = { 0 };
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_un local;
	} a = { .any = { .sa_family = AF_UNIX } };
	socklen_t len = sizeof(a.local);
	const char *address;
	int fd;

	submit_listeners(world.submit, &bound);
	assert_true(bound.count > 0);
	address = bound.item[bound.count - 1];
	if (strncmp(c->address, "unix:", 5) == 0) {
		(void)snprintf(a.local.sun_path, sizeof(a.local.sun_path), "%s",
		    address + 5);
	} else {
		len = sizeof(a.v4);
		a.v4.sin_family = AF_INET;
		a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		a.v4.sin_port =
		    htons((uint16_t)atoi(strrchr(address, ':') + 1));
	}
	strings_free(&bound);
	fd = socket(a.any.sa_family, SOCK_STREAM, 0);
	assert_int_not_equal(fd, -1);
	assert_int_equal(connect(fd, &a.any, len), 0);
	assert_int_equal(fd_nonblocking(fd), 0);
	return fd;
}

static inline void
listen_at(const struct config_listen *c)
{
	struct buf error = { 0 };

	assert_int_equal(submit_listen(world.submit, c, -1, &error), 0);
	buf_free(&error);
}

/* Read what there is; true while the session is open. */
static inline bool
hear(int fd, struct buf *out)
{
	ssize_t n;

	do {
		buf_reserve(out, 4096);
		n = read(fd, out->data + out->len, 4096);
		if (n > 0)
			out->len += (size_t)n;
	} while (n > 0);
	return n == -1 && errno == EAGAIN;
}

/* Octets that the session has not read yet. */
static inline int
unread(int fd)
{
	int octets = 0;

	(void)ioctl(fd, SIOCOUTQ, &octets);
	return octets;
}

/* Let the session work, as long as it listens or has anything to say. */
static inline bool
settle_down(int fd, struct buf *out)
{
	size_t before;
	int left;
	bool open;

	do {
		before = out->len;
		left = unread(fd);
		turn();
		turn();
		open = hear(fd, out);
	} while (open && (out->len > before || unread(fd) < left));
	return open;
}

/* Send, in pieces if need be, and listen. */
static inline bool
tell(int fd, struct span text, struct buf *out)
{
	bool open = true;
	ssize_t n;

	while (text.len > 0 && open) {
		n = send(fd, text.data, text.len, MSG_NOSIGNAL);
		if (n > 0)
			text = span_from(text, (size_t)n);
		else if (errno != EAGAIN)
			break;
		open = settle_down(fd, out);
	}
	return settle_down(fd, out);
}

static inline bool
tell_text(int fd, const char *text, struct buf *out)
{
	return tell(fd, span_of(text), out);
}

#define HELLO    "EHLO client.example\r\n"
#define ENVELOPE "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
#define HEADER                                                           \
	"Date: Tue, 24 Nov 2026 05:14:29 +0000\r\nFrom: a@b.example\r\n" \
	"Message-ID: <1@b.example>\r\n"

/* The first three digits of each final reply line. */
static inline void
codes(const struct buf *replies, struct buf *out)
{
	struct span rest = buf_span(replies), line;

	buf_clear(out);
	while (span_cut(rest, '\n', &line, &rest)) {
		if (line.len < 4 || line.data[3] == '-')
			continue;
		if (out->len > 0)
			buf_add_char(out, ' ');
		buf_append(out, line.data, 3);
	}
}

/* Play a session from its start, check the codes of its replies, and whether
 * it is still open ("250 500 open", "250 421 closed"). */
static inline void
play(struct span text, const char *expected)
{
	struct buf replies = { 0 }, got = { 0 };
	int fd = open_session();
	bool open = tell(fd, text, &replies);

	codes(&replies, &got);
	buf_add_text(&got, open ? " open" : " closed");
	assert_string_equal(buf_text(&got), expected);
	(void)close(fd);
	turn();
	turn();
	buf_free(&replies);
	buf_free(&got);
}

static inline void
play_text(const char *text, const char *expected)
{
	play(span_of(text), expected);
}

#endif
