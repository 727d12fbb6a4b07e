/*
 * relayd: the contracts between the files, from the bottom layer to the top.
 *
 * One section per file, in the order of the layers (README.md has the map).
 * A file calls the sections above its own, never one below; tests/layers.sh
 * checks it.  What only one file needs is declared in that file.  mail.h and
 * config.h are parts of this header.
 *
 * Conventions: int functions return 0, or -1 with errno set, unless said
 * otherwise.  A struct span is borrowed for the duration of the call.  A
 * number's unit stands in its name or comment; plain waits are in seconds.
 * Memory running out ends the process with EX_TEMPFAIL (see mem_alloc).
 *
 * (Set by hand, as a table: clang-format would break its columns.)
 */
#ifndef RELAYD_H
#define RELAYD_H

/* clang-format off */

#include <sys/types.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAYD_VERSION "0.1.0"

#define PRINTF_LIKE(format, first) \
	__attribute__((__format__(__printf__, format, first)))

/* ---- log.c: one line per event ------------------------------------------ */

enum log_target { LOG_TO_AUTO, LOG_TO_SYSLOG, LOG_TO_STDERR };

enum log_level {
	LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG
};

/*
 * Choose where lines go and which are left out, now or anew.  LOG_TO_AUTO is
 * stderr when that is a pipe, a file, a terminal or the journal, else syslog.
 * On stderr a line starts with time and host as in a syslog file, so that
 * pflogsumm reads it; not on the journal, which adds its own.  json: the line
 * is an object instead, after what syslog or the journal want before it.
 */
void log_open(enum log_target target, enum log_level level, bool json);

/*
 * Write "relayd/PART[PID]: text", or "relayd[PID]: text" when part is NULL,
 * with "warning: " or "error: " before the text as Postfix has it.  Never
 * blocks nor fails: lines that can't be written are counted, and the count is
 * reported later.  A line is printable ASCII of at most LIMIT_LOG_LINE octets;
 * the rest is escaped as \xNN.
 */
void log_error(const char *part, const char *format, ...) PRINTF_LIKE(2, 3);
void log_warning(const char *part, const char *format, ...) PRINTF_LIKE(2, 3);
void log_info(const char *part, const char *format, ...) PRINTF_LIKE(2, 3);
void log_debug(const char *part, const char *format, ...) PRINTF_LIKE(2, 3);

/* For a signal handler: an error's line without its time, made beforehand (text
 * without quotes; returns its length), written by async-signal-safe calls. */
enum { LOG_PREPARED = 320 };
size_t log_prepare(char out[LOG_PREPARED], const char *text);
void log_prepared(const char *line, size_t len);
uint64_t log_lost(void); /* lines that could not be written, since start */

/* ---- buf.c: bytes that know their length -------------------------------- */

/* Borrowed bytes; not NUL-terminated. */
struct span {
	const char *data;
	size_t len;
};

/* Owned bytes that grow; all zero is an empty one. */
struct buf {
	char *data;
	size_t len, size;
};

/* Owned NUL-terminated strings; all zero is an empty list. */
struct strings {
	char **item;
	size_t count;
};

#define SPAN(literal) ((struct span){ (literal), sizeof(literal) - 1 })

void *mem_alloc(size_t size); /* zeroed; without any: log, EX_TEMPFAIL */
/* Resize an array to count members of size octets; new ones not zeroed. */
void *mem_array(void *old, size_t count, size_t size);
char *mem_text(const char *text); /* a copy; NULL stays NULL */

struct span span_of(const char *text);	/* NULL is an empty span */
struct span span_from(struct span s, size_t offset); /* what follows offset */
struct span span_first(struct span s, size_t count); /* at most count octets */
bool span_equal(struct span a, struct span b);
bool span_equal_nocase(struct span a, struct span b);	/* ASCII */
bool span_starts_nocase(struct span s, struct span prefix);
struct span span_trim(struct span s);	/* no SP, TAB, CR, LF at the ends */
/* Split at the first c: true, head and tail without it.  Else false, head = s,
 * tail empty. */
bool span_cut(struct span s, char c, struct span *head, struct span *tail);
char *span_text(struct span s); /* an owned, NUL-terminated copy */
/* Octets of the valid UTF-8 character at the start of s, which is not empty
 * (RFC 3629, section 4); 1 for ASCII, 0: there is none. */
size_t span_utf8(struct span s);
bool span_is_utf8(struct span s);	/* all of it */
bool span_is_ascii(struct span s);	/* no octet over 127 */

void buf_free(struct buf *b);	/* frees the content; b is empty afterwards */
void buf_wipe(struct buf *b);	/* the same for secrets: zeroed first */
void buf_clear(struct buf *b);	/* len = 0; keeps the memory */
void buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_add(struct buf *b, struct span s);
void buf_add_text(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *format, va_list ap)
    PRINTF_LIKE(2, 0);
void buf_drop(struct buf *b, size_t count); /* from the front */
struct span buf_span(const struct buf *b);
/* The content NUL-terminated (the NUL is not counted); valid until b changes. */
const char *buf_text(struct buf *b);
/* Printable ASCII for a log line: everything else, and '\\', as \xNN. */
void buf_add_escaped(struct buf *b, struct span s);
/* The same for a value in a log line: nothing in it ends the value or looks
 * like a field.  Cut to LIMIT_ADDRESS octets, "..." behind them. */
void buf_add_value(struct buf *b, struct span s);
/* The same for words at the end of a log line, '\\' as it is: only what looks
 * like a field is escaped besides. */
void buf_add_words(struct buf *b, struct span s);
/* A JSON string with its quotes; what is not valid UTF-8 becomes U+FFFD. */
void buf_add_json(struct buf *b, struct span s);

void strings_add(struct strings *list, struct span s); /* copies s */
void strings_free(struct strings *list); /* the list is empty afterwards */
bool strings_have(const struct strings *list, struct span s); /* ASCII nocase */

#include "config.h" /* limits, and struct config, which needs the above */

/* ---- util.c: the small things libc lacks -------------------------------- */

struct instant {
	int64_t mono_ms; /* CLOCK_MONOTONIC: for waits */
	int64_t wall_ms; /* CLOCK_REALTIME: for dates and ages */
};

/* The one place that asks the time (tests replace it by --wrap). */
void clock_read(struct instant *now);
enum { DATE_MAX = 40 };
/* RFC 5322, 3.3: "Tue, 24 Nov 2026 05:14:29 +0000", local zone. */
void date_format(char out[DATE_MAX], int64_t wall_ms);

/* How often something took how long, in milliseconds.  All zero is empty. */
enum { HISTOGRAM_BUCKETS = 21 };
struct histogram {
	uint64_t bucket[HISTOGRAM_BUCKETS]; /* up to the bound, and over the
					       bound before */
	uint64_t count;
	int64_t sum_ms, longest_ms;
};
int64_t histogram_bound_ms(size_t bucket);
void histogram_add(struct histogram *h, int64_t ms);

int fd_nonblocking(int fd);
void fd_close(int *fd); /* closes unless -1; *fd = -1; keeps errno */
int write_all(int fd, struct span s); /* EINTR and short writes handled */
int pwrite_all(int fd, struct span s, uint64_t offset); /* the same */
/* Append the content of a regular file: EINVAL for a FIFO or device, EFBIG for
 * more than limit octets.  st (or NULL) receives the fstat() of that file. */
struct stat;
int file_read(const char *path, size_t limit, struct buf *out, struct stat *st);

uint64_t random_bits(void); /* from getrandom() */
/* All of s: decimal digits, at most max; no sign, no spaces. */
bool parse_number(struct span s, uint64_t max, uint64_t *out);
unsigned hex_value(char c); /* of a digit in either case; 16: it is none */
bool parse_size(struct span s, uint64_t *octets);    /* "64K" "25M" "1G" "0" */
bool parse_duration(struct span s, int64_t *seconds); /* "30s" "5m" "4h" "5d" "0" */
bool parse_rate(struct span s, double *per_second); /* "0.5/s" "30/m"; not 0 */

/* ---- checksum.c: CRC-32C (Castagnoli) of more data; start with 0 --------- */

uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* ---- loop.c: waits for descriptors, timers and signals ------------------- */

struct loop;
#define LOOP_READ 1u
#define LOOP_WRITE 2u

/* A wait owned by the caller, who sets handler and arg; all else zero. */
struct timer {
	void (*handler)(void *arg);
	void *arg;
	int64_t at_ms; /* CLOCK_MONOTONIC */
	size_t place;  /* 0: not running; else 1 + its index in the heap */
};

struct loop *loop_new(void);
void loop_free(struct loop *l);

/*
 * Watch fd, or change what is watched.  events: LOOP_READ | LOOP_WRITE, or 0
 * for hang-ups only.  Level-triggered.  An error or hang-up is told as both.
 * The handler may close and unwatch any descriptor, its own too: events
 * already fetched for it are dropped.
 */
int loop_watch(struct loop *l, int fd, unsigned events,
    void (*handler)(void *arg, unsigned events), void *arg);
void loop_unwatch(struct loop *l, int fd); /* before close(); fine if unknown */

void loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms);
void loop_timer_clear(struct loop *l, struct timer *t); /* fine if not running */

/* Block signo and have handler called from the loop instead. */
int loop_signal(struct loop *l, int signo, void (*handler)(void *arg), void *arg);
/* Call handler at the end of every turn, in the order of registration. */
void loop_at_turn_end(struct loop *l, void (*handler)(void *arg), void *arg);
void loop_hurry(struct loop *l); /* the next turn does not wait */
struct instant loop_now(const struct loop *l); /* read once per turn */
const struct histogram *loop_turns(const struct loop *l); /* how long each took */
int loop_run(struct loop *l);	/* until loop_stop(): 0; -1 if waiting fails */
int loop_turn(struct loop *l);	/* one turn (tests) */
void loop_stop(struct loop *l);

#include "mail.h" /* smtp.c to rewrite.c */

/* ---- provider.c: what is known of well-known relayhosts ------------------- */

struct preset {
	const char *name;
	struct { const char *key, *value; } set[6]; /* of a relay section */
	const char *region; /* an example of one, if "%" in host is to become
			       the region; else NULL */
};
const struct preset *preset_find(struct span name); /* NULL: none */
const char *preset_check(struct span name); /* NULL, or what is wrong */

/* What a refusal of a mail command is about. */
enum reply_cause {
	CAUSE_MESSAGE,	   /* it or its recipient */
	CAUSE_SENDER,	   /* not from this envelope sender */
	CAUSE_UNSUITED,	   /* this relayhost can't take it (its size, UTF-8) */
	CAUSE_RATE,	   /* slow down */
	CAUSE_CONNECTIONS, /* too many of them */
	CAUSE_QUOTA,	   /* until tomorrow */
	CAUSE_ACCOUNT,	   /* our login or account */
};
/* text: all of the reply; status: its enhanced code. */
enum reply_cause reply_cause(int code, const char *status, const char *text);

/* ---- queue.c: the spool --------------------------------------------------- */

/* A queue id: 60 bits of time and chance; in text, 12 letters and digits. */
typedef uint64_t queue_id;
enum { QUEUE_ID_MAX = 13 };
void queue_id_text(queue_id id, char out[QUEUE_ID_MAX]);
bool queue_id_parse(struct span text, queue_id *id);
int64_t queue_id_time_ms(queue_id id); /* wall clock, when it was made */
int queue_id_compare(const void *a, const void *b); /* for qsort() */

enum recipient_state {
	RECIPIENT_WAITING = '-', RECIPIENT_SENT = '+', RECIPIENT_FAILED = 'x'
};

/* What was last heard of a recipient; all zero: nothing. */
struct diagnosis {
	char status[12]; /* enhanced status code */
	char *peer;	 /* "host[192.0.2.1]:587"; "none" */
	char *reply;	 /* "550 5.1.1 ...", or words of our own */
	int64_t at_ms;	 /* wall clock */
};

struct recipient {
	char *address;	/* to send to */
	char *original; /* as the client gave it */
	unsigned notify; /* as in struct smtp_rcpt, and ... */
	char *orcpt;	 /* ... so is this; NULL is "" */
	enum recipient_state state;
	struct diagnosis last;
	bool tried;	/* in the present attempt; not stored */
	uint64_t mark_at; /* queue.c's own: where its state is in the file */
};

/* An envelope; owned by whoever made it, envelope_clear() frees its members. */
struct envelope {
	char *sender;		/* "" is the null sender */
	char *original_sender;
	char *client;		/* for the log and the list; "" unknown */
	int64_t uid;		/* of a local peer; -1 unknown */
	int64_t arrived_ms;	/* wall clock */
	bool eight_bit, utf8;	/* so the client said */
	enum dsn_return ret;	/* as in struct smtp_mail, and ... */
	char *envid;		/* ... so is this; NULL is "" */
	struct recipient *recipient;
	size_t recipient_count;
	struct strings names;	/* more originals: "ADDRESS TAB ORIGINAL" */
};
void envelope_clear(struct envelope *e);
/* What is not printable ASCII is escaped. */
void recipient_diagnose(struct recipient *r, const char *status,
    const char *peer, const char *reply, int64_t at_ms);
/* The new recipient, for what else is known of it; valid until the next. */
struct recipient *envelope_add(struct envelope *e, const char *address,
    const char *original);
/* That one of its recipients was given by another name, too. */
void envelope_add_name(struct envelope *e, const char *address,
    const char *original);
/* How many of its recipients are in a state. */
size_t envelope_count(const struct envelope *e, enum recipient_state state);

enum queue_place { PLACE_NEW, PLACE_CUR, PLACE_HOLD, PLACE_FAILED, PLACES };
struct queue;
#define QUEUE_READ_ONLY 1u /* no lock, nothing made or cleaned: for listing */

/* Open the spool, making its directories (0700), and lock it for life.  NULL
 * with errno; EBUSY: the process *owner has it (0: unknown). */
struct queue *queue_open(const char *path, unsigned flags, pid_t *owner);
void queue_close(struct queue *q);
/* What its file system can't do ("make hard links", errno says why) although
 * it is relied upon; NULL: nothing. */
const char *queue_lacks(const struct queue *q);
/* Is there room for a message of so many octets above min_free? */
bool queue_has_room(const struct queue *q, uint64_t octets, uint64_t min_free);
int queue_free_octets(const struct queue *q, uint64_t *octets);

/* A message on its way in. */
struct msg *queue_begin(struct queue *q); /* writes nothing yet */
queue_id msg_id(const struct msg *m);	  /* known at once */
/* The envelope, once, before any content; copied. */
void msg_envelope(struct msg *m, const struct envelope *e);
/* More content, canonical text.  An error (ENOSPC, EIO, ...) is remembered
 * and returned by every later call and by the commit. */
int msg_write(struct msg *m, struct span content);
/* Why it will have to wait, for who looks at the queue; before the commit. */
void msg_waits(struct msg *m, const char *reason);
uint64_t msg_size(const struct msg *m); /* content so far, octets */
void msg_abort(struct msg *m);		/* NULL is fine; nothing stays */

/* Begin one that will take the place of a queued message that is not taken,
 * and then do that, instead of queue_commit(); consumes m.  Nothing was tried
 * then, but recipients have the state that the envelope gives. */
struct msg *queue_begin_again(struct queue *q, queue_id id);
int msg_replace(struct msg *m, enum queue_place place);
/* Let the one that was replaced there be in the queue, and nowhere else. */
int queue_replaced(struct queue *q, queue_id id, enum queue_place place);

/*
 * Ask for the message to be made durable.  Consumes m.  The handler is called
 * from queue_sync() or queue_settle(), never from within this call, with
 *   error 0: file and directory entry are on stable storage; only then may
 *            the caller answer 250, which takes over the responsibility
 *            (RFC 5321, 4.2.5 and 6.1).
 *   error:   an errno; nothing is queued.
 */
typedef void queue_committed(void *arg, queue_id id, int error);
void queue_commit(struct msg *m, queue_committed *handler, void *arg);
/* Make this turn's commits durable, together, at most a group at a time;
 * called at its end.  True: more wait, so the next turn is to come at once. */
bool queue_sync(struct queue *q);
/* Let it not wait for the disk: this is readable when it is due again, or -1. */
int queue_event(struct queue *q);
bool queue_is_committing(const struct queue *q, queue_id id); /* though seen */
void queue_settle(struct queue *q); /* wait for all that is being committed */
const struct histogram *queue_commits(const struct queue *q); /* a group each */
/* Syncs failed three times in a row: for half a minute, accept nothing. */
bool queue_is_failing(const struct queue *q);
/* Marks, moves and removals wait for queue_sync_marks(), within a second. */
bool queue_unsynced(const struct queue *q);
void queue_sync_marks(struct queue *q);

/* A small text of the daemon's in the spool, by name: written, durable, in place
 * of the last one; read, nothing where there is none. */
int queue_keep(const struct queue *q, const char *name, struct span text);
int queue_kept(const struct queue *q, const char *name, struct buf *text);

/* A message on its way out. */
struct entry {
	queue_id id;
	struct envelope envelope;
	uint64_t size;		/* content, octets */
	unsigned has;		/* what the content has: TEXT_* */
	unsigned attempts;	/* failures of its own so far */
	int64_t next_ms;	/* wall clock: not before; 0: at once */
	char *reason;		/* why it waits, as recorded */
	bool warned;		/* its sender knows that it is late */
	const char *no_report;	/* why its sender gets none; not stored */
	/* queue.c's own: */
	struct queue *queue;
	enum queue_place place;
	int fd;
	uint64_t content_at, read_at, notes_at;
	uint32_t crc, crc_wanted;
	bool damaged;		/* seen by entry_read() */
	bool unsynced;		/* marks that are not on stable storage yet */
};

/* Open a queued message to send it; a new one stays so until it is deferred.
 * NULL: ENOENT gone; EBADMSG damaged, now in failed/ (logged); else: later. */
struct entry *queue_take(struct queue *q, queue_id id);
/* Only for reading, and tell where it is; a damaged one stays there. */
struct entry *queue_look(struct queue *q, queue_id id, enum queue_place *place);
/* Content in order.  0 at the end; -1 EBADMSG when the checksum of the whole
 * is wrong, before the last piece is handed out. */
ssize_t entry_read(struct entry *e, char *out, size_t size);
void entry_rewind(struct entry *e);
/* Record what became of a recipient; durable within a second. */
void entry_mark(struct entry *e, size_t recipient, enum recipient_state state);
/* Record its diagnosis; that the sender was warned.  These need disk space:
 * without it the report will say less. */
void entry_diagnosed(struct entry *e, size_t recipient);
void entry_warned(struct entry *e);
void entry_tried(struct entry *e); /* not sent at once: to cur/ */
/* Record an attempt: attempts, the next try, the reason (400 octets). */
void entry_defer(struct entry *e, unsigned attempts, int64_t next_ms,
    const char *reason);
/* Record only why it waits (for the list); not worth a sync. */
void entry_note(struct entry *e, const char *reason);
/* No recipient waits: remove the message, or leave it in failed/ when one has
 * failed.  Frees e.  Needs no free disk space.  -1: it stays in cur/ (logged)
 * until the next start, and is not sent again. */
int entry_finish(struct entry *e);
/* Record, of one that can't be removed, that nobody waits nor is to be told. */
void entry_done(struct entry *e);
void entry_close(struct entry *e); /* it stays queued.  NULL is fine */
/* From failed/ or hold/ back to the queue, failed recipients waiting again,
 * attempts 0.  errno ENOENT: it is not there; EBUSY: others of its recipients
 * still wait, release it when they don't; EBADMSG: it is damaged. */
int queue_release(struct queue *q, queue_id id);
/* From the queue to hold/; to nowhere, wherever it is.  ENOENT: it is not
 * there.  Not for one that is taken.  Durable within a second. */
int queue_hold(struct queue *q, queue_id id);
int queue_delete(struct queue *q, queue_id id);

/* What is seen of a message in passing. */
struct queue_info {
	queue_id id;
	enum queue_place place;
	char name[QUEUE_ID_MAX];
	bool damaged;	/* only reason says anything then */
	uint64_t size;
	unsigned attempts;
	int64_t next_ms;
	int64_t changed_ms; /* wall clock: the file was written to */
	char reason[512];
	struct envelope envelope; /* only with QUEUE_WALK_ENVELOPE */
};

struct queue_walk;
#define QUEUE_WALK_ENVELOPE 1u
/* Walk over one place (or all: PLACES) in no order. */
struct queue_walk *queue_walk_new(struct queue *q, enum queue_place place,
    unsigned flags);
/* Next message, valid until the next call; false: the end.  What is no message
 * of ours is logged, and moved to failed/ (unless read-only) or left. */
bool queue_walk_next(struct queue_walk *w, const struct queue_info **info);
bool queue_walk_failed(const struct queue_walk *w); /* it ended too early */
void queue_walk_free(struct queue_walk *w);

/* ---- conn.c: a connection to the relayhost -------------------------------- */

/* What is wrong with a relay (never with a message). */
enum fault_kind {
	FAULT_NONE,
	FAULT_CONFIG,	   /* a file or password that we can't use */
	FAULT_DNS, FAULT_CONNECT, /* refused, unreachable, timed out */
	FAULT_GREETING, FAULT_EHLO, /* 421, 554, or no SMTP */
	FAULT_STARTTLS,	   /* not offered or refused: nothing was sent */
	FAULT_TLS,	   /* the handshake failed */
	FAULT_CERTIFICATE, /* not trusted, expired, wrong name */
	FAULT_AUTH,	   /* refused, or no mechanism that we can use */
	FAULT_NO_AUTH,	   /* AUTH is not offered although we have a login */
	FAULT_SHUTDOWN,	   /* 421 in a session */
	FAULT_ACCOUNT,	   /* 530, 535 ... to a mail command */
	FAULT_QUOTA,	   /* nothing more is taken until tomorrow */
	FAULT_LOST, FAULT_TIMEOUT, /* in a transaction */
	FAULT_PROTOCOL,	   /* replies that nobody asked for, or garbage */
	FAULTS
};
const char *fault_name(enum fault_kind kind); /* "dns", "certificate" ... */

struct fault {
	enum fault_kind kind;
	int code;	/* reply code, or 0 */
	char text[768]; /* what happened, in words a person can act on, with the
			   relayhost's own words; printable ASCII */
};

struct helper; /* helper.h */
struct connector; /* libcurl's multi handle on the loop */
struct conn;
struct connector *connector_new(struct loop *l); /* NULL: logged why */
void connector_free(struct connector *c);
/* Who runs password_command; without one it is waited for (relayctl). */
void connector_set_helper(struct connector *c, struct helper *helper);

struct conn_handlers {
	void (*ready)(void *arg); /* TLS verified, logged in: talk */
	/* It can't be had.  The owner calls conn_close(). */
	void (*failed)(void *arg, const struct fault *fault);
	void (*event)(void *arg, unsigned events); /* once ready */
};

/* Open a connection: DNS, TCP, greeting, EHLO, STARTTLS or TLS, certificate,
 * AUTH; all within r->connect_timeout.  Nothing secret goes out before TLS is
 * verified; "ready" is told only when 235 was seen, if there is a login.
 * Handlers are called from the loop; config and r stay until conn_close(). */
struct conn *conn_open(struct connector *c, const struct config *config,
    const struct config_relay *r, const struct conn_handlers *handlers,
    void *arg);
void conn_close(struct conn *c); /* no QUIT; NULL is fine */

/* As send(2) and recv(2) on a non-blocking socket: -1 EAGAIN, 0 closed.
 * Receive until EAGAIN.  After EAGAIN from conn_send() the next call must
 * pass the same address and at least as many octets. */
ssize_t conn_send(struct conn *c, const void *data, size_t len);
ssize_t conn_recv(struct conn *c, void *data, size_t size);
void conn_want(struct conn *c, unsigned events); /* LOOP_READ | LOOP_WRITE */

const char *conn_peer(const struct conn *c); /* "host[192.0.2.1]:587"; while it
    is not connected "host:587" */
const char *conn_tls(const struct conn *c); /* "TLSv1.3 ..."; "" in clear */
unsigned conn_can(const struct conn *c, uint64_t *size_limit); /* SMTP_CAN_* */

/* Have each line of the set-up's replies told, with the step that it belongs
 * to: "greeting", "ehlo", "starttls", "ehlo-tls", "auth".  Right after
 * conn_open(); arg is that of the handlers. */
typedef void conn_heard(void *arg, const char *step, struct span line);
void conn_observe(struct conn *c, conn_heard *heard);
const char *conn_step(const struct conn *c); /* the one that is due */

/* ---- advice.c: what is wrong with a relay, and what mends it --------------- */

struct advice {
	const char *cause; /* a word for programs; relayctl(8) lists them */
	const char *what;  /* in words */
	const char *mend;  /* what to do */
	const char *line;  /* for relayd.conf, as an example; or NULL */
};
/* fault->kind FAULT_NONE: a MAIL command was refused.  Never NULL. */
const struct advice *advice_find(const struct fault *fault);
/* Of what no fault tells ("port-blocked"). */
const struct advice *advice_named(const char *cause);

/* ---- dns.c: questions to name servers, for relayctl ------------------------ */

enum dns_type { DNS_A, DNS_AAAA, DNS_MX, DNS_TXT };
enum dns_result {
	DNS_FOUND, DNS_NO_NAME, DNS_NO_DATA,
	DNS_REFUSED, /* an error of the server's */
	DNS_SILENT   /* no server answers */
};
/* Ask, for a few seconds; answers are added to out as text: "192.0.2.1",
 * "10 mx.example.com", the whole of a TXT record (raw bytes without NUL). */
enum dns_result dns_query(const char *name, enum dns_type type,
    struct strings *out);

/* ---- relay.c: the SMTP client dialogue ------------------------------------ */

enum verdict {
	VERDICT_NONE,	  /* not tried: nothing to hold against the message */
	VERDICT_SENT,	  /* its end-of-data reply was awaited and is 2xx */
	VERDICT_DEFERRED, /* refused for now (4xx) */
	VERDICT_FAILED,	  /* refused for good (5xx) */
	VERDICT_UNKNOWN,  /* lost between the end of data and its reply */
};

struct delivery_recipient {
	size_t index;		/* into the envelope */
	enum verdict verdict;
	char status[12];	/* enhanced status code: "2.0.0" */
	char *reply;		/* relayhost's words, or what happened; NULL:
				   undecided, as the maker must leave it */
	enum reply_cause cause;	/* what that reply is about */
};

/* One mail transaction to be made; owned by the maker all the time. */
struct delivery {
	struct entry *entry;
	struct delivery_recipient *recipient;
	size_t recipient_count;
	int64_t begun_ms;  /* monotonic: MAIL was queued for writing */
	bool dsn;	   /* the relayhost is told of NOTIFY */
	bool by_data;	   /* set by the maker: not by BDAT, even if offered */
	bool no_bdat;	   /* BDAT was offered, tried and is not there */
	bool lost;	   /* it pays for the loss of its connection */
	bool behind;	   /* lost with another, whose reply was awaited */
	bool doubtful;	   /* that other, but its reply may have been lost */
	int64_t setup_ms;  /* of its connection, if the first on it; else 0 */
};

struct relay_link; /* one connection and its dialogue */

struct relay_handlers {
	/* The next delivery to make on this link, or NULL: none now. */
	struct delivery *(*next)(void *arg, struct relay_link *link);
	/* Every recipient of d has its verdict; d is its maker's again. */
	void (*done)(void *arg, struct relay_link *link, struct delivery *d);
	void (*ready)(void *arg, struct relay_link *link); /* logged in */
	/* The link is freed after this call; every delivery was given to
	 * done() before.  fault NULL: closed in good order: idle, enough
	 * messages, told to, or by the peer while nothing was asked. */
	void (*closed)(void *arg, struct relay_link *link,
	    const struct fault *fault);
};

/*
 * Open a link.  It asks next() whenever its window has room, so with
 * PIPELINING the end of one message and the start of the next go in one
 * write, and with CHUNKING several messages are in flight; without them the
 * window is one command.  config is held until the link is closed.
 */
struct relay_link *relay_open(struct connector *c, struct loop *l,
    struct config *config, const struct config_relay *r,
    const struct relay_handlers *handlers, void *arg);
void relay_wake(struct relay_link *link);  /* there may be something next */
void relay_shut(struct relay_link *link);  /* finish what runs, QUIT, close */
bool relay_idle(const struct relay_link *link); /* ready and nothing to do */
bool relay_ready(const struct relay_link *link); /* connected and logged in */
/* Let it begin with as many messages in flight as another has grown to. */
void relay_match(struct relay_link *link, const struct relay_link *other);
const char *relay_peer(const struct relay_link *link); /* as conn_peer() */
const char *relay_tls(const struct relay_link *link);  /* as conn_tls() */

/* ---- maildir.c: a Maildir instead of a relayhost, for development ---------- */

/* Make the delivery at once, in a file that is on stable storage then; every
 * recipient gets its verdict. */
void maildir_deliver(const char *path, struct delivery *d, int64_t wall_ms);

/* ---- sched.c: which message goes where and when ---------------------------- */

struct sched;
struct sched *sched_new(struct loop *l, struct queue *q, struct connector *c,
    struct config *config);
void sched_free(struct sched *s);
/* A message is in the queue, to be tried when wall clock reaches due_ms. */
void sched_add(struct sched *s, queue_id id, int64_t due_ms);
/* Why a new message of this sender would have to wait; NULL: it would not. */
const char *sched_waits(const struct sched *s, const char *sender);
/* As sched_add(), now, of one where that is recorded: it stays unopened. */
void sched_add_waiting(struct sched *s, queue_id id, const struct envelope *e);
/* Read the spool and add what is there, in slices, from the loop. */
void sched_start(struct sched *s);
/* New configuration; running transactions end under the old one. */
void sched_configure(struct sched *s, struct config *config);
/* Begin nothing new, end what runs, then call stopped(). */
void sched_stop(struct sched *s, void (*stopped)(void *arg), void *arg);
/* Try a message now (ENOENT: not waiting), or all; lifts relays' pauses. */
int sched_flush(struct sched *s, queue_id id);
void sched_flush_all(struct sched *s);
bool sched_is_active(const struct sched *s, queue_id id); /* being sent */
void sched_forget(struct sched *s, queue_id id); /* it has left the queue */
/* Lift one relay's pause; ENOENT: no such relay. */
int sched_flush_relay(struct sched *s, struct span name);

/*
 * Nobody waits for this message any more, but some of its recipients failed or
 * are to be reported: it is the handler's, in cur/ and not known here any
 * more.  Without a handler it goes to failed/.  late: it has waited for
 * delay_warning; borrowed.
 */
typedef void sched_over(void *arg, struct entry *e);
typedef void sched_late(void *arg, struct entry *e);
void sched_on_end(struct sched *s, sched_over *over, sched_late *late,
    void *arg);

/* Told what became of a message: to control.c, for "relayctl test".
 * text: the log line's words; settled: nothing more will happen by itself. */
typedef void sched_observer(void *arg, queue_id id, const char *text,
    bool sent, bool settled);
void sched_observe(struct sched *s, sched_observer *observer, void *arg);

struct sched_relay_status {
	const char *name, *host;
	unsigned port, connections; /* open now */
	bool paused;
	int64_t retry_in_ms;	/* until the next probe, while paused */
	struct fault fault;	/* the last one; kind FAULT_NONE: never */
	int64_t fault_wall_ms;	/* when that was */
	int64_t sent_wall_ms;	/* last success; 0: never */
	const char *tls;	/* of the last connection; "" in clear, none yet */
	uint64_t sent, deferred, failed; /* recipients, since start */
	const struct histogram *delay; /* of those sent, since they arrived */
	double rate;		/* recipients a second at most now; 0: any */
	int64_t paced_ms;	/* until the next may be sent; 0: now */
	uint64_t throttled;	/* recipients told to slow down, since start */
	unsigned connection_limit; /* what it takes; 0: no limit found */
	uint64_t daily, used_today; /* recipients; daily 0: no limit */
};

struct sched_status {
	bool reading;	       /* the spool is still being read */
	size_t waiting, active; /* messages; active: in flight */
	int64_t oldest_ms;     /* wall clock arrival of the oldest; 0: none */
	int64_t oldest_active_ms; /* of those in flight */
	int64_t started_ms;    /* wall clock, of sched_start() */
};
void sched_status(const struct sched *s, struct sched_status *status);
/* index from 0; false: no such relay. */
bool sched_relay_status(const struct sched *s, size_t index,
    struct sched_relay_status *status);

/* ---- listen.c: listening sockets (the rest is in submit.h) ------------------ */

/* Listen on a unix socket of this mode.  A stale socket file is replaced; a
 * living one is EADDRINUSE, other files EEXIST.  -1: errno, a line in error. */
int listen_unix(const char *path, mode_t mode, struct buf *error);

/* ---- submit.c: the SMTP server dialogue on the local sockets --------------- */

/* sched may be NULL: messages are only stored (--stdio). */
struct submit *submit_new(struct loop *l, struct queue *q, struct sched *sched,
    struct config *config);
/* Whatever its sessions do; no queue_sync() may follow while submit_busy(). */
void submit_free(struct submit *s);

/* Open a listener: binds l->address, or adopts fd (socket activation; it stays
 * open over reloads) unless it is -1.  -1: errno and a line in error. */
int submit_listen(struct submit *s, const struct config_listen *l, int fd,
    struct buf *error);
/* New configuration: opens and closes listeners by difference.  -1: an error
 * (text in error), and everything stays as it was. */
int submit_configure(struct submit *s, struct config *config, struct buf *error);
/* Close the listeners; sessions that are between messages get 421. */
void submit_stop(struct submit *s);
bool submit_busy(const struct submit *s); /* is a message being committed? */
/* Serve one session on two descriptors, then call ended() (--stdio). */
void submit_session(struct submit *s, int in, int out, uid_t uid,
    void (*ended)(void *arg), void *arg);

/* A message of our own (relayctl test), through the same rewriting.  text is
 * canonical.  returns NULL, or the reply it was refused with. */
const char *submit_message(struct submit *s, const char *sender,
    const char *recipient, struct span text, queue_committed *handler, void *arg);

struct submit_status {
	uint64_t sessions, accepted, rejected; /* since start */
	unsigned open;			       /* sessions now */
	size_t aliases;
};
void submit_status(const struct submit *s, struct submit_status *status);
/* Rewrite a message anew from its original envelope; to the queue with it.
 * -1: errno, and it stays as it is.  ENOENT, EBADMSG, ...; EPERM: a recipient
 * would be refused now; EALREADY: all of them have it. */
int submit_requeue(struct submit *s, queue_id id);
/* The bound addresses, as "127.0.0.1:2525" and "unix:/path". */
void submit_listeners(const struct submit *s, struct strings *out);

/* ---- bounce.c: what becomes of a message that was not sent to all ---------- */

struct bounce;
/* Takes over what sched_on_end() tells: writes reports (RFC 3464), or keeps in
 * failed/ what nobody may be told of. */
struct bounce *bounce_new(struct loop *l, struct queue *q, struct sched *sched,
    struct submit *submit, struct config *config);
void bounce_configure(struct bounce *b, struct config *config);
void bounce_free(struct bounce *b); /* before the others */
bool bounce_has(const struct bounce *b, queue_id id); /* is being reported */
/* Return it to its sender; told() when it is gone, or stays (error).  -1: as
 * queue_look(); EDESTADDRREQ: nobody to tell; EPERM: refused; EAGAIN; EBUSY. */
int bounce_now(struct bounce *b, queue_id id, queue_committed *told, void *arg);

/* ---- sweep.c: failed/ does not grow for ever ------------------------------- */

struct sweep;
struct sweep *sweep_new(struct loop *l, struct queue *q, struct config *config);
void sweep_configure(struct sweep *s, struct config *config);
void sweep_free(struct sweep *s);

/* ---- control.c: the control socket ----------------------------------------- */

struct control;
/* What control.c reports on and acts upon; everything is borrowed. */
struct control_parts {
	struct loop *loop;
	struct queue *queue;
	struct sched *sched;
	struct submit *submit;
	struct bounce *bounce;
	void (*reload)(void *arg, struct buf *error); /* error empty: done */
	void *arg;
};

/* Listen at config->control, or on fd (adopted) unless it is -1.  Becomes the
 * observer of parts->sched.  returns NULL with a line of text in error. */
struct control *control_new(const struct control_parts *parts,
    struct config *config, int fd, struct buf *error);
void control_configure(struct control *c, struct config *config);
void control_free(struct control *c); /* before loop, queue, sched, submit */

/* clang-format on */

#endif
