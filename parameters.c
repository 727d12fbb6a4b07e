/*
 * The parameters of MAIL and RCPT: what they are called, and which values they
 * may have.  What they ask for is for others.
 */
#include "relayd.h"

static bool
is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9');
}

/* The values below are empty with data NULL when there was no "=". */

static const char *
take_size(struct span value, struct smtp_mail *mail)
{
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
take_body(struct span value, struct smtp_mail *mail)
{
	mail->eight_bit = span_equal_nocase(value, SPAN("8BITMIME"));
	if (mail->eight_bit || span_equal_nocase(value, SPAN("7BIT")))
		return NULL;
	if (span_equal_nocase(value, SPAN("BINARYMIME")))
		return "555 5.5.4 BINARYMIME is not offered";
	return "501 5.5.4 Bad BODY value";
}

static const char *
take_smtputf8(struct span value, struct smtp_mail *mail)
{
	mail->utf8 = true;
	return value.data == NULL ? NULL : "501 5.5.4 SMTPUTF8 has no value";
}

static const struct {
	const char *name;
	const char *(*take)(struct span value, struct smtp_mail *mail);
} mail_parameters[] = {
	{ "SIZE", take_size },
	{ "BODY", take_body },
	{ "SMTPUTF8", take_smtputf8 },
};

enum { MAIL_PARAMETERS = sizeof(mail_parameters) / sizeof(mail_parameters[0]) };

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

const char *
smtp_mail_parameters(struct span parameters, struct smtp_mail *mail)
{
	bool seen[MAIL_PARAMETERS] = { false };
	const char *refusal;
	struct span name, value;
	size_t i;

	*mail = (struct smtp_mail){ 0 };
	while (next_parameter(&parameters, &name, &value)) {
		for (i = 0; i < MAIL_PARAMETERS; i++)
			if (span_equal_nocase(name,
				span_of(mail_parameters[i].name)))
				break;
		if (i == MAIL_PARAMETERS)
			return parameter_unknown(name);
		if (seen[i])
			return "501 5.5.4 Parameter given twice";
		seen[i] = true;
		refusal = mail_parameters[i].take(value, mail);
		if (refusal != NULL)
			return refusal;
	}
	return NULL;
}

const char *
smtp_rcpt_parameters(struct span parameters)
{
	struct span name, value;

	if (next_parameter(&parameters, &name, &value))
		return parameter_unknown(name);
	return NULL;
}
