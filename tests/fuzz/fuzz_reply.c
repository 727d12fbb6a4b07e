/*
 * A relayhost's replies: lines, status codes, what they are about, and what it
 * offers (smtp.c, provider.c).
 *
 * input: lines.
 */
#include "fuzz.h"

#include <string.h>

/* "5.7.1", of the class that the code has. */
static void
check_status(const char *status, int code)
{
	struct span rest = span_of(status), part;
	uint64_t number;
	unsigned parts = 0;
	bool more = true;
	int class = code / 100;

	assert(rest.len < 12);
	assert(status[0] - '0' == (class == 2 || class == 5 ? class : 4));
	for (; more; parts++) {
		more = span_cut(rest, '.', &part, &rest);
		assert(part.len <= 3 && parse_number(part, 999, &number));
	}
	assert(parts == 3);
}

/* All that is kept is what was said. */
static void
check_reply(const struct smtp_reply *r, struct span first)
{
	char status[12];

	assert(r->code >= 200 && r->code <= 599);
	assert(r->lines <= LIMIT_REPLY_LINES && r->octets <= LIMIT_REPLY);
	assert(r->len <= LIMIT_REPLY_KEPT && strlen(r->text) == r->len);
	assert(strpbrk(r->text, "\r\n") == NULL);
	assert(memcmp(r->text, first.data, 3) == 0);
	smtp_reply_status(r->text, r->code, status);
	check_status(status, r->code);
	assert(reply_cause(r->code, status, r->text) <= CAUSE_ACCOUNT);
}

static void
check_diagnosis(const struct smtp_reply *reply)
{
	struct envelope e = { .recipient = NULL };
	struct recipient *added = envelope_add(&e, "a@b.example", "a");

	recipient_diagnose(added, "5.0.0", reply->text, reply->text, 1);
	assert(is_printable(span_of(added->last.reply)));
	assert(
	    span_equal(span_of(added->last.peer), span_of(added->last.reply)));
	envelope_clear(&e);
}

static void
try_offer(struct span line)
{
	enum {
		KNOWN = SMTP_CAN_PIPELINING | SMTP_CAN_8BITMIME |
		    SMTP_CAN_SMTPUTF8 | SMTP_CAN_CHUNKING | SMTP_CAN_DSN |
		    SMTP_CAN_STARTTLS | SMTP_CAN_SIZE,
		LOGIN = SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN | SMTP_AUTH_OTHER,
	};
	uint64_t limit = 7;
	unsigned bits = smtp_capability(line, &limit);

	assert((bits & ~(unsigned)(KNOWN | LOGIN)) == 0);
	assert((bits & KNOWN) == 0 || (bits & LOGIN) == 0);
	assert((bits & KNOWN & (bits - 1)) == 0 || (bits & KNOWN) == 0);
	assert(limit == 7 || bits == SMTP_CAN_SIZE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span rest = fuzz_input(data, size), line, first = { NULL, 0 };
	struct smtp_reply reply = { .code = 0 };
	enum smtp_reply_state state;

	while (rest.len > 0) {
		line = take_line(&rest);
		if (line.len > 0 && line.data[line.len - 1] == '\r')
			line.len--;
		try_offer(line);
		if (reply.lines == 0)
			first = line;
		state = smtp_reply_line(&reply, line);
		if (state != SMTP_REPLY_BAD) {
			assert(line.len >= 3 &&
			    memcmp(line.data, first.data, 3) == 0);
			assert((state == SMTP_REPLY_MORE) ==
			    (line.len > 3 && line.data[3] == '-'));
		}
		if (state == SMTP_REPLY_DONE) {
			check_reply(&reply, first);
			check_diagnosis(&reply);
		}
		if (state != SMTP_REPLY_MORE)
			reply = (struct smtp_reply){ .code = 0 };
	}
	return 0;
}
