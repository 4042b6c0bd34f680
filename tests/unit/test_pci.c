/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI: both configuration mechanisms, BARs on real buses, capabilities, INTx, address assignment, LPC
 * steering. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "dev/bus.h"
#include "dev/pci/pci.h"
#include "dev/pci/q35.h"

#define ECAM 0xe0000000ull

struct rig {
	struct io_bus *pio, *mmio;
	struct pci_root *root;
	uint8_t pirq; /* levels */
	unsigned pirq_edges;
	uint8_t cf9;
	uint16_t pic;
	uint32_t ioapic;
};

static void
rig_pirq(void *ctx, unsigned line, bool level)
{
	struct rig *r = ctx;

	r->pirq_edges++;
	assert_int_not_equal(r->pirq >> line & 1, level);
	r->pirq ^= (uint8_t)(1u << line);
}

static void
rig_pic(void *ctx, unsigned line, bool level)
{
	struct rig *r = ctx;

	assert_true(line < 16);
	r->pic = (uint16_t)(level ? r->pic | 1u << line : r->pic & ~(1u << line));
}

static void
rig_ioapic(void *ctx, unsigned line, bool level)
{
	struct rig *r = ctx;

	assert_true(line < 24);
	r->ioapic = level ? r->ioapic | 1u << line : r->ioapic & ~(1u << line);
}

static uint8_t
rig_cf9_read(void *ctx)
{
	return ((struct rig *)ctx)->cf9;
}

static void
rig_cf9_write(void *ctx, uint8_t val)
{
	((struct rig *)ctx)->cf9 = val;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err = {0};
	struct pci_root_wires w;

	r->pio = io_bus_create("pio", 0x10000, &err);
	r->mmio = io_bus_create("mmio", 1ull << 46, &err);
	w = (struct pci_root_wires){
	    .pio = r->pio,
	    .mmio = r->mmio,
	    .pirq = {rig_pirq, r, 0},
	    .cf9_read = rig_cf9_read,
	    .cf9_write = rig_cf9_write,
	    .cf9_ctx = r,
	};
	r->root = pci_root_create(&w, &err);
	if (r->root == NULL || pci_root_ecam(r->root, ECAM, 256, &err) != 0)
		return -1;
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	pci_root_device_ops.destroy(r->root);
	io_bus_destroy(r->pio);
	io_bus_destroy(r->mmio);
	free(r);
	return 0;
}

/* ---- a function with things to look at ---- */

struct toy {
	struct pci_func *f;
	uint32_t reg[4];
	unsigned writes, last_off, last_size;
};

static uint64_t
toy_read(void *dev, uint64_t off, unsigned size)
{
	struct toy *t = dev;
	uint32_t v = t->reg[off / 4 % 4] >> (8 * (off & 3));

	return v & size_mask(size);
}

static void
toy_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct toy *t = dev;

	(void)size;
	t->reg[off / 4 % 4] = (uint32_t)val;
}

static void
toy_cfg_written(void *dev, unsigned off, unsigned size)
{
	struct toy *t = dev;

	t->writes++;
	t->last_off = off;
	t->last_size = size;
}

static void
toy_cfg_reading(void *dev, unsigned off, unsigned size)
{
	struct toy *t = dev;

	if (off <= 0x80 && off + size > 0x80)
		pci_func_put(t->f, 0x80, 1, pci_func_get(t->f, 0x80, 1) + 1);
}

static const struct pci_func_ops toy_ops = {.cfg_written = toy_cfg_written, .cfg_reading = toy_cfg_reading};

static const struct pci_bar bar_io = {PCI_BAR_IO, 32, IO_ANY, toy_read, toy_write};
static const struct pci_bar bar_mem = {PCI_BAR_MEM32, 4096, IO_ANY, toy_read, toy_write};
static const struct pci_bar bar_big = {PCI_BAR_MEM64_PREFETCH, 1ull << 33, IO_ANY, toy_read, toy_write};

static void
toy_make(struct toy *t, uint8_t pin, bool bridge)
{
	const struct pci_func_cfg cfg = {
	    .name = "toy",
	    .vendor = 0x1234,
	    .device = 0x5678,
	    .subsys_vendor = 0x9abc,
	    .subsys = 0xdef0,
	    .revision = 3,
	    .class_code = bridge ? 0x060400 : 0x020000,
	    .intr_pin = pin,
	    .bridge = bridge,
	};
	struct err err = {0};

	*t = (struct toy){0};
	t->f = pci_func_create(&cfg, &toy_ops, t, &err);
	assert_non_null(t->f);
}

static void
toy_plug(struct rig *r, struct toy *t, unsigned devfn)
{
	struct err err = {0};

	assert_int_equal(pci_bus_add(pci_root_bus(r->root), devfn, t->f, &err), 0);
}

static void
toy_gone(struct toy *t)
{
	pci_func_device_ops.destroy(t->f);
}

static uint32_t
cfg1_read(struct rig *r, unsigned bus, unsigned devfn, unsigned off, unsigned size)
{
	io_bus_write(r->pio, 0xcf8, 4, 0x80000000u | bus << 16 | devfn << 8 | (off & 0xfc));
	return (uint32_t)io_bus_read(r->pio, 0xcfc + (off & 3), size);
}

static void
cfg1_write(struct rig *r, unsigned bus, unsigned devfn, unsigned off, unsigned size, uint32_t val)
{
	io_bus_write(r->pio, 0xcf8, 4, 0x80000000u | bus << 16 | devfn << 8 | (off & 0xfc));
	io_bus_write(r->pio, 0xcfc + (off & 3), size, val);
}

static uint32_t
ecam_read(struct rig *r, unsigned bus, unsigned devfn, unsigned off, unsigned size)
{
	return (uint32_t)io_bus_read(r->mmio, ECAM + (bus << 20 | devfn << 12 | off), size);
}

/* ---- configuration ---- */

static void
test_address_register(void **state)
{
	struct rig *r = *state;

	io_bus_write(r->pio, 0xcf8, 4, 0xffffffff);
	assert_int_equal(io_bus_read(r->pio, 0xcf8, 4), 0x80fffffc);
	/* Smaller writes do not reach it: Linux writes a byte to 0xcfb first, resets go to 0xcf9. */
	io_bus_write(r->pio, 0xcfb, 1, 0x01);
	io_bus_write(r->pio, 0xcf8, 2, 0);
	io_bus_write(r->pio, 0xcf9, 1, 0x06);
	assert_int_equal(io_bus_read(r->pio, 0xcf8, 4), 0x80fffffc);
	assert_int_equal(r->cf9, 0x06);
	assert_int_equal(io_bus_read(r->pio, 0xcf9, 1), 0x06);
	assert_int_equal(io_bus_read(r->pio, 0xcf8, 1), 0xff);
	assert_int_equal(io_bus_read(r->pio, 0xcfa, 2), 0xffff);
	/* Enable bit off, nobody home. */
	io_bus_write(r->pio, 0xcf8, 4, 0);
	assert_int_equal(io_bus_read(r->pio, 0xcfc, 4), 0xffffffff);
	assert_int_equal(cfg1_read(r, 0, 8, 0, 2), 0xffff);
	assert_int_equal(ecam_read(r, 200, 8, 0, 4), 0xffffffff);
	cfg1_write(r, 3, 8, 0, 4, 0);
}

static void
test_header(void **state)
{
	struct rig *r = *state;
	struct toy t, t2;

	toy_make(&t, 2, false);
	toy_plug(r, &t, PCI_DEVFN(5, 0));
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0, 4), 0x56781234);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 8, 4), 0x02000003);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0x2c, 4), 0xdef09abc);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0x3d, 1), 2);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0x0e, 1), 0);
	toy_make(&t2, 0, false);
	toy_plug(r, &t2, PCI_DEVFN(5, 3));
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0x0e, 1), 0x80);
	/* Identity is read-only, COMMAND and the interrupt line are not. */
	cfg1_write(r, 0, PCI_DEVFN(5, 0), 0, 4, 0);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0, 4), 0x56781234);
	cfg1_write(r, 0, PCI_DEVFN(5, 0), 4, 2, 0xffff);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 4, 2), 0x0547);
	assert_true(pci_func_bus_master(t.f));
	cfg1_write(r, 0, PCI_DEVFN(5, 0), 4, 1, 0);
	assert_false(pci_func_bus_master(t.f));
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 5, 1), 0x05);
	cfg1_write(r, 0, PCI_DEVFN(5, 0), 0x3c, 1, 0x0b);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0x3c, 4), 0x0000020b);
	toy_gone(&t2);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0x0e, 1), 0);
	toy_gone(&t);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(5, 0), 0, 4), 0xffffffff);
}

static void
test_mechanisms_agree(void **state)
{
	struct rig *r = *state;
	struct toy t;

	toy_make(&t, 1, false);
	for (unsigned off = 0x40; off < 0x100; off++)
		pci_func_set(t.f, off, 1, off, 0xff);
	for (unsigned off = 0x100; off < 0x1000; off += 4)
		pci_func_set(t.f, off, 4, off * 0x10001, 0);
	toy_plug(r, &t, PCI_DEVFN(31, 7));
	for (unsigned size = 1; size <= 4; size *= 2) {
		for (unsigned off = 0; off < 0x80; off += size)
			assert_int_equal(cfg1_read(r, 0, 0xff, off, size), ecam_read(r, 0, 0xff, off, size));
	}
	assert_int_equal(ecam_read(r, 0, 0xff, 0xffc, 4), 0xffc * 0x10001);
	assert_int_equal(ecam_read(r, 0, 0xff, 0xffe, 2), 0xffc);
	cfg1_write(r, 0, 0xff, 0x52, 1, 0xaa);
	assert_int_equal(ecam_read(r, 0, 0xff, 0x50, 4), 0x53aa5150);
	io_bus_write(r->mmio, ECAM + (0xffu << 12) + 0x54, 4, 0x11223344);
	assert_int_equal(cfg1_read(r, 0, 0xff, 0x56, 2), 0x1122);
	/* Beyond what the accesses may be. */
	assert_int_equal(pci_cfg_read(r->root, 0, 0xff, 0x42, 4), 0xffffffff);
	assert_int_equal(pci_cfg_read(r->root, 0, 0xff, 0x1000, 4), 0xffffffff);
	pci_cfg_write(r->root, 0, 0xff, 0xfff, 2, 0);
	toy_gone(&t);
}

static void
test_device_hooks(void **state)
{
	struct rig *r = *state;
	struct toy t;

	toy_make(&t, 0, false);
	pci_func_set(t.f, 0x90, 2, 0x1234, 0x0ff0);
	pci_func_set(t.f, 0x94, 1, 0xff, 0x00);
	pci_func_set_w1c(t.f, 0x94, 1, 0x81);
	toy_plug(r, &t, 8);
	cfg1_write(r, 0, 8, 0x90, 2, 0xffff);
	assert_int_equal(cfg1_read(r, 0, 8, 0x90, 2), 0x1ff4);
	assert_int_equal(t.last_off, 0x90);
	assert_int_equal(t.last_size, 2);
	cfg1_write(r, 0, 8, 0x94, 1, 0xff);
	assert_int_equal(cfg1_read(r, 0, 8, 0x94, 1), 0x7e);
	assert_int_equal(t.writes, 2);
	assert_int_equal(cfg1_read(r, 0, 8, 0x80, 1), 1);
	assert_int_equal(cfg1_read(r, 0, 8, 0x80, 1), 2);
	assert_int_equal(cfg1_read(r, 0, 8, 0x84, 1), 0);
	assert_int_equal(cfg1_read(r, 0, 8, 0x80, 4), 3);
	toy_gone(&t);
}

static void
test_slot_taken(void **state)
{
	struct rig *r = *state;
	struct err err = {0};
	struct toy a, b;

	toy_make(&a, 0, false);
	toy_make(&b, 0, false);
	toy_plug(r, &a, 16);
	assert_int_equal(pci_bus_add(pci_root_bus(r->root), 16, b.f, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "2:0"));
	toy_gone(&b);
	toy_gone(&a);
}

/* ---- BARs ---- */

static void
test_bar_sizing(void **state)
{
	struct rig *r = *state;
	struct toy t;

	toy_make(&t, 0, false);
	pci_func_bar(t.f, 0, &bar_io);
	pci_func_bar(t.f, 1, &bar_mem);
	pci_func_bar(t.f, 2, &bar_big);
	toy_plug(r, &t, 8);
	for (unsigned i = 0; i < 6; i++)
		cfg1_write(r, 0, 8, 0x10 + 4 * i, 4, 0xffffffff);
	assert_int_equal(cfg1_read(r, 0, 8, 0x10, 4), 0xffffffe1);
	assert_int_equal(cfg1_read(r, 0, 8, 0x14, 4), 0xfffff000);
	assert_int_equal(cfg1_read(r, 0, 8, 0x18, 4), 0x0000000c);
	assert_int_equal(cfg1_read(r, 0, 8, 0x1c, 4), 0xfffffffe);
	assert_int_equal(cfg1_read(r, 0, 8, 0x20, 4), 0);
	assert_int_equal(cfg1_read(r, 0, 8, 0x24, 4), 0);
	cfg1_write(r, 0, 8, 0x30, 4, 0xffffffff); /* no ROM */
	assert_int_equal(cfg1_read(r, 0, 8, 0x30, 4), 0);
	/* Sized with decoding on, nothing decodes at the top of memory. */
	cfg1_write(r, 0, 8, 4, 2, 3);
	assert_int_equal(pci_func_bar_addr(t.f, 1), UINT64_MAX);
	assert_int_equal(pci_func_bar_addr(t.f, 2), UINT64_MAX);
	toy_gone(&t);
}

static void
test_bar_follows_guest(void **state)
{
	struct rig *r = *state;
	struct toy t;

	toy_make(&t, 0, false);
	pci_func_bar(t.f, 0, &bar_io);
	pci_func_bar(t.f, 1, &bar_mem);
	pci_func_bar(t.f, 4, &bar_big);
	toy_plug(r, &t, 8);
	cfg1_write(r, 0, 8, 0x10, 4, 0x1015);
	cfg1_write(r, 0, 8, 0x14, 4, 0xc0001000);
	cfg1_write(r, 0, 8, 0x20, 4, 0);
	cfg1_write(r, 0, 8, 0x24, 4, 0x12);
	t.reg[1] = 0xcafe0001;
	assert_int_equal(io_bus_read(r->pio, 0x1004, 4), 0xffffffff);
	cfg1_write(r, 0, 8, 4, 2, PCI_CMD_IO);
	assert_int_equal(pci_func_bar_addr(t.f, 0), 0x1000);
	assert_int_equal(io_bus_read(r->pio, 0x1004, 4), 0xcafe0001);
	assert_int_equal(io_bus_read(r->mmio, 0xc0001004, 4), 0xffffffff);
	cfg1_write(r, 0, 8, 4, 2, PCI_CMD_IO | PCI_CMD_MEM);
	io_bus_write(r->mmio, 0xc0001008, 4, 77);
	assert_int_equal(t.reg[2], 77);
	assert_int_equal(io_bus_read(r->mmio, 0x1200000008, 4), 77);
	assert_int_equal(io_bus_read(r->mmio, 0x13fffffff8, 4), 77);
	/* Move it while it decodes. */
	cfg1_write(r, 0, 8, 0x14, 4, 0xc0005000);
	assert_int_equal(io_bus_read(r->mmio, 0xc0001008, 4), 0xffffffff);
	assert_int_equal(io_bus_read(r->mmio, 0xc0005008, 4), 77);
	cfg1_write(r, 0, 8, 4, 2, 0);
	assert_int_equal(io_bus_read(r->mmio, 0xc0005008, 4), 0xffffffff);
	assert_int_equal(io_bus_read(r->mmio, 0x1200000008, 4), 0xffffffff);
	assert_int_equal(io_bus_read(r->pio, 0x1004, 4), 0xffffffff);
	toy_gone(&t);
}

/* Two BARs at one address: the first keeps it, the other comes when it is free. */
static void
test_bar_overlap(void **state)
{
	struct rig *r = *state;
	struct toy a, b;

	toy_make(&a, 0, false);
	toy_make(&b, 0, false);
	pci_func_bar(a.f, 0, &bar_mem);
	pci_func_bar(b.f, 0, &bar_mem);
	toy_plug(r, &a, 8);
	toy_plug(r, &b, 16);
	a.reg[0] = 0xa;
	b.reg[0] = 0xb;
	cfg1_write(r, 0, 8, 0x10, 4, 0xc0000000);
	cfg1_write(r, 0, 16, 0x10, 4, 0xc0000000);
	cfg1_write(r, 0, 8, 4, 2, PCI_CMD_MEM);
	cfg1_write(r, 0, 16, 4, 2, PCI_CMD_MEM);
	assert_int_equal(io_bus_read(r->mmio, 0xc0000000, 4), 0xa);
	assert_int_equal(pci_func_bar_addr(b.f, 0), UINT64_MAX);
	cfg1_write(r, 0, 8, 0x10, 4, 0xc0001000);
	assert_int_equal(io_bus_read(r->mmio, 0xc0000000, 4), 0xb);
	assert_int_equal(io_bus_read(r->mmio, 0xc0001000, 4), 0xa);
	cfg1_write(r, 0, 16, 0x10, 4, 0xc0001000);
	assert_int_equal(io_bus_read(r->mmio, 0xc0000000, 4), 0xffffffff);
	toy_gone(&a);
	assert_int_equal(io_bus_read(r->mmio, 0xc0001000, 4), 0xb);
	/* Over ECAM: refused, and harmless. */
	cfg1_write(r, 0, 16, 0x10, 4, ECAM);
	assert_int_equal(ecam_read(r, 0, 16, 0, 4), 0x56781234);
	toy_gone(&b);
}

static void
test_assign(void **state)
{
	const struct pci_windows w = {{0x1000, 0xf000}, {0xc0000000, 0x20000000}, {1ull << 36, 1ull << 36}};
	const struct pci_windows small = {{0x1000, 0x20}, {0xc0000000, 0x1000}, {0, 0}};
	struct rig *r = *state;
	struct err err = {0};
	struct toy t[3];

	for (unsigned i = 0; i < 3; i++) {
		toy_make(&t[i], 0, false);
		pci_func_bar(t[i].f, 0, &bar_io);
		pci_func_bar(t[i].f, 1, &bar_mem);
		if (i == 1)
			pci_func_bar(t[i].f, 2, &bar_big);
		toy_plug(r, &t[i], 8 * (i + 1));
	}
	assert_int_equal(pci_assign(r->root, &small, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, "toy"));
	assert_int_equal(pci_assign(r->root, &w, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t io = pci_func_bar_addr(t[i].f, 0), mem = pci_func_bar_addr(t[i].f, 1);

		assert_true(io >= 0x1000 && io < 0x10000 && io % 32 == 0);
		assert_true(mem >= 0xc0000000 && mem < 0xe0000000 && mem % 4096 == 0);
		for (unsigned j = 0; j < i; j++) {
			assert_int_not_equal(io, pci_func_bar_addr(t[j].f, 0));
			assert_int_not_equal(mem, pci_func_bar_addr(t[j].f, 1));
		}
		assert_int_equal(cfg1_read(r, 0, 8 * (i + 1), 4, 2), PCI_CMD_IO | PCI_CMD_MEM);
	}
	assert_int_equal(pci_func_bar_addr(t[1].f, 2), 1ull << 36);
	for (unsigned i = 0; i < 3; i++)
		toy_gone(&t[i]);
}

/* ---- capabilities ---- */

static void
test_capabilities(void **state)
{
	struct rig *r = *state;
	struct toy t;
	unsigned a, b, c;

	toy_make(&t, 0, false);
	assert_int_equal(pci_func_get(t.f, PCI_STATUS, 2) & PCI_STATUS_CAPS, 0);
	a = pci_func_cap(t.f, 0x05, 14);
	b = pci_func_cap(t.f, 0x11, 12);
	assert_int_equal(pci_func_cap(t.f, 0x09, 256), 0);
	c = pci_func_ext_cap(t.f, 0x0001, 2, 0x48);
	assert_int_equal(pci_func_ext_cap(t.f, 0x0003, 1, 12), 0x148);
	assert_int_equal(pci_func_ext_cap(t.f, 0x0004, 1, 4096), 0);
	toy_plug(r, &t, 8);
	assert_int_equal(cfg1_read(r, 0, 8, PCI_STATUS, 2) & PCI_STATUS_CAPS, PCI_STATUS_CAPS);
	assert_int_equal(cfg1_read(r, 0, 8, PCI_CAP_PTR, 1), a);
	assert_int_equal(cfg1_read(r, 0, 8, a, 2), b << 8 | 0x05);
	assert_int_equal(cfg1_read(r, 0, 8, b, 2), 0x0011);
	assert_int_equal(b, a + 16);
	assert_int_equal(c, 0x100);
	assert_int_equal(ecam_read(r, 0, 8, c, 4), 0x14820001);
	assert_int_equal(ecam_read(r, 0, 8, 0x148, 4), 0x00010003);
	toy_gone(&t);
}

/* ---- INTx ---- */

static void
test_intx(void **state)
{
	struct rig *r = *state;
	struct toy a, b;

	toy_make(&a, 1, false);
	toy_make(&b, 1, false);
	toy_plug(r, &a, PCI_DEVFN(3, 0));
	toy_plug(r, &b, PCI_DEVFN(11, 0)); /* the same PIRQ */
	pci_func_intx(a.f, true);
	assert_int_equal(r->pirq, 1 << 3);
	pci_func_intx(a.f, true);
	pci_func_intx(b.f, true);
	assert_int_equal(r->pirq_edges, 1);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(3, 0), PCI_STATUS, 1) & PCI_STATUS_INTX, PCI_STATUS_INTX);
	pci_func_intx(a.f, false);
	assert_int_equal(r->pirq, 1 << 3);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(3, 0), PCI_STATUS, 1) & PCI_STATUS_INTX, 0);
	/* Disabled by the guest: the wire falls, the status bit stays. */
	cfg1_write(r, 0, PCI_DEVFN(11, 0), 4, 2, PCI_CMD_INTX_OFF);
	assert_int_equal(r->pirq, 0);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(11, 0), PCI_STATUS, 1) & PCI_STATUS_INTX, PCI_STATUS_INTX);
	cfg1_write(r, 0, PCI_DEVFN(11, 0), 4, 2, 0);
	assert_int_equal(r->pirq, 1 << 3);
	toy_gone(&b); /* unplugged while it asserts */
	assert_int_equal(r->pirq, 0);
	toy_gone(&a);
}

static void
test_bridge(void **state)
{
	struct rig *r = *state;
	struct toy bridge, leaf;
	struct err err = {0};

	toy_make(&bridge, 0, true);
	toy_plug(r, &bridge, PCI_DEVFN(4, 0));
	toy_make(&leaf, 1, false);
	pci_func_bar(leaf.f, 0, &bar_mem);
	assert_int_equal(pci_bus_add(pci_func_secondary(bridge.f), PCI_DEVFN(2, 0), leaf.f, &err), 0);
	assert_int_equal(cfg1_read(r, 0, PCI_DEVFN(4, 0), 0x0e, 1), 1);
	assert_int_equal(cfg1_read(r, 5, PCI_DEVFN(2, 0), 0, 4), 0xffffffff);
	cfg1_write(r, 0, PCI_DEVFN(4, 0), PCI_PRIMARY_BUS, 4, 0x00070500);
	assert_int_equal(cfg1_read(r, 5, PCI_DEVFN(2, 0), 0, 4), 0x56781234);
	assert_int_equal(ecam_read(r, 5, PCI_DEVFN(2, 0), 0, 4), 0x56781234);
	assert_int_equal(cfg1_read(r, 6, PCI_DEVFN(2, 0), 0, 4), 0xffffffff);
	cfg1_write(r, 0, PCI_DEVFN(4, 0), PCI_SECONDARY_BUS, 1, 6);
	assert_int_equal(cfg1_read(r, 5, PCI_DEVFN(2, 0), 0, 4), 0xffffffff);
	assert_int_equal(cfg1_read(r, 6, PCI_DEVFN(2, 0), 0, 4), 0x56781234);
	/* INTA of device 2 is INTC of the bridge's side, device 4 there: PIRQ (4 + 2). */
	pci_func_intx(leaf.f, true);
	assert_int_equal(r->pirq, 1 << 6);
	pci_func_intx(leaf.f, false);
	toy_gone(&leaf);
	toy_gone(&bridge);
}

static void
test_func_state(void **state)
{
	const struct field_table *t = pci_func_device_ops.state;
	struct rig *r = *state;
	struct err err = {0};
	uint8_t *saved, *again;
	size_t where, len;
	struct toy a;

	assert_true(field_table_complete(t, &where));
	assert_true(field_table_complete(pci_root_device_ops.state, &where));
	saved = malloc(2 * field_save_size(t));
	again = saved + field_save_size(t);
	toy_make(&a, 1, false);
	pci_func_bar(a.f, 0, &bar_mem);
	toy_plug(r, &a, PCI_DEVFN(1, 0));
	cfg1_write(r, 0, 8, 0x10, 4, 0xc0001000);
	cfg1_write(r, 0, 8, 4, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	pci_func_intx(a.f, true);
	pci_func_device_ops.pre_save(a.f);
	len = field_save(t, pci_func_device_ops.st(a.f), saved);
	pci_func_device_ops.reset(a.f);
	assert_int_equal(r->pirq, 0);
	assert_int_equal(pci_func_bar_addr(a.f, 0), UINT64_MAX);
	assert_int_equal(cfg1_read(r, 0, 8, 0x10, 4), 0);
	assert_false(pci_func_bus_master(a.f));

	assert_int_equal(field_load(t, pci_func_device_ops.st(a.f), saved, len, &err), 0);
	assert_int_equal(pci_func_device_ops.post_load(a.f, &err), 0);
	assert_int_equal(pci_func_bar_addr(a.f, 0), 0xc0001000);
	assert_int_equal(r->pirq, 1 << 1);
	assert_true(pci_func_bus_master(a.f));
	pci_func_device_ops.pre_save(a.f);
	assert_int_equal(field_save(t, pci_func_device_ops.st(a.f), again), len);
	assert_memory_equal(saved, again, len);
	free(saved);
	toy_gone(&a);
}

/* ---- Q35 ---- */

static void
test_hostbridge(void **state)
{
	const struct hostbridge_cfg cfg = {.ecam_base = ECAM, .ecam_buses = 256};
	struct rig *r = *state;
	struct err err = {0};
	struct pci_func *f = hostbridge_create(&cfg, &err);

	assert_non_null(f);
	assert_int_equal(pci_bus_add(pci_root_bus(r->root), 0, f, &err), 0);
	assert_int_equal(cfg1_read(r, 0, 0, 0, 4), 0x29c08086);
	assert_int_equal(cfg1_read(r, 0, 0, 0x0a, 2), 0x0600);
	assert_int_equal(cfg1_read(r, 0, 0, 0x60, 4), ECAM | 1);
	cfg1_write(r, 0, 0, 0x60, 4, 0xb0000001); /* locked */
	assert_int_equal(cfg1_read(r, 0, 0, 0x60, 4), ECAM | 1);
	pci_func_device_ops.destroy(f);
}

static struct lpc *
make_lpc(struct rig *r)
{
	const struct lpc_cfg cfg = {.pm_base = 0x600};
	const struct lpc_wires w = {.pic = {rig_pic, r, 0}, .ioapic = {rig_ioapic, r, 0}};
	struct err err = {0};
	struct lpc *l = lpc_create(&cfg, &w, &err);

	assert_non_null(l);
	assert_int_equal(pci_bus_add(pci_root_bus(r->root), PCI_DEVFN(31, 0), lpc_func(l), &err), 0);
	return l;
}

static void
lpc_gone(struct lpc *l)
{
	pci_func_device_ops.destroy(lpc_func(l));
	lpc_device_ops.destroy(l);
}

static void
wire(struct irq_wire w, unsigned line, bool level)
{
	w.line = line;
	irq_set(&w, level);
}

static void
test_lpc_isa_lines(void **state)
{
	struct rig *r = *state;
	struct lpc *l = make_lpc(r);
	struct irq_wire irq0 = lpc_isa_wire(l, 0), irq4 = lpc_isa_wire(l, 4);
	struct irq_wire irq4b = lpc_isa_wire(l, 4 + LPC_ISA_SECOND), gsi = lpc_gsi_wire(l);

	irq_set(&irq0, true);
	assert_int_equal(r->pic, 1);
	assert_int_equal(r->ioapic, 1 << 2);
	irq_set(&irq0, false);
	irq_set(&irq4, true);
	irq_set(&irq4b, true);
	irq_set(&irq4, false);
	assert_int_equal(r->pic, 1 << 4);
	assert_int_equal(r->ioapic, 1 << 4);
	irq_set(&irq4b, false);
	assert_int_equal(r->pic | r->ioapic, 0);
	wire(gsi, 20, true);
	assert_int_equal(r->ioapic, 1 << 20);
	wire(lpc_pirq_wire(l), 4, true);
	wire(gsi, 20, false);
	assert_int_equal(r->ioapic, 1 << 20); /* PIRQE holds it */
	wire(lpc_pirq_wire(l), 4, false);
	assert_int_equal(r->ioapic, 0);
	wire(gsi, 24, true); /* no such pin */
	assert_int_equal(r->ioapic, 0);
	lpc_gone(l);
}

static void
test_lpc_pirq_routes(void **state)
{
	struct rig *r = *state;
	struct lpc *l = make_lpc(r);
	struct irq_wire pirq = lpc_pirq_wire(l), irq11 = lpc_isa_wire(l, 11);
	unsigned lpc = PCI_DEVFN(31, 0);

	assert_int_equal(cfg1_read(r, 0, lpc, 0, 4), 0x29188086);
	assert_int_equal(cfg1_read(r, 0, lpc, 0x40, 4), 0x601);
	assert_int_equal(cfg1_read(r, 0, lpc, 0x60, 4), 0x80808080);
	assert_int_equal(cfg1_read(r, 0, lpc, 0x68, 4), 0x80808080);
	assert_int_equal(cfg1_read(r, 0, lpc, 0xf0, 4), 0);
	for (unsigned i = 0; i < 8; i++) {
		wire(pirq, i, true);
		assert_int_equal(r->ioapic, 1u << (16 + i));
		assert_int_equal(r->pic, 0);
		/* Routed while asserted, it shows at once. */
		cfg1_write(r, 0, lpc, i < 4 ? 0x60 + i : 0x64 + i, 1, 0x0b);
		assert_int_equal(r->pic, 1 << 11);
		wire(pirq, i, false);
		assert_int_equal(r->pic, 0);
	}
	/* All eight share IRQ 11 now, with its ISA line. */
	wire(pirq, 0, true);
	wire(pirq, 7, true);
	irq_set(&irq11, true);
	wire(pirq, 0, false);
	irq_set(&irq11, false);
	assert_int_equal(r->pic, 1 << 11);
	cfg1_write(r, 0, lpc, 0x68, 4, 0x8b0b0b0b);
	assert_int_equal(r->pic, 0);
	assert_int_equal(cfg1_read(r, 0, lpc, 0x6b, 1), 0x8b);
	cfg1_write(r, 0, lpc, 0x6b, 1, 0xff);
	assert_int_equal(cfg1_read(r, 0, lpc, 0x6b, 1), 0x8f);
	wire(pirq, 7, false);
	lpc_gone(l);
}

static void
test_lpc_state(void **state)
{
	struct rig *r = *state;
	struct lpc *l = make_lpc(r);
	struct err err = {0};
	size_t where;

	assert_true(field_table_complete(lpc_device_ops.state, &where));
	wire(lpc_pirq_wire(l), 2, true);
	cfg1_write(r, 0, PCI_DEVFN(31, 0), 0x62, 1, 5);
	assert_int_equal(r->pic, 1 << 5);
	/* The controllers are restored with the levels that they had: none is driven anew. */
	assert_int_equal(lpc_device_ops.post_load(l, &err), 0);
	assert_int_equal(r->pic, 1 << 5);
	wire(lpc_pirq_wire(l), 2, false);
	assert_int_equal(r->pic | r->ioapic, 0);
	lpc_gone(l);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_address_register),  T(test_header),	    T(test_mechanisms_agree),
	    T(test_device_hooks),      T(test_slot_taken),  T(test_bar_sizing),
	    T(test_bar_follows_guest), T(test_bar_overlap), T(test_assign),
	    T(test_capabilities),      T(test_intx),	    T(test_bridge),
	    T(test_func_state),	       T(test_hostbridge),  T(test_lpc_isa_lines),
	    T(test_lpc_pirq_routes),   T(test_lpc_state),
	};

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
