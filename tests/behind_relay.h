/*
 * What stands behind relay.c in its tests: the calls that they replace, and
 * those of the answers that are always the same.  A test that includes this
 * wraps
 *
 *   conn_open conn_close conn_send conn_recv conn_want conn_can conn_peer
 *   conn_tls entry_read entry_rewind loop_timer_set loop_timer_clear loop_now
 */
#ifndef BEHIND_RELAY_H
#define BEHIND_RELAY_H

#include "../relayd.h"

/* The clock stands still until the test sets it; one timer at a time. */
static int64_t now_ms;
static struct timer *timer; /* NULL: not running */

struct conn *__wrap_conn_open(struct connector *c, const struct config *config,
    const struct config_relay *relay, const struct conn_handlers *h, void *arg);
void __wrap_conn_close(struct conn *c);
ssize_t __wrap_conn_send(struct conn *c, const void *data, size_t len);
ssize_t __wrap_conn_recv(struct conn *c, void *data, size_t size);
void __wrap_conn_want(struct conn *c, unsigned events);
const char *__wrap_conn_peer(const struct conn *c);
const char *__wrap_conn_tls(const struct conn *c);
unsigned __wrap_conn_can(const struct conn *c, uint64_t *size_limit);
ssize_t __wrap_entry_read(struct entry *e, char *out, size_t size);
void __wrap_entry_rewind(struct entry *e);
void __wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms);
void __wrap_loop_timer_clear(struct loop *l, struct timer *t);
struct instant __wrap_loop_now(const struct loop *l);

const char *
__wrap_conn_peer(const struct conn *c)
{
	(void)c;
	return "peer";
}

const char *
__wrap_conn_tls(const struct conn *c)
{
	(void)c;
	return "";
}

void
__wrap_entry_rewind(struct entry *e)
{
	e->read_at = 0;
}

void
__wrap_loop_timer_set(struct loop *l, struct timer *t, int64_t delay_ms)
{
	(void)l;
	t->at_ms = now_ms + (delay_ms < 0 ? 0 : delay_ms);
	timer = t;
}

void
__wrap_loop_timer_clear(struct loop *l, struct timer *t)
{
	(void)l;
	(void)t;
	timer = NULL;
}

struct instant
__wrap_loop_now(const struct loop *l)
{
	(void)l;
	return (struct instant){ now_ms, 0 };
}

#endif
