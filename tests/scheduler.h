/*
 * What tests of the scheduler share, whatever their links do: the calls that
 * they replace, and messages in a real spool.  A test that includes this wraps
 *
 *   relay_open relay_wake relay_shut relay_idle relay_ready relay_match
 *   relay_peer relay_tls clock_read
 */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include "../sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct relay_link *__wrap_relay_open(struct connector *c, struct loop *l,
    struct config *config, const struct config_relay *r,
    const struct relay_handlers *handlers, void *arg);
void __wrap_relay_wake(struct relay_link *link);
void __wrap_relay_shut(struct relay_link *link);
bool __wrap_relay_idle(const struct relay_link *link);
bool __wrap_relay_ready(const struct relay_link *link);
void __wrap_relay_match(struct relay_link *link,
    const struct relay_link *other);
const char *__wrap_relay_peer(const struct relay_link *link);
const char *__wrap_relay_tls(const struct relay_link *link);
void __real_clock_read(struct instant *now);
void __wrap_clock_read(struct instant *now);

const char *
__wrap_relay_peer(const struct relay_link *link)
{
	(void)link;
	return "mx[192.0.2.1]:587";
}

const char *
__wrap_relay_tls(const struct relay_link *link)
{
	(void)link;
	return "TLSv1.3";
}

/* A message that is to be made durable; its recipients are r0, r1, ... */
static inline void
put_message(struct queue *q, const char *sender, unsigned recipients,
    queue_committed *handler, void *arg)
{
	struct envelope e = { .uid = -1 };
	struct msg *m = queue_begin(q);
	struct instant now;
	unsigned i;

	clock_read(&now);
	e.arrived_ms = now.wall_ms;
	e.sender = mem_text(sender);
	e.original_sender = mem_text(sender);
	e.client = mem_text("");
	for (i = 0; i < recipients; i++) {
		char address[32];

		(void)snprintf(address, sizeof(address), "r%u@x.example", i);
		envelope_add(&e, address, address);
	}
	msg_envelope(m, &e);
	envelope_clear(&e);
	(void)msg_write(m, SPAN("body\r\n"));
	queue_commit(m, handler, arg);
}

static inline void
remove_spool(const char *path)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", path);
	assert_int_equal(system(command), 0);
}

#endif
