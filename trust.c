/*
 * What is asked of a relayhost's certificate over what libcurl asks.
 *
 * libcurl takes the name in the subject where there is no other, which
 * authorities may not vouch for (RFC 9525, section 2), and as weak keys and
 * signatures as the system's OpenSSL is set to take.
 */
#include "setup.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <string.h>

enum { SECURITY_LEVEL = 2 }; /* RSA of 2048 bits, no SHA-1 */

bool
trust_require(void *context, const struct config_relay *r)
{
	SSL_CTX *ctx = context;
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
	size_t len = strlen(r->host);

	if (!r->tls_verify)
		return true;
	if (SSL_CTX_get_security_level(ctx) < SECURITY_LEVEL)
		SSL_CTX_set_security_level(ctx, SECURITY_LEVEL);
	X509_VERIFY_PARAM_set_hostflags(param,
	    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, r->host) == 1)
		return true;
	if (len > 0 && r->host[len - 1] == '.')
		len--; /* the root's */
	return X509_VERIFY_PARAM_set1_host(param, r->host, len) == 1;
}
