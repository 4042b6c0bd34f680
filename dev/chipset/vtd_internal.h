/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the remapping unit share: registers by the specification's names (chapter 11), its state.
 */
#ifndef LHYVE_DEV_VTD_INTERNAL_H
#define LHYVE_DEV_VTD_INTERNAL_H

#include <pthread.h>

#include "base/util.h"
#include "dev/chipset/vtd.h"
#include "mem/gpmap.h"

enum {
	VTD_FRRS = 8,
	VTD_MGAW = 48,	 /* bits of a device's address */
	VTD_MAMV = 18,	 /* largest address mask of an invalidation */
	VTD_FRO = 0x220, /* fault records */
	VTD_IRO = 0x200, /* IVA, IOTLB */
};

/* GCMD and GSTS */
#define G_TE	BIT(31)
#define G_SRTP	BIT(30)
#define G_QIE	BIT(26)
#define G_IRE	BIT(25)
#define G_SIRTP BIT(24)
#define G_CFI	BIT(23)
/* FSTS */
enum { FSTS_PFO = 1 << 0, FSTS_PPF = 1 << 1, FSTS_IQE = 1 << 4, FSTS_FRI = 0xff << 8 };
/* The four registers of an event, FECTL and IECTL first. */
enum { EV_CTL, EV_DATA, EV_ADDR, EV_UADDR, EV_REGS };
#define EV_IM	  BIT(31)
#define EV_IP	  BIT(30)
#define IRTA_EIME BIT(11)
#define FRR_F	  BIT(63) /* of the upper half */

struct vtd_st {
	uint64_t rtaddr, irta; /* as written */
	uint64_t root, irt;    /* as SRTP and SIRTP took them over */
	uint64_t ccmd, iotlb;
	uint64_t iqh, iqt, iqa;
	uint64_t frr_lo[VTD_FRRS], frr_hi[VTD_FRRS];
	uint32_t gsts, fsts, ics;
	uint32_t fe[EV_REGS], ie[EV_REGS];
	uint32_t next_frr; /* that the next fault goes into */
};

struct vtd {
	struct vtd_cfg cfg;
	struct vtd_wires w;
	pthread_mutex_t lock;
	struct vtd_st st;
};

/* All with the lock held. */

/* vtd_fault.c */
/* Reasons: tables 7-x of chapter 7. */
enum vtd_reason {
	VTD_OK = 0,
	VTD_ROOT_NOT_PRESENT = 0x01,
	VTD_CONTEXT_NOT_PRESENT = 0x02,
	VTD_CONTEXT_INVALID = 0x03,
	VTD_BEYOND_WIDTH = 0x04,
	VTD_NO_WRITE = 0x05,
	VTD_NO_READ = 0x06,
	VTD_TABLE_ACCESS = 0x07,
	VTD_ROOT_ACCESS = 0x08,
	VTD_CONTEXT_ACCESS = 0x09,
	VTD_ROOT_RESERVED = 0x0a,
	VTD_CONTEXT_RESERVED = 0x0b,
	VTD_TABLE_RESERVED = 0x0c,
	VTD_IR_RESERVED = 0x20,
	VTD_IR_INDEX = 0x21,
	VTD_IRTE_NOT_PRESENT = 0x22,
	VTD_IRTE_ACCESS = 0x23,
	VTD_IRTE_RESERVED = 0x24,
	VTD_IR_COMPAT = 0x25,
	VTD_IR_SOURCE = 0x26,
};
/* Record a fault. info: the page's address, or the interrupt's index in bits 63:48. */
void vtd_fault(struct vtd *v, uint16_t sid, enum vtd_reason reason, uint64_t info, bool read);
/* Set a bit of FSTS, with its event. */
void vtd_fault_status(struct vtd *v, uint32_t bit);
/* Software wrote 1s to FSTS, or to F of record n. */
void vtd_fault_clear(struct vtd *v, uint32_t bits);
void vtd_frr_clear(struct vtd *v, unsigned n);
/* An event's condition came true, or software wrote its control register. */
void vtd_event(struct vtd *v, uint32_t ev[EV_REGS]);
void vtd_event_control(struct vtd *v, uint32_t ev[EV_REGS], uint32_t val);

/* vtd_queue.c */
/* Work through the invalidation queue, as far as it goes. At most one round of it. */
void vtd_queue_run(struct vtd *v);

#endif
