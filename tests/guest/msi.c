/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Message-signalled interrupts (SDM vol. 3A 11.11; PCI Local Bus 3.0 6.8.1) of an edu at 0:6.0: destinations
 * and delivery modes, edge and level, masks and pending bits, loss and order; its interrupt line without
 * them. Two CPUs.
 */
#include "tests/guest/pair.h"

enum {
	EDU = 0x80003000u, /* 0:6.0 for port 0xcf8 */
	EDU_IRQ_STATUS = 0x24,
	EDU_RAISE = 0x60,
	EDU_ACK = 0x64,
	MSI_CONTROL = 2,
	MSI_ADDRESS = 4,
	MSI_UPPER = 8,
	MSI_DATA = 12,
	MSI_MASK = 16,
	MSI_PENDING = 20,
	CONTROL_ENABLE = 1,
	ADDRESS = (int)0xfee00000,
	ADDRESS_LOGICAL = 4,
	ADDRESS_HINT = 8,
	DATA_LOWEST = 0x100,
	DATA_NMI = 0x400,
	DATA_ASSERT = 0x4000,
	DATA_LEVEL = 0x8000,
	VECTOR = 0x74,
};
static unsigned cap;
static volatile uint32_t *edu;

/* ---- the function ---- */

static uint32_t
config_read(unsigned off)
{
	outl(0xcf8, EDU | (off & 0xfc));
	return inl(0xcfc) >> (8 * (off & 3));
}

static void
config_write(unsigned off, unsigned size, uint32_t v)
{
	outl(0xcf8, EDU | (off & 0xfc));
	if (size == 4)
		outl(0xcfc, v);
	else
		__asm__ volatile("outw %0, %1" : : "a"((uint16_t)v), "d"((uint16_t)(0xcfc + (off & 2))));
}

static void
raise(void)
{
	edu[EDU_RAISE / 4] = 1;
}

static void
acknowledge(void)
{
	edu[EDU_ACK / 4] = 1;
}

static void
target(uint32_t address, uint32_t data)
{
	config_write(cap + MSI_CONTROL, 2, 0);
	config_write(cap + MSI_ADDRESS, 4, address);
	config_write(cap + MSI_UPPER, 4, 0);
	config_write(cap + MSI_DATA, 2, data);
	config_write(cap + MSI_CONTROL, 2, CONTROL_ENABLE);
}

static bool
find(void)
{
	if (config_read(0) != 0x11e81234)
		return false;
	edu = (volatile uint32_t *)(uintptr_t)(config_read(0x10) & ~15u);
	for (cap = config_read(0x34) & 0xff; cap != 0 && (config_read(cap) & 0xff) != 5;)
		cap = config_read(cap + 1) & 0xff;
	config_write(4, 2, 6); /* memory, bus master */
	return cap != 0;
}

/* ---- destinations and modes ---- */

static const struct {
	const char *name;
	uint32_t address, data;
	uint8_t shorthand; /* of whose id: 0 and 1, 2 nobody's, 3 all's */
	unsigned first, second;
} targets[] = {
    {"physical, the first", 0, VECTOR, 0, 1, 0},
    {"physical, the second", 0, VECTOR, 1, 0, 1},
    {"physical, nobody", 0, VECTOR, 2, 0, 0},
    {"physical, all", 0, VECTOR, 3, 1, 1},
    {"physical, lowest priority", 0, VECTOR | DATA_LOWEST, 1, 0, 1},
    {"with the hint", ADDRESS_HINT, VECTOR, 1, 0, 1},
    {"level, asserted", 0, VECTOR | DATA_LEVEL | DATA_ASSERT, 0, 1, 0},
    {"level, not asserted", 0, VECTOR | DATA_LEVEL, 0, 0, 0},
    {"edge, asserted", 0, VECTOR | DATA_ASSERT, 0, 1, 0},
    {"illegal vector", 0, 5, 0, 0, 0},
};

static void
test_targets(void)
{
	const unsigned whose[] = {pair_id[0], pair_id[1], 0x77, 0xff};

	for (unsigned n = 0; n < sizeof(targets) / sizeof(targets[0]); n++) {
		target(ADDRESS | targets[n].address | whose[targets[n].shorthand] << 12, targets[n].data);
		raise();
		pair_expect(targets[n].name, targets[n].first, targets[n].second);
	}
	lapic_write(LAPIC_ESR, 0);
	guest_check((lapic_read(LAPIC_ESR) & 0x40) != 0, "ESR %x after an illegal vector",
		    lapic_read(LAPIC_ESR));
	/* An address that is memory's. */
	target(ADDRESS | pair_id[0] << 12, VECTOR);
	config_write(cap + MSI_UPPER, 4, 1);
	raise();
	pair_expect("above 4 GiB", 0, 0);
	/* Logical: a set of CPUs, flat and in clusters. */
	for (unsigned set = 0; set < 4; set++) {
		target((uint32_t)ADDRESS | ADDRESS_LOGICAL | set << 12, VECTOR);
		raise();
		pair_expect("logical", set & 1, set >> 1);
	}
	lapic_write(LAPIC_DFR, 0x0fffffff);
	lapic_write(LAPIC_LDR, 0x31 << 24);
	target((uint32_t)ADDRESS | ADDRESS_LOGICAL | 0x31 << 12, VECTOR);
	raise();
	pair_expect("a cluster", 1, 0);
	target((uint32_t)ADDRESS | ADDRESS_LOGICAL | 0x21 << 12, VECTOR);
	raise();
	guest_check((pair_settle(0), pair_seen[0].total) == 0, "another cluster: %u", pair_seen[0].total);
	pair_clear();
	lapic_write(LAPIC_DFR, 0xffffffff);
	lapic_write(LAPIC_LDR, 1 << 24);
}

/* Lowest priority: to one of the set, the one whose task is less important. */
static void
test_lowest(void)
{
	static const uint32_t forms[][2] = {{ADDRESS_LOGICAL, VECTOR | DATA_LOWEST},
					    {ADDRESS_LOGICAL | ADDRESS_HINT, VECTOR}};

	for (unsigned n = 0; n < 2; n++) {
		target((uint32_t)ADDRESS | forms[n][0] | 3 << 12, forms[n][1]);
		pair_set_tpr(0x60, 0);
		raise();
		pair_expect("lowest priority, the second is less busy", 0, 1);
		pair_set_tpr(0, 0x60);
		raise();
		pair_expect("lowest priority, the first is less busy", 1, 0);
		pair_set_tpr(0, 0);
		for (unsigned k = 0; k < 10; k++) {
			raise();
			pair_settle(1);
			guest_check(pair_seen[0].total + pair_seen[1].total == 1,
				    "lowest priority, equal: %u and %u", pair_seen[0].total,
				    pair_seen[1].total);
			pair_clear();
		}
	}
}

/* movl $1, EDU_RAISE(%rbx), then wait for what comes. */
extern uint8_t raise_and_wait[];
__asm__("raise_and_wait: movl $1, 0x60(%rbx); 1: pause; jmp 1b");

static void
test_nmi(void)
{
	struct context c = {.ip = (uintptr_t)raise_and_wait,
			    .cs = SEL_CODE,
			    .ss = SEL_DATA,
			    .sp = (uintptr_t)user_stack_top,
			    .flags = 2,
			    .bx = (uintptr_t)edu};

	target((uint32_t)ADDRESS | pair_id[0] << 12, DATA_NMI | VECTOR);
	int v = guest_enter(&c);
	guest_check(v == 2, "NMI by message: trap %d", v);
	pair_expect("NMI", 0, 0);
}

/* ---- masks, loss, order ---- */

static void
test_masks(void)
{
	target((uint32_t)ADDRESS | pair_id[0] << 12, VECTOR);
	config_write(cap + MSI_MASK, 4, 1);
	guest_check((config_read(cap + MSI_PENDING) & 1) == 0, "pending before anything came");
	raise();
	raise();
	pair_expect("masked", 0, 0);
	guest_check((config_read(cap + MSI_PENDING) & 1) == 1, "not pending while masked");
	config_write(cap + MSI_MASK, 4, 0);
	pair_expect("two while masked", 1, 0);
	guest_check((config_read(cap + MSI_PENDING) & 1) == 0, "pending when unmasked");
	/* Not enabled: nothing pends, the line is used (and not routed). */
	config_write(cap + MSI_CONTROL, 2, 0);
	raise();
	pair_expect("disabled", 0, 0);
	acknowledge();
	config_write(cap + MSI_CONTROL, 2, CONTROL_ENABLE);
	pair_expect("enabled again", 0, 0);
	/* A change of address and data while masked holds for what pends. */
	config_write(cap + MSI_MASK, 4, 1);
	raise();
	config_write(cap + MSI_DATA, 2, VECTOR + 1);
	config_write(cap + MSI_MASK, 4, 0);
	pair_settle(1);
	guest_check(pair_seen[0].count[VECTOR + 1] == 1 && pair_seen[0].total == 1,
		    "changed while masked: %u of %u", pair_seen[0].count[VECTOR + 1], pair_seen[0].total);
	pair_clear();
}

static void
test_order(void)
{
	static const uint8_t vectors[] = {0x51, 0x91, 0x71}, order[] = {0x91, 0x71, 0x51};

	for (unsigned n = 0; n < 3; n++) {
		target((uint32_t)ADDRESS | pair_id[0] << 12, vectors[n]);
		raise();
	}
	pair_settle(3);
	for (unsigned n = 0; n < 3; n++)
		guest_check(pair_seen[0].order[n] == order[n], "number %u is %x, not %x", n,
			    pair_seen[0].order[n], order[n]);
	pair_expect("three vectors", 3, 0);
	/* One waits behind the one that is in service; more of the same are lost. */
	pair_no_eoi = true;
	raise();
	pair_settle(1);
	raise();
	raise();
	raise();
	pair_settle(1);
	guest_check(pair_seen[0].total == 1, "before the EOI: %u", pair_seen[0].total);
	pair_no_eoi = false;
	lapic_write(LAPIC_EOI, 0);
	pair_expect("after it", 2, 0);
	/* An edge has no TMR bit, a level has, and its EOI goes by without harm. */
	for (unsigned level = 0; level < 2; level++) {
		target((uint32_t)ADDRESS | pair_id[0] << 12, VECTOR | (level ? DATA_LEVEL | DATA_ASSERT : 0));
		raise();
		uint32_t tmr = lapic_read(LAPIC_TMR + VECTOR / 32 * 16) >> (VECTOR % 32) & 1;
		guest_check(tmr == level, "TMR of a %s: %u", level ? "level" : "edge", tmr);
		pair_expect("TMR", 1, 0);
	}
	/* Below the task's priority it waits. */
	lapic_write(LAPIC_TPR, 0x80);
	raise();
	pair_expect("below the task's priority", 0, 0);
	lapic_write(LAPIC_TPR, 0);
	pair_expect("when that falls", 1, 0);
}

/* ---- the line ---- */

static void
test_line(void)
{
	unsigned pin = config_read(0x3c) & 0xff;

	config_write(cap + MSI_CONTROL, 2, 0);
	guest_check((config_read(0x3d) & 0xff) == 1 && pin >= 16 && pin < 24, "interrupt line %u", pin);
	ioapic_route(pin, VECTOR | RTE_LEVEL);
	pair_no_eoi = true;
	raise();
	pair_settle(1);
	guest_check(pair_seen[0].total == 1 && (ioapic_entry(pin) & RTE_REMOTE_IRR) != 0,
		    "a line: %u, entry %x", pair_seen[0].total, ioapic_entry(pin));
	lapic_write(LAPIC_EOI, 0);
	pair_settle(2);
	guest_check(pair_seen[0].total == 2, "a line that stays: %u", pair_seen[0].total);
	acknowledge();
	pair_no_eoi = false;
	lapic_write(LAPIC_EOI, 0);
	pair_expect("a line that went", 2, 0);
	/* INTx disabled by the command register. */
	config_write(4, 2, 0x406);
	raise();
	pair_expect("INTx disabled", 0, 0);
	guest_check((config_read(6) & 8) != 0, "interrupt status %x with INTx disabled",
		    config_read(6) & 0xffff);
	acknowledge();
	guest_check((config_read(6) & 8) == 0, "interrupt status %x after it", config_read(6) & 0xffff);
	config_write(4, 2, 6);
	ioapic_route(pin, RTE_MASKED);
}

int
main(void)
{
	if (!find()) {
		guest_check(false, "no edu with MSI at 0:6.0");
		return guest_summary();
	}
	pair_start();
	test_targets();
	test_lowest();
	test_masks();
	test_order();
	test_line();
	test_nmi();
	return guest_summary();
}
