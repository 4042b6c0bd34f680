/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boot loaders: each knows one kind of kernel file. boot_load() opens the kernel, asks
 * each loader in turn whether the file is its own, and lets that one place it in guest
 * memory and set the boot processor's registers. Called once, before the VM runs.
 *
 * Files are hostile: headers are copied once, checked, and only the copy is used;
 * contents are read straight into place, with lengths that were checked against memory.
 */
#ifndef LHYVE_BOARD_LOADER_H
#define LHYVE_BOARD_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "board/board.h"
#include "board/machine.h"

struct gpmap;
struct place;
struct x86_state;

enum { BOOT_HEAD_BYTES = 8192 };

struct boot_file {
	const char *key; /* the configuration key that named it: "boot.kernel" */
	const char *path;
	int fd;
	uint64_t size;
	size_t head_len;
	uint8_t head[BOOT_HEAD_BYTES]; /* the first bytes, read once */
};

struct boot_request {
	struct gpmap *mem;
	const struct e820 *map;
	uint64_t rsdp_gpa;		       /* 0: no ACPI */
	const char *kernel, *initrd, *cmdline; /* the last two may be NULL */
	const struct board_module *module;
	unsigned modules;
};

struct boot_loader {
	const char *name;
	bool takes_modules; /* more than an initrd */
	bool (*probe)(const struct boot_file *f);
	/* *bsp is in reset state; set what differs. */
	int (*load)(const struct boot_request *r, const struct boot_file *f, struct x86_state *bsp,
		    struct err *err);
};

extern const struct boot_loader boot_loader_linux, boot_loader_multiboot, boot_loader_pvh, boot_loader_elf;

LH_MUST_CHECK int boot_load(const struct boot_request *r, struct x86_state *bsp, struct err *err);

/* ---- for loaders ---- */

LH_MUST_CHECK int boot_file_open(struct boot_file *f, const char *key, const char *path, struct err *err);
void boot_file_close(struct boot_file *f);
/* "KEY: PATH: text": an error about this file. */
int boot_file_error(const struct boot_file *f, struct err *err, const char *fmt, ...) LH_PRINTF(3, 4);
/* Read [off, off + len) of the file, all of it. */
LH_MUST_CHECK int boot_file_read(const struct boot_file *f, uint64_t off, void *buf, uint64_t len,
				 struct err *err);
/* Read [off, off + len) of the file into guest memory. */
LH_MUST_CHECK int boot_file_load(const struct boot_file *f, uint64_t off, uint64_t len, struct gpmap *mem,
				 uint64_t gpa, struct err *err);
/* The end of the RAM that starts at 1 MiB, below the firmware's tables. */
uint64_t boot_ram_end(const struct boot_request *r);
/* Load the initrd, if there is one, and then all modules into free pages from `floor` on, below
 * `boot_ram_end`. */
enum { BOOT_MODULES = BOARD_MODULES + 1 };
struct boot_loaded {
	uint64_t gpa, len;
	const char *cmdline; /* never NULL */
};
LH_MUST_CHECK int boot_modules_load(const struct boot_request *r, struct place *p, uint64_t floor,
				    struct boot_loaded out[BOOT_MODULES], unsigned *count, struct err *err);
/* Free RAM for the loader's own structures, page-aligned and below 640 KiB where it can be. */
LH_MUST_CHECK int boot_find_room(const struct boot_request *r, struct place *p, uint64_t len, uint64_t *gpa,
				 struct err *err);
/* Write to guest RAM that the loader knows to exist. */
void boot_poke(struct gpmap *mem, uint64_t gpa, const void *data, size_t len);

#endif
