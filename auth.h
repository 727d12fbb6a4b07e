/*
 * Between scram.c, auth.c and conn.c only: logging in (SASL, RFC 4422, by the
 * AUTH command, RFC 4954).
 */
#ifndef AUTH_H
#define AUTH_H

#include "setup.h"

/* ---- scram.c: what SASL has to compute -------------------------------------- */

/* Base64, all of it or nothing (RFC 4648, 3.5 and 4); append to out. */
void sasl_encode(struct buf *out, struct span in);
bool sasl_decode(struct buf *out, struct span in);

/* The answer of CRAM-MD5 (RFC 2195); false: this OpenSSL has no MD5. */
bool cram_md5_answer(struct span user, struct span password,
    struct span challenge, struct buf *out);

/* One SCRAM-SHA-256 login (RFC 5802, 7677), without channel binding. */
struct scram {
	struct buf bare;            /* client-first-message-bare */
	struct buf nonce;           /* ours */
	unsigned char expected[32]; /* ServerSignature */
};
/* nonce: printable and without commas.  Append the messages to out. */
void scram_first(struct scram *s, struct span user, struct span nonce,
    struct buf *out);
/* NULL, or what is wrong with what the server sent. */
const char *scram_final(struct scram *s, struct span password,
    struct span server_first, struct buf *out);
const char *scram_verify(const struct scram *s, struct span server_final);
void scram_wipe(struct scram *s);

/* ---- auth.c: the exchange ---------------------------------------------------- */

struct mechanism;

/* All zero but for setup to start; the password is added by the caller. */
struct auth {
	struct setup *setup;
	struct buf password;
	const struct mechanism *mechanism;
	unsigned refused;  /* SMTP_AUTH_*: offered, and not there after all */
	unsigned answered; /* so many responses are sent */
	struct scram scram;
	struct buf out; /* the line to send */
};

/* The relayhost is ready for a login: the first line into out; or a fault. */
void auth_begin(struct auth *a);
/* It has replied (setup->reply): the next line into out, or a fault; neither:
 * logged in. */
void auth_reply(struct auth *a);
void auth_wipe(struct auth *a);

#endif
