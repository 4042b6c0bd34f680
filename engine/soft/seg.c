/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segment registers: loading them from descriptors, the checks of each access
 * through them, and the decoding mode that follows from them (SDM vol. 3A ch. 3, 5).
 */
#include "engine/soft/seg.h"

void
soft_desc_to_seg(uint16_t sel, uint64_t desc, struct x86_segment *s)
{
	memset(s, 0, sizeof(*s));
	s->sel = sel;
	s->base = bits(desc, 16, 24) | bits(desc, 56, 8) << 24;
	s->limit = (uint32_t)(bits(desc, 0, 16) | bits(desc, 48, 4) << 16);
	s->attr = (uint32_t)(bits(desc, 40, 8) | bits(desc, 52, 4) << 12);
	if (s->attr & SEG_G)
		s->limit = s->limit << 12 | 0xfff;
}

bool
soft_read_desc(struct soft_cpu *cpu, uint16_t sel, uint64_t *lo, uint64_t *la)
{
	uint64_t base;
	uint32_t limit;
	if (sel & 4) {
		if (cpu->st.seg[X86_LDTR].attr & SEG_UNUSABLE)
			return false;
		base = cpu->st.seg[X86_LDTR].base;
		limit = cpu->st.seg[X86_LDTR].limit;
	} else {
		base = cpu->st.gdtr.base;
		limit = cpu->st.gdtr.limit;
	}
	if ((sel | 7u) > limit)
		return false;
	*la = base + (sel & ~7u);
	*lo = soft_load_sys(cpu, *la, 8);
	return true;
}

/* Set the descriptor's accessed bit when it is clear. */
void
soft_mark_accessed(struct soft_cpu *cpu, uint64_t la, uint64_t desc)
{
	if (!(desc & (1ull << 40)))
		soft_or_sys(cpu, la + 5, 1, 0);
}

static bool
seg_flat(const struct x86_segment *s)
{
	return s->base == 0 && s->limit == 0xffffffff && !(s->attr & SEG_UNUSABLE) && (s->attr & SEG_P);
}

static bool
data_flat(const struct x86_segment *s)
{
	return seg_flat(s) && (s->attr & 0xe) == 2; /* data, expand-up, writable */
}

void
soft_update_mode(struct soft_cpu *cpu)
{
	const struct x86_segment *sg = cpu->st.seg;
	bool real = soft_is_real(cpu), vm86 = soft_is_vm86(cpu);
	uint32_t m;
	if (soft_long_mode(cpu) && (sg[X86_CS].attr & SEG_L))
		m = MODE_64;
	else
		m = sg[X86_CS].attr & SEG_DB ? MODE_32 : MODE_16;
	if (m != MODE_64) {
		if (sg[X86_SS].attr & SEG_DB)
			m |= MODE_SS32;
		if (!real && !vm86 && data_flat(&sg[X86_DS]) && data_flat(&sg[X86_ES]) &&
		    data_flat(&sg[X86_SS]) && seg_flat(&sg[X86_CS]) && (sg[X86_CS].attr & 2))
			m |= MODE_FLAT;
	}
	if (real)
		m |= MODE_REAL;
	if (vm86)
		m |= MODE_VM86;
	if (cpu->cpl == 3)
		m |= MODE_USER;
	cpu->mode = m;
	cpu->ip_mask = (m & MODE_CS) == MODE_64 ? ~0ull : 0xffffffff;
	for (unsigned n = 0; n < 6; n++)
		cpu->seg_base[n] = sg[n].base;
	cpu->seg_base[SEG_ZERO] = 0;
	/* 16/32-bit blocks are cut at CS's limit and found by IP: a changed base or limit makes them others
	 */
	if ((m & MODE_CS) != MODE_64 && !(m & MODE_FLAT))
		cpu->jc_gen++;
}

void
soft_seg_changed(struct soft_cpu *cpu, unsigned seg)
{
	if (seg >= X86_FS && seg <= X86_GS)
		cpu->seg_base[seg] = cpu->st.seg[seg].base;
	else
		soft_update_mode(cpu);
}

void
soft_set_cpl(struct soft_cpu *cpu, unsigned cpl)
{
	if (UNLIKELY(cpu->pmu_on) && cpl != cpu->cpl)
		soft_pmu_sync(cpu);
	cpu->cpl = (uint8_t)cpl;
	soft_mmu_update(cpu);
}

static void __attribute__((noreturn, cold)) seg_fault(struct soft_cpu *cpu, bool ss)
{
	soft_raise_err(cpu, ss ? EXC_SS : EXC_GP, 0);
}

/* Type and limit allow the access at offset ea. */
bool
soft_segment_reaches(const struct soft_cpu *cpu, const struct x86_segment *s, uint64_t ea, unsigned size,
		     bool write)
{
	uint64_t last = ea + size - 1;
	if (!soft_is_real(cpu) && !soft_is_vm86(cpu)) {
		if ((s->attr & SEG_UNUSABLE) || (write && (s->attr & 0xa) != 2) ||
		    (!write && (s->attr & 0xa) == 8))
			return false;
	}
	if ((s->attr & 0xc) == 4) { /* data, expand-down */
		uint64_t top = s->attr & SEG_DB ? 0xffffffff : 0xffff;
		return ea > s->limit && last <= top;
	}
	return last <= s->limit;
}

uint64_t
soft_segment_la(struct soft_cpu *cpu, const struct x86_segment *s, bool ss, uint64_t ea, unsigned size,
		bool write)
{
	if (!soft_segment_reaches(cpu, s, ea, size, write))
		seg_fault(cpu, ss);
	return (s->base + ea) & 0xffffffff;
}

uint64_t
soft_seg_la(struct soft_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, bool write)
{
	if (soft_is64(cpu))
		return seg >= X86_FS ? ea + cpu->seg_base[seg] : ea;
	if (LIKELY((cpu->mode & MODE_FLAT) && seg <= X86_DS && seg != X86_CS))
		return ea & 0xffffffff;
	return soft_segment_la(cpu, &cpu->st.seg[seg], seg == X86_SS, ea, size, write);
}

uint64_t
soft_ea_slow(struct soft_cpu *cpu, const struct soft_insn *i, unsigned size, bool write)
{
	uint64_t ea = soft_ea(cpu, i) & size_mask(i->addrsize);
	if (soft_is64(cpu))
		return ea + cpu->seg_base[i->segslot];
	return soft_seg_la(cpu, i->seg, ea, size, write);
}

static void
load_null(struct soft_cpu *cpu, unsigned seg, uint16_t sel)
{
	struct x86_segment *s = &cpu->st.seg[seg];
	memset(s, 0, sizeof(*s));
	s->sel = sel;
	s->attr = SEG_UNUSABLE;
	if (seg == X86_SS) /* 64-bit mode: DPL is CPL, and the stack is usable all the same */
		s->attr |= (uint32_t)cpu->cpl << SEG_DPL_SHIFT;
}

/* In real and virtual-8086 mode a selector is a paragraph number. */
void
soft_load_seg_real(struct soft_cpu *cpu, unsigned seg, uint16_t sel)
{
	struct x86_segment *s = &cpu->st.seg[seg];
	s->sel = sel;
	s->base = (uint32_t)sel << 4;
	if (soft_is_vm86(cpu)) {
		s->limit = 0xffff;
		s->attr = 0xf3;
	} else if (s->attr & SEG_UNUSABLE) {
		s->limit = 0xffff;
		s->attr = 0x93;
	}
}

static void
check_ss(struct soft_cpu *cpu, uint16_t sel, uint64_t desc, unsigned cpl)
{
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2);
	if ((sel & 3u) != cpl || (type & 0x1a) != 0x12 || dpl != cpl)
		soft_gp(cpu, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_SS, sel & ~3u);
}

static void
check_data(struct soft_cpu *cpu, uint16_t sel, uint64_t desc)
{
	unsigned type = bits(desc, 40, 5), dpl = bits(desc, 45, 2);
	if (!(type & 0x10) || (type & 0x1a) == 0x18)
		soft_gp(cpu, sel & ~3u);
	if ((type & 0x1c) != 0x1c && dpl < MAX((unsigned)cpu->cpl, sel & 3u))
		soft_gp(cpu, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_NP, sel & ~3u);
}

void
soft_load_seg(struct soft_cpu *cpu, unsigned seg, uint16_t sel)
{
	uint64_t desc, la;
	if (soft_is_real(cpu) || soft_is_vm86(cpu)) {
		soft_load_seg_real(cpu, seg, sel);
		soft_update_mode(cpu);
		return;
	}
	if ((sel & ~3u) == 0) {
		if (seg == X86_SS && (!soft_is64(cpu) || cpu->cpl == 3 || (sel & 3u) != cpu->cpl))
			soft_gp(cpu, 0);
		load_null(cpu, seg, sel);
		soft_seg_changed(cpu, seg);
		return;
	}
	if (!soft_read_desc(cpu, sel, &desc, &la))
		soft_gp(cpu, sel & ~3u);
	if (seg == X86_SS)
		check_ss(cpu, sel, desc, cpu->cpl);
	else
		check_data(cpu, sel, desc);
	soft_mark_accessed(cpu, la, desc);
	soft_desc_to_seg(sel, desc | 1ull << 40, &cpu->st.seg[seg]);
	soft_seg_changed(cpu, seg);
}

/* Check and fetch a stack segment for another privilege level. exc: #TS for a new stack from a TSS, else
 * #GP/#SS. */
void
soft_check_stack(struct soft_cpu *cpu, uint16_t sel, unsigned cpl, bool from_tss, struct x86_segment *out)
{
	uint64_t desc, la;
	unsigned exc = from_tss ? EXC_TS : EXC_GP;
	if ((sel & ~3u) == 0) {
		soft_raise_err(cpu, exc, from_tss ? sel & ~3u : 0);
	}
	if (!soft_read_desc(cpu, sel, &desc, &la))
		soft_raise_err(cpu, exc, sel & ~3u);
	if ((sel & 3u) != cpl || bits(desc, 45, 2) != cpl || (bits(desc, 40, 5) & 0x1a) != 0x12)
		soft_raise_err(cpu, exc, sel & ~3u);
	if (!bits(desc, 47, 1))
		soft_raise_err(cpu, EXC_SS, sel & ~3u);
	soft_mark_accessed(cpu, la, desc);
	soft_desc_to_seg(sel, desc | 1ull << 40, out);
}

/* A return to an outer level drops data segments that it may not have (SDM vol. 2, RET). */
void
soft_drop_inner_segs(struct soft_cpu *cpu)
{
	static const uint8_t segs[] = {X86_ES, X86_DS, X86_FS, X86_GS};
	for (unsigned n = 0; n < ARRAY_LEN(segs); n++) {
		struct x86_segment *s = &cpu->st.seg[segs[n]];
		unsigned dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT;
		bool conforming = (s->attr & 0x1c) == 0x1c;
		if (!(s->attr & SEG_UNUSABLE) && !conforming && dpl < cpu->cpl) {
			uint64_t base = s->base; /* stays: 64-bit code goes on using FS and GS by it */
			load_null(cpu, segs[n], 0);
			if (segs[n] >= X86_FS)
				s->base = base;
		}
	}
	soft_update_mode(cpu);
}
