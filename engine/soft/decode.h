/* SPDX-License-Identifier: BSD-2-Clause */
/* What decode.c and stub.c share. Private to engine/soft. */
#ifndef LHYVE_SOFT_DECODE_H
#define LHYVE_SOFT_DECODE_H

#include <Zydis/Zydis.h>
#include "engine/soft/cpu.h"

/* One instruction being decoded. */
struct dctx {
	struct soft_cpu *cpu;
	uint32_t mode;
	const ZydisDecodedInstruction *z;
	const ZydisDecodedOperand *op;
	struct soft_insn *o;
	unsigned off;
	const uint8_t *bytes;
};

/* imm2 of the XSAVE family */
enum { XS_XSAVE = 0, XS_64 = 1, XS_COMPACT = 2, XS_SUPER = 4 };

unsigned soft_reg_offset(ZydisRegister r); /* byte offset in gpr[]; REG_NONE * 8 when it is no GPR */
/* Zydis' view of one instruction, as the soft engine's decoders are set up. */
ZyanStatus soft_decode_zydis(uint32_t mode, const uint8_t *bytes, unsigned avail, ZydisDecodedInstruction *z,
			     ZydisDecodedOperand *op);
bool soft_decode_mem(struct dctx *d, const ZydisDecodedOperand *m);

/* Choose the stub for an instruction without a rule; op_unsupported or op_ud when it is not on the whitelist.
 */
enum soft_decode soft_stub_decode(struct dctx *d);

/* rules.c: one row a mnemonic; fn NULL: no rule. */
struct soft_rule {
	enum soft_decode (*fn)(struct dctx *d, unsigned arg);
	unsigned arg;
};
extern const struct soft_rule soft_rules[ZYDIS_MNEMONIC_MAX_VALUE + 1];

unsigned soft_seg_number(ZydisRegister r); /* X86_ES..X86_GS; X86_DS for none */
void soft_decode_segment(struct dctx *d, unsigned seg);

#endif
