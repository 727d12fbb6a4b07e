/*
 * Checks that need more than one key, and defaults that depend on the host or
 * on other keys.
 */
#include "config_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CA_FILE_MOST = 16 << 20 };

/* ---- errors ---- */

void
config_refuse(struct config_reading *r, const struct scan_entry *at,
    const char *format, ...)
{
	va_list ap;

	if (++r->error_count > CONFIG_ERRORS)
		return;
	va_start(ap, format);
	config_report(&r->scan, at, r->errors, format, ap);
	va_end(ap);
	if (r->error_count == CONFIG_ERRORS)
		buf_add_text(r->errors, "more errors are not shown\n");
}

void
config_warn(struct config_reading *r, const struct scan_entry *at,
    const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	config_report(&r->scan, at, r->warnings, format, ap);
	va_end(ap);
}

struct span
config_raw(const struct config_reading *r, const struct scan_entry *e)
{
	return (struct span){ r->scan.text.data + e->value, e->end - e->value };
}

void
config_explain(const struct config_reading *r, const struct scan_entry *e,
    struct buf *out)
{
	struct span raw = config_raw(r, e);
	const char *at = memmem(raw.data, raw.len, "${", 2);
	struct span name, rest;
	char *text;

	if (at == NULL)
		return;
	(void)span_cut(span_from(raw, (size_t)(at - raw.data) + 2), '}', &name,
	    &rest);
	text = span_text(name);
	if (strstr(text, ":-") == NULL && getenv(text) == NULL) {
		buf_add_text(out, " (environment variable ");
		buf_add_escaped(out, name);
		buf_add_text(out, " is not set)");
	}
	free(text);
}

/* The entry of a key in a section (its index, or SCAN_GLOBAL), or NULL. */
static const struct scan_entry *
find_entry(const struct config_reading *r, size_t section, const char *name)
{
	size_t i;

	for (i = 0; i < r->scan.entry_count; i++) {
		const struct scan_entry *e = &r->scan.entry[i];

		if (e->section == section && strcmp(e->key, name) == 0)
			return e;
	}
	return NULL;
}

/* Where to report on a key: where it is written, else at its section. */
static struct scan_entry
place_of(const struct config_reading *r, size_t section, const char *name)
{
	const struct scan_entry *e = find_entry(r, section, name);
	struct scan_entry at = { .line = 1, .section = section };

	if (e != NULL)
		return *e;
	if (section != SCAN_GLOBAL) {
		at.file = r->scan.entry[section].file;
		at.line = r->scan.entry[section].line;
	}
	memcpy(at.key, name, strnlen(name, SCAN_KEY));
	return at;
}

PRINTF_LIKE(4, 5)
static void
refuse_key(struct config_reading *r, size_t section, const char *name,
    const char *format, ...)
{
	struct scan_entry at = place_of(r, section, name);
	struct buf text = { 0 };
	va_list ap;

	va_start(ap, format);
	buf_vprintf(&text, format, ap);
	va_end(ap);
	if (at.end > at.start)
		config_explain(r, &at, &text);
	config_refuse(r, &at, "%s", buf_text(&text));
	buf_free(&text);
}

/* ---- sections ---- */

static void
check_listen(struct config_reading *r, const struct config_listen *l,
    size_t section)
{
	bool is_unix = strncmp(l->address, "unix:", 5) == 0;
	size_t i;

	if (is_unix && find_entry(r, section, "allow") != NULL)
		refuse_key(r, section, "allow",
		    "a unix socket has no network; \"mode\" says who may use it");
	if (!is_unix && find_entry(r, section, "mode") != NULL)
		refuse_key(r, section, "mode",
		    "is for unix sockets; \"allow\" says who may connect");
	for (i = 0; &r->config->listen[i] < l; i++)
		if (strcmp(r->config->listen[i].address, l->address) == 0)
			config_refuse(r, &r->scan.entry[section],
			    "is there twice");
}

/* A name or address as DNS and hosts(5) have them; containers use '_'. */
static bool
host_valid(struct span host)
{
	return host.len <= LIMIT_DOMAIN && host.len > 0 &&
	    (config_check_name(host) == NULL ||
		config_block_within(host, "::/0"));
}

/*
 * Take Postfix's "[host]:port" apart.
 * port     receives the text behind the colon; data is NULL without one.
 * returns  the host; empty: it can't be parsed.
 */
static struct span
split_host(struct span value, struct span *port)
{
	struct span host = value, rest = { 0 };

	*port = (struct span){ 0 };
	if (value.len > 0 && *value.data == '[') {
		if (!span_cut(span_from(value, 1), ']', &host, &rest) ||
		    (rest.len > 0 && *rest.data != ':'))
			return (struct span){ 0 };
		if (rest.len > 0)
			*port = span_from(rest, 1);
	} else if (span_cut(value, ':', &host, &rest)) {
		/* More colons are an IPv6 address without brackets. */
		if (memchr(rest.data, ':', rest.len) != NULL)
			host = value;
		else
			*port = rest;
	}
	return host;
}

/* Something was written, and be it that it was refused. */
static bool
is_given(const struct config_reading *r, size_t section, const char *key,
    const char *value)
{
	const struct scan_entry *e = find_entry(r, section, key);

	return *value != '\0' || (e != NULL && e->refused);
}

static bool
is_refused(const struct config_reading *r, size_t section, const char *key)
{
	const struct scan_entry *e = find_entry(r, section, key);

	return e != NULL && e->refused;
}

/* The host of a preset that has one for each region ("%"). */
static void
place_host(struct config_reading *r, struct config_relay *relay, size_t section)
{
	const struct preset *preset = preset_find(span_of(relay->preset));
	struct span head, tail;
	struct buf host = { 0 };

	if (preset == NULL || preset->region == NULL ||
	    !span_cut(span_of(relay->host), '%', &head, &tail))
		return;
	if (!is_given(r, section, "region", relay->region))
		refuse_key(r, section, "region",
		    "is missing: the preset \"%s\" needs one, such as \"%s\"",
		    preset->name, preset->region);
	buf_add(&host, head);
	buf_add_text(&host,
	    *relay->region == '\0' ? preset->region : relay->region);
	buf_add(&host, tail);
	free(relay->host);
	relay->host = span_text(buf_span(&host));
	buf_free(&host);
}

static void
check_host(struct config_reading *r, struct config_relay *relay, size_t section)
{
	struct span port, host = split_host(span_of(relay->host), &port);
	const struct scan_entry *e = find_entry(r, section, "host");
	uint64_t number = 0;
	char *copy;

	if ((e != NULL && e->refused) || is_refused(r, section, "preset") ||
	    is_refused(r, section, "maildir"))
		return;
	if (*relay->host == '\0') {
		refuse_key(r, section, "host", "host is empty");
		return;
	}
	if (!host_valid(host) ||
	    (port.data != NULL &&
		(!parse_number(port, 65535, &number) || number == 0))) {
		refuse_key(r, section, "host",
		    "must be a host name or address (\"smtp.example.com\")");
		return;
	}
	if (number != 0 && relay->port != 0 && relay->port != number)
		refuse_key(r, section, "port",
		    "differs from the port %u in \"host\"", (unsigned)number);
	if (relay->port == 0)
		relay->port = (unsigned)number;
	copy = span_text(host);
	free(relay->host);
	relay->host = copy;
}

static bool
is_loopback(const char *host)
{
	struct span name = span_of(host);

	return span_equal_nocase(name, SPAN("localhost")) ||
	    config_block_within(name, "127.0.0.0/8") ||
	    config_block_within(name, "::1/128");
}

/* Does it hold a certificate? */
static void
check_ca_file(struct config_reading *r, const struct config_relay *relay,
    size_t section)
{
	static const char mark[] = "-----BEGIN ";
	struct buf pem = { 0 };

	if (file_read(relay->tls_ca_file, CA_FILE_MOST, &pem, NULL) == -1)
		refuse_key(r, section, "tls_ca_file", "%s: %s",
		    relay->tls_ca_file, strerror(errno));
	else if (pem.len == 0)
		refuse_key(r, section, "tls_ca_file", "%s is empty",
		    relay->tls_ca_file);
	else if (memmem(pem.data, pem.len, mark, sizeof(mark) - 1) == NULL)
		refuse_key(r, section, "tls_ca_file",
		    "%s holds no certificate in PEM form", relay->tls_ca_file);
	buf_free(&pem);
}

static void
find_ca_file(struct config_reading *r, struct config_relay *relay,
    size_t section)
{
	/* Debian, Fedora, openSUSE, Alpine. */
	static const char *const usual[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/ssl/cert.pem",
	};
	size_t i;

	for (i = 0; i < sizeof(usual) / sizeof(*usual); i++)
		if (access(usual[i], R_OK) == 0) {
			free(relay->tls_ca_file);
			relay->tls_ca_file = mem_text(usual[i]);
			return;
		}
	refuse_key(r, section, "tls_ca_file",
	    "no certificates to trust on this "
	    "host: install the package ca-certificates");
}

static void
check_tls(struct config_reading *r, struct config_relay *relay, size_t section,
    bool login)
{
	bool clear = relay->tls == TLS_NONE || relay->tls == TLS_OPPORTUNISTIC;

	if (clear && login && !is_loopback(relay->host))
		refuse_key(r, section, "tls",
		    "a password would go out in clear; with a login allowed: "
		    "\"starttls\", \"implicit\"");
	if (*relay->tls_ca_file != '\0')
		check_ca_file(r, relay, section);
	else if (relay->tls != TLS_NONE && relay->tls_verify)
		find_ca_file(r, relay, section);
	if (!relay->tls_verify && relay->tls != TLS_NONE) {
		struct scan_entry at = place_of(r, section, "tls_verify");

		config_warn(r, &at,
		    "the relayhost's certificate is not verified: "
		    "anybody in between can read mail and password");
	}
	if (relay->port == 465 && find_entry(r, section, "tls") == NULL) {
		struct scan_entry at = place_of(r, section, "port");

		config_warn(r, &at,
		    "port 465 usually needs tls = \"implicit\"");
	}
}

static void
check_password_file(struct config_reading *r, const struct config_relay *relay,
    size_t section)
{
	struct buf text = { 0 };
	struct stat st;

	if (stat(relay->password_file, &st) == 0) {
		if (config_secret_check(relay->password_file, &st, &text) == -1)
			refuse_key(r, section, "password_file", "%s",
			    buf_text(&text));
	} else if (errno != EACCES) { /* its user may be able to */
		refuse_key(r, section, "password_file", "%s: %s",
		    relay->password_file, strerror(errno));
	}
	buf_free(&text);
}

/* Is there a login, and where does its password come from? */
static bool
check_login(struct config_reading *r, const struct config_relay *relay,
    size_t section)
{
	bool user = is_given(r, section, "user", relay->user);
	int sources = is_given(r, section, "password", relay->password) +
	    is_given(r, section, "password_file", relay->password_file) +
	    is_given(r, section, "password_credential",
		relay->password_credential);

	if (*relay->password_file != '\0')
		check_password_file(r, relay, section);
	if (sources > 1)
		refuse_key(r, section, "password",
		    "only one of password, password_file and "
		    "password_credential may be set");
	if (relay->auth == AUTH_NONE)
		return false;
	if (user && sources == 0)
		refuse_key(r, section, "user",
		    "has no password: set password_file, password or "
		    "password_credential");
	if (!user && sources > 0)
		refuse_key(r, section, "user",
		    "is missing, but there is a password");
	else if (!user && relay->auth != AUTH_AUTO)
		refuse_key(r, section, "user", "is missing, but auth is set");
	return user;
}

/* A Maildir has no host, and its name stands in for one. */
static void
check_maildir(struct config_reading *r, struct config_relay *relay,
    size_t section)
{
	static const char *const senseless[] = { "preset", "host", "user",
		"rate", "daily" };
	size_t i;

	for (i = 0; i < sizeof(senseless) / sizeof(*senseless); i++)
		if (find_entry(r, section, senseless[i]) != NULL)
			refuse_key(r, section, senseless[i],
			    "a relay is either a host or a maildir");
	free(relay->host);
	relay->host = mem_text(relay->maildir);
}

/* Nothing ever goes to a relay behind a Maildir that takes all. */
static void
check_order(struct config_reading *r, size_t relays, size_t section)
{
	const struct config *c = r->config;
	size_t i;

	for (i = 0; i < relays; i++)
		if (*c->relay[i].maildir != '\0' &&
		    c->relay[i].senders.count == 0)
			config_refuse(r, &r->scan.entry[section],
			    "is behind the maildir \"%s\", which takes all mail",
			    c->relay[i].name);
}

static void
check_relay(struct config_reading *r, struct config_relay *relay,
    size_t section)
{
	if (*relay->maildir != '\0') {
		check_maildir(r, relay, section);
		return;
	}
	place_host(r, relay, section);
	check_host(r, relay, section);
	if (relay->port == 0)
		relay->port = relay->tls == TLS_IMPLICIT ? 465 : 587;
	check_tls(r, relay, section, check_login(r, relay, section));
	if (strcmp(relay->preset, "office365") == 0 &&
	    relay->auth != AUTH_NONE && *relay->user != '\0') {
		struct scan_entry at = place_of(r, section, "preset");

		config_warn(r, &at,
		    "Microsoft ends logins with a password (basic "
		    "authentication) at the end of 2026");
	}
}

static bool
some_relay_serves_all(const struct config *c)
{
	size_t i;

	for (i = 0; i < c->relay_count; i++) {
		if (c->relay[i].senders.count == 0)
			return true;
	}
	return false;
}

static void
check_sections(struct config_reading *r)
{
	struct config *c = r->config;
	struct scan_entry none = { .line = 1,
		.section = SCAN_GLOBAL,
		.key = "relay" };
	size_t i, listens = 0, relays = 0;

	for (i = 0; i < r->scan.entry_count; i++) {
		const struct scan_entry *e = &r->scan.entry[i];

		if (e->refused || e->form != SCAN_SECTION)
			continue;
		if (strcmp(e->key, "relay") == 0) {
			check_order(r, relays, i);
			check_relay(r, &c->relay[relays++], i);
		} else {
			check_listen(r, &c->listen[listens++], i);
		}
	}
	if (find_entry(r, SCAN_GLOBAL, "relay") == NULL)
		config_refuse(r, &none,
		    "no relay: where is mail to go? "
		    "relay \"NAME\" { host = \"...\" }");
	else if (!some_relay_serves_all(c))
		config_warn(r, &none,
		    "no relay serves every sender: mail from others will "
		    "wait");
}

/* ---- defaults that depend on others ---- */

static void
add_listener(struct config *c, const char *address)
{
	struct config_listen *l = &c->listen[c->listen_count++];

	config_set_defaults(config_section_keys("listen"), l);
	l->address = mem_text(address);
	l->implicit = true;
}

static void
default_name(struct config_reading *r, char **name, const char *key,
    char *value)
{
	struct scan_entry at = place_of(r, SCAN_GLOBAL, key);

	if (config_check_domain(span_of(value)) != NULL) {
		config_warn(r, &at,
		    "this host's own name can't be used, so it is "
		    "\"localhost\"; set it");
		free(value);
		value = mem_text("localhost");
	}
	free(*name);
	*name = value;
}

static void
finish_names(struct config_reading *r)
{
	struct config *c = r->config;
	struct span host, rest;

	if (*c->hostname == '\0')
		default_name(r, &c->hostname, "hostname",
		    config_default_hostname());
	if (*c->origin == '\0')
		default_name(r, &c->origin, "origin",
		    config_default_origin(c->hostname));
	if (find_entry(r, SCAN_GLOBAL, "local_names") == NULL) {
		strings_add(&c->local_names, SPAN("localhost"));
		if (!strings_have(&c->local_names, span_of(c->hostname)))
			strings_add(&c->local_names, span_of(c->hostname));
		(void)span_cut(span_of(c->hostname), '.', &host, &rest);
		if (!strings_have(&c->local_names, host))
			strings_add(&c->local_names, host);
	}
}

static void
finish(struct config_reading *r)
{
	struct config *c = r->config;
	size_t scheme = SPAN("unix:").len;

	c->aliases_given = find_entry(r, SCAN_GLOBAL, "aliases") != NULL;
	finish_names(r);
	if (strncmp(c->control, "unix:", scheme) == 0)
		memmove(c->control, c->control + scheme,
		    strlen(c->control + scheme) + 1);
	if (find_entry(r, SCAN_GLOBAL, "listen") == NULL) {
		add_listener(c, "unix:" RUNSTATEDIR "/relayd/submit.sock");
		add_listener(c, "127.0.0.1:25");
		add_listener(c, "[::1]:25");
	}
	if (*c->from == '\0' && c->relay_count > 0 &&
	    smtp_address_valid(span_of(c->relay[0].user), 0)) {
		free(c->from);
		c->from = mem_text(c->relay[0].user);
	}
}

static void
make_map(struct config_reading *r)
{
	struct config *c = r->config;
	const char *twice;

	c->masquerade_map = address_map_new(&c->masquerade);
	twice = address_map_twice(c->masquerade_map);
	if (twice != NULL)
		refuse_key(r, SCAN_GLOBAL, "masquerade", "%s is there twice",
		    twice);
}

static void
check_spool(struct config_reading *r)
{
	struct stat st;

	if (stat(r->config->spool, &st) == 0 && !S_ISDIR(st.st_mode))
		refuse_key(r, SCAN_GLOBAL, "spool", "%s is no directory",
		    r->config->spool);
}

void
config_check(struct config_reading *r)
{
	check_sections(r);
	check_spool(r);
	make_map(r);
	finish(r);
}
