/* SPDX-License-Identifier: BSD-2-Clause */
/* The code pages of a VM: decoded blocks and translated units, their index and their memory. Private to
 * engine/soft. Lock: soft_code.lock guards all but what is atomic. */
#ifndef LHYVE_SOFT_CODE_H
#define LHYVE_SOFT_CODE_H

#include <pthread.h>
#include "engine/soft/cpu.h"

struct jit;
struct jit_unit;

/* A page of which so many units were made is entered everywhere, or written all the time: new ones are short
 * there. */
#define UNITS_CROWD 256

struct code_page {
	struct soft_block *blocks;
	struct jit_unit *units;
	uint32_t seq;	      /* counts writes: a decoder compares it */
	uint32_t number;      /* below JIT_PAGES; 0: there were too many */
	uint16_t near_writes; /* that hit no block */
	uint16_t hits;	      /* writes that did, up to HITS_KEPT */
	uint16_t made;	      /* units, since the page was marked; up to UNITS_CROWD */
	uint16_t cold;	      /* instructions that are not worth a translation: they may soon be others */
	uint16_t cold_lo,
	    cold_hi; /* page offsets that such instructions were at since: a write there hits too */
};

#define CODE_HASH_BITS	 17
#define CODE_GENERATIONS 4

struct soft_code {
	struct gpmap *mem;
	pthread_mutex_t lock;
	_Atomic uint8_t *marked;  /* one byte a RAM page: has blocks */
	struct code_page **pages; /* made when first marked */
	uint64_t npages;
	uint32_t numbered; /* pages that have a number */
	_Atomic(struct soft_block *) *hash;
	/* The arena, and which generation is being filled (evict.c). */
	uint8_t *arena;
	size_t generation_bytes, used[CODE_GENERATIONS];
	unsigned generation;
	bool full;		  /* somebody found no room in it */
	uint64_t evictions;	  /* of a generation, or of all */
	_Atomic unsigned flusher; /* vCPU number + 1 of the one that flushes */
	struct jit *jit;	  /* NULL: interpreter only */
};

/* The index of what starts at gpa, for code of `mode`, in a table of 2^bits. */
static inline unsigned
soft_code_hash(uint64_t gpa, uint32_t mode, unsigned bits)
{
	return (unsigned)(((gpa ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull) >> (64 - bits));
}

/* Take the lock; `cpu` (NULL: no vCPU) answers requests of others while it waits. */
void soft_code_lock(struct soft_code *c, struct soft_cpu *cpu);
/* Mark gpa's page as code. Returns its number; *seq to compare when what was decoded goes in. */
uint64_t soft_code_open(struct soft_cpu *cpu, uint64_t gpa, uint32_t *seq);
/* ---- evict.c ---- */
/* The arena, of so many bytes of address space. Not 0: errno says why not. */
LH_MUST_CHECK int soft_arena_create(struct soft_code *c, uint64_t bytes);
void soft_arena_destroy(struct soft_code *c);
uint64_t soft_arena_used(const struct soft_code *c);
/* `bytes` of the arena, with the lock held, or NULL: it is full. */
void *soft_code_alloc(struct soft_code *c, size_t bytes);
/* Does p lie in that generation of the arena? */
bool soft_code_in(const struct soft_code *c, unsigned generation, const void *p);
/* There is no room: leave, so that the run loop makes some. The lock is not held, cpu->rip is set. */
void soft_code_want_flush(struct soft_cpu *cpu) __attribute__((noreturn));
/* Is the code at gpa written so often that its next instruction had better be interpreted? */
bool soft_code_cold(struct soft_cpu *cpu, uint64_t gpa);
/* A write of [gpa, gpa + len), within a page of code, is about to be made by the only vCPU: what was decoded
 * from there is dropped. False: not so simple. */
bool soft_code_before_write(struct soft_cpu *cpu, uint64_t gpa, unsigned len);
/* Where rip is fetched from: linear. */
uint64_t soft_fetch_la(const struct soft_cpu *cpu, uint64_t rip);

#endif
