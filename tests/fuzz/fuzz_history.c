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
#include <stdlib.h>

enum {
	TOP = 1 << 20,
	ROOM = 1 << 30, /* octets: nothing is dropped */
	SMALL_ROOM = 300,
	REPLY_KEPT = 512,
};

/* Bits of the first octet. */
enum {
	WRITE_FAILS = 1,
	WRITE_IS_SHORT = 2,
	TROUBLE = 3, /* any of these */
	IS_SMALL = 4,
};

/* ---- the spool ---- */

enum half { NEWER, OLDER, HALVES };

struct directory {
	int number[HALVES]; /* of the file in memory */
	bool there[HALVES];
};

static struct directory given, anew, *here;
static unsigned trouble; /* with writing: bits, as above */

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
	int number = here->number[which];

	assert(dir == TOP && (flags & O_NOFOLLOW) != 0);
	assert(which == NEWER || strcmp(name, "history.1") == 0);
	if (!here->there[which] && (flags & O_CREAT) == 0) {
		errno = ENOENT;
		return -1;
	}
	here->there[which] = true;
	assert(lseek(number, 0, SEEK_SET) == 0); /* who writes, appends */
	return fcntl(number, F_DUPFD_CLOEXEC, 0);
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
	if ((trouble & WRITE_IS_SHORT) != 0) {
		size /= 2;
		trouble |= WRITE_FAILS; /* what goes on after it */
	}
	return __real_write(fd, data, size);
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
	assert(trouble != 0);
}

static int
make_half(void)
{
	static int number = 300;

	make_memory_file(number);
	assert(fcntl(number, F_SETFL, O_APPEND) == 0);
	return number++;
}

static void
make_files(void)
{
	size_t i;

	for (i = 0; i < HALVES && given.number[i] == 0; i++) {
		given.number[i] = make_half();
		anew.number[i] = make_half();
	}
}

static void
fill_half(enum half which, struct span text, bool there)
{
	assert(ftruncate(given.number[which], 0) == 0);
	assert(ftruncate(anew.number[which], 0) == 0);
	assert(write_all(given.number[which], text) == 0);
	given.there[which] = there;
	anew.there[which] = false;
}

/* ---- what must hold ---- */

static const struct queue spool = { .top = TOP };

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

static bool
ends_with(struct span s, struct span end)
{
	return s.len >= end.len &&
	    span_equal(span_from(s, s.len - end.len), end);
}

/* A line is added behind what is there, which may end in a cut one, or nothing
 * of it if it can't be written.  The older half is all that is dropped, and
 * only to keep the limit. */
static void
check_added(struct history *h, unsigned bits, queue_id id)
{
	const struct history_line line = { .wall_ms = 1, .id = id };
	struct directory half = { .number[NEWER] = given.number[NEWER],
		.there[NEWER] = given.there[NEWER] };
	struct told all = tell(&given, NULL), least = tell(&half, NULL), is;
	struct stat st;

	trouble = bits & TROUBLE;
	if (trouble == 0) {
		on_line(&all, &line);
		on_line(&least, &line);
	}
	here = &given;
	history_add(h, &line);
	trouble = 0;
	is = tell(&given, NULL);
	assert(ends_with(buf_span(&all.text), buf_span(&is.text)));
	assert(ends_with(buf_span(&is.text), buf_span(&least.text)));
	assert((bits & IS_SMALL) != 0 || is.count == all.count);
	assert(fstat(given.number[NEWER], &st) == 0);
	assert((bits & IS_SMALL) == 0 || st.st_size <= SMALL_ROOM / 2);
	buf_free(&all.text);
	buf_free(&least.text);
	buf_free(&is.text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = fuzz_input(data, size), behind = { NULL, 0 };
	unsigned bits = take_octet(&text);
	bool older = cut_file(&text, &behind);
	struct history *h;

	make_files();
	fill_half(NEWER, text, true);
	fill_half(OLDER, behind, older);
	check_anew();
	h = history_new(&spool, (bits & IS_SMALL) != 0 ? SMALL_ROOM : ROOM);
	check_added(h, bits, 1);
	if ((bits & TROUBLE) != 0)
		check_added(h, bits & IS_SMALL, 2);
	history_resize(h, 0);
	history_free(h);
	return 0;
}
