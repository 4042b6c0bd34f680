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
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GUEST_LINES_PER_S 10

static _Atomic int log_fd = 2;
static _Atomic int log_max = LOG_WARN;
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

static void
log_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	size_t used, end;
	int saved_errno = errno;

	used = (size_t)snprintf(line, sizeof(line), "lhyve: %s: ", level_name[level]);
	vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	end = used + strlen(line + used);
	/* Guests and files choose some of these bytes: one message is one line, with no terminal controls. */
	for (size_t i = used; i < end; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	}
	line[end++] = '\n';
	/* A full or closed log must not stop the VM: what does not go out is lost. */
	while (write(atomic_load(&log_fd), line, end) < 0 && errno == EINTR)
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
