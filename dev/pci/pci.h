/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI: functions with a 4 KiB configuration space, reached by mechanism #1 (0xcf8/0xcfc)
 * and by ECAM, base address registers that follow the guest on the I/O buses, a
 * capability list, INTx; msi.h has messages (PCI Local Bus 3.0, PCI Express 3.0 ch. 7).
 *
 * A device embeds nothing: it creates a function, declares header, BARs and
 * capabilities, adds it to a bus, and hears of configuration writes. Configuration
 * space is data: value, writable mask, write-1-to-clear mask, one byte each.
 *
 * Functions are found by walking the tree as a configuration cycle does: bus 0 is the
 * root, other numbers go to the bridge whose [secondary, subordinate] holds them.
 *
 * Threads: configuration accesses and pci_func_intx() from any thread. One lock for
 * configuration, one for INTx. Order: configuration lock, device's lock, INTx lock,
 * interrupt controllers. A device never touches configuration with its own lock held.
 */
#ifndef LHYVE_DEV_PCI_H
#define LHYVE_DEV_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct gpmap;
struct io_bus;
struct pci_root;
struct pci_bus;
struct pci_func;

enum {
	PCI_CFG_BYTES = 4096,
	PCI_VENDOR_ID = 0x00,
	PCI_DEVICE_ID = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS_PROG = 0x09,
	PCI_SUBCLASS = 0x0a,
	PCI_CLASS = 0x0b,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_PRIMARY_BUS = 0x18,
	PCI_SECONDARY_BUS = 0x19,
	PCI_SUBORDINATE_BUS = 0x1a,
	PCI_SUBSYS_VENDOR = 0x2c,
	PCI_SUBSYS_ID = 0x2e,
	PCI_CAP_PTR = 0x34,
	PCI_INTR_LINE = 0x3c,
	PCI_INTR_PIN = 0x3d,
};
enum {
	PCI_CMD_IO = 1 << 0,
	PCI_CMD_MEM = 1 << 1,
	PCI_CMD_MASTER = 1 << 2,
	PCI_CMD_PERR = 1 << 6,
	PCI_CMD_SERR = 1 << 8,
	PCI_CMD_INTX_OFF = 1 << 10,
	PCI_STATUS_INTX = 1 << 3,
	PCI_STATUS_CAPS = 1 << 4,
};

#define PCI_DEVFN(dev, fn) ((unsigned)((dev) << 3 | (fn)))

/* ---- the root ---- */

/* A remapping unit between functions and memory; both may be NULL. Called with devices' locks held. */
struct pci_iommu_wires {
	/* Where the *len bytes (not 0) at addr of requester `sid` are in guest memory: the address of the
	 * first, and how many follow it there, 1..*len. false: forbidden. */
	bool (*translate)(void *ctx, uint16_t sid, uint64_t addr, bool write, uint64_t *gpa, uint64_t *len);
	/* An interrupt message; instead of pci_root_wires.msi. */
	void (*msi)(void *ctx, uint16_t sid, uint64_t addr, uint32_t data);
	void *ctx;
};

struct pci_root_wires {
	struct io_bus *pio, *mmio;
	struct irq_wire pirq;		/* line 0..7 = PIRQA..PIRQH, level */
	uint8_t (*cf9_read)(void *ctx); /* byte at 0xcf9, in the middle of CONFIG_ADDRESS; may be NULL */
	void (*cf9_write)(void *ctx, uint8_t val);
	void *cf9_ctx;
	void (*msi)(void *ctx, uint64_t addr,
		    uint32_t data); /* a memory write that is an interrupt; may be NULL */
	void *msi_ctx;
	/* Each write to the eventfd is to send the message, until that is taken away again; -errno: by msi().
	 * May be NULL. */
	int (*irqfd)(void *ctx, int fd, uint64_t addr, uint32_t data, bool add);
	void *irqfd_ctx;
	struct gpmap *mem; /* for DMA (dma.h); may be NULL */
	struct pci_iommu_wires iommu;
};

/* Registers the ports 0xcf8-0xcff. */
LH_MUST_CHECK struct pci_root *pci_root_create(const struct pci_root_wires *w, struct err *err);
extern const struct device_ops pci_root_device_ops; /* CONFIG_ADDRESS; destroy after all functions */
/* Map ECAM for buses 0..buses-1 (1 MiB each) at base. */
LH_MUST_CHECK int pci_root_ecam(struct pci_root *r, uint64_t base, unsigned buses, struct err *err);
struct pci_bus *pci_root_bus(struct pci_root *r);

/* A configuration access as the two mechanisms make it: size 1, 2, 4 within one dword. */
uint32_t pci_cfg_read(struct pci_root *r, unsigned bus, unsigned devfn, unsigned off, unsigned size);
void pci_cfg_write(struct pci_root *r, unsigned bus, unsigned devfn, unsigned off, unsigned size,
		   uint32_t val);

/* Which PIRQ (0..7) a pin (0 = INTA) of a device on bus 0 drives. What _PRT tells. */
static inline unsigned
pci_pirq(unsigned dev, unsigned pin)
{
	return (dev + pin) & 7;
}

struct pci_window {
	uint64_t base, len;
};
struct pci_windows {
	struct pci_window io, mem32, mem64; /* a len of 0: none */
};
/* As firmware does at power-on: number the buses, give every unset BAR an address, the largest first, and
 * enable decoding; bridges get a window each of I/O and 32-bit memory for what is behind them. Interrupt
 * lines tell the IOAPIC's pin. Fails when a window is too small, naming the function. */
LH_MUST_CHECK int pci_assign(struct pci_root *r, const struct pci_windows *w, struct err *err);

/* ---- functions ---- */

struct pci_func_ops {
	/* Bytes [off, off + size) of configuration space were written (masks applied). Configuration lock
	 * held. */
	void (*cfg_written)(void *dev, unsigned off, unsigned size);
	/* Called before a read of [off, off + size), to bring bytes up to date. May be NULL. Same lock. */
	void (*cfg_reading)(void *dev, unsigned off, unsigned size);
};

struct pci_func_cfg {
	const char *name; /* for messages: "lpc" */
	uint16_t vendor, device, subsys_vendor, subsys;
	uint8_t revision;
	uint32_t class_code; /* 0xCCSSPP */
	uint8_t intr_pin;    /* 0 none, 1 INTA .. 4 INTD */
	bool bridge;	     /* type 1 header: PCI-to-PCI bridge, with windows that it forwards */
};

LH_MUST_CHECK struct pci_func *pci_func_create(const struct pci_func_cfg *cfg, const struct pci_func_ops *ops,
					       void *dev, struct err *err);
extern const struct device_ops pci_func_device_ops; /* configuration space and the INTx level */

/* Plug it in. -EEXIST: the slot is taken. */
LH_MUST_CHECK int pci_bus_add(struct pci_bus *b, unsigned devfn, struct pci_func *f, struct err *err);
void pci_bus_remove(struct pci_func *f);
/* The bus behind a bridge; made on first use, goes with the bridge. NULL: no memory. */
LH_MUST_CHECK struct pci_bus *pci_func_secondary(struct pci_func *f);
/* The number that pci_assign() gives it; 0: none, it stays unreachable until the guest gives one. */
void pci_bus_number(struct pci_bus *b, unsigned number);

enum pci_bar_kind { PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_MEM64_PREFETCH };

struct pci_bar {
	enum pci_bar_kind kind;
	uint64_t len; /* power of two; at least 4 (I/O) or 16 (memory) */
	unsigned widths;
	uint64_t (*read)(void *dev, uint64_t off, unsigned size);
	void (*write)(void *dev, uint64_t off, unsigned size, uint64_t val);
	bool of_func; /* `dev` of the handlers is the function itself */
};
/* Before pci_bus_add(). A 64-bit one takes index and index + 1. */
void pci_func_bar(struct pci_func *f, unsigned index, const struct pci_bar *bar);
/* The address a BAR decodes now, or ~0 when it does not. */
uint64_t pci_func_bar_addr(struct pci_func *f, unsigned index);
/* The same from cfg_written, where the configuration lock is held. */
uint64_t pci_func_bar_mapped(const struct pci_func *f, unsigned index);

/* Add a capability of len bytes (header included) below 0x100. Returns its offset; 0: no room. */
unsigned pci_func_cap(struct pci_func *f, uint8_t id, unsigned len);
/* The same in extended space (from 0x100). */
unsigned pci_func_ext_cap(struct pci_func *f, uint16_t id, unsigned version, unsigned len);

/* Set value and writable bits of 1, 2 or 4 bytes: declaring registers, or from cfg_written/cfg_reading. */
void pci_func_set(struct pci_func *f, unsigned off, unsigned size, uint32_t val, uint32_t wmask);
void pci_func_set_w1c(struct pci_func *f, unsigned off, unsigned size, uint32_t mask);
/* The value only; takes no lock. */
void pci_func_put(struct pci_func *f, unsigned off, unsigned size, uint32_t val);
uint32_t pci_func_get(const struct pci_func *f, unsigned off, unsigned size);

/* Drive the function's INTx. Any thread, the device's lock may be held. */
void pci_func_intx(struct pci_func *f, bool level);
/* Whether the guest lets the function master the bus (DMA, MSI). */
bool pci_func_bus_master(const struct pci_func *f);

#endif
