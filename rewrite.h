/*
 * What rewriting the envelope and the header have in common; between
 * rewrite.c and rewrite_header.c only.
 */
#ifndef REWRITE_H
#define REWRITE_H

#include "relayd.h"

/* Is the address one of this machine: bare, or in local_names? */
bool rewrite_is_local(const struct rewrite_rules *rules, struct span address);

/* Append a local address as one that the world knows. */
void rewrite_complete(const struct rewrite_rules *rules, struct span address,
    struct buf *out);

#endif
