/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the chipset's unit tests: a recorded wire, a bus with short names, laws every device's state
 * obeys. */
#ifndef LHYVE_TESTS_CHIPSET_UTIL_H
#define LHYVE_TESTS_CHIPSET_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"
#include "dev/device.h"
#include "dev/irq.h"

/* What came over a wire. */
struct probe {
	bool level;
	unsigned rises, falls;
	unsigned line; /* of the last change */
};

static inline void
probe_set(void *ctx, unsigned line, bool level)
{
	struct probe *p = ctx;

	if (level && !p->level)
		p->rises++;
	if (!level && p->level)
		p->falls++;
	p->level = level;
	p->line = line;
}

static inline struct irq_wire
probe_wire(struct probe *p)
{
	return (struct irq_wire){probe_set, p, 0};
}

static inline struct vm_clock *
manual_clock(void)
{
	struct vm_clock *c = vm_clock_create(VM_CLOCK_MANUAL, NULL);

	assert_non_null(c);
	vm_clock_start(c);
	return c;
}

static inline struct io_bus *
make_bus(uint64_t limit)
{
	struct io_bus *b = io_bus_create("test", limit, NULL);

	assert_non_null(b);
	return b;
}

/* A small generator of our own: the same numbers on every host for a seed. */
static inline uint32_t
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*state >> 33);
}

/* Every byte is in the table; save, reset, load gives the same state; truncations are refused. */
static inline void
check_device_state(const struct device_ops *ops, void *dev)
{
	const struct field_table *t = ops->state;
	size_t where = 0, size = field_save_size(t), n;
	uint8_t *buf = malloc(size), *copy = malloc(t->size);
	struct err err = {0};

	if (!field_table_complete(t, &where))
		fail_msg("%s: byte %zu is in no row, or in two", t->name, where);
	assert_non_null(buf);
	assert_non_null(copy);
	n = field_save(t, ops->st(dev), buf);
	assert_int_equal(n, size);
	memcpy(copy, ops->st(dev), t->size);
	ops->reset(dev);
	assert_int_equal(field_load(t, ops->st(dev), buf, n, &err), 0);
	if (ops->post_load != NULL)
		assert_int_equal(ops->post_load(dev, &err), 0);
	assert_null(field_compare(t, copy, ops->st(dev)));
	for (size_t cut = 1; cut < n; cut += 1 + n / 97)
		assert_int_not_equal(field_load(t, ops->st(dev), buf, n - cut, &err), 0);
	assert_null(field_compare(t, copy, ops->st(dev)));
	free(buf);
	free(copy);
}

#endif
