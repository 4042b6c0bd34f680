/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Branches, calls and returns, and what moves the stack pointer.
 *
 * A call pushes, beside the guest's return address on the guest's stack, that address and a
 * host return address on the return stack. The guest's RET goes by the host's RET to where the last call
 * came from, with the true target in R10; there it is compared, and on a difference looked up.
 *
 * Linear addresses are jit_pagebase + page offset. A branch within the page keeps jit_pagebase and is
 * chained; one that leaves the page is looked up by linear address, which sets jit_pagebase.
 */
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"
#include "engine/soft/ops.h"

/* Room so that `bytes` (2, 4) that stand `skip` bytes from here lie within 8 aligned bytes: they will be
 * changed. */
static void
align_bytes(struct jx *x, unsigned skip, unsigned bytes)
{
	static const uint8_t nops[4][3] = {{0}, {0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0x00}};
	unsigned at = (unsigned)((uintptr_t)x->e.p + skip) & 7, n = at + bytes > 8 ? 8 - at : 0;
	memcpy(x->e.p, nops[n], n);
	x->e.p += n;
}

static void
align_rel32(struct jx *x, unsigned skip)
{
	align_bytes(x, skip, 4);
}

static bool
in_page(int32_t target)
{
	return target >= 0 && target < 0x1000;
}

/* R10 = linear address of a page offset. */
static void
load_linear(struct jx *x, unsigned reg, int32_t target)
{
	em_gs_load(&x->e, reg, CPU_OFF(jit_pagebase));
	em_lea(&x->e, x->is64, reg, reg, EM_NONE, 0, target);
}

/*
 * Flags in AX: to another page. Where the target's unit is known, jit_page_at[] of its page says whether that
 * page is still where it ought to be, seen from here: units know no linear addresses.
 */
static void
emit_far(struct jx *x, int32_t target, uint32_t br)
{
	struct emit *e = &x->e;
	struct jit_exit *r = soft_code_alloc(x->cpu->vm->code, sizeof(*r));
	size_t none = CPU_OFF(jit_page_at) + x->mmu * sizeof(x->cpu->jit_page_at[0]);
	if (r == NULL) {
		x->failed = true;
		return;
	}
	*r = (struct jit_exit){
	    .from = x->u, .target = target, .mode = x->mode & ~JMODE_VARIANT, .backward = true, .br = br};
	load_linear(x, H_RCX, target & ~0xfff);
	align_bytes(x, 5, 4);
	em_gs(e, 1, 0x3b, H_RCX, none); /* cmp */
	r->page = e->p - 4;
	uint8_t *miss = em_jcc(e, 5, e->p);
	em_gs_store(e, H_RCX, CPU_OFF(jit_pagebase));
	align_rel32(x, 1);
	r->rel32 = em_jmp(e, 0xe9, e->p);
	r->stub = e->p;
	em_mov_imm64(e, H_R11, (uintptr_t)r);
	em_jmp(e, 0xe9, x->j->c.far_stub);
	em_patch(miss, e->p);
	em_mov_imm64(e, H_R11, (uintptr_t)r);
	em_jmp(e, 0xe9, x->j->c.far_miss);
}

void
jit_emit_goto(struct jx *x, int32_t target, uint32_t br)
{
	if (in_page(target)) {
		jit_fl_somewhere(x);
		align_rel32(x, 1);
		jit_ool(x, OOL_EXIT, em_jmp(&x->e, 0xe9, x->e.p))->target = target;
	} else {
		jit_fl_save(x);
		emit_far(x, target, br);
	}
}

/* The place behind the unit that a branch to a page offset goes to; `from` is the branch's displacement. */
static void
exit_behind(struct jx *x, uint8_t *from, int32_t target, uint32_t br)
{
	struct ool *o = jit_ool(x, in_page(target) ? OOL_EXIT : OOL_FAR, from);
	o->target = target;
	o->br = x->off | br;
}

static int32_t
branch_target(const struct jx *x)
{
	return (int32_t)(x->off + x->z->length + (int32_t)x->op[0].imm.value.s);
}

bool
jit_is_jcc(const ZydisDecodedInstruction *z)
{
	if (z->meta.category != ZYDIS_CATEGORY_COND_BR)
		return false;
	return z->opcode_map == ZYDIS_OPCODE_MAP_0F || (z->opcode & 0xf0) == 0x70;
}

static void
emit_jcc(struct jx *x)
{
	bool follow = x->j->pre[x->n].follow;
	int32_t target = follow ? (int32_t)(x->off + x->z->length) : branch_target(x);
	jit_fl_host(x);
	align_rel32(x, 2);
	exit_behind(x, em_jcc(&x->e, (x->z->opcode & 15) ^ follow, x->e.p), target, BR_JMP);
}

/* JRCXZ and JECXZ (loop false), LOOP: the count register has the address size. */
static void
emit_count(struct jx *x, bool loop)
{
	struct emit *e = &x->e;
	unsigned w = x->z->address_width == 64, rcx = jit_host[X86_RCX];
	int32_t target = branch_target(x);
	jit_fl_somewhere(x);
	if (loop)
		em_lea(e, w, rcx, rcx, EM_NONE, 0, -1);
	em_mov(e, w, H_RCX, rcx);
	align_rel32(x, loop ? 3 : 5);
	em_8(e, 0xe3);
	em_8(e, loop ? 5 : 2); /* jrcxz: over the jump, or to it */
	if (!loop) {
		em_8(e, 0xeb);
		em_8(e, 5);
	}
	exit_behind(x, em_jmp(e, 0xe9, e->p), target, BR_JMP);
}

static unsigned
word(const struct jx *x)
{
	return x->is64 ? 8 : 4;
}

static void
move_sp(struct jx *x, int by)
{
	em_lea(&x->e, x->is64, jit_host[X86_RSP], jit_host[X86_RSP], EM_NONE, 0, x->sp_off + by);
	x->sp_off = 0;
}

void
jit_sp_settle(struct jx *x)
{
	if (x->sp_off != 0)
		move_sp(x, 0);
}

static bool
is_sp(ZydisRegister r)
{
	return r != ZYDIS_REGISTER_NONE && soft_reg_offset(r) / 8 == X86_RSP;
}

/* Pushes and pops that need no check, and what knows neither memory nor RSP, cannot leave the unit and does
 * not see that RSP is not there yet. */
bool
jit_sp_may_wait(const struct jx *x)
{
	const ZydisDecodedInstruction *z = x->z;
	const ZydisDecodedOperand *op = &x->op[0];
	bool fpu, lea = z->mnemonic == ZYDIS_MNEMONIC_LEA;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		return (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
			(op->type == ZYDIS_OPERAND_TYPE_REGISTER && !is_sp(op->reg.value))) &&
		       jit_group_covers(x, JX_ACC_STACK);
	case ZYDIS_MNEMONIC_CALL:
		return op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && jit_group_covers(x, JX_ACC_STACK);
	case ZYDIS_MNEMONIC_POP:
		return op->type == ZYDIS_OPERAND_TYPE_REGISTER && jit_group_covers(x, JX_ACC_STACK);
	case ZYDIS_MNEMONIC_RET:
		return jit_group_covers(x, JX_ACC_STACK);
	default:
		break;
	}
	if (!lea && (jit_insn_kind(x, &fpu) != KIND_PLAIN || jit_has_access(&x->j->pre[x->n])))
		return false;
	for (unsigned n = 0; n < z->operand_count; n++) {
		op = &x->op[n];
		if ((op->type == ZYDIS_OPERAND_TYPE_REGISTER && is_sp(op->reg.value)) ||
		    (op->type == ZYDIS_OPERAND_TYPE_MEMORY && (is_sp(op->mem.base) || is_sp(op->mem.index))))
			return false;
	}
	return true;
}

/* Push the return address on both stacks. */
static void
emit_push_return(struct jx *x)
{
	struct emit *e = &x->e;
	struct em_at at;
	jit_fl_save_early(x);
	jit_at_sp(x, -(int)word(x), word(x), true, true, &at);
	jit_fl_save(x);
	load_linear(x, H_RCX, (int32_t)(x->off + x->z->length));
	em_op_at(e, x->is64, 0x89, H_RCX, &at);
	move_sp(x, -(int)word(x));
	if (!(x->mode & JMODE_VERIFY))
		em_push(e, H_RCX);
}

/* Where the callee's RET arrives, with the true target in R10 and the flags in AX. */
static void
emit_landing(struct jx *x)
{
	struct emit *e = &x->e;
	em_pop(e, H_RCX);
	em_rr(e, 1, 0x39, H_R10, H_RCX); /* cmp rcx, r10 */
	align_bytes(x, 0, 2);
	x->land[x->nland++] = (uint32_t)(e->p - x->j->rw);
	em_jcc(e, 5, x->j->c.lookup); /* jne, which close_landing() makes a jmp */
	em_lea(e, 1, H_RCX, H_R10, EM_NONE, 0, -(int32_t)(x->off + x->z->length));
	em_gs_store(e, H_RCX, CPU_OFF(jit_pagebase));
	x->fl_ax = true;
	x->fl_host = false;
	x->fl_rec.kind = REC_NONE;
	x->fpu_known = false;
	jit_group_none(x);
}

static enum jit_flow
emit_call_rel(struct jx *x)
{
	int32_t target = branch_target(x);
	emit_push_return(x);
	if (x->mode & JMODE_VERIFY) {
		jit_emit_goto(x, target, x->off | BR_CALL);
		return FLOW_END;
	}
	align_rel32(x, 1);
	exit_behind(x, em_jmp(&x->e, 0xe8, x->e.p), target, BR_CALL);
	emit_landing(x);
	return FLOW_NEXT;
}

/* The operand of an indirect branch to R10. False: not done here. */
static bool
indirect_operand(struct jx *x)
{
	const ZydisDecodedOperand *op = &x->op[0];
	struct em_at at;
	if (op->size != word(x) * 8)
		return false;
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		jit_reg_load(x, H_R10, soft_reg_offset(op->reg.value) / 8, x->is64);
		x->in_r10 = 0;
		return true;
	}
	jit_fl_save_early(x);
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || !jit_operand(x, op, word(x), false, false, &at))
		return false;
	em_op_at(&x->e, x->is64, 0x8b, H_R10, &at);
	x->in_r10 = x->in_rcx = 0;
	return true;
}

/* To linear R10, with the flags in AX; br: as jit_br, which only a miss asks for. */
static void
emit_lookup(struct jx *x, uint32_t br)
{
	struct ool *o = jit_ool(x, OOL_LOOKUP, jit_emit_lookup(&x->e, x->mmu));
	o->ax = true;
	o->br = br;
}

static bool
emit_jmp_indirect(struct jx *x)
{
	if (!indirect_operand(x))
		return false;
	jit_fl_save(x);
	emit_lookup(x, x->off | BR_JMP);
	return true;
}

/* A target in R10 that is not canonical faults before the return address is pushed: leave it to the
 * interpreter. */
static void
check_canonical(struct jx *x)
{
	struct emit *e = &x->e;
	unsigned by = x->mode & JMODE_LA57 ? 7 : 16;
	if (!x->is64)
		return;
	jit_fl_save_early(x);
	jit_fl_clobber(x);
	em_mov(e, 1, H_RCX, H_R10);
	em_shift(e, 1, 4, H_RCX, by);
	em_shift(e, 1, 7, H_RCX, by);
	em_rr(e, 1, 0x39, H_RCX, H_R10); /* cmp r10, rcx */
	x->in_r10 = x->in_rcx = 0;
	jit_ool(x, OOL_STEP, em_jcc(e, 5, e->p));
}

static bool
emit_call_indirect(struct jx *x)
{
	if (!indirect_operand(x))
		return false;
	check_canonical(x);
	em_gs_store(&x->e, H_R10, CPU_OFF(jit_tmp));
	emit_push_return(x);
	if (x->mode & JMODE_VERIFY) {
		em_gs_imm32(&x->e, CPU_OFF(jit_br), x->off | BR_CALL);
		em_gs_load(&x->e, H_R10, CPU_OFF(jit_tmp));
		em_jmp(&x->e, 0xe9, x->j->c.lookup);
		return true;
	}
	jit_ool(x, OOL_INDIRECT, em_jmp(&x->e, 0xe8, x->e.p))->br = x->off | BR_CALL;
	emit_landing(x);
	return true;
}

static void
emit_ret(struct jx *x)
{
	unsigned pop = x->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? (unsigned)x->op[0].imm.value.u : 0;
	struct em_at at;
	jit_fl_save_early(x);
	jit_at_sp(x, 0, word(x), false, false, &at);
	jit_fl_save(x);
	em_op_at(&x->e, x->is64, 0x8b, H_R10, &at);
	move_sp(x, (int)(word(x) + pop));
	em_gs_imm32(&x->e, CPU_OFF(jit_br), x->off | BR_RET);
	if (x->mode & JMODE_VERIFY)
		em_jmp(&x->e, 0xe9, x->j->c.lookup);
	else
		em_8(&x->e, 0xc3);
}

/* Leave this instruction to the interpreter, alone. */
void
jit_emit_step(struct jx *x)
{
	jit_fl_save(x);
	em_mov_imm32(&x->e, H_R11, x->off);
	em_jmp(&x->e, 0xe9, x->j->c.step);
}

enum jit_flow
jit_flow_insn(struct jx *x)
{
	const ZydisDecodedInstruction *z = x->z;
	bool imm = x->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	struct jx_mark before;
	jit_mark(x, &before);
	if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		jit_fl_forget(x);
	if (z->mnemonic == ZYDIS_MNEMONIC_RET && z->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR &&
	    z->operand_width == word(x) * 8) {
		emit_ret(x);
		return FLOW_END;
	}
	if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR && z->meta.branch_type != ZYDIS_BRANCH_TYPE_SHORT)
		return FLOW_NOT;
	if (imm && !(x->is64 || z->operand_width == 32))
		goto step;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		if (imm)
			jit_emit_goto(x, branch_target(x), x->off | BR_JMP);
		else if (!emit_jmp_indirect(x))
			goto step;
		return FLOW_END;
	case ZYDIS_MNEMONIC_CALL:
		if (imm)
			return emit_call_rel(x);
		if (!emit_call_indirect(x))
			goto step;
		return x->mode & JMODE_VERIFY ? FLOW_END : FLOW_NEXT;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
		if (z->address_width == 16 ||
		    !in_page(branch_target(x))) /* LOOP has counted when it faults */
			goto step;
		emit_count(x, z->mnemonic == ZYDIS_MNEMONIC_LOOP);
		return FLOW_NEXT;
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_RET:
		goto step;
	default:
		if (z->meta.category != ZYDIS_CATEGORY_COND_BR)
			goto step;
		emit_jcc(x);
		return FLOW_NEXT;
	}
step:
	jit_undo(x, &before);
	jit_emit_step(x);
	return FLOW_END;
}

/* ---- PUSH, POP, LEAVE, LEA, and what does nothing ---- */
static bool
emit_push(struct jx *x)
{
	struct emit *e = &x->e;
	const ZydisDecodedOperand *op = &x->op[0];
	unsigned w = x->is64, g = 16, h = H_RCX;
	struct em_at at;
	if (x->z->operand_width != word(x) * 8)
		return false;
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		g = soft_reg_offset(op->reg.value) / 8;
		if (g >= 16)
			return false; /* a segment register */
		h = jit_host[g];
	} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (!jit_operand(x, op, word(x), false, false, &at))
			return false;
		em_op_at(e, w, 0x8b, H_R10, &at);
		em_gs_store(e, H_R10, CPU_OFF(jit_tmp));
		x->in_r10 = x->in_rcx = 0;
	}
	jit_at_sp(x, -(int)word(x), word(x), true, true, &at);
	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		em_op_at(e, w, 0xc7, 0, &at);
		em_32(e, (uint32_t)op->imm.value.u);
	} else {
		if (g == 16) {
			em_gs_load(e, H_RCX, CPU_OFF(jit_tmp));
			x->in_rcx = 0;
		} else if (h == EM_NONE) {
			jit_copy_load(x, h = H_RCX, g);
		}
		em_op_at(e, w, 0x89, h, &at);
	}
	x->sp_off -= (int)word(x);
	return true;
}

static bool
emit_pop(struct jx *x)
{
	struct emit *e = &x->e;
	unsigned g =
	    x->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? soft_reg_offset(x->op[0].reg.value) / 8 : 16;
	struct em_at at;
	if (x->z->operand_width != word(x) * 8 || g >= 16 || g == X86_RSP)
		return false;
	jit_at_sp(x, 0, word(x), false, false, &at);
	if (jit_host[g] != EM_NONE) {
		em_op_at(e, x->is64, 0x8b, jit_host[g], &at);
	} else {
		em_op_at(e, x->is64, 0x8b, H_RCX, &at);
		em_gs_store(e, H_RCX, GPR_OFF(g));
		jit_copy_drop(x, g);
		jit_copy_is(x, H_RCX, g);
	}
	x->sp_off += (int)word(x);
	return true;
}

static bool
emit_leave(struct jx *x)
{
	struct emit *e = &x->e;
	unsigned rbp = jit_host[X86_RBP];
	struct em_at at;
	if (x->z->operand_width != word(x) * 8)
		return false;
	jit_at(x, X86_RBP, 0, word(x), false, false, &at);
	em_op_at(e, x->is64, 0x8b, H_RCX, &at);
	em_lea(e, x->is64, jit_host[X86_RSP], rbp, EM_NONE, 0, (int32_t)word(x));
	em_mov(e, x->is64, rbp, H_RCX);
	x->in_rcx = 0;
	return true;
}

static bool
emit_lea(struct jx *x)
{
	unsigned g = soft_reg_offset(x->op[0].reg.value) / 8,
		 h = jit_host[g] == EM_NONE ? H_R10 : jit_host[g];
	unsigned w = x->z->operand_width == 64 && x->z->address_width == 64;
	if (x->z->operand_width == 16 || x->z->address_width == 16 || !jit_emit_offset(x, &x->op[1], 0, h, w))
		return false;
	if (jit_host[g] == EM_NONE) {
		em_gs_store(&x->e, h, GPR_OFF(g));
		jit_copy_drop(x, g);
		jit_copy_is(x, h, g);
	}
	return true;
}

/* CDQE, CWDE: no RAX is needed for these. */
static bool
emit_extend_rax(struct jx *x)
{
	unsigned rax = jit_host[X86_RAX];
	if (x->z->mnemonic == ZYDIS_MNEMONIC_CDQE) {
		em_rr(&x->e, 1, 0x63, rax, rax); /* movsxd */
	} else {
		em_rex(&x->e, 0, rax, 0, rax);
		em_8(&x->e, 0x0f); /* movsx r32, r16 */
		em_8(&x->e, 0xbf);
		em_8(&x->e, 0xc0 | (rax & 7) << 3 | (rax & 7));
	}
	return true;
}

/* RDTSC (SDM vol. 2): the host's and an offset. */
static bool
emit_rdtsc(struct jx *x)
{
	struct emit *e = &x->e;
	unsigned rax = jit_host[X86_RAX];
	if (!(x->mode & JMODE_TSC) || (x->mode & JMODE_VERIFY))
		return false;
	jit_fl_host(x);
	x->fl_ax = false;
	em_8(e, 0x0f); /* rdtsc */
	em_8(e, 0x31);
	em_rorx(e, H_RCX, H_RDX, 32);
	em_lea(e, 1, rax, H_RAX, H_RCX, 0, 0);
	em_gs_load(e, H_RCX, CPU_OFF(jit_tsc));
	x->in_r10 = x->in_rcx = 0;
	em_lea(e, 1, rax, rax, H_RCX, 0, 0);
	em_rorx(e, H_RDX, rax, 32);
	em_mov(e, 0, H_RDX, H_RDX);
	em_mov(e, 0, rax, rax);
	return true;
}

enum jit_flow
jit_stack_insn(struct jx *x)
{
	struct jx_mark before;
	jit_mark(x, &before);
	bool (*emit)(struct jx * x);
	switch (x->z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		emit = emit_push;
		break;
	case ZYDIS_MNEMONIC_POP:
		emit = emit_pop;
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		emit = emit_leave;
		break;
	case ZYDIS_MNEMONIC_LEA:
		emit = emit_lea;
		break;
	case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CWDE:
		emit = emit_extend_rax;
		break;
	case ZYDIS_MNEMONIC_RDTSC:
		emit = emit_rdtsc;
		break;
	default:
		return FLOW_NOT;
	}
	jit_fl_forget(x);
	if (emit(x))
		return FLOW_NEXT;
	jit_undo(x, &before);
	return FLOW_NOT;
}

/* ---- the cold part ---- */
/* What leaves to a page offset until a unit is found there. `at`: the displacement that will lead to it. */
static void
emit_exit_stub(struct jx *x, uint8_t *at, int32_t target, uint32_t variant, bool backward)
{
	struct jit_exit *r = soft_code_alloc(x->cpu->vm->code, sizeof(*r));
	if (r == NULL) {
		x->failed = true;
		return;
	}
	*r = (struct jit_exit){.rel32 = at,
			       .stub = x->e.p,
			       .from = x->u,
			       .target = target,
			       .mode = (x->mode & ~JMODE_VARIANT) | variant,
			       .backward = backward};
	em_patch(at, x->e.p);
	if (variant & JMODE_EFLAGS)
		em_fl_save(&x->e);
	em_mov_imm64(&x->e, H_R11, (uintptr_t)r);
	em_jmp(&x->e, 0xe9, x->j->c.chain);
}

/* Behind a check that missed: R10 is the address less the tag, RCX the entry, AX the flags. */
static void
emit_slow(struct jx *x, const struct ool *o)
{
	struct emit *e = &x->e;
	em_gsi(e, 1, 0x2b, H_R10, H_RCX, jit_tag_off(x, o->what & SLOW_WRITE)); /* sub */
	em_mov_imm32(e, H_RCX, o->what);
	em_jmp(e, 0xe8, x->j->c.slow);
	if (o->one)
		em_lea(e, 1, H_R10, H_R10, H_RCX, 0, 0);
	em_jmp(e, 0xe9, o->back);
}

/* Behind a group's check that missed, as emit_slow(). */
static void
emit_group(struct jx *x, const struct ool *o)
{
	struct emit *e = &x->e;
	unsigned span = o->what & SLOW_SIZE;
	em_gsi(e, 1, 0x2b, H_R10, H_RCX, jit_tag_off(x, o->what & SLOW_WRITE)); /* sub */
	em_mov(e, 0, H_RCX, H_R10);
	em_alu_imm(e, 0, 4, H_RCX, 0xfff);
	em_alu_imm(e, 0, 7, H_RCX, 0x1000 - span);
	uint8_t *two_pages = em_jcc(e, 7, e->p);
	em_mov_imm32(e, H_RCX, o->what);
	em_jmp(e, 0xe8, x->j->c.group);
	if (!o->one)
		em_mov(e, 1, H_R11, H_R10);
	em_jcc(e, 5, o->back);
	em_patch(two_pages, e->p);
	align_rel32(x, 1);
	emit_exit_stub(x, em_jmp(e, 0xe9, e->p), (int32_t)o->off, JMODE_SPLIT, false);
}

void
jit_emit_ool(struct jx *x)
{
	struct emit *e = &x->e;
	for (unsigned n = 0; n < x->nool; n++) {
		const struct ool *o = &x->ool[n];
		em_patch(o->from, e->p);
		if (!o->ax && !o->host)
			jit_recipe(e, &o->rec);
		if (!o->ax && o->kind != OOL_EXIT)
			em_fl_save(e);
		switch (o->kind) {
		case OOL_SLOW:
			emit_slow(x, o);
			break;
		case OOL_GROUP:
			emit_group(x, o);
			break;
		case OOL_EXIT:
			emit_exit_stub(x, o->from, o->target, o->ax ? 0 : JMODE_EFLAGS,
				       o->target <= (int32_t)o->off);
			break;
		case OOL_FAR:
			emit_far(x, o->target, o->br);
			break;
		case OOL_INDIRECT:
			em_gs_load(e, H_R10, CPU_OFF(jit_tmp));
			emit_lookup(x, o->br);
			break;
		case OOL_LOOKUP:
			em_gs_imm32(e, CPU_OFF(jit_br), o->br);
			em_jmp(e, 0xe9, x->j->c.lookup);
			break;
		case OOL_STEP:
			em_mov_imm32(e, H_R11, o->off);
			em_jmp(e, 0xe9, x->j->c.step);
			break;
		case OOL_POLL:
			em_mov_imm32(e, H_R11, x->start_off);
			em_jmp(e, 0xe9, x->j->c.leave);
			break;
		}
	}
}
