/*
 * Files of messages that are over: what becomes of them, and when.
 */
#include "../spool.h"

#include "spool_directory.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct spool {
	char path[64];
	struct queue *queue;
};

static int
setup(void **state)
{
	struct spool *s = mem_alloc(sizeof(*s));

	s->queue = make_spool(s->path);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct spool *s = *state;

	remove_spool(s->path, s->queue);
	free(s);
	return 0;
}

static void
committed(void *arg, queue_id id, int error)
{
	(void)arg;
	(void)id;
	assert_int_equal(error, 0);
}

/* A message of so many octets that waits for its sync. */
static queue_id
come(const struct spool *s, size_t octets)
{
	struct msg *m = queue_begin(s->queue);
	struct envelope e = { .uid = -1 };
	queue_id id = msg_id(m);
	char *content = mem_alloc(octets + 1);

	memset(content, (int)('a' + octets % 26), octets);
	e.sender = mem_text("from@here.example");
	e.original_sender = mem_text("root");
	e.client = mem_text("userid 1000");
	e.envid = mem_text("");
	(void)envelope_add(&e, "you@example.com", "root");
	msg_envelope(m, &e);
	assert_int_equal(msg_write(m, (struct span){ content, octets }), 0);
	queue_commit(m, committed, NULL);
	envelope_clear(&e);
	free(content);
	return id;
}

/* As many as make it worth to keep files. */
static void
several_come(const struct spool *s)
{
	int i;

	for (i = 0; i < 4; i++)
		(void)come(s, 10);
}

static void
sync_all(const struct spool *s)
{
	while (queue_sync(s->queue))
		;
}

static queue_id
arrive(const struct spool *s, size_t octets)
{
	queue_id id = come(s, octets);

	sync_all(s);
	return id;
}

/* Its one recipient got it. */
static void
leave(const struct spool *s, queue_id id)
{
	struct entry *e = queue_take(s->queue, id);

	assert_non_null(e);
	e->envelope.recipient[0].state = RECIPIENT_SENT;
	assert_int_equal(entry_finish(e), 0);
}

static ino_t
file_of(const struct spool *s, const char *place, queue_id id)
{
	char path[96], name[QUEUE_ID_MAX];
	struct stat st;

	queue_id_text(id, name);
	(void)snprintf(path, sizeof(path), "%s/%s/%s", s->path, place, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* It is what it was when it came. */
static void
assert_content(const struct spool *s, queue_id id, size_t octets)
{
	struct entry *e = queue_take(s->queue, id);
	char piece[4096];
	size_t got = 0;
	ssize_t n, i;

	assert_non_null(e);
	assert_int_equal(e->size, octets);
	while ((n = entry_read(e, piece, sizeof(piece))) > 0) {
		for (i = 0; i < n; i++)
			assert_int_equal(piece[i], 'a' + octets % 26);
		got += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, octets);
	entry_close(e);
}

/* Or a power cut could bring back the old name, with another's content. */
static void
a_file_is_overwritten_only_when_its_removal_is_durable(void **state)
{
	const struct spool *s = *state;
	queue_id old = arrive(s, 3000), second, third;
	ino_t file = file_of(s, "new", old);

	several_come(s);
	leave(s, old);
	assert_int_equal(file_of(s, "tmp", old), file);
	second = come(s, 100);
	sync_all(s);
	assert_int_not_equal(file_of(s, "new", second), file);
	third = arrive(s, 2000);
	assert_int_equal(file_of(s, "new", third), file);
	assert_content(s, third, 2000);
	assert_int_equal(files_in(s->path, "tmp"), 0);
}

static void
nothing_is_left_of_what_a_file_had(void **state)
{
	static const size_t octets[] = { 60000, 0, 5000, 4999, 60001, 1, 400000,
		7 };
	const struct spool *s = *state;
	size_t i;

	for (i = 0; i < sizeof(octets) / sizeof(octets[0]); i++) {
		queue_id id = arrive(s, octets[i]);

		assert_content(s, id, octets[i]);
		several_come(s);
		leave(s, id);
		sync_all(s);
	}
}

static void
a_file_is_kept_only_where_others_come_in(void **state)
{
	const struct spool *s = *state;

	queue_id first = arrive(s, 3000), second = arrive(s, 3000);

	leave(s, first);
	assert_int_equal(files_in(s->path, "tmp"), 0);
	several_come(s);
	sync_all(s);
	leave(s, second);
	assert_int_equal(files_in(s->path, "tmp"), 0);
}

static void
a_large_file_is_not_kept(void **state)
{
	const struct spool *s = *state;
	queue_id id = arrive(s, 100000);

	several_come(s);
	leave(s, id);
	assert_int_equal(files_in(s->path, "tmp"), 4); /* theirs */
}

static void
there_are_not_more_than_can_be_used(void **state)
{
	const struct spool *s = *state;
	queue_id id[SPARES_MAX + 10];
	size_t i;

	for (i = 0; i < SPARES_MAX + 10; i++)
		id[i] = arrive(s, 10);
	several_come(s);
	for (i = 0; i < SPARES_MAX + 10; i++)
		leave(s, id[i]);
	assert_int_equal(files_in(s->path, "tmp"), SPARES_MAX + 4);
}

static void
what_is_not_used_for_a_while_is_removed(void **state)
{
	const struct spool *s = *state;
	queue_id id = arrive(s, 10), other = arrive(s, 10);

	several_come(s);
	leave(s, id);
	leave(s, other);
	sync_all(s);
	(void)arrive(s, 10);
	assert_int_equal(files_in(s->path, "tmp"), 1);
	assert_true(queue_unsynced(s->queue));
	queue_sync_marks(s->queue); /* one was used */
	assert_int_equal(files_in(s->path, "tmp"), 1);
	queue_sync_marks(s->queue);
	assert_int_equal(files_in(s->path, "tmp"), 0);
	assert_false(queue_unsynced(s->queue));
}

static void
nothing_is_left_at_the_end(void **state)
{
	struct spool *s = *state;
	queue_id id = arrive(s, 10);

	several_come(s);
	leave(s, id);
	sync_all(s);
	assert_int_equal(files_in(s->path, "tmp"), 1);
	queue_close(s->queue);
	s->queue = NULL;
	assert_int_equal(files_in(s->path, "tmp"), 0);
}

/* Somebody saves the spool with hard links, or plays tricks. */
static void
what_has_become_of_it_meanwhile_is_not_overwritten(void **state)
{
	static const char *const trick[] = { "ln $spare $saved",
		"mv $spare $saved; mkfifo $spare",
		"mv $spare $saved; ln -s $saved $spare" };
	const struct spool *s = *state;
	size_t i;

	for (i = 0; i < sizeof(trick) / sizeof(trick[0]); i++) {
		char path[96], saved[96], command[256], name[QUEUE_ID_MAX];
		queue_id id = arrive(s, 3000), next;
		struct stat st;

		queue_id_text(id, name);
		(void)snprintf(path, sizeof(path), "%s/tmp/%s", s->path, name);
		(void)snprintf(saved, sizeof(saved), "%s/saved%zu", s->path, i);
		several_come(s);
		leave(s, id);
		sync_all(s);
		(void)snprintf(command, sizeof(command),
		    "spare=%s saved=%s; %s", path, saved, trick[i]);
		assert_int_equal(system(command), 0);
		next = arrive(s, 10);
		assert_content(s, next, 10);
		assert_int_equal(stat(saved, &st), 0);
		assert_true(st.st_size > 3000);
		assert_int_equal(lstat(path, &st), -1);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_file_is_overwritten_only_when_its_removal_is_durable),
		T(nothing_is_left_of_what_a_file_had),
		T(a_file_is_kept_only_where_others_come_in),
		T(a_large_file_is_not_kept),
		T(there_are_not_more_than_can_be_used),
		T(what_is_not_used_for_a_while_is_removed),
		T(nothing_is_left_at_the_end),
		T(what_has_become_of_it_meanwhile_is_not_overwritten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
