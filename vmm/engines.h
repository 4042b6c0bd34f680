/* SPDX-License-Identifier: BSD-2-Clause */
/* Which engine runs the guest. One thread. */
#ifndef LHYVE_VMM_ENGINES_H
#define LHYVE_VMM_ENGINES_H

#include "base/err.h"

struct engine_ops;

/* "kvm" or "soft": that engine if it can make VMs, else NULL and why. "auto": the first whose probe finds that
 * it works in full; what was passed over is logged at level info. */
LH_MUST_CHECK const struct engine_ops *engine_choose(const char *want, struct err *err);

#endif
