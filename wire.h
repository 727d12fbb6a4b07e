/*
 * The bytes of a connection to the relayhost: what wire.c offers to relay.c
 * and to nobody else.
 */
#ifndef WIRE_H
#define WIRE_H

#include "relayd.h"

enum { WIRE_SIZE = 128 << 10 };

struct wire {
	struct conn *conn;
	struct buf out;   /* appended to by the owner, up to WIRE_SIZE */
	uint64_t written; /* octets sent, since the beginning */
	size_t sent;      /* of out */
	size_t refused;   /* octets that the last conn_send() refused */
	struct buf in;
	size_t taken; /* of in */
	unsigned wanted;
};

void wire_init(struct wire *w);  /* the owner sets conn */
void wire_close(struct wire *w); /* and conn with it */

size_t wire_room(const struct wire *w); /* octets that out can take now */
/* Where in the stream what is appended next will stand. */
uint64_t wire_position(const struct wire *w);

/* Send out.  0: all of it is sent; -1: EAGAIN, or the connection is lost. */
int wire_send(struct wire *w);

/* Read what there is, once.  As recv(2). */
ssize_t wire_receive(struct wire *w);
struct span wire_unread(const struct wire *w);
/* The next line, without its end; what is longer than any reply's line may be
 * is given out without waiting for that.  false: not yet there. */
bool wire_line(struct wire *w, struct span *line);

/* Wait for something to read, and for room to write if there is need. */
void wire_wait(struct wire *w, bool more);

#endif
