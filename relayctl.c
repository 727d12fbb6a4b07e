/*
 * The operator's command: asks the daemon on its control socket (control.c
 * has the protocol), or reads the spool itself where it may.
 */
#include "relayctl.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_RUNNING = -1 }; /* instead of an exit status */

struct ctl {
	const char *file;
	bool file_given;
	struct config *config; /* NULL: it can't be read, or is wrong */
	struct buf errors;
	struct buf warnings;
};

/* ---- usage ---- */

static const char usage_text[] =
    "usage: relayctl [-f FILE] VERB ...\n"
    "  check                             configuration, secrets, spool\n"
    "  explain [--json] [--sender A] RCPT...\n"
    "                                    how addresses would be rewritten\n"
    "  queue [--json] [--failed] [ID...] list the queue\n"
    "  flush [ID...|--relay NAME]        try now\n"
    "  hold|release|requeue|delete ID...|--all|--sender A|--recipient A|--older D\n"
    "                                    keep back; back to the queue from\n"
    "                                    hold and failed; rewrite again; remove\n"
    "  status [--json]                   is mail flowing, and if not, why\n"
    "  test [ADDRESS]                    send a message and follow it\n"
    "  reload                            read the configuration again\n";

static int
usage(void)
{
	(void)fputs(usage_text, stderr);
	return STATUS_USAGE;
}

static int
refuse(const char *what, const char *why)
{
	(void)fprintf(stderr, "relayctl: %s: %s\n", what, why);
	return STATUS_USAGE;
}

/* The value of an option that a later version will have. */
enum { LATER = 'L' };

/*
 * The next option of a verb: its value, -1 at the end, '?' after a complaint.
 */
static int
next_option(int argc, char **argv, const struct option *options)
{
	struct buf what = { NULL, 0, 0 };
	int at = 0, value = getopt_long(argc, argv, "", options, &at);

	if (value == LATER) {
		buf_printf(&what, "%s --%s", argv[0], options[at].name);
		(void)refuse(buf_text(&what), "not in this version");
		buf_free(&what);
		return '?';
	}
	if (value == '?')
		(void)usage();
	return value;
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

static int
connect_to(const struct ctl *ctl)
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

/* Told each line of an answer: its first octet and the rest. */
typedef void line_handler(void *arg, char kind, struct span text);

static int
read_answer(FILE *in, line_handler *handler, void *arg)
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

/*
 * Have the daemon do what argv says, its options first.
 * returns its exit status, or NOT_RUNNING with errno.
 */
static int
ask(const struct ctl *ctl, int argc, char **argv, line_handler *handler,
    void *arg)
{
	int i, status, fd = connect_to(ctl);
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

static int
tell_unreachable(const struct ctl *ctl)
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
static void
print_line(void *arg, char kind, struct span text)
{
	FILE *out = kind == 'o' ? stdout : stderr;

	(void)arg;
	(void)fwrite(text.data, 1, text.len, out);
	(void)fflush(out);
}

static int
ask_and_print(const struct ctl *ctl, int argc, char **argv)
{
	int status = ask(ctl, argc, argv, print_line, NULL);

	return status == NOT_RUNNING ? tell_unreachable(ctl) : status;
}

/* ---- reading the spool ---- */

/* root and the spool's owner need no daemon, and don't hold it up. */
static struct queue *
open_spool(const struct ctl *ctl)
{
	struct stat st;
	pid_t owner;

	/* RELAYD_CONTROL says which daemon is meant, unless a file does. */
	if (ctl->config == NULL ||
	    (getenv("RELAYD_CONTROL") != NULL && !ctl->file_given))
		return NULL;
	if (stat(ctl->config->spool, &st) == -1 ||
	    (geteuid() != 0 && geteuid() != st.st_uid))
		return NULL;
	return queue_open(ctl->config->spool, QUEUE_READ_ONLY, &owner);
}

/* ---- verb "queue" ---- */

/* Queue ids among the arguments; false: complained. */
static bool
parse_ids(int argc, char **argv, struct report_filter *f)
{
	int i;

	f->id = mem_array(NULL, (size_t)argc + 1, sizeof(*f->id));
	for (i = 0; i < argc; i++) {
		if (!queue_id_parse(span_of(argv[i]), &f->id[i])) {
			(void)refuse(argv[i], "not a queue id");
			return false;
		}
		f->id_count++;
	}
	report_filter_sort(f);
	return true;
}

/* Ask the daemon, with the options that it knows in the order it wants. */
static int
list_remote(const struct ctl *ctl, struct listing *l, const char *json,
    const char *failed, char **ids)
{
	struct strings words = { NULL, 0 };
	int status;

	strings_add(&words, span_of("queue"));
	if (json != NULL)
		strings_add(&words, span_of(json));
	if (failed != NULL)
		strings_add(&words, span_of(failed));
	for (; *ids != NULL; ids++)
		strings_add(&words, span_of(*ids));
	status = ask(ctl, (int)words.count, words.item, listing_line, l);
	strings_free(&words);
	return status == NOT_RUNNING ? tell_unreachable(ctl) : status;
}

static int
run_queue(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", 0, NULL, 'j' },
		{ "failed", 0, NULL, 'f' }, { NULL, 0, NULL, 0 } };
	struct report_filter filter = { .everyones = true };
	struct listing l = { .count = 0 };
	const char *json = NULL;
	struct queue *q;
	int value, status = STATUS_USAGE;

	while ((value = next_option(argc, argv, options)) != -1) {
		if (value == 'j')
			json = "--json";
		else if (value == 'f')
			filter.failed = true;
		else
			return STATUS_USAGE;
	}
	if (!parse_ids(argc - optind, argv + optind, &filter))
		goto out;
	q = open_spool(ctl);
	if (q != NULL) {
		listing_read(&l, q, &filter, json != NULL);
		queue_close(q);
		status = STATUS_GOOD;
	} else {
		status = list_remote(ctl, &l, json,
		    filter.failed ? "--failed" : NULL, argv + optind);
	}
	if (status == STATUS_GOOD)
		status = listing_print(&l, &filter, json != NULL);
out:
	free(filter.id);
	listing_free(&l);
	return status;
}

/* ---- the other verbs ---- */

static void
count_spool(struct report_counts *counts, struct queue *q)
{
	struct queue_walk *w = queue_walk_new(q, PLACES, 0);
	const struct queue_info *info;

	while (queue_walk_next(w, &info))
		report_count(counts, info);
	queue_walk_free(w);
}

static int
run_status(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", 0, NULL, 'j' },
		{ NULL, 0, NULL, 0 } };
	struct report_counts counts = { .waiting = 0 };
	struct buf text = { NULL, 0, 0 };
	struct instant now;
	struct queue *q;
	bool json = false;
	int value, status;

	while ((value = next_option(argc, argv, options)) != -1) {
		if (value != 'j')
			return STATUS_USAGE;
		json = true;
	}
	if (optind < argc)
		return usage();
	status = ask(ctl, json ? 2 : 1,
	    (char *[]){ argv[0], (char[]){ "--json" } }, print_line, NULL);
	if (status != NOT_RUNNING)
		return status;
	if (errno != ENOENT && errno != ECONNREFUSED)
		return tell_unreachable(ctl);
	q = open_spool(ctl);
	if (q != NULL)
		count_spool(&counts, q);
	clock_read(&now);
	report_stopped(q == NULL ? NULL : &counts, now.wall_ms, json, &text);
	(void)fwrite(text.data, 1, text.len, stdout);
	buf_free(&text);
	queue_close(q);
	return STATUS_WRONG;
}

enum { IDS_AT_ONCE = 200 }; /* so that a request stays short */

/* Ask to do the verb to each of these ids. */
static int
ask_about_ids(const struct ctl *ctl, char *verb, int count, char **ids)
{
	char *words[IDS_AT_ONCE + 1] = { verb };
	int n, answer, status = STATUS_GOOD;

	while (count > 0 && status != STATUS_USAGE) {
		n = count < IDS_AT_ONCE ? count : IDS_AT_ONCE;
		memcpy(words + 1, ids, (size_t)n * sizeof(*ids));
		answer = ask_and_print(ctl, n + 1, words);
		if (answer != STATUS_GOOD)
			status = answer;
		count -= n;
		ids += n;
	}
	return status;
}

static bool
ids_valid(int count, char **ids)
{
	struct report_filter filter = { .id_count = 0 };
	bool valid = parse_ids(count, ids, &filter);

	free(filter.id);
	return valid;
}

static int
run_flush(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "relay", 1, NULL, 'r' },
		{ NULL, 0, NULL, 0 } };
	char *relay = NULL;
	int value;

	while ((value = next_option(argc, argv, options)) != -1) {
		if (value != 'r')
			return STATUS_USAGE;
		relay = optarg;
	}
	if (relay != NULL && optind < argc)
		return usage();
	if (relay != NULL)
		return ask_and_print(ctl, 3,
		    (char *[]){ argv[0], (char[]){ "--relay" }, relay });
	if (!ids_valid(argc - optind, argv + optind))
		return STATUS_USAGE;
	return optind == argc
	    ? ask_and_print(ctl, 1, argv)
	    : ask_about_ids(ctl, argv[0], argc - optind, argv + optind);
}

/* The value of one of the options that choose messages, checked. */
static bool
choice_valid(int option, const char *value)
{
	struct span s = span_of(value);
	int64_t seconds;

	if (option == 'o' && !parse_duration(s, &seconds)) {
		(void)refuse(value, "no duration, such as \"2h\"");
		return false;
	}
	if (option == 'o' ||
	    (option == 's' && (s.len == 0 || span_equal(s, SPAN("<>")))))
		return true;
	if (smtp_address_valid(s, ADDRESS_BARE | ADDRESS_UTF8))
		return true;
	(void)refuse(value, "not an address");
	return false;
}

/* hold, release, delete: of messages named or sought. */
static int
run_operation(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "all", 0, NULL, 'a' },
		{ "sender", 1, NULL, 's' }, { "recipient", 1, NULL, 'r' },
		{ "older", 1, NULL, 'o' }, { NULL, 0, NULL, 0 } };
	static const char *const option_texts[] = { "--all", "--sender",
		"--recipient", "--older" };
	struct strings words = { NULL, 0 };
	int value, at = 0, status = STATUS_USAGE;

	strings_add(&words, span_of(argv[0]));
	while ((value = getopt_long(argc, argv, "", options, &at)) != -1) {
		if (value == '?') {
			(void)usage();
			goto out;
		}
		if (value != 'a' && !choice_valid(value, optarg))
			goto out;
		strings_add(&words, span_of(option_texts[at]));
		if (value != 'a')
			strings_add(&words, span_of(optarg));
	}
	if ((words.count > 1) == (optind < argc))
		(void)usage();
	else if (words.count > 1)
		status = ask_and_print(ctl, (int)words.count, words.item);
	else if (ids_valid(argc - optind, argv + optind))
		status =
		    ask_about_ids(ctl, argv[0], argc - optind, argv + optind);
out:
	strings_free(&words);
	return status;
}

static int
run_reload(const struct ctl *ctl, int argc, char **argv)
{
	return argc > 1 ? usage() : ask_and_print(ctl, argc, argv);
}

static bool
is_address(const char *text)
{
	if (smtp_address_valid(span_of(text), ADDRESS_BARE | ADDRESS_UTF8))
		return true;
	(void)refuse(text, "not an address");
	return false;
}

static int
run_test(const struct ctl *ctl, int argc, char **argv)
{
	if (argc > 2)
		return usage();
	if (argc == 2 && !is_address(argv[1]))
		return STATUS_USAGE;
	return ask_and_print(ctl, argc, argv);
}

static int
run_check(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "online", 0, NULL, LATER },
		{ NULL, 0, NULL, 0 } };
	bool running;
	int fd;

	if (next_option(argc, argv, options) != -1)
		return STATUS_USAGE;
	if (optind < argc)
		return usage();
	(void)fwrite(ctl->errors.data, 1, ctl->errors.len, stderr);
	(void)fwrite(ctl->warnings.data, 1, ctl->warnings.len, stderr);
	if (ctl->config == NULL)
		return STATUS_WRONG;
	fd = connect_to(ctl);
	running = fd != -1;
	fd_close(&fd);
	return relayctl_check(ctl->config, running);
}

static int
run_explain(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", 0, NULL, 'j' },
		{ "sender", 1, NULL, 's' }, { NULL, 0, NULL, 0 } };
	struct strings recipients = { NULL, 0 };
	const char *sender = "root";
	bool json = false, valid;
	int value, status = STATUS_USAGE;

	while ((value = next_option(argc, argv, options)) != -1) {
		if (value == 'j')
			json = true;
		else if (value == 's')
			sender = strcmp(optarg, "<>") == 0 ? "" : optarg;
		else
			return STATUS_USAGE;
	}
	if (optind == argc)
		return usage();
	valid = *sender == '\0' || is_address(sender);
	for (; valid && optind < argc; optind++) {
		valid = is_address(argv[optind]);
		strings_add(&recipients, span_of(argv[optind]));
	}
	if (valid && ctl->config == NULL) {
		(void)fwrite(ctl->errors.data, 1, ctl->errors.len, stderr);
		status = STATUS_WRONG;
	} else if (valid) {
		status =
		    relayctl_explain(ctl->config, sender, &recipients, json);
	}
	strings_free(&recipients);
	return status;
}

/* ---- the command line ---- */

static int
run_verb(struct ctl *ctl, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const struct ctl *ctl, int argc, char **argv);
	} verbs[] = {
		{ "check", run_check },
		{ "delete", run_operation },
		{ "explain", run_explain },
		{ "flush", run_flush },
		{ "hold", run_operation },
		{ "queue", run_queue },
		{ "release", run_operation },
		{ "requeue", run_operation },
		{ "reload", run_reload },
		{ "status", run_status },
		{ "test", run_test },
	};
	static const char *const later[] = { "bounce", "config", "dkim-genkey",
		"healthcheck", "import", "log", "metrics", "oauth2-login",
		"set", "show" };
	size_t i;

	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(argv[0], verbs[i].name) != 0)
			continue;
		ctl->config =
		    config_load(ctl->file, &ctl->errors, &ctl->warnings);
		optind = 0; /* begin anew, behind the verb */
		return verbs[i].run(ctl, argc, argv);
	}
	for (i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		if (strcmp(argv[0], later[i]) == 0)
			return refuse(argv[0], "not in this version");
	(void)refuse(argv[0], "unknown verb");
	return usage();
}

static int
run(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "help", 0, NULL, 'h' },
		{ "version", 0, NULL, 'V' }, { NULL, 0, NULL, 0 } };
	int value;

	opterr = 0;
	while (
	    (value = getopt_long(argc, argv, "+f:hV", options, NULL)) != -1) {
		switch (value) {
		case 'f':
			ctl->file = optarg;
			ctl->file_given = true;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return STATUS_GOOD;
		case 'V':
			(void)puts("relayctl " RELAYD_VERSION);
			return STATUS_GOOD;
		default:
			return usage();
		}
	}
	if (optind == argc)
		return usage();
	return run_verb(ctl, argc - optind, argv + optind);
}

int
main(int argc, char **argv)
{
	struct ctl ctl = { .file = SYSCONFDIR "/relayd/relayd.conf" };
	int status;

	log_open(LOG_TO_STDERR, LOG_LEVEL_WARNING);
	(void)signal(SIGPIPE, SIG_IGN);
	status = run(&ctl, argc, argv);
	config_release(ctl.config);
	buf_free(&ctl.errors);
	buf_free(&ctl.warnings);
	if (fflush(stdout) == EOF || ferror(stdout) != 0) {
		if (errno != EPIPE)
			perror("relayctl: standard output");
		status = status == STATUS_GOOD ? STATUS_WRONG : status;
	}
	return status;
}
