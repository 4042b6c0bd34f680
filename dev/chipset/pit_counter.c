/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254 counter (Intel 231164, "Mode definitions"). Nothing is stepped: the tick at which the
 * counting element was loaded, and the count, give its value and OUT at any later tick.
 * A count is loaded on the clock after the write, so start = now + 1.
 */
#include "dev/chipset/pit_counter.h"

#include "base/util.h"

enum { INTERRUPT_ON_TC, ONE_SHOT, RATE_GENERATOR, SQUARE_WAVE, SOFTWARE_STROBE, HARDWARE_STROBE };

static uint32_t
modulus(const struct pit_counter *c)
{
	return c->bcd ? 10000 : 65536;
}

static bool
periodic(const struct pit_counter *c)
{
	return c->mode == RATE_GENERATOR || c->mode == SQUARE_WAVE;
}

static bool
gate_triggered(const struct pit_counter *c)
{
	return c->mode == ONE_SHOT || c->mode == HARDWARE_STROBE;
}

/* Ticks of the high half of a square wave. */
static uint32_t
high_half(uint32_t count)
{
	return (count + 1) / 2;
}

/* A count that waited for the end of a cycle takes over. */
static void
take_next(struct pit_counter *c, uint64_t now)
{
	if (c->next_count != 0 && now >= c->next_at) {
		c->count = c->next_count;
		c->start = c->next_start;
		c->next_count = 0;
	}
}

static bool
begun(const struct pit_counter *c, uint64_t now)
{
	return c->paused || now >= c->start;
}

static uint64_t
elapsed(const struct pit_counter *c, uint64_t now)
{
	if (c->paused)
		return c->frozen;
	return now > c->start ? now - c->start : 0;
}

bool
pit_counter_out(struct pit_counter *c, uint64_t now)
{
	uint64_t d;

	take_next(c, now);
	d = elapsed(c, now);
	if (!c->loaded)
		return c->mode != INTERRUPT_ON_TC;
	switch (c->mode) {
	case INTERRUPT_ON_TC:
		return d >= c->count;
	case ONE_SHOT:
		return d >= c->count || !begun(c, now);
	case RATE_GENERATOR:
		return c->paused || d % c->count != c->count - 1 || c->count == 1;
	case SQUARE_WAVE:
		return c->paused || d % c->count < high_half(c->count);
	default:
		return d != c->count;
	}
}

/* The counting element, binary. A square wave counts down by two, twice a cycle, from an even number. */
static uint32_t
element(struct pit_counter *c, uint64_t now)
{
	uint64_t d;
	uint32_t m = modulus(c), half = high_half(c->count), phase;

	take_next(c, now);
	if (!c->loaded)
		return 0;
	d = elapsed(c, now);
	if (c->mode == RATE_GENERATOR)
		return (c->count - (uint32_t)(d % c->count)) % m;
	if (c->mode == SQUARE_WAVE) {
		phase = (uint32_t)(d % c->count);
		return ((c->count & ~1u) - 2 * (phase < half ? phase : phase - half)) % m;
	}
	return (c->count + m - (uint32_t)(d % m)) % m;
}

static uint16_t
to_bcd(uint32_t v)
{
	return (uint16_t)(v / 1000 % 10 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

static uint32_t
from_bcd(uint16_t v)
{
	/* Digits above 9 are illegal; the chip's own answer is not documented. */
	return (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);
}

static uint16_t
readout(struct pit_counter *c, uint64_t now)
{
	uint32_t v = element(c, now);

	return c->bcd ? to_bcd(v) : (uint16_t)v;
}

/* ---- writes ---- */

void
pit_counter_control(struct pit_counter *c, uint8_t control, uint64_t now)
{
	unsigned mode = control >> 1 & 7;
	bool gate = c->gate;

	(void)now;
	/* Modes 6 and 7 are 2 and 3. Everything starts anew; the gate is a pin. */
	*c = (struct pit_counter){
	    .mode = (uint8_t)(mode > 5 ? mode - 4 : mode),
	    .rw = control >> 4 & 3,
	    .bcd = (control & 1) != 0,
	    .gate = gate,
	};
}

static void
load(struct pit_counter *c, uint64_t now)
{
	c->count = c->written;
	c->next_count = 0;
	c->start = now + 1;
	c->loaded = true;
	c->frozen = 0;
	c->paused = !c->gate && !gate_triggered(c);
}

/* Modes 2 and 3: the count in use goes on to the end of its cycle, or half cycle. */
static void
load_at_end(struct pit_counter *c, uint64_t now)
{
	uint64_t d = elapsed(c, now), cycle = now > c->start ? now - d % c->count : c->start;
	uint32_t half = high_half(c->count);

	c->next_count = c->written;
	if (c->mode == RATE_GENERATOR || d % c->count >= half) {
		c->next_at = cycle + c->count;
		c->next_start = c->next_at;
	} else {
		/* Next comes a low half of the new count. */
		c->next_at = cycle + half;
		c->next_start = c->next_at - MIN(high_half(c->written), c->next_at);
	}
}

static void
count_complete(struct pit_counter *c, uint16_t val, uint64_t now)
{
	uint32_t m = modulus(c), n = c->bcd ? from_bcd(val) : val;

	take_next(c, now);
	c->written = n == 0 ? m : MIN(n, 65536u);
	if (gate_triggered(c))
		return; /* waits for the gate */
	if (periodic(c) && c->loaded && !c->paused && now >= c->start)
		load_at_end(c, now);
	else
		load(c, now);
}

void
pit_counter_write(struct pit_counter *c, uint8_t val, uint64_t now)
{
	if (c->rw == 3 && !c->write_high_next) {
		c->write_low = val;
		c->write_high_next = true;
		/* Mode 0: the first byte stops the count and OUT is low. */
		if (c->mode == INTERRUPT_ON_TC)
			c->loaded = false;
		return;
	}
	c->write_high_next = false;
	if (c->rw == 1)
		count_complete(c, val, now);
	else if (c->rw == 2)
		count_complete(c, (uint16_t)(val << 8), now);
	else if (c->rw == 3)
		count_complete(c, (uint16_t)(val << 8 | c->write_low), now);
}

void
pit_counter_gate(struct pit_counter *c, bool level, uint64_t now)
{
	if (level == c->gate)
		return;
	take_next(c, now);
	c->gate = level;
	if (gate_triggered(c)) {
		if (level && c->written != 0)
			load(c, now);
	} else if (!c->loaded) {
		return;
	} else if (!level) {
		/* A count that was not loaded yet is: load, then stand. */
		c->frozen = elapsed(c, now);
		c->paused = true;
		if (periodic(c))
			c->next_count = 0; /* the rising edge loads what was written last */
	} else if (periodic(c)) {
		load(c, now);
	} else {
		c->paused = false;
		c->start = now - MIN(c->frozen, now);
	}
}

/* ---- reads ---- */

void
pit_counter_latch_count(struct pit_counter *c, uint64_t now)
{
	/* A latched count stays until it is read. */
	if (c->latched != 0 || c->rw == 0)
		return;
	c->latch = readout(c, now);
	c->latched = c->rw == 3 ? 2 : 1;
}

void
pit_counter_latch_status(struct pit_counter *c, uint64_t now)
{
	bool null_count;

	if (c->status_latched)
		return;
	take_next(c, now);
	null_count = !c->loaded || !begun(c, now) || c->next_count != 0 ||
		     (gate_triggered(c) && c->written != c->count);
	c->status =
	    (uint8_t)(pit_counter_out(c, now) << 7 | null_count << 6 | c->rw << 4 | c->mode << 1 | c->bcd);
	c->status_latched = true;
}

uint8_t
pit_counter_read(struct pit_counter *c, uint64_t now)
{
	uint16_t v;
	bool high;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	v = c->latched != 0 ? c->latch : readout(c, now);
	high = c->rw == 2 || (c->rw == 3 && c->read_high_next);
	if (c->rw == 3)
		c->read_high_next = !c->read_high_next;
	if (c->latched != 0)
		c->latched--;
	return (uint8_t)(high ? v >> 8 : v);
}

/* ---- edges ---- */

uint32_t
pit_counter_period(const struct pit_counter *c)
{
	return periodic(c) && c->loaded && !c->paused ? c->count : 0;
}

/* The single rising edge of the other modes, or UINT64_MAX. */
static uint64_t
single_edge(const struct pit_counter *c)
{
	if (!c->loaded || c->paused)
		return UINT64_MAX;
	/* A strobe is low for one tick after the count and rises at its end. */
	return c->start + c->count + (c->mode == SOFTWARE_STROBE || c->mode == HARDWARE_STROBE);
}

static uint64_t
cycles(uint64_t start, uint32_t count, uint64_t at)
{
	return at > start && count > 1 ? (at - start) / count : 0;
}

uint64_t
pit_counter_edges(const struct pit_counter *c, uint64_t from, uint64_t to)
{
	uint64_t n = 0, mid;

	if (!periodic(c)) {
		uint64_t e = single_edge(c);

		return e > from && e <= to;
	}
	if (!c->loaded || c->paused || to <= from)
		return 0;
	if (c->next_count == 0 || to < c->next_at)
		return cycles(c->start, c->count, to) - cycles(c->start, c->count, from);
	mid = MAX(c->next_at, from);
	n = cycles(c->start, c->count, mid) - cycles(c->start, c->count, from);
	return n + cycles(c->next_start, c->next_count, to) - cycles(c->next_start, c->next_count, mid);
}

uint64_t
pit_counter_next(const struct pit_counter *c, uint64_t now)
{
	uint64_t base, d;
	uint32_t half = high_half(c->count);

	if (!periodic(c)) {
		uint64_t e = single_edge(c);

		/* Mode 1's falling edge is at the start; only counters with a gate have it. */
		return e > now ? e : UINT64_MAX;
	}
	if (!c->loaded || c->paused || c->count == 1)
		return UINT64_MAX;
	d = elapsed(c, now);
	base = now > c->start ? now - d % c->count : c->start;
	if (c->mode == SQUARE_WAVE && now < base + half)
		return base + half;
	return base + c->count;
}

bool
pit_counter_valid(const struct pit_counter *c)
{
	return c->mode <= 5 && c->rw <= 3 && c->latched <= 2 && c->written <= 65536 &&
	       c->next_count <= 65536 && (c->loaded ? c->count >= 1 && c->count <= 65536 : true) &&
	       c->start < BIT(62) && c->next_start < BIT(62) && c->next_at < BIT(62) && c->frozen < BIT(62);
}

/* ---- architectural form ---- */

void
pit_counter_to_form(struct pit_counter *c, uint64_t now, struct x86_pit_counter *x)
{
	take_next(c, now);
	*x = (struct x86_pit_counter){
	    .latch = c->latch,
	    .latched = c->latched,
	    .mode = c->mode,
	    .rw = c->rw,
	    .write_low = c->write_low,
	    .status = c->status,
	    .bcd = c->bcd,
	    .gate = c->gate,
	    .status_latched = c->status_latched,
	    .write_high_next = c->write_high_next,
	    .read_high_next = c->read_high_next,
	};
	if (c->loaded && c->next_count == 0) {
		x->count = c->count;
		x->elapsed = elapsed(c, now);
	} else if (c->loaded) {
		x->count = c->next_count;
	} else if (gate_triggered(c)) {
		x->count = c->written;
	}
}

void
pit_counter_from_form(struct pit_counter *c, uint64_t now, const struct x86_pit_counter *x)
{
	uint64_t elapsed_ticks = MIN(x->elapsed, now);

	*c = (struct pit_counter){
	    .latch = x->latch,
	    .latched = MIN(x->latched, 2),
	    .mode = x->mode <= HARDWARE_STROBE ? x->mode : INTERRUPT_ON_TC,
	    .rw = x->rw & 3,
	    .write_low = x->write_low,
	    .status = x->status,
	    .bcd = x->bcd,
	    .gate = x->gate,
	    .status_latched = x->status_latched,
	    .write_high_next = x->write_high_next,
	    .read_high_next = x->read_high_next,
	};
	if (x->count == 0 || x->count > 65536)
		return;
	c->written = c->count = x->count;
	c->loaded = true;
	c->start = now - elapsed_ticks;
	c->paused = !c->gate && !gate_triggered(c);
	c->frozen = c->paused ? elapsed_ticks : 0;
}
