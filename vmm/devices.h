/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices in the configuration tree: the friendly sections (disk, net) become pci.B.S.F keys, -s does, and
 * these become the board's list. One thread.
 */
#ifndef LHYVE_VMM_DEVICES_H
#define LHYVE_VMM_DEVICES_H

#include "base/err.h"
#include "board/board.h"

struct config;

/* Turn disk.NAME.* and net.NAME.* into pci.0.S.F.* in free slots, in the order in which they were first
 * named. */
LH_MUST_CHECK int devices_expand(struct config *c, struct err *err);

/* The options of `-s slot,device,options` into keys below `slot` ("pci.0.3.0"). Changes `options`. */
LH_MUST_CHECK int devices_parse_options(struct config *c, const char *where, const char *slot,
					const char *device, char *options, struct err *err);

/* Check every pci.B.S.F key, and list the functions in order of bus, slot and function. *list is malloc'd. */
LH_MUST_CHECK int devices_list(const struct config *c, struct board_pci **list, size_t *count,
			       struct err *err);

/* board_cfg.option: ctx is the tree. */
const char *devices_option(void *ctx, const char *key);

#endif
