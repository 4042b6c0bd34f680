/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cache instructions as bytes, on the operand (EBX) or (RBX), for guests that run them in one mode after
 * another: nothing is read from a device, contents stay, what must fault faults as a load does, hints never
 * do.
 */
#ifndef LHYVE_TESTS_GUEST_CACHE_OPS_H
#define LHYVE_TESTS_GUEST_CACHE_OPS_H

#include "tests/guest/guest.h"

enum { CACHE_DEVICE = 0xff000000u, CACHE_READS = 0xec };

static const struct cache_op {
	const char *name;
	uint8_t bytes[4], len;
	bool hint;     /* never faults */
	bool whole;    /* no operand; CPL 0 only */
	uint32_t leaf; /* CPUID's; 0: no need to ask */
	unsigned reg, bit;
} cache_ops[] = {
    {"clflush", {0x0f, 0xae, 0x3b}, 3, false, false, 1, 3, 19},
    {"clflushopt", {0x66, 0x0f, 0xae, 0x3b}, 4, false, false, 7, 1, 23},
    {"clwb", {0x66, 0x0f, 0xae, 0x33}, 4, false, false, 7, 1, 24},
    {"cldemote", {0x0f, 0x1c, 0x03}, 3, true, false, 0, 0, 0},
    {"prefetchnta", {0x0f, 0x18, 0x03}, 3, true, false, 0, 0, 0},
    {"prefetcht0", {0x0f, 0x18, 0x0b}, 3, true, false, 0, 0, 0},
    {"prefetcht1", {0x0f, 0x18, 0x13}, 3, true, false, 0, 0, 0},
    {"prefetcht2", {0x0f, 0x18, 0x1b}, 3, true, false, 0, 0, 0},
    {"prefetchw", {0x0f, 0x0d, 0x0b}, 3, true, false, 0, 0, 0},
    {"wbinvd", {0x0f, 0x09}, 2, false, true, 0, 0, 0},
    {"invd", {0x0f, 0x08}, 2, false, true, 0, 0, 0},
};
enum { CACHE_OPS = sizeof(cache_ops) / sizeof(cache_ops[0]) };

/* A mode: how to run code there, and where its code lies. `run` is guest_enter() or a guest's own. */
struct cache_mode {
	const char *name;
	uint8_t *code;
	bool bits16; /* a prefix makes the address 32 bits wide */
	bool user;
	struct context start;
	int (*run)(struct context *c);
};

/* An operand: what it is, and the fault of a load of a byte there (0: none). */
struct cache_place {
	const char *name;
	uint32_t address;
	int vector;
	unsigned error;		   /* without the U bit of a page fault */
	volatile uint8_t *content; /* one byte that must stay, or NULL */
};

static inline bool
cache_op_offered(const struct cache_op *o)
{
	uint32_t r[4];

	if (o->leaf == 0)
		return true;
	cpuid(o->leaf, 0, r);
	return (r[o->reg] >> o->bit & 1) != 0;
}

static inline void
cache_check(const struct cache_mode *m, const struct cache_op *o, const struct cache_place *p)
{
	struct context c = m->start;
	uint8_t *to = m->code;
	int want = o->hint || o->whole || p->vector == 0 ? GUEST_ENDED : p->vector;
	unsigned error = p->error | (m->user && p->vector == 14 ? 4 : 0);

	if (o->whole && m->user) {
		want = 13;
		error = 0;
	}
	if (m->bits16)
		*to++ = 0x67;
	for (unsigned n = 0; n < o->len; n++)
		*to++ = o->bytes[n];
	*to++ = 0xcd; /* GUEST_END */
	*to = GUEST_ENDED;
	c.bx = p->address;
	if (p->content != NULL)
		*p->content = 0x5a;
	outl(CACHE_READS, 0);
	int v = m->run(&c);
	guest_check(inl(CACHE_READS) == 0, "%s, %s on %s: %u device reads", m->name, o->name, p->name,
		    inl(CACHE_READS));
	guest_check(v == want && (v == GUEST_ENDED || c.ip == m->start.ip),
		    "%s, %s on %s: trap %d at %lx, not %d", m->name, o->name, p->name, v, c.ip, want);
	if (v == 14)
		guest_check(trap_seen.error == error && trap_seen.cr2 == p->address,
			    "%s, %s on %s: error %lx cr2 %lx", m->name, o->name, p->name, trap_seen.error,
			    trap_seen.cr2);
	guest_check(p->content == NULL || *p->content == 0x5a, "%s, %s on %s: it changed", m->name, o->name,
		    p->name);
}

static inline void
cache_check_all(const struct cache_mode *m, const struct cache_place *places, unsigned count)
{
	for (unsigned n = 0; n < CACHE_OPS; n++) {
		if (!cache_op_offered(&cache_ops[n])) {
			guest_skip(cache_ops[n].name);
			continue;
		}
		for (unsigned p = 0; p < count; p++)
			cache_check(m, &cache_ops[n], &places[p]);
	}
}

#endif
