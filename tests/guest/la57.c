/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 5-level paging (SDM vol. 3A 4.5; Intel's "5-Level Paging and 5-Level EPT"): switching to it and back, the
 * fifth table's rights and bits, canonical addresses of either width where each counts.
 */
#include "tests/guest/guest.h"

enum {
	P = 1,
	W = 2,
	U = 4,
	A = 32,
	PS = 128,
	ERR_P = 1,
	ERR_W = 2,
	ERR_U = 4,
	ERR_RSVD = 8,
	ERR_I = 16,
	CR4_LA57 = 1 << 12,
	SEL_CODE32 = SEL_FREE,
	MSR_FS_BASE = 0xc0000100,
	MSR_LSTAR = 0xc0000082,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	END = GUEST_ENDED,
};
#define NX	 (1ull << 63)
#define HIGH	 (1ul << 48)	       /* fifth table's entry 1 */
#define WIDE	 0x00fffffffffff000ull /* the last page of the lower half of 57 bits */
#define BAD	 0x0100000000000000ull /* canonical in neither width */
#define NEGATIVE 0xff00000000000000ull /* the first page of the upper half of 57 bits */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t pml5[512] __attribute__((aligned(4096)));
static uint64_t high_pml4[512] __attribute__((aligned(4096)));
static uint64_t high_pdpt[512] __attribute__((aligned(4096)));
static uint64_t high_pd[512] __attribute__((aligned(4096)));
static uint64_t high_pt[512] __attribute__((aligned(4096)));
static uint8_t page[4096] __attribute__((aligned(4096)));
static unsigned phys_bits;

/* By way of 32-bit code with paging off: the only way there is. */
static void
switch_to(uint64_t cr3, uint64_t cr4)
{
	gdt[SEL_CODE32 / 8] = descriptor(0, 0xfffff, 0x9b, DESC_D | DESC_G);
	__asm__ volatile("	pushq %3\n"
			 "	pushq $1f\n"
			 "	lretq\n"
			 "	.code32\n"
			 "1:	mov %%cr0, %%ecx\n"
			 "	and $0x7fffffff, %%ecx\n"
			 "	mov %%ecx, %%cr0\n"
			 "	mov %%ebx, %%cr4\n"
			 "	mov %%eax, %%cr3\n"
			 "	or $0x80000000, %%ecx\n"
			 "	mov %%ecx, %%cr0\n"
			 "	ljmp %4, $2f\n"
			 "	.code64\n"
			 "2:	nop\n"
			 : "+a"(cr3), "+b"(cr4), "=&c"((uint64_t){0})
			 : "i"(SEL_CODE32), "i"(SEL_CODE)
			 : "memory", "cc", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
			   "r14", "r15");
}

static void
expect(const char *what, int vector)
{
	guest_check(trap_seen.vector == vector, "%s: trap %d, not %d (error %lx cr2 %lx)", what,
		    trap_seen.vector, vector, trap_seen.error, trap_seen.cr2);
}

static void
expect_fault(const char *what, uint64_t at, unsigned error)
{
	guest_check(trap_seen.vector == 14 && trap_seen.error == error && trap_seen.cr2 == at,
		    "%s: trap %d error %lx cr2 %lx, not %x %lx", what, trap_seen.vector, trap_seen.error,
		    trap_seen.cr2, error, at);
}

#define READ(at)  TRY("movq (%0), %%rax", : : "r"(at) : "rax", "memory")
#define WRITE(at) TRY("movq %%rax, (%0)", : : "r"(at) : "memory")

/* ---- addresses that are loaded, not used: of the width that the processor has, in either mode ---- */

static void
test_loads(const char *mode)
{
	static const struct {
		const char *name;
		uint64_t address;
		int vector;
	} row[] = {{"48 bits", 0x7ffffffff000, -1},
		   {"57 bits", WIDE, -1},
		   {"57 bits, upper", NEGATIVE, -1},
		   {"58 bits", BAD, 13}};
	static const uint32_t msrs[] = {MSR_FS_BASE, MSR_LSTAR, MSR_KERNEL_GS_BASE};

	for (unsigned n = 0; n < COUNT(row); n++) {
		uint64_t v = row[n].address;

		for (unsigned m = 0; m < COUNT(msrs); m++) {
			uint64_t old = rdmsr(msrs[m]);

			TRY("wrmsr", : : "c"(msrs[m]), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
			guest_check(trap_seen.vector == row[n].vector, "%s: MSR %x, %s: trap %d", mode,
				    msrs[m], row[n].name, trap_seen.vector);
			guest_check(rdmsr(msrs[m]) == (row[n].vector < 0 ? v : old), "%s: MSR %x: %lx", mode,
				    msrs[m], rdmsr(msrs[m]));
			wrmsr(msrs[m], old);
		}
		struct dtable t = {0xfff, v}, seen = {0, 0};
		TRY("lgdt %1\n\tsgdt %0\n\tlgdt gdt_pointer", : "=m"(seen) : "m"(t) : "memory");
		expect(row[n].name, row[n].vector);
		guest_check(row[n].vector >= 0 || seen.base == v, "%s: GDTR base %lx, not %lx", mode,
			    seen.base, v);
		TRY("invlpg (%0)", : : "r"(v) : "memory");
		expect("INVLPG", -1);
	}
	/* A base that the mode cannot use faults when it is used. */
	wrmsr(MSR_FS_BASE, WIDE);
	TRY("mov %%fs:0, %%rax", : : : "rax", "memory");
	if (read_cr4() & CR4_LA57)
		expect_fault("a wide base", WIDE, 0);
	else
		expect("a wide base", 13);
	wrmsr(MSR_FS_BASE, 0);
}

extern uint8_t stack_read[];
__asm__("stack_read: mov (%rbp), %rax; " GUEST_END);

/* ---- addresses that are used: of the mode's width ---- */

static void
test_uses(bool five)
{
	static const uint64_t wide[] = {0x800000000000, WIDE, NEGATIVE, 0xffff7ffffffff000};

	for (unsigned n = 0; n < COUNT(wide); n++) {
		uint64_t at = wide[n];

		READ(at);
		if (five)
			expect_fault("read", at, 0);
		else
			expect("read", 13);
		struct context c = {.ip = (uintptr_t)stack_read,
				    .cs = SEL_CODE,
				    .ss = SEL_DATA,
				    .sp = (uintptr_t)user_stack_top,
				    .bp = at,
				    .flags = 2};
		int v = guest_enter(&c);
		guest_check(v == (five ? 14 : 12), "read by SS at %lx: trap %d", at, v);
		c = (struct context){
		    .ip = at, .cs = SEL_CODE, .ss = SEL_DATA, .sp = (uintptr_t)user_stack_top, .flags = 2};
		v = guest_enter(&c);
		guest_check(five ? v == 14 && trap_seen.error == ERR_I && trap_seen.cr2 == at : v == 13,
			    "IRET to %lx: trap %d error %lx", at, v, trap_seen.error);
	}
	READ(BAD);
	expect("read of 58 bits", 13);
	TRY("jmp *%0", : : "r"(BAD) : "memory");
	expect("jump to 58 bits", 13);
}

/* ---- the fifth table ---- */

static void
map_high(uint64_t fifth)
{
	pml5[1] = (uintptr_t)high_pml4 | fifth;
	high_pml4[0] = (uintptr_t)high_pdpt | P | W | U;
	high_pdpt[0] = (uintptr_t)high_pd | P | W | U;
	high_pd[0] = (uintptr_t)high_pt | P | W | U;
	high_pt[0] = (uintptr_t)page | P | W | U;
	invlpg((void *)HIGH);
}

static void
test_walk(void)
{
	uint64_t x = 0;

	map_high(P | W | U);
	*(volatile uint64_t *)page = 0x123456789abcdef0;
	TRY("mov (%1), %0", : "=r"(x) : "r"(HIGH) : "memory");
	guest_check(trap_seen.vector == -1 && x == 0x123456789abcdef0, "read of %lx: trap %d, %lx", HIGH,
		    trap_seen.vector, x);
	guest_check((pml5[1] & A) != 0, "A of the fifth table: %lx", pml5[1]);
	WRITE(HIGH);
	expect("write", -1);
	map_high(0);
	READ(HIGH);
	expect_fault("not present", HIGH, 0);
	WRITE(HIGH);
	expect_fault("not present, write", HIGH, ERR_W);
	map_high(P | U);
	READ(HIGH);
	expect("read-only, read", -1);
	WRITE(HIGH);
	expect_fault("read-only, write", HIGH, ERR_P | ERR_W);
	for (unsigned bit = phys_bits; bit < 52; bit++) {
		map_high(P | W | U | 1ull << bit);
		READ(HIGH);
		expect_fault("reserved address bit", HIGH, ERR_P | ERR_RSVD);
	}
	map_high(P | W | U | PS);
	READ(HIGH);
	expect_fault("PS", HIGH, ERR_P | ERR_RSVD);
}

static int
run_at(uint64_t ip, bool user, struct context *c)
{
	*c = (struct context){.ip = ip,
			      .cs = user ? SEL_USER_CODE : SEL_CODE,
			      .ss = user ? SEL_USER_DATA : SEL_DATA,
			      .sp = (uintptr_t)user_stack_top,
			      .flags = 2};
	return guest_enter(c);
}

/* mov $7, %al; int $0x80 */
static void
test_code(void)
{
	static const uint8_t code[] = {0xb0, 7, 0xcd, 0x80};
	struct context c;
	int v;

	memcpy(page, code, sizeof(code));
	for (unsigned user = 0; user < 2; user++) {
		map_high(P | W | U);
		v = run_at(HIGH, user, &c);
		guest_check(v == END && c.ax == 7 && trap_seen.rip == HIGH + 4,
			    "code at %lx: trap %d ax %lx rip %lx", HIGH, v, c.ax, trap_seen.rip);
		map_high(P | W | U | NX);
		v = run_at(HIGH, user, &c);
		guest_check(v == 14 && trap_seen.error == (ERR_P | ERR_I | (user ? ERR_U : 0)),
			    "NX in the fifth table: trap %d error %lx", v, trap_seen.error);
		map_high(P | W);
		v = run_at(HIGH, user, &c);
		guest_check(user ? v == 14 && trap_seen.error == (ERR_P | ERR_I | ERR_U) : v == END,
			    "a supervisor's fifth entry, user %u: trap %d error %lx", user, v,
			    trap_seen.error);
	}
	/* Calls and returns with addresses that 48 bits have no room for; the handler of a trap there, too.
	 */
	static const uint8_t calls[] = {
	    0xe8, 0x04, 0,    0,    0,	     /* call 9 */
	    0xcd, 0x80, 0x90, 0x90,	     /* int $0x80 */
	    0x48, 0x8d, 0x05, 0,    0, 0, 0, /* 9: lea 0(%rip), %rax */
	    0xc3,
	};
	map_high(P | W | U);
	memcpy(page, calls, sizeof(calls));
	for (unsigned n = 0; n < 3; n++) {
		v = run_at(HIGH, true, &c);
		guest_check(v == END && c.ax == HIGH + 16 && trap_seen.rip == HIGH + 7,
			    "call at %lx: trap %d ax %lx rip %lx", HIGH, v, c.ax, trap_seen.rip);
	}
	static const uint8_t handler[] = {0x48, 0x83, 0x04, 0x24, 2, 0x48, 0xcf}; /* addq $2, (%rsp); iretq */
	memcpy(page, handler, sizeof(handler));
	idt_set(6, SEL_CODE, HIGH, 0x8e);
	map_high(P | W);
	TRY("ud2", : : : "memory");
	expect("a handler at a wide address", -1);
	trap_gate(6, 0x8e);
}

/* What a TLB may not keep. */
static void
test_flush(void)
{
	static uint8_t other[4096] __attribute__((aligned(4096)));

	map_high(P | W | U);
	*(volatile uint64_t *)page = 1;
	*(volatile uint64_t *)other = 2;
	guest_check(*(volatile uint64_t *)HIGH == 1, "first page");
	high_pt[0] = (uintptr_t)other | P | W | U;
	invlpg((void *)HIGH);
	guest_check(*(volatile uint64_t *)HIGH == 2, "stale after INVLPG: %lx", *(volatile uint64_t *)HIGH);
	pml5[1] = 0;
	write_cr3(read_cr3());
	READ(HIGH);
	expect_fault("after MOV CR3", HIGH, 0);
	/* Addresses that are equal in their lower 48 bits are different ones. */
	map_high(P | W | U);
	high_pml4[0] = pml4[0];
	write_cr3(read_cr3());
	*(volatile uint64_t *)page = 5;
	high_pml4[0] = (uintptr_t)high_pdpt | P | W | U;
	high_pdpt[0] = (uintptr_t)high_pd | P | W | U;
	uint64_t twin = HIGH | ((uintptr_t)page & 0xfffffffff000);
	high_pd[twin >> 21 & 511] = (uintptr_t)high_pt | P | W | U;
	high_pt[twin >> 12 & 511] = (uintptr_t)other | P | W | U;
	write_cr3(read_cr3());
	*(volatile uint64_t *)other = 6;
	guest_check(*(volatile uint64_t *)page == 5 && *(volatile uint64_t *)twin == 6 &&
			*(volatile uint64_t *)page == 5,
		    "twins: %lx and %lx", *(volatile uint64_t *)page, *(volatile uint64_t *)twin);
}

static void
try_change(uint64_t cr4, const char *what)
{
	uint64_t old = read_cr4();

	TRY("mov %0, %%cr4", : : "r"(cr4) : "memory");
	expect(what, 13);
	guest_check(read_cr4() == old, "%s: CR4 is %lx", what, read_cr4());
}

int
main(void)
{
	uint32_t r[4];
	uint64_t cr4 = read_cr4();

	cpuid(0x80000008, 0, r);
	phys_bits = r[0] & 0xff;
	unsigned linear_bits = r[0] >> 8 & 0xff;
	cpuid(7, 0, r);
	try_change(cr4 | CR4_LA57, "LA57 on in 64-bit mode, or where there is none");
	if ((r[2] >> 16 & 1) == 0) {
		guest_skip("5-level paging");
		return guest_summary();
	}
	write_cr0(read_cr0() | 1 << 16); /* WP */
	guest_check(linear_bits == 57, "%u bits of linear address", linear_bits);
	pml5[0] = (uintptr_t)pml4 | P | W | U;
	for (unsigned n = 0; n < 3; n++) {
		test_loads("4 levels");
		test_uses(false);
		switch_to((uintptr_t)pml5, cr4 | CR4_LA57);
		guest_check((read_cr4() & CR4_LA57) != 0, "CR4 after the switch: %lx", read_cr4());
		try_change(cr4, "LA57 off in 64-bit mode");
		map_high(0);
		test_loads("5 levels");
		test_uses(true);
		test_walk();
		test_code();
		test_flush();
		switch_to((uintptr_t)pml4, cr4);
		guest_check(read_cr4() == cr4, "CR4 after the switch back: %lx", read_cr4());
		READ(HIGH);
		expect("a wide address after the switch back", 13);
	}
	return guest_summary();
}
