/*
 * scram.c: what the RFCs have as examples, and what must not pass.
 */
#include "auth.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

/* RFC 7677, 3. */
#define NONCE        "rOprNGfwEbeRWgbNEkqO"
#define BOTH         NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define SALT         "W22ZaJ0SNY7soEsUEjb6gQ=="
#define SERVER_FIRST "r=" BOTH ",s=" SALT ",i=4096"
#define SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static const struct span nonce = { NONCE, sizeof(NONCE) - 1 };

static void
the_example_of_rfc_7677(void **state)
{
	struct scram s = { .bare = { 0 } };
	struct buf out = { 0 };

	(void)state;
	scram_first(&s, SPAN("user"), nonce, &out);
	assert_string_equal(buf_text(&out), "n,,n=user,r=" NONCE);
	buf_clear(&out);
	assert_null(scram_final(&s, SPAN("pencil"), SPAN(SERVER_FIRST), &out));
	assert_string_equal(buf_text(&out),
	    "c=biws,r=" BOTH ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
	assert_null(scram_verify(&s, SPAN(SERVER_FINAL)));
	assert_null(scram_verify(&s, SPAN(SERVER_FINAL ",x=more")));
	buf_free(&out);
	scram_wipe(&s);
}

static void
only_the_right_signature_is_one(void **state)
{
	static const char *const wrong[] = {
		"",
		"v",
		"v=",
		"v=AAAA",
		"e=invalid-proof",
		"x=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95GA=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=AAAA",
	};
	struct scram s = { .bare = { 0 } };
	struct buf out = { 0 };
	size_t i;

	(void)state;
	scram_first(&s, SPAN("user"), nonce, &out);
	assert_null(scram_final(&s, SPAN("pencil"), SPAN(SERVER_FIRST), &out));
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_non_null(scram_verify(&s, span_of(wrong[i])));
	buf_free(&out);
	scram_wipe(&s);
}

static void
what_a_server_must_not_begin_with(void **state)
{
	static const struct {
		const char *message, *why;
	} rows[] = {
		{ "", "understood" },
		{ "r=" BOTH, "understood" },
		{ "r=" BOTH ",s=" SALT, "understood" },
		{ "s=" SALT ",r=" BOTH ",i=4096", "understood" },
		{ "m=x," SERVER_FIRST, "understood" },
		{ "r=" NONCE ",s=" SALT ",i=4096", "nonce" },
		{ "r=x" BOTH ",s=" SALT ",i=4096", "nonce" },
		{ "r=,s=" SALT ",i=4096", "nonce" },
		{ "r=" BOTH ",s=,i=4096", "salt" },
		{ "r=" BOTH ",s=W22Z!A==,i=4096", "salt" },
		{ "r=" BOTH ",s=W22,i=4096", "salt" },
		{ "r=" BOTH ",s=" SALT ",i=0", "iterations" },
		{ "r=" BOTH ",s=" SALT ",i=-1", "iterations" },
		{ "r=" BOTH ",s=" SALT ",i=x", "iterations" },
		{ "r=" BOTH ",s=" SALT ",i=100001", "iterations" },
		{ "r=" BOTH ",s=" SALT ",i=18446744073709551617",
		    "iterations" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct scram s = { .bare = { 0 } };
		struct buf out = { 0 };
		const char *why;

		scram_first(&s, SPAN("user"), nonce, &out);
		buf_clear(&out);
		why = scram_final(&s, SPAN("pencil"), span_of(rows[i].message),
		    &out);
		assert_non_null(why);
		assert_non_null(strstr(why, rows[i].why));
		assert_int_equal(out.len, 0);
		buf_free(&out);
		scram_wipe(&s);
	}
}

static void
a_user_name_can_hold_commas(void **state)
{
	struct scram s = { .bare = { 0 } };
	struct buf out = { 0 };

	(void)state;
	scram_first(&s, SPAN("a=b,c"), SPAN("x"), &out);
	assert_string_equal(buf_text(&out), "n,,n=a=3Db=2Cc,r=x");
	buf_free(&out);
	scram_wipe(&s);
}

/* RFC 2195, 2. */
static void
the_example_of_cram_md5(void **state)
{
	struct buf out = { 0 };

	(void)state;
	assert_true(cram_md5_answer(SPAN("tim"), SPAN("tanstaaftanstaaf"),
	    SPAN("<1896.697170952@postoffice.reston.mci.net>"), &out));
	assert_string_equal(buf_text(&out),
	    "tim b913a602c7eda7a495b4e6e7334d3890");
	buf_free(&out);
}

static void
base64_is_read_strictly(void **state)
{
	static const struct {
		const char *text, *value; /* NULL: refused */
	} rows[] = {
		{ "", "" },
		{ "Zg==", "f" },
		{ "Zm8=", "fo" },
		{ "Zm9v", "foo" },
		{ "Zm9vYg==", "foob" },
		{ "Z", NULL },
		{ "Zg", NULL },
		{ "Zg=", NULL },
		{ "=", NULL },
		{ "====", NULL },
		{ "Zg===", NULL },
		{ "Z===", NULL },
		{ "Zg==Zg==", NULL },
		{ " Zg==", NULL },
		{ "Zg==\n", NULL },
		{ "Z-_=", NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct buf out = { 0 };

		assert_int_equal(sasl_decode(&out, span_of(rows[i].text)),
		    rows[i].value != NULL);
		if (rows[i].value != NULL)
			assert_string_equal(buf_text(&out), rows[i].value);
		buf_free(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_of_rfc_7677),
		cmocka_unit_test(only_the_right_signature_is_one),
		cmocka_unit_test(what_a_server_must_not_begin_with),
		cmocka_unit_test(a_user_name_can_hold_commas),
		cmocka_unit_test(the_example_of_cram_md5),
		cmocka_unit_test(base64_is_read_strictly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
