/*
 * Who calls sendmail: the login and the full name of its user.
 */
#include "sendmail.h"

#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

enum { ENTRY_MAX = 4096 };

/* What getent(1) says of the caller; "": nothing. */
static void
ask_getent(struct buf *line)
{
	char uid[16];
	ssize_t n = 1;
	pid_t child;
	int end[2];

	if (pipe2(end, O_CLOEXEC) == -1)
		return;
	(void)snprintf(uid, sizeof(uid), "%u", (unsigned)getuid());
	child = fork();
	if (child == 0) {
		if (dup2(end[1], STDOUT_FILENO) != -1)
			(void)execl("/usr/bin/getent", "getent", "passwd", uid,
			    (char *)NULL);
		_exit(1);
	}
	fd_close(&end[1]);
	buf_reserve(line, ENTRY_MAX);
	while (n > 0 && line->len < ENTRY_MAX) {
		n = read(end[0], line->data + line->len, ENTRY_MAX - line->len);
		line->len += n > 0 ? (size_t)n : 0;
	}
	fd_close(&end[0]);
	while (child > 0 && waitpid(child, NULL, 0) == -1 && errno == EINTR)
		continue;
}

/* A line of passwd(5): login, password, uid, gid, GECOS, and more. */
static void
take_line(struct span line, struct caller *c)
{
	struct span field[5];
	size_t i;

	for (i = 0; i < sizeof(field) / sizeof(field[0]); i++) {
		if (!span_cut(line, ':', &field[i], &line))
			return;
	}
	buf_add(&c->login, field[0]);
	buf_add(&c->gecos, field[4]);
}

/*
 * The C library that sendmail is linked with may know no more than
 * /etc/passwd, thus no users of LDAP or systemd; getent is the system's.
 */
static void
find(struct caller *c)
{
	const struct passwd *user;
	struct buf line = { 0 };

	if (c->sought)
		return;
	c->sought = true;
	user = getpwuid(getuid());
	if (user != NULL) {
		buf_add_text(&c->login, user->pw_name);
		buf_add(&c->gecos, span_of(user->pw_gecos));
	} else {
		ask_getent(&line);
		take_line(buf_span(&line), c);
		buf_free(&line);
	}
}

void
caller_add_login(struct caller *c, struct buf *out)
{
	find(c);
	if (smtp_address_valid(buf_span(&c->login), ADDRESS_BARE))
		buf_add(out, buf_span(&c->login));
	else
		buf_printf(out, "uid%u", (unsigned)getuid());
}

/* Append the login with a capital. */
static void
add_capitalized(struct buf *out, const struct buf *login)
{
	size_t at = out->len;

	buf_add(out, buf_span(login));
	if (at < out->len && out->data[at] >= 'a' && out->data[at] <= 'z')
		out->data[at] = (char)(out->data[at] - 'a' + 'A');
}

void
caller_add_full_name(struct caller *c, struct buf *out)
{
	struct span name, rest;
	size_t i;

	find(c);
	(void)span_cut(buf_span(&c->gecos), ',', &name, &rest);
	for (i = 0; i < name.len; i++) {
		if (name.data[i] == '&')
			add_capitalized(out, &c->login);
		else
			buf_add_char(out, name.data[i]);
	}
}

void
caller_free(struct caller *c)
{
	buf_free(&c->login);
	buf_free(&c->gecos);
}
