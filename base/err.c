/* SPDX-License-Identifier: BSD-2-Clause */
/* Error values and the assertion that stays on. No state, no locks. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line stays a line whatever a file name or a key in it holds. */
static void
one_line(char *s)
{
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = ' ';
	}
}

int
err_set(struct err *err, int code, const char *fmt, ...)
{
	if (code <= 0)
		code = EINVAL;
	if (err != NULL) {
		/* Arguments may point into err->msg itself. */
		char text[sizeof(err->msg)];
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		one_line(text);
		memcpy(err->msg, text, strlen(text) + 1);
		err->code = code;
	}
	return -code;
}

int
err_prefix(struct err *err, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	size_t used, room;
	va_list ap;

	if (err == NULL)
		return -EINVAL;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	one_line(text);
	/* Move the old message up, cut where it no longer fits. */
	used = strlen(text);
	if (used > sizeof(text) - 3)
		used = sizeof(text) - 3;
	room = sizeof(err->msg) - used - 3;
	memmove(err->msg + used + 2, err->msg, room);
	err->msg[sizeof(err->msg) - 1] = '\0';
	memcpy(err->msg, text, used);
	memcpy(err->msg + used, ": ", 2);
	return -err->code;
}

void
lh_assert_failed(const char *expr, const char *file, int line)
{
	fprintf(stderr, "lhyve: %s:%d: broken invariant: %s (this is a bug in lhyve)\n", file, line, expr);
	abort();
}

const char *
err_limit_hint(int code)
{
	switch (code) {
	case EMFILE:
	case ENFILE:
		return " (raise the limit of open files: ulimit -n)";
	case EFBIG:
		return " (raise the limit of file sizes: ulimit -f)";
	default:
		return "";
	}
}
