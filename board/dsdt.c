/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The DSDT: host bridge with windows, _PRT and _OSC, interrupt links, LPC devices,
 * processors, S5. What each object must hold is in ACPI 6.4 ch. 5.7, 6 and 9, PCI
 * Firmware 3.2 ch. 4.
 */
#include <stdio.h>

#include "base/util.h"
#include "board/acpi.h"
#include "board/aml.h"
#include "dev/chipset/acpipm.h"

enum { PCI_SLOTS = 32, PCI_PINS = 4, PIRQS = 8, PIRQ_GSI = 16, PIRQ_DISABLED = 0x80 };

/* ISA lines that a link may be routed to: 3-7, 9-12, 14, 15 are legal; these are commonly free. */
#define LINK_IRQS 0x0c20u /* 5, 10, 11 */

static const char *const pirq_field[PIRQS] = {"PRQA", "PRQB", "PRQC", "PRQD", "PRQE", "PRQF", "PRQG", "PRQH"};
static const char *const link_name[PIRQS] = {"LNKA", "LNKB", "LNKC", "LNKD", "LNKE", "LNKF", "LNKG", "LNKH"};

static void
name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

static void
name_hid(struct aml *a, const char *id)
{
	aml_name(a, "_HID");
	aml_eisaid(a, id);
}

/* ---- sleep states and interrupt mode ---- */

/* {PM1a_CNT.SLP_TYP, PM1b_CNT.SLP_TYP, reserved, reserved} (7.4.2) */
static void
sleep_state(struct aml *a, const char *name, unsigned typ)
{
	aml_name(a, name);
	aml_package_begin(a, 4);
	aml_int(a, typ);
	aml_int(a, typ);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}

static void
emit_root(struct aml *a)
{
	aml_name(a, "PICM");
	aml_int(a, 0);
	aml_method_begin(a, "_PIC", 1, false);
	aml_op(a, AML_STORE);
	aml_arg(a, 0);
	aml_path(a, "PICM");
	aml_end(a);

	sleep_state(a, "_S3", ACPIPM_SLP_TYP_S3);
	sleep_state(a, "_S5", ACPIPM_SLP_TYP_S5);
}

/* ---- processors ---- */

static void
emit_processors(struct aml *a, const struct machine *m)
{
	for (unsigned i = 0; i < m->topo.cpus; i++) {
		char name[8];

		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device_begin(a, name);
		aml_name(a, "_HID");
		aml_string(a, "ACPI0007");
		name_int(a, "_UID", i);
		aml_end(a);
	}
}

/* ---- PCI host bridge ---- */

static void
emit_windows(struct aml *a, const struct machine *m)
{
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_bus_numbers(a, 0, MACHINE_ECAM_BUSES - 1);
	aml_res_io(a, 0xcf8, 8);
	aml_res_io_window(a, 0, 0xcf7);
	aml_res_io_window(a, 0xd00, 0xffff);
	aml_res_memory32_window(a, MACHINE_MMIO32_BASE, MACHINE_MMIO32_BASE + MACHINE_MMIO32_LEN - 1);
	aml_res_memory32_window(a, MACHINE_MMIO32B_BASE, MACHINE_MMIO32B_BASE + MACHINE_MMIO32B_LEN - 1);
	if (m->mmio64.len != 0)
		aml_res_memory64_window(a, m->mmio64.base, m->mmio64.base + m->mmio64.len - 1);
	aml_resources_end(a);
}

/* _PRT: {address, pin, source, index}. In APIC mode the source is a GSI, else a link device. */
static void
emit_routes(struct aml *a, const char *name, bool apic)
{
	aml_name(a, name);
	aml_package_begin(a, PCI_SLOTS * PCI_PINS);
	for (unsigned i = 0; i < PCI_SLOTS * PCI_PINS; i++) {
		unsigned dev = i / PCI_PINS, pin = i % PCI_PINS, pirq = pci_pirq(dev, pin);

		aml_package_begin(a, 4);
		aml_int(a, dev << 16 | 0xffff);
		aml_int(a, pin);
		if (apic)
			aml_int(a, 0);
		else
			aml_path(a, link_name[pirq]);
		aml_int(a, apic ? PIRQ_GSI + pirq : 0);
		aml_end(a);
	}
	aml_end(a);
}

static void
emit_prt(struct aml *a)
{
	emit_routes(a, "PRTA", true);
	emit_routes(a, "PRTP", false);
	aml_method_begin(a, "_PRT", 0, false);
	aml_if_begin(a);
	aml_path(a, "PICM");
	aml_op(a, AML_RETURN);
	aml_path(a, "PRTA");
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_path(a, "PRTP");
	aml_end(a);
}

/* field &= mask or |= bits, both as DWORD fields of _OSC's buffer. */
static void
update(struct aml *a, uint8_t op, const char *field, uint64_t v)
{
	aml_op(a, op);
	aml_path(a, field);
	aml_int(a, v);
	aml_path(a, field);
}

static void
dword_field(struct aml *a, unsigned off, const char *name)
{
	aml_op(a, AML_CREATE_DWORD_FIELD);
	aml_arg(a, 3);
	aml_int(a, off);
	aml_path(a, name);
}

/*
 * The operating system takes what it asks for of PCIe capability structure control and
 * native hot-plug, PME and AER; nothing here is kept by firmware. (PCI Firmware 3.2 4.5.1.)
 */
static void
emit_osc(struct aml *a)
{
	aml_method_begin(a, "_OSC", 4, true);
	dword_field(a, 0, "CDW1");
	aml_if_begin(a);
	aml_op(a, AML_LEQUAL);
	aml_arg(a, 0);
	aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	dword_field(a, 8, "CDW3");
	update(a, AML_AND, "CDW3", 0x1f);
	aml_if_begin(a);
	aml_op(a, AML_LNOT);
	aml_op(a, AML_LEQUAL);
	aml_arg(a, 1);
	aml_int(a, 1);
	update(a, AML_OR, "CDW1", 0x08); /* unknown revision */
	aml_end(a);
	aml_end(a);
	aml_else_begin(a);
	update(a, AML_OR, "CDW1", 0x04); /* unknown UUID */
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_arg(a, 3);
	aml_end(a);
}

/* ---- LPC devices ---- */

static void
emit_isa(struct aml *a, const char *name, const char *hid, uint16_t port, uint8_t len, unsigned irq)
{
	aml_device_begin(a, name);
	name_hid(a, hid);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_io(a, port, len);
	if (irq != 0 || port == 0x40)
		aml_res_irq(a, (uint16_t)BIT(irq));
	aml_resources_end(a);
	aml_end(a);
}

static void
emit_pic(struct aml *a)
{
	aml_device_begin(a, "PIC");
	name_hid(a, "PNP0000");
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_io(a, 0x20, 2);
	aml_res_io(a, 0xa0, 2);
	aml_res_io(a, 0x4d0, 2);
	aml_res_irq(a, (uint16_t)BIT(2));
	aml_resources_end(a);
	aml_end(a);
}

/* Ports that belong to the chipset itself. */
static void
emit_chipset_ports(struct aml *a)
{
	static const struct {
		uint16_t port;
		uint8_t len;
	} io[] = {{0x92, 1}, {ACPIPM_APM_PORT, 2}, {MACHINE_PM_BASE, ACPIPM_LEN}};

	aml_device_begin(a, "SYSR");
	name_hid(a, "PNP0C02");
	name_int(a, "_UID", 1);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	for (size_t i = 0; i < ARRAY_LEN(io); i++)
		aml_res_io(a, io[i].port, io[i].len);
	aml_resources_end(a);
	aml_end(a);
}

static void
emit_coms(struct aml *a, const struct machine *m)
{
	for (unsigned i = 0; i < MACHINE_COMS; i++) {
		char name[8];

		if ((m->coms >> i & 1) == 0)
			continue;
		snprintf(name, sizeof(name), "COM%u", i + 1);
		aml_device_begin(a, name);
		name_hid(a, "PNP0501");
		name_int(a, "_UID", i + 1);
		aml_name(a, "_CRS");
		aml_resources_begin(a);
		aml_res_io(a, machine_com[i].port, 8);
		aml_res_irq(a, (uint16_t)BIT(machine_com[i].irq));
		aml_resources_end(a);
		aml_end(a);
	}
}

static void
emit_lpc(struct aml *a, const struct machine *m)
{
	aml_device_begin(a, "LPC");
	name_int(a, "_ADR", MACHINE_LPC_DEV << 16);
	aml_region(a, "PIRQ", AML_PCI_CONFIG, 0x60, 12);
	aml_field_begin(a, "PIRQ", AML_BYTE_ACC);
	for (unsigned i = 0; i < PIRQS; i++) {
		if (i == 4)
			aml_field_unit(a, NULL, 32); /* 0x64: SERIRQ */
		aml_field_unit(a, pirq_field[i], 8);
	}
	aml_end(a);
	emit_pic(a);
	emit_isa(a, "TIMR", "PNP0100", 0x40, 4, 0);
	emit_isa(a, "RTC", "PNP0B00", 0x70, 4, 8);
	emit_isa(a, "SPKR", "PNP0800", 0x61, 1, 0);
	emit_coms(a, m);
	emit_chipset_ports(a);
	aml_end(a);
}

static void
emit_pci(struct aml *a, const struct machine *m)
{
	aml_device_begin(a, "PCI0");
	name_hid(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisaid(a, "PNP0A03");
	name_int(a, "_UID", 0);
	name_int(a, "_BBN", 0);
	name_int(a, "_SEG", 0);
	emit_windows(a, m);
	emit_osc(a);
	emit_prt(a);
	emit_lpc(a, m);
	aml_end(a);
}

/* ---- interrupt links: PIRQ to ISA line, used with the PICs only (6.2.13) ---- */

static void
link_crs(struct aml *a, const char *field)
{
	aml_name(a, "BUF0");
	aml_resources_begin(a);
	aml_res_irq_level(a, 0);
	aml_resources_end(a);
	aml_method_begin(a, "_CRS", 0, true);
	aml_op(a, AML_CREATE_WORD_FIELD);
	aml_path(a, "BUF0");
	aml_int(a, 1);
	aml_path(a, "IRQM");
	aml_op(a, AML_STORE);
	aml_int(a, 0);
	aml_path(a, "IRQM");
	aml_if_begin(a);
	aml_op(a, AML_LNOT);
	aml_op(a, AML_AND);
	aml_path(a, field);
	aml_int(a, PIRQ_DISABLED);
	aml_no_target(a);
	aml_op(a, AML_SHIFT_LEFT);
	aml_int(a, 1);
	aml_op(a, AML_AND);
	aml_path(a, field);
	aml_int(a, 0x0f);
	aml_no_target(a);
	aml_path(a, "IRQM");
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_path(a, "BUF0");
	aml_end(a);
}

static void
link_srs(struct aml *a, const char *field)
{
	aml_method_begin(a, "_SRS", 1, true);
	aml_op(a, AML_CREATE_WORD_FIELD);
	aml_arg(a, 0);
	aml_int(a, 1);
	aml_path(a, "IRQM");
	aml_op(a, AML_FIND_SET_RIGHT_BIT);
	aml_path(a, "IRQM");
	aml_local(a, 0);
	aml_if_begin(a);
	aml_local(a, 0);
	aml_op(a, AML_SUBTRACT);
	aml_local(a, 0);
	aml_int(a, 1);
	aml_path(a, field);
	aml_end(a);
	aml_end(a);
}

/* _STA: present; enabled while routed. */
static void
link_sta(struct aml *a, const char *field)
{
	aml_method_begin(a, "_STA", 0, false);
	aml_if_begin(a);
	aml_op(a, AML_AND);
	aml_path(a, field);
	aml_int(a, PIRQ_DISABLED);
	aml_no_target(a);
	aml_op(a, AML_RETURN);
	aml_int(a, 0x09);
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_int(a, 0x0b);
	aml_end(a);
}

static void
emit_links(struct aml *a)
{
	for (unsigned i = 0; i < PIRQS; i++) {
		char field[32];

		snprintf(field, sizeof(field), "\\_SB.PCI0.LPC.%s", pirq_field[i]);
		aml_device_begin(a, link_name[i]);
		name_hid(a, "PNP0C0F");
		name_int(a, "_UID", i + 1);
		link_sta(a, field);
		aml_method_begin(a, "_DIS", 0, false);
		update(a, AML_OR, field, PIRQ_DISABLED);
		aml_end(a);
		aml_name(a, "_PRS");
		aml_resources_begin(a);
		aml_res_irq_level(a, LINK_IRQS);
		aml_resources_end(a);
		link_crs(a, field);
		link_srs(a, field);
		aml_end(a);
	}
}

/* ---- memory that belongs to the board ---- */

static void
emit_motherboard(struct aml *a)
{
	aml_device_begin(a, "MRES");
	name_hid(a, "PNP0C02");
	name_int(a, "_UID", 0);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_memory32(a, MACHINE_ECAM_BASE, MACHINE_ECAM_BUSES << 20);
	aml_res_memory32(a, MACHINE_LAPIC_BASE, 0x100000);
	aml_resources_end(a);
	aml_end(a);
}

static void
emit_hpet(struct aml *a)
{
	aml_device_begin(a, "HPET");
	name_hid(a, "PNP0103");
	name_int(a, "_UID", 0);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_res_memory32(a, MACHINE_HPET_BASE, 0x400);
	aml_resources_end(a);
	aml_end(a);
}

void
dsdt_emit(struct fwbuf *out, const struct machine *m)
{
	struct aml a;

	aml_init(&a, out);
	emit_root(&a);
	aml_scope_begin(&a, "\\_SB");
	emit_processors(&a, m);
	emit_pci(&a, m);
	emit_links(&a);
	emit_motherboard(&a);
	if (m->hpet)
		emit_hpet(&a);
	aml_end(&a);
	LH_ASSERT(a.depth == 0);
}
