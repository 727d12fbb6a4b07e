/*
 * The sendmail command: its options, which are those of Sendmail's as callers
 * use them, and its modes.  A drop-in for scripts, cron and the like: nothing
 * is set-uid, no configuration is read, and no file that an option names is
 * ever opened.
 */
#include "sendmail.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum mode {
	MODE_DELIVER,
	MODE_SMTP,
	MODE_VERIFY,
	MODE_QUEUE,
	MODE_FLUSH,
	MODE_ALIASES,
	MODE_NOTHING,
	MODES,
};

struct options {
	enum mode mode;
	bool from_header; /* -t */
	bool keep_dots;   /* -i */
	bool verbose;
	const char *sender; /* NULL: not given */
	const char *name;   /* NULL: not given */
	unsigned notify;
	enum dsn_return ret;
	const char *envid; /* NULL: not given */
};

/* Print lines to stderr, each with our name. */
static void
complain(struct span lines)
{
	struct buf out = { 0 };
	struct span line;
	bool more;

	do {
		more = span_cut(lines, '\n', &line, &lines);
		if (line.len == 0)
			continue;
		buf_add_text(&out, "sendmail: ");
		buf_add(&out, line);
		buf_add_char(&out, '\n');
	} while (more);
	(void)write_all(STDERR_FILENO, buf_span(&out));
	buf_free(&out);
}

/* A complaint about one thing, which is foreign text. */
static int
refuse(int status, const char *what, const char *thing)
{
	struct buf line = { 0 };

	buf_add_text(&line, what);
	buf_add_escaped(&line, span_first(span_of(thing), 200));
	complain(buf_span(&line));
	buf_free(&line);
	return status;
}

/* ---- options ---- */

static bool
take_mode(struct options *o, const char *value)
{
	static const struct {
		const char *value;
		enum mode mode;
	} modes[] = {
		{ "m", MODE_DELIVER },
		{ "s", MODE_SMTP },
		{ "v", MODE_VERIFY },
		{ "p", MODE_QUEUE },
		{ "i", MODE_ALIASES },
	};
	size_t i;

	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(value, modes[i].value) == 0) {
			o->mode = modes[i].mode;
			return true;
		}
	if (strcmp(value, "d") == 0 || strcmp(value, "D") == 0)
		(void)refuse(EX_USAGE, "the daemon is relayd, not -b", value);
	else
		(void)refuse(EX_USAGE, "there is no mode -b", value);
	return false;
}

static bool
take_value(struct options *o, char option, const char *value)
{
	bool good = true;

	switch (option) {
	case 'b':
		return take_mode(o, value);
	case 'f':
	case 'r':
		o->sender = value;
		break;
	case 'F':
		o->name = value;
		break;
	case 'o':
		if (strcmp(value, "i") == 0)
			o->keep_dots = true;
		break;
	case 'q':
		if (o->mode == MODE_DELIVER)
			o->mode = *value == '\0' ? MODE_FLUSH : MODE_NOTHING;
		break;
	case 'N':
		good = dsn_notify(span_of(value), &o->notify);
		break;
	case 'R':
		good = dsn_return(span_of(value), &o->ret);
		break;
	case 'V':
		good = dsn_envid_valid(span_of(value));
		o->envid = value;
		break;
	default:
		break;
	}
	if (!good)
		(void)refuse(EX_USAGE, "bad value of -N, -R or -V: ", value);
	return good;
}

static void
take_flag(struct options *o, char option)
{
	if (option == 't')
		o->from_header = true;
	else if (option == 'i')
		o->keep_dots = true;
	else if (option == 'v')
		o->verbose = true;
	else if (option == 'I')
		o->mode = MODE_ALIASES;
}

/*
 * Take one argument, such as "-ti" or "-fADDRESS", and the one behind it where
 * that is its value.
 */
static bool
take_argument(struct options *o, char **argv, int *at)
{
	const char *p, *value;

	for (p = argv[*at] + 1; *p != '\0'; p++) {
		if (strchr("cGIimnsTtUvx", *p) != NULL) {
			take_flag(o, *p);
			continue;
		}
		if (strchr("dq", *p) != NULL) /* values attached only */
			return take_value(o, *p, p + 1);
		if (strchr("ABbCDeFfhLMNOopRrVX", *p) == NULL) {
			(void)refuse(EX_USAGE, "there is no option ",
			    argv[*at]);
			return false;
		}
		value = p[1] != '\0' ? p + 1 : argv[++*at];
		if (value != NULL)
			return take_value(o, *p, value);
		(void)refuse(EX_USAGE, "a value is missing behind ", p);
		return false;
	}
	return true;
}

/* Returns the index of the first recipient, or -1. */
static int
take_options(struct options *o, char **argv)
{
	int i;

	for (i = 1; argv[i] != NULL; i++) {
		if (argv[i][0] != '-' || argv[i][1] == '\0')
			break;
		if (strcmp(argv[i], "--") == 0)
			return i + 1;
		if (!take_argument(o, argv, &i))
			return -1;
	}
	return i;
}

static enum mode
mode_of_name(const char *program)
{
	const char *slash = strrchr(program, '/');

	if (slash != NULL)
		program = slash + 1;
	if (*program == '-')
		program++;
	if (strcmp(program, "mailq") == 0)
		return MODE_QUEUE;
	if (strcmp(program, "newaliases") == 0)
		return MODE_ALIASES;
	return MODE_DELIVER;
}

/* ---- who sends to whom ---- */

/* The envelope sender: as given, else the caller. */
static int
take_sender(const struct options *o, struct caller *c, struct buf *sender)
{
	struct strings list = { 0 };
	bool good;

	if (o->sender == NULL) {
		caller_add_login(c, sender);
		return EX_OK;
	}
	if (*o->sender == '\0' || strcmp(o->sender, "<>") == 0)
		return EX_OK;
	good = address_list(span_of(o->sender), &list) && list.count == 1;
	if (good)
		buf_add_text(sender, list.item[0]);
	strings_free(&list);
	return good ? EX_OK : refuse(EX_DATAERR, "bad sender: ", o->sender);
}

/* A recipient that looks like an option is a mistake, or an attack. */
static int
take_recipients(char **arguments, struct strings *out)
{
	size_t before;
	int i;

	for (i = 0; arguments[i] != NULL; i++) {
		before = out->count;
		if (arguments[i][0] == '-' ||
		    !address_list(span_of(arguments[i]), out) ||
		    out->count == before)
			return refuse(EX_DATAERR,
			    "bad recipient: ", arguments[i]);
	}
	return EX_OK;
}

static int
take_header_recipients(const struct message *m, struct strings *out)
{
	const char *field = header_recipients(buf_span(&m->header), out);

	if (field != NULL)
		return refuse(EX_DATAERR, "bad address in header field ",
		    field);
	if (out->count == 0)
		return refuse(EX_DATAERR, "no recipients in header", "");
	return EX_OK;
}

static void
add_from(const struct options *o, struct caller *c, const char *sender,
    struct message *m)
{
	struct buf name = { 0 }, login = { 0 };

	if (header_has(buf_span(&m->header), SPAN("From")))
		return;
	/* GECOS has the caller's name, not that of whom -f names. */
	if (o->name != NULL)
		buf_add_text(&name, o->name);
	else if (o->sender == NULL)
		caller_add_full_name(c, &name);
	if (sender[0] == '\0')
		caller_add_login(c, &login);
	message_add_from(m, span_trim(buf_span(&name)),
	    sender[0] == '\0' ? buf_text(&login) : sender);
	buf_free(&name);
	buf_free(&login);
}

/* ---- modes ---- */

/* Run the dialogue; m is NULL when recipients are only to be verified. */
static int
hand_over(const struct options *o, const struct mail *mail,
    const struct message *m, struct buf *told)
{
	struct talk t = { .fd = -1, .verbose = o->verbose };
	int status = talk_open(&t, told);

	if (status == EX_OK)
		status = talk_greet(&t, told);
	if (status == EX_OK)
		status = talk_envelope(&t, mail, told);
	if (status == EX_OK && m != NULL)
		status = talk_content(&t, m, told);
	talk_close(&t);
	return status;
}

static int
deliver(const struct options *o, char **arguments)
{
	struct message m = { .file = -1, .ask_limit = talk_size_limit };
	struct buf sender = { 0 }, told = { 0 };
	struct mail mail = { 0 };
	struct caller caller = { .sought = false };
	int status;

	if (arguments[0] == NULL && !o->from_header)
		return refuse(EX_USAGE, "usage: no recipients", "");
	status = message_read(&m, STDIN_FILENO,
	    !o->keep_dots && isatty(STDIN_FILENO) == 1, &told);
	if (status == EX_OK)
		status = take_sender(o, &caller, &sender);
	if (status == EX_OK)
		status = take_recipients(arguments, &mail.recipients);
	if (status == EX_OK && o->from_header)
		status = take_header_recipients(&m, &mail.recipients);
	if (status == EX_OK) {
		mail.sender = buf_text(&sender);
		add_from(o, &caller, mail.sender, &m);
		mail.size = message_size(&m);
		mail.notify = o->notify;
		mail.ret = o->ret;
		mail.envid = o->envid;
		status = hand_over(o, &mail, &m, &told);
	}
	complain(buf_span(&told));
	strings_free(&mail.recipients);
	message_free(&m);
	caller_free(&caller);
	buf_free(&sender);
	buf_free(&told);
	return status;
}

/* What can be told of recipients goes to stdout, as Sendmail does. */
static int
verify(const struct options *o, char **arguments)
{
	struct buf sender = { 0 }, told = { 0 };
	struct mail mail = { .verify = true };
	struct caller caller = { .sought = false };
	int status;

	if (arguments[0] == NULL)
		return refuse(EX_USAGE, "usage: no recipients", "");
	status = take_sender(o, &caller, &sender);
	if (status == EX_OK)
		status = take_recipients(arguments, &mail.recipients);
	if (status == EX_OK) {
		mail.sender = buf_text(&sender);
		status = hand_over(o, &mail, NULL, &told);
	}
	(void)write_all(STDOUT_FILENO, buf_span(&told));
	strings_free(&mail.recipients);
	caller_free(&caller);
	buf_free(&sender);
	buf_free(&told);
	return status;
}

static int
talk_smtp(const struct options *o, char **arguments)
{
	struct talk t = { .fd = -1 };
	struct buf told = { 0 };
	int status = talk_open(&t, &told);

	(void)o;
	(void)arguments;
	if (status == EX_OK)
		status = talk_copy(&t);
	else
		(void)write_all(STDOUT_FILENO,
		    SPAN("421 4.3.2 relayd is not running\r\n"));
	complain(buf_span(&told));
	talk_close(&t);
	buf_free(&told);
	return status;
}

static int
run_relayctl(const char *verb)
{
	struct buf path = { 0 };

	program_path("relayctl", &path);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)execl(buf_text(&path), "relayctl", verb, (char *)NULL);
	(void)refuse(EX_OSERR, "can't run ", buf_text(&path));
	buf_free(&path);
	return EX_OSERR;
}

static int
list_queue(const struct options *o, char **arguments)
{
	(void)o;
	(void)arguments;
	return run_relayctl("queue");
}

static int
flush_queue(const struct options *o, char **arguments)
{
	(void)o;
	(void)arguments;
	return run_relayctl("flush");
}

static void
warn_alias(void *arg, unsigned line, const char *text)
{
	struct buf b = { 0 };

	buf_printf(&b, "%s:%u: %s", (const char *)arg, line, text);
	complain(buf_span(&b));
	buf_free(&b);
}

/* There is no table to build, as the daemon reads the file itself: say which
 * lines it will not use. */
static int
check_aliases(const struct options *o, char **arguments)
{
	char path[] = SYSCONFDIR "/aliases";
	struct buf text = { 0 };

	(void)o;
	(void)arguments;
	if (file_read(path, LIMIT_ALIASES_FILE, &text, NULL) == -1) {
		buf_free(&text);
		return errno == ENOENT
		    ? EX_OK
		    : refuse(EX_NOINPUT, "can't read ", path);
	}
	aliases_free(aliases_parse(buf_span(&text), warn_alias, path));
	buf_free(&text);
	return EX_OK;
}

/* Queue runs at intervals, or of a part: the daemon makes them by itself. */
static int
do_nothing(const struct options *o, char **arguments)
{
	(void)o;
	(void)arguments;
	return EX_OK;
}

/* So that no file or socket of ours becomes one of the standard streams. */
static void
open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	fd_close(&fd);
}

int
main(int argc, char **argv)
{
	static int (*const run[MODES])(const struct options *, char **) = {
		[MODE_DELIVER] = deliver,
		[MODE_SMTP] = talk_smtp,
		[MODE_VERIFY] = verify,
		[MODE_QUEUE] = list_queue,
		[MODE_FLUSH] = flush_queue,
		[MODE_ALIASES] = check_aliases,
		[MODE_NOTHING] = do_nothing,
	};
	struct options o = { 0 };
	int first;

	open_standard_streams();
	if (argc < 1)
		return refuse(EX_USAGE, "called without a name", "");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	o.mode = mode_of_name(argv[0]);
	first = take_options(&o, argv);
	return first == -1 ? EX_USAGE : run[o.mode](&o, argv + first);
}
