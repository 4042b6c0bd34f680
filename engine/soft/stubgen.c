/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Host code for stubs: the guest's instruction with its memory operand replaced by
 * [register], between loads and stores of just the registers it names.
 *
 *   mov C, rdi ; mov M, rdx                 C: the vCPU, M: the operand's copy
 *   fxrstor64 / vector / mask / mxcsr / flags / general registers
 *   the instruction
 *   the same, back; ret
 */
#include <stddef.h>
#include <sys/platform/x86.h>
#include "engine/soft/stub.h"

struct emitter {
	uint8_t *p;
	bool avx512, avx;
};

static void
e8(struct emitter *e, unsigned v)
{
	*e->p++ = (uint8_t)v;
}

static void
e32(struct emitter *e, uint32_t v)
{
	put_le32(e->p, v);
	e->p += 4;
}

/* ModRM with mod 2: [base + disp32]; base must not be RSP or R12. */
static void
modrm_disp(struct emitter *e, unsigned reg, unsigned base, size_t disp)
{
	e8(e, 0x80 | (reg & 7) << 3 | (base & 7));
	e32(e, (uint32_t)disp);
}

static void
mov_gpr(struct emitter *e, bool store, unsigned reg, unsigned base, size_t disp)
{
	e8(e, 0x48 | (reg >> 3) << 2 | base >> 3);
	e8(e, store ? 0x89 : 0x8b);
	modrm_disp(e, reg, base, disp);
}

static void
mov_rr(struct emitter *e, unsigned dst, unsigned src)
{
	e8(e, 0x48 | (src >> 3) << 2 | dst >> 3);
	e8(e, 0x89);
	e8(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}

/* Whole vector register as wide as the host has it: vmovdqu64 zmm, vmovdqu ymm or movdqu xmm. */
static void
mov_vec(struct emitter *e, bool store, unsigned reg, unsigned base, size_t disp)
{
	unsigned rb = reg >> 3 & 1, bb = base >> 3, rr = reg >> 4;
	if (e->avx512) {
		e8(e, 0x62);
		e8(e, 0x01 | (rb ? 0 : 0x80) | 0x40 | (bb ? 0 : 0x20) | (rr ? 0 : 0x10));
		e8(e, 0xfe); /* W1, vvvv 1111, F3 */
		e8(e, 0x48); /* L'L 512, V' 1 */
		e8(e, store ? 0x7f : 0x6f);
	} else if (e->avx) {
		e8(e, 0xc4);
		e8(e, (rb ? 0 : 0x80) | 0x40 | (bb ? 0 : 0x20) | 1);
		e8(e, 0x7e); /* W0, vvvv 1111, L1, F3 */
		e8(e, store ? 0x7f : 0x6f);
	} else {
		e8(e, 0xf3);
		e8(e, 0x40 | rb << 2 | bb);
		e8(e, 0x0f);
		e8(e, store ? 0x7f : 0x6f);
	}
	modrm_disp(e, reg, base, disp);
}

/* kmovq k, [m] / [m], k */
static void
mov_k(struct emitter *e, bool store, unsigned reg, unsigned base, size_t disp)
{
	e8(e, 0xc4);
	e8(e, 0x80 | 0x40 | (base >> 3 ? 0 : 0x20) | 1);
	e8(e, 0xf8); /* W1, vvvv 1111, L0, no prefix */
	e8(e, store ? 0x91 : 0x90);
	modrm_disp(e, reg, base, disp);
}

/* 0F AE /n and relatives on [base + disp] */
static void
op_0fae(struct emitter *e, bool w, unsigned n, unsigned base, size_t disp)
{
	unsigned rex = (w ? 0x48u : 0x40u) | base >> 3;
	if (rex != 0x40)
		e8(e, rex);
	e8(e, 0x0f);
	e8(e, 0xae);
	modrm_disp(e, n, base, disp);
}

#define OFF(member) offsetof(struct soft_cpu, member)

static void
emit_before(struct emitter *e, const struct stub_build *b, unsigned units)
{
	unsigned c = b->creg;
	if (units & UNIT_FXSTATE)
		op_0fae(e, true, 1, c, OFF(fximage)); /* fxrstor64 */
	for (unsigned r = 0; r < 32; r++) {
		if (b->vec_used >> r & 1)
			mov_vec(e, false, r, c, OFF(st.xs.vec) + 64 * r);
	}
	for (unsigned r = 0; r < 8; r++) {
		if (b->k_used >> r & 1)
			mov_k(e, false, r, c, OFF(st.xs.k) + 8 * r);
	}
	if (units & UNIT_VECTOR)
		op_0fae(e, false, 2, c, OFF(st.xs.mxcsr)); /* ldmxcsr */
	if (b->flags) {
		e8(e, 0x66); /* mov ax, [fl] */
		e8(e, 0x40 | c >> 3);
		e8(e, 0x8b);
		modrm_disp(e, 0, c, OFF(fl));
		e8(e, 0x04); /* add al, 0x7f: OF */
		e8(e, 0x7f);
		e8(e, 0x9e); /* sahf */
	}
	for (unsigned r = 0; r < 16; r++) {
		if (b->gpr_used >> r & 1)
			mov_gpr(e, false, r, c, OFF(gpr) + 8 * r);
	}
	if (b->rsp_sub >= 0)
		mov_gpr(e, false, (unsigned)b->rsp_sub, c, OFF(gpr) + 8 * X86_RSP);
}

static void
emit_after(struct emitter *e, const struct stub_build *b, unsigned units)
{
	unsigned c = b->creg;
	for (unsigned r = 0; r < 16; r++) {
		if (b->gpr_written >> r & 1)
			mov_gpr(e, true, r, c, OFF(gpr) + 8 * r);
	}
	if (b->rsp_written)
		mov_gpr(e, true, (unsigned)b->rsp_sub, c, OFF(gpr) + 8 * X86_RSP);
	if (b->flags) {
		e8(e, 0x9f); /* lahf */
		e8(e, 0x0f); /* seto al */
		e8(e, 0x90);
		e8(e, 0xc0);
		e8(e, 0x66); /* mov [fl], ax */
		e8(e, 0x40 | c >> 3);
		e8(e, 0x89);
		modrm_disp(e, 0, c, OFF(fl));
	}
	if (units & UNIT_VECTOR)
		op_0fae(e, false, 3, c, OFF(st.xs.mxcsr)); /* stmxcsr */
	for (unsigned r = 0; r < 32; r++) {
		if (b->vec_written >> r & 1)
			mov_vec(e, true, r, c, OFF(st.xs.vec) + 64 * r);
	}
	for (unsigned r = 0; r < 8; r++) {
		if (b->k_written >> r & 1)
			mov_k(e, true, r, c, OFF(st.xs.k) + 8 * r);
	}
	if (units & UNIT_FXSTATE) {
		op_0fae(e, true, 0, c, OFF(fximage)); /* fxsave64 */
		e8(e, 0xdb);			      /* fninit: the host's own x87 state is clean */
		e8(e, 0xe3);
	}
	if (units & (UNIT_VECTOR | UNIT_FXSTATE))
		op_0fae(e, false, 2, c, OFF(host_mxcsr));
	if ((units & UNIT_VECTOR) && e->avx) {
		e8(e, 0xc5); /* vzeroupper */
		e8(e, 0xf8);
		e8(e, 0x77);
	}
}

unsigned
soft_stub_emit(const struct stub_build *b, unsigned units, uint8_t *buf)
{
	struct emitter e = {.p = buf};
	e.avx512 = CPU_FEATURE_ACTIVE(AVX512BW);
	e.avx = CPU_FEATURE_ACTIVE(AVX);
	mov_rr(&e, b->creg, 7);
	if (b->mreg != 2)
		mov_rr(&e, b->mreg, 2);
	emit_before(&e, b, units);
	memcpy(e.p, b->insn, b->insn_len);
	e.p += b->insn_len;
	emit_after(&e, b, units);
	e8(&e, 0xc3);
	LH_ASSERT(e.p - buf <= STUB_CODE_MAX);
	return (unsigned)(e.p - buf);
}

/* ---- rewriting the instruction's bytes ---- */

static bool
is_vector_prefix(unsigned p)
{
	return p == 0x66 || p == 0xf2 || p == 0xf3;
}

struct fields {
	int reg, rm, vvvv; /* new low-3-bit numbers for GPRs that stood for RSP, or -1 */
};

static struct fields
rsp_fields(const struct dctx *d, int sub)
{
	struct fields f = {-1, -1, -1};
	for (unsigned n = 0; n < d->z->operand_count && sub >= 0; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || soft_reg_offset(op->reg.value) != X86_RSP * 8)
			continue;
		if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			f.reg = sub;
		else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			f.rm = sub;
		else if (op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
			f.vvvv = sub;
	}
	return f;
}

/* Prefix bytes for legacy and REX encodings. Integer instructions get 66 by their operand size: the host is
 * in 64-bit mode whatever the guest's default is. */
static void
put_legacy_prefixes(const struct dctx *d, struct stub_build *b, bool integer)
{
	const ZydisDecodedInstructionRaw *raw = &d->z->raw;
	int rex = -1;
	for (unsigned n = 0; n < raw->prefix_count; n++) {
		unsigned v = raw->prefixes[n].value;
		if ((d->mode & MODE_CS) == MODE_64 && v >= 0x40 && v <= 0x4f) {
			if (n == raw->prefix_count - 1u) /* before another prefix it has no effect */
				rex = (int)v;
			continue;
		}
		bool mandatory = raw->prefixes[n].type == ZYDIS_PREFIX_TYPE_MANDATORY;
		if (is_vector_prefix(v) &&
		    !(integer && v == 0x66 && !mandatory && (d->mode & MODE_CS) == MODE_16))
			b->insn[b->insn_len++] = (uint8_t)v;
	}
	if (integer && (d->mode & MODE_CS) == MODE_16 && d->z->operand_width == 16)
		b->insn[b->insn_len++] = 0x66;
	if (rex >= 0) {
		if (d->z->raw.modrm.mod != 3) /* the new base is a low register */
			rex &= ~3;
		b->insn[b->insn_len++] = (uint8_t)rex;
	}
}

static bool
converts_integer(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_VCVTSI2SS || m == ZYDIS_MNEMONIC_VCVTSI2SD ||
	       m == ZYDIS_MNEMONIC_VCVTUSI2SS || m == ZYDIS_MNEMONIC_VCVTUSI2SD ||
	       m == ZYDIS_MNEMONIC_VPINSRD || m == ZYDIS_MNEMONIC_VPEXTRD || m == ZYDIS_MNEMONIC_VMOVD;
}

static void
put_vex(const struct dctx *d, struct stub_build *b, const struct fields *f, bool mem)
{
	const ZydisDecodedInstructionRaw *raw = &d->z->raw;
	bool legacy = (d->mode & MODE_CS) != MODE_64;
	unsigned at = d->z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ? raw->evex.offset : raw->vex.offset;
	unsigned n = d->bytes[at] == 0xc5 ? 2 : d->bytes[at] == 0xc4 ? 3 : 4;
	uint8_t *v = &b->insn[b->insn_len];
	memcpy(v, d->bytes + at, n);
	b->insn_len += n;
	if (n > 2 && mem)
		v[1] |= 0x60; /* X, B inverted: a low base, no index */
	if (n > 2 && legacy)
		v[1] |= n == 4 ? 0xf0 : 0xe0;
	if (legacy) { /* only eight registers: the top bit of vvvv is ignored there */
		v[n == 2 ? 1 : 2] |= 0x40;
		if (n > 2 && (b->gpr_used || b->rsp_sub >= 0 || converts_integer(d->z->mnemonic)))
			v[2] &= 0x7f; /* W is ignored for general registers, and integers in memory */
	}
	if (f->vvvv >= 0)
		v[n == 2 ? 1 : 2] = (uint8_t)((v[n == 2 ? 1 : 2] & ~0x78) | (~f->vvvv & 15) << 3);
}

static bool
names_mmx(const struct dctx *d)
{
	if (d->z->meta.isa_set == ZYDIS_ISA_SET_PENTIUMMMX)
		return true;
	for (unsigned n = 0; n < d->z->operand_count; n++) {
		if (d->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    d->op[n].reg.value >= ZYDIS_REGISTER_MM0 && d->op[n].reg.value <= ZYDIS_REGISTER_MM7)
			return true;
	}
	return false;
}

static bool
names_is4(const struct dctx *d)
{
	for (unsigned n = 0; n < d->z->operand_count; n++) {
		if (d->op[n].encoding == ZYDIS_OPERAND_ENCODING_IS4)
			return true;
	}
	return false;
}

bool
soft_stub_rewrite(const struct dctx *d, struct stub_build *b)
{
	const ZydisDecodedInstruction *z = d->z;
	const ZydisDecodedInstructionRaw *raw = &z->raw;
	struct fields f = rsp_fields(d, b->rsp_sub);
	bool has_modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM, mem = has_modrm && raw->modrm.mod != 3;
	bool vex =
	    z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
	bool integer = !vex && b->vec_used == 0 && !names_mmx(d);
	unsigned op_at, tail;

	b->insn_len = 0;
	if (vex) {
		put_vex(d, b, &f, mem);
		op_at = (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ? raw->evex.offset : raw->vex.offset);
		op_at += d->bytes[op_at] == 0xc5 ? 2 : d->bytes[op_at] == 0xc4 ? 3 : 4;
	} else if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
		put_legacy_prefixes(d, b, integer);
		op_at = raw->prefix_count;
	} else {
		return false; /* 3DNow!, XOP */
	}
	if (!has_modrm) {
		memcpy(b->insn + b->insn_len, d->bytes + op_at, z->length - op_at);
		b->insn_len += z->length - op_at;
		return true;
	}
	for (unsigned n = op_at; n < raw->modrm.offset; n++)
		b->insn[b->insn_len++] = d->bytes[n];
	unsigned reg = f.reg >= 0 ? (unsigned)f.reg : raw->modrm.reg;
	tail = raw->modrm.offset + 1;
	if (mem) {
		if (raw->sib.offset != 0)
			tail++;
		tail += raw->disp.size / 8;
		b->insn[b->insn_len++] = (uint8_t)(0x80 | (reg & 7) << 3 | (b->mreg & 7));
		memset(b->insn + b->insn_len, 0, 4);
		b->insn_len += 4;
	} else {
		unsigned rm = f.rm >= 0 ? (unsigned)f.rm : raw->modrm.rm;
		b->insn[b->insn_len++] = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
	}
	memcpy(b->insn + b->insn_len, d->bytes + tail, z->length - tail);
	b->insn_len += z->length - tail;
	if ((d->mode & MODE_CS) != MODE_64 && names_is4(d)) /* a register in imm8[7:4]: only eight there */
		b->insn[b->insn_len - 1] &= 0x7f;
	return true;
}
