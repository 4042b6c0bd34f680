/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APICs that are elsewhere (lapic_wires.remote): in the host's kernel. Between start and stop they have
 * the state, and the set is the way to them: messages go there, ends of level-triggered interrupts come back.
 * Else the state is here, in its canonical form, as if the APICs had never left.
 *
 * The 8259s' INTR stays with the set: lapic_pending() says LAPIC_EXTINT while it is high; whether LINT0 lets
 * it through is the remote APIC's business.
 */
#include "dev/chipset/lapic_internal.h"

#include <string.h>

#include "base/log.h"

/* ---- forms ---- */

static void
put(struct x86_apic *a, unsigned reg, uint32_t val)
{
	put_le32(a->page + reg * 16, val);
}

static uint32_t
get(const struct x86_apic *a, unsigned reg)
{
	return get_le32(a->page + reg * 16);
}

static unsigned
lvt_reg(unsigned i)
{
	return i == LVT_CMCI ? R_LVT_CMCI : R_LVT_TIMER + i - LVT_TIMER;
}

static void
to_page(struct lapic *l, struct x86_apic *a)
{
	const struct lapic_st *st = &l->st;

	memset(a, 0, sizeof(*a));
	a->base = st->apic_base;
	a->tsc_deadline = st->tsc_deadline;
	put(a, R_ID, lapic_x2(l) ? l->id : (uint32_t)st->xapic_id << 24);
	put(a, R_TPR, st->tpr);
	put(a, R_LDR, st->ldr);
	put(a, R_DFR, st->dfr);
	put(a, R_SVR, st->svr);
	put(a, R_ESR, st->esr);
	put(a, R_ICR, (uint32_t)st->icr);
	put(a, R_ICR_HIGH, (uint32_t)(st->icr >> 32));
	put(a, R_TIMER_INIT, st->timer_init);
	put(a, R_TIMER_CURRENT, st->timer_running ? st->timer_left : 0);
	put(a, R_TIMER_DIVIDE, st->timer_divide);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		put(a, lvt_reg(i), st->lvt[i]);
	for (unsigned i = 0; i < 8; i++) {
		put(a, R_ISR + i, st->isr[i]);
		put(a, R_TMR + i, st->tmr[i]);
		put(a, R_IRR + i, st->irr[i]);
	}
}

/* INTR's level, and the TSC's adjustment, are not the page's. */
static void
from_page(struct lapic *l, const struct x86_apic *a)
{
	struct lapic_st *st = &l->st;

	lapic_set_base(l, a->base);
	st->tsc_deadline = a->tsc_deadline;
	if (!lapic_x2(l))
		st->xapic_id = (uint8_t)(get(a, R_ID) >> 24);
	st->tpr = get(a, R_TPR) & 0xff;
	st->ldr = get(a, R_LDR);
	st->dfr = get(a, R_DFR);
	st->svr = get(a, R_SVR) & (SVR_ENABLE | SVR_EOI_SUPPRESS | 0xff);
	st->esr = get(a, R_ESR);
	st->esr_pending = 0;
	st->icr = get(a, R_ICR) | (uint64_t)get(a, R_ICR_HIGH) << 32;
	st->timer_init = get(a, R_TIMER_INIT);
	st->timer_left = get(a, R_TIMER_CURRENT);
	st->timer_running = st->timer_left != 0;
	st->timer_divide = get(a, R_TIMER_DIVIDE) & 0xb;
	st->timer_anchor_ns = vm_clock_now_ns(l->set->w.clock);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		st->lvt[i] = get(a, lvt_reg(i)) & (lapic_lvt_writable(i) | LVT_REMOTE_IRR);
	for (unsigned i = 0; i < 8; i++) {
		st->isr[i] = get(a, R_ISR + i);
		st->tmr[i] = get(a, R_TMR + i);
		st->irr[i] = get(a, R_IRR + i);
	}
}

/* ---- moves: lock held, the vCPU does not run ---- */

void
lapic_remote_send(struct lapic *l)
{
	const struct lapic_remote *r = l->set->w.remote;
	struct x86_apic a;

	to_page(l, &a);
	if (r->set(r->ctx, l->cpu, &a) != 0)
		log_error("lapic %u: the host's kernel does not take its state", l->cpu);
}

void
lapic_remote_fetch(struct lapic *l)
{
	const struct lapic_remote *r = l->set->w.remote;
	struct x86_apic a;

	if (r->get(r->ctx, l->cpu, &a) == 0)
		from_page(l, &a);
	else
		log_error("lapic %u: the host's kernel does not give its state", l->cpu);
}

/* ---- messages ---- */

void
lapic_remote_eoi(struct lapic_set *s, uint8_t vector)
{
	if (s->w.eoi != NULL)
		s->w.eoi(s->w.eoi_ctx, vector);
}

void
lapic_message_as_msi(uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level, uint64_t *addr,
		     uint32_t *data)
{
	bool lowest = mode == DM_LOWEST;

	*addr = 0xfee00000u | (uint64_t)(dest & 0xff) << 12 | (uint64_t)(dest >> 8 & 0x7f) << 5 |
		(lowest ? BIT(3) : 0) | (logical ? BIT(2) : 0);
	*data = vector | mode << 8 | (level ? 3u << 14 : 0);
}
