/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x86-64's part of the handles. How an interrupt reaches a vCPU: a controller calls wake(); the vCPU, which
 * looks at its requests and at its APIC before it enters the engine or sleeps, is kicked or woken.
 */
#ifndef VMMAPI_X86_64_MD_H
#define VMMAPI_X86_64_MD_H

#include "vmmapi/internal.h"
#include "vmmapi/x86_64/intc.h"
#include "vmmapi/x86_64/lhyve.h"

enum { REQ_INIT = 1, REQ_SIPI = 2, REQ_NMI = 4 };

struct md_ctx {
	struct x86_cpuid cpuid; /* what the engine offers */
	enum engine_apic apic;
	vcpu_cpuid_fn finish; /* NULL: the library's own */
	void *finish_ctx;
	uint32_t *apic_ids; /* maxcpus */
	uint8_t phys_bits;
	struct intc *intc; /* NULL: without VM_CREATE_INTC */
};

/* ctx->md, made when first needed. NULL: see err. */
LH_MUST_CHECK struct md_ctx *md_of(struct vmctx *ctx, struct err *err);

struct md_vcpu {
	struct x86_cpuid cpuid;
	_Atomic unsigned requests;
	_Atomic unsigned sipi_vector;
	bool halted, wait_sipi;
	bool halt_exit;
	bool window;	     /* vcpu_intr_ready() asked for one */
	uint64_t tsc_adjust; /* as last told to the APIC */
};

#endif
