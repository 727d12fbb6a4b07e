/*
 * relayd.conf into a checked struct config.
 *
 * config_scan.c has found the entries, config_keys.c knows the keys; here
 * unknown, repeated and later ones are told and blanked out, libconfuse reads
 * the rest (quotes, escapes, variables), values go to their fields, and what
 * needs more than one key to judge is judged.
 */
#include "config_parts.h"

#include <confuse.h>

#include <stdlib.h>
#include <string.h>

enum {
	KEYS_MOST = 64, /* of a table */
	LISTEN_MOST = 64,
	RELAY_MOST = 1000,
	VALUES_MOST = 1000, /* of a list */
};

/* ---- entries that are no use ---- */

static void
vet_section(struct config_reading *r, const struct scan_entry *e)
{
	size_t i, most, same_kind = 0;

	if (e->title == NULL) {
		config_refuse(r, e, "a name is missing: %s \"...\" {", e->key);
		return;
	}
	for (i = 0; &r->scan.entry[i] < e; i++) {
		const struct scan_entry *other = &r->scan.entry[i];

		if (other->form != SCAN_SECTION ||
		    strcmp(other->key, e->key) != 0)
			continue;
		same_kind++;
		if (other->title != NULL &&
		    strcmp(other->title, e->title) == 0) {
			config_refuse(r, e, "duplicate: line %u has it too",
			    other->line);
			return;
		}
	}
	most = strcmp(e->key, "relay") == 0 ? RELAY_MOST : LISTEN_MOST;
	if (same_kind >= most)
		config_refuse(r, e, "at most %zu %s sections", most, e->key);
}

/* Is the value one variable, so that the file itself holds nothing? */
static bool
is_variable(struct span raw)
{
	struct span name, rest, head, fallback;
	bool closed = span_cut(span_trim(raw), '}', &name, &rest);

	/* A default would be in the file. */
	(void)span_cut(name, ':', &head, &fallback);
	return closed && span_equal(rest, SPAN("\"")) &&
	    span_starts_nocase(head, SPAN("\"${")) &&
	    (fallback.len == 0 || span_equal(fallback, SPAN("-")));
}

static void
vet_secret(struct config_reading *r, const struct scan_entry *e)
{
	struct span raw = config_raw(r, e);
	const struct stat *st = &r->scan.file[e->file].st;
	struct buf text = { 0 };

	if (*raw.data != '"' && *raw.data != '\'') {
		config_refuse(r, e, "must be in quotes (best single ones)");
		return;
	}
	if (is_variable(raw))
		return;
	if (*raw.data == '"' &&
	    (memchr(raw.data, '\\', raw.len) != NULL ||
		memmem(raw.data, raw.len, "${", 2) != NULL))
		config_warn(r, e,
		    "\"\\\" and \"${\" are expanded; single quotes keep them");
	if ((st->st_mode & S_IROTH) == 0)
		return;
	buf_printf(&text, "%s holds a password and ",
	    r->scan.file[e->file].path);
	config_secret_chmod(r->scan.file[e->file].path, st, &text);
	config_refuse(r, e, "%s", buf_text(&text));
	buf_free(&text);
}

/* seen: the line where the same place has such a key already, or 0. */
static void
vet_key(struct config_reading *r, const struct scan_entry *e,
    const struct config_key *key, unsigned *seen)
{
	if (key->kind == KEY_LATER)
		config_refuse(r, e, "not in this version");
	else if (key->kind == KEY_INCLUDE)
		config_refuse(r, e, "is written include(\"FILE\")");
	else if (key->kind == KEY_SECTION && e->form != SCAN_SECTION)
		config_refuse(r, e, "is a section: %s \"...\" {", e->key);
	else if (key->kind != KEY_SECTION && e->form == SCAN_SECTION)
		config_refuse(r, e, "is no section: %s = ...", e->key);
	else if (e->form == SCAN_LIST && key->kind != KEY_LIST &&
	    key->kind != KEY_DURATIONS)
		config_refuse(r, e, "takes one value, not a list");
	else if (e->values > VALUES_MOST)
		config_refuse(r, e, "has over %d values", VALUES_MOST);
	else if (key->kind == KEY_SECTION)
		vet_section(r, e);
	else if (*seen != 0)
		config_refuse(r, e, "duplicate: line %u sets it too", *seen);
	else if (key->kind == KEY_SECRET)
		vet_secret(r, e);
	*seen = e->line;
}

static void
vet_unknown(struct config_reading *r, const struct scan_entry *e,
    const struct config_key *keys)
{
	static const char *const places[] = { NULL, "listen", "relay" };
	size_t i;

	for (i = 0; i < sizeof(places) / sizeof(*places); i++) {
		if (config_key_find(config_section_keys(places[i]), e->key) ==
		    NULL)
			continue;
		if (places[i] == NULL)
			config_refuse(r, e, "belongs outside of sections");
		else
			config_refuse(r, e, "belongs in a %s section",
			    places[i]);
		return;
	}
	config_refuse(r, e, "unknown key; the nearest known one is \"%s\"",
	    config_key_nearest(keys, e->key)->name);
}

/* Tell what can't be used, and blank it out in the text: with newlines, as
 * libconfuse's lexer takes quadratic time over a run of blanks. */
static void
vet(struct config_reading *r)
{
	unsigned seen_global[KEYS_MOST] = { 0 }, seen[KEYS_MOST] = { 0 };
	size_t i;

	for (i = 0; i < r->scan.entry_count && r->error_count < CONFIG_ERRORS;
	     i++) {
		struct scan_entry *e = &r->scan.entry[i];
		bool global = e->section == SCAN_GLOBAL;
		const struct scan_entry *in =
		    global ? NULL : &r->scan.entry[e->section];
		const struct config_key *keys =
		    config_section_keys(global ? NULL : in->key);
		const struct config_key *key = config_key_find(keys, e->key);
		unsigned before = r->error_count;

		e->refused = in != NULL && in->refused;
		if (e->refused)
			continue;
		if (key == NULL)
			vet_unknown(r, e, keys);
		else
			vet_key(r, e, key,
			    &(global ? seen_global : seen)[key - keys]);
		if (global && e->form == SCAN_SECTION)
			memset(seen, 0, sizeof(seen));
		e->refused = r->error_count > before;
		if (e->refused)
			memset(r->scan.text.data + e->start, '\n',
			    e->end - e->start);
	}
}

/* ---- libconfuse ---- */

static void
describe(cfg_opt_t *out, const struct config_key *keys)
{
	for (; keys->name != NULL; keys++) {
		if (keys->kind == KEY_LIST || keys->kind == KEY_DURATIONS)
			*out++ = (cfg_opt_t)CFG_STR_LIST(keys->name, NULL,
			    CFGF_NODEFAULT);
		else if (keys->kind > KEY_INCLUDE)
			*out++ = (cfg_opt_t)CFG_STR(keys->name, NULL,
			    CFGF_NODEFAULT);
	}
	*out = (cfg_opt_t)CFG_END();
}

/* libconfuse would print to stderr, and show what files hold. */
static void
no_print(cfg_t *cfg, const char *format, va_list ap)
{
	(void)cfg;
	(void)format;
	(void)ap;
}

/* NULL: an error has been told. */
static cfg_t *
parse(struct config_reading *r)
{
	cfg_opt_t listen[KEYS_MOST], relay[KEYS_MOST], global[KEYS_MOST];
	cfg_opt_t sections[] = {
		CFG_SEC("listen", listen,
		    CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		CFG_SEC("relay", relay,
		    CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
	};
	const struct scan_entry at = { .line = 1,
		.section = SCAN_GLOBAL,
		.key = "file" };
	cfg_t *root;

	describe(listen, config_section_keys("listen"));
	describe(relay, config_section_keys("relay"));
	memcpy(global, sections, sizeof(sections));
	describe(global + 2, config_section_keys(NULL));
	root = cfg_init(global, CFGF_NONE);
	(void)cfg_set_error_function(root, no_print);
	if (cfg_parse_buf(root, buf_text(&r->scan.text)) == CFG_SUCCESS)
		return root;
	(void)cfg_free(root);
	config_refuse(r, &at,
	    "libconfuse refuses it; have two sections the same name?");
	return NULL;
}

/* ---- values ---- */

static void
set_value(struct config_reading *r, struct scan_entry *e, cfg_t *cfg,
    const struct config_key *key, void *base)
{
	cfg_opt_t *opt = cfg_getopt(cfg, e->key);
	struct strings values = { 0 };
	struct buf text = { 0 };
	unsigned i;

	for (i = 0; i < cfg_opt_size(opt); i++) {
		char *value = cfg_opt_getnstr(opt, i);

		strings_add(&values, span_of(value));
		if (key->kind == KEY_SECRET)
			explicit_bzero(value, strlen(value));
	}
	if (config_key_set(key, base, &values, &text) == -1) {
		config_explain(r, e, &text);
		config_refuse(r, e, "%s", buf_text(&text));
		e->refused = true;
	}
	if (key->kind == KEY_SECRET && values.count > 0)
		explicit_bzero(values.item[0], strlen(values.item[0]));
	strings_free(&values);
	buf_free(&text);
}

/* A section begins: its name goes to the next struct, which is returned. */
static void *
begin_section(struct config_reading *r, const struct scan_entry *e, cfg_t *cfg)
{
	struct config *c = r->config;
	bool is_relay = strcmp(e->key, "relay") == 0;
	struct span title = span_of(cfg_title(cfg));
	const char *why = config_check_controls(title);
	void *base;

	if (is_relay) {
		struct config_relay *relay = &c->relay[c->relay_count++];

		relay->name = span_text(title);
		relay->line = e->line;
		base = relay;
	} else {
		struct config_listen *listen = &c->listen[c->listen_count++];

		listen->address = span_text(title);
		listen->line = e->line;
		base = listen;
	}
	if (why == NULL)
		why = is_relay ? config_check_name(title)
			       : config_check_listen(title);
	if (why != NULL)
		config_refuse(r, e, "the name %s", why);
	config_set_defaults(config_section_keys(e->key), base);
	/* What a preset says comes before what the section says. */
	if (is_relay)
		config_set_preset(base, cfg_getstr(cfg, "preset"));
	return base;
}

static void
take_values(struct config_reading *r, cfg_t *root)
{
	struct config *c = r->config;
	cfg_t *section = NULL;
	void *base = NULL;
	size_t i, relays = 0;

	c->listen = mem_alloc((LISTEN_MOST + 1) * sizeof(*c->listen));
	for (i = 0; i < r->scan.entry_count; i++)
		relays += r->scan.entry[i].form == SCAN_SECTION;
	c->relay = mem_alloc((relays + 1) * sizeof(*c->relay));
	for (i = 0; i < r->scan.entry_count; i++) {
		struct scan_entry *e = &r->scan.entry[i];
		bool global = e->section == SCAN_GLOBAL;
		const char *in = global ? NULL : r->scan.entry[e->section].key;

		if (e->refused)
			continue;
		if (e->form == SCAN_SECTION) {
			size_t nth = strcmp(e->key, "relay") == 0
			    ? c->relay_count
			    : c->listen_count;

			section = cfg_getnsec(root, e->key, (unsigned)nth);
			base = begin_section(r, e, section);
			continue;
		}
		set_value(r, e, global ? root : section,
		    config_key_find(config_section_keys(in), e->key),
		    global ? (void *)c : base);
	}
}

/* ---- public ---- */

struct config *
config_hold(struct config *c)
{
	c->references++;
	return c;
}

void
config_release(struct config *c)
{
	size_t i;

	if (c == NULL || --c->references > 0)
		return;
	for (i = 0; i < c->listen_count; i++) {
		config_free_values(config_listen_keys, &c->listen[i]);
		free(c->listen[i].address);
	}
	for (i = 0; i < c->relay_count; i++) {
		config_free_values(config_relay_keys, &c->relay[i]);
		free(c->relay[i].name);
	}
	config_free_values(config_global_keys, c);
	address_map_free(c->masquerade_map);
	free(c->listen);
	free(c->relay);
	free(c->path);
	free(c);
}

bool
config_relay_serves(const struct config_relay *r, struct span sender)
{
	size_t i;

	for (i = 0; i < r->senders.count; i++) {
		if (address_matches(span_of(r->senders.item[i]), sender))
			return true;
	}
	return r->senders.count == 0;
}

enum family
config_family(const struct config_relay *r)
{
	if (r->source[0] == '\0')
		return r->family;
	return strchr(r->source, ':') != NULL ? FAMILY_IPV6 : FAMILY_IPV4;
}

int64_t
config_lifetime_ms(const struct config *c, const char *sender)
{
	bool bounce = *sender == '\0' && c->bounce_lifetime < c->queue_lifetime;

	return (bounce ? c->bounce_lifetime : c->queue_lifetime) * 1000;
}

void
config_rules(const struct config *c, struct rewrite_rules *rules)
{
	rules->hostname = c->hostname;
	rules->origin = c->origin;
	rules->local_names = &c->local_names;
	rules->local_to = c->local_to;
	rules->from = c->from;
	rules->from_mode = c->from_mode;
	rules->masquerade = c->masquerade_map;
	rules->redirect = c->redirect;
	rules->allow_recipients = &c->allow_recipients;
	rules->header_add = &c->header_add;
	rules->recipient_limit = c->recipient_limit;
}

struct config *
config_load(const char *path, struct buf *errors, struct buf *warnings)
{
	struct config_reading r = { .errors = errors, .warnings = warnings };
	struct config *c = mem_alloc(sizeof(*c));
	cfg_t *root;

	c->references = 1;
	c->path = mem_text(path);
	r.config = c;
	config_set_defaults(config_section_keys(NULL), c);
	if (config_scan(path, &r.scan, errors) == -1) {
		r.error_count++;
		goto out;
	}
	vet(&r);
	root = r.error_count < CONFIG_ERRORS ? parse(&r) : NULL;
	if (root == NULL)
		goto out;
	take_values(&r, root);
	(void)cfg_free(root);
	config_check(&r);
out:
	config_scan_free(&r.scan);
	if (r.error_count > 0) {
		config_release(c);
		return NULL;
	}
	return c;
}
