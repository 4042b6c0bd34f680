/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's vector registers are live in this engine (jit_run.c), and the C library's memory functions use
 * vector registers: those whose size is not a small constant become string instructions here. Included before
 * everything else, by the build.
 */
#ifndef LHYVE_SOFT_NOVEC_H
#define LHYVE_SOFT_NOVEC_H

#include <string.h>

static inline void *
novec_copy(void *dst, const void *src, size_t n)
{
	unsigned char *d = dst;
	const unsigned char *s = src;
	if (n > 32) {
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		return dst;
	}
	for (; n != 0; n--) {
		*d++ = *s++;
		__asm__ volatile("" : : : "memory"); /* a loop that is not made a call */
	}
	return dst;
}

static inline void *
novec_set(void *dst, int v, size_t n)
{
	void *d = dst;
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(v) : "memory");
	return dst;
}

static inline int
novec_compare(const void *a, const void *b, size_t n)
{
	const unsigned char *p = a, *q = b;
	unsigned long v, w;
	for (; n >= 8; n -= 8, p += 8, q += 8) {
		__builtin_memcpy(&v, p, 8);
		__builtin_memcpy(&w, q, 8);
		if (v != w)
			break;
	}
	for (; n != 0; n--, p++, q++) {
		if (*p != *q)
			return *p < *q ? -1 : 1;
	}
	return 0;
}

/* Up to so many bytes the compiler makes code of its own, without vectors: where it can be told to
 * (meson.build), many. */
#ifndef NOVEC_INLINE_BYTES
#define NOVEC_INLINE_BYTES 32
#endif
#define NOVEC_SMALL(n)	(__builtin_constant_p(n) && (n) <= NOVEC_INLINE_BYTES)
#define memcpy(d, s, n) (NOVEC_SMALL(n) ? __builtin_memcpy(d, s, n) : novec_copy(d, s, n))
#define memset(d, v, n) (NOVEC_SMALL(n) ? __builtin_memset(d, v, n) : novec_set(d, v, n))
#define memcmp(a, b, n) novec_compare(a, b, n)

#endif
