/*
 * main(): options, the order of starting, signals, and the end.
 */
#include "system.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	STOP_MS = 10 * 1000, /* running transactions have so long to end */
	SYNC_MS = 900,       /* marks and removals are durable in a second */
	ACTIVATED_MAX = 64,
};

struct options {
	const char *path;
	bool check;
	bool verbose;
	bool stdio;
};

struct relayd {
	struct options options;
	struct loop *loop;
	struct config *config;
	struct identity identity;
	struct queue *queue;
	struct connector *connector;
	struct sched *sched;
	struct submit *submit;
	struct control *control;
	struct activated activated[ACTIVATED_MAX];
	size_t activated_count;
	struct timer sync_timer;
	struct timer stop_timer;
	bool stopping;
	bool links_closed;
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

/* An error of the set-up: one line on stderr, by main() or here. */
static int
fail(int status, const char *text)
{
	say_stderr(text);
	return status;
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
	log_open(target, level);
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

/* ---- the spool ---- */

/* Only the one who runs us may look into it. */
static int
check_spool(const struct relayd *d, struct buf *error)
{
	const char *path = d->config->spool;
	struct stat st;
	struct statfs fs;

	if (stat(path, &st) == -1) {
		buf_printf(error, "spool %s: %s", path, strerror(errno));
		return -1;
	}
	if (st.st_uid != d->identity.uid) {
		buf_printf(error,
		    "spool %s belongs to uid %d, not to uid %d that relayd runs "
		    "as; mend it with: chown -R %d %s",
		    path, (int)st.st_uid, (int)d->identity.uid,
		    (int)d->identity.uid, path);
		return -1;
	}
	if ((st.st_mode & 077) != 0) {
		buf_printf(error,
		    "spool %s can be read by others; mend it with: chmod 700 %s",
		    path, path);
		return -1;
	}
	if (!d->options.stdio && statfs(path, &fs) == 0 &&
	    fs.f_type == TMPFS_MAGIC)
		log_warning(NULL,
		    "spool %s is in memory (tmpfs): mail in it does not survive "
		    "a restart of the machine",
		    path);
	return 0;
}

static int
open_spool(struct relayd *d)
{
	struct buf error = { NULL, 0, 0 };
	pid_t owner = 0;
	int status = EX_OK;

	if (system_directory(d->config->spool, 0700, &d->identity, &error) ==
		-1 ||
	    check_spool(d, &error) == -1) {
		status = fail(EX_CONFIG, buf_text(&error));
		goto out;
	}
	if (system_act_as(&d->identity) == 0)
		d->queue = queue_open(d->config->spool, 0, &owner);
	if (d->queue == NULL && errno == EBUSY) {
		buf_printf(&error,
		    "spool %s is locked by pid %d: another "
		    "relayd is running",
		    d->config->spool, (int)owner);
		status = fail(EX_TEMPFAIL, buf_text(&error));
	} else if (d->queue == NULL) {
		buf_printf(&error, "spool %s: %s", d->config->spool,
		    strerror(errno));
		status = fail(EX_CONFIG, buf_text(&error));
	}
	(void)system_act_as_root(&d->identity);
out:
	buf_free(&error);
	return status;
}

/* ---- listeners ---- */

/*
 * Make the directory of a unix socket, for the user, if there is none; and
 * where it is the user's, so is the socket: go on with the user's rights
 * until system_act_as_root().
 */
static int
enter_socket_directory(const struct relayd *d, const char *path,
    struct buf *error)
{
	char *copy = mem_text(path);
	const char *directory = dirname(copy);
	struct stat st;
	int ret = system_directory(directory, 0755, &d->identity, error);

	if (ret == 0 && stat(directory, &st) == 0 &&
	    st.st_uid == d->identity.uid)
		ret = system_act_as(&d->identity);
	free(copy);
	return ret;
}

/* The socket that the system has opened for address; -1: none. */
static int
take_activated(struct relayd *d, const char *address)
{
	size_t i;

	for (i = 0; i < d->activated_count; i++) {
		struct activated *a = &d->activated[i];

		if (a->fd != -1 && strcmp(a->address, address) == 0) {
			int fd = a->fd;

			a->fd = -1;
			return fd;
		}
	}
	return -1;
}

/* -1: it was asked for and can't be had. */
static int
open_listener(struct relayd *d, const struct config_listen *l)
{
	struct buf error = { NULL, 0, 0 };
	int ret = 0, fd = take_activated(d, l->address);

	if (fd == -1 && strncmp(l->address, "unix:", 5) == 0)
		ret = enter_socket_directory(d, l->address + 5, &error);
	if (ret == 0)
		ret = submit_listen(d->submit, l, fd, &error);
	(void)system_act_as_root(&d->identity);
	if (ret == -1 && l->implicit) {
		log_warning(NULL, "%s", buf_text(&error));
		ret = 0;
	} else if (ret == -1) {
		say_stderr(buf_text(&error));
	}
	buf_free(&error);
	return ret;
}

/* Handed over, but in no listen section: fine where only this machine can
 * reach it. */
static int
open_unmatched(struct relayd *d)
{
	size_t i;

	for (i = 0; i < d->activated_count; i++) {
		struct activated *a = &d->activated[i];
		struct config_listen l = { .address = a->address,
			.mode = 0666 };
		struct buf error = { NULL, 0, 0 };
		int ret;

		if (a->fd == -1)
			continue;
		if (!a->loopback) {
			(void)fprintf(stderr,
			    "a socket for %s was handed over by the system, but "
			    "no listen section has that address\n",
			    a->address);
			return -1;
		}
		ret = submit_listen(d->submit, &l, a->fd, &error);
		if (ret == -1)
			say_stderr(buf_text(&error));
		buf_free(&error);
		if (ret == -1)
			return -1;
		a->fd = -1;
	}
	return 0;
}

static int
open_listeners(struct relayd *d)
{
	struct strings bound = { NULL, 0 };
	size_t i;
	int ret = 0;

	for (i = 0; i < d->config->listen_count; i++)
		ret |= open_listener(d, &d->config->listen[i]);
	if (ret == -1 || open_unmatched(d) == -1)
		return EX_CONFIG;
	submit_listeners(d->submit, &bound);
	if (bound.count == 0)
		ret = fail(EX_CONFIG,
		    "none of the default listeners can be "
		    "bound: is another mail system running?");
	strings_free(&bound);
	return ret;
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

static void
sync_marks(void *arg)
{
	struct relayd *d = arg;

	queue_sync_marks(d->queue);
}

/* What can't be changed without the rights and places of the start. */
static bool
needs_restart(const struct config *old, const struct config *new,
    struct buf *error)
{
	if (strcmp(old->spool, new->spool) != 0)
		buf_add_text(error, "spool has changed: restart needed\n");
	if (strcmp(old->user, new->user) != 0)
		buf_add_text(error, "user has changed: restart needed\n");
	if (strcmp(old->control, new->control) != 0)
		buf_add_text(error, "control has changed: restart needed\n");
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
	if (config == NULL || needs_restart(d->config, config, error) ||
	    submit_configure(d->submit, config, error) == -1) {
		config_release(config);
		return;
	}
	sched_configure(d->sched, config);
	control_configure(d->control, config);
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
open_control(struct relayd *d)
{
	const struct control_parts parts = { d->loop, d->queue, d->sched,
		d->submit, reload, d };
	struct buf address = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	int fd, ret = EX_OK;

	buf_printf(&address, "unix:%s", d->config->control);
	fd = take_activated(d, buf_text(&address));
	if (fd == -1)
		ret = enter_socket_directory(d, d->config->control, &error);
	if (ret == 0)
		d->control = control_new(&parts, d->config, fd, &error);
	(void)system_act_as_root(&d->identity);
	if (d->control == NULL)
		ret = fail(EX_CONFIG, buf_text(&error));
	buf_free(&address);
	buf_free(&error);
	return ret;
}

/* The secrets are read as the daemon's user, so that what will not work
 * later is known now. */
static int
check_secrets(const struct relayd *d)
{
	const struct config_relay *r = d->config->relay;
	struct buf password = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	int status = EX_OK;

	if (r->auth != AUTH_NONE && r->user[0] != '\0' &&
	    config_password(r, &password, &error) == -1)
		status = fail(EX_CONFIG, buf_text(&error));
	buf_wipe(&password);
	buf_free(&error);
	return status;
}

/* What needs root's rights comes first; then they are given up for good. */
static int
become_user(struct relayd *d)
{
	if (system_become(&d->identity) == -1) {
		(void)fprintf(stderr, "can't become user %s: %s\n",
		    d->config->user, strerror(errno));
		return EX_NOPERM;
	}
	system_confine();
	return check_secrets(d);
}

static int
make_parts(struct relayd *d)
{
	loop_at_turn_end(d->loop, sync_spool, d);
	d->connector = connector_new(d->loop);
	if (d->connector == NULL)
		return EX_SOFTWARE;
	d->sched = sched_new(d->loop, d->queue, d->connector, d->config);
	d->submit = submit_new(d->loop, d->queue, d->sched, d->config);
	return EX_OK;
}

static int
run(struct relayd *d)
{
	if (loop_signal(d->loop, SIGTERM, on_terminate, d) == -1 ||
	    loop_signal(d->loop, SIGINT, on_terminate, d) == -1 ||
	    loop_signal(d->loop, SIGHUP, on_hangup, d) == -1)
		return fail(EX_OSERR, "signals can't be handled");
	sched_start(d->sched);
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
		status = open_control(d);
	if (status == EX_OK)
		status = open_listeners(d);
	if (status == EX_OK)
		status = become_user(d);
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
	int status = become_user(d);

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
	while (d->queue != NULL && queue_sync(d->queue))
		; /* whoever waits for it is still there */
	submit_free(d->submit);
	sched_free(d->sched);
	connector_free(d->connector);
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
		status = fail(EX_CONFIG, buf_text(&error));
	buf_free(&error);
	if (status == EX_OK)
		status = open_spool(d);
	if (status != EX_OK)
		return status;
	d->loop = loop_new();
	if (d->loop == NULL)
		return fail(EX_OSERR, "no event loop can be had");
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
