/*
 * What relayd makes of a spool: the daemon's own start over each spool named on
 * standard input, with every call that follows but the relayhost's, which takes
 * all mail.  Says what became of each message; crash_states.py judges.
 *
 *   sent ID SHA256 RECIPIENT ...       the relayhost has taken it
 *   made ID                            ... and it is a report
 *   report ID RECIPIENT                ... that says that this one has failed
 *   left PLACE ID SHA256 STATE RECIPIENT ...    in the spool at the end; SHA256
 *                                      "damaged" when it can't be read
 *   end TURNS                          of the loop; 0: it did not come to rest
 *
 * usage: recover relayd.conf <LIST_OF_SPOOLS
 *
 * wrap: maildir_deliver
 */
#include "../spool.h"
#include "../transaction.h"

#include <sys/stat.h>

#include <openssl/sha.h>

#include <fcntl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { TURNS = 300 };

void __wrap_maildir_deliver(const char *path, struct delivery *d,
    int64_t wall_ms);

struct machine {
	struct loop *loop;
	struct queue *queue;
	struct config *config;
	struct connector *connector;
	struct sched *sched;
	struct submit *submit;
	struct bounce *bounce;
};

static void
print_digest(struct span content)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	size_t i;

	(void)SHA256((const unsigned char *)content.data, content.len, digest);
	for (i = 0; i < sizeof(digest); i++)
		(void)printf("%02x", digest[i]);
}

/* ---- the relayhost ---- */

/* The value of a line that begins with name; s goes on behind it. */
static bool
find_field(struct span *s, struct span name, struct span *value)
{
	const char *at = memmem(s->data, s->len, name.data, name.len);

	if (at == NULL)
		return false;
	*s = span_from(*s, (size_t)(at - s->data) + name.len);
	(void)span_cut(*s, '\r', value, s);
	return true;
}

static void
print_reported(const char *id, struct span content)
{
	struct span about, to;

	if (!find_field(&content, SPAN("\nX-Relayd-Queue-ID: "), &about))
		return;
	(void)printf("made %s\n", id);
	while (find_field(&content, SPAN("\nFinal-Recipient: rfc822; "), &to)) {
		if (span_starts_nocase(content, SPAN("\nAction: failed")))
			(void)printf("report %.*s %.*s\n", (int)about.len,
			    about.data, (int)to.len, to.data);
	}
}

static int
read_content(struct entry *e, struct buf *out)
{
	char piece[4096];
	ssize_t n;

	entry_rewind(e);
	while ((n = entry_read(e, piece, sizeof(piece))) > 0)
		buf_append(out, piece, (size_t)n);
	return (int)n;
}

/* Nothing is taken before all of it could be read, as with a real one. */
void
__wrap_maildir_deliver(const char *path, struct delivery *d, int64_t wall_ms)
{
	const struct envelope *e = &d->entry->envelope;
	struct buf content = { NULL, 0, 0 };
	char id[QUEUE_ID_MAX];
	size_t i;

	(void)path;
	(void)wall_ms;
	if (read_content(d->entry, &content) == -1) {
		delivery_settle(d, VERDICT_DEFERRED, "4.3.0", "it is damaged");
		buf_free(&content);
		return;
	}
	queue_id_text(d->entry->id, id);
	(void)printf("sent %s ", id);
	print_digest(buf_span(&content));
	for (i = 0; i < d->recipient_count; i++)
		(void)printf(" %s",
		    e->recipient[d->recipient[i].index].address);
	(void)printf("\n");
	print_reported(id, buf_span(&content));
	buf_free(&content);
	delivery_settle(d, VERDICT_SENT, "2.0.0", "taken");
}

/* ---- what is left ---- */

/* False: it is damaged. */
static bool
load(int fd, const struct stat *st, queue_id id, struct envelope *e,
    struct buf *content)
{
	struct spool_head head;
	struct spool_state state;

	if (spool_load(fd, st, id, &head, &state, e) != NULL)
		return false;
	buf_reserve(content, head.content_octets + 1);
	content->len = head.content_octets;
	return spool_read_at(fd, content->data, content->len,
		   SPOOL_ENVELOPE_AT + head.envelope_octets) == 1 &&
	    crc32c(0, content->data, content->len) == head.content_crc;
}

static void
print_left(struct queue *q, const struct queue_info *info)
{
	struct envelope e = { .uid = -1 };
	struct buf content = { NULL, 0, 0 };
	const char *why;
	struct stat st;
	int fd = spool_open(q, info->place, info->name, O_RDONLY, &st, &why);
	size_t i;

	(void)printf("left %s %s ", spool_place_name(info->place), info->name);
	if (fd == -1 || !load(fd, &st, info->id, &e, &content)) {
		(void)printf("damaged\n");
	} else {
		print_digest(buf_span(&content));
		for (i = 0; i < e.recipient_count; i++)
			(void)printf(" %c %s", (char)e.recipient[i].state,
			    e.recipient[i].address);
		(void)printf("\n");
		print_reported(info->name, buf_span(&content));
	}
	fd_close(&fd);
	envelope_clear(&e);
	buf_free(&content);
}

static void
print_all_left(struct queue *q)
{
	struct queue_walk *w = queue_walk_new(q, PLACES, 0);
	const struct queue_info *info;

	while (queue_walk_next(w, &info))
		print_left(q, info);
	queue_walk_free(w);
}

/* ---- the daemon ---- */

static void
sync_spool(void *arg)
{
	struct machine *m = arg;

	(void)queue_sync(m->queue);
}

static bool
is_at_rest(const struct machine *m)
{
	struct sched_status status;

	sched_status(m->sched, &status);
	return !status.reading && status.waiting == 0 && status.active == 0 &&
	    !submit_busy(m->submit);
}

/* Until all mail has left that can: nothing waits for its time. */
static int
run(struct machine *m)
{
	int turn = 0;

	do {
		if (++turn > TURNS)
			return 0;
		sched_flush_all(m->sched);
		loop_hurry(m->loop);
		if (loop_turn(m->loop) == -1)
			return 0;
	} while (!is_at_rest(m));
	return turn;
}

/* As relayd.c has it. */
static int
recover(const char *spool, struct config *config)
{
	struct machine m = { .config = config };
	pid_t owner;
	int turns;

	m.queue = queue_open(spool, 0, &owner);
	if (m.queue == NULL || queue_lacks(m.queue) != NULL) {
		perror(spool);
		return EX_IOERR;
	}
	m.loop = loop_new();
	loop_at_turn_end(m.loop, sync_spool, &m);
	m.connector = connector_new(m.loop);
	m.sched = sched_new(m.loop, m.queue, m.connector, config);
	m.submit = submit_new(m.loop, m.queue, m.sched, config);
	m.bounce = bounce_new(m.loop, m.queue, m.sched, m.submit, config);
	sched_start(m.sched);
	turns = run(&m);
	print_all_left(m.queue);
	(void)printf("end %d\n", turns);
	bounce_free(m.bounce);
	submit_free(m.submit);
	sched_free(m.sched);
	connector_free(m.connector);
	queue_close(m.queue);
	loop_free(m.loop);
	return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

int
main(int argc, char **argv)
{
	struct buf errors = { NULL, 0, 0 }, warnings = { NULL, 0, 0 };
	struct config *config;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int status = EX_OK;

	if (argc != 2)
		return EX_USAGE;
	config = config_load(argv[1], &errors, &warnings);
	if (config == NULL) {
		(void)fputs(buf_text(&errors), stderr);
		return EX_CONFIG;
	}
	log_open(LOG_TO_STDERR, config->log_level, false);
	while (status == EX_OK && (len = getline(&line, &size, stdin)) > 0) {
		line[len - 1] = '\0';
		status = recover(line, config);
	}
	free(line);
	config_release(config);
	buf_free(&errors);
	buf_free(&warnings);
	return status;
}
