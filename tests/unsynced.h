/*
 * A spool whose syncs are only said to be done: to fill it fast where no power
 * is cut.  A program that includes this wraps
 *
 *   fdatasync fsync sync_file_range
 */
#ifndef UNSYNCED_H
#define UNSYNCED_H

#include <sys/types.h>

int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_sync_file_range(int fd, off_t at, off_t len, unsigned flags);

int
__wrap_fdatasync(int fd)
{
	(void)fd;
	return 0;
}

int
__wrap_fsync(int fd)
{
	(void)fd;
	return 0;
}

int
__wrap_sync_file_range(int fd, off_t at, off_t len, unsigned flags)
{
	(void)fd;
	(void)at;
	(void)len;
	(void)flags;
	return 0;
}

#endif
