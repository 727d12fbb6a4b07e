/*
 * http.c's contract: the little HTTP server.  For metrics.c only.
 */
#ifndef HTTP_H
#define HTTP_H

#include "relayd.h"

struct http_request {
	bool head;        /* HEAD: the body is not sent */
	bool openmetrics; /* named in Accept */
	struct span path; /* without its query */
};

/* 405: neither GET nor HEAD; 408: not there in time. */
enum http_status {
	HTTP_OK = 200,
	HTTP_BAD_REQUEST = 400,
	HTTP_NOT_FOUND = 404,
	HTTP_NOT_ALLOWED = 405,
	HTTP_TIMEOUT = 408,
	HTTP_UNAVAILABLE = 503,
};

struct http_reply {
	enum http_status status;
	const char *type; /* of the body */
	struct buf body;
};

/* Does a header section end in this, no earlier than at from? */
bool http_ended(struct span in, size_t from);
/* What a whole header section (RFC 9112) asks for: HTTP_OK, or why it can't
 * be served.  request borrows from head. */
enum http_status http_parse(struct span head, struct http_request *request);

/* Make the reply; it is "not found" without a body so far. */
typedef void http_handler(void *arg, const struct http_request *request,
    struct http_reply *reply);

struct http;
struct http *http_new(struct loop *l, http_handler *handler, void *arg);
void http_free(struct http *h); /* NULL is fine */
/* Listen on address ("": on none) as well, for peers on loopback and private
 * networks; -1: errno, a line in error.  Then decide for it or for what was. */
int http_prepare(struct http *h, const char *address, struct buf *error);
void http_decide(struct http *h, bool change);

#endif
