/*
 * relayctl check: will relayd work with this configuration?  Everything that
 * the configuration names is looked at with the rights that relayd will have.
 */
#include "helper.h"
#include "relayctl.h"
#include "system.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct check {
	const struct config *config;
	bool running;
	struct identity identity; /* who relayd will be */
	int status;
};

static void PRINTF_LIKE(2, 3)
    wrong(struct check *check, const char *format, ...)
{
	va_list ap;

	check->status = STATUS_WRONG;
	(void)fputs("error: ", stderr);
	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

static void PRINTF_LIKE(1, 2) warn(const char *format, ...)
{
	va_list ap;

	(void)fputs("warning: ", stderr);
	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

static void
check_file(struct check *check)
{
	const struct config *config = check->config;

	(void)printf("configuration: %s\n", config->path);
	if (access(config->path, R_OK) == -1)
		warn("%s: user %s can't read it, so a reload would fail: %s",
		    config->path, config->user, strerror(errno));
	(void)printf("names: hostname %s, origin %s\n", config->hostname,
	    config->origin);
}

static void
check_listeners(struct check *check)
{
	size_t i;

	for (i = 0; i < check->config->listen_count; i++)
		(void)printf("listen: %s\n", check->config->listen[i].address);
}

static void
check_command(struct check *check, const struct config_relay *r)
{
	struct helper_result result = { .password = { NULL, 0, 0 } };
	struct buf says = { NULL, 0, 0 };

	if (helper_output(r->password_command, &result) == -1)
		wrong(check, "relay %s: password_command %s", r->name,
		    buf_text(&result.error));
	else
		(void)printf("relay %s: password_command gives a password\n",
		    r->name);
	buf_add_escaped(&says, buf_span(&result.says));
	if (says.len > 0)
		warn("relay %s: password_command says: %s", r->name,
		    buf_text(&says));
	helper_result_wipe(&result);
	buf_free(&says);
}

static void
check_password(struct check *check, const struct config_relay *r)
{
	struct buf password = { NULL, 0, 0 }, error = { NULL, 0, 0 };

	if (r->password_command[0] != '\0') {
		check_command(check, r);
		return;
	}
	if (config_password(r, &password, &error) == -1)
		wrong(check, "relay %s: %s", r->name, buf_text(&error));
	else
		(void)printf("relay %s: the password can be read\n", r->name);
	buf_wipe(&password);
	buf_free(&error);
}

/* How it is connected to, beyond what every relay has. */
static void
check_connecting(struct check *check, const struct config_relay *r)
{
	const char *key;
	struct buf error = { NULL, 0, 0 };

	if (r->tls_pin[0] != '\0')
		(void)printf("relay %s: only with a public key in tls_pin\n",
		    r->name);
	if (r->tls_cert[0] != '\0' && config_certificate(r, &key, &error) == 0)
		(void)printf("relay %s: client certificate %s\n", r->name,
		    r->tls_cert);
	else if (r->tls_cert[0] != '\0')
		wrong(check, "relay %s: %s: %s", r->name, key,
		    buf_text(&error));
	if (r->source[0] != '\0')
		(void)printf("relay %s: from %s\n", r->name, r->source);
	if (r->proxy[0] != '\0')
		(void)printf("relay %s: through the proxy %s\n", r->name,
		    r->proxy);
	if (r->null_sender[0] != '\0')
		(void)printf("relay %s: %s in place of the null sender\n",
		    r->name, r->null_sender);
	buf_free(&error);
}

static void
check_relay(struct check *check, const struct config_relay *r)
{
	static const char *const tls[] = {
		[TLS_STARTTLS] = "STARTTLS required",
		[TLS_IMPLICIT] = "TLS from the start",
		[TLS_OPPORTUNISTIC] = "STARTTLS if offered",
		[TLS_NONE] = "no TLS",
	};
	bool login = config_has_login(r);

	if (r->maildir[0] != '\0') {
		(void)printf("relay %s: maildir %s\n", r->name, r->maildir);
		return;
	}
	(void)printf("relay %s: %s:%u, %s%s, %s%s\n", r->name, r->host, r->port,
	    tls[r->tls],
	    r->tls == TLS_NONE  ? ""
		: r->tls_verify ? " and verified"
				: ", not verified",
	    login ? "login " : "no login", login ? r->user : "");
	if (r->tls_ca_file[0] != '\0' && access(r->tls_ca_file, R_OK) == -1)
		wrong(check, "relay %s: tls_ca_file: %s: %s", r->name,
		    r->tls_ca_file, strerror(errno));
	check_connecting(check, r);
	if (config_has_password(r))
		check_password(check, r);
}

static void
check_sender(struct check *check)
{
	static const char *const when[] = {
		[FROM_MISSING] = "where there is none",
		[FROM_LOCAL] = "in place of local ones",
		[FROM_ALWAYS] = "always",
	};
	const struct config *config = check->config;

	if (config->from[0] != '\0')
		(void)printf("sender: %s, %s\n", config->from,
		    when[config->from_mode]);
	else
		(void)printf("sender: as given, completed with @%s\n",
		    config->origin);
}

/* What staging keeps from going to whom it is for. */
static void
check_recipients(const struct check *check)
{
	const struct config *config = check->config;
	const char *others = config->allow_recipients.count > 0
	    ? "others than allow_recipients"
	    : "all";

	if (config->redirect[0] != '\0')
		(void)printf("recipients: %s are redirected to %s\n", others,
		    config->redirect);
	else if (config->allow_recipients.count > 0)
		(void)printf("recipients: %s are refused\n", others);
}

static void
warn_alias(void *arg, unsigned line, const char *text)
{
	const struct check *check = arg;

	warn("%s:%u: %s", check->config->aliases, line, text);
}

static void
check_aliases(struct check *check)
{
	const struct config *config = check->config;
	struct buf text = { NULL, 0, 0 };
	size_t count = 0;

	if (config->aliases[0] != '\0' &&
	    file_read(config->aliases, LIMIT_ALIASES_FILE, &text, NULL) == 0) {
		struct aliases *aliases =
		    aliases_parse(buf_span(&text), warn_alias, check);

		count = aliases_count(aliases);
		aliases_free(aliases);
		(void)printf("aliases: %s: %zu\n", config->aliases, count);
	} else if (config->aliases[0] != '\0' &&
	    (config->aliases_given || errno != ENOENT)) {
		warn("aliases: %s: %s", config->aliases, strerror(errno));
	}
	if (count == 0 && config->local_to[0] == '\0')
		warn("neither aliases nor local_to: mail to root goes to "
		     "root@%s",
		    config->origin);
	buf_free(&text);
}

static void
check_room(struct check *check)
{
	const struct config *config = check->config;
	pid_t owner;
	struct queue *q = queue_open(config->spool, QUEUE_READ_ONLY, &owner);

	if (q == NULL && errno != ENOENT)
		wrong(check, "spool: %s: %s", config->spool, strerror(errno));
	if (q != NULL && !queue_has_room(q, 0, config->min_free_space))
		wrong(check, "spool: %s: less than min_free_space is left",
		    config->spool);
	queue_close(q);
}

static void
check_spool(struct check *check)
{
	const struct config *config = check->config;
	struct stat st;

	if (stat(config->spool, &st) == -1) {
		if (errno == ENOENT)
			(void)printf("spool: %s: to be made at start\n",
			    config->spool);
		else
			wrong(check, "spool: %s: %s", config->spool,
			    strerror(errno));
		return;
	}
	(void)printf("spool: %s\n", config->spool);
	if (!S_ISDIR(st.st_mode)) {
		wrong(check, "spool: %s: not a directory", config->spool);
		return;
	}
	if (st.st_uid != check->identity.uid)
		wrong(check,
		    "spool: %s: owned by uid %u instead of %u; "
		    "mend with: chown -R %u %s",
		    config->spool, (unsigned)st.st_uid,
		    (unsigned)check->identity.uid,
		    (unsigned)check->identity.uid, config->spool);
	if ((st.st_mode & 077) != 0)
		wrong(check,
		    "spool: %s: open to others; mend with: "
		    "chmod 700 %s",
		    config->spool, config->spool);
	check_room(check);
}

static int
check_all(void *arg)
{
	struct check *check = arg;
	struct buf error = { NULL, 0, 0 };
	size_t i;

	/* Known to exist; by now it is us. */
	(void)system_identity(check->config->user, &check->identity, &error);
	buf_free(&error);
	check_file(check);
	check_listeners(check);
	for (i = 0; i < check->config->relay_count; i++)
		check_relay(check, &check->config->relay[i]);
	check_sender(check);
	check_recipients(check);
	check_aliases(check);
	check_spool(check);
	(void)printf("relayd: %s\n",
	    check->running ? "running" : "not running");
	if (check->status == STATUS_GOOD)
		(void)puts("all is well");
	return check->status;
}

static void
complain(const char *what)
{
	(void)fprintf(stderr, "error: %s: %s\n", what, strerror(errno));
}

/* In a child of its own, since rights given up do not come back. */
static int
run_as(const struct identity *identity, const char *user, int (*job)(void *arg),
    void *arg)
{
	int status = STATUS_WRONG;
	pid_t child = fork();

	if (child == 0) {
		if (system_become(identity) == -1)
			complain(user);
		else
			status = job(arg);
		(void)fflush(stdout);
		_exit(status);
	}
	if (child == -1 || waitpid(child, &status, 0) == -1) {
		complain("fork");
		return STATUS_WRONG;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_WRONG;
}

int
relayctl_as_user(const struct config *config, int (*job)(void *arg), void *arg)
{
	struct identity identity;
	struct buf error = { NULL, 0, 0 };

	/* What is well and what is not shall come in order. */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (system_identity(config->user, &identity, &error) == -1) {
		(void)fprintf(stderr, "error: %s\n", buf_text(&error));
		buf_free(&error);
		return STATUS_WRONG;
	}
	return identity.change ? run_as(&identity, config->user, job, arg)
			       : job(arg);
}

int
relayctl_check(const struct config *config, bool running)
{
	struct check check = {
		.config = config,
		.running = running,
		.status = STATUS_GOOD,
	};

	return relayctl_as_user(config, check_all, &check);
}
