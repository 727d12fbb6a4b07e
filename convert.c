/*
 * Content converted on its way to the relayhost: read once to plan it (mime.c)
 * and so to know its size before MAIL, and once more to send it.  Memory does
 * not grow with the message.
 */
#include "convert.h"
#include "mime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE = 16 << 10,              /* octets of the source a time */
	SLICE = 256 << 10,             /* of the plan, before others' turn */
	HEADER_MAX = 2 * LIMIT_HEADER, /* with what was added on its way in */
};

struct conversion {
	struct entry *entry;
	unsigned wanted;
	/* The source: the entry, but for its header if there is another. */
	struct buf header;
	size_t header_octets; /* of the entry's own; 0: it is not replaced */
	size_t header_read;
	/* The plan. */
	struct planner *planner; /* at work; NULL: not begun or done */
	struct plan plan;
	/* Carrying it out. */
	uint64_t at; /* of the source */
	size_t edit; /* the next or present one */
	bool inside; /* it has begun */
	struct encoder encoder;
	struct buf window; /* read from the source, not converted yet */
	size_t taken;
	struct buf ready; /* converted, not handed out yet */
	size_t given;
};

unsigned
convert_wanted(const struct entry *e, unsigned can)
{
	unsigned wanted = 0;

	if ((e->has & TEXT_LONG_LINE) != 0)
		wanted |= CONVERT_LONG_LINE;
	if ((e->has & TEXT_8BIT) == 0)
		return wanted;
	if ((can & SMTP_CAN_8BITMIME) == 0)
		wanted |= CONVERT_8BIT;
	if (e->envelope.utf8 && (can & SMTP_CAN_SMTPUTF8) == 0)
		wanted |= CONVERT_HEADER;
	return wanted;
}

struct conversion *
conversion_new(struct entry *e, unsigned wanted)
{
	struct conversion *c = mem_alloc(sizeof(*c));

	c->entry = e;
	c->wanted = wanted;
	entry_rewind(e);
	return c;
}

void
conversion_free(struct conversion *c)
{
	if (c == NULL)
		return;
	planner_free(c->planner);
	plan_free(&c->plan);
	buf_free(&c->header);
	buf_free(&c->window);
	buf_free(&c->ready);
	free(c);
}

/* ---- the source ---- */

static void
rewind_source(struct conversion *c)
{
	entry_rewind(c->entry);
	c->header_read = 0;
	c->at = 0;
}

/* The entry's own header is read, for the checksum, but not used. */
static int
pass_header(struct conversion *c)
{
	char piece[PIECE];
	size_t left = c->header_octets;

	while (left > 0) {
		ssize_t n = entry_read(c->entry, piece,
		    left < sizeof(piece) ? left : sizeof(piece));

		if (n == 0)
			errno = EBADMSG;
		if (n <= 0)
			return -1;
		left -= (size_t)n;
	}
	return 0;
}

static ssize_t
read_source(struct conversion *c, char *out, size_t size)
{
	struct span rest = span_from(buf_span(&c->header), c->header_read);

	if (rest.len == 0)
		return entry_read(c->entry, out, size);
	if (c->header_read == 0 && pass_header(c) == -1)
		return -1;
	rest = span_first(rest, size);
	memcpy(out, rest.data, rest.len);
	c->header_read += rest.len;
	return (ssize_t)rest.len;
}

/* ---- the plan ---- */

/* The header section, which is all of it that is read. */
static int
read_header(struct conversion *c, struct buf *text, size_t *header)
{
	size_t scanned = 0, body;
	char piece[PIECE];
	ssize_t n;

	do {
		n = entry_read(c->entry, piece, sizeof(piece));
		if (n == -1)
			return -1;
		buf_append(text, piece, (size_t)n);
		if (header_end(buf_span(text), &scanned, header, &body))
			return 0;
	} while (n > 0 && text->len <= HEADER_MAX);
	*header = text->len;
	return 0;
}

static enum conversion_state
replace_header(struct conversion *c)
{
	struct buf text = { NULL, 0, 0 };
	enum conversion_state state = CONVERSION_READY;
	struct span header;
	size_t octets;

	if (read_header(c, &text, &octets) == -1) {
		state = CONVERSION_ERROR;
		goto out;
	}
	header = span_first(buf_span(&text), octets);
	if (!header_downgrade(header, &c->header))
		state = CONVERSION_IMPOSSIBLE;
	else if (span_equal(buf_span(&c->header), header))
		buf_free(&c->header);
	else
		c->header_octets = octets;
	rewind_source(c);
out:
	buf_free(&text);
	return state;
}

static enum conversion_state
continue_plan(struct conversion *c)
{
	char piece[PIECE];
	size_t octets;
	ssize_t n;

	for (octets = 0; octets < SLICE; octets += (size_t)n) {
		n = read_source(c, piece, sizeof(piece));
		if (n == -1)
			return CONVERSION_ERROR;
		if (n == 0) {
			planner_end(c->planner, &c->plan);
			return CONVERSION_READY;
		}
		planner_feed(c->planner, (struct span){ piece, (size_t)n });
	}
	return CONVERSION_MORE;
}

enum conversion_state
conversion_prepare(struct conversion *c)
{
	unsigned bodies = CONVERT_8BIT | CONVERT_LONG_LINE;
	enum conversion_state state = CONVERSION_READY;

	if (c->planner == NULL && (c->wanted & CONVERT_HEADER) != 0)
		state = replace_header(c);
	if (c->planner == NULL && (c->wanted & bodies) != 0)
		c->planner = planner_new((c->wanted & CONVERT_8BIT) != 0);
	if (state == CONVERSION_READY && c->planner != NULL)
		state = continue_plan(c);
	if (state == CONVERSION_READY && c->header_octets == 0 &&
	    c->plan.encoded == 0)
		state = CONVERSION_NEEDLESS;
	return state;
}

/* ---- the result ---- */

uint64_t
conversion_size(const struct conversion *c)
{
	uint64_t size = c->entry->size - c->header_octets + c->header.len;

	return size + (uint64_t)c->plan.growth;
}

void
conversion_rewind(struct conversion *c)
{
	rewind_source(c);
	c->edit = 0;
	c->inside = false;
	buf_clear(&c->window);
	c->taken = 0;
	buf_clear(&c->ready);
	c->given = 0;
}

static int
fill_window(struct conversion *c)
{
	ssize_t n;

	buf_clear(&c->window);
	c->taken = 0;
	buf_reserve(&c->window, PIECE);
	n = read_source(c, c->window.data, PIECE);
	if (n == -1)
		return -1;
	c->window.len = (size_t)n;
	return 0;
}

static void
begin_edit(struct conversion *c, const struct edit *e)
{
	c->inside = true;
	c->encoder = (struct encoder){ .coding = e->coding };
	if (e->coding == CODING_TEXT)
		buf_add_text(&c->ready, e->text);
}

static void
end_edit(struct conversion *c, const struct edit *e)
{
	if (e->coding != CODING_NONE && e->coding != CODING_TEXT)
		encode_end(&c->encoder, e->last, &c->ready);
	c->inside = false;
	c->edit++;
}

/* Begin or end an edit that does so here. */
static bool
turn_edit(struct conversion *c)
{
	const struct edit *e;

	if (c->edit == c->plan.count)
		return false;
	e = &c->plan.edit[c->edit];
	if (!c->inside && e->from == c->at)
		begin_edit(c, e);
	else if (c->inside && e->to == c->at)
		end_edit(c, e);
	else
		return false;
	return true;
}

/* Convert what the window has, up to where an edit begins or ends. */
static void
convert_some(struct conversion *c)
{
	struct span text = span_from(buf_span(&c->window), c->taken);
	const struct edit *e = NULL;
	uint64_t until = UINT64_MAX;

	if (c->edit < c->plan.count) {
		e = &c->plan.edit[c->edit];
		until = c->inside ? e->to : e->from;
	}
	if (until - c->at < text.len)
		text.len = (size_t)(until - c->at);
	c->taken += text.len;
	c->at += text.len;
	if (e == NULL || !c->inside)
		buf_add(&c->ready, text);
	else if (e->coding != CODING_TEXT)
		encode(&c->encoder, text, &c->ready);
}

/* Get something ready; 0: there is nothing more; -1: errno. */
static int
make_ready(struct conversion *c)
{
	buf_clear(&c->ready);
	c->given = 0;
	while (c->ready.len == 0) {
		if (turn_edit(c))
			continue;
		if (c->taken == c->window.len && fill_window(c) == -1)
			return -1;
		if (c->window.len == 0)
			return 0;
		convert_some(c);
	}
	return 1;
}

ssize_t
conversion_read(struct conversion *c, char *out, size_t size)
{
	struct span rest;
	int result = 1;

	if (c->given == c->ready.len)
		result = make_ready(c);
	if (result <= 0)
		return result;
	rest = span_first(span_from(buf_span(&c->ready), c->given), size);
	memcpy(out, rest.data, rest.len);
	c->given += rest.len;
	return (ssize_t)rest.len;
}
