/*
 * relayctl set and config: one key of the text changes and nothing else, and
 * what is written is what is shown.
 */
#include "config_parts.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

struct bench {
	char directory[40];
	char path[64], include[64], secret[64];
	struct buf text, error;
};

static void
write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fputs(text, file) >= 0, 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

/* A certificate and its key, in one file. */
static void
write_certificate(const char *path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	FILE *file;

	write_file(path, "");
	file = fopen(path, "w");
	assert_non_null(file);
	(void)X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	(void)X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	assert_int_equal(X509_set_pubkey(certificate, key), 1);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(file, certificate), 1);
	assert_int_equal(
	    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(file), 0);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static int
setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	memcpy(b->directory, "/var/tmp/relayd-test-XXXXXX", 28);
	assert_non_null(mkdtemp(b->directory));
	(void)snprintf(b->path, sizeof(b->path), "%s/a", b->directory);
	(void)snprintf(b->include, sizeof(b->include), "%s/b", b->directory);
	(void)snprintf(b->secret, sizeof(b->secret), "%s/s", b->directory);
	write_file(b->secret, "secret");
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	(void)unlink(b->path);
	(void)unlink(b->include);
	(void)unlink(b->secret);
	assert_int_equal(rmdir(b->directory), 0);
	buf_free(&b->text);
	buf_free(&b->error);
	free(b);
	return 0;
}

/* Values are separated by '|'. */
static int
edit(struct bench *b, const char *key, const char *values)
{
	struct strings list = { NULL, 0 };
	struct span rest = span_of(values), one;
	bool more;
	int ret;

	do {
		more = span_cut(rest, '|', &one, &rest);
		strings_add(&list, one);
	} while (more);
	buf_clear(&b->text);
	buf_clear(&b->error);
	ret = config_edit(b->path, key, &list, &b->text, &b->error);
	strings_free(&list);
	return ret;
}

/* ---- one key of a text ---- */

static void
only_the_key_changes(void **state)
{
	static const struct {
		const char *before, *key, *values, *after;
	} cases[] = {
		{ "", "from", "a@b.c", "from = \"a@b.c\"\n" },
		{ "# no end", "log", "auto", "# no end\nlog = \"auto\"\n" },
		{ "log=auto#x\n# log = x\n", "log", "stderr",
		    "log=\"stderr\"#x\n# log = x\n" },
		{ "a = {\"x\", # one\n \"y\"} b = 1", "from", "z",
		    "a = {\"x\", # one\n \"y\"} b = 1\nfrom = \"z\"\n" },
		{ "retry = {\"1m\", # }\n\t\"2m\" } # x\nlog = auto", "retry",
		    "5m|1h", "retry = {\"5m\", \"1h\"} # x\nlog = auto" },
		{ "header_add = {}", "header_add", "X: a, b|Y: c",
		    "header_add = {\"X: a, b\", \"Y: c\"}" },
		{ "header_add = { 'X: y' }", "header_add", "",
		    "header_add = {}" },
		{ "header_add = {}", "header_add", "|Y: c|",
		    "header_add = {\"Y: c\"}" },
		{ "from='x' from='y'", "from", "z", "from=\"z\" from='y'" },
		{ "from = x", "from", "a\"b\\c$d${e}",
		    "from = \"a\\\"b\\\\c\\$d\\${e}\"" },
		{ "\xef\xbb\xbf"
		  "from = x",
		    "from", "y",
		    "\xef\xbb\xbf"
		    "from = \"y\"" },
		{ "/* relay r { */\nrelay r {\n\tport = 1\n}\n", "relay.r.port",
		    "25", "/* relay r { */\nrelay r {\n\tport = 25\n}\n" },
		{ "relay \"a\" {\n\tport = 1 }\nrelay 'b.c' {\n  host = x\n}",
		    "relay.b.c.port", "25",
		    "relay \"a\" {\n\tport = 1 }\n"
		    "relay 'b.c' {\n  host = x\n  port = 25\n}" },
		{ "relay r {\n x {\n y z { } }\n}\n", "relay.r.port", "25",
		    "relay r {\n x {\n y z { } }\n port = 25\n}\n" },
		{ "relay r { x { port = 1 } port = 2 }", "relay.r.port", "25",
		    "relay r { x { port = 1 } port = 25 }" },
		{ "relay r {\n}\n", "relay.r.tls_verify", "false",
		    "relay r {\n    tls_verify = false\n}\n" },
		{ "relay r {\n  host = \"}\" # }\n  /* } */ }\n",
		    "relay.r.port", "5",
		    "relay r {\n  host = \"}\" # }\n  /* } */  port = 5 }\n" },
		{ "listen \"unix:/a.b/c\" {}", "listen.unix:/a.b/c.mode",
		    "0600", "listen \"unix:/a.b/c\" { mode = \"0600\" }" },
		/* A key of a section is not one outside of it, and back. */
		{ "relay r { port = 1 host = from }\nfrom = b", "from", "z",
		    "relay r { port = 1 host = from }\nfrom = \"z\"" },
		{ "include(\"/dev/null\")", "from", "z", NULL },
		{ "relay r {}", "relay.s.port", "1", NULL },
		{ "", "relay.s.port", "1", NULL },
		{ "from = ", "from", "x", NULL },
		{ "relay r {", "from", "x", NULL },
		{ "", "nothing", "x", NULL },
		{ "", "", "x", NULL },
		{ "", ".", "x", NULL },
		{ "", "a.b.c", "x", NULL },
		{ "", "relay", "x", NULL },
		{ "", "relay.r", "x", NULL },
		{ "", "include", "x", NULL },
		{ "", "log", "auto|stderr", NULL },
		{ "", "from", "a\nb", NULL },
		{ "relay r {}", "relay.r.password", "x", NULL },
		{ "relay r {}", "relay.r.from", "x", NULL },
	};
	struct bench *b = *state;
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		int ret;

		write_file(b->path, cases[i].before);
		ret = edit(b, cases[i].key, cases[i].values);
		assert_int_equal(ret, cases[i].after == NULL ? -1 : 0);
		assert_int_equal(b->error.len > 0, ret == -1);
		if (ret == 0)
			assert_string_equal(buf_text(&b->text), cases[i].after);
	}
}

static void
a_key_of_an_included_file_is_refused_with_its_name(void **state)
{
	static const char *const keys[] = { "from", "relay.r.port",
		"relay.r.host" };
	struct bench *b = *state;
	size_t i;

	write_file(b->path, "log = auto\ninclude(\"b\")\n");
	write_file(b->include, "from = x\nrelay r { port = 1 }\n");
	for (i = 0; i < COUNT(keys); i++) {
		assert_int_equal(edit(b, keys[i], "1"), -1);
		assert_non_null(strstr(buf_text(&b->error), b->include));
	}
	assert_int_equal(edit(b, "log", "stderr"), 0);
	assert_string_equal(buf_text(&b->text),
	    "log = \"stderr\"\ninclude(\"b\")\n");
}

/* ---- every key there and back ---- */

static struct config *
load(struct bench *b)
{
	struct buf unused = { NULL, 0, 0 };
	struct config *c;

	buf_clear(&b->error);
	c = config_load(b->path, &b->error, &unused);
	buf_free(&unused);
	return c;
}

/* What is shown of a configuration; owned by the caller. */
static char *
show(const struct config *c, const char *key, bool changed)
{
	struct buf out = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	char *text;

	assert_int_equal(config_show(c, key, changed, &out, &error), 0);
	text = mem_text(buf_text(&out));
	buf_free(&out);
	buf_free(&error);
	return text;
}

/* Good for many keys; the first that its own takes is tried. */
static const char *const values[] = { "7", "2M", "7s", "0600", "false",
	"/etc/ssl/certs/ca-certificates.crt", "/tmp/a", "FILE",
	/* of the test */ "unix:/run/a", "name.example", "a$\"b'@c.example",
	"a@c.example", "gmail", "a@b.example=c@d.example", "*@c.example",
	"X-A: b\\$", "127.0.0.9", "127.0.0.1:9025", "14/s",
	"socks5://127.0.0.1:1080",
	"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "missing",
	"implicit", "plain", "ipv4", "1.3", "stderr", "debug", "reject",
	"json" };

static void
base_text(struct buf *out, const struct bench *b, const char *key)
{
	bool maildir = strcmp(key, "maildir") == 0;

	buf_clear(out);
	buf_printf(out,
	    "# first\nqueue_lifetime = \"9d\"\nrelay \"r\" {\n"
	    "\tsenders = {\"s@x.example\"} # s\n");
	if (!maildir)
		buf_add_text(out, "\thost = \"h.example\" /* h */\n");
	if (strcmp(key, "tls_cert") == 0 || strcmp(key, "tls_key") == 0)
		buf_printf(out, "\t%s = \"%s\"\n",
		    key[4] == 'c' ? "tls_key" : "tls_cert", b->include);
	if (strcmp(key, "password_credential") == 0 ||
	    strcmp(key, "password_command") == 0)
		buf_add_text(out, "\tuser = \"u\"\n"); /* not valid yet */
	else if (!maildir)
		buf_printf(out, "\tuser = \"u\"\n\tpassword_file = \"%s\"\n",
		    b->secret);
	buf_add_text(out,
	    "}\nlisten \"unix:/run/x/s\" {\n}\n"
	    "listen \"127.0.0.1:2525\" {\n}\n# last\n");
}

/* Every line of a is in b, in the same order, but for those with key; returns
 * how many b has more. */
static int
lines_added(const char *a, const char *b, const char *key)
{
	struct span x = span_of(a), y = span_of(b), one, other;
	struct buf start = { NULL, 0, 0 };
	int added = 0;

	buf_printf(&start, "%s = ", key);
	while (x.len > 0 || y.len > 0) {
		struct span rest_x = x, rest_y = y;

		(void)span_cut(x, '\n', &one, &rest_x);
		(void)span_cut(y, '\n', &other, &rest_y);
		if (x.len > 0 && y.len > 0 && span_equal(one, other)) {
			x = rest_x;
			y = rest_y;
		} else if (span_starts_nocase(span_trim(other),
			       buf_span(&start))) {
			y = rest_y;
			added++;
		} else {
			assert_true(span_starts_nocase(span_trim(one),
			    buf_span(&start)));
			x = rest_x;
		}
	}
	buf_free(&start);
	return added;
}

static void
round_trip(struct bench *b, const struct config_key *row, const char *name)
{
	char *before, *after, *again, *line;
	struct config *old, *c = NULL;
	struct buf text = { NULL, 0, 0 };
	size_t i;

	base_text(&text, b, row->name);
	if (span_starts_nocase(span_of(row->name), SPAN("tls_")))
		write_certificate(b->include);
	else
		write_file(b->include, "secret");
	for (i = 0; c == NULL && i < COUNT(values); i++) {
		const char *value =
		    strcmp(values[i], "FILE") == 0 ? b->include : values[i];

		write_file(b->path, buf_text(&text));
		if ((row->fallback != NULL &&
			strcmp(value, row->fallback) == 0) ||
		    edit(b, name, value) == -1)
			continue;
		write_file(b->path, buf_text(&b->text));
		c = load(b);
	}
	if (c == NULL)
		fail_msg("no value here is good for %s", name);
	(void)lines_added(buf_text(&text), buf_text(&b->text), row->name);
	after = show(c, NULL, true);
	line = show(c, name, true);
	assert_non_null(strstr(after, line));
	assert_true(strlen(line) > strlen(row->name));
	config_release(c);

	write_file(b->path, buf_text(&text));
	old = load(b);
	before = old == NULL ? mem_text("") : show(old, NULL, true);
	config_release(old);
	if (*before != '\0')
		assert_int_equal(lines_added(before, after, row->name), 1);

	write_file(b->path, after); /* what is shown is the same again */
	c = load(b);
	assert_non_null(c);
	again = show(c, NULL, true);
	assert_string_equal(again, after);
	config_release(c);
	free(before);
	free(after);
	free(again);
	free(line);
	buf_free(&text);
}

static void
every_key_is_shown_as_it_was_set(void **state)
{
	static const char *const sections[] = { NULL, "relay", "listen" };
	size_t i, count = 0;

	for (i = 0; i < COUNT(sections); i++) {
		const struct config_key *row = config_section_keys(sections[i]);

		for (; row->name != NULL; row++) {
			char name[128];

			if (row->kind <= KEY_INCLUDE || row->size == 0 ||
			    row->kind == KEY_SECRET)
				continue;
			(void)snprintf(name, sizeof(name), "%s%s",
			    i == 0       ? ""
				: i == 1 ? "relay.r."
				: strcmp(row->name, "mode") == 0
				? "listen.unix:/run/x/s."
				: "listen.127.0.0.1:2525.",
			    row->name);
			round_trip(*state, row, name);
			count++;
		}
	}
	assert_true(count > 40);
}

/* ---- what is shown ---- */

static void
a_shown_configuration_is_a_configuration(void **state)
{
	static const char *const texts[] = {
		"relay r { host = h.example }",
		"relay r { host = \"[h.example]:2525\" }",
		"relay r { host = \"[::1]:2525\" tls = none }",
		"relay r { host = \"h.example:465\" tls = implicit }",
		"relay r { maildir = \"/tmp/m\" }",
		"relay r { preset = gmail }",
		"relay r { preset = office365 rate = \"\" }",
		"relay r { host = h rate = \"100/h\" }\n"
		"relay s { host = h rate = \"0.123/s\" }\n"
		"relay t { host = h rate = \"0.000000001/d\" }\n"
		"relay u { host = h rate = \"999999999.5/s\" }",
		"relay r { preset = ses region = \"eu-west-1\" port = 465 "
		"tls = implicit }",
		"relay \"a.b\" { host = a senders = {\"*@x.example\"} }\n"
		"relay c { host = b } from_mode = always local_names = {}\n"
		"message_size_limit = 1500000 min_free_space = \"0\"\n"
		"listen \"[::1]:2525\" {} header_add = {\"X: \\\"${A:-\\$}\"}",
	};
	struct bench *b = *state;
	size_t i;
	int changed;

	for (i = 0; i < COUNT(texts); i++) {
		struct config *c;
		char *all, *some[2], *again;

		write_file(b->path, texts[i]);
		c = load(b);
		assert_non_null(c);
		all = show(c, NULL, false);
		some[0] = mem_text(all);
		some[1] = show(c, NULL, true);
		config_release(c);
		for (changed = 0; changed < 2; changed++) {
			write_file(b->path, some[changed]);
			c = load(b);
			assert_non_null(c);
			again = show(c, NULL, false);
			assert_string_equal(again, all);
			config_release(c);
			free(again);
			free(some[changed]);
		}
		free(all);
	}
}

static void
secrets_are_not_shown(void **state)
{
	struct bench *b = *state;
	struct config *c;
	char *text;
	int changed;

	write_file(b->path,
	    "relay r { host = h user = u password = 'pass-word-7' }");
	c = load(b);
	assert_non_null(c);
	for (changed = 0; changed < 2; changed++) {
		text = show(c, NULL, changed != 0);
		assert_null(strstr(text, "pass-word-7"));
		assert_non_null(strstr(text, "# password = (hidden)\n"));
		free(text);
	}
	text = show(c, "relay.r.password", false);
	assert_string_equal(text, "# password = (hidden)\n");
	free(text);
	config_release(c);
}

static void
defaults_are_not_shown_as_changed(void **state)
{
	struct bench *b = *state;
	struct config *c;
	char *text;

	write_file(b->path,
	    "retry = {\"1m\", \"300s\", \"15m\", \"60m\"} queue_lifetime = \"120h\"\n"
	    "relay r { preset = gmail port = 587 idle = \"30s\" }");
	c = load(b);
	assert_non_null(c);
	text = show(c, NULL, true);
	assert_string_equal(text,
	    "\nrelay \"r\" {\n    preset = \"gmail\"\n}\n");
	free(text);
	config_release(c);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_the_key_changes),
		TEST(a_key_of_an_included_file_is_refused_with_its_name),
		TEST(every_key_is_shown_as_it_was_set),
		TEST(a_shown_configuration_is_a_configuration),
		TEST(secrets_are_not_shown),
		TEST(defaults_are_not_shown_as_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
