/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts from one CPU to the other (SDM vol. 3A 11.6): shorthands, physical and logical destinations,
 * delivery modes, loss, in xAPIC and x2APIC mode; INIT and start-up messages, NMIs.
 */
#include "tests/guest/pair.h"

enum {
	VECTOR = 0x61,
	LOWEST = 0x100,
	NMI = 0x400,
	INIT = 0x500,
	STARTUP = 0x600,
	LOGICAL = 0x800,
	PENDING = 0x1000,
	ASSERT = 0x4000,
	LEVEL = 0x8000,
	SELF = 0x40000,
	ALL = 0x80000,
	OTHERS = 0xc0000,
	TRAMPOLINE_VECTOR = 8, /* 0x8000 */
};

static bool x2apic;

/* Destination as the register has it: an id, or a set. */
static void
send(uint32_t dest, uint32_t what)
{
	if (x2apic) {
		wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (uint64_t)dest << 32 | what);
		return;
	}
	lapic_write(LAPIC_ICR_HIGH, dest << 24);
	lapic_write(LAPIC_ICR, what);
	while (lapic_read(LAPIC_ICR) & PENDING)
		__asm__ volatile("pause");
}

/* ---- destinations ---- */

/* dest: 0 and 1 are the CPUs' ids, 2 nobody's, 3 all. */
static const struct {
	const char *name;
	unsigned dest;
	uint32_t what;
	unsigned first, second;
} messages[] = {
    {"to itself", 0, VECTOR, 1, 0},
    {"to the other", 1, VECTOR, 0, 1},
    {"to nobody", 2, VECTOR, 0, 0},
    {"to all by id", 3, VECTOR, 1, 1},
    {"self", 2, SELF | VECTOR, 1, 0},
    {"all", 2, ALL | VECTOR, 1, 1},
    {"all others", 2, OTHERS | VECTOR, 0, 1},
    {"asserted edge", 1, ASSERT | VECTOR, 0, 1},
    {"SMI that nobody hears", 2, 0x200, 0, 0},
};

static void
test_messages(void)
{
	const uint32_t dest[] = {pair_id[0], pair_id[1], x2apic ? 0x12345 : 0x77, x2apic ? 0xffffffff : 0xff};

	for (unsigned n = 0; n < sizeof(messages) / sizeof(messages[0]); n++) {
		send(dest[messages[n].dest], messages[n].what);
		pair_expect(messages[n].name, messages[n].first, messages[n].second);
	}
	/* Sets; x2APIC's are one cluster here. */
	for (unsigned set = 0; set < 4; set++) {
		uint32_t to = (set & 1 ? 1u << (x2apic ? pair_id[0] & 15 : 0) : 0) |
			      (set & 2 ? 1u << (x2apic ? pair_id[1] & 15 : 1) : 0);

		send(to, LOGICAL | VECTOR);
		pair_expect("logical", set & 1, set >> 1);
	}
	send(x2apic ? 5 << 16 | 3 : 0x04, LOGICAL | VECTOR);
	pair_expect("logical, nobody", 0, 0);
}

static void
test_lowest(void)
{
	uint32_t both = x2apic ? 1u << (pair_id[0] & 15) | 1u << (pair_id[1] & 15) : 3;

	pair_set_tpr(0x50, 0);
	send(both, LOGICAL | LOWEST | VECTOR);
	pair_expect("lowest priority, the second", 0, 1);
	pair_set_tpr(0, 0x50);
	send(both, LOGICAL | LOWEST | VECTOR);
	pair_expect("lowest priority, the first", 1, 0);
	pair_set_tpr(0, 0);
}

/* What waits for the task priority; one of each vector. */
static void
test_waiting(void)
{
	pair_set_tpr(0, 0x90);
	for (unsigned n = 0; n < 3; n++) {
		send(pair_id[1], VECTOR);
		send(pair_id[1], VECTOR + 0x10);
	}
	send(pair_id[1], 0xa0);
	pair_expect("above the other's priority", 0, 1);
	pair_set_tpr(0, 0);
	pair_settle(2);
	guest_check(pair_seen[1].order[0] == VECTOR + 0x10 && pair_seen[1].order[1] == VECTOR,
		    "order: %x, %x", pair_seen[1].order[0], pair_seen[1].order[1]);
	pair_expect("when it falls, once each", 0, 2);
}

/* Many, each taken before the next is sent: none is lost. */
static void
test_many(void)
{
	uint64_t start = pm_now();

	for (unsigned n = 0; n < 500; n++) {
		send(pair_id[1], VECTOR);
		while (pair_seen[1].total <= n && pm_now() - start < 60ull * PM_HZ)
			__asm__ volatile("pause");
	}
	pair_expect("many", 0, 500);
}

/* ---- NMI, INIT, start-up ---- */

volatile unsigned nmis_seen;
void nmi_handler(void);
__asm__("nmi_handler: lock incl nmis_seen; iretq");

static void
test_nmi(void)
{
	uint64_t start = pm_now();

	idt_set(2, SEL_CODE, (uintptr_t)nmi_handler, 0x8e);
	nmis_seen = 0;
	send(pair_id[1], NMI);
	while (nmis_seen == 0 && pm_now() - start < 20ull * PM_HZ)
		__asm__ volatile("pause");
	pair_expect("NMI", 0, 0);
	guest_check(nmis_seen == 1, "NMI: %u", nmis_seen);
	/* A vector means nothing there. */
	send(pair_id[1], NMI | 0x33);
	start = pm_now();
	while (nmis_seen == 1 && pm_now() - start < 20ull * PM_HZ)
		__asm__ volatile("pause");
	guest_check(nmis_seen == 2, "NMI with a vector: %u", nmis_seen);
	send(0, OTHERS | NMI);
	start = pm_now();
	while (nmis_seen == 2 && pm_now() - start < 20ull * PM_HZ)
		__asm__ volatile("pause");
	pair_expect("NMI to all others", 0, 0);
	guest_check(nmis_seen == 3, "NMI to all others: %u", nmis_seen);
	trap_gate(2, 0x8e);
}

static bool
beats(void)
{
	unsigned before = pair_beats;
	uint64_t start = pm_now();

	while (pair_beats == before && pm_now() - start < PM_HZ / 200)
		__asm__ volatile("pause");
	return pair_beats != before;
}

/* A loaded host may take its time to tell the other CPU. */
static bool
comes_to_rest(void)
{
	uint64_t start = pm_now();
	bool alive;

	do
		alive = beats();
	while (alive && pm_now() - start < 20ull * PM_HZ);
	return !alive;
}

/* Long enough for a message to be taken. */
static void
pause(void)
{
	uint64_t start = pm_now();

	while (pm_now() - start < PM_HZ / 200)
		__asm__ volatile("pause");
}

static void
test_startup(void)
{
	/* A start-up message is for those that wait for one. */
	send(pair_id[1], STARTUP | ASSERT | TRAMPOLINE_VECTOR);
	pause();
	send(pair_id[1], VECTOR);
	pair_expect("start-up of one that runs", 0, 1);
	for (unsigned n = 0; n < 3; n++) {
		pair_ready = 0;
		send(pair_id[1], INIT | ASSERT | (n & 1 ? LEVEL : 0));
		guest_check(comes_to_rest(), "runs after INIT");
		send(pair_id[1], VECTOR); /* its APIC is off */
		pair_expect("while it waits", 0, 0);
		guest_check(pair_ready == 0 && comes_to_rest(), "woken by other than a start-up message");
		send(n == 2 ? 0 : pair_id[1], STARTUP | (n == 2 ? OTHERS : 0) | TRAMPOLINE_VECTOR);
		pair_wait_ready();
		guest_check(pair_seen[1].total == 0, "an old interrupt after start-up");
		send(pair_id[1], VECTOR);
		pair_expect("after it started", 0, 1);
	}
}

/* ---- x2APIC ---- */

static void
to_x2apic(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
}

static void
to_xapic(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE) & ~0xc00ull;

	wrmsr(MSR_APIC_BASE, base);
	wrmsr(MSR_APIC_BASE, base | 0x800);
	lapic_write(LAPIC_SVR, 0x1ff);
}

int
main(void)
{
	uint32_t r[4];

	pair_start();
	cpuid(1, 0, r);
	for (unsigned n = 0; n < 2; n++) {
		test_messages();
		test_lowest();
		test_waiting();
		test_many();
		test_nmi();
		if (n == 0 && (r[2] >> 21 & 1) == 0) {
			guest_skip("x2APIC");
			break;
		}
		x2apic = n == 0;
		pair_call(x2apic ? to_x2apic : to_xapic);
		(x2apic ? to_x2apic : to_xapic)();
	}
	lapic_write(LAPIC_LDR, 1 << 24);
	test_startup();
	return guest_summary();
}
