/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ways down that end in a reset; the command line names one: INIT to the boot processor, which comes from
 * its own APIC (SDM vol. 3A 11.6.1; memory has nothing at the reset vector), port 0xcf9, the keyboard
 * controller.
 */
#include "tests/guest/irq.h"

enum { ICR_INIT = 0x4500, MSR_ICR = MSR_X2APIC + LAPIC_ICR / 16, BASE_EXTD = 1 << 10 };

static void
by_init(void)
{
	lapic_write(LAPIC_ICR_HIGH, lapic_read(LAPIC_ID));
	lapic_write(LAPIC_ICR, ICR_INIT);
}

static void
by_x2apic_init(void)
{
	uint64_t id = lapic_read(LAPIC_ID) >> 24;

	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BASE_EXTD);
	wrmsr(MSR_ICR, id << 32 | ICR_INIT);
}

static void
by_cf9(void)
{
	outb(0xcf9, 2);
	outb(0xcf9, 6);
}

static void
by_keyboard(void)
{
	outb(0x64, 0xfe);
}

static const struct {
	const char *name;
	void (*go)(void);
} ways[] = {{"init", by_init}, {"x2apic-init", by_x2apic_init}, {"cf9", by_cf9}, {"keyboard", by_keyboard}};

static bool
equal(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return *a == *b;
}

int
main(void)
{
	const char *way = guest_cmdline();

	for (unsigned n = 0; n < sizeof(ways) / sizeof(ways[0]); n++) {
		if (!equal(way, ways[n].name))
			continue;
		guest_printf("up, to go down by %s\n", way);
		ways[n].go();
		for (;;)
			__asm__ volatile("cli; hlt"); /* another end, where none is on its way */
	}
	guest_printf("FAIL no way down: %s\n", way);
	return 2;
}
