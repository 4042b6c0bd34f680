/* SPDX-License-Identifier: BSD-2-Clause */
/* The processor as boot protocols want it: flat segments, 32-bit or long mode. *s is in reset state before.
 */
#ifndef LHYVE_BOARD_ENTRY_H
#define LHYVE_BOARD_ENTRY_H

#include <stdint.h>

struct gpmap;
struct x86_state;

enum { ENTRY_GDT_BYTES = 32, ENTRY_TABLE_BYTES = 6 * 4096 };

/* Protected mode with flat segments and no tables in memory; paging and interrupts off, general registers 0.
 */
void entry_flat(struct x86_state *s, uint64_t rip);
/* Protected mode, paging and interrupts off, CS 0x10 and data 0x18 flat, all general registers 0. `gdt`: RAM
 * for ENTRY_GDT_BYTES. */
void entry_protected(struct gpmap *mem, struct x86_state *s, uint64_t gdt, uint64_t rip);
/* Long mode; 4 GiB one to one in 2 MiB pages. `tables`: RAM for ENTRY_TABLE_BYTES, page-aligned. */
void entry_long(struct gpmap *mem, struct x86_state *s, uint64_t gdt, uint64_t tables, uint64_t rip);

#endif
