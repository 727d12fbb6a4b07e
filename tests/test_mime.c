/*
 * mime.c with mime_header.c, encode.c and convert.c: what becomes of whole
 * messages.
 *
 * wrap: entry_read entry_rewind
 */
#include "convert.h"
#include "relayd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define X100                                                 \
	"01234567890123456789012345678901234567890123456789" \
	"01234567890123456789012345678901234567890123456789"
#define LINE_500 X100 X100 X100 X100 X100
#define LONG     LINE_500 LINE_500
#define MIME     "MIME-Version: 1.0\r\n"
#define TYPE     "Content-Type: "
#define CTE      "Content-Transfer-Encoding: "

/* ---- the spool ---- */

static struct {
	struct span text;
	size_t at;
	size_t piece; /* octets a read at most; 0: all */
	int error;    /* instead of the end */
} source;

ssize_t __wrap_entry_read(struct entry *e, char *out, size_t size);
void __wrap_entry_rewind(struct entry *e);

ssize_t
__wrap_entry_read(struct entry *e, char *out, size_t size)
{
	struct span rest = span_from(source.text, source.at);

	(void)e;
	if (source.piece > 0 && size > source.piece)
		size = source.piece;
	rest = span_first(rest, size);
	if (source.error != 0 && source.at + rest.len == source.text.len) {
		errno = source.error;
		return -1;
	}
	memcpy(out, rest.data, rest.len);
	source.at += rest.len;
	return (ssize_t)rest.len;
}

void
__wrap_entry_rewind(struct entry *e)
{
	(void)e;
	source.at = 0;
}

/* ---- converting ---- */

static enum conversion_state
prepare(struct conversion *c)
{
	enum conversion_state state;

	do {
		state = conversion_prepare(c);
	} while (state == CONVERSION_MORE);
	return state;
}

/* The message as it would be sent; twice, as it may be. */
static enum conversion_state
convert(struct span text, unsigned wanted, struct buf *out)
{
	struct entry e = { .size = text.len };
	struct conversion *c = conversion_new(&e, wanted);
	enum conversion_state state;
	char piece[1000];
	ssize_t n;
	int turn;

	source.text = text;
	state = prepare(c);
	buf_clear(out);
	if (state == CONVERSION_NEEDLESS)
		buf_add(out, text);
	for (turn = 0; state == CONVERSION_READY && turn < 2; turn++) {
		buf_clear(out);
		conversion_rewind(c);
		while ((n = conversion_read(c, piece, sizeof(piece))) > 0)
			buf_append(out, piece, (size_t)n);
		assert_int_equal(n, 0);
		assert_int_equal(out->len, conversion_size(c));
	}
	conversion_free(c);
	return state;
}

/* ---- tables ---- */

struct row {
	const char *in;
	const char *out; /* NULL: as it is */
};

static void
run(const struct row *rows, size_t count, unsigned wanted)
{
	struct buf out = { 0 };
	size_t i, piece;

	for (i = 0; i < count; i++) {
		for (piece = 0; piece < 40; piece += 1 + piece / 4) {
			const char *wish =
			    rows[i].out == NULL ? rows[i].in : rows[i].out;
			enum conversion_state state;

			source.piece = piece;
			state = convert(span_of(rows[i].in), wanted, &out);
			assert_string_equal(buf_text(&out), wish);
			assert_int_equal(state,
			    rows[i].out == NULL ? CONVERSION_NEEDLESS
						: CONVERSION_READY);
		}
	}
	source.piece = 0;
	buf_free(&out);
}

static void
I56_eight_bit_leaves_are_encoded(void **state)
{
	static const struct row rows[] = {
		{ "S: x\r\n\r\nabc\r\n", NULL },
		{ "S: \xc3\xa4\r\n\r\nabc\r\n", NULL }, /* D25 */
		{ "", NULL },
		{ "S: x\r\n", NULL },
		/* no MIME header at all */
		{ "S: x\r\n\r\n\xc3\xa4 is long enough for Q\r\n",
		    "S: x\r\n" MIME TYPE "text/plain; charset=utf-8\r\n" CTE
		    "quoted-printable\r\n\r\n=C3=A4 is long enough for Q\r\n" },
		{ "S: x\r\n\r\n\xe4 is long enough for Q\r\n",
		    "S: x\r\n" MIME TYPE
		    "text/plain; charset=unknown-8bit\r\n" CTE
		    "quoted-printable\r\n\r\n=E4 is long enough for Q\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows), CONVERT_8BIT);
}

static void
the_header_says_what_the_body_is(void **state)
{
	static const struct row rows[] = {
		/* in its place, folded, commented; the type stays */
		{ MIME CTE " (c)\r\n\t8BIT\r\nS: x\r\n" TYPE "text/html\r\n"
			   "\r\n\xe4 is long enough\r\n",
		    MIME CTE "quoted-printable\r\nS: x\r\n" TYPE "text/html\r\n"
			     "\r\n=E4 is long enough\r\n" },
		{ TYPE "text/html\r\n\r\n\xe4 is long enough\r\n",
		    TYPE "text/html\r\n" MIME CTE "quoted-printable\r\n"
			 "\r\n=E4 is long enough\r\n" },
		/* mostly beyond ASCII */
		{ MIME TYPE "text/plain\r\n\r\n\xe4\xe4\xe4\xe4\r\n",
		    MIME TYPE "text/plain\r\n" CTE "base64\r\n"
			      "\r\n5OTk5A0K\r\n" },
		/* no text */
		{ MIME TYPE "image/png\r\n" CTE
			    "binary\r\n\r\nlong text\xff\r\n",
		    MIME TYPE "image/png\r\n" CTE "base64\r\n"
			      "\r\nbG9uZyB0ZXh0/w0K\r\n" },
		/* claims to be encoded */
		{ MIME CTE "Base64\r\n\r\nZm9v\xe4\r\n",
		    MIME CTE "Base64\r\n\r\nZm9v\r\n" },
		{ MIME CTE "Quoted-Printable\r\n\r\n=C3=A4 \xe4\r\n",
		    MIME CTE "Quoted-Printable\r\n\r\n=C3=A4 =E4\r\n" },
		/* a type that can't be read is text */
		{ MIME TYPE "text\r\n\r\n\xe4 is long enough\r\n",
		    MIME TYPE "text\r\n" CTE "quoted-printable\r\n"
			      "\r\n=E4 is long enough\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows), CONVERT_8BIT);
}

static void
what_must_not_change_does_not(void **state)
{
	static const char *const types[] = { "multipart/signed; boundary=b",
		"multipart/Encrypted; boundary=b", "application/pkcs7-mime",
		"application/x-pkcs7-mime", "application/pkcs7-signature",
		"application/pgp-encrypted", "application/PGP-keys",
		"message/partial", "message/delivery-status", "multipart/mixed",
		"multipart/mixed; boundary=\"\"",
		"multipart/mixed; boundary=a; boundary=b",
		"text/plain\r\nContent-Type: text/html",
		"text/plain\r\n" CTE "7bit\r\n" CTE "8bit",
		"text/plain\r\n" CTE "x-uuencode",
		"multipart/mixed; boundary=b\r\n" CTE "base64",
		"multipart/mixed; boundary=c" /* which never comes */ };
	struct buf text = { 0 }, out = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(types); i++) {
		buf_clear(&text);
		buf_printf(&text,
		    MIME TYPE "%s\r\n\r\n\xe4\r\n--b\r\n\r\n\xe4 " LONG
			      "\r\n--b--\r\n\xe4\r\n",
		    types[i]);
		assert_int_equal(convert(buf_span(&text),
				     CONVERT_8BIT | CONVERT_LONG_LINE, &out),
		    CONVERSION_NEEDLESS);
	}
	buf_free(&text);
	buf_free(&out);
}

#define PART(text) "Content-Type: text/plain\r\n\r\n" text "\r\n"
#define QPART(text)                                                        \
	"Content-Type: text/plain\r\n" CTE "quoted-printable\r\n\r\n" text \
	"\r\n"

static void
each_part_is_converted_by_itself(void **state)
{
	static const struct row rows[] = {
		{ MIME TYPE "multipart/mixed; boundary=b\r\n" CTE "8bit\r\n"
			    "\r\n--b\r\n" PART("as it is") "--b\r\n" PART(
				"\xe4 converted") "--b--\r\n",
		    MIME TYPE "multipart/mixed; boundary=b\r\n" CTE "7bit\r\n"
			      "\r\n--b\r\n" PART("as it is") "--b\r\n" QPART(
				  "=E4 converted") "--b--\r\n" },
		/* before the first and behind the last boundary */
		{ MIME TYPE "multipart/mixed; boundary=b\r\n"
			    "\r\npre \xe4\r\n--b\r\n" PART(
				"x") "--b--\r\n\r\npost \xe4\r\n",
		    MIME TYPE "multipart/mixed; boundary=b\r\n"
			      "\r\npre ?\r\n--b\r\n" PART(
				  "x") "--b--\r\n\r\npost ?\r\n" },
		/* a name that is another's beginning; blanks; no last one */
		{ MIME TYPE "multipart/mixed; (b=c) BOUNDARY (x) =\r\n"
			    "\t\"b\\c\" (y); c=d\r\n\r\n--bc \t\r\n" TYPE
			    "multipart/mixed; boundary=bcd\r\n"
			    "\r\n--bcd\r\n" PART(
				"\xe4 converted") "--bcx\r\n--bcd--\r\n"
						  "--bc  \r\n" PART(
						      "\xe4 converted, too"),
		    MIME TYPE
		    "multipart/mixed; (b=c) BOUNDARY (x) =\r\n"
		    "\t\"b\\c\" (y); c=d\r\n\r\n--bc \t\r\n" TYPE
		    "multipart/mixed; boundary=bcd\r\n"
		    "\r\n--bcd\r\n" QPART(
			"=E4 converted\r\n--bcx") "--bcd--\r\n"
						  "--bc  \r\n" QPART(
						      "=E4 converted, too") },
		/* the outer boundary ends the inner parts */
		{ MIME TYPE
		    "multipart/mixed; boundary=a\r\n\r\n--a\r\n" TYPE
		    "multipart/mixed; boundary=b\r\n\r\n--b\r\n" PART(
			"\xe4 converted") "--a\r\n" PART("\xe4 converted") "--a--\r\n",
		    MIME TYPE
		    "multipart/mixed; boundary=a\r\n\r\n--a\r\n" TYPE
		    "multipart/mixed; boundary=b\r\n\r\n--b\r\n" QPART(
			"=E4 converted") "--a\r\n" QPART("=E4 converted") "--a--\r\n" },
		/* no header, not even its end; no body */
		{ MIME TYPE "multipart/mixed; boundary=a\r\n\r\n--a\r\n"
			    "\xe4 text\r\n--a\r\n--a\r\n\r\n--a\r\n" TYPE
			    "text/plain\r\n--a--\r\n",
		    MIME TYPE "multipart/mixed; boundary=a\r\n\r\n--a\r\n" CTE
			      "quoted-printable\r\n\r\n"
			      "=E4 text\r\n--a\r\n--a\r\n\r\n--a\r\n" TYPE
			      "text/plain\r\n--a--\r\n" },
		/* behind its last one a boundary is text */
		{ MIME TYPE "multipart/mixed; boundary=b\r\n\r\n--b\r\n" PART(
		      "x") "--b--\r\n--b\r\n\r\n\xe4 long enough\r\n",
		    MIME TYPE "multipart/mixed; boundary=b\r\n\r\n--b\r\n" PART(
			"x") "--b--\r\n--b\r\n\r\n? long enough\r\n" },
		/* a label stays where nothing is converted */
		{ MIME TYPE
		    "multipart/mixed; boundary=a\r\n\r\n--a\r\n" TYPE
		    "multipart/mixed; boundary=b\r\n" CTE
		    "8bit\r\n\r\n--b\r\n" PART(
			"x") "--b--\r\n"
			     "--a\r\n" PART("\xe4 converted") "--a--\r\n",
		    MIME TYPE
		    "multipart/mixed; boundary=a\r\n\r\n--a\r\n" TYPE
		    "multipart/mixed; boundary=b\r\n" CTE
		    "8bit\r\n\r\n--b\r\n" PART(
			"x") "--b--\r\n"
			     "--a\r\n" QPART("=E4 converted") "--a--\r\n" },
		/* what is sealed is found in its place */
		{ MIME TYPE
		    "multipart/mixed; boundary=a\r\n" CTE "8bit\r\n"
		    "\r\n--a\r\n" TYPE
		    "multipart/signed; boundary=b\r\n\r\n--b\r\n" PART(
			"\xe4") "--b--\r\n"
				"--a\r\n" PART("\xe4 converted") "--a--\r\n",
		    MIME TYPE
		    "multipart/mixed; boundary=a\r\n" CTE "8bit\r\n"
		    "\r\n--a\r\n" TYPE
		    "multipart/signed; boundary=b\r\n\r\n--b\r\n" PART(
			"\xe4") "--b--\r\n"
				"--a\r\n" QPART("=E4 converted") "--a--\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows), CONVERT_8BIT);
}

/* Where no empty line stands between them, there is one when it matters. */
static void
no_body_comes_to_look_like_its_header(void **state)
{
	static const struct row rows[] = {
		{ MIME TYPE "multipart/mixed; boundary=b\r\n"
			    "\xe4: x\r\n--b\r\n" PART("x") "--b--\r\n\xe4\r\n",
		    MIME TYPE
		    "multipart/mixed; boundary=b\r\n"
		    "\r\n?: x\r\n--b\r\n" PART("x") "--b--\r\n?\r\n" },
		{ TYPE "multipart/mixed; boundary=b\r\n"
		       "\xe4: x\r\n--b\r\n" PART("x") "--b--\r\n",
		    TYPE "multipart/mixed; boundary=b\r\n" MIME
			 "\r\n?: x\r\n--b\r\n" PART("x") "--b--\r\n" },
		{ MIME TYPE "text/plain\r\n" CTE "8bit\r\n"
			    "\xe4: is long enough\r\n",
		    MIME TYPE "text/plain\r\n" CTE "quoted-printable\r\n"
			      "\r\n=E4: is long enough\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows), CONVERT_8BIT);
}

static void
messages_in_messages_are_entered(void **state)
{
	static const struct row rows[] = {
		{ MIME TYPE "message/rfc822\r\n" CTE "8bit\r\n"
			    "\r\nS: y\r\n\r\n\xe4 is long enough\r\n",
		    MIME TYPE
		    "message/rfc822\r\n" CTE "7bit\r\n"
		    "\r\nS: y\r\n" MIME TYPE
		    "text/plain; charset=unknown-8bit\r\n" CTE
		    "quoted-printable\r\n\r\n=E4 is long enough\r\n" },
		/* its header stays, and so does what is said of it */
		{ MIME TYPE "message/rfc822\r\n" CTE "8bit\r\n"
			    "\r\nS: \xe4\r\n" TYPE "text/plain\r\n" MIME
			    "\r\n\xe4 is long enough\r\n",
		    MIME TYPE
		    "message/rfc822\r\n" CTE "8bit\r\n"
		    "\r\nS: \xe4\r\n" TYPE "text/plain\r\n" MIME CTE
		    "quoted-printable\r\n\r\n=E4 is long enough\r\n" },
		/* the default in a digest */
		{ MIME TYPE "multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n"
			    "S: y\r\n" MIME CTE "8bit\r\n\r\n"
			    "\xe4 is long enough\r\n--a--\r\n",
		    MIME TYPE "multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n"
			      "S: y\r\n" MIME CTE "quoted-printable\r\n" TYPE
			      "text/plain; charset=unknown-8bit\r\n\r\n"
			      "=E4 is long enough\r\n--a--\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows), CONVERT_8BIT);
}

/* ---- lines ---- */

static void
add_line(struct buf *b, size_t octets)
{
	size_t at = b->len;

	buf_reserve(b, octets);
	memset(b->data + at, 'x', octets);
	b->len += octets;
	buf_add_text(b, "\r\n");
}

/* Quoted-printable of plain lines: only soft breaks to take out. */
static void
join_lines(struct span text, struct buf *out)
{
	size_t i;

	buf_clear(out);
	for (i = 0; i < text.len; i++) {
		if (text.data[i] == '=')
			i += 2;
		else
			buf_add_char(out, text.data[i]);
	}
}

static void
B21_only_lines_of_over_998_octets_are_encoded(void **state)
{
	static const size_t lengths[] = { 997, 998, 999, 1000, 65536 };
	const char *const head =
	    MIME TYPE "multipart/mixed; boundary=b\r\n\r\n";
	const char *const qp = "--b\r\n" CTE "quoted-printable\r\n\r\n";
	struct buf text = { 0 }, out = { 0 }, joined = { 0 };
	size_t i, line;

	(void)state;
	for (i = 0; i < COUNT(lengths); i++) {
		enum conversion_state result;
		struct span rest;

		buf_clear(&text);
		buf_printf(&text, "%s--b\r\n\r\n\xe4\r\n--b\r\n\r\n", head);
		line = text.len;
		add_line(&text, lengths[i]);
		buf_add_text(&text, "--b--\r\n");
		result = convert(buf_span(&text), CONVERT_LONG_LINE, &out);
		if (lengths[i] <= 998) {
			assert_int_equal(result, CONVERSION_NEEDLESS);
			continue;
		}
		assert_int_equal(result, CONVERSION_READY);
		rest = span_from(buf_span(&out),
		    strlen(head) + strlen("--b\r\n\r\n\xe4\r\n"));
		assert_memory_equal(rest.data, qp, strlen(qp));
		join_lines(span_from(rest, strlen(qp)), &joined);
		assert_int_equal(joined.len, text.len - line);
		assert_memory_equal(joined.data, text.data + line, joined.len);
	}
	buf_free(&text);
	buf_free(&out);
	buf_free(&joined);
}

static void
B21_long_lines_around_the_parts_are_folded(void **state)
{
	struct buf text = { 0 }, out = { 0 };
	struct span line, rest;

	(void)state;
	buf_add_text(&text, MIME TYPE "multipart/mixed; boundary=b\r\n\r\n");
	add_line(&text, 3000);
	buf_add_text(&text, "--b\r\n\r\nx\r\n--b--\r\n");
	add_line(&text, 999);
	assert_int_equal(convert(buf_span(&text), CONVERT_LONG_LINE, &out),
	    CONVERSION_READY);
	assert_int_equal(out.len, text.len + 4 * 3);
	for (rest = buf_span(&out); rest.len > 0;) {
		(void)span_cut(rest, '\n', &line, &rest);
		assert_true(line.len <= 999);
	}
	buf_free(&text);
	buf_free(&out);
}

static void
B22_nul_is_encoded_with_the_rest(void **state)
{
	struct buf out = { 0 };
	struct span wish =
	    SPAN("S: x\r\n" MIME TYPE "text/plain; charset=utf-8\r\n" CTE
		 "quoted-printable\r\n\r\n"
		 "a=00b=00 long enough =C3=A4\r\n");

	(void)state;
	assert_int_equal(convert(SPAN("S: x\r\n\r\na\0b\0 long enough "
				      "\xc3\xa4\r\n"),
			     CONVERT_8BIT, &out),
	    CONVERSION_READY);
	assert_int_equal(out.len, wish.len);
	assert_memory_equal(out.data, wish.data, wish.len);
	buf_free(&out);
}

/* ---- bounds ---- */

static void
what_is_too_deep_stays_as_it_is(void **state)
{
	struct buf text = { 0 }, out = { 0 };
	int depth;

	(void)state;
	for (depth = 99; depth < 102; depth++) {
		int i;

		buf_clear(&text);
		buf_add_text(&text, MIME);
		for (i = 0; i < depth; i++)
			buf_printf(&text,
			    TYPE "multipart/mixed; boundary=b%d\r\n"
				 "\r\n--b%d\r\n",
			    i, i);
		buf_add_text(&text, "\r\n\xe4 is long enough\r\n");
		assert_int_equal(convert(buf_span(&text), CONVERT_8BIT, &out),
		    depth <= 100 ? CONVERSION_READY : CONVERSION_NEEDLESS);
	}
	buf_free(&text);
	buf_free(&out);
}

static void
parts_beyond_the_thousandth_stay_as_they_are(void **state)
{
	struct buf text = { 0 }, out = { 0 };
	struct span rest, line;
	size_t as_it_is = 0;
	int i;

	(void)state;
	buf_add_text(&text, MIME TYPE "multipart/mixed; boundary=b\r\n\r\n");
	for (i = 0; i < 1005; i++)
		buf_add_text(&text, "--b\r\n\r\n\xe4 part\r\n");
	buf_add_text(&text, "--b--\r\n");
	assert_int_equal(convert(buf_span(&text), CONVERT_8BIT, &out),
	    CONVERSION_READY);
	for (rest = buf_span(&out); rest.len > 0;) {
		(void)span_cut(rest, '\n', &line, &rest);
		as_it_is += span_equal(line, SPAN("\xe4 part\r"));
	}
	assert_int_equal(as_it_is, 1005 - 999);
	buf_free(&text);
	buf_free(&out);
}

static void
a_part_whose_header_has_no_end_stays_as_it_is(void **state)
{
	struct buf text = { 0 }, out = { 0 };

	(void)state;
	buf_add_text(&text,
	    MIME TYPE "multipart/mixed; boundary=b\r\n\r\n"
		      "--b\r\n");
	while (text.len < 2 << 20)
		buf_add_text(&text, "X: y\r\n");
	buf_add_text(&text, "\r\n\xe4\r\n--b--\r\n");
	assert_int_equal(convert(buf_span(&text), CONVERT_8BIT, &out),
	    CONVERSION_NEEDLESS);
	buf_free(&text);
	buf_free(&out);
}

static void
damage_is_told_before_anything_is_sent(void **state)
{
	struct span text = SPAN("S: x\r\n\r\n\xe4 is long enough\r\n");
	struct entry e = { .size = text.len };
	struct conversion *c = conversion_new(&e, CONVERT_8BIT);

	(void)state;
	source.text = text;
	source.error = EBADMSG;
	assert_int_equal(prepare(c), CONVERSION_ERROR);
	assert_int_equal(errno, EBADMSG);
	source.error = 0;
	conversion_free(c);
}

/* ---- with a new header ---- */

static void
I56_a_header_is_replaced_and_the_body_converted(void **state)
{
	struct span text = SPAN("Subject: attach\xc3\xa9\r\n" MIME CTE
				"8bit\r\n\r\n\xc3\xa9\xc3\xa9\r\n");
	struct buf out = { 0 };

	(void)state;
	assert_int_equal(convert(text, CONVERT_HEADER, &out), CONVERSION_READY);
	assert_string_equal(buf_text(&out),
	    "Subject: =?utf-8?Q?attach=C3=A9?=\r\n" MIME CTE
	    "8bit\r\n\r\n\xc3\xa9\xc3\xa9\r\n");
	assert_int_equal(convert(text, CONVERT_HEADER | CONVERT_8BIT, &out),
	    CONVERSION_READY);
	assert_string_equal(buf_text(&out),
	    "Subject: =?utf-8?Q?attach=C3=A9?=\r\n" MIME CTE "base64\r\n" TYPE
	    "text/plain; charset=utf-8\r\n"
	    "\r\nw6nDqQ0K\r\n");
	assert_int_equal(
	    convert(SPAN("From: \xc3\xa9@x\r\n\r\n"), CONVERT_HEADER, &out),
	    CONVERSION_IMPOSSIBLE);
	assert_int_equal(convert(SPAN("From: a@x\r\n\r\n\xc3\xa9\r\n"),
			     CONVERT_HEADER, &out),
	    CONVERSION_NEEDLESS);
	buf_free(&out);
}

static void
what_is_wanted_depends_on_both_sides(void **state)
{
	static const struct {
		unsigned has;
		bool utf8;
		unsigned can;
		unsigned wanted;
	} rows[] = {
		{ 0, true, 0, 0 },
		{ TEXT_NUL, false, 0, 0 },
		{ TEXT_LONG_LINE, false, SMTP_CAN_8BITMIME, CONVERT_LONG_LINE },
		{ TEXT_8BIT, false, SMTP_CAN_8BITMIME, 0 },
		{ TEXT_8BIT, false, 0, CONVERT_8BIT },
		{ TEXT_8BIT, true, 0, CONVERT_8BIT | CONVERT_HEADER },
		{ TEXT_8BIT, true, SMTP_CAN_8BITMIME | SMTP_CAN_SMTPUTF8, 0 },
		{ TEXT_8BIT | TEXT_LONG_LINE, true, SMTP_CAN_8BITMIME,
		    CONVERT_LONG_LINE | CONVERT_HEADER },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		struct entry e = { .has = rows[i].has };

		e.envelope.utf8 = rows[i].utf8;
		assert_int_equal(convert_wanted(&e, rows[i].can),
		    rows[i].wanted);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(I56_eight_bit_leaves_are_encoded),
		cmocka_unit_test(the_header_says_what_the_body_is),
		cmocka_unit_test(what_must_not_change_does_not),
		cmocka_unit_test(each_part_is_converted_by_itself),
		cmocka_unit_test(no_body_comes_to_look_like_its_header),
		cmocka_unit_test(messages_in_messages_are_entered),
		cmocka_unit_test(B21_only_lines_of_over_998_octets_are_encoded),
		cmocka_unit_test(B21_long_lines_around_the_parts_are_folded),
		cmocka_unit_test(B22_nul_is_encoded_with_the_rest),
		cmocka_unit_test(what_is_too_deep_stays_as_it_is),
		cmocka_unit_test(parts_beyond_the_thousandth_stay_as_they_are),
		cmocka_unit_test(a_part_whose_header_has_no_end_stays_as_it_is),
		cmocka_unit_test(damage_is_told_before_anything_is_sent),
		cmocka_unit_test(
		    I56_a_header_is_replaced_and_the_body_converted),
		cmocka_unit_test(what_is_wanted_depends_on_both_sides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
