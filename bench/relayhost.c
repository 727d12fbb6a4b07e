/*
 * The relayhost of the benchmark: fast, and it counts.
 *
 * It speaks ESMTP with STARTTLS, AUTH, and PIPELINING and CHUNKING as told,
 * believes everybody, and drops what it takes.  The first number in a
 * recipient's address is the message's: which of them have arrived, and when,
 * is what it is asked for.  With a round-trip time, all that comes in waits
 * that long before it is looked at, so the link is far away but never full
 * (the TCP handshake is not delayed).
 *
 * usage: relayhost CERT KEY
 * It prints its port, then answers commands on standard input:
 *   up, down            listen, or refuse connections (at first)
 *   set RTT_MS EXTENSION ...   for later connections
 *   reset               forget what has arrived
 *   wait COUNT SECONDS  until so many have arrived: "COUNT DOUBLES OCTETS
 *                       CONNECTIONS FIRST_NS LAST_NS", by CLOCK_MONOTONIC
 *   when NUMBER         "NS" of its first arrival
 *   nth COUNT           "NS" when so many had arrived
 */
#include "relayd.h"

#include "now.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	NUMBERS = 1 << 20,
	RECIPIENTS_MAX = 100,
	READ_OCTETS = 64 << 10,
	LINE_MAX_OCTETS = 4096,
	MS_NS = 1000000, /* as fine as the loop's timers are */
};

enum state { COMMAND, DATA, CHUNK };

/* What has come in and is not due yet; no octets: end of file. */
struct piece {
	STAILQ_ENTRY(piece) entry;
	int64_t due_ns;
	size_t len;
	char data[];
};

struct peer {
	struct relayhost *host;
	int fd;
	SSL *ssl; /* NULL: in clear */
	BIO *from, *to;
	bool greeted, closing, writable;
	enum state state;
	uint64_t left;  /* octets of the chunk */
	bool last;      /* it is the message's last */
	size_t matched; /* octets of "\r\n.\r\n" just seen */
	struct buf input;
	struct buf replies;
	struct buf output; /* as it goes on the wire */
	uint32_t number[RECIPIENTS_MAX];
	size_t numbers;
	STAILQ_HEAD(, piece) pieces;
	struct timer due;
};

struct relayhost {
	struct loop *loop;
	SSL_CTX *tls;
	int fd;
	struct sockaddr_in address;
	int64_t rtt_ns;
	struct buf extensions; /* lines of the reply to EHLO */
	struct buf commands;   /* on standard input */
	size_t wanted;         /* somebody waits for so many */
	struct timer patience;
	size_t arrived, doubles, connections;
	uint64_t octets;
	int64_t first_ns, last_ns;
	int64_t at_ns[NUMBERS];  /* by number; 0: not yet */
	int64_t nth_ns[NUMBERS]; /* in order of arrival */
};

/* ---- what has arrived ---- */

static void
report(struct relayhost *h)
{
	h->wanted = 0;
	loop_timer_clear(h->loop, &h->patience);
	printf("%zu %zu %ju %zu %jd %jd\n", h->arrived, h->doubles,
	    (uintmax_t)h->octets, h->connections, (intmax_t)h->first_ns,
	    (intmax_t)h->last_ns);
}

static void
on_patience(void *arg)
{
	report(arg);
}

static void
arrive(struct peer *p)
{
	struct relayhost *h = p->host;
	int64_t now = now_ns();
	size_t i;

	for (i = 0; i < p->numbers; i++) {
		int64_t *at = &h->at_ns[p->number[i] % NUMBERS];

		if (*at != 0) {
			h->doubles++;
			continue;
		}
		*at = h->last_ns = now;
		h->nth_ns[h->arrived % NUMBERS] = now;
		if (h->arrived++ == 0)
			h->first_ns = now;
	}
	p->numbers = 0;
	if (h->wanted > 0 && h->arrived >= h->wanted)
		report(h);
}

/* ---- the dialogue ---- */

static void
say(struct peer *p, const char *text)
{
	buf_add_text(&p->replies, text);
	buf_add_text(&p->replies, "\r\n");
}

static void
end_message(struct peer *p)
{
	arrive(p);
	say(p, "250 2.0.0 Ok: queued");
}

/* How many octets of s are content; p->matched says whether it ended. */
static size_t
take_data(struct peer *p, struct span s)
{
	static const char end[] = "\r\n.\r\n";
	size_t i;

	for (i = 0; i < s.len && p->matched < sizeof(end) - 1; i++) {
		if (s.data[i] == end[p->matched]) {
			p->matched++;
			continue;
		}
		if (p->matched == 0) { /* on to the next candidate */
			const char *cr = memchr(s.data + i, '\r', s.len - i);

			if (cr == NULL)
				return s.len;
			i = (size_t)(cr - s.data);
		}
		p->matched = s.data[i] == '\r';
	}
	return i;
}

static void
add_recipient(struct peer *p, struct span address)
{
	uint32_t number = 0;
	size_t i = 0;

	while (
	    i < address.len && (address.data[i] < '0' || address.data[i] > '9'))
		i++;
	for (; i < address.len && address.data[i] >= '0' &&
	     address.data[i] <= '9';
	     i++)
		number = number * 10 + (uint32_t)(address.data[i] - '0');
	if (p->numbers < RECIPIENTS_MAX)
		p->number[p->numbers++] = number;
	say(p, "250 2.1.5 Ok");
}

static void
start_chunk(struct peer *p, struct span argument)
{
	struct span size, last;
	uint64_t n = 0;

	(void)span_cut(argument, ' ', &size, &last);
	(void)parse_number(size, UINT32_MAX, &n);
	p->left = n;
	p->last = last.len > 0;
	p->state = CHUNK;
}

static void
start_tls(struct peer *p)
{
	say(p, "220 2.0.0 Ready to start TLS");
	buf_add(&p->output, buf_span(&p->replies));
	buf_clear(&p->replies);
	buf_clear(&p->input);
	p->ssl = SSL_new(p->host->tls);
	p->from = BIO_new(BIO_s_mem());
	p->to = BIO_new(BIO_s_mem());
	if (p->ssl == NULL || p->from == NULL || p->to == NULL)
		errx(1, "TLS");
	SSL_set_bio(p->ssl, p->from, p->to);
	SSL_set_accept_state(p->ssl);
}

static void
greet(struct peer *p)
{
	buf_add_text(&p->replies, "250-localhost\r\n");
	buf_add(&p->replies, buf_span(&p->host->extensions));
	say(p, p->ssl == NULL ? "250-STARTTLS" : "250-AUTH PLAIN LOGIN");
	say(p, "250 ENHANCEDSTATUSCODES");
}

static void
command(struct peer *p, struct span line)
{
	struct span verb, argument;

	(void)span_cut(line, ' ', &verb, &argument);
	if (span_equal_nocase(verb, SPAN("MAIL"))) {
		p->numbers = 0;
		say(p,
		    p->ssl == NULL ? "530 5.7.0 Must issue STARTTLS first"
				   : "250 2.1.0 Ok");
	} else if (span_equal_nocase(verb, SPAN("RCPT"))) {
		add_recipient(p, argument);
	} else if (span_equal_nocase(verb, SPAN("DATA"))) {
		say(p, "354 End data with <CR><LF>.<CR><LF>");
		p->state = DATA;
		p->matched = 2; /* the end may be all there is */
	} else if (span_equal_nocase(verb, SPAN("BDAT"))) {
		start_chunk(p, argument);
	} else if (span_equal_nocase(verb, SPAN("EHLO"))) {
		greet(p);
	} else if (span_equal_nocase(verb, SPAN("STARTTLS"))) {
		start_tls(p);
	} else if (span_equal_nocase(verb, SPAN("AUTH"))) {
		say(p, "235 2.7.0 Authentication successful");
	} else if (span_equal_nocase(verb, SPAN("QUIT"))) {
		say(p, "221 2.0.0 Bye");
		p->closing = true;
	} else {
		say(p, "250 2.0.0 Ok");
	}
}

static size_t
take_command(struct peer *p, struct span s)
{
	const char *end = memchr(s.data, '\n', s.len);
	size_t len;

	if (end == NULL)
		return 0;
	len = (size_t)(end - s.data) + 1;
	command(p, span_trim(span_first(s, len)));
	return len;
}

static size_t
take_chunk(struct peer *p, struct span s)
{
	size_t len = s.len < p->left ? s.len : (size_t)p->left;

	p->left -= len;
	if (p->left > 0)
		return len;
	p->state = COMMAND;
	if (p->last)
		end_message(p);
	else
		say(p, "250 2.0.0 Ok");
	return len;
}

/* All that can be understood by now. */
static void
converse(struct peer *p)
{
	size_t at = 0, len = 1;

	while (len > 0 && (at < p->input.len || p->state == CHUNK)) {
		struct span rest = span_from(buf_span(&p->input), at);
		SSL *ssl = p->ssl;

		if (p->state == DATA) {
			len = take_data(p, rest);
			if (p->matched == 5) {
				p->state = COMMAND;
				end_message(p);
			}
		} else if (p->state == CHUNK) {
			len = take_chunk(p, rest);
		} else {
			len = take_command(p, rest);
		}
		if (p->ssl != ssl)
			return; /* what came before it is void */
		at += len;
	}
	buf_drop(&p->input, at);
}

/* ---- connections ---- */

static void
peer_end(struct peer *p)
{
	struct piece *piece;

	loop_timer_clear(p->host->loop, &p->due);
	loop_unwatch(p->host->loop, p->fd);
	while ((piece = STAILQ_FIRST(&p->pieces)) != NULL) {
		STAILQ_REMOVE_HEAD(&p->pieces, entry);
		free(piece);
	}
	SSL_free(p->ssl);
	fd_close(&p->fd);
	buf_free(&p->input);
	buf_free(&p->replies);
	buf_free(&p->output);
	free(p);
}

/* Deciphered octets go to p->input. */
static void
decipher(struct peer *p)
{
	int n;

	do {
		buf_reserve(&p->input, READ_OCTETS);
		n = SSL_read(p->ssl, p->input.data + p->input.len, READ_OCTETS);
		if (n > 0) {
			p->input.len += (size_t)n;
			converse(p);
		}
	} while (n > 0);
	if (SSL_get_error(p->ssl, n) != SSL_ERROR_WANT_READ)
		p->closing = true;
	ERR_clear_error();
}

static void on_event(void *arg, unsigned events);

/* To be called last: p may be no more afterwards. */
static void
flush(struct peer *p)
{
	ssize_t n = 0;

	if (p->ssl == NULL) {
		buf_add(&p->output, buf_span(&p->replies));
	} else {
		char *data;
		long len;

		if (p->replies.len > 0)
			(void)SSL_write(p->ssl, p->replies.data,
			    (int)p->replies.len);
		len = BIO_get_mem_data(p->to, &data);
		if (len > 0)
			buf_append(&p->output, data, (size_t)len);
		(void)BIO_reset(p->to);
	}
	buf_clear(&p->replies);
	if (p->output.len > 0)
		n = send(p->fd, p->output.data, p->output.len, MSG_NOSIGNAL);
	if (n > 0)
		buf_drop(&p->output, (size_t)n);
	if ((n == -1 && errno != EAGAIN) ||
	    (p->closing && p->output.len == 0)) {
		peer_end(p);
	} else if (p->writable != (p->output.len > 0)) {
		p->writable = p->output.len > 0;
		(void)loop_watch(p->host->loop, p->fd,
		    p->writable ? LOOP_READ | LOOP_WRITE : LOOP_READ, on_event,
		    p);
	}
}

/* Octets as they came from the wire; none: end of file. */
static void
take(struct peer *p, struct span s)
{
	if (s.len == 0)
		p->closing = true;
	p->host->octets += s.len;
	if (p->ssl != NULL) {
		(void)BIO_write(p->from, s.data, (int)s.len);
		decipher(p);
	} else {
		buf_add(&p->input, s);
		converse(p);
	}
}

/* To the nearest millisecond: those who wait for many round trips would pay
 * for rounding up each. */
static void
set_due(struct peer *p)
{
	const struct piece *first = STAILQ_FIRST(&p->pieces);

	if (first != NULL)
		loop_timer_set(p->host->loop, &p->due,
		    (first->due_ns - now_ns() + MS_NS / 2) / MS_NS);
}

static void
on_due(void *arg)
{
	struct peer *p = arg;
	struct piece *piece;
	int64_t now = now_ns();

	if (!p->greeted)
		say(p, "220 localhost ESMTP");
	p->greeted = true;
	while (!p->closing && (piece = STAILQ_FIRST(&p->pieces)) != NULL &&
	    piece->due_ns <= now + MS_NS / 2) {
		take(p, (struct span){ piece->data, piece->len });
		STAILQ_REMOVE_HEAD(&p->pieces, entry);
		free(piece);
	}
	set_due(p);
	flush(p);
}

static void
put_off(struct peer *p, struct span s)
{
	struct piece *piece = mem_alloc(sizeof(*piece) + s.len);

	piece->due_ns = now_ns() + p->host->rtt_ns;
	piece->len = s.len;
	memcpy(piece->data, s.data, s.len);
	STAILQ_INSERT_TAIL(&p->pieces, piece, entry);
	if (STAILQ_FIRST(&p->pieces) == piece && p->greeted)
		set_due(p);
}

static void
on_event(void *arg, unsigned events)
{
	static char data[READ_OCTETS];
	struct peer *p = arg;

	if ((events & LOOP_READ) != 0) {
		ssize_t n = recv(p->fd, data, sizeof(data), 0);

		if (n == -1 && errno == EAGAIN)
			n = -2;
		if (n >= -1 && p->host->rtt_ns > 0) {
			put_off(p,
			    (struct span){ data, n > 0 ? (size_t)n : 0 });
			if (n <= 0)
				loop_unwatch(p->host->loop, p->fd);
			return;
		}
		if (n >= -1)
			take(p, (struct span){ data, n > 0 ? (size_t)n : 0 });
	}
	flush(p);
}

static void
on_connect(void *arg, unsigned events)
{
	struct relayhost *h = arg;
	struct peer *p;
	int one = 1,
	    fd = accept4(h->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd == -1)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	h->connections++;
	p = mem_alloc(sizeof(*p));
	p->host = h;
	p->fd = fd;
	STAILQ_INIT(&p->pieces);
	p->due.handler = on_due;
	p->due.arg = p;
	(void)loop_watch(h->loop, fd, LOOP_READ, on_event, p);
	if (h->rtt_ns > 0)
		loop_timer_set(h->loop, &p->due, h->rtt_ns / MS_NS);
	else
		on_due(p);
}

/* ---- what it is asked ---- */

/* A port that is bound but not listened on refuses connections, and stays
 * ours. */
static void
bind_port(struct relayhost *h)
{
	socklen_t len = sizeof(h->address);
	int one = 1;

	h->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	(void)setsockopt(h->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (h->fd == -1 ||
	    bind(h->fd, (struct sockaddr *)&h->address, len) == -1 ||
	    getsockname(h->fd, (struct sockaddr *)&h->address, &len) == -1)
		err(1, "bind");
}

static void
set_up(struct relayhost *h)
{
	if (listen(h->fd, 1024) == -1 ||
	    loop_watch(h->loop, h->fd, LOOP_READ, on_connect, h) == -1)
		err(1, "listen");
}

static void
set_link(struct relayhost *h, struct span arguments)
{
	struct span word;
	uint64_t ms = 0;

	(void)span_cut(arguments, ' ', &word, &arguments);
	(void)parse_number(word, 10000, &ms);
	h->rtt_ns = (int64_t)ms * MS_NS;
	buf_clear(&h->extensions);
	while (arguments.len > 0) {
		(void)span_cut(arguments, ' ', &word, &arguments);
		buf_add_text(&h->extensions, "250-");
		buf_add(&h->extensions, word);
		buf_add_text(&h->extensions, "\r\n");
	}
}

static void
wait_for(struct relayhost *h, struct span arguments)
{
	struct span count, seconds;
	uint64_t n = 0, patience = 0;

	(void)span_cut(arguments, ' ', &count, &seconds);
	(void)parse_number(count, NUMBERS, &n);
	(void)parse_number(seconds, 100000, &patience);
	h->wanted = n;
	if (h->arrived >= n)
		report(h);
	else
		loop_timer_set(h->loop, &h->patience, (int64_t)patience * 1000);
}

static void
answer(struct relayhost *h, struct span line)
{
	struct span verb, arguments;
	uint64_t number = 0;

	(void)span_cut(line, ' ', &verb, &arguments);
	if (span_equal(verb, SPAN("wait"))) {
		wait_for(h, arguments);
		return;
	}
	if (span_equal(verb, SPAN("when"))) {
		(void)parse_number(arguments, NUMBERS - 1, &number);
		printf("%jd\n", (intmax_t)h->at_ns[number]);
		return;
	}
	if (span_equal(verb, SPAN("nth"))) {
		(void)parse_number(arguments, NUMBERS, &number);
		printf("%jd\n", (intmax_t)h->nth_ns[(number - 1) % NUMBERS]);
		return;
	}
	if (span_equal(verb, SPAN("up"))) {
		set_up(h);
	} else if (span_equal(verb, SPAN("down"))) {
		loop_unwatch(h->loop, h->fd);
		fd_close(&h->fd);
		bind_port(h);
	} else if (span_equal(verb, SPAN("set"))) {
		set_link(h, arguments);
	} else if (span_equal(verb, SPAN("reset"))) {
		h->arrived = h->doubles = h->connections = 0;
		h->octets = 0;
		memset(h->at_ns, 0, sizeof(h->at_ns));
	}
	printf("ok\n");
}

static void
on_command(void *arg, unsigned events)
{
	struct relayhost *h = arg;
	struct span line, rest;
	ssize_t n;

	(void)events;
	buf_reserve(&h->commands, LINE_MAX_OCTETS);
	n = read(0, h->commands.data + h->commands.len, LINE_MAX_OCTETS);
	if (n <= 0) {
		loop_stop(h->loop);
		return;
	}
	h->commands.len += (size_t)n;
	while (span_cut(buf_span(&h->commands), '\n', &line, &rest)) {
		answer(h, line);
		buf_drop(&h->commands, line.len + 1);
	}
}

int
main(int argc, char **argv)
{
	static struct relayhost h;

	if (argc != 3)
		errx(64, "usage: relayhost CERT KEY");
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	h.loop = loop_new();
	h.tls = SSL_CTX_new(TLS_server_method());
	if (h.loop == NULL || h.tls == NULL ||
	    SSL_CTX_use_certificate_chain_file(h.tls, argv[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(h.tls, argv[2], SSL_FILETYPE_PEM) != 1)
		errx(1, "TLS can't be set up");
	h.patience.handler = on_patience;
	h.patience.arg = &h;
	h.address.sin_family = AF_INET;
	h.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind_port(&h);
	printf("%d\n", ntohs(h.address.sin_port));
	if (loop_watch(h.loop, 0, LOOP_READ, on_command, &h) == -1)
		err(1, "standard input");
	return loop_run(h.loop) == 0 ? 0 : 1;
}
