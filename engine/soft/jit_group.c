/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Groups: accesses of a unit whose addresses differ by constants (a stack frame, the members of a structure,
 * an unrolled loop) are checked once. The first of them checks the whole range, which must lie in one page,
 * and keeps what is to be added to a linear address; those that follow use it with no check.
 *
 * What is constant is found beforehand: each guest register is a symbol and an offset; moves, LEA, additions
 * of constants, pushes and pops keep the symbol, other writes make a new one.
 *
 * Nothing happens too early: a group that is written needs a page that may be written and is dirty already.
 * Where the check fails (two pages, a device, a fault, a page still clean, code), the unit's variant without
 * groups (JMODE_SPLIT) does the same instructions one by one. Mappings do not change within a unit but by
 * instructions of the interpreter's, which end the group, and in the slow path, which looks (jit_run.c).
 */
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"

#define GROUP_SPAN 512 /* bytes: longer ranges lie across two pages too often */

enum { SYM_NONE, SYM_RIP, SYM_FIRST };

struct symbols {
	struct {
		uint16_t id;
		int64_t off;
	} r[16];
	uint16_t next;
};

static void
sym_fresh(struct symbols *s, unsigned g)
{
	s->r[g].id = s->next++;
	s->r[g].off = 0;
}

static void
sym_all_fresh(struct symbols *s)
{
	for (unsigned g = 0; g < 16; g++)
		sym_fresh(s, g);
}

static unsigned
gpr_of(ZydisRegister r)
{
	return r == ZYDIS_REGISTER_NONE ? 16 : soft_reg_offset(r) / 8;
}

/* ---- what is accessed ---- */
static void
note_operand(const struct symbols *s, struct jx_insn *p, const ZydisDecodedOperand *m)
{
	struct jx_acc *a = &p->acc[JX_ACC_OPERAND];
	unsigned b = gpr_of(m->mem.base), i = gpr_of(m->mem.index), seg = soft_seg_number(m->mem.segment);
	if (p->z.address_width != 64 || seg >= X86_FS || m->size == 0 || m->size > 512 || i > 16 ||
	    jit_disp32_alone(&p->z) || m->mem.disp.value > INT32_MAX - 0x10000 ||
	    m->mem.disp.value < INT32_MIN + 0x10000)
		return;
	a->off = m->mem.disp.value;
	if (m->mem.base == ZYDIS_REGISTER_RIP) {
		a->base = SYM_RIP;
		a->off += p->off + p->z.length;
	} else if (b < 16) {
		a->base = s->r[b].id;
		a->off += s->r[b].off;
	} else {
		return;
	}
	if (i < 16) {
		a->index = s->r[i].id;
		a->scale = m->mem.scale;
		a->off += s->r[i].off * m->mem.scale;
	}
	a->size = m->size / 8;
	a->write = (m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
	a->ok = true;
}

static void
note_stack(const struct symbols *s, struct jx_insn *p)
{
	struct jx_acc *a = &p->acc[JX_ACC_STACK];
	unsigned g = X86_RSP;
	switch (p->z.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_CALL:
		a->write = true;
		a->off = -8;
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		g = X86_RBP;
		break;
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_RET:
		break;
	default:
		return;
	}
	if (p->z.operand_width != 64)
		return;
	a->base = s->r[g].id;
	a->off += s->r[g].off;
	a->size = 8;
	a->ok = true;
}

/* ---- what becomes of the registers ---- */

/* Is it one that keeps a symbol: *from its register, *by what is added. */
static bool
moves_by_constant(const struct jx_insn *p, unsigned *from, int64_t *by)
{
	const ZydisDecodedOperand *d = &p->op[0], *s = &p->op[1];
	if (p->z.operand_count_visible == 0 || d->type != ZYDIS_OPERAND_TYPE_REGISTER || d->size != 64)
		return false;
	*from = gpr_of(d->reg.value);
	if (*from >= 16)
		return false; /* MOV to a control register */
	switch (p->z.mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		*by = p->z.mnemonic == ZYDIS_MNEMONIC_ADD ? s->imm.value.s : -s->imm.value.s;
		return s->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
		*by = p->z.mnemonic == ZYDIS_MNEMONIC_INC ? 1 : -1;
		return true;
	case ZYDIS_MNEMONIC_MOV:
		*by = 0;
		*from = s->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_of(s->reg.value) : 16;
		return *from < 16;
	case ZYDIS_MNEMONIC_LEA:
		*by = s->mem.disp.value;
		*from = gpr_of(s->mem.base);
		return *from < 16 && p->z.address_width == 64 && s->mem.index == ZYDIS_REGISTER_NONE &&
		       !jit_disp32_alone(&p->z);
	default:
		return false;
	}
}

static void
follow(struct symbols *s, const struct jx_insn *p)
{
	unsigned from;
	int64_t by;
	struct symbols old = *s;
	bool kept = moves_by_constant(p, &from, &by);
	if (p->z.mnemonic == ZYDIS_MNEMONIC_CALL) {
		sym_all_fresh(s);
		return;
	}
	for (unsigned n = 0; n < p->z.operand_count; n++) {
		unsigned g = p->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_of(p->op[n].reg.value) : 16;
		if (g < 16 && (p->op[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			sym_fresh(s, g);
	}
	if (kept) {
		unsigned g = gpr_of(p->op[0].reg.value);
		s->r[g] = old.r[from];
		s->r[g].off += by;
	} else if (p->z.operand_width == 64 && p->acc[JX_ACC_STACK].ok) {
		unsigned g = p->z.mnemonic == ZYDIS_MNEMONIC_LEAVE ? X86_RBP : X86_RSP;
		if (p->z.mnemonic == ZYDIS_MNEMONIC_POP && gpr_of(p->op[0].reg.value) == X86_RSP)
			return;
		s->r[X86_RSP] = old.r[g];
		s->r[X86_RSP].off += p->acc[JX_ACC_STACK].write ? -8 : 8;
	}
}

/* Will it be left to the interpreter, or end the unit? A guess: groups do not look beyond it. */
static bool
is_hard(struct jx *x, const struct jx_insn *p)
{
	bool fpu;
	if (p->acc[JX_ACC_STACK].ok || p->z.mnemonic == ZYDIS_MNEMONIC_LEA ||
	    p->z.mnemonic == ZYDIS_MNEMONIC_NOP || p->z.meta.category == ZYDIS_CATEGORY_COND_BR)
		return false;
	x->z = &p->z;
	x->op = p->op;
	return jit_insn_kind(x, &fpu) == KIND_NOT;
}

static bool
is_access(const ZydisDecodedOperand *m)
{
	return m->type == ZYDIS_OPERAND_TYPE_MEMORY && m->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
	       m->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
}

bool
jit_has_access(const struct jx_insn *p)
{
	for (unsigned k = 0; k < p->z.operand_count; k++) {
		if (is_access(&p->op[k]))
			return true;
	}
	return false;
}

void
jit_analyse(struct jx *x, unsigned count)
{
	struct symbols s = {.next = SYM_FIRST};
	sym_all_fresh(&s);
	jit_group_none(x);
	x->count = count;
	for (unsigned n = 0; n < count; n++) {
		struct jx_insn *p = &x->j->pre[n];
		memset(p->acc, 0, sizeof(p->acc));
		p->hard = true;
		if (p->bad || !x->is64 || count == 1 || (x->mode & JMODE_SPLIT))
			continue;
		for (unsigned k = 0; k < p->z.operand_count; k++) {
			const ZydisDecodedOperand *m = &p->op[k];
			if (is_access(m))
				note_operand(&s, p, m);
		}
		note_stack(&s, p);
		follow(&s, p);
		p->hard = is_hard(x, p);
	}
}

/* ---- choosing ---- */
static bool
same_key(const struct jx_acc *a, const struct jx_acc *b)
{
	return b->ok && a->base == b->base && a->index == b->index && a->scale == b->scale;
}

static bool
covers(const struct jx_group *g, const struct jx_acc *a)
{
	return g->live && same_key(&g->key, a) && a->off >= g->lo && a->off + a->size <= g->hi &&
	       (g->write || !a->write);
}

static bool
barrier(const struct jx_insn *p)
{
	return p->hard || p->z.mnemonic == ZYDIS_MNEMONIC_CALL;
}

/* How many accesses behind the present instruction g serves. */
static unsigned
uses_ahead(const struct jx *x, const struct jx_group *g)
{
	unsigned uses = 0;
	if (!g->live || barrier(&x->j->pre[x->n]))
		return 0;
	for (unsigned n = x->n + 1; n < x->count; n++) {
		const struct jx_insn *p = &x->j->pre[n];
		uses += covers(g, &p->acc[0]) + covers(g, &p->acc[1]);
		if (barrier(p))
			break;
	}
	return uses;
}

/* Add access a to the range, when that stays short. */
static void
widen(struct jx_group *g, const struct jx_acc *a)
{
	int64_t lo = MIN(g->lo, a->off), hi = MAX(g->hi, a->off + a->size);
	if (!same_key(&g->key, a) || hi - lo > GROUP_SPAN)
		return;
	g->lo = lo;
	g->hi = hi;
}

/* The group that would begin with access a of the present instruction. */
static struct jx_group
propose(const struct jx *x, const struct jx_acc *a)
{
	struct jx_group g = {
	    .live = true, .key = *a, .lo = a->off, .hi = a->off + a->size, .write = a->write};
	bool certain = true; /* no side exit so far */
	for (unsigned n = x->n; n < x->count; n++) {
		const struct jx_insn *p = &x->j->pre[n];
		for (unsigned k = 0; k < 2; k++) {
			const struct jx_acc *b = &p->acc[k];
			if ((n == x->n && b <= a) || (b->write && !g.write && !certain))
				continue;
			struct jx_group wider = g;
			widen(&wider, b);
			if (same_key(&g.key, b) && b->off >= wider.lo && b->off + b->size <= wider.hi) {
				g = wider;
				g.write |= b->write;
			}
		}
		if (barrier(p))
			break;
		certain = certain && p->z.meta.category != ZYDIS_CATEGORY_COND_BR;
	}
	return g;
}

/* Where a group with `uses` ahead goes: a place that serves nobody any more, else one that serves fewer. R11
 * is for those with the most. */
static bool
place_group(const struct jx *x, unsigned uses, unsigned *k, unsigned *moved)
{
	unsigned least = 0, ahead[JIT_GROUPS];
	for (unsigned n = 0; n < JIT_GROUPS; n++) {
		ahead[n] = uses_ahead(x, &x->group[n]);
		if (ahead[n] < ahead[least])
			least = n;
	}
	if (ahead[least] >= uses)
		return false;
	*moved = 0;
	*k = least;
	if (least != 0 && ahead[0] < uses) {
		*k = 0;
		*moved = ahead[0] != 0 ? least : 0;
	}
	return true;
}

enum jit_group_how
jit_group_choose(struct jx *x, unsigned which, unsigned *k, unsigned *moved)
{
	const struct jx_acc *a = &x->j->pre[x->n].acc[which];
	struct jx_group g;
	if (!a->ok || x->no_group)
		return GROUP_NO;
	for (*k = 0; *k < JIT_GROUPS; (*k)++) {
		if (covers(&x->group[*k], a))
			return GROUP_USE;
	}
	g = propose(x, a);
	if (!place_group(x, uses_ahead(x, &g), k, moved))
		return GROUP_NO;
	if (*moved != 0)
		x->group[*moved] = x->group[0];
	x->group[*k] = g;
	return GROUP_BEGIN;
}

bool
jit_group_covers(const struct jx *x, unsigned which)
{
	const struct jx_acc *a = &x->j->pre[x->n].acc[which];
	for (unsigned k = 0; k < JIT_GROUPS && a->ok; k++) {
		if (covers(&x->group[k], a))
			return true;
	}
	return false;
}

void
jit_group_none(struct jx *x)
{
	x->in_r10 = x->in_rcx = 0;
	for (unsigned n = 0; n < JIT_GROUPS; n++)
		x->group[n].live = false;
}
