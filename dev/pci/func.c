/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One PCI function: configuration space as data, BARs that follow it onto the I/O
 * buses, capability lists (PCI Local Bus 3.0 ch. 6, PCI Express Base 3.0 7.5).
 * Everything here runs under the root's configuration lock, except declarations, which
 * happen before the function is plugged in.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dev/pci/internal.h"

enum { CAP_AREA = 0x40, EXT_AREA = 0x100 };
enum { BAR_IO = 1, BAR_MEM64 = 4, BAR_PREFETCH = 8 };

#define COMMAND_WRITABLE \
	(PCI_CMD_IO | PCI_CMD_MEM | PCI_CMD_MASTER | PCI_CMD_PERR | PCI_CMD_SERR | PCI_CMD_INTX_OFF)
#define STATUS_W1C 0xf900u

static const struct field func_fields[] = {
    FIELD_ARRAY(1, struct pci_func_state, cfg, FIELD_BYTES, PCI_CFG_BYTES),
    FIELD(2, struct pci_func_state, intx, FIELD_U8),
};

static const struct field_table func_table = {
    .name = "pci-function",
    .version = 1,
    .size = sizeof(struct pci_func_state),
    .count = ARRAY_LEN(func_fields),
    .fields = func_fields,
};

/* ---- bytes ---- */

uint32_t
pci_func_get(const struct pci_func *f, unsigned off, unsigned size)
{
	uint32_t v = 0;

	LH_ASSERT(range_fits(off, size, PCI_CFG_BYTES) && size <= 4);
	memcpy(&v, &f->st.cfg[off], size);
	return v;
}

void
pci_func_put(struct pci_func *f, unsigned off, unsigned size, uint32_t val)
{
	LH_ASSERT(range_fits(off, size, PCI_CFG_BYTES) && size <= 4);
	memcpy(&f->st.cfg[off], &val, size);
}

void
pci_func_set(struct pci_func *f, unsigned off, unsigned size, uint32_t val, uint32_t wmask)
{
	pci_func_put(f, off, size, val);
	memcpy(&f->wmask[off], &wmask, size);
}

void
pci_func_set_w1c(struct pci_func *f, unsigned off, unsigned size, uint32_t mask)
{
	LH_ASSERT(range_fits(off, size, PCI_CFG_BYTES) && size <= 4);
	memcpy(&f->w1c[off], &mask, size);
}

/* ---- capabilities ---- */

unsigned
pci_func_cap(struct pci_func *f, uint8_t id, unsigned len)
{
	unsigned off = f->cap_free;

	len = (unsigned)align_up(len, 4);
	if (len < 4 || !range_fits(off, len, EXT_AREA))
		return 0;
	f->cap_free += len;
	pci_func_put(f, off, 1, id);
	pci_func_put(f, f->cap_last != 0 ? f->cap_last + 1 : PCI_CAP_PTR, 1, off);
	f->cap_last = off;
	f->st.cfg[PCI_STATUS] |= PCI_STATUS_CAPS;
	return off;
}

unsigned
pci_func_ext_cap(struct pci_func *f, uint16_t id, unsigned version, unsigned len)
{
	unsigned off = f->ext_free;

	len = (unsigned)align_up(len, 4);
	if (len < 4 || !range_fits(off, len, PCI_CFG_BYTES))
		return 0;
	f->ext_free += len;
	pci_func_put(f, off, 4, id | (version & 0xf) << 16);
	if (f->ext_last != 0)
		pci_func_put(f, f->ext_last + 2, 2, (pci_func_get(f, f->ext_last + 2, 2) & 0xf) | off << 4);
	f->ext_last = off;
	return off;
}

/* ---- BARs ---- */

static bool
is_io(const struct pci_bar *b)
{
	return b->kind == PCI_BAR_IO;
}

static bool
is_64(const struct pci_bar *b)
{
	return b->kind == PCI_BAR_MEM64 || b->kind == PCI_BAR_MEM64_PREFETCH;
}

void
pci_func_bar(struct pci_func *f, unsigned index, const struct pci_bar *bar)
{
	static const uint8_t type_bits[] = {
	    [PCI_BAR_IO] = BAR_IO,
	    [PCI_BAR_MEM32] = 0,
	    [PCI_BAR_MEM64] = BAR_MEM64,
	    [PCI_BAR_MEM64_PREFETCH] = BAR_MEM64 | BAR_PREFETCH,
	};
	unsigned off = PCI_BAR0 + 4 * index;
	uint64_t mask = ~(bar->len - 1);

	LH_ASSERT(f->bus == NULL && index < (f->cfg.bridge ? 2 : PCI_BARS) - (is_64(bar) ? 1u : 0));
	LH_ASSERT((bar->len & (bar->len - 1)) == 0 && bar->len >= (is_io(bar) ? 4 : 16));
	LH_ASSERT(is_64(bar) || bar->len <= 2 * GIB);
	f->slot[index].bar = *bar;
	pci_func_set(f, off, 4, type_bits[bar->kind], (uint32_t)mask);
	if (is_64(bar))
		pci_func_set(f, off + 4, 4, 0, (uint32_t)(mask >> 32));
}

uint64_t
pci_bar_value(const struct pci_func *f, unsigned index)
{
	const struct pci_bar *b = &f->slot[index].bar;
	unsigned off = PCI_BAR0 + 4 * index;
	uint64_t v = pci_func_get(f, off, 4);

	if (is_64(b))
		v |= (uint64_t)pci_func_get(f, off + 4, 4) << 32;
	return v & ~(b->len - 1);
}

/* A window of a bridge, PCI-to-PCI Bridge 1.2, 3.2.5: base and limit registers, a granule that the low bits
 * leave out. */
static bool
in_window(uint64_t base, uint64_t limit, uint64_t addr, uint64_t last)
{
	return base <= limit && addr >= base && last <= limit;
}

static bool
bridge_forwards(const struct pci_func *f, bool io, uint64_t addr, uint64_t last)
{
	unsigned cmd = pci_func_get(f, PCI_COMMAND, 2);
	uint64_t base, limit;

	if ((cmd & (io ? PCI_CMD_IO : PCI_CMD_MEM)) == 0)
		return false;
	if (io) {
		base = (pci_func_get(f, BRIDGE_IO, 1) & 0xf0) << 8 | pci_func_get(f, BRIDGE_IO_UPPER, 2)
									 << 16;
		limit = (pci_func_get(f, BRIDGE_IO + 1, 1) & 0xf0) << 8 |
			pci_func_get(f, BRIDGE_IO_UPPER + 2, 2) << 16 | 0xfff;
		return in_window(base, limit, addr, last);
	}
	base = (uint64_t)(pci_func_get(f, BRIDGE_MEM, 2) & 0xfff0) << 16;
	limit = (uint64_t)(pci_func_get(f, BRIDGE_MEM + 2, 2) & 0xfff0) << 16 | 0xfffff;
	if (in_window(base, limit, addr, last))
		return true;
	base = (uint64_t)(pci_func_get(f, BRIDGE_PREFETCH, 2) & 0xfff0) << 16 |
	       (uint64_t)pci_func_get(f, BRIDGE_PREFETCH_UPPER, 4) << 32;
	limit = (uint64_t)(pci_func_get(f, BRIDGE_PREFETCH + 2, 2) & 0xfff0) << 16 |
		(uint64_t)pci_func_get(f, BRIDGE_PREFETCH_UPPER + 4, 4) << 32 | 0xfffff;
	return in_window(base, limit, addr, last);
}

/* Whether all bridges on the way to f forward it. */
static bool
path_forwards(const struct pci_func *f, bool io, uint64_t addr, uint64_t last)
{
	for (const struct pci_func *up = f->bus->bridge; up != NULL && up->bus != NULL;
	     up = up->bus->bridge) {
		if (!bridge_forwards(up, io, addr, last))
			return false;
	}
	return true;
}

static bool
path_masters(const struct pci_func *f)
{
	for (; f != NULL && f->bus != NULL; f = f->bus->bridge) {
		if ((pci_func_get(f, PCI_COMMAND, 2) & PCI_CMD_MASTER) == 0)
			return false;
	}
	return true;
}

/* Where the BAR should decode, or ~0: switched off, never set, or being sized (all ones). */
static uint64_t
bar_wanted(const struct pci_func *f, unsigned index)
{
	const struct pci_bar *b = &f->slot[index].bar;
	unsigned enable = is_io(b) ? PCI_CMD_IO : PCI_CMD_MEM;
	uint64_t addr, last;

	if (f->bus == NULL || b->len == 0 || (f->st.cfg[PCI_COMMAND] & enable) == 0)
		return UINT64_MAX;
	addr = pci_bar_value(f, index);
	last = addr + b->len - 1;
	if (addr == 0 || last == (is_64(b) ? UINT64_MAX : UINT32_MAX) ||
	    !path_forwards(f, is_io(b), addr, last))
		return UINT64_MAX;
	return addr;
}

static struct io_bus *
bar_bus(const struct pci_func *f, const struct pci_bar *b)
{
	return is_io(b) ? f->bus->root->w.pio : f->bus->root->w.mmio;
}

/* A device may have none of its own: the region's identity is then the function. */
static void *
bar_dev(struct pci_func *f, const struct pci_bar *b)
{
	return b->of_func ? f : f->dev;
}

static void
slot_unmap(struct pci_func *f, struct pci_bar_slot *s)
{
	if (s->mapped)
		io_bus_remove(bar_bus(f, &s->bar), s->addr, bar_dev(f, &s->bar));
	s->mapped = false;
	if (s->unplaced)
		f->bus->root->unplaced--;
	s->unplaced = false;
}

static void
slot_map(struct pci_func *f, struct pci_bar_slot *s, uint64_t addr)
{
	const struct io_region r = {
	    .name = f->name,
	    .base = addr,
	    .len = s->bar.len,
	    .widths = s->bar.widths,
	    .read = s->bar.read,
	    .write = s->bar.write,
	    .dev = bar_dev(f, &s->bar),
	};
	struct err err = {0};

	if (io_bus_add(bar_bus(f, &s->bar), &r, &err) == 0) {
		s->mapped = true;
		s->addr = addr;
		return;
	}
	log_guest("pci: %s", err.msg);
	s->unplaced = true;
	f->bus->root->unplaced++;
}

/* Returns true when address space became free. */
static bool
slot_sync(struct pci_func *f, unsigned index)
{
	struct pci_bar_slot *s = &f->slot[index];
	uint64_t wanted = bar_wanted(f, index);
	bool freed = s->mapped && s->addr != wanted;

	if (s->mapped && !freed)
		return false;
	slot_unmap(f, s);
	if (wanted != UINT64_MAX)
		slot_map(f, s, wanted);
	return freed;
}

/* What overlapped may have a place now. */
static void
retry_unplaced(struct pci_root *r)
{
	for (struct pci_func *f = r->funcs; f != NULL && r->unplaced > 0; f = f->next) {
		for (unsigned i = 0; i < PCI_BARS; i++) {
			if (f->slot[i].unplaced)
				slot_sync(f, i);
		}
	}
}

static void
sync_one(struct pci_func *f)
{
	struct pci_root *r = f->bus->root;
	unsigned cmd = pci_func_get(f, PCI_COMMAND, 2);
	bool freed = false;

	for (unsigned i = 0; i < PCI_BARS; i++)
		freed |= slot_sync(f, i);
	if (freed && r->unplaced > 0)
		retry_unplaced(r);
	atomic_store_explicit(&f->bus_master, path_masters(f), memory_order_release);
	pthread_mutex_lock(&r->intx_lock);
	f->intx_off = (cmd & PCI_CMD_INTX_OFF) != 0;
	pci_intx_update(f);
	pthread_mutex_unlock(&r->intx_lock);
	if (f->msix != NULL)
		pci_msix_sync(f->msix);
	if (f->msi.cap != 0)
		pci_msi_sync(f);
}

static bool
is_behind(const struct pci_func *f, const struct pci_func *bridge)
{
	while (f != NULL && f != bridge)
		f = f->bus != NULL ? f->bus->bridge : NULL;
	return f != NULL;
}

/* What is behind a bridge follows it; devices there hear of it as of a change of their own command register.
 */
void
pci_func_sync(struct pci_func *f)
{
	struct pci_func *next;

	sync_one(f);
	for (struct pci_func *g = f->secondary != NULL ? f->bus->root->funcs : NULL; g != NULL; g = next) {
		next = g->next;
		if (g == f || !is_behind(g, f))
			continue;
		sync_one(g);
		if (g->ops != NULL && g->ops->cfg_written != NULL)
			g->ops->cfg_written(g->dev, PCI_COMMAND, 2);
	}
}

void
pci_func_unmap(struct pci_func *f)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		slot_unmap(f, &f->slot[i]);
	retry_unplaced(f->bus->root);
}

uint64_t
pci_func_bar_mapped(const struct pci_func *f, unsigned index)
{
	return f->slot[index].mapped ? f->slot[index].addr : UINT64_MAX;
}

uint64_t
pci_func_bar_addr(struct pci_func *f, unsigned index)
{
	uint64_t addr = UINT64_MAX;
	struct pci_root *r;

	if (f->bus == NULL || index >= PCI_BARS)
		return addr;
	r = f->bus->root;
	pthread_mutex_lock(&r->cfg_lock);
	if (f->slot[index].mapped)
		addr = f->slot[index].addr;
	pthread_mutex_unlock(&r->cfg_lock);
	return addr;
}

bool
pci_func_bus_master(const struct pci_func *f)
{
	return atomic_load_explicit(&f->bus_master, memory_order_acquire);
}

/* ---- configuration accesses ---- */

/* Bits that follow from elsewhere: the multi-function bit, the interrupt status. */
static void
refresh(struct pci_func *f)
{
	struct pci_root *r = f->bus->root;
	bool multi = false;

	if ((f->devfn & 7) == 0) {
		for (unsigned i = 1; i < 8; i++)
			multi |= f->bus->func[f->devfn + i] != NULL;
		f->st.cfg[PCI_HEADER_TYPE] =
		    (uint8_t)((f->st.cfg[PCI_HEADER_TYPE] & 0x7f) | (multi ? 0x80 : 0));
	}
	pthread_mutex_lock(&r->intx_lock);
	f->st.cfg[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
	f->st.cfg[PCI_STATUS] |= f->st.intx ? PCI_STATUS_INTX : 0;
	pthread_mutex_unlock(&r->intx_lock);
}

uint32_t
pci_func_cfg_read(struct pci_func *f, unsigned off, unsigned size)
{
	if (off < CAP_AREA)
		refresh(f);
	if (pci_msi_owns(f, off, size))
		pci_msi_refresh(f);
	if (f->ops != NULL && f->ops->cfg_reading != NULL)
		f->ops->cfg_reading(f->dev, off, size);
	return pci_func_get(f, off, size);
}

void
pci_func_cfg_write(struct pci_func *f, unsigned off, unsigned size, uint32_t val)
{
	for (unsigned i = 0; i < size; i++, val >>= 8) {
		uint8_t w = f->wmask[off + i], *byte = &f->st.cfg[off + i];

		*byte = (uint8_t)((*byte & ~w) | (val & w));
		*byte &= (uint8_t) ~(val & f->w1c[off + i]);
	}
	/* A bridge's windows end later than a function's BARs. */
	if (off < (f->cfg.bridge ? BRIDGE_IO_UPPER + 4 : PCI_BAR0 + 4 * PCI_BARS) && off + size > PCI_COMMAND)
		pci_func_sync(f);
	if (f->msix != NULL && off >= CAP_AREA)
		pci_msix_sync(f->msix);
	if (pci_msi_owns(f, off, size))
		pci_msi_sync(f);
	if (f->ops != NULL && f->ops->cfg_written != NULL)
		f->ops->cfg_written(f->dev, off, size);
}

/* ---- the function as a device ---- */

static void
declare_header(struct pci_func *f)
{
	const struct pci_func_cfg *c = &f->cfg;

	pci_func_put(f, PCI_VENDOR_ID, 2, c->vendor);
	pci_func_put(f, PCI_DEVICE_ID, 2, c->device);
	pci_func_set(f, PCI_COMMAND, 2, 0, COMMAND_WRITABLE);
	pci_func_set_w1c(f, PCI_STATUS, 2, STATUS_W1C);
	pci_func_put(f, PCI_REVISION, 4, c->class_code << 8 | c->revision);
	pci_func_set(f, 0x0c, 1, 0, 0xff); /* cache line size */
	pci_func_set(f, PCI_INTR_LINE, 1, 0, 0xff);
	pci_func_put(f, PCI_INTR_PIN, 1, c->intr_pin);
	if (!c->bridge) {
		pci_func_put(f, PCI_SUBSYS_VENDOR, 2, c->subsys_vendor);
		pci_func_put(f, PCI_SUBSYS_ID, 2, c->subsys);
		return;
	}
	pci_func_put(f, PCI_HEADER_TYPE, 1, 1);
	pci_func_set(f, PCI_PRIMARY_BUS, 4, 0, 0x00ffffff);
	/* Windows of I/O (32 bits), memory, prefetchable memory (64 bits); base above limit: closed. */
	pci_func_set(f, BRIDGE_IO, 2, 0x01f1, 0xf0f0);
	pci_func_set_w1c(f, 0x1e, 2, STATUS_W1C); /* secondary status */
	pci_func_set(f, BRIDGE_MEM, 4, 0x0000fff0, 0xfff0fff0);
	pci_func_set(f, BRIDGE_PREFETCH, 4, 0x0001fff1, 0xfff0fff0);
	pci_func_set(f, BRIDGE_PREFETCH_UPPER, 4, 0, 0xffffffff);
	pci_func_set(f, BRIDGE_PREFETCH_UPPER + 4, 4, 0, 0xffffffff);
	pci_func_set(f, BRIDGE_IO_UPPER, 4, 0, 0xffffffff);
	pci_func_set(f, 0x3e, 2, 0, 0x007f); /* bridge control */
}

struct pci_func *
pci_func_create(const struct pci_func_cfg *cfg, const struct pci_func_ops *ops, void *dev, struct err *err)
{
	struct pci_func *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(err, ENOMEM, "pci: no memory");
		return NULL;
	}
	f->cfg = *cfg;
	snprintf(f->name, sizeof(f->name), "%s", cfg->name);
	f->cfg.name = f->name;
	f->ops = ops;
	f->dev = dev;
	f->cap_free = CAP_AREA;
	f->ext_free = EXT_AREA;
	pthread_mutex_init(&f->msi.lock, NULL);
	declare_header(f);
	return f;
}

static void
func_destroy(void *dev)
{
	struct pci_func *f = dev;

	if (f == NULL)
		return;
	pci_bus_remove(f);
	pthread_mutex_destroy(&f->msi.lock);
	free(f->secondary);
	free(f);
}

static void
func_reset(void *dev)
{
	struct pci_func *f = dev;
	struct pci_root *r;

	if (f->bus == NULL)
		return;
	r = f->bus->root;
	pci_func_intx(f, false);
	pthread_mutex_lock(&r->cfg_lock);
	memcpy(f->st.cfg, f->init, sizeof(f->st.cfg));
	pci_func_sync(f);
	if (f->ops != NULL && f->ops->cfg_written != NULL)
		f->ops->cfg_written(f->dev, 0, PCI_CFG_BYTES);
	pthread_mutex_unlock(&r->cfg_lock);
}

static void *
func_st(void *dev)
{
	return &((struct pci_func *)dev)->st;
}

static void
func_pre_save(void *dev)
{
	struct pci_func *f = dev;

	if (f->bus == NULL)
		return;
	pthread_mutex_lock(&f->bus->root->cfg_lock);
	refresh(f);
	if (f->msi.cap != 0)
		pci_msi_refresh(f);
	pthread_mutex_unlock(&f->bus->root->cfg_lock);
}

/* Only what a guest could have written is taken from a stream. */
static int
func_post_load(void *dev, struct err *err)
{
	struct pci_func *f = dev;
	struct pci_root *r;

	(void)err;
	f->st.intx = f->st.intx != 0;
	if (f->msi.cap != 0)
		pci_msi_load(f, pci_msi_pending_saved(f));
	for (unsigned i = 0; i < PCI_CFG_BYTES; i++) {
		uint8_t own = f->wmask[i] | f->w1c[i];

		f->st.cfg[i] = (uint8_t)((f->init[i] & ~own) | (f->st.cfg[i] & own));
	}
	if (f->bus == NULL)
		return 0;
	r = f->bus->root;
	pthread_mutex_lock(&r->cfg_lock);
	pci_func_sync(f);
	refresh(f);
	if (f->msi.cap != 0)
		pci_msi_refresh(f);
	if (f->ops != NULL && f->ops->cfg_written != NULL)
		f->ops->cfg_written(f->dev, 0, PCI_CFG_BYTES);
	pthread_mutex_unlock(&r->cfg_lock);
	return 0;
}

const struct device_ops pci_func_device_ops = {
    .type = "pci-function",
    .destroy = func_destroy,
    .reset = func_reset,
    .state = &func_table,
    .st = func_st,
    .pre_save = func_pre_save,
    .post_load = func_post_load,
};
