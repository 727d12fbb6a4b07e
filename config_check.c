/*
 * Checks that need more than one key, and defaults that depend on the host or
 * on other keys.
 */
#include "config_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- sections ---- */

static void
check_listen(struct config_reading *r, const struct config_listen *l,
    size_t section)
{
	bool is_unix = strncmp(l->address, "unix:", 5) == 0;
	size_t i;

	if (is_unix && config_entry(r, section, "allow") != NULL)
		config_refuse_key(r, section, "allow",
		    "a unix socket has no network; \"mode\" says who may use it");
	if (!is_unix && config_entry(r, section, "mode") != NULL)
		config_refuse_key(r, section, "mode",
		    "is for unix sockets; \"allow\" says who may connect");
	for (i = 0; &r->config->listen[i] < l; i++)
		if (strcmp(r->config->listen[i].address, l->address) == 0)
			config_refuse(r, &r->scan.entry[section],
			    "is there twice");
}

/* Nothing ever goes to a relay behind a Maildir that takes all. */
static void
check_order(struct config_reading *r, size_t relays, size_t section)
{
	const struct config *c = r->config;
	struct buf name = { 0 };
	size_t i;

	for (i = 0; i < relays; i++) {
		if (*c->relay[i].maildir == '\0' ||
		    c->relay[i].senders.count > 0)
			continue;
		buf_clear(&name); /* it may be one that was refused */
		buf_add_escaped(&name, span_of(c->relay[i].name));
		config_refuse(r, &r->scan.entry[section],
		    "is behind the maildir \"%s\", which takes all mail",
		    buf_text(&name));
	}
	buf_free(&name);
}

static bool
some_relay_serves_all(const struct config *c)
{
	size_t i;

	for (i = 0; i < c->relay_count; i++) {
		if (c->relay[i].senders.count == 0)
			return true;
	}
	return false;
}

static void
check_sections(struct config_reading *r)
{
	struct config *c = r->config;
	struct scan_entry none = { .line = 1,
		.section = SCAN_GLOBAL,
		.key = "relay" };
	size_t i, listens = 0, relays = 0;

	for (i = 0; i < r->scan.entry_count; i++) {
		const struct scan_entry *e = &r->scan.entry[i];

		if (e->refused || e->form != SCAN_SECTION)
			continue;
		if (strcmp(e->key, "relay") == 0) {
			check_order(r, relays, i);
			config_check_relay(r, &c->relay[relays++], i);
		} else {
			check_listen(r, &c->listen[listens++], i);
		}
	}
	if (config_entry(r, SCAN_GLOBAL, "relay") == NULL)
		config_refuse(r, &none,
		    "no relay: where is mail to go? "
		    "relay \"NAME\" { host = \"...\" }");
	else if (!some_relay_serves_all(c))
		config_warn(r, &none,
		    "no relay serves every sender: mail from others will "
		    "wait");
}

/* ---- defaults that depend on others ---- */

static void
add_listener(struct config *c, const char *address)
{
	struct config_listen *l = &c->listen[c->listen_count++];

	config_set_defaults(config_section_keys("listen"), l);
	l->address = mem_text(address);
	l->implicit = true;
}

static void
default_name(struct config_reading *r, char **name, const char *key,
    char *value)
{
	struct scan_entry at = config_place(r, SCAN_GLOBAL, key);

	if (config_check_domain(span_of(value)) != NULL) {
		config_warn(r, &at,
		    "this host's own name can't be used, so it is "
		    "\"localhost\"; set it");
		free(value);
		value = mem_text("localhost");
	}
	free(*name);
	*name = value;
}

static void
finish_names(struct config_reading *r)
{
	struct config *c = r->config;
	struct span host, rest;

	if (*c->hostname == '\0')
		default_name(r, &c->hostname, "hostname",
		    config_default_hostname());
	if (*c->origin == '\0')
		default_name(r, &c->origin, "origin",
		    config_default_origin(c->hostname));
	if (config_entry(r, SCAN_GLOBAL, "local_names") == NULL) {
		strings_add(&c->local_names, SPAN("localhost"));
		if (!strings_have(&c->local_names, span_of(c->hostname)))
			strings_add(&c->local_names, span_of(c->hostname));
		(void)span_cut(span_of(c->hostname), '.', &host, &rest);
		if (!strings_have(&c->local_names, host))
			strings_add(&c->local_names, host);
	}
}

static void
finish(struct config_reading *r)
{
	struct config *c = r->config;
	size_t scheme = SPAN("unix:").len;

	c->aliases_given = config_entry(r, SCAN_GLOBAL, "aliases") != NULL;
	finish_names(r);
	if (strncmp(c->control, "unix:", scheme) == 0)
		memmove(c->control, c->control + scheme,
		    strlen(c->control + scheme) + 1);
	if (config_entry(r, SCAN_GLOBAL, "listen") == NULL) {
		add_listener(c, "unix:" RUNSTATEDIR "/relayd/submit.sock");
		add_listener(c, "127.0.0.1:25");
		add_listener(c, "[::1]:25");
	}
	if (*c->from == '\0' && c->relay_count > 0 &&
	    smtp_address_valid(span_of(c->relay[0].user), 0)) {
		free(c->from);
		c->from = mem_text(c->relay[0].user);
	}
}

static void
make_map(struct config_reading *r)
{
	struct config *c = r->config;
	const char *twice;

	c->masquerade_map = address_map_new(&c->masquerade);
	twice = address_map_twice(c->masquerade_map);
	if (twice != NULL)
		config_refuse_key(r, SCAN_GLOBAL, "masquerade",
		    "%s is there twice", twice);
}

static void
check_spool(struct config_reading *r)
{
	struct stat st;

	if (stat(r->config->spool, &st) == 0 && !S_ISDIR(st.st_mode))
		config_refuse_key(r, SCAN_GLOBAL, "spool", "%s is no directory",
		    r->config->spool);
}

void
config_check(struct config_reading *r)
{
	check_sections(r);
	check_spool(r);
	make_map(r);
	finish(r);
}
