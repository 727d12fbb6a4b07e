/*
 * dns.c, and libc's resolver below it, with a hostile name server on loopback:
 * what it answers is a row of a table.
 *
 * wrap: res_nquery
 */
#include "../relayd.h"

#include <arpa/nameser.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <resolv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define BYTES(literal)                       \
	{                                    \
		literal, sizeof(literal) - 1 \
	}

/* In octets (RFC 1035, 4.1). */
enum { HEADER_LEN = 12, TYPE_AND_CLASS = 4, QUERY_MAX = 512 };
/* How the answer travels. */
enum transport {
	UDP,
	TCP, /* by UDP but the question, marked as cut short */
	CUT  /* the same, and TCP hangs up */
};

struct record {
	struct span owner; /* empty: the name that is asked for */
	int type;          /* 0: that is asked for */
	struct span data;
	unsigned lie; /* octets that the length says too many */
};

struct scene {
	const char *name;
	enum dns_type type;
	enum transport transport;
	struct record record[2]; /* those whose data is not NULL */
	unsigned copies;         /* of the first record, beside it */
	unsigned lie;            /* records that the header counts too many */
	unsigned code;           /* RFC 1035, 4.1.1 */
	unsigned id;             /* how far it is off */
	size_t missing;          /* octets at the end */
	enum dns_result result;
	size_t count;
	const char *last;
};

#define A                                            \
	{                                            \
		BYTES(""), 0, BYTES("\300\0\2\1"), 0 \
	}
#define SPF                                              \
	{                                                \
		BYTES(""), 0, BYTES("\13v=spf1 -all"), 0 \
	}
/* The name asked for, "a.test", stands at 12 (\14), its "test" at 14 (\16); the
 * first record at 24 (\30), and its data at 36 (\44). */
#define ALIAS(owner, target)                               \
	{                                                  \
		BYTES(owner), ns_t_cname, BYTES(target), 0 \
	}

static const struct scene scenes[] = {
	{ .name = "an address",
	    .record = { A },
	    .count = 1,
	    .last = "192.0.2.1" },
	{ .name = "an IPv6 address",
	    .type = DNS_AAAA,
	    .record = { { .data =
			      BYTES("\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1") } },
	    .count = 1,
	    .last = "2001:db8::1" },
	{ .name = "an MX",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\12\2mx\300\14") } },
	    .count = 1,
	    .last = "10 mx.a.test" },
	{ .name = "an MX that is none (RFC 7505)",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\0\0") } },
	    .count = 1,
	    .last = "0 ." },
	{ .name = "strings are one text",
	    .type = DNS_TXT,
	    .record = { { .data = BYTES("\6v=spf1\0\5 -all") } },
	    .count = 1,
	    .last = "v=spf1 -all" },
	{ .name = "an address behind an alias",
	    .record = { ALIAS("\300\14", "\1b\300\16"),
		{ BYTES("\1b\300\16"), 0, BYTES("\300\0\2\1"), 0 } },
	    .count = 1,
	    .last = "192.0.2.1" },
	{ .name = "aliases in a ring",
	    .record = { ALIAS("\300\14", "\1b\300\16"),
		ALIAS("\1b\300\16", "\300\14") },
	    .result = DNS_NO_DATA },
	{ .name = "an alias of itself",
	    .record = { ALIAS("\300\14", "\300\14") },
	    .result = DNS_NO_DATA },
	{ .name = "no record", .result = DNS_NO_DATA },
	{ .name = "no such name",
	    .code = ns_r_nxdomain,
	    .result = DNS_NO_NAME },
	{ .name = "no such name, and an address",
	    .code = ns_r_nxdomain,
	    .record = { A },
	    .result = DNS_NO_NAME },
	{ .name = "the server fails",
	    .code = ns_r_servfail,
	    .result = DNS_REFUSED },
	{ .name = "the server refuses",
	    .code = ns_r_refused,
	    .result = DNS_REFUSED },
	{ .name = "the server understands nothing",
	    .code = ns_r_formerr,
	    .result = DNS_REFUSED },
	{ .name = "an address of three octets",
	    .record = { { .data = BYTES("\300\0\2") }, A },
	    .count = 1,
	    .last = "192.0.2.1" },
	{ .name = "an address of five octets",
	    .record = { { .data = BYTES("\300\0\2\1\1") } },
	    .result = DNS_NO_DATA },
	{ .name = "an IPv6 address of four octets",
	    .type = DNS_AAAA,
	    .record = { A },
	    .result = DNS_NO_DATA },
	{ .name = "a string that is longer than its record",
	    .type = DNS_TXT,
	    .record = { { .data = BYTES("\14v=spf1 -all") }, SPF },
	    .count = 1,
	    .last = "v=spf1 -all" },
	{ .name = "a text without string",
	    .type = DNS_TXT,
	    .record = { { .data = BYTES("") } },
	    .count = 1,
	    .last = "" },
	{ .name = "a text with a NUL",
	    .type = DNS_TXT,
	    .record = { { .data = BYTES("\11v=spf1\0+a") } },
	    .count = 1,
	    .last = "v=spf1" },
	{ .name = "an MX without host",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\12") },
		{ .data = BYTES("\0\12\2mx\300\14") } },
	    .count = 1,
	    .last = "10 mx.a.test" },
	{ .name = "a text that nobody asked for",
	    .record = { A, { .type = ns_t_txt, .data = BYTES("\4spam") } },
	    .count = 1,
	    .last = "192.0.2.1" },
	{ .name = "an MX whose host points to itself",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\12\300\46") } },
	    .result = DNS_NO_DATA },
	{ .name = "an MX whose host is a ring of two",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\12\300\50\300\46") } },
	    .result = DNS_NO_DATA },
	{ .name = "an MX whose host points behind the end",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\12\377\377") } },
	    .result = DNS_NO_DATA },
	{ .name = "an MX whose host has no end",
	    .type = DNS_MX,
	    .record = { { .data = BYTES("\0\12\77mx") } },
	    .result = DNS_NO_DATA },
	{ .name = "an owner that points to itself",
	    .record = { { BYTES("\300\30"), 0, BYTES("\300\0\2\1"), 0 } },
	    .result = DNS_REFUSED },
	{ .name = "an owner behind the end",
	    .record = { A, { BYTES("\377\377"), 0, BYTES("\300\0\2\2"), 0 } },
	    .count = 1,
	    .last = "192.0.2.1" },
	{ .name = "a record that is longer than the answer",
	    .record = { { .data = BYTES("\300\0\2\1"), .lie = 1 } },
	    .result = DNS_REFUSED },
	{ .name = "a record that is much longer than the answer",
	    .record = { { .data = BYTES("\300\0\2\1"), .lie = 65531 } },
	    .result = DNS_REFUSED },
	{ .name = "fewer records than it says",
	    .record = { A },
	    .lie = 65534,
	    .result = DNS_REFUSED },
	{ .name = "an end within an address",
	    .record = { A, A },
	    .missing = 2,
	    .result = DNS_REFUSED },
	{ .name = "an end within a record's head",
	    .record = { A, A },
	    .missing = 6,
	    .result = DNS_REFUSED },
	{ .name = "an answer by TCP",
	    .transport = TCP,
	    .record = { A },
	    .count = 1,
	    .last = "192.0.2.1" },
	{ .name = "1000 records",
	    .type = DNS_TXT,
	    .transport = TCP,
	    .record = { SPF },
	    .copies = 999,
	    .count = 1000,
	    .last = "v=spf1 -all" },
	{ .name = "all the records that there is room for",
	    .type = DNS_TXT,
	    .transport = TCP,
	    .record = { { .data = BYTES("\0") } },
	    .copies = 5038,
	    .count = 5039,
	    .last = "" },
	{ .name = "cut short, and no TCP",
	    .transport = CUT,
	    .record = { A },
	    .result = DNS_REFUSED },
	{ .name = "the answer to another question",
	    .id = 1,
	    .record = { A },
	    .result = DNS_SILENT },
};

struct server {
	pthread_t thread;
	struct sockaddr_in address;
	int udp, tcp;
	int stop[2];
	const struct scene *scene;
};

static struct server server;

int __real_res_nquery(res_state state, const char *name, int class, int type,
    unsigned char *answer, int room);
int __wrap_res_nquery(res_state state, const char *name, int class, int type,
    unsigned char *answer, int room);

int
__wrap_res_nquery(res_state state, const char *name, int class, int type,
    unsigned char *answer, int room)
{
	state->nscount = 1;
	state->nsaddr_list[0] = server.address;
	return __real_res_nquery(state, name, class, type, answer, room);
}

static void
add_number(struct buf *out, size_t number)
{
	buf_add_char(out, (char)(number >> 8));
	buf_add_char(out, (char)number);
}

static void
add_record(struct buf *out, const struct record *r, int type)
{
	if (r->owner.len > 0)
		buf_add(out, r->owner);
	else
		buf_add(out, SPAN("\300\14"));
	add_number(out, (size_t)(r->type == 0 ? type : r->type));
	buf_add(out, SPAN("\0\1\0\0\0\74")); /* IN, for a minute */
	add_number(out, r->data.len + r->lie);
	buf_add(out, r->data);
}

static void
make_answer(const struct scene *scene, const char *query, bool cut,
    struct buf *out)
{
	const struct record *r = scene->record;
	size_t i, question = HEADER_LEN + strlen(query + HEADER_LEN) + 1;
	int type = (int)ns_get16((const unsigned char *)query + question);
	struct buf records = { NULL, 0, 0 };
	size_t count = 0;

	for (i = 0; i <= scene->copies && r->data.data != NULL; i++, count++)
		add_record(&records, &r[0], type);
	for (i = 1; i < COUNT(scene->record) && r[i].data.data != NULL; i++)
		add_record(&records, &r[i], type);
	count += i - 1;
	add_number(out, ns_get16((const unsigned char *)query) + scene->id);
	add_number(out, 0x8180 | (cut ? 0x0200 : 0) | scene->code);
	add_number(out, 1);
	add_number(out, cut ? 0 : count + scene->lie);
	buf_add(out, SPAN("\0\0\0\0"));
	buf_append(out, query + HEADER_LEN,
	    question + TYPE_AND_CLASS - HEADER_LEN);
	if (!cut)
		buf_add(out, buf_span(&records));
	out->len -= scene->missing;
	buf_free(&records);
}

static void
serve_udp(void)
{
	char query[QUERY_MAX] = "";
	struct buf answer = { NULL, 0, 0 };
	struct sockaddr_in peer;
	socklen_t peer_len = sizeof(peer);
	ssize_t len = recvfrom(server.udp, query, sizeof(query) - 1, 0,
	    (struct sockaddr *)&peer, &peer_len);

	if (len <= HEADER_LEN)
		return;
	make_answer(server.scene, query, server.scene->transport != UDP,
	    &answer);
	(void)sendto(server.udp, answer.data, answer.len, 0,
	    (struct sockaddr *)&peer, peer_len);
	buf_free(&answer);
}

static void
serve_tcp(void)
{
	char query[2 + QUERY_MAX] = "";
	struct buf answer = { NULL, 0, 0 }, framed = { NULL, 0, 0 };
	int fd = accept(server.tcp, NULL, NULL);

	/* A query is short, and comes in one piece. */
	if (fd != -1 && server.scene->transport == TCP &&
	    read(fd, query, sizeof(query) - 1) > HEADER_LEN) {
		make_answer(server.scene, query + 2, false, &answer);
		add_number(&framed, answer.len);
		buf_add(&framed, buf_span(&answer));
		(void)write_all(fd, buf_span(&framed));
	}
	fd_close(&fd);
	buf_free(&answer);
	buf_free(&framed);
}

static void *
serve(void *arg)
{
	struct pollfd p[] = { { server.udp, POLLIN, 0 },
		{ server.tcp, POLLIN, 0 }, { server.stop[0], POLLIN, 0 } };

	while (poll(p, COUNT(p), -1) > 0 && p[2].revents == 0) {
		if (p[0].revents != 0)
			serve_udp();
		if (p[1].revents != 0)
			serve_tcp();
	}
	return arg;
}

static int
start(void **state)
{
	struct sockaddr_in *a = &server.address;
	socklen_t len = sizeof(*a);

	(void)state;
	*a = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	server.tcp = socket(AF_INET, SOCK_STREAM, 0);
	server.udp = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(server.tcp, (struct sockaddr *)a, len), 0);
	assert_int_equal(getsockname(server.tcp, (struct sockaddr *)a, &len),
	    0);
	assert_int_equal(bind(server.udp, (struct sockaddr *)a, len), 0);
	assert_int_equal(listen(server.tcp, 1), 0);
	assert_int_equal(pipe(server.stop), 0);
	return pthread_create(&server.thread, NULL, serve, NULL);
}

static int
stop(void **state)
{
	(void)state;
	fd_close(&server.stop[1]);
	(void)pthread_join(server.thread, NULL);
	fd_close(&server.stop[0]);
	fd_close(&server.udp);
	fd_close(&server.tcp);
	return 0;
}

static void
hostile_answers_are_survived(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(scenes); i++) {
		const struct scene *scene = &scenes[i];
		struct strings found = { NULL, 0 };
		enum dns_result result;

		server.scene = scene;
		result = dns_query("a.test", scene->type, &found);
		if (result != scene->result || found.count != scene->count ||
		    (scene->count > 0 &&
			strcmp(found.item[found.count - 1], scene->last) != 0))
			fail_msg("%s: %d, %zu records, \"%s\"", scene->name,
			    (int)result, found.count,
			    found.count > 0 ? found.item[found.count - 1] : "");
		strings_free(&found);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hostile_answers_are_survived,
		    start, stop),
	};

	return cmocka_run_group_tests_name("dns", tests, NULL, NULL);
}
