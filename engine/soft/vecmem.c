/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Vector instructions whose memory operand is many addresses: gathers, scatters,
 * byte-masked stores. Element by element, so that a fault leaves finished elements
 * done and their mask bits clear (SDM vol. 2, VPGATHERDD).
 */
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"
#include "engine/soft/stub.h"

struct gather {
	uint8_t esz, isz, count, dst, idx, mask, base, scale_shift;
	bool evex, scatter;
	uint8_t vl; /* bytes of the widest register: what is kept of the destination */
};

_Static_assert(sizeof(struct gather) <= 16, "fits soft_insn.aux");

static unsigned
vec_number(ZydisRegister r, unsigned *bytes)
{
	if (r >= ZYDIS_REGISTER_ZMM0 && r <= ZYDIS_REGISTER_ZMM31) {
		*bytes = 64;
		return (unsigned)(r - ZYDIS_REGISTER_ZMM0);
	}
	if (r >= ZYDIS_REGISTER_YMM0 && r <= ZYDIS_REGISTER_YMM31) {
		*bytes = 32;
		return (unsigned)(r - ZYDIS_REGISTER_YMM0);
	}
	*bytes = 16;
	return (unsigned)(r - ZYDIS_REGISTER_XMM0);
}

enum soft_decode
soft_decode_gather(struct dctx *d, bool scatter)
{
	struct gather g = {.scatter = scatter, .evex = d->z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX};
	const ZydisDecodedOperand *mem = NULL, *vec = NULL;
	unsigned ibytes, dbytes, maskreg = 0;
	for (unsigned n = 0; n < d->z->operand_count_visible; n++) {
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY)
			mem = &d->op[n];
		else if (d->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			 d->op[n].reg.value >= ZYDIS_REGISTER_XMM0 &&
			 d->op[n].reg.value <= ZYDIS_REGISTER_ZMM31) {
			if (vec == NULL)
				vec = &d->op[n];
			else
				maskreg = vec_number(d->op[n].reg.value, &dbytes);
		}
	}
	if (mem == NULL || vec == NULL) { /* gather prefetches: not offered */
		d->o->fn = op_ud;
		return DECODE_END;
	}
	/* Mnemonics end in {D,Q}{PS,PD,D,Q}: index size, then element size. */
	g.dst = (uint8_t)vec_number(vec->reg.value, &dbytes);
	g.idx = (uint8_t)vec_number(mem->mem.index, &ibytes);
	g.esz = (uint8_t)(vec->element_size / 8);
	switch (d->z->mnemonic) {
	case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VGATHERQPD:
	case ZYDIS_MNEMONIC_VPGATHERQD:
	case ZYDIS_MNEMONIC_VPGATHERQQ:
	case ZYDIS_MNEMONIC_VSCATTERQPS:
	case ZYDIS_MNEMONIC_VSCATTERQPD:
	case ZYDIS_MNEMONIC_VPSCATTERQD:
	case ZYDIS_MNEMONIC_VPSCATTERQQ:
		g.isz = 8;
		break;
	default:
		g.isz = 4;
	}
	switch (d->z->mnemonic) {
	case ZYDIS_MNEMONIC_VGATHERQPD:
	case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VPGATHERDQ:
	case ZYDIS_MNEMONIC_VPGATHERQQ:
	case ZYDIS_MNEMONIC_VSCATTERDPD:
	case ZYDIS_MNEMONIC_VSCATTERQPD:
	case ZYDIS_MNEMONIC_VPSCATTERDQ:
	case ZYDIS_MNEMONIC_VPSCATTERQQ:
		g.esz = 8;
		break;
	default:
		g.esz = 4;
	}
	g.count = (uint8_t)MIN(dbytes / g.esz, ibytes / g.isz);
	g.vl = (uint8_t)dbytes;
	g.mask = g.evex ? (uint8_t)(d->z->avx.mask.reg - ZYDIS_REGISTER_K0) : (uint8_t)maskreg;
	/* the base goes by the usual fields, with no scalar index */
	ZydisDecodedOperand flat = *mem;
	flat.mem.index = ZYDIS_REGISTER_NONE;
	g.scale_shift = mem->mem.scale ? (uint8_t)__builtin_ctz(mem->mem.scale) : 0;
	soft_decode_mem(d, &flat);
	d->o->scale = 0;
	memcpy(&d->o->aux, &g, sizeof(g));
	d->o->fn = op_gather;
	return DECODE_OK;
}

static bool
element_on(struct soft_cpu *cpu, const struct gather *g, unsigned n)
{
	if (g->evex)
		return cpu->st.xs.k[g->mask] >> n & 1;
	return cpu->st.xs.vec[g->mask][(n + 1) * g->esz - 1] >> 7;
}

static void
element_done(struct soft_cpu *cpu, const struct gather *g, unsigned n)
{
	if (g->evex)
		cpu->st.xs.k[g->mask] &= ~(1ull << n);
	else
		memset(&cpu->st.xs.vec[g->mask][n * g->esz], 0, g->esz);
	soft_iolog_clear(cpu);
}

static uint64_t
element_la(struct soft_cpu *cpu, const struct soft_insn *i, const struct gather *g, unsigned n)
{
	const uint8_t *v = cpu->st.xs.vec[g->idx];
	int64_t index = g->isz == 8 ? (int64_t)get_le64(v + 8 * n) : (int32_t)get_le32(v + 4 * n);
	uint64_t ea = (soft_ea(cpu, i) + ((uint64_t)index << g->scale_shift)) & size_mask(i->addrsize);
	if (soft_is64(cpu))
		return ea + cpu->seg_base[i->segslot];
	return soft_seg_la(cpu, i->seg, ea, g->esz, g->scatter);
}

OP(op_gather)
{
	struct gather g;
	memcpy(&g, &i->aux, sizeof(g));
	cpu->cur = i;
	soft_vec_sync(cpu);
	soft_check_units(cpu, g.evex ? UNIT_EVEX : UNIT_AVX);
	uint8_t *dst = cpu->st.xs.vec[g.dst];
	if (g.evex ? (g.mask == 0 || (!g.scatter && g.dst == g.idx))
		   : (g.dst == g.idx || g.dst == g.mask || g.idx == g.mask))
		soft_ud(cpu);
	if (!g.evex) /* mask elements are all ones or zeros from here on, also after a fault */
		for (unsigned n = 0; n < g.count; n++)
			memset(&cpu->st.xs.vec[g.mask][n * g.esz], element_on(cpu, &g, n) ? 0xff : 0, g.esz);
	for (unsigned n = 0; n < g.count; n++) {
		if (!element_on(cpu, &g, n))
			continue;
		uint64_t la = element_la(cpu, i, &g, n);
		if (g.scatter)
			soft_store(cpu, la, g.esz,
				   g.esz == 8 ? get_le64(dst + 8 * n) : get_le32(dst + 4 * n));
		else if (g.esz == 8)
			put_le64(dst + 8 * n, soft_ld64(cpu, la));
		else
			put_le32(dst + 4 * n, soft_ld32(cpu, la));
		element_done(cpu, &g, n);
	}
	if (!g.scatter)
		memset(dst + g.count * g.esz, 0, 64u - g.count * g.esz);
	if (g.evex)
		cpu->st.xs.k[g.mask] = 0;
	else
		memset(cpu->st.xs.vec[g.mask], 0, 64);
	DONE(cpu, i);
}

enum soft_decode
soft_decode_maskmov(struct dctx *d, bool mmx)
{
	unsigned bytes;
	d->o->imm2 = mmx;
	d->o->size = d->z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	if (mmx) {
		d->o->dst = (uint8_t)(d->op[0].reg.value - ZYDIS_REGISTER_MM0);
		d->o->src = (uint8_t)(d->op[1].reg.value - ZYDIS_REGISTER_MM0);
	} else {
		d->o->dst = (uint8_t)vec_number(d->op[0].reg.value, &bytes);
		d->o->src = (uint8_t)vec_number(d->op[1].reg.value, &bytes);
	}
	for (unsigned n = 0; n < d->z->operand_count; n++) {
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY)
			soft_decode_mem(d, &d->op[n]);
	}
	d->o->fn = op_maskmov;
	return DECODE_OK;
}

/* The image holds ST0-ST7, counted from TOP; MMX registers are the physical ones. With TOP 0 both are the
 * same. */
void
soft_mmx_enter(struct soft_cpu *cpu)
{
	uint8_t *st = cpu->fximage + 32, old[128];
	unsigned top = get_le16(cpu->fximage + 2) >> 11 & 7;
	memcpy(old, st, sizeof(old));
	for (unsigned n = 0; n < 8; n++)
		memcpy(st + 16 * ((n + top) & 7), old + 16 * n, 16);
	put_le16(cpu->fximage + 2, get_le16(cpu->fximage + 2) & (uint16_t)~0x3800);
	cpu->fximage[4] = 0xff;
}

/* Check the masked bytes of one page's part: the fault names the part's first byte, as processors do. */
static void
probe_part(struct soft_cpu *cpu, uint64_t la, const uint8_t *mask, unsigned from, unsigned to)
{
	for (unsigned k = from; k < to; k++) {
		if (mask[k] & 0x80) {
			soft_probe(cpu, la + from, 1, true);
			return;
		}
	}
}

/* MASKMOVQ, MASKMOVDQU: bytes whose mask byte has its top bit set. */
OP(op_maskmov)
{
	unsigned n = i->imm2 ? 8 : 16;
	cpu->cur = i;
	soft_vec_sync(cpu);
	soft_check_units(cpu, i->imm2 ? UNIT_MMX : i->size ? UNIT_AVX : UNIT_SSE);
	if (i->imm2) {
		if (cpu->fximage[2] & 0x80)
			soft_raise(cpu, EXC_MF);
		soft_mmx_enter(cpu);
	}
	const uint8_t *data = i->imm2 ? cpu->fximage + 32 + 16 * i->dst : cpu->st.xs.vec[i->dst];
	const uint8_t *mask = i->imm2 ? cpu->fximage + 32 + 16 * i->src : cpu->st.xs.vec[i->src];
	uint64_t la = soft_la(cpu, i, n, true);
	unsigned first = (unsigned)MIN(n, 0x1000 - (la & 0xfff));
	if (cpu->ac_on && i->imm2 && (la & 7) && (!soft_long_mode(cpu) || soft_canonical(cpu, la)))
		soft_raise_err(cpu, EXC_AC, 0);
	if (i->imm2)
		soft_probe(cpu, la, 8, true); /* all of it, as AMD does */
	probe_part(cpu, la, mask, 0, first);
	probe_part(cpu, la, mask, first, n);
	for (unsigned k = 0; k < n; k++) {
		if (mask[k] & 0x80)
			soft_st8(cpu, la + k, data[k]);
	}
	DONE(cpu, i);
}

OP(op_vzero) /* imm2: all, else the upper parts of the first 16 registers (8 outside 64-bit mode) */
{
	unsigned regs = soft_is64(cpu) ? 16 : 8, keep = i->imm2 ? 0 : 16;
	cpu->cur = i;
	soft_vec_sync(cpu);
	soft_check_units(cpu, UNIT_AVX);
	for (unsigned n = 0; n < regs; n++)
		memset(&cpu->st.xs.vec[n][keep], 0, 64 - keep);
	DONE(cpu, i);
}
