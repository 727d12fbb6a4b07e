/*
 * One libcurl handle: what a relay section asks for as its options, and what
 * it knows when there is no connection.
 *
 * It is never given a login: of several mechanisms libcurl tries one only,
 * and it would go on in clear where TLS is but an opportunity.  auth.c does
 * that.
 */
#include "conn.h"

#include <openssl/x509.h>

#include <string.h>

/* ---- what libcurl knows of a failure ---- */

static long
info_long(const struct handle *h, CURLINFO name)
{
	long value = 0;

	(void)curl_easy_getinfo(h->easy, name, &value);
	return value;
}

bool
handle_is_past(const struct handle *h, CURLINFO point)
{
	curl_off_t microseconds = 0;

	(void)curl_easy_getinfo(h->easy, point, &microseconds);
	return microseconds > 0;
}

/* What the system said, else OpenSSL or libcurl. */
static const char *
cause(const struct handle *h, CURLcode result)
{
	int error = (int)info_long(h, CURLINFO_OS_ERRNO);

	if (error != 0)
		return strerror(error);
	/* The errno in this text of libcurl's is a stale one. */
	if (strstr(h->error, "response reading failed") != NULL)
		return "closed by the relayhost";
	return h->error[0] != '\0' ? h->error : curl_easy_strerror(result);
}

/* No authority's certificate would help. */
static bool
is_unfit(long verdict)
{
	return verdict == X509_V_ERR_INVALID_PURPOSE ||
	    verdict == X509_V_ERR_EE_KEY_TOO_SMALL ||
	    verdict == X509_V_ERR_CA_KEY_TOO_SMALL ||
	    verdict == X509_V_ERR_CA_MD_TOO_WEAK;
}

static enum setup_end
end_of(const struct handle *h, CURLcode result)
{
	static const struct {
		CURLcode result;
		enum setup_end end;
	} ends[] = {
		{ CURLE_COULDNT_RESOLVE_HOST, SETUP_DNS },
		{ CURLE_COULDNT_CONNECT, SETUP_CONNECT },
		{ CURLE_OPERATION_TIMEDOUT, SETUP_TIMEOUT },
		{ CURLE_REMOTE_ACCESS_DENIED, SETUP_REFUSED },
		{ CURLE_WEIRD_SERVER_REPLY, SETUP_WEIRD },
		{ CURLE_USE_SSL_FAILED, SETUP_STARTTLS },
		{ CURLE_SSL_CONNECT_ERROR, SETUP_TLS },
		{ CURLE_PEER_FAILED_VERIFICATION, SETUP_CERTIFICATE },
		{ CURLE_SSL_CACERT_BADFILE, SETUP_CA_FILE },
		{ CURLE_SSL_PINNEDPUBKEYNOTMATCH, SETUP_PIN },
		{ CURLE_SSL_CERTPROBLEM, SETUP_CERT_FILE },
		{ CURLE_INTERFACE_FAILED, SETUP_SOURCE },
		{ CURLE_COULDNT_RESOLVE_PROXY, SETUP_PROXY_DNS },
		{ CURLE_PROXY, SETUP_PROXY },
		{ CURLE_SEND_ERROR, SETUP_LOST },
		{ CURLE_RECV_ERROR, SETUP_LOST },
	};
	long proxy_code = info_long(h, CURLINFO_HTTP_CONNECTCODE);
	size_t i;

	if (proxy_code != 0 && proxy_code / 100 != 2)
		return SETUP_PROXY;
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (ends[i].result == result)
			return ends[i].end;
	return SETUP_OTHER;
}

void
handle_explain(const struct handle *h, CURLcode result, struct setup *s)
{
	long verdict = info_long(h, CURLINFO_SSL_VERIFYRESULT);

	setup_explain(s,
	    &(struct setup_facts){
		.end = end_of(h, result),
		.resolved = handle_is_past(h, CURLINFO_NAMELOOKUP_TIME_T),
		.connected = handle_is_past(h, CURLINFO_CONNECT_TIME_T),
		.encrypted = handle_is_past(h, CURLINFO_APPCONNECT_TIME_T),
		.error = cause(h, result),
		/* The chain is fine, or there would be a verdict. */
		.wrong_name = verdict == X509_V_OK ||
		    verdict == X509_V_ERR_UNSPECIFIED ||
		    verdict == X509_V_ERR_HOSTNAME_MISMATCH ||
		    verdict == X509_V_ERR_IP_ADDRESS_MISMATCH,
		.wrong_time = verdict == X509_V_ERR_CERT_HAS_EXPIRED ||
		    verdict == X509_V_ERR_CERT_NOT_YET_VALID,
		.unfit = is_unfit(verdict),
		.certificate_error = X509_verify_cert_error_string(verdict),
	    });
}

/* ---- options ---- */

/* CURLOPT_SSL_CTX_FUNCTION */
static CURLcode
on_context(CURL *easy, void *context, void *arg)
{
	(void)easy;
	return trust_require(context, arg) ? CURLE_OK
					   : CURLE_ABORTED_BY_CALLBACK;
}

static const long use_ssl[] = {
	[TLS_STARTTLS] = CURLUSESSL_ALL,
	[TLS_IMPLICIT] = CURLUSESSL_ALL,
	[TLS_OPPORTUNISTIC] = CURLUSESSL_TRY,
	[TLS_NONE] = CURLUSESSL_NONE,
};

static const long ip_resolve[] = {
	[FAMILY_ANY] = CURL_IPRESOLVE_WHATEVER,
	[FAMILY_IPV4] = CURL_IPRESOLVE_V4,
	[FAMILY_IPV6] = CURL_IPRESOLVE_V6,
};

static CURLcode
set_numbers(CURL *easy, const struct config_relay *r)
{
	const struct {
		CURLoption option;
		long value;
	} numbers[] = {
		{ CURLOPT_CONNECT_ONLY, 1 },
		{ CURLOPT_USE_SSL, use_ssl[r->tls] },
		{ CURLOPT_SSL_VERIFYPEER, r->tls_verify ? 1 : 0 },
		{ CURLOPT_SSL_VERIFYHOST, r->tls_verify ? 2 : 0 },
		{ CURLOPT_SSLVERSION,
		    r->tls_min == 13 ? CURL_SSLVERSION_TLSv1_3
				     : CURL_SSLVERSION_TLSv1_2 },
		{ CURLOPT_CA_CACHE_TIMEOUT, 3600 },
		{ CURLOPT_CONNECTTIMEOUT_MS, (long)r->connect_timeout * 1000 },
		{ CURLOPT_IPRESOLVE, ip_resolve[config_family(r)] },
		/* Don't wait for a resolver that hangs. */
		{ CURLOPT_QUICK_EXIT, 1 },
		{ CURLOPT_NOSIGNAL, 1 },
		/* A proxy's reply is none of the relayhost's. */
		{ CURLOPT_SUPPRESS_CONNECT_HEADERS, 1 },
	};
	CURLcode result = CURLE_OK;
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (result == CURLE_OK)
			result = curl_easy_setopt(easy, numbers[i].option,
			    numbers[i].value);
	return result;
}

static CURLcode
set_pointers(struct handle *h, const char *url)
{
	const struct {
		CURLoption option;
		const void *value;
	} pointers[] = {
		{ CURLOPT_URL, url },
		{ CURLOPT_PRIVATE, h },
		{ CURLOPT_ERRORBUFFER, h->error },
		{ CURLOPT_PROTOCOLS_STR, "smtp,smtps" },
		/* With a path libcurl doesn't cache the authorities: 30 ms
		 * and 800 KB a connection. */
		{ CURLOPT_CAPATH, NULL },
		/* The environment's proxy is for others. */
		{ CURLOPT_PROXY, "" },
		{ CURLOPT_NOPROXY, "" },
		/* Or OpenSSL would ask at the terminal. */
		{ CURLOPT_KEYPASSWD, "" },
	};
	CURLcode result = CURLE_OK;
	size_t i;

	for (i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++)
		if (result == CURLE_OK)
			result = curl_easy_setopt(h->easy, pointers[i].option,
			    pointers[i].value);
	return result;
}

/* What a relay section need not have. */
static CURLcode
set_texts(CURL *easy, const struct config_relay *r)
{
	const struct {
		CURLoption option;
		const char *prefix, *value;
	} texts[] = {
		{ CURLOPT_CAINFO, "", r->tls_ca_file },
		{ CURLOPT_PINNEDPUBLICKEY, "", r->tls_pin },
		{ CURLOPT_SSLCERT, "", r->tls_cert },
		{ CURLOPT_SSLKEY, "", r->tls_key },
		{ CURLOPT_PROXY, "", r->proxy },
		/* An address, not the name of an interface. */
		{ CURLOPT_INTERFACE, "host!", r->source },
	};
	struct buf text = { .len = 0 };
	CURLcode result = CURLE_OK;
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i].value[0] == '\0' || result != CURLE_OK)
			continue;
		buf_clear(&text);
		buf_printf(&text, "%s%s", texts[i].prefix, texts[i].value);
		result =
		    curl_easy_setopt(easy, texts[i].option, buf_text(&text));
	}
	buf_free(&text);
	return result;
}

CURLcode
handle_configure(struct handle *h, const struct setup *s, const char *hostname)
{
	struct buf url = { .len = 0 };
	CURLcode result;

	setup_url(s, hostname, &url);
	result = set_pointers(h, buf_text(&url));
	if (result == CURLE_OK)
		result = set_numbers(h->easy, s->relay);
	if (result == CURLE_OK)
		result = set_texts(h->easy, s->relay);
	if (result == CURLE_OK)
		result = curl_easy_setopt(h->easy, CURLOPT_SSL_CTX_FUNCTION,
		    on_context);
	if (result == CURLE_OK)
		result =
		    curl_easy_setopt(h->easy, CURLOPT_SSL_CTX_DATA, s->relay);
	buf_free(&url);
	return result;
}
