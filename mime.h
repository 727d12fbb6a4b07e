/*
 * Converting a message for a relayhost that can't take it as it is: the inside
 * of encode.c, mime_header.c, mime.c, downgrade.c and convert.c, in the order
 * of their layers.  What transaction.c sees of it is in convert.h.
 */
#ifndef MIME_H
#define MIME_H

#include "relayd.h"

/* ---- encode.c ---- */

enum coding {
	CODING_NONE,         /* as it is */
	CODING_TEXT,         /* not coded but replaced (see struct edit) */
	CODING_QP,           /* quoted-printable (RFC 2045, 6.7) */
	CODING_BASE64,       /* 6.8 */
	CODING_QP_AGAIN,     /* it is quoted-printable, badly wrapped */
	CODING_BASE64_AGAIN, /* it is base64, badly wrapped */
	CODING_PROSE,        /* what no reader shows: lines are folded */
	CODING_PROSE_7BIT,   /* the same, with '?' for 8-bit octets */
};

/* Text on its way through a coding; all zero but for coding at first. */
struct encoder {
	enum coding coding;
	size_t column;  /* octets on the line of the result */
	unsigned match; /* octets of "From " that start a line, or more: none */
	char blank;     /* it may end the line, or 0 */
	bool cr;
	unsigned char held[3]; /* a group that is not complete */
	size_t held_count;
	unsigned escape; /* the decoder's state */
	char digit;
	char blanks[76]; /* they may end a line of the source */
	size_t blank_count;
};

void encode(struct encoder *e, struct span in, struct buf *out);
/* last: nothing follows that would end the line. */
void encode_end(struct encoder *e, bool last, struct buf *out);
/* Of so many octets in base64, without an end of its last line. */
uint64_t base64_length(uint64_t octets);
void base64_add(struct buf *out, struct span in); /* on one line */

/* Is it UTF-8, so far and, if end, as a whole?  All zero to start. */
struct utf8_check {
	unsigned left;           /* octets that the character needs */
	unsigned char low, high; /* what the next may be */
	bool bad;
};
void utf8_check(struct utf8_check *u, struct span piece);
bool utf8_check_end(const struct utf8_check *u);

/* ---- mime_header.c ---- */

enum mime_kind {
	MIME_TEXT,
	MIME_OTHER,
	MIME_MULTIPART,
	MIME_MESSAGE, /* message/rfc822 */
	MIME_SEALED,  /* signed, encrypted, or not to be understood */
};

enum mime_encoding {
	ENCODING_IDENTITY,
	ENCODING_QP,
	ENCODING_BASE64,
};

/* What a header section says of the body. */
struct mime_fields {
	enum mime_kind kind;
	enum mime_encoding encoding;
	bool has_type;
	bool has_encoding;
	bool has_version;
	bool wide;          /* the encoding is named 8bit or binary */
	bool digest;        /* multipart/digest */
	size_t encoding_at; /* the field: offset and length in the header */
	size_t encoding_len;
	struct buf boundary; /* the caller frees it */
};

/* f: all zero, or of another header, whose boundary is freed.  in_digest:
 * without a Content-Type it is a message (RFC 2046, 5.1.5). */
void mime_fields_read(struct span header, bool in_digest,
    struct mime_fields *f);

/* ---- mime.c ---- */

/* What becomes of a stretch of the source; all others stay as they are. */
struct edit {
	uint64_t from, to; /* octets of the source */
	enum coding coding;
	bool last;  /* nothing follows, see encode_end() */
	char *text; /* instead of it (CODING_TEXT) */
};

/* How a message is to be converted: edits in the order of the source. */
struct plan {
	struct edit *edit;
	size_t count;
	size_t size;
	size_t encoded; /* parts that are */
	int64_t growth; /* octets */
};
void plan_free(struct plan *p); /* its members */

/* Plan: seven: 8-bit octets must go; lines of over 998 octets always must.
 * The source is fed in pieces; memory does not grow with it. */
struct planner;
struct planner *planner_new(bool seven);
void planner_feed(struct planner *p, struct span piece);
void planner_end(struct planner *p, struct plan *out);
void planner_free(struct planner *p); /* NULL is fine */

/* ---- downgrade.c ---- */

/*
 * A header section with UTF-8 (RFC 6532) as one without: display names,
 * comments and free text become encoded words (RFC 2047).  Fields where these
 * may not stand keep what they have.
 * returns  false when an address has other than ASCII.
 */
bool header_downgrade(struct span header, struct buf *out);

#endif
