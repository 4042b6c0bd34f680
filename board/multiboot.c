/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multiboot Specification 0.6.96: a header in the kernel's first 8 KiB, found by its magic; the kernel loaded
 * as the header's address fields say, else as an ELF file; entered in 32-bit protected mode with EAX
 * 0x2badb002 and EBX at the boot information. Modules are boot.initrd and boot.module.N, page-aligned behind
 * the kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "board/elf.h"
#include "board/entry.h"
#include "board/loader.h"
#include "board/place.h"
#include "x86/state.h"

#define HEADER_MAGIC 0x1badb002u
#define ENTRY_MAGIC  0x2badb002u
#define LOADER_NAME  "lhyve"

enum { HEADER_MIN = 12, HEADER_ADDRESSES = 32 };
enum {
	HDR_FLAGS = 4,
	HDR_CHECKSUM = 8,
	HDR_HEADER_ADDR = 12,
	HDR_LOAD_ADDR = 16,
	HDR_LOAD_END = 20,
	HDR_BSS_END = 24,
	HDR_ENTRY = 28,
};
/* Header flags: the low half is what the kernel cannot do without. */
enum { WANT_ALIGN = 1 << 0, WANT_MEMORY = 1 << 1, WANT_VIDEO = 1 << 2, HAS_ADDRESSES = 1 << 16 };

/* Boot information. */
enum {
	INFO_FLAGS = 0,
	INFO_MEM_LOWER = 4,
	INFO_MEM_UPPER = 8,
	INFO_CMDLINE = 16,
	INFO_MODS_COUNT = 20,
	INFO_MODS_ADDR = 24,
	INFO_MMAP_LENGTH = 44,
	INFO_MMAP_ADDR = 48,
	INFO_LOADER_NAME = 64,
	INFO_BYTES = 128,
};
enum {
	HAVE_MEMORY = 1 << 0,
	HAVE_CMDLINE = 1 << 2,
	HAVE_MODS = 1 << 3,
	HAVE_MMAP = 1 << 6,
	HAVE_NAME = 1 << 9
};
enum { MOD_BYTES = 16, MMAP_BYTES = 24 };

/* The header's offset, or -1: the first place in 8 KiB, at a multiple of 4, whose three words sum to 0. */
static long
find_header(const struct boot_file *f)
{
	for (size_t at = 0; at + HEADER_MIN <= f->head_len; at += 4) {
		const uint8_t *h = f->head + at;

		if (get_le32(h) == HEADER_MAGIC &&
		    get_le32(h) + get_le32(h + HDR_FLAGS) + get_le32(h + HDR_CHECKSUM) == 0)
			return (long)at;
	}
	return -1;
}

static bool
multiboot_probe(const struct boot_file *f)
{
	return find_header(f) >= 0;
}

/* ---- the kernel ---- */

/* The header's own address fields ("a.out kludge"). */
static int
load_by_header(const struct boot_request *r, const struct boot_file *f, size_t at, struct place *p,
	       uint64_t *entry, struct err *err)
{
	const uint8_t *h = f->head + at;
	uint64_t header, load, load_end, bss_end, off, len;
	int ret;

	if (f->head_len - at < HEADER_ADDRESSES)
		return boot_file_error(f, err, "is cut off in the multiboot header (copy it again)");
	header = get_le32(h + HDR_HEADER_ADDR);
	load = get_le32(h + HDR_LOAD_ADDR);
	load_end = get_le32(h + HDR_LOAD_END);
	bss_end = get_le32(h + HDR_BSS_END);
	*entry = get_le32(h + HDR_ENTRY);
	if (load > header || header - load > at)
		return boot_file_error(
		    f, err,
		    "the multiboot header at %#llx cannot be loaded from %#llx on (a damaged file? "
		    "copy it again)",
		    (unsigned long long)header, (unsigned long long)load);
	off = at - (header - load);
	if (load_end != 0 && load_end < load)
		return boot_file_error(f, err,
				       "the multiboot header ends its data before it begins (copy it again)");
	len = load_end != 0 ? load_end - load : f->size - off;
	if (!range_fits(off, len, f->size))
		return boot_file_error(f, err, "is cut off: %#llx of %#llx bytes are there (copy it again)",
				       (unsigned long long)f->size, (unsigned long long)(off + len));
	if (bss_end != 0 && bss_end < load + len)
		return boot_file_error(f, err,
				       "the multiboot header ends its bss before its data (copy it again)");
	ret = place_claim(p, f, "the kernel", load, bss_end != 0 ? bss_end - load : len, err);
	return ret != 0 ? ret : boot_file_load(f, off, len, r->mem, load, err);
}

/* An ELF file of either class; 64-bit ones are entered in 32-bit mode all the same. */
static int
load_by_elf(const struct boot_request *r, const struct boot_file *f, struct place *p, uint64_t *entry,
	    struct err *err)
{
	struct elf *e;
	int ret;

	if (!elf_is(f))
		return boot_file_error(
		    f, err,
		    "has a multiboot header with no addresses and is no ELF file (a damaged file? "
		    "copy it again)");
	e = malloc(sizeof(*e));
	if (e == NULL)
		return boot_file_error(f, err, "no memory to load it");
	ret = elf_parse(e, f, err);
	if (ret == 0)
		ret = elf_load(e, r, p, err);
	if (ret == 0)
		*entry = elf_physical(e, e->entry);
	free(e);
	return ret;
}

/* ---- what it is told ---- */

/* The boot information with what it points to, one piece of memory at a known address. */
struct pack {
	uint8_t *bytes;
	uint64_t gpa;
	size_t len;
};

/* The address of `n` copied bytes. */
static uint32_t
pack_put(struct pack *k, const void *data, size_t n)
{
	uint32_t at = (uint32_t)(k->gpa + k->len);

	memcpy(k->bytes + k->len, data, n);
	k->len += align_up(n, 8);
	return at;
}

/* By convention the command line begins with the kernel's name; the host's folders are not the guest's
 * business. */
static const char *
program_name(const struct boot_request *r)
{
	const char *slash = strrchr(r->kernel, '/');

	return slash != NULL ? slash + 1 : r->kernel;
}

static uint32_t
put_command_line(struct pack *k, const struct boot_request *r)
{
	const char *name = program_name(r), *text = r->cmdline != NULL ? r->cmdline : "";
	size_t n = strlen(name);
	uint8_t *to = k->bytes + k->len;
	uint32_t at = (uint32_t)(k->gpa + k->len);

	memcpy(to, name, n);
	for (size_t i = 0; i < n; i++)
		to[i] = to[i] == ' ' ? '_' : to[i];
	if (*text != '\0')
		to[n++] = ' ';
	memcpy(to + n, text, strlen(text) + 1);
	k->len += align_up(n + strlen(text) + 1, 8);
	return at;
}

static void
put_modules(struct pack *k, uint8_t *info, const struct boot_loaded *m, unsigned count)
{
	uint8_t list[BOOT_MODULES * MOD_BYTES] = {0};

	for (unsigned i = 0; i < count; i++) {
		put_le32(list + MOD_BYTES * i, (uint32_t)m[i].gpa);
		put_le32(list + MOD_BYTES * i + 4, (uint32_t)(m[i].gpa + m[i].len));
		put_le32(list + MOD_BYTES * i + 8, pack_put(k, m[i].cmdline, strlen(m[i].cmdline) + 1));
	}
	put_le32(info + INFO_MODS_COUNT, count);
	put_le32(info + INFO_MODS_ADDR, pack_put(k, list, (size_t)MOD_BYTES * count));
}

static void
put_memory_map(struct pack *k, uint8_t *info, const struct boot_request *r)
{
	uint8_t list[ARRAY_LEN(r->map->entry) * MMAP_BYTES];

	for (unsigned i = 0; i < r->map->count; i++) {
		uint8_t *p = list + (size_t)MMAP_BYTES * i;

		put_le32(p, MMAP_BYTES - 4); /* of the rest of the entry */
		put_le64(p + 4, r->map->entry[i].addr);
		put_le64(p + 12, r->map->entry[i].len);
		put_le32(p + 20, r->map->entry[i].type);
	}
	put_le32(info + INFO_MEM_LOWER, (uint32_t)(MACHINE_BASE_RAM_END / KIB));
	put_le32(info + INFO_MEM_UPPER, (uint32_t)((boot_ram_end(r) - MACHINE_HIGH_BASE) / KIB));
	put_le32(info + INFO_MMAP_LENGTH, MMAP_BYTES * r->map->count);
	put_le32(info + INFO_MMAP_ADDR, pack_put(k, list, (size_t)MMAP_BYTES * r->map->count));
}

/* Room for everything, rounded up a little. */
static size_t
pack_size(const struct boot_request *r, const struct boot_loaded *m, unsigned count)
{
	size_t n = INFO_BYTES + MMAP_BYTES * ARRAY_LEN(r->map->entry) + MOD_BYTES * BOOT_MODULES +
		   ENTRY_GDT_BYTES + 64;

	n += strlen(program_name(r)) + (r->cmdline != NULL ? strlen(r->cmdline) : 0) + 2 + 8;
	for (unsigned i = 0; i < count; i++)
		n += strlen(m[i].cmdline) + 1 + 8;
	return n;
}

/* Modules, information, GDT. */
static int
hand_over(const struct boot_request *r, struct place *p, uint64_t entry, struct x86_state *bsp,
	  struct err *err)
{
	uint64_t floor = MAX(place_end(p, boot_ram_end(r)), (uint64_t)MACHINE_HIGH_BASE);
	struct boot_loaded module[BOOT_MODULES];
	uint8_t info[INFO_BYTES] = {0};
	struct pack k = {0};
	unsigned modules;
	size_t room;
	int ret = boot_modules_load(r, p, floor, module, &modules, err);

	if (ret != 0)
		return ret;
	room = pack_size(r, module, modules);
	ret = boot_find_room(r, p, room, &k.gpa, err);
	if (ret != 0)
		return ret;
	k.bytes = calloc(1, room);
	if (k.bytes == NULL)
		return err_set(err, ENOMEM, "boot.kernel: no memory");
	k.len = INFO_BYTES + ENTRY_GDT_BYTES;
	put_le32(info + INFO_FLAGS, HAVE_MEMORY | HAVE_CMDLINE | HAVE_MODS | HAVE_MMAP | HAVE_NAME);
	put_le32(info + INFO_CMDLINE, put_command_line(&k, r));
	put_le32(info + INFO_LOADER_NAME, pack_put(&k, LOADER_NAME, sizeof(LOADER_NAME)));
	put_modules(&k, info, module, modules);
	put_memory_map(&k, info, r);
	memcpy(k.bytes, info, sizeof(info));
	LH_ASSERT(k.len <= room);
	boot_poke(r->mem, k.gpa, k.bytes, k.len);
	free(k.bytes);
	entry_protected(r->mem, bsp, k.gpa + INFO_BYTES, entry);
	bsp->gpr[X86_RAX] = ENTRY_MAGIC;
	bsp->gpr[X86_RBX] = k.gpa;
	return 0;
}

static int
multiboot_load(const struct boot_request *r, const struct boot_file *f, struct x86_state *bsp,
	       struct err *err)
{
	size_t at = (size_t)find_header(f);
	uint32_t flags = get_le32(f->head + at + HDR_FLAGS);
	uint32_t unknown = flags & 0xffff & ~(uint32_t)(WANT_ALIGN | WANT_MEMORY | WANT_VIDEO);
	uint64_t entry = 0;
	struct place p;
	int ret;

	/* A video mode is a wish ("if available"); nothing here has one. */
	if (unknown != 0)
		return boot_file_error(
		    f, err,
		    "wants multiboot features %#x that nobody knows (a damaged file? copy it "
		    "again)",
		    unknown);
	place_init(&p, r->map);
	if ((flags & HAS_ADDRESSES) != 0)
		ret = load_by_header(r, f, at, &p, &entry, err);
	else
		ret = load_by_elf(r, f, &p, &entry, err);
	if (ret == 0 && entry > UINT32_MAX)
		ret = boot_file_error(f, err,
				      "begins at %#llx, beyond what 32-bit code reaches (link it lower)",
				      (unsigned long long)entry);
	return ret != 0 ? ret : hand_over(r, &p, entry, bsp, err);
}

const struct boot_loader boot_loader_multiboot = {
    .name = "multiboot",
    .takes_modules = true,
    .probe = multiboot_probe,
    .load = multiboot_load,
};
