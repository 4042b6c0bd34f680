/* SPDX-License-Identifier: BSD-2-Clause */
/* An interrupt wire as a value: copied freely, no ownership. A zeroed one is not connected. */
#ifndef LHYVE_DEV_IRQ_H
#define LHYVE_DEV_IRQ_H

#include <stdbool.h>
#include <stddef.h>

struct irq_wire {
	void (*set)(void *ctx, unsigned line,
		    bool level); /* called with the device's lock held; takes only later locks */
	void *ctx;
	unsigned line;
};

static inline void
irq_set(const struct irq_wire *w, bool level)
{
	if (w->set != NULL)
		w->set(w->ctx, w->line, level);
}

static inline void
irq_pulse(const struct irq_wire *w)
{
	irq_set(w, true);
	irq_set(w, false);
}

#endif
