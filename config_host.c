/*
 * The defaults of hostname and origin: what this host calls itself.
 *
 * No DNS: at boot it may not answer, and relayd must start all the same.
 */
#include "config_parts.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

/* The next word of a line of hosts(5), or an empty one. */
static struct span
cut_word(struct span *line)
{
	size_t len = 0;
	struct span word;

	*line = span_trim(*line);
	while (len < line->len && line->data[len] != ' ' &&
	    line->data[len] != '\t')
		len++;
	word = span_first(*line, len);
	*line = span_from(*line, len);
	return word;
}

/* The canonical name in one line of hosts(5), if it is about name. */
static struct span
canonical_in(struct span line, struct span name)
{
	struct span rest, canonical, word;

	(void)span_cut(line, '#', &rest, &line);
	(void)cut_word(&rest); /* the address */
	canonical = cut_word(&rest);
	for (word = canonical; word.len > 0; word = cut_word(&rest))
		if (span_equal_nocase(word, name) &&
		    memchr(canonical.data, '.', canonical.len) != NULL)
			return canonical;
	return (struct span){ 0 };
}

char *
config_default_hostname(void)
{
	char short_name[HOST_NAME_MAX + 1] = { 0 };
	struct span name, rest, line, canonical = { 0 };
	struct buf hosts = { 0 };
	char *result;
	bool more = true;

	if (gethostname(short_name, sizeof(short_name)) == -1)
		return mem_text("localhost");
	name = span_of(short_name);
	if (strchr(short_name, '.') != NULL ||
	    file_read("/etc/hosts", LIMIT_CONFIG_FILE, &hosts, NULL) == -1)
		more = false;
	for (rest = buf_span(&hosts); more && canonical.len == 0;) {
		more = span_cut(rest, '\n', &line, &rest);
		canonical = canonical_in(line, name);
	}
	result = span_text(canonical.len > 0 ? canonical : name);
	buf_free(&hosts);
	return result;
}

char *
config_default_origin(const char *hostname)
{
	struct buf mailname = { 0 };
	struct span line = { 0 }, rest;
	char *origin;

	if (file_read("/etc/mailname", LIMIT_CONFIG_FILE, &mailname, NULL) == 0)
		(void)span_cut(buf_span(&mailname), '\n', &line, &rest);
	line = span_trim(line);
	origin = line.len > 0 && config_check_domain(line) == NULL
	    ? span_text(line)
	    : mem_text(hostname);
	buf_free(&mailname);
	return origin;
}
