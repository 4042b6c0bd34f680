/* SPDX-License-Identifier: BSD-2-Clause */
/* Intel MultiProcessor Specification 1.4, for systems that do without ACPI. */
#ifndef LHYVE_BOARD_MPTABLE_H
#define LHYVE_BOARD_MPTABLE_H

#include "base/err.h"
#include "board/fwbuf.h"
#include "board/machine.h"

/*
 * Bytes for `gpa` (16-byte aligned, below 1 MiB): the floating pointer, then the table.
 * APIC ids have 8 bits there: a machine with a greater one has no MP table (-ERANGE).
 */
LH_MUST_CHECK int mptable_build(struct fwbuf *out, const struct machine *m, uint64_t gpa, struct err *err);

#endif
