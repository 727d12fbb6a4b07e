/*
 * aliases(5), the format of sendmail's /etc/aliases: where the mail for names
 * of this machine goes.  Addresses only: relayd runs no program, appends to no
 * file and includes none.  Reads a text, not a file; following an alias into
 * the next is for rewrite.c.
 */
#include "header.h"

#include <stdlib.h>
#include <string.h>

enum { LIMIT_ALIAS = 1 << 20 }; /* an entry with its continuation lines */

struct alias {
	char *name; /* lower case, unquoted */
	struct strings targets;
	unsigned line;
};

struct aliases {
	struct alias *alias; /* in the order of their names */
	size_t count;
	const struct alias *catch_all; /* "*:", one of them */
};

/* What aliases_parse() works on. */
struct parser {
	struct aliases *aliases;
	size_t size; /* of its array */
	struct buf entry;
	unsigned line; /* where entry begins */
	void (*warn)(void *arg, unsigned line, const char *text);
	void *arg;
};

/* ---- pieces of an entry ---- */

/* The offset of the first c outside of quotes, or the length. */
static size_t
find_unquoted(struct span s, char c)
{
	bool quoted = false;
	size_t i;

	for (i = 0; i < s.len && (quoted || s.data[i] != c); i++) {
		if (s.data[i] == '\\')
			i++;
		else if (s.data[i] == '"')
			quoted = !quoted;
	}
	return i < s.len ? i : s.len;
}

/* Without the comment: a '#' at the start or behind a blank. */
static struct span
cut_comment(struct span line)
{
	size_t from = 0;

	while (from < line.len) {
		size_t at = from + find_unquoted(span_from(line, from), '#');

		if (at == 0 || line.data[at - 1] == ' ' ||
		    line.data[at - 1] == '\t')
			return span_first(line, at);
		from = at + 1;
	}
	return line;
}

/* The form in which names are kept and looked up; owned by the caller. */
static char *
fold_name(struct span name)
{
	struct buf folded = { NULL, 0, 0 };
	size_t i;

	if (name.len > 1 && name.data[0] == '"')
		name = (struct span){ name.data + 1, name.len - 2 };
	header_add_unquoted(&folded, name);
	for (i = 0; i < folded.len; i++) {
		if (folded.data[i] >= 'A' && folded.data[i] <= 'Z')
			folded.data[i] = (char)(folded.data[i] - 'A' + 'a');
	}
	(void)buf_text(&folded);
	return folded.data;
}

/* ---- parsing ---- */

static void
complain(const struct parser *p, const char *what, struct span about)
{
	struct buf text = { NULL, 0, 0 };

	buf_printf(&text, "%s: ", what);
	buf_add_escaped(&text, span_trim(span_first(about, 100)));
	p->warn(p->arg, p->line, buf_text(&text));
	buf_free(&text);
}

/* What sendmail would run, append to or read, in quotes or not. */
static bool
is_command(struct span target)
{
	if (target.data[0] == '"')
		target = span_from(target, 1);
	return span_starts_nocase(target, SPAN("|")) ||
	    span_starts_nocase(target, SPAN("/")) ||
	    span_starts_nocase(target, SPAN(":include:"));
}

/* Add what one target says; false if it can't be used. */
static bool
take_target(const struct parser *p, struct span target, struct strings *targets)
{
	struct strings list = { NULL, 0 };
	bool valid = true;
	size_t i;

	if (is_command(target)) {
		complain(p, "only addresses are supported, ignored", target);
		return false;
	}
	if (target.data[0] == '\\' &&
	    smtp_address_valid(span_from(target, 1),
		ADDRESS_BARE | ADDRESS_UTF8)) {
		strings_add(targets, target);
		return true;
	}
	valid = address_list(target, &list);
	for (i = 0; valid && i < list.count; i++)
		strings_add(targets, span_of(list.item[i]));
	strings_free(&list);
	if (!valid)
		complain(p, "not an address, ignored", target);
	return valid;
}

/* The targets of an entry; mail for a name that has only unusable ones must
 * still be seen by somebody. */
static void
take_targets(const struct parser *p, struct span list, struct strings *targets)
{
	bool usable = true;

	while (list.len > 0) {
		size_t comma = find_unquoted(list, ',');
		struct span target = span_trim(span_first(list, comma));

		if (target.len > 0 && !take_target(p, target, targets))
			usable = false;
		list = span_from(list, comma + 1);
	}
	if (targets->count == 0 && !usable)
		strings_add(targets, SPAN("postmaster"));
}

/* What is wrong with an entry as a whole; NULL: nothing. */
static const char *
entry_fault(struct span entry, struct span name)
{
	struct span local, domain;

	if (entry.len >= LIMIT_ALIAS)
		return "entry too long, ignored";
	if (memchr(entry.data, '\0', entry.len) != NULL)
		return "NUL in an entry, ignored";
	if (name.len == entry.len)
		return "no colon, ignored";
	name = span_trim(name);
	smtp_address_split(name, &local, &domain);
	if (!smtp_address_valid(name, ADDRESS_BARE | ADDRESS_UTF8) ||
	    domain.data != NULL)
		return "not a local name, ignored";
	return NULL;
}

static void
keep(struct parser *p, struct alias alias)
{
	struct aliases *a = p->aliases;

	if (a->count == p->size) {
		p->size = p->size == 0 ? 16 : p->size * 2;
		a->alias = mem_array(a->alias, p->size, sizeof(*a->alias));
	}
	a->alias[a->count++] = alias;
}

/* The entry is complete: keep it, if it can be used. */
static void
end_entry(struct parser *p)
{
	struct span entry = buf_span(&p->entry);
	struct span name = span_first(entry, find_unquoted(entry, ':'));
	struct alias alias = { .line = p->line };
	const char *fault;

	if (entry.len == 0)
		return;
	fault = entry_fault(entry, name);
	if (fault == NULL) {
		take_targets(p, span_from(entry, name.len + 1), &alias.targets);
		if (alias.targets.count == 0)
			fault = "no address, ignored";
	}
	if (fault == NULL) {
		alias.name = fold_name(span_trim(name));
		keep(p, alias);
	} else {
		complain(p, fault, entry);
	}
	buf_clear(&p->entry);
}

static void
take_line(struct parser *p, struct span line, unsigned number)
{
	bool continues =
	    line.len > 0 && (line.data[0] == ' ' || line.data[0] == '\t');

	line = cut_comment(line);
	if (span_trim(line).len == 0)
		return;
	if (!continues) {
		end_entry(p);
		p->line = number;
	} else if (p->entry.len == 0) {
		p->line = number;
		complain(p, "continues no entry, ignored", span_trim(line));
		return;
	}
	buf_add(&p->entry, span_trim(line));
	buf_add_char(&p->entry, ' ');
}

/* ---- the table ---- */

static int
compare(const void *left, const void *right)
{
	const struct alias *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	if (order != 0)
		return order;
	return a->line < b->line ? -1 : a->line > b->line;
}

static int
compare_name(const void *name, const void *alias)
{
	return strcmp(name, ((const struct alias *)alias)->name);
}

static const struct alias *
find(const struct aliases *a, const char *name)
{
	return a->count == 0 ? NULL
			     : bsearch(name, a->alias, a->count,
				   sizeof(*a->alias), compare_name);
}

static void
free_alias(struct alias *alias)
{
	free(alias->name);
	strings_free(&alias->targets);
}

/* Order the table; of two entries for a name the first stays. */
static void
index_aliases(struct parser *p)
{
	struct aliases *a = p->aliases;
	size_t i, kept = 0;

	if (a->count > 0)
		qsort(a->alias, a->count, sizeof(*a->alias), compare);
	for (i = 0; i < a->count; i++) {
		struct alias *alias = &a->alias[i];

		if (kept == 0 ||
		    strcmp(a->alias[kept - 1].name, alias->name) != 0) {
			a->alias[kept++] = *alias;
			continue;
		}
		p->line = alias->line;
		complain(p, "duplicate name, ignored", span_of(alias->name));
		free_alias(alias);
	}
	a->count = kept;
	a->catch_all = find(a, "*");
}

struct aliases *
aliases_parse(struct span text,
    void (*warn)(void *arg, unsigned line, const char *text), void *arg)
{
	struct parser p = { .warn = warn, .arg = arg };
	unsigned number = 0;

	p.aliases = mem_alloc(sizeof(*p.aliases));
	while (text.len > 0) {
		struct span line;

		(void)span_cut(text, '\n', &line, &text);
		if (line.len > 0 && line.data[line.len - 1] == '\r')
			line.len--;
		take_line(&p, line, ++number);
	}
	end_entry(&p);
	buf_free(&p.entry);
	index_aliases(&p);
	return p.aliases;
}

void
aliases_free(struct aliases *a)
{
	size_t i;

	if (a == NULL)
		return;
	for (i = 0; i < a->count; i++)
		free_alias(&a->alias[i]);
	free(a->alias);
	free(a);
}

size_t
aliases_count(const struct aliases *a)
{
	return a->count;
}

/* "user+detail" without an alias of its own is "user+*", else "user", as
 * sendmail has it. */
static const struct alias *
find_plussed(const struct aliases *a, const char *name)
{
	struct span user, detail;
	struct buf other = { NULL, 0, 0 };
	const struct alias *alias;

	if (!span_cut(span_of(name), '+', &user, &detail) || user.len == 0)
		return NULL;
	buf_add(&other, user);
	buf_add_text(&other, "+*");
	alias = find(a, buf_text(&other));
	if (alias == NULL) {
		other.len = user.len;
		alias = find(a, buf_text(&other));
	}
	buf_free(&other);
	return alias;
}

const struct strings *
aliases_find(const struct aliases *a, struct span local)
{
	char *name = fold_name(local);
	const struct alias *alias = find(a, name);

	if (alias == NULL)
		alias = find_plussed(a, name);
	free(name);
	if (alias == NULL)
		alias = a->catch_all;
	return alias == NULL ? NULL : &alias->targets;
}
