/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log lines to standard error (or the descriptor given to log_init()).
 * Any thread; a line is written with one write(2).
 */
#ifndef LHYVE_BASE_LOG_H
#define LHYVE_BASE_LOG_H

#include <stdbool.h>
#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* LOG_TEXT: "lhyve: LEVEL: MESSAGE". LOG_JSON: an object a line with time (UTC), level and message. */
enum log_format { LOG_TEXT, LOG_JSON };

/* Set the descriptor and the highest level that is printed. Default: 2, LOG_WARN. */
void log_init(int fd, enum log_level max);
/* Would a line of this level be printed? For those that cost something to make. */
bool log_wanted(enum log_level level);
/* Each by itself; any time. */
void log_set_output(int fd, enum log_format format);
void log_set_level(enum log_level max);
void log_msg(enum log_level level, const char *fmt, ...) LH_PRINTF(2, 3);

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, __VA_ARGS__)

/*
 * Something the guest did wrong: level LOG_INFO, at most 10 lines a second for
 * each call site's struct, then one line that counts what was left out.
 */
struct log_ratelimit {
	long window_s;
	unsigned count, dropped;
};
void log_guest_rl(struct log_ratelimit *rl, const char *fmt, ...) LH_PRINTF(2, 3);
#define log_guest(...)                           \
	do {                                     \
		static struct log_ratelimit rl_; \
		log_guest_rl(&rl_, __VA_ARGS__); \
	} while (0)

#endif
