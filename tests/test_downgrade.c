/*
 * downgrade.c: headers with UTF-8 made ASCII (I56).
 */
#include "mime.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define A10                                        \
	"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4" \
	"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"

struct row {
	const char *in;
	const char *out; /* NULL: an address needs SMTPUTF8 */
};

static void
run(const struct row *rows, size_t count)
{
	struct buf out = { 0 };
	size_t i;

	for (i = 0; i < count; i++) {
		bool done = header_downgrade(span_of(rows[i].in), &out);

		assert_int_equal(done, rows[i].out != NULL);
		if (done)
			assert_string_equal(buf_text(&out), rows[i].out);
		buf_clear(&out);
	}
	buf_free(&out);
}

static void
free_text_becomes_encoded_words(void **state)
{
	static const struct row rows[] = {
		{ "Subject: plain\r\n\ttext\r\n",
		    "Subject: plain\r\n\ttext\r\n" },
		{ "Subject: attach\xc3\xa9\r\n",
		    "Subject: =?utf-8?Q?attach=C3=A9?=\r\n" },
		{ "Subject:\xc3\xa4\r\nX: y\r\n",
		    "Subject: =?utf-8?B?w6Q=?=\r\nX: y\r\n" },
		/* only the words from the first to the last */
		{ "Subject: Re: attach\xc3\xa9 au lait\r\n",
		    "Subject: Re: =?utf-8?Q?attach=C3=A9?= au lait\r\n" },
		{ "X: a\r\n b\xc3\xa9\r\n c (d)\xc3\xa9\r\n e\r\n",
		    "X: a\r\n =?utf-8?B?YsOpIGMgKGQpw6k=?=\r\n e\r\n" },
		/* the blank between two encoded words is not shown */
		{ "X: =?utf-8?Q?a?= bbbb\xc3\xa9 =?utf-8?Q?c?=\r\n",
		    "X: =?utf-8?Q?a?= =?utf-8?Q?_bbbb=C3=A9_?= "
		    "=?utf-8?Q?c?=\r\n" },
		{ "X: aaaa\xe9\r\n", "X: =?unknown-8bit?Q?aaaa=E9?=\r\n" },
		/* no words where the grammar has no place for them */
		{ "Message-ID: <\xc3\xa4@b>\r\nContent-Type: a; n=\xc3\xa4\r\n",
		    "Message-ID: <\xc3\xa4@b>\r\n"
		    "Content-Type: a; n=\xc3\xa4\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows));
}

static void
words_end_between_characters_and_lines_at_76(void **state)
{
	static const struct row rows[] = {
		{ "Subject: " A10 A10 A10 A10 "\r\n",
		    "Subject: "
		    "=?utf-8?B?w6TDpMOkw6TDpMOkw6TDpMOkw6TDpMOkw6TDpMOk"
		    "w6TDpMOkw6Q=?=\r\n "
		    "=?utf-8?B?w6TDpMOkw6TDpMOkw6TDpMOkw6TDpMOkw6TDpMOk"
		    "w6TDpMOkw6TDpMOk?=\r\n" },
		{ "X-A-Field-With-A-Name-That-Is-Longer-Than-Any-In-Use: "
		  "\xc3\xa4\r\n",
		    "X-A-Field-With-A-Name-That-Is-Longer-Than-Any-In-Use:\r\n"
		    " =?utf-8?B?w6Q=?=\r\n" },
		{ "Subject: attach\xc3\xa9 0123456789 0123456789 0123456789 "
		  "0123456789 01234\r\n",
		    "Subject: =?utf-8?Q?attach=C3=A9?=\r\n 0123456789 0123456789 "
		    "0123456789 0123456789 01234\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows));
}

static void
names_and_comments_become_encoded_words(void **state)
{
	static const struct row rows[] = {
		{ "From: Zo\xc3\xab Smith <z@x.example>, a@b\r\n",
		    "From: =?utf-8?Q?Zo=C3=AB_Smith?= <z@x.example>, a@b\r\n" },
		{ "To: \"Smith, \\\"Zo\xc3\xab\\\" Jane\"<z@x.example>\r\n",
		    "To: =?utf-8?B?U21pdGgsICJab8OrIiBKYW5l?= "
		    "<z@x.example>\r\n" },
		{ "Cc: z@x.example (Zoe Smith (Zo\xc3\xab))\r\n",
		    "Cc: z@x.example (=?utf-8?Q?Zoe_Smith_=28Zo=C3=AB=29?=)\r\n" },
		{ "Resent-To: all Zo\xc3\xab: a@b, c@d;\r\n",
		    "Resent-To: =?utf-8?Q?all_Zo=C3=AB?= : a@b, c@d;\r\n" },
		{ "Reply-To: a@b,\r\n\tZoe Zo\xc3\xab <c@d>\r\n",
		    "Reply-To: a@b,\r\n\t=?utf-8?Q?Zoe_Zo=C3=AB?= <c@d>\r\n" },
		/* A quote without an end takes no line's end. */
		{ "From:[\xff\"]:;\"\"\r\nTo: c@d\r\n",
		    "From: =?unknown-8bit?B?W/9dOjs=?=\r\nTo: c@d\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows));
}

static void
an_address_that_is_not_ascii_is_not_changed(void **state)
{
	static const struct row rows[] = {
		{ "From: z\xc3\xab@x.example\r\n", NULL },
		{ "To: a@b, Zoe <z@\xc3\xab.example>\r\n", NULL },
		{ "Resent-Sender: \"z\xc3\xab\"@x.example\r\n", NULL },
		{ "Cc: g: \xc3\xab@x;\r\n", NULL },
		{ "Sender: \"z\xc3\xab <a@b>\r\n", NULL }, /* can't be read */
		{ "Received: from x by y for <\xc3\xab@x>\r\n",
		    "Received: from x by y for <\xc3\xab@x>\r\n" },
	};

	(void)state;
	run(rows, COUNT(rows));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(free_text_becomes_encoded_words),
		cmocka_unit_test(words_end_between_characters_and_lines_at_76),
		cmocka_unit_test(names_and_comments_become_encoded_words),
		cmocka_unit_test(an_address_that_is_not_ascii_is_not_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
