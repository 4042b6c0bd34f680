/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of debug.trace: a record an instruction of one vCPU, with what differs between the state before
 * and after it (doc/debugging.md describes both forms). The engines bring states, written memory and events.
 *
 * Threads: the vCPU's.
 */
#ifndef LHYVE_ENGINE_TRACE_H
#define LHYVE_ENGINE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct engine_trace;
struct tracer;

enum { TRACER_INSN_MAX = 15 };
enum tracer_mode { TRACER_16, TRACER_32, TRACER_64 };

/* What is compared. fx: the start of an FXSAVE image, up to XMM0. */
struct trace_snap {
	uint64_t gpr[16];
	uint64_t fl, cr0, cr2, cr3, cr4, cr8, efer, xcr0;
	uint64_t sel[6], base[6], gdtr[2], idtr[2], ldtr, tr; /* gdtr, idtr: base, limit */
	uint64_t mxcsr, k[8];
	uint8_t fx[160];
	uint8_t vec[32][64];
};

/* `registers_only`: the engine sees neither what is written to memory nor events; the file says so. */
LH_MUST_CHECK struct tracer *tracer_create(const struct engine_trace *cfg, bool registers_only,
					   struct err *err);
/* NULL is fine. */
void tracer_destroy(struct tracer *t);

/* Has an instruction begun whose record is not written? Then its end is due: the state after it. */
bool tracer_pending(const struct tracer *t);
void tracer_end(struct tracer *t, const struct trace_snap *now);

enum tracer_next {
	TRACER_SKIP,  /* left out; no tracer_begin() */
	TRACER_FIRST, /* tracer_start(), then tracer_begin() */
	TRACER_GO,    /* tracer_begin() */
	TRACER_DONE,  /* enough: the tracer can be destroyed */
};
enum tracer_next tracer_next(struct tracer *t);
/* The state that all begins with. */
void tracer_start(struct tracer *t, uint64_t rip, enum tracer_mode mode, const struct trace_snap *now);
/* The instruction at RIP begins; the n bytes that are there (up to TRACER_INSN_MAX) are decoded for its
 * length. */
void tracer_begin(struct tracer *t, uint64_t rip, enum tracer_mode mode, const uint8_t *bytes, unsigned n);

void tracer_event(struct tracer *t, uint8_t vector, bool has_error, uint32_t error);
/* Room for the bytes that the pending instruction wrote to gpa, to be filled; NULL: none, the record says so.
 */
uint8_t *tracer_memory(struct tracer *t, uint64_t gpa, uint64_t len);
/* The room was not filled after all. */
void tracer_memory_undo(struct tracer *t, uint64_t len);

#endif
