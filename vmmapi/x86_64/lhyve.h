/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What lhyve needs of an x86-64 VM beyond <vmmapi.h> (see vmmapi/lhyve.h): CPUID of its board, the canonical
 * state of a vCPU, and interrupts from the board's own local APICs.
 */
#ifndef VMMAPI_X86_64_LHYVE_H
#define VMMAPI_X86_64_LHYVE_H

#include "base/err.h"
#include "vmmapi/lhyve.h"
#include "x86/apic.h"
#include "x86/cpuid.h"
#include "x86/state.h"

/* What the engine offers on this host. NULL: see err. Lives as long as the VM. */
LH_MUST_CHECK const struct x86_cpuid *vmctx_cpuid(struct vmctx *ctx, struct err *err);
/* Features of CPUID leaf 7 that an engine may have where the host's processor has not: bits of ECX. */
enum vm_feature { VM_FEATURE_PKU = 1 << 3, VM_FEATURE_LA57 = 1 << 16 };
#define VM_FEATURE_PKS (1u << 31)
/* Offer these too, as far as the engine can do them itself: vmctx_cpuid()'s table has them then. */
LH_MUST_CHECK int vmctx_add_features(struct vmctx *ctx, uint32_t features, struct err *err);
/* Before the first vCPU: `finish` makes the table of vCPU `cpu` of the offered one, in place. */
typedef void (*vcpu_cpuid_fn)(void *ctx, unsigned cpu, struct x86_cpuid *t);
LH_MUST_CHECK int vmctx_set_cpuid(struct vmctx *ctx, vcpu_cpuid_fn finish, void *arg, struct err *err);

/* The components of `mask` (X86_STATE_*). The vCPU does not run; for an exact state it has been kicked out.
 */
void vcpu_get_state(struct vcpu *v, unsigned mask, struct x86_state *s);
/* With X86_STATE_ALL an instruction that waits for an answer is dropped. */
LH_MUST_CHECK int vcpu_set_state(struct vcpu *v, unsigned mask, const struct x86_state *s, struct err *err);

/*
 * Without VM_CREATE_INTC; on the vCPU's own thread. An external interrupt can be injected now; if not and
 * `want_window`, vm_run() returns VM_EXITCODE_BOGUS as soon as it can.
 */
bool vcpu_intr_ready(struct vcpu *v, bool want_window);
/* Delivered with the next vm_run(); vcpu_intr_ready() was true. */
void vcpu_inject_intr(struct vcpu *v, uint8_t vector);
/* One NMI, latched until it can be delivered; as vm_inject_nmi(), but counted. */
void vcpu_inject_nmi(struct vcpu *v);

/* ---- interrupt controllers of the engine's, and doorbells ---- */

/* As enum engine_apic. */
enum vm_apic {
	VM_APIC_USER,	/* none: the board has them all */
	VM_APIC_SPLIT,	/* the local APICs */
	VM_APIC_KERNEL, /* and the I/O APIC, the 8259s and the 8254 */
	VM_APIC_AUTO,	/* SPLIT where it is any good */
};

/* After memory and topology, which are fixed from here on; *kind becomes what it is to be. Without
 * VM_CREATE_INTC. */
LH_MUST_CHECK int vmctx_settle_apic(struct vmctx *ctx, enum vm_apic *kind, struct err *err);

/*
 * With SPLIT or KERNEL: HLT, CR8, APIC accesses and messages between processors do not exit, an ACT_WAIT_SIPI
 * vCPU waits in vm_run(), and vcpu_intr_ready() and vcpu_inject_intr() are for the 8259s' vectors (SPLIT).
 * Any thread, but for a vCPU's state, which is for while it does not run.
 */
bool vmctx_msi(struct vmctx *ctx, uint64_t addr, uint32_t data); /* true: an APIC took it */
/* SPLIT: what level-triggered pins send; VM_EXITCODE_IOAPIC_EOI tells of their ends. */
LH_MUST_CHECK int vmctx_set_pins(struct vmctx *ctx, const struct x86_pin_message *pin, unsigned count);
LH_MUST_CHECK int vcpu_get_apic(struct vcpu *v, struct x86_apic *a);
LH_MUST_CHECK int vcpu_set_apic(struct vcpu *v, const struct x86_apic *a);
/* KERNEL */
void vmctx_ioapic_line(struct vmctx *ctx, unsigned pin, bool level);
void vmctx_pic_line(struct vmctx *ctx, unsigned line, bool level);
LH_MUST_CHECK int vmctx_get_ioapic(struct vmctx *ctx, struct x86_ioapic *io);
LH_MUST_CHECK int vmctx_set_ioapic(struct vmctx *ctx, const struct x86_ioapic *io);
LH_MUST_CHECK int vmctx_get_pic(struct vmctx *ctx, struct x86_pic pic[2]);
LH_MUST_CHECK int vmctx_set_pic(struct vmctx *ctx, const struct x86_pic pic[2]);
/* Setting starts each count anew. NULL: no IRQ0 comes until the next one. */
LH_MUST_CHECK int vmctx_get_pit(struct vmctx *ctx, struct x86_pit *pit);
LH_MUST_CHECK int vmctx_set_pit(struct vmctx *ctx, const struct x86_pit *pit);

/* Writes of the guest to gpa write to the eventfd and do not exit, as far as the engine can; others do.
 * -errno: all exit. */
int vmctx_doorbell(struct vmctx *ctx, uint64_t gpa, int fd, bool add);
/* With SPLIT or KERNEL: each write to the eventfd sends the message, until that is taken away again (then all
 * that was written has gone in). To add may take milliseconds. -errno: vmctx_msi() is the way. */
int vmctx_irqfd(struct vmctx *ctx, int fd, uint64_t addr, uint32_t data, bool add);

#endif
