/*
 * How a client's octets are cut, into segments or into chunks, changes nothing
 * (A7 and B38 of the catalogue of bad input), nor does the choice between DATA
 * and BDAT.
 *
 * wrap: queue_begin msg_id msg_envelope msg_write msg_size msg_abort
 * wrap: queue_commit queue_has_room queue_is_failing sched_add clock_read
 * wrap: sched_waits random_bits log_info log_warning accept4
 */
#include "submission.h"

/* What is stored: envelopes and contents. */
static void
add_stored(struct buf *out)
{
	size_t i;

	for (i = 0; i < world.begun; i++) {
		assert_true(world.message[i].stored);
		buf_add(out, buf_span(&world.message[i].envelope));
		buf_add_char(out, '\n');
		buf_add(out, buf_span(&world.message[i].content));
	}
}

/* Say text, the first octets at once and the others in pieces: the replies,
 * and what is stored. */
static void
transcribe(struct span text, size_t first, size_t piece, struct buf *replies,
    struct buf *kept)
{
	int fd = open_session();

	buf_clear(replies);
	buf_clear(kept);
	(void)tell(fd, span_first(text, first), replies);
	for (text = span_from(text, first); text.len > 0;
	     text = span_from(text, piece))
		(void)tell(fd, span_first(text, piece), replies);
	add_stored(kept);
	(void)close(fd);
	forget_messages();
}

static void
assert_same(const struct buf *a, const struct buf *b)
{
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, a->len);
}

/* Cut a session at each octet, and into single ones. */
static void
cut_everywhere(struct span text, struct buf *kept)
{
	struct buf replies = { 0 }, others = { 0 }, again = { 0 };
	size_t first;

	transcribe(text, text.len, 1, &replies, kept);
	for (first = 0; first < text.len; first++) {
		transcribe(text, first, first == 0 ? 1 : text.len, &others,
		    &again);
		assert_same(&others, &replies);
		assert_same(&again, kept);
	}
	buf_free(&replies);
	buf_free(&others);
	buf_free(&again);
}

static void
a_session_may_be_cut_anywhere(void **state)
{
	struct buf kept = { 0 };

	(void)state;
	cut_everywhere(
	    SPAN(HELLO ENVELOPE
		"DATA\r\n" HEADER
		"\r\n.\r\r\n..a\r\n\xc3\xa4\nb\rc\r\n.\r\nFOO\r\n" ENVELOPE
		"BDAT 5\r\nhe\r\nlBDAT 6 LAST\r\n\no\n.\r\nNOOP\r\nQUIT\r\n"),
	    &kept);
	assert_non_null(strstr(buf_text(&kept),
	    "\r\n\r\n.\r\n\r\n.a\r\n\xc3\xa4\r\nb\r\nc\r\n"));
	assert_non_null(
	    strstr(buf_text(&kept), "\r\n\r\nhe\r\nl\r\no\r\n.\r\n"));
	buf_free(&kept);
}

/* ---- messages ---- */

#define A100                                                 \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A1000 A100 A100 A100 A100 A100 A100 A100 A100 A100 A100

/* As a client has them, with the dots that are meant. */
static const struct span messages[] = {
	SPAN(""),
	SPAN("a"),
	SPAN("\r\n"),
	SPAN("."),
	SPAN(HEADER "\r\n.\r\n..\r\n.a\r\n...\r\n\r\n.\r\n"),
	SPAN(HEADER "Subject: header only\r\n"),
	SPAN(HEADER "\r\n\r\n\r\nno final newline"),
	SPAN(HEADER "\r\n\xc3\xa4\xff\x00\x80\r\n\xe2\x82\xac.\r\n"),
	SPAN(HEADER "Subject: " A1000 "\r\nTo: root, x@d.example,\r\n\t"
		    "y@d.example\r\nX: " A100 "\r\n " A100 "\r\n\r\nx\r\n"),
	SPAN(HEADER "Bcc: root,\r\n x@d.example,\r\n\ty@d.example\r\n"
		    "Return-Path: <x@d.example>\r\nX: y\r\n\r\nx\r\n"),
	SPAN("Subject: no more header\r\nFrom: root (Cron)\r\nbody: at\r\n"
	     "once, without a line between\r\n"),
	SPAN("From root Tue Nov 24 05:14:29 2026\r\n" HEADER "\r\nmbox\r\n"),
	SPAN("\xef\xbb\xbf" HEADER "\r\nbyte order mark\r\n"),
	SPAN(HEADER "Subject: bare LF\n\na\nb\n\nc\r\n"),
	SPAN(HEADER "Subject: bare CR\r\rprogress\rbar\r\n\r\r\nx"),
};

/* By DATA: dots stuffed, a last line completed. */
static void
say_data(struct span message, struct buf *out)
{
	size_t i;

	buf_add_text(out, HELLO ENVELOPE "DATA\r\n");
	for (i = 0; i < message.len; i++) {
		if (message.data[i] == '.' &&
		    (i == 0 || message.data[i - 1] == '\n'))
			buf_add_char(out, '.');
		buf_add_char(out, message.data[i]);
	}
	if (i > 0 && message.data[i - 1] != '\n')
		buf_add_text(out, "\r\n");
	buf_add_text(out, ".\r\n");
}

/* In chunks of so many octets; the last one has what is left, if only an empty
 * rest. */
static void
say_chunks(struct span message, size_t octets, struct buf *out)
{
	struct span piece;

	buf_add_text(out, HELLO ENVELOPE);
	for (; message.len >= octets; message = span_from(message, octets)) {
		piece = span_first(message, octets);
		buf_printf(out, "BDAT %zu\r\n", piece.len);
		buf_add(out, piece);
	}
	buf_printf(out, "BDAT %zu LAST\r\n", message.len);
	buf_add(out, message);
}

/* The first chunk of so many octets, another of the rest, and an empty one. */
static void
say_two_chunks(struct span message, size_t octets, struct buf *out)
{
	struct span rest = span_from(message, octets);

	buf_printf(out, HELLO ENVELOPE "BDAT %zu\r\n", octets);
	buf_add(out, span_first(message, octets));
	buf_printf(out, "BDAT %zu\r\n", rest.len);
	buf_add(out, rest);
	buf_add_text(out, "BDAT 0 LAST\r\n");
}

static void
check_message(struct span message)
{
	struct buf text = { 0 }, kept = { 0 }, again = { 0 }, replies = { 0 };
	size_t octets;

	say_data(message, &text);
	cut_everywhere(buf_span(&text), &kept);
	for (octets = 1; octets <= message.len + 1; octets++) {
		buf_clear(&text);
		say_chunks(message, octets, &text);
		transcribe(buf_span(&text), text.len, 1, &replies, &again);
		assert_same(&again, &kept);
		buf_clear(&text);
		say_two_chunks(message, octets - 1, &text);
		transcribe(buf_span(&text), text.len, 1, &replies, &again);
		assert_same(&again, &kept);
	}
	buf_clear(&text);
	say_chunks(message, 7, &text);
	cut_everywhere(buf_span(&text), &again);
	assert_same(&again, &kept);
	buf_free(&text);
	buf_free(&kept);
	buf_free(&again);
	buf_free(&replies);
}

static void
data_and_chunks_are_stored_alike_however_they_are_cut(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
		check_message(messages[i]);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_session_may_be_cut_anywhere),
		TEST(data_and_chunks_are_stored_alike_however_they_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
