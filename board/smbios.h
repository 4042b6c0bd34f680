/* SPDX-License-Identifier: BSD-2-Clause */
/* SMBIOS 3.3 (DMTF DSP0134): both anchors and the structure table. */
#ifndef LHYVE_BOARD_SMBIOS_H
#define LHYVE_BOARD_SMBIOS_H

#include "base/err.h"
#include "board/fwbuf.h"
#include "board/machine.h"

/* Bytes for `gpa` (16-byte aligned, below 1 MiB): the _SM3_ anchor, the _SM_ anchor, the structures. */
LH_MUST_CHECK int smbios_build(struct fwbuf *out, const struct machine *m, uint64_t gpa, struct err *err);

#endif
