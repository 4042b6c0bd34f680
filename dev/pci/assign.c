/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a PC's firmware does before the operating system: numbers for buses, an address for each BAR, a window
 * for what is behind each bridge. Runs once, before the first guest instruction, under the configuration
 * lock.
 *
 * A bus is laid out largest first, so that all is aligned with no gaps but those that windows' granules make.
 * Behind bridges all memory goes below 4 GiB.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/pci/internal.h"

#define LARGE_BAR      (64 * MIB) /* from here on the 64-bit window is tried first */
#define IO_GRANULE     0x1000u	  /* of a bridge's windows */
#define MEMORY_GRANULE MIB
enum { IOAPIC_PIRQA = 16 };
enum { WINDOW_IO = PCI_BARS, WINDOW_MEMORY, WANTS }; /* beside a function's BARs */

struct want {
	struct pci_func *f;
	unsigned index; /* of a BAR, or WINDOW_* */
	uint64_t len, align;
};

struct needs {
	uint64_t len, align;
};

static int
by_align(const void *a, const void *b)
{
	const struct want *x = a, *y = b;

	if (x->align != y->align)
		return x->align < y->align ? 1 : -1;
	if (x->f->devfn != y->f->devfn)
		return x->f->devfn < y->f->devfn ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

static bool
wants_io(const struct want *w)
{
	return w->index == WINDOW_IO || (w->index < PCI_BARS && w->f->slot[w->index].bar.kind == PCI_BAR_IO);
}

static struct needs bus_needs(struct pci_bus *b, bool io);

/* What one function wants, at most WANTS entries. */
static size_t
func_wants(struct pci_func *f, struct want *out)
{
	size_t n = 0;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t len = f->slot[i].bar.len;

		if (len != 0 && pci_bar_value(f, i) == 0)
			out[n++] = (struct want){f, i, len, len};
	}
	for (unsigned i = WINDOW_IO; i < WANTS && f->secondary != NULL; i++) {
		struct needs need = bus_needs(f->secondary, i == WINDOW_IO);

		if (need.len != 0)
			out[n++] = (struct want){f, i, need.len, need.align};
	}
	return n;
}

/* The size of a bridge's window: each want in a place of its own alignment, whole granules. The tree bounds
 * the recursion. */
static struct needs
bus_needs(struct pci_bus *b, bool io)
{
	uint64_t granule = io ? IO_GRANULE : MEMORY_GRANULE;
	struct needs need = {0, granule};

	for (unsigned d = 0; d < PCI_DEVFNS; d++) {
		struct want w[WANTS];
		size_t n = b->func[d] != NULL ? func_wants(b->func[d], w) : 0;

		for (size_t i = 0; i < n; i++) {
			if (wants_io(&w[i]) != io)
				continue;
			need.len += align_up(w[i].len, w[i].align);
			need.align = MAX(need.align, w[i].align);
		}
	}
	need.len = align_up(need.len, granule);
	return need;
}

static bool
take(struct pci_window *w, uint64_t len, uint64_t align, uint64_t *addr)
{
	uint64_t base = align_up(w->base, align), skip = base - w->base;

	if (w->len == 0 || base < w->base || !range_fits(skip, len, w->len))
		return false;
	*addr = base;
	w->base = base + len;
	w->len -= skip + len;
	return true;
}

static bool
place(struct pci_windows *w, const struct want *want, uint64_t *addr)
{
	bool wide = want->index < PCI_BARS && want->f->slot[want->index].bar.kind >= PCI_BAR_MEM64;

	if (wants_io(want))
		return take(&w->io, want->len, want->align, addr);
	if (!wide)
		return take(&w->mem32, want->len, want->align, addr);
	if (want->len >= LARGE_BAR)
		return take(&w->mem64, want->len, want->align, addr) ||
		       take(&w->mem32, want->len, want->align, addr);
	/* A 32-bit guest reaches it there. */
	return take(&w->mem32, want->len, want->align, addr) || take(&w->mem64, want->len, want->align, addr);
}

static void
program_bar(const struct want *want, uint64_t addr)
{
	unsigned off = PCI_BAR0 + 4 * want->index;

	pci_func_cfg_write(want->f, off, 4, (uint32_t)addr);
	if (want->f->slot[want->index].bar.kind >= PCI_BAR_MEM64)
		pci_func_cfg_write(want->f, off + 4, 4, (uint32_t)(addr >> 32));
}

static void
program_window(const struct want *want, uint64_t addr)
{
	uint64_t last = addr + want->len - 1;

	if (want->index == WINDOW_IO) {
		pci_func_cfg_write(want->f, BRIDGE_IO, 2, (uint32_t)((addr >> 8 & 0xf0) | (last & 0xf000)));
		pci_func_cfg_write(want->f, BRIDGE_IO_UPPER, 4, (uint32_t)(addr >> 16 | (last >> 16) << 16));
		return;
	}
	pci_func_cfg_write(want->f, BRIDGE_MEM, 4, (uint32_t)((addr >> 16 & 0xfff0) | (last & 0xfff00000)));
}

static void
program(const struct want *want, uint64_t addr)
{
	unsigned enable = wants_io(want) ? PCI_CMD_IO : PCI_CMD_MEM;

	if (want->index < PCI_BARS)
		program_bar(want, addr);
	else
		program_window(want, addr);
	pci_func_cfg_write(want->f, PCI_COMMAND, 2, pci_func_get(want->f, PCI_COMMAND, 2) | enable);
}

static int assign_bus(struct pci_bus *b, struct pci_windows left, struct err *err);

/* The windows that a bridge has been given, for what is behind it. */
static int
assign_behind(struct pci_func *f, const struct want *want, const uint64_t *addr, size_t n, struct err *err)
{
	struct pci_windows w = {0};

	for (size_t i = 0; i < n; i++) {
		if (want[i].f == f && want[i].index == WINDOW_IO)
			w.io = (struct pci_window){addr[i], want[i].len};
		else if (want[i].f == f && want[i].index == WINDOW_MEMORY)
			w.mem32 = (struct pci_window){addr[i], want[i].len};
	}
	return assign_bus(f->secondary, w, err);
}

static int
place_all(struct pci_windows *left, const struct want *want, uint64_t *addr, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (!place(left, &want[i], &addr[i]))
			return err_set(
			    err, ENOSPC,
			    "pci slot %u:%u: no address space of %#llx bytes left for %s (use fewer devices)",
			    want[i].f->devfn >> 3, want[i].f->devfn & 7, (unsigned long long)want[i].len,
			    want[i].f->name);
		program(&want[i], addr[i]);
	}
	return 0;
}

static int
assign_bus(struct pci_bus *b, struct pci_windows left, struct err *err)
{
	struct want *want = calloc(PCI_DEVFNS * WANTS, sizeof(*want));
	uint64_t *addr = calloc(PCI_DEVFNS * WANTS, sizeof(*addr));
	size_t n = 0;
	int ret;

	if (want == NULL || addr == NULL) {
		ret = err_set(err, ENOMEM, "pci: no memory");
	} else {
		for (unsigned d = 0; d < PCI_DEVFNS; d++) {
			if (b->func[d] != NULL)
				n += func_wants(b->func[d], want + n);
		}
		qsort(want, n, sizeof(*want), by_align);
		ret = place_all(&left, want, addr, n, err);
	}
	for (unsigned d = 0; d < PCI_DEVFNS && ret == 0; d++) {
		if (b->func[d] != NULL && b->func[d]->secondary != NULL)
			ret = assign_behind(b->func[d], want, addr, n, err);
	}
	free(want);
	free(addr);
	return ret;
}

/* Numbers as they were declared; a bridge's subordinate is the largest behind it. Returns the largest at or
 * below b. */
static unsigned
number_buses(struct pci_bus *b)
{
	unsigned last = b->number;

	for (unsigned d = 0; d < PCI_DEVFNS; d++) {
		struct pci_func *f = b->func[d];
		unsigned below;

		if (f == NULL || f->secondary == NULL || f->secondary->number == 0)
			continue;
		below = number_buses(f->secondary);
		pci_func_cfg_write(f, PCI_PRIMARY_BUS, 1, b->number);
		pci_func_cfg_write(f, PCI_SECONDARY_BUS, 1, f->secondary->number);
		pci_func_cfg_write(f, PCI_SUBORDINATE_BUS, 1, below);
		pci_func_cfg_write(f, PCI_COMMAND, 2, pci_func_get(f, PCI_COMMAND, 2) | PCI_CMD_MASTER);
		last = MAX(last, below);
	}
	return last;
}

/* A bridge takes all numbers from its secondary to its subordinate bus. */
static int
check_numbers(struct pci_root *r, struct err *err)
{
	for (const struct pci_func *f = r->funcs; f != NULL; f = f->next) {
		unsigned number = f->secondary != NULL ? f->secondary->number : 0;

		if (number != 0 && pci_find_bus(r, number) != f->secondary)
			return err_set(err, EINVAL,
				       "pci bus %u: another bridge's buses stand around it (number those "
				       "behind one bridge in a row)",
				       number);
	}
	return 0;
}

/* No PIRQ leads to the 8259s until a system routes it: the line is the IOAPIC's pin, as for those who use
 * that. */
static void
tell_lines(struct pci_root *r)
{
	for (struct pci_func *f = r->funcs; f != NULL; f = f->next) {
		if (f->cfg.intr_pin != 0)
			pci_func_cfg_write(f, PCI_INTR_LINE, 1, IOAPIC_PIRQA + pci_func_pirq(f));
	}
}

int
pci_assign(struct pci_root *r, const struct pci_windows *w, struct err *err)
{
	int ret;

	pthread_mutex_lock(&r->cfg_lock);
	number_buses(&r->bus);
	ret = check_numbers(r, err);
	if (ret == 0)
		ret = assign_bus(&r->bus, *w, err);
	if (ret == 0)
		tell_lines(r);
	pthread_mutex_unlock(&r->cfg_lock);
	return ret;
}
