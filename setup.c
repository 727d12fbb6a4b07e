/*
 * What the relayhost says while a connection is set up.
 *
 * libcurl tells little about why there is no connection, so the replies are
 * watched on their way in: they give the phase, the relayhost's words, the
 * capabilities, and the one proof of a login, its 235.  From these and
 * libcurl's result comes a text that a person can act on.
 */
#include "setup.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static const struct {
	enum fault_kind kind;
	const char *awaited;
	const char *refused;
} phases[PHASES] = {
	[PHASE_GREETING] = { FAULT_GREETING, "the greeting", "the connection" },
	[PHASE_EHLO] = { FAULT_EHLO, "the reply to EHLO", "EHLO" },
	[PHASE_STARTTLS] = { FAULT_STARTTLS, "the reply to STARTTLS",
	    "STARTTLS" },
	[PHASE_HANDSHAKE] = { FAULT_TLS, "the TLS handshake", "TLS" },
	[PHASE_TLS_EHLO] = { FAULT_EHLO, "the reply to EHLO under TLS",
	    "EHLO under TLS" },
	[PHASE_AUTH] = { FAULT_AUTH, "the reply to AUTH", "the login" },
	[PHASE_LOGGED_IN] = { FAULT_LOST, "nothing more", "the connection" },
};

const char *
fault_name(enum fault_kind kind)
{
	static const char *const names[FAULTS] = {
		[FAULT_NONE] = "none",
		[FAULT_CONFIG] = "config",
		[FAULT_DNS] = "dns",
		[FAULT_CONNECT] = "connect",
		[FAULT_GREETING] = "greeting",
		[FAULT_EHLO] = "ehlo",
		[FAULT_STARTTLS] = "starttls",
		[FAULT_TLS] = "tls",
		[FAULT_CERTIFICATE] = "certificate",
		[FAULT_AUTH] = "auth",
		[FAULT_NO_AUTH] = "no-auth",
		[FAULT_SHUTDOWN] = "shutdown",
		[FAULT_ACCOUNT] = "account",
		[FAULT_QUOTA] = "quota",
		[FAULT_LOST] = "lost",
		[FAULT_TIMEOUT] = "timeout",
		[FAULT_PROTOCOL] = "protocol",
	};

	return names[kind];
}

const char *
setup_password_key(const struct config_relay *r)
{
	if (r->password_credential[0] != '\0')
		return "password_credential";
	if (r->password_command[0] != '\0')
		return "password_command";
	return r->password_file[0] != '\0' ? "password_file" : "password";
}

static bool
is_loopback(const char *host)
{
	struct in_addr ipv4;

	if (inet_pton(AF_INET, host, &ipv4) == 1)
		return ntohl(ipv4.s_addr) >> 24 == 127;
	return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0;
}

void
setup_fault(struct setup *s, enum fault_kind kind, const char *format, ...)
{
	struct buf raw = { .len = 0 }, text = { .len = 0 };
	struct span fits;
	va_list ap;

	if (s->fault.kind != FAULT_NONE)
		return;
	va_start(ap, format);
	buf_vprintf(&raw, format, ap);
	va_end(ap);
	/* It comes between us until TLS. */
	if (s->relay->proxy[0] != '\0' && s->phase <= PHASE_HANDSHAKE &&
	    kind != FAULT_CONFIG)
		buf_printf(&raw, " (proxy: %s)", s->relay->proxy);
	buf_add_escaped(&text, span_trim(buf_span(&raw)));
	fits = span_first(buf_span(&text), sizeof(s->fault.text) - 1);
	memcpy(s->fault.text, fits.data, fits.len);
	s->fault.text[fits.len] = '\0';
	s->fault.kind = kind;
	if (s->answered && s->reply.code >= 400)
		s->fault.code = s->reply.code;
	buf_free(&raw);
	buf_free(&text);
}

/* ---- names and secrets ---- */

void
setup_name_peer(struct setup *s, const char *ip)
{
	struct buf name = { .len = 0 };

	buf_add_text(&name, s->relay->host);
	if (ip != NULL && ip[0] != '\0')
		buf_printf(&name, "[%s]", ip);
	buf_printf(&name, ":%u", s->relay->port);
	free(s->peer);
	s->peer = mem_text(buf_text(&name));
	buf_free(&name);
}

/* The address that packets to this one would come from; none is sent. */
static bool
source_address(const char *to, char out[NI_MAXHOST])
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST,
		.ai_socktype = SOCK_DGRAM };
	struct addrinfo *ai;
	struct sockaddr_storage from;
	struct sockaddr *sa = (struct sockaddr *)&from;
	socklen_t len = sizeof(from);
	int fd;
	bool known;

	if (getaddrinfo(to, "25", &hints, &ai) != 0)
		return false;
	fd = socket(ai->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	known = fd != -1 && connect(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
	    getsockname(fd, sa, &len) == 0 &&
	    getnameinfo(sa, len, out, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) == 0;
	fd_close(&fd);
	freeaddrinfo(ai);
	return known;
}

/*
 * The host's name; one without a dot (a container's id) would be refused, so
 * an address literal stands for it (RFC 5321, 4.1.1.1 and 4.1.3): source, where
 * the route to the relayhost starts, or, as its name is not resolved yet, the
 * default route (the addresses are documentation's: RFC 5737, RFC 3849).
 */
static void
add_ehlo_name(struct buf *out, const char *hostname,
    const struct config_relay *r)
{
	const char *const towards[] = { r->host, "192.0.2.1", "2001:db8::1" };
	char address[NI_MAXHOST] = "127.0.0.1";
	size_t i;

	if (strchr(hostname, '.') != NULL) {
		buf_add_text(out, hostname);
		return;
	}
	if (r->source[0] != '\0')
		(void)snprintf(address, sizeof(address), "%s", r->source);
	else
		for (i = 0; i < sizeof(towards) / sizeof(towards[0]); i++)
			if (source_address(towards[i], address))
				break;
	address[strcspn(address, "%")] = '\0'; /* no zone */
	buf_printf(out, "[%s%s]", strchr(address, ':') != NULL ? "IPv6:" : "",
	    address);
}

void
setup_url(const struct setup *s, const char *hostname, struct buf *out)
{
	const struct config_relay *r = s->relay;
	const bool ipv6 = strchr(r->host, ':') != NULL;
	struct buf name = { .len = 0 };
	size_t i;

	buf_printf(out, "%s://%s%s%s:%u/",
	    r->tls == TLS_IMPLICIT ? "smtps" : "smtp", ipv6 ? "[" : "", r->host,
	    ipv6 ? "]" : "", r->port);
	add_ehlo_name(&name, hostname, r);
	for (i = 0; i < name.len; i++)
		buf_printf(out, "%%%02X", (unsigned char)name.data[i]);
	buf_free(&name);
}

bool
setup_may_log_in(struct setup *s)
{
	const struct config_relay *r = s->relay;

	/* The configuration's check refused this already; it is here that it
	 * would do harm. */
	if ((r->tls == TLS_NONE || r->tls == TLS_OPPORTUNISTIC) &&
	    (!is_loopback(r->host) || r->proxy[0] != '\0'))
		setup_fault(s, FAULT_CONFIG,
		    "no login is sent to %s without TLS; set tls = "
		    "\"starttls\" or \"implicit\"",
		    s->peer);
	return s->fault.kind == FAULT_NONE;
}

bool
setup_password(struct setup *s, struct buf *password)
{
	struct buf error = { .len = 0 };

	if (config_password(s->relay, password, &error) == -1)
		setup_fault(s, FAULT_CONFIG, "%s", buf_text(&error));
	else if (memchr(password->data, '\0', password->len) != NULL)
		setup_fault(s, FAULT_CONFIG,
		    "the password in %s has a NUL byte",
		    setup_password_key(s->relay));
	buf_free(&error);
	return s->fault.kind == FAULT_NONE;
}

bool
setup_certificate(struct setup *s)
{
	struct buf error = { .len = 0 };
	const char *key;

	if (s->relay->tls_cert[0] != '\0' &&
	    config_certificate(s->relay, &key, &error) == -1)
		setup_fault(s, FAULT_CONFIG, "%s: %s", key, buf_text(&error));
	buf_free(&error);
	return s->fault.kind == FAULT_NONE;
}

/* ---- what went wrong, in words ---- */

static void
explain_dns(struct setup *s, const struct setup_facts *f)
{
	(void)f;
	setup_fault(s, FAULT_DNS, "the name %s could not be resolved (DNS)",
	    s->relay->host);
}

static void
explain_connect(struct setup *s, const struct setup_facts *f)
{
	setup_fault(s, FAULT_CONNECT, "cannot connect to %s: %s",
	    s->relay->proxy[0] != '\0' ? "the proxy" : s->peer, f->error);
}

static void
explain_timeout(struct setup *s, const struct setup_facts *f)
{
	const char *hint = "";

	if (!f->resolved) {
		setup_fault(s, FAULT_DNS,
		    "timed out while looking up the name %s (DNS)",
		    s->relay->host);
	} else if (!f->connected) {
		setup_fault(s, FAULT_CONNECT, "cannot connect to %s: timed out",
		    s->peer);
	} else if (s->relay->tls == TLS_IMPLICIT && !f->encrypted) {
		setup_fault(s, FAULT_TIMEOUT,
		    "timed out in the TLS handshake with %s", s->peer);
	} else {
		if (s->phase == PHASE_GREETING && s->relay->tls != TLS_IMPLICIT)
			hint = "; if the port expects TLS at once (as 465 "
			       "does), set tls = \"implicit\"";
		setup_fault(s, FAULT_TIMEOUT,
		    "timed out while waiting for %s of %s%s",
		    phases[s->phase].awaited, s->peer, hint);
	}
}

static void
explain_refused(struct setup *s, const struct setup_facts *f)
{
	(void)f;
	setup_fault(s, phases[s->phase].kind, "%s refused %s: %.300s", s->peer,
	    phases[s->phase].refused, s->reply.text);
}

/* What stands behind the 220 to STARTTLS would be taken for a reply that
 * came through TLS (CVE-2011-0411). */
static void
explain_weird(struct setup *s, const struct setup_facts *f)
{
	if (s->phase == PHASE_HANDSHAKE)
		setup_fault(s, FAULT_PROTOCOL,
		    "%s sent plain text where TLS was to begin, so nothing was "
		    "sent; someone may be tampering with the connection",
		    s->peer);
	else
		explain_refused(s, f);
}

static void
explain_starttls(struct setup *s, const struct setup_facts *f)
{
	if (s->answered)
		explain_refused(s, f);
	else
		setup_fault(s, FAULT_STARTTLS,
		    "%s does not offer STARTTLS, so nothing was sent; if this "
		    "is intended set tls = \"none\" (without a user), if the "
		    "port expects TLS at once set tls = \"implicit\"",
		    s->peer);
}

/* Servers tell late, or hardly, that they want a certificate; an alert about
 * certificates is about ours. */
static const char *
certificate_hint(const struct setup_facts *f)
{
	const char *alert = strstr(f->error, " alert ");

	if (alert == NULL)
		return "";
	if (strstr(alert, "certificate required") != NULL)
		return "; it wants a client certificate: set tls_cert and "
		       "tls_key";
	return strstr(alert, "certificate") != NULL ||
		strstr(alert, "unknown ca") != NULL
	    ? "; it does not take the client certificate in tls_cert"
	    : "";
}

static void
explain_tls(struct setup *s, const struct setup_facts *f)
{
	const char *hint = certificate_hint(f);

	if (s->relay->tls == TLS_IMPLICIT &&
	    strstr(f->error, "wrong version number") != NULL)
		hint = "; the port seems to speak plain SMTP first: set tls = "
		       "\"starttls\"";
	else if (strstr(f->error, "protocol version") != NULL ||
	    strstr(f->error, "unsupported protocol") != NULL)
		hint = "; it may have no TLS as new as tls_min asks for";
	setup_fault(s, FAULT_TLS, "the TLS handshake with %s failed: %s%s",
	    s->peer, f->error, hint);
}

static void
explain_certificate(struct setup *s, const struct setup_facts *f)
{
	if (f->wrong_name)
		setup_fault(s, FAULT_CERTIFICATE,
		    "the certificate of %s is not for the name %s; set host to "
		    "a name that is in it (%s)",
		    s->peer, s->relay->host, f->error);
	else if (f->wrong_time)
		setup_fault(s, FAULT_CERTIFICATE,
		    "the certificate of %s is not valid now: %s; check this "
		    "machine's clock, or have the certificate renewed",
		    s->peer, f->certificate_error);
	else
		setup_fault(s, FAULT_CERTIFICATE,
		    "the certificate of %s is not trusted: %s; %s", s->peer,
		    f->certificate_error,
		    f->unfit ? "the relayhost needs another one"
			     : "set tls_ca_file to the authority's "
			       "certificate");
}

static void
explain_ca_file(struct setup *s, const struct setup_facts *f)
{
	setup_fault(s, FAULT_CONFIG, "the tls_ca_file \"%s\" can't be used: %s",
	    s->relay->tls_ca_file, f->error);
}

static void
explain_pin(struct setup *s, const struct setup_facts *f)
{
	(void)f;
	setup_fault(s, FAULT_CERTIFICATE,
	    "the public key of %s is not the one in tls_pin, so nothing was "
	    "sent; if it has a new one set tls_pin to that, else someone may "
	    "be tampering with the connection",
	    s->peer);
}

static void
explain_cert_file(struct setup *s, const struct setup_facts *f)
{
	setup_fault(s, FAULT_CONFIG,
	    "tls_cert \"%s\" or tls_key \"%s\" can't be used: %s",
	    s->relay->tls_cert, s->relay->tls_key, f->error);
}

static void
explain_source(struct setup *s, const struct setup_facts *f)
{
	setup_fault(s, FAULT_CONNECT,
	    "cannot connect from source = \"%s\": is it an address of this "
	    "machine? (%s)",
	    s->relay->source, f->error);
}

static void
explain_proxy_dns(struct setup *s, const struct setup_facts *f)
{
	(void)f;
	setup_fault(s, FAULT_DNS,
	    "the name of the proxy could not be resolved (DNS)");
}

static void
explain_proxy(struct setup *s, const struct setup_facts *f)
{
	setup_fault(s, FAULT_CONNECT, "the proxy does not connect to %s: %s",
	    s->peer, f->error);
}

static void
explain_lost(struct setup *s, const struct setup_facts *f)
{
	setup_fault(s, FAULT_LOST,
	    "lost the connection to %s while waiting for %s: %s%s", s->peer,
	    phases[s->phase].awaited, f->error, certificate_hint(f));
}

static void
explain_other(struct setup *s, const struct setup_facts *f)
{
	if (!f->connected)
		setup_fault(s, FAULT_CONFIG,
		    "no connection to %s can be begun: %s", s->peer, f->error);
	else
		setup_fault(s, phases[s->phase].kind,
		    "%s: failed while waiting for %s: %s", s->peer,
		    phases[s->phase].awaited, f->error);
}

void
setup_explain(struct setup *s, const struct setup_facts *facts)
{
	static void (*const explain[SETUP_ENDS])(struct setup * s,
	    const struct setup_facts *f) = {
		[SETUP_DNS] = explain_dns,
		[SETUP_CONNECT] = explain_connect,
		[SETUP_TIMEOUT] = explain_timeout,
		[SETUP_REFUSED] = explain_refused,
		[SETUP_WEIRD] = explain_weird,
		[SETUP_STARTTLS] = explain_starttls,
		[SETUP_TLS] = explain_tls,
		[SETUP_CERTIFICATE] = explain_certificate,
		[SETUP_CA_FILE] = explain_ca_file,
		[SETUP_PIN] = explain_pin,
		[SETUP_CERT_FILE] = explain_cert_file,
		[SETUP_SOURCE] = explain_source,
		[SETUP_PROXY_DNS] = explain_proxy_dns,
		[SETUP_PROXY] = explain_proxy,
		[SETUP_LOST] = explain_lost,
		[SETUP_OTHER] = explain_other,
	};

	explain[facts->end](s, facts);
}

/* ---- the replies on their way in ---- */

/* What comes next, now that a reply is complete. */
static enum setup_phase
next_phase(const struct setup *s)
{
	enum tls_mode tls = s->relay->tls;
	bool offered = (s->promise.can & SMTP_CAN_STARTTLS) != 0;
	int code = s->reply.code;

	switch (s->phase) {
	case PHASE_GREETING:
		return code == 220 ? PHASE_EHLO : PHASE_GREETING;
	case PHASE_EHLO: /* or HELO, which libcurl tries after it */
		if (code != 250)
			return PHASE_EHLO;
		return tls == TLS_STARTTLS ||
			(tls == TLS_OPPORTUNISTIC && offered)
		    ? PHASE_STARTTLS
		    : PHASE_AUTH;
	case PHASE_STARTTLS:
		if (code == 220)
			return PHASE_HANDSHAKE;
		/* Opportunistic goes on in clear, else libcurl gives up. */
		return tls == TLS_OPPORTUNISTIC ? PHASE_AUTH : PHASE_STARTTLS;
	case PHASE_HANDSHAKE:
	case PHASE_TLS_EHLO:
		return code == 250 ? PHASE_AUTH : PHASE_TLS_EHLO;
	case PHASE_AUTH:
		return code == 235 ? PHASE_LOGGED_IN : PHASE_AUTH;
	case PHASE_LOGGED_IN:
	case PHASES:
		break;
	}
	return s->phase;
}

static void
end_reply(struct setup *s)
{
	enum setup_phase next;

	/* Only the last EHLO reply counts: what was offered in clear is
	 * nobody's promise (RFC 3207, 4.2). */
	if ((s->phase == PHASE_EHLO || s->phase == PHASE_TLS_EHLO) &&
	    s->reply.code == 250)
		s->promise = s->reading;
	next = next_phase(s);
	s->complete = true;
	s->answered = next == s->phase;
	s->phase = next;
}

static void
refuse_line(struct setup *s, struct span line)
{
	/* The first octet of a TLS record: an alert or a handshake. */
	bool tls =
	    line.len > 0 && (line.data[0] == '\x15' || line.data[0] == '\x16');

	setup_fault(s,
	    s->phase == PHASE_GREETING ? FAULT_GREETING : FAULT_PROTOCOL,
	    "%s does not speak SMTP%s: while waiting for %s this came: %.*s",
	    s->peer, tls ? " but TLS (set tls = \"implicit\"?)" : "",
	    phases[s->phase].awaited, (int)span_first(line, 200).len,
	    line.data);
}

const char *
setup_step(const struct setup *s)
{
	static const char *const names[PHASES] = {
		[PHASE_GREETING] = "greeting",
		[PHASE_EHLO] = "ehlo",
		[PHASE_STARTTLS] = "starttls",
		[PHASE_HANDSHAKE] = "ehlo-tls",
		[PHASE_TLS_EHLO] = "ehlo-tls",
		[PHASE_AUTH] = "auth",
		[PHASE_LOGGED_IN] = "auth",
	};

	return names[s->phase];
}

bool
setup_line(struct setup *s, struct span line)
{
	enum smtp_reply_state state;

	if (line.len > 0 && line.data[line.len - 1] == '\n')
		line.len--;
	if (line.len > 0 && line.data[line.len - 1] == '\r')
		line.len--;
	if (s->complete)
		s->reply = (struct smtp_reply){ .code = 0 };
	s->complete = false;
	s->answered = false;
	if (s->phase == PHASE_HANDSHAKE)
		s->phase = PHASE_TLS_EHLO;
	state = smtp_reply_line(&s->reply, line);
	if (state == SMTP_REPLY_BAD) {
		refuse_line(s, line);
		return false;
	}
	/* The first line is the relayhost's name and greeting. */
	if (s->reply.lines == 1)
		s->reading = (struct promise){ .can = 0 };
	else
		s->reading.can |= smtp_capability(line, &s->reading.size_limit);
	if (state == SMTP_REPLY_DONE)
		end_reply(s);
	return true;
}
