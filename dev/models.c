/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of PCI device models, and how they read their options. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "dev/net/netdev.h"
#include "dev/pci/model.h"
#include "dev/storage/blkdev.h"
#include "dev/test/edu.h"
#include "dev/test/pcitest.h"
#include "dev/virtio/console.h"
#include "dev/virtio/rnd.h"

static const struct pci_model *const models[] = {
    &virtio_blk_model, &virtio_net_model, &virtio_console_model, &virtio_rnd_model, &pci_bridge_model,
    &pcitest_model,    &edu_model,
};

const struct pci_model *
pci_model_get(unsigned n)
{
	return n < ARRAY_LEN(models) ? models[n] : NULL;
}

const struct pci_model *
pci_model_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
		if (strcmp(models[i]->name, name) == 0)
			return models[i];
	}
	return NULL;
}

/* "port.*" in the list takes "port.3.path". */
bool
pci_model_takes(const struct pci_model *m, const char *key)
{
	size_t part = strcspn(key, "."), len = strlen(key);

	for (const char *p = m->options; *p != '\0'; p += strcspn(p, "|"), p += *p == '|') {
		size_t n = strcspn(p, "|");

		if (n == len && strncmp(p, key, n) == 0)
			return true;
		if (n == part + 2 && len > part && strncmp(p, key, part) == 0 &&
		    strncmp(p + part, ".*", 2) == 0)
			return true;
	}
	return false;
}

bool
pci_option_bool(const struct pci_model_env *env, const char *key)
{
	const char *text = env->option(env->ctx, key);

	return text != NULL && strcmp(text, "true") == 0;
}

uint64_t
pci_option_uint(const struct pci_model_env *env, const char *key, uint64_t def)
{
	const char *text = env->option(env->ctx, key);

	return text != NULL ? strtoull(text, NULL, 0) : def;
}
