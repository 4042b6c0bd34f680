/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers in comments are sections of the MP specification 1.4. */
#include "board/mptable.h"

#include <errno.h>

#include "base/util.h"

enum {
	FLOATING_LEN = 16,
	HEADER_LEN = 44,
	XAPIC_MAX_ID = 254,
	IOAPIC_ID = 0,
	APIC_VERSION = 0x14,
	IOAPIC_VERSION = 0x20
};
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL };
enum { BUS_PCI, BUS_ISA };
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTINT };
enum { FLAGS_CONFORM = 0, FLAGS_LOW_LEVEL = 0x0f, FLAGS_HIGH_LEVEL = 0x0d };
enum { CPU_ENABLED = 1, CPU_BSP = 2, PCI_SLOTS = 32, PCI_PINS = 4, PIRQ_PIN = 16 };

static void
cpu(struct fwbuf *out, const struct machine *m, unsigned i)
{
	fw_u8(out, ENTRY_CPU);
	fw_u8(out, (uint8_t)m->apic_ids[i]);
	fw_u8(out, APIC_VERSION);
	fw_u8(out, CPU_ENABLED | (i == 0 ? CPU_BSP : 0));
	fw_u32(out, m->cpu_signature);
	fw_u32(out, m->cpu_features);
	fw_zero(out, 8);
}

static void
bus(struct fwbuf *out, uint8_t id, const char *type)
{
	fw_u8(out, ENTRY_BUS);
	fw_u8(out, id);
	fw_text(out, type, 6);
}

static void
ioapic(struct fwbuf *out)
{
	fw_u8(out, ENTRY_IOAPIC);
	fw_u8(out, IOAPIC_ID);
	fw_u8(out, IOAPIC_VERSION);
	fw_u8(out, 1);
	fw_u32(out, MACHINE_IOAPIC_BASE);
}

static void
interrupt(struct fwbuf *out, uint8_t entry, uint8_t type, uint16_t flags, uint8_t bus_id, uint8_t irq,
	  uint8_t dest, uint8_t pin)
{
	fw_u8(out, entry);
	fw_u8(out, type);
	fw_u16(out, flags);
	fw_u8(out, bus_id);
	fw_u8(out, irq);
	fw_u8(out, dest);
	fw_u8(out, pin);
}

/* ISA lines as the LPC bridge wires them, then PCI pins of the root bus (D.3). Returns how many. */
static unsigned
interrupts(struct fwbuf *out)
{
	unsigned n = 0;

	for (uint8_t irq = 0; irq < 16; irq++) {
		if (irq == 2)
			continue;
		interrupt(out, ENTRY_INTERRUPT, INT_VECTORED,
			  irq == MACHINE_SCI_IRQ ? FLAGS_HIGH_LEVEL : FLAGS_CONFORM, BUS_ISA, irq, IOAPIC_ID,
			  irq == 0 ? 2 : irq);
		n++;
	}
	interrupt(out, ENTRY_INTERRUPT, INT_EXTINT, FLAGS_CONFORM, BUS_ISA, 0, IOAPIC_ID, 0);
	n++;
	for (unsigned i = 0; i < PCI_SLOTS * PCI_PINS; i++) {
		unsigned dev = i / PCI_PINS, pin = i % PCI_PINS;

		interrupt(out, ENTRY_INTERRUPT, INT_VECTORED, FLAGS_LOW_LEVEL, BUS_PCI,
			  (uint8_t)(dev << 2 | pin), IOAPIC_ID, (uint8_t)(PIRQ_PIN + pci_pirq(dev, pin)));
		n++;
	}
	interrupt(out, ENTRY_LOCAL, INT_EXTINT, FLAGS_CONFORM, BUS_ISA, 0, 0xff, 0);
	interrupt(out, ENTRY_LOCAL, INT_NMI, FLAGS_CONFORM, BUS_ISA, 0, 0xff, 1);
	return n + 2;
}

static void
floating_pointer(struct fwbuf *out, uint64_t gpa)
{
	size_t at = out->len;

	fw_put(out, "_MP_", 4);
	fw_u32(out, (uint32_t)(gpa + FLOATING_LEN));
	fw_u8(out, 1); /* paragraphs */
	fw_u8(out, 4);
	fw_u8(out, 0);
	fw_zero(out, 5); /* a configuration table is there; no IMCR: virtual wire mode */
	fw_checksum(out, at, FLOATING_LEN, at + 10);
}

int
mptable_build(struct fwbuf *out, const struct machine *m, uint64_t gpa, struct err *err)
{
	size_t at;
	uint16_t len, entries;

	for (unsigned i = 0; i < m->topo.cpus; i++) {
		if (m->apic_ids[i] > XAPIC_MAX_ID)
			return err_set(err, ERANGE,
				       "mptable: processor %u has APIC id %u, the table ends at %u (use "
				       "x86.mptable=false)",
				       i, m->apic_ids[i], XAPIC_MAX_ID);
	}
	floating_pointer(out, gpa);
	at = out->len;
	fw_put(out, "PCMP", 4);
	fw_u16(out, 0); /* length */
	fw_u8(out, 4);
	fw_u8(out, 0); /* checksum */
	fw_text(out, "LHYVE", 8);
	fw_text(out, "Virtual PC", 12);
	fw_zero(out, 6);
	fw_u16(out, 0); /* entries */
	fw_u32(out, MACHINE_LAPIC_BASE);
	fw_zero(out, 4);
	for (unsigned i = 0; i < m->topo.cpus; i++)
		cpu(out, m, i);
	bus(out, BUS_PCI, "PCI");
	bus(out, BUS_ISA, "ISA");
	ioapic(out);
	entries = (uint16_t)(m->topo.cpus + 3 + interrupts(out));
	len = (uint16_t)(out->len - at);
	fw_patch(out, at + 4, &len, 2);
	fw_patch(out, at + 34, &entries, 2);
	fw_checksum(out, at, len, at + 7);
	return out->failed ? err_set(err, ENOMEM, "mptable: no memory") : 0;
}
