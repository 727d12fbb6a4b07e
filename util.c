/*
 * The small things libc lacks: clocks, descriptors, chance, numbers.
 */
#include "relayd.h"

#include <sys/random.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- time ---- */

static int64_t
clock_ms(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
clock_read(struct instant *now)
{
	now->mono_ms = clock_ms(CLOCK_MONOTONIC);
	now->wall_ms = clock_ms(CLOCK_REALTIME);
}

/* By hand: strftime() would write the names in the language of a locale. */
void
date_format(char out[DATE_MAX], int64_t wall_ms)
{
	static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu",
		"Fri", "Sat" };
	static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May",
		"Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm = { .tm_mday = 1, .tm_year = 70, .tm_wday = 4 };
	long offset;

	(void)localtime_r(&seconds, &tm);
	offset = labs(tm.tm_gmtoff) / 60;
	(void)snprintf(out, DATE_MAX,
	    "%s, %d %s %d %02d:%02d:%02d %c%02ld%02ld", days[tm.tm_wday],
	    tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
	    tm.tm_min, tm.tm_sec, tm.tm_gmtoff < 0 ? '-' : '+',
	    offset / 60 % 100, offset % 60);
}

/* ---- how long things take ---- */

/* From a sync of a fast disk to the usual lifetime of a message. */
static const int64_t bounds_ms[HISTOGRAM_BUCKETS] = { 1, 2, 5, 10, 20, 50, 100,
	200, 500, 1000, 2000, 5000, 10000, 30000, 60000, 300000, 900000,
	3600000, 21600000, 86400000, 432000000 };

int64_t
histogram_bound_ms(size_t bucket)
{
	return bounds_ms[bucket];
}

void
histogram_add(struct histogram *h, int64_t ms)
{
	size_t i = 0;

	if (ms < 0)
		ms = 0; /* the clock was set back */
	while (i < HISTOGRAM_BUCKETS && ms > bounds_ms[i])
		i++;
	if (i < HISTOGRAM_BUCKETS)
		h->bucket[i]++;
	h->count++;
	h->sum_ms += ms;
	if (ms > h->longest_ms)
		h->longest_ms = ms;
}

/* ---- descriptors and files ---- */

int
fd_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags == -1 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void
fd_close(int *fd)
{
	int saved = errno;

	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

int
write_all(int fd, struct span s)
{
	while (s.len > 0) {
		ssize_t n = write(fd, s.data, s.len);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		s = span_from(s, (size_t)n);
	}
	return 0;
}

int
pwrite_all(int fd, struct span s, uint64_t offset)
{
	while (s.len > 0) {
		ssize_t n = pwrite(fd, s.data, s.len, (off_t)offset);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		s = span_from(s, (size_t)n);
		offset += (uint64_t)n;
	}
	return 0;
}

/* Read to the end, but at most limit octets. */
static int
read_all(int fd, size_t limit, struct buf *out)
{
	size_t total = 0;

	for (;;) {
		ssize_t n;

		buf_reserve(out, 4096);
		n = read(fd, out->data + out->len, out->size - out->len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		total += (size_t)n;
		if (total > limit) {
			errno = EFBIG;
			return -1;
		}
		out->len += (size_t)n;
	}
}

static int
check_kind(const struct stat *st)
{
	if (S_ISREG(st->st_mode))
		return 0;
	errno = S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
	return -1;
}

int
file_read(const char *path, size_t limit, struct buf *out, struct stat *st)
{
	struct stat here;
	int fd, ret = -1;

	/* Before it is opened, which alone sets some devices going. */
	if (stat(path, &here) == -1 || check_kind(&here) == -1)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1)
		return -1;
	if (fstat(fd, &here) == -1 || check_kind(&here) == -1)
		goto out;
	if (st != NULL)
		*st = here;
	ret = read_all(fd, limit, out);
out:
	fd_close(&fd);
	return ret;
}

/* ---- chance ---- */

uint64_t
random_bits(void)
{
	uint64_t bits;

	while (getrandom(&bits, sizeof(bits), 0) != (ssize_t)sizeof(bits)) {
		if (errno != EINTR) { /* no such call: time and address do */
			struct instant now;

			clock_read(&now);
			return (uint64_t)now.mono_ms * 0x9e3779b97f4a7c15u ^
			    (uint64_t)now.wall_ms << 20 ^ (uint64_t)getpid();
		}
	}
	return bits;
}

/* ---- numbers ---- */

bool
parse_number(struct span s, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;
	size_t i;

	if (s.len == 0)
		return false;
	for (i = 0; i < s.len; i++) {
		unsigned digit = (unsigned)(s.data[i] - '0');

		if (s.data[i] < '0' || digit > 9 || digit > max ||
		    value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return true;
}

/* A number and a one-letter unit; only 0 may go without. */
static bool
parse_unit(struct span s, const char *letters, const uint64_t *factors,
    uint64_t *out)
{
	const char *at;
	uint64_t factor;

	if (span_equal(s, SPAN("0"))) {
		*out = 0;
		return true;
	}
	if (s.len < 2)
		return false;
	at = strchr(letters, s.data[s.len - 1]);
	if (at == NULL || *at == '\0')
		return false;
	factor = factors[at - letters];
	if (!parse_number(span_first(s, s.len - 1), INT64_MAX / factor, out))
		return false;
	*out *= factor;
	return true;
}

unsigned
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	return 16;
}

bool
parse_size(struct span s, uint64_t *octets)
{
	static const uint64_t factors[] = { 1u << 10, 1u << 20, 1u << 30,
		(uint64_t)1 << 40 };

	return parse_unit(s, "KMGT", factors, octets) ||
	    parse_number(s, INT64_MAX, octets);
}

bool
parse_duration(struct span s, int64_t *seconds)
{
	static const uint64_t factors[] = { 1, 60, 3600, 86400 };
	uint64_t value;

	if (!parse_unit(s, "smhd", factors, &value) || value > INT64_MAX / 1000)
		return false;
	*seconds = (int64_t)value;
	return true;
}

/* At most nine digits on either side of the point: exact in a double. */
bool
parse_rate(struct span s, double *per_second)
{
	static const char letters[] = "smhd";
	static const double seconds[] = { 1, 60, 3600, 86400 };
	struct span number, unit, whole, fraction;
	uint64_t high, low = 0;
	double scale = 1;
	const char *at;
	size_t i;

	if (!span_cut(s, '/', &number, &unit) || unit.len != 1)
		return false;
	at = memchr(letters, unit.data[0], sizeof(letters) - 1);
	if (at == NULL)
		return false;
	if (span_cut(number, '.', &whole, &fraction) &&
	    (fraction.len > 9 || !parse_number(fraction, 999999999, &low)))
		return false;
	if (whole.len > 9 || !parse_number(whole, 999999999, &high) ||
	    (high == 0 && low == 0))
		return false;
	for (i = 0; i < fraction.len; i++)
		scale *= 10;
	*per_second =
	    ((double)high + (double)low / scale) / seconds[at - letters];
	return true;
}
