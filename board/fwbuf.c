/* SPDX-License-Identifier: BSD-2-Clause */
#include "board/fwbuf.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

void
fwbuf_free(struct fwbuf *b)
{
	free(b->p);
	*b = (struct fwbuf){0};
}

static bool
reserve(struct fwbuf *b, size_t more)
{
	size_t room = b->room != 0 ? b->room : 256;
	uint8_t *p;

	if (b->failed)
		return false;
	if (b->room - b->len >= more)
		return true;
	while (room - b->len < more && room <= SIZE_MAX / 2)
		room *= 2;
	p = room - b->len >= more ? realloc(b->p, room) : NULL;
	if (p == NULL) {
		b->failed = true;
		return false;
	}
	b->p = p;
	b->room = room;
	return true;
}

void
fw_put(struct fwbuf *b, const void *data, size_t len)
{
	if (len == 0 || !reserve(b, len))
		return;
	memcpy(b->p + b->len, data, len);
	b->len += len;
}

void
fw_zero(struct fwbuf *b, size_t len)
{
	if (len == 0 || !reserve(b, len))
		return;
	memset(b->p + b->len, 0, len);
	b->len += len;
}

void
fw_u8(struct fwbuf *b, uint8_t v)
{
	fw_put(b, &v, 1);
}

void
fw_u16(struct fwbuf *b, uint16_t v)
{
	fw_put(b, &v, 2);
}

void
fw_u32(struct fwbuf *b, uint32_t v)
{
	fw_put(b, &v, 4);
}

void
fw_u64(struct fwbuf *b, uint64_t v)
{
	fw_put(b, &v, 8);
}

void
fw_text(struct fwbuf *b, const char *s, size_t width)
{
	size_t n = strnlen(s, width);

	fw_put(b, s, n);
	for (; n < width; n++)
		fw_u8(b, ' ');
}

void
fw_patch(struct fwbuf *b, size_t off, const void *data, size_t len)
{
	if (!b->failed && range_fits(off, len, b->len))
		memcpy(b->p + off, data, len);
}

void
fw_checksum(struct fwbuf *b, size_t from, size_t len, size_t at)
{
	uint8_t sum = 0;

	if (b->failed || !range_fits(from, len, b->len) || at >= b->len)
		return;
	b->p[at] = 0;
	for (size_t i = 0; i < len; i++)
		sum += b->p[from + i];
	b->p[at] = (uint8_t)-sum;
}
