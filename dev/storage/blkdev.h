/* SPDX-License-Identifier: BSD-2-Clause */
/* The model virtio-blk (Virtual I/O Device 1.2, 5.2): virtio_blk.c. */
#ifndef LHYVE_DEV_STORAGE_BLKDEV_H
#define LHYVE_DEV_STORAGE_BLKDEV_H

struct pci_model;
extern const struct pci_model virtio_blk_model;

#endif
