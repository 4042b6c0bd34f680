/* SPDX-License-Identifier: BSD-2-Clause */
/* What may change while a VM runs. */
#include "vmm/control/running.h"

#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/logging.h"

static const struct {
	const char *name;
	void (*apply)(const struct config *c);
} running_keys[] = {
    {"log.level", logging_set_level},
};

bool
running_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(running_keys); i++) {
		if (strcmp(running_keys[i].name, name) == 0)
			return true;
	}
	return false;
}

int
running_set(struct config *c, const char *name, const char *value, struct err *err)
{
	const struct config_key *k = config_key_find(name);

	if (k == NULL)
		return config_set(c, "control", name, value, err); /* which says what is near */
	if (!k->running)
		return err_set(err, EBUSY, "%s: cannot change while the VM runs", name);
	if (config_set(c, "control", name, value, err) != 0)
		return -err->code;
	for (size_t i = 0; i < ARRAY_LEN(running_keys); i++) {
		if (strcmp(running_keys[i].name, k->name) == 0)
			running_keys[i].apply(c);
	}
	return 0;
}
