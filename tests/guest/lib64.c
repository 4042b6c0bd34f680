/* SPDX-License-Identifier: BSD-2-Clause */
/* 64-bit guests: gates, TSS, pages. */
#include "tests/guest/guest.h"

struct tss tss;
uint32_t guest_start_info; /* start.S: where it is */
struct dtable idt_pointer;

static struct __attribute__((packed, aligned(16))) gate {
	uint16_t offset0, selector;
	uint8_t ist, access;
	uint16_t offset1;
	uint32_t offset2, pad;
} idt[256];
static uint64_t page_table[512] __attribute__((aligned(4096)));
static uint64_t page_directory[512] __attribute__((aligned(4096)));
static uint64_t page_pointers[512] __attribute__((aligned(4096)));
void (*guest_ap_main)(void);
extern uint8_t trap_entries[], guest_user_code[], ap_start[], ap_end[];
void guest_init(void);

const char *
guest_cmdline(void)
{
	enum { CMDLINE = 24 }; /* in PVH's start information: its address, 8 bytes */
	const char *text = *(const char *const *)(uintptr_t)(guest_start_info + CMDLINE);

	return text != NULL ? text : "";
}

void
idt_set(unsigned vector, unsigned selector, unsigned long offset, unsigned access)
{
	idt[vector] = (struct gate){.offset0 = (uint16_t)offset,
				    .selector = (uint16_t)selector,
				    .access = (uint8_t)access,
				    .offset1 = (uint16_t)(offset >> 16),
				    .offset2 = (uint32_t)(offset >> 32)};
}

void
trap_gate(unsigned vector, unsigned access)
{
	idt_set(vector, SEL_CODE, (uintptr_t)trap_entries + 16 * vector, access);
}

uint8_t *
idt_access(unsigned vector)
{
	return &idt[vector].access;
}

void
trap_set_ist(unsigned vector, unsigned ist)
{
	idt[vector].ist = (uint8_t)ist;
}

void
gdt_set_system(unsigned selector, uint64_t base, uint32_t limit, unsigned type)
{
	gdt[selector / 8] = descriptor((uint32_t)base, limit, 0x80 | type, 0);
	gdt[selector / 8 + 1] = base >> 32;
}

void
page_map(unsigned index, uint64_t physical, uint64_t flags)
{
	page_table[index] = physical | flags;
	invlpg(page_at(index));
}

void
guest_user(void (*code)(uint64_t arg), uint64_t arg)
{
	struct context c = {.ip = (uintptr_t)guest_user_code,
			    .cs = SEL_USER_CODE,
			    .flags = 2,
			    .sp = (uintptr_t)user_stack_top,
			    .ss = SEL_USER_DATA,
			    .ds = SEL_USER_DATA,
			    .es = SEL_USER_DATA,
			    .ax = (uintptr_t)code,
			    .di = arg};

	if (guest_enter(&c) == GUEST_ENDED)
		trap_clear();
}

/* INIT, then a start-up message to all but self, by the xAPIC. */
void
guest_start_ap(void (*code)(void))
{
	volatile uint32_t *lapic = (volatile uint32_t *)0xfee00000ul;

	guest_ap_main = code;
	memcpy((void *)0x8000ul, ap_start, (size_t)(ap_end - ap_start));
	lapic[0xf0 / 4] = 0x1ff;
	lapic[0x300 / 4] = 0xc4500;
	lapic[0x300 / 4] = 0xc4608;
}

void
guest_init(void)
{
	for (unsigned v = 0; v < 256; v++)
		trap_gate(v, v == GUEST_ENDED || v == 3 || v == 4 ? 0xee : 0x8e);
	idt_pointer = (struct dtable){sizeof(idt) - 1, (uintptr_t)idt};
	__asm__ volatile("lidt %0" : : "m"(idt_pointer));
	tss.iomap = sizeof(tss);
	gdt_set_system(SEL_TSS, (uintptr_t)&tss, sizeof(tss) - 1, 0x9);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
	page_directory[0] = (uintptr_t)page_table | 7;
	page_pointers[0] = (uintptr_t)page_directory | 7;
	pml4[1] = (uintptr_t)page_pointers | 7;
	trap_clear();
}
