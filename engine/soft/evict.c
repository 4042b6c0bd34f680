/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Room for decoded blocks and translated units, and what is forgotten when there is none left.
 *
 * The arena (blocks, units and what goes with them) and the memory for host code (jit_cache.c) are divided
 * into generations, filled one after the other. When the last one is full, the oldest is forgotten as a
 * whole, in both, and filled anew: what was made last stays, and so does what is made of it. Whatever in the
 * other generations names something in that one is found and cut: chains of the tables, lists of pages,
 * successors that branches remember, exits chained into it. All vCPUs stand between blocks meanwhile; their
 * own tables are emptied by jc_gen, and with them their return stacks.
 *
 * The stubs' pool has no generations: when it is full, all is forgotten.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "engine/soft/code.h"
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"
#include "engine/soft/stub.h"

int
soft_arena_create(struct soft_code *c, uint64_t bytes)
{
	c->generation_bytes = align_up(bytes / CODE_GENERATIONS, 4096);
	c->arena = mmap(NULL, CODE_GENERATIONS * c->generation_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->arena != MAP_FAILED)
		return 0;
	c->arena = NULL;
	return -1;
}

void
soft_arena_destroy(struct soft_code *c)
{
	if (c->arena != NULL)
		munmap(c->arena, CODE_GENERATIONS * c->generation_bytes);
}

uint64_t
soft_arena_used(const struct soft_code *c)
{
	uint64_t n = 0;
	for (unsigned g = 0; g < CODE_GENERATIONS; g++)
		n += c->used[g];
	return n;
}

static uint8_t *
arena_of(const struct soft_code *c, unsigned generation)
{
	return c->arena + generation * c->generation_bytes;
}

void *
soft_code_alloc(struct soft_code *c, size_t bytes)
{
	size_t *used = &c->used[c->generation];
	bytes = align_up(bytes, 16);
	if (*used + bytes > c->generation_bytes) {
		c->full = true;
		return NULL;
	}
	*used += bytes;
	return arena_of(c, c->generation) + *used - bytes;
}

void
soft_code_want_flush(struct soft_cpu *cpu)
{
	cpu->want_flush = 1;
	longjmp(cpu->jb, LEAVE_BLOCK); /* cpu->rip is set: look it up again after the flush */
}

bool
soft_code_in(const struct soft_code *c, unsigned generation, const void *p)
{
	return (uintptr_t)p - (uintptr_t)arena_of(c, generation) < c->generation_bytes;
}

/* A surviving block, without what it remembers of the generation. */
static void
cut_successors(const struct soft_code *c, unsigned generation, struct soft_block *b)
{
	for (unsigned n = 0; n <= b->count; n++) {
		for (unsigned slot = 0; slot < 2;
		     slot++) { /* what else lies there is never an address in the arena */
			if (soft_code_in(c, generation, b->insn[n].link[slot]))
				b->insn[n].link[slot] = NULL;
		}
	}
}

/* The table of blocks, without those of the generation. */
static void
cut_table(struct soft_code *c, unsigned generation)
{
	for (unsigned h = 0; h < 1u << CODE_HASH_BITS; h++) {
		struct soft_block *first = NULL, **link = &first;
		for (struct soft_block *b = atomic_load(&c->hash[h]); b != NULL; b = b->hash_next) {
			if (soft_code_in(c, generation, b))
				continue;
			cut_successors(c, generation, b);
			*link = b;
			link = &b->hash_next;
		}
		*link = NULL;
		atomic_store(&c->hash[h], first);
	}
}

/* A page's lists, without what is of the generation. A page without code may be written freely. */
static void
cut_page(struct soft_code *c, unsigned generation, uint64_t n)
{
	struct code_page *p = c->pages[n];
	struct soft_block **link = &p->blocks;
	while (*link != NULL) {
		if (soft_code_in(c, generation, *link))
			*link = (*link)->page_next;
		else
			link = &(*link)->page_next;
	}
	soft_jit_cut_page(c, generation, p);
	if (p->blocks == NULL && p->units == NULL) {
		p->seq++;
		p->made = 0;
		atomic_store(&c->marked[n], 0);
	}
}

/* Forget what is in a generation. The lock is held, and all vCPUs stand between blocks. */
static void
forget(struct soft_vm *vm, unsigned generation)
{
	struct soft_code *c = vm->code;
	unsigned ncpus = atomic_load(&vm->ncpus);
	if (c->used[generation] == 0)
		return;
	cut_table(c, generation);
	for (uint64_t n = 0; n < c->npages; n++) {
		if (atomic_load_explicit(&c->marked[n], memory_order_relaxed))
			cut_page(c, generation, n);
	}
	soft_jit_forget(c, generation);
	for (unsigned k = 0; k < ncpus; k++)
		vm->cpus[k]->cur_block = NULL;
	madvise(arena_of(c, generation), c->used[generation], MADV_DONTNEED);
	c->used[generation] = 0;
}

/* No decoded instruction may name a stub any more: blocks are gone, and so must be single ones. */
static void
drop_stubs(struct soft_vm *vm)
{
	unsigned ncpus = atomic_load(&vm->ncpus);
	for (unsigned k = 0; k < ncpus; k++) {
		for (unsigned i = 0; i < ARRAY_LEN(vm->cpus[k]->single); i++) {
			free(vm->cpus[k]->single[i]);
			vm->cpus[k]->single[i] = NULL;
		}
	}
	soft_stub_reset(vm->stubs);
}

static void
make_room(struct soft_vm *vm)
{
	struct soft_code *c = vm->code;
	if (soft_stub_full(vm->stubs)) {
		for (unsigned g = 0; g < CODE_GENERATIONS; g++)
			forget(vm, g);
		drop_stubs(vm);
	} else if (c->full) {
		c->generation = (c->generation + 1) % CODE_GENERATIONS;
		forget(vm, c->generation);
	} else {
		return;
	}
	c->full = false;
	c->evictions++;
	soft_jit_fill(c->jit, c->generation);
}

void
soft_code_flush(struct soft_cpu *self)
{
	struct soft_vm *vm = self->vm;
	struct soft_code *c = vm->code;
	unsigned n = atomic_load(&vm->ncpus), none = 0;
	soft_vec_sync(self); /* free() */
	if (!atomic_compare_exchange_strong(&c->flusher, &none, self->id + 1))
		return; /* another one does it; our run loop will see ATTN_FLUSH */
	for (unsigned k = 0; k < n; k++) {
		if (vm->cpus[k] != self)
			soft_attn_set(vm->cpus[k], ATTN_FLUSH);
	}
	for (unsigned k = 0; k < n; k++) {
		while (vm->cpus[k] != self && atomic_load(&vm->cpus[k]->running)) {
			soft_safepoint(self);
			sched_yield();
		}
	}
	pthread_mutex_lock(&c->lock);
	make_room(vm);
	pthread_mutex_unlock(&c->lock);
	for (unsigned k = 0; k < n; k++)
		vm->cpus[k]->jc_gen++;
	atomic_store(&c->flusher, 0);
	for (unsigned k = 0; k < n; k++)
		atomic_fetch_and(&vm->cpus[k]->attn, ~(uint32_t)ATTN_FLUSH);
}

/* The other side: stand still until the flush is over. */
void
soft_flush_wait(struct soft_cpu *cpu)
{
	do { /* the next flush may begin before we are seen to run */
		atomic_store(&cpu->running, 0);
		while (atomic_load(&cpu->attn) & ATTN_FLUSH)
			sched_yield();
		atomic_store(&cpu->running, 1);
	} while (atomic_load(&cpu->attn) & ATTN_FLUSH);
}
