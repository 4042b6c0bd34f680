/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real-time clock (MC146818A; ICH9 data sheet 13.6): periodic rates, update-ended, alarm; flags without
 * their enables, masks, what is lost while register C is unread; SET, codings. Rates are compared with the PM
 * timer's: an interrupt must not come early, and may come late by as much as a loaded host likes.
 */
#include "tests/guest/irq.h"

enum {
	SECONDS = 0,
	ALARM_SECONDS = 1,
	MINUTES = 2,
	ALARM_MINUTES = 3,
	HOURS = 4,
	ALARM_HOURS = 5,
	A = 0x0a,
	B = 0x0b,
	C = 0x0c,
	D = 0x0d,
	A_UIP = 0x80,
	A_RUNS = 0x20,
	A_RESET = 0x60, /* of the divider: when it runs again, the next update is half a second away */
	B_SET = 0x80,
	PF = 0x40, /* and PIE, in B */
	AF = 0x20,
	UF = 0x10,
	IRQF = 0x80,
	B_BINARY = 4,
	B_24H = 2,
	VECTOR = 0x38, /* of the PICs */
	DIRECT = 0x78, /* of the I/O APIC's pin 8 */
	ANY = 0xc0,    /* an alarm's byte that always matches */
	PATIENCE = 20, /* seconds: then it does not come any more */
};

static uint8_t flags; /* of register C, as the handler read it */

static uint8_t
cmos(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static void
cmos_set(uint8_t reg, uint8_t v)
{
	outb(0x70, reg);
	outb(0x71, v);
}

static void
wait_pm(uint64_t ticks)
{
	uint64_t start = pm_now();

	while (pm_now() - start < ticks)
		__asm__ volatile("pause");
}

static void
read_flags(unsigned vector)
{
	if (vector == VECTOR || vector == DIRECT)
		flags |= cmos(C); /* or there is no next one */
}

/* Nothing set, nothing enabled, nothing seen. */
static void
quiet(void)
{
	cmos_set(B, B_24H);
	(void)cmos(C);
	irq_window();
	irq_clear();
	flags = 0;
}

/* Register C has this flag, within some seconds. The others that were read on the way are lost. */
static bool
flag_comes(uint8_t flag)
{
	uint64_t start = pm_now();
	uint8_t c = 0;

	while ((c & flag) == 0 && pm_now() - start < (uint64_t)PATIENCE * PM_HZ)
		c |= cmos(C);
	return (c & flag) != 0;
}

/* ---- periodic ---- */

static void
test_rate(unsigned rate, unsigned hz)
{
	enum { TICKS = 5 };
	uint64_t start, took;

	quiet();
	cmos_set(A, (uint8_t)(A_RUNS | rate));
	start = pm_now();
	cmos_set(B, B_24H | PF);
	guest_check(irq_wait(VECTOR, TICKS), "rate %u: %u", rate, irq_seen.count[VECTOR]);
	took = pm_now() - start;
	/* One may be due already, the first soon after; then it is a period each. */
	guest_check(took + 10 >= (TICKS - 2ull) * PM_HZ / hz, "rate %u: %u within %lu PM ticks", rate, TICKS,
		    took);
	guest_check((flags & (IRQF | PF)) == (IRQF | PF) && (flags & AF) == 0, "rate %u: register C %x", rate,
		    flags);
}

static void
test_periodic(void)
{
	static const struct {
		uint8_t rate;
		uint16_t hz;
	} rates[] = {{1, 256}, {2, 128}, {3, 8192}, {6, 1024}, {8, 256}, {10, 64}};

	for (unsigned n = 0; n < sizeof(rates) / sizeof(rates[0]); n++)
		test_rate(rates[n].rate, rates[n].hz);
	/* Rate 0: none. The flag comes with no enable, too, and then an enable brings the interrupt at once.
	 */
	quiet();
	cmos_set(A, A_RUNS);
	(void)cmos(C);
	cmos_set(B, B_24H | PF);
	wait_pm(PM_HZ / 50);
	irq_window();
	guest_check(irq_seen.total == 0 && (cmos(C) & PF) == 0, "rate 0: %u", irq_seen.total);
	quiet();
	cmos_set(A, A_RUNS | 6);
	wait_pm(PM_HZ / 50);
	irq_window();
	guest_check(irq_seen.total == 0, "not enabled: %u", irq_seen.total);
	cmos_set(A, A_RUNS); /* no more to come */
	cmos_set(B, B_24H | PF);
	guest_check(irq_wait(VECTOR, 1), "a flag that was set before its enable");
	guest_check((flags & (IRQF | PF)) == (IRQF | PF), "its register C: %x", flags);
	irq_window();
	guest_check(irq_seen.total == 1, "a flag that was set before its enable: %u", irq_seen.total);
	/* Register C unread: the line stays up, and an edge-triggered input hears no more of it. */
	quiet();
	irq_inside = NULL;
	cmos_set(A, A_RUNS | 6);
	cmos_set(B, B_24H | PF);
	guest_check(irq_wait(VECTOR, 1), "unread: nothing");
	wait_pm(PM_HZ / 50);
	irq_window();
	guest_check(irq_seen.count[VECTOR] == 1, "with register C unread: %u", irq_seen.count[VECTOR]);
	guest_check((cmos(C) & (IRQF | PF)) == (IRQF | PF), "register C");
	irq_inside = read_flags;
	guest_check(irq_wait(VECTOR, 2), "after register C was read: %u", irq_seen.count[VECTOR]);
	/* Disabled and masked. */
	quiet();
	wait_pm(PM_HZ / 100);
	irq_window();
	guest_check(irq_seen.total == 0, "disabled: %u", irq_seen.total);
	outb(0xa1, 0xff);
	cmos_set(B, B_24H | PF);
	wait_pm(PM_HZ / 100);
	irq_window();
	guest_check(irq_seen.total == 0, "masked: %u", irq_seen.total);
	outb(0xa1, 0xfe);
	guest_check(irq_wait(VECTOR, 1), "the edge that was masked");
}

/* By the I/O APIC, edge-triggered. */
static void
test_pin(void)
{
	outb(0xa1, 0xff);
	quiet();
	ioapic_route(8, DIRECT);
	cmos_set(A, A_RUNS | 6);
	cmos_set(B, B_24H | PF);
	guest_check(irq_wait(DIRECT, 5), "pin 8: %u", irq_seen.count[DIRECT]);
	quiet();
	ioapic_route(8, RTE_MASKED);
	outb(0xa1, 0xfe);
}

/* ---- update-ended and alarm: a second each ---- */

static void
test_update(void)
{
	uint8_t before, after;
	uint64_t start;

	quiet();
	guest_check(cmos(D) == 0x80, "register D: %x", cmos(D));
	cmos_set(A, A_RESET);
	(void)cmos(C);
	start = pm_now();
	cmos_set(A, A_RUNS);
	guest_check(flag_comes(UF), "no update-ended flag");
	guest_check(pm_now() - start + PM_HZ / 100 >= PM_HZ / 2, "the first update after %lu PM ticks",
		    pm_now() - start);
	/* Then the next comes within a second, and one more a second after it. */
	start = pm_now();
	before = cmos(SECONDS);
	cmos_set(B, B_24H | B_BINARY | UF);
	before = cmos(SECONDS);
	guest_check(irq_wait(VECTOR, 2), "update-ended: %u", irq_seen.count[VECTOR]);
	guest_check(pm_now() - start + PM_HZ / 100 >= PM_HZ, "update-ended: two within %lu PM ticks",
		    pm_now() - start);
	guest_check((flags & (IRQF | UF)) == (IRQF | UF), "update-ended: register C %x", flags);
	after = cmos(SECONDS);
	guest_check(after != before, "seconds: %u, then %u", before, after);
	/* While UIP is clear there is time to read: the next update is 244 us away at the least. */
	for (unsigned n = 0; n < 100; n++) {
		uint64_t at = pm_now();
		if (cmos(A) & A_UIP)
			continue;
		uint8_t one = cmos(SECONDS), two = cmos(SECONDS);
		guest_check(one == two || pm_now() - at > PM_HZ / 5000,
			    "an update while UIP was clear: %u, then %u", one, two);
	}
}

/* In binary: the alarm's bytes say a moment, or "any". The time is set to a second before midnight, or two.
 */
static void
test_alarm(uint8_t from, uint8_t at_seconds, uint8_t at_minutes, uint8_t at_hours, bool comes)
{
	uint64_t start;

	quiet();
	cmos_set(A, A_RESET);
	cmos_set(B, B_SET | B_24H | B_BINARY);
	cmos_set(HOURS, 23);
	cmos_set(MINUTES, 59);
	cmos_set(SECONDS, from);
	cmos_set(ALARM_SECONDS, at_seconds);
	cmos_set(ALARM_MINUTES, at_minutes);
	cmos_set(ALARM_HOURS, at_hours);
	(void)cmos(C);
	cmos_set(B, B_24H | B_BINARY | AF);
	start = pm_now();
	cmos_set(A, A_RUNS);
	if (comes) {
		guest_check(irq_wait(VECTOR, 1), "alarm %x:%x:%x: nothing", at_hours, at_minutes, at_seconds);
		guest_check((flags & (IRQF | AF)) == (IRQF | AF), "alarm: register C %x", flags);
		guest_check(pm_now() - start + PM_HZ / 100 >= PM_HZ / 2, "alarm %x:%x:%x: early", at_hours,
			    at_minutes, at_seconds);
		guest_check(cmos(SECONDS) != from, "alarm %x:%x:%x: before the second", at_hours, at_minutes,
			    at_seconds);
		return;
	}
	while (pm_now() - start < PM_HZ * 3ull / 4)
		irq_window();
	guest_check(irq_seen.total == 0, "alarm %x:%x:%x came", at_hours, at_minutes, at_seconds);
}

/* ---- SET and codings ---- */

static void
test_set(void)
{
	quiet();
	cmos_set(B, B_24H | UF);
	cmos_set(B, B_SET | B_24H | UF | PF);
	guest_check(cmos(B) == (B_SET | B_24H | PF), "SET clears UIE: %x", cmos(B));
	quiet();
	cmos_set(B, B_SET | B_24H);
	cmos_set(SECONDS, 0x17);
	cmos_set(MINUTES, 0x45);
	cmos_set(HOURS, 0x21);
	guest_check((cmos(A) & A_UIP) == 0, "UIP while SET");
	(void)cmos(C);
	wait_pm(PM_HZ + PM_HZ / 10);
	guest_check(cmos(SECONDS) == 0x17 && (cmos(C) & UF) == 0, "the clock runs while SET: %x",
		    cmos(SECONDS));
	/* The same moment in each coding. */
	static const struct {
		uint8_t b, hour, minute;
	} codings[] = {
	    {B_24H, 0x21, 0x45}, {0, 0x89, 0x45}, {B_24H | B_BINARY, 21, 45}, {B_BINARY, 0x89, 45}};
	for (unsigned n = 0; n < 4; n++) {
		cmos_set(B, B_SET | codings[0].b);
		cmos_set(SECONDS, 0);
		cmos_set(MINUTES, 0x45);
		cmos_set(HOURS, 0x21);
		cmos_set(B, codings[0].b);
		cmos_set(B, codings[n].b);
		uint8_t hour = cmos(HOURS), minute = cmos(MINUTES);
		guest_check(hour == codings[n].hour && minute == codings[n].minute,
			    "coding %x: %x:%x, not %x:%x", codings[n].b, hour, minute, codings[n].hour,
			    codings[n].minute);
	}
	cmos_set(B, B_24H);
	/* Memory, and what is read-only. */
	for (unsigned reg = 0x40; reg < 0x48; reg++)
		cmos_set((uint8_t)reg, (uint8_t)(reg * 3));
	for (unsigned reg = 0x40; reg < 0x48; reg++)
		guest_check(cmos((uint8_t)reg) == (uint8_t)(reg * 3), "byte %x: %x", reg, cmos((uint8_t)reg));
	cmos_set(D, 0);
	cmos_set(C, 0xff);
	guest_check(cmos(D) == 0x80 && (cmos(C) & 0x0f) == 0, "registers C and D can be written");
}

int
main(void)
{
	irq_init();
	lapic_write(LAPIC_LVT_LINT0, LVT_EXTINT);
	irq_inside = read_flags;
	outb(0x21, 0xfb);
	outb(0xa1, 0xfe);
	test_periodic();
	test_pin();
	test_update();
	test_alarm(58, 59, 59, 23, true);
	test_alarm(59, 0, 0, 0, true);
	test_alarm(58, 0xff, ANY, 0xff, true);
	test_alarm(58, 59, 58, 23, false);
	test_alarm(58, 59, ANY, 22, false);
	test_set();
	quiet();
	return guest_summary();
}
