/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What lhyve, as a caller of the library, needs beyond <vmmapi.h>: switches of the engines, the memory map
 * and the clock that its devices share with the VM. It is no part of the ABI: only lhyve, which is built with
 * the library, may use it. The machine's part is vmmapi/x86_64/lhyve.h.
 *
 * Threads: as for the calls of <vmmapi.h> that set a VM up.
 */
#ifndef VMMAPI_LHYVE_H
#define VMMAPI_LHYVE_H

#include <vmmapi.h>

struct gpmap;
struct vm_clock;

/* One record an instruction of one vCPU into a file (doc/debugging.md). */
struct vm_trace {
	const char *path; /* NULL: none */
	bool binary;
	bool translated; /* by translations of single instructions, where there are any */
	unsigned vcpu;
	uint64_t start, count; /* instructions left out first; at most so many then, 0: all */
};

/* Switches of the engines. Strings are the caller's, as long as the VM. */
struct vm_tuning {
	bool strict_msr; /* unknown MSR: #GP; else reads 0, writes dropped */
	bool pmu;	 /* performance counters count */
	bool vmware_backdoors;
	bool pit_discard;	  /* ticks of a kernel's 8254 that the host is late for are lost */
	bool soft_verify;	  /* translated code is repeated by the interpreter and compared */
	bool soft_profile;	  /* runs of translated code are counted */
	bool soft_perf_map;	  /* write a map of translated code for perf */
	const char *soft_symbols; /* the guest's, for that map: a file of nm's form; NULL: none */
	bool soft_interpret;	  /* the soft engine translates nothing */
	bool tidies;		  /* the caller calls vmctx_tidy(), not vm_vcpu_open() */
	bool clock_stands;	  /* the caller starts the clock, not the first vCPU */
	uint64_t soft_code_cache; /* bytes for translated code; 0: a default */
	struct vm_trace trace;
};

/* Before the first vCPU. */
void vmctx_set_tuning(struct vmctx *ctx, const struct vm_tuning *t);
/* Guest memory as devices see it. Lives as long as the VM. */
struct gpmap *vmctx_gpmap(struct vmctx *ctx);
/* With vm_tuning.tidies: once the first vCPU runs. Any thread. */
void vmctx_tidy(struct vmctx *ctx);
/* The VM's clock: it is the caller's to attach to an event loop when there is no VM_CREATE_INTC. */
struct vm_clock *vmctx_clock(struct vmctx *ctx);

#endif
