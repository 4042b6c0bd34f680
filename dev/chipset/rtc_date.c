/* SPDX-License-Identifier: BSD-2-Clause */
/* MC146818 clock registers (Motorola MC146818A data sheet, tables 3 and 4). Pure functions, any thread. */
#include "dev/chipset/rtc_date.h"

#include "base/util.h"

#define DAY_S	  86400
#define PM	  0x80
#define DONT_CARE 0xc0 /* an alarm byte with both top bits set matches everything */

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; years count from March inside. */
static int64_t
days_from_date(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400;
	unsigned yoe = (unsigned)(y - era * 400),
		 doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static void
date_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	unsigned doe = (unsigned)(z - era * 146097),
		 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*day = doy - (153 * mp + 2) / 5 + 1;
	*month = mp < 10 ? mp + 3 : mp - 9;
	*year = (int64_t)yoe + era * 400 + (*month <= 2);
}

static uint8_t
encode(struct rtc_format f, unsigned v)
{
	return (uint8_t)(f.binary ? v : v / 10 % 10 << 4 | v % 10);
}

static unsigned
decode(struct rtc_format f, uint8_t v)
{
	return f.binary ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t
encode_hour(struct rtc_format f, unsigned hour)
{
	if (f.hours24)
		return encode(f, hour);
	return encode(f, hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? PM : 0);
}

static unsigned
decode_hour(struct rtc_format f, uint8_t v)
{
	if (f.hours24)
		return decode(f, v);
	return decode(f, v & 0x7f) % 12 + ((v & PM) != 0 ? 12 : 0);
}

void
rtc_date_store(uint8_t *regs, struct rtc_format f, int64_t seconds)
{
	int64_t days = seconds / DAY_S, year;
	unsigned month, day, rest;

	if (seconds % DAY_S < 0)
		days--;
	rest = (unsigned)(seconds - days * DAY_S);
	date_from_days(days, &year, &month, &day);
	regs[RTC_SECOND] = encode(f, rest % 60);
	regs[RTC_MINUTE] = encode(f, rest / 60 % 60);
	regs[RTC_HOUR] = encode_hour(f, rest / 3600);
	regs[RTC_WEEKDAY] =
	    encode(f, (unsigned)(((days + 4) % 7 + 7) % 7) + 1); /* 1970-01-01: Thursday; 1 = Sunday */
	regs[RTC_DAY] = encode(f, day);
	regs[RTC_MONTH] = encode(f, month);
	year = MIN(MAX(year, 0), 9999);
	regs[RTC_YEAR] = encode(f, (unsigned)(year % 100));
	regs[RTC_CENTURY] = encode(f, (unsigned)(year / 100));
}

int64_t
rtc_date_load(const uint8_t *regs, struct rtc_format f)
{
	unsigned century = MIN(decode(f, regs[RTC_CENTURY]), 99u), year = MIN(decode(f, regs[RTC_YEAR]), 99u);
	unsigned month = MIN(MAX(decode(f, regs[RTC_MONTH]), 1u), 12u);
	unsigned day = MIN(MAX(decode(f, regs[RTC_DAY]), 1u), 31u);
	unsigned hour = MIN(decode_hour(f, regs[RTC_HOUR]), 23u);
	unsigned minute = MIN(decode(f, regs[RTC_MINUTE]), 59u),
		 second = MIN(decode(f, regs[RTC_SECOND]), 59u);

	return days_from_date(century * 100 + year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
}

struct alarm {
	bool any_hour, any_minute, any_second;
	unsigned hour, minute, second;
};

/* The first match at or after this second of the day, or -1: none today. */
static int
match_in_day(const struct alarm *a, unsigned from)
{
	for (unsigned h = from / 3600; h < 24; h++) {
		unsigned m0 = h == from / 3600 ? from / 60 % 60 : 0;

		if (!a->any_hour && h != a->hour)
			continue;
		for (unsigned m = m0; m < 60; m++) {
			unsigned s0 = h == from / 3600 && m == from / 60 % 60 ? from % 60 : 0;

			if (!a->any_minute && m != a->minute)
				continue;
			if (a->any_second)
				return (int)(h * 3600 + m * 60 + s0);
			if (a->second >= s0)
				return (int)(h * 3600 + m * 60 + a->second);
		}
	}
	return -1;
}

int64_t
rtc_date_next_alarm(const uint8_t *regs, struct rtc_format f, int64_t from)
{
	const uint8_t h = regs[RTC_HOUR_ALARM], m = regs[RTC_MINUTE_ALARM], s = regs[RTC_SECOND_ALARM];
	const struct alarm a = {
	    .any_hour = (h & DONT_CARE) == DONT_CARE,
	    .any_minute = (m & DONT_CARE) == DONT_CARE,
	    .any_second = (s & DONT_CARE) == DONT_CARE,
	    .hour = decode_hour(f, h),
	    .minute = decode(f, m),
	    .second = decode(f, s),
	};
	int64_t day = (from + 1) / DAY_S;
	int at;

	if ((from + 1) % DAY_S < 0)
		day--;
	/* A byte that is no time of day never matches. */
	if ((!a.any_hour && a.hour > 23) || (!a.any_minute && a.minute > 59) ||
	    (!a.any_second && a.second > 59))
		return INT64_MAX;
	at = match_in_day(&a, (unsigned)(from + 1 - day * DAY_S));
	if (at < 0) {
		day++;
		at = match_in_day(&a, 0);
	}
	return day * DAY_S + at;
}
