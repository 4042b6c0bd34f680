/* SPDX-License-Identifier: BSD-2-Clause */
/* A stub: host code that runs one guest instruction on the host's own units. Private to engine/soft. */
#ifndef LHYVE_SOFT_STUB_H
#define LHYVE_SOFT_STUB_H

#include "engine/soft/decode.h"

/* Which unit must be enabled, and which state travels. */
enum {
	UNIT_GPR_VEX = 1 << 0, /* BMI: VEX-coded, protected mode only */
	UNIT_X87 = 1 << 1,
	UNIT_MMX = 1 << 2,
	UNIT_SSE = 1 << 3,
	UNIT_AVX = 1 << 4,
	UNIT_EVEX = 1 << 5,
	UNIT_VECTOR = UNIT_SSE | UNIT_AVX | UNIT_EVEX,
	UNIT_FXSTATE = UNIT_X87 | UNIT_MMX,
};

/* How a masked memory operand finds its elements. */
enum stub_mask {
	MASK_NONE,
	MASK_K,
	MASK_K_PACKED /* compress, expand */,
	MASK_VEC /* sign bits of a vector */
};

struct soft_stub {
	struct soft_stub *next; /* in the hash chain */
	const uint8_t *code;	/* executable mapping */
	uint8_t bytes[16];	/* rewritten instruction: the key, with `sig` */
	uint64_t sig;
	uint8_t nbytes;
	uint8_t units;
	uint8_t mem_size; /* 0: no memory operand; at most 108 */
	bool mem_read, mem_write;
	uint8_t mask, mask_reg, elem_size, elem_count, mask_count;
	uint8_t x87_kind; /* X87_* */
	bool whole_check; /* masked, but all of the operand must be writable */
	bool x87_nowait;  /* runs with an exception pending */
	uint8_t align;	  /* #GP unless the operand is aligned so; 1: any */
	uint8_t ac_align; /* #AC, when that is on, unless so */
	bool missing; /* the host has no such instruction, nor has the guest's CPUID: #UD before all else */
};

enum { X87_NOT, X87_COMPUTE, X87_CONTROL, X87_STENV16, X87_STENV32 };
unsigned soft_x87_kind(const ZydisDecodedInstruction *z);

struct stub_build {
	uint8_t insn[24];
	unsigned insn_len;
	uint32_t vec_used, vec_written;
	uint16_t gpr_used, gpr_written;
	uint8_t k_used, k_written;
	bool flags;
	unsigned creg, mreg; /* host registers: cpu pointer, operand pointer */
	int rsp_sub;	     /* the register that stands for the guest's RSP, or -1 */
	bool rsp_written;
};

/* Emit the host code for *b into buf (at least STUB_CODE_MAX). Returns the bytes written. */
#define STUB_CODE_MAX 2048
unsigned soft_stub_emit(const struct stub_build *b, unsigned units, uint8_t *buf);
/* Rewrite the guest instruction so that its memory operand is [mreg]. False: an encoding we do not take. */
bool soft_stub_rewrite(const struct dctx *d, struct stub_build *b);

/* Run: 0, or the host's trap number + 1 (13 + 1 = #GP). */
unsigned soft_stub_enter(struct soft_cpu *cpu, const uint8_t *code, uint8_t *membuf);
void soft_stub_signals(void); /* install the handlers once */

/* Raise #UD or #NM unless the units are enabled (SDM vol. 2, table 2-17 and others). */
void soft_check_units(struct soft_cpu *cpu, unsigned units);

/* vecmem.c */
void
soft_mmx_enter(struct soft_cpu *cpu); /* what any MMX instruction does to the x87 state: TOP 0, tags valid */
const struct soft_insn *op_gather(struct soft_cpu *cpu, const struct soft_insn *i);
const struct soft_insn *op_maskmov(struct soft_cpu *cpu, const struct soft_insn *i);
const struct soft_insn *op_vzero(struct soft_cpu *cpu, const struct soft_insn *i);
enum soft_decode soft_decode_gather(struct dctx *d, bool scatter);
enum soft_decode soft_decode_maskmov(struct dctx *d, bool mmx);

#endif
