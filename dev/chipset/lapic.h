/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APICs of all vCPUs, and the bus between them (SDM vol. 3A ch. 11).
 * xAPIC by MMIO, x2APIC by MSRs, one-shot, periodic and TSC-deadline timer.
 *
 * Threads: every call from any thread. One lock an APIC; messages between APICs
 * take one APIC's lock at a time. Lock order: any device's lock, then an APIC's lock.
 * lapic_cpu_ops are called with no APIC lock held.
 */
#ifndef LHYVE_DEV_LAPIC_H
#define LHYVE_DEV_LAPIC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/vmclock.h"
#include "dev/device.h"
#include "x86/apic.h"

struct lapic_set;

/* What the timer counts before its divider. CPUID 0x15's ECX (crystal), where given, must be this. */
#define LAPIC_TIMER_HZ 1000000000u

/* How APICs reach the processors. cpu is the vCPU number, 0..maxcpus-1. */
struct lapic_cpu_ops {
	void (*wake)(void *ctx, unsigned cpu); /* lapic_pending() may have changed: look again */
	void (*init)(void *ctx, unsigned cpu);
	void (*sipi)(void *ctx, unsigned cpu, uint8_t vector);
	void (*nmi)(void *ctx, unsigned cpu);
	void (*smi)(void *ctx, unsigned cpu);
};

struct lapic_cfg {
	unsigned cpus;		  /* APICs made; more may be added up to maxcpus later */
	const uint32_t *apic_ids; /* one a vCPU; NULL: id = number */
	bool x2apic;		  /* x2APIC offered by CPUID */
	uint8_t maxphyaddr; /* physical address bits of CPUID: higher ones in IA32_APIC_BASE are #GP; 0: 52 */
};

/* APICs that are in the host's kernel. msi from any thread; the others for a vCPU that does not run. 0, or
 * -errno. */
struct lapic_remote {
	bool (*msi)(void *ctx, uint64_t addr, uint32_t data); /* true: an APIC took it */
	int (*get)(void *ctx, unsigned cpu, struct x86_apic *a);
	int (*set)(void *ctx, unsigned cpu, const struct x86_apic *a);
	void *ctx;
};

struct lapic_wires {
	struct vm_clock *clock;
	const struct lapic_cpu_ops *cpu_ops;
	void *cpu_ctx;
	void (*eoi)(void *ctx, uint8_t vector); /* broadcast of a level-triggered EOI: to the IOAPICs */
	void *eoi_ctx;
	int (*extint_ack)(void *ctx); /* INTA cycle to the PIC: vector */
	void *extint_ctx;
	const struct lapic_remote *remote; /* NULL: the APICs are here */
};

LH_MUST_CHECK struct lapic_set *lapic_create(const struct lapic_cfg *cfg, const struct lapic_wires *w,
					     struct err *err);
extern const struct device_ops lapic_device_ops; /* dev = struct lapic_set * (all APICs): life, no state */
/* State of one APIC: dev = lapic_cpu_device(). Add one device a vCPU after the set's; destroy does nothing.
 */
extern const struct device_ops lapic_cpu_device_ops;
void *lapic_cpu_device(struct lapic_set *s, unsigned cpu);

/*
 * What firmware leaves behind for a system that knows no APIC ("virtual wire", MP specification
 * 3.6.2.2): vCPU 0 enabled, LINT0 = ExtINT, LINT1 = NMI. For boards that boot without firmware.
 */
void lapic_virtual_wire(struct lapic_set *s);

/* Page at IA32_APIC_BASE; off 0..0xfff. Access by vCPU `cpu`; false: not enabled there (falls through to the
 * bus). */
bool lapic_mmio_read(struct lapic_set *s, unsigned cpu, uint64_t gpa, unsigned size, uint64_t *val);
bool lapic_mmio_write(struct lapic_set *s, unsigned cpu, uint64_t gpa, unsigned size, uint64_t val);

/* IA32_APIC_BASE, IA32_TSC_DEADLINE and 0x800..0x8ff. 0, or -EINVAL: the access is a #GP(0). */
LH_MUST_CHECK int lapic_msr_read(struct lapic_set *s, unsigned cpu, uint32_t msr, uint64_t *val);
LH_MUST_CHECK int lapic_msr_write(struct lapic_set *s, unsigned cpu, uint32_t msr, uint64_t val);
bool lapic_msr_owned(uint32_t msr);

/*
 * Highest-priority deliverable vector (above PPR), or -1. Includes a PIC interrupt by LINT0
 * or by LVT ExtINT: LAPIC_EXTINT. A fast look without a lock is allowed to be stale by one wake.
 */
enum { LAPIC_NONE = -1, LAPIC_EXTINT = 256 };
int lapic_pending(struct lapic_set *s, unsigned cpu);
/* Accept the pending interrupt: IRR to ISR (or an INTA cycle to the PIC). The vector, or -1 if it went away.
 */
int lapic_accept(struct lapic_set *s, unsigned cpu);

/* CR8 of vCPU `cpu` (task priority class, 0..15). */
uint64_t lapic_get_cr8(struct lapic_set *s, unsigned cpu);
void lapic_set_cr8(struct lapic_set *s, unsigned cpu, uint64_t cr8);

/* The TSC that the guest of vCPU `cpu` reads minus vm_clock_tsc(): for the deadline timer. */
void lapic_set_tsc_adjust(struct lapic_set *s, unsigned cpu, uint64_t adjust);

/*
 * INIT reset of one APIC (keeps its id and base). The board calls it when the vCPU takes the
 * INIT that lapic_cpu_ops.init announced, before it looks at a start-up message.
 */
void lapic_init_reset(struct lapic_set *s, unsigned cpu);

/* Message-signalled interrupt: address 0xfeexxxxx and data as in the SDM. True when at least one APIC took
 * it. */
bool lapic_msi(struct lapic_set *s, uint64_t addr, uint32_t data);
void lapic_msi_wire(void *set, uint64_t addr, uint32_t data); /* the same, as hpet_wires.msi */

/*
 * A bus message (IOAPIC): dest, logical, delivery mode 0..7, vector, level-triggered.
 * True when at least one APIC took it.
 */
bool lapic_message(struct lapic_set *s, uint32_t dest, bool logical, unsigned mode, uint8_t vector,
		   bool level);
/* The same with 32 bits of destination, of which all ones are everyone: from a remapping unit in x2APIC mode.
 */
bool lapic_message_x2(struct lapic_set *s, uint32_t dest, bool logical, unsigned mode, uint8_t vector,
		      bool level);
/* The same as lapic_message(), as ioapic_wires.message. */
bool lapic_message_wire(void *set, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level);

/* The same as address and data. */
void lapic_message_as_msi(uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level,
			  uint64_t *addr, uint32_t *data);
/* A message with address and data that does no more than set a vector's bit in IRR, edge-triggered: in the form
 * that lapic_msi() gives it on its way to a remote APIC. False: it is another one. */
bool lapic_msi_plain(uint64_t *addr, uint32_t *data);
/* Remote APICs ended a level-triggered interrupt. */
void lapic_remote_eoi(struct lapic_set *s, uint8_t vector);

/* The PIC's INTR output, wired to LINT0 of vCPU 0 (virtual wire mode); NMI to LINT1 of all. */
void lapic_lint0(struct lapic_set *s, bool level);
void lapic_lint1_nmi(struct lapic_set *s);

/* A performance counter of vCPU `cpu` overflowed: its LVT entry's interrupt. */
void lapic_pmi(struct lapic_set *s, unsigned cpu);

uint32_t lapic_id(const struct lapic_set *s, unsigned cpu);

#endif
