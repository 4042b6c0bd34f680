/* SPDX-License-Identifier: BSD-2-Clause */
/* What a bare word is: null, a boolean, a number with a suffix, or a string. */
#include "vmm/config/ucl_internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/util.h"

static const struct {
	const char *word;
	enum ucl_type type;
	bool value;
} words[] = {
    {"true", UCL_BOOL, true}, {"yes", UCL_BOOL, true},	{"on", UCL_BOOL, true},	   {"false", UCL_BOOL, false},
    {"no", UCL_BOOL, false},  {"off", UCL_BOOL, false}, {"null", UCL_NULL, false},
};

/* Multipliers: powers of 1000 or of 1024, or seconds; 0 for milliseconds (a division keeps 0.003 exact). */
static const struct {
	const char *suffix;
	enum ucl_type type;
	int64_t times;
	double seconds;
} suffixes[] = {
    {"k", UCL_INT, 1000, 0},
    {"m", UCL_INT, 1000000, 0},
    {"g", UCL_INT, 1000000000, 0},
    {"kb", UCL_INT, KIB, 0},
    {"mb", UCL_INT, MIB, 0},
    {"gb", UCL_INT, GIB, 0},
    {"ms", UCL_TIME, 0, 0},
    {"s", UCL_TIME, 0, 1},
    {"min", UCL_TIME, 0, 60},
    {"h", UCL_TIME, 0, 3600},
    {"d", UCL_TIME, 0, 86400},
    {"w", UCL_TIME, 0, 7 * 86400.0},
    {"y", UCL_TIME, 0, 365 * 86400.0},
};

static size_t
digits(const char *s)
{
	return strspn(s, "0123456789");
}

/* The length of the decimal number at s (sign, digits, fraction, exponent), 0 when there is none. */
static size_t
decimal_length(const char *s, bool *whole)
{
	size_t sign = *s == '-', n = sign + digits(s + sign), e;

	*whole = true;
	if (n == sign)
		return 0;
	if (s[n] == '.' && digits(s + n + 1) > 0) {
		*whole = false;
		n += 1 + digits(s + n + 1);
	}
	if (s[n] == 'e' || s[n] == 'E') {
		e = n + 1 + (s[n + 1] == '-' || s[n + 1] == '+');
		if (digits(s + e) > 0) {
			*whole = false;
			n = e + digits(s + e);
		}
	}
	return n;
}

static int
set_float(struct ucl_node *n, enum ucl_type type, double v)
{
	if (!isfinite(v))
		return -ERANGE;
	n->type = type;
	n->number = v;
	return 0;
}

static int
set_int(struct ucl_node *n, const char *text, int base, int64_t times)
{
	long long v;

	errno = 0;
	v = strtoll(text, NULL, base);
	if (errno != 0 || __builtin_mul_overflow(v, times, &n->integer))
		return -ERANGE;
	n->type = UCL_INT;
	return 0;
}

static bool
is_hex(const char *s)
{
	s += *s == '-';
	if (s[0] != '0' || (s[1] != 'x' && s[1] != 'X') || s[2] == '\0')
		return false;
	return s[2 + strspn(s + 2, "0123456789abcdefABCDEF")] == '\0';
}

int
ucl_scalar_classify(struct ucl_node *n)
{
	const char *s = n->text;
	size_t len;
	bool whole;

	n->type = UCL_STRING;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcasecmp(s, words[i].word) == 0) {
			n->type = words[i].type;
			n->boolean = words[i].value;
			return 0;
		}
	}
	if (is_hex(s))
		return set_int(n, s, 16, 1);
	len = decimal_length(s, &whole);
	if (len == 0)
		return 0;
	if (s[len] == '\0')
		return whole ? set_int(n, s, 10, 1) : set_float(n, UCL_FLOAT, strtod(s, NULL));
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		if (strcasecmp(s + len, suffixes[i].suffix) != 0)
			continue;
		if (suffixes[i].type == UCL_TIME)
			return set_float(n, UCL_TIME,
					 suffixes[i].seconds == 0 ? strtod(s, NULL) / 1000
								  : strtod(s, NULL) * suffixes[i].seconds);
		return whole ? set_int(n, s, 10, suffixes[i].times)
			     : set_float(n, UCL_FLOAT, strtod(s, NULL) * (double)suffixes[i].times);
	}
	return 0;
}
