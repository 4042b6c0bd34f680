/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptor-table registers, selectors, and the instructions that ask about descriptors. */
#include "engine/soft/ops.h"
#include "engine/soft/seg.h"

/* SGDT, SIDT (imm2) */
OP(op_sgdt)
{
	const struct x86_dtable *t = i->imm2 ? &cpu->st.idtr : &cpu->st.gdtr;
	uint8_t buf[10];
	unsigned n = soft_is64(cpu) ? 10 : 6;
	cpu->cur = i;
	soft_umip_check(cpu);
	put_le16(buf, t->limit);
	put_le64(buf + 2, t->base);
	soft_store_bytes(cpu, soft_la(cpu, i, n, true), buf, n);
	DONE(cpu, i);
}

/* LGDT, LIDT (imm2): with a 16-bit operand size only 24 bits of base count. */
OP(op_lgdt)
{
	uint8_t buf[10] = {0};
	unsigned n = soft_is64(cpu) ? 10 : 6;
	cpu->cur = i;
	if (cpu->cpl != 0)
		soft_gp(cpu, 0);
	soft_load_bytes(cpu, soft_la(cpu, i, n, false), buf, n);
	uint64_t base = get_le64(buf + 2);
	if (n == 6 && i->size == 2)
		base &= 0xffffff;
	if (n == 10 && !soft_canonical_wide(cpu, base))
		soft_gp(cpu, 0);
	struct x86_dtable *t = i->imm2 ? &cpu->st.idtr : &cpu->st.gdtr;
	t->limit = get_le16(buf);
	t->base = base;
	DONE(cpu, i);
}

static void
need_protected(struct soft_cpu *cpu)
{
	if (soft_is_real(cpu) || soft_is_vm86(cpu))
		soft_ud(cpu);
}

static uint16_t
selector_operand(struct soft_cpu *cpu, const struct soft_insn *i, unsigned reg)
{
	if (i->flags & IF_MEM)
		return soft_ld16(cpu, soft_la(cpu, i, 2, false));
	return CPU_REG(cpu, reg, uint16_t);
}

/* SLDT, STR (imm2): memory gets 16 bits, a register its operand size. */
OP(op_sldt)
{
	cpu->cur = i;
	need_protected(cpu);
	soft_umip_check(cpu);
	uint16_t sel = cpu->st.seg[i->imm2 ? X86_TR : X86_LDTR].sel;
	if (i->flags & IF_MEM)
		soft_st16(cpu, soft_la(cpu, i, 2, true), sel);
	else
		soft_reg_set(cpu, i->dst, i->size, sel);
	DONE(cpu, i);
}

/* LLDT, LTR (imm2): system descriptors are 16 bytes long in long mode. */
OP(op_lldt)
{
	bool ltr = i->imm2;
	uint64_t desc, la;
	cpu->cur = i;
	need_protected(cpu);
	if (cpu->cpl != 0)
		soft_gp(cpu, 0);
	uint16_t sel = selector_operand(cpu, i, i->dst);
	struct x86_segment *s = &cpu->st.seg[ltr ? X86_TR : X86_LDTR], n;
	if ((sel & ~3u) == 0) {
		if (ltr)
			soft_gp(cpu, 0);
		memset(s, 0, sizeof(*s));
		s->sel = sel;
		s->attr = SEG_UNUSABLE;
		DONE(cpu, i);
	}
	if ((sel & 4) || !soft_read_desc(cpu, sel, &desc, &la))
		soft_gp(cpu, sel & ~3u);
	unsigned type = bits(desc, 40, 5);
	if (ltr ? !(type == 9 || (type == 1 && !soft_long_mode(cpu))) : type != 2)
		soft_gp(cpu, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, sel & ~3u);
	soft_desc_to_seg(sel, desc, &n);
	if (soft_long_mode(cpu)) {
		if ((sel | 15u) > cpu->st.gdtr.limit)
			soft_gp(cpu, sel & ~3u);
		uint64_t hi = soft_load_sys(cpu, la + 8, 8);
		n.base |= hi << 32;
		if (bits(hi, 40, 5) != 0 || !soft_canonical_wide(cpu, n.base))
			soft_gp(cpu, sel & ~3u);
	}
	if (ltr) {
		soft_or_sys(cpu, la + 5, 2, 0); /* busy */
		n.attr |= 2;
	}
	*s = n;
	DONE(cpu, i);
}

/* Can CPL and RPL see this descriptor? LAR and LSL: conforming code always. */
static bool
visible(struct soft_cpu *cpu, uint16_t sel, uint64_t desc)
{
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2);
	return (type & 0x1c) == 0x1c || dpl >= MAX((unsigned)cpu->cpl, sel & 3u);
}

/* Types that LAR and LSL accept among system descriptors; long mode knows fewer. */
static bool
lar_type_ok(struct soft_cpu *cpu, unsigned type, bool lsl)
{
	uint32_t legacy = lsl ? 0x0a0e : 0x1a3e, lm = lsl ? 0x0a04 : 0x1a04;
	return type >= 16 || ((soft_long_mode(cpu) ? lm : legacy) >> type & 1);
}

OP(op_lar) /* imm2: LSL */
{
	uint64_t desc, la;
	bool ok = false;
	cpu->cur = i;
	need_protected(cpu);
	uint16_t sel = selector_operand(cpu, i, i->src);
	if ((sel & ~3u) != 0 && soft_read_desc(cpu, sel, &desc, &la))
		ok = visible(cpu, sel, desc) && lar_type_ok(cpu, bits(desc, 40, 5), i->imm2);
	if (ok) {
		struct x86_segment s;
		soft_desc_to_seg(sel, desc, &s);
		soft_reg_set(cpu, i->dst, i->size, i->imm2 ? s.limit : (desc >> 32) & 0x00ffff00);
	}
	cpu->fl = (uint16_t)((cpu->fl & ~SFL_ZF) | (ok ? SFL_ZF : 0));
	DONE(cpu, i);
}

OP(op_verr) /* imm2: VERW */
{
	uint64_t desc, la;
	bool ok = false;
	cpu->cur = i;
	need_protected(cpu);
	uint16_t sel = selector_operand(cpu, i, i->dst);
	if ((sel & ~3u) != 0 && soft_read_desc(cpu, sel, &desc, &la) && bits(desc, 44, 1)) {
		unsigned type = bits(desc, 40, 4);
		ok = visible(cpu, sel, desc) && (i->imm2 ? (type & 0xa) == 2 : (type & 0xa) != 8);
		if (i->imm2 && (type & 8))
			ok = false;
	}
	cpu->fl = (uint16_t)((cpu->fl & ~SFL_ZF) | (ok ? SFL_ZF : 0));
	DONE(cpu, i);
}

OP(op_arpl)
{
	cpu->cur = i;
	need_protected(cpu);
	uint16_t src = CPU_REG(cpu, i->src, uint16_t), dst;
	uint64_t la = 0;
	if (i->flags & IF_MEM) {
		la = soft_la(cpu, i, 2, true);
		dst = soft_ld16(cpu, la);
	} else {
		dst = CPU_REG(cpu, i->dst, uint16_t);
	}
	bool adjust = (dst & 3) < (src & 3);
	if (adjust) {
		dst = (uint16_t)((dst & ~3u) | (src & 3));
		if (i->flags & IF_MEM)
			soft_st16(cpu, la, dst);
		else
			CPU_REG(cpu, i->dst, uint16_t) = dst;
	}
	cpu->fl = (uint16_t)((cpu->fl & ~SFL_ZF) | (adjust ? SFL_ZF : 0));
	DONE(cpu, i);
}

OP(op_mov_from_seg)
{
	uint16_t sel = cpu->st.seg[i->src].sel;
	if (i->flags & IF_MEM)
		soft_st16(cpu, soft_la(cpu, i, 2, true), sel);
	else
		soft_reg_set(cpu, i->dst, i->size, sel);
	DONE(cpu, i);
}

OP(op_mov_to_seg)
{
	cpu->cur = i;
	soft_load_seg(cpu, i->dst, selector_operand(cpu, i, i->src));
	if (i->dst == X86_SS)
		cpu->shadow = SHADOW_MOVSS;
	return soft_leave_after(cpu, i);
}

/* LDS and friends: imm2 = segment register */
OP(op_lseg)
{
	uint64_t la = soft_la(cpu, i, i->size + 2u, false), off = soft_load(cpu, la, i->size);
	soft_load_seg(cpu, i->imm2, (uint16_t)soft_load(cpu, la + i->size, 2));
	soft_reg_set(cpu, i->dst, i->size, off);
	if (i->imm2 == X86_SS)
		cpu->shadow = SHADOW_MOVSS;
	return soft_leave_after(cpu, i);
}
