/*
 * relayd.conf (config_*.c, config.c, libconfuse).
 *
 * input: an octet that chooses the files' mode, the main file, and behind a
 * line "%%" the one that it may include as FUZZ_INCLUDED.  Both are in memory.
 */
#include "../../config_parts.h"

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static void
make_files(void)
{
	if (!make_memory_files())
		return;
	(void)setenv("FUZZ_HOST", "h.example", 1);
	(void)setenv("FUZZ_LINES", "a\nb = \"c\"", 1);
	(void)setenv("CREDENTIALS_DIRECTORY", "/nowhere", 1);
}

/* ---- what must hold ---- */

/* "FILE:LINE: KEY: text", one a line. */
static void
check_lines(struct span rest)
{
	struct span line, file, number;
	uint64_t at;
	bool whole;

	while (rest.len > 0) {
		whole = span_cut(rest, '\n', &line, &rest);
		assert(whole && is_clean(line));
		if (span_equal(line, SPAN("more errors are not shown")))
			continue;
		assert(span_cut(line, ':', &file, &line));
		assert(span_equal(file, SPAN(FUZZ_MAIN)) ||
		    span_equal(file, SPAN(FUZZ_INCLUDED)) ||
		    file.data[0] == '/');
		assert(span_cut(line, ':', &number, &line));
		assert(parse_number(number, UINT32_MAX, &at));
		assert(line.len > 2 && line.data[0] == ' ');
	}
}

static bool
is_given(const char *text)
{
	assert(text != NULL && is_clean(span_of(text)));
	return *text != '\0';
}

static void
check_relay(const struct config_relay *r)
{
	struct buf password = { 0 }, error = { 0 };

	assert(
	    is_given(r->name) && (is_given(r->host) || is_given(r->maildir)));
	assert(is_given(r->maildir) || (r->port >= 1 && r->port <= 65535));
	assert(r->connections >= 1 && r->pipeline >= 1);
	assert(
	    r->messages_per_connection >= 1 && r->recipients_per_message >= 1);
	assert(r->timeout > 0 && r->connect_timeout > 0);
	(void)config_relay_serves(r, SPAN("a@b.example"));
	if (is_given(r->user) && config_password(r, &password, &error) == -1)
		assert(error.len > 0);
	buf_wipe(&password);
	buf_free(&error);
}

/* It can be used: what it makes of addresses are addresses. */
static void
check_rules(const struct config *c)
{
	struct rewrite_rules rules = { .recipient_limit = 0 };
	struct address_set to = { .slots = 0 };
	char *sender;
	size_t i;

	config_rules(c, &rules);
	if (rewrite_recipient(&rules, SPAN("root"), &to, NULL) == REWRITE_OK)
		for (i = 0; i < to.list.count; i++)
			assert(smtp_address_valid(span_of(to.list.item[i]),
			    ADDRESS_UTF8));
	sender = rewrite_sender(&rules, SPAN("root"), NULL);
	assert(smtp_address_valid(span_of(sender), ADDRESS_UTF8));
	free(sender);
	address_set_free(&to);
}

static void
check_config(const struct config *c)
{
	size_t i;

	assert(c->relay_count > 0 && c->retry_count > 0);
	assert(is_given(c->hostname) && is_given(c->origin));
	assert(is_given(c->spool) && is_given(c->control));
	assert(c->recipient_limit > 0 && c->connection_limit > 0);
	for (i = 0; i < c->relay_count; i++)
		check_relay(&c->relay[i]);
	for (i = 0; i < c->listen_count; i++)
		assert(is_given(c->listen[i].address));
	check_rules(c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size), included = { NULL, 0 };
	struct buf errors = { 0 }, warnings = { 0 };
	struct config *c;
	unsigned bits;

	make_files();
	bits = take_octet(&in);
	(void)cut_file(&in, &included);
	fill_memory_file(MAIN_FILE, in, (bits & 1) != 0 ? 0644 : 0600);
	fill_memory_file(INCLUDED_FILE, included,
	    (bits & 2) != 0 ? 0644 : 0600);
	c = config_load(FUZZ_MAIN, &errors, &warnings);
	assert((c == NULL) == (errors.len > 0));
	check_lines(buf_span(&errors));
	check_lines(buf_span(&warnings));
	if (c != NULL)
		check_config(c);
	config_release(c);
	buf_free(&errors);
	buf_free(&warnings);
	return 0;
}
