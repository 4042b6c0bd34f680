/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254 and port 0x61: the three counters on the bus, and IRQ0 from counter 0's OUT.
 *
 * One lock, taken before the HPET's and the interrupt controllers'; IRQ0 is set with it held.
 *
 * The vm_timer is armed for counter 0's next edge. A host that is late finds several
 * edges due: one goes out at once, the others are owed and follow half a period apart, so
 * that a guest which counts ticks keeps its time and is not flooded. What is owed is
 * bounded, and nothing is when the period is shorter than the host can serve.
 *
 * One in the host's kernel (pit_wires.remote) has the state between start and stop; nothing is armed here
 * then.
 */
#include "dev/chipset/pit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"
#include "dev/chipset/pit_counter.h"

#define OWED_MAX	 64
#define MIN_SPACING_TICK 60u /* 50 us: edges closer than this are served in lumps */
#define REFRESH_TICKS	 18u /* counter 1's rate on a PC: the refresh bit toggles every 15 us */

/* Port 0x61 */
#define P61_GATE2    0x01
#define P61_SPEAKER  0x02
#define P61_WRITABLE 0x0f
#define P61_REFRESH  0x10
#define P61_OUT2     0x20

struct pit_st {
	struct pit_counter counter[3];
	uint64_t synced;  /* tick up to which counter 0's edges are accounted for */
	uint64_t owed_at; /* tick of the next one owed */
	uint32_t owed;
	uint8_t port61;
	uint8_t pad[3];
};

struct pit {
	struct pit_wires w;
	pthread_mutex_t lock;
	bool started; /* the remote one has the state */
	bool hpet;    /* the HPET has taken the remote one's IRQ0; derived, from its state */
	struct vm_timer timer;
	struct pit_st st;
};

#define CTR(tag, i, member, kind) FIELD((tag) + 32 * (i), struct pit_st, counter[i].member, kind)
#define CTR_FIELDS(i)                                                                                     \
	CTR(1, i, start, FIELD_U64), CTR(2, i, frozen, FIELD_U64), CTR(3, i, next_start, FIELD_U64),      \
	    CTR(4, i, next_at, FIELD_U64), CTR(5, i, count, FIELD_U32), CTR(6, i, next_count, FIELD_U32), \
	    CTR(7, i, written, FIELD_U32), CTR(8, i, latch, FIELD_U16), CTR(9, i, mode, FIELD_U8),        \
	    CTR(10, i, rw, FIELD_U8), CTR(11, i, write_low, FIELD_U8), CTR(12, i, status, FIELD_U8),      \
	    CTR(13, i, latched, FIELD_U8), CTR(14, i, bcd, FIELD_BOOL), CTR(15, i, gate, FIELD_BOOL),     \
	    CTR(16, i, loaded, FIELD_BOOL), CTR(17, i, paused, FIELD_BOOL),                               \
	    CTR(18, i, status_latched, FIELD_BOOL), CTR(19, i, write_high_next, FIELD_BOOL),              \
	    CTR(20, i, read_high_next, FIELD_BOOL), FIELD_TRANSIENT(struct pit_st, counter[i].pad, 6)

static const struct field pit_fields[] = {
    CTR_FIELDS(0),
    CTR_FIELDS(1),
    CTR_FIELDS(2),
    FIELD(200, struct pit_st, synced, FIELD_U64),
    FIELD(201, struct pit_st, owed_at, FIELD_U64),
    FIELD(202, struct pit_st, owed, FIELD_U32),
    FIELD(203, struct pit_st, port61, FIELD_U8),
    FIELD_TRANSIENT(struct pit_st, pad, 3),
};

static const struct field_table pit_table = {
    .name = "pit",
    .version = 1,
    .size = sizeof(struct pit_st),
    .count = ARRAY_LEN(pit_fields),
    .fields = pit_fields,
};

static uint64_t
now_tick(struct pit *p)
{
	return mul_div_u64(vm_clock_now_ns(p->w.clock), PIT_HZ, NSEC_PER_SEC);
}

/* The first nanosecond at which now_tick() is `tick`. */
static uint64_t
tick_ns(uint64_t tick)
{
	return (uint64_t)(((unsigned __int128)tick * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ);
}

/* ---- IRQ0: lock held ---- */

/* Send an edge that is owed. IRQ0 is left high. */
static void
send_edge(struct pit *p, uint64_t now)
{
	irq_set(&p->w.irq0, false);
	irq_set(&p->w.irq0, true);
	p->st.owed--;
	p->st.owed_at = now + MAX(pit_counter_period(&p->st.counter[0]) / 2, MIN_SPACING_TICK);
}

/* Bring IRQ0 up to `now`. A remote one has a wire of its own. */
static void
sync_irq(struct pit *p, uint64_t now)
{
	struct pit_counter *c = &p->st.counter[0];
	uint64_t edges = pit_counter_edges(c, p->st.synced, now);
	bool out = pit_counter_out(c, now);
	uint32_t period = pit_counter_period(c);

	p->st.synced = now;
	if (p->w.remote != NULL)
		return;
	p->st.owed = (uint32_t)MIN(p->st.owed + MIN(edges, OWED_MAX), OWED_MAX);
	if (edges != 0 || (p->st.owed != 0 && now >= p->st.owed_at))
		send_edge(p, now);
	if (period < MIN_SPACING_TICK || p->w.discard_late)
		p->st.owed = 0;
	irq_set(&p->w.irq0, out);
}

static void
rearm(struct pit *p, uint64_t now)
{
	uint64_t next = pit_counter_next(&p->st.counter[0], now);
	uint32_t period = pit_counter_period(&p->st.counter[0]);

	if (p->st.owed != 0)
		next = MIN(next, MAX(p->st.owed_at, now + 1));
	if (period != 0 && period < MIN_SPACING_TICK)
		next = MAX(next, now + MIN_SPACING_TICK);
	if (!p->started || p->w.remote != NULL || next == UINT64_MAX)
		vm_timer_cancel(&p->timer);
	else
		vm_timer_set(&p->timer, tick_ns(next));
}

static void
on_timer(void *arg)
{
	struct pit *p = arg;
	uint64_t now;

	pthread_mutex_lock(&p->lock);
	now = now_tick(p);
	sync_irq(p, now);
	rearm(p, now);
	pthread_mutex_unlock(&p->lock);
}

/* ---- in the host's kernel: lock held ---- */

static void
remote_send(struct pit *p)
{
	uint64_t now = now_tick(p);
	struct x86_pit to = {.speaker = (p->st.port61 & P61_SPEAKER) != 0, .hpet = p->hpet};

	for (unsigned i = 0; i < 3; i++)
		pit_counter_to_form(&p->st.counter[i], now, &to.counter[i]);
	if (p->w.remote->set(p->w.remote->ctx, &to) != 0)
		log_error("pit: the host's kernel does not take its state");
}

static void
remote_fetch(struct pit *p)
{
	uint64_t now = now_tick(p);
	struct x86_pit from;

	if (p->w.remote->get(p->w.remote->ctx, &from) != 0) {
		log_error("pit: the host's kernel does not give its state");
		return;
	}
	p->st = (struct pit_st){.synced = now};
	from.counter[0].gate = from.counter[1].gate = true; /* tied so on a PC */
	for (unsigned i = 0; i < 3; i++)
		pit_counter_from_form(&p->st.counter[i], now, &from.counter[i]);
	p->st.port61 = (from.speaker ? P61_SPEAKER : 0) | (from.counter[2].gate ? P61_GATE2 : 0);
}

void
pit_hpet_irq0(void *pit, unsigned line, bool taken)
{
	struct pit *p = pit;
	struct x86_pit x;

	(void)line;
	pthread_mutex_lock(&p->lock);
	p->hpet = taken;
	if (p->w.remote != NULL && p->started) {
		int ret = p->w.remote->get(p->w.remote->ctx, &x);

		x.hpet = taken;
		if (ret != 0 || p->w.remote->set(p->w.remote->ctx, &x) != 0)
			log_error("pit: the host's kernel does not let go of IRQ 0");
	}
	pthread_mutex_unlock(&p->lock);
}

/* A port is accessed. Guests do that in the host's kernel; here arrive what it leaves over, and the board's
 * own, as firmware. */
static void
begin_access(struct pit *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->w.remote != NULL && p->started)
		remote_fetch(p);
}

static void
end_access(struct pit *p)
{
	if (p->w.remote != NULL && p->started)
		remote_send(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- ports ---- */

static uint64_t
counter_read(void *dev, uint64_t off, unsigned size)
{
	struct pit *p = dev;
	uint8_t val = 0xff; /* 0x43 is write-only */
	uint64_t now;

	(void)size;
	begin_access(p);
	now = now_tick(p);
	sync_irq(p, now); /* before the read looks at counter 0: a new count may take over at a look */
	if (off < 3)
		val = pit_counter_read(&p->st.counter[off], now);
	end_access(p);
	return val;
}

/* Read-back command: bits 3:1 counters, bit 5 = 0 latch the count, bit 4 = 0 the status. */
static void
read_back(struct pit *p, uint8_t val, uint64_t now)
{
	for (unsigned i = 0; i < 3; i++) {
		if ((val >> (i + 1) & 1) == 0)
			continue;
		if ((val & 0x20) == 0)
			pit_counter_latch_count(&p->st.counter[i], now);
		if ((val & 0x10) == 0)
			pit_counter_latch_status(&p->st.counter[i], now);
	}
}

static void
write_control(struct pit *p, uint8_t val, uint64_t now)
{
	unsigned i = val >> 6;

	if (i == 3) {
		read_back(p, val, now);
	} else if ((val & 0x30) == 0) {
		pit_counter_latch_count(&p->st.counter[i], now);
	} else {
		pit_counter_control(&p->st.counter[i], val, now);
		if (i == 0)
			p->st.owed = 0;
	}
}

static void
counter_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pit *p = dev;
	uint64_t now;

	(void)size;
	begin_access(p);
	now = now_tick(p);
	sync_irq(p, now);
	if (off == 3)
		write_control(p, (uint8_t)val, now);
	else
		pit_counter_write(&p->st.counter[off], (uint8_t)val, now);
	sync_irq(p, now);
	rearm(p, now);
	end_access(p);
}

static uint64_t
port61_read(void *dev, uint64_t off, unsigned size)
{
	struct pit *p = dev;
	uint64_t now;
	uint8_t val;

	(void)off;
	(void)size;
	begin_access(p);
	now = now_tick(p);
	val = p->st.port61;
	if (now / REFRESH_TICKS % 2 != 0)
		val |= P61_REFRESH;
	if (pit_counter_out(&p->st.counter[2], now))
		val |= P61_OUT2;
	pthread_mutex_unlock(&p->lock); /* nothing has changed */
	return val;
}

static void
port61_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pit *p = dev;

	(void)off;
	(void)size;
	begin_access(p);
	p->st.port61 = val & P61_WRITABLE;
	pit_counter_gate(&p->st.counter[2], (val & P61_GATE2) != 0, now_tick(p));
	end_access(p);
}

int
pit_map(struct pit *p, struct io_bus *pio, struct err *err)
{
	const struct io_region regions[] = {
	    {"pit", 0x40, 4, IO_W1 | IO_SPLIT, counter_read, counter_write, p},
	    {"port 0x61", 0x61, 1, IO_W1 | IO_SPLIT, port61_read, port61_write, p},
	};

	for (size_t i = 0; i < ARRAY_LEN(regions); i++) {
		int rc = io_bus_add(pio, &regions[i], err);

		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- life ---- */

/* A remote one's wire is low for ever, and its lock comes after the HPET's. */
static void
set_irq0_and_unlock(struct pit *p, bool level)
{
	if (p->w.remote == NULL)
		irq_set(&p->w.irq0, level);
	pthread_mutex_unlock(&p->lock);
	if (p->w.remote != NULL)
		irq_set(&p->w.irq0, level);
}

static void
pit_reset(void *dev)
{
	struct pit *p = dev;

	pthread_mutex_lock(&p->lock);
	p->st = (struct pit_st){.synced = now_tick(p)};
	for (unsigned i = 0; i < 3; i++) {
		/* The chip's own state is undefined: quiet, low then high byte. */
		p->st.counter[i].rw = 3;
		p->st.counter[i].gate = i != 2;
	}
	vm_timer_cancel(&p->timer);
	set_irq0_and_unlock(p, false);
}

static void
pit_start(void *dev)
{
	struct pit *p = dev;
	uint64_t now;

	pthread_mutex_lock(&p->lock);
	p->started = true;
	if (p->w.remote != NULL) {
		remote_send(p);
	} else {
		now = now_tick(p);
		sync_irq(p, now);
		rearm(p, now);
	}
	pthread_mutex_unlock(&p->lock);
}

static void
pit_stop(void *dev)
{
	struct pit *p = dev;

	pthread_mutex_lock(&p->lock);
	if (p->w.remote != NULL && p->started) {
		remote_fetch(p);
		(void)p->w.remote->set(p->w.remote->ctx, NULL);
	}
	p->started = false;
	pthread_mutex_unlock(&p->lock);
	vm_timer_cancel_sync(&p->timer);
}

static void *
pit_st(void *dev)
{
	return &((struct pit *)dev)->st;
}

static int
pit_post_load(void *dev, struct err *err)
{
	struct pit *p = dev;
	uint64_t now;

	for (unsigned i = 0; i < 3; i++) {
		if (!pit_counter_valid(&p->st.counter[i]) || (i != 2 && !p->st.counter[i].gate))
			return err_set(err, EINVAL, "pit: counter %u: impossible state (damaged snapshot)",
				       i);
	}
	if (p->st.owed > OWED_MAX || (p->st.port61 & ~P61_WRITABLE) != 0 || p->st.synced >= BIT(62))
		return err_set(err, EINVAL, "pit: impossible state (damaged snapshot)");
	pthread_mutex_lock(&p->lock);
	now = now_tick(p);
	rearm(p, now);
	set_irq0_and_unlock(p, p->w.remote == NULL && pit_counter_out(&p->st.counter[0], p->st.synced));
	return 0;
}

static void
pit_copy_st(void *dev, void *to)
{
	struct pit *p = dev;

	pthread_mutex_lock(&p->lock);
	if (p->w.remote != NULL && p->started)
		remote_fetch(p);
	*(struct pit_st *)to = p->st;
	pthread_mutex_unlock(&p->lock);
}

static void
pit_destroy(void *dev)
{
	struct pit *p = dev;

	if (p == NULL)
		return;
	vm_timer_cancel_sync(&p->timer);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct pit *
pit_create(const struct pit_wires *w, struct err *err)
{
	struct pit *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, ENOMEM, "pit: no memory");
		return NULL;
	}
	p->w = *w;
	pthread_mutex_init(&p->lock, NULL);
	vm_timer_init(&p->timer, w->clock, on_timer, p);
	pit_reset(p);
	return p;
}

const struct device_ops pit_device_ops = {
    .type = "pit",
    .destroy = pit_destroy,
    .reset = pit_reset,
    .start = pit_start,
    .stop = pit_stop,
    .state = &pit_table,
    .st = pit_st,
    .post_load = pit_post_load,
    .copy_st = pit_copy_st,
};
