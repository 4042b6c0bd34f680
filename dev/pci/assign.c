/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a PC's firmware does before the operating system: an address for each BAR. Runs
 * once, before the first guest instruction, under the configuration lock.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/pci/internal.h"

#define LARGE_BAR (64 * MIB) /* from here on the 64-bit window is tried first */

struct want {
	struct pci_func *f;
	unsigned index;
	uint64_t len;
};

static int
by_len(const void *a, const void *b)
{
	const struct want *x = a, *y = b;

	if (x->len != y->len)
		return x->len < y->len ? 1 : -1;
	if (x->f->devfn != y->f->devfn)
		return x->f->devfn < y->f->devfn ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

/* Collect BARs of the root bus with no address yet. Returns how many; *out may be NULL to count. */
static size_t
collect(struct pci_root *r, struct want *out)
{
	size_t n = 0;

	for (unsigned d = 0; d < PCI_DEVFNS; d++) {
		struct pci_func *f = r->bus.func[d];

		for (unsigned i = 0; f != NULL && i < PCI_BARS; i++) {
			if (f->slot[i].bar.len == 0 || pci_bar_value(f, i) != 0)
				continue;
			if (out != NULL)
				out[n] = (struct want){f, i, f->slot[i].bar.len};
			n++;
		}
	}
	return n;
}

static bool
take(struct pci_window *w, uint64_t len, uint64_t *addr)
{
	uint64_t base = align_up(w->base, len), skip = base - w->base;

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
	enum pci_bar_kind kind = want->f->slot[want->index].bar.kind;

	if (kind == PCI_BAR_IO)
		return take(&w->io, want->len, addr);
	if (kind == PCI_BAR_MEM32)
		return take(&w->mem32, want->len, addr);
	if (want->len >= LARGE_BAR)
		return take(&w->mem64, want->len, addr) || take(&w->mem32, want->len, addr);
	/* A 32-bit guest reaches it there. */
	return take(&w->mem32, want->len, addr) || take(&w->mem64, want->len, addr);
}

static void
program(const struct want *want, uint64_t addr)
{
	enum pci_bar_kind kind = want->f->slot[want->index].bar.kind;
	unsigned off = PCI_BAR0 + 4 * want->index;

	pci_func_cfg_write(want->f, off, 4, (uint32_t)addr);
	if (kind == PCI_BAR_MEM64 || kind == PCI_BAR_MEM64_PREFETCH)
		pci_func_cfg_write(want->f, off + 4, 4, (uint32_t)(addr >> 32));
	pci_func_cfg_write(want->f, PCI_COMMAND, 2,
			   pci_func_get(want->f, PCI_COMMAND, 2) |
			       (kind == PCI_BAR_IO ? PCI_CMD_IO : PCI_CMD_MEM));
}

static int
assign_locked(struct pci_root *r, const struct pci_windows *w, struct err *err)
{
	struct pci_windows left = *w;
	size_t n = collect(r, NULL);
	struct want *want;

	if (n == 0)
		return 0;
	want = calloc(n, sizeof(*want));
	if (want == NULL)
		return err_set(err, ENOMEM, "pci: no memory");
	collect(r, want);
	qsort(want, n, sizeof(*want), by_len);
	for (size_t i = 0; i < n; i++) {
		uint64_t addr;

		if (!place(&left, &want[i], &addr)) {
			err_set(
			    err, ENOSPC,
			    "pci slot %u:%u: no address space of %#llx bytes left for %s (use fewer devices)",
			    want[i].f->devfn >> 3, want[i].f->devfn & 7, (unsigned long long)want[i].len,
			    want[i].f->name);
			free(want);
			return -ENOSPC;
		}
		program(&want[i], addr);
	}
	free(want);
	return 0;
}

int
pci_assign(struct pci_root *r, const struct pci_windows *w, struct err *err)
{
	int ret;

	pthread_mutex_lock(&r->cfg_lock);
	ret = assign_locked(r, w, err);
	pthread_mutex_unlock(&r->cfg_lock);
	return ret;
}
