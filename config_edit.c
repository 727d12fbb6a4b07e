/*
 * One key changed in the text of relayd.conf, comments and layout kept.
 *
 * Only the file itself is changed, never what it includes: a key that stands
 * there is refused with the name of that file.  Whether the new text is a
 * valid configuration is for config_load() to say.
 */
#include "config_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- names of keys ---- */

static int
refuse_place(const char *text, const char *why, struct buf *error)
{
	buf_add_escaped(error, span_of(text));
	buf_printf(error, ": %s\n", why);
	return -1;
}

/* Titles have dots, too. */
static void
split_place(struct config_place *p, const char *text)
{
	const char *first = strchr(text, '.'), *last = strrchr(text, '.');

	if (first == NULL || first == last) {
		p->key = mem_text(text);
		return;
	}
	p->section = span_text((struct span){ text, (size_t)(first - text) });
	p->title =
	    span_text((struct span){ first + 1, (size_t)(last - first) - 1 });
	p->key = mem_text(last + 1);
}

int
config_place_parse(struct config_place *p, const char *text, struct buf *error)
{
	const struct config_key *keys;

	split_place(p, text);
	if (p->section != NULL && strcmp(p->section, "relay") != 0 &&
	    strcmp(p->section, "listen") != 0)
		return refuse_place(text,
		    "there are sections \"relay\" and "
		    "\"listen\" only",
		    error);
	keys = config_section_keys(p->section);
	p->row = config_key_find(keys, p->key);
	if (p->row == NULL) {
		buf_add_escaped(error, span_of(text));
		buf_printf(error,
		    ": unknown key; the nearest known one is \"%s\"\n",
		    strlen(p->key) > SCAN_KEY
			? keys->name
			: config_key_nearest(keys, p->key)->name);
		return -1;
	}
	if (p->row->kind == KEY_LATER)
		return refuse_place(text, "not in this version", error);
	if (p->row->kind == KEY_SECTION)
		return refuse_place(text,
		    "is a section; name a key of it: SECTION.NAME.KEY", error);
	if (p->row->kind == KEY_INCLUDE)
		return refuse_place(text, "is no key", error);
	return 0;
}

void
config_place_free(struct config_place *p)
{
	free(p->section);
	free(p->title);
	free(p->key);
	*p = (struct config_place){ NULL, NULL, NULL, NULL };
}

/* ---- where it stands ---- */

/* Places in the text of a file. */
struct spot {
	bool there;        /* the section is */
	bool found;        /* the key is: ... */
	size_t begin, end; /* ... its value */
	size_t close;      /* the section's "}" */
	size_t entry;      /* its first entry; 0: it has none */
};

/* A text being read that config_scan.c has found to be well-formed. */
struct walk {
	struct span text;
	struct config_lexer lexer;
	int token;
	unsigned depth;
	const struct config_place *place;
	bool meant; /* the outermost section that is open, or was, is */
	struct spot spot;
};

static void
next(struct walk *w)
{
	w->token = config_lex(&w->lexer);
}

/* In the section that is meant, or outside of any if none is. */
static bool
is_here(const struct walk *w)
{
	return w->place->section == NULL ? w->depth == 0
					 : w->depth == 1 && w->meant;
}

static size_t
token_at(const struct walk *w)
{
	return (size_t)(w->lexer.token.data - w->text.data);
}

/* What follows "key =". */
static void
pass_value(struct walk *w, struct span key)
{
	size_t begin;

	next(w);
	begin = token_at(w);
	if (w->token == '{')
		while (w->token > 0 && w->token != '}')
			next(w);
	if (is_here(w) && !w->spot.found &&
	    span_equal(key, span_of(w->place->key))) {
		w->spot.found = true;
		w->spot.begin = begin;
		w->spot.end = token_at(w) + w->lexer.token.len;
	}
	next(w);
}

/* What follows "key", or "key title": the brace. */
static void
open_section(struct walk *w, struct span key, struct span title)
{
	const struct config_place *p = w->place;

	/* As config_scan.c has titles. */
	if (title.len > 1 && strchr("\"'", *title.data) != NULL)
		title = span_first(span_from(title, 1), title.len - 2);
	if (w->depth++ == 0) {
		w->meant = !w->spot.there &&
		    span_equal(key, span_of(p->section)) &&
		    span_equal(title, span_of(p->title));
		w->spot.there |= w->meant;
	}
	next(w);
}

static void
close_section(struct walk *w)
{
	if (is_here(w))
		w->spot.close = token_at(w);
	w->depth--;
	next(w);
}

/* An entry, its key being the present token. */
static void
pass_entry(struct walk *w)
{
	struct span key = w->lexer.token, title = { NULL, 0 };

	if (is_here(w) && w->spot.entry == 0)
		w->spot.entry = token_at(w);
	next(w);
	if (w->token == '=') {
		pass_value(w, key);
	} else if (w->token == '(') { /* include("FILE") */
		next(w);
		next(w);
		next(w);
	} else {
		if (w->token != '{') {
			title = w->lexer.token;
			next(w);
		}
		open_section(w, key, title);
	}
}

static struct spot
find(struct span text, const struct config_place *place)
{
	struct walk w = { .text = text,
		.place = place,
		.spot.there = place->section == NULL };

	w.lexer.rest = text;
	if (span_starts_nocase(text, SPAN("\xef\xbb\xbf")))
		w.lexer.rest = span_from(text, 3); /* BOM */
	next(&w);
	while (w.token > 0) {
		if (w.token == '}' && w.depth > 0)
			close_section(&w);
		else
			pass_entry(&w);
	}
	return w.spot;
}

/* ---- the new text ---- */

/* As it is written by hand: numbers, true and false bare. */
static void
add_one(struct buf *out, const struct config_key *row, struct span value)
{
	uint64_t unused;

	if ((row->kind == KEY_NUMBER &&
		parse_number(value, UINT64_MAX, &unused)) ||
	    (row->kind == KEY_WORD &&
		(span_equal(value, SPAN("true")) ||
		    span_equal(value, SPAN("false")))))
		buf_add(out, value);
	else
		config_add_quoted(out, value);
}

static void
add_values(struct buf *out, const struct config_key *row,
    const struct strings *values)
{
	struct strings list = { NULL, 0 };
	size_t i;

	if (row->kind != KEY_LIST && row->kind != KEY_DURATIONS) {
		add_one(out, row, span_of(values->item[0]));
		return;
	}
	for (i = 0; i < values->count; i++)
		if (*values->item[i] != '\0') /* the empty list is one "" */
			strings_add(&list, span_of(values->item[i]));
	config_add_list(out, &list);
	strings_free(&list);
}

/* The beginning of the line that at is in, if only blanks are before it
 * there; else at. */
static size_t
line_start(struct span text, size_t at)
{
	size_t i = at;

	while (i > 0 && (text.data[i - 1] == ' ' || text.data[i - 1] == '\t'))
		i--;
	return i == 0 || text.data[i - 1] == '\n' ? i : at;
}

/* A line of its own before the section's "}", or, where that has none, words
 * in its line. */
static void
add_to_section(struct buf *out, struct span text, const struct spot *spot,
    struct span line)
{
	size_t at = line_start(text, spot->close);
	size_t first = line_start(text, spot->entry);

	buf_add(out, span_first(text, at));
	if (at == spot->close && (at == 0 || text.data[at - 1] != '\n')) {
		buf_add_char(out, ' ');
		buf_add(out, line);
		buf_add_char(out, ' ');
	} else {
		if (first < spot->entry)
			buf_append(out, text.data + first, spot->entry - first);
		else
			buf_add_text(out, "    ");
		buf_add(out, line);
		buf_add_char(out, '\n');
	}
	buf_add(out, span_from(text, at));
}

static void
change(struct buf *out, struct span text, const struct spot *spot,
    const struct config_place *place, const struct strings *values)
{
	struct buf line = { NULL, 0, 0 };

	if (spot->found) {
		buf_add(out, span_first(text, spot->begin));
		add_values(out, place->row, values);
		buf_add(out, span_from(text, spot->end));
		return;
	}
	buf_printf(&line, "%s = ", place->key);
	add_values(&line, place->row, values);
	if (place->section != NULL) {
		add_to_section(out, text, spot, buf_span(&line));
	} else {
		buf_add(out, text);
		if (text.len > 0 && text.data[text.len - 1] != '\n')
			buf_add_char(out, '\n');
		buf_add(out, buf_span(&line));
		buf_add_char(out, '\n');
	}
	buf_free(&line);
}

/* ---- what can't be changed ---- */

/* Is this entry the section, or the key, of the place? */
static bool
is_entry(const struct scan *s, const struct scan_entry *e,
    const struct config_place *p, bool section)
{
	const struct scan_entry *in = section ? e : NULL;

	if (!section && strcmp(e->key, p->key) != 0)
		return false;
	if (!section && e->section != SCAN_GLOBAL)
		in = &s->entry[e->section];
	if (in == NULL || p->section == NULL)
		return in == NULL && p->section == NULL;
	return in->form == SCAN_SECTION && strcmp(in->key, p->section) == 0 &&
	    in->title != NULL && strcmp(in->title, p->title) == 0;
}

/* Does another file have the key, or all of its section? */
static int
check_includes(const struct scan *s, const struct config_place *p,
    const char *name, struct buf *error)
{
	size_t i;

	for (i = 0; i < s->entry_count; i++) {
		const struct scan_entry *e = &s->entry[i];

		if (e->file == 0 ||
		    (!is_entry(s, e, p, false) &&
			!(p->section != NULL && is_entry(s, e, p, true))))
			continue;
		buf_add_escaped(error, span_of(name));
		buf_add_text(error, ": stands in ");
		buf_add_escaped(error, span_of(s->file[e->file].path));
		buf_printf(error, ", line %u: change it there\n", e->line);
		return -1;
	}
	return 0;
}

static int
check_values(const struct config_place *p, const char *name,
    const struct strings *values, struct buf *error)
{
	const char *why;
	size_t i;

	if (p->row->kind == KEY_SECRET)
		return refuse_place(name,
		    "would show in the list of processes; write it into a file "
		    "and set password_file",
		    error);
	if (values->count != 1 && p->row->kind != KEY_LIST &&
	    p->row->kind != KEY_DURATIONS)
		return refuse_place(name, "takes one value", error);
	/* The rest is config_load()'s, but this could change the syntax. */
	for (i = 0; i < values->count; i++) {
		why = config_check_controls(span_of(values->item[i]));
		if (why != NULL)
			return refuse_place(name, why, error);
	}
	return 0;
}

int
config_edit(const char *path, const char *key, const struct strings *values,
    struct buf *text, struct buf *error)
{
	struct config_place place = { NULL, NULL, NULL, NULL };
	struct scan scan = { .text = { NULL, 0, 0 } };
	struct buf old = { NULL, 0, 0 };
	struct spot spot;
	int ret = -1;

	if (config_place_parse(&place, key, error) == -1 ||
	    check_values(&place, key, values, error) == -1 ||
	    config_scan(path, &scan, error) == -1 ||
	    check_includes(&scan, &place, key, error) == -1)
		goto out;
	if (file_read(path, LIMIT_CONFIG_FILE, &old, NULL) == -1) {
		(void)refuse_place(path, strerror(errno), error);
		goto out;
	}
	spot = find(buf_span(&old), &place);
	if (!spot.there) {
		(void)refuse_place(key, "there is no such section", error);
		goto out;
	}
	change(text, buf_span(&old), &spot, &place, values);
	ret = 0;
out:
	buf_wipe(&old); /* it may hold passwords */
	config_scan_free(&scan);
	config_place_free(&place);
	return ret;
}
