/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one VM clock. Every timer of the machine (TSC, LAPIC timer, PIT, HPET, PM
 * timer, RTC) is derived from it, so that they move, stop and jump together.
 * Nanoseconds start at 0 when the VM first runs and stand still while it is stopped.
 *
 * Thread: all calls from any thread. Timer callbacks run on the loop thread
 * (host clock) or inside vm_clock_advance() (manual clock), with no lock of the clock held.
 */
#ifndef LHYVE_BASE_VMCLOCK_H
#define LHYVE_BASE_VMCLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct vm_clock;
struct evloop;

enum vm_clock_kind {
	VM_CLOCK_HOST,	 /* follows the host's monotonic clock while started */
	VM_CLOCK_MANUAL, /* moves by vm_clock_advance() only: for tests */
};

LH_MUST_CHECK struct vm_clock *vm_clock_create(enum vm_clock_kind kind, struct err *err);
void vm_clock_destroy(struct vm_clock *c);

/* Deliver expired timers on this loop (host clock only; one timerfd). */
LH_MUST_CHECK int vm_clock_attach(struct vm_clock *c, struct evloop *l, struct err *err);

void vm_clock_start(struct vm_clock *c);
void vm_clock_stop(struct vm_clock *c);
uint64_t vm_clock_now_ns(struct vm_clock *c);

/* Manual clock: move on by delta_ns, running each timer at its own deadline in order. */
void vm_clock_advance(struct vm_clock *c, uint64_t delta_ns);

/* Wall time in ns since 1970 (UTC): the host's, or, for a manual clock, a settable base plus now. */
int64_t vm_clock_wall_ns(struct vm_clock *c);
void vm_clock_set_wall_ns(struct vm_clock *c, int64_t wall_ns); /* manual clock only */

/*
 * The guest's TSC before any per-vCPU TSC_OFFSET/IA32_TSC write. Constant frequency.
 * With the host clock it is rdtsc + offset, so that an engine may compute it inline:
 * vm_clock_tsc_offset() is constant while the clock runs.
 */
uint64_t vm_clock_tsc(struct vm_clock *c);
uint64_t vm_clock_tsc_offset(struct vm_clock *c);
/* False: the host's TSC is not usable (not invariant) or the clock is manual; the TSC is then made from ns.
 */
bool vm_clock_tsc_is_host(const struct vm_clock *c);
uint64_t vm_clock_tsc_khz(struct vm_clock *c); /* the first call of a process may take milliseconds */
/* The clock time in ns at which vm_clock_tsc() reaches tsc (saturating; the past gives now or less). */
uint64_t vm_clock_tsc_to_ns(struct vm_clock *c, uint64_t tsc);

struct vm_timer {
	struct vm_clock *clock;
	void (*fn)(void *arg);
	void *arg;
	uint64_t deadline_ns;
	uint32_t heap_index; /* 0: not armed */
};

/* The timer's memory is the caller's; cancel it before it goes. */
void vm_timer_init(struct vm_timer *t, struct vm_clock *c, void (*fn)(void *arg), void *arg);
void vm_timer_set(struct vm_timer *t,
		  uint64_t deadline_ns); /* (re)arm; a past deadline fires at once, on the loop */
/*
 * Disarm. A callback that the loop has already taken may still run, or be running, after
 * the return (the same holds for vm_timer_set() moving a deadline): callbacks take their
 * device's lock and look whether the time they stand for has come.
 */
void vm_timer_cancel(struct vm_timer *t);
/*
 * Disarm and wait for a callback in flight; after it the memory may go. From inside a callback
 * it does not wait. The caller holds no lock that the callback takes.
 */
void vm_timer_cancel_sync(struct vm_timer *t);
bool vm_timer_armed(const struct vm_timer *t);

#endif
