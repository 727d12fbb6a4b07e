/*
 * Addresses in tables: a set without two alike, the map of "masquerade", the
 * patterns of "allow_recipients".  Addresses are compared without case and
 * whole, never by a part; what they are looked up for is rewrite.c's.
 */
#include "relayd.h"

#include <stdlib.h>
#include <string.h>

/* ---- a set ---- */

static char
fold_case(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	return c;
}

/* FNV-1a. */
static size_t
hash(struct span s)
{
	uint64_t h = 0xcbf29ce484222325u;
	size_t i;

	for (i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)fold_case(s.data[i])) * 0x100000001b3u;
	return (size_t)(h ^ h >> 32);
}

/* Where the address is, or the free place for it. */
static size_t *
find_slot(const struct address_set *set, struct span address)
{
	size_t at = hash(address) & (set->slots - 1);

	while (set->slot[at] != 0 &&
	    !span_equal_nocase(span_of(set->list.item[set->slot[at] - 1]),
		address))
		at = (at + 1) & (set->slots - 1);
	return &set->slot[at];
}

/* Keep at least half of the slots free. */
static void
make_slots(struct address_set *set)
{
	size_t i;

	if (set->list.count < set->slots / 2)
		return;
	set->slots = set->slots == 0 ? 16 : set->slots * 2;
	free(set->slot);
	set->slot = mem_alloc(set->slots * sizeof(*set->slot));
	for (i = 0; i < set->list.count; i++)
		*find_slot(set, span_of(set->list.item[i])) = i + 1;
}

bool
address_set_have(const struct address_set *set, struct span address)
{
	return set->slots > 0 && *find_slot(set, address) != 0;
}

bool
address_set_add(struct address_set *set, struct span address)
{
	size_t *slot;

	make_slots(set);
	slot = find_slot(set, address);
	if (*slot != 0)
		return false;
	strings_add(&set->list, address);
	*slot = set->list.count;
	return true;
}

void
address_set_free(struct address_set *set)
{
	strings_free(&set->list);
	free(set->slot);
	*set = (struct address_set){ .slots = 0 };
}

/* ---- masquerade ---- */

struct mapping {
	char *from; /* lower case */
	char *to;
};

struct address_map {
	struct mapping *mapping; /* in the order of from */
	size_t count;
};

static bool
is_domain(struct span text)
{
	struct buf address = { NULL, 0, 0 };
	bool valid;

	/* Behind the longest local part it must still make an address. */
	buf_add_char(&address, 'a');
	buf_add(&address, text);
	valid = text.len > 1 && text.data[0] == '@' &&
	    text.len <= LIMIT_ADDRESS - LIMIT_LOCAL_PART &&
	    smtp_address_valid(buf_span(&address), 0);
	buf_free(&address);
	return valid;
}

/* Local parts may hold '=', domains may not: so the first '=' counts that has
 * an address or a domain before it. */
static bool
split_entry(struct span entry, struct span *from, struct span *to)
{
	size_t i;

	for (i = 0; i < entry.len; i++) {
		*from = span_first(entry, i);
		*to = span_from(entry, i + 1);
		if (entry.data[i] == '=' &&
		    ((smtp_address_valid(*from, 0) &&
			 smtp_address_valid(*to, 0)) ||
			(is_domain(*from) && is_domain(*to))))
			return true;
	}
	return false;
}

const char *
address_map_check(struct span entry)
{
	struct span from, to;

	return split_entry(entry, &from, &to)
	    ? NULL
	    : "must be \"ADDRESS=ADDRESS\" or \"@DOMAIN=@DOMAIN\"";
}

static char *
fold_text(struct span s)
{
	char *text = span_text(s), *c;

	for (c = text; *c != '\0'; c++)
		*c = fold_case(*c);
	return text;
}

static int
compare(const void *left, const void *right)
{
	return strcmp(((const struct mapping *)left)->from,
	    ((const struct mapping *)right)->from);
}

struct address_map *
address_map_new(const struct strings *entries)
{
	struct address_map *map = mem_alloc(sizeof(*map));
	size_t i;

	map->mapping =
	    mem_array(NULL, entries->count + 1, sizeof(*map->mapping));
	for (i = 0; i < entries->count; i++) {
		struct span from, to;

		if (split_entry(span_of(entries->item[i]), &from, &to))
			map->mapping[map->count++] =
			    (struct mapping){ fold_text(from), span_text(to) };
	}
	qsort(map->mapping, map->count, sizeof(*map->mapping), compare);
	return map;
}

const char *
address_map_twice(const struct address_map *map)
{
	size_t i;

	for (i = 1; i < map->count; i++)
		if (compare(&map->mapping[i - 1], &map->mapping[i]) == 0)
			return map->mapping[i].from;
	return NULL;
}

static const char *
look_up(const struct address_map *map, struct span from)
{
	struct mapping key = { .from = fold_text(from) }, *found;

	found = bsearch(&key, map->mapping, map->count, sizeof(*map->mapping),
	    compare);
	free(key.from);
	return found == NULL ? NULL : found->to;
}

bool
address_map_find(const struct address_map *map, struct span address,
    struct buf *out)
{
	struct span local, domain;
	const char *to;

	if (map == NULL || map->count == 0)
		return false;
	smtp_address_split(address, &local, &domain);
	if (domain.data == NULL || local.len == 0)
		return false;
	to = look_up(map, address);
	if (to == NULL) {
		to = look_up(map, span_from(address, local.len));
		if (to == NULL || local.len > LIMIT_LOCAL_PART)
			return false;
		buf_add(out, local);
	}
	buf_add_text(out, to);
	return true;
}

void
address_map_free(struct address_map *map)
{
	size_t i;

	if (map == NULL)
		return;
	for (i = 0; i < map->count; i++) {
		free(map->mapping[i].from);
		free(map->mapping[i].to);
	}
	free(map->mapping);
	free(map);
}

/* ---- patterns ---- */

const char *
address_pattern_check(struct span pattern)
{
	struct buf example = { NULL, 0, 0 };
	bool any = pattern.len > 0 && memchr(pattern.data, '*', pattern.len);
	bool valid;

	/* '*' is itself a letter of local parts, but not of domains. */
	if (pattern.len > 0 && pattern.data[0] == '@')
		buf_add_char(&example, 'a');
	buf_add(&example, pattern);
	for (size_t i = 0; i < example.len; i++)
		if (example.data[i] == '*')
			example.data[i] = 'a';
	valid = smtp_address_valid(buf_span(&example),
	    ADDRESS_UTF8 | (any ? ADDRESS_BARE : 0));
	buf_free(&example);
	return valid ? NULL
		     : "must be an address, \"@DOMAIN\" or a pattern with '*'";
}

/* Is the whole text as the pattern says?  When a letter differs it goes back
 * to the last '*' only: what earlier ones took can stay. */
static bool
matches(struct span pattern, struct span text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, taken = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.data[p] == '*') {
			star = p++;
			taken = t;
		} else if (p < pattern.len &&
		    fold_case(pattern.data[p]) == fold_case(text.data[t])) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++taken;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.data[p] == '*')
		p++;
	return p == pattern.len;
}

bool
address_matches(struct span pattern, struct span address)
{
	struct span local, domain;

	if (pattern.len == 0 || pattern.data[0] != '@')
		return matches(pattern, address);
	smtp_address_split(address, &local, &domain);
	return domain.data != NULL && matches(span_from(pattern, 1), domain);
}
