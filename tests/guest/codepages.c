/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code that goes on in another page: the page behind may be another one at the next run, at another place at
 * the same time, missing, not executable, or beyond the last canonical address. Each case runs often enough
 * that an engine that remembers where a branch led has done so.
 */
#include "tests/guest/guest.h"

enum { P = 1, W = 2, U = 4, RUNS = 12, BACK = 0x80 };
#define NX	  (1ull << 63)
#define HERE	  0x10000000000ull /* PML4 entry 2; the second place is 16 pages on */
#define ELSEWHERE (HERE + 0x10000)
#define LAST	  0x00007ffffffff000ull /* PML4 entry 255 */
#define COUNT(a)  (sizeof(a) / sizeof((a)[0]))

static uint64_t pdpt[2][512] __attribute__((aligned(4096)));
static uint64_t pd[2][512] __attribute__((aligned(4096)));
static uint64_t pt[2][512] __attribute__((aligned(4096)));

/* One page whose branches all lead to offset 0x10 of the page behind, or to the one before: the same
 * distance. */
extern uint8_t from_page[], from_jmp[], from_call[], from_jz[], from_end[], from_loop[], from_fall[],
    last_jmp[], last_call[], last_jz[], last_loop[], behind_page[3][4096], split_page[], split_mov[],
    split_behind[3][4096], patched_page[];
__asm__("	.pushsection .text\n"
	"	.balign 4096\n"
	"from_page:\n"
	"from_jmp: jmp from_page + 0x1010\n"
	"from_call: call from_page + 0x1020; int $0x80\n"
	"from_jz: xor %edx, %edx; jz from_page + 0x1010; int $0x80\n"
	"last_jmp: jmp from_page + 0x1010\n"
	"last_call: call from_page + 0x1010\n"
	"last_jz: jz from_page + 0x1010\n"
	"	.org from_page + 0xfe0\n"
	"from_loop: mov $2, %ecx; loop from_page + 0x1010; int $0x80\n"
	"last_loop: loop from_page + 0x1010\n"
	"	.org from_page + 0xffb\n"
	"from_fall: mov $0x77, %edx\n" /* five bytes, up to the page's end */
	"from_end:\n"
	"	.balign 4096\n"
	"behind_page:\n"
	"	.irp value, 1, 2, 3\n"
	"	.balign 4096\n"
	"	mov $\\value + 100, %eax; int $0x80\n"
	"	.balign 16\n"
	"	mov $\\value, %eax; int $0x80\n"
	"	.balign 16\n"
	"	mov $\\value + 200, %eax; ret\n"
	"	.endr\n"
	/* MOV's immediate value is in both pages. */
	"	.balign 4096\n"
	"split_page:\n"
	"	.org split_page + 0xffe\n"
	"split_mov: .byte 0xb8, 0x10\n"
	"split_behind:\n"
	"	.irp value, 1, 2, 3\n"
	"	.balign 4096\n"
	"	.byte \\value, 0, 0, 0xcd, 0x80\n"
	"	.endr\n"
	"	.balign 4096\n"
	"patched_page: .skip 4096\n"
	"	.balign 4096\n"
	"	.popsection\n");

static void
set(uint64_t at, const void *page, uint64_t flags)
{
	unsigned t = at >= LAST;

	pt[t][at >> 12 & 511] = page == NULL ? 0 : (uintptr_t)page | flags;
	invlpg((void *)at);
}

static int
run(struct context *c, const uint8_t *page, const uint8_t *code, uint64_t at)
{
	*c = (struct context){.ip = at + (unsigned)(code - page),
			      .cs = SEL_CODE,
			      .ss = SEL_DATA,
			      .sp = (uintptr_t)user_stack_top,
			      .flags = 2 | 64, /* ZF */
			      .cx = 5};
	return guest_enter(c);
}

static const struct {
	const char *name;
	const uint8_t *page, *code;
	uint8_t (*behind)[4096];
	unsigned value, times; /* what comes is value + times * the number of the page behind */
	unsigned arrives;      /* page offset behind */
} ways[] = {
    {"JMP", from_page, from_jmp, behind_page, 0, 1, 0x10},
    {"CALL", from_page, from_call, behind_page, 200, 1, 0x20},
    {"JZ", from_page, from_jz, behind_page, 0, 1, 0x10},
    {"LOOP", from_page, from_loop, behind_page, 0, 1, 0x10},
    {"no branch", from_page, from_fall, behind_page, 100, 1, 0},
    {"an instruction in both", split_page, split_mov, split_behind, 0x10, 0x100, 0},
};

static void
expect(unsigned w, uint64_t at, unsigned number, const char *when)
{
	struct context c;
	int v = run(&c, ways[w].page, ways[w].code, at);

	guest_check(v == BACK && c.ax == ways[w].value + ways[w].times * number, "%s %s: trap %d, ax %lx",
		    ways[w].name, when, v, c.ax);
}

static void
expect_fault(unsigned w, uint64_t at, unsigned error, const char *when)
{
	struct context c;
	int v = run(&c, ways[w].page, ways[w].code, at);
	uint64_t to = at + 0x1000 + ways[w].arrives;

	guest_check(v == 14 && trap_seen.error == error && trap_seen.cr2 == to &&
			trap_seen.rip == (ways[w].page == split_page ? at + 0xffe : to),
		    "%s %s: trap %d error %lx cr2 %lx rip %lx", ways[w].name, when, v, trap_seen.error,
		    trap_seen.cr2, trap_seen.rip);
}

static void
test_changes(unsigned w)
{
	for (unsigned n = 0; n < RUNS; n++) {
		for (unsigned k = 0; k < 3; k++) {
			set(HERE + 0x1000, ways[w].behind[k], P | W);
			expect(w, HERE, k + 1, "to a page that changes");
			expect(w, HERE, k + 1, "to it again");
		}
	}
	set(HERE + 0x1000, NULL, 0);
	for (unsigned n = 0; n < 3; n++)
		expect_fault(w, HERE, 0x10, "to a missing page");
	set(HERE + 0x1000, ways[w].behind[0], P | W | NX);
	for (unsigned n = 0; n < 3; n++)
		expect_fault(w, HERE, 0x11, "to data");
	set(HERE + 0x1000, ways[w].behind[1], P | W);
	expect(w, HERE, 2, "to a page that is there again");
}

/* The same page of code at two places, with others behind it; then its page behind, at both. */
static void
test_aliases(unsigned w)
{
	set(ELSEWHERE, ways[w].page, P | W);
	for (unsigned n = 0; n < RUNS; n++) {
		set(HERE + 0x1000, ways[w].behind[0], P | W);
		set(ELSEWHERE + 0x1000, ways[w].behind[n & 1 ? 1 : 0], P | W);
		for (unsigned k = 0; k < 3; k++) {
			expect(w, HERE, 1, "here");
			expect(w, ELSEWHERE, n & 1 ? 2 : 1, "elsewhere");
		}
	}
	/* Behind the one is what is behind the other, but not there. */
	set(HERE + 0x1000, NULL, 0);
	expect_fault(w, HERE, 0x10, "to what is elsewhere");
	expect(w, ELSEWHERE, 2, "where it is");
}

/* By another address space: no INVLPG. */
static void
test_spaces(unsigned w)
{
	static uint64_t other_pml4[512] __attribute__((aligned(4096)));
	static uint64_t other[3][512] __attribute__((aligned(4096)));
	uint64_t mine = read_cr3();

	memcpy(other_pml4, pml4, sizeof(other_pml4));
	other_pml4[2] = (uintptr_t)other[0] | P | W;
	other[0][0] = (uintptr_t)other[1] | P | W;
	other[1][0] = (uintptr_t)other[2] | P | W;
	other[2][0] = (uintptr_t)ways[w].page | P | W;
	other[2][1] = (uintptr_t)ways[w].behind[2] | P | W;
	set(HERE + 0x1000, ways[w].behind[0], P | W);
	for (unsigned n = 0; n < RUNS; n++) {
		expect(w, HERE, 1, "in the one space");
		write_cr3((uintptr_t)other_pml4);
		expect(w, HERE, 3, "in the other");
		write_cr3(mine);
	}
}

/* An instruction in two pages is written to, in either. */
static void
test_writes(void)
{
	volatile uint8_t *part[] = {split_mov + 1, split_behind[0], split_behind[0] + 1};

	set(HERE, split_page, P | W);
	set(HERE + 0x1000, split_behind[0], P | W);
	for (unsigned n = 0; n < RUNS * COUNT(part); n++) {
		unsigned k = n % COUNT(part);
		struct context c;

		*part[k] = (uint8_t)n;
		for (unsigned again = 0; again < 3; again++) {
			uint64_t want = (uint64_t)*part[0] | *part[1] << 8 | *part[2] << 16;
			int v = run(&c, split_page, split_mov, HERE);

			guest_check(v == BACK && c.ax == want, "written in part %u: trap %d, ax %lx, not %lx",
				    k, v, c.ax, want);
		}
	}
}

/* From the last canonical page (SDM vol. 2, JMP, CALL, Jcc): #GP(0) of the branch, nothing done; without a
 * branch, of what comes next. */
static void
test_canonical_end(void)
{
	static const struct {
		const char *name;
		const uint8_t *code;
		bool itself;
	} way[] = {{"JMP", last_jmp, true},
		   {"CALL", last_call, true},
		   {"JZ", last_jz, true},
		   {"LOOP", last_loop, true},
		   {"no branch", from_fall, false}};

	for (unsigned n = 0; n < RUNS * COUNT(way); n++) {
		unsigned k = n % COUNT(way);
		struct context c;
		int v = run(&c, from_page, way[k].code, LAST);
		uint64_t rip = way[k].itself ? LAST + (unsigned)(way[k].code - from_page) : LAST + 0x1000;

		guest_check(v == 13 && trap_seen.error == 0 && trap_seen.rip == rip,
			    "%s: trap %d error %lx rip %lx", way[k].name, v, trap_seen.error, trap_seen.rip);
		guest_check(c.sp == (uintptr_t)user_stack_top && c.cx == 5, "%s: sp %lx cx %lx", way[k].name,
			    c.sp, c.cx);
	}
}

/* Constants of moves are written anew before each run, now and then an opcode with them. */
static void
test_constants(void)
{
	static const struct {
		uint8_t opcode[8], opcode_len, constant_len; /* of moves to RAX, or to [RDX] */
		bool is_signed, memory;
		uint8_t operand;
	} form[] = {
	    {{0xb0}, 1, 1, false, false, 1},		/* mov al, imm8 */
	    {{0x66, 0xb8}, 2, 2, false, false, 2},	/* mov ax, imm16 */
	    {{0xb8}, 1, 4, false, false, 8},		/* mov eax, imm32 */
	    {{0x48, 0xb8}, 2, 8, false, false, 8},	/* mov rax, imm64 */
	    {{0x48, 0xc7, 0xc0}, 3, 4, true, false, 8}, /* mov rax, simm32 */
	    {{0xc6, 0x02}, 2, 1, false, true, 1},	/* mov byte [rdx], imm8 */
	    {{0x66, 0xc7, 0x02}, 3, 2, false, true, 2},
	    {{0xc7, 0x02}, 2, 4, false, true, 4},
	    {{0x48, 0xc7, 0x02}, 3, 4, true, true, 8},
	};
	static volatile uint64_t there;
	uint64_t random = 1;

	set(HERE, patched_page, P | W);
	for (unsigned n = 0; n < 100 * COUNT(form); n++) {
		unsigned f = n % 1000 < 800 ? n / 100 : n % COUNT(form), len = form[f].opcode_len;
		unsigned bits = form[f].constant_len * 8;
		uint64_t mask = form[f].operand == 8 ? ~0ull : (1ull << form[f].operand * 8) - 1;
		struct context c;

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(patched_page, form[f].opcode, len);
		memcpy(patched_page + len, &random, form[f].constant_len);
		memcpy(patched_page + len + form[f].constant_len, "\xcd\x80", 2);
		c = (struct context){.ip = HERE,
				     .cs = SEL_CODE,
				     .ss = SEL_DATA,
				     .sp = (uintptr_t)user_stack_top,
				     .flags = 2,
				     .ax = there = 0x1122334455667788,
				     .dx = (uintptr_t)&there};
		uint64_t want = bits == 64 ? random : random & ((1ull << bits) - 1);

		if (form[f].is_signed && (want >> (bits - 1) & 1))
			want |= ~0ull << bits;
		want = (want & mask) | (there & ~mask);
		int v = guest_enter(&c);
		uint64_t got = form[f].memory ? there : c.ax;

		guest_check(v == BACK && got == want, "constant of form %u: trap %d, %lx, not %lx", f, v, got,
			    want);
	}
}

int
main(void)
{
	static const unsigned first[] = {2, 255};

	for (unsigned t = 0; t < 2; t++) {
		unsigned l3 = t == 0 ? 0 : 511;

		pml4[first[t]] = (uintptr_t)pdpt[t] | P | W | U;
		pdpt[t][l3] = (uintptr_t)pd[t] | P | W | U;
		pd[t][l3] = (uintptr_t)pt[t] | P | W | U;
	}
	set(HERE, from_page, P | W);
	set(LAST, from_page, P | W);
	for (unsigned w = 0; w < COUNT(ways); w++) {
		set(HERE, ways[w].page, P | W);
		test_changes(w);
		test_aliases(w);
		test_spaces(w);
	}
	test_writes();
	test_constants();
	test_canonical_end();
	return guest_summary();
}
