/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: any bytes as the kernel's file, for all boot loaders. The first byte chooses what else is given
 * (initrd, a module, a command line), the rest is the file. A load either succeeds with an entry point inside
 * 4 GiB, or leaves one line of text and a code.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "board/loader.h"
#include "mem/gpmap.h"
#include "x86/state.h"

enum { RAM = 32 << 20, ACPI_AT = RAM - 0x10000 };
enum { WITH_INITRD = 1, WITH_MODULE = 2, WITH_CMDLINE = 4 };

static struct rig {
	struct gpmap *mem;
	int fd;
	char path[64];
} rig;

static const struct e820 map = {
    .count = 3,
    .entry = {{0, 0x9fc00, E820_RAM},
	      {0x100000, ACPI_AT - 0x100000, E820_RAM},
	      {ACPI_AT, 0x10000, E820_ACPI}},
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct err err = {0};
	struct memobj *ram = memobj_create("fuzz", RAM, &err);

	(void)argc;
	(void)argv;
	rig.mem = gpmap_create(&err);
	rig.fd = memfd_create("kernel", MFD_CLOEXEC);
	if (ram == NULL || rig.mem == NULL || rig.fd < 0 ||
	    gpmap_map(rig.mem, 0, RAM, ram, 0, GM_RAM, &err) != 0)
		abort();
	snprintf(rig.path, sizeof(rig.path), "/proc/self/fd/%d", rig.fd);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct board_module module = {3, rig.path, "text"};
	struct boot_request r = {
	    .mem = rig.mem, .map = &map, .rsdp_gpa = 0xf0000, .kernel = rig.path, .module = &module};
	struct err err = {0};
	struct x86_state s;
	int ret;

	if (size == 0)
		return -1;
	if (ftruncate(rig.fd, 0) != 0 || pwrite(rig.fd, data + 1, size - 1, 0) != (ssize_t)(size - 1))
		abort();
	r.initrd = (data[0] & WITH_INITRD) != 0 ? rig.path : NULL;
	r.modules = (data[0] & WITH_MODULE) != 0;
	r.cmdline = (data[0] & WITH_CMDLINE) != 0 ? "console=ttyS0 quiet" : NULL;
	x86_state_reset(&s);
	ret = boot_load(&r, &s, &err);
	if (ret == 0 ? s.rip > UINT32_MAX
		     : err.code != -ret || err.msg[0] == '\0' || strchr(err.msg, '\n') != NULL)
		abort();
	return 0;
}
