/* SPDX-License-Identifier: BSD-2-Clause */
/* MC146818: date, codings, setting the clock, UIP, alarm, update and periodic interrupts, CMOS memory. */
#include "tests/unit/chipset_util.h"

#include "dev/chipset/rtc.h"
#include "dev/chipset/rtc_date.h"

#define START 1700000000ll /* Tue 2023-11-14 22:13:20 UTC */
#define SEC   NSEC_PER_SEC

struct fixture {
	struct io_bus *bus;
	struct vm_clock *clock;
	struct rtc *rtc;
	struct probe irq, nmi;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct rtc_cfg cfg = {.mem_below_4g = 2 * GIB, .mem_above_4g = 6 * GIB, .cpus = 4};
	struct rtc_wires w = {.irq8 = probe_wire(&f->irq), .nmi_mask = probe_wire(&f->nmi)};

	f->bus = make_bus(0x10000);
	w.clock = f->clock = manual_clock();
	vm_clock_set_wall_ns(f->clock, START * (int64_t)SEC);
	f->rtc = rtc_create(&cfg, &w, NULL);
	assert_non_null(f->rtc);
	assert_int_equal(rtc_map(f->rtc, f->bus, NULL), 0);
	rtc_device_ops.start(f->rtc);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	rtc_device_ops.stop(f->rtc);
	rtc_device_ops.destroy(f->rtc);
	vm_clock_destroy(f->clock);
	io_bus_destroy(f->bus);
	free(f);
	return 0;
}

static uint8_t
rd(struct fixture *f, uint8_t reg)
{
	io_bus_write(f->bus, 0x70, 1, reg);
	return (uint8_t)io_bus_read(f->bus, 0x71, 1);
}

static void
wr(struct fixture *f, uint8_t reg, uint8_t val)
{
	io_bus_write(f->bus, 0x70, 1, reg);
	io_bus_write(f->bus, 0x71, 1, val);
}

/* century, year, month, day, hour, minute, second as bytes */
static void
assert_date(struct fixture *f, const char *bytes)
{
	static const uint8_t regs[7] = {0x32, 9, 8, 7, 4, 2, 0};

	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(rd(f, regs[i]), (uint8_t)bytes[i]);
}

static void
test_date(void **state)
{
	struct fixture *f = *state;

	assert_date(f, "\x20\x23\x11\x14\x22\x13\x20");
	assert_int_equal(rd(f, 6), 3); /* Tuesday */
	assert_int_equal(rd(f, 0x0d), 0x80);
	assert_int_equal(rd(f, 0x0a), 0x26);
	assert_int_equal(rd(f, 0x0b), 0x02);
	vm_clock_advance(f->clock, 59 * SEC);
	assert_date(f, "\x20\x23\x11\x14\x22\x14\x19");
	wr(f, 0x0b, 0x06); /* binary */
	assert_date(f, "\x14\x17\x0b\x0e\x16\x0e\x13");
	wr(f, 0x0b, 0x00);		  /* BCD, 12 hours */
	assert_int_equal(rd(f, 4), 0x90); /* 10 PM */
	vm_clock_advance(f->clock, 2 * 3600 * SEC);
	assert_int_equal(rd(f, 4), 0x12); /* midnight is 12 AM */
	assert_int_equal(rd(f, 7), 0x15);
}

static void
test_date_functions(void **state)
{
	uint64_t seed = 9;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct rtc_format fmt = {.binary = i & 1, .hours24 = i >> 1 & 1};
		uint8_t regs[128] = {0};
		int64_t t =
		    (int64_t)(((uint64_t)next_random(&seed) << 31 | next_random(&seed)) % 253402300800ull);

		t -= i % 8 == 0 ? 62167219200ll - 1 : 0; /* from year 0 */
		if (t >= 253402300800ll || t < -62167219200ll)
			continue;
		rtc_date_store(regs, fmt, t);
		assert_true(rtc_date_load(regs, fmt) == t);
	}
	{
		/* Leap days, and the weekday of the epoch. */
		static const uint8_t leap[] = {0x20, 0x00, 0x02, 0x29};
		uint8_t regs[128] = {0};

		rtc_date_store(regs, (struct rtc_format){.hours24 = true}, 951782400);
		assert_int_equal(regs[0x32], leap[0]);
		assert_int_equal(regs[9], leap[1]);
		assert_int_equal(regs[8], leap[2]);
		assert_int_equal(regs[7], leap[3]);
		rtc_date_store(regs, (struct rtc_format){.hours24 = true}, 0);
		assert_int_equal(regs[6], 5);
		memset(regs, 0xff, sizeof(regs));
		(void)rtc_date_load(regs, (struct rtc_format){.binary = true});
	}
}

/* Linux' order: SET, divider reset, the registers, SET off, divider on. */
static void
test_set_clock(void **state)
{
	struct fixture *f = *state;

	vm_clock_advance(f->clock, 300000000);
	wr(f, 0x0b, 0x82);
	wr(f, 0x0a, 0x76);
	wr(f, 0x32, 0x19);
	wr(f, 9, 0x99);
	wr(f, 8, 0x12);
	wr(f, 7, 0x31);
	wr(f, 4, 0x23);
	wr(f, 2, 0x59);
	wr(f, 0, 0x59);
	vm_clock_advance(f->clock, 10 * SEC);
	assert_date(f, "\x19\x99\x12\x31\x23\x59\x59"); /* stands */
	wr(f, 0x0b, 0x02);
	wr(f, 0x0a, 0x26);
	vm_clock_advance(f->clock, 499999999);
	assert_date(f, "\x19\x99\x12\x31\x23\x59\x59");
	vm_clock_advance(f->clock, 1); /* half a second after the divider's start */
	assert_date(f, "\x20\x00\x01\x01\x00\x00\x00");
	assert_int_equal(rd(f, 6), 7); /* Saturday */
	/* The offset survives a reset of the machine. */
	rtc_device_ops.reset(f->rtc);
	vm_clock_advance(f->clock, 5 * SEC);
	assert_date(f, "\x20\x00\x01\x01\x00\x00\x05");
}

static void
test_set_only_keeps_phase(void **state)
{
	struct fixture *f = *state;

	vm_clock_advance(f->clock, 300000000);
	wr(f, 0x0b, 0x82);
	wr(f, 2, 0x00);
	wr(f, 0, 0x00);
	wr(f, 0x0b, 0x02);
	assert_date(f, "\x20\x23\x11\x14\x22\x00\x00");
	vm_clock_advance(f->clock, 699999999);
	assert_int_equal(rd(f, 0), 0x00);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(rd(f, 0), 0x01);
	/* A single register written while it runs. */
	wr(f, 4, 0x05);
	assert_date(f, "\x20\x23\x11\x14\x05\x00\x01");
	/* Far dates do not overflow. */
	wr(f, 0x32, 0x99);
	wr(f, 9, 0x99);
	assert_date(f, "\x99\x99\x11\x14\x05\x00\x01");
	vm_clock_advance(f->clock, SEC);
	assert_date(f, "\x99\x99\x11\x14\x05\x00\x02");
	wr(f, 0x32, 0x00);
	wr(f, 9, 0x00);
	assert_date(f, "\x00\x00\x11\x14\x05\x00\x02");
}

static void
test_uip(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0x0a), 0x26);
	vm_clock_advance(f->clock, SEC - 2228000 - 1);
	assert_int_equal(rd(f, 0x0a), 0x26);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(rd(f, 0x0a), 0xa6);
	vm_clock_advance(f->clock, 2227999);
	assert_int_equal(rd(f, 0x0a), 0xa6);
	assert_int_equal(rd(f, 0), 0x20);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(rd(f, 0x0a), 0x26);
	assert_int_equal(rd(f, 0), 0x21);
	wr(f, 0x0b, 0x82); /* no updates under SET */
	vm_clock_advance(f->clock, SEC - 1000);
	assert_int_equal(rd(f, 0x0a), 0x26);
}

static void
test_update_interrupt(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0x0c), 0);
	vm_clock_advance(f->clock, SEC);
	assert_int_equal(rd(f, 0x0c), 0x50); /* the periodic flag comes with no enable too */
	wr(f, 0x0a, 0x20);
	vm_clock_advance(f->clock, SEC);
	assert_int_equal(rd(f, 0x0c), 0x10); /* the flag, with no interrupt */
	assert_int_equal(f->irq.rises, 0);
	wr(f, 0x0b, 0x12);
	for (unsigned i = 1; i <= 5; i++) {
		vm_clock_advance(f->clock, SEC);
		assert_int_equal(f->irq.rises, i);
		assert_true(f->irq.level);
		assert_int_equal(rd(f, 0x0c), 0x90);
		assert_false(f->irq.level);
		assert_int_equal(rd(f, 0x0c), 0);
	}
	/* Not read: the line stays up, and there is no more of it. */
	vm_clock_advance(f->clock, 10 * SEC);
	assert_int_equal(f->irq.rises, 6);
	assert_int_equal(rd(f, 0x0c), 0x90);
	/* SET clears UIE. */
	wr(f, 0x0b, 0x92);
	assert_int_equal(rd(f, 0x0b), 0x82);
}

static void
test_periodic(void **state)
{
	static const struct {
		uint8_t rate;
		unsigned hz;
	} t[] = {{6, 1024}, {15, 2}, {3, 8192}, {1, 256}, {2, 128}, {0, 0}};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		unsigned n = 0;

		wr(f, 0x0a, 0x20 | t[i].rate);
		wr(f, 0x0b, 0x42);
		(void)rd(f, 0x0c);
		for (unsigned step = 0; step < 100000; step++) {
			vm_clock_advance(f->clock, 20000);
			if (f->irq.level) {
				n++;
				assert_int_equal(rd(f, 0x0c) & 0xc0, 0xc0);
			}
		}
		assert_in_range(n, 2 * t[i].hz - (t[i].hz != 0), 2 * t[i].hz + 1); /* in 2 s */
		wr(f, 0x0b, 0x02);
	}
}

static void
test_alarm(void **state)
{
	struct fixture *f = *state;

	wr(f, 0x0a, 0x20); /* no periodic flag */
	wr(f, 5, 0x22);
	wr(f, 3, 0x14);
	wr(f, 1, 0x05);
	wr(f, 0x0b, 0x22);
	vm_clock_advance(f->clock, 45 * SEC - 1);
	assert_int_equal(f->irq.rises, 0);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(f->irq.rises, 1);
	assert_int_equal(rd(f, 0x0c), 0xb0);
	/* The next one is tomorrow. */
	vm_clock_advance(f->clock, 86400 * SEC - 1);
	assert_int_equal(f->irq.rises, 1);
	vm_clock_advance(f->clock, 1);
	assert_int_equal(f->irq.rises, 2);
	(void)rd(f, 0x0c);
	/* Don't care: each minute at second 5; each second. */
	wr(f, 5, 0xc0);
	wr(f, 3, 0xff);
	for (unsigned i = 0; i < 10; i++) {
		vm_clock_advance(f->clock, 60 * SEC);
		assert_int_equal(rd(f, 0x0c) & 0xa0, 0xa0);
	}
	assert_int_equal(f->irq.rises, 12);
	wr(f, 1, 0xc0);
	vm_clock_advance(f->clock, SEC);
	assert_int_equal(f->irq.rises, 13);
	(void)rd(f, 0x0c);
	/* No time of day: never. */
	wr(f, 5, 0x30);
	vm_clock_advance(f->clock, 3 * 86400 * SEC);
	assert_int_equal(f->irq.rises, 13);
}

/* The search against a look at each second. */
static void
test_alarm_search(void **state)
{
	const struct rtc_format fmt = {.hours24 = true};
	uint64_t seed = 21;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		uint8_t regs[128] = {0}, now[128];
		int64_t from = START + next_random(&seed) % 200000, t = from;

		regs[5] = i & 1 ? 0xff : (uint8_t)(next_random(&seed) % 10);
		regs[3] = i & 2 ? 0xc0 : (uint8_t)(next_random(&seed) % 6 << 4);
		regs[1] = i & 4 ? 0xd5 : (uint8_t)(next_random(&seed) % 6 << 4);
		do {
			rtc_date_store(now, fmt, ++t);
		} while ((regs[5] < 0xc0 && now[4] != regs[5]) || (regs[3] < 0xc0 && now[2] != regs[3]) ||
			 (regs[1] < 0xc0 && now[0] != regs[1]));
		assert_true(rtc_date_next_alarm(regs, fmt, from) == t);
	}
}

static void
test_wall_clock_steps(void **state)
{
	struct fixture *f = *state;

	wr(f, 0x0b, 0x12);
	vm_clock_set_wall_ns(f->clock, (START - 7200) * (int64_t)SEC); /* the host's clock was set back */
	assert_date(f, "\x20\x23\x11\x14\x20\x13\x20");
	assert_int_equal(rd(f, 0x0c), 0);
	vm_clock_advance(f->clock, 2 * SEC);
	assert_int_equal(f->irq.rises, 1);
}

static void
test_cmos(void **state)
{
	struct fixture *f = *state;
	unsigned sum = 0;

	assert_int_equal(rd(f, 0x15) | rd(f, 0x16) << 8, 640);
	assert_int_equal(rd(f, 0x17) | rd(f, 0x18) << 8, 0xffff);
	assert_int_equal(rd(f, 0x34) | rd(f, 0x35) << 8, (2048 - 16) * 16);
	assert_int_equal(rd(f, 0x5b) | rd(f, 0x5c) << 8 | rd(f, 0x5d) << 16, 6 * 16384);
	assert_int_equal(rd(f, 0x5f), 3);
	for (uint8_t i = 0x10; i <= 0x2d; i++)
		sum += rd(f, i);
	assert_int_equal(rd(f, 0x2e) << 8 | rd(f, 0x2f), sum);
	for (unsigned i = 0x40; i < 0x80; i++)
		wr(f, (uint8_t)i, (uint8_t)(i * 7));
	for (unsigned i = 0x40; i < 0x80; i++)
		assert_int_equal(rd(f, (uint8_t)i), (uint8_t)(i * 7));
	io_bus_write(f->bus, 0x72, 1, 0xc1);
	assert_int_equal(io_bus_read(f->bus, 0x72, 1), 0x41);
	io_bus_write(f->bus, 0x73, 1, 0x5a);
	assert_int_equal(io_bus_read(f->bus, 0x73, 1), 0x5a);
	assert_int_equal(rd(f, 0x41), (uint8_t)(0x41 * 7)); /* another bank */
	rtc_set_cmos(f->rtc, 0xc1, 0xa5);
	assert_int_equal(io_bus_read(f->bus, 0x73, 1), 0xa5);
	rtc_set_cmos(f->rtc, 0x0f, 0x0a);
	assert_int_equal(rd(f, 0x0f), 0x0a);
	rtc_set_cmos(f->rtc, 5000, 1);
	assert_int_equal(io_bus_read(f->bus, 0x70, 1), 0xff);
	wr(f, 0x0d, 0);
	assert_int_equal(rd(f, 0x0d), 0x80);
}

static void
test_nmi_mask(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0x8d), 0x80);
	assert_true(f->nmi.level);
	(void)rd(f, 0x0d);
	assert_false(f->nmi.level);
}

static void
test_local_time(void **state)
{
	struct fixture *f = *state;
	const struct rtc_cfg cfg = {.utc_offset_s = 5 * 3600 + 1800};
	const struct rtc_wires w = {.clock = f->clock};
	struct io_bus *bus = make_bus(0x10000);
	struct rtc *r = rtc_create(&cfg, &w, NULL);

	assert_non_null(r);
	assert_int_equal(rtc_map(r, bus, NULL), 0);
	io_bus_write(bus, 0x70, 1, 4);
	assert_int_equal(io_bus_read(bus, 0x71, 1), 0x03);
	rtc_device_ops.destroy(r);
	io_bus_destroy(bus);
}

static void
test_state(void **state)
{
	struct fixture *f = *state;
	const struct field_table *t = rtc_device_ops.state;
	uint64_t seed = 13;

	wr(f, 0x0b, 0x72);
	wr(f, 9, 0x31);
	wr(f, 0x50, 0x99);
	vm_clock_advance(f->clock, 1500000000);
	(void)rd(f, 0);
	check_device_state(&rtc_device_ops, f->rtc);
	assert_true(f->irq.level);
	assert_int_equal(rd(f, 9), 0x31);
	assert_int_equal(rd(f, 0x0c) & 0xd0, 0xd0);
	for (unsigned round = 0; round < 4000; round++) {
		uint8_t *st = rtc_device_ops.st(f->rtc);

		for (unsigned i = 0; i < 20; i++) {
			const struct field *fd = &t->fields[next_random(&seed) % t->count];
			unsigned n = fd->kind == FIELD_BYTES			      ? fd->count
				     : fd->kind >= FIELD_U64 && fd->kind <= FIELD_I64 ? 5
										      : 1;

			st[fd->offset + next_random(&seed) % n] =
			    (uint8_t)(next_random(&seed) & (fd->kind == FIELD_BOOL ? 1 : 0xff));
		}
		if (rtc_device_ops.post_load(f->rtc, NULL) != 0) {
			rtc_device_ops.reset(f->rtc);
			continue;
		}
		for (uint8_t i = 0; i < 14; i++)
			(void)rd(f, i);
		wr(f, 0x0b, (uint8_t)next_random(&seed));
		vm_clock_advance(f->clock, 50000000);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_date),
	    cmocka_unit_test(test_date_functions),
	    T(test_set_clock),
	    T(test_set_only_keeps_phase),
	    T(test_uip),
	    T(test_update_interrupt),
	    T(test_periodic),
	    T(test_alarm),
	    cmocka_unit_test(test_alarm_search),
	    T(test_wall_clock_steps),
	    T(test_cmos),
	    T(test_nmi_mask),
	    T(test_local_time),
	    T(test_state),
	};

	return cmocka_run_group_tests_name("rtc", tests, NULL, NULL);
}
