/*
 * An envelope in memory: what is known of a message besides its content.  How
 * it stands in a file is spool.c's.
 */
#include "spool.h"

#include <stdlib.h>

void
envelope_clear(struct envelope *e)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++) {
		free(e->recipient[i].address);
		free(e->recipient[i].original);
		free(e->recipient[i].orcpt);
		free(e->recipient[i].last.peer);
		free(e->recipient[i].last.reply);
	}
	free(e->recipient);
	free(e->sender);
	free(e->original_sender);
	free(e->client);
	free(e->envid);
	strings_free(&e->names);
	*e = (struct envelope){ .uid = -1 };
}

struct recipient *
envelope_new_recipient(struct envelope *e)
{
	size_t n = e->recipient_count++;

	if ((n & (n - 1)) == 0) /* a power of two: full */
		e->recipient = mem_array(e->recipient, n == 0 ? 1 : n * 2,
		    sizeof(*e->recipient));
	e->recipient[n] = (struct recipient){ .state = RECIPIENT_WAITING };
	return &e->recipient[n];
}

struct recipient *
envelope_add(struct envelope *e, const char *address, const char *original)
{
	struct recipient *r = envelope_new_recipient(e);

	r->address = mem_text(address);
	r->original = mem_text(original);
	return r;
}

void
envelope_add_name(struct envelope *e, const char *address, const char *original)
{
	struct buf name = { NULL, 0, 0 };

	buf_printf(&name, "%s\t%s", address, original);
	strings_add(&e->names, buf_span(&name));
	buf_free(&name);
}

size_t
envelope_count(const struct envelope *e, enum recipient_state state)
{
	size_t i, n = 0;

	for (i = 0; i < e->recipient_count; i++)
		n += e->recipient[i].state == state;
	return n;
}
