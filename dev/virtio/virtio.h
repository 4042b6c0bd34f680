/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio 1.2 device on PCI: status, features, queues, interrupts, notifications (Virtual I/O Device 1.2,
 * 2 and 4.1). No legacy interface. The model (block, net, ...) says what it is and works on its queues.
 *
 * A notification of the driver only rings a bell; the model's work runs on the event loop's thread. So does
 * a reset: the status register shows the old value until work in flight has ended (4.1.4.3.2 lets it), then
 * 0.
 *
 * Threads: registers from vCPU threads; model callbacks as said below. One lock a device, taken after PCI
 * configuration's, before those of queues' interrupts (MSI-X, INTx, controllers). The model's own data is
 * either the loop thread's alone or under the same lock.
 */
#ifndef LHYVE_DEV_VIRTIO_H
#define LHYVE_DEV_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/virtio/queue.h"

struct evloop;
struct gpmap;
struct pci_func;
struct virtio;

enum { VIRTIO_QUEUES_MAX = 64, VIRTIO_CONFIG_MAX = 256 };

/* Feature bits of every device (6). */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX     (1ull << 29)
#define VIRTIO_F_VERSION_1     (1ull << 32)
#define VIRTIO_F_RING_PACKED   (1ull << 34)
#define VIRTIO_F_IN_ORDER      (1ull << 35)

enum {
	VIRTIO_STATUS_ACKNOWLEDGE = 1,
	VIRTIO_STATUS_DRIVER = 2,
	VIRTIO_STATUS_DRIVER_OK = 4,
	VIRTIO_STATUS_FEATURES_OK = 8,
	VIRTIO_STATUS_NEEDS_RESET = 64,
	VIRTIO_STATUS_FAILED = 128,
};

struct virtio_model {
	const char *type;    /* "virtio-blk" */
	uint16_t id;	     /* 1 network, 2 block, 3 console, 4 entropy */
	uint32_t class_code; /* PCI's, 0xCCSSPP */
	/* Loop thread, no lock. The driver is ready and rang for queue n; also after start, for each queue.
	 */
	void (*work)(void *dev, unsigned n);
	/* Loop thread, no lock: no new work is taken from here on. True: nothing is in flight; false:
	 * virtio_reset_done() will follow from the loop thread. May be NULL: never anything in flight. */
	bool (*quiesce)(void *dev);
	/* Lock held, vCPU or loop thread. May be NULL. The driver has set DRIVER_OK; or the device was reset.
	 */
	void (*driver_ok)(void *dev);
	void (*was_reset)(void *dev);
	/* Lock held: the driver wrote [off, off + len) of the configuration; put back what is read-only. May
	 * be NULL: all is. */
	void (*config_written)(void *dev, unsigned off, unsigned len);
};

struct virtio_cfg {
	const struct virtio_model *model;
	void *dev;	   /* the model's */
	const char *name;  /* for messages: "virtio-blk at 0:3:0" */
	uint64_t features; /* of the model; the common ones are added */
	bool no_packed;	   /* split queues only */
	unsigned queues;
	const uint16_t *queue_size; /* one a queue, a power of two up to VIRTQ_SIZE_MAX */
	const void *config;	    /* device configuration as it starts, config_len bytes */
	unsigned config_len;
	bool msix; /* else MSI and INTx */
	struct gpmap *mem;
	struct evloop *loop;
	/* What an engine may offer: writes of the driver to [gpa, gpa + 4) ring `fd` (an eventfd) with no
	 * exit, from add true until add false. NULL: none does. */
	void (*doorbell)(void *ctx, uint64_t gpa, int fd, bool add);
	void *doorbell_ctx;
};

LH_MUST_CHECK struct virtio *virtio_create(const struct virtio_cfg *cfg, struct err *err);
/* Transport: registers, configuration. start watches the bell, stop ends all callbacks; the model's own
 * device_ops.stop comes first and drains. */
extern const struct device_ops virtio_device_ops;
/* Queue n as a device: its state. Owns nothing; tracked after the transport. */
extern const struct device_ops virtio_queue_device_ops;
void *virtio_queue_device(struct virtio *v, unsigned n);
/* The PCI function (pci_func_device_ops) and its MSI-X (pci_msix_device_ops, NULL: none): tracked before the
 * transport, so that they are destroyed after it. */
struct pci_func *virtio_func(struct virtio *v);
struct pci_msix *virtio_msix(struct virtio *v);
unsigned virtio_queues(const struct virtio *v);

/* ---- for models ---- */

void virtio_lock(struct virtio *v);
void virtio_unlock(struct virtio *v);

/* With the lock held. */
struct virtq *virtio_queue(struct virtio *v, unsigned n);
/* Whether queues may be worked on: DRIVER_OK, no reset on its way, bus mastering on. */
bool virtio_live(const struct virtio *v);
uint64_t virtio_features(const struct virtio *v); /* negotiated */
uint8_t *virtio_config(struct virtio *v);	  /* device configuration, config_len bytes */
void virtio_config_restore(struct virtio *v);	  /* as it was created */
/* The driver is to look at the configuration again. */
void virtio_config_changed(struct virtio *v);
/* Interrupt for queue q if its driver wants one. */
void virtio_signal(struct virtio *v, struct virtq *q);
/* Something is wrong beyond a single request: NEEDS_RESET. */
void virtio_broken(struct virtio *v, const char *why);

/* Loop thread, no lock: what quiesce waited for has ended. */
void virtio_reset_done(struct virtio *v);
/* Any thread: run work(n) on the loop's thread soon. */
void virtio_kick(struct virtio *v, unsigned n);
/* Run what the bell asks for, now. Loop thread, or with no loop running. */
void virtio_poll(struct virtio *v);

#endif
