/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Most instructions become themselves: the same opcode on the host, its registers
 * renamed (jit_host[]), its memory operand replaced by host memory after the TLB check.
 * Guest registers that have no host register pass through a scratch register.
 */
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"
#include "engine/soft/stub.h"

/* How the operands of one instruction are placed. */
struct place {
	const ZydisDecodedOperand *mem;
	unsigned reg, rm, vvvv; /* numbers for the fields, EM_NONE: as it was */
	unsigned in_vcpu;	/* the guest register that the r/m field names in the vCPU, or EM_NONE */
	bool swap;		/* the reg and r/m fields change places */
	bool byte_rex;		/* a byte register that needs a REX prefix to be named */
	bool high;		/* AH..BH: no REX prefix may be there */
	bool rcx_in, rcx_out;	/* guest RCX is copied to host RCX, and back */
	bool rax_in, rax_out;	/* the same of RAX */
	bool no_group;		/* R11 is needed */
	unsigned temps;		/* scratch registers in use, a bit each */
	unsigned nload, nstore; /* of guest registers without a host register */
	struct {
		uint8_t host, guest;
		bool wanted; /* its old value */
	} load[3];
	uint8_t store[3][2]; /* {host, guest} */
};

/* ---- placing registers ---- */
/* copy: the one that is best, or EM_NONE */
static unsigned
take_temp(struct place *p, unsigned copy)
{
	static const uint8_t order[] = {H_RCX, H_R10, H_R11};
	if (copy != EM_NONE && !(p->temps & 1u << copy)) {
		p->temps |= 1u << copy;
		return copy;
	}
	for (unsigned n = 0; n < sizeof(order); n++) {
		if (!(p->temps & 1u << order[n])) {
			if (order[n] == H_R11)
				p->no_group = true;
			p->temps |= 1u << order[n];
			return order[n];
		}
	}
	return EM_NONE;
}

/* Host register for guest register g in an operand of `size` bytes. EM_NONE: out of scratch registers. */
static unsigned
place_gpr(const struct jx *x, struct place *p, unsigned g, const ZydisDecodedOperand *op)
{
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	bool keeps = x->z->mnemonic == ZYDIS_MNEMONIC_BSF || x->z->mnemonic == ZYDIS_MNEMONIC_BSR; /* of 0 */
	bool wanted = op->actions != ZYDIS_OPERAND_ACTION_WRITE || op->size < 32 || keeps;
	unsigned h = jit_host[g];
	if (h != EM_NONE)
		return h;
	for (unsigned n = 0; n < p->nload; n++) { /* named twice: one scratch register for both */
		if (p->load[n].guest == g) {
			h = p->load[n].host;
			p->load[n].wanted |= wanted;
		}
	}
	if (h == EM_NONE) {
		h = take_temp(p, jit_copy(x, g));
		if (h == EM_NONE || p->nload == 3)
			return EM_NONE;
		p->load[p->nload].host = (uint8_t)h;
		p->load[p->nload].guest = (uint8_t)g;
		p->load[p->nload++].wanted = wanted;
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

/* Guest register g in the host register of that name, for this instruction. False: it cannot be. */
static bool
place_identity(struct place *p, unsigned g, const ZydisDecodedOperand *op)
{
	bool out = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	switch (g) {
	case X86_RCX:
		p->rcx_in = true;
		p->rcx_out |= out;
		p->temps |= 1u << H_RCX;
		return true;
	case X86_RAX:
		p->rax_in = true;
		p->rax_out |= out;
		return true;
	default:
		return jit_host[g] == g;
	}
}

/* A register that the encoding does not name. */
static bool
place_implicit(struct place *p, const ZydisDecodedOperand *op)
{
	unsigned g = soft_reg_offset(op->reg.value) / 8;
	return g >= 16 /* flags, MXCSR, XMM0 */ || place_identity(p, g, op);
}

static bool
is_high(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

/* Short forms with the accumulator that have one with ModRM: which field names it there. */
enum acc_form { ACC_NONE, ACC_RM, ACC_REG };
static enum acc_form
accumulator_form(const ZydisDecodedInstruction *z)
{
	unsigned op = z->opcode;
	if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return ACC_NONE;
	if ((op < 0x40 && (op & 6) == 4) || op == 0xa8 || op == 0xa9) /* ADD..CMP, TEST rAX, imm */
		return ACC_RM;
	if ((op >= 0x90 && op <= 0x97) || (op >= 0xa0 && op <= 0xa3)) /* XCHG rAX, r; MOV with moffs */
		return ACC_REG;
	return ACC_NONE;
}

/* ---- operands that stay in the vCPU ---- */

/* May the r/m field name memory as well as a register, with the same meaning? */
static bool
rm_may_be_memory(const ZydisDecodedInstruction *z)
{
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_BINARY:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_ROTATE:
	case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_SETCC:
	case ZYDIS_CATEGORY_BMI1:
	case ZYDIS_CATEGORY_BMI2:
	case ZYDIS_CATEGORY_LZCNT:
		return true;
	case ZYDIS_CATEGORY_DATAXFER:
		return z->mnemonic == ZYDIS_MNEMONIC_MOV || z->mnemonic == ZYDIS_MNEMONIC_MOVZX ||
		       z->mnemonic == ZYDIS_MNEMONIC_MOVSX || z->mnemonic == ZYDIS_MNEMONIC_MOVSXD;
	default:
		return false;
	}
}

/* Guest register of an operand that has no host register, and may be used where it lies: a write of 32 bits
 * would leave the upper ones. Else EM_NONE. */
static unsigned
vcpu_gpr(const ZydisDecodedOperand *op)
{
	unsigned g = op->type == ZYDIS_OPERAND_TYPE_REGISTER ? soft_reg_offset(op->reg.value) / 8 : 16;
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	return g < 16 && jit_host[g] == EM_NONE && !(write && op->size == 32) ? g : EM_NONE;
}

/* ADD..CMP, MOV, TEST between two registers have a form either way round; TEST has one for both. */
static bool
has_swapped_form(const ZydisDecodedInstruction *z)
{
	unsigned op = z->opcode;
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
	       (op < 0x40 ? (op & 4) == 0 : (op & 0xfc) == 0x88 || (op & 0xfe) == 0x84) &&
	       z->raw.modrm.offset != 0;
}

/* Decide whether a guest register is used in the vCPU, as a memory operand of the host's instruction. */
static void
choose_vcpu_operand(const struct jx *x, struct place *p)
{
	const ZydisDecodedOperand *reg = NULL, *rm = NULL;
	if (p->mem != NULL || p->high || !rm_may_be_memory(x->z))
		return;
	for (unsigned n = 0; n < x->z->operand_count_visible; n++) {
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			reg = op;
		else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			rm = op;
	}
	if (rm == NULL)
		return;
	p->in_vcpu = vcpu_gpr(rm);
	if (p->in_vcpu == EM_NONE && reg != NULL && has_swapped_form(x->z)) {
		p->in_vcpu = vcpu_gpr(reg);
		p->swap = p->in_vcpu != EM_NONE;
	}
	if (p->in_vcpu != EM_NONE && jit_copy(x, p->in_vcpu) != EM_NONE) {
		p->in_vcpu = EM_NONE; /* what was stored just now is not ready to be loaded */
		p->swap = false;
	}
}

static bool
place_explicit(struct jx *x, struct place *p, const ZydisDecodedOperand *op)
{
	bool is_rm =
	    op->encoding == (p->swap ? ZYDIS_OPERAND_ENCODING_MODRM_REG : ZYDIS_OPERAND_ENCODING_MODRM_RM);
	unsigned g = soft_reg_offset(op->reg.value) / 8, h;
	enum acc_form acc = ACC_NONE;
	if (g >= 16 || (is_rm && p->in_vcpu != EM_NONE))
		return true;				   /* a vector register: its number stays */
	if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE) { /* the accumulator, or CL */
		acc = g == X86_RAX ? accumulator_form(x->z) : ACC_NONE;
		if (acc == ACC_NONE)
			return place_identity(p, g, op);
	}
	if (p->high) {
		if (!place_identity(p, g, op))
			return false;
		h = g + (is_high(op->reg.value) ? 4 : 0);
	} else if (g == X86_RAX && p->rax_in) { /* CMPXCHG rAX, r: the same register */
		h = H_RAX;
	} else {
		h = place_gpr(x, p, g, op);
	}
	if (h == EM_NONE)
		return false;
	if (op->size == 8 && h >= 4 && !p->high)
		p->byte_rex = true;
	switch (op->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		*(is_rm ? &p->rm : &p->reg) = h;
		return true;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		p->rm = h;
		return true;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		p->vvvv = h;
		return true;
	case ZYDIS_OPERAND_ENCODING_NONE:
		*(acc == ACC_RM ? &p->rm : &p->reg) = h;
		return true;
	default:
		return false;
	}
}

static bool
place_all(struct jx *x, struct place *p)
{
	const ZydisDecodedInstruction *z = x->z;
	*p = (struct place){.reg = EM_NONE, .rm = EM_NONE, .vvvv = EM_NONE, .in_vcpu = EM_NONE};
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
	choose_vcpu_operand(x, p);
	for (unsigned n = 0; n < z->operand_count; n++) { /* what needs RCX itself first */
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		if (op->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT && !place_implicit(p, op))
			return false;
		if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE &&
		    soft_reg_offset(op->reg.value) / 8 == X86_RCX)
			place_implicit(p, op);
	}
	for (unsigned n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *op = &x->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
		    op->encoding != ZYDIS_OPERAND_ENCODING_IS4 && !place_explicit(x, p, op))
			return false;
	}
	return !(p->high && p->mem != NULL && (p->temps & 1u << H_RCX));
}

/* ---- writing the instruction ---- */

struct enc {
	unsigned opcode, map; /* map: 0 one byte, 1 0F, 2 0F38, 3 0F3A */
	unsigned reg, rm;
	bool has_modrm, mem;
	struct em_at at; /* when mem */
	const uint8_t *tail;
	unsigned tail_len;
};

static void
put_modrm(struct emit *e, const struct enc *c)
{
	if (c->mem)
		em_modrm_at(e, c->reg, &c->at);
	else
		em_8(e, 0xc0 | (c->reg & 7) << 3 | (c->rm & 7));
}

/* The bits beside ModRM: base and index of the memory operand, or rm's fourth bit. */
static unsigned
enc_base(const struct enc *c)
{
	return !c->mem ? c->rm : c->at.base != EM_NONE ? c->at.base : 0;
}

static unsigned
enc_index(const struct enc *c)
{
	return c->mem && c->at.index != EM_NONE ? c->at.index : 0;
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
	const ZydisDecodedInstructionRaw *raw = &x->z->raw;
	struct emit *e = &x->e;
	bool w = x->is64 && raw->rex.W;
	if (x->z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		em_8(e, 0xf0);
	if (p->in_vcpu != EM_NONE)
		em_8(e, 0x65);
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
	const ZydisDecodedInstructionRaw *raw = &x->z->raw;
	unsigned vvvv = p->vvvv;
	if (vvvv == EM_NONE) {
		vvvv = 0;
		for (unsigned n = 0; n < x->z->operand_count; n++) {
			const ZydisDecodedOperand *op = &x->op[n];
			if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			    op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
				vvvv = (unsigned)ZydisRegisterGetId(op->reg.value) & 15u;
		}
	}
	if (p->in_vcpu != EM_NONE)
		em_8(&x->e, 0x65);
	em_vex3(&x->e, c->reg, enc_index(c), enc_base(c), c->map, raw->vex.W, vvvv, raw->vex.L, raw->vex.pp);
	em_8(&x->e, c->opcode);
	if (c->has_modrm) /* VZEROUPPER has none */
		put_modrm(&x->e, c);
}

/* Opcodes that name a register in their low bits or in none, or an absolute address: the form with ModRM. */
static void
modern_opcode(struct jx *x, const struct place *p, struct enc *c)
{
	unsigned op = x->z->opcode;
	if (p->swap && (op & 0xfe) != 0x84)
		c->opcode ^= 2;
	if (x->z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && op == 0x82) /* 80's alias, not in 64-bit mode */
		c->opcode = 0x80;
	if (x->z->raw.modrm.offset != 0 || x->z->opcode_map == ZYDIS_OPCODE_MAP_0F) {
		if (x->z->opcode_map == ZYDIS_OPCODE_MAP_0F && op >= 0xc8 && op <= 0xcf) /* BSWAP */
			c->opcode = 0xc8 | (p->rm & 7);
		return;
	}
	if (op >= 0xb0 && op <= 0xbf) { /* MOV r, imm */
		c->opcode = (op & 0xf8) | (p->rm & 7);
		return;
	}
	if (!x->is64 && op >= 0x40 && op <= 0x4f) { /* INC, DEC r */
		c->opcode = 0xff;
		c->reg = op >> 3 & 1;
		c->has_modrm = true;
		return;
	}
	if (accumulator_form(x->z) == ACC_NONE)
		return;
	c->has_modrm = true;
	if (op < 0x40) { /* ADD..CMP rAX, imm */
		c->opcode = 0x80 | (op & 1);
		c->reg = op >> 3;
	} else if (op == 0xa8 || op == 0xa9) { /* TEST rAX, imm */
		c->opcode = 0xf6 | (op & 1);
		c->reg = 0;
	} else if (op >= 0xa0) { /* MOV rAX, moffs */
		static const uint8_t with_modrm[] = {0x8a, 0x8b, 0x88, 0x89};
		c->opcode = with_modrm[op & 3];
		c->tail_len = 0;
	} else { /* XCHG rAX, r */
		c->opcode = 0x87;
	}
}

static void
make_enc(struct jx *x, const struct place *p, struct enc *c)
{
	const ZydisDecodedInstruction *z = x->z;
	const ZydisDecodedInstructionRaw *raw = &z->raw;
	static const uint8_t maps[] = {
	    [ZYDIS_OPCODE_MAP_0F] = 1, [ZYDIS_OPCODE_MAP_0F38] = 2, [ZYDIS_OPCODE_MAP_0F3A] = 3};
	unsigned tail;
	c->opcode = z->opcode;
	c->map = z->opcode_map < ARRAY_LEN(maps) ? maps[z->opcode_map] : 0;
	c->has_modrm = raw->modrm.offset != 0;
	c->mem = p->mem != NULL || p->in_vcpu != EM_NONE;
	if (p->in_vcpu != EM_NONE)
		c->at =
		    (struct em_at){.base = EM_NONE, .index = EM_NONE, .disp = (int32_t)GPR_OFF(p->in_vcpu)};
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

static bool
excluded(const struct jx *x, const struct place *p)
{
	const ZydisDecodedInstruction *z = x->z;
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
	x->in_r10 = x->in_rcx = 0;
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

/* After it: the guest's own opcode and pointers of the last instruction. */
static void
note_x87(struct jx *x, const ZydisDecodedOperand *mem)
{
	struct emit *e = &x->e;
	if (soft_x87_kind(x->z) != X87_COMPUTE)
		return;
	x->in_r10 = x->in_rcx = 0;
	em_8(e, 0x66); /* mov word gs:[fximage + 6], opcode */
	em_8(e, 0x65);
	em_8(e, 0xc7);
	em_8(e, 0x04);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(fximage) + 6);
	em_8(e, x->bytes[x->z->raw.modrm.offset]);
	em_8(e, x->z->opcode & 7);
	em_gs_load(e, H_RCX, CPU_OFF(jit_pagebase));
	em_lea(e, x->is64, H_RCX, H_RCX, EM_NONE, 0, (int32_t)x->off);
	em_gs_store(e, H_RCX, CPU_OFF(fximage) + 8);
	if (mem != NULL && jit_emit_linear(x, mem, 0))
		em_gs_store(e, H_R10, CPU_OFF(fximage) + 16);
}

/* The memory operand into c->at. False: not done here. */
static bool
reach_operand(struct jx *x, const struct place *p, struct enc *c)
{
	unsigned size = p->mem->size / 8;
	bool write = p->mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	if (size == 0 || size > 64 ||
	    !jit_operand(x, p->mem, size, write, p->high || (p->temps & 1u << H_RCX), &c->at))
		return false;
	if (p->high) {					 /* no REX prefix: a register below 8 */
		em_op_at(&x->e, 1, 0x8d, H_RCX, &c->at); /* lea */
		c->at = (struct em_at){.base = H_RCX, .index = EM_NONE};
	}
	return true;
}

/* EFLAGS as the instruction wants them, what it does not write kept somewhere, and RAX when it uses that.
 * lost: it writes what the recipe wants. */
static void
ready_flags(struct jx *x, const struct place *p, unsigned use, bool traps, bool lost)
{
	bool ax = x->fl_ax && !p->rax_in, rec = x->fl_rec.kind != REC_NONE && !lost;
	if ((use & FLAGS_READ) || (traps && !ax) || (!(use & FLAGS_WRITTEN) && !ax && !rec))
		jit_fl_host(x);
	if (p->rax_in) {
		em_mov(&x->e, 1, H_RAX, jit_host[X86_RAX]);
		x->fl_ax = false;
	}
}

bool
jit_generic(struct jx *x)
{
	bool fpu;
	unsigned kind = jit_insn_kind(x, &fpu), use = jit_insn_flags(x);
	struct emit *e = &x->e;
	struct place p;
	struct enc c = {0};
	if (kind == KIND_NOT || !place_all(x, &p) || excluded(x, &p))
		return false;
	make_enc(x, &p, &c);
	if (fpu)
		fpu_ensure(x);
	x->group[0].live &= !p.no_group;
	x->no_group = p.no_group;
	if (p.mem != NULL && !reach_operand(x, &p, &c))
		return false;
	bool lost = jit_recipe_lost(x);
	ready_flags(x, &p, use, kind == KIND_TRAPS, lost);
	for (unsigned n = 0; n < p.nload; n++) {
		unsigned h = p.load[n].host;
		if (p.load[n].wanted && h == H_R11)
			jit_reg_load(x, h, p.load[n].guest, 1);
		else if (p.load[n].wanted)
			jit_copy_load(x, h, p.load[n].guest);
		else
			jit_copy_is(x, h, p.load[n].guest); /* what was there is about to go */
	}
	if (p.rcx_in)
		em_mov(e, 1, H_RCX, jit_host[X86_RCX]);
	if (kind == KIND_TRAPS) {
		LH_ASSERT(x->nfault < JIT_FAULT_MAX);
		x->fault[x->nfault++] = (struct jit_fault){
		    .host = (uint32_t)(e->p - x->j->rw), .off = (uint16_t)x->off, .ax = !x->fl_host};
	}
	if (x->z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		put_vex(x, &p, &c);
	else
		put_legacy(x, &p, &c);
	memcpy(e->p, c.tail, c.tail_len);
	e->p += c.tail_len;
	if (lost)
		x->fl_rec.kind = REC_NONE;
	if (use & FLAGS_WRITTEN) {
		jit_fl_set(x);
		jit_fl_note(x);
	}
	if (jit_is_x87(x->z))
		note_x87(x, p.mem);
	if (fpu || ((p.temps & 1u << H_R10) && p.mem == NULL))
		x->in_r10 = 0;
	if (fpu || p.high || (p.temps & 1u << H_RCX))
		x->in_rcx = 0;
	if (p.in_vcpu != EM_NONE)
		jit_copy_drop(x, p.in_vcpu);
	for (unsigned n = 0; n < p.nstore; n++) {
		em_gs_store(e, p.store[n][0], GPR_OFF(p.store[n][1]));
		jit_copy_drop(x, p.store[n][1]);
	}
	for (unsigned n = 0; n < p.nload && !fpu && !p.high; n++) {
		if (p.load[n].guest != p.in_vcpu && (p.load[n].host != H_RCX || !p.rcx_in))
			jit_copy_is(x, p.load[n].host, p.load[n].guest);
	}
	if (p.rcx_out)
		em_mov(e, 1, jit_host[X86_RCX], H_RCX);
	if (p.rax_out)
		em_mov(e, 1, jit_host[X86_RAX], H_RAX);
	return true;
}
