/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages between APICs, from IOAPICs and MSIs, and the local interrupt pins (SDM vol.
 * 3A 11.5.1-11.6, 11.11). A message takes one APIC's lock at a time, never two; a
 * broadcast is therefore not one instant, as on hardware.
 */
#include "dev/chipset/lapic_internal.h"

#include "base/log.h"

struct message {
	uint32_t dest;
	bool wide; /* dest has 32 bits (from an x2APIC), else 8, where 0xff is everyone */
	bool logical;
	bool all;    /* shorthand: no destination is compared */
	int exclude; /* shorthand: vCPU that is left out, or -1 */
	enum delivery_mode mode;
	uint8_t vector;
	bool level;
};

/* ---- one APIC: lock held ---- */

void
lapic_error(struct lapic *l, uint32_t esr_bit, struct lapic_actions *act)
{
	uint32_t lvt = l->st.lvt[LVT_ERROR];

	l->st.esr_pending |= esr_bit;
	/* An error vector that is illegal itself can only be noted. */
	if ((lvt & LVT_MASKED) == 0 && (uint8_t)lvt >= 16)
		lapic_accept_vector(l, (uint8_t)lvt, false, act);
	else if ((lvt & LVT_MASKED) == 0)
		l->st.esr_pending |= ESR_RECV_VECTOR;
}

/* Into IRR; TMR says whether its EOI is broadcast (11.8.4). */
void
lapic_accept_vector(struct lapic *l, uint8_t vector, bool level, struct lapic_actions *act)
{
	uint32_t bit = 1u << (vector & 31);

	if (vector < 16) {
		lapic_error(l, ESR_RECV_VECTOR, act);
		return;
	}
	l->st.irr[vector / 32] |= bit;
	if (level)
		l->st.tmr[vector / 32] |= bit;
	else
		l->st.tmr[vector / 32] &= ~bit;
}

/* An event of the local vector table. */
void
lapic_local_interrupt(struct lapic *l, enum lvt_index i, bool level, struct lapic_actions *act)
{
	uint32_t lvt = l->st.lvt[i];
	/* The timer's bits 10:8 are reserved: it is always fixed; so is the error interrupt. */
	unsigned mode = i == LVT_TIMER || i == LVT_ERROR ? DM_FIXED : (unsigned)bits(lvt, 8, 3);

	if ((lvt & LVT_MASKED) != 0)
		return;
	switch (mode) {
	case DM_FIXED:
		lapic_accept_vector(l, (uint8_t)lvt, level, act);
		break;
	case DM_SMI:
		act->what |= ACT_SMI;
		break;
	case DM_NMI:
		act->what |= ACT_NMI;
		break;
	case DM_INIT:
		act->what |= ACT_INIT;
		break;
	default: /* ExtINT of LINT0 follows the pin: lapic_update() */
		break;
	}
}

/* LINT0 as a fixed, level-triggered input: remote IRR from acceptance to EOI (11.5.1). */
void
lapic_lint0_level(struct lapic *l, struct lapic_actions *act)
{
	uint32_t lvt = l->st.lvt[LVT_LINT0];

	if (!l->st.lint0 || (lvt & (LVT_MASKED | LVT_REMOTE_IRR)) != 0 || (lvt & LVT_LEVEL) == 0 ||
	    bits(lvt, 8, 3) != DM_FIXED || (uint8_t)lvt < 16)
		return;
	l->st.lvt[LVT_LINT0] |= LVT_REMOTE_IRR;
	lapic_accept_vector(l, (uint8_t)lvt, true, act);
}

/* ---- what follows, with no lock held ---- */

void
lapic_act(struct lapic *l, const struct lapic_actions *act)
{
	const struct lapic_wires *w = &l->set->w;

	if (LIKELY(act->what == 0))
		return;
	if ((act->what & ACT_EOI) != 0 && w->eoi != NULL)
		w->eoi(w->eoi_ctx, act->vector);
	if ((act->what & ACT_IPI) != 0)
		lapic_send_icr(l->set, l->cpu, act->ipi, act->ipi_wide);
	if ((act->what & ACT_NMI) != 0 && w->cpu_ops->nmi != NULL)
		w->cpu_ops->nmi(w->cpu_ctx, l->cpu);
	if ((act->what & ACT_SMI) != 0 && w->cpu_ops->smi != NULL)
		w->cpu_ops->smi(w->cpu_ctx, l->cpu);
	if ((act->what & ACT_INIT) != 0 && w->cpu_ops->init != NULL)
		w->cpu_ops->init(w->cpu_ctx, l->cpu);
	if ((act->what & ACT_SIPI) != 0 && w->cpu_ops->sipi != NULL)
		w->cpu_ops->sipi(w->cpu_ctx, l->cpu, act->vector);
	if ((act->what & ACT_WAKE) != 0)
		w->cpu_ops->wake(w->cpu_ctx, l->cpu);
}

/* ---- addressing ---- */

static bool
is_broadcast(const struct message *m)
{
	return m->dest == (m->wide ? 0xffffffffu : 0xffu);
}

/* Does this APIC answer to the logical destination (11.6.2.2, 11.12.10.2)? */
static bool
matches_logical(const struct lapic *l, uint32_t dest)
{
	uint32_t mine = l->st.ldr;

	if (lapic_x2(l))
		return mine >> 16 == dest >> 16 && (mine & dest & 0xffff) != 0;
	if (dest > 0xff)
		return false;
	mine >>= 24;
	if (l->st.dfr >> 28 == 0xf)
		return (mine & dest) != 0;
	return mine >> 4 == dest >> 4 && (mine & dest & 0xf) != 0;
}

static bool
matches(const struct lapic *l, const struct message *m)
{
	if (!lapic_hw_enabled(l) || (int)l->cpu == m->exclude)
		return false;
	if (m->all || is_broadcast(m))
		return true;
	if (m->logical)
		return matches_logical(l, m->dest);
	return (lapic_x2(l) ? l->id : l->st.xapic_id) == m->dest;
}

static struct lapic *
find_id(struct lapic_set *s, uint32_t id)
{
	size_t lo = 0, hi = s->cpus;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->by_id[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->cpus && s->by_id[lo].id == id ? s->apic[s->by_id[lo].cpu] : NULL;
}

/*
 * Call fn for the APICs that may match; it looks itself, under the lock. One id is looked up
 * (unless a guest changed some: then all are asked), and so are the 16 of an x2APIC cluster, so that IPIs do
 * not cost more on larger machines.
 */
static void
for_each_candidate(struct lapic_set *s, const struct message *m,
		   void (*fn)(struct lapic *l, const struct message *m, void *arg), void *arg)
{
	struct lapic *l;

	if (m->all || is_broadcast(m) || (m->logical && !m->wide) ||
	    (!m->logical && atomic_load_explicit(&s->renamed, memory_order_relaxed))) {
		for (unsigned i = 0; i < s->cpus; i++)
			fn(s->apic[i], m, arg);
	} else if (!m->logical) {
		l = find_id(s, m->dest);
		if (l != NULL)
			fn(l, m, arg);
	} else {
		for (unsigned bit = 0; bit < 16; bit++) {
			if ((m->dest >> bit & 1) == 0)
				continue;
			l = find_id(s, (m->dest >> 16) << 4 | bit);
			if (l != NULL)
				fn(l, m, arg);
		}
	}
}

/* ---- delivery ---- */

/* Lock held, APIC addressed. False: it does not take the message. */
static bool
take(struct lapic *l, const struct message *m, struct lapic_actions *act)
{
	switch (m->mode) {
	case DM_FIXED:
	case DM_LOWEST:
		if (!lapic_sw_enabled(l))
			return false;
		lapic_accept_vector(l, m->vector, m->level, act);
		return true;
	case DM_SMI:
		act->what |= ACT_SMI;
		return true;
	case DM_NMI:
		act->what |= ACT_NMI;
		return true;
	case DM_INIT:
		act->what |= ACT_INIT;
		return true;
	case DM_SIPI:
		act->what |= ACT_SIPI;
		act->vector = m->vector;
		return true;
	case DM_EXTINT:
		l->st.extint = true;
		return true;
	}
	return false;
}

static void
deliver(struct lapic *l, const struct message *m, void *taken)
{
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	if (matches(l, m) && take(l, m, &act)) {
		*(bool *)taken = true;
		lapic_update(l, &act);
	}
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}

struct arbitration {
	struct lapic *best;
	unsigned priority, distance, start;
};

static void
arbitrate(struct lapic *l, const struct message *m, void *arg)
{
	struct arbitration *a = arg;
	unsigned distance = (l->cpu + l->set->cpus - a->start) % l->set->cpus, priority;
	bool fits;

	pthread_mutex_lock(&l->lock);
	fits = matches(l, m) && lapic_sw_enabled(l);
	priority = lapic_ppr(l) >> 4;
	pthread_mutex_unlock(&l->lock);
	if (fits && (a->best == NULL || priority < a->priority ||
		     (priority == a->priority && distance < a->distance))) {
		a->best = l;
		a->priority = priority;
		a->distance = distance;
	}
}

/* Lowest priority (11.6.2.4): the processor with the lowest PPR class, ties in turn. */
static bool
send_lowest(struct lapic_set *s, const struct message *m)
{
	struct arbitration a = {.start = atomic_load_explicit(&s->rotation, memory_order_relaxed) % s->cpus};
	bool taken = false;

	for_each_candidate(s, m, arbitrate, &a);
	if (a.best == NULL)
		return false;
	atomic_store_explicit(&s->rotation, a.best->cpu + 1, memory_order_relaxed);
	deliver(a.best, m, &taken);
	return taken;
}

static bool
send(struct lapic_set *s, const struct message *m)
{
	bool taken = false;

	if (m->mode == DM_LOWEST)
		return send_lowest(s, m);
	for_each_candidate(s, m, deliver, &taken);
	return taken;
}

/* ---- IPIs ---- */

/* ICR (figure 11-12): 7:0 vector, 10:8 mode, 11 logical, 14 level, 15 trigger, 19:18 shorthand. */
void
lapic_send_icr(struct lapic_set *s, unsigned cpu, uint64_t icr, bool wide)
{
	enum { TO_DEST = 0, TO_SELF = 1, TO_ALL = 2, TO_OTHERS = 3 };
	unsigned shorthand = (unsigned)bits(icr, 18, 2);
	bool taken = false;
	struct message m = {
	    .dest = (uint32_t)(wide ? icr >> 32 : icr >> 56),
	    .wide = wide,
	    .logical = (icr >> 11 & 1) != 0,
	    .all = shorthand != TO_DEST,
	    .exclude = shorthand == TO_OTHERS ? (int)cpu : -1,
	    .mode = (enum delivery_mode)bits(icr, 8, 3),
	    .vector = (uint8_t)icr,
	    .level = false, /* IPIs are edges, whatever bit 15 says (11.6.1) */
	};

	/* 3 is reserved, and no IPI is an ExtINT; INIT level de-assert does nothing since the Pentium 4. */
	if (m.mode == 3 || m.mode == DM_EXTINT || (m.mode == DM_INIT && bits(icr, 14, 2) == 2))
		return;
	if (shorthand == TO_SELF)
		deliver(s->apic[cpu], &m, &taken);
	else
		taken = send(s, &m);
}

/* ---- IOAPIC and MSI ---- */

static bool
bus_message(struct lapic_set *s, uint32_t dest, bool wide, bool logical, unsigned mode, uint8_t vector,
	    bool level)
{
	struct message m = {
	    .dest = dest,
	    .wide = wide,
	    .logical = logical,
	    .exclude = -1,
	    .mode = (enum delivery_mode)mode,
	    .vector = vector,
	    .level = level,
	};

	/* 3 is reserved, 6 (start-up) is for processors only. */
	if (mode > 7 || mode == 3 || mode == DM_SIPI) {
		log_guest("lapic: interrupt message with reserved delivery mode %u dropped", mode);
		return false;
	}
	if (s->w.remote != NULL) {
		uint64_t addr;
		uint32_t data;

		lapic_message_as_msi(dest, logical, mode, vector, level, &addr, &data);
		return s->w.remote->msi(s->w.remote->ctx, addr, data);
	}
	return send(s, &m);
}

bool
lapic_message(struct lapic_set *s, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
	return bus_message(s, dest, false, logical, mode, vector, level);
}

bool
lapic_message_x2(struct lapic_set *s, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
	return bus_message(s, dest, true, logical, mode, vector, level);
}

bool
lapic_message_wire(void *set, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
	return lapic_message(set, dest, logical, mode, vector, level);
}

/* What a message's address and data say (below). */
struct msi_parts {
	uint32_t dest;
	unsigned mode;
	bool logical, level;
};

static struct msi_parts
msi_parts(uint64_t addr, uint32_t data)
{
	struct msi_parts p = {
	    .dest = (uint32_t)(bits(addr, 12, 8) | bits(addr, 5, 7) << 8),
	    .mode = (unsigned)bits(data, 8, 3),
	    .logical = (addr >> 2 & 1) != 0,
	    .level = (data >> 15 & 1) != 0,
	};

	if ((addr >> 3 & 1) != 0 && p.logical && p.mode == DM_FIXED)
		p.mode = DM_LOWEST;
	return p;
}

/*
 * Address: 19:12 destination, 3 redirection hint, 2 logical; 11:5 are destination bits 14:8
 * for systems that were told so (they are 0 otherwise). Data: 7:0 vector, 10:8 mode, 14
 * assert, 15 level-triggered (11.11).
 */
bool
lapic_msi(struct lapic_set *s, uint64_t addr, uint32_t data)
{
	struct msi_parts p = msi_parts(addr, data);

	if (addr >> 20 != 0xfee) {
		log_guest("lapic: message to 0x%llx, which is no interrupt address, dropped",
			  (unsigned long long)addr);
		return false;
	}
	if (p.level && (data >> 14 & 1) == 0)
		return true; /* de-assert */
	return lapic_message(s, p.dest, p.logical, p.mode, (uint8_t)data, p.level);
}

bool
lapic_msi_plain(uint64_t *addr, uint32_t *data)
{
	struct msi_parts p = msi_parts(*addr, *data);

	if (*addr >> 20 != 0xfee || p.level || (p.mode != DM_FIXED && p.mode != DM_LOWEST))
		return false;
	lapic_message_as_msi(p.dest, p.logical, p.mode, (uint8_t)*data, false, addr, data);
	return true;
}

void
lapic_msi_wire(void *set, uint64_t addr, uint32_t data)
{
	(void)lapic_msi(set, addr, data);
}

/* ---- pins ---- */

void
lapic_lint0(struct lapic_set *s, bool level)
{
	struct lapic *l = s->apic[0];
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	if (level && !l->st.lint0 && !lapic_is_remote(l)) {
		l->st.lint0 = true;
		/* As an edge, unless it is a fixed level; ExtINT follows the level in lapic_update(). */
		if (lapic_hw_enabled(l) && !((l->st.lvt[LVT_LINT0] & LVT_LEVEL) != 0 &&
					     bits(l->st.lvt[LVT_LINT0], 8, 3) == DM_FIXED))
			lapic_local_interrupt(l, LVT_LINT0, false, &act);
		lapic_lint0_level(l, &act);
	}
	l->st.lint0 = level;
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}

void
lapic_lint1_nmi(struct lapic_set *s)
{
	for (unsigned i = 0; i < s->cpus; i++) {
		struct lapic *l = s->apic[i];
		struct lapic_actions act = {0};

		pthread_mutex_lock(&l->lock);
		if (lapic_is_remote(l) && l->started) {
			act.what |= ACT_NMI; /* its LVT entry is not asked */
			pthread_mutex_unlock(&l->lock);
			lapic_act(l, &act);
			continue;
		}
		/* With the APIC off the pin is the processor's own NMI (11.4.3). */
		if (lapic_hw_enabled(l))
			lapic_local_interrupt(l, LVT_LINT1, false, &act);
		else
			act.what |= ACT_NMI;
		lapic_update(l, &act);
		pthread_mutex_unlock(&l->lock);
		lapic_act(l, &act);
	}
}

void
lapic_pmi(struct lapic_set *s, unsigned cpu)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	if (lapic_hw_enabled(l))
		lapic_local_interrupt(l, LVT_PERF, false, &act);
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}
