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

/* Tokens; the others are the character itself. */
enum {
	TOKEN_BAD = -1, /* told in error */
	TOKEN_END = 0,
	TOKEN_WORD = 256,
	TOKEN_STRING, /* with its quotes */
};

/* One file being read. */
struct source {
	struct buf raw;
	size_t file;
	dev_t dev;
	ino_t ino;
	struct span rest;           /* of raw, not read yet */
	unsigned line;              /* where rest begins */
	size_t open[SECTION_DEPTH]; /* sections, outermost first */
	unsigned depth;
};

struct reader {
	struct scan *scan;
	struct buf *error;
	struct source source[1 + INCLUDE_DEPTH]; /* each includes the next */
	unsigned sources;
	struct source *here; /* the last of them */
	struct span token;
	unsigned token_line;
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

/* The same where no key is known.  Says nothing of what the file holds: it
 * may be none of ours. */
static int
fail_syntax(const struct reader *r, const char *text)
{
	struct scan_entry at = { .file = r->here->file,
		.line = r->token_line,
		.section = SCAN_GLOBAL,
		.key = "syntax" };

	return fail(r, &at, "%s", text);
}

/* The same about an entry, which is named only if it is of the main file. */
static int
fail_entry(struct reader *r, const struct scan_entry *e, const char *text)
{
	if (r->sources == 1)
		return fail(r, e, "%s", text);
	r->token_line = e->line;
	return fail_syntax(r, text);
}

/* ---- tokens ---- */

static void
advance(struct source *from, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		from->line += from->rest.data[i] == '\n';
	from->rest = span_from(from->rest, count);
}

static bool
starts(struct span s, const char *text)
{
	size_t len = strlen(text);

	return s.len >= len && memcmp(s.data, text, len) == 0;
}

/* Skip blanks and comments; false: a comment is not closed. */
static bool
skip_blanks(struct reader *r)
{
	for (;;) {
		struct span s = r->here->rest;
		const char *end;

		r->token_line = r->here->line;
		if (s.len > 0 && strchr(" \t\r\n", *s.data) != NULL) {
			advance(r->here, 1);
		} else if (starts(s, "#") || starts(s, "//")) {
			end = memchr(s.data, '\n', s.len);
			advance(r->here,
			    end != NULL ? (size_t)(end - s.data) : s.len);
		} else if (starts(s, "/*")) {
			s = span_from(s, 2);
			end = memmem(s.data, s.len, "*/", 2);
			if (end == NULL)
				return false;
			advance(r->here, 2 + (size_t)(end - s.data) + 2);
		} else {
			return true;
		}
	}
}

/* The length of "${NAME:-default}" at the start of s; 0: it is not closed. */
static size_t
variable_length(struct span s)
{
	size_t i;

	for (i = 2; i < s.len; i++) {
		if (s.data[i] == '}')
			return i + 1;
		/* libconfuse would read on to any brace that follows. */
		if (strchr("\"'{\n", s.data[i]) != NULL)
			break;
	}
	return 0;
}

/*
 * The length of the escape at the start of s in double quotes, 0 if it is a
 * bad one: libconfuse stops at "\400" and "\8", and at "\0" the value ends.
 */
static size_t
escape_length(struct span s)
{
	unsigned value = 0;
	size_t len = 1;

	if (s.len < 2)
		return 0;
	if (s.data[1] == 'x') {
		char hex[3] = { 0 };

		for (len = 2; len < 4 && len < s.len &&
		     strchr("0123456789abcdefABCDEF", s.data[len]) != NULL;
		     len++)
			hex[len - 2] = s.data[len];
		return len == 2 || strtoul(hex, NULL, 16) > 0 ? len : 0;
	}
	for (; len < s.len && s.data[len] >= '0' && s.data[len] <= '9'; len++) {
		if (s.data[len] > '7' || len > 3)
			return 0;
		value = value * 8 + (unsigned)(s.data[len] - '0');
	}
	if (len > 1)
		return value > 0 && value < 256 ? len : 0;
	return 2;
}

static int
string_token(struct reader *r)
{
	struct span s = r->here->rest;
	char quote = *s.data;
	size_t i = 1;

	while (i < s.len && s.data[i] != quote && s.data[i] != '\n') {
		struct span here = span_from(s, i);
		size_t len = 1;

		if (*here.data == '\\' && starts(span_from(here, 1), "\n"))
			break;
		if (*here.data == '\\')
			len = quote == '"' ? escape_length(here) : 2;
		else if (quote == '"' && starts(here, "${"))
			len = variable_length(here);
		if (len == 0) {
			(void)fail_syntax(r,
			    *here.data == '$'
				? "\"${\" without its \"}\" in a quoted value"
				: "this escape (\\) in a quoted value is none");
			return TOKEN_BAD;
		}
		i += len;
	}
	if (i >= s.len || s.data[i] != quote) {
		(void)fail_syntax(r, "a quoted value does not end on its line");
		return TOKEN_BAD;
	}
	r->token = span_first(s, i + 1);
	return TOKEN_STRING;
}

/* Read the next token. */
static int
next(struct reader *r)
{
	struct span s;
	size_t len = 0;

	if (!skip_blanks(r)) {
		(void)fail_syntax(r, "this comment (/*) is not closed");
		return TOKEN_BAD;
	}
	s = r->here->rest;
	if (s.len == 0)
		return TOKEN_END;
	r->token = span_first(s, 1);
	if (strchr("\"'", *s.data) != NULL) {
		int token = string_token(r);

		advance(r->here, token == TOKEN_BAD ? 0 : r->token.len);
		return token;
	}
	if (starts(s, "${"))
		len = variable_length(s);
	else
		while (len < s.len &&
		    strchr(" #\"'\t\n\r={}()+,*", s.data[len]) == NULL)
			len++;
	if (len > 0) {
		r->token = span_first(s, len);
		advance(r->here, len);
		return TOKEN_WORD;
	}
	advance(r->here, 1);
	return (unsigned char)*s.data;
}

/* ---- grammar ---- */

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
		.line = r->token_line,
		.section = section,
		.start = s->text.len,
	};
	memcpy(e->key, r->token.data, r->token.len);
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
	while (token == TOKEN_WORD || token == TOKEN_STRING) {
		emit(r, r->token);
		e->values++;
		token = next(r);
		if (token != ',')
			break;
		emit(r, r->token);
		token = next(r);
	}
	if (token == TOKEN_BAD)
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
	if (token == TOKEN_BAD)
		return -1;
	if (token == '{')
		return read_list(r, e);
	if (token != TOKEN_WORD && token != TOKEN_STRING)
		return fail_entry(r, e, "a value is missing after \"=\"");
	emit(r, r->token);
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

/* The rest of the program reads texts that end at a NUL. */
static int
check_nul(struct reader *r)
{
	struct span s = r->here->rest;
	const char *nul = s.len == 0 ? NULL : memchr(s.data, '\0', s.len);
	char text[48];
	const char *p;

	r->token_line = 1;
	if (nul == NULL)
		return 0;
	for (p = s.data; p < nul; p++)
		r->token_line += *p == '\n';
	(void)snprintf(text, sizeof(text), "NUL byte in line %u",
	    r->token_line);
	return fail_syntax(r, text);
}

/* Begin to read a file; at is where its name stands. */
static int
open_source(struct reader *r, const char *path, const struct scan_entry *at)
{
	struct scan *s = r->scan;
	struct source from = { .line = 1 };
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
		return fail(r, at, "%s: %s", path, why);
	}
	s->file[from.file].st = st;
	from.rest = buf_span(&from.raw);
	if (starts(from.rest, "\xef\xbb\xbf")) /* byte order mark */
		from.rest = span_from(from.rest, 3);
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
	if (next(r) != TOKEN_STRING)
		return fail(r, &at, "a file name in quotes is expected");
	name = r->token;
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

	emit(r, r->token);
	token = next(r);
	if (token == '=')
		return read_value(r, e);
	if (token == '(' && strcmp(e->key, "include") == 0)
		return read_include(r, index);
	if (token == TOKEN_WORD || token == TOKEN_STRING) {
		title = r->token;
		emit(r, title);
		token = next(r);
	}
	if (token == '{')
		return open_section(r, index, title);
	return token == TOKEN_BAD
	    ? -1
	    : fail_entry(r, e, "\"=\" is missing after it");
}

static int
close_section(struct reader *r)
{
	size_t index;

	if (r->here->depth == 0)
		return fail_syntax(r, "\"}\" closes nothing");
	index = r->here->open[--r->here->depth];
	emit(r, SPAN("}"));
	r->scan->entry[index].end = r->scan->text.len;
	return 0;
}

/* The end of the present file. */
static int
end_source(struct reader *r)
{
	const struct source *here = r->here;

	if (here->depth > 0) {
		const struct scan_entry *e =
		    &r->scan->entry[here->open[here->depth - 1]];

		return fail(r, e,
		    "section %s \"%s\" opened at line %u is not closed", e->key,
		    e->title != NULL ? e->title : "", e->line);
	}
	close_source(r);
	return 0;
}

static int
read_next(struct reader *r)
{
	int token = next(r);

	if (token == TOKEN_BAD)
		return -1;
	if (token == TOKEN_END)
		return end_source(r);
	if (token == '}')
		return close_section(r);
	if (token != TOKEN_WORD || !key_valid(r->token))
		return fail_syntax(r, "a key is expected here");
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
