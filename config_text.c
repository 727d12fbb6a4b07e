/*
 * What texts in relayd.conf may be: paths, names, addresses, networks.
 */
#include "config_parts.h"

#include <arpa/inet.h>

#include <stdlib.h>
#include <string.h>

const char *
config_check_controls(struct span value)
{
	size_t i;

	for (i = 0; i < value.len; i++) {
		if ((unsigned char)value.data[i] < ' ' || value.data[i] == 127)
			return "holds a control character";
	}
	return NULL;
}

const char *
config_check_domain(struct span value)
{
	struct buf address = { 0 };
	bool valid;

	/* smtp.c is the judge; a literal is fine for it, but not here. */
	buf_add(&address, SPAN("a@"));
	buf_add(&address, value);
	valid = value.len > 0 && *value.data != '[' &&
	    smtp_address_valid(buf_span(&address), 0);
	buf_free(&address);
	return valid ? NULL
		     : "must be a domain name (letters, digits, '-', '.')";
}

static bool
is_ip(struct span text, int family)
{
	unsigned char unused[16];
	char *copy = span_text(text);
	bool is = inet_pton(family, copy, unused) == 1;

	free(copy);
	return is;
}

const char *
config_check_path(struct span value)
{
	struct span rest = value, part;
	bool more;

	if (value.len == 0 || *value.data != '/')
		return "must be an absolute path (\"/...\")";
	do {
		more = span_cut(rest, '/', &part, &rest);
		if (span_equal(part, SPAN("..")))
			return "must be a path without \"..\"";
	} while (more);
	return NULL;
}

const char *
config_check_path_or_none(struct span value)
{
	return value.len == 0 ? NULL : config_check_path(value);
}

const char *
config_check_directory(struct span value)
{
	size_t i = 0;

	while (i < value.len && strchr("/.", value.data[i]) != NULL)
		i++;
	return i == value.len ? "must be a directory below \"/\""
			      : config_check_path(value);
}

/* "HOST:PORT" and "[HOST]:PORT": which one, without the brackets. */
struct endpoint {
	struct span host;
	bool bracketed;
	uint64_t port;
};

static bool
parse_endpoint(struct span value, struct endpoint *out)
{
	const char *colon = memrchr(value.data, ':', value.len);
	struct span host;

	if (colon == NULL)
		return false;
	host = span_first(value, (size_t)(colon - value.data));
	out->bracketed =
	    host.len > 2 && *host.data == '[' && host.data[host.len - 1] == ']';
	out->host = out->bracketed
	    ? span_first(span_from(host, 1), host.len - 2)
	    : host;
	return parse_number(span_from(value, host.len + 1), 65535, &out->port);
}

const char *
config_check_listen(struct span value)
{
	enum { UNIX_PATH_MAX = 107 }; /* unix(7) */
	struct endpoint e;

	if (span_starts_nocase(value, SPAN("unix:"))) {
		struct span path = span_from(value, SPAN("unix:").len);

		return path.len > UNIX_PATH_MAX
		    ? "is too long a path (at most 107 octets)"
		    : config_check_path(path);
	}
	if (!parse_endpoint(value, &e) ||
	    !is_ip(e.host, e.bracketed ? AF_INET6 : AF_INET))
		return "must be \"ADDRESS:PORT\", \"[ADDRESS]:PORT\" or "
		       "\"unix:/PATH\"";
	return NULL;
}

const char *
config_check_socket(struct span value)
{
	return span_starts_nocase(value, SPAN("unix:"))
	    ? config_check_listen(value)
	    : "must be \"unix:/PATH\"";
}

const char *
config_check_address(struct span value)
{
	return smtp_address_valid(value, 0)
	    ? NULL
	    : "must be a full address (\"alerts@example.com\")";
}

const char *
config_check_recipient(struct span value)
{
	return smtp_address_valid(value, ADDRESS_BARE)
	    ? NULL
	    : "must be an address or a local name";
}

const char *
config_check_command(struct span value)
{
	enum { MOST = 4000 };

	return value.len <= MOST ? NULL : "is longer than 4000 octets";
}

const char *
config_check_ip(struct span value)
{
	return is_ip(value, AF_INET) || is_ip(value, AF_INET6)
	    ? NULL
	    : "must be an address (\"192.0.2.1\", \"2001:db8::1\")";
}

/* SHA-256 in base64: 43 digits and a '='. */
static bool
is_digest(struct span text)
{
	size_t i;

	for (i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') &&
		    !(c >= '0' && c <= '9') && c != '+' && c != '/')
			break;
	}
	return text.len == 44 && i == 43 && text.data[i] == '=';
}

const char *
config_check_pin(struct span value)
{
	struct span pin, scheme = SPAN("sha256//");
	bool more;

	do {
		more = span_cut(value, ';', &pin, &value);
		if (!span_equal(span_first(pin, scheme.len), scheme) ||
		    !is_digest(span_from(pin, scheme.len)))
			return "must be \"sha256//BASE64\", with ';' between "
			       "several: of 44 characters each";
	} while (more);
	return NULL;
}

/* A user or a systemd credential: safe as a file name, too. */
const char *
config_check_name(struct span value)
{
	static const char wrong[] =
	    "must be a name (letters, digits, '_', '-', '.')";
	size_t i;

	if (value.len == 0)
		return wrong;
	for (i = 0; i < value.len; i++) {
		char c = value.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || c == '_' ||
			(i > 0 && (c == '-' || c == '.'))))
			return wrong;
	}
	return NULL;
}

const char *
config_check_proxy(struct span value)
{
	static const char *const schemes[] = { "socks5://", "socks5h://",
		"http://" };
	struct span rest = SPAN("");
	struct endpoint e;
	size_t i;

	for (i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (span_equal(span_first(value, strlen(schemes[i])),
			span_of(schemes[i])))
			rest = span_from(value, strlen(schemes[i]));
	if (memchr(rest.data, '@', rest.len) != NULL)
		return "has a login, which is not in this version";
	if (!parse_endpoint(rest, &e) || e.port == 0 ||
	    (e.bracketed ? !is_ip(e.host, AF_INET6)
			 : config_check_name(e.host) != NULL))
		return "must be \"socks5://HOST:PORT\", "
		       "\"socks5h://HOST:PORT\" or \"http://HOST:PORT\"";
	return NULL;
}

/* Does a field of that name mean something to a mail program, so that a second
 * one would make the message invalid or another (RFC 5322, 3.6)? */
static bool
field_taken(struct span name)
{
	static const char *const names[] = { "Bcc", "Cc", "Date",
		"DKIM-Signature", "From", "In-Reply-To", "Message-ID",
		"MIME-Version", "Received", "References", "Reply-To",
		"Return-Path", "Sender", "Subject", "To" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (span_equal_nocase(name, span_of(names[i])))
			return true;
	return span_starts_nocase(name, SPAN("Content-")) ||
	    span_starts_nocase(name, SPAN("Resent-"));
}

/* A field for header_add. */
const char *
config_check_field(struct span value)
{
	enum { LONGEST = 900 }; /* one word of it must fit in a line */
	struct span name, rest;
	size_t i;

	if (!span_cut(value, ':', &name, &rest) || name.len == 0 ||
	    span_trim(rest).len == 0)
		return "must be a field (\"X-Env: staging\")";
	for (i = 0; i < name.len; i++)
		if (name.data[i] <= ' ' || name.data[i] > '~')
			return "has no valid field name";
	if (field_taken(name))
		return "can't be added: such a field is relayd's or the "
		       "message's own";
	if (value.len > LONGEST)
		return "is too long (at most 900 octets)";
	return span_is_utf8(rest) ? NULL : "is not valid UTF-8";
}

/* A CIDR block, IPv4 mapped into IPv6 so that both compare alike. */
struct block {
	unsigned char octet[16];
	unsigned bits;
};

static bool
parse_block(struct span text, struct block *b)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct span host, bits;
	uint64_t value;
	char *name;
	bool given = span_cut(text, '/', &host, &bits);
	bool v4, v6;

	name = span_text(host);
	v4 = inet_pton(AF_INET, name, b->octet + sizeof(mapped)) == 1;
	v6 = !v4 && inet_pton(AF_INET6, name, b->octet) == 1;
	free(name);
	if (v4)
		memcpy(b->octet, mapped, sizeof(mapped));
	value = v4 ? 32 : 128;
	if ((!v4 && !v6) || (given && !parse_number(bits, value, &value)))
		return false;
	b->bits = (unsigned)value + (v4 ? 96 : 0);
	return true;
}

bool
config_block_within(struct span block, const char *outer)
{
	struct block in, out;
	unsigned i;

	if (!parse_block(block, &in) || !parse_block(span_of(outer), &out) ||
	    in.bits < out.bits)
		return false;
	for (i = 0; i < out.bits; i++)
		if (((in.octet[i / 8] ^ out.octet[i / 8]) & 0x80 >> i % 8) != 0)
			return false;
	return true;
}

static const char *const harmless[] = {
	"127.0.0.0/8",
	"10.0.0.0/8", /* RFC 1918 */
	"172.16.0.0/12",
	"192.168.0.0/16",
	"169.254.0.0/16", /* link-local, RFC 3927 */
	"100.64.0.0/10",  /* CGNAT, RFC 6598 */
	"::1/128",
	"fc00::/7", /* ULA, RFC 4193 */
	"fe80::/10",
};

static bool
is_harmless(struct span block)
{
	size_t i;

	for (i = 0; i < sizeof(harmless) / sizeof(*harmless); i++)
		if (config_block_within(block, harmless[i]))
			return true;
	return false;
}

void
config_private_networks(struct strings *blocks)
{
	size_t i;

	for (i = 0; i < sizeof(harmless) / sizeof(*harmless); i++)
		strings_add(blocks, span_of(harmless[i]));
}

/* Whom a listener may serve without a login: nobody on the internet. */
const char *
config_check_block(struct span value)
{
	struct block unused;

	if (!parse_block(value, &unused))
		return "must be a network (\"10.0.0.0/8\", \"fd00::/8\")";
	if (is_harmless(value))
		return NULL;
	return "reaches beyond loopback and private networks, which needs "
	       "auth = \"required\": not in this version";
}

/* Where those who watch may connect; on all addresses of the host, too, for
 * http.c looks where a peer is. */
const char *
config_check_metrics(struct span value)
{
	struct endpoint e;

	if (!parse_endpoint(value, &e) ||
	    !is_ip(e.host, e.bracketed ? AF_INET6 : AF_INET))
		return "must be an address and a port (\"127.0.0.1:9025\", "
		       "\"[::1]:9025\")";
	if (is_harmless(e.host) || span_equal(e.host, SPAN("0.0.0.0")) ||
	    span_equal(e.host, SPAN("::")))
		return NULL;
	return "is no address of loopback or a private network";
}
