/*
 * libcurl on the loop: its descriptors and its timer are the loop's, and what
 * becomes of its handles is told from there.
 */
#include "conn.h"

#include <stdlib.h>
#include <string.h>

/* A descriptor that libcurl waits for. */
struct watched {
	struct connector *connector;
	curl_socket_t fd;
};

/* Tell the results there are; from the loop only, as libcurl allows no call
 * from within its own callbacks, and handlers do call. */
static void
tell_results(struct connector *c)
{
	const CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
		CURLcode result = m->data.result;
		struct handle *h = NULL;

		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &h);
		h->done(h->arg, result);
	}
}

static void
on_socket(void *arg, unsigned events)
{
	const struct watched *w = arg; /* libcurl may free it */
	struct connector *c = w->connector;
	int action = 0, running;

	if ((events & LOOP_READ) != 0)
		action |= CURL_CSELECT_IN;
	if ((events & LOOP_WRITE) != 0)
		action |= CURL_CSELECT_OUT;
	(void)curl_multi_socket_action(c->multi, w->fd, action, &running);
	tell_results(c);
}

static void
on_timer(void *arg)
{
	struct connector *c = arg;
	int running;

	(void)curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0,
	    &running);
	tell_results(c);
}

/* CURLMOPT_SOCKETFUNCTION.  It can't say no: that would end the whole multi
 * handle, where a descriptor that isn't watched meets its deadline. */
static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct connector *c = arg;
	struct watched *w = known;
	unsigned events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		loop_unwatch(c->loop, fd);
		free(w);
		return 0;
	}
	if (w == NULL) {
		w = mem_alloc(sizeof(*w));
		*w = (struct watched){ c, fd };
		(void)curl_multi_assign(c->multi, fd, w);
	}
	if ((what & CURL_POLL_IN) != 0)
		events |= LOOP_READ;
	if ((what & CURL_POLL_OUT) != 0)
		events |= LOOP_WRITE;
	(void)loop_watch(c->loop, fd, events, on_socket, w);
	return 0;
}

/* CURLMOPT_TIMERFUNCTION */
static int
set_timer(CURLM *multi, long delay_ms, void *arg)
{
	struct connector *c = arg;

	(void)multi;
	if (delay_ms < 0)
		loop_timer_clear(c->loop, &c->timer);
	else
		loop_timer_set(c->loop, &c->timer, delay_ms);
	return 0;
}

/* libcurl takes memory and time to start: not before it is needed. */
static bool
start_curl(struct connector *c)
{
	if (c->multi != NULL)
		return true;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return false;
	c->multi = curl_multi_init();
	return c->multi != NULL &&
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION,
		watch_socket) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer) ==
	    CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK;
}

struct connector *
connector_new(struct loop *l)
{
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
	struct connector *c;
	const char *const *p;
	bool smtps = false;

	for (p = info->protocols; *p != NULL; p++)
		smtps |= strcmp(*p, "smtps") == 0;
	if (!smtps || info->ssl_version == NULL ||
	    strncmp(info->ssl_version, "OpenSSL/", 8) != 0) {
		log_error(NULL,
		    "this libcurl (%s) can't be used: it must have "
		    "been built with OpenSSL and SMTP",
		    info->version);
		return NULL;
	}
	c = mem_alloc(sizeof(*c));
	c->loop = l;
	c->timer.handler = on_timer;
	c->timer.arg = c;
	return c;
}

void
connector_free(struct connector *c)
{
	/* From 8.20 on it may wait there for a name look-up. */
	enum { CLEANUP_WAITS = 0x081400 };

	if (c == NULL)
		return;
	if (c->multi != NULL &&
	    curl_version_info(CURLVERSION_NOW)->version_num < CLEANUP_WAITS)
		(void)curl_multi_cleanup(c->multi);
	loop_timer_clear(c->loop, &c->timer);
	free(c);
}

void
connector_set_helper(struct connector *c, struct helper *helper)
{
	c->helper = helper;
}

bool
connector_prepare(struct connector *c, struct handle *h)
{
	if (start_curl(c))
		h->easy = curl_easy_init();
	return h->easy != NULL;
}

bool
connector_start(struct connector *c, struct handle *h)
{
	h->running = curl_multi_add_handle(c->multi, h->easy) == CURLM_OK;
	return h->running;
}

void
connector_stop(struct connector *c, struct handle *h)
{
	if (h->running)
		(void)curl_multi_remove_handle(c->multi, h->easy);
	h->running = false;
}
