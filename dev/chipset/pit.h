/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254 programmable interval timer (Intel 231164) at ports 0x40-0x43, and port 0x61
 * (NMI status and control, ICH9 data sheet 13.7.1) with counter 2's gate and output.
 * Counters run at 1193182 Hz of the VM clock.
 *
 * Threads: every call from any thread; one lock, taken before the HPET's and the
 * interrupt controllers' (IRQ0 is set with it held).
 */
#ifndef LHYVE_DEV_PIT_H
#define LHYVE_DEV_PIT_H

#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct pit;
struct io_bus;
struct vm_clock;

#define PIT_HZ 1193182u

struct pit_wires {
	struct vm_clock *clock;
	struct irq_wire
	    irq0; /* counter 0's output: hpet_pit_irq() where there is an HPET, else the IRQ router */
};

LH_MUST_CHECK struct pit *pit_create(const struct pit_wires *w, struct err *err);
extern const struct device_ops pit_device_ops;
LH_MUST_CHECK int pit_map(struct pit *p, struct io_bus *pio, struct err *err);

#endif
