/*
 * A spool in a directory of its own, for tests.
 */
#ifndef SPOOL_DIRECTORY_H
#define SPOOL_DIRECTORY_H

#include "../relayd.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* path receives where it is. */
static inline struct queue *
make_spool(char path[64])
{
	struct queue *q;
	pid_t owner;

	(void)snprintf(path, 64, "/tmp/test_spool.XXXXXX");
	assert_non_null(mkdtemp(path));
	q = queue_open(path, 0, &owner);
	assert_non_null(q);
	return q;
}

/* q may be NULL: it was closed. */
static inline void
remove_spool(const char *path, struct queue *q)
{
	char command[128];

	if (q != NULL)
		queue_close(q);
	(void)snprintf(command, sizeof(command), "rm -rf %s", path);
	assert_int_equal(system(command), 0);
}

/* How many there are in new/, cur/ ...; hidden ones apart. */
static inline unsigned
files_in(const char *path, const char *place)
{
	char directory[128];
	const struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	(void)snprintf(directory, sizeof(directory), "%s/%s", path, place);
	dir = opendir(directory);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL)
		n += d->d_name[0] != '.';
	(void)closedir(dir);
	return n;
}

#endif
