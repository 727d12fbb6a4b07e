/*
 * How old a message is, whatever is done to the clock.
 *
 * It is dated by the wall clock, so that its age goes on over a restart.  A
 * clock that is set forward (at boot, by many years), or goes on while the
 * machine sleeps, must not end what was tried for a minute.
 */
#include "sched.h"

enum {
	JUMP_MS = 60 * 1000, /* less is no step, or does not matter */
	GRACE_MS = 3600 * 1000,
};

void
age_look(struct age_clock *c, struct instant now)
{
	int64_t ahead_ms = now.wall_ms - now.mono_ms;
	int64_t jump_ms = c->looked ? ahead_ms - c->ahead_ms : 0;

	if (!c->looked)
		c->started_ms = now.mono_ms;
	c->looked = true;
	c->ahead_ms = ahead_ms;
	if (jump_ms > JUMP_MS) {
		c->jumped_ms += jump_ms;
		c->before_ms = now.wall_ms - jump_ms;
	} else if (jump_ms < -JUMP_MS) {
		c->jumped_ms += jump_ms;
		if (c->jumped_ms < 0)
			c->jumped_ms = 0;
	}
}

int64_t
age_ms(const struct age_clock *c, struct instant now, int64_t arrived_ms)
{
	int64_t age = now.wall_ms - arrived_ms;

	return arrived_ms <= c->before_ms ? age - c->jumped_ms : age;
}

int64_t
age_left_ms(const struct age_clock *c, struct instant now, int64_t arrived_ms,
    int64_t life_ms)
{
	int64_t left = life_ms - age_ms(c, now, arrived_ms);
	int64_t grace = life_ms < GRACE_MS ? life_ms : GRACE_MS;

	grace -= now.mono_ms - c->started_ms;
	return left > grace ? left : grace;
}
