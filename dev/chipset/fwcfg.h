/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's firmware configuration device (docs/specs/fw_cfg), as firmware and test guests read it: a 16-bit
 * selector at 0x510, a data port at 0x511 that reads the selected item byte by byte, and a DMA interface at
 * 0x514-0x51b (big-endian; the write of the low half starts a transfer).
 *
 * Items are given before the guest runs and never change: the caller's bytes are copied.
 *
 * Threads: accesses from any vCPU; one lock, held over guest memory accesses of a transfer.
 */
#ifndef LHYVE_DEV_FWCFG_H
#define LHYVE_DEV_FWCFG_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"

struct fwcfg;
struct gpmap;
struct io_bus;

enum fwcfg_key {
	FWCFG_SIGNATURE = 0x00,
	FWCFG_ID = 0x01,
	FWCFG_UUID = 0x02,
	FWCFG_RAM_SIZE = 0x03,
	FWCFG_NOGRAPHIC = 0x04,
	FWCFG_NB_CPUS = 0x05,
	FWCFG_BOOT_MENU = 0x0e,
	FWCFG_MAX_CPUS = 0x0f,
	FWCFG_FILE_DIR = 0x19,
	FWCFG_FILE_FIRST = 0x20,
};

enum { FWCFG_FILES = 32, FWCFG_NAME_BYTES = 56 };

LH_MUST_CHECK struct fwcfg *fwcfg_create(struct gpmap *mem, struct err *err);
extern const struct device_ops fwcfg_device_ops;
LH_MUST_CHECK int fwcfg_map(struct fwcfg *f, struct io_bus *pio, struct err *err);

/* A fixed item. Integers are little-endian. */
LH_MUST_CHECK int fwcfg_add(struct fwcfg *f, unsigned key, const void *data, size_t len, struct err *err);
LH_MUST_CHECK int fwcfg_add_int(struct fwcfg *f, unsigned key, uint64_t val, unsigned bytes, struct err *err);
/* A named one; the directory lists it. */
LH_MUST_CHECK int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, size_t len,
				 struct err *err);

#endif
