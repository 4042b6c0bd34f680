/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A person's terminal: its raw mode and the escape character. For consoles, and for programs that join one.
 * One thread, but console_tty_restore() (dev/console/console.h).
 */
#ifndef LHYVE_DEV_CONSOLE_TERMINAL_H
#define LHYVE_DEV_CONSOLE_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

/* `~.` and `~~` after a newline, as cu(1) and ssh(1) have them. */
struct escape {
	bool after_newline, tilde;
};
void escape_init(struct escape *e);
/* Feed one byte: up to two bytes for the guest into out. Returns how many, or -1 for `~.`. */
int escape_feed(struct escape *e, uint8_t byte, uint8_t out[2]);
/* Input ended: what was held back. */
int escape_end(struct escape *e, uint8_t out[2]);

/* Raw mode, remembered for console_tty_restore(). */
LH_MUST_CHECK int tty_raw_enter(int fd, struct err *err);
void tty_raw_leave(int fd);

#endif
