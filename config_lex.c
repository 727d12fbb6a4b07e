/*
 * The words of relayd.conf, as libconfuse 3.3 would read them.
 */
#include "config_parts.h"

#include <stdlib.h>
#include <string.h>

static void
advance(struct config_lexer *l, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		l->line += l->rest.data[i] == '\n';
	l->rest = span_from(l->rest, count);
}

static bool
starts(struct span s, const char *text)
{
	size_t len = strlen(text);

	return s.len >= len && memcmp(s.data, text, len) == 0;
}

/* Skip blanks and comments; false: a comment is not closed. */
static bool
skip_blanks(struct config_lexer *l)
{
	for (;;) {
		struct span s = l->rest;
		const char *end;

		l->token_line = l->line;
		if (s.len > 0 && strchr(" \t\r\n", *s.data) != NULL) {
			advance(l, 1);
		} else if (starts(s, "#") || starts(s, "//")) {
			end = memchr(s.data, '\n', s.len);
			advance(l,
			    end != NULL ? (size_t)(end - s.data) : s.len);
		} else if (starts(s, "/*")) {
			s = span_from(s, 2);
			end = memmem(s.data, s.len, "*/", 2);
			if (end == NULL)
				return false;
			advance(l, 2 + (size_t)(end - s.data) + 2);
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
string_token(struct config_lexer *l)
{
	struct span s = l->rest;
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
			l->problem = *here.data == '$'
			    ? "\"${\" without its \"}\" in a quoted value"
			    : "this escape (\\) in a quoted value is none";
			return CONFIG_BAD;
		}
		i += len;
	}
	if (i >= s.len || s.data[i] != quote) {
		l->problem = "a quoted value does not end on its line";
		return CONFIG_BAD;
	}
	l->token = span_first(s, i + 1);
	return CONFIG_STRING;
}

int
config_lex(struct config_lexer *l)
{
	struct span s;
	size_t len = 0;

	if (!skip_blanks(l)) {
		l->problem = "this comment (/*) is not closed";
		return CONFIG_BAD;
	}
	s = l->rest;
	if (s.len == 0)
		return CONFIG_END;
	l->token = span_first(s, 1);
	if (strchr("\"'", *s.data) != NULL) {
		int token = string_token(l);

		advance(l, token == CONFIG_BAD ? 0 : l->token.len);
		return token;
	}
	if (starts(s, "${"))
		len = variable_length(s);
	else
		while (len < s.len &&
		    strchr(" #\"'\t\n\r={}()+,*", s.data[len]) == NULL)
			len++;
	if (len > 0) {
		l->token = span_first(s, len);
		advance(l, len);
		return CONFIG_WORD;
	}
	advance(l, 1);
	return (unsigned char)*s.data;
}
