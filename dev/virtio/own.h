/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtio device whose parts (function, MSI-X, transport, queues) the board owns from the start. */
#ifndef LHYVE_DEV_VIRTIO_OWN_H
#define LHYVE_DEV_VIRTIO_OWN_H

#include "base/err.h"

struct pci_model_env;
struct virtio;
struct virtio_cfg;

/* As virtio_create(), with msix, mem, loop and doorbell of `env`. On failure the board may own parts
 * that work without the model: they are never started. */
LH_MUST_CHECK struct virtio *virtio_create_owned(const struct pci_model_env *env, struct virtio_cfg *cfg,
						 struct err *err);

#endif
