/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt controllers and clocks, for guests that test them: registers, and a handler that counts. irq.c.
 */
#ifndef LHYVE_TESTS_GUEST_IRQ_H
#define LHYVE_TESTS_GUEST_IRQ_H

#include "tests/guest/guest.h"

enum {
	LAPIC_ID = 0x20,
	LAPIC_VERSION = 0x30,
	LAPIC_TPR = 0x80,
	LAPIC_PPR = 0xa0,
	LAPIC_EOI = 0xb0,
	LAPIC_LDR = 0xd0,
	LAPIC_DFR = 0xe0,
	LAPIC_SVR = 0xf0,
	LAPIC_ISR = 0x100,
	LAPIC_TMR = 0x180,
	LAPIC_IRR = 0x200,
	LAPIC_ESR = 0x280,
	LAPIC_ICR = 0x300,
	LAPIC_ICR_HIGH = 0x310,
	LAPIC_LVT_TIMER = 0x320,
	LAPIC_LVT_LINT0 = 0x350,
	LAPIC_LVT_ERROR = 0x370,
	LAPIC_INITIAL = 0x380,
	LAPIC_CURRENT = 0x390,
	LAPIC_DIVIDE = 0x3e0,
	LVT_MASKED = 1 << 16,
	LVT_EXTINT = 0x700,
	ICR_SELF = 0x40000,
	ICR_ALL = 0x80000,
	MSR_APIC_BASE = 0x1b,
	MSR_X2APIC = 0x800,
	MSR_TSC_DEADLINE = 0x6e0,
	PM_HZ = 3579545,
	RTE_LEVEL = 1 << 15,
	RTE_MASKED = 1 << 16,
	RTE_REMOTE_IRR = 1 << 14,
	TEST_LINE = 0x2000, /* pc-testdev: a byte to TEST_LINE + n sets interrupt line n */
};

static inline uint32_t
lapic_read(unsigned reg)
{
	return *(volatile uint32_t *)(0xfee00000ul + reg);
}

static inline void
lapic_write(unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)(0xfee00000ul + reg) = v;
}

uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t v);
/* Pin n: low word of its entry; all go to this CPU. */
void ioapic_route(unsigned pin, uint32_t low);
uint32_t ioapic_entry(unsigned pin);

static inline void
line(unsigned n, bool level)
{
	outb((uint16_t)(TEST_LINE + n), level);
}

static inline uint64_t
rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

/* The PM timer, found by the LPC bridge's PMBASE; 24 bits are made longer, so ask more often than every 4 s.
 */
uint64_t pm_now(void);

/* What irq_handler() saw since irq_clear(): how often each vector came, and the order. */
struct irq_seen {
	unsigned count[256], total;
	uint8_t order[32];
	uint64_t tsc; /* at the last one */
};
extern volatile struct irq_seen irq_seen;
void irq_clear(void);
/* Controllers as these guests want them: all masked, vectors of the PICs 0x30-0x3f, LAPIC on, handler
 * installed. */
void irq_init(void);
/* Called by the handler, before the end-of-interrupt, when not NULL. */
extern void (*irq_inside)(unsigned vector);
extern bool irq_no_eoi; /* the handler sends none */

/* Let interrupts in until that vector has come `times` times. False: 20 s of the PM timer went by. */
bool irq_wait(unsigned vector, unsigned times);
/* Let interrupts in for as long as it takes to be sure: what is pending comes. */
void irq_window(void);

#endif
