/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clocks and timers: PM timer, TSC, HPET, PIT, local APIC timer (one-shot, periodic, TSC deadline).
 * Rates are compared with the PM timer's in brackets of two readings; a timer must not come early, and may
 * come late by as much as a loaded host likes. One-shots come once, what is masked or disarmed does not come.
 */
#include "tests/guest/irq.h"

enum { PIT_HZ = 1193182, TIMER_VECTOR = 0x72, HPET_VECTOR = 0x73, MSI_VECTOR = 0x74 };
#define HPET ((volatile uint64_t *)0xfed00000ul)
enum { HPET_CAP = 0, HPET_CONFIG = 2, HPET_COUNTER = 0xf0 / 8, HPET_T0 = 0x100 / 8 };
enum { TN_ENABLE = 4, TN_PERIODIC = 8, TN_SETVAL = 64, TN_FSB = 1 << 14, TN_FSB_CAP = 1 << 15 };

static void
wait_pm(uint64_t ticks)
{
	uint64_t start = pm_now();

	while (pm_now() - start < ticks)
		__asm__ volatile("pause");
}

/* ---- rates ---- */

/* A reading between two of the PM timer, as near as it gets in some tries. */
struct bracket {
	uint64_t before, value, after;
};

static struct bracket
sample(uint64_t (*clock)(void))
{
	struct bracket best = {0, 0, ~0ull};

	for (unsigned n = 0; n < 50; n++) {
		struct bracket b;

		b.before = pm_now();
		b.value = clock();
		b.after = pm_now();
		if (best.after - best.before == ~0ull || b.after - b.before < best.after - best.before)
			best = b;
	}
	return best;
}

/* Ticks of `clock` within 50 ms; *low and *high: what the PM timer has counted at the least and the most. */
static uint64_t
measure(uint64_t (*clock)(void), uint64_t *low, uint64_t *high)
{
	struct bracket a = sample(clock), b;

	wait_pm(PM_HZ / 20);
	b = sample(clock);
	*low = b.before - a.after;
	*high = b.after - a.before;
	return b.value - a.value;
}

/* A clock that wraps may have done so unseen. */
static void
expect_rate(const char *name, uint64_t (*clock)(void), uint64_t hz, uint64_t wrap)
{
	uint64_t low, high, ticks = measure(clock, &low, &high);
	uint64_t least = low * hz / PM_HZ, most = high * hz / PM_HZ;

	while (wrap != 0 && ticks + least / 1000 + 2 < least)
		ticks += wrap;

	guest_check(ticks + least / 1000 + 2 >= least && ticks <= most + most / 1000 + 2,
		    "%s: %lu ticks, not %lu to %lu", name, ticks, least, most);
}

static uint64_t
hpet_now(void)
{
	return HPET[HPET_COUNTER];
}

/* Counts down from 65536 in mode 2; made to count up, asked often enough by sample(). */
static uint64_t
pit_now(void)
{
	static uint64_t now;
	uint16_t v;

	outb(0x43, 0x80); /* latch channel 2 */
	v = inb(0x42);
	v |= (uint16_t)(inb(0x42) << 8);
	now += (uint16_t)((uint16_t)-v - (uint16_t)now);
	return now;
}

static uint64_t
lapic_now(void)
{
	return 0xffffffffu - lapic_read(LAPIC_CURRENT);
}

/* The TSC against itself and the PM timer: two intervals give one rate. */
static void
test_tsc(void)
{
	uint64_t low[2], high[2], ticks[2];

	for (unsigned n = 0; n < 2; n++)
		ticks[n] = measure(rdtsc, &low[n], &high[n]);
	/* ticks[0] / [low, high][0] and ticks[1] / [low, high][1] must have something in common. */
	uint64_t least0 = ticks[0] / high[0], most0 = ticks[0] / low[0] + 1, least1 = ticks[1] / high[1],
		 most1 = ticks[1] / low[1] + 1;
	guest_check(least0 <= most1 + most1 / 100 && least1 <= most0 + most0 / 100,
		    "TSC: %lu to %lu a PM tick, then %lu to %lu", least0, most0, least1, most1);
	uint64_t last = rdtsc();
	for (unsigned n = 0; n < 10000; n++) {
		uint64_t now = rdtsc();

		guest_check(now >= last, "TSC went back from %lx to %lx", last, now);
		last = now;
	}
}

static void
test_lapic_rate(void)
{
	static const struct {
		uint32_t code, by;
	} divisors[] = {{0xb, 1}, {0, 2}, {3, 16}, {0xa, 128}};
	uint64_t rate[2] = {0, 0}; /* of the undivided clock, in ticks a 1000 PM ticks: least and most */

	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	for (unsigned n = 0; n < 4; n++) {
		uint64_t low, high;

		lapic_write(LAPIC_DIVIDE, divisors[n].code);
		lapic_write(LAPIC_INITIAL, 0xffffffff);
		uint64_t ticks = measure(lapic_now, &low, &high);
		uint64_t least = (ticks - 1) * divisors[n].by * 1000 / high,
			 most = (ticks + 1) * divisors[n].by * 1000 / low;

		guest_check(n == 0 || (least <= rate[1] + rate[1] / 100 && most + most / 100 >= rate[0]),
			    "APIC timer by %u: rate %lu to %lu, not %lu to %lu", divisors[n].by, least, most,
			    rate[0], rate[1]);
		rate[0] = n == 0 ? least : rate[0];
		rate[1] = n == 0 ? most : rate[1];
	}
	lapic_write(LAPIC_INITIAL, 0);
}

/* ---- local APIC timer ---- */

static void
test_lapic_timer(void)
{
	lapic_write(LAPIC_DIVIDE, 0xb);
	/* One-shot: once, and the count stays 0. */
	irq_clear();
	lapic_write(LAPIC_LVT_TIMER, TIMER_VECTOR);
	lapic_write(LAPIC_INITIAL, 100000);
	guest_check(irq_wait(TIMER_VECTOR, 1), "one-shot: nothing");
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.count[TIMER_VECTOR] == 1, "one-shot: %u", irq_seen.count[TIMER_VECTOR]);
	guest_check(lapic_read(LAPIC_CURRENT) == 0, "one-shot: current count %x", lapic_read(LAPIC_CURRENT));
	/* Periodic: again and again, not faster than it should. */
	irq_clear();
	lapic_write(LAPIC_LVT_TIMER, 1 << 17 | TIMER_VECTOR);
	lapic_write(LAPIC_INITIAL, 100000);
	guest_check(irq_wait(TIMER_VECTOR, 5), "periodic: %u", irq_seen.count[TIMER_VECTOR]);
	/* Periods that pass with interrupts off leave one behind: the rest is lost. */
	irq_clear();
	wait_pm(PM_HZ / 50);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | 1 << 17 | TIMER_VECTOR);
	irq_window();
	guest_check(irq_seen.count[TIMER_VECTOR] == 1, "periods with interrupts off: %u",
		    irq_seen.count[TIMER_VECTOR]);
	irq_clear();
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 0, "a masked timer: %u", irq_seen.total);
	lapic_write(LAPIC_INITIAL, 0);
	lapic_write(LAPIC_LVT_TIMER, TIMER_VECTOR);
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 0, "initial count 0: %u", irq_seen.total);
}

static void
test_deadline(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	if ((r[2] >> 24 & 1) == 0) {
		guest_skip("TSC deadline");
		return;
	}
	lapic_write(LAPIC_LVT_TIMER, 2 << 17 | TIMER_VECTOR);
	__asm__ volatile("mfence" : : : "memory");
	for (unsigned n = 0; n < 20; n++) {
		uint64_t deadline = rdtsc() + 100000 * n;

		irq_clear();
		wrmsr(MSR_TSC_DEADLINE, deadline);
		guest_check(irq_wait(TIMER_VECTOR, 1), "deadline %u: nothing", n);
		guest_check(irq_seen.tsc >= deadline, "deadline %u: at %lx, before %lx", n, irq_seen.tsc,
			    deadline);
		irq_window();
		guest_check(irq_seen.count[TIMER_VECTOR] == 1 && rdmsr(MSR_TSC_DEADLINE) == 0,
			    "deadline %u: %u, then %lx", n, irq_seen.count[TIMER_VECTOR],
			    rdmsr(MSR_TSC_DEADLINE));
	}
	irq_clear();
	wrmsr(MSR_TSC_DEADLINE, 1); /* long past */
	guest_check(irq_wait(TIMER_VECTOR, 1), "a deadline in the past: nothing");
	irq_clear();
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + (1ull << 50));
	guest_check(rdmsr(MSR_TSC_DEADLINE) != 0, "an armed deadline reads 0");
	wrmsr(MSR_TSC_DEADLINE, 0);
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 0 && rdmsr(MSR_TSC_DEADLINE) == 0, "a disarmed deadline: %u",
		    irq_seen.total);
	lapic_write(LAPIC_INITIAL, 1000); /* has no meaning in this mode */
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 0, "initial count in deadline mode: %u", irq_seen.total);
	lapic_write(LAPIC_LVT_TIMER, TIMER_VECTOR); /* out of the mode: disarmed */
	guest_check(rdmsr(MSR_TSC_DEADLINE) == 0, "deadline outside its mode: %lx", rdmsr(MSR_TSC_DEADLINE));
	wrmsr(MSR_TSC_DEADLINE, 1);
	irq_window();
	guest_check(irq_seen.total == 0, "a deadline in one-shot mode: %u", irq_seen.total);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}

/* ---- HPET ---- */

/* With the counter stopped: the time that a loaded host takes in between cannot put the comparator into the
 * past. */
static void
hpet_timer(uint64_t config, uint64_t after, uint64_t period)
{
	HPET[HPET_CONFIG] = 0;
	HPET[HPET_T0] = config | (period ? TN_PERIODIC | TN_SETVAL : 0);
	HPET[HPET_T0 + 1] = HPET[HPET_COUNTER] + after;
	if (period)
		HPET[HPET_T0 + 1] = period;
	HPET[HPET_CONFIG] = 1;
}

static void
test_hpet(void)
{
	uint64_t hz = 1000000000000000ull / (HPET[HPET_CAP] >> 32), config = 20 << 9 | TN_ENABLE, start;

	HPET[HPET_CONFIG] = 0;
	uint64_t stopped = HPET[HPET_COUNTER];
	wait_pm(100);
	guest_check(HPET[HPET_COUNTER] == stopped, "HPET counts while stopped");
	HPET[HPET_CONFIG] = 1;
	expect_rate("HPET", hpet_now, hz, 0);
	guest_check((HPET[HPET_T0] >> 32 & 1 << 20) != 0, "HPET: no route to pin 20: %lx", HPET[HPET_T0]);
	/* One-shot, through the I/O APIC. */
	ioapic_route(20, HPET_VECTOR);
	irq_clear();
	start = hpet_now();
	hpet_timer(config, hz / 1000, 0);
	guest_check(irq_wait(HPET_VECTOR, 1), "HPET one-shot: nothing");
	guest_check(hpet_now() - start >= hz / 1000, "HPET one-shot: early by %lu",
		    hz / 1000 - (hpet_now() - start));
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 1, "HPET one-shot: %u", irq_seen.total);
	/* Periodic, where the timer can. */
	irq_clear();
	start = hpet_now();
	hpet_timer(config, hz / 1000, hz / 1000);
	guest_check(irq_wait(HPET_VECTOR, 5), "HPET periodic: %u", irq_seen.count[HPET_VECTOR]);
	guest_check(hpet_now() - start >= 5 * (hz / 1000), "HPET periodic: five within %lu of %lu",
		    hpet_now() - start, 5 * (hz / 1000));
	HPET[HPET_T0] = 0;
	irq_window();
	irq_clear();
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 0, "HPET disabled: %u", irq_seen.total);
	ioapic_route(20, RTE_MASKED);
	/* By message. */
	if ((HPET[HPET_T0] & TN_FSB_CAP) == 0) {
		guest_skip("HPET messages");
		return;
	}
	irq_clear();
	HPET[HPET_T0 + 2] = (0xfee00000ull | (uint64_t)(lapic_read(LAPIC_ID) >> 24) << 12) << 32 | MSI_VECTOR;
	hpet_timer(TN_ENABLE | TN_FSB, hz / 1000, 0);
	guest_check(irq_wait(MSI_VECTOR, 1), "HPET message: nothing");
	HPET[HPET_T0] = 0;
	guest_check(irq_seen.total == 1, "HPET message: %u interrupts", irq_seen.total);
}

/* ---- PIT ---- */

static void
pit_set(unsigned channel, unsigned mode, uint16_t count)
{
	outb(0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
	outb((uint16_t)(0x40 + channel), (uint8_t)count);
	outb((uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static void
test_pit(void)
{
	outb(0x61, (inb(0x61) & ~2) | 1);
	pit_set(2, 2, 0);
	expect_rate("PIT", pit_now, PIT_HZ, 65536);
	/* Mode 0: the output rises when the count is over, no earlier. */
	outb(0x61, inb(0x61) & ~3);
	pit_set(2, 0, 20000);
	guest_check((inb(0x61) & 0x20) == 0, "PIT mode 0: output high at the start");
	uint64_t start = pm_now();
	outb(0x61, (inb(0x61) & ~2) | 1);
	while ((inb(0x61) & 0x20) == 0 && pm_now() - start < 20ull * PM_HZ)
		;
	uint64_t took = pm_now() - start, want = 20000ull * PM_HZ / PIT_HZ;
	guest_check(took + 8 >= want, "PIT mode 0: early"); /* KVM's does not wait for the gate */
	guest_check(took < 20ull * PM_HZ, "PIT mode 0: %lu PM ticks, not %lu", took, want);
	/* Channel 0 through the PIC: mode 2 comes again, mode 0 once. */
	lapic_write(LAPIC_LVT_LINT0, LVT_EXTINT);
	outb(0x21, 0xfe);
	irq_clear();
	start = pm_now();
	pit_set(0, 2, 1193);
	guest_check(irq_wait(0x30, 5), "PIT mode 2: %u", irq_seen.count[0x30]);
	guest_check(pm_now() - start + 100 >= 4ull * 1193 * PM_HZ / PIT_HZ,
		    "PIT mode 2: five within %lu PM ticks", pm_now() - start);
	pit_set(0, 0, 1193);
	irq_window();
	wait_pm(PM_HZ / 100);
	irq_window();
	irq_clear();
	pit_set(0, 0, 1193);
	guest_check(irq_wait(0x30, 1), "PIT mode 0: nothing");
	wait_pm(PM_HZ / 100);
	irq_window();
	guest_check(irq_seen.count[0x30] == 1, "PIT mode 0: %u", irq_seen.count[0x30]);
	/* A stopped and masked line. */
	outb(0x21, 0xff);
	irq_clear();
	pit_set(0, 2, 1193);
	wait_pm(PM_HZ / 200);
	irq_window();
	guest_check(irq_seen.total == 0, "PIT masked: %u", irq_seen.total);
	pit_set(0, 0, 0);
}

static void
test_pm_timer(void)
{
	uint64_t last = pm_now();
	unsigned changes = 0;

	for (unsigned n = 0; n < 10000; n++) {
		uint64_t now = pm_now();

		guest_check(now - last < 1u << 23, "PM timer went back");
		changes += now != last;
		last = now;
	}
	guest_check(changes > 0, "PM timer stands still");
}

int
main(void)
{
	irq_init();
	test_pm_timer();
	test_tsc();
	test_lapic_rate();
	test_lapic_timer();
	test_deadline();
	test_pit();
	test_hpet();
	return guest_summary();
}
