/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI root: the tree of buses, both configuration mechanisms, INTx to PIRQ
 * (PCI Local Bus 3.0 3.2.2.3.2, PCI Express Base 3.0 7.2). Locks: see pci.h.
 */
#include "dev/pci/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/pci/internal.h"

enum { PORT_CONFIG = 0xcf8, CONFIG_LEN = 8, CONFIG_DATA = 4, CONFIG_CF9 = 1 };

#define CONFIG_ENABLE	(1u << 31)
#define CONFIG_WRITABLE 0x80fffffcu
#define CONFIG_LOW	3u /* written, read as 0 */
#define ECAM_BUS_BYTES	(1ull << 20)

static const struct field root_fields[] = {
    FIELD(1, struct pci_root_state, config_address, FIELD_U32),
};

static const struct field_table root_table = {
    .name = "pci-root",
    .version = 1,
    .size = sizeof(struct pci_root_state),
    .count = ARRAY_LEN(root_fields),
    .fields = root_fields,
};

/* ---- finding a function ---- */

/* The bus with this number at or below b, whose own number is `own`. The tree bounds the recursion. */
static struct pci_bus *
find_bus(struct pci_bus *b, unsigned own, unsigned number)
{
	if (number == own)
		return b;
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		const struct pci_func *f = b->func[i];
		unsigned secondary, subordinate;

		if (f == NULL || f->secondary == NULL)
			continue;
		secondary = f->st.cfg[PCI_SECONDARY_BUS];
		subordinate = f->st.cfg[PCI_SUBORDINATE_BUS];
		if (secondary != 0 && number >= secondary && number <= subordinate)
			return find_bus(f->secondary, secondary, number);
	}
	return NULL;
}

struct pci_bus *
pci_find_bus(struct pci_root *r, unsigned number)
{
	return find_bus(&r->bus, 0, number);
}

static struct pci_func *
find_func(struct pci_root *r, unsigned bus, unsigned devfn)
{
	struct pci_bus *b = pci_find_bus(r, bus);

	return b != NULL ? b->func[devfn & 0xff] : NULL;
}

static bool
access_ok(unsigned off, unsigned size)
{
	return off < PCI_CFG_BYTES && (size == 1 || size == 2 || size == 4) && (off & 3) + size <= 4;
}

uint32_t
pci_cfg_read(struct pci_root *r, unsigned bus, unsigned devfn, unsigned off, unsigned size)
{
	struct pci_func *f;
	uint32_t val = UINT32_MAX;

	if (!access_ok(off, size))
		return val;
	pthread_mutex_lock(&r->cfg_lock);
	f = find_func(r, bus, devfn);
	if (f != NULL)
		val = pci_func_cfg_read(f, off, size);
	pthread_mutex_unlock(&r->cfg_lock);
	return val & (uint32_t)size_mask(size);
}

void
pci_cfg_write(struct pci_root *r, unsigned bus, unsigned devfn, unsigned off, unsigned size, uint32_t val)
{
	struct pci_func *f;

	if (!access_ok(off, size))
		return;
	pthread_mutex_lock(&r->cfg_lock);
	f = find_func(r, bus, devfn);
	if (f != NULL)
		pci_func_cfg_write(f, off, size, val);
	pthread_mutex_unlock(&r->cfg_lock);
}

/* ---- mechanism #1 ---- */

static uint32_t
address_get(struct pci_root *r)
{
	uint32_t v;

	pthread_mutex_lock(&r->cfg_lock);
	v = r->st.config_address;
	pthread_mutex_unlock(&r->cfg_lock);
	return v;
}

/* Bits 1:0 of CONFIG_ADDRESS read as 0 (3.2.2.3.2). As in QEMU they choose within CONFIG_DATA all the same,
 * for guests that leave the port where it is. */
static unsigned
data_off(uint32_t addr, uint64_t off, unsigned size)
{
	unsigned low = ((addr & CONFIG_LOW) | (off & 3)) & ~(size - 1);

	return (addr & 0xfc) | low | (off & 3);
}

/* CONFIG_ADDRESS takes dword accesses only; a byte at 0xcf9 is another register (ICH9 data sheet 13.7.5). */
static uint64_t
port_read(void *dev, uint64_t off, unsigned size)
{
	struct pci_root *r = dev;
	uint32_t addr;

	if (off == 0 && size == 4)
		return address_get(r) & CONFIG_WRITABLE;
	if (off == CONFIG_CF9 && size == 1 && r->w.cf9_read != NULL)
		return r->w.cf9_read(r->w.cf9_ctx);
	if (off < CONFIG_DATA)
		return size_mask(size);
	addr = address_get(r);
	if ((addr & CONFIG_ENABLE) == 0)
		return size_mask(size);
	return pci_cfg_read(r, bits(addr, 16, 8), bits(addr, 8, 8), data_off(addr, off, size), size);
}

static void
port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pci_root *r = dev;
	uint32_t addr;

	if (off == 0 && size == 4) {
		pthread_mutex_lock(&r->cfg_lock);
		r->st.config_address = (uint32_t)val & (CONFIG_WRITABLE | CONFIG_LOW);
		pthread_mutex_unlock(&r->cfg_lock);
		return;
	}
	if (off == CONFIG_CF9 && size == 1 && r->w.cf9_write != NULL)
		r->w.cf9_write(r->w.cf9_ctx, (uint8_t)val);
	addr = address_get(r);
	if (off < CONFIG_DATA || (addr & CONFIG_ENABLE) == 0)
		return;
	pci_cfg_write(r, bits(addr, 16, 8), bits(addr, 8, 8), data_off(addr, off, size), size, (uint32_t)val);
}

/* ---- ECAM ---- */

static uint64_t
ecam_read(void *dev, uint64_t off, unsigned size)
{
	return pci_cfg_read(dev, bits(off, 20, 8), bits(off, 12, 8), off & 0xfff, size);
}

static void
ecam_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	pci_cfg_write(dev, bits(off, 20, 8), bits(off, 12, 8), off & 0xfff, size, (uint32_t)val);
}

int
pci_root_ecam(struct pci_root *r, uint64_t base, unsigned buses, struct err *err)
{
	const struct io_region region = {
	    .name = "pci ecam",
	    .base = base,
	    .len = buses * ECAM_BUS_BYTES,
	    .widths = IO_W1 | IO_W2 | IO_W4 | IO_SPLIT,
	    .read = ecam_read,
	    .write = ecam_write,
	    .dev = r,
	};
	int ret = io_bus_add(r->w.mmio, &region, err);

	if (ret == 0)
		r->ecam_base = base;
	return ret;
}

/* ---- INTx ---- */

/* Each bridge on the way up turns the pin by its device number (PCI-to-PCI Bridge 1.2, table 9-1). */
unsigned
pci_func_pirq(const struct pci_func *f)
{
	unsigned pin = f->cfg.intr_pin - 1u, dev = f->devfn >> 3;

	for (const struct pci_func *up = f->bus->bridge; up != NULL; up = up->bus->bridge) {
		pin = (pin + dev) & 3;
		dev = up->devfn >> 3;
		if (up->bus == NULL)
			break;
	}
	return pci_pirq(dev, pin);
}

void
pci_intx_update(struct pci_func *f)
{
	struct pci_root *r;
	bool out = f->st.intx != 0 && !f->intx_off && f->cfg.intr_pin != 0;
	unsigned pirq;
	struct irq_wire w;

	if (f->bus == NULL || out == f->intx_out)
		return;
	r = f->bus->root;
	pirq = pci_func_pirq(f);
	f->intx_out = out;
	r->pirq_count[pirq] += out ? 1u : -1u;
	w = r->w.pirq;
	w.line = pirq;
	if (r->pirq_count[pirq] == (out ? 1 : 0))
		irq_set(&w, out);
}

void
pci_func_intx(struct pci_func *f, bool level)
{
	struct pci_root *r;

	if (f->bus == NULL)
		return;
	r = f->bus->root;
	pthread_mutex_lock(&r->intx_lock);
	f->st.intx = level;
	pci_intx_update(f);
	pthread_mutex_unlock(&r->intx_lock);
}

/* ---- buses ---- */

struct pci_bus *
pci_root_bus(struct pci_root *r)
{
	return &r->bus;
}

struct pci_bus *
pci_func_secondary(struct pci_func *f)
{
	if (f->secondary == NULL && f->bus != NULL) {
		f->secondary = calloc(1, sizeof(*f->secondary));
		if (f->secondary != NULL) {
			f->secondary->root = f->bus->root;
			f->secondary->bridge = f;
		}
	}
	return f->secondary;
}

void
pci_bus_number(struct pci_bus *b, unsigned number)
{
	b->number = number;
}

int
pci_bus_add(struct pci_bus *b, unsigned devfn, struct pci_func *f, struct err *err)
{
	struct pci_root *r = b->root;

	LH_ASSERT(f->bus == NULL && devfn < PCI_DEVFNS);
	pthread_mutex_lock(&r->cfg_lock);
	if (b->func[devfn] != NULL) {
		pthread_mutex_unlock(&r->cfg_lock);
		return err_set(err, EEXIST,
			       "pci slot %u:%u: %s is there already (choose another slot for %s)", devfn >> 3,
			       devfn & 7, b->func[devfn]->name, f->name);
	}
	memcpy(f->init, f->st.cfg, sizeof(f->init));
	b->func[devfn] = f;
	f->bus = b;
	f->devfn = devfn;
	f->next = r->funcs;
	r->funcs = f;
	pci_func_sync(f);
	pthread_mutex_unlock(&r->cfg_lock);
	return 0;
}

void
pci_bus_remove(struct pci_func *f)
{
	struct pci_root *r;

	if (f->bus == NULL)
		return;
	r = f->bus->root;
	pci_func_intx(f, false);
	pthread_mutex_lock(&r->cfg_lock);
	pci_func_unmap(f);
	for (struct pci_func **p = &r->funcs; *p != NULL; p = &(*p)->next) {
		if (*p == f) {
			*p = f->next;
			break;
		}
	}
	f->bus->func[f->devfn] = NULL;
	f->bus = NULL;
	pthread_mutex_unlock(&r->cfg_lock);
}

/* ---- the root as a device ---- */

struct pci_root *
pci_root_create(const struct pci_root_wires *w, struct err *err)
{
	struct pci_root *r = calloc(1, sizeof(*r));
	const struct io_region ports = {
	    .name = "pci configuration",
	    .base = PORT_CONFIG,
	    .len = CONFIG_LEN,
	    .widths = IO_W1 | IO_W2 | IO_W4,
	    .read = port_read,
	    .write = port_write,
	    .dev = r,
	};

	if (r == NULL) {
		err_set(err, ENOMEM, "pci: no memory");
		return NULL;
	}
	if (io_bus_add(w->pio, &ports, err) != 0) {
		free(r);
		return NULL;
	}
	r->w = *w;
	r->bus.root = r;
	pthread_mutex_init(&r->cfg_lock, NULL);
	pthread_mutex_init(&r->intx_lock, NULL);
	return r;
}

static void
root_destroy(void *dev)
{
	struct pci_root *r = dev;

	if (r == NULL)
		return;
	LH_ASSERT(r->funcs == NULL);
	io_bus_remove(r->w.pio, PORT_CONFIG, r);
	if (r->ecam_base != 0)
		io_bus_remove(r->w.mmio, r->ecam_base, r);
	pthread_mutex_destroy(&r->cfg_lock);
	pthread_mutex_destroy(&r->intx_lock);
	free(r);
}

static void
root_reset(void *dev)
{
	struct pci_root *r = dev;

	pthread_mutex_lock(&r->cfg_lock);
	r->st.config_address = 0;
	pthread_mutex_unlock(&r->cfg_lock);
}

static void *
root_st(void *dev)
{
	return &((struct pci_root *)dev)->st;
}

static int
root_post_load(void *dev, struct err *err)
{
	(void)err;
	((struct pci_root *)dev)->st.config_address &= CONFIG_WRITABLE | CONFIG_LOW;
	return 0;
}

static void
root_stats(void *dev, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	const struct pci_root *r = dev;

	fn(arg, "messages", atomic_load_explicit(&r->messages, memory_order_relaxed));
	fn(arg, "messages.by_irqfd", atomic_load_explicit(&r->messages_by_irqfd, memory_order_relaxed));
}

const struct device_ops pci_root_device_ops = {
    .type = "pci-root",
    .destroy = root_destroy,
    .reset = root_reset,
    .state = &root_table,
    .st = root_st,
    .stats = root_stats,
    .post_load = root_post_load,
};
