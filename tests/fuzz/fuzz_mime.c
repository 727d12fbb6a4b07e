/*
 * Content converted for a relayhost that can't take it as it is (convert.c,
 * mime.c, mime_header.c, encode.c, downgrade.c).
 *
 * input: an octet of what is to go (CONVERT_*), and the message.
 *
 * wrap: entry_read entry_rewind
 */
#include "../../convert.h"

#include "fuzz.h"

#include <string.h>

/* The message that is read now, a few octets a time. */
static struct {
	struct span text;
	size_t piece;
} source;

ssize_t __wrap_entry_read(struct entry *e, char *out, size_t size);
void __wrap_entry_rewind(struct entry *e);

ssize_t
__wrap_entry_read(struct entry *e, char *out, size_t size)
{
	struct span left = span_from(source.text, e->read_at);
	ssize_t n;

	n = take_from(&left, out, size < source.piece ? size : source.piece);
	e->read_at += (size_t)n;
	return n;
}

void
__wrap_entry_rewind(struct entry *e)
{
	e->read_at = 0;
}

static enum conversion_state
prepare(struct conversion *c)
{
	enum conversion_state state;

	do {
		state = conversion_prepare(c);
	} while (state == CONVERSION_MORE);
	assert(state != CONVERSION_ERROR);
	return state;
}

/* As much as was announced comes out, in pieces of any size. */
static void
read_all(struct conversion *c, size_t piece, struct buf *out)
{
	char bytes[4096];
	ssize_t n;

	buf_clear(out);
	conversion_rewind(c);
	do {
		n = conversion_read(c, bytes, piece);
		assert(n >= 0 && (size_t)n <= piece);
		buf_append(out, bytes, (size_t)n);
	} while (n > 0);
	assert(out->len == conversion_size(c));
}

/* Convert the text; false: it is to stay as it is, or can't be converted. */
static bool
convert(struct span text, unsigned wanted, size_t piece, struct buf *out)
{
	struct entry e = { .size = text.len };
	struct conversion *c;
	struct buf again = { 0 };
	bool ready;

	source.text = text;
	source.piece = piece;
	c = conversion_new(&e, wanted);
	ready = prepare(c) == CONVERSION_READY;
	if (ready) {
		read_all(c, 4096, out);
		read_all(c, 1 + piece % 100, &again);
		assert(span_equal(buf_span(out), buf_span(&again)));
	}
	conversion_free(c);
	buf_free(&again);
	return ready;
}

/* The result does not depend on the pieces, and has nothing left to convert. */
static void
check(struct span text, unsigned wanted)
{
	struct buf out = { 0 }, pieces = { 0 }, again = { 0 };
	bool converted = convert(text, wanted, SIZE_MAX, &out);

	assert(convert(text, wanted, 1 + text.len % 13, &pieces) == converted);
	if (converted) {
		assert(span_equal(buf_span(&out), buf_span(&pieces)));
		assert(is_canonical(buf_span(&out)));
		assert(!convert(buf_span(&out), wanted, SIZE_MAX, &again));
	}
	buf_free(&out);
	buf_free(&pieces);
	buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size);
	unsigned wanted = take_octet(&in) % 8;
	struct buf text = { 0 };

	make_canonical(in, &text);
	if (wanted != 0)
		check(buf_span(&text), wanted);
	buf_free(&text);
	return 0;
}
