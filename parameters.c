/*
 * The parameters of MAIL and RCPT (RFC 5321, 4.1.2, and its extensions): what
 * they are called and which values they may have, read and written.  What they
 * ask for is for others to do.
 */
#include "relayd.h"

#include <string.h>

static bool
is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9');
}

/* ---- the values of RFC 3461 ---- */

static const struct {
	const char *word;
	unsigned bit;
} notify_words[] = {
	{ "NEVER", NOTIFY_NEVER },
	{ "SUCCESS", NOTIFY_SUCCESS },
	{ "FAILURE", NOTIFY_FAILURE },
	{ "DELAY", NOTIFY_DELAY },
};

enum { NOTIFY_WORDS = sizeof(notify_words) / sizeof(notify_words[0]) };

static unsigned
notify_bit(struct span word)
{
	size_t i;

	for (i = 0; i < NOTIFY_WORDS; i++)
		if (span_equal_nocase(word, span_of(notify_words[i].word)))
			return notify_words[i].bit;
	return 0;
}

bool
dsn_notify(struct span list, unsigned *notify)
{
	struct span word;
	unsigned bit;
	bool more;

	*notify = 0;
	do {
		more = span_cut(list, ',', &word, &list);
		bit = notify_bit(word);
		if (bit == 0 || (*notify & bit) != 0)
			return false;
		*notify |= bit;
	} while (more);
	return (*notify & NOTIFY_NEVER) == 0 || *notify == NOTIFY_NEVER;
}

bool
dsn_return(struct span word, enum dsn_return *ret)
{
	*ret = RETURN_NOT_SAID;
	if (span_equal_nocase(word, SPAN("FULL")))
		*ret = RETURN_FULL;
	else if (span_equal_nocase(word, SPAN("HDRS")))
		*ret = RETURN_HEADERS;
	return *ret != RETURN_NOT_SAID;
}

static bool
is_printable(char c)
{
	return c >= ' ' && c <= '~';
}

/* xchar (RFC 3461, 4): what stands for itself. */
static bool
is_xchar(char c)
{
	return is_printable(c) && c != ' ' && c != '+' && c != '=';
}

static void
add_xtext(struct buf *out, struct span text)
{
	size_t i;

	for (i = 0; i < text.len; i++)
		if (is_xchar(text.data[i]))
			buf_add_char(out, text.data[i]);
		else
			buf_printf(out, "+%02X", (unsigned char)text.data[i]);
}

/* Octets of the xchar or hexchar that text begins with, which stands for *c;
 * 0: it is neither, or not for printable ASCII.  Lower case digits are not RFC
 * 3461's, but it is clear what they mean. */
static size_t
xtext_length(struct span text, char *c)
{
	unsigned high, low;

	*c = text.data[0];
	if (*c != '+')
		return is_xchar(*c);
	if (text.len < 3)
		return 0;
	high = hex_value(text.data[1]);
	low = hex_value(text.data[2]);
	*c = (char)(high << 4 | low);
	return high < 16 && low < 16 && is_printable(*c) ? 3 : 0;
}

/* NUL-terminated; out: text.len + 1 octets. */
static bool
decode_xtext(struct span text, char *out)
{
	size_t len;

	for (; text.len > 0; text = span_from(text, len)) {
		len = xtext_length(text, out++);
		if (len == 0)
			return false;
	}
	*out = '\0';
	return true;
}

/* atom (RFC 822, 3.3), without "=", which no value may have. */
static bool
is_atom(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (!is_printable(s.data[i]) ||
		    strchr(" ()<>@,;:\\\".[]=", s.data[i]) != NULL)
			return false;
	return s.len > 0;
}

/* ---- reading ---- */

/* The values below are empty with data NULL when there was no "=". */

static const char *
take_size(struct span value, void *into)
{
	struct smtp_mail *mail = into;
	size_t digits = 0;

	if (parse_number(value, UINT64_MAX, &mail->size))
		return NULL;
	while (digits < value.len && value.data[digits] >= '0' &&
	    value.data[digits] <= '9')
		digits++;
	return value.len > 0 && digits == value.len
	    ? "552 5.3.4 Message too big"
	    : "501 5.5.4 Bad SIZE value";
}

static const char *
take_body(struct span value, void *into)
{
	struct smtp_mail *mail = into;

	mail->eight_bit = span_equal_nocase(value, SPAN("8BITMIME"));
	if (mail->eight_bit || span_equal_nocase(value, SPAN("7BIT")))
		return NULL;
	if (span_equal_nocase(value, SPAN("BINARYMIME")))
		return "555 5.5.4 BINARYMIME is not offered";
	return "501 5.5.4 Bad BODY value";
}

static const char *
take_smtputf8(struct span value, void *into)
{
	struct smtp_mail *mail = into;

	mail->utf8 = true;
	return value.data == NULL ? NULL : "501 5.5.4 SMTPUTF8 has no value";
}

static const char *
take_ret(struct span value, void *into)
{
	struct smtp_mail *mail = into;

	return dsn_return(value, &mail->ret) ? NULL : "501 5.5.4 Bad RET value";
}

static const char *
take_envid(struct span value, void *into)
{
	struct smtp_mail *mail = into;

	if (value.data == NULL || value.len > LIMIT_ENVID ||
	    !decode_xtext(value, mail->envid))
		return "501 5.5.4 Bad ENVID value";
	return NULL;
}

static const char *
take_notify(struct span value, void *into)
{
	struct smtp_rcpt *rcpt = into;

	return dsn_notify(value, &rcpt->notify) ? NULL
						: "501 5.5.4 Bad NOTIFY value";
}

static const char *
take_orcpt(struct span value, void *into)
{
	struct smtp_rcpt *rcpt = into;
	struct span type, address;

	if (value.len > LIMIT_ORCPT || !span_cut(value, ';', &type, &address) ||
	    !is_atom(type) || address.len == 0 ||
	    !decode_xtext(address, rcpt->orcpt + type.len + 1))
		return "501 5.5.4 Bad ORCPT value";
	memcpy(rcpt->orcpt, value.data, type.len + 1);
	return NULL;
}

struct parameter {
	const char *name; /* NULL: the end of the table */
	const char *(*take)(struct span value, void *into);
};

static const struct parameter mail_parameters[] = {
	{ "SIZE", take_size },
	{ "BODY", take_body },
	{ "SMTPUTF8", take_smtputf8 },
	{ "RET", take_ret },
	{ "ENVID", take_envid },
	{ NULL, NULL },
};

static const struct parameter rcpt_parameters[] = {
	{ "NOTIFY", take_notify },
	{ "ORCPT", take_orcpt },
	{ NULL, NULL },
};

/* Take the first of several parameters off; false: there is none. */
static bool
next_parameter(struct span *rest, struct span *name, struct span *value)
{
	struct span one;

	*rest = span_trim(*rest);
	if (rest->len == 0)
		return false;
	(void)span_cut(*rest, ' ', &one, rest);
	if (!span_cut(one, '=', name, value))
		*value = (struct span){ NULL, 0 };
	return true;
}

/* esmtp-keyword (RFC 5321, 4.1.2). */
static bool
is_keyword(struct span name)
{
	size_t i;

	for (i = 0; i < name.len; i++)
		if (!is_alnum(name.data[i]) && (i == 0 || name.data[i] != '-'))
			return false;
	return name.len > 0;
}

/* A keyword that we don't know, or no keyword at all. */
static const char *
parameter_unknown(struct span name)
{
	return is_keyword(name) ? "555 5.5.4 Parameter not known or not offered"
				: "501 5.5.4 Bad parameter syntax";
}

static const char *
take_all(const struct parameter *table, struct span parameters, void *into)
{
	struct span name, value;
	const char *refusal;
	unsigned seen = 0;
	size_t i;

	while (next_parameter(&parameters, &name, &value)) {
		for (i = 0; table[i].name != NULL; i++)
			if (span_equal_nocase(name, span_of(table[i].name)))
				break;
		if (table[i].name == NULL)
			return parameter_unknown(name);
		if ((seen & 1u << i) != 0)
			return "501 5.5.4 Parameter given twice";
		seen |= 1u << i;
		refusal = table[i].take(value, into);
		if (refusal != NULL)
			return refusal;
	}
	return NULL;
}

const char *
smtp_mail_parameters(struct span parameters, struct smtp_mail *mail)
{
	*mail = (struct smtp_mail){ 0 };
	return take_all(mail_parameters, parameters, mail);
}

const char *
smtp_rcpt_parameters(struct span parameters, struct smtp_rcpt *rcpt)
{
	*rcpt = (struct smtp_rcpt){ 0 };
	return take_all(rcpt_parameters, parameters, rcpt);
}

/* ---- writing ---- */

bool
dsn_envid_valid(struct span envid)
{
	struct buf xtext = { 0 };
	bool valid = envid.len > 0 && envid.len <= LIMIT_ENVID;
	size_t i;

	for (i = 0; i < envid.len && valid; i++)
		valid = is_printable(envid.data[i]);
	if (valid)
		add_xtext(&xtext, envid);
	valid &= xtext.len <= LIMIT_ENVID;
	buf_free(&xtext);
	return valid;
}

void
dsn_add_mail(struct buf *out, enum dsn_return ret, const char *envid)
{
	if (ret != RETURN_NOT_SAID)
		buf_add_text(out,
		    ret == RETURN_FULL ? " RET=FULL" : " RET=HDRS");
	if (envid == NULL || *envid == '\0')
		return;
	buf_add_text(out, " ENVID=");
	add_xtext(out, span_of(envid));
}

void
dsn_add_rcpt(struct buf *out, unsigned notify, const char *orcpt)
{
	struct span type, address;
	const char *before = " NOTIFY=";
	size_t i;

	for (i = 0; i < NOTIFY_WORDS; i++) {
		if ((notify & notify_words[i].bit) == 0)
			continue;
		buf_printf(out, "%s%s", before, notify_words[i].word);
		before = ",";
	}
	if (orcpt == NULL || *orcpt == '\0')
		return;
	(void)span_cut(span_of(orcpt), ';', &type, &address);
	buf_add_text(out, " ORCPT=");
	buf_add(out, type);
	buf_add_char(out, ';');
	add_xtext(out, address);
}
