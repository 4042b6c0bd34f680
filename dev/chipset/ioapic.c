/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APIC (82093AA, Intel 290566; ICH9 data sheet 13.5).
 *
 * One lock. Messages to the APICs go out with it held (an APIC's lock comes after it), so
 * that remote IRR and the message are one step against an EOI that comes back. EOIs arrive
 * with no APIC lock held.
 *
 * Redirection entry:
 *
 *     63..56  55..17  16    15     14   13      12      11    10..8  7..0
 *     dest    0       mask  level  rIRR low-act status  logic mode   vector
 */
#include "dev/chipset/ioapic.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"
#include "dev/chipset/lapic.h"

#define IOAPIC_LEN     0x1000
#define IOAPIC_VERSION 0x20u

/* Memory-mapped registers */
#define R_IOREGSEL 0x00
#define R_IOWIN	   0x10
#define R_EOI	   0x40
/* Indexed registers */
#define I_ID	0x00
#define I_VER	0x01
#define I_ARB	0x02
#define I_REDIR 0x10

#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL      BIT(15)
#define RTE_MASKED     BIT(16)
#define RTE_LOGICAL    BIT(11)
/* What a write changes: not delivery status (12), not remote IRR (14), not the reserved middle. */
#define RTE_WRITABLE (0xffull << 56 | 0x1afffull)
/* What a remapping unit wants as well: the message's address bits 11:4. */
#define RTE_REMAP (0xffull << 48)

/* What no message shows. */
#define RTE_SILENT (RTE_MASKED | RTE_REMOTE_IRR | BIT(12) | BIT(13))

enum { MODE_FIXED = 0, MODE_LOWEST = 1, MODE_SMI = 2, MODE_NMI = 4, MODE_INIT = 5, MODE_EXTINT = 7 };

struct ioapic_st {
	uint64_t redir[IOAPIC_PINS];
	uint32_t lines; /* input levels */
	uint32_t id;	/* the ID register, bits 27:24 */
	uint32_t select;
	uint32_t pad;
};

struct ioapic {
	struct ioapic_cfg cfg;
	struct ioapic_wires w;
	pthread_mutex_t lock;
	bool started; /* the remote one has the state */
	struct ioapic_st st;
};

static const struct field ioapic_fields[] = {
    FIELD_ARRAY(1, struct ioapic_st, redir, FIELD_U64, IOAPIC_PINS),
    FIELD(2, struct ioapic_st, lines, FIELD_U32),
    FIELD(3, struct ioapic_st, id, FIELD_U32),
    FIELD(4, struct ioapic_st, select, FIELD_U32),
    FIELD_TRANSIENT(struct ioapic_st, pad, 4),
};

static const struct field_table ioapic_table = {
    .name = "ioapic",
    .version = 1,
    .size = sizeof(struct ioapic_st),
    .count = ARRAY_LEN(ioapic_fields),
    .fields = ioapic_fields,
};

/* ---- interrupts ---- */

static uint64_t
writable(const struct ioapic *io)
{
	return RTE_WRITABLE | (io->w.msi != NULL ? RTE_REMAP : 0);
}

/* Only fixed and lowest priority have a level form; the others are edges whatever bit 15 says. */
static bool
is_level(uint64_t rte)
{
	unsigned mode = (unsigned)bits(rte, 8, 3);

	return (rte & RTE_LEVEL) != 0 && (mode == MODE_FIXED || mode == MODE_LOWEST);
}

/* Address 19:4 are entry bits 63:48, 2 is bit 11; data is mode and vector, asserted, and the trigger. */
static bool
send_msi(struct ioapic *io, uint64_t rte)
{
	uint32_t addr = 0xfee00000u | (uint32_t)(rte >> 48) << 4 | (uint32_t)bits(rte, 11, 1) << 2;
	uint32_t data = (uint32_t)(rte & 0x7ff) | 1u << 14 | (is_level(rte) ? 1u << 15 : 0);

	return io->w.msi(io->w.msi_ctx, addr, data);
}

static bool
send(struct ioapic *io, uint64_t rte)
{
	if (io->w.msi != NULL)
		return send_msi(io, rte);
	return io->w.message(io->w.ctx, (uint32_t)(rte >> 56), (rte & RTE_LOGICAL) != 0,
			     (unsigned)bits(rte, 8, 3), (uint8_t)rte, is_level(rte));
}

/* Masked pins too: an interrupt that is in service when its pin is masked still ends. */
static void
tell_pins(struct ioapic *io)
{
	struct x86_pin_message pin[IOAPIC_PINS];
	unsigned count = 0;

	if (io->w.pins == NULL)
		return;
	for (unsigned n = 0; n < IOAPIC_PINS; n++) {
		uint64_t rte = io->st.redir[n];

		if (!is_level(rte) || (uint8_t)rte < 16)
			continue;
		pin[count].pin = n;
		lapic_message_as_msi((uint32_t)(rte >> 56), (rte & RTE_LOGICAL) != 0,
				     (unsigned)bits(rte, 8, 3), (uint8_t)rte, true, &pin[count].addr,
				     &pin[count].data);
		count++;
	}
	io->w.pins(io->w.pins_ctx, pin, count);
}

/* A level pin that is asserted, not masked and not in service sends. */
static void
service_level(struct ioapic *io, unsigned pin)
{
	uint64_t rte = io->st.redir[pin];

	if ((rte & (RTE_MASKED | RTE_REMOTE_IRR)) != 0 || !is_level(rte) || (io->st.lines >> pin & 1) == 0)
		return;
	/* Not taken by any APIC: stays pending, tried again at the next event of this pin. */
	if (send(io, rte))
		io->st.redir[pin] |= RTE_REMOTE_IRR;
}

void
ioapic_set_irq(void *ioapic, unsigned pin, bool level)
{
	struct ioapic *io = ioapic;
	bool rising;

	if (pin >= IOAPIC_PINS)
		return;
	pthread_mutex_lock(&io->lock);
	rising = level && (io->st.lines >> pin & 1) == 0;
	io->st.lines = level ? io->st.lines | 1u << pin : io->st.lines & ~(1u << pin);
	if (io->w.remote != NULL && io->started)
		io->w.remote->line(io->w.remote->ctx, pin, level);
	else if (io->w.remote != NULL)
		; /* its inputs go there with the rest */
	else if (is_level(io->st.redir[pin]))
		service_level(io, pin);
	else if (rising && (io->st.redir[pin] & RTE_MASKED) == 0)
		(void)send(io, io->st.redir[pin]); /* an edge on a masked pin is lost (82093AA 3.2.4) */
	pthread_mutex_unlock(&io->lock);
}

void
ioapic_eoi(void *ioapic, uint8_t vector)
{
	struct ioapic *io = ioapic;

	pthread_mutex_lock(&io->lock);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t rte = io->st.redir[pin];

		if ((rte & RTE_REMOTE_IRR) != 0 && (uint8_t)rte == vector) {
			io->st.redir[pin] = rte & ~RTE_REMOTE_IRR;
			service_level(io, pin);
		}
	}
	pthread_mutex_unlock(&io->lock);
}

/* ---- registers: lock held ---- */

static void
write_redir(struct ioapic *io, unsigned index, uint32_t val)
{
	unsigned pin = (index - I_REDIR) / 2, shift = (index & 1) * 32;
	uint64_t old = io->st.redir[pin], changed = (uint64_t)val << shift;
	uint64_t mask = writable(io) & (0xffffffffull << shift);

	io->st.redir[pin] = (old & ~mask) | (changed & mask);
	/* An edge entry has no remote IRR: making it edge is how older systems clear a stuck one. */
	if (!is_level(io->st.redir[pin]))
		io->st.redir[pin] &= ~RTE_REMOTE_IRR;
	if ((is_level(old) || is_level(io->st.redir[pin])) && ((old ^ io->st.redir[pin]) & ~RTE_SILENT) != 0)
		tell_pins(io);
	service_level(io, pin);
}

static uint32_t
read_index(const struct ioapic *io)
{
	unsigned i = io->st.select;

	switch (i) {
	case I_ID:
	case I_ARB: /* no serial bus: arbitration follows the id */
		return io->st.id;
	case I_VER:
		return IOAPIC_VERSION | (IOAPIC_PINS - 1) << 16;
	default:
		if (i >= I_REDIR && i < I_REDIR + 2 * IOAPIC_PINS)
			return (uint32_t)(io->st.redir[(i - I_REDIR) / 2] >> ((i & 1) * 32));
		return 0xffffffff;
	}
}

static void
write_index(struct ioapic *io, uint32_t val)
{
	unsigned i = io->st.select;

	if (i == I_ID)
		io->st.id = val & 0x0f000000;
	else if (i >= I_REDIR && i < I_REDIR + 2 * IOAPIC_PINS)
		write_redir(io, i, val);
}

/* Bytes and words within a register: the chip decodes A7-A0 only as far as the register. */
static uint64_t
ioapic_read(void *dev, uint64_t off, unsigned size)
{
	struct ioapic *io = dev;
	uint32_t val = 0;

	(void)size;
	pthread_mutex_lock(&io->lock);
	switch (off & 0xfc) {
	case R_IOREGSEL:
		val = io->st.select;
		break;
	case R_IOWIN:
		val = read_index(io);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&io->lock);
	return val >> (8 * (off & 3));
}

static void
ioapic_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct ioapic *io = dev;

	(void)size;
	if ((off & 3) != 0)
		return;
	if ((off & 0xff) == R_EOI) {
		ioapic_eoi(io, (uint8_t)val);
		return;
	}
	pthread_mutex_lock(&io->lock);
	if ((off & 0xff) == R_IOREGSEL)
		io->st.select = val & 0xff;
	else if ((off & 0xff) == R_IOWIN)
		write_index(io, (uint32_t)val);
	pthread_mutex_unlock(&io->lock);
}

int
ioapic_map(struct ioapic *io, struct io_bus *mmio, struct err *err)
{
	const struct io_region r = {"ioapic",	 io->cfg.base, IOAPIC_LEN, IO_W1 | IO_W2 | IO_W4 | IO_SPLIT,
				    ioapic_read, ioapic_write, io};

	return io->w.remote != NULL ? 0 : io_bus_add(mmio, &r, err);
}

/* ---- one in the host's kernel: lock held ---- */

static void
remote_send(struct ioapic *io)
{
	struct x86_ioapic to = {.id = io->st.id, .select = io->st.select, .lines = io->st.lines};

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		to.redir[pin] = io->st.redir[pin];
	if (io->w.remote->set(io->w.remote->ctx, &to) != 0)
		log_error("ioapic: the host's kernel does not take its state");
}

/* Levels are the devices', and were told here as well. */
static void
remote_fetch(struct ioapic *io)
{
	struct x86_ioapic from;

	if (io->w.remote->get(io->w.remote->ctx, &from) != 0) {
		log_error("ioapic: the host's kernel does not give its state");
		return;
	}
	io->st.id = from.id & 0x0f000000;
	io->st.select = from.select & 0xff;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->st.redir[pin] = from.redir[pin] & (RTE_WRITABLE | RTE_REMOTE_IRR);
		if (!is_level(io->st.redir[pin]))
			io->st.redir[pin] &= ~RTE_REMOTE_IRR;
	}
}

static void
ioapic_start(void *dev)
{
	struct ioapic *io = dev;

	pthread_mutex_lock(&io->lock);
	io->started = true;
	if (io->w.remote != NULL)
		remote_send(io);
	pthread_mutex_unlock(&io->lock);
}

static void
ioapic_stop(void *dev)
{
	struct ioapic *io = dev;

	pthread_mutex_lock(&io->lock);
	if (io->w.remote != NULL && io->started)
		remote_fetch(io);
	io->started = false;
	pthread_mutex_unlock(&io->lock);
}

/* ---- life ---- */

static void
ioapic_reset(void *dev)
{
	struct ioapic *io = dev;

	pthread_mutex_lock(&io->lock);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->st.redir[pin] = RTE_MASKED;
	io->st.id = (uint32_t)io->cfg.id << 24;
	io->st.select = 0;
	tell_pins(io);
	pthread_mutex_unlock(&io->lock);
}

static void *
ioapic_st(void *dev)
{
	return &((struct ioapic *)dev)->st;
}

static int
ioapic_post_load(void *dev, struct err *err)
{
	struct ioapic *io = dev;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t rte = io->st.redir[pin];

		if ((rte & ~(writable(io) | RTE_REMOTE_IRR)) != 0 ||
		    ((rte & RTE_REMOTE_IRR) != 0 && !is_level(rte)))
			return err_set(err, EINVAL, "ioapic: pin %u: impossible state (damaged snapshot)",
				       pin);
	}
	if ((io->st.id & ~0x0f000000u) != 0 || io->st.select > 0xff || io->st.lines >> IOAPIC_PINS != 0)
		return err_set(err, EINVAL, "ioapic: impossible state (damaged snapshot)");
	tell_pins(io);
	return 0;
}

static void
ioapic_copy_st(void *dev, void *to)
{
	struct ioapic *io = dev;

	pthread_mutex_lock(&io->lock);
	if (io->w.remote != NULL && io->started)
		remote_fetch(io);
	*(struct ioapic_st *)to = io->st;
	pthread_mutex_unlock(&io->lock);
}

static void
ioapic_destroy(void *dev)
{
	struct ioapic *io = dev;

	if (io == NULL)
		return;
	pthread_mutex_destroy(&io->lock);
	free(io);
}

struct ioapic *
ioapic_create(const struct ioapic_cfg *cfg, const struct ioapic_wires *w, struct err *err)
{
	struct ioapic *io = calloc(1, sizeof(*io));

	if (io == NULL) {
		err_set(err, ENOMEM, "ioapic: no memory");
		return NULL;
	}
	io->cfg = *cfg;
	if (io->cfg.base == 0)
		io->cfg.base = IOAPIC_DEFAULT_BASE;
	io->cfg.id &= 0xf;
	io->w = *w;
	pthread_mutex_init(&io->lock, NULL);
	ioapic_reset(io);
	return io;
}

const struct device_ops ioapic_device_ops = {
    .type = "ioapic",
    .destroy = ioapic_destroy,
    .reset = ioapic_reset,
    .start = ioapic_start,
    .stop = ioapic_stop,
    .state = &ioapic_table,
    .st = ioapic_st,
    .post_load = ioapic_post_load,
    .copy_st = ioapic_copy_st,
};
