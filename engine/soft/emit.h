/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Emitting host code (x86-64), a helper an instruction form. Private to engine/soft.
 * Nothing here that the translator uses between guest instructions changes EFLAGS,
 * unless its name says so. Registers are numbers 0..15 in the architecture's order.
 */
#ifndef LHYVE_SOFT_EMIT_H
#define LHYVE_SOFT_EMIT_H

#include "base/util.h"

enum {
	H_RAX,
	H_RCX,
	H_RDX,
	H_RBX,
	H_RSP,
	H_RBP,
	H_RSI,
	H_RDI,
	H_R8,
	H_R9,
	H_R10,
	H_R11,
	H_R12,
	H_R13,
	H_R14,
	H_R15
};

struct emit {
	uint8_t *p; /* where the next byte goes: the writable mapping */
};

static inline void
em_8(struct emit *e, unsigned v)
{
	*e->p++ = (uint8_t)v;
}

static inline void
em_32(struct emit *e, uint32_t v)
{
	put_le32(e->p, v);
	e->p += 4;
}

static inline void
em_64(struct emit *e, uint64_t v)
{
	put_le64(e->p, v);
	e->p += 8;
}

static inline void
em_rex(struct emit *e, unsigned w, unsigned reg, unsigned index, unsigned base)
{
	unsigned rex = 0x40 | w << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
	if (rex != 0x40)
		em_8(e, rex);
}

/* op reg, gs:[disp] */
static inline void
em_gs(struct emit *e, unsigned w, unsigned op, unsigned reg, size_t disp)
{
	em_8(e, 0x65);
	em_rex(e, w, reg, 0, 0);
	em_8(e, op);
	em_8(e, (reg & 7) << 3 | 4);
	em_8(e, 0x25);
	em_32(e, (uint32_t)disp);
}

static inline void
em_gs_load(struct emit *e, unsigned reg, size_t disp)
{
	em_gs(e, 1, 0x8b, reg, disp);
}

static inline void
em_gs_store(struct emit *e, unsigned reg, size_t disp)
{
	em_gs(e, 1, 0x89, reg, disp);
}

/* mov reg, gs:[index * 2^scale + disp] */
static inline void
em_gsx_load(struct emit *e, unsigned reg, unsigned index, unsigned scale, size_t disp)
{
	em_8(e, 0x65);
	em_rex(e, 1, reg, index, 0);
	em_8(e, 0x8b);
	em_8(e, (reg & 7) << 3 | 4);
	em_8(e, scale << 6 | (index & 7) << 3 | 5);
	em_32(e, (uint32_t)disp);
}

/* mov dword gs:[disp], imm */
static inline void
em_gs_imm32(struct emit *e, size_t disp, uint32_t imm)
{
	em_8(e, 0x65);
	em_8(e, 0xc7);
	em_8(e, 0x04);
	em_8(e, 0x25);
	em_32(e, (uint32_t)disp);
	em_32(e, imm);
}

/* op reg, [base + disp], any base */
static inline void
em_mem(struct emit *e, unsigned w, unsigned op, unsigned reg, unsigned base, int32_t disp)
{
	em_rex(e, w, reg, 0, base);
	em_8(e, op);
	em_8(e, 0x80 | (reg & 7) << 3 | (base & 7));
	if ((base & 7) == 4)
		em_8(e, 0x24);
	em_32(e, (uint32_t)disp);
}

#define EM_NONE 16
/* Host memory: [base + index + disp]; index may be EM_NONE. Both EM_NONE: gs:[disp], the prefix not included.
 */
struct em_at {
	uint8_t base, index;
	int32_t disp;
};

/* ModRM and what follows it, for a register field and memory; REX was written. */
static inline void
em_modrm_at(struct emit *e, unsigned reg, const struct em_at *at)
{
	unsigned b = at->base & 7, mod = 2;
	if (at->base == EM_NONE) {
		em_8(e, (reg & 7) << 3 | 4);
		em_8(e, 0x25);
		em_32(e, (uint32_t)at->disp);
		return;
	}
	if (at->disp == 0 && b != 5)
		mod = 0;
	else if (at->disp >= -128 && at->disp <= 127)
		mod = 1;
	if (at->index == EM_NONE && b != 4) {
		em_8(e, mod << 6 | (reg & 7) << 3 | b);
	} else {
		em_8(e, mod << 6 | (reg & 7) << 3 | 4);
		em_8(e, (at->index == EM_NONE ? 4u : at->index & 7u) << 3 | b);
	}
	if (mod == 1)
		em_8(e, (uint8_t)at->disp);
	else if (mod == 2)
		em_32(e, (uint32_t)at->disp);
}

/* op reg, memory */
static inline void
em_op_at(struct emit *e, unsigned w, unsigned op, unsigned reg, const struct em_at *at)
{
	em_rex(e, w, reg, at->index == EM_NONE ? 0 : at->index, at->base);
	em_8(e, op);
	em_modrm_at(e, reg, at);
}

/* op reg, gs:[index + disp] */
static inline void
em_gsi(struct emit *e, unsigned w, unsigned op, unsigned reg, unsigned index, size_t disp)
{
	em_8(e, 0x65);
	em_rex(e, w, reg, 0, index);
	em_8(e, op);
	em_8(e, 0x80 | (reg & 7) << 3 | (index & 7));
	em_32(e, (uint32_t)disp);
}

/* op reg, reg2 (the r/m field) */
static inline void
em_rr(struct emit *e, unsigned w, unsigned op, unsigned reg, unsigned rm)
{
	em_rex(e, w, reg, 0, rm);
	em_8(e, op);
	em_8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* 81 /n: ADD 0, OR 1, AND 4, SUB 5, CMP 7 with a 32-bit immediate. Changes EFLAGS. */
static inline void
em_alu_imm(struct emit *e, unsigned w, unsigned n, unsigned reg, uint32_t imm)
{
	em_rex(e, w, 0, 0, reg);
	em_8(e, 0x81);
	em_8(e, 0xc0 | n << 3 | (reg & 7));
	em_32(e, imm);
}

/* C1 /n: SHL 4, SHR 5, SAR 7. Changes EFLAGS. */
static inline void
em_shift(struct emit *e, unsigned w, unsigned n, unsigned reg, unsigned by)
{
	em_rex(e, w, 0, 0, reg);
	em_8(e, 0xc1);
	em_8(e, 0xc0 | n << 3 | (reg & 7));
	em_8(e, by);
}

static inline void
em_mov(struct emit *e, unsigned w, unsigned dst, unsigned src)
{
	em_rex(e, w, src, 0, dst);
	em_8(e, 0x89);
	em_8(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}

static inline void
em_mov_imm32(struct emit *e, unsigned dst, uint32_t v)
{
	em_rex(e, 0, 0, 0, dst);
	em_8(e, 0xb8 | (dst & 7));
	em_32(e, v);
}

static inline void
em_mov_imm64(struct emit *e, unsigned dst, uint64_t v)
{
	if (v <= 0xffffffff) {
		em_mov_imm32(e, dst, (uint32_t)v);
		return;
	}
	em_rex(e, 1, 0, 0, dst);
	em_8(e, 0xb8 | (dst & 7));
	em_64(e, v);
}

/* lea dst, [base + index * 2^scale + disp]; base or index may be EM_NONE. w 0: the result has 32 bits. */
static inline void
em_lea(struct emit *e, unsigned w, unsigned dst, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	unsigned b = base == EM_NONE ? 5 : base, mod = 2;
	if (base == EM_NONE)
		mod = 0;
	else if (disp == 0 && (base & 7) != 5)
		mod = 0;
	else if (disp >= -128 && disp <= 127)
		mod = 1;
	em_rex(e, w, dst, index == EM_NONE ? 0 : index, base == EM_NONE ? 0 : base);
	em_8(e, 0x8d);
	if (index == EM_NONE && base != EM_NONE && (base & 7) != 4) {
		em_8(e, mod << 6 | (dst & 7) << 3 | (b & 7));
	} else {
		em_8(e, mod << 6 | (dst & 7) << 3 | 4);
		em_8(e, scale << 6 | (index == EM_NONE ? 4u : index & 7) << 3 | (b & 7));
	}
	if (mod == 1)
		em_8(e, (uint8_t)disp);
	else if (mod == 2 || base == EM_NONE)
		em_32(e, (uint32_t)disp);
}

static inline void
em_vex3(struct emit *e, unsigned reg, unsigned index, unsigned base, unsigned map, unsigned w, unsigned vvvv,
	unsigned l, unsigned pp)
{
	em_8(e, 0xc4);
	em_8(e, (reg >> 3 & 1 ? 0 : 0x80) | (index >> 3 & 1 ? 0 : 0x40) | (base >> 3 & 1 ? 0 : 0x20) | map);
	em_8(e, w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
}

/* rorx dst, src, n; no flags */
static inline void
em_rorx(struct emit *e, unsigned dst, unsigned src, unsigned n)
{
	em_vex3(e, dst, 0, src, 3, 1, 0, 0, 3);
	em_8(e, 0xf0);
	em_8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
	em_8(e, n);
}

/* EFLAGS to AX, as cpu->fl keeps them. */
static inline void
em_fl_save(struct emit *e)
{
	em_8(e, 0x9f); /* lahf */
	em_8(e, 0x0f); /* seto al */
	em_8(e, 0x90);
	em_8(e, 0xc0);
}

/* And back. AL is lost. */
static inline void
em_fl_load(struct emit *e)
{
	em_8(e, 0x04); /* add al, 0x7f: OF */
	em_8(e, 0x7f);
	em_8(e, 0x9e); /* sahf */
}

static inline void
em_push(struct emit *e, unsigned reg)
{
	em_rex(e, 0, 0, 0, reg);
	em_8(e, 0x50 | (reg & 7));
}

static inline void
em_pop(struct emit *e, unsigned reg)
{
	em_rex(e, 0, 0, 0, reg);
	em_8(e, 0x58 | (reg & 7));
}

/* jmp / call rel32 to a place that is known; returns where the displacement stands */
static inline uint8_t *
em_jmp(struct emit *e, unsigned op, const uint8_t *to)
{
	em_8(e, op);
	em_32(e, (uint32_t)(to - (e->p + 4)));
	return e->p - 4;
}

/* jcc rel32 */
static inline uint8_t *
em_jcc(struct emit *e, unsigned cc, const uint8_t *to)
{
	em_8(e, 0x0f);
	em_8(e, 0x80 | cc);
	em_32(e, (uint32_t)(to - (e->p + 4)));
	return e->p - 4;
}

/* jrcxz over a jump of 5 bytes: goes on when RCX is 0, else jumps to `miss`. Returns the jump's displacement.
 */
static inline uint8_t *
em_unless_rcx_zero_jmp(struct emit *e, const uint8_t *miss)
{
	em_8(e, 0xe3);
	em_8(e, 5);
	return em_jmp(e, 0xe9, miss);
}

/* Set the 32-bit displacement at `at` to reach `to`. */
static inline void
em_patch(uint8_t *at, const uint8_t *to)
{
	put_le32(at, (uint32_t)(to - (at + 4)));
}

#endif
