/*
 * rewrite.c and rewrite_header.c: what masquerade, redirect, allow_recipients
 * and header_add change, and how that is told.  Names carry the case numbers
 * of hostile input where there is one.
 */
#include "relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CASES(table) (sizeof(table) / sizeof((table)[0]))
#define FROM         "alerts@example.com"
#define FULL         "From: a@b.example\r\nDate: x\r\nMessage-ID: y\r\n"

/* Rules with what they borrow. */
struct world {
	struct rewrite_rules rules;
	struct strings local_names, masquerade, allow, add;
	struct aliases *aliases;
	struct address_map *map;
};

static void
fail_on_warning(void *arg, unsigned line, const char *text)
{
	(void)arg;
	fail_msg("aliases:%u: %s", line, text);
}

/* entries: separated by '|'. */
static void
add_all(struct strings *list, const char *entries)
{
	struct span rest = span_of(entries), entry;
	bool more = rest.len > 0;

	while (more) {
		more = span_cut(rest, '|', &entry, &rest);
		strings_add(list, entry);
	}
}

static struct world *
make_world(const char *aliases, const char *masquerade)
{
	struct world *w = mem_alloc(sizeof(*w));

	add_all(&w->local_names, "localhost|web1.example.com|web1");
	add_all(&w->masquerade, masquerade);
	w->aliases = aliases_parse(span_of(aliases), fail_on_warning, NULL);
	w->map = address_map_new(&w->masquerade);
	w->rules = (struct rewrite_rules){ .hostname = "web1.example.com",
		.origin = "example.com",
		.local_names = &w->local_names,
		.aliases = w->aliases,
		.local_to = "",
		.redirect = "",
		.from = "",
		.allow_recipients = &w->allow,
		.masquerade = w->map,
		.from_mode = FROM_LOCAL,
		.header_add = &w->add,
		.recipient_limit = 10 };
	return w;
}

static void
free_world(struct world *w)
{
	strings_free(&w->local_names);
	strings_free(&w->masquerade);
	strings_free(&w->allow);
	strings_free(&w->add);
	address_map_free(w->map);
	aliases_free(w->aliases);
	free(w);
}

/* Notes each way in a line. */
static void
note_way(void *arg, const struct rewrite_hop *hop, size_t count,
    enum rewrite_result result)
{
	if (result != REWRITE_OK)
		buf_add_text(arg, "refused: ");
	rewrite_add_way(arg, hop, count);
	buf_add_char(arg, '\n');
}

/* ---- senders ---- */

#define ROOT   "root@web1.example.com=ops@example.com"
#define DOMAIN "@old.example=@new.example"

static const struct {
	const char *masquerade;
	const char *from;
	enum from_mode mode;
	const char *sender;
	const char *way;
} senders[] = {
	{ ROOT, "", FROM_LOCAL, "root@web1.example.com",
	    "root@web1.example.com -> ops@example.com (masquerade)\n" },
	/* one that was mapped is not local any more */
	{ ROOT, FROM, FROM_LOCAL, "root@web1.example.com",
	    "root@web1.example.com -> ops@example.com (masquerade)\n" },
	{ ROOT, FROM, FROM_LOCAL, "bob@web1.example.com",
	    "bob@web1.example.com -> " FROM " (from)\n" },
	{ ROOT, FROM, FROM_MISSING, "bob@web1.example.com",
	    "bob@web1.example.com\n" },
	{ ROOT, FROM, FROM_ALWAYS, "root@web1.example.com",
	    "root@web1.example.com -> ops@example.com (masquerade) -> " FROM
	    " (from)\n" },
	{ "root@example.com=root@web1", FROM, FROM_LOCAL, "root",
	    "root -> root@example.com (origin) -> root@web1 (masquerade) -> " FROM
	    " (from)\n" },
	/* it sees what is complete */
	{ "root@example.com=ops@example.com", FROM, FROM_LOCAL, "root",
	    "root -> root@example.com (origin) -> ops@example.com (masquerade)\n" },
	{ "root@example.com=ops@example.com", FROM, FROM_LOCAL, "root@WEB1",
	    "root@WEB1 -> root@example.com (origin) -> ops@example.com"
	    " (masquerade)\n" },
	{ "root@web1=ops@example.com", "", FROM_LOCAL, "root@web1",
	    "root@web1 -> root@example.com (origin)\n" },
	{ DOMAIN, FROM, FROM_LOCAL, "A.b@OLD.example",
	    "A.b@OLD.example -> A.b@new.example (masquerade)\n" },
	/* D20 */
	{ ROOT, "", FROM_LOCAL, "xroot@web1.example.com",
	    "xroot@web1.example.com\n" },
	{ ROOT, "", FROM_LOCAL, "\"root@web1.example.com\"@x.example",
	    "\"root@web1.example.com\"@x.example\n" },
	/* the null sender */
	{ DOMAIN, FROM, FROM_ALWAYS, "", "\n" },
};

static void
d20_senders_go_through_origin_masquerade_and_from(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(senders); i++) {
		struct world *w = make_world("", senders[i].masquerade);
		struct buf ways = { NULL, 0, 0 };
		const struct rewrite_trace trace = { note_way, &ways };
		char *sent;

		w->rules.from = senders[i].from;
		w->rules.from_mode = senders[i].mode;
		sent = rewrite_sender(&w->rules, span_of(senders[i].sender),
		    &trace);
		assert_string_equal(buf_text(&ways), senders[i].way);
		assert_non_null(strstr(senders[i].way, sent));
		free(sent);
		buf_free(&ways);
		free_world(w);
	}
}

/* ---- recipients ---- */

static const struct {
	const char *aliases;
	const char *local_to;
	const char *allow;
	const char *redirect;
	const char *address;
	enum rewrite_result result;
	const char *ways;
} recipients[] = {
	{ "", "", "", "", "a@b.example", REWRITE_OK, "a@b.example\n" },
	{ "root: admin\nadmin: a@x.example, b@x.example", "", "", "", "root",
	    REWRITE_OK,
	    "root -> admin (alias) -> a@x.example (alias)\n"
	    "root -> admin (alias) -> b@x.example (alias)\n" },
	{ "*: me@x.example", "", "", "", "bob", REWRITE_OK,
	    "bob -> me@x.example (catch-all alias)\n" },
	{ "*: \\bob", "", "", "", "bob", REWRITE_OK,
	    "bob -> \\x5cbob (catch-all alias) -> bob@example.com (origin)\n" },
	{ "", "me@x.example", "", "", "bob@localhost", REWRITE_OK,
	    "bob@localhost -> me@x.example (local_to)\n" },
	{ "a: b\nb: a", "", "", "", "a", REWRITE_OK,
	    "a -> b (alias) -> a (alias) -> a@example.com (origin)\n" },
	/* redirect alone */
	{ "root: you@x.example", "", "", "dev@x.example", "root", REWRITE_OK,
	    "root -> you@x.example (alias) -> dev@x.example (redirect)\n" },
	{ "root: a@x.example, b@x.example", "", "", "dev@x.example", "root",
	    REWRITE_OK,
	    "root -> a@x.example (alias) -> dev@x.example (redirect)\n"
	    "root -> b@x.example (alias) -> dev@x.example (redirect)\n" },
	{ "", "", "", "dev@x.example", "dev@x.example", REWRITE_OK,
	    "dev@x.example\n" },
	/* allow_recipients looks at the end of the way */
	{ "", "", "*@dev.example|me@x.example", "", "a@DEV.example", REWRITE_OK,
	    "a@DEV.example\n" },
	{ "", "", "root", "", "root", REWRITE_NOT_ALLOWED,
	    "refused: root -> root@example.com (origin)\n" },
	{ "", "", "@example.com", "", "root", REWRITE_OK,
	    "root -> root@example.com (origin)\n" },
	{ "root: a@dev.example", "", "@dev.example", "", "root", REWRITE_OK,
	    "root -> a@dev.example (alias)\n" },
	{ "", "", "@dev.example", "", "a@b.example", REWRITE_NOT_ALLOWED,
	    "refused: a@b.example\n" },
	{ "all: a@dev.example, b@x.example", "", "@dev.example", "", "all",
	    REWRITE_NOT_ALLOWED,
	    "all -> a@dev.example (alias)\n"
	    "refused: all -> b@x.example (alias)\n" },
	/* both */
	{ "all: a@dev.example, b@x.example", "", "@dev.example", "me@x.example",
	    "all", REWRITE_OK,
	    "all -> a@dev.example (alias)\n"
	    "all -> b@x.example (alias) -> me@x.example (redirect)\n" },
};

static void
recipients_are_allowed_redirected_or_refused(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(recipients); i++) {
		/* It is not for recipients. */
		struct world *w = make_world(recipients[i].aliases,
		    "@example.com=@no.example|@x.example=@no.example");
		struct buf ways = { NULL, 0, 0 };
		const struct rewrite_trace trace = { note_way, &ways };
		struct address_set out = { .slots = 0 };
		enum rewrite_result result;

		w->rules.local_to = recipients[i].local_to;
		w->rules.redirect = recipients[i].redirect;
		add_all(&w->allow, recipients[i].allow);
		result = rewrite_recipient(&w->rules,
		    span_of(recipients[i].address), &out, &trace);
		assert_string_equal(buf_text(&ways), recipients[i].ways);
		assert_int_equal(result, recipients[i].result);
		assert_int_equal(out.list.count == 0, result != REWRITE_OK);
		assert_int_equal(rewrite_refusal(result) == NULL,
		    result == REWRITE_OK);
		buf_free(&ways);
		address_set_free(&out);
		free_world(w);
	}
}

static void
many_recipients_are_redirected_to_one(void **state)
{
	struct world *w = make_world("", "");
	struct address_set out = { .slots = 0 };
	char text[32];
	unsigned i;

	(void)state;
	w->rules.redirect = "dev@x.example";
	for (i = 0; i < 20; i++) {
		(void)snprintf(text, sizeof(text), "n%u@x.example", i);
		assert_int_equal(
		    rewrite_recipient(&w->rules, span_of(text), &out, NULL),
		    REWRITE_OK);
	}
	assert_int_equal(out.list.count, 1);
	assert_string_equal(out.list.item[0], "dev@x.example");
	address_set_free(&out);
	free_world(w);
}

/* The way has all names, and no more than there are places for. */
static void
f1_the_way_of_too_deep_aliases_is_told(void **state)
{
	struct buf text = { NULL, 0, 0 }, ways = { NULL, 0, 0 };
	struct buf expected = { NULL, 0, 0 };
	const struct rewrite_trace trace = { note_way, &ways };
	struct address_set out = { .slots = 0 };
	struct world *w;
	unsigned i;

	(void)state;
	buf_add_text(&expected, "refused: n0");
	for (i = 0; i < LIMIT_ALIAS_DEPTH + 1; i++) {
		buf_printf(&text, "n%u: n%u\n", i, i + 1);
		if (i < LIMIT_ALIAS_DEPTH)
			buf_printf(&expected, " -> n%u (alias)", i + 1);
	}
	buf_add_char(&expected, '\n');
	w = make_world(buf_text(&text), "");
	assert_int_equal(rewrite_recipient(&w->rules, SPAN("n0"), &out, &trace),
	    REWRITE_DEEP);
	assert_string_equal(buf_text(&ways), buf_text(&expected));
	assert_string_equal(rewrite_refusal(REWRITE_DEEP),
	    "550 5.4.6 Aliases are nested too deep");
	buf_free(&text);
	buf_free(&ways);
	buf_free(&expected);
	free_world(w);
}

/* A tree of names without end: quadratic, this would take minutes. */
static void
f2_a_large_expansion_is_linear(void **state)
{
	enum { NAMES = 100000 };
	struct buf text = { NULL, 0, 0 };
	struct address_set out = { .slots = 0 };
	struct world *w;
	unsigned i;

	(void)state;
	buf_add_text(&text, "all: ");
	for (i = 0; i < NAMES; i++)
		buf_printf(&text, "n%u,", i);
	for (i = 0; i < NAMES; i++)
		buf_printf(&text, "\nn%u: a%u@x.example", i, i);
	w = make_world(buf_text(&text), "");
	w->rules.recipient_limit = NAMES;
	assert_int_equal(rewrite_recipient(&w->rules, SPAN("all"), &out, NULL),
	    REWRITE_OK);
	assert_int_equal(out.list.count, NAMES);
	address_set_free(&out);
	w->rules.recipient_limit = NAMES - 1;
	assert_int_equal(rewrite_recipient(&w->rules, SPAN("all"), &out, NULL),
	    REWRITE_TOO_MANY);
	assert_int_equal(out.list.count, 0);
	buf_free(&text);
	free_world(w);
}

/* ---- headers ---- */

/* The new header without our Received. */
static char *
rewritten(const struct rewrite_rules *rules, const char *sender,
    const char *header)
{
	const struct rewrite_facts facts = { .id = "ID",
		.client = "localhost [127.0.0.1]",
		.helo = "me",
		.protocol = "ESMTP",
		.sender = sender,
		.wall_ms = 1795497269000 };
	struct buf out = { NULL, 0, 0 };
	const char *rest;
	char *text;

	assert_null(rewrite_header(rules, &facts, span_of(header), &out));
	rest = strstr(buf_text(&out), "+0000\r\n"); /* the end of Received */
	assert_non_null(rest);
	text = mem_text(rest + strlen("+0000\r\n"));
	buf_free(&out);
	return text;
}

static const struct {
	const char *in;
	const char *out; /* NULL: the same */
} fields[] = {
	{ "To: bob@old.example\r\n", "To: <bob@new.example>\r\n" },
	{ "Cc: x@y.example, Bob <bob@old.example> (b)\r\n",
	    "Cc: x@y.example, Bob <bob@new.example> (b)\r\n" },
	{ "Reply-To: bob@OLD.example (Bob)\r\n",
	    "Reply-To: \"Bob\" <bob@new.example>\r\n" },
	{ "Sender: =?utf-8?q?R=C3=B6t?= <bob@old.example>\r\n",
	    "Sender: =?utf-8?q?R=C3=B6t?= <bob@new.example>\r\n" },
	{ "Resent-From: bob@old.example\r\n",
	    "Resent-From: <bob@new.example>\r\n" },
	{ "Resent-Sender: bob@old.example\r\n",
	    "Resent-Sender: <bob@new.example>\r\n" },
	{ "Resent-To: bob@old.example\r\n",
	    "Resent-To: <bob@new.example>\r\n" },
	{ "Resent-Cc: bob@old.example\r\n",
	    "Resent-Cc: <bob@new.example>\r\n" },
	{ "Resent-Reply-To: bob@old.example\r\n",
	    "Resent-Reply-To: <bob@new.example>\r\n" },
	{ "To: g: bob@old.example,\r\n\tx@y.example;\r\n",
	    "To: g: <bob@new.example>,\r\n\tx@y.example;\r\n" },
	{ "To: <@a.example,@b.example:bob@old.example>\r\n",
	    "To: <bob@new.example>\r\n" },
	/* a local one keeps the old address as its name */
	{ "Reply-To: root@web1.example.com\r\n",
	    "Reply-To: \"root on web1\" <ops@example.com>\r\n" },
	/* behind the aliases */
	{ "To: bob\r\n", "To: \"bob on web1\" <b@new.example>\r\n" },
	/* D20: names, comments and parts of an address are none */
	{ "To: \"bob@old.example\" <x@y.example>\r\n", NULL },
	{ "To: \"<bob@old.example>\" <x@y.example>\r\n", NULL },
	{ "To: x@y.example (bob@old.example)\r\n", NULL },
	{ "To: (<bob@old.example>) x@y.example\r\n", NULL },
	{ "To: bob@old.example.org, x@gold.example\r\n", NULL },
	{ "To: \"bob@old.example\"@y.example\r\n", NULL },
	{ "To: xroot@web1.example.com.org\r\n", NULL },
	{ "To: =?utf-8?q?bob=40old.example?= <x@y.example>\r\n", NULL },
	{ "Subject: bob@old.example\r\nX-To: bob@old.example\r\n", NULL },
	{ "List-Id: <root@web1.example.com>\r\n", NULL },
	/* what can't be parsed stays whole */
	{ "To: bob@old.example, \"x\r\n", NULL },
};

static void
d20_masquerade_changes_whole_addresses_in_the_header(void **state)
{
	struct world *w =
	    make_world("bob: b@old.example", ROOT "|@old.example=@new.example");
	size_t i;

	(void)state;
	/* The header says nothing of these. */
	w->rules.redirect = "dev@x.example";
	add_all(&w->allow, "@dev.example");
	for (i = 0; i < CASES(fields); i++) {
		struct buf in = { NULL, 0, 0 }, out = { NULL, 0, 0 };
		char *text;

		buf_printf(&in, "%s%s", fields[i].in, FULL);
		buf_printf(&out, "%s%s",
		    fields[i].out == NULL ? fields[i].in : fields[i].out, FULL);
		text = rewritten(&w->rules, "a@b.example", buf_text(&in));
		assert_string_equal(text, buf_text(&out));
		free(text);
		buf_free(&in);
		buf_free(&out);
	}
	free_world(w);
}

static const struct {
	const char *from;
	enum from_mode mode;
	const char *sender;
	const char *in; /* with Date and Message-ID */
	const char *out;
} froms[] = {
	{ "", FROM_LOCAL, "", "From: bob@old.example\r\n",
	    "From: <bob@new.example>\r\n" },
	{ FROM, FROM_LOCAL, "", "From: root@web1.example.com (Cron Daemon)\r\n",
	    "From: \"Cron Daemon\" <ops@example.com>\r\n" },
	{ FROM, FROM_ALWAYS, "", "From: Bob <bob@old.example>\r\n",
	    "From: Bob <" FROM ">\r\n" },
	/* the name would tell what masquerade hides */
	{ FROM, FROM_ALWAYS, "", "From: bob@old.example\r\n",
	    "From: <" FROM ">\r\n" },
	{ FROM, FROM_LOCAL, "bob@old.example", "",
	    "From: <bob@new.example>\r\n" },
	{ FROM, FROM_LOCAL, "root@web1.example.com", "",
	    "From: \"root on web1\" <ops@example.com>\r\n" },
};

static void
from_is_masqueraded_as_the_envelope_sender(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < CASES(froms); i++) {
		struct world *w = make_world("", ROOT "|" DOMAIN);
		struct buf in = { NULL, 0, 0 };
		char *text;

		w->rules.from = froms[i].from;
		w->rules.from_mode = froms[i].mode;
		buf_printf(&in, "%sDate: x\r\nMessage-ID: y\r\n", froms[i].in);
		text = rewritten(&w->rules, froms[i].sender, buf_text(&in));
		assert_non_null(strstr(text, froms[i].out));
		assert_int_equal(strlen(text),
		    strlen(froms[i].out) +
			strlen("Date: x\r\nMessage-ID: y\r\n"));
		free(text);
		buf_free(&in);
		free_world(w);
	}
}

static void
fields_of_header_add_stand_at_the_end_folded(void **state)
{
	struct world *w = make_world("", "");
	char *text;

	(void)state;
	add_all(&w->add,
	    "X-Env: staging|X-Long:a long value that goes on and on until it"
	    " is beyond the seventy-eighth column|X-\xc3\xa4: b  c");
	text = rewritten(&w->rules, "a@b.example", FULL "X-Env: own\r\n");
	assert_string_equal(text,
	    FULL "X-Env: own\r\n"
		 "X-Env: staging\r\n"
		 "X-Long: a long value that goes on and on until it is beyond"
		 " the seventy-eighth\r\n\tcolumn\r\n"
		 "X-\xc3\xa4: b  c\r\n");
	free(text);
	/* Behind what is added because it is missing. */
	text = rewritten(&w->rules, "a@b.example", "");
	assert_true(strstr(text, "\r\nX-Env: staging\r\n") >
	    strstr(text, "\r\nMessage-ID: "));
	free(text);
	free_world(w);
}

/* D20: a value of one word; and words at every distance from the edge. */
static void
d20_added_fields_keep_lines_short(void **state)
{
	struct buf entry = { NULL, 0, 0 };
	struct span rest, line;
	unsigned word, i;

	(void)state;
	for (word = 1; word < 890; word++) {
		struct world *w = make_world("", "");
		char *text;

		buf_clear(&entry);
		buf_add_text(&entry, "X-Y: ");
		for (i = 0; entry.len < 895; i++)
			buf_add_char(&entry,
			    i % (word + 1) == word ? ' ' : 'a');
		strings_add(&w->add, buf_span(&entry));
		text = rewritten(&w->rules, "a@b.example", FULL);
		for (rest = span_of(text); rest.len > 0;) {
			assert_true(span_cut(rest, '\n', &line, &rest));
			assert_true(line.len - 1 <= (word < 70 ? 78 : 998));
			line = span_trim(line);
			assert_int_not_equal(line.len, 0);
			assert_false(span_equal(line, SPAN("X-Y:")));
		}
		free(text);
		free_world(w);
	}
	buf_free(&entry);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    d20_senders_go_through_origin_masquerade_and_from),
		cmocka_unit_test(recipients_are_allowed_redirected_or_refused),
		cmocka_unit_test(many_recipients_are_redirected_to_one),
		cmocka_unit_test(f1_the_way_of_too_deep_aliases_is_told),
		cmocka_unit_test(f2_a_large_expansion_is_linear),
		cmocka_unit_test(
		    d20_masquerade_changes_whole_addresses_in_the_header),
		cmocka_unit_test(from_is_masqueraded_as_the_envelope_sender),
		cmocka_unit_test(fields_of_header_add_stand_at_the_end_folded),
		cmocka_unit_test(d20_added_fields_keep_lines_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
