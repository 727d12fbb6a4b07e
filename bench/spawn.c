/*
 * Runs a command again and again with a message on its standard input, and
 * says what each call took.  "%" in an argument becomes the call's number.
 *
 * usage: spawn CALLS PAUSE_MS FILE COMMAND [ARGUMENT ...]
 * prints, a line a call: BEGAN_NS TOOK_NS CPU_NS, by CLOCK_MONOTONIC
 */
#include "now.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <err.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int64_t
as_ns(struct timeval t)
{
	return t.tv_sec * INT64_C(1000000000) + t.tv_usec * 1000;
}

/* A copy of an argument with the number in it. */
static char *
with_number(const char *argument, unsigned number)
{
	const char *at = strchr(argument, '%');
	char *text;

	if (at == NULL)
		text = strdup(argument);
	else if (asprintf(&text, "%.*s%u%s", (int)(at - argument), argument,
		     number, at + 1) == -1)
		text = NULL;
	if (text == NULL)
		err(1, "memory");
	return text;
}

static void
call(const char *file, char **command, unsigned number)
{
	posix_spawn_file_actions_t actions;
	struct rusage usage;
	char *argv[32];
	int64_t began;
	int status, error;
	size_t i;
	pid_t pid;

	for (i = 0; command[i] != NULL && i < 31; i++)
		argv[i] = with_number(command[i], number);
	argv[i] = NULL;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, 0, file, O_RDONLY, 0);
	began = now_ns();
	error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	if (error != 0)
		errx(1, "%s: %s", argv[0], strerror(error));
	if (wait4(pid, &status, 0, &usage) == -1 || status != 0)
		errx(1, "%s: status %d", argv[0], status);
	printf("%jd %jd %jd\n", (intmax_t)began, (intmax_t)(now_ns() - began),
	    (intmax_t)(as_ns(usage.ru_utime) + as_ns(usage.ru_stime)));
	(void)posix_spawn_file_actions_destroy(&actions);
	while (i > 0)
		free(argv[--i]);
}

int
main(int argc, char **argv)
{
	unsigned i, calls;

	if (argc < 5)
		errx(64, "usage: spawn CALLS PAUSE_MS FILE COMMAND ...");
	calls = (unsigned)atoi(argv[1]);
	for (i = 0; i < calls; i++) {
		call(argv[3], argv + 4, i);
		(void)usleep((useconds_t)atoi(argv[2]) * 1000);
	}
	return 0;
}
