/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ICH9 power management registers (data sheet 13.8; ACPI 6.4 4.8.3). The PM timer is
 * computed from the VM clock when it is read; a VM timer runs only while its carry
 * interrupt is enabled. poweroff() is called with no lock held.
 */
#include "dev/chipset/acpipm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"

enum {
	REG_PM1_STS = 0x00,
	REG_PM1_EN = 0x02,
	REG_PM1_CNT = 0x04,
	REG_PM_TMR = 0x08,
	REG_GPE0_STS = 0x20,
	REG_GPE0_EN = 0x28,
	REG_SMI_EN = 0x30
};
enum {
	PM1_TMR = 1 << 0,
	PM1_GBL = 1 << 5,
	PM1_PWRBTN = 1 << 8,
	PM1_SLPBTN = 1 << 9,
	PM1_RTC = 1 << 10,
	PM1_WAK = 1 << 15,
	PM1_EVENTS = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC,
};
enum {
	CNT_SCI_EN = 1 << 0,
	CNT_BM_RLD = 1 << 1,
	CNT_SLP_TYP_SHIFT = 10,
	CNT_SLP_TYP = 7 << CNT_SLP_TYP_SHIFT,
	CNT_SLP_EN = 1 << 13, /* write-only */
	CNT_KEPT = CNT_BM_RLD | CNT_SLP_TYP,
};

#define TMR_HALF_TICKS (1ull << 31) /* the carry: the counter's top bit changes */

struct acpipm_state {
	uint16_t pm1_sts, pm1_en, pm1_cnt;
	uint8_t apm_cmd, apm_sts;
	uint64_t tmr_halves; /* top-bit changes that TMR_STS has told of */
	uint64_t gpe_sts, gpe_en;
	uint32_t smi_en;
	bool asleep; /* in S3 */
	uint8_t pad[3];
};

static const struct field acpipm_fields[] = {
    FIELD(1, struct acpipm_state, pm1_sts, FIELD_U16), FIELD(2, struct acpipm_state, pm1_en, FIELD_U16),
    FIELD(3, struct acpipm_state, pm1_cnt, FIELD_U16), FIELD(4, struct acpipm_state, apm_cmd, FIELD_U8),
    FIELD(5, struct acpipm_state, apm_sts, FIELD_U8),  FIELD(6, struct acpipm_state, tmr_halves, FIELD_U64),
    FIELD(7, struct acpipm_state, gpe_sts, FIELD_U64), FIELD(8, struct acpipm_state, gpe_en, FIELD_U64),
    FIELD(9, struct acpipm_state, smi_en, FIELD_U32),  FIELD(10, struct acpipm_state, asleep, FIELD_BOOL),
    FIELD_TRANSIENT(struct acpipm_state, pad, 3),
};

static const struct field_table acpipm_table = {
    .name = "acpipm",
    .version = 1,
    .size = sizeof(struct acpipm_state),
    .count = ARRAY_LEN(acpipm_fields),
    .fields = acpipm_fields,
};

struct acpipm {
	struct acpipm_wires w;
	pthread_mutex_t lock;
	struct acpipm_state st;
	/* derived */
	bool sci_level;
	struct vm_timer carry;
};

/* ---- PM timer ---- */

static uint64_t
tmr_ticks(struct acpipm *p)
{
	return mul_div_u64(vm_clock_now_ns(p->w.clock), ACPIPM_TIMER_HZ, NSEC_PER_SEC);
}

/* TMR_STS is set each time the top bit changes. */
static void
tmr_look(struct acpipm *p)
{
	uint64_t halves = tmr_ticks(p) / TMR_HALF_TICKS;

	if (halves != p->st.tmr_halves) {
		p->st.tmr_halves = halves;
		p->st.pm1_sts |= PM1_TMR;
	}
}

static void
tmr_arm(struct acpipm *p)
{
	uint64_t next;

	if ((p->st.pm1_en & PM1_TMR) == 0) {
		vm_timer_cancel(&p->carry);
		return;
	}
	next = (p->st.tmr_halves + 1) * TMR_HALF_TICKS;
	/* Round up: at the deadline the tick has happened. */
	vm_timer_set(&p->carry, mul_div_u64(next, NSEC_PER_SEC, ACPIPM_TIMER_HZ) + 1);
}

/* ---- SCI ---- */

static void
sci_update(struct acpipm *p)
{
	bool event = (p->st.pm1_sts & p->st.pm1_en & PM1_EVENTS) != 0 || (p->st.gpe_sts & p->st.gpe_en) != 0;
	bool level = event && (p->st.pm1_cnt & CNT_SCI_EN) != 0;

	if (level != p->sci_level) {
		p->sci_level = level;
		irq_set(&p->w.sci, level);
	}
}

/* In S3, what wakes: the power button always, the others as they are enabled (ICH9 13.8.3.1, 5.13.7.2). */
static void
wake_look(struct acpipm *p)
{
	uint16_t en = (p->st.pm1_en & (PM1_SLPBTN | PM1_RTC)) | PM1_PWRBTN;

	if (!p->st.asleep || ((p->st.pm1_sts & en) == 0 && (p->st.gpe_sts & p->st.gpe_en) == 0))
		return;
	p->st.asleep = false;
	p->st.pm1_sts |= PM1_WAK;
	if (p->w.wake != NULL)
		p->w.wake(p->w.ctx);
}

static void
fall_asleep(struct acpipm *p)
{
	if (p->st.asleep)
		return;
	p->st.asleep = true;
	if (p->w.sleep != NULL)
		p->w.sleep(p->w.ctx);
	wake_look(p); /* an event that waits already */
}

static void
carry_expired(void *arg)
{
	struct acpipm *p = arg;

	pthread_mutex_lock(&p->lock);
	tmr_look(p);
	tmr_arm(p);
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
}

static void
pm1_event(struct acpipm *p, uint16_t bit)
{
	pthread_mutex_lock(&p->lock);
	p->st.pm1_sts |= bit;
	wake_look(p);
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
}

void
acpipm_power_button(struct acpipm *p)
{
	pm1_event(p, PM1_PWRBTN);
}

void
acpipm_sleep_button(struct acpipm *p)
{
	pm1_event(p, PM1_SLPBTN);
}

void
acpipm_rtc_alarm(struct acpipm *p)
{
	pm1_event(p, PM1_RTC);
}

void
acpipm_gpe(struct acpipm *p, unsigned bit)
{
	pthread_mutex_lock(&p->lock);
	p->st.gpe_sts |= BIT(bit & 63);
	wake_look(p);
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- registers: each is a run of bytes; an access may cover part of one or several ---- */

/* Returns true when the machine is to be switched off. */
static bool
write_cnt(struct acpipm *p, uint16_t val, uint16_t mask)
{
	uint16_t full = (uint16_t)((p->st.pm1_cnt & ~mask) | (val & mask));
	unsigned typ = (full & CNT_SLP_TYP) >> CNT_SLP_TYP_SHIFT;

	/* SCI_EN belongs to the hardware; GBL_RLS would wake a BIOS that is not there. */
	p->st.pm1_cnt = (uint16_t)((full & CNT_KEPT) | (p->st.pm1_cnt & CNT_SCI_EN));
	if ((val & mask & CNT_SLP_EN) == 0)
		return false;
	if (typ == ACPIPM_SLP_TYP_S5)
		return true;
	if (typ == ACPIPM_SLP_TYP_S3) {
		fall_asleep(p);
		return false;
	}
	log_guest("acpi: sleep type %u is not one that the tables offer", typ);
	return false;
}

static bool
write_pm1_sts(struct acpipm *p, uint64_t val, uint64_t mask)
{
	tmr_look(p);
	p->st.pm1_sts &= (uint16_t) ~(val & mask);
	return false;
}

static bool
write_pm1_en(struct acpipm *p, uint64_t val, uint64_t mask)
{
	p->st.pm1_en = (uint16_t)((p->st.pm1_en & ~mask) | (val & mask & PM1_EVENTS));
	return false;
}

static bool
write_pm1_cnt(struct acpipm *p, uint64_t val, uint64_t mask)
{
	return write_cnt(p, (uint16_t)val, (uint16_t)mask);
}

static bool
write_gpe_sts(struct acpipm *p, uint64_t val, uint64_t mask)
{
	p->st.gpe_sts &= ~(val & mask);
	return false;
}

static bool
write_gpe_en(struct acpipm *p, uint64_t val, uint64_t mask)
{
	p->st.gpe_en = (p->st.gpe_en & ~mask) | (val & mask);
	return false;
}

static bool
write_smi_en(struct acpipm *p, uint64_t val, uint64_t mask)
{
	p->st.smi_en = (uint32_t)((p->st.smi_en & ~mask) | (val & mask));
	return false;
}

static uint64_t
read_pm1_sts(struct acpipm *p)
{
	tmr_look(p);
	return p->st.pm1_sts;
}

static uint64_t
read_pm1_en(struct acpipm *p)
{
	return p->st.pm1_en;
}

static uint64_t
read_pm1_cnt(struct acpipm *p)
{
	return p->st.pm1_cnt;
}

static uint64_t
read_pm_tmr(struct acpipm *p)
{
	return (uint32_t)tmr_ticks(p);
}

static uint64_t
read_gpe_sts(struct acpipm *p)
{
	return p->st.gpe_sts;
}

static uint64_t
read_gpe_en(struct acpipm *p)
{
	return p->st.gpe_en;
}

static uint64_t
read_smi_en(struct acpipm *p)
{
	return p->st.smi_en;
}

/* Reserved offsets read zero. */
static const struct pm_reg {
	uint8_t off, len;
	uint64_t (*read)(struct acpipm *p);
	bool (*write)(struct acpipm *p, uint64_t val, uint64_t mask); /* NULL: read-only */
} pm_regs[] = {
    {REG_PM1_STS, 2, read_pm1_sts, write_pm1_sts},  {REG_PM1_EN, 2, read_pm1_en, write_pm1_en},
    {REG_PM1_CNT, 2, read_pm1_cnt, write_pm1_cnt},  {REG_PM_TMR, 4, read_pm_tmr, NULL},
    {REG_GPE0_STS, 8, read_gpe_sts, write_gpe_sts}, {REG_GPE0_EN, 8, read_gpe_en, write_gpe_en},
    {REG_SMI_EN, 4, read_smi_en, write_smi_en},
};

static bool
overlaps(const struct pm_reg *reg, uint64_t off, unsigned size)
{
	return off < (uint64_t)reg->off + reg->len && reg->off < off + size;
}

/* v moved from register-relative to access-relative bytes. */
static uint64_t
shift_to_access(const struct pm_reg *reg, uint64_t off, uint64_t v)
{
	return off >= reg->off ? v >> (8 * (off - reg->off)) : v << (8 * (reg->off - off));
}

static uint64_t
shift_to_reg(const struct pm_reg *reg, uint64_t off, uint64_t v)
{
	return off >= reg->off ? v << (8 * (off - reg->off)) : v >> (8 * (reg->off - off));
}

static uint64_t
acpipm_io_read(void *dev, uint64_t off, unsigned size)
{
	struct acpipm *p = dev;
	uint64_t val = 0;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < ARRAY_LEN(pm_regs); i++) {
		if (overlaps(&pm_regs[i], off, size))
			val |= shift_to_access(&pm_regs[i], off, pm_regs[i].read(p));
	}
	pthread_mutex_unlock(&p->lock);
	return val & size_mask(size);
}

static void
acpipm_io_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct acpipm *p = dev;
	bool poweroff = false;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < ARRAY_LEN(pm_regs); i++) {
		const struct pm_reg *reg = &pm_regs[i];
		uint64_t mask;

		if (reg->write == NULL || !overlaps(reg, off, size))
			continue;
		mask = shift_to_reg(reg, off, size_mask(size)) & size_mask(reg->len);
		poweroff |= reg->write(p, shift_to_reg(reg, off, val), mask);
	}
	tmr_arm(p);
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
	if (poweroff && p->w.poweroff != NULL)
		p->w.poweroff(p->w.ctx);
}

/* APM_CNT and APM_STS. A BIOS would get an SMI here; ours only moves SCI_EN. */
static uint64_t
acpipm_apm_read(void *dev, uint64_t off, unsigned size)
{
	struct acpipm *p = dev;
	uint8_t val;

	(void)size;
	pthread_mutex_lock(&p->lock);
	val = off == 0 ? p->st.apm_cmd : p->st.apm_sts;
	pthread_mutex_unlock(&p->lock);
	return val;
}

static void
acpipm_apm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct acpipm *p = dev;

	(void)size;
	pthread_mutex_lock(&p->lock);
	if (off == 0)
		p->st.apm_cmd = (uint8_t)val;
	else
		p->st.apm_sts = (uint8_t)val;
	if (off == 0 && val == ACPIPM_ACPI_ENABLE)
		p->st.pm1_cnt |= CNT_SCI_EN;
	else if (off == 0 && val == ACPIPM_ACPI_DISABLE)
		p->st.pm1_cnt &= (uint16_t)~CNT_SCI_EN;
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
}

int
acpipm_map(struct acpipm *p, struct io_bus *pio, uint16_t pm_base, struct err *err)
{
	const struct io_region block = {
	    .name = "acpi pm",
	    .base = pm_base,
	    .len = ACPIPM_LEN,
	    .widths = IO_W1 | IO_W2 | IO_W4,
	    .read = acpipm_io_read,
	    .write = acpipm_io_write,
	    .dev = p,
	};
	const struct io_region apm = {
	    .name = "apm",
	    .base = ACPIPM_APM_PORT,
	    .len = 2,
	    .widths = IO_W1 | IO_SPLIT,
	    .read = acpipm_apm_read,
	    .write = acpipm_apm_write,
	    .dev = p,
	};
	int ret = io_bus_add(pio, &block, err);

	return ret != 0 ? ret : io_bus_add(pio, &apm, err);
}

/* ---- device ---- */

struct acpipm *
acpipm_create(const struct acpipm_wires *w, struct err *err)
{
	struct acpipm *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, ENOMEM, "acpi pm: no memory");
		return NULL;
	}
	p->w = *w;
	pthread_mutex_init(&p->lock, NULL);
	vm_timer_init(&p->carry, w->clock, carry_expired, p);
	return p;
}

static void
acpipm_destroy(void *dev)
{
	struct acpipm *p = dev;

	if (p == NULL)
		return;
	vm_timer_cancel(&p->carry);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void
acpipm_reset(void *dev)
{
	struct acpipm *p = dev;

	pthread_mutex_lock(&p->lock);
	memset(&p->st, 0, sizeof(p->st));
	p->st.tmr_halves = tmr_ticks(p) / TMR_HALF_TICKS;
	tmr_arm(p);
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
}

static void
acpipm_start(void *dev)
{
	struct acpipm *p = dev;

	pthread_mutex_lock(&p->lock);
	tmr_look(p);
	tmr_arm(p);
	sci_update(p);
	pthread_mutex_unlock(&p->lock);
}

static void
acpipm_stop(void *dev)
{
	struct acpipm *p = dev;

	vm_timer_cancel(&p->carry);
}

static void *
acpipm_st(void *dev)
{
	return &((struct acpipm *)dev)->st;
}

static int
acpipm_post_load(void *dev, struct err *err)
{
	struct acpipm *p = dev;

	(void)err;
	pthread_mutex_lock(&p->lock);
	p->st.pm1_en &= PM1_EVENTS;
	p->st.pm1_cnt &= CNT_KEPT | CNT_SCI_EN;
	p->sci_level = false;
	if (p->st.asleep && p->w.sleep != NULL)
		p->w.sleep(p->w.ctx);
	pthread_mutex_unlock(&p->lock);
	acpipm_start(p);
	return 0;
}

const struct device_ops acpipm_device_ops = {
    .type = "acpipm",
    .destroy = acpipm_destroy,
    .reset = acpipm_reset,
    .start = acpipm_start,
    .stop = acpipm_stop,
    .state = &acpipm_table,
    .st = acpipm_st,
    .post_load = acpipm_post_load,
};
