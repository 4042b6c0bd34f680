/* SPDX-License-Identifier: BSD-2-Clause */
/* The log as the configuration has it: log.path, log.json, log.level. */
#ifndef LHYVE_VMM_LOGGING_H
#define LHYVE_VMM_LOGGING_H

#include "base/err.h"

struct config;

/* Before other threads are made. The file of log.path stays open until the process ends. */
LH_MUST_CHECK int logging_init(const struct config *c, struct err *err);
/* log.level alone; any thread that may read the tree. */
void logging_set_level(const struct config *c);

#endif
