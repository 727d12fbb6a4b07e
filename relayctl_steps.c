/*
 * What the doctor has found, step by step, for people and for programs: the
 * field names of the JSON are an interface; relayctl(8) lists them.
 */
#include "online.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t
walk_now_ms(void)
{
	struct instant now;

	clock_read(&now);
	return now.mono_ms;
}

void
walk_begin(const struct walk *w)
{
	if (!w->json)
		(void)printf("relay %s (%s:%u)\n", w->relay->name,
		    w->relay->host, w->relay->port);
}

static void
print_step(const struct step *s)
{
	static const char *const marks[] = {
		[STEP_GOOD] = "ok",
		[STEP_UNKNOWN] = "--",
		[STEP_WARNING] = "??",
		[STEP_WRONG] = "!!",
	};

	(void)printf("  %s %-13s %6.3f s  %s\n", marks[s->state], s->name,
	    (double)s->took_ms / 1000, s->text);
	(void)fflush(stdout); /* the next one may take its time */
}

void
walk_step(struct walk *w, const char *name, enum step_state state,
    int64_t took_ms, struct span text)
{
	struct buf escaped = { NULL, 0, 0 };
	struct step *s;

	w->step = mem_array(w->step, w->count + 1, sizeof(*w->step));
	s = &w->step[w->count++];
	buf_add_escaped(&escaped, span_first(text, LIMIT_REPLY_KEPT));
	*s = (struct step){
		.name = name,
		.state = state,
		.took_ms = took_ms,
		.text = mem_text(buf_text(&escaped)),
	};
	buf_free(&escaped);
	if (!w->json)
		print_step(s);
}

void
walk_advise(struct walk *w, const struct advice *advice, const char *line)
{
	struct step *s = &w->step[w->count - 1];

	s->advice = advice;
	free(s->line);
	s->line = mem_text(line != NULL ? line : advice->line);
}

const struct step *
walk_first(const struct walk *w, enum step_state state)
{
	size_t i;

	for (i = 0; i < w->count; i++)
		if (w->step[i].state == state)
			return &w->step[i];
	return NULL;
}

/* These two stand outside of the relays. */
static bool
is_in_relay(const char *line)
{
	return !span_starts_nocase(span_of(line), SPAN("from")) &&
	    !span_starts_nocase(span_of(line), SPAN("hostname"));
}

static void
print_advice(const struct walk *w, const struct step *s, const char *kind)
{
	(void)printf("%s: %s: %s (%s)\n", kind, s->name, s->advice->what,
	    s->advice->cause);
	(void)printf("  what to do: %s\n", s->advice->mend);
	if (s->line != NULL)
		(void)printf("  in %s%s%s%s: %s\n", w->config->path,
		    is_in_relay(s->line) ? ", relay \"" : "",
		    is_in_relay(s->line) ? w->relay->name : "",
		    is_in_relay(s->line) ? "\"" : "", s->line);
}

static void
add_text(struct buf *out, const char *name, const char *text)
{
	buf_printf(out, ", \"%s\": ", name);
	if (text == NULL)
		buf_add_text(out, "null");
	else
		buf_add_json(out, span_of(text));
}

static void
add_advice(struct buf *out, const struct step *s)
{
	const struct advice *a = s == NULL ? NULL : s->advice;

	add_text(out, "cause", a == NULL ? NULL : a->cause);
	add_text(out, "meaning", a == NULL ? NULL : a->what);
	add_text(out, "advice", a == NULL ? NULL : a->mend);
	add_text(out, "line", s == NULL ? NULL : s->line);
}

static void
print_json(const struct walk *w)
{
	static const char *const names[] = {
		[STEP_GOOD] = "ok",
		[STEP_UNKNOWN] = "unknown",
		[STEP_WARNING] = "warning",
		[STEP_WRONG] = "wrong",
	};
	const struct step *wrong = walk_first(w, STEP_WRONG);
	struct buf out = { NULL, 0, 0 };
	size_t i;

	buf_add_text(&out, "{\"relay\": ");
	buf_add_json(&out, span_of(w->relay->name));
	add_text(&out, "host", w->relay->host);
	buf_printf(&out, ", \"port\": %u", w->relay->port);
	add_text(&out, "step", wrong == NULL ? NULL : wrong->name);
	add_advice(&out, wrong);
	buf_add_text(&out, ", \"steps\": [");
	for (i = 0; i < w->count; i++) {
		const struct step *s = &w->step[i];

		buf_printf(&out, "%s\n{\"step\": \"%s\", \"state\": \"%s\"",
		    i == 0 ? "" : ",", s->name, names[s->state]);
		buf_printf(&out, ", \"seconds\": %" PRId64 ".%03" PRId64,
		    s->took_ms / 1000, s->took_ms % 1000);
		add_text(&out, "text", s->text);
		add_advice(&out, s);
		buf_add_char(&out, '}');
	}
	buf_add_text(&out, "]}");
	relayctl_print(stdout, buf_span(&out));
	buf_free(&out);
}

void
walk_end(const struct walk *w)
{
	const struct step *wrong = walk_first(w, STEP_WRONG);
	size_t i;

	if (w->json) {
		print_json(w);
		return;
	}
	if (wrong != NULL)
		print_advice(w, wrong, "wrong");
	else
		(void)printf("relay %s: all is well\n", w->relay->name);
	for (i = 0; i < w->count; i++)
		if (w->step[i].state == STEP_WARNING)
			print_advice(w, &w->step[i], "warning");
}

void
walk_free(struct walk *w)
{
	size_t i;

	for (i = 0; i < w->count; i++) {
		free(w->step[i].text);
		free(w->step[i].line);
	}
	free(w->step);
}
