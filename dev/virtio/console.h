/* SPDX-License-Identifier: BSD-2-Clause */
/* The model virtio-console (Virtual I/O Device 1.2, 5.3): console.c. */
#ifndef LHYVE_DEV_VIRTIO_CONSOLE_H
#define LHYVE_DEV_VIRTIO_CONSOLE_H

struct pci_model;
extern const struct pci_model virtio_console_model;

#endif
