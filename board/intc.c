/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library's interrupt controllers (vmmapi/x86_64/intc.h): the same models that the board has, wired as
 * there: 8259s to LINT0 of the first processor and to pin 0, virtual wire at power-on.
 */
#include "vmmapi/x86_64/intc.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/lapic.h"
#include "dev/chipset/pic.h"

enum { PORT_LIMIT = 0x10000, IOAPIC_BASE = 0xfec00000u, IOAPIC_BYTES = 0x1000 };

struct intc {
	struct intc_cfg cfg;
	struct lapic_set *lapic;
	struct ioapic *ioapic;
	struct pic *pic;
	struct io_bus *pio, *mmio;
};

/* ---- wires ---- */

static void
on_wake(void *ctx, unsigned cpu)
{
	struct intc *c = ctx;

	c->cfg.wake(c->cfg.ctx, cpu);
}

static void
on_init(void *ctx, unsigned cpu)
{
	struct intc *c = ctx;

	c->cfg.init(c->cfg.ctx, cpu);
}

static void
on_sipi(void *ctx, unsigned cpu, uint8_t vector)
{
	struct intc *c = ctx;

	c->cfg.sipi(c->cfg.ctx, cpu, vector);
}

static void
on_nmi(void *ctx, unsigned cpu)
{
	struct intc *c = ctx;

	c->cfg.nmi(c->cfg.ctx, cpu);
}

static void
on_smi(void *ctx, unsigned cpu)
{
	(void)ctx;
	log_guest("cpu%u: SMI ignored", cpu);
}

static const struct lapic_cpu_ops cpu_ops = {
    .wake = on_wake, .init = on_init, .sipi = on_sipi, .nmi = on_nmi, .smi = on_smi};

static void
wire_eoi(void *ctx, uint8_t vector)
{
	ioapic_eoi(((struct intc *)ctx)->ioapic, vector);
}

static int
wire_ack(void *ctx)
{
	return pic_ack(((struct intc *)ctx)->pic);
}

static void
wire_intr(void *ctx, unsigned line, bool level)
{
	struct intc *c = ctx;

	(void)line;
	lapic_lint0(c->lapic, level);
	ioapic_set_irq(c->ioapic, 0, level);
}

/* ---- life ---- */

static int
make(struct intc *c, struct err *err)
{
	const struct lapic_cfg lapic = {
	    .cpus = c->cfg.cpus, .apic_ids = c->cfg.apic_ids, .x2apic = true, .maxphyaddr = c->cfg.phys_bits};
	const struct lapic_wires lw = {.clock = c->cfg.clock,
				       .cpu_ops = &cpu_ops,
				       .cpu_ctx = c,
				       .eoi = wire_eoi,
				       .eoi_ctx = c,
				       .extint_ack = wire_ack,
				       .extint_ctx = c};
	const struct ioapic_cfg io = {.base = IOAPIC_BASE};
	const struct pic_wires pw = {.intr = {wire_intr, c, 0}};

	c->pio = io_bus_create("port", PORT_LIMIT, err);
	c->mmio = c->pio != NULL ? io_bus_create("memory", BIT(c->cfg.phys_bits), err) : NULL;
	c->lapic = c->mmio != NULL ? lapic_create(&lapic, &lw, err) : NULL;
	if (c->lapic != NULL) {
		const struct ioapic_wires iw = {.message = lapic_message_wire, .ctx = c->lapic};

		c->ioapic = ioapic_create(&io, &iw, err);
	}
	c->pic = c->ioapic != NULL ? pic_create(&pw, err) : NULL;
	if (c->pic == NULL || ioapic_map(c->ioapic, c->mmio, err) != 0 || pic_map(c->pic, c->pio, err) != 0)
		return -err->code;
	lapic_virtual_wire(c->lapic);
	return 0;
}

struct intc *
intc_create(const struct intc_cfg *cfg, struct err *err)
{
	struct intc *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(err, ENOMEM, "interrupt controllers: no memory");
		return NULL;
	}
	c->cfg = *cfg;
	if (make(c, err) == 0)
		return c;
	intc_destroy(c);
	return NULL;
}

void
intc_destroy(struct intc *c)
{
	if (c->pic != NULL)
		pic_device_ops.destroy(c->pic);
	if (c->ioapic != NULL)
		ioapic_device_ops.destroy(c->ioapic);
	if (c->lapic != NULL)
		lapic_device_ops.destroy(c->lapic);
	io_bus_destroy(c->pio);
	io_bus_destroy(c->mmio);
	free(c);
}

/* ---- accesses ---- */

bool
intc_mmio(struct intc *c, unsigned cpu, uint64_t gpa, unsigned size, bool write, uint64_t *val)
{
	if (write ? lapic_mmio_write(c->lapic, cpu, gpa, size, *val)
		  : lapic_mmio_read(c->lapic, cpu, gpa, size, val))
		return true;
	if (gpa - IOAPIC_BASE >= IOAPIC_BYTES)
		return false;
	if (write)
		io_bus_write(c->mmio, gpa, size, *val);
	else
		*val = io_bus_read(c->mmio, gpa, size);
	return true;
}

bool
intc_port(struct intc *c, uint16_t port, unsigned size, bool write, uint32_t *val)
{
	if ((port & ~1u) != 0x20 && (port & ~1u) != 0xa0 && (port & ~1u) != 0x4d0)
		return false;
	if (write)
		io_bus_write(c->pio, port, size, *val);
	else
		*val = (uint32_t)io_bus_read(c->pio, port, size);
	return true;
}

bool
intc_msr(struct intc *c, unsigned cpu, uint32_t msr, bool write, uint64_t *val)
{
	if (!lapic_msr_owned(msr))
		return false;
	return (write ? lapic_msr_write(c->lapic, cpu, msr, *val)
		      : lapic_msr_read(c->lapic, cpu, msr, val)) == 0;
}

uint64_t
intc_get_cr8(struct intc *c, unsigned cpu)
{
	return lapic_get_cr8(c->lapic, cpu);
}

void
intc_set_cr8(struct intc *c, unsigned cpu, uint64_t cr8)
{
	lapic_set_cr8(c->lapic, cpu, cr8);
}

void
intc_set_tsc_adjust(struct intc *c, unsigned cpu, uint64_t adjust)
{
	lapic_set_tsc_adjust(c->lapic, cpu, adjust);
}

bool
intc_pending(struct intc *c, unsigned cpu)
{
	return lapic_pending(c->lapic, cpu) != LAPIC_NONE;
}

int
intc_accept(struct intc *c, unsigned cpu)
{
	return lapic_accept(c->lapic, cpu);
}

void
intc_init_reset(struct intc *c, unsigned cpu)
{
	lapic_init_reset(c->lapic, cpu);
}

/* ---- interrupts ---- */

void
intc_local_irq(struct intc *c, unsigned cpu, uint8_t vector)
{
	(void)lapic_message(c->lapic, lapic_id(c->lapic, cpu), false, 0, vector, false);
}

void
intc_msi(struct intc *c, uint64_t addr, uint32_t data)
{
	lapic_msi(c->lapic, addr, data);
}

void
intc_ioapic(struct intc *c, unsigned pin, bool level)
{
	ioapic_set_irq(c->ioapic, pin, level);
}

void
intc_isa(struct intc *c, unsigned line, bool level)
{
	pic_set_irq(c->pic, line, level);
}
