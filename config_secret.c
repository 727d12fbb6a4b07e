/*
 * Passwords: who else can read them, and reading them.
 */
#include "config_parts.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
config_secret_chmod(const char *path, const struct stat *st, struct buf *error)
{
	/* root:relayd is how the daemon reads what only root writes. */
	buf_printf(error, "can be read by others; mend it: chmod %s %s",
	    st->st_uid == 0 && st->st_gid != 0 ? "640" : "600", path);
}

/* May anybody put a file of that name there? */
static bool
directory_open_to_all(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *directory = slash == NULL || slash == path
	    ? mem_text(slash == NULL ? "." : "/")
	    : span_text((struct span){ path, (size_t)(slash - path) });
	struct stat st;
	struct statvfs fs;
	bool open;

	/* Kubernetes mounts secrets 1777, but read-only. */
	open = stat(directory, &st) == 0 && (st.st_mode & S_IWOTH) != 0 &&
	    statvfs(directory, &fs) == 0 && (fs.f_flag & ST_RDONLY) == 0;
	free(directory);
	return open;
}

int
config_secret_check(const char *path, const struct stat *st, struct buf *error)
{
	char *final = realpath(path, NULL);
	bool open = directory_open_to_all(path) ||
	    (final != NULL && directory_open_to_all(final));

	free(final);
	buf_printf(error, "%s: ", path);
	if (!S_ISREG(st->st_mode))
		buf_add_text(error, "is not a regular file");
	else if ((st->st_mode & S_IROTH) != 0)
		config_secret_chmod(path, st, error);
	else if ((st->st_mode & S_IWOTH) != 0)
		buf_printf(error,
		    "can be written by others; mend it: "
		    "chmod 600 %s",
		    path);
	else if (open)
		buf_add_text(error,
		    "is in a directory that everybody can "
		    "write to; move it to /etc/relayd");
	else {
		buf_clear(error);
		return 0;
	}
	return -1;
}

int
config_secret_check_user(const char *path, const struct stat *st,
    struct buf *error)
{
	uid_t uid = geteuid();

	if (config_secret_check(path, st, error) == -1)
		return -1;
	if (st->st_uid != 0 && st->st_uid != uid) {
		buf_printf(error,
		    "%s: belongs to user %u, neither to root nor "
		    "to user %u; mend it: chown",
		    path, (unsigned)st->st_uid, (unsigned)uid);
		return -1;
	}
	if (uid != 0 && (st->st_mode & S_IRGRP) != 0 && st->st_gid != 0 &&
	    st->st_gid != getegid() && !group_member(st->st_gid)) {
		buf_printf(error,
		    "%s: can be read by group %u; mend it: "
		    "chmod 600 %s",
		    path, (unsigned)st->st_gid, path);
		return -1;
	}
	return 0;
}

static int
read_secret(const char *path, struct buf *password, struct buf *error)
{
	struct stat st;

	if (file_read(path, LIMIT_SECRET, password, &st) == -1) {
		buf_printf(error, "%s: %s", path,
		    errno == EFBIG        ? "is larger than 16 KiB"
			: errno == EINVAL ? "is not a regular file"
					  : strerror(errno));
		return -1;
	}
	if (config_secret_check_user(path, &st, error) == -1)
		return -1;
	if (password->len > 0 && password->data[password->len - 1] == '\n')
		password->len--;
	if (password->len == 0) {
		buf_printf(error, "%s: holds no password", path);
		return -1;
	}
	return 0;
}

/* systemd's LoadCredential=. */
static int
read_credential(const char *name, struct buf *password, struct buf *error)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	struct buf path = { 0 };
	int ret;

	if (directory == NULL) {
		buf_printf(error,
		    "credential %s: CREDENTIALS_DIRECTORY is not "
		    "set; the unit needs LoadCredential=%s:FILE",
		    name, name);
		return -1;
	}
	buf_printf(&path, "%s/%s", directory, name);
	ret = read_secret(buf_text(&path), password, error);
	buf_free(&path);
	return ret;
}

bool
config_has_login(const struct config_relay *r)
{
	return r->auth == AUTH_EXTERNAL ||
	    (r->user[0] != '\0' && r->auth != AUTH_NONE);
}

bool
config_has_password(const struct config_relay *r)
{
	return config_has_login(r) && r->auth != AUTH_EXTERNAL;
}

int
config_password(const struct config_relay *r, struct buf *password,
    struct buf *error)
{
	int ret = 0;

	buf_clear(password);
	if (*r->password != '\0')
		buf_add_text(password, r->password);
	else if (*r->password_file != '\0')
		ret = read_secret(r->password_file, password, error);
	else if (*r->password_credential != '\0')
		ret = read_credential(r->password_credential, password, error);
	else {
		buf_printf(error, "relay %s has no password", r->name);
		ret = -1;
	}
	if (ret == -1)
		buf_wipe(password);
	return ret;
}
