/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MC146818 real-time clock and CMOS memory (Motorola MC146818A; ICH9 data sheet 13.6).
 *
 * One lock, taken before the HPET's and the interrupt controllers'; IRQ8 is set with it held.
 *
 * The time is wall + offset, and the clock registers are made from it when they are
 * looked at. While SET is on, or the divider is held in reset, they stand still and are
 * plain bytes; when that ends, the offset is chosen so that the time goes on from them.
 * Flags of register C are brought up to date at each look (rtc_sync()); the vm_timer is
 * armed only for those that are to interrupt and are not set yet.
 *
 * Ports: 0x70 index (bit 7 masks NMI; write-only), 0x71 data; 0x72, 0x73 the upper 128 bytes.
 */
#include "dev/chipset/rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"
#include "dev/chipset/rtc_date.h"

#define REG_A 0x0a
#define REG_B 0x0b
#define REG_C 0x0c
#define REG_D 0x0d

#define A_UIP	 0x80
#define A_DV	 0x70 /* 010: runs; 11x: divider in reset */
#define A_RATE	 0x0f
#define B_SET	 0x80
#define B_PIE	 0x40
#define B_AIE	 0x20
#define B_UIE	 0x10
#define B_BINARY 0x04
#define B_24H	 0x02
#define C_IRQF	 0x80
#define C_PF	 0x40
#define C_AF	 0x20
#define C_UF	 0x10
#define D_VRT	 0x80

#define UIP_NS	    (244000 + 1984000) /* UIP is on this long, up to the moment of the update */
#define HALF_SECOND 500000000
#define DIVIDER_HZ  32768u
#define SECOND_NS   ((int64_t)NSEC_PER_SEC)

struct rtc_st {
	int64_t offset_s;     /* what the guest (or local time) adds to the wall time */
	int64_t phase_ns;     /* 0..999999999: added to the wall time before it is cut into seconds */
	int64_t synced_s;     /* RTC second up to which UF and AF are accounted for */
	uint64_t periodic_ns; /* VM clock time at which the divider chain was started: phase of the periodic
				 interrupt */
	uint64_t ticks;	      /* periodic ticks since then that are accounted for */
	uint8_t cmos[128], extended[128];
	uint8_t index, extended_index;
	bool nmi_masked;
	uint8_t pad[5];
};

struct rtc {
	struct rtc_cfg cfg;
	struct rtc_wires w;
	pthread_mutex_t lock;
	bool started;
	bool level; /* derived: IRQ8 */
	struct vm_timer timer;
	struct rtc_st st;
};

static const struct field rtc_fields[] = {
    FIELD(1, struct rtc_st, offset_s, FIELD_I64),
    FIELD(10, struct rtc_st, phase_ns, FIELD_I64),
    FIELD(2, struct rtc_st, synced_s, FIELD_I64),
    FIELD(3, struct rtc_st, periodic_ns, FIELD_U64),
    FIELD(4, struct rtc_st, ticks, FIELD_U64),
    FIELD_ARRAY(5, struct rtc_st, cmos, FIELD_BYTES, 128),
    FIELD_ARRAY(6, struct rtc_st, extended, FIELD_BYTES, 128),
    FIELD(7, struct rtc_st, index, FIELD_U8),
    FIELD(8, struct rtc_st, extended_index, FIELD_U8),
    FIELD(9, struct rtc_st, nmi_masked, FIELD_BOOL),
    FIELD_TRANSIENT(struct rtc_st, pad, 5),
};

static const struct field_table rtc_table = {
    .name = "rtc",
    .version = 1,
    .size = sizeof(struct rtc_st),
    .count = ARRAY_LEN(rtc_fields),
    .fields = rtc_fields,
};

/* ---- time: lock held ---- */

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

struct moment {
	int64_t s;	  /* RTC time in seconds since 1970 */
	int64_t fraction; /* ns of the second that runs */
};

/* The time of the divider chain, which SET does not stop. Seconds and offset apart: year 9999 in ns has 68
 * bits. */
static struct moment
rtc_now(struct rtc *r)
{
	int64_t ns = vm_clock_wall_ns(r->w.clock) + r->st.phase_ns, s = floor_div(ns, SECOND_NS);

	return (struct moment){.s = s + r->st.offset_s, .fraction = ns - s * SECOND_NS};
}

static bool
divider_in_reset(uint8_t reg_a)
{
	return (reg_a & 0x60) == 0x60;
}

/* The clock registers stand still. */
static bool
halted(const struct rtc *r)
{
	return (r->st.cmos[REG_B] & B_SET) != 0 || divider_in_reset(r->st.cmos[REG_A]);
}

static struct rtc_format
format(const struct rtc *r)
{
	uint8_t b = r->st.cmos[REG_B];

	return (struct rtc_format){.binary = (b & B_BINARY) != 0, .hours24 = (b & B_24H) != 0};
}

/* Nanoseconds between periodic ticks as a count of the divider's; 0: off. */
static unsigned
periodic_divider(const struct rtc *r)
{
	unsigned rate = r->st.cmos[REG_A] & A_RATE;

	if (rate == 0 || divider_in_reset(r->st.cmos[REG_A]))
		return 0;
	/* Rates 1 and 2 are 256 and 128 Hz: the taps of 8 and 9. */
	return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static uint64_t
divider_ticks(struct rtc *r)
{
	uint64_t now = vm_clock_now_ns(r->w.clock);

	return now > r->st.periodic_ns ? mul_div_u64(now - r->st.periodic_ns, DIVIDER_HZ, NSEC_PER_SEC) : 0;
}

static void
update_irq(struct rtc *r)
{
	uint8_t *c = &r->st.cmos[REG_C];
	/* The flags and their enables stand at the same bits of C and B. */
	bool level = (*c & r->st.cmos[REG_B] & (C_PF | C_AF | C_UF)) != 0;

	*c = level ? *c | C_IRQF : *c & ~C_IRQF;
	if (level != r->level) {
		r->level = level;
		irq_set(&r->w.irq8, level);
	}
}

static void
sync_periodic(struct rtc *r)
{
	unsigned divider = periodic_divider(r);
	uint64_t ticks = divider_ticks(r);

	if (divider != 0 && ticks / divider > r->st.ticks / divider)
		r->st.cmos[REG_C] |= C_PF;
	r->st.ticks = ticks;
}

/* Flags up to now. */
static void
rtc_sync(struct rtc *r)
{
	int64_t second = rtc_now(r).s;

	sync_periodic(r);
	/* The host's wall clock may step back: then nothing has happened. */
	if (!halted(r) && second > r->st.synced_s) {
		r->st.cmos[REG_C] |= C_UF;
		if (rtc_date_next_alarm(r->st.cmos, format(r), r->st.synced_s) <= second)
			r->st.cmos[REG_C] |= C_AF;
	}
	r->st.synced_s = second;
	update_irq(r);
}

/* Nanoseconds from now to the RTC time `second`. */
static uint64_t
ns_until(struct rtc *r, int64_t second)
{
	struct moment now = rtc_now(r);

	if (second <= now.s)
		return 0;
	return (uint64_t)(MIN(second - now.s, INT32_MAX) * SECOND_NS - now.fraction);
}

static uint64_t
next_event_ns(struct rtc *r)
{
	uint8_t want = r->st.cmos[REG_B] & ~r->st.cmos[REG_C];
	uint64_t now = vm_clock_now_ns(r->w.clock), next = UINT64_MAX;
	unsigned divider = periodic_divider(r);

	if ((want & B_PIE) != 0 && divider != 0) {
		uint64_t tick = (r->st.ticks / divider + 1) * divider;

		next = r->st.periodic_ns +
		       (uint64_t)(((unsigned __int128)tick * NSEC_PER_SEC + DIVIDER_HZ - 1) / DIVIDER_HZ);
	}
	if (halted(r))
		return next;
	if ((want & B_UIE) != 0)
		next = MIN(next, now + ns_until(r, r->st.synced_s + 1));
	if ((want & B_AIE) != 0) {
		int64_t at = rtc_date_next_alarm(r->st.cmos, format(r), r->st.synced_s);

		if (at != INT64_MAX)
			next = MIN(next, now + ns_until(r, at));
	}
	return next;
}

static void
rearm(struct rtc *r)
{
	uint64_t next = next_event_ns(r);

	if (!r->started || next == UINT64_MAX)
		vm_timer_cancel(&r->timer);
	else
		vm_timer_set(&r->timer, next);
}

static void
on_timer(void *arg)
{
	struct rtc *r = arg;

	pthread_mutex_lock(&r->lock);
	rtc_sync(r);
	rearm(r);
	pthread_mutex_unlock(&r->lock);
}

/* ---- registers: lock held, rtc_sync() done ---- */

/* Make the clock registers say what time it is. */
static void
refresh_registers(struct rtc *r)
{
	if (!halted(r))
		rtc_date_store(r->st.cmos, format(r), rtc_now(r).s);
}

/* Go on from what the registers say; the fraction of the running second stays. */
static void
adopt_registers(struct rtc *r)
{
	int64_t new_s = rtc_date_load(r->st.cmos, format(r));

	r->st.offset_s += new_s - rtc_now(r).s;
	r->st.synced_s = new_s;
}

static bool
is_clock_register(unsigned i)
{
	return i == RTC_SECOND || i == RTC_MINUTE || i == RTC_HOUR || (i >= RTC_WEEKDAY && i <= RTC_YEAR) ||
	       i == RTC_CENTURY;
}

static void
write_a(struct rtc *r, uint8_t val)
{
	bool was_halted = halted(r), was_reset = divider_in_reset(r->st.cmos[REG_A]);

	refresh_registers(r);
	r->st.cmos[REG_A] = val & ~A_UIP;
	if (was_reset && !divider_in_reset(val)) {
		/* The first update comes half a second after the divider starts. */
		r->st.phase_ns = (r->st.phase_ns + HALF_SECOND - rtc_now(r).fraction + SECOND_NS) % SECOND_NS;
		r->st.periodic_ns = vm_clock_now_ns(r->w.clock);
		r->st.ticks = 0;
	}
	if (was_halted && !halted(r))
		adopt_registers(r);
	r->st.synced_s = rtc_now(r).s;
}

static void
write_b(struct rtc *r, uint8_t val)
{
	bool was_halted = halted(r);

	/* A change of coding does not convert what stands in the registers, but these are made anew. */
	refresh_registers(r);
	if ((val & B_SET) != 0)
		val &= ~B_UIE; /* SET clears UIE */
	r->st.cmos[REG_B] = val;
	if (was_halted && !halted(r))
		adopt_registers(r);
	r->st.synced_s = rtc_now(r).s;
}

static void
write_cmos(struct rtc *r, unsigned i, uint8_t val)
{
	if (i == REG_A) {
		write_a(r, val);
	} else if (i == REG_B) {
		write_b(r, val);
	} else if (i == REG_C || i == REG_D) {
		return; /* read-only */
	} else if (is_clock_register(i)) {
		refresh_registers(r);
		r->st.cmos[i] = val;
		if (!halted(r))
			adopt_registers(r);
	} else {
		r->st.cmos[i] = val;
	}
}

static uint8_t
read_c(struct rtc *r)
{
	uint8_t val = r->st.cmos[REG_C];

	r->st.cmos[REG_C] = 0;
	update_irq(r);
	rearm(r);
	return val;
}

static uint8_t
read_cmos(struct rtc *r, unsigned i)
{
	if (i == REG_A && !halted(r) && rtc_now(r).fraction >= SECOND_NS - UIP_NS)
		return r->st.cmos[REG_A] | A_UIP;
	if (i == REG_C)
		return read_c(r);
	if (i == REG_D)
		return D_VRT;
	if (is_clock_register(i))
		refresh_registers(r);
	return r->st.cmos[i];
}

/* ---- ports ---- */

static uint64_t
rtc_read(void *dev, uint64_t off, unsigned size)
{
	struct rtc *r = dev;
	uint8_t val = 0xff;

	(void)size;
	pthread_mutex_lock(&r->lock);
	switch (off) {
	case 1:
		rtc_sync(r);
		val = read_cmos(r, r->st.index);
		break;
	case 2:
		val = r->st.extended_index;
		break;
	case 3:
		val = r->st.extended[r->st.extended_index];
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&r->lock);
	return val;
}

static void
rtc_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct rtc *r = dev;

	(void)size;
	pthread_mutex_lock(&r->lock);
	switch (off) {
	case 0:
		r->st.index = val & 0x7f;
		r->st.nmi_masked = (val & 0x80) != 0;
		irq_set(&r->w.nmi_mask, r->st.nmi_masked);
		break;
	case 1:
		rtc_sync(r);
		write_cmos(r, r->st.index, (uint8_t)val);
		update_irq(r);
		rearm(r);
		break;
	case 2:
		r->st.extended_index = val & 0x7f;
		break;
	default:
		r->st.extended[r->st.extended_index] = (uint8_t)val;
		break;
	}
	pthread_mutex_unlock(&r->lock);
}

int
rtc_map(struct rtc *r, struct io_bus *pio, struct err *err)
{
	const struct io_region region = {"rtc", 0x70, 4, IO_W1 | IO_SPLIT, rtc_read, rtc_write, r};

	return io_bus_add(pio, &region, err);
}

/* ---- life ---- */

static void
put_memory_sizes(uint8_t *cmos, const struct rtc_cfg *cfg)
{
	uint64_t above_1m = cfg->mem_below_4g > MIB ? (cfg->mem_below_4g - MIB) / KIB : 0;
	uint64_t above_16m = cfg->mem_below_4g > 16 * MIB ? (cfg->mem_below_4g - 16 * MIB) / (64 * KIB) : 0;
	uint64_t above_4g = MIN(cfg->mem_above_4g / (64 * KIB), 0xffffffull);
	uint16_t extended = (uint16_t)MIN(above_1m, 0xffffull);

	put_le16(cmos + 0x15, (uint16_t)MIN(cfg->mem_below_4g / KIB, 640ull));
	put_le16(cmos + 0x17, extended);
	put_le16(cmos + 0x30, extended);
	put_le16(cmos + 0x34, (uint16_t)MIN(above_16m, 0xffffull));
	cmos[0x5b] = (uint8_t)above_4g;
	cmos[0x5c] = (uint8_t)(above_4g >> 8);
	cmos[0x5d] = (uint8_t)(above_4g >> 16);
}

/* Power-on contents, as a battery keeps them and firmware fills them. */
static void
fill_cmos(struct rtc *r)
{
	uint8_t *cmos = r->st.cmos;
	uint16_t sum = 0;

	cmos[REG_A] = 0x26; /* 32.768 kHz, 1024 Hz */
	cmos[REG_B] = B_24H;
	cmos[0x14] = 0x06; /* equipment: coprocessor, mouse */
	put_memory_sizes(cmos, &r->cfg);
	cmos[0x5f] = (uint8_t)MIN(r->cfg.cpus > 0 ? r->cfg.cpus - 1 : 0, 255u);
	for (unsigned i = 0x10; i <= 0x2d; i++)
		sum += cmos[i];
	cmos[0x2e] = (uint8_t)(sum >> 8);
	cmos[0x2f] = (uint8_t)sum;
	r->st.offset_s = r->cfg.utc_offset_s;
}

/* The battery keeps time and memory; a reset turns interrupts off (data sheet, RESET). */
static void
rtc_reset(void *dev)
{
	struct rtc *r = dev;

	pthread_mutex_lock(&r->lock);
	r->st.cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE);
	r->st.cmos[REG_C] = 0;
	r->st.index = r->st.extended_index = 0;
	r->st.nmi_masked = false;
	irq_set(&r->w.nmi_mask, false);
	rtc_sync(r);
	r->st.cmos[REG_C] = 0;
	update_irq(r);
	vm_timer_cancel(&r->timer);
	pthread_mutex_unlock(&r->lock);
}

void
rtc_set_cmos(struct rtc *r, unsigned i, uint8_t val)
{
	pthread_mutex_lock(&r->lock);
	if (i > REG_D && i < 128 && i != RTC_CENTURY)
		r->st.cmos[i] = val;
	else if (i >= 128 && i < 256)
		r->st.extended[i - 128] = val;
	pthread_mutex_unlock(&r->lock);
}

static void
rtc_start(void *dev)
{
	struct rtc *r = dev;

	pthread_mutex_lock(&r->lock);
	r->started = true;
	rtc_sync(r);
	rearm(r);
	pthread_mutex_unlock(&r->lock);
}

static void
rtc_stop(void *dev)
{
	struct rtc *r = dev;

	pthread_mutex_lock(&r->lock);
	r->started = false;
	pthread_mutex_unlock(&r->lock);
	vm_timer_cancel_sync(&r->timer);
}

static void *
rtc_st(void *dev)
{
	return &((struct rtc *)dev)->st;
}

static int
rtc_post_load(void *dev, struct err *err)
{
	struct rtc *r = dev;
	const struct rtc_st *st = &r->st;
	const int64_t limit = INT64_C(1) << 40; /* seconds: beyond any date that registers hold */

	if (st->index > 0x7f || st->extended_index > 0x7f || st->offset_s >= limit ||
	    st->offset_s <= -limit || st->synced_s >= limit || st->synced_s <= -limit || st->phase_ns < 0 ||
	    st->phase_ns >= SECOND_NS || st->periodic_ns >= BIT(62))
		return err_set(err, EINVAL, "rtc: impossible state (damaged snapshot)");
	pthread_mutex_lock(&r->lock);
	irq_set(&r->w.nmi_mask, st->nmi_masked);
	update_irq(r);
	rearm(r);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static void
rtc_destroy(void *dev)
{
	struct rtc *r = dev;

	if (r == NULL)
		return;
	vm_timer_cancel_sync(&r->timer);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

struct rtc *
rtc_create(const struct rtc_cfg *cfg, const struct rtc_wires *w, struct err *err)
{
	struct rtc *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		err_set(err, ENOMEM, "rtc: no memory");
		return NULL;
	}
	r->cfg = *cfg;
	r->w = *w;
	pthread_mutex_init(&r->lock, NULL);
	vm_timer_init(&r->timer, w->clock, on_timer, r);
	fill_cmos(r);
	rtc_reset(r);
	return r;
}

const struct device_ops rtc_device_ops = {
    .type = "rtc",
    .destroy = rtc_destroy,
    .reset = rtc_reset,
    .start = rtc_start,
    .stop = rtc_stop,
    .state = &rtc_table,
    .st = rtc_st,
    .post_load = rtc_post_load,
};
