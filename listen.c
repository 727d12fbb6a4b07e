/*
 * Listening sockets: binding or adopting them, accepting, and who is at the
 * other end.  What is said on a connection is for others.
 */
#include "submit.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ACCEPTS_A_TURN = 16,
	PAUSE_MS = 1000,  /* after accept() found no descriptor or memory */
	MAPPED_BITS = 96, /* of ::ffff:0:0/96, where IPv4 is mapped */
};

/* A CIDR block. */
struct block {
	unsigned char address[16];
	unsigned bits;
};

struct listener {
	struct loop *loop;
	int fd;
	char *address; /* as the configuration has it */
	char *bound;
	char *path; /* of a socket file that is ours to remove, or NULL */
	bool adopted;
	bool full; /* accept() failed, which has been logged */
	bool reject_bare_newline;
	struct block *allow;
	size_t allow_count;
	struct timer pause;
	listener_accepted *accepted;
	void *arg;
};

union socket_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

/* ---- addresses ---- */

static const unsigned char mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool
is_mapped(const unsigned char address[16])
{
	return memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

static bool
is_loopback(const unsigned char address[16])
{
	return is_mapped(address) ? address[12] == 127
				  : memcmp(address, &in6addr_loopback, 16) == 0;
}

static void
map_v4(const void *v4, unsigned char address[16])
{
	memcpy(address, mapped_prefix, sizeof(mapped_prefix));
	memcpy(address + sizeof(mapped_prefix), v4, 4);
}

static bool
parse_address(struct span text, unsigned char address[16])
{
	char *copy = span_text(text);
	struct in_addr v4;
	bool ok;

	ok = strlen(copy) == text.len;
	if (ok && inet_pton(AF_INET, copy, &v4) == 1)
		map_v4(&v4, address);
	else
		ok = ok && inet_pton(AF_INET6, copy, address) == 1;
	free(copy);
	return ok;
}

/* "10.0.0.0/8", "fd00::/8", or one address. */
static bool
parse_block(struct span text, struct block *b)
{
	struct span address, number;
	bool v4 = text.len > 0 && memchr(text.data, ':', text.len) == NULL;
	uint64_t bits, most = v4 ? 32 : 128;

	if (!span_cut(text, '/', &address, &number))
		bits = most;
	else if (!parse_number(number, most, &bits))
		return false;
	b->bits = (unsigned)bits + (v4 ? MAPPED_BITS : 0);
	return parse_address(address, b->address);
}

static bool
in_block(const struct block *b, const unsigned char address[16])
{
	size_t whole = b->bits / 8;
	unsigned mask = 0xff00u >> b->bits % 8 & 0xff;

	return memcmp(address, b->address, whole) == 0 &&
	    (mask == 0 || ((address[whole] ^ b->address[whole]) & mask) == 0);
}

static void
address_of(const union socket_address *from, unsigned char address[16])
{
	if (from->any.sa_family == AF_INET)
		map_v4(&from->v4.sin_addr, address);
	else
		memcpy(address, &from->v6.sin6_addr, 16);
}

static void
address_text(const unsigned char address[16], char out[INET6_ADDRSTRLEN])
{
	bool v4 = is_mapped(address);

	(void)inet_ntop(v4 ? AF_INET : AF_INET6, address + (v4 ? 12 : 0), out,
	    INET6_ADDRSTRLEN);
}

/* ---- peers ---- */

void
peer_user(struct peer *p, uid_t uid)
{
	*p = (struct peer){ .uid = uid, .local = true, .may_relay = true };
	(void)snprintf(p->name, sizeof(p->name), "userid %u", uid);
	(void)snprintf(p->received, sizeof(p->received), "userid %u", uid);
}

bool
peer_equal(const struct peer *a, const struct peer *b)
{
	return a->uid == b->uid && memcmp(a->address, b->address, 16) == 0;
}

static bool
may_relay(const struct listener *l, const unsigned char address[16])
{
	size_t i;

	if (l->allow_count == 0)
		return is_loopback(address);
	for (i = 0; i < l->allow_count; i++)
		if (in_block(&l->allow[i], address))
			return true;
	return false;
}

static void
peer_at(const struct listener *l, const union socket_address *from,
    struct peer *p)
{
	char text[INET6_ADDRSTRLEN];
	const char *name;

	*p = (struct peer){ .uid = -1 };
	address_of(from, p->address);
	p->local = is_loopback(p->address);
	p->may_relay = may_relay(l, p->address);
	name = p->local ? "localhost" : "unknown";
	address_text(p->address, text);
	(void)snprintf(p->name, sizeof(p->name), "%s[%s]", name, text);
	/* A literal as in RFC 5321, section 4.1.3. */
	(void)snprintf(p->received, sizeof(p->received), "%s [%s%s]", name,
	    is_mapped(p->address) ? "" : "IPv6:", text);
}

/* Who connected; -1: gone already. */
static int
find_peer(const struct listener *l, int fd, struct peer *p)
{
	union socket_address from = { .any = { .sa_family = AF_UNSPEC } };
	socklen_t len = sizeof(from);
	struct ucred user;
	int on = 1;

	if (getpeername(fd, &from.any, &len) == -1)
		return -1;
	if (from.any.sa_family == AF_UNIX) {
		len = sizeof(user);
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &len) == -1)
			return -1;
		peer_user(p, user.uid);
	} else {
		peer_at(l, &from, p);
		/* Replies leave in one write; none waits for an ACK. */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	p->reject_bare_newline = l->reject_bare_newline;
	return 0;
}

/* ---- binding ---- */

/* errno stays: EADDRINUSE is another matter than the rest. */
static int
fail(struct buf *error, const char *address, const char *what)
{
	int saved = errno;

	buf_printf(error, "%s: %s", address, what);
	errno = saved;
	return -1;
}

/* Bind and listen; closes fd when that fails. */
static int
start(int fd, const union socket_address *address, socklen_t len)
{
	if (fd != -1 &&
	    (bind(fd, &address->any, len) == -1 || listen(fd, SOMAXCONN) == -1))
		fd_close(&fd);
	return fd;
}

/* Remove a socket file that nobody listens on. */
static int
remove_stale(const union socket_address *address)
{
	const char *path = address->local.sun_path;
	struct stat st;
	bool refused;
	int fd;

	if (lstat(path, &st) == -1)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	refused = connect(fd, &address->any, sizeof(address->local)) == -1 &&
	    errno == ECONNREFUSED;
	fd_close(&fd);
	if (refused)
		return unlink(path);
	errno = EADDRINUSE;
	return -1;
}

int
listen_unix(const char *path, mode_t mode, struct buf *error)
{
	union socket_address a = { .local = { .sun_family = AF_UNIX } };
	int fd;

	if (strlen(path) >= sizeof(a.local.sun_path)) {
		errno = ENAMETOOLONG;
		return fail(error, path, "longer than 107 octets");
	}
	memcpy(a.local.sun_path, path, strlen(path) + 1);
	if (remove_stale(&a) == -1)
		return fail(error, path,
		    errno == EADDRINUSE
			? "in use: another relayd is already running"
			: strerror(errno));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The file is born with the socket's mode less the umask: at no time
	 * may more people connect than in the end. */
	if (fd != -1)
		(void)fchmod(fd, mode);
	fd = start(fd, &a, sizeof(a.local));
	if (fd != -1 && chmod(path, mode) == -1) {
		fd_close(&fd);
		(void)unlink(path);
	}
	return fd == -1 ? fail(error, path, strerror(errno)) : fd;
}

/* "127.0.0.1:25" or "[::1]:25". */
static bool
parse_tcp(const char *text, union socket_address *a, socklen_t *len)
{
	const char *colon = strrchr(text, ':');
	unsigned char address[16];
	struct span host;
	uint64_t port;

	if (colon == NULL || !parse_number(span_of(colon + 1), 65535, &port))
		return false;
	host = (struct span){ text, (size_t)(colon - text) };
	if (host.len > 2 && host.data[0] == '[' &&
	    host.data[host.len - 1] == ']')
		host = (struct span){ host.data + 1, host.len - 2 };
	if (!parse_address(host, address))
		return false;
	*a = (union socket_address){ .any = { .sa_family = AF_UNSPEC } };
	if (is_mapped(address)) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons((uint16_t)port);
		memcpy(&a->v4.sin_addr, address + 12, 4);
		*len = sizeof(a->v4);
	} else {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_port = htons((uint16_t)port);
		memcpy(&a->v6.sin6_addr, address, 16);
		*len = sizeof(a->v6);
	}
	return true;
}

static int
listen_tcp(const char *text, struct buf *error)
{
	union socket_address a;
	socklen_t len;
	int fd, on = 1;

	if (!parse_tcp(text, &a, &len)) {
		errno = EINVAL;
		return fail(error, text, "not an IP address and a port");
	}
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a.any.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on,
		    sizeof(on));
	fd = start(fd, &a, len);
	return fd == -1 ? fail(error, text, strerror(errno)) : fd;
}

/* A socket that somebody else bound (systemd). */
static int
adopt(int fd, const char *address, struct buf *error)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == -1 ||
	    listening == 0) {
		errno = EINVAL;
		return fail(error, address, "not a listening socket");
	}
	if (fd_nonblocking(fd) == -1 || fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		return fail(error, address, strerror(errno));
	return fd;
}

/* Where fd is bound, as status and log show it. */
static char *
bound_name(int fd, const char *address)
{
	union socket_address a = { .any = { .sa_family = AF_UNSPEC } };
	socklen_t len = sizeof(a);
	unsigned char ip[16];
	char text[INET6_ADDRSTRLEN], out[INET6_ADDRSTRLEN + 16];

	if (getsockname(fd, &a.any, &len) == -1 ||
	    (a.any.sa_family != AF_INET && a.any.sa_family != AF_INET6))
		return mem_text(address);
	address_of(&a, ip);
	address_text(ip, text);
	(void)snprintf(out, sizeof(out), is_mapped(ip) ? "%s:%u" : "[%s]:%u",
	    text,
	    ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port));
	return mem_text(out);
}

struct listener *
listener_new(struct loop *loop, const struct config_listen *c, int fd,
    struct buf *error)
{
	const char *path =
	    strncmp(c->address, "unix:", 5) == 0 ? c->address + 5 : NULL;
	bool adopted = fd != -1;
	struct listener *l;

	if (adopted)
		fd = adopt(fd, c->address, error);
	else if (path != NULL)
		fd = listen_unix(path, c->mode, error);
	else
		fd = listen_tcp(c->address, error);
	if (fd == -1)
		return NULL;
	l = mem_alloc(sizeof(*l));
	l->loop = loop;
	l->fd = fd;
	l->address = mem_text(c->address);
	l->bound = bound_name(fd, c->address);
	l->path = adopted ? NULL : mem_text(path);
	l->adopted = adopted;
	listener_configure(l, c);
	return l;
}

void
listener_configure(struct listener *l, const struct config_listen *c)
{
	size_t i;

	l->reject_bare_newline = c->reject_bare_newline;
	free(l->allow);
	l->allow = mem_array(NULL, c->allow.count + 1, sizeof(*l->allow));
	for (i = 0; i < c->allow.count; i++)
		if (!parse_block(span_of(c->allow.item[i]), &l->allow[i]))
			/* Checked by config.c.  Nobody is in this one. */
			l->allow[i] = (struct block){ .bits = 128 };
	l->allow_count = c->allow.count;
	if (l->path != NULL && chmod(l->path, c->mode) == -1)
		log_warning(NULL, "%s: chmod: %s", l->path, strerror(errno));
}

void
listener_free(struct listener *l)
{
	if (l == NULL)
		return;
	loop_timer_clear(l->loop, &l->pause);
	loop_unwatch(l->loop, l->fd);
	fd_close(&l->fd);
	if (l->path != NULL)
		(void)unlink(l->path);
	free(l->path);
	free(l->address);
	free(l->bound);
	free(l->allow);
	free(l);
}

bool
listener_is_for(const struct listener *l, const struct config_listen *c)
{
	return strcmp(l->address, c->address) == 0;
}

bool
listener_adopted(const struct listener *l)
{
	return l->adopted;
}

const char *
listener_bound(const struct listener *l)
{
	return l->bound;
}

/* ---- accepting ---- */

/* Errors of one connection that accept(2) hands on; the next may be fine. */
static bool
concerns_one(int error)
{
	static const int errors[] = { EINTR, ECONNABORTED, EPROTO, ENETDOWN,
		ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP,
		ENETUNREACH, EPERM };
	size_t i;

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i] == error)
			return true;
	return false;
}

/* No descriptors or memory left: look again in a second, don't spin. */
static void
pause_accepting(struct listener *l)
{
	if (!l->full)
		log_warning("smtpd", "accept on %s: %s; trying every second",
		    l->bound, strerror(errno));
	l->full = true;
	loop_unwatch(l->loop, l->fd);
	loop_timer_set(l->loop, &l->pause, PAUSE_MS);
}

static void
on_connection(void *arg, unsigned events)
{
	struct listener *l = arg;
	struct peer peer;
	unsigned i;
	int fd;

	(void)events;
	for (i = 0; i < ACCEPTS_A_TURN; i++) {
		fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd == -1 && concerns_one(errno))
			continue;
		if (fd == -1) {
			if (errno != EAGAIN)
				pause_accepting(l);
			return;
		}
		l->full = false;
		if (find_peer(l, fd, &peer) == 0)
			l->accepted(l->arg, fd, &peer);
		else
			fd_close(&fd);
	}
}

static void
watch_listener(void *arg)
{
	struct listener *l = arg;

	if (loop_watch(l->loop, l->fd, LOOP_READ, on_connection, l) == -1)
		log_error("smtpd", "%s: %s", l->bound, strerror(errno));
}

void
listener_accept(struct listener *l, listener_accepted *accepted, void *arg)
{
	l->accepted = accepted;
	l->arg = arg;
	l->pause.handler = watch_listener;
	l->pause.arg = l;
	watch_listener(l);
}
