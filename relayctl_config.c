/*
 * relayctl config and set: the configuration printed, and one key of its main
 * file changed.
 */
#include "relayctl.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- verb "config" ---- */

int
relayctl_config(const struct ctl *ctl, int argc, char **argv)
{
	struct buf out = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	bool changed = false;
	int option, status;

	while ((option = getopt(argc, argv, "n")) != -1) {
		if (option != 'n')
			return relayctl_usage();
		changed = true;
	}
	if (argc - optind > 1)
		return relayctl_usage();
	if (ctl->config == NULL) {
		relayctl_print(stderr, buf_span(&ctl->errors));
		return STATUS_WRONG;
	}
	status = config_show(ctl->config, argv[optind], changed, &out, &error);
	relayctl_print(stdout, buf_span(&out));
	if (status == -1)
		(void)fputs("relayctl: ", stderr);
	relayctl_print(stderr, buf_span(&error));
	buf_free(&out);
	buf_free(&error);
	return status == -1 ? STATUS_WRONG : STATUS_GOOD;
}

/* ---- verb "set" ---- */

/* A file that is to take the place of another. */
struct draft {
	char *path; /* of the file itself, links followed */
	char *temporary;
	int fd;
	struct stat st; /* of the old one, as it was read */
};

static int
complain(const char *what, const char *path)
{
	(void)fprintf(stderr, "relayctl: %s: %s: %s\n", path, what,
	    strerror(errno));
	return -1;
}

/* Beside it, for relative includes, and of the same owner and mode before it
 * has any content. */
static int
draft_create(struct draft *d)
{
	struct buf name = { NULL, 0, 0 };

	buf_printf(&name, "%s.XXXXXX", d->path);
	d->temporary = mem_text(buf_text(&name));
	buf_free(&name);
	d->fd = mkostemp(d->temporary, O_CLOEXEC);
	if (d->fd == -1) {
		free(d->temporary);
		d->temporary = NULL;
		return complain("no file can be made beside it", d->path);
	}
	if ((d->st.st_uid != geteuid() || d->st.st_gid != getegid()) &&
	    fchown(d->fd, d->st.st_uid, d->st.st_gid) == -1)
		return complain("its owner can't be kept", d->path);
	if (fchmod(d->fd, d->st.st_mode & 07777) == -1)
		return complain("its mode can't be kept", d->path);
	return 0;
}

/* What is said of the draft is said of the file. */
static void
print_about(const struct draft *d, const struct buf *text)
{
	struct span rest = buf_span(text);
	size_t len = strlen(d->temporary);

	while (rest.len > 0) {
		const char *at = memmem(rest.data, rest.len, d->temporary, len);
		size_t before =
		    at == NULL ? rest.len : (size_t)(at - rest.data);

		relayctl_print(stderr, span_first(rest, before));
		if (at != NULL)
			(void)fputs(d->path, stderr);
		rest = span_from(rest, at == NULL ? before : before + len);
	}
}

/* Is it a valid configuration? */
static int
draft_check(const struct draft *d)
{
	struct buf errors = { NULL, 0, 0 }, warnings = { NULL, 0, 0 };
	struct config *config = config_load(d->temporary, &errors, &warnings);
	int ret = config == NULL ? -1 : 0;

	print_about(d, &errors);
	print_about(d, &warnings);
	if (ret == -1)
		(void)fprintf(stderr, "relayctl: %s is not changed\n", d->path);
	config_release(config);
	buf_free(&errors);
	buf_free(&warnings);
	return ret;
}

/* Make it durable, and the file; unless somebody else was faster. */
static int
draft_commit(struct draft *d)
{
	char *directory = span_text((struct span){ d->path,
	    (size_t)(strrchr(d->path, '/') - d->path) + 1 });
	struct stat now;
	int ret = -1, fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	free(directory);
	if (fsync(d->fd) == -1) {
		(void)complain("can't be written", d->path);
	} else if (stat(d->path, &now) == -1 || now.st_ino != d->st.st_ino ||
	    now.st_size != d->st.st_size ||
	    now.st_mtim.tv_sec != d->st.st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != d->st.st_mtim.tv_nsec) {
		(void)relayctl_refuse(d->path,
		    "was changed by somebody else meanwhile; try again");
	} else if (rename(d->temporary, d->path) == -1) {
		(void)complain("can't be replaced", d->path);
	} else {
		free(d->temporary);
		d->temporary = NULL;
		ret = fd == -1 ? 0 : fsync(fd);
	}
	fd_close(&fd);
	return ret;
}

static void
draft_free(struct draft *d)
{
	fd_close(&d->fd);
	if (d->temporary != NULL)
		(void)unlink(d->temporary);
	free(d->temporary);
	free(d->path);
}

static int
replace(struct draft *d, struct span text)
{
	if (draft_create(d) == -1)
		return -1;
	if (write_all(d->fd, text) == -1)
		return complain("can't be written", d->path);
	return draft_check(d) == -1 ? -1 : draft_commit(d);
}

static int
set(const char *file, const char *key, const struct strings *values)
{
	struct draft d = { .path = realpath(file, NULL), .fd = -1 };
	struct buf text = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	int ret = -1;

	if (d.path == NULL || stat(d.path, &d.st) == -1) {
		(void)relayctl_refuse(file, strerror(errno));
	} else if (config_edit(d.path, key, values, &text, &error) == -1) {
		(void)fputs("relayctl: ", stderr);
		relayctl_print(stderr, buf_span(&error));
	} else {
		ret = replace(&d, buf_span(&text));
	}
	if (ret == 0)
		(void)printf("%s: changed; relayctl reload has it take "
			     "effect\n",
		    d.path);
	draft_free(&d);
	buf_wipe(&text); /* it may hold passwords */
	buf_free(&error);
	return ret == -1 ? STATUS_WRONG : STATUS_GOOD;
}

int
relayctl_set(const struct ctl *ctl, int argc, char **argv)
{
	struct strings values = { NULL, 0 };
	int i, status;

	if (argc < 3)
		return relayctl_usage();
	for (i = 2; i < argc; i++)
		strings_add(&values, span_of(argv[i]));
	status = set(ctl->file, argv[1], &values);
	strings_free(&values);
	return status;
}
