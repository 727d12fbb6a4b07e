/*
 * What asks for the metrics (http.c).
 *
 * input: a request.
 */
#include "../../http.h"

#include "fuzz.h"

#include <string.h>

/* Its end is where it is found, however it comes in. */
static void
check_end(struct span in)
{
	size_t len, before, end = 0;

	for (len = 1; len <= in.len && end == 0; len++)
		if (http_ended(span_first(in, len), len - 1))
			end = len;
	assert((end > 0) == http_ended(in, 0));
	for (before = 0; before < end; before++)
		assert(http_ended(span_first(in, end), before));
}

static bool
is_within(struct span part, struct span whole)
{
	return part.len == 0 ||
	    (part.data >= whole.data &&
		part.data + part.len <= whole.data + whole.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size);
	struct http_request request;
	enum http_status status;

	if (in.len == 0)
		return 0;
	check_end(span_first(in, 512));
	status = http_parse(in, &request);
	assert(status == HTTP_OK || status == HTTP_BAD_REQUEST ||
	    status == HTTP_NOT_ALLOWED);
	assert(is_within(request.path, in));
	if (status == HTTP_BAD_REQUEST)
		return 0;
	assert(memchr(in.data, '\0', in.len) == NULL);
	assert(request.path.len == 0 ||
	    memchr(request.path.data, ' ', request.path.len) == NULL);
	assert(request.path.len == 0 ||
	    memchr(request.path.data, '?', request.path.len) == NULL);
	assert(!request.head || status == HTTP_OK);
	return 0;
}
