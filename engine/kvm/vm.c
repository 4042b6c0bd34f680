/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM of KVM's: its memory slots, one a range of the guest-physical map, and its switches. */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/util.h"
#include "engine/kvm/kvm.h"
#include "mem/gpmap.h"

/* Three pages that Intel's processors without unrestricted guests need; above RAM and devices, below 4 GiB.
 */
enum { TSS_GPA = 0xfeffd000u, IDENTITY_MAP_GPA = 0xfeffc000u };

/* ---- memory ---- */

int
kvm_set_slot(struct kvm_vm *vm, unsigned slot, const struct gm_range *r, bool log)
{
	struct kvm_userspace_memory_region k = {
	    .slot = slot,
	    .guest_phys_addr = r->gpa,
	    .memory_size = r->len,
	    .userspace_addr = (uint64_t)(uintptr_t)r->hva,
	    .flags = r->kind == GM_ROM ? KVM_MEM_READONLY
		     : log	       ? KVM_MEM_LOG_DIRTY_PAGES
				       : 0,
	};

	return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k);
}

static int
map_memory(struct kvm_vm *vm, struct err *err)
{
	const struct gpmap *mem = vm->cfg.mem;
	size_t count = gpmap_count(mem);

	if (count > vm->dev.slots)
		return err_set(err, ENOSPC,
			       "kvm: %zu ranges of guest memory, and this host's KVM has %u slots", count,
			       vm->dev.slots);
	for (unsigned n = 0; n < count; n++) {
		const struct gm_range *r = gpmap_get(mem, n);
		int ret = kvm_set_slot(vm, n, r, false);

		if (ret != 0)
			return err_set(err, -ret, "kvm: memory slot %u, %#llx+%#llx: %s%s", n,
				       (unsigned long long)r->gpa, (unsigned long long)r->len, strerror(-ret),
				       ret == -ENOMEM ? " (the host is short of memory)" : "");
		vm->slots = n + 1;
	}
	return 0;
}

/* ---- switches ---- */

/* Old behaviour that a processor does not show. CD=1 keeps its quirk: firmware runs with it for long. */
enum {
	QUIRKS_OFF =
	    KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_FIX_HYPERCALL_INSN
};

static int
set_switches(struct kvm_vm *vm, struct err *err)
{
	uint64_t identity = IDENTITY_MAP_GPA;
	const struct {
		bool wanted;
		unsigned cap;
		unsigned long arg;
	} cap[] = {
	    {vm->dev.payload, KVM_CAP_EXCEPTION_PAYLOAD, 1},
	    {vm->dev.emulation_exit, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1},
	    {vm->dev.pmu && !vm->cfg.pmu, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE},
	    {vm->dev.quirks != 0, KVM_CAP_DISABLE_QUIRKS2, vm->dev.quirks & QUIRKS_OFF},
	};

	for (size_t n = 0; n < ARRAY_LEN(cap); n++) {
		int r = cap[n].wanted ? kvm_enable_cap(vm->fd, cap[n].cap, cap[n].arg) : 0;

		if (r != 0)
			return err_set(err, -r, "kvm: capability %u: %s", cap[n].cap, strerror(-r));
	}
	/* Intel only; elsewhere they are taken and not used. */
	(void)kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	(void)kvm_ioctl_n(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA);
	return kvm_msr_filter(vm, err);
}

/* How large the image of the vector state is. */
static int
read_xsave_size(struct kvm_vm *vm, struct err *err)
{
	int bytes = kvm_ioctl_n(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	kvm_xstate_init(vm);
	vm->xsave_bytes = MAX((unsigned)MAX(bytes, 0), (unsigned)sizeof(struct kvm_xsave));
	if (vm->xsave_bytes > 64 * KIB)
		return err_set(err, ENOTSUP, "kvm: state of %u bytes", vm->xsave_bytes);
	return 0;
}

/* ---- life ---- */

void
kvm_vm_destroy(struct engine_vm *v)
{
	struct kvm_vm *vm = kvm_vm_of(v);

	kvm_examine_end();
	if (vm == NULL)
		return;
	if (vm->soft != NULL)
		engine_soft.vm_destroy(vm->soft);
	if (vm->dirty != NULL)
		kvm_dirty_stop(v);
	for (unsigned n = 0; vm->parked != NULL && n < vm->cfg.maxcpus; n++) {
		if (vm->parked[n] != 0)
			close(vm->parked[n] - 1);
	}
	if (vm->fd >= 0)
		close(vm->fd);
	kvm_dev_close(&vm->dev);
	pthread_mutex_destroy(&vm->lock);
	pthread_mutex_destroy(&vm->routes.lock);
	kvm_routes_destroy(vm);
	free(vm->spare);
	free(vm->cpus);
	free(vm->parked);
	free(vm);
}

/* The helper needs the APICs in the caller: who wants them in KVM by name does without it. */
static bool
asked_for_apic(const struct kvm_vm *vm)
{
	return vm->cfg.apic == ENGINE_APIC_SPLIT || vm->cfg.apic == ENGINE_APIC_KERNEL;
}

/* INT n is what no KVM without hardware does; the other parts need not be run where it is missing. */
static int
look_for_hardware(struct kvm_vm *vm, struct err *err)
{
	int r = kvm_examine_int(err);

	if (r <= 0)
		return r;
	vm->broken = r;
	/* A trace is to show what KVM does, as far as it can. */
	vm->no_hardware = vm->cfg.trace.path == NULL && !asked_for_apic(vm);
	vm->spare = vm->no_hardware ? aligned_alloc(4096, 4096) : NULL;
	return vm->no_hardware && vm->spare == NULL ? err_set(err, ENOMEM, "kvm: no memory") : 0;
}

static int
set_up(struct kvm_vm *vm, struct err *err)
{
	int r = kvm_dev_open(&vm->dev, err);

	if (r != 0)
		return r;
	vm->fd = kvm_dev_create_vm(&vm->dev, err);
	if (vm->fd < 0)
		return vm->fd;
	r = read_xsave_size(vm, err);
	if (r == 0 && kvm_cpuid_suspicious())
		r = look_for_hardware(vm, err);
	if (r == 0)
		r = kvm_irqchip_init(vm, err);
	if (r == 0)
		r = set_switches(vm, err);
	if (r == 0)
		r = kvm_dirty_init(vm, err);
	return r != 0 ? r : map_memory(vm, err);
}

struct engine_vm *
kvm_vm_create(const struct engine_vm_cfg *cfg, struct err *err)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));

	if (vm == NULL) {
		err_set(err, ENOMEM, "kvm: no memory");
		return NULL;
	}
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->routes.lock, NULL);
	vm->fd = vm->dev.fd = -1;
	vm->cfg = *cfg;
	vm->broken = -1;
	vm->cpus = calloc(cfg->maxcpus, sizeof(struct kvm_cpu *));
	vm->parked = calloc(cfg->maxcpus, sizeof(int));
	if (vm->cpus == NULL || vm->parked == NULL)
		err_set(err, ENOMEM, "kvm: no memory");
	else if (set_up(vm, err) == 0)
		return (struct engine_vm *)(void *)vm;
	kvm_vm_destroy((struct engine_vm *)(void *)vm);
	return NULL;
}
