/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two CPUs that take interrupts: what each saw, for guests that send them. The first lets them in when it
 * waits, the second all the time. pair.c.
 */
#ifndef LHYVE_TESTS_GUEST_PAIR_H
#define LHYVE_TESTS_GUEST_PAIR_H

#include "tests/guest/irq.h"

struct pair_seen {
	unsigned count[256], total;
	uint8_t order[8];
};
extern volatile struct pair_seen pair_seen[2];
extern unsigned pair_id[2]; /* APIC ids */
extern volatile bool pair_no_eoi;

/* irq_init(), then the second CPU runs; logical ids are 1 and 2, flat. */
void pair_start(void);
/* The second CPU has come to its loop (since pair_ready was made 0). */
extern volatile unsigned pair_ready;
void pair_wait_ready(void);
/* Turns of its loop: it is alive. */
extern volatile unsigned pair_beats;
/* Run this on the second CPU, and wait. */
void pair_call(void (*fn)(void));
/* Task priorities (of which bits 7:4 count). */
void pair_set_tpr(unsigned own, unsigned others);

void pair_clear(void);
/* Wait for that many interrupts in all, and a little longer for more. */
void pair_settle(unsigned want);
/* So many came to each; then all is cleared. */
void pair_expect(const char *what, unsigned first, unsigned second);

#endif
