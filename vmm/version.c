/* SPDX-License-Identifier: BSD-2-Clause */
/* The one place that sees the version number of the build. */
#include "vmm/version.h"

const char lhyve_version[] = LHYVE_VERSION;
