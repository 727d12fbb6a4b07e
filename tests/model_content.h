/*
 * What a strict reader makes of the octets of a message, worked out from
 * RFC 5321, section 4.5.2, without text.c: to compare it with.
 */
#ifndef MODEL_CONTENT_H
#define MODEL_CONTENT_H

#include "../relayd.h"

/* The text up to the next CR or LF. */
static inline struct span
text_of_line(struct span s)
{
	size_t len = 0;

	while (len < s.len && s.data[len] != '\r' && s.data[len] != '\n')
		len++;
	return span_first(s, len);
}

/* Behind CRLF a dot comes off a line that has more than it; behind a bare CR
 * or LF only one of two. */
static inline void
model_content(struct span sent, bool dots, struct buf *out)
{
	struct span line;
	bool bare = false;

	while (sent.len > 0) {
		line = text_of_line(sent);
		sent = span_from(sent, line.len);
		if (dots && line.len > 1 && line.data[0] == '.' &&
		    (!bare || line.data[1] == '.'))
			line = span_from(line, 1);
		buf_add(out, line);
		buf_add_text(out, "\r\n");
		bare = !span_starts_nocase(sent, SPAN("\r\n"));
		sent = span_from(sent, bare ? 1 : 2);
	}
}

#endif
