/*
 * The format of a spool file (see spool.h): writing its parts, and reading
 * them with distrust.  No directories, no names: these are queue.c's.
 */
#include "spool.h"

#include <sys/stat.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- names ---- */

/* Digits without those that are easily taken for another (Crockford's). */
static const char id_digits[32] = "0123456789abcdefghjkmnpqrstvwxyz";

void
queue_id_text(queue_id id, char out[QUEUE_ID_MAX])
{
	int i;

	for (i = QUEUE_ID_MAX - 2; i >= 0; i--, id >>= 5)
		out[i] = id_digits[id & 31];
	out[QUEUE_ID_MAX - 1] = '\0';
}

bool
queue_id_parse(struct span text, queue_id *id)
{
	size_t i;

	*id = 0;
	if (text.len != QUEUE_ID_MAX - 1)
		return false;
	for (i = 0; i < text.len; i++) {
		const char *at =
		    memchr(id_digits, text.data[i], sizeof(id_digits));

		if (at == NULL)
			return false;
		*id = *id << 5 | (queue_id)(at - id_digits);
	}
	return true;
}

int64_t
queue_id_time_ms(queue_id id)
{
	return (int64_t)(id >> SPOOL_CHANCE_BITS);
}

int
queue_id_compare(const void *a, const void *b)
{
	queue_id x = *(const queue_id *)a, y = *(const queue_id *)b;

	return (x > y) - (x < y);
}

const char *
spool_place_name(enum queue_place place)
{
	static const char *const names[PLACES] = {
		[PLACE_NEW] = "new",
		[PLACE_CUR] = "cur",
		[PLACE_HOLD] = "hold",
		[PLACE_FAILED] = "failed",
	};

	return names[place];
}

/* ---- what the content has ---- */

enum { CONTENT_HAS = 3 };

static const struct {
	unsigned bit;
	char letter;
} content_has[CONTENT_HAS] = {
	{ TEXT_8BIT, '8' },
	{ TEXT_LONG_LINE, 'l' },
	{ TEXT_NUL, '0' },
};

static void
format_has(unsigned has, char out[CONTENT_HAS + 1])
{
	size_t i;

	memset(out, '-', CONTENT_HAS);
	for (i = 0; i < CONTENT_HAS; i++) {
		if ((has & content_has[i].bit) != 0)
			out[i] = content_has[i].letter;
	}
	out[CONTENT_HAS] = '\0';
}

static bool
parse_has(struct span s, unsigned *has)
{
	size_t i;

	*has = 0;
	if (s.len != CONTENT_HAS)
		return false;
	for (i = 0; i < CONTENT_HAS; i++) {
		if (s.data[i] == content_has[i].letter)
			*has |= content_has[i].bit;
		else if (s.data[i] != '-')
			return false;
	}
	return true;
}

/* ---- writing ---- */

void
spool_format_head(const struct spool_head *h, char out[SPOOL_STATE_AT])
{
	char id[QUEUE_ID_MAX], has[CONTENT_HAS + 1];
	char line[SPOOL_STATE_AT + 1];

	queue_id_text(h->id, id);
	format_has(h->content_has, has);
	(void)snprintf(line, sizeof(line),
	    "relayd %d %s %010" PRIu64 " %016" PRIu64 " %08" PRIx32
	    " %08" PRIx32 " %s\n",
	    SPOOL_VERSION, id, h->envelope_octets, h->content_octets,
	    h->envelope_crc, h->content_crc, has);
	memcpy(out, line, SPOOL_STATE_AT);
}

void
spool_format_state(const struct spool_state *s, char out[SPOOL_STATE])
{
	char line[SPOOL_STATE + 1];
	int n = snprintf(line, sizeof(line), "state %05u %014" PRId64 " %s",
	    s->attempts % 100000, s->next_ms, s->reason);

	memset(out, ' ', SPOOL_STATE);
	memcpy(out, line, (size_t)n < SPOOL_STATE ? (size_t)n : SPOOL_STATE);
	out[SPOOL_STATE - 1] = '\n';
}

void
spool_set_reason(struct spool_state *s, const char *reason)
{
	struct buf escaped = { NULL, 0, 0 };

	buf_add_escaped(&escaped, span_of(reason));
	(void)snprintf(s->reason, sizeof(s->reason), "%s", buf_text(&escaped));
	buf_free(&escaped);
}

void
spool_format_end(queue_id id, char out[SPOOL_END])
{
	char text[QUEUE_ID_MAX], line[SPOOL_END + 1];

	queue_id_text(id, text);
	(void)snprintf(line, sizeof(line), "\nend %s\n", text);
	memcpy(out, line, SPOOL_END);
}

bool
spool_is_clean(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		if ((unsigned char)s.data[i] < ' ' || s.data[i] == 0x7f)
			return false;
	}
	return true;
}

/* "ADDRESS TAB ORIGINAL" */
static bool
is_name(struct span s)
{
	struct span address, original;

	return span_cut(s, '\t', &address, &original) && address.len > 0 &&
	    spool_is_clean(address) && spool_is_clean(original);
}

static bool
put_names(struct buf *out, const struct strings *names)
{
	bool clean = true;
	size_t i;

	for (i = 0; i < names->count; i++) {
		buf_printf(out, "name\t%s\n", names->item[i]);
		clean &= is_name(span_of(names->item[i]));
	}
	return clean;
}

static bool
put_line(struct buf *out, const char *key, const char *value)
{
	struct span s = span_of(value);

	buf_printf(out, "%s\t", key);
	buf_add(out, s);
	buf_add_char(out, '\n');
	return spool_is_clean(s);
}

/* Everything after a recipient's state. */
static bool
put_recipient(struct buf *out, const struct recipient *r)
{
	buf_add_char(out, '\t');
	buf_add_text(out, r->address);
	buf_add_char(out, '\t');
	buf_add(out, span_of(r->original));
	buf_add_char(out, '\t');
	dsn_add_rcpt(out, r->notify, r->orcpt);
	buf_add_char(out, '\n');
	return spool_is_clean(span_of(r->address)) &&
	    spool_is_clean(span_of(r->original)) &&
	    spool_is_clean(span_of(r->orcpt));
}

int
spool_format_envelope(const struct envelope *e, struct buf *out, uint32_t *crc)
{
	static const char untried = RECIPIENT_WAITING;
	size_t i, before = out->len;
	size_t at = before; /* from where on the checksum is to be taken */
	bool clean = true;

	buf_printf(out, "arrived\t%" PRId64 "\nuid\t%" PRId64 "\n",
	    e->arrived_ms, e->uid);
	clean &= put_line(out, "flags",
	    e->utf8 ? "utf8" : (e->eight_bit ? "8bit" : "7bit"));
	clean &= put_line(out, "client", e->client);
	clean &= put_line(out, "sender", e->sender);
	clean &= put_line(out, "original", e->original_sender);
	buf_add_text(out, "dsn\t");
	dsn_add_mail(out, e->ret, e->envid);
	buf_add_char(out, '\n');
	clean &= put_names(out, &e->names);
	*crc = 0;
	for (i = 0; i < e->recipient_count; i++) {
		buf_add_text(out, "rcpt\t");
		*crc = crc32c(*crc, out->data + at, out->len - at);
		*crc = crc32c(*crc, &untried, 1);
		buf_add_char(out, (char)e->recipient[i].state);
		at = out->len;
		clean &= put_recipient(out, &e->recipient[i]);
	}
	*crc = crc32c(*crc, out->data + at, out->len - at);
	if (clean && out->len - before <= SPOOL_ENVELOPE_MAX &&
	    e->recipient_count <= LIMIT_RECIPIENTS)
		return 0;
	errno = clean ? EFBIG : EINVAL;
	return -1;
}

/* ---- reading ---- */

static bool
parse_hex(struct span s, uint32_t *out)
{
	size_t i;

	*out = 0;
	for (i = 0; i < s.len; i++) {
		char c = s.data[i];
		unsigned digit = hex_value(c);

		/* Only as it was written, or a flipped bit would pass. */
		if (digit == 16 || (c >= 'A' && c <= 'F'))
			return false;
		*out = *out << 4 | digit;
	}
	return s.len == 8;
}

/* The next field of a line whose fields are separated by spaces. */
static struct span
field(struct span *line)
{
	struct span head;

	(void)span_cut(*line, ' ', &head, line);
	return head;
}

static const char *
parse_head(struct span line, queue_id id, struct spool_head *h)
{
	uint64_t version;

	if (!span_equal(field(&line), SPAN("relayd")))
		return "it is no message of relayd's";
	if (!parse_number(field(&line), 99, &version))
		return "its first line is damaged";
	if (version != SPOOL_VERSION)
		return "it was written by a newer relayd";
	if (!queue_id_parse(field(&line), &h->id) || h->id != id)
		return "its name is not its id";
	if (!parse_number(field(&line), SPOOL_ENVELOPE_MAX,
		&h->envelope_octets) ||
	    !parse_number(field(&line), INT64_MAX / 2, &h->content_octets) ||
	    !parse_hex(field(&line), &h->envelope_crc) ||
	    !parse_hex(field(&line), &h->content_crc) ||
	    !parse_has(field(&line), &h->content_has) || line.len != 0)
		return "its first line is damaged";
	return NULL;
}

/* A state that can't be read is one of no attempt: the message is what
 * counts, and its state may be torn by a crash. */
static void
parse_state(struct span line, struct spool_state *s)
{
	uint64_t attempts, next;

	*s = (struct spool_state){ .attempts = 0 };
	if (!span_equal(field(&line), SPAN("state")) ||
	    !parse_number(field(&line), 99999, &attempts) ||
	    !parse_number(field(&line), INT64_MAX, &next))
		return;
	line = span_first(span_trim(line), SPOOL_REASON);
	if (!spool_is_clean(line))
		line.len = 0;
	s->attempts = (unsigned)attempts;
	s->next_ms = (int64_t)next;
	if (line.len > 0)
		memcpy(s->reason, line.data, line.len);
	s->reason[line.len] = '\0';
}

static bool
parse_rcpt(struct span value, uint64_t at, struct envelope *e)
{
	struct span state, address, original;
	struct smtp_rcpt dsn;
	struct recipient *r;

	if (!span_cut(value, '\t', &state, &value) || state.len != 1 ||
	    !span_cut(value, '\t', &address, &value) || address.len == 0 ||
	    !span_cut(value, '\t', &original, &value) ||
	    smtp_rcpt_parameters(value, &dsn) != NULL)
		return false;
	r = envelope_new_recipient(e);
	r->address = span_text(address);
	r->original = span_text(original);
	r->notify = dsn.notify;
	r->orcpt = mem_text(dsn.orcpt);
	r->mark_at = at;
	if (!spool_is_clean(address) || !spool_is_clean(original))
		return false;
	switch (state.data[0]) {
	case RECIPIENT_WAITING:
	case RECIPIENT_SENT:
	case RECIPIENT_FAILED:
		r->state = (enum recipient_state)state.data[0];
		return true;
	default:
		return false;
	}
}

/* A text value that may stand once. */
static bool
set_once(char **where, struct span value)
{
	if (*where != NULL)
		return false;
	*where = span_text(value);
	return true;
}

static bool
parse_dsn(struct span value, struct envelope *e)
{
	struct smtp_mail dsn;

	if (smtp_mail_parameters(value, &dsn) != NULL)
		return false;
	e->ret = dsn.ret;
	return set_once(&e->envid, span_of(dsn.envid));
}

static bool
parse_signed(struct span s, int64_t *out)
{
	uint64_t value;
	bool negative = s.len > 0 && s.data[0] == '-';

	if (!parse_number(span_from(s, negative), INT64_MAX, &value))
		return false;
	*out = negative ? -(int64_t)value : (int64_t)value;
	return true;
}

static bool
parse_line(struct span key, struct span value, uint64_t at, struct envelope *e)
{
	if (span_equal(key, SPAN("rcpt")))
		return parse_rcpt(value, at, e);
	if (span_equal(key, SPAN("name"))) {
		strings_add(&e->names, value);
		return is_name(value);
	}
	if (!spool_is_clean(value))
		return false;
	if (span_equal(key, SPAN("sender")))
		return set_once(&e->sender, value);
	if (span_equal(key, SPAN("original")))
		return set_once(&e->original_sender, value);
	if (span_equal(key, SPAN("client")))
		return set_once(&e->client, value);
	if (span_equal(key, SPAN("dsn")))
		return parse_dsn(value, e);
	if (span_equal(key, SPAN("arrived")))
		return parse_signed(value, &e->arrived_ms);
	if (span_equal(key, SPAN("uid")))
		return parse_signed(value, &e->uid);
	if (!span_equal(key, SPAN("flags")))
		return false;
	e->utf8 = span_equal(value, SPAN("utf8"));
	e->eight_bit = e->utf8 || span_equal(value, SPAN("8bit"));
	return e->eight_bit || span_equal(value, SPAN("7bit"));
}

/* The checksum as it was at the commit: no recipient had been tried. */
static uint32_t
envelope_crc(struct buf *raw, const struct envelope *e)
{
	size_t i;

	for (i = 0; i < e->recipient_count; i++)
		raw->data[e->recipient[i].mark_at - SPOOL_ENVELOPE_AT] =
		    RECIPIENT_WAITING;
	return crc32c(0, raw->data, raw->len);
}

static const char *
parse_envelope(struct buf *raw, uint32_t crc, struct envelope *e)
{
	struct span line, rest = buf_span(raw), key, value;

	while (rest.len > 0) {
		if (!span_cut(rest, '\n', &line, &rest) ||
		    !span_cut(line, '\t', &key, &value) ||
		    !parse_line(key, value,
			SPOOL_ENVELOPE_AT + (uint64_t)(value.data - raw->data),
			e))
			return "its envelope is damaged";
		if (e->recipient_count > LIMIT_RECIPIENTS)
			return "its envelope has too many recipients";
	}
	if (e->sender == NULL || e->original_sender == NULL ||
	    e->client == NULL || e->envid == NULL || e->recipient_count == 0)
		return "its envelope is incomplete";
	if (envelope_crc(raw, e) != crc)
		return "its envelope does not match its checksum";
	return NULL;
}

/* A read may give less than there is.  Until there are so many octets, or no
 * more; -1 errno. */
static ssize_t
read_at(int fd, char *out, size_t least, size_t most, uint64_t offset)
{
	size_t len = 0;
	ssize_t n;

	do {
		n = pread(fd, out + len, most - len, (off_t)(offset + len));
		if (n > 0)
			len += (size_t)n;
	} while ((n > 0 && len < least) || (n == -1 && errno == EINTR));
	return n == -1 ? -1 : (ssize_t)len;
}

int
spool_read_at(int fd, void *out, size_t len, uint64_t offset)
{
	ssize_t n = read_at(fd, out, len, len, offset);

	return n == -1 ? -1 : (size_t)n == len;
}

enum { FRONT = 4096 };

/* The beginning of a file, which holds all of most: one read instead of three. */
struct front {
	int fd;
	size_t len;
	char octets[FRONT];
};

/* As spool_read_at(). */
static int
front_read_at(const struct front *f, void *out, size_t len, uint64_t offset)
{
	if (offset > f->len || len > f->len - offset)
		return spool_read_at(f->fd, out, len, offset);
	memcpy(out, f->octets + offset, len);
	return 1;
}

static int
front_fill(struct front *f, int fd, size_t len)
{
	ssize_t n = read_at(fd, f->octets, SPOOL_ENVELOPE_AT, len, 0);

	f->fd = fd;
	f->len = n == -1 ? 0 : (size_t)n;
	return n == -1 ? -1 : 0;
}

static const char *
load_envelope(const struct front *f, const struct spool_head *h,
    struct envelope *e)
{
	struct buf raw = { NULL, 0, 0 };
	const char *wrong;
	int got;

	buf_reserve(&raw, h->envelope_octets + 1);
	raw.len = h->envelope_octets;
	got = front_read_at(f, raw.data, raw.len, SPOOL_ENVELOPE_AT);
	if (got == 1)
		wrong = parse_envelope(&raw, h->envelope_crc, e);
	else
		wrong = got == -1 ? "" : "it is not complete";
	buf_free(&raw);
	return wrong;
}

/* The end mark stands where the lengths say; only notes follow it. */
static const char *
check_end(const struct front *f, uint64_t size, const struct spool_head *h)
{
	char end[SPOOL_END], wanted[SPOOL_END], next;
	uint64_t at =
	    SPOOL_ENVELOPE_AT + h->envelope_octets + h->content_octets;
	int got;

	if (size < at + SPOOL_END)
		return "it is not complete";
	got = front_read_at(f, end, sizeof(end), at);
	if (got != 1)
		return got == -1 ? "" : "it is not complete";
	spool_format_end(h->id, wanted);
	if (memcmp(end, wanted, SPOOL_END) != 0)
		return "its end mark is missing";
	if (size > at + SPOOL_END + SPOOL_NOTES_MAX)
		return "too much follows its end mark";
	if (size == at + SPOOL_END)
		return NULL;
	got = front_read_at(f, &next, 1, at + SPOOL_END);
	if (got == 1 && memchr("nw", next, 3) == NULL) /* NUL: torn */
		return "something follows its end mark";
	return got == -1 ? "" : NULL;
}

const char *
spool_load(int fd, const struct stat *st, queue_id id, struct spool_head *head,
    struct spool_state *state, struct envelope *envelope)
{
	struct front front;
	const char *wrong;

	if (front_fill(&front, fd,
		envelope == NULL ? SPOOL_ENVELOPE_AT : FRONT) == -1)
		return "";
	if (front.len < SPOOL_ENVELOPE_AT)
		return "it is not complete";
	wrong = parse_head((struct span){ front.octets, SPOOL_STATE_AT - 1 },
	    id, head);
	if (wrong == NULL && front.octets[SPOOL_STATE_AT - 1] != '\n')
		wrong = "its first line is damaged";
	if (wrong != NULL)
		return wrong;
	parse_state(
	    (struct span){ front.octets + SPOOL_STATE_AT, SPOOL_STATE - 1 },
	    state);
	if (envelope == NULL)
		return NULL;
	wrong = check_end(&front, (uint64_t)st->st_size, head);
	if (wrong == NULL)
		wrong = load_envelope(&front, head, envelope);
	if (wrong != NULL)
		envelope_clear(envelope);
	return wrong;
}
