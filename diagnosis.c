/*
 * What was last heard of each recipient, for the report to the sender: lines
 * behind the message in its spool file (see spool.h).  They are worth having,
 * but nothing that was promised depends on them.
 */
#include "spool.h"

#include <sys/stat.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Printable ASCII, which stays as it is when it comes from a note again. */
static char *
printable(const char *text)
{
	struct span s = span_first(span_of(text), LIMIT_REPLY_KEPT);
	struct buf out = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];

		if (c >= ' ' && c < 0x7f)
			buf_add_char(&out, s.data[i]);
		else
			buf_printf(&out, "\\x%02x", c);
	}
	buf_add_char(&out, '\0');
	return out.data;
}

void
recipient_diagnose(struct recipient *r, const char *status, const char *peer,
    const char *reply, int64_t at_ms)
{
	struct diagnosis was = r->last;

	(void)snprintf(r->last.status, sizeof(r->last.status), "%s", status);
	r->last.peer = printable(peer);
	r->last.reply = printable(reply);
	r->last.at_ms = at_ms;
	free(was.peer);
	free(was.reply);
}

/* ---- in the file ---- */

void
spool_format_note(const struct recipient *r, size_t index, struct buf *out)
{
	buf_printf(out, "note\t%zu\t%s\t%" PRId64 "\t%s\t%s\n", index,
	    r->last.status, r->last.at_ms, r->last.peer, r->last.reply);
}

/* Of what was written by spool_format_note().  A line that was torn by a crash
 * is none. */
static void
parse_note(struct span line, struct envelope *e)
{
	enum { KEY, INDEX, STATUS, AT, PEER, REPLY, FIELDS };
	struct span field[FIELDS];
	char *text[FIELDS] = { NULL };
	uint64_t index, at_ms;
	size_t i;

	for (i = KEY; i < REPLY; i++) {
		if (!span_cut(line, '\t', &field[i], &line))
			return;
	}
	field[REPLY] = line;
	if (!spool_is_clean(field[STATUS]) || !spool_is_clean(field[PEER]) ||
	    !spool_is_clean(field[REPLY]))
		return;
	if (!span_equal(field[KEY], SPAN("note")) ||
	    !parse_number(field[INDEX], UINT32_MAX, &index) ||
	    index >= e->recipient_count ||
	    !parse_number(field[AT], INT64_MAX, &at_ms))
		return;
	for (i = STATUS; i < FIELDS; i++)
		text[i] = span_text(field[i]);
	recipient_diagnose(&e->recipient[index], text[STATUS], text[PEER],
	    text[REPLY], (int64_t)at_ms);
	for (i = STATUS; i < FIELDS; i++)
		free(text[i]);
}

bool
spool_load_notes(int fd, uint64_t at, struct envelope *e, uint64_t *end)
{
	struct buf raw = { NULL, 0, 0 };
	struct span line, rest;
	struct stat st;
	uint64_t size = 0;
	bool warned = false;

	*end = at;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > at)
		size = (uint64_t)st.st_size - at;
	if (size > SPOOL_NOTES_MAX)
		size = SPOOL_NOTES_MAX;
	buf_reserve(&raw, size + 1);
	if (size > 0 && spool_read_at(fd, raw.data, size, at) == 1)
		raw.len = size;
	for (rest = buf_span(&raw); span_cut(rest, '\n', &line, &rest);) {
		*end += line.len + 1;
		if (span_equal(line, SPAN("warned")))
			warned = true;
		else
			parse_note(line, e);
	}
	buf_free(&raw);
	return warned;
}
