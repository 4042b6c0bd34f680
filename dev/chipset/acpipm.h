/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ICH9 power management: PM1a event and control block, PM timer, GPE0 block, SMI_EN
 * (stored only: there is no SMM), sleep states S3 and S5, and the APM command port by which an OS takes ACPI
 * over (ACPI 6.4 ch. 4.8; ICH9 datasheet 13.8).
 *
 * Threads: every call from any thread. One lock; order: this, interrupt controllers.
 */
#ifndef LHYVE_DEV_ACPIPM_H
#define LHYVE_DEV_ACPIPM_H

#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct acpipm;
struct io_bus;
struct vm_clock;

enum {
	ACPIPM_LEN = 0x80,     /* of the block at PMBASE */
	ACPIPM_PM1_EVT = 0x00, /* 4 bytes */
	ACPIPM_PM1_CNT = 0x04, /* 2 bytes */
	ACPIPM_PM_TMR = 0x08,  /* 4 bytes, 32-bit counter */
	ACPIPM_GPE0 = 0x20,    /* 16 bytes: 8 status, 8 enable */
	ACPIPM_GPE0_LEN = 16,
	ACPIPM_APM_PORT = 0xb2, /* 2 ports: command, status */
	ACPIPM_ACPI_ENABLE = 2, /* commands */
	ACPIPM_ACPI_DISABLE = 3,
	ACPIPM_SLP_TYP_S3 = 1, /* the ICH9's S1, which is not offered; guests that read no table expect it */
	ACPIPM_SLP_TYP_S5 = 7, /* as the ICH9 has it */
};

#define ACPIPM_TIMER_HZ 3579545u

struct acpipm_wires {
	struct vm_clock *clock;
	struct irq_wire sci;	     /* level */
	void (*poweroff)(void *ctx); /* S5 was entered. No lock held */
	/* S3 was entered: no guest instruction may follow. An event ended it: WAK_STS is set. Both with this
	 * device's lock held (and perhaps the RTC's), the second from any thread; they come in turn. */
	void (*sleep)(void *ctx);
	void (*wake)(void *ctx);
	void *ctx;
};

LH_MUST_CHECK struct acpipm *acpipm_create(const struct acpipm_wires *w, struct err *err);
extern const struct device_ops acpipm_device_ops;

/* The block at pm_base and the APM ports. */
LH_MUST_CHECK int acpipm_map(struct acpipm *p, struct io_bus *pio, uint16_t pm_base, struct err *err);

void acpipm_power_button(struct acpipm *p);
void acpipm_sleep_button(struct acpipm *p);
/* The RTC asserted its interrupt. */
void acpipm_rtc_alarm(struct acpipm *p);
/* A general-purpose event, bit 0..63 of GPE0_STS. */
void acpipm_gpe(struct acpipm *p, unsigned bit);

#endif
