/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HPET (IA-PC HPET specification 1.0a; ICH9 data sheet chapter 20).
 *
 * One lock, taken after the PIT's and RTC's and before the interrupt controllers'; all
 * wires are used with it held.
 *
 * The counter is the VM clock plus an offset. hpet_sync() looks which comparators the
 * counter has passed since the last look; it runs before every access and from one
 * vm_timer, armed for the nearest match that anyone would see. Several periods passed at
 * once are one interrupt. A comparator set to the past matches when the counter wraps, as on
 * hardware: drivers look at the counter after setting one.
 */
#include "dev/chipset/hpet.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"

#define MIN_SPACING_NS 50000u /* a faster periodic comparator is served in lumps */

/* Registers; timer n's are at 0x100 + 0x20 * n */
#define R_CAP	  0x000
#define R_CONFIG  0x010
#define R_STATUS  0x020
#define R_COUNTER 0x0f0
#define R_TIMERS  0x100
#define T_CONFIG  0x00
#define T_COMPARE 0x08
#define T_ROUTE	  0x10

#define CAP_REV	       0x01u
#define CAP_COUNTER_64 BIT(13)
#define CAP_LEGACY     BIT(15)
#define CAP_VENDOR     (0x8086ull << 16)

#define CONFIG_ENABLE BIT(0)
#define CONFIG_LEGACY BIT(1)

#define TN_LEVEL	BIT(1)
#define TN_ENABLE	BIT(2)
#define TN_PERIODIC	BIT(3)
#define TN_PERIODIC_CAP BIT(4)
#define TN_SIZE_CAP	BIT(5)
#define TN_SETVAL	BIT(6)
#define TN_32BIT	BIT(8)
#define TN_ROUTE	(0x1full << 9)
#define TN_FSB		BIT(14)
#define TN_FSB_CAP	BIT(15)

struct hpet_st {
	uint64_t config, status;
	uint64_t counter; /* halted: the value; running: value - ticks of the clock */
	uint64_t synced;  /* counter value up to which matches are accounted for */
	uint64_t tn_config[HPET_TIMERS_MAX];
	uint64_t compare[HPET_TIMERS_MAX];
	uint64_t period[HPET_TIMERS_MAX];
	uint64_t fsb[HPET_TIMERS_MAX]; /* address in the high half, data in the low */
	bool pit_level, rtc_level;     /* inputs */
	uint8_t pad[6];
};

struct hpet {
	struct hpet_cfg cfg;
	struct hpet_wires w;
	pthread_mutex_t lock;
	bool started;
	struct vm_timer timer;
	struct hpet_st st;
	/* derived: what the wires were last set to */
	bool irq0, irq8, legacy;
	uint32_t pins;
};

static const struct field hpet_fields[] = {
    FIELD(1, struct hpet_st, config, FIELD_U64),
    FIELD(2, struct hpet_st, status, FIELD_U64),
    FIELD(3, struct hpet_st, counter, FIELD_U64),
    FIELD(4, struct hpet_st, synced, FIELD_U64),
    FIELD_ARRAY(5, struct hpet_st, tn_config, FIELD_U64, HPET_TIMERS_MAX),
    FIELD_ARRAY(6, struct hpet_st, compare, FIELD_U64, HPET_TIMERS_MAX),
    FIELD_ARRAY(7, struct hpet_st, period, FIELD_U64, HPET_TIMERS_MAX),
    FIELD_ARRAY(8, struct hpet_st, fsb, FIELD_U64, HPET_TIMERS_MAX),
    FIELD(9, struct hpet_st, pit_level, FIELD_BOOL),
    FIELD(10, struct hpet_st, rtc_level, FIELD_BOOL),
    FIELD_TRANSIENT(struct hpet_st, pad, 6),
};

static const struct field_table hpet_table = {
    .name = "hpet",
    .version = 1,
    .size = sizeof(struct hpet_st),
    .count = ARRAY_LEN(hpet_fields),
    .fields = hpet_fields,
};

/* ---- time: ticks of HPET_PERIOD_FS ---- */

static uint64_t
clock_ticks(struct hpet *h)
{
	return mul_div_u64(vm_clock_now_ns(h->w.clock), 1000000, HPET_PERIOD_FS);
}

/* The first ns at which clock_ticks() is `tick`, or UINT64_MAX. */
static uint64_t
tick_ns(uint64_t tick)
{
	unsigned __int128 ns = ((unsigned __int128)tick * HPET_PERIOD_FS + 999999) / 1000000;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static bool
running(const struct hpet *h)
{
	return (h->st.config & CONFIG_ENABLE) != 0;
}

static uint64_t
counter_now(struct hpet *h)
{
	return running(h) ? h->st.counter + clock_ticks(h) : h->st.counter;
}

/* ---- interrupts: lock held ---- */

static bool
legacy(const struct hpet *h)
{
	return (h->st.config & CONFIG_LEGACY) != 0;
}

/* Legacy replacement takes timers 0 and 1 whatever their routing says; FSB delivery comes before both. */
static bool
is_legacy_timer(const struct hpet *h, unsigned n)
{
	return n < 2 && legacy(h);
}

static unsigned
route(const struct hpet *h, unsigned n)
{
	return (unsigned)bits(h->st.tn_config[n], 9, 5);
}

static void
set_line(const struct irq_wire *w, bool *was, bool level)
{
	if (*was != level) {
		*was = level;
		irq_set(w, level);
	}
}

static void
set_pins(struct hpet *h, uint32_t pins)
{
	uint32_t changed = pins ^ h->pins;

	h->pins = pins;
	if (h->w.gsi.set == NULL)
		return;
	for (unsigned pin = 0; changed != 0; pin++, changed >>= 1) {
		if ((changed & 1) != 0)
			h->w.gsi.set(h->w.gsi.ctx, pin, (pins >> pin & 1) != 0);
	}
}

/* Timer n holds its line: level-triggered, active, allowed to interrupt. */
static bool
holds_line(const struct hpet *h, unsigned n)
{
	uint64_t c = h->st.tn_config[n];

	return running(h) && (h->st.status >> n & 1) != 0 && (c & TN_ENABLE) != 0 && (c & TN_LEVEL) != 0 &&
	       (c & TN_FSB) == 0;
}

/* All lines as the state says. */
static void
update_lines(struct hpet *h)
{
	bool irq0 = legacy(h) ? holds_line(h, 0) : h->st.pit_level;
	bool irq8 = legacy(h) ? holds_line(h, 1) : h->st.rtc_level;
	uint32_t pins = 0;

	for (unsigned n = 0; n < h->cfg.timers; n++) {
		if (holds_line(h, n) && !is_legacy_timer(h, n))
			pins |= 1u << route(h, n);
	}
	set_line(&h->w.legacy, &h->legacy, legacy(h));
	set_line(&h->w.irq0, &h->irq0, irq0);
	set_line(&h->w.irq8, &h->irq8, irq8);
	set_pins(h, pins & h->cfg.route_cap);
}

static void
pulse(struct hpet *h, unsigned n)
{
	unsigned pin = route(h, n);

	if (is_legacy_timer(h, n)) {
		irq_pulse(n == 0 ? &h->w.irq0 : &h->w.irq8);
	} else if (h->w.gsi.set != NULL && (h->cfg.route_cap >> pin & 1) != 0 && (h->pins >> pin & 1) == 0) {
		h->w.gsi.set(h->w.gsi.ctx, pin, true);
		h->w.gsi.set(h->w.gsi.ctx, pin, false);
	}
}

/* Comparator n has matched. */
static void
fire(struct hpet *h, unsigned n)
{
	uint64_t c = h->st.tn_config[n];

	/* The status bit is for level mode only; it is set even with interrupts off (2.3.6). */
	if ((c & TN_LEVEL) != 0)
		h->st.status |= BIT(n);
	if ((c & TN_ENABLE) == 0)
		return;
	if ((c & TN_FSB) != 0) {
		if (h->w.msi != NULL)
			h->w.msi(h->w.msi_ctx, h->st.fsb[n] >> 32, (uint32_t)h->st.fsb[n]);
	} else if ((c & TN_LEVEL) == 0) {
		pulse(h, n);
	}
}

/* Distances on a timer's circle of 2^32 or 2^64 ticks. */
static uint64_t
circle(const struct hpet *h, unsigned n)
{
	return (h->st.tn_config[n] & TN_32BIT) != 0 ? 0xffffffffull : UINT64_MAX;
}

/* Ticks from the last look to the next match; 0 stands for a whole circle. */
static uint64_t
distance(const struct hpet *h, unsigned n)
{
	return (h->st.compare[n] - h->st.synced) & circle(h, n);
}

static void
sync_timer(struct hpet *h, unsigned n, uint64_t passed)
{
	uint64_t first = distance(h, n), period = h->st.period[n];

	if (first == 0) {
		/* On the mark at the last look: next is a circle away. */
		if (circle(h, n) == UINT64_MAX || passed <= circle(h, n))
			return;
	} else if (first > passed) {
		return;
	}
	if ((h->st.tn_config[n] & TN_PERIODIC) != 0 && period != 0)
		h->st.compare[n] =
		    (h->st.compare[n] + ((passed - first) / period + 1) * period) & circle(h, n);
	fire(h, n);
}

static void
hpet_sync(struct hpet *h)
{
	uint64_t now, passed;

	if (!running(h))
		return;
	now = counter_now(h);
	passed = now - h->st.synced;
	if (passed == 0)
		return;
	for (unsigned n = 0; n < h->cfg.timers; n++)
		sync_timer(h, n, passed);
	h->st.synced = now;
	update_lines(h);
}

/* Ticks to timer n's next match that anyone sees, or UINT64_MAX. After hpet_sync(). */
static uint64_t
ticks_to_event(const struct hpet *h, unsigned n)
{
	uint64_t c = h->st.tn_config[n], d = distance(h, n);

	if ((c & (TN_ENABLE | TN_LEVEL)) == 0)
		return UINT64_MAX;
	if ((c & TN_LEVEL) != 0 && (h->st.status >> n & 1) != 0)
		return UINT64_MAX; /* its line is up already */
	return d != 0 ? d : circle(h, n);
}

static void
rearm(struct hpet *h)
{
	uint64_t nearest = UINT64_MAX, now_ns, ns = UINT64_MAX, tick;
	bool fast = false;

	for (unsigned n = 0; n < h->cfg.timers; n++) {
		uint64_t d = ticks_to_event(h, n);

		nearest = MIN(nearest, d);
		fast |= d != UINT64_MAX && (h->st.tn_config[n] & TN_PERIODIC) != 0 && h->st.period[n] != 0 &&
			h->st.period[n] < MIN_SPACING_NS / (HPET_PERIOD_FS / 1000000);
	}
	if (running(h) && h->started && nearest != UINT64_MAX) {
		tick = h->st.synced - h->st.counter; /* of the clock, at the last look */
		ns = nearest > UINT64_MAX - tick ? UINT64_MAX : tick_ns(tick + nearest);
	}
	if (ns == UINT64_MAX) {
		vm_timer_cancel(&h->timer);
		return;
	}
	now_ns = vm_clock_now_ns(h->w.clock);
	vm_timer_set(&h->timer, fast ? MAX(ns, now_ns + MIN_SPACING_NS) : ns);
}

static void
on_timer(void *arg)
{
	struct hpet *h = arg;

	pthread_mutex_lock(&h->lock);
	hpet_sync(h);
	rearm(h);
	pthread_mutex_unlock(&h->lock);
}

void
hpet_pit_irq(void *hpet, unsigned line, bool level)
{
	struct hpet *h = hpet;

	(void)line;
	pthread_mutex_lock(&h->lock);
	h->st.pit_level = level;
	update_lines(h);
	pthread_mutex_unlock(&h->lock);
}

void
hpet_rtc_irq(void *hpet, unsigned line, bool level)
{
	struct hpet *h = hpet;

	(void)line;
	pthread_mutex_lock(&h->lock);
	h->st.rtc_level = level;
	update_lines(h);
	pthread_mutex_unlock(&h->lock);
}

/* ---- registers: lock held, hpet_sync() done ---- */

uint32_t
hpet_block_id(const struct hpet *h)
{
	return (uint32_t)(CAP_REV | (h->cfg.timers - 1) << 8 | CAP_COUNTER_64 | CAP_LEGACY | CAP_VENDOR);
}

static uint64_t
read_timer(const struct hpet *h, unsigned n, unsigned reg)
{
	switch (reg) {
	case T_CONFIG:
		return (h->st.tn_config[n] & ~TN_SETVAL) | TN_PERIODIC_CAP | TN_SIZE_CAP |
		       (h->cfg.msi ? TN_FSB_CAP : 0) | (uint64_t)h->cfg.route_cap << 32;
	case T_COMPARE:
		return h->st.compare[n];
	case T_ROUTE:
		return h->st.fsb[n];
	default:
		return 0;
	}
}

static uint64_t
read_reg(struct hpet *h, unsigned reg)
{
	unsigned n = (reg - R_TIMERS) / 0x20;

	if (reg >= R_TIMERS)
		return n < h->cfg.timers ? read_timer(h, n, reg & 0x18) : 0;
	switch (reg) {
	case R_CAP:
		return (uint64_t)HPET_PERIOD_FS << 32 | hpet_block_id(h);
	case R_CONFIG:
		return h->st.config;
	case R_STATUS:
		return h->st.status;
	case R_COUNTER:
		return counter_now(h);
	default:
		return 0;
	}
}

static void
write_config(struct hpet *h, uint64_t val)
{
	bool was = running(h);

	/* Halting freezes the counter; starting goes on from there. */
	if (was && (val & CONFIG_ENABLE) == 0)
		h->st.counter = h->st.synced = counter_now(h);
	h->st.config = val & (CONFIG_ENABLE | CONFIG_LEGACY);
	if (!was && running(h)) {
		h->st.synced = h->st.counter;
		h->st.counter -= clock_ticks(h);
	}
}

static void
write_counter(struct hpet *h, uint64_t val)
{
	h->st.synced = val;
	h->st.counter = running(h) ? val - clock_ticks(h) : val;
}

static void
write_tn_config(struct hpet *h, unsigned n, uint64_t val)
{
	uint64_t writable =
	    TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_SETVAL | TN_32BIT | (h->cfg.msi ? TN_FSB : 0);

	/* A route that is not offered does not take: software reads it back (2.3.8). */
	if ((h->cfg.route_cap >> bits(val, 9, 5) & 1) != 0 || (val & TN_ROUTE) == 0)
		writable |= TN_ROUTE;
	h->st.tn_config[n] = (h->st.tn_config[n] & ~writable) | (val & writable);
	if ((h->st.tn_config[n] & TN_32BIT) != 0) {
		h->st.compare[n] = (uint32_t)h->st.compare[n];
		h->st.period[n] = (uint32_t)h->st.period[n];
	}
	if ((h->st.tn_config[n] & TN_LEVEL) == 0)
		h->st.status &= ~BIT(n);
}

/*
 * In periodic mode a write gives the period, and with SETVAL the comparator too; SETVAL
 * lasts for one write (2.3.9.2.2). `mask`: the bytes written.
 */
static void
write_compare(struct hpet *h, unsigned n, uint64_t val, uint64_t mask)
{
	uint64_t *c = &h->st.tn_config[n];

	mask &= circle(h, n);
	if ((*c & TN_PERIODIC) == 0 || (*c & TN_SETVAL) != 0)
		h->st.compare[n] = (h->st.compare[n] & ~mask) | (val & mask);
	if ((*c & TN_PERIODIC) != 0)
		h->st.period[n] = (h->st.period[n] & ~mask) | (val & mask);
	*c &= ~TN_SETVAL;
}

static void
write_timer(struct hpet *h, unsigned n, unsigned reg, uint64_t val, uint64_t mask)
{
	switch (reg) {
	case T_CONFIG:
		write_tn_config(h, n, (h->st.tn_config[n] & ~mask) | (val & mask));
		break;
	case T_COMPARE:
		write_compare(h, n, val, mask);
		break;
	case T_ROUTE:
		h->st.fsb[n] = (h->st.fsb[n] & ~mask) | (val & mask);
		break;
	default:
		break;
	}
}

/* val has the written bytes in place, mask tells which. */
static void
write_reg(struct hpet *h, unsigned reg, uint64_t val, uint64_t mask)
{
	unsigned n = (reg - R_TIMERS) / 0x20;

	if (reg >= R_TIMERS) {
		if (n < h->cfg.timers)
			write_timer(h, n, reg & 0x18, val, mask);
		return;
	}
	switch (reg) {
	case R_CONFIG:
		write_config(h, (h->st.config & ~mask) | (val & mask));
		break;
	case R_STATUS:
		h->st.status &= ~(val & mask); /* write 1 to clear */
		break;
	case R_COUNTER:
		write_counter(h, (counter_now(h) & ~mask) | (val & mask));
		break;
	default:
		break;
	}
}

/* Any width at any alignment within one 64-bit register; nothing answers to one that crosses. */
static uint64_t
hpet_read(void *dev, uint64_t off, unsigned size)
{
	struct hpet *h = dev;
	uint64_t val;

	if ((off & 7) + size > 8)
		return size_mask(size);
	pthread_mutex_lock(&h->lock);
	hpet_sync(h);
	val = read_reg(h, (unsigned)off & ~7u) >> (8 * (off & 7));
	pthread_mutex_unlock(&h->lock);
	return val;
}

static void
hpet_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct hpet *h = dev;
	unsigned shift = 8 * (off & 7);

	if ((off & 7) + size > 8)
		return;
	pthread_mutex_lock(&h->lock);
	hpet_sync(h);
	write_reg(h, (unsigned)off & ~7u, val << shift, size_mask(size) << shift);
	hpet_sync(h);
	update_lines(h);
	rearm(h);
	pthread_mutex_unlock(&h->lock);
}

int
hpet_map(struct hpet *h, struct io_bus *mmio, struct err *err)
{
	const struct io_region r = {"hpet",    h->cfg.base, HPET_LEN, IO_ANY | IO_SPLIT,
				    hpet_read, hpet_write,  h};

	return io_bus_add(mmio, &r, err);
}

/* ---- life ---- */

static void
hpet_reset(void *dev)
{
	struct hpet *h = dev;

	pthread_mutex_lock(&h->lock);
	h->st = (struct hpet_st){.pit_level = h->st.pit_level, .rtc_level = h->st.rtc_level};
	for (unsigned n = 0; n < h->cfg.timers; n++)
		h->st.compare[n] = UINT64_MAX;
	vm_timer_cancel(&h->timer);
	update_lines(h);
	pthread_mutex_unlock(&h->lock);
}

static void
hpet_start(void *dev)
{
	struct hpet *h = dev;

	pthread_mutex_lock(&h->lock);
	h->started = true;
	hpet_sync(h);
	rearm(h);
	pthread_mutex_unlock(&h->lock);
}

static void
hpet_stop(void *dev)
{
	struct hpet *h = dev;

	pthread_mutex_lock(&h->lock);
	h->started = false;
	pthread_mutex_unlock(&h->lock);
	vm_timer_cancel_sync(&h->timer);
}

static void *
hpet_st(void *dev)
{
	return &((struct hpet *)dev)->st;
}

static bool
st_plausible(const struct hpet *h)
{
	uint64_t config = TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_SETVAL | TN_32BIT | TN_ROUTE | TN_FSB;
	unsigned n;

	if ((h->st.config & ~(CONFIG_ENABLE | CONFIG_LEGACY)) != 0)
		return false;
	if ((h->st.status & ~(BIT(h->cfg.timers) - 1)) != 0)
		return false;
	for (n = 0; n < h->cfg.timers; n++) {
		if ((h->st.tn_config[n] & ~config) != 0 ||
		    (!h->cfg.msi && (h->st.tn_config[n] & TN_FSB) != 0) ||
		    ((h->st.compare[n] | h->st.period[n]) & ~circle(h, n)) != 0)
			return false;
	}
	return true;
}

static int
hpet_post_load(void *dev, struct err *err)
{
	struct hpet *h = dev;

	pthread_mutex_lock(&h->lock);
	if (!st_plausible(h)) {
		pthread_mutex_unlock(&h->lock);
		return err_set(err, EINVAL, "hpet: impossible state (damaged snapshot)");
	}
	update_lines(h);
	rearm(h);
	pthread_mutex_unlock(&h->lock);
	return 0;
}

static void
hpet_destroy(void *dev)
{
	struct hpet *h = dev;

	if (h == NULL)
		return;
	vm_timer_cancel_sync(&h->timer);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

struct hpet *
hpet_create(const struct hpet_cfg *cfg, const struct hpet_wires *w, struct err *err)
{
	struct hpet *h;

	if (cfg->timers != 0 && (cfg->timers < 3 || cfg->timers > HPET_TIMERS_MAX)) {
		err_set(err, EINVAL, "hpet: %u timers (3 to %d)", cfg->timers, HPET_TIMERS_MAX);
		return NULL;
	}
	h = calloc(1, sizeof(*h));
	if (h == NULL) {
		err_set(err, ENOMEM, "hpet: no memory");
		return NULL;
	}
	h->cfg = *cfg;
	if (h->cfg.base == 0)
		h->cfg.base = HPET_DEFAULT_BASE;
	if (h->cfg.timers == 0)
		h->cfg.timers = 3;
	if (h->cfg.route_cap == 0)
		h->cfg.route_cap = HPET_ROUTE_CAP;
	h->w = *w;
	pthread_mutex_init(&h->lock, NULL);
	vm_timer_init(&h->timer, w->clock, on_timer, h);
	hpet_reset(h);
	return h;
}

const struct device_ops hpet_device_ops = {
    .type = "hpet",
    .destroy = hpet_destroy,
    .reset = hpet_reset,
    .start = hpet_start,
    .stop = hpet_stop,
    .state = &hpet_table,
    .st = hpet_st,
    .post_load = hpet_post_load,
};
