/*
 * rewrite.c: recipients, senders, headers.  Names carry the case numbers of
 * hostile input where there is one.
 *
 * wrap: random_bits
 */
#include "relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define CASES(table) (sizeof(table) / sizeof((table)[0]))

#define RECEIVED                                               \
	"Received: from me (localhost [127.0.0.1])\r\n"        \
	"\tby web1.example.com (relayd) with ESMTP id ID;\r\n" \
	"\tTue, 24 Nov 2026 05:14:29 +0000\r\n"
#define DATE       "Date: Tue, 24 Nov 2026 05:14:29 +0000\r\n"
#define MESSAGE_ID "Message-ID: <ID.00000000000000ab@web1.example.com>\r\n"
#define FULL       "From: a@b.example\r\nDate: x\r\nMessage-ID: y\r\n"
#define FROM       "alerts@example.com"

static bool random_wanted;

uint64_t __real_random_bits(void);
uint64_t __wrap_random_bits(void);

uint64_t
__wrap_random_bits(void)
{
	return random_wanted ? __real_random_bits() : 0xab;
}

static void
fail_on_warning(void *arg, unsigned line, const char *text)
{
	(void)arg;
	fail_msg("aliases:%u: %s", line, text);
}

static struct aliases *
parse(const char *text)
{
	return aliases_parse(span_of(text), fail_on_warning, NULL);
}

/* The rules of host web1.example.com in example.com. */
static struct rewrite_rules
rules_with(const struct aliases *aliases)
{
	static char localhost[] = "localhost", full[] = "web1.example.com",
		    brief[] = "web1";
	static char *names[] = { localhost, full, brief };
	static const struct strings local_names = { names, CASES(names) };

	return (struct rewrite_rules){ .hostname = full,
		.origin = "example.com",
		.local_names = &local_names,
		.aliases = aliases,
		.local_to = "",
		.redirect = "",
		.from = "",
		.from_mode = FROM_LOCAL,
		.recipient_limit = 10 };
}

/* ---- recipients ---- */

static const struct {
	const char *aliases;
	const char *local_to;
	const char *address;
	const char *out; /* joined by '|' */
	enum rewrite_result result;
} recipients[] = {
	{ "", "", "a@b.example", "a@b.example", REWRITE_OK },
	{ "", "", "root", "root@example.com", REWRITE_OK },
	{ "", "", "root@localhost", "root@example.com", REWRITE_OK },
	{ "", "", "root@WEB1", "root@example.com", REWRITE_OK },
	{ "", "", "root@web1.example.com", "root@web1.example.com",
	    REWRITE_OK },
	{ "", "", "root@xweb1", "root@xweb1", REWRITE_OK },
	{ "", "", "\"a b\"", "\"a b\"@example.com", REWRITE_OK },
	{ "root: you@x.example", "", "root", "you@x.example", REWRITE_OK },
	{ "root: you@x.example", "", "ROOT@web1.example.com", "you@x.example",
	    REWRITE_OK },
	{ "root: you@x.example", "", "root@b.example", "root@b.example",
	    REWRITE_OK },
	{ "root: you@x.example", "", "toor", "toor@example.com", REWRITE_OK },
	{ "root: a@x.example, b, c@web1", "", "root",
	    "a@x.example|b@example.com|c@example.com", REWRITE_OK },
	{ "root: bob\nbob: carl, d@x.example\ncarl: e@x.example", "", "root",
	    "e@x.example|d@x.example", REWRITE_OK },
	{ "root: A@x.example, a@X.example", "", "root", "A@x.example",
	    REWRITE_OK },
	{ "postmaster: root\nroot: a@x.example", "", "postmaster",
	    "a@x.example", REWRITE_OK },
	/* local_to */
	{ "", "me@x.example", "root", "me@x.example", REWRITE_OK },
	{ "", "me@x.example", "root@web1.example.com", "me@x.example",
	    REWRITE_OK },
	{ "", "me@x.example", "a@b.example", "a@b.example", REWRITE_OK },
	{ "root: bob", "me@x.example", "root", "me@x.example", REWRITE_OK },
	{ "root: a@x.example", "root", "bob", "a@x.example", REWRITE_OK },
	{ "", "root", "bob", "root@example.com", REWRITE_OK },
	/* catch-all */
	{ "*: me@x.example", "no@x.example", "bob", "me@x.example",
	    REWRITE_OK },
	{ "*: root\nroot: me@x.example", "", "bob@localhost", "me@x.example",
	    REWRITE_OK },
	{ "*: me@x.example", "", "a@b.example", "a@b.example", REWRITE_OK },
	{ "*: bob", "", "root", "bob@example.com", REWRITE_OK },
	/* a name that is not to be looked up again */
	{ "root: \\root, a@x.example", "b@x.example", "root",
	    "root@example.com|a@x.example", REWRITE_OK },
	/* F1 */
	{ "a: b\nb: a", "", "a", "a@example.com", REWRITE_OK },
	{ "a: a", "", "a", "a@example.com", REWRITE_OK },
	{ "a: a+x", "", "a", "a+x@example.com", REWRITE_OK },
	{ "a: a, b@x.example", "c@x.example", "a", "a@example.com|b@x.example",
	    REWRITE_OK },
	/* two ways into one cycle: somebody must get it */
	{ "a: b, c\nb: c\nc: b", "", "a", "b@example.com", REWRITE_OK },
	{ "a: b, c\nb: c, d\nc: b, d\nd: b, c", "", "a",
	    "b@example.com|c@example.com", REWRITE_OK },
	/* two ways to one name are no cycle */
	{ "a: b, c\nb: d\nc: d\nd: e@x.example", "", "a", "e@x.example",
	    REWRITE_OK },
	{ "a: b@x.example, c@x.example, d@x.example, e@x.example, f@x.example,"
	  "g@x.example, h@x.example, i@x.example, j@x.example, k@x.example",
	    "", "a",
	    "b@x.example|c@x.example|d@x.example|e@x.example|f@x.example|"
	    "g@x.example|h@x.example|i@x.example|j@x.example|k@x.example",
	    REWRITE_OK },
	{ "a: b@x.example, c@x.example, d@x.example, e@x.example, f@x.example,"
	  "g@x.example, h@x.example, i@x.example, j@x.example, k@x.example,"
	  "l@x.example",
	    "", "a", "", REWRITE_TOO_MANY },
};

static char *
joined(const struct strings *list)
{
	struct buf text = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < list->count; i++)
		buf_printf(&text, "%s%s", i > 0 ? "|" : "", list->item[i]);
	(void)buf_text(&text);
	return text.data;
}

static void
recipients_go_through_aliases_local_to_and_origin(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(recipients); i++) {
		struct aliases *aliases = parse(recipients[i].aliases);
		struct rewrite_rules rules = rules_with(aliases);
		struct address_set out = { .slots = 0 };
		enum rewrite_result result;
		char *text;

		rules.local_to = recipients[i].local_to;
		result = rewrite_recipient(&rules,
		    span_of(recipients[i].address), &out, NULL);
		text = joined(&out.list);
		assert_string_equal(text, recipients[i].out);
		assert_int_equal(result, recipients[i].result);
		free(text);
		address_set_free(&out);
		aliases_free(aliases);
	}
}

static void
a40_the_same_recipient_counts_once(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	struct address_set out = { .slots = 0 };

	(void)state;
	rules.recipient_limit = 1;
	assert_int_equal(rewrite_recipient(&rules, SPAN("root"), &out, NULL),
	    REWRITE_OK);
	assert_int_equal(
	    rewrite_recipient(&rules, SPAN("ROOT@Example.com"), &out, NULL),
	    REWRITE_OK);
	assert_int_equal(rewrite_recipient(&rules, SPAN("bob"), &out, NULL),
	    REWRITE_TOO_MANY);
	assert_int_equal(out.list.count, 1);
	address_set_free(&out);
}

/* n0 to n1 to ... to n(length), which has no alias. */
static enum rewrite_result
follow_chain(unsigned length, struct address_set *out)
{
	struct buf text = { NULL, 0, 0 };
	struct aliases *aliases;
	struct rewrite_rules rules;
	enum rewrite_result result;
	unsigned i;

	for (i = 0; i < length; i++)
		buf_printf(&text, "n%u: n%u, ok@x.example\n", i, i + 1);
	aliases = parse(buf_text(&text));
	rules = rules_with(aliases);
	result = rewrite_recipient(&rules, SPAN("n0"), out, NULL);
	buf_free(&text);
	aliases_free(aliases);
	return result;
}

static void
f1_aliases_nest_to_their_limit(void **state)
{
	struct address_set out = { .slots = 0 };

	(void)state;
	assert_int_equal(follow_chain(LIMIT_ALIAS_DEPTH, &out), REWRITE_OK);
	assert_int_equal(out.list.count, 2);
	address_set_free(&out);
	(void)address_set_add(&out, SPAN("before@x.example"));
	assert_int_equal(follow_chain(LIMIT_ALIAS_DEPTH + 1, &out),
	    REWRITE_DEEP);
	assert_int_equal(out.list.count, 1);
	address_set_free(&out);
}

/* Ten names in each of 20 levels, each standing for the ten of the next; the
 * last level is real when leaves is not 0. */
static enum rewrite_result
set_off_bomb(bool distinct, struct address_set *out)
{
	struct buf text = { NULL, 0, 0 };
	struct aliases *aliases;
	struct rewrite_rules rules;
	enum rewrite_result result;
	unsigned level, i, j, names = 1;

	for (level = 0; level < (distinct ? 4 : 19); level++) {
		for (i = 0; i < names; i++) {
			buf_printf(&text, "l%u-%u: ", level, i);
			for (j = 0; j < 10; j++)
				buf_printf(&text, "l%u-%u,", level + 1,
				    distinct ? i * 10 + j : j);
			buf_add_char(&text, '\n');
		}
		names = distinct ? names * 10 : 10;
	}
	aliases = parse(buf_text(&text));
	rules = rules_with(aliases);
	rules.recipient_limit = 1000;
	result = rewrite_recipient(&rules, SPAN("l0-0"), out, NULL);
	buf_free(&text);
	aliases_free(aliases);
	return result;
}

static void
f2_a_fan_out_bomb_stops_at_the_limit(void **state)
{
	struct address_set out = { .slots = 0 };

	(void)state;
	assert_int_equal(set_off_bomb(true, &out), REWRITE_TOO_MANY);
	assert_int_equal(out.list.count, 0);
	/* 10^19 ways to the same ten names. */
	assert_int_equal(set_off_bomb(false, &out), REWRITE_OK);
	assert_int_equal(out.list.count, 10);
	address_set_free(&out);
}

static void
f2_the_same_address_over_and_over_is_bounded(void **state)
{
	struct buf text = { NULL, 0, 0 };
	struct aliases *aliases;
	struct rewrite_rules rules;
	struct address_set out = { .slots = 0 };
	unsigned i;

	(void)state;
	buf_add_text(&text, "a: ");
	for (i = 0; i < 21 * LIMIT_ALIAS_DEPTH; i++)
		buf_add_text(&text, "b@x.example, ");
	aliases = parse(buf_text(&text));
	rules = rules_with(aliases);
	assert_int_equal(rewrite_recipient(&rules, SPAN("a"), &out, NULL),
	    REWRITE_TOO_MANY);
	rules.recipient_limit = 21;
	assert_int_equal(rewrite_recipient(&rules, SPAN("a"), &out, NULL),
	    REWRITE_OK);
	assert_int_equal(out.list.count, 1);
	address_set_free(&out);
	buf_free(&text);
	aliases_free(aliases);
}

/* ---- senders ---- */

static const struct {
	enum from_mode mode;
	const char *from;
	const char *sender;
	const char *out;
} senders[] = {
	{ FROM_MISSING, FROM, "", "" },
	{ FROM_MISSING, FROM, "root", "root@example.com" },
	{ FROM_MISSING, FROM, "root@vm.example", "root@vm.example" },
	{ FROM_MISSING, FROM, "root@localhost", "root@example.com" },
	{ FROM_LOCAL, FROM, "", "" },
	{ FROM_LOCAL, FROM, "root", FROM },
	{ FROM_LOCAL, FROM, "root@Web1", FROM },
	{ FROM_LOCAL, FROM, "root@web1.example.com", FROM },
	{ FROM_LOCAL, FROM, "a@b.example", "a@b.example" },
	{ FROM_LOCAL, "", "", "" },
	{ FROM_LOCAL, "", "root", "root@example.com" },
	{ FROM_LOCAL, "", "root@web1", "root@example.com" },
	{ FROM_LOCAL, "", "root@web1.example.com", "root@web1.example.com" },
	{ FROM_ALWAYS, FROM, "", "" },
	{ FROM_ALWAYS, FROM, "root", FROM },
	{ FROM_ALWAYS, FROM, "a@b.example", FROM },
	{ FROM_ALWAYS, "", "root", "root@example.com" },
	{ FROM_ALWAYS, "", "a@b.example", "a@b.example" },
};

static void
senders_follow_from_and_from_mode(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(senders); i++) {
		struct rewrite_rules rules = rules_with(NULL);
		char *out;

		rules.from = senders[i].from;
		rules.from_mode = senders[i].mode;
		out = rewrite_sender(&rules, span_of(senders[i].sender), NULL);
		assert_string_equal(out, senders[i].out);
		free(out);
	}
}

/* ---- headers ---- */

static const struct rewrite_facts facts = { .id = "ID",
	.client = "localhost [127.0.0.1]",
	.helo = "me",
	.protocol = "ESMTP",
	.sender = "bob",
	.wall_ms = 1795497269000 };

/* Rewrite; the reply when refused, else NULL, then text is the new header
 * without our Received. */
static const char *
rewrite(const struct rewrite_rules *rules, struct span header, char **text)
{
	struct buf out = { NULL, 0, 0 };
	const char *reply = rewrite_header(rules, &facts, header, &out);
	struct span received = SPAN(RECEIVED);

	*text = NULL;
	if (reply == NULL) {
		assert_true(span_starts_nocase(buf_span(&out), received));
		*text = span_text(span_from(buf_span(&out), received.len));
	}
	buf_free(&out);
	return reply;
}

/* A header that is complete but for one field, and what becomes of it. */
struct field_case {
	const char *in;
	const char *out; /* NULL: the same */
};

static void
check_fields(const struct rewrite_rules *rules, const char *rest,
    const struct field_case *cases, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		struct buf in = { NULL, 0, 0 }, out = { NULL, 0, 0 };
		char *text;

		buf_printf(&in, "%s%s", cases[i].in, rest);
		buf_printf(&out, "%s%s",
		    cases[i].out == NULL ? cases[i].in : cases[i].out, rest);
		assert_null(rewrite(rules, buf_span(&in), &text));
		assert_string_equal(text, buf_text(&out));
		free(text);
		buf_free(&in);
		buf_free(&out);
	}
}

static const struct field_case kept[] = {
	{ "", NULL },
	{ "X-A:\tb\r\n", NULL },
	{ "To: a@b.example\r\n", NULL },
	{ "tO :\"root\" <a@b.example>,\r\n c@d.example (root)\r\n", NULL },
	{ "To: undisclosed-recipients:;\r\n", NULL },
	{ "Subject: root\r\n\tBcc: x\r\n", NULL },
	{ "Date: tomorrow\r\nMessage-ID: x\r\n", NULL },           /* D19 */
	{ "To: xroot@web1.example.comx, root@notweb1\r\n", NULL }, /* D20 */
	{ "To: =?utf-8?q?root?=\r\n", NULL },
	{ "To: a@b_c.example, a..b@c.example\r\n", NULL },
	{ "To:\r\n", NULL },
	{ "To: <>\r\n", NULL },
	{ "Reply-To: \xc3\xa4@b.example\r\n", NULL }, /* D25 */
	/* what can't be parsed to its end stays whole (D12) */
	{ "To: root, root, \"x\r\n", NULL },
	{ "To: root, (((((\r\n", NULL },
	{ "To: g: root\r\n", NULL },
	{ "To: root@localhost a@b.example\r\n", NULL },
	/* D17 */
	{ "From: a@b.example\r\nFrom: c@d.example\r\n", NULL },
	{ "Date: x\r\nDate: y\r\n", NULL },
};

static void
a_complete_header_keeps_its_bytes(void **state)
{
	struct aliases *aliases = parse("root: you@example.com");
	struct rewrite_rules rules = rules_with(aliases);

	(void)state;
	rules.from = FROM;
	check_fields(&rules, FULL, kept, CASES(kept));
	aliases_free(aliases);
}

static const struct field_case dropped[] = {
	/* D8 */
	{ "Bcc: e@x.example,\r\n f@x.example\r\n", "" },
	{ "BCC: x\r\nTo: a@b.example\r\nBcc : y\r\n\tz\r\n",
	    "To: a@b.example\r\n" },
	{ "Resent-Bcc: x\r\n", "" }, { "Return-Path: <x>\r\n", "" }, /* D22 */
	{ "From root Mon Jan  1\r\n", "" },                          /* D7 */
	{ ">From root Mon Jan  1\r\nA: b\r\n", "A: b\r\n" },
	{ "\xef\xbb\xbfTo: root\r\n",
	    "To: \"root on web1\" <root@example.com>\r\n" }, /* D27 */
};

static void
private_fields_are_dropped(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	char *text;

	(void)state;
	check_fields(&rules, FULL, dropped, CASES(dropped));
	/* D8: the last field, too. */
	assert_null(rewrite(&rules, SPAN(FULL "Bcc: a,\r\n b\r\n"), &text));
	assert_string_equal(text, FULL);
	free(text);
}

static const struct field_case to_cases[] = {
	{ "To: root\r\n", "To: \"root on web1\" <you@example.com>\r\n" },
	{ "Cc: <root@localhost>\r\n",
	    "Cc: \"root on web1\" <you@example.com>\r\n" },
	{ "Reply-To: Root <root>\r\n", "Reply-To: Root <you@example.com>\r\n" },
	{ "Resent-To: root\r\n",
	    "Resent-To: \"root on web1\" <you@example.com>\r\n" },
	{ "To: a@b.example , Root <root> (x),\r\n c@d.example\r\n",
	    "To: a@b.example , Root <you@example.com> (x),\r\n"
	    " c@d.example\r\n" },
	{ "To: =?utf-8?q?R=C3=B6t?= <root>\r\n",
	    "To: =?utf-8?q?R=C3=B6t?= <you@example.com>\r\n" },
	{ "To: root (=?utf-8?q?R=C3=B6t?=)\r\n",
	    "To: =?utf-8?q?R=C3=B6t?= <you@example.com>\r\n" },
	{ "To: all: root, a@b.example;, (root) c@d.example\r\n",
	    "To: all: \"root on web1\" <you@example.com>, a@b.example;,"
	    " (root) c@d.example\r\n" },
	{ "To: two\r\n",
	    "To: \"two on web1\" <a@x.example>,"
	    " \"two on web1\" <b@x.example>\r\n" },
	{ "To: bob\r\n", "To: \"bob on web1\" <bob@example.com>\r\n" },
	{ "To: \"a b\"\r\n",
	    "To: \"\\\"a b\\\" on web1\" <\"a b\"@example.com>\r\n" },
	{ "To: \"root\" <a@b.example>, (root) root\r\n",
	    "To: \"root\" <a@b.example>, \"root\" <you@example.com>\r\n" },
	{ "To: \"root\r\n\ton duty\" <root>\r\n",
	    "To: \"root\r\n\ton duty\" <you@example.com>\r\n" },
	{ "To:\r\n root,\r\n root\r\n",
	    "To:\r\n \"root on web1\" <you@example.com>,\r\n"
	    " \"root on web1\" <you@example.com>\r\n" },
	/* what would be too long goes on in the next line */
	{ "To: root, root, root\r\n",
	    "To: \"root on web1\" <you@example.com>,"
	    " \"root on web1\" <you@example.com>,\r\n"
	    "\t\"root on web1\" <you@example.com>\r\n" },
	{ "To: a@b.example,\r\n somebody whose display name fills all of the line to its"
	  " very end <root>\r\n",
	    "To: a@b.example,\r\n somebody whose display name fills all of the line to"
	    " its very end\r\n\t<you@example.com>\r\n" },
	{ "To: somebody with a name that fills the line to its very end"
	  " <root>\r\n",
	    "To: somebody with a name that fills the line to its very end\r\n"
	    "\t<you@example.com>\r\n" },
};

static void
recipients_in_the_header_become_full(void **state)
{
	struct aliases *aliases =
	    parse("root: you@example.com\ntwo: a@x.example, b@x.example\n");
	struct rewrite_rules rules = rules_with(aliases);

	(void)state;
	check_fields(&rules, FULL, to_cases, CASES(to_cases));
	aliases_free(aliases);
}

#define REST "Date: x\r\nMessage-ID: y\r\n"

static const struct field_case from_local[] = {
	{ "From: root (Cron Daemon)\r\n",
	    "From: \"Cron Daemon\" <" FROM ">\r\n" },
	{ "From: \"(Cron Daemon)\" <root>\r\n",
	    "From: \"(Cron Daemon)\" <" FROM ">\r\n" },
	{ "From: mdadm monitoring <root>\r\n",
	    "From: mdadm monitoring <" FROM ">\r\n" },
	{ "From: root\r\n", "From: \"root on web1\" <" FROM ">\r\n" },
	{ "From: root@web1.example.com\r\n",
	    "From: \"root on web1\" <" FROM ">\r\n" },
	{ "From: root ( say \\\"hi\\\" \\(x\\) )\r\n",
	    "From: \"say \\\"hi\\\" (x)\" <" FROM ">\r\n" },
	{ "From: a@b.example\r\nSender: root\r\n",
	    "From: a@b.example\r\n"
	    "Sender: \"root on web1\" <" FROM ">\r\n" },
	{ "From: a@b.example\r\nResent-From: root\r\n",
	    "From: a@b.example\r\n"
	    "Resent-From: \"root on web1\" <" FROM ">\r\n" },
	{ "From: J <a@b.example>\r\n", NULL },
	{ "From: <" FROM ">\r\n", NULL },
	{ "From: MAILER-DAEMON <>\r\n", "From: MAILER-DAEMON <" FROM ">\r\n" },
	{ "From: <>\r\n", "From: \"MAILER-DAEMON on web1\" <" FROM ">\r\n" },
	/* others may understand what we don't */
	{ "From: A, B. <a@b.example\r\n", NULL },
};

static const struct field_case from_always[] = {
	{ "From: J <a@b.example>\r\n", "From: J <" FROM ">\r\n" },
	{ "From: a@b.example\r\nSender: c@d.example (C)\r\n",
	    "From: \"a@b.example\" <" FROM ">\r\n"
	    "Sender: \"C\" <" FROM ">\r\n" },
	{ "From: root\r\n", "From: \"root on web1\" <" FROM ">\r\n" },
	{ "From: A <" FROM ">\r\n", NULL },
};

static const struct field_case from_unset[] = {
	{ "From: root (Cron Daemon)\r\n",
	    "From: \"Cron Daemon\" <root@example.com>\r\n" },
	{ "From: root@web1.example.com\r\n", NULL },
	{ "From: a@b.example\r\n", NULL },
	{ "From: a..b\r\n", NULL },
};

static void
from_and_sender_follow_from_mode(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);

	(void)state;
	check_fields(&rules, REST, from_unset, CASES(from_unset));
	rules.from = FROM;
	check_fields(&rules, REST, from_local, CASES(from_local));
	rules.from_mode = FROM_ALWAYS;
	check_fields(&rules, REST, from_always, CASES(from_always));
	rules.from_mode = FROM_MISSING;
	check_fields(&rules, REST, from_unset, CASES(from_unset));
}

static const struct {
	enum from_mode mode;
	const char *from;
	const char *sender;
	const char *header; /* what there is besides REST */
	const char *out;
} missing_from[] = {
	{ FROM_LOCAL, FROM, "root", "",
	    "From: \"root on web1\" <" FROM ">\r\n" },
	{ FROM_LOCAL, "", "root", "",
	    "From: \"root on web1\" <root@example.com>\r\n" },
	{ FROM_LOCAL, FROM, "a@b.example", "", "From: a@b.example\r\n" },
	{ FROM_LOCAL, FROM, FROM, "", "From: " FROM "\r\n" },
	{ FROM_LOCAL, "", "", "",
	    "From: \"MAILER-DAEMON on web1\" <MAILER-DAEMON@example.com>\r\n" },
	{ FROM_LOCAL, FROM, "", "",
	    "From: \"MAILER-DAEMON on web1\" <" FROM ">\r\n" },
	{ FROM_MISSING, FROM, "root", "",
	    "From: \"root on web1\" <" FROM ">\r\n" },
	{ FROM_ALWAYS, FROM, "a@b.example", "",
	    "From: \"a@b.example\" <" FROM ">\r\n" },
	/* D17 */
	{ FROM_LOCAL, FROM, "a@b.example", "From:\r\n",
	    "From: a@b.example\r\n" },
	{ FROM_LOCAL, FROM, "a@b.example", "From: \r\n \r\nFrom:\r\n",
	    "From: a@b.example\r\n" },
	/* a name without an address */
	{ FROM_LOCAL, FROM, "a@b.example", "From: Cron Daemon\r\n",
	    "From: \"Cron Daemon\" <a@b.example>\r\n" },
	{ FROM_ALWAYS, FROM, "a@b.example", "From: \"x <a@b\r\n",
	    "From: \"\\\"x <a@b\" <" FROM ">\r\n" },
};

static void
a_missing_from_is_made_of_the_sender(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(missing_from); i++) {
		struct rewrite_rules rules = rules_with(NULL);
		struct rewrite_facts f = facts;
		struct buf in = { NULL, 0, 0 }, out = { NULL, 0, 0 };
		struct buf expected = { NULL, 0, 0 };

		rules.from = missing_from[i].from;
		rules.from_mode = missing_from[i].mode;
		f.sender = missing_from[i].sender;
		buf_printf(&in, "%s%s", missing_from[i].header, REST);
		buf_printf(&expected, "%s%s%s", RECEIVED, REST,
		    missing_from[i].out);
		assert_null(rewrite_header(&rules, &f, buf_span(&in), &out));
		assert_string_equal(buf_text(&out), buf_text(&expected));
		buf_free(&in);
		buf_free(&out);
		buf_free(&expected);
	}
}

static void
d5_missing_fields_are_added(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	char *text;

	(void)state;
	assert_null(rewrite(&rules, SPAN("Subject: x\r\n"), &text));
	assert_string_equal(text,
	    "Subject: x\r\n"
	    "From: \"bob on web1\" <bob@example.com>\r\n" DATE MESSAGE_ID);
	free(text);
	/* B2, and D6 where all is body */
	assert_null(rewrite(&rules, SPAN(""), &text));
	assert_string_equal(text,
	    "From: \"bob on web1\" <bob@example.com>\r\n" DATE MESSAGE_ID);
	free(text);
}

static void
a_message_id_has_a_domain_with_a_dot(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	struct buf out = { NULL, 0, 0 };

	(void)state;
	rules.hostname = "c0ffee";
	assert_null(rewrite_header(&rules, &facts, SPAN(""), &out));
	assert_non_null(strstr(buf_text(&out),
	    "\r\nMessage-ID: <ID.00000000000000ab@example.com>\r\n"));
	buf_free(&out);
}

static void
received_names_the_only_recipient(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	struct rewrite_facts f = facts;
	struct buf out = { NULL, 0, 0 };

	(void)state;
	f.recipient = "you@example.com";
	f.helo = "";
	f.client = "userid 1000";
	assert_null(rewrite_header(&rules, &f, SPAN(FULL), &out));
	assert_string_equal(buf_text(&out),
	    "Received: from localhost (userid 1000)\r\n"
	    "\tby web1.example.com (relayd) with ESMTP id ID\r\n"
	    "\tfor <you@example.com>; Tue, 24 Nov 2026 05:14:29 +0000\r\n" FULL);
	buf_free(&out);
}

/* ---- limits ---- */

/* The reply to a header of count times text, then tail. */
static const char *
reply_to(const char *head, const char *text, size_t count, const char *tail)
{
	struct rewrite_rules rules = rules_with(NULL);
	struct buf header = { NULL, 0, 0 };
	const char *reply;
	char *out;

	buf_add_text(&header, head);
	while (count-- > 0)
		buf_add_text(&header, text);
	buf_add_text(&header, tail);
	reply = rewrite(&rules, buf_span(&header), &out);
	buf_free(&header);
	free(out);
	return reply;
}

static void
b41_over_50_received_are_a_loop(void **state)
{
	(void)state;
	assert_null(reply_to("", "received : x\r\n", 50, ""));
	assert_string_equal(
	    reply_to("", "received : x\r\n", 50, "RECEIVED: y\r\n"),
	    "554 5.4.6 routing loop: too many Received fields");
}

static void
b22_a_nul_is_refused(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	char *text;

	(void)state;
	assert_string_equal(rewrite(&rules, SPAN("Subject: a\0b\r\n"), &text),
	    "550 5.6.0 NUL in the header section");
}

static void
control_characters_are_masked(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	char *text;

	(void)state;
	assert_null(rewrite(&rules,
	    SPAN("Subject: \x1b[1m\x07\x7f\r\n\t\xc2\x9b\r\n"
		 "From: \"a\x01\" <a@b.example>\r\n"),
	    &text));
	assert_non_null(strstr(text,
	    "Subject: ?[1m??\r\n\t\xc2\x9b\r\n"
	    "From: \"a?\" <a@b.example>\r\n"));
	free(text);
}

#define TEN "a,a,a,a,a,a,a,a,a,a,"

static void
b26_large_headers_are_refused(void **state)
{
	size_t filler = LIMIT_HEADER_FIELD - strlen("X:\r\n");

	(void)state;
	assert_null(reply_to("X:", "a", filler, "\r\n"));
	assert_string_equal(reply_to("X:", "a", filler + 1, "\r\n"),
	    "550 5.6.0 header field too large");
	assert_string_equal(reply_to("To:", "\r\n a,", 100000, "\r\n"),
	    "550 5.6.0 header field too large");
	assert_null(reply_to("", "X:\r\n", LIMIT_HEADER_FIELDS, ""));
	assert_string_equal(reply_to("", "X:\r\n", LIMIT_HEADER_FIELDS + 1, ""),
	    "550 5.6.0 too many header fields");
	assert_string_equal(reply_to("X:", "a", LIMIT_HEADER, "\r\n"),
	    "550 5.6.0 header section too large");
	/* Small as it comes, but not as it would leave. */
	assert_string_equal(
	    reply_to("", "To: " TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "\r\n",
		999, ""),
	    "550 5.6.0 header section too large");
}

static size_t
longest_line(const char *text)
{
	struct span rest = span_of(text), line;
	size_t longest = 0;

	while (rest.len > 0) {
		(void)span_cut(rest, '\n', &line, &rest);
		assert_true(line.len > 0 && line.data[line.len - 1] == '\r');
		assert_int_not_equal(span_trim(line).len, 0);
		if (line.len - 1 > longest)
			longest = line.len - 1;
	}
	return longest;
}

/* D20: however long the lines were before. */
static void
d20_rewritten_fields_keep_lines_short(void **state)
{
	static const char *const lists[] = { "root,", "root, ", "a@b.example,",
		"x: root;,", "root,\r\n ", "Some Body <root>,",
		"root@localhost (the comment here)," };
	struct rewrite_rules rules = rules_with(NULL);
	size_t i, length;

	(void)state;
	for (i = 0; i < CASES(lists); i++) {
		for (length = 900; length < 1000; length++) {
			struct buf in = { NULL, 0, 0 };
			char *text;

			buf_add_text(&in, FULL "To: root, ");
			while (in.len < strlen(FULL) + length)
				buf_add_text(&in, lists[i]);
			buf_add_text(&in, "a@b.example\r\n");
			assert_null(rewrite(&rules, buf_span(&in), &text));
			assert_true(longest_line(text) <= 998);
			free(text);
			buf_free(&in);
		}
	}
}

/* Lines that came too long and with nothing to rewrite stay as they are. */
static void
b21_a_long_line_is_not_folded(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	struct buf in = { NULL, 0, 0 };
	char *text;
	unsigned i;

	(void)state;
	buf_add_text(&in, FULL "To: ");
	for (i = 0; i < 200; i++)
		buf_add_text(&in, "a@b.example, ");
	buf_add_text(&in, "c@d.example\r\n");
	assert_null(rewrite(&rules, buf_span(&in), &text));
	assert_string_equal(text, buf_text(&in));
	free(text);
	buf_free(&in);
}

static const struct {
	const char *before, *after; /* of a long run of letters */
	const char *out;
} long_names[] = {
	{ "From: root (", ")\r\n",
	    "From: \"root on web1\" <" FROM ">\r\n" REST },
	{ "From: x@", "\r\n", "From: <" FROM ">\r\n" REST },
	{ "From: ", "\r\n", NULL },
	{ "From: ", " (\r\n", NULL },
};

/* A name is not made of what is too long for one. */
static void
d20_long_names_are_not_taken_over(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	size_t i;

	(void)state;
	rules.from = FROM;
	rules.from_mode = FROM_ALWAYS;
	for (i = 0; i < CASES(long_names); i++) {
		struct buf in = { NULL, 0, 0 };
		char *text;

		buf_add_text(&in, long_names[i].before);
		while (in.len < 2000)
			buf_add_char(&in, 'r');
		buf_printf(&in, "%s%s", long_names[i].after, REST);
		assert_null(rewrite(&rules, buf_span(&in), &text));
		assert_true(longest_line(text) < LIMIT_ADDRESS);
		if (long_names[i].out != NULL)
			assert_string_equal(text, long_names[i].out);
		free(text);
		buf_free(&in);
	}
}

static const struct {
	const char *before, *word, *after;
} long_mailboxes[] = {
	{ "To: ", "some ", "one <root>\r\n" },
	{ "To: \"", "some ", "one\" <root>\r\n" },
	{ "To: \"", "so\\ me ", "one\" <root>\r\n" },
	{ "To: root, ", "some ", "one <a@b.example>\r\n" },
	{ "To: root, a@b.example (", "so(\\))me ", "one)\r\n" },
};

/* D20: a display name that is too long for a line as it came. */
static void
d20_long_names_are_folded_at_blanks(void **state)
{
	struct rewrite_rules rules = rules_with(NULL);
	size_t i, words;

	(void)state;
	for (i = 0; i < CASES(long_mailboxes); i++) {
		struct buf in = { NULL, 0, 0 }, again = { NULL, 0, 0 };
		struct strings found = { NULL, 0 };
		char *text;

		buf_add_text(&in, FULL);
		buf_add_text(&in, long_mailboxes[i].before);
		for (words = 0; words < 1000; words++)
			buf_add_text(&in, long_mailboxes[i].word);
		buf_add_text(&in, long_mailboxes[i].after);
		assert_null(rewrite(&rules, buf_span(&in), &text));
		assert_true(longest_line(text) <= 998);
		assert_null(strstr(text, "\\\r\n")); /* a quoted CR */
		/* It can still be parsed, and nothing but blanks was lost. */
		assert_null(header_recipients(span_of(text), &found));
		assert_int_equal(found.count, 1 + (i > 2));
		for (words = 0; text[words] != '\0'; words++)
			if (strchr(" \t\r\n", text[words]) == NULL)
				buf_add_char(&again, text[words]);
		words = 1000 * (strlen(long_mailboxes[i].word) - 1);
		if (i == 2)
			words -= 1000;
		assert_true(again.len > words);
		free(text);
		strings_free(&found);
		buf_free(&in);
		buf_free(&again);
	}
}

/* A list of a large alias, many times over. */
static void
f2_aliases_in_a_header_are_bounded(void **state)
{
	struct aliases *aliases =
	    parse("all: a@x.example, b@x.example, c@x.example\n"
		  "one: d@x.example\n");
	struct rewrite_rules rules = rules_with(aliases);
	char *text;

	(void)state;
	rules.recipient_limit = 4;
	assert_null(rewrite(&rules, SPAN(FULL "To: all, all, one\r\n"), &text));
	assert_string_equal(text,
	    FULL "To: \"all on web1\" <a@x.example>, \"all on web1\""
		 " <b@x.example>,\r\n"
		 "\t\"all on web1\" <c@x.example>,"
		 " \"all on web1\" <all@example.com>,\r\n"
		 "\t\"one on web1\" <one@example.com>\r\n");
	free(text);
	aliases_free(aliases);
}

static int
use_utc(void **state)
{
	(void)state;
	(void)setenv("TZ", "UTC0", 1);
	tzset();
	return 0;
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

/* A million at the same instant, and each under the same queue id: that is
 * also a second daemon, and a clock that was set back. */
static void
d19_message_ids_are_unique(void **state)
{
	enum { IDS = 1000000, LEN = 16 };
	struct rewrite_rules rules = rules_with(NULL);
	struct span before = SPAN("Message-ID: <ID.");
	char(*ids)[LEN] = mem_array(NULL, IDS, LEN);
	struct buf out = { NULL, 0, 0 };
	size_t i;

	(void)state;
	random_wanted = true;
	for (i = 0; i < IDS; i++) {
		const char *id;

		buf_clear(&out);
		assert_null(rewrite_header(&rules, &facts,
		    SPAN("From: a@b.example\r\nDate: x\r\n"), &out));
		id = memmem(out.data, out.len, before.data, before.len);
		assert_non_null(id);
		memcpy(ids[i], id + before.len, LEN);
	}
	random_wanted = false;
	buf_free(&out);
	qsort(ids, IDS, LEN, compare_ids);
	for (i = 1; i < IDS; i++)
		assert_memory_not_equal(ids[i - 1], ids[i], LEN);
	free(ids);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    recipients_go_through_aliases_local_to_and_origin),
		cmocka_unit_test(a40_the_same_recipient_counts_once),
		cmocka_unit_test(f1_aliases_nest_to_their_limit),
		cmocka_unit_test(f2_a_fan_out_bomb_stops_at_the_limit),
		cmocka_unit_test(f2_the_same_address_over_and_over_is_bounded),
		cmocka_unit_test(senders_follow_from_and_from_mode),
		cmocka_unit_test(a_complete_header_keeps_its_bytes),
		cmocka_unit_test(private_fields_are_dropped),
		cmocka_unit_test(recipients_in_the_header_become_full),
		cmocka_unit_test(from_and_sender_follow_from_mode),
		cmocka_unit_test(a_missing_from_is_made_of_the_sender),
		cmocka_unit_test(d5_missing_fields_are_added),
		cmocka_unit_test(a_message_id_has_a_domain_with_a_dot),
		cmocka_unit_test(d19_message_ids_are_unique),
		cmocka_unit_test(received_names_the_only_recipient),
		cmocka_unit_test(b41_over_50_received_are_a_loop),
		cmocka_unit_test(b22_a_nul_is_refused),
		cmocka_unit_test(control_characters_are_masked),
		cmocka_unit_test(b26_large_headers_are_refused),
		cmocka_unit_test(d20_rewritten_fields_keep_lines_short),
		cmocka_unit_test(b21_a_long_line_is_not_folded),
		cmocka_unit_test(d20_long_names_are_not_taken_over),
		cmocka_unit_test(d20_long_names_are_folded_at_blanks),
		cmocka_unit_test(f2_aliases_in_a_header_are_bounded),
	};

	return cmocka_run_group_tests(tests, use_utc, NULL);
}
