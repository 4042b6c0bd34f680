/* SPDX-License-Identifier: BSD-2-Clause */
/* I/O APIC: registers, edge and level, masks, remote IRR, EOI by broadcast and by register. */
#include "tests/unit/chipset_util.h"

#include "dev/chipset/ioapic.h"

#define BASE 0xfec00000u

struct fixture {
	struct io_bus *bus;
	struct ioapic *io;
	unsigned messages;
	bool refuse; /* no APIC takes it */
	struct {
		uint32_t dest;
		bool logical, level;
		unsigned mode;
		uint8_t vector;
	} last;
};

static bool
take_message(void *ctx, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
	struct fixture *f = ctx;

	f->messages++;
	f->last.dest = dest;
	f->last.logical = logical;
	f->last.mode = mode;
	f->last.vector = vector;
	f->last.level = level;
	return !f->refuse;
}

static void
reg_write(struct fixture *f, unsigned reg, uint32_t val)
{
	io_bus_write(f->bus, BASE, 4, reg);
	io_bus_write(f->bus, BASE + 0x10, 4, val);
}

static uint32_t
reg_read(struct fixture *f, unsigned reg)
{
	io_bus_write(f->bus, BASE, 4, reg);
	return (uint32_t)io_bus_read(f->bus, BASE + 0x10, 4);
}

static void
set_entry(struct fixture *f, unsigned pin, uint64_t entry)
{
	reg_write(f, 0x11 + 2 * pin, (uint32_t)(entry >> 32));
	reg_write(f, 0x10 + 2 * pin, (uint32_t)entry);
}

static uint64_t
get_entry(struct fixture *f, unsigned pin)
{
	return (uint64_t)reg_read(f, 0x11 + 2 * pin) << 32 | reg_read(f, 0x10 + 2 * pin);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct ioapic_cfg cfg = {.id = 5};
	const struct ioapic_wires w = {take_message, f};

	f->bus = make_bus(1ull << 40);
	f->io = ioapic_create(&cfg, &w, NULL);
	assert_non_null(f->io);
	assert_int_equal(ioapic_map(f->io, f->bus, NULL), 0);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	ioapic_device_ops.destroy(f->io);
	io_bus_destroy(f->bus);
	free(f);
	return 0;
}

static void
test_registers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(reg_read(f, 0), 0x05000000);
	assert_int_equal(reg_read(f, 1), 0x00170020);
	reg_write(f, 0, 0xffffffff);
	assert_int_equal(reg_read(f, 0), 0x0f000000);
	assert_int_equal(reg_read(f, 2), 0x0f000000);
	reg_write(f, 1, 0);
	assert_int_equal(reg_read(f, 1), 0x00170020);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_int_equal(get_entry(f, pin), 0x10000); /* masked */
	set_entry(f, 3, UINT64_MAX);
	assert_int_equal(get_entry(f, 3), 0xff0000000001afffull); /* status and remote IRR are read-only */
	assert_int_equal(reg_read(f, 0x40), 0xffffffff);
	/* The index register, its low byte alone, and the page's mirror. */
	io_bus_write(f->bus, BASE, 1, 1);
	assert_int_equal(io_bus_read(f->bus, BASE, 4), 1);
	assert_int_equal(io_bus_read(f->bus, BASE + 0x12, 1), 0x17);
}

static void
test_edge(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 4, 0x3100000000000941ull | 1u << 11);
	ioapic_set_irq(f->io, 4, true);
	assert_int_equal(f->messages, 1);
	assert_int_equal(f->last.dest, 0x31);
	assert_true(f->last.logical);
	assert_int_equal(f->last.mode, 1);
	assert_int_equal(f->last.vector, 0x41);
	assert_false(f->last.level);
	ioapic_set_irq(f->io, 4, true);
	ioapic_set_irq(f->io, 4, false);
	assert_int_equal(f->messages, 1);
	ioapic_set_irq(f->io, 4, true);
	assert_int_equal(f->messages, 2);
	assert_int_equal(get_entry(f, 4) & 0x4000, 0);
}

static void
test_masked_edge_is_lost(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 4, 0x10041);
	ioapic_set_irq(f->io, 4, true);
	set_entry(f, 4, 0x00041);
	assert_int_equal(f->messages, 0);
	ioapic_set_irq(f->io, 4, false);
	ioapic_set_irq(f->io, 4, true);
	assert_int_equal(f->messages, 1);
}

static void
test_level(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 20, 0x8051);
	ioapic_set_irq(f->io, 20, true);
	assert_int_equal(f->messages, 1);
	assert_true(f->last.level);
	assert_int_equal(get_entry(f, 20), 0xc051); /* remote IRR */
	ioapic_set_irq(f->io, 20, false);
	ioapic_set_irq(f->io, 20, true);
	assert_int_equal(f->messages, 1); /* in service: coalesced */
	ioapic_eoi(f->io, 0x50);
	assert_int_equal(get_entry(f, 20), 0xc051); /* another vector's EOI */
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(f->messages, 2); /* still asserted */
	ioapic_set_irq(f->io, 20, false);
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(f->messages, 2);
	assert_int_equal(get_entry(f, 20), 0x8051);
}

static void
test_level_masked_waits(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 20, 0x18051);
	ioapic_set_irq(f->io, 20, true);
	assert_int_equal(f->messages, 0);
	set_entry(f, 20, 0x08051);
	assert_int_equal(f->messages, 1);
	/* Masked while in service: the EOI clears remote IRR, unmasking sends again. */
	set_entry(f, 20, 0x18051);
	assert_int_equal(get_entry(f, 20), 0x1c051);
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(get_entry(f, 20), 0x18051);
	assert_int_equal(f->messages, 1);
	set_entry(f, 20, 0x08051);
	assert_int_equal(f->messages, 2);
}

static void
test_shared_vector(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 20, 0x8051);
	set_entry(f, 21, 0x8051);
	ioapic_set_irq(f->io, 20, true);
	ioapic_set_irq(f->io, 21, true);
	assert_int_equal(f->messages, 2);
	ioapic_set_irq(f->io, 20, false);
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(f->messages, 3);
	assert_int_equal(get_entry(f, 20), 0x8051);
	assert_int_equal(get_entry(f, 21), 0xc051);
}

static void
test_eoi_register(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 9, 0x8061);
	ioapic_set_irq(f->io, 9, true);
	ioapic_set_irq(f->io, 9, false);
	io_bus_write(f->bus, BASE + 0x40, 4, 0x61);
	assert_int_equal(get_entry(f, 9), 0x8061);
	assert_int_equal(io_bus_read(f->bus, BASE + 0x40, 4), 0);
}

/* How systems without an EOI register clear remote IRR: mask and make it edge, then level again. */
static void
test_edge_clears_remote_irr(void **state)
{
	struct fixture *f = *state;

	set_entry(f, 9, 0x8061);
	ioapic_set_irq(f->io, 9, true);
	assert_int_equal(get_entry(f, 9), 0xc061);
	set_entry(f, 9, 0x10061);
	assert_int_equal(get_entry(f, 9), 0x10061);
	set_entry(f, 9, 0x18061);
	assert_int_equal(f->messages, 1);
	set_entry(f, 9, 0x08061);
	assert_int_equal(f->messages, 2);
}

static void
test_not_accepted_stays_pending(void **state)
{
	struct fixture *f = *state;

	f->refuse = true;
	set_entry(f, 9, 0x8061);
	ioapic_set_irq(f->io, 9, true);
	assert_int_equal(get_entry(f, 9), 0x8061);
	f->refuse = false;
	reg_write(f, 0x10 + 18, 0x8062); /* any write of the entry tries again */
	assert_int_equal(f->last.vector, 0x62);
	assert_int_equal(get_entry(f, 9), 0xc062);
}

static void
test_other_modes_are_edges(void **state)
{
	static const unsigned modes[] = {2, 4, 5, 7};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		f->messages = 0;
		set_entry(f, i, 0x8000u | modes[i] << 8);
		ioapic_set_irq(f->io, i, true);
		assert_int_equal(f->messages, 1);
		assert_int_equal(f->last.mode, modes[i]);
		assert_false(f->last.level);
		assert_int_equal(get_entry(f, i) & 0x4000, 0);
	}
}

static void
test_pins_out_of_range(void **state)
{
	struct fixture *f = *state;

	ioapic_set_irq(f->io, 24, true);
	ioapic_set_irq(f->io, 4000000000u, true);
	assert_int_equal(f->messages, 0);
}

static void
test_state(void **state)
{
	struct fixture *f = *state;
	uint64_t *redir;

	set_entry(f, 20, 0x8051);
	ioapic_set_irq(f->io, 20, true);
	set_entry(f, 3, 0xab00000000000933ull);
	check_device_state(&ioapic_device_ops, f->io);
	ioapic_eoi(f->io, 0x51);
	assert_int_equal(f->messages, 2); /* the restored line is high, the restored entry in service */
	redir = ioapic_device_ops.st(f->io);
	redir[7] = 0x4000; /* remote IRR of an edge */
	assert_int_not_equal(ioapic_device_ops.post_load(f->io, NULL), 0);
	redir[7] = 1ull << 40;
	assert_int_not_equal(ioapic_device_ops.post_load(f->io, NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_edge, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_masked_edge_is_lost, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_level, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_level_masked_waits, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_shared_vector, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_eoi_register, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_edge_clears_remote_irr, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_not_accepted_stays_pending, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_other_modes_are_edges, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pins_out_of_range, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_state, setup, teardown),
	};

	return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}
