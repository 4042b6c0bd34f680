/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bit tests, exchanges and compare-exchanges: the instructions that guests use
 * locked. They act on guest memory with the host's own instruction, so that
 * guest atomics are host atomics (XCHG with memory always locks; SDM vol. 3A 9.1).
 */
#include "engine/soft/ops.h"

#define T(bits)	      uint##bits##_t
#define WR8(o, v)     (CPU_REG(cpu, o, uint8_t) = (v))
#define WR16(o, v)    (CPU_REG(cpu, o, uint16_t) = (v))
#define WR32(o, v)    (CPU_REG(cpu, o, uint64_t) = (uint32_t)(v))
#define WR64(o, v)    (CPU_REG(cpu, o, uint64_t) = (v))
#define RD(o, bits)   CPU_REG(cpu, o, T(bits))
#define HANDLER(name) static const struct soft_insn *name(struct soft_cpu *cpu, const struct soft_insn *i)
#define SIZES(n)                          \
	{                                 \
		n##8, n##16, n##32, n##64 \
	}
#define SIZES3(n)                         \
	{                                 \
		NULL, n##16, n##32, n##64 \
	}

/* ---- bt, bts, btr, btc ---- */

/* A register bit index selects among all of memory: the operand's address moves by whole operands. */
static uint64_t
bt_la(struct soft_cpu *cpu, const struct soft_insn *i, int64_t index, unsigned size, bool write)
{
	int64_t step = (index >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * (int64_t)size;
	cpu->cur = i;
	if (UNLIKELY(i->flags & IF_EASLOW)) {
		uint64_t ea = (soft_ea(cpu, i) + (uint64_t)step) & size_mask(i->addrsize);
		return soft_seg_la(cpu, i->seg, ea, size, write);
	}
	return soft_ea(cpu, i) + (uint64_t)step + cpu->seg_base[i->segslot];
}

#define BT_TEST(name, bits, suf, idx)                                           \
	HANDLER(name)                                                           \
	{                                                                       \
		T(bits) d = RD(i->dst, bits), s = (T(bits))(idx);               \
		uint16_t f = cpu->fl;                                           \
		__asm__(SOFT_FLAGS_IN "bt" suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT \
			: [d] "+&r"(d), "+a"(f)                                 \
			: [s] "r"(s)                                            \
			: "cc");                                                \
		cpu->fl = f;                                                    \
		NEXT(cpu, i);                                                   \
	}
#define BT_R(name, insn, bits, suf, idx)                                        \
	HANDLER(name)                                                           \
	{                                                                       \
		T(bits) d = RD(i->dst, bits), s = (T(bits))(idx);               \
		uint16_t f = cpu->fl;                                           \
		__asm__(SOFT_FLAGS_IN insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT \
			: [d] "+&r"(d), "+a"(f)                                 \
			: [s] "r"(s)                                            \
			: "cc");                                                \
		cpu->fl = f;                                                    \
		WR##bits(i->dst, d);                                            \
		NEXT(cpu, i);                                                   \
	}
#define BT_M(name, insn, lock, bits, suf, idx)                                                          \
	HANDLER(name)                                                                                   \
	{                                                                                               \
		int##bits##_t n = (int##bits##_t)(idx);                                                 \
		volatile T(bits) *p =                                                                   \
		    soft_rmw(cpu, bt_la(cpu, i, i->flags & IF_REG2 ? n : 0, bits / 8, true), bits / 8); \
		T(bits) s = (T(bits))n & (bits - 1);                                                    \
		uint16_t f = cpu->fl;                                                                   \
		__asm__ volatile(SOFT_FLAGS_IN lock insn suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT           \
				 : [d] "+m"(*p), "+a"(f)                                                \
				 : [s] "r"(s)                                                           \
				 : "cc", "memory");                                                     \
		soft_rmw_done(cpu);                                                                     \
		cpu->fl = f;                                                                            \
		NEXT(cpu, i);                                                                           \
	}
#define BT_READ(name, bits, suf, idx)                                                                       \
	HANDLER(name)                                                                                       \
	{                                                                                                   \
		int##bits##_t n = (int##bits##_t)(idx);                                                     \
		T(bits) d = soft_ld##bits(cpu, bt_la(cpu, i, i->flags & IF_REG2 ? n : 0, bits / 8, false)); \
		T(bits) s = (T(bits))n & (bits - 1);                                                        \
		uint16_t f = cpu->fl;                                                                       \
		__asm__(SOFT_FLAGS_IN "bt" suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT                             \
			: [d] "+&r"(d), "+a"(f)                                                             \
			: [s] "r"(s)                                                                        \
			: "cc");                                                                            \
		cpu->fl = f;                                                                                \
		NEXT(cpu, i);                                                                               \
	}
#define DEF_BT_SIZE(name, insn, bits, suf)             \
	BT_R(name##_ri##bits, insn, bits, suf, i->imm) \
	BT_R(name##_rr##bits, insn, bits, suf, RD(i->src, bits))
#define DEF_BTM_SIZE(name, insn, bits, suf)                          \
	BT_M(name##_mi##bits, insn, "", bits, suf, i->imm)           \
	BT_M(name##_mr##bits, insn, "", bits, suf, RD(i->src, bits)) \
	BT_M(name##_lmi##bits, insn, "lock ", bits, suf, i->imm)     \
	BT_M(name##_lmr##bits, insn, "lock ", bits, suf, RD(i->src, bits))
#define DEF_BT(name, insn)               \
	DEF_BT_SIZE(name, insn, 16, "w") \
	DEF_BT_SIZE(name, insn, 32, "l") \
	DEF_BT_SIZE(name, insn, 64, "q")
#define DEF_BTM(name, insn)               \
	DEF_BTM_SIZE(name, insn, 16, "w") \
	DEF_BTM_SIZE(name, insn, 32, "l") \
	DEF_BTM_SIZE(name, insn, 64, "q")
BT_TEST(bt_ri16, 16, "w", i->imm)
BT_TEST(bt_ri32, 32, "l", i->imm)
BT_TEST(bt_ri64, 64, "q", i->imm)
BT_TEST(bt_rr16, 16, "w", RD(i->src, 16))
BT_TEST(bt_rr32, 32, "l", RD(i->src, 32))
BT_TEST(bt_rr64, 64, "q", RD(i->src, 64))
DEF_BT(bts, "bts")
DEF_BT(btr, "btr")
DEF_BT(btc, "btc")
DEF_BTM(bts, "bts")
DEF_BTM(btr, "btr")
DEF_BTM(btc, "btc")
BT_READ(bt_mi16, 16, "w", i->imm)
BT_READ(bt_mi32, 32, "l", i->imm)
BT_READ(bt_mi64, 64, "q", i->imm)
BT_READ(bt_mr16, 16, "w", RD(i->src, 16))
BT_READ(bt_mr32, 32, "l", RD(i->src, 32))
BT_READ(bt_mr64, 64, "q", RD(i->src, 64))
#define BT_ROW(n)                                                                                \
	{                                                                                        \
		SIZES3(n##_ri), SIZES3(n##_rr), SIZES3(n##_mi), SIZES3(n##_mr), SIZES3(n##_lmi), \
		    SIZES3(n##_lmr)                                                              \
	}
const soft_op_fn soft_op_bt[BT_COUNT][6][4] = {
    {SIZES3(bt_ri), SIZES3(bt_rr), SIZES3(bt_mi), SIZES3(bt_mr), {NULL}, {NULL}},
    BT_ROW(bts),
    BT_ROW(btr),
    BT_ROW(btc),
};

/* ---- xchg, xadd, cmpxchg ---- */
#define DEF_XCHG(bits)                                                                 \
	HANDLER(xchg_r##bits)                                                          \
	{                                                                              \
		T(bits) a = RD(i->dst, bits), b = RD(i->src, bits);                    \
		WR##bits(i->dst, b);                                                   \
		WR##bits(i->src, a);                                                   \
		NEXT(cpu, i);                                                          \
	}                                                                              \
	HANDLER(xchg_m##bits)                                                          \
	{                                                                              \
		T(bits) *p = soft_rmw(cpu, soft_la(cpu, i, bits / 8, true), bits / 8); \
		T(bits) v = RD(i->src, bits);                                          \
		__asm__ volatile("xchg %0, %1" : "+r"(v), "+m"(*p) : : "memory");      \
		soft_rmw_done(cpu);                                                    \
		WR##bits(i->src, v);                                                   \
		NEXT(cpu, i);                                                          \
	}
DEF_XCHG(8)
DEF_XCHG(16)
DEF_XCHG(32)
DEF_XCHG(64)
const soft_op_fn soft_op_xchg[2][4] = {SIZES(xchg_r), SIZES(xchg_m)};

#define XADD_M(name, lock, bits, suf)                                                  \
	HANDLER(name)                                                                  \
	{                                                                              \
		T(bits) *p = soft_rmw(cpu, soft_la(cpu, i, bits / 8, true), bits / 8); \
		T(bits) v = RD(i->src, bits);                                          \
		uint16_t f;                                                            \
		__asm__ volatile(lock "xadd" suf " %[v], %[p]\n\t" SOFT_FLAGS_OUT      \
				 : [v] "+&r"(v), [p] "+m"(*p), "=&a"(f)                \
				 :                                                     \
				 : "cc", "memory");                                    \
		soft_rmw_done(cpu);                                                    \
		cpu->fl = f;                                                           \
		WR##bits(i->src, v);                                                   \
		NEXT(cpu, i);                                                          \
	}
#define CMPXCHG_M(name, lock, bits, suf)                                                                 \
	HANDLER(name)                                                                                    \
	{                                                                                                \
		T(bits) *p = soft_rmw(cpu, soft_la(cpu, i, bits / 8, true), bits / 8);                   \
		uint64_t old = cpu->gpr[X86_RAX];                                                        \
		uint64_t f;                                                                              \
		__asm__ volatile(lock "cmpxchg" suf " %[s], %[p]\n\tmovq %%rax, %[f]\n\t" SOFT_FLAGS_OUT \
				      "\n\txchgq %%rax, %[f]"                                            \
				 : "+a"(old), [p] "+m"(*p), [f] "=&r"(f)                                 \
				 : [s] "r"(RD(i->src, bits))                                             \
				 : "cc", "memory");                                                      \
		soft_rmw_done(cpu);                                                                      \
		cpu->fl = (uint16_t)f;                                                                   \
		if (!(f & SFL_ZF))                                                                       \
			WR##bits(X86_RAX * 8, (T(bits))old);                                             \
		NEXT(cpu, i);                                                                            \
	}
#define DEF_XADD(bits, suf)                                                          \
	HANDLER(xadd_r##bits)                                                        \
	{                                                                            \
		T(bits) d = RD(i->dst, bits), s = RD(i->src, bits);                  \
		uint16_t f;                                                          \
		__asm__("xadd" suf " %[s], %[d]\n\t" SOFT_FLAGS_OUT                  \
			: [d] "+&r"(d), [s] "+&r"(s), "=&a"(f)                       \
			:                                                            \
			: "cc");                                                     \
		cpu->fl = f;                                                         \
		WR##bits(i->src, s);                                                 \
		WR##bits(i->dst, d);                                                 \
		NEXT(cpu, i);                                                        \
	}                                                                            \
	XADD_M(xadd_m##bits, "", bits, suf)                                          \
	XADD_M(xadd_lm##bits, "lock ", bits, suf)                                    \
	HANDLER(cmpxchg_r##bits)                                                     \
	{                                                                            \
		T(bits) d = RD(i->dst, bits), s = RD(i->src, bits), a = RD(0, bits); \
		uint16_t f;                                                          \
		__asm__("cmp" suf " %[d], %[a]\n\t" SOFT_FLAGS_OUT                   \
			: "=&a"(f)                                                   \
			: [d] "r"(d), [a] "r"(a)                                     \
			: "cc");                                                     \
		cpu->fl = f;                                                         \
		if (f & SFL_ZF)                                                      \
			WR##bits(i->dst, s);                                         \
		else                                                                 \
			WR##bits(X86_RAX * 8, d);                                    \
		NEXT(cpu, i);                                                        \
	}                                                                            \
	CMPXCHG_M(cmpxchg_m##bits, "", bits, suf)                                    \
	CMPXCHG_M(cmpxchg_lm##bits, "lock ", bits, suf)
DEF_XADD(8, "b")
DEF_XADD(16, "w")
DEF_XADD(32, "l")
DEF_XADD(64, "q")
const soft_op_fn soft_op_xadd[3][4] = {SIZES(xadd_r), SIZES(xadd_m), SIZES(xadd_lm)};
const soft_op_fn soft_op_cmpxchg[3][4] = {SIZES(cmpxchg_r), SIZES(cmpxchg_m), SIZES(cmpxchg_lm)};

/* CMPXCHG8B, CMPXCHG16B (16 bytes must be aligned: #GP). The locked host form serves both. */
OP(op_cmpxchg8b)
{
	uint64_t la = soft_la(cpu, i, i->size, true);
	bool eq;
	if (i->size == 16) {
		if (la & 15)
			soft_gp(cpu, 0);
		uint64_t a = cpu->gpr[X86_RAX], d = cpu->gpr[X86_RDX];
		volatile char *p = soft_rmw(cpu, la, 16);
		__asm__ volatile("lock cmpxchg16b %[p]"
				 : "+a"(a), "+d"(d), [p] "+m"(*(volatile char(*)[16])p), "=@ccz"(eq)
				 : "b"(cpu->gpr[X86_RBX]), "c"(cpu->gpr[X86_RCX])
				 : "memory");
		soft_rmw_done(cpu);
		cpu->gpr[X86_RAX] = a;
		cpu->gpr[X86_RDX] = d;
	} else {
		uint32_t a = (uint32_t)cpu->gpr[X86_RAX], d = (uint32_t)cpu->gpr[X86_RDX];
		volatile char *p = soft_rmw(cpu, la, 8);
		__asm__ volatile("lock cmpxchg8b %[p]"
				 : "+a"(a), "+d"(d), [p] "+m"(*(volatile char(*)[8])p), "=@ccz"(eq)
				 : "b"((uint32_t)cpu->gpr[X86_RBX]), "c"((uint32_t)cpu->gpr[X86_RCX])
				 : "memory");
		soft_rmw_done(cpu);
		if (!eq) {
			cpu->gpr[X86_RAX] = a;
			cpu->gpr[X86_RDX] = d;
		}
	}
	cpu->fl = (uint16_t)((cpu->fl & ~SFL_ZF) | (eq ? SFL_ZF : 0));
	NEXT(cpu, i);
}
