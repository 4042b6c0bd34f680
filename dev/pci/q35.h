/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chipset's own PCI functions: Q35 host bridge 8086:29c0 (Intel 3-series datasheet
 * ch. 5) at 0:0.0 and ICH9 LPC bridge 8086:2918 (ICH9 datasheet ch. 13) at 0:1f.0.
 *
 * The LPC bridge owns interrupt steering: ISA lines and PIRQA-H come in, PIC and IOAPIC
 * inputs go out. A PIRQ always drives its IOAPIC pin 16-23, and the PIC input named by
 * its route register while that register enables it; several sources of one PIC input
 * are OR-ed. ISA line 0 is IOAPIC pin 2, line 2 does not exist, the others go straight.
 *
 * Threads: wires from any thread. LPC lock; order: device, PCI INTx, LPC, PIC or IOAPIC.
 */
#ifndef LHYVE_DEV_Q35_H
#define LHYVE_DEV_Q35_H

#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct pci_func;
struct lpc;

struct hostbridge_cfg {
	uint64_t ecam_base;  /* shown in PCIEXBAR, which is locked */
	unsigned ecam_buses; /* 64, 128 or 256 */
};
/* The function belongs to the caller (pci_func_device_ops). */
LH_MUST_CHECK struct pci_func *hostbridge_create(const struct hostbridge_cfg *cfg, struct err *err);

struct lpc_wires {
	struct irq_wire pic;	/* line 0..15 */
	struct irq_wire ioapic; /* line 0..23 */
};
struct lpc_cfg {
	uint16_t pm_base; /* shown in PMBASE, which is locked */
};
LH_MUST_CHECK struct lpc *lpc_create(const struct lpc_cfg *cfg, const struct lpc_wires *w, struct err *err);
extern const struct device_ops lpc_device_ops; /* line levels; does not own the function */
/* The PCI function: added to a bus, saved and destroyed by the caller, before the lpc goes. */
struct pci_func *lpc_func(struct lpc *l);

/* ISA line 0..15; + LPC_ISA_SECOND: a second device on it, OR-ed. */
enum { LPC_ISA_SECOND = 16 };
struct irq_wire lpc_isa_wire(struct lpc *l, unsigned irq);
struct irq_wire lpc_pirq_wire(struct lpc *l); /* line 0..7 chosen by the user of the wire */
struct irq_wire lpc_gsi_wire(struct lpc *l);  /* an IOAPIC pin alone, OR-ed with what else drives it (HPET) */

#endif
