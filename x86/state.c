/* SPDX-License-Identifier: BSD-2-Clause */
/* Reset, INIT and start-up states as data (SDM vol. 3A 10.1.1, table 10-1). */
#include "x86/state.h"
#include <string.h>

static void
reset_segments(struct x86_state *s)
{
	for (unsigned n = 0; n < X86_NSEG; n++)
		s->seg[n] = (struct x86_segment){.limit = 0xffff, .attr = 0x93};
	s->seg[X86_CS] =
	    (struct x86_segment){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = 0x9b};
	s->seg[X86_LDTR].attr = 0x82;
	s->seg[X86_TR].attr = 0x8b;
	s->gdtr = (struct x86_dtable){.limit = 0xffff};
	s->idtr = (struct x86_dtable){.limit = 0xffff};
}

void
x86_state_init(struct x86_state *s)
{
	uint64_t keep_cr0 = s->cr0 & (CR0_CD | CR0_NW);
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[X86_RDX] = 0x600;
	s->rip = 0xfff0;
	s->rflags = FL_1;
	reset_segments(s);
	s->cr0 = keep_cr0 | CR0_ET;
	s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
	memset(s->pdpte, 0, sizeof(s->pdpte));
	memset(s->dr, 0, sizeof(s->dr));
	s->dr[6] = 0xffff0ff0;
	s->dr[7] = 0x400;
	s->msr.efer = 0;
	s->shadow = SHADOW_NONE;
	s->nmi_blocked = s->nmi_pending = 0;
	s->pending_db = 0;
	s->intr_pending = s->intr_vector = 0;
	s->activity = ACT_RUNNING;
}

void
x86_state_reset(struct x86_state *s)
{
	memset(s, 0, sizeof(*s));
	s->cr0 = CR0_CD | CR0_NW;
	x86_state_init(s);
	s->xcr0 = 1;
	s->msr.pat = 0x0007040600070406;
	s->msr.misc_enable = 1;	  /* fast strings */
	s->msr.hwcr = 1ull << 24; /* AMD: the TSC counts at the P0 frequency */
	s->xs.mxcsr = 0x1f80;
	s->xs.fx[0] = 0x7f; /* FCW 037F: what FNINIT sets; reset's 0040 is seen by nobody */
	s->xs.fx[1] = 0x03;
}

void
x86_state_sipi(struct x86_state *s, uint8_t vector)
{
	s->seg[X86_CS].sel = (uint16_t)(vector << 8);
	s->seg[X86_CS].base = (uint64_t)vector << 12;
	s->rip = 0;
	s->activity = ACT_RUNNING;
}

void
x86_state_copy(struct x86_state *dst, const struct x86_state *src, unsigned mask)
{
	if (mask & X86_STATE_GPR) {
		memcpy(dst->gpr, src->gpr, sizeof(dst->gpr));
		dst->rip = src->rip;
		dst->rflags = src->rflags;
	}
	if (mask & X86_STATE_SEG) {
		memcpy(dst->seg, src->seg, sizeof(dst->seg));
		dst->gdtr = src->gdtr;
		dst->idtr = src->idtr;
	}
	if (mask & X86_STATE_CR) {
		dst->cr0 = src->cr0;
		dst->cr2 = src->cr2;
		dst->cr3 = src->cr3;
		dst->cr4 = src->cr4;
		dst->cr8 = src->cr8;
		dst->xcr0 = src->xcr0;
		memcpy(dst->pdpte, src->pdpte, sizeof(dst->pdpte));
		memcpy(dst->dr, src->dr, sizeof(dst->dr));
	}
	if (mask & X86_STATE_MSR)
		dst->msr = src->msr;
	if (mask & X86_STATE_EVENT) {
		dst->shadow = src->shadow;
		dst->nmi_blocked = src->nmi_blocked;
		dst->nmi_pending = src->nmi_pending;
		dst->activity = src->activity;
		dst->pending_db = src->pending_db;
		dst->intr_pending = src->intr_pending;
		dst->intr_vector = src->intr_vector;
	}
	if (mask & X86_STATE_XSAVE)
		dst->xs = src->xs;
}
