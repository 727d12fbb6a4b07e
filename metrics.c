/*
 * What is told to those who watch the daemon: metrics, whether it lives, and
 * whether it accepts mail.  How it gets to them is http.c's and verbs.c's.
 *
 * The number of series is bounded: by the relays of the configuration, whose
 * names need no escape (config_check_name), and nothing that comes with mail.
 */
#include "metrics.h"
#include "http.h"

#include <sys/resource.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
	COUNT_SLICE = 100,        /* messages of hold and failed a turn ... */
	COUNT_AGE_MS = 60 * 1000, /* ... and at most so often */
};

struct metrics {
	struct loop *loop;
	struct http *http;
	struct queue *queue;
	struct report_source source; /* counts: of hold and failed */
	struct config *config;       /* held; NULL before the first */

	bool counted; /* once */
	int64_t counted_ms;
	struct report_counts counting;
	struct queue_walk *walk;
	enum queue_place place; /* being walked */
	struct timer timer;
};

/* ---- the form ---- */

struct page {
	struct buf *out;
	bool openmetrics;
};

static bool
ends_with(struct span s, struct span end)
{
	return s.len > end.len &&
	    span_equal(span_from(s, s.len - end.len), end);
}

/*
 * What the samples that follow are about.  Here OpenMetrics names a counter
 * without its suffix, Prometheus' own format with it; to the latter the units
 * are comments.
 */
static void
add_family(const struct page *p, const char *name, const char *type,
    const char *help)
{
	struct span base = span_of(name), shown = base;
	const char *unit = NULL;

	if (ends_with(base, SPAN("_total")))
		base.len -= sizeof("_total") - 1;
	if (p->openmetrics)
		shown = base;
	if (ends_with(base, SPAN("_seconds")))
		unit = "seconds";
	else if (ends_with(base, SPAN("_bytes")))
		unit = "bytes";
	buf_printf(p->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)shown.len,
	    shown.data, help, (int)shown.len, shown.data, type);
	if (unit != NULL)
		buf_printf(p->out, "# UNIT %.*s %s\n", (int)shown.len,
		    shown.data, unit);
}

static void
add_metric(const struct page *p, const char *name, const char *type,
    const char *help, double value)
{
	add_family(p, name, type, help);
	buf_printf(p->out, "%s %.15g\n", name, value);
}

/* With a label, and behind it another one, or NULL. */
static void
add_sample(const struct page *p, const char *name, const char *const label[4],
    double value)
{
	buf_printf(p->out, "%s{%s=\"%s\"", name, label[0], label[1]);
	if (label[2] != NULL)
		buf_printf(p->out, ",%s=\"%s\"", label[2], label[3]);
	buf_printf(p->out, "} %.15g\n", value);
}

static double
seconds(int64_t ms)
{
	return (double)ms / 1000;
}

/* Its buckets from first_ms to last_ms; relay may be NULL. */
static void
add_histogram(const struct page *p, const char *name, const char *relay,
    const struct histogram *h, int64_t first_ms, int64_t last_ms)
{
	struct buf label = { NULL, 0, 0 };
	uint64_t count = 0;
	size_t i;

	if (relay != NULL)
		buf_printf(&label, "relay=\"%s\",", relay);
	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		int64_t bound = histogram_bound_ms(i);

		count += h->bucket[i];
		if (bound < first_ms || bound > last_ms)
			continue;
		/* As OpenMetrics wants it: "0.5", "1.0". */
		buf_printf(p->out, "%s_bucket{%sle=\"%.*g%s\"} %" PRIu64 "\n",
		    name, buf_text(&label), 15, seconds(bound),
		    bound % 1000 == 0 ? ".0" : "", count);
	}
	buf_printf(p->out, "%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name,
	    buf_text(&label), h->count);
	buf_clear(&label);
	if (relay != NULL)
		buf_printf(&label, "{relay=\"%s\"}", relay);
	buf_printf(p->out,
	    "%s_sum%s %.15g\n"
	    "%s_count%s %" PRIu64 "\n",
	    name, buf_text(&label), seconds(h->sum_ms), name, buf_text(&label),
	    h->count);
	buf_free(&label);
}

/* ---- the process ---- */

/* -1: it can't be known. */
static double
open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	double count = -3; /* ".", "..", and dir itself */

	if (dir == NULL)
		return -1;
	while (readdir(dir) != NULL)
		count++;
	(void)closedir(dir);
	return count;
}

static void
add_process(const struct page *p, const struct report_source *s,
    const struct sched_status *sched)
{
	struct rlimit files;
	struct rusage used;

	add_family(p, "relayd_build_info", "gauge", "The version that runs.");
	add_sample(p, "relayd_build_info",
	    (const char *[4]){ "version", RELAYD_VERSION }, 1);
	add_metric(p, "process_start_time_seconds", "gauge",
	    "When the daemon started, since the epoch.",
	    seconds(sched->started_ms));
	if (getrusage(RUSAGE_SELF, &used) == 0)
		add_metric(p, "process_cpu_seconds_total", "counter",
		    "Processor time used.",
		    (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
			(double)(used.ru_utime.tv_usec +
			    used.ru_stime.tv_usec) /
			    1e6);
	add_metric(p, "process_open_fds", "gauge", "Open file descriptors.",
	    open_descriptors());
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		add_metric(p, "process_max_fds", "gauge",
		    "The most file descriptors that may be open.",
		    (double)files.rlim_cur);
	add_metric(p, "relayd_log_lines_lost_total", "counter",
	    "Log lines that could not be written.", (double)log_lost());
	add_family(p, "relayd_loop_turn_seconds", "histogram",
	    "How long a turn of the event loop takes, without its waiting.");
	add_histogram(p, "relayd_loop_turn_seconds", NULL, loop_turns(s->loop),
	    0, 10000);
	add_metric(p, "relayd_loop_stall_seconds", "gauge",
	    "The longest turn of the event loop since the start.",
	    seconds(loop_turns(s->loop)->longest_ms));
}

/* ---- the queue ---- */

static double
age(const struct report_source *s, int64_t arrived_ms)
{
	return arrived_ms == 0 || arrived_ms > s->wall_ms
	    ? 0
	    : seconds(s->wall_ms - arrived_ms);
}

static void
add_queue(const struct page *p, const struct report_source *s,
    const struct sched_status *sched, bool counted)
{
	static const char name[] = "relayd_queue_messages",
			  oldest[] = "relayd_queue_oldest_age_seconds";
	const struct report_counts *c = &s->counts;
	size_t i, states = counted ? 4 : 2;
	const struct {
		const char *state;
		double count;
		int64_t oldest_ms;
	} row[] = {
		{ "waiting", (double)sched->waiting, sched->oldest_ms },
		{ "active", (double)sched->active, sched->oldest_active_ms },
		{ "hold", (double)c->hold, c->oldest_hold_ms },
		{ "failed", (double)c->failed, c->oldest_failed_ms },
	};

	add_family(p, name, "gauge", "Messages in the spool.");
	for (i = 0; i < states; i++)
		add_sample(p, name, (const char *[4]){ "state", row[i].state },
		    row[i].count);
	add_family(p, oldest, "gauge",
	    "The age of the oldest of them, 0 without any.");
	for (i = 0; i < states; i++)
		add_sample(p, oldest,
		    (const char *[4]){ "state", row[i].state },
		    age(s, row[i].oldest_ms));
	add_metric(p, "relayd_queue_reading", "gauge",
	    "1 while the spool is still being read after the start.",
	    sched->reading);
	if (counted)
		add_metric(p, "relayd_queue_failed_bytes", "gauge",
		    "The size of the messages in failed/.",
		    (double)c->failed_octets);
}

static void
add_spool(const struct page *p, const struct report_source *s)
{
	uint64_t room;

	if (queue_free_octets(s->queue, &room) == 0)
		add_metric(p, "relayd_spool_free_bytes", "gauge",
		    "What is left on the spool's file system.", (double)room);
	add_family(p, "relayd_commit_seconds", "histogram",
	    "How long it takes to make a group of messages durable.");
	add_histogram(p, "relayd_commit_seconds", NULL, queue_commits(s->queue),
	    0, 10000);
}

/* ---- submission ---- */

static const char *
why_not_ready(const struct report_source *s)
{
	struct strings listeners = { NULL, 0 };
	const char *why = report_refusal(s);

	submit_listeners(s->submit, &listeners);
	if (listeners.count == 0)
		why = "relayd is stopping";
	strings_free(&listeners);
	return why;
}

static void
add_submission(const struct page *p, const struct report_source *s)
{
	struct submit_status submit;

	submit_status(s->submit, &submit);
	add_metric(p, "relayd_accepting", "gauge",
	    "1 while mail is accepted, as /readyz tells.",
	    why_not_ready(s) == NULL);
	add_metric(p, "relayd_messages_accepted_total", "counter",
	    "Messages accepted from clients.", (double)submit.accepted);
	add_metric(p, "relayd_commands_rejected_total", "counter",
	    "Commands of clients that were refused.", (double)submit.rejected);
	add_metric(p, "relayd_sessions_total", "counter",
	    "Sessions of clients.", (double)submit.sessions);
	add_metric(p, "relayd_sessions_open", "gauge",
	    "Sessions of clients that are open.", submit.open);
}

/* ---- relays ---- */

static void
add_deliveries(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	add_sample(p, name,
	    (const char *[4]){ "relay", r->name, "status", "sent" },
	    (double)r->sent);
	add_sample(p, name,
	    (const char *[4]){ "relay", r->name, "status", "deferred" },
	    (double)r->deferred);
	add_sample(p, name,
	    (const char *[4]){ "relay", r->name, "status", "bounced" },
	    (double)r->failed);
}

static void
add_delay(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	add_histogram(p, name, r->name, r->delay, 100, INT64_MAX);
}

static void
add_paused(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	add_sample(p, name,
	    (const char *[4]){ "relay", r->name, "fault",
		r->paused ? fault_name(r->fault.kind) : "none" },
	    r->paused);
}

static void
add_retry(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	add_sample(p, name, (const char *[4]){ "relay", r->name },
	    seconds(r->retry_in_ms));
}

static void
add_connections(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	add_sample(p, name, (const char *[4]){ "relay", r->name },
	    r->connections);
}

static void
add_throttled(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	add_sample(p, name, (const char *[4]){ "relay", r->name },
	    (double)r->throttled);
}

static void
add_rate(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	if (r->rate > 0)
		add_sample(p, name, (const char *[4]){ "relay", r->name },
		    r->rate);
}

static void
add_last_success(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	if (r->sent_wall_ms != 0)
		add_sample(p, name, (const char *[4]){ "relay", r->name },
		    seconds(r->sent_wall_ms));
}

/* The first word of "TLSv1.3 ...". */
static void
add_tls(const struct page *p, const char *name,
    const struct sched_relay_status *r)
{
	struct span version, rest;
	char *copy;

	(void)span_cut(span_of(r->tls), ' ', &version, &rest);
	copy = span_text(version.len == 0 ? SPAN("none") : version);
	add_sample(p, name,
	    (const char *[4]){ "relay", r->name, "version", copy }, 1);
	free(copy);
}

static void
add_relays(const struct page *p, const struct report_source *s)
{
	static const struct {
		const char *name, *type, *help;
		void (*add)(const struct page *p, const char *name,
		    const struct sched_relay_status *r);
	} families[] = {
		{ "relayd_deliveries_total", "counter",
		    "Recipients by what became of an attempt.",
		    add_deliveries },
		{ "relayd_delivery_seconds", "histogram",
		    "From arrival to the relayhost's acceptance.", add_delay },
		{ "relayd_relay_paused", "gauge",
		    "1 while a fault of the relay pauses it.", add_paused },
		{ "relayd_relay_retry_seconds", "gauge",
		    "Time to the next try of a paused relay.", add_retry },
		{ "relayd_relay_connections", "gauge",
		    "Open connections to the relay.", add_connections },
		{ "relayd_relay_throttled_total", "counter",
		    "Recipients that were told to come later.", add_throttled },
		{ "relayd_relay_rate", "gauge",
		    "Recipients a second at most, where there is a limit.",
		    add_rate },
		{ "relayd_relay_last_success_timestamp_seconds", "gauge",
		    "When the relay last took a message, since the epoch.",
		    add_last_success },
		{ "relayd_relay_tls_info", "gauge",
		    "The TLS version of the last connection.", add_tls },
	};
	struct sched_relay_status r;
	size_t i, k;

	for (i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		add_family(p, families[i].name, families[i].type,
		    families[i].help);
		for (k = 0; sched_relay_status(s->sched, k, &r); k++)
			families[i].add(p, families[i].name, &r);
	}
}

void
metrics_text(const struct report_source *s, bool counted, bool openmetrics,
    struct buf *out)
{
	const struct page p = { out, openmetrics };
	struct sched_status sched;

	sched_status(s->sched, &sched); /* looks at each message that waits */
	add_process(&p, s, &sched);
	add_queue(&p, s, &sched, counted);
	add_spool(&p, s);
	add_submission(&p, s);
	add_relays(&p, s);
	buf_add_text(out, "# EOF\n");
}

/* ---- counting what the scheduler does not know ---- */

static void
count_slice(void *arg)
{
	struct metrics *m = arg;
	const struct queue_info *info;
	int n;

	for (n = 0; n < COUNT_SLICE; n++) {
		if (queue_walk_next(m->walk, &info)) {
			report_count(&m->counting, info);
			continue;
		}
		queue_walk_free(m->walk);
		m->walk = NULL;
		if (m->place == PLACE_FAILED) {
			m->source.counts = m->counting;
			m->counted = true;
			m->counted_ms = loop_now(m->source.loop).mono_ms;
			return;
		}
		m->place = PLACE_FAILED;
		m->walk = queue_walk_new(m->queue, PLACE_FAILED, 0);
	}
	loop_timer_set(m->loop, &m->timer, 0);
}

/* Unless that was done lately, or is under way. */
static void
count_anew(struct metrics *m)
{
	int64_t now_ms = loop_now(m->loop).mono_ms;

	if (m->walk != NULL ||
	    (m->counted && now_ms - m->counted_ms < COUNT_AGE_MS))
		return;
	m->counting = (struct report_counts){ .hold = 0 };
	m->place = PLACE_HOLD;
	m->walk = queue_walk_new(m->queue, PLACE_HOLD, 0);
	loop_timer_set(m->loop, &m->timer, 0);
}

/* ---- pages ---- */

static void
show_metrics(struct metrics *m, const struct http_request *request,
    struct http_reply *reply)
{
	reply->status = HTTP_OK;
	reply->type = request->openmetrics
	    ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
	    : "text/plain; version=0.0.4; charset=utf-8";
	metrics_text(&m->source, m->counted, request->openmetrics,
	    &reply->body);
	count_anew(m);
}

/* That there is an answer is the answer. */
static void
show_health(struct metrics *m, const struct http_request *request,
    struct http_reply *reply)
{
	(void)m;
	(void)request;
	reply->status = HTTP_OK;
	buf_add_text(&reply->body, "ok\n");
}

static void
show_readiness(struct metrics *m, const struct http_request *request,
    struct http_reply *reply)
{
	const char *why = why_not_ready(&m->source);

	(void)request;
	reply->status = why == NULL ? HTTP_OK : HTTP_UNAVAILABLE;
	buf_printf(&reply->body, "%s\n", why == NULL ? "ok" : why);
}

static void
on_request(void *arg, const struct http_request *request,
    struct http_reply *reply)
{
	static const struct {
		const char *path;
		void (*show)(struct metrics *m,
		    const struct http_request *request,
		    struct http_reply *reply);
	} pages[] = {
		{ "/metrics", show_metrics },
		{ "/healthz", show_health },
		{ "/readyz", show_readiness },
	};
	struct metrics *m = arg;
	size_t i;

	m->source.wall_ms = loop_now(m->loop).wall_ms;
	for (i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (span_equal(request->path, span_of(pages[i].path)))
			pages[i].show(m, request, reply);
}

/* ---- life ---- */

struct metrics *
metrics_new(struct loop *l, struct queue *q, const struct sched *sched,
    const struct submit *submit)
{
	struct metrics *m = mem_alloc(sizeof(*m));

	m->loop = l;
	m->queue = q;
	m->source.loop = l;
	m->source.queue = q;
	m->source.sched = sched;
	m->source.submit = submit;
	m->timer.handler = count_slice;
	m->timer.arg = m;
	m->http = http_new(l, on_request, m);
	return m;
}

int
metrics_prepare(struct metrics *m, const struct config *config,
    struct buf *error)
{
	if (http_prepare(m->http, config->metrics, error) == 0)
		return 0;
	if (m->config != NULL && errno == EACCES)
		buf_add_text(error, "; metrics: restart needed");
	return -1;
}

void
metrics_configure(struct metrics *m, struct config *config)
{
	http_decide(m->http, config != NULL);
	if (config == NULL)
		return;
	config_hold(config);
	config_release(m->config);
	m->config = config;
	m->source.config = config;
	if (config->metrics[0] != '\0')
		count_anew(m);
}

void
metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	http_free(m->http);
	loop_timer_clear(m->loop, &m->timer);
	queue_walk_free(m->walk);
	config_release(m->config);
	free(m);
}
