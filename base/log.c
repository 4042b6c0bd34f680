/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log lines. The descriptor and level are atomics; a line is built on the stack
 * and goes out with one write(2), so that lines of several threads do not mix.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GUEST_LINES_PER_S 10

static _Atomic int log_fd = 2;
static _Atomic int log_max = LOG_WARN;
static _Atomic int log_form = LOG_TEXT;
static pthread_mutex_t rl_lock = PTHREAD_MUTEX_INITIALIZER; /* every log_ratelimit; taken last */

static const char *const level_name[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

void
log_init(int fd, enum log_level max)
{
	atomic_store(&log_fd, fd);
	atomic_store(&log_max, (int)max);
}

bool
log_wanted(enum log_level level)
{
	return (int)level <= atomic_load(&log_max);
}

void
log_set_output(int fd, enum log_format format)
{
	atomic_store(&log_fd, fd);
	atomic_store(&log_form, (int)format);
}

void
log_set_level(enum log_level max)
{
	atomic_store(&log_max, (int)max);
}

/* Bytes of the UTF-8 sequence at p (RFC 3629), or 0 when it is none. */
static unsigned
utf8_length(const unsigned char *p)
{
	unsigned n = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;
	uint32_t code = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	if (n == 4 && (p[0] & 0xf8) != 0xf0)
		return 0;
	for (unsigned i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

/* Guests and files choose some of these bytes: one message is one line, with no terminal controls. */
static size_t
text_line(enum log_level level, const char *message, char *line, size_t room)
{
	size_t used = (size_t)snprintf(line, room, "lhyve: %s: ", level_name[level]);

	for (; *message != '\0' && used + 1 < room; message++)
		line[used++] = (unsigned char)*message < 0x20 || *message == 0x7f ? ' ' : *message;
	line[used++] = '\n';
	return used;
}

static size_t
json_line(enum log_level level, const char *message, char *line, size_t room)
{
	const unsigned char *p = (const unsigned char *)message;
	struct timespec now;
	struct tm tm;
	size_t used;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	used = strftime(line, room, "{\"time\":\"%Y-%m-%dT%H:%M:%S", &tm);
	used += (size_t)snprintf(line + used, room - used, ".%06ldZ\",\"level\":\"%s\",\"message\":\"",
				 now.tv_nsec / 1000, level_name[level]);
	while (*p != '\0' && used + 16 < room) {
		unsigned n = utf8_length(p);

		if (*p < 0x20 || *p == 0x7f || n == 0) {
			used += (size_t)sprintf(line + used, "\\u%04x", n == 0 ? 0xfffd : *p);
			p++;
			continue;
		}
		if (*p == '"' || *p == '\\')
			line[used++] = '\\';
		memcpy(line + used, p, n);
		used += n;
		p += n;
	}
	memcpy(line + used, "\"}\n", 3);
	return used + 3;
}

static void
log_line(enum log_level level, const char *fmt, va_list ap)
{
	char message[1024], line[2048];
	size_t len;
	int saved_errno = errno;

	vsnprintf(message, sizeof(message), fmt, ap);
	len = atomic_load(&log_form) == LOG_JSON ? json_line(level, message, line, sizeof(line))
						 : text_line(level, message, line, sizeof(line));
	/* A full or closed log must not stop the VM: what does not go out is lost. */
	while (write(atomic_load(&log_fd), line, len) < 0 && errno == EINTR)
		;
	errno = saved_errno;
}

void
log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if ((int)level > atomic_load_explicit(&log_max, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	log_line(level, fmt, ap);
	va_end(ap);
}

/* Count one line against the window of this second. Returns whether it goes out; *left_out: lines to report.
 */
static bool
rl_admit(struct log_ratelimit *rl, unsigned *left_out)
{
	struct timespec now;
	bool admit;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&rl_lock);
	*left_out = 0;
	if (rl->count == 0 || rl->window_s != now.tv_sec) {
		*left_out = rl->dropped;
		rl->window_s = now.tv_sec;
		rl->count = 0;
		rl->dropped = 0;
	}
	admit = rl->count < GUEST_LINES_PER_S;
	if (admit)
		rl->count++;
	else
		rl->dropped++;
	pthread_mutex_unlock(&rl_lock);
	return admit;
}

void
log_guest_rl(struct log_ratelimit *rl, const char *fmt, ...)
{
	unsigned left_out;
	va_list ap;

	if (atomic_load_explicit(&log_max, memory_order_relaxed) < LOG_INFO)
		return;
	if (!rl_admit(rl, &left_out))
		return;
	if (left_out != 0)
		log_msg(LOG_INFO, "(%u more lines like the next one were left out)", left_out);
	va_start(ap, fmt);
	log_line(LOG_INFO, fmt, ap);
	va_end(ap);
}
