/*
 * The files and the ports that the daemon keeps (landlock), and the check of
 * a later configuration against them.  System calls are filter.c's.
 *
 * Directories are kept rather than files: who changes a file most often puts
 * another one in its place.
 */
#include "confine.h"

#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of later versions of the interface than Debian's header knows. */
enum {
	ABI_REFER = 2, /* renames between directories; without, no spool */
	ABI_NETWORK = 4,
	ABI_DEVICES = 5,
	ABI_SCOPES = 6,
	RULE_NETWORK = 2,
	PORT_BIND = 1 << 0,
	PORT_CONNECT = 1 << 1,
	SCOPE_SIGNAL = 1 << 1,
	PORT_DNS = 53,
};

static const uint64_t file_truncate = UINT64_C(1) << 14,
		      file_ioctl_device = UINT64_C(1) << 15;

struct ruleset_attributes {
	uint64_t files, network, scopes;
};

struct port_rule {
	uint64_t access, port;
};

enum access { ACCESS_READ, ACCESS_SOCKET, ACCESS_WRITE };

/* One place or one port. */
struct need {
	char *path; /* a directory, resolved; NULL: a port */
	enum access access;
	unsigned port, use; /* PORT_BIND, PORT_CONNECT */
};

struct confinement {
	struct need *need;
	size_t count;
	bool files, network; /* does the kernel see to it? */
	int self; /* /proc/PID: its rule is forgotten where nothing holds it */
};

/* ---- what a configuration needs ---- */

static struct need *
need_new(struct confinement *f)
{
	f->need = mem_array(f->need, f->count + 1, sizeof(*f->need));
	f->need[f->count] = (struct need){ .path = NULL };
	return &f->need[f->count++];
}

static void
need_port(struct confinement *f, unsigned port, unsigned use)
{
	struct need *n = need_new(f);

	n->port = port;
	n->use = use;
}

/* What is not there can't be kept. */
static void
need_directory(struct confinement *f, const char *path, enum access access)
{
	char *resolved = realpath(path, NULL);
	struct need *n;

	if (resolved == NULL)
		return;
	n = need_new(f);
	n->path = resolved;
	n->access = access;
}

static void
need_parent(struct confinement *f, const char *path, enum access access)
{
	char *copy = mem_text(path);
	const char *directory = dirname(copy);

	/* Not all of the machine for a file at its root. */
	need_directory(f, strcmp(directory, "/") == 0 ? path : directory,
	    access);
	free(copy);
}

/* A file that is read; where it is a link, also where that leads. */
static void
need_file(struct confinement *f, const char *path)
{
	char *resolved;

	if (path == NULL || path[0] != '/')
		return;
	need_parent(f, path, ACCESS_READ);
	resolved = realpath(path, NULL);
	if (resolved != NULL)
		need_parent(f, resolved, ACCESS_READ);
	free(resolved);
}

/* The port at the end of "HOST:PORT". */
static void
need_port_of(struct confinement *f, const char *address, unsigned use)
{
	const char *colon = strrchr(address, ':');
	uint64_t port;

	if (colon != NULL && parse_number(span_of(colon + 1), 65535, &port))
		need_port(f, (unsigned)port, use);
}

static void
need_address(struct confinement *f, const char *address)
{
	if (strncmp(address, "unix:", 5) == 0)
		need_parent(f, address + 5, ACCESS_SOCKET);
	else
		need_port_of(f, address, PORT_BIND);
}

static void
need_relay(struct confinement *f, const struct config_relay *r)
{
	if (r->maildir[0] != '\0') {
		need_directory(f, r->maildir, ACCESS_WRITE);
		return;
	}
	if (r->proxy[0] != '\0')
		need_port_of(f, r->proxy, PORT_CONNECT);
	else
		need_port(f, r->port, PORT_CONNECT);
	need_file(f, r->tls_ca_file);
	need_file(f, r->tls_cert);
	need_file(f, r->tls_key);
	need_file(f, r->password_file);
}

/* What the C library, libcurl and OpenSSL read by themselves: resolver, name
 * services, time zone, authorities. */
static void
need_system(struct confinement *f)
{
	static const char *const directory[] = { "/etc", "/usr", "/lib",
		"/lib64", "/run/systemd/resolve", "/run/resolvconf",
		"/run/NetworkManager", "/run/connman", "/proc/self",
		"/dev/null", "/dev/urandom" };
	size_t i;

	for (i = 0; i < sizeof(directory) / sizeof(directory[0]); i++)
		need_directory(f, directory[i],
		    strncmp(directory[i], "/dev/", 5) == 0 ? ACCESS_WRITE
							   : ACCESS_READ);
	need_port(f, PORT_DNS, PORT_CONNECT);
	need_port(f, 0, PORT_BIND); /* a relay's source */
}

static void
need_all(struct confinement *f, const struct config *c)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	size_t i;

	need_system(f);
	need_file(f, c->path);
	need_file(f, c->aliases);
	if (credentials != NULL)
		need_directory(f, credentials, ACCESS_READ);
	need_directory(f, c->spool, ACCESS_WRITE);
	need_parent(f, c->control, ACCESS_SOCKET);
	for (i = 0; i < c->listen_count; i++)
		need_address(f, c->listen[i].address);
	if (c->metrics[0] != '\0')
		need_address(f, c->metrics);
	for (i = 0; i < c->relay_count; i++)
		need_relay(f, &c->relay[i]);
}

/* ---- the kernel's rules ---- */

static uint64_t
rights_of(enum access access)
{
	const uint64_t read =
	    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	const uint64_t sockets = LANDLOCK_ACCESS_FS_MAKE_SOCK |
	    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REFER;

	switch (access) {
	case ACCESS_READ:
		return read;
	case ACCESS_SOCKET:
		return read | sockets;
	case ACCESS_WRITE:
		break;
	}
	/* Of each kind: what was planted is moved out of the way. */
	return read | LANDLOCK_ACCESS_FS_WRITE_FILE | file_truncate |
	    LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
	    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_SOCK |
	    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_CHAR |
	    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE |
	    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER;
}

/* What has a meaning for one file. */
static const uint64_t of_a_file =
    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;

static int
add_path(int ruleset, uint64_t handled, const struct need *n)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = rights_of(n->access) & handled
	};
	struct stat st;
	int ret, fd = open(n->path, O_PATH | O_CLOEXEC);

	if (fd == -1)
		return errno == ENOENT || errno == EACCES ? 0 : -1;
	if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= of_a_file;
	rule.parent_fd = fd;
	ret = (int)syscall(SYS_landlock_add_rule, ruleset,
	    LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	fd_close(&fd);
	return ret;
}

static int
add_port(int ruleset, const struct need *n)
{
	struct port_rule rule = { n->use, n->port };

	return (
	    int)syscall(SYS_landlock_add_rule, ruleset, RULE_NETWORK, &rule, 0);
}

static int
add_rules(int ruleset, const struct confinement *f, uint64_t handled)
{
	size_t i;
	int ret = 0;

	for (i = 0; i < f->count && ret == 0; i++) {
		if (f->need[i].path != NULL)
			ret = add_path(ruleset, handled, &f->need[i]);
		else if (f->network)
			ret = add_port(ruleset, &f->need[i]);
	}
	return ret;
}

/* 0, or -1 with errno. */
static int
keep_places(struct confinement *f)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset_attributes handled = {
		.files = file_truncate - 1, /* all that came before it */
	};
	size_t size = sizeof(handled.files);
	int ruleset, ret;

	if (abi < ABI_REFER) {
		errno = abi == -1 ? errno : EOPNOTSUPP;
		return -1;
	}
	if (abi > ABI_REFER)
		handled.files |= file_truncate;
	if (abi >= ABI_DEVICES)
		handled.files |= file_ioctl_device;
	if (abi >= ABI_NETWORK) {
		handled.network = PORT_BIND | PORT_CONNECT;
		size += sizeof(handled.network);
		f->network = true;
	}
	if (abi >= ABI_SCOPES) {
		handled.scopes = SCOPE_SIGNAL;
		size += sizeof(handled.scopes);
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled, size, 0);
	if (ruleset == -1)
		return -1;
	ret = add_rules(ruleset, f, handled.files);
	if (ret == 0)
		ret = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
	fd_close(&ruleset);
	f->files = ret == 0;
	return ret;
}

struct confinement *
confine(const struct config *c)
{
	struct confinement *f = mem_alloc(sizeof(*f));

	f->self = open("/proc/self", O_PATH | O_CLOEXEC);
	need_all(f, c);
	if (keep_places(f) == -1) {
		f->network = false;
		log_warning(NULL,
		    "files and ports are not confined: landlock: %s",
		    strerror(errno));
	} else if (!f->network) {
		log_warning(NULL,
		    "ports are not confined: this kernel's landlock knows only "
		    "files");
	}
	if (filter_system_calls() == -1)
		log_warning(NULL, "system calls are not confined: seccomp: %s",
		    strerror(errno));
	return f;
}

void
confinement_free(struct confinement *f)
{
	size_t i;

	if (f == NULL)
		return;
	for (i = 0; i < f->count; i++)
		free(f->need[i].path);
	free(f->need);
	fd_close(&f->self);
	free(f);
}

/* ---- a later configuration ---- */

/* Does what was kept have it? */
static bool
has(const struct confinement *f, const struct need *wanted)
{
	size_t i, len;

	for (i = 0; i < f->count; i++) {
		const struct need *n = &f->need[i];

		if (n->path == NULL || wanted->path == NULL) {
			if (n->path == wanted->path &&
			    n->port == wanted->port && n->use == wanted->use)
				return true;
			continue;
		}
		len = strlen(n->path);
		if (n->access >= wanted->access &&
		    strncmp(n->path, wanted->path, len) == 0 &&
		    (wanted->path[len] == '/' || wanted->path[len] == '\0'))
			return true;
	}
	return false;
}

bool
confinement_lacks(const struct confinement *f, const struct config *c,
    struct buf *error)
{
	struct confinement *later;
	size_t i, before = error->len;

	if (f == NULL || !f->files)
		return false;
	later = mem_alloc(sizeof(*later));
	later->self = -1;
	need_all(later, c);
	for (i = 0; i < later->count; i++) {
		const struct need *n = &later->need[i];
		const struct confinement told = { .need = later->need,
			.count = i };

		if ((n->path == NULL && !f->network) || has(f, n) ||
		    has(&told, n))
			continue;
		if (n->path != NULL)
			buf_printf(error,
			    "%s is outside of what relayd has kept: restart "
			    "needed\n",
			    n->path);
		else
			buf_printf(error,
			    "port %u is outside of what relayd has kept: "
			    "restart needed\n",
			    n->port);
	}
	confinement_free(later);
	return error->len > before;
}
