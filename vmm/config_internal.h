/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the configuration tree: config.c, and config_expand.c, which makes values of templates. */
#ifndef LHYVE_VMM_CONFIG_INTERNAL_H
#define LHYVE_VMM_CONFIG_INTERNAL_H

#include <stdatomic.h>
#include "vmm/config.h"

struct entry {
	char *name, *value;
	const struct config_key *key;
	uint64_t order; /* of the first setting */
	char *where;	/* value is a template, set there; NULL: it is checked */
};

struct config {
	struct entry *entry; /* sorted by name */
	size_t count;
	uint64_t orders;
	_Atomic bool *read; /* by row of the schema: somebody asked */
};

/* Check a value by its row, and that this version has it; *canonical is the text to keep (malloc). */
LH_MUST_CHECK int config_check_value(const struct config_key *k, const char *where, const char *name,
				     const char *value, char **canonical, struct err *err);

#endif
