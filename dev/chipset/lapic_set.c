/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The set of local APICs: making, reset, start, stop, saved state. Called by the board
 * while no vCPU runs; each APIC's lock is taken all the same, since timers may.
 */
#include "dev/chipset/lapic_internal.h"

#include <errno.h>
#include <stdlib.h>

#define DEFAULT_BASE 0xfee00000ull

static const struct field lapic_fields[] = {
    FIELD(1, struct lapic_st, apic_base, FIELD_U64),
    FIELD(2, struct lapic_st, icr, FIELD_U64),
    FIELD(3, struct lapic_st, tsc_deadline, FIELD_U64),
    FIELD(4, struct lapic_st, tsc_adjust, FIELD_U64),
    FIELD(5, struct lapic_st, timer_anchor_ns, FIELD_U64),
    FIELD(6, struct lapic_st, timer_init, FIELD_U32),
    FIELD(7, struct lapic_st, timer_left, FIELD_U32),
    FIELD(8, struct lapic_st, timer_divide, FIELD_U32),
    FIELD(9, struct lapic_st, tpr, FIELD_U32),
    FIELD(10, struct lapic_st, ldr, FIELD_U32),
    FIELD(11, struct lapic_st, dfr, FIELD_U32),
    FIELD(12, struct lapic_st, svr, FIELD_U32),
    FIELD(13, struct lapic_st, esr, FIELD_U32),
    FIELD(14, struct lapic_st, esr_pending, FIELD_U32),
    FIELD_ARRAY(15, struct lapic_st, lvt, FIELD_U32, LVT_COUNT),
    FIELD_ARRAY(16, struct lapic_st, isr, FIELD_U32, 8),
    FIELD_ARRAY(17, struct lapic_st, tmr, FIELD_U32, 8),
    FIELD_ARRAY(18, struct lapic_st, irr, FIELD_U32, 8),
    FIELD(19, struct lapic_st, timer_running, FIELD_BOOL),
    FIELD(20, struct lapic_st, lint0, FIELD_BOOL),
    FIELD(21, struct lapic_st, extint, FIELD_BOOL),
    FIELD(22, struct lapic_st, xapic_id, FIELD_U8),
    FIELD_TRANSIENT(struct lapic_st, pad, 4),
};

static const struct field_table lapic_table = {
    .name = "lapic",
    .version = 1,
    .size = sizeof(struct lapic_st),
    .count = ARRAY_LEN(lapic_fields),
    .fields = lapic_fields,
};

/* ---- life ---- */

static void
apic_reset(struct lapic *l)
{
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	lapic_set_base(l, DEFAULT_BASE | BASE_EN | (l->cpu == 0 ? BASE_BSP : 0));
	l->st.tsc_adjust = 0;
	l->st.xapic_id = (uint8_t)l->id;
	lapic_reset_registers(l);
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}

static void
lapic_reset(void *dev)
{
	struct lapic_set *s = dev;

	for (unsigned i = 0; i < s->cpus; i++)
		apic_reset(s->apic[i]);
}

static void
lapic_start(void *dev)
{
	struct lapic_set *s = dev;

	for (unsigned i = 0; i < s->cpus; i++) {
		pthread_mutex_lock(&s->apic[i]->lock);
		s->apic[i]->started = true;
		if (s->w.remote != NULL)
			lapic_remote_send(s->apic[i]);
		lapic_timer_rearm(s->apic[i]);
		pthread_mutex_unlock(&s->apic[i]->lock);
	}
}

static void
lapic_stop(void *dev)
{
	struct lapic_set *s = dev;

	for (unsigned i = 0; i < s->cpus; i++) {
		pthread_mutex_lock(&s->apic[i]->lock);
		if (s->w.remote != NULL && s->apic[i]->started)
			lapic_remote_fetch(s->apic[i]);
		s->apic[i]->started = false;
		pthread_mutex_unlock(&s->apic[i]->lock);
		vm_timer_cancel_sync(&s->apic[i]->timer);
	}
}

static void
lapic_destroy(void *dev)
{
	struct lapic_set *s = dev;

	if (s == NULL)
		return;
	for (unsigned i = 0; s->apic != NULL && i < s->cpus && s->apic[i] != NULL; i++) {
		vm_timer_cancel_sync(&s->apic[i]->timer);
		pthread_mutex_destroy(&s->apic[i]->lock);
		free(s->apic[i]);
	}
	free(s->apic);
	free(s->by_id);
	free(s);
}

static struct lapic *
apic_create(struct lapic_set *s, unsigned cpu, uint32_t id)
{
	struct lapic *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->set = s;
	l->cpu = cpu;
	l->id = id;
	atomic_init(&l->pending, LAPIC_NONE);
	pthread_mutex_init(&l->lock, NULL);
	vm_timer_init(&l->timer, s->w.clock, lapic_timer_fired, l);
	return l;
}

static int
by_id(const void *a, const void *b)
{
	const struct id_entry *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static int
create_apics(struct lapic_set *s, const struct lapic_cfg *cfg, struct err *err)
{
	for (unsigned i = 0; i < s->cpus; i++) {
		uint32_t id = cfg->apic_ids != NULL ? cfg->apic_ids[i] : i;

		s->apic[i] = apic_create(s, i, id);
		if (s->apic[i] == NULL)
			return err_set(err, ENOMEM, "lapic: no memory for %u vCPUs", s->cpus);
		s->by_id[i] = (struct id_entry){id, i};
	}
	qsort(s->by_id, s->cpus, sizeof(s->by_id[0]), by_id);
	for (unsigned i = 1; i < s->cpus; i++) {
		if (s->by_id[i].id == s->by_id[i - 1].id)
			return err_set(err, EINVAL, "lapic: vCPUs %u and %u have the same APIC id %u",
				       s->by_id[i - 1].cpu, s->by_id[i].cpu, s->by_id[i].id);
	}
	return 0;
}

struct lapic_set *
lapic_create(const struct lapic_cfg *cfg, const struct lapic_wires *w, struct err *err)
{
	struct lapic_set *s = calloc(1, sizeof(*s));
	unsigned maxphyaddr = cfg->maxphyaddr == 0 ? 52 : MIN(MAX(cfg->maxphyaddr, 36), 52);

	if (cfg->cpus == 0) {
		err_set(err, EINVAL, "lapic: a machine has at least one vCPU");
		free(s);
		return NULL;
	}
	if (s != NULL) {
		s->w = *w;
		s->cpus = cfg->cpus;
		/* Reserved: above the physical address, 9, 7:0, and EXTD where there is no x2APIC. */
		s->base_reserved = ~(BIT(maxphyaddr) - 1) | 0x2ff | (cfg->x2apic ? 0 : BASE_EXTD);
		s->apic = calloc(cfg->cpus, sizeof(struct lapic *));
		s->by_id = calloc(cfg->cpus, sizeof(s->by_id[0]));
	}
	if (s == NULL || s->apic == NULL || s->by_id == NULL) {
		err_set(err, ENOMEM, "lapic: no memory for %u vCPUs", cfg->cpus);
		lapic_destroy(s);
		return NULL;
	}
	if (create_apics(s, cfg, err) != 0) {
		lapic_destroy(s);
		return NULL;
	}
	lapic_reset(s);
	return s;
}

const struct device_ops lapic_device_ops = {
    .type = "lapic-set",
    .destroy = lapic_destroy,
    .reset = lapic_reset,
    .start = lapic_start,
    .stop = lapic_stop,
};

/* ---- state of one APIC ---- */

void *
lapic_cpu_device(struct lapic_set *s, unsigned cpu)
{
	return s->apic[cpu];
}

static void
cpu_nothing(void *dev)
{
	(void)dev; /* the set's device owns and resets it */
}

static void *
cpu_st(void *dev)
{
	return &((struct lapic *)dev)->st;
}

static bool
st_plausible(const struct lapic *l)
{
	uint64_t base = l->st.apic_base;

	if ((base & l->set->base_reserved) != 0 || (base & (BASE_EN | BASE_EXTD)) == BASE_EXTD)
		return false;
	for (unsigned i = 0; i < LVT_COUNT; i++) {
		if ((l->st.lvt[i] & ~(lapic_lvt_writable(i) | LVT_REMOTE_IRR)) != 0)
			return false;
	}
	return (l->st.isr[0] & 0xffff) == 0 && (l->st.irr[0] & 0xffff) == 0 && l->st.tpr <= 0xff &&
	       (l->st.svr & ~0x13ffu) == 0 && (l->st.timer_divide & ~0xbu) == 0 &&
	       l->st.timer_anchor_ns < BIT(63);
}

static int
cpu_post_load(void *dev, struct err *err)
{
	struct lapic *l = dev;
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	if (!st_plausible(l)) {
		pthread_mutex_unlock(&l->lock);
		return err_set(err, EINVAL, "lapic %u: impossible state (damaged snapshot)", l->cpu);
	}
	lapic_set_base(l, l->st.apic_base);
	if (l->st.xapic_id != (uint8_t)l->id)
		atomic_store(&l->set->renamed, true);
	lapic_timer_rearm(l);
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
	return 0;
}

/* The timer's count as of now: what a read of the current count register gives. A remote APIC's vCPU must not
 * run. */
static void
cpu_copy_st(void *dev, void *to)
{
	struct lapic *l = dev;
	struct lapic_st *st = to;

	pthread_mutex_lock(&l->lock);
	if (lapic_is_remote(l) && l->started)
		lapic_remote_fetch(l);
	*st = l->st;
	if (st->timer_running && !lapic_is_remote(l)) {
		st->timer_left = lapic_timer_current(l);
		st->timer_anchor_ns = vm_clock_now_ns(l->set->w.clock);
	}
	pthread_mutex_unlock(&l->lock);
}

const struct device_ops lapic_cpu_device_ops = {
    .type = "lapic",
    .destroy = cpu_nothing,
    .reset = cpu_nothing,
    .state = &lapic_table,
    .st = cpu_st,
    .post_load = cpu_post_load,
    .copy_st = cpu_copy_st,
};
