/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Message-signalled interrupts of a PCI function: MSI-X (PCI Local Bus 3.0 6.8.2, table and pending bits in
 * a BAR of its own) and MSI (6.8.1, one to 32 vectors with masks, all of it in configuration space).
 *
 * A message that cannot go (vector or function masked, no bus mastering) is remembered as a pending bit and
 * goes when that ends. The messages leave by pci_root_wires.msi.
 *
 * Threads: declare before pci_bus_add(); raise from any thread, the device's lock may be held. One lock a
 * function, taken after the configuration lock and the device's, before the interrupt controllers'.
 */
#ifndef LHYVE_DEV_PCI_MSI_H
#define LHYVE_DEV_PCI_MSI_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"

struct pci_func;
struct pci_msix;

enum { PCI_MSIX_VECTORS = 128, PCI_MSI_VECTORS = 32 }; /* at most */

/* Declare MSI-X with `vectors` entries in BAR `bar` (32-bit memory, 4 KiB). The result is a device of its own
 * (pci_msix_device_ops: table and pending bits), destroyed before the function. */
LH_MUST_CHECK struct pci_msix *pci_msix_create(struct pci_func *f, unsigned bar, unsigned vectors,
					       struct err *err);
extern const struct device_ops pci_msix_device_ops;
unsigned pci_msix_vectors(const struct pci_msix *m);
/* Whether the guest has MSI-X on: INTx is then never used. */
bool pci_msix_enabled(const struct pci_msix *m);
/* Send vector n, or remember it. A vector beyond the table does nothing. */
void pci_msix_raise(struct pci_msix *m, unsigned n);

/* Declare MSI with `vectors` (a power of two up to 32). Its state is configuration space. */
void pci_func_msi(struct pci_func *f, unsigned vectors);
/* Send vector n (folded into as many as the guest allows). false: the guest has MSI off. */
bool pci_msi_raise(struct pci_func *f, unsigned n);

#endif
