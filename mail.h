/*
 * Mail as text: the contracts of the files that know the grammar of SMTP, of
 * a message and of the aliases file, and do no input or output.  A part of
 * relayd.h.
 * (Set by hand, as a table: clang-format would break its columns.)
 */
#ifndef MAIL_H
#define MAIL_H

/* clang-format off */

/* ---- smtp.c: SMTP grammar; no input or output ---------------------------- */

enum smtp_verb {
	SMTP_UNKNOWN, SMTP_EHLO, SMTP_HELO, SMTP_MAIL, SMTP_RCPT, SMTP_DATA,
	SMTP_BDAT, SMTP_RSET, SMTP_NOOP, SMTP_VRFY, SMTP_EXPN, SMTP_HELP,
	SMTP_QUIT, SMTP_STARTTLS, SMTP_AUTH,
	SMTP_HTTP, /* GET, POST, ..., "Host:": a browser, to be hung up on */
	SMTP_VERBS
};

/*
 * The verb of a command line (no line end), case ignored, and its argument:
 * what follows the one space behind the verb, trailing spaces dropped.
 */
enum smtp_verb smtp_command(struct span line, struct span *arg);

#define ADDRESS_BARE 1u	/* a local part without a domain is fine */
#define ADDRESS_UTF8 2u	/* RFC 6531: valid UTF-8 in both parts is fine */

/*
 * Is this whole text one address (RFC 5321, 4.1.2 Mailbox), within the
 * limits, without control bytes?  The only judge of addresses: nothing that
 * it refuses is written to envelope, wire or log.  A domain may be an address
 * literal.  The null sender is no address.
 */
bool smtp_address_valid(struct span address, unsigned flags);
/* Split a valid one at its last '@'; domain.data is NULL without one. */
void smtp_address_split(struct span address, struct span *local,
    struct span *domain);
/*
 * Take "FROM:<path> parameters" or "TO:..." apart (keyword: SPAN("FROM:")).
 * address: without brackets and source route; empty for <>.
 * returns  NULL, or the whole reply to refuse the command with.
 */
const char *smtp_path(struct span arg, struct span keyword, bool utf8,
    struct span *address, struct span *parameters);

/* "12345 LAST" (RFC 3030); false: not to be understood. */
bool smtp_bdat(struct span arg, uint64_t *octets, bool *last);
/* An EHLO or HELO argument that may stand in Received (RFC 5321, 4.1.1.1). */
bool smtp_helo_valid(struct span name);

enum smtp_reply_state { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };

/* A reply being read; all zero to start, zeroed again for the next. */
struct smtp_reply {
	int code;	/* 200 ... 599; 0: none yet */
	unsigned lines;
	size_t octets;
	size_t len;			 /* of text */
	char text[LIMIT_REPLY_KEPT + 1]; /* "250 2.0.0 OK": lines joined by a
					    space, NUL-terminated, raw bytes
					    but without CR, LF, NUL */
};

/* One more line, without its end (RFC 5321, 4.2.1).  BAD: not SMTP, the codes
 * differ, or over a limit. */
enum smtp_reply_state smtp_reply_line(struct smtp_reply *r, struct span line);
/* The enhanced status code in a reply text, or one made from code ("4.0.0");
 * RFC 3463, 2034.  out: at least 12 octets. */
void smtp_reply_status(const char *text, int code, char out[12]);

#define SMTP_CAN_PIPELINING 1u
#define SMTP_CAN_8BITMIME 2u
#define SMTP_CAN_SMTPUTF8 4u
#define SMTP_CAN_CHUNKING 8u
#define SMTP_CAN_DSN 16u
#define SMTP_CAN_STARTTLS 32u
#define SMTP_CAN_SIZE 64u
#define SMTP_AUTH_PLAIN 256u
#define SMTP_AUTH_LOGIN 512u
#define SMTP_AUTH_CRAM_MD5 1024u
#define SMTP_AUTH_SCRAM_SHA_256 2048u
#define SMTP_AUTH_EXTERNAL 4096u
#define SMTP_AUTH_OTHER 8192u /* a mechanism that we do not know */
#define SMTP_AUTH_ANY 0x3f00u

/* The bits of one EHLO reply line ("250-SIZE 1000", no CRLF), 0 if none;
 * *size_limit is set when it is SIZE with a number. */
unsigned smtp_capability(struct span line, uint64_t *size_limit);

/* ---- parameters.c: the parameters of MAIL and RCPT ------------------------ */

/* When the sender wants a report (NOTIFY; RFC 3461, 4.1); 0: not said. */
#define NOTIFY_NEVER 1u /* alone */
#define NOTIFY_SUCCESS 2u
#define NOTIFY_FAILURE 4u
#define NOTIFY_DELAY 8u

/* How much of the message it is to hold (RET, 4.3). */
enum dsn_return { RETURN_NOT_SAID, RETURN_FULL, RETURN_HEADERS };

struct smtp_mail {
	uint64_t size;	/* SIZE (RFC 1870); 0 when not given */
	bool eight_bit; /* BODY=8BITMIME (RFC 6152) */
	bool utf8;	/* SMTPUTF8 (RFC 6531) */
	enum dsn_return ret;
	char envid[LIMIT_ENVID + 1]; /* ENVID (RFC 3461, 4.4), decoded:
					printable ASCII; "" when not given */
};

struct smtp_rcpt {
	unsigned notify;	     /* NOTIFY_* */
	char orcpt[LIMIT_ORCPT + 1]; /* ORCPT (4.2) as "rfc822;a@b", the same */
};

/* The parameters of MAIL; returns NULL, or the whole reply to refuse with. */
const char *smtp_mail_parameters(struct span parameters, struct smtp_mail *mail);
const char *smtp_rcpt_parameters(struct span parameters, struct smtp_rcpt *rcpt);

/* "NEVER", or a list such as "SUCCESS,DELAY", case ignored; false: neither. */
bool dsn_notify(struct span list, unsigned *notify);
bool dsn_return(struct span word, enum dsn_return *ret); /* "FULL", "HDRS" */
bool dsn_envid_valid(struct span envid); /* decoded, not empty */
/* Append what is given of them as parameters, each with a space before it;
 * NULL and "" : not given.  What was read is written in at most its length. */
void dsn_add_mail(struct buf *out, enum dsn_return ret, const char *envid);
void dsn_add_rcpt(struct buf *out, unsigned notify, const char *orcpt);

/* ---- text.c: the forms of a message's text ---------------------------------- */

/*
 * From what a client sends to the one form that the spool holds: every line
 * ends in CRLF; a bare LF or bare CR is a line end too (progress bars).
 * CRLF "." CRLF alone ends DATA; dots are unstuffed.  All zero to start.
 */
struct smtp_decoder {
	int state;     /* text.c's own */
	bool bare;     /* a bare LF or CR has been seen */
};
/* DATA: append to out; returns the octets taken.  *end is set when the end of
 * data was among them; what follows is commands. */
size_t smtp_decode_data(struct smtp_decoder *d, struct span in,
    struct buf *out, bool *end);
/* BDAT: decode a piece of a chunk, all of it; no dots. */
void smtp_decode_chunk(struct smtp_decoder *d, struct span in, struct buf *out);
/* The text is complete: gives an unfinished last line its CRLF. */
void smtp_decode_end(struct smtp_decoder *d, struct buf *out);

/* What relaying must know of a message's text, noted as it passes. */
#define TEXT_8BIT 1u
#define TEXT_LONG_LINE 2u /* a line of over 998 octets (RFC 5322, 2.1.1) */
#define TEXT_NUL 4u
struct text_facts {
	unsigned has; /* TEXT_* */
	size_t line;  /* octets of a line that has not ended */
};
void text_note(struct text_facts *facts, struct span piece); /* of canonical
    text */

/* Dot-stuff canonical text (RFC 5321, 4.5.2); *line_start: true at first. */
void smtp_encode_dots(bool *line_start, struct span in, struct buf *out);

/* ---- header.c: the grammar of a header section (RFC 5322) ---------------- */

/*
 * Look for the end of the header section in canonical text (CRLF).
 * scanned  in and out: what has been looked at before; 0 at first.
 * header   receives its length, without the empty line.
 * body     receives where the body begins.
 * returns  true when found: at the empty line, or before the first line that
 *          can't be a header field or its continuation.  Else, when the text
 *          has ended, all of it is header.
 * A byte order mark and a "From " or ">From " line at the top belong to it.
 */
bool header_end(struct span text, size_t *scanned, size_t *header, size_t *body);
bool header_has(struct span header, struct span name); /* "From" */
/* Append "From, Date": the fields of which there is one too many. */
void header_repeated(struct span header, struct buf *names);

/* The addresses of one list, as on the command line ("A <a@b>, c"), appended
 * to out; false, with some of them in out, when any is not valid. */
bool address_list(struct span list, struct strings *out);
/*
 * The same for To, Cc and Bcc of a header, or for their Resent- forms instead
 * when there are any.
 * returns  NULL, or the name of the field that can't be parsed.
 */
const char *header_recipients(struct span header, struct strings *out);

/* Append text as a display name (RFC 5322, 3.2.5): quoted, on one line; as it
 * is when it is made of encoded words, which quotes would disarm; what is not
 * ASCII as encoded words, one a line (RFC 2047). */
void header_add_phrase(struct buf *out, struct span text);

/* ---- aliases.c: where mail for local names goes ---------------------------- */

struct aliases;
/*
 * Parse aliases(5): continuation lines, quotes, comments, "*:" catch-all; of
 * two entries for a name the first counts.  Lines and targets that can't be
 * used (syntax; |program, /file, :include:) are told to warn and left out; a
 * name that has no others left goes to postmaster.  Keys are without case.
 */
struct aliases *aliases_parse(struct span text,
    void (*warn)(void *arg, unsigned line, const char *text), void *arg);
void aliases_free(struct aliases *a);
size_t aliases_count(const struct aliases *a);
/* What a local part stands for: addresses, "name", or "\name" for a name not
 * to be looked up again.  "user+detail" may be "user+*" or "user" there.
 * NULL: no alias, nor a catch-all. */
const struct strings *aliases_find(const struct aliases *a, struct span local);

/* ---- addresses.c: tables of addresses, compared whole and without case ----- */

/* No two alike, in the order in which they came; all zero is an empty one. */
struct address_set {
	struct strings list;
	size_t *slot, slots;	/* addresses.c's own */
};
bool address_set_have(const struct address_set *set, struct span address);
bool address_set_add(struct address_set *set, struct span address); /* copies;
    false: it was there */
void address_set_free(struct address_set *set); /* the set is empty afterwards */

/* "ADDRESS=ADDRESS" and "@DOMAIN=@DOMAIN"; NULL, or what is wrong with one. */
const char *address_map_check(struct span entry);
struct address_map;
struct address_map *address_map_new(const struct strings *entries);
const char *address_map_twice(const struct address_map *map); /* what stands
    left of two entries, or NULL */
/* Append what a full address is replaced by: its own entry goes before that of
 * its domain.  false: by nothing.  map may be NULL. */
bool address_map_find(const struct address_map *map, struct span address,
    struct buf *out);
void address_map_free(struct address_map *map); /* NULL is fine */

/* An address, "@DOMAIN", or '*' for any run of letters: NULL, or what is wrong
 * with it; and is an address like that? */
const char *address_pattern_check(struct span pattern);
bool address_matches(struct span pattern, struct span address);

/* ---- rewrite.c: headers and addresses on their way in -------------------- */

/* What to rewrite by; everything is borrowed. */
struct rewrite_rules {
	const char *hostname, *origin;
	const struct strings *local_names;
	const struct aliases *aliases; /* NULL: none */
	const char *local_to, *redirect, *from; /* "": not set */
	const struct strings *allow_recipients; /* none: all */
	const struct address_map *masquerade; /* NULL: none */
	enum from_mode from_mode;
	const struct strings *header_add; /* "NAME: VALUE" */
	size_t recipient_limit;
};

/* DEEP: aliases are nested over LIMIT_ALIAS_DEPTH; TOO_MANY: recipient_limit;
 * NOT_ALLOWED: by allow_recipients, and there is no redirect. */
enum rewrite_result {
	REWRITE_OK, REWRITE_DEEP, REWRITE_TOO_MANY, REWRITE_NOT_ALLOWED
};
/* The whole reply to refuse a recipient with; NULL for REWRITE_OK. */
const char *rewrite_refusal(enum rewrite_result result);

/* An address on its way, and what made it of the one before. */
enum rewrite_cause {
	REWRITE_GIVEN, REWRITE_ALIAS, REWRITE_CATCH_ALL, REWRITE_LOCAL_TO,
	REWRITE_ORIGIN, REWRITE_REDIRECT, REWRITE_MASQUERADE, REWRITE_FROM
};
struct rewrite_hop {
	struct span address;
	enum rewrite_cause cause;
};
/* Told each way from what was given to what it stands for, or to where it is
 * refused. */
struct rewrite_trace {
	void (*way)(void *arg, const struct rewrite_hop *hop, size_t count,
	    enum rewrite_result result);
	void *arg;
};
/* Append "root -> admin (alias) -> you@example.com (alias)", escaped. */
void rewrite_add_way(struct buf *out, const struct rewrite_hop *hop,
    size_t count);
const char *rewrite_cause_name(enum rewrite_cause cause); /* "alias" */

/*
 * The recipients that an accepted address stands for, added to out: aliases,
 * local_to, origin, allow_recipients, redirect, in this order.  A cycle
 * is cut; its member stays as its own address.  out is unchanged unless OK.
 * trace may be NULL.
 */
enum rewrite_result rewrite_recipient(const struct rewrite_rules *rules,
    struct span address, struct address_set *out,
    const struct rewrite_trace *trace);

/* The envelope sender to use for what was given ("", the null sender, stays):
 * origin, masquerade, from.  It is the caller's.  trace may be NULL. */
char *rewrite_sender(const struct rewrite_rules *rules, struct span sender,
    const struct rewrite_trace *trace);

/* What Received and the missing fields are made of; everything is borrowed. */
struct rewrite_facts {
	const char *id;	      /* queue id */
	const char *client;   /* "localhost [127.0.0.1]", "userid 1000" */
	const char *helo;     /* "" when none */
	const char *protocol; /* "ESMTP", "SMTP", "UTF8SMTP" */
	const char *sender;   /* envelope sender as given; "" null */
	const char *recipient; /* the only recipient, or NULL */
	int64_t wall_ms;
};

/*
 * The new header section (without the empty line) into out: Received on top,
 * Bcc and Return-Path gone, bare and local addresses completed, masquerade and
 * from applied, missing Date, Message-ID, From and header_add added.  A
 * complete, valid header keeps its other bytes.
 * A control character becomes '?'.
 * A "From " line at the top and a byte order mark are dropped.
 * returns  NULL, or the whole reply to refuse with (loop, NUL, too large);
 *          then out is of no use.
 */
const char *rewrite_header(const struct rewrite_rules *rules,
    const struct rewrite_facts *facts, struct span header, struct buf *out);

/* An address that the envelope had, and those that it has now. */
struct rewrite_change {
	const char *was;
	struct strings now;
};
/* A header that was rewritten before, following the envelope again: addresses
 * that have changed there, and what the rules ask for by now. */
void rewrite_header_again(const struct rewrite_rules *rules,
    const struct rewrite_change *change, size_t count, struct span header,
    struct buf *out);

/* clang-format on */

#endif
