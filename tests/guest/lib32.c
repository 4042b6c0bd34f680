/* SPDX-License-Identifier: BSD-2-Clause */
/* 32-bit guests: gates, TSS, the way to real mode. */
#include "tests/guest/guest.h"

struct tss tss;
struct dtable idt_pointer;

static struct __attribute__((packed, aligned(8))) gate {
	uint16_t offset0, selector;
	uint8_t zero, access;
	uint16_t offset1;
} idt[256];
extern uint8_t trap_entries[], real_entries[], low_image[], low_start[], low_end[];
extern struct context real_context;
extern uint16_t real_data_selector;
extern uint32_t real_vector;
void guest_init(void);
void guest_real_asm(void);

void
idt_set(unsigned vector, unsigned selector, unsigned long offset, unsigned access)
{
	idt[vector] = (struct gate){.offset0 = (uint16_t)offset,
				    .selector = (uint16_t)selector,
				    .access = (uint8_t)access,
				    .offset1 = (uint16_t)(offset >> 16)};
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

int
guest_enter_real(struct context *c, bool unreal)
{
	real_context = *c;
	real_data_selector = unreal ? SEL_DATA : SEL_DATA16;
	guest_real_asm();
	*c = real_context;
	return (int)real_vector;
}

/* The interrupt vector table of real mode, at 0: a stub of 8 bytes a vector. */
static void
fill_ivt(void)
{
	for (uintptr_t v = 0; v < 256; v++) {
		uintptr_t at = 4 * v;

		__asm__ volatile("movl %1, (%0)"
				 :
				 : "r"(at), "r"((uintptr_t)real_entries + 8 * v)
				 : "memory");
	}
}

void
guest_init(void)
{
	for (unsigned v = 0; v < 256; v++)
		trap_gate(v, v == GUEST_ENDED || v == 3 || v == 4 ? 0xee : 0x8e);
	idt_pointer = (struct dtable){sizeof(idt) - 1, (uintptr_t)idt};
	__asm__ volatile("lidt %0" : : "m"(idt_pointer));
	tss.ss0 = SEL_DATA;
	tss.iomap = sizeof(tss);
	gdt[SEL_TSS / 8] = descriptor((uintptr_t)&tss, sizeof(tss) - 1, 0x89, 0);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
	for (unsigned n = 0; low_start + n < low_end; n++)
		low_start[n] = low_image[n];
	fill_ivt();
	trap_clear();
}
