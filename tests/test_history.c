/*
 * The delivery history: what is written is read again, in order and whole,
 * whatever happens to the files meanwhile.
 *
 * wrap: write openat clock_read
 */
#include "../history.h"
#include "../spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
int __real_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...);
void __real_clock_read(struct instant *now);
void __wrap_clock_read(struct instant *now);

/* ---- faults ---- */

static struct {
	bool full;         /* writes fail with ENOSPC ... */
	size_t room;       /* ... after so many octets */
	unsigned warnings; /* lines to stderr */
	int64_t clock_ms;
	bool rotate; /* when the older half is next opened */
} fake;

ssize_t
__wrap_write(int fd, const void *data, size_t len)
{
	if (fd == STDERR_FILENO) {
		fake.warnings++;
		return (ssize_t)len;
	}
	if (!fake.full)
		return __real_write(fd, data, len);
	if (fake.room > 0) {
		len = fake.room;
		fake.room = 0;
		return __real_write(fd, data, len);
	}
	errno = ENOSPC;
	return -1;
}

void
__wrap_clock_read(struct instant *now)
{
	__real_clock_read(now);
	now->mono_ms += fake.clock_ms;
}

/* ---- a spool ---- */

struct bench {
	char path[64];
	struct queue *queue;
	struct history *history;
	unsigned written;
};

static int
setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	pid_t owner;

	(void)snprintf(b->path, sizeof(b->path), "/tmp/relayd-test-XXXXXX");
	assert_non_null(mkdtemp(b->path));
	b->queue = queue_open(b->path, 0, &owner);
	assert_non_null(b->queue);
	b->history = history_new(b->queue, 4096);
	memset(&fake, 0, sizeof(fake));
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;
	char command[96];

	history_free(b->history);
	queue_close(b->queue);
	(void)snprintf(command, sizeof(command), "rm -r %s", b->path);
	assert_int_equal(system(command), 0);
	free(b);
	return 0;
}

/* The n-th outcome, with its number as the time. */
static void
add(struct bench *b, const char *reply)
{
	const struct history_line line = {
		.wall_ms = ++b->written,
		.delay_ms = 1500,
		.id = 42,
		.status = SPAN("sent"),
		.dsn = SPAN("2.0.0"),
		.sender = SPAN(""),
		.to = SPAN("a@example.org"),
		.original = SPAN("root"),
		.relay = SPAN("mx[192.0.2.1]:587"),
		.reply = span_of(reply),
	};

	history_add(b->history, &line);
}

int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (fake.rotate && strcmp(name, "history.1") == 0) {
		fake.rotate = false;
		assert_int_equal(renameat(dir, "history", dir, "history.1"), 0);
	}
	return __real_openat(dir, name, flags, mode);
}

/* What was read. */
struct seen {
	struct bench *bench;
	unsigned count;
	int64_t first, last;
	bool in_order;
	char reply[2048];
	unsigned add_each; /* write so many lines while one is told */
};

static void
see(void *arg, const struct history_line *line)
{
	struct seen *s = arg;
	unsigned i;

	if (s->count++ == 0)
		s->first = line->wall_ms;
	else if (line->wall_ms != s->last + 1)
		s->in_order = false;
	s->last = line->wall_ms;
	assert_true(line->reply.len < sizeof(s->reply));
	memcpy(s->reply, line->reply.data, line->reply.len);
	s->reply[line->reply.len] = '\0';
	assert_true(span_equal(line->to, SPAN("a@example.org")));
	assert_true(span_equal(line->original, SPAN("root")));
	assert_true(span_equal(line->relay, SPAN("mx[192.0.2.1]:587")));
	assert_int_equal(line->sender.len, 0);
	assert_int_equal(line->delay_ms, 1500);
	assert_int_equal(line->id, 42);
	for (i = 0; i < s->add_each; i++)
		add(s->bench, "meanwhile");
}

static struct seen
read_all(struct bench *b, unsigned add_each)
{
	struct seen s = { .bench = b, .in_order = true, .add_each = add_each };

	assert_int_equal(history_read(b->queue, see, &s), 0);
	assert_true(s.in_order);
	return s;
}

static off_t
size_of(const struct bench *b, const char *name)
{
	struct stat st;

	return fstatat(b->queue->top, name, &st, 0) == -1 ? -1 : st.st_size;
}

static void
spoil(const struct bench *b, const char *text)
{
	int fd = __real_openat(b->queue->top, "history", O_WRONLY | O_APPEND);

	assert_true(fd != -1);
	assert_int_equal(__real_write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

/* ---- tests ---- */

static void
what_is_written_is_read_again(void **state)
{
	static const char hostile[] = "250 \n\t\\x0a \xff\xc3\xa9\x1b \"\\ok";
	struct bench *b = *state;

	assert_int_equal(read_all(b, 0).count, 0);
	add(b, "250 ok");
	add(b, "");
	assert_int_equal(read_all(b, 0).count, 2);
	add(b, hostile);
	assert_string_equal(read_all(b, 0).reply, hostile);
}

static void
a_long_reply_is_cut(void **state)
{
	char reply[5000];

	memset(reply, '\x01', sizeof(reply) - 1);
	reply[sizeof(reply) - 1] = '\0';
	add(*state, reply);
	assert_int_equal(strlen(read_all(*state, 0).reply), 512);
}

static void
both_halves_together_stay_within_the_size(void **state)
{
	struct bench *b = *state;
	struct seen s;
	unsigned i;

	for (i = 0; i < 1000; i++) {
		add(b, "250 ok");
		assert_true(size_of(b, "history") <= 2048);
		assert_true(size_of(b, "history.1") <= 2048);
	}
	s = read_all(b, 0);
	assert_int_equal(s.last, 1000);
	assert_true(s.count > 25);
	/* A line longer than a half has one of its own. */
	history_resize(b->history, 2);
	add(b, "250 ok");
	add(b, "250 ok");
	assert_int_equal(read_all(b, 0).count, 2);
}

static void
size_0_writes_nothing(void **state)
{
	struct bench *b = *state;

	history_resize(b->history, 0);
	add(b, "250 ok");
	assert_int_equal(size_of(b, "history"), -1);
	history_resize(b->history, 4096);
	add(b, "250 ok");
	assert_int_equal(read_all(b, 0).count, 1);
}

/* Rotated several times while it is read, nothing of it is lost or twice. */
static void
reading_goes_on_over_rotations(void **state)
{
	struct bench *b = *state;
	struct seen s;
	unsigned i, before;

	for (i = 0; i < 40; i++)
		add(b, "250 ok");
	before = read_all(b, 0).count;
	assert_true(before > 30);
	s = read_all(b, 30);
	assert_true(s.count >= before);
	assert_true(s.first <= 40 - (int64_t)before + 1);
}

/* The newer half becomes the older one between the two opens. */
static void
a_rotation_between_the_opens_hides_nothing(void **state)
{
	struct bench *b = *state;
	struct seen s;

	add(b, "250 ok");
	add(b, "250 ok");
	fake.rotate = true;
	s = read_all(b, 0);
	assert_false(fake.rotate);
	assert_int_equal(s.count, 2);
}

static void
a_torn_line_is_ignored_and_taken_back(void **state)
{
	struct bench *b = *state;

	add(b, "250 ok");
	spoil(b, "2\t00000000001a\tsent\t2.0.0\t1500\t\ta@example.org\tro");
	assert_int_equal(read_all(b, 0).count, 1);
	history_free(b->history); /* as after a crash */
	b->history = history_new(b->queue, 4096);
	add(b, "250 ok");
	assert_int_equal(read_all(b, 0).count, 2);
}

static void
what_is_no_line_is_ignored(void **state)
{
	static const char *const lines[] = { "\n", "x\n", "1\t2\t3\n",
		"99\t00000000001a\tsent\t2\t1\t\ta\tb\tc\n",
		"99\t00000000001a\tsent\t2\t1\t\ta\tb\tc\td\te\n",
		"-1\t00000000001a\tsent\t2\t1\t\ta\tb\tc\td\n",
		"99\t../../../etc\tsent\t2\t1\t\ta\tb\tc\td\n" };
	struct bench *b = *state;
	size_t i;

	add(b, "250 ok");
	for (i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		spoil(b, lines[i]);
	for (i = 0; i < 5000; i++)
		spoil(b, "no end no end");
	spoil(b, "\n");
	assert_int_equal(read_all(b, 0).count, 1);
	add(b, "250 ok");
	assert_int_equal(read_all(b, 0).count, 2);
}

/* Nothing fails for it: counted, one warning a minute. */
static void
a_full_disk_is_counted_and_told_once_a_minute(void **state)
{
	struct bench *b = *state;
	unsigned i;

	add(b, "250 ok");
	fake.full = true;
	for (i = 0; i < 10; i++) {
		fake.room = i % 2 * 20; /* half of a line fits */
		add(b, "250 ok");
	}
	assert_int_equal(fake.warnings, 1);
	fake.clock_ms += 60 * 1000;
	add(b, "250 ok");
	assert_int_equal(fake.warnings, 2);
	fake.full = false;
	b->written = 1;
	add(b, "250 ok");
	assert_int_equal(read_all(b, 0).count, 2);
}

static void
another_kind_of_file_is_left_alone(void **state)
{
	struct bench *b = *state;
	struct seen s = { .bench = b };

	assert_int_equal(mkfifoat(b->queue->top, "history", 0600), 0);
	add(b, "250 ok"); /* doesn't wait for a reader */
	assert_int_equal(fake.warnings, 1);
	assert_int_equal(history_read(b->queue, see, &s), -1);
	assert_int_equal(s.count, 0);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read_again),
		TEST(a_long_reply_is_cut),
		TEST(both_halves_together_stay_within_the_size),
		TEST(size_0_writes_nothing),
		TEST(reading_goes_on_over_rotations),
		TEST(a_rotation_between_the_opens_hides_nothing),
		TEST(a_torn_line_is_ignored_and_taken_back),
		TEST(what_is_no_line_is_ignored),
		TEST(a_full_disk_is_counted_and_told_once_a_minute),
		TEST(another_kind_of_file_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
