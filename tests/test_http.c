/*
 * http.c: what a request is.
 */
#include "http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define HOST "Host: x\r\n"

static void
requests_are_served_or_refused(void **state)
{
	static const struct {
		const char *head;
		enum http_status status;
		const char *path;
	} row[] = {
		{ "GET / HTTP/1.1\r\n" HOST, HTTP_OK, "/" },
		{ "GET /a HTTP/1.1\n" HOST, HTTP_OK, "/a" },
		{ "GET /a?b?/c HTTP/1.1\r\n" HOST, HTTP_OK, "/a" },
		{ "GET ? HTTP/1.1\r\n" HOST, HTTP_OK, "" },
		{ "GET http://h:1/a?b HTTP/1.1\r\n" HOST, HTTP_OK, "/a" },
		{ "GET HTTP://h HTTP/1.1\r\n" HOST, HTTP_OK, "" },
		{ "GET / HTTP/1.0\r\n", HTTP_OK, "/" },
		{ "GET / HTTP/1.1\r\nX: y\r\nhOST:\r\nZ:\r\n", HTTP_OK, "/" },
		{ "POST / HTTP/1.1\r\n" HOST, HTTP_NOT_ALLOWED, NULL },
		{ "get / HTTP/1.1\r\n" HOST, HTTP_NOT_ALLOWED, NULL },
		{ "GET / HTTP/1.1\r\n", HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.1\r\n" HOST HOST, HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.1\r\nHost : x\r\n", HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.1\r\n" HOST " y\r\n", HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.1\r\n" HOST "y\r\n", HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.1\r\n" HOST ": y\r\n", HTTP_BAD_REQUEST, NULL },
		{ "GET  HTTP/1.1\r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.1 \r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ "GET / HTTP/1.2\r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ "GET / \r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ "GET /\r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ " / HTTP/1.1\r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ "G\x80T / HTTP/1.1\r\n" HOST, HTTP_BAD_REQUEST, NULL },
		{ "", HTTP_BAD_REQUEST, NULL },
	};
	struct http_request request;
	struct buf head = { NULL, 0, 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		buf_clear(&head);
		buf_printf(&head, "%s\r\n", row[i].head);
		if (http_parse(buf_span(&head), &request) != row[i].status)
			fail_msg("%s", row[i].head);
		if (row[i].path != NULL &&
		    !span_equal(request.path, span_of(row[i].path)))
			fail_msg("the path of %s", row[i].head);
	}
	buf_free(&head);
}

static void
octets_that_are_no_text_are_refused_everywhere(void **state)
{
	char head[] = "GET / HTTP/1.0\r\nName: v\r\n\r\n";
	struct http_request request;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(head) - 1; i++) {
		char was = head[i];

		head[i] = '\0';
		assert_int_equal(
		    http_parse((struct span){ head, sizeof(head) - 1 },
			&request),
		    HTTP_BAD_REQUEST);
		head[i] = was;
	}
}

static void
the_method_and_what_is_accepted_are_told(void **state)
{
	static const struct span head =
	    SPAN("HEAD / HTTP/1.0\r\naccept: text/html,"
		 "application/openmetrics-text;version=1.0.0\r\n\r\n");
	static const struct span plain =
	    SPAN("GET / HTTP/1.0\r\nAccept: text/plain\r\n"
		 "X: application/openmetrics-text\r\n\r\n");
	struct http_request request;

	(void)state;
	assert_int_equal(http_parse(head, &request), HTTP_OK);
	assert_true(request.head && request.openmetrics);
	assert_int_equal(http_parse(plain, &request), HTTP_OK);
	assert_false(request.head || request.openmetrics);
}

/* Wherever the octets that were there already ended. */
static void
the_end_is_found_however_it_arrives(void **state)
{
	static const struct {
		struct span in;
		size_t end; /* 0: none */
	} row[] = {
		{ SPAN("a\r\n\r\nb"), 5 },
		{ SPAN("a\n\nb"), 3 },
		{ SPAN("a\n\r\nb"), 4 },
		{ SPAN("a\r\n\n"), 4 },
		{ SPAN("a\r\nb\r\n"), 0 },
		{ SPAN("a\r\r\n"), 0 },
		{ SPAN("\n"), 0 },
		{ SPAN(""), 0 },
	};
	size_t i, len, from;

	(void)state;
	for (i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		size_t end = row[i].end;

		for (len = 0; len <= row[i].in.len; len++)
			for (from = 0; from <= len; from++)
				if (from == 0 || end == 0 || from < end)
					assert_int_equal(
					    http_ended(
						span_first(row[i].in, len),
						from),
					    end != 0 && len >= end);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_served_or_refused),
		cmocka_unit_test(
		    octets_that_are_no_text_are_refused_everywhere),
		cmocka_unit_test(the_method_and_what_is_accepted_are_told),
		cmocka_unit_test(the_end_is_found_however_it_arrives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
