/*
 * What the fuzz targets share.  Each is a function that takes any octets and
 * asserts what must hold for all of them; libFuzzer's main() or replay.c calls
 * it.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "../../relayd.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <assert.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct span
fuzz_input(const uint8_t *data, size_t size)
{
	return (struct span){ (const char *)data, size };
}

/* Take the first octet off, 0 if there is none. */
static inline unsigned
take_octet(struct span *in)
{
	unsigned octet = in->len > 0 ? (unsigned char)in->data[0] : 0;

	*in = span_from(*in, in->len > 0);
	return octet;
}

/* Take so much off, if it is there, as read(2) would. */
static inline ssize_t
take_from(struct span *from, void *data, size_t size)
{
	struct span piece = span_first(*from, size);

	if (piece.len > 0)
		memcpy(data, piece.data, piece.len);
	*from = span_from(*from, piece.len);
	return (ssize_t)piece.len;
}

/* Take the first line off. */
static inline struct span
take_line(struct span *in)
{
	struct span line;

	(void)span_cut(*in, '\n', &line, in);
	return line;
}

/* No control characters. */
static inline bool
is_clean(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if ((unsigned char)s.data[i] < ' ' || s.data[i] == 0x7f)
			return false;
	return true;
}

static inline bool
is_printable(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (s.data[i] < ' ' || s.data[i] > '~')
			return false;
	return true;
}

/* A file in memory, of a number that stays the same so that inputs can name it:
 * /proc/self/fd/NUMBER. */
static inline void
make_memory_file(int number)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	assert(fd != -1 && dup2(fd, number) == number && close(fd) == 0);
}

static inline void
fill_memory_file(int number, struct span text, mode_t mode)
{
	assert(ftruncate(number, 0) == 0 && fchmod(number, mode) == 0);
	assert(pwrite_all(number, text, 0) == 0);
}

/* Cut at a line "%%", if there is one: true, and the text behind it. */
static inline bool
cut_file(struct span *text, struct span *behind)
{
	const char *mark =
	    text->len == 0 ? NULL : memmem(text->data, text->len, "\n%%\n", 4);
	size_t len;

	if (mark == NULL)
		return false;
	len = (size_t)(mark - text->data) + 1;
	*behind = span_from(*text, len + 3);
	*text = span_first(*text, len);
	return true;
}

/* Every line ends in CRLF, and there is no other CR or LF. */
static inline bool
is_canonical(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if ((s.data[i] == '\r' &&
			(i + 1 == s.len || s.data[i + 1] != '\n')) ||
		    (s.data[i] == '\n' && (i == 0 || s.data[i - 1] != '\r')))
			return false;
	return s.len == 0 || s.data[s.len - 1] == '\n';
}

/* The octets after which a text of the client's, whose line ends may be any,
 * is canonical. */
static inline void
make_canonical(struct span text, struct buf *out)
{
	struct smtp_decoder d = { 0 };

	smtp_decode_chunk(&d, text, out);
	smtp_decode_end(&d, out);
}

/* A file and the one that it may include; their numbers stay the same, so that
 * inputs can name them. */
enum { MAIN_FILE = 300, INCLUDED_FILE };

#define FUZZ_MAIN     "/proc/self/fd/300"
#define FUZZ_INCLUDED "/proc/self/fd/301"

/* Made once; false: they are there. */
static inline bool
make_memory_files(void)
{
	static bool made;

	if (made)
		return false;
	made = true;
	make_memory_file(MAIN_FILE);
	make_memory_file(INCLUDED_FILE);
	return true;
}

#endif
