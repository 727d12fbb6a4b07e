/*
 * A client's command lines and their parameters (smtp.c, parameters.c), and
 * numbers with units (util.c).
 *
 * input: lines.
 */
#include "fuzz.h"

#include <math.h>
#include <string.h>

static const char *
check_refusal(const char *reply)
{
	if (reply != NULL)
		assert(strlen(reply) > 10 && reply[0] == '5' &&
		    is_printable(span_of(reply)));
	return reply;
}

/* What was read is what is written, and in at most its length. */
static void
try_mail(struct span parameters)
{
	struct smtp_mail mail, again;
	struct buf out = { 0 };

	if (check_refusal(smtp_mail_parameters(parameters, &mail)) != NULL)
		return;
	assert(is_printable(span_of(mail.envid)));
	dsn_add_mail(&out, mail.ret, mail.envid);
	assert(out.len <= parameters.len + 1);
	assert(smtp_mail_parameters(buf_span(&out), &again) == NULL);
	assert(mail.ret == again.ret && strcmp(mail.envid, again.envid) == 0);
	buf_free(&out);
}

static void
try_rcpt(struct span parameters)
{
	struct smtp_rcpt rcpt, again;
	struct buf out = { 0 };

	if (check_refusal(smtp_rcpt_parameters(parameters, &rcpt)) != NULL)
		return;
	assert(is_printable(span_of(rcpt.orcpt)));
	dsn_add_rcpt(&out, rcpt.notify, rcpt.orcpt);
	assert(out.len <= parameters.len + 1);
	assert(smtp_rcpt_parameters(buf_span(&out), &again) == NULL);
	assert(rcpt.notify == again.notify);
	assert(strcmp(rcpt.orcpt, again.orcpt) == 0);
	buf_free(&out);
}

/* What is taken has no octet that could end a line; with UTF-8 refused, what
 * is left is ASCII. */
static void
try_path(struct span arg, struct span keyword, bool utf8,
    void (*try)(struct span parameters))
{
	struct span address, parameters;
	const char *refusal =
	    smtp_path(arg, keyword, utf8, &address, &parameters);

	if (check_refusal(refusal) != NULL)
		return;
	assert(address.len == 0 ||
	    smtp_address_valid(address,
		ADDRESS_BARE | (utf8 ? ADDRESS_UTF8 : 0)));
	assert(address.len > 0 || span_equal(keyword, SPAN("FROM:")));
	assert(address.len + parameters.len <= arg.len);
	try(parameters);
}

static void
try_chunk(struct span arg)
{
	uint64_t octets, again;
	bool last, last_again;
	struct buf out = { 0 };

	if (!smtp_bdat(arg, &octets, &last))
		return;
	buf_printf(&out, "%llu%s", (unsigned long long)octets,
	    last ? " LAST" : "");
	assert(smtp_bdat(buf_span(&out), &again, &last_again));
	assert(again == octets && last_again == last);
	buf_free(&out);
}

static void
try_command(struct span line)
{
	struct span arg;
	enum smtp_verb verb = smtp_command(line, &arg);

	assert(verb < SMTP_VERBS && arg.len <= line.len);
	assert(arg.len == 0 ||
	    (arg.data >= line.data &&
		arg.data + arg.len <= line.data + line.len));
	if (verb != SMTP_UNKNOWN && verb != SMTP_HTTP)
		assert(memchr(line.data, '\0', line.len) == NULL &&
		    memchr(line.data, '\r', line.len) == NULL);
	if (smtp_helo_valid(arg))
		assert(arg.len > 0 && is_printable(arg));
	try_path(arg, SPAN("FROM:"), true, try_mail);
	try_path(arg, SPAN("FROM:"), false, try_mail);
	try_path(arg, SPAN("TO:"), true, try_rcpt);
	try_path(arg, SPAN("TO:"), false, try_rcpt);
	try_chunk(arg);
}

static void
try_numbers(struct span text)
{
	uint64_t number;
	int64_t seconds;
	double rate;
	queue_id id;
	char name[QUEUE_ID_MAX];

	if (parse_number(text, 1000, &number))
		assert(number <= 1000 && text.len > 0);
	if (parse_duration(text, &seconds))
		assert(seconds >= 0);
	if (parse_rate(text, &rate))
		assert(isfinite(rate) && rate > 0);
	(void)parse_size(text, &number);
	if (queue_id_parse(text, &id)) {
		queue_id_text(id, name);
		assert(span_equal(span_of(name), text));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span line, rest = fuzz_input(data, size);

	while (rest.len > 0) {
		line = take_line(&rest);
		try_command(line);
		try_mail(line);
		try_rcpt(line);
		try_numbers(line);
	}
	return 0;
}
