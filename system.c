/*
 * What the system has in store for a daemon: inherited descriptors, the
 * rights it starts with and gives up, sockets handed over and the word that
 * it is ready.
 */
#include "system.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FIRST_PASSED = 3, /* SD_LISTEN_FDS_START */
	DESCRIPTORS = 4096,
};

/* ---- descriptors, signals, limits ---- */

/* How many sockets systemd has put at 3 and up, for this process. */
static unsigned
passed_descriptors(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t wanted, count;

	if (pid == NULL || fds == NULL ||
	    !parse_number(span_of(pid), INT32_MAX, &wanted) ||
	    !parse_number(span_of(fds), 64, &count) ||
	    (pid_t)wanted != getpid())
		return 0;
	return (unsigned)count;
}

void
system_prepare(void)
{
	struct rlimit files;
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	(void)close_range(FIRST_PASSED + passed_descriptors(), ~0u, 0);
	(void)umask(077);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
	    files.rlim_cur < DESCRIPTORS) {
		files.rlim_cur =
		    files.rlim_max < DESCRIPTORS ? files.rlim_max : DESCRIPTORS;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

void
system_confine(void)
{
	static const struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		log_warning(NULL, "the process can't be confined: %s",
		    strerror(errno));
}

/* ---- rights ---- */

int
system_identity(const char *user, struct identity *id, struct buf *error)
{
	const struct passwd *pw;

	*id = (struct identity){ geteuid() == 0, geteuid(), getegid() };
	if (!id->change)
		return 0;
	pw = getpwnam(user);
	if (pw == NULL) {
		buf_printf(error,
		    "there is no user %s to become; make it with: useradd "
		    "--system --no-create-home --shell /usr/sbin/nologin %s",
		    user, user);
		return -1;
	}
	if (pw->pw_uid == 0) {
		buf_printf(error,
		    "user %s is root; choose one without privileges", user);
		return -1;
	}
	id->uid = pw->pw_uid;
	id->gid = pw->pw_gid;
	return 0;
}

/* Have the entry of path in its directory outlive a power cut. */
static int
sync_parent(const char *path)
{
	char *copy = mem_text(path);
	int ret, fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	free(copy);
	if (fd == -1)
		return -1;
	ret = fsync(fd);
	fd_close(&fd);
	return ret;
}

/* Make the parents, as root's or whoever we are, open to all. */
static void
make_parents(const char *path)
{
	char *copy = mem_text(path);
	char *slash = copy;

	while ((slash = strchr(slash + 1, '/')) != NULL) {
		*slash = '\0';
		if (mkdir(copy, 0755) == 0) {
			(void)chmod(copy, 0755); /* whatever the umask is */
			(void)sync_parent(copy);
		}
		*slash = '/';
	}
	free(copy);
}

int
system_directory(const char *path, mode_t mode, const struct identity *id,
    struct buf *error)
{
	struct stat st;

	make_parents(path);
	if (mkdir(path, mode) == 0) {
		if (chmod(path, mode) == -1 ||
		    (id->change && chown(path, id->uid, id->gid) == -1) ||
		    sync_parent(path) == -1)
			goto fail;
		return 0;
	}
	if (errno != EEXIST || stat(path, &st) == -1)
		goto fail;
	if (!S_ISDIR(st.st_mode)) {
		errno = ENOTDIR;
		goto fail;
	}
	/* Whoever made it may have been cut short just then. */
	(void)sync_parent(path);
	return 0;
fail:
	buf_printf(error, "%s: %s", path, strerror(errno));
	return -1;
}

int
system_act_as(const struct identity *id)
{
	if (!id->change)
		return 0;
	return setegid(id->gid) == -1 || seteuid(id->uid) == -1 ? -1 : 0;
}

int
system_act_as_root(const struct identity *id)
{
	if (!id->change)
		return 0;
	return seteuid(0) == -1 || setegid(0) == -1 ? -1 : 0;
}

int
system_become(const struct identity *id)
{
	if (!id->change)
		return 0;
	if (setgroups(0, NULL) == -1 ||
	    setresgid(id->gid, id->gid, id->gid) == -1 ||
	    setresuid(id->uid, id->uid, id->uid) == -1)
		return -1;
	/* Proved, not believed. */
	if (setuid(0) == 0 || setgid(0) == 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

/* ---- socket activation ---- */

union socket_name {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

/* The address of a socket as a listen section names it; NULL: of no kind that
 * we listen on. */
static char *
socket_address(int fd, bool *loopback)
{
	union socket_name name;
	socklen_t len = sizeof(name);
	char text[INET6_ADDRSTRLEN];
	struct buf b = { NULL, 0, 0 };

	memset(&name, 0, sizeof(name));
	if (getsockname(fd, &name.any, &len) == -1)
		return NULL;
	if (name.any.sa_family == AF_UNIX) {
		*loopback = true;
		buf_printf(&b, "unix:%.*s", (int)sizeof(name.local.sun_path),
		    name.local.sun_path);
	} else if (name.any.sa_family == AF_INET) {
		*loopback = ntohl(name.v4.sin_addr.s_addr) >> 24 == 127;
		(void)inet_ntop(AF_INET, &name.v4.sin_addr, text, sizeof(text));
		buf_printf(&b, "%s:%d", text, ntohs(name.v4.sin_port));
	} else if (name.any.sa_family == AF_INET6) {
		*loopback = IN6_IS_ADDR_LOOPBACK(&name.v6.sin6_addr);
		(void)inet_ntop(AF_INET6, &name.v6.sin6_addr, text,
		    sizeof(text));
		buf_printf(&b, "[%s]:%d", text, ntohs(name.v6.sin6_port));
	} else {
		return NULL;
	}
	(void)buf_text(&b);
	return b.data;
}

size_t
system_activated(struct activated *out, size_t size)
{
	unsigned i, count = passed_descriptors();
	size_t n = 0;

	for (i = 0; i < count && n < size; i++) {
		int fd = FIRST_PASSED + (int)i;

		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		out[n].fd = fd;
		out[n].loopback = false;
		out[n].address = socket_address(fd, &out[n].loopback);
		if (out[n].address != NULL)
			n++;
		else
			log_warning(NULL,
			    "descriptor %d, handed over by the system, is no "
			    "socket; ignored",
			    fd);
	}
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	return n;
}

/* ---- readiness ---- */

void
system_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t len = path == NULL ? 0 : strlen(path);
	int fd;

	if (len == 0 || len >= sizeof(sun.sun_path))
		return;
	memcpy(sun.sun_path, path, len);
	if (sun.sun_path[0] == '@') /* an abstract one */
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL,
		(const struct sockaddr *)&sun,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) ==
	    -1)
		log_warning(NULL, "NOTIFY_SOCKET: %s", strerror(errno));
	fd_close(&fd);
}
