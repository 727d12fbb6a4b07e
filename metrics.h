/*
 * metrics.c's contract: what is told to those who watch the daemon.  For
 * startup.c, relayd.c and verbs.c.
 */
#ifndef METRICS_H
#define METRICS_H

#include "report.h"

/* All of it, as Prometheus reads it; openmetrics: as OpenMetrics 1.0 has it.
 * hold and failed are told only if counted. */
void metrics_text(const struct report_source *s, bool counted, bool openmetrics,
    struct buf *out);

struct metrics; /* /metrics, /healthz and /readyz */
struct metrics *metrics_new(struct loop *l, struct queue *q,
    const struct sched *sched, const struct submit *submit);
void metrics_free(struct metrics *m); /* NULL is fine */
/* Bind config->metrics beside what is there; -1: errno, a line in error. */
int metrics_prepare(struct metrics *m, const struct config *config,
    struct buf *error);
/* Go on with that; NULL: with what was. */
void metrics_configure(struct metrics *m, struct config *config);

#endif
