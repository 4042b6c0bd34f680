/* SPDX-License-Identifier: BSD-2-Clause */
/* The Linux loader on images that the test makes: what lands where, the entry states, and everything that can
 * be wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "board/loader.h"
#include "mem/gpmap.h"
#include "x86/state.h"

enum { RAM = 64 << 20, ACPI_AT = RAM - 0x10000, SETUP_SECTS = 5, PAYLOAD = 256 << 10 };
enum { PAYLOAD_OFF = (SETUP_SECTS + 1) * 512, IMAGE_LEN = PAYLOAD_OFF + PAYLOAD };

struct rig {
	char dir[32], kernel[64], initrd[64];
	struct memobj *ram;
	struct gpmap *mem;
	struct e820 map;
	struct boot_request r;
	struct x86_state bsp;
	struct err err;
	uint8_t *image; /* a good bzImage, IMAGE_LEN bytes */
};

/* Protocol 2.15, relocatable, 64-bit, 16 MiB. */
static void
make_image(uint8_t *p)
{
	memset(p, 0, PAYLOAD_OFF);
	for (unsigned i = 0; i < PAYLOAD; i++)
		p[PAYLOAD_OFF + i] = (uint8_t)(i * 31 + (i >> 8));
	p[0x1f1] = SETUP_SECTS;
	put_le32(p + 0x1f4, PAYLOAD / 16);
	put_le16(p + 0x1fe, 0xaa55);
	p[0x200] = 0xeb;
	p[0x201] = 0x6a;
	memcpy(p + 0x202, "HdrS", 4);
	put_le16(p + 0x206, 0x020f);
	p[0x211] = 0x01;
	put_le32(p + 0x214, 0x100000);
	put_le32(p + 0x22c, 0x7fffffff);
	put_le32(p + 0x230, 0x200000);
	p[0x234] = 1;
	put_le16(p + 0x236, 0x0001);
	put_le32(p + 0x238, 2047);
	put_le64(p + 0x250, 0xdeadbeef); /* no loader may leave this */
	put_le64(p + 0x258, 0x1000000);
	put_le32(p + 0x260, 0x800000);
}

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
	snprintf(r->initrd, sizeof(r->initrd), "%s/initrd", r->dir);
	r->image = malloc(IMAGE_LEN);
	make_image(r->image);
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
	r->r = (struct boot_request){.mem = r->mem, .map = &r->map, .rsdp_gpa = 0xf0000, .kernel = r->kernel};
	x86_state_reset(&r->bsp);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	unlink(r->kernel);
	unlink(r->initrd);
	rmdir(r->dir);
	gpmap_destroy(r->mem);
	memobj_destroy(r->ram);
	free(r->image);
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

/* The error is this one line about this file: WHERE: WHAT (HINT). */
static void
expect_error(struct rig *r, size_t len, const char *key, const char *path, const char *what)
{
	char want[512];

	assert_true(boot(r, len) < 0);
	if (path != NULL)
		snprintf(want, sizeof(want), "%s: %s: %s", key, path, what);
	else
		snprintf(want, sizeof(want), "%s: %s", key, what);
	assert_string_equal(r->err.msg, want);
	make_image(r->image);
}

static void
kernel_error(struct rig *r, size_t len, const char *what)
{
	expect_error(r, len, "boot.kernel", r->kernel, what);
}

static const uint8_t *
guest(struct rig *r, uint64_t gpa)
{
	return (const uint8_t *)memobj_hva(r->ram) + gpa;
}

static void
check_segment(const struct x86_segment *s, uint16_t sel, uint32_t attr)
{
	assert_int_equal(s->sel, sel);
	assert_int_equal(s->attr, attr);
	assert_int_equal(s->base, 0);
	assert_int_equal(s->limit, 0xffffffff);
}

/* What a hidden part says must be what the table in memory says. */
static void
check_gdt(struct rig *r, unsigned seg)
{
	const struct x86_segment *s = &r->bsp.seg[seg];
	uint64_t d;

	assert_true(s->sel + 7u <= r->bsp.gdtr.limit);
	d = get_le64(guest(r, r->bsp.gdtr.base + s->sel));
	assert_int_equal((d >> 40 & 0xf0ff), s->attr & 0xf0ff);
	assert_int_equal((d & 0xffff) | (d >> 32 & 0xf0000), 0xfffff);
}

static void
test_boot64(void **state)
{
	struct rig *r = *state;
	const uint8_t *zp = guest(r, 0x7000);

	r->r.cmdline = "console=ttyS0 quiet";
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_memory_equal(guest(r, 0x1000000), r->image + PAYLOAD_OFF, PAYLOAD);
	assert_int_equal(r->bsp.rip, 0x1000200);
	assert_int_equal(r->bsp.gpr[X86_RSI], 0x7000);
	assert_int_equal(r->bsp.rflags, 2);
	assert_int_equal(r->bsp.cr0, CR0_PG | CR0_PE | CR0_ET);
	assert_int_equal(r->bsp.cr4, CR4_PAE);
	assert_int_equal(r->bsp.msr.efer, EFER_LME | EFER_LMA);
	check_segment(&r->bsp.seg[X86_CS], 0x10, 0xa09b);
	check_segment(&r->bsp.seg[X86_DS], 0x18, 0xc093);
	check_segment(&r->bsp.seg[X86_SS], 0x18, 0xc093);
	check_gdt(r, X86_CS);
	check_gdt(r, X86_DS);
	/* The page tables map 4 GiB to itself. */
	for (uint64_t va = 0; va < 4 * GIB; va += 2 * MIB) {
		uint64_t e = get_le64(guest(r, r->bsp.cr3 + 8 * (va >> 39)));

		e = get_le64(guest(r, (e & ~0xfffull) + 8 * (va >> 30 & 511)));
		e = get_le64(guest(r, (e & ~0xfffull) + 8 * (va >> 21 & 511)));
		assert_int_equal(e, va | 0x83);
	}
	/* Zero page. */
	assert_memory_equal(zp + 0x202, "HdrS", 4);
	assert_int_equal(zp[0x210], 0xff);
	assert_int_equal(zp[0x1ef], 0);
	assert_int_equal(get_le64(zp + 0x070), 0xf0000);
	assert_int_equal(get_le32(zp + 0x214), 0x1000000);
	assert_int_equal(get_le64(zp + 0x250), 0);
	assert_string_equal((const char *)guest(r, get_le32(zp + 0x228)), "console=ttyS0 quiet");
	assert_int_equal(get_le32(zp + 0x218) | get_le32(zp + 0x21c), 0);
	assert_int_equal(zp[0x1e8], 3);
	assert_int_equal(get_le64(zp + 0x2d0 + 20), 0x100000);
	assert_int_equal(get_le64(zp + 0x2d0 + 28), ACPI_AT - 0x100000);
	assert_int_equal(get_le32(zp + 0x2d0 + 56), E820_ACPI);
	assert_int_equal(get_le32(zp + 0x1e0), (ACPI_AT - 0x100000) / 1024);
	/* Bytes behind what the header declares do not come along. */
	assert_int_equal(get_le32(zp + 0x26c), 0);
}

static void
test_boot32(void **state)
{
	struct rig *r = *state;

	put_le16(r->image + 0x236, 0);
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(r->bsp.rip, 0x1000000);
	assert_int_equal(r->bsp.cr0, CR0_PE | CR0_ET);
	assert_int_equal(r->bsp.cr4, 0);
	assert_int_equal(r->bsp.msr.efer, 0);
	assert_int_equal(r->bsp.gpr[X86_RSI], 0x7000);
	assert_int_equal(r->bsp.gpr[X86_RBX] | r->bsp.gpr[X86_RBP] | r->bsp.gpr[X86_RDI], 0);
	check_segment(&r->bsp.seg[X86_CS], 0x10, 0xc09b);
	check_segment(&r->bsp.seg[X86_ES], 0x18, 0xc093);
	check_gdt(r, X86_CS);
}

static void
test_old_protocols(void **state)
{
	struct rig *r = *state;

	put_le16(r->image + 0x206, 0x0204); /* no alignment, no init_size: at 1 MiB */
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(r->bsp.rip, 0x100000);
	assert_memory_equal(guest(r, 0x100000), r->image + PAYLOAD_OFF, PAYLOAD);
	r->image[0x1f1] = 0; /* means 4 */
	memmove(r->image + 5 * 512, r->image + PAYLOAD_OFF, PAYLOAD);
	assert_int_equal(boot(r, 5 * 512 + PAYLOAD), 0);
	assert_memory_equal(guest(r, 0x100000), r->image + 5 * 512, PAYLOAD);
	/* 255 bytes of command line before 2.06. */
	make_image(r->image);
	put_le16(r->image + 0x206, 0x0205);
	r->r.cmdline = (char[257]){[0 ... 254] = 'x'};
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	make_image(r->image);
	put_le16(r->image + 0x206, 0x0205);
	r->r.cmdline = (char[257]){[0 ... 255] = 'x'};
	expect_error(r, IMAGE_LEN, "boot.cmdline", NULL, "256 bytes, this kernel takes 255 (shorten it)");
}

static void
test_alignment(void **state)
{
	struct rig *r = *state;

	put_le64(r->image + 0x258, 0x1000001);
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(r->bsp.rip, 0x1200200);
	make_image(r->image);
	put_le32(r->image + 0x230, 12345); /* no power of two: as it stands */
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(r->bsp.rip, 0x1000200);
	make_image(r->image);
	r->image[0x234] = 0;
	put_le64(r->image + 0x258, 0x1100000);
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(r->bsp.rip, 0x1100200);
}

static void
test_initrd(void **state)
{
	struct rig *r = *state;
	const uint8_t *zp = guest(r, 0x7000);
	size_t len = (1 << 20) + 77;
	uint8_t *data = malloc(len);

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 13 + (i >> 9));
	write_file(r->initrd, data, len);
	r->r.initrd = r->initrd;
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(get_le32(zp + 0x21c), len);
	assert_int_equal(get_le32(zp + 0x218), (ACPI_AT - len) & ~0xfffu);
	assert_memory_equal(guest(r, get_le32(zp + 0x218)), data, len);
	/* The kernel's limit is inclusive. */
	put_le32(r->image + 0x22c, 0x2ffffff);
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(get_le32(zp + 0x218), (0x3000000 - len) & ~0xfffu);
	free(data);
}

static void
test_initrd_fit(void **state)
{
	struct rig *r = *state;
	/* From the kernel's end, 24 MiB, to the tables: one page more does not fit. */
	uint64_t room = ACPI_AT - 0x1800000;

	write_file(r->initrd, "", 0);
	r->r.initrd = r->initrd;
	expect_error(r, IMAGE_LEN, "boot.initrd", r->initrd, "is empty (copy it again)");
	assert_int_equal(truncate(r->initrd, (off_t)room), 0);
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_int_equal(get_le32(guest(r, 0x7218)), 0x1800000);
	assert_int_equal(truncate(r->initrd, (off_t)room + 1), 0);
	expect_error(r, IMAGE_LEN, "boot.initrd", r->initrd,
		     "40 MiB do not fit between the kernel, which ends at 0x1800000, and 0x3ff0000 (give "
		     "more memory.size)");
	assert_int_equal(truncate(r->initrd, 1ll << 40), 0);
	assert_true(boot(r, IMAGE_LEN) < 0);
	assert_int_equal(truncate(r->initrd, 16 << 20), 0);
	put_le32(r->image + 0x22c, 0x1ffffff);
	expect_error(r, IMAGE_LEN, "boot.initrd", r->initrd,
		     "16 MiB do not fit between the kernel, which ends at 0x1800000, and 0x2000000 (give a "
		     "smaller initrd, the "
		     "kernel takes none higher)");
	put_le32(r->image + 0x22c, 0); /* absurd */
	assert_true(boot(r, IMAGE_LEN) < 0);
}

static void
test_command_line_fit(void **state)
{
	struct rig *r = *state;
	char *text = malloc(70000);

	memset(text, 'y', 70000);
	text[2047] = 0;
	r->r.cmdline = text;
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	assert_string_equal((const char *)guest(r, get_le32(guest(r, 0x7228))), text);
	text[2047] = 'y';
	text[2048] = 0;
	expect_error(r, IMAGE_LEN, "boot.cmdline", NULL, "2048 bytes, this kernel takes 2047 (shorten it)");
	/* A header that promises more than there is room for. */
	text[2048] = 'y';
	text[65536] = 0;
	put_le32(r->image + 0x238, UINT32_MAX);
	expect_error(r, IMAGE_LEN, "boot.cmdline", NULL, "65536 bytes, this kernel takes 65535 (shorten it)");
	free(text);
}

static void
test_no_kernel(void **state)
{
	struct rig *r = *state;
	char fifo[64];

	assert_true(boot_load(&r->r, &r->bsp, &r->err) < 0);
	assert_non_null(strstr(r->err.msg, "kernel: No such file or directory (check the name)"));
	kernel_error(r, 0, "is empty (copy it again)");
	memset(r->image, 0, IMAGE_LEN);
	kernel_error(r, IMAGE_LEN,
		     "is no kernel that can be booted (give a Linux bzImage, as /boot/vmlinuz-* is, "
		     "or an ELF or multiboot kernel)");
	kernel_error(r, 1,
		     "is no kernel that can be booted (give a Linux bzImage, as /boot/vmlinuz-* is, "
		     "or an ELF or multiboot kernel)");
	memcpy(r->image, "\177ELF", 4);
	put_le16(r->image + 0x1fe, 0);
	kernel_error(r, IMAGE_LEN, "is an ELF file of another machine, 0 (give one for i386 or x86-64)");
	r->r.kernel = r->dir;
	assert_true(boot_load(&r->r, &r->bsp, &r->err) < 0);
	assert_non_null(strstr(r->err.msg, ": is a folder (give a file)"));
	snprintf(fifo, sizeof(fifo), "%s/fifo", r->dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	r->r.kernel = fifo;
	assert_true(boot_load(&r->r, &r->bsp, &r->err) < 0);
	assert_non_null(strstr(r->err.msg, ": is no regular file (copy it to one)"));
	unlink(fifo);
	r->r.kernel = "/dev/null";
	assert_true(boot_load(&r->r, &r->bsp, &r->err) < 0);
	assert_string_equal(r->err.msg, "boot.kernel: /dev/null: is no regular file (copy it to one)");
}

static void
test_bad_headers(void **state)
{
	struct rig *r = *state;

	kernel_error(r, 0x210, "is cut off in the kernel's header (copy it again)");
	kernel_error(r, 0x280, "is cut off: 640 bytes, its setup code alone has 3072 (copy it again)");
	kernel_error(r, PAYLOAD_OFF, "is cut off: 3072 bytes, its setup code alone has 3072 (copy it again)");
	kernel_error(r, IMAGE_LEN - 1, "is cut off: 265215 of 265216 bytes are there (copy it again)");
	put_le32(r->image + 0x1f4, UINT32_MAX);
	assert_true(boot(r, IMAGE_LEN) < 0);
	make_image(r->image);
	put_le32(r->image + 0x1f4, 10);
	kernel_error(r, IMAGE_LEN, "has no kernel behind its header (copy it again)");
	put_le16(r->image + 0x206, 0x0200);
	kernel_error(r, IMAGE_LEN,
		     "is a kernel of boot protocol 2.00, too old (give a bzImage of 2.4 or later)");
	r->image[0x211] = 0;
	assert_true(boot(r, IMAGE_LEN) < 0);
	make_image(r->image);
	put_le64(r->image + 0x258, 0x1000);
	r->image[0x234] = 0;
	kernel_error(r, IMAGE_LEN, "wants to be loaded at 0x1000 (a damaged header? copy it again)");
	put_le64(r->image + 0x258, 0xfffffffffffff000);
	kernel_error(r, IMAGE_LEN,
		     "wants to be loaded at 0xfffffffffffff000 (a damaged header? copy it again)");
	put_le64(r->image + 0x258, 0xffffffff);
	put_le32(r->image + 0x230, 0x80000000);
	assert_true(boot(r, IMAGE_LEN) < 0);
}

static void
test_memory_fit(void **state)
{
	struct rig *r = *state;

	/* init_size up to the tables fits; one byte more asks for more memory. */
	put_le32(r->image + 0x260, ACPI_AT - 0x1000000);
	assert_int_equal(boot(r, IMAGE_LEN), 0);
	put_le32(r->image + 0x260, ACPI_AT - 0x1000000 + 1);
	expect_error(r, IMAGE_LEN, "memory.size", NULL,
		     "the kernel needs 48 MiB from 0x1000000 on (give at least 66M)");
	put_le32(r->image + 0x260, UINT32_MAX);
	kernel_error(r, IMAGE_LEN,
		     "wants 4096 MiB of memory at 0x1000000, more than a PC has there (a damaged header? "
		     "copy it again)");
	put_le64(r->image + 0x258, 0x8000000);
	assert_true(boot(r, IMAGE_LEN) < 0);
	assert_non_null(strstr(r->err.msg, "memory.size: "));
	/* No RAM above 1 MiB at all. */
	make_image(r->image);
	r->map.count = 1;
	assert_true(boot(r, IMAGE_LEN) < 0);
}

/* Any header: an error or a boot, never anything else. The sanitizers watch. */
static void
test_random_headers(void **state)
{
	struct rig *r = *state;
	uint64_t x = 88172645463325252ull;
	unsigned booted = 0;

	write_file(r->initrd, r->image, 5000);
	r->r.initrd = r->initrd;
	for (unsigned i = 0; i < 800; i++) {
		for (unsigned n = 0; n < 1 + i % 6; n++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			r->image[0x1f1 + (x >> 8) % (0x268 - 0x1f1)] = (uint8_t)(x >> 32);
		}
		if (boot(r, i % 7 == 0 ? x % IMAGE_LEN : IMAGE_LEN) == 0)
			booted++;
		else
			assert_true(r->err.code > 0 && r->err.msg[0] != 0 &&
				    strchr(r->err.msg, '\n') == NULL);
		if (i % 3 == 0)
			make_image(r->image);
	}
	assert_true(booted > 50 && booted < 750);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_boot64),	 T(test_boot32),     T(test_old_protocols),    T(test_alignment),
	    T(test_initrd),	 T(test_initrd_fit), T(test_command_line_fit), T(test_no_kernel),
	    T(test_bad_headers), T(test_memory_fit), T(test_random_headers),
	};

	return cmocka_run_group_tests_name("linux boot", tests, NULL, NULL);
}
