/* SPDX-License-Identifier: BSD-2-Clause */
/* Two outcomes of one case, field by field, without what the architecture leaves open. */
#include <stdio.h>
#include <string.h>
#include "base/util.h"
#include "tests/native/gen.h"

static const char *const gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct report {
	char *why;
	size_t size;
};

static bool
differ(struct report *r, const char *what, uint64_t native, uint64_t other)
{
	snprintf(r->why, r->size, "%s: processor %#llx, other %#llx", what, (unsigned long long)native,
		 (unsigned long long)other);
	return false;
}

/* Loads of a whole x87 environment touch its parts in an order of their own: only the page is told. */
static bool
loads_environment(const struct gen_case *c)
{
	ZydisMnemonic m = c->info.mnemonic;

	return m == ZYDIS_MNEMONIC_FRSTOR || m == ZYDIS_MNEMONIC_FLDENV || m == ZYDIS_MNEMONIC_FXRSTOR ||
	       m == ZYDIS_MNEMONIC_FXRSTOR64;
}

static bool
same_fault(struct report *r, const struct gen_case *c, const struct oracle_state *n,
	   const struct oracle_state *o)
{
	uint64_t address = loads_environment(c) ? ~0xfffull : ~0ull;

	if (n->vector != o->vector) {
		snprintf(r->why, r->size,
			 "exception: processor %d (error %#x), other %d (error %#x); -1 is none", n->vector,
			 n->error, o->vector, o->error);
		return false;
	}
	/* the upper half is the host kernel's: present there, not here */
	if (n->error != o->error && !(n->cr2 >> 63 && ((n->error ^ o->error) & ~1u) == 0))
		return differ(r, "error code", n->error, o->error);
	if (((n->cr2 ^ o->cr2) & address) != 0)
		return differ(r, "cr2", n->cr2, o->cr2);
	return true;
}

/* A zero source leaves the destination of BSF and BSR to the vendor. */
static bool
gpr_undefined(const struct gen_case *c, const struct oracle_state *n, unsigned i)
{
	ZydisMnemonic m = c->info.mnemonic;

	return (m == ZYDIS_MNEMONIC_BSF || m == ZYDIS_MNEMONIC_BSR) && (n->rflags & FL_ZF) &&
	       c->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       (unsigned)ZydisRegisterGetId(c->operands[0].reg.value) == i;
}

static bool
same_gprs(struct report *r, const struct gen_case *c, const struct oracle_state *n,
	  const struct oracle_state *o)
{
	/* Upper halves and R8-R15 do not exist in compatibility mode. */
	uint64_t mask = c->before.compat ? 0xffffffff : ~0ull;

	for (unsigned i = 0; i < (c->before.compat ? 8u : 16u); i++)
		if (((n->gpr[i] ^ o->gpr[i]) & mask) != 0 && !gpr_undefined(c, n, i))
			return differ(r, gpr_names[i], n->gpr[i] & mask, o->gpr[i] & mask);
	if (((n->rip ^ o->rip) & mask) != 0)
		return differ(r, "rip", n->rip, o->rip);
	return true;
}

static bool
same_bytes(struct report *r, const char *what, unsigned index, const uint8_t *n, const uint8_t *o, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t a = 0, b = 0;
		char name[64];

		if (n[i] == o[i])
			continue;
		i &= ~(size_t)7;
		memcpy(&a, n + i, MIN(len - i, sizeof(a)));
		memcpy(&b, o + i, MIN(len - i, sizeof(b)));
		snprintf(name, sizeof(name), "%s%u bytes %zu..", what, index, i);
		return differ(r, name, a, b);
	}
	return true;
}

static bool
same_vectors(struct report *r, const struct x86_xstate *n, const struct x86_xstate *o)
{
	for (unsigned i = 0; i < oracle_vector_count(); i++)
		if (!same_bytes(r, "vec", i, n->vec[i], o->vec[i], oracle_vector_bytes()))
			return false;
	for (unsigned i = 0; i < 8; i++)
		if (oracle_vector_bytes() == 64 && n->k[i] != o->k[i])
			return same_bytes(r, "k", i, (const uint8_t *)&n->k[i], (const uint8_t *)&o->k[i], 8);
	if (n->mxcsr != o->mxcsr)
		return differ(r, "mxcsr", n->mxcsr, o->mxcsr);
	return true;
}

/* Without the last instruction's opcode and pointers: bytes 6 to 23. */
static bool
same_x87(struct report *r, const struct x86_xstate *n, const struct x86_xstate *o)
{
	if (get_le16(n->fx) != get_le16(o->fx))
		return differ(r, "x87 control word", get_le16(n->fx), get_le16(o->fx));
	if (get_le16(n->fx + 2) != get_le16(o->fx + 2))
		return differ(r, "x87 status word", get_le16(n->fx + 2), get_le16(o->fx + 2));
	if (n->fx[4] != o->fx[4])
		return differ(r, "x87 tags", n->fx[4], o->fx[4]);
	for (unsigned i = 0; i < 8; i++)
		if (!same_bytes(r, "st", i, n->fx + 32 + 16 * i, o->fx + 32 + 16 * i, 10))
			return false;
	return true;
}

bool
gen_moves_many(const struct gen_case *c)
{
	switch (c->info.mnemonic) {
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
	case ZYDIS_MNEMONIC_ENTER:
		return true;
	default:
		return false;
	}
}

bool
gen_compare(const struct gen_case *c, const struct oracle_state *native, const struct oracle_state *other,
	    char *why, size_t size)
{
	struct report r = {why, size};
	uint64_t flags = (FL_ARITH | FL_DF | FL_AC | FL_RF | FL_NT | FL_ID) & ~gen_undefined_flags(c);

	if (gen_moves_many(c) && native->vector != ORACLE_NO_FAULT && native->vector == other->vector)
		return true;
	if (!same_fault(&r, c, native, other) || !same_gprs(&r, c, native, other))
		return false;
	if (((native->rflags ^ other->rflags) & flags) != 0)
		return differ(&r, "rflags", native->rflags & flags, other->rflags & flags);
	return same_vectors(&r, &native->xs, &other->xs) && same_x87(&r, &native->xs, &other->xs) &&
	       same_bytes(&r, "memory", 0, native->data, other->data, ORACLE_DATA_SIZE);
}
