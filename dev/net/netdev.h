/* SPDX-License-Identifier: BSD-2-Clause */
/* The model virtio-net (Virtual I/O Device 1.2, 5.1): virtio_net.c. */
#ifndef LHYVE_DEV_NET_NETDEV_H
#define LHYVE_DEV_NET_NETDEV_H

#include <stdbool.h>

struct device_ops;
struct pci_model;
extern const struct pci_model virtio_net_model;

/* Pull the cable out, or put it in. `dev` is the device of virtio_net_device_ops. Any thread. */
extern const struct device_ops virtio_net_device_ops;
void virtio_net_set_link(void *dev, bool up);

#endif
