/*
 * The content of a message as a relayhost can take it: what convert.c offers
 * to transaction.c and to nobody else.
 */
#ifndef CONVERT_H
#define CONVERT_H

#include "relayd.h"

#define CONVERT_8BIT      1u /* no 8-bit octets in bodies */
#define CONVERT_LONG_LINE 2u /* no line of over 998 octets in them */
#define CONVERT_HEADER    4u /* no UTF-8 in the header (RFC 6532) */

/* What has to be done to a message for a relayhost that offers this
 * (SMTP_CAN_*); 0: nothing, it can go as it is. */
unsigned convert_wanted(const struct entry *e, unsigned can);

/* The entry is borrowed and read; nobody else reads it meanwhile. */
struct conversion;
struct conversion *conversion_new(struct entry *e, unsigned wanted);
void conversion_free(struct conversion *c); /* NULL is fine */

enum conversion_state {
	CONVERSION_MORE, /* call again: it is large */
	CONVERSION_READY,
	CONVERSION_NEEDLESS,   /* nothing would change */
	CONVERSION_IMPOSSIBLE, /* an address in the header is not ASCII */
	CONVERSION_ERROR,      /* errno, as of entry_read() */
};
/* Find out what is to be done, for some milliseconds. */
enum conversion_state conversion_prepare(struct conversion *c);

/* When it is ready: */
uint64_t conversion_size(const struct conversion *c); /* octets, exactly */
/* As entry_rewind() and entry_read(). */
void conversion_rewind(struct conversion *c);
ssize_t conversion_read(struct conversion *c, char *out, size_t size);

#endif
