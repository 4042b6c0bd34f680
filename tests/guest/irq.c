/* SPDX-License-Identifier: BSD-2-Clause */
/* See irq.h. */
#include "tests/guest/irq.h"

#define IOAPIC ((volatile uint32_t *)0xfec00000ul)

volatile struct irq_seen irq_seen;
void (*irq_inside)(unsigned vector);
bool irq_no_eoi;

uint32_t
ioapic_read(unsigned reg)
{
	IOAPIC[0] = reg;
	return IOAPIC[4];
}

void
ioapic_write(unsigned reg, uint32_t v)
{
	IOAPIC[0] = reg;
	IOAPIC[4] = v;
}

void
ioapic_route(unsigned pin, uint32_t low)
{
	ioapic_write(0x10 + 2 * pin, RTE_MASKED);
	ioapic_write(0x11 + 2 * pin, lapic_read(LAPIC_ID));
	ioapic_write(0x10 + 2 * pin, low);
}

uint32_t
ioapic_entry(unsigned pin)
{
	return ioapic_read(0x10 + 2 * pin);
}

uint64_t
pm_now(void)
{
	static uint16_t port;
	static uint64_t now;

	if (port == 0) {
		outl(0xcf8, 0x8000f840); /* 0:1f.0, PMBASE */
		port = (uint16_t)((inl(0xcfc) & 0xff80) + 8);
	}
	now += (inl(port) - (uint32_t)now) & 0xffffff;
	return now;
}

/* ---- the handler ---- */

static void
end_of_interrupt(unsigned vector)
{
	if (irq_no_eoi)
		return;
	if (vector < 0x30 || vector > 0x3f) {
		if (rdmsr(MSR_APIC_BASE) & 0x400)
			wrmsr(MSR_X2APIC + LAPIC_EOI / 16, 0);
		else
			lapic_write(LAPIC_EOI, 0);
		return;
	}
	if (vector >= 0x38)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static void
irq_handler(struct trap_frame *f)
{
	unsigned v = (unsigned)f->vector;

	irq_seen.tsc = rdtsc();
	irq_seen.count[v]++;
	if (irq_seen.total < sizeof(irq_seen.order))
		irq_seen.order[irq_seen.total] = (uint8_t)v;
	irq_seen.total++;
	if (irq_inside != NULL)
		irq_inside(v);
	end_of_interrupt(v);
}

void
irq_clear(void)
{
	for (unsigned n = 0; n < 256; n++)
		irq_seen.count[n] = 0;
	for (unsigned n = 0; n < sizeof(irq_seen.order); n++)
		irq_seen.order[n] = 0;
	irq_seen.total = 0;
}

static void
pic_init(uint16_t port, uint8_t vector, uint8_t cascade)
{
	outb(port, 0x11);
	outb(port + 1, vector);
	outb(port + 1, cascade);
	outb(port + 1, 1);
	outb(port + 1, 0xff);
}

void
irq_init(void)
{
	trap_interrupt = irq_handler;
	pic_init(0x20, 0x30, 4);
	pic_init(0xa0, 0x38, 2);
	wrmsr(MSR_APIC_BASE, (rdmsr(MSR_APIC_BASE) & ~0x400ull) | 0x800);
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	for (unsigned n = 0; n < 24; n++)
		ioapic_route(n, RTE_MASKED);
	irq_clear();
}

void
irq_window(void)
{
	__asm__ volatile("sti; nop; nop" : : : "memory");
	for (unsigned n = 0; n < 20; n++)
		(void)inl(0xcf8); /* leaves the guest and the host's kernel: whatever is on its way arrives */
	__asm__ volatile("cli" : : : "memory");
}

bool
irq_wait(unsigned vector, unsigned times)
{
	uint64_t start = pm_now();
	bool came;

	do {
		irq_window();
		came = irq_seen.count[vector] >= times;
	} while (!came && pm_now() - start < 20ull * PM_HZ);
	return came;
}
