/*
 * Checks of a relay section, key by key and together, and its defaults that
 * depend on other keys.
 */
#include "config_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CA_FILE_MOST = 16 << 20 };

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

static bool
is_refused(const struct config_reading *r, size_t section, const char *key)
{
	const struct scan_entry *e = config_entry(r, section, key);

	return e != NULL && e->refused;
}

/* Something was written, and be it that it was refused. */
static bool
is_given(const struct config_reading *r, size_t section, const char *key,
    const char *value)
{
	return *value != '\0' || is_refused(r, section, key);
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
		config_refuse_key(r, section, "region",
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
	uint64_t number = 0;
	char *copy;

	if (is_refused(r, section, "host") ||
	    is_refused(r, section, "preset") ||
	    is_refused(r, section, "maildir"))
		return;
	if (*relay->host == '\0') {
		config_refuse_key(r, section, "host", "host is empty");
		return;
	}
	if (!host_valid(host) ||
	    (port.data != NULL &&
		(!parse_number(port, 65535, &number) || number == 0))) {
		config_refuse_key(r, section, "host",
		    "must be a host name or address (\"smtp.example.com\")");
		return;
	}
	if (number != 0 && relay->port != 0 && relay->port != number)
		config_refuse_key(r, section, "port",
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
		config_refuse_key(r, section, "tls_ca_file", "%s: %s",
		    relay->tls_ca_file, strerror(errno));
	else if (pem.len == 0)
		config_refuse_key(r, section, "tls_ca_file", "%s is empty",
		    relay->tls_ca_file);
	else if (memmem(pem.data, pem.len, mark, sizeof(mark) - 1) == NULL)
		config_refuse_key(r, section, "tls_ca_file",
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
	config_refuse_key(r, section, "tls_ca_file",
	    "no certificates to trust on this "
	    "host: install the package ca-certificates");
}

/* The client's, and its key. */
static void
check_certificate(struct config_reading *r, const struct config_relay *relay,
    size_t section)
{
	bool certificate = is_given(r, section, "tls_cert", relay->tls_cert),
	     key = is_given(r, section, "tls_key", relay->tls_key);
	struct scan_entry at = config_place(r, section, "tls_cert");
	struct buf error = { 0 };
	const char *name;

	if (certificate != key)
		config_refuse_key(r, section, key ? "tls_cert" : "tls_key",
		    "is missing: tls_cert and tls_key go together");
	else if (certificate && relay->tls == TLS_NONE)
		config_refuse_key(r, section, "tls_cert",
		    "is of no use with tls = \"none\"");
	else if (*relay->tls_cert != '\0' && *relay->tls_key != '\0' &&
	    config_certificate(relay, &name, &error) == -1 &&
	    errno != EACCES) /* its user may be able to */
		config_refuse_key(r, section, name, "%s", buf_text(&error));
	else if (certificate &&
	    (config_certificate_untimely(relay, &error) ||
		config_certificate_alone(relay, &error)))
		/* Some relayhosts know it by its key, and ask no more. */
		config_warn(r, &at, "%s", buf_text(&error));
	if (relay->auth == AUTH_EXTERNAL && !certificate)
		config_refuse_key(r, section, "auth",
		    "\"external\" needs a client certificate: tls_cert and "
		    "tls_key");
	buf_free(&error);
}

static void
check_tls(struct config_reading *r, struct config_relay *relay, size_t section,
    bool login)
{
	bool clear = relay->tls == TLS_NONE || relay->tls == TLS_OPPORTUNISTIC;

	if (clear && login &&
	    (!is_loopback(relay->host) || *relay->proxy != '\0'))
		config_refuse_key(r, section, "tls",
		    "a password would go out in clear; with a login allowed: "
		    "\"starttls\", \"implicit\"");
	if (*relay->tls_ca_file != '\0')
		check_ca_file(r, relay, section);
	else if (relay->tls != TLS_NONE && relay->tls_verify)
		find_ca_file(r, relay, section);
	if (clear && *relay->tls_pin != '\0')
		config_refuse_key(r, section, "tls_pin",
		    "needs tls = \"starttls\" or \"implicit\"");
	check_certificate(r, relay, section);
	if (!relay->tls_verify && relay->tls != TLS_NONE &&
	    *relay->tls_pin == '\0') {
		struct scan_entry at = config_place(r, section, "tls_verify");

		config_warn(r, &at,
		    "the relayhost's certificate is not verified: "
		    "anybody in between can read mail and password");
	}
	if (relay->port == 465 && config_entry(r, section, "tls") == NULL) {
		struct scan_entry at = config_place(r, section, "port");

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
			config_refuse_key(r, section, "password_file", "%s",
			    buf_text(&text));
	} else if (errno != EACCES) { /* its user may be able to */
		config_refuse_key(r, section, "password_file", "%s: %s",
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
		relay->password_credential) +
	    is_given(r, section, "password_command", relay->password_command);

	if (*relay->password_file != '\0')
		check_password_file(r, relay, section);
	if (sources > 1)
		config_refuse_key(r, section, "password",
		    "only one of password, password_file, "
		    "password_credential and password_command may be set");
	if (relay->auth == AUTH_EXTERNAL && sources > 0)
		config_refuse_key(r, section, "auth",
		    "\"external\" is a login without a password");
	if (relay->auth == AUTH_NONE || relay->auth == AUTH_EXTERNAL)
		return relay->auth != AUTH_NONE;
	if (user && sources == 0)
		config_refuse_key(r, section, "user",
		    "has no password: set password_file, password, "
		    "password_credential or password_command");
	if (!user && sources > 0)
		config_refuse_key(r, section, "user",
		    "is missing, but there is a password");
	else if (!user && relay->auth != AUTH_AUTO)
		config_refuse_key(r, section, "user",
		    "is missing, but auth is set");
	return user;
}

static void
check_network(struct config_reading *r, const struct config_relay *relay,
    size_t section)
{
	bool ipv6 = strchr(relay->source, ':') != NULL;

	if (*relay->source != '\0' &&
	    relay->family == (ipv6 ? FAMILY_IPV4 : FAMILY_IPV6))
		config_refuse_key(r, section, "source",
		    "is not of the family \"%s\"", ipv6 ? "ipv4" : "ipv6");
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
		if (config_entry(r, section, senseless[i]) != NULL)
			config_refuse_key(r, section, senseless[i],
			    "a relay is either a host or a maildir");
	free(relay->host);
	relay->host = mem_text(relay->maildir);
}

void
config_check_relay(struct config_reading *r, struct config_relay *relay,
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
	check_network(r, relay, section);
	if (strcmp(relay->preset, "office365") == 0 &&
	    relay->auth != AUTH_NONE && *relay->user != '\0') {
		struct scan_entry at = config_place(r, section, "preset");

		config_warn(r, &at,
		    "Microsoft ends logins with a password (basic "
		    "authentication) at the end of 2026");
	}
}
