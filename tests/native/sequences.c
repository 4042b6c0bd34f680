/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random sequences of instructions, interpreted one by one, run as translated code, and run by the processor:
 * everything must come out the same, faults in the middle included. sequences [CASES [SEED [ONLY]]]: ONLY is
 * one case's number.
 *
 * One in five has branches into the middle of instructions, where anything may stand: those are not for the
 * processor, which would do that in this very process. Neither is what went, interpreted, for memory that
 * only a guest does not have.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/util.h"
#include "tests/native/gen.h"
#include "tests/native/world.h"

enum { LENGTH_MAX = 40, CODE_MAX = LENGTH_MAX * 15 + 2, STEPS = 400, SHOWN = 10 };

struct sequence {
	bool mmx;		     /* has MMX instructions, or EMMS */
	bool native;		     /* safe to run here: branches lead to instructions */
	uint16_t at[LENGTH_MAX + 1]; /* where the instructions begin */
	bool is_branch[LENGTH_MAX + 1];
	uint8_t code[CODE_MAX];
	unsigned len, count;
	struct gen_case first;
};

/* What the processor may do in its own way when it faults in the middle, or stores from outside of what is
 * compared. */
static bool
unfit(const struct gen_case *c)
{
	if (gen_moves_many(c))
		return true;
	switch (c->info.mnemonic) {
	case ZYDIS_MNEMONIC_AAA: /* leave flags undefined, and no translation of them says how the processor
				    does */
	case ZYDIS_MNEMONIC_AAS:
	case ZYDIS_MNEMONIC_AAD:
	case ZYDIS_MNEMONIC_AAM:
	case ZYDIS_MNEMONIC_DAA:
	case ZYDIS_MNEMONIC_DAS:
		return true;
	default:
		break;
	}
	for (unsigned n = 0; n < c->info.operand_count; n++) { /* vendors push 16 bits or 32 */
		if (c->info.meta.category == ZYDIS_CATEGORY_PUSH &&
		    c->operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(c->operands[n].reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return true;
	}
	switch (c->info.meta.category) {
	case ZYDIS_CATEGORY_AVX2GATHER: /* how many elements are done when one faults */
	case ZYDIS_CATEGORY_GATHER:
	case ZYDIS_CATEGORY_SCATTER:
	case ZYDIS_CATEGORY_COND_BR: /* anywhere */
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_XSAVE:
	case ZYDIS_CATEGORY_XSAVEOPT:
		return true;
	default:
		return false;
	}
}

/* Every branch leads to the instruction nearest to where it leads now. */
static void
straighten(struct sequence *q)
{
	for (unsigned n = 1; n < q->count; n++) {
		uint8_t *p = q->code + q->at[n];
		if (!q->is_branch[n])
			continue;
		int from = q->at[n] + 2, to = from + (int8_t)p[1], best = q->at[q->count];
		for (unsigned k = 0; k <= q->count; k++) {
			int by = q->at[k] - from;
			if (by >= -128 && by <= 127 && abs(q->at[k] - to) < abs(best - to))
				best = q->at[k];
		}
		if (best - from < -128 || best - from > 127)
			best = q->at[n + 1];
		p[1] = (uint8_t)(best - from);
	}
}

/* Branches whose targets are their neighbours, so that sequences have loops and joins. */
static unsigned
put_branch(struct gen_rng *rng, uint8_t *p)
{
	int8_t by = (int8_t)(gen_below(rng, 24) - 6);
	p[0] = (uint8_t)(0x70 | gen_below(rng, 16));
	if (gen_below(rng, 8) == 0)
		p[0] = 0xeb;
	else if (gen_below(rng, 8) == 0)
		p[0] = (uint8_t)(0xe2 + gen_below(rng, 2)); /* LOOP, JRCXZ */
	p[1] = (uint8_t)by;
	return 2;
}

/*
 * Accesses around few registers, which move by constants, are copied, pushed and popped: what the translator
 * checks together. The registers begin near the ends of pages.
 */
static const uint8_t cluster_regs[] = {3, 4, 5, 6, 12, 14}; /* RBX, RSP, RBP, RSI, R12, R14 */

static unsigned
put_cluster(struct gen_rng *rng, uint8_t *p)
{
	static const uint8_t forms[] = {0x8b, 0x89, 0x01, 0x03, 0x8d, 0x88, 0x8a, 0x39, 0x83, 0x8d, 0x89};
	unsigned form = (unsigned)gen_below(rng, 15), n = 0;
	unsigned b = cluster_regs[gen_below(rng, sizeof(cluster_regs))];
	unsigned r = gen_below(rng, 6) == 0 ? b : (unsigned)gen_below(rng, 16);
	unsigned b2 = cluster_regs[gen_below(rng, sizeof(cluster_regs))];
	if (form == 14) { /* FADD, FMUL.. m32 */
		if (b >= 8)
			p[n++] = 0x41;
		p[n++] = 0xd8;
		p[n++] = (uint8_t)(0x40 | gen_below(rng, 8) << 3 | (b & 7));
		if ((b & 7) == 4)
			p[n++] = 0x24;
		p[n++] = (uint8_t)(gen_below(rng, 128) - 64);
		return n;
	}
	if (form >= 11) { /* PUSH, POP; a register's copy */
		if (form == 13) {
			p[n++] = (uint8_t)(0x48 | (b2 >> 3) << 2 | b >> 3);
			p[n++] = 0x89;
			p[n++] = (uint8_t)(0xc0 | (b2 & 7) << 3 | (b & 7));
			return n;
		}
		if (r >= 8)
			p[n++] = 0x41;
		p[n++] = (uint8_t)((form == 11 ? 0x50 : 0x58) | (r & 7));
		return n;
	}
	if (forms[form] == 0x83) { /* ADD, SUB with a constant */
		p[n++] = (uint8_t)(0x48 | b >> 3);
		p[n++] = 0x83;
		p[n++] = (uint8_t)((gen_below(rng, 2) ? 0xc0 : 0xe8) | (b & 7));
		p[n++] = (uint8_t)(gen_below(rng, 64) - 32);
		return n;
	}
	if (forms[form] == 0x8d) /* LEA */
		r = b2;
	p[n++] = (uint8_t)(0x48 | (r >> 3) << 2 | b >> 3);
	p[n++] = forms[form];
	p[n++] = (uint8_t)(0x40 | (r & 7) << 3 | (b & 7));
	if ((b & 7) == 4)
		p[n++] = 0x24;
	p[n++] = (uint8_t)(gen_below(rng, 128) - 64);
	return n;
}

/* Arithmetic between the registers that have no host register, and RCX, which is scratch there. */
static const uint8_t vcpu_regs[] = {9, 10, 11, 12, 15, 1};

static unsigned
put_alu(struct gen_rng *rng, uint8_t *p)
{
	/* ADD, ADC, AND, XOR, CMP both ways, TEST, XCHG, MOV, MOVSXD, group 1 with imm8, shifts by CL, NOT
	 * and NEG, IMUL */
	static const uint8_t forms[] = {0x01, 0x03, 0x19, 0x1b, 0x21, 0x23, 0x31, 0x33, 0x39,
					0x3b, 0x85, 0x87, 0x89, 0x8b, 0x63, 0x83, 0xd3, 0xf7};
	static const uint8_t long_forms[] = {0xb6, 0xb7, 0xbe, 0xbf,
					     0xaf, 0x44, 0x42, 0x92}; /* after 0F; MOVZX.. CMOV, SETB */
	unsigned a = vcpu_regs[gen_below(rng, sizeof(vcpu_regs))], n = 0;
	unsigned b = gen_below(rng, 4) == 0 ? a : vcpu_regs[gen_below(rng, sizeof(vcpu_regs))];
	unsigned size = (unsigned)gen_below(rng, 5), op = forms[gen_below(rng, sizeof(forms))];
	bool is_long = gen_below(rng, 5) == 0;

	if (size == 0)
		p[n++] = 0x66;
	p[n++] = (uint8_t)(0x40 | (size > 2) << 3 | (a >> 3) << 2 | b >> 3);
	if (is_long) {
		p[n++] = 0x0f;
		op = long_forms[gen_below(rng, sizeof(long_forms))];
	} else if (op != 0x63 && size == 1) {
		op = op == 0x83 ? 0x80 : op - 1; /* of bytes */
	}
	p[n++] = (uint8_t)op;
	if (!is_long && (op == 0xf7 || op == 0xf6))
		a = 2 + (unsigned)gen_below(rng, 2);
	else if (!is_long && (op == 0xd3 || op == 0xd2))
		a = (a & 7) == 6 ? 4 : a;
	p[n++] = (uint8_t)(0xc0 | (a & 7) << 3 | (b & 7));
	if (!is_long && (op == 0x83 || op == 0x80))
		p[n++] = (uint8_t)gen_below(rng, 256);
	return n;
}

static void
begin_cluster(struct gen_rng *rng, struct oracle_state *s)
{
	for (unsigned n = 0; n < sizeof(cluster_regs); n++)
		s->gpr[cluster_regs[n]] =
		    ORACLE_DATA + 0x1000 * gen_below(rng, 5) + gen_below(rng, 400) - 200;
}

static bool
is_mmx(const struct gen_case *c)
{
	for (unsigned n = 0; n < c->info.operand_count; n++) {
		if (c->operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(c->operands[n].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	}
	return c->info.mnemonic == ZYDIS_MNEMONIC_EMMS || c->info.mnemonic == ZYDIS_MNEMONIC_FEMMS;
}

static void
make_sequence(struct sequence *q, uint64_t seed, uint64_t number)
{
	struct gen_rng rng;
	bool compat = number % 5 == 4, cluster = number % 5 == 2 || number % 5 == 3, alu = number % 5 == 1;

	gen_seed(&rng, seed + number * 0x9e3779b97f4a7c15ull);
	q->native = number / 5 % 5 != 0;
	memset(q->is_branch, 0, sizeof(q->is_branch));
	do
		gen_random_insn(&rng, compat, &q->first);
	while (q->native && unfit(&q->first));
	memcpy(q->code, q->first.insn, q->first.len);
	q->len = q->first.len;
	q->mmx = is_mmx(&q->first);
	q->count = 1 + (unsigned)gen_below(&rng, LENGTH_MAX);
	if (cluster || alu) { /* nothing that faults at once, and enough of it */
		q->code[0] = 0x90;
		q->len = 1;
		q->count = LENGTH_MAX;
	}
	if (cluster) {
		begin_cluster(&rng, &q->first.before);
	}
	for (unsigned n = 1; n < q->count; n++) {
		static struct gen_case c;
		q->at[n] = (uint16_t)q->len;
		if (cluster && gen_below(&rng, 12) != 0) {
			q->len += put_cluster(&rng, q->code + q->len);
			continue;
		}
		if (alu && gen_below(&rng, 6) != 0) {
			q->len += put_alu(&rng, q->code + q->len);
			continue;
		}
		if (gen_below(&rng, 6) == 0) {
			q->len += put_branch(&rng, q->code + q->len);
			q->is_branch[n] = true;
			continue;
		}
		do
			gen_random_insn(&rng, compat, &c);
		while ((q->native && unfit(&c)) ||
		       (c.info.meta.category == ZYDIS_CATEGORY_X87_ALU && gen_below(&rng, 4) != 0));
		for (unsigned i = 0; i < c.info.operand_count;
		     i++) { /* its memory operand as it wants it, often */
			const ZydisDecodedOperand *op = &c.operands[i];
			if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.base >= ZYDIS_REGISTER_RAX &&
			    op->mem.base <= ZYDIS_REGISTER_R15 && gen_below(&rng, 2))
				q->first.before.gpr[op->mem.base - ZYDIS_REGISTER_RAX] =
				    c.before.gpr[op->mem.base - ZYDIS_REGISTER_RAX];
		}
		memcpy(q->code + q->len, c.insn, c.len);
		q->len += c.len;
		q->mmx |= is_mmx(&c);
	}
	q->at[0] = 0;
	q->at[q->count] = (uint16_t)q->len;
	q->code[q->len++] = 0x0f; /* UD2 */
	q->code[q->len++] = 0x0b;
	if (q->first.before.rip + q->len > ORACLE_CODE + ORACLE_CODE_SIZE)
		q->first.before.rip = ORACLE_CODE + 0x100;
	if (q->native)
		straighten(q);
}

static void
describe(const struct sequence *q)
{
	ZydisDecoder d;
	ZydisFormatter f;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	char text[128];
	ZydisDecoderInit(
	    &d, q->first.before.compat ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
	    q->first.before.compat ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	for (unsigned at = 0; at < q->len; at += z.length) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, q->code + at, q->len - at, &z, op)))
			break;
		ZydisFormatterFormatInstruction(&f, &z, op, z.operand_count_visible, text, sizeof(text),
						q->first.before.rip + at, NULL);
		printf("#   %#" PRIx64 ": %s\n", q->first.before.rip + at, text);
	}
	for (unsigned i = 0; i < 16; i += 4)
		printf("# gpr[%u..]: %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i,
		       q->first.before.gpr[i], q->first.before.gpr[i + 1], q->first.before.gpr[i + 2],
		       q->first.before.gpr[i + 3]);
}

static const char *
whole_state(const struct oracle_state *a, const struct oracle_state *b, const char *who, char *why,
	    size_t size)
{
	const uint64_t flags = FL_ARITH | FL_DF | FL_AC | FL_RF | FL_NT | FL_ID;
	for (unsigned r = 0; r < (a->compat ? 8u : 16u); r++) {
		if (a->gpr[r] != b->gpr[r]) {
			snprintf(why, size, "gpr[%u]: interpreted %#" PRIx64 ", %s %#" PRIx64, r, a->gpr[r],
				 who, b->gpr[r]);
			return why;
		}
	}
	if (a->vector != b->vector || a->error != b->error || a->cr2 != b->cr2 || a->rip != b->rip ||
	    ((a->rflags ^ b->rflags) & flags) != 0) {
		snprintf(why, size,
			 "interpreted: vector %d error %#x cr2 %#" PRIx64 " rip %#" PRIx64 " rflags %#" PRIx64
			 "; %s: %d %#x %#" PRIx64 " %#" PRIx64 " %#" PRIx64,
			 a->vector, a->error, a->cr2, a->rip, a->rflags, who, b->vector, b->error, b->cr2,
			 b->rip, b->rflags);
		return why;
	}
	for (unsigned v = 0; v < oracle_vector_count(); v++)
		if (memcmp(a->xs.vec[v], b->xs.vec[v], oracle_vector_bytes()) != 0) {
			snprintf(why, size, "%s: vector register %u", who, v);
			return why;
		}
	for (unsigned n = 0; n < ORACLE_DATA_SIZE; n++) {
		if (a->data[n] != b->data[n]) {
			snprintf(why, size, "memory at %#x: interpreted %02x, %s %02x", ORACLE_DATA + n,
				 a->data[n], who, b->data[n]);
			return why;
		}
	}
	const char *what = NULL;
	for (unsigned r = 0; r < 8; r++) /* the other six bytes of each are reserved */
		what =
		    memcmp(a->xs.fx + 32 + 16 * r, b->xs.fx + 32 + 16 * r, 10) != 0 ? "x87 registers" : what;
	what = memcmp(a->xs.fx, b->xs.fx, 5) != 0 ? "x87 state" : what;
	what = a->xs.mxcsr != b->xs.mxcsr ? "MXCSR" : what;
	if (what != NULL)
		snprintf(why, size, "%s: %s", who, what);
	return what;
}

/* May the processor do it in this process? *a is what the interpreter made of it. */
static bool
harmless(const struct sequence *q, const struct oracle_state *a)
{
	if (!q->native || a->vector == EXC_DB || a->vector == EXC_BP)
		return false;
	/* An access that wraps at 4 GiB: processors may find it beyond the limit, first of all. */
	if (q->first.before.compat && a->vector == EXC_AC)
		return false;
	return a->vector != EXC_PF || (a->cr2 >= ORACLE_DATA - ORACLE_FENCE &&
				       a->cr2 < ORACLE_DATA + ORACLE_DATA_SIZE + ORACLE_FENCE);
}

/* 1 different, 0 equal, -1 it does not end by an exception. *native: the processor did it too. */
static int
one(struct rig *r, const struct sequence *q, bool *native, char *why, size_t size)
{
	static struct oracle_state a, b;
	*native = false;
	a = b = q->first.before;
	oracle_put_code(&a, q->code, q->len);
	if (!world_run(r, &a, q->code, q->len, WORLD_STEP, STEPS, why, size))
		return -1; /* jumped into the middle of an instruction, and there is a port access */
	if (a.vector == ORACLE_NO_FAULT)
		return -1;
	if (!world_run(r, &b, q->code, q->len, WORLD_WHOLE, 0, why, size))
		return 1;
	/* The processor keeps x87's opcode and pointers for exceptions only; those of MMX code may be gone.
	 */
	if (q->native && !q->mmx && memcmp(a.xs.fx + 6, b.xs.fx + 6, 18) != 0) {
		snprintf(why, size, "translated: x87 opcode and pointers");
		return 1;
	}
	if (whole_state(&a, &b, "translated", why, size) != NULL)
		return 1;
	if (!harmless(q, &a))
		return 0;
	b = q->first.before;
	oracle_run_whole(&b, q->code, q->len);
	*native = true;
	return whole_state(&a, &b, "native", why, size) != NULL;
}

int
main(int argc, char **argv)
{
	static struct sequence q;
	uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, seed = 0, endless = 0, insns = 0,
		 bad = 0, natives = 0;
	struct err err = {0};
	struct rig rig;
	char why[400] = "";

	if (world_open(&rig, &err) != 0 || oracle_open(&err) != 0) {
		printf("1..0 # SKIP %s\n", err.msg);
		return 0;
	}
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return 1;
	printf("# %s %" PRIu64 " %" PRIu64 "\n", argv[0], cases, seed);
	for (uint64_t n = argc > 3 ? strtoull(argv[3], NULL, 0) : 0, end = argc > 3 ? n + 1 : cases; n < end;
	     n++) {
		make_sequence(&q, seed, n);
		bool native;
		int d = one(&rig, &q, &native, why, sizeof(why));
		natives += native;
		endless += d < 0;
		insns += q.count;
		bad += d > 0;
		if ((d > 0 && bad <= SHOWN) || argc > 3) {
			printf("# case %" PRIu64 ": %s\n", n, d > 0 ? why : "equal");
			describe(&q);
		}
	}
	printf("%s 1 - %" PRIu64 " sequences of %" PRIu64 " instructions, %" PRIu64
	       " by the processor too, %" PRIu64 " endless, %" PRIu64 " different\n",
	       bad ? "not ok" : "ok", cases, insns, natives, endless, bad);
	printf("1..1\n");
	rig_close(&rig);
	oracle_close();
	return bad != 0;
}
