/*
 * What the verbs of relayctl have in common: usage, options, arguments, and
 * asking the daemon on its control socket (control.c has the protocol).
 */
#include "relayctl.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- usage ---- */

static const char usage_text[] =
    "usage: relayctl [-f FILE] VERB ...\n"
    "  check                             configuration, secrets, spool\n"
    "  check --online [--json] [RELAY]   the way to the relayhost, and what is\n"
    "                                    wrong on it\n"
    "  explain [--json] [--sender A] RCPT...\n"
    "                                    how addresses would be rewritten\n"
    "  queue [--json] [--failed] [ID...] list the queue\n"
    "  flush [ID...|--relay NAME]        try now\n"
    "  hold|release|requeue|delete|bounce\n"
    "      ID...|--all|--sender A|--recipient A|--older D\n"
    "                                    keep back; back to the queue from\n"
    "                                    hold and failed; rewrite again; remove\n"
    "  show ID                           envelope and content of a message\n"
    "  log [--since D] [--to A] [--json] what was delivered, or failed\n"
    "  status [--json]                   is mail flowing, and if not, why\n"
    "  healthcheck [-a AGE]              silent; 1: paused, or mail waits long\n"
    "  metrics                           what is measured, for Prometheus\n"
    "  test [ADDRESS]                    send a message and follow it\n"
    "  config [-n] [KEY]                 the configuration; -n: as changed\n"
    "  set KEY VALUE...                  change one key of it\n"
    "  reload                            read the configuration again\n";

void
relayctl_print(FILE *to, struct span text)
{
	if (text.len > 0)
		(void)fwrite(text.data, 1, text.len, to);
}

int
relayctl_usage(void)
{
	(void)fputs(usage_text, stderr);
	return STATUS_USAGE;
}

int
relayctl_help(void)
{
	(void)fputs(usage_text, stdout);
	return STATUS_GOOD;
}

int
relayctl_refuse(const char *what, const char *why)
{
	(void)fprintf(stderr, "relayctl: %s: %s\n", what, why);
	return STATUS_USAGE;
}

int
relayctl_option(int argc, char **argv, const struct option *options)
{
	struct buf what = { NULL, 0, 0 };
	int at = 0, value = getopt_long(argc, argv, "", options, &at);

	if (value == LATER) {
		buf_printf(&what, "%s --%s", argv[0], options[at].name);
		(void)relayctl_refuse(buf_text(&what), "not in this version");
		buf_free(&what);
		return '?';
	}
	if (value == '?')
		(void)relayctl_usage();
	return value;
}

/* ---- reading the spool ---- */

/* root and the spool's owner may; else errno says why not. */
static bool
may_read(const char *spool)
{
	struct stat st;

	if (stat(spool, &st) == -1)
		return false;
	errno = EACCES;
	return geteuid() == 0 || geteuid() == st.st_uid;
}

struct queue *
relayctl_spool(const struct ctl *ctl)
{
	pid_t owner;

	/* RELAYD_CONTROL says which daemon is meant, unless a file does. */
	if (ctl->config == NULL ||
	    (getenv("RELAYD_CONTROL") != NULL && !ctl->file_given) ||
	    !may_read(ctl->config->spool))
		return NULL;
	return queue_open(ctl->config->spool, QUEUE_READ_ONLY, &owner);
}

struct queue *
relayctl_need_spool(const struct ctl *ctl)
{
	struct queue *q = NULL;
	pid_t owner;

	if (ctl->config == NULL) {
		relayctl_print(stderr, buf_span(&ctl->errors));
		return NULL;
	}
	if (may_read(ctl->config->spool))
		q = queue_open(ctl->config->spool, QUEUE_READ_ONLY, &owner);
	if (q == NULL)
		(void)relayctl_refuse(ctl->config->spool, strerror(errno));
	return q;
}

/* ---- asking the daemon ---- */

/* Where the daemon listens. */
static const char *
control_path(const struct ctl *ctl)
{
	const char *path = getenv("RELAYD_CONTROL");

	if (path == NULL && ctl->config != NULL)
		path = ctl->config->control;
	if (path == NULL)
		path = RUNSTATEDIR "/relayd/control.sock";
	return strncmp(path, "unix:", 5) == 0 ? path + 5 : path;
}

int
relayctl_connect(const struct ctl *ctl)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	const char *path = control_path(ctl);
	int fd;

	if (strlen(path) >= sizeof(name.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(name.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd != -1 &&
	    connect(fd, (struct sockaddr *)&name, sizeof(name)) == -1)
		fd_close(&fd);
	return fd;
}

static int
read_answer(FILE *in, relayctl_line *handler, void *arg)
{
	uint64_t status = STATUS_WRONG;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	bool ended = false;

	while (!ended && (len = getline(&line, &size, in)) > 1) {
		struct span text = { line + 1, (size_t)len - 1 };

		ended = line[0] == 'x';
		if (ended)
			ended = parse_number(span_trim(text), 255, &status);
		else
			handler(arg, line[0], text);
	}
	if (!ended)
		(void)fputs("relayctl: relayd hung up\n", stderr);
	free(line);
	return (int)status;
}

int
relayctl_ask(const struct ctl *ctl, int argc, char **argv,
    relayctl_line *handler, void *arg)
{
	int i, status, fd = relayctl_connect(ctl);
	FILE *in = fd == -1 ? NULL : fdopen(fd, "r");
	struct buf request = { NULL, 0, 0 };

	if (in == NULL) {
		fd_close(&fd);
		return NOT_RUNNING;
	}
	for (i = 0; i < argc; i++) {
		if (i > 0)
			buf_add_char(&request, '\0');
		buf_add_text(&request, argv[i]);
	}
	buf_add_char(&request, '\n');
	/* Should it be refused halfway, the answer says why. */
	(void)write_all(fd, buf_span(&request));
	buf_free(&request);
	status = read_answer(in, handler, arg);
	(void)fclose(in);
	return status;
}

int
relayctl_unreachable(const struct ctl *ctl)
{
	int error = errno;

	(void)fprintf(stderr, "relayctl: %s (%s: %s)\n",
	    error == ENOENT || error == ECONNREFUSED
		? "relayd is not running"
		: "relayd can't be reached",
	    control_path(ctl), strerror(error));
	return STATUS_WRONG;
}

/* Print at once: a test takes its time. */
void
relayctl_print_line(void *arg, char kind, struct span text)
{
	FILE *out = kind == 'o' ? stdout : stderr;

	(void)arg;
	relayctl_print(out, text);
	(void)fflush(out);
}

int
relayctl_ask_and_print(const struct ctl *ctl, int argc, char **argv)
{
	int status = relayctl_ask(ctl, argc, argv, relayctl_print_line, NULL);

	return status == NOT_RUNNING ? relayctl_unreachable(ctl) : status;
}

/* ---- arguments ---- */

bool
relayctl_ids(int argc, char **argv, struct report_filter *f)
{
	int i;

	f->id = mem_array(NULL, (size_t)argc + 1, sizeof(*f->id));
	for (i = 0; i < argc; i++) {
		if (!queue_id_parse(span_of(argv[i]), &f->id[i])) {
			(void)relayctl_refuse(argv[i], "not a queue id");
			return false;
		}
		f->id_count++;
	}
	report_filter_sort(f);
	return true;
}

bool
relayctl_address(const char *text)
{
	if (smtp_address_valid(span_of(text), ADDRESS_BARE | ADDRESS_UTF8))
		return true;
	(void)relayctl_refuse(text, "not an address");
	return false;
}

bool
relayctl_duration(const char *text, int64_t *seconds)
{
	if (parse_duration(span_of(text), seconds))
		return true;
	(void)relayctl_refuse(text, "no duration, such as \"2h\"");
	return false;
}
