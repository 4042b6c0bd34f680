/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC timer (SDM vol. 3A 11.5.4): one-shot, periodic and TSC-deadline.
 *
 * The count is not stepped: st holds what it was at an instant (the anchor) and the VM
 * clock gives the rest. lapic_timer_sync() makes expirations up to now happen; it runs
 * before every look at or change of the timer, and from the vm_timer, which is armed
 * only while an expiration would interrupt. Everything under the APIC's lock.
 */
#include "dev/chipset/lapic_internal.h"

/* A periodic timer faster than this is served in lumps: the count stays exact, the host is spared. */
#define MIN_PERIOD_NS 20000u

enum timer_mode { TIMER_ONESHOT = 0, TIMER_PERIODIC = 1, TIMER_DEADLINE = 2 };

static enum timer_mode
mode_of(uint32_t lvt)
{
	return (enum timer_mode)bits(lvt, 17, 2);
}

static enum timer_mode
timer_mode(const struct lapic *l)
{
	return mode_of(l->st.lvt[LVT_TIMER]);
}

/* Nanoseconds a count: 2, 4, ... 128, 1 for bits 3, 1, 0 of the divide register = 0..7 (figure 11-10). */
static uint64_t
count_ns(const struct lapic *l)
{
	unsigned v = (l->st.timer_divide & 3) | (l->st.timer_divide >> 1 & 4);

	return (NSEC_PER_SEC / LAPIC_TIMER_HZ) << ((v + 1) & 7);
}

static uint64_t
guest_tsc(struct lapic *l)
{
	return vm_clock_tsc(l->set->w.clock) + l->st.tsc_adjust;
}

static uint64_t
elapsed_ns(struct lapic *l)
{
	uint64_t now = vm_clock_now_ns(l->set->w.clock);

	return now > l->st.timer_anchor_ns ? now - l->st.timer_anchor_ns : 0;
}

static void
sync_deadline(struct lapic *l, struct lapic_actions *act)
{
	if (l->st.tsc_deadline == 0 || guest_tsc(l) < l->st.tsc_deadline)
		return;
	l->st.tsc_deadline = 0;
	lapic_local_interrupt(l, LVT_TIMER, false, act);
}

void
lapic_timer_sync(struct lapic *l, struct lapic_actions *act)
{
	uint64_t elapsed, first, period;

	if (timer_mode(l) == TIMER_DEADLINE) {
		sync_deadline(l, act);
		return;
	}
	if (!l->st.timer_running)
		return;
	elapsed = elapsed_ns(l);
	first = l->st.timer_left * count_ns(l);
	if (elapsed < first)
		return;
	period = l->st.timer_init * count_ns(l);
	if (timer_mode(l) == TIMER_PERIODIC && period != 0) {
		/* Missed periods are one interrupt: IRR holds no more. */
		l->st.timer_anchor_ns += first + (elapsed - first) / period * period;
		l->st.timer_left = l->st.timer_init;
	} else {
		l->st.timer_running = false;
		l->st.timer_left = 0;
	}
	lapic_local_interrupt(l, LVT_TIMER, false, act);
}

/* When the vm_timer is to look next; false: not at all. */
static bool
next_deadline(struct lapic *l, uint64_t *ns)
{
	struct vm_clock *clock = l->set->w.clock;

	if (!l->started || (l->st.lvt[LVT_TIMER] & LVT_MASKED) != 0)
		return false;
	if (timer_mode(l) == TIMER_DEADLINE) {
		uint64_t tsc = vm_clock_tsc(clock), guest = tsc + l->st.tsc_adjust;
		/* It may have passed since the last sync: then the timer fires at once. */
		uint64_t delta = l->st.tsc_deadline > guest ? l->st.tsc_deadline - guest : 0;

		*ns = vm_clock_tsc_to_ns(clock, delta > UINT64_MAX - tsc ? UINT64_MAX : tsc + delta);
		return l->st.tsc_deadline != 0;
	}
	*ns = l->st.timer_anchor_ns + l->st.timer_left * count_ns(l);
	if (timer_mode(l) == TIMER_PERIODIC && l->st.timer_init * count_ns(l) < MIN_PERIOD_NS)
		*ns = MAX(*ns, vm_clock_now_ns(clock) + MIN_PERIOD_NS);
	return l->st.timer_running;
}

void
lapic_timer_rearm(struct lapic *l)
{
	uint64_t ns;

	if (!lapic_is_remote(l) && next_deadline(l, &ns))
		vm_timer_set(&l->timer, ns);
	else
		vm_timer_cancel(&l->timer);
}

void
lapic_timer_fired(void *arg)
{
	struct lapic *l = arg;
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	lapic_timer_sync(l, &act);
	lapic_timer_rearm(l);
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}

/* ---- registers: after lapic_timer_sync(); the caller syncs again and re-arms ---- */

uint32_t
lapic_timer_current(struct lapic *l)
{
	uint64_t gone;

	if (!l->st.timer_running || timer_mode(l) == TIMER_DEADLINE)
		return 0;
	gone = elapsed_ns(l) / count_ns(l);
	return gone >= l->st.timer_left ? 0 : l->st.timer_left - (uint32_t)gone;
}

static void
start_count(struct lapic *l, uint32_t count)
{
	l->st.timer_left = count;
	l->st.timer_running = count != 0;
	l->st.timer_anchor_ns = vm_clock_now_ns(l->set->w.clock);
}

void
lapic_timer_write_init(struct lapic *l, uint32_t val)
{
	/* In TSC-deadline mode the register is not there (11.5.4.1). */
	if (timer_mode(l) == TIMER_DEADLINE)
		return;
	l->st.timer_init = val;
	start_count(l, val);
}

/* A running count goes on from where it is at the new rate. */
void
lapic_timer_write_divide(struct lapic *l, uint32_t val)
{
	uint32_t current = lapic_timer_current(l);

	l->st.timer_divide = val & 0xb;
	if (l->st.timer_running)
		start_count(l, current);
}

/* Going into or out of TSC-deadline mode disarms (11.5.4.1); one-shot and periodic share the count. */
void
lapic_timer_write_lvt(struct lapic *l, uint32_t val)
{
	bool was = timer_mode(l) == TIMER_DEADLINE, is = mode_of(val) == TIMER_DEADLINE;

	l->st.lvt[LVT_TIMER] = val;
	if (was != is) {
		l->st.tsc_deadline = 0;
		l->st.timer_init = 0;
		l->st.timer_left = 0;
		l->st.timer_running = false;
	}
}

void
lapic_timer_write_deadline(struct lapic *l, uint64_t tsc)
{
	if (timer_mode(l) == TIMER_DEADLINE)
		l->st.tsc_deadline = tsc;
}
