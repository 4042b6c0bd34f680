/* SPDX-License-Identifier: BSD-2-Clause */
/* How engines cut accesses to devices, so that both make the same ones. Any thread. */
#ifndef LHYVE_ENGINE_PIECES_H
#define LHYVE_ENGINE_PIECES_H

#include <stdint.h>

/* The first piece of an access of len bytes: the largest power of two that fits and keeps gpa's alignment, so
 * that devices see natural accesses; one that is whole stays whole. */
static inline unsigned
engine_io_piece(uint64_t gpa, unsigned len)
{
	unsigned n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;

	while (n > 1 && n != len && (gpa & (n - 1)))
		n >>= 1;
	return n;
}

#endif
