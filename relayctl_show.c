/*
 * relayctl show: the envelope and the content of one message, wherever in the
 * spool it is.
 */
#include "relayctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- the envelope ---- */

static void
add_given(struct buf *out, const char *sent, const char *given)
{
	buf_add_char(out, '<');
	buf_add_escaped(out, span_of(sent));
	buf_add_char(out, '>');
	if (strcmp(sent, given) == 0)
		return;
	buf_add_text(out, " (given as <");
	buf_add_escaped(out, span_of(given));
	buf_add_text(out, ">)");
}

static void
add_source(struct buf *out, const struct envelope *e, int64_t now_ms)
{
	buf_add_text(out, "arrived: ");
	report_add_time(out, e->arrived_ms);
	buf_add_text(out, ", ");
	report_add_duration(out, (now_ms - e->arrived_ms) / 1000);
	buf_add_text(out, " ago, from ");
	buf_add_escaped(out, span_of(e->client));
	if (e->uid != -1)
		buf_printf(out, ", uid %" PRId64, e->uid);
	buf_add_text(out, "\nsender: ");
	add_given(out, e->sender, e->original_sender);
	buf_add_char(out, '\n');
}

static void
add_envelope(struct buf *out, const struct entry *e, enum queue_place place)
{
	struct instant now;
	char id[QUEUE_ID_MAX];
	size_t i;

	clock_read(&now);
	queue_id_text(e->id, id);
	buf_printf(out, "id: %s\nstate: %s\nsize: %" PRIu64 "\n", id,
	    report_place(place), e->size);
	add_source(out, &e->envelope, now.wall_ms);
	buf_printf(out, "attempts: %u\n", e->attempts);
	if (e->next_ms > now.wall_ms && place == PLACE_CUR) {
		buf_add_text(out, "next try: in ");
		report_add_duration(out, (e->next_ms - now.wall_ms) / 1000);
		buf_add_char(out, '\n');
	}
	if (e->reason[0] != '\0') {
		buf_add_text(out, "reason: ");
		buf_add_text(out, e->reason);
		buf_add_char(out, '\n');
	}
	for (i = 0; i < e->envelope.recipient_count; i++) {
		const struct recipient *r = &e->envelope.recipient[i];

		buf_printf(out, "recipient: %s, ",
		    report_recipient_state(r->state));
		add_given(out, r->address, r->original);
		buf_add_char(out, '\n');
	}
	buf_add_char(out, '\n');
}

/* ---- the content ---- */

/* Could it move the cursor, or worse: a control of C0 or C1 (ECMA-48)? */
static bool
is_control(struct span character)
{
	unsigned char c = (unsigned char)character.data[0];

	if (character.len == 1)
		return (c < ' ' && c != '\n' && c != '\t') || c == 0x7f;
	return character.len == 2 && c == 0xc2 &&
	    (unsigned char)character.data[1] < 0xa0;
}

/* For a terminal: what it might obey, or can't show, as \xNN.  returns how
 * many octets of text were dealt with: a character may be cut at its end. */
static size_t
add_visible(struct buf *out, struct span text, bool last)
{
	enum { UTF8_MAX = 4 };
	struct span rest = text;

	while (rest.len > 0 && (last || rest.len >= UTF8_MAX)) {
		size_t i, len = span_utf8(rest);
		bool plain = len > 0 && !is_control(span_first(rest, len));

		len = len == 0 ? 1 : len;
		if (span_starts_nocase(rest, SPAN("\r\n"))) {
			rest = span_from(rest, 1); /* the line end shows */
			continue;
		}
		if (plain)
			buf_add(out, span_first(rest, len));
		for (i = 0; !plain && i < len; i++)
			buf_printf(out, "\\x%02x", (unsigned char)rest.data[i]);
		rest = span_from(rest, len);
	}
	return text.len - rest.len;
}

/* returns 0, or -1 with errno. */
static int
print_content(struct entry *e, bool terminal)
{
	struct buf text = { NULL, 0, 0 }, shown = { NULL, 0, 0 };
	ssize_t n;

	do {
		buf_reserve(&text, 64 << 10);
		n = entry_read(e, text.data + text.len, 64 << 10);
		text.len += n > 0 ? (size_t)n : 0;
		if (terminal) {
			buf_drop(&text,
			    add_visible(&shown, buf_span(&text), n <= 0));
			relayctl_print(stdout, buf_span(&shown));
			buf_clear(&shown);
		} else {
			relayctl_print(stdout, buf_span(&text));
			buf_clear(&text);
		}
	} while (n > 0 && ferror(stdout) == 0);
	buf_free(&text);
	buf_free(&shown);
	return n == -1 ? -1 : 0;
}

/* ---- the verb ---- */

static int
complain(const char *id)
{
	(void)relayctl_refuse(id,
	    errno == ENOENT        ? "no such message"
		: errno == EBADMSG ? "it is damaged"
				   : strerror(errno));
	return STATUS_WRONG;
}

int
relayctl_show(const struct ctl *ctl, int argc, char **argv)
{
	struct buf envelope = { NULL, 0, 0 };
	enum queue_place place;
	struct entry *e;
	struct queue *q;
	queue_id id;
	int status = STATUS_GOOD;

	if (argc != 2)
		return relayctl_usage();
	if (!queue_id_parse(span_of(argv[1]), &id))
		return relayctl_refuse(argv[1], "not a queue id");
	q = relayctl_need_spool(ctl);
	if (q == NULL)
		return STATUS_WRONG;
	e = queue_look(q, id, &place);
	if (e == NULL) {
		status = complain(argv[1]);
	} else {
		add_envelope(&envelope, e, place);
		relayctl_print(stdout, buf_span(&envelope));
		if (print_content(e, isatty(STDOUT_FILENO) == 1) == -1)
			status = complain(argv[1]);
	}
	entry_close(e);
	queue_close(q);
	buf_free(&envelope);
	return status;
}
