/*
 * What config_scan.c, config_keys.c and config.c share; no one else needs it.
 */
#ifndef CONFIG_PARTS_H
#define CONFIG_PARTS_H

#include "relayd.h"

#include <sys/stat.h>

/* ---- config_lex.c: words --------------------------------------------------- */

/* Tokens; the others are the character itself. */
enum {
	CONFIG_BAD = -1, /* see problem */
	CONFIG_END = 0,
	CONFIG_WORD = 256,
	CONFIG_STRING, /* on one line, with its quotes */
};

struct config_lexer {
	struct span rest; /* not read yet; without NULs */
	unsigned line;    /* where rest begins */
	struct span token;
	unsigned token_line;
	const char *problem;
};

/* Read the next token. */
int config_lex(struct config_lexer *l);

/* ---- config_scan.c: what is written where -------------------------------- */

enum scan_form { SCAN_VALUE, SCAN_LIST, SCAN_SECTION };

enum { SCAN_KEY = 64 }; /* the longest key */

#define SCAN_GLOBAL SIZE_MAX /* the place that is in no section */

/* "key = value", "key = {values}" or "key title { entries }". */
struct scan_entry {
	enum scan_form form;
	size_t file; /* index */
	unsigned line;
	size_t section; /* the entry that it stands in, or SCAN_GLOBAL */
	char key[SCAN_KEY + 1];
	char *title;       /* as written, without quotes; NULL: none */
	size_t start, end; /* in text, all of it */
	size_t value;      /* in text, the value or list */
	size_t values;     /* of a list */
	bool refused;      /* config.c: there was an error, leave it out */
};

struct scan_file {
	char *path;
	struct stat st;
};

/* All zero is an empty one. */
struct scan {
	struct buf text; /* for libconfuse: includes in place, no comments */
	struct scan_file *file;
	size_t file_count;
	struct scan_entry *entry;
	size_t entry_count;
};

/*
 * Read a file and what it includes, and find its entries.  Refuses all that
 * libconfuse would let pass, exit on or stumble over; what comes out is sure
 * to parse there.  -1: the first error is in error.
 */
int config_scan(const char *path, struct scan *s, struct buf *error);
void config_scan_free(struct scan *s); /* wiped: it may hold passwords */
/* The entry of a key in a section (its index, or SCAN_GLOBAL), or NULL. */
const struct scan_entry *config_scan_find(const struct scan *s, size_t section,
    const char *key);

/* Append "FILE:LINE: KEY: text\n"; KEY is "port", "relay.gmail.port" ... */
void config_report(const struct scan *s, const struct scan_entry *at,
    struct buf *out, const char *format, va_list ap) PRINTF_LIKE(4, 0);

/* ---- config_text.c: what texts may be: NULL, or what is wrong ------------ */

const char *config_check_controls(struct span value); /* whatever it is */
const char *config_check_domain(struct span value);
const char *config_check_path(struct span value);
const char *config_check_path_or_none(struct span value);
const char *config_check_directory(struct span value);
const char *config_check_listen(struct span value); /* an address */
const char *config_check_socket(struct span value); /* "unix:/path" */
const char *config_check_address(struct span value);
const char *config_check_recipient(struct span value); /* or a local name */
const char *config_check_name(struct span value);
const char *config_check_field(struct span value); /* "NAME: VALUE" */
const char *config_check_block(struct span value); /* to be allowed */
const char *config_check_command(struct span value);
const char *config_check_ip(struct span value);
const char *config_check_pin(struct span value);   /* of a public key */
const char *config_check_proxy(struct span value); /* its URL */
const char *config_check_metrics(struct span value);

/* A CIDR block or address in another; false too for what is none. */
bool config_block_within(struct span block, const char *outer);

/* ---- config_keys.c: the keys and their values ----------------------------- */

enum key_kind {
	KEY_LATER, /* of a later version */
	KEY_SECTION,
	KEY_INCLUDE, /* done by config_scan.c */
	KEY_TEXT,    /* char * */
	KEY_SECRET,  /* the same; must be quoted */
	KEY_LIST,    /* struct strings */
	KEY_WORD,    /* enum, int or bool: lowest + the word's place in words */
	KEY_NUMBER,  /* unsigned or 64 bits, as size says */
	KEY_MODE,    /* mode_t */
	KEY_SIZE,    /* uint64_t, octets */
	KEY_DURATION,  /* int64_t, seconds */
	KEY_DURATIONS, /* int64_t *, size_t */
	KEY_RATE,      /* double, a second; 0: none */
};

/* A row for every key. */
struct config_key {
	const char *name;
	enum key_kind kind;
	size_t field;         /* its place in the struct ... */
	size_t size;          /* ... and size; 0: not stored */
	const char *fallback; /* the default, as it would be written */
	uint64_t lowest, highest;
	const char *words;       /* the words allowed, a space between */
	const char *later_words; /* those of a later version */
	/* For texts; but an empty one is fine where it is the default. */
	const char *(*check)(struct span value);
};

/* End with a row that has no name. */
extern const struct config_key config_global_keys[];
extern const struct config_key config_listen_keys[];
extern const struct config_key config_relay_keys[];

/* The keys that may stand in a section ("relay"; NULL: in none), or NULL. */
const struct config_key *config_section_keys(const char *section);
const struct config_key *config_key_find(const struct config_key *keys,
    const char *name);
/* The key whose name is most like it. */
const struct config_key *config_key_nearest(const struct config_key *keys,
    const char *name);

/*
 * Store the values (one but for lists) of a key into its field.
 * returns 0, or -1 with what is wrong, and what is allowed, in error.
 */
int config_key_set(const struct config_key *key, void *base,
    const struct strings *values, struct buf *error);

/* Store what the rows have as defaults. */
void config_set_defaults(const struct config_key *keys, void *base);
/* Store what a preset says; NULL or an unknown name is fine. */
void config_set_preset(struct config_relay *relay, const char *name);
/* Free what the rows have stored; secrets are wiped. */
void config_free_values(const struct config_key *keys, void *base);
/* 90 seconds as "90s", 3600 as "1h", 1500 octets as "1500". */
void config_add_amount(struct buf *out, enum key_kind kind, uint64_t value);
/* A value in quotes, as it must be written. */
void config_add_quoted(struct buf *out, struct span value);
void config_add_list(struct buf *out, const struct strings *list);

/* ---- config_host.c, config_secret.c ---------------------------------------- */

/* What /etc/hosts and /etc/mailname say; owned by the caller. */
char *config_default_hostname(void);
char *config_default_origin(const char *hostname);

/* Is it a file that nobody else can read or replace?  Else -1 and a text with
 * what mends it in error. */
int config_secret_check(const char *path, const struct stat *st,
    struct buf *error);
/* The same, and what only the user that reads it can tell. */
int config_secret_check_user(const char *path, const struct stat *st,
    struct buf *error);
/* Append that others can read it, and the chmod. */
void config_secret_chmod(const char *path, const struct stat *st,
    struct buf *error);

/* ---- config_edit.c, config_show.c ------------------------------------------ */

/* Where a key stands: "queue_lifetime", "relay.gmail.port". */
struct config_place {
	char *section; /* "relay"; NULL: in none */
	char *title;   /* "gmail" */
	char *key;
	const struct config_key *row;
};
/* -1: why not, in error. */
int config_place_parse(struct config_place *p, const char *text,
    struct buf *error);
void config_place_free(struct config_place *p);

/* ---- config_reading.c: a configuration being read ------------------------- */

enum { CONFIG_ERRORS = 100 }; /* so many are told */

/* A configuration being read. */
struct config_reading {
	struct config *config;
	struct scan scan;
	struct buf *errors;
	struct buf *warnings;
	unsigned error_count;
};

void config_refuse(struct config_reading *r, const struct scan_entry *at,
    const char *format, ...) PRINTF_LIKE(3, 4);
void config_warn(struct config_reading *r, const struct scan_entry *at,
    const char *format, ...) PRINTF_LIKE(3, 4);

/* The same of a configuration being read. */
const struct scan_entry *config_entry(const struct config_reading *r,
    size_t section, const char *name);
/* Where to report on a key: where it is written, else at its section. */
struct scan_entry config_place(const struct config_reading *r, size_t section,
    const char *name);
void config_refuse_key(struct config_reading *r, size_t section,
    const char *name, const char *format, ...) PRINTF_LIKE(4, 5);

/* The value of an entry as written. */
struct span config_raw(const struct config_reading *r,
    const struct scan_entry *e);
/* Append " (environment variable NAME is not set)" if an entry needs one. */
void config_explain(const struct config_reading *r, const struct scan_entry *e,
    struct buf *out);

/* ---- config_relay.c, config_check.c: several keys at once ------------------ */

/* One relay section. */
void config_check_relay(struct config_reading *r, struct config_relay *relay,
    size_t section);

/* All values are set: judge them together, fill in what is left open. */
void config_check(struct config_reading *r);

#endif
