/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the guest's flags are: in EFLAGS, in AX (as LAHF and SETO AL leave them), or nowhere but known by a
 * recipe: the instruction that set them can be done again, because its operands, or its result and its
 * source, are still in registers. At least one of the three holds at every instruction.
 *
 * The check of an access changes EFLAGS. Flags with a recipe cost nothing there; others go to AX first. They
 * come back, or are made again, before an instruction that wants them, before one that changes the recipe's
 * registers, and behind the unit, where code leaves that wants them in AX. So they are exact wherever a fault
 * may be. A recipe uses no register but AX, which is free when the flags are not there.
 */
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"

enum { ALU_ADD = 0, ALU_SUB = 5, ALU_CMP = 7 };

/* ---- instructions of a recipe: its width, operands where the guest's registers are ---- */
struct loc {
	unsigned host; /* EM_NONE: in the vCPU */
	unsigned guest;
};

static struct loc
loc_of(unsigned g)
{
	return (struct loc){.host = jit_host[g], .guest = g};
}

static void
put_op(struct emit *e, unsigned size, unsigned opcode, unsigned reg, bool byte_reg, struct loc rm)
{
	unsigned b = rm.host == EM_NONE ? 0 : rm.host;
	bool rex = size == 1 && ((byte_reg && reg >= 4) || (rm.host != EM_NONE && rm.host >= 4));
	if (rm.host == EM_NONE)
		em_8(e, 0x65);
	if (size == 2)
		em_8(e, 0x66);
	rex |= size == 8 || reg >= 8 || b >= 8;
	if (rex)
		em_8(e, 0x40 | (size == 8) << 3 | (reg >> 3 & 1) << 2 | (b >> 3 & 1));
	em_8(e, size == 1 ? opcode & ~1u : opcode);
	if (rm.host == EM_NONE) {
		struct em_at at = {.base = EM_NONE, .index = EM_NONE, .disp = (int32_t)GPR_OFF(rm.guest)};
		em_modrm_at(e, reg, &at);
	} else {
		em_8(e, 0xc0 | (reg & 7) << 3 | (b & 7));
	}
}

static void
put_imm(struct emit *e, unsigned size, int64_t imm)
{
	em_8(e, (uint8_t)imm);
	if (size > 1)
		em_8(e, (uint8_t)(imm >> 8));
	if (size > 2) {
		em_8(e, (uint8_t)(imm >> 16));
		em_8(e, (uint8_t)(imm >> 24));
	}
}

static void
load_ax(struct emit *e, struct loc from)
{
	if (from.host == EM_NONE)
		em_gs_load(e, H_RAX, GPR_OFF(from.guest));
	else
		em_mov(e, 1, H_RAX, from.host);
}

/* ALU operation n, or TEST, of a and the recipe's source. */
static void
put_alu(struct emit *e, const struct jx_recipe *r, unsigned n, bool test, struct loc a)
{
	struct loc b = loc_of(r->src & 15), ax = {.host = H_RAX};
	if (r->src == REC_IMM) {
		put_op(e, r->size, test ? 0xf7 : 0x81, test ? 0 : n, false, a);
		put_imm(e, r->size, r->imm);
	} else if (b.host != EM_NONE) {
		put_op(e, r->size, test ? 0x85 : n << 3 | 1, b.host, true, a);
	} else {
		if (a.host == EM_NONE) {
			load_ax(e, a);
			a = ax;
		}
		put_op(e, r->size, test ? 0x85 : n << 3 | 3, a.host, true, b);
	}
}

/* AX = the value of dst before ADD (by SUB) or SUB (by ADD). */
static void
put_old(struct emit *e, const struct jx_recipe *r)
{
	struct loc ax = {.host = H_RAX};
	load_ax(e, loc_of(r->dst));
	put_alu(e, r, r->kind == REC_ADD ? ALU_SUB : ALU_ADD, false, ax);
}

void
jit_recipe(struct emit *e, const struct jx_recipe *r)
{
	struct loc ax = {.host = H_RAX};
	switch (r->kind) {
	case REC_CMP:
		put_alu(e, r, ALU_CMP, false, loc_of(r->dst));
		break;
	case REC_TEST:
		put_alu(e, r, 0, true, loc_of(r->dst));
		break;
	case REC_ADD:
		put_old(e, r);
		put_alu(e, r, ALU_ADD, false, ax);
		break;
	case REC_SUB:
		put_old(e, r);
		put_alu(e, r, ALU_CMP, false, ax);
		break;
	default:
		LH_ASSERT(0);
	}
}

/* ---- where they are ---- */
void
jit_fl_save(struct jx *x)
{
	if (x->fl_ax)
		return;
	if (!x->fl_host)
		jit_recipe(&x->e, &x->fl_rec);
	em_fl_save(&x->e);
	x->fl_ax = true;
	x->fl_host = true;
}

void
jit_fl_save_early(struct jx *x)
{
	if (x->fl_host)
		jit_fl_save(x);
}

void
jit_fl_host(struct jx *x)
{
	if (x->fl_host)
		return;
	if (x->fl_ax) {
		em_fl_load(&x->e);
		x->fl_ax = false;
	} else {
		jit_recipe(&x->e, &x->fl_rec);
	}
	x->fl_host = true;
}

void
jit_fl_clobber(struct jx *x)
{
	if (x->fl_rec.kind == REC_NONE)
		jit_fl_save(x);
	x->fl_host = false;
}

void
jit_fl_set(struct jx *x)
{
	x->fl_host = true;
	x->fl_ax = false;
	x->fl_rec.kind = REC_NONE;
}

void
jit_fl_somewhere(struct jx *x)
{
	if (!x->fl_ax)
		jit_fl_host(x);
}

/* ---- recipes ---- */
static unsigned
gpr_of(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER ? soft_reg_offset(op->reg.value) / 8 : 16;
}

static bool
is_high(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_AH &&
	       op->reg.value <= ZYDIS_REGISTER_BH;
}

static bool
depends(const struct jx_recipe *r, unsigned g)
{
	return r->kind != REC_NONE && (r->dst == g || r->src == g);
}

bool
jit_recipe_lost(const struct jx *x)
{
	for (unsigned n = 0; n < x->z->operand_count; n++) {
		const ZydisDecodedOperand *op = &x->op[n];
		unsigned g = gpr_of(op);
		if (g < 16 && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) && depends(&x->fl_rec, g))
			return true;
	}
	return false;
}

void
jit_fl_forget(struct jx *x)
{
	if (!jit_recipe_lost(x))
		return;
	jit_fl_somewhere(x);
	x->fl_rec.kind = REC_NONE;
}

void
jit_fl_note(struct jx *x)
{
	const ZydisDecodedInstruction *z = x->z;
	const ZydisDecodedOperand *d = &x->op[0], *s = &x->op[1];
	struct jx_recipe r = {
	    .dst = (uint8_t)gpr_of(d), .size = (uint8_t)(d->size / 8), .src = (uint8_t)gpr_of(s)};
	if (z->operand_count_visible != 2 || r.dst >= 16 || is_high(d) || is_high(s))
		return;
	if (s->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		r.src = REC_IMM;
		r.imm = s->imm.value.s;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_CMP:
		r.kind = REC_CMP;
		break;
	case ZYDIS_MNEMONIC_TEST:
		r.kind = REC_TEST;
		break;
	case ZYDIS_MNEMONIC_AND: /* these leave the flags of a TEST of the result (SDM vol. 1, A.) */
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
		r.kind = REC_TEST;
		r.src = r.dst;
		break;
	case ZYDIS_MNEMONIC_ADD:
		r.kind = REC_ADD;
		break;
	case ZYDIS_MNEMONIC_SUB:
		r.kind = REC_SUB;
		break;
	default:
		return;
	}
	if (r.src == 16 || ((r.kind == REC_ADD || r.kind == REC_SUB) && r.src == r.dst))
		return; /* memory, or a source that is gone */
	x->fl_rec = r;
}
