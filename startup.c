/*
 * What must be there before the loop turns: the spool, the sockets, the
 * daemon's user and its secrets.  Errors are for the person who starts it:
 * a line on stderr, and the exit status.
 */
#include "startup.h"
#include "helper.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#include <errno.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

int
startup_fail(int status, const char *text)
{
	(void)fprintf(stderr, "%s\n", text);
	return status;
}

/* ---- the helper ---- */

static int
become_user(void *arg)
{
	const struct relayd *d = arg;

	return system_become(&d->identity);
}

int
startup_helper(struct relayd *d)
{
	struct strings commands = { NULL, 0 };
	size_t i;
	int status = EX_OK;

	for (i = 0; i < d->config->relay_count; i++)
		if (d->config->relay[i].password_command[0] != '\0')
			strings_add(&commands,
			    span_of(d->config->relay[i].password_command));
	if (commands.count > 0 && !d->options.stdio) {
		d->helper = helper_new(&commands, become_user, d);
		if (d->helper == NULL)
			status = startup_fail(EX_OSERR,
			    "the helper process for password_command can't be "
			    "started");
	}
	strings_free(&commands);
	return status;
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

int
startup_spool(struct relayd *d)
{
	struct buf error = { NULL, 0, 0 };
	const char *missing;
	pid_t owner = 0;
	int status = EX_OK;

	if (system_directory(d->config->spool, 0700, &d->identity, &error) ==
		-1 ||
	    check_spool(d, &error) == -1) {
		status = startup_fail(EX_CONFIG, buf_text(&error));
		goto out;
	}
	if (system_act_as(&d->identity) == 0)
		d->queue = queue_open(d->config->spool, 0, &owner);
	if (d->queue == NULL && errno == EBUSY) {
		buf_printf(&error,
		    "spool %s is locked by pid %d: another "
		    "relayd is running",
		    d->config->spool, (int)owner);
		status = startup_fail(EX_TEMPFAIL, buf_text(&error));
	} else if (d->queue == NULL) {
		buf_printf(&error, "spool %s: %s", d->config->spool,
		    strerror(errno));
		status = startup_fail(EX_CONFIG, buf_text(&error));
	} else if (!d->options.stdio &&
	    (missing = queue_lacks(d->queue)) != NULL) {
		buf_printf(&error, "spool %s: its file system can't %s: %s",
		    d->config->spool, missing, strerror(errno));
		status = startup_fail(EX_CONFIG, buf_text(&error));
	}
	(void)system_act_as_root(&d->identity);
out:
	buf_free(&error);
	return status;
}

/* ---- sockets ---- */

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

/* Where somebody answers on our socket, it may be free later; a port belongs
 * to whoever else serves mail here. */
static int
status_of(const char *address, int error)
{
	return error == EADDRINUSE && strncmp(address, "unix:", 5) == 0
	    ? EX_TEMPFAIL
	    : EX_CONFIG;
}

/* The exit status where it was asked for and can't be had. */
static int
open_listener(struct relayd *d, const struct config_listen *l)
{
	struct buf error = { NULL, 0, 0 };
	int status, ret = 0, fd = take_activated(d, l->address);

	if (fd == -1 && strncmp(l->address, "unix:", 5) == 0)
		ret = enter_socket_directory(d, l->address + 5, &error);
	errno = 0;
	if (ret == 0)
		ret = submit_listen(d->submit, l, fd, &error);
	status = ret == -1 ? status_of(l->address, errno) : EX_OK;
	(void)system_act_as_root(&d->identity);
	if (ret == -1 && l->implicit) {
		log_warning(NULL, "%s", buf_text(&error));
		status = EX_OK;
	} else if (ret == -1) {
		(void)startup_fail(status, buf_text(&error));
	}
	buf_free(&error);
	return status;
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
			(void)startup_fail(EX_CONFIG, buf_text(&error));
		buf_free(&error);
		if (ret == -1)
			return -1;
		a->fd = -1;
	}
	return 0;
}

int
startup_listeners(struct relayd *d)
{
	struct strings bound = { NULL, 0 };
	size_t i;
	int one, ret = EX_OK;

	for (i = 0; i < d->config->listen_count; i++) {
		one = open_listener(d, &d->config->listen[i]);
		if (ret == EX_OK || one == EX_CONFIG)
			ret = one; /* what time does not mend comes first */
	}
	if (ret != EX_OK || open_unmatched(d) == -1)
		return ret == EX_OK ? EX_CONFIG : ret;
	submit_listeners(d->submit, &bound);
	if (bound.count == 0)
		ret = startup_fail(EX_CONFIG,
		    "none of the default listeners can be "
		    "bound: is another mail system running?");
	strings_free(&bound);
	return ret;
}

int
startup_control(struct relayd *d, void (*reload)(void *, struct buf *))
{
	const struct control_parts parts = { d->loop, d->queue, d->sched,
		d->submit, d->bounce, reload, d };
	struct buf address = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	int fd, ret = EX_OK;

	buf_printf(&address, "unix:%s", d->config->control);
	fd = take_activated(d, buf_text(&address));
	if (fd == -1)
		ret = enter_socket_directory(d, d->config->control, &error);
	errno = 0;
	if (ret == 0)
		d->control = control_new(&parts, d->config, fd, &error);
	if (d->control == NULL)
		ret = startup_fail(status_of(buf_text(&address), errno),
		    buf_text(&error));
	(void)system_act_as_root(&d->identity);
	buf_free(&address);
	buf_free(&error);
	return ret;
}

int
startup_metrics(struct relayd *d)
{
	struct buf error = { NULL, 0, 0 };
	int ret = EX_OK;

	d->metrics = metrics_new(d->loop, d->queue, d->sched, d->submit);
	if (metrics_prepare(d->metrics, d->config, &error) == -1)
		ret = startup_fail(EX_CONFIG, buf_text(&error));
	else
		metrics_configure(d->metrics, d->config);
	buf_free(&error);
	return ret;
}

/* ---- rights and secrets ---- */

static int
check_certificate(const struct config_relay *r)
{
	struct buf error = { NULL, 0, 0 }, text = { NULL, 0, 0 };
	const char *key;
	int status = EX_OK;

	if (r->tls_cert[0] != '\0' &&
	    config_certificate(r, &key, &error) == -1) {
		buf_printf(&text, "relay %s: %s: %s", r->name, key,
		    buf_text(&error));
		status = startup_fail(EX_CONFIG, buf_text(&text));
	}
	buf_free(&error);
	buf_free(&text);
	return status;
}

/* The secrets are read as the daemon's user, so that what will not work
 * later is known now. */
static int
check_secrets(const struct relayd *d)
{
	struct buf password = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	int status = EX_OK;
	size_t i;

	for (i = 0; i < d->config->relay_count && status == EX_OK; i++) {
		const struct config_relay *r = &d->config->relay[i];

		/* A command is run when its password is needed. */
		if (config_has_password(r) && r->password_command[0] == '\0' &&
		    config_password(r, &password, &error) == -1)
			status = startup_fail(EX_CONFIG, buf_text(&error));
		if (status == EX_OK)
			status = check_certificate(r);
		buf_wipe(&password);
	}
	buf_free(&error);
	return status;
}

int
startup_become_user(struct relayd *d)
{
	int status;

	if (system_become(&d->identity) == -1) {
		(void)fprintf(stderr, "can't become user %s: %s\n",
		    d->config->user, strerror(errno));
		return EX_NOPERM;
	}
	system_confine();
	status = check_secrets(d);
	if (status == EX_OK)
		d->confinement = confine(d->config);
	return status;
}
