/*
 * What SASL mechanisms compute: base64, CRAM-MD5 and SCRAM-SHA-256.  No input
 * and no output; auth.c has the dialogue.
 *
 * User and password go in as they are written, in UTF-8: SASLprep (RFC 4013)
 * leaves ASCII alone, and nothing here knows more of Unicode.
 */
#include "auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <string.h>

enum {
	DIGEST = SHA256_DIGEST_LENGTH,
	/* Some 50 ms, and the loop waits for it.  RFC 7677 asks for 4096. */
	ITERATIONS_MOST = 100000,
	NONCE_MOST = 512,
};

/* ---- base64 ---- */

void
sasl_encode(struct buf *out, struct span in)
{
	/* With its NUL, and for a CRLF. */
	buf_reserve(out, (in.len + 2) / 3 * 4 + 2);
	out->len +=
	    (size_t)EVP_EncodeBlock((unsigned char *)out->data + out->len,
		(const unsigned char *)in.data, (int)in.len);
}

static bool
is_base64(struct span in)
{
	size_t i, padding = 0;

	while (padding < 2 && padding < in.len &&
	    in.data[in.len - 1 - padding] == '=')
		padding++;
	for (i = 0; i < in.len - padding; i++) {
		char c = in.data[i];

		if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') &&
		    !(c >= '0' && c <= '9') && c != '+' && c != '/')
			return false;
	}
	return in.len % 4 == 0;
}

bool
sasl_decode(struct buf *out, struct span in)
{
	int len;

	if (!is_base64(in))
		return false;
	buf_reserve(out, in.len / 4 * 3 + 1);
	len = EVP_DecodeBlock((unsigned char *)out->data + out->len,
	    (const unsigned char *)in.data, (int)in.len);
	if (len < 0)
		return false;
	/* It counts the octets that padding stands for. */
	for (; in.len > 0 && in.data[in.len - 1] == '='; in.len--)
		len--;
	out->len += (size_t)len;
	return true;
}

/* ---- CRAM-MD5 ---- */

bool
cram_md5_answer(struct span user, struct span password, struct span challenge,
    struct buf *out)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned i, len = 0;

	if (HMAC(EVP_md5(), password.data, (int)password.len,
		(const unsigned char *)challenge.data, challenge.len, digest,
		&len) == NULL)
		return false;
	buf_add(out, user);
	buf_add_char(out, ' ');
	for (i = 0; i < len; i++)
		buf_printf(out, "%02x", digest[i]);
	return true;
}

/* ---- SCRAM-SHA-256 ---- */

static bool
hmac(const unsigned char key[DIGEST], struct span text,
    unsigned char out[DIGEST])
{
	return HMAC(EVP_sha256(), key, DIGEST, (const unsigned char *)text.data,
		   text.len, out, NULL) != NULL;
}

/* saslname (RFC 5802, 5.1). */
static void
add_name(struct buf *out, struct span name)
{
	size_t i;

	for (i = 0; i < name.len; i++) {
		if (name.data[i] == '=')
			buf_add_text(out, "=3D");
		else if (name.data[i] == ',')
			buf_add_text(out, "=2C");
		else
			buf_add_char(out, name.data[i]);
	}
}

void
scram_first(struct scram *s, struct span user, struct span nonce,
    struct buf *out)
{
	buf_clear(&s->bare);
	buf_clear(&s->nonce);
	buf_add(&s->nonce, nonce);
	buf_add_text(&s->bare, "n=");
	add_name(&s->bare, user);
	buf_add_text(&s->bare, ",r=");
	buf_add(&s->bare, nonce);
	buf_add_text(out, "n,,"); /* no channel binding, no other identity */
	buf_add(out, buf_span(&s->bare));
}

/* Cut "NAME=value," off a message; the value, or false. */
static bool
cut_attribute(struct span *message, char name, struct span *value)
{
	struct span attribute;

	(void)span_cut(*message, ',', &attribute, message);
	if (attribute.len < 2 || attribute.data[0] != name ||
	    attribute.data[1] != '=')
		return false;
	*value = span_from(attribute, 2);
	return true;
}

/* The server's share of the login. */
struct challenge {
	struct span nonce; /* ours and its own */
	struct buf salt;
	uint64_t iterations;
};

static const char *
read_challenge(const struct scram *s, struct span message, struct challenge *c)
{
	struct span ours = buf_span(&s->nonce), salt, count;

	if (!cut_attribute(&message, 'r', &c->nonce) ||
	    !cut_attribute(&message, 's', &salt) ||
	    !cut_attribute(&message, 'i', &count))
		return "its first message can't be understood";
	if (c->nonce.len <= ours.len || c->nonce.len > NONCE_MOST ||
	    !span_equal(span_first(c->nonce, ours.len), ours))
		return "its nonce does not begin with ours";
	if (!sasl_decode(&c->salt, salt) || c->salt.len == 0)
		return "its salt is not in base64";
	if (!parse_number(count, ITERATIONS_MOST, &c->iterations) ||
	    c->iterations == 0)
		return "it asks for too many iterations, or for none";
	return NULL;
}

/* RFC 5802, 3: the proof that we know the password, and what will prove that
 * the server does. */
static bool
prove(struct scram *s, struct span password, const struct challenge *c,
    struct span message, unsigned char proof[DIGEST])
{
	unsigned char salted[DIGEST], key[DIGEST], stored[DIGEST];
	bool fine;
	int i;

	fine = PKCS5_PBKDF2_HMAC(password.data, (int)password.len,
		   (const unsigned char *)c->salt.data, (int)c->salt.len,
		   (int)c->iterations, EVP_sha256(), DIGEST, salted) == 1 &&
	    hmac(salted, SPAN("Client Key"), key) &&
	    SHA256(key, DIGEST, stored) != NULL && hmac(stored, message, proof);
	for (i = 0; fine && i < DIGEST; i++)
		proof[i] ^= key[i];
	fine = fine && hmac(salted, SPAN("Server Key"), key) &&
	    hmac(key, message, s->expected);
	explicit_bzero(salted, sizeof(salted));
	explicit_bzero(key, sizeof(key));
	explicit_bzero(stored, sizeof(stored));
	return fine;
}

const char *
scram_final(struct scram *s, struct span password, struct span server_first,
    struct buf *out)
{
	struct challenge c = { .iterations = 0 };
	struct buf without_proof = { .len = 0 }, message = { .len = 0 };
	unsigned char proof[DIGEST];
	const char *why = read_challenge(s, server_first, &c);

	if (why == NULL) {
		buf_add_text(&without_proof, "c=biws,r="); /* "n,," */
		buf_add(&without_proof, c.nonce);
		buf_add(&message, buf_span(&s->bare));
		buf_add_char(&message, ',');
		buf_add(&message, server_first);
		buf_add_char(&message, ',');
		buf_add(&message, buf_span(&without_proof));
		if (!prove(s, password, &c, buf_span(&message), proof))
			why = "OpenSSL can't compute it";
	}
	if (why == NULL) {
		buf_add(out, buf_span(&without_proof));
		buf_add_text(out, ",p=");
		sasl_encode(out, (struct span){ (char *)proof, DIGEST });
	}
	buf_free(&c.salt);
	buf_free(&without_proof);
	buf_free(&message);
	return why;
}

const char *
scram_verify(const struct scram *s, struct span server_final)
{
	struct buf signature = { .len = 0 };
	struct span value;
	bool good = cut_attribute(&server_final, 'v', &value) &&
	    sasl_decode(&signature, value) && signature.len == DIGEST &&
	    CRYPTO_memcmp(signature.data, s->expected, DIGEST) == 0;

	buf_free(&signature);
	return good ? NULL : "it does not prove that it knows the password";
}

void
scram_wipe(struct scram *s)
{
	buf_free(&s->bare);
	buf_free(&s->nonce);
	explicit_bzero(s->expected, sizeof(s->expected));
}
