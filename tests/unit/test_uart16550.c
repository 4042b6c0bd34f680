/* SPDX-License-Identifier: BSD-2-Clause */
/* The UART through a real bus and a manual clock; a far end that can refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/vmclock.h"
#include "dev/bus.h"
#include "dev/chipset/uart16550.h"

enum { THR, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR, RBR = THR };

struct rig {
	struct io_bus *pio;
	struct vm_clock *clock;
	struct uart16550 *u;
	bool irq, refuse;
	unsigned edges, rooms;
	uint8_t out[256];
	size_t out_len;
};

static void
rig_irq(void *ctx, unsigned line, bool level)
{
	struct rig *r = ctx;

	assert_int_equal(line, 4);
	r->edges += level && !r->irq;
	r->irq = level;
}

static bool
rig_tx(void *ctx, uint8_t byte)
{
	struct rig *r = ctx;

	if (r->refuse)
		return false;
	assert_true(r->out_len < sizeof(r->out));
	r->out[r->out_len++] = byte;
	return true;
}

static void
rig_room(void *ctx)
{
	((struct rig *)ctx)->rooms++;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err = {0};
	struct uart_wires w;

	r->pio = io_bus_create("pio", 0x10000, &err);
	r->clock = vm_clock_create(VM_CLOCK_MANUAL, &err);
	w = (struct uart_wires){
	    .clock = r->clock,
	    .irq = {rig_irq, r, 4},
	    .line = {.tx = rig_tx, .rx_room = rig_room, .ctx = r},
	};
	r->u = uart_create(&w, &err);
	if (r->u == NULL || uart_map(r->u, r->pio, 0x3f8, &err) != 0)
		return -1;
	vm_clock_start(r->clock);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	uart_device_ops.destroy(r->u);
	io_bus_destroy(r->pio);
	vm_clock_destroy(r->clock);
	free(r);
	return 0;
}

static uint8_t
in(struct rig *r, unsigned reg)
{
	return (uint8_t)io_bus_read(r->pio, 0x3f8 + reg, 1);
}

static void
out(struct rig *r, unsigned reg, uint8_t val)
{
	io_bus_write(r->pio, 0x3f8 + reg, 1, val);
}

static void
test_reset_values(void **state)
{
	struct rig *r = *state;

	assert_int_equal(in(r, IER), 0);
	assert_int_equal(in(r, IIR), 0x01);
	assert_int_equal(in(r, LCR), 0);
	assert_int_equal(in(r, MCR), 0);
	assert_int_equal(in(r, LSR), 0x60);
	assert_int_equal(in(r, MSR), 0xb0);
	assert_false(r->irq);
}

static void
test_scratch_and_divisor(void **state)
{
	struct rig *r = *state;

	out(r, SCR, 0xa5);
	assert_int_equal(in(r, SCR), 0xa5);
	out(r, LCR, 0x83);
	out(r, 0, 0x34);
	out(r, 1, 0x12);
	assert_int_equal(in(r, 0), 0x34);
	assert_int_equal(in(r, 1), 0x12);
	out(r, LCR, 0x03);
	assert_int_equal(in(r, IER), 0);
	assert_int_equal(r->out_len, 0);
	/* Unknown bits of IER and MCR do not stick: Linux tells UARTs apart by them. */
	out(r, IER, 0xff);
	assert_int_equal(in(r, IER), 0x0f);
	out(r, MCR, 0xff);
	assert_int_equal(in(r, MCR), 0x1f);
}

static void
test_identifies_as_16550a(void **state)
{
	struct rig *r = *state;

	out(r, FCR, 0x01);
	assert_int_equal(in(r, IIR) & 0xc0, 0xc0);
	out(r, FCR, 0x00);
	assert_int_equal(in(r, IIR) & 0xc0, 0x00);
	out(r, FCR, 0xc0); /* no enable: nothing is programmed */
	assert_int_equal(in(r, IIR) & 0xc0, 0x00);
	/* The 64-byte FIFO of a 16750 is not there. */
	out(r, LCR, 0x80);
	out(r, FCR, 0x21);
	assert_int_equal(in(r, IIR) >> 5, 6);
}

static void
test_transmit(void **state)
{
	struct rig *r = *state;

	out(r, LCR, 3);
	for (const char *p = "hello"; *p != 0; p++)
		out(r, THR, (uint8_t)*p);
	assert_int_equal(r->out_len, 5);
	assert_memory_equal(r->out, "hello", 5);
	assert_int_equal(in(r, LSR), 0x60);
	out(r, LCR, 2); /* seven bits: loopback cuts, the line does not */
	out(r, THR, 0xff);
	assert_int_equal(r->out[5], 0xff);
	out(r, MCR, 0x10);
	out(r, THR, 0xff);
	assert_int_equal(in(r, RBR), 0x7f);
}

/* The start-up test of Linux's 8250 driver, register by register. */
static void
test_thre_reasserts(void **state)
{
	struct rig *r = *state;

	out(r, IER, 2);
	assert_int_equal(in(r, IIR), 0x02);
	assert_int_equal(in(r, IIR), 0x01);
	out(r, IER, 0);
	out(r, IER, 2);
	assert_int_equal(in(r, IIR), 0x02);
	out(r, IER, 0);
	assert_int_equal(in(r, IIR), 0x01);
	assert_int_equal(r->edges, 0); /* OUT2 is off */
}

static void
test_thre_after_write(void **state)
{
	struct rig *r = *state;

	out(r, MCR, 8);
	out(r, IER, 2);
	assert_true(r->irq);
	assert_int_equal(in(r, IIR), 0x02);
	assert_false(r->irq);
	out(r, THR, 'x');
	assert_true(r->irq);
	assert_int_equal(r->edges, 2);
	/* Writing THR takes the request away while the byte waits. */
	r->refuse = true;
	out(r, THR, 'y');
	assert_false(r->irq);
	assert_int_equal(in(r, IIR), 0x01);
}

static void
test_refusing_far_end(void **state)
{
	struct rig *r = *state;

	out(r, LCR, 3);
	out(r, FCR, 1);
	out(r, MCR, 8);
	out(r, IER, 2);
	(void)in(r, IIR);
	r->refuse = true;
	for (unsigned i = 0; i < 20; i++)
		out(r, THR, (uint8_t)i); /* four too many */
	assert_int_equal(in(r, LSR) & 0x60, 0);
	assert_false(r->irq);
	r->refuse = false;
	uart_tx_ready(r->u);
	assert_int_equal(r->out_len, 16);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(r->out[i], i);
	assert_int_equal(in(r, LSR) & 0x60, 0x60);
	assert_true(r->irq);
	assert_int_equal(in(r, IIR), 0xc2);

	/* Without FIFOs there is room for one; a reset of the FIFO empties it. */
	out(r, FCR, 0);
	r->refuse = true;
	r->out_len = 0;
	out(r, THR, 1);
	out(r, THR, 2);
	r->refuse = false;
	uart_tx_ready(r->u);
	assert_int_equal(r->out_len, 1);
	assert_int_equal(r->out[0], 2);
	out(r, FCR, 1);
	r->refuse = true;
	out(r, THR, 3);
	out(r, FCR, 5);
	assert_int_equal(in(r, LSR) & 0x60, 0x60);
	r->refuse = false;
	uart_tx_ready(r->u);
	assert_int_equal(r->out_len, 1);
}

static void
test_receive_16450(void **state)
{
	struct rig *r = *state;

	out(r, MCR, 8);
	out(r, IER, 1);
	assert_int_equal(uart_rx(r->u, (const uint8_t *)"ab", 2), 1);
	assert_true(r->irq);
	assert_int_equal(in(r, IIR), 0x04);
	assert_int_equal(in(r, LSR), 0x61);
	assert_int_equal(r->rooms, 0);
	assert_int_equal(in(r, RBR), 'a');
	assert_false(r->irq);
	assert_int_equal(r->rooms, 1);
	assert_int_equal(in(r, LSR), 0x60);
	assert_int_equal(in(r, RBR), 'a'); /* again */
	assert_int_equal(r->rooms, 1);
}

static void
test_trigger_levels(void **state)
{
	static const unsigned level[4] = {1, 4, 8, 14};
	struct rig *r = *state;

	out(r, MCR, 8);
	out(r, IER, 1);
	for (unsigned t = 0; t < 4; t++) {
		out(r, FCR, (uint8_t)(t << 6 | 3));
		for (unsigned n = 1; n <= 16; n++) {
			uint8_t byte = (uint8_t)n;

			assert_int_equal(uart_rx(r->u, &byte, 1), 1);
			assert_int_equal(r->irq, n >= level[t]);
			assert_int_equal(in(r, IIR), n >= level[t] ? 0xc4 : 0xc1);
		}
		assert_int_equal(uart_rx(r->u, (const uint8_t *)"z", 1), 0);
		for (unsigned n = 16; n >= 1; n--) {
			assert_int_equal(in(r, RBR), 17 - n);
			assert_int_equal(r->irq, n - 1 >= level[t]);
		}
		assert_int_equal(r->rooms, t + 1);
	}
	assert_int_equal(in(r, LSR), 0x60); /* no overrun by a far end that waits */
}

/* 115200 baud, 8n1: ten bits of 8680.5 ns, times four. */
static void
test_character_timeout(void **state)
{
	struct rig *r = *state;

	out(r, LCR, 0x83);
	out(r, 0, 1);
	out(r, 1, 0);
	out(r, LCR, 0x03);
	out(r, FCR, 0x81);
	out(r, MCR, 8);
	out(r, IER, 1);
	uart_rx(r->u, (const uint8_t *)"ab", 2);
	vm_clock_advance(r->clock, 347000);
	assert_false(r->irq);
	assert_int_equal(in(r, IIR), 0xc1);
	vm_clock_advance(r->clock, 300);
	assert_true(r->irq);
	assert_int_equal(in(r, IIR), 0xcc);
	assert_int_equal(in(r, RBR), 'a');
	assert_false(r->irq);
	vm_clock_advance(r->clock, 347300);
	assert_int_equal(in(r, IIR), 0xcc);
	assert_int_equal(in(r, RBR), 'b');
	vm_clock_advance(r->clock, 1000000);
	assert_false(r->irq);
	/* Enabled afterwards, it is there at once. */
	out(r, IER, 0);
	uart_rx(r->u, (const uint8_t *)"c", 1);
	vm_clock_advance(r->clock, 1000000);
	assert_int_equal(in(r, IIR), 0xc1);
	out(r, IER, 1);
	vm_clock_advance(r->clock, 0);
	assert_int_equal(in(r, IIR), 0xcc);
	assert_true(r->irq);
}

static void
test_priorities(void **state)
{
	struct rig *r = *state;

	out(r, IER, 0x0f);
	uart_rx_break(r->u);
	uart_set_modem(r->u, UART_MSR_DSR | UART_MSR_DCD);
	assert_int_equal(in(r, IIR), 0x06);
	assert_int_equal(in(r, LSR), 0x71);
	assert_int_equal(in(r, IIR), 0x04);
	assert_int_equal(in(r, RBR), 0);
	assert_int_equal(in(r, IIR), 0x02);
	assert_int_equal(in(r, IIR), 0x00);
	assert_int_equal(in(r, MSR), 0xa1);
	assert_int_equal(in(r, IIR), 0x01);
	assert_int_equal(in(r, MSR), 0xa0);
}

static void
test_break_in_fifo(void **state)
{
	struct rig *r = *state;

	out(r, FCR, 1);
	out(r, IER, 4);
	uart_rx(r->u, (const uint8_t *)"a", 1);
	uart_rx_break(r->u);
	uart_rx(r->u, (const uint8_t *)"b", 1);
	/* Not at the top yet: only the summary bit. */
	assert_int_equal(in(r, LSR), 0xe1);
	assert_int_equal(in(r, IIR), 0xc1);
	assert_int_equal(in(r, RBR), 'a');
	assert_int_equal(in(r, IIR), 0xc6);
	assert_int_equal(in(r, LSR), 0xf1);
	assert_int_equal(in(r, LSR), 0x61);
	assert_int_equal(in(r, RBR), 0);
	assert_int_equal(in(r, RBR), 'b');
}

static void
test_loopback(void **state)
{
	struct rig *r = *state;

	out(r, LCR, 3);
	out(r, FCR, 1);
	(void)in(r, MSR);
	out(r, MCR, 0x10);
	assert_int_equal(in(r, MSR), 0x0b); /* CTS, DSR, DCD went away */
	out(r, MCR, 0x1a);
	assert_int_equal(in(r, MSR) & 0xf0, 0x90); /* Linux's presence test */
	out(r, MCR, 0x1f);
	assert_int_equal(in(r, MSR) & 0xf0, 0xf0);
	out(r, MCR, 0x1b); /* RI falls: TERI */
	assert_int_equal(in(r, MSR), 0xb4);
	out(r, MCR, 0x1f); /* RI rises: no delta */
	assert_int_equal(in(r, MSR), 0xf0);

	for (unsigned i = 0; i < 17; i++)
		out(r, THR, (uint8_t)(0x40 + i));
	assert_int_equal(r->out_len, 0);
	assert_int_equal(in(r, LSR), 0x63); /* overrun */
	assert_int_equal(in(r, LSR), 0x61);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(in(r, RBR), 0x40 + i);
	assert_int_equal(in(r, LSR), 0x60);

	/* The line is cut off meanwhile, nothing of it is lost. */
	assert_int_equal(uart_rx(r->u, (const uint8_t *)"q", 1), 0);
	out(r, LCR, 0x43); /* break */
	assert_int_equal(in(r, LSR), 0xf1);
	assert_int_equal(in(r, RBR), 0);
	assert_int_equal(r->rooms, 0);
	out(r, MCR, 0x08);
	assert_int_equal(r->rooms, 1);
	assert_int_equal(uart_rx(r->u, (const uint8_t *)"q", 1), 1);

	/* The non-FIFO receiver keeps the newest. */
	out(r, FCR, 0);
	out(r, LCR, 3);
	out(r, MCR, 0x10);
	out(r, THR, 'a');
	out(r, THR, 'b');
	assert_int_equal(in(r, LSR), 0x63);
	assert_int_equal(in(r, RBR), 'b');
}

static void
test_out2_gates_irq(void **state)
{
	struct rig *r = *state;

	out(r, IER, 2);
	assert_false(r->irq);
	out(r, MCR, 8);
	assert_true(r->irq);
	out(r, MCR, 0x18);
	assert_false(r->irq);
	out(r, MCR, 8);
	uart_device_ops.reset(r->u);
	assert_false(r->irq);
}

static void
test_wide_access(void **state)
{
	struct rig *r = *state;

	io_bus_write(r->pio, 0x3f8 + SCR - 1, 2, 0x5a00);
	assert_int_equal(in(r, SCR), 0x5a);
	assert_int_equal(io_bus_read(r->pio, 0x3f8 + MSR, 2), 0x5ab0);
}

static void
test_state(void **state)
{
	const struct field_table *t = uart_device_ops.state;
	struct rig *r = *state;
	uint8_t saved[512], again[512];
	struct err err = {0};
	size_t where, len;

	assert_true(field_table_complete(t, &where));
	assert_true(field_save_size(t) <= sizeof(saved));
	out(r, FCR, 0x81);
	out(r, MCR, 8);
	out(r, IER, 3);
	r->refuse = true;
	out(r, THR, 'p');
	uart_rx(r->u, (const uint8_t *)"0123456789", 10);
	len = field_save(t, uart_device_ops.st(r->u), saved);

	uart_device_ops.reset(r->u);
	r->irq = false;
	r->rooms = 0;
	assert_int_equal(field_load(t, uart_device_ops.st(r->u), saved, len, &err), 0);
	assert_int_equal(uart_device_ops.post_load(r->u, &err), 0);
	assert_true(r->irq);
	assert_int_equal(field_save(t, uart_device_ops.st(r->u), again), len);
	assert_memory_equal(saved, again, len);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(in(r, RBR), '0' + i);
	assert_int_equal(r->rooms, 1); /* whoever holds bytes is told */
	r->refuse = false;
	uart_tx_ready(r->u);
	assert_int_equal(r->out[0], 'p');
}

static void
test_unconnected(void **state)
{
	struct rig *r = *state;
	struct uart_wires w = {.clock = r->clock};
	struct err err = {0};
	struct uart16550 *u = uart_create(&w, &err);

	assert_non_null(u);
	assert_int_equal(uart_map(u, r->pio, 0x2f8, &err), 0);
	assert_int_not_equal(uart_map(u, r->pio, 0x3f8, &err), 0); /* taken */
	io_bus_write(r->pio, 0x2f8, 1, 'x');
	assert_int_equal(io_bus_read(r->pio, 0x2f8 + LSR, 1), 0x60);
	uart_device_ops.destroy(u);
	io_bus_remove(r->pio, 0x2f8, u);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_reset_values),
	    T(test_scratch_and_divisor),
	    T(test_identifies_as_16550a),
	    T(test_transmit),
	    T(test_thre_reasserts),
	    T(test_thre_after_write),
	    T(test_refusing_far_end),
	    T(test_receive_16450),
	    T(test_trigger_levels),
	    T(test_character_timeout),
	    T(test_priorities),
	    T(test_break_in_fifo),
	    T(test_loopback),
	    T(test_out2_gates_irq),
	    T(test_wide_access),
	    T(test_state),
	    T(test_unconnected),
	};

	return cmocka_run_group_tests_name("uart16550", tests, NULL, NULL);
}
