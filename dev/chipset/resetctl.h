/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ways by which software resets a PC: RST_CNT at port 0xcf9 (ICH9 datasheet 13.7.5),
 * port 0x92 (fast A20 and INIT), and the keyboard controller's output port. The
 * controller at 0x60/0x64 answers its own commands and has no device behind it; the FADT
 * says that there is none, so that an ACPI system does not probe.
 *
 * A20 is never masked; its bits read as written.
 *
 * Threads: every call from any thread; one lock, never held while reset() is called.
 */
#ifndef LHYVE_DEV_RESETCTL_H
#define LHYVE_DEV_RESETCTL_H

#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"

struct resetctl;
struct io_bus;

struct resetctl_wires {
	void (*reset)(void *ctx); /* the machine is to be reset. No lock held */
	void *ctx;
};

LH_MUST_CHECK struct resetctl *resetctl_create(const struct resetctl_wires *w, struct err *err);
extern const struct device_ops resetctl_device_ops;

/* Ports 0x60, 0x64 and 0x92. */
LH_MUST_CHECK int resetctl_map(struct resetctl *r, struct io_bus *pio, struct err *err);

/* RST_CNT: the PCI core passes byte accesses of 0xcf9 on, see pci_root_wires. */
uint8_t resetctl_cf9_read(void *dev);
void resetctl_cf9_write(void *dev, uint8_t val);

#endif
