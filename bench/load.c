/*
 * Hands messages over by SMTP on some sessions at once, command by command as
 * most programs do, and counts the positive replies.  The recipient of the
 * N-th message is uN@example.net.
 *
 * usage: load PORT SESSIONS MESSAGES OCTETS [FIRST_NUMBER]
 * prints: SECONDS LONGEST_MS, the longest wait for the reply to a message
 */
#include "relayd.h"

#include "now.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct load {
	struct loop *loop;
	unsigned messages, begun, accepted, open;
	unsigned first; /* number */
	struct buf content;
	int64_t longest_ns;
};

enum step { GREETING, HELLO, MAIL, RCPT, DATA, CONTENT, QUIT };

struct session {
	struct load *load;
	int fd;
	enum step step; /* what a reply is awaited to */
	unsigned number;
	int64_t sent_ns;
};

static void
fill(struct buf *b, size_t octets)
{
	buf_add_text(b,
	    "From: app@example.com\r\nTo: you@example.net\r\n"
	    "Subject: one of many\r\nDate: Tue, 24 Nov 2026 05:14:29 +0000\r\n"
	    "Message-ID: <1@example.com>\r\n\r\n");
	while (b->len + 80 < octets)
		buf_add_text(b,
		    "The quick brown fox jumps over the lazy dog; "
		    "that makes nearly eighty octets.\r\n");
	buf_add_text(b, ".\r\n");
}

static void
put(const struct session *s, struct span text)
{
	while (text.len > 0) {
		ssize_t n = send(s->fd, text.data, text.len, MSG_NOSIGNAL);

		if (n == -1)
			err(1, "send");
		text = span_from(text, (size_t)n);
	}
}

static void
next_step(struct session *s)
{
	struct load *l = s->load;
	struct buf b = { 0 };

	s->step++;
	if (s->step == QUIT && l->begun < l->messages)
		s->step = MAIL;
	else if (s->step == MAIL && l->begun == l->messages)
		s->step = QUIT;
	if (s->step == HELLO) {
		put(s, SPAN("EHLO bench.example.com\r\n"));
	} else if (s->step == MAIL) {
		s->number = l->first + l->begun++;
		put(s, SPAN("MAIL FROM:<app@example.com>\r\n"));
	} else if (s->step == RCPT) {
		buf_printf(&b, "RCPT TO:<u%u@example.net>\r\n", s->number);
		put(s, buf_span(&b));
		buf_free(&b);
	} else if (s->step == DATA) {
		put(s, SPAN("DATA\r\n"));
	} else if (s->step == CONTENT) {
		s->sent_ns = now_ns();
		put(s, buf_span(&l->content));
	} else {
		put(s, SPAN("QUIT\r\n"));
	}
}

static void
on_reply(void *arg, unsigned events)
{
	struct session *s = arg;
	struct load *l = s->load;
	char reply[4096];
	ssize_t n = recv(s->fd, reply, sizeof(reply), 0);
	int64_t took;

	(void)events;
	if (n <= 0)
		errx(1, "the connection is lost");
	/* The last line of a reply in one piece: they are short. */
	if (reply[n - 1] != '\n')
		errx(1, "half a reply");
	if (reply[0] != '2' && reply[0] != '3')
		errx(1, "%.*s", (int)n, reply);
	if (s->step == CONTENT) {
		l->accepted++;
		took = now_ns() - s->sent_ns;
		if (took > l->longest_ns)
			l->longest_ns = took;
	}
	if (s->step < QUIT) {
		next_step(s);
		return;
	}
	loop_unwatch(l->loop, s->fd);
	fd_close(&s->fd);
	if (--l->open == 0)
		loop_stop(l->loop);
}

static void
open_session(struct load *l, struct session *s, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	s->load = l;
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd == -1 ||
	    connect(s->fd, (struct sockaddr *)&to, sizeof(to)) == -1 ||
	    loop_watch(l->loop, s->fd, LOOP_READ, on_reply, s) == -1)
		err(1, "connect");
	l->open++;
}

int
main(int argc, char **argv)
{
	static struct load l;
	struct session *s;
	unsigned i, sessions;
	int64_t began;

	if (argc < 5)
		errx(64, "usage: load PORT SESSIONS MESSAGES OCTETS [FIRST]");
	sessions = (unsigned)atoi(argv[2]);
	l.messages = (unsigned)atoi(argv[3]);
	l.first = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
	fill(&l.content, (size_t)atoi(argv[4]));
	l.loop = loop_new();
	s = mem_array(NULL, sessions, sizeof(*s));
	memset(s, 0, sessions * sizeof(*s));
	began = now_ns();
	for (i = 0; i < sessions; i++)
		open_session(&l, &s[i], (uint16_t)atoi(argv[1]));
	if (loop_run(l.loop) == -1)
		err(1, "waiting");
	if (l.accepted != l.messages)
		errx(1, "%u of %u were accepted", l.accepted, l.messages);
	printf("%.6f %.3f\n", (double)(now_ns() - began) / 1e9,
	    (double)l.longest_ns / 1e6);
	free(s);
	return 0;
}
