/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PC's interrupt controllers as the library sees them: local APICs, I/O APIC, 8259s and the clock that
 * drives the APICs' timers. The models are a later layer's (board/intc.c); whoever links the library gives
 * them. Any thread.
 */
#ifndef VMMAPI_X86_64_INTC_H
#define VMMAPI_X86_64_INTC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct intc;
struct vm_clock;

struct intc_cfg {
	unsigned cpus;
	const uint32_t *apic_ids;
	uint8_t phys_bits;
	struct vm_clock *clock;
	/* To the processors; with no lock of a controller's held. */
	void (*wake)(void *ctx, unsigned cpu);
	void (*init)(void *ctx, unsigned cpu);
	void (*sipi)(void *ctx, unsigned cpu, uint8_t vector);
	void (*nmi)(void *ctx, unsigned cpu);
	void *ctx;
};

LH_MUST_CHECK struct intc *intc_create(const struct intc_cfg *cfg, struct err *err);
void intc_destroy(struct intc *c);

/* Accesses by vCPU `cpu`. False: it is none of the controllers'. */
bool intc_mmio(struct intc *c, unsigned cpu, uint64_t gpa, unsigned size, bool write, uint64_t *val);
bool intc_port(struct intc *c, uint16_t port, unsigned size, bool write, uint32_t *val);
/* Of an APIC's MSRs. False: #GP(0). */
bool intc_msr(struct intc *c, unsigned cpu, uint32_t msr, bool write, uint64_t *val);

uint64_t intc_get_cr8(struct intc *c, unsigned cpu);
void intc_set_cr8(struct intc *c, unsigned cpu, uint64_t cr8);
void intc_set_tsc_adjust(struct intc *c, unsigned cpu, uint64_t adjust);
bool intc_pending(struct intc *c, unsigned cpu);
int intc_accept(struct intc *c, unsigned cpu); /* the vector, or -1 */
void intc_init_reset(struct intc *c, unsigned cpu);

void intc_local_irq(struct intc *c, unsigned cpu, uint8_t vector);
void intc_msi(struct intc *c, uint64_t addr, uint32_t data);
enum { INTC_PINS = 24, INTC_ISA = 16 };
void intc_ioapic(struct intc *c, unsigned pin, bool level);
void intc_isa(struct intc *c, unsigned line, bool level);

#endif
