/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions: bytes that look like each encoding, decoded by Zydis, taken when the whitelist has their
 * category and nothing in the operands forbids them. State: random with edge values. Then the registers that
 * memory operands are made of are solved so that each address lies where we want it.
 */
#include "tests/native/gen.h"

#include <stdio.h>
#include <string.h>
#include "base/util.h"

static uint64_t
rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

/* xoshiro256**, seeded by splitmix64. */
void
gen_seed(struct gen_rng *r, uint64_t seed)
{
	for (unsigned i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15ull;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		r->s[i] = z ^ z >> 31;
	}
}

uint64_t
gen_next(struct gen_rng *r)
{
	uint64_t result = rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = rotl(r->s[3], 45);
	return result;
}

uint64_t
gen_below(struct gen_rng *r, uint64_t n)
{
	return (uint64_t)((unsigned __int128)gen_next(r) * n >> 64);
}

static bool
chance(struct gen_rng *r, unsigned percent)
{
	return gen_below(r, 100) < percent;
}

/* Only arithmetic, moves, near branches and vector work: nothing that enters a kernel, loads a segment, or
 * tells this machine from another. */
static const bool category_ok[ZYDIS_CATEGORY_MAX_VALUE + 1] = {
    [ZYDIS_CATEGORY_ADOX_ADCX] = true,	   [ZYDIS_CATEGORY_AES] = true,
    [ZYDIS_CATEGORY_AVX] = true,	   [ZYDIS_CATEGORY_AVX2] = true,
    [ZYDIS_CATEGORY_AVX2GATHER] = true,	   [ZYDIS_CATEGORY_AVX512] = true,
    [ZYDIS_CATEGORY_AVX512_BITALG] = true, [ZYDIS_CATEGORY_AVX512_VBMI] = true,
    [ZYDIS_CATEGORY_BINARY] = true,	   [ZYDIS_CATEGORY_BITBYTE] = true,
    [ZYDIS_CATEGORY_BLEND] = true,	   [ZYDIS_CATEGORY_BMI1] = true,
    [ZYDIS_CATEGORY_BMI2] = true,	   [ZYDIS_CATEGORY_BROADCAST] = true,
    [ZYDIS_CATEGORY_CALL] = true,	   [ZYDIS_CATEGORY_CLFLUSHOPT] = true,
    [ZYDIS_CATEGORY_CLWB] = true,	   [ZYDIS_CATEGORY_CMOV] = true,
    [ZYDIS_CATEGORY_COMPRESS] = true,	   [ZYDIS_CATEGORY_COND_BR] = true,
    [ZYDIS_CATEGORY_CONFLICT] = true,	   [ZYDIS_CATEGORY_CONVERT] = true,
    [ZYDIS_CATEGORY_DATAXFER] = true,	   [ZYDIS_CATEGORY_DECIMAL] = true,
    [ZYDIS_CATEGORY_EXPAND] = true,	   [ZYDIS_CATEGORY_FCMOV] = true,
    [ZYDIS_CATEGORY_FLAGOP] = true,	   [ZYDIS_CATEGORY_GATHER] = true,
    [ZYDIS_CATEGORY_GFNI] = true,	   [ZYDIS_CATEGORY_IFMA] = true,
    [ZYDIS_CATEGORY_KMASK] = true,	   [ZYDIS_CATEGORY_LOGICAL] = true,
    [ZYDIS_CATEGORY_LOGICAL_FP] = true,	   [ZYDIS_CATEGORY_LZCNT] = true,
    [ZYDIS_CATEGORY_MMX] = true,	   [ZYDIS_CATEGORY_NOP] = true,
    [ZYDIS_CATEGORY_PCLMULQDQ] = true,	   [ZYDIS_CATEGORY_POP] = true,
    [ZYDIS_CATEGORY_PREFETCH] = true,	   [ZYDIS_CATEGORY_PUSH] = true,
    [ZYDIS_CATEGORY_RET] = true,	   [ZYDIS_CATEGORY_ROTATE] = true,
    [ZYDIS_CATEGORY_SCATTER] = true,	   [ZYDIS_CATEGORY_SEMAPHORE] = true,
    [ZYDIS_CATEGORY_SETCC] = true,	   [ZYDIS_CATEGORY_SHA] = true,
    [ZYDIS_CATEGORY_SHIFT] = true,	   [ZYDIS_CATEGORY_SSE] = true,
    [ZYDIS_CATEGORY_STRINGOP] = true,	   [ZYDIS_CATEGORY_STTNI] = true,
    [ZYDIS_CATEGORY_UNCOND_BR] = true,	   [ZYDIS_CATEGORY_VAES] = true,
    [ZYDIS_CATEGORY_VBMI2] = true,	   [ZYDIS_CATEGORY_VFMA] = true,
    [ZYDIS_CATEGORY_VPCLMULQDQ] = true,	   [ZYDIS_CATEGORY_WIDENOP] = true,
    [ZYDIS_CATEGORY_X87_ALU] = true,
};

/* Of the category MISC, which holds all sorts. */
static const ZydisMnemonic misc_ok[] = {
    ZYDIS_MNEMONIC_LEA,	    ZYDIS_MNEMONIC_ENTER,  ZYDIS_MNEMONIC_LEAVE,  ZYDIS_MNEMONIC_XLAT,
    ZYDIS_MNEMONIC_PAUSE,   ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_MFENCE, ZYDIS_MNEMONIC_SFENCE,
    ZYDIS_MNEMONIC_CLFLUSH, ZYDIS_MNEMONIC_UD0,	   ZYDIS_MNEMONIC_UD1,	  ZYDIS_MNEMONIC_UD2,
};

/* In good categories, but not for us: they ask for privilege, or store what differs without harm (the x87's
 * instruction and data pointers), or what a legacy FXSAVE leaves unsaid. */
static const ZydisMnemonic mnemonic_bad[] = {
    ZYDIS_MNEMONIC_CLI,	   ZYDIS_MNEMONIC_STI,	   ZYDIS_MNEMONIC_CLAC,	  ZYDIS_MNEMONIC_STAC,
    ZYDIS_MNEMONIC_FNSAVE, ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64,
    ZYDIS_MNEMONIC_LDS,	   ZYDIS_MNEMONIC_LES,	   ZYDIS_MNEMONIC_LFS,	  ZYDIS_MNEMONIC_LGS,
    ZYDIS_MNEMONIC_LSS,
};

/* Extensions that only one vendor or no current processor has. */
static const ZydisISAExt ext_bad[] = {
    ZYDIS_ISA_EXT_AMD3DNOW, ZYDIS_ISA_EXT_XOP,	    ZYDIS_ISA_EXT_FMA4, ZYDIS_ISA_EXT_TBM,
    ZYDIS_ISA_EXT_SSE4A,    ZYDIS_ISA_EXT_KNC,	    ZYDIS_ISA_EXT_KNCE, ZYDIS_ISA_EXT_KNCV,
    ZYDIS_ISA_EXT_MPX,	    ZYDIS_ISA_EXT_CET,	    ZYDIS_ISA_EXT_RTM,	ZYDIS_ISA_EXT_AMX_TILE,
    ZYDIS_ISA_EXT_AMX_INT8, ZYDIS_ISA_EXT_AMX_BF16,
};

/* Sets that only Xeon Phi had. */
static const ZydisISASet set_bad[] = {
    ZYDIS_ISA_SET_AVX512ER_512,
    ZYDIS_ISA_SET_AVX512ER_SCALAR,
    ZYDIS_ISA_SET_AVX512PF_512,
};

static bool
is_one_of(unsigned v, const unsigned *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == v)
			return true;
	return false;
}
#define IS_ONE_OF(v, list) is_one_of((unsigned)(v), (const unsigned *)(list), ARRAY_LEN(list))

static bool
is_branch(const ZydisDecodedInstruction *in)
{
	return in->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || in->meta.category == ZYDIS_CATEGORY_RET;
}

static bool
has_prefix(const ZydisDecodedInstruction *in, uint8_t value)
{
	for (unsigned i = 0; i < in->raw.prefix_count; i++)
		if (in->raw.prefixes[i].value == value)
			return true;
	return false;
}

static bool
operand_ok(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
	if (op->type == ZYDIS_OPERAND_TYPE_POINTER)
		return false;
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		ZydisRegisterClass cls = ZydisRegisterGetClass(op->reg.value);

		if (cls == ZYDIS_REGCLASS_CONTROL || cls == ZYDIS_REGCLASS_DEBUG ||
		    cls == ZYDIS_REGCLASS_TEST)
			return false;
		if (cls == ZYDIS_REGCLASS_SEGMENT && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return false;
	}
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
		return true;
	return op->mem.type != ZYDIS_MEMOP_TYPE_MIB && op->mem.segment != ZYDIS_REGISTER_FS &&
	       op->mem.segment != ZYDIS_REGISTER_GS && in->address_width != 16;
}

static bool
insn_ok(const struct gen_case *c)
{
	const ZydisDecodedInstruction *in = &c->info;

	if (in->meta.category == ZYDIS_CATEGORY_MISC ? !IS_ONE_OF(in->mnemonic, misc_ok)
						     : !category_ok[in->meta.category])
		return false;
	if (IS_ONE_OF(in->mnemonic, mnemonic_bad) || IS_ONE_OF(in->meta.isa_ext, ext_bad) ||
	    IS_ONE_OF(in->meta.isa_set, set_bad))
		return false;
	if (in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || in->mnemonic == ZYDIS_MNEMONIC_IRET ||
	    in->mnemonic == ZYDIS_MNEMONIC_IRETD || in->mnemonic == ZYDIS_MNEMONIC_IRETQ)
		return false;
	/* Vendors differ in what an operand size prefix does to a near branch in 64-bit mode. */
	if (is_branch(in) && !c->before.compat && has_prefix(in, 0x66))
		return false;
	/* Register forms of the prefetches are #UD to one vendor and NOPs to the other; so is F3 REX.B 90 a
	 * PAUSE or an XCHG with R8. */
	if (in->meta.category == ZYDIS_CATEGORY_WIDENOP && in->opcode == 0x0d)
		return false;
	if (in->mnemonic == ZYDIS_MNEMONIC_PAUSE && (in->attributes & ZYDIS_ATTRIB_HAS_REX))
		return false;
	/* 16-bit BSWAP is undefined. */
	if (in->mnemonic == ZYDIS_MNEMONIC_BSWAP && in->operand_width == 16)
		return false;
	for (unsigned i = 0; i < in->operand_count; i++)
		if (!operand_ok(in, &c->operands[i]))
			return false;
	return true;
}

/* Bytes that begin like one of the encodings (kind: per cent); what follows is random. */
static void
random_bytes(struct gen_rng *r, bool compat, unsigned kind, uint8_t out[15])
{
	static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e, 0x3e, 0x66, 0xf3, 0xf2};
	unsigned n = 0;

	for (unsigned i = 0; i < 15; i++)
		out[i] = (uint8_t)gen_next(r);
	if (kind < 75) {
		while (n < 3 && chance(r, 22))
			out[n++] = prefixes[gen_below(r, ARRAY_LEN(prefixes))];
		if (!compat && chance(r, 45)) {
			out[n] = 0x40 | (out[n] & 15);
			n++;
		}
	}
	if (kind >= 45 && kind < 75)
		out[n++] = 0x0f;
	if (kind >= 65 && kind < 75)
		out[n] = kind < 70 ? 0x38 : 0x3a;
	if (kind >= 75 && kind < 78)
		out[0] = 0xc5;
	if (kind >= 78 && kind < 86) {
		out[0] = 0xc4;
		out[1] = (out[1] & 0xe0) | (uint8_t)(1 + gen_below(r, 3));
	}
	if (kind >= 86) { /* EVEX: P0[3:2] are 0, P1[2] is 1 */
		out[0] = 0x62;
		out[1] = (out[1] & 0xf0) | (uint8_t)(1 + gen_below(r, 3));
		out[2] |= 4;
	}
	/* Without this VEX.vvvv and EVEX.vvvv, V' would have to be lucky where no third operand is. */
	if (kind >= 75 && chance(r, 40))
		out[kind < 78 ? 1 : 2] |= 0x78;
	if (kind >= 86 && chance(r, 40))
		out[3] |= 8;
}

static uint64_t
random_gpr(struct gen_rng *r)
{
	static const uint64_t edges[] = {0,
					 1,
					 2,
					 0x7f,
					 0x80,
					 0xff,
					 0x7fff,
					 0x8000,
					 0xffff,
					 0x7fffffff,
					 0x80000000,
					 0xffffffff,
					 0x7fffffffffffffffull,
					 0x8000000000000000ull,
					 ~0ull,
					 ~0ull - 1,
					 0xffffffff80000000ull};

	switch (gen_below(r, 5)) {
	case 0:
		return edges[gen_below(r, ARRAY_LEN(edges))];
	case 1:
		return gen_below(r, 256);
	case 2:
		return 1ull << gen_below(r, 64);
	default:
		return gen_next(r);
	}
}

/* Dwords that make zeros, infinities, NaNs, denormals and ones in single and double precision. */
static uint32_t
random_dword(struct gen_rng *r)
{
	static const uint32_t edges[] = {
	    0,		0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00001,
	    0x00000001, 0x007fffff, 0x7f7fffff, 0x3ff00000, 0x7ff00000, 0x7ff80000, 0x7ff40000, 0x000fffff,
	    0x7fefffff, 0x43e00000, 0x41e00000, 0x4f000000, 0xffffffff, 0x80008000, 0x7fff7fff};

	return chance(r, 40) ? edges[gen_below(r, ARRAY_LEN(edges))] : (uint32_t)gen_next(r);
}

static void
random_x87(struct gen_rng *r, uint8_t *fx)
{
	static const uint16_t exponents[] = {0, 1, 0x3fff, 0x4000, 0x7ffe, 0x7fff, 0x403e, 0x3fbe};
	uint16_t cw = 0x37f, sw = (uint16_t)gen_next(r) & 0x7f7f;

	memset(fx, 0, 160);
	if (chance(r, 50))
		cw = (uint16_t)(0x40 | (gen_next(r) & 0xf00) | (chance(r, 70) ? 0x3f : gen_next(r) & 0x3f));
	if (chance(r, 85))
		sw &= (uint16_t)(~0x3f | cw); /* else an unmasked exception is pending */
	if (sw & ~cw & 0x3f)
		sw |= 0x8080; /* ES and B follow from the rest */
	put_le16(fx, cw);
	put_le16(fx + 2, sw);
	fx[4] = (uint8_t)gen_next(r);
	for (unsigned i = 0; i < 8; i++) {
		uint8_t *st = fx + 32 + 16 * i;
		uint64_t mantissa = gen_next(r);

		if (chance(r, 30))
			mantissa = chance(r, 50) ? 1ull << 63 : 3ull << 62;
		else if (chance(r, 85))
			mantissa |= 1ull << 63;
		put_le64(st, mantissa);
		put_le16(st + 8, chance(r, 50) ? (uint16_t)(exponents[gen_below(r, ARRAY_LEN(exponents))] |
							    (gen_next(r) & 0x8000))
					       : (uint16_t)gen_next(r));
	}
}

static void
random_xstate(struct gen_rng *r, struct x86_xstate *x)
{
	memset(x, 0, sizeof(*x));
	for (unsigned i = 0; i < oracle_vector_count(); i++)
		for (unsigned j = 0; j < oracle_vector_bytes(); j += 4)
			put_le32(x->vec[i] + j, random_dword(r));
	if (oracle_vector_bytes() == 64)
		for (unsigned i = 0; i < 8; i++)
			x->k[i] = random_gpr(r);
	random_x87(r, x->fx);
	x->mxcsr = 0x1f80;
	if (chance(r, 50))
		x->mxcsr =
		    (uint32_t)gen_next(r) & 0xffff & oracle_mxcsr_mask() & (chance(r, 50) ? 0xffff : 0xe07f);
	if (chance(r, 70))
		x->mxcsr |= 0x1f80;
}

static void
random_state(struct gen_rng *r, bool compat, struct oracle_state *s)
{
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = compat ? (i < 8 ? (uint32_t)random_gpr(r) : 0) : random_gpr(r);
	s->compat = compat;
	s->rflags = FL_1 | FL_IF | (gen_next(r) & (FL_ARITH | FL_DF));
	random_xstate(r, &s->xs);
	if (compat) /* eight vector registers: the others must come through unchanged, which zero shows as
		       well */
		memset(s->xs.vec[8], 0, sizeof(s->xs.vec) - sizeof(s->xs.vec[0]) * 8);
	for (unsigned i = 0; i < ORACLE_DATA_SIZE; i += 8)
		put_le64(s->data + i, (uint64_t)random_dword(r) << 32 | random_dword(r));
	s->vector = ORACLE_NO_FAULT;
	s->error = 0;
	s->cr2 = 0;
}

/* Where an operand should lie, as an offset into the data. */
static uint64_t
random_target(struct gen_rng *r, unsigned size, bool aligned)
{
	unsigned kind = (unsigned)gen_below(r, 100);
	uint64_t at;

	if (aligned)
		return (0x200 + gen_below(r, 0x2800)) & ~63ull;
	if (kind < 55)
		return 0x200 + gen_below(r, 0x2800);
	if (kind < 80)
		return (0x200 + gen_below(r, 0x2c00)) & ~63ull;
	at = kind < 90 ? 0x1000 : kind < 95 ? ORACLE_DATA_RO : ORACLE_DATA_SIZE;
	return at - size + gen_below(r, 2 * size + 1); /* across the end of a page, or just not */
}

static uint64_t
gpr_value(const struct gen_case *c, ZydisRegister reg)
{
	uint64_t v = c->before.gpr[ZydisRegisterGetId(reg) & 15];

	if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR8) /* AL of XLAT */
		return v & 0xff;
	return ZydisRegisterGetWidth(c->info.machine_mode, reg) == 32 ? (uint32_t)v : v;
}

static void
gpr_set(struct gen_case *c, ZydisRegister reg, uint64_t v)
{
	uint64_t *slot = &c->before.gpr[ZydisRegisterGetId(reg) & 15];

	if (ZydisRegisterGetWidth(c->info.machine_mode, reg) == 32 && !c->before.compat)
		*slot = (*slot & ~0xffffffffull) | (uint32_t)v;
	else
		*slot = c->before.compat ? (uint32_t)v : v;
}

static bool
is_rip(ZydisRegister reg)
{
	return reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP;
}

static uint64_t
address_mask(const struct gen_case *c)
{
	return c->info.address_width == 32 || c->before.compat ? 0xffffffffull : ~0ull;
}

static uint64_t
operand_address(const struct gen_case *c, const ZydisDecodedOperandMem *m)
{
	uint64_t ea = (uint64_t)m->disp.value;

	if (is_rip(m->base))
		ea += c->before.rip + c->len;
	else if (m->base != ZYDIS_REGISTER_NONE)
		ea += gpr_value(c, m->base);
	if (m->index != ZYDIS_REGISTER_NONE && m->type != ZYDIS_MEMOP_TYPE_VSIB)
		ea += gpr_value(c, m->index) * (m->scale != 0 ? m->scale : 1);
	return ea & address_mask(c);
}

/* Change the displacement in the instruction's bytes; the decoded copies follow. */
static bool
patch_displacement(struct gen_case *c, ZydisDecodedOperandMem *m, int64_t disp)
{
	unsigned size = c->info.raw.disp.size, at = c->info.raw.disp.offset;

	if (size == 64)
		put_le64(c->insn + at, (uint64_t)disp);
	else if (size == 32 && disp == (int32_t)disp)
		put_le32(c->insn + at, (uint32_t)disp);
	else
		return false;
	m->disp.value = disp;
	return true;
}

/* Vector indices: small, so that every element lies in the pages that may be written. */
static bool
place_vsib(struct gen_rng *r, struct gen_case *c, const ZydisDecodedOperandMem *m)
{
	uint8_t *index = c->before.xs.vec[ZydisRegisterGetId(m->index) & 31];

	if (m->base == ZYDIS_REGISTER_NONE || is_rip(m->base))
		return false;
	for (unsigned i = 0; i < 64 && i < oracle_vector_bytes(); i += 8)
		put_le64(index + i, gen_below(r, 128));
	gpr_set(c, m->base, ORACLE_DATA + 0x800 + gen_below(r, 64) - (uint64_t)m->disp.value);
	return true;
}

static bool
place_operand(struct gen_rng *r, struct gen_case *c, ZydisDecodedOperand *op, bool aligned)
{
	ZydisDecodedOperandMem *m = &op->mem;
	uint64_t want = ORACLE_DATA + random_target(r, MAX(op->size / 8, 1), aligned);
	uint64_t scale = m->scale != 0 ? m->scale : 1, disp = (uint64_t)m->disp.value;

	if (m->type == ZYDIS_MEMOP_TYPE_VSIB)
		return place_vsib(r, c, m);
	if (is_rip(m->base))
		return patch_displacement(c, m, (int64_t)(want - c->before.rip - c->len));
	if (m->base == ZYDIS_REGISTER_NONE && m->index == ZYDIS_REGISTER_NONE)
		return patch_displacement(c, m, (int64_t)want);
	if (m->base == ZYDIS_REGISTER_NONE) {
		gpr_set(c, m->index, gen_below(r, 4096));
		return patch_displacement(c, m, (int64_t)(want - gpr_value(c, m->index) * scale));
	}
	if (m->base == m->index) {
		int64_t sum = (int64_t)(want - disp);

		gpr_set(c, m->base, (uint64_t)(sum / (int64_t)(1 + scale)));
		return true;
	}
	if (m->index != ZYDIS_REGISTER_NONE)
		disp += gpr_value(c, m->index) * scale;
	gpr_set(c, m->base, want - disp);
	return true;
}

static bool
touches_memory(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.type != ZYDIS_MEMOP_TYPE_AGEN;
}

/* A memory operand's bit offset in a register reaches far: keep it within some hundred bytes. */
static bool
limit_bit_offset(struct gen_rng *r, struct gen_case *c)
{
	const ZydisDecodedOperand *bit = &c->operands[1];

	if (c->info.meta.category != ZYDIS_CATEGORY_BITBYTE || !touches_memory(&c->operands[0]) ||
	    bit->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return true;
	gpr_set(c, ZydisRegisterGetLargestEnclosing(c->info.machine_mode, bit->reg.value),
		gen_below(r, 4096) - 2048);
	return true;
}

/* Every operand where it may be: within the data, or over its end into nothing. */
static bool
all_placed(const struct gen_case *c)
{
	for (unsigned i = 0; i < c->info.operand_count; i++) {
		const ZydisDecodedOperand *op = &c->operands[i];
		uint64_t ea;

		if (!touches_memory(op))
			continue;
		ea = operand_address(c, &op->mem);
		if (ea < ORACLE_DATA + 0x200 || ea + op->size / 8 > ORACLE_DATA + ORACLE_DATA_SIZE + 0x1000)
			return false;
	}
	return true;
}

/* Hand-made rules: what must hold for a case to mean the same on every processor. Patches registers and
 * bytes. */
static void
tame(struct gen_rng *r, struct gen_case *c)
{
	ZydisMnemonic m = c->info.mnemonic;

	if (m == ZYDIS_MNEMONIC_ENTER) {
		/* Small frames: levels read through RBP, and the new stack pointer is probed. */
		c->insn[c->info.raw.imm[0].offset + 1] &= 1;
		c->insn[c->info.raw.imm[1].offset] = (uint8_t)gen_below(r, 4);
		c->before.gpr[X86_RSP] = ORACLE_DATA + 0x1000 + gen_below(r, 0x1000);
		c->before.gpr[X86_RBP] = ORACLE_DATA + 0x1000 + gen_below(r, 0x1000);
	}
	if ((m == ZYDIS_MNEMONIC_SHLD || m == ZYDIS_MNEMONIC_SHRD) && c->info.operand_width == 16) {
		/* Counts above the operand's width are undefined. */
		c->before.gpr[X86_RCX] &= ~0x10ull;
		if (c->info.raw.imm[0].size == 8)
			c->insn[c->info.raw.imm[0].offset] &= ~0x10;
	}
}

/* Vendors push a selector with 16 or with 32 bits in 32-bit code: over zeroes both look the same. */
static bool
clear_pushed_selector(struct gen_case *c)
{
	const ZydisDecodedOperand *op = &c->operands[0];
	uint64_t off = c->before.gpr[X86_RSP] - ORACLE_DATA - 4;

	if (c->info.meta.category != ZYDIS_CATEGORY_PUSH || op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    ZydisRegisterGetClass(op->reg.value) != ZYDIS_REGCLASS_SEGMENT || !c->before.compat)
		return true;
	if (!range_fits(off, 4, ORACLE_DATA_SIZE))
		return false;
	put_le32(c->before.data + off, 0);
	return true;
}

/* What wide vector accesses do about EFLAGS.AC is each processor's own affair. */
static bool
alignment_check_defined(const ZydisDecodedInstruction *in)
{
	return in->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       (in->meta.isa_ext == ZYDIS_ISA_EXT_BASE || in->meta.isa_ext == ZYDIS_ISA_EXT_LONGMODE ||
		in->meta.isa_ext == ZYDIS_ISA_EXT_X87 || in->meta.isa_ext == ZYDIS_ISA_EXT_MMX);
}

/* Indirect branches go to the code area, so that every processor takes them. */
static bool
place_branch(struct gen_rng *r, struct gen_case *c)
{
	uint64_t target = ORACLE_CODE + gen_below(r, ORACLE_CODE_SIZE);

	if (!is_branch(&c->info))
		return true;
	for (unsigned i = 0; i < c->info.operand_count; i++) {
		const ZydisDecodedOperand *op = &c->operands[i];
		bool indirect = op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
				c->info.meta.category == ZYDIS_CATEGORY_RET;

		if (!indirect || !(op->actions & ZYDIS_OPERAND_ACTION_MASK_READ))
			continue;
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			gpr_set(c, ZydisRegisterGetLargestEnclosing(c->info.machine_mode, op->reg.value),
				target);
		} else if (touches_memory(op)) {
			uint64_t off = operand_address(c, &op->mem) - ORACLE_DATA;

			if (!range_fits(off, 8, ORACLE_DATA_SIZE))
				return false;
			put_le64(c->before.data + off, target);
		}
	}
	return true;
}

/* Zydis 4.0 takes R13 for the base of a 32-bit address whose SIB byte says none, when REX.B is set
 * (SDM vol. 2A table 2-3: "no base" does not depend on REX.B). */
static void
repair_base(struct gen_case *c)
{
	const ZydisDecodedInstruction *in = &c->info;

	if (!(in->attributes & ZYDIS_ATTRIB_HAS_SIB) || in->raw.modrm.mod != 0 || in->raw.sib.base != 5)
		return;
	for (unsigned i = 0; i < in->operand_count; i++) {
		ZydisDecodedOperandMem *m = &c->operands[i].mem;

		if (c->operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY || m->base != ZYDIS_REGISTER_R13D)
			continue;
		m->base = ZYDIS_REGISTER_NONE;
		m->disp.has_displacement = true;
		m->disp.value = in->raw.disp.value;
	}
}

static bool
decode(struct gen_case *c)
{
	ZydisDecoder d;

	if (c->before.compat)
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->insn, sizeof(c->insn), &c->info, c->operands)))
		return false;
	c->len = c->info.length;
	repair_base(c);
	return true;
}

/* Locked accesses lie within a cache line: hosts slow down or trap split ones. */
static bool
wants_alignment(const ZydisDecodedInstruction *in)
{
	/* With no byte selected, whether MASKMOVQ may fault is the implementation's affair. */
	if (in->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || in->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
	    in->mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU)
		return true;
	return (in->attributes & ZYDIS_ATTRIB_HAS_LOCK) || in->mnemonic == ZYDIS_MNEMONIC_XCHG;
}

static bool
try_case(struct gen_rng *r, struct gen_case *c)
{
	bool aligned = wants_alignment(&c->info);

	random_state(r, c->before.compat, &c->before);
	c->before.rip = ORACLE_CODE + gen_below(r, ORACLE_CODE_SIZE - 15);
	if (chance(r, 15)) /* over the end of a page, or up to it */
		c->before.rip = ORACLE_CODE + 0x1000 - gen_below(r, c->len + 1);
	if (alignment_check_defined(&c->info) && chance(r, 10))
		c->before.rflags |= FL_AC;
	tame(r, c);
	if (!limit_bit_offset(r, c))
		return false;
	for (unsigned i = 0; i < c->info.operand_count; i++)
		if (touches_memory(&c->operands[i]) && !place_operand(r, c, &c->operands[i], aligned))
			return false;
	if (!all_placed(c) || !place_branch(r, c) || !clear_pushed_selector(c))
		return false;
	/* What was patched must still say the same, and nothing may have moved an operand since. */
	return decode(c) && insn_ok(c) && all_placed(c);
}

void
gen_random_insn(struct gen_rng *r, bool compat, struct gen_case *c)
{
	/* Fixed before the first try: encodings that seldom decode shall not be seldom. */
	unsigned kind = (unsigned)gen_below(r, 100);

	c->before.compat = compat;
	for (;;) {
		random_bytes(r, compat, kind, c->insn);
		if (!decode(c) || !insn_ok(c))
			continue;
		memset(c->insn + c->len, 0x90, sizeof(c->insn) - c->len);
		for (unsigned i = 0; i < 4; i++)
			if (try_case(r, c))
				return;
	}
}

/* The count of a shift or rotate, masked as the processor masks it. */
static unsigned
shift_count(const struct gen_case *c)
{
	unsigned mask = c->info.operand_width == 64 ? 63 : 31, last = 0;

	for (unsigned i = 0; i < c->info.operand_count_visible; i++)
		last = i;
	if (c->operands[last].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return (unsigned)c->operands[last].imm.value.u & mask;
	return (unsigned)c->before.gpr[X86_RCX] & mask;
}

uint64_t
gen_undefined_flags(const struct gen_case *c)
{
	const ZydisDecodedInstruction *in = &c->info;
	uint64_t mask = in->cpu_flags != NULL ? in->cpu_flags->undefined : 0;
	bool legacy = in->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;

	if (legacy &&
	    (in->meta.category == ZYDIS_CATEGORY_SHIFT || in->meta.category == ZYDIS_CATEGORY_ROTATE)) {
		unsigned count = shift_count(c);

		if (count == 0)
			return 0;
		if (count != 1)
			mask |= FL_OF;
		/* CF of SHL and SHR is undefined once the count passes the operand's width. */
		if (in->meta.category == ZYDIS_CATEGORY_SHIFT && count > in->operand_width)
			mask |= FL_CF;
	}
	return mask & FL_ARITH;
}

const char *
gen_category(const struct gen_case *c)
{
	return ZydisCategoryGetString(c->info.meta.category);
}

void
gen_describe(const struct gen_case *c, char *text, size_t size)
{
	ZydisFormatter f;
	size_t n = 0;

	for (unsigned i = 0; i < c->len && n + 3 < size; i++)
		n += (size_t)snprintf(text + n, size - n, "%02x ", c->insn[i]);
	n += (size_t)snprintf(text + n, size - n, c->before.compat ? "[32] " : "[64] ");
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	if (n < size)
		ZydisFormatterFormatInstruction(&f, &c->info, c->operands, c->info.operand_count_visible,
						text + n, size - n, c->before.rip, NULL);
}
