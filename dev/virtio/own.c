/* SPDX-License-Identifier: BSD-2-Clause */
#include "dev/virtio/own.h"

#include <stdio.h>
#include <string.h>

#include "dev/pci/model.h"
#include "dev/pci/msi.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

struct virtio *
virtio_create_owned(const struct pci_model_env *env, struct virtio_cfg *cfg, struct err *err)
{
	const char *packed = env->option(env->ctx, "packed");
	struct virtio *v;
	char part[24];
	int ret;

	cfg->msix = env->virtio_msix;
	cfg->no_packed = packed != NULL && strcmp(packed, "false") == 0;
	cfg->mem = env->mem;
	cfg->loop = env->loop;
	cfg->doorbell = env->doorbell;
	cfg->doorbell_ctx = env->doorbell_ctx;
	v = virtio_create(cfg, err);
	if (v == NULL)
		return NULL;
	/* Each is owned once it was handed over, so all are: what fails is remembered. */
	ret = env->own(env->ctx, &pci_func_device_ops, virtio_func(v), "", err);
	if (virtio_msix(v) != NULL && ret == 0)
		ret = env->own(env->ctx, &pci_msix_device_ops, virtio_msix(v), "msix", err);
	if (ret == 0)
		ret = env->own(env->ctx, &virtio_device_ops, v, "virtio", err);
	for (unsigned n = 0; n < cfg->queues && ret == 0; n++) {
		snprintf(part, sizeof(part), "queue.%u", n);
		ret = env->own(env->ctx, &virtio_queue_device_ops, virtio_queue_device(v, n), part, err);
	}
	return ret == 0 ? v : NULL;
}
