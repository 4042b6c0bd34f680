/* SPDX-License-Identifier: BSD-2-Clause */
/* Between KVM's structures and the canonical state. Errors of KVM_GET_* can only be bugs of ours or a dead
 * host. */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"

/* ---- general registers ---- */

static void
regs_out(const struct kvm_regs *r, struct x86_state *s)
{
	const uint64_t gpr[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
				  r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};

	memcpy(s->gpr, gpr, sizeof(gpr));
	s->rip = r->rip;
	s->rflags = r->rflags;
}

static void
regs_in(struct kvm_regs *r, const struct x86_state *s)
{
	*r = (struct kvm_regs){
	    .rax = s->gpr[X86_RAX],
	    .rcx = s->gpr[X86_RCX],
	    .rdx = s->gpr[X86_RDX],
	    .rbx = s->gpr[X86_RBX],
	    .rsp = s->gpr[X86_RSP],
	    .rbp = s->gpr[X86_RBP],
	    .rsi = s->gpr[X86_RSI],
	    .rdi = s->gpr[X86_RDI],
	    .r8 = s->gpr[X86_R8],
	    .r9 = s->gpr[X86_R9],
	    .r10 = s->gpr[X86_R10],
	    .r11 = s->gpr[X86_R11],
	    .r12 = s->gpr[X86_R12],
	    .r13 = s->gpr[X86_R13],
	    .r14 = s->gpr[X86_R14],
	    .r15 = s->gpr[X86_R15],
	    .rip = s->rip,
	    .rflags = s->rflags | FL_1,
	};
}

/* ---- segments, control registers ---- */

static struct x86_segment
segment_out(const struct kvm_segment *k)
{
	uint32_t attr = (k->type & SEG_TYPE) | (k->s ? SEG_S : 0) | (uint32_t)(k->dpl & 3) << SEG_DPL_SHIFT |
			(k->present ? SEG_P : 0) | (k->avl ? SEG_AVL : 0) | (k->l ? SEG_L : 0) |
			(k->db ? SEG_DB : 0) | (k->g ? SEG_G : 0) | (k->unusable ? SEG_UNUSABLE : 0);

	return (struct x86_segment){.sel = k->selector, .attr = attr, .limit = k->limit, .base = k->base};
}

static struct kvm_segment
segment_in(const struct x86_segment *s)
{
	return (struct kvm_segment){
	    .base = s->base,
	    .limit = s->limit,
	    .selector = s->sel,
	    .type = s->attr & SEG_TYPE,
	    .s = (s->attr & SEG_S) != 0,
	    .dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT,
	    .present = (s->attr & SEG_P) != 0,
	    .avl = (s->attr & SEG_AVL) != 0,
	    .l = (s->attr & SEG_L) != 0,
	    .db = (s->attr & SEG_DB) != 0,
	    .g = (s->attr & SEG_G) != 0,
	    .unusable = (s->attr & SEG_UNUSABLE) != 0,
	};
}

/* struct kvm_sregs2 begins as struct kvm_sregs does, up to apic_base. */
static const struct {
	enum x86_seg seg;
	size_t off;
} segments[] = {
    {X86_CS, offsetof(struct kvm_sregs2, cs)}, {X86_DS, offsetof(struct kvm_sregs2, ds)},
    {X86_ES, offsetof(struct kvm_sregs2, es)}, {X86_FS, offsetof(struct kvm_sregs2, fs)},
    {X86_GS, offsetof(struct kvm_sregs2, gs)}, {X86_SS, offsetof(struct kvm_sregs2, ss)},
    {X86_TR, offsetof(struct kvm_sregs2, tr)}, {X86_LDTR, offsetof(struct kvm_sregs2, ldt)},
};
enum { SREGS_COMMON = offsetof(struct kvm_sregs, interrupt_bitmap) };
_Static_assert(SREGS_COMMON == offsetof(struct kvm_sregs2, flags),
	       "struct kvm_sregs2 extends struct kvm_sregs");

int
kvm_sregs_get(struct kvm_cpu *c, struct kvm_sregs2 *k)
{
	struct kvm_sregs old;
	int r;

	if (c->vm->dev.sregs2)
		return kvm_ioctl(c->fd, KVM_GET_SREGS2, k);
	memset(k, 0, sizeof(*k));
	r = kvm_ioctl(c->fd, KVM_GET_SREGS, &old);
	memcpy(k, &old, SREGS_COMMON);
	return r;
}

int
kvm_sregs_set(struct kvm_cpu *c, const struct kvm_sregs2 *k)
{
	struct kvm_sregs old = {0};

	if (c->vm->dev.sregs2)
		return kvm_ioctl(c->fd, KVM_SET_SREGS2, (void *)(uintptr_t)k);
	memcpy(&old, k, SREGS_COMMON);
	return kvm_ioctl(c->fd, KVM_SET_SREGS, &old);
}

static void
segments_out(const struct kvm_sregs2 *k, struct x86_state *s)
{
	for (size_t n = 0; n < ARRAY_LEN(segments); n++)
		s->seg[segments[n].seg] = segment_out(
		    (const struct kvm_segment *)(const void *)((const char *)k + segments[n].off));
	s->gdtr = (struct x86_dtable){.base = k->gdt.base, .limit = k->gdt.limit};
	s->idtr = (struct x86_dtable){.base = k->idt.base, .limit = k->idt.limit};
}

static void
segments_in(struct kvm_sregs2 *k, const struct x86_state *s)
{
	for (size_t n = 0; n < ARRAY_LEN(segments); n++)
		*(struct kvm_segment *)(void *)((char *)k + segments[n].off) =
		    segment_in(&s->seg[segments[n].seg]);
	k->gdt = (struct kvm_dtable){.base = s->gdtr.base, .limit = s->gdtr.limit};
	k->idt = (struct kvm_dtable){.base = s->idtr.base, .limit = s->idtr.limit};
}

static bool
pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static void
controls_out(const struct kvm_cpu *c, const struct kvm_sregs2 *k, struct x86_state *s)
{
	s->cr0 = k->cr0;
	s->cr2 = k->cr2;
	s->cr3 = k->cr3;
	s->cr4 = k->cr4;
	s->cr8 = kvm_has_apic(c->vm) ? k->cr8 : c->cr8;
	memset(s->pdpte, 0, sizeof(s->pdpte));
	if ((k->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) && pae_paging(k->cr0, k->cr4, k->efer))
		memcpy(s->pdpte, k->pdptrs, sizeof(s->pdpte));
}

static void
controls_in(struct kvm_sregs2 *k, const struct x86_state *s, uint64_t efer)
{
	k->cr0 = s->cr0;
	k->cr2 = s->cr2;
	k->cr3 = s->cr3;
	k->cr4 = s->cr4;
	k->cr8 = s->cr8;
	k->flags = 0;
	if (pae_paging(s->cr0, s->cr4, efer)) {
		k->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
		memcpy(k->pdptrs, s->pdpte, sizeof(k->pdptrs));
	}
}

static int
xcr0_get(struct kvm_cpu *c, uint64_t *xcr0)
{
	struct kvm_xcrs x = {0};
	int r = 0;

	*xcr0 = 1;
	if (c->vm->dev.xcrs)
		r = kvm_ioctl(c->fd, KVM_GET_XCRS, &x);
	for (unsigned n = 0; r == 0 && n < x.nr_xcrs && n < KVM_MAX_XCRS; n++) {
		if (x.xcrs[n].xcr == 0)
			*xcr0 = x.xcrs[n].value;
	}
	return r;
}

static int
xcr0_set(struct kvm_cpu *c, uint64_t xcr0)
{
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = xcr0}}};

	if (!c->vm->dev.xcrs)
		return 0;
	return kvm_ioctl(c->fd, KVM_SET_XCRS, &x);
}

static int
debug_get(struct kvm_cpu *c, struct x86_state *s)
{
	struct kvm_debugregs d;
	int r = kvm_ioctl(c->fd, KVM_GET_DEBUGREGS, &d);

	if (r != 0)
		return r;
	for (unsigned n = 0; n < 4; n++)
		s->dr[n] = d.db[n];
	s->dr[4] = s->dr[5] = 0;
	s->dr[6] = d.dr6;
	s->dr[7] = d.dr7;
	return 0;
}

static int
debug_set(struct kvm_cpu *c, const struct x86_state *s)
{
	struct kvm_debugregs d = {
	    .db = {s->dr[0], s->dr[1], s->dr[2], s->dr[3]}, .dr6 = s->dr[6], .dr7 = s->dr[7]};

	return kvm_ioctl(c->fd, KVM_SET_DEBUGREGS, &d);
}

/* ---- events ---- */

static int
events_get(struct kvm_cpu *c, struct x86_state *s)
{
	struct kvm_vcpu_events e;
	int r = kvm_ioctl(c->fd, KVM_GET_VCPU_EVENTS, &e);

	if (r != 0)
		return r;
	s->shadow = 0;
	if (e.interrupt.shadow & KVM_X86_SHADOW_INT_STI)
		s->shadow |= SHADOW_STI;
	if (e.interrupt.shadow == KVM_X86_SHADOW_INT_MOV_SS)
		s->shadow = SHADOW_MOVSS; /* AMD's processors know one kind, which KVM reports as both */
	s->nmi_blocked = e.nmi.masked;
	s->nmi_pending = (uint8_t)(e.nmi.pending + (e.nmi.injected ? 1 : 0));
	if (e.nmi.injected)
		s->nmi_blocked = 0; /* not begun yet: what was blocked by it is not */
	s->intr_pending = e.interrupt.injected && !e.interrupt.soft;
	s->intr_vector = s->intr_pending ? e.interrupt.nr : 0;
	/* Of exceptions only traps count: a fault comes again when the instruction does. */
	s->pending_db = 0;
	if (e.exception.nr == EXC_DB && (e.exception.pending || e.exception.injected) &&
	    e.exception_has_payload)
		s->pending_db = (uint32_t)e.exception_payload;
	s->activity = c->halted ? ACT_HALTED : ACT_RUNNING;
	return kvm_has_apic(c->vm) ? kvm_activity_get(c, &s->activity) : 0;
}

static int
events_set(struct kvm_cpu *c, const struct x86_state *s)
{
	struct kvm_vcpu_events e = {
	    .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	    .nmi = {.pending = s->nmi_pending, .masked = s->nmi_blocked},
	    .interrupt = {.injected = s->intr_pending, .nr = s->intr_vector},
	};
	int r;

	if (s->shadow & SHADOW_STI)
		e.interrupt.shadow |= KVM_X86_SHADOW_INT_STI;
	if (s->shadow & SHADOW_MOVSS)
		e.interrupt.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	if (c->vm->dev.payload) {
		e.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
		e.exception.nr = EXC_DB;
		e.exception.pending = s->pending_db != 0;
		e.exception_has_payload = s->pending_db != 0;
		e.exception_payload = s->pending_db;
	} else if (s->pending_db != 0) {
		e.exception.nr = EXC_DB;
		e.exception.injected = 1;
	}
	c->halted = s->activity == ACT_HALTED && !kvm_has_apic(c->vm);
	r = kvm_ioctl(c->fd, KVM_SET_VCPU_EVENTS, &e);
	return r == 0 && kvm_has_apic(c->vm) ? kvm_activity_set(c, s->activity) : r;
}

int
kvm_store_system(struct kvm_cpu *c, const struct x86_state *s)
{
	struct kvm_sregs2 k;
	int r = kvm_sregs_get(c, &k);

	if (r != 0)
		return r;
	segments_in(&k, s);
	k.efer = s->msr.efer;
	controls_in(&k, s, k.efer);
	r = kvm_sregs_set(c, &k);
	return r != 0 ? r : xcr0_set(c, s->xcr0);
}

/* KVM derives CPUID's APIC bit from this. */
int
kvm_set_apic_base(struct kvm_cpu *c, uint64_t base)
{
	struct kvm_sregs2 k;
	int r = kvm_sregs_get(c, &k);

	k.apic_base = base;
	return r != 0 ? r : kvm_sregs_set(c, &k);
}

/* ---- all of it ---- */

int
kvm_fetch(struct kvm_cpu *c, unsigned mask, struct x86_state *s)
{
	struct kvm_sregs2 k;
	struct kvm_regs regs;
	int r = 0;

	if (mask & X86_STATE_GPR) {
		r = kvm_ioctl(c->fd, KVM_GET_REGS, &regs);
		regs_out(&regs, s);
	}
	if (r == 0 && (mask & (X86_STATE_SEG | X86_STATE_CR | X86_STATE_MSR))) {
		r = kvm_sregs_get(c, &k);
		if (mask & X86_STATE_SEG)
			segments_out(&k, s);
		if (mask & X86_STATE_CR)
			controls_out(c, &k, s);
	}
	if (r == 0 && (mask & X86_STATE_CR))
		r = xcr0_get(c, &s->xcr0);
	if (r == 0 && (mask & X86_STATE_CR))
		r = debug_get(c, s);
	if (r == 0 && (mask & X86_STATE_MSR)) {
		r = kvm_msrs_fetch(c, &s->msr);
		s->msr.efer = k.efer;
	}
	if (r == 0 && (mask & X86_STATE_EVENT))
		r = events_get(c, s);
	if (r == 0 && (mask & X86_STATE_XSAVE))
		r = kvm_xstate_fetch(c, &s->xs);
	return r;
}

static int
store_sregs(struct kvm_cpu *c, unsigned mask, const struct x86_state *s)
{
	struct kvm_sregs2 k;
	int r = kvm_sregs_get(c, &k);

	if (r != 0)
		return r;
	if (mask & X86_STATE_SEG)
		segments_in(&k, s);
	if (mask & X86_STATE_MSR)
		k.efer = s->msr.efer;
	if (mask & X86_STATE_CR)
		controls_in(&k, s, k.efer);
	return kvm_sregs_set(c, &k);
}

static bool
only_cr8_differs(struct kvm_cpu *c, unsigned mask, const struct x86_state *s)
{
	struct x86_state now;

	if (mask != X86_STATE_CR || kvm_fetch(c, X86_STATE_CR, &now) != 0)
		return false;
	return now.cr0 == s->cr0 && now.cr2 == s->cr2 && now.cr3 == s->cr3 && now.cr4 == s->cr4 &&
	       now.xcr0 == s->xcr0 && memcmp(now.dr, s->dr, sizeof(now.dr)) == 0;
}

int
kvm_store(struct kvm_cpu *c, unsigned mask, const struct x86_state *s, struct err *err)
{
	const char *what = "KVM_SET_SREGS";
	struct kvm_regs regs;
	int r = 0;

	if (mask & X86_STATE_CR)
		c->run->cr8 = c->cr8 = s->cr8 & 15;
	if (only_cr8_differs(c, mask, s))
		return 0;
	if (mask & (X86_STATE_SEG | X86_STATE_CR | X86_STATE_MSR))
		r = store_sregs(c, mask, s);
	if (r == 0 && (mask & X86_STATE_CR)) {
		what = "KVM_SET_XCRS";
		r = xcr0_set(c, s->xcr0);
	}
	if (r == 0 && (mask & X86_STATE_CR)) {
		what = "KVM_SET_DEBUGREGS";
		r = debug_set(c, s);
	}
	if (r == 0 && (mask & X86_STATE_MSR)) {
		what = "KVM_SET_MSRS";
		r = kvm_msrs_store(c, &s->msr);
	}
	if (r == 0 && (mask & X86_STATE_XSAVE)) {
		what = "KVM_SET_XSAVE";
		r = kvm_xstate_store(c, &s->xs);
	}
	if (r == 0 && (mask & X86_STATE_GPR)) {
		what = "KVM_SET_REGS";
		regs_in(&regs, s);
		r = kvm_ioctl(c->fd, KVM_SET_REGS, &regs);
	}
	if (r == 0 && (mask & X86_STATE_EVENT)) {
		what = "KVM_SET_VCPU_EVENTS";
		r = events_set(c, s);
	}
	if (r != 0)
		return err_set(err, -r, "kvm: vCPU %u: %s: %s", c->id, what, strerror(-r));
	return 0;
}

void
kvm_get_state(struct engine_vcpu *v, unsigned mask, struct x86_state *s)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	int r;

	if (c->assist.open) {
		engine_soft.get_state(c->assist.soft, mask, s);
		return;
	}
	r = kvm_fetch(c, mask, s);
	if (r != 0)
		log_error("kvm: vCPU %u: state cannot be read: %s", c->id, strerror(-r));
	LH_ASSERT(r == 0);
}

int
kvm_set_state(struct engine_vcpu *v, unsigned mask, const struct x86_state *s, struct err *err)
{
	struct kvm_cpu *c = kvm_cpu_of(v);

	if (c->assist.open) {
		if (mask & X86_STATE_CR)
			c->run->cr8 = c->cr8 = s->cr8 & 15;
		return engine_soft.set_state(c->assist.soft, mask, s, err);
	}
	if (mask & (X86_STATE_GPR | X86_STATE_EVENT))
		kvm_settle(c);
	if (mask & (X86_STATE_GPR | X86_STATE_EVENT))
		c->ready = false;
	return kvm_store(c, mask, s, err);
}
