/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle checked by itself: hand-written instructions with known outcomes, and random cases that must end
 * the same way when run twice. selftest [CASES [SEED]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/util.h"
#include "tests/native/gen.h"
#include "tests/native/oracle.h"

static unsigned count, failures;

static void
check(bool ok, const char *name)
{
	printf("%s %u - %s\n", ok ? "ok" : "not ok", ++count, name);
	failures += !ok;
}

static struct oracle_state state;

static const struct oracle_state *
run(const char *bytes, unsigned len, uint64_t rax, uint64_t rcx, bool compat)
{
	memset(&state, 0, sizeof(state));
	state.compat = compat;
	state.rip = ORACLE_CODE + 0x100;
	state.gpr[X86_RAX] = rax;
	state.gpr[X86_RCX] = rcx;
	state.gpr[X86_RSP] = ORACLE_DATA + 0x1000;
	put_le16(state.xs.fx, 0x37f);
	state.xs.mxcsr = 0x1f80;
	put_le32(state.xs.vec[1], 0x3f800000); /* 1.0f */
	oracle_run(&state, (const uint8_t *)bytes, len);
	return &state;
}

static void
known_outcomes(void)
{
	const struct oracle_state *s = run("\x48\x01\xc8", 3, ~0ull, 1, false); /* add rax, rcx */

	check(s->vector == ORACLE_NO_FAULT && s->gpr[X86_RAX] == 0 && s->rip == ORACLE_CODE + 0x103, "add");
	check((s->rflags & FL_ARITH) == (FL_CF | FL_PF | FL_AF | FL_ZF), "flags of add");
	s = run("\xf7\xf1", 2, 5, 0, false); /* div ecx */
	check(s->vector == EXC_DE && s->rip == ORACLE_CODE + 0x100, "divide error");
	s = run("\x48\x89\x01", 3, 5, ORACLE_DATA + ORACLE_DATA_SIZE, false); /* mov [rcx], rax */
	check(s->vector == EXC_PF && s->cr2 == ORACLE_DATA + ORACLE_DATA_SIZE, "page fault's address");
	check(s->error == (PFEC_U | PFEC_W) || s->error == (PFEC_U | PFEC_W | PFEC_P),
	      "page fault's error code");
	s = run("\x48\x89\x01", 3, 5, ORACLE_DATA + ORACLE_DATA_RO, false);
	check(s->vector == EXC_PF && s->error == (PFEC_U | PFEC_W | PFEC_P), "write to a read-only page");
	s = run("\x48\x89\x01", 3, 0x1122334455667788, ORACLE_DATA + 8, false);
	check(s->vector == ORACLE_NO_FAULT && get_le64(s->data + 8) == 0x1122334455667788, "store");
	s = run("\x48\x89\x01", 3, 5, 1ull << 62, false);
	check(s->vector == EXC_GP && s->error == 0, "non-canonical address");
	s = run("\x0f\x0b", 2, 0, 0, false); /* ud2 */
	check(s->vector == EXC_UD, "undefined opcode");
	s = run("\xf3\x0f\x58\xc9", 4, 0, 0, false); /* addss xmm1, xmm1 */
	check(s->vector == ORACLE_NO_FAULT && get_le32(s->xs.vec[1]) == 0x40000000, "addss");
	s = run("\xd9\xe8", 2, 0, 0, false); /* fld1 */
	check(get_le64(s->xs.fx + 32) == 1ull << 63 && get_le16(s->xs.fx + 40) == 0x3fff &&
		  s->xs.fx[4] == 0x80,
	      "fld1");
	s = run("\xf3\xa4", 2, 0, 3, false); /* rep movsb with null pointers */
	check(s->vector == EXC_PF && s->cr2 == 0 && s->gpr[X86_RCX] == 3, "rep movsb faults before it moves");
	s = run("\x40", 1, 7, 0, true); /* inc eax, in 32-bit code only */
	check(s->vector == ORACLE_NO_FAULT && s->gpr[X86_RAX] == 8, "32-bit code");
	s = run("\x89\x01", 2, 0xcafe, ORACLE_DATA + 64, true);
	check(s->vector == ORACLE_NO_FAULT && get_le32(s->data + 64) == 0xcafe, "32-bit store");
}

/* Twice the same, or the comparison and the oracle are no use. */
static void
repeatable(uint64_t cases, uint64_t seed)
{
	static struct gen_case c;
	static struct oracle_state first, second;
	char text[256], why[256];
	uint64_t faults = 0, different = 0, unknown = 0;
	struct gen_rng rng;

	printf("# seed %" PRIu64 ", %" PRIu64 " cases\n", seed, cases);
	gen_seed(&rng, seed);
	for (uint64_t i = 0; i < cases && different < 20; i++) {
		gen_random_insn(&rng, i % 5 == 4, &c);
		first = second = c.before;
		oracle_run(&first, c.insn, c.len);
		oracle_run(&second, c.insn, c.len);
		faults += first.vector != ORACLE_NO_FAULT;
		unknown += first.vector == EXC_UD;
		if (!gen_compare(&c, &first, &second, why, sizeof(why))) {
			gen_describe(&c, text, sizeof(text));
			printf("# case %" PRIu64 ": %s\n#   %s\n", i, text, why);
			different++;
		}
	}
	printf("# %" PRIu64 " raised exceptions, %" PRIu64 " of them #UD\n", faults, unknown);
	check(different == 0, "random cases end the same way twice");
	check(faults < cases / 2 && unknown < cases / 4, "most random cases complete");
}

int
main(int argc, char **argv)
{
	struct err err = {0};
	uint64_t seed = 0;

	if (oracle_open(&err) != 0) {
		printf("1..0 # SKIP %s\n", err.msg);
		return 0;
	}
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return 1;
	known_outcomes();
	repeatable(argc > 1 ? strtoull(argv[1], NULL, 0) : 20000, seed);
	oracle_close();
	printf("1..%u\n", count);
	return failures != 0;
}
