/*
 * The limits that are fixed, the settings (what relayd.conf says, checked, with
 * every default filled in), and what can be asked of them.  A part of relayd.h.
 * (clang-format would break the columns.)
 */
#ifndef CONFIG_H
#define CONFIG_H

/* clang-format off */

/* Limits on what comes from outside; each has a test at its edge. */
enum {
	LIMIT_LOCAL_PART = 64,		/* RFC 5321, 4.5.3.1.1 */
	LIMIT_DOMAIN = 255,		/* 4.5.3.1.2 */
	LIMIT_LABEL = 63,		/* RFC 1035, 2.3.4 */
	LIMIT_ADDRESS = 254,		/* a path less its brackets, 4.5.3.1.3 */
	LIMIT_ENVID = 100,		/* as xtext; RFC 3461, 4.4 */
	LIMIT_ORCPT = 500,		/* the whole value; 4.2 */
	LIMIT_COMMAND = 2048,		/* a command line with its CRLF */
	LIMIT_COMMAND_FLOOD = 64 << 10, /* without any LF: the peer is no SMTP */
	LIMIT_HEADER = 1 << 20,		/* the header section, octets */
	LIMIT_HEADER_FIELD = 100 << 10, /* one field with its folding */
	LIMIT_HEADER_FIELDS = 1000,
	LIMIT_RECEIVED = 50,		/* more is a loop (RFC 5321, 6.3) */
	LIMIT_ALIAS_DEPTH = 20,
	LIMIT_RECIPIENTS = 100000,	/* the most that can be set */
	LIMIT_ERRORS = 20,		/* refused commands a session */
	LIMIT_JUNK = 100,		/* NOOP, RSET ... between two messages */
	LIMIT_REJECT_LINES = 100,	/* in the log a minute; more are counted */
	LIMIT_REPLY_LINE = 4 << 10,	/* a reply of the relayhost ... */
	LIMIT_REPLY_LINES = 128,
	LIMIT_REPLY = 64 << 10,
	LIMIT_REPLY_KEPT = 1 << 10,	/* what is kept of it for log and queue */
	LIMIT_LOG_LINE = 1 << 10,
	LIMIT_CONFIG_FILE = 1 << 20,
	LIMIT_ALIASES_FILE = 16 << 20,
	LIMIT_SECRET = 16 << 10,
};

enum from_mode { FROM_MISSING, FROM_LOCAL, FROM_ALWAYS };
enum tls_mode { TLS_STARTTLS, TLS_IMPLICIT, TLS_OPPORTUNISTIC, TLS_NONE };
enum auth_mode {
	AUTH_AUTO, AUTH_PLAIN, AUTH_LOGIN, AUTH_CRAM_MD5, AUTH_SCRAM_SHA_256,
	AUTH_EXTERNAL, AUTH_NONE
};
enum family { FAMILY_ANY, FAMILY_IPV4, FAMILY_IPV6 };

struct config_listen {
	char *address;	/* as written: "unix:/path", "127.0.0.1:25", "[::1]:25" */
	mode_t mode;	/* of a unix socket */
	struct strings allow; /* CIDR blocks; empty: loopback */
	bool reject_bare_newline;
	bool implicit;	/* a default one: a warning if it can't be bound */
	unsigned line;
};

struct config_relay {
	char *name, *host;	/* without brackets */
	char *preset, *region;	/* "": none */
	char *maildir;		/* instead of a host; "": none */
	struct strings senders; /* patterns of those that it serves; none: any */
	unsigned port;
	enum tls_mode tls;
	char *tls_ca_file;	/* the one to use; "" : libcurl's default */
	bool tls_verify;
	char *tls_pin;		/* as libcurl has it; "": none */
	char *tls_cert, *tls_key; /* of us; "": none */
	int tls_min;		/* 12 or 13 */
	enum auth_mode auth;
	char *user;		/* "": no login */
	char *password;		/* from the file; "" when elsewhere */
	char *password_file, *password_credential, *password_command;
	unsigned connections, pipeline;
	unsigned messages_per_connection, recipients_per_message;
	double rate;		/* recipients a second; 0: no ceiling */
	uint64_t daily;		/* recipients; 0: no limit */
	int64_t idle, timeout, connect_timeout;
	enum family family;
	char *source, *proxy;	/* local address, URL; "": none */
	char *null_sender;	/* in place of <>; "": none */
	unsigned line;
};

struct config {
	char *path;		/* of the file */
	char *hostname, *origin;
	struct strings local_names;
	char *aliases;		/* "" : none */
	bool aliases_given;	/* written down: a missing file is a warning */
	char *local_to, *spool, *user;
	char *control;		/* path of the unix socket, without "unix:" */
	struct config_listen *listen;
	size_t listen_count;
	struct config_relay *relay; /* in file order; at least one */
	size_t relay_count;
	char *from;
	enum from_mode from_mode;
	struct strings masquerade;
	struct address_map *masquerade_map;
	char *redirect;
	struct strings allow_recipients, header_add;
	uint64_t message_size_limit, min_free_space;
	size_t recipient_limit;
	unsigned connection_limit;
	int64_t *retry;		/* waits after the 1st, 2nd ... failure */
	size_t retry_count;
	int64_t client_timeout, queue_lifetime, bounce_lifetime;
	int64_t delay_warning, failed_lifetime; /* 0: off */
	char *bounce_to;	/* "": to the sender */
	char *postmaster;
	char *metrics;		/* "127.0.0.1:9025"; "": none */
	uint64_t history_size;	/* octets; 0: none is kept */
	enum log_target log;
	enum log_level log_level;
	bool log_json;		/* instead of lines for people */
	unsigned references;
};

/* ---- config.c: relayd.conf into a checked struct config ------------------ */

/*
 * Read and check a configuration file.  errors receives all of them, one a
 * line, "FILE:LINE: KEY: text\n"; warnings what is legal but unwise.
 * returns  with one reference, or NULL when there is any error.
 */
struct config *config_load(const char *path, struct buf *errors,
    struct buf *warnings);
struct config *config_hold(struct config *c); /* one more reference */
void config_release(struct config *c);	      /* NULL is fine */

bool config_has_login(const struct config_relay *r);
bool config_has_password(const struct config_relay *r); /* the login has one */
/* The password of a relay, read afresh (as the daemon's user), a trailing
 * newline dropped.  An empty one is an error; so is a file that others can
 * read.  -1: with a line for the user in error, which says what mends it. */
int config_password(const struct config_relay *r, struct buf *password,
    struct buf *error);

/* Does the relay take mail from this envelope sender? */
bool config_relay_serves(const struct config_relay *r, struct span sender);
/* Which addresses of it are connected to: those of source's family. */
enum family config_family(const struct config_relay *r);
/* How long a message with this envelope sender is tried. */
int64_t config_lifetime_ms(const struct config *c, const char *sender);
/* The networks that are no one else's: loopback, private, link-local. */
void config_private_networks(struct strings *blocks);
/* Is the client certificate of a relay that has one in order, and its key
 * there?  -1: the key of relayd.conf in name, a line in error; errno EACCES:
 * this user can't read it. */
int config_certificate(const struct config_relay *r, const char **name,
    struct buf *error);
/* It can be read, and has expired or is not valid yet: so in text. */
bool config_certificate_untimely(const struct config_relay *r,
    struct buf *text);
/* It is not its own issuer, and that one's is not known: so in text. */
bool config_certificate_alone(const struct config_relay *r, struct buf *text);
struct rewrite_rules; /* mail.h */
void config_rules(const struct config *c, struct rewrite_rules *rules); /* all
    but the aliases */

/* ---- config_edit.c, config_show.c: for relayctl ------------------------- */

/* Write the configuration as relayd.conf would have it, without secrets:
 * changed: only what is not the default; key ("relay.gmail.port") or NULL: its
 * line only.  -1: why not, in error. */
int config_show(const struct config *c, const char *key, bool changed,
    struct buf *out, struct buf *error);
/* The text of the file at path with one key changed.  -1: why not, in error;
 * the values are not checked. */
int config_edit(const char *path, const char *key, const struct strings *values,
    struct buf *text, struct buf *error);

/* clang-format on */

#endif
