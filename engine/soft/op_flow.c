/* SPDX-License-Identifier: BSD-2-Clause */
/* Control flow within a segment, and the gateways to what leaves it (xfer.c, excp.c). */
#include "engine/soft/ops.h"

OP(op_jmp_rel)
{
	return soft_goto_link(cpu, i, (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & cpu->ip_mask, 1);
}

/* A near branch target: #GP when it is outside the segment or not canonical (SDM vol. 2, JMP). */
static void
check_target(struct soft_cpu *cpu, uint64_t rip)
{
	if (soft_is64(cpu) ? !soft_canonical(cpu, rip) : rip > cpu->st.seg[X86_CS].limit)
		soft_gp(cpu, 0);
}

static uint64_t
branch_operand(struct soft_cpu *cpu, const struct soft_insn *i, bool mem)
{
	uint64_t t;
	if (mem)
		t = soft_load(cpu, soft_la(cpu, i, i->size, false), i->size);
	else
		t = soft_reg_get(cpu, i->dst, i->size);
	cpu->cur = i;
	check_target(cpu, t);
	return t;
}

OP(op_jmp_r)
{
	return soft_goto(cpu, branch_operand(cpu, i, false));
}

OP(op_jmp_m)
{
	return soft_goto(cpu, branch_operand(cpu, i, true));
}

static void
push_return(struct soft_cpu *cpu, const struct soft_insn *i)
{
	soft_push(cpu, i->size, soft_next_rip(cpu, i));
}

OP(op_call_rel64)
{
	uint64_t target = cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm, sp = cpu->gpr[X86_RSP] - 8;
	cpu->cur = i;
	check_target(cpu, target); /* nothing is pushed then */
	soft_st64(cpu, sp, cpu->gpr[REG_RIPBASE] + i->off + i->len);
	cpu->gpr[X86_RSP] = sp;
	return soft_goto_link(cpu, i, target, 1);
}

OP(op_call_rel)
{
	uint64_t target = (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & cpu->ip_mask & size_mask(i->size);
	cpu->cur = i;
	check_target(cpu, target);
	push_return(cpu, i);
	return soft_goto(cpu, target);
}

OP(op_call_r)
{
	uint64_t target = branch_operand(cpu, i, false);
	push_return(cpu, i);
	return soft_goto(cpu, target);
}

OP(op_call_m)
{
	uint64_t target = branch_operand(cpu, i, true);
	push_return(cpu, i);
	return soft_goto(cpu, target);
}

OP(op_ret64)
{
	uint64_t sp = cpu->gpr[X86_RSP], target;
	cpu->cur = i;
	target = soft_ld64(cpu, sp);
	check_target(cpu, target);
	cpu->gpr[X86_RSP] = sp + 8 + (uint64_t)i->imm;
	return soft_goto(cpu, target);
}

OP(op_ret)
{
	uint64_t mask = soft_sp_mask(cpu), sp = cpu->gpr[X86_RSP] & mask, target;
	cpu->cur = i;
	target = soft_load(cpu, soft_seg_la(cpu, X86_SS, sp, i->size, false), i->size);
	check_target(cpu, target);
	sp = (sp + i->size + (uint64_t)i->imm) & mask;
	cpu->gpr[X86_RSP] = mask == 0xffff ? (cpu->gpr[X86_RSP] & ~0xffffull) | sp : sp;
	return soft_goto(cpu, target);
}

/* LOOPNE, LOOPE, LOOP (imm2 = 0, 1, 2): the count register has the address size. */
OP(op_loop)
{
	unsigned n = i->addrsize;
	uint64_t c = (soft_reg_get(cpu, X86_RCX * 8, n) - 1) & size_mask(n);
	uint64_t target = (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & cpu->ip_mask;
	bool zf = cpu->fl & SFL_ZF, taken = c != 0;
	cpu->cur = i;
	if (i->imm2 == 0)
		taken = taken && !zf;
	else if (i->imm2 == 1)
		taken = taken && zf;
	if (taken)
		check_target(cpu, target); /* nothing is counted then */
	soft_reg_set(cpu, X86_RCX * 8, n, c);
	if (taken)
		return soft_goto_link(cpu, i, target, 1);
	return soft_goto_link(cpu, i, soft_next_rip(cpu, i), 0);
}

OP(op_jcxz)
{
	if (soft_reg_get(cpu, X86_RCX * 8, i->addrsize) == 0)
		return soft_goto_link(cpu, i, (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & cpu->ip_mask, 1);
	return soft_goto_link(cpu, i, soft_next_rip(cpu, i), 0);
}

/* Not an instruction: the block was full, or reached the end of its page. */
OP(op_end_block)
{
	return soft_goto_link(cpu, i, (cpu->gpr[REG_RIPBASE] + i->off) & cpu->ip_mask, 0);
}

/* Far pointers: offset, then selector. */
static void
far_operand(struct soft_cpu *cpu, const struct soft_insn *i, uint16_t *sel, uint64_t *off)
{
	uint64_t la = soft_la(cpu, i, i->size + 2u, false);
	*off = soft_load(cpu, la, i->size);
	*sel = (uint16_t)soft_load(cpu, la + i->size, 2);
}

OP(op_jmp_far_m)
{
	uint16_t sel;
	uint64_t off;
	far_operand(cpu, i, &sel, &off);
	soft_far_jump(cpu, sel, off, i->size, soft_next_rip(cpu, i));
	return NULL;
}

OP(op_jmp_far_i)
{
	cpu->cur = i;
	soft_far_jump(cpu, (uint16_t)i->disp, (uint64_t)i->imm, i->size, soft_next_rip(cpu, i));
	return NULL;
}

OP(op_call_far_m)
{
	uint16_t sel;
	uint64_t off;
	far_operand(cpu, i, &sel, &off);
	soft_far_call(cpu, sel, off, i->size, soft_next_rip(cpu, i));
	return NULL;
}

OP(op_call_far_i)
{
	cpu->cur = i;
	soft_far_call(cpu, (uint16_t)i->disp, (uint64_t)i->imm, i->size, soft_next_rip(cpu, i));
	return NULL;
}

OP(op_ret_far)
{
	cpu->cur = i;
	soft_far_ret(cpu, i->size, (unsigned)i->imm);
	return NULL;
}

OP(op_iret)
{
	cpu->cur = i;
	soft_iret(cpu, i->size);
	return NULL;
}

/* Software interrupts are traps: the return address is that of the next instruction. */
static void __attribute__((noreturn))
software_int(struct soft_cpu *cpu, const struct soft_insn *i, unsigned vec, enum soft_exc_kind kind)
{
	cpu->cur = i;
	cpu->exc_vec = (uint8_t)vec;
	cpu->exc_has_err = 0;
	cpu->exc_kind = (uint8_t)kind;
	longjmp(cpu->jb, LEAVE_EXC);
}

OP(op_int)
{
	cpu->cur = i;
	software_int(cpu, i, (uint8_t)i->imm, EXCK_INT);
}

OP(op_int3)
{
	software_int(cpu, i, EXC_BP, EXCK_INT3);
}

/* INT1 reports a #DB without setting DR6 bits; no privilege check of the gate (SDM vol. 2, INT). */
OP(op_int1)
{
	cpu->exc_dr6 = cpu->st.pending_db & 0xf; /* a watchpoint that MOV SS held back goes along */
	cpu->st.pending_db = 0;
	software_int(cpu, i, EXC_DB, EXCK_TRAP);
}

OP(op_into)
{
	if (cpu->fl & SFL_OF)
		software_int(cpu, i, EXC_OF, EXCK_INT3);
	NEXT(cpu, i);
}

OP(op_bound)
{
	uint64_t la = soft_la(cpu, i, i->size * 2u, false);
	int64_t idx, lo, hi;
	if (i->size == 2) {
		idx = CPU_REG(cpu, i->src, int16_t);
		lo = (int16_t)soft_ld16(cpu, la);
		hi = (int16_t)soft_ld16(cpu, la + 2);
	} else {
		idx = CPU_REG(cpu, i->src, int32_t);
		lo = (int32_t)soft_ld32(cpu, la);
		hi = (int32_t)soft_ld32(cpu, la + 4);
	}
	if (idx < lo || idx > hi)
		soft_raise(cpu, EXC_BR);
	NEXT(cpu, i);
}

OP(op_syscall)
{
	cpu->cur = i;
	soft_syscall(cpu, soft_next_rip(cpu, i));
	return NULL;
}

OP(op_sysret)
{
	cpu->cur = i;
	soft_sysret(cpu, i->size);
	return NULL;
}

OP(op_sysenter)
{
	cpu->cur = i;
	soft_sysenter(cpu);
	return NULL;
}

OP(op_sysexit)
{
	cpu->cur = i;
	soft_sysexit(cpu, i->size);
	return NULL;
}

OP(op_ud)
{
	cpu->cur = i;
	soft_ud(cpu);
}

OP(op_too_long)
{
	cpu->cur = i;
	soft_gp(cpu, 0);
}

/* Direct branches with a 16-bit operand size: IP is cut to 16 bits (SDM vol. 2, Jcc). */
OP(op_branch16)
{
	uint64_t t = (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & 0xffff;
	if (i->cc < 16 && !soft_cond(cpu->fl, i->cc))
		t = soft_next_rip(cpu, i);
	cpu->cur = i;
	check_target(cpu, t);
	return soft_goto(cpu, t);
}

OP(op_loop16)
{
	unsigned n = i->addrsize;
	uint64_t c = soft_reg_get(cpu, X86_RCX * 8, n),
		 t = (cpu->gpr[REG_RIPBASE] + (uint64_t)i->imm) & 0xffff;
	bool zf = cpu->fl & SFL_ZF, taken;
	if (i->imm2 == 3) {
		taken = c == 0;
	} else {
		c = (c - 1) & size_mask(n);
		taken = c != 0 && (i->imm2 == 2 || zf == (i->imm2 == 1));
	}
	if (!taken)
		t = soft_next_rip(cpu, i);
	cpu->cur = i;
	check_target(cpu, t);
	if (i->imm2 != 3)
		soft_reg_set(cpu, X86_RCX * 8, n, c);
	return soft_goto(cpu, t);
}
