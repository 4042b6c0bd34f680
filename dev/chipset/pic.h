/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pair of 8259A interrupt controllers of a PC (Intel 8259A data sheet 231468;
 * ICH9 data sheet 5.8 and 13.4): ports 0x20/0x21, 0xa0/0xa1, ELCR 0x4d0/0x4d1.
 *
 * Threads: every call from any thread; one lock. Lock order: any device's lock,
 * then this one, then an APIC's (the INTR wire is set with this lock held).
 */
#ifndef LHYVE_DEV_PIC_H
#define LHYVE_DEV_PIC_H

#include <stdbool.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"
#include "x86/apic.h"

struct pic;
struct io_bus;

/* 8259s that are in the host's kernel, as lapic_remote. Between start and stop they have the state. line from
 * any thread; the others while no vCPU runs. 0, or -errno. */
struct pic_remote {
	void (*line)(void *ctx, unsigned irq, bool level);
	int (*get)(void *ctx, struct x86_pic pic[2]);
	int (*set)(void *ctx, const struct x86_pic pic[2]);
	void *ctx;
};

struct pic_wires {
	struct irq_wire intr;		 /* the master's INTR output: lapic_lint0(), IOAPIC pin 0 */
	const struct pic_remote *remote; /* NULL: the chips are here */
};

LH_MUST_CHECK struct pic *pic_create(const struct pic_wires *w, struct err *err);
extern const struct device_ops pic_device_ops;
LH_MUST_CHECK int pic_map(struct pic *p, struct io_bus *pio, struct err *err);

/* Input line 0..15 (2 is the cascade and ignored). Usable as irq_wire.set: ctx = struct pic *. */
void pic_set_irq(void *pic, unsigned irq, bool level);

/* The INTA cycles: the vector (a spurious one, IR7's, when the request went away). As lapic_wires.extint_ack.
 */
int pic_ack(void *pic);

#endif
