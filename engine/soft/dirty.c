/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty log: a bit a page of the map. While it runs, a TLB entry gets its write tag only once its page is
 * logged, and a fetch takes all write tags away again: so the first write to a page since the last fetch
 * comes through resolve_or() (mmu.c), which logs it, and the rest cost nothing. Accessed and dirty bits of
 * page tables are logged by the walk, what the host writes by the map's watcher.
 *
 * The bitmap stays until the VM goes, since watchers may be at it from any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/cpu.h"
#include "mem/gpmap.h"

static void
take_write_tags(struct soft_vm *vm)
{
	for (unsigned n = 0; n < vm->maxcpus; n++) {
		if (vm->cpus[n] != NULL)
			soft_tlb_wprotect(vm->cpus[n], TLB_ALL);
	}
}

int
soft_dirty_start(struct engine_vm *evm, struct err *err)
{
	struct soft_vm *vm = (struct soft_vm *)(void *)evm;
	size_t words = (gpmap_pages(vm->mem) + 63) / 64;

	if (vm->dirty == NULL)
		vm->dirty = calloc(words, sizeof(*vm->dirty));
	if (vm->dirty == NULL)
		return err_set(err, ENOMEM, "soft engine: dirty log: no memory");
	for (size_t n = 0; n < words; n++)
		__atomic_store_n(&vm->dirty[n], 0, __ATOMIC_RELAXED);
	atomic_store(&vm->logging, true);
	take_write_tags(vm);
	return 0;
}

void
soft_dirty_stop(struct engine_vm *evm)
{
	atomic_store(&((struct soft_vm *)(void *)evm)->logging, false);
}

/* Whole words, since a bit is cleared where it is read. */
int
soft_dirty_fetch(struct engine_vm *evm, uint64_t gpa, uint8_t *bitmap, size_t bytes, struct err *err)
{
	struct soft_vm *vm = (struct soft_vm *)(void *)evm;
	bool any = false;

	(void)err;
	for (size_t i = 0; i < gpmap_count(vm->mem); i++) {
		const struct gm_range *r = gpmap_get(vm->mem, i);
		uint64_t from = MAX(gpa, r->gpa),
			 end = MIN(gpa + (uint64_t)bytes * 8 * 4096, r->gpa + r->len);

		for (uint64_t at = from; at < end; at += 4096) {
			uint64_t page = r->first_page + (at - r->gpa) / 4096, n = (at - gpa) / 4096;

			if (__atomic_load_n(&vm->dirty[page / 64], __ATOMIC_RELAXED) ==
			    0) { /* the next word */
				at += (63 - page % 64) * 4096;
				continue;
			}
			if (!(__atomic_fetch_and(&vm->dirty[page / 64], ~BIT(page % 64), __ATOMIC_ACQUIRE) &
			      BIT(page % 64)))
				continue;
			bitmap[n / 8] |= (uint8_t)(1u << (n % 8));
			any = true;
		}
	}
	if (any)
		take_write_tags(vm);
	return 0;
}

void
soft_dirty_host(struct soft_vm *vm, uint64_t gpa, uint64_t len)
{
	for (uint64_t at = gpa & ~0xfffull; at < gpa + len; at += 4096) {
		const struct gm_range *r = gpmap_find(vm->mem, at);

		if (r != NULL)
			soft_dirty_mark(vm, r, at);
	}
}
