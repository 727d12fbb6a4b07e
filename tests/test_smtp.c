/* smtp.c: the grammar; numbers are those of the catalogue of bad input. */
#include "relayd.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* The words of a refusal are free, its codes are not. */
static void
assert_refusal(const char *what, const char *got, const char *codes)
{
	bool equal = codes == NULL
	    ? got == NULL
	    : got != NULL && strncmp(got, codes, strlen(codes)) == 0;

	if (!equal)
		fail_msg("%s: %s, not %s", what, got ? got : "accepted",
		    codes ? codes : "accepted");
}

static void
assert_span(struct span got, struct span want)
{
	if (!span_equal(got, want))
		fail_msg("'%.*s' is not '%.*s'", (int)got.len, got.data,
		    (int)want.len, want.data);
}

/* ---- commands ---- */

static void
command_finds_verb_and_argument(void **state)
{
	static const struct {
		const char *line;
		enum smtp_verb verb;
		const char *arg;
	} rows[] = {
		{ "EHLO x", SMTP_EHLO, "x" },
		{ "ehlo x", SMTP_EHLO, "x" },
		{ "EHLO", SMTP_EHLO, "" },
		{ "EHLO ", SMTP_EHLO, "" }, /* A18 */
		{ "EHLO   ", SMTP_EHLO, "" },
		{ "HELO a b ", SMTP_HELO, "a b" },
		{ "MAIL FROM:<a@b>  ", SMTP_MAIL, "FROM:<a@b>" },
		{ "MAIL  FROM:<a@b>", SMTP_MAIL, " FROM:<a@b>" }, /* A26 */
		{ "Rcpt TO:<a@b>", SMTP_RCPT, "TO:<a@b>" },
		{ "DATA", SMTP_DATA, "" },
		{ "BDAT 5 LAST", SMTP_BDAT, "5 LAST" },
		{ "RSET x", SMTP_RSET, "x" }, /* A15 */
		{ "NOOP", SMTP_NOOP, "" },
		{ "VRFY a", SMTP_VRFY, "a" },
		{ "EXPN a", SMTP_EXPN, "a" },
		{ "HELP", SMTP_HELP, "" },
		{ "QUIT", SMTP_QUIT, "" },
		{ "STARTTLS", SMTP_STARTTLS, "" },
		{ "AUTH PLAIN =", SMTP_AUTH, "PLAIN =" },
		{ "", SMTP_UNKNOWN, "" }, /* A8 */
		{ " ", SMTP_UNKNOWN, "" },
		{ " EHLO x", SMTP_UNKNOWN, "EHLO x" },
		{ "EHLOx", SMTP_UNKNOWN, "" },
		{ "MAIL\tFROM:<a@b>", SMTP_UNKNOWN, "" },
		{ "\x16\x03\x01", SMTP_UNKNOWN, "" },          /* A50 */
		{ "GET / HTTP/1.1", SMTP_HTTP, "/ HTTP/1.1" }, /* A49 */
		{ "post /", SMTP_HTTP, "/" },
		{ "PUT", SMTP_HTTP, "" },
		{ "HEAD /", SMTP_HTTP, "/" },
		{ "OPTIONS *", SMTP_HTTP, "*" },
		{ "CONNECT a:25", SMTP_HTTP, "a:25" },
		{ "Host: localhost", SMTP_HTTP, "localhost" },
		{ "HOST:x", SMTP_HTTP, "" },
		{ "Hosting", SMTP_UNKNOWN, "" },
	};
	struct span arg;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_int_equal(smtp_command(span_of(rows[i].line), &arg),
		    rows[i].verb);
		assert_span(arg, span_of(rows[i].arg));
	}
}

static void
command_with_bytes_that_end_lines_means_nothing(void **state) /* A20, A24 */
{
	struct span arg;

	(void)state;
	assert_int_equal(smtp_command(SPAN("EHLO a\0b"), &arg), SMTP_UNKNOWN);
	assert_int_equal(smtp_command(SPAN("MAIL FROM:<a@b>\r"), &arg),
	    SMTP_UNKNOWN);
	assert_int_equal(smtp_command(SPAN("RCPT TO:<\"a\r\nb\"@c>"), &arg),
	    SMTP_UNKNOWN);
	assert_int_equal(smtp_command(SPAN("\0"), &arg), SMTP_UNKNOWN);
}

static void
helo_takes_names_that_may_stand_in_received(void **state) /* A17 to A22 */
{
	static const struct {
		const char *name;
		bool valid;
	} rows[] = {
		{ "[127.0.0.1]", true },
		{ "[IPv6:::1]", true },
		{ "localhost", true },
		{ "a_b", true },
		{ "host.example.com", true },
		{ "", false },
		{ "[]", false },
		{ "a b", false },
		{ "a(b", false },
		{ "a]", false },
		{ "<script>\x1b[31m", false },
		{ "\xc3\xa4", false },
		{ "a\x7f", false },
	};
	char name[LIMIT_DOMAIN + 1];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		if (smtp_helo_valid(span_of(rows[i].name)) != rows[i].valid)
			fail_msg("%s", rows[i].name);
	assert_false(smtp_helo_valid(SPAN("a\0")));
	memset(name, 'a', sizeof(name));
	assert_true(smtp_helo_valid((struct span){ name, LIMIT_DOMAIN }));
	assert_false(smtp_helo_valid((struct span){ name, LIMIT_DOMAIN + 1 }));
}

static void
bdat_takes_a_number_and_last(void **state) /* B29 to B31 */
{
	static const struct {
		const char *arg;
		bool valid, last;
		uint64_t octets;
	} rows[] = {
		{ "5 LAST", true, true, 5 },
		{ "5 last", true, true, 5 },
		{ "0 LAST", true, true, 0 },
		{ "5", true, false, 5 },
		{ "18446744073709551615", true, false, UINT64_MAX },
		{ "", false, false, 0 },
		{ "x", false, false, 0 },
		{ "-1", false, false, 0 },
		{ "+1", false, false, 0 },
		{ "5 FIRST", false, false, 0 },
		{ "5 LAST LAST", false, false, 0 },
		{ "5  LAST", false, false, 0 },
		{ "18446744073709551616 LAST", false, false, 0 },
	};
	uint64_t octets;
	bool last;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		if (smtp_bdat(span_of(rows[i].arg), &octets, &last) !=
		    rows[i].valid)
			fail_msg("%s", rows[i].arg);
		if (!rows[i].valid)
			continue;
		assert_int_equal(octets, rows[i].octets);
		assert_int_equal(last, rows[i].last);
	}
}

/* ---- addresses ---- */

/* Try each path as MAIL and as RCPT would. */
static void
check_paths(const char *const *paths, size_t count, const char *sender,
    const char *recipient)
{
	struct buf arg = { 0 };
	struct span address, parameters;
	size_t i;

	for (i = 0; i < count; i++) {
		buf_clear(&arg);
		buf_printf(&arg, "FROM:%s", paths[i]);
		assert_refusal(paths[i],
		    smtp_path(buf_span(&arg), SPAN("FROM:"), false, &address,
			&parameters),
		    sender);
		buf_clear(&arg);
		buf_printf(&arg, "to:%s", paths[i]);
		assert_refusal(paths[i],
		    smtp_path(buf_span(&arg), SPAN("TO:"), false, &address,
			&parameters),
		    recipient);
	}
	buf_free(&arg);
}

static void
path_takes_addresses(void **state)
{
	static const char *const paths[] = {
		"<a@b.example>",
		"<root>",
		"a@b.example",    /* A25 */
		" <a@b.example>", /* A26 */
		"<a@b_c.example>",
		"<\"a b\"@c.example>", /* A32 */
		"<\"a\\\"b\"@c.example>",
		"<\"a@b\"@c.example>",
		"<\"<x>\"@c.example>",
		"<\"a@b\">",
		"<c%d.example@relay.example>", /* A36 */
		"<d.example!c>",
		"<postmaster>",   /* A38 */
		"<c@[10.0.0.1]>", /* A39 */
		"<c@[IPv6:2001:db8::1]>",
		"<c@[IPv6:::ffff:10.0.0.1]>",
		"<@x.example:a@b.example>",
		"<@x.example,@y.example:a@b.example>",
	};
	static const char *const null[] = { "<>" }; /* A27 */

	(void)state;
	check_paths(paths, COUNT(paths), NULL, NULL);
	check_paths(null, COUNT(null), NULL, "501 5.1.3");
}

static void
path_refuses_what_is_no_address(void **state) /* A29, A33, A39 */
{
	static const char *const paths[] = { "", "a@b.example SIZE=1",
		"<a@b.example>>", "<<a@b.example>", "<a@b.example>x",
		"<a @b.example>", "<a@@b.example>", "<@>", "<a@>",
		"<@b.example>", "<a..b@c.example>", "<.a@c.example>",
		"<a.@c.example>", "<a@b..example>", "<a@-b.example>",
		"<a@b-.example>", "<a@b.example.>", "<a@b.example",
		"<\"a\r\nb\"@c.example>", "<\"a\x7f\"@c.example>",
		"<\"abc@c.example>", "<\"abc\\\"@c.example>", "<\"abc\\",
		"<\"a\"b@c.example>", "<a\"b\"@c.example>", "<c@[10.0.0.999]>",
		"<c@[10.0.0.1>", "<c@[2001:db8::1]>", "<c@[IPv6:10.0.0.1]>",
		"<c@[>", "<c@[]>", "<@x.example:>",
		"<@x.example,y:a@b.example>", "<@:a@b.example>",
		"<:include:/etc/passwd>" };

	(void)state;
	check_paths(paths, COUNT(paths), "501 5.1.7", "501 5.1.3");
}

static void
path_tells_utf8_from_garbage(void **state) /* A34 */
{
	static const char *const utf8[] = { "<\xc3\xa4@b.example>",
		"<a@\xc3\xa4.example>", "<\"\xc3\xa4\"@b.example>" };
	static const char *const garbage[] = { "<\xc3\x28@b.example>",
		"<\xc0\xaf@b.example>", "<\xed\xa0\x80@b.example>" };

	(void)state;
	check_paths(utf8, COUNT(utf8), "553 5.6.7", "553 5.6.7");
	check_paths(garbage, COUNT(garbage), "501 5.1.7", "501 5.1.3");
}

static void
path_refuses_other_words(void **state) /* A26 */
{
	static const char *const args[] = { "", "FRM:<a@b>", " FROM:<a@b>",
		"FROM :<a@b>", "FROM", "TO:<a@b>" };
	struct span address, parameters;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(args); i++)
		assert_refusal(args[i],
		    smtp_path(span_of(args[i]), SPAN("FROM:"), false, &address,
			&parameters),
		    "501 5.5.4");
}

static void
path_splits_address_and_parameters(void **state)
{
	static const struct {
		const char *arg, *address, *parameters;
	} rows[] = {
		{ "FROM:<a@b> SIZE=1 BODY=7BIT", "a@b", "SIZE=1 BODY=7BIT" },
		{ "FROM:<a@b>", "a@b", "" },
		{ "FROM:<> SIZE=1", "", "SIZE=1" },
		{ "FROM:<\"a> SIZE=1\"@b> X=1", "\"a> SIZE=1\"@b", "X=1" },
		{ "FROM:<@x,@y:a@b>", "a@b", "" },
		{ "FROM:a@b", "a@b", "" },
		{ "FROM:<\xc3\xa4@b> SMTPUTF8", "\xc3\xa4@b", "SMTPUTF8" },
	};
	struct span address, parameters;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_null(smtp_path(span_of(rows[i].arg), SPAN("FROM:"), true,
		    &address, &parameters));
		assert_span(address, span_of(rows[i].address));
		assert_span(parameters, span_of(rows[i].parameters));
	}
}

static bool
valid_lengths(size_t local, size_t label, const char *rest)
{
	struct buf address = { 0 };
	bool valid;

	while (local-- > 0)
		buf_add_char(&address, 'a');
	buf_add_char(&address, '@');
	while (label-- > 0)
		buf_add_char(&address, 'b');
	buf_add_text(&address, rest);
	valid = smtp_address_valid(buf_span(&address), 0);
	buf_free(&address);
	return valid;
}

static void
address_limits_hold_at_their_edge(void **state) /* A30 */
{
	struct buf tail = { 0 };
	size_t i;

	(void)state;
	assert_true(valid_lengths(LIMIT_LOCAL_PART, 1, ".example"));
	assert_false(valid_lengths(LIMIT_LOCAL_PART + 1, 1, ".example"));
	assert_true(valid_lengths(1, LIMIT_LABEL, ".example"));
	assert_false(valid_lengths(1, LIMIT_LABEL + 1, ".example"));
	for (i = 0; i < LIMIT_ADDRESS - 2 - 10; i += 2)
		buf_add_text(&tail, ".c");
	assert_true(valid_lengths(1, 10, buf_text(&tail)));
	assert_false(valid_lengths(1, 11, buf_text(&tail)));
	assert_false(valid_lengths(2, 10, buf_text(&tail)));
	buf_free(&tail);
}

static void
address_flags_allow_what_they_say(void **state)
{
	(void)state;
	assert_false(smtp_address_valid(SPAN(""), ADDRESS_BARE | ADDRESS_UTF8));
	assert_true(smtp_address_valid(SPAN("root"), ADDRESS_BARE));
	assert_false(smtp_address_valid(SPAN("root"), 0));
	assert_false(smtp_address_valid(SPAN("a\0@b"), ADDRESS_BARE));
	assert_false(smtp_address_valid(SPAN("a@b\0"), ADDRESS_BARE));
	assert_false(smtp_address_valid(SPAN("a@[10.0.0.1\0]"), 0));
	assert_true(
	    smtp_address_valid(SPAN("\"\xe2\x82\xac\"@b"), ADDRESS_UTF8));
	assert_true(
	    smtp_address_valid(SPAN("\xf0\x9f\x98\x80@b"), ADDRESS_UTF8));
	assert_false(
	    smtp_address_valid(SPAN("\xf4\x90\x80\x80@b"), ADDRESS_UTF8));
	assert_false(
	    smtp_address_valid(SPAN("\xe2\x82"), ADDRESS_BARE | ADDRESS_UTF8));
	assert_false(smtp_address_valid(SPAN("\xe0\x80\xaf@b"), ADDRESS_UTF8));
	assert_false(
	    smtp_address_valid(SPAN("\xf0\x80\x80\xaf@b"), ADDRESS_UTF8));
	assert_false(smtp_address_valid(SPAN("\x80@b"), ADDRESS_UTF8));
	assert_false(smtp_address_valid(SPAN("\xff@b"), ADDRESS_UTF8));
	assert_false(
	    smtp_address_valid(SPAN("\"\\\xc3\xa4\"@b"), ADDRESS_UTF8));
}

static void
split_finds_the_at_outside_quotes(void **state)
{
	static const struct {
		const char *address, *local, *domain;
	} rows[] = {
		{ "a@b", "a", "b" },
		{ "root", "root", NULL },
		{ "\"a@b\"@c", "\"a@b\"", "c" },
		{ "\"a@b\"", "\"a@b\"", NULL },
		{ "\"a\\\"@b\"@c", "\"a\\\"@b\"", "c" },
	};
	struct span local, domain;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		smtp_address_split(span_of(rows[i].address), &local, &domain);
		assert_span(local, span_of(rows[i].local));
		assert_span(domain, span_of(rows[i].domain));
		assert_int_equal(domain.data == NULL, rows[i].domain == NULL);
	}
}

/* ---- replies ---- */

static void
reply_lines_make_one_text(void **state)
{
	struct smtp_reply r = { 0 };

	(void)state;
	assert_int_equal(smtp_reply_line(&r, SPAN("250-2.0.0 a")),
	    SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_line(&r, SPAN("250-")), SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_line(&r, SPAN("250 b\r\n\0c")),
	    SMTP_REPLY_DONE);
	assert_int_equal(r.code, 250);
	assert_int_equal(r.lines, 3);
	assert_string_equal(r.text, "250 2.0.0 a bc");
	assert_int_equal(r.len, strlen(r.text));
	r = (struct smtp_reply){ 0 };
	assert_int_equal(smtp_reply_line(&r, SPAN("354")), SMTP_REPLY_DONE);
	assert_string_equal(r.text, "354");
}

static void
reply_that_is_not_smtp_is_bad(void **state)
{
	static const char *const lines[] = { "", "2", "25", "abc", "150 x",
		"650 x", "25x ok", "250x", "250\tx", "2500 x", "HTTP/1.1 200" };
	struct smtp_reply r;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(lines); i++) {
		r = (struct smtp_reply){ 0 };
		if (smtp_reply_line(&r, span_of(lines[i])) != SMTP_REPLY_BAD)
			fail_msg("%s", lines[i]);
	}
	r = (struct smtp_reply){ 0 };
	assert_int_equal(smtp_reply_line(&r, SPAN("250-a")), SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_line(&r, SPAN("550 b")), SMTP_REPLY_BAD);
}

static void
reply_limits_hold_at_their_edge(void **state)
{
	struct buf line = { 0 };
	struct smtp_reply r = { 0 };
	unsigned i;

	(void)state;
	buf_printf(&line, "250-%0*d", LIMIT_REPLY_LINE - 4 - 2, 0);
	for (i = 0; i < LIMIT_REPLY / LIMIT_REPLY_LINE; i++)
		assert_int_equal(smtp_reply_line(&r, buf_span(&line)),
		    SMTP_REPLY_MORE);
	assert_int_equal(r.len, LIMIT_REPLY_KEPT);
	assert_int_equal(smtp_reply_line(&r, SPAN("250 ")), SMTP_REPLY_BAD);
	buf_add_char(&line, '0');
	r = (struct smtp_reply){ 0 };
	assert_int_equal(smtp_reply_line(&r, buf_span(&line)), SMTP_REPLY_BAD);
	r = (struct smtp_reply){ 0 };
	for (i = 0; i < LIMIT_REPLY_LINES; i++)
		assert_int_equal(smtp_reply_line(&r, SPAN("250-a")),
		    SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_line(&r, SPAN("250 a")), SMTP_REPLY_BAD);
	buf_free(&line);
}

static void
status_is_the_replys_own_or_made_from_its_code(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *status;
	} rows[] = {
		{ "250 2.1.5 ok", 250, "2.1.5" },
		{ "550 5.7.30 off", 550, "5.7.30" },
		{ "550 5.123.456", 550, "5.123.456" },
		{ "250 ok", 250, "2.0.0" },
		{ "451 later", 451, "4.0.0" },
		{ "550 4.7.1 odd", 550, "5.0.0" },
		{ "550 5.7.1x", 550, "5.0.0" },
		{ "550 5.1234.1 x", 550, "5.0.0" },
		{ "550 5.1.1234 x", 550, "5.0.0" },
		{ "550 5..1 x", 550, "5.0.0" },
		{ "550 5.1", 550, "5.0.0" },
		{ "550 5", 550, "5.0.0" },
		{ "550", 550, "5.0.0" },
		{ "354 go", 354, "4.0.0" },
		{ "", 0, "4.0.0" },
		{ "connection lost", 0, "4.0.0" },
	};
	char status[12];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		smtp_reply_status(rows[i].text, rows[i].code, status);
		assert_string_equal(status, rows[i].status);
	}
}

static void
capabilities_are_told_by_their_keyword(void **state)
{
	static const struct {
		const char *line;
		unsigned bits;
		uint64_t size;
	} rows[] = {
		{ "250-PIPELINING", SMTP_CAN_PIPELINING, 7 },
		{ "250 8bitmime", SMTP_CAN_8BITMIME, 7 },
		{ "250-SMTPUTF8", SMTP_CAN_SMTPUTF8, 7 },
		{ "250-CHUNKING", SMTP_CAN_CHUNKING, 7 },
		{ "250-DSN", SMTP_CAN_DSN, 7 },
		{ "250-STARTTLS ", SMTP_CAN_STARTTLS, 7 },
		{ "250-SIZE 35882577", SMTP_CAN_SIZE, 35882577 },
		{ "250-SIZE", SMTP_CAN_SIZE, 7 },
		{ "250-SIZE x", SMTP_CAN_SIZE, 7 },
		{ "250-SIZE 99999999999999999999", SMTP_CAN_SIZE, 7 },
		{ "250-AUTH PLAIN LOGIN", SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN,
		    7 },
		{ "250-AUTH cram-md5  EXTERNAL SCRAM-SHA-256",
		    SMTP_AUTH_CRAM_MD5 | SMTP_AUTH_EXTERNAL |
			SMTP_AUTH_SCRAM_SHA_256,
		    7 },
		{ "250-AUTH SCRAM-SHA-256-PLUS", SMTP_AUTH_OTHER, 7 },
		{ "250-AUTH=LOGIN XOAUTH2", SMTP_AUTH_LOGIN | SMTP_AUTH_OTHER,
		    7 },
		{ "250-AUTH", 0, 7 },
		{ "250-SIZER 5", 0, 7 },
		{ "250-XDSN", 0, 7 },
		{ "250", 0, 7 },
	};
	uint64_t size;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		size = 7;
		assert_int_equal(smtp_capability(span_of(rows[i].line), &size),
		    rows[i].bits);
		assert_int_equal(size, rows[i].size);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_finds_verb_and_argument),
		cmocka_unit_test(
		    command_with_bytes_that_end_lines_means_nothing),
		cmocka_unit_test(helo_takes_names_that_may_stand_in_received),
		cmocka_unit_test(bdat_takes_a_number_and_last),
		cmocka_unit_test(path_takes_addresses),
		cmocka_unit_test(path_refuses_what_is_no_address),
		cmocka_unit_test(path_tells_utf8_from_garbage),
		cmocka_unit_test(path_refuses_other_words),
		cmocka_unit_test(path_splits_address_and_parameters),
		cmocka_unit_test(address_limits_hold_at_their_edge),
		cmocka_unit_test(address_flags_allow_what_they_say),
		cmocka_unit_test(split_finds_the_at_outside_quotes),
		cmocka_unit_test(reply_lines_make_one_text),
		cmocka_unit_test(reply_that_is_not_smtp_is_bad),
		cmocka_unit_test(reply_limits_hold_at_their_edge),
		cmocka_unit_test(
		    status_is_the_replys_own_or_made_from_its_code),
		cmocka_unit_test(capabilities_are_told_by_their_keyword),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
