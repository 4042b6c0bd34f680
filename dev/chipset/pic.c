/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two 8259As in cascade (Intel 8259A data sheet 231468; ICH9 data sheet 5.8, 13.4).
 *
 * One lock for both; the INTR wire is set with it held, so that its levels arrive in
 * order. Device locks come before it, the APICs' after it.
 *
 * Where it differs from the data sheet: an edge stays latched in IRR when its input falls
 * before INTA (the chip would answer with IR7's vector), since models may pulse a line;
 * LTIM of ICW1 is ignored as in ICH9, where ELCR rules; SNGL and the 8080 modes are not there.
 */
#include "dev/chipset/pic.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"

#define CASCADE 2

/* ICW1, ICW4 */
#define ICW1_IC4  0x01
#define ICW1	  0x10
#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10
/* OCW3 */
#define OCW3	  0x08
#define OCW3_RIS  0x01
#define OCW3_RR	  0x02
#define OCW3_POLL 0x04
#define OCW3_SMM  0x20
#define OCW3_ESMM 0x40

enum init_step { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

struct chip_st {
	uint8_t lines;	 /* input levels */
	uint8_t latched; /* IRR bits of edge-triggered inputs */
	uint8_t isr, imr, elcr;
	uint8_t vector_base;
	uint8_t lowest; /* input of lowest priority */
	uint8_t icw3;
	uint8_t init; /* enum init_step: what the next write to the odd port is */
	bool want_icw4;
	bool aeoi, rotate_aeoi, sfnm;
	bool smm;      /* special mask mode */
	bool poll;     /* the next read is an acknowledge */
	bool read_isr; /* the even port reads ISR, not IRR */
};

struct pic_st {
	struct chip_st chip[2];
	bool intr; /* the master's INTR output */
};

struct pic {
	struct pic_wires w;
	pthread_mutex_t lock;
	bool started; /* the remote ones have the state */
	struct pic_st st;
};

#define CHIP(tag, i, member, kind) FIELD((tag) + 32 * (i), struct pic_st, chip[i].member, kind)
#define CHIP_FIELDS(i)                                                                                \
	CHIP(1, i, lines, FIELD_U8), CHIP(2, i, latched, FIELD_U8), CHIP(3, i, isr, FIELD_U8),        \
	    CHIP(4, i, imr, FIELD_U8), CHIP(5, i, elcr, FIELD_U8), CHIP(6, i, vector_base, FIELD_U8), \
	    CHIP(7, i, lowest, FIELD_U8), CHIP(8, i, icw3, FIELD_U8), CHIP(9, i, init, FIELD_U8),     \
	    CHIP(10, i, want_icw4, FIELD_BOOL), CHIP(11, i, aeoi, FIELD_BOOL),                        \
	    CHIP(12, i, rotate_aeoi, FIELD_BOOL), CHIP(13, i, sfnm, FIELD_BOOL),                      \
	    CHIP(14, i, smm, FIELD_BOOL), CHIP(15, i, poll, FIELD_BOOL), CHIP(16, i, read_isr, FIELD_BOOL)

static const struct field pic_fields[] = {
    CHIP_FIELDS(0),
    CHIP_FIELDS(1),
    FIELD(100, struct pic_st, intr, FIELD_BOOL),
};

static const struct field_table pic_table = {
    .name = "pic",
    .version = 1,
    .size = sizeof(struct pic_st),
    .count = ARRAY_LEN(pic_fields),
    .fields = pic_fields,
};

static const uint8_t elcr_mask[2] = {0xf8, 0xde}; /* IRQ 0, 1, 2, 8 and 13 are edge only */

/* ---- one chip ---- */

static uint8_t
chip_irr(const struct chip_st *c)
{
	return (c->latched & ~c->elcr) | (c->lines & c->elcr);
}

/* How far from the top the highest of these inputs stands: 0..7, or 8 for none. */
static unsigned
chip_rank(const struct chip_st *c, uint8_t inputs)
{
	unsigned rank = 0;

	while (rank < 8 && (inputs >> ((c->lowest + 1 + rank) & 7) & 1) == 0)
		rank++;
	return rank;
}

/* The input that the chip asks the processor (or master) to serve, or -1. */
static int
chip_request(const struct chip_st *c, bool master)
{
	unsigned rank = chip_rank(c, chip_irr(c) & ~c->imr);
	uint8_t blocking = c->isr;

	if (c->smm)
		blocking &= ~c->imr;
	/* Special fully nested mode: a slave in service may ask again, for an input of higher priority. */
	if (c->sfnm && master)
		blocking &= ~(1u << CASCADE);
	return rank < chip_rank(c, blocking) ? (int)((c->lowest + 1 + rank) & 7) : -1;
}

/* INTA for this input. */
static void
chip_acknowledge(struct chip_st *c, unsigned input)
{
	c->latched &= ~(1u << input);
	if (!c->aeoi)
		c->isr |= 1u << input;
	else if (c->rotate_aeoi)
		c->lowest = (uint8_t)input;
}

static void
chip_set_line(struct chip_st *c, unsigned input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (level && (c->lines & bit) == 0)
		c->latched |= bit;
	c->lines = level ? c->lines | bit : c->lines & ~bit;
}

/* ---- the pair ---- */

static void
set_intr(struct pic *p, bool level)
{
	if (p->w.remote != NULL)
		return; /* the remote ones have a wire of their own */
	if (level != p->st.intr) {
		p->st.intr = level;
		irq_set(&p->w.intr, level);
	}
}

/*
 * The slave's INT is the master's input 2, taken as a level: INT holds until served, and a
 * re-initialised master must not miss a request that stands. The master's INT is INTR.
 */
static void
update(struct pic *p)
{
	struct chip_st *master = &p->st.chip[0];

	if (chip_request(&p->st.chip[1], false) >= 0)
		master->latched |= 1u << CASCADE;
	else
		master->latched &= ~(1u << CASCADE);
	set_intr(p, chip_request(master, true) >= 0);
}

void
pic_set_irq(void *pic, unsigned irq, bool level)
{
	struct pic *p = pic;

	if (irq > 15 || irq == CASCADE)
		return;
	pthread_mutex_lock(&p->lock);
	chip_set_line(&p->st.chip[irq / 8], irq % 8, level);
	if (p->w.remote != NULL && p->started)
		p->w.remote->line(p->w.remote->ctx, irq, level);
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static uint8_t
slave_vector(struct chip_st *slave)
{
	int input = chip_request(slave, false);

	if (input < 0)
		return slave->vector_base | 7; /* spurious: IR7, not in service */
	chip_acknowledge(slave, (unsigned)input);
	return slave->vector_base | (uint8_t)input;
}

int
pic_ack(void *pic)
{
	struct pic *p = pic;
	struct chip_st *master = &p->st.chip[0];
	int input;
	uint8_t vector;

	pthread_mutex_lock(&p->lock);
	input = chip_request(master, true);
	vector = master->vector_base | (input < 0 ? 7 : (uint8_t)input);
	if (input >= 0) {
		chip_acknowledge(master, (unsigned)input);
		if (input == CASCADE)
			vector = slave_vector(&p->st.chip[1]);
	}
	/* INT falls for a moment with every INTA, so that an edge-sensing receiver sees the next request. */
	set_intr(p, false);
	update(p);
	pthread_mutex_unlock(&p->lock);
	return vector;
}

/* ---- chips in the host's kernel: lock held ---- */

static void
remote_send(struct pic *p)
{
	struct x86_pic to[2];

	for (unsigned i = 0; i < 2; i++) {
		const struct chip_st *c = &p->st.chip[i];

		to[i] = (struct x86_pic){
		    .lines = c->lines,
		    .latched = c->latched,
		    .isr = c->isr,
		    .imr = c->imr,
		    .elcr = c->elcr,
		    .vector_base = c->vector_base,
		    .lowest = c->lowest,
		    .init = c->init,
		    .want_icw4 = c->want_icw4,
		    .aeoi = c->aeoi,
		    .rotate_aeoi = c->rotate_aeoi,
		    .sfnm = c->sfnm,
		    .smm = c->smm,
		    .poll = c->poll,
		    .read_isr = c->read_isr,
		};
	}
	if (p->w.remote->set(p->w.remote->ctx, to) != 0)
		log_error("pic: the host's kernel does not take its state");
}

/* Levels are the devices', and were told here as well. */
static void
remote_fetch(struct pic *p)
{
	struct x86_pic from[2];

	if (p->w.remote->get(p->w.remote->ctx, from) != 0) {
		log_error("pic: the host's kernel does not give its state");
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct chip_st *c = &p->st.chip[i];

		*c = (struct chip_st){
		    .lines = c->lines,
		    .latched = from[i].latched,
		    .isr = from[i].isr,
		    .imr = from[i].imr,
		    .elcr = from[i].elcr,
		    .vector_base = from[i].vector_base,
		    .lowest = from[i].lowest,
		    .icw3 = c->icw3,
		    .init = from[i].init,
		    .want_icw4 = from[i].want_icw4,
		    .aeoi = from[i].aeoi,
		    .rotate_aeoi = from[i].rotate_aeoi,
		    .sfnm = from[i].sfnm,
		    .smm = from[i].smm,
		    .poll = from[i].poll,
		    .read_isr = from[i].read_isr,
		};
	}
}

/* A port is accessed. Guests do that in the host's kernel; here arrive what it leaves over, and the board's
 * own, as firmware. */
static void
begin_access(struct pic *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->w.remote != NULL && p->started)
		remote_fetch(p);
}

static void
end_access(struct pic *p, bool changed)
{
	if (p->w.remote != NULL && p->started && changed)
		remote_send(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- registers ---- */

static void
write_icw1(struct chip_st *c, uint8_t val)
{
	c->want_icw4 = (val & ICW1_IC4) != 0;
	c->latched = 0;
	c->isr = 0;
	c->imr = 0;
	c->lowest = 7;
	c->icw3 = 7;
	c->smm = false;
	c->read_isr = false;
	c->poll = false;
	c->rotate_aeoi = false;
	if (!c->want_icw4) {
		c->aeoi = false;
		c->sfnm = false;
	}
	c->init = INIT_ICW2;
}

/* The ISR bit that a non-specific EOI ends, or -1. */
static int
eoi_target(const struct chip_st *c)
{
	uint8_t isr = c->isr;
	unsigned rank;

	if (c->smm)
		isr &= ~c->imr;
	rank = chip_rank(c, isr);
	return rank < 8 ? (int)((c->lowest + 1 + rank) & 7) : -1;
}

/* OCW2: R, SL, EOI in bits 7-5, the level in bits 2-0. */
static void
write_ocw2(struct chip_st *c, uint8_t val)
{
	bool rotate = (val & 0x80) != 0, specific = (val & 0x40) != 0, eoi = (val & 0x20) != 0;
	int level = specific ? val & 7 : eoi_target(c);

	if (!eoi && !specific) {
		c->rotate_aeoi = rotate;
		return;
	}
	if (level < 0)
		return;
	if (eoi)
		c->isr &= ~(1u << level);
	if (rotate)
		c->lowest = (uint8_t)level;
}

static void
write_ocw3(struct chip_st *c, uint8_t val)
{
	if ((val & OCW3_ESMM) != 0)
		c->smm = (val & OCW3_SMM) != 0;
	c->poll = (val & OCW3_POLL) != 0;
	if (!c->poll && (val & OCW3_RR) != 0)
		c->read_isr = (val & OCW3_RIS) != 0;
}

static void
write_odd(struct chip_st *c, uint8_t val)
{
	switch (c->init) {
	case INIT_ICW2:
		c->vector_base = val & 0xf8;
		c->init = INIT_ICW3;
		break;
	case INIT_ICW3:
		c->icw3 = val;
		c->init = c->want_icw4 ? INIT_ICW4 : INIT_DONE;
		break;
	case INIT_ICW4:
		c->aeoi = (val & ICW4_AEOI) != 0;
		c->sfnm = (val & ICW4_SFNM) != 0;
		c->init = INIT_DONE;
		break;
	default:
		c->imr = val;
		break;
	}
}

static void
chip_write(struct pic *p, unsigned chip, uint64_t off, uint8_t val)
{
	struct chip_st *c = &p->st.chip[chip];

	begin_access(p);
	if (off != 0)
		write_odd(c, val);
	else if ((val & ICW1) != 0)
		write_icw1(c, val);
	else if ((val & OCW3) != 0)
		write_ocw3(c, val);
	else
		write_ocw2(c, val);
	update(p);
	end_access(p, true);
}

/* Poll: bit 7 and the input, acknowledged; or 0. */
static uint8_t
chip_poll(struct chip_st *c, bool master)
{
	int input = chip_request(c, master);

	c->poll = false;
	if (input < 0)
		return 0;
	chip_acknowledge(c, (unsigned)input);
	return 0x80 | (uint8_t)input;
}

static uint8_t
chip_read(struct pic *p, unsigned chip, uint64_t off)
{
	struct chip_st *c = &p->st.chip[chip];
	bool polled;
	uint8_t val;

	begin_access(p);
	polled = c->poll;
	if (polled) {
		val = chip_poll(c, chip == 0);
		update(p);
	} else if (off != 0) {
		val = c->imr;
	} else {
		val = c->read_isr ? c->isr : chip_irr(c);
	}
	end_access(p, polled);
	return val;
}

static uint64_t
master_read(void *dev, uint64_t off, unsigned size)
{
	(void)size;
	return chip_read(dev, 0, off);
}

static void
master_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	(void)size;
	chip_write(dev, 0, off, (uint8_t)val);
}

static uint64_t
slave_read(void *dev, uint64_t off, unsigned size)
{
	(void)size;
	return chip_read(dev, 1, off);
}

static void
slave_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	(void)size;
	chip_write(dev, 1, off, (uint8_t)val);
}

static uint64_t
elcr_read(void *dev, uint64_t off, unsigned size)
{
	struct pic *p = dev;
	uint8_t val;

	(void)size;
	begin_access(p);
	val = p->st.chip[off].elcr;
	end_access(p, false);
	return val;
}

static void
elcr_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pic *p = dev;

	(void)size;
	begin_access(p);
	p->st.chip[off].elcr = (uint8_t)val & elcr_mask[off];
	update(p);
	end_access(p, true);
}

int
pic_map(struct pic *p, struct io_bus *pio, struct err *err)
{
	const struct io_region regions[] = {
	    {"pic master", 0x20, 2, IO_W1 | IO_SPLIT, master_read, master_write, p},
	    {"pic slave", 0xa0, 2, IO_W1 | IO_SPLIT, slave_read, slave_write, p},
	    {"pic elcr", 0x4d0, 2, IO_W1 | IO_SPLIT, elcr_read, elcr_write, p},
	};

	for (size_t i = 0; i < ARRAY_LEN(regions); i++) {
		int rc = io_bus_add(pio, &regions[i], err);

		if (rc != 0)
			return rc;
	}
	return 0;
}

static void
pic_start(void *dev)
{
	struct pic *p = dev;

	pthread_mutex_lock(&p->lock);
	p->started = true;
	if (p->w.remote != NULL)
		remote_send(p);
	pthread_mutex_unlock(&p->lock);
}

static void
pic_stop(void *dev)
{
	struct pic *p = dev;

	pthread_mutex_lock(&p->lock);
	if (p->w.remote != NULL && p->started)
		remote_fetch(p);
	p->started = false;
	pthread_mutex_unlock(&p->lock);
}

/* ---- life ---- */

static void
pic_reset(void *dev)
{
	struct pic *p = dev;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < 2; i++) {
		/* The inputs are the devices'; they set them again when they are reset. */
		p->st.chip[i] = (struct chip_st){.lines = p->st.chip[i].lines, .lowest = 7, .icw3 = 7};
	}
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static void *
pic_st(void *dev)
{
	return &((struct pic *)dev)->st;
}

static int
pic_post_load(void *dev, struct err *err)
{
	struct pic *p = dev;

	for (unsigned i = 0; i < 2; i++) {
		const struct chip_st *c = &p->st.chip[i];

		if (c->lowest > 7 || c->init > INIT_ICW4 || (c->vector_base & 7) != 0 ||
		    (c->elcr & ~elcr_mask[i]) != 0)
			return err_set(err, EINVAL, "pic: chip %u: impossible state (damaged snapshot)", i);
	}
	irq_set(&p->w.intr, p->st.intr);
	return 0;
}

static void
pic_copy_st(void *dev, void *to)
{
	struct pic *p = dev;

	pthread_mutex_lock(&p->lock);
	if (p->w.remote != NULL && p->started)
		remote_fetch(p);
	*(struct pic_st *)to = p->st;
	pthread_mutex_unlock(&p->lock);
}

static void
pic_destroy(void *dev)
{
	struct pic *p = dev;

	if (p == NULL)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct pic *
pic_create(const struct pic_wires *w, struct err *err)
{
	struct pic *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, ENOMEM, "pic: no memory");
		return NULL;
	}
	p->w = *w;
	pthread_mutex_init(&p->lock, NULL);
	pic_reset(p);
	return p;
}

const struct device_ops pic_device_ops = {
    .type = "pic",
    .destroy = pic_destroy,
    .reset = pic_reset,
    .start = pic_start,
    .stop = pic_stop,
    .state = &pic_table,
    .st = pic_st,
    .post_load = pic_post_load,
    .copy_st = pic_copy_st,
};
