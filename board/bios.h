/* SPDX-License-Identifier: BSD-2-Clause */
/* What a PC's BIOS leaves in the first MiB for those who run without one: data area, interrupt vectors,
 * stubs. */
#ifndef LHYVE_BOARD_BIOS_H
#define LHYVE_BOARD_BIOS_H

#include <stdint.h>

struct gpmap;

#define BIOS_STUBS 0x000ffe00ull /* firmware tables end here */

/* coms: bit n: COM n+1 exists. */
void bios_fill_memory(struct gpmap *mem, unsigned coms);

#endif
