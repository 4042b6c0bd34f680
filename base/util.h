/* SPDX-License-Identifier: BSD-2-Clause */
/* Small helpers that every layer uses: checked arithmetic, bit fields, little-endian loads and stores. */
#ifndef LHYVE_BASE_UTIL_H
#define LHYVE_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n)	     (1ull << (n))
#define LIKELY(x)    __builtin_expect(!!(x), 1)
#define UNLIKELY(x)  __builtin_expect(!!(x), 0)
#define MIN(a, b)    ((a) < (b) ? (a) : (b))
#define MAX(a, b)    ((a) > (b) ? (a) : (b))
#define KIB	     (1ull << 10)
#define MIB	     (1ull << 20)
#define GIB	     (1ull << 30)
#define NSEC_PER_SEC 1000000000ull

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* True when [off, off + len) lies within [0, size); no overflow for any arguments. */
static inline bool
range_fits(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline uint64_t
align_up(uint64_t v, uint64_t a)
{
	return (v + a - 1) & ~(a - 1);
}

/* Bits [lo, lo + n) of v. n in 1..64. */
static inline uint64_t
bits(uint64_t v, unsigned lo, unsigned n)
{
	return (v >> lo) & (~0ull >> (64 - n));
}

/* The mask of an access of `size` bytes, 1..8. */
static inline uint64_t
size_mask(unsigned size)
{
	return ~0ull >> (64 - 8 * size);
}

/* a * b / c without overflow of the product. c must not be 0; the result must fit. */
static inline uint64_t
mul_div_u64(uint64_t a, uint64_t b, uint64_t c)
{
	return (uint64_t)((unsigned __int128)a * b / c);
}

/* Little-endian stores and loads at any alignment. */
static inline void
put_le16(void *p, uint16_t v)
{
	memcpy(p, &v, 2);
}
static inline void
put_le32(void *p, uint32_t v)
{
	memcpy(p, &v, 4);
}
static inline void
put_le64(void *p, uint64_t v)
{
	memcpy(p, &v, 8);
}
static inline uint16_t
get_le16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, 2);
	return v;
}
static inline uint32_t
get_le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return v;
}
static inline uint64_t
get_le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return v;
}

#endif
