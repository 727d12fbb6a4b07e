/*
 * A header section, rewritten on its way in (header.c, rewrite_header.c,
 * rewrite.c).
 *
 * input: an octet that chooses rules, and the header section.
 *
 * wrap: random_bits
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 4 }; /* recipients */

uint64_t __wrap_random_bits(void);

uint64_t
__wrap_random_bits(void)
{
	return 42;
}

/* ---- rules ---- */

static struct {
	struct strings local_names, header_add, allowed;
	struct strings entries;
	struct aliases *aliases;
	struct address_map *masquerade;
} parts;

static void
ignore(void *arg, unsigned line, const char *text)
{
	(void)arg;
	(void)line;
	(void)text;
}

static void
make_parts(void)
{
	if (parts.aliases != NULL)
		return;
	strings_add(&parts.local_names, SPAN("localhost"));
	strings_add(&parts.local_names, SPAN("web1.example.com"));
	strings_add(&parts.header_add, SPAN("X-Env: staging and more"));
	strings_add(&parts.allowed, SPAN("*@example.com"));
	strings_add(&parts.entries, SPAN("app@web2.example=a@b.example"));
	strings_add(&parts.entries, SPAN("@web2.example=@example.com"));
	parts.masquerade = address_map_new(&parts.entries);
	parts.aliases = aliases_parse(
	    SPAN("root: admin, joe@example.com\nadmin: you@example.com\n"
		 "loop: pool, \\loop\npool: loop\nall: a@b.c, d@e.f, g@h.i\n"),
	    ignore, NULL);
}

static struct rewrite_rules
choose_rules(unsigned bits)
{
	struct rewrite_rules rules = {
		.hostname = (bits & 1) != 0 ? "web1.example.com" : "web1",
		.origin = "example.com",
		.local_names = &parts.local_names,
		.aliases = (bits & 2) != 0 ? parts.aliases : NULL,
		.local_to = (bits & 4) != 0 ? "ops@example.com" : "",
		.redirect = "",
		.from = (bits & 8) != 0 ? "alerts@example.com" : "",
		.masquerade = (bits & 16) != 0 ? parts.masquerade : NULL,
		.from_mode = (enum from_mode)(bits >> 5 & 3) % 3,
		.header_add = (bits & 128) != 0 ? &parts.header_add : NULL,
		.recipient_limit = bits == 255 ? FEW : 1000,
	};

	return rules;
}

static const struct rewrite_facts facts = {
	.id = "0123456789ab",
	.client = "localhost [127.0.0.1]",
	.helo = "client.example",
	.protocol = "ESMTP",
	.sender = "root",
	.wall_ms = 1700000000000,
};

/* ---- what must hold ---- */

static size_t
longest_line(struct span text)
{
	struct span line;
	size_t longest = 0;

	while (text.len > 0) {
		line = take_line(&text);
		if (line.len > longest)
			longest = line.len;
	}
	return longest;
}

/* It is all header, without control characters and what is not passed on. */
static void
check_valid(struct span header)
{
	static const char *const gone[] = { "Bcc", "Resent-Bcc",
		"Return-Path" };
	static const char *const there[] = { "Received", "From", "Date",
		"Message-ID" };
	size_t i, scanned = 0, end = 0, body = 0;
	struct strings list = { 0 };

	assert(is_canonical(header));
	for (i = 0; i < header.len; i++)
		assert(strchr("\t\r\n", header.data[i]) != NULL ||
		    is_clean(span_first(span_from(header, i), 1)));
	assert(!header_end(header, &scanned, &end, &body));
	for (i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		assert(!header_has(header, span_of(gone[i])));
	for (i = 0; i < sizeof(there) / sizeof(there[0]); i++)
		assert(header_has(header, span_of(there[i])));
	assert(span_starts_nocase(header, SPAN("Received: from client.")));
	(void)header_recipients(header, &list);
	for (i = 0; i < list.count; i++)
		assert(smtp_address_valid(span_of(list.item[i]),
		    ADDRESS_BARE | ADDRESS_UTF8));
	strings_free(&list);
}

/* What is complete and valid stays, but for Received on top; unless there were
 * so many recipients that not all local names were replaced. */
static void
check_again(struct rewrite_rules rules, struct span header)
{
	struct buf out = { 0 };

	if (rules.recipient_limit == FEW)
		return;
	rules.header_add = NULL;
	if (rewrite_header(&rules, &facts, header, &out) == NULL)
		assert(out.len > header.len &&
		    span_equal(span_from(buf_span(&out), out.len - header.len),
			header));
	buf_clear(&out);
	rewrite_header_again(&rules, NULL, 0, header, &out);
	assert(span_equal(buf_span(&out), header));
	buf_free(&out);
}

/* An address that has become two. */
static void
check_change(const struct rewrite_rules *rules, struct span header)
{
	struct rewrite_change change = { .was = "you@example.com" };
	struct buf out = { 0 };

	strings_add(&change.now, SPAN("i@example.com"));
	strings_add(&change.now, SPAN("they@example.com"));
	rewrite_header_again(rules, &change, 1, header, &out);
	check_valid(buf_span(&out));
	strings_free(&change.now);
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size), header;
	struct buf text = { 0 }, out = { 0 };
	struct rewrite_rules rules;
	const char *refusal;
	size_t scanned = 0, end = 0, body = 0, most;

	make_parts();
	rules = choose_rules(take_octet(&in));
	make_canonical(in, &text);
	if (!header_end(buf_span(&text), &scanned, &end, &body))
		end = text.len;
	header = span_first(buf_span(&text), end);
	refusal = rewrite_header(&rules, &facts, header, &out);
	if (refusal == NULL) {
		check_valid(buf_span(&out));
		most = longest_line(header);
		assert(
		    longest_line(buf_span(&out)) <= (most < 999 ? 999 : most));
		check_again(rules, buf_span(&out));
		check_change(&rules, buf_span(&out));
	} else {
		assert(refusal[0] == '5');
	}
	buf_free(&text);
	buf_free(&out);
	return 0;
}
