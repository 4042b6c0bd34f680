/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PC16550D UART (National Semiconductor data sheet TL/C/8652), section numbers below are
 * its own. Everything happens under one mutex; the far end's tx() is called with it held,
 * rx_room() without it.
 */
#include "dev/chipset/uart16550.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"

#define UART_CLOCK_HZ	1843200u
#define UART_FIFO_BYTES 16u

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REG_COUNT };

enum { IER_RDA = 0x01, IER_THRE = 0x02, IER_RLS = 0x04, IER_MSR = 0x08, IER_MASK = 0x0f };
enum {
	IIR_NONE = 0x01,
	IIR_MSR = 0x00,
	IIR_THRE = 0x02,
	IIR_RDA = 0x04,
	IIR_RLS = 0x06,
	IIR_CTI = 0x0c,
	IIR_FIFO = 0xc0
};
enum { FCR_ENABLE = 0x01, FCR_RX_RESET = 0x02, FCR_TX_RESET = 0x04, FCR_KEPT = 0xc9 };
enum { LCR_WLS = 0x03, LCR_STB = 0x04, LCR_PEN = 0x08, LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10, MCR_MASK = 0x1f };
enum {
	LSR_DR = 0x01,
	LSR_OE = 0x02,
	LSR_PE = 0x04,
	LSR_FE = 0x08,
	LSR_BI = 0x10,
	LSR_THRE = 0x20,
	LSR_TEMT = 0x40,
	LSR_FIFO_ERR = 0x80
};
enum { MSR_DELTA = 0x0f, MSR_TERI = 0x04, MSR_LINES = 0xf0 };

#define LSR_CHAR_ERR (LSR_PE | LSR_FE | LSR_BI)
#define LSR_STICKY   (LSR_OE | LSR_CHAR_ERR)

struct uart_state {
	uint8_t ier, fcr, lcr, mcr;
	uint8_t lsr; /* LSR_STICKY bits; the others follow from the FIFOs */
	uint8_t msr; /* lines and deltas */
	uint8_t scr;
	uint8_t inputs; /* modem lines of the far end, as in MSR */
	uint16_t divisor;
	uint8_t thre_ip; /* THRE interrupt is pending (8.6.4) */
	uint8_t cti_ip;	 /* character timeout */
	uint8_t rx_count, tx_count;
	uint8_t pad[2];
	uint64_t cti_deadline_ns; /* 0: no character waits */
	uint8_t rx[UART_FIFO_BYTES];
	uint8_t rx_err[UART_FIFO_BYTES]; /* LSR_CHAR_ERR bits of each */
	uint8_t tx[UART_FIFO_BYTES];
};

static const struct field uart_fields[] = {
    FIELD(1, struct uart_state, ier, FIELD_U8),
    FIELD(2, struct uart_state, fcr, FIELD_U8),
    FIELD(3, struct uart_state, lcr, FIELD_U8),
    FIELD(4, struct uart_state, mcr, FIELD_U8),
    FIELD(5, struct uart_state, lsr, FIELD_U8),
    FIELD(6, struct uart_state, msr, FIELD_U8),
    FIELD(7, struct uart_state, scr, FIELD_U8),
    FIELD(8, struct uart_state, inputs, FIELD_U8),
    FIELD(9, struct uart_state, divisor, FIELD_U16),
    FIELD(10, struct uart_state, thre_ip, FIELD_U8),
    FIELD(11, struct uart_state, cti_ip, FIELD_U8),
    FIELD(12, struct uart_state, rx_count, FIELD_U8),
    FIELD(13, struct uart_state, tx_count, FIELD_U8),
    FIELD_TRANSIENT(struct uart_state, pad, 2),
    FIELD(14, struct uart_state, cti_deadline_ns, FIELD_U64),
    FIELD_ARRAY(15, struct uart_state, rx, FIELD_BYTES, UART_FIFO_BYTES),
    FIELD_ARRAY(16, struct uart_state, rx_err, FIELD_BYTES, UART_FIFO_BYTES),
    FIELD_ARRAY(17, struct uart_state, tx, FIELD_BYTES, UART_FIFO_BYTES),
};

static const struct field_table uart_table = {
    .name = "uart16550",
    .version = 1,
    .size = sizeof(struct uart_state),
    .count = ARRAY_LEN(uart_fields),
    .fields = uart_fields,
};

struct uart16550 {
	struct uart_wires w;
	pthread_mutex_t lock;
	struct uart_state st;
	/* derived */
	bool irq_level;
	bool rx_refused;	     /* the far end holds bytes */
	uint64_t rx_bytes, tx_bytes; /* over the line, for statistics */
	struct vm_timer cti_timer;
};

static bool
fifo_on(const struct uart16550 *u)
{
	return (u->st.fcr & FCR_ENABLE) != 0;
}

static bool
looped(const struct uart16550 *u)
{
	return (u->st.mcr & MCR_LOOP) != 0;
}

static unsigned
fifo_room(const struct uart16550 *u)
{
	return fifo_on(u) ? UART_FIFO_BYTES : 1;
}

/* Bytes that raise the received-data interrupt (8.5). */
static unsigned
rx_trigger(const struct uart16550 *u)
{
	static const uint8_t level[4] = {1, 4, 8, 14};

	return fifo_on(u) ? level[u->st.fcr >> 6] : 1;
}

/* ---- interrupts (8.6) ---- */

static bool
rls_pending(const struct uart16550 *u)
{
	return (u->st.lsr & LSR_STICKY) != 0;
}

static bool
rda_pending(const struct uart16550 *u)
{
	return u->st.rx_count >= rx_trigger(u);
}

static bool
cti_pending(const struct uart16550 *u)
{
	return u->st.cti_ip != 0;
}

static bool
thre_pending(const struct uart16550 *u)
{
	return u->st.thre_ip != 0;
}

static bool
msr_pending(const struct uart16550 *u)
{
	return (u->st.msr & MSR_DELTA) != 0;
}

/* The highest enabled pending source, as IIR shows it (table IV). */
static uint8_t
iir_id(const struct uart16550 *u)
{
	static const struct {
		uint8_t enable, id;
		bool (*pending)(const struct uart16550 *u);
	} source[] = {
	    {IER_RLS, IIR_RLS, rls_pending}, {IER_RDA, IIR_RDA, rda_pending},
	    {IER_RDA, IIR_CTI, cti_pending}, {IER_THRE, IIR_THRE, thre_pending},
	    {IER_MSR, IIR_MSR, msr_pending},
	};

	for (size_t i = 0; i < ARRAY_LEN(source); i++) {
		if ((u->st.ier & source[i].enable) != 0 && source[i].pending(u))
			return source[i].id;
	}
	return IIR_NONE;
}

/* The PC's line driver is enabled by OUT2, which loopback turns off. */
static void
irq_update(struct uart16550 *u)
{
	bool level = iir_id(u) != IIR_NONE && (u->st.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	if (level != u->irq_level) {
		u->irq_level = level;
		irq_set(&u->w.irq, level);
	}
}

/* Four character times (8.7), from divisor and frame. */
static uint64_t
cti_delay_ns(const struct uart16550 *u)
{
	uint64_t halves = 2 * (1 + 5 + (u->st.lcr & LCR_WLS)); /* half bits: start and data */

	halves += (u->st.lcr & LCR_PEN) != 0 ? 2 : 0;
	halves += (u->st.lcr & LCR_STB) == 0 ? 2 : (u->st.lcr & LCR_WLS) == 0 ? 3 : 4;
	return 4 * halves * 16 * MAX(u->st.divisor, 1) * NSEC_PER_SEC / (2ull * UART_CLOCK_HZ);
}

static void
cti_restart(struct uart16550 *u)
{
	u->st.cti_deadline_ns = 0;
	if (fifo_on(u) && u->st.rx_count > 0)
		u->st.cti_deadline_ns = vm_clock_now_ns(u->w.clock) + cti_delay_ns(u);
}

/* The timer runs only while its interrupt could be seen. */
static void
cti_arm(struct uart16550 *u)
{
	bool wanted =
	    u->st.cti_deadline_ns != 0 && !u->st.cti_ip && (u->st.ier & IER_RDA) != 0 && !rda_pending(u);

	if (!wanted)
		vm_timer_cancel(&u->cti_timer);
	else if (!vm_timer_armed(&u->cti_timer) || u->cti_timer.deadline_ns != u->st.cti_deadline_ns)
		vm_timer_set(&u->cti_timer, u->st.cti_deadline_ns);
}

static void
cti_look(struct uart16550 *u)
{
	if (u->st.cti_deadline_ns != 0 && vm_clock_now_ns(u->w.clock) >= u->st.cti_deadline_ns)
		u->st.cti_ip = 1;
}

static void
cti_expired(void *arg)
{
	struct uart16550 *u = arg;

	pthread_mutex_lock(&u->lock);
	cti_look(u);
	cti_arm(u);
	irq_update(u);
	pthread_mutex_unlock(&u->lock);
}

/* ---- receiver ---- */

/* Errors of a character show in LSR when it comes to the top (8.4). */
static void
rx_reveal(struct uart16550 *u)
{
	if (u->st.rx_count > 0)
		u->st.lsr |= u->st.rx_err[0];
}

static void
rx_push(struct uart16550 *u, uint8_t byte, uint8_t errors)
{
	if (u->st.rx_count == fifo_room(u)) {
		u->st.lsr |= LSR_OE;
		if (fifo_on(u))
			return; /* the shift register is overwritten, the FIFO stays */
		u->st.rx_count = 0;
	}
	u->st.rx[u->st.rx_count] = byte;
	u->st.rx_err[u->st.rx_count] = errors;
	if (u->st.rx_count++ == 0)
		rx_reveal(u);
	cti_restart(u);
}

static uint8_t
rx_pop(struct uart16550 *u)
{
	uint8_t byte = u->st.rx[0];

	/* An empty FIFO gives the last character again. */
	if (u->st.rx_count > 0) {
		u->st.rx_count--;
		memmove(&u->st.rx[0], &u->st.rx[1], u->st.rx_count);
		memmove(&u->st.rx_err[0], &u->st.rx_err[1], u->st.rx_count);
		u->st.rx_err[u->st.rx_count] = 0;
		rx_reveal(u);
	}
	u->st.cti_ip = 0;
	cti_restart(u);
	return byte;
}

static void
rx_clear(struct uart16550 *u)
{
	u->st.rx_count = 0;
	memset(u->st.rx_err, 0, sizeof(u->st.rx_err));
	u->st.cti_ip = 0;
	u->st.cti_deadline_ns = 0;
}

/* ---- transmitter ---- */

/* The data bits of a frame count in loopback only: tiny guests print without ever programming LCR. */
static uint8_t
frame_mask(const struct uart16550 *u)
{
	return (uint8_t)(0xff >> (3 - (u->st.lcr & LCR_WLS)));
}

static bool
tx_one(struct uart16550 *u, uint8_t byte)
{
	if (looped(u)) {
		rx_push(u, byte & frame_mask(u), 0);
		return true;
	}
	if (u->w.line.tx != NULL && !u->w.line.tx(u->w.line.ctx, byte))
		return false;
	u->tx_bytes++;
	return true;
}

static void
tx_drain(struct uart16550 *u)
{
	unsigned done = 0;

	if (u->st.tx_count == 0)
		return;
	while (done < u->st.tx_count && tx_one(u, u->st.tx[done]))
		done++;
	u->st.tx_count -= (uint8_t)done;
	memmove(&u->st.tx[0], &u->st.tx[done], u->st.tx_count);
	if (u->st.tx_count == 0)
		u->st.thre_ip = 1;
}

static void
tx_push(struct uart16550 *u, uint8_t byte)
{
	u->st.thre_ip = 0;
	if (u->st.tx_count == fifo_room(u)) {
		if (fifo_on(u))
			return;
		u->st.tx_count = 0; /* THR is overwritten */
	}
	u->st.tx[u->st.tx_count++] = byte;
	tx_drain(u);
}

/* ---- modem lines (8.8, 8.9) ---- */

static uint8_t
modem_lines(const struct uart16550 *u)
{
	uint8_t mcr = u->st.mcr;

	if (!looped(u))
		return u->st.inputs;
	return (
	    uint8_t)(((mcr & MCR_RTS) != 0 ? UART_MSR_CTS : 0) | ((mcr & MCR_DTR) != 0 ? UART_MSR_DSR : 0) |
		     ((mcr & MCR_OUT1) != 0 ? UART_MSR_RI : 0) | ((mcr & MCR_OUT2) != 0 ? UART_MSR_DCD : 0));
}

static void
modem_update(struct uart16550 *u)
{
	uint8_t old = u->st.msr & MSR_LINES, now = modem_lines(u);
	uint8_t delta = (uint8_t)((old ^ now) >> 4);

	/* TERI: only the trailing edge of RI counts. */
	if ((old & UART_MSR_RI) == 0 || (now & UART_MSR_RI) != 0)
		delta &= (uint8_t)~MSR_TERI;
	u->st.msr = (uint8_t)(now | (u->st.msr & MSR_DELTA) | delta);
}

/* ---- registers ---- */

static uint8_t
read_data(struct uart16550 *u)
{
	if ((u->st.lcr & LCR_DLAB) != 0)
		return (uint8_t)u->st.divisor;
	return rx_pop(u);
}

static uint8_t
read_ier(struct uart16550 *u)
{
	return (u->st.lcr & LCR_DLAB) != 0 ? (uint8_t)(u->st.divisor >> 8) : u->st.ier;
}

static uint8_t
read_iir(struct uart16550 *u)
{
	uint8_t id;

	cti_look(u);
	id = iir_id(u);
	if (id == IIR_THRE)
		u->st.thre_ip = 0;
	return (uint8_t)(id | (fifo_on(u) ? IIR_FIFO : 0));
}

static uint8_t
read_lcr(struct uart16550 *u)
{
	return u->st.lcr;
}

static uint8_t
read_mcr(struct uart16550 *u)
{
	return u->st.mcr;
}

static uint8_t
read_lsr(struct uart16550 *u)
{
	uint8_t val = u->st.lsr;

	val |= u->st.rx_count > 0 ? LSR_DR : 0;
	val |= u->st.tx_count == 0 ? LSR_THRE | LSR_TEMT : 0;
	if (fifo_on(u)) {
		for (unsigned i = 0; i < u->st.rx_count; i++)
			val |= u->st.rx_err[i] != 0 ? LSR_FIFO_ERR : 0;
	}
	u->st.lsr = 0;
	u->st.rx_err[0] = 0;
	return val;
}

static uint8_t
read_msr(struct uart16550 *u)
{
	uint8_t val = u->st.msr;

	u->st.msr &= MSR_LINES;
	return val;
}

static uint8_t
read_scr(struct uart16550 *u)
{
	return u->st.scr;
}

static void
write_data(struct uart16550 *u, uint8_t val)
{
	if ((u->st.lcr & LCR_DLAB) != 0)
		u->st.divisor = (uint16_t)((u->st.divisor & 0xff00) | val);
	else
		tx_push(u, val);
}

/* Enabling the THRE interrupt while the transmitter is empty raises it, each time: Linux's start-up tests
 * for this and falls back to polling when it is missing. */
static void
write_ier(struct uart16550 *u, uint8_t val)
{
	uint8_t set = (uint8_t)(val & ~u->st.ier);

	if ((u->st.lcr & LCR_DLAB) != 0) {
		u->st.divisor = (uint16_t)((u->st.divisor & 0xff) | val << 8);
		return;
	}
	u->st.ier = val & IER_MASK;
	if ((set & IER_THRE) != 0 && u->st.tx_count == 0)
		u->st.thre_ip = 1;
}

static void
write_fcr(struct uart16550 *u, uint8_t val)
{
	/* Bit 0 must be set for the others to be programmed; a change of it clears both FIFOs (8.5). */
	if ((val & FCR_ENABLE) == 0)
		val = 0;
	if (((val ^ u->st.fcr) & FCR_ENABLE) != 0)
		val |= FCR_RX_RESET | FCR_TX_RESET;
	if ((val & FCR_RX_RESET) != 0)
		rx_clear(u);
	if ((val & FCR_TX_RESET) != 0 && u->st.tx_count > 0) {
		u->st.tx_count = 0;
		u->st.thre_ip = 1;
	}
	u->st.fcr = val & FCR_KEPT;
}

static void
write_lcr(struct uart16550 *u, uint8_t val)
{
	bool break_starts = (val & ~u->st.lcr & LCR_BREAK) != 0;

	u->st.lcr = val;
	if (break_starts && looped(u))
		rx_push(u, 0, LSR_BI);
}

static void
write_mcr(struct uart16550 *u, uint8_t val)
{
	u->st.mcr = val & MCR_MASK;
	modem_update(u);
	tx_drain(u); /* loopback takes what the far end refused, and the other way round */
}

/* LSR is for factory tests, MSR is read-only. */
static void
write_nothing(struct uart16550 *u, uint8_t val)
{
	(void)u;
	(void)val;
}

static void
write_scr(struct uart16550 *u, uint8_t val)
{
	u->st.scr = val;
}

static const struct {
	uint8_t (*read)(struct uart16550 *u);
	void (*write)(struct uart16550 *u, uint8_t val);
} uart_reg[REG_COUNT] = {
    [REG_DATA] = {read_data, write_data},  [REG_IER] = {read_ier, write_ier},
    [REG_IIR_FCR] = {read_iir, write_fcr}, [REG_LCR] = {read_lcr, write_lcr},
    [REG_MCR] = {read_mcr, write_mcr},	   [REG_LSR] = {read_lsr, write_nothing},
    [REG_MSR] = {read_msr, write_nothing}, [REG_SCR] = {read_scr, write_scr},
};

/* After any access: timer, interrupt line; and unlock. */
static void
settle(struct uart16550 *u)
{
	bool room = u->rx_refused && u->st.rx_count == 0 && !looped(u);

	if (room)
		u->rx_refused = false;
	cti_arm(u);
	irq_update(u);
	pthread_mutex_unlock(&u->lock);
	if (room && u->w.line.rx_room != NULL)
		u->w.line.rx_room(u->w.line.ctx);
}

static uint64_t
uart_io_read(void *dev, uint64_t off, unsigned size)
{
	struct uart16550 *u = dev;
	uint8_t val;

	(void)size;
	pthread_mutex_lock(&u->lock);
	val = uart_reg[off].read(u);
	settle(u);
	return val;
}

static void
uart_io_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct uart16550 *u = dev;

	(void)size;
	pthread_mutex_lock(&u->lock);
	uart_reg[off].write(u, (uint8_t)val);
	settle(u);
}

int
uart_map(struct uart16550 *u, struct io_bus *pio, uint16_t base, struct err *err)
{
	const struct io_region r = {
	    .name = "uart16550",
	    .base = base,
	    .len = REG_COUNT,
	    .widths = IO_W1 | IO_SPLIT,
	    .read = uart_io_read,
	    .write = uart_io_write,
	    .dev = u,
	};

	return io_bus_add(pio, &r, err);
}

/* ---- the line ---- */

size_t
uart_rx(struct uart16550 *u, const uint8_t *buf, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&u->lock);
	while (n < len && !looped(u) && u->st.rx_count < fifo_room(u))
		rx_push(u, buf[n++], 0);
	u->rx_bytes += n;
	if (n < len)
		u->rx_refused = true;
	cti_arm(u);
	irq_update(u);
	pthread_mutex_unlock(&u->lock);
	return n;
}

void
uart_rx_break(struct uart16550 *u)
{
	pthread_mutex_lock(&u->lock);
	if (!looped(u))
		rx_push(u, 0, LSR_BI);
	cti_arm(u);
	irq_update(u);
	pthread_mutex_unlock(&u->lock);
}

void
uart_tx_ready(struct uart16550 *u)
{
	pthread_mutex_lock(&u->lock);
	tx_drain(u);
	settle(u);
}

void
uart_set_modem(struct uart16550 *u, uint8_t inputs)
{
	pthread_mutex_lock(&u->lock);
	u->st.inputs = inputs & MSR_LINES;
	modem_update(u);
	irq_update(u);
	pthread_mutex_unlock(&u->lock);
}

/* ---- device ---- */

/* Master reset (table II). The scratch and divisor registers keep their values on the hardware; a PC's
 * firmware leaves 9600 baud. */
static void
state_reset(struct uart16550 *u, uint8_t inputs)
{
	memset(&u->st, 0, sizeof(u->st));
	u->st.divisor = 12;
	u->st.inputs = inputs;
	u->st.msr = inputs;
}

static void
uart_reset(void *dev)
{
	struct uart16550 *u = dev;

	pthread_mutex_lock(&u->lock);
	state_reset(u, u->st.inputs);
	settle(u);
}

struct uart16550 *
uart_create(const struct uart_wires *w, struct err *err)
{
	struct uart16550 *u = calloc(1, sizeof(*u));

	if (u == NULL) {
		err_set(err, ENOMEM, "uart16550: no memory");
		return NULL;
	}
	u->w = *w;
	pthread_mutex_init(&u->lock, NULL);
	vm_timer_init(&u->cti_timer, w->clock, cti_expired, u);
	state_reset(u, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
	return u;
}

static void
uart_destroy(void *dev)
{
	struct uart16550 *u = dev;

	if (u == NULL)
		return;
	vm_timer_cancel(&u->cti_timer);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static void
uart_stop(void *dev)
{
	struct uart16550 *u = dev;

	vm_timer_cancel(&u->cti_timer);
}

static void
uart_start(void *dev)
{
	struct uart16550 *u = dev;

	pthread_mutex_lock(&u->lock);
	cti_arm(u);
	pthread_mutex_unlock(&u->lock);
}

static void *
uart_st(void *dev)
{
	return &((struct uart16550 *)dev)->st;
}

static int
uart_post_load(void *dev, struct err *err)
{
	struct uart16550 *u = dev;

	pthread_mutex_lock(&u->lock);
	if (u->st.rx_count > fifo_room(u) || u->st.tx_count > fifo_room(u)) {
		state_reset(u, u->st.inputs & MSR_LINES);
		pthread_mutex_unlock(&u->lock);
		return err_set(err, EINVAL,
			       "uart16550: more bytes in a FIFO than it holds (the snapshot is damaged)");
	}
	u->st.ier &= IER_MASK;
	u->st.fcr &= FCR_KEPT;
	u->st.mcr &= MCR_MASK;
	u->st.lsr &= LSR_STICKY;
	u->irq_level = false;
	u->rx_refused = true; /* so that the far end hears when it may go on */
	settle(u);
	return 0;
}

static void
uart_stats(void *dev, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct uart16550 *u = dev;
	uint64_t rx, tx;

	pthread_mutex_lock(&u->lock);
	rx = u->rx_bytes;
	tx = u->tx_bytes;
	pthread_mutex_unlock(&u->lock);
	fn(arg, "rx.bytes", rx);
	fn(arg, "tx.bytes", tx);
}

const struct device_ops uart_device_ops = {
    .type = "uart16550",
    .destroy = uart_destroy,
    .reset = uart_reset,
    .start = uart_start,
    .stop = uart_stop,
    .state = &uart_table,
    .st = uart_st,
    .post_load = uart_post_load,
    .stats = uart_stats,
};
