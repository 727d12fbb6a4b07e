/*
 * A part of what "make coverage" builds: the daemon is confined as ever, but
 * may write its counters too, which it does at its end, also by _exit().
 */
#include <sys/syscall.h>

#include <fcntl.h>
#include <linux/landlock.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

void __gcov_dump(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

void
__wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}

/* A landlock domain that is about to be entered has the counters' place. */
static void
keep_counters(int ruleset)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE |
		    LANDLOCK_ACCESS_FS_WRITE_FILE | UINT64_C(1) << 14,
		.parent_fd = open(COUNTERS, O_PATH | O_CLOEXEC),
	};

	(void)__real_syscall(SYS_landlock_add_rule, ruleset,
	    LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	(void)close(rule.parent_fd);
}

long
__wrap_syscall(long number, ...)
{
	long argument[5];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 5; i++)
		argument[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_landlock_restrict_self)
		keep_counters((int)argument[0]);
	return __real_syscall(number, argument[0], argument[1], argument[2],
	    argument[3], argument[4]);
}
