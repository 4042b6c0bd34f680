/* SPDX-License-Identifier: BSD-2-Clause */
/* Multiboot, PVH and plain ELF on images that the test makes: what lands where, entry states, everything
 * wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "board/elf.h"
#include "board/loader.h"
#include "board/place.h"
#include "mem/gpmap.h"
#include "x86/state.h"

enum {
	RAM = 32 << 20,
	ACPI_AT = RAM - 0x10000,
	IMAGE = 0x6000,
	LOAD = 0x400000,
	DATA_OFF = 0x2000,
	DATA_LEN = 0x1800
};

struct rig {
	char dir[40], kernel[64], extra[2][64];
	struct memobj *ram;
	struct gpmap *mem;
	struct e820 map;
	struct board_module module[2];
	struct boot_request r;
	struct x86_state bsp;
	struct err err;
	uint8_t image[IMAGE];
};

static void
write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static int
setup(void **state)
{
	struct rig *r = aligned_alloc(_Alignof(struct rig), sizeof(*r)); /* it holds vector registers */

	if (r == NULL)
		return -1;
	memset(r, 0, sizeof(*r));
	strcpy(r->dir, "/tmp/lhyve-test-XXXXXX");
	if (mkdtemp(r->dir) == NULL)
		return -1;
	snprintf(r->kernel, sizeof(r->kernel), "%s/kernel", r->dir);
	for (unsigned i = 0; i < 2; i++)
		snprintf(r->extra[i], sizeof(r->extra[i]), "%s/extra%u", r->dir, i);
	r->ram = memobj_create("test", RAM, &r->err);
	r->mem = gpmap_create(&r->err);
	if (r->ram == NULL || r->mem == NULL || gpmap_map(r->mem, 0, RAM, r->ram, 0, GM_RAM, &r->err) != 0)
		return -1;
	r->map = (struct e820){
	    .count = 3,
	    .entry = {{0, 0x9fc00, E820_RAM},
		      {0x100000, ACPI_AT - 0x100000, E820_RAM},
		      {ACPI_AT, 0x10000, E820_ACPI}},
	};
	r->r = (struct boot_request){
	    .mem = r->mem, .map = &r->map, .rsdp_gpa = 0xf0000, .kernel = r->kernel, .module = r->module};
	x86_state_reset(&r->bsp);
	for (unsigned i = 0; i < IMAGE; i++)
		r->image[i] = (uint8_t)(i * 31 + (i >> 8));
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	unlink(r->kernel);
	unlink(r->extra[0]);
	unlink(r->extra[1]);
	rmdir(r->dir);
	gpmap_destroy(r->mem);
	memobj_destroy(r->ram);
	free(r);
	return 0;
}

static int
boot(struct rig *r, size_t len)
{
	write_file(r->kernel, r->image, len);
	memset(&r->err, 0, sizeof(r->err));
	return boot_load(&r->r, &r->bsp, &r->err);
}

/* One line about the kernel's file that has `what` in it and closes with a hint. */
static void
refused(struct rig *r, size_t len, const char *what)
{
	char where[128];

	assert_true(boot(r, len) < 0);
	snprintf(where, sizeof(where), "boot.kernel: %s: ", r->kernel);
	if (strncmp(r->err.msg, where, strlen(where)) != 0 || strstr(r->err.msg, what) == NULL ||
	    strchr(r->err.msg, '\n') != NULL || r->err.msg[strlen(r->err.msg) - 1] != ')')
		fail_msg("'%s' has no '%s' about %s", r->err.msg, what, r->kernel);
}

static const uint8_t *
guest(struct rig *r, uint64_t gpa)
{
	assert_true(gpa < RAM);
	return (const uint8_t *)memobj_hva(r->ram) + gpa;
}

/* ---- ELF images: a header, up to four program headers, data ---- */

struct seg {
	uint32_t type;
	uint64_t off, vaddr, paddr, filesz, memsz;
};

static void
put_word(uint8_t *p, bool is64, uint64_t v)
{
	if (is64)
		put_le64(p, v);
	else
		put_le32(p, (uint32_t)v);
}

static void
make_elf(uint8_t *p, bool is64, uint64_t entry, const struct seg *s, unsigned n)
{
	unsigned w = is64 ? 8 : 4, ehdr = is64 ? 64 : 52, phdr = is64 ? 56 : 32;

	memset(p, 0, ehdr + phdr * n);
	memcpy(p, "\177ELF", 4);
	p[4] = is64 ? 2 : 1;
	p[5] = p[6] = 1;
	put_le16(p + 16, 2);
	put_le16(p + 18, is64 ? 62 : 3);
	put_word(p + 24, is64, entry);
	put_word(p + 24 + w, is64, ehdr);
	put_le16(p + (is64 ? 54 : 42), (uint16_t)phdr);
	put_le16(p + (is64 ? 56 : 44), (uint16_t)n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *h = p + ehdr + phdr * i;
		unsigned at = is64 ? 8 : 4;

		put_le32(h, s[i].type);
		put_word(h + at, is64, s[i].off);
		put_word(h + at + w, is64, s[i].vaddr);
		put_word(h + at + 2 * w, is64, s[i].paddr);
		put_word(h + at + 3 * w, is64, s[i].filesz);
		put_word(h + at + 4 * w, is64, s[i].memsz);
	}
}

static const struct seg one_segment = {1, DATA_OFF, 0xc0000000, LOAD, DATA_LEN, 0x3000};

static void
put_multiboot(uint8_t *p, uint32_t flags)
{
	put_le32(p, 0x1badb002);
	put_le32(p + 4, flags);
	put_le32(p + 8, -(0x1badb002 + flags));
}

static void
check_flat32(struct rig *r, uint64_t rip)
{
	const struct x86_state *s = &r->bsp;

	assert_int_equal(s->rip, rip);
	assert_int_equal(s->cr0, CR0_PE | CR0_ET);
	assert_int_equal(s->rflags, 2);
	assert_int_equal(s->seg[X86_CS].attr, 0xc09b);
	for (unsigned i = 0; i < X86_LDTR; i++) {
		assert_int_equal(s->seg[i].base, 0);
		assert_int_equal(s->seg[i].limit, 0xffffffff);
		if (i != X86_CS)
			assert_int_equal(s->seg[i].attr, 0xc093);
	}
}

/* ---- multiboot ---- */

static void
test_multiboot_elf(void **state)
{
	struct rig *r = *state;

	for (unsigned is64 = 0; is64 < 2; is64++) {
		make_elf(r->image, is64, 0xc0000010, &one_segment, 1);
		put_multiboot(r->image + 0x400, 0x3);
		r->r.cmdline = "a b=c";
		assert_int_equal(boot(r, IMAGE), 0);
		check_flat32(r, LOAD + 0x10);
		assert_memory_equal(guest(r, LOAD), r->image + DATA_OFF, DATA_LEN);
		assert_int_equal(r->bsp.gpr[X86_RAX], 0x2badb002);
	}
	const uint8_t *info = guest(r, r->bsp.gpr[X86_RBX]);

	assert_true(r->bsp.gpr[X86_RBX] + 128 <= 0x9fc00);
	assert_int_equal(get_le32(info), 1 | 4 | 8 | 64 | 512);
	assert_int_equal(get_le32(info + 4), 639);
	assert_int_equal(get_le32(info + 8), (ACPI_AT - 0x100000) / 1024);
	assert_string_equal((const char *)guest(r, get_le32(info + 16)), "kernel a b=c");
	assert_int_equal(get_le32(info + 20), 0);
	assert_string_equal((const char *)guest(r, get_le32(info + 64)), "lhyve");
	/* The map is the request's. */
	assert_int_equal(get_le32(info + 44), 3 * 24);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *e = guest(r, get_le32(info + 48) + 24 * i);

		assert_int_equal(get_le32(e), 20);
		assert_int_equal(get_le64(e + 4), r->map.entry[i].addr);
		assert_int_equal(get_le64(e + 12), r->map.entry[i].len);
		assert_int_equal(get_le32(e + 20), r->map.entry[i].type);
	}
	/* The GDT holds what the hidden parts say. */
	assert_int_equal(get_le64(guest(r, r->bsp.gdtr.base + 0x10)), 0x00cf9b000000ffff);
	assert_int_equal(get_le64(guest(r, r->bsp.gdtr.base + 0x18)), 0x00cf93000000ffff);
}

static void
test_multiboot_modules(void **state)
{
	struct rig *r = *state;
	uint64_t end = LOAD + 0x3000;

	make_elf(r->image, false, LOAD, &one_segment, 1);
	put_multiboot(r->image + 0x400, 0);
	write_file(r->extra[0], "first", 5);
	write_file(r->extra[1], r->image, 5000);
	r->r.initrd = r->extra[0];
	r->module[0] = (struct board_module){7, r->extra[1], "text of it"};
	r->r.modules = 1;
	assert_int_equal(boot(r, IMAGE), 0);
	const uint8_t *info = guest(r, r->bsp.gpr[X86_RBX]);
	const uint8_t *mods = guest(r, get_le32(info + 24));

	assert_int_equal(get_le32(info + 20), 2);
	assert_int_equal(get_le32(mods), end);
	assert_int_equal(get_le32(mods + 4), end + 5);
	assert_memory_equal(guest(r, end), "first", 5);
	assert_string_equal((const char *)guest(r, get_le32(mods + 8)), "");
	assert_int_equal(get_le32(mods + 16), end + 0x1000);
	assert_int_equal(get_le32(mods + 20), end + 0x1000 + 5000);
	assert_memory_equal(guest(r, end + 0x1000), r->image, 5000);
	assert_string_equal((const char *)guest(r, get_le32(mods + 24)), "text of it");

	r->module[0].path = "/nonexistent/file";
	assert_true(boot(r, IMAGE) < 0);
	assert_non_null(strstr(r->err.msg, "boot.module.7.path: /nonexistent/file"));
}

/* Address fields: code at 2 MiB from the header on, then bss. */
static void
put_addresses(uint8_t *h, uint32_t header, uint32_t load, uint32_t load_end, uint32_t bss_end, uint32_t entry)
{
	put_multiboot(h, 1 << 16);
	put_le32(h + 12, header);
	put_le32(h + 16, load);
	put_le32(h + 20, load_end);
	put_le32(h + 24, bss_end);
	put_le32(h + 28, entry);
}

static void
test_multiboot_addresses(void **state)
{
	struct rig *r = *state;
	uint8_t *h = r->image + 0x1000;

	put_addresses(h, 0x200800, 0x200000, 0x201000, 0x203000, 0x200900);
	assert_int_equal(boot(r, IMAGE), 0);
	check_flat32(r, 0x200900);
	assert_memory_equal(guest(r, 0x200000), r->image + 0x800, 0x1000);
	assert_int_equal(*guest(r, 0x201000), 0);
	/* No ends: the whole rest of the file. */
	put_addresses(h, 0x300000, 0x300000, 0, 0, 0x300020);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_memory_equal(guest(r, 0x300000), h, IMAGE - 0x1000);

	put_addresses(h, 0x200000, 0x200001, 0, 0, 0);
	refused(r, IMAGE, "cannot be loaded from");
	put_addresses(h, 0x201004, 0x200000, 0, 0, 0);
	refused(r, IMAGE, "cannot be loaded from");
	put_addresses(h, 0x200000, 0x200000, 0x1fffff, 0, 0);
	refused(r, IMAGE, "before it begins");
	put_addresses(h, 0x200000, 0x200000, 0x205001, 0, 0);
	refused(r, IMAGE, "cut off: 0x6000 of 0x6001");
	put_addresses(h, 0x200000, 0x200000, 0x203000, 0x202000, 0);
	refused(r, IMAGE, "bss before its data");
	put_addresses(h, 0x200000, 0x200000, 0x203000, 0xffffffff, 0);
	refused(r, IMAGE, "outside memory");
	put_addresses(h, 0xa0000, 0xa0000, 0xa1000, 0, 0);
	refused(r, IMAGE, "outside memory");
	put_multiboot(r->image + IMAGE - 16, 1 << 16);
	refused(r, 0x800, "is no kernel");
}

static void
test_multiboot_header(void **state)
{
	struct rig *r = *state;

	make_elf(r->image, false, LOAD, &one_segment, 1);
	/* The last place that counts, and what lies beyond: then it is plain ELF, with no magic. */
	put_multiboot(r->image + 8192 - 12, 0);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_int_equal(r->bsp.gpr[X86_RAX], 0x2badb002);
	memset(r->image + 8192 - 12, 0, 12);
	put_multiboot(r->image + 8192, 0);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_int_equal(r->bsp.gpr[X86_RAX], 0);
	/* Not aligned to 4, or a wrong sum: none. */
	memset(r->image + 8192, 0, 12);
	put_multiboot(r->image + 0x402, 0);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_int_equal(r->bsp.gpr[X86_RAX], 0);
	/* Demands. */
	put_multiboot(r->image + 0x400, 0x8);
	refused(r, IMAGE, "features 0x8");
	put_multiboot(r->image + 0x400, 0x7);
	assert_int_equal(boot(r, IMAGE), 0);
	r->image[0] = 0;
	refused(r, IMAGE, "no ELF file");
	memset(r->image, 0, 0x800);
	put_multiboot(r->image + 0x7f4, 1 << 16);
	refused(r, 0x800, "cut off in the multiboot header");
}

/* ---- plain ELF ---- */

static void
test_elf32(void **state)
{
	struct rig *r = *state;

	make_elf(r->image, false, LOAD + 4, &(struct seg){1, DATA_OFF, LOAD, LOAD, DATA_LEN, DATA_LEN}, 1);
	assert_int_equal(boot(r, IMAGE), 0);
	check_flat32(r, LOAD + 4);
	assert_int_equal(get_le32(guest(r, r->bsp.gpr[X86_RBX])), 0x336ec578);
}

static void
test_elf64(void **state)
{
	struct rig *r = *state;
	const struct seg high = {1, DATA_OFF, 0xffffffff80000000, LOAD, DATA_LEN, 0x3000};

	make_elf(r->image, true, 0xffffffff80000008, &high, 1);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_int_equal(r->bsp.rip, LOAD + 8);
	assert_int_equal(r->bsp.cr0, CR0_PE | CR0_ET | CR0_PG);
	assert_int_equal(r->bsp.cr4, CR4_PAE);
	assert_int_equal(r->bsp.msr.efer, EFER_LME | EFER_LMA);
	assert_int_equal(r->bsp.seg[X86_CS].attr, 0xa09b);
	for (uint64_t va = 0; va < 4 * GIB; va += 2 * MIB) {
		uint64_t e = get_le64(guest(r, r->bsp.cr3 + 8 * (va >> 39)));

		e = get_le64(guest(r, (e & ~0xfffull) + 8 * (va >> 30 & 511)));
		e = get_le64(guest(r, (e & ~0xfffull) + 8 * (va >> 21 & 511)));
		assert_int_equal(e, va | 0x83);
	}
}

/* What a bad header or program header says is refused before anything is loaded. */
static void
test_elf_refused(void **state)
{
	struct rig *r = *state;
	static const struct {
		struct seg s[2];
		unsigned n;
		const char *what;
	} bad[] = {
	    {{{1, DATA_OFF, 0, LOAD, IMAGE, IMAGE}}, 1, "cut off"},
	    {{{1, UINT64_MAX - 0xfff, 0, LOAD, 0x2000, 0x2000}}, 1, "cut off"},
	    {{{1, DATA_OFF, 0, LOAD, 0x1000, 0xfff}}, 1, "more bytes in the file"},
	    {{{1, DATA_OFF, 0, RAM, 0x1000, 0x1000}}, 1, "outside memory"},
	    {{{1, DATA_OFF, 0, 0xa0000, 0x1000, 0x1000}}, 1, "outside memory"},
	    {{{1, DATA_OFF, 0, ACPI_AT - 0x800, 0x1000, 0x1000}}, 1, "outside memory"},
	    {{{1, DATA_OFF, 0, LOAD, 0x1000, UINT64_MAX}}, 1, "outside memory"},
	    {{{1, DATA_OFF, 0, UINT64_MAX - 0x7ff, 0x1000, 0x1000}}, 1, "outside memory"},
	    {{{1, DATA_OFF, 0, LOAD, 0x1000, 0x1000}, {1, DATA_OFF, 0, LOAD + 0xfff, 0x1000, 0x1000}},
	     2,
	     "overlaps"},
	    {{{1, DATA_OFF, 0, LOAD, 0x1000, 0x1000}, {1, DATA_OFF, 0, LOAD - 1, 1, 0x3000}}, 2, "overlaps"},
	    {{{6, DATA_OFF, 0, LOAD, 0x1000, 0x1000}}, 1, "nothing to load"},
	    {{{1, DATA_OFF, 0, LOAD, 0, 0}}, 1, "nothing to load"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		make_elf(r->image, true, LOAD, bad[i].s, bad[i].n);
		refused(r, IMAGE, bad[i].what);
	}
}

static void
test_elf_header_refused(void **state)
{
	struct rig *r = *state;
	static const struct {
		unsigned at;
		uint16_t val;
		const char *what;
	} bad[] = {
	    {4, 0x0103, "another machine"},
	    {4, 0x0202, "another machine"},
	    {16, 3, "type 3"},
	    {16, 1, "type 1"},
	    {18, 183, "machine, 183"},
	    {18, 3, "another machine"},
	    {54, 55, "program headers"},
	    {56, 0, "program headers"},
	    {56, 0xffff, "program headers"},
	    {32, 0x5fff, "cut off"},
	    {56, 0x300, "cut off"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		make_elf(r->image, true, LOAD, &one_segment, 1);
		put_le16(r->image + bad[i].at, bad[i].val);
		refused(r, IMAGE, bad[i].what);
	}
	for (size_t len = 4; len < 64 + 56; len++) {
		make_elf(r->image, true, LOAD, &one_segment, 1);
		refused(r, len, "cut off");
	}
}

static void
test_elf_many_segments(void **state)
{
	struct rig *r = *state;
	struct seg s[130];

	for (unsigned i = 0; i < 130; i++)
		s[i] = (struct seg){1, 0, 0, LOAD + 0x1000 * i, 1, 1};
	make_elf(r->image, true, LOAD, s, ELF_SEGMENTS);
	assert_int_equal(boot(r, IMAGE), 0);
	make_elf(r->image, true, LOAD, s, ELF_SEGMENTS + 1);
	refused(r, IMAGE, "more than 128");
}

/* ---- PVH ---- */

static unsigned
put_note(uint8_t *p, const char *owner, uint32_t type, const void *desc, uint32_t len)
{
	unsigned name = (unsigned)strlen(owner) + 1, at = 12 + (unsigned)align_up(name, 4);

	memset(p, 0, at + align_up(len, 4));
	put_le32(p, name);
	put_le32(p + 4, len);
	put_le32(p + 8, type);
	memcpy(p + 12, owner, name);
	memcpy(p + at, desc, len);
	return at + (unsigned)align_up(len, 4);
}

static void
make_pvh(struct rig *r, uint64_t entry, unsigned entry_len)
{
	const struct seg s[2] = {one_segment, {4, 0x5000, 0, 0, 0x100, 0x100}};
	uint8_t *p = r->image + 0x5000;

	make_elf(r->image, true, 0xc0000000, s, 2);
	memset(p, 0, 0x100);
	p += put_note(p, "Linux", 18, "abcd", 4);
	p += put_note(p, "Xen", 6, "linux", 6);
	put_note(p, "Xen", 18, &entry, entry_len);
}

static void
test_pvh(void **state)
{
	struct rig *r = *state;

	write_file(r->extra[0], "first", 5);
	r->r.initrd = r->extra[0];
	r->r.cmdline = "console=ttyS0";
	for (unsigned len = 4; len <= 8; len += 4) {
		make_pvh(r, LOAD + 0x20, len);
		assert_int_equal(boot(r, IMAGE), 0);
		check_flat32(r, LOAD + 0x20);
	}
	assert_int_equal(r->bsp.seg[X86_TR].limit, 0x67);
	const uint8_t *info = guest(r, r->bsp.gpr[X86_RBX]);
	const uint8_t *mod = guest(r, get_le64(info + 16));

	assert_int_equal(get_le32(info), 0x336ec578);
	assert_int_equal(get_le32(info + 4), 1);
	assert_int_equal(get_le32(info + 12), 1);
	assert_string_equal((const char *)guest(r, get_le64(info + 24)), "console=ttyS0");
	assert_int_equal(get_le64(info + 32), 0xf0000);
	assert_int_equal(get_le64(mod), LOAD + 0x3000);
	assert_int_equal(get_le64(mod + 8), 5);
	assert_string_equal((const char *)guest(r, get_le64(mod + 16)), "");
	assert_memory_equal(guest(r, LOAD + 0x3000), "first", 5);
	assert_int_equal(get_le32(info + 48), 3);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *e = guest(r, get_le64(info + 40) + 24 * i);

		assert_int_equal(get_le64(e), r->map.entry[i].addr);
		assert_int_equal(get_le64(e + 8), r->map.entry[i].len);
		assert_int_equal(get_le32(e + 16), r->map.entry[i].type);
	}
}

static void
test_pvh_refused(void **state)
{
	struct rig *r = *state;

	make_pvh(r, LOAD, 2);
	refused(r, IMAGE, "PVH note has 2 bytes");
	make_pvh(r, 1ull << 32, 8);
	refused(r, IMAGE, "beyond 4 GiB");
	/* Notes whose lengths lead nowhere are no PVH note: the file is plain ELF. */
	make_pvh(r, LOAD, 4);
	put_le32(r->image + 0x5004, 0xffffffff);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_int_equal(r->bsp.cr0, CR0_PE | CR0_ET | CR0_PG);
	make_pvh(r, LOAD, 4);
	put_le32(r->image + 0x5000, 0xfffffffd);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_int_equal(r->bsp.cr0, CR0_PE | CR0_ET | CR0_PG);
}

static void
test_no_room(void **state)
{
	struct rig *r = *state;
	const struct seg all = {1, DATA_OFF, 0, 0x100000, 16, ACPI_AT - 0x100000};

	/* All of high memory: what the loader adds still fits below; a module does not. */
	make_elf(r->image, true, 0x100000, &all, 1);
	assert_int_equal(boot(r, IMAGE), 0);
	assert_true(r->bsp.gpr[X86_RBX] < 0x9fc00);
	write_file(r->extra[0], "first", 5);
	r->r.initrd = r->extra[0];
	assert_true(boot(r, IMAGE) < 0);
	assert_non_null(strstr(r->err.msg, "boot.initrd: "));
	assert_non_null(strstr(r->err.msg, "do not fit"));
}

static void
test_linux_takes_no_modules(void **state)
{
	struct rig *r = *state;

	memset(r->image, 0, IMAGE);
	memcpy(r->image + 0x202, "HdrS", 4);
	put_le16(r->image + 0x1fe, 0xaa55);
	r->module[0] = (struct board_module){0, r->kernel, NULL};
	r->r.modules = 1;
	assert_true(boot(r, IMAGE) < 0);
	assert_non_null(strstr(r->err.msg, "boot.module: a linux kernel takes none"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_multiboot_elf, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_multiboot_modules, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_multiboot_addresses, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_multiboot_header, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_elf32, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_elf64, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_elf_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_elf_header_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_elf_many_segments, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pvh, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pvh_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_linux_takes_no_modules, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
