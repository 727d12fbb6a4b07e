/*
 * main(): options, the order of starting, signals, and the end.
 */
#include "crash.h"
#include "helper.h"
#include "startup.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	STOP_MS = 10 * 1000, /* running transactions have so long to end */
	SYNC_MS = 900,       /* marks and removals are durable in a second */
};

/* ---- options ---- */

static int
usage(void)
{
	(void)fputs(
	    "usage: relayd [-nvV] [-f file] [--stdio]\n"
	    "  -f file  configuration file (" SYSCONFDIR
	    "/relayd/relayd.conf)\n"
	    "  -n       check the configuration and exit\n"
	    "  -v       log more\n"
	    "  -V       print the version and exit\n"
	    "  --stdio  serve one SMTP session on standard input and output\n",
	    stderr);
	return EX_USAGE;
}

/* -1: go on; else the exit status. */
static int
parse_options(int argc, char **argv, struct options *o)
{
	static const struct option words[] = {
		{ "stdio", no_argument, NULL, 's' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .path = SYSCONFDIR "/relayd/relayd.conf" };
	while ((c = getopt_long(argc, argv, "f:nvVh", words, NULL)) != -1) {
		switch (c) {
		case 'f':
			o->path = optarg;
			break;
		case 'n':
			o->check = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 's':
			o->stdio = true;
			break;
		case 'V':
			(void)puts("relayd " RELAYD_VERSION);
			return EX_OK;
		case 'h':
			(void)usage();
			return EX_OK;
		default:
			return usage();
		}
	}
	return optind == argc ? -1 : usage();
}

/* ---- configuration ---- */

/* Each line of text through say(). */
static void
each_line(const struct buf *text, void (*say)(const char *line))
{
	struct span line, rest = buf_span(text);

	while (rest.len > 0) {
		char *copy;

		(void)span_cut(rest, '\n', &line, &rest);
		copy = span_text(line);
		say(copy);
		free(copy);
	}
}

static void
say_stderr(const char *line)
{
	(void)fprintf(stderr, "%s\n", line);
}

static void
say_warning(const char *line)
{
	log_warning(NULL, "%s", line);
}

static void
say_error(const char *line)
{
	log_error(NULL, "%s", line);
}

static void
open_log(const struct relayd *d)
{
	enum log_level level = d->config->log_level;
	enum log_target target = d->config->log;

	if (d->options.verbose && level < LOG_LEVEL_DEBUG)
		level = LOG_LEVEL_DEBUG;
	/* Under sendmail, stderr is what its caller sees. */
	if (d->options.stdio && target == LOG_TO_AUTO)
		target = LOG_TO_SYSLOG;
	log_open(target, level, d->config->log_json);
	crash_prepare();
}

static int
load_config(struct relayd *d)
{
	struct buf errors = { NULL, 0, 0 }, warnings = { NULL, 0, 0 };

	d->config = config_load(d->options.path, &errors, &warnings);
	if (d->config != NULL)
		open_log(d);
	each_line(&errors, say_stderr);
	each_line(&warnings, d->options.check ? say_stderr : say_warning);
	buf_free(&errors);
	buf_free(&warnings);
	return d->config == NULL ? EX_CONFIG : EX_OK;
}

/* ---- running ---- */

/* Has all that was running at SIGTERM come to its end? */
static bool
is_finished(const struct relayd *d)
{
	struct submit_status status;

	if (!d->stopping || !d->links_closed || submit_busy(d->submit))
		return false;
	submit_status(d->submit, &status);
	return status.open == 0;
}

/*
 * Everything that this turn has accepted becomes durable now, together; what
 * only spares a repetition after a crash waits for its timer.
 */
static void
sync_spool(void *arg)
{
	struct relayd *d = arg;

	if (queue_sync(d->queue))
		loop_hurry(d->loop);
	if (queue_unsynced(d->queue) && d->sync_timer.place == 0)
		loop_timer_set(d->loop, &d->sync_timer, SYNC_MS);
	if (is_finished(d))
		loop_stop(d->loop);
}

/* A group is done: the turn's end sees to it. */
static void
on_synced(void *arg, unsigned events)
{
	const struct relayd *d = arg;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(d->synced, &count);
}

static void
sync_marks(void *arg)
{
	struct relayd *d = arg;

	queue_sync_marks(d->queue);
}

/* What can't be changed without the rights and places of the start. */
static bool
needs_restart(const struct relayd *d, const struct config *new,
    struct buf *error)
{
	const struct config *old = d->config;
	size_t i;

	if (strcmp(old->spool, new->spool) != 0)
		buf_add_text(error, "spool has changed: restart needed\n");
	if (strcmp(old->user, new->user) != 0)
		buf_add_text(error, "user has changed: restart needed\n");
	if (strcmp(old->control, new->control) != 0)
		buf_add_text(error, "control has changed: restart needed\n");
	for (i = 0; i < new->relay_count; i++) {
		const struct config_relay *r = &new->relay[i];

		if (r->password_command[0] != '\0' &&
		    !helper_knows(d->helper, r->password_command))
			buf_printf(error,
			    "relay.%s.password_command has changed: restart "
			    "needed\n",
			    r->name);
	}
	return error->len > 0;
}

/* Read the configuration again; on any error the old one stays. */
static void
reload(void *arg, struct buf *error)
{
	struct relayd *d = arg;
	struct buf warnings = { NULL, 0, 0 };
	struct config *config = config_load(d->options.path, error, &warnings);

	each_line(&warnings, say_warning);
	buf_free(&warnings);
	if (config == NULL || needs_restart(d, config, error) ||
	    confinement_lacks(d->confinement, config, error) ||
	    metrics_prepare(d->metrics, config, error) == -1 ||
	    submit_configure(d->submit, config, error) == -1) {
		metrics_configure(d->metrics, NULL);
		config_release(config);
		return;
	}
	sched_configure(d->sched, config);
	bounce_configure(d->bounce, config);
	sweep_configure(d->sweep, config);
	control_configure(d->control, config);
	metrics_configure(d->metrics, config);
	config_release(d->config);
	d->config = config;
	open_log(d);
	log_info(NULL, "reloaded %s", config->path);
}

static void
on_hangup(void *arg)
{
	struct buf error = { NULL, 0, 0 };

	system_notify("RELOADING=1");
	reload(arg, &error);
	each_line(&error, say_error);
	if (error.len > 0)
		log_error(NULL,
		    "reload failed; the old configuration stays in force");
	buf_free(&error);
	system_notify("READY=1");
}

static void
on_links_closed(void *arg)
{
	struct relayd *d = arg;

	d->links_closed = true;
	loop_hurry(d->loop);
}

static void
on_stop_timeout(void *arg)
{
	struct relayd *d = arg;

	log_warning(NULL, "transactions still running after %d s are cut off",
	    STOP_MS / 1000);
	loop_stop(d->loop);
}

static void
on_terminate(void *arg)
{
	struct relayd *d = arg;

	if (d->stopping)
		return;
	log_info(NULL, "stopping");
	system_notify("STOPPING=1");
	d->stopping = true;
	loop_timer_set(d->loop, &d->stop_timer, STOP_MS);
	submit_stop(d->submit);
	sched_stop(d->sched, on_links_closed, d);
}

static int
make_parts(struct relayd *d)
{
	loop_at_turn_end(d->loop, sync_spool, d);
	d->synced = queue_event(d->queue);
	if (d->synced == -1 ||
	    loop_watch(d->loop, d->synced, LOOP_READ, on_synced, d) == -1)
		return startup_fail(EX_OSERR, "events can't be made");
	d->connector = connector_new(d->loop);
	if (d->connector == NULL)
		return EX_SOFTWARE;
	connector_set_helper(d->connector, d->helper);
	d->sched = sched_new(d->loop, d->queue, d->connector, d->config);
	d->submit = submit_new(d->loop, d->queue, d->sched, d->config);
	d->bounce =
	    bounce_new(d->loop, d->queue, d->sched, d->submit, d->config);
	return EX_OK;
}

static int
run(struct relayd *d)
{
	if (loop_signal(d->loop, SIGTERM, on_terminate, d) == -1 ||
	    loop_signal(d->loop, SIGINT, on_terminate, d) == -1 ||
	    loop_signal(d->loop, SIGHUP, on_hangup, d) == -1)
		return startup_fail(EX_OSERR, "signals can't be handled");
	sched_start(d->sched);
	d->sweep = sweep_new(d->loop, d->queue, d->config);
	log_info(NULL, "relayd " RELAYD_VERSION " started as uid %d",
	    (int)getuid());
	system_notify("READY=1");
	if (loop_run(d->loop) == -1) {
		log_error(NULL, "waiting for events failed: %s",
		    strerror(errno));
		return EX_OSERR;
	}
	log_info(NULL, "stopped");
	return EX_OK;
}

static int
serve(struct relayd *d)
{
	int status = make_parts(d);

	d->activated_count = system_activated(d->activated, ACTIVATED_MAX);
	if (status == EX_OK)
		status = startup_control(d, reload);
	if (status == EX_OK)
		status = startup_listeners(d);
	if (status == EX_OK)
		status = startup_metrics(d);
	if (status == EX_OK)
		status = startup_become_user(d);
	if (status == EX_OK)
		status = run(d);
	return status;
}

/* ---- one session on standard input and output ---- */

static void
on_session_end(void *arg)
{
	struct relayd *d = arg;

	d->stopping = true;
	d->links_closed = true; /* there are none */
	loop_hurry(d->loop);
}

static int
serve_stdio(struct relayd *d, uid_t uid)
{
	int status = startup_become_user(d);

	if (status != EX_OK)
		return status;
	loop_at_turn_end(d->loop, sync_spool, d);
	d->submit = submit_new(d->loop, d->queue, NULL, d->config);
	submit_session(d->submit, STDIN_FILENO, STDOUT_FILENO, uid,
	    on_session_end, d);
	return loop_run(d->loop) == -1 ? EX_OSERR : EX_OK;
}

/* ---- main ---- */

static void
release(struct relayd *d)
{
	size_t i;

	control_free(d->control);
	metrics_free(d->metrics);
	confinement_free(d->confinement);
	if (d->queue != NULL)
		queue_settle(d->queue); /* who waits for it is still there */
	sweep_free(d->sweep);
	bounce_free(d->bounce);
	submit_free(d->submit);
	sched_free(d->sched);
	connector_free(d->connector);
	helper_free(d->helper);
	queue_close(d->queue);
	config_release(d->config);
	loop_free(d->loop);
	for (i = 0; i < d->activated_count; i++)
		free(d->activated[i].address);
}

static int
start(struct relayd *d)
{
	struct buf error = { NULL, 0, 0 };
	uid_t uid = getuid();
	int status = load_config(d);

	if (status != EX_OK || d->options.check)
		return status;
	if (system_identity(d->config->user, &d->identity, &error) == -1)
		status = startup_fail(EX_CONFIG, buf_text(&error));
	buf_free(&error);
	if (status == EX_OK)
		status = startup_helper(d);
	if (status == EX_OK)
		status = startup_spool(d);
	if (status != EX_OK)
		return status;
	d->loop = loop_new();
	if (d->loop == NULL)
		return startup_fail(EX_OSERR, "no event loop can be had");
	d->sync_timer = (struct timer){ .handler = sync_marks, .arg = d };
	d->stop_timer = (struct timer){ .handler = on_stop_timeout, .arg = d };
	return d->options.stdio ? serve_stdio(d, uid) : serve(d);
}

int
main(int argc, char **argv)
{
	struct relayd d = { .control = NULL };
	int status = parse_options(argc, argv, &d.options);

	if (status != -1)
		return status;
	system_prepare();
	status = start(&d);
	release(&d);
	return status;
}
