/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model pci-bridge: a conventional PCI-to-PCI bridge (PCI-to-PCI Bridge Architecture 1.2), 1b36:0001,
 * with 32 slots behind it. Interrupt pins turn by device number on the way up, so that no _PRT of its own is
 * needed. The core does the registers; there is no state beyond configuration space.
 */
#include <errno.h>

#include "dev/pci/model.h"
#include "dev/pci/pci.h"

enum { VENDOR_REDHAT = 0x1b36, DEVICE_BRIDGE = 0x0001 };

static struct pci_func *
bridge_create(const struct pci_model_env *env, struct err *err)
{
	const struct pci_func_cfg cfg = {
	    .name = "pci-bridge",
	    .vendor = VENDOR_REDHAT,
	    .device = DEVICE_BRIDGE,
	    .class_code = 0x060400,
	    .bridge = true,
	};
	struct pci_func *f;

	if (env->option(env->ctx, "bus") == NULL) {
		err_set(err, EINVAL, "%s.bus: missing (the number of the bus behind the bridge)", env->where);
		return NULL;
	}
	f = pci_func_create(&cfg, NULL, NULL, err);
	if (f == NULL || env->own(env->ctx, &pci_func_device_ops, f, "", err) != 0)
		return NULL;
	return f;
}

const struct pci_model pci_bridge_model = {
    .name = "pci-bridge",
    .help = "32 more slots: bus=N, then -s N:slot:0,...",
    .options = "name|bus",
    .create = bridge_create,
};
