/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of dev/pci/ share. Locks are those of pci.h. */
#ifndef LHYVE_DEV_PCI_INTERNAL_H
#define LHYVE_DEV_PCI_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"
#include "dev/bus.h"
#include "dev/pci/msi.h"
#include "dev/pci/pci.h"

/* Windows of a type 1 header: base, then limit. */
enum {
	BRIDGE_IO = 0x1c,
	BRIDGE_MEM = 0x20,
	BRIDGE_PREFETCH = 0x24,
	BRIDGE_PREFETCH_UPPER = 0x28,
	BRIDGE_IO_UPPER = 0x30
};
enum { PCI_BARS = 6, PCI_DEVFNS = 256, PCI_PIRQS = 8 };

struct pci_bus {
	struct pci_root *root;
	struct pci_func *bridge; /* upstream; NULL: the root bus */
	unsigned number;	 /* that firmware gives it */
	struct pci_func *func[PCI_DEVFNS];
};

struct pci_root {
	struct pci_root_wires w;
	pthread_mutex_t cfg_lock;
	struct pci_bus bus;
	struct pci_func *funcs; /* all that are plugged in, newest first */
	unsigned unplaced;	/* BARs that decode where something else is */
	uint64_t ecam_base;

	pthread_mutex_t intx_lock;
	unsigned pirq_count[PCI_PIRQS]; /* functions that assert it */

	/* Interrupt messages since the VM was made: by call, and by an eventfd of the host's kernel's. */
	_Atomic uint64_t messages, messages_by_irqfd;

	struct pci_root_state {
		uint32_t config_address;
	} st;
};

struct pci_bar_slot {
	struct pci_bar bar; /* len 0: none */
	bool mapped, unplaced;
	uint64_t addr; /* while mapped */
};

struct pci_func {
	struct pci_func_cfg cfg;
	char name[32];
	const struct pci_func_ops *ops;
	void *dev;
	struct pci_bus *bus; /* NULL: not plugged in */
	unsigned devfn;
	struct pci_func *next; /* in root->funcs */
	struct pci_bus *secondary;

	struct pci_func_state {
		uint8_t cfg[PCI_CFG_BYTES];
		uint8_t intx; /* the device's level, before INTX_OFF */
	} st;
	uint8_t wmask[PCI_CFG_BYTES], w1c[PCI_CFG_BYTES];
	uint8_t init[PCI_CFG_BYTES]; /* power-on values, as declared */

	struct pci_bar_slot slot[PCI_BARS];
	struct pci_msix *msix; /* NULL: none */
	struct {
		unsigned cap; /* 0: none */
		pthread_mutex_t lock;
		bool enabled, master;
		uint32_t allowed, data, mask, pending;
		uint64_t addr;
	} msi;
	unsigned cap_free, cap_last, ext_free, ext_last;
	_Atomic bool bus_master;
	bool intx_off, intx_out; /* INTx lock */
};

/* With the configuration lock held: follow a change of COMMAND or BARs. */
void pci_func_sync(struct pci_func *f);
/* Reads and writes inside one function, masks applied. Configuration lock held. */
uint32_t pci_func_cfg_read(struct pci_func *f, unsigned off, unsigned size);
void pci_func_cfg_write(struct pci_func *f, unsigned off, unsigned size, uint32_t val);
/* The bus with this number as the bridges' registers have it, or NULL. Configuration lock held. */
struct pci_bus *pci_find_bus(struct pci_root *r, unsigned number);
/* The address that a BAR register holds, whether or not decoding is on. */
uint64_t pci_bar_value(const struct pci_func *f, unsigned index);
void pci_func_unmap(struct pci_func *f);
/* Follow COMMAND and the capability's registers. Configuration lock held. */
void pci_msix_sync(struct pci_msix *m);
void pci_msi_sync(struct pci_func *f);
/* Bring the pending bits into configuration space; take them from a loaded one. */
void pci_msi_refresh(struct pci_func *f);
uint32_t pci_msi_pending_saved(const struct pci_func *f);
void pci_msi_load(struct pci_func *f, uint32_t pending);
bool pci_msi_owns(const struct pci_func *f, unsigned off, unsigned size);
/* Send an interrupt message upstream. The function is plugged in. Its MSI or MSI-X lock may be held. */
void pci_func_message(const struct pci_func *f, uint64_t addr, uint32_t data);
/* The PIRQ that f's pin (it has one) arrives at, through the bridges. */
unsigned pci_func_pirq(const struct pci_func *f);
/* Drive the PIRQ as the function's state says. */
void pci_intx_update(struct pci_func *f);

#endif
