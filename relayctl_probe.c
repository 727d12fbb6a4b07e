/*
 * What the daemon's connector does not tell: whether each address of the
 * relayhost takes connections, and what TLS it speaks with which certificate.
 * Nothing of it decides whether the relayhost is trusted, and nothing secret
 * is sent.
 */
#include "online.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- names ---- */

size_t
probe_resolve(const struct config_relay *r,
    struct probe_address out[PROBE_ADDRESSES], const char **error)
{
	static const int families[] = {
		[FAMILY_ANY] = AF_UNSPEC,
		[FAMILY_IPV4] = AF_INET,
		[FAMILY_IPV6] = AF_INET6,
	};
	const struct addrinfo hints = { .ai_family = families[config_family(r)],
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *ai;
	size_t count = 0;
	int result;

	/* libc would ask for half a minute. */
	(void)setenv("RES_OPTIONS", "timeout:3 attempts:1", 1);
	result = getaddrinfo(r->host, NULL, &hints, &list);
	if (result != 0) {
		*error = gai_strerror(result);
		return 0;
	}
	for (ai = list; ai != NULL && count < PROBE_ADDRESSES;
	     ai = ai->ai_next) {
		struct probe_address *a = &out[count];

		if (ai->ai_addrlen > sizeof(a->name))
			continue;
		*a = (struct probe_address){ .error = EINPROGRESS };
		memcpy(&a->name, ai->ai_addr, ai->ai_addrlen);
		if (getnameinfo(ai->ai_addr, ai->ai_addrlen, a->text,
			sizeof(a->text), NULL, 0, NI_NUMERICHOST) == 0)
			count++;
	}
	freeaddrinfo(list);
	return count;
}

static void
set_port(struct probe_address *address, unsigned port)
{
	if (address->name.any.sa_family == AF_INET6)
		address->name.v6.sin6_port = htons((uint16_t)port);
	else
		address->name.v4.sin_port = htons((uint16_t)port);
}

static socklen_t
name_len(const struct probe_address *a)
{
	return a->name.any.sa_family == AF_INET6 ? sizeof(a->name.v6)
						 : sizeof(a->name.v4);
}

/* ---- TCP ---- */

/* One that is not of this machine is for the daemon's connector to tell. */
static void
bind_source(int fd, int family, const char *source)
{
	struct probe_address from = { .error = 0 };
	void *at = family == AF_INET6 ? (void *)&from.name.v6.sin6_addr
				      : (void *)&from.name.v4.sin_addr;

	from.name.any.sa_family = (sa_family_t)family;
	if (inet_pton(family, source, at) == 1)
		(void)bind(fd, &from.name.any, name_len(&from));
}

/* -1: errno. */
static int
begin_connect(const struct config_relay *r, const struct probe_address *a)
{
	int family = a->name.any.sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd != -1)
		bind_source(fd, family, r->source);
	if (fd != -1 && connect(fd, &a->name.any, name_len(a)) == -1 &&
	    errno != EINPROGRESS)
		fd_close(&fd);
	return fd;
}

static int
connect_error(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		return errno;
	return error;
}

/* Those that have an answer by now; returns how many still wait. */
static size_t
note_answers(struct probe_address *address, struct pollfd *p, size_t count,
    int64_t took_ms)
{
	size_t i, waiting = 0;

	for (i = 0; i < count; i++) {
		if (p[i].fd == -1)
			continue;
		if (p[i].revents == 0) {
			waiting++;
			continue;
		}
		address[i].error = connect_error(p[i].fd);
		address[i].took_ms = took_ms;
		fd_close(&p[i].fd);
	}
	return waiting;
}

void
probe_tcp(const struct config_relay *r, struct probe_address *address,
    size_t count, unsigned port, int64_t wait_ms)
{
	struct pollfd p[PROBE_ADDRESSES];
	int64_t begun = walk_now_ms(), left;
	size_t i, waiting = 0;

	for (i = 0; i < count; i++) {
		set_port(&address[i], port);
		address[i].error = ETIMEDOUT;
		address[i].took_ms = wait_ms;
		p[i] = (struct pollfd){ begin_connect(r, &address[i]), POLLOUT,
			0 };
		if (p[i].fd == -1) {
			address[i].error = errno;
			address[i].took_ms = 0;
		} else {
			waiting++;
		}
	}
	while (waiting > 0 && (left = begun + wait_ms - walk_now_ms()) > 0) {
		if (poll(p, count, (int)left) > 0)
			waiting = note_answers(address, p, count,
			    walk_now_ms() - begun);
	}
	for (i = 0; i < count; i++)
		fd_close(&p[i].fd);
}

/* ---- TLS ---- */

struct dialogue {
	int fd;
	int64_t until_ms;
	size_t octets; /* read so far */
};

static bool
wait_for(const struct dialogue *d, short events)
{
	struct pollfd p = { d->fd, events, 0 };
	int64_t left = d->until_ms - walk_now_ms();

	return left > 0 && poll(&p, 1, (int)left) == 1;
}

/* One octet at a time: what follows a reply to STARTTLS is OpenSSL's. */
static bool
read_line(struct dialogue *d, struct buf *line)
{
	char c = '\0';

	buf_clear(line);
	while (c != '\n') {
		if (d->octets++ > LIMIT_REPLY || !wait_for(d, POLLIN) ||
		    read(d->fd, &c, 1) != 1)
			return false;
		buf_add_char(line, c);
	}
	return true;
}

/* A whole reply; is it of this class? */
static bool
read_reply(struct dialogue *d, char class)
{
	struct buf line = { NULL, 0, 0 };
	bool good;

	do
		good = read_line(d, &line) && line.len > 3;
	while (good && line.data[3] == '-');
	good = good && line.data[0] == class;
	buf_free(&line);
	return good;
}

/* It is so little that a new connection takes it at once. */
static bool
write_line(const struct dialogue *d, const char *verb, const char *argument)
{
	struct buf line = { NULL, 0, 0 };
	int result;

	buf_printf(&line, "%s%s\r\n", verb, argument);
	result = write_all(d->fd, buf_span(&line));
	buf_free(&line);
	return result == 0;
}

static bool
ask_starttls(struct dialogue *d, const char *ehlo)
{
	return read_reply(d, '2') && write_line(d, "EHLO ", ehlo) &&
	    read_reply(d, '2') && write_line(d, "STARTTLS", "") &&
	    read_reply(d, '2');
}

static bool
handshake(struct dialogue *d, SSL *ssl)
{
	int result;

	while ((result = SSL_connect(ssl)) != 1) {
		int error = SSL_get_error(ssl, result);

		if (error != SSL_ERROR_WANT_READ &&
		    error != SSL_ERROR_WANT_WRITE)
			return false;
		if (!wait_for(d,
			error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT))
			return false;
	}
	return true;
}

static void
add_name(struct buf *out, const X509_NAME *name)
{
	char text[256] = "";

	/* The common name, or all of it. */
	if (X509_NAME_get_text_by_NID(name, NID_commonName, text,
		sizeof(text)) <= 0)
		(void)X509_NAME_oneline(name, text, sizeof(text));
	buf_add_text(out, text[0] == '\0' ? "(no name)" : text);
}

static void
add_alternatives(struct buf *out, const X509 *certificate)
{
	enum { SHOWN = 8 };
	GENERAL_NAMES *names =
	    X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	int i, shown = 0, count = sk_GENERAL_NAME_num(names);

	for (i = 0; i < count && shown < SHOWN; i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_DNS)
			continue;
		buf_printf(out, "%s%.*s", shown++ == 0 ? ", for " : ", ",
		    ASN1_STRING_length(name->d.dNSName),
		    (const char *)ASN1_STRING_get0_data(name->d.dNSName));
	}
	if (i < count)
		buf_add_text(out, ", ...");
	GENERAL_NAMES_free(names);
}

static void
add_date(struct buf *out, const ASN1_TIME *time)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(time, &tm) == 1)
		buf_printf(out, "%04d-%02d-%02d", tm.tm_year + 1900,
		    tm.tm_mon + 1, tm.tm_mday);
	else
		buf_add_char(out, '?');
}

static void
describe(SSL *ssl, struct probe_tls *out)
{
	const X509 *certificate = SSL_get0_peer_certificate(ssl);
	struct buf *text = &out->certificate;

	(void)snprintf(out->version, sizeof(out->version), "%s with cipher %s",
	    SSL_get_version(ssl), SSL_get_cipher_name(ssl));
	if (certificate == NULL) {
		buf_add_text(text, "none");
		return;
	}
	add_name(text, X509_get_subject_name(certificate));
	add_alternatives(text, certificate);
	buf_add_text(text, ", by ");
	add_name(text, X509_get_issuer_name(certificate));
	buf_add_text(text, ", valid ");
	add_date(text, X509_get0_notBefore(certificate));
	buf_add_text(text, " to ");
	add_date(text, X509_get0_notAfter(certificate));
}

/* SNI (RFC 6066, 3): not for an address. */
static void
add_server_name(SSL *ssl, const char *host)
{
	char *name = mem_text(host); /* OpenSSL's macro takes no const */
	struct in6_addr address;

	if (inet_pton(AF_INET, host, &address) != 1 &&
	    inet_pton(AF_INET6, host, &address) != 1)
		(void)SSL_set_tlsext_host_name(ssl, name);
	free(name);
}

/* It is to see what the daemon would refuse, so it refuses nothing itself. */
static SSL *
make_ssl(SSL_CTX *context, int fd, const struct config_relay *r)
{
	SSL *ssl;

	if (context == NULL)
		return NULL;
	SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_security_level(context, 0);
	/* openssl.cnf may have set one. */
	(void)SSL_CTX_set_min_proto_version(context, 0);
	ssl = SSL_new(context);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	add_server_name(ssl, r->host);
	/* Some end the handshake without one. */
	if (r->tls_cert[0] != '\0') {
		(void)SSL_use_certificate_chain_file(ssl, r->tls_cert);
		(void)SSL_use_PrivateKey_file(ssl, r->tls_key,
		    SSL_FILETYPE_PEM);
	}
	return ssl;
}

void
probe_tls(const struct config_relay *r, const struct probe_address *address,
    const char *ehlo, int64_t wait_ms, struct probe_tls *out)
{
	struct dialogue d = { .until_ms = walk_now_ms() + wait_ms };
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = NULL;
	int64_t begun;

	*out = (struct probe_tls){ .took_ms = 0 };
	d.fd = begin_connect(r, address);
	if (d.fd != -1 && wait_for(&d, POLLOUT) && connect_error(d.fd) == 0 &&
	    (ehlo == NULL || ask_starttls(&d, ehlo)))
		ssl = make_ssl(context, d.fd, r);
	begun = walk_now_ms();
	if (ssl != NULL && handshake(&d, ssl))
		describe(ssl, out);
	out->took_ms = walk_now_ms() - begun;
	ERR_clear_error();
	SSL_free(ssl);
	SSL_CTX_free(context);
	fd_close(&d.fd);
}
