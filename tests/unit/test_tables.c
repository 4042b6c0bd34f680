/* SPDX-License-Identifier: BSD-2-Clause */
/* Firmware tables: every checksum, every pointer, every entry that systems rely on; the memory map; AML
 * encodings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "board/acpi.h"
#include "board/aml.h"
#include "board/mptable.h"
#include "board/smbios.h"

static uint8_t
sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len-- > 0)
		s += *p++;
	return s;
}

static uint32_t apic_ids[1024];

static struct machine
make_machine(unsigned cpus, uint64_t memory)
{
	struct machine m = {
	    .name = "test",
	    .topo = {.cpus = cpus, .sockets = 1, .cores = cpus, .threads = 1, .maxcpus = cpus},
	    .apic_ids = apic_ids,
	    .coms = 1,
	    .hpet = true,
	    .hpet_block_id = 0x8086a201,
	};
	struct err err = {0};

	for (unsigned i = 0; i < ARRAY_LEN(apic_ids); i++)
		apic_ids[i] = i;
	assert_int_equal(machine_layout(&m, memory, 46, &err), 0);
	return m;
}

/* ---- memory map ---- */

static void
test_layout(void **state)
{
	struct machine m = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(machine_layout(&m, 512 * MIB, 39, &err), 0);
	assert_int_equal(m.low_ram, 512 * MIB);
	assert_int_equal(m.high_ram, 0);
	assert_int_equal(m.mmio64.base, 64 * GIB);
	assert_int_equal(m.mmio64.len, 64 * GIB);
	assert_int_equal(machine_layout(&m, 8 * GIB, 36, &err), 0);
	assert_int_equal(m.low_ram, 3 * GIB);
	assert_int_equal(m.high_ram, 5 * GIB);
	assert_int_equal(m.mmio64.len, 0); /* 36 bits: no room */
	assert_int_equal(machine_layout(&m, 63 * GIB, 36, &err), 0);
	assert_int_equal(machine_layout(&m, 64 * GIB, 36, &err), -EINVAL);
	assert_string_equal(
	    err.msg,
	    "memory.size: 64 GiB do not fit into the processor's 36 address bits (give at most 63G)");
	assert_int_equal(machine_layout(&m, UINT64_MAX & ~0xfffull, 46, &err), -EINVAL);
	assert_int_equal(machine_layout(&m, 1 * MIB, 46, &err), -EINVAL);
	assert_string_equal(err.msg, "memory.size: 1024 KiB is too little (give at least 4M)");
}

static void
check_map(const struct e820 *map, uint64_t ram)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < map->count; i++) {
		const struct e820_entry *e = &map->entry[i];

		assert_true(e->len > 0);
		if (i > 0)
			assert_true(e->addr >= e[-1].addr + e[-1].len);
		if (e->type != E820_RESERVED)
			total += e->len;
	}
	/* All RAM but the EBDA and 0xa0000-0xfffff is told. */
	assert_int_equal(total, ram - (MACHINE_HIGH_BASE - MACHINE_BASE_RAM_END));
}

static void
test_e820(void **state)
{
	static const uint64_t sizes[] = {4 * MIB, 512 * MIB, 3 * GIB, 3 * GIB + 4096, 100 * GIB};
	struct acpi_image img;
	struct err err = {0};
	struct e820 map;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct machine m = make_machine(1, sizes[i]);

		machine_e820(&m, NULL, &map);
		check_map(&map, sizes[i]);
		assert_int_equal(acpi_build(&img, &m, m.low_ram, &err), 0);
		machine_e820(&m, &img, &map);
		check_map(&map, sizes[i]);
		acpi_free(&img);
	}
}

/* ---- ACPI ---- */

static const uint8_t *
at(const struct acpi_image *img, uint64_t gpa, size_t len)
{
	assert_true(gpa >= img->gpa && range_fits(gpa - img->gpa, len, img->tables.len));
	return img->tables.p + (gpa - img->gpa);
}

/* Follow the pointers as a system does. Returns the table or NULL. */
static const uint8_t *
find_table(const struct acpi_image *img, const char *signature)
{
	const uint8_t *xsdt = at(img, get_le64(img->rsdp.p + 24), 36);
	const uint8_t *found = NULL;

	for (size_t off = 36; off < get_le32(xsdt + 4); off += 8) {
		const uint8_t *t = at(img, get_le64(xsdt + off), 36);

		(void)at(img, get_le64(xsdt + off), get_le32(t + 4));
		assert_int_equal(sum(t, get_le32(t + 4)), 0);
		if (memcmp(t, signature, 4) == 0)
			found = t;
	}
	return found;
}

static void
check_acpi(struct machine *m)
{
	const uint8_t *xsdt, *fadt, *dsdt, *facs;
	struct acpi_image img;
	struct err err = {0};

	assert_int_equal(acpi_build(&img, m, m->low_ram, &err), 0);
	assert_int_equal(img.gpa % 4096, 0);
	assert_int_equal(img.gpa + img.tables.len, m->low_ram);
	assert_int_equal(img.facs_gpa, m->low_ram - 4096);
	assert_int_equal(img.rsdp.len, 36);
	assert_memory_equal(img.rsdp.p, "RSD PTR ", 8);
	assert_int_equal(sum(img.rsdp.p, 20), 0);
	assert_int_equal(sum(img.rsdp.p, 36), 0);
	xsdt = at(&img, get_le64(img.rsdp.p + 24), 36);
	assert_memory_equal(xsdt, "XSDT", 4);
	assert_int_equal(sum(xsdt, get_le32(xsdt + 4)), 0);

	fadt = find_table(&img, "FACP");
	assert_non_null(fadt);
	assert_int_equal(get_le32(fadt + 4), 276);
	dsdt = at(&img, get_le64(fadt + 140), 36);
	assert_int_equal(get_le32(fadt + 40), get_le64(fadt + 140));
	assert_memory_equal(dsdt, "DSDT", 4);
	assert_int_equal(sum(at(&img, get_le64(fadt + 140), get_le32(dsdt + 4)), get_le32(dsdt + 4)), 0);
	facs = at(&img, get_le32(fadt + 36), 64);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(get_le32(fadt + 36) % 64, 0);
	assert_int_equal(get_le32(fadt + 56), 0x600);
	assert_int_equal(get_le32(fadt + 64), 0x604);
	assert_int_equal(get_le32(fadt + 76), 0x608);
	assert_int_equal(get_le32(fadt + 80), 0x620);
	assert_int_equal(get_le32(fadt + 48), 0xb2);
	assert_int_equal(get_le64(fadt + 120), 0xcf9);
	assert_int_equal(fadt[128], 0x06);
	assert_int_equal(get_le32(fadt + 112) & 1 << 20, 0); /* not hardware-reduced */

	assert_non_null(find_table(&img, "MCFG"));
	assert_int_equal(get_le64(find_table(&img, "MCFG") + 44), MACHINE_ECAM_BASE);
	assert_int_equal(find_table(&img, "HPET") != NULL, m->hpet);
	acpi_free(&img);
}

static void
test_acpi(void **state)
{
	(void)state;
	for (unsigned cpus = 1; cpus <= 1024; cpus = cpus * 2 + 1) {
		struct machine m = make_machine(cpus, cpus % 3 == 0 ? 8 * GIB : 64 * MIB);

		m.hpet = cpus % 2 == 0;
		m.coms = cpus & 0xf;
		check_acpi(&m);
	}
}

struct madt_count {
	unsigned lapic, x2apic, ioapic, override, nmi, x2nmi;
};

static struct madt_count
count_madt(const uint8_t *madt, unsigned cpus)
{
	struct madt_count n = {0};
	unsigned next = 0;
	size_t off;

	for (off = 44; off < get_le32(madt + 4); off += madt[off + 1]) {
		const uint8_t *e = madt + off;

		assert_true(e[1] >= 2);
		switch (e[0]) {
		case 0:
			assert_int_equal(e[2], next);
			assert_int_equal(e[3], apic_ids[next++]);
			assert_int_equal(get_le32(e + 4), 1);
			n.lapic++;
			break;
		case 9:
			assert_int_equal(get_le32(e + 12), next);
			assert_int_equal(get_le32(e + 4), apic_ids[next++]);
			n.x2apic++;
			break;
		case 1:
			assert_int_equal(get_le32(e + 4), MACHINE_IOAPIC_BASE);
			n.ioapic++;
			break;
		case 2:
			assert_true((e[3] == 0 && get_le32(e + 4) == 2 && get_le16(e + 8) == 0) ||
				    (e[3] == 9 && get_le32(e + 4) == 9 && get_le16(e + 8) == 0x0d));
			n.override++;
			break;
		case 4:
			assert_int_equal(e[2], 0xff);
			assert_int_equal(e[5], 1);
			n.nmi++;
			break;
		case 10:
			assert_int_equal(get_le32(e + 4), UINT32_MAX);
			n.x2nmi++;
			break;
		default:
			fail_msg("MADT entry of type %u", e[0]);
		}
	}
	assert_int_equal(off, get_le32(madt + 4));
	assert_int_equal(next, cpus);
	assert_int_equal(n.ioapic, 1);
	assert_int_equal(n.override, 2);
	assert_int_equal(n.nmi, 1);
	return n;
}

static void
test_madt(void **state)
{
	static const struct {
		unsigned cpus, lapic, x2apic;
	} cases[] = {{1, 1, 0}, {4, 4, 0}, {255, 255, 0}, {256, 255, 1}, {1024, 255, 769}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct machine m = make_machine(cases[i].cpus, 64 * MIB);
		struct acpi_image img;
		struct err err = {0};
		struct madt_count n;

		assert_int_equal(acpi_build(&img, &m, m.low_ram, &err), 0);
		n = count_madt(find_table(&img, "APIC"), cases[i].cpus);
		assert_int_equal(n.lapic, cases[i].lapic);
		assert_int_equal(n.x2apic, cases[i].x2apic);
		assert_int_equal(n.x2nmi, cases[i].x2apic > 0);
		acpi_free(&img);
	}
}

/* ---- AML ---- */

static void
check_aml(void (*emit)(struct aml *a), const void *want, size_t len)
{
	struct fwbuf out = {0};
	struct aml a;

	aml_init(&a, &out);
	emit(&a);
	assert_int_equal(a.depth, 0);
	assert_int_equal(out.len, len);
	assert_memory_equal(out.p, want, len);
	fwbuf_free(&out);
}

static void
emit_integers(struct aml *a)
{
	static const uint64_t v[] = {0, 1, 2, 0xff, 0x100, 0xffff, 0x10000, 0xffffffff, 0x100000000};

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		aml_int(a, v[i]);
}

static void
emit_names(struct aml *a)
{
	aml_path(a, "A");
	aml_path(a, "\\_SB.PCI0");
	aml_path(a, "^^A.BC.DEF");
	aml_path(a, "\\");
	aml_eisaid(a, "PNP0A08");
}

static void
emit_nested(struct aml *a)
{
	aml_scope_begin(a, "\\");
	aml_device_begin(a, "D");
	aml_end(a);
	aml_end(a);
}

static void
test_aml(void **state)
{
	static const uint8_t integers[] = {0x00, 0x01, 0x0a, 2, 0x0a, 0xff, 0x0b, 0x00, 0x01, 0x0b, 0xff,
					   0xff, 0x0c, 0,    0, 1,    0,    0x0c, 0xff, 0xff, 0xff, 0xff,
					   0x0e, 0,    0,    0, 0,    1,    0,	  0,	0};
	static const uint8_t names[] = "A___\\\x2e_SB_PCI0^^\x2f\3A___BC__DEF_\\\0\x0c\x41\xd0\x0a\x08";
	static const uint8_t nested[] = {0x10, 0x0a, '\\', 0x00, 0x5b, 0x82, 0x05, 'D', '_', '_', '_'};

	(void)state;
	check_aml(emit_integers, integers, sizeof(integers));
	check_aml(emit_names, names, sizeof(names) - 1);
	check_aml(emit_nested, nested, sizeof(nested));
}

/* PkgLength at each of its limits: decoded, it spans exactly what follows. */
static void
test_aml_lengths(void **state)
{
	static const size_t sizes[] = {0,    50,   56,	 57,   58,   59,      60,      61,     4085,
				       4086, 4087, 4088, 4089, 4090, 1048560, 1048570, 1048580};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint8_t *data = calloc(1, sizes[i] + 1);
		struct fwbuf out = {0};
		struct aml a;
		size_t len, n;

		aml_init(&a, &out);
		aml_buffer(&a, data, sizes[i]);
		assert_int_equal(out.p[0], 0x11);
		n = (size_t)(out.p[1] >> 6) + 1;
		len = n == 1 ? out.p[1] & 0x3f : out.p[1] & 0x0f;
		for (size_t j = 1; j < n; j++)
			len |= (size_t)out.p[1 + j] << (8 * j - 4);
		assert_int_equal(len, out.len - 1);
		/* Not longer than need be. */
		if (n > 1)
			assert_true(len - 1 >= (n == 2 ? 0x40u : n == 3 ? 0x1000u : 0x100000u));
		fwbuf_free(&out);
		free(data);
	}
}

/* ---- SMBIOS ---- */

static void
check_smbios(struct machine *m, const uint8_t *want_uuid)
{
	unsigned seen[128] = {0}, count = 0;
	const uint8_t *p, *end;
	struct fwbuf out = {0};
	struct err err = {0};
	uint64_t gpa = 0xf0040;

	assert_int_equal(smbios_build(&out, m, gpa, &err), 0);
	assert_memory_equal(out.p, "_SM3_", 5);
	assert_int_equal(sum(out.p, out.p[6]), 0);
	assert_memory_equal(out.p + 32, "_SM_", 4);
	assert_int_equal(sum(out.p + 32, out.p[37]), 0);
	assert_int_equal(sum(out.p + 48, 15), 0);
	assert_int_equal(get_le64(out.p + 16), gpa + 64);
	assert_int_equal(get_le32(out.p + 56), gpa + 64);
	assert_int_equal(get_le32(out.p + 12), out.len - 64);
	assert_int_equal(get_le16(out.p + 54), out.len - 64);
	for (p = out.p + 64, end = out.p + out.len; p < end; count++) {
		assert_true(p[1] >= 4 && p + p[1] <= end - 2);
		seen[p[0]]++;
		if (p[0] == 1 && want_uuid != NULL)
			assert_memory_equal(p + 8, want_uuid, 16);
		if (p[0] == 4)
			assert_int_equal(get_le16(p + 0x2a), m->topo.cores);
		for (p += p[1]; p[0] != 0 || p[1] != 0; p++)
			assert_true(p < end - 1);
		p += 2;
	}
	assert_ptr_equal(p, end);
	assert_int_equal(get_le16(out.p + 60), count);
	for (size_t i = 0; i < 9; i++)
		assert_true(seen[((const uint8_t[]){0, 1, 3, 4, 16, 17, 19, 32, 127})[i]] >= 1);
	assert_int_equal(seen[4], m->topo.sockets);
	assert_int_equal(seen[19], m->high_ram != 0 ? 2 : 1);
	assert_int_equal(seen[127], 1);
	fwbuf_free(&out);
}

static void
test_smbios(void **state)
{
	static const uint8_t uuid[16] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
					 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	struct machine m = make_machine(4, 512 * MIB);
	struct fwbuf out = {0};
	struct err err = {0};

	(void)state;
	check_smbios(&m, NULL);
	m.uuid = "00112233-4455-6677-8899-aabbccddeeff";
	check_smbios(&m, uuid);
	m = make_machine(6, 5000 * GIB);
	m.topo = (struct x86_topology){.cpus = 6, .sockets = 3, .cores = 2, .threads = 1, .maxcpus = 6};
	m.uuid = "00112233445566778899AABBCCDDEEFF";
	check_smbios(&m, uuid);
	m.uuid = "00112233-4455-6677-8899-aabbccddeef";
	assert_int_equal(smbios_build(&out, &m, 0xf0040, &err), -EINVAL);
	m.uuid = "x";
	assert_int_equal(smbios_build(&out, &m, 0xf0040, &err), -EINVAL);
	fwbuf_free(&out);
}

/* ---- MP table ---- */

static void
test_mptable(void **state)
{
	static const uint8_t entry_len[5] = {20, 8, 8, 8, 8};
	struct machine m = make_machine(255, 512 * MIB);
	unsigned entries = 0, cpus = 0;
	struct fwbuf out = {0};
	struct err err = {0};
	const uint8_t *t, *p;

	(void)state;
	assert_int_equal(mptable_build(&out, &m, 0xf1000, &err), 0);
	assert_memory_equal(out.p, "_MP_", 4);
	assert_int_equal(sum(out.p, 16), 0);
	assert_int_equal(get_le32(out.p + 4), 0xf1010);
	t = out.p + 16;
	assert_memory_equal(t, "PCMP", 4);
	assert_int_equal(get_le16(t + 4), out.len - 16);
	assert_int_equal(sum(t, get_le16(t + 4)), 0);
	for (p = t + 44; p < out.p + out.len; p += entry_len[p[0]], entries++) {
		assert_true(p[0] < 5);
		if (p[0] == 0)
			assert_int_equal(p[1], cpus++);
		if (p[0] == 3) /* pins of the one IOAPIC */
			assert_true(p[6] == 0 && p[7] < 24);
	}
	assert_ptr_equal(p, out.p + out.len);
	assert_int_equal(entries, get_le16(t + 34));
	assert_int_equal(cpus, 255);
	fwbuf_free(&out);
	m = make_machine(256, 512 * MIB);
	assert_int_equal(mptable_build(&out, &m, 0xf1000, &err), -ERANGE);
	assert_non_null(strstr(err.msg, "x86.mptable=false"));
	fwbuf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layout), cmocka_unit_test(test_e820),	   cmocka_unit_test(test_acpi),
	    cmocka_unit_test(test_madt),   cmocka_unit_test(test_aml),	   cmocka_unit_test(test_aml_lengths),
	    cmocka_unit_test(test_smbios), cmocka_unit_test(test_mptable),
	};

	return cmocka_run_group_tests_name("tables", tests, NULL, NULL);
}
