/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fixed-format ACPI tables (ACPI 6.4 ch. 5.2; IA-PC HPET 1.0a 3.2.4; PCI Firmware 3.2
 * 4.1.2) and their placing. Each table is built on its own; then their sizes give the
 * place, and the pointers and checksums go in.
 */
#include "board/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "dev/chipset/acpipm.h"

enum { HEADER_LEN = 36, CHECKSUM_AT = 9, LENGTH_AT = 4, RSDP_LEN = 36, RSDP_V1_LEN = 20, FACS_LEN = 64 };
enum { FADT_FACS = 36, FADT_DSDT = 40, FADT_X_DSDT = 140 };
enum { PAGE = 4096, TABLE_ALIGN = 64 };

#define OEM_ID	   "LHYVE"
#define OEM_TABLE  "LHYVE"
#define CREATOR_ID "LHYV"

static void
begin_table(struct fwbuf *t, const char *signature, uint8_t revision)
{
	fw_put(t, signature, 4);
	fw_u32(t, 0); /* length */
	fw_u8(t, revision);
	fw_u8(t, 0); /* checksum */
	fw_text(t, OEM_ID, 6);
	fw_text(t, OEM_TABLE, 8);
	fw_u32(t, 1);
	fw_put(t, CREATOR_ID, 4);
	fw_u32(t, 1);
}

static void
end_table(struct fwbuf *t)
{
	uint32_t len = (uint32_t)t->len;

	fw_patch(t, LENGTH_AT, &len, 4);
	fw_checksum(t, 0, t->len, CHECKSUM_AT);
}

/* ---- FADT ---- */

enum { GAS_MEMORY = 0, GAS_IO = 1 };

static void
gas(struct fwbuf *t, uint8_t space, uint8_t bits, uint8_t access, uint64_t addr)
{
	fw_u8(t, space);
	fw_u8(t, bits);
	fw_u8(t, 0);
	fw_u8(t, access); /* 1 byte, 2 word, 3 dword */
	fw_u64(t, addr);
}

enum {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_SLP_BUTTON = 1 << 5, /* no fixed sleep button */
	FADT_TMR_VAL_EXT = 1 << 8,
	FADT_RESET_REG_SUP = 1 << 10,
	BOOT_LEGACY_DEVICES = 1 << 0, /* ... and no 8042: bit 1 clear */
	BOOT_NO_VGA = 1 << 2,
	BOOT_NO_ASPM = 1 << 4,
	RESET_PORT = 0xcf9,
	RESET_VALUE = 0x06,
	RTC_CENTURY = 0x32,
};

static void
fadt_legacy(struct fwbuf *t)
{
	fw_u32(t, 0); /* FACS and DSDT, placed later */
	fw_u32(t, 0);
	fw_u8(t, 0);
	fw_u8(t, 0); /* preferred profile: unspecified */
	fw_u16(t, MACHINE_SCI_IRQ);
	fw_u32(t, ACPIPM_APM_PORT);
	fw_u8(t, ACPIPM_ACPI_ENABLE);
	fw_u8(t, ACPIPM_ACPI_DISABLE);
	fw_u8(t, 0); /* S4BIOS */
	fw_u8(t, 0); /* P-states */
	fw_u32(t, MACHINE_PM_BASE + ACPIPM_PM1_EVT);
	fw_u32(t, 0);
	fw_u32(t, MACHINE_PM_BASE + ACPIPM_PM1_CNT);
	fw_u32(t, 0);
	fw_u32(t, 0);
	fw_u32(t, MACHINE_PM_BASE + ACPIPM_PM_TMR);
	fw_u32(t, MACHINE_PM_BASE + ACPIPM_GPE0);
	fw_u32(t, 0);
	fw_u8(t, 4);
	fw_u8(t, 2);
	fw_u8(t, 0);
	fw_u8(t, 4);
	fw_u8(t, ACPIPM_GPE0_LEN);
	fw_u8(t, 0);
	fw_u8(t, 0);
	fw_u8(t, 0);	  /* C-state control */
	fw_u16(t, 0xfff); /* no C2 */
	fw_u16(t, 0xfff); /* no C3 */
	fw_zero(t, 6);	  /* flush, duty */
	fw_u8(t, 0);
	fw_u8(t, 0); /* day and month alarm */
	fw_u8(t, RTC_CENTURY);
	fw_u16(t, BOOT_LEGACY_DEVICES | BOOT_NO_VGA | BOOT_NO_ASPM);
	fw_u8(t, 0);
	fw_u32(t, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP);
}

static void
emit_fadt(struct fwbuf *t)
{
	begin_table(t, "FACP", 6);
	fadt_legacy(t);
	gas(t, GAS_IO, 8, 1, RESET_PORT);
	fw_u8(t, RESET_VALUE);
	fw_u16(t, 0); /* ARM */
	fw_u8(t, 4);  /* minor revision: 6.4 */
	fw_u64(t, 0); /* X_FACS, X_DSDT */
	fw_u64(t, 0);
	gas(t, GAS_IO, 32, 2, MACHINE_PM_BASE + ACPIPM_PM1_EVT);
	gas(t, 0, 0, 0, 0);
	gas(t, GAS_IO, 16, 2, MACHINE_PM_BASE + ACPIPM_PM1_CNT);
	gas(t, 0, 0, 0, 0);
	gas(t, 0, 0, 0, 0);
	gas(t, GAS_IO, 32, 3, MACHINE_PM_BASE + ACPIPM_PM_TMR);
	gas(t, GAS_IO, ACPIPM_GPE0_LEN * 8, 1, MACHINE_PM_BASE + ACPIPM_GPE0);
	gas(t, 0, 0, 0, 0);
	gas(t, 0, 0, 0, 0); /* sleep control and status: hardware-reduced only */
	gas(t, 0, 0, 0, 0);
	fw_text(t, "LHYVE", 8); /* hypervisor vendor */
}

/* ---- MADT ---- */

enum { MADT_ENABLED = 1, XAPIC_MAX_ID = 254, POLARITY_HIGH_LEVEL = 0x000d };

static void
madt_cpu(struct fwbuf *t, uint32_t apic_id, uint32_t uid)
{
	if (apic_id <= XAPIC_MAX_ID && uid <= UINT8_MAX) {
		fw_u8(t, 0);
		fw_u8(t, 8);
		fw_u8(t, (uint8_t)uid);
		fw_u8(t, (uint8_t)apic_id);
		fw_u32(t, MADT_ENABLED);
		return;
	}
	fw_u8(t, 9);
	fw_u8(t, 16);
	fw_u16(t, 0);
	fw_u32(t, apic_id);
	fw_u32(t, MADT_ENABLED);
	fw_u32(t, uid);
}

static void
madt_override(struct fwbuf *t, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	fw_u8(t, 2);
	fw_u8(t, 10);
	fw_u8(t, 0);
	fw_u8(t, irq);
	fw_u32(t, gsi);
	fw_u16(t, flags);
}

/* NMI on LINT1 of every processor. */
static void
madt_nmi(struct fwbuf *t, bool x2apic)
{
	if (x2apic) {
		fw_u8(t, 10);
		fw_u8(t, 12);
		fw_u16(t, 0);
		fw_u32(t, UINT32_MAX);
		fw_u8(t, 1);
		fw_zero(t, 3);
	}
	fw_u8(t, 4);
	fw_u8(t, 6);
	fw_u8(t, 0xff);
	fw_u16(t, 0);
	fw_u8(t, 1);
}

static void
emit_madt(struct fwbuf *t, const struct machine *m)
{
	bool x2apic = false;

	begin_table(t, "APIC", 5);
	fw_u32(t, MACHINE_LAPIC_BASE);
	fw_u32(t, 1); /* PCs have 8259s as well */
	for (unsigned i = 0; i < m->topo.cpus; i++) {
		madt_cpu(t, m->apic_ids[i], i);
		x2apic |= m->apic_ids[i] > XAPIC_MAX_ID || i > UINT8_MAX;
	}
	fw_u8(t, 1);
	fw_u8(t, 12);
	fw_u8(t, 0); /* IOAPIC id */
	fw_u8(t, 0);
	fw_u32(t, MACHINE_IOAPIC_BASE);
	fw_u32(t, 0);
	madt_override(t, 0, 2, 0);
	madt_override(t, MACHINE_SCI_IRQ, MACHINE_SCI_IRQ, POLARITY_HIGH_LEVEL);
	madt_nmi(t, x2apic);
}

/* ---- the small ones ---- */

static void
emit_mcfg(struct fwbuf *t)
{
	begin_table(t, "MCFG", 1);
	fw_u64(t, 0);
	fw_u64(t, MACHINE_ECAM_BASE);
	fw_u16(t, 0);
	fw_u8(t, 0);
	fw_u8(t, MACHINE_ECAM_BUSES - 1);
	fw_u32(t, 0);
}

static void
emit_hpet_table(struct fwbuf *t, const struct machine *m)
{
	begin_table(t, "HPET", 1);
	fw_u32(t, m->hpet_block_id);
	gas(t, GAS_MEMORY, 64, 0, MACHINE_HPET_BASE);
	fw_u8(t, 0);
	fw_u16(t, 128); /* smallest tick in periodic mode that loses nothing */
	fw_u8(t, 0);
}

/* One unit for all functions and the IOAPIC, which has the source id ff:00.0 (VT-d 8.1, 8.3). */
static void
emit_dmar(struct fwbuf *t, const struct machine *m)
{
	enum { INTR_REMAP = 1, X2APIC_OPT_OUT = 2, INCLUDE_PCI_ALL = 1, SCOPE_IOAPIC = 3, IOAPIC_BUS = 0xff };

	begin_table(t, "DMAR", 1);
	fw_u8(t, (uint8_t)(m->phys_bits - 1));
	fw_u8(t, m->x2apic ? INTR_REMAP : INTR_REMAP | X2APIC_OPT_OUT);
	fw_zero(t, 10);
	fw_u16(t, 0); /* DRHD, of 16 bytes and one scope's 8 */
	fw_u16(t, 24);
	fw_u8(t, INCLUDE_PCI_ALL);
	fw_u8(t, 0);
	fw_u16(t, 0);
	fw_u64(t, MACHINE_VTD_BASE);
	fw_u8(t, SCOPE_IOAPIC);
	fw_u8(t, 8);
	fw_u16(t, 0);
	fw_u8(t, 0); /* the IOAPIC's id, as in the MADT */
	fw_u8(t, IOAPIC_BUS);
	fw_u16(t, 0); /* device, function */
}

static void
emit_facs(struct fwbuf *t)
{
	fw_put(t, "FACS", 4);
	fw_u32(t, FACS_LEN);
	fw_zero(t, 24);
	fw_u8(t, 2); /* version */
	fw_zero(t, FACS_LEN - 33);
}

/* ---- placing ---- */

enum { T_FADT, T_DSDT, T_MADT, T_MCFG, T_HPET, T_DMAR, TABLES };

static void
emit_all(struct fwbuf t[TABLES], const struct machine *m)
{
	emit_fadt(&t[T_FADT]);
	begin_table(&t[T_DSDT], "DSDT", 2);
	dsdt_emit(&t[T_DSDT], m);
	emit_madt(&t[T_MADT], m);
	emit_mcfg(&t[T_MCFG]);
	if (m->hpet)
		emit_hpet_table(&t[T_HPET], m);
	if (m->vtd)
		emit_dmar(&t[T_DMAR], m);
}

static void
pad_to(struct fwbuf *b, size_t align)
{
	fw_zero(b, align_up(b->len, align) - b->len);
}

static size_t
xsdt_len(const struct fwbuf t[TABLES])
{
	size_t n = HEADER_LEN;

	for (unsigned i = 0; i < TABLES; i++)
		n += i != T_DSDT && t[i].len != 0 ? 8 : 0;
	return n;
}

/* Offset of table i, all tables following the XSDT. */
static size_t
table_offset(const struct fwbuf t[TABLES], unsigned i)
{
	size_t off = align_up(xsdt_len(t), TABLE_ALIGN);

	for (unsigned j = 0; j < i; j++)
		off += align_up(t[j].len, TABLE_ALIGN);
	return off;
}

static void
link_fadt(struct fwbuf *fadt, uint64_t facs, uint64_t dsdt)
{
	/* Of the two FACS pointers one must be zero; of the DSDT's the long one counts, older systems read
	 * the other. */
	uint32_t facs32 = (uint32_t)facs, dsdt32 = (uint32_t)dsdt;

	fw_patch(fadt, FADT_FACS, &facs32, 4);
	fw_patch(fadt, FADT_DSDT, &dsdt32, 4);
	fw_patch(fadt, FADT_X_DSDT, &dsdt, 8);
}

static void
emit_rsdp(struct fwbuf *r, uint64_t xsdt)
{
	fw_put(r, "RSD PTR ", 8);
	fw_u8(r, 0);
	fw_text(r, OEM_ID, 6);
	fw_u8(r, 2);
	fw_u32(r, 0); /* no RSDT */
	fw_u32(r, RSDP_LEN);
	fw_u64(r, xsdt);
	fw_zero(r, 4);
	fw_checksum(r, 0, RSDP_V1_LEN, 8);
	fw_checksum(r, 0, RSDP_LEN, 32);
}

static void
assemble(struct acpi_image *img, struct fwbuf t[TABLES])
{
	struct fwbuf *out = &img->tables;

	link_fadt(&t[T_FADT], img->facs_gpa, img->gpa + table_offset(t, T_DSDT));
	begin_table(out, "XSDT", 1);
	for (unsigned i = 0; i < TABLES; i++) {
		if (i != T_DSDT && t[i].len != 0)
			fw_u64(out, img->gpa + table_offset(t, i));
	}
	end_table(out);
	for (unsigned i = 0; i < TABLES; i++) {
		pad_to(out, TABLE_ALIGN);
		if (t[i].len == 0)
			continue;
		end_table(&t[i]);
		fw_put(out, t[i].p, t[i].len);
		out->failed |= t[i].failed;
	}
	pad_to(out, PAGE);
	emit_facs(out);
	pad_to(out, PAGE);
	emit_rsdp(&img->rsdp, img->gpa);
}

int
acpi_build(struct acpi_image *img, const struct machine *m, uint64_t top, struct err *err)
{
	struct fwbuf t[TABLES] = {0};
	size_t body;
	bool failed;

	*img = (struct acpi_image){0};
	emit_all(t, m);
	body = align_up(table_offset(t, TABLES), PAGE);
	img->gpa = (top & ~(uint64_t)(PAGE - 1)) - body - PAGE;
	img->facs_gpa = img->gpa + body;
	assemble(img, t);
	failed = img->tables.failed || img->rsdp.failed;
	for (unsigned i = 0; i < TABLES; i++)
		fwbuf_free(&t[i]);
	if (!failed)
		return 0;
	acpi_free(img);
	return err_set(err, ENOMEM, "acpi tables: no memory");
}

void
acpi_free(struct acpi_image *img)
{
	fwbuf_free(&img->tables);
	fwbuf_free(&img->rsdp);
}
