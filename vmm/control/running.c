/* SPDX-License-Identifier: BSD-2-Clause */
/* What may change while a VM runs. */
#include "vmm/control/running.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"
#include "board/board.h"
#include "vmm/config.h"
#include "vmm/logging.h"

static void
apply_log_level(const struct config *c, struct board *b, const char *name)
{
	(void)b, (void)name;
	logging_set_level(c);
}

static void
apply_link(const struct config *c, struct board *b, const char *name)
{
	const size_t slot = strlen(name) - strlen(".link");
	char text[32];

	snprintf(text, sizeof(text), "%.*s", (int)slot, name);
	board_set_link(b, text, config_bool(c, name));
}

static const struct {
	const char *name;
	void (*apply)(const struct config *c, struct board *b, const char *name);
} running_keys[] = {
    {"log.level", apply_log_level},
    {"pci.*.*.*.link", apply_link},
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
running_set(struct config *c, struct board *b, const char *name, const char *value, struct err *err)
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
			running_keys[i].apply(c, b, name);
	}
	return 0;
}
