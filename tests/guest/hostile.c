/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code that a translator would rather not meet: more of it than the code cache holds, loops that change
 * themselves, jumps into the middle of instructions, code and data that run off the end of memory or into a
 * device. Results must be right, and "time: NAME TICKS" (of the TSC) is what bench/hostile compares between
 * translator and interpreter.
 */
#include "tests/guest/guest.h"

enum {
	AREA = 0x800000, /* free RAM, with the one to one mapping */
	RAM_END = 0x2000000,
	HPET = 0xfed00000,
	PAGE = 4096,
	SLOT = 64,
	SLOTS = 16384,
};

static uint64_t began;

static uint64_t
ticks(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static void
row_begin(void)
{
	began = ticks();
}

static void
row_end(const char *name)
{
	guest_printf("time: %s %lu\n", name, ticks() - began);
}

static uint8_t *
put(uint8_t *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

static uint8_t *
put32(uint8_t *p, uint32_t v)
{
	return put(p, &v, 4);
}

typedef uint64_t (*function)(uint64_t);

/* ---- more code than there is room for ---- */

static function
slot(unsigned k)
{
	return (function)(uintptr_t)(AREA + (uint64_t)k * SLOT);
}

/*
 * Function k: k + arg + 3, or + 7 with an odd argument by way of another function of its page, so that pieces
 * made at different times lead to one another.
 */
static void
put_function(unsigned k, unsigned version)
{
	uint8_t *p = (uint8_t *)(uintptr_t)slot(k);
	unsigned other = (k & ~63u) | ((k * 5 + 17) & 63);

	*p++ = 0xb8; /* mov eax, version + k */
	p = put32(p, version + k);
	p = put(p, "\x48\x01\xf8\xf7\xc7\x01\x00\x00\x00\x0f\x85", 11); /* add rax, rdi; test edi, 1; jnz */
	p = put32(p, (uint32_t)((uintptr_t)slot(other) + 32 - ((uintptr_t)p + 4)));
	put(p, "\x48\x83\xc0\x03\xc3", 5);				    /* add rax, 3; ret */
	put((uint8_t *)(uintptr_t)slot(k) + 32, "\x48\x83\xc0\x07\xc3", 5); /* add rax, 7; ret */
}

static void
call_functions(unsigned calls, uint32_t seed, unsigned version)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < calls; n++) {
		seed = seed * 1664525 + 1013904223;
		unsigned k = seed >> 8 & (SLOTS - 1), arg = seed & 0xff;

		wrong += slot(k)(arg) != version + k + arg + (arg & 1 ? 7 : 3);
	}
	guest_check(wrong == 0, "%u of %u functions gave something else", wrong, calls);
}

static void
test_flood(void)
{
	for (unsigned k = 0; k < SLOTS; k++)
		put_function(k, 0);
	row_begin();
	for (unsigned round = 0; round < 4; round++)
		call_functions(SLOTS, round + 1, 0);
	row_end("flood");
	for (unsigned k = 0; k < SLOTS; k += 3) /* some of it is other code now */
		put_function(k, 0x10000);
	for (unsigned k = 0, wrong = 0; k < SLOTS; k++) {
		wrong += slot(k)(2) != (k % 3 == 0 ? 0x10000 : 0) + k + 5;
		if (k == SLOTS - 1)
			guest_check(wrong == 0, "%u functions are the old ones", wrong);
	}
}

/* Each called once: nothing to be gained by a translation. */
static void
test_once(void)
{
	for (unsigned k = 0; k < SLOTS; k++)
		put_function(k, 0);
	for (unsigned round = 0, wrong = 0; round < 3; round++) {
		for (unsigned k = 0; k < SLOTS; k++) /* new code each time */
			put_function(k, round * 7);
		row_begin();
		for (unsigned k = 0; k < SLOTS; k++)
			wrong += slot(k)(2) != round * 7 + k + 5;
		if (round == 2) {
			row_end("once");
			guest_check(wrong == 0, "%u functions gave something else", wrong);
		}
	}
}

/* ---- code that changes itself ---- */

/* A loop that writes the operand of an instruction of its own, and one that writes a function in another
 * page. */
static void
test_changing(void)
{
	static const uint8_t loop[] = {
	    0x31, 0xc0,				/* xor eax, eax */
	    0x89, 0x3d, 0x01, 0x00, 0x00, 0x00, /* 1: mov [rip + 1], edi */
	    0x05, 0x00, 0x00, 0x00, 0x00,	/* add eax, imm32 */
	    0xff, 0xcf,				/* dec edi */
	    0x75, 0xf1,				/* jnz 1b */
	    0xc3,
	};
	function f = (function)(uintptr_t)AREA, g = (function)(uintptr_t)(AREA + PAGE);
	uint64_t sum = 0;
	enum { ROUNDS = 30000 };

	memcpy((void *)AREA, loop, sizeof(loop));
	row_begin();
	sum = f(ROUNDS);
	row_end("changes-itself");
	guest_check(sum == (uint32_t)((uint64_t)ROUNDS * (ROUNDS + 1) / 2), "a loop that changes itself: %lx",
		    sum);

	put((uint8_t *)(uintptr_t)g, "\xb8\0\0\0\0\xc3", 6); /* mov eax, imm32; ret */
	sum = 0;
	row_begin();
	for (uint32_t n = 0; n < ROUNDS; n++) {
		put32((uint8_t *)(uintptr_t)g + 1, n);
		sum += g(0);
	}
	row_end("changes-another");
	guest_check(sum == (uint64_t)ROUNDS * (ROUNDS - 1) / 2, "a function that is changed: %lx", sum);

	/* Data beside code. */
	volatile uint32_t *beside = (volatile uint32_t *)(uintptr_t)(AREA + PAGE + 2048);
	sum = 0;
	row_begin();
	for (uint32_t n = 0; n < ROUNDS; n++) {
		*beside = n;
		sum += g(0) == ROUNDS - 1 ? *beside : 0;
	}
	row_end("data-beside-code");
	guest_check(sum == (uint64_t)ROUNDS * (ROUNDS - 1) / 2, "data beside code: %lx", sum);
}

/* ---- the middle of instructions ---- */

/* ADD AL, 4 again and again, entered at each byte; at the odd ones the last ADD's operand is the first RET.
 */
static void
test_middle(void)
{
	enum { LENGTH = 1024 };
	uint8_t *code = (uint8_t *)(uintptr_t)AREA;
	unsigned wrong = 0;

	memset(code, 4, LENGTH);
	put(code + LENGTH, "\xc3\xc3", 2);
	row_begin();
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned k = 0; k < LENGTH; k++) {
			unsigned left = LENGTH - k;
			uint8_t want = (uint8_t)(left / 2 * 4 + (left & 1 ? 0xc3 : 0)), got;

			__asm__ volatile("xor %%eax, %%eax\n\tcall *%1"
					 : "=a"(got)
					 : "r"(code + k)
					 : "cc", "memory");
			wrong += got != want;
		}
	}
	row_end("middle");
	guest_check(wrong == 0, "%u jumps into the middle went wrong", wrong);
}

/* ---- the end of memory ---- */

/* Goes to `code`; what comes back is the trap that ends it. */
static struct context
go(uint64_t code)
{
	struct context c = {
	    .ip = code, .cs = SEL_CODE, .ss = SEL_DATA, .sp = (uintptr_t)user_stack_top, .flags = 2};

	(void)guest_enter(&c);
	return c;
}

static void
test_end(void)
{
	uint8_t *end = (uint8_t *)(uintptr_t)RAM_END;
	struct context c;

	memset(end - PAGE, 0x90, PAGE);
	row_begin();
	for (unsigned n = 1; n <= 200; n++) {
		c = go(RAM_END - n);
		if (trap_seen.vector != 6 || c.ip != RAM_END)
			break;
	}
	guest_check(trap_seen.vector == 6 && c.ip == RAM_END, "past the end: trap %d at %lx",
		    trap_seen.vector, c.ip);
	for (unsigned n = 1; n < 5; n++) { /* mov eax, imm32, of which n bytes are there */
		end[-(int)n] = 0xb8;
		c = go(RAM_END - n);
		guest_check(trap_seen.vector == 6 && c.ip == RAM_END - n,
			    "%u bytes before the end: trap %d at %lx", n, trap_seen.vector, c.ip);
		end[-(int)n] = 0x90;
	}
	row_end("end-of-memory");
}

/* ---- half RAM, half device ---- */

static void
test_device(void)
{
	enum { RAM = 10, DEVICE = 11, ROUNDS = 20000 };
	uint8_t *page = (uint8_t *)(uintptr_t)AREA;
	volatile uint64_t *both = (volatile uint64_t *)((uintptr_t)page_at(DEVICE) - 4);
	uint32_t low = *(volatile uint32_t *)(uintptr_t)HPET; /* capabilities: always the same */
	unsigned wrong = 0;
	struct context c;

	page_map(RAM, AREA, PTE_P | PTE_W);
	page_map(DEVICE, HPET, PTE_P | PTE_W | PTE_PCD);
	row_begin();
	for (uint32_t n = 0; n < ROUNDS; n++) {
		*(volatile uint32_t *)(page + PAGE - 4) = n;
		wrong += *both != ((uint64_t)low << 32 | n);
		*both = (uint64_t)~n << 32 | (n ^ 0xffff); /* the capabilities do not take it */
		wrong += *(volatile uint32_t *)(page + PAGE - 4) != (n ^ 0xffff) ||
			 *(volatile uint32_t *)(uintptr_t)HPET != low;
	}
	guest_check(wrong == 0, "%u accesses of RAM and device went wrong", wrong);

	memset(page + PAGE - 16, 0x90, 15);
	page[PAGE - 1] = 0xb8;
	c = go((uintptr_t)page_at(RAM) + PAGE - 16);
	guest_check(trap_seen.vector == 6 && c.ip == (uintptr_t)page_at(RAM) + PAGE - 1,
		    "code that goes on in a device: trap %d at %lx", trap_seen.vector, c.ip);
	page[PAGE - 1] = 0x90;
	c = go((uintptr_t)page_at(RAM) + PAGE - 16);
	guest_check(trap_seen.vector == 6 && c.ip == (uintptr_t)page_at(DEVICE),
		    "code in a device: trap %d at %lx", trap_seen.vector, c.ip);
	row_end("ram-and-device");
}

int
main(void)
{
	test_flood();
	test_once();
	test_changing();
	test_middle();
	test_end();
	test_device();
	return guest_summary();
}
