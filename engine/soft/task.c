/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hardware task switches (SDM vol. 3A 7.3): JMP, CALL, IRET and interrupts through a TSS
 * or a task gate. Up to the commit point faults belong to the old task; from there on,
 * to the new one, with its EIP.
 */
#include "engine/soft/seg.h"

struct tss_layout {
	uint8_t size, cr3, ip, flags, gpr, seg, ldt, limit; /* limit: smallest legal one */
	uint8_t nseg;
};

static const struct tss_layout layout16 = {2, 0, 0x0e, 0x10, 0x12, 0x22, 0x2a, 0x2b, 4};
static const struct tss_layout layout32 = {4, 0x1c, 0x20, 0x24, 0x28, 0x48, 0x60, 0x67, 6};

static const struct tss_layout *
layout_of(uint32_t attr)
{
	return attr & 8 ? &layout32 : &layout16;
}

/* Every byte that the switch will read or write must be there before anything changes. */
static void
probe_tss(struct soft_cpu *cpu, uint64_t base, unsigned len)
{
	soft_load_sys(cpu, base, 1);
	soft_load_sys(cpu, base + len - 1, 1);
}

static void
save_old(struct soft_cpu *cpu, enum soft_task_how how, uint64_t next_rip)
{
	const struct x86_segment *tr = &cpu->st.seg[X86_TR];
	const struct tss_layout *l = layout_of(tr->attr);
	uint64_t flags = soft_rflags(cpu);
	if (how == TASK_IRET)
		flags &= ~(uint64_t)FL_NT;
	soft_store_sys(cpu, tr->base + l->ip, l->size, next_rip);
	soft_store_sys(cpu, tr->base + l->flags, l->size, flags);
	for (unsigned n = 0; n < 8; n++)
		soft_store_sys(cpu, tr->base + l->gpr + n * l->size, l->size, cpu->gpr[n]);
	for (unsigned n = 0; n < l->nseg; n++)
		soft_store_sys(cpu, tr->base + l->seg + n * l->size, 2, cpu->st.seg[n].sel);
}

/* The new TSS's descriptor: in the GDT, present, free (busy for IRET), large enough. */
static uint64_t
new_tss(struct soft_cpu *cpu, uint16_t sel, enum soft_task_how how, uint64_t *la)
{
	uint64_t desc;
	unsigned exc = how == TASK_IRET ? EXC_TS : EXC_GP;
	if ((sel & 4) || (sel & ~3u) == 0 || !soft_read_desc(cpu, sel, &desc, la))
		soft_raise_err(cpu, exc, sel & ~3u);
	unsigned type = bits(desc, 40, 5), want = how == TASK_IRET ? 3 : 1;
	if ((type & ~8u) != want)
		soft_raise_err(cpu, exc, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, sel & ~3u);
	return desc;
}

struct new_state {
	uint32_t cr3, ip, flags, gpr[8];
	uint16_t seg[6], ldt;
	bool trap;
};

static void
read_new(struct soft_cpu *cpu, const struct x86_segment *tss, struct new_state *n)
{
	const struct tss_layout *l = layout_of(tss->attr);
	memset(n, 0, sizeof(*n));
	n->ip = (uint32_t)soft_load_sys(cpu, tss->base + l->ip, l->size);
	n->flags = (uint32_t)soft_load_sys(cpu, tss->base + l->flags, l->size);
	for (unsigned k = 0; k < 8; k++)
		n->gpr[k] = (uint32_t)soft_load_sys(cpu, tss->base + l->gpr + k * l->size, l->size);
	for (unsigned k = 0; k < l->nseg; k++)
		n->seg[k] = (uint16_t)soft_load_sys(cpu, tss->base + l->seg + k * l->size, 2);
	n->ldt = (uint16_t)soft_load_sys(cpu, tss->base + l->ldt, 2);
	if (l->size == 4) {
		n->cr3 = (uint32_t)soft_load_sys(cpu, tss->base + l->cr3, 4);
		n->trap = soft_load_sys(cpu, tss->base + 0x64, 2) & 1;
	}
}

/* ---- after the commit point: faults are #TS, #NP, #SS in the new task ---- */
static void
load_ldt(struct soft_cpu *cpu, uint16_t sel)
{
	struct x86_segment *s = &cpu->st.seg[X86_LDTR];
	uint64_t desc, la;
	memset(s, 0, sizeof(*s));
	s->sel = sel;
	s->attr = SEG_UNUSABLE;
	if ((sel & ~3u) == 0)
		return;
	if ((sel & 4) || !soft_read_desc(cpu, sel, &desc, &la) || bits(desc, 40, 5) != 2 ||
	    !bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_TS, sel & ~3u);
	soft_desc_to_seg(sel, desc, s);
}

static void
load_code(struct soft_cpu *cpu, uint16_t sel)
{
	uint64_t desc, la;
	if ((sel & ~3u) == 0 || !soft_read_desc(cpu, sel, &desc, &la))
		soft_raise_err(cpu, EXC_TS, sel & ~3u);
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2), rpl = sel & 3;
	bool conforming = (type & 0x1c) == 0x1c;
	if ((type & 0x18) != 0x18 || (conforming ? dpl > rpl : dpl != rpl))
		soft_raise_err(cpu, EXC_TS, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, sel & ~3u);
	soft_mark_accessed(cpu, la, desc);
	soft_desc_to_seg(sel, desc | 1ull << 40, &cpu->st.seg[X86_CS]);
}

static void
load_data(struct soft_cpu *cpu, unsigned seg, uint16_t sel)
{
	uint64_t desc, la;
	if ((sel & ~3u) == 0)
		return; /* left unusable */
	if (!soft_read_desc(cpu, sel, &desc, &la))
		soft_raise_err(cpu, EXC_TS, sel & ~3u);
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2);
	if (!(type & 0x10) || (type & 0x1a) == 0x18 ||
	    ((type & 0x1c) != 0x1c && dpl < MAX((unsigned)cpu->cpl, sel & 3u)))
		soft_raise_err(cpu, EXC_TS, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, sel & ~3u);
	soft_mark_accessed(cpu, la, desc);
	soft_desc_to_seg(sel, desc | 1ull << 40, &cpu->st.seg[seg]);
}

static void
load_segments(struct soft_cpu *cpu, const struct new_state *n)
{
	static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};
	for (unsigned k = 0; k < 6; k++) {
		memset(&cpu->st.seg[k], 0, sizeof(struct x86_segment));
		cpu->st.seg[k].sel = n->seg[k];
		cpu->st.seg[k].attr = SEG_UNUSABLE;
	}
	if (n->flags & FL_VM) {
		for (unsigned k = 0; k < 6; k++)
			soft_load_seg_real(cpu, k, n->seg[k]);
		soft_set_cpl(cpu, 3);
		soft_update_mode(cpu);
		load_ldt(cpu, n->ldt);
		return;
	}
	soft_set_cpl(cpu, n->seg[X86_CS] & 3);
	load_ldt(cpu, n->ldt);
	load_code(cpu, n->seg[X86_CS]);
	soft_check_stack(cpu, n->seg[X86_SS], cpu->cpl, true, &cpu->st.seg[X86_SS]);
	for (unsigned k = 0; k < ARRAY_LEN(data); k++)
		load_data(cpu, data[k], n->seg[data[k]]);
	soft_update_mode(cpu);
}

static void
commit(struct soft_cpu *cpu, const struct new_state *n, const struct x86_segment *tss, enum soft_task_how how)
{
	bool wide = tss->attr & 8;
	uint64_t flags = n->flags | (how == TASK_CALL ? FL_NT : 0);
	if (wide && (cpu->st.cr0 & CR0_PG))
		soft_write_cr3(cpu, n->cr3);
	cpu->st.cr0 |= CR0_TS;
	cpu->st.seg[X86_TR] = *tss;
	cpu->st.seg[X86_TR].attr |= 2;
	for (unsigned k = 0; k < 8; k++)
		cpu->gpr[k] = wide ? n->gpr[k] : (cpu->gpr[k] & ~0xffffull) | (n->gpr[k] & 0xffff);
	cpu->cur = NULL;
	cpu->rip = cpu->fault_rip = n->ip;
	soft_set_rflags(cpu, wide ? flags : (soft_rflags(cpu) & ~0xffffull) | (flags & 0xffff));
	cpu->st.dr[7] &= ~0x155ull; /* local breakpoints end with the task */
}

void
soft_task_switch(struct soft_cpu *cpu, uint16_t sel, enum soft_task_how how, uint64_t next_rip, int err)
{
	struct x86_segment tss;
	struct new_state n;
	uint64_t la, old_la, old_desc, desc = new_tss(cpu, sel, how, &la);
	uint16_t old_sel = cpu->st.seg[X86_TR].sel;
	soft_desc_to_seg(sel, desc, &tss);
	const struct tss_layout *l = layout_of(tss.attr);
	if (tss.limit < l->limit)
		soft_raise_err(cpu, EXC_TS, sel & ~3u);
	probe_tss(cpu, cpu->st.seg[X86_TR].base, layout_of(cpu->st.seg[X86_TR].attr)->limit + 1u);
	probe_tss(cpu, tss.base, l->limit + 1u);
	read_new(cpu, &tss, &n);
	save_old(cpu, how, next_rip);
	if (how != TASK_CALL && soft_read_desc(cpu, old_sel, &old_desc, &old_la))
		soft_or_sys(cpu, old_la + 5, 0, 2); /* no longer busy */
	if (how == TASK_CALL)
		soft_store_sys(cpu, tss.base, 2, old_sel);
	if (how != TASK_IRET)
		soft_or_sys(cpu, la + 5, 2, 0);
	commit(cpu, &n, &tss, how);
	load_segments(cpu, &n);
	if (!(n.flags & FL_VM) && n.ip > cpu->st.seg[X86_CS].limit)
		soft_gp(cpu, 0);
	if (err >= 0) {
		struct soft_stack s;
		soft_stack_current(cpu, &s);
		soft_stack_push(cpu, &s, l->size, (uint32_t)err);
		soft_stack_commit_sp(cpu, &s);
	}
	if (n.trap) {
		cpu->st.pending_db |= 1u << 15; /* BT */
		soft_attn_set(cpu, ATTN_LEAVE);
	}
}

/* The TSS selector in a task gate, after the gate's own checks. */
uint16_t
soft_task_gate_target(uint64_t desc)
{
	return (uint16_t)bits(desc, 16, 16);
}
