/*
 * advice.c: what relayhosts say, and our own words for what goes wrong, and
 * what each is taken for.
 */
#include "../relayd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

struct row {
	enum fault_kind kind;
	int code;
	const char *text;
	const char *cause;
};

static const struct row rows[] = {
	/* SES, SendGrid, Postmark to MAIL */
	{ FAULT_NONE, 554,
	    "554 Message rejected: Email address is not verified. The "
	    "following identities failed the check in region US-EAST-1: x@y",
	    "sender-unverified" },
	{ FAULT_NONE, 550,
	    "550 The from address does not match a verified Sender Identity.",
	    "sender-unverified" },
	{ FAULT_NONE, 400,
	    "400 The 'From' address you supplied is not a Sender Signature on "
	    "your account.",
	    "sender-unverified" },
	{ FAULT_NONE, 450, "450 4.1.8 Domain of sender address not found",
	    "sender-deferred" },
	{ FAULT_NONE, 550, "550 5.1.8 not you", "sender-refused" },
	{ FAULT_NONE, 553, "553 5.7.1 not owned by user", "sender-refused" },
	{ FAULT_CONFIG, 0, "the tls_ca_file \"/a\" can't be used: no",
	    "ca-file" },
	{ FAULT_CONFIG, 0, "the password in password_file has a NUL byte",
	    "password" },
	{ FAULT_CONFIG, 0, "no login is sent to h without TLS; set tls = ...",
	    "configuration" },
	{ FAULT_DNS, 0, "the name h could not be resolved (DNS)", "dns" },
	{ FAULT_CONNECT, 0, "cannot connect to h:25: Connection refused",
	    "connect-refused" },
	{ FAULT_CONNECT, 0, "cannot connect to h:25: timed out",
	    "connect-timeout" },
	{ FAULT_CONNECT, 0, "cannot connect to h:25: No route to host",
	    "connect" },
	{ FAULT_GREETING, 0,
	    "h does not speak SMTP but TLS (set tls = \"implicit\"?): while",
	    "tls-implicit-port" },
	{ FAULT_GREETING, 0, "h does not speak SMTP: while waiting for",
	    "not-smtp" },
	{ FAULT_GREETING, 421, "h refused us: 421 busy", "greeting-busy" },
	{ FAULT_GREETING, 554, "h refused us: 554 listed", "greeting-refused" },
	{ FAULT_EHLO, 550, "h refused EHLO: 550 who", "ehlo-refused" },
	{ FAULT_STARTTLS, 0, "h does not offer STARTTLS, so nothing was sent",
	    "starttls-missing" },
	{ FAULT_STARTTLS, 454, "h refused STARTTLS: 454 no",
	    "starttls-refused" },
	{ FAULT_TLS, 0,
	    "wrong version number; the port seems to speak plain SMTP first: "
	    "set tls = \"starttls\"",
	    "tls-starttls-port" },
	{ FAULT_TLS, 0, "it may have no TLS as new as tls_min asks for",
	    "tls-too-old" },
	{ FAULT_TLS, 0, "the TLS handshake with h failed: no shared cipher",
	    "tls" },
	{ FAULT_CERTIFICATE, 0,
	    "the certificate of h is not for the name h; set host",
	    "certificate-name" },
	{ FAULT_CERTIFICATE, 0,
	    "the certificate of h is not valid now: certificate is not yet "
	    "valid; check this machine's clock",
	    "clock-wrong" },
	{ FAULT_CERTIFICATE, 0,
	    "the certificate of h is not valid now: certificate has expired; "
	    "check this machine's clock",
	    "certificate-expired" },
	{ FAULT_CERTIFICATE, 0,
	    "the certificate of h is not trusted: self-signed certificate; set "
	    "tls_ca_file to the authority's certificate",
	    "certificate-self-signed" },
	{ FAULT_CERTIFICATE, 0,
	    "the certificate of h is not trusted: self-signed certificate in "
	    "certificate chain; set tls_ca_file",
	    "certificate-authority" },
	{ FAULT_CERTIFICATE, 0,
	    "the certificate of myself.example is not trusted: unable to get "
	    "local issuer certificate; set tls_ca_file",
	    "certificate-authority" },
	{ FAULT_AUTH, 0,
	    "no common AUTH mechanism with h: relayd is to use PLAIN, the "
	    "relayhost offers: NTLM",
	    "auth-mechanism" },
	/* Gmail, Yahoo */
	{ FAULT_AUTH, 534, "534 5.7.0 Application-specific password required",
	    "app-password" },
	{ FAULT_AUTH, 535,
	    "535-5.7.8 Username and Password not accepted. For more "
	    "information, go to 535 5.7.8 "
	    "https://support.google.com/mail/?p=BadCredentials",
	    "app-password" },
	{ FAULT_AUTH, 535, "535 5.7.9 Application-specific password required",
	    "app-password" },
	/* Microsoft 365 */
	{ FAULT_AUTH, 535,
	    "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication "
	    "is disabled for the Tenant",
	    "basic-auth-off" },
	{ FAULT_AUTH, 550,
	    "550 Basic Authentication is not supported for Client Submission",
	    "basic-auth-off" },
	{ FAULT_AUTH, 550, "550 5.7.30 not supported", "basic-auth-off" },
	{ FAULT_AUTH, 535,
	    "email-smtp.us-east-1.amazonaws.com[192.0.2.1]:587 refused the "
	    "login: 535 Authentication Credentials Invalid",
	    "ses-credentials" },
	{ FAULT_AUTH, 454,
	    "email-smtp.us-east-1.amazonaws.com[192.0.2.1]:587 refused the "
	    "login: 454 Temporary authentication failure",
	    "login-deferred" },
	{ FAULT_AUTH, 535, "535 5.7.8 bad credentials", "login-refused" },
	{ FAULT_AUTH, 535, "535 5.7.8 no; check user and tls_cert",
	    "client-certificate" },
	{ FAULT_TLS, 0, "; it does not take the client certificate in tls_cert",
	    "client-certificate" },
	{ FAULT_LOST, 0, "; it wants a client certificate: set tls_cert and",
	    "client-certificate" },
	{ FAULT_NO_AUTH, 0, "h offers no AUTH", "auth-missing" },
	{ FAULT_SHUTDOWN, 421, "421 4.3.2 going down", "shutdown" },
	{ FAULT_ACCOUNT, 550,
	    "550 Basic authentication is not supported for Client Submission",
	    "basic-auth-off" },
	{ FAULT_ACCOUNT, 550, "550 5.7.30 not supported", "basic-auth-off" },
	{ FAULT_ACCOUNT, 534, "534 5.7.9 Please log in", "app-password" },
	{ FAULT_ACCOUNT, 530, "530 5.7.0 Authentication required",
	    "login-required" },
	{ FAULT_ACCOUNT, 550, "550 5.7.0 account disabled", "account" },
	{ FAULT_QUOTA, 550, "550 5.4.5 Daily limit exceeded", "quota" },
	{ FAULT_LOST, 0, "lost the connection to h", "lost" },
	{ FAULT_TIMEOUT, 0, "timed out while waiting for EHLO", "slow" },
	{ FAULT_PROTOCOL, 0, "someone may be tampering with the connection",
	    "tampering" },
	{ FAULT_PROTOCOL, 0, "no SMTP reply to MAIL", "not-smtp" },
};

static void
faults_are_taken_for_what_they_are(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		struct fault fault = {
			.kind = rows[i].kind,
			.code = rows[i].code,
		};
		const struct advice *advice;

		assert_in_range(strlen(rows[i].text), 1,
		    sizeof(fault.text) - 1);
		memcpy(fault.text, rows[i].text, strlen(rows[i].text));
		advice = advice_find(&fault);
		if (strcmp(advice->cause, rows[i].cause) != 0)
			fail_msg("%s: %s, not %s", rows[i].text, advice->cause,
			    rows[i].cause);
	}
}

/* Whatever a relayhost says. */
static void
every_fault_has_its_advice(void **state)
{
	static const int codes[] = { 0, 421, 450, 500, 530, 534, 535, 554,
		999 };
	unsigned kind;
	size_t i;

	(void)state;
	for (kind = FAULT_NONE; kind < FAULTS; kind++) {
		for (i = 0; i < COUNT(codes); i++) {
			const struct fault fault = {
				.kind = (enum fault_kind)kind,
				.code = codes[i],
			};
			const struct advice *advice = advice_find(&fault);

			assert_non_null(advice);
			assert_true(advice->what[0] != '\0');
			assert_true(advice->mend[0] != '\0');
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_are_taken_for_what_they_are),
		cmocka_unit_test(every_fault_has_its_advice),
	};

	return cmocka_run_group_tests_name("advice", tests, NULL, NULL);
}
