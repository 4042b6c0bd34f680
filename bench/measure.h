/* SPDX-License-Identifier: BSD-2-Clause */
/* What the benchmark's programs share: a work is run for at least 20 ms, five times; the least counts. */
#ifndef LHYVE_BENCH_MEASURE_H
#define LHYVE_BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct row {
	const char *name;
	void (*run)(void);
};

static inline uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds of one round. */
static inline uint64_t
measure(void (*run)(void))
{
	uint64_t best = UINT64_MAX;
	run();
	for (unsigned k = 0; k < 5; k++) {
		uint64_t begin = now_ns(), rounds = 0, passed;
		do {
			run();
			rounds++;
			passed = now_ns() - begin;
		} while (passed < 20000000);
		if (passed / rounds < best)
			best = passed / rounds;
	}
	return best;
}

/* The rows that the arguments name, or all. */
static inline void
measure_rows(const struct row *rows, unsigned count, int argc, char **argv)
{
	for (unsigned n = 0; n < count; n++) {
		int wanted = argc < 2;
		for (int a = 1; a < argc; a++)
			wanted |= strcmp(argv[a], rows[n].name) == 0;
		if (wanted) {
			printf("suite: %s %llu\n", rows[n].name, (unsigned long long)measure(rows[n].run));
			fflush(stdout);
		}
	}
}

#endif
