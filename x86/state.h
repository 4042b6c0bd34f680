/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The canonical state of an x86 vCPU: what engines import and export, what is
 * saved, what tests compare. Values are architectural (SDM vol. 3A), never an
 * engine's own form.
 */
#ifndef LHYVE_X86_STATE_H
#define LHYVE_X86_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum x86_gpr {
	X86_RAX,
	X86_RCX,
	X86_RDX,
	X86_RBX,
	X86_RSP,
	X86_RBP,
	X86_RSI,
	X86_RDI,
	X86_R8,
	X86_R9,
	X86_R10,
	X86_R11,
	X86_R12,
	X86_R13,
	X86_R14,
	X86_R15,
};
enum x86_seg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_LDTR, X86_TR, X86_NSEG };

/* Hidden part of a segment register. attr as in VMX access rights: bits 3:0 type, 4 S, 6:5 DPL, 7 P,
 * 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable. limit in bytes, already scaled by G. */
struct x86_segment {
	uint16_t sel;
	uint16_t pad;
	uint32_t attr;
	uint32_t limit;
	uint32_t pad2;
	uint64_t base;
};

struct x86_dtable {
	uint64_t base;
	uint16_t limit;
	uint16_t pad[3];
};

enum {
	SEG_TYPE = 0xf,
	SEG_S = 1 << 4,
	SEG_DPL_SHIFT = 5,
	SEG_DPL = 3 << 5,
	SEG_P = 1 << 7,
	SEG_AVL = 1 << 12,
	SEG_L = 1 << 13,
	SEG_DB = 1 << 14,
	SEG_G = 1 << 15,
	SEG_UNUSABLE = 1 << 16,
};

enum {
	FL_CF = 1 << 0,
	FL_1 = 1 << 1,
	FL_PF = 1 << 2,
	FL_AF = 1 << 4,
	FL_ZF = 1 << 6,
	FL_SF = 1 << 7,
	FL_TF = 1 << 8,
	FL_IF = 1 << 9,
	FL_DF = 1 << 10,
	FL_OF = 1 << 11,
	FL_IOPL = 3 << 12,
	FL_NT = 1 << 14,
	FL_RF = 1 << 16,
	FL_VM = 1 << 17,
	FL_AC = 1 << 18,
	FL_VIF = 1 << 19,
	FL_VIP = 1 << 20,
	FL_ID = 1 << 21,
	FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
};

#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u

#define CR4_VME	       (1u << 0)
#define CR4_PVI	       (1u << 1)
#define CR4_TSD	       (1u << 2)
#define CR4_DE	       (1u << 3)
#define CR4_PSE	       (1u << 4)
#define CR4_PAE	       (1u << 5)
#define CR4_MCE	       (1u << 6)
#define CR4_PGE	       (1u << 7)
#define CR4_PCE	       (1u << 8)
#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP       (1u << 11)
#define CR4_LA57       (1u << 12)
#define CR4_FSGSBASE   (1u << 16)
#define CR4_PCIDE      (1u << 17)
#define CR4_OSXSAVE    (1u << 18)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)
#define CR4_PKE	       (1u << 22)
#define CR4_PKS	       (1u << 24)

#define EFER_SCE    (1u << 0)
#define EFER_LME    (1u << 8)
#define EFER_LMA    (1u << 10)
#define EFER_NXE    (1u << 11)
#define EFER_SVME   (1u << 12)
#define EFER_FFXSR  (1u << 14)
#define EFER_AIBRSE (1u << 21)

enum x86_exception {
	EXC_DE = 0,
	EXC_DB = 1,
	EXC_NMI = 2,
	EXC_BP = 3,
	EXC_OF = 4,
	EXC_BR = 5,
	EXC_UD = 6,
	EXC_NM = 7,
	EXC_DF = 8,
	EXC_TS = 10,
	EXC_NP = 11,
	EXC_SS = 12,
	EXC_GP = 13,
	EXC_PF = 14,
	EXC_MF = 16,
	EXC_AC = 17,
	EXC_MC = 18,
	EXC_XM = 19,
	EXC_CP = 21,
};

enum {
	PFEC_P = 1 << 0,
	PFEC_W = 1 << 1,
	PFEC_U = 1 << 2,
	PFEC_RSVD = 1 << 3,
	PFEC_I = 1 << 4,
	PFEC_PK = 1 << 5,
};

/* Extended state. vec holds whole registers (SDM's ZMM view): bytes 0-15 XMM, 16-31 YMM_Hi128, 32-63
 * ZMM_Hi256. */
struct x86_xstate {
	_Alignas(64) uint8_t vec[32][64];
	uint64_t k[8];
	_Alignas(16) uint8_t fx[160]; /* first 160 bytes of the FXSAVE64 image: FCW..MXCSR_MASK, ST0-ST7 */
	uint32_t mxcsr;		      /* the copy that counts */
	uint32_t pkru;
};

enum x86_interrupt_shadow { SHADOW_NONE = 0, SHADOW_STI = 1, SHADOW_MOVSS = 2 };

enum x86_activity { ACT_RUNNING, ACT_HALTED, ACT_WAIT_SIPI, ACT_SHUTDOWN };

#define X86_MTRR_VAR 8

struct x86_msrs {
	uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base, tsc_aux, tsc_adjust;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, spec_ctrl, xss, debugctl, mcg_status, mcg_cap_unused, feature_control;
	uint64_t mtrr_def_type, mtrr_fix[11], mtrr_var[2 * X86_MTRR_VAR];
	uint64_t perf_ctl[4], perf_ctr[4]; /* AMD's legacy counters */
	uint64_t hwcr, syscfg, pkrs, virt_spec_ctrl, tsx_ctrl, mc_ctl[8], mc_status[8];
};

enum x86_state_mask {
	X86_STATE_GPR = 1,
	X86_STATE_SEG = 2,
	X86_STATE_CR = 4,
	X86_STATE_MSR = 8,
	X86_STATE_EVENT = 16,
	X86_STATE_XSAVE = 32,
	X86_STATE_ALL = 63,
};

struct x86_state {
	/* X86_STATE_GPR */
	uint64_t gpr[16];
	uint64_t rip, rflags;
	/* X86_STATE_SEG */
	struct x86_segment seg[X86_NSEG];
	struct x86_dtable gdtr, idtr;
	/* X86_STATE_CR */
	uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
	uint64_t pdpte[4]; /* PAE: loaded by MOV CR3 and friends */
	uint64_t dr[8];	   /* 4 and 5 unused */
	/* X86_STATE_MSR */
	struct x86_msrs msr;
	/* X86_STATE_EVENT */
	uint8_t shadow; /* enum x86_interrupt_shadow, OR-ed */
	uint8_t nmi_blocked, nmi_pending;
	uint8_t activity;    /* enum x86_activity */
	uint32_t pending_db; /* DR6 bits of a trap that is to be delivered before the next instruction */
	uint8_t intr_pending,
	    intr_vector; /* an external interrupt that the controller has given up already */
	/* X86_STATE_XSAVE */
	struct x86_xstate xs;
};

/* Power-on / INIT state (SDM vol. 3A 10.1.1, table 10-1). INIT keeps XSAVE state, CR0.CD/NW and most MSRs. */
void x86_state_reset(struct x86_state *s);
void x86_state_init(struct x86_state *s);

/* Copy the components in `mask` (enum x86_state_mask). */
void x86_state_copy(struct x86_state *dst, const struct x86_state *src, unsigned mask);

/* Start-up IPI: real mode at vector << 12. */
void x86_state_sipi(struct x86_state *s, uint8_t vector);

#endif
