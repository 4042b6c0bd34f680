/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for translated code, mapped twice: writable, and executable. Units are
 * found by guest-physical address and mode, and, for traps, by host address.
 *
 * A dropped unit's memory stays until its generation is forgotten (evict.c): a vCPU may stand in it.
 * It is not entered again: its entry pointer leads to the stale exit, exits that were
 * chained to it lead to their stubs again, its return landings are closed.
 * Each of these is one aligned or one-byte store into code that others may run.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/soft/jit_int.h"

#define HASH_BITS 16
#define LARGE	  (2 * MIB)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

static unsigned
hash_of(uint64_t gpa, uint32_t mode)
{
	return soft_code_hash(gpa, mode, HASH_BITS);
}

/* Map fd where its offsets and addresses agree modulo 2 MiB, so that large pages are possible. */
static void *
map_code(int fd, size_t bytes, int prot)
{
	uint8_t *room =
	    mmap(NULL, bytes + LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;
	uint8_t *at = (uint8_t *)align_up((uintptr_t)room, LARGE), *end = room + bytes + LARGE;
	void *p = mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (at > room)
		munmap(room, (size_t)(at - room));
	if (p == MAP_FAILED)
		munmap(at, (size_t)(end - at));
	else if (at + bytes < end)
		munmap(at + align_up(bytes, 4096), (size_t)(end - at) - align_up(bytes, 4096));
	return p;
}

/* Guest code becomes several times longer, and scattered: what is full goes on large pages, to spare the
 * host's instruction TLB. A host that has none stays with small ones. */
void
jit_settle(const struct jit *j, size_t from, size_t to)
{
	if (from < to)
		madvise(j->rx + from, to - from, MADV_COLLAPSE);
}

size_t
jit_full(struct jit *j)
{
	size_t from = j->large;
	j->large = MAX(from, j->used & ~(size_t)(LARGE - 1));
	return from;
}

struct jit *
soft_jit_create(uint64_t cache_bytes, struct err *err)
{
	struct jit *j = calloc(1, sizeof(*j));
	int fd = memfd_create("lhyve-code", MFD_CLOEXEC);
	if (j == NULL || fd < 0)
		goto fail;
	j->bytes = cache_bytes;
	j->rw = j->rx = MAP_FAILED;
	j->hash = calloc(1u << HASH_BITS, sizeof(*j->hash));
	j->pre = calloc(JIT_UNIT_INSNS, sizeof(*j->pre));
	j->generation_bytes = cache_bytes / CODE_GENERATIONS & ~4095ull;
	j->room = j->generation_bytes / 64;
	j->by_addr = calloc(CODE_GENERATIONS * j->room,
			    sizeof(*j->by_addr)); /* touched as it is used; never moved: see traps */
	if (j->hash == NULL || j->by_addr == NULL || j->pre == NULL || ftruncate(fd, (off_t)cache_bytes) != 0)
		goto fail;
	j->rw = map_code(fd, cache_bytes, PROT_READ | PROT_WRITE);
	j->rx = map_code(fd, cache_bytes, PROT_READ | PROT_EXEC);
	if (j->rw == MAP_FAILED || j->rx == MAP_FAILED)
		goto fail;
	close(fd);
	jit_emit_common(j);
	j->common_end = j->used;
	soft_jit_fill(j, 0);
	return j;
fail:
	soft_no_code_memory(err);
	if (fd >= 0)
		close(fd);
	soft_jit_destroy(j);
	return NULL;
}

void
soft_jit_destroy(struct jit *j)
{
	if (j == NULL)
		return;
	if (j->rw != MAP_FAILED && j->rw != NULL)
		munmap(j->rw, j->bytes);
	if (j->rx != MAP_FAILED && j->rx != NULL)
		munmap(j->rx, j->bytes);
	free(j->hash);
	free(j->by_addr);
	free(j->pre);
	free(j);
}

bool
soft_jit_contains(const struct jit *j, const void *pc)
{
	return j != NULL && (const uint8_t *)pc >= j->rx && (const uint8_t *)pc < j->rx + j->bytes;
}

struct jit_unit *
soft_jit_find(struct jit *j, uint64_t gpa, uint32_t mode)
{
	struct jit_unit *u = __atomic_load_n(&j->hash[hash_of(gpa, mode)], __ATOMIC_ACQUIRE);
	while (u != NULL && (u->gpa != gpa || u->mode != mode))
		u = __atomic_load_n(&u->hash_next, __ATOMIC_ACQUIRE);
	return u;
}

void
jit_insert(struct soft_code *c, struct jit_unit *u)
{
	struct jit *j = c->jit;
	struct jit_unit **link = &j->hash[hash_of(u->gpa, u->mode)];
	j->by_addr[j->generation * j->room + j->nunits[j->generation]++] = u; /* the caller saw to the room */
	u->hash_next = *link;
	__atomic_store_n(link, u, __ATOMIC_RELEASE);
}

/* A displacement within 8 aligned bytes: others see the old one or the new one. */
static void
set_rel32(uint8_t *at, const uint8_t *to)
{
	typedef uint32_t __attribute__((aligned(1))) unaligned;
	*(volatile unaligned *)(void *)at = (uint32_t)(to - (at + 4));
}

/* What an exit to another page compares the linear address with: that of the page with a number. */
static void
set_page(struct jit_exit *x, uint32_t number)
{
	typedef uint32_t __attribute__((aligned(1))) unaligned;
	unsigned mmu = x->mode >> JMODE_MMU_SHIFT & 3;
	if (x->page != NULL)
		*(volatile unaligned *)(void *)x->page =
		    (uint32_t)(CPU_OFF(jit_page_at) + (mmu * JIT_PAGES + number) * sizeof(uint64_t));
}

static void
unchain(struct jit_exit *x)
{
	x->next_in = NULL;
	set_page(x, 0);
	set_rel32(x->rel32, x->stub);
}

void
jit_chain(struct soft_code *c, struct jit_exit *x, struct jit_unit *to)
{
	struct jit *j = c->jit;
	if (!atomic_load(&to->valid) || !atomic_load(&x->from->valid) || x->next_in != NULL ||
	    (x->page != NULL && to->page_number == 0))
		return;
	x->next_in = to->in != NULL ? to->in : x; /* the last one points to itself */
	to->in = x;
	set_rel32(x->rel32, j->rw + (to->entry - j->rx) + (x->backward ? 0 : to->poll_len));
	set_page(x, to->page_number); /* last: now it may be gone to */
}

/* JNE rel32 becomes NOP; JMP rel32: the two bytes lie within 8 aligned ones, the displacement stays. */
static void
close_landing(uint8_t *at)
{
	typedef uint16_t __attribute__((aligned(1))) unaligned;
	*(volatile unaligned *)(void *)at = 0xe990;
}

/* The instruction at the entry becomes a jump back to the start, which leaves with the unit's own address:
 * for vCPUs that have the entry in their tables, or are about to arrive by a chained exit. */
static void
close_entry(const struct jit *j, const struct jit_unit *u)
{
	uint8_t *at = j->rw + u->start + JIT_ENTRY;
	LH_ASSERT(((uintptr_t)at & 1) == 0);
	*(volatile uint16_t *)(void *)at = (uint16_t)(0xeb | (0xfe - JIT_ENTRY) << 8); /* jmp start */
}

static void
drop_unit(struct jit *j, struct jit_unit *u)
{
	if (u->whole != NULL)
		u = u->whole; /* it stays in its own page's list: to be dropped again does nothing */
	struct jit_unit **link = &j->hash[hash_of(u->gpa, u->mode)];
	atomic_store(&u->valid, 0);
	while (*link != NULL && *link != u)
		link = &(*link)->hash_next;
	if (*link == u) /* readers that stand on u still find the rest of the chain through it */
		__atomic_store_n(link, u->hash_next, __ATOMIC_RELEASE);
	__atomic_store_n(&u->entry, jit_rx(j, j->c.stale), __ATOMIC_RELEASE);
	close_entry(j, u);
	for (struct jit_exit *x = u->in, *next; x != NULL; x = next) {
		next = x->next_in == x ? NULL : x->next_in;
		unchain(x);
	}
	u->in = NULL;
	for (unsigned n = 0; n < u->nland; n++)
		close_landing(j->rw + u->land[n]);
}

bool
soft_jit_written(struct jit *j, struct code_page *p, uint64_t gpa, uint64_t len)
{
	struct jit_unit **link = &p->units, *u;
	bool hit = false;
	while (j != NULL && (u = *link) != NULL) {
		if (u->gpa < gpa + len && gpa < u->gpa + u->bytes) {
			*link = u->page_next;
			drop_unit(j, u);
			hit = true;
		} else {
			link = &u->page_next;
		}
	}
	return hit;
}

void
soft_jit_drop_page(struct jit *j, struct code_page *p)
{
	for (struct jit_unit *u = p->units; u != NULL; u = u->page_next)
		drop_unit(j, u);
	p->units = NULL;
}

struct jit_unit *
soft_jit_unit_of(struct soft_code *c, const uint8_t *pc)
{
	struct jit *j = c->jit;
	uint32_t at = (uint32_t)(pc - j->rx);
	size_t g = at / j->generation_bytes, lo = 0, hi;
	struct jit_unit **units = j->by_addr + g * j->room;
	if (g >= CODE_GENERATIONS)
		return NULL;
	hi = j->nunits[g];
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (units[mid]->start <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo > 0 && at < units[lo - 1]->end ? units[lo - 1] : NULL;
}

/* ---- generations ---- */
/* The exits that are chained to a unit: without those of a generation, when it stays; else those of other
 * generations go back to their stubs. */
static void
cut_exits(const struct soft_code *c, unsigned generation, struct jit_unit *u, bool stays)
{
	struct jit_exit *kept = NULL;
	for (struct jit_exit *x = u->in, *next; x != NULL; x = next) {
		next = x->next_in == x ? NULL : x->next_in;
		if (soft_code_in(c, generation, x))
			continue;
		if (stays) {
			x->next_in = kept != NULL ? kept : x;
			kept = x;
		} else {
			unchain(x);
		}
	}
	u->in = kept;
}

void
soft_jit_cut_page(struct soft_code *c, unsigned generation, struct code_page *p)
{
	struct jit_unit **link = &p->units, *u;
	while ((u = *link) != NULL) {
		bool stays = !soft_code_in(c, generation, u);
		cut_exits(c, generation, u, stays);
		if (stays)
			link = &u->page_next;
		else
			*link = u->page_next;
	}
}

static void
add_runs(const struct jit *j, unsigned generation, struct jit_runs *r)
{
	for (size_t n = 0; n < j->nunits[generation]; n++) {
		const struct jit_unit *u = j->by_addr[generation * j->room + n];
		uint64_t entered = __atomic_load_n(&u->entered, __ATOMIC_RELAXED);
		r->units += entered;
		r->insns += entered * u->insns;
		r->accesses += entered * u->accesses;
	}
}

struct jit_runs
soft_jit_runs(const struct jit *j)
{
	struct jit_runs r = j->gone;
	for (unsigned g = 0; g < CODE_GENERATIONS; g++)
		add_runs(j, g, &r);
	return r;
}

void
soft_jit_forget(struct soft_code *c, unsigned generation)
{
	struct jit *j = c->jit;
	for (unsigned h = 0; j != NULL && h < 1u << HASH_BITS; h++) {
		struct jit_unit *first = NULL, **link = &first;
		for (struct jit_unit *u = j->hash[h]; u != NULL; u = u->hash_next) {
			if (soft_code_in(c, generation, u))
				continue;
			*link = u;
			link = &u->hash_next;
		}
		*link = NULL;
		j->hash[h] = first;
	}
	if (j == NULL)
		return;
	add_runs(j, generation, &j->gone);
	j->nunits[generation] = 0;
	size_t begin = generation * j->generation_bytes;
	size_t keep = generation == 0 ? align_up(j->common_end, 4096) : 0;
	madvise(j->rw + begin + keep, j->generation_bytes - keep, MADV_REMOVE);
}

void
soft_jit_fill(struct jit *j, unsigned generation)
{
	if (j == NULL)
		return;
	size_t begin = generation * j->generation_bytes, half = j->generation_bytes / 2 & ~63ull;
	j->generation = generation;
	j->used = generation == 0 ? j->common_end : begin;
	j->limit = j->cold_begin = j->cold_used = begin + half;
	j->cold_limit = begin + j->generation_bytes;
	j->large = align_up(j->used, LARGE);
}

uint64_t
soft_jit_bytes(const struct jit *j)
{
	uint64_t full = 0;
	for (unsigned g = 0; j != NULL && g < CODE_GENERATIONS; g++)
		full += g != j->generation && j->nunits[g] != 0 ? j->generation_bytes : 0;
	return j == NULL
		   ? 0
		   : full + j->used - j->generation * j->generation_bytes + j->cold_used - j->cold_begin;
}
