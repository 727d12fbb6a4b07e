/*
 * Between setup.c, trust.c and conn.c with its helpers only: what the
 * relayhost says while a connection is set up, and the words for what went
 * wrong.
 */
#ifndef SETUP_H
#define SETUP_H

#include "relayd.h"

/* What the next reply will answer. */
enum setup_phase {
	PHASE_GREETING, /* and all before: look-up, TCP, implicit TLS */
	PHASE_EHLO,
	PHASE_STARTTLS,
	PHASE_HANDSHAKE, /* after STARTTLS */
	PHASE_TLS_EHLO,
	PHASE_AUTH,
	PHASE_LOGGED_IN,
	PHASES,
};

/* What an EHLO reply promises. */
struct promise {
	unsigned can; /* SMTP_CAN_* */
	uint64_t size_limit;
};

/* All zero but for relay to start. */
struct setup {
	const struct config_relay *relay;
	char *peer; /* as conn_peer(); the owner of all this frees it */
	enum setup_phase phase;
	struct smtp_reply reply; /* the last one, perhaps not all of it */
	bool complete;           /* all of it */
	bool answered;           /* it belongs to this phase */
	struct promise reading;  /* from the EHLO reply coming in */
	struct promise promise;  /* from the last complete one */
	struct fault fault;
};

/* How it ended where it failed. */
enum setup_end {
	SETUP_DNS,
	SETUP_CONNECT,
	SETUP_TIMEOUT,
	SETUP_REFUSED,     /* by the last reply */
	SETUP_WEIRD,       /* the same, or plain text where TLS was due */
	SETUP_STARTTLS,    /* not offered or refused */
	SETUP_TLS,         /* the handshake failed */
	SETUP_CERTIFICATE, /* its check failed */
	SETUP_CA_FILE,     /* can't be used */
	SETUP_PIN,         /* another public key */
	SETUP_CERT_FILE,   /* our own can't be used */
	SETUP_SOURCE,      /* the local address can't be used */
	SETUP_PROXY_DNS,   /* its name could not be resolved */
	SETUP_PROXY,       /* it does not connect to the relayhost */
	SETUP_LOST,
	SETUP_OTHER,
	SETUP_ENDS,
};

struct setup_facts {
	enum setup_end end;
	bool resolved;     /* the name is looked up */
	bool connected;    /* TCP */
	bool encrypted;    /* TLS; only known for implicit */
	const char *error; /* the system's, OpenSSL's or libcurl's words */
	bool wrong_name;   /* of a certificate; else: */
	bool wrong_time;   /* expired or not yet valid */
	bool unfit;        /* whoever has signed it */
	const char *certificate_error;
};

/* Make s->peer; ip NULL: not connected. */
void setup_name_peer(struct setup *s, const char *ip);
/* The URL for libcurl, which says its path, decoded, in EHLO. */
void setup_url(const struct setup *s, const char *hostname, struct buf *out);

/* The first fault is the one told; what follows from it is not.  All of the
 * text is escaped, so words of the relayhost may stand in it as they are. */
void setup_fault(struct setup *s, enum fault_kind kind, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* False with a fault: the password must not go out, so nobody is to ask for
 * it. */
bool setup_may_log_in(struct setup *s);
/* The password, to be wiped, unless a command has it; false with a fault when
 * there is none. */
bool setup_password(struct setup *s, struct buf *password);
/* Is the client certificate in order, if there is to be one? */
bool setup_certificate(struct setup *s);
/* The fault for how it ended. */
void setup_explain(struct setup *s, const struct setup_facts *facts);
/* The key that says where the password is. */
const char *setup_password_key(const struct config_relay *r);

/* The step that the next line belongs to: "greeting", "ehlo" ... */
const char *setup_step(const struct setup *s);
/* One line of a reply, with its end.  false: that is no SMTP, with a fault;
 * the connection is to be given up. */
bool setup_line(struct setup *s, struct span line);

/* trust.c: before the handshake; context: OpenSSL's SSL_CTX.  false: it can't
 * be asked for. */
bool trust_require(void *context, const struct config_relay *r);

#endif
