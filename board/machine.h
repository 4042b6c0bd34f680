/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's fixed addresses, and the facts that firmware tables and loaders tell.
 *
 *   0000_0000  RAM, 640 KiB; last KiB: EBDA with the MP floating pointer
 *   000a_0000  nothing (VGA)
 *   000c_0000  ROM; from 000f_0000 RSDP, SMBIOS, MP table
 *   0010_0000  RAM up to c000_0000; the ACPI tables at its top
 *   c000_0000  PCI memory window
 *   e000_0000  ECAM, 256 buses
 *   f000_0000  PCI memory window
 *   fec0_0000  IOAPIC; fed0_0000 HPET; fed9_0000 VT-d; fee0_0000 local APIC
 * 1_0000_0000  RAM
 *  then        PCI 64-bit window
 */
#ifndef LHYVE_BOARD_MACHINE_H
#define LHYVE_BOARD_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/pci/pci.h"
#include "x86/cpuid.h"

#define MACHINE_BASE_RAM_END  0x0009fc00ull /* conventional memory ends here */
#define MACHINE_VGA_BASE      0x000a0000ull
#define MACHINE_ROM_BASE      0x000c0000ull
#define MACHINE_TABLES_BASE   0x000f0000ull /* anchors that systems search for */
#define MACHINE_HIGH_BASE     0x00100000ull
#define MACHINE_LOW_RAM_MAX   0xc0000000ull
#define MACHINE_MMIO32_BASE   0xc0000000ull
#define MACHINE_MMIO32_LEN    0x20000000ull
#define MACHINE_ECAM_BASE     0xe0000000ull
#define MACHINE_ECAM_BUSES    256u
#define MACHINE_MMIO32B_BASE  0xf0000000ull
#define MACHINE_MMIO32B_LEN   0x0ec00000ull
#define MACHINE_IOAPIC_BASE   0xfec00000ull
#define MACHINE_HPET_BASE     0xfed00000ull
#define MACHINE_VTD_BASE      0xfed90000ull
#define MACHINE_LAPIC_BASE    0xfee00000ull
#define MACHINE_HIGH_RAM_BASE 0x100000000ull
#define MACHINE_RAM_MIN	      (4 * 1024 * 1024ull)

enum {
	MACHINE_PM_BASE = 0x600,
	MACHINE_PCI_IO_BASE = 0x1000, /* BARs are assigned from here */
	MACHINE_PCI_IO_LEN = 0xf000,
	MACHINE_SCI_IRQ = 9,
	MACHINE_COMS = 4,
	MACHINE_LPC_DEV = 0x1f,
};

/* COM ports as every PC has them. */
struct machine_com {
	uint16_t port;
	uint8_t irq;
};
extern const struct machine_com machine_com[MACHINE_COMS];

struct machine {
	const char *name; /* of the VM */
	const char *uuid; /* text form, or NULL: made from the name */
	struct x86_topology topo;
	const uint32_t *apic_ids;	      /* topo.cpus of them */
	uint32_t cpu_signature, cpu_features; /* CPUID 1 EAX, EDX */
	uint64_t low_ram, high_ram;	      /* bytes from 0 and from 4 GiB */
	struct pci_window mmio64;
	unsigned coms; /* bit n: COM n+1 exists */
	bool hpet;
	uint32_t hpet_block_id;
	bool vtd; /* a remapping unit at MACHINE_VTD_BASE; the next two are set with it */
	bool x2apic;
	unsigned phys_bits; /* of a guest-physical address */
};

/* ---- memory map as the guest is told it ---- */

enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

struct e820_entry {
	uint64_t addr, len;
	uint32_t type;
};

struct e820 {
	unsigned count;
	struct e820_entry entry[16];
};

/* Split memory_bytes over the hole; fill low_ram, high_ram and mmio64. phys_bits: of a guest-physical
 * address. */
LH_MUST_CHECK int machine_layout(struct machine *m, uint64_t memory_bytes, unsigned phys_bits,
				 struct err *err);

struct acpi_image;
/* acpi may be NULL. */
void machine_e820(const struct machine *m, const struct acpi_image *acpi, struct e820 *map);

#endif
