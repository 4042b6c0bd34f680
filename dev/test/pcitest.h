/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci-testdev, 1b36:0005: a PCI function that counts writes, as guests that measure
 * exits know it from QEMU. BAR 0 (memory, 4 KiB) and BAR 1 (I/O, 256 bytes) each offer
 * three tests with the same registers:
 *
 *   0  test    write: start test n of this BAR; one that does not exist ends all
 *   1  width   of the accesses that count
 *   4  offset  of the accesses that count: the second half of the BAR
 *   8  data    what to write
 *   c  count   of such writes since the start
 *  10  name    NUL-terminated
 *
 * Threads: accesses from any vCPU; one lock, which takes no other.
 */
#ifndef LHYVE_DEV_TEST_PCITEST_H
#define LHYVE_DEV_TEST_PCITEST_H

#include "base/err.h"
#include "dev/device.h"

struct pcitest;
struct pci_func;
struct pci_model;

extern const struct pci_model pcitest_model; /* "pci-testdev" */

LH_MUST_CHECK struct pcitest *pcitest_create(struct err *err);
extern const struct device_ops pcitest_device_ops; /* the test's state; does not own the function */
/* The PCI function: added to a bus, saved and destroyed by the caller, before the pcitest goes. */
struct pci_func *pcitest_func(struct pcitest *t);

#endif
