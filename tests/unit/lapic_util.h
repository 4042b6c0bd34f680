/* SPDX-License-Identifier: BSD-2-Clause */
/* Four local APICs on a manual clock, with a recorder in place of the processors. */
#ifndef LHYVE_TESTS_LAPIC_UTIL_H
#define LHYVE_TESTS_LAPIC_UTIL_H

#include "dev/chipset/lapic.h"

#define CPUS 4

struct fixture {
	struct vm_clock *clock;
	struct lapic_set *set;
	struct {
		unsigned wakes, inits, sipis, nmis, smis;
		uint8_t sipi_vector;
	} cpu[CPUS];
	unsigned eois;
	uint8_t eoi_vector;
	int extint_vector;
};

static inline void
on_wake(void *ctx, unsigned cpu)
{
	((struct fixture *)ctx)->cpu[cpu].wakes++;
}

static inline void
on_init(void *ctx, unsigned cpu)
{
	((struct fixture *)ctx)->cpu[cpu].inits++;
}

static inline void
on_sipi(void *ctx, unsigned cpu, uint8_t vector)
{
	((struct fixture *)ctx)->cpu[cpu].sipis++;
	((struct fixture *)ctx)->cpu[cpu].sipi_vector = vector;
}

static inline void
on_nmi(void *ctx, unsigned cpu)
{
	((struct fixture *)ctx)->cpu[cpu].nmis++;
}

static inline void
on_smi(void *ctx, unsigned cpu)
{
	((struct fixture *)ctx)->cpu[cpu].smis++;
}

static inline void
on_nothing(void *ctx, unsigned cpu)
{
	(void)ctx;
	(void)cpu;
}

static inline void
on_eoi(void *ctx, uint8_t vector)
{
	((struct fixture *)ctx)->eois++;
	((struct fixture *)ctx)->eoi_vector = vector;
}

static inline int
on_extint_ack(void *ctx)
{
	return ((struct fixture *)ctx)->extint_vector;
}

static const struct lapic_cpu_ops recorder_ops = {on_wake, on_init, on_sipi, on_nmi, on_smi};
static const struct lapic_cpu_ops silent_ops __attribute__((unused)) = {.wake = on_nothing};

static inline int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct lapic_cfg cfg = {.cpus = CPUS, .x2apic = true, .maxphyaddr = 46};
	const struct lapic_wires w = {
	    .clock = f->clock = manual_clock(),
	    .cpu_ops = &recorder_ops,
	    .cpu_ctx = f,
	    .eoi = on_eoi,
	    .eoi_ctx = f,
	    .extint_ack = on_extint_ack,
	    .extint_ctx = f,
	};

	f->set = lapic_create(&cfg, &w, NULL);
	assert_non_null(f->set);
	lapic_device_ops.start(f->set);
	*state = f;
	return 0;
}

static inline int
teardown(void **state)
{
	struct fixture *f = *state;

	lapic_device_ops.stop(f->set);
	lapic_device_ops.destroy(f->set);
	vm_clock_destroy(f->clock);
	free(f);
	return 0;
}

static inline uint32_t
rd(struct fixture *f, unsigned cpu, unsigned off)
{
	uint64_t val = 0;

	assert_true(lapic_mmio_read(f->set, cpu, 0xfee00000u + off, 4, &val));
	return (uint32_t)val;
}

static inline void
wr(struct fixture *f, unsigned cpu, unsigned off, uint32_t val)
{
	assert_true(lapic_mmio_write(f->set, cpu, 0xfee00000u + off, 4, val));
}

static inline uint64_t
rdmsr(struct fixture *f, unsigned cpu, uint32_t msr)
{
	uint64_t val = 0;

	assert_int_equal(lapic_msr_read(f->set, cpu, msr, &val), 0);
	return val;
}

static inline int
wrmsr(struct fixture *f, unsigned cpu, uint32_t msr, uint64_t val)
{
	return lapic_msr_write(f->set, cpu, msr, val);
}

static inline void
ipi(struct fixture *f, unsigned from, unsigned dest, uint32_t icr)
{
	wr(f, from, 0x310, dest << 24);
	wr(f, from, 0x300, icr);
}

static inline void
eoi(struct fixture *f, unsigned cpu)
{
	wr(f, cpu, 0xb0, 0);
}

static inline void
enable_all(struct fixture *f)
{
	for (unsigned i = 0; i < CPUS; i++)
		wr(f, i, 0xf0, 0x1ff);
}

static inline unsigned
pending_mask(struct fixture *f)
{
	unsigned mask = 0;

	for (unsigned i = 0; i < CPUS; i++)
		mask |= (unsigned)(lapic_pending(f->set, i) >= 0) << i;
	return mask;
}

/* Accept and end whatever waits, in either mode. */
static inline void
accept_all(struct fixture *f)
{
	for (unsigned i = 0; i < CPUS; i++) {
		while (lapic_accept(f->set, i) >= 0) {
			if ((rdmsr(f, i, 0x1b) & 0x400) != 0)
				assert_int_equal(wrmsr(f, i, 0x80b, 0), 0);
			else
				eoi(f, i);
		}
	}
}

#endif
