/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty log: KVM's bitmaps a slot, or its rings a vCPU. Both end up in one bitmap of the VM's, with a bit
 * a page of the map. What the host writes (devices, loaders) is seen by KVM in neither; the map's watcher
 * tells of it. What the interpreter writes (assist.c, helped.c) is in its own engine's log.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/util.h"
#include "mem/gpmap.h"

enum { PAGE = 4096, RING_ENTRIES = 4096, PAGE_OFFSET = KVM_DIRTY_LOG_PAGE_OFFSET };

static void
mark(struct kvm_vm *vm, uint64_t page)
{
	__atomic_fetch_or(&vm->dirty[page / 64], BIT(page % 64), __ATOMIC_RELAXED);
}

static void
mark_gpa(struct kvm_vm *vm, uint64_t gpa)
{
	const struct gm_range *r = gpmap_find(vm->cfg.mem, gpa);

	if (r != NULL)
		mark(vm, r->first_page + (gpa - r->gpa) / PAGE);
}

/* The host wrote. Any thread. */
static void
on_written(void *arg, uint64_t gpa, uint64_t len)
{
	struct kvm_vm *vm = arg;

	for (uint64_t at = gpa & ~(uint64_t)(PAGE - 1); at < gpa + len; at += PAGE)
		mark_gpa(vm, at);
}

void
kvm_dirty_watch(struct kvm_vm *vm)
{
	gpmap_set_watcher(vm->cfg.mem, vm->dirty != NULL ? on_written : NULL, vm);
}

/* ---- rings ---- */

int
kvm_dirty_init(struct kvm_vm *vm, struct err *err)
{
	unsigned entries = MIN((unsigned)RING_ENTRIES, vm->dev.dirty_ring);
	int r;

	if (!vm->cfg.dirty_ring || entries == 0)
		return 0;
	r = kvm_enable_cap(vm->fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, entries * sizeof(struct kvm_dirty_gfn));
	if (r != 0)
		return err_set(err, -r, "kvm: dirty rings: %s", strerror(-r));
	vm->ring_entries = entries;
	return 0;
}

int
kvm_dirty_vcpu(struct kvm_cpu *c, struct err *err)
{
	size_t bytes = c->vm->ring_entries * sizeof(struct kvm_dirty_gfn);
	void *p;

	if (bytes == 0)
		return 0;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, (off_t)PAGE_OFFSET * PAGE);
	if (p == MAP_FAILED)
		return err_set(err, errno, "kvm: vCPU %u: dirty ring: %s", c->id, strerror(errno));
	c->ring = p;
	return 0;
}

void
kvm_dirty_vcpu_end(struct kvm_cpu *c)
{
	if (c->ring != NULL)
		munmap(c->ring, c->vm->ring_entries * sizeof(struct kvm_dirty_gfn));
	c->ring = NULL;
}

static void
collect(struct kvm_cpu *c)
{
	for (;;) {
		struct kvm_dirty_gfn *g = &c->ring[c->ring_next % c->vm->ring_entries];
		unsigned slot = g->slot & 0xffff;

		if (!(__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			return;
		if (c->vm->dirty != NULL && slot < c->vm->slots)
			mark(c->vm, gpmap_get(c->vm->cfg.mem, slot)->first_page + g->offset);
		__atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		c->ring_next++;
	}
}

void
kvm_dirty_drain(struct kvm_cpu *c)
{
	pthread_mutex_lock(&c->vm->lock);
	if (c->ring != NULL)
		collect(c);
	(void)kvm_ioctl_n(c->vm->fd, KVM_RESET_DIRTY_RINGS, 0);
	pthread_mutex_unlock(&c->vm->lock);
}

static void
collect_rings(struct kvm_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	for (unsigned n = 0; n < vm->cfg.maxcpus; n++) {
		if (vm->cpus[n] != NULL && vm->cpus[n]->ring != NULL)
			collect(vm->cpus[n]);
	}
	(void)kvm_ioctl_n(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
	pthread_mutex_unlock(&vm->lock);
}

/* ---- bitmaps ---- */

static int
collect_slot(struct kvm_vm *vm, unsigned slot, uint64_t *words)
{
	const struct gm_range *r = gpmap_get(vm->cfg.mem, slot);
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = words};
	int ret = kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);

	for (uint64_t p = 0; ret == 0 && p < r->len / PAGE; p++) {
		if (words[p / 64] >> (p % 64) & 1)
			mark(vm, r->first_page + p);
	}
	return ret;
}

static int
collect_bitmaps(struct kvm_vm *vm)
{
	int r = 0;

	for (unsigned slot = 0; r == 0 && slot < vm->slots; slot++) {
		const struct gm_range *g = gpmap_get(vm->cfg.mem, slot);
		uint64_t *words;

		if (g->kind != GM_RAM)
			continue;
		words = calloc((g->len / PAGE + 63) / 64, sizeof(*words));
		if (words == NULL)
			return -ENOMEM;
		r = collect_slot(vm, slot, words);
		free(words);
	}
	return r;
}

/* ---- the engine's calls ---- */

static int
set_logging(struct kvm_vm *vm, bool on)
{
	int r = 0;

	for (unsigned n = 0; r == 0 && n < vm->slots; n++)
		r = kvm_set_slot(vm, n, gpmap_get(vm->cfg.mem, n), on);
	vm->logging = r == 0 && on;
	return r;
}

int
kvm_dirty_start(struct engine_vm *v, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	uint64_t pages = gpmap_pages(vm->cfg.mem);
	int r;

	vm->dirty = calloc((pages + 63) / 64, sizeof(*vm->dirty));
	if (vm->dirty == NULL)
		return err_set(err, ENOMEM, "kvm: dirty log: no memory");
	kvm_dirty_watch(vm);
	r = set_logging(vm, true);
	if (r == 0 && vm->soft != NULL && engine_soft.dirty_start(vm->soft, err) != 0)
		r = -err->code;
	if (r == 0)
		return 0;
	kvm_dirty_stop(v);
	return err_set(err, -r, "kvm: dirty log: %s", strerror(-r));
}

int
kvm_dirty_fetch(struct engine_vm *v, uint64_t gpa, uint8_t *bitmap, size_t bytes, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int r = 0;

	if (vm->ring_entries != 0)
		collect_rings(vm);
	else
		r = collect_bitmaps(vm);
	if (r != 0)
		return err_set(err, -r, "kvm: KVM_GET_DIRTY_LOG: %s", strerror(-r));
	if (vm->soft != NULL && engine_soft.dirty_fetch(vm->soft, gpa, bitmap, bytes, err) != 0)
		return -err->code;
	for (uint64_t n = 0; n < bytes * 8; n++) {
		const struct gm_range *g = gpmap_find(vm->cfg.mem, gpa + n * PAGE);
		uint64_t page, bit;

		if (g == NULL)
			continue;
		page = g->first_page + (gpa + n * PAGE - g->gpa) / PAGE;
		bit = BIT(page % 64);
		if (__atomic_fetch_and(&vm->dirty[page / 64], ~bit, __ATOMIC_RELAXED) & bit)
			bitmap[n / 8] |= (uint8_t)(1u << (n % 8));
	}
	return 0;
}

void
kvm_dirty_stop(struct engine_vm *v)
{
	struct kvm_vm *vm = kvm_vm_of(v);

	(void)set_logging(vm, false);
	if (vm->soft != NULL)
		engine_soft.dirty_stop(vm->soft);
	free(vm->dirty);
	vm->dirty = NULL;
	kvm_dirty_watch(vm);
}
