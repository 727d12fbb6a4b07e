/*
 * What the machine itself can do: messages a second that become durable when
 * there is nothing to do but that.  Each is a file of its own, written under
 * tmp/ and renamed to new/; those of a group become durable together, in the
 * order that has proved the cheapest (see queue.c), side by side (sync.c), which
 * leaves nothing but the waiting for the disk to be won: what relayd gains by
 * larger groups, and by going on meanwhile, counts for it.
 *
 * usage: limit DIRECTORY MESSAGES OCTETS GROUP
 */
#include "spool.h"

#include <sys/stat.h>

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GROUP_MAX = 1024 };

static int
directory(int top, const char *name)
{
	int fd;

	if (mkdirat(top, name, 0700) == -1 ||
	    (fd = openat(top, name, O_RDONLY | O_DIRECTORY)) == -1)
		err(1, "%s", name);
	return fd;
}

static int
write_one(int tmp, int new, unsigned number, const char *data, size_t len)
{
	char name[16];
	int fd;

	(void)snprintf(name, sizeof(name), "%012u", number);
	fd = openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd == -1 || write(fd, data, len) != (ssize_t)len ||
	    renameat(tmp, name, new, name) == -1 ||
	    sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == -1)
		err(1, "%s", name);
	return fd;
}

int
main(int argc, char **argv)
{
	struct timespec began, ended;
	unsigned total, group, done = 0;
	struct sync_file file[GROUP_MAX];
	struct syncer *syncer = syncer_new();
	int top, tmp, new;
	size_t len;
	char *data;

	if (argc != 5)
		errx(64, "usage: limit DIRECTORY MESSAGES OCTETS GROUP");
	total = (unsigned)atoi(argv[2]);
	len = (size_t)atoi(argv[3]);
	group = (unsigned)atoi(argv[4]);
	data = malloc(len);
	top = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (top == -1 || data == NULL || group == 0 || group > GROUP_MAX)
		err(1, "%s", argv[1]);
	memset(data, 'x', len);
	tmp = directory(top, "tmp");
	new = directory(top, "new");
	(void)clock_gettime(CLOCK_MONOTONIC, &began);
	while (done < total) {
		unsigned i, n = total - done < group ? total - done : group;

		for (i = 0; i < n; i++)
			file[i].fd = write_one(tmp, new, done + i, data, len);
		syncer_start(syncer, file, n, -1);
		syncer_wait(syncer);
		for (i = 0; i < n; i++) {
			if (file[i].error != 0 || close(file[i].fd) == -1)
				errx(1, "fdatasync");
		}
		if (fsync(new) == -1)
			err(1, "fsync");
		done += n;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &ended);
	printf("%.1f\n",
	    total /
		((double)(ended.tv_sec - began.tv_sec) +
		    (double)(ended.tv_nsec - began.tv_nsec) / 1e9));
	syncer_free(syncer);
	free(data);
	return 0;
}
