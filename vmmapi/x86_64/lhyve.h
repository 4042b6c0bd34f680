/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What lhyve needs of an x86-64 VM beyond <vmmapi.h> (see vmmapi/lhyve.h): CPUID of its board, the canonical
 * state of a vCPU, and interrupts from the board's own local APICs.
 */
#ifndef VMMAPI_X86_64_LHYVE_H
#define VMMAPI_X86_64_LHYVE_H

#include "base/err.h"
#include "vmmapi/lhyve.h"
#include "x86/cpuid.h"
#include "x86/state.h"

/* What the engine offers on this host. NULL: see err. Lives as long as the VM. */
LH_MUST_CHECK const struct x86_cpuid *vmctx_cpuid(struct vmctx *ctx, struct err *err);
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

#endif
