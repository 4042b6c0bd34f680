/* SPDX-License-Identifier: BSD-2-Clause */
/* From the configuration tree to the board's configuration. One thread. */
#ifndef LHYVE_VMM_MACHINE_H
#define LHYVE_VMM_MACHINE_H

#include "base/err.h"
#include "board/board.h"
#include "x86/cpuid.h"

struct config;

/* The processors' shape: what is given must multiply out, the rest is derived. */
LH_MUST_CHECK int machine_topology(const struct config *c, struct x86_topology *t, struct err *err);

/* Everything but the engine. Strings in *b are the tree's, which it asks for options of devices, too. */
LH_MUST_CHECK int machine_board_cfg(const struct config *c, struct board_cfg *b, struct err *err);
void machine_board_cfg_free(struct board_cfg *b); /* after the board is gone */

#endif
