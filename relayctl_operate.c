/*
 * The verbs that do something to messages: flush, hold, release, requeue,
 * delete, bounce.  Arguments are checked here; the daemon does the work (operate.c).
 */
#include "relayctl.h"

#include <stdlib.h>
#include <string.h>

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
		answer = relayctl_ask_and_print(ctl, n + 1, words);
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
	bool valid = relayctl_ids(count, ids, &filter);

	free(filter.id);
	return valid;
}

int
relayctl_flush(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "relay", 1, NULL, 'r' },
		{ NULL, 0, NULL, 0 } };
	char *relay = NULL;
	int value;

	while ((value = relayctl_option(argc, argv, options)) != -1) {
		if (value != 'r')
			return STATUS_USAGE;
		relay = optarg;
	}
	if (relay != NULL && optind < argc)
		return relayctl_usage();
	if (relay != NULL)
		return relayctl_ask_and_print(ctl, 3,
		    (char *[]){ argv[0], (char[]){ "--relay" }, relay });
	if (!ids_valid(argc - optind, argv + optind))
		return STATUS_USAGE;
	return optind == argc
	    ? relayctl_ask_and_print(ctl, 1, argv)
	    : ask_about_ids(ctl, argv[0], argc - optind, argv + optind);
}

/* The value of one of the options that choose messages, checked. */
static bool
choice_valid(int option, const char *value)
{
	int64_t seconds;

	if (option == 'o')
		return relayctl_duration(value, &seconds);
	if (option == 's' && (*value == '\0' || strcmp(value, "<>") == 0))
		return true;
	return relayctl_address(value);
}

int
relayctl_operate(const struct ctl *ctl, int argc, char **argv)
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
			(void)relayctl_usage();
			goto out;
		}
		if (value != 'a' && !choice_valid(value, optarg))
			goto out;
		strings_add(&words, span_of(option_texts[at]));
		if (value != 'a')
			strings_add(&words, span_of(optarg));
	}
	if ((words.count > 1) == (optind < argc))
		(void)relayctl_usage();
	else if (words.count > 1)
		status =
		    relayctl_ask_and_print(ctl, (int)words.count, words.item);
	else if (ids_valid(argc - optind, argv + optind))
		status =
		    ask_about_ids(ctl, argv[0], argc - optind, argv + optind);
out:
	strings_free(&words);
	return status;
}
