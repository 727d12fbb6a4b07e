/*
 * The message as sendmail reads it: the first part of it in memory, what may
 * follow in an unlinked file, since callers such as cron feed it for hours.
 */
#include "sendmail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { LINE_WANTED = 74 }; /* less than 76 by what is around an address */

uint64_t
message_size(const struct message *m)
{
	return m->top.len + m->text.len - m->skip + m->file_size;
}

static int
make_file(struct message *m, struct buf *error)
{
	const char *directory = getenv("TMPDIR");

	if (directory == NULL || directory[0] == '\0')
		directory = "/tmp";
	m->file = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (m->file != -1)
		return EX_OK;
	buf_printf(error, "can't make a temporary file: %s\n", strerror(errno));
	return EX_CANTCREAT;
}

/* Memory is full: from here on it matters how long the message may be. */
static int
spill(struct message *m, struct buf *error)
{
	if (m->ask_limit != NULL)
		m->limit = m->ask_limit();
	if (m->limit == 0 || m->limit > MESSAGE_MAX)
		m->limit = MESSAGE_MAX;
	return make_file(m, error);
}

static int
keep(struct message *m, struct span piece, struct buf *error)
{
	struct span head =
	    span_first(piece, (size_t)MESSAGE_IN_MEMORY - m->text.len);
	struct span rest = span_from(piece, head.len);
	int status = EX_OK;

	buf_add(&m->text, head);
	if (rest.len == 0)
		return EX_OK;
	if (m->file == -1)
		status = spill(m, error);
	if (status == EX_OK && write_all(m->file, rest) == -1) {
		buf_printf(error, "can't write the temporary file: %s\n",
		    strerror(errno));
		status = EX_IOERR;
	}
	m->file_size += rest.len;
	if (status == EX_OK && message_size(m) > m->limit) {
		buf_add_text(error, "message too big\n");
		status = EX_UNAVAILABLE;
	}
	return status;
}

/* Drop a byte order mark and the line that mailboxes separate messages by. */
static size_t
leading_noise(struct span text)
{
	struct span line, rest;
	size_t mark = 0;

	if (span_starts_nocase(text, SPAN("\xef\xbb\xbf")))
		mark = 3;
	if (!span_cut(span_from(text, mark), '\n', &line, &rest))
		return mark;
	if (line.len > 0 && line.data[0] == '>')
		line = span_from(line, 1);
	if (line.len < 5 || memcmp(line.data, "From ", 5) != 0)
		return mark;
	return text.len - rest.len;
}

static void
find_header(struct message *m)
{
	struct smtp_decoder d = { 0 };
	size_t scanned = 0, length = 0, body = 0;

	smtp_decode_chunk(&d, buf_span(&m->text), &m->header);
	smtp_decode_end(&d, &m->header);
	if (header_end(buf_span(&m->header), &scanned, &length, &body)) {
		m->headless = body <= leading_noise(buf_span(&m->header));
		m->header.len = length;
	}
}

int
message_read(struct message *m, int fd, bool dot_ends, struct buf *error)
{
	char chunk[64 << 10];
	bool line_start = true;
	int status = EX_OK;
	ssize_t n;

	while (status == EX_OK) {
		n = read(fd, chunk, sizeof(chunk));
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			buf_printf(error, "can't read the message: %s\n",
			    strerror(errno));
			return EX_NOINPUT;
		}
		/* A terminal gives us a line at a time. */
		if (n == 0 ||
		    (dot_ends && line_start && n == 2 &&
			memcmp(chunk, ".\n", 2) == 0))
			break;
		line_start = chunk[n - 1] == '\n';
		status = keep(m, (struct span){ chunk, (size_t)n }, error);
	}
	find_header(m);
	return status;
}

/* At most LIMIT_NAME octets, and no character cut in two. */
static struct span
cut_name(struct span name)
{
	size_t len = span_first(name, LIMIT_NAME).len;

	while (len > 0 && len < name.len && (name.data[len] & 0xc0) == 0x80)
		len--;
	return span_trim(span_first(name, len));
}

void
message_add_from(struct message *m, struct span name, const char *address)
{
	m->skip = leading_noise(buf_span(&m->text));
	buf_add_text(&m->top, "From: ");
	name = cut_name(name);
	if (name.len > 0) {
		header_add_phrase(&m->top, name);
		/* RFC 5322, 2.1.1, and for encoded words RFC 2047, 2. */
		buf_printf(&m->top, "%s<%s>\r\n",
		    m->top.len + strlen(address) < LINE_WANTED ? " " : "\r\n\t",
		    address);
	} else {
		buf_printf(&m->top, "%s\r\n", address);
	}
	if (m->headless)
		buf_add_text(&m->top, "\r\n");
}

void
message_free(struct message *m)
{
	buf_free(&m->top);
	buf_free(&m->text);
	buf_free(&m->header);
	fd_close(&m->file);
}
