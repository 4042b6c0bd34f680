/* SPDX-License-Identifier: BSD-2-Clause */
/* pc-testdev, pci-testdev and fw_cfg: registers, wires, state, and what a guest may do wrong. */
#include "tests/unit/chipset_util.h"

#include "dev/chipset/fwcfg.h"
#include "dev/pci/pci.h"
#include "dev/test/pcitest.h"
#include "dev/test/pctest.h"
#include "mem/gpmap.h"

enum { RAM = 0x10000 };

struct rig {
	struct io_bus *pio, *mmio;
	struct pctest *t;
	struct probe gsi[PCTEST_GSIS];
	unsigned flushes, exits, status, poweroffs;
	uint64_t flushed;
};

static void
on_flush(void *ctx, uint64_t gpa)
{
	((struct rig *)ctx)->flushes++;
	((struct rig *)ctx)->flushed = gpa;
}

static void
on_exit_port(void *ctx, unsigned status)
{
	((struct rig *)ctx)->exits++;
	((struct rig *)ctx)->status = status;
}

static void
on_poweroff(void *ctx)
{
	((struct rig *)ctx)->poweroffs++;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct pctest_wires w = {.flush = on_flush, .exit = on_exit_port, .poweroff = on_poweroff, .ctx = r};

	r->pio = make_bus(0x10000);
	r->mmio = make_bus(1ull << 36);
	for (unsigned i = 0; i < PCTEST_GSIS; i++)
		w.gsi[i] = probe_wire(&r->gsi[i]);
	r->t = pctest_create(&w, NULL);
	assert_non_null(r->t);
	assert_int_equal(pctest_map(r->t, r->pio, r->mmio, NULL), 0);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	pctest_device_ops.destroy(r->t);
	io_bus_destroy(r->pio);
	io_bus_destroy(r->mmio);
	free(r);
	return 0;
}

static void
test_latch(void **state)
{
	struct rig *r = *state;

	io_bus_write(r->pio, 0xe0, 4, 0x44332211);
	assert_int_equal(io_bus_read(r->pio, 0xe0, 4), 0x44332211);
	assert_int_equal(io_bus_read(r->pio, 0xe1, 2), 0x3322);
	assert_int_equal(io_bus_read(r->pio, 0xe3, 1), 0x44);
	io_bus_write(r->pio, 0xe2, 1, 0xaa);
	io_bus_write(r->pio, 0xe0, 2, 0xbbcc);
	assert_int_equal(io_bus_read(r->pio, 0xe0, 4), 0x44aabbcc);
}

static void
test_exit(void **state)
{
	struct rig *r = *state;
	static const struct {
		unsigned size;
		uint32_t val;
		unsigned status;
	} row[] = {{4, 0, 1}, {1, 1, 3}, {2, 38, 77}, {4, 63, 127}, {4, 0x80000000, 1}, {4, 0xff, 0xff}};

	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		io_bus_write(r->pio, 0xf4, row[i].size, row[i].val);
		assert_int_equal(r->exits, i + 1);
		assert_int_equal(r->status, row[i].status);
	}
	assert_int_equal(io_bus_read(r->pio, 0xf4, 4), 0xffffffff);
}

static void
test_flush(void **state)
{
	struct rig *r = *state;

	io_bus_write(r->pio, 0xe4, 4, 0x12345678);
	assert_int_equal(r->flushes, 1);
	assert_int_equal(r->flushed, 0x12345000);
}

static void
test_gsi(void **state)
{
	struct rig *r = *state;

	for (unsigned i = 0; i < PCTEST_GSIS; i++) {
		io_bus_write(r->pio, 0x2000 + i, 1, 1);
		assert_true(r->gsi[i].level);
		io_bus_write(r->pio, 0x2000 + i, 1, 0x80);
		assert_int_equal(r->gsi[i].rises, 1);
		io_bus_write(r->pio, 0x2000 + i, 1, 0);
		assert_false(r->gsi[i].level);
	}
	io_bus_write(r->pio, 0x2000 + PCTEST_GSIS, 1, 1);
	io_bus_write(r->pio, 0x2005, 1, 1);
	pctest_device_ops.reset(r->t);
	assert_false(r->gsi[5].level);
}

static void
test_shutdown(void **state)
{
	struct rig *r = *state;
	static const char say[] = "ShutShutdownS";

	for (size_t i = 0; say[i] != '\0'; i++) {
		io_bus_write(r->pio, 0x8900, 1, (uint8_t)say[i]);
		assert_int_equal(r->poweroffs, i >= 11 ? 1 : 0);
	}
	for (const char *p = "hutdow"; *p != '\0'; p++)
		io_bus_write(r->pio, 0x8900, 1, (uint8_t)*p);
	io_bus_write(r->pio, 0x8900, 1, 0);
	io_bus_write(r->pio, 0x8900, 1, 'n');
	assert_int_equal(r->poweroffs, 1);
}

static void
test_memory(void **state)
{
	struct rig *r = *state;

	io_bus_write(r->mmio, PCTEST_MEM_BASE + 0xfff8, 8, 0x1122334455667788);
	assert_int_equal(io_bus_read(r->pio, 0xec, 4), 0);
	assert_int_equal(io_bus_read(r->mmio, PCTEST_MEM_BASE + 0xfffc, 4), 0x11223344);
	assert_int_equal(io_bus_read(r->mmio, PCTEST_MEM_BASE + 0xffff, 1), 0x11);
	assert_int_equal(io_bus_read(r->pio, 0xec, 4), 2);
	io_bus_write(r->pio, 0xec, 4, 0);
	assert_int_equal(io_bus_read(r->pio, 0xec, 4), 0);
	assert_int_equal(io_bus_read(r->mmio, PCTEST_MEM_BASE + 0x10000, 4), 0xffffffff);
}

/* Lines of any length, with any bytes in them. */
static void
test_debug_port(void **state)
{
	struct rig *r = *state;

	assert_int_equal(io_bus_read(r->pio, 0x402, 1), 0xe9);
	for (unsigned i = 0; i < 1000; i++)
		io_bus_write(r->pio, 0x402, 1, i & 0xff);
	for (unsigned i = 0; i < 1000; i++)
		io_bus_write(r->pio, 0x402, 1, 'x');
	check_device_state(&pctest_device_ops, r->t);
}

static void
test_pctest_state(void **state)
{
	struct rig *r = *state;

	io_bus_write(r->pio, 0xe0, 4, 0x44332211);
	io_bus_write(r->mmio, PCTEST_MEM_BASE + 0x1234, 4, 5);
	io_bus_write(r->pio, 0x2003, 1, 1);
	io_bus_write(r->pio, 0x8900, 1, 'S');
	check_device_state(&pctest_device_ops, r->t);
	assert_int_equal(io_bus_read(r->mmio, PCTEST_MEM_BASE + 0x1234, 4), 5);
}

/* ---- pci-testdev ---- */

struct pci_rig {
	struct io_bus *pio, *mmio;
	struct pci_root *root;
	struct pcitest *t;
	uint64_t mem, port;
};

static int
pci_setup(void **state)
{
	const struct pci_windows w = {.io = {0x1000, 0x1000}, .mem32 = {0xc0000000, 0x1000000}};
	struct pci_rig *r = calloc(1, sizeof(*r));
	struct pci_root_wires wires = {0};

	r->pio = wires.pio = make_bus(0x10000);
	r->mmio = wires.mmio = make_bus(1ull << 36);
	r->root = pci_root_create(&wires, NULL);
	r->t = pcitest_create(NULL);
	assert_non_null(r->root);
	assert_non_null(r->t);
	assert_int_equal(pci_bus_add(pci_root_bus(r->root), PCI_DEVFN(5, 0), pcitest_func(r->t), NULL), 0);
	assert_int_equal(pci_assign(r->root, &w, NULL), 0);
	r->mem = pci_func_bar_addr(pcitest_func(r->t), 0);
	r->port = pci_func_bar_addr(pcitest_func(r->t), 1);
	*state = r;
	return 0;
}

static int
pci_teardown(void **state)
{
	struct pci_rig *r = *state;

	pci_func_device_ops.destroy(pcitest_func(r->t));
	pcitest_device_ops.destroy(r->t);
	pci_root_device_ops.destroy(r->root);
	io_bus_destroy(r->pio);
	io_bus_destroy(r->mmio);
	free(r);
	return 0;
}

static void
count_writes(struct io_bus *bus, uint64_t base)
{
	unsigned found = 0;

	for (unsigned n = 0;; n++) {
		uint32_t off, data;

		io_bus_write(bus, base, 1, n);
		if (io_bus_read(bus, base + 1, 1) == 0)
			break;
		found++;
		assert_int_equal(io_bus_read(bus, base, 1), n);
		assert_int_equal(io_bus_read(bus, base + 0xc, 4), 0);
		off = (uint32_t)io_bus_read(bus, base + 4, 4);
		data = (uint32_t)io_bus_read(bus, base + 8, 4);
		for (unsigned i = 0; i < 16; i++)
			io_bus_write(bus, base + off, 1, data & 0xff);
		assert_int_equal(io_bus_read(bus, base + 0xc, 4), 16);
		io_bus_write(bus, base + off, 1, 0x11);
		assert_int_equal(io_bus_read(bus, base + 0xc, 4), n == 2 ? 16 : 17);
		io_bus_write(bus, base + off + 1, 1, data & 0xff);
		assert_int_equal(io_bus_read(bus, base + 0xc, 4), n == 2 ? 16 : 17);
		assert_int_not_equal(io_bus_read(bus, base + 0x10, 1), 0);
	}
	assert_int_equal(found, 3);
	assert_int_equal(io_bus_read(bus, base + 0xc, 4), 0);
}

static void
test_pcitest(void **state)
{
	struct pci_rig *r = *state;

	assert_int_equal(pci_cfg_read(r->root, 0, PCI_DEVFN(5, 0), 0, 4), 0x00051b36);
	count_writes(r->mmio, r->mem);
	count_writes(r->pio, r->port);
	/* A running test of the other BAR is not seen. */
	io_bus_write(r->mmio, r->mem, 1, 0);
	assert_int_equal(io_bus_read(r->pio, r->port + 1, 1), 0);
	assert_int_equal(io_bus_read(r->mmio, r->mem + 1, 1), 1);
	check_device_state(&pcitest_device_ops, r->t);
	assert_int_equal(io_bus_read(r->mmio, r->mem + 0xffc, 4), 0);
}

/* ---- fw_cfg ---- */

struct fw_rig {
	struct io_bus *pio;
	struct memobj *ram;
	struct gpmap *mem;
	struct fwcfg *f;
};

static int
fw_setup(void **state)
{
	struct fw_rig *r = calloc(1, sizeof(*r));

	r->pio = make_bus(0x10000);
	r->ram = memobj_create("test", RAM, NULL);
	r->mem = gpmap_create(NULL);
	assert_non_null(r->ram);
	assert_int_equal(gpmap_map(r->mem, 0, RAM, r->ram, 0, GM_RAM, NULL), 0);
	r->f = fwcfg_create(r->mem, NULL);
	assert_non_null(r->f);
	assert_int_equal(fwcfg_add_int(r->f, FWCFG_NB_CPUS, 4, 2, NULL), 0);
	assert_int_equal(fwcfg_add_int(r->f, FWCFG_RAM_SIZE, 5 * GIB, 8, NULL), 0);
	assert_int_equal(fwcfg_add_file(r->f, "opt/test/one", "hello", 5, NULL), 0);
	assert_int_equal(fwcfg_add_file(r->f, "opt/test/two", "", 0, NULL), 0);
	assert_int_equal(fwcfg_map(r->f, r->pio, NULL), 0);
	*state = r;
	return 0;
}

static int
fw_teardown(void **state)
{
	struct fw_rig *r = *state;

	fwcfg_device_ops.destroy(r->f);
	io_bus_destroy(r->pio);
	gpmap_destroy(r->mem);
	memobj_destroy(r->ram);
	free(r);
	return 0;
}

static uint64_t
fw_read(struct fw_rig *r, unsigned key, unsigned bytes)
{
	uint64_t val = 0;

	io_bus_write(r->pio, 0x510, 2, key);
	for (unsigned i = 0; i < bytes; i++)
		val |= io_bus_read(r->pio, 0x511, 1) << (8 * i);
	return val;
}

static void
test_fwcfg_items(void **state)
{
	struct fw_rig *r = *state;

	assert_int_equal(fw_read(r, FWCFG_SIGNATURE, 4), 0x554d4551);
	assert_int_equal(fw_read(r, FWCFG_ID, 4), 3);
	assert_int_equal(fw_read(r, FWCFG_NB_CPUS, 2), 4);
	assert_int_equal(fw_read(r, FWCFG_NB_CPUS, 8), 4); /* zeroes behind the end */
	assert_int_equal(fw_read(r, FWCFG_RAM_SIZE, 8), 5 * GIB);
	assert_int_equal(fw_read(r, 0x11, 8), 0);
	assert_int_equal(fw_read(r, 0x7fff, 8), 0);
	assert_int_equal(fw_read(r, 0xffff, 8), 0);
	check_device_state(&fwcfg_device_ops, r->f);
}

static void
test_fwcfg_directory(void **state)
{
	struct fw_rig *r = *state;
	char name[56];

	assert_int_equal(fw_read(r, FWCFG_FILE_DIR, 4), 0x02000000);
	assert_int_equal(fw_read(r, FWCFG_FILE_DIR, 8) >> 32, 0x05000000);
	fw_read(r, FWCFG_FILE_DIR, 8);
	assert_int_equal(io_bus_read(r->pio, 0x511, 1), 0x00);
	assert_int_equal(io_bus_read(r->pio, 0x511, 1), 0x20);
	io_bus_read(r->pio, 0x511, 1);
	io_bus_read(r->pio, 0x511, 1);
	for (unsigned i = 0; i < sizeof(name); i++)
		name[i] = (char)io_bus_read(r->pio, 0x511, 1);
	assert_string_equal(name, "opt/test/one");
	assert_int_equal(fw_read(r, 0x20, 6), 0x6f6c6c6568);
	assert_int_equal(fw_read(r, 0x21, 4), 0);
}

/* One request at `at`; the status that is left there. */
static uint32_t
dma(struct fw_rig *r, uint64_t at, uint32_t control, uint32_t len, uint64_t to)
{
	uint8_t q[16];

	put_le32(q, __builtin_bswap32(control));
	put_le32(q + 4, __builtin_bswap32(len));
	put_le64(q + 8, __builtin_bswap64(to));
	assert_true(gm_write(r->mem, at, q, sizeof(q)));
	io_bus_write(r->pio, 0x514, 4, __builtin_bswap32((uint32_t)(at >> 32)));
	io_bus_write(r->pio, 0x518, 4, __builtin_bswap32((uint32_t)at));
	assert_true(gm_read(r->mem, at, q, 4));
	return __builtin_bswap32(get_le32(q));
}

static void
test_fwcfg_dma(void **state)
{
	struct fw_rig *r = *state;
	char buf[8];

	assert_int_equal(io_bus_read(r->pio, 0x514, 4), 0x554d4551);
	assert_int_equal(io_bus_read(r->pio, 0x518, 4), 0x47464320);
	memset(buf, 'x', sizeof(buf));
	assert_true(gm_write(r->mem, 0x2000, buf, sizeof(buf)));
	assert_int_equal(dma(r, 0x1000, 0x20 << 16 | 8 | 2, 7, 0x2000), 0);
	assert_true(gm_read(r->mem, 0x2000, buf, sizeof(buf)));
	assert_memory_equal(buf, "hello\0\0x", 8);
	/* Select and skip, then the rest by the port. */
	assert_int_equal(dma(r, 0x1000, 0x20 << 16 | 8 | 4, 3, 0), 0);
	assert_int_equal(io_bus_read(r->pio, 0x511, 1), 'l');
	assert_int_equal(io_bus_read(r->pio, 0x511, 1), 'o');
	assert_int_equal(io_bus_read(r->pio, 0x511, 1), 0);
	/* Refused: writes, and buffers outside memory. */
	assert_int_equal(dma(r, 0x1000, 0x20 << 16 | 8 | 16, 3, 0x2000), 1);
	assert_int_equal(dma(r, 0x1000, 0x20 << 16 | 8 | 2, 0x100, RAM - 1), 1);
	assert_int_equal(dma(r, 0x1000, 0x20 << 16 | 8 | 2, 0xffffffff, UINT64_MAX - 15), 1);
	io_bus_write(r->pio, 0x518, 4, 0xffffffff);
	io_bus_write(r->pio, 0x514, 8, UINT64_MAX);
}

static void
test_fwcfg_names(void **state)
{
	struct fw_rig *r = *state;
	struct err err = {0};
	char name[80];

	memset(name, 'n', sizeof(name));
	name[56] = '\0';
	assert_true(fwcfg_add_file(r->f, name, "", 0, &err) < 0);
	name[55] = '\0';
	for (unsigned i = 2; i < FWCFG_FILES; i++)
		assert_int_equal(fwcfg_add_file(r->f, name, "", 0, &err), 0);
	assert_true(fwcfg_add_file(r->f, name, "", 0, &err) < 0);
	assert_int_equal(fw_read(r, FWCFG_FILE_DIR, 4), (uint32_t)FWCFG_FILES << 24);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_latch, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_exit, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_gsi, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_debug_port, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pctest_state, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pcitest, pci_setup, pci_teardown),
	    cmocka_unit_test_setup_teardown(test_fwcfg_items, fw_setup, fw_teardown),
	    cmocka_unit_test_setup_teardown(test_fwcfg_directory, fw_setup, fw_teardown),
	    cmocka_unit_test_setup_teardown(test_fwcfg_dma, fw_setup, fw_teardown),
	    cmocka_unit_test_setup_teardown(test_fwcfg_names, fw_setup, fw_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
