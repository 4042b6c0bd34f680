/* SPDX-License-Identifier: BSD-2-Clause */
/* CPUID as data: a table of leaves, sorted, looked up by (leaf, subleaf) as the processor does. */
#ifndef LHYVE_X86_CPUID_H
#define LHYVE_X86_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct x86_cpuid_leaf {
	uint32_t leaf, subleaf;
	bool has_subleaf; /* ECX counts */
	uint32_t eax, ebx, ecx, edx;
};

#define X86_CPUID_MAX 128

struct x86_cpuid {
	unsigned count;
	struct x86_cpuid_leaf leaf[X86_CPUID_MAX];
};

/* Fill from the host processor: the leaves that tell of the processor itself, in ascending order. */
void x86_cpuid_host(struct x86_cpuid *t);
/* The leaf's entry, or NULL. Made when `add` and there is room. */
struct x86_cpuid_leaf *x86_cpuid_find(struct x86_cpuid *t, uint32_t leaf, uint32_t subleaf, bool add);
/* What the instruction returns: out-of-range leaves as AMD (zero) or Intel (last basic leaf) do. */
void x86_cpuid_query(const struct x86_cpuid *t, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* AMD or Hygon, by leaf 0. */
bool x86_cpuid_is_amd(const struct x86_cpuid *t);

struct x86_topology {
	unsigned cpus, sockets, cores, threads, maxcpus;
};

/*
 * The per-vCPU table: host leaves already filtered by the engine in *t, then topology, APIC id,
 * hypervisor leaves (0x40000000 "bhyve bhyve "), x2APIC, tsc-deadline.
 */
void x86_cpuid_finish(struct x86_cpuid *t, const struct x86_topology *topo, unsigned cpu, bool x2apic);
uint32_t x86_apic_id(const struct x86_topology *topo, unsigned cpu);

#endif
