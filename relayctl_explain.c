/*
 * relayctl explain: whom a message would be from and go to, and why.  The
 * rules are rewrite.c's, which tells each way; here it is printed.
 */
#include "relayctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct explanation {
	const struct config *config;
	struct rewrite_rules rules;
	struct address_set recipients;
	bool json;
	struct buf out;
	struct buf ways; /* of the address that is being explained */
	int status;
};

/* ---- aliases ---- */

static void
warn_alias(void *arg, unsigned line, const char *text)
{
	(void)fprintf(stderr, "warning: %s:%u: %s\n", (const char *)arg, line,
	    text);
}

/* NULL: there are none. */
static struct aliases *
read_aliases(const struct config *config)
{
	struct buf text = { NULL, 0, 0 };
	struct aliases *aliases = NULL;

	if (config->aliases[0] == '\0')
		return NULL;
	if (file_read(config->aliases, LIMIT_ALIASES_FILE, &text, NULL) == 0)
		aliases =
		    aliases_parse(buf_span(&text), warn_alias, config->aliases);
	else if (config->aliases_given || errno != ENOENT)
		(void)fprintf(stderr, "warning: %s: %s\n", config->aliases,
		    strerror(errno));
	buf_free(&text);
	return aliases;
}

/* ---- addresses ---- */

static void
add_json_way(struct buf *out, const struct rewrite_hop *hop, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		buf_add_text(out,
		    i == 0 ? "[{\"address\": " : ", {\"address\": ");
		buf_add_json(out, hop[i].address);
		buf_printf(out, ", \"by\": \"%s\"}",
		    rewrite_cause_name(hop[i].cause));
	}
	buf_add_char(out, ']');
}

/* For people, where an address is refused only the way to there counts. */
static void
take_way(void *arg, const struct rewrite_hop *hop, size_t count,
    enum rewrite_result result)
{
	struct explanation *x = arg;

	if (!x->json && result != REWRITE_OK)
		buf_clear(&x->ways);
	if (x->ways.len > 0)
		buf_add_text(&x->ways, x->json ? ", " : "\nrecipient: ");
	if (x->json)
		add_json_way(&x->ways, hop, count);
	else
		rewrite_add_way(&x->ways, hop, count);
}

static void
explain_sender(struct explanation *x, const char *sender)
{
	const struct rewrite_trace trace = { take_way, x };
	char *sent = rewrite_sender(&x->rules, span_of(sender), &trace);

	if (x->json) {
		buf_add_text(&x->out, "{\"sender\": {\"given\": ");
		buf_add_json(&x->out, span_of(sender));
		buf_add_text(&x->out, ", \"sent\": ");
		buf_add_json(&x->out, span_of(sent));
		buf_printf(&x->out, ", \"way\": %s},\n", buf_text(&x->ways));
	} else {
		buf_printf(&x->out, "sender: %s\n",
		    *sender == '\0' ? "<> (the null sender stays)"
				    : buf_text(&x->ways));
	}
	free(sent);
}

static void
explain_recipient(struct explanation *x, const char *address, bool last)
{
	const struct rewrite_trace trace = { take_way, x };
	const char *refusal;
	enum rewrite_result result;

	buf_clear(&x->ways);
	result = rewrite_recipient(&x->rules, span_of(address), &x->recipients,
	    &trace);
	refusal = rewrite_refusal(result);
	if (refusal != NULL)
		x->status = STATUS_WRONG;
	if (x->json) {
		buf_add_text(&x->out, "  {\"given\": ");
		buf_add_json(&x->out, span_of(address));
		buf_add_text(&x->out, ", \"refused\": ");
		if (refusal == NULL)
			buf_add_text(&x->out, "null");
		else
			buf_add_json(&x->out, span_of(refusal));
		buf_printf(&x->out, ", \"ways\": [%s]}%s\n", buf_text(&x->ways),
		    last ? "" : ",");
		return;
	}
	if (result == REWRITE_TOO_MANY) { /* no single way is to blame */
		buf_clear(&x->ways);
		buf_add_escaped(&x->ways, span_of(address));
	}
	if (refusal == NULL)
		buf_printf(&x->out, "recipient: %s\n", buf_text(&x->ways));
	else
		buf_printf(&x->out, "refused: %s: %s\n", buf_text(&x->ways),
		    refusal);
}

/* ---- header ---- */

/* Without what every message has. */
static void
print_header(struct explanation *x, struct span header)
{
	struct span line, name, value;
	bool shown = false, first = true;

	while (header.len > 0) {
		(void)span_cut(header, '\n', &line, &header);
		if (line.data[0] != '\t' && line.data[0] != ' ') {
			(void)span_cut(line, ':', &name, &value);
			shown = !span_equal(name, SPAN("Received")) &&
			    !span_equal(name, SPAN("Date")) &&
			    !span_equal(name, SPAN("Message-ID"));
		}
		if (!shown)
			continue;
		line.len--; /* CR */
		if (x->json) {
			buf_add_text(&x->out, first ? "" : ", ");
			buf_add_json(&x->out, line);
		} else {
			buf_add_text(&x->out, "header: ");
			buf_add(&x->out, line);
			buf_add_char(&x->out, '\n');
		}
		first = false;
	}
}

/* As it would be if From and To were what the envelope is. */
static void
explain_header(struct explanation *x, const char *sender,
    const struct strings *recipients)
{
	const struct rewrite_facts facts = { .id = "ID",
		.client = "unknown",
		.helo = "",
		.protocol = "ESMTP",
		.sender = sender };
	struct buf sample = { NULL, 0, 0 }, header = { NULL, 0, 0 };
	const char *refusal;
	size_t i;

	if (*sender != '\0')
		buf_printf(&sample, "From: %s\r\n", sender);
	for (i = 0; i < recipients->count; i++)
		buf_printf(&sample, "%s%s", i == 0 ? "To: " : ",\r\n ",
		    recipients->item[i]);
	buf_add_text(&sample, "\r\nDate: x\r\nMessage-ID: x\r\n");
	refusal = rewrite_header(&x->rules, &facts, buf_span(&sample), &header);
	if (refusal == NULL)
		print_header(x, buf_span(&header));
	buf_free(&sample);
	buf_free(&header);
}

/* ---- all of it ---- */

/* The relay that would take the message, if it is not paused then. */
static void
explain_relay(struct explanation *x, const char *sender)
{
	char *as_sent = rewrite_sender(&x->rules, span_of(sender), NULL);
	const struct config_relay *r = x->config->relay;
	size_t i = 0, count = x->config->relay_count;

	while (i < count && !config_relay_serves(&r[i], span_of(as_sent)))
		i++;
	free(as_sent);
	if (x->json && i < count) {
		buf_add_text(&x->out, "\"relay\": {\"name\": ");
		buf_add_json(&x->out, span_of(r[i].name));
		buf_add_text(&x->out, ", \"host\": ");
		buf_add_json(&x->out, span_of(r[i].host));
		buf_printf(&x->out, ", \"port\": %u}}\n", r[i].port);
	} else if (x->json) {
		buf_add_text(&x->out, "\"relay\": null}\n");
	} else if (i < count) {
		buf_printf(&x->out, "relay: %s (%s:%u)\n", r[i].name, r[i].host,
		    r[i].port);
	} else {
		buf_add_text(&x->out, "relay: none serves this sender\n");
	}
}

static void
explain_all(struct explanation *x, const char *sender,
    const struct strings *recipients)
{
	size_t i;

	explain_sender(x, sender);
	if (x->json)
		buf_add_text(&x->out, "\"recipients\": [\n");
	for (i = 0; i < recipients->count; i++)
		explain_recipient(x, recipients->item[i],
		    i + 1 == recipients->count);
	if (x->json)
		buf_add_text(&x->out, "],\n\"header\": [");
	explain_header(x, sender, recipients);
	if (x->json)
		buf_add_text(&x->out, "],\n");
	explain_relay(x, sender);
}

int
relayctl_explain(const struct config *config, const char *sender,
    const struct strings *recipients, bool json)
{
	struct explanation x = { .config = config, .json = json };
	struct aliases *aliases = read_aliases(config);

	config_rules(config, &x.rules);
	x.rules.aliases = aliases;
	explain_all(&x, sender, recipients);
	relayctl_print(stdout, buf_span(&x.out));
	buf_free(&x.out);
	buf_free(&x.ways);
	address_set_free(&x.recipients);
	aliases_free(aliases);
	return x.status;
}
