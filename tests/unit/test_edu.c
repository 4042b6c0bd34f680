/* SPDX-License-Identifier: BSD-2-Clause */
/* edu: registers, both directions of DMA with what stops it, its interrupt as a line and as a message; and
 * the way of a function's requests to memory. */
#include "tests/unit/chipset_util.h"

#include "dev/pci/dma.h"
#include "dev/pci/pci.h"
#include "dev/test/edu.h"
#include "mem/gpmap.h"

enum { RAM = 0x10000, DEVFN = PCI_DEVFN(3, 0), AT = 0xc0000000u, BUFFER = 0x40000 };
enum { ID = 0, LIVENESS = 4, FACTORIAL = 8, STATUS = 0x20, IRQ = 0x24, RAISE = 0x60, ACK = 0x64 };
enum { SRC = 0x80, DST = 0x88, COUNT = 0x90, CMD = 0x98 };
enum { START = 1, TO_MEMORY = 2, WITH_IRQ = 4, CAP_MSI = 5 };

struct rig {
	struct io_bus *pio, *mmio;
	struct memobj *obj;
	struct gpmap *mem;
	struct pci_root *root;
	struct edu *e;
	struct probe line;
	unsigned sent, asked;
	uint64_t addr, shift; /* `shift`: of what the remapping unit says */
	uint32_t data;
	uint16_t sid;
	bool forbid;
};

static bool
on_translate(void *ctx, uint16_t sid, uint64_t addr, bool write, uint64_t *gpa, uint64_t *len)
{
	struct rig *r = ctx;

	(void)write;
	r->asked++;
	r->sid = sid;
	*gpa = addr + r->shift;
	*len = MIN(*len, 0x1000 - (addr & 0xfff));
	return !r->forbid || addr < 0x2000;
}

static void
on_msi(void *ctx, uint16_t sid, uint64_t addr, uint32_t data)
{
	struct rig *r = ctx;

	r->sent++;
	r->sid = sid;
	r->addr = addr;
	r->data = data;
}

static void
cfg_set(struct rig *r, unsigned off, unsigned size, uint32_t val)
{
	pci_cfg_write(r->root, 0, DEVFN, off, size, val);
}

static uint32_t
cfg_get(struct rig *r, unsigned off, unsigned size)
{
	return pci_cfg_read(r->root, 0, DEVFN, off, size);
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct pci_root_wires w = {.iommu = {on_translate, on_msi, r}, .pirq = probe_wire(&r->line)};

	w.pio = r->pio = make_bus(0x10000);
	w.mmio = r->mmio = make_bus(1ull << 40);
	r->obj = memobj_create("ram", RAM, NULL);
	w.mem = r->mem = gpmap_create(NULL);
	assert_int_equal(gpmap_map(r->mem, 0, RAM, r->obj, 0, GM_RAM, NULL), 0);
	r->root = pci_root_create(&w, NULL);
	r->e = edu_create(NULL);
	assert_non_null(r->e);
	assert_int_equal(pci_bus_add(pci_root_bus(r->root), DEVFN, edu_func(r->e), NULL), 0);
	*state = r;
	cfg_set(r, PCI_BAR0, 4, AT);
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	pci_func_device_ops.destroy(edu_func(r->e));
	edu_device_ops.destroy(r->e);
	pci_root_device_ops.destroy(r->root);
	gpmap_destroy(r->mem);
	memobj_destroy(r->obj);
	io_bus_destroy(r->pio);
	io_bus_destroy(r->mmio);
	free(r);
	return 0;
}

static uint32_t
rd(struct rig *r, unsigned off)
{
	return (uint32_t)io_bus_read(r->mmio, AT + off, 4);
}

static void
wr(struct rig *r, unsigned off, uint32_t val)
{
	io_bus_write(r->mmio, AT + off, 4, val);
}

static void
dma(struct rig *r, uint64_t src, uint64_t dst, uint64_t count, unsigned cmd)
{
	io_bus_write(r->mmio, AT + SRC, 8, src);
	io_bus_write(r->mmio, AT + DST, 8, dst);
	io_bus_write(r->mmio, AT + COUNT, 8, count);
	io_bus_write(r->mmio, AT + CMD, 8, cmd | START);
	assert_int_equal(rd(r, CMD), cmd);
}

static uint64_t
memory(struct rig *r, uint64_t gpa)
{
	uint64_t val = 0;

	assert_true(gm_read(r->mem, gpa, &val, 8));
	return val;
}

static void
fill(struct rig *r, uint64_t gpa, uint64_t val, unsigned count)
{
	for (unsigned i = 0; i < count; i++, val++)
		assert_true(gm_write(r->mem, gpa + 8 * i, &val, 8));
}

static void
test_registers(void **state)
{
	struct rig *r = *state;

	assert_int_equal(cfg_get(r, 0, 4), 0x11e81234);
	assert_int_equal(rd(r, ID), 0x010000ed);
	wr(r, LIVENESS, 0x12345678);
	assert_int_equal(rd(r, LIVENESS), ~0x12345678u);
	static const uint32_t row[][2] = {{0, 1},	    {1, 1},	      {5, 120}, {12, 479001600},
					  {13, 1932053504}, {33, 2147483648}, {34, 0},	{UINT32_MAX, 0}};
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		wr(r, FACTORIAL, row[i][0]);
		assert_int_equal(rd(r, FACTORIAL), row[i][1]);
	}
	assert_int_equal(r->line.rises, 0);
	/* Widths and places that it does not have. */
	assert_int_equal(io_bus_read(r->mmio, AT + ID, 8), UINT64_MAX);
	assert_int_equal(io_bus_read(r->mmio, AT + SRC + 2, 4), UINT32_MAX);
	assert_int_equal(io_bus_read(r->mmio, AT + ID, 1), 0xff);
	assert_int_equal(rd(r, 0xfffc), UINT32_MAX);
	io_bus_write(r->mmio, AT + SRC, 8, 0x1122334455667788);
	io_bus_write(r->mmio, AT + SRC + 4, 4, 0xaabbccdd);
	assert_int_equal(io_bus_read(r->mmio, AT + SRC, 8), 0xaabbccdd55667788);
	assert_int_equal(io_bus_read(r->mmio, AT + SRC + 4, 4), 0xaabbccdd);
}

static void
test_dma(void **state)
{
	struct rig *r = *state;

	fill(r, 0x1000, 0x1234567800000000, 512);
	dma(r, 0x1000, BUFFER, 4096, 0);
	dma(r, BUFFER, 0x3000, 4096, TO_MEMORY);
	assert_int_equal(memory(r, 0x3000), 0x1234567800000000);
	assert_int_equal(memory(r, 0x3ff8), 0x12345678000001ff);
	assert_int_equal(r->sid, DEVFN);
	/* Bits above 27 of memory's end are not there; a part, across a page end. */
	dma(r, BUFFER + 8, 0xfffffff0000000ull + 0x4ffc, 16, TO_MEMORY);
	assert_int_equal(memory(r, 0x4ffc), 0x1234567800000001);
	assert_int_equal(memory(r, 0x5004), 0x1234567800000002);
	assert_int_equal(r->sent + r->line.rises, 0);
	r->shift = 0x1000;
	dma(r, BUFFER, 0x6000, 8, TO_MEMORY);
	assert_int_equal(memory(r, 0x7000), 0x1234567800000000);
}

static void
test_dma_stopped(void **state)
{
	static const struct {
		uint64_t src, dst, count;
		unsigned cmd;
	} row[] = {
	    {0x1000, BUFFER + 1, 4096, 0},
	    {0x1000, BUFFER - 1, 1, 0},
	    {0x1000, 0, 8, 0},
	    {0x1000, BUFFER, 4097, 0},
	    {0x1000, BUFFER, UINT64_MAX, 0},
	    {0x1000, UINT64_MAX, 8, 0},
	    {BUFFER, 0x1000, UINT64_MAX, TO_MEMORY},
	    {BUFFER + 4096, 0x1000, 1, TO_MEMORY},
	    {BUFFER, RAM, 8, TO_MEMORY},
	    {BUFFER, RAM - 4, 8, TO_MEMORY},
	    {RAM - 4, BUFFER, 8, 0},
	};
	struct rig *r = *state;

	fill(r, 0x1000, 1, 1);
	fill(r, 0x2000, 0x55, 1);
	for (size_t i = 0; i < ARRAY_LEN(row); i++)
		dma(r, row[i].src, row[i].dst, row[i].count, row[i].cmd);
	/* What was not forbidden has been done, and no more. */
	dma(r, BUFFER, 0x2000, 8, TO_MEMORY);
	assert_int_equal(memory(r, 0x2000), 0);
	assert_int_equal(memory(r, 0x1000), 1);
	fill(r, 0x1ff8, 7, 2);
	r->forbid = true;
	dma(r, BUFFER, 0x1ff8, 16, TO_MEMORY);
	assert_int_equal(memory(r, 0x1ff8), 0);
	assert_int_equal(memory(r, 0x2000), 8);
	r->forbid = false;
	r->asked = 0;
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MEM);
	dma(r, BUFFER, 0x2000, 8, TO_MEMORY);
	assert_int_equal(memory(r, 0x2000), 8);
	assert_int_equal(r->asked, 0);
}

static void
test_line(void **state)
{
	struct rig *r = *state;

	wr(r, STATUS, UINT32_MAX);
	assert_int_equal(rd(r, STATUS), 0x80);
	wr(r, FACTORIAL, 3);
	assert_true(r->line.level);
	assert_int_equal(rd(r, IRQ), 1);
	dma(r, 0x1000, BUFFER, 8, WITH_IRQ);
	assert_int_equal(rd(r, IRQ), 0x101);
	wr(r, ACK, 1);
	assert_true(r->line.level);
	wr(r, ACK, 0x100);
	assert_false(r->line.level);
	wr(r, RAISE, 0);
	assert_false(r->line.level);
	wr(r, RAISE, 0x40);
	assert_true(r->line.level);
	edu_device_ops.reset(r->e);
	assert_false(r->line.level);
	assert_int_equal(rd(r, IRQ), 0);
	assert_int_equal(r->sent, 0);
}

static unsigned
find_msi(struct rig *r)
{
	unsigned at = cfg_get(r, 0x34, 1);

	while (at != 0 && cfg_get(r, at, 1) != CAP_MSI)
		at = cfg_get(r, at + 1, 1);
	assert_int_not_equal(at, 0);
	return at;
}

static void
test_message(void **state)
{
	struct rig *r = *state;
	unsigned at = find_msi(r);

	cfg_set(r, at + 4, 4, 0xfee05000);
	cfg_set(r, at + 12, 2, 0x4031);
	cfg_set(r, at + 2, 2, 1);
	wr(r, RAISE, 2);
	assert_int_equal(r->sent, 1);
	assert_int_equal(r->addr, 0xfee05000);
	assert_int_equal(r->data, 0x4031);
	assert_int_equal(r->sid, DEVFN);
	assert_false(r->line.level);
	wr(r, RAISE, 2);
	assert_int_equal(r->sent, 2);
}

/* A dword that a function writes to 0xfeexxxxx is a message; nothing else arrives there. */
static void
test_message_by_write(void **state)
{
	static const uint8_t bytes[8] = {0x31, 0x40, 0, 0, 1};
	struct rig *r = *state;
	struct pci_func *f = edu_func(r->e);
	uint8_t buf[8];

	assert_true(pci_func_dma_write(f, 0xfee01000, bytes, 4));
	assert_int_equal(r->sent, 1);
	assert_int_equal(r->addr, 0xfee01000);
	assert_int_equal(r->data, 0x4031);
	assert_false(pci_func_dma_write(f, 0xfee01000, bytes, 8));
	assert_false(pci_func_dma_write(f, 0xfee01002, bytes, 4));
	assert_false(pci_func_dma_read(f, 0xfee01000, buf, 4));
	assert_false(pci_func_dma_write(f, UINT64_MAX - 2, bytes, 4));
	assert_true(pci_func_dma_read(f, 0, buf, 0));
	cfg_set(r, PCI_COMMAND, 2, PCI_CMD_MEM);
	assert_false(pci_func_dma_write(f, 0xfee01000, bytes, 4));
	assert_int_equal(r->sent, 1);
}

static void
test_state(void **state)
{
	struct rig *r = *state;

	fill(r, 0x1000, 0x99, 512);
	dma(r, 0x1000, BUFFER, 4096, WITH_IRQ);
	wr(r, FACTORIAL, 5);
	wr(r, LIVENESS, 5);
	wr(r, STATUS, 0x80);
	check_device_state(&edu_device_ops, r->e);
	assert_int_equal(rd(r, IRQ), 0x100);
	dma(r, BUFFER, 0x5000, 8, TO_MEMORY);
	assert_int_equal(memory(r, 0x5000), 0x99);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_registers),	      T(test_dma),   T(test_dma_stopped), T(test_line), T(test_message),
	    T(test_message_by_write), T(test_state),
	};

	return cmocka_run_group_tests_name("edu", tests, NULL, NULL);
}
