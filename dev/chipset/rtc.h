/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Real-time clock and CMOS memory: MC146818 with the ICH9's extended bank (data sheet
 * 13.6): ports 0x70-0x73, 128 + 128 bytes, century at 0x32. The date is the VM clock's
 * wall time plus the offset that the guest made by setting the clock.
 *
 * Threads: every call from any thread; one lock, taken before the HPET's and the
 * interrupt controllers' (IRQ8 is set with it held).
 */
#ifndef LHYVE_DEV_RTC_H
#define LHYVE_DEV_RTC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "dev/device.h"
#include "dev/irq.h"

struct rtc;
struct io_bus;
struct vm_clock;

struct rtc_cfg {
	uint64_t mem_below_4g,
	    mem_above_4g;     /* bytes of RAM, from 0 and from 4 GiB: CMOS 0x15-0x18, 0x30-0x35, 0x5b-0x5d */
	unsigned cpus;	      /* CMOS 0x5f: number - 1 */
	int32_t utc_offset_s; /* local time - UTC when the guest wants local time, else 0 */
};

struct rtc_wires {
	struct vm_clock *clock;
	struct irq_wire irq8; /* active high: hpet_rtc_irq() where there is an HPET, else the IRQ router */
	struct irq_wire nmi_mask; /* bit 7 of port 0x70: true = NMI masked; may be unconnected */
};

LH_MUST_CHECK struct rtc *rtc_create(const struct rtc_cfg *cfg, const struct rtc_wires *w, struct err *err);
extern const struct device_ops rtc_device_ops;
LH_MUST_CHECK int rtc_map(struct rtc *r, struct io_bus *pio, struct err *err);

/* CMOS memory as firmware would fill it. i: 0x0e..0x7f, or 0x80..0xff for the extended bank. */
void rtc_set_cmos(struct rtc *r, unsigned i, uint8_t val);

#endif
