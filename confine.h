/*
 * Between confine.c, filter.c, startup.c and relayd.c only: what the running
 * daemon may still do, whoever has got hold of it.
 */
#ifndef CONFINE_H
#define CONFINE_H

#include "relayd.h"

struct confinement;

/*
 * Give up, for this process and for good, all but the files and ports that
 * this configuration needs (landlock) and the system calls that relayd makes
 * (seccomp); before there is a second thread.  As much as the kernel can do:
 * the rest is a warning in the log.
 */
struct confinement *confine(const struct config *c);
void confinement_free(struct confinement *f);
/* Does the configuration need more than was kept?  Then a line for each file
 * or port goes to error. */
bool confinement_lacks(const struct confinement *f, const struct config *c,
    struct buf *error);

/* filter.c: system calls; 0, or -1 with errno. */
int filter_system_calls(void);

#endif
