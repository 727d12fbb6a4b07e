/*
 * Times, waits and sentences as every verb prints them.
 */
#include "report.h"

#include <inttypes.h>
#include <time.h>

static struct tm
local_time(int64_t wall_ms)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm = { .tm_mday = 1, .tm_year = 70 };

	(void)localtime_r(&seconds, &tm);
	return tm;
}

void
report_add_time(struct buf *out, int64_t wall_ms)
{
	struct tm tm = local_time(wall_ms);
	char text[REPORT_TIME];

	if (strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) > 0)
		buf_add_text(out, text);
}

void
report_mailq_time(char out[REPORT_TIME], int64_t wall_ms)
{
	struct tm tm = local_time(wall_ms);

	if (wall_ms == 0 ||
	    strftime(out, REPORT_TIME, "%a %b %e %H:%M:%S", &tm) == 0)
		out[0] = '\0';
}

void
report_add_json_time(struct buf *out, int64_t wall_ms)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm = { .tm_mday = 1, .tm_year = 70 };
	char text[REPORT_TIME];

	if (wall_ms == 0 || gmtime_r(&seconds, &tm) == NULL ||
	    strftime(text, sizeof(text), "\"%Y-%m-%dT%H:%M:%SZ\"", &tm) == 0)
		buf_add_text(out, "null");
	else
		buf_add_text(out, text);
}

void
report_add_duration(struct buf *out, int64_t seconds)
{
	static const struct {
		int64_t seconds;
		const char *unit;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "m" }, { 1, "s" } };
	size_t i = 0;

	if (seconds < 0)
		seconds = 0;
	while (units[i].seconds > 1 && seconds < 2 * units[i].seconds)
		i++;
	buf_printf(out, "%" PRId64 " %s", seconds / units[i].seconds,
	    units[i].unit);
}

void
report_add_paragraph(struct buf *out, const char *text)
{
	enum { INDENT = 8, WIDTH = 80 };
	struct span rest = span_of(text), word;
	size_t column = WIDTH;
	bool more;

	do {
		more = span_cut(rest, ' ', &word, &rest);
		if (column + 1 + word.len > WIDTH) {
			buf_printf(out, "\n%*s", INDENT, "");
			column = INDENT;
		} else {
			buf_add_char(out, ' ');
			column++;
		}
		buf_add(out, word);
		column += word.len;
	} while (more);
	buf_add_char(out, '\n');
}
