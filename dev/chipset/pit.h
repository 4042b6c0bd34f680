/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254 programmable interval timer (Intel 231164) at ports 0x40-0x43, and port 0x61
 * (NMI status and control, ICH9 data sheet 13.7.1) with counter 2's gate and output.
 * Counters run at 1193182 Hz of the VM clock.
 *
 * Threads: every call from any thread; one lock, taken before the HPET's and the
 * interrupt controllers' (IRQ0 is set with it held). A remote one's is taken after the HPET's.
 */
#ifndef LHYVE_DEV_PIT_H
#define LHYVE_DEV_PIT_H

#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"
#include "x86/apic.h"

struct pit;
struct io_bus;
struct vm_clock;

#define PIT_HZ ((unsigned)X86_PIT_HZ)

/* An 8254 and a port 0x61 that are in the host's kernel, as pic_remote; their IRQ0 has a wire of its own, and
 * a write starts each count anew. */
struct pit_remote {
	int (*get)(void *ctx, struct x86_pit *pit);
	int (*set)(void *ctx, const struct x86_pit *pit); /* NULL: IRQ0 stays quiet until the next one */
	void *ctx;
};

struct pit_wires {
	struct vm_clock *clock;
	struct irq_wire
	    irq0; /* counter 0's output: hpet_pit_irq() where there is an HPET, else the IRQ router */
	bool discard_late;		 /* ticks that the host is late for are lost */
	const struct pit_remote *remote; /* NULL: it is here */
};

LH_MUST_CHECK struct pit *pit_create(const struct pit_wires *w, struct err *err);
extern const struct device_ops pit_device_ops;
LH_MUST_CHECK int pit_map(struct pit *p, struct io_bus *pio, struct err *err);

/* A remote one's IRQ0 is the HPET's from now on, or its own again. As irq_wire.set: ctx = struct pit *, line
 * not used; with the HPET's lock held. */
void pit_hpet_irq0(void *pit, unsigned line, bool taken);

#endif
