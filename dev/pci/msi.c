/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI (PCI Local Bus 3.0 6.8.1), the form with 64-bit addresses and masks:
 *
 *   +00  id, next   +02  control: 0 enable, 3:1 vectors offered (log2), 6:4 vectors allowed
 *   +04  address    +08  upper address   +0c  data   +10  mask bits   +14  pending bits
 *
 * A copy of all registers is kept under a lock of its own, so that raising needs no configuration lock; the
 * pending bits are brought back before they are read.
 */
#include "dev/pci/msi.h"

#include <pthread.h>

#include "dev/pci/internal.h"

enum { CAP_MSI = 0x05, CAP_LEN = 0x18 };
enum { CONTROL = 2, ADDRESS = 4, UPPER = 8, DATA = 0xc, MASK = 0x10, PENDING = 0x14 };
enum { CONTROL_ENABLE = 1, CONTROL_ALLOWED = 7 << 4, CONTROL_64 = 1 << 7, CONTROL_MASKS = 1 << 8 };

void
pci_func_msi(struct pci_func *f, unsigned vectors)
{
	unsigned log2 = (unsigned)__builtin_ctz(vectors);

	LH_ASSERT(vectors >= 1 && vectors <= PCI_MSI_VECTORS && (vectors & (vectors - 1)) == 0);
	f->msi.cap = pci_func_cap(f, CAP_MSI, CAP_LEN);
	LH_ASSERT(f->msi.cap != 0);
	pci_func_set(f, f->msi.cap + CONTROL, 2, CONTROL_MASKS | CONTROL_64 | log2 << 1,
		     CONTROL_ENABLE | CONTROL_ALLOWED);
	pci_func_set(f, f->msi.cap + ADDRESS, 4, 0, ~3u);
	pci_func_set(f, f->msi.cap + UPPER, 4, 0, ~0u);
	pci_func_set(f, f->msi.cap + DATA, 2, 0, 0xffff);
	pci_func_set(f, f->msi.cap + MASK, 4, 0, (uint32_t)(BIT(vectors) - 1));
}

static bool
can_send(const struct pci_func *f, unsigned n)
{
	return f->msi.enabled && f->msi.master && (f->msi.mask >> n & 1) == 0;
}

static void
send(struct pci_func *f, unsigned n)
{
	f->msi.pending &= ~(uint32_t)BIT(n);
	pci_func_message(f, f->msi.addr, (f->msi.data & ~(f->msi.allowed - 1)) | n);
}

bool
pci_msi_raise(struct pci_func *f, unsigned n)
{
	bool enabled;

	if (f->msi.cap == 0 || f->bus == NULL)
		return false;
	pthread_mutex_lock(&f->msi.lock);
	enabled = f->msi.enabled;
	if (enabled) {
		n &= f->msi.allowed - 1;
		if (can_send(f, n))
			send(f, n);
		else
			f->msi.pending |= (uint32_t)BIT(n);
	}
	pthread_mutex_unlock(&f->msi.lock);
	return enabled;
}

void
pci_msi_sync(struct pci_func *f)
{
	unsigned cap = f->msi.cap, control = pci_func_get(f, cap + CONTROL, 2);
	unsigned offered = control >> 1 & 7, allowed = MIN(control >> 4 & 7, offered);

	pthread_mutex_lock(&f->msi.lock);
	f->msi.enabled = (control & CONTROL_ENABLE) != 0;
	f->msi.master = pci_func_bus_master(f);
	f->msi.allowed = (uint32_t)BIT(allowed);
	f->msi.addr = (uint64_t)pci_func_get(f, cap + UPPER, 4) << 32 | pci_func_get(f, cap + ADDRESS, 4);
	f->msi.data = pci_func_get(f, cap + DATA, 2);
	f->msi.mask = pci_func_get(f, cap + MASK, 4);
	if (!f->msi.enabled)
		f->msi.pending = 0;
	for (unsigned n = 0; n < f->msi.allowed && f->bus != NULL; n++) {
		if ((f->msi.pending >> n & 1) != 0 && can_send(f, n))
			send(f, n);
	}
	pthread_mutex_unlock(&f->msi.lock);
}

void
pci_msi_refresh(struct pci_func *f)
{
	pthread_mutex_lock(&f->msi.lock);
	pci_func_put(f, f->msi.cap + PENDING, 4, f->msi.pending);
	pthread_mutex_unlock(&f->msi.lock);
}

/* The pending bits are the device's, but a restored function has them from its saved space. */
void
pci_msi_load(struct pci_func *f, uint32_t pending)
{
	pthread_mutex_lock(&f->msi.lock);
	f->msi.pending = pending;
	pthread_mutex_unlock(&f->msi.lock);
}

bool
pci_msi_owns(const struct pci_func *f, unsigned off, unsigned size)
{
	return f->msi.cap != 0 && off < f->msi.cap + CAP_LEN && off + size > f->msi.cap;
}

uint32_t
pci_msi_pending_saved(const struct pci_func *f)
{
	return pci_func_get(f, f->msi.cap + PENDING, 4) & pci_func_get(f, f->msi.cap + MASK, 4);
}
