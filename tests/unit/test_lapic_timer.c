/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC timer: rates, modes, changes in flight, TSC deadlines. The manual clock counts 1 ns = 1 count.
 */
#include "tests/unit/chipset_util.h"

#include "tests/unit/lapic_util.h"

#define TIMER	0x320
#define INIT	0x380
#define CURRENT 0x390
#define DIVIDE	0x3e0

/* Interrupts of vCPU 0 taken and ended. */
static unsigned
take(struct fixture *f)
{
	unsigned n = 0;

	while (lapic_accept(f->set, 0) >= 0) {
		eoi(f, 0);
		n++;
	}
	return n;
}

static void
test_one_shot(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 0, DIVIDE, 0xb); /* by 1 */
	wr(f, 0, TIMER, 0x40);
	wr(f, 0, INIT, 1000000);
	assert_int_equal(rd(f, 0, CURRENT), 1000000);
	vm_clock_advance(f->clock, 400000);
	assert_int_equal(rd(f, 0, CURRENT), 600000);
	vm_clock_advance(f->clock, 599999);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(lapic_pending(f->set, 0), 0x40);
	assert_int_equal(f->cpu[0].wakes, 1);
	assert_int_equal(take(f), 1);
	vm_clock_advance(f->clock, 5000000);
	assert_int_equal(take(f), 0);
	assert_int_equal(rd(f, 0, CURRENT), 0);
	assert_int_equal(rd(f, 0, INIT), 1000000);
}

static void
test_periodic(void **state)
{
	struct fixture *f = *state;
	unsigned n = 0;

	enable_all(f);
	wr(f, 0, DIVIDE, 0x3); /* by 16 */
	wr(f, 0, TIMER, 0x20040);
	wr(f, 0, INIT, 62500); /* 1 ms */
	for (unsigned i = 0; i < 100; i++) {
		vm_clock_advance(f->clock, 1000000);
		n += take(f);
	}
	assert_int_equal(n, 100);
	vm_clock_advance(f->clock, 500000);
	assert_int_equal(rd(f, 0, CURRENT), 31250);
	/* Ten periods with nobody looking are one interrupt, and the phase is kept. */
	vm_clock_advance(f->clock, 10000000);
	assert_int_equal(take(f), 1);
	assert_int_equal(rd(f, 0, CURRENT), 31250);
	wr(f, 0, INIT, 0);
	vm_clock_advance(f->clock, 10000000);
	assert_int_equal(take(f), 0);
}

static void
test_dividers(void **state)
{
	static const struct {
		uint32_t reg;
		unsigned by;
	} t[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
	struct fixture *f = *state;

	enable_all(f);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		wr(f, 0, DIVIDE, t[i].reg | 0xfffffff4u);
		assert_int_equal(rd(f, 0, DIVIDE), t[i].reg);
		wr(f, 0, INIT, 100000);
		vm_clock_advance(f->clock, 1280000 / 128 * t[i].by);
		assert_int_equal(rd(f, 0, CURRENT), 90000);
	}
	/* A change goes on from the count that there is. */
	wr(f, 0, DIVIDE, 0xb);
	wr(f, 0, INIT, 100000);
	vm_clock_advance(f->clock, 40000);
	wr(f, 0, DIVIDE, 0x0);
	vm_clock_advance(f->clock, 40000);
	assert_int_equal(rd(f, 0, CURRENT), 40000);
}

/* As in kvm-unit-tests' change of mode. */
static void
test_mode_change(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 0, DIVIDE, 0xb);
	wr(f, 0, TIMER, 0x00040);
	wr(f, 0, INIT, 1000000);
	vm_clock_advance(f->clock, 1000000);
	assert_int_equal(rd(f, 0, CURRENT), 0);
	wr(f, 0, TIMER, 0x20040);
	assert_int_equal(rd(f, 0, CURRENT), 0); /* not started by the mode */
	assert_int_equal(rd(f, 0, INIT), 1000000);
	wr(f, 0, INIT, 1000000);
	vm_clock_advance(f->clock, 1700000);
	assert_int_equal(rd(f, 0, CURRENT), 300000);
	wr(f, 0, TIMER, 0x00040);
	assert_int_equal(rd(f, 0, CURRENT), 300000);
	(void)take(f);
	vm_clock_advance(f->clock, 300000);
	assert_int_equal(take(f), 1);
	assert_int_equal(rd(f, 0, CURRENT), 0);
	vm_clock_advance(f->clock, 3000000);
	assert_int_equal(take(f), 0);
}

static void
test_masked(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 0, DIVIDE, 0xb);
	wr(f, 0, TIMER, 0x30040);
	wr(f, 0, INIT, 1000000);
	vm_clock_advance(f->clock, 2500000);
	assert_int_equal(rd(f, 0, CURRENT), 500000); /* it runs all the same: calibration */
	assert_int_equal(take(f), 0);
	wr(f, 0, TIMER, 0x20040);
	assert_int_equal(take(f), 0); /* nothing is made up for */
	vm_clock_advance(f->clock, 500000);
	assert_int_equal(take(f), 1);
	/* Software-disabling masks it. */
	wr(f, 0, 0xf0, 0xff);
	vm_clock_advance(f->clock, 5000000);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
}

static void
test_fast_periodic_is_no_storm(void **state)
{
	struct fixture *f = *state;
	unsigned n = 0;

	enable_all(f);
	wr(f, 0, DIVIDE, 0xb);
	wr(f, 0, TIMER, 0x20040);
	wr(f, 0, INIT, 1);
	for (unsigned i = 0; i < 1000; i++) {
		vm_clock_advance(f->clock, 1000);
		n += take(f);
	}
	assert_in_range(n, 10, 100); /* 1 ms: at most one each 20 us */
}

static void
test_deadline(void **state)
{
	struct fixture *f = *state;
	uint64_t tsc;

	enable_all(f);
	vm_clock_advance(f->clock, 5000);
	assert_int_equal(wrmsr(f, 0, 0x6e0, 1), 0);
	assert_int_equal(rdmsr(f, 0, 0x6e0), 0); /* not in this mode */
	wr(f, 0, TIMER, 0x40040);
	tsc = vm_clock_tsc(f->clock);
	assert_int_equal(wrmsr(f, 0, 0x6e0, tsc + 1000000), 0);
	assert_int_equal(rdmsr(f, 0, 0x6e0), tsc + 1000000);
	wr(f, 0, INIT, 77);
	assert_int_equal(rd(f, 0, INIT), 0);
	assert_int_equal(rd(f, 0, CURRENT), 0);
	vm_clock_advance(f->clock, 999999);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(take(f), 1);
	assert_int_equal(rdmsr(f, 0, 0x6e0), 0);
	/* The past fires at once; 0 disarms. */
	assert_int_equal(wrmsr(f, 0, 0x6e0, 1), 0);
	assert_int_equal(take(f), 1);
	assert_int_equal(wrmsr(f, 0, 0x6e0, vm_clock_tsc(f->clock) + 1000), 0);
	assert_int_equal(wrmsr(f, 0, 0x6e0, 0), 0);
	vm_clock_advance(f->clock, 100000);
	assert_int_equal(take(f), 0);
	/* Never is far away, not now. */
	assert_int_equal(wrmsr(f, 0, 0x6e0, UINT64_MAX), 0);
	vm_clock_advance(f->clock, 100000000000);
	assert_int_equal(take(f), 0);
	/* Leaving the mode disarms. */
	assert_int_equal(wrmsr(f, 0, 0x6e0, vm_clock_tsc(f->clock) + 1000), 0);
	wr(f, 0, TIMER, 0x00040);
	wr(f, 0, TIMER, 0x40040);
	assert_int_equal(rdmsr(f, 0, 0x6e0), 0);
	vm_clock_advance(f->clock, 100000);
	assert_int_equal(take(f), 0);
}

static void
test_deadline_with_guest_tsc(void **state)
{
	struct fixture *f = *state;
	uint64_t now;

	enable_all(f);
	wr(f, 0, TIMER, 0x40040);
	vm_clock_advance(f->clock, 1000000);
	now = vm_clock_tsc(f->clock);
	lapic_set_tsc_adjust(f->set, 0, (uint64_t)0 - now); /* the guest's TSC starts at 0 */
	assert_int_equal(wrmsr(f, 0, 0x6e0, 500), 0);
	assert_int_equal(take(f), 0);
	vm_clock_advance(f->clock, 500);
	assert_int_equal(take(f), 1);
	/* The guest moves its TSC past the deadline. */
	assert_int_equal(wrmsr(f, 0, 0x6e0, 1000000), 0);
	assert_int_equal(take(f), 0);
	lapic_set_tsc_adjust(f->set, 0, 5000000 - now);
	assert_int_equal(take(f), 1);
}

static void
test_stop_and_start(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 0, DIVIDE, 0xb);
	wr(f, 0, TIMER, 0x40);
	wr(f, 0, INIT, 1000);
	lapic_device_ops.stop(f->set);
	vm_clock_advance(f->clock, 5000);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
	lapic_device_ops.start(f->set);
	vm_clock_advance(f->clock, 0);
	assert_int_equal(take(f), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_one_shot),	    T(test_periodic),
	    T(test_dividers),	    T(test_mode_change),
	    T(test_masked),	    T(test_fast_periodic_is_no_storm),
	    T(test_deadline),	    T(test_deadline_with_guest_tsc),
	    T(test_stop_and_start),
	};

	return cmocka_run_group_tests_name("lapic_timer", tests, NULL, NULL);
}
