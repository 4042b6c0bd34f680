/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The board's devices and their wires. `makers` is the one list: it makes them in order,
 * and start-up, reset, restore and destruction follow the list that this leaves in
 * b->device.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/evloop.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "board/internal.h"
#include "dev/bus.h"
#include "dev/chipset/acpipm.h"
#include "dev/chipset/fwcfg.h"
#include "dev/chipset/hpet.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/pic.h"
#include "dev/chipset/pit.h"
#include "dev/chipset/resetctl.h"
#include "dev/chipset/rtc.h"
#include "dev/chipset/uart16550.h"
#include "dev/chipset/vtd.h"
#include "dev/console/console.h"
#include "dev/net/netdev.h"
#include "dev/pci/model.h"
#include "dev/pci/pci.h"
#include "dev/pci/q35.h"
#include "dev/test/pctest.h"
#include "mem/gpmap.h"

/* Enter a device into the list, which owns it from here on, also when this fails. */
static int
track(struct board *b, const struct device_ops *ops, void *dev, struct err *err, const char *fmt, unsigned n)
{
	struct device *d;

	if (b->devices == b->device_room) {
		size_t room = b->device_room != 0 ? 2 * b->device_room : 16;

		d = realloc(b->device, room * sizeof(*d));
		if (d == NULL) {
			ops->destroy(dev);
			return err_set(err, ENOMEM, "board: no memory");
		}
		b->device = d;
		b->device_room = room;
	}
	d = &b->device[b->devices++];
	d->ops = ops;
	d->dev = dev;
	snprintf(d->name, sizeof(d->name), fmt, n);
	return 0;
}

/* ---- wires that need more than one device ---- */

static void
wire_eoi(void *ctx, uint8_t vector)
{
	ioapic_eoi(((struct board *)ctx)->ioapic, vector);
}

static int
wire_extint_ack(void *ctx)
{
	return pic_ack(((struct board *)ctx)->pic);
}

/* The 8259s' output: LINT0 of the boot processor, and IOAPIC pin 0. */
static void
wire_intr(void *ctx, unsigned line, bool level)
{
	struct board *b = ctx;

	(void)line;
	lapic_lint0(b->lapic, level);
	ioapic_set_irq(b->ioapic, 0, level);
}

static void
wire_poweroff(void *ctx)
{
	board_end_now(ctx, BOARD_POWEROFF);
}

static void
wire_reset(void *ctx)
{
	board_end_now(ctx, BOARD_REBOOT);
}

static void
wire_exit(void *ctx, unsigned status)
{
	board_end_with(ctx, BOARD_EXIT, status);
}

/* Translated code of the page goes; everything else reads memory each time. */
static void
wire_flush(void *ctx, uint64_t gpa)
{
	gpmap_notify(((struct board *)ctx)->mem, gpa, 4096);
}

static bool
wire_console_tx(void *ctx, uint8_t byte)
{
	return console_tx(ctx, byte);
}

static void
wire_console_room(void *ctx)
{
	console_rx_room(ctx);
}

static size_t
wire_uart_rx(void *ctx, const uint8_t *buf, size_t len)
{
	return uart_rx(ctx, buf, len);
}

static void
wire_uart_tx_ready(void *ctx)
{
	uart_tx_ready(ctx);
}

static void
wire_uart_line(void *ctx, bool connected)
{
	uart_set_modem(ctx, UART_MSR_CTS | UART_MSR_DSR | (connected ? UART_MSR_DCD : 0));
}

/* `~.`: the user is done with this machine. */
static void
wire_escape(void *ctx)
{
	board_end_now(ctx, BOARD_POWEROFF);
}

static struct irq_wire
wire_irq0(struct board *b)
{
	return b->hpet != NULL ? (struct irq_wire){hpet_pit_irq, b->hpet, 0} : lpc_isa_wire(b->lpc, 0);
}

/* The RTC's interrupt sets RTC_STS as well, whether or not it gets through as IRQ 8. */
static void
wire_irq8(void *ctx, unsigned line, bool level)
{
	struct board *b = ctx;
	struct irq_wire isa = lpc_isa_wire(b->lpc, line);

	if (level)
		acpipm_rtc_alarm(b->acpipm);
	if (b->hpet != NULL)
		hpet_rtc_irq(b->hpet, line, level);
	else
		irq_set(&isa, level);
}

/* The PIT is made after the HPET. */
static void
wire_hpet_legacy(void *ctx, unsigned line, bool level)
{
	struct board *b = ctx;

	if (b->pit != NULL)
		pit_hpet_irq0(b->pit, line, level);
}

static bool
wire_remapped(void *ctx, const struct vtd_message *m)
{
	return (m->wide ? lapic_message_x2 : lapic_message)(ctx, m->dest, m->logical, m->mode, m->vector,
							    m->level);
}

static bool
wire_unmapped(void *ctx, uint64_t addr, uint32_t data)
{
	return lapic_msi(ctx, addr, data);
}

/* ---- makers ---- */

static int
make_lapic(struct board *b, struct err *err)
{
	const struct lapic_cfg cfg = {
	    .cpus = b->machine.topo.cpus,
	    .apic_ids = b->apic_ids,
	    .x2apic = b->cfg.x2apic,
	    .maxphyaddr = (uint8_t)b->phys_bits,
	};
	const struct lapic_wires w = {
	    .clock = b->clock,
	    .cpu_ops = &cpus_lapic_ops,
	    .cpu_ctx = b->cpus,
	    .eoi = wire_eoi,
	    .eoi_ctx = b,
	    .extint_ack = wire_extint_ack,
	    .extint_ctx = b,
	    .remote = b->apic != VM_APIC_USER ? &b->lapic_remote : NULL,
	};
	int ret;

	b->lapic = lapic_create(&cfg, &w, err);
	if (b->lapic == NULL)
		return -err->code;
	ret = track(b, &lapic_device_ops, b->lapic, err, "lapic", 0);
	for (unsigned i = 0; i < cfg.cpus && ret == 0; i++)
		ret = track(b, &lapic_cpu_device_ops, lapic_cpu_device(b->lapic, i), err, "lapic.%u", i);
	cpus_set_lapic(b->cpus, b->lapic);
	return ret;
}

static int
make_vtd(struct board *b, struct err *err)
{
	const struct vtd_cfg cfg = {
	    .base = MACHINE_VTD_BASE, .maxphyaddr = (uint8_t)b->phys_bits, .eim = b->cfg.x2apic};
	const struct vtd_wires w = {
	    .mem = b->mem, .message = wire_remapped, .msi = wire_unmapped, .ctx = b->lapic};
	int ret;

	if (!b->cfg.vtd)
		return 0;
	b->vtd = vtd_create(&cfg, &w, err);
	if (b->vtd == NULL)
		return -err->code;
	b->machine.vtd = true;
	b->machine.phys_bits = b->phys_bits;
	b->machine.x2apic = b->cfg.x2apic;
	ret = track(b, &vtd_device_ops, b->vtd, err, "vtd", 0);
	return ret != 0 ? ret : vtd_map(b->vtd, b->mmio, err);
}

static int
make_ioapic(struct board *b, struct err *err)
{
	const struct ioapic_cfg cfg = {.base = MACHINE_IOAPIC_BASE};
	const struct ioapic_wires w = {
	    .message = lapic_message_wire,
	    .ctx = b->lapic,
	    .pins = b->apic == VM_APIC_SPLIT ? board_remote_pins : NULL,
	    .pins_ctx = b,
	    .remote = b->apic == VM_APIC_KERNEL ? &b->ioapic_remote : NULL,
	    .msi = b->vtd != NULL ? vtd_ioapic_msi : NULL,
	    .msi_ctx = b->vtd,
	};
	int ret;

	b->ioapic = ioapic_create(&cfg, &w, err);
	if (b->ioapic == NULL)
		return -err->code;
	ret = track(b, &ioapic_device_ops, b->ioapic, err, "ioapic", 0);
	return ret != 0 ? ret : ioapic_map(b->ioapic, b->mmio, err);
}

static int
make_pic(struct board *b, struct err *err)
{
	const struct pic_wires w = {
	    .intr = {wire_intr, b, 0},
	    .remote = b->apic == VM_APIC_KERNEL ? &b->pic_remote : NULL,
	};
	int ret;

	b->pic = pic_create(&w, err);
	if (b->pic == NULL)
		return -err->code;
	ret = track(b, &pic_device_ops, b->pic, err, "pic", 0);
	return ret != 0 ? ret : pic_map(b->pic, b->pio, err);
}

static int
make_resetctl(struct board *b, struct err *err)
{
	const struct resetctl_wires w = {.reset = wire_reset, .ctx = b};
	int ret;

	b->resetctl = resetctl_create(&w, err);
	if (b->resetctl == NULL)
		return -err->code;
	ret = track(b, &resetctl_device_ops, b->resetctl, err, "resetctl", 0);
	return ret != 0 ? ret : resetctl_map(b->resetctl, b->pio, err);
}

static int
make_lpc(struct board *b, struct err *err)
{
	const struct lpc_cfg cfg = {.pm_base = MACHINE_PM_BASE};
	const struct lpc_wires w = {
	    .pic = {pic_set_irq, b->pic, 0},
	    .ioapic = {ioapic_set_irq, b->ioapic, 0},
	};

	b->lpc = lpc_create(&cfg, &w, err);
	if (b->lpc == NULL)
		return -err->code;
	return track(b, &lpc_device_ops, b->lpc, err, "lpc", 0);
}

static int
make_pci(struct board *b, struct err *err)
{
	struct pci_root_wires w = {
	    .pio = b->pio,
	    .mmio = b->mmio,
	    .pirq = lpc_pirq_wire(b->lpc),
	    .cf9_read = resetctl_cf9_read,
	    .cf9_write = resetctl_cf9_write,
	    .cf9_ctx = b->resetctl,
	    .msi = lapic_msi_wire,
	    .msi_ctx = b->lapic,
	    .irqfd_ctx = b,
	    .mem = b->mem,
	};
	int ret;

	if (b->vtd != NULL)
		w.iommu = (struct pci_iommu_wires){vtd_translate, vtd_pci_msi, b->vtd};
	else if (b->apic != VM_APIC_USER)
		w.irqfd = board_remote_irqfd;
	b->pci = pci_root_create(&w, err);
	if (b->pci == NULL)
		return -err->code;
	b->pci_bus[0] = pci_root_bus(b->pci);
	ret = track(b, &pci_root_device_ops, b->pci, err, "pci", 0);
	return ret != 0 ? ret : pci_root_ecam(b->pci, MACHINE_ECAM_BASE, MACHINE_ECAM_BUSES, err);
}

static int
plug(struct board *b, struct pci_func *f, unsigned dev, struct err *err)
{
	int ret = track(b, &pci_func_device_ops, f, err, "pci.0.%u.0", dev);

	return ret != 0 ? ret : pci_bus_add(pci_root_bus(b->pci), PCI_DEVFN(dev, 0), f, err);
}

static int
make_bridges(struct board *b, struct err *err)
{
	const struct hostbridge_cfg cfg = {.ecam_base = MACHINE_ECAM_BASE, .ecam_buses = MACHINE_ECAM_BUSES};
	struct pci_func *host = hostbridge_create(&cfg, err);
	int ret;

	if (host == NULL)
		return -err->code;
	ret = plug(b, host, 0, err);
	return ret != 0 ? ret : plug(b, lpc_func(b->lpc), MACHINE_LPC_DEV, err);
}

static int
make_hpet(struct board *b, struct err *err)
{
	const struct hpet_cfg cfg = {.base = MACHINE_HPET_BASE};
	const struct hpet_wires w = {
	    .clock = b->clock,
	    .irq0 = lpc_isa_wire(b->lpc, 0),
	    .irq8 = lpc_isa_wire(b->lpc, 8),
	    .gsi = lpc_gsi_wire(b->lpc),
	    .msi = lapic_msi_wire,
	    .msi_ctx = b->lapic,
	    .legacy = {wire_hpet_legacy, b, 0},
	};
	int ret;

	if (!b->cfg.hpet)
		return 0;
	b->hpet = hpet_create(&cfg, &w, err);
	if (b->hpet == NULL)
		return -err->code;
	b->machine.hpet = true;
	b->machine.hpet_block_id = hpet_block_id(b->hpet);
	ret = track(b, &hpet_device_ops, b->hpet, err, "hpet", 0);
	return ret != 0 ? ret : hpet_map(b->hpet, b->mmio, err);
}

static int
make_pit(struct board *b, struct err *err)
{
	const struct pit_wires w = {
	    .clock = b->clock,
	    .irq0 = wire_irq0(b),
	    .discard_late = b->cfg.pit_discard,
	    .remote = b->apic == VM_APIC_KERNEL ? &b->pit_remote : NULL,
	};
	int ret;

	b->pit = pit_create(&w, err);
	if (b->pit == NULL)
		return -err->code;
	ret = track(b, &pit_device_ops, b->pit, err, "pit", 0);
	return ret != 0 ? ret : pit_map(b->pit, b->pio, err);
}

static int32_t
local_offset_s(void)
{
	time_t now = time(NULL);
	struct tm tm;

	return localtime_r(&now, &tm) != NULL ? (int32_t)tm.tm_gmtoff : 0;
}

static int
make_rtc(struct board *b, struct err *err)
{
	const struct rtc_cfg cfg = {
	    .mem_below_4g = b->machine.low_ram,
	    .mem_above_4g = b->machine.high_ram,
	    .cpus = b->machine.topo.cpus,
	    .utc_offset_s = b->cfg.rtc_localtime ? local_offset_s() : 0,
	};
	const struct rtc_wires w = {.clock = b->clock, .irq8 = {wire_irq8, b, 8}};
	struct rtc *rtc = rtc_create(&cfg, &w, err);
	int ret;

	if (rtc == NULL)
		return -err->code;
	ret = track(b, &rtc_device_ops, rtc, err, "rtc", 0);
	return ret != 0 ? ret : rtc_map(rtc, b->pio, err);
}

static int
make_acpipm(struct board *b, struct err *err)
{
	const struct acpipm_wires w = {
	    .clock = b->clock,
	    .sci = lpc_isa_wire(b->lpc, MACHINE_SCI_IRQ),
	    .poweroff = wire_poweroff,
	    .sleep = board_sleep_enter,
	    .wake = board_sleep_wake,
	    .ctx = b,
	};
	int ret;

	b->acpipm = acpipm_create(&w, err);
	if (b->acpipm == NULL)
		return -err->code;
	ret = track(b, &acpipm_device_ops, b->acpipm, err, "acpipm", 0);
	return ret != 0 ? ret : acpipm_map(b->acpipm, b->pio, MACHINE_PM_BASE, err);
}

static struct console *
make_console(struct board *b, unsigned i, struct err *err)
{
	static const enum console_type type[] = {
	    [CONSOLE_STDIO] = CONSOLE_TYPE_STDIO,
	    [CONSOLE_PATH] = CONSOLE_TYPE_PATH,
	    [CONSOLE_TCP] = CONSOLE_TYPE_TCP,
	};
	char name[] = "com1";
	const struct console_cfg cfg = {
	    .type = type[b->cfg.com[i].kind],
	    .name = name,
	    .path = b->cfg.com[i].path,
	    .escape = b->cfg.com[i].kind == CONSOLE_STDIO ? wire_escape : NULL,
	    .escape_ctx = b,
	};

	name[3] = (char)('1' + i);
	return console_create(&cfg, b->loop, err);
}

/* COM1 and COM3 share IRQ 4, COM2 and COM4 IRQ 3. */
static int
make_uarts(struct board *b, struct err *err)
{
	for (unsigned i = 0; i < MACHINE_COMS; i++) {
		struct uart_wires w = {.clock = b->clock};
		int ret;

		if (b->cfg.com[i].kind == CONSOLE_NONE)
			continue;
		b->console[i] = make_console(b, i, err);
		if (b->console[i] == NULL)
			return -err->code;
		w.irq = lpc_isa_wire(b->lpc, machine_com[i].irq + (i >= 2 ? LPC_ISA_SECOND : 0));
		w.line = (struct uart_line){wire_console_tx, wire_console_room, b->console[i]};
		b->uart[i] = uart_create(&w, err);
		if (b->uart[i] == NULL)
			return -err->code;
		ret = track(b, &uart_device_ops, b->uart[i], err, "com%u", i + 1);
		if (ret == 0)
			ret = uart_map(b->uart[i], b->pio, machine_com[i].port, err);
		if (ret != 0)
			return ret;
		b->machine.coms |= 1u << i;
	}
	return 0;
}

/* What one writes to 0x2000+n is a second device on ISA line n, or drives pin n of the IOAPIC. */
static int
make_pc_testdev(struct board *b, struct err *err)
{
	struct pctest_wires w = {.flush = wire_flush, .exit = wire_exit, .poweroff = wire_poweroff, .ctx = b};
	struct pctest *t;
	int ret;

	if (!b->cfg.pc_testdev)
		return 0;
	for (unsigned i = 0; i < PCTEST_GSIS; i++) {
		w.gsi[i] =
		    i < LPC_ISA_SECOND ? lpc_isa_wire(b->lpc, i + LPC_ISA_SECOND) : lpc_gsi_wire(b->lpc);
		if (i >= LPC_ISA_SECOND)
			w.gsi[i].line = i;
	}
	t = pctest_create(&w, err);
	if (t == NULL)
		return -err->code;
	ret = track(b, &pctest_device_ops, t, err, "pc-testdev", 0);
	return ret != 0 ? ret : pctest_map(t, b->pio, b->mmio, err);
}

static int
make_fwcfg(struct board *b, struct err *err)
{
	const struct {
		unsigned key, bytes;
		uint64_t val;
	} fixed[] = {
	    {FWCFG_RAM_SIZE, 8, b->cfg.memory_bytes},	  {FWCFG_NOGRAPHIC, 2, 1},
	    {FWCFG_NB_CPUS, 2, b->machine.topo.cpus},	  {FWCFG_BOOT_MENU, 2, 0},
	    {FWCFG_MAX_CPUS, 2, b->machine.topo.maxcpus},
	};
	struct fwcfg *f;
	int ret;

	if (!b->cfg.fwcfg)
		return 0;
	f = fwcfg_create(b->mem, err);
	if (f == NULL)
		return -err->code;
	ret = track(b, &fwcfg_device_ops, f, err, "fwcfg", 0);
	for (size_t i = 0; i < ARRAY_LEN(fixed) && ret == 0; i++)
		ret = fwcfg_add_int(f, fixed[i].key, fixed[i].val, fixed[i].bytes, err);
	return ret != 0 ? ret : fwcfg_map(f, b->pio, err);
}

/* ---- functions by model ---- */

struct slot {
	struct board *b;
	char where[24]; /* "pci.0.3.0" */
};

static const char *
slot_option(void *ctx, const char *key)
{
	const struct slot *s = ctx;
	char full[96];

	snprintf(full, sizeof(full), "%s.%s", s->where, key);
	return s->b->cfg.option(s->b->cfg.option_ctx, full);
}

static int
slot_own(void *ctx, const struct device_ops *ops, void *dev, const char *part, struct err *err)
{
	const struct slot *s = ctx;
	char name[32];

	snprintf(name, sizeof(name), "%s%s%s", s->where, *part != '\0' ? "." : "", part);
	return track(s->b, ops, dev, err, name, 0);
}

/* The bus behind a bridge that has just been plugged in. */
static int
add_bus(struct board *b, struct slot *s, struct pci_func *bridge, struct err *err)
{
	unsigned number = (unsigned)strtoul(slot_option(s, "bus"), NULL, 0);
	struct pci_bus *bus = pci_func_secondary(bridge);

	if (bus == NULL)
		return err_set(err, ENOMEM, "%s: no memory", s->where);
	if (b->pci_bus[number] != NULL)
		return err_set(err, EEXIST, "%s.bus: another bridge leads to bus %u", s->where, number);
	pci_bus_number(bus, number);
	b->pci_bus[number] = bus;
	return 0;
}

static int
make_function(struct board *b, const struct board_pci *p, struct err *err)
{
	struct slot s = {.b = b};
	const struct pci_model_env env = {
	    .where = s.where,
	    .vm_name = b->cfg.name,
	    .loop = b->loop,
	    .mem = b->mem,
	    .virtio_msix = b->cfg.virtio_msix,
	    .option = slot_option,
	    .own = slot_own,
	    .ctx = &s,
	    .doorbell = board_remote_doorbell,
	    .doorbell_ctx = b,
	    .escape = wire_escape,
	    .escape_ctx = b,
	};
	struct pci_func *f;
	int ret;

	snprintf(s.where, sizeof(s.where), "pci.%u.%u.%u", p->bus, p->slot, p->fn);
	if (b->pci_bus[p->bus] == NULL)
		return err_set(err, EINVAL, "%s: no bridge leads to bus %u (-s 30,pci-bridge,bus=%u)",
			       s.where, p->bus, p->bus);
	f = p->model->create(&env, err);
	if (f == NULL)
		return -err->code;
	ret = pci_bus_add(b->pci_bus[p->bus], PCI_DEVFN(p->slot, p->fn), f, err);
	return ret != 0 || p->model != &pci_bridge_model ? ret : add_bus(b, &s, f, err);
}

static int
make_functions(struct board *b, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < b->cfg.pcis && ret == 0; i++)
		ret = make_function(b, &b->cfg.pci[i], err);
	return ret;
}

void
board_set_link(struct board *b, const char *slot, bool up)
{
	size_t len = strlen(slot);

	for (size_t i = 0; i < b->devices; i++) {
		const struct device *d = &b->device[i];

		if (d->ops == &virtio_net_device_ops && strncmp(d->name, slot, len) == 0 &&
		    d->name[len] == '.')
			virtio_net_set_link(d->dev, up);
	}
}

static int
assign_addresses(struct board *b, struct err *err)
{
	const struct pci_windows w = {
	    .io = {MACHINE_PCI_IO_BASE, MACHINE_PCI_IO_LEN},
	    .mem32 = {MACHINE_MMIO32_BASE, MACHINE_MMIO32_LEN},
	    .mem64 = b->machine.mmio64,
	};

	return pci_assign(b->pci, &w, err);
}

/* In an order in which each finds what it is wired to. */
static int (*const makers[])(struct board *b, struct err *err) = {
    make_lapic, make_vtd,     make_ioapic,     make_pic,       make_resetctl,	 make_lpc,
    make_pci,	make_bridges, make_hpet,       make_pit,       make_acpipm,	 make_rtc,
    make_uarts, make_fwcfg,   make_pc_testdev, make_functions, assign_addresses,
};

int
board_make_devices(struct board *b, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(makers); i++) {
		int ret = makers[i](b, err);

		if (ret != 0)
			return ret;
	}
	return 0;
}

/* The suspend well keeps power in S3, and so do the RTC and what the host end of a console knows. */
static bool
keeps_power(const struct device *d)
{
	return d->ops == &acpipm_device_ops || d->ops == &rtc_device_ops;
}

int
board_power_cycle_devices(struct board *b, struct err *err)
{
	for (size_t i = b->devices; i > 0; i--) {
		const struct device *d = &b->device[i - 1];

		if (!keeps_power(d) && d->ops->stop != NULL)
			d->ops->stop(d->dev);
	}
	for (size_t i = 0; i < b->devices; i++) {
		if (!keeps_power(&b->device[i]))
			b->device[i].ops->reset(b->device[i].dev);
	}
	for (size_t i = 0; i < b->devices; i++) {
		const struct device *d = &b->device[i];

		if (!keeps_power(d) && d->ops->start != NULL)
			d->ops->start(d->dev);
	}
	return assign_addresses(b, err);
}

void
board_wake_devices(struct board *b)
{
	for (size_t i = 0; i < b->devices; i++) {
		if (b->device[i].ops->start != NULL)
			b->device[i].ops->start(b->device[i].dev);
	}
}

void
board_halt_devices(struct board *b)
{
	for (size_t i = b->devices; i > 0; i--) {
		if (b->device[i - 1].ops->stop != NULL)
			b->device[i - 1].ops->stop(b->device[i - 1].dev);
	}
}

int
board_start_devices(struct board *b, struct err *err)
{
	board_wake_devices(b);
	for (unsigned i = 0; i < MACHINE_COMS; i++) {
		const struct console_peer peer = {wire_uart_rx, wire_uart_tx_ready, wire_uart_line,
						  b->uart[i]};
		int ret;

		if (b->console[i] == NULL)
			continue;
		ret = console_start(b->console[i], &peer, err);
		if (ret != 0)
			return ret;
	}
	return 0;
}

void
board_stop_devices(struct board *b)
{
	for (unsigned i = 0; i < MACHINE_COMS; i++) {
		if (b->console[i] != NULL)
			console_stop(b->console[i]);
	}
	if (!b->paused) /* else it is done */
		board_halt_devices(b);
}

void
board_destroy_devices(struct board *b)
{
	while (b->devices > 0) {
		const struct device *d = &b->device[--b->devices];

		d->ops->destroy(d->dev);
	}
	free(b->device);
	for (unsigned i = 0; i < MACHINE_COMS; i++)
		console_destroy(b->console[i]);
}
