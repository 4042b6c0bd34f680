/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor as the oracle: one instruction with a given state, run in ring 3 of this very process by
 * signal return and single step, with everything that it did or the exception that it raised captured.
 *
 * The instruction sees the memory below and nothing else; the caller (tests/native/gen.c) makes only
 * instructions that stay within it. 64-bit mode, or compatibility mode with flat segments.
 *
 * One oracle a process, one thread: it takes the process's fault signals while open, and passes those of
 * others on to the handlers that were there when it was opened: open it after the soft engine.
 */
#ifndef LHYVE_TESTS_NATIVE_ORACLE_H
#define LHYVE_TESTS_NATIVE_ORACLE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "x86/state.h"

enum {
	ORACLE_CODE = 0x10000000, /* executable, not writable */
	ORACLE_CODE_SIZE = 0x2000,
	ORACLE_DATA =
	    0x20000000, /* three pages that may be written, then one read-only; around them nothing */
	ORACLE_DATA_SIZE = 0x4000,
	ORACLE_DATA_RO = 0x3000, /* offset of the read-only page */
	ORACLE_FENCE = 0x10000,	 /* nothing is mapped this far around the data */
	ORACLE_CS64 = 0x33,
	ORACLE_CS32 = 0x23,
	ORACLE_SS = 0x2b, /* Linux's; DS and ES are SS's */
	ORACLE_NO_FAULT = -1,
};

struct oracle_state {
	uint64_t gpr[16], rip,
	    rflags;	      /* rflags: CF PF AF ZF SF DF OF AC; others are clear. rip: in the code area */
	bool compat;	      /* 32-bit code */
	struct x86_xstate xs; /* pkru is not touched; no instruction or data pointers of the x87 */
	uint8_t data[ORACLE_DATA_SIZE];
	/* Out: */
	int vector;	/* exception, or ORACLE_NO_FAULT when the instruction completed */
	uint32_t error; /* error code of EXC_PF, EXC_GP, ... */
	uint64_t cr2;	/* EXC_PF */
};

LH_MUST_CHECK int oracle_open(struct err *err);
/* Run the instruction at s->rip (its bytes are put there first) once, in place. One iteration of a repeated
 * one. */
void oracle_run(struct oracle_state *s, const uint8_t *insn, unsigned len);
/* Put code where the next run will find it, as a run does: what instructions read there is the same then
 * whether code ran or not. */
void oracle_put_code(const struct oracle_state *s, const uint8_t *code, unsigned len);
/* The same, but run on from there until an exception. Nothing holds it up: the code must be known to end, and
 * to stay away from memory other than the oracle's and the fence around its data. */
void oracle_run_whole(struct oracle_state *s, const uint8_t *code, unsigned len);
void oracle_close(void);

/* The vector state that this processor and kernel switch: 16, 32 or 64 bytes a register; 16 or 32 registers.
 */
unsigned oracle_vector_bytes(void);
unsigned oracle_vector_count(void);
/* Bits of MXCSR that are not reserved. */
uint32_t oracle_mxcsr_mask(void);
/* The components of XCR0 that the oracle switches. */
uint64_t oracle_xcr0(void);

#endif
