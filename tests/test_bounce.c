/*
 * What becomes of a message at its end, without a spool: reports are drafts
 * that the test takes, commits or refuses.  Numbers are those of the catalogue
 * of bad input.
 *
 * wrap: draft_new draft_recipient draft_begin draft_write draft_commit
 * wrap: draft_free submit_intake intake_rules rewrite_recipient
 * wrap: intake_read_header sched_on_end sched_add queue_delete queue_look
 * wrap: entry_finish entry_done entry_close entry_rewind entry_read
 * wrap: entry_warned loop_now loop_hurry log_info log_warning log_error
 */
#include "notice.h"
#include "submit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h needs the ones above. */
#include <cmocka.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

const char *__wrap_draft_new(struct intake *in, const struct draft_facts *facts,
    struct span sender, struct draft **out);
const char *__wrap_draft_recipient(struct draft *d, struct span address,
    const struct smtp_rcpt *parameters);
const char *__wrap_draft_begin(struct draft *d, uint64_t octets);
void __wrap_draft_write(struct draft *d, struct span text);
const char *__wrap_draft_commit(struct draft *d, queue_committed *handler,
    void *arg);
void __wrap_draft_free(struct draft *d);
struct intake *__wrap_submit_intake(struct submit *s);
struct rewrite_rules __wrap_intake_rules(struct intake *in);
enum rewrite_result __wrap_rewrite_recipient(const struct rewrite_rules *rules,
    struct span address, struct address_set *out,
    const struct rewrite_trace *trace);
int __wrap_intake_read_header(struct entry *e, struct buf *text, size_t *header,
    size_t *body);
void __wrap_sched_on_end(struct sched *s, sched_over *over, sched_late *late,
    void *arg);
void __wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms);
int __wrap_queue_delete(struct queue *q, queue_id id);
struct entry *__wrap_queue_look(struct queue *q, queue_id id,
    enum queue_place *place);
int __wrap_entry_finish(struct entry *e);
void __wrap_entry_done(struct entry *e);
void __wrap_entry_close(struct entry *e);
void __wrap_entry_rewind(struct entry *e);
ssize_t __wrap_entry_read(struct entry *e, char *out, size_t size);
void __wrap_entry_warned(struct entry *e);
struct instant __wrap_loop_now(const struct loop *l);
void __wrap_loop_hurry(struct loop *l);
void __wrap_log_info(const char *part, const char *format, ...);
void __wrap_log_warning(const char *part, const char *format, ...);
void __wrap_log_error(const char *part, const char *format, ...);

/* ---- the world ---- */

enum { HOUR = 3600 * 1000 };

static struct {
	struct config config;
	struct bounce *bounce;
	sched_over *over;
	sched_late *late;
	void *arg;
	struct instant now;

	const char *header;
	int header_error;
	const char *refusal; /* of a report's recipient */
	const char *full;    /* of its commit */
	int delete_error;
	struct entry *looked; /* what queue_look() finds, in this place: */
	enum queue_place place;

	queue_committed *committed; /* a report is being stored */
	void *committed_arg;

	struct buf done; /* in order: what was done */
	unsigned reports, kept, errors;
} world;

/* The null sender of each report is the caller's word. */
const char *
__wrap_draft_new(struct intake *in, const struct draft_facts *facts,
    struct span sender, struct draft **out)
{
	(void)in;
	assert_int_equal(sender.len, 0);
	buf_printf(&world.done, "%s ", facts->peer->name);
	*out = (struct draft *)&world;
	return NULL;
}

const char *
__wrap_draft_recipient(struct draft *d, struct span address,
    const struct smtp_rcpt *parameters)
{
	(void)d;
	(void)parameters;
	buf_add_text(&world.done, "to ");
	buf_add(&world.done, address);
	buf_add_text(&world.done, "\n");
	return world.refusal;
}

const char *
__wrap_draft_begin(struct draft *d, uint64_t octets)
{
	(void)d;
	(void)octets;
	return NULL;
}

void
__wrap_draft_write(struct draft *d, struct span text)
{
	(void)d;
	(void)text;
}

const char *
__wrap_draft_commit(struct draft *d, queue_committed *handler, void *arg)
{
	(void)d;
	if (world.full != NULL)
		return world.full;
	world.committed = handler;
	world.committed_arg = arg;
	return NULL;
}

void
__wrap_draft_free(struct draft *d)
{
	(void)d;
}

struct intake *
__wrap_submit_intake(struct submit *s)
{
	return (struct intake *)s;
}

struct rewrite_rules
__wrap_intake_rules(struct intake *in)
{
	(void)in;
	return (struct rewrite_rules){ .aliases = NULL };
}

enum rewrite_result
__wrap_rewrite_recipient(const struct rewrite_rules *rules, struct span address,
    struct address_set *out, const struct rewrite_trace *trace)
{
	(void)rules;
	(void)trace;
	(void)address_set_add(out, address);
	return REWRITE_OK;
}

int
__wrap_intake_read_header(struct entry *e, struct buf *text, size_t *header,
    size_t *body)
{
	(void)e;
	buf_add_text(text, world.header);
	*header = *body = text->len;
	errno = world.header_error;
	return world.header_error == 0 ? 0 : -1;
}

void
__wrap_sched_on_end(struct sched *s, sched_over *over, sched_late *late,
    void *arg)
{
	(void)s;
	world.over = over;
	world.late = late;
	world.arg = arg;
}

void
__wrap_sched_add(struct sched *s, queue_id id, int64_t due_ms)
{
	(void)s;
	buf_printf(&world.done, "add %d in %d s\n", (int)id,
	    (int)(due_ms - world.now.wall_ms) / 1000);
}

int
__wrap_queue_delete(struct queue *q, queue_id id)
{
	(void)q;
	buf_printf(&world.done, "delete %d\n", (int)id);
	errno = world.delete_error;
	return world.delete_error == 0 ? 0 : -1;
}

struct entry *
__wrap_queue_look(struct queue *q, queue_id id, enum queue_place *place)
{
	(void)q;
	(void)id;
	*place = world.place;
	errno = ENOENT;
	return world.looked;
}

static void
entry_free(struct entry *e)
{
	envelope_clear(&e->envelope);
	free(e->reason);
	free(e);
}

int
__wrap_entry_finish(struct entry *e)
{
	world.kept++;
	buf_printf(&world.done, "finish %d\n", (int)e->id);
	entry_free(e);
	return 0;
}

void
__wrap_entry_done(struct entry *e)
{
	buf_printf(&world.done, "done with %d\n", (int)e->id);
}

void
__wrap_entry_close(struct entry *e)
{
	if (e == NULL)
		return;
	buf_printf(&world.done, "close %d\n", (int)e->id);
	entry_free(e);
}

void
__wrap_entry_rewind(struct entry *e)
{
	(void)e;
}

ssize_t
__wrap_entry_read(struct entry *e, char *out, size_t size)
{
	(void)e;
	(void)out;
	(void)size;
	return 0;
}

void
__wrap_entry_warned(struct entry *e)
{
	buf_printf(&world.done, "warned %d\n", (int)e->id);
}

struct instant
__wrap_loop_now(const struct loop *l)
{
	(void)l;
	return world.now;
}

void
__wrap_loop_hurry(struct loop *l)
{
	(void)l;
}

void
__wrap_log_info(const char *part, const char *format, ...)
{
	(void)part;
	if (strstr(format, "notification") != NULL)
		world.reports++;
}

void
__wrap_log_warning(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
}

void
__wrap_log_error(const char *part, const char *format, ...)
{
	(void)part;
	(void)format;
	world.errors++;
}

static int
setup(void **state)
{
	static char host[] = "web1.example.com", root[] = "root", none[] = "";

	(void)state;
	memset(&world, 0, sizeof(world));
	world.config = (struct config){ .hostname = host,
		.origin = host,
		.postmaster = root,
		.bounce_to = none,
		.message_size_limit = 1 << 20,
		.queue_lifetime = 86400,
		.bounce_lifetime = 86400,
		.references = 1 };
	world.header = "Subject: x\r\n";
	world.now = (struct instant){ HOUR, HOUR };
	world.bounce = bounce_new(NULL, NULL, NULL, NULL, &world.config);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bounce_free(world.bounce);
	assert_int_equal(world.config.references, 1);
	buf_free(&world.done);
	return 0;
}

/* ---- messages ---- */

static struct entry *
message(int id, const char *sender, const char *status)
{
	struct entry *e = mem_alloc(sizeof(*e));
	struct recipient *r;

	e->id = (queue_id)id;
	e->envelope.sender = mem_text(sender);
	e->envelope.original_sender = mem_text(sender);
	e->envelope.client = mem_text("");
	e->reason = mem_text("");
	r = envelope_add(&e->envelope, "r@x.example", "r@x.example");
	r->state = RECIPIENT_FAILED;
	recipient_diagnose(r, status, "mx[192.0.2.1]:25", "no", 0);
	return e;
}

static void
assert_done(const char *expected)
{
	assert_string_equal(buf_text(&world.done), expected);
	buf_clear(&world.done);
}

/* The report that is being stored is, or is not. */
static void
store(int error)
{
	queue_committed *handler = world.committed;

	assert_non_null(handler);
	world.committed = NULL;
	handler(world.committed_arg, 1000000, error);
}

/* ---- tests ---- */

static void
J14_ten_thousand_at_once(void **state)
{
	enum { MESSAGES = 10000, LIMIT = 10 };
	unsigned stored = 0;
	int i;

	(void)state;
	for (i = 1; i <= MESSAGES; i++) {
		world.over(world.arg, message(i, "a@b.example", "5.1.1"));
		if (world.committed == NULL)
			continue;
		store(0);
		stored++;
	}
	assert_int_equal(stored, LIMIT);
	assert_int_equal(world.kept, MESSAGES - LIMIT);
	assert_int_equal(world.errors, MESSAGES - LIMIT);
	world.now.mono_ms += HOUR;
	buf_clear(&world.done);
	world.over(world.arg, message(1, "a@b.example", "5.1.1"));
	store(0);
	assert_done("bounce to a@b.example\ndelete 1\nclose 1\n");
}

static void
J11_the_original_goes_only_when_the_report_is_stored(void **state)
{
	(void)state;
	world.over(world.arg, message(7, "a@b.example", "5.1.1"));
	assert_done("bounce to a@b.example\n");
	assert_true(bounce_has(world.bounce, 7));
	store(ENOSPC);
	assert_done("close 7\nadd 7 in 60 s\n");
	assert_false(bounce_has(world.bounce, 7));
	world.over(world.arg, message(7, "a@b.example", "5.1.1"));
	store(0);
	assert_done("bounce to a@b.example\ndelete 7\nclose 7\n");
	assert_int_equal(world.errors, 0);
	/* The report is out; that this stays must be told, but no second one
	 * may follow. */
	world.delete_error = EIO;
	world.over(world.arg, message(8, "a@b.example", "5.1.1"));
	store(0);
	assert_done("bounce to a@b.example\ndelete 8\ndone with 8\n"
		    "close 8\n");
	assert_int_equal(world.errors, 1);
}

static void
J11_a_full_disk_puts_the_report_off(void **state)
{
	(void)state;
	world.full = "452 4.3.1 Insufficient system storage";
	world.over(world.arg, message(7, "a@b.example", "5.1.1"));
	assert_done("bounce to a@b.example\nclose 7\nadd 7 in 60 s\n");
	world.full = NULL;
	world.header_error = EIO;
	world.over(world.arg, message(7, "a@b.example", "5.1.1"));
	assert_done("close 7\nadd 7 in 60 s\n");
	assert_int_equal(world.kept, 0);
}

/* Who is told, or that nobody is and it is kept, with an error line. */
static void
J_who_is_told(void **state)
{
	static const struct {
		const char *row, *sender, *client, *status, *header, *told;
		unsigned notify;
	} cases[] = {
		{ "J1", "", "", "5.1.1", "", "postmaster to root\n", 0 },
		{ "J2", "", "postmaster", "5.1.1", "", NULL, 0 },
		{ "J3", "", "bounce", "5.1.1", "", "postmaster to root\n", 0 },
		{ "J3", "a@b.example", "", "5.1.1", "",
		    "bounce to a@b.example\n", 0 },
		/* J5: a relayhost that refuses <> refuses the copy too. */
		{ "J5", "", "postmaster", "5.1.7", "", NULL, 0 },
		{ "J6", "a@b.example", "", "5.1.1",
		    "Auto-Submitted: auto-replied\r\n", NULL, 0 },
		{ "J6", "a@b.example", "", "5.1.1",
		    "Auto-Submitted: auto-generated\r\n",
		    "bounce to a@b.example\n", 0 },
		{ "J13", "", "bounce", "4.4.7", "", NULL, 0 },
		{ "J13", "a@b.example", "", "4.4.7", "",
		    "bounce to a@b.example\n", 0 },
		{ "NOTIFY", "a@b.example", "", "5.1.1", "", NULL,
		    NOTIFY_NEVER },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		struct entry *e = message(5, cases[i].sender, cases[i].status);

		print_message("%s\n", cases[i].row);
		free(e->envelope.client);
		e->envelope.client = mem_text(cases[i].client);
		e->envelope.recipient[0].notify = cases[i].notify;
		world.header = cases[i].header;
		world.errors = 0;
		world.over(world.arg, e);
		assert_done(
		    cases[i].told == NULL ? "finish 5\n" : cases[i].told);
		assert_int_equal(world.errors, cases[i].told == NULL);
		if (cases[i].told == NULL)
			continue;
		store(0);
		assert_done("delete 5\nclose 5\n");
	}
}

static void
J13_no_bounce_for_what_only_waited(void **state)
{
	struct entry *e = message(5, "a@b.example", "4.4.7");

	(void)state;
	e->no_report = "the relayhost was at fault all the time";
	world.over(world.arg, e);
	assert_done("finish 5\n");
	assert_int_equal(world.errors, 1);
}

static void
J3_postmaster_is_not_told_of_its_own_mail(void **state)
{
	static char address[] = "R@x.example";

	(void)state;
	world.config.postmaster = address;
	world.over(world.arg, message(5, "", "5.1.1"));
	assert_done("finish 5\n");
	assert_int_equal(world.errors, 1);
}

static void
what_may_not_be_told_is_kept(void **state)
{
	(void)state;
	world.refusal = "550 5.7.1 not allowed";
	world.over(world.arg, message(5, "a@b.example", "5.1.1"));
	assert_done("bounce to a@b.example\nfinish 5\n");
	assert_int_equal(world.errors, 1);
}

static void
told(void *arg, queue_id id, int error)
{
	(void)arg;
	buf_printf(&world.done, "told %d %d\n", (int)id, error);
}

/* Nothing is on the disk of it before the report is. */
static void
the_operator_hears_when_it_is_stored(void **state)
{
	struct entry *e = message(5, "a@b.example", "5.1.1");

	(void)state;
	e->envelope.recipient[0].state = RECIPIENT_WAITING;
	world.looked = e;
	world.place = PLACE_CUR;
	assert_int_equal(bounce_now(world.bounce, 5, told, NULL), 0);
	assert_done("bounce to a@b.example\n");
	assert_int_equal(bounce_now(world.bounce, 5, told, NULL), -1);
	assert_int_equal(errno, EBUSY);
	store(ENOSPC);
	assert_done("close 5\nadd 5 in 60 s\ntold 5 28\n");
	world.looked = message(5, "a@b.example", "5.1.1");
	world.place = PLACE_FAILED;
	assert_int_equal(bounce_now(world.bounce, 5, told, NULL), 0);
	store(ENOSPC);
	assert_done("bounce to a@b.example\nclose 5\ntold 5 28\n");
	world.looked = message(5, "a@b.example", "5.1.1");
	assert_int_equal(bounce_now(world.bounce, 5, told, NULL), 0);
	store(0);
	assert_done("bounce to a@b.example\ndelete 5\nclose 5\ntold 5 0\n");
	world.looked = message(5, "", "5.1.1");
	assert_int_equal(bounce_now(world.bounce, 5, told, NULL), -1);
	assert_int_equal(errno, EDESTADDRREQ);
}

static void
a_warning_leaves_the_message_alone(void **state)
{
	struct entry *e = message(5, "a@b.example", "4.2.1");

	(void)state;
	e->envelope.recipient[0].state = RECIPIENT_WAITING;
	e->envelope.recipient[0].notify = NOTIFY_DELAY;
	world.late(world.arg, e);
	assert_done("bounce to a@b.example\nwarned 5\n");
	assert_false(bounce_has(world.bounce, 5));
	store(0);
	assert_done("");
	entry_free(e);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(J14_ten_thousand_at_once),
		T(J11_the_original_goes_only_when_the_report_is_stored),
		T(J11_a_full_disk_puts_the_report_off),
		T(J_who_is_told),
		T(J13_no_bounce_for_what_only_waited),
		T(J3_postmaster_is_not_told_of_its_own_mail),
		T(what_may_not_be_told_is_kept),
		T(the_operator_hears_when_it_is_stored),
		T(a_warning_leaves_the_message_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
