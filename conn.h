/*
 * Between connector.c, handle.c and conn.c only: libcurl's part of a
 * connection.
 */
#ifndef CONN_H
#define CONN_H

#include "setup.h"

#include <curl/curl.h>

/* ---- connector.c: libcurl on the loop -------------------------------------- */

struct connector {
	struct loop *loop;
	CURLM *multi; /* NULL until the first connection */
	struct timer timer;
	struct helper *helper; /* borrowed; or NULL */
};

/* One handle in libcurl's hands. */
struct handle {
	CURL *easy;
	bool running; /* in the multi handle */
	/* It has done what it can; told once, from the loop. */
	void (*done)(void *arg, CURLcode result);
	void *arg;
	char error[CURL_ERROR_SIZE];
};

/* Make the easy handle, and libcurl ready for it; false: it can't be had. */
bool connector_prepare(struct connector *c, struct handle *h);
bool connector_start(struct connector *c, struct handle *h);
void connector_stop(struct connector *c, struct handle *h); /* or not started */

/* ---- handle.c: the options of a handle, and how it ended ------------------- */

/* Everything but the callback for replies. */
CURLcode handle_configure(struct handle *h, const struct setup *s,
    const char *hostname);
/* Is it past a point of the set-up (CURLINFO_..._TIME_T)? */
bool handle_is_past(const struct handle *h, CURLINFO point);
/* Say in a fault how it ended. */
void handle_explain(const struct handle *h, CURLcode result, struct setup *s);

#endif
