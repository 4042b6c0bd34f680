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
bool soft_decode_mem(struct dctx *d, const ZydisDecodedOperand *m);

/* Choose the stub for an instruction without a rule; op_unsupported or op_ud when it is not on the whitelist.
 */
enum soft_decode soft_stub_decode(struct dctx *d);

#endif
