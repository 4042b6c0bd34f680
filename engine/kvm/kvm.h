/* SPDX-License-Identifier: BSD-2-Clause */
/* What the KVM engine offers beside engine.h: the probe's findings, for tests and for choosing. */
#ifndef LHYVE_KVM_H
#define LHYVE_KVM_H

#include <stdint.h>
#include "base/err.h"

/* What kvm_examine() ran, a bit each. */
enum kvm_part {
	KVM_PART_REAL,	    /* real mode */
	KVM_PART_PROTECTED, /* 32-bit protected mode, paging off */
	KVM_PART_PAGING32,  /* two-level paging */
	KVM_PART_PAE,	    /* three-level paging */
	KVM_PART_LONG,	    /* 64-bit mode */
	KVM_PART_INT,	    /* INT n and IRETQ in 64-bit ring 0 */
	KVM_PART_CX16,	    /* LOCK CMPXCHG16B, when CPUID offers it */
	KVM_PART_CPUID,	    /* CPUID answers from the table that the VMM gave */
	KVM_PART_TSC,	    /* the TSC has an offset of the VMM's */
	KVM_PART_SSE,	    /* SSE2 arithmetic in ring 0 */
	KVM_PART_AVX,	    /* the same in AVX, when CPUID offers it */
	KVM_PARTS,
};

/*
 * Does INT n work? 0; KVM_PART_INT's bit; or -errno. Examined once a process: it is a fact of the host.
 */
LH_MUST_CHECK int kvm_examine_int(struct err *err);
enum { KVM_PARTS_ALL = (1 << KVM_PARTS) - 1 };

/* Run a few instructions of each of these parts (a bit each) in a VM of its own. The set of parts that do not
 * work, or -errno when no VM can be made. About a millisecond. Any thread. */
LH_MUST_CHECK int kvm_examine(unsigned parts, struct err *err);
/* 0 when KVM stops after each instruction that it is told to stop after; else an error. Any thread. */
LH_MUST_CHECK int kvm_examine_steps(struct err *err);
const char *kvm_part_name(enum kvm_part part);

#endif
