/* SPDX-License-Identifier: BSD-2-Clause */
/* 8259A pair: initialisation, priorities, EOIs, masks, polling, spurious interrupts, ELCR. */
#include "tests/unit/chipset_util.h"

#include "dev/chipset/pic.h"

struct fixture {
	struct io_bus *bus;
	struct pic *pic;
	struct probe intr;
};

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

/* As PC systems do: vectors 0x30 and 0x38, cascade on 2, the given ICW4, nothing masked. */
static void
init_chips(struct fixture *f, uint8_t icw4)
{
	static const uint16_t base[2] = {0x20, 0xa0};

	for (unsigned i = 0; i < 2; i++) {
		out(f, base[i], 0x11);
		out(f, base[i] + 1, i == 0 ? 0x30 : 0x38);
		out(f, base[i] + 1, i == 0 ? 0x04 : 0x02);
		out(f, base[i] + 1, icw4);
		out(f, base[i] + 1, 0x00);
	}
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct pic_wires w = {.intr = probe_wire(&f->intr)};

	f->bus = make_bus(0x10000);
	f->pic = pic_create(&w, NULL);
	assert_non_null(f->pic);
	assert_int_equal(pic_map(f->pic, f->bus, NULL), 0);
	init_chips(f, 0x01);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	pic_device_ops.destroy(f->pic);
	io_bus_destroy(f->bus);
	free(f);
	return 0;
}

static void
test_edge_and_eoi(void **state)
{
	struct fixture *f = *state;

	assert_false(f->intr.level);
	pic_set_irq(f->pic, 4, true);
	assert_true(f->intr.level);
	assert_int_equal(in(f, 0x20), 0x10); /* IRR */
	assert_int_equal(pic_ack(f->pic), 0x34);
	assert_false(f->intr.level);
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x10); /* ISR */
	out(f, 0x20, 0x0a);
	assert_int_equal(in(f, 0x20), 0x00);
	/* The line is still high: no new edge, no new interrupt. */
	out(f, 0x20, 0x20);
	assert_false(f->intr.level);
	pic_set_irq(f->pic, 4, false);
	pic_set_irq(f->pic, 4, true);
	assert_true(f->intr.level);
}

static void
test_priorities_nest(void **state)
{
	struct fixture *f = *state;

	pic_set_irq(f->pic, 6, true);
	pic_set_irq(f->pic, 3, true);
	assert_int_equal(pic_ack(f->pic), 0x33);
	assert_false(f->intr.level); /* 6 waits */
	pic_set_irq(f->pic, 1, true);
	assert_true(f->intr.level); /* 1 nests */
	assert_int_equal(pic_ack(f->pic), 0x31);
	out(f, 0x20, 0x20);
	assert_false(f->intr.level);
	out(f, 0x20, 0x20);
	assert_true(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x36);
}

static void
test_cascade(void **state)
{
	struct fixture *f = *state;

	pic_set_irq(f->pic, 12, true);
	assert_int_equal(pic_ack(f->pic), 0x3c);
	out(f, 0x20, 0x0b);
	out(f, 0xa0, 0x0b);
	assert_int_equal(in(f, 0x20), 0x04);
	assert_int_equal(in(f, 0xa0), 0x10);
	/* A higher one of the slave waits for the master's EOI (no special fully nested mode). */
	pic_set_irq(f->pic, 8, true);
	assert_false(f->intr.level);
	out(f, 0x20, 0x62); /* specific EOI of the cascade */
	assert_true(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x38);
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x20);
	out(f, 0xa0, 0x0b);
	assert_int_equal(in(f, 0xa0), 0x10); /* 12 is still in service */
}

static void
test_special_fully_nested(void **state)
{
	struct fixture *f = *state;

	init_chips(f, 0x11);
	pic_set_irq(f->pic, 12, true);
	assert_int_equal(pic_ack(f->pic), 0x3c);
	pic_set_irq(f->pic, 8, true);
	assert_true(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x38);
}

static void
test_mask(void **state)
{
	struct fixture *f = *state;

	out(f, 0x21, 0x10);
	pic_set_irq(f->pic, 4, true);
	assert_false(f->intr.level);
	assert_int_equal(in(f, 0x21), 0x10);
	assert_int_equal(in(f, 0x20), 0x10); /* the request is there */
	out(f, 0x21, 0x00);
	assert_true(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x34);
	/* Masking the cascade holds back all of the slave. */
	out(f, 0x21, 0x04);
	out(f, 0x20, 0x20);
	pic_set_irq(f->pic, 9, true);
	assert_false(f->intr.level);
	out(f, 0x21, 0x00);
	assert_int_equal(pic_ack(f->pic), 0x39);
}

static void
test_spurious(void **state)
{
	struct fixture *f = *state;

	/* Masked between INTR and INTA. */
	pic_set_irq(f->pic, 5, true);
	out(f, 0x21, 0x20);
	assert_int_equal(pic_ack(f->pic), 0x37);
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x00); /* not in service */
	/* A level that goes away at the slave: its IR7, with the cascade in service or not at all. */
	out(f, 0x21, 0x00);
	assert_int_equal(pic_ack(f->pic), 0x35);
	out(f, 0x20, 0x20);
	out(f, 0x4d1, 0x02);
	pic_set_irq(f->pic, 9, true);
	assert_true(f->intr.level);
	pic_set_irq(f->pic, 9, false);
	assert_false(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x37);
}

static void
test_level(void **state)
{
	struct fixture *f = *state;

	out(f, 0x4d0, 0xff);
	out(f, 0x4d1, 0xff);
	assert_int_equal(in(f, 0x4d0), 0xf8); /* 0-2, 8, 13 are edge for ever */
	assert_int_equal(in(f, 0x4d1), 0xde);
	pic_set_irq(f->pic, 10, true);
	assert_int_equal(pic_ack(f->pic), 0x3a);
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x20);
	assert_true(f->intr.level); /* still asserted: again */
	assert_int_equal(pic_ack(f->pic), 0x3a);
	pic_set_irq(f->pic, 10, false);
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x20);
	assert_false(f->intr.level);
}

static void
test_auto_eoi_and_rotation(void **state)
{
	struct fixture *f = *state;

	init_chips(f, 0x03);
	out(f, 0x20, 0x80); /* rotate in AEOI */
	pic_set_irq(f->pic, 3, true);
	pic_set_irq(f->pic, 4, true);
	assert_int_equal(pic_ack(f->pic), 0x33);
	/* 3 is lowest now; 4 highest. A new edge of 3 stands behind 4. */
	pic_set_irq(f->pic, 3, false);
	pic_set_irq(f->pic, 3, true);
	assert_int_equal(pic_ack(f->pic), 0x34);
	assert_int_equal(pic_ack(f->pic), 0x33);
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x00);
	assert_int_equal(f->intr.rises, 3); /* one edge of INTR for each */
}

static void
test_rotate_and_set_priority(void **state)
{
	struct fixture *f = *state;

	out(f, 0x20, 0xc4); /* 4 is lowest: 5 is highest */
	pic_set_irq(f->pic, 0, true);
	pic_set_irq(f->pic, 5, true);
	assert_int_equal(pic_ack(f->pic), 0x35);
	out(f, 0x20, 0xa0); /* rotate on non-specific EOI: 5 is lowest */
	assert_int_equal(pic_ack(f->pic), 0x30);
	out(f, 0x20, 0xe0); /* rotate on specific EOI: 0 is lowest */
	pic_set_irq(f->pic, 1, true);
	pic_set_irq(f->pic, 0, false);
	pic_set_irq(f->pic, 0, true);
	assert_int_equal(pic_ack(f->pic), 0x31);
}

static void
test_special_mask(void **state)
{
	struct fixture *f = *state;

	pic_set_irq(f->pic, 1, true);
	assert_int_equal(pic_ack(f->pic), 0x31);
	pic_set_irq(f->pic, 4, true);
	assert_false(f->intr.level);
	out(f, 0x21, 0x02);
	assert_false(f->intr.level);
	out(f, 0x20, 0x68); /* special mask mode: the masked 1 in service blocks nothing */
	assert_true(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x34);
	out(f, 0x20, 0x20); /* non-specific EOI does not see the masked bit */
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x02);
	out(f, 0x20, 0x48);
	pic_set_irq(f->pic, 4, false);
	pic_set_irq(f->pic, 4, true);
	assert_false(f->intr.level);
}

static void
test_poll(void **state)
{
	struct fixture *f = *state;

	out(f, 0x20, 0x0c);
	assert_int_equal(in(f, 0x20), 0x00);
	pic_set_irq(f->pic, 3, true);
	out(f, 0x20, 0x0c);
	assert_int_equal(in(f, 0x21), 0x83);
	assert_false(f->intr.level);
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x08); /* it was an acknowledge */
}

static void
test_init_resets(void **state)
{
	struct fixture *f = *state;

	out(f, 0x21, 0xff);
	pic_set_irq(f->pic, 7, true);
	out(f, 0x20, 0x11);
	assert_int_equal(in(f, 0x21), 0x00); /* ICW1 clears IMR */
	assert_false(f->intr.level);	     /* and the edges */
	out(f, 0x21, 0x50);
	out(f, 0x21, 0x04);
	out(f, 0x21, 0x01);
	out(f, 0x21, 0xfe); /* an OCW1 again */
	assert_int_equal(in(f, 0x21), 0xfe);
	pic_set_irq(f->pic, 0, true);
	assert_int_equal(pic_ack(f->pic), 0x50);
}

static void
test_master_alone_reinitialised(void **state)
{
	struct fixture *f = *state;

	/* A request of the slave outlives the master's initialisation. */
	pic_set_irq(f->pic, 11, true);
	out(f, 0x20, 0x11);
	out(f, 0x21, 0x30);
	out(f, 0x21, 0x04);
	out(f, 0x21, 0x01);
	assert_true(f->intr.level);
	assert_int_equal(pic_ack(f->pic), 0x3b);
}

static void
test_wide_access(void **state)
{
	struct fixture *f = *state;

	io_bus_write(f->bus, 0x20, 2, 0xfb00 | 0x0b); /* OCW3, OCW1 */
	assert_int_equal(in(f, 0x21), 0xfb);
	assert_int_equal(io_bus_read(f->bus, 0x20, 2), 0xfb00);
}

static void
test_state(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = 1;

	pic_set_irq(f->pic, 12, true);
	pic_ack(f->pic);
	pic_set_irq(f->pic, 3, true);
	out(f, 0x21, 0x08);
	check_device_state(&pic_device_ops, f->pic);
	out(f, 0x21, 0x00);
	assert_true(f->intr.level == false); /* the cascade is in service: 3 is lower than 2 */
	out(f, 0x20, 0x20);
	assert_int_equal(pic_ack(f->pic), 0x33);
	/* Random state is refused or does no harm. */
	for (unsigned round = 0; round < 2000; round++) {
		uint8_t *st = pic_device_ops.st(f->pic);

		for (uint32_t i = 0; i < pic_device_ops.state->count; i++) {
			const struct field *fd = &pic_device_ops.state->fields[i];

			st[fd->offset] = (uint8_t)(next_random(&seed) & (fd->kind == FIELD_BOOL ? 1 : 15));
		}
		if (pic_device_ops.post_load(f->pic, NULL) != 0)
			continue;
		pic_set_irq(f->pic, next_random(&seed) & 15, true);
		assert_in_range(pic_ack(f->pic), 0, 255);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_edge_and_eoi, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_priorities_nest, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cascade, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_special_fully_nested, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_mask, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_spurious, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_level, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_auto_eoi_and_rotation, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_rotate_and_set_priority, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_special_mask, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_poll, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_init_resets, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_master_alone_reinitialised, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_wide_access, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_state, setup, teardown),
	};

	return cmocka_run_group_tests_name("pic", tests, NULL, NULL);
}
