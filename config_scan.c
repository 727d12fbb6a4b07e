/*
 * relayd.conf as it is written: which key stands where.
 *
 * libconfuse 3.3 accepts sections and comments that nobody closed, stops at a
 * NUL, blocks on a FIFO, exits on a directory, miscounts lines and keeps a
 * broken state after an error.  So this file reads the bytes first, with
 * libconfuse's own grammar, and hands over only what is sure to parse there.
 * What keys and values mean is left to the files above.
 */
#include "config_parts.h"

#include <sys/stat.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	INCLUDE_DEPTH = 10,
	SECTION_DEPTH = 4,
};

/* One file being read. */
struct source {
	struct buf raw;
	size_t file;
	dev_t dev;
	ino_t ino;
	struct config_lexer lexer;  /* of raw */
	size_t open[SECTION_DEPTH]; /* sections, outermost first */
	unsigned depth;
};

struct reader {
	struct scan *scan;
	struct buf *error;
	struct source source[1 + INCLUDE_DEPTH]; /* each includes the next */
	unsigned sources;
	struct source *here; /* the last of them */
};

/* ---- errors ---- */

void
config_report(const struct scan *s, const struct scan_entry *at,
    struct buf *out, const char *format, va_list ap)
{
	const struct scan_entry *in =
	    at->section == SCAN_GLOBAL ? NULL : &s->entry[at->section];

	buf_add_escaped(out, span_of(s->file[at->file].path));
	buf_printf(out, ":%u: ", at->line);
	if (in != NULL) {
		buf_printf(out, "%s.", in->key);
		if (in->title != NULL) {
			buf_add_escaped(out, span_of(in->title));
			buf_add_char(out, '.');
		}
	}
	buf_add_text(out, at->key);
	if (at->title != NULL) {
		buf_add_char(out, '.');
		buf_add_escaped(out, span_of(at->title));
	}
	buf_add_text(out, ": ");
	buf_vprintf(out, format, ap);
	buf_add_char(out, '\n');
}

PRINTF_LIKE(3, 4)
static int
fail(const struct reader *r, const struct scan_entry *at, const char *format,
    ...)
{
	va_list ap;

	va_start(ap, format);
	config_report(r->scan, at, r->error, format, ap);
	va_end(ap);
	return -1;
}

/* An error where no key is known.  Says nothing of what the file holds: it may
 * be none of ours. */
static int
fail_syntax(const struct reader *r, unsigned line, const char *text)
{
	struct scan_entry at = { .file = r->here->file,
		.line = line,
		.section = SCAN_GLOBAL,
		.key = "syntax" };

	return fail(r, &at, "%s", text);
}

/* The same about an entry, which is named only if it is of the main file. */
static int
fail_entry(struct reader *r, const struct scan_entry *e, const char *text)
{
	return r->sources == 1 ? fail(r, e, "%s", text)
			       : fail_syntax(r, e->line, text);
}

/* ---- grammar ---- */

/* Read the next token of the present file. */
static int
next(struct reader *r)
{
	struct config_lexer *l = &r->here->lexer;
	int token = config_lex(l);

	if (token == CONFIG_BAD)
		(void)fail_syntax(r, l->token_line, l->problem);
	return token;
}

static void
emit(struct reader *r, struct span s)
{
	buf_add(&r->scan->text, s);
	buf_add_char(&r->scan->text, ' ');
}

/* A new entry, its key being the present, valid token; returns its index. */
static size_t
add_entry(struct reader *r, size_t section)
{
	struct scan *s = r->scan;
	struct scan_entry *e;

	/* Grows by doubling: a power of two is full. */
	if ((s->entry_count & (s->entry_count - 1)) == 0)
		s->entry = mem_array(s->entry,
		    s->entry_count == 0 ? 1 : s->entry_count * 2, sizeof(*e));
	e = &s->entry[s->entry_count];
	*e = (struct scan_entry){
		.file = r->here->file,
		.line = r->here->lexer.token_line,
		.section = section,
		.start = s->text.len,
	};
	memcpy(e->key, r->here->lexer.token.data, r->here->lexer.token.len);
	return s->entry_count++;
}

/* Letters, digits, '_' and '-'.  Anything else is no key, nor to be shown. */
static bool
key_valid(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		char c = s.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			c == '_' || (i > 0 && c >= '0' && c <= '9') ||
			(i > 0 && c == '-')))
			return false;
	}
	return s.len <= SCAN_KEY;
}

static int
read_list(struct reader *r, struct scan_entry *e)
{
	int token = next(r);

	e->form = SCAN_LIST;
	emit(r, SPAN("{"));
	while (token == CONFIG_WORD || token == CONFIG_STRING) {
		emit(r, r->here->lexer.token);
		e->values++;
		token = next(r);
		if (token != ',')
			break;
		emit(r, r->here->lexer.token);
		token = next(r);
	}
	if (token == CONFIG_BAD)
		return -1;
	if (token != '}')
		return fail_entry(r, e,
		    "this list is not closed; it is {\"...\", \"...\"}");
	emit(r, SPAN("}"));
	e->end = r->scan->text.len;
	return 0;
}

/* What follows "key =". */
static int
read_value(struct reader *r, struct scan_entry *e)
{
	int token = next(r);

	emit(r, SPAN("="));
	e->value = r->scan->text.len;
	if (token == CONFIG_BAD)
		return -1;
	if (token == '{')
		return read_list(r, e);
	if (token != CONFIG_WORD && token != CONFIG_STRING)
		return fail_entry(r, e, "a value is missing after \"=\"");
	emit(r, r->here->lexer.token);
	e->end = r->scan->text.len;
	return 0;
}

/* ---- files ---- */

/* Why the source must not be read, or NULL. */
static const char *
refusal(const struct reader *r, const struct source *from,
    const struct stat *st)
{
	unsigned i;

	for (i = 0; i < r->sources; i++)
		if (r->source[i].dev == from->dev &&
		    r->source[i].ino == from->ino)
			return "includes itself";
	if (r->sources > INCLUDE_DEPTH)
		return "is included too deeply (at most 10 files)";
	if ((st->st_mode & S_IWOTH) != 0)
		return "can be written by everybody (mend it: chmod o-w)";
	if (r->scan->text.len + from->raw.len > LIMIT_CONFIG_FILE)
		return "makes the configuration larger than 1 MiB";
	return NULL;
}

static const char *
read_failure(int error)
{
	if (error == EFBIG)
		return "is larger than 1 MiB";
	if (error == EINVAL)
		return "is not a regular file";
	return strerror(error);
}

static int
fail_file(const struct reader *r, const struct scan_entry *at, const char *path,
    const char *why)
{
	struct buf name = { NULL, 0, 0 };

	buf_add_escaped(&name, span_of(path));
	(void)fail(r, at, "%s: %s", buf_text(&name), why);
	buf_free(&name);
	return -1;
}

/* The rest of the program reads texts that end at a NUL. */
static int
check_nul(struct reader *r)
{
	struct span raw = buf_span(&r->here->raw), before, rest;
	unsigned line = 1;
	char text[48];

	if (!span_cut(raw, '\0', &before, &rest))
		return 0;
	while (span_cut(before, '\n', &rest, &before))
		line++;
	(void)snprintf(text, sizeof(text), "NUL byte in line %u", line);
	return fail_syntax(r, line, text);
}

/* Begin to read a file; at is where its name stands. */
static int
open_source(struct reader *r, const char *path, const struct scan_entry *at)
{
	struct scan *s = r->scan;
	struct source from = { .lexer.line = 1 };
	struct stat st = { 0 };
	const char *why = NULL;

	s->file = mem_array(s->file, s->file_count + 1, sizeof(*s->file));
	s->file[s->file_count] = (struct scan_file){ .path = mem_text(path) };
	from.file = s->file_count++;
	if (file_read(path, LIMIT_CONFIG_FILE, &from.raw, &st) == -1)
		why = read_failure(errno);
	from.dev = st.st_dev;
	from.ino = st.st_ino;
	if (why == NULL)
		why = refusal(r, &from, &st);
	if (why != NULL) {
		buf_wipe(&from.raw);
		return fail_file(r, at, path, why);
	}
	s->file[from.file].st = st;
	from.lexer.rest = buf_span(&from.raw);
	if (span_starts_nocase(from.lexer.rest, SPAN("\xef\xbb\xbf")))
		from.lexer.rest = span_from(from.lexer.rest, 3); /* BOM */
	r->source[r->sources] = from;
	r->here = &r->source[r->sources++];
	return check_nul(r);
}

/* The present file is read. */
static void
close_source(struct reader *r)
{
	buf_wipe(&r->here->raw);
	r->sources--;
	r->here = r->sources == 0 ? NULL : &r->source[r->sources - 1];
}

/* What follows "include(", the key of the last entry. */
static int
read_include(struct reader *r, size_t index)
{
	struct scan *s = r->scan;
	struct scan_entry at = s->entry[index];
	const char *main_path = s->file[r->here->file].path;
	const char *slash = strrchr(main_path, '/');
	struct buf path = { 0 };
	struct span name;
	int ret;

	if (r->here->depth > 0)
		return fail(r, &at, "must stand outside of sections");
	if (next(r) != CONFIG_STRING)
		return fail(r, &at, "a file name in quotes is expected");
	name = r->here->lexer.token;
	name = span_first(span_from(name, 1), name.len - 2);
	if (next(r) != ')' || name.len == 0 ||
	    memchr(name.data, '$', name.len) != NULL ||
	    memchr(name.data, '\\', name.len) != NULL)
		return fail(r, &at,
		    "include(\"FILE\") takes one plain file name");
	if (*name.data != '/' && slash != NULL)
		buf_append(&path, main_path, (size_t)(slash - main_path) + 1);
	buf_add(&path, name);
	ret = open_source(r, buf_text(&path), &at);
	/* Its entries take its place. */
	s->text.len = at.start;
	s->entry_count--;
	buf_free(&path);
	return ret;
}

/* ---- entries ---- */

static int
open_section(struct reader *r, size_t index, struct span title)
{
	struct scan_entry *e = &r->scan->entry[index];

	if (title.len > 1 && strchr("\"'", *title.data) != NULL)
		title = span_first(span_from(title, 1), title.len - 2);
	if (title.data != NULL)
		e->title = span_text(title);
	if (r->here->depth == SECTION_DEPTH)
		return fail_entry(r, e, "sections are nested too deeply");
	e->form = SCAN_SECTION;
	r->here->open[r->here->depth++] = index;
	emit(r, SPAN("{"));
	return 0;
}

/* An entry, its key being the present token; of a section, its beginning. */
static int
read_entry(struct reader *r)
{
	unsigned depth = r->here->depth;
	size_t index =
	    add_entry(r, depth == 0 ? SCAN_GLOBAL : r->here->open[depth - 1]);
	struct scan_entry *e = &r->scan->entry[index];
	struct span title = { 0 };
	int token;

	emit(r, r->here->lexer.token);
	token = next(r);
	if (token == '=')
		return read_value(r, e);
	if (token == '(' && strcmp(e->key, "include") == 0)
		return read_include(r, index);
	if (token == CONFIG_WORD || token == CONFIG_STRING) {
		title = r->here->lexer.token;
		emit(r, title);
		token = next(r);
	}
	if (token == '{')
		return open_section(r, index, title);
	return token == CONFIG_BAD
	    ? -1
	    : fail_entry(r, e, "\"=\" is missing after it");
}

static int
close_section(struct reader *r)
{
	size_t index;

	if (r->here->depth == 0)
		return fail_syntax(r, r->here->lexer.token_line,
		    "\"}\" closes nothing");
	index = r->here->open[--r->here->depth];
	emit(r, SPAN("}"));
	r->scan->entry[index].end = r->scan->text.len;
	return 0;
}

static int
fail_unclosed(const struct reader *r, const struct scan_entry *e)
{
	struct buf title = { NULL, 0, 0 };

	buf_add_escaped(&title, span_of(e->title));
	(void)fail(r, e, "section %s \"%s\" opened at line %u is not closed",
	    e->key, buf_text(&title), e->line);
	buf_free(&title);
	return -1;
}

/* The end of the present file. */
static int
end_source(struct reader *r)
{
	const struct source *here = r->here;

	if (here->depth > 0)
		return fail_unclosed(r,
		    &r->scan->entry[here->open[here->depth - 1]]);
	close_source(r);
	return 0;
}

static int
read_next(struct reader *r)
{
	int token = next(r);

	if (token == CONFIG_BAD)
		return -1;
	if (token == CONFIG_END)
		return end_source(r);
	if (token == '}')
		return close_section(r);
	if (token != CONFIG_WORD || !key_valid(r->here->lexer.token))
		return fail_syntax(r, r->here->lexer.token_line,
		    "a key is expected here");
	return read_entry(r);
}

int
config_scan(const char *path, struct scan *s, struct buf *error)
{
	struct reader r = { .scan = s, .error = error };
	struct scan_entry at = { .line = 1,
		.section = SCAN_GLOBAL,
		.key = "file" };
	int ret = open_source(&r, path, &at);

	while (ret == 0 && r.sources > 0)
		ret = read_next(&r);
	while (r.sources > 0)
		close_source(&r);
	return ret;
}

void
config_scan_free(struct scan *s)
{
	size_t i;

	for (i = 0; i < s->entry_count; i++)
		free(s->entry[i].title);
	for (i = 0; i < s->file_count; i++)
		free(s->file[i].path);
	free(s->entry);
	free(s->file);
	buf_wipe(&s->text);
	*s = (struct scan){ 0 };
}

const struct scan_entry *
config_scan_find(const struct scan *s, size_t section, const char *key)
{
	size_t i;

	for (i = 0; i < s->entry_count; i++)
		if (s->entry[i].section == section &&
		    strcmp(s->entry[i].key, key) == 0)
			return &s->entry[i];
	return NULL;
}
