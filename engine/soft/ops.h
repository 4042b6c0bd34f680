/* SPDX-License-Identifier: BSD-2-Clause */
/* Handler tables: what the decoder chooses from. Private to engine/soft. */
#ifndef LHYVE_SOFT_OPS_H
#define LHYVE_SOFT_OPS_H

#include "engine/soft/cpu.h"

/* Operand forms: destination first. R register, M memory, I immediate; L: locked memory. */
enum op_form { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI, FORM_LMR, FORM_LMI, FORM_COUNT };
enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST, ALU_COUNT };
enum unary_op { UN_INC, UN_DEC, UN_NOT, UN_NEG, UN_COUNT };
enum shift_op { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAR, SH_COUNT };
enum bit_op { BT_BT, BT_BTS, BT_BTR, BT_BTC, BT_COUNT };

/* Last index: log2 of the operand's bytes. */
extern const soft_op_fn soft_op_alu[ALU_COUNT][FORM_COUNT][4];
extern const soft_op_fn soft_op_unary[UN_COUNT][3][4]; /* R, M, LM */
extern const soft_op_fn soft_op_shift[SH_COUNT][4][4]; /* R by imm, R by CL, M by imm, M by CL */
extern const soft_op_fn soft_op_mov[5][4];	       /* FORM_RR..FORM_MI */
extern const soft_op_fn soft_op_movx[2][2][4][4];      /* zero/sign, register/memory, dest, source */
extern const soft_op_fn soft_op_bt[BT_COUNT][6]
				  [4];	      /* R by imm, R by R, M by imm, M by R, LM by imm, LM by R */
extern const soft_op_fn soft_op_mul[4][2][4]; /* mul, imul, div, idiv; R/M */
extern const soft_op_fn soft_op_imul2[4][4];  /* r*r, r*m, r=r*imm, r=m*imm */
extern const soft_op_fn soft_op_jcc[16], soft_op_setcc[16], soft_op_cmov[16][2][4];
extern const soft_op_fn soft_op_xchg[2][4], soft_op_xadd[3][4], soft_op_cmpxchg[3][4];
extern const soft_op_fn soft_op_lea[4];

#define OP(name) const struct soft_insn *name(struct soft_cpu *cpu, const struct soft_insn *i)

/* op_flow.c */
OP(op_jmp_rel);
OP(op_jmp_r);
OP(op_jmp_m);
OP(op_call_rel64);
OP(op_call_rel);
OP(op_call_r);
OP(op_call_m);
OP(op_ret64);
OP(op_ret);
OP(op_loop);
OP(op_jcxz);
OP(op_end_block);
OP(op_jmp_far_m);
OP(op_jmp_far_i);
OP(op_call_far_m);
OP(op_call_far_i);
OP(op_ret_far);
OP(op_iret);
OP(op_int);
OP(op_int3);
OP(op_int1);
OP(op_into);
OP(op_bound);
OP(op_syscall);
OP(op_sysret);
OP(op_sysenter);
OP(op_sysexit);
OP(op_ud);
OP(op_too_long); /* over 15 bytes: #GP(0) */
OP(op_branch16); /* direct branches with a 16-bit operand size; cc 16 = always */
OP(op_loop16);
OP(op_fetch_fault);

/* op_stack.c */
OP(op_push64_r);
OP(op_pop64_r);
OP(op_push);
OP(op_pop);
OP(op_pushf);
OP(op_popf);
OP(op_pusha);
OP(op_popa);
OP(op_enter);
OP(op_leave);
OP(op_leave64);
OP(op_push_seg);
OP(op_pop_seg);

/* op_misc.c */
OP(op_nop);
OP(op_pause);
OP(op_bswap);
OP(op_cbw);
OP(op_cwd);
OP(op_xlat);
OP(op_lahf);
OP(op_sahf);
OP(op_flag); /* clc, stc, cmc, cld, std: imm2 */
OP(op_cmpxchg8b);
OP(op_bcd); /* daa, das, aaa, aas, aam, aad: imm2 */
OP(op_salc);
OP(op_mov_moffs);
OP(op_rdrand);
OP(op_fence);
OP(op_movnti);
OP(op_pkru);

/* op_string.c */
OP(op_movs);
OP(op_stos);
OP(op_lods);
OP(op_cmps);
OP(op_scas);
OP(op_ins);
OP(op_outs);

/* op_sys.c */
OP(op_cli);
OP(op_sti);
OP(op_hlt);
OP(op_in);
OP(op_out);
OP(op_cpuid);
OP(op_rdtsc);
OP(op_rdpmc);
OP(op_rdpid);
OP(op_rdmsr);
OP(op_wrmsr);
OP(op_mov_from_cr);
OP(op_mov_to_cr);
OP(op_mov_from_dr);
OP(op_mov_to_dr);
OP(op_clts);
OP(op_lmsw);
OP(op_smsw);
OP(op_lgdt);
OP(op_sgdt);
OP(op_lldt);
OP(op_sldt);
OP(op_lar);
OP(op_verr);
OP(op_arpl);
OP(op_invlpg);
OP(op_invpcid);
OP(op_cacheline); /* clflush, clflushopt, clwb, cldemote, clzero */
OP(op_wbinvd);
OP(op_swapgs);
OP(op_fsgsbase);
OP(op_stac);
OP(op_monitor);
OP(op_mwait);
OP(op_mov_from_seg);
OP(op_mov_to_seg);
OP(op_lseg); /* lds, les, lfs, lgs, lss */
OP(op_hypercall);

/* xsave.c */
OP(op_fxsave);
OP(op_fxrstor);
OP(op_xsave);
OP(op_xrstor);
OP(op_xgetbv);
OP(op_xsetbv);
OP(op_ldmxcsr);
OP(op_stmxcsr);

/* stub.c: vector, x87 and the rarer integer instructions on the host's own units */
OP(op_stub);

static inline unsigned
size_log2(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

#define SOFT_FLAGS_OUT "lahf\n\tseto %%al"
#define SOFT_FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"

static inline bool
soft_cond(uint16_t fl, unsigned cc)
{
	bool r;
	switch (cc >> 1) {
	case 0:
		r = fl & SFL_OF;
		break;
	case 1:
		r = fl & SFL_CF;
		break;
	case 2:
		r = fl & SFL_ZF;
		break;
	case 3:
		r = fl & (SFL_CF | SFL_ZF);
		break;
	case 4:
		r = fl & SFL_SF;
		break;
	case 5:
		r = fl & SFL_PF;
		break;
	case 6:
		r = ((fl >> 15) ^ fl) & 1;
		break;
	default:
		r = (((fl >> 15) ^ fl) & 1) || (fl & SFL_ZF);
		break;
	}
	return r != (cc & 1);
}

#endif
