/* SPDX-License-Identifier: BSD-2-Clause */
/* The least VM that can run code in the soft engine: RAM at 0, one vCPU, no device. One thread. */
#ifndef LHYVE_TESTS_NATIVE_RIG_H
#define LHYVE_TESTS_NATIVE_RIG_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "engine/engine.h"

struct rig {
	struct memobj *ram;
	struct gpmap *mem;
	struct vm_clock *clock;
	struct engine_vm *vm;
	struct engine_vcpu *vcpu;
	struct x86_cpuid cpuid;
};

LH_MUST_CHECK int rig_open(struct rig *r, uint64_t ram_bytes, struct err *err);
void rig_close(struct rig *r);

void rig_write(struct rig *r, uint64_t gpa, const void *buf, size_t len);
void rig_read(struct rig *r, uint64_t gpa, void *buf, size_t len);
void rig_write64(struct rig *r, uint64_t gpa, uint64_t v);

/* A descriptor's hidden part: flat, with these attributes (x86/state.h). */
struct x86_segment rig_segment(uint16_t sel, uint32_t attr);

#endif
