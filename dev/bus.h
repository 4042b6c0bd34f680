/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address decoding for port I/O and memory-mapped I/O. A region states its range
 * and legal access widths; bounds are checked here and nowhere else.
 *
 * Nobody home: reads give all ones, writes are dropped. An access of an illegal
 * width, or one that runs past a region's end, is split into or padded to legal
 * ones as the region says (IO_SPLIT), else it reads all ones.
 *
 * Threads: io_bus_read()/write() from any vCPU thread at once; regions come, go
 * and move at any time (a PCI BAR), from any thread, also from inside a handler.
 * Handlers take the device's own lock.
 */
#ifndef LHYVE_DEV_BUS_H
#define LHYVE_DEV_BUS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct io_bus;

enum { IO_W1 = 1, IO_W2 = 2, IO_W4 = 4, IO_W8 = 8, IO_ANY = 15, IO_SPLIT = 16 };

struct io_region {
	const char *name;
	uint64_t base, len;
	unsigned widths; /* IO_* */
	/* off is relative to base; size is one of the legal widths; off + size <= len. */
	uint64_t (*read)(void *dev, uint64_t off, unsigned size);
	void (*write)(void *dev, uint64_t off, unsigned size, uint64_t val);
	void *dev;
};

LH_MUST_CHECK struct io_bus *io_bus_create(const char *name, uint64_t limit, struct err *err);
void io_bus_destroy(struct io_bus *b);

/* The bus copies *r. Overlap with an earlier region is an error that names both. */
LH_MUST_CHECK int io_bus_add(struct io_bus *b, const struct io_region *r, struct err *err);
/* Take away the region with this base and device. */
void io_bus_remove(struct io_bus *b, uint64_t base, const void *dev);

uint64_t io_bus_read(struct io_bus *b, uint64_t addr, unsigned size);
void io_bus_write(struct io_bus *b, uint64_t addr, unsigned size, uint64_t val);

#endif
