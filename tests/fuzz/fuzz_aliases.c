/*
 * The aliases file, and where it leads to (aliases.c, rewrite.c).
 *
 * input: an octet that chooses rules, a line with an address, and the file.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum {
	RECIPIENTS = 20,
	WAYS_MAX = 2 * RECIPIENTS * LIMIT_ALIAS_DEPTH,
	MANY = 1000, /* times the file, now and then */
};

static void
on_warning(void *arg, unsigned line, const char *text)
{
	size_t *lines = arg;

	assert(line > 0 && line <= *lines);
	assert(is_printable(span_of(text)));
}

static struct aliases *
parse(struct span text)
{
	size_t i, lines = 1;

	for (i = 0; i < text.len; i++)
		lines += text.data[i] == '\n';
	return aliases_parse(text, on_warning, &lines);
}

/* A long one is parsed in time. */
static void
try_many(struct span text)
{
	struct buf many = { 0 };
	unsigned i;

	for (i = 0; i < MANY; i++)
		buf_add(&many, text);
	aliases_free(parse(buf_span(&many)));
	buf_free(&many);
}

/* What an alias stands for is an address, or "\name". */
static void
check_targets(const struct strings *targets)
{
	size_t i;

	if (targets == NULL)
		return;
	assert(targets->count > 0);
	for (i = 0; i < targets->count; i++) {
		struct span target = span_of(targets->item[i]);

		if (target.data[0] == '\\')
			target = span_from(target, 1);
		assert(smtp_address_valid(target, ADDRESS_BARE | ADDRESS_UTF8));
	}
}

static void
try_names(const struct aliases *a, struct span text)
{
	struct span line, name, rest;

	while (text.len > 0) {
		line = take_line(&text);
		(void)span_cut(line, ':', &name, &rest);
		if (smtp_address_valid(name, ADDRESS_BARE | ADDRESS_UTF8))
			check_targets(aliases_find(a, name));
	}
}

/* ---- following them ---- */

struct ways {
	struct span address;
	size_t count;
	struct buf text;
};

static void
on_way(void *arg, const struct rewrite_hop *hop, size_t count,
    enum rewrite_result result)
{
	struct ways *ways = arg;
	size_t i;

	(void)result;
	assert(count > 0 && count <= LIMIT_ALIAS_DEPTH + 3);
	assert(span_equal(hop[0].address, ways->address));
	for (i = 0; i < count; i++)
		assert(rewrite_cause_name(hop[i].cause) != NULL);
	buf_clear(&ways->text);
	rewrite_add_way(&ways->text, hop, count);
	assert(is_printable(buf_span(&ways->text)));
	assert(++ways->count <= WAYS_MAX);
}

static bool
is_full(const char *address)
{
	struct span local, domain;

	smtp_address_split(span_of(address), &local, &domain);
	return domain.data != NULL;
}

static void
try_recipient(const struct rewrite_rules *rules, struct span address)
{
	struct address_set out = { .slots = 0 };
	struct ways ways = { .address = address };
	const struct rewrite_trace trace = { on_way, &ways };
	enum rewrite_result result;
	size_t i;

	result = rewrite_recipient(rules, address, &out, &trace);
	assert((rewrite_refusal(result) == NULL) == (result == REWRITE_OK));
	assert((out.list.count > 0) == (result == REWRITE_OK));
	assert(out.list.count <= rules->recipient_limit);
	for (i = 0; i < out.list.count; i++)
		assert(is_full(out.list.item[i]));
	if (result == REWRITE_OK)
		assert(rewrite_recipient(rules, address, &out, NULL) ==
		    REWRITE_OK);
	address_set_free(&out);
	buf_free(&ways.text);
}

static void
try_sender(const struct rewrite_rules *rules, struct span address)
{
	struct ways ways = { .address = address };
	const struct rewrite_trace trace = { on_way, &ways };
	char *sender = rewrite_sender(rules, address, &trace);

	assert(is_full(sender) && ways.count == 1);
	free(sender);
	buf_free(&ways.text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = fuzz_input(data, size), address;
	unsigned bits = take_octet(&text);
	struct strings names = { 0 }, allowed = { 0 };
	struct rewrite_rules rules = {
		.hostname = "web1.example.com",
		.origin = "example.com",
		.local_names = &names,
		.local_to = (bits & 1) != 0 ? "ops@example.com" : "",
		.redirect = (bits & 2) != 0 ? "test@example.com" : "",
		.from = (bits & 4) != 0 ? "alerts@example.com" : "",
		.allow_recipients = (bits & 8) != 0 ? &allowed : NULL,
		.from_mode = (enum from_mode)((bits >> 4) % 3),
		.recipient_limit = RECIPIENTS,
	};
	struct aliases *a;

	address = take_line(&text);
	strings_add(&names, SPAN("localhost"));
	strings_add(&allowed, SPAN("*@example.com"));
	a = parse(text);
	rules.aliases = a;
	try_names(a, text);
	if (smtp_address_valid(address, ADDRESS_BARE | ADDRESS_UTF8)) {
		try_recipient(&rules, address);
		try_sender(&rules, address);
	}
	if (crc32c(0, data, size) % 8192 == 0)
		try_many(text);
	aliases_free(a);
	strings_free(&names);
	strings_free(&allowed);
	return 0;
}
