/*
 * Addresses: alone, in lists, in maps and patterns (smtp.c, header.c,
 * addresses.c).
 *
 * input: lines; each is tried as each of these.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { MODEL_MAX = 512 }; /* octets of what the model of patterns is given */

/* ---- one address ---- */

static void
check_parts(struct span address)
{
	struct span local, domain;
	struct buf again = { 0 };

	smtp_address_split(address, &local, &domain);
	assert(local.len > 0 && local.len <= LIMIT_LOCAL_PART);
	buf_add(&again, local);
	if (domain.data != NULL) {
		assert(domain.len > 0 && domain.len <= LIMIT_DOMAIN);
		buf_add_char(&again, '@');
		buf_add(&again, domain);
	}
	assert(span_equal(buf_span(&again), address));
	buf_free(&again);
}

/* In a command it is the address that it is alone. */
static void
check_in_path(struct span address)
{
	struct buf arg = { 0 };
	struct span again, parameters;

	buf_add_text(&arg, "TO:<");
	buf_add(&arg, address);
	buf_add_text(&arg, ">");
	assert(smtp_path(buf_span(&arg), SPAN("TO:"), true, &again,
		   &parameters) == NULL);
	assert(span_equal(again, address) && parameters.len == 0);
	buf_free(&arg);
}

/* In a list too; but what looks like an encoded word may hide a name. */
static void
check_in_list(struct span address)
{
	struct strings list = { 0 };

	if (span_starts_nocase(address, SPAN("=?")))
		return;
	assert(address_list(address, &list));
	assert(list.count == 1);
	assert(span_equal(span_of(list.item[0]), address));
	strings_free(&list);
}

static void
try_address(struct span text)
{
	unsigned flags;
	bool valid[4];

	for (flags = 0; flags < 4; flags++)
		valid[flags] = smtp_address_valid(text, flags);
	assert(valid[ADDRESS_BARE | ADDRESS_UTF8] || !valid[ADDRESS_BARE]);
	assert(valid[ADDRESS_BARE | ADDRESS_UTF8] || !valid[ADDRESS_UTF8]);
	assert(valid[ADDRESS_BARE] || !valid[0]);
	assert(valid[ADDRESS_UTF8] || !valid[0]);
	if (!valid[ADDRESS_BARE | ADDRESS_UTF8])
		return;
	assert(text.len <= LIMIT_ADDRESS && is_clean(text));
	assert(span_is_utf8(text));
	assert(!valid[ADDRESS_BARE] || is_printable(text));
	check_parts(text);
	check_in_path(text);
	check_in_list(text);
}

/* ---- lists ---- */

static void
try_list(struct span text)
{
	struct strings list = { 0 };
	size_t i;

	(void)address_list(text, &list);
	for (i = 0; i < list.count; i++)
		assert(smtp_address_valid(span_of(list.item[i]),
		    ADDRESS_BARE | ADDRESS_UTF8));
	strings_free(&list);
}

/* ---- maps ---- */

/* The first '=' that parts an entry so that both sides are of one kind. */
static void
check_entry(const struct address_map *map, struct span entry)
{
	struct span local, domain;
	struct buf out = { 0 };
	struct buf left = { 0 };

	if (entry.data[0] == '@') {
		(void)span_cut(entry, '=', &local, &domain);
		buf_add_char(&left, 'a');
		buf_add(&left, local);
		assert(address_map_find(map, buf_span(&left), &out));
		assert(span_starts_nocase(buf_span(&out), SPAN("a@")));
		assert(span_equal(span_from(buf_span(&out), 1), domain));
	}
	buf_free(&left);
	buf_free(&out);
}

static void
try_map(struct span text)
{
	struct strings entries = { 0 };
	struct address_map *map;
	struct buf out = { 0 };

	if (text.len == 0 || address_map_check(text) != NULL)
		return;
	assert(is_clean(text));
	strings_add(&entries, text);
	map = address_map_new(&entries);
	assert(address_map_twice(map) == NULL);
	check_entry(map, text);
	if (address_map_find(map, SPAN("a@b.example"), &out))
		assert(smtp_address_valid(buf_span(&out), ADDRESS_UTF8));
	buf_free(&out);
	address_map_free(map);
	strings_free(&entries);
}

/* ---- sets ---- */

static void
try_set(struct span text)
{
	struct address_set set = { .slots = 0 };
	struct span line, rest = text;
	size_t i;

	while (rest.len > 0) {
		line = take_line(&rest);
		if (!is_clean(line)) /* it is no address */
			continue;
		assert(address_set_have(&set, line) !=
		    address_set_add(&set, line));
		assert(address_set_have(&set, line));
	}
	for (i = 0; i < set.list.count; i++)
		assert(address_set_have(&set, span_of(set.list.item[i])));
	address_set_free(&set);
}

/* ---- patterns ---- */

/* Does it match, by a table: which lengths of the text can a piece of the
 * pattern be?  Without case, as ASCII has it. */
static bool
model_matches(struct span pattern, struct span text)
{
	bool can[MODEL_MAX + 1] = { true };
	size_t p, t;

	for (p = 0; p < pattern.len; p++) {
		bool star = pattern.data[p] == '*';

		for (t = text.len; !star && t > 0; t--)
			can[t] = can[t - 1] &&
			    span_equal_nocase(
				span_first(span_from(pattern, p), 1),
				span_first(span_from(text, t - 1), 1));
		for (t = 0; star && t < text.len; t++)
			can[t + 1] = can[t + 1] || can[t];
		can[0] = can[0] && star;
	}
	return can[text.len];
}

static void
try_pattern(struct span pattern, struct span address)
{
	struct span local, domain;
	bool expected;

	if (pattern.len > MODEL_MAX || address.len > MODEL_MAX ||
	    address_pattern_check(pattern) != NULL)
		return;
	assert(is_clean(pattern));
	if (pattern.data[0] == '@') {
		smtp_address_split(address, &local, &domain);
		expected = domain.data != NULL &&
		    model_matches(span_from(pattern, 1), domain);
	} else {
		expected = model_matches(pattern, address);
	}
	assert(address_matches(pattern, address) == expected);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span line, before = { NULL, 0 }, rest = fuzz_input(data, size);

	try_set(rest);
	while (rest.len > 0) {
		line = take_line(&rest);
		try_address(line);
		try_list(line);
		try_map(line);
		try_pattern(before, line);
		before = line;
	}
	return 0;
}
