/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pc-testdev: what guests that test a virtual machine look for, with the addresses that
 * they know from QEMU's pc-testdev, isa-debug-exit and the Bochs power-off port.
 *
 *   port 0xe0-0xe3    a latch of four bytes, any width
 *   port 0xe4-0xe7    write: forget what is cached about the guest page at that address
 *   port 0xec-0xef    reads of the memory below since the last write here (32 bits)
 *   port 0xf4-0xf7    write v: lhyve exits with status (v << 1) | 1
 *   port 0x402        debug port: bytes of log lines; reads 0xe9
 *   port 0x2000+n     write: GSI n (0..23) high (not 0) or low (0)
 *   port 0x8900       "Shutdown", a byte each: power off
 *   0xff00_0000       64 KiB of memory behind a device: no code runs there, reads count
 *
 * Threads: accesses from any vCPU. One lock, taken before those of interrupt controllers;
 * flush, exit and poweroff are called with none held.
 */
#ifndef LHYVE_DEV_TEST_PCTEST_H
#define LHYVE_DEV_TEST_PCTEST_H

#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct pctest;
struct io_bus;

enum { PCTEST_GSIS = 24, PCTEST_MEM_BYTES = 0x10000 };
#define PCTEST_MEM_BASE 0xff000000ull

struct pctest_wires {
	struct irq_wire gsi[PCTEST_GSIS];
	void (*flush)(void *ctx, uint64_t gpa);	  /* page-aligned, anywhere */
	void (*exit)(void *ctx, unsigned status); /* 0..255 */
	void (*poweroff)(void *ctx);
	void *ctx; /* of these three */
};

LH_MUST_CHECK struct pctest *pctest_create(const struct pctest_wires *w, struct err *err);
extern const struct device_ops pctest_device_ops;
LH_MUST_CHECK int pctest_map(struct pctest *t, struct io_bus *pio, struct io_bus *mmio, struct err *err);

#endif
