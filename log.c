/*
 * One line per event, to stderr or to /dev/log.
 *
 * Nothing here blocks or fails: a hanging journal or a reader that stopped
 * must not stop the mail.  syslog(3) would block, so the datagram is ours.
 * This is the only file with state of its own.
 */
#include "relayd.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum {
	PREFIX_MAX = 160, /* time, host, program and process id */
	/* In JSON each octet may have a backslash before it. */
	LINE_MAX_OUT = 2 * (PREFIX_MAX + LIMIT_LOG_LINE) + 4,
};

enum where { TO_STDERR, TO_JOURNAL_STDERR, TO_SYSLOG };

static struct {
	enum where where;
	enum log_level threshold;
	bool json;
	int fd;             /* of /dev/log; -1: not connected */
	bool is_file;       /* what lines go to: it takes them at any time */
	unsigned long lost; /* not reported yet */
	uint64_t lost_ever;
	time_t second; /* of what follows */
	char stamp[32], host[65];
} log_state = { .where = TO_STDERR, .threshold = LOG_LEVEL_INFO, .fd = -1 };

static const struct {
	const char *word, *name;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error: ", "error", LOG_ERR },
	[LOG_LEVEL_WARNING] = { "warning: ", "warning", LOG_WARNING },
	[LOG_LEVEL_INFO] = { "", "info", LOG_INFO },
	[LOG_LEVEL_DEBUG] = { "", "debug", LOG_DEBUG },
};

/* Is stderr the journal?  systemd names the stream in JOURNAL_STREAM. */
static bool
stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char here[64];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) == -1)
		return false;
	(void)snprintf(here, sizeof(here), "%ju:%ju", (uintmax_t)st.st_dev,
	    (uintmax_t)st.st_ino);
	return strcmp(stream, here) == 0;
}

static enum where
choose(enum log_target target)
{
	struct stat st;

	if (target == LOG_TO_SYSLOG)
		return TO_SYSLOG;
	if (stderr_is_journal())
		return TO_JOURNAL_STDERR;
	if (target == LOG_TO_STDERR || isatty(STDERR_FILENO))
		return TO_STDERR;
	if (fstat(STDERR_FILENO, &st) == 0 &&
	    (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) ||
		S_ISREG(st.st_mode)))
		return TO_STDERR;
	return TO_SYSLOG;
}

/* Connect to the system logger, anew if it was restarted. */
static bool
connect_syslog(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX,
		.sun_path = "/dev/log" };
	int fd;

	if (log_state.fd != -1)
		return true;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return false;
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == -1) {
		(void)close(fd);
		return false;
	}
	log_state.fd = fd;
	return true;
}

static bool
send_syslog(const char *line, size_t len)
{
	int tries;

	for (tries = 0; tries < 2 && connect_syslog(); tries++) {
		if (send(log_state.fd, line, len, MSG_NOSIGNAL) != -1)
			return true;
		if (errno == EAGAIN || errno == ENOBUFS)
			return false;
		(void)close(log_state.fd);
		log_state.fd = -1;
	}
	return false;
}

/* A pipe that polls writable takes a line of less than PIPE_BUF whole. */
static bool
send_stderr(const char *line, size_t len)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (!log_state.is_file &&
	    (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0))
		return false;
	return write(STDERR_FILENO, line, len) == (ssize_t)len;
}

/* Time and host as they stand in a syslog file, once a second. */
static void
look_up(void)
{
	time_t now = time(NULL);
	struct tm tm;
	char *dot;

	if (log_state.second == now && log_state.host[0] != '\0')
		return;
	log_state.second = now;
	log_state.stamp[0] = '\0';
	if (localtime_r(&now, &tm) != NULL)
		(void)strftime(log_state.stamp, sizeof(log_state.stamp),
		    "%b %e %H:%M:%S", &tm);
	if (gethostname(log_state.host, sizeof(log_state.host) - 1) == -1)
		(void)strcpy(log_state.host, "localhost");
	dot = strchr(log_state.host, '.');
	if (dot != NULL)
		*dot = '\0';
}

/* What stands before the text depends on who adds the rest. */
static size_t
put_prefix(char *out, int priority, const char *part)
{
	const char *slash = part == NULL ? "" : "/";
	int n;

	if (part == NULL)
		part = "";
	look_up();
	if (log_state.where == TO_SYSLOG) {
		n = snprintf(out, PREFIX_MAX,
		    "<%d>%s relayd%s%.32s[%d]: ", LOG_MAIL | priority,
		    log_state.stamp, slash, part, (int)getpid());
	} else if (log_state.json) {
		if (log_state.where != TO_JOURNAL_STDERR)
			return 0;
		n = snprintf(out, PREFIX_MAX, "<%d>", priority);
	} else if (log_state.where == TO_JOURNAL_STDERR) {
		n = snprintf(out, PREFIX_MAX,
		    "<%d>relayd%s%.32s[%d]: ", priority, slash, part,
		    (int)getpid());
	} else {
		n = snprintf(out, PREFIX_MAX,
		    "%s %s relayd%s%.32s[%d]: ", log_state.stamp,
		    log_state.host, slash, part, (int)getpid());
	}
	return n < 0 ? 0 : (size_t)n;
}

/* The text into at most room octets of printable ASCII; returns its length. */
static size_t
put_printable(char *out, size_t room, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0, dots = 3;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (n + 4 + dots > room) {
			while (dots-- > 0)
				out[n++] = '.';
			return n;
		}
		if (c >= ' ' && c <= '~') {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	return n;
}

/* An object, of printable ASCII: so no text is other than valid JSON. */
static size_t
put_json(char *out, enum log_level level, const char *part, const char *text)
{
	char stamp[32] = "", printable[LIMIT_LOG_LINE];
	size_t i, n, len = put_printable(printable, sizeof(printable), text);
	struct timespec now = { 0, 0 };
	struct tm tm;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &tm) != NULL)
		(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	n = (size_t)snprintf(out, PREFIX_MAX,
	    "{\"time\": \"%s.%03dZ\", \"level\": \"%s\", "
	    "\"program\": \"relayd%s%.32s\", \"pid\": %d, \"message\": \"",
	    stamp, (int)(now.tv_nsec / 1000000), levels[level].name,
	    part == NULL ? "" : "/", part == NULL ? "" : part, (int)getpid());
	for (i = 0; i < len; i++) {
		if (printable[i] == '"' || printable[i] == '\\')
			out[n++] = '\\';
		out[n++] = printable[i];
	}
	out[n++] = '"';
	out[n++] = '}';
	return n;
}

static bool
put_line(enum log_level level, const char *part, const char *text)
{
	char line[LINE_MAX_OUT];
	size_t n = put_prefix(line, levels[level].priority, part);

	if (log_state.json) {
		n += put_json(line + n, level, part, text);
	} else {
		n += put_printable(line + n, LIMIT_LOG_LINE / 8,
		    levels[level].word);
		n += put_printable(line + n, LIMIT_LOG_LINE * 7 / 8, text);
	}
	if (log_state.where == TO_SYSLOG)
		return send_syslog(line, n);
	line[n++] = '\n';
	return send_stderr(line, n);
}

static void PRINTF_LIKE(3, 0)
    put(enum log_level level, const char *part, const char *format, va_list ap)
{
	int saved = errno;
	char text[4 * LIMIT_LOG_LINE], note[64];

	if (level > log_state.threshold)
		return;
	(void)vsnprintf(text, sizeof(text), format, ap);
	if (log_state.lost > 0) {
		(void)snprintf(note, sizeof(note), "%lu log lines were lost",
		    log_state.lost);
		if (put_line(LOG_LEVEL_WARNING, NULL, note))
			log_state.lost = 0;
	}
	if (!put_line(level, part, text)) {
		log_state.lost++;
		log_state.lost_ever++;
	}
	errno = saved;
}

void
log_open(enum log_target target, enum log_level level, bool json)
{
	struct stat st;

	log_state.json = json;
	log_state.where = choose(target);
	log_state.threshold = level;
	log_state.is_file =
	    fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode);
	if (log_state.where == TO_SYSLOG)
		(void)connect_syslog();
}

void
log_error(const char *part, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	put(LOG_LEVEL_ERROR, part, format, ap);
	va_end(ap);
}

void
log_warning(const char *part, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	put(LOG_LEVEL_WARNING, part, format, ap);
	va_end(ap);
}

void
log_info(const char *part, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	put(LOG_LEVEL_INFO, part, format, ap);
	va_end(ap);
}

void
log_debug(const char *part, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	put(LOG_LEVEL_DEBUG, part, format, ap);
	va_end(ap);
}

size_t
log_prepare(char out[LOG_PREPARED], const char *text)
{
	char before[40] = "";
	int n, pid = (int)getpid();

	if (log_state.where == TO_SYSLOG)
		(void)snprintf(before, sizeof(before),
		    "<%d>relayd[%d]: ", LOG_MAIL | LOG_ERR, pid);
	else if (log_state.where == TO_JOURNAL_STDERR)
		(void)snprintf(before, sizeof(before), "<%d>", LOG_ERR);
	if (log_state.json)
		n = snprintf(out, LOG_PREPARED,
		    "%s{\"level\": \"error\", \"program\": \"relayd\", "
		    "\"pid\": %d, \"message\": \"%s\"}\n",
		    before, pid, text);
	else if (log_state.where == TO_SYSLOG)
		n = snprintf(out, LOG_PREPARED, "%serror: %s\n", before, text);
	else
		n = snprintf(out, LOG_PREPARED, "%srelayd[%d]: error: %s\n",
		    before, pid, text);
	return n < 0 ? 0 : n < LOG_PREPARED ? (size_t)n : LOG_PREPARED - 1;
}

void
log_prepared(const char *line, size_t len)
{
	if (log_state.where == TO_SYSLOG)
		(void)send_syslog(line, len);
	else
		(void)send_stderr(line, len);
}

uint64_t
log_lost(void)
{
	return log_state.lost_ever;
}
