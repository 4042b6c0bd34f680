/* SPDX-License-Identifier: BSD-2-Clause */
/* What virtio.c (the device) and transport.c (its PCI registers) share. */
#ifndef LHYVE_DEV_VIRTIO_INTERNAL_H
#define LHYVE_DEV_VIRTIO_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "dev/pci/msi.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

enum { VIRTIO_NO_VECTOR = 0xffff };
enum { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 };

struct virtio_state {
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select, config_msix_vector;
	uint8_t status, isr, config_generation;
	uint8_t resetting; /* a write of 0 to status waits for the loop's thread */
	uint8_t config[VIRTIO_CONFIG_MAX];
};

struct virtio {
	struct virtio_cfg cfg;
	char name[64];
	uint64_t device_features;
	struct pci_func *func;
	struct pci_msix *msix; /* NULL: MSI or INTx */
	unsigned pci_cfg_cap;

	pthread_mutex_t lock;
	struct virtio_state st;
	struct virtq *queue; /* cfg.queues of them */
	uint8_t config_reset[VIRTIO_CONFIG_MAX];

	int bell; /* eventfd */
	struct ev_source *bell_source;
	_Atomic uint64_t rung; /* a bit a queue */
	_Atomic bool reset_asked;
	uint64_t doorbell_gpa; /* ~0: none */
};

/* virtio.c, lock held */
void virtio_set_status(struct virtio *v, uint8_t status);
void virtio_driver_ok(struct virtio *v);
/* virtio.c, any thread */
void virtio_ring(struct virtio *v);

/* transport.c */
LH_MUST_CHECK int virtio_transport_init(struct virtio *v, struct err *err);
/* Lock held: an interrupt by the vector, or by INTx with this ISR bit. */
void virtio_interrupt(struct virtio *v, uint16_t vector, uint8_t isr);
void virtio_transport_reset(struct virtio *v);

#endif
