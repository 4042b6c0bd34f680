/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers that the engine itself owns: a table of index, place in
 * the state, and rule. The APIC's go to the board. Unknown ones: #GP(0) with
 * x86.strictmsr, else they read 0 and swallow writes.
 */
#include <stddef.h>
#include "base/log.h"
#include "engine/soft/cpu.h"
#include "engine/soft/jit.h"
#include "engine/soft/soft.h"

enum msr_rule {
	MSR_PLAIN,     /* any value */
	MSR_CANONICAL, /* #GP unless canonical */
	MSR_MASKED,    /* #GP on bits outside `mask` */
	MSR_READONLY,  /* reads `mask`; writes #GP */
	MSR_IGNORE,    /* reads `mask`; writes dropped */
	MSR_SPEC_CTRL, /* with CPUID only */
	MSR_PRED_CMD,  /* with CPUID only; write-only */
	MSR_EFER,
	MSR_FS,
	MSR_GS,
	MSR_TSC,
	MSR_TSC_ADJUST,
	MSR_PERF, /* AMD's legacy counters */
	MSR_PAT,
	MSR_MTRR_TYPES,
	MSR_MTRR_DEF,
	MSR_MTRR_BASE,
	MSR_MTRR_MASK,
	MSR_PKRS, /* with CPUID only */
};

struct msr_row {
	uint32_t first, last;
	uint16_t off; /* in struct x86_msrs; consecutive indexes follow */
	uint8_t rule;
	uint64_t mask;
};

#define M(m) offsetof(struct x86_msrs, m)

/* Sorted by index. SDM vol. 4; AMD's from the APM vol. 2, appendix A. */
static const struct msr_row rows[] = {
    {0x00000000, 0x00000001, 0, MSR_IGNORE, 0}, /* P5_MC_ADDR, P5_MC_TYPE */
    {0x00000010, 0x00000010, 0, MSR_TSC, 0},
    {0x00000017, 0x00000017, 0, MSR_READONLY, 0}, /* PLATFORM_ID */
    {0x0000003a, 0x0000003a, M(feature_control), MSR_MASKED, 1},
    {0x0000003b, 0x0000003b, 0, MSR_TSC_ADJUST, 0},
    {0x00000048, 0x00000048, M(spec_ctrl), MSR_SPEC_CTRL, 0x7},
    {0x00000049, 0x00000049, 0, MSR_PRED_CMD, 1},	 /* PRED_CMD */
    {0x00000079, 0x00000079, 0, MSR_IGNORE, 0},		 /* BIOS_UPDT_TRIG */
    {0x0000008b, 0x0000008b, 0, MSR_IGNORE, 0x01000065}, /* BIOS_SIGN_ID: a patch level */
    {0x000000ce, 0x000000ce, 0, MSR_READONLY, 0},	 /* PLATFORM_INFO */
    {0x000000fe, 0x000000fe, 0, MSR_READONLY, 0x508},	 /* MTRRCAP: WC, fixed, 8 variable */
    /* ARCH_CAPABILITIES: RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_NO, TAA_NO, the later _NOs
     */
    {0x0000010a, 0x0000010a, 0, MSR_READONLY, 0x0c1de17b},
    {0x00000174, 0x00000174, M(sysenter_cs), MSR_MASKED, 0xffffffff},
    {0x00000175, 0x00000175, M(sysenter_esp), MSR_CANONICAL, 0},
    {0x00000176, 0x00000176, M(sysenter_eip), MSR_CANONICAL, 0},
    {0x00000179, 0x00000179, 0, MSR_READONLY, 0}, /* MCG_CAP: no banks */
    {0x0000017a, 0x0000017a, M(mcg_status), MSR_PLAIN, 0},
    {0x00000186, 0x00000187, 0, MSR_IGNORE, 0}, /* PERFEVTSEL: CPUID 0xA offers none */
    {0x000000c1, 0x000000c2, 0, MSR_IGNORE, 0},
    {0x00000198, 0x00000199, 0, MSR_IGNORE, 0}, /* PERF_STATUS, PERF_CTL */
    {0x0000019a, 0x0000019c, 0, MSR_IGNORE, 0}, /* thermal */
    {0x000001a0, 0x000001a0, M(misc_enable), MSR_PLAIN, 0},
    {0x000001d9, 0x000001d9, M(debugctl), MSR_PLAIN, 0},
    {0x000001db, 0x000001de, 0, MSR_IGNORE, 0}, /* last branch and exception */
    {0x00000200, 0x0000020f, M(mtrr_var), MSR_MTRR_BASE, 0},
    {0x00000250, 0x00000250, M(mtrr_fix[0]), MSR_MTRR_TYPES, 0},
    {0x00000258, 0x00000259, M(mtrr_fix[1]), MSR_MTRR_TYPES, 0},
    {0x00000268, 0x0000026f, M(mtrr_fix[3]), MSR_MTRR_TYPES, 0},
    {0x00000277, 0x00000277, M(pat), MSR_PAT, 0},
    {0x000002ff, 0x000002ff, M(mtrr_def_type), MSR_MTRR_DEF, 0xcff},
    {0x000006e1, 0x000006e1, M(pkrs), MSR_PKRS, 0xffffffff},
    {0x00000da0, 0x00000da0, M(xss), MSR_MASKED, 0},
    {0xc0000080, 0xc0000080, M(efer), MSR_EFER, 0},
    {0xc0000081, 0xc0000081, M(star), MSR_PLAIN, 0},
    {0xc0000082, 0xc0000082, M(lstar), MSR_CANONICAL, 0},
    {0xc0000083, 0xc0000083, M(cstar), MSR_CANONICAL, 0},
    {0xc0000084, 0xc0000084, M(fmask), MSR_MASKED, 0xffffffff},
    {0xc0000100, 0xc0000100, 0, MSR_FS, 0},
    {0xc0000101, 0xc0000101, 0, MSR_GS, 0},
    {0xc0000102, 0xc0000102, M(kernel_gs_base), MSR_CANONICAL, 0},
    {0xc0000103, 0xc0000103, M(tsc_aux), MSR_MASKED, 0xffffffff},
    {0xc0000104, 0xc0000104, 0, MSR_IGNORE, 1ull << 32}, /* TSC ratio */
    {0xc0010000, 0xc0010007, 0, MSR_PERF, 0},		 /* PERF_CTL0-3, PERF_CTR0-3 */
    {0xc0010010, 0xc0010010, M(syscfg), MSR_PLAIN, 0},
    {0xc0010015, 0xc0010015, M(hwcr), MSR_PLAIN, 0},
    {0xc001001a, 0xc001001a, 0, MSR_IGNORE, 0}, /* TOP_MEM */
    {0xc001001d, 0xc001001d, 0, MSR_IGNORE, 0},
    {0xc001001f, 0xc001001f, 0, MSR_IGNORE, 0},	     /* NB_CFG */
    {0xc0010055, 0xc0010055, 0, MSR_IGNORE, 0},	     /* INT_PENDING_MSG */
    {0xc0010058, 0xc0010058, 0, MSR_IGNORE, 0},	     /* MMIO configuration base: none */
    {0xc0010061, 0xc0010064, 0, MSR_IGNORE, 0},	     /* P-states */
    {0xc0010112, 0xc0010113, 0, MSR_IGNORE, 0},	     /* TSEG */
    {0xc0010114, 0xc0010114, 0, MSR_IGNORE, 1 << 4}, /* VM_CR: SVM disabled */
    {0xc0010117, 0xc0010117, 0, MSR_IGNORE, 0},	     /* VM_HSAVE_PA */
    {0xc001011f, 0xc001011f, M(virt_spec_ctrl), MSR_PLAIN, 0},
    {0xc0010140, 0xc0010141, 0, MSR_IGNORE, 0}, /* OSVW */
    {0xc0011020, 0xc001102f, 0, MSR_IGNORE, 0}, /* LS_CFG, DE_CFG, ... */
};

static const struct msr_row *
find_row(uint32_t msr)
{
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++) {
		if (msr >= rows[n].first && msr <= rows[n].last)
			return &rows[n];
	}
	return NULL;
}

enum soft_msr
soft_msr_kind(uint32_t msr, uint64_t *fixed)
{
	const struct msr_row *r = find_row(msr);
	*fixed = 0;
	if (r == NULL)
		return SOFT_MSR_UNKNOWN;
	if (r->rule != MSR_READONLY && r->rule != MSR_IGNORE)
		return SOFT_MSR_STATE;
	*fixed = r->mask;
	return r->rule == MSR_READONLY ? SOFT_MSR_READONLY : SOFT_MSR_IGNORED;
}

static uint64_t *
slot(struct soft_cpu *cpu, const struct msr_row *r, uint32_t msr)
{
	return (uint64_t *)((char *)&cpu->st.msr + r->off) + (msr - r->first);
}

static bool
board_msr(uint32_t msr)
{
	return msr == 0x1b || msr == 0x6e0 || (msr >= 0x800 && msr <= 0x8ff);
}

static void
unknown(struct soft_cpu *cpu, uint32_t msr, bool write, uint64_t v)
{
	soft_vec_sync(cpu);
	if (write)
		log_guest("vcpu %u: wrmsr of unknown MSR %#x, value %#llx", cpu->id, msr,
			  (unsigned long long)v);
	else
		log_guest("vcpu %u: rdmsr of unknown MSR %#x", cpu->id, msr);
	if (cpu->vm->strict_msr)
		soft_gp(cpu, 0);
}

/* CPUID's words for speculation control: leaf 7 EDX, leaf 0x80000008 EBX. */
static bool
speculation_msr(struct soft_cpu *cpu, bool pred_cmd)
{
	uint32_t l7[4], e8[4];
	x86_cpuid_query(cpu->cpuid, 7, 0, l7);
	x86_cpuid_query(cpu->cpuid, 0x80000008, 0, e8);
	if (pred_cmd)
		return (l7[3] >> 26 & 1) || (e8[1] >> 12 & 1);
	return (l7[3] & (1u << 26 | 1u << 27 | 1u << 31)) || (e8[1] & (1u << 14 | 1u << 15 | 1u << 24));
}

uint64_t
soft_rdmsr(struct soft_cpu *cpu, uint32_t msr)
{
	if (board_msr(msr)) {
		bool fault;
		uint64_t v = soft_io(cpu, IOLOG_RDMSR, msr, 8, 0, &fault);
		if (fault)
			soft_gp(cpu, 0);
		return v;
	}
	const struct msr_row *r = find_row(msr);
	if (r == NULL) {
		unknown(cpu, msr, false, 0);
		return 0;
	}
	switch (r->rule) {
	case MSR_READONLY:
	case MSR_IGNORE:
		return r->mask;
	case MSR_SPEC_CTRL:
	case MSR_PRED_CMD:
		if (r->rule == MSR_PRED_CMD || !speculation_msr(cpu, false))
			soft_gp(cpu, 0);
		return *slot(cpu, r, msr);
	case MSR_PKRS:
		if (!(cpu->cr4_allowed & CR4_PKS))
			soft_gp(cpu, 0);
		return *slot(cpu, r, msr);
	case MSR_FS:
		return cpu->st.seg[X86_FS].base;
	case MSR_GS:
		return cpu->st.seg[X86_GS].base;
	case MSR_PERF:
		return soft_pmu_rdmsr(cpu, msr - r->first);
	case MSR_TSC:
		return soft_rdtsc(cpu);
	case MSR_TSC_ADJUST:
		return cpu->st.msr.tsc_adjust;
	default:
		return *slot(cpu, r, msr);
	}
}

void
soft_set_efer(struct soft_cpu *cpu, uint64_t v)
{
	uint64_t old = cpu->st.msr.efer;
	if (v & ~(cpu->efer_allowed | EFER_LMA))
		soft_gp(cpu, 0);
	if ((cpu->st.cr0 & CR0_PG) && ((v ^ old) & EFER_LME))
		soft_gp(cpu, 0);
	cpu->st.msr.efer = (v & ~(uint64_t)EFER_LMA) | (old & EFER_LMA); /* LMA follows CR0.PG only */
	if ((v ^ old) & EFER_NXE)
		soft_tlb_flush(cpu);
}

/* Memory types 0, 1, 4-7 (PAT; 7 is UC-) or 0, 1, 4-6 (MTRR) in every byte. */
static void
check_types(struct soft_cpu *cpu, uint64_t v, uint32_t legal)
{
	for (unsigned n = 0; n < 8; n++) {
		unsigned t = v >> (8 * n) & 0xff;
		if (t > 7 || !(legal >> t & 1))
			soft_gp(cpu, 0);
	}
}

void
soft_wrmsr(struct soft_cpu *cpu, uint32_t msr, uint64_t v)
{
	if (board_msr(msr)) {
		bool fault;
		soft_io(cpu, IOLOG_WRMSR, msr, 8, v, &fault);
		if (fault)
			soft_gp(cpu, 0);
		if (msr == 0x1b)
			cpu->apic_on = v >> 11 & 1;
		return;
	}
	const struct msr_row *r = find_row(msr);
	if (r == NULL) {
		unknown(cpu, msr, true, v);
		return;
	}
	switch (r->rule) {
	case MSR_READONLY:
		soft_gp(cpu, 0);
	case MSR_IGNORE:
		return;
	case MSR_EFER:
		soft_set_efer(cpu, v);
		return;
	case MSR_PERF:
		soft_pmu_wrmsr(cpu, msr - r->first, v);
		return;
	case MSR_TSC: {
		uint64_t delta = v - soft_rdtsc(cpu);
		cpu->tsc_offset += delta;
		cpu->st.msr.tsc_adjust += delta;
		return;
	}
	case MSR_TSC_ADJUST:
		cpu->tsc_offset += v - cpu->st.msr.tsc_adjust;
		cpu->st.msr.tsc_adjust = v;
		return;
	case MSR_FS:
	case MSR_GS: {
		unsigned seg = r->rule == MSR_FS ? X86_FS : X86_GS;
		if (!soft_canonical_wide(cpu, v))
			soft_gp(cpu, 0);
		cpu->st.seg[seg].base = v;
		cpu->seg_base[seg] = v;
		return;
	}
	case MSR_CANONICAL:
		if (!soft_canonical_wide(cpu, v))
			soft_gp(cpu, 0);
		break;
	case MSR_PRED_CMD:
		if (!speculation_msr(cpu, true) || (v & ~r->mask))
			soft_gp(cpu, 0);
		return;
	case MSR_SPEC_CTRL:
		if (!speculation_msr(cpu, false) || (v & ~r->mask))
			soft_gp(cpu, 0);
		break;
	case MSR_PKRS:
		if (!(cpu->cr4_allowed & CR4_PKS) || (v & ~r->mask))
			soft_gp(cpu, 0);
		soft_tlb_recheck(cpu);
		break;
	case MSR_MASKED:
	case MSR_MTRR_DEF:
		if (v & ~r->mask)
			soft_gp(cpu, 0);
		break;
	case MSR_PAT:
		check_types(cpu, v, 0xf3);
		break;
	case MSR_MTRR_TYPES:
		check_types(cpu, v, 0x73);
		break;
	case MSR_MTRR_BASE:
		if (v & ~cpu->phys_mask & ~0xfffull)
			soft_gp(cpu, 0);
		break;
	default:
		break;
	}
	*slot(cpu, r, msr) = v;
}
