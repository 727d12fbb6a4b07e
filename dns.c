/*
 * Questions to the name servers of /etc/resolv.conf, for relayctl: libc's
 * resolver asks (UDP, and TCP for a long answer); here it gets a short time,
 * and the answer becomes text.  /etc/hosts is not looked at.
 */
#include "relayd.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>

enum { WAIT_SECONDS = 3, TRIES = 1, ANSWER_MAX = 65535 };

/* The strings of a TXT record, joined (RFC 7208, 3.3). */
static bool
add_txt(struct buf *out, const unsigned char *data, size_t len)
{
	size_t at = 0;

	while (at < len) {
		if (data[at] > len - at - 1)
			return false;
		buf_append(out, data + at + 1, data[at]);
		at += 1 + (size_t)data[at];
	}
	return true;
}

static bool
add_mx(struct buf *out, ns_msg *answer, const unsigned char *data, size_t len)
{
	char name[NS_MAXDNAME];

	if (len < 3 ||
	    dn_expand(ns_msg_base(*answer), ns_msg_end(*answer), data + 2, name,
		sizeof(name)) == -1)
		return false;
	/* The root has no name of its own here. */
	buf_printf(out, "%u %s", ns_get16(data), name[0] == '\0' ? "." : name);
	return true;
}

static bool
add_address(struct buf *out, int family, const unsigned char *data, size_t len)
{
	char text[INET6_ADDRSTRLEN];

	if (len != (family == AF_INET ? 4 : 16) ||
	    inet_ntop(family, data, text, sizeof(text)) == NULL)
		return false;
	buf_add_text(out, text);
	return true;
}

static bool
add_record(struct buf *out, ns_msg *answer, const ns_rr *rr)
{
	const unsigned char *data = ns_rr_rdata(*rr);
	size_t len = ns_rr_rdlen(*rr);

	switch ((int)ns_rr_type(*rr)) {
	case ns_t_a:
		return add_address(out, AF_INET, data, len);
	case ns_t_aaaa:
		return add_address(out, AF_INET6, data, len);
	case ns_t_mx:
		return add_mx(out, answer, data, len);
	case ns_t_txt:
		return add_txt(out, data, len);
	default: /* CNAME, on the way there */
		return false;
	}
}

/* Data that can't be read is left out; false: that is no answer. */
static bool
read_answer(const unsigned char *data, int len, int type, struct strings *out)
{
	struct buf text = { NULL, 0, 0 };
	ns_msg answer;
	ns_rr rr;
	bool whole = true;
	int i;

	if (ns_initparse(data, len, &answer) == -1)
		return false;
	for (i = 0; i < ns_msg_count(answer, ns_s_an); i++) {
		whole = ns_parserr(&answer, ns_s_an, i, &rr) == 0;
		if (!whole)
			break;
		buf_clear(&text);
		if ((int)ns_rr_type(rr) == type &&
		    add_record(&text, &answer, &rr))
			strings_add(out, buf_span(&text));
	}
	buf_free(&text);
	return whole;
}

/* libc says TRY_AGAIN for silence and for SERVFAIL. */
static enum dns_result
failure(const struct __res_state *state, int error, int64_t took_ms)
{
	if (state->res_h_errno == HOST_NOT_FOUND)
		return DNS_NO_NAME;
	if (state->res_h_errno == NO_DATA)
		return DNS_NO_DATA;
	return error == ECONNREFUSED || error == ENETUNREACH ||
		took_ms / 1000 >= WAIT_SECONDS
	    ? DNS_SILENT
	    : DNS_REFUSED;
}

enum dns_result
dns_query(const char *name, enum dns_type type, struct strings *out)
{
	static const int types[] = {
		[DNS_A] = ns_t_a,
		[DNS_AAAA] = ns_t_aaaa,
		[DNS_MX] = ns_t_mx,
		[DNS_TXT] = ns_t_txt,
	};
	struct __res_state state = { .retrans = 0 };
	unsigned char *answer;
	struct instant begun, ended;
	enum dns_result result;
	size_t before = out->count;
	int len;

	if (res_ninit(&state) == -1)
		return DNS_SILENT;
	state.retrans = WAIT_SECONDS;
	state.retry = TRIES;
	answer = mem_alloc(ANSWER_MAX);
	clock_read(&begun);
	errno = 0;
	len =
	    res_nquery(&state, name, ns_c_in, types[type], answer, ANSWER_MAX);
	if (len > ANSWER_MAX)
		len = ANSWER_MAX;
	if (len > 0) {
		bool whole = read_answer(answer, len, types[type], out);

		if (out->count > before)
			result = DNS_FOUND;
		else
			result = whole ? DNS_NO_DATA : DNS_REFUSED;
	} else {
		int error = errno;

		clock_read(&ended);
		result = failure(&state, error, ended.mono_ms - begun.mono_ms);
	}
	res_nclose(&state);
	free(answer);
	return result;
}
