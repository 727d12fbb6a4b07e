/*
 * The file of what became of recipients (history.c), in memory.
 *
 * input: the newer file.
 *
 * wrap: openat
 */
#include "../../history.h"
#include "../../spool.h"

#include "fuzz.h"

#include <sys/mman.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { TOP = 1 << 20, LIMIT = 1 << 30, REPLY_KEPT = 512 };

/* As it was, and as it is written anew. */
static int file[2] = { -1, -1 };
static unsigned current;

int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);

int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	char path[32];

	assert(dir == TOP && (flags & O_NOFOLLOW) != 0);
	if (strcmp(name, "history") != 0) {
		errno = ENOENT;
		return -1;
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file[current]);
	return __real_openat(AT_FDCWD, path, flags & ~(O_NOFOLLOW | O_CREAT));
}

static void
fill(unsigned which, struct span text)
{
	int *fd = &file[which];

	if (*fd == -1)
		*fd = memfd_create("fuzz", MFD_CLOEXEC);
	assert(*fd != -1 && ftruncate(*fd, 0) == 0);
	assert(lseek(*fd, 0, SEEK_SET) == 0 && write_all(*fd, text) == 0);
}

/* ---- what must hold ---- */

struct told {
	struct buf text;
	struct history *again; /* where to write it anew; NULL: nowhere */
	size_t count;
};

static void
add(struct told *t, struct span field)
{
	buf_add(&t->text, field);
	buf_add_char(&t->text, '\n');
}

static void
on_line(void *arg, const struct history_line *line)
{
	struct told *t = arg;

	assert(line->wall_ms >= 0 && line->delay_ms >= 0);
	buf_printf(&t->text, "%llu %lld %lld\n", (unsigned long long)line->id,
	    (long long)line->wall_ms, (long long)line->delay_ms);
	add(t, line->status);
	add(t, line->dsn);
	add(t, line->sender);
	add(t, line->to);
	add(t, line->original);
	add(t, line->relay);
	add(t, span_first(line->reply, REPLY_KEPT));
	t->count++;
	current = 1;
	history_add(t->again, line);
}

static void
count_line(void *arg, const struct history_line *line)
{
	size_t *count = arg;

	(void)line;
	++*count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct queue q = { .top = TOP };
	const struct history_line line = { .wall_ms = 1, .id = 1 };
	struct told first = { .again = history_new(&q, LIMIT) };
	struct told second = { .again = NULL };
	struct history *h = history_new(&q, LIMIT);
	size_t count = 0;

	/* What is told, written anew, is told the same. */
	fill(0, fuzz_input(data, size));
	fill(1, (struct span){ NULL, 0 });
	current = 0;
	assert(history_read(&q, on_line, &first) == 0);
	current = 1;
	assert(history_read(&q, on_line, &second) == 0);
	assert(span_equal(buf_span(&first.text), buf_span(&second.text)));
	/* A line is added behind one that was cut short. */
	current = 0;
	history_add(h, &line);
	assert(history_read(&q, count_line, &count) == 0);
	assert(count == first.count + 1);
	history_free(h);
	history_free(first.again);
	buf_free(&first.text);
	buf_free(&second.text);
	return 0;
}
