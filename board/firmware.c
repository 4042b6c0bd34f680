/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a PC's firmware would have done by the time it starts a boot loader: chipset and
 * processor registers, the BIOS data area, tables in memory. Runs on the board's own
 * thread, before any vCPU exists.
 */
#include <errno.h>

#include "base/util.h"
#include "board/acpi.h"
#include "board/bios.h"
#include "board/internal.h"
#include "board/loader.h"
#include "board/mptable.h"
#include "board/smbios.h"
#include "dev/bus.h"
#include "x86/state.h"

/* ---- memory ---- */

/* Append at the next paragraph of the area that systems search. */
static int
place_anchor(struct board *b, uint64_t *at, const struct fwbuf *data, struct err *err)
{
	uint64_t gpa = align_up(*at, 16);

	if (!range_fits(gpa, data->len, BIOS_STUBS))
		return err_set(err, ENOSPC,
			       "firmware tables: no room below 1 MiB (use fewer CPUs, or x86.mptable=false)");
	boot_poke(b->mem, gpa, data->p, data->len);
	*at = gpa + data->len;
	return 0;
}

static int
place_smbios(struct board *b, uint64_t *at, struct err *err)
{
	struct fwbuf buf = {0};
	int ret = smbios_build(&buf, &b->machine, align_up(*at, 16), err);

	if (ret == 0)
		ret = place_anchor(b, at, &buf, err);
	fwbuf_free(&buf);
	return ret;
}

static int
place_mptable(struct board *b, uint64_t *at, struct err *err)
{
	struct fwbuf buf = {0};
	int ret;

	if (!b->cfg.mptable)
		return 0;
	ret = mptable_build(&buf, &b->machine, align_up(*at, 16), err);
	if (ret == 0)
		ret = place_anchor(b, at, &buf, err);
	fwbuf_free(&buf);
	return ret;
}

/* Anchors and tables. The RSDP comes first, where it is found soonest. */
int
board_firmware_memory(struct board *b, const struct acpi_image *acpi, struct err *err)
{
	uint64_t at = MACHINE_TABLES_BASE;
	int ret = 0;

	bios_fill_memory(b->mem, b->machine.coms);
	if (acpi != NULL) {
		boot_poke(b->mem, acpi->gpa, acpi->tables.p, acpi->tables.len);
		ret = place_anchor(b, &at, &acpi->rsdp, err);
	}
	if (ret == 0)
		ret = place_smbios(b, &at, err);
	if (ret == 0)
		ret = place_mptable(b, &at, err);
	return ret;
}

/* ---- devices ---- */

/*
 * The 8259s with the BIOS's vectors, everything but the timer masked; counter 0 of the 8254 running
 * at 18.2 Hz (Linux's decompressor waits for it to be loaded), counter 1 as for memory
 * refresh; the SCI's line, IRQ 9, level-triggered;
 * the local APIC in virtual wire mode.
 */
void
board_firmware_devices(struct board *b)
{
	static const struct {
		uint16_t port;
		uint8_t val;
	} out[] = {
	    {0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04},  {0x21, 0x01}, {0x21, 0xfa}, /* master: vectors 08-0f */
	    {0xa0, 0x11}, {0xa1, 0x70}, {0xa1, 0x02},  {0xa1, 0x01}, {0xa1, 0xff}, /* slave: 70-77 */
	    {0x43, 0x36}, {0x40, 0x00}, {0x40, 0x00},				   /* square wave, 65536 */
	    {0x43, 0x54}, {0x41, 0x12}, {0x4d1, 0x02},
	};

	for (size_t i = 0; i < ARRAY_LEN(out); i++)
		io_bus_write(b->pio, out[i].port, 1, out[i].val);
	lapic_virtual_wire(b->lapic);
}

/* ---- processors ---- */

enum {
	MTRR_UC = 0,
	MTRR_WP = 5,
	MTRR_WB = 6,
	MTRR_FIXED_ON = 1 << 10,
	MTRR_ON = 1 << 11,
	MTRR_VALID = 1 << 11
};

/* All eight ranges of a fixed-range register. */
static uint64_t
fixed_range(uint8_t type)
{
	return 0x0101010101010101ull * type;
}

/* MTRRs: RAM is write-back, device space (VGA, and from 3 GiB to 4 GiB) uncached, the ROM area
 * write-protected (SDM vol. 3A 12.11). Every processor has the same. */
void
board_firmware_state(struct board *b, struct x86_state *s)
{
	uint64_t address_mask = BIT(b->phys_bits) - 1;

	s->msr.mtrr_def_type = MTRR_ON | MTRR_FIXED_ON | MTRR_WB;
	s->msr.mtrr_fix[0] = fixed_range(MTRR_WB); /* 0 - 7ffff */
	s->msr.mtrr_fix[1] = fixed_range(MTRR_WB); /* 80000 - 9ffff */
	s->msr.mtrr_fix[2] = fixed_range(MTRR_UC); /* a0000 - bffff */
	for (unsigned i = 3; i < ARRAY_LEN(s->msr.mtrr_fix); i++)
		s->msr.mtrr_fix[i] = fixed_range(MTRR_WP);
	s->msr.mtrr_var[0] = MACHINE_LOW_RAM_MAX | MTRR_UC;
	s->msr.mtrr_var[1] = (~(MACHINE_HIGH_RAM_BASE - MACHINE_LOW_RAM_MAX - 1) & address_mask) | MTRR_VALID;
}
