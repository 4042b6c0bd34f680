/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions and interrupts: raising, delivery through the IVT and IDT in every
 * mode, and IRET (SDM vol. 3A ch. 6; vol. 2, IRET).
 */
#include "engine/soft/seg.h"

/* A fault while an event is being delivered carries EXT, except while a software interrupt is (SDM 6.13). */
static uint32_t
ext_bit(const struct soft_cpu *cpu)
{
	return cpu->in_delivery && cpu->exc_kind != EXCK_INT && cpu->exc_kind != EXCK_INT3 ? 1 : 0;
}

static void __attribute__((noreturn))
leave_exc(struct soft_cpu *cpu, unsigned vec, bool has_err, uint32_t err)
{
	cpu->exc_vec = (uint8_t)vec;
	cpu->exc_has_err = has_err;
	cpu->exc_err = err;
	cpu->exc_kind = EXCK_FAULT;
	longjmp(cpu->jb, LEAVE_EXC);
}

void
soft_raise(struct soft_cpu *cpu, unsigned vec)
{
	cpu->exc_dr6 = 0;
	leave_exc(cpu, vec, false, 0);
}

void
soft_raise_err(struct soft_cpu *cpu, unsigned vec, uint32_t err)
{
	leave_exc(cpu, vec, true, vec == EXC_AC ? err : err | ext_bit(cpu));
}

void
soft_raise_pf(struct soft_cpu *cpu, uint64_t la, uint32_t err)
{
	cpu->exc_cr2 = la;
	leave_exc(cpu, EXC_PF, true, err);
}

void
soft_set_rflags(struct soft_cpu *cpu, uint64_t f)
{
	uint64_t old = cpu->rflags;
	cpu->fl = soft_eflags_to_fl(f);
	cpu->rflags = (f & 0x3f7fd7 & ~(uint64_t)FL_ARITH) | FL_1;
	if ((old ^ cpu->rflags) & FL_AC)
		soft_mmu_update(cpu);
	if ((old ^ cpu->rflags) & FL_VM)
		soft_update_mode(cpu);
	if ((cpu->rflags & (FL_TF | FL_RF)) || (cpu->want_window && (cpu->rflags & FL_IF)))
		soft_attn_set(cpu, ATTN_LEAVE);
}

/* ---- delivery ---- */
struct idt_gate {
	uint16_t sel;
	uint64_t off;
	unsigned type, ist;
};

static bool
is_software(const struct soft_cpu *cpu)
{
	return cpu->exc_kind == EXCK_INT || cpu->exc_kind == EXCK_INT3;
}

/* Selector error code of an IDT entry: vector * 8 | IDT, and EXT. Raised while in_delivery is set. */
static void __attribute__((noreturn, cold)) idt_fault(struct soft_cpu *cpu, unsigned exc, unsigned vec)
{
	soft_raise_err(cpu, exc, vec * 8 | 2);
}

static void
read_gate(struct soft_cpu *cpu, unsigned vec, struct idt_gate *g)
{
	bool lm = soft_long_mode(cpu);
	unsigned n = lm ? 16 : 8;
	if (vec * n + n - 1 > cpu->st.idtr.limit)
		idt_fault(cpu, EXC_GP, vec);
	uint64_t lo = soft_load_sys(cpu, cpu->st.idtr.base + vec * n, 8), hi = 0;
	if (lm)
		hi = soft_load_sys(cpu, cpu->st.idtr.base + vec * n + 8, 8);
	g->type = bits(lo, 40, 5);
	g->sel = (uint16_t)bits(lo, 16, 16);
	g->off = bits(lo, 0, 16) | bits(lo, 48, 16) << 16 | hi << 32;
	g->ist = lm ? bits(lo, 32, 3) : 0;
	if (!((!lm && g->type == 5) || g->type == 14 || g->type == 15 ||
	      (!lm && (g->type == 6 || g->type == 7))))
		idt_fault(cpu, EXC_GP, vec);
	if (is_software(cpu) && bits(lo, 45, 2) < cpu->cpl)
		idt_fault(cpu, EXC_GP, vec);
	if (!bits(lo, 47, 1))
		idt_fault(cpu, EXC_NP, vec);
	if (g->type < 8)
		g->off &= 0xffff;
}

static uint64_t
gate_code(struct soft_cpu *cpu, const struct idt_gate *g, uint64_t *la)
{
	uint64_t desc;
	if ((g->sel & ~3u) == 0)
		soft_gp(cpu, 0);
	if (!soft_read_desc(cpu, g->sel, &desc, la))
		soft_gp(cpu, g->sel & ~3u);
	if ((bits(desc, 40, 5) & 0x18) != 0x18 || bits(desc, 45, 2) > cpu->cpl)
		soft_gp(cpu, g->sel & ~3u);
	if (soft_long_mode(cpu) && bits(desc, 53, 2) != 1)
		soft_gp(cpu, g->sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, g->sel & ~3u);
	return desc;
}

/*
 * The flags image (SDM vol. 3B 17.3.1.1). RF is set for faults, but for instruction breakpoints, and for what
 * comes between two iterations of a REP.
 */
static uint64_t
flags_image(const struct soft_cpu *cpu)
{
	uint64_t f = soft_rflags(cpu);
	bool breakpoint = cpu->exc_vec == EXC_DB && (cpu->exc_dr6 & 0xf) != 0;
	if (cpu->exc_kind == EXCK_FAULT ? cpu->exc_vec != EXC_DF && !breakpoint : cpu->rep_open)
		f |= FL_RF;
	return f;
}

static void
enter_handler_flags(struct soft_cpu *cpu, unsigned gate_type)
{
	uint64_t clear = FL_TF | FL_NT | FL_RF | FL_VM;
	if (!(gate_type & 1)) /* interrupt gate */
		clear |= FL_IF;
	soft_set_rflags(cpu, soft_rflags(cpu) & ~clear);
}

static void
deliver_long(struct soft_cpu *cpu, const struct idt_gate *g, uint64_t ret_rip)
{
	uint64_t la, desc = gate_code(cpu, g, &la), old_rsp = cpu->gpr[X86_RSP], flags = flags_image(cpu);
	unsigned cpl = (bits(desc, 40, 5) & 0x1c) == 0x1c ? cpu->cpl : bits(desc, 45, 2);
	uint16_t old_ss = cpu->st.seg[X86_SS].sel;
	struct soft_stack s;
	if (cpl != cpu->cpl || g->ist) {
		soft_stack_from_tss(cpu, &s, cpl, g->ist);
		if (cpl == cpu->cpl)
			s.ss = cpu->st.seg[X86_SS];
	} else {
		soft_stack_current(cpu, &s);
		s.wide = true;
		s.mask = ~0ull;
	}
	s.sp &= ~15ull;
	if (!soft_canonical(cpu, g->off))
		soft_gp(cpu, 0);
	soft_stack_push(cpu, &s, 8, old_ss);
	soft_stack_push(cpu, &s, 8, old_rsp);
	soft_stack_push(cpu, &s, 8, flags);
	soft_stack_push(cpu, &s, 8, cpu->st.seg[X86_CS].sel);
	soft_stack_push(cpu, &s, 8, ret_rip);
	if (cpu->exc_has_err)
		soft_stack_push(cpu, &s, 8, cpu->exc_err);
	if (cpl != cpu->cpl)
		cpu->st.seg[X86_SS] = s.ss;
	soft_commit_cs(cpu, g->sel, desc, la, cpl);
	cpu->gpr[X86_RSP] = s.sp;
	cpu->rip = g->off;
	enter_handler_flags(cpu, g->type);
}

static void
push_vm86_segs(struct soft_cpu *cpu, struct soft_stack *s, unsigned n)
{
	static const uint8_t order[] = {X86_GS, X86_FS, X86_DS, X86_ES};
	for (unsigned k = 0; k < ARRAY_LEN(order); k++)
		soft_stack_push(cpu, s, n, cpu->st.seg[order[k]].sel);
}

static void
deliver_legacy(struct soft_cpu *cpu, const struct idt_gate *g, uint64_t ret_rip)
{
	uint64_t la, desc = gate_code(cpu, g, &la), old_sp = cpu->gpr[X86_RSP], flags = flags_image(cpu);
	bool vm86 = soft_is_vm86(cpu), conforming = (bits(desc, 40, 5) & 0x1c) == 0x1c;
	unsigned n = g->type < 8 ? 2 : 4, cpl = conforming ? cpu->cpl : bits(desc, 45, 2);
	bool inner = cpl != cpu->cpl;
	struct soft_stack s;
	if (vm86 && cpl != 0)
		soft_gp(cpu, g->sel & ~3u);
	if (inner)
		soft_stack_from_tss(cpu, &s, cpl, 0);
	else
		soft_stack_current(cpu, &s);
	soft_check_ip(cpu, desc, g->off);
	if (vm86)
		push_vm86_segs(cpu, &s, n);
	if (inner) {
		soft_stack_push(cpu, &s, n, cpu->st.seg[X86_SS].sel);
		soft_stack_push(cpu, &s, n, old_sp);
	}
	soft_stack_push(cpu, &s, n, flags);
	soft_stack_push(cpu, &s, n, cpu->st.seg[X86_CS].sel);
	soft_stack_push(cpu, &s, n, ret_rip);
	if (cpu->exc_has_err)
		soft_stack_push(cpu, &s, n, cpu->exc_err);
	if (inner)
		cpu->st.seg[X86_SS] = s.ss;
	cpu->rflags &= ~(uint64_t)FL_VM;
	soft_commit_cs(cpu, g->sel, desc, la, cpl);
	soft_stack_commit_sp(cpu, &s);
	cpu->rip = g->off;
	if (vm86) {
		static const uint8_t segs[] = {X86_ES, X86_DS, X86_FS, X86_GS};
		for (unsigned k = 0; k < ARRAY_LEN(segs); k++) {
			memset(&cpu->st.seg[segs[k]], 0, sizeof(struct x86_segment));
			cpu->st.seg[segs[k]].attr = SEG_UNUSABLE;
		}
	}
	enter_handler_flags(cpu, g->type);
	soft_update_mode(cpu);
}

/* Real mode: four bytes a vector at IDTR.base, no error codes (SDM vol. 3A 20.1.4). */
static void
deliver_real(struct soft_cpu *cpu, unsigned vec, uint64_t ret_rip)
{
	struct soft_stack s;
	if (vec * 4 + 3 > cpu->st.idtr.limit)
		soft_raise_err(cpu, EXC_GP, 0);
	uint32_t ptr = (uint32_t)soft_load_sys(cpu, cpu->st.idtr.base + vec * 4, 4);
	soft_stack_current(cpu, &s);
	soft_stack_push(cpu, &s, 2, soft_rflags(cpu));
	soft_stack_push(cpu, &s, 2, cpu->st.seg[X86_CS].sel);
	soft_stack_push(cpu, &s, 2, ret_rip);
	soft_stack_commit_sp(cpu, &s);
	soft_load_seg_real(cpu, X86_CS, (uint16_t)(ptr >> 16));
	cpu->rip = ptr & 0xffff;
	soft_set_rflags(cpu, soft_rflags(cpu) & ~(uint64_t)(FL_IF | FL_TF | FL_AC | FL_RF));
	soft_update_mode(cpu);
}

void
soft_deliver(struct soft_cpu *cpu, uint64_t ret_rip)
{
	struct idt_gate g;
	unsigned vec = cpu->exc_vec;
	if (soft_is_real(cpu)) {
		deliver_real(cpu, vec, ret_rip);
		return;
	}
	if (soft_is_vm86(cpu) && cpu->exc_kind == EXCK_INT) {
		if (soft_vme_int(cpu, vec, ret_rip))
			return;
		if ((cpu->rflags & FL_IOPL) != FL_IOPL)
			soft_gp(cpu, 0);
	}
	read_gate(cpu, vec, &g);
	if (g.type == 5)
		soft_task_switch(cpu, g.sel, TASK_CALL, ret_rip, cpu->exc_has_err ? (int)cpu->exc_err : -1);
	else if (soft_long_mode(cpu))
		deliver_long(cpu, &g, ret_rip);
	else
		deliver_legacy(cpu, &g, ret_rip);
}

/* ---- IRET ---- */
static void
iret_flags(struct soft_cpu *cpu, uint64_t f, unsigned size, unsigned old_cpl)
{
	uint64_t old = soft_rflags(cpu), mask = FL_ARITH | FL_TF | FL_DF | FL_NT;
	unsigned iopl = (old & FL_IOPL) >> 12;
	if (size > 2)
		mask |= FL_RF | FL_AC | FL_ID;
	if (old_cpl <= iopl)
		mask |= FL_IF;
	if (old_cpl == 0)
		mask |= FL_IOPL | (size > 2 ? FL_VIF | FL_VIP : 0);
	soft_set_rflags(cpu, (old & ~mask) | (f & mask));
}

static void
iret_real(struct soft_cpu *cpu, unsigned size)
{
	struct soft_stack s;
	uint64_t old = soft_rflags(cpu), mask;
	bool vm86 = soft_is_vm86(cpu), vme = soft_virtual_if(cpu) && size == 2;
	if (vm86 && (old & FL_IOPL) != FL_IOPL && !vme)
		soft_gp(cpu, 0);
	soft_stack_current(cpu, &s);
	uint64_t ip = soft_stack_pop(cpu, &s, size);
	uint16_t sel = (uint16_t)soft_stack_pop(cpu, &s, size);
	uint64_t f = soft_stack_pop(cpu, &s, size);
	if (ip > 0xffff)
		soft_gp(cpu, 0);
	mask = FL_ARITH | FL_TF | FL_IF | FL_DF | FL_NT | (vm86 ? 0 : FL_IOPL) |
	       (size > 2 ? FL_RF | FL_AC | FL_ID : 0);
	if (vme)
		soft_vme_pop_flags(cpu, (uint16_t)f);
	else
		soft_set_rflags(cpu, (old & ~mask) | (f & mask));
	soft_stack_commit_sp(cpu, &s);
	soft_load_seg_real(cpu, X86_CS, sel);
	cpu->rip = ip;
	soft_update_mode(cpu);
}

/* Back to virtual-8086 mode: nine words, all segments with them. */
static void
iret_to_vm86(struct soft_cpu *cpu, struct soft_stack *s, uint64_t ip, uint16_t sel, uint64_t f)
{
	static const uint8_t order[] = {X86_ES, X86_DS, X86_FS, X86_GS};
	uint64_t sp = soft_stack_pop(cpu, s, 4);
	uint16_t ss = (uint16_t)soft_stack_pop(cpu, s, 4), sels[4];
	for (unsigned k = 0; k < 4; k++)
		sels[k] = (uint16_t)soft_stack_pop(cpu, s, 4);
	cpu->rflags |= FL_VM;
	soft_load_seg_real(cpu, X86_CS, sel);
	soft_load_seg_real(cpu, X86_SS, ss);
	for (unsigned k = 0; k < 4; k++)
		soft_load_seg_real(cpu, order[k], sels[k]);
	cpu->gpr[X86_RSP] = (uint32_t)sp;
	cpu->rip = (uint16_t)ip;
	soft_set_rflags(cpu, (f & 0x3f7fd7) | FL_VM);
	soft_set_cpl(cpu, 3);
	soft_update_mode(cpu);
}

static void
iret_protected(struct soft_cpu *cpu, unsigned size)
{
	struct soft_stack s;
	struct x86_segment ss = cpu->st.seg[X86_SS];
	uint64_t ip, f, desc, la, sp = 0;
	uint16_t sel, ss_sel;
	unsigned old_cpl = cpu->cpl;
	soft_stack_current(cpu, &s);
	ip = soft_stack_pop(cpu, &s, size);
	sel = (uint16_t)soft_stack_pop(cpu, &s, size);
	f = soft_stack_pop(cpu, &s, size);
	if ((f & FL_VM) && size == 4 && old_cpl == 0 && !soft_long_mode(cpu)) {
		iret_to_vm86(cpu, &s, ip, sel, f);
		return;
	}
	desc = soft_return_desc(cpu, sel, &la);
	unsigned rpl = sel & 3;
	bool full = rpl != old_cpl || soft_is64(cpu); /* 64-bit mode always pops SS:RSP */
	if (full) {
		sp = soft_stack_pop(cpu, &s, size);
		ss_sel = (uint16_t)soft_stack_pop(cpu, &s, size);
		soft_return_stack(cpu, ss_sel, desc, rpl, &ss);
	}
	soft_check_ip(cpu, desc, ip);
	if (full) {
		cpu->st.seg[X86_SS] = ss;
		soft_commit_cs(cpu, sel, desc, la, rpl);
		if (soft_is64(cpu))
			cpu->gpr[X86_RSP] = sp;
		else if (ss.attr & SEG_DB)
			cpu->gpr[X86_RSP] = (uint32_t)sp;
		else
			CPU_REG(cpu, X86_RSP * 8, uint16_t) = (uint16_t)sp;
	} else {
		soft_stack_commit_sp(cpu, &s);
		soft_commit_cs(cpu, sel, desc, la, rpl);
	}
	iret_flags(cpu, f, size, old_cpl);
	if (rpl != old_cpl)
		soft_drop_inner_segs(cpu);
	cpu->rip = ip;
}

/* Back to the task that the TSS's link names. */
static void
iret_task(struct soft_cpu *cpu)
{
	uint16_t link = (uint16_t)soft_load_sys(cpu, cpu->st.seg[X86_TR].base, 2);
	uint64_t next = cpu->cur != NULL ? soft_next_rip(cpu, cpu->cur) : cpu->rip;
	soft_task_switch(cpu, link, TASK_IRET, next, -1);
}

void
soft_iret(struct soft_cpu *cpu, unsigned size)
{
	cpu->st.nmi_blocked &=
	    (uint8_t)~2u; /* unblocked when the IRET completes; a fault in it unblocks too (SDM 6.7.1) */
	if (soft_is_real(cpu) || soft_is_vm86(cpu)) {
		iret_real(cpu, size);
	} else if (soft_rflags(cpu) & FL_NT) {
		if (soft_long_mode(cpu))
			soft_gp(cpu, 0);
		iret_task(cpu);
	} else {
		iret_protected(cpu, size);
	}
	cpu->st.nmi_blocked = 0;
}
