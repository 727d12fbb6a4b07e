/*
 * The files of what became of recipients (history.c), in memory.
 *
 * input: an octet of what happens when a line is added (see below), and the
 * newer file; the older one, if there is one, behind a line "%%".
 *
 * wrap: openat renameat write log_warning
 */
#include "../../history.h"
#include "../../spool.h"

#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	TOP = 1 << 20,
	ROOM = 1 << 30, /* octets: nothing is dropped */
	SMALL_ROOM = 300,
	REPLY_KEPT = 512,
	ADDED = 3,
};

/* Bits of the first octet. */
enum { WRITE_FAILS = 1, WRITE_IS_SHORT = 2, IS_SMALL = 4 };

/* ---- the spool ---- */

enum half { NEWER, OLDER, HALVES };

struct directory {
	int number[HALVES]; /* of the file in memory */
	bool there[HALVES];
};

static struct directory given, anew, *here;
static unsigned trouble; /* bits, as above */

int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);
int __wrap_renameat(int from, const char *old, int to, const char *new);
ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
void __wrap_log_warning(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);

int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	enum half which = strcmp(name, "history") == 0 ? NEWER : OLDER;
	char path[32];

	assert(dir == TOP && (flags & O_NOFOLLOW) != 0);
	assert(which == NEWER || strcmp(name, "history.1") == 0);
	if (!here->there[which] && (flags & O_CREAT) == 0) {
		errno = ENOENT;
		return -1;
	}
	here->there[which] = true;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d",
	    here->number[which]);
	return __real_openat(AT_FDCWD, path, flags & ~(O_NOFOLLOW | O_CREAT));
}

int
__wrap_renameat(int from, const char *old, int to, const char *new)
{
	int number = here->number[NEWER];

	assert(from == TOP && strcmp(old, "history") == 0);
	assert(to == TOP && strcmp(new, "history.1") == 0);
	assert(here->there[NEWER]);
	here->number[NEWER] = here->number[OLDER];
	here->number[OLDER] = number;
	here->there[NEWER] = false;
	here->there[OLDER] = true;
	assert(ftruncate(here->number[NEWER], 0) == 0);
	return 0;
}

ssize_t
__wrap_write(int fd, const void *data, size_t size)
{
	if ((trouble & WRITE_FAILS) != 0) {
		errno = EIO;
		return -1;
	}
	if ((trouble & WRITE_IS_SHORT) != 0)
		size /= 2;
	return __real_write(fd, data, size);
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
	assert((trouble & (WRITE_FAILS | WRITE_IS_SHORT)) != 0);
}

static void
make_files(void)
{
	static int number = 300;
	size_t i;

	if (number > 300)
		return;
	for (i = 0; i < HALVES; i++) {
		make_memory_file(given.number[i] = number++);
		make_memory_file(anew.number[i] = number++);
	}
}

static void
fill_half(enum half which, struct span text, bool there)
{
	fill_memory_file(given.number[which], text, 0600);
	fill_memory_file(anew.number[which], (struct span){ NULL, 0 }, 0600);
	given.there[which] = there;
	anew.there[which] = false;
}

/* ---- what must hold ---- */

static const struct queue spool = { .top = TOP };

struct told {
	struct buf text;
	struct history *again; /* where to write it anew; NULL: nowhere */
	size_t count;
	queue_id last;
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
	t->last = line->id;
	here = &anew;
	history_add(t->again, line);
}

static struct told
tell(struct directory *from, struct history *again)
{
	struct told t = { .again = again };

	here = from;
	assert(history_read(&spool, on_line, &t) == 0);
	return t;
}

/* What is told, written anew, is told the same. */
static void
check_anew(void)
{
	struct history *h = history_new(&spool, ROOM);
	struct told first = tell(&given, h), second = tell(&anew, NULL);

	assert(span_equal(buf_span(&first.text), buf_span(&second.text)));
	history_free(h);
	buf_free(&first.text);
	buf_free(&second.text);
}

/* A line is added behind what is there, which may end in a cut one; of those
 * before it only the oldest are dropped, and nothing is left of one that can't
 * be written. */
static void
check_added(struct history *h, unsigned bits, queue_id id)
{
	const struct history_line line = { .wall_ms = 1, .id = id };
	struct told before = tell(&given, NULL), after;
	struct span was = buf_span(&before.text), is;
	bool fails = (bits & (WRITE_FAILS | WRITE_IS_SHORT)) != 0;

	here = &given;
	trouble = bits;
	history_add(h, &line);
	trouble = 0;
	after = tell(&given, NULL);
	is = buf_span(&after.text);
	assert(after.count <= before.count + !fails);
	if ((bits & IS_SMALL) == 0)
		assert(after.count == before.count + !fails);
	if (fails)
		assert(is.len <= was.len &&
		    span_equal(is, span_from(was, was.len - is.len)));
	else
		assert(after.last == id);
	buf_free(&before.text);
	buf_free(&after.text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = fuzz_input(data, size), behind = { NULL, 0 };
	unsigned bits = take_octet(&text);
	bool older = cut_file(&text, &behind);
	struct history *h;
	queue_id id;

	make_files();
	fill_half(NEWER, text, true);
	fill_half(OLDER, behind, older);
	check_anew();
	h = history_new(&spool, (bits & IS_SMALL) != 0 ? SMALL_ROOM : ROOM);
	for (id = 1; id <= ADDED; id++)
		check_added(h, bits, id);
	history_resize(h, 0);
	history_free(h);
	return 0;
}
