/* SPDX-License-Identifier: BSD-2-Clause */
/* How translated code reaches guest memory: addresses, the check, what is checked together. */
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"

void
jit_mark(const struct jx *x, struct jx_mark *m)
{
	m->p = x->e.p;
	m->nool = x->nool;
	m->nfault = x->nfault;
	m->fl_host = x->fl_host;
	m->fl_ax = x->fl_ax;
	m->fl_rec = x->fl_rec;
	m->fpu_known = x->fpu_known;
	m->sp_off = x->sp_off;
}

void
jit_undo(struct jx *x, const struct jx_mark *m)
{
	x->e.p = m->p;
	x->nool = m->nool;
	x->nfault = m->nfault;
	x->fl_host = m->fl_host;
	x->fl_ax = m->fl_ax;
	x->fl_rec = m->fl_rec;
	x->fpu_known = m->fpu_known;
	x->sp_off = m->sp_off;
	jit_group_none(x); /* what was begun has gone, and maybe what it replaced */
}

struct ool *
jit_ool(struct jx *x, enum ool_kind kind, uint8_t *from)
{
	struct ool *o = &x->ool[x->nool];
	LH_ASSERT(x->nool < JIT_OOL_MAX);
	x->nool++;
	*o = (struct ool){
	    .kind = kind, .from = from, .off = x->off, .ax = x->fl_ax, .host = x->fl_host, .rec = x->fl_rec};
	return o;
}

/* ---- copies of guest registers ---- */
unsigned
jit_copy(const struct jx *x, unsigned g)
{
	return x->in_rcx == IN_GPR + g ? H_RCX : x->in_r10 == IN_GPR + g ? H_R10 : EM_NONE;
}

void
jit_copy_is(struct jx *x, unsigned h, unsigned g)
{
	if (h == H_RCX)
		x->in_rcx = IN_GPR + g;
	else if (h == H_R10)
		x->in_r10 = IN_GPR + g;
}

void
jit_copy_drop(struct jx *x, unsigned g)
{
	if (x->in_rcx == IN_GPR + g)
		x->in_rcx = 0;
	if (x->in_r10 == IN_GPR + g)
		x->in_r10 = 0;
}

void
jit_copy_load(struct jx *x, unsigned h, unsigned g)
{
	unsigned from = jit_copy(x, g);
	if (from == EM_NONE)
		em_gs_load(&x->e, h, GPR_OFF(g));
	else if (from != h)
		em_mov(&x->e, 1, h, from);
	jit_copy_is(x, h, g);
}

/* ---- addresses ---- */
void
jit_reg_load(struct jx *x, unsigned host, unsigned guest, unsigned w)
{
	unsigned from = jit_host[guest] != EM_NONE ? jit_host[guest] : jit_copy(x, guest);
	if (from != EM_NONE)
		em_mov(&x->e, w, host, from);
	else
		em_gs(&x->e, w, 0x8b, host, GPR_OFF(guest));
}

static bool
lies_in_vcpu(ZydisRegister r)
{
	unsigned g = soft_reg_offset(r) / 8;
	return r != ZYDIS_REGISTER_NONE && g < 16 && jit_host[g] == EM_NONE;
}

/* The host register of guest register r for an address, or where a copy is; loads it into `scratch` when
 * there is neither. */
static unsigned
address_reg(struct jx *x, ZydisRegister r, unsigned scratch)
{
	unsigned g = soft_reg_offset(r) / 8;
	if (r == ZYDIS_REGISTER_NONE || g >= 16)
		return EM_NONE;
	if (jit_host[g] != EM_NONE)
		return jit_host[g];
	if (jit_copy(x, g) == EM_NONE)
		jit_copy_load(x, scratch, g);
	return jit_copy(x, g);
}

/* Zydis 4.0 takes REX.B for a base register where ModRM and SIB say disp32 alone. */
bool
jit_disp32_alone(const ZydisDecodedInstruction *z)
{
	return z->raw.sib.offset != 0 && z->raw.modrm.mod == 0 && z->raw.sib.base == 5;
}

bool
jit_emit_offset(struct jx *x, const ZydisDecodedOperand *m, int64_t by, unsigned dst, unsigned w)
{
	int64_t disp = m->mem.disp.value + by;
	ZydisRegister base = m->mem.base;
	unsigned scale = m->mem.scale ? (unsigned)__builtin_ctz(m->mem.scale) : 0;
	if (base == ZYDIS_REGISTER_RIP) {
		disp += x->off + x->z->length;
		if (disp != (int32_t)disp)
			return false;
		x->in_r10 = dst == H_R10 ? 0 : x->in_r10;
		em_gs_load(&x->e, dst, CPU_OFF(jit_pagebase));
		em_lea(&x->e, w, dst, dst, EM_NONE, 0, (int32_t)disp);
		return true;
	}
	if (base == ZYDIS_REGISTER_EIP)
		return false;
	if (jit_disp32_alone(x->z)) {
		base = ZYDIS_REGISTER_NONE;
		disp = x->z->raw.disp.value + by;
	}
	if (lies_in_vcpu(base) && lies_in_vcpu(m->mem.index))
		x->in_r10 = x->in_rcx = 0; /* which may be in each other's way */
	unsigned b = address_reg(x, base, H_R10), i = address_reg(x, m->mem.index, H_RCX);
	if (b == EM_NONE && i == EM_NONE)
		em_mov_imm64(&x->e, dst, w ? (uint64_t)disp : (uint32_t)disp);
	else if (disp != (int32_t)disp && w)
		return false;
	else if (i == EM_NONE && disp == 0 && (b != dst || !w))
		em_mov(&x->e, w, dst, b);
	else if (i != EM_NONE || disp != 0)
		em_lea(&x->e, w, dst, b, i, scale, (int32_t)disp);
	x->in_r10 = dst == H_R10 ? 0 : x->in_r10;
	return true;
}

bool
jit_emit_linear(struct jx *x, const ZydisDecodedOperand *m, int64_t by)
{
	unsigned seg = soft_seg_number(m->mem.segment);
	if (x->z->address_width == 16 ||
	    (!x->is64 && (x->z->address_width != 32 || seg >= X86_FS || seg == X86_CS)))
		return false;
	if (!jit_emit_offset(x, m, by, H_R10, x->z->address_width == 64))
		return false;
	if (x->is64 && seg >= X86_FS) {
		x->in_rcx = 0;
		em_gs_load(&x->e, H_RCX, CPU_OFF(seg_base) + 8 * seg);
		em_lea(&x->e, 1, H_R10, H_R10, H_RCX, 0, 0);
	}
	return true;
}

/* ---- the check ---- */
static size_t
tlb_off(const struct jx *x, size_t member)
{
	return CPU_OFF(tlb) + x->mmu * sizeof(struct soft_tlb) + member;
}

size_t
jit_tag_off(const struct jx *x, bool write)
{
	return tlb_off(x, write ? offsetof(struct soft_tlb_entry, nw) : offsetof(struct soft_tlb_entry, nr));
}

/* R10 = linear address, which is to be followed by `size` bytes in its page. Afterwards it is the offset
 * there, and RCX leads to the TLB's entry; or the code behind the unit is gone to. */
static struct ool *
emit_check(struct jx *x, enum ool_kind kind, unsigned size, bool write)
{
	struct emit *e = &x->e;
	jit_fl_clobber(x);
	x->in_r10 = x->in_rcx = 0;
	em_rorx(e, H_RCX, H_R10, 12 - TLB_ENTRY_SHIFT);
	em_alu_imm(e, 0, 4, H_RCX, (TLB_SIZE - 1) << TLB_ENTRY_SHIFT);
	em_gsi(e, 1, 0x03, H_R10, H_RCX, jit_tag_off(x, write)); /* add r10, tag */
	em_alu_imm(e, 1, 7, H_R10, 0x1000 - size);
	struct ool *o = jit_ool(x, kind, em_jcc(e, 7, e->p));
	o->what = size | (write ? SLOW_WRITE : 0) | x->off << SLOW_OFF_SHIFT;
	return o;
}

/* One access at linear R10. base: what R10 was made of, a host register and at->disp; EM_NONE: not that
 * simply. */
static void
access_at_r10(struct jx *x, unsigned size, bool write, bool one, struct em_at *at)
{
	struct ool *o = emit_check(x, OOL_SLOW, size, write);
	bool direct = at->base != EM_NONE && !one;
	size_t from =
	    direct ? offsetof(struct soft_tlb_entry, addend) : offsetof(struct soft_tlb_entry, page);
	em_gsi(&x->e, 1, one ? 0x03 : 0x8b, one ? H_R10 : H_RCX, H_RCX, tlb_off(x, from));
	o->back = x->e.p;
	o->one = one;
	if (direct)
		at->index = H_RCX;
	else
		*at = (struct em_at){.base = H_R10, .index = one ? EM_NONE : H_RCX};
}

static size_t
addend_off(unsigned k)
{
	return CPU_OFF(jit_addends) + 8 * (k - 1);
}

/* R10 = linear address of group k's first byte: what is to be added becomes known. */
static void
begin_group(struct jx *x, unsigned k, unsigned moved)
{
	const struct jx_group *g = &x->group[k];
	if (moved != 0)
		em_gs_store(&x->e, H_R11, addend_off(moved));
	struct ool *o = emit_check(x, OOL_GROUP, (unsigned)(g->hi - g->lo), g->write);
	o->one = k != 0;
	em_gsi(&x->e, 1, 0x8b, k == 0 ? H_R11 : H_R10, H_RCX,
	       tlb_off(x, offsetof(struct soft_tlb_entry, addend)));
	o->back = x->e.p;
	if (k != 0) {
		em_gs_store(&x->e, H_R10, addend_off(k));
		x->in_r10 = k;
	}
}

/* [base + index + disp] with no more than R10: RCX is wanted. */
static void
only_r10(struct jx *x, struct em_at *at)
{
	if (at->index != H_RCX && at->base != H_RCX)
		return;
	em_op_at(&x->e, 1, 0x8d, H_R10, at); /* lea */
	*at = (struct em_at){.base = H_R10, .index = EM_NONE};
	x->in_r10 = 0;
}

/* What is to be added for group k, as a part of *at: R11, or R10 or RCX, where it stays for the next one.
 * one: not RCX. */
static void
add_group(struct jx *x, unsigned k, bool one, struct em_at *at)
{
	at->index = H_R11;
	if (k == 0)
		return;
	if (x->in_r10 == k && at->base != H_R10) {
		at->index = H_R10;
	} else if (x->in_rcx == k && !one) {
		at->index = H_RCX;
	} else if (at->base == H_R10 || (x->in_r10 != 0 && !one && at->base != H_RCX)) {
		em_gs_load(&x->e, at->index = H_RCX, addend_off(k));
		x->in_rcx = k;
	} else {
		em_gs_load(&x->e, at->index = H_R10, addend_off(k));
		x->in_r10 = k;
	}
}

/* Memory operand m within group k. */
static void
group_operand(struct jx *x, const ZydisDecodedOperand *m, unsigned k, bool one, struct em_at *at)
{
	int64_t disp = m->mem.disp.value;
	bool rip = m->mem.base == ZYDIS_REGISTER_RIP;
	unsigned g = rip ? 16 : soft_reg_offset(m->mem.base) / 8;
	if (rip)
		disp += x->off + x->z->length;
	*at = (struct em_at){.base = H_R10};
	if (m->mem.index != ZYDIS_REGISTER_NONE || disp != (int32_t)disp) {
		LH_ASSERT(jit_emit_offset(x, m, 0, H_R10, 1)); /* it was possible when the group began */
		x->in_r10 = x->in_rcx = 0;
	} else if (!rip && jit_host[g] != EM_NONE) {
		at->disp = (int32_t)disp;
		at->base = (uint8_t)jit_host[g];
	} else {
		at->disp = (int32_t)disp;
		if (!rip && jit_copy(x, g) != EM_NONE && !(one && jit_copy(x, g) == H_RCX)) {
			at->base = (uint8_t)jit_copy(x, g);
		} else if (x->in_r10 == k && k != 0 && !one) { /* leave it there */
			at->base = H_RCX;
			x->in_rcx = 0;
		} else {
			x->in_r10 = 0;
		}
		if (rip)
			em_gs_load(&x->e, at->base, CPU_OFF(jit_pagebase));
		else
			jit_copy_load(x, at->base, g);
	}
	add_group(x, k, one && at->base != H_R10, at);
}

/* Is the address a host register and a constant? */
static void
direct_base(const struct jx *x, const ZydisDecodedOperand *m, struct em_at *at)
{
	unsigned g = soft_reg_offset(m->mem.base) / 8;
	*at = (struct em_at){.base = EM_NONE};
	if (m->mem.base == ZYDIS_REGISTER_NONE || g >= 16 || m->mem.index != ZYDIS_REGISTER_NONE ||
	    !x->is64 || x->z->address_width != 64 || soft_seg_number(m->mem.segment) >= X86_FS ||
	    jit_disp32_alone(x->z))
		return;
	at->base = (uint8_t)jit_host[g];
	at->disp = (int32_t)m->mem.disp.value;
}

bool
jit_operand(struct jx *x, const ZydisDecodedOperand *m, unsigned size, bool write, bool one, struct em_at *at)
{
	int64_t by = 0;
	unsigned k = 0, moved = 0;
	enum jit_group_how how = jit_group_choose(x, JX_ACC_OPERAND, &k, &moved);
	if (how == GROUP_BEGIN)
		by = x->group[k].lo - x->j->pre[x->n].acc[JX_ACC_OPERAND].off;
	if (how != GROUP_USE && !jit_emit_linear(x, m, by))
		return false;
	if (how == GROUP_NO) {
		direct_base(x, m, at);
		access_at_r10(x, size, write, one, at);
		return true;
	}
	if (how == GROUP_BEGIN)
		begin_group(x, k, moved);
	group_operand(x, m, k, one, at);
	if (one)
		only_r10(x, at);
	return true;
}

void
jit_at(struct jx *x, unsigned g, int disp, unsigned size, bool write, bool one, struct em_at *at)
{
	int64_t by = 0;
	unsigned k = 0, moved = 0;
	enum jit_group_how how = jit_group_choose(x, JX_ACC_STACK, &k, &moved);
	if (how == GROUP_BEGIN)
		by = x->group[k].lo - x->j->pre[x->n].acc[JX_ACC_STACK].off;
	if (how != GROUP_USE)
		em_lea(&x->e, x->is64, H_R10, jit_host[g], EM_NONE, 0, (int32_t)(disp + by));
	if (how == GROUP_NO) {
		*at = (struct em_at){.base = x->is64 ? jit_host[g] : EM_NONE, .disp = disp};
		access_at_r10(x, size, write, one, at);
		return;
	}
	if (how == GROUP_BEGIN)
		begin_group(x, k, moved);
	*at = (struct em_at){.base = jit_host[g], .disp = disp + (g == X86_RSP ? x->sp_off : 0)};
	add_group(x, k, one, at);
}

void
jit_at_sp(struct jx *x, int disp, unsigned size, bool write, bool one, struct em_at *at)
{
	jit_at(x, X86_RSP, disp, size, write, one, at);
}
