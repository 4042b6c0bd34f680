/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * High precision event timer (IA-PC HPET specification 1.0a; ICH9 data sheet chapter 20):
 * a 64-bit counter at 14.318180 MHz of the VM clock and 3 or more comparators.
 *
 * With legacy replacement on, timer 0 drives IRQ0 and timer 1 IRQ8, and the PIT's and
 * RTC's lines are cut off. So the PIT and RTC are wired through this device.
 *
 * Threads: every call from any thread; one lock, taken after the PIT's and RTC's and
 * before the interrupt controllers' (all wires are used with it held).
 */
#ifndef LHYVE_DEV_HPET_H
#define LHYVE_DEV_HPET_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct hpet;
struct io_bus;
struct vm_clock;

#define HPET_DEFAULT_BASE 0xfed00000u
#define HPET_LEN	  0x400u
#define HPET_PERIOD_FS	  69841279u   /* 14.318180 MHz */
#define HPET_TIMERS_MAX	  24	      /* as many as fit in its 1 KiB */
#define HPET_ROUTE_CAP	  0x00f00000u /* IOAPIC pins 20-23 (ICH9) */

struct hpet_cfg {
	uint64_t base;	    /* 0: HPET_DEFAULT_BASE */
	unsigned timers;    /* 3..24; 0: 3 */
	uint32_t route_cap; /* IOAPIC pins that any timer may use; 0: HPET_ROUTE_CAP */
	bool msi;	    /* comparators can send messages (FSB delivery) */
};

struct hpet_wires {
	struct vm_clock *clock;
	struct irq_wire irq0, irq8; /* ISA IRQ 0 and 8: the PIT's and RTC's, or timers 0 and 1 */
	struct irq_wire gsi;	    /* set(ctx, pin, level) for any IOAPIC pin; its `line` is not used */
	void (*msi)(void *ctx, uint64_t addr, uint32_t data); /* lapic_msi_wire() */
	void *msi_ctx;
	struct irq_wire legacy; /* high while legacy replacement is on: pit_hpet_irq0() */
};

LH_MUST_CHECK struct hpet *hpet_create(const struct hpet_cfg *cfg, const struct hpet_wires *w,
				       struct err *err);
extern const struct device_ops hpet_device_ops;
LH_MUST_CHECK int hpet_map(struct hpet *h, struct io_bus *mmio, struct err *err);

/* The PIT's IRQ0 and the RTC's IRQ8. As irq_wire.set: ctx = struct hpet *, line not used. */
void hpet_pit_irq(void *hpet, unsigned line, bool level);
void hpet_rtc_irq(void *hpet, unsigned line, bool level);

/* The capabilities register's low half, for the ACPI HPET table's "event timer block ID". */
uint32_t hpet_block_id(const struct hpet *h);

#endif
