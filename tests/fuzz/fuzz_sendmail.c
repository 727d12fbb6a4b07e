/*
 * The sendmail command (sendmail*.c): its arguments, its standard input and
 * what the daemon answers.  The connection is in memory.
 *
 * input: arguments, the name first, one a line, up to an empty line; the
 * daemon's replies, up to another; then standard input.  A reply "!h" hangs
 * up, behind "!q" there is none; behind the last one all goes well.
 *
 * wrap: read write poll isatty getpwuid execl shutdown fd_close talk_open
 * wrap: talk_copy
 */
#include "../../sendmail.h"

#include "fuzz.h"

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { CONNECTION = 1 << 20, ARGUMENTS = 30 };

static struct world {
	bool running;
	struct span script; /* the daemon's replies */
	struct span input;  /* standard input */
	struct buf in;      /* what the daemon said */
	struct buf out;     /* what it was told */
	size_t read;        /* of out, by it */
	uint64_t chunk;     /* octets of content to come */
	bool in_chunk;
	bool hung_up;
	bool quiet;
	bool copies;  /* -bs: what is said is standard input */
	bool refused; /* anything but content, or was never answered */
	bool taken;   /* the content */
	unsigned commands, chunks, recipients;
	struct buf content;
	struct buf told; /* to the caller, on stdout and stderr */
} w;

/* main() of sendmail.c, renamed. */
int sendmail_main(int argc, char **argv);

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __real_poll(struct pollfd *p, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t count, int timeout);
int __real_isatty(int fd);
int __wrap_isatty(int fd);
struct passwd *__wrap_getpwuid(uid_t uid);
int __wrap_execl(const char *path, const char *argument, ...);
int __wrap_shutdown(int fd, int how);
void __real_fd_close(int *fd);
void __wrap_fd_close(int *fd);
int __wrap_talk_open(struct talk *t, struct buf *error);

/* ---- the daemon ---- */

/* Say the next reply, or that all is well. */
static int
answer(const char *well)
{
	struct smtp_reply reply = { .code = 0 };
	enum smtp_reply_state state = SMTP_REPLY_MORE;
	struct span line;

	if (w.quiet)
		return 0;
	if (w.script.len == 0) {
		buf_add_text(&w.in, well);
		return 250;
	}
	while (state == SMTP_REPLY_MORE && w.script.len > 0) {
		line = take_line(&w.script);
		if (span_equal(line, SPAN("!h")))
			w.hung_up = true;
		w.quiet = line.len > 0 && line.data[0] == '!';
		if (w.quiet)
			return 0;
		buf_add(&w.in, line);
		buf_add_text(&w.in, "\r\n");
		state = smtp_reply_line(&reply, line);
	}
	w.hung_up |= state == SMTP_REPLY_MORE; /* in the middle of it */
	return state == SMTP_REPLY_DONE ? reply.code : 0;
}

/* Nothing in a command could end it early; the addresses are good ones. */
static void
check_command(enum smtp_verb verb, struct span line, struct span arg)
{
	struct span address, parameters;

	assert(is_clean(line));
	if (verb == SMTP_MAIL)
		assert(smtp_path(arg, SPAN("FROM:"), true, &address,
			   &parameters) == NULL);
	if (verb == SMTP_RCPT)
		assert(smtp_path(arg, SPAN("TO:"), true, &address,
			   &parameters) == NULL);
}

static void
take_command(struct span line)
{
	struct span arg;
	enum smtp_verb verb = smtp_command(line, &arg);
	bool last;
	int code;

	check_command(verb, line, arg);
	w.commands++;
	if (verb == SMTP_BDAT) {
		assert(smtp_bdat(arg, &w.chunk, &last) && last);
		assert(w.recipients > 0 && !w.refused);
		w.in_chunk = true;
		w.chunks++;
		return;
	}
	assert(verb == SMTP_EHLO || verb == SMTP_MAIL || verb == SMTP_RCPT ||
	    verb == SMTP_RSET || verb == SMTP_QUIT);
	w.recipients += verb == SMTP_RCPT;
	code = answer(verb == SMTP_EHLO
		? "250-x\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
		  "250-DSN\r\n250 CHUNKING\r\n"
		: "250 2.0.0 ok\r\n");
	if (verb != SMTP_RSET && verb != SMTP_QUIT && code / 100 != 2)
		w.refused = true;
	w.hung_up |= verb == SMTP_QUIT;
}

static void
take_chunk(struct span text)
{
	struct span piece = span_first(text, w.chunk);

	buf_add(&w.content, piece);
	w.read += piece.len;
	w.chunk -= piece.len;
	if (w.chunk > 0)
		return;
	w.in_chunk = false;
	w.taken = answer("250 2.0.0 Ok: queued\r\n") / 100 == 2;
}

static void
serve(void)
{
	struct span text, line, rest;

	while (!w.hung_up) {
		text = span_from(buf_span(&w.out), w.read);
		if (w.in_chunk) {
			take_chunk(text);
			if (w.in_chunk)
				return;
			continue;
		}
		if (!span_cut(text, '\n', &line, &rest))
			return;
		assert(line.len > 0 && line.data[line.len - 1] == '\r');
		w.read += line.len + 1;
		take_command(span_first(line, line.len - 1));
	}
}

/* ---- descriptors ---- */

ssize_t
__wrap_read(int fd, void *data, size_t size)
{
	struct span in = buf_span(&w.in);
	ssize_t n;

	if (w.running && fd == STDIN_FILENO)
		return take_from(&w.input, data, size);
	if (fd != CONNECTION)
		return __real_read(fd, data, size);
	if (in.len == 0 && !w.hung_up) {
		errno = EAGAIN;
		return -1;
	}
	n = take_from(&in, data, size);
	buf_drop(&w.in, (size_t)n);
	return n;
}

ssize_t
__wrap_write(int fd, const void *data, size_t size)
{
	if (w.running && (fd == STDOUT_FILENO || fd == STDERR_FILENO)) {
		buf_append(&w.told, data, size);
		return (ssize_t)size;
	}
	if (fd != CONNECTION)
		return __real_write(fd, data, size);
	if (w.hung_up) {
		errno = EPIPE;
		return -1;
	}
	if (size > 1000) /* it is slow */
		size = 1000;
	buf_append(&w.out, data, size);
	if (!w.copies)
		serve();
	return (ssize_t)size;
}

int
__wrap_poll(struct pollfd *p, nfds_t count, int timeout)
{
	int ready = 0;
	nfds_t i;

	if (!w.running)
		return __real_poll(p, count, timeout);
	for (i = 0; i < count; i++) {
		p[i].revents = p[i].events;
		if (p[i].fd == CONNECTION && w.in.len == 0 && !w.hung_up)
			p[i].revents &= POLLOUT;
		if (p[i].fd == -1)
			p[i].revents = 0;
		ready += p[i].revents != 0;
	}
	return ready;
}

int
__wrap_isatty(int fd)
{
	return w.running ? 0 : __real_isatty(fd);
}

int
__wrap_shutdown(int fd, int how)
{
	(void)how;
	assert(fd == CONNECTION);
	w.hung_up = true;
	return 0;
}

void
__wrap_fd_close(int *fd)
{
	if (*fd != CONNECTION)
		__real_fd_close(fd);
	*fd = -1;
}

/* ---- the machine ---- */

struct passwd *
__wrap_getpwuid(uid_t uid)
{
	static char name[] = "joe", gecos[] = "& J\xc3\xb6rg, room 1";
	static struct passwd user = { .pw_name = name, .pw_gecos = gecos };

	(void)uid;
	return &user;
}

int
__wrap_execl(const char *path, const char *argument, ...)
{
	(void)path;
	(void)argument;
	errno = ENOENT;
	return -1;
}

int __real_talk_copy(struct talk *t);
int __wrap_talk_copy(struct talk *t);

int
__wrap_talk_copy(struct talk *t)
{
	w.copies = true;
	return __real_talk_copy(t);
}

int
__wrap_talk_open(struct talk *t, struct buf *error)
{
	(void)error;
	t->fd = CONNECTION;
	if (answer("220 x\r\n") / 100 != 2)
		w.refused = true;
	return EX_OK;
}

/* ---- a run ---- */

/* All of standard input has been handed over, but for a mark and a "From "
 * line at its top. */
static void
check_content(struct span input)
{
	struct span content = buf_span(&w.content), line, rest;
	size_t same = 0;

	while (same < input.len && same < content.len &&
	    input.data[input.len - same - 1] ==
		content.data[content.len - same - 1])
		same++;
	(void)span_cut(input, '\n', &line, &rest);
	assert(input.len - same <= line.len + 1);
}

static bool
asks_for_no_mail(char **argv)
{
	bool other = strstr(argv[0], "mailq") != NULL ||
	    strstr(argv[0], "newaliases") != NULL;

	for (argv++; *argv != NULL; argv++)
		other |= strpbrk(*argv, "bqI") != NULL;
	return other;
}

static void
check_run(int status, char **argv, struct span input)
{
	struct span rest = buf_span(&w.told), line;

	assert(status == EX_OK || (status >= EX_USAGE && status <= EX_CONFIG));
	while (rest.len > 0) {
		line = take_line(&rest);
		if (line.len > 0 && line.data[line.len - 1] == '\r')
			line.len--; /* SMTP, by -bs */
		assert(w.copies || is_printable(line));
	}
	if (status != EX_OK)
		return;
	if (w.chunks > 0) {
		assert(w.taken && !w.refused);
		check_content(input);
	} else {
		assert(asks_for_no_mail(argv));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size), line, input;
	char *argv[ARGUMENTS + 1] = { NULL };
	int argc = 0, i, status;
	const char *end;

	while (in.len > 0 && (line = take_line(&in)).len > 0)
		if (argc < ARGUMENTS)
			argv[argc++] = span_text(line);
	if (argc == 0)
		return 0;
	end = in.len == 0 ? NULL : memmem(in.data, in.len, "\n\n", 2);
	w = (struct world){ .script = in };
	if (in.len > 0 && in.data[0] == '\n') {
		w.script.len = 0;
		input = span_from(in, 1);
	} else if (end != NULL) {
		w.script = span_first(in, (size_t)(end - in.data) + 1);
		input = span_from(in, w.script.len + 1);
	} else {
		input = span_from(in, in.len);
	}
	w.input = input;
	w.running = true;
	status = sendmail_main(argc, argv);
	w.running = false;
	check_run(status, argv, input);
	for (i = 0; i < argc; i++)
		free(argv[i]);
	buf_free(&w.in);
	buf_free(&w.out);
	buf_free(&w.content);
	buf_free(&w.told);
	return 0;
}
