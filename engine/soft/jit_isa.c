/* SPDX-License-Identifier: BSD-2-Clause */
/* Which guest instructions the host's own can stand for, what they need, and what they do with EFLAGS. */
#include <sys/platform/x86.h>
#include "engine/soft/jit_int.h"
#include "engine/soft/stub.h"

/* ---- which instructions ---- */

#define M(x) [ZYDIS_MNEMONIC_##x] = 1
/* Integer instructions that are themselves on the host. 2: they may trap. */
static const uint8_t plain[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    M(ADD),
    M(OR),
    M(ADC),
    M(SBB),
    M(AND),
    M(SUB),
    M(XOR),
    M(CMP),
    M(TEST),
    M(INC),
    M(DEC),
    M(NOT),
    M(NEG),
    M(ROL),
    M(ROR),
    M(RCL),
    M(RCR),
    M(SHL),
    M(SHR),
    M(SAR),
    M(BT),
    M(BTS),
    M(BTR),
    M(BTC),
    M(MUL),
    M(IMUL),
    M(MOV),
    M(MOVZX),
    M(MOVSX),
    M(MOVSXD),
    M(XCHG),
    M(XADD),
    M(CMPXCHG),
    M(BSWAP),
    M(CBW),
    M(CWDE),
    M(CDQE),
    M(CWD),
    M(CDQ),
    M(CQO),
    M(LAHF),
    M(SAHF),
    M(CLC),
    M(STC),
    M(CMC),
    M(SETO),
    M(SETNO),
    M(SETB),
    M(SETNB),
    M(SETZ),
    M(SETNZ),
    M(SETBE),
    M(SETNBE),
    M(SETS),
    M(SETNS),
    M(SETP),
    M(SETNP),
    M(SETL),
    M(SETNL),
    M(SETLE),
    M(SETNLE),
    M(CMOVO),
    M(CMOVNO),
    M(CMOVB),
    M(CMOVNB),
    M(CMOVZ),
    M(CMOVNZ),
    M(CMOVBE),
    M(CMOVNBE),
    M(CMOVS),
    M(CMOVNS),
    M(CMOVP),
    M(CMOVNP),
    M(CMOVL),
    M(CMOVNL),
    M(CMOVLE),
    M(CMOVNLE),
    M(SHLD),
    M(SHRD),
    M(BSF),
    M(BSR),
    M(MFENCE),
    M(LFENCE),
    M(SFENCE),
    M(CMPXCHG8B),
    M(MOVNTI),
    [ZYDIS_MNEMONIC_DIV] = 2,
    [ZYDIS_MNEMONIC_IDIV] = 2,
    [ZYDIS_MNEMONIC_CMPXCHG16B] = 2,
};

enum { NEED_NOTHING, NEED_SSE, NEED_AVX, NEED_X87, NEED_X87_SSE };
/* Instruction sets whose instructions are themselves on a host that has them, and what they need of the
 * guest. */
static const struct isa {
	ZydisISASet set;
	uint8_t host; /* index in host_has[] */
	uint8_t unit; /* NEED_* */
} isas[] = {
    {ZYDIS_ISA_SET_SSE, 0, 1},	       {ZYDIS_ISA_SET_SSE2, 0, 1},	 {ZYDIS_ISA_SET_SSE3, 1, 1},
    {ZYDIS_ISA_SET_SSSE3, 2, 1},       {ZYDIS_ISA_SET_SSE4, 3, 1},	 {ZYDIS_ISA_SET_SSE42, 4, 1},
    {ZYDIS_ISA_SET_AES, 5, 1},	       {ZYDIS_ISA_SET_PCLMULQDQ, 6, 1},	 {ZYDIS_ISA_SET_SHA, 7, 1},
    {ZYDIS_ISA_SET_AVX, 8, 2},	       {ZYDIS_ISA_SET_AVX2, 9, 2},	 {ZYDIS_ISA_SET_FMA, 10, 2},
    {ZYDIS_ISA_SET_F16C, 11, 2},       {ZYDIS_ISA_SET_AVXAES, 8, 2},	 {ZYDIS_ISA_SET_VAES, 12, 2},
    {ZYDIS_ISA_SET_VPCLMULQDQ, 13, 2}, {ZYDIS_ISA_SET_BMI1, 14, 0},	 {ZYDIS_ISA_SET_BMI2, 15, 0},
    {ZYDIS_ISA_SET_ADOX_ADCX, 16, 0},  {ZYDIS_ISA_SET_LZCNT, 17, 0},	 {ZYDIS_ISA_SET_POPCNT, 18, 0},
    {ZYDIS_ISA_SET_MOVBE, 19, 0},      {ZYDIS_ISA_SET_X87, 0, 3},	 {ZYDIS_ISA_SET_FCMOV, 0, 3},
    {ZYDIS_ISA_SET_SSE3X87, 1, 3},     {ZYDIS_ISA_SET_PENTIUMMMX, 0, 3}, {ZYDIS_ISA_SET_SSSE3MMX, 2, 3},
    {ZYDIS_ISA_SET_SSE2MMX, 0, 4},
};

/* What the C library found at its own start: executing CPUID costs a guest of another hypervisor 7 us a time.
 */
static bool
host_has(unsigned n)
{
	switch (n) {
	case 0:
		return true;
	case 1:
		return CPU_FEATURE_ACTIVE(SSE3);
	case 2:
		return CPU_FEATURE_ACTIVE(SSSE3);
	case 3:
		return CPU_FEATURE_ACTIVE(SSE4_1);
	case 4:
		return CPU_FEATURE_ACTIVE(SSE4_2);
	case 5:
		return CPU_FEATURE_ACTIVE(AES);
	case 6:
		return CPU_FEATURE_ACTIVE(PCLMULQDQ);
	case 7:
		return CPU_FEATURE_ACTIVE(SHA);
	case 8:
		return CPU_FEATURE_ACTIVE(AVX);
	case 9:
		return CPU_FEATURE_ACTIVE(AVX2);
	case 10:
		return CPU_FEATURE_ACTIVE(FMA);
	case 11:
		return CPU_FEATURE_ACTIVE(F16C);
	case 12:
		return CPU_FEATURE_ACTIVE(VAES);
	case 13:
		return CPU_FEATURE_ACTIVE(VPCLMULQDQ);
	case 14:
		return CPU_FEATURE_ACTIVE(BMI1);
	case 15:
		return CPU_FEATURE_ACTIVE(BMI2);
	case 16:
		return CPU_FEATURE_ACTIVE(ADX);
	case 17:
		return CPU_FEATURE_ACTIVE(LZCNT);
	case 18:
		return CPU_FEATURE_ACTIVE(POPCNT);
	case 19:
		return CPU_FEATURE_ACTIVE(MOVBE);
	default:
		return false;
	}
}

static bool
names_mmx(const struct jx *x)
{
	for (unsigned n = 0; n < x->z->operand_count; n++) {
		if (x->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    x->op[n].reg.value >= ZYDIS_REGISTER_MM0 && x->op[n].reg.value <= ZYDIS_REGISTER_MM7)
			return true;
	}
	return false;
}

bool
jit_is_x87(const ZydisDecodedInstruction *z)
{
	ZydisISASet s = z->meta.isa_set;
	return s == ZYDIS_ISA_SET_X87 || s == ZYDIS_ISA_SET_FCMOV || s == ZYDIS_ISA_SET_SSE3X87 ||
	       z->mnemonic == ZYDIS_MNEMONIC_FISTTP;
}

static uint8_t isa_known[ZYDIS_ISA_SET_MAX_VALUE + 1]; /* 0 no; unit + 1 */

static void __attribute__((constructor)) init_isas(void)
{
	for (unsigned n = 0; n < ARRAY_LEN(isas); n++)
		isa_known[isas[n].set] = host_has(isas[n].host) ? isas[n].unit + 1 : 0;
}

/* Do the units that the instruction needs exist, and are they enabled in this mode? */
static bool
units_on(const struct jx *x, unsigned need)
{
	static const uint32_t bits[] = {[NEED_SSE] = JMODE_SSE,
					[NEED_AVX] = JMODE_AVX,
					[NEED_X87] = JMODE_X87,
					[NEED_X87_SSE] = JMODE_X87 | JMODE_SSE};
	return (x->mode & bits[need]) == bits[need];
}

/* What touches x87 state only by the unit itself: not its environment, whose pointers are the host's there.
 */
static bool
x87_simple(const ZydisDecodedInstruction *z)
{
	unsigned k = soft_x87_kind(z);
	return z->mnemonic != ZYDIS_MNEMONIC_FNINIT && z->mnemonic != ZYDIS_MNEMONIC_FLDENV &&
	       z->mnemonic != ZYDIS_MNEMONIC_FRSTOR && z->mnemonic != ZYDIS_MNEMONIC_FNSAVE &&
	       (k == X87_COMPUTE || k == X87_CONTROL);
}

unsigned
jit_insn_kind(const struct jx *x, bool *fpu)
{
	const ZydisDecodedInstruction *z = x->z;
	unsigned need;
	*fpu = false;
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return KIND_NOT;
	if (plain[z->mnemonic])
		return plain[z->mnemonic];
	if (isa_known[z->meta.isa_set] == 0 || z->meta.category == ZYDIS_CATEGORY_STRINGOP)
		return 0;
	need = isa_known[z->meta.isa_set] - 1u;
	if (need == NEED_NOTHING)
		return x->is64 ? 1 : 0;
	if (z->mnemonic == ZYDIS_MNEMONIC_CRC32)
		return 1;
	if (z->mnemonic == ZYDIS_MNEMONIC_FISTTP) /* x87, whatever its set is called */
		need = NEED_X87;
	else if (need == NEED_SSE && names_mmx(x))
		need = NEED_X87_SSE;
	if (!units_on(x, need))
		return 0;
	*fpu = need >= NEED_X87;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_CLFLUSH:
		return 0;
	default:
		break;
	}
	if (jit_is_x87(z))
		return x87_simple(z) ? 2 : 0;
	/* outside 64-bit mode fields mean less: left to the stubs */
	return x->is64 || z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? 2 : 0;
}

/* ---- flags ---- */
#define ARITH                                                                                           \
	(ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF | ZYDIS_CPUFLAG_ZF | ZYDIS_CPUFLAG_SF | \
	 ZYDIS_CPUFLAG_OF)

/* Instructions after which no flag is what it was, on any processor. */
static bool
writes_all(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_PTEST:
	case ZYDIS_MNEMONIC_VPTEST:
	case ZYDIS_MNEMONIC_COMISS:
	case ZYDIS_MNEMONIC_COMISD:
	case ZYDIS_MNEMONIC_UCOMISS:
	case ZYDIS_MNEMONIC_UCOMISD:
	case ZYDIS_MNEMONIC_VCOMISS:
	case ZYDIS_MNEMONIC_VCOMISD:
	case ZYDIS_MNEMONIC_VUCOMISS:
	case ZYDIS_MNEMONIC_VUCOMISD:
		return true;
	default:
		return false;
	}
}

/* Flags that SHL, SHR, SAR and IMUL leave undefined may be what they were: does this host write them all? */
static bool shift_writes_all, imul_writes_all;

#define FLAGS_AFTER(insn, value, before)                                               \
	({                                                                             \
		uint64_t v_ = (value), f_ = (before); /* beyond the red zone */        \
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %1\n\tpopfq\n\t" insn \
				 "\n\tpushfq\n\tpop %1\n\tlea 128(%%rsp), %%rsp"       \
				 : "+r"(v_), "+r"(f_)::"cc");                          \
		f_;                                                                    \
	})
#define SAME_AFTER(insn, value) (FLAGS_AFTER(insn, value, 0x202) == FLAGS_AFTER(insn, value, 0xad7))

static void __attribute__((constructor)) probe_undefined(void)
{
	uint64_t v = 0x9e3779b97f4a7c15u;
	shift_writes_all = imul_writes_all = true;
	for (unsigned n = 0; n < 64; n++, v = v * 6364136223846793005u + 1442695040888963407u) {
		shift_writes_all = shift_writes_all && SAME_AFTER("shl $1, %0", v) &&
				   SAME_AFTER("shl $5, %0", v) && SAME_AFTER("shr $1, %0", v) &&
				   SAME_AFTER("shr $5, %k0", v) && SAME_AFTER("sar $1, %k0", v) &&
				   SAME_AFTER("sar $31, %0", v) && SAME_AFTER("shl $31, %k0", v) &&
				   SAME_AFTER("shr $63, %0", v);
		imul_writes_all = imul_writes_all && SAME_AFTER("imul %0, %0", v) &&
				  SAME_AFTER("imul %k0, %k0", v) && SAME_AFTER("imul $7, %0, %0", v) &&
				  SAME_AFTER("imul $-300, %k0, %k0", v);
	}
}

/* By its operands, or on this host. */
static bool
writes_all_here(const struct jx *x)
{
	const ZydisDecodedInstruction *z = x->z;
	unsigned width = z->operand_width;
	if (width < 32)
		return false;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
		return shift_writes_all && x->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
		       (x->op[1].imm.value.u & (width - 1)) != 0 && z->opcode != 0xd2 &&
		       x->op[0].size == width;
	case ZYDIS_MNEMONIC_IMUL:
		return imul_writes_all && z->operand_count_visible >= 2 && x->op[0].size == width;
	default:
		return false;
	}
}

unsigned
jit_insn_flags(const struct jx *x)
{
	const ZydisDecodedInstruction *z = x->z;
	const ZydisAccessedFlags *f = z->cpu_flags;
	unsigned use = 0;
	if (f == NULL)
		return 0;
	if (f->tested & ARITH)
		use |= FLAGS_READ;
	if ((f->modified | f->set_0 | f->set_1 | f->undefined) & ARITH)
		use |= FLAGS_WRITTEN | (writes_all(z->mnemonic) || writes_all_here(x) ? 0 : FLAGS_READ);
	return use;
}
