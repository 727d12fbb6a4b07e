/*
 * relayctl check --online, the doctor: walks the way that mail takes, from
 * the password to the sender's domain in DNS, and says what is the first thing
 * wrong and what mends it.
 */
#include "helper.h"
#include "online.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct online {
	const struct config *config;
	const char *name; /* of the relay; NULL: all */
	bool json;
};

/* ---- the configuration ---- */

static void
wrong(struct walk *w, enum fault_kind kind, int64_t begun, const char *text)
{
	struct fault fault = { .kind = kind };
	const char *step = kind == FAULT_CONNECT ? "tcp" : "configuration";

	(void)snprintf(fault.text, sizeof(fault.text), "%s", text);
	walk_step(w, step, STEP_WRONG, walk_now_ms() - begun, span_of(text));
	walk_advise(w, advice_find(&fault), NULL);
}

/* Each of these has what is good of it, or is wrong (-1), added to text. */

static int
check_command(const struct config_relay *r, struct buf *text)
{
	struct helper_result result = { .password = { NULL, 0, 0 } };
	int ret = helper_output(r->password_command, &result);

	buf_printf(text, "password_command %s",
	    ret == -1 ? buf_text(&result.error) : "gives a password");
	if (ret == -1 && result.says.len > 0)
		buf_printf(text, "; it says: %s", buf_text(&result.says));
	helper_result_wipe(&result);
	return ret;
}

static int
check_stored(const struct config_relay *r, struct buf *text)
{
	struct buf password = { NULL, 0, 0 }, error = { NULL, 0, 0 };
	int ret = config_password(r, &password, &error);

	if (ret == -1)
		buf_printf(text, "password: %s", buf_text(&error));
	else
		buf_add_text(text, "the password can be read");
	buf_wipe(&password);
	buf_free(&error);
	return ret;
}

static int
check_login(const struct config_relay *r, struct buf *text)
{
	int ret = 0;

	if (!config_has_login(r))
		buf_add_text(text, "no login");
	else if (!config_has_password(r))
		buf_add_text(text, "login by the client certificate");
	else if (r->password_command[0] != '\0')
		ret = check_command(r, text);
	else
		ret = check_stored(r, text);
	if (ret == 0 && config_has_login(r) && r->user[0] != '\0')
		buf_printf(text, ", user %s", r->user);
	return ret;
}

static int
check_certificates(const struct config_relay *r, struct buf *text)
{
	struct buf error = { NULL, 0, 0 };
	const char *key = "tls_ca_file";

	if (r->tls_ca_file[0] != '\0' && access(r->tls_ca_file, R_OK) == -1)
		buf_printf(&error, "%s: %s", r->tls_ca_file, strerror(errno));
	else if (r->tls_cert[0] != '\0')
		(void)config_certificate(r, &key, &error);
	if (error.len > 0) {
		buf_clear(text);
		buf_printf(text, "%s: %s", key, buf_text(&error));
		buf_free(&error);
		return -1;
	}
	return 0;
}

static bool
check_files(struct walk *w)
{
	int64_t begun = walk_now_ms();
	struct buf text = { NULL, 0, 0 };
	bool good = check_login(w->relay, &text) == 0 &&
	    check_certificates(w->relay, &text) == 0;

	if (good)
		walk_step(w, "configuration", STEP_GOOD, walk_now_ms() - begun,
		    buf_span(&text));
	else
		wrong(w, FAULT_CONFIG, begun, buf_text(&text));
	buf_clear(&text);
	if (good && w->relay->tls_cert[0] != '\0' &&
	    config_certificate_untimely(w->relay, &text)) {
		walk_step(w, "configuration", STEP_WARNING, 0, buf_span(&text));
		walk_advise(w, advice_named("client-certificate-expired"),
		    NULL);
	}
	buf_free(&text);
	return good;
}

/* ---- DNS ---- */

/* The daemon asks libc, as we did; the name servers say why it failed. */
static const char *
dns_cause(const struct config_relay *r)
{
	struct strings found = { NULL, 0 };
	enum dns_result result = dns_query(r->host,
	    config_family(r) == FAMILY_IPV6 ? DNS_AAAA : DNS_A, &found);

	strings_free(&found);
	switch (result) {
	case DNS_NO_NAME:
		return "dns-no-name";
	case DNS_SILENT:
		return "dns-silent";
	case DNS_REFUSED:
		return "dns-refused";
	case DNS_FOUND: /* of another family, perhaps */
	case DNS_NO_DATA:
		break;
	}
	return "dns-no-address";
}

static size_t
check_dns(struct walk *w, struct probe_address address[PROBE_ADDRESSES])
{
	struct buf text = { NULL, 0, 0 };
	int64_t begun = walk_now_ms();
	const char *error = NULL;
	size_t i, count = probe_resolve(w->relay, address, &error);

	for (i = 0; i < count; i++)
		buf_printf(&text, "%s%s", i == 0 ? "" : ", ", address[i].text);
	if (count == 0)
		buf_printf(&text, "%s: %s", w->relay->host,
		    error == NULL ? "no address" : error);
	walk_step(w, "dns", count > 0 ? STEP_GOOD : STEP_WRONG,
	    walk_now_ms() - begun, buf_span(&text));
	if (count == 0)
		walk_advise(w, advice_named(dns_cause(w->relay)), NULL);
	buf_free(&text);
	return count;
}

/* ---- TCP ---- */

/* Of a family: how many there are, and how many take connections. */
static size_t
count_family(const struct probe_address *address, size_t count, int family,
    size_t *open)
{
	size_t i, n = 0;

	*open = 0;
	for (i = 0; i < count; i++) {
		if (address[i].name.any.sa_family != family)
			continue;
		n++;
		if (address[i].error == 0)
			++*open;
	}
	return n;
}

/* Dead ones among living: the daemon takes another, later than need be. */
static const struct advice *
dead_address(const struct probe_address *address, size_t count)
{
	size_t v4_open, v6_open,
	    v6 = count_family(address, count, AF_INET6, &v6_open);

	(void)count_family(address, count, AF_INET, &v4_open);
	return advice_named(v6 > 0 && v6_open == 0 && v4_open > 0
		? "ipv6-broken"
		: "address-dead");
}

static const char *
tcp_error(const struct probe_address *a)
{
	return a->error == ETIMEDOUT ? "timed out" : strerror(a->error);
}

/* None of them takes connections: does another port? */
static void
check_ports(struct walk *w, struct probe_address *address, size_t count)
{
	static const unsigned ports[] = { 587, 465, 2587 };
	const struct config_relay *r = w->relay;
	struct buf text = { NULL, 0, 0 };
	const char *error = tcp_error(&address[0]);
	struct probe_address other[PROBE_ADDRESSES];
	size_t i, open4 = 0, open6 = 0;
	int64_t begun = walk_now_ms();

	memcpy(other, address, sizeof(other));
	for (i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		if (ports[i] == r->port)
			continue;
		probe_tcp(r, other, count, ports[i], walk_wait_ms(r) / 2);
		(void)count_family(other, count, AF_INET, &open4);
		(void)count_family(other, count, AF_INET6, &open6);
		if (open4 + open6 > 0)
			break;
	}
	buf_printf(&text, "port %u: %s", r->port, error);
	if (open4 + open6 == 0) {
		buf_add_text(&text, "; nor does 587, 465 or 2587 answer");
		wrong(w, FAULT_CONNECT, begun, buf_text(&text));
	} else {
		buf_printf(&text, "; port %u answers", ports[i]);
		walk_step(w, "tcp", STEP_WRONG, walk_now_ms() - begun,
		    buf_span(&text));
		buf_clear(&text);
		buf_printf(&text, "port = %u  tls = \"%s\"", ports[i],
		    ports[i] == 465 ? "implicit" : "starttls");
		walk_advise(w, advice_named("port-blocked"), buf_text(&text));
	}
	buf_free(&text);
}

/* The first address that takes connections, or NULL. */
static const struct probe_address *
check_tcp(struct walk *w, struct probe_address *address, size_t count)
{
	const struct probe_address *open = NULL;
	size_t i;

	probe_tcp(w->relay, address, count, w->relay->port,
	    walk_wait_ms(w->relay));
	for (i = 0; i < count; i++)
		if (address[i].error == 0 && open == NULL)
			open = &address[i];
	if (open == NULL) {
		check_ports(w, address, count);
		return NULL;
	}
	for (i = 0; i < count; i++) {
		const struct probe_address *a = &address[i];
		struct buf text = { NULL, 0, 0 };

		buf_printf(&text, "%s%s%s", a->text, a->error == 0 ? "" : ": ",
		    a->error == 0 ? "" : tcp_error(a));
		walk_step(w, "tcp", a->error == 0 ? STEP_GOOD : STEP_WARNING,
		    a->took_ms, buf_span(&text));
		if (a->error != 0)
			walk_advise(w, dead_address(address, count), NULL);
		buf_free(&text);
	}
	return open;
}

/* ---- the relayhost ---- */

static void
check_directly(struct walk *w, const struct strings *senders)
{
	struct probe_address address[PROBE_ADDRESSES];
	size_t count = check_dns(w, address);
	const struct probe_address *open =
	    count > 0 ? check_tcp(w, address, count) : NULL;

	if (open != NULL)
		session_walk(w, open, senders);
}

/* Where a proxy is, there may be no other way. */
static void
check_through_proxy(struct walk *w, const struct strings *senders)
{
	static const char *const steps[] = { "dns", "tcp" };
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		walk_step(w, steps[i], STEP_UNKNOWN, 0,
		    SPAN("left to the proxy"));
	session_walk(w, NULL, senders);
}

/* ---- senders ---- */

/* From, and the literal ones among the senders that the relay serves. */
static void
list_senders(const struct walk *w, struct strings *out)
{
	const struct config_relay *r = w->relay;
	size_t i;

	if (w->config->from[0] != '\0' &&
	    config_relay_serves(r, span_of(w->config->from)))
		strings_add(out, span_of(w->config->from));
	for (i = 0; i < r->senders.count; i++) {
		struct span sender = span_of(r->senders.item[i]);

		if (memchr(sender.data, '*', sender.len) == NULL &&
		    smtp_address_valid(sender, ADDRESS_UTF8) &&
		    !strings_have(out, sender))
			strings_add(out, sender);
	}
}

static void
check_domains(struct walk *w, const struct strings *senders)
{
	struct strings domains = { NULL, 0 };
	struct span local, domain;
	size_t i;

	for (i = 0; i < senders->count; i++) {
		smtp_address_split(span_of(senders->item[i]), &local, &domain);
		if (domain.len > 0 && domain.data[0] != '[' &&
		    !strings_have(&domains, domain))
			strings_add(&domains, domain);
	}
	for (i = 0; i < domains.count; i++)
		domain_walk(w, domains.item[i]);
	strings_free(&domains);
}

/* ---- the walk ---- */

static bool
walk_relay(const struct online *o, const struct config_relay *r)
{
	struct walk w = { .config = o->config, .relay = r, .json = o->json };
	struct strings senders = { NULL, 0 };
	bool good;

	walk_begin(&w);
	list_senders(&w, &senders);
	if (check_files(&w)) {
		if (r->proxy[0] == '\0')
			check_directly(&w, &senders);
		else
			check_through_proxy(&w, &senders);
	}
	if (senders.count == 0)
		walk_step(&w, "mail", STEP_UNKNOWN, 0,
		    SPAN("no sender is configured (from)"));
	check_domains(&w, &senders);
	walk_end(&w);
	good = walk_first(&w, STEP_WRONG) == NULL;
	strings_free(&senders);
	walk_free(&w);
	return good;
}

static int
walk_relays(void *arg)
{
	const struct online *o = arg;
	int status = STATUS_GOOD;
	size_t i, count = 0;

	if (o->json)
		(void)fputs("[", stdout);
	for (i = 0; i < o->config->relay_count; i++) {
		const struct config_relay *r = &o->config->relay[i];

		if (r->maildir[0] != '\0' ||
		    (o->name != NULL && strcmp(o->name, r->name) != 0))
			continue;
		if (count++ > 0)
			(void)fputs(o->json ? ",\n" : "\n", stdout);
		if (!walk_relay(o, r))
			status = STATUS_WRONG;
	}
	if (o->json)
		(void)fputs("]\n", stdout);
	return status;
}

static bool
exists(const struct online *o)
{
	size_t i;

	for (i = 0; i < o->config->relay_count; i++)
		if (strcmp(o->name, o->config->relay[i].name) == 0)
			return true;
	return false;
}

int
relayctl_online(const struct config *config, const char *relay, bool json)
{
	struct online o = { config, relay, json };

	if (relay != NULL && !exists(&o))
		return relayctl_refuse(relay, "no such relay");
	return relayctl_as_user(config, walk_relays, &o);
}
