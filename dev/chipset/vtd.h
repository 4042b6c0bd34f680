/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A remapping unit after Intel's Virtualization Technology for Directed I/O (VT-d specification, document
 * D51397; sections below are its): a page of registers, legacy-mode translation of PCI functions' memory
 * requests through root, context and second-level tables (3.4, 3.7), and remapping of MSIs and IOAPIC
 * messages (chapter 5).
 *
 * Version 1.0. Offered: 39 and 48 bits of address, pages of 4 KiB, 2 MiB, 1 GiB, pass-through, queued and
 * register-based invalidation, eight fault records, interrupt remapping with EIM. Not there: device TLBs,
 * page requests, process address spaces, posted interrupts, protected memory regions, the advanced fault log.
 * Nothing is cached, so that every invalidation is done as soon as it is asked for.
 *
 * Threads: every call from any thread; one lock. Order: a device's lock, the IOAPIC's, this one, an APIC's
 * and the memory watcher's.
 */
#ifndef LHYVE_DEV_VTD_H
#define LHYVE_DEV_VTD_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"

struct gpmap;
struct io_bus;
struct vtd;

#define VTD_DEFAULT_BASE 0xfed90000u

struct vtd_cfg {
	uint64_t base;	    /* of the register page; 0: VTD_DEFAULT_BASE */
	uint8_t maxphyaddr; /* bits of a guest-physical address: higher ones are reserved in tables; 0: 52 */
	bool eim;	    /* offer x2APIC mode: 32 bits of destination in an entry */
};

/* A remapped interrupt. */
struct vtd_message {
	uint32_t dest;
	bool wide; /* dest has 32 bits (x2APIC mode), else 8 */
	bool logical, level;
	uint8_t mode, vector; /* delivery mode 0..7 */
};

struct vtd_wires {
	struct gpmap *mem;
	/* Both are true when an APIC took it. */
	bool (*message)(void *ctx, const struct vtd_message *m);
	bool (*msi)(void *ctx, uint64_t addr, uint32_t data); /* in compatibility format: as it came */
	void *ctx;
};

LH_MUST_CHECK struct vtd *vtd_create(const struct vtd_cfg *cfg, const struct vtd_wires *w, struct err *err);
extern const struct device_ops vtd_device_ops;
LH_MUST_CHECK int vtd_map(struct vtd *v, struct io_bus *mmio, struct err *err);

/*
 * Where [addr, addr + *len) of the requester (bus << 8 | devfn) is in guest memory; *len (not 0) shrinks to
 * what one page holds. false: blocked, and recorded unless the context entry says not to. As
 * pci_iommu_wires.translate.
 */
bool vtd_translate(void *vtd, uint16_t sid, uint64_t addr, bool write, uint64_t *gpa, uint64_t *len);

/* An interrupt message of a function: as pci_iommu_wires.msi. */
void vtd_pci_msi(void *vtd, uint16_t sid, uint64_t addr, uint32_t data);
/* One of the IOAPIC, whose source id is not checked: as ioapic_wires.msi. */
bool vtd_ioapic_msi(void *vtd, uint32_t addr, uint32_t data);

#endif
