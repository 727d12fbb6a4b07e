/*
 * The keys of relayd.conf: one row each, and how a value is read.
 *
 * A default stands in its row as a user would write it and is read the same
 * way.  Defaults that depend on the host or on other keys, and checks across
 * keys, are config.c's.
 */
#include "config_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

#define GLOBAL(member) \
	offsetof(struct config, member), sizeof(((struct config *)NULL)->member)
#define LISTEN(member)                          \
	offsetof(struct config_listen, member), \
	    sizeof(((struct config_listen *)NULL)->member)
#define RELAY(member)                          \
	offsetof(struct config_relay, member), \
	    sizeof(((struct config_relay *)NULL)->member)

#define LATER(name)                                                 \
	{                                                           \
		name, KEY_LATER, 0, 0, NULL, 0, 0, NULL, NULL, NULL \
	}
#define BARE(name, kind)                                       \
	{                                                      \
		name, kind, 0, 0, NULL, 0, 0, NULL, NULL, NULL \
	}
#define TEXT(name, field, fallback, check)                               \
	{                                                                \
		name, KEY_TEXT, field, fallback, 0, 0, NULL, NULL, check \
	}
#define LIST(name, field, check)                                     \
	{                                                            \
		name, KEY_LIST, field, NULL, 0, 0, NULL, NULL, check \
	}
/* The enum's first value, the words in its order, words of later versions. */
#define WORD(name, field, fallback, first, words, later)                      \
	{                                                                     \
		name, KEY_WORD, field, fallback, first, 0, words, later, NULL \
	}
#define COUNT(name, kind, field, fallback, lowest, highest)                    \
	{                                                                      \
		name, kind, field, fallback, lowest, highest, NULL, NULL, NULL \
	}
#define NONE 0, 0 /* the value is not stored */
#define END  BARE(NULL, KEY_LATER)

#define KIB  ((uint64_t)1 << 10)
#define MIB  ((uint64_t)1 << 20)
#define GIB  ((uint64_t)1 << 30)
#define TIB  ((uint64_t)1 << 40)
#define HOUR ((uint64_t)3600)
#define DAY  (24 * HOUR)

/* Empty defaults of hostname, origin, local_names and from are config.c's. */
const struct config_key config_global_keys[] = {
	TEXT("hostname", GLOBAL(hostname), "", config_check_domain),
	TEXT("origin", GLOBAL(origin), "", config_check_domain),
	LIST("local_names", GLOBAL(local_names), config_check_domain),
	TEXT("aliases", GLOBAL(aliases), "/etc/aliases",
	    config_check_path_or_none),
	TEXT("local_to", GLOBAL(local_to), "", config_check_address),
	TEXT("spool", GLOBAL(spool), LOCALSTATEDIR "/spool/relayd",
	    config_check_directory),
	TEXT("user", GLOBAL(user), "relayd", config_check_name),
	TEXT("control", GLOBAL(control),
	    "unix:" RUNSTATEDIR "/relayd/control.sock", config_check_socket),
	BARE("listen", KEY_SECTION),
	BARE("relay", KEY_SECTION),
	TEXT("from", GLOBAL(from), "", config_check_address),
	WORD("from_mode", GLOBAL(from_mode), "local", FROM_MISSING,
	    "missing local always", ""),
	LIST("masquerade", GLOBAL(masquerade), address_map_check),
	TEXT("redirect", GLOBAL(redirect), "", config_check_address),
	LIST("allow_recipients", GLOBAL(allow_recipients),
	    address_pattern_check),
	LIST("header_add", GLOBAL(header_add), config_check_field),
	LATER("dkim"),
	COUNT("message_size_limit", KEY_SIZE, GLOBAL(message_size_limit), "50M",
	    KIB, 4 * GIB),
	COUNT("recipient_limit", KEY_NUMBER, GLOBAL(recipient_limit), "1000", 1,
	    LIMIT_RECIPIENTS),
	COUNT("min_free_space", KEY_SIZE, GLOBAL(min_free_space), "64M", 0,
	    TIB),
	COUNT("connection_limit", KEY_NUMBER, GLOBAL(connection_limit), "256",
	    1, 65536),
	COUNT("client_timeout", KEY_DURATION, GLOBAL(client_timeout), "5m", 1,
	    DAY),
	COUNT("retry", KEY_DURATIONS, GLOBAL(retry), "1m 5m 15m 1h", 1,
	    7 * DAY),
	COUNT("queue_lifetime", KEY_DURATION, GLOBAL(queue_lifetime), "5d", 1,
	    365 * DAY),
	COUNT("bounce_lifetime", KEY_DURATION, GLOBAL(bounce_lifetime), "1d", 1,
	    365 * DAY),
	COUNT("delay_warning", KEY_DURATION, GLOBAL(delay_warning), "0", 0,
	    365 * DAY),
	COUNT("failed_lifetime", KEY_DURATION, GLOBAL(failed_lifetime), "0", 0,
	    365 * DAY),
	COUNT("history_size", KEY_SIZE, GLOBAL(history_size), "10M", 0, TIB),
	TEXT("bounce_to", GLOBAL(bounce_to), "", config_check_recipient),
	TEXT("postmaster", GLOBAL(postmaster), "root", config_check_recipient),
	WORD("log", GLOBAL(log), "auto", LOG_TO_AUTO, "auto syslog stderr", ""),
	WORD("log_format", GLOBAL(log_json), "text", 0, "text json", ""),
	WORD("log_level", GLOBAL(log_level), "info", LOG_LEVEL_ERROR,
	    "error warning info debug", ""),
	TEXT("metrics", GLOBAL(metrics), "", config_check_metrics),
	BARE("include", KEY_INCLUDE),
	END,
};

const struct config_key config_listen_keys[] = {
	COUNT("mode", KEY_MODE, LISTEN(mode), "0666", 0, 0777),
	LIST("allow", LISTEN(allow), config_check_block),
	WORD("tls", NONE, "none", 0, "none", "starttls required implicit"),
	LATER("tls_cert"),
	LATER("tls_key"),
	LATER("auth"),
	LATER("users"),
	WORD("bare_newline", LISTEN(reject_bare_newline), "normalize", 0,
	    "normalize reject", ""),
	END,
};

const struct config_key config_relay_keys[] = {
	TEXT("preset", RELAY(preset), "", preset_check),
	TEXT("region", RELAY(region), "", config_check_name),
	TEXT("host", RELAY(host), "", NULL),
	/* 0: by tls */
	COUNT("port", KEY_NUMBER, RELAY(port), NULL, 1, 65535),
	WORD("tls", RELAY(tls), "starttls", TLS_STARTTLS,
	    "starttls implicit opportunistic none", ""),
	TEXT("tls_ca_file", RELAY(tls_ca_file), "", config_check_path),
	WORD("tls_verify", RELAY(tls_verify), "true", 0, "false true", ""),
	TEXT("tls_pin", RELAY(tls_pin), "", config_check_pin),
	WORD("tls_min", RELAY(tls_min), "1.2", 12, "1.2 1.3", ""),
	TEXT("tls_cert", RELAY(tls_cert), "", config_check_path),
	TEXT("tls_key", RELAY(tls_key), "", config_check_path),
	WORD("auth", RELAY(auth), "auto", AUTH_AUTO,
	    "auto plain login cram-md5 scram-sha-256 external none",
	    "xoauth2 oauthbearer"),
	TEXT("user", RELAY(user), "", NULL),
	{ "password", KEY_SECRET, RELAY(password), "", 0, 0, NULL, NULL, NULL },
	TEXT("password_file", RELAY(password_file), "", config_check_path),
	TEXT("password_credential", RELAY(password_credential), "",
	    config_check_name),
	TEXT("password_command", RELAY(password_command), "",
	    config_check_command),
	LIST("senders", RELAY(senders), address_pattern_check),
	COUNT("connections", KEY_NUMBER, RELAY(connections), "2", 1, 1000),
	COUNT("pipeline", KEY_NUMBER, RELAY(pipeline), "16", 1, 1000),
	COUNT("messages_per_connection", KEY_NUMBER,
	    RELAY(messages_per_connection), "1000", 1, 1000000),
	COUNT("recipients_per_message", KEY_NUMBER,
	    RELAY(recipients_per_message), "100", 1, 100000),
	COUNT("idle", KEY_DURATION, RELAY(idle), "30s", 0, DAY),
	{ "rate", KEY_RATE, RELAY(rate), "", 0, 0, NULL, NULL, NULL },
	COUNT("daily", KEY_NUMBER, RELAY(daily), "0", 0, 1000000000),
	TEXT("null_sender", RELAY(null_sender), "", config_check_address),
	COUNT("timeout", KEY_DURATION, RELAY(timeout), "5m", 1, HOUR),
	COUNT("connect_timeout", KEY_DURATION, RELAY(connect_timeout), "60s", 1,
	    HOUR),
	WORD("family", RELAY(family), "any", FAMILY_ANY, "any ipv4 ipv6", ""),
	TEXT("source", RELAY(source), "", config_check_ip),
	TEXT("proxy", RELAY(proxy), "", config_check_proxy),
	TEXT("maildir", RELAY(maildir), "", config_check_directory),
	LATER("oauth2"),
	END,
};

const struct config_key *
config_section_keys(const char *section)
{
	if (section == NULL)
		return config_global_keys;
	return strcmp(section, "relay") == 0 ? config_relay_keys
					     : config_listen_keys;
}

const struct config_key *
config_key_find(const struct config_key *keys, const char *name)
{
	for (; keys->name != NULL; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

/* How many letters to change, add or drop to get from a to b. */
static unsigned
distance(const char *a, const char *b)
{
	enum { LONGEST = 64 }; /* config_scan.c takes no longer key */
	unsigned row[LONGEST + 1];
	size_t i, j, len = strnlen(b, LONGEST);

	for (j = 0; j <= len; j++)
		row[j] = (unsigned)j;
	for (i = 0; a[i] != '\0'; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i + 1;
		for (j = 1; j <= len; j++) {
			unsigned best = diagonal + (a[i] != b[j - 1]);

			diagonal = row[j];
			best = best < row[j] + 1 ? best : row[j] + 1;
			row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
		}
	}
	return row[len];
}

const struct config_key *
config_key_nearest(const struct config_key *keys, const char *name)
{
	const struct config_key *best = keys;

	for (; keys->name != NULL; keys++)
		if (distance(keys->name, name) < distance(best->name, name))
			best = keys;
	return best;
}

/* ---- values ---- */

static void
show_value(struct buf *error, struct span value)
{
	enum { SHOWN = 60 };

	buf_add_char(error, '"');
	buf_add_escaped(error, span_first(value, SHOWN));
	buf_add_text(error, value.len > SHOWN ? "...\" " : "\" ");
}

void
config_add_amount(struct buf *out, enum key_kind kind, uint64_t value)
{
	static const struct {
		char letter;
		uint64_t factor;
	} units[2][4] = {
		{ { 'd', DAY }, { 'h', HOUR }, { 'm', 60 }, { 's', 1 } },
		{ { 'T', TIB }, { 'G', GIB }, { 'M', MIB }, { 'K', KIB } },
	};
	size_t i, row = kind == KEY_SIZE;

	if (kind == KEY_NUMBER || (kind == KEY_SIZE && value % KIB != 0) ||
	    value == 0) {
		buf_printf(out, "%llu", (unsigned long long)value);
		return;
	}
	for (i = 0; i < 3 && value % units[row][i].factor != 0; i++)
		;
	buf_printf(out, "%llu%c",
	    (unsigned long long)(value / units[row][i].factor),
	    units[row][i].letter);
}

void
config_add_quoted(struct buf *out, struct span value)
{
	size_t i;

	buf_add_char(out, '"');
	for (i = 0; i < value.len; i++) {
		if (strchr("\\\"$", value.data[i]) != NULL)
			buf_add_char(out, '\\');
		buf_add_char(out, value.data[i]);
	}
	buf_add_char(out, '"');
}

void
config_add_list(struct buf *out, const struct strings *list)
{
	size_t i;

	buf_add_char(out, '{');
	for (i = 0; i < list->count; i++) {
		buf_add_text(out, i == 0 ? "" : ", ");
		config_add_quoted(out, span_of(list->item[i]));
	}
	buf_add_char(out, '}');
}

/* A number, size or duration within the range of its key. */
static bool
parse_amount(const struct config_key *key, struct span value, uint64_t *amount)
{
	int64_t seconds = 0;
	bool valid;

	if (value.len > 1 && *value.data == '0')
		return false; /* octal to some */
	if (key->kind == KEY_NUMBER) {
		valid = parse_number(value, key->highest, amount);
	} else if (key->kind == KEY_SIZE) {
		valid = parse_size(value, amount);
	} else {
		valid = parse_duration(value, &seconds);
		*amount = (uint64_t)seconds;
	}
	return valid && *amount >= key->lowest && *amount <= key->highest;
}

static int
refuse_amount(const struct config_key *key, struct span value,
    struct buf *error)
{
	show_value(error, value);
	buf_add_text(error,
	    key->kind == KEY_NUMBER     ? "must be a number from "
		: key->kind == KEY_SIZE ? "must be a size (\"50M\") from "
					: "must be a duration (\"30s\") from ");
	config_add_amount(error, key->kind, key->lowest);
	buf_add_text(error, " to ");
	config_add_amount(error, key->kind, key->highest);
	return -1;
}

static void
store(const struct config_key *key, void *field, uint64_t value)
{
	unsigned narrow = (unsigned)value;
	bool yes = value != 0;

	if (key->size == sizeof(bool))
		memcpy(field, &yes, sizeof(yes));
	else if (key->size == sizeof(unsigned))
		memcpy(field, &narrow, sizeof(narrow));
	else if (key->size == sizeof(uint64_t))
		memcpy(field, &value, sizeof(value));
}

static int
set_amount(const struct config_key *key, void *field, struct span value,
    struct buf *error)
{
	uint64_t amount;

	if (!parse_amount(key, value, &amount))
		return refuse_amount(key, value, error);
	store(key, field, amount);
	return 0;
}

static int
set_mode(const struct config_key *key, void *field, struct span value,
    struct buf *error)
{
	uint64_t mode = 0;
	size_t i;

	for (i = 0; i < value.len && i < 4; i++) {
		if (value.data[i] < '0' || value.data[i] > '7')
			break;
		mode = mode * 8 + (uint64_t)(value.data[i] - '0');
	}
	if (i < 3 || i != value.len || mode > key->highest) {
		show_value(error, value);
		buf_add_text(error, "must be a mode from \"0000\" to \"0777\"");
		return -1;
	}
	store(key, field, mode);
	return 0;
}

/* The place of a word in a list of words, or -1. */
static int
word_place(const char *words, struct span value)
{
	struct span rest = span_of(words), word;
	int place = 0;

	while (rest.len > 0) {
		(void)span_cut(rest, ' ', &word, &rest);
		if (span_equal(word, value))
			return place;
		place++;
	}
	return -1;
}

static int
set_word(const struct config_key *key, void *field, struct span value,
    struct buf *error)
{
	int place = word_place(key->words, value);
	struct span rest = span_of(key->words), word;

	if (place >= 0) {
		store(key, field, key->lowest + (unsigned)place);
		return 0;
	}
	show_value(error, value);
	if (word_place(key->later_words, value) >= 0)
		buf_add_text(error, "is not in this version; allowed: ");
	else
		buf_add_text(error, "is not allowed; allowed: ");
	while (rest.len > 0) {
		bool more = span_cut(rest, ' ', &word, &rest);

		buf_add_char(error, '"');
		buf_add(error, word);
		buf_add_text(error, more ? "\", " : "\"");
	}
	return -1;
}

static int
set_rate(void *field, struct span value, struct buf *error)
{
	double rate = 0;

	if (value.len > 0 && !parse_rate(value, &rate)) {
		show_value(error, value);
		buf_add_text(error,
		    "must be a rate (\"14/s\", \"30/m\", \"100/h\", "
		    "\"2000/d\"), or \"\" for none");
		return -1;
	}
	memcpy(field, &rate, sizeof(rate));
	return 0;
}

static int
set_durations(const struct config_key *key, struct config *c,
    const struct strings *values, struct buf *error)
{
	enum { MOST = 32 };
	size_t i;

	if (values->count == 0 || values->count > MOST) {
		buf_printf(error, "must have from 1 to %d durations", MOST);
		return -1;
	}
	c->retry = mem_array(c->retry, values->count, sizeof(*c->retry));
	c->retry_count = values->count;
	for (i = 0; i < values->count; i++)
		if (set_amount(key, &c->retry[i], span_of(values->item[i]),
			error) == -1)
			return -1;
	return 0;
}

static int
check_texts(const struct config_key *key, const struct strings *values,
    struct buf *error)
{
	bool optional = key->fallback != NULL && *key->fallback == '\0';
	size_t i;

	for (i = 0; i < values->count; i++) {
		struct span value = span_of(values->item[i]);
		const char *why = config_check_controls(value);

		if (why == NULL && key->check != NULL &&
		    !(value.len == 0 && optional))
			why = key->check(value);
		if (why == NULL)
			continue;
		if (key->kind != KEY_SECRET)
			show_value(error, value);
		buf_add_text(error, why);
		return -1;
	}
	return 0;
}

int
config_key_set(const struct config_key *key, void *base,
    const struct strings *values, struct buf *error)
{
	void *field = (char *)base + key->field;
	struct span value = { 0 };
	size_t i;

	if (check_texts(key, values, error) == -1)
		return -1;
	if (values->count > 0)
		value = span_of(values->item[0]);
	switch (key->kind) {
	case KEY_TEXT:
	case KEY_SECRET:
		free(*(char **)field);
		*(char **)field = span_text(value);
		return 0;
	case KEY_LIST:
		strings_free(field);
		for (i = 0; i < values->count; i++)
			strings_add(field, span_of(values->item[i]));
		return 0;
	case KEY_WORD:
		return set_word(key, field, value, error);
	case KEY_MODE:
		return set_mode(key, field, value, error);
	case KEY_NUMBER:
	case KEY_SIZE:
	case KEY_DURATION:
		return set_amount(key, field, value, error);
	case KEY_DURATIONS:
		return set_durations(key, base, values, error);
	case KEY_RATE:
		return set_rate(field, value, error);
	case KEY_LATER:
	case KEY_SECTION:
	case KEY_INCLUDE:
		break; /* have no value */
	}
	return 0;
}

static void
set_default(const struct config_key *key, void *base)
{
	struct strings values = { 0 };
	struct span rest = span_of(key->fallback), word;
	struct buf unused = { 0 };

	if (key->kind != KEY_DURATIONS)
		strings_add(&values, rest);
	else
		while (rest.len > 0) {
			(void)span_cut(rest, ' ', &word, &rest);
			strings_add(&values, word);
		}
	(void)config_key_set(key, base, &values, &unused);
	strings_free(&values);
	buf_free(&unused);
}

void
config_set_defaults(const struct config_key *keys, void *base)
{
	for (; keys->name != NULL; keys++)
		if (keys->fallback != NULL)
			set_default(keys, base);
}

void
config_set_preset(struct config_relay *relay, const char *name)
{
	const struct preset *preset = preset_find(span_of(name));
	struct buf unused = { 0 };
	size_t i;

	for (i = 0; preset != NULL && preset->set[i].key != NULL; i++) {
		const struct config_key *key =
		    config_key_find(config_relay_keys, preset->set[i].key);
		struct strings value = { 0 };

		assert(key != NULL);
		strings_add(&value, span_of(preset->set[i].value));
		(void)config_key_set(key, relay, &value, &unused);
		strings_free(&value);
	}
	buf_free(&unused);
}

void
config_free_values(const struct config_key *keys, void *base)
{
	for (; keys->name != NULL; keys++) {
		void *field = (char *)base + keys->field;
		char *text;

		if (keys->kind == KEY_LIST)
			strings_free(field);
		if (keys->kind != KEY_TEXT && keys->kind != KEY_SECRET &&
		    keys->kind != KEY_DURATIONS)
			continue;
		memcpy(&text, field, sizeof(text));
		if (keys->kind == KEY_SECRET && text != NULL)
			explicit_bzero(text, strlen(text));
		free(text);
	}
}
