/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Most instructions become themselves: the same opcode on the host, its registers
 * renamed (jit_host[]), its memory operand replaced by [R10 + R11] after the TLB check.
 * Guest registers that have no host register pass through a scratch register.
 *
 * EFLAGS are the guest's all the time, so nothing around the instruction may touch them.
 */
#include <cpuid.h>
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"
#include "engine/soft/stub.h"

/* How the operands of one instruction are placed. */
struct place {
	const ZydisDecodedOperand *mem;
	unsigned reg, rm, vvvv; /* numbers for the fields, EM_NONE: as it was */
	bool byte_rex;		/* a byte register that needs a REX prefix to be named */
	bool high;		/* AH..BH: no REX prefix may be there */
	bool rcx_in, rcx_out;	/* guest RCX is copied to host RCX, and back */
	bool vex_vvvv;
	unsigned temps;			 /* scratch registers in use, a bit each */
	unsigned nload, nstore;		 /* of guest registers without a host register */
	uint8_t load[3][2], store[3][2]; /* {host, guest} */
};

void
jit_reg_load(struct jx *x, unsigned host, unsigned guest, unsigned w)
{
	if (jit_host[guest] != EM_NONE)
		em_mov(&x->e, w, host, jit_host[guest]);
	else
		em_gs(&x->e, w, 0x8b, host, GPR_OFF(guest));
}

struct ool *
jit_ool(struct jx *x, enum ool_kind kind, uint8_t *from)
{
	struct ool *o = &x->ool[x->nool];
	LH_ASSERT(x->nool < JIT_OOL_MAX);
	x->nool++;
	*o = (struct ool){.kind = kind, .from = from, .off = x->off};
	return o;
}

/* ---- memory ---- */

/* The host register that holds guest register r for an address; loads it into `scratch` when it has none. */
static unsigned
address_reg(struct jx *x, ZydisRegister r, unsigned scratch)
{
	unsigned g = soft_reg_offset(r) / 8;
	if (r == ZYDIS_REGISTER_NONE || g >= 16)
		return EM_NONE;
	if (jit_host[g] != EM_NONE)
		return jit_host[g];
	em_gs_load(&x->e, scratch, GPR_OFF(g));
	return scratch;
}

/* Effective address of m, without segment, to host register dst; R10 and R11 are used. False: not done here.
 */
bool
jit_emit_offset(struct jx *x, const ZydisDecodedOperand *m, unsigned dst, unsigned w)
{
	int64_t disp = m->mem.disp.value;
	ZydisRegister base = m->mem.base;
	unsigned scale = m->mem.scale ? (unsigned)__builtin_ctz(m->mem.scale) : 0;
	if (base == ZYDIS_REGISTER_RIP) {
		disp += x->off + x->z.length;
		if (disp != (int32_t)disp)
			return false;
		em_gs_load(&x->e, dst, CPU_OFF(jit_pagebase));
		em_lea(&x->e, w, dst, dst, EM_NONE, 0, (int32_t)disp);
		return true;
	}
	if (base == ZYDIS_REGISTER_EIP)
		return false;
	/* Zydis 4.0 takes REX.B for a base register where ModRM and SIB say disp32 alone */
	if (x->z.raw.sib.offset != 0 && x->z.raw.modrm.mod == 0 && x->z.raw.sib.base == 5) {
		base = ZYDIS_REGISTER_NONE;
		disp = x->z.raw.disp.value;
	}
	unsigned b = address_reg(x, base, H_R10), i = address_reg(x, m->mem.index, H_R11);
	if (b == EM_NONE && i == EM_NONE) {
		em_mov_imm64(&x->e, dst, w ? (uint64_t)disp : (uint32_t)disp);
		return true;
	}
	if (disp != (int32_t)disp && w)
		return false;
	if (i == EM_NONE && disp == 0) {
		if (b != dst || !w)
			em_mov(&x->e, w, dst, b);
		return true;
	}
	em_lea(&x->e, w, dst, b, i, scale, (int32_t)disp);
	return true;
}

bool
jit_emit_ea(struct jx *x, const ZydisDecodedOperand *m, unsigned dst)
{
	unsigned seg = soft_seg_number(m->mem.segment);
	if (x->z.address_width == 16 ||
	    (!x->is64 && (x->z.address_width != 32 || seg >= X86_FS || seg == X86_CS)))
		return false;
	if (!jit_emit_offset(x, m, dst, x->z.address_width == 64))
		return false;
	if (x->is64 && seg >= X86_FS) {
		em_gs_load(&x->e, H_RCX, CPU_OFF(seg_base) + 8 * seg);
		em_lea(&x->e, 1, dst, dst, H_RCX, 0, 0);
	}
	return true;
}

/*
 * R10 holds a linear address. Afterwards [R10 + R11] is host memory that may be read or written; else the
 * slow path made it so, or left to the interpreter. Uses RCX.
 */
void
jit_emit_tlb(struct jx *x, unsigned size, bool write)
{
	struct emit *e = &x->e;
	size_t t = CPU_OFF(tlb) + x->mmu * sizeof(struct soft_tlb);
	em_pext_gs(e, H_R11, H_R10, CPU_OFF(jit_tlb_mask));
	em_gsx_load(e, H_RCX, H_R11, 3,
		    t + (write ? offsetof(struct soft_tlb, nw) : offsetof(struct soft_tlb, nr)));
	em_lea(e, 1, H_RCX, H_RCX, H_R10, 0, (int32_t)size - 1);
	em_pext_gs(e, H_RCX, H_RCX, CPU_OFF(jit_page_mask));
	struct ool *o = jit_ool(x, OOL_SLOW, em_unless_rcx_zero_jmp(e, e->p));
	em_gsx_load(e, H_R11, H_R11, 3, t + offsetof(struct soft_tlb, add));
	o->back = e->p;
	o->what = size | (write ? SLOW_WRITE : 0) | x->off << SLOW_OFF_SHIFT;
}

/* ---- placing registers ---- */
static unsigned
take_temp(struct place *p)
{
	static const uint8_t order[] = {H_R11, H_RCX, H_R10};
	for (unsigned n = 0; n < sizeof(order); n++) {
		if (!(p->temps & 1u << order[n])) {
			p->temps |= 1u << order[n];
			return order[n];
		}
	}
	return EM_NONE;
}

/* Host register for guest register g in an operand of `size` bytes. EM_NONE: out of scratch registers. */
static unsigned
place_gpr(struct place *p, unsigned g, const ZydisDecodedOperand *op)
{
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	unsigned h = jit_host[g];
	if (h != EM_NONE)
		return h;
	for (unsigned n = 0; n < p->nload; n++) { /* named twice: one scratch register for both */
		if (p->load[n][1] == g)
			h = p->load[n][0];
	}
	if (h == EM_NONE) {
		h = take_temp(p);
		if (h == EM_NONE || p->nload == 3)
			return EM_NONE;
		p->load[p->nload][0] = (uint8_t)h;
		p->load[p->nload++][1] = (uint8_t)g;
	}
	if (write) {
		for (unsigned n = 0; n < p->nstore; n++) {
			if (p->store[n][1] == g)
				return h;
		}
		p->store[p->nstore][0] = (uint8_t)h;
		p->store[p->nstore++][1] = (uint8_t)g;
	}
	return h;
}

/* A register that the encoding does not name. */
static bool
place_implicit(struct place *p, const ZydisDecodedOperand *op)
{
	unsigned g = soft_reg_offset(op->reg.value) / 8;
	if (g >= 16)
		return true; /* flags, MXCSR, XMM0 */
	if (g == X86_RCX) {
		p->rcx_in = true;
		p->rcx_out |= (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
		p->temps |= 1u << H_RCX;
		return true;
	}
	return jit_host[g] == g;
}

static bool
is_high(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

/* Guest RCX in host RCX for an instruction that names CH, or CL beside another high byte. */
static void
place_identity_rcx(struct place *p, const ZydisDecodedOperand *op)
{
	p->rcx_in = true;
	p->rcx_out |= (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
	p->temps |= 1u << H_RCX;
}

static bool
place_explicit(struct place *p, const ZydisDecodedOperand *op)
{
	unsigned off = soft_reg_offset(op->reg.value), g = off / 8, h;
	if (g >= 16)
		return true; /* a vector register: its number stays */
	if (p->high) {
		if (g == X86_RCX)
			place_identity_rcx(p, op);
		else if (jit_host[g] != g)
			return false;
		h = g + (is_high(op->reg.value) ? 4 : 0);
	} else {
		h = place_gpr(p, g, op);
	}
	if (h == EM_NONE)
		return false;
	if (op->size == 8 && h >= 4 && !p->high)
		p->byte_rex = true;
	switch (op->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		p->reg = h;
		return true;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		p->rm = h;
		return true;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		p->vvvv = h;
		return true;
	case ZYDIS_OPERAND_ENCODING_NONE: /* the accumulator, or CL */
		return h == g || (g == X86_RCX && place_implicit(p, op));
	default:
		return false;
	}
}

static bool
place_all(struct jx *x, struct place *p)
{
	const ZydisDecodedInstruction *z = &x->z;
	*p = (struct place){.reg = EM_NONE, .rm = EM_NONE, .vvvv = EM_NONE};
	for (unsigned n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && is_high(op->reg.value))
			p->high = true;
		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type != ZYDIS_MEMOP_TYPE_MEM)
			continue;
		if (p->mem != NULL || op->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			return false;
		p->mem = op;
	}
	if (p->mem != NULL)
		p->temps = 1u << H_R10;
	for (unsigned n = 0; n < z->operand_count; n++) { /* what needs RCX itself first */
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT && !place_implicit(p, op))
			return false;
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->encoding == ZYDIS_OPERAND_ENCODING_NONE &&
		    soft_reg_offset(op->reg.value) / 8 == X86_RCX)
			place_implicit(p, op);
	}
	for (unsigned n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
		    op->encoding != ZYDIS_OPERAND_ENCODING_IS4 && !place_explicit(p, op))
			return false;
	}
	return !(p->high && p->mem != NULL && (p->temps & 1u << H_RCX));
}

/* ---- writing the instruction ---- */

/* The operand in memory: [R10 + R11], [R10] or, where no REX prefix may be, [RCX]. */
enum mem_form { MEM_SUM, MEM_R10, MEM_RCX };

struct enc {
	unsigned opcode, map; /* map: 0 one byte, 1 0F, 2 0F38, 3 0F3A */
	unsigned reg, rm;
	bool has_modrm, mem;
	enum mem_form form;
	const uint8_t *tail;
	unsigned tail_len;
};

static void
put_modrm(struct emit *e, const struct enc *c)
{
	if (!c->mem) {
		em_8(e, 0xc0 | (c->reg & 7) << 3 | (c->rm & 7));
	} else if (c->form == MEM_SUM) {
		em_8(e, (c->reg & 7) << 3 | 4);
		em_8(e, (H_R11 & 7) << 3 | (H_R10 & 7));
	} else {
		em_8(e, (c->reg & 7) << 3 | (c->form == MEM_R10 ? H_R10 & 7 : H_RCX));
	}
}

/* The bits beside ModRM: base and index of the memory operand, or rm's fourth bit. */
static unsigned
enc_base(const struct enc *c)
{
	if (!c->mem)
		return c->rm;
	return c->form == MEM_RCX ? H_RCX : H_R10;
}

static unsigned
enc_index(const struct enc *c)
{
	return c->mem && c->form == MEM_SUM ? H_R11 : 0;
}

static void
put_opcode(struct emit *e, const struct enc *c)
{
	if (c->map > 0)
		em_8(e, 0x0f);
	if (c->map == 2)
		em_8(e, 0x38);
	if (c->map == 3)
		em_8(e, 0x3a);
	em_8(e, c->opcode);
}

static void
put_legacy(struct jx *x, const struct place *p, const struct enc *c)
{
	const ZydisDecodedInstructionRaw *raw = &x->z.raw;
	struct emit *e = &x->e;
	bool w = x->is64 && raw->rex.W;
	if (x->z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		em_8(e, 0xf0);
	for (unsigned n = 0; n < raw->prefix_count; n++) {
		unsigned v = raw->prefixes[n].value;
		if (v == 0x66 ||
		    ((v == 0xf2 || v == 0xf3) && raw->prefixes[n].type == ZYDIS_PREFIX_TYPE_MANDATORY))
			em_8(e, v);
	}
	if (!p->high) {
		unsigned rex = 0x40 | w << 3 | (c->has_modrm ? (c->reg >> 3 & 1) << 2 : 0) |
			       (enc_index(c) >> 3 & 1) << 1 | (enc_base(c) >> 3 & 1);
		if (rex != 0x40 || p->byte_rex)
			em_8(e, rex);
	}
	put_opcode(e, c);
	if (c->has_modrm)
		put_modrm(e, c);
}

static void
put_vex(struct jx *x, const struct place *p, const struct enc *c)
{
	const ZydisDecodedInstructionRaw *raw = &x->z.raw;
	unsigned vvvv = p->vvvv;
	if (vvvv == EM_NONE) {
		vvvv = 0;
		for (unsigned n = 0; n < x->z.operand_count; n++) {
			const ZydisDecodedOperand *op = &x->op[n];
			if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			    op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
				vvvv = (unsigned)ZydisRegisterGetId(op->reg.value) & 15u;
		}
	}
	em_vex3(&x->e, c->reg, enc_index(c), enc_base(c), c->map, raw->vex.W, vvvv, raw->vex.L, raw->vex.pp);
	em_8(&x->e, c->opcode);
	if (c->has_modrm) /* VZEROUPPER has none */
		put_modrm(&x->e, c);
}

/* Opcodes that name a register in their low bits, or an absolute address: the form with ModRM instead. */
static void
modern_opcode(struct jx *x, const struct place *p, struct enc *c)
{
	unsigned op = x->z.opcode;
	if (x->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && op == 0x82) /* 80's alias, not in 64-bit mode */
		c->opcode = 0x80;
	if (x->z.raw.modrm.offset != 0 || x->z.opcode_map == ZYDIS_OPCODE_MAP_0F) {
		if (x->z.opcode_map == ZYDIS_OPCODE_MAP_0F && op >= 0xc8 && op <= 0xcf) /* BSWAP */
			c->opcode = 0xc8 | (p->rm & 7);
		return;
	}
	if (op >= 0xb0 && op <= 0xbf) { /* MOV r, imm */
		c->opcode = (op & 0xf8) | (p->rm & 7);
	} else if (op >= 0x91 && op <= 0x97) { /* XCHG rAX, r */
		c->opcode = 0x87;
		c->reg = H_RAX;
		c->has_modrm = true;
	} else if (!x->is64 && op >= 0x40 && op <= 0x4f) { /* INC, DEC r */
		c->opcode = 0xff;
		c->reg = op >> 3 & 1;
		c->has_modrm = true;
	} else if (op >= 0xa0 && op <= 0xa3) { /* MOV rAX, moffs */
		static const uint8_t with_modrm[] = {0x8a, 0x8b, 0x88, 0x89};
		c->opcode = with_modrm[op & 3];
		c->reg = H_RAX;
		c->has_modrm = true;
		c->tail_len = 0;
	}
}

static void
make_enc(struct jx *x, const struct place *p, struct enc *c)
{
	const ZydisDecodedInstruction *z = &x->z;
	const ZydisDecodedInstructionRaw *raw = &z->raw;
	static const uint8_t maps[] = {
	    [ZYDIS_OPCODE_MAP_0F] = 1, [ZYDIS_OPCODE_MAP_0F38] = 2, [ZYDIS_OPCODE_MAP_0F3A] = 3};
	unsigned tail;
	c->opcode = z->opcode;
	c->map = z->opcode_map < ARRAY_LEN(maps) ? maps[z->opcode_map] : 0;
	c->has_modrm = raw->modrm.offset != 0;
	c->mem = p->mem != NULL;
	c->reg = raw->modrm.reg; /* an opcode's extension */
	c->rm = raw->modrm.rm;
	for (unsigned n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || soft_reg_offset(op->reg.value) / 8 < 16)
			continue;
		if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			c->reg = (unsigned)ZydisRegisterGetId(op->reg.value);
		else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			c->rm = (unsigned)ZydisRegisterGetId(op->reg.value);
	}
	if (p->reg != EM_NONE)
		c->reg = p->reg;
	if (p->rm != EM_NONE)
		c->rm = p->rm;
	else if (!c->has_modrm)
		c->rm = 0;
	if (c->has_modrm)
		tail = raw->modrm.offset + 1u + (raw->sib.offset != 0) + raw->disp.size / 8;
	else
		tail = raw->imm[0].size != 0 ? raw->imm[0].offset : z->length;
	c->tail = x->bytes + tail;
	c->tail_len = z->length - tail;
	modern_opcode(x, p, c);
}

/* ---- which instructions ---- */

#define M(x) [ZYDIS_MNEMONIC_##x] = 1
/* Integer instructions that are themselves on the host. 2: they may trap. */
static const uint8_t plain[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    M(ADD),
    M(OR),
    M(ADC),
    M(SBB),
    M(AND),
    M(SUB),
    M(XOR),
    M(CMP),
    M(TEST),
    M(INC),
    M(DEC),
    M(NOT),
    M(NEG),
    M(ROL),
    M(ROR),
    M(RCL),
    M(RCR),
    M(SHL),
    M(SHR),
    M(SAR),
    M(BT),
    M(BTS),
    M(BTR),
    M(BTC),
    M(MUL),
    M(IMUL),
    M(MOV),
    M(MOVZX),
    M(MOVSX),
    M(MOVSXD),
    M(XCHG),
    M(XADD),
    M(CMPXCHG),
    M(BSWAP),
    M(CBW),
    M(CWDE),
    M(CDQE),
    M(CWD),
    M(CDQ),
    M(CQO),
    M(LAHF),
    M(SAHF),
    M(CLC),
    M(STC),
    M(CMC),
    M(SETO),
    M(SETNO),
    M(SETB),
    M(SETNB),
    M(SETZ),
    M(SETNZ),
    M(SETBE),
    M(SETNBE),
    M(SETS),
    M(SETNS),
    M(SETP),
    M(SETNP),
    M(SETL),
    M(SETNL),
    M(SETLE),
    M(SETNLE),
    M(CMOVO),
    M(CMOVNO),
    M(CMOVB),
    M(CMOVNB),
    M(CMOVZ),
    M(CMOVNZ),
    M(CMOVBE),
    M(CMOVNBE),
    M(CMOVS),
    M(CMOVNS),
    M(CMOVP),
    M(CMOVNP),
    M(CMOVL),
    M(CMOVNL),
    M(CMOVLE),
    M(CMOVNLE),
    M(SHLD),
    M(SHRD),
    M(BSF),
    M(BSR),
    M(MFENCE),
    M(LFENCE),
    M(SFENCE),
    M(CMPXCHG8B),
    M(MOVNTI),
    [ZYDIS_MNEMONIC_DIV] = 2,
    [ZYDIS_MNEMONIC_IDIV] = 2,
    [ZYDIS_MNEMONIC_CMPXCHG16B] = 2,
};

enum { NEED_NOTHING, NEED_SSE, NEED_AVX, NEED_X87, NEED_X87_SSE };
/* Instruction sets whose instructions are themselves on a host that has them, and what they need of the
 * guest. */
static const struct isa {
	ZydisISASet set;
	uint8_t host; /* index in host_has[] */
	uint8_t unit; /* NEED_* */
} isas[] = {
    {ZYDIS_ISA_SET_SSE, 0, 1},	       {ZYDIS_ISA_SET_SSE2, 0, 1},	 {ZYDIS_ISA_SET_SSE3, 1, 1},
    {ZYDIS_ISA_SET_SSSE3, 2, 1},       {ZYDIS_ISA_SET_SSE4, 3, 1},	 {ZYDIS_ISA_SET_SSE42, 4, 1},
    {ZYDIS_ISA_SET_AES, 5, 1},	       {ZYDIS_ISA_SET_PCLMULQDQ, 6, 1},	 {ZYDIS_ISA_SET_SHA, 7, 1},
    {ZYDIS_ISA_SET_AVX, 8, 2},	       {ZYDIS_ISA_SET_AVX2, 9, 2},	 {ZYDIS_ISA_SET_FMA, 10, 2},
    {ZYDIS_ISA_SET_F16C, 11, 2},       {ZYDIS_ISA_SET_AVXAES, 8, 2},	 {ZYDIS_ISA_SET_VAES, 12, 2},
    {ZYDIS_ISA_SET_VPCLMULQDQ, 13, 2}, {ZYDIS_ISA_SET_BMI1, 14, 0},	 {ZYDIS_ISA_SET_BMI2, 15, 0},
    {ZYDIS_ISA_SET_ADOX_ADCX, 16, 0},  {ZYDIS_ISA_SET_LZCNT, 17, 0},	 {ZYDIS_ISA_SET_POPCNT, 18, 0},
    {ZYDIS_ISA_SET_MOVBE, 19, 0},      {ZYDIS_ISA_SET_X87, 0, 3},	 {ZYDIS_ISA_SET_FCMOV, 0, 3},
    {ZYDIS_ISA_SET_SSE3X87, 1, 3},     {ZYDIS_ISA_SET_PENTIUMMMX, 0, 3}, {ZYDIS_ISA_SET_SSSE3MMX, 2, 3},
    {ZYDIS_ISA_SET_SSE2MMX, 0, 4},
};

static bool
cpuid_bit(unsigned leaf, unsigned reg, unsigned bit)
{
	unsigned r[4];
	return __get_cpuid_count(leaf, 0, &r[0], &r[1], &r[2], &r[3]) && (r[reg] >> bit & 1);
}

static bool
host_has(unsigned n)
{
	switch (n) {
	case 0:
		return true;
	case 1:
		return __builtin_cpu_supports("sse3");
	case 2:
		return __builtin_cpu_supports("ssse3");
	case 3:
		return __builtin_cpu_supports("sse4.1");
	case 4:
		return __builtin_cpu_supports("sse4.2");
	case 5:
		return __builtin_cpu_supports("aes");
	case 6:
		return __builtin_cpu_supports("pclmul");
	case 7:
		return cpuid_bit(7, 1, 29);
	case 8:
		return __builtin_cpu_supports("avx");
	case 9:
		return __builtin_cpu_supports("avx2");
	case 10:
		return __builtin_cpu_supports("fma");
	case 11:
		return cpuid_bit(1, 2, 29);
	case 12:
		return __builtin_cpu_supports("vaes");
	case 13:
		return __builtin_cpu_supports("vpclmulqdq");
	case 14:
		return __builtin_cpu_supports("bmi");
	case 15:
		return __builtin_cpu_supports("bmi2");
	case 16:
		return cpuid_bit(7, 1, 19);
	case 17:
		return cpuid_bit(0x80000001, 2, 5);
	case 18:
		return __builtin_cpu_supports("popcnt");
	case 19:
		return cpuid_bit(1, 2, 22);
	default:
		return false;
	}
}

static bool
names_mmx(const struct jx *x)
{
	for (unsigned n = 0; n < x->z.operand_count; n++) {
		if (x->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    x->op[n].reg.value >= ZYDIS_REGISTER_MM0 && x->op[n].reg.value <= ZYDIS_REGISTER_MM7)
			return true;
	}
	return false;
}

static bool
is_x87(const struct jx *x)
{
	ZydisISASet s = x->z.meta.isa_set;
	return s == ZYDIS_ISA_SET_X87 || s == ZYDIS_ISA_SET_FCMOV || s == ZYDIS_ISA_SET_SSE3X87 ||
	       x->z.mnemonic == ZYDIS_MNEMONIC_FISTTP;
}

static uint8_t isa_known[ZYDIS_ISA_SET_MAX_VALUE + 1]; /* 0 no; unit + 1 */

static void __attribute__((constructor)) init_isas(void)
{
	__builtin_cpu_init();
	for (unsigned n = 0; n < ARRAY_LEN(isas); n++)
		isa_known[isas[n].set] = host_has(isas[n].host) ? isas[n].unit + 1 : 0;
}

/* Do the units that the instruction needs exist, and are they enabled in this mode? */
static bool
units_on(const struct jx *x, unsigned need)
{
	static const uint32_t bits[] = {[NEED_SSE] = JMODE_SSE,
					[NEED_AVX] = JMODE_AVX,
					[NEED_X87] = JMODE_X87,
					[NEED_X87_SSE] = JMODE_X87 | JMODE_SSE};
	return (x->mode & bits[need]) == bits[need];
}

/* What touches x87 state only by the unit itself: not its environment, whose pointers are the host's there.
 */
static bool
x87_simple(const ZydisDecodedInstruction *z)
{
	unsigned k = soft_x87_kind(z);
	return z->mnemonic != ZYDIS_MNEMONIC_FNINIT && z->mnemonic != ZYDIS_MNEMONIC_FLDENV &&
	       z->mnemonic != ZYDIS_MNEMONIC_FRSTOR && z->mnemonic != ZYDIS_MNEMONIC_FNSAVE &&
	       (k == X87_COMPUTE || k == X87_CONTROL);
}

/* 0: not by the host's instruction; 1: yes; 2: yes, and it may trap. *fpu: x87 or MMX. */
static unsigned
kind_of(const struct jx *x, bool *fpu)
{
	const ZydisDecodedInstruction *z = &x->z;
	unsigned need;
	*fpu = false;
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return 0;
	if (plain[z->mnemonic])
		return plain[z->mnemonic];
	if (isa_known[z->meta.isa_set] == 0 || z->meta.category == ZYDIS_CATEGORY_STRINGOP)
		return 0;
	need = isa_known[z->meta.isa_set] - 1u;
	if (need == NEED_NOTHING)
		return x->is64 ? 1 : 0;
	if (z->mnemonic == ZYDIS_MNEMONIC_CRC32)
		return 1;
	if (z->mnemonic == ZYDIS_MNEMONIC_FISTTP) /* x87, whatever its set is called */
		need = NEED_X87;
	else if (need == NEED_SSE && names_mmx(x))
		need = NEED_X87_SSE;
	if (!units_on(x, need))
		return 0;
	*fpu = need >= NEED_X87;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_CLFLUSH:
		return 0;
	default:
		break;
	}
	if (is_x87(x))
		return x87_simple(z) ? 2 : 0;
	/* outside 64-bit mode fields mean less: left to the stubs */
	return x->is64 || z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? 2 : 0;
}

static bool
excluded(const struct jx *x, const struct place *p)
{
	const ZydisDecodedInstruction *z = &x->z;
	for (unsigned n = 0; n < z->operand_count; n++) {
		ZydisRegisterClass c;
		if (x->op[n].type == ZYDIS_OPERAND_TYPE_POINTER)
			return true;
		if (x->op[n].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		c = ZydisRegisterGetClass(x->op[n].reg.value);
		if (c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG)
			return true;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC: /* a register offset reaches beyond the operand */
		return p->mem != NULL && x->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		return z->operand_width == 16;
	default:
		return false;
	}
}

/* Before an instruction of the x87 unit: the guest's state is in it. No flags, no guest register changes. */
static void
fpu_ensure(struct jx *x)
{
	struct emit *e = &x->e;
	if (x->fpu_known)
		return;
	em_8(e, 0x65); /* movzx ecx, byte gs:[fpu_out] */
	em_8(e, 0x0f);
	em_8(e, 0xb6);
	em_8(e, 0x0c);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(fpu_out));
	em_8(e, 0xe3);
	em_8(e, 5);
	em_jmp(e, 0xe8, x->j->c.fpu_load);
	x->fpu_known = true;
}

/* After it: the guest's own opcode and pointers of the last instruction. R10 is its operand's address. */
static void
note_x87(struct jx *x, bool mem)
{
	struct emit *e = &x->e;
	if (soft_x87_kind(&x->z) != X87_COMPUTE)
		return;
	em_8(e, 0x66); /* mov word gs:[fximage + 6], opcode */
	em_8(e, 0x65);
	em_8(e, 0xc7);
	em_8(e, 0x04);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(fximage) + 6);
	em_8(e, x->bytes[x->z.raw.modrm.offset]);
	em_8(e, x->z.opcode & 7);
	em_gs_load(e, H_RCX, CPU_OFF(jit_pagebase));
	em_lea(e, x->is64, H_RCX, H_RCX, EM_NONE, 0, (int32_t)x->off);
	em_gs_store(e, H_RCX, CPU_OFF(fximage) + 8);
	if (mem)
		em_gs_store(e, H_R10, CPU_OFF(fximage) + 16);
}

bool
jit_generic(struct jx *x)
{
	bool fpu;
	unsigned kind = kind_of(x, &fpu);
	struct emit *e = &x->e;
	struct place p;
	struct enc c = {0};
	if (kind == 0 || !place_all(x, &p) || excluded(x, &p))
		return false;
	make_enc(x, &p, &c);
	if (fpu)
		fpu_ensure(x);
	if (p.mem != NULL) {
		unsigned size = p.mem->size / 8;
		uint8_t *before = e->p;
		if (size == 0 || size > 64 || !jit_emit_ea(x, p.mem, H_R10)) {
			e->p = before;
			return false;
		}
		jit_emit_tlb(x, size, p.mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
		if (p.high) {
			em_lea(e, 1, H_RCX, H_R10, H_R11, 0, 0);
			c.form = MEM_RCX;
		} else if (p.temps & 1u << H_R11) {
			em_lea(e, 1, H_R10, H_R10, H_R11, 0, 0);
			c.form = MEM_R10;
		}
	}
	for (unsigned n = 0; n < p.nload; n++)
		em_gs_load(e, p.load[n][0], GPR_OFF(p.load[n][1]));
	if (p.rcx_in)
		em_mov(e, 1, H_RCX, jit_host[X86_RCX]);
	if (kind == 2) {
		LH_ASSERT(x->nfault < JIT_FAULT_MAX);
		x->fault[x->nfault++] =
		    (struct jit_fault){.host = (uint32_t)(e->p - x->j->rw), .off = (uint16_t)x->off};
	}
	if (x->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		put_vex(x, &p, &c);
	else
		put_legacy(x, &p, &c);
	memcpy(e->p, c.tail, c.tail_len);
	e->p += c.tail_len;
	if (is_x87(x))
		note_x87(x, p.mem != NULL);
	for (unsigned n = 0; n < p.nstore; n++)
		em_gs_store(e, p.store[n][0], GPR_OFF(p.store[n][1]));
	if (p.rcx_out)
		em_mov(e, 1, jit_host[X86_RCX], H_RCX);
	return true;
}
