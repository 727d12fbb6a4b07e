/*
 * A name server's answer (dns.c).
 *
 * input: an octet that chooses what was asked for, and the answer.
 *
 * wrap: __res_ninit res_nquery __res_nclose clock_read
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <string.h>

static struct span answer;

int __wrap___res_ninit(res_state state);
void __wrap___res_nclose(res_state state);
int __wrap_res_nquery(res_state state, const char *name, int class, int type,
    unsigned char *out, int size);
void __wrap_clock_read(struct instant *now);

int
__wrap___res_ninit(res_state state)
{
	(void)state;
	return 0;
}

void
__wrap___res_nclose(res_state state)
{
	(void)state;
}

int
__wrap_res_nquery(res_state state, const char *name, int class, int type,
    unsigned char *out, int size)
{
	(void)name;
	(void)class;
	(void)type;
	if (answer.len == 0) {
		state->res_h_errno = TRY_AGAIN;
		return -1;
	}
	assert(answer.len <= (size_t)size);
	memcpy(out, answer.data, answer.len);
	return (int)answer.len;
}

void
__wrap_clock_read(struct instant *now)
{
	*now = (struct instant){ 1000, 1700000000000 };
}

/* ---- what must hold ---- */

static void
check_text(enum dns_type type, const char *text)
{
	struct span number, name;
	struct in6_addr address;
	uint64_t preference;

	switch (type) {
	case DNS_A:
		assert(inet_pton(AF_INET, text, &address) == 1);
		break;
	case DNS_AAAA:
		assert(inet_pton(AF_INET6, text, &address) == 1);
		break;
	case DNS_MX:
		assert(span_cut(span_of(text), ' ', &number, &name));
		assert(parse_number(number, 65535, &preference));
		assert(is_printable(name) && name.len > 0);
		break;
	case DNS_TXT: /* any octets */
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strings found = { NULL, 0 };
	enum dns_result result;
	enum dns_type type;
	size_t i;

	answer = fuzz_input(data, size);
	type = (enum dns_type)(take_octet(&answer) % 4);
	answer = span_first(answer, 65535);
	result = dns_query("example.com", type, &found);
	assert((result == DNS_FOUND) == (found.count > 0));
	for (i = 0; i < found.count; i++)
		check_text(type, found.item[i]);
	strings_free(&found);
	return 0;
}
