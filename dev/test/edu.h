/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * edu, 1234:11e8: the device that QEMU has for courses and that guests test DMA, MSI and remapping units with
 * (its docs/specs/edu). BAR 0, 1 MiB; below 0x80 by dwords, from there on by dwords and quadwords:
 *
 *    00  ro  identification: 0x010000ed
 *    04  rw  liveness: reads as what was written, inverted
 *    08  rw  factorial: of what was written, modulo 2^32
 *    20  rw  status: 0 computing (ro, never seen: factorials take no time), 7 interrupt after a factorial
 *    24  ro  interrupt status
 *    60  wo  raise these bits of the interrupt status
 *    64  wo  acknowledge these
 *    80  rw  DMA source address       88  rw  destination address      90  rw  count of bytes
 *    98  rw  DMA command: 0 start (reads 0 when done: at once), 1 from device to memory, 2 interrupt after it
 *
 * The device's own end of a transfer is its buffer, 4 KiB at 0x40000, which BAR 0 does not show. Memory's end
 * has 28 address bits. A factorial's interrupt status is 0x001, a transfer's 0x100. MSI (one vector) or INTA.
 *
 * Threads: accesses from any vCPU; one lock, taken before those of the remapping unit and interrupt
 * controllers.
 */
#ifndef LHYVE_DEV_TEST_EDU_H
#define LHYVE_DEV_TEST_EDU_H

#include "base/err.h"
#include "dev/device.h"

struct edu;
struct pci_func;
struct pci_model;

extern const struct pci_model edu_model; /* "edu" */

LH_MUST_CHECK struct edu *edu_create(struct err *err);
extern const struct device_ops edu_device_ops; /* does not own the function */
/* The PCI function: added to a bus, saved and destroyed by the caller, before the edu goes. */
struct pci_func *edu_func(struct edu *e);

#endif
