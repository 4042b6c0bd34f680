/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254: the counter logic by ticks in all modes, then the device on a bus with the VM clock:
 * IRQ0's rate, port 0x61, lateness.
 */
#include "tests/unit/chipset_util.h"

#include "dev/chipset/pit.h"
#include "dev/chipset/pit_counter.h"

/* ---- one counter, times in ticks ---- */

static void
program(struct pit_counter *c, unsigned mode, bool bcd, uint16_t count, uint64_t now)
{
	pit_counter_control(c, (uint8_t)(0x30 | mode << 1 | bcd), now);
	pit_counter_write(c, (uint8_t)count, now);
	pit_counter_write(c, (uint8_t)(count >> 8), now);
}

static uint16_t
value(struct pit_counter *c, uint64_t now)
{
	unsigned low = pit_counter_read(c, now);

	return (uint16_t)(low | pit_counter_read(c, now) << 8);
}

/* Rising edges in (from, to] by looking at OUT at each tick. */
static uint64_t
count_edges(struct pit_counter *c, uint64_t from, uint64_t to)
{
	uint64_t n = 0;
	bool was = pit_counter_out(c, from);

	for (uint64_t t = from + 1; t <= to; t++) {
		bool is = pit_counter_out(c, t);

		n += is && !was;
		was = is;
	}
	return n;
}

static void
test_mode0(void **state)
{
	struct pit_counter c = {.gate = true};

	(void)state;
	program(&c, 0, false, 100, 1000);
	assert_false(pit_counter_out(&c, 1000));
	assert_int_equal(value(&c, 1001), 100); /* loaded by the clock after the write */
	assert_int_equal(value(&c, 1051), 50);
	assert_false(pit_counter_out(&c, 1100));
	assert_true(pit_counter_out(&c, 1101));
	assert_int_equal(value(&c, 1102), 0xffff); /* goes on round */
	assert_int_equal(pit_counter_next(&c, 1000), 1101);
	assert_int_equal(pit_counter_edges(&c, 1000, 1100), 0);
	assert_int_equal(pit_counter_edges(&c, 1100, 1101), 1);
	assert_int_equal(pit_counter_next(&c, 1101), UINT64_MAX);
	/* A new count starts over; its first byte alone stops. */
	pit_counter_write(&c, 10, 2000);
	assert_false(pit_counter_out(&c, 3000));
	pit_counter_write(&c, 0, 3000);
	assert_false(pit_counter_out(&c, 3010));
	assert_true(pit_counter_out(&c, 3011));
	/* The gate holds the count. */
	program(&c, 0, false, 100, 5000);
	pit_counter_gate(&c, false, 5041);
	assert_int_equal(value(&c, 9000), 60);
	pit_counter_gate(&c, true, 9000);
	assert_int_equal(value(&c, 9010), 50);
	assert_false(pit_counter_out(&c, 9059));
	assert_true(pit_counter_out(&c, 9060));
}

static void
test_mode1(void **state)
{
	struct pit_counter c = {.gate = false};

	(void)state;
	program(&c, 1, false, 50, 0);
	assert_true(pit_counter_out(&c, 500));
	pit_counter_gate(&c, true, 500);
	assert_true(pit_counter_out(&c, 500));
	assert_false(pit_counter_out(&c, 501));
	pit_counter_gate(&c, false, 510); /* the gate's level does not matter */
	assert_false(pit_counter_out(&c, 550));
	pit_counter_gate(&c, true, 530 + 10);
	assert_false(pit_counter_out(&c, 590)); /* triggered again: 50 more */
	assert_true(pit_counter_out(&c, 591));
}

static void
test_mode2(void **state)
{
	struct pit_counter c = {.gate = true};

	(void)state;
	program(&c, 2, false, 10, 0);
	assert_true(pit_counter_out(&c, 9));
	assert_int_equal(value(&c, 1), 10);
	assert_int_equal(value(&c, 10), 1);
	assert_false(pit_counter_out(&c, 10)); /* low for the clock at 1 */
	assert_true(pit_counter_out(&c, 11));
	assert_int_equal(value(&c, 11), 10);
	assert_int_equal(pit_counter_period(&c), 10);
	assert_int_equal(pit_counter_next(&c, 1), 11);
	assert_int_equal(pit_counter_edges(&c, 0, 1001), 100);
	assert_int_equal(pit_counter_edges(&c, 11, 11), 0);
	/* A new count waits for the end of the cycle. */
	pit_counter_write(&c, 4, 1003);
	pit_counter_write(&c, 0, 1003);
	assert_int_equal(pit_counter_edges(&c, 1003, 1019), 1 + 2);
	assert_int_equal(value(&c, 1010), 1);
	assert_int_equal(value(&c, 1011), 4);
	assert_false(pit_counter_out(&c, 1014));
	assert_true(pit_counter_out(&c, 1015));
	/* Gate low: OUT high at once; its rise loads anew. */
	pit_counter_gate(&c, false, 1018);
	assert_true(pit_counter_out(&c, 1018));
	assert_int_equal(pit_counter_next(&c, 1018), UINT64_MAX);
	pit_counter_gate(&c, true, 2000);
	assert_int_equal(value(&c, 2001), 4);
	/* Mode 6 is mode 2. */
	pit_counter_control(&c, 0x3c, 0);
	assert_int_equal(c.mode, 2);
}

static void
test_mode3(void **state)
{
	struct pit_counter c = {.gate = true};
	uint64_t high = 0;

	(void)state;
	program(&c, 3, false, 10, 0);
	for (uint64_t t = 1; t <= 10; t++)
		high += pit_counter_out(&c, t);
	assert_int_equal(high, 5);
	assert_int_equal(value(&c, 1), 10);
	assert_int_equal(value(&c, 2), 8);
	assert_int_equal(value(&c, 5), 2);
	assert_int_equal(value(&c, 6), 10);
	program(&c, 3, false, 7, 100); /* odd: high one longer */
	high = 0;
	for (uint64_t t = 101; t <= 107; t++)
		high += pit_counter_out(&c, t);
	assert_int_equal(high, 4);
	assert_int_equal(value(&c, 101), 6);
	assert_int_equal(value(&c, 104), 0);
	assert_int_equal(value(&c, 105), 6);
	/* A new count from the next half cycle. */
	program(&c, 3, false, 10, 200);
	pit_counter_write(&c, 20, 203);
	pit_counter_write(&c, 0, 203);
	assert_true(pit_counter_out(&c, 205));
	assert_false(pit_counter_out(&c, 206));
	assert_false(pit_counter_out(&c, 215));
	assert_true(pit_counter_out(&c, 216));
	assert_true(pit_counter_out(&c, 225));
	assert_false(pit_counter_out(&c, 226));
}

static void
test_mode4_and_5(void **state)
{
	struct pit_counter c = {.gate = true};

	(void)state;
	program(&c, 4, false, 30, 0);
	assert_true(pit_counter_out(&c, 30));
	assert_false(pit_counter_out(&c, 31)); /* one clock */
	assert_true(pit_counter_out(&c, 32));
	assert_int_equal(pit_counter_next(&c, 0), 32);
	assert_int_equal(pit_counter_edges(&c, 0, 100000), 1);
	c.gate = false;
	program(&c, 5, false, 30, 1000);
	assert_true(pit_counter_out(&c, 2031));
	pit_counter_gate(&c, true, 3000);
	assert_true(pit_counter_out(&c, 3030));
	assert_false(pit_counter_out(&c, 3031));
	assert_true(pit_counter_out(&c, 3032));
}

static void
test_bcd(void **state)
{
	struct pit_counter c = {.gate = true};

	(void)state;
	program(&c, 2, true, 0x1000, 0);
	assert_int_equal(value(&c, 1), 0x1000);
	assert_int_equal(value(&c, 2), 0x0999);
	assert_int_equal(pit_counter_period(&c), 1000);
	program(&c, 0, true, 0, 5000); /* 0 is 10000 */
	assert_int_equal(value(&c, 5002), 0x9999);
	assert_true(pit_counter_out(&c, 15001));
	assert_false(pit_counter_out(&c, 15000));
	program(&c, 0, false, 0, 0); /* and 65536 */
	assert_false(pit_counter_out(&c, 65536));
	assert_true(pit_counter_out(&c, 65537));
}

static void
test_latch_and_status(void **state)
{
	struct pit_counter c = {.gate = true};

	(void)state;
	pit_counter_control(&c, 0x34, 0);
	pit_counter_latch_status(&c, 0);
	assert_int_equal(pit_counter_read(&c, 0), 0xf4); /* OUT, null count, both bytes, mode 2 */
	pit_counter_write(&c, 0x34, 0);
	pit_counter_write(&c, 0x12, 0);
	pit_counter_latch_count(&c, 1);
	pit_counter_latch_count(&c, 500); /* ignored until read */
	pit_counter_latch_status(&c, 500);
	assert_int_equal(pit_counter_read(&c, 600), 0xb4);
	assert_int_equal(pit_counter_read(&c, 600), 0x34);
	assert_int_equal(pit_counter_read(&c, 600), 0x12);
	assert_int_equal(value(&c, 0x35), 0x1200);
	/* One byte at a time. */
	pit_counter_control(&c, 0x10, 0);
	pit_counter_write(&c, 0x80, 0);
	assert_int_equal(c.written, 0x80);
	assert_int_equal(pit_counter_read(&c, 1), 0x80);
	assert_int_equal(pit_counter_read(&c, 1), 0x80);
	pit_counter_control(&c, 0x20, 0);
	pit_counter_write(&c, 0x80, 0);
	assert_int_equal(c.written, 0x8000);
	assert_int_equal(pit_counter_read(&c, 1), 0x80);
}

/* The closed formulas against OUT looked at tick by tick, with new counts on the way. */
static void
test_edges_agree(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		static const unsigned modes[] = {0, 2, 3, 4};
		struct pit_counter c = {.gate = true}, copy;
		uint64_t now = next_random(&seed) % 1000;

		program(&c, modes[round % 4], false, (uint16_t)(2 + next_random(&seed) % 40), now);
		for (unsigned step = 0; step < 8; step++) {
			uint64_t to = now + next_random(&seed) % 100, expected;

			if (step % 3 == 2 && modes[round % 4] >= 2 && modes[round % 4] <= 3) {
				pit_counter_write(&c, (uint8_t)(2 + next_random(&seed) % 40), now);
				pit_counter_write(&c, 0, now);
			}
			copy = c;
			expected = count_edges(&copy, now, to);
			assert_int_equal(pit_counter_edges(&c, now, to), expected);
			(void)pit_counter_out(&c, to);
			now = to;
		}
	}
}

/* ---- the device ---- */

struct fixture {
	struct io_bus *bus;
	struct vm_clock *clock;
	struct pit *pit;
	struct probe irq;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct pit_wires w = {.irq0 = probe_wire(&f->irq)};

	f->bus = make_bus(0x10000);
	w.clock = f->clock = manual_clock();
	f->pit = pit_create(&w, NULL);
	assert_non_null(f->pit);
	assert_int_equal(pit_map(f->pit, f->bus, NULL), 0);
	pit_device_ops.start(f->pit);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	pit_device_ops.stop(f->pit);
	pit_device_ops.destroy(f->pit);
	vm_clock_destroy(f->clock);
	io_bus_destroy(f->bus);
	free(f);
	return 0;
}

static void
out(struct fixture *f, uint16_t port, uint8_t val)
{
	io_bus_write(f->bus, port, 1, val);
}

static uint8_t
in(struct fixture *f, uint16_t port)
{
	return (uint8_t)io_bus_read(f->bus, port, 1);
}

static unsigned
in16(struct fixture *f, uint16_t port)
{
	unsigned low = in(f, port);

	return low | (unsigned)in(f, port) << 8;
}

static void
test_irq0_rate(void **state)
{
	static const uint8_t modes[] = {0x34, 0x36};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		out(f, 0x43, modes[i]);
		out(f, 0x40, 11932 & 0xff); /* 100 Hz */
		out(f, 0x40, 11932 >> 8);
		f->irq.rises = 0;
		vm_clock_advance(f->clock, 10ull * NSEC_PER_SEC);
		assert_in_range(f->irq.rises, 999, 1000);
	}
	out(f, 0x43, 0x30); /* as systems shut it off */
	out(f, 0x40, 0);
	out(f, 0x40, 0);
	f->irq.rises = 0;
	vm_clock_advance(f->clock, NSEC_PER_SEC);
	assert_int_equal(f->irq.rises, 1);
}

static void
test_one_shot(void **state)
{
	static const uint8_t modes[] = {0x30, 0x38};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		out(f, 0x43, modes[i]);
		out(f, 0x40, 1000 & 0xff);
		out(f, 0x40, 1000 >> 8);
		f->irq.rises = 0;
		vm_clock_advance(f->clock, 838000);
		assert_int_equal(f->irq.rises, 0);
		vm_clock_advance(f->clock, 3000);
		assert_int_equal(f->irq.rises, 1);
		vm_clock_advance(f->clock, NSEC_PER_SEC);
		assert_int_equal(f->irq.rises, 1);
	}
}

/* Stop hides the time from the device, as a host does that is late. */
static void
test_late_ticks(void **state)
{
	struct fixture *f = *state;

	out(f, 0x43, 0x34);
	out(f, 0x40, 11932 & 0xff);
	out(f, 0x40, 11932 >> 8);
	f->irq.rises = 0;
	pit_device_ops.stop(f->pit);
	vm_clock_advance(f->clock, 105000000); /* 10 ticks */
	pit_device_ops.start(f->pit);
	vm_clock_advance(f->clock, 0);
	assert_int_equal(f->irq.rises, 1); /* one at once, no storm */
	vm_clock_advance(f->clock, 20000000);
	assert_in_range(f->irq.rises, 4, 6);
	vm_clock_advance(f->clock, 1000000000 - 125000000);
	assert_in_range(f->irq.rises, 99, 100); /* all have come: the second is whole */
	/* A day is not made up for. */
	pit_device_ops.stop(f->pit);
	vm_clock_advance(f->clock, 86400ull * NSEC_PER_SEC);
	f->irq.rises = 0;
	pit_device_ops.start(f->pit);
	vm_clock_advance(f->clock, 10ull * NSEC_PER_SEC);
	assert_in_range(f->irq.rises, 1000, 1066);
}

static void
test_fast_rate_is_no_storm(void **state)
{
	struct fixture *f = *state;

	out(f, 0x43, 0x14);
	out(f, 0x40, 2);
	f->irq.rises = 0;
	vm_clock_advance(f->clock, 10000000);
	assert_in_range(f->irq.rises, 50, 210);
	out(f, 0x43, 0x14);
	out(f, 0x40, 1); /* illegal: nothing */
	f->irq.rises = 0;
	vm_clock_advance(f->clock, 10000000);
	assert_int_equal(f->irq.rises, 0);
}

/* Linux' calibration: counter 2 in mode 0 with its gate at port 0x61, OUT polled there. */
static void
test_port61(void **state)
{
	struct fixture *f = *state;
	unsigned toggles = 0;
	uint8_t was;

	out(f, 0x61, (in(f, 0x61) & ~0x02) | 0x01);
	out(f, 0x43, 0xb0);
	out(f, 0x42, 59659 & 0xff); /* 50 ms */
	out(f, 0x42, 59659 >> 8);
	vm_clock_advance(f->clock, 49999000);
	assert_int_equal(in(f, 0x61) & 0x20, 0);
	vm_clock_advance(f->clock, 2000);
	assert_int_equal(in(f, 0x61) & 0x20, 0x20);
	assert_int_equal(in(f, 0x61) & 0x0f, 0x01);
	out(f, 0x61, 0xff);
	assert_int_equal(in(f, 0x61) & 0xcf, 0x0f);
	/* The refresh bit toggles each 15 us or so. */
	was = in(f, 0x61);
	for (unsigned i = 0; i < 1000; i++) {
		uint8_t is;

		vm_clock_advance(f->clock, 1000);
		is = in(f, 0x61);
		toggles += ((was ^ is) & 0x10) != 0;
		was = is;
	}
	assert_in_range(toggles, 64, 68);
}

static void
test_read_back(void **state)
{
	struct fixture *f = *state;

	out(f, 0x43, 0x34);
	out(f, 0x40, 0x00);
	out(f, 0x40, 0x80);
	vm_clock_advance(f->clock, 2000000);
	out(f, 0x43, 0xc2); /* count and status of counter 0 */
	assert_int_equal(in(f, 0x40) & 0x7f, 0x34);
	assert_in_range(in16(f, 0x40), 0x8000 - 2390, 0x8000 - 2380);
	out(f, 0x43, 0x00);
	vm_clock_advance(f->clock, 2000000);
	assert_in_range(in16(f, 0x40), 0x8000 - 2390, 0x8000 - 2380); /* latched before */
	assert_int_equal(in(f, 0x43), 0xff);
}

static void
test_state(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = 11;

	out(f, 0x43, 0x34);
	out(f, 0x40, 0x00);
	out(f, 0x40, 0x80);
	out(f, 0x61, 0x01);
	out(f, 0x43, 0xb6);
	out(f, 0x42, 0x55);
	vm_clock_advance(f->clock, 5000000);
	check_device_state(&pit_device_ops, f->pit);
	out(f, 0x42, 0x10); /* the half-written count goes on */
	out(f, 0x43, 0x84);
	assert_int_equal(in16(f, 0x42), 0x1054);
	for (unsigned round = 0; round < 5000; round++) {
		const struct field_table *t = pit_device_ops.state;
		uint8_t *st = pit_device_ops.st(f->pit);

		pit_device_ops.reset(f->pit);
		for (unsigned i = 0; i < 12; i++) {
			const struct field *fd = &t->fields[next_random(&seed) % t->count];

			st[fd->offset] = (uint8_t)next_random(&seed);
			if (fd->kind == FIELD_BOOL)
				st[fd->offset] &= 1;
		}
		if (pit_device_ops.post_load(f->pit, NULL) != 0) {
			pit_device_ops.reset(f->pit);
			continue;
		}
		for (uint16_t port = 0x40; port < 0x43; port++)
			(void)in(f, port);
		out(f, 0x42, (uint8_t)round);
		(void)in(f, 0x61);
		vm_clock_advance(f->clock, 100000);
	}
}

/* ---- forms ---- */

/* A counter that has gone through its form answers as before, in any mode, at any time. */
static void
test_form(void **state)
{
	static const uint16_t counts[] = {1, 2, 100, 101, 0};

	(void)state;
	for (unsigned mode = 0; mode < 6; mode++) {
		for (unsigned i = 0; i < 5 * 60; i++) {
			struct pit_counter c = {.gate = true}, back = {.gate = true};
			struct x86_pit_counter x;
			uint64_t now = 1001 + i / 5 * 7;

			if (mode == 2 && counts[i % 5] == 1)
				continue; /* illegal */
			program(&c, mode, false, counts[i % 5], 1000);
			if (mode == 1 || mode == 5) {
				pit_counter_gate(&c, false, 1000);
				pit_counter_gate(&c, true, 1000);
			}
			pit_counter_to_form(&c, now, &x);
			assert_int_equal(x.count, counts[i % 5] == 0 ? 65536 : counts[i % 5]);
			pit_counter_from_form(&back, now, &x);
			assert_true(pit_counter_valid(&back));
			assert_int_equal(pit_counter_out(&back, now + 30), pit_counter_out(&c, now + 30));
			assert_int_equal(pit_counter_next(&back, now), pit_counter_next(&c, now));
			assert_int_equal(value(&back, now + 77), value(&c, now + 77));
		}
	}
}

/* What is half done: a byte written, a byte of a latched count read, a status. And with no count at all. */
static void
test_form_of_halves(void **state)
{
	struct pit_counter c = {.gate = true}, back;
	struct x86_pit_counter x;

	(void)state;
	program(&c, 2, false, 0x1234, 1000);
	pit_counter_latch_count(&c, 1001);
	pit_counter_latch_status(&c, 1001);
	pit_counter_write(&c, 0x78, 1001);
	pit_counter_to_form(&c, 1001, &x);
	pit_counter_from_form(&back, 1001, &x);
	assert_int_equal(pit_counter_read(&back, 1001), 0xb4); /* OUT, both bytes, mode 2 */
	assert_int_equal(pit_counter_read(&back, 1001), 0x34);
	pit_counter_to_form(&back, 1001, &x);
	pit_counter_from_form(&back, 1001, &x);
	assert_int_equal(pit_counter_read(&back, 1001), 0x12);
	pit_counter_write(&back, 0x56, 1001);
	pit_counter_to_form(&back, 1001, &x);
	assert_int_equal(x.count, 0x5678); /* the next count is the count */

	pit_counter_control(&c, 0x36, 1002);
	pit_counter_to_form(&c, 1003, &x);
	assert_int_equal(x.count, 0);
	pit_counter_from_form(&back, 1003, &x);
	assert_int_equal(pit_counter_next(&back, 1003), UINT64_MAX);
}

/* Whatever a kernel says. */
static void
test_form_of_nonsense(void **state)
{
	uint64_t seed = 5;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		struct x86_pit_counter x = {
		    .elapsed = (uint64_t)next_random(&seed) << (next_random(&seed) & 31),
		    .count = next_random(&seed) >> (next_random(&seed) & 31),
		    .latched = (uint8_t)next_random(&seed),
		    .mode = (uint8_t)next_random(&seed),
		    .rw = (uint8_t)next_random(&seed),
		    .bcd = next_random(&seed) & 1,
		    .gate = next_random(&seed) & 1,
		    .write_high_next = next_random(&seed) & 1,
		    .read_high_next = next_random(&seed) & 1,
		};
		struct pit_counter c;

		pit_counter_from_form(&c, 5000, &x);
		assert_true(pit_counter_valid(&c));
		(void)value(&c, 6000);
		pit_counter_write(&c, 1, 6000);
		(void)pit_counter_next(&c, 6001);
	}
}

/* ---- in a kernel ---- */

struct kernel {
	struct x86_pit pit;
	bool runs;
	unsigned sets;
};

static int
kernel_get(void *ctx, struct x86_pit *pit)
{
	*pit = ((struct kernel *)ctx)->pit;
	return 0;
}

static int
kernel_set(void *ctx, const struct x86_pit *pit)
{
	struct kernel *k = ctx;

	k->runs = pit != NULL;
	k->sets++;
	if (pit != NULL)
		k->pit = *pit;
	return 0;
}

static void
test_remote(void **state)
{
	struct fixture *f = *state;
	struct kernel k = {.sets = 0};
	const struct pit_remote remote = {kernel_get, kernel_set, &k};
	const struct pit_wires w = {.clock = f->clock, .irq0 = probe_wire(&f->irq), .remote = &remote};
	struct pit *p = pit_create(&w, NULL);
	struct io_bus *bus = make_bus(0x10000);
	uint8_t *st = malloc(pit_device_ops.state->size);

	assert_non_null(p);
	assert_int_equal(pit_map(p, bus, NULL), 0);
	pit_device_ops.start(p);
	assert_true(k.runs);
	assert_int_equal(k.pit.counter[0].count, 0);
	pit_device_ops.stop(p);
	io_bus_write(bus, 0x43, 1, 0x36); /* firmware, before the start and after it */
	io_bus_write(bus, 0x40, 1, 0);
	io_bus_write(bus, 0x40, 1, 0);
	vm_clock_advance(f->clock, 1000000000);
	pit_device_ops.start(p);
	io_bus_write(bus, 0x43, 1, 0x54);
	io_bus_write(bus, 0x41, 1, 0x12);
	vm_clock_advance(f->clock, 1000000000);
	assert_int_equal(k.pit.counter[0].mode, 3);
	assert_int_equal(k.pit.counter[0].count, 0x10000);
	assert_int_equal(k.pit.counter[1].count, 0x12);
	assert_true(k.pit.counter[0].gate);
	assert_false(k.pit.counter[2].gate);

	/* The guest programs it there; the HPET takes IRQ0 and gives it back. */
	k.pit.speaker = true;
	k.pit.counter[0].mode = 3;
	k.pit.counter[0].count = 11932;
	k.pit.counter[2].gate = true;
	pit_hpet_irq0(p, 0, true);
	assert_true(k.pit.hpet);
	assert_int_equal(k.pit.counter[0].count, 11932);
	pit_hpet_irq0(p, 0, false);
	assert_false(k.pit.hpet);

	k.sets = 0;
	pit_device_ops.copy_st(p, st); /* a look changes nothing there */
	assert_int_equal(k.sets, 0);
	assert_memory_equal(st, pit_device_ops.st(p), pit_device_ops.state->size);
	pit_device_ops.stop(p);
	assert_false(k.runs);
	pit_hpet_irq0(p, 0, true); /* while it stands: told with the next start */
	k.pit = (struct x86_pit){.speaker = false};
	vm_clock_advance(f->clock, 1000000);
	pit_device_ops.start(p);
	assert_int_equal(k.sets, 2);
	assert_true(k.runs && k.pit.hpet && k.pit.speaker && k.pit.counter[2].gate);
	assert_int_equal(k.pit.counter[0].mode, 3);
	assert_int_equal(k.pit.counter[0].count, 11932);
	pit_device_ops.stop(p);
	assert_int_equal(f->irq.rises, 0);
	pit_device_ops.destroy(p);
	io_bus_destroy(bus);
	free(st);
}

/* pit_wires.discard_late: one tick, however late. */
static void
test_late_ticks_discarded(void **state)
{
	struct fixture *f = *state;
	struct pit_wires w = {.clock = f->clock, .irq0 = probe_wire(&f->irq), .discard_late = true};
	struct io_bus *bus = make_bus(0x10000);
	struct pit *p = pit_create(&w, NULL);

	assert_non_null(p);
	assert_int_equal(pit_map(p, bus, NULL), 0);
	io_bus_write(bus, 0x43, 1, 0x34);
	io_bus_write(bus, 0x40, 1, 11932 & 0xff); /* 10 ms */
	io_bus_write(bus, 0x40, 1, 11932 >> 8);
	vm_clock_advance(f->clock, 55000000); /* not started: nobody looks */
	f->irq.rises = 0;
	pit_device_ops.start(p);
	vm_clock_advance(f->clock, 1000000);
	assert_int_equal(f->irq.rises, 1);
	vm_clock_advance(f->clock, 40000000);
	assert_int_equal(f->irq.rises, 5);
	pit_device_ops.stop(p);
	pit_device_ops.destroy(p);
	io_bus_destroy(bus);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_mode0),
	    cmocka_unit_test(test_mode1),
	    cmocka_unit_test(test_mode2),
	    cmocka_unit_test(test_mode3),
	    cmocka_unit_test(test_mode4_and_5),
	    cmocka_unit_test(test_bcd),
	    cmocka_unit_test(test_latch_and_status),
	    cmocka_unit_test(test_edges_agree),
	    T(test_irq0_rate),
	    T(test_one_shot),
	    T(test_late_ticks),
	    T(test_fast_rate_is_no_storm),
	    T(test_port61),
	    T(test_read_back),
	    T(test_state),
	    cmocka_unit_test(test_form),
	    cmocka_unit_test(test_form_of_halves),
	    cmocka_unit_test(test_form_of_nonsense),
	    T(test_remote),
	    T(test_late_ticks_discarded),
	};

	return cmocka_run_group_tests_name("pit", tests, NULL, NULL);
}
