/*
 * relayd.conf: what is refused (by the numbers of the catalogue of bad input,
 * sections E and G), what good files come to, and who may read secrets.
 *
 * wrap: access
 */
#include "config_parts.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define RELAY        "relay \"x\" { host = \"h.example\" }\n"
#define PIN          "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

struct fixture {
	char directory[32];
	char path[64];
	struct buf errors;
	struct buf warnings;
};

static bool no_file_accessible;

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);

int
__wrap_access(const char *path, int mode)
{
	if (no_file_accessible) {
		errno = ENOENT;
		return -1;
	}
	return __real_access(path, mode);
}

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)umask(022);
	memcpy(f->directory, "/tmp/test_config.XXXXXX", 24);
	assert_non_null(mkdtemp(f->directory));
	(void)snprintf(f->path, sizeof(f->path), "%s/relayd.conf",
	    f->directory);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	static const char *const names[] = { "relayd.conf", "secret", "link",
		"a.conf", "fifo", "ca.pem", "open/secret", "open" };
	struct fixture *f = *state;
	char path[80];
	size_t i;

	for (i = 0; i < COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->directory,
		    names[i]);
		if (unlink(path) == -1)
			(void)rmdir(path);
	}
	assert_int_equal(rmdir(f->directory), 0);
	buf_free(&f->errors);
	buf_free(&f->warnings);
	free(f);
	return 0;
}

/* The path of a file in the directory; good until the next call. */
static const char *
in(const struct fixture *f, const char *name)
{
	static char path[80];

	(void)snprintf(path, sizeof(path), "%s/%s", f->directory, name);
	return path;
}

static void
write_file(const char *path, struct span content, mode_t mode)
{
	int fd;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, content), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(close(fd), 0);
}

/* '%' in a text is the test's directory. */
static void
expand(const struct fixture *f, struct span text, struct buf *out)
{
	size_t i;

	for (i = 0; i < text.len; i++)
		if (text.data[i] == '%')
			buf_add_text(out, f->directory);
		else
			buf_add_char(out, text.data[i]);
}

static struct config *
load_mode(struct fixture *f, struct span text, mode_t mode)
{
	struct buf content = { 0 };

	expand(f, text, &content);
	write_file(f->path, buf_span(&content), mode);
	buf_free(&content);
	buf_clear(&f->errors);
	buf_clear(&f->warnings);
	return config_load(f->path, &f->errors, &f->warnings);
}

static struct config *
load(struct fixture *f, const char *text)
{
	return load_mode(f, span_of(text), 0600);
}

static struct config *
load_good(struct fixture *f, const char *text)
{
	struct config *c = load(f, text);

	if (c == NULL)
		fail_msg("%s\nis refused: %s", text, buf_text(&f->errors));
	assert_int_equal(f->errors.len, 0);
	return c;
}

/*
 * Is there a line "DIRECTORY/relayd.conf:PREFIX... FRAGMENT ..."?
 * expected  "PREFIX|FRAGMENT", such as "1: relay.x.port: |from 1 to".
 */
static void
assert_told(struct fixture *f, struct buf *lines, const char *expected)
{
	struct span prefix, fragment, line, rest;
	struct buf start = { 0 };
	bool found = false, more = true;

	assert_true(span_cut(span_of(expected), '|', &prefix, &fragment));
	buf_printf(&start, "%s:%.*s", f->path, (int)prefix.len, prefix.data);
	for (rest = buf_span(lines); more && !found;) {
		more = span_cut(rest, '\n', &line, &rest);
		found = line.len >= start.len &&
		    memcmp(line.data, start.data, start.len) == 0 &&
		    memmem(line.data, line.len, fragment.data, fragment.len) !=
			NULL;
	}
	if (!found)
		fail_msg("expected %s\nin: %s", expected, buf_text(lines));
	buf_free(&start);
}

static size_t
count_lines(const struct buf *lines)
{
	size_t i, count = 0;

	for (i = 0; i < lines->len; i++)
		count += lines->data[i] == '\n';
	return count;
}

static void
assert_refused(struct fixture *f, const char *text, const char *expected)
{
	struct config *c = load(f, text);

	if (c != NULL)
		fail_msg("accepted: %s", text);
	assert_told(f, &f->errors, expected);
	if (count_lines(&f->errors) != 1)
		fail_msg("more than one error for %s\n%s", text,
		    buf_text(&f->errors));
}

/* ---- syntax ---- */

static void
E1_to_E14_syntax_errors_name_file_and_line(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		/* E1 */
		{ "relay \"x\" { host=\"h\"",
		    "1: relay.x: |section relay \"x\" opened at line 1 is not "
		    "closed" },
		{ "\n\nrelay x {\n\n", "3: relay.x: |opened at line 3" },
		{ "a {", "1: a: |is not closed" },
		{ "include(\"/\033[2J\")", "1: include: /\\x1b[2J: |No such" },
		{ "relay \"\033[2J\" {", "|relay \"\\x1b[2J\" opened" },
		/* E2 */
		{ RELAY "/* never", "2: syntax: |not closed" },
		{ RELAY "/*/", "2: syntax: |not closed" },
		/* E3 */
		{ "\nrelay \"x\" { host = \"h", "2: syntax: |end on its line" },
		{ "host = 'h", "1: syntax: |end on its line" },
		{ "host = 'h\\'", "1: syntax: |end on its line" },
		{ "host = \"h\\", "1: syntax: |" },
		/* E5 */
		{ "from = \"a\nb\"", "1: syntax: |end on its line" },
		{ "from = 'a\nb'", "1: syntax: |end on its line" },
		{ "from = \"a\\\nb\"", "1: syntax: |end on its line" },
		/* E9 */
		{ "relay x {\nport 25\n}",
		    "2: relay.x.port: |\"=\" is missing" },
		{ "relay x { port = }", "1: relay.x.port: |value is missing" },
		{ "hostname", "1: hostname: |\"=\" is missing" },
		{ "hostname =", "1: hostname: |value is missing" },
		{ "hostname += \"x\"", "1: hostname: |\"=\" is missing" },
		{ "retry = {\"1m\" \"2m\"}", "1: retry: |list is not closed" },
		{ "retry = {\"1m\",", "1: retry: |list is not closed" },
		/* E13 */
		{ "from = \"${X:-\"", "1: syntax: |\"${\" without its \"}\"" },
		{ "from = \"${X:-${Y}}\"", "1: syntax: |\"${\" without" },
		{ "from = \"${X\"\nlog = \"}\"", "1: syntax: |\"${\" without" },
		{ "from = ${X", "1: from: |value is missing" },
		{ "from = \"\\400\"", "1: syntax: |escape" },
		{ "from = \"\\8\"", "1: syntax: |escape" },
		{ "from = \"\\0\"", "1: syntax: |escape" },
		{ "from = \"a\\x00b\"", "1: syntax: |escape" },
		{ "}", "1: syntax: |closes nothing" },
		{ "= 3", "1: syntax: |a key is expected" },
		{ "\"log\" = auto", "1: syntax: |a key is expected" },
		{ "a{a{a{a{a{", "1: a.a: |nested too deeply" },
		{ "log = auto*", "1: syntax: |a key is expected" },
		/* E14 */
		{ "include(\"relayd.conf\")", "1: include: |includes itself" },
		{ "include(\"%/relayd.conf\")",
		    "1: include: |includes itself" },
		{ "\ninclude(\"none.conf\")", "2: include: |No such file" },
		{ "include(\"%\")", "1: include: |directory" },
		{ "include(\"/dev/zero\")", "1: include: |regular file" },
		{ "include(\"*.conf\")", "1: include: |No such file" },
		{ "include()", "1: include: |file name" },
		{ "include(\"\")", "1: include: |plain file name" },
		{ "include(\"${HOME}\")", "1: include: |plain file name" },
		{ "relay x { include(\"a\") }",
		    "1: relay.x.include: |outside of sections" },
	};
	size_t i;

	for (i = 0; i < COUNT(cases); i++)
		assert_refused(*state, cases[i].text, cases[i].expected);
}

static void
E4_a_nul_is_refused_with_its_line(void **state)
{
	struct fixture *f = *state;

	assert_null(load_mode(f, SPAN("a = x\0y\n"), 0600));
	assert_told(f, &f->errors, "1: syntax: |NUL byte in line 1");
	assert_null(load_mode(f, SPAN("\n\n\0"), 0600));
	assert_told(f, &f->errors, "3: syntax: |NUL byte in line 3");
}

static void
E14_includes_are_read_in_place_and_told_by_their_own_name(void **state)
{
	struct fixture *f = *state;
	struct config *c;

	write_file(in(f, "a.conf"), SPAN("hostname = \"a.example\" # x"), 0644);
	c = load_good(f, "include(\"a.conf\")\n" RELAY);
	assert_string_equal(c->hostname, "a.example");
	config_release(c);

	write_file(in(f, "a.conf"), SPAN("\nfoo = 1\n"), 0644);
	assert_null(load(f, "include(\"a.conf\")\n" RELAY));
	assert_non_null(
	    strstr(buf_text(&f->errors), "/a.conf:2: foo: unknown"));

	write_file(in(f, "a.conf"), SPAN("include(\"relayd.conf\")"), 0644);
	assert_null(load(f, "include(\"a.conf\")\n" RELAY));
	assert_non_null(strstr(buf_text(&f->errors), "includes itself"));

	write_file(in(f, "a.conf"), SPAN("relay y {"), 0644);
	assert_null(load(f, "include(\"a.conf\")\n}"));
	assert_non_null(strstr(buf_text(&f->errors), "a.conf:1: relay.y: "));

	write_file(in(f, "a.conf"), SPAN("log = auto"), 0666);
	assert_refused(f, "include(\"a.conf\")\n" RELAY,
	    "1: include: |chmod o-w");
}

static void
E14_nothing_of_a_foreign_file_is_shown(void **state)
{
	static const char *const foreign[] = { "root:$6$SeCrEt:19000:0\n",
		"-----BEGIN KEY-----\nSeCrEt==\n", "\"SeCrEt\"", "SeCrEt\n",
		"SeCrEt=", "SeCrEt = {" };
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < COUNT(foreign); i++) {
		write_file(in(f, "a.conf"), span_of(foreign[i]), 0600);
		assert_null(load(f, "include(\"a.conf\")\n" RELAY));
		assert_null(strstr(buf_text(&f->errors), "SeCrEt"));
	}
}

static void
E14_eleven_levels_are_too_deep(void **state)
{
	struct fixture *f = *state;
	char name[8], text[64];
	struct config *c;
	int i;

	for (i = 0; i <= 10; i++) {
		(void)snprintf(name, sizeof(name), "i%d", i);
		(void)snprintf(text, sizeof(text), "include(\"i%d\")", i + 1);
		write_file(in(f, name), span_of(i == 10 ? "" : text), 0600);
	}
	assert_null(load(f, "include(\"i0\")" RELAY));
	assert_non_null(strstr(buf_text(&f->errors), "too deeply"));
	c = load_good(f, "include(\"i1\")" RELAY);
	config_release(c);
	for (i = 0; i <= 10; i++) {
		(void)snprintf(name, sizeof(name), "i%d", i);
		(void)unlink(in(f, name));
	}
}

static void
E15_what_is_no_regular_file_of_1_mib_is_refused(void **state)
{
	struct fixture *f = *state;
	struct buf large = { 0 };

	assert_null(config_load(f->directory, &f->errors, &f->warnings));
	assert_non_null(strstr(buf_text(&f->errors), ":1: file: "));
	buf_clear(&f->errors);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_null(config_load(f->path, &f->errors, &f->warnings));
	assert_told(f, &f->errors, "1: file: |regular file");
	buf_clear(&f->errors);
	assert_int_equal(unlink(f->path), 0);
	assert_null(config_load(f->path, &f->errors, &f->warnings));
	assert_told(f, &f->errors, "1: file: |No such file");
	assert_int_equal(symlink(f->path, f->path), 0);
	buf_clear(&f->errors);
	assert_null(config_load(f->path, &f->errors, &f->warnings));
	assert_told(f, &f->errors, "1: file: |");

	buf_add_text(&large, RELAY);
	while (large.len < LIMIT_CONFIG_FILE)
		buf_add_char(&large, '#');
	config_release(load_mode(f, buf_span(&large), 0600));
	assert_int_equal(f->errors.len, 0);
	buf_add_char(&large, '#');
	assert_null(load_mode(f, buf_span(&large), 0600));
	assert_told(f, &f->errors, "1: file: |1 MiB");
	buf_free(&large);
	assert_refused(f, "", "1: relay: |no relay");
}

/* ---- keys and values ---- */

static void
E6_to_E22_bad_keys_and_values_are_told(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		/* E6 */
		{ RELAY "relay \"x\" { port = 25 }", "2: relay.x: |duplicate" },
		{ RELAY "listen \"[::1]:0\" {}\nlisten '[::1]:0' {}",
		    "3: listen.[::1]:0: |duplicate: line 2" },
		{ RELAY "listen \"[::1]:${A:-0}\" {}\nlisten \"[::1]:0\" {}",
		    "1: file: |same name" },
		/* E7 */
		{ RELAY "log = auto log = auto", "2: log: |duplicate: line 2" },
		{ "relay x { host = a\n host = b }",
		    "2: relay.x.host: |duplicate: line 1" },
		/* E8 */
		{ RELAY "hostnam = \"a\"", "2: hostnam: |\"hostname\"" },
		{ RELAY "bounce \"x\" { a = 1 }", "2: bounce.x: |unknown" },
		{ "relay x {\nhost=h\nconections = 1 }",
		    "3: relay.x.conections: |\"connections\"" },
		{ RELAY "host = a", "2: host: |belongs in a relay section" },
		{ RELAY "mode = a", "2: mode: |belongs in a listen section" },
		{ "relay x { host=h spool = a }",
		    "1: relay.x.spool: |outside of sections" },
		{ RELAY "listen = \"a\"", "2: listen: |is a section" },
		{ RELAY "log { }", "2: log: |is no section" },
		{ RELAY "include = \"a\"", "2: include: |include(\"FILE\")" },
		{ "relay { host = h }", "1: relay: |name is missing" },
		{ "relay \"\" { host = h }", "1: relay.: |must be a name" },
		{ "relay \"a b\" { host = h }",
		    "1: relay.a b: |must be a name" },
		{ RELAY "dkim \"x\" { selector = a }", "2: dkim.x: |version" },
		{ RELAY "metrics = \"192.0.2.1:9025\"",
		    "2: metrics: |no address of loopback or a private" },
		{ RELAY "metrics = \"127.0.0.1\"",
		    "2: metrics: |an address and a port" },
		{ "relay x { host=h auth = xoauth2 }",
		    "1: relay.x.auth: |not in this version" },
		{ "relay x { host=h auth = external }",
		    "1: relay.x.auth: |needs a client certificate" },
		{ "relay x { host=h tls_cert = \"/x\" }",
		    "1: relay.x.tls_key: |go together" },
		{ "relay x { host=h tls_key = \"/x\" }",
		    "1: relay.x.tls_cert: |go together" },
		{ "relay x { host=h tls_key = \"/x\" tls_cert = \"/x\" }",
		    "1: relay.x.tls_cert: |No such file" },
		{ "relay x { host=h tls = none tls_key = \"/x\"\n"
		  "tls_cert = \"/x\" }",
		    "2: relay.x.tls_cert: |of no use" },
		{ "relay x { host=h tls_pin = \"sha256//AAAA=\" }",
		    "1: relay.x.tls_pin: |\"sha256//BASE64\"" },
		{ "relay x { host=h tls_pin = \"" PIN ";\" }",
		    "1: relay.x.tls_pin: |\"sha256//BASE64\"" },
		{ "relay x { host=h tls_pin = \"" PIN "x\" }",
		    "1: relay.x.tls_pin: |\"sha256//BASE64\"" },
		{ "relay x { host=h tls_pin = \"/etc/key.pem\" }",
		    "1: relay.x.tls_pin: |\"sha256//BASE64\"" },
		{ "relay x { host=h tls = opportunistic tls_pin = \"" PIN
		  "\" }",
		    "1: relay.x.tls_pin: |needs tls = \"starttls\"" },
		{ "relay x { host=h source = eth0 }",
		    "1: relay.x.source: |must be an address" },
		{ "relay x { host=h source = \"::1\" family = ipv4 }",
		    "1: relay.x.source: |not of the family \"ipv4\"" },
		{ "relay x { host=h source = \"127.0.0.1\" family = ipv6 }",
		    "1: relay.x.source: |not of the family \"ipv6\"" },
		{ "relay x { host=h proxy = \"socks4://h:1\" }",
		    "1: relay.x.proxy: |must be \"socks5://HOST:PORT\"" },
		{ "relay x { host=h proxy = \"socks5://h\" }",
		    "1: relay.x.proxy: |must be \"socks5://HOST:PORT\"" },
		{ "relay x { host=h proxy = \"http://h:0\" }",
		    "1: relay.x.proxy: |must be \"socks5://HOST:PORT\"" },
		{ "relay x { host=h proxy = \"http://h:80/x\" }",
		    "1: relay.x.proxy: |must be \"socks5://HOST:PORT\"" },
		{ "relay x { host=h proxy = \"http://::1:80\" }",
		    "1: relay.x.proxy: |must be \"socks5://HOST:PORT\"" },
		{ "relay x { host=h proxy = \"http://me:secret@h:80\" }",
		    "1: relay.x.proxy: |has a login" },
		{ "relay x { host=localhost tls = none user=u password='p'\n"
		  "proxy = \"http://h:80\" }",
		    "1: relay.x.tls: |in clear" },
		{ "relay x { host=h null_sender = root }",
		    "1: relay.x.null_sender: |full address" },
		{ "relay x { host=h senders = {\"shop.example\"} }",
		    "1: relay.x.senders: |\"shop.example\"" },
		{ "relay x { preset = yahoo }",
		    "1: relay.x.preset: |there are: gmail, gmail-relay, ses" },
		{ "relay x { maildir = relative }",
		    "1: relay.x.maildir: |absolute path" },
		{ "relay x { maildir = \"/tmp/m\"\nhost = h }",
		    "2: relay.x.host: |either a host or a maildir" },
		{ "relay x { maildir = \"/tmp/m\"\nrate = \"1/s\" }",
		    "2: relay.x.rate: |either a host or a maildir" },
		{ "relay x { host = h\nrate = \"0/s\" }",
		    "2: relay.x.rate: \"0/s\" |\"14/s\", \"30/m\"" },
		{ "relay x { host = h\nrate = 14 }", "2: relay.x.rate: |rate" },
		{ "relay x { host = h\ndaily = -1 }",
		    "2: relay.x.daily: |number from 0 to 1000000000" },
		/* E17 */
		{ "relay a { maildir = \"/tmp/m\" }\nrelay x { host = h }",
		    "2: relay.x: |behind the maildir \"a\"" },
		{ "relay x { preset = ses }",
		    "1: relay.x.region: |such as \"us-east-1\"" },
		{ "relay x { preset = ses region = \"a/b\" }",
		    "1: relay.x.region: |" },
		{ "relay x { host=h oauth2 { provider = a } }",
		    "1: relay.x.oauth2: |not in this version" },
		{ RELAY "listen 127.0.0.1:1 { tls = required }",
		    "2: listen.127.0.0.1:1.tls: |not in this version" },
		/* E9, E10, E11 */
		{ "relay x { host=h port = {25} }",
		    "1: relay.x.port: |not a list" },
		{ "relay x { host=h port = 25abc }",
		    "1: relay.x.port: |65535" },
		{ "relay x { host=h port = 99999999999999999999 }",
		    "1: relay.x.port: |\"99999999999999999999\" must be" },
		{ "relay x { host=h port = -1 }",
		    "1: relay.x.port: |1 to 65535" },
		{ "relay x { host=h port = 0 }",
		    "1: relay.x.port: |1 to 65535" },
		{ "relay x { host=h port = 65536 }",
		    "1: relay.x.port: |65535" },
		{ "relay x { host=h port = 0x19 }", "1: relay.x.port: |65535" },
		{ "relay x { host=h port = 0587 }", "1: relay.x.port: |65535" },
		{ "relay x { host=h port = \"\" }", "1: relay.x.port: |65535" },
		{ "relay x { host=h port = \"${RELAYD_UNSET}\" }",
		    "1: relay.x.port: |variable RELAYD_UNSET is not set" },
		{ "relay x { host=h port = ${RELAYD_UNSET} }",
		    "1: relay.x.port: |variable RELAYD_UNSET is not set" },
		{ "relay x { host=h connections = 0 }",
		    "1: relay.x.connections: |from 1 to 1000" },
		{ "relay x { host=h connections = -5 }",
		    "1: relay.x.connections: |from 1 to 1000" },
		{ "relay x { host=h connections = 1000000 }",
		    "1: relay.x.connections: |from 1 to 1000" },
		{ RELAY "message_size_limit = \"-1\"",
		    "2: message_size_limit: |from 1K to 4G" },
		{ RELAY "message_size_limit = \"1X\"",
		    "2: message_size_limit: |from 1K to 4G" },
		{ RELAY "message_size_limit = \"99999999T\"",
		    "2: message_size_limit: |from 1K to 4G" },
		{ RELAY "retry = {}", "2: retry: |from 1 to 32" },
		{ RELAY "retry = {\"0s\"}", "2: retry: |from 1s to 7d" },
		{ RELAY "retry = {\"1m\", \"8d\"}", "2: retry: |\"8d\" must" },
		{ RELAY "queue_lifetime = \"5\"", "2: queue_lifetime: |365d" },
		{ RELAY "queue_lifetime = \"0\"", "2: queue_lifetime: |365d" },
		{ RELAY "bounce_lifetime = \"0\"",
		    "2: bounce_lifetime: |365d" },
		{ RELAY "bounce_to = \"a b\"", "2: bounce_to: |local name" },
		{ RELAY "postmaster = \"\"", "2: postmaster: |local name" },
		{ RELAY "log_level = loud",
		    "2: log_level: |\"error\", \"warning\", \"info\", \"debug\"" },
		{ "relay x { host=h tls_verify = maybe }",
		    "1: relay.x.tls_verify: |\"false\", \"true\"" },
		{ "relay x { host=h tls_min = \"1.1\" }",
		    "1: relay.x.tls_min: |\"1.2\", \"1.3\"" },
		/* E12 */
		{ "relay x { host = \"a\\r\\nb\" }",
		    "1: relay.x.host: |control" },
		{ RELAY "hostname = \"\\x0d\\x0aRCPT\"",
		    "2: hostname: |control" },
		{ RELAY "from = \"a@b\\n\"", "2: from: |control" },
		{ "relay x { host=h user = \"a\tb\" password = 'p' }",
		    "1: relay.x.user: |control" },
		{ "relay x { host=h user=u password = \"\\177\" }",
		    "1: relay.x.password: |control" },
		{ RELAY "hostname = \"a b\"", "2: hostname: |domain name" },
		{ RELAY "hostname = \"[127.0.0.1]\"", "2: hostname: |domain" },
		{ RELAY "origin = \"-\"", "2: origin: |domain name" },
		{ RELAY "local_names = {\"a\", \"\"}",
		    "2: local_names: |domain" },
		{ RELAY "from = \"root\"", "2: from: |full address" },
		{ RELAY "local_to = \"a@b@c\"", "2: local_to: |full address" },
		{ RELAY "user = \"a b\"", "2: user: |must be a name" },
		{ RELAY "header_add = {\"X: y\\nBcc: e\"}",
		    "2: header_add: |control" },
		{ RELAY "header_add = {\"X-A: b\", \"X\"}",
		    "2: header_add: |must be a field" },
		{ RELAY "header_add = \": x\"", "2: header_add: |must be a" },
		{ RELAY "header_add = \"X-A: \"", "2: header_add: |must be a" },
		{ RELAY "header_add = \"X A: b\"", "2: header_add: |name" },
		{ RELAY "header_add = \"X\xc3\xa4: b\"",
		    "2: header_add: |name" },
		{ RELAY "header_add = \"X: \xc3\"", "2: header_add: |UTF-8" },
		{ RELAY "header_add = \"bcc: a@b\"",
		    "2: header_add: |can't be added" },
		{ RELAY "header_add = \"Resent-Date: x\"",
		    "2: header_add: |can't be added" },
		{ RELAY "header_add = \"content-type: x\"",
		    "2: header_add: |can't be added" },
		{ RELAY "redirect = \"dev\"", "2: redirect: |full address" },
		{ RELAY "allow_recipients = {\"*@a.example\", \"\"}",
		    "2: allow_recipients: |must be an address" },
		{ RELAY "allow_recipients = \"me\"",
		    "2: allow_recipients: |must be an address" },
		{ RELAY "allow_recipients = \"a b@*\"",
		    "2: allow_recipients: |must be an address" },
		/* D21 */
		{ RELAY "masquerade = \"a@b=c@d\\r\\n\"",
		    "2: masquerade: |control" },
		{ RELAY "masquerade = \"@a.example=@b.example\\x0dRCPT\"",
		    "2: masquerade: |control" },
		{ RELAY "masquerade = \"root\"", "2: masquerade: |must be" },
		{ RELAY "masquerade = \"a=b@c\"", "2: masquerade: |must be" },
		{ RELAY "masquerade = {\"@a.b=c@d\"}",
		    "2: masquerade: |must be" },
		{ RELAY "masquerade = {\"a@b=c@d\", \"@e=@f\", \"A@b=x@y\"}",
		    "2: masquerade: |a@b is there twice" },
		/* E13 */
		{ "relay x { host = \"${RELAYD_UNSET}\" }",
		    "1: relay.x.host: |host is empty (environment variable "
		    "RELAYD_UNSET is not set)" },
		{ "relay x { }", "1: relay.x.host: |host is empty" },
		{ "relay x { host=h user=u password = abc }",
		    "1: relay.x.password: |in quotes" },
		{ "relay x { host=h user=u password = ${HOME} }",
		    "1: relay.x.password: |in quotes" },
		/* E17 */
		{ "log = auto", "1: relay: |no relay" },
		/* E18 */
		{ "relay x { host=h tls=none\nuser=u password='p' }",
		    "1: relay.x.tls: |in clear" },
		{ "relay x { host=h\ntls=opportunistic user=u password='p' }",
		    "2: relay.x.tls: |in clear" },
		/* E20 */
		{ RELAY "spool = \"spool\"", "2: spool: |absolute" },
		{ RELAY "spool = \"~/spool\"", "2: spool: |absolute" },
		{ RELAY "spool = \"/a/../b\"", "2: spool: |without \"..\"" },
		{ RELAY "spool = \"/\"", "2: spool: |below \"/\"" },
		{ RELAY "spool = \"//.\"", "2: spool: |below \"/\"" },
		{ RELAY "spool = \"%/relayd.conf\"",
		    "2: spool: |no directory" },
		{ RELAY "aliases = aliases", "2: aliases: |absolute" },
		/* E22 */
		{ RELAY
		    "listen \"unix:/0123456789012345678901234567890123456789"
		    "0123456789012345678901234567890123456789"
		    "012345678901234567890123456\" {}",
		    "|107 octets" },
		{ RELAY "listen \"unix:a\" {}", "2: listen.unix:a: |absolute" },
		{ RELAY "listen \"localhost:25\" {}",
		    "2: listen.localhost:25: |ADDRESS:PORT" },
		{ RELAY "listen \"127.0.0.1\" {}",
		    "2: listen.127.0.0.1: |ADDRESS:PORT" },
		{ RELAY "listen \"::1:25\" {}",
		    "2: listen.::1:25: |ADDRESS:PORT" },
		{ RELAY "listen \"[::1]:65536\" {}",
		    "2: listen.[::1]:65536: |ADDRESS:PORT" },
		{ RELAY "listen \"127.0.0.1:1\" { mode = \"0600\" }",
		    "2: listen.127.0.0.1:1.mode: |unix sockets" },
		{ RELAY "listen \"unix:/a\" { mode = \"0999\" }",
		    "2: listen.unix:/a.mode: |0777" },
		{ RELAY "listen \"unix:/a\" { mode = \"1777\" }",
		    "2: listen.unix:/a.mode: |0777" },
		{ RELAY "listen \"unix:/a\" { allow = {\"10.0.0.0/8\"} }",
		    "2: listen.unix:/a.allow: |unix socket" },
		{ RELAY "control = \"/a\"", "2: control: |unix:/PATH" },
		{ RELAY "listen 127.0.0.1:1 { allow = {\"10.0.0.0/33\"} }",
		    "2: listen.127.0.0.1:1.allow: |must be a network" },
		/* hosts and logins */
		{ "relay x { host = \"a b\" }", "1: relay.x.host: |host name" },
		{ "relay x { host = \"[a]x\" }",
		    "1: relay.x.host: |host name" },
		{ "relay x { host = \"[a]:0\" }",
		    "1: relay.x.host: |host name" },
		{ "relay x { host = \"a:b\" }", "1: relay.x.host: |host name" },
		{ "relay x { host = \"[a]:26\" port = 25 }",
		    "1: relay.x.port: |differs" },
		{ "relay x { host=h user=u }",
		    "1: relay.x.user: |no password" },
		{ "relay x { host=h password='p' }",
		    "1: relay.x.user: |missing" },
		{ "relay x { host=h auth=plain }",
		    "1: relay.x.user: |missing" },
		{ "relay x { host=h user=u password='p' "
		  "password_credential=c }",
		    "1: relay.x.password: |only one of" },
		{ "relay x { host=h user=u password_credential='../c' }",
		    "1: relay.x.password_credential: |must be a name" },
		/* G6 */
		{ "relay x { host=h tls_ca_file=\"%/none\" }",
		    "1: relay.x.tls_ca_file: |No such file" },
		{ "relay x { host=h tls_ca_file=\"%/relayd.conf\" }",
		    "1: relay.x.tls_ca_file: |PEM" },
		{ "relay x { host=h tls_ca_file=\"/dev/null\" }",
		    "1: relay.x.tls_ca_file: |" },
	};
	size_t i;

	for (i = 0; i < COUNT(cases); i++)
		assert_refused(*state, cases[i].text, cases[i].expected);
}

static void
all_errors_are_listed_together(void **state)
{
	struct fixture *f = *state;

	assert_null(load(f,
	    "foo = 1\n"
	    "relay x {\n"
	    "host = \"h\" port = 0\n"
	    "tls = maybe\n"
	    "}\n"
	    "queue_lifetime = \"5\"\n"
	    "metrics = \"x\"\n"));
	assert_told(f, &f->errors, "1: foo: |unknown");
	assert_told(f, &f->errors, "3: relay.x.port: |65535");
	assert_told(f, &f->errors, "4: relay.x.tls: |\"starttls\"");
	assert_told(f, &f->errors, "6: queue_lifetime: |365d");
	assert_told(f, &f->errors, "7: metrics: |an address and a port");
	assert_int_equal(count_lines(&f->errors), 5);
}

static void
allow_ends_at_private_networks(void **state)
{
	static const struct {
		const char *block;
		bool good;
	} cases[] = {
		{ "127.0.0.1", true },
		{ "10.0.0.0/8", true },
		{ "10.9.8.0/24", true },
		{ "172.16.0.0/12", true },
		{ "192.168.1.1/32", true },
		{ "169.254.0.0/16", true },
		{ "100.64.0.0/10", true },
		{ "::1", true },
		{ "fd00::/8", true },
		{ "fe80::/64", true },
		{ "::ffff:10.0.0.0/104", true },
		{ "0.0.0.0/0", false },
		{ "10.0.0.0/7", false },
		{ "172.16.0.0/11", false },
		{ "172.32.0.0/16", false },
		{ "100.128.0.0/10", false },
		{ "8.8.8.8", false },
		{ "::/0", false },
		{ "2001:db8::/32", false },
		{ "::ffff:8.8.8.8/128", false },
		{ "::ffff:0.0.0.0/96", false },
	};
	struct fixture *f = *state;
	char text[160];
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		(void)snprintf(text, sizeof(text),
		    RELAY "listen 127.0.0.1:0 { allow = {\"%s\"} }",
		    cases[i].block);
		if (cases[i].good)
			config_release(load_good(f, text));
		else
			assert_refused(f, text,
			    "2: listen.127.0.0.1:0.allow: |reaches beyond");
	}
}

static void
E24_many_entries_end_in_a_limit(void **state)
{
	struct fixture *f = *state;
	struct buf text = { 0 };
	int i;

	buf_add_text(&text, RELAY);
	for (i = 0; i < 10000; i++)
		buf_printf(&text, "relay r%d { host = h }\n", i);
	assert_null(load_mode(f, buf_span(&text), 0600));
	assert_int_equal(count_lines(&f->errors), 101);
	buf_clear(&text);
	for (i = 0; i < 200000; i++)
		buf_add_text(&text, "a=1\n");
	assert_null(load_mode(f, buf_span(&text), 0600));
	assert_int_equal(count_lines(&f->errors), 101);
	buf_clear(&text);
	buf_add_text(&text, RELAY "local_names = {");
	for (i = 0; i < 100000; i++)
		buf_add_text(&text, "a,");
	buf_add_text(&text, "a}");
	assert_null(load_mode(f, buf_span(&text), 0600));
	assert_told(f, &f->errors, "2: local_names: |over 1000");
	buf_free(&text);
}

/* ---- every key, every size ---- */

static bool
is_text(const struct config_key *key)
{
	return key->kind == KEY_TEXT || key->kind == KEY_LIST ||
	    key->kind == KEY_SECRET;
}

static void
E12_no_key_takes_a_control_character(void **state)
{
	static const char *const sections[] = { NULL, "listen", "relay" };
	static const char *const opening[] = { RELAY,
		RELAY "listen \"127.0.0.1:0\" {", "relay \"x\" {" };
	static const char *const place[] = { "", "listen.127.0.0.1:0.",
		"relay.x." };
	struct fixture *f = *state;
	struct buf text = { 0 }, expected = { 0 };
	const struct config_key *key;
	unsigned i, c, texts = 0;

	for (i = 0; i < COUNT(sections); i++) {
		for (key = config_section_keys(sections[i]); key->name != NULL;
		     key++) {
			for (c = 1; is_text(key) && c <= 0x7f; c++) {
				if (c >= ' ' && c < 0x7f)
					continue;
				buf_clear(&text);
				buf_printf(&text, "%s\n%s = \"a\\x%02xb\"%s",
				    opening[i], key->name, c,
				    i > 0 ? "\n}" : "");
				buf_clear(&expected);
				buf_printf(&expected, "%u: %s%s: |control",
				    i == 2 ? 2u : 3u, place[i], key->name);
				assert_null(load(f, buf_text(&text)));
				assert_told(f, &f->errors, buf_text(&expected));
			}
			texts += is_text(key);
		}
	}
	assert_true(texts > 20);
	buf_free(&text);
	buf_free(&expected);
}

struct many {
	const char *opening, *before, *after; /* a number between */
	int count;
};

/* The processor's time to refuse a part of them. */
static double
time_of(struct fixture *f, const struct many *m, int part)
{
	struct buf text = { 0 };
	clock_t begun;
	int i;

	buf_add_text(&text, m->opening);
	for (i = 0; i < m->count / part; i++)
		buf_printf(&text, "%s%d%s", m->before, i, m->after);
	buf_add_char(&text, '}');
	write_file(f->path, buf_span(&text), 0600);
	buf_free(&text);
	buf_clear(&f->errors);
	begun = clock();
	assert_null(config_load(f->path, &f->errors, &f->warnings));
	return (double)(clock() - begun) + 1;
}

/* Five times as much takes some five times as long, not twenty-five. */
static void
E24_refusing_takes_linear_time(void **state)
{
	static const struct many rows[] = {
		{ RELAY "masquerade = {", "\"", "@b=c@d\",", 50000 },
		{ RELAY "listen a { allow = {", "\"10.", "/8\",", 50000 },
		{ "relay a {}", "relay a", " {host=h}\n", 40000 },
		{ RELAY, "key", " = 1\n", 50000 },
	};
	size_t i;
	int try;

	for (i = 0; i < COUNT(rows); i++) {
		double ratio, best = 1e9;

		for (try = 0; try < 5 && best > 10; try++) {
			ratio = time_of(*state, &rows[i], 1) /
			    time_of(*state, &rows[i], 5);
			best = ratio < best ? ratio : best;
		}
		if (best > 10)
			fail_msg("%s: %f", rows[i].opening, best);
	}
}

/* ---- good files ---- */

static void
one_relay_is_enough_and_the_rest_has_defaults(void **state)
{
	struct config *c =
	    load_good(*state, "relay \"gmail\" { host = \"smtp.gmail.com\" }");

	assert_string_equal(c->path, ((struct fixture *)*state)->path);
	assert_true(strlen(c->hostname) > 0 && strlen(c->origin) > 0);
	assert_true(strings_have(&c->local_names, SPAN("localhost")));
	assert_true(strings_have(&c->local_names, span_of(c->hostname)));
	assert_string_equal(c->aliases, "/etc/aliases");
	assert_false(c->aliases_given);
	assert_string_equal(c->local_to, "");
	assert_string_equal(c->from, "");
	assert_int_equal(c->from_mode, FROM_LOCAL);
	assert_int_equal(c->listen_count, 3);
	assert_string_equal(c->listen[0].address,
	    "unix:" RUNSTATEDIR "/relayd/submit.sock");
	assert_int_equal(c->listen[0].mode, 0666);
	assert_string_equal(c->listen[1].address, "127.0.0.1:25");
	assert_string_equal(c->listen[2].address, "[::1]:25");
	assert_true(c->listen[2].implicit);
	assert_string_equal(c->control, RUNSTATEDIR "/relayd/control.sock");
	assert_string_equal(c->spool, LOCALSTATEDIR "/spool/relayd");
	assert_int_equal(c->message_size_limit, 50 << 20);
	assert_int_equal(c->recipient_limit, 1000);
	assert_int_equal(c->min_free_space, 64 << 20);
	assert_int_equal(c->retry_count, 4);
	assert_int_equal(c->retry[0], 60);
	assert_int_equal(c->retry[3], 3600);
	assert_int_equal(c->queue_lifetime, 5 * 86400);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_int_equal(c->relay_count, 1);
	assert_string_equal(c->relay[0].name, "gmail");
	assert_int_equal(c->relay[0].port, 587);
	assert_int_equal(c->relay[0].tls, TLS_STARTTLS);
	assert_true(c->relay[0].tls_verify);
	assert_int_equal(c->relay[0].tls_min, 12);
	assert_int_equal(c->relay[0].connections, 2);
	assert_int_equal(c->relay[0].idle, 30);
	assert_int_equal(c->relay[0].connect_timeout, 60);
	assert_int_equal(c->relay[0].auth, AUTH_AUTO);
	config_release(c);
}

static void
E16_every_key_reaches_its_field(void **state)
{
	struct config *c = load_good(*state,
	    "\xef\xbb\xbf# CRLF and a byte order mark, E16\r\n"
	    "hostname = web1.example.com\r\n"
	    "origin = 'example.com' // comment\n"
	    "local_names = {localhost, \"web1\",} /* comment */\n"
	    "aliases = \"\" local_to = \"admin@example.com\"\n"
	    "spool = \"/s\" user = \"mail\" control = \"unix:/c\"\n"
	    "from = \"alerts@example.com\" from_mode = always "
	    "masquerade = {\"a=b@c=d@e\", \"@f=@g\"} redirect = 'h@i' "
	    "allow_recipients = {\"*@j\"} header_add = \"K: l \xc3\xa4\"\n"
	    "message_size_limit = \"1M\" recipient_limit = 7\n"
	    "min_free_space = \"0\" connection_limit = 9\n"
	    "client_timeout = \"1m\" retry = {\"1s\", \"2m\"}\n"
	    "bounce_lifetime = \"3h\" delay_warning = \"2h\" "
	    "failed_lifetime = \"30d\" bounce_to = \"ops\" "
	    "postmaster = \"p@q\" "
	    "queue_lifetime = \"4h\" log = syslog log_level = debug\n"
	    "listen \"unix:/l\" { mode = \"0600\" }\n"
	    "listen \"[::1]:0\" { allow = \"10.0.0.0/8\" tls = none "
	    "bare_newline = reject }\n"
	    "relay 'r-1' { host = \"[smtp.example.com]:2525\" tls = implicit "
	    "tls_verify = false tls_min = \"1.3\" auth = login user = u "
	    "password = 'p\\'\\\\\"\\x' connections = 3 pipeline = 4 "
	    "messages_per_connection = 5 recipients_per_message = 6 "
	    "idle = \"0\" timeout = \"8s\" connect_timeout = \"9s\" "
	    "family = ipv6 rate = \"30/m\" daily = 2000 "
	    "source = \"2001:db8::1\" "
	    "proxy = \"socks5h://[::1]:1080\" null_sender = \"n@m\" "
	    "tls_pin = \"" PIN ";" PIN "\" }\n");
	const struct config_relay *r = &c->relay[0];
	struct buf mapped = { 0 };

	assert_string_equal(c->hostname, "web1.example.com");
	assert_string_equal(c->origin, "example.com");
	assert_int_equal(c->local_names.count, 2);
	assert_string_equal(c->local_names.item[1], "web1");
	assert_string_equal(c->aliases, "");
	assert_true(c->aliases_given);
	assert_string_equal(c->local_to, "admin@example.com");
	assert_string_equal(c->spool, "/s");
	assert_string_equal(c->user, "mail");
	assert_string_equal(c->control, "/c");
	assert_string_equal(c->from, "alerts@example.com");
	assert_int_equal(c->bounce_lifetime, 3 * 3600);
	assert_true(config_lifetime_ms(c, "") == 3 * 3600 * 1000);
	assert_true(config_lifetime_ms(c, "a@b") == 4 * 3600 * 1000);
	assert_int_equal(c->delay_warning, 2 * 3600);
	assert_int_equal(c->failed_lifetime, 30 * 86400);
	assert_string_equal(c->bounce_to, "ops");
	assert_string_equal(c->postmaster, "p@q");
	assert_int_equal(c->from_mode, FROM_ALWAYS);
	assert_string_equal(c->masquerade.item[0], "a=b@c=d@e");
	assert_true(address_map_find(c->masquerade_map, SPAN("x@f"), &mapped));
	assert_string_equal(buf_text(&mapped), "x@g");
	buf_free(&mapped);
	assert_string_equal(c->redirect, "h@i");
	assert_string_equal(c->allow_recipients.item[0], "*@j");
	assert_string_equal(c->header_add.item[0], "K: l \xc3\xa4");
	assert_int_equal(c->message_size_limit, 1 << 20);
	assert_int_equal(c->recipient_limit, 7);
	assert_int_equal(c->min_free_space, 0);
	assert_int_equal(c->connection_limit, 9);
	assert_int_equal(c->client_timeout, 60);
	assert_int_equal(c->retry_count, 2);
	assert_int_equal(c->retry[1], 120);
	assert_int_equal(c->queue_lifetime, 4 * 3600);
	assert_int_equal(c->log, LOG_TO_SYSLOG);
	assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(c->listen_count, 2);
	assert_string_equal(c->listen[0].address, "unix:/l");
	assert_int_equal(c->listen[0].mode, 0600);
	assert_false(c->listen[0].implicit || c->listen[0].reject_bare_newline);
	assert_int_equal(c->listen[0].line, 12);
	assert_string_equal(c->listen[1].allow.item[0], "10.0.0.0/8");
	assert_true(c->listen[1].reject_bare_newline);
	assert_string_equal(r->source, "2001:db8::1");
	assert_string_equal(r->proxy, "socks5h://[::1]:1080");
	assert_string_equal(r->null_sender, "n@m");
	assert_string_equal(r->tls_pin, PIN ";" PIN);
	assert_string_equal(r->name, "r-1");
	assert_int_equal(r->line, 14);
	assert_string_equal(r->host, "smtp.example.com");
	assert_int_equal(r->port, 2525);
	assert_int_equal(r->tls, TLS_IMPLICIT);
	assert_false(r->tls_verify);
	assert_int_equal(r->tls_min, 13);
	assert_int_equal(r->auth, AUTH_LOGIN);
	assert_string_equal(r->user, "u");
	assert_string_equal(r->password, "p'\\\"\\x");
	assert_int_equal(r->connections, 3);
	assert_int_equal(r->pipeline, 4);
	assert_int_equal(r->messages_per_connection, 5);
	assert_int_equal(r->recipients_per_message, 6);
	assert_int_equal(r->idle, 0);
	assert_int_equal(r->timeout, 8);
	assert_int_equal(r->connect_timeout, 9);
	assert_int_equal(r->family, FAMILY_IPV6);
	assert_true(r->rate == 0.5);
	assert_int_equal(r->daily, 2000);
	config_release(c);
}

static void
hosts_are_understood_as_postfix_writes_them(void **state)
{
	static const struct {
		const char *value, *host;
		unsigned port;
	} cases[] = {
		{ "smtp.gmail.com", "smtp.gmail.com", 587 },
		{ "[smtp.gmail.com]:25", "smtp.gmail.com", 25 },
		{ "[smtp.gmail.com]", "smtp.gmail.com", 587 },
		{ "smtp.gmail.com:25", "smtp.gmail.com", 25 },
		{ "192.0.2.1", "192.0.2.1", 587 },
		{ "2001:db8::1", "2001:db8::1", 587 },
		{ "[2001:db8::1]:26", "2001:db8::1", 26 },
		{ "mail_relay", "mail_relay", 587 },
	};
	struct config *c;
	char text[80];
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		(void)snprintf(text, sizeof(text), "relay x { host = \"%s\" }",
		    cases[i].value);
		c = load_good(*state, text);
		assert_string_equal(c->relay[0].host, cases[i].host);
		assert_int_equal(c->relay[0].port, cases[i].port);
		config_release(c);
	}
	c = load_good(*state, "relay x { host = h tls = implicit }");
	assert_int_equal(c->relay[0].port, 465);
	config_release(c);
}

static void
from_is_the_user_where_that_is_an_address(void **state)
{
	struct config *c = load_good(*state,
	    "relay x { host=h user=\"me@example.com\" password='p' }");

	assert_string_equal(c->from, "me@example.com");
	config_release(c);
	c = load_good(*state, "relay x { host=h user=apikey password='p' }");
	assert_string_equal(c->from, "");
	config_release(c);
}

static void
variables_come_from_the_environment(void **state)
{
	struct fixture *f = *state;
	struct config *c;

	assert_int_equal(setenv("RELAYD_TEST", "mail.example.com", 1), 0);
	c = load_good(f,
	    "relay x { host = \"${RELAYD_TEST}\" "
	    "port = \"${RELAYD_UNSET:-26}\" user = \"\" "
	    "timeout = ${RELAYD_UNSET:-7s} }");
	assert_string_equal(c->relay[0].host, "mail.example.com");
	assert_int_equal(c->relay[0].port, 26);
	assert_int_equal(c->relay[0].timeout, 7);
	config_release(c);
	assert_int_equal(setenv("RELAYD_TEST", "a\r\nb", 1), 0);
	assert_refused(f, "relay x { host = \"${RELAYD_TEST}\" }",
	    "1: relay.x.host: |control character");
	assert_refused(f, RELAY "listen \"unix:/${RELAYD_TEST}\" {}",
	    "2: listen.unix:/${RELAYD_TEST}: |control character");
	assert_int_equal(setenv("RELAYD_TEST", "127.0.0.1:0", 1), 0);
	c = load_good(f, RELAY "listen \"${RELAYD_TEST}\" {}");
	assert_string_equal(c->listen[0].address, "127.0.0.1:0");
	config_release(c);
	assert_int_equal(unsetenv("RELAYD_TEST"), 0);
}

static void
E18_clear_text_logins_are_for_loopback_only(void **state)
{
	static const char *const hosts[] = { "localhost", "127.0.0.9",
		"[::1]:25" };
	char text[96];
	size_t i;

	for (i = 0; i < COUNT(hosts); i++) {
		(void)snprintf(text, sizeof(text),
		    "relay x { host = \"%s\" "
		    "tls=none user=u "
		    "password='p' }",
		    hosts[i]);
		config_release(load_good(*state, text));
	}
	config_release(load_good(*state, "relay x { host=h tls=none }"));
}

static void
E13_E19_what_is_unwise_is_a_warning(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		/* E19 */
		{ "relay x { host=h\ntls_verify=false }",
		    "2: relay.x.tls_verify: |not verified" },
		/* E13 */
		{ "relay x { host=h user=u\npassword=\"pa$$w${HOME}rd\" }",
		    "2: relay.x.password: |single quotes" },
		{ "relay x { host=h user=u password=\"a\\\\b\" }",
		    "1: relay.x.password: |single quotes" },
		{ "relay x { host=h port=465 }", "1: relay.x.port: |implicit" },
	};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		config_release(load_good(f, cases[i].text));
		assert_told(f, &f->warnings, cases[i].expected);
		assert_int_equal(count_lines(&f->warnings), 1);
	}
	config_release(
	    load_good(f, "relay x { host=h user=u password='a\\b${HOME}' }"));
	assert_int_equal(f->warnings.len, 0);
}

/* ---- certificates and secrets ---- */

static void
G6_no_certificates_to_trust_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct config *c;

	no_file_accessible = true;
	assert_refused(f, RELAY, "1: relay.x.tls_ca_file: |ca-certificates");
	config_release(load_good(f, "relay x { host=h tls=none }"));
	config_release(load_good(f, "relay x { host=h tls_verify=false }"));
	write_file(in(f, "ca.pem"), SPAN(""), 0644);
	assert_refused(f, "relay x { host=h tls_ca_file=\"%/ca.pem\" }",
	    "1: relay.x.tls_ca_file: |is empty");
	write_file(in(f, "ca.pem"), SPAN("-----BEGIN CERTIFICATE-----\n"),
	    0644);
	c = load_good(f, "relay x { host=h tls_ca_file=\"%/ca.pem\" }");
	assert_string_equal(c->relay[0].tls_ca_file, in(f, "ca.pem"));
	config_release(c);
	no_file_accessible = false;
}

static void
G1_a_password_in_a_file_that_others_read_is_refused(void **state)
{
	static const char text[] = "relay x { host=h user=u\npassword='p' }";
	static const char variable[] =
	    "relay x { host=h user=u\npassword=\"${RELAYD_TEST}\" }";
	struct fixture *f = *state;

	assert_null(load_mode(f, span_of(text), 0644));
	assert_told(f, &f->errors, "2: relay.x.password: |chmod 600");
	config_release(load_mode(f, span_of(text), 0640));
	assert_int_equal(f->errors.len, 0);

	assert_int_equal(setenv("RELAYD_TEST", "p", 1), 0);
	config_release(load_mode(f, span_of(variable), 0644));
	assert_int_equal(f->errors.len, 0);
	assert_int_equal(unsetenv("RELAYD_TEST"), 0);
	assert_null(load_mode(f,
	    SPAN("relay x { host=h user=u password=\"${A:-p}\" }"), 0644));
}

static void
E13_passwords_are_never_shown(void **state)
{
	struct fixture *f = *state;

	assert_null(load(f, "relay x { host=h user=u password=SeCrEt }"));
	assert_null(strstr(buf_text(&f->errors), "SeCrEt"));
	assert_null(load(f, "relay x { host=h user=u password='SeC\tEt' }"));
	assert_null(strstr(buf_text(&f->errors), "SeC"));
}

/* config_password() of a relay that has a file; errors to f->errors. */
static int
password_of(struct fixture *f, const char *name, struct buf *password)
{
	char path[80], none[] = "";
	struct config_relay relay = { .password = none,
		.password_file = path,
		.password_credential = none };
	int ret;

	(void)snprintf(path, sizeof(path), "%s", in(f, name));
	buf_clear(&f->errors);
	ret = config_password(&relay, password, &f->errors);
	assert_int_equal(ret == -1, f->errors.len > 0);
	return ret;
}

static void
one_newline_is_dropped_from_a_password(void **state)
{
	static const struct {
		const char *content, *password;
	} cases[] = {
		{ "secret\n", "secret" },
		{ "secret", "secret" },
		{ "secret\n\n", "secret\n" },
		{ " s \r\n", " s \r" },
		{ "", NULL },
		{ "\n", NULL },
	};
	struct fixture *f = *state;
	struct buf password = { 0 };
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		write_file(in(f, "secret"), span_of(cases[i].content), 0600);
		assert_int_equal(password_of(f, "secret", &password),
		    cases[i].password == NULL ? -1 : 0);
		assert_true(span_equal(buf_span(&password),
		    span_of(cases[i].password)));
	}
	buf_wipe(&password);
}

static void
G1_G2_secret_files_must_be_private(void **state)
{
	static const char text[] =
	    "relay x { host=h user=u\npassword_file=\"%/secret\" }";
	struct fixture *f = *state;
	struct buf password = { 0 }, long_one = { 0 };

	assert_refused(f, text, "2: relay.x.password_file: |No such file");

	write_file(in(f, "secret"), SPAN("p\n"), 0644);
	assert_refused(f, text, "2: relay.x.password_file: |chmod 600");
	assert_int_equal(password_of(f, "secret", &password), -1);
	assert_non_null(strstr(buf_text(&f->errors), "chmod 600"));
	assert_int_equal(password.len, 0);

	write_file(in(f, "secret"), SPAN("p\n"), 0602);
	assert_refused(f, text, "2: relay.x.password_file: |written");

	write_file(in(f, "secret"), SPAN("p\n"), 0600);
	config_release(load_good(f, text));
	assert_int_equal(symlink("secret", in(f, "link")), 0);
	assert_int_equal(password_of(f, "link", &password), 0);
	assert_true(span_equal(buf_span(&password), SPAN("p")));

	assert_int_equal(unlink(in(f, "secret")), 0);
	assert_int_equal(mkfifo(in(f, "secret"), 0600), 0);
	assert_refused(f, text, "2: relay.x.password_file: |regular file");
	assert_int_equal(password_of(f, "secret", &password), -1);
	assert_int_equal(password_of(f, ".", &password), -1);
	assert_int_equal(unlink(in(f, "secret")), 0);

	write_file(in(f, "secret"), SPAN("p\n"), 0600);
	if (geteuid() == 0) { /* only root can give a file away */
		assert_int_equal(chown(in(f, "secret"), 12345, 12345), 0);
		assert_int_equal(password_of(f, "secret", &password), -1);
		assert_non_null(strstr(buf_text(&f->errors), "user 12345"));
	}

	while (long_one.len <= LIMIT_SECRET)
		buf_add_char(&long_one, 'x');
	write_file(in(f, "secret"), buf_span(&long_one), 0600);
	assert_int_equal(password_of(f, "secret", &password), -1);
	assert_non_null(strstr(buf_text(&f->errors), "16 KiB"));

	assert_int_equal(mkdir(in(f, "open"), 0700), 0);
	write_file(in(f, "open/secret"), SPAN("p"), 0600);
	assert_int_equal(password_of(f, "open/secret", &password), 0);
	assert_int_equal(chmod(in(f, "open"), 01777), 0);
	assert_int_equal(password_of(f, "open/secret", &password), -1);
	assert_non_null(strstr(buf_text(&f->errors), "everybody"));
	buf_wipe(&password);
	buf_free(&long_one);
}

static void
credentials_come_from_systemds_directory(void **state)
{
	struct fixture *f = *state;
	char none[] = "", name[] = "secret";
	struct config_relay relay = { .password = none,
		.password_file = none,
		.password_credential = name };
	struct buf password = { 0 };

	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	assert_int_equal(config_password(&relay, &password, &f->errors), -1);
	assert_non_null(strstr(buf_text(&f->errors), "LoadCredential=secret"));
	buf_clear(&f->errors);
	write_file(in(f, "secret"), SPAN("p\n"), 0400);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", f->directory, 1), 0);
	assert_int_equal(config_password(&relay, &password, &f->errors), 0);
	assert_true(span_equal(buf_span(&password), SPAN("p")));
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	buf_wipe(&password);
}

static void
a_configuration_lives_as_long_as_it_is_held(void **state)
{
	struct config *c = load_good(*state, RELAY);
	struct rewrite_rules rules = { 0 };

	assert_ptr_equal(config_hold(c), c);
	config_release(c);
	config_rules(c, &rules);
	assert_string_equal(rules.hostname, c->hostname);
	assert_int_equal(rules.recipient_limit, 1000);
	assert_ptr_equal(rules.local_names, &c->local_names);
	assert_ptr_equal(rules.masquerade, c->masquerade_map);
	assert_ptr_equal(rules.allow_recipients, &c->allow_recipients);
	assert_ptr_equal(rules.header_add, &c->header_add);
	assert_string_equal(rules.redirect, "");
	config_release(c);
	config_release(NULL);
}

/* ---- table, example and man page ---- */

/* All three as lists of "PLACE KEY", PLACE being global, listen or relay. */
static void
add_key(struct strings *out, const char *place, struct span key)
{
	struct buf text = { 0 };

	buf_printf(&text, "%s %.*s", place, (int)key.len, key.data);
	if (!strings_have(out, buf_span(&text)))
		strings_add(out, buf_span(&text));
	buf_free(&text);
}

static void
keys_of_table(const char *section, struct strings *out)
{
	const struct config_key *key = config_section_keys(section);

	for (; key->name != NULL; key++)
		if (key->kind != KEY_LATER)
			add_key(out, section == NULL ? "global" : section,
			    span_of(key->name));
}

static struct span
leading_name(struct span s)
{
	size_t len = 0;

	while (len < s.len &&
	    strchr("abcdefghijklmnopqrstuvwxyz_", s.data[len]) != NULL)
		len++;
	return span_first(s, len);
}

/* The default in the example ("50M", {"1m", "5m"}, "${NAME:-info}") is the
 * one in the table. */
static void
assert_default(const char *section, struct span name, struct span line)
{
	char *key_name = span_text(name);
	const struct config_key *key =
	    config_key_find(config_section_keys(section), key_name);
	struct buf value = { 0 };
	struct span rest = span_from(line, name.len), part;
	const char *dash = memmem(rest.data, rest.len, ":-", 2);
	size_t i;

	assert_non_null(key);
	free(key_name);
	if (key->fallback == NULL || *key->fallback == '\0')
		return;
	(void)span_cut(rest, '#', &rest, &part);
	if (dash != NULL)
		rest = span_from(rest, (size_t)(dash - rest.data) + 2);
	for (i = 0; i < rest.len; i++)
		if (strchr("={}\",\t", rest.data[i]) == NULL)
			buf_add_char(&value, rest.data[i]);
	assert_true(
	    span_equal(span_trim(buf_span(&value)), span_of(key->fallback)));
	buf_free(&value);
}

static void
keys_of_example(struct strings *out)
{
	struct buf file = { 0 };
	struct span line, rest, name;
	const char *section = NULL;
	bool more = true;

	assert_int_equal(file_read("relayd.conf.example", 1 << 20, &file, NULL),
	    0);
	for (rest = buf_span(&file); more;) {
		more = span_cut(rest, '\n', &line, &rest);
		line = span_trim(line);
		if (line.len > 1 && *line.data == '#' && line.data[1] != ' ')
			line = span_trim(span_from(line, 1));
		name = leading_name(line);
		if (line.len > 0 && *line.data == '}')
			section = NULL;
		if (name.len == 0)
			continue;
		add_key(out, section == NULL ? "global" : section, name);
		if (memchr(line.data, '=', line.len) != NULL)
			assert_default(section, name, line);
		if (memchr(line.data, '{', line.len) != NULL &&
		    memchr(line.data, '=', line.len) == NULL &&
		    memchr(line.data, '}', line.len) == NULL)
			section = *name.data == 'l' ? "listen" : "relay";
	}
	buf_free(&file);
}

static void
keys_of_man_page(struct strings *out)
{
	struct buf file = { 0 };
	struct span line, rest;
	const char *place = "";
	bool more = true;

	assert_int_equal(file_read("man/relayd.conf.5", 1 << 20, &file, NULL),
	    0);
	for (rest = buf_span(&file); more;) {
		more = span_cut(rest, '\n', &line, &rest);
		if (span_equal(line, SPAN(".Sh GLOBAL KEYS")))
			place = "global";
		else if (span_equal(line, SPAN(".Sh LISTEN SECTIONS")))
			place = "listen";
		else if (span_equal(line, SPAN(".Sh RELAY SECTIONS")))
			place = "relay";
		else if (span_starts_nocase(line, SPAN(".It Ic ")))
			add_key(out, place, span_from(line, 7));
	}
	buf_free(&file);
}

static void
assert_all_in(const struct strings *some, const struct strings *all,
    const char *where)
{
	size_t i;

	for (i = 0; i < some->count; i++)
		if (!strings_have(all, span_of(some->item[i])))
			fail_msg("\"%s\" is not in %s", some->item[i], where);
}

/* What a preset fills in comes before what is written, wherever that stands. */
static void
a_preset_fills_in_what_is_not_written(void **state)
{
	struct fixture *f = *state;
	struct config *c = load(f,
	    "relay ses { connections = 7\npreset = ses\nregion = eu-west-1\n"
	    "tls_verify = false }\n"
	    "relay own { preset = ses\nhost = mx.example\n"
	    "recipients_per_message = 3\ntls_verify = false }\n"
	    "relay grid { preset = sendgrid\npassword = 'x'\n"
	    "tls_verify = false }\n"
	    "relay office { preset = office365\ntls_verify = false }\n"
	    "relay fast { preset = office365\nrate = \"\"\n"
	    "tls_verify = false }\n");

	assert_non_null(c);
	assert_int_equal(c->relay_count, 5);
	assert_true(c->relay[0].rate == 0);
	assert_true(c->relay[3].rate == 0.5);
	assert_int_equal(c->relay[3].connections, 3);
	assert_true(c->relay[4].rate == 0);
	assert_string_equal(c->relay[0].host,
	    "email-smtp.eu-west-1.amazonaws.com");
	assert_int_equal(c->relay[0].recipients_per_message, 50);
	assert_int_equal(c->relay[0].connections, 7);
	assert_int_equal(c->relay[0].port, 587);
	assert_string_equal(c->relay[1].host, "mx.example");
	assert_int_equal(c->relay[1].recipients_per_message, 3);
	assert_string_equal(c->relay[2].host, "smtp.sendgrid.net");
	assert_string_equal(c->relay[2].user, "apikey");
	config_release(c);
}

static void
table_example_and_man_page_name_the_same_keys(void **state)
{
	struct strings table = { 0 }, example = { 0 }, man = { 0 };

	(void)state;
	keys_of_table(NULL, &table);
	keys_of_table("listen", &table);
	keys_of_table("relay", &table);
	keys_of_example(&example);
	keys_of_man_page(&man);
	assert_all_in(&table, &example, "relayd.conf.example");
	assert_all_in(&table, &man, "relayd.conf(5)");
	assert_all_in(&example, &table, "the table");
	assert_all_in(&man, &table, "the table");
	strings_free(&table);
	strings_free(&example);
	strings_free(&man);
}

static void
the_example_needs_nothing_but_a_host(void **state)
{
	struct fixture *f = *state;
	struct buf example = { 0 };
	struct config *c;

	assert_int_equal(
	    file_read("relayd.conf.example", 1 << 20, &example, NULL), 0);
	write_file(f->path, buf_span(&example), 0644);
	assert_null(config_load(f->path, &f->errors, &f->warnings));
	assert_told(f, &f->errors, "|variable RELAYD_RELAY_HOST is not set");
	assert_int_equal(count_lines(&f->errors), 1);

	assert_int_equal(setenv("RELAYD_RELAY_HOST", "h.example", 1), 0);
	assert_int_equal(setenv("RELAYD_USER", "a@h.example", 1), 0);
	assert_int_equal(setenv("RELAYD_PASSWORD", "p", 1), 0);
	buf_clear(&f->errors);
	c = config_load(f->path, &f->errors, &f->warnings);
	assert_int_equal(f->errors.len + f->warnings.len, 0);
	assert_non_null(c);
	assert_string_equal(c->relay[0].host, "h.example");
	assert_string_equal(c->from, "a@h.example");
	assert_int_equal(c->listen_count, 3);
	config_release(c);
	assert_int_equal(unsetenv("RELAYD_RELAY_HOST"), 0);
	assert_int_equal(unsetenv("RELAYD_USER"), 0);
	assert_int_equal(unsetenv("RELAYD_PASSWORD"), 0);
	buf_free(&example);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(E1_to_E14_syntax_errors_name_file_and_line),
		TEST(E4_a_nul_is_refused_with_its_line),
		TEST(E14_includes_are_read_in_place_and_told_by_their_own_name),
		TEST(E14_nothing_of_a_foreign_file_is_shown),
		TEST(E14_eleven_levels_are_too_deep),
		TEST(E15_what_is_no_regular_file_of_1_mib_is_refused),
		TEST(E6_to_E22_bad_keys_and_values_are_told),
		TEST(all_errors_are_listed_together),
		TEST(allow_ends_at_private_networks),
		TEST(E12_no_key_takes_a_control_character),
		TEST(E24_refusing_takes_linear_time),
		TEST(E24_many_entries_end_in_a_limit),
		TEST(one_relay_is_enough_and_the_rest_has_defaults),
		TEST(E16_every_key_reaches_its_field),
		TEST(hosts_are_understood_as_postfix_writes_them),
		TEST(from_is_the_user_where_that_is_an_address),
		TEST(variables_come_from_the_environment),
		TEST(E18_clear_text_logins_are_for_loopback_only),
		TEST(E13_E19_what_is_unwise_is_a_warning),
		TEST(G6_no_certificates_to_trust_is_an_error),
		TEST(G1_a_password_in_a_file_that_others_read_is_refused),
		TEST(E13_passwords_are_never_shown),
		TEST(one_newline_is_dropped_from_a_password),
		TEST(G1_G2_secret_files_must_be_private),
		TEST(credentials_come_from_systemds_directory),
		TEST(a_configuration_lives_as_long_as_it_is_held),
		TEST(a_preset_fills_in_what_is_not_written),
		TEST(table_example_and_man_page_name_the_same_keys),
		TEST(the_example_needs_nothing_but_a_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
