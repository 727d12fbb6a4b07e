/*
 * The client certificate of a relay and its key: do they belong together, and
 * is the key nobody else's?  Is it the time for it, and who issued it?
 */
#include "config_parts.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PEM_MOST = 16 << 20 }; /* tls_ca_file may be large */

/* OpenSSL would ask at the terminal. */
static int
no_passphrase(char *out, int size, int writing, void *asked)
{
	(void)writing;
	if (size > 0)
		*out = '\0';
	*(bool *)asked = true;
	return -1;
}

/* -1: errno, which is 0 unless the file can't be read; a text in error. */
static int
read_pem(const char *path, struct buf *pem, struct stat *st, struct buf *error)
{
	if (file_read(path, PEM_MOST, pem, st) == 0) {
		errno = 0;
		return 0;
	}
	buf_printf(error, "%s: %s", path,
	    errno == EINVAL ? "is not a regular file" : strerror(errno));
	return -1;
}

/* root is not who will use it. */
static int
check_secret(const char *path, const struct stat *st, struct buf *error)
{
	return geteuid() == 0 ? config_secret_check(path, st, error)
			      : config_secret_check_user(path, st, error);
}

static X509 *
read_certificate(const char *path, struct buf *error)
{
	struct buf pem = { 0 };
	X509 *certificate = NULL;
	BIO *bio;

	if (read_pem(path, &pem, NULL, error) == 0) {
		bio = BIO_new_mem_buf(pem.data, (int)pem.len);
		certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
		(void)BIO_free(bio);
		if (certificate == NULL)
			buf_printf(error,
			    "%s: holds no certificate in PEM form", path);
	}
	buf_free(&pem);
	return certificate;
}

static EVP_PKEY *
read_key(const char *path, struct buf *error)
{
	struct buf pem = { 0 };
	struct stat st;
	EVP_PKEY *key = NULL;
	bool encrypted = false;
	BIO *bio;

	if (read_pem(path, &pem, &st, error) == 0 &&
	    check_secret(path, &st, error) == 0) {
		bio = BIO_new_mem_buf(pem.data, (int)pem.len);
		key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase,
		    &encrypted);
		(void)BIO_free(bio);
		if (encrypted)
			buf_printf(error,
			    "%s: is encrypted, and nobody is there to ask; "
			    "mend it: openssl pkey -in %s -out NEW",
			    path, path);
		else if (key == NULL)
			buf_printf(error,
			    "%s: holds no private key in PEM form", path);
	}
	buf_wipe(&pem);
	return key;
}

int
config_certificate(const struct config_relay *r, const char **name,
    struct buf *error)
{
	X509 *certificate;
	EVP_PKEY *key = NULL;
	int saved;

	*name = "tls_cert";
	certificate = read_certificate(r->tls_cert, error);
	saved = errno;
	if (certificate != NULL) {
		*name = "tls_key";
		key = read_key(r->tls_key, error);
		saved = errno;
	}
	if (key != NULL && X509_check_private_key(certificate, key) != 1)
		buf_printf(error, "%s: is not the key of %s", r->tls_key,
		    r->tls_cert);
	X509_free(certificate);
	EVP_PKEY_free(key);
	ERR_clear_error();
	errno = saved;
	return error->len == 0 ? 0 : -1;
}

bool
config_certificate_untimely(const struct config_relay *r, struct buf *text)
{
	struct buf error = { 0 };
	X509 *certificate = read_certificate(r->tls_cert, &error);
	const char *how = NULL;

	if (certificate != NULL &&
	    X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
		how = "has expired";
	else if (certificate != NULL &&
	    X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
		how = "is not valid yet: is this machine's clock right?";
	if (how != NULL)
		buf_printf(text, "%s: %s", r->tls_cert, how);
	X509_free(certificate);
	ERR_clear_error();
	buf_free(&error);
	return how != NULL;
}

static bool
holds_issuer(const char *path, X509 *certificate)
{
	struct buf pem = { 0 };
	X509 *issuer;
	BIO *bio;
	bool found = false;

	if (file_read(path, PEM_MOST, &pem, NULL) == -1)
		return false;
	bio = BIO_new_mem_buf(pem.data, (int)pem.len);
	while (!found &&
	    (issuer = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		found = X509_check_issued(issuer, certificate) == X509_V_OK;
		X509_free(issuer);
	}
	(void)BIO_free(bio);
	buf_free(&pem);
	return found;
}

bool
config_certificate_alone(const struct config_relay *r, struct buf *text)
{
	struct buf error = { 0 };
	X509 *certificate = read_certificate(r->tls_cert, &error);
	bool alone = certificate != NULL &&
	    (X509_get_extension_flags(certificate) & EXFLAG_SI) == 0 &&
	    !holds_issuer(r->tls_cert, certificate) &&
	    !holds_issuer(r->tls_ca_file, certificate);

	if (alone)
		buf_printf(text,
		    "%s: the certificate of its issuer is neither behind it "
		    "nor in tls_ca_file, and the relayhost may ask for it",
		    r->tls_cert);
	X509_free(certificate);
	ERR_clear_error();
	buf_free(&error);
	return alone;
}
