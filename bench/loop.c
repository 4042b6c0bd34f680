/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs in the guest: a loop of loads, stores and arithmetic of a known number of instructions, for about two
 * seconds. Prints "loop: INSTRUCTIONS NANOSECONDS". Static, so that it runs in an initramfs.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { PER_ROUND = 10, ROUNDS = 1000000 };

static uint64_t table[512];

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* PER_ROUND instructions a round, one load and one store among them. */
static void
rounds(uint64_t n)
{
	uint64_t i = 0, sum = 0, t;

	__asm__ volatile("1:	mov (%[table],%[i],8), %[t]\n"
			 "	add %[t], %[sum]\n"
			 "	lea 3(%[sum],%[i],2), %[t]\n"
			 "	xor %[n], %[t]\n"
			 "	mov %[t], (%[table],%[i],8)\n"
			 "	shr $3, %[sum]\n"
			 "	inc %[i]\n"
			 "	and $511, %[i]\n"
			 "	dec %[n]\n"
			 "	jnz 1b\n"
			 : [i] "+r"(i), [sum] "+r"(sum), [n] "+r"(n), [t] "=&r"(t)
			 : [table] "r"(table)
			 : "memory", "cc");
}

int
main(void)
{
	uint64_t start = now_ns(), end, done = 0;

	do {
		rounds(ROUNDS);
		done += ROUNDS;
		end = now_ns();
	} while (end - start < 2000000000u);
	printf("loop: %" PRIu64 " %" PRIu64 "\n", done * PER_ROUND, end - start);
	return 0;
}
