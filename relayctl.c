/*
 * The operator's command: its command line, and the verbs that need no file of
 * their own.
 */
#include "relayctl.h"

#include <sys/stat.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEALTHY_AGE = 3600 }; /* seconds */

/* ---- verb "queue" ---- */

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
	status =
	    relayctl_ask(ctl, (int)words.count, words.item, listing_line, l);
	strings_free(&words);
	return status == NOT_RUNNING ? relayctl_unreachable(ctl) : status;
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

	while ((value = relayctl_option(argc, argv, options)) != -1) {
		if (value == 'j')
			json = "--json";
		else if (value == 'f')
			filter.failed = true;
		else
			return STATUS_USAGE;
	}
	if (!relayctl_ids(argc - optind, argv + optind, &filter))
		goto out;
	q = relayctl_spool(ctl);
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

	while ((value = relayctl_option(argc, argv, options)) != -1) {
		if (value != 'j')
			return STATUS_USAGE;
		json = true;
	}
	if (optind < argc)
		return relayctl_usage();
	status = relayctl_ask(ctl, json ? 2 : 1,
	    (char *[]){ argv[0], (char[]){ "--json" } }, relayctl_print_line,
	    NULL);
	if (status != NOT_RUNNING)
		return status;
	if (errno != ENOENT && errno != ECONNREFUSED)
		return relayctl_unreachable(ctl);
	q = relayctl_spool(ctl);
	if (q != NULL)
		count_spool(&counts, q);
	clock_read(&now);
	report_stopped(q == NULL ? NULL : &counts, now.wall_ms, json, &text);
	relayctl_print(stdout, buf_span(&text));
	buf_free(&text);
	queue_close(q);
	return STATUS_WRONG;
}

/* For scripts and containers: the exit status is all. */
static int
run_healthcheck(const struct ctl *ctl, int argc, char **argv)
{
	int64_t age = HEALTHY_AGE;
	char seconds[24];
	int option, status;

	while ((option = getopt(argc, argv, "a:")) != -1) {
		if (option != 'a')
			return relayctl_usage();
		if (!relayctl_duration(optarg, &age))
			return STATUS_USAGE;
	}
	if (optind < argc)
		return relayctl_usage();
	(void)snprintf(seconds, sizeof(seconds), "%" PRId64, age);
	status = relayctl_ask(ctl, 2, (char *[]){ argv[0], seconds },
	    relayctl_print_line, NULL);
	return status == NOT_RUNNING ? STATUS_WRONG : status;
}

/* A verb without arguments. */
static int
run_plain(const struct ctl *ctl, int argc, char **argv)
{
	return argc > 1 ? relayctl_usage()
			: relayctl_ask_and_print(ctl, argc, argv);
}

static int
run_test(const struct ctl *ctl, int argc, char **argv)
{
	if (argc > 2)
		return relayctl_usage();
	if (argc == 2 && !relayctl_address(argv[1]))
		return STATUS_USAGE;
	return relayctl_ask_and_print(ctl, argc, argv);
}

static int
run_check(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "online", 0, NULL, 'o' },
		{ "json", 0, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	bool running, online = false, json = false;
	int fd, value;

	while ((value = relayctl_option(argc, argv, options)) != -1) {
		if (value == 'o')
			online = true;
		else if (value == 'j')
			json = true;
		else
			return STATUS_USAGE;
	}
	if (argc - optind > (online ? 1 : 0) || (json && !online))
		return relayctl_usage();
	relayctl_print(stderr, buf_span(&ctl->errors));
	relayctl_print(stderr, buf_span(&ctl->warnings));
	if (ctl->config == NULL)
		return STATUS_WRONG;
	if (online)
		return relayctl_online(ctl->config, argv[optind], json);
	fd = relayctl_connect(ctl);
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

	while ((value = relayctl_option(argc, argv, options)) != -1) {
		if (value == 'j')
			json = true;
		else if (value == 's')
			sender = strcmp(optarg, "<>") == 0 ? "" : optarg;
		else
			return STATUS_USAGE;
	}
	if (optind == argc)
		return relayctl_usage();
	valid = *sender == '\0' || relayctl_address(sender);
	for (; valid && optind < argc; optind++) {
		valid = relayctl_address(argv[optind]);
		strings_add(&recipients, span_of(argv[optind]));
	}
	if (valid && ctl->config == NULL) {
		relayctl_print(stderr, buf_span(&ctl->errors));
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
		{ "config", relayctl_config },
		{ "delete", relayctl_operate },
		{ "explain", run_explain },
		{ "flush", relayctl_flush },
		{ "healthcheck", run_healthcheck },
		{ "hold", relayctl_operate },
		{ "log", relayctl_history },
		{ "metrics", run_plain },
		{ "queue", run_queue },
		{ "release", relayctl_operate },
		{ "requeue", relayctl_operate },
		{ "bounce", relayctl_operate },
		{ "reload", run_plain },
		{ "set", relayctl_set },
		{ "show", relayctl_show },
		{ "status", run_status },
		{ "test", run_test },
	};
	static const char *const later[] = { "dkim-genkey", "import",
		"oauth2-login" };
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
			return relayctl_refuse(argv[0], "not in this version");
	(void)relayctl_refuse(argv[0], "unknown verb");
	return relayctl_usage();
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
			return relayctl_help();
		case 'V':
			(void)puts("relayctl " RELAYD_VERSION);
			return STATUS_GOOD;
		default:
			return relayctl_usage();
		}
	}
	if (optind == argc)
		return relayctl_usage();
	return run_verb(ctl, argc - optind, argv + optind);
}

int
main(int argc, char **argv)
{
	struct ctl ctl = { .file = SYSCONFDIR "/relayd/relayd.conf" };
	int status;

	log_open(LOG_TO_STDERR, LOG_LEVEL_WARNING, false);
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
