/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Work for traces (tests/trace): instructions of many kinds whose results depend on nothing from outside, so
 * that two runs, and two emulators, go the same way. It ends in straight_end(), before the first output.
 */
#include "tests/guest/guest.h"

static uint64_t table[64];
static uint8_t bytes[256], copy[256];

static __attribute__((noinline)) uint64_t
mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x << 13 | x >> 51;
	return x;
}

/* Only flags that the manuals define are read. */
static __attribute__((noinline)) uint64_t
arithmetic(uint64_t x)
{
	uint64_t sum = 0, y = x | 1;

	for (unsigned i = 0; i < 20; i++) {
		__asm__("add %1, %0\n\tadc $0, %0\n\tsbb %1, %0\n\tneg %0\n\tinc %0\n\txor %1, %0\n\tbswap %0"
			: "+r"(sum)
			: "r"(y)
			: "cc");
		y = mix(y + i);
		table[i] = sum;
	}
	return sum;
}

static __attribute__((noinline)) uint64_t
strings(void)
{
	uint64_t sum = 0;
	void *to = bytes;
	const void *from = bytes;
	uint64_t n = sizeof(bytes);

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0x5a) : "memory");
	bytes[100] = 1;
	to = copy;
	n = sizeof(bytes) / 8;
	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	for (unsigned i = 0; i < sizeof(copy); i++)
		sum = sum * 31 + copy[i];
	return sum;
}

static __attribute__((noinline)) unsigned
faults(void)
{
	TRY("ud2");
	TRY("movq (%0), %%rax", : : "r"(PAGES) : "rax", "memory");
	TRY("int3");
	return trap_seen.count;
}

static __attribute__((noinline, used)) void
straight_end(void)
{
	__asm__ volatile("");
}

int
main(void)
{
	uint64_t a, b;
	unsigned c;

	/* What the loader left, which the functions would save and restore. */
	__asm__ volatile(
	    "xor %%ebx, %%ebx\n\txor %%ebp, %%ebp\n\txor %%r12d, %%r12d\n\txor %%r13d, %%r13d\n\t"
	    "xor %%r14d, %%r14d\n\txor %%r15d, %%r15d"
	    :
	    :
	    : "rbx", "rbp", "r12", "r13", "r14", "r15", "cc");
	a = arithmetic(0x123456789abcdefull);
	b = strings();
	c = faults();

	straight_end();
	guest_check(a == table[19], "the last sum is %lx", a);
	guest_check(copy[100] == 1 && copy[255] == 0x5a && b != 0, "copied");
	guest_check(c == 1, "traps since the last one: %d", (int)c);
	return guest_summary();
}
