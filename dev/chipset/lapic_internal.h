/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of the local APICs: lapic.c (registers, modes), lapic_timer.c (the timer),
 * lapic_bus.c (messages, local interrupts), lapic_set.c (life, state), lapic_remote.c (APICs in a kernel).
 * Sections are of SDM vol. 3A.
 *
 * What one APIC's change asks of others (a wake, an IPI, an EOI broadcast) is noted in a
 * `struct lapic_actions` under the APIC's lock and done by lapic_act() after it is dropped.
 */
#ifndef LHYVE_DEV_LAPIC_INTERNAL_H
#define LHYVE_DEV_LAPIC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/util.h"
#include "dev/chipset/lapic.h"

/* Register numbers: MMIO offset / 16, MSR - 0x800. */
enum {
	R_ID = 0x02,
	R_VERSION = 0x03,
	R_TPR = 0x08,
	R_APR = 0x09,
	R_PPR = 0x0a,
	R_EOI = 0x0b,
	R_RRD = 0x0c,
	R_LDR = 0x0d,
	R_DFR = 0x0e,
	R_SVR = 0x0f,
	R_ISR = 0x10,
	R_TMR = 0x18,
	R_IRR = 0x20,
	R_ESR = 0x28,
	R_LVT_CMCI = 0x2f,
	R_ICR = 0x30,
	R_ICR_HIGH = 0x31,
	R_LVT_TIMER = 0x32,
	R_LVT_ERROR = 0x37,
	R_TIMER_INIT = 0x38,
	R_TIMER_CURRENT = 0x39,
	R_TIMER_DIVIDE = 0x3e,
	R_SELF_IPI = 0x3f,
	R_COUNT = 0x40,
};

enum lvt_index { LVT_CMCI, LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define MSR_APIC_BASE	 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC	 0x800u

#define BASE_BSP  BIT(8)
#define BASE_EXTD BIT(10)
#define BASE_EN	  BIT(11)
#define BASE_ADDR 0x000ffffffffff000ull

#define SVR_ENABLE	 0x100u
#define SVR_EOI_SUPPRESS 0x1000u

#define LVT_MASKED     0x10000u
#define LVT_LEVEL      0x8000u
#define LVT_REMOTE_IRR 0x4000u

enum { ESR_SEND_VECTOR = 1 << 5, ESR_RECV_VECTOR = 1 << 6, ESR_REGISTER = 1 << 7 };

enum delivery_mode {
	DM_FIXED = 0,
	DM_LOWEST = 1,
	DM_SMI = 2,
	DM_NMI = 4,
	DM_INIT = 5,
	DM_SIPI = 6,
	DM_EXTINT = 7,
};

struct lapic_st {
	uint64_t apic_base;
	uint64_t icr;		  /* as the x2APIC sees it: destination in the high half */
	uint64_t tsc_deadline;	  /* guest TSC; 0: not armed */
	uint64_t tsc_adjust;	  /* guest TSC - vm_clock_tsc() */
	uint64_t timer_anchor_ns; /* when timer_left was the current count */
	uint32_t timer_init, timer_left, timer_divide;
	uint32_t tpr, ldr, dfr, svr;
	uint32_t esr, esr_pending; /* what reads give; what was found since the last write */
	uint32_t lvt[LVT_COUNT];
	uint32_t isr[8], tmr[8], irr[8];
	bool timer_running;
	bool lint0;	  /* level of the pin */
	bool extint;	  /* an ExtINT message waits */
	uint8_t xapic_id; /* what a guest may change; the x2APIC's id is fixed */
	uint8_t pad[4];
};

struct lapic {
	/* Read without the lock: written under it. */
	_Atomic int pending;	    /* lapic_pending()'s answer */
	_Atomic uint64_t mmio_base; /* of the register page; UINT64_MAX: not mapped */
	struct lapic_set *set;
	unsigned cpu;
	uint32_t id;
	pthread_mutex_t lock; /* everything below */
	bool started;	      /* the timer may be armed; the remote one has the state */
	struct vm_timer timer;
	struct lapic_st st;
};

struct id_entry {
	uint32_t id;
	unsigned cpu;
};

struct lapic_set {
	struct lapic_wires w;
	unsigned cpus;
	uint64_t base_reserved; /* bits of IA32_APIC_BASE that are #GP */
	struct lapic **apic;
	_Atomic bool renamed;	   /* an xAPIC id was changed: by_id does not know it */
	struct id_entry *by_id;	   /* sorted */
	_Atomic unsigned rotation; /* lowest priority: where ties begin */
};

enum {
	ACT_WAKE = 1,
	ACT_NMI = 2,
	ACT_SMI = 4,
	ACT_INIT = 8,
	ACT_SIPI = 16,
	ACT_EOI = 32,
	ACT_IPI = 64,
};

struct lapic_actions {
	unsigned what;
	uint8_t vector; /* of SIPI or EOI */
	bool ipi_wide;	/* 32-bit destination: x2APIC */
	uint64_t ipi;	/* ICR */
};

static inline bool
lapic_hw_enabled(const struct lapic *l)
{
	return (l->st.apic_base & BASE_EN) != 0;
}

static inline bool
lapic_x2(const struct lapic *l)
{
	return (l->st.apic_base & BASE_EXTD) != 0;
}

static inline bool
lapic_sw_enabled(const struct lapic *l)
{
	return (l->st.svr & SVR_ENABLE) != 0;
}

/* All with l->lock held, but lapic_act() and lapic_send_icr(). */

/* lapic.c */
uint8_t lapic_ppr(const struct lapic *l);
void lapic_update(struct lapic *l, struct lapic_actions *act); /* after any change: pending, wake */
void lapic_reset_registers(struct lapic *l);
void lapic_set_base(struct lapic *l, uint64_t base); /* checked by the caller */
uint32_t lapic_lvt_writable(enum lvt_index i);

/* lapic_bus.c */
void lapic_act(struct lapic *l, const struct lapic_actions *act);
void lapic_accept_vector(struct lapic *l, uint8_t vector, bool level, struct lapic_actions *act);
void lapic_error(struct lapic *l, uint32_t esr_bit, struct lapic_actions *act);
void lapic_local_interrupt(struct lapic *l, enum lvt_index i, bool level, struct lapic_actions *act);
void lapic_lint0_level(struct lapic *l, struct lapic_actions *act); /* level-triggered LINT0: send when due */
void lapic_send_icr(struct lapic_set *s, unsigned cpu, uint64_t icr, bool wide);

/* lapic_remote.c: st goes there, or comes from there */
void lapic_remote_send(struct lapic *l);
void lapic_remote_fetch(struct lapic *l);

static inline bool
lapic_is_remote(const struct lapic *l)
{
	return l->set->w.remote != NULL;
}

/* lapic_timer.c */
void lapic_timer_fired(void *arg); /* the vm_timer's callback: takes the lock itself */
void lapic_timer_sync(struct lapic *l, struct lapic_actions *act); /* let expirations up to now happen */
void lapic_timer_rearm(struct lapic *l);
uint32_t lapic_timer_current(struct lapic *l);
void lapic_timer_write_init(struct lapic *l, uint32_t val);
void lapic_timer_write_divide(struct lapic *l, uint32_t val);
void lapic_timer_write_lvt(struct lapic *l, uint32_t val);
void lapic_timer_write_deadline(struct lapic *l, uint64_t tsc);

#endif
