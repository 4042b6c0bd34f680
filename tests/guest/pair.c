/* SPDX-License-Identifier: BSD-2-Clause */
/* See pair.h. Works with the APICs in xAPIC and in x2APIC mode. */
#include "tests/guest/pair.h"

volatile struct pair_seen pair_seen[2];
unsigned pair_id[2];
volatile bool pair_no_eoi;
volatile unsigned pair_ready, pair_beats;
static volatile unsigned ap_tpr, ap_tpr_is;
static void (*volatile ap_call)(void);

static bool
is_x2apic(void)
{
	return (rdmsr(MSR_APIC_BASE) & 0x400) != 0;
}

static unsigned
own_id(void)
{
	return is_x2apic() ? (unsigned)rdmsr(MSR_X2APIC + LAPIC_ID / 16) : lapic_read(LAPIC_ID) >> 24;
}

static void
write_cr8(unsigned long v)
{
	__asm__ volatile("mov %0, %%cr8" : : "r"(v) : "memory");
}

static void
handler(struct trap_frame *f)
{
	unsigned v = (unsigned)f->vector;
	volatile struct pair_seen *s = &pair_seen[own_id() != pair_id[0]];

	s->count[v]++;
	if (s->total < sizeof(s->order))
		s->order[s->total] = (uint8_t)v;
	s->total++;
	if (pair_no_eoi)
		return;
	if (is_x2apic())
		wrmsr(MSR_X2APIC + LAPIC_EOI / 16, 0);
	else
		lapic_write(LAPIC_EOI, 0);
}

static void
ap_main(void)
{
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_LDR, 2 << 24);
	pair_id[1] = own_id();
	pair_ready = 1;
	for (;;) {
		void (*fn)(void) = ap_call;

		write_cr8(ap_tpr >> 4);
		ap_tpr_is = ap_tpr;
		if (fn != NULL) {
			fn();
			ap_call = NULL;
		}
		pair_beats++;
		__asm__ volatile("sti; nop; nop; cli; pause" : : : "memory");
	}
}

void
pair_wait_ready(void)
{
	while (pair_ready == 0)
		__asm__ volatile("pause");
}

void
pair_start(void)
{
	irq_init();
	trap_interrupt = handler;
	pair_id[0] = own_id();
	guest_start_ap(ap_main);
	pair_wait_ready();
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_LDR, 1 << 24);
}

void
pair_call(void (*fn)(void))
{
	ap_call = fn;
	while (ap_call != NULL)
		__asm__ volatile("pause");
}

void
pair_set_tpr(unsigned own, unsigned others)
{
	write_cr8(own >> 4);
	ap_tpr = others;
	while (ap_tpr_is != others)
		__asm__ volatile("pause");
}

void
pair_clear(void)
{
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		for (unsigned n = 0; n < 256; n++)
			pair_seen[cpu].count[n] = 0;
		pair_seen[cpu].total = 0;
	}
}

void
pair_settle(unsigned want)
{
	uint64_t start = pm_now();

	irq_window();
	while (pair_seen[0].total + pair_seen[1].total < want && pm_now() - start < 20ull * PM_HZ)
		irq_window();
	start = pm_now();
	while (pm_now() - start < PM_HZ / 500)
		irq_window();
}

void
pair_expect(const char *what, unsigned first, unsigned second)
{
	pair_settle(first + second);
	guest_check(pair_seen[0].total == first && pair_seen[1].total == second,
		    "%s: %u and %u, not %u and %u", what, pair_seen[0].total, pair_seen[1].total, first,
		    second);
	pair_clear();
}
