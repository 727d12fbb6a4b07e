/*
 * What DNS says of a sender's domain: whether it takes mail, SPF (RFC 7208),
 * DKIM keys (RFC 6376), DMARC (RFC 7489).  All of it is for the receivers, so
 * mail flows without; it is just less welcome.
 */
#include "online.h"

#include <stdio.h>
#include <string.h>

static void
tell(struct walk *w, const char *name, int64_t begun, struct span text,
    const char *cause)
{
	walk_step(w, name, cause == NULL ? STEP_GOOD : STEP_WARNING,
	    walk_now_ms() - begun, text);
	if (cause != NULL)
		walk_advise(w, advice_named(cause), NULL);
}

/* There is no answer, which says nothing of the domain. */
static bool
unknown(struct walk *w, const char *name, int64_t begun, enum dns_result result)
{
	if (result != DNS_REFUSED && result != DNS_SILENT)
		return false;
	walk_step(w, name, STEP_UNKNOWN, walk_now_ms() - begun,
	    result == DNS_SILENT ? SPAN("no name server answers")
				 : SPAN("the name server can't answer"));
	return true;
}

/* Those of the records that begin like that, joined by " | ". */
static size_t
choose(const struct strings *records, struct span prefix, struct buf *out)
{
	size_t i, count = 0;

	for (i = 0; i < records->count; i++) {
		struct span record = span_of(records->item[i]);

		/* "v=spf10" is another version (RFC 7208, 4.5). */
		if (!span_starts_nocase(record, prefix) ||
		    (record.len > prefix.len &&
			strchr(" ;\t", record.data[prefix.len]) == NULL))
			continue;
		if (count++ > 0)
			buf_add_text(out, " | ");
		buf_add(out, record);
	}
	return count;
}

/* RFC 5321, 5.1: MX, else the domain's own address; a lone "." as MX is a
 * domain without mail (RFC 7505). */
static void
check_mx(struct walk *w, const char *domain)
{
	struct strings found = { NULL, 0 };
	int64_t begun = walk_now_ms();
	enum dns_result result = dns_query(domain, DNS_MX, &found);
	struct buf text = { NULL, 0, 0 };

	if (result == DNS_NO_DATA)
		result = dns_query(domain, DNS_A, &found);
	if (result == DNS_NO_DATA)
		result = dns_query(domain, DNS_AAAA, &found);
	if (!unknown(w, "mx", begun, result)) {
		bool null_mx =
		    found.count == 1 && strcmp(found.item[0], "0 .") == 0;

		buf_printf(&text, "%s: %s", domain,
		    found.count > 0             ? found.item[0]
			: result == DNS_NO_NAME ? "no such domain"
						: "neither MX nor address");
		tell(w, "mx", begun, buf_span(&text),
		    found.count > 0 && !null_mx ? NULL : "sender-domain");
	}
	buf_free(&text);
	strings_free(&found);
}

static void
check_spf(struct walk *w, const char *domain)
{
	struct strings found = { NULL, 0 };
	struct buf text = { NULL, 0, 0 };
	int64_t begun = walk_now_ms();
	enum dns_result result = dns_query(domain, DNS_TXT, &found);
	const char *cause = NULL;
	size_t count, at;

	buf_printf(&text, "%s: ", domain);
	at = text.len;
	count = choose(&found, SPAN("v=spf1"), &text);
	if (count == 0) {
		buf_add_text(&text, "no SPF record");
		cause = "spf-missing";
	} else if (count > 1 ||
	    strcasestr(buf_text(&text) + at, " +all") != NULL ||
	    strcasestr(buf_text(&text) + at, " all") != NULL) {
		cause = "spf-wrong";
	}
	if (!unknown(w, "spf", begun, result))
		tell(w, "spf", begun, buf_span(&text), cause);
	buf_free(&text);
	strings_free(&found);
}

/* Keys stand at SELECTOR._domainkey, and no selector is known; but a name
 * that does not exist has none below it (RFC 8020). */
static void
check_dkim(struct walk *w, const char *domain)
{
	struct strings found = { NULL, 0 };
	struct buf text = { NULL, 0, 0 };
	int64_t begun = walk_now_ms();
	enum dns_result result;

	buf_printf(&text, "_domainkey.%s", domain);
	result = dns_query(buf_text(&text), DNS_TXT, &found);
	if (result == DNS_NO_NAME) {
		buf_add_text(&text, ": no such name");
		tell(w, "dkim", begun, buf_span(&text), "dkim-missing");
	} else if (!unknown(w, "dkim", begun, result)) {
		buf_add_text(&text,
		    ": there are keys; that a mail is signed with one shows "
		    "in its DKIM-Signature where it arrives");
		walk_step(w, "dkim", STEP_UNKNOWN, walk_now_ms() - begun,
		    buf_span(&text));
	}
	buf_free(&text);
	strings_free(&found);
}

/* "p" is the second tag (RFC 7489, 6.3). */
static bool
dmarc_valid(struct span record)
{
	struct span tag, value, rest;

	(void)span_cut(record, ';', &tag, &rest);
	(void)span_cut(rest, ';', &tag, &rest);
	if (!span_cut(span_trim(tag), '=', &tag, &value) ||
	    !span_equal_nocase(span_trim(tag), SPAN("p")))
		return false;
	value = span_trim(value);
	return span_equal_nocase(value, SPAN("none")) ||
	    span_equal_nocase(value, SPAN("quarantine")) ||
	    span_equal_nocase(value, SPAN("reject"));
}

/* At the domain, else at the one above it that has a record: more exact would
 * be the public suffix list (RFC 7489, 3.2). */
static void
check_dmarc(struct walk *w, const char *domain)
{
	struct strings found = { NULL, 0 };
	struct buf name = { NULL, 0, 0 }, record = { NULL, 0, 0 };
	int64_t begun = walk_now_ms();
	enum dns_result result = DNS_NO_NAME;
	size_t count = 0, tries;

	for (tries = 0; tries < 4 && count == 0; tries++) {
		buf_clear(&name);
		buf_printf(&name, "_dmarc.%s", domain);
		strings_free(&found);
		result = dns_query(buf_text(&name), DNS_TXT, &found);
		count = choose(&found, SPAN("v=DMARC1"), &record);
		domain = strchr(domain, '.');
		if (result == DNS_SILENT || domain == NULL ||
		    strchr(++domain, '.') == NULL)
			break;
	}
	if (!unknown(w, "dmarc", begun, result)) {
		bool wrong = count > 1 || !dmarc_valid(buf_span(&record));

		buf_add_text(&name, ": ");
		buf_add_text(&name,
		    count == 0 ? "no DMARC record" : buf_text(&record));
		tell(w, "dmarc", begun, buf_span(&name),
		    count == 0  ? "dmarc-missing"
			: wrong ? "dmarc-wrong"
				: NULL);
	}
	strings_free(&found);
	buf_free(&name);
	buf_free(&record);
}

void
domain_walk(struct walk *w, const char *domain)
{
	check_mx(w, domain);
	if (w->step[w->count - 1].state == STEP_UNKNOWN)
		return; /* nor will it answer the rest */
	check_spf(w, domain);
	check_dkim(w, domain);
	check_dmarc(w, domain);
}
