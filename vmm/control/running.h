/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys that may change while the VM runs (the schema says which): what a change does. Control thread. */
#ifndef LHYVE_VMM_CONTROL_RUNNING_H
#define LHYVE_VMM_CONTROL_RUNNING_H

#include <stdbool.h>
#include "base/err.h"

struct board;
struct config;

/* True when a change of this key has an effect while the VM runs: the same keys as the schema says. */
bool running_known(const char *name);
/* Set the key in the tree and make it so. `value` is not trusted. */
LH_MUST_CHECK int running_set(struct config *c, struct board *b, const char *name, const char *value,
			      struct err *err);

#endif
