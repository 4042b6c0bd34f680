/* SPDX-License-Identifier: BSD-2-Clause */
/* PUSH, POP and their families, in every stack width (SDM vol. 1 6.2). */
#include "engine/soft/ops.h"
#include "engine/soft/seg.h"

uint64_t
soft_sp_mask(const struct soft_cpu *cpu)
{
	if (soft_is64(cpu))
		return ~0ull;
	return cpu->mode & MODE_SS32 ? 0xffffffffull : 0xffff;
}

static void
sp_set(struct soft_cpu *cpu, uint64_t sp)
{
	uint64_t mask = soft_sp_mask(cpu);
	if (mask == 0xffff)
		CPU_REG(cpu, X86_RSP * 8, uint16_t) = (uint16_t)sp;
	else
		cpu->gpr[X86_RSP] = sp & mask;
}

static uint64_t
stack_la(struct soft_cpu *cpu, uint64_t sp, unsigned size, bool write)
{
	if (soft_is64(cpu)) { /* #SS, whatever segment the instruction's own operand is in */
		if (UNLIKELY(!soft_canonical(cpu, sp) || !soft_canonical(cpu, sp + size - 1)))
			soft_raise_err(cpu, EXC_SS, 0);
		return sp;
	}
	return soft_seg_la(cpu, X86_SS, sp, size, write);
}

void
soft_push(struct soft_cpu *cpu, unsigned size, uint64_t val)
{
	uint64_t sp = (cpu->gpr[X86_RSP] - size) & soft_sp_mask(cpu);
	soft_store(cpu, stack_la(cpu, sp, size, true), size, val);
	sp_set(cpu, sp);
}

/* The value at depth `at` bytes below the top; the stack pointer stays. */
static uint64_t
stack_peek(struct soft_cpu *cpu, unsigned at, unsigned size)
{
	uint64_t sp = (cpu->gpr[X86_RSP] + at) & soft_sp_mask(cpu);
	return soft_load(cpu, stack_la(cpu, sp, size, false), size);
}

OP(op_push64_r)
{
	uint64_t sp = cpu->gpr[X86_RSP] - 8;
	cpu->cur = i;
	soft_st64(cpu, sp, CPU_REG(cpu, i->dst, uint64_t));
	cpu->gpr[X86_RSP] = sp;
	NEXT(cpu, i);
}

OP(op_pop64_r)
{
	uint64_t v;
	cpu->cur = i;
	v = soft_ld64(cpu, cpu->gpr[X86_RSP]);
	cpu->gpr[X86_RSP] += 8;
	CPU_REG(cpu, i->dst, uint64_t) = v;
	NEXT(cpu, i);
}

/* imm2: 0 register, 1 immediate, 2 memory */
OP(op_push)
{
	uint64_t v;
	cpu->cur = i;
	if (i->imm2 == 2)
		v = soft_load(cpu, soft_la(cpu, i, i->size, false), i->size);
	else
		v = i->imm2 == 1 ? (uint64_t)i->imm : soft_reg_get(cpu, i->dst, i->size);
	soft_push(cpu, i->size, v);
	NEXT(cpu, i);
}

/* POP to memory computes its address with the stack pointer already moved (SDM vol. 2, POP). */
OP(op_pop)
{
	uint64_t v, old = cpu->gpr[X86_RSP], la;
	cpu->cur = i;
	v = stack_peek(cpu, 0, i->size);
	if (i->imm2 == 2) {
		sp_set(cpu, old + i->size);
		uint64_t moved = cpu->gpr[X86_RSP];
		if (i->flags & IF_EASLOW) {
			uint64_t ea = soft_ea(cpu, i) & size_mask(i->addrsize);
			cpu->gpr[X86_RSP] = old;
			la = soft_is64(cpu) ? ea + cpu->seg_base[i->segslot]
					    : soft_seg_la(cpu, i->seg, ea, i->size, true);
		} else {
			la = soft_ea(cpu, i) + cpu->seg_base[i->segslot];
			cpu->gpr[X86_RSP] = old;
		}
		soft_store(cpu, la, i->size, v);
		cpu->gpr[X86_RSP] = moved;
	} else {
		sp_set(cpu, old + i->size);
		if (i->size == 2)
			CPU_REG(cpu, i->dst, uint16_t) = (uint16_t)v;
		else
			CPU_REG(cpu, i->dst, uint64_t) = v;
	}
	NEXT(cpu, i);
}

OP(op_pushf)
{
	uint64_t f = soft_rflags(cpu) & ~(uint64_t)(FL_RF | FL_VM);
	cpu->cur = i;
	if (UNLIKELY(cpu->mode & MODE_VM86) && soft_virtual_if(cpu) && i->size == 2) {
		soft_push(cpu, 2, soft_vme_flags_image(cpu));
		DONE(cpu, i);
	}
	if (soft_is_vm86(cpu) && (cpu->rflags & FL_IOPL) != FL_IOPL)
		soft_gp(cpu, 0);
	soft_push(cpu, i->size, f);
	NEXT(cpu, i);
}

OP(op_popf)
{
	uint64_t v, old = soft_rflags(cpu), mask;
	unsigned iopl = (old & FL_IOPL) >> 12;
	cpu->cur = i;
	if (UNLIKELY(cpu->mode & MODE_VM86) && soft_virtual_if(cpu) && i->size == 2) {
		soft_vme_pop_flags(cpu, (uint16_t)stack_peek(cpu, 0, 2));
		sp_set(cpu, cpu->gpr[X86_RSP] + 2);
		return soft_leave_after(cpu, i);
	}
	if (soft_is_vm86(cpu) && iopl != 3)
		soft_gp(cpu, 0);
	v = stack_peek(cpu, 0, i->size);
	mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;
	if (cpu->cpl == 0)
		mask |= FL_IOPL;
	if (cpu->cpl <= iopl)
		mask |= FL_IF;
	if (i->size == 2)
		mask &= 0xffff;
	sp_set(cpu, cpu->gpr[X86_RSP] + i->size);
	v = (old & ~mask) | (v & mask);
	if (LIKELY(((v ^ old) & ~(uint64_t)(FL_ARITH | FL_IF | FL_DF)) == 0 &&
		   !(~old & v & FL_IF && cpu->want_window))) {
		cpu->rflags = v & ~(uint64_t)FL_ARITH;
		cpu->fl = soft_eflags_to_fl(v);
		NEXT(cpu, i);
	}
	soft_set_rflags(cpu, v & ~(uint64_t)FL_RF);
	return soft_leave_after(cpu, i);
}

OP(op_pusha)
{
	uint64_t sp = cpu->gpr[X86_RSP], mask = soft_sp_mask(cpu);
	unsigned n = i->size;
	cpu->cur = i;
	for (unsigned r = 0; r < 8; r++) { /* check all eight before the first is written */
		uint64_t p = (sp - (r + 1) * n) & mask;
		soft_probe_aligned(cpu, stack_la(cpu, p, n, true), n, true);
	}
	for (unsigned r = 0; r < 8; r++)
		soft_store(cpu, stack_la(cpu, (sp - (r + 1) * n) & mask, n, true), n, cpu->gpr[r]);
	sp_set(cpu, sp - 8 * n);
	NEXT(cpu, i);
}

OP(op_popa)
{
	uint64_t v[8];
	unsigned n = i->size;
	cpu->cur = i;
	for (unsigned r = 0; r < 8; r++)
		v[r] = stack_peek(cpu, r * n, n);
	for (unsigned r = 0; r < 8; r++) {
		if (7 - r != X86_RSP)
			soft_reg_set(cpu, (7 - r) * 8, n, v[r]);
	}
	sp_set(cpu, cpu->gpr[X86_RSP] + 8 * n);
	NEXT(cpu, i);
}

OP(op_enter)
{
	unsigned n = i->size, level = i->imm2 & 31;
	uint64_t mask = soft_sp_mask(cpu), sp = cpu->gpr[X86_RSP], bp = cpu->gpr[X86_RBP], frame;
	cpu->cur = i;
	sp = (sp - n) & mask;
	soft_store(cpu, stack_la(cpu, sp, n, true), n, bp);
	frame = sp;
	for (unsigned l = 1; l < level; l++) {
		bp = (bp - n) & mask;
		uint64_t v = soft_load(cpu, stack_la(cpu, bp, n, false), n);
		sp = (sp - n) & mask;
		soft_store(cpu, stack_la(cpu, sp, n, true), n, v);
	}
	if (level > 0) {
		sp = (sp - n) & mask;
		soft_store(cpu, stack_la(cpu, sp, n, true), n, frame);
	}
	sp = (sp - (uint16_t)i->imm) & mask;
	soft_probe_aligned(cpu, stack_la(cpu, sp, n, true), n, true); /* the new top must be writable */
	soft_reg_set(cpu, X86_RBP * 8, n, n == 2 ? frame : (cpu->gpr[X86_RBP] & ~mask) | frame);
	sp_set(cpu, sp);
	NEXT(cpu, i);
}

OP(op_leave64)
{
	uint64_t bp = cpu->gpr[X86_RBP], v;
	cpu->cur = i;
	v = soft_ld64(cpu, bp);
	cpu->gpr[X86_RSP] = bp + 8;
	cpu->gpr[X86_RBP] = v;
	NEXT(cpu, i);
}

OP(op_leave)
{
	unsigned n = i->size;
	uint64_t mask = soft_sp_mask(cpu), bp = cpu->gpr[X86_RBP] & mask, v;
	cpu->cur = i;
	v = soft_load(cpu, stack_la(cpu, bp, n, false), n);
	sp_set(cpu, bp + n);
	soft_reg_set(cpu, X86_RBP * 8, n, v);
	NEXT(cpu, i);
}

OP(op_push_seg)
{
	unsigned n = i->size;
	cpu->cur = i;
	if (n == 4) { /* writes 16 bits only, moves by 4 (SDM vol. 2, PUSH) */
		uint64_t sp = (cpu->gpr[X86_RSP] - n) & soft_sp_mask(cpu);
		soft_probe_aligned(cpu, stack_la(cpu, sp, n, true), n, true);
		soft_store(cpu, stack_la(cpu, sp, 2, true), 2, cpu->st.seg[i->dst].sel);
		sp_set(cpu, sp);
	} else {
		soft_push(cpu, n, cpu->st.seg[i->dst].sel);
	}
	NEXT(cpu, i);
}

OP(op_pop_seg)
{
	uint64_t sp = cpu->gpr[X86_RSP], v;
	cpu->cur = i;
	v = stack_peek(cpu, 0, i->size == 8 ? 8 : 2);
	uint64_t mask = soft_sp_mask(cpu); /* of the old SS */
	soft_load_seg(cpu, i->dst, (uint16_t)v);
	if (mask == 0xffff)
		CPU_REG(cpu, X86_RSP * 8, uint16_t) = (uint16_t)(sp + i->size);
	else
		cpu->gpr[X86_RSP] = (sp + i->size) & mask;
	if (i->dst == X86_SS)
		cpu->shadow = SHADOW_MOVSS;
	return soft_leave_after(cpu, i);
}
