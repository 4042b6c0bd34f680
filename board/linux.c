/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux/x86 boot protocol (Documentation/x86/boot.rst of the kernel): a bzImage of
 * protocol 2.02 or later, entered at its 64-bit entry point where it has one (2.12,
 * XLF_KERNEL_64), else at the 32-bit one.
 *
 *   0_7000  zero page (struct boot_params)
 *   0_8000  GDT
 *   0_9000  page tables: PML4, PDPT, four page directories; 4 GiB one to one
 *   2_0000  command line
 *   pref_address (16 MiB as a rule)  kernel, init_size bytes
 *   top of RAM below initrd_addr_max  initrd
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "board/entry.h"
#include "board/loader.h"
#include "x86/state.h"

enum {
	ZERO_PAGE = 0x7000,
	GDT = 0x8000,
	PML4 = 0x9000,
	COMMAND_LINE = 0x20000,
	COMMAND_LINE_MAX = 0xffff, /* without its NUL: up to 3_0000 */
	ENTRY64 = 0x200,	   /* behind the 32-bit entry point */
};

/* Offsets in the file and in the zero page alike. */
enum {
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP_LEN = 0x201,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32 = 0x214,
	HDR_RAMDISK = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE = 0x228,
	HDR_INITRD_MAX = 0x22c,
	HDR_ALIGNMENT = 0x230,
	HDR_RELOCATABLE = 0x234,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_SETUP_DATA = 0x250,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END = 0x268,
	HDR_ROOM = 0x290, /* the zero page keeps this much for a header */
};
enum { LOADED_HIGH = 0x01, XLF_KERNEL_64 = 0x01, LOADER_UNDEFINED = 0xff, SECTOR = 512 };

/* The rest of the zero page. */
enum {
	ZP_EXT_MEM_K = 0x002,
	ZP_RSDP = 0x070,
	ZP_ALT_MEM_K = 0x1e0,
	ZP_E820_COUNT = 0x1e8,
	ZP_E820 = 0x2d0,
	ZP_LEN = 4096
};

/* What the header says, checked. */
struct image {
	const struct boot_file *file;
	uint8_t header[HDR_ROOM]; /* [0x1f1, header_end) is valid, the rest zero */
	unsigned header_end;
	unsigned version;
	bool entry64;
	uint64_t payload_off, payload_len; /* of the protected-mode kernel in the file */
	uint64_t load, room;		   /* where it goes and what it needs there */
	uint64_t initrd_max;		   /* highest byte */
	uint32_t cmdline_max;
};

static bool
linux_probe(const struct boot_file *f)
{
	return f->head_len >= HDR_VERSION && memcmp(f->head + HDR_MAGIC, "HdrS", 4) == 0 &&
	       get_le16(f->head + HDR_BOOT_FLAG) == 0xaa55;
}

static unsigned long long
mib_up(uint64_t bytes)
{
	return (unsigned long long)(align_up(bytes, MIB) / MIB);
}

/* ---- header ---- */

/* Copy the header that the kernel declares, and no more. */
static int
copy_header(struct image *img, struct err *err)
{
	const struct boot_file *f = img->file;

	if (f->head_len < HDR_END)
		return boot_file_error(f, err, "is cut off in the kernel's header (copy it again)");
	img->header_end = HDR_MAGIC + f->head[HDR_JUMP_LEN];
	img->header_end = MIN(img->header_end, (unsigned)HDR_ROOM);
	memcpy(img->header + HDR_SETUP_SECTS, f->head + HDR_SETUP_SECTS, HDR_ROOM - HDR_SETUP_SECTS);
	memset(img->header + img->header_end, 0, HDR_ROOM - img->header_end);
	img->version = get_le16(img->header + HDR_VERSION);
	if (img->version < 0x0202 || (img->header[HDR_LOADFLAGS] & LOADED_HIGH) == 0)
		return boot_file_error(
		    f, err, "is a kernel of boot protocol %u.%02u, too old (give a bzImage of 2.4 or later)",
		    img->version >> 8, img->version & 0xff);
	return 0;
}

static int
find_payload(struct image *img, struct err *err)
{
	unsigned sects = img->header[HDR_SETUP_SECTS] != 0 ? img->header[HDR_SETUP_SECTS] : 4;
	const struct boot_file *f = img->file;
	uint64_t paragraphs = get_le32(img->header + HDR_SYSSIZE);

	/* Before 2.04 the field has 16 bits and is not to be relied on. */
	img->payload_off = (sects + 1) * SECTOR;
	if (f->size <= img->payload_off)
		return boot_file_error(
		    f, err, "is cut off: %llu bytes, its setup code alone has %llu (copy it again)",
		    (unsigned long long)f->size, (unsigned long long)img->payload_off);
	img->payload_len = img->version >= 0x0204 ? paragraphs * 16 : f->size - img->payload_off;
	if (!range_fits(img->payload_off, img->payload_len, f->size))
		return boot_file_error(f, err, "is cut off: %llu of %llu bytes are there (copy it again)",
				       (unsigned long long)f->size,
				       (unsigned long long)(img->payload_off + img->payload_len));
	if (img->payload_len < 2 * SECTOR)
		return boot_file_error(f, err, "has no kernel behind its header (copy it again)");
	return 0;
}

static bool
is_power_of_two(uint64_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

static int
choose_place(struct image *img, struct err *err)
{
	uint64_t align = img->version >= 0x0205 ? get_le32(img->header + HDR_ALIGNMENT) : 0;
	bool relocatable = img->version >= 0x0205 && img->header[HDR_RELOCATABLE] != 0;

	img->load = MACHINE_HIGH_BASE;
	img->room = img->payload_len;
	if (img->version >= 0x020a) {
		img->load = get_le64(img->header + HDR_PREF_ADDRESS);
		img->room = MAX(img->room, (uint64_t)get_le32(img->header + HDR_INIT_SIZE));
	}
	if (relocatable && is_power_of_two(align) && img->load <= UINT32_MAX)
		img->load = align_up(MAX(img->load, (uint64_t)MACHINE_HIGH_BASE), align);
	if (img->load < MACHINE_HIGH_BASE || img->load >= MACHINE_LOW_RAM_MAX)
		return boot_file_error(img->file, err,
				       "wants to be loaded at %#llx (a damaged header? copy it again)",
				       (unsigned long long)img->load);
	return 0;
}

static int
parse(struct image *img, const struct boot_file *f, struct err *err)
{
	int ret;

	*img = (struct image){.file = f};
	ret = copy_header(img, err);
	if (ret == 0)
		ret = find_payload(img, err);
	if (ret == 0)
		ret = choose_place(img, err);
	if (ret != 0)
		return ret;
	img->entry64 =
	    img->version >= 0x020c && (get_le16(img->header + HDR_XLOADFLAGS) & XLF_KERNEL_64) != 0;
	if (img->entry64 && img->payload_len <= ENTRY64)
		return boot_file_error(f, err, "has no kernel behind its header (copy it again)");
	img->initrd_max = img->version >= 0x0203 ? get_le32(img->header + HDR_INITRD_MAX) : 0x37ffffff;
	img->cmdline_max = img->version >= 0x0206 ? get_le32(img->header + HDR_CMDLINE_SIZE) : 255;
	if (img->cmdline_max == 0)
		img->cmdline_max = 255;
	img->cmdline_max = MIN(img->cmdline_max, (uint32_t)COMMAND_LINE_MAX);
	return 0;
}

/* ---- placing ---- */

static int
load_kernel(const struct boot_request *r, const struct image *img, struct err *err)
{
	uint64_t end = boot_ram_end(r), firmware = MACHINE_LOW_RAM_MAX;

	if (end < img->load || !range_fits(img->load, img->room, end)) {
		for (unsigned i = 0; i < r->map->count; i++) {
			if (r->map->entry[i].addr == end)
				firmware = r->map->entry[i].len;
		}
		if (firmware == MACHINE_LOW_RAM_MAX)
			firmware = 0;
		if (img->load + img->room + firmware > MACHINE_LOW_RAM_MAX)
			return boot_file_error(img->file, err,
					       "wants %llu MiB of memory at %#llx, more than a PC has there "
					       "(a damaged header? copy it again)",
					       mib_up(img->room), (unsigned long long)img->load);
		return err_set(err, ENOSPC,
			       "memory.size: the kernel needs %llu MiB from %#llx on (give at least %lluM)",
			       mib_up(img->room), (unsigned long long)img->load,
			       mib_up(img->load + img->room + firmware + MIB));
	}
	return boot_file_load(img->file, img->payload_off, img->payload_len, r->mem, img->load, err);
}

/* As high as it may be: the kernel frees that memory later. */
static int
load_initrd(const struct boot_request *r, const struct image *img, uint8_t *zp, struct err *err)
{
	uint64_t top = MIN(boot_ram_end(r), img->initrd_max + 1), floor = img->load + img->room, at;
	struct boot_file f;
	int ret;

	if (r->initrd == NULL)
		return 0;
	ret = boot_file_open(&f, "boot.initrd", r->initrd, err);
	if (ret != 0)
		return ret;
	at = f.size <= top ? (top - f.size) & ~0xfffull : 0;
	if (at < floor) {
		ret = boot_file_error(
		    &f, err,
		    "%llu MiB do not fit between the kernel, which ends at %#llx, and %#llx (give %s)",
		    mib_up(f.size), (unsigned long long)floor, (unsigned long long)top,
		    top > img->initrd_max ? "a smaller initrd, the kernel takes none higher"
					  : "more memory.size");
	} else {
		ret = boot_file_load(&f, 0, f.size, r->mem, at, err);
		put_le32(zp + HDR_RAMDISK, (uint32_t)at);
		put_le32(zp + HDR_RAMDISK_SIZE, (uint32_t)f.size);
	}
	boot_file_close(&f);
	return ret;
}

static int
load_command_line(const struct boot_request *r, const struct image *img, uint8_t *zp, struct err *err)
{
	const char *text = r->cmdline != NULL ? r->cmdline : "";
	size_t len = strlen(text);

	if (len > img->cmdline_max)
		return err_set(err, E2BIG, "boot.cmdline: %zu bytes, this kernel takes %u (shorten it)", len,
			       img->cmdline_max);
	boot_poke(r->mem, COMMAND_LINE, text, len + 1);
	put_le32(zp + HDR_CMD_LINE, COMMAND_LINE);
	return 0;
}

static void
fill_memory_map(const struct boot_request *r, uint8_t *zp)
{
	uint64_t high_k = (boot_ram_end(r) - MACHINE_HIGH_BASE) / KIB;

	put_le16(zp + ZP_EXT_MEM_K, (uint16_t)MIN(high_k, 0xfc00ull));
	put_le32(zp + ZP_ALT_MEM_K, (uint32_t)high_k);
	zp[ZP_E820_COUNT] = (uint8_t)r->map->count;
	for (unsigned i = 0; i < r->map->count; i++) {
		uint8_t *e = zp + ZP_E820 + 20 * i;

		put_le64(e, r->map->entry[i].addr);
		put_le64(e + 8, r->map->entry[i].len);
		put_le32(e + 16, r->map->entry[i].type);
	}
}

/* The header as the kernel brought it, then what a loader fills in. */
static void
fill_zero_page(const struct boot_request *r, const struct image *img, uint8_t *zp)
{
	memcpy(zp + HDR_SETUP_SECTS, img->header + HDR_SETUP_SECTS, HDR_ROOM - HDR_SETUP_SECTS);
	zp[HDR_LOADER] = LOADER_UNDEFINED;
	put_le32(zp + HDR_CODE32, (uint32_t)img->load);
	put_le32(zp + HDR_RAMDISK, 0);
	put_le32(zp + HDR_RAMDISK_SIZE, 0);
	put_le64(zp + HDR_SETUP_DATA, 0);
	put_le64(zp + ZP_RSDP, r->rsdp_gpa);
	fill_memory_map(r, zp);
}

static void
set_entry(const struct boot_request *r, const struct image *img, struct x86_state *s)
{
	if (img->entry64)
		entry_long(r->mem, s, GDT, PML4, img->load + ENTRY64);
	else
		entry_protected(r->mem, s, GDT, img->load);
	s->gpr[X86_RSI] = ZERO_PAGE;
}

static int
linux_load(const struct boot_request *r, const struct boot_file *f, struct x86_state *bsp, struct err *err)
{
	uint8_t zp[ZP_LEN] = {0};
	struct image img;
	int ret = parse(&img, f, err);

	if (ret == 0)
		ret = load_kernel(r, &img, err);
	if (ret != 0)
		return ret;
	fill_zero_page(r, &img, zp);
	ret = load_command_line(r, &img, zp, err);
	if (ret == 0)
		ret = load_initrd(r, &img, zp, err);
	if (ret != 0)
		return ret;
	boot_poke(r->mem, ZERO_PAGE, zp, sizeof(zp));
	set_entry(r, &img, bsp);
	return 0;
}

const struct boot_loader boot_loader_linux = {
    .name = "linux",
    .probe = linux_probe,
    .load = linux_load,
};
