/* SPDX-License-Identifier: BSD-2-Clause */
#include "board/machine.h"

#include <errno.h>

#include "base/util.h"
#include "board/acpi.h"

#define MMIO64_LEN (64 * GIB)

const struct machine_com machine_com[MACHINE_COMS] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};

/* The window starts at a multiple of its own length, so that a BAR of any size up to that fits at its start.
 */
int
machine_layout(struct machine *m, uint64_t memory_bytes, unsigned phys_bits, struct err *err)
{
	uint64_t limit = BIT(phys_bits), high_end;

	if (memory_bytes < MACHINE_RAM_MIN)
		return err_set(err, EINVAL, "memory.size: %llu KiB is too little (give at least %lluM)",
			       (unsigned long long)(memory_bytes / KIB),
			       (unsigned long long)(MACHINE_RAM_MIN / MIB));
	m->low_ram = MIN(memory_bytes, MACHINE_LOW_RAM_MAX);
	m->high_ram = memory_bytes - m->low_ram;
	if (m->high_ram > limit || MACHINE_HIGH_RAM_BASE + m->high_ram > limit)
		return err_set(
		    err, EINVAL,
		    "memory.size: %llu GiB do not fit into the processor's %u address bits (give at most "
		    "%lluG)",
		    (unsigned long long)(memory_bytes / GIB), phys_bits,
		    (unsigned long long)((limit - MACHINE_HIGH_RAM_BASE + MACHINE_LOW_RAM_MAX) / GIB));
	high_end = MACHINE_HIGH_RAM_BASE + m->high_ram;
	m->mmio64.base = align_up(high_end, MMIO64_LEN);
	m->mmio64.len = m->mmio64.base + MMIO64_LEN <= limit ? MMIO64_LEN : 0;
	return 0;
}

static void
add(struct e820 *map, uint64_t from, uint64_t to, enum e820_type type)
{
	if (to <= from)
		return;
	LH_ASSERT(map->count < ARRAY_LEN(map->entry));
	map->entry[map->count++] = (struct e820_entry){from, to - from, type};
}

void
machine_e820(const struct machine *m, const struct acpi_image *acpi, struct e820 *map)
{
	uint64_t ram_end = acpi != NULL ? acpi->gpa : m->low_ram;

	map->count = 0;
	add(map, 0, MACHINE_BASE_RAM_END, E820_RAM);
	add(map, MACHINE_BASE_RAM_END, MACHINE_VGA_BASE, E820_RESERVED);
	add(map, MACHINE_TABLES_BASE, MACHINE_HIGH_BASE, E820_RESERVED);
	add(map, MACHINE_HIGH_BASE, ram_end, E820_RAM);
	if (acpi != NULL) {
		add(map, acpi->gpa, acpi->facs_gpa, E820_ACPI);
		add(map, acpi->facs_gpa, m->low_ram, E820_NVS);
	}
	add(map, MACHINE_ECAM_BASE, MACHINE_ECAM_BASE + ((uint64_t)MACHINE_ECAM_BUSES << 20), E820_RESERVED);
	add(map, MACHINE_HIGH_RAM_BASE, MACHINE_HIGH_RAM_BASE + m->high_ram, E820_RAM);
}
