/* SPDX-License-Identifier: BSD-2-Clause */
/* What the soft engine offers beside engine.h: for tests and debug keys. */
#ifndef LHYVE_SOFT_H
#define LHYVE_SOFT_H

#include <stdint.h>
#include "engine/engine.h"

/* Run exactly max_insns instructions (one iteration of a string instruction counts as one), or fewer when an
 * exit comes first. Returns 0 when the count ran out, 1 when *x holds an exit. The thread that runs the vCPU.
 */
int soft_vcpu_step(struct engine_vcpu *v, uint64_t max_insns, struct vm_exit *x);
/* The same, each instruction by a translation of itself where there is one. */
int soft_vcpu_step_translated(struct engine_vcpu *v, uint64_t max_insns, struct vm_exit *x);

/* Does an instruction of this vCPU wait for a device? Then step on until it does not, before its state is
 * moved. */
bool soft_vcpu_open(const struct engine_vcpu *v);

/* Counts each time that the vCPU, or who set its state, made it forget translations of addresses. */
uint64_t soft_vcpu_flushes(const struct engine_vcpu *v);

/* How the engine answers for an MSR with no state: reads give *fixed; writes are dropped, or are #GP(0). */
enum soft_msr { SOFT_MSR_UNKNOWN, SOFT_MSR_IGNORED, SOFT_MSR_READONLY, SOFT_MSR_STATE };
enum soft_msr soft_msr_kind(uint32_t msr, uint64_t *fixed);

#endif
