/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Far transfers: JMP, CALL, RET between segments, call gates, SYSCALL and
 * SYSENTER with their returns (SDM vol. 2; vol. 3A 5.8).
 */
#include "engine/soft/seg.h"

/* ---- stacks in the making ---- */
void
soft_stack_current(struct soft_cpu *cpu, struct soft_stack *s)
{
	s->ss = cpu->st.seg[X86_SS];
	s->wide = soft_is64(cpu);
	s->mask = soft_sp_mask(cpu);
	s->sp = cpu->gpr[X86_RSP];
	s->cpl = cpu->cpl;
	s->fresh = false;
}

static uint64_t
stack_la(struct soft_cpu *cpu, struct soft_stack *s, uint64_t sp, unsigned size, bool write)
{
	if (!s->wide) {
		if (s->fresh && !soft_segment_reaches(cpu, &s->ss, sp, size, write))
			soft_raise_err(cpu, EXC_SS, s->ss.sel & ~3u); /* SDM vol. 2, CALL, INT: #SS(new SS) */
		return soft_segment_la(cpu, &s->ss, true, sp, size, write);
	}
	if (!soft_canonical(cpu, sp))
		soft_raise_err(cpu, EXC_SS, 0);
	return sp;
}

void
soft_stack_push(struct soft_cpu *cpu, struct soft_stack *s, unsigned size, uint64_t val)
{
	uint64_t sp = (s->sp - size) & s->mask, la = stack_la(cpu, s, sp, size, true);
	if (s->cpl == 3)
		soft_store(cpu, la, size, val);
	else
		soft_store_sys(cpu, la, size, val);
	s->sp = (s->sp & ~s->mask) | sp;
}

uint64_t
soft_stack_pop(struct soft_cpu *cpu, struct soft_stack *s, unsigned size)
{
	uint64_t sp = s->sp & s->mask, v = soft_load(cpu, stack_la(cpu, s, sp, size, false), size);
	s->sp = (s->sp & ~s->mask) | ((sp + size) & s->mask);
	return v;
}

void
soft_stack_commit_sp(struct soft_cpu *cpu, const struct soft_stack *s)
{
	if (s->mask == 0xffff)
		CPU_REG(cpu, X86_RSP * 8, uint16_t) = (uint16_t)s->sp;
	else
		cpu->gpr[X86_RSP] = s->sp & s->mask;
}

static void
tss_check(struct soft_cpu *cpu, uint64_t off, unsigned len)
{
	if (off + len - 1 > cpu->st.seg[X86_TR].limit)
		soft_raise_err(cpu, EXC_TS, cpu->st.seg[X86_TR].sel & ~3u);
}

void
soft_stack_from_tss(struct soft_cpu *cpu, struct soft_stack *s, unsigned cpl, unsigned ist)
{
	const struct x86_segment *tr = &cpu->st.seg[X86_TR];
	s->cpl = cpl;
	s->fresh = true;
	if (soft_long_mode(cpu)) {
		unsigned off = ist ? 28 + 8 * ist : 4 + 8 * cpl;
		tss_check(cpu, off, 8);
		s->sp = soft_load_sys(cpu, tr->base + off, 8);
		if (!soft_canonical(cpu, s->sp))
			soft_raise_err(cpu, EXC_SS, 0);
		s->wide = true;
		s->mask = ~0ull;
		memset(&s->ss, 0, sizeof(s->ss)); /* a null selector with RPL = new CPL */
		s->ss.sel = (uint16_t)cpl;
		s->ss.attr = SEG_UNUSABLE | cpl << SEG_DPL_SHIFT;
		return;
	}
	bool wide_tss = (tr->attr & 8) != 0; /* 32-bit TSS: types 9, 11 */
	unsigned off = wide_tss ? 4 + 8 * cpl : 2 + 4 * cpl;
	tss_check(cpu, off, wide_tss ? 6 : 4);
	s->sp = soft_load_sys(cpu, tr->base + off, wide_tss ? 4 : 2);
	uint16_t sel = (uint16_t)soft_load_sys(cpu, tr->base + off + (wide_tss ? 4 : 2), 2);
	soft_check_stack(cpu, sel, cpl, true, &s->ss);
	s->wide = false;
	s->mask = s->ss.attr & SEG_DB ? 0xffffffff : 0xffff;
}

/* ---- code segments ---- */
void
soft_check_ip(struct soft_cpu *cpu, uint64_t desc, uint64_t off)
{
	struct x86_segment s;
	soft_desc_to_seg(0, desc, &s);
	if (soft_long_mode(cpu) && (s.attr & SEG_L)) {
		if (!soft_canonical(cpu, off))
			soft_gp(cpu, 0);
	} else if (off > s.limit) {
		soft_gp(cpu, 0);
	}
}

void
soft_commit_cs(struct soft_cpu *cpu, uint16_t sel, uint64_t desc, uint64_t la, unsigned cpl)
{
	if (la != 0)
		soft_mark_accessed(cpu, la, desc);
	soft_desc_to_seg((uint16_t)((sel & ~3u) | cpl), desc | 1ull << 40, &cpu->st.seg[X86_CS]);
	soft_set_cpl(cpu, cpl);
	soft_update_mode(cpu);
}

/* Read a code or gate descriptor for a far transfer; #GP for null or out of range. */
static uint64_t
far_desc(struct soft_cpu *cpu, uint16_t sel, uint64_t *la)
{
	uint64_t desc;
	if ((sel & ~3u) == 0)
		soft_gp(cpu, 0);
	if (!soft_read_desc(cpu, sel, &desc, la))
		soft_gp(cpu, sel & ~3u);
	return desc;
}

static bool
is_code(uint64_t desc)
{
	return (bits(desc, 40, 5) & 0x18) == 0x18;
}

static bool
is_conforming(uint64_t desc)
{
	return (bits(desc, 40, 5) & 0x1c) == 0x1c;
}

static void
check_present(struct soft_cpu *cpu, uint16_t sel, uint64_t desc)
{
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, sel & ~3u);
}

/* Direct JMP/CALL to a code segment stays on its level. */
static void
check_direct_code(struct soft_cpu *cpu, uint16_t sel, uint64_t desc)
{
	unsigned dpl = bits(desc, 45, 2);
	if (is_conforming(desc) ? dpl > cpu->cpl : ((sel & 3u) > cpu->cpl || dpl != cpu->cpl))
		soft_gp(cpu, sel & ~3u);
	if (soft_long_mode(cpu) && bits(desc, 53, 2) == 3) /* L and D */
		soft_gp(cpu, sel & ~3u);
	check_present(cpu, sel, desc);
}

struct gate {
	uint16_t sel;
	uint64_t off;
	unsigned params, size; /* words to copy; bytes a push */
};

/* A call gate's contents after its own checks. Types: 4 16-bit, 12 32-bit, or 64-bit in long mode. */
static void
read_call_gate(struct soft_cpu *cpu, uint16_t sel, uint64_t desc, uint64_t la, struct gate *g)
{
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2);
	bool lm = soft_long_mode(cpu);
	if (!(type == 12 || (type == 4 && !lm)) || dpl < MAX((unsigned)cpu->cpl, sel & 3u))
		soft_gp(cpu, sel & ~3u);
	check_present(cpu, sel, desc);
	g->sel = (uint16_t)bits(desc, 16, 16);
	g->off = bits(desc, 0, 16) | bits(desc, 48, 16) << 16;
	g->params = bits(desc, 32, 5);
	g->size = type == 4 ? 2 : 4;
	if (type == 4)
		g->off &= 0xffff;
	if (lm) {
		uint64_t hi = soft_load_sys(cpu, la + 8, 8);
		if (bits(hi, 40, 5) != 0)
			soft_gp(cpu, sel & ~3u);
		g->off |= hi << 32;
		g->params = 0;
		g->size = 8;
	}
}

/* JMP or CALL to a TSS or task gate: 32-bit protected mode only. False: it is something else. */
static bool
task_transfer(struct soft_cpu *cpu, uint16_t sel, uint64_t desc, enum soft_task_how how, uint64_t next_rip)
{
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2);
	if (soft_long_mode(cpu) || (type != 1 && type != 9 && type != 5))
		return false;
	if (dpl < MAX((unsigned)cpu->cpl, sel & 3u))
		soft_gp(cpu, sel & ~3u);
	if (type == 5) {
		check_present(cpu, sel, desc);
		sel = soft_task_gate_target(desc);
	}
	soft_task_switch(cpu, sel, how, next_rip, -1);
	return true;
}

/* The gate's target segment, checked. In long mode it must be 64-bit code. */
static uint64_t
gate_target(struct soft_cpu *cpu, const struct gate *g, bool jump, uint64_t *la)
{
	uint64_t desc = far_desc(cpu, g->sel, la);
	unsigned dpl = bits(desc, 45, 2);
	if (!is_code(desc) || dpl > cpu->cpl || (jump && !is_conforming(desc) && dpl != cpu->cpl))
		soft_gp(cpu, g->sel & ~3u);
	if (soft_long_mode(cpu) && bits(desc, 53, 2) != 1)
		soft_gp(cpu, g->sel & ~3u);
	check_present(cpu, g->sel, desc);
	return desc;
}

static void
real_jump(struct soft_cpu *cpu, uint16_t sel, uint64_t off)
{
	if (off > cpu->st.seg[X86_CS].limit)
		soft_gp(cpu, 0);
	soft_load_seg_real(cpu, X86_CS, sel);
	soft_update_mode(cpu);
	cpu->rip = off;
}

void
soft_far_jump(struct soft_cpu *cpu, uint16_t sel, uint64_t off, unsigned size, uint64_t next_rip)
{
	uint64_t desc, la;
	struct gate g;
	(void)size;
	if (soft_is_real(cpu) || soft_is_vm86(cpu)) {
		real_jump(cpu, sel, off);
		return;
	}
	desc = far_desc(cpu, sel, &la);
	if (is_code(desc)) {
		check_direct_code(cpu, sel, desc);
	} else {
		if (bits(desc, 44, 1))
			soft_gp(cpu, sel & ~3u);
		if (task_transfer(cpu, sel, desc, TASK_JMP, next_rip))
			return;
		read_call_gate(cpu, sel, desc, la, &g);
		sel = g.sel;
		off = g.off;
		desc = gate_target(cpu, &g, true, &la);
	}
	soft_check_ip(cpu, desc, off);
	soft_commit_cs(cpu, sel, desc, la, cpu->cpl);
	cpu->rip = off;
}

/* CALL through a gate to a more privileged level: new stack, old SS:SP, parameters, return address. */
static void
gate_call_inner(struct soft_cpu *cpu, const struct gate *g, uint64_t desc, uint64_t la, uint64_t next_rip)
{
	struct soft_stack old, s;
	uint64_t params[31];
	unsigned cpl = bits(desc, 45, 2);
	soft_stack_current(cpu, &old);
	for (unsigned n = 0; n < g->params; n++)
		params[n] = soft_stack_pop(cpu, &old, g->size);
	soft_stack_from_tss(cpu, &s, cpl, 0);
	soft_check_ip(cpu, desc, g->off);
	soft_stack_push(cpu, &s, g->size, cpu->st.seg[X86_SS].sel);
	soft_stack_push(cpu, &s, g->size, cpu->gpr[X86_RSP]);
	for (unsigned n = g->params; n > 0; n--)
		soft_stack_push(cpu, &s, g->size, params[n - 1]);
	soft_stack_push(cpu, &s, g->size, cpu->st.seg[X86_CS].sel);
	soft_stack_push(cpu, &s, g->size, next_rip);
	cpu->st.seg[X86_SS] = s.ss;
	soft_commit_cs(cpu, g->sel, desc, la, cpl);
	soft_stack_commit_sp(cpu, &s);
	cpu->rip = g->off;
}

static void
push_return_far(struct soft_cpu *cpu, unsigned size, uint64_t next_rip)
{
	struct soft_stack s;
	soft_stack_current(cpu, &s);
	soft_stack_push(cpu, &s, size, cpu->st.seg[X86_CS].sel);
	soft_stack_push(cpu, &s, size, next_rip);
	soft_stack_commit_sp(cpu, &s);
}

void
soft_far_call(struct soft_cpu *cpu, uint16_t sel, uint64_t off, unsigned size, uint64_t next_rip)
{
	uint64_t desc, la;
	struct gate g;
	if (soft_is_real(cpu) || soft_is_vm86(cpu)) {
		if (off > cpu->st.seg[X86_CS].limit)
			soft_gp(cpu, 0);
		push_return_far(cpu, size, next_rip);
		real_jump(cpu, sel, off);
		return;
	}
	desc = far_desc(cpu, sel, &la);
	if (is_code(desc)) {
		check_direct_code(cpu, sel, desc);
	} else {
		if (bits(desc, 44, 1))
			soft_gp(cpu, sel & ~3u);
		if (task_transfer(cpu, sel, desc, TASK_CALL, next_rip))
			return;
		read_call_gate(cpu, sel, desc, la, &g);
		sel = g.sel;
		off = g.off;
		size = g.size;
		desc = gate_target(cpu, &g, false, &la);
		if (!is_conforming(desc) && bits(desc, 45, 2) < cpu->cpl) {
			gate_call_inner(cpu, &g, desc, la, next_rip);
			return;
		}
	}
	soft_check_ip(cpu, desc, off);
	push_return_far(cpu, size, next_rip);
	soft_commit_cs(cpu, sel, desc, la, cpu->cpl);
	cpu->rip = off;
}

/* The code segment that RET or IRET goes back to. */
uint64_t
soft_return_desc(struct soft_cpu *cpu, uint16_t sel, uint64_t *la)
{
	uint64_t desc = far_desc(cpu, sel, la);
	unsigned dpl = bits(desc, 45, 2), rpl = sel & 3;
	if (!is_code(desc) || rpl < cpu->cpl || (is_conforming(desc) ? dpl > rpl : dpl != rpl))
		soft_gp(cpu, sel & ~3u);
	if (soft_long_mode(cpu) && bits(desc, 53, 2) == 3)
		soft_gp(cpu, sel & ~3u);
	check_present(cpu, sel, desc);
	return desc;
}

/* The outer stack of a return: in long mode a null SS is fine for levels 0-2 in 64-bit code. */
void
soft_return_stack(struct soft_cpu *cpu, uint16_t sel, uint64_t code_desc, unsigned rpl,
		  struct x86_segment *out)
{
	if ((sel & ~3u) == 0 && soft_long_mode(cpu) && bits(code_desc, 53, 1) && rpl != 3 &&
	    (sel & 3u) == rpl) {
		memset(out, 0, sizeof(*out));
		out->sel = sel;
		out->attr = SEG_UNUSABLE | rpl << SEG_DPL_SHIFT;
		return;
	}
	soft_check_stack(cpu, sel, rpl, false, out);
}

static void
far_ret_real(struct soft_cpu *cpu, unsigned size, unsigned pop)
{
	struct soft_stack s;
	soft_stack_current(cpu, &s);
	uint64_t ip = soft_stack_pop(cpu, &s, size);
	uint16_t sel = (uint16_t)soft_stack_pop(cpu, &s, size);
	if (ip > cpu->st.seg[X86_CS].limit)
		soft_gp(cpu, 0);
	s.sp += pop;
	soft_stack_commit_sp(cpu, &s);
	soft_load_seg_real(cpu, X86_CS, sel);
	soft_update_mode(cpu);
	cpu->rip = ip;
}

void
soft_far_ret(struct soft_cpu *cpu, unsigned size, unsigned pop)
{
	struct soft_stack s;
	struct x86_segment ss;
	uint64_t ip, desc, la, sp = 0;
	uint16_t sel, ss_sel;
	if (soft_is_real(cpu) || soft_is_vm86(cpu)) {
		far_ret_real(cpu, size, pop);
		return;
	}
	soft_stack_current(cpu, &s);
	ip = soft_stack_pop(cpu, &s, size);
	sel = (uint16_t)soft_stack_pop(cpu, &s, size);
	desc = soft_return_desc(cpu, sel, &la);
	unsigned rpl = sel & 3;
	if (rpl == cpu->cpl) {
		soft_check_ip(cpu, desc, ip);
		s.sp += pop;
		soft_stack_commit_sp(cpu, &s);
		soft_commit_cs(cpu, sel, desc, la, rpl);
		cpu->rip = ip;
		return;
	}
	s.sp += pop;
	sp = soft_stack_pop(cpu, &s, size);
	ss_sel = (uint16_t)soft_stack_pop(cpu, &s, size);
	soft_return_stack(cpu, ss_sel, desc, rpl, &ss);
	soft_check_ip(cpu, desc, ip);
	cpu->st.seg[X86_SS] = ss;
	soft_commit_cs(cpu, sel, desc, la, rpl);
	soft_stack_current(cpu, &s);
	s.sp = (size == 2 ? (cpu->gpr[X86_RSP] & ~0xffffull) | sp : sp) + pop;
	soft_stack_commit_sp(cpu, &s);
	soft_drop_inner_segs(cpu);
	cpu->rip = ip;
}

/* ---- fast system calls ---- */
static void
flat_seg(struct x86_segment *s, uint16_t sel, uint32_t attr)
{
	memset(s, 0, sizeof(*s));
	s->sel = sel;
	s->limit = 0xffffffff;
	s->attr = attr | SEG_G | SEG_P | SEG_S;
}

#define ATTR_CODE64(dpl) (0xbu | SEG_L | (dpl) << SEG_DPL_SHIFT)
#define ATTR_CODE32(dpl) (0xbu | SEG_DB | (dpl) << SEG_DPL_SHIFT)
#define ATTR_DATA(dpl)	 (0x3u | SEG_DB | (dpl) << SEG_DPL_SHIFT)

/* SYSCALL; outside 64-bit mode as AMD has it (legacy mode: EIP from STAR). */
void
soft_syscall(struct soft_cpu *cpu, uint64_t next_rip)
{
	const struct x86_msrs *m = &cpu->st.msr;
	uint16_t sel = (uint16_t)bits(m->star, 32, 16) & 0xfffc;
	if (!(m->efer & EFER_SCE) || soft_is_real(cpu))
		soft_ud(cpu);
	uint64_t rf = soft_rflags(cpu) & ~(uint64_t)FL_RF;
	cpu->gpr[X86_RCX] = next_rip;
	if (m->efer & EFER_LMA) {
		bool from64 = soft_is64(cpu);
		cpu->gpr[X86_R11] = rf;
		flat_seg(&cpu->st.seg[X86_CS], sel, ATTR_CODE64(0));
		cpu->rip = from64 ? m->lstar : m->cstar;
		soft_set_rflags(cpu, rf & ~m->fmask);
	} else {
		flat_seg(&cpu->st.seg[X86_CS], sel, ATTR_CODE32(0));
		cpu->rip = (uint32_t)m->star;
		soft_set_rflags(cpu, rf & ~(uint64_t)(FL_VM | FL_IF));
	}
	cpu->tf_masked = !(cpu->rflags & FL_TF);
	flat_seg(&cpu->st.seg[X86_SS], (uint16_t)(sel + 8), ATTR_DATA(0));
	soft_set_cpl(cpu, 0);
	soft_update_mode(cpu);
}

/* size 8: to 64-bit code. #GP on a non-canonical RCX is taken at CPL 0 (Intel's way, the strict one). */
void
soft_sysret(struct soft_cpu *cpu, unsigned size)
{
	const struct x86_msrs *m = &cpu->st.msr;
	uint16_t sel = (uint16_t)bits(m->star, 48, 16);
	if (!(m->efer & EFER_SCE) || soft_is_real(cpu))
		soft_ud(cpu);
	if (cpu->cpl != 0)
		soft_gp(cpu, 0);
	if (size == 8) {
		if (!soft_canonical(cpu, cpu->gpr[X86_RCX]))
			soft_gp(cpu, 0);
		cpu->rip = cpu->gpr[X86_RCX];
		flat_seg(&cpu->st.seg[X86_CS], (uint16_t)((sel + 16) | 3), ATTR_CODE64(3));
	} else {
		cpu->rip = (uint32_t)cpu->gpr[X86_RCX];
		flat_seg(&cpu->st.seg[X86_CS], sel | 3, ATTR_CODE32(3));
	}
	flat_seg(&cpu->st.seg[X86_SS], (uint16_t)((sel + 8) | 3), ATTR_DATA(3));
	if (soft_long_mode(cpu))
		soft_set_rflags(cpu, (cpu->gpr[X86_R11] & 0x3c7fd7) | FL_1);
	else
		soft_set_rflags(cpu, soft_rflags(cpu) | FL_IF);
	/* the trap is for the TF that SYSRET leaves, at once */
	cpu->tf_masked = 1;
	if (cpu->rflags & FL_TF) {
		cpu->st.pending_db |= 1u << 14;
		soft_attn_set(cpu, ATTN_LEAVE);
	}
	soft_set_cpl(cpu, 3);
	soft_update_mode(cpu);
}

/* AMD has SYSENTER and SYSEXIT in legacy mode only (APM vol. 3). */
static void
sysenter_check(struct soft_cpu *cpu)
{
	if (soft_long_mode(cpu) && x86_cpuid_is_amd(cpu->cpuid))
		soft_ud(cpu);
}

void
soft_sysenter(struct soft_cpu *cpu)
{
	const struct x86_msrs *m = &cpu->st.msr;
	uint16_t sel = (uint16_t)(m->sysenter_cs & 0xfffc);
	bool lm = soft_long_mode(cpu);
	sysenter_check(cpu);
	if (soft_is_real(cpu) || sel == 0)
		soft_gp(cpu, 0);
	soft_set_rflags(cpu, soft_rflags(cpu) & ~(uint64_t)(FL_VM | FL_IF | FL_RF));
	flat_seg(&cpu->st.seg[X86_CS], sel, lm ? ATTR_CODE64(0) : ATTR_CODE32(0));
	flat_seg(&cpu->st.seg[X86_SS], (uint16_t)(sel + 8), ATTR_DATA(0));
	soft_set_cpl(cpu, 0);
	soft_update_mode(cpu);
	cpu->gpr[X86_RSP] = lm ? m->sysenter_esp : (uint32_t)m->sysenter_esp;
	cpu->rip = lm ? m->sysenter_eip : (uint32_t)m->sysenter_eip;
}

void
soft_sysexit(struct soft_cpu *cpu, unsigned size)
{
	uint16_t sel = (uint16_t)(cpu->st.msr.sysenter_cs & 0xfffc);
	sysenter_check(cpu);
	if (soft_is_real(cpu) || sel == 0 || cpu->cpl != 0)
		soft_gp(cpu, 0);
	if (size == 8) {
		if (!soft_canonical(cpu, cpu->gpr[X86_RDX]) || !soft_canonical(cpu, cpu->gpr[X86_RCX]))
			soft_gp(cpu, 0);
		flat_seg(&cpu->st.seg[X86_CS], (uint16_t)((sel + 32) | 3), ATTR_CODE64(3));
		flat_seg(&cpu->st.seg[X86_SS], (uint16_t)((sel + 40) | 3), ATTR_DATA(3));
		cpu->rip = cpu->gpr[X86_RDX];
		cpu->gpr[X86_RSP] = cpu->gpr[X86_RCX];
	} else {
		flat_seg(&cpu->st.seg[X86_CS], (uint16_t)((sel + 16) | 3), ATTR_CODE32(3));
		flat_seg(&cpu->st.seg[X86_SS], (uint16_t)((sel + 24) | 3), ATTR_DATA(3));
		cpu->rip = (uint32_t)cpu->gpr[X86_RDX];
		cpu->gpr[X86_RSP] = (uint32_t)cpu->gpr[X86_RCX];
	}
	soft_set_cpl(cpu, 3);
	soft_update_mode(cpu);
}
