/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From bytes to soft_insn: Zydis decodes, a table indexed by mnemonic (rules.c) names
 * the rule that chooses the handler. What has no rule goes to the stubs (stub.c),
 * which take it only when their whitelist knows it.
 */
#include <Zydis/Zydis.h>
#include "engine/soft/decode.h"
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"

unsigned
soft_reg_offset(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return (unsigned)(r - ZYDIS_REGISTER_RAX) * 8;
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return (unsigned)(r - ZYDIS_REGISTER_EAX) * 8;
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return (unsigned)(r - ZYDIS_REGISTER_AX) * 8;
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
		return (unsigned)(r - ZYDIS_REGISTER_AL) * 8;
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
		return (unsigned)(r - ZYDIS_REGISTER_AH) * 8 + 1;
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
		return (unsigned)(r - ZYDIS_REGISTER_SPL + 4) * 8;
	return REG_NONE * 8;
}

static unsigned
reg_number(ZydisRegister r)
{
	return r == ZYDIS_REGISTER_NONE ? REG_NONE : soft_reg_offset(r) / 8;
}

unsigned
soft_seg_number(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS ? (unsigned)(r - ZYDIS_REGISTER_ES) : X86_DS;
}

void
soft_decode_segment(struct dctx *d, unsigned seg)
{
	d->o->seg = (uint8_t)seg;
	if ((d->mode & MODE_CS) == MODE_64)
		d->o->segslot = seg >= X86_FS ? (uint8_t)seg : SEG_ZERO;
	else
		d->o->segslot = (uint8_t)seg;
}

/* The memory operand's address parts. False: a RIP-relative one that does not fit (never seen). */
bool
soft_decode_mem(struct dctx *d, const ZydisDecodedOperand *m)
{
	struct soft_insn *o = d->o;
	int64_t disp = m->mem.disp.value;
	o->flags |= IF_MEM;
	o->scale = m->mem.scale ? (uint8_t)__builtin_ctz(m->mem.scale) : 0;
	o->index = (uint8_t)reg_number(m->mem.index);
	if (m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP) {
		o->base = REG_RIPBASE;
		disp += d->off + d->z->length;
	} else {
		o->base = (uint8_t)reg_number(m->mem.base);
	}
	/* Zydis 4.0 takes REX.B for a base register where ModRM and SIB say disp32 alone */
	if (d->z->raw.sib.offset != 0 && d->z->raw.modrm.mod == 0 && d->z->raw.sib.base == 5) {
		o->base = REG_NONE;
		disp = d->z->raw.disp.value;
	}
	o->disp = (int32_t)disp;
	soft_decode_segment(d, soft_seg_number(m->mem.segment));
	o->addrsize = d->z->address_width / 8;
	if ((d->mode & MODE_CS) != MODE_64 || o->addrsize != 8)
		o->flags |= IF_EASLOW;
	return o->disp == disp || o->addrsize != 8;
}

static ZydisDecoder decoders[4];

static void __attribute__((constructor)) init_decoders(void)
{
	ZydisDecoderInit(&decoders[MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&decoders[MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoders[MODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned n = 0; n < 3; n++) {
		ZydisDecoderEnableMode(&decoders[n], ZYDIS_DECODER_MODE_MPX,
				       ZYAN_FALSE); /* NOPs without MPX and CET */
		ZydisDecoderEnableMode(&decoders[n], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoders[n], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	}
}

/* AMD has SYSCALL and SYSRET outside 64-bit mode too; Zydis does not decode them there. */
static bool
decode_legacy_syscall(const uint8_t *b, unsigned avail, struct soft_insn *o)
{
	if (avail < 2 || b[0] != 0x0f || (b[1] != 0x05 && b[1] != 0x07))
		return false;
	o->len = 2;
	o->size = 4;
	o->flags = IF_BRANCH;
	o->fn = b[1] == 0x05 ? op_syscall : op_sysret;
	return true;
}

static bool
is_branch(ZydisInstructionCategory c)
{
	return c == ZYDIS_CATEGORY_COND_BR || c == ZYDIS_CATEGORY_UNCOND_BR || c == ZYDIS_CATEGORY_CALL ||
	       c == ZYDIS_CATEGORY_RET || c == ZYDIS_CATEGORY_INTERRUPT || c == ZYDIS_CATEGORY_SYSCALL ||
	       c == ZYDIS_CATEGORY_SYSRET;
}

static enum soft_decode
decode_failed(struct soft_insn *o, ZyanStatus st, unsigned avail)
{
	if (st == ZYDIS_STATUS_NO_MORE_DATA && avail < 15)
		return DECODE_SHORT;
	o->len = 1;
	o->fn =
	    st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || st == ZYDIS_STATUS_NO_MORE_DATA ? op_too_long : op_ud;
	return DECODE_END;
}

ZyanStatus
soft_decode_zydis(uint32_t mode, const uint8_t *bytes, unsigned avail, ZydisDecodedInstruction *z,
		  ZydisDecodedOperand *op)
{
	return ZydisDecoderDecodeFull(&decoders[mode & MODE_CS], bytes, avail, z, op);
}

enum soft_decode
soft_decode_insn(struct soft_cpu *cpu, uint32_t mode, const uint8_t *bytes, unsigned avail, unsigned off,
		 struct soft_insn *out)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct dctx d = {.cpu = cpu, .mode = mode, .z = &z, .op = op, .o = out, .off = off, .bytes = bytes};

	soft_vec_sync(cpu); /* Zydis uses vector registers */
	memset(out, 0, sizeof(*out));
	out->base = out->index = REG_NONE;
	out->segslot = SEG_ZERO;
	out->seg = X86_DS;
	out->off = (uint16_t)off;
	if ((mode & MODE_CS) != MODE_64 && decode_legacy_syscall(bytes, avail, out))
		return DECODE_END;
	ZyanStatus st = ZydisDecoderDecodeFull(&decoders[mode & MODE_CS], bytes, MIN(avail, 15u), &z, op);
	if (!ZYAN_SUCCESS(st))
		return decode_failed(out, st, avail);
	out->len = z.length;
	out->mnemonic = (uint16_t)z.mnemonic;
	if (z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		out->flags |= IF_LOCK;
	if (is_branch(z.meta.category))
		out->flags |= IF_BRANCH;
	const struct soft_rule *r = &soft_rules[z.mnemonic];
	enum soft_decode e = r->fn != NULL ? r->fn(&d, r->arg) : soft_stub_decode(&d);
	if (out->fn == NULL) { /* a combination that the tables do not hold */
		out->fn = op_ud;
		return DECODE_END;
	}
	return e;
}
