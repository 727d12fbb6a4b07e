/*
 * A key of relayd.conf changed (config_edit.c), the files in memory.
 *
 * input: the key, a line; its values, a line each, up to an empty one; the
 * file, and behind a line "%%" the one that it may include by its number.
 */
#include "../../config_parts.h"

#include "fuzz.h"

#include <stdlib.h>

static const char *
fill(struct span text)
{
	fill_memory_file(MAIN_FILE, text, 0600);
	return FUZZ_MAIN;
}

static size_t
count_entries(struct span text, struct scan *s)
{
	struct buf error = { 0 };

	assert(config_scan(fill(text), s, &error) == 0);
	buf_free(&error);
	return s->entry_count;
}

/* It has the key, all that it had, and stays when it is changed once more. */
static void
check_changed(struct span was, struct span is, const char *key,
    const struct strings *values)
{
	struct scan before = { .entry = NULL }, after = { .entry = NULL };
	struct buf again = { 0 }, error = { 0 };
	size_t old = count_entries(was, &before);
	size_t new = count_entries(is, &after);

	assert(new == old || new == old + 1);
	assert(strchr(key, '.') != NULL ||
	    config_scan_find(&after, SCAN_GLOBAL, key) != NULL);
	assert(config_edit(fill(is), key, values, &again, &error) == 0);
	assert(span_equal(buf_span(&again), is));
	config_scan_free(&before);
	config_scan_free(&after);
	buf_free(&again);
	buf_free(&error);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size), line, included = { NULL, 0 };
	char *key = span_text(take_line(&in));
	struct strings values = { NULL, 0 };
	struct buf text = { 0 }, error = { 0 };

	while ((line = take_line(&in)).len > 0)
		strings_add(&values, line);
	if (values.count == 0)
		strings_add(&values, line);
	(void)make_memory_files();
	(void)cut_file(&in, &included);
	fill_memory_file(INCLUDED_FILE, included, 0600);
	if (config_edit(fill(in), key, &values, &text, &error) == 0) {
		assert(error.len == 0);
		check_changed(in, buf_span(&text), key, &values);
	} else {
		assert(text.len == 0 && error.len > 1);
		assert(error.data[error.len - 1] == '\n');
		for (in = buf_span(&error); in.len > 0;)
			assert(is_printable(take_line(&in)));
	}
	strings_free(&values);
	buf_free(&text);
	buf_free(&error);
	free(key);
	return 0;
}
