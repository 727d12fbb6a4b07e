/*
 * What is known of well-known relayhosts: the settings that a preset fills in,
 * and what replies mean that are not about the message that they answer.
 */
#include "relayd.h"

#include <string.h>

/* ---- presets ---- */

/* In host "%" stands for the region. */
static const struct preset presets[] = {
	{ "gmail",
	    { { "host", "smtp.gmail.com" },
		{ "recipients_per_message", "100" } },
	    NULL },
	{ "gmail-relay",
	    { { "host", "smtp-relay.gmail.com" },
		{ "recipients_per_message", "100" } },
	    NULL },
	{ "ses",
	    { { "host", "email-smtp.%.amazonaws.com" },
		{ "recipients_per_message", "50" } },
	    "us-east-1" },
	{ "sendgrid", { { "host", "smtp.sendgrid.net" }, { "user", "apikey" } },
	    NULL },
	{ "mailgun", { { "host", "smtp.mailgun.org" } }, NULL },
	{ "office365",
	    { { "host", "smtp.office365.com" }, { "connections", "3" },
		{ "rate", "30/m" } },
	    NULL },
	{ "fastmail", { { "host", "smtp.fastmail.com" } }, NULL },
	{ "postmark", { { "host", "smtp.postmarkapp.com" } }, NULL },
};

enum { PRESETS = sizeof(presets) / sizeof(presets[0]) };

const struct preset *
preset_find(struct span name)
{
	size_t i;

	for (i = 0; i < PRESETS; i++) {
		if (span_equal(name, span_of(presets[i].name)))
			return &presets[i];
	}
	return NULL;
}

const char *
preset_check(struct span name)
{
	return preset_find(name) != NULL
	    ? NULL
	    : "is no preset; there are: gmail, gmail-relay, ses, sendgrid, "
	      "mailgun, office365, fastmail, postmark";
}

/* ---- replies ---- */

/* The first row that fits counts: code, enhanced status and a part of the
 * text, as far as it gives them. */
static const struct {
	int code; /* 4 and 5: the class */
	enum reply_cause cause;
	const char *status; /* NULL: any */
	const char *text;   /* case ignored; NULL: any */
} causes[] = {
	/* Logins (RFC 4954, 6); 5.7.30 is Microsoft's end of passwords. */
	{ 530, CAUSE_ACCOUNT, NULL, NULL },
	{ 534, CAUSE_ACCOUNT, NULL, NULL },
	{ 535, CAUSE_ACCOUNT, NULL, NULL },
	{ 538, CAUSE_ACCOUNT, NULL, NULL },
	{ 5, CAUSE_ACCOUNT, "5.7.8", NULL },
	{ 5, CAUSE_ACCOUNT, "5.7.9", NULL },
	{ 5, CAUSE_ACCOUNT, "5.7.30", NULL },
	/* Until tomorrow: SES, Gmail and its relay, Microsoft. */
	{ 454, CAUSE_QUOTA, NULL, "daily message quota exceeded" },
	{ 5, CAUSE_QUOTA, "5.4.5", NULL },
	{ 5, CAUSE_QUOTA, "5.7.1", "daily smtp relay" },
	{ 5, CAUSE_QUOTA, "5.2.0", "submissionquotaexceeded" },
	/* Too many connections: Microsoft, SES; Postfix, Sendmail. */
	{ 4, CAUSE_CONNECTIONS, NULL, "concurrent" },
	{ 4, CAUSE_CONNECTIONS, NULL, "too many connections" },
	{ 4, CAUSE_CONNECTIONS, NULL, "too many open connections" },
	/* Slow down; at a recipient's own mailbox (X.2.X) it is not ours. */
	{ 4, CAUSE_RATE, "4.2.1", "peak smtp relay limit" },
	{ 4, CAUSE_MESSAGE, "4.2.1", NULL },
	{ 4, CAUSE_MESSAGE, "4.2.2", NULL },
	{ 432, CAUSE_RATE, NULL, NULL },
	{ 4, CAUSE_RATE, NULL, "throttl" },
	{ 4, CAUSE_RATE, NULL, "sending rate" },
	{ 4, CAUSE_RATE, NULL, "rate limit" },
	{ 4, CAUSE_RATE, "4.7.0", "rate" },
	{ 4, CAUSE_RATE, NULL, "too many messages" },
	{ 4, CAUSE_RATE, NULL, "too much mail" },
	{ 4, CAUSE_RATE, NULL, "too fast" },
	{ 4, CAUSE_RATE, NULL, "slow down" },
	/* Not from this sender: SES, Postfix, Microsoft, SendGrid, Postmark. */
	{ 5, CAUSE_SENDER, NULL, "address is not verified" },
	{ 5, CAUSE_SENDER, "5.7.1", "not owned by user" },
	{ 5, CAUSE_SENDER, "5.7.60", NULL },
	{ 5, CAUSE_SENDER, NULL, "sendasdenied" },
	{ 5, CAUSE_SENDER, NULL, "verified sender identity" },
	{ 5, CAUSE_SENDER, NULL, "sender signature" },
};

enum reply_cause
reply_cause(int code, const char *status, const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		if (causes[i].code != code && causes[i].code != code / 100)
			continue;
		if (causes[i].status != NULL &&
		    strcmp(causes[i].status, status) != 0)
			continue;
		if (causes[i].text == NULL ||
		    strcasestr(text, causes[i].text) != NULL)
			return causes[i].cause;
	}
	return CAUSE_MESSAGE;
}
