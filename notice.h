/*
 * Reports to senders (RFC 3464): what notice.c and ration.c do for bounce.c.
 */
#ifndef NOTICE_H
#define NOTICE_H

#include "relayd.h"

enum notice_kind {
	NOTICE_END,        /* it failed for some, or was relayed */
	NOTICE_DELAY,      /* it still waits */
	NOTICE_POSTMASTER, /* nobody else can be told that it failed */
	NOTICES
};

struct notice {
	enum notice_kind kind;
	const struct config *config;
	const struct entry *entry; /* the message that it is about */
	struct span header;        /* its header section */
	const char *to;            /* "" is nobody's address */
	bool full;                 /* all of the message is returned */
	int64_t now_ms;            /* wall clock */
	size_t limit;              /* of each part, octets */
	char boundary[48];         /* notice.c's own */
};

/* Is a recipient to stand in it, by state and NOTIFY? */
bool notice_names(enum notice_kind kind, const struct recipient *r);
size_t notice_count(enum notice_kind kind, const struct envelope *e);
/* The value of the message's first field of this name, unfolded; false: it has
 * none. */
bool notice_field(struct span header, struct span name, struct buf *out);

/*
 * Append the notice up to where the content of its last part begins, which is
 * the message if n->full; else its header is appended too.  Canonical text.
 */
void notice_write(struct notice *n, struct buf *out);
void notice_end(const struct notice *n, struct buf *out); /* what follows it */

/* ---- ration.c: at most ten an hour to one address ---- */

struct ration;
struct ration *ration_new(void);
void ration_free(struct ration *r);
/* May it have one more?  Then it is counted. */
bool ration_take(struct ration *r, const char *address, int64_t now_ms);

#endif
