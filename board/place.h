/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who has which guest RAM while a kernel is loaded: what the file asks for by address is
 * claimed first, what the loader adds (modules, tables, strings) goes where nothing is.
 * A plain value; one thread.
 */
#ifndef LHYVE_BOARD_PLACE_H
#define LHYVE_BOARD_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct boot_file;
struct e820;

enum { PLACE_RANGES = 256 };

struct place {
	const struct e820 *map;
	unsigned count;
	struct place_range {
		uint64_t gpa, end;
	} range[PLACE_RANGES];
};

void place_init(struct place *p, const struct e820 *map);
/* Claim [gpa, gpa + len) for `what` of the file: all RAM, and nobody else's. An empty range is nobody's. */
LH_MUST_CHECK int place_claim(struct place *p, const struct boot_file *f, const char *what, uint64_t gpa,
			      uint64_t len, struct err *err);
/* Claim the lowest free [*gpa, *gpa + len) of RAM in [low, high), aligned to `align` (a power of two).
 * false: there is none. */
LH_MUST_CHECK bool place_find(struct place *p, uint64_t len, uint64_t align, uint64_t low, uint64_t high,
			      uint64_t *gpa);
/* The highest end of what was claimed below `limit`; 0: nothing. */
uint64_t place_end(const struct place *p, uint64_t limit);

#endif
