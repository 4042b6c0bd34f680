/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APIC as in ICH9: an 82093AA (Intel 290566) with 24 pins, version 0x20 and the
 * EOI register (ICH9 data sheet 13.5). A page of registers at base: IOREGSEL 0x00, IOWIN 0x10, EOI 0x40.
 *
 * Threads: every call from any thread; one lock. Lock order: any device's lock, the
 * PIC's, this one, then an APIC's (messages are sent with this lock held).
 */
#ifndef LHYVE_DEV_IOAPIC_H
#define LHYVE_DEV_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "x86/apic.h"

struct ioapic;
struct io_bus;

#define IOAPIC_PINS	    24
#define IOAPIC_DEFAULT_BASE 0xfec00000u

struct ioapic_cfg {
	uint64_t base; /* of the register page; 0: IOAPIC_DEFAULT_BASE */
	uint8_t id;    /* power-on value of the ID register, 0..15 */
};

/* An I/O APIC that is in the host's kernel, as pic_remote. */
struct ioapic_remote {
	void (*line)(void *ctx, unsigned pin, bool level);
	int (*get)(void *ctx, struct x86_ioapic *io);
	int (*set)(void *ctx, const struct x86_ioapic *io);
	void *ctx;
};

struct ioapic_wires {
	/* lapic_message_wire(): true when an APIC took it. */
	bool (*message)(void *ctx, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level);
	void *ctx;
	/* What the level-triggered pins send, all of them at each change; may be NULL. For APICs that must
	 * know whose EOIs to hand up. With the lock held. */
	void (*pins)(void *ctx, const struct x86_pin_message *pin, unsigned count);
	void *pins_ctx;
	const struct ioapic_remote *remote; /* NULL: it is here */
	/*
	 * For a remapping unit, else NULL; then used instead: the message as the write that it is (address
	 * 0xfeexxxxx; VT-d 5.1.5.1). Bits 55:48 of an entry can be written then. True when it arrived.
	 */
	bool (*msi)(void *ctx, uint32_t addr, uint32_t data);
	void *msi_ctx;
};

LH_MUST_CHECK struct ioapic *ioapic_create(const struct ioapic_cfg *cfg, const struct ioapic_wires *w,
					   struct err *err);
extern const struct device_ops ioapic_device_ops;
LH_MUST_CHECK int ioapic_map(struct ioapic *io, struct io_bus *mmio, struct err *err);

/* Input pin 0..23; others are ignored. Usable as irq_wire.set: ctx = struct ioapic *. */
void ioapic_set_irq(void *ioapic, unsigned pin, bool level);

/* EOI broadcast from a local APIC. As lapic_wires.eoi. */
void ioapic_eoi(void *ioapic, uint8_t vector);

#endif
