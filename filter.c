/*
 * The system calls that relayd and its libraries make; any other fails with
 * EPERM, and none of them can make a program of data or run another one.
 */
#include "confine.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define OUR_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER == __LITTLE_ENDIAN
#define OUR_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define OUR_ARCH AUDIT_ARCH_S390X
#else
#define OUR_ARCH 0 /* not tried: no filter */
#endif

#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED 1 /* its leak check makes a process of its own */
#else
#define IS_SANITIZED 0
#endif

/* Some architectures have only the newer of two that do the same. */
/* clang-format off */
static const int allowed[] = {
	/* descriptors */
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64,
	SYS_preadv, SYS_pwritev, SYS_close, SYS_close_range, SYS_lseek,
	SYS_fcntl, SYS_ioctl, SYS_dup, SYS_dup3, SYS_pipe2, SYS_eventfd2,
	SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl,
	SYS_epoll_pwait, SYS_signalfd4, SYS_timerfd_create, SYS_timerfd_settime,
	SYS_splice, SYS_sendfile,
#ifdef SYS_poll
	SYS_poll, SYS_select, SYS_epoll_wait, SYS_dup2, SYS_pipe,
#endif
	/* files */
	SYS_openat, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs,
	SYS_fstatfs, SYS_getdents64, SYS_faccessat, SYS_faccessat2,
	SYS_readlinkat, SYS_getcwd, SYS_unlinkat, SYS_renameat2, SYS_linkat,
	SYS_mkdirat, SYS_fchmod, SYS_fchmodat, SYS_utimensat, SYS_umask,
	SYS_ftruncate, SYS_fallocate, SYS_fadvise64, SYS_fsync, SYS_fdatasync,
	SYS_sync_file_range, SYS_flock, SYS_copy_file_range,
#ifdef SYS_open
	SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink,
	SYS_rename, SYS_link, SYS_mkdir, SYS_chmod,
#endif
#ifdef SYS_renameat
	SYS_renameat,
#endif
	/* sockets; socket() is below */
	SYS_socketpair, SYS_bind, SYS_connect, SYS_listen, SYS_accept,
	SYS_accept4, SYS_getsockname, SYS_getpeername, SYS_setsockopt,
	SYS_getsockopt, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg,
	SYS_sendmmsg, SYS_recvmmsg, SYS_shutdown,
	/* memory; mmap() and mprotect() are below */
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_mlock, SYS_munlock,
	SYS_membarrier,
	/* threads, signals, the end; clone() is below */
	SYS_futex, SYS_set_robust_list, SYS_rseq, SYS_set_tid_address,
	SYS_sched_yield, SYS_sched_getaffinity, SYS_rt_sigaction,
	SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
	SYS_sigaltstack, SYS_restart_syscall, SYS_tgkill, SYS_wait4, SYS_waitid,
	SYS_exit, SYS_exit_group,
	/* time, and who we are */
	SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep,
	SYS_gettimeofday, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getppid,
	SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_uname,
	SYS_sysinfo, SYS_getrusage, SYS_prlimit64, SYS_prctl,
};
/* clang-format on */

enum { ROOM = 2 * sizeof(allowed) / sizeof(allowed[0]) + 64 };

struct filter {
	struct sock_filter code[ROOM];
	unsigned short count;
};

static void
add(struct filter *f, unsigned code, uint32_t k, unsigned yes, unsigned no)
{
	f->code[f->count++] = (struct sock_filter){ (unsigned short)code,
		(unsigned char)yes, (unsigned char)no, k };
}

static void
answer(struct filter *f, uint32_t action)
{
	add(f, BPF_RET | BPF_K, action, 0, 0);
}

/* The lower half of an argument; those looked at are ints. */
static void
load_argument(struct filter *f, unsigned index)
{
	size_t at =
	    offsetof(struct seccomp_data, args) + index * sizeof(uint64_t);

#if __BYTE_ORDER == __BIG_ENDIAN
	at += sizeof(uint32_t);
#endif
	add(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)at, 0, 0);
}

/* Of this call only where the bits of mask in an argument are not (or, where
 * all is set, are) what they are in mask. */
static void
allow_where(struct filter *f, int call, unsigned argument, uint32_t mask,
    bool all)
{
	const uint32_t deny = SECCOMP_RET_ERRNO | EPERM;

	add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 5);
	load_argument(f, argument);
	add(f, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	add(f, BPF_JMP | BPF_JEQ | BPF_K, mask, 0, 1);
	answer(f, all ? SECCOMP_RET_ALLOW : deny);
	answer(f, all ? deny : SECCOMP_RET_ALLOW);
}

static void
allow_sockets(struct filter *f)
{
	static const uint32_t family[] = { AF_UNIX, AF_INET, AF_INET6,
		AF_NETLINK };
	size_t i;

	add(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0,
	    2 * sizeof(family) / sizeof(family[0]) + 2);
	load_argument(f, 0);
	for (i = 0; i < sizeof(family) / sizeof(family[0]); i++) {
		add(f, BPF_JMP | BPF_JEQ | BPF_K, family[i], 0, 1);
		answer(f, SECCOMP_RET_ALLOW);
	}
	answer(f, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
}

/* glibc makes threads with clone() where there is no clone3(), whose flags
 * are out of a filter's sight. */
static void
allow_threads(struct filter *f)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
	answer(f, SECCOMP_RET_ERRNO | ENOSYS);
#ifdef __s390x__
	allow_where(f, SYS_clone, 1, CLONE_THREAD, true);
#else
	allow_where(f, SYS_clone, 0, CLONE_THREAD, true);
#endif
}

static void
write_filter(struct filter *f)
{
	size_t i;

	add(f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0,
	    0);
	add(f, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
	answer(f, SECCOMP_RET_KILL_PROCESS);
	add(f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0,
	    0);
	for (i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1);
		answer(f, SECCOMP_RET_ALLOW);
	}
	allow_sockets(f);
	allow_threads(f);
	allow_where(f, SYS_mmap, 2, PROT_WRITE | PROT_EXEC, false);
	allow_where(f, SYS_mprotect, 2, PROT_EXEC, false);
	answer(f, SECCOMP_RET_ERRNO | EPERM);
}

int
filter_system_calls(void)
{
	struct filter f = { .count = 0 };
	struct sock_fprog program = { .filter = f.code };

	if (IS_SANITIZED)
		return 0;
	if (OUR_ARCH == 0) {
		errno = ENOSYS;
		return -1;
	}
	write_filter(&f);
	program.len = f.count;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
