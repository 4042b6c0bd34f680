/* SPDX-License-Identifier: BSD-2-Clause */
/* MSI-X and MSI: tables, masks, pending bits; buses behind bridges as firmware lays them out. */
#include <errno.h>
#include <unistd.h>

#include "dev/pci/msi.h"
#include "dev/pci/pci.h"
#include "tests/unit/chipset_util.h"

enum { VECTORS = 3, BAR = 1, MSIX_AT = 0xc0000000u };

struct rig {
	struct io_bus *pio, *mmio;
	struct pci_root *root;
	struct pci_func *f;
	struct pci_msix *m;
	unsigned sent;
	int fd; /* of a route; -1: none */
	bool no_routes;
	uint64_t addr;
	uint32_t data;
};

static void
on_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct rig *r = ctx;

	r->sent++;
	r->addr = addr;
	r->data = data;
}

static int
on_irqfd(void *ctx, int fd, uint64_t addr, uint32_t data, bool add)
{
	struct rig *r = ctx;

	if (add && r->no_routes)
		return -ENOSPC;
	if (add) {
		assert_int_equal(r->fd, -1);
		r->fd = dup(fd);
		r->addr = addr;
		r->data = data;
	} else {
		assert_int_not_equal(r->fd, -1);
		close(r->fd);
		r->fd = -1;
	}
	return 0;
}

static struct pci_func *
make_func(const char *name, bool bridge)
{
	const struct pci_func_cfg cfg = {
	    .name = name, .vendor = 0x1234, .device = 1, .intr_pin = 1, .bridge = bridge};
	struct pci_func *f = pci_func_create(&cfg, NULL, NULL, NULL);

	assert_non_null(f);
	return f;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct pci_root_wires w = {.msi = on_msi, .msi_ctx = r, .irqfd = on_irqfd, .irqfd_ctx = r};

	r->fd = -1;

	w.pio = r->pio = make_bus(0x10000);
	w.mmio = r->mmio = make_bus(1ull << 40);
	r->root = pci_root_create(&w, NULL);
	assert_non_null(r->root);
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

static void
plug(struct rig *r, struct pci_bus *bus, unsigned dev, struct pci_func *f)
{
	(void)r;
	assert_int_equal(pci_bus_add(bus, PCI_DEVFN(dev, 0), f, NULL), 0);
}

static void
cfg_set(struct rig *r, unsigned off, unsigned size, uint32_t val)
{
	pci_cfg_write(r->root, 0, PCI_DEVFN(3, 0), off, size, val);
}

static uint32_t
cfg_get(struct rig *r, unsigned off, unsigned size)
{
	return pci_cfg_read(r->root, 0, PCI_DEVFN(3, 0), off, size);
}

static void
msix_begin(struct rig *r)
{
	struct err err = {0};

	r->f = make_func("toy", false);
	r->m = pci_msix_create(r->f, BAR, VECTORS, &err);
	assert_non_null(r->m);
	plug(r, pci_root_bus(r->root), 3, r->f);
	cfg_set(r, PCI_BAR0 + 4 * BAR, 4, MSIX_AT);
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	for (unsigned n = 0; n < VECTORS; n++) {
		io_bus_write(r->mmio, MSIX_AT + 16 * n, 4, 0xfee00000u + n * 0x1000);
		io_bus_write(r->mmio, MSIX_AT + 16 * n + 8, 4, 0x40 + n);
	}
}

static void
msix_end(struct rig *r)
{
	pci_msix_device_ops.destroy(r->m);
	pci_func_device_ops.destroy(r->f);
}

static void
unmask(struct rig *r, unsigned n, bool on)
{
	io_bus_write(r->mmio, MSIX_AT + 16 * n + 12, 4, !on);
}

/* How often the route's eventfd was written since the last look. */
static uint64_t
signalled(struct rig *r)
{
	uint64_t count = 0;

	assert_int_not_equal(r->fd, -1);
	return read(r->fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

struct messages {
	uint64_t by_call, by_irqfd;
};

static void
on_counter(void *arg, const char *name, uint64_t value)
{
	struct messages *m = arg;

	if (strcmp(name, "messages") == 0)
		m->by_call = value;
	else if (strcmp(name, "messages.by_irqfd") == 0)
		m->by_irqfd = value;
}

static struct messages
counted(struct rig *r)
{
	struct messages m = {~0ull, ~0ull};

	pci_root_device_ops.stats(r->root, on_counter, &m);
	return m;
}

static void
raise_many(struct rig *r, unsigned n)
{
	r->sent = 0;
	for (unsigned i = 0; i < 1000; i++)
		pci_msix_raise(r->m, n);
}

/* A busy vector's messages go by an eventfd, while nothing about them changes; none is lost or comes twice.
 */
static void
test_msix_route(void **state)
{
	struct rig *r = *state;

	msix_begin(r);
	cfg_set(r, 0x42, 2, 1 << 15);
	unmask(r, 1, true);
	raise_many(r, 1); /* not started: none gets a route */
	assert_int_equal(r->sent, 1000);
	assert_int_equal(r->fd, -1);
	pci_msix_device_ops.start(r->m);
	pci_msix_raise(r->m, 1);
	assert_int_equal(r->sent, 1001);
	assert_int_equal(counted(r).by_irqfd, 0);
	raise_many(r, 1);
	assert_true(r->sent > 0 && r->sent < 1000);
	assert_int_equal(signalled(r), 1000 - r->sent);
	assert_int_equal(counted(r).by_irqfd, 1000 - r->sent);
	assert_int_equal(counted(r).by_call, 1001 + r->sent);
	assert_int_equal(r->addr, 0xfee01000);
	assert_int_equal(r->data, 0x41);

	/* Masked: it is pending, and goes when that ends. */
	unmask(r, 1, false);
	pci_msix_raise(r->m, 1);
	assert_int_equal(signalled(r), 0);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 4), 2);
	unmask(r, 1, true);
	assert_int_equal(signalled(r), 1);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 4), 0);

	/* The same message again is no change; another one is. */
	io_bus_write(r->mmio, MSIX_AT + 16 + 8, 4, 0x41);
	assert_int_not_equal(r->fd, -1);
	io_bus_write(r->mmio, MSIX_AT + 16 + 8, 4, 0x51);
	assert_int_equal(r->fd, -1);
	r->sent = 0;
	pci_msix_raise(r->m, 1);
	assert_int_equal(r->sent, 1);
	assert_int_equal(r->data, 0x51);
	msix_end(r);
}

static void
test_msix_route_ends(void **state)
{
	struct rig *r = *state;

	msix_begin(r);
	cfg_set(r, 0x42, 2, 1 << 15);
	unmask(r, 1, true);
	pci_msix_device_ops.start(r->m);
	r->no_routes = true;
	raise_many(r, 1);
	assert_int_equal(r->sent, 1000);
	r->no_routes = false;
	raise_many(r, 1);
	assert_int_not_equal(r->fd, -1);
	pci_msix_device_ops.stop(r->m);
	assert_int_equal(r->fd, -1);
	raise_many(r, 1);
	assert_int_equal(r->sent, 1000);
	pci_msix_device_ops.start(r->m);
	raise_many(r, 1);
	assert_int_not_equal(r->fd, -1);
	pci_msix_device_ops.reset(r->m);
	assert_int_equal(r->fd, -1);
	unmask(r, 1, true);
	raise_many(r, 1);
	assert_int_not_equal(r->fd, -1);
	msix_end(r);
	assert_int_equal(r->fd, -1);
}

static void
test_msix(void **state)
{
	struct rig *r = *state;
	unsigned cap = 0x40;

	msix_begin(r);
	assert_int_equal(cfg_get(r, cap, 1), 0x11);
	assert_int_equal(cfg_get(r, cap + 2, 2), VECTORS - 1);
	assert_int_equal(cfg_get(r, cap + 4, 4), BAR);
	assert_int_equal(cfg_get(r, cap + 8, 4), 0x800 | BAR);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 12, 4), 1); /* masked at power-on */
	pci_msix_raise(r->m, 0);
	assert_int_equal(r->sent, 0);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 8), 0); /* off: nothing is remembered */

	cfg_set(r, cap + 2, 2, 1 << 15);
	assert_true(pci_msix_enabled(r->m));
	pci_msix_raise(r->m, 1);
	assert_int_equal(r->sent, 0);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 8), 2);
	io_bus_write(r->mmio, MSIX_AT + 0x800, 8, 0); /* read-only */
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 4), 2);
	unmask(r, 1, true);
	assert_int_equal(r->sent, 1);
	assert_int_equal(r->addr, 0xfee01000);
	assert_int_equal(r->data, 0x41);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 8), 0);
	pci_msix_raise(r->m, 1);
	assert_int_equal(r->sent, 2);
	pci_msix_raise(r->m, VECTORS);
	pci_msix_raise(r->m, 1000);
	assert_int_equal(r->sent, 2);

	cfg_set(r, cap + 2, 2, 3 << 14); /* the whole function masked */
	pci_msix_raise(r->m, 1);
	assert_int_equal(r->sent, 2);
	cfg_set(r, cap + 2, 2, 1 << 15);
	assert_int_equal(r->sent, 3);
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MEM); /* no bus mastering: a message cannot be written */
	pci_msix_raise(r->m, 1);
	assert_int_equal(r->sent, 3);
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	assert_int_equal(r->sent, 4);
	msix_end(r);
}

static void
test_msix_state(void **state)
{
	struct rig *r = *state;

	msix_begin(r);
	cfg_set(r, 0x42, 2, 1 << 15);
	pci_msix_raise(r->m, 2);
	check_device_state(&pci_msix_device_ops, r->m);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 0x800, 8), 4);
	unmask(r, 2, true);
	assert_int_equal(r->data, 0x42);
	pci_msix_device_ops.reset(r->m);
	assert_int_equal(io_bus_read(r->mmio, MSIX_AT + 12, 8), 1);
	msix_end(r);
}

static void
test_msi(void **state)
{
	struct rig *r = *state;
	unsigned cap = 0x40;

	r->f = make_func("toy", false);
	pci_func_msi(r->f, 8);
	plug(r, pci_root_bus(r->root), 3, r->f);
	assert_int_equal(cfg_get(r, cap, 1), 5);
	assert_int_equal(cfg_get(r, cap + 2, 2), 0x0186);
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MASTER);
	assert_false(pci_msi_raise(r->f, 0));
	cfg_set(r, cap + 4, 4, 0xfee02000);
	cfg_set(r, cap + 0xc, 2, 0x4567);
	cfg_set(r, cap + 2, 2, 2 << 4 | 1); /* four vectors */
	assert_true(pci_msi_raise(r->f, 6));
	assert_int_equal(r->sent, 1);
	assert_int_equal(r->addr, 0xfee02000);
	assert_int_equal(r->data, 0x4566);
	cfg_set(r, cap + 0x10, 4, ~0u);
	assert_int_equal(cfg_get(r, cap + 0x10, 4), 0xff);
	assert_true(pci_msi_raise(r->f, 3));
	assert_int_equal(r->sent, 1);
	assert_int_equal(cfg_get(r, cap + 0x14, 4), 8);
	check_device_state(&pci_func_device_ops, r->f);
	assert_int_equal(cfg_get(r, cap + 0x14, 4), 8);
	cfg_set(r, cap + 0x10, 4, 0);
	assert_int_equal(r->sent, 2);
	assert_int_equal(r->data, 0x4567);
	assert_int_equal(cfg_get(r, cap + 0x14, 4), 0);
	/* More vectors than are offered: as many as are. */
	cfg_set(r, cap + 2, 2, 5 << 4 | 1);
	assert_true(pci_msi_raise(r->f, 7));
	assert_int_equal(r->data, 0x4567);
	cfg_set(r, cap + 2, 2, 0);
	assert_false(pci_msi_raise(r->f, 7));
	pci_func_device_ops.destroy(r->f);
}

/* ---- bridges ---- */

static uint64_t
reg_read(void *dev, uint64_t off, unsigned size)
{
	(void)dev, (void)off, (void)size;
	return 0x5a;
}

static const struct pci_bar mem = {PCI_BAR_MEM32, 0x4000, IO_ANY, reg_read, NULL, true};
static const struct pci_bar io = {PCI_BAR_IO, 0x40, IO_ANY, reg_read, NULL, true};

static void
test_bridges(void **state)
{
	struct rig *r = *state;
	const struct pci_windows w = {.io = {0x1000, 0xe000}, .mem32 = {0xc0000000, 0x10000000}};
	struct pci_func *outer = make_func("outer", true), *inner = make_func("inner", true);
	struct pci_func *leaf = make_func("leaf", false), *top = make_func("top", false);
	struct pci_bus *bus1, *bus2;
	struct err err = {0};
	uint64_t at, port;

	pci_func_bar(leaf, 0, &mem);
	pci_func_bar(leaf, 1, &io);
	pci_func_bar(top, 0, &mem);
	plug(r, pci_root_bus(r->root), 3, outer);
	plug(r, pci_root_bus(r->root), 4, top);
	bus1 = pci_func_secondary(outer);
	plug(r, bus1, 5, inner);
	bus2 = pci_func_secondary(inner);
	plug(r, bus2, 6, leaf);
	pci_bus_number(bus1, 1);
	pci_bus_number(bus2, 7);
	assert_int_equal(pci_assign(r->root, &w, &err), 0);
	assert_int_equal(cfg_get(r, PCI_PRIMARY_BUS, 4) & 0xffffff, 0x070100);
	assert_int_equal(pci_cfg_read(r->root, 7, PCI_DEVFN(6, 0), 0, 4), 0x00011234);
	assert_int_equal(pci_cfg_read(r->root, 8, PCI_DEVFN(6, 0), 0, 4), UINT32_MAX);
	at = pci_func_bar_addr(leaf, 0);
	port = pci_func_bar_addr(leaf, 1);
	assert_int_not_equal(at, UINT64_MAX);
	assert_int_not_equal(port, UINT64_MAX);
	assert_int_not_equal(at, pci_func_bar_addr(top, 0));
	assert_int_equal(io_bus_read(r->mmio, at, 1), 0x5a);

	/* A bridge that forwards no memory, or elsewhere, hides what is behind it; I/O goes on. */
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_IO | PCI_CMD_MASTER);
	assert_int_equal(pci_func_bar_addr(leaf, 0), UINT64_MAX);
	assert_int_equal(pci_func_bar_addr(leaf, 1), port);
	assert_int_equal(io_bus_read(r->mmio, at, 1), 0xff);
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_IO | PCI_CMD_MEM | PCI_CMD_MASTER);
	assert_int_equal(pci_func_bar_addr(leaf, 0), at);
	cfg_set(r, 0x20, 4, 0xd000d000);
	assert_int_equal(pci_func_bar_addr(leaf, 0), UINT64_MAX);
	cfg_set(r, 0x20, 4, 0xcff0c000);
	assert_int_equal(pci_func_bar_addr(leaf, 0), at);

	pci_cfg_write(r->root, 7, PCI_DEVFN(6, 0), PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_IO | PCI_CMD_MASTER);
	assert_true(pci_func_bus_master(leaf));
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_IO | PCI_CMD_MEM);
	assert_false(pci_func_bus_master(leaf));

	/* Numbers that overlap are refused. */
	pci_bus_number(bus2, 1);
	assert_int_equal(pci_assign(r->root, &w, &err), -EINVAL);
	pci_func_device_ops.destroy(leaf);
	pci_func_device_ops.destroy(inner);
	pci_func_device_ops.destroy(top);
	pci_func_device_ops.destroy(outer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_msix, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_msix_route, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_msix_route_ends, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_msix_state, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_msi, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_bridges, setup, teardown),
	};

	return cmocka_run_group_tests_name("msi", tests, NULL, NULL);
}
