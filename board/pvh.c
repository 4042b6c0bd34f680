/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PVH: an ELF kernel whose note (owner "Xen", type 18) gives a 32-bit physical entry point, entered in
 * protected mode with EBX at a struct hvm_start_info (Xen's docs/misc/pvh.pandoc and
 * public/arch-x86/hvm/start_info.h). Linux and FreeBSD have one. Plain ELF kernels are here as well: what
 * they need is a part of this.
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

enum { NOTE_PHYS32_ENTRY = 18 };
#define NOTE_OWNER  "Xen"
#define START_MAGIC 0x336ec578u

/* struct hvm_start_info, version 1. */
enum {
	START_VERSION = 4,
	START_NR_MODULES = 12,
	START_MODLIST = 16,
	START_CMDLINE = 24,
	START_RSDP = 32,
	START_MEMMAP = 40,
	START_MEMMAP_ENTRIES = 48,
	START_BYTES = 56,
};
enum { MOD_BYTES = 32, MEMMAP_BYTES = 24 };

/* What is handed over, in one piece: offsets from its start. */
struct pack {
	uint64_t gpa;
	size_t gdt, modlist, memmap, text, len;
};

static size_t
text_bytes(const char *s)
{
	return s != NULL ? strlen(s) + 1 : 1;
}

static void
plan(struct pack *k, const struct boot_request *r, const struct boot_loaded *m, unsigned count)
{
	k->gdt = align_up(START_BYTES, 16);
	k->modlist = k->gdt + ENTRY_GDT_BYTES;
	k->memmap = k->modlist + (size_t)MOD_BYTES * count;
	k->text = k->memmap + (size_t)MEMMAP_BYTES * r->map->count;
	k->len = k->text + text_bytes(r->cmdline);
	for (unsigned i = 0; i < count; i++)
		k->len += text_bytes(m[i].cmdline);
}

/* Copies a string to *at and moves that on. Returns its guest address. */
static uint64_t
put_text(const struct pack *k, uint8_t *bytes, size_t *at, const char *s)
{
	uint64_t gpa = k->gpa + *at;

	memcpy(bytes + *at, s != NULL ? s : "", text_bytes(s));
	*at += text_bytes(s);
	return gpa;
}

static void
fill(const struct pack *k, uint8_t *bytes, const struct boot_request *r, const struct boot_loaded *m,
     unsigned count)
{
	size_t text = k->text;

	put_le32(bytes, START_MAGIC);
	put_le32(bytes + START_VERSION, 1);
	put_le32(bytes + START_NR_MODULES, count);
	put_le64(bytes + START_MODLIST, count != 0 ? k->gpa + k->modlist : 0);
	put_le64(bytes + START_CMDLINE, put_text(k, bytes, &text, r->cmdline));
	put_le64(bytes + START_RSDP, r->rsdp_gpa);
	put_le64(bytes + START_MEMMAP, k->gpa + k->memmap);
	put_le32(bytes + START_MEMMAP_ENTRIES, r->map->count);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *p = bytes + k->modlist + (size_t)MOD_BYTES * i;

		put_le64(p, m[i].gpa);
		put_le64(p + 8, m[i].len);
		put_le64(p + 16, put_text(k, bytes, &text, m[i].cmdline));
	}
	for (unsigned i = 0; i < r->map->count; i++) {
		uint8_t *p = bytes + k->memmap + (size_t)MEMMAP_BYTES * i;

		put_le64(p, r->map->entry[i].addr);
		put_le64(p + 8, r->map->entry[i].len);
		put_le32(p + 16, r->map->entry[i].type);
	}
}

/* Modules, then the start information below or behind everything. */
static int
put_start_info(const struct boot_request *r, struct place *p, struct pack *k, struct err *err)
{
	uint64_t floor = MAX(place_end(p, boot_ram_end(r)), (uint64_t)MACHINE_HIGH_BASE);
	struct boot_loaded module[BOOT_MODULES];
	unsigned modules;
	uint8_t *bytes;
	int ret = boot_modules_load(r, p, floor, module, &modules, err);

	if (ret != 0)
		return ret;
	plan(k, r, module, modules);
	ret = boot_find_room(r, p, k->len, &k->gpa, err);
	if (ret != 0)
		return ret;
	bytes = calloc(1, k->len);
	if (bytes == NULL)
		return err_set(err, ENOMEM, "boot.kernel: no memory");
	fill(k, bytes, r, module, modules);
	boot_poke(r->mem, k->gpa, bytes, k->len);
	free(bytes);
	return 0;
}

static int
check_entry(const struct boot_file *f, uint64_t entry, uint64_t limit, struct err *err)
{
	if (entry <= limit)
		return 0;
	return boot_file_error(f, err, "begins at %#llx, beyond 4 GiB (link it lower)",
			       (unsigned long long)entry);
}

/* ---- PVH ---- */

/* The entry point that the note gives: 1 found, 0 there is no note, or -errno. */
static int
find_entry(const struct elf *e, uint64_t *entry, struct err *err)
{
	uint8_t desc[8] = {0};
	uint32_t len;
	int ret = elf_find_note(e, NOTE_OWNER, NOTE_PHYS32_ENTRY, desc, sizeof(desc), &len, err);

	if (ret != 1)
		return ret;
	if (len < 4)
		return boot_file_error(e->file, err,
				       "its PVH note has %u bytes (a damaged file? copy it again)", len);
	*entry = get_le64(desc);
	return 1;
}

static bool
has_note(const struct boot_file *f)
{
	struct elf *e = malloc(sizeof(*e));
	struct err err = {0};
	uint64_t entry;
	bool found;

	if (e == NULL)
		return false;
	found = elf_parse(e, f, &err) == 0 && find_entry(e, &entry, &err) != 0;
	free(e);
	return found;
}

static bool
pvh_probe(const struct boot_file *f)
{
	return elf_is(f) && has_note(f);
}

/* Entry state: flat segments, a 32-bit TSS of 0x67 bytes, paging off, interrupts off. */
static int
enter_pvh(const struct boot_request *r, const struct elf *e, struct x86_state *bsp, struct err *err)
{
	struct pack k = {0};
	uint64_t entry = 0;
	struct place p;
	int ret = find_entry(e, &entry, err);

	if (ret < 0)
		return ret;
	ret = check_entry(e->file, entry, UINT32_MAX, err);
	if (ret != 0)
		return ret;
	place_init(&p, r->map);
	ret = elf_load(e, r, &p, err);
	if (ret == 0)
		ret = put_start_info(r, &p, &k, err);
	if (ret != 0)
		return ret;
	entry_protected(r->mem, bsp, k.gpa + k.gdt, entry);
	bsp->seg[X86_TR].limit = 0x67;
	bsp->gpr[X86_RBX] = k.gpa;
	return 0;
}

/* ---- plain ELF ---- */

static bool
elf_probe(const struct boot_file *f)
{
	return elf_is(f);
}

/*
 * A 32-bit one is entered as PVH's are, a 64-bit one in long mode over 4 GiB one to one. What it is told
 * comes in PVH's form: EBX or RBX.
 */
static int
enter_plain(const struct boot_request *r, const struct elf *e, struct x86_state *bsp, struct err *err)
{
	enum { PAGE = 4096 };
	uint64_t entry = elf_physical(e, e->entry), tables = 0;
	struct pack k = {0};
	struct place p;
	int ret = check_entry(e->file, entry, UINT32_MAX, err);

	if (ret != 0)
		return ret;
	place_init(&p, r->map);
	ret = elf_load(e, r, &p, err);
	if (ret == 0)
		ret = put_start_info(r, &p, &k, err);
	if (ret == 0 && e->is64)
		ret = boot_find_room(r, &p, ENTRY_TABLE_BYTES, &tables, err);
	if (ret != 0)
		return ret;
	if (e->is64)
		entry_long(r->mem, bsp, k.gpa + k.gdt, tables, entry);
	else
		entry_protected(r->mem, bsp, k.gpa + k.gdt, entry);
	bsp->gpr[X86_RBX] = k.gpa;
	return 0;
}

static int
load_with(int (*enter)(const struct boot_request *, const struct elf *, struct x86_state *, struct err *),
	  const struct boot_request *r, const struct boot_file *f, struct x86_state *bsp, struct err *err)
{
	struct elf *e = malloc(sizeof(*e));
	int ret;

	if (e == NULL)
		return boot_file_error(f, err, "no memory to load it");
	ret = elf_parse(e, f, err);
	if (ret == 0)
		ret = enter(r, e, bsp, err);
	free(e);
	return ret;
}

static int
pvh_load(const struct boot_request *r, const struct boot_file *f, struct x86_state *bsp, struct err *err)
{
	return load_with(enter_pvh, r, f, bsp, err);
}

static int
plain_load(const struct boot_request *r, const struct boot_file *f, struct x86_state *bsp, struct err *err)
{
	return load_with(enter_plain, r, f, bsp, err);
}

const struct boot_loader boot_loader_pvh = {
    .name = "PVH",
    .takes_modules = true,
    .probe = pvh_probe,
    .load = pvh_load,
};

const struct boot_loader boot_loader_elf = {
    .name = "ELF",
    .takes_modules = true,
    .probe = elf_probe,
    .load = plain_load,
};
