/*
 * The scheduler's inside: between due.c, age.c, settle.c, quota.c, window.c,
 * limit.c, pace.c, pace_links.c, throttle.c, pool.c, backlog.c, dispatch.c,
 * sched.c and flush.c only.
 */
#ifndef SCHED_H
#define SCHED_H

#include "relayd.h"

/* ---- due.c: when each waiting message is to be tried ---- */

/* 16 octets a message: the whole of what a waiting one takes in memory. */
struct due {
	queue_id id;
	int64_t at_ms; /* monotonic */
};

/* The earliest first; all zero is an empty one. */
struct due_heap {
	struct due *item;
	size_t count;
	size_t size;
};

void due_add(struct due_heap *h, queue_id id, int64_t at_ms);
bool due_pop(struct due_heap *h, int64_t now_ms, struct due *d); /* if any is */
void due_move(struct due_heap *from, struct due_heap *to); /* all of them */
bool due_take(struct due_heap *h, queue_id id);            /* wherever it is */
bool due_has(const struct due_heap *h, queue_id id);
void due_all(struct due_heap *h, int64_t now_ms); /* everything is due now */
void due_free(struct due_heap *h);

/* ---- age.c: how old a message is ---- */

/* All zero at first. */
struct age_clock {
	bool looked;
	int64_t started_ms; /* monotonic */
	int64_t ahead_ms;   /* of monotonic time, when last looked at */
	int64_t jumped_ms;  /* forward, in all, since the start ... */
	int64_t before_ms;  /* ... the last time from here; wall clock */
};

void age_look(struct age_clock *c, struct instant now); /* every turn */
/* Of one that arrived then.  What arrived before the clock jumped is as much
 * younger; between two jumps, that errs on the long side. */
int64_t age_ms(const struct age_clock *c, struct instant now,
    int64_t arrived_ms);
/* Until one that waits for its relay is given up; below 0: now.  The machine
 * may have been off for all its life: that long, an hour at most, it waits
 * from the start on. */
int64_t age_left_ms(const struct age_clock *c, struct instant now,
    int64_t arrived_ms, int64_t life_ms);

/* ---- settle.c: what follows from a verdict ---- */

/* Of a transaction that was begun: see pace.c. */
struct pace_ticket {
	uint64_t number;
	int64_t sent_ms;
};

/* A message being sent, from queue_take() on. */
struct job {
	struct delivery delivery; /* of some of its recipients */
	struct entry *entry;
	struct pool *pool;
	struct job *next;
	bool more;      /* it has recipients still to be tried */
	int64_t due_ms; /* monotonic: its place among those that wait */
	struct pace_ticket ticket;
	int64_t taken_ms; /* monotonic */
	int64_t taken_wall_ms;
	char *reason; /* its last own failure in this attempt */
};

struct job *job_new(struct pool *pool, struct entry *e, struct instant now);
/* The next recipients to send to, at most limit; false: all were tried. */
bool job_prepare(struct job *j, size_t limit);
void job_free(struct job *j); /* closes the entry if it is still there */

struct settle_counts {
	uint64_t sent, deferred, failed;
	struct histogram delay; /* of those sent, since they arrived */
};

/* Where a delivery ended. */
struct settle_scene {
	const struct config *config;
	struct instant now;
	const struct age_clock *ages;
	const char *peer; /* "host[192.0.2.1]:587" */
	struct settle_counts *counts;
	struct history *history;
	sched_observer *observer; /* may be NULL, as may the other two */
	void *observer_arg;
	sched_over *over;
	sched_late *late;
	void *over_arg;
};

enum outcome {
	OUTCOME_OVER,  /* the message has left the queue */
	OUTCOME_LATER, /* to be tried again at entry->next_ms */
	OUTCOME_MORE,  /* other recipients of it are still to be tried */
	OUTCOME_AGAIN, /* at once, in its place: it was not tried, or hardly */
};

/* Log and record every verdict of a delivery and say what is to be done. */
enum outcome settle(const struct settle_scene *scene, struct job *j);
/* The same where the rest, after OUTCOME_MORE, can't be sent now. */
enum outcome settle_rest(const struct settle_scene *scene, struct job *j);
/* Tell that a message waits because of its relay; costs it no retry.  False:
 * its time was over, and e is gone. */
bool settle_waiting(const struct settle_scene *scene, struct entry *e,
    const struct fault *fault);
/* The same for a new message, in the spool of which it is recorded already. */
void settle_new(const struct settle_scene *scene, queue_id id,
    const struct envelope *e, const struct fault *fault);

/* ---- quota.c: recipients in a rolling day ---- */

/* One quarter more than a day has, so that none is forgotten too early. */
enum { QUOTA_QUARTERS = 97 };

/* All zero: no limit. */
struct quota {
	uint64_t limit;
	uint64_t used;                  /* sum of the quarters */
	uint32_t count[QUOTA_QUARTERS]; /* a ring, by number of the quarter */
	int64_t quarter;                /* the number of the newest */
	int64_t shift_ms; /* from monotonic time to that of the quarters */
};

void quota_add(struct quota *q, int64_t now_ms, unsigned recipients);
void quota_give_back(struct quota *q, int64_t sent_ms, unsigned recipients);
uint64_t quota_used(const struct quota *q, int64_t now_ms);
int64_t quota_wait_ms(const struct quota *q, int64_t now_ms,
    unsigned recipients);
/* To and from one line of text, at most some hundred octets.  The time between
 * the two is the wall clock's: one set back counts as no time.  load: false,
 * and nothing is changed, for anything that save has not written. */
void quota_save(const struct quota *q, struct instant now, struct buf *out);
bool quota_load(struct quota *q, struct instant now, struct span text);

/* ---- window.c: what was sent lately ---- */

enum { WINDOW_MARKS = 64 };

/* So many from first to last, evenly. */
struct mark {
	int64_t first_ms, last_ms;
	uint64_t count;
};

/* A ring, oldest first; all zero is an empty one. */
struct window {
	struct mark mark[WINDOW_MARKS];
	unsigned first, count;
};

/* Forgets what is older than keep_ms. */
void window_add(struct window *w, int64_t now_ms, unsigned recipients,
    int64_t keep_ms);
/* What was sent at sent_ms has not counted. */
void window_give_back(struct window *w, int64_t sent_ms, unsigned recipients);
/* What was sent at sent_ms has counted at counted_ms, which is later. */
void window_move(struct window *w, int64_t sent_ms, int64_t counted_ms,
    unsigned recipients, int64_t keep_ms);
struct mark window_since(const struct window *w, int64_t after_ms);
/* Until at most keep recipients were sent in the last length_ms. */
int64_t window_wait_ms(const struct window *w, int64_t now_ms,
    int64_t length_ms, uint64_t keep);
void mark_take(struct mark *m, unsigned recipients); /* not below 0 */

/* ---- limit.c: what relayhosts allow ---- */

/* At most so many recipients in any time so long. */
struct pace_limit {
	uint64_t count; /* 0: no limit */
	int64_t window_ms;
};

double limit_rate(const struct pace_limit *l); /* recipients a second */
/* So many that one more is little. */
bool limit_is_fine(const struct pace_limit *l);
/* A window, and a little more because clocks differ. */
int64_t limit_behind(int64_t window_ms);
/* The same of the windows by which most limits are set, shortest first. */
enum { USUAL_WINDOWS = 5 };
int64_t limit_usual_ms(unsigned i);
/* It is one of them, or up to a fifteenth longer. */
bool limit_is_likely(const struct pace_limit *l);
bool limit_is_usual(const struct pace_limit *l);
/* A window that is nearly one of the usual is that one. */
void limit_round_up(struct pace_limit *l);
/* By the smallest step that makes a difference. */
void limit_lower(struct pace_limit *l);
/* Raise it, by this part of it: one more at least; a shorter window, yet not
 * past one of the usual, which is the likeliest. */
void limit_add(struct pace_limit *l, double more);
void limit_shorten(struct pace_limit *l, double more);

/* ---- pace.c: how fast a relay may be sent to ---- */

enum pace_state {
	PACE_FREE,    /* never throttled, or long ago */
	PACE_KNOWN,   /* below a limit that was accepted */
	PACE_TRIAL,   /* trying a little more */
	PACE_PROBING, /* throttled: one at a time, until one is accepted */
};

/* All zero: neither a ceiling nor a quota. */
struct pace {
	double ceiling; /* recipients a second; 0: none */
	double full_ms; /* when the ceiling has its whole burst again */
	struct quota quota;

	enum pace_state state;
	struct pace_limit limit;
	struct pace_limit before; /* PACE_TRIAL: what it falls back to */
	double refused_rate;      /* the lowest known to be too fast; 0: none */
	double step;              /* of the next trial */
	bool shorter;             /* ... is a shorter window, not more in it */
	uint64_t interval;        /* accepted recipients between two trials */
	uint64_t steady;          /* so many of them since it changed */
	uint64_t calm;            /* the same since the last event */
	uint64_t number;          /* of the last transaction */
	uint64_t changed;         /* the last one under another limit */
	uint64_t event;     /* the last one sent before it was throttled */
	int64_t refused_ms; /* when that was */
	int64_t resume_ms;  /* PACE_KNOWN: nothing is sent before */
	bool chance;        /* ... and it was no more than that */
	unsigned odd;       /* refused at any pace, so many times in a row */
	struct pace_limit odd_limit; /* before these */

	struct window sent; /* refusals taken out */
	double latency_ms;  /* the shortest from a message to its reply */
	struct mark run;    /* all since the last probe accepted */
	struct mark last;   /* the run before, if under a limit */
	struct mark recent; /* PACE_PROBING: in the limit's last window */
	bool young;         /* PACE_PROBING: the run had just begun */

	int64_t probe_ms;    /* PACE_PROBING: when, or when it was sent */
	int64_t delay_ms;    /* to the next */
	bool probe_out;      /* waits for its reply */
	int64_t accepted_ms; /* the last reply to say so */
	unsigned open;       /* recipients whose reply is awaited */
	uint64_t throttled;
};

/* ceiling: recipients a second, 0: none; daily: 0: no limit. */
void pace_init(struct pace *p, double ceiling, uint64_t daily);
/* How long a message to so many must wait: 0: it may be sent now; INT64_MAX:
 * until one of the replies that are awaited is there. */
int64_t pace_wait_ms(const struct pace *p, int64_t now_ms, unsigned recipients);
/* A transaction begins.  What becomes of it, in parts that sum up to
 * recipients, is told by the next four. */
struct pace_ticket pace_sent(struct pace *p, int64_t now_ms,
    unsigned recipients);
void pace_accepted(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients);
/* "Slow down": they count as not sent. */
void pace_throttled(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients);
/* It was not tried after all. */
void pace_unsent(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients);
/* Anything else (refused for good, connection lost): may have counted. */
void pace_dropped(struct pace *p, struct pace_ticket ticket, int64_t now_ms,
    unsigned recipients);

struct pace_status {
	double rate;         /* recipients a second now; 0: no limit */
	double refused_rate; /* known to be too fast; 0: none */
	bool probing;
	uint64_t throttled; /* recipients, since the start */
	uint64_t used_today;
};
void pace_status(const struct pace *p, int64_t now_ms,
    struct pace_status *status);

/* ---- pace_links.c: how many connections a relayhost takes ---- */

/* All zero: as many as configured. */
struct pace_links {
	unsigned limit;   /* 0: none found */
	int64_t again_ms; /* when one more is tried */
	int64_t wait_ms;
};

unsigned pace_links_allowed(const struct pace_links *l, int64_t now_ms,
    unsigned configured);
/* "Too many connections"; open counts that one too. */
void pace_links_refused(struct pace_links *l, int64_t now_ms, unsigned open);
/* One more is ready for mail. */
void pace_links_ready(struct pace_links *l, int64_t now_ms, unsigned open);

/* ---- throttle.c: the pace of a relay at work ---- */

/* Shared by the pools that a relay has over reloads: a reply may still be on
 * its way to the last one. */
struct throttle {
	struct pace pace;
	struct pace_links links;
	unsigned references;
	bool unsaved;     /* its quota has changed */
	double told_rate; /* in the log */
};

struct throttle *throttle_new(const struct config_relay *r);
/* One more reference, under what the configuration says now. */
struct throttle *throttle_hold(struct throttle *t,
    const struct config_relay *r);
void throttle_release(struct throttle *t);
/* A delivery begins, and ends with its verdicts. */
void throttle_begin(struct throttle *t, struct job *j, int64_t now_ms);
void throttle_end(struct throttle *t, const struct job *j, int64_t now_ms);
/* A recipient of it that was refused because of this, or NULL. */
const struct delivery_recipient *throttle_cause(const struct delivery *d,
    enum reply_cause cause);
/* Its quota as a line to keep; from all of these lines. */
void throttle_save(struct throttle *t, const char *name, struct instant now,
    struct buf *out);
void throttle_load(struct throttle *t, const char *name, struct instant now,
    struct span text);

/* ---- pool.c: the links to one relay, and its pauses ---- */

struct pool {
	struct sched *sched;
	struct config *config; /* held */
	const struct config_relay *relay;
	struct due_heap ready;  /* due, and to go this way */
	struct due_heap parked; /* due, but no relay takes them now; this one is
				   the first that would; at: its time is over */
	queue_id taken;         /* the last message */
	bool lost; /* one has paid for the loss of the link that closes now */
	bool suspect;    /* and it had failed before */
	unsigned losses; /* excused, and none was answered since */
	bool wanted;     /* messages go another way because of the pause */
	bool probing;    /* connected, but only a message can end the pause */
	struct relay_link **link;
	size_t link_count;
	bool retired; /* by a reload: goes with its last link */
	struct throttle *throttle;
	unsigned
	    next_size; /* recipients of its next message, as far as known */
	bool held;     /* a link had to wait for the pace */
	bool paused;
	int64_t pause_ms;    /* the present wait; 0: none yet */
	int64_t probe_at_ms; /* monotonic */
	struct fault fault;
	int64_t fault_wall_ms;
	int64_t sent_wall_ms;
	char tls[128];
	int64_t by_data_ms; /* BDAT is not tried until then; 0: never failed */
	struct settle_counts counts;
};

struct pool *pool_new(struct sched *s, struct config *config,
    const struct config_relay *relay);
void pool_free(struct pool *p);
/* What is known of the relay goes on under a new configuration. */
void pool_inherit(struct pool *p, const struct pool *old);
/* A fault of the relay: only a probe tries it until the pause is over. */
void pool_pause(struct pool *p, const struct fault *fault, struct instant now);
void pool_recover(struct pool *p); /* it works again: the pause is over */
void pool_lift(struct pool *p);    /* told to try at once */
/* How long the next delivery must wait: 0; INT64_MAX: until a reply is there. */
int64_t pool_wait_ms(const struct pool *p, int64_t now_ms);
/* May one more connection be tried? */
bool pool_may_open(const struct pool *p, int64_t now_ms);
/* One of its connections, not the only one, was refused as one too many. */
void pool_crowded(struct pool *p, const char *reply, struct instant now);
/* It has no BDAT, though it offers CHUNKING; is that (still) so? */
void pool_no_bdat(struct pool *p, int64_t now_ms);
bool pool_by_data(const struct pool *p, int64_t now_ms);
/* May it be probed now, and is there a reason to? */
bool pool_probes(const struct pool *p, int64_t now_ms);
void pool_status(const struct pool *p, struct instant now,
    struct sched_relay_status *status);

/* ---- backlog.c: all messages that wait or are in flight ---- */

struct backlog {
	struct queue *queue;
	struct pool **pool; /* in the order of the file */
	size_t pool_count;
	bool by_sender;          /* a relay serves some senders only */
	struct due_heap waiting; /* all that have no way yet */
	struct job *active;      /* in flight, of every pool */
	size_t active_count;
	sched_over *over; /* for one whose end was cut short; may be NULL */
	void *over_arg;
};

/* What becomes of messages that can't be sent now. */
struct backlog_handlers {
	/* It waits for p, which is paused; tell its recipients.  False: its
	 * time was over, and e is gone. */
	bool (*parked)(struct pool *p, struct entry *e);
	/* No relay serves its sender.  e is the handler's. */
	void (*orphan)(void *arg, struct entry *e);
	void *arg;
};

/* Give what is due its way, a slice of it.  Returns true if more is due. */
bool backlog_sort(struct backlog *b, struct instant now,
    const struct backlog_handlers *handlers);
/* The relay that a sender's message would wait for, as all are paused that
 * serve it; else NULL.  And let it wait there. */
struct pool *backlog_paused(const struct backlog *b, const char *sender);
void backlog_park(struct pool *p, queue_id id, const struct envelope *e,
    struct instant now);
/* The next job for a pool; NULL: none now. */
struct job *backlog_take(struct backlog *b, struct pool *p, struct instant now);
void backlog_end(struct backlog *b, struct job *j); /* frees it */
/* Let those that are parked and too old by now be told so. */
void backlog_expire(struct backlog *b, int64_t now_ms);
/* Let all that a pool has put aside find its way anew. */
void backlog_again(struct backlog *b);
/* A relay behind p that would take this sender's message now, or NULL. */
struct pool *backlog_next(const struct backlog *b, const struct pool *p,
    const char *sender);
bool backlog_is_active(const struct backlog *b, queue_id id);
bool backlog_has(const struct backlog *b, queue_id id); /* active or not */
bool backlog_drop(struct backlog *b, queue_id id);      /* false: not waiting */
size_t backlog_waiting(const struct backlog *b);
queue_id backlog_oldest(const struct backlog *b); /* UINT64_MAX: none */
queue_id backlog_oldest_active(const struct backlog *b);
void backlog_set_pools(struct backlog *b, struct pool **pool, size_t count);
void backlog_clear(struct backlog *b); /* frees all but the pools */

/* ---- dispatch.c, sched.c, flush.c ---- */

struct sched {
	struct loop *loop;
	struct queue *queue;
	struct connector *connector;
	struct config *config; /* held */
	struct backlog backlog;
	struct history *history;
	size_t link_count;     /* of every pool */
	struct pool **retired; /* with links that still end */
	size_t retired_count;
	struct queue_walk *walk; /* the spool is being read */
	enum queue_place walk_place;
	bool walk_again; /* a part of it for the second time */
	int64_t started_wall_ms;
	struct age_clock ages;
	struct timer timer;
	struct timer walk_timer;
	struct timer save_timer; /* of the quotas */
	bool save_failed;        /* the last time */
	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
	sched_observer *observer;
	void *observer_arg;
	sched_late *late; /* the other is in backlog */
};

/* One link more for a pool. */
void dispatch_open(struct sched *s, struct pool *p);
struct settle_scene dispatch_scene(struct pool *p, const char *peer);
/* Every recipient of the job's delivery has its verdict. */
void dispatch_conclude(struct pool *p, struct job *j,
    const struct settle_scene *scene);
/* Messages between two transactions go back to the queue. */
void dispatch_put_back(struct pool *p);

#endif
