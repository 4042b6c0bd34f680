/* SPDX-License-Identifier: BSD-2-Clause */
/* The virtio device by its PCI registers: negotiation, queues, interrupts by line, the window, resets, state.
 */
#include <errno.h>

#include "dev/pci/model.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"
#include "mem/gpmap.h"
#include "tests/unit/chipset_util.h"

enum { RAM = 1 << 20, REGS = 0xd0000000u, ISR = 0x1000, CONFIG = 0x2000, NOTIFY = 0x3000, SIZE = 16 };
enum { DESC = 0x1000, DRIVER = 0x2000, DEVICE = 0x3000, DATA = 0x4000 };
enum {
	R_DEVICE_SELECT = 0,
	R_DEVICE_FEATURE = 4,
	R_DRIVER_SELECT = 8,
	R_DRIVER_FEATURE = 12,
	R_QUEUES = 0x12
};
enum {
	R_STATUS = 0x14,
	R_GENERATION = 0x15,
	R_SELECT = 0x16,
	R_SIZE = 0x18,
	R_VECTOR = 0x1a,
	R_ENABLE = 0x1c
};
enum { R_DESC = 0x20, R_DRIVER = 0x28, R_DEVICE = 0x30 };

#define FEATURE_TOY (1ull << 5)

struct rig {
	struct io_bus *pio, *mmio;
	struct pci_root *root;
	struct memobj *obj;
	struct gpmap *mem;
	uint8_t *ram;
	struct probe pirq;
	struct virtio *v;
	struct virtq_chain chain;
	unsigned works, resets, oks;
	bool busy; /* quiesce says: not yet */
	unsigned quiesced;
};

static void
toy_work(void *dev, unsigned n)
{
	struct rig *r = dev;
	struct virtq *q = virtio_queue(r->v, n);

	r->works++;
	virtio_lock(r->v);
	while (virtq_pop(q, &r->chain)) {
		virtq_write(q, &r->chain, 0, "answer", 6);
		virtq_push(q, &r->chain, 6);
	}
	virtio_signal(r->v, q);
	virtio_unlock(r->v);
}

static bool
toy_quiesce(void *dev)
{
	struct rig *r = dev;

	r->quiesced++;
	return !r->busy;
}

static void
toy_ok(void *dev)
{
	((struct rig *)dev)->oks++;
}

static void
toy_reset(void *dev)
{
	((struct rig *)dev)->resets++;
}

static const struct virtio_model toy = {
    .type = "toy",
    .id = 4,
    .class_code = 0x100000,
    .work = toy_work,
    .quiesce = toy_quiesce,
    .driver_ok = toy_ok,
    .was_reset = toy_reset,
};

static uint32_t
get(struct rig *r, unsigned off, unsigned size)
{
	return (uint32_t)io_bus_read(r->mmio, REGS + off, size);
}

static void
put(struct rig *r, unsigned off, unsigned size, uint64_t val)
{
	io_bus_write(r->mmio, REGS + off, size, val);
}

static int
setup(void **state)
{
	static const uint16_t sizes[] = {SIZE, SIZE};
	static const uint8_t config[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct rig *r = calloc(1, sizeof(*r));
	struct pci_root_wires w = {.pirq = probe_wire(&r->pirq)};
	struct virtio_cfg c = {
	    .model = &toy,
	    .dev = r,
	    .name = "toy",
	    .features = FEATURE_TOY,
	    .queues = 2,
	    .queue_size = sizes,
	    .config = config,
	    .config_len = sizeof(config),
	};
	struct err err = {0};

	w.pio = r->pio = make_bus(0x10000);
	w.mmio = r->mmio = make_bus(1ull << 40);
	r->root = pci_root_create(&w, &err);
	r->obj = memobj_create("test", RAM, &err);
	c.mem = r->mem = gpmap_create(&err);
	assert_int_equal(gpmap_map(r->mem, 0, RAM, r->obj, 0, GM_RAM, &err), 0);
	r->ram = memobj_hva(r->obj);
	r->v = virtio_create(&c, &err);
	assert_non_null(r->v);
	assert_int_equal(pci_bus_add(pci_root_bus(r->root), PCI_DEVFN(3, 0), virtio_func(r->v), &err), 0);
	pci_cfg_write(r->root, 0, PCI_DEVFN(3, 0), PCI_BAR0 + 16, 4, REGS);
	pci_cfg_write(r->root, 0, PCI_DEVFN(3, 0), PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;
	struct pci_func *f = virtio_func(r->v);

	virtio_device_ops.destroy(r->v);
	pci_func_device_ops.destroy(f);
	pci_root_device_ops.destroy(r->root);
	virtq_chain_free(&r->chain);
	gpmap_destroy(r->mem);
	memobj_destroy(r->obj);
	io_bus_destroy(r->pio);
	io_bus_destroy(r->mmio);
	free(r);
	return 0;
}

static uint8_t
negotiate(struct rig *r, uint64_t features)
{
	put(r, R_STATUS, 1, 1);
	put(r, R_STATUS, 1, 3);
	for (unsigned half = 0; half < 2; half++) {
		put(r, R_DRIVER_SELECT, 4, half);
		put(r, R_DRIVER_FEATURE, 4, features >> (32 * half));
	}
	put(r, R_STATUS, 1, 11);
	return (uint8_t)get(r, R_STATUS, 1);
}

static void
run_driver(struct rig *r)
{
	assert_int_equal(negotiate(r, VIRTIO_F_VERSION_1), 11);
	put(r, R_SELECT, 2, 0);
	put(r, R_DESC, 8, DESC);
	put(r, R_DRIVER, 4, DRIVER); /* in halves, as a 32-bit driver does */
	put(r, R_DRIVER + 4, 4, 0);
	put(r, R_DEVICE, 8, DEVICE);
	put(r, R_ENABLE, 2, 1);
	assert_int_equal(get(r, R_ENABLE, 2), 1);
	put(r, R_STATUS, 1, 15);
}

static void
offer(struct rig *r, uint16_t n, uint64_t gpa)
{
	put_le64(r->ram + DESC, gpa);
	put_le32(r->ram + DESC + 8, 64);
	put_le16(r->ram + DESC + 12, 2);
	put_le16(r->ram + DRIVER + 2, n);
	put(r, NOTIFY, 2, 0);
}

static void
test_negotiation(void **state)
{
	struct rig *r = *state;
	uint64_t offered;

	put(r, R_DEVICE_SELECT, 4, 0);
	offered = get(r, R_DEVICE_FEATURE, 4);
	put(r, R_DEVICE_SELECT, 4, 1);
	offered |= (uint64_t)get(r, R_DEVICE_FEATURE, 4) << 32;
	assert_int_equal(offered, FEATURE_TOY | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
				      VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
	put(r, R_DEVICE_SELECT, 4, 2);
	assert_int_equal(get(r, R_DEVICE_FEATURE, 4), 0);
	assert_int_equal(get(r, R_QUEUES, 2), 2);
	assert_int_equal(get(r, R_SIZE, 2), SIZE);
	put(r, R_SELECT, 2, 2);
	assert_int_equal(get(r, R_SIZE, 2), 0); /* no such queue */
	assert_int_equal(get(r, CONFIG, 4), 0x04030201);
	put(r, CONFIG, 4, 0);
	assert_int_equal(get(r, CONFIG + 4, 2), 0x0605);
	assert_int_equal(get(r, CONFIG + 6, 4), 0); /* past its end */

	assert_int_equal(negotiate(r, FEATURE_TOY), 3); /* not of this age */
	assert_int_equal(negotiate(r, VIRTIO_F_VERSION_1 | 1), 3);
	put(r, R_STATUS, 1, 15);
	assert_int_equal(get(r, R_STATUS, 1) & 4, 0); /* no DRIVER_OK without features */
	assert_int_equal(r->oks, 0);
	assert_int_equal(negotiate(r, VIRTIO_F_VERSION_1 | FEATURE_TOY), 11);
	put(r, R_DRIVER_SELECT, 4, 0);
	put(r, R_DRIVER_FEATURE, 4, 0); /* too late */
	assert_int_equal(get(r, R_DRIVER_FEATURE, 4), FEATURE_TOY);
	put(r, R_STATUS, 1, 15);
	assert_int_equal(r->oks, 1);
}

static void
test_queue_and_line(void **state)
{
	struct rig *r = *state;

	run_driver(r);
	put(r, R_DESC, 8, 0x9000); /* fixed while enabled */
	assert_int_equal(get(r, R_DESC, 4), DESC);
	offer(r, 1, DATA);
	assert_int_equal(r->works, 0); /* a bell, no more */
	virtio_poll(r->v);
	assert_memory_equal(r->ram + DATA, "answer", 6);
	assert_int_equal(get_le16(r->ram + DEVICE + 2), 1);
	assert_int_equal(get_le32(r->ram + DEVICE + 8), 6);
	assert_true(r->pirq.level);
	assert_int_equal(get(r, ISR, 1), 1);
	assert_false(r->pirq.level);
	assert_int_equal(get(r, ISR, 1), 0);
	/* Without bus mastering it waits, and goes on by itself. */
	pci_cfg_write(r->root, 0, PCI_DEVFN(3, 0), PCI_COMMAND, 2, PCI_CMD_MEM);
	offer(r, 2, DATA);
	virtio_poll(r->v);
	assert_int_equal(get_le16(r->ram + DEVICE + 2), 1);
	pci_cfg_write(r->root, 0, PCI_DEVFN(3, 0), PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	virtio_poll(r->v);
	assert_int_equal(get_le16(r->ram + DEVICE + 2), 2);
}

static void
test_needs_reset(void **state)
{
	struct rig *r = *state;

	run_driver(r);
	offer(r, 1, RAM); /* a buffer beyond memory */
	virtio_poll(r->v);
	assert_int_equal(get(r, R_STATUS, 1), 15 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(get(r, ISR, 1), 2); /* as a change of configuration */
	assert_int_equal(get(r, R_GENERATION, 1), 1);
	offer(r, 2, DATA);
	virtio_poll(r->v);
	assert_int_equal(get_le16(r->ram + DEVICE + 2), 0);
	put(r, R_STATUS, 1, 15); /* does not go away so */
	assert_int_equal(get(r, R_STATUS, 1), 15 | VIRTIO_STATUS_NEEDS_RESET);
	put(r, R_STATUS, 1, 0);
	virtio_poll(r->v);
	assert_int_equal(get(r, R_STATUS, 1), 0);
	memset(r->ram, 0, RAM);
	run_driver(r);
	offer(r, 1, DATA);
	virtio_poll(r->v);
	assert_memory_equal(r->ram + DATA, "answer", 6);
}

/* The old status until what is in flight has ended; nothing is taken meanwhile. */
static void
test_reset_waits(void **state)
{
	struct rig *r = *state;

	run_driver(r);
	r->busy = true;
	put(r, R_STATUS, 1, 0);
	assert_int_equal(get(r, R_STATUS, 1), 15);
	virtio_poll(r->v);
	assert_int_equal(r->quiesced, 1);
	assert_int_equal(get(r, R_STATUS, 1), 15);
	offer(r, 1, DATA);
	put(r, R_STATUS, 1, 1);
	virtio_poll(r->v);
	assert_int_equal(r->works, 0);
	assert_int_equal(get(r, R_STATUS, 1), 15);
	virtio_reset_done(r->v);
	assert_int_equal(get(r, R_STATUS, 1), 0);
	put(r, R_SELECT, 2, 0);
	assert_int_equal(get(r, R_ENABLE, 2), 0);
	assert_int_equal(get(r, R_DESC, 4), 0);
	assert_true(r->resets > 0);
}

static unsigned
find_window(struct rig *r)
{
	unsigned at = pci_cfg_read(r->root, 0, PCI_DEVFN(3, 0), PCI_CAP_PTR, 1);

	while (at != 0 && (pci_cfg_read(r->root, 0, PCI_DEVFN(3, 0), at, 1) != 9 ||
			   pci_cfg_read(r->root, 0, PCI_DEVFN(3, 0), at + 3, 1) != 5))
		at = pci_cfg_read(r->root, 0, PCI_DEVFN(3, 0), at + 1, 1);
	assert_int_not_equal(at, 0);
	return at;
}

static void
test_window(void **state)
{
	struct rig *r = *state;
	unsigned w = find_window(r), devfn = PCI_DEVFN(3, 0);

	pci_cfg_write(r->root, 0, devfn, w + 4, 1, 4);
	pci_cfg_write(r->root, 0, devfn, w + 8, 4, CONFIG);
	pci_cfg_write(r->root, 0, devfn, w + 12, 4, 4);
	assert_int_equal(pci_cfg_read(r->root, 0, devfn, w + 16, 4), 0x04030201);
	pci_cfg_write(r->root, 0, devfn, w + 8, 4, R_STATUS);
	pci_cfg_write(r->root, 0, devfn, w + 12, 4, 1);
	pci_cfg_write(r->root, 0, devfn, w + 16, 1, 3);
	assert_int_equal(get(r, R_STATUS, 1), 3);
	/* Elsewhere, askew, or of a width that is none: nothing happens. */
	pci_cfg_write(r->root, 0, devfn, w + 12, 4, 3);
	pci_cfg_write(r->root, 0, devfn, w + 16, 1, 7);
	pci_cfg_write(r->root, 0, devfn, w + 12, 4, 4);
	pci_cfg_write(r->root, 0, devfn, w + 16, 4, 7);
	pci_cfg_write(r->root, 0, devfn, w + 8, 4, 0x4000);
	pci_cfg_write(r->root, 0, devfn, w + 16, 4, 7);
	assert_int_equal(get(r, R_STATUS, 1), 3);
}

static void
test_state(void **state)
{
	struct rig *r = *state;
	struct err err = {0};

	run_driver(r);
	check_device_state(&virtio_device_ops, r->v);
	assert_int_equal(get(r, R_STATUS, 1), 15);
	/* Features that this device does not have. */
	put(r, R_STATUS, 1, 0);
	virtio_poll(r->v);
	run_driver(r);
	((uint64_t *)virtio_device_ops.st(r->v))[0] |= 1; /* driver_features comes first */
	assert_int_equal(virtio_device_ops.post_load(r->v, &err), -ENOTSUP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_negotiation, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_queue_and_line, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_needs_reset, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_reset_waits, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_window, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_state, setup, teardown),
	};

	return cmocka_run_group_tests_name("virtio", tests, NULL, NULL);
}
