/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI device models by name: what `-s slot,model` and pci.B.S.F.device choose from. A model makes a function
 * of its options and of what the board lends it. dev/models.c has the one table.
 *
 * Threads: create from the board's thread, before any other runs.
 */
#ifndef LHYVE_DEV_PCI_MODEL_H
#define LHYVE_DEV_PCI_MODEL_H

#include <stdbool.h>
#include "base/err.h"
#include "dev/device.h"

struct evloop;
struct gpmap;
struct pci_func;

struct pci_model_env {
	const char *where;   /* "pci.0.3.0": opens messages */
	const char *vm_name; /* with `where`, what is unique on a network */
	struct evloop *loop;
	struct gpmap *mem;
	bool virtio_msix;
	/* The text of an option, checked against the schema, or NULL. Stays valid as long as the board. */
	const char *(*option)(void *ctx, const char *key);
	/*
	 * Give a device to the board, which owns it from here on, also when this fails. `part` tells the
	 * devices of one model apart in a snapshot: "" for the function, "msix", "queue.0", ...
	 * Destroyed in reverse order.
	 */
	int (*own)(void *ctx, const struct device_ops *ops, void *dev, const char *part, struct err *err);
	void *ctx;
	void (*escape)(void *ctx); /* `~.` typed on standard input: the VM is to end */
	void *escape_ctx;
	void (*doorbell)(void *ctx, uint64_t gpa, int fd, bool add); /* see virtio_cfg; or NULL */
	void *doorbell_ctx;
};

struct pci_model {
	const char *name;    /* "virtio-blk" */
	const char *help;    /* one line */
	const char *options; /* keys below pci.B.S.F that it takes: "path|ro"; "port.*" stands for port.N.path
				and .name */
	/* The function, owned by the board already, not plugged in; NULL: err says why. */
	struct pci_func *(*create)(const struct pci_model_env *env, struct err *err);
};

extern const struct pci_model pci_bridge_model; /* bridge.c */

/* dev/models.c */
const struct pci_model *pci_model_find(const char *name);
const struct pci_model *pci_model_get(unsigned n); /* NULL after the last */
bool pci_model_takes(const struct pci_model *m, const char *key);

/* Option texts, as the schema leaves them. */
bool pci_option_bool(const struct pci_model_env *env, const char *key); /* not set: false */
uint64_t pci_option_uint(const struct pci_model_env *env, const char *key, uint64_t def);

#endif
