/* SPDX-License-Identifier: BSD-2-Clause */
/* Upstream requests of functions: see the header. A request is cut where the remapping unit says, at pages at
 * most. */
#include "dev/pci/dma.h"

#include "dev/pci/internal.h"
#include "mem/gpmap.h"

enum { INTERRUPT_PREFIX = 0xfee }; /* address bits 31:20, those above 0 */

uint16_t
pci_func_requester(const struct pci_func *f)
{
	while (f->bus != NULL && f->bus->bridge != NULL)
		f = f->bus->bridge;
	return (uint16_t)f->devfn;
}

void
pci_func_message(const struct pci_func *f, uint64_t addr, uint32_t data)
{
	const struct pci_root_wires *w = &f->bus->root->w;

	atomic_fetch_add_explicit(&f->bus->root->messages, 1, memory_order_relaxed);
	if (w->iommu.msi != NULL)
		w->iommu.msi(w->iommu.ctx, pci_func_requester(f), addr, data);
	else if (w->msi != NULL)
		w->msi(w->msi_ctx, addr, data);
}

static bool
is_interrupt(uint64_t addr)
{
	return addr >> 20 == INTERRUPT_PREFIX;
}

/* Where the first of len bytes at addr are, and how many from there on. */
static bool
resolve(const struct pci_func *f, uint64_t addr, uint64_t len, bool write, uint64_t *gpa, uint64_t *run)
{
	const struct pci_iommu_wires *iommu = &f->bus->root->w.iommu;

	*gpa = addr;
	*run = len;
	if (is_interrupt(addr))
		return false;
	return iommu->translate == NULL ||
	       iommu->translate(iommu->ctx, pci_func_requester(f), addr, write, gpa, run);
}

static bool
may_go(const struct pci_func *f, uint64_t addr, size_t len)
{
	return f->bus != NULL && pci_func_bus_master(f) && f->bus->root->w.mem != NULL &&
	       range_fits(addr, len, UINT64_MAX);
}

bool
pci_func_dma_read(const struct pci_func *f, uint64_t addr, void *buf, size_t len)
{
	uint64_t gpa, run;
	uint8_t *p = buf;

	if (!may_go(f, addr, len))
		return false;
	for (; len > 0; addr += run, p += run, len -= run) {
		if (!resolve(f, addr, len, false, &gpa, &run) || !gm_read(f->bus->root->w.mem, gpa, p, run))
			return false;
	}
	return true;
}

bool
pci_func_dma_write(const struct pci_func *f, uint64_t addr, const void *buf, size_t len)
{
	uint64_t gpa, run;
	const uint8_t *p = buf;

	if (!may_go(f, addr, len))
		return false;
	if (is_interrupt(addr) && len == 4 && (addr & 3) == 0) {
		pci_func_message(f, addr, get_le32(buf));
		return true;
	}
	for (; len > 0; addr += run, p += run, len -= run) {
		if (!resolve(f, addr, len, true, &gpa, &run) || !gm_write(f->bus->root->w.mem, gpa, p, run))
			return false;
	}
	return true;
}
