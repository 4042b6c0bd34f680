/* SPDX-License-Identifier: BSD-2-Clause */
/* HPET: counter, comparators one-shot and periodic, edge, level, legacy replacement, messages, widths. */
#include "tests/unit/chipset_util.h"

#include "dev/chipset/hpet.h"

#define BASE  0xfed00000u
#define TICKS 14318180u /* a second, nearly */

#define T_CONF(n) (0x100 + 0x20 * (n))
#define T_CMP(n)  (0x108 + 0x20 * (n))
#define T_FSB(n)  (0x110 + 0x20 * (n))

enum { LEVEL = 2, ENABLE = 4, PERIODIC = 8, SETVAL = 0x40, MODE32 = 0x100, FSB = 0x4000 };

struct fixture {
	struct io_bus *bus;
	struct vm_clock *clock;
	struct hpet *hpet;
	struct probe irq0, irq8, pin[24], legacy;
	unsigned messages;
	uint64_t msi_addr;
	uint32_t msi_data;
};

static void
set_pin(void *ctx, unsigned pin, bool level)
{
	struct fixture *f = ctx;

	assert_in_range(pin, 0, 23);
	probe_set(&f->pin[pin], pin, level);
}

static void
take_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct fixture *f = ctx;

	f->messages++;
	f->msi_addr = addr;
	f->msi_data = data;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct hpet_cfg cfg = {.msi = true};
	struct hpet_wires w = {
	    .irq0 = probe_wire(&f->irq0),
	    .irq8 = probe_wire(&f->irq8),
	    .gsi = {set_pin, f, 0},
	    .msi = take_msi,
	    .msi_ctx = f,
	    .legacy = probe_wire(&f->legacy),
	};

	f->bus = make_bus(1ull << 40);
	w.clock = f->clock = manual_clock();
	f->hpet = hpet_create(&cfg, &w, NULL);
	assert_non_null(f->hpet);
	assert_int_equal(hpet_map(f->hpet, f->bus, NULL), 0);
	hpet_device_ops.start(f->hpet);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	hpet_device_ops.stop(f->hpet);
	hpet_device_ops.destroy(f->hpet);
	vm_clock_destroy(f->clock);
	io_bus_destroy(f->bus);
	free(f);
	return 0;
}

static uint64_t
rd(struct fixture *f, unsigned reg, unsigned size)
{
	return io_bus_read(f->bus, BASE + reg, size);
}

static void
wr(struct fixture *f, unsigned reg, unsigned size, uint64_t val)
{
	io_bus_write(f->bus, BASE + reg, size, val);
}

static uint64_t
ticks_to_ns(uint64_t ticks)
{
	return (ticks * 69841279ull + 999999) / 1000000;
}

static void
test_capabilities(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0, 8), 69841279ull << 32 | 0x8086a201);
	assert_int_equal(rd(f, 4, 4), 69841279);
	assert_int_equal(hpet_block_id(f->hpet), 0x8086a201);
	assert_int_equal(rd(f, T_CONF(0), 8), 0x00f00000ull << 32 | 0x8030);
	assert_int_equal(rd(f, T_CMP(2), 8), UINT64_MAX);
	assert_int_equal(rd(f, T_CONF(3), 8), 0);
	wr(f, 0, 8, 0);
	assert_int_equal(rd(f, 0, 2), 0xa201);
	wr(f, T_CONF(1), 4, 5 << 9 | ENABLE); /* pin 5 is not offered */
	assert_int_equal(rd(f, T_CONF(1), 4), 0x8030 | ENABLE);
	wr(f, T_CONF(1), 4, 21 << 9);
	assert_int_equal(rd(f, T_CONF(1), 4), 0x8030 | 21 << 9);
}

static void
test_counter(void **state)
{
	struct fixture *f = *state;
	uint64_t at;

	vm_clock_advance(f->clock, NSEC_PER_SEC);
	assert_int_equal(rd(f, 0xf0, 8), 0); /* halted */
	wr(f, 0xf0, 8, 0x1fffffff0);
	wr(f, 0x10, 4, 1);
	assert_int_equal(rd(f, 0xf0, 8), 0x1fffffff0);
	vm_clock_advance(f->clock, NSEC_PER_SEC);
	at = rd(f, 0xf0, 8);
	assert_in_range(at - 0x1fffffff0, TICKS - 1, TICKS + 1);
	assert_int_equal(rd(f, 0xf4, 4), at >> 32);
	assert_int_equal(rd(f, 0xf0, 4), (uint32_t)at);
	assert_int_equal(rd(f, 0xf1, 1), (uint8_t)(at >> 8));
	wr(f, 0x10, 4, 0);
	vm_clock_advance(f->clock, NSEC_PER_SEC);
	assert_int_equal(rd(f, 0xf0, 8), at);
	wr(f, 0xf4, 4, 0);
	assert_int_equal(rd(f, 0xf0, 8), (uint32_t)at);
}

static void
test_one_shot_edge(void **state)
{
	struct fixture *f = *state;

	wr(f, T_CONF(2), 4, 22 << 9 | ENABLE);
	wr(f, T_CMP(2), 8, 1000);
	wr(f, 0x10, 4, 1);
	vm_clock_advance(f->clock, ticks_to_ns(1000) - 1);
	assert_int_equal(f->pin[22].rises, 0);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(f->pin[22].rises, 1);
	assert_false(f->pin[22].level);
	assert_int_equal(rd(f, 0x20, 4), 0); /* no status in edge mode */
	vm_clock_advance(f->clock, 10 * NSEC_PER_SEC);
	assert_int_equal(f->pin[22].rises, 1);
	/* The past does not match (drivers look at the counter after they set one). */
	wr(f, T_CMP(2), 8, rd(f, 0xf0, 8) - 1);
	vm_clock_advance(f->clock, 400 * NSEC_PER_SEC);
	assert_int_equal(f->pin[22].rises, 1);
}

static void
test_32bit_wraps(void **state)
{
	struct fixture *f = *state;

	wr(f, T_CONF(0), 4, 20 << 9 | ENABLE | MODE32);
	assert_int_equal(rd(f, T_CMP(0), 8), 0xffffffff);
	wr(f, 0xf0, 8, 0xfffffff0);
	wr(f, T_CMP(0), 8, 0xdead00000010);
	assert_int_equal(rd(f, T_CMP(0), 8), 0x10);
	wr(f, 0x10, 4, 1);
	vm_clock_advance(f->clock, ticks_to_ns(0x20) - 1);
	assert_int_equal(f->pin[20].rises, 0);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(f->pin[20].rises, 1);
	/* And once each time around: 2^32 ticks are 300 s. */
	vm_clock_advance(f->clock, ticks_to_ns(1ull << 32));
	assert_int_equal(f->pin[20].rises, 2);
}

/* As Linux sets it: SETVAL, the first match, then the period. */
static void
test_periodic_legacy(void **state)
{
	struct fixture *f = *state;
	uint32_t period = TICKS / 100;
	uint64_t cmp;

	wr(f, 0x10, 4, 3);
	wr(f, T_CONF(0), 4, ENABLE | PERIODIC | SETVAL | MODE32);
	wr(f, T_CMP(0), 4, (uint32_t)rd(f, 0xf0, 4) + period);
	wr(f, T_CMP(0), 4, period);
	assert_int_equal(rd(f, T_CONF(0), 4) & SETVAL, 0);
	vm_clock_advance(f->clock, 10 * NSEC_PER_SEC);
	assert_in_range(f->irq0.rises, 999, 1001);
	cmp = rd(f, T_CMP(0), 4);
	assert_in_range(cmp, rd(f, 0xf0, 4), rd(f, 0xf0, 4) + period); /* the comparator moves on */
	/* Late: many periods are one interrupt, in phase. */
	f->irq0.rises = 0;
	hpet_device_ops.stop(f->hpet);
	vm_clock_advance(f->clock, NSEC_PER_SEC);
	hpet_device_ops.start(f->hpet);
	assert_int_equal(f->irq0.rises, 1);
	assert_int_equal((rd(f, T_CMP(0), 4) - cmp) % period, 0);
}

static void
test_legacy_cuts_off_pit_and_rtc(void **state)
{
	struct fixture *f = *state;

	hpet_pit_irq(f->hpet, 0, true);
	hpet_rtc_irq(f->hpet, 0, true);
	assert_true(f->irq0.level && f->irq8.level);
	assert_false(f->legacy.level);
	wr(f, 0x10, 4, 2);
	assert_false(f->irq0.level || f->irq8.level);
	assert_true(f->legacy.level); /* a PIT with a wire of its own is told */
	hpet_pit_irq(f->hpet, 0, false);
	hpet_pit_irq(f->hpet, 0, true);
	assert_false(f->irq0.level);
	/* Timer 1 is IRQ8 now, level. */
	wr(f, T_CONF(1), 4, ENABLE | LEVEL);
	wr(f, T_CMP(1), 8, 100);
	wr(f, 0x10, 4, 3);
	vm_clock_advance(f->clock, ticks_to_ns(100));
	assert_true(f->irq8.level);
	assert_int_equal(rd(f, 0x20, 4), 2);
	wr(f, 0x20, 4, 2);
	assert_false(f->irq8.level);
	wr(f, 0x10, 4, 1);
	assert_true(f->irq0.level && f->irq8.level); /* the old lines are back */
	assert_int_equal(f->legacy.rises, 1);
	assert_false(f->legacy.level);
}

static void
test_level(void **state)
{
	struct fixture *f = *state;

	wr(f, T_CONF(0), 4, 23 << 9 | ENABLE | LEVEL | PERIODIC | SETVAL);
	wr(f, T_CMP(0), 8, 1000);
	wr(f, T_CONF(1), 4, 23 << 9 | ENABLE | LEVEL);
	wr(f, T_CMP(1), 8, 1500);
	wr(f, 0x10, 4, 1);
	vm_clock_advance(f->clock, ticks_to_ns(1600));
	assert_int_equal(rd(f, 0x20, 4), 3);
	assert_true(f->pin[23].level);
	wr(f, 0x20, 4, 1);
	assert_true(f->pin[23].level); /* shared: timer 1 holds it */
	wr(f, 0x20, 1, 2);
	assert_false(f->pin[23].level);
	vm_clock_advance(f->clock, ticks_to_ns(500));
	assert_true(f->pin[23].level);
	/* Disabled, the line falls; the status stays. */
	wr(f, T_CONF(0), 4, 23 << 9 | LEVEL | PERIODIC);
	assert_false(f->pin[23].level);
	assert_int_equal(rd(f, 0x20, 4), 1);
	wr(f, T_CONF(0), 4, 23 << 9 | LEVEL | PERIODIC | ENABLE);
	assert_true(f->pin[23].level);
	wr(f, 0x10, 4, 0);
	assert_false(f->pin[23].level);
	/* Edge mode has no status. */
	wr(f, T_CONF(0), 4, 23 << 9 | ENABLE);
	assert_int_equal(rd(f, 0x20, 4), 0);
}

static void
test_msi(void **state)
{
	struct fixture *f = *state;

	wr(f, T_FSB(1), 4, 0x4045);
	wr(f, T_FSB(1) + 4, 4, 0xfee01000);
	assert_int_equal(rd(f, T_FSB(1), 8), 0xfee0100000004045);
	wr(f, T_CONF(1), 4, ENABLE | FSB);
	wr(f, T_CMP(1), 8, 77);
	wr(f, 0x10, 4, 3); /* even under legacy replacement */
	vm_clock_advance(f->clock, ticks_to_ns(77));
	assert_int_equal(f->messages, 1);
	assert_int_equal(f->msi_addr, 0xfee01000);
	assert_int_equal(f->msi_data, 0x4045);
	assert_int_equal(f->irq8.rises, 0);
}

static void
test_64bit_by_halves(void **state)
{
	struct fixture *f = *state;

	wr(f, T_CMP(0), 4, 0x11223344);
	wr(f, T_CMP(0) + 4, 4, 0x55667788);
	assert_int_equal(rd(f, T_CMP(0), 8), 0x5566778811223344);
	wr(f, T_CMP(0) + 3, 2, 0xaabb);
	assert_int_equal(rd(f, T_CMP(0), 8), 0x556677aabb223344);
	assert_int_equal(rd(f, T_CMP(0) + 5, 8), UINT64_MAX); /* crosses */
	wr(f, T_CMP(0) + 5, 8, 0);
	assert_int_equal(rd(f, T_CMP(0), 8), 0x556677aabb223344);
}

static void
test_fast_periodic_is_no_storm(void **state)
{
	struct fixture *f = *state;

	wr(f, T_CONF(0), 4, 20 << 9 | ENABLE | PERIODIC | SETVAL);
	wr(f, T_CMP(0), 8, 1);
	wr(f, 0x10, 4, 1);
	vm_clock_advance(f->clock, 10000000);
	assert_in_range(f->pin[20].rises, 50, 201);
	/* A period of 0 does not loop. */
	wr(f, T_CMP(0), 8, 0);
	vm_clock_advance(f->clock, 10000000);
}

static void
test_state(void **state)
{
	struct fixture *f = *state;
	const struct field_table *t = hpet_device_ops.state;
	uint64_t seed = 5;

	wr(f, T_CONF(0), 4, 23 << 9 | ENABLE | LEVEL | PERIODIC | SETVAL);
	wr(f, T_CMP(0), 8, 1000);
	wr(f, 0x10, 4, 1);
	vm_clock_advance(f->clock, ticks_to_ns(1600));
	hpet_rtc_irq(f->hpet, 0, true);
	check_device_state(&hpet_device_ops, f->hpet);
	assert_true(f->pin[23].level);
	assert_true(f->irq8.level);
	wr(f, 0x20, 4, 1);
	vm_clock_advance(f->clock, ticks_to_ns(400));
	assert_true(f->pin[23].level);
	for (unsigned round = 0; round < 3000; round++) {
		uint8_t *st = hpet_device_ops.st(f->hpet);

		for (unsigned i = 0; i < 40; i++) {
			const struct field *fd = &t->fields[next_random(&seed) % t->count];
			unsigned n = next_random(&seed) % (3 * 8);

			if (fd->kind == FIELD_U64)
				st[fd->offset + (fd->count > 1 ? n : n % 8)] = (uint8_t)next_random(&seed);
		}
		if (hpet_device_ops.post_load(f->hpet, NULL) != 0) {
			hpet_device_ops.reset(f->hpet);
			continue;
		}
		(void)rd(f, 0xf0, 8);
		wr(f, T_CMP(0), 8, round);
		vm_clock_advance(f->clock, 100000);
	}
}

static void
test_bad_config(void **state)
{
	struct fixture *f = *state;
	const struct hpet_wires w = {.clock = f->clock};
	struct hpet_cfg cfg = {.timers = 25};
	struct err err;

	assert_null(hpet_create(&cfg, &w, &err));
	cfg.timers = 2;
	assert_null(hpet_create(&cfg, &w, &err));
	cfg.timers = 24;
	{
		struct hpet *h = hpet_create(&cfg, &w, &err);

		assert_non_null(h);
		hpet_device_ops.destroy(h);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_capabilities),    T(test_counter),
	    T(test_one_shot_edge),   T(test_32bit_wraps),
	    T(test_periodic_legacy), T(test_legacy_cuts_off_pit_and_rtc),
	    T(test_level),	     T(test_msi),
	    T(test_64bit_by_halves), T(test_fast_periodic_is_no_storm),
	    T(test_state),	     T(test_bad_config),
	};

	return cmocka_run_group_tests_name("hpet", tests, NULL, NULL);
}
