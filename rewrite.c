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
	if (!rewrite_is_local(rules, address) ||
	    (domain.data != NULL &&
		memchr(domain.data, '.', domain.len) != NULL)) {
		buf_add(out, address);
		return;
	}
	buf_add(out, local);
	buf_add_char(out, '@');
	buf_add_text(out, rules->origin);
}

/* ---- what became of it ---- */

const char *
rewrite_refusal(enum rewrite_result result)
{
	static const char *const replies[] = {
		[REWRITE_OK] = NULL,
		[REWRITE_DEEP] = "550 5.4.6 Aliases are nested too deep",
		[REWRITE_TOO_MANY] = "452 4.5.3 Too many recipients",
		[REWRITE_NOT_ALLOWED] =
		    "550 5.7.1 Recipient is not among allow_recipients",
	};

	return replies[result];
}

const char *
rewrite_cause_name(enum rewrite_cause cause)
{
	static const char *const names[] = {
		[REWRITE_GIVEN] = "given",
		[REWRITE_ALIAS] = "alias",
		[REWRITE_CATCH_ALL] = "catch-all alias",
		[REWRITE_LOCAL_TO] = "local_to",
		[REWRITE_ORIGIN] = "origin",
		[REWRITE_REDIRECT] = "redirect",
		[REWRITE_MASQUERADE] = "masquerade",
		[REWRITE_FROM] = "from",
	};

	return names[cause];
}

void
rewrite_add_way(struct buf *out, const struct rewrite_hop *hop, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (i > 0)
			buf_add_text(out, " -> ");
		buf_add_value(out, hop[i].address);
		if (hop[i].cause != REWRITE_GIVEN)
			buf_printf(out, " (%s)",
			    rewrite_cause_name(hop[i].cause));
	}
}

/* Given, aliases and local_to, and at the end origin and redirect; that of a
 * sender is shorter. */
enum { LONGEST_WAY = 1 + LIMIT_ALIAS_DEPTH + 2 };

struct way {
	struct rewrite_hop hop[LONGEST_WAY];
	size_t count;
};

static struct span
end_of(const struct way *w)
{
	return w->hop[w->count - 1].address;
}

/* The address goes on its way as another, unless that is the same. */
static void
go_on(struct way *w, struct span address, enum rewrite_cause cause)
{
	if (!span_equal(end_of(w), address))
		w->hop[w->count++] = (struct rewrite_hop){ address, cause };
}

static void
tell(const struct rewrite_trace *trace, const struct way *w,
    enum rewrite_result result)
{
	if (trace != NULL)
		trace->way(trace->arg, w->hop, w->count, result);
}

/* ---- sender ---- */

char *
rewrite_sender(const struct rewrite_rules *rules, struct span sender,
    const struct rewrite_trace *trace)
{
	struct way way = { { { sender, REWRITE_GIVEN } }, 1 };
	struct buf full = { NULL, 0, 0 }, mapped = { NULL, 0, 0 };
	bool local = rewrite_is_local(rules, sender);
	char *out;

	if (sender.len > 0) {
		rewrite_complete(rules, sender, &full);
		go_on(&way, buf_span(&full), REWRITE_ORIGIN);
		if (address_map_find(rules->masquerade, buf_span(&full),
			&mapped)) {
			go_on(&way, buf_span(&mapped), REWRITE_MASQUERADE);
			local = rewrite_is_local(rules, buf_span(&mapped));
		}
		if (*rules->from != '\0' &&
		    (rules->from_mode == FROM_ALWAYS ||
			(rules->from_mode == FROM_LOCAL && local)))
			go_on(&way, span_of(rules->from), REWRITE_FROM);
	}
	tell(trace, &way, REWRITE_OK);
	out = span_text(end_of(&way));
	buf_free(&full);
	buf_free(&mapped);
	return out;
}

/* ---- recipients ---- */

/* An address on the way from what was given to what it stands for. */
struct step {
	struct span address; /* borrowed from the rules or the caller */
	enum rewrite_cause cause;
	size_t parent;             /* the step that led here */
	unsigned depth;            /* how many did; 0: the first */
	size_t next;               /* the step to take behind this one's */
	const struct strings *via; /* what it was replaced by; NULL: nothing */
};

struct expansion {
	const struct rewrite_rules *rules;
	const struct rewrite_trace *trace;
	struct strings local_to;  /* the alias of every name without one */
	struct address_set seen;  /* what has been replaced */
	struct address_set found; /* what it came to */
	struct step *step;
	size_t count;
	size_t size;
	size_t next; /* the step to take now, or NO_STEP */
};

#define NO_STEP SIZE_MAX

/* To be taken before all others. */
static void
add_step(struct expansion *x, struct step step)
{
	step.next = x->next;
	x->next = x->count;
	if (x->count == x->size) {
		x->size = x->size == 0 ? 16 : x->size * 2;
		x->step = mem_array(x->step, x->size, sizeof(*x->step));
	}
	x->step[x->count++] = step;
}

/* What the address is to be replaced by, and why; NULL: it is final. */
static const struct strings *
find_targets(const struct expansion *x, struct span address,
    enum rewrite_cause *cause)
{
	const struct aliases *aliases = x->rules->aliases;
	const struct strings *targets = NULL;
	struct span local, domain;

	if (address.data[0] == '\\' || !rewrite_is_local(x->rules, address))
		return NULL;
	smtp_address_split(address, &local, &domain);
	if (aliases != NULL)
		targets = aliases_find(aliases, local);
	if (targets != NULL) {
		*cause = targets == aliases_find(aliases, SPAN("*"))
		    ? REWRITE_CATCH_ALL
		    : REWRITE_ALIAS;
	} else if (x->local_to.count > 0) {
		*cause = REWRITE_LOCAL_TO;
		targets = &x->local_to;
	}
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

static struct way
way_to(const struct expansion *x, size_t at)
{
	struct way w = { .count = x->step[at].depth + 1 };
	size_t i;

	for (i = w.count; i > 0; i--) {
		const struct step *step = &x->step[at];

		w.hop[i - 1] =
		    (struct rewrite_hop){ step->address, step->cause };
		at = step->parent;
	}
	return w;
}

static bool
is_allowed(const struct rewrite_rules *rules, struct span address)
{
	const struct strings *patterns = rules->allow_recipients;
	size_t i;

	if (patterns == NULL || patterns->count == 0)
		return *rules->redirect == '\0';
	for (i = 0; i < patterns->count; i++)
		if (address_matches(span_of(patterns->item[i]), address))
			return true;
	return false;
}

/* The address of a step is to be replaced no more. */
static enum rewrite_result
end_way(struct expansion *x, size_t at)
{
	const struct rewrite_rules *rules = x->rules;
	struct way way = way_to(x, at);
	struct span address = x->step[at].address;
	struct buf full = { NULL, 0, 0 };
	enum rewrite_result result = REWRITE_OK;

	if (address.data[0] == '\\')
		address = span_from(address, 1);
	rewrite_complete(rules, address, &full);
	go_on(&way, buf_span(&full), REWRITE_ORIGIN);
	if (!is_allowed(rules, buf_span(&full))) {
		if (*rules->redirect == '\0')
			result = REWRITE_NOT_ALLOWED;
		else
			go_on(&way, span_of(rules->redirect), REWRITE_REDIRECT);
	}
	tell(x->trace, &way, result);
	if (result == REWRITE_OK && address_set_add(&x->found, end_of(&way)) &&
	    x->found.list.count > rules->recipient_limit)
		result = REWRITE_TOO_MANY;
	buf_free(&full);
	return result;
}

static enum rewrite_result
take_step(struct expansion *x, size_t at)
{
	struct step next = { .parent = at, .depth = x->step[at].depth + 1 };
	struct span address = x->step[at].address;
	const struct strings *targets = find_targets(x, address, &next.cause);
	size_t i;

	if (targets == NULL || is_cycle(x, at, targets))
		return end_way(x, at);
	/* Another way has led here before; it was followed to its end, for what
	 * an address leads to is taken before anything else. */
	if (!address_set_add(&x->seen, address))
		return REWRITE_OK;
	if (next.depth > LIMIT_ALIAS_DEPTH) {
		struct way way = way_to(x, at);

		tell(x->trace, &way, REWRITE_DEEP);
		return REWRITE_DEEP;
	}
	x->step[at].via = targets;
	for (i = targets->count; i > 0; i--) {
		next.address = span_of(targets->item[i - 1]);
		add_step(x, next);
	}
	return x->count / LIMIT_ALIAS_DEPTH > x->rules->recipient_limit
	    ? REWRITE_TOO_MANY
	    : REWRITE_OK;
}

static enum rewrite_result
take_next(struct expansion *x)
{
	size_t at = x->next;

	x->next = x->step[at].next;
	return take_step(x, at);
}

/* Add what has been found, all or nothing. */
static enum rewrite_result
hand_over(const struct expansion *x, struct address_set *out)
{
	const struct strings *found = &x->found.list;
	size_t i, count = out->list.count;

	for (i = 0; i < found->count; i++)
		count += !address_set_have(out, span_of(found->item[i]));
	if (count > x->rules->recipient_limit)
		return REWRITE_TOO_MANY;
	for (i = 0; i < found->count; i++)
		(void)address_set_add(out, span_of(found->item[i]));
	return REWRITE_OK;
}

enum rewrite_result
rewrite_recipient(const struct rewrite_rules *rules, struct span address,
    struct address_set *out, const struct rewrite_trace *trace)
{
	struct expansion x = { .rules = rules,
		.trace = trace,
		.next = NO_STEP };
	enum rewrite_result result = REWRITE_OK;

	if (*rules->local_to != '\0')
		strings_add(&x.local_to, span_of(rules->local_to));
	add_step(&x,
	    (struct step){ .address = address, .cause = REWRITE_GIVEN });
	while (x.next != NO_STEP && result == REWRITE_OK)
		result = take_next(&x);
	if (result == REWRITE_OK)
		result = hand_over(&x, out);
	strings_free(&x.local_to);
	address_set_free(&x.seen);
	address_set_free(&x.found);
	free(x.step);
	return result;
}
