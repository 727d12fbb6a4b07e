/*
 * For LD_PRELOAD: the FAIL_AT-th allocation that the program itself (not a
 * library) makes after its first accept4() fails.
 */
#define _GNU_SOURCE
#include <sys/socket.h>

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

static int armed;
static long left;
static uintptr_t begin, end;

/* The first object is the program. */
static int
find_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0) {
			begin = info->dlpi_addr + p->p_vaddr;
			end = begin + p->p_memsz;
		}
	}
	return 1;
}

__attribute__((__constructor__)) static void
prepare(void)
{
	const char *at = getenv("FAIL_AT");

	left = at == NULL ? 0 : atol(at);
	(void)dl_iterate_phdr(find_program, NULL);
}

static int
fails(const void *caller)
{
	if (!armed || (uintptr_t)caller < begin || (uintptr_t)caller >= end ||
	    --left != 0)
		return 0;
	errno = ENOMEM;
	return 1;
}

int
accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	int (*real)(int, struct sockaddr *, socklen_t *, int) = (int (*)(int,
	    struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");

	armed = 1;
	return real(fd, address, len, flags);
}

extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

void *
calloc(size_t count, size_t size)
{
	if (fails(__builtin_return_address(0)))
		return NULL;
	return __libc_calloc(count, size);
}

void *
reallocarray(void *old, size_t count, size_t size)
{
	if (fails(__builtin_return_address(0)))
		return NULL;
	return __libc_realloc(old, count * size);
}

char *
strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy;

	if (fails(__builtin_return_address(0)))
		return NULL;
	copy = malloc(size);
	return copy == NULL ? NULL : memcpy(copy, text, size);
}
