/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One counter of an 8254 as pure logic: register bytes, a gate and a time in ticks of
 * 1193182 Hz go in; bytes, OUT and its edges come out. No lock: the owner's.
 */
#ifndef LHYVE_DEV_PIT_COUNTER_H
#define LHYVE_DEV_PIT_COUNTER_H

#include <stdbool.h>
#include <stdint.h>
#include "x86/apic.h"

struct pit_counter {
	uint64_t start;	     /* tick at which the count in use was loaded: it is `count` then */
	uint64_t frozen;     /* ticks counted when the gate stopped it */
	uint64_t next_start; /* when next_count takes over, as if loaded then (modes 2, 3) */
	uint64_t next_at;
	uint32_t count;	     /* in use, 1..65536 */
	uint32_t next_count; /* waits for the end of the (half) cycle; 0: none */
	uint32_t written;    /* last complete count written; 0: none since the control word */
	uint16_t latch;	     /* latched value, as read out */
	uint8_t mode;	     /* 0..5 */
	uint8_t rw;	     /* 1 low byte, 2 high byte, 3 low then high */
	uint8_t write_low;   /* the low byte, waiting for the high one */
	uint8_t status;	     /* latched status */
	uint8_t latched;     /* bytes of `latch` that are to be read */
	bool bcd, gate;
	bool loaded; /* counting element holds a count */
	bool paused; /* gate low (modes 0, 2, 3, 4), or half a count written (mode 0) */
	bool status_latched;
	bool write_high_next, read_high_next;
	uint8_t pad[6];
};

void pit_counter_control(struct pit_counter *c, uint8_t control, uint64_t now); /* rw of the word is not 0 */
void pit_counter_write(struct pit_counter *c, uint8_t val, uint64_t now);
uint8_t pit_counter_read(struct pit_counter *c, uint64_t now);
void pit_counter_latch_count(struct pit_counter *c, uint64_t now);
void pit_counter_latch_status(struct pit_counter *c, uint64_t now);
void pit_counter_gate(struct pit_counter *c, bool level, uint64_t now);
bool pit_counter_out(struct pit_counter *c, uint64_t now);

/* Rising edges of OUT in (from, to], while nothing was written. Call before pit_counter_sync(). */
uint64_t pit_counter_edges(const struct pit_counter *c, uint64_t from, uint64_t to);
/* The next tick after now with a change of OUT that matters (a strobe counts by its end), or UINT64_MAX. */
uint64_t pit_counter_next(const struct pit_counter *c, uint64_t now);
/* Ticks from one rising edge to the next, 0 when there is one at most. */
uint32_t pit_counter_period(const struct pit_counter *c);
/* False: a state that no sequence of accesses makes. */
bool pit_counter_valid(const struct pit_counter *c);

/* In architectural form, and from it (which a kernel made: anything goes). A count that waits for the end of a
 * cycle is the one in use there. */
void pit_counter_to_form(struct pit_counter *c, uint64_t now, struct x86_pit_counter *x);
void pit_counter_from_form(struct pit_counter *c, uint64_t now, const struct x86_pit_counter *x);

#endif
