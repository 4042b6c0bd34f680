/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integer arithmetic: each handler runs the instruction itself on the host, with
 * the guest's operands, so that results and flags (undefined ones too) are the
 * processor's. Memory operands are changed in place, by the host's own locked
 * instruction where the guest's is locked.
 */
#include "engine/soft/ops.h"

#define T(bits)	      uint##bits##_t
#define WR8(o, v)     (CPU_REG(cpu, o, uint8_t) = (v))
#define WR16(o, v)    (CPU_REG(cpu, o, uint16_t) = (v))
#define WR32(o, v)    (CPU_REG(cpu, o, uint64_t) = (uint32_t)(v))
#define WR64(o, v)    (CPU_REG(cpu, o, uint64_t) = (v))
#define RD(o, bits)   CPU_REG(cpu, o, T(bits))
#define HANDLER(name) static const struct soft_insn *name(struct soft_cpu *cpu, const struct soft_insn *i)

/* PRE: asm before the operation that takes what it needs from the old flags (in AX). */
#define PRE_NONE ""
#define PRE_CF	 "btw $8, %%ax\n\t"
#define PRE_ALL	 SOFT_FLAGS_IN

#define ALU_WRITE(bits, v)   WR##bits(i->dst, v)
#define ALU_NOWRITE(bits, v) ((void)(v))

#define DEF_ALU_SIZE(name, insn, pre, suf, bits, write, MOP)                                            \
	HANDLER(name##_rr##bits)                                                                        \
	{                                                                                               \
		T(bits) d = RD(i->dst, bits), s = RD(i->src, bits);                                     \
		uint16_t f = cpu->fl;                                                                   \
		__asm__(pre insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT                                   \
			: [d] "+&r"(d), "+a"(f)                                                         \
			: [s] "r"(s)                                                                    \
			: "cc");                                                                        \
		cpu->fl = f;                                                                            \
		write(bits, d);                                                                         \
		NEXT(cpu, i);                                                                           \
	}                                                                                               \
	HANDLER(name##_ri##bits)                                                                        \
	{                                                                                               \
		T(bits) d = RD(i->dst, bits), s = (T(bits))i->imm;                                      \
		uint16_t f = cpu->fl;                                                                   \
		__asm__(pre insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT                                   \
			: [d] "+&r"(d), "+a"(f)                                                         \
			: [s] "r"(s)                                                                    \
			: "cc");                                                                        \
		cpu->fl = f;                                                                            \
		write(bits, d);                                                                         \
		NEXT(cpu, i);                                                                           \
	}                                                                                               \
	HANDLER(name##_rm##bits)                                                                        \
	{                                                                                               \
		T(bits) s = soft_ld##bits(cpu, soft_la(cpu, i, bits / 8, false)), d = RD(i->dst, bits); \
		uint16_t f = cpu->fl;                                                                   \
		__asm__(pre insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT                                   \
			: [d] "+&r"(d), "+a"(f)                                                         \
			: [s] "r"(s)                                                                    \
			: "cc");                                                                        \
		cpu->fl = f;                                                                            \
		write(bits, d);                                                                         \
		NEXT(cpu, i);                                                                           \
	}                                                                                               \
	MOP(name##_mr##bits, insn, pre, "", suf, bits, RD(i->src, bits))                                \
	MOP(name##_mi##bits, insn, pre, "", suf, bits, (T(bits))i->imm)                                 \
	MOP(name##_lmr##bits, insn, pre, "lock ", suf, bits, RD(i->src, bits))                          \
	MOP(name##_lmi##bits, insn, pre, "lock ", suf, bits, (T(bits))i->imm)

/* Read-modify-write of memory, or (MOP_READ) a comparison with it. */
#define MOP_RMW(name, insn, pre, lock, suf, bits, src)                                          \
	HANDLER(name)                                                                           \
	{                                                                                       \
		volatile T(bits) *p = soft_rmw(cpu, soft_la(cpu, i, bits / 8, true), bits / 8); \
		T(bits) s = src;                                                                \
		uint16_t f = cpu->fl;                                                           \
		__asm__ volatile(pre lock insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT             \
				 : [d] "+m"(*p), "+a"(f)                                        \
				 : [s] "r"(s)                                                   \
				 : "cc", "memory");                                             \
		soft_rmw_done(cpu);                                                             \
		cpu->fl = f;                                                                    \
		NEXT(cpu, i);                                                                   \
	}
#define MOP_READ(name, insn, pre, lock, suf, bits, src)                                    \
	HANDLER(name)                                                                      \
	{                                                                                  \
		T(bits) d = soft_ld##bits(cpu, soft_la(cpu, i, bits / 8, false)), s = src; \
		uint16_t f = cpu->fl;                                                      \
		__asm__(pre insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT                      \
			: [d] "+&r"(d), "+a"(f)                                            \
			: [s] "r"(s)                                                       \
			: "cc");                                                           \
		cpu->fl = f;                                                               \
		NEXT(cpu, i);                                                              \
	}

#define DEF_ALU(name, insn, pre, write, MOP)               \
	DEF_ALU_SIZE(name, insn, pre, "b", 8, write, MOP)  \
	DEF_ALU_SIZE(name, insn, pre, "w", 16, write, MOP) \
	DEF_ALU_SIZE(name, insn, pre, "l", 32, write, MOP) \
	DEF_ALU_SIZE(name, insn, pre, "q", 64, write, MOP)

DEF_ALU(add, "add", PRE_NONE, ALU_WRITE, MOP_RMW)
DEF_ALU(or, "or", PRE_NONE, ALU_WRITE, MOP_RMW)
DEF_ALU(adc, "adc", PRE_CF, ALU_WRITE, MOP_RMW)
DEF_ALU(sbb, "sbb", PRE_CF, ALU_WRITE, MOP_RMW)
DEF_ALU(and, "and", PRE_NONE, ALU_WRITE, MOP_RMW)
DEF_ALU(sub, "sub", PRE_NONE, ALU_WRITE, MOP_RMW)
DEF_ALU(xor, "xor", PRE_NONE, ALU_WRITE, MOP_RMW)
DEF_ALU(cmp, "cmp", PRE_NONE, ALU_NOWRITE, MOP_READ)
DEF_ALU(test, "test", PRE_NONE, ALU_NOWRITE, MOP_READ)

#define SIZES(n)                          \
	{                                 \
		n##8, n##16, n##32, n##64 \
	}
#define ALU_ROW(n)                                                                                         \
	{                                                                                                  \
		SIZES(n##_rr), SIZES(n##_ri), SIZES(n##_rm), SIZES(n##_mr), SIZES(n##_mi), SIZES(n##_lmr), \
		    SIZES(n##_lmi)                                                                         \
	}
const soft_op_fn soft_op_alu[ALU_COUNT][FORM_COUNT][4] = {
    ALU_ROW(add), ALU_ROW(or),	ALU_ROW(adc), ALU_ROW(sbb),  ALU_ROW(and),
    ALU_ROW(sub), ALU_ROW(xor), ALU_ROW(cmp), ALU_ROW(test),
};

/* ---- one operand ---- */
#define DEF_UNARY_SIZE(name, insn, suf, bits)                                                          \
	HANDLER(name##_r##bits)                                                                        \
	{                                                                                              \
		T(bits) d = RD(i->dst, bits);                                                          \
		uint16_t f = cpu->fl;                                                                  \
		__asm__(PRE_ALL insn suf " %[d]\n\t" SOFT_FLAGS_OUT : [d] "+&r"(d), "+a"(f) : : "cc"); \
		cpu->fl = f;                                                                           \
		WR##bits(i->dst, d);                                                                   \
		NEXT(cpu, i);                                                                          \
	}                                                                                              \
	MOP_UNARY(name##_m##bits, insn, "", suf, bits)                                                 \
	MOP_UNARY(name##_lm##bits, insn, "lock ", suf, bits)
#define MOP_UNARY(name, insn, lock, suf, bits)                                                  \
	HANDLER(name)                                                                           \
	{                                                                                       \
		volatile T(bits) *p = soft_rmw(cpu, soft_la(cpu, i, bits / 8, true), bits / 8); \
		uint16_t f = cpu->fl;                                                           \
		__asm__ volatile(PRE_ALL lock insn suf " %[d]\n\t" SOFT_FLAGS_OUT               \
				 : [d] "+m"(*p), "+a"(f)                                        \
				 :                                                              \
				 : "cc", "memory");                                             \
		soft_rmw_done(cpu);                                                             \
		cpu->fl = f;                                                                    \
		NEXT(cpu, i);                                                                   \
	}
#define DEF_UNARY(name, insn)               \
	DEF_UNARY_SIZE(name, insn, "b", 8)  \
	DEF_UNARY_SIZE(name, insn, "w", 16) \
	DEF_UNARY_SIZE(name, insn, "l", 32) \
	DEF_UNARY_SIZE(name, insn, "q", 64)
DEF_UNARY(inc, "inc")
DEF_UNARY(dec, "dec")
DEF_UNARY(not, "not")
DEF_UNARY(neg, "neg")
#define UN_ROW(n)                                         \
	{                                                 \
		SIZES(n##_r), SIZES(n##_m), SIZES(n##_lm) \
	}
const soft_op_fn soft_op_unary[UN_COUNT][3][4] = {UN_ROW(inc), UN_ROW(dec), UN_ROW(not ), UN_ROW(neg)};

/* ---- shifts and rotates; a masked count of zero changes nothing but still touches memory ---- */
#define SHIFT_R(name, insn, suf, bits, count)                                     \
	HANDLER(name)                                                             \
	{                                                                         \
		uint8_t c = (count) & (bits == 64 ? 63 : 31);                     \
		T(bits) d = RD(i->dst, bits);                                     \
		if (LIKELY(c != 0)) {                                             \
			uint16_t f = cpu->fl;                                     \
			__asm__(PRE_ALL insn suf " %%cl, %[d]\n\t" SOFT_FLAGS_OUT \
				: [d] "+&r"(d), "+a"(f)                           \
				: "c"(c)                                          \
				: "cc");                                          \
			cpu->fl = f;                                              \
		}                                                                 \
		WR##bits(i->dst, d);                                              \
		NEXT(cpu, i);                                                     \
	}
#define SHIFT_M(name, insn, suf, bits, count)                                                   \
	HANDLER(name)                                                                           \
	{                                                                                       \
		uint8_t c = (count) & (bits == 64 ? 63 : 31);                                   \
		volatile T(bits) *p = soft_rmw(cpu, soft_la(cpu, i, bits / 8, true), bits / 8); \
		uint16_t f = cpu->fl;                                                           \
		if (LIKELY(c != 0))                                                             \
			__asm__ volatile(PRE_ALL insn suf " %%cl, %[d]\n\t" SOFT_FLAGS_OUT      \
					 : [d] "+m"(*p), "+a"(f)                                \
					 : "c"(c)                                               \
					 : "cc", "memory");                                     \
		soft_rmw_done(cpu);                                                             \
		cpu->fl = f;                                                                    \
		NEXT(cpu, i);                                                                   \
	}
#define GUEST_CL CPU_REG(cpu, X86_RCX * 8, uint8_t)
#define DEF_SHIFT_SIZE(name, insn, suf, bits)                      \
	SHIFT_R(name##_ri##bits, insn, suf, bits, (uint8_t)i->imm) \
	SHIFT_R(name##_rc##bits, insn, suf, bits, GUEST_CL)        \
	SHIFT_M(name##_mi##bits, insn, suf, bits, (uint8_t)i->imm) \
	SHIFT_M(name##_mc##bits, insn, suf, bits, GUEST_CL)
#define DEF_SHIFT(name, insn)               \
	DEF_SHIFT_SIZE(name, insn, "b", 8)  \
	DEF_SHIFT_SIZE(name, insn, "w", 16) \
	DEF_SHIFT_SIZE(name, insn, "l", 32) \
	DEF_SHIFT_SIZE(name, insn, "q", 64)
DEF_SHIFT(rol, "rol")
DEF_SHIFT(ror, "ror")
DEF_SHIFT(rcl, "rcl")
DEF_SHIFT(rcr, "rcr")
DEF_SHIFT(shl, "shl")
DEF_SHIFT(shr, "shr")
DEF_SHIFT(sar, "sar")
#define SH_ROW(n)                                                          \
	{                                                                  \
		SIZES(n##_ri), SIZES(n##_rc), SIZES(n##_mi), SIZES(n##_mc) \
	}
const soft_op_fn soft_op_shift[SH_COUNT][4][4] = {
    SH_ROW(rol), SH_ROW(ror), SH_ROW(rcl), SH_ROW(rcr), SH_ROW(shl), SH_ROW(shr), SH_ROW(sar),
};

/* ---- multiply and divide ---- */
#define SRC_R(bits) RD(i->dst, bits)
#define SRC_M(bits) soft_ld##bits(cpu, soft_la(cpu, i, bits / 8, false))
/* RAX is an operand: the flags travel in R8, exchanged around the operation. */
#define MUL_ASM(insn, suf, a, d, s, f)                                                                      \
	do {                                                                                                \
		register uint64_t f_ __asm__("r8") = (f);                                                   \
		uint64_t a_ = (a), d_ = (d);                                                                \
		__asm__("xchgq %%rax, %%r8\n\t" SOFT_FLAGS_IN "xchgq %%rax, %%r8\n\t" insn suf " %[s_]\n\t" \
			"xchgq %%rax, %%r8\n\t" SOFT_FLAGS_OUT "\n\txchgq %%rax, %%r8"                      \
			: "+a"(a_), "+d"(d_), "+r"(f_)                                                      \
			: [s_] "r"(s)                                                                       \
			: "cc");                                                                            \
		(a) = a_;                                                                                   \
		(d) = d_;                                                                                   \
		(f) = (uint16_t)f_;                                                                         \
	} while (0)

#define DEF_MUL(name, insn, bits, suf, src)                            \
	HANDLER(name)                                                  \
	{                                                              \
		T(bits) s = src(bits);                                 \
		uint64_t a = cpu->gpr[X86_RAX], d = cpu->gpr[X86_RDX]; \
		uint16_t f = cpu->fl;                                  \
		MUL_ASM(insn, suf, a, d, s, f);                        \
		cpu->fl = f;                                           \
		if (bits == 8) {                                       \
			WR16(0, (uint16_t)a);                          \
		} else {                                               \
			WR##bits(X86_RAX * 8, (T(bits))a);             \
			WR##bits(X86_RDX * 8, (T(bits))d);             \
		}                                                      \
		NEXT(cpu, i);                                          \
	}

/* Would the quotient not fit? Then #DE. The dividend is the pair high:low. */
static bool
udiv_overflows(uint64_t hi, uint64_t s)
{
	return s == 0 || hi >= s;
}

static bool
idiv_overflows(unsigned __int128 dividend, int64_t s, unsigned n)
{
	__int128 v = (__int128)dividend, q;
	if (s == 0)
		return true;
	if (s == -1) /* the one quotient that __int128 itself cannot hold */
		return v == ((__int128)1 << 127) || -v > ((__int128)1 << (n - 1)) - 1 ||
		       -v < -((__int128)1 << (n - 1));
	q = v / s;
	return q > ((__int128)1 << (n - 1)) - 1 || q < -((__int128)1 << (n - 1));
}

#define DIV_HI(bits)	 (bits == 8 ? (uint64_t)(uint8_t)(a >> 8) : (uint64_t)(T(bits))d)
#define UDIV_CHECK(bits) udiv_overflows(DIV_HI(bits), s)
#define IDIV_PAIR(bits)                                                                                   \
	(bits == 8    ? (unsigned __int128)(__int128)(int16_t)a                                           \
	 : bits == 16 ? (unsigned __int128)(__int128)(int32_t)((uint32_t)(uint16_t)d << 16 | (uint16_t)a) \
	 : bits == 32 ? (unsigned __int128)(__int128)(int64_t)((uint64_t)(uint32_t)d << 32 | (uint32_t)a) \
		      : ((unsigned __int128)d << 64 | a))
#define IDIV_CHECK(bits) idiv_overflows(IDIV_PAIR(bits), (int##bits##_t)s, bits)
#define DEF_DIV(name, insn, bits, suf, src, check)                     \
	HANDLER(name)                                                  \
	{                                                              \
		uint64_t a = cpu->gpr[X86_RAX], d = cpu->gpr[X86_RDX]; \
		cpu->cur = i;                                          \
		T(bits) s = src(bits);                                 \
		uint16_t f = cpu->fl;                                  \
		if (UNLIKELY(check(bits)))                             \
			soft_raise(cpu, EXC_DE);                       \
		MUL_ASM(insn, suf, a, d, s, f);                        \
		cpu->fl = f;                                           \
		if (bits == 8) {                                       \
			WR16(0, (uint16_t)a);                          \
		} else {                                               \
			WR##bits(X86_RAX * 8, (T(bits))a);             \
			WR##bits(X86_RDX * 8, (T(bits))d);             \
		}                                                      \
		NEXT(cpu, i);                                          \
	}
#define DEF_MULDIV_SIZE(bits, suf)                                  \
	DEF_MUL(mul_r##bits, "mul", bits, suf, SRC_R)               \
	DEF_MUL(mul_m##bits, "mul", bits, suf, SRC_M)               \
	DEF_MUL(imul_r##bits, "imul", bits, suf, SRC_R)             \
	DEF_MUL(imul_m##bits, "imul", bits, suf, SRC_M)             \
	DEF_DIV(div_r##bits, "div", bits, suf, SRC_R, UDIV_CHECK)   \
	DEF_DIV(div_m##bits, "div", bits, suf, SRC_M, UDIV_CHECK)   \
	DEF_DIV(idiv_r##bits, "idiv", bits, suf, SRC_R, IDIV_CHECK) \
	DEF_DIV(idiv_m##bits, "idiv", bits, suf, SRC_M, IDIV_CHECK)
DEF_MULDIV_SIZE(8, "b")
DEF_MULDIV_SIZE(16, "w")
DEF_MULDIV_SIZE(32, "l")
DEF_MULDIV_SIZE(64, "q")
#define MUL_ROW(n)                         \
	{                                  \
		SIZES(n##_r), SIZES(n##_m) \
	}
const soft_op_fn soft_op_mul[4][2][4] = {MUL_ROW(mul), MUL_ROW(imul), MUL_ROW(div), MUL_ROW(idiv)};

/* imul r, r/m (product of dst and source) and imul r, r/m, imm (source in src) */
#define DEF_IMUL2(name, bits, suf, x, y)                                    \
	HANDLER(name)                                                       \
	{                                                                   \
		T(bits) s = x, d = y;                                       \
		uint16_t f = cpu->fl;                                       \
		__asm__(PRE_ALL "imul" suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT \
			: [d] "+&r"(d), "+a"(f)                             \
			: [s] "r"(s)                                        \
			: "cc");                                            \
		cpu->fl = f;                                                \
		WR##bits(i->dst, d);                                        \
		NEXT(cpu, i);                                               \
	}
#define DEF_IMUL2_SIZE(bits, suf)                                                \
	DEF_IMUL2(imul2_rr##bits, bits, suf, RD(i->src, bits), RD(i->dst, bits)) \
	DEF_IMUL2(imul2_rm##bits, bits, suf, SRC_M(bits), RD(i->dst, bits))      \
	DEF_IMUL2(imul3_rr##bits, bits, suf, (T(bits))i->imm, RD(i->src, bits))  \
	DEF_IMUL2(imul3_rm##bits, bits, suf, (T(bits))i->imm, SRC_M(bits))
DEF_IMUL2_SIZE(16, "w")
DEF_IMUL2_SIZE(32, "l")
DEF_IMUL2_SIZE(64, "q")
#define SIZES3(n)                         \
	{                                 \
		NULL, n##16, n##32, n##64 \
	}
const soft_op_fn soft_op_imul2[4][4] = {SIZES3(imul2_rr), SIZES3(imul2_rm), SIZES3(imul3_rr),
					SIZES3(imul3_rm)};

/* ---- moves ---- */
#define DEF_MOV_SIZE(bits)                                                              \
	HANDLER(mov_rr##bits)                                                           \
	{                                                                               \
		WR##bits(i->dst, RD(i->src, bits));                                     \
		NEXT(cpu, i);                                                           \
	}                                                                               \
	HANDLER(mov_ri##bits)                                                           \
	{                                                                               \
		WR##bits(i->dst, (T(bits))i->imm);                                      \
		NEXT(cpu, i);                                                           \
	}                                                                               \
	HANDLER(mov_rm##bits)                                                           \
	{                                                                               \
		WR##bits(i->dst, soft_ld##bits(cpu, soft_la(cpu, i, bits / 8, false))); \
		NEXT(cpu, i);                                                           \
	}                                                                               \
	HANDLER(mov_mr##bits)                                                           \
	{                                                                               \
		soft_st##bits(cpu, soft_la(cpu, i, bits / 8, true), RD(i->src, bits));  \
		NEXT(cpu, i);                                                           \
	}                                                                               \
	HANDLER(mov_mi##bits)                                                           \
	{                                                                               \
		soft_st##bits(cpu, soft_la(cpu, i, bits / 8, true), (T(bits))i->imm);   \
		NEXT(cpu, i);                                                           \
	}                                                                               \
	HANDLER(lea##bits)                                                              \
	{                                                                               \
		uint64_t ea = soft_ea(cpu, i);                                          \
		if (UNLIKELY(i->addrsize != 8))                                         \
			ea &= size_mask(i->addrsize);                                   \
		WR##bits(i->dst, (T(bits))ea);                                          \
		NEXT(cpu, i);                                                           \
	}
DEF_MOV_SIZE(8)
DEF_MOV_SIZE(16)
DEF_MOV_SIZE(32)
DEF_MOV_SIZE(64)
const soft_op_fn soft_op_mov[5][4] = {SIZES(mov_rr), SIZES(mov_ri), SIZES(mov_rm), SIZES(mov_mr),
				      SIZES(mov_mi)};
const soft_op_fn soft_op_lea[4] = SIZES(lea);

#define DEF_MOVX(name, sign, db, sb)                                                                         \
	HANDLER(name##_r##db##_##sb)                                                                         \
	{                                                                                                    \
		WR##db(i->dst, (T(db))(sign##db##_t)(sign##sb##_t)RD(i->src, sb));                           \
		NEXT(cpu, i);                                                                                \
	}                                                                                                    \
	HANDLER(name##_m##db##_##sb)                                                                         \
	{                                                                                                    \
		WR##db(i->dst,                                                                               \
		       (T(db))(sign##db##_t)(sign##sb##_t)soft_ld##sb(cpu, soft_la(cpu, i, sb / 8, false))); \
		NEXT(cpu, i);                                                                                \
	}
#define DEF_MOVX_ALL(name, sign)     \
	DEF_MOVX(name, sign, 16, 8)  \
	DEF_MOVX(name, sign, 32, 8)  \
	DEF_MOVX(name, sign, 64, 8)  \
	DEF_MOVX(name, sign, 16, 16) \
	DEF_MOVX(name, sign, 32, 16) \
	DEF_MOVX(name, sign, 64, 16) \
	DEF_MOVX(name, sign, 16, 32) \
	DEF_MOVX(name, sign, 32, 32) \
	DEF_MOVX(name, sign, 64, 32)
DEF_MOVX_ALL(movzx, uint)
DEF_MOVX_ALL(movsx, int)
#define MOVX_TAB(n)                                                                               \
	{                                                                                         \
		{NULL}, {n##16_8, n##16_16, n##16_32, NULL}, {n##32_8, n##32_16, n##32_32, NULL}, \
		{                                                                                 \
			n##64_8, n##64_16, n##64_32, NULL                                         \
		}                                                                                 \
	}
const soft_op_fn soft_op_movx[2][2][4][4] = {
    {MOVX_TAB(movzx_r), MOVX_TAB(movzx_m)},
    {MOVX_TAB(movsx_r), MOVX_TAB(movsx_m)},
};

/* ---- conditions ---- */
#define DEF_CMOV_SIZE(cc, bits)                                                           \
	HANDLER(cmov_r_##cc##_##bits)                                                     \
	{                                                                                 \
		T(bits) v = soft_cond(cpu->fl, cc) ? RD(i->src, bits) : RD(i->dst, bits); \
		WR##bits(i->dst, v);                                                      \
		NEXT(cpu, i);                                                             \
	}                                                                                 \
	HANDLER(cmov_m_##cc##_##bits)                                                     \
	{                                                                                 \
		T(bits) s = soft_ld##bits(cpu, soft_la(cpu, i, bits / 8, false));         \
		T(bits) v = soft_cond(cpu->fl, cc) ? s : RD(i->dst, bits);                \
		WR##bits(i->dst, v);                                                      \
		NEXT(cpu, i);                                                             \
	}
#define DEF_COND(cc)                                                                                         \
	DEF_CMOV_SIZE(cc, 16)                                                                                \
	DEF_CMOV_SIZE(cc, 32)                                                                                \
	DEF_CMOV_SIZE(cc, 64)                                                                                \
	HANDLER(setcc_##cc)                                                                                  \
	{                                                                                                    \
		uint8_t v = soft_cond(cpu->fl, cc);                                                          \
		if (i->flags & IF_MEM)                                                                       \
			soft_st8(cpu, soft_la(cpu, i, 1, true), v);                                          \
		else                                                                                         \
			WR8(i->dst, v);                                                                      \
		NEXT(cpu, i);                                                                                \
	}                                                                                                    \
	HANDLER(jcc_##cc)                                                                                    \
	{                                                                                                    \
		if (soft_cond(cpu->fl, cc))                                                                  \
			return soft_goto_link(cpu, i,                                                        \
					      (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & cpu->ip_mask, 1); \
		return soft_goto_link(cpu, i, soft_next_rip(cpu, i), 0);                                     \
	}
/* clang-format off */
DEF_COND(0)
DEF_COND(1)
DEF_COND(2)
DEF_COND(3)
DEF_COND(4)
DEF_COND(5)
DEF_COND(6)
DEF_COND(7)
DEF_COND(8)
DEF_COND(9)
DEF_COND(10)
DEF_COND(11)
DEF_COND(12)
DEF_COND(13)
DEF_COND(14)
DEF_COND(15)
/* clang-format on */
#define CC16(n)                                                                                         \
	{                                                                                               \
		n##0, n##1, n##2, n##3, n##4, n##5, n##6, n##7, n##8, n##9, n##10, n##11, n##12, n##13, \
		    n##14, n##15                                                                        \
	}
const soft_op_fn soft_op_jcc[16] = CC16(jcc_);
const soft_op_fn soft_op_setcc[16] = CC16(setcc_);
#define CMOV_ROW(cc)                                                               \
	{                                                                          \
		{NULL, cmov_r_##cc##_16, cmov_r_##cc##_32, cmov_r_##cc##_64},      \
		{                                                                  \
			NULL, cmov_m_##cc##_16, cmov_m_##cc##_32, cmov_m_##cc##_64 \
		}                                                                  \
	}
const soft_op_fn soft_op_cmov[16][2][4] = {
    CMOV_ROW(0),  CMOV_ROW(1),	CMOV_ROW(2),  CMOV_ROW(3),  CMOV_ROW(4),  CMOV_ROW(5),
    CMOV_ROW(6),  CMOV_ROW(7),	CMOV_ROW(8),  CMOV_ROW(9),  CMOV_ROW(10), CMOV_ROW(11),
    CMOV_ROW(12), CMOV_ROW(13), CMOV_ROW(14), CMOV_ROW(15),
};
