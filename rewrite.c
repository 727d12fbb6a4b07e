/*
 * The envelope on its way in: who gets the mail and whom it is from.  The
 * header follows it in rewrite_header.c.  No input or output.
 */
#include "rewrite.h"

#include <stdlib.h>
#include <string.h>

/* ---- addresses ---- */

bool
rewrite_is_local(const struct rewrite_rules *rules, struct span address)
{
	struct span local, domain;

	smtp_address_split(address, &local, &domain);
	return domain.data == NULL || strings_have(rules->local_names, domain);
}

/* A domain without a dot ("localhost", "web1") is no better than none: no
 * relayhost takes it. */
void
rewrite_complete(const struct rewrite_rules *rules, struct span address,
    struct buf *out)
{
	struct span local, domain;

	smtp_address_split(address, &local, &domain);
	if (domain.data != NULL &&
	    memchr(domain.data, '.', domain.len) != NULL) {
		buf_add(out, address);
		return;
	}
	buf_add(out, local);
	buf_add_char(out, '@');
	buf_add_text(out, rules->origin);
}

char *
rewrite_sender(const struct rewrite_rules *rules, struct span sender)
{
	struct buf out = { NULL, 0, 0 };
	bool local = sender.len > 0 && rewrite_is_local(rules, sender);
	bool replace = *rules->from != '\0' && sender.len > 0 &&
	    (rules->from_mode == FROM_ALWAYS ||
		(rules->from_mode == FROM_LOCAL && local));

	if (replace)
		buf_add_text(&out, rules->from);
	else if (local)
		rewrite_complete(rules, sender, &out);
	else
		buf_add(&out, sender);
	(void)buf_text(&out);
	return out.data;
}

/* ---- recipients ---- */

/* An address on the way from what was given to what it stands for. */
struct step {
	struct span address;       /* borrowed from the rules or the caller */
	size_t parent;             /* the step that led here */
	unsigned depth;            /* how many did; 0: the first */
	const struct strings *via; /* what it was replaced by; NULL: nothing */
};

struct expansion {
	const struct rewrite_rules *rules;
	struct strings local_to; /* the alias of every name without one */
	struct step *step;
	size_t count;
	size_t size;
};

static void
add_step(struct expansion *x, struct span address, size_t parent,
    unsigned depth)
{
	if (x->count == x->size) {
		x->size = x->size == 0 ? 16 : x->size * 2;
		x->step = mem_array(x->step, x->size, sizeof(*x->step));
	}
	x->step[x->count++] = (struct step){ address, parent, depth, NULL };
}

/* What the address is to be replaced by; NULL: it is final. */
static const struct strings *
find_targets(const struct expansion *x, struct span address)
{
	const struct strings *targets = NULL;
	struct span local, domain;

	if (address.data[0] == '\\' || !rewrite_is_local(x->rules, address))
		return NULL;
	smtp_address_split(address, &local, &domain);
	if (x->rules->aliases != NULL)
		targets = aliases_find(x->rules->aliases, local);
	if (targets == NULL && x->local_to.count > 0)
		targets = &x->local_to;
	return targets;
}

/* Did one of the steps that led to this one go the same way? */
static bool
is_cycle(const struct expansion *x, size_t at, const struct strings *via)
{
	while (x->step[at].depth > 0) {
		at = x->step[at].parent;
		if (x->step[at].via == via)
			return true;
	}
	return false;
}

/* Has any step gone this way, so that its targets are known already? */
static bool
is_known(const struct expansion *x, size_t before, const struct strings *via)
{
	size_t i;

	for (i = 0; i < before; i++) {
		if (x->step[i].via == via)
			return true;
	}
	return false;
}

static enum rewrite_result
add_recipient(const struct rewrite_rules *rules, struct span address,
    struct strings *out)
{
	struct buf full = { NULL, 0, 0 };

	if (address.data[0] == '\\')
		address = span_from(address, 1);
	if (rewrite_is_local(rules, address))
		rewrite_complete(rules, address, &full);
	else
		buf_add(&full, address);
	if (!strings_have(out, buf_span(&full)))
		strings_add(out, buf_span(&full));
	buf_free(&full);
	return out->count > rules->recipient_limit ? REWRITE_TOO_MANY
						   : REWRITE_OK;
}

static enum rewrite_result
take_step(struct expansion *x, size_t at, struct strings *out)
{
	const struct strings *targets = find_targets(x, x->step[at].address);
	unsigned depth = x->step[at].depth + 1;
	size_t i;

	if (targets == NULL || is_cycle(x, at, targets))
		return add_recipient(x->rules, x->step[at].address, out);
	if (is_known(x, at, targets))
		return REWRITE_OK;
	if (depth > LIMIT_ALIAS_DEPTH)
		return REWRITE_DEEP;
	x->step[at].via = targets;
	for (i = 0; i < targets->count; i++)
		add_step(x, span_of(targets->item[i]), at, depth);
	return x->count / LIMIT_ALIAS_DEPTH > x->rules->recipient_limit
	    ? REWRITE_TOO_MANY
	    : REWRITE_OK;
}

enum rewrite_result
rewrite_recipient(const struct rewrite_rules *rules, struct span address,
    struct strings *out)
{
	struct expansion x = { .rules = rules };
	enum rewrite_result result = REWRITE_OK;
	size_t before = out->count, i;

	if (*rules->local_to != '\0')
		strings_add(&x.local_to, span_of(rules->local_to));
	add_step(&x, address, 0, 0);
	for (i = 0; i < x.count && result == REWRITE_OK; i++)
		result = take_step(&x, i, out);
	while (result != REWRITE_OK && out->count > before)
		free(out->item[--out->count]);
	strings_free(&x.local_to);
	free(x.step);
	return result;
}
