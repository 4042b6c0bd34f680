/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RST_CNT, port 0x92 and the 8042's command interface (ICH9 data sheet 13.7; IBM PC/AT
 * technical reference, keyboard controller). One mutex; reset() is called without it.
 */
#include "dev/chipset/resetctl.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "dev/bus.h"

enum {
	CF9_SYS_RST = 1 << 1,
	CF9_RST_CPU = 1 << 2,
	CF9_FULL_RST = 1 << 3,
	CF9_KEPT = CF9_SYS_RST | CF9_RST_CPU | CF9_FULL_RST
};
enum { P92_INIT_NOW = 1 << 0, P92_A20 = 1 << 1 };
enum {
	KBD_OBF = 0x01,
	KBD_SYS = 0x04,
	KBD_CMD = 0x08,
	KBD_UNLOCKED = 0x10,
	KBD_AUX_OBF = 0x20,
	KBD_TIMEOUT = 0x40
};
enum { OUTPORT_NO_RESET = 0x01, OUTPORT_A20 = 0x02, OUTPORT_IDLE = 0xcc };
enum { CCB_SYS = 0x04, CCB_KBD_OFF = 0x10, CCB_AUX_OFF = 0x20 };

struct resetctl_state {
	uint8_t cf9, port92;
	uint8_t kbd_status, kbd_data; /* the one-byte output buffer */
	uint8_t kbd_ccb;	      /* controller command byte */
	uint8_t kbd_outport;
	uint8_t kbd_expects; /* command whose data byte comes next, or 0 */
};

static const struct field resetctl_fields[] = {
    FIELD(1, struct resetctl_state, cf9, FIELD_U8),
    FIELD(2, struct resetctl_state, port92, FIELD_U8),
    FIELD(3, struct resetctl_state, kbd_status, FIELD_U8),
    FIELD(4, struct resetctl_state, kbd_data, FIELD_U8),
    FIELD(5, struct resetctl_state, kbd_ccb, FIELD_U8),
    FIELD(6, struct resetctl_state, kbd_outport, FIELD_U8),
    FIELD(7, struct resetctl_state, kbd_expects, FIELD_U8),
};

static const struct field_table resetctl_table = {
    .name = "resetctl",
    .version = 1,
    .size = sizeof(struct resetctl_state),
    .count = ARRAY_LEN(resetctl_fields),
    .fields = resetctl_fields,
};

struct resetctl {
	struct resetctl_wires w;
	pthread_mutex_t lock;
	struct resetctl_state st;
};

static void
unlock_and_reset(struct resetctl *r, bool reset)
{
	pthread_mutex_unlock(&r->lock);
	if (reset && r->w.reset != NULL)
		r->w.reset(r->w.ctx);
}

/* ---- 0xcf9 and 0x92 ---- */

uint8_t
resetctl_cf9_read(void *dev)
{
	struct resetctl *r = dev;
	uint8_t val;

	pthread_mutex_lock(&r->lock);
	val = r->st.cf9;
	pthread_mutex_unlock(&r->lock);
	return val;
}

/* RST_CPU going from 0 to 1 resets. SYS_RST chooses a hard reset or INIT of the processor only; with no
 * firmware to run from the reset vector, both start the machine anew. */
void
resetctl_cf9_write(void *dev, uint8_t val)
{
	struct resetctl *r = dev;
	bool reset;

	pthread_mutex_lock(&r->lock);
	reset = (val & ~r->st.cf9 & CF9_RST_CPU) != 0;
	r->st.cf9 = val & CF9_KEPT;
	unlock_and_reset(r, reset);
}

static uint64_t
port92_read(void *dev, uint64_t off, unsigned size)
{
	struct resetctl *r = dev;
	uint8_t val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&r->lock);
	val = r->st.port92;
	pthread_mutex_unlock(&r->lock);
	return val;
}

static void
port92_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct resetctl *r = dev;
	bool reset;

	(void)off;
	(void)size;
	pthread_mutex_lock(&r->lock);
	reset = (val & ~(uint64_t)r->st.port92 & P92_INIT_NOW) != 0;
	r->st.port92 = (uint8_t)val & (P92_INIT_NOW | P92_A20);
	unlock_and_reset(r, reset);
}

/* ---- keyboard controller ---- */

static void
kbd_reply(struct resetctl *r, uint8_t val, uint8_t status)
{
	r->st.kbd_data = val;
	r->st.kbd_status &= (uint8_t) ~(KBD_AUX_OBF | KBD_TIMEOUT);
	r->st.kbd_status |= KBD_OBF | status;
}

static bool
kbd_outport(struct resetctl *r, uint8_t val)
{
	r->st.kbd_outport = val;
	return (val & OUTPORT_NO_RESET) == 0;
}

static const struct kbd_reply {
	uint8_t cmd, val;
} kbd_replies[] = {
    {0xaa, 0x55}, /* self test passed */
    {0xa9, 0x00}, /* interface tests: lines are free */
    {0xab, 0x00},
    {0xc0, 0xbf}, /* input port: not locked, colour display, manufacturing jumper off */
};

/* Returns true for a reset. */
static bool
kbd_command(struct resetctl *r, uint8_t cmd)
{
	r->st.kbd_expects = 0;
	for (size_t i = 0; i < ARRAY_LEN(kbd_replies); i++) {
		if (kbd_replies[i].cmd == cmd)
			kbd_reply(r, kbd_replies[i].val, 0);
	}
	switch (cmd) {
	case 0x20:
		kbd_reply(r, r->st.kbd_ccb, 0);
		break;
	case 0xd0:
		kbd_reply(r, r->st.kbd_outport, 0);
		break;
	case 0x60: /* these take a data byte */
	case 0xd1:
	case 0xd2:
	case 0xd3:
	case 0xd4:
		r->st.kbd_expects = cmd;
		break;
	case 0xa7:
		r->st.kbd_ccb |= CCB_AUX_OFF;
		break;
	case 0xa8:
		r->st.kbd_ccb &= (uint8_t)~CCB_AUX_OFF;
		break;
	case 0xaa:
		r->st.kbd_status |= KBD_SYS;
		break;
	case 0xad:
		r->st.kbd_ccb |= CCB_KBD_OFF;
		break;
	case 0xae:
		r->st.kbd_ccb &= (uint8_t)~CCB_KBD_OFF;
		break;
	}
	return cmd >= 0xf0 && (cmd & 1) == 0; /* pulse output bit 0: RESET# */
}

static bool
kbd_data(struct resetctl *r, uint8_t val)
{
	uint8_t cmd = r->st.kbd_expects;

	r->st.kbd_expects = 0;
	switch (cmd) {
	case 0x60:
		r->st.kbd_ccb = val;
		return false;
	case 0xd1:
		return kbd_outport(r, val);
	case 0xd2: /* as if the keyboard or mouse had sent it */
		kbd_reply(r, val, 0);
		return false;
	case 0xd3:
		kbd_reply(r, val, KBD_AUX_OBF);
		return false;
	case 0xd4: /* no device answers: resend, with the time-out bit */
		kbd_reply(r, 0xfe, KBD_AUX_OBF | KBD_TIMEOUT);
		return false;
	default:
		kbd_reply(r, 0xfe, KBD_TIMEOUT);
		return false;
	}
}

static uint64_t
kbd_read(void *dev, uint64_t off, unsigned size)
{
	struct resetctl *r = dev;
	uint8_t val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&r->lock);
	val = r->st.kbd_data;
	r->st.kbd_status &= (uint8_t) ~(KBD_OBF | KBD_AUX_OBF | KBD_TIMEOUT);
	pthread_mutex_unlock(&r->lock);
	return val;
}

static void
kbd_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct resetctl *r = dev;
	bool reset;

	(void)off;
	(void)size;
	pthread_mutex_lock(&r->lock);
	r->st.kbd_status &= (uint8_t)~KBD_CMD;
	reset = kbd_data(r, (uint8_t)val);
	unlock_and_reset(r, reset);
}

static uint64_t
kbd_status_read(void *dev, uint64_t off, unsigned size)
{
	struct resetctl *r = dev;
	uint8_t val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&r->lock);
	val = r->st.kbd_status;
	pthread_mutex_unlock(&r->lock);
	return val;
}

static void
kbd_cmd_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct resetctl *r = dev;
	bool reset;

	(void)off;
	(void)size;
	pthread_mutex_lock(&r->lock);
	r->st.kbd_status |= KBD_CMD;
	reset = kbd_command(r, (uint8_t)val);
	unlock_and_reset(r, reset);
}

int
resetctl_map(struct resetctl *r, struct io_bus *pio, struct err *err)
{
	const struct io_region regions[] = {
	    {"port92", 0x92, 1, IO_W1, port92_read, port92_write, r},
	    {"kbd", 0x60, 1, IO_W1, kbd_read, kbd_write, r},
	    {"kbd", 0x64, 1, IO_W1, kbd_status_read, kbd_cmd_write, r},
	};

	for (size_t i = 0; i < ARRAY_LEN(regions); i++) {
		int ret = io_bus_add(pio, &regions[i], err);

		if (ret != 0)
			return ret;
	}
	return 0;
}

/* ---- device ---- */

static void
resetctl_reset(void *dev)
{
	struct resetctl *r = dev;

	pthread_mutex_lock(&r->lock);
	r->st = (struct resetctl_state){
	    .port92 = P92_A20,
	    .kbd_status = KBD_SYS | KBD_UNLOCKED,
	    .kbd_ccb = CCB_SYS | CCB_KBD_OFF | CCB_AUX_OFF,
	    .kbd_outport = OUTPORT_NO_RESET | OUTPORT_A20 | OUTPORT_IDLE,
	};
	pthread_mutex_unlock(&r->lock);
}

struct resetctl *
resetctl_create(const struct resetctl_wires *w, struct err *err)
{
	struct resetctl *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		err_set(err, ENOMEM, "reset control: no memory");
		return NULL;
	}
	r->w = *w;
	pthread_mutex_init(&r->lock, NULL);
	resetctl_reset(r);
	return r;
}

static void
resetctl_destroy(void *dev)
{
	struct resetctl *r = dev;

	if (r == NULL)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void *
resetctl_st(void *dev)
{
	return &((struct resetctl *)dev)->st;
}

const struct device_ops resetctl_device_ops = {
    .type = "resetctl",
    .destroy = resetctl_destroy,
    .reset = resetctl_reset,
    .state = &resetctl_table,
    .st = resetctl_st,
};
