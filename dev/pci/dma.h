/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a PCI function sends upstream: reads and writes of guest memory, and interrupt messages, which are
 * writes to 0xfeexxxxx. Both carry the function's requester id, by which a remapping unit, where the root has
 * one, finds out what they may do.
 *
 * Virtio devices do not come this way: without VIRTIO_F_ACCESS_PLATFORM, which they do not offer, a driver
 * gives them guest-physical addresses (virtio 1.2, 6.1). Their messages do.
 *
 * Threads: any; the device's lock may be held. Order: device's lock, the remapping unit's, interrupt
 * controllers'.
 */
#ifndef LHYVE_DEV_PCI_DMA_H
#define LHYVE_DEV_PCI_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pci_func;

/*
 * The id that requests arrive with at the root: bus 0, and the function's own number, or that of the
 * conventional bridge which it is behind, since such a bridge makes them its own.
 */
uint16_t pci_func_requester(const struct pci_func *f);

/*
 * Copy between host and guest memory as the function would. false: bus mastering is off, the remapping unit
 * forbids it, or no memory is there; pages before the one at fault have been copied then.
 */
bool pci_func_dma_read(const struct pci_func *f, uint64_t addr, void *buf, size_t len);
/* A write of an aligned dword to 0xfeexxxxx is an interrupt; other sizes go nowhere there. */
bool pci_func_dma_write(const struct pci_func *f, uint64_t addr, const void *buf, size_t len);

#endif
