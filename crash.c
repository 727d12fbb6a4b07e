/*
 * A last line when the daemon ends on a fault of its own: the signal and which
 * build it was, and nothing of what it was doing.
 *
 * The line is made beforehand: a signal handler can do little more than write
 * it (signal-safety(7)).
 */
#include "crash.h"

#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	ID_MAX = 32, /* octets; linkers make 16 or 20 */
	STACK = 32 << 10,
};

static const struct {
	int signo;
	const char *name;
} endings[] = { { SIGABRT, "SIGABRT" }, { SIGBUS, "SIGBUS" },
	{ SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" }, { SIGSEGV, "SIGSEGV" } };

enum { ENDINGS = sizeof(endings) / sizeof(endings[0]) };

/* A handler has no argument. */
static struct {
	struct {
		char text[LOG_PREPARED];
		size_t len;
	} line[ENDINGS];
	char stack[STACK]; /* the usual one may be what is full */
} crash_state;

/* ---- which build ---- */

/* In notes, each with a name and a descriptor padded to 4 octets. */
static struct span
id_in(struct span notes)
{
	ElfW(Nhdr) note;

	while (notes.len > sizeof(note)) {
		size_t name;

		memcpy(&note, notes.data, sizeof(note));
		name = sizeof(note) + ((note.n_namesz + 3U) & ~3U);
		notes = span_from(notes, name);
		if (note.n_type == NT_GNU_BUILD_ID &&
		    note.n_namesz == sizeof(ELF_NOTE_GNU))
			return span_first(notes, note.n_descsz);
		notes = span_from(notes, (note.n_descsz + 3U) & ~3U);
	}
	return (struct span){ NULL, 0 };
}

/* The first object is the program. */
static int
find_id(struct dl_phdr_info *info, size_t size, void *id)
{
	size_t i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		ElfW(Addr) at = info->dlpi_addr + p->p_vaddr;
		struct span notes = { NULL, p->p_memsz }, found;

		if (p->p_type != PT_NOTE)
			continue;
		memcpy(&notes.data, &at, sizeof(at));
		found = id_in(notes);
		if (found.len > 0)
			*(struct span *)id = found;
	}
	return 1;
}

/* ---- the last line ---- */

static void
on_fault(int signo)
{
	size_t i;

	for (i = 0; i < ENDINGS; i++)
		if (endings[i].signo == signo)
			log_prepared(crash_state.line[i].text,
			    crash_state.line[i].len);
	(void)raise(signo); /* now to end it, as SA_RESETHAND has it */
}

void
crash_prepare(void)
{
	struct sigaction old,
	    action = { .sa_handler = on_fault,
		    .sa_flags = (int)SA_RESETHAND | SA_ONSTACK };
	const stack_t stack = { .ss_sp = crash_state.stack, .ss_size = STACK };
	struct span id = { NULL, 0 };
	char hex[2 * ID_MAX + 1] = "unknown", text[LOG_PREPARED / 2];
	size_t i;

	(void)dl_iterate_phdr(find_id, &id);
	for (i = 0; i < id.len && i < ID_MAX; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x",
		    (unsigned char)id.data[i]);
	(void)sigaltstack(&stack, NULL);
	for (i = 0; i < ENDINGS; i++) {
		(void)snprintf(text, sizeof(text),
		    "ended by %s: relayd " RELAYD_VERSION ", build %s",
		    endings[i].name, hex);
		crash_state.line[i].len =
		    log_prepare(crash_state.line[i].text, text);
		/* A sanitizer's handler says more. */
		if (sigaction(endings[i].signo, NULL, &old) == 0 &&
		    old.sa_handler == SIG_DFL)
			(void)sigaction(endings[i].signo, &action, NULL);
	}
}
