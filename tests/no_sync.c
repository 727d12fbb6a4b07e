/*
 * Preloaded into relayd, it makes it a program that forgets a sync: what
 * tests/power_cuts.py has to find.  NO_SYNC names what is not synced:
 *
 *   file       nothing of a file is
 *   directory  no directory is.  Most file systems make names durable with
 *              any file, though nobody promises that; so a file is named here
 *              when its directory is to be synced, and not synced again
 */
#include <sys/stat.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_MAX = 256 };

struct name {
	int from, to;
	char text[32];
};

static struct name names[NAMES_MAX];
static size_t count;

static bool
is_off(const char *what)
{
	const char *off = getenv("NO_SYNC");

	return off != NULL && strcmp(off, what) == 0;
}

/* Another function of the same name and type. */
static int
call(const char *name, int fd)
{
	int (*next)(int);

	*(void **)&next = dlsym(RTLD_NEXT, name);
	return next(fd);
}

static int
rename_now(const struct name *n, unsigned flags)
{
	int (*next)(int, const char *, int, const char *, unsigned);

	*(void **)&next = dlsym(RTLD_NEXT, "renameat2");
	return next(n->from, n->text, n->to, n->text, flags);
}

/* What is to be named comes from there. */
static bool
is_tmp(int directory)
{
	struct stat st, tmp;

	return fstat(directory, &st) == 0 &&
	    fstatat(directory, "../tmp", &tmp, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == tmp.st_ino;
}

int
renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
	struct name n = { .from = from, .to = to };

	(void)new; /* a message keeps its name */
	(void)snprintf(n.text, sizeof(n.text), "%s", old);
	if (!is_off("directory") || !is_tmp(from) || count == NAMES_MAX)
		return rename_now(&n, flags);
	names[count++] = n;
	return 0;
}

int
fsync(int fd)
{
	struct stat st;
	size_t i;

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		for (i = 0; i < count; i++)
			(void)rename_now(&names[i], RENAME_NOREPLACE);
		count = 0;
		return is_off("directory") ? 0 : call("fsync", fd);
	}
	return is_off("file") ? 0 : call("fsync", fd);
}

int
fdatasync(int fd)
{
	if (is_off("file") || (is_off("directory") && count == 0))
		return 0;
	return call("fdatasync", fd);
}

int
sync_file_range(int fd, off_t at, off_t len, unsigned flags)
{
	int (*next)(int, off_t, off_t, unsigned);

	if (is_off("file"))
		return 0;
	*(void **)&next = dlsym(RTLD_NEXT, "sync_file_range");
	return next(fd, at, len, flags);
}
