/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI 6.4 tables: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG, HPET, DMAR. Built in memory for a
 * given place, loaded by the board.
 */
#ifndef LHYVE_BOARD_ACPI_H
#define LHYVE_BOARD_ACPI_H

#include "base/err.h"
#include "board/fwbuf.h"
#include "board/machine.h"

struct acpi_image {
	uint64_t gpa;	     /* of tables; page-aligned */
	struct fwbuf tables; /* all but the RSDP, padded to pages; FACS in a page of its own at the end */
	uint64_t facs_gpa;   /* the last page: ACPI NVS */
	struct fwbuf rsdp;   /* 36 bytes, to be placed at MACHINE_TABLES_BASE */
};

/* Build for tables that end at `top`. */
LH_MUST_CHECK int acpi_build(struct acpi_image *img, const struct machine *m, uint64_t top, struct err *err);
void acpi_free(struct acpi_image *img);

/* The DSDT's byte code (no header): board/dsdt.c. */
void dsdt_emit(struct fwbuf *out, const struct machine *m);

#endif
