/* SPDX-License-Identifier: BSD-2-Clause */
/* The model virtio-rnd (Virtual I/O Device 1.2, 5.4): rnd.c. */
#ifndef LHYVE_DEV_VIRTIO_RND_H
#define LHYVE_DEV_VIRTIO_RND_H

struct pci_model;
extern const struct pci_model virtio_rnd_model;

#endif
