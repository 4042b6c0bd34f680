/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random instructions that ring 3 may run on the real processor, each with a random state in which all its
 * memory operands lie in the oracle's data area (or fault at its edges). Chosen by a whitelist of categories.
 * Plain values, one thread each.
 */
#ifndef LHYVE_TESTS_NATIVE_GEN_H
#define LHYVE_TESTS_NATIVE_GEN_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>
#include "tests/native/oracle.h"

struct gen_rng {
	uint64_t s[4];
};

void gen_seed(struct gen_rng *r, uint64_t seed);
uint64_t gen_next(struct gen_rng *r);
/* 0..n-1 */
uint64_t gen_below(struct gen_rng *r, uint64_t n);

struct gen_case {
	uint8_t insn[15];
	unsigned len;
	ZydisDecodedInstruction info;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct oracle_state before;
};

/* Make one. `compat`: of 32-bit code. */
void gen_random_insn(struct gen_rng *r, bool compat, struct gen_case *c);

/* Flags that the architecture leaves undefined after this case. */
uint64_t gen_undefined_flags(const struct gen_case *c);
/* "SHIFT" of this case, for counting. */
const char *gen_category(const struct gen_case *c);
/* Bytes and disassembly. */
void gen_describe(const struct gen_case *c, char *text, size_t size);

/* Microcode that moves many bytes: where in them it is when it faults, and what it changed by then, is its
 * own affair. */
bool gen_moves_many(const struct gen_case *c);

/* Compare what two machines made of a case; false with the first difference in words. */
bool gen_compare(const struct gen_case *c, const struct oracle_state *native,
		 const struct oracle_state *other, char *why, size_t size);

#endif
