/*
 * A client's session with the server (session.c, dialogue.c, reply.c,
 * intake.c, smtp.c, text.c): connection and spool are in memory.
 *
 * A model reads what the client sent and what it was told side by side.  Each
 * command has one reply, a message or chunk too, at its last octet and not
 * before; what was taken for a message is stored, with its very body, and
 * nothing else.  How the octets came in pieces makes no difference.
 *
 * input: an octet that chooses manners, and what the client sends.
 *
 * wrap: read write shutdown fd_close loop_watch loop_unwatch loop_timer_set
 * wrap: loop_timer_clear loop_now random_bits log_info log_warning log_debug
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing
 */
#include "../../session.h"
#include "../model_content.h"

#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONNECTION = 1 << 20, MESSAGES = 64 };

/* What the first octet chooses. */
enum {
	STRANGER = 1, /* may not relay */
	NO_BARE = 2,  /* bare newlines are refused */
	REMOTE = 4,   /* is not on this machine */
	NO_ROOM = 8,  /* for a message */
	WRITE_FAILS = 16,
	COMMIT_FAILS = 32,
};

struct msg {
	queue_id id;
	struct buf content;
	bool enveloped;
	bool committing;
	queue_committed *handler;
	void *arg;
};

/* One run of a session. */
struct run {
	unsigned manners;
	struct span left; /* of what the client sends */
	size_t piece;     /* octets a read, 0: all there is */
	struct buf told;  /* to the client */
	struct buf stored[MESSAGES];
	size_t stored_count;

	bool open;
	unsigned watched;
	void (*event)(void *arg, unsigned events);
	void *event_arg;
	struct timer *again; /* NULL: not running */
	struct msg *pending; /* to be committed */
	size_t live;         /* messages */
	queue_id last_id;
	bool stumbled;
};

static struct world {
	struct config config;
	struct sessions all;
	struct run *run;
	struct buf line; /* of the log */
} world;

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
void __real_fd_close(int *fd);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __wrap_shutdown(int fd, int how);
void __wrap_fd_close(int *fd);
int __wrap_loop_watch(struct loop *l, int fd, unsigned events,
    void (*handler)(void *arg, unsigned events), void *arg);
void __wrap_loop_unwatch(struct loop *l, int fd);
void __wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms);
void __wrap_loop_timer_clear(struct loop *l, struct timer *t);
struct instant __wrap_loop_now(const struct loop *l);
uint64_t __wrap_random_bits(void);
void __wrap_log_info(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);
void __wrap_log_warning(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);
void __wrap_log_debug(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);
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

/* ---- the connection ---- */

ssize_t
__wrap_read(int fd, void *data, size_t size)
{
	struct run *r = world.run;

	if (fd != CONNECTION)
		return __real_read(fd, data, size);
	assert(r->open);
	if (r->piece > 0 && r->piece < size)
		size = r->piece;
	return take_from(&r->left, data, size);
}

ssize_t
__wrap_write(int fd, const void *data, size_t size)
{
	struct run *r = world.run;

	if (fd != CONNECTION)
		return __real_write(fd, data, size);
	assert(r->open && size > 0);
	if (r->piece > 0) {
		r->stumbled = !r->stumbled;
		size = size / 2 + 1;
	}
	if (r->stumbled) {
		errno = EAGAIN;
		return -1;
	}
	buf_append(&r->told, data, size);
	return (ssize_t)size;
}

int
__wrap_shutdown(int fd, int how)
{
	(void)how;
	assert(fd == CONNECTION);
	return 0;
}

void
__wrap_fd_close(int *fd)
{
	if (*fd != CONNECTION)
		__real_fd_close(fd);
	*fd = -1;
}

int
__wrap_loop_watch(struct loop *l, int fd, unsigned events,
    void (*handler)(void *arg, unsigned events), void *arg)
{
	(void)l;
	assert(fd == CONNECTION);
	world.run->watched = events;
	world.run->event = handler;
	world.run->event_arg = arg;
	return 0;
}

void
__wrap_loop_unwatch(struct loop *l, int fd)
{
	(void)l;
	(void)fd;
	world.run->watched = 0;
}

/* Deadlines are never reached. */
void
__wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms)
{
	(void)l;
	if (delay_ms == 0)
		world.run->again = t;
}

void
__wrap_loop_timer_clear(struct loop *l, struct timer *t)
{
	(void)l;
	if (world.run->again == t)
		world.run->again = NULL;
}

struct instant
__wrap_loop_now(const struct loop *l)
{
	(void)l;
	return (struct instant){ 1000, 1700000000000 };
}

uint64_t
__wrap_random_bits(void)
{
	return 42;
}

static void PRINTF_LIKE(1, 0) make_line(const char *format, va_list ap)
{
	buf_clear(&world.line);
	buf_vprintf(&world.line, format, ap);
	assert(is_printable(buf_span(&world.line)));
}

void
__wrap_log_info(const char *part, const char *format, ...)
{
	va_list ap;

	(void)part;
	va_start(ap, format);
	make_line(format, ap);
	va_end(ap);
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	va_list ap;

	(void)part;
	va_start(ap, format);
	make_line(format, ap);
	va_end(ap);
}

void
__wrap_log_debug(const char *part, const char *format, ...)
{
	va_list ap;

	(void)part;
	va_start(ap, format);
	make_line(format, ap);
	va_end(ap);
}

/* ---- the spool ---- */

struct msg *
__wrap_queue_begin(struct queue *q)
{
	struct msg *m = mem_alloc(sizeof(*m));

	(void)q;
	m->id = ++world.run->last_id;
	world.run->live++;
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

	assert(!m->enveloped && !m->committing);
	m->enveloped = true;
	assert(e->sender[0] == '\0' ||
	    smtp_address_valid(span_of(e->sender), ADDRESS_UTF8));
	assert(e->recipient_count > 0 &&
	    e->recipient_count <= world.config.recipient_limit);
	for (i = 0; i < e->recipient_count; i++) {
		assert(smtp_address_valid(span_of(e->recipient[i].address),
		    e->utf8 ? ADDRESS_UTF8 : 0));
		assert(smtp_address_valid(span_of(e->recipient[i].original),
		    ADDRESS_BARE | ADDRESS_UTF8));
	}
}

int
__wrap_msg_write(struct msg *m, struct span content)
{
	assert(m->enveloped && !m->committing && content.len > 0);
	if ((world.run->manners & WRITE_FAILS) != 0) {
		errno = ENOSPC;
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

static void
msg_free(struct msg *m)
{
	buf_free(&m->content);
	free(m);
	world.run->live--;
}

void
__wrap_msg_abort(struct msg *m)
{
	if (m != NULL) {
		assert(!m->committing);
		msg_free(m);
	}
}

void
__wrap_queue_commit(struct msg *m, queue_committed *handler, void *arg)
{
	assert(m->enveloped && world.run->pending == NULL);
	m->committing = true;
	m->handler = handler;
	m->arg = arg;
	world.run->pending = m;
}

bool
__wrap_queue_has_room(const struct queue *q, uint64_t octets, uint64_t min_free)
{
	(void)q;
	(void)min_free;
	return (world.run->manners & NO_ROOM) == 0 || octets == 0;
}

bool
__wrap_queue_is_failing(const struct queue *q)
{
	(void)q;
	return false;
}

/* The end of a turn. */
static void
commit(struct run *r)
{
	struct msg *m = r->pending;
	int error = (r->manners & COMMIT_FAILS) != 0 ? EIO : 0;

	r->pending = NULL;
	if (error == 0 && r->stored_count < MESSAGES)
		buf_add(&r->stored[r->stored_count], buf_span(&m->content));
	r->stored_count += error == 0;
	m->handler(m->arg, m->id, error);
	msg_free(m);
}

/* ---- a run ---- */

static void
on_ended(void *arg)
{
	struct run *r = arg;

	r->open = false;
}

static void
turn(struct run *r)
{
	struct timer *t = r->again;

	if (t != NULL) {
		r->again = NULL;
		t->handler(t->arg);
	} else {
		assert(r->watched != 0);
		r->event(r->event_arg, r->watched);
	}
	if (r->pending != NULL)
		commit(r);
}

static void
play(struct run *r, struct span sent)
{
	struct peer peer = {
		.uid = -1,
		.may_relay = (r->manners & STRANGER) == 0,
		.reject_bare_newline = (r->manners & NO_BARE) != 0,
		.local = (r->manners & REMOTE) == 0,
		.name = "localhost[127.0.0.1]",
		.received = "localhost [127.0.0.1]",
	};
	struct session *s;

	world.run = r;
	r->left = sent;
	r->open = true;
	s = session_new(&world.all, CONNECTION, CONNECTION, &peer);
	session_on_end(s, on_ended, r);
	session_start(s);
	while (r->open)
		turn(r);
	assert(r->live == 0 && r->pending == NULL && r->again == NULL);
	assert(world.all.count.open == 0);
}

/* ---- the model ---- */

/* What the client sent and was told, read side by side. */
struct reading {
	const struct run *run;
	struct span sent;
	struct span told;
	struct buf chunks; /* of the message, so far */
	struct buf text;   /* scratch */
	size_t messages;
	unsigned errors;
	bool over; /* nothing more is listened to */
};

/* Take a whole reply off; false: there is none. */
static bool
take_reply(struct reading *m, struct smtp_reply *reply)
{
	enum smtp_reply_state state = SMTP_REPLY_MORE;
	struct span line;

	*reply = (struct smtp_reply){ .code = 0 };
	while (state == SMTP_REPLY_MORE && m->told.len > 0) {
		line = take_line(&m->told);
		assert(line.len > 0 && line.data[line.len - 1] == '\r');
		state = smtp_reply_line(reply, span_first(line, line.len - 1));
	}
	if (reply->code == 0)
		return false;
	assert(state == SMTP_REPLY_DONE && is_printable(span_of(reply->text)));
	m->errors += reply->text[0] == '5';
	m->over = reply->code == 421;
	return true;
}

static bool
is_told(const struct smtp_reply *reply, const char *text)
{
	return span_starts_nocase(span_of(reply->text), span_of(text));
}

/* The stored message has a valid header and that body. */
static void
check_stored(struct reading *m, struct span sent, bool dots)
{
	size_t scanned = 0, header = 0, body = 0;
	struct span stored;

	assert(m->messages < m->run->stored_count);
	if (m->messages >= MESSAGES)
		return;
	buf_clear(&m->text);
	model_content(sent, dots, &m->text);
	if (!header_end(buf_span(&m->text), &scanned, &header, &body))
		body = m->text.len;
	buf_drop(&m->text, body);
	stored = buf_span(&m->run->stored[m->messages]);
	assert(is_canonical(stored));
	scanned = 0;
	assert(header_end(stored, &scanned, &header, &body));
	assert(body == header + 2);
	assert(span_equal(span_from(stored, body), buf_span(&m->text)));
}

/* Is there a CR or LF alone? */
static bool
has_bare(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if ((s.data[i] == '\n' && (i == 0 || s.data[i - 1] != '\r')) ||
		    (s.data[i] == '\r' &&
			(i + 1 == s.len || s.data[i + 1] != '\n')))
			return true;
	return false;
}

/* A message has ended; it is stored when and only when that is said.  Whoever
 * has bare newlines where they are refused is hung up on, whatever else is
 * wrong with the message. */
static void
judge_message(struct reading *m, const struct smtp_reply *reply,
    struct span sent, bool dots)
{
	bool refused = has_bare(sent) && (m->run->manners & NO_BARE) != 0;

	m->over |= refused;
	if (!is_told(reply, "250 2.0.0 Ok: queued as "))
		return;
	assert(!refused);
	check_stored(m, sent, dots);
	m->messages++;
	buf_clear(&m->chunks);
}

static void
read_data(struct reading *m)
{
	struct span in = m->sent;
	struct smtp_reply reply;
	const char *end = NULL;
	size_t len = 0;

	if (!span_starts_nocase(in, SPAN(".\r\n"))) {
		if (in.len > 0)
			end = memmem(in.data, in.len, "\r\n.\r\n", 5);
		len = end == NULL ? 0 : (size_t)(end - in.data) + 2;
		if (end == NULL) { /* it never ended */
			m->over = true;
			return;
		}
	}
	m->sent = span_from(in, len + 3);
	assert(take_reply(m, &reply));
	judge_message(m, &reply, span_first(in, len), true);
}

/* Is it a chunk that was refused before it came? */
static bool
is_dropped(const struct reading *m, const struct smtp_reply *reply)
{
	return reply->code == 503 || reply->code == 554 ||
	    (reply->code == 452 && (m->run->manners & NO_ROOM) != 0);
}

/* A chunk's octets are no commands, whatever is said of them. */
static void
read_chunk(struct reading *m, uint64_t octets, bool last)
{
	struct span chunk = span_first(m->sent, octets);
	struct smtp_reply reply;

	if (!take_reply(m, &reply)) {
		assert(m->sent.len < octets);
		m->over = true;
		return;
	}
	if (m->over) /* too many errors: before it could come */
		return;
	assert(m->sent.len >= octets);
	m->sent = span_from(m->sent, octets);
	buf_add(&m->chunks, chunk);
	if (last && !is_dropped(m, &reply))
		judge_message(m, &reply, buf_span(&m->chunks), false);
	if (reply.code != 250)
		buf_clear(&m->chunks);
}

static void
obey_reply(struct reading *m, enum smtp_verb verb,
    const struct smtp_reply *reply)
{
	struct smtp_reply farewell;

	if (reply->code == 250 &&
	    (verb == SMTP_RSET || verb == SMTP_EHLO || verb == SMTP_HELO))
		buf_clear(&m->chunks);
	if (reply->code == 354)
		read_data(m);
	else if (reply->code == 221 || verb == SMTP_BDAT ||
	    is_told(reply, "554 5.5.0"))
		m->over = true;
	else if (!m->over && m->errors >= LIMIT_ERRORS)
		assert(take_reply(m, &farewell) && m->over);
}

static void
read_command(struct reading *m)
{
	struct span line = take_line(&m->sent), arg;
	size_t octets = line.len + 1;
	bool bare = line.len == 0 || line.data[line.len - 1] != '\r';
	enum smtp_verb verb = SMTP_UNKNOWN;
	struct smtp_reply reply;
	uint64_t chunk;
	bool last;

	line.len -= bare ? 0 : 1;
	if (octets <= LIMIT_COMMAND &&
	    !(bare && (m->run->manners & NO_BARE) != 0))
		verb = smtp_command(line, &arg);
	if (verb == SMTP_BDAT && smtp_bdat(arg, &chunk, &last)) {
		read_chunk(m, chunk, last);
		return;
	}
	assert(take_reply(m, &reply));
	obey_reply(m, verb, &reply);
}

/* A line that never ends, or TLS in the first octets: told at once. */
static bool
read_no_command(struct reading *m, bool first)
{
	struct span rest = m->sent, line, behind;
	struct smtp_reply reply;
	bool ends = span_cut(rest, '\n', &line, &behind);
	bool tls = first && span_starts_nocase(rest, SPAN("\x16\x03"));
	bool flood = line.len + ends > LIMIT_COMMAND_FLOOD;

	if (ends && !tls && !flood)
		return false;
	if (tls || flood)
		assert(take_reply(m, &reply));
	m->over = true;
	return true;
}

static void
check_run(const struct run *run, struct span sent)
{
	struct reading m = { .run = run,
		.sent = sent,
		.told = buf_span(&run->told) };
	struct smtp_reply reply;
	bool first = true;

	assert(take_reply(&m, &reply) && reply.code == 220);
	while (!m.over && m.sent.len > 0) {
		if (!read_no_command(&m, first))
			read_command(&m);
		first = false;
	}
	assert(m.told.len == 0);
	assert(m.messages == run->stored_count);
	buf_free(&m.chunks);
	buf_free(&m.text);
}

/* ---- both ---- */

static void
make_world(void)
{
	struct config *c = &world.config;

	if (c->references > 0)
		return;
	*c = (struct config){
		.hostname = mem_text("web1.example.com"),
		.origin = mem_text("example.com"),
		.aliases = mem_text(""),
		.local_to = mem_text("admin@example.com"),
		.redirect = mem_text(""),
		.from = mem_text(""),
		.message_size_limit = 2000,
		.recipient_limit = 3,
		.connection_limit = 8,
		.client_timeout = 300,
		.references = 1,
	};
	strings_add(&c->local_names, SPAN("localhost"));
	world.all.config = c;
	world.all.intake = intake_new(NULL, NULL, NULL, c);
	LIST_INIT(&world.all.list);
}

static void
free_run(struct run *r)
{
	size_t i;

	for (i = 0; i < MESSAGES; i++)
		buf_free(&r->stored[i]);
	buf_free(&r->told);
}

static void
compare(const struct run *a, const struct run *b)
{
	size_t i;

	assert(span_equal(buf_span(&a->told), buf_span(&b->told)));
	assert(a->stored_count == b->stored_count);
	for (i = 0; i < a->stored_count && i < MESSAGES; i++)
		assert(span_equal(buf_span(&a->stored[i]),
		    buf_span(&b->stored[i])));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span sent = fuzz_input(data, size);
	struct run whole = { .manners = take_octet(&sent) };
	struct run pieces = { .manners = whole.manners };

	make_world();
	play(&whole, sent);
	check_run(&whole, sent);
	/* A stranger may not send content before it was asked to. */
	if ((whole.manners & REMOTE) == 0) {
		pieces.piece = 1 + crc32c(0, data, size) % 7;
		play(&pieces, sent);
		compare(&whole, &pieces);
	}
	free_run(&whole);
	free_run(&pieces);
	return 0;
}
