/*
 * SMTP grammar (RFC 5321 and its extensions): command lines, paths, addresses,
 * replies.  The parameters of MAIL and RCPT are in parameters.c.
 * What a command does, and all input and output, is for others.
 */
#include "relayd.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static bool
is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
has(struct span s, char c)
{
	return s.len > 0 && memchr(s.data, c, s.len) != NULL;
}

/* ---- command lines ---- */

static const struct {
	const char *word;
	enum smtp_verb verb;
} verbs[] = {
	{ "EHLO", SMTP_EHLO },
	{ "HELO", SMTP_HELO },
	{ "MAIL", SMTP_MAIL },
	{ "RCPT", SMTP_RCPT },
	{ "DATA", SMTP_DATA },
	{ "BDAT", SMTP_BDAT },
	{ "RSET", SMTP_RSET },
	{ "NOOP", SMTP_NOOP },
	{ "VRFY", SMTP_VRFY },
	{ "EXPN", SMTP_EXPN },
	{ "HELP", SMTP_HELP },
	{ "QUIT", SMTP_QUIT },
	{ "STARTTLS", SMTP_STARTTLS },
	{ "AUTH", SMTP_AUTH },
	{ "GET", SMTP_HTTP },
	{ "POST", SMTP_HTTP },
	{ "PUT", SMTP_HTTP },
	{ "HEAD", SMTP_HTTP },
	{ "OPTIONS", SMTP_HTTP },
	{ "CONNECT", SMTP_HTTP },
	{ "DELETE", SMTP_HTTP },
	{ "PATCH", SMTP_HTTP },
	{ "TRACE", SMTP_HTTP },
};

enum smtp_verb
smtp_command(struct span line, struct span *arg)
{
	struct span word;
	size_t i;

	(void)span_cut(line, ' ', &word, arg);
	while (arg->len > 0 && arg->data[arg->len - 1] == ' ')
		arg->len--;
	if (span_starts_nocase(line, SPAN("Host:")))
		return SMTP_HTTP;
	/* Bytes at which others might end the line: it means nothing. */
	if (has(line, '\0') || has(line, '\r') || has(line, '\n'))
		return SMTP_UNKNOWN;
	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (span_equal_nocase(word, span_of(verbs[i].word)))
			return verbs[i].verb;
	return SMTP_UNKNOWN;
}

bool
smtp_helo_valid(struct span name)
{
	size_t i;

	if (name.len > 2 && name.data[0] == '[' &&
	    name.data[name.len - 1] == ']')
		name = (struct span){ name.data + 1, name.len - 2 };
	if (name.len == 0 || name.len > LIMIT_DOMAIN)
		return false;
	/* Wider than the grammar: the name proves nothing, it is only noted. */
	for (i = 0; i < name.len; i++)
		if (!is_alnum(name.data[i]) &&
		    !has(SPAN(".-_:%"), name.data[i]))
			return false;
	return true;
}

bool
smtp_bdat(struct span arg, uint64_t *octets, bool *last)
{
	struct span number, word;

	*last = span_cut(arg, ' ', &number, &word);
	if (*last && !span_equal_nocase(word, SPAN("LAST")))
		return false;
	return parse_number(number, UINT64_MAX, octets);
}

/* ---- addresses ---- */

/* Octets of the character beyond ASCII that s begins with; 0: it is none. */
static size_t
utf8_length(struct span s)
{
	size_t len = span_utf8(s);

	return len > 1 ? len : 0;
}

/* Is it made of letters, digits, these marks, and UTF-8 if flags say so? */
static bool
made_of(struct span s, struct span marks, unsigned flags)
{
	size_t len;

	for (; s.len > 0; s = span_from(s, len)) {
		len = is_alnum(s.data[0]) || has(marks, s.data[0]);
		if (len == 0 && (flags & ADDRESS_UTF8) != 0)
			len = utf8_length(s);
		if (len == 0)
			return false;
	}
	return true;
}

/* Dot-string: Atom *("." Atom) (RFC 5321, 4.1.2; atext: RFC 5322, 3.2.3). */
static bool
dot_string_valid(struct span s, unsigned flags)
{
	struct span atom;
	bool more;

	do {
		more = span_cut(s, '.', &atom, &s);
		if (atom.len == 0 ||
		    !made_of(atom, SPAN("!#$%&'*+-/=?^_`{|}~"), flags))
			return false;
	} while (more);
	return true;
}

/* Octets of the QcontentSMTP that s begins with (RFC 5321, 4.1.2); 0: none. */
static size_t
quoted_content(struct span s, unsigned flags)
{
	bool pair = s.data[0] == '\\';
	unsigned char c;

	if (pair && s.len == 1)
		return 0;
	c = (unsigned char)s.data[pair];
	if (c >= ' ' && c <= '~')
		return pair ? 2 : 1;
	return !pair && (flags & ADDRESS_UTF8) != 0 ? utf8_length(s) : 0;
}

/* Quoted-string, with its quotes. */
static bool
quoted_valid(struct span s, unsigned flags)
{
	size_t len, at;

	for (at = 1; at < s.len && s.data[at] != '"'; at += len) {
		len = quoted_content(span_from(s, at), flags);
		if (len == 0)
			return false;
	}
	return at + 1 == s.len;
}

/* Octets before the '@' that is not in quotes, or all. */
static size_t
local_length(struct span address)
{
	const char *at;
	size_t i;

	if (address.len == 0)
		return 0;
	if (address.data[0] != '"') {
		at = memchr(address.data, '@', address.len);
		return at == NULL ? address.len : (size_t)(at - address.data);
	}
	for (i = 1; i < address.len && address.data[i] != '"'; i++)
		if (address.data[i] == '\\')
			i++;
	return i < address.len ? i + 1 : address.len;
}

/* address-literal (RFC 5321, 4.1.3), with its brackets. */
static bool
literal_valid(struct span s)
{
	unsigned char address[sizeof(struct in6_addr)];
	char text[INET6_ADDRSTRLEN];
	int family = AF_INET;

	if (s.len < 2 || s.data[s.len - 1] != ']')
		return false;
	s = (struct span){ s.data + 1, s.len - 2 };
	if (span_starts_nocase(s, SPAN("IPv6:"))) {
		s = span_from(s, 5);
		family = AF_INET6;
	}
	if (s.len >= sizeof(text) || has(s, '\0'))
		return false;
	memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	return inet_pton(family, text, address) == 1;
}

/*
 * Domain (RFC 5321, 4.1.2), or U-labels (RFC 6531, 3.3), or a literal.
 * Underscores are no host name's, but there are such domains.
 */
static bool
domain_valid(struct span s, unsigned flags)
{
	struct span label;
	bool more;

	if (s.len == 0 || s.len > LIMIT_DOMAIN)
		return false;
	if (s.data[0] == '[')
		return literal_valid(s);
	do {
		more = span_cut(s, '.', &label, &s);
		if (label.len == 0 || label.len > LIMIT_LABEL ||
		    label.data[0] == '-' || label.data[label.len - 1] == '-' ||
		    !made_of(label, SPAN("-_"), flags))
			return false;
	} while (more);
	return true;
}

bool
smtp_address_valid(struct span address, unsigned flags)
{
	struct span local = span_first(address, local_length(address));
	struct span rest = span_from(address, local.len);
	bool valid;

	if (address.len > LIMIT_ADDRESS || local.len == 0 ||
	    local.len > LIMIT_LOCAL_PART)
		return false;
	valid = local.data[0] == '"' ? quoted_valid(local, flags)
				     : dot_string_valid(local, flags);
	if (rest.len == 0)
		return valid && (flags & ADDRESS_BARE) != 0;
	return valid && rest.data[0] == '@' &&
	    domain_valid(span_from(rest, 1), flags);
}

void
smtp_address_split(struct span address, struct span *local, struct span *domain)
{
	*local = span_first(address, local_length(address));
	*domain = (struct span){ NULL, 0 };
	if (local->len < address.len)
		*domain = span_from(address, local->len + 1);
}

/* ---- paths ---- */

/* Take off a source route, "@a,@b:", which means nothing any more (RFC 5321,
 * 4.1.1.3 and appendix C); false when it is not one. */
static bool
drop_route(struct span *address)
{
	struct span route, hop;
	bool more;

	if (address->len == 0 || address->data[0] != '@')
		return true;
	if (!span_cut(*address, ':', &route, address) || address->len == 0)
		return false;
	do {
		more = span_cut(route, ',', &hop, &route);
		if (hop.len == 0 || hop.data[0] != '@' ||
		    !domain_valid(span_from(hop, 1), 0))
			return false;
	} while (more);
	return true;
}

/* Where the ">" stands that is not in quotes; s.len: nowhere. */
static size_t
closing_bracket(struct span s)
{
	bool quoted = false;
	size_t i;

	for (i = 0; i < s.len && (quoted || s.data[i] != '>'); i++) {
		if (s.data[i] == '"')
			quoted = !quoted;
		else if (quoted && s.data[i] == '\\')
			i++;
	}
	return i < s.len ? i : s.len;
}

/* Split "<path> parameters", or take the whole as an address, never half. */
static bool
split_path(struct span s, struct span *address, struct span *parameters)
{
	size_t end;

	*address = s;
	*parameters = span_from(s, s.len);
	if (s.len == 0 || s.data[0] != '<')
		return s.len > 0;
	end = closing_bracket(s);
	if (end == s.len)
		return false;
	*address = (struct span){ s.data + 1, end - 1 };
	*parameters = span_from(s, end + 1);
	if (parameters->len > 0 && parameters->data[0] != ' ')
		return false;
	*parameters = span_trim(*parameters);
	return drop_route(address);
}

const char *
smtp_path(struct span arg, struct span keyword, bool utf8, struct span *address,
    struct span *parameters)
{
	bool sender = span_equal_nocase(keyword, SPAN("FROM:"));
	const char *bad = sender ? "501 5.1.7 Bad sender address syntax"
				 : "501 5.1.3 Bad recipient address syntax";

	if (!span_starts_nocase(arg, keyword))
		return sender ? "501 5.5.4 Syntax: MAIL FROM:<address>"
			      : "501 5.5.4 Syntax: RCPT TO:<address>";
	arg = span_trim(span_from(arg, keyword.len));
	if (!split_path(arg, address, parameters))
		return bad;
	if (address->len == 0)
		return sender ? NULL : bad;
	if (!smtp_address_valid(*address, ADDRESS_BARE | ADDRESS_UTF8))
		return bad;
	if (!utf8 && !smtp_address_valid(*address, ADDRESS_BARE))
		return "553 5.6.7 Address needs SMTPUTF8";
	return NULL;
}

/* ---- replies ---- */

/* Append to what is kept of a reply, as far as it fits. */
static void
keep_text(struct smtp_reply *r, struct span text)
{
	size_t i;

	for (i = 0; i < text.len && r->len < LIMIT_REPLY_KEPT; i++)
		if (!has(SPAN("\r\n\0"), text.data[i]))
			r->text[r->len++] = text.data[i];
	r->text[r->len] = '\0';
}

/* Reply-code (RFC 5321, 4.2) of a line; 0: it has none. */
static int
reply_code(struct span line)
{
	if (line.len < 3 || line.data[0] < '2' || line.data[0] > '5' ||
	    !is_digit(line.data[1]) || !is_digit(line.data[2]))
		return 0;
	return (line.data[0] - '0') * 100 + (line.data[1] - '0') * 10 +
	    (line.data[2] - '0');
}

enum smtp_reply_state
smtp_reply_line(struct smtp_reply *r, struct span line)
{
	int code = reply_code(line);
	bool more = line.len > 3 && line.data[3] == '-';

	r->lines++;
	r->octets += line.len + 2;
	if (code == 0 || (r->code != 0 && r->code != code) ||
	    (line.len > 3 && !more && line.data[3] != ' ') ||
	    line.len + 2 > LIMIT_REPLY_LINE || r->octets > LIMIT_REPLY ||
	    r->lines > LIMIT_REPLY_LINES)
		return SMTP_REPLY_BAD;
	if (r->code == 0)
		keep_text(r, span_first(line, 3));
	r->code = code;
	if (line.len > 4) {
		keep_text(r, SPAN(" "));
		keep_text(r, span_from(line, 4));
	}
	return more ? SMTP_REPLY_MORE : SMTP_REPLY_DONE;
}

/* Octets of the one to three digits that text begins with. */
static size_t
digits(const char *text)
{
	size_t n = 0;

	while (n < 3 && is_digit(text[n]))
		n++;
	return n;
}

/* Octets of the status code (RFC 3463, section 2) that text begins with, if
 * it is of this class. */
static size_t
status_length(const char *text, char class)
{
	size_t subject, detail;

	if (text[0] != class || text[1] != '.')
		return 0;
	subject = digits(text + 2);
	if (subject == 0 || text[2 + subject] != '.')
		return 0;
	detail = digits(text + 3 + subject);
	if (detail == 0 || !has(SPAN(" \0"), text[3 + subject + detail]))
		return 0;
	return 3 + subject + detail;
}

void
smtp_reply_status(const char *text, int code, char out[12])
{
	char class = (char)('0' + code / 100);
	size_t len = 0;

	if (class != '2' && class != '5')
		class = '4';
	if (reply_code(span_of(text)) != 0 && text[3] == ' ')
		len = status_length(text + 4, class);
	if (len > 0)
		(void)snprintf(out, 12, "%.*s", (int)len, text + 4);
	else
		(void)snprintf(out, 12, "%c.0.0", class);
}

static const struct {
	const char *keyword;
	unsigned bit;
} capabilities[] = {
	{ "PIPELINING", SMTP_CAN_PIPELINING },
	{ "8BITMIME", SMTP_CAN_8BITMIME },
	{ "SMTPUTF8", SMTP_CAN_SMTPUTF8 },
	{ "CHUNKING", SMTP_CAN_CHUNKING },
	{ "DSN", SMTP_CAN_DSN },
	{ "STARTTLS", SMTP_CAN_STARTTLS },
	{ "SIZE", SMTP_CAN_SIZE },
};

static unsigned
auth_mechanism(struct span name)
{
	static const struct {
		const char *name;
		unsigned bit;
	} known[] = {
		{ "PLAIN", SMTP_AUTH_PLAIN },
		{ "LOGIN", SMTP_AUTH_LOGIN },
		{ "CRAM-MD5", SMTP_AUTH_CRAM_MD5 },
		{ "SCRAM-SHA-256", SMTP_AUTH_SCRAM_SHA_256 },
		{ "EXTERNAL", SMTP_AUTH_EXTERNAL },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (span_equal_nocase(name, span_of(known[i].name)))
			return known[i].bit;
	return name.len > 0 ? SMTP_AUTH_OTHER : 0;
}

static unsigned
auth_mechanisms(struct span list)
{
	struct span name;
	unsigned bits = 0;
	bool more;

	do {
		more = span_cut(list, ' ', &name, &list);
		bits |= auth_mechanism(name);
	} while (more);
	return bits;
}

unsigned
smtp_capability(struct span line, uint64_t *size_limit)
{
	struct span keyword, rest;
	unsigned bits = 0;
	uint64_t size;
	size_t i;

	line = span_trim(span_from(line, 4));
	/* "AUTH=" stems from drafts before RFC 2554 and is still seen. */
	if (span_starts_nocase(line, SPAN("AUTH ")) ||
	    span_starts_nocase(line, SPAN("AUTH=")))
		return auth_mechanisms(span_from(line, 5));
	(void)span_cut(line, ' ', &keyword, &rest);
	for (i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
		if (span_equal_nocase(keyword,
			span_of(capabilities[i].keyword)))
			bits = capabilities[i].bit;
	if (bits == SMTP_CAN_SIZE &&
	    parse_number(span_trim(rest), UINT64_MAX, &size))
		*size_limit = size;
	return bits;
}
