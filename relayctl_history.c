/*
 * relayctl log: what became of recipients, from the spool's history.
 */
#include "history.h"
#include "relayctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct selection {
	int64_t since_ms; /* wall clock; 0: ever */
	const char *to;   /* as given or as rewritten; NULL: anybody */
	bool json;
	bool any; /* printed so far */
	struct buf out;
};

static void
line_json(const struct history_line *line, struct buf *out)
{
	const struct {
		const char *name;
		struct span value;
	} texts[] = { { "status", line->status }, { "dsn", line->dsn },
		{ "sender", line->sender }, { "to", line->to },
		{ "original", line->original }, { "relay", line->relay },
		{ "reply", line->reply } };
	char id[QUEUE_ID_MAX];
	size_t i;

	queue_id_text(line->id, id);
	buf_add_text(out, "{\"time\": ");
	report_add_json_time(out, line->wall_ms);
	buf_printf(out, ", \"id\": \"%s\", \"delay\": %" PRId64 ".%03d", id,
	    line->delay_ms / 1000, (int)(line->delay_ms % 1000));
	for (i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		buf_printf(out, ", \"%s\": ", texts[i].name);
		buf_add_json(out, texts[i].value);
	}
	buf_add_char(out, '}');
}

static void
line_text(const struct history_line *line, struct buf *out)
{
	char id[QUEUE_ID_MAX];

	queue_id_text(line->id, id);
	report_add_time(out, line->wall_ms);
	buf_printf(out, " %s ", id);
	buf_add_escaped(out, line->status);
	buf_add_text(out, " <");
	buf_add_escaped(out, line->to);
	buf_add_char(out, '>');
	if (!span_equal(line->to, line->original)) {
		buf_add_text(out, " (");
		buf_add_escaped(out, line->original);
		buf_add_char(out, ')');
	}
	buf_add_text(out, " by ");
	buf_add_escaped(out, line->relay);
	buf_add_text(out, " after ");
	report_add_duration(out, line->delay_ms / 1000);
	buf_add_text(out, ": ");
	buf_add_escaped(out, line->reply);
	buf_add_char(out, '\n');
}

static void
print(void *arg, const struct history_line *line)
{
	struct selection *s = arg;

	if (line->wall_ms < s->since_ms ||
	    (s->to != NULL && !span_equal_nocase(line->to, span_of(s->to)) &&
		!span_equal_nocase(line->original, span_of(s->to))))
		return;
	if (s->json) {
		buf_add_text(&s->out, s->any ? ",\n" : "\n");
		line_json(line, &s->out);
	} else {
		line_text(line, &s->out);
	}
	s->any = true;
	relayctl_print(stdout, buf_span(&s->out));
	buf_clear(&s->out);
}

static int
print_all(const struct ctl *ctl, struct selection *s)
{
	struct queue *q = relayctl_need_spool(ctl);
	int ret;

	if (q == NULL)
		return STATUS_WRONG;
	if (s->json)
		(void)fputs("[", stdout);
	ret = history_read(q, print, s);
	if (ret == -1)
		(void)relayctl_refuse("history", strerror(errno));
	if (s->json)
		(void)fputs(s->any ? "\n]\n" : "]\n", stdout);
	queue_close(q);
	buf_free(&s->out);
	return ret == -1 ? STATUS_WRONG : STATUS_GOOD;
}

int
relayctl_history(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", 0, NULL, 'j' },
		{ "since", 1, NULL, 's' }, { "to", 1, NULL, 't' },
		{ NULL, 0, NULL, 0 } };
	struct selection s = { .json = false };
	struct instant now;
	int64_t seconds;
	int value;

	clock_read(&now);
	while ((value = relayctl_option(argc, argv, options)) != -1) {
		if (value == 'j')
			s.json = true;
		else if (value == 't' && relayctl_address(optarg))
			s.to = optarg;
		else if (value == 's' && relayctl_duration(optarg, &seconds))
			s.since_ms = seconds > now.wall_ms / 1000
			    ? 0
			    : now.wall_ms - seconds * 1000;
		else
			return STATUS_USAGE;
	}
	return optind < argc ? relayctl_usage() : print_all(ctl, &s);
}
