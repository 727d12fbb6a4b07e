/*
 * A file of the spool (spool.c, diagnosis.c, entry.c), in memory.
 *
 * input: an octet that chooses what is right about the file; a line with its
 * state; the envelope's lines up to an empty one; the content up to a NUL;
 * notes.  Or, all of it: the file as it is.
 *
 * wrap: fstatat openat fstat renameat2 renameat unlinkat faccessat log_error
 * wrap: log_warning
 */
#include "../../spool.h"

#include "fuzz.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ID = 0x123456789abcdef, PLACE = 1 << 20 };

/* What the first octet chooses. */
enum {
	RAW = 1,
	BAD_CONTENT = 2,
	BAD_ENVELOPE = 4,
	CUT_SHORT = 8,
	LINKED = 16, /* has another name */
	TAKEN = 32,  /* is not in new/ */
};

static struct {
	int fd;
	bool linked;
	bool taken;
	struct buf file;
} w = { .fd = -1 };

int __wrap_fstatat(int dir, const char *name, struct stat *st, int flags);
int __wrap_openat(int dir, const char *name, int flags, ...);
int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_renameat2(int from, const char *name, int to, const char *new_name,
    unsigned flags);
int __wrap_renameat(int from, const char *name, int to, const char *new_name);
int __wrap_unlinkat(int dir, const char *name, int flags);
int __wrap_faccessat(int dir, const char *name, int mode, int flags);
void __wrap_log_error(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);
void __wrap_log_warning(const char *part, const char *format, ...)
    PRINTF_LIKE(2, 3);

/* ---- directories ---- */

/* As a file of a directory would be. */
int
__wrap_fstat(int fd, struct stat *st)
{
	int result = __real_fstat(fd, st);

	st->st_mode = S_IFREG | 0600;
	st->st_nlink = w.linked ? 2 : 1;
	return result;
}

int
__wrap_fstatat(int dir, const char *name, struct stat *st, int flags)
{
	(void)flags;
	assert(dir >= PLACE && strlen(name) == QUEUE_ID_MAX - 1);
	return __wrap_fstat(w.fd, st);
}

int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	(void)name;
	assert(dir >= PLACE && (flags & O_NOFOLLOW) != 0);
	return dup(w.fd);
}

int
__wrap_renameat2(int from, const char *name, int to, const char *new_name,
    unsigned flags)
{
	(void)flags;
	assert(from >= PLACE && to >= PLACE && strcmp(name, new_name) == 0);
	errno = w.taken ? ENOENT : 0;
	return w.taken ? -1 : 0;
}

int
__wrap_renameat(int from, const char *name, int to, const char *new_name)
{
	assert(from >= PLACE && to >= PLACE && strcmp(name, new_name) == 0);
	return 0;
}

int
__wrap_unlinkat(int dir, const char *name, int flags)
{
	(void)name;
	(void)flags;
	assert(dir >= PLACE);
	return 0;
}

int
__wrap_faccessat(int dir, const char *name, int mode, int flags)
{
	(void)dir;
	(void)name;
	(void)mode;
	(void)flags;
	errno = ENOENT;
	return -1;
}

void
__wrap_log_error(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
}

/* ---- making a file ---- */

static void
store(struct span text)
{
	if (w.fd == -1)
		w.fd = memfd_create("fuzz", MFD_CLOEXEC);
	assert(w.fd != -1 && ftruncate(w.fd, 0) == 0);
	assert(lseek(w.fd, 0, SEEK_SET) == 0 && write_all(w.fd, text) == 0);
}

/* The checksum is taken with every state as "-". */
static uint32_t
crc_of_envelope(struct span envelope)
{
	struct span line;
	uint32_t crc = 0;

	while (envelope.len > 0) {
		line = take_line(&envelope);
		if (span_starts_nocase(line, SPAN("rcpt\t")) && line.len > 6 &&
		    line.data[6] == '\t') {
			crc = crc32c(crc, line.data, 5);
			crc = crc32c(crc, "-", 1);
			line = span_from(line, 6);
		}
		crc = crc32c(crc, line.data, line.len);
		crc = crc32c(crc, "\n", 1);
	}
	return crc;
}

static void
add_state(struct span text, struct buf *out)
{
	size_t end = out->len + SPOOL_STATE;

	buf_add(out, span_first(text, SPOOL_STATE - 1));
	while (out->len < end - 1)
		buf_add_char(out, ' ');
	buf_add_char(out, '\n');
}

/* The parts of an input, as the file has them. */
struct parts {
	struct span state, envelope, content, notes;
};

static struct parts
take_parts(struct span in)
{
	struct parts p = { .state = take_line(&in) };
	const char *end =
	    in.len == 0 ? NULL : memmem(in.data, in.len, "\n\n", 2);
	size_t len = end == NULL ? in.len : (size_t)(end - in.data) + 1;

	p.envelope = span_first(in, len);
	in = span_from(in, end == NULL ? len : len + 1);
	(void)span_cut(in, '\0', &p.content, &p.notes);
	return p;
}

static void
make_file(const struct parts *p, unsigned bits)
{
	struct text_facts facts = { 0 };
	struct spool_head head = { .id = ID,
		.envelope_octets = p->envelope.len,
		.content_octets = p->content.len,
		.envelope_crc = crc_of_envelope(p->envelope),
		.content_crc = crc32c(0, p->content.data, p->content.len) };
	char top[SPOOL_STATE_AT], end[SPOOL_END];

	text_note(&facts, p->content);
	head.content_has = facts.has;
	head.content_crc ^= (bits & BAD_CONTENT) != 0;
	head.envelope_crc ^= (bits & BAD_ENVELOPE) != 0;
	spool_format_head(&head, top);
	spool_format_end(ID, end);
	buf_append(&w.file, top, sizeof(top));
	add_state(p->state, &w.file);
	buf_add(&w.file, p->envelope);
	buf_add(&w.file, p->content);
	buf_append(&w.file, end, sizeof(end));
	buf_add(&w.file, p->notes);
	if ((bits & CUT_SHORT) != 0)
		w.file.len = w.file.len * 3 / 4;
}

/* ---- what must hold ---- */

static void
check_values(const struct envelope *e)
{
	size_t i;

	assert(spool_is_clean(span_of(e->sender)));
	assert(spool_is_clean(span_of(e->original_sender)));
	assert(spool_is_clean(span_of(e->client)));
	assert(is_printable(span_of(e->envid)));
	assert(e->recipient_count > 0);
	for (i = 0; i < e->recipient_count; i++) {
		const struct recipient *r = &e->recipient[i];

		assert(spool_is_clean(span_of(r->address)) && *r->address);
		assert(spool_is_clean(span_of(r->original)));
		assert(is_printable(span_of(r->orcpt)));
		if (r->last.reply != NULL)
			assert(is_printable(span_of(r->last.reply)) &&
			    is_printable(span_of(r->last.peer)) &&
			    is_clean(span_of(r->last.status)));
	}
}

static const char *
load(struct spool_head *head, struct spool_state *state, struct envelope *e)
{
	struct stat st;

	assert(fstat(w.fd, &st) == 0);
	return spool_load(w.fd, &st, ID, head, state, e);
}

/* What was loaded, written anew, is loaded as the same. */
static void
check_again(const struct envelope *e)
{
	struct spool_head head = { .id = ID }, was;
	struct spool_state state;
	struct envelope again = { .uid = -1 };
	struct buf text = { 0 }, file = { 0 }, other = { 0 };
	char top[SPOOL_STATE_AT], end[SPOOL_END];
	uint32_t crc;

	assert(spool_format_envelope(e, &text, &head.envelope_crc) == 0);
	head.envelope_octets = text.len;
	spool_format_head(&head, top);
	spool_format_end(ID, end);
	buf_append(&file, top, sizeof(top));
	add_state(SPAN("state"), &file);
	buf_add(&file, buf_span(&text));
	buf_append(&file, end, sizeof(end));
	store(buf_span(&file));
	assert(load(&was, &state, &again) == NULL);
	assert(spool_format_envelope(&again, &other, &crc) == 0);
	assert(crc == head.envelope_crc);
	assert(span_equal(buf_span(&text), buf_span(&other)));
	envelope_clear(&again);
	buf_free(&text);
	buf_free(&file);
	buf_free(&other);
}

static void
try_load(void)
{
	struct spool_head head;
	struct spool_state state;
	struct envelope e = { .uid = -1 };
	char top[SPOOL_STATE_AT];
	const char *wrong = load(&head, &state, &e);

	if (wrong == NULL) {
		check_values(&e);
		assert(spool_is_clean(span_of(state.reason)));
		spool_format_head(&head, top);
		assert(memcmp(top, w.file.data, sizeof(top)) == 0);
		check_again(&e);
		store(buf_span(&w.file));
	} else {
		assert(is_printable(span_of(wrong)) && *wrong != '\0');
		assert(e.recipient_count == 0 && e.sender == NULL);
	}
	envelope_clear(&e);
}

/* All of the content, or none of its end when it is damaged. */
static bool
read_content(struct entry *e)
{
	char piece[100];
	struct buf text = { 0 };
	uint64_t at = e->content_at;
	ssize_t n;

	entry_rewind(e);
	while ((n = entry_read(e, piece, sizeof(piece))) > 0)
		buf_append(&text, piece, (size_t)n);
	if (n == 0)
		assert(text.len == e->size &&
		    span_equal(buf_span(&text),
			span_first(span_from(buf_span(&w.file), at),
			    text.len)));
	else
		assert(errno == EBADMSG && e->damaged);
	buf_free(&text);
	return n == 0;
}

static void
forget_marks(struct queue *q)
{
	size_t i;

	for (i = 0; i < q->mark_count; i++)
		(void)close(q->mark[i].fd);
	free(q->mark);
	q->mark = NULL;
	q->mark_count = 0;
}

/* What is recorded is found again. */
static void
try_record(struct queue *q, struct entry *e, struct span words)
{
	char *reason = span_text(words);
	struct recipient *r = &e->envelope.recipient[0];
	enum queue_place place;
	struct entry *again;

	entry_mark(e, 0, RECIPIENT_SENT);
	recipient_diagnose(r, "2.0.0", "peer", reason, 1700000000000);
	entry_diagnosed(e, 0);
	entry_warned(e);
	entry_defer(e, 7, 1700000000000, reason);
	again = queue_look(q, ID, &place);
	assert(again != NULL && place == PLACE_NEW);
	assert(again->attempts == 7 && again->next_ms == 1700000000000);
	assert(
	    span_equal(span_of(again->reason), span_trim(span_of(e->reason))));
	assert(again->warned);
	r = &again->envelope.recipient[0];
	assert(r->state == RECIPIENT_SENT && r->last.at_ms == 1700000000000);
	assert(strcmp(r->last.reply, e->envelope.recipient[0].last.reply) == 0);
	entry_close(again);
	free(reason);
}

static void
try_entry(struct span words)
{
	struct queue q = { .top = PLACE,
		.place = { PLACE, PLACE, PLACE, PLACE } };
	struct entry *e = queue_take(&q, ID);

	if (e == NULL) {
		assert(errno == EBADMSG || w.taken);
		return;
	}
	q.closer = closer_new();
	assert(!w.linked);
	check_values(&e->envelope);
	if (read_content(e) && read_content(e)) {
		try_record(&q, e, span_first(words, 200));
		entry_finish(e);
	} else {
		entry_note(e, "damaged");
		entry_close(e);
	}
	forget_marks(&q);
	closer_free(q.closer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = fuzz_input(data, size);
	unsigned bits = take_octet(&in);
	struct parts parts = take_parts(in);

	buf_clear(&w.file);
	w.linked = (bits & LINKED) != 0;
	w.taken = (bits & TAKEN) != 0;
	if ((bits & RAW) != 0)
		buf_add(&w.file, in);
	else
		make_file(&parts, bits);
	store(buf_span(&w.file));
	try_load();
	try_entry(parts.content);
	return 0;
}
