/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual-8086 mode extensions and protected-mode virtual interrupts (SDM vol. 3A
 * 20.3, 20.4): CLI, STI, PUSHF, POPF, INT n and IRET work on VIF where IOPL forbids IF.
 */
#include "engine/soft/seg.h"

/* IOPL does not let this code touch IF. */
static bool
iopl_denies(const struct soft_cpu *cpu)
{
	unsigned iopl = (cpu->rflags & FL_IOPL) >> 12;
	return soft_is_vm86(cpu) ? iopl < 3 : cpu->cpl > iopl;
}

bool
soft_virtual_if(const struct soft_cpu *cpu)
{
	if (soft_is_real(cpu) || !iopl_denies(cpu))
		return false;
	return soft_is_vm86(cpu) ? cpu->st.cr4 & CR4_VME : cpu->cpl == 3 && (cpu->st.cr4 & CR4_PVI);
}

void
soft_virtual_cli_sti(struct soft_cpu *cpu, bool sti)
{
	if (sti && (cpu->rflags & FL_VIP))
		soft_gp(cpu, 0);
	if (sti)
		cpu->rflags |= FL_VIF;
	else
		cpu->rflags &= ~(uint64_t)FL_VIF;
}

/* What PUSHF and INT n push: VIF in IF's place, IOPL 3. */
uint16_t
soft_vme_flags_image(const struct soft_cpu *cpu)
{
	uint64_t f = soft_rflags(cpu);
	f = (f & ~(uint64_t)FL_IF) | FL_IOPL | (cpu->rflags & FL_VIF ? FL_IF : 0);
	return (uint16_t)f;
}

/* 16-bit POPF and IRET: IF goes to VIF; #GP when an interrupt waits (VIP), or for TF. */
void
soft_vme_pop_flags(struct soft_cpu *cpu, uint16_t image)
{
	uint64_t f = soft_rflags(cpu), keep = FL_IF | FL_IOPL;
	if ((image & FL_TF) || ((image & FL_IF) && (cpu->rflags & FL_VIP)))
		soft_gp(cpu, 0);
	f = (f & ~(0xffffull & ~keep)) | (image & ~keep & 0xffff);
	f = image & FL_IF ? f | FL_VIF : f & ~(uint64_t)FL_VIF;
	soft_set_rflags(cpu, f);
}

/* INT n in virtual-8086 mode with VME: the bit map below the I/O map says who handles it. False: the IDT
 * does. */
bool
soft_vme_int(struct soft_cpu *cpu, unsigned vec, uint64_t next_rip)
{
	const struct x86_segment *tr = &cpu->st.seg[X86_TR];
	struct soft_stack s;
	bool denied = iopl_denies(cpu);
	if (!(cpu->st.cr4 & CR4_VME) || !(tr->attr & 8) || tr->limit < 0x67)
		return false;
	uint32_t map = (uint32_t)soft_load_sys(cpu, tr->base + 0x66, 2);
	if (map < 32 || map - 32 + vec / 8 > tr->limit)
		return false;
	if (soft_load_sys(cpu, tr->base + map - 32 + vec / 8, 1) >> (vec & 7) & 1)
		return false;
	uint32_t ptr = (uint32_t)soft_load(cpu, vec * 4, 4);
	soft_stack_current(cpu, &s);
	soft_stack_push(cpu, &s, 2, denied ? soft_vme_flags_image(cpu) : (uint16_t)soft_rflags(cpu));
	soft_stack_push(cpu, &s, 2, cpu->st.seg[X86_CS].sel);
	soft_stack_push(cpu, &s, 2, next_rip);
	soft_stack_commit_sp(cpu, &s);
	soft_load_seg_real(cpu, X86_CS, (uint16_t)(ptr >> 16));
	cpu->rip = ptr & 0xffff;
	soft_set_rflags(cpu, soft_rflags(cpu) & ~(uint64_t)(FL_TF | FL_NT | (denied ? FL_VIF : FL_IF)));
	soft_update_mode(cpu);
	return true;
}
