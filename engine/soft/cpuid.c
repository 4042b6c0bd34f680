/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which of the host's CPUID features the soft engine gives to its guests: those
 * whose instructions it interprets, or runs on the host's units. A mask a word,
 * never "everything but": a bit that is not named here is not offered.
 */
#include "base/util.h"
#include "engine/soft/cpu.h"

#define B(n) (1u << (n))

static const struct {
	uint32_t leaf, sub;
	uint32_t keep[4]; /* eax, ebx, ecx, edx */
} filter[] = {
    {1,
     0,
     {~0u, ~0u,
      /* sse3 pclmul ssse3 fma cx16 pcid sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand */
      B(0) | B(1) | B(9) | B(12) | B(13) | B(17) | B(19) | B(20) | B(22) | B(23) | B(25) | B(26) | B(28) |
	  B(29) | B(30),
      /* fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss
       */
      B(0) | B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) | B(9) | B(11) | B(12) | B(13) | B(14) |
	  B(15) | B(16) | B(17) | B(19) | B(23) | B(24) | B(25) | B(26) | B(27)}},
    {7,
     0,
     {~0u,
      /* fsgsbase tsc_adjust bmi1 avx2 smep bmi2 erms invpcid avx512f dq rdseed adx smap ifma clflushopt clwb
	 cd sha bw vl */
      B(0) | B(1) | B(3) | B(5) | B(7) | B(8) | B(9) | B(10) | B(16) | B(17) | B(18) | B(19) | B(20) | B(21) |
	  B(23) | B(24) | B(28) | B(29) | B(30) | B(31),
      /* vbmi umip pku vbmi2 gfni vaes vpclmul vnni bitalg vpopcntdq la57 rdpid */
      B(1) | B(2) | B(3) | B(6) | B(8) | B(9) | B(10) | B(11) | B(12) | B(14) | B(16) | B(22),
      /* fsrm serialize */
      B(4) | B(14)}},
    {7, 1, {B(4) | B(5) /* avx_vnni avx512_bf16 */, 0, 0, 0}},
    {0xd, 0, {0x2e7, 0, ~0u, 0}},
    {0xd, 1, {B(0) | B(1) | B(2) | B(3) /* xsaveopt xsavec xgetbv1 xsaves */, 0, 0, 0}},
    {0x80000001,
     0,
     {~0u, ~0u,
      /* lahf cr8legacy abm sse4a misalignsse prefetchw topoext */
      B(0) | B(1) | B(4) | B(5) | B(6) | B(7) | B(8) | B(22),
      /* as leaf 1, syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm */
      0x0183f3ff | B(11) | B(20) | B(22) | B(23) | B(24) | B(25) | B(26) | B(27) | B(29)}},
    {0x80000007, 0, {0, 0, 0, B(8) /* invariant TSC */}},
    {0x80000008, 0, {~0u, B(0) | B(2) /* clzero, xsaveerptr */, ~0u, 0}},
    {0x80000021, 0, {B(2) | B(6) /* lfence serializing, null selector clears base */, 0, 0, 0}},
};

/*
 * Features of the engine itself. Guest branches are not the host's branches, so that the guest's own defences
 * against branch prediction (retpolines, return thunks, untrained returns) cost much and guard nothing: say
 * that the processor does not need them (doc/quirks.md).
 */
static const struct {
	uint32_t leaf, sub;
	unsigned word;
	uint32_t set;
	bool amd;
} own[] = {
    {0x80000008, 0, 1, B(26) | B(29), true}, /* SSB_NO, BTC_NO */
    {0x80000021, 0, 0, B(2) | B(6) | B(8) | B(29),
     true},				   /* LFENCE, NullSelClrBase, automatic IBRS, SRSO_NO */
    {0x80000021, 0, 2, B(1) | B(2), true}, /* TSA_SQ_NO, TSA_L1_NO */
    {7, 0, 3, B(26) | B(29), false},	   /* SPEC_CTRL, ARCH_CAPABILITIES (msr.c) */
};

/* Leaves that pass as they are; all others but the above go. */
static const uint32_t plain[] = {
    0,		2,	    4,		0xd,	    0x15,	0x16,	    0x80000000,
    0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006, 0x8000001d, 0x8000001e,
};

static bool
filter_leaf(struct x86_cpuid_leaf *l)
{
	for (unsigned n = 0; n < ARRAY_LEN(filter); n++) {
		if (filter[n].leaf != l->leaf || filter[n].sub != l->subleaf)
			continue;
		l->eax &= filter[n].keep[0];
		l->ebx &= filter[n].keep[1];
		l->ecx &= filter[n].keep[2];
		l->edx &= filter[n].keep[3];
		return true;
	}
	if (l->leaf == 0xd) /* user components that XCR0 may name */
		return l->subleaf < 32 && (0x2e7u >> l->subleaf & 1) && !(l->ecx & 1);
	for (unsigned n = 0; n < ARRAY_LEN(plain); n++) {
		if (plain[n] == l->leaf)
			return true;
	}
	return false;
}

void
soft_cpuid_filter(struct x86_cpuid *t)
{
	unsigned kept = 0;
	uint32_t basic = 0, ext = 0x80000000, xsize = 576;
	for (unsigned n = 0; n < t->count; n++) {
		struct x86_cpuid_leaf l = t->leaf[n];
		if (!filter_leaf(&l))
			continue;
		t->leaf[kept++] = l;
		if (l.leaf < 0x40000000)
			basic = MAX(basic, l.leaf);
		else
			ext = MAX(ext, l.leaf);
		if (l.leaf == 0xd && l.subleaf > 1)
			xsize = MAX(xsize, l.ebx + l.eax);
	}
	t->count = kept;
	bool amd = x86_cpuid_is_amd(t);
	for (unsigned n = 0; n < ARRAY_LEN(own); n++) {
		struct x86_cpuid_leaf *l =
		    own[n].amd == amd ? x86_cpuid_find(t, own[n].leaf, own[n].sub, true) : NULL;
		if (l == NULL)
			continue;
		uint32_t *word[4] = {&l->eax, &l->ebx, &l->ecx, &l->edx};
		*word[own[n].word] |= own[n].set;
		ext = MAX(ext, own[n].leaf);
	}
	for (unsigned n = 0; n < t->count; n++) {
		struct x86_cpuid_leaf *l = &t->leaf[n];
		if (l->leaf == 0)
			l->eax = basic;
		else if (l->leaf == 0x80000000)
			l->eax = ext;
		else if (l->leaf == 0xd && l->subleaf == 0)
			l->ecx = xsize;
		else if (l->leaf == 7 && l->subleaf == 0)
			l->eax = MIN(l->eax, 1u);
	}
}

/* PKRU's place in XSAVE's standard form: after all others, as processors have it. */
static bool
add_pkru_state(struct x86_cpuid *t)
{
	struct x86_cpuid_leaf *d = x86_cpuid_find(t, 0xd, 0, false), *pkru;
	uint32_t end = 576;
	if (d == NULL)
		return false;
	if (d->eax & B(9))
		return true;
	for (unsigned n = 0; n < t->count; n++) {
		if (t->leaf[n].leaf == 0xd && t->leaf[n].subleaf > 1)
			end = MAX(end, t->leaf[n].ebx + t->leaf[n].eax);
	}
	if (t->count == X86_CPUID_MAX)
		return false;
	pkru = &t->leaf[t->count++];
	*pkru = (struct x86_cpuid_leaf){
	    .leaf = 0xd, .subleaf = 9, .has_subleaf = true, .eax = 8, .ebx = (uint32_t)align_up(end, 64)};
	d->eax |= B(9);
	d->ecx = MAX(d->ecx, pkru->ebx + pkru->eax);
	return true;
}

void
soft_cpuid_add(struct x86_cpuid *t, uint32_t features)
{
	struct x86_cpuid_leaf *l7 = x86_cpuid_find(t, 7, 0, false), *sizes;
	if (l7 == NULL)
		return;
	if ((features & ENGINE_PKU) && !add_pkru_state(t))
		features &= ~(uint32_t)ENGINE_PKU;
	l7->ecx |= features & ((uint32_t)ENGINE_PKU | ENGINE_LA57 | ENGINE_PKS);
	sizes = x86_cpuid_find(t, 0x80000008, 0, false);
	if ((features & ENGINE_LA57) && sizes != NULL)
		sizes->eax = (sizes->eax & ~0xff00u) | 57 << 8;
}
