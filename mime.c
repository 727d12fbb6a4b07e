/*
 * How a message is to be converted, found in one pass over its text: which
 * parts (RFC 2045, 2046) get another content transfer encoding, and what
 * changes in their headers.  The coding itself is encode.c's, the reading of
 * header fields mime_header.c's; convert.c carries the plan out.
 *
 * The parser walks down with a stack of the open multiparts and messages.  It
 * holds no more of the text than a header section or a line that may be a
 * boundary.  A part that is too deep, one too many, sealed or not to be
 * understood stays as it is.
 */
#include "mime.h"

#include <stdlib.h>
#include <string.h>

enum {
	LEVELS = 100,
	PARTS = 1000,
	LINE_LIMIT = 998,
	LINE_BOUNDARY = 1000, /* a longer line is no boundary; with CRLF */
};

/* A multipart or a message/rfc822 that is open. */
struct level {
	struct buf boundary; /* empty: a message */
	bool digest;
	bool seen;      /* one of its boundaries */
	bool closed;    /* its last one */
	bool relabel;   /* it says 8bit or binary */
	bool unversion; /* a message without MIME-Version */
	bool touched;   /* something in it is converted */
	size_t edit;    /* of its header: the encoding; behind it: the end */
	unsigned left;  /* TEXT_* that stay in it */
};

/* The body being read; its header's edits as in struct level. */
struct body {
	struct mime_fields fields;
	bool opaque;
	bool prose;   /* before the first or behind the last boundary */
	bool message; /* its header is that of a message */
	bool bare;    /* no empty line stands behind its header */
	size_t edit;
	uint64_t from;
	uint64_t octets;
	struct text_facts facts;
	struct utf8_check utf8;
	struct encoder encoder; /* counted only */
	uint64_t encoded;
};

struct planner {
	bool seven;
	struct plan plan;
	struct buf window; /* what has been fed and not been read */
	size_t read;       /* of window */
	uint64_t at;       /* of the source: where the rest of window is */
	bool in_header;
	bool line_start;
	size_t scanned; /* of the header, see header_end() */
	struct body body;
	struct level level[LEVELS];
	size_t depth;
	size_t parts;
	struct buf scratch;
};

/* ---- the plan ---- */

void
plan_free(struct plan *p)
{
	size_t i;

	for (i = 0; i < p->count; i++)
		free(p->edit[i].text);
	free(p->edit);
	*p = (struct plan){ .edit = NULL };
}

static struct edit *
add_edit(struct plan *p, uint64_t from, uint64_t to)
{
	if (p->count == p->size) {
		p->size = 2 * p->size + 16;
		p->edit = mem_array(p->edit, p->size, sizeof(*p->edit));
	}
	p->edit[p->count] = (struct edit){ .from = from, .to = to };
	return &p->edit[p->count++];
}

static void
set_text(struct plan *p, size_t edit, const char *text)
{
	struct edit *e = &p->edit[edit];

	if (e->text != NULL)
		p->growth -= (int64_t)strlen(e->text);
	else
		p->growth -= (int64_t)(e->to - e->from);
	free(e->text);
	e->text = mem_text(text);
	e->coding = CODING_TEXT;
	p->growth += (int64_t)strlen(text);
}

/* Behind what an edit has as its text. */
static void
add_text(struct plan *p, size_t edit, const char *text)
{
	struct buf all = { NULL, 0, 0 };

	if (p->edit[edit].text != NULL)
		buf_add_text(&all, p->edit[edit].text);
	buf_add_text(&all, text);
	set_text(p, edit, buf_text(&all));
	buf_free(&all);
}

static void
set_coding(struct plan *p, struct edit *e, enum coding coding, uint64_t octets)
{
	e->coding = coding;
	p->growth += (int64_t)octets - (int64_t)(e->to - e->from);
}

/* ---- bodies ---- */

static unsigned
unwanted(const struct planner *p)
{
	return TEXT_LONG_LINE | (p->seven ? TEXT_8BIT : 0);
}

/* What is to be counted while the body passes. */
static enum coding
counted_coding(const struct planner *p, const struct body *b)
{
	if (b->opaque)
		return CODING_NONE;
	if (b->prose)
		return p->seven ? CODING_PROSE_7BIT : CODING_PROSE;
	if (b->fields.encoding == ENCODING_QP)
		return CODING_QP_AGAIN;
	if (b->fields.encoding == ENCODING_BASE64)
		return CODING_BASE64_AGAIN;
	return b->fields.kind == MIME_TEXT ? CODING_QP : CODING_BASE64;
}

static void
begin_body(struct planner *p, uint64_t from)
{
	struct body *b = &p->body;

	b->from = from;
	b->octets = b->encoded = 0;
	b->facts = (struct text_facts){ 0 };
	b->utf8 = (struct utf8_check){ 0 };
	b->encoder = (struct encoder){ .coding = counted_coding(p, b) };
	p->in_header = false;
	p->line_start = true;
}

static void
read_body(struct planner *p, struct span text)
{
	struct body *b = &p->body;
	bool base64 = b->encoder.coding == CODING_BASE64;

	b->octets += text.len;
	text_note(&b->facts, text);
	if (b->opaque || base64)
		return; /* base64_length() will tell */
	utf8_check(&b->utf8, text);
	encode(&b->encoder, text, &p->scratch);
	b->encoded += p->scratch.len;
	buf_clear(&p->scratch);
}

static const char *
charset(const struct body *b)
{
	if ((b->facts.has & TEXT_8BIT) == 0)
		return "us-ascii";
	return utf8_check_end(&b->utf8) ? "utf-8" : "unknown-8bit";
}

/* Its header says what the body is from now on. */
static void
label(struct planner *p, const struct body *b, enum coding coding)
{
	const char *name = coding == CODING_QP ? "quoted-printable" : "base64";
	struct buf text = { NULL, 0, 0 }, end = { NULL, 0, 0 };
	const struct mime_fields *f = &b->fields;

	buf_printf(&text, "Content-Transfer-Encoding: %s\r\n", name);
	if (b->message && !f->has_version)
		buf_add_text(&end, "MIME-Version: 1.0\r\n");
	if (b->message && !f->has_type)
		buf_printf(&end, "Content-Type: text/plain; charset=%s\r\n",
		    charset(b));
	if (f->encoding_len > 0)
		set_text(&p->plan, b->edit, buf_text(&text));
	else
		buf_add(&end, buf_span(&text));
	if (end.len > 0)
		set_text(&p->plan, b->edit + 1, buf_text(&end));
	buf_free(&text);
	buf_free(&end);
}

/* The same for what the body stands in: readers look for parts only in a
 * message with a MIME-Version. */
static void
touch_levels(struct planner *p)
{
	size_t i;

	for (i = 0; i < p->depth; i++) {
		if (p->level[i].unversion)
			set_text(&p->plan, p->level[i].edit + 1,
			    "MIME-Version: 1.0\r\n");
		p->level[i].unversion = false;
		p->level[i].touched = true;
	}
}

/* The coding that the body needs, and its result's length. */
static enum coding
choose_coding(struct planner *p, struct body *b, bool last, uint64_t *octets)
{
	enum coding coding = b->encoder.coding;
	uint64_t base64 = base64_length(b->octets) + (last ? 2 : 0);

	encode_end(&b->encoder, last, &p->scratch);
	*octets = b->encoded + p->scratch.len;
	buf_clear(&p->scratch);
	if (coding == CODING_QP && base64 < *octets)
		coding = CODING_BASE64;
	if (coding == CODING_BASE64)
		*octets = base64;
	return coding;
}

/* last: nothing follows. */
static void
end_body(struct planner *p, bool last)
{
	struct body *b = &p->body;
	bool seen = p->depth > 0 && p->level[p->depth - 1].seen;
	enum coding coding;
	uint64_t octets;
	struct edit *e;

	if (b->facts.line > LINE_LIMIT) /* without its end */
		b->facts.has |= TEXT_LONG_LINE;
	/* A multipart without any boundary is something else. */
	if (b->prose && !seen)
		b->opaque = true;
	if (b->opaque || (b->facts.has & unwanted(p)) == 0) {
		if (p->depth > 0)
			p->level[p->depth - 1].left |= b->facts.has;
		return;
	}
	coding = choose_coding(p, b, last, &octets);
	e = add_edit(&p->plan, b->from, b->from + b->octets);
	e->last = last;
	set_coding(&p->plan, e, coding, octets);
	p->plan.encoded++;
	touch_levels(p);
	if (coding == CODING_QP || coding == CODING_BASE64)
		label(p, b, coding);
	if (b->bare) /* its first line may look like a field now */
		add_text(&p->plan, b->edit + 1, "\r\n");
}

/* ---- levels ---- */

static void
push(struct planner *p)
{
	struct body *b = &p->body;
	struct level *l = &p->level[p->depth++];

	*l = (struct level){
		.boundary = b->fields.boundary,
		.digest = b->fields.digest,
		.relabel = b->fields.wide,
		.unversion = b->message && !b->fields.has_version,
		.edit = b->edit,
	};
	b->fields.boundary = (struct buf){ NULL, 0, 0 };
}

/* Close all down to a depth. */
static void
pop(struct planner *p, size_t depth)
{
	struct level *l;

	while (p->depth > depth) {
		l = &p->level[--p->depth];
		if (l->relabel && l->touched &&
		    (l->left & (TEXT_8BIT | TEXT_LONG_LINE)) == 0)
			set_text(&p->plan, l->edit,
			    "Content-Transfer-Encoding: 7bit\r\n");
		if (p->depth > 0)
			p->level[p->depth - 1].left |= l->left;
		buf_free(&l->boundary);
	}
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Whose boundary is the line?  False: nobody's. */
static bool
find_boundary(const struct planner *p, struct span line, size_t *depth,
    bool *closing)
{
	struct span name = span_from(line, 2), rest;
	size_t i;

	while (name.len > 0 && is_blank(name.data[name.len - 1]))
		name.len--;
	for (i = p->depth; i > 0; i--) {
		const struct level *l = &p->level[i - 1];

		*depth = i;
		*closing = false;
		if (l->closed || l->boundary.len == 0 ||
		    name.len < l->boundary.len)
			continue;
		rest = span_from(name, l->boundary.len);
		*closing = rest.len > 0;
		if ((rest.len == 0 || span_equal(rest, SPAN("--"))) &&
		    memcmp(name.data, l->boundary.data, l->boundary.len) == 0)
			return true;
	}
	return false;
}

/* ---- headers ---- */

/* in_header: the next entity; message: it stands in a message/rfc822, or is
 * the whole. */
static void
begin_entity(struct planner *p, bool message)
{
	p->body.message = message;
	p->body.prose = false;
	p->in_header = true;
	p->scanned = 0;
	p->parts++;
}

/* What comes after a header: a level or a body. */
static void
enter(struct planner *p, uint64_t body_from)
{
	struct body *b = &p->body;
	const struct mime_fields *f = &b->fields;
	bool identity = f->encoding == ENCODING_IDENTITY;
	bool level =
	    identity && (f->kind == MIME_MULTIPART || f->kind == MIME_MESSAGE);

	b->opaque = f->kind == MIME_SEALED || p->parts > PARTS ||
	    (level && p->depth == LEVELS);
	if (!level || b->opaque) {
		begin_body(p, body_from);
		return;
	}
	push(p);
	b->prose = f->kind == MIME_MULTIPART;
	if (b->prose)
		begin_body(p, body_from);
	else
		begin_entity(p, true);
}

/* The header ends here; body: where the body begins.  Both are offsets in the
 * window. */
static void
take_header(struct planner *p, size_t header, size_t body)
{
	struct span text = span_from(buf_span(&p->window), p->read);
	struct body *b = &p->body;
	struct mime_fields *f = &b->fields;
	struct text_facts facts = { 0 };
	struct level *outer = p->depth > 0 ? &p->level[p->depth - 1] : NULL;
	size_t at, len;

	text = span_first(text, header);
	mime_fields_read(text, outer != NULL && outer->digest, f);
	text_note(&facts, text);
	if (outer != NULL)
		outer->left |= facts.has;
	at = f->encoding_len > 0 ? f->encoding_at : header;
	len = f->encoding_len;
	b->bare = body == header;
	b->edit = p->plan.count;
	(void)add_edit(&p->plan, p->at + at, p->at + at + len);
	(void)add_edit(&p->plan, p->at + header, p->at + header);
	p->read += body;
	p->at += body;
	enter(p, p->at);
}

/* A boundary may stand where the header has not ended. */
static size_t
cut_at_boundary(const struct planner *p, struct span header)
{
	struct span line, rest = header;
	size_t depth, at = 0;
	bool closing;

	while (rest.len > 0) {
		(void)span_cut(rest, '\n', &line, &rest);
		if (span_starts_nocase(line, SPAN("--")) &&
		    find_boundary(p, line, &depth, &closing))
			return at;
		at = header.len - rest.len;
	}
	return header.len;
}

/* True: the header is read.  end: no more text will come. */
static bool
read_header(struct planner *p, bool end)
{
	struct span text = span_from(buf_span(&p->window), p->read);
	size_t header = text.len, body = text.len, cut;
	bool found = header_end(text, &p->scanned, &header, &body);

	if (!found && !end && text.len <= LIMIT_HEADER + LIMIT_HEADER_FIELD)
		return false;
	if (!found && !end) { /* it can't be judged */
		mime_fields_read(SPAN(""), false, &p->body.fields);
		p->body.opaque = true;
		begin_body(p, p->at);
		return true;
	}
	if (!found)
		header = body = text.len;
	cut = cut_at_boundary(p, span_first(text, header));
	if (cut < header)
		header = body = cut;
	take_header(p, header, body);
	return true;
}

/* ---- text ---- */

static void
take_text(struct planner *p, size_t len)
{
	struct span text = span_from(buf_span(&p->window), p->read);

	read_body(p, span_first(text, len));
	p->read += len;
	p->at += len;
	if (len > 0)
		p->line_start = false;
}

static void
skip(struct planner *p, size_t len)
{
	p->read += len;
	p->at += len;
}

/* The line at an offset of the text, if it is all there; empty when it is too
 * long for a boundary. */
static bool
take_line(struct span text, size_t at, struct span *line, bool end)
{
	struct span tail;

	*line = span_first(span_from(text, at), LINE_BOUNDARY);
	if (span_cut(*line, '\n', line, &tail))
		return true;
	if (line->len < LINE_BOUNDARY)
		return end;
	line->len = 0;
	return true;
}

static void
pass_boundary(struct planner *p, size_t depth, bool closing)
{
	struct level *l = &p->level[depth - 1];

	l->seen = true;
	l->closed = closing;
	end_body(p, false);
	pop(p, depth);
	if (!closing) {
		begin_entity(p, false);
		return;
	}
	p->body.prose = true;
	p->body.opaque = false;
	p->body.bare = false;
}

static bool
in_multipart(const struct planner *p)
{
	size_t i;

	for (i = 0; i < p->depth; i++) {
		if (p->level[i].boundary.len > 0 && !p->level[i].closed)
			return true;
	}
	return false;
}

/* The line end that belongs to the last boundary, though that is missing. */
static size_t
last_line_end(const struct planner *p, struct span text)
{
	return text.len >= 2 && in_multipart(p) &&
		span_equal(span_from(text, text.len - 2), SPAN("\r\n"))
	    ? 2
	    : 0;
}

/*
 * Read the body up to and with a boundary line, or as far as the window goes.
 * False: more text must come.
 */
static bool
read_text(struct planner *p, bool end)
{
	struct span text = span_from(buf_span(&p->window), p->read), line;
	size_t depth, before = 0, at = 0;
	const char *found;
	bool closing;

	if (p->depth == 0) {
		take_text(p, text.len);
		return false;
	}
	if (!p->line_start || !span_starts_nocase(text, SPAN("--"))) {
		if (p->line_start && text.len < 2 && !end)
			return false;
		found = text.len == 0
		    ? NULL
		    : memmem(text.data, text.len, "\r\n--", 4);
		if (found == NULL) { /* "\r\n-" may be the start of it */
			if (end)
				take_text(p, text.len - last_line_end(p, text));
			else if (text.len > 3)
				take_text(p, text.len - 3);
			return false;
		}
		before = (size_t)(found - text.data);
		at = before + 2;
	}
	if (!take_line(text, at, &line, end)) {
		take_text(p, before);
		return false;
	}
	if (!find_boundary(p, line, &depth, &closing)) {
		take_text(p, at + 2);
		return true;
	}
	take_text(p, before);
	skip(p, at - before);
	pass_boundary(p, depth, closing);
	skip(p, line.len + (line.len < text.len - at));
	if (closing)
		begin_body(p, p->at);
	return true;
}

/* Read what the window has. */
static void
work(struct planner *p, bool end)
{
	bool more = true;

	while (more && p->read < p->window.len)
		more = p->in_header ? read_header(p, end) : read_text(p, end);
	buf_drop(&p->window, p->read);
	p->read = 0;
}

struct planner *
planner_new(bool seven)
{
	struct planner *p = mem_alloc(sizeof(*p));

	p->seven = seven;
	begin_entity(p, true);
	return p;
}

void
planner_feed(struct planner *p, struct span piece)
{
	buf_add(&p->window, piece);
	work(p, false);
}

void
planner_end(struct planner *p, struct plan *out)
{
	work(p, true);
	if (!p->in_header)
		end_body(p, !in_multipart(p));
	pop(p, 0);
	*out = p->plan;
	p->plan = (struct plan){ .edit = NULL };
}

void
planner_free(struct planner *p)
{
	if (p == NULL)
		return;
	while (p->depth > 0)
		buf_free(&p->level[--p->depth].boundary);
	plan_free(&p->plan);
	buf_free(&p->window);
	buf_free(&p->scratch);
	buf_free(&p->body.fields.boundary);
	free(p);
}
