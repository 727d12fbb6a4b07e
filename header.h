/*
 * The fields of a header section and the mailboxes in them, as spans of the
 * text, so that rewriting keeps every byte that it doesn't mean to change.
 * For header.c, aliases.c and rewrite.c; what others need is in relayd.h.
 */
#ifndef HEADER_H
#define HEADER_H

#include "relayd.h"

struct header_field {
	struct span text;  /* all of it, with its CRLFs */
	struct span name;  /* without colon; empty for a "From " line */
	struct span value; /* what follows the colon, folded as it is */
};

/* Take the next field off a header section; false at its end.  A byte order
 * mark is skipped. */
bool header_next(struct span *header, struct header_field *field);

/* A walk over an address list (RFC 5322, 3.4 and 4.4). */
struct address_scan {
	struct span list; /* set this, and lenient; the others start as zero */
	bool lenient;     /* "a@b c@d" is two, as old mail programs write it */
	size_t at;        /* what has been read */
	bool in_group;
	bool bad; /* it can't be parsed any further */
};

/* Spans of the list, but for address, which is owned: buf_free() it at last. */
struct mailbox {
	struct span text;    /* all that stands for it */
	struct span name;    /* display name as written; empty: none */
	struct span comment; /* inside of its last comment; empty: none */
	struct buf address; /* "root", "a@b": unfolded, not judged; "" for <> */
};

/* The next mailbox, in a group or not; false at the end, or when bad.  Keep
 * one struct, all zero at first, for the whole walk. */
bool address_next(struct address_scan *scan, struct mailbox *m);

/* Append what a quoted string or comment says, which is given without its
 * delimiters: folding and quoted pairs are undone. */
void header_add_unquoted(struct buf *out, struct span quoted);

#endif
