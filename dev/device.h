/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every device model offers to the board, whatever else it does. A model's own
 * header has its typed create function; the board keeps one list of `struct device`
 * and drives reset, start, stop and state through it, in order of creation (reverse for stop).
 *
 * An instance has four parts: immutable `cfg`; `wires` (irq, clock, dma, backend);
 * `st` (guest-visible, fixed-width, no pointers); `derived` (rebuilt by post_load).
 */
#ifndef LHYVE_DEV_DEVICE_H
#define LHYVE_DEV_DEVICE_H

#include "base/err.h"
#include "state/field.h"

struct device_ops {
	const char *type; /* stable model name, used in snapshots: "uart16550" */
	void (*destroy)(void *dev);
	void (*reset)(void *dev);		      /* power-on state; any time, VM paused */
	void (*start)(void *dev);		      /* may be NULL: arm timers, watch descriptors */
	void (*stop)(void *dev);		      /* may be NULL: after return no callback runs */
	const struct field_table *state;	      /* may be NULL: no state */
	void *(*st)(void *dev);			      /* the struct that `state` describes */
	void (*pre_save)(void *dev);		      /* may be NULL: bring st up to date */
	int (*post_load)(void *dev, struct err *err); /* may be NULL: check st, rebuild derived */
	/* May be NULL: a copy of st as of now, under the device's lock, for people to look at. Any thread, any time. */
	void (*copy_st)(void *dev, void *to);
	/* May be NULL: counters, one call each. Any thread, any time. */
	void (*stats)(void *dev, void (*fn)(void *arg, const char *name, uint64_t value), void *arg);
};

struct device {
	const struct device_ops *ops;
	void *dev;
	char name[32]; /* unique in the VM: "com1", "pci.0.31.0" */
};

#endif
