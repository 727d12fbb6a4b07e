/*
 * The doctor's inside: between relayctl_online.c and the files that it is made
 * of.
 */
#ifndef ONLINE_H
#define ONLINE_H

#include "relayctl.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* ---- relayctl_steps.c: what was found, and how it is printed ---- */

enum step_state {
	STEP_GOOD,
	STEP_UNKNOWN, /* it can't be told from here */
	STEP_WARNING, /* mail flows all the same */
	STEP_WRONG
};

struct step {
	const char *name;
	enum step_state state;
	int64_t took_ms;
	char *text;                  /* escaped */
	const struct advice *advice; /* NULL while all is well */
	char *line;                  /* for relayd.conf, or NULL */
};

/* The steps to one relay; all zero but for the settings to start. */
struct walk {
	const struct config *config;
	const struct config_relay *relay;
	bool json;
	struct step *step;
	size_t count;
};

int64_t walk_now_ms(void); /* a clock that nobody sets */
void walk_begin(const struct walk *w);
/* One more step, printed at once where people read. */
void walk_step(struct walk *w, const char *name, enum step_state state,
    int64_t took_ms, struct span text);
/* What the last one means; line NULL: the one in the advice. */
void walk_advise(struct walk *w, const struct advice *advice, const char *line);
/* The first of a state, or NULL. */
const struct step *walk_first(const struct walk *w, enum step_state state);
void walk_end(const struct walk *w); /* prints what is to be done */
void walk_free(struct walk *w);

/* ---- relayctl_probe.c: what the daemon's connector does not tell ---- */

enum { PROBE_ADDRESSES = 16 };

struct probe_address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} name;
	char text[INET6_ADDRSTRLEN];
	int error; /* 0: TCP was accepted; else an errno */
	int64_t took_ms;
};

/* As the daemon will look the name up; returns how many, 0: *error says why. */
size_t probe_resolve(const struct config_relay *r,
    struct probe_address out[PROBE_ADDRESSES], const char **error);
/* Connect to all of them at the same time, and hang up. */
void probe_tcp(const struct config_relay *r, struct probe_address *address,
    size_t count, unsigned port, int64_t wait_ms);

struct probe_tls {
	int64_t took_ms;
	char version[64];       /* "" : no handshake */
	struct buf certificate; /* in words, raw; to be freed */
};
/* Have a look at TLS there, whatever its version and certificate: behind
 * STARTTLS, with our name for EHLO; NULL: at once. */
void probe_tls(const struct config_relay *r,
    const struct probe_address *address, const char *ehlo, int64_t wait_ms,
    struct probe_tls *out);

/* ---- relayctl_session.c: the connection as the daemon makes it ---- */

/* From the greeting to MAIL with each sender, and QUIT.  address: one that
 * takes connections; NULL: only a proxy knows. */
void session_walk(struct walk *w, const struct probe_address *address,
    const struct strings *senders);
int64_t walk_wait_ms(const struct config_relay *r); /* for one's own probes */

/* ---- relayctl_domain.c: what DNS says of a sender's domain ---- */

void domain_walk(struct walk *w, const char *domain);

#endif
