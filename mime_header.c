/*
 * What a header section says of its body: the Content-* fields that matter
 * (RFC 2045, 5 and 6.1), with comments, quotes and folding.  Where two readers
 * could see two things, the body is sealed: nobody is to look inside.
 */
#include "header.h"
#include "mime.h"

#include <string.h>

enum { LIMIT_BOUNDARY = 200 }; /* RFC 2046 has 70; more can't be matched */

/* ---- words ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Skip blanks and comments, which nest; one that is never closed is all that
 * remains. */
static void
skip_blanks(struct span *s)
{
	size_t i, depth = 0;

	for (i = 0; i < s->len; i++) {
		char c = s->data[i];

		if (c == '(')
			depth++;
		else if (depth == 0 && !is_blank(c))
			break;
		else if (c == ')')
			depth--;
		else if (c == '\\' && depth > 0)
			i++;
	}
	*s = span_from(*s, i < s->len ? i : s->len);
}

/* Take all up to a blank or one of stops; "boundary==_x" is common, so values
 * are not held to the grammar of a token. */
static struct span
take_word(struct span *s, const char *stops)
{
	struct span word;
	size_t i;

	for (i = 0; i < s->len; i++) {
		char c = s->data[i];

		if (is_blank(c) || (c != '\0' && strchr(stops, c) != NULL))
			break;
	}
	word = span_first(*s, i);
	*s = span_from(*s, i);
	return word;
}

static bool
take_char(struct span *s, char c)
{
	skip_blanks(s);
	if (s->len == 0 || s->data[0] != c)
		return false;
	*s = span_from(*s, 1);
	return true;
}

/* The value of a parameter, quoted or not, into out. */
static bool
take_value(struct span *s, struct buf *out)
{
	size_t i;

	skip_blanks(s);
	buf_clear(out);
	if (s->len == 0 || s->data[0] != '"') {
		buf_add(out, take_word(s, ";("));
		return true;
	}
	for (i = 1; i < s->len && s->data[i] != '"'; i++) {
		if (s->data[i] == '\\')
			i++;
	}
	if (i >= s->len)
		return false;
	header_add_unquoted(out, span_from(span_first(*s, i), 1));
	*s = span_from(*s, i + 1);
	return true;
}

/* ---- fields ---- */

/* The boundary parameter; of two only the same is fine. */
static void
read_boundary(struct span parameters, struct mime_fields *f)
{
	struct buf value = { NULL, 0, 0 };
	struct span name, boundary;

	while (f->kind == MIME_MULTIPART && take_char(&parameters, ';')) {
		skip_blanks(&parameters);
		name = take_word(&parameters, "=;(");
		if (!take_char(&parameters, '=') ||
		    !take_value(&parameters, &value))
			continue;
		boundary = span_trim(buf_span(&value));
		if (!span_equal_nocase(name, SPAN("boundary")))
			continue;
		if (f->boundary.len > 0 &&
		    !span_equal(boundary, buf_span(&f->boundary)))
			f->kind = MIME_SEALED;
		buf_clear(&f->boundary);
		buf_add(&f->boundary, boundary);
	}
	if (f->boundary.len == 0 || f->boundary.len > LIMIT_BOUNDARY)
		f->kind = MIME_SEALED;
	buf_free(&value);
}

/* Is it a signature's or a cipher's, whose octets must not change? */
static bool
is_sealed(struct span type, struct span subtype)
{
	static const char *const application[] = { "pkcs7-mime", "x-pkcs7-mime",
		"pkcs7-signature", "x-pkcs7-signature" };
	size_t i;

	if (span_equal_nocase(type, SPAN("multipart")))
		return span_equal_nocase(subtype, SPAN("signed")) ||
		    span_equal_nocase(subtype, SPAN("encrypted"));
	if (!span_equal_nocase(type, SPAN("application")))
		return false;
	for (i = 0; i < sizeof(application) / sizeof(application[0]); i++) {
		if (span_equal_nocase(subtype, span_of(application[i])))
			return true;
	}
	return span_starts_nocase(subtype, SPAN("pgp-"));
}

/* A type that can't be read is text (RFC 2045, 5.2). */
static void
read_type(struct span value, struct mime_fields *f)
{
	struct span type, subtype = { NULL, 0 };

	skip_blanks(&value);
	type = take_word(&value, "/;(");
	if (take_char(&value, '/')) {
		skip_blanks(&value);
		subtype = take_word(&value, ";(");
	}
	f->kind = MIME_OTHER;
	if (is_sealed(type, subtype)) {
		f->kind = MIME_SEALED;
	} else if (span_equal_nocase(type, SPAN("multipart"))) {
		f->kind = MIME_MULTIPART;
		f->digest = span_equal_nocase(subtype, SPAN("digest"));
		read_boundary(value, f);
	} else if (span_equal_nocase(type, SPAN("message"))) {
		f->kind = span_equal_nocase(subtype, SPAN("rfc822"))
		    ? MIME_MESSAGE
		    : MIME_SEALED;
	} else if (span_equal_nocase(type, SPAN("text")) || subtype.len == 0) {
		f->kind = MIME_TEXT;
	}
}

/* False: an encoding that we do not know. */
static bool
read_encoding(struct span value, struct mime_fields *f)
{
	struct span word;

	skip_blanks(&value);
	word = take_word(&value, ";(");
	f->wide = span_equal_nocase(word, SPAN("8bit")) ||
	    span_equal_nocase(word, SPAN("binary"));
	if (span_equal_nocase(word, SPAN("quoted-printable")))
		f->encoding = ENCODING_QP;
	else if (span_equal_nocase(word, SPAN("base64")))
		f->encoding = ENCODING_BASE64;
	else
		return f->wide || word.len == 0 ||
		    span_equal_nocase(word, SPAN("7bit"));
	return true;
}

void
mime_fields_read(struct span header, bool in_digest, struct mime_fields *f)
{
	struct header_field field;
	struct span rest = header;
	bool sealed = false;

	buf_free(&f->boundary);
	*f = (struct mime_fields){
		.kind = in_digest ? MIME_MESSAGE : MIME_TEXT,
	};
	while (header_next(&rest, &field)) {
		if (span_equal_nocase(field.name, SPAN("MIME-Version"))) {
			f->has_version = true;
		} else if (span_equal_nocase(field.name,
			       SPAN("Content-Type"))) {
			sealed |= f->has_type;
			f->has_type = true;
			read_type(field.value, f);
		} else if (span_equal_nocase(field.name,
			       SPAN("Content-Transfer-Encoding"))) {
			sealed |= f->has_encoding;
			f->has_encoding = true;
			sealed |= !read_encoding(field.value, f);
			f->encoding_at =
			    (size_t)(field.text.data - header.data);
			f->encoding_len = field.text.len;
		}
	}
	if (f->encoding != ENCODING_IDENTITY &&
	    (f->kind == MIME_MULTIPART || f->kind == MIME_MESSAGE))
		sealed = true; /* these have none (RFC 2045, 6.4) */
	if (sealed)
		f->kind = MIME_SEALED;
}
