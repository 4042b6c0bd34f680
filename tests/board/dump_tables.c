/* SPDX-License-Identifier: BSD-2-Clause */
/* Write the ACPI tables of a machine, one file each, into a folder: dump_tables DIR CPUS HPET(0|1)
 * MEMORY_MIB VTD(0|1). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "board/acpi.h"

static int
write_table(const char *dir, const uint8_t *t)
{
	uint32_t len = get_le32(t + 4);
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%.4s.dat", dir, (const char *)t);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(t, 1, len, f) != len || fclose(f) != 0) {
		perror(path);
		return 1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	struct machine m = {
	    .name = "dump", .hpet_block_id = 0x8086a201, .coms = 0xf, .x2apic = true, .phys_bits = 46};
	struct acpi_image img;
	struct err err = {0};
	const uint8_t *xsdt;
	uint32_t *ids;
	int bad = 0;

	if (argc != 6) {
		fprintf(stderr, "usage: dump_tables DIR CPUS HPET MEMORY_MIB VTD\n");
		return 2;
	}
	m.topo.cpus = (unsigned)atoi(argv[2]);
	m.hpet = atoi(argv[3]) != 0;
	m.vtd = atoi(argv[5]) != 0;
	ids = calloc(m.topo.cpus, sizeof(*ids));
	for (unsigned i = 0; i < m.topo.cpus; i++)
		ids[i] = i;
	m.apic_ids = ids;
	if (machine_layout(&m, (uint64_t)atoi(argv[4]) * MIB, 46, &err) != 0 ||
	    acpi_build(&img, &m, m.low_ram, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	xsdt = img.tables.p;
	bad |= write_table(argv[1], xsdt);
	for (size_t i = 36; i < get_le32(xsdt + 4); i += 8) {
		const uint8_t *t = img.tables.p + (get_le64(xsdt + i) - img.gpa);

		bad |= write_table(argv[1], t);
		if (memcmp(t, "FACP", 4) == 0)
			bad |= write_table(argv[1], img.tables.p + (get_le64(t + 140) - img.gpa));
	}
	bad |= write_table(argv[1], img.tables.p + (img.facs_gpa - img.gpa));
	acpi_free(&img);
	free(ids);
	return bad;
}
