/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Errors of the host, a configuration or a file: a code and one line of text
 * that says which object failed and what to do.  Set where it happens, passed
 * up unchanged.  Plain values: the caller owns the struct, any thread.
 */
#ifndef LHYVE_BASE_ERR_H
#define LHYVE_BASE_ERR_H

#include <stddef.h>

#define LH_MUST_CHECK	__attribute__((warn_unused_result))
#define LH_PRINTF(f, a) __attribute__((format(printf, f, a)))

struct err {
	int code;      /* positive errno value; 0 = no error */
	char msg[512]; /* "WHERE: WHAT (HINT)", no newline */
};

/* Record an error. err may be NULL. Returns -code, for `return err_set(...)`. */
int err_set(struct err *err, int code, const char *fmt, ...) LH_PRINTF(3, 4);

/* Put "prefix: " before the message already there. Returns -err->code. */
int err_prefix(struct err *err, const char *fmt, ...) LH_PRINTF(2, 3);

/* What to do about a limit of the process that an errno tells of: " (raise ...)", or "". */
const char *err_limit_hint(int code);

/* A broken invariant: stays on in release builds, prints file:line and aborts. */
#define LH_ASSERT(x) ((x) ? (void)0 : lh_assert_failed(#x, __FILE__, __LINE__))
void lh_assert_failed(const char *expr, const char *file, int line) __attribute__((noreturn, cold));

#endif
