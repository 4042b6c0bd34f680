/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random sequences of instructions, interpreted one by one and run as translated code: everything must come
 * out the same, faults in the middle included. sequences [CASES [SEED [ONLY]]]: ONLY is one case's number.
 * The interpreter is compared with the processor by diff.c.
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
	uint8_t code[CODE_MAX];
	unsigned len, count;
	struct gen_case first;
};

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
	unsigned form = (unsigned)gen_below(rng, 14), n = 0;
	unsigned b = cluster_regs[gen_below(rng, sizeof(cluster_regs))];
	unsigned r = gen_below(rng, 6) == 0 ? b : (unsigned)gen_below(rng, 16);
	unsigned b2 = cluster_regs[gen_below(rng, sizeof(cluster_regs))];
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

static void
begin_cluster(struct gen_rng *rng, struct oracle_state *s)
{
	for (unsigned n = 0; n < sizeof(cluster_regs); n++)
		s->gpr[cluster_regs[n]] =
		    ORACLE_DATA + 0x1000 * gen_below(rng, 5) + gen_below(rng, 400) - 200;
}

static void
make_sequence(struct sequence *q, uint64_t seed, uint64_t number)
{
	struct gen_rng rng;
	bool compat = number % 5 == 4, cluster = number % 5 == 2 || number % 5 == 3;

	gen_seed(&rng, seed + number * 0x9e3779b97f4a7c15ull);
	gen_random_insn(&rng, compat, &q->first);
	memcpy(q->code, q->first.insn, q->first.len);
	q->len = q->first.len;
	q->count = 1 + (unsigned)gen_below(&rng, LENGTH_MAX);
	if (cluster) { /* nothing that faults at once, and enough of it */
		q->code[0] = 0x90;
		q->len = 1;
		q->count = LENGTH_MAX;
		begin_cluster(&rng, &q->first.before);
	}
	for (unsigned n = 1; n < q->count; n++) {
		static struct gen_case c;
		if (cluster && gen_below(&rng, 12) != 0) {
			q->len += put_cluster(&rng, q->code + q->len);
			continue;
		}
		if (gen_below(&rng, 6) == 0) {
			q->len += put_branch(&rng, q->code + q->len);
			continue;
		}
		do
			gen_random_insn(&rng, compat, &c);
		while (c.info.meta.category == ZYDIS_CATEGORY_X87_ALU && gen_below(&rng, 4) != 0);
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
	}
	q->code[q->len++] = 0x0f; /* UD2 */
	q->code[q->len++] = 0x0b;
	if (q->first.before.rip + q->len > ORACLE_CODE + ORACLE_CODE_SIZE)
		q->first.before.rip = ORACLE_CODE + 0x100;
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
whole_state(const struct oracle_state *a, const struct oracle_state *b, char *why, size_t size)
{
	for (unsigned r = 0; r < 16; r++) {
		if (a->gpr[r] != b->gpr[r]) {
			snprintf(why, size, "gpr[%u]: interpreted %#" PRIx64 ", translated %#" PRIx64, r,
				 a->gpr[r], b->gpr[r]);
			return why;
		}
	}
	if (a->vector != b->vector || a->error != b->error || a->cr2 != b->cr2 || a->rip != b->rip ||
	    a->rflags != b->rflags) {
		snprintf(why, size,
			 "interpreted: vector %d error %#x cr2 %#" PRIx64 " rip %#" PRIx64 " rflags %#" PRIx64
			 "; translated: %d %#x %#" PRIx64 " %#" PRIx64 " %#" PRIx64,
			 a->vector, a->error, a->cr2, a->rip, a->rflags, b->vector, b->error, b->cr2, b->rip,
			 b->rflags);
		return why;
	}
	for (unsigned v = 0; v < oracle_vector_count(); v++)
		if (memcmp(a->xs.vec[v], b->xs.vec[v], oracle_vector_bytes()) != 0) {
			snprintf(why, size, "vector register %u", v);
			return why;
		}
	if (memcmp(a->xs.fx + 32, b->xs.fx + 32, 128) != 0 || memcmp(a->xs.fx, b->xs.fx, 6) != 0)
		return "x87 state";
	if (a->xs.mxcsr != b->xs.mxcsr)
		return "MXCSR";
	return memcmp(a->data, b->data, ORACLE_DATA_SIZE) != 0 ? "memory" : NULL;
}

/* 1 different, 0 equal, -1 it does not end by an exception. */
static int
one(struct rig *r, const struct sequence *q, char *why, size_t size)
{
	static struct oracle_state a, b;
	const char *what;
	a = b = q->first.before;
	if (!world_run(r, &a, q->code, q->len, WORLD_STEP, STEPS, why, size))
		return -1; /* jumped into the middle of an instruction, and there is a port access */
	if (a.vector == ORACLE_NO_FAULT)
		return -1;
	if (!world_run(r, &b, q->code, q->len, WORLD_WHOLE, 0, why, size))
		return 1;
	what = whole_state(&a, &b, why, size);
	if (what != NULL && what != why)
		snprintf(why, size, "%s", what);
	return what != NULL;
}

int
main(int argc, char **argv)
{
	static struct sequence q;
	uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, seed = 0, endless = 0, insns = 0,
		 bad = 0;
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
		int d = one(&rig, &q, why, sizeof(why));
		endless += d < 0;
		insns += q.count;
		bad += d > 0;
		if ((d > 0 && bad <= SHOWN) || argc > 3) {
			printf("# case %" PRIu64 ": %s\n", n, d > 0 ? why : "equal");
			describe(&q);
		}
	}
	printf("%s 1 - %" PRIu64 " sequences of %" PRIu64 " instructions, %" PRIu64 " endless, %" PRIu64
	       " different\n",
	       bad ? "not ok" : "ok", cases, insns, endless, bad);
	printf("1..1\n");
	rig_close(&rig);
	oracle_close();
	return bad != 0;
}
