/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which handler runs an instruction: one table by mnemonic, and the rules that it names. A rule
 * fills in the operands and chooses from the handler tables of ops.h by form and size.
 */
#include "engine/soft/decode.h"
#include "engine/soft/ops.h"

static bool
is_mem(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static bool
is_reg(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static bool
is_imm(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static unsigned
op_bytes(const struct dctx *d)
{
	return d->z->operand_width / 8;
}

/* Fill dst/src/imm from up to two visible operands, memory where it is. */
static void
two_operands(struct dctx *d)
{
	struct soft_insn *o = d->o;
	for (unsigned n = 0; n < 2 && n < d->z->operand_count; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		if (is_mem(op))
			soft_decode_mem(d, op);
		else if (is_reg(op) && n == 0)
			o->dst = (uint8_t)soft_reg_offset(op->reg.value);
		else if (is_reg(op))
			o->src = (uint8_t)soft_reg_offset(op->reg.value);
		else if (is_imm(op))
			o->imm = op->imm.value.s;
	}
}

static bool
locked(const struct dctx *d)
{
	return d->z->attributes & ZYDIS_ATTRIB_HAS_LOCK;
}

static enum op_form
form_of(const struct dctx *d)
{
	if (is_mem(&d->op[0])) {
		if (is_imm(&d->op[1]))
			return locked(d) ? FORM_LMI : FORM_MI;
		return locked(d) ? FORM_LMR : FORM_MR;
	}
	return is_mem(&d->op[1]) ? FORM_RM : is_imm(&d->op[1]) ? FORM_RI : FORM_RR;
}

#define RULE(name) static enum soft_decode name(struct dctx *d, unsigned arg)
#define FN(d, f)   ((d)->o->fn = (f))

RULE(dec_alu)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	if (arg == ALU_TEST && is_mem(&d->op[1])) { /* TEST r, m is TEST m, r */
		d->o->src = d->o->dst;
		FN(d, soft_op_alu[arg][FORM_MR][size_log2(d->o->size)]);
		return DECODE_OK;
	}
	FN(d, soft_op_alu[arg][form_of(d)][size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_unary)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	FN(d, soft_op_unary[arg][is_mem(&d->op[0]) ? (locked(d) ? 2 : 1) : 0][size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_shift)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	unsigned f = (is_mem(&d->op[0]) ? 2 : 0) + (is_reg(&d->op[1]) ? 1 : 0);
	FN(d, soft_op_shift[arg][f][size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_bt)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	unsigned f = is_reg(&d->op[1]) ? 1 : 0;
	if (f)
		d->o->flags |= IF_REG2;
	if (is_mem(&d->op[0]))
		f += locked(d) ? 4 : 2;
	FN(d, soft_op_bt[arg][f][size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_mul)
{
	unsigned n = size_log2(op_bytes(d));
	d->o->size = (uint8_t)op_bytes(d);
	if (arg == 1 && d->z->operand_count_visible >= 2) { /* IMUL r, r/m[, imm] */
		bool three = d->z->operand_count_visible == 3;
		two_operands(d);
		if (three)
			d->o->imm = d->op[2].imm.value.s;
		FN(d, soft_op_imul2[(three ? 2 : 0) + (is_mem(&d->op[1]) ? 1 : 0)][n]);
		return DECODE_OK;
	}
	if (is_mem(&d->op[0]))
		soft_decode_mem(d, &d->op[0]);
	else
		d->o->dst = (uint8_t)soft_reg_offset(d->op[0].reg.value);
	FN(d, soft_op_mul[arg][is_mem(&d->op[0]) ? 1 : 0][n]);
	return DECODE_OK;
}

static bool
reg_between(const ZydisDecodedOperand *op, ZydisRegister a, ZydisRegister b)
{
	return is_reg(op) && op->reg.value >= a && op->reg.value <= b;
}

static enum soft_decode
dec_mov_special(struct dctx *d)
{
	const ZydisDecodedOperand *a = &d->op[0], *b = &d->op[1];
	struct soft_insn *o = d->o;
	if (reg_between(a, ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15)) {
		o->dst = (uint8_t)(a->reg.value - ZYDIS_REGISTER_CR0);
		o->src = (uint8_t)soft_reg_offset(b->reg.value);
		FN(d, op_mov_to_cr);
		return DECODE_END;
	}
	if (reg_between(b, ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15)) {
		o->src = (uint8_t)(b->reg.value - ZYDIS_REGISTER_CR0);
		o->dst = (uint8_t)soft_reg_offset(a->reg.value);
		FN(d, op_mov_from_cr);
		return DECODE_OK;
	}
	if (reg_between(a, ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15)) {
		o->dst = (uint8_t)(a->reg.value - ZYDIS_REGISTER_DR0);
		o->src = (uint8_t)soft_reg_offset(b->reg.value);
		FN(d, op_mov_to_dr);
		return DECODE_END;
	}
	if (reg_between(b, ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15)) {
		o->src = (uint8_t)(b->reg.value - ZYDIS_REGISTER_DR0);
		o->dst = (uint8_t)soft_reg_offset(a->reg.value);
		FN(d, op_mov_from_dr);
		return DECODE_OK;
	}
	if (reg_between(a, ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS)) {
		o->dst = (uint8_t)soft_seg_number(a->reg.value);
		if (is_mem(b))
			soft_decode_mem(d, b);
		else
			o->src = (uint8_t)soft_reg_offset(b->reg.value);
		FN(d, op_mov_to_seg);
		return DECODE_END;
	}
	o->src = (uint8_t)soft_seg_number(b->reg.value);
	if (is_mem(a))
		soft_decode_mem(d, a);
	else
		o->dst = (uint8_t)soft_reg_offset(a->reg.value);
	FN(d, op_mov_from_seg);
	return DECODE_OK;
}

static bool
is_special_reg(const ZydisDecodedOperand *op)
{
	return reg_between(op, ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15) ||
	       reg_between(op, ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15) ||
	       reg_between(op, ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS);
}

RULE(dec_mov)
{
	(void)arg;
	d->o->size = (uint8_t)op_bytes(d);
	if (is_special_reg(&d->op[0]) || is_special_reg(&d->op[1]))
		return dec_mov_special(d);
	if (d->z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d->z->opcode >= 0xa0 && d->z->opcode <= 0xa3) {
		const ZydisDecodedOperand *m = is_mem(&d->op[0]) ? &d->op[0] : &d->op[1];
		soft_decode_mem(d, m);
		d->o->imm = m->mem.disp.value;
		d->o->imm2 = d->z->opcode >= 0xa2;
		FN(d, op_mov_moffs);
		return DECODE_OK;
	}
	two_operands(d);
	if (is_imm(&d->op[1])) {
		d->o->imm_bytes = d->z->raw.imm[0].size / 8;
		d->o->imm_signed = d->z->raw.imm[0].is_signed;
	}
	FN(d, soft_op_mov[form_of(d)][size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_movx)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	FN(d, soft_op_movx[arg][is_mem(&d->op[1]) ? 1 : 0][size_log2(d->op[0].size / 8)]
			  [size_log2(d->op[1].size / 8)]);
	return DECODE_OK;
}

RULE(dec_lea)
{
	(void)arg;
	two_operands(d);
	d->o->flags &= (uint16_t)~IF_EASLOW;
	d->o->size = (uint8_t)op_bytes(d);
	d->o->addrsize = d->z->address_width / 8;
	FN(d, soft_op_lea[size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_xchg)
{
	(void)arg;
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	if (is_mem(&d->op[1])) { /* memory first */
		d->o->src = d->o->dst;
	}
	FN(d, soft_op_xchg[is_mem(&d->op[0]) || is_mem(&d->op[1]) ? 1 : 0][size_log2(d->o->size)]);
	return DECODE_OK;
}

/* XADD, CMPXCHG */
RULE(dec_xadd)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	unsigned f = is_mem(&d->op[0]) ? (locked(d) ? 2 : 1) : 0;
	FN(d, arg ? soft_op_cmpxchg[f][size_log2(d->o->size)] : soft_op_xadd[f][size_log2(d->o->size)]);
	return DECODE_OK;
}

/* Handlers with one memory operand (or none) and a number in imm2. */
static enum soft_decode
simple(struct dctx *d, soft_op_fn fn, unsigned arg, enum soft_decode end)
{
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	d->o->imm2 = (uint8_t)arg;
	d->o->addrsize = d->z->address_width / 8;
	FN(d, fn);
	return end;
}

/* ---- control flow ---- */
static void
branch_target(struct dctx *d)
{
	d->o->imm = (int64_t)d->off + d->z->length + d->op[0].imm.value.s;
}

RULE(dec_jcc)
{
	(void)arg;
	branch_target(d);
	d->o->size = (uint8_t)op_bytes(d);
	d->o->cc = d->z->opcode & 15;
	FN(d, d->o->size == 2 ? op_branch16 : soft_op_jcc[d->o->cc]);
	return DECODE_END;
}

/* AMD: a REP prefix replaces the condition of LOOPcc. */
static unsigned
loop_condition(const struct dctx *d, unsigned arg)
{
	for (unsigned n = d->z->raw.prefix_count; n > 0 && arg < 2 && x86_cpuid_is_amd(d->cpu->cpuid); n--) {
		unsigned v = d->z->raw.prefixes[n - 1].value;
		if (v == 0xf2 || v == 0xf3)
			return v == 0xf3;
	}
	return arg;
}

RULE(dec_loop)
{
	arg = loop_condition(d, arg);
	branch_target(d);
	d->o->size = (uint8_t)op_bytes(d);
	d->o->addrsize = d->z->address_width / 8;
	d->o->imm2 = (uint8_t)arg; /* 0 loopne, 1 loope, 2 loop, 3 jcxz */
	d->o->cc = 16;
	FN(d, d->o->size == 2 ? op_loop16 : arg == 3 ? op_jcxz : op_loop);
	return DECODE_END;
}

static bool
is_far(const struct dctx *d)
{
	return d->z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

RULE(dec_jmp_call)
{
	bool call = arg;
	struct soft_insn *o = d->o;
	o->size = (uint8_t)op_bytes(d);
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
		o->imm = d->op[0].ptr.offset;
		o->disp = d->op[0].ptr.segment;
		FN(d, call ? op_call_far_i : op_jmp_far_i);
	} else if (is_imm(&d->op[0])) {
		branch_target(d);
		o->cc = 16;
		o->seg = X86_SS;
		if (call)
			FN(d, o->size == 8 ? op_call_rel64 : op_call_rel);
		else
			FN(d, o->size == 2 ? op_branch16 : op_jmp_rel);
	} else if (is_mem(&d->op[0])) {
		soft_decode_mem(d, &d->op[0]);
		if (is_far(d))
			FN(d, call ? op_call_far_m : op_jmp_far_m);
		else
			FN(d, call ? op_call_m : op_jmp_m);
	} else {
		o->dst = (uint8_t)soft_reg_offset(d->op[0].reg.value);
		o->seg = X86_SS;
		FN(d, call ? op_call_r : op_jmp_r);
	}
	return DECODE_END;
}

RULE(dec_ret)
{
	(void)arg;
	d->o->size = (uint8_t)op_bytes(d);
	d->o->seg = X86_SS;
	if (d->z->operand_count_visible > 0 && is_imm(&d->op[0]))
		d->o->imm = (uint16_t)d->op[0].imm.value.u;
	if (is_far(d))
		FN(d, op_ret_far);
	else
		FN(d, d->o->size == 8 && (d->mode & MODE_CS) == MODE_64 ? op_ret64 : op_ret);
	return DECODE_END;
}

RULE(dec_end)
{
	static const soft_op_fn fns[] = {op_iret, op_syscall, op_sysret, op_sysenter, op_sysexit,
					 op_int,  op_int3,    op_int1,	 op_ud};
	if (d->z->operand_count_visible > 0 && is_imm(&d->op[0]))
		d->o->imm = d->op[0].imm.value.s;
	d->o->size = (uint8_t)op_bytes(d);
	if (d->z->mnemonic == ZYDIS_MNEMONIC_IRETQ)
		d->o->size = 8;
	FN(d, fns[arg]);
	return DECODE_END;
}

/* ---- stack ---- */
RULE(dec_push_pop)
{
	struct soft_insn *o = d->o;
	const ZydisDecodedOperand *op = &d->op[0];
	bool pop = arg, is64 = (d->mode & MODE_CS) == MODE_64;
	o->size = (uint8_t)op_bytes(d);
	o->seg = X86_SS;
	if (reg_between(op, ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS)) {
		o->dst = (uint8_t)soft_seg_number(op->reg.value);
		FN(d, pop ? op_pop_seg : op_push_seg);
		return pop ? DECODE_END : DECODE_OK;
	}
	if (is_mem(op)) {
		soft_decode_mem(d, op);
		o->imm2 = 2;
	} else if (is_imm(op)) {
		o->imm = op->imm.value.s;
		o->imm2 = 1;
	} else {
		o->dst = (uint8_t)soft_reg_offset(op->reg.value);
		if (is64 && o->size == 8) {
			FN(d, pop ? op_pop64_r : op_push64_r);
			return DECODE_OK;
		}
	}
	FN(d, pop ? op_pop : op_push);
	return DECODE_OK;
}

RULE(dec_stack)
{
	static const soft_op_fn fns[] = {op_pushf, op_popf, op_pusha, op_popa, op_enter, op_leave};
	struct soft_insn *o = d->o;
	o->size = (uint8_t)op_bytes(d);
	o->seg = X86_SS;
	if (arg == 4) {
		o->imm = (uint16_t)d->op[0].imm.value.u;
		o->imm2 = (uint8_t)d->op[1].imm.value.u;
	}
	FN(d, fns[arg]);
	if (arg == 5 && (d->mode & MODE_CS) == MODE_64 && o->size == 8)
		FN(d, op_leave64);
	return DECODE_OK;
}

/* ---- strings ---- */
RULE(dec_string)
{
	static const soft_op_fn fns[] = {op_movs, op_stos, op_lods, op_cmps, op_scas, op_ins, op_outs};
	struct soft_insn *o = d->o;
	if (d->z->meta.category != ZYDIS_CATEGORY_STRINGOP &&
	    d->z->meta.category != ZYDIS_CATEGORY_IOSTRINGOP)
		return soft_stub_decode(d); /* MOVSD and CMPSD are SSE2 names as well */
	o->size = (uint8_t)op_bytes(d);
	o->addrsize = d->z->address_width / 8;
	soft_decode_segment(d, X86_DS);
	for (unsigned n = 0; n < d->z->operand_count; n++) {
		if (is_mem(&d->op[n]) &&
		    (d->op[n].mem.base == ZYDIS_REGISTER_RSI || d->op[n].mem.base == ZYDIS_REGISTER_ESI ||
		     d->op[n].mem.base == ZYDIS_REGISTER_SI))
			soft_decode_segment(d, soft_seg_number(d->op[n].mem.segment));
		if ((arg == 5 || arg == 6) && is_mem(&d->op[n]))
			o->size = (uint8_t)(d->op[n].size / 8);
	}
	if (d->z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		o->flags |= IF_REP;
	if (d->z->attributes & ZYDIS_ATTRIB_HAS_REPNE)
		o->flags |= IF_REPNE;
	FN(d, fns[arg]);
	return DECODE_OK;
}

/* ---- single handlers: {rule, handler index} ---- */
enum {
	S_NOP,
	S_PAUSE,
	S_BSWAP,
	S_XLAT,
	S_LAHF,
	S_SAHF,
	S_CX8,
	S_SALC,
	S_FENCE,
	S_MOVNTI,
	S_INTO,
	S_BOUND,
	S_CLI,
	S_STI,
	S_HLT,
	S_CPUID,
	S_RDTSC,
	S_RDTSCP,
	S_RDPMC,
	S_RDPID,
	S_RDMSR,
	S_WRMSR,
	S_CLTS,
	S_LMSW,
	S_SMSW,
	S_INVLPG,
	S_INVPCID,
	S_WBINVD,
	S_SWAPGS,
	S_MONITOR,
	S_MWAIT,
	S_ARPL,
	S_XGETBV,
	S_XSETBV,
	S_LDMXCSR,
	S_STMXCSR,
	S_VMCALL,
	S_VMMCALL,
	S_CX16,
	S_COUNT,
};
static const struct {
	soft_op_fn fn;
	bool end;
} singles[S_COUNT] = {
    [S_NOP] = {op_nop, false},		[S_PAUSE] = {op_pause, false},
    [S_BSWAP] = {op_bswap, false},	[S_XLAT] = {op_xlat, false},
    [S_LAHF] = {op_lahf, false},	[S_SAHF] = {op_sahf, false},
    [S_CX8] = {op_cmpxchg8b, false},	[S_SALC] = {op_salc, false},
    [S_FENCE] = {op_fence, false},	[S_MOVNTI] = {op_movnti, false},
    [S_INTO] = {op_into, false},	[S_BOUND] = {op_bound, false},
    [S_CLI] = {op_cli, false},		[S_STI] = {op_sti, false},
    [S_HLT] = {op_hlt, true},		[S_CPUID] = {op_cpuid, false},
    [S_RDTSC] = {op_rdtsc, false},	[S_RDTSCP] = {op_rdtsc, false},
    [S_RDPMC] = {op_rdpmc, false},	[S_RDPID] = {op_rdpid, false},
    [S_RDMSR] = {op_rdmsr, false},	[S_WRMSR] = {op_wrmsr, true},
    [S_CLTS] = {op_clts, true},		[S_LMSW] = {op_lmsw, true},
    [S_SMSW] = {op_smsw, false},	[S_INVLPG] = {op_invlpg, true},
    [S_INVPCID] = {op_invpcid, true},	[S_WBINVD] = {op_wbinvd, false},
    [S_SWAPGS] = {op_swapgs, false},	[S_MONITOR] = {op_monitor, false},
    [S_MWAIT] = {op_mwait, true},	[S_ARPL] = {op_arpl, false},
    [S_XGETBV] = {op_xgetbv, false},	[S_XSETBV] = {op_xsetbv, true},
    [S_LDMXCSR] = {op_ldmxcsr, false},	[S_STMXCSR] = {op_stmxcsr, false},
    [S_VMCALL] = {op_hypercall, false}, [S_VMMCALL] = {op_hypercall, false},
    [S_CX16] = {op_cmpxchg8b, false},
};

/* F3 90 with REX.B is XCHG R8, rAX after all. */
static enum soft_decode
dec_xchg_r8(struct dctx *d)
{
	d->o->dst = X86_R8 * 8;
	d->o->src = X86_RAX * 8;
	d->o->size = d->z->raw.rex.W ? 8 : d->z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE ? 2 : 4;
	FN(d, soft_op_xchg[0][size_log2(d->o->size)]);
	return DECODE_OK;
}

RULE(dec_single)
{
	if (arg == S_PAUSE && (d->mode & MODE_CS) == MODE_64 && d->z->raw.rex.B)
		return dec_xchg_r8(d);
	enum soft_decode r = simple(d, singles[arg].fn, 0, singles[arg].end ? DECODE_END : DECODE_OK);
	if (arg == S_RDTSCP || arg == S_VMMCALL)
		d->o->imm2 = 1;
	if (arg == S_CX8)
		d->o->size = 8;
	if (arg == S_CX16)
		d->o->size = 16;
	if (arg == S_XLAT)
		for (unsigned n = 0; n < d->z->operand_count; n++)
			if (is_mem(&d->op[n]))
				soft_decode_mem(d, &d->op[n]);
	if (arg == S_BOUND) {
		d->o->src = d->o->dst;
	}
	return r;
}

/* Families whose handler takes a number. */
RULE(dec_flag)
{
	return simple(d, op_flag, arg, DECODE_OK);
}
RULE(dec_cbw)
{
	(void)arg;
	return simple(d, op_cbw, 0, DECODE_OK);
}
RULE(dec_cwd)
{
	(void)arg;
	return simple(d, op_cwd, 0, DECODE_OK);
}
RULE(dec_rdrand)
{
	return simple(d, op_rdrand, arg, DECODE_OK);
}
RULE(dec_pkru)
{
	return simple(d, op_pkru, arg, arg ? DECODE_END : DECODE_OK);
}
RULE(dec_sgdt)
{
	return simple(d, op_sgdt, arg, DECODE_OK);
}
RULE(dec_lgdt)
{
	return simple(d, op_lgdt, arg, DECODE_OK);
}
RULE(dec_sldt)
{
	return simple(d, op_sldt, arg, DECODE_OK);
}
RULE(dec_lldt)
{
	return simple(d, op_lldt, arg, DECODE_OK);
}
RULE(dec_lar)
{
	return simple(d, op_lar, arg, DECODE_OK);
}
RULE(dec_verr)
{
	return simple(d, op_verr, arg, DECODE_OK);
}
RULE(dec_fsgs)
{
	return simple(d, op_fsgsbase, arg, DECODE_OK);
}
RULE(dec_stac)
{
	return simple(d, op_stac, arg, DECODE_OK);
}
RULE(dec_cacheline)
{
	return simple(d, op_cacheline, arg, DECODE_OK);
}
RULE(dec_lseg)
{
	return simple(d, op_lseg, arg, DECODE_END);
}
RULE(dec_fxsave)
{
	return simple(d, op_fxsave, arg, DECODE_OK);
}
RULE(dec_fxrstor)
{
	return simple(d, op_fxrstor, arg, DECODE_OK);
}
RULE(dec_xsave)
{
	return simple(d, op_xsave, arg, DECODE_OK);
}
RULE(dec_xrstor)
{
	return simple(d, op_xrstor, arg, DECODE_OK);
}

RULE(dec_bcd)
{
	simple(d, op_bcd, arg, DECODE_OK);
	if (arg >= 4)
		d->o->imm = d->op[0].imm.value.s;
	return DECODE_OK;
}

RULE(dec_setcc)
{
	(void)arg;
	simple(d, soft_op_setcc[d->z->opcode & 15], 0, DECODE_OK);
	return DECODE_OK;
}

RULE(dec_cmov)
{
	(void)arg;
	two_operands(d);
	d->o->size = (uint8_t)op_bytes(d);
	FN(d, soft_op_cmov[d->z->opcode & 15][is_mem(&d->op[1]) ? 1 : 0][size_log2(d->o->size)]);
	return DECODE_OK;
}

/* IN, OUT: imm2 = port in DX; otherwise imm. */
RULE(dec_inout)
{
	const ZydisDecodedOperand *port = arg ? &d->op[0] : &d->op[1], *acc = arg ? &d->op[1] : &d->op[0];
	d->o->size = (uint8_t)(acc->size / 8);
	d->o->imm2 = is_reg(port);
	d->o->imm = is_imm(port) ? (uint8_t)port->imm.value.u : 0;
	FN(d, arg ? op_out : op_in);
	return DECODE_OK;
}

/* PREFETCHx and the multi-byte NOPs touch nothing. */
RULE(dec_nop)
{
	(void)arg;
	/* 0F 0D is PREFETCH: memory only, on AMD; Intel has it as a NOP with registers too */
	bool prefetch_reg =
	    d->z->opcode_map == ZYDIS_OPCODE_MAP_0F && d->z->opcode == 0x0d && d->z->raw.modrm.mod == 3;
	FN(d, prefetch_reg && x86_cpuid_is_amd(d->cpu->cpuid) ? op_ud : op_nop);
	return DECODE_OK;
}

#define M(x) [ZYDIS_MNEMONIC_##x]
const struct soft_rule soft_rules[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    M(ADD) = {dec_alu, ALU_ADD},
    M(OR) = {dec_alu, ALU_OR},
    M(ADC) = {dec_alu, ALU_ADC},
    M(SBB) = {dec_alu, ALU_SBB},
    M(AND) = {dec_alu, ALU_AND},
    M(SUB) = {dec_alu, ALU_SUB},
    M(XOR) = {dec_alu, ALU_XOR},
    M(CMP) = {dec_alu, ALU_CMP},
    M(TEST) = {dec_alu, ALU_TEST},
    M(INC) = {dec_unary, UN_INC},
    M(DEC) = {dec_unary, UN_DEC},
    M(NOT) = {dec_unary, UN_NOT},
    M(NEG) = {dec_unary, UN_NEG},
    M(ROL) = {dec_shift, SH_ROL},
    M(ROR) = {dec_shift, SH_ROR},
    M(RCL) = {dec_shift, SH_RCL},
    M(RCR) = {dec_shift, SH_RCR},
    M(SHL) = {dec_shift, SH_SHL},
    M(SHR) = {dec_shift, SH_SHR},
    M(SAR) = {dec_shift, SH_SAR},
    M(BT) = {dec_bt, BT_BT},
    M(BTS) = {dec_bt, BT_BTS},
    M(BTR) = {dec_bt, BT_BTR},
    M(BTC) = {dec_bt, BT_BTC},
    M(MUL) = {dec_mul, 0},
    M(IMUL) = {dec_mul, 1},
    M(DIV) = {dec_mul, 2},
    M(IDIV) = {dec_mul, 3},
    M(MOV) = {dec_mov, 0},
    M(MOVZX) = {dec_movx, 0},
    M(MOVSX) = {dec_movx, 1},
    M(MOVSXD) = {dec_movx, 1},
    M(LEA) = {dec_lea, 0},
    M(XCHG) = {dec_xchg, 0},
    M(XADD) = {dec_xadd, 0},
    M(CMPXCHG) = {dec_xadd, 1},
    M(CMPXCHG8B) = {dec_single, S_CX8},
    M(CMPXCHG16B) = {dec_single, S_CX16},

    M(JO) = {dec_jcc, 0},
    M(JNO) = {dec_jcc, 0},
    M(JB) = {dec_jcc, 0},
    M(JNB) = {dec_jcc, 0},
    M(JZ) = {dec_jcc, 0},
    M(JNZ) = {dec_jcc, 0},
    M(JBE) = {dec_jcc, 0},
    M(JNBE) = {dec_jcc, 0},
    M(JS) = {dec_jcc, 0},
    M(JNS) = {dec_jcc, 0},
    M(JP) = {dec_jcc, 0},
    M(JNP) = {dec_jcc, 0},
    M(JL) = {dec_jcc, 0},
    M(JNL) = {dec_jcc, 0},
    M(JLE) = {dec_jcc, 0},
    M(JNLE) = {dec_jcc, 0},
    M(LOOPNE) = {dec_loop, 0},
    M(LOOPE) = {dec_loop, 1},
    M(LOOP) = {dec_loop, 2},
    M(JCXZ) = {dec_loop, 3},
    M(JECXZ) = {dec_loop, 3},
    M(JRCXZ) = {dec_loop, 3},
    M(JMP) = {dec_jmp_call, 0},
    M(CALL) = {dec_jmp_call, 1},
    M(RET) = {dec_ret, 0},
    M(IRET) = {dec_end, 0},
    M(IRETD) = {dec_end, 0},
    M(IRETQ) = {dec_end, 0},
    M(SYSCALL) = {dec_end, 1},
    M(SYSRET) = {dec_end, 2},
    M(SYSENTER) = {dec_end, 3},
    M(SYSEXIT) = {dec_end, 4},
    M(INT) = {dec_end, 5},
    M(INT3) = {dec_end, 6},
    M(INT1) = {dec_end, 7},
    M(UD0) = {dec_end, 8},
    M(UD1) = {dec_end, 8},
    M(UD2) = {dec_end, 8},
    M(INTO) = {dec_single, S_INTO},
    M(BOUND) = {dec_single, S_BOUND},

    M(SETO) = {dec_setcc, 0},
    M(SETNO) = {dec_setcc, 0},
    M(SETB) = {dec_setcc, 0},
    M(SETNB) = {dec_setcc, 0},
    M(SETZ) = {dec_setcc, 0},
    M(SETNZ) = {dec_setcc, 0},
    M(SETBE) = {dec_setcc, 0},
    M(SETNBE) = {dec_setcc, 0},
    M(SETS) = {dec_setcc, 0},
    M(SETNS) = {dec_setcc, 0},
    M(SETP) = {dec_setcc, 0},
    M(SETNP) = {dec_setcc, 0},
    M(SETL) = {dec_setcc, 0},
    M(SETNL) = {dec_setcc, 0},
    M(SETLE) = {dec_setcc, 0},
    M(SETNLE) = {dec_setcc, 0},
    M(CMOVO) = {dec_cmov, 0},
    M(CMOVNO) = {dec_cmov, 0},
    M(CMOVB) = {dec_cmov, 0},
    M(CMOVNB) = {dec_cmov, 0},
    M(CMOVZ) = {dec_cmov, 0},
    M(CMOVNZ) = {dec_cmov, 0},
    M(CMOVBE) = {dec_cmov, 0},
    M(CMOVNBE) = {dec_cmov, 0},
    M(CMOVS) = {dec_cmov, 0},
    M(CMOVNS) = {dec_cmov, 0},
    M(CMOVP) = {dec_cmov, 0},
    M(CMOVNP) = {dec_cmov, 0},
    M(CMOVL) = {dec_cmov, 0},
    M(CMOVNL) = {dec_cmov, 0},
    M(CMOVLE) = {dec_cmov, 0},
    M(CMOVNLE) = {dec_cmov, 0},

    M(PUSH) = {dec_push_pop, 0},
    M(POP) = {dec_push_pop, 1},
    M(PUSHF) = {dec_stack, 0},
    M(PUSHFD) = {dec_stack, 0},
    M(PUSHFQ) = {dec_stack, 0},
    M(POPF) = {dec_stack, 1},
    M(POPFD) = {dec_stack, 1},
    M(POPFQ) = {dec_stack, 1},
    M(PUSHA) = {dec_stack, 2},
    M(PUSHAD) = {dec_stack, 2},
    M(POPA) = {dec_stack, 3},
    M(POPAD) = {dec_stack, 3},
    M(ENTER) = {dec_stack, 4},
    M(LEAVE) = {dec_stack, 5},

    M(MOVSB) = {dec_string, 0},
    M(MOVSW) = {dec_string, 0},
    M(MOVSD) = {dec_string, 0},
    M(MOVSQ) = {dec_string, 0},
    M(STOSB) = {dec_string, 1},
    M(STOSW) = {dec_string, 1},
    M(STOSD) = {dec_string, 1},
    M(STOSQ) = {dec_string, 1},
    M(LODSB) = {dec_string, 2},
    M(LODSW) = {dec_string, 2},
    M(LODSD) = {dec_string, 2},
    M(LODSQ) = {dec_string, 2},
    M(CMPSB) = {dec_string, 3},
    M(CMPSW) = {dec_string, 3},
    M(CMPSD) = {dec_string, 3},
    M(CMPSQ) = {dec_string, 3},
    M(SCASB) = {dec_string, 4},
    M(SCASW) = {dec_string, 4},
    M(SCASD) = {dec_string, 4},
    M(SCASQ) = {dec_string, 4},
    M(INSB) = {dec_string, 5},
    M(INSW) = {dec_string, 5},
    M(INSD) = {dec_string, 5},
    M(OUTSB) = {dec_string, 6},
    M(OUTSW) = {dec_string, 6},
    M(OUTSD) = {dec_string, 6},

    M(NOP) = {dec_nop, 0},
    M(PREFETCHT0) = {dec_nop, 0},
    M(PREFETCHT1) = {dec_nop, 0},
    M(PREFETCHT2) = {dec_nop, 0},
    M(PREFETCHNTA) = {dec_nop, 0},
    M(PREFETCH) = {dec_nop, 0},
    M(PREFETCHW) = {dec_nop, 0},
    M(PREFETCHWT1) = {dec_nop, 0},
    M(ENDBR64) = {dec_nop, 0},
    M(ENDBR32) = {dec_nop, 0},
    M(CLDEMOTE) = {dec_nop, 0},
    M(PAUSE) = {dec_single, S_PAUSE},
    M(BSWAP) = {dec_single, S_BSWAP},
    M(CBW) = {dec_cbw, 0},
    M(CWDE) = {dec_cbw, 0},
    M(CDQE) = {dec_cbw, 0},
    M(CWD) = {dec_cwd, 0},
    M(CDQ) = {dec_cwd, 0},
    M(CQO) = {dec_cwd, 0},
    M(XLAT) = {dec_single, S_XLAT},
    M(LAHF) = {dec_single, S_LAHF},
    M(SAHF) = {dec_single, S_SAHF},
    M(CLC) = {dec_flag, 0},
    M(STC) = {dec_flag, 1},
    M(CMC) = {dec_flag, 2},
    M(CLD) = {dec_flag, 3},
    M(STD) = {dec_flag, 4},
    M(SALC) = {dec_single, S_SALC},
    M(DAA) = {dec_bcd, 0},
    M(DAS) = {dec_bcd, 1},
    M(AAA) = {dec_bcd, 2},
    M(AAS) = {dec_bcd, 3},
    M(AAM) = {dec_bcd, 4},
    M(AAD) = {dec_bcd, 5},
    M(MFENCE) = {dec_single, S_FENCE},
    M(LFENCE) = {dec_single, S_FENCE},
    M(SFENCE) = {dec_single, S_FENCE},
    M(SERIALIZE) = {dec_single, S_FENCE},
    M(MOVNTI) = {dec_single, S_MOVNTI},
    M(RDRAND) = {dec_rdrand, 0},
    M(RDSEED) = {dec_rdrand, 1},
    M(RDPKRU) = {dec_pkru, 0},
    M(WRPKRU) = {dec_pkru, 1},

    M(IN) = {dec_inout, 0},
    M(OUT) = {dec_inout, 1},
    M(CLI) = {dec_single, S_CLI},
    M(STI) = {dec_single, S_STI},
    M(HLT) = {dec_single, S_HLT},
    M(CPUID) = {dec_single, S_CPUID},
    M(RDTSC) = {dec_single, S_RDTSC},
    M(RDTSCP) = {dec_single, S_RDTSCP},
    M(RDPMC) = {dec_single, S_RDPMC},
    M(RDPID) = {dec_single, S_RDPID},
    M(RDMSR) = {dec_single, S_RDMSR},
    M(WRMSR) = {dec_single, S_WRMSR},
    M(CLTS) = {dec_single, S_CLTS},
    M(LMSW) = {dec_single, S_LMSW},
    M(SMSW) = {dec_single, S_SMSW},
    M(INVLPG) = {dec_single, S_INVLPG},
    M(INVPCID) = {dec_single, S_INVPCID},
    M(WBINVD) = {dec_single, S_WBINVD},
    M(INVD) = {dec_single, S_WBINVD},
    M(SWAPGS) = {dec_single, S_SWAPGS},
    M(MONITOR) = {dec_single, S_MONITOR},
    M(MWAIT) = {dec_single, S_MWAIT},
    M(ARPL) = {dec_single, S_ARPL},
    M(VMCALL) = {dec_single, S_VMCALL},
    M(VMMCALL) = {dec_single, S_VMMCALL},
    M(SGDT) = {dec_sgdt, 0},
    M(SIDT) = {dec_sgdt, 1},
    M(LGDT) = {dec_lgdt, 0},
    M(LIDT) = {dec_lgdt, 1},
    M(SLDT) = {dec_sldt, 0},
    M(STR) = {dec_sldt, 1},
    M(LLDT) = {dec_lldt, 0},
    M(LTR) = {dec_lldt, 1},
    M(LAR) = {dec_lar, 0},
    M(LSL) = {dec_lar, 1},
    M(VERR) = {dec_verr, 0},
    M(VERW) = {dec_verr, 1},
    M(RDFSBASE) = {dec_fsgs, 0},
    M(RDGSBASE) = {dec_fsgs, 1},
    M(WRFSBASE) = {dec_fsgs, 2},
    M(WRGSBASE) = {dec_fsgs, 3},
    M(CLAC) = {dec_stac, 0},
    M(STAC) = {dec_stac, 1},
    M(CLFLUSH) = {dec_cacheline, 0},
    M(CLFLUSHOPT) = {dec_cacheline, 0},
    M(CLWB) = {dec_cacheline, 0},
    M(CLZERO) = {dec_cacheline, 1},
    M(LES) = {dec_lseg, X86_ES},
    M(LDS) = {dec_lseg, X86_DS},
    M(LSS) = {dec_lseg, X86_SS},
    M(LFS) = {dec_lseg, X86_FS},
    M(LGS) = {dec_lseg, X86_GS},

    M(FXSAVE) = {dec_fxsave, 0},
    M(FXSAVE64) = {dec_fxsave, 1},
    M(FXRSTOR) = {dec_fxrstor, 0},
    M(FXRSTOR64) = {dec_fxrstor, 1},
    M(XSAVE) = {dec_xsave, XS_XSAVE},
    M(XSAVE64) = {dec_xsave, XS_XSAVE | XS_64},
    M(XSAVEOPT) = {dec_xsave, XS_XSAVE},
    M(XSAVEOPT64) = {dec_xsave, XS_XSAVE | XS_64},
    M(XSAVEC) = {dec_xsave, XS_COMPACT},
    M(XSAVEC64) = {dec_xsave, XS_COMPACT | XS_64},
    M(XSAVES) = {dec_xsave, XS_COMPACT | XS_SUPER},
    M(XSAVES64) = {dec_xsave, XS_COMPACT | XS_SUPER | XS_64},
    M(XRSTOR) = {dec_xrstor, 0},
    M(XRSTOR64) = {dec_xrstor, XS_64},
    M(XRSTORS) = {dec_xrstor, XS_SUPER},
    M(XRSTORS64) = {dec_xrstor, XS_SUPER | XS_64},
    M(XGETBV) = {dec_single, S_XGETBV},
    M(XSETBV) = {dec_single, S_XSETBV},
    M(LDMXCSR) = {dec_single, S_LDMXCSR},
    M(STMXCSR) = {dec_single, S_STMXCSR},
    M(VLDMXCSR) = {dec_single, S_LDMXCSR},
    M(VSTMXCSR) = {dec_single, S_STMXCSR},
};
