/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A KVM with no hardware behind it runs 64-bit ring 3 on the processor, and emulates the rest one instruction
 * at a time, in part, and slower than the interpreter does. There the soft vCPU holds the state and
 * interprets; KVM gets the guest for bursts of what it is good at.
 *
 * In such a burst KVM's IDT is empty: whatever is not plain code of ring 3 ends in a triple fault, with the
 * state as it was before the instruction, which the interpreter then runs as it should be. SYSCALL does not
 * fault but jumps to LSTAR (and leaves CS as it was): LSTAR is where no ring 3 can run, and from there the
 * instruction is taken back, since RCX and R11 say what was before.
 *
 * KVM keeps shadow page tables, and follows the guest's by write-protecting them. What the interpreter writes
 * it does not see: when the guest made the processor forget translations, so must KVM. It forgets all when a
 * memory slot goes.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "engine/soft/soft.h"

enum { PIECE = 1000, SPARE_GPA = 0xfeffb000u, SYSCALL_BYTES = 2, MSR_LSTAR = 0xc0000082u };

#define LSTAR_TRAP 0xfffffffffffff000ull
#define LENT_CR4                                                                                             \
	(CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_LA57 | \
	 CR4_FSGSBASE | CR4_OSXSAVE | CR4_PKE)

static int
set_lstar(struct kvm_cpu *c)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} b = {.head = {.nmsrs = 1}, .entry = {.index = MSR_LSTAR, .data = LSTAR_TRAP}};

	return kvm_ioctl(c->fd, KVM_SET_MSRS, &b) == 1 ? 0 : -EIO;
}

int
kvm_helped_init(struct kvm_cpu *c, struct err *err)
{
	int r = kvm_assist_init(c, err);

	if (r != 0)
		return r;
	c->assist.open = true;
	r = set_lstar(c);
	return r == 0 ? 0 : err_set(err, -r, "kvm: vCPU %u: LSTAR: %s", c->id, strerror(-r));
}

/* KVM gives this guest the host's TSC: so must the interpreter. The clock's offset changes with each start.
 */
static void
pin_tsc(struct kvm_cpu *c)
{
	struct x86_state *s = c->assist.state;
	uint64_t offset = vm_clock_tsc_offset(c->vm->cfg.clock);
	struct err err = {0};

	if (!vm_clock_tsc_is_host(c->vm->cfg.clock) || (c->tsc_known && c->tsc_offset == offset))
		return;
	engine_soft.get_state(c->assist.soft, X86_STATE_MSR, s);
	s->msr.tsc_adjust = 0 - offset;
	if (engine_soft.set_state(c->assist.soft, X86_STATE_MSR, s, &err) != 0)
		log_error("kvm: vCPU %u: %s", c->id, err.msg);
	c->tsc_offset = offset;
	c->tsc_known = true;
}

/* 64-bit ring 3 with nothing that waits and nothing that traps. */
static bool
is_native(struct kvm_cpu *c)
{
	struct x86_state *s = c->assist.state;

	engine_soft.get_state(c->assist.soft, X86_STATE_SEG | X86_STATE_CR | X86_STATE_GPR | X86_STATE_EVENT,
			      s);
	return (s->cr0 & CR0_PG) && (s->seg[X86_CS].attr & SEG_L) &&
	       (s->seg[X86_SS].attr & SEG_DPL) == SEG_DPL && !(s->rflags & (FL_TF | FL_RF)) &&
	       !(s->dr[7] & 0xff) && s->shadow == 0 && s->pending_db == 0 && s->nmi_pending == 0 &&
	       !s->intr_pending && s->activity == ACT_RUNNING;
}

static int
forget_shadow(struct kvm_cpu *c)
{
	struct kvm_vm *vm = c->vm;
	struct kvm_userspace_memory_region k = {.slot = vm->slots,
						.guest_phys_addr = SPARE_GPA,
						.memory_size = 4096,
						.userspace_addr = (uint64_t)(uintptr_t)vm->spare};
	uint64_t flushes = soft_vcpu_flushes(c->assist.soft);
	int r;

	if (flushes == c->assist.flushes)
		return 0;
	c->assist.flushes = flushes;
	c->ctr.forgotten++;
	pthread_mutex_lock(&vm->lock);
	r = kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k);
	k.memory_size = 0;
	if (r == 0)
		r = kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* What ring 3 can see and change: registers, bases of FS and GS, vectors. The rest goes as it is. */
static int
lend(struct kvm_cpu *c, struct err *err)
{
	struct x86_state *s = c->assist.state;
	int r;

	engine_soft.get_state(c->assist.soft, X86_STATE_ALL, s);
	s->idtr.limit = 0;
	s->cr8 = 0;
	s->cr4 &= LENT_CR4; /* the rest means nothing to ring 3, and not every KVM takes it */
	s->cr3 &= ~0xfffull;
	r = kvm_store_system(c, s);
	if (r != 0)
		return err_set(err, -r, "KVM_SET_SREGS: %s", strerror(-r));
	r = kvm_store(c, X86_STATE_GPR | X86_STATE_EVENT | X86_STATE_XSAVE, s, err);
	if (r == 0) {
		r = forget_shadow(c);
		if (r != 0)
			(void)err_set(err, -r, "no spare memory slot: %s", strerror(-r));
	}
	return r;
}

static int
take_back(struct kvm_cpu *c, struct err *err)
{
	static const enum x86_seg based[] = {X86_FS, X86_GS};
	struct x86_state *s = c->assist.state, own;
	int r = kvm_fetch(c, X86_STATE_SEG | X86_STATE_GPR | X86_STATE_XSAVE, s);

	if (r != 0)
		return err_set(err, -r, "%s", strerror(-r));
	if (s->rip == LSTAR_TRAP) {
		s->rip = s->gpr[X86_RCX] - SYSCALL_BYTES;
		s->rflags = s->gpr[X86_R11];
	}
	engine_soft.get_state(c->assist.soft, X86_STATE_SEG, &own);
	for (size_t n = 0; n < ARRAY_LEN(based); n++) {
		own.seg[based[n]].base = s->seg[based[n]].base;
		own.seg[based[n]].sel = s->seg[based[n]].sel;
		own.seg[based[n]].attr = s->seg[based[n]].attr;
		own.seg[based[n]].limit = s->seg[based[n]].limit;
	}
	memcpy(s->seg, own.seg, sizeof(s->seg));
	s->gdtr = own.gdtr;
	s->idtr = own.idtr;
	return engine_soft.set_state(c->assist.soft, X86_STATE_SEG | X86_STATE_GPR | X86_STATE_XSAVE, s, err);
}

/* A burst on the processor. True: *x holds an exit. */
static bool
run_native(struct kvm_cpu *c, struct vm_exit *x)
{
	const struct kvm_run *k = c->run;
	struct err err = {0};
	bool write;
	int r;

	if (lend(c, &err) != 0)
		goto fail;
	c->ctr.native++;
	do
		r = kvm_enter(c);
	while ((r == -EINTR || r == -EAGAIN) && !atomic_load(&c->kicked));
	write = r == 0 && k->exit_reason == KVM_EXIT_MMIO && k->mmio.is_write;
	if (r != 0 && r != -EINTR && r != -EAGAIN) {
		err_set(&err, -r, "KVM_RUN: %s", strerror(-r));
		goto fail;
	}
	if (take_back(c, &err) != 0)
		goto fail;
	if (write) { /* all else runs again; a write is done but for the device's part */
		x->kind = VM_EXIT_MMIO;
		x->u.mmio.gpa = k->mmio.phys_addr;
		x->u.mmio.size = (uint8_t)MIN(k->mmio.len, 8u);
		x->u.mmio.write = true;
		x->u.mmio.data = 0;
		memcpy(&x->u.mmio.data, k->mmio.data, x->u.mmio.size);
	}
	if (r == 0 && (k->exit_reason == KVM_EXIT_MMIO || k->exit_reason == KVM_EXIT_IO)) {
		c->open = OPEN_MMIO;
		kvm_settle(c);
	}
	return write;
fail:
	x->kind = VM_EXIT_UNSUPPORTED;
	snprintf(x->u.why, sizeof(x->u.why), "kvm: vcpu %u: %.150s", c->id, err.msg);
	return true;
}

void
kvm_helped_run(struct kvm_cpu *c, struct vm_exit *x)
{
	pin_tsc(c);
	for (;;) {
		unsigned n = atomic_load(&c->kicked) ? 1 : PIECE; /* a kick lets the instruction end */

		c->ctr.assisted += n;
		if (soft_vcpu_step(c->assist.soft, n, x) != 0) {
			if (x->kind == VM_EXIT_CR8)
				c->run->cr8 = c->cr8 = x->u.cr8 & 15;
			return;
		}
		if (soft_vcpu_open(c->assist.soft))
			continue;
		if (kvm_take_kick(c)) {
			x->kind = VM_EXIT_INTR;
			return;
		}
		if (is_native(c) && run_native(c, x))
			return;
	}
}
