/*
 * Fills relayd's spool with messages, fast: nothing is synced.  The recipient
 * of the N-th is uN@example.net.
 *
 * usage: fill SPOOL MESSAGES OCTETS
 *
 * wrap: fdatasync fsync sync_file_range
 */
#include "relayd.h"

#include "tests/unsynced.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
committed(void *arg, queue_id id, int error)
{
	(void)arg;
	(void)id;
	if (error != 0)
		errx(1, "%s", strerror(error));
}

static void
add(struct queue *q, unsigned number, struct span content)
{
	struct envelope e = { .uid = -1 };
	struct instant now;
	struct msg *m = queue_begin(q);
	char address[64];

	clock_read(&now);
	(void)snprintf(address, sizeof(address), "u%u@example.net", number);
	e.sender = mem_text("app@example.com");
	e.original_sender = mem_text("app@example.com");
	e.client = mem_text("");
	e.arrived_ms = now.wall_ms;
	(void)envelope_add(&e, address, address);
	msg_envelope(m, &e);
	envelope_clear(&e);
	if (msg_write(m, content) == -1)
		err(1, "write");
	queue_commit(m, committed, NULL);
}

int
main(int argc, char **argv)
{
	struct buf content = { 0 };
	unsigned i, messages;
	struct queue *q;
	pid_t owner;

	if (argc != 4)
		errx(64, "usage: fill SPOOL MESSAGES OCTETS");
	q = queue_open(argv[1], 0, &owner);
	if (q == NULL)
		err(1, "%s", argv[1]);
	messages = (unsigned)atoi(argv[2]);
	buf_add_text(&content, "From: app@example.com\r\n\r\n");
	while (content.len + 80 < (size_t)atoi(argv[3]))
		buf_add_text(&content,
		    "The quick brown fox jumps over the "
		    "lazy dog, and over it again.\r\n");
	for (i = 0; i < messages; i++) {
		add(q, i, buf_span(&content));
		(void)queue_sync(q);
	}
	queue_close(q);
	buf_free(&content);
	return 0;
}
