/*
 * One message stays one, whatever its octets: every string of CR, LF, dot and
 * x, as a part of a body, goes through the session's own code and is read
 * again as it would be sent on (B18 of the catalogue of bad input).
 *
 * What is to come of each is worked out here from RFC 5321, without text.c.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: sched_waits random_bits log_info log_warning accept4
 */
#include "model_content.h"
#include "submission.h"

enum {
	LONGEST = 8,
	BATCH = 64,         /* messages of one session */
	ERRORS_OF_ONE = 10, /* refused commands behind a message, at most */
};

#define SMUGGLED "MAIL FROM:<evil@b.example>"

/* Where in a body a string stands: at its head, in its middle, at its end. */
static const struct {
	const char *before;
	const char *after;
} places[] = {
	{ "", SMUGGLED "\r\n" },
	{ "a\r\na", SMUGGLED "\r\nz\r\n" },
	{ SMUGGLED "\r\na", "" },
};

enum { PLACES_IN_BODY = sizeof(places) / sizeof(places[0]) };

/* ---- the model: what a strict reader makes of a client's octets ---- */

/* A session to be played, and what is to come of it. */
struct script {
	struct buf text;
	struct buf codes;
	struct buf body[BATCH]; /* of each message as stored */
	size_t count;
	size_t errors;
	struct buf wire; /* scratch */
	struct buf read;
};

static void
begin_script(struct script *s)
{
	buf_add_text(&s->text, HELLO);
	buf_add_text(&s->codes, "220 250");
}

/* Behind the end of data a line is a command, up to its LF. */
static void
model_commands(struct span rest, struct script *s)
{
	struct span line;
	bool known;

	while (span_cut(rest, '\n', &line, &rest)) {
		known = span_equal(line, SPAN(SMUGGLED "\r"));
		s->errors += !known;
		buf_add_text(&s->codes, known ? " 250" : " 500");
	}
	assert_int_equal(rest.len, 0);
}

static void
add_data(struct script *s, struct span body)
{
	struct span data;
	size_t at, end;

	buf_add_text(&s->text, ENVELOPE "DATA\r\n" HEADER);
	buf_add_text(&s->codes, " 250 250 354 250");
	at = s->text.len;
	buf_add_text(&s->text, "\r\n");
	buf_add(&s->text, body);
	buf_add_text(&s->text, "\r\n.\r\n");
	data = span_from(buf_span(&s->text), at);
	end = (size_t)((char *)memmem(data.data, data.len, "\r\n.\r\n", 5) -
	    data.data);
	model_commands(span_from(data, end + 5), s);
	model_content(span_from(span_first(data, end + 2), 2), true,
	    &s->body[s->count++]);
	buf_add_text(&s->text, "RSET\r\n"); /* it may have said MAIL */
	buf_add_text(&s->codes, " 250");
}

static void
add_chunk(struct script *s, struct span body)
{
	struct span header = SPAN(HEADER "\r\n");

	buf_printf(&s->text, ENVELOPE "BDAT %zu LAST\r\n",
	    header.len + body.len);
	buf_add(&s->text, header);
	buf_add(&s->text, body);
	buf_add_text(&s->codes, " 250 250 250");
	model_content(body, false, &s->body[s->count++]);
}

/* ---- readers of what is sent on ---- */

#define CR_ENDS 1u
#define LF_ENDS 2u

/* What ends a line besides CRLF, before a single dot and behind it. */
static const struct reader {
	unsigned before;
	unsigned behind;
} readers[] = {
	{ 0, 0 }, /* strict */
	{ LF_ENDS, LF_ENDS },
	{ CR_ENDS, CR_ENDS },
	{ LF_ENDS, 0 },
};

/* The octets of a line's end that begins s, or 0. */
static size_t
line_end(struct span s, unsigned bare)
{
	if (s.len > 1 && s.data[0] == '\r' && s.data[1] == '\n')
		return 2;
	return s.len > 0 &&
	    ((s.data[0] == '\r' && (bare & CR_ENDS) != 0) ||
		(s.data[0] == '\n' && (bare & LF_ENDS) != 0));
}

/* Read a message as that reader does; returns the octets up to its end, 0 if
 * that never comes. */
static size_t
read_message(const struct reader *r, struct span wire, bool dots,
    struct buf *out)
{
	struct span rest = wire, line;
	size_t end;
	bool start = true;

	buf_clear(out);
	while (rest.len > 0) {
		if (dots && start && rest.data[0] == '.') {
			rest = span_from(rest, 1);
			end = line_end(rest, r->behind);
			if (end > 0)
				return wire.len - rest.len + end;
		}
		line = text_of_line(rest);
		buf_add(out, line);
		rest = span_from(rest, line.len);
		end = line_end(rest, r->before);
		start = end > 0;
		if (start)
			buf_append(out, "\r\n", 2);
		else
			buf_add(out, span_first(rest, 1));
		rest = span_from(rest, start ? end : 1);
	}
	return dots ? 0 : wire.len;
}

/* The message is the same to all of them, by DATA and by BDAT. */
static void
check_readers(struct script *s, struct span content)
{
	bool start = true;
	size_t i;

	buf_clear(&s->wire);
	smtp_encode_dots(&start, content, &s->wire);
	buf_add_text(&s->wire, ".\r\n");
	for (i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
		const struct reader *r = &readers[i];

		assert_int_equal(
		    read_message(r, buf_span(&s->wire), true, &s->read),
		    s->wire.len);
		assert_true(span_equal(buf_span(&s->read), content));
		(void)read_message(r, content, false, &s->read);
		assert_true(span_equal(buf_span(&s->read), content));
	}
}

/* ---- the proof ---- */

static void
play_script(struct script *s)
{
	size_t i, body;

	buf_add_text(&s->codes, " open");
	play(buf_span(&s->text), buf_text(&s->codes));
	assert_int_equal(world.begun, s->count);
	assert_int_equal(stored(), s->count);
	for (i = 0; i < s->count; i++) {
		struct span content = buf_span(&world.message[i].content);

		assert_string_equal(buf_text(&world.message[i].envelope),
		    "a@b.example<a@b.example> userid 1000 1000:"
		    " c@d.example<c@d.example>");
		body = (size_t)((char *)memmem(content.data, content.len,
				    "\r\n\r\n", 4) -
			   content.data) +
		    4;
		assert_true(span_equal(span_from(content, body),
		    buf_span(&s->body[i])));
		check_readers(s, content);
		buf_clear(&s->body[i]);
	}
	forget_messages();
	buf_clear(&s->text);
	buf_clear(&s->codes);
	s->count = s->errors = 0;
}

/* The string of that number among those of its length. */
static void
add_string(size_t number, size_t length, struct buf *out)
{
	for (; length > 0; length--, number /= 4)
		buf_add_char(out, "\r\n.x"[number % 4]);
}

static void
add_messages(struct script *s, size_t number, size_t length)
{
	struct buf body = { 0 };
	size_t i;

	for (i = 0; i < PLACES_IN_BODY; i++) {
		buf_clear(&body);
		buf_add_text(&body, places[i].before);
		add_string(number, length, &body);
		buf_add_text(&body, places[i].after);
		add_data(s, buf_span(&body));
		add_chunk(s, buf_span(&body));
		if (s->count == BATCH ||
		    s->errors + ERRORS_OF_ONE > LIMIT_ERRORS) {
			play_script(s);
			begin_script(s);
		}
	}
	buf_free(&body);
}

static void
no_string_makes_two_messages_of_one(void **state)
{
	struct script s = { 0 };
	size_t length, number, strings = 0;

	(void)state;
	begin_script(&s);
	for (length = 1; length <= LONGEST; length++) {
		for (number = 0; number < (size_t)1 << 2 * length; number++) {
			add_messages(&s, number, length);
			strings++;
		}
	}
	play_script(&s);
	assert_int_equal(strings, 87380);
	for (number = 0; number < BATCH; number++)
		buf_free(&s.body[number]);
	buf_free(&s.text);
	buf_free(&s.codes);
	buf_free(&s.wire);
	buf_free(&s.read);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    no_string_makes_two_messages_of_one, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
