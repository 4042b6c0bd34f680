/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A PC's serial port: National PC16550D (16550A), 16-byte FIFOs, 1.8432 MHz clock,
 * interrupt gated by OUT2 as on a PC. Pure logic: register accesses and received
 * bytes in, transmitted bytes and one interrupt level out.
 *
 * The transmitter has no baud rate: a byte leaves when the far end takes it. When the
 * far end refuses, bytes stay in the transmit FIFO and THRE/TEMT stay clear until
 * uart_tx_ready(); a byte written to a full FIFO is lost, as on the hardware.
 *
 * Threads: every call from any thread. One lock a UART; order: UART, far end's tx
 * side, interrupt controllers.
 */
#ifndef LHYVE_DEV_UART16550_H
#define LHYVE_DEV_UART16550_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct uart16550;
struct io_bus;
struct vm_clock;

/* What the line goes to. A zeroed one is not connected: output vanishes. */
struct uart_line {
	bool (*tx)(void *ctx, uint8_t byte); /* UART's lock held: must not call back. false: refused */
	void (*rx_room)(void *ctx); /* no lock held: bytes may come again, after uart_rx() was short */
	void *ctx;
};

struct uart_wires {
	struct vm_clock *clock; /* character timeout */
	struct irq_wire irq;
	struct uart_line line;
};

/* Modem inputs, as in MSR. */
enum { UART_MSR_CTS = 0x10, UART_MSR_DSR = 0x20, UART_MSR_RI = 0x40, UART_MSR_DCD = 0x80 };

LH_MUST_CHECK struct uart16550 *uart_create(const struct uart_wires *w, struct err *err);
extern const struct device_ops uart_device_ops; /* dev = struct uart16550 * */

/* Eight ports at base. */
LH_MUST_CHECK int uart_map(struct uart16550 *u, struct io_bus *pio, uint16_t base, struct err *err);

/* Bytes that arrived. Returns how many were taken; after fewer than len, rx_room() tells when to go on. */
size_t uart_rx(struct uart16550 *u, const uint8_t *buf, size_t len);
/* A break on the line. */
void uart_rx_break(struct uart16550 *u);
/* The far end takes bytes again. */
void uart_tx_ready(struct uart16550 *u);
/* Levels of the modem inputs: UART_MSR_*. At reset CTS, DSR and DCD are on. */
void uart_set_modem(struct uart16550 *u, uint8_t inputs);

#endif
