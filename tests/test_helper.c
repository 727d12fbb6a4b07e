/*
 * helper.c: what commands may do, and what they must not (case G4 of the
 * catalogue of bad input); with the real process.
 *
 * wrap: clock_read poll
 */
#include "helper.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What becomes of a row's command; time passes fast where it hangs. */
static const struct row {
	const char *command;
	bool hangs;
	const char *password, *says, *error; /* NULL: none */
} rows[] = {
	{ "echo secret", false, "secret", NULL, NULL },
	{ "printf secret", false, "secret", NULL, NULL },
	{ "printf ' a b \\n'", false, " a b ", NULL, NULL },
	{ "echo secret; echo hint >&2", false, "secret", "hint", NULL },
	{ "echo a; echo b", false, NULL, NULL, "prints more than one line" },
	{ "printf 'a\\n\\n'", false, NULL, NULL, "prints more than one line" },
	{ "printf 'a\\0b'", false, NULL, NULL, "prints a NUL byte" },
	{ "true", false, NULL, NULL, "prints no password" },
	{ "echo", false, NULL, NULL, "prints no password" },
	{ "exec >&-; true", false, NULL, NULL, "prints no password" },
	{ "echo secret; exit 3", false, NULL, NULL,
	    "failed with exit status 3" },
	{ "/no/such/command 2>&-", false, NULL, NULL, "exit status 127" },
	{ "kill -9 $$", false, NULL, NULL, "was ended by signal 9" },
	{ "echo no >&2; exit 1", false, NULL, "no", "exit status 1" },
	{ "head -c 16384 /dev/zero | tr '\\0' x", false, NULL, NULL, NULL },
	{ "head -c 16385 /dev/zero | tr '\\0' x", false, NULL, NULL,
	    "prints more than 16 KiB" },
	{ "exec cat /dev/zero", false, NULL, NULL, "prints more than 16 KiB" },
	{ "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo secret", false,
	    "secret", "xxx", NULL },
	{ "exec sleep 1000", true, NULL, NULL, "was not over within 30 s" },
	{ "exec >&- 2>&-; sleep 1000", true, NULL, NULL, "within 30 s" },
	{ "echo secret; exec sleep 1000", true, NULL, NULL, "within 30 s" },
	/* What stays behind is not waited for, be it out of reach; that one
	 * ends with this process. */
	{ "sleep 1000 & echo secret", false, "secret", NULL, NULL },
	{ "setsid tail -s 0.1 --pid=$PPID -f /dev/null & exec sleep 1000", true,
	    NULL, NULL, "was not over within 30 s" },
	/* Only descriptors 0 to 2, and nothing to read on 0. */
	{ "cat; n=0; while [ $n -lt 99 ]; do [ ! -e /proc/$$/fd/$n ] || "
	  "printf %s, $n; n=$((n + 1)); done",
	    false, "0,1,2,", NULL, NULL },
	{ "env | grep -c '^RELAYD_'; exit 0", false, "0", NULL, NULL },
	{ "pwd", false, "/", NULL, NULL },
};
enum { ROWS = sizeof(rows) / sizeof(*rows) };

static bool time_flies;

void __real_clock_read(struct instant *now);
void __wrap_clock_read(struct instant *now);

/* In whatever process: ten seconds each time it is asked. */
void
__wrap_clock_read(struct instant *now)
{
	static int64_t ahead;

	__real_clock_read(now);
	if (time_flies)
		now->mono_ms += (ahead += 10 * 1000);
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

int
__wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	return __real_poll(fds, count, time_flies ? 10 : timeout_ms);
}

static void
check_result(const struct row *row, struct helper_result *r)
{
	if (row->error != NULL) {
		assert_non_null(strstr(buf_text(&r->error), row->error));
	} else {
		assert_string_equal(buf_text(&r->error), "");
		if (row->password != NULL)
			assert_string_equal(buf_text(&r->password),
			    row->password);
		else
			assert_int_equal(r->password.len, LIMIT_SECRET);
	}
	if (row->says == NULL)
		assert_int_equal(r->says.len, 0);
	else
		assert_int_equal(
		    strncmp(buf_text(&r->says), row->says, strlen(row->says)),
		    0);
	assert_true(r->says.len == 0 || r->says.data[r->says.len - 1] != '\n');
	assert_true(r->says.len <= 512);
}

static void
G4_what_a_command_does_is_told(void **state)
{
	size_t i;

	(void)state;
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(setenv("RELAYD_PASSWORD", "x", 1), 0);
	for (i = 0; i < ROWS; i++) {
		struct helper_result r = { .password = { 0 } };

		time_flies = rows[i].hangs;
		(void)helper_output(rows[i].command, &r);
		time_flies = false;
		check_result(&rows[i], &r);
		helper_result_wipe(&r);
	}
	/* None is left, and none unreaped. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* Told by the end of file of what it holds open. */
static void
G4_what_a_command_leaves_behind_is_ended(void **state)
{
	char directory[] = "/tmp/test_helper.XXXXXX", path[64], command[128], c;
	struct helper_result r = { .password = { 0 } };
	int fd;

	(void)state;
	assert_non_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/fifo", directory);
	(void)snprintf(command, sizeof(command),
	    "exec 3>%s; sleep 1000 & echo secret", path);
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_int_not_equal(fd, -1);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(helper_output(command, &r), 0);
	assert_int_equal(read(fd, &c, 1), 0);
	helper_result_wipe(&r);
	(void)close(fd);
	(void)unlink(path);
	(void)rmdir(directory);
}

/* ---- by the process ---- */

struct waiting {
	struct loop *loop;
	struct helper_run *run;
	size_t *left;
	const struct row *row;
};

static void
on_done(void *arg, struct helper_result *r)
{
	struct waiting *w = arg;

	if (w->row != NULL)
		check_result(w->row, r);
	else
		assert_non_null(strstr(buf_text(&r->error), "process is gone"));
	helper_cancel(w->run);
	if (--*w->left == 0)
		loop_stop(w->loop);
}

static int
enter(void *arg)
{
	return arg == NULL ? 0 : -1;
}

static void
the_process_runs_them_side_by_side(void **state)
{
	struct strings commands = { 0 };
	struct waiting waiting[ROWS];
	struct loop *l = loop_new();
	struct helper *h;
	size_t i, left = 0;

	(void)state;
	for (i = 0; i < ROWS; i++)
		strings_add(&commands, span_of(rows[i].command));
	h = helper_new(&commands, enter, NULL);
	assert_non_null(h);
	for (i = 0; i < ROWS; i++) {
		if (rows[i].hangs)
			continue;
		left++;
		waiting[i] = (struct waiting){ l, NULL, &left, &rows[i] };
		waiting[i].run =
		    helper_start(h, l, rows[i].command, on_done, &waiting[i]);
		assert_non_null(waiting[i].run);
	}
	assert_int_equal(loop_run(l), 0);
	helper_free(h);
	loop_free(l);
	strings_free(&commands);
}

/* One that is not in its list; and one that could not become the user. */
static void
nothing_else_is_run(void **state)
{
	static const struct {
		const char *known, *asked;
		bool enters;
	} cases[] = {
		{ "echo a", "echo b", true },
		{ "echo a", "ECHO A", true },
		{ "echo a", "echo a", false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct strings commands = { 0 };
		struct loop *l = loop_new();
		size_t left = 1;
		struct waiting w = { l, NULL, &left, NULL };
		struct helper *h;

		strings_add(&commands, span_of(cases[i].known));
		h = helper_new(&commands, enter, cases[i].enters ? NULL : &w);
		assert_non_null(h);
		w.run = helper_start(h, l, cases[i].asked, on_done, &w);
		/* If it is gone already, that is told at once. */
		if (w.run != NULL)
			assert_int_equal(loop_run(l), 0);
		else
			assert_false(cases[i].enters);
		helper_free(h);
		loop_free(l);
		strings_free(&commands);
	}
}

/* A FIFO's end of file tells when the command, which holds it open, is gone. */
static void
a_command_ends_when_nobody_waits_for_it(void **state)
{
	struct strings commands = { 0 };
	struct loop *l = loop_new();
	int held[2];
	char command[64], byte;
	struct waiting w = { .loop = l };
	struct helper *h;
	int i;

	(void)state;
	for (i = 0; i < 2; i++) { /* cancelled; the daemon is gone */
		assert_int_equal(pipe(held), 0);
		(void)snprintf(command, sizeof(command),
		    "exec 3>/proc/%d/fd/%d; echo >&3; exec sleep 1000",
		    (int)getpid(), held[1]);
		strings_add(&commands, span_of(command));
		h = helper_new(&commands, enter, NULL);
		w.run = helper_start(h, l, command, on_done, &w);
		assert_non_null(w.run);
		assert_int_equal(read(held[0], &byte, 1), 1); /* it runs */
		(void)close(held[1]);
		if (i == 0)
			helper_cancel(w.run);
		helper_free(h);
		if (i == 1)
			helper_cancel(w.run);
		assert_int_equal(read(held[0], &byte, 1), 0);
		(void)close(held[0]);
	}
	strings_free(&commands);
	loop_free(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(G4_what_a_command_does_is_told),
		cmocka_unit_test(G4_what_a_command_leaves_behind_is_ended),
		cmocka_unit_test(the_process_runs_them_side_by_side),
		cmocka_unit_test(nothing_else_is_run),
		cmocka_unit_test(a_command_ends_when_nobody_waits_for_it),
	};

	(void)alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
