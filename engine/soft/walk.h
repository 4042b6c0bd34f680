/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page walks, and the second level of the TLB: what walks found, tagged by address space. Private to
 * engine/soft; a vCPU's own thread.
 *
 * An address space is a process-context identifier (SDM vol. 3A 4.10.1) and a generation: forgetting it is
 * giving it a new one. Entries hold what the walk found, not what is allowed: that is checked at each use,
 * and a check that fails walks anew, so a page fault never comes from an old entry.
 */
#ifndef LHYVE_SOFT_WALK_H
#define LHYVE_SOFT_WALK_H

#include "engine/soft/cpu.h"

enum { ACC_READ, ACC_WRITE, ACC_EXEC };

#define PTE_P  (1ull << 0)
#define PTE_W  (1ull << 1)
#define PTE_U  (1ull << 2)
#define PTE_A  (1ull << 5)
#define PTE_D  (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_G  (1ull << 8)
#define PTE_NX (1ull << 63)

struct walk {
	uint64_t gpa;  /* of the byte asked for */
	uint64_t page; /* bytes of the page */
	bool user, write, nx;
	uint64_t last; /* the entry that maps the page */
	uint64_t entry[5], entry_gpa[5];
	uint8_t entry_size;
	unsigned levels; /* entries used; 0: paging is off */
	uint32_t fault;	 /* 0, or PFEC_* | WALK_FAULT */
};
#define WALK_FAULT 0x80000000u

/* Translate la for an access by MMU index idx, with all checks and side effects. 0, or PFEC_* | WALK_FAULT.
 */
uint32_t soft_walk(struct soft_cpu *cpu, uint64_t la, unsigned idx, int acc, struct walk *w);
/* The permission rules (SDM vol. 3A 4.6.1). 0, or the fault's error bits. */
uint32_t soft_walk_check(const struct soft_cpu *cpu, const struct walk *w, unsigned idx, int acc);
bool soft_walk_global(const struct soft_cpu *cpu, const struct walk *w);

/* The second level. */
void soft_tlb2_flush(struct soft_cpu *cpu); /* everything */
/* The address space is pcid's now; `keep`: as it was left (MOV to CR3 with bit 63), else empty. */
void soft_tlb2_switch(struct soft_cpu *cpu, unsigned pcid, bool keep);
void soft_tlb2_flush_pcid(struct soft_cpu *cpu, unsigned pcid);
void soft_tlb2_flush_locals(struct soft_cpu *cpu); /* all but global pages */
/* la in pcid's, and among global pages. True: it may lie in a page above 4 KiB. */
bool soft_tlb2_flush_page(struct soft_cpu *cpu, uint64_t la, unsigned pcid);

#endif
