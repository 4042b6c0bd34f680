/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For tests/ctl: runs until it is told to end. CPU 0 asks ports over and over, so that most pauses find it in
 * a device access; CPU 1 halts with interrupts off. Says "ready", "nmi N" for each NMI of CPU N, and at the
 * power button "button", with exit status 41.
 */
#include "tests/guest/irq.h"

enum { PM1_PWRBTN = 1 << 8, SYSTEM_CONTROL = 0x61, CPUS = 2, VECTOR_NMI = 2, MAGIC = 0x6c68797665 };

static volatile unsigned nmis[CPUS];

struct frame;

__attribute__((interrupt)) static void
on_nmi(struct frame *f)
{
	(void)f;
	nmis[(lapic_read(LAPIC_ID) >> 24) & 1]++;
}

static void
say_nmis(void)
{
	static unsigned said[CPUS];

	for (unsigned i = 0; i < CPUS; i++) {
		while (said[i] != nmis[i]) {
			said[i]++;
			guest_printf("nmi %u\n", i);
		}
	}
}

static void
halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static uint16_t
pm_base(void)
{
	outl(0xcf8, 0x8000f840); /* 0:1f.0, PMBASE */
	return (uint16_t)(inl(0xcfc) & 0xff80);
}

int
main(void)
{
	uint16_t pm1_sts = pm_base();
	unsigned long turns = 0;

	idt_set(VECTOR_NMI, SEL_CODE, (unsigned long)on_nmi, 0x80 | GATE_INT);
	if ((rdmsr(MSR_APIC_BASE) & 0x100) != 0 && inl(pm1_sts) != 0xffffffff)
		guest_start_ap(halt);
	guest_printf("ready\n");
	for (;;) {
		unsigned sts;

		/* For who looks at registers: R15 is known, R14 counts. */
		__asm__ volatile("mov %1, %%r15; mov %2, %%r14; in %w3, %%al; movzx %%al, %0"
				 : "=a"(sts)
				 : "r"((unsigned long)MAGIC), "r"(turns), "d"(SYSTEM_CONTROL)
				 : "r14", "r15");
		turns++;
		say_nmis();
		if ((inl(pm1_sts) & PM1_PWRBTN) != 0) {
			guest_printf("button\n");
			guest_exit(20);
		}
	}
}
