/* SPDX-License-Identifier: BSD-2-Clause */
/* The escape character of a terminal session. Pure logic. */
#include "dev/console/internal.h"

void
escape_init(struct escape *e)
{
	*e = (struct escape){.after_newline = true};
}

static bool
is_newline(uint8_t byte)
{
	return byte == '\r' || byte == '\n';
}

int
escape_feed(struct escape *e, uint8_t byte, uint8_t out[2])
{
	int n = 0;

	if (e->tilde) {
		e->tilde = false;
		e->after_newline = false;
		if (byte == '.')
			return -1;
		out[n++] = '~';
		if (byte == '~')
			return n;
	} else if (e->after_newline && byte == '~') {
		e->tilde = true;
		return 0;
	}
	out[n++] = byte;
	e->after_newline = is_newline(byte);
	return n;
}

int
escape_end(struct escape *e, uint8_t out[2])
{
	if (!e->tilde)
		return 0;
	e->tilde = false;
	out[0] = '~';
	return 1;
}
