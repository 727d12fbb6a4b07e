/*
 * crash.c's contract, for relayd.c only.
 */
#ifndef CRASH_H
#define CRASH_H

#include "relayd.h"

/* Have SIGSEGV and its like write a last line to the log as it is open now. */
void crash_prepare(void);

#endif
