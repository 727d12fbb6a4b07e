/*
 * What is wrong with a relay, in a word that stays and in words for people, and
 * what mends it.  One table for "status", "test" and "check --online", found by
 * the kind of a fault, its reply code and its text.
 */
#include "relayd.h"

#include <string.h>

struct row {
	enum fault_kind kind; /* FAULT_NONE: a MAIL command was refused */
	int code;             /* of the reply; 4 and 5: the class; 0: any */
	const char *text;     /* a part of it, case ignored; NULL: any */
	struct advice advice;
};

#define APP_PASSWORD                                                          \
	{                                                                     \
		"app-password",                                               \
		    "the provider takes no ordinary password from programs",  \
		    "make an app password in the account's security "         \
		    "settings (2-step verification must be on) and store it " \
		    "in the password file",                                   \
		    NULL                                                      \
	}
#define BASIC_AUTH                                                             \
	{                                                                      \
		"basic-auth-off", "the provider has switched passwords off",   \
		    "have the administrator allow authenticated SMTP for the " \
		    "mailbox (Exchange admin centre, SMTP AUTH), or use "      \
		    "another relay",                                           \
		    NULL                                                       \
	}
#define CLIENT_CERTIFICATE                                                   \
	{                                                                    \
		"client-certificate",                                        \
		    "the relayhost wants another client certificate",        \
		    "set tls_cert and tls_key, and user if it goes with "    \
		    "auth = \"external\", to what its operator knows, then " \
		    "relayctl reload",                                       \
		    NULL                                                     \
	}
#define SES_LOGIN                                                              \
	{                                                                      \
		"ses-credentials",                                             \
		    "SES does not know these SMTP credentials in this region", \
		    "use SMTP credentials (not the access key) made in the "   \
		    "SES console for the region that host names",              \
		    "region = \"us-east-1\""                                   \
	}
#define SENDER_UNVERIFIED                                                   \
	{                                                                   \
		"sender-unverified",                                        \
		    "the sender's address or domain is not verified at the" \
		    " provider in this region",                             \
		    "verify it there, or set from to one that is",          \
		    "from = \"verified@example.com\""                       \
	}

/* The first row that fits counts; the last of a kind fits all of it. */
static const struct row rows[] = {
	{ FAULT_NONE, 0, "not verified", SENDER_UNVERIFIED },
	{ FAULT_NONE, 0, "verified sender identity", SENDER_UNVERIFIED },
	{ FAULT_NONE, 0, "sender signature", SENDER_UNVERIFIED },
	{ FAULT_NONE, 4, NULL,
	    { "sender-deferred", "the sender is refused for now",
		"none needed if it passes; else ask the relayhost's operator",
		NULL } },
	{ FAULT_NONE, 0, NULL,
	    { "sender-refused", "the relayhost does not take this sender",
		"set from to an address that the account may send as",
		"from = \"me@example.com\"" } },
	{ FAULT_CONFIG, 0, "tls_ca_file",
	    { "ca-file", "tls_ca_file can't be used",
		"name a file with PEM certificates that the daemon's user can "
		"read, then relayctl reload",
		NULL } },
	{ FAULT_CONFIG, 0, "password",
	    { "password", "the password can't be used",
		"mend what is named above, then relayctl reload", NULL } },
	{ FAULT_CONFIG, 0, NULL,
	    { "configuration", "a setting can't be used",
		"mend what is named above, then relayctl reload", NULL } },
	{ FAULT_DNS, 0, NULL,
	    { "dns", "the relay's name can't be looked up",
		"check the relay's host, and this machine's resolver "
		"(/etc/resolv.conf)",
		NULL } },
	{ FAULT_CONNECT, 0, "refused",
	    { "connect-refused",
		"nothing listens on that port, or a firewall "
		"refuses it",
		"check host and port, and that firewalls let the port out",
		NULL } },
	{ FAULT_CONNECT, 0, "timed out",
	    { "connect-timeout",
		"no answer from that port: a firewall drops "
		"it, or the host is down",
		"check host and port, and that firewalls let the port out",
		NULL } },
	{ FAULT_CONNECT, 0, NULL,
	    { "connect", "there is no way to the relayhost",
		"check host and port, this machine's network, and that "
		"firewalls let the port out",
		NULL } },
	{ FAULT_GREETING, 0, "but TLS",
	    { "tls-implicit-port", "the port expects TLS from the start",
		"set tls", "tls = \"implicit\"" } },
	{ FAULT_GREETING, 0, "does not speak SMTP",
	    { "not-smtp", "the port is not that of an SMTP service",
		"check that host and port are an SMTP service", NULL } },
	{ FAULT_GREETING, 4, NULL,
	    { "greeting-busy", "the relayhost takes no connection now",
		"none needed if it passes; else ask its operator", NULL } },
	{ FAULT_GREETING, 0, NULL,
	    { "greeting-refused", "the relayhost turns this machine away",
		"check that host is the submission service, with port 587 or "
		"465; else ask its operator (is this machine's address on a "
		"block list?)",
		NULL } },
	{ FAULT_EHLO, 0, NULL,
	    { "ehlo-refused", "the relayhost does not take our name",
		"set hostname, outside of the relay, to this machine's full "
		"name in DNS: it is what relayd says in EHLO",
		"hostname = \"host.example.com\"" } },
	{ FAULT_STARTTLS, 0, "does not offer",
	    { "starttls-missing", "the relayhost offers no STARTTLS here",
		"check port and tls: 587 goes with starttls, 465 with implicit",
		"port = 465  tls = \"implicit\"" } },
	{ FAULT_STARTTLS, 0, NULL,
	    { "starttls-refused", "the relayhost refuses STARTTLS",
		"check port and tls: 587 goes with starttls, 465 with implicit",
		NULL } },
	{ FAULT_TLS, 0, "client certificate", CLIENT_CERTIFICATE },
	{ FAULT_TLS, 0, "set tls = \"starttls\"",
	    { "tls-starttls-port", "the port speaks plain SMTP first",
		"set tls", "tls = \"starttls\"" } },
	{ FAULT_TLS, 0, "tls_min",
	    { "tls-too-old", "the relayhost has no TLS that is new enough",
		"have the relayhost updated to TLS 1.2 or newer; tls_min "
		"can't be lower than that",
		NULL } },
	{ FAULT_TLS, 0, NULL,
	    { "tls", "no TLS connection can be agreed on",
		"check port, tls and tls_min: 587 goes with starttls, 465 "
		"with implicit",
		NULL } },
	{ FAULT_CERTIFICATE, 0, "not for the name",
	    { "certificate-name", "the certificate is for another name",
		"set host to a name that is in the certificate", NULL } },
	{ FAULT_CERTIFICATE, 0, "not yet valid",
	    { "clock-wrong",
		"the certificate is not valid yet, so this "
		"machine's clock is probably slow",
		"set the clock (timedatectl set-ntp true)", NULL } },
	{ FAULT_CERTIFICATE, 0, "has expired",
	    { "certificate-expired", "the certificate has expired",
		"have the relayhost's operator renew it; if its dates are "
		"still to come, set this machine's clock",
		NULL } },
	/* Behind "... in certificate chain" is an authority. */
	{ FAULT_CERTIFICATE, 0, "signed certificate;",
	    { "certificate-self-signed",
		"the certificate is signed by nobody that this machine trusts",
		"get the certificate of the relayhost's authority from its "
		"operator and set tls_ca_file",
		"tls_ca_file = \"/etc/relayd/ca.pem\"" } },
	{ FAULT_CERTIFICATE, 0, NULL,
	    { "certificate-authority",
		"the certificate's authority is not known here",
		"install ca-certificates; for an authority of your own set "
		"tls_ca_file",
		"tls_ca_file = \"/etc/relayd/ca.pem\"" } },
	{ FAULT_AUTH, 0, "no common AUTH mechanism",
	    { "auth-mechanism", "no way to log in that both sides know",
		"set auth to \"auto\", or to a mechanism that the relayhost "
		"offers; if that is none of relayd's, ask for another login",
		NULL } },
	{ FAULT_AUTH, 534, NULL, APP_PASSWORD },
	{ FAULT_AUTH, 0, "5.7.9", APP_PASSWORD },
	{ FAULT_AUTH, 0, "BadCredentials", APP_PASSWORD },
	{ FAULT_AUTH, 0, "basic authentication", BASIC_AUTH },
	{ FAULT_AUTH, 0, "5.7.139", BASIC_AUTH },
	{ FAULT_AUTH, 0, "5.7.30", BASIC_AUTH },
	{ FAULT_AUTH, 5, "amazonaws.com", SES_LOGIN },
	{ FAULT_AUTH, 4, NULL,
	    { "login-deferred", "the login is refused for now",
		"none needed if it passes; else look at the account", NULL } },
	{ FAULT_AUTH, 0, "tls_cert", CLIENT_CERTIFICATE },
	{ FAULT_AUTH, 0, NULL,
	    { "login-refused", "user or password is wrong",
		"check user and password (many providers want an app "
		"password), then relayctl flush",
		NULL } },
	{ FAULT_NO_AUTH, 0, NULL,
	    { "auth-missing", "the relayhost offers no login here",
		"check port and tls: logins are at 587 (starttls) or 465 "
		"(implicit); if none is needed, leave user out",
		"auth = \"none\"" } },
	{ FAULT_SHUTDOWN, 0, NULL,
	    { "shutdown", "the relayhost ended the session",
		"none needed; it is tried again", NULL } },
	{ FAULT_ACCOUNT, 0, "basic authentication", BASIC_AUTH },
	{ FAULT_ACCOUNT, 0, "5.7.30", BASIC_AUTH },
	{ FAULT_ACCOUNT, 534, NULL, APP_PASSWORD },
	{ FAULT_ACCOUNT, 530, NULL,
	    { "login-required", "the relayhost wants a login first",
		"set user and password_file", "user = \"me@example.com\"" } },
	{ FAULT_ACCOUNT, 0, NULL,
	    { "account", "something is wrong with the account",
		"look at the account at the provider", NULL } },
	{ FAULT_QUOTA, 0, NULL,
	    { "quota", "the account has sent all that it may today",
		"none needed; it goes on when the relayhost allows", NULL } },
	{ FAULT_LOST, 0, "client certificate", CLIENT_CERTIFICATE },
	{ FAULT_LOST, 0, NULL,
	    { "lost", "the connection broke", "none needed; it is tried again",
		NULL } },
	{ FAULT_TIMEOUT, 0, NULL,
	    { "slow", "the relayhost does not answer in time",
		"check the network, and that firewalls let the port out; for "
		"a slow relayhost set connect_timeout",
		"connect_timeout = \"3m\"" } },
	{ FAULT_PROTOCOL, 0, "tampering",
	    { "tampering", "somebody may sit between here and the relayhost",
		"check the network; nothing was sent", NULL } },
	{ FAULT_PROTOCOL, 0, NULL,
	    { "not-smtp", "the answers are not those of an SMTP service",
		"check that host and port are an SMTP service", NULL } },
};

/* What only "check --online" can tell. */
static const struct advice found[] = {
	{ "dns-no-name", "the name does not exist (NXDOMAIN)",
	    "correct host; compare it with the provider's instructions", NULL },
	{ "dns-no-address", "the name exists, but has no address",
	    "correct host, or family", NULL },
	{ "dns-silent", "no name server answers",
	    "check this machine's network and the nameserver lines of "
	    "/etc/resolv.conf",
	    NULL },
	{ "dns-refused", "the name server can't or won't answer",
	    "check the nameserver lines of /etc/resolv.conf; ask the "
	    "operator of that server",
	    NULL },
	{ "port-blocked",
	    "this port is blocked, though another of this relayhost works",
	    "use that port (many networks block 25 going out)", NULL },
	{ "ipv6-broken", "IPv6 leads nowhere, IPv4 works",
	    "mend this machine's IPv6, or don't use it", "family = \"ipv4\"" },
	{ "address-dead", "one of the relayhost's addresses does not answer",
	    "none needed; others are used", NULL },
	{ "tls-implicit-port", "the port expects TLS from the start", "set tls",
	    "tls = \"implicit\"" },
	{ "starttls-stripped",
	    "something on the way takes STARTTLS out of the dialogue",
	    "switch off SMTP inspection in the firewall, or use the port for "
	    "TLS from the start",
	    "port = 465  tls = \"implicit\"" },
	{ "client-certificate-expired",
	    "the client certificate has expired, or is not valid yet",
	    "renew it, if the relayhost minds; or set this machine's clock",
	    NULL },
	{ "sender-domain",
	    "the sender's domain has no mail server, or does "
	    "not exist",
	    "set from to an address whose domain takes mail",
	    "from = \"me@example.com\"" },
	{ "spf-missing", "the sender's domain has no SPF record",
	    "publish the TXT record that the provider gives, such as "
	    "\"v=spf1 include:PROVIDER ~all\"",
	    NULL },
	{ "spf-wrong",
	    "the sender's domain has an SPF record that counts as "
	    "an error, or allows everybody",
	    "keep exactly one TXT record with v=spf1, ending in ~all or -all",
	    NULL },
	{ "dkim-missing", "the sender's domain has no DKIM keys",
	    "switch DKIM on at the provider and publish the records it gives",
	    NULL },
	{ "dmarc-missing", "the sender's domain has no DMARC record",
	    "publish the TXT record _dmarc with at least \"v=DMARC1; p=none\"",
	    NULL },
	{ "dmarc-wrong",
	    "the sender's domain has a DMARC record that counts "
	    "as none",
	    "keep exactly one TXT record _dmarc, beginning \"v=DMARC1; p=\"",
	    NULL },
};

static bool
fits(const struct row *row, const struct fault *fault)
{
	return row->kind == fault->kind &&
	    (row->code == 0 || row->code == fault->code ||
		row->code == fault->code / 100) &&
	    (row->text == NULL || strcasestr(fault->text, row->text) != NULL);
}

const struct advice *
advice_find(const struct fault *fault)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (fits(&rows[i], fault))
			return &rows[i].advice;
	return NULL;
}

const struct advice *
advice_named(const char *cause)
{
	size_t i;

	for (i = 0; i < sizeof(found) / sizeof(found[0]); i++)
		if (strcmp(found[i].cause, cause) == 0)
			return &found[i];
	return NULL;
}
