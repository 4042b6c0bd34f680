/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: a hostile driver against every virtio device, through their PCI registers on a bus in this
 * process, with queues in memory that it writes at any time. Input is records of 16 bytes, each an act of the
 * driver:
 *
 *   0 kind   1 device   2 x   3 y   4 a (4 bytes)   8 b (8 bytes)
 *
 * Whatever it does: no crash, no endless walk, and registers that go on answering. At the end a device that
 * is reset must work: its status reads 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"
#include "dev/pci/model.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"
#include "mem/gpmap.h"

enum { RAM = 1 << 20, DEVICES = 5, RECORD = 16, DISK = 1 << 20, OWNED_MAX = 160, REGS_BAR = 4 };
enum { POKE, REG, REG_READ, CFG, NOTIFY, START, DESC, OFFER, PUMP, FRAME, RESET, HEADER, KINDS };
enum { COMMON_STATUS = 0x14, NOTIFY_AREA = 0x3000 };

struct target {
	struct pci_func *f;
	struct virtio *v;
	uint16_t avail[8]; /* what the driver offered, a queue */
};

static struct rig {
	struct io_bus *pio, *mmio;
	struct pci_root *root;
	struct memobj *obj;
	struct gpmap *mem;
	uint8_t *ram;
	struct evloop *loop;
	int wake, wire;
	struct sockaddr_un card; /* of the network */
	char disk[64], sock_a[64], sock_b[64], port[64];
	struct target target[DEVICES];
	unsigned targets;
	struct {
		const struct device_ops *ops;
		void *dev;
	} owned[OWNED_MAX];
	unsigned owns;
} rig;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the devices ---- */

static const char *
option(void *ctx, const char *key)
{
	static const struct {
		const char *model, *key, *value;
	} fixed[] = {
	    {"virtio-blk", "path", rig.disk},
	    {"virtio-blk", "queues", "2"},
	    {"virtio-net", "backend", "unix"},
	    {"virtio-net", "path", rig.sock_a},
	    {"virtio-net", "peer", rig.sock_b},
	    {"virtio-net", "queues", "2"},
	    {"virtio-console", "port.0.path", rig.port},
	    {"virtio-threads", "aio", "threads"},
	};

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		if (strcmp(fixed[i].key, key) == 0 && strcmp(fixed[i].model, ctx) == 0)
			return fixed[i].value;
	}
	return NULL;
}

static int
own(void *ctx, const struct device_ops *ops, void *dev, const char *part, struct err *err)
{
	(void)ctx, (void)part, (void)err;
	LH_ASSERT(rig.owns < OWNED_MAX);
	rig.owned[rig.owns].ops = ops;
	rig.owned[rig.owns++].dev = dev;
	if (ops == &virtio_device_ops)
		rig.target[rig.targets].v = dev;
	return 0;
}

static void
on_wake(void *arg, uint32_t events)
{
	uint64_t count;

	(void)events;
	if (read(rig.wake, &count, sizeof(count)) == sizeof(count))
		evloop_stop(arg);
}

static void
ignore_msi(void *ctx, uint64_t addr, uint32_t data)
{
	(void)ctx, (void)addr, (void)data;
}

static void
make_device(const char *name)
{
	struct err err = {0};
	const struct pci_model_env env = {
	    .where = name,
	    .vm_name = "fuzz",
	    .loop = rig.loop,
	    .mem = rig.mem,
	    .virtio_msix = rig.targets % 2 == 0,
	    .option = option,
	    .own = own,
	    .ctx = (void *)name,
	};
	struct pci_func *f = pci_model_find(name)->create(&env, &err);

	if (f == NULL || pci_bus_add(pci_root_bus(rig.root), PCI_DEVFN(rig.targets + 1, 0), f, &err) != 0) {
		fprintf(stderr, "%s: %s\n", name, err.msg);
		abort();
	}
	rig.target[rig.targets++].f = f;
}

static void
make_names(void)
{
	int fd = memfd_create("disk", 0);

	if (fd < 0 || ftruncate(fd, DISK) != 0)
		abort();
	snprintf(rig.disk, sizeof(rig.disk), "/proc/self/fd/%d", fd);
	snprintf(rig.sock_a, sizeof(rig.sock_a), "/tmp/fuzz-%d.a", getpid());
	snprintf(rig.sock_b, sizeof(rig.sock_b), "/tmp/fuzz-%d.b", getpid());
	snprintf(rig.port, sizeof(rig.port), "/tmp/fuzz-%d.c", getpid());
}

static void
make_wire(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	rig.wire = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", rig.sock_b);
	unlink(rig.sock_b);
	if (rig.wire < 0 || bind(rig.wire, (struct sockaddr *)&a, sizeof(a)) != 0)
		abort();
	rig.card.sun_family = AF_UNIX;
	snprintf(rig.card.sun_path, sizeof(rig.card.sun_path), "%s", rig.sock_a);
}

static void
at_exit(void)
{
	unlink(rig.sock_a);
	unlink(rig.sock_b);
	unlink(rig.port);
}

static void
each_device(bool start)
{
	for (unsigned i = 0; i < rig.owns; i++) {
		void (*fn)(void *) = start ? rig.owned[i].ops->start : rig.owned[i].ops->reset;

		if (fn != NULL)
			fn(rig.owned[i].dev);
	}
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const models[DEVICES] = {"virtio-blk", "virtio-net", "virtio-console",
						    "virtio-rnd", "virtio-rnd"};
	struct err err = {0};
	struct pci_root_wires w = {.msi = ignore_msi};

	(void)argc, (void)argv;
	log_init(STDERR_FILENO, LOG_ERROR);
	make_names();
	make_wire();
	atexit(at_exit);
	rig.obj = memobj_create("fuzz", RAM, &err);
	rig.mem = gpmap_create(&err);
	rig.loop = evloop_create(&err);
	w.pio = rig.pio = io_bus_create("pio", 0x10000, &err);
	w.mmio = rig.mmio = io_bus_create("mmio", 1ull << 40, &err);
	rig.root = pci_root_create(&w, &err);
	rig.wake = eventfd(0, EFD_NONBLOCK);
	if (rig.root == NULL || gpmap_map(rig.mem, 0, RAM, rig.obj, 0, GM_RAM, &err) != 0 ||
	    ev_add(rig.loop, rig.wake, EPOLLIN, on_wake, rig.loop, &err) == NULL)
		abort();
	rig.ram = memobj_hva(rig.obj);
	for (unsigned i = 0; i < DEVICES; i++)
		make_device(models[i]);
	each_device(true);
	return 0;
}

/* ---- acts ---- */

struct act {
	uint8_t kind, device, x, y;
	uint32_t a;
	uint64_t b;
};

static uint64_t
reg(const struct target *t, uint32_t off)
{
	return pci_func_bar_addr(t->f, REGS_BAR) + off % 0x4000;
}

static void
reg_write(const struct target *t, uint32_t off, unsigned size, uint64_t val)
{
	io_bus_write(rig.mmio, reg(t, off), size, val);
}

/* Everything that is ready on the loop, once; the disk's requests to their end. */
static void
pump(void)
{
	const uint64_t one = 1;

	for (unsigned i = 0; i < rig.targets; i++)
		virtio_poll(rig.target[i].v);
	for (unsigned i = 0; i < rig.owns; i++) {
		if (strcmp(rig.owned[i].ops->type, "virtio-blk") == 0) {
			rig.owned[i].ops->stop(rig.owned[i].dev);
			rig.owned[i].ops->start(rig.owned[i].dev);
		}
	}
	if (write(rig.wake, &one, sizeof(one)) != sizeof(one))
		abort();
	evloop_run(rig.loop);
}

static uint64_t
ring_base(unsigned device, unsigned queue)
{
	return 0x10000 + (device * 6 + queue) % 30 * 0x2000;
}

/* As a driver that knows what it does, with a choice of features: what follows comes deeper. */
static void
start(unsigned d, struct target *t, uint64_t features)
{
	reg_write(t, COMMON_STATUS, 1, 0);
	pump();
	reg_write(t, COMMON_STATUS, 1, 3);
	for (unsigned half = 0; half < 2; half++) {
		uint32_t offered, want = (uint32_t)(features >> (32 * half)) | (half == 1);

		reg_write(t, 0, 4, half);
		offered = (uint32_t)io_bus_read(rig.mmio, reg(t, 4), 4);
		reg_write(t, 8, 4, half);
		reg_write(t, 0xc, 4, offered & want);
	}
	reg_write(t, COMMON_STATUS, 1, 11);
	for (unsigned q = 0; q < 6; q++) {
		uint64_t base = ring_base(d, q);

		reg_write(t, 0x16, 2, q);
		reg_write(t, 0x1a, 2, q);
		reg_write(t, 0x20, 8, base);
		reg_write(t, 0x28, 8, base + 0x1000);
		reg_write(t, 0x30, 8, base + 0x1400);
		reg_write(t, 0x1c, 2, 1);
		t->avail[q] = 0;
	}
	reg_write(t, COMMON_STATUS, 1, 15);
}

static void
put_desc(unsigned d, const struct act *p)
{
	uint8_t *at = rig.ram + ring_base(d, p->x % 6) + 16u * p->y;
	uint64_t gpa = p->b >> 63 ? p->b : p->b % RAM;

	put_le64(at, gpa);
	put_le32(at + 8, p->a & 0xffff);
	put_le16(at + 12, p->a >> 16 & 0xffff);
	put_le16(at + 14, (uint16_t)(p->b >> 32 & 0xffff));
}

static void
offer(unsigned d, struct target *t, const struct act *p)
{
	unsigned q = p->x % 6;
	uint64_t driver = ring_base(d, q) + 0x1000;

	put_le16(rig.ram + driver + 4 + 2 * (t->avail[q] % 256), p->y);
	put_le16(rig.ram + driver + 2, ++t->avail[q]);
	reg_write(t, NOTIFY_AREA + 4 * q, 2, q);
}

static void
perform(const struct act *p)
{
	unsigned d = p->device % rig.targets, size = 1u << (p->x % 4);
	struct target *t = &rig.target[d];

	switch (p->kind % KINDS) {
	case POKE:
		memcpy(rig.ram + p->a % (RAM - 8), &p->b, p->y % 8 + 1);
		break;
	case REG:
		reg_write(t, p->a, size, p->b);
		break;
	case REG_READ:
		(void)io_bus_read(rig.mmio, reg(t, p->a), size);
		break;
	case CFG:
		pci_cfg_write(rig.root, 0, PCI_DEVFN(d + 1, 0), p->a & 0xfc, 4, (uint32_t)p->b);
		(void)pci_cfg_read(rig.root, 0, PCI_DEVFN(d + 1, 0), p->a & 0xff & ~(size - 1), size & 7);
		break;
	case NOTIFY:
		reg_write(t, NOTIFY_AREA + 4u * p->x, 2, p->x);
		break;
	case START:
		start(d, t, p->b);
		break;
	case DESC:
		put_desc(d, p);
		break;
	case OFFER:
		offer(d, t, p);
		break;
	case PUMP:
		pump();
		break;
	case FRAME:
		(void)!sendto(rig.wire, rig.ram + p->b % (RAM / 2), p->a % 3000, MSG_DONTWAIT,
			      (struct sockaddr *)&rig.card, sizeof(rig.card));
		break;
	case RESET:
		reg_write(t, COMMON_STATUS, 1, 0);
		break;
	case HEADER: /* of a disk's request */
		put_le32(rig.ram + p->y * 0x800u + 0x60000, p->x);
		put_le64(rig.ram + p->y * 0x800u + 0x60008, p->b);
		break;
	}
}

static void
fresh(void)
{
	const struct pci_windows w = {.io = {0x1000, 0xe000}, .mem32 = {0xc0000000, 0x10000000}};
	struct err err = {0};
	char junk[64];

	memset(rig.ram, 0, RAM);
	each_device(false);
	if (pci_assign(rig.root, &w, &err) != 0)
		abort();
	for (unsigned i = 0; i < rig.targets; i++)
		pci_cfg_write(rig.root, 0, PCI_DEVFN(i + 1, 0), PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	while (recv(rig.wire, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
}

/* Whatever happened: mapped again and reset, each is as new. */
static void
check_reset(unsigned d)
{
	struct target *t = &rig.target[d];

	pci_cfg_write(rig.root, 0, PCI_DEVFN(d + 1, 0), PCI_BAR0 + 16, 4, 0xd0000000u + d * 0x10000);
	pci_cfg_write(rig.root, 0, PCI_DEVFN(d + 1, 0), PCI_BAR0 + 20, 4, 0);
	pci_cfg_write(rig.root, 0, PCI_DEVFN(d + 1, 0), PCI_COMMAND, 2, PCI_CMD_MEM | PCI_CMD_MASTER);
	if (pci_func_bar_addr(t->f, REGS_BAR) != 0xd0000000u + d * 0x10000)
		return; /* another BAR was put in its place */
	reg_write(t, COMMON_STATUS, 1, 0);
	pump();
	if (io_bus_read(rig.mmio, reg(t, COMMON_STATUS), 1) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct act p;

	if (size > 1024 * RECORD)
		return -1;
	fresh();
	for (size_t at = 0; at + RECORD <= size; at += RECORD) {
		memcpy(&p, data + at, sizeof(p));
		perform(&p);
	}
	pump();
	for (unsigned d = 0; d < rig.targets; d++)
		check_reset(d);
	return 0;
}
