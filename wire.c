/*
 * The bytes of a connection to the relayhost: a block to write from, and
 * lines to read.
 *
 * The block is never moved, and emptied only when all of it has been sent;
 * conn_send() wants what it has refused offered again from the same address.
 */
#include "wire.h"

#include <errno.h>

enum {
	/*
	 * Most octets of one conn_send(): a TLS record.  Of more, a part
	 * could reach the peer though conn_send() says EAGAIN, and the reply
	 * would seem to come before the message was written.
	 */
	RECORD = 16 << 10,
	RECEIVE = 8 << 10,
};

void
wire_init(struct wire *w)
{
	buf_reserve(&w->out, WIRE_SIZE);
}

void
wire_close(struct wire *w)
{
	conn_close(w->conn);
	buf_free(&w->out);
	buf_free(&w->in);
}

size_t
wire_room(const struct wire *w)
{
	return WIRE_SIZE - w->out.len;
}

uint64_t
wire_position(const struct wire *w)
{
	return w->written + w->out.len - w->sent;
}

int
wire_send(struct wire *w)
{
	size_t len;
	ssize_t n;

	while (w->sent < w->out.len) {
		len = w->out.len - w->sent;
		if (len > RECORD)
			len = RECORD;
		if (w->refused > 0)
			len = w->refused; /* not more: see RECORD */
		n = conn_send(w->conn, w->out.data + w->sent, len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			w->refused = len;
			return -1;
		}
		w->refused = 0;
		w->sent += (size_t)n;
		w->written += (size_t)n;
	}
	buf_clear(&w->out);
	w->sent = 0;
	return 0;
}

ssize_t
wire_receive(struct wire *w)
{
	char bytes[RECEIVE];
	ssize_t n;

	do {
		n = conn_recv(w->conn, bytes, sizeof(bytes));
	} while (n == -1 && errno == EINTR);
	if (n > 0) {
		buf_drop(&w->in, w->taken);
		w->taken = 0;
		buf_append(&w->in, bytes, (size_t)n);
	}
	return n;
}

struct span
wire_unread(const struct wire *w)
{
	return span_from(buf_span(&w->in), w->taken);
}

bool
wire_line(struct wire *w, struct span *line)
{
	struct span unread = wire_unread(w), tail;

	if (!span_cut(unread, '\n', line, &tail) &&
	    unread.len <= LIMIT_REPLY_LINE)
		return false;
	w->taken = w->in.len - tail.len;
	if (line->len > 0 && line->data[line->len - 1] == '\r')
		line->len--;
	return true;
}

void
wire_wait(struct wire *w, bool more)
{
	unsigned events = LOOP_READ;

	if (more || w->out.len > 0)
		events |= LOOP_WRITE;
	if (events != w->wanted)
		conn_want(w->conn, events);
	w->wanted = events;
}
