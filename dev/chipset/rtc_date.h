/* SPDX-License-Identifier: BSD-2-Clause */
/* The clock registers of an MC146818 as pure functions: date to bytes and back, alarms. */
#ifndef LHYVE_DEV_RTC_DATE_H
#define LHYVE_DEV_RTC_DATE_H

#include <stdbool.h>
#include <stdint.h>

/* Indices of the registers; 0x32 on PCs is the century. */
enum {
	RTC_SECOND = 0,
	RTC_SECOND_ALARM = 1,
	RTC_MINUTE = 2,
	RTC_MINUTE_ALARM = 3,
	RTC_HOUR = 4,
	RTC_HOUR_ALARM = 5,
	RTC_WEEKDAY = 6,
	RTC_DAY = 7,
	RTC_MONTH = 8,
	RTC_YEAR = 9,
	RTC_CENTURY = 0x32,
};

/* How the bytes are coded: register B bits 2 (binary) and 1 (24 hours). */
struct rtc_format {
	bool binary, hours24;
};

/* Write the date of `seconds` since 1970 into the clock registers of regs[128]. */
void rtc_date_store(uint8_t *regs, struct rtc_format f, int64_t seconds);
/* What they say, in seconds since 1970. Values out of range count as the nearest that is in it. */
int64_t rtc_date_load(const uint8_t *regs, struct rtc_format f);
/* The first second after `from` that the alarm registers match, or INT64_MAX: never. */
int64_t rtc_date_next_alarm(const uint8_t *regs, struct rtc_format f, int64_t from);

#endif
