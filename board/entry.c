/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments and page tables in which kernels are entered. */
#include "board/entry.h"

#include <string.h>

#include "base/util.h"
#include "board/loader.h"
#include "x86/state.h"

enum {
	SEL_CODE = 0x10,
	SEL_DATA = 0x18,
	ATTR_CODE64 = SEG_G | SEG_L | SEG_P | SEG_S | 0xb,
	ATTR_CODE32 = SEG_G | SEG_DB | SEG_P | SEG_S | 0xb,
	ATTR_DATA = SEG_G | SEG_DB | SEG_P | SEG_S | 0x3,
	ATTR_TSS = SEG_P | 0xb,
	ATTR_LDT = SEG_P | 0x2,
};
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_CODE32 0x00cf9b000000ffffull
#define GDT_DATA   0x00cf93000000ffffull

static void
set_gdt(struct gpmap *mem, struct x86_state *s, uint64_t at, bool is_long)
{
	const uint64_t gdt[ENTRY_GDT_BYTES / 8] = {0, 0, is_long ? GDT_CODE64 : GDT_CODE32, GDT_DATA};

	boot_poke(mem, at, gdt, sizeof(gdt));
	s->gdtr = (struct x86_dtable){.base = at, .limit = sizeof(gdt) - 1};
}

static void
set_segments(struct x86_state *s, bool is_long)
{
	const struct x86_segment data = {.sel = SEL_DATA, .attr = ATTR_DATA, .limit = UINT32_MAX};

	s->gdtr = (struct x86_dtable){0};
	s->idtr = (struct x86_dtable){0};
	for (unsigned i = 0; i < X86_LDTR; i++)
		s->seg[i] = data;
	s->seg[X86_CS] = (struct x86_segment){
	    .sel = SEL_CODE,
	    .attr = is_long ? ATTR_CODE64 : ATTR_CODE32,
	    .limit = UINT32_MAX,
	};
	s->seg[X86_LDTR] = (struct x86_segment){.attr = ATTR_LDT, .limit = 0xffff};
	s->seg[X86_TR] = (struct x86_segment){.attr = ATTR_TSS, .limit = 0xffff};
}

static void
set_paging(struct gpmap *mem, struct x86_state *s, uint64_t pml4)
{
	enum { P_RW = 0x3, P_RW_PS = 0x83, DIRS = 4, ENTRIES = 512, PAGE = 4096 };
	uint64_t pdpt = pml4 + PAGE, dirs = pdpt + PAGE, entry = pdpt | P_RW;

	boot_poke(mem, pml4, &entry, 8);
	for (unsigned i = 0; i < DIRS; i++) {
		uint64_t dir[ENTRIES];

		entry = (dirs + (uint64_t)PAGE * i) | P_RW;
		boot_poke(mem, pdpt + 8 * i, &entry, 8);
		for (unsigned j = 0; j < ENTRIES; j++)
			dir[j] = ((uint64_t)i * ENTRIES + j) * 2 * MIB | P_RW_PS;
		boot_poke(mem, dirs + (uint64_t)PAGE * i, dir, sizeof(dir));
	}
	s->cr3 = pml4;
	s->cr4 |= CR4_PAE;
	s->msr.efer |= EFER_LME | EFER_LMA;
	s->cr0 |= CR0_PG;
}

void
entry_flat(struct x86_state *s, uint64_t rip)
{
	set_segments(s, false);
	s->cr0 = CR0_PE | CR0_ET;
	memset(s->gpr, 0, sizeof(s->gpr));
	s->rip = rip;
	s->rflags = FL_1;
}

void
entry_protected(struct gpmap *mem, struct x86_state *s, uint64_t gdt, uint64_t rip)
{
	entry_flat(s, rip);
	set_gdt(mem, s, gdt, false);
}

void
entry_long(struct gpmap *mem, struct x86_state *s, uint64_t gdt, uint64_t tables, uint64_t rip)
{
	entry_flat(s, rip);
	set_segments(s, true);
	set_gdt(mem, s, gdt, true);
	set_paging(mem, s, tables);
}
