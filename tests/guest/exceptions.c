/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions of 64-bit code (SDM vol. 3A ch. 6): vector, error code, saved RIP (a fault's own, a trap's
 * next), RF in the saved flags, shadows of STI and MOV SS, single steps, and what comes of exceptions while
 * one is delivered.
 */
#include "tests/guest/guest.h"

enum { RF = 0x10000, BS = 1 << 14, DF_STACK = 2 };

static uint8_t df_stack[4096] __attribute__((aligned(16)));
static const uint64_t one = 1;

static void
clear_dr6(void)
{
	__asm__ volatile("mov %0, %%dr6" : : "r"(0ul));
}

static uint64_t
dr6(void)
{
	uint64_t v;

	__asm__ volatile("mov %%dr6, %0" : "=r"(v));
	return v;
}

static void
expect(const char *what, int vector, uint64_t error, uint64_t rip)
{
	guest_check(trap_seen.vector == vector, "%s: trap %d, not %d", what, trap_seen.vector, vector);
	guest_check(trap_seen.error == error, "%s: error %lx, not %lx", what, trap_seen.error, error);
	guest_check(trap_seen.rip == rip, "%s: rip %lx, not %lx", what, trap_seen.rip, rip);
}

/* One instruction at label 1; label 2 follows it. `before` runs first. */
#define CASE(what, vector, error, is_trap, before, insn, ...)                                             \
	do {                                                                                              \
		uint64_t at_, next_;                                                                      \
		trap_clear();                                                                             \
		__asm__ volatile("lea 1f(%%rip), %0; lea 2f(%%rip), %1; movq $2f, trap_resume\n\t" before \
				 "\n1:\t" insn "\n2:\tmovq $0, trap_resume"                               \
				 : "=&r"(at_), "=&r"(next_)                                               \
				 : __VA_ARGS__                                                            \
				 : "rax", "rdx", "rcx", "memory", "cc");                                  \
		expect(what, vector, error, (is_trap) ? next_ : at_);                                     \
		guest_check((is_trap) || (vector) == 8 || (trap_seen.rflags & RF) != 0,                   \
			    "%s: a fault without RF", what);                                              \
	} while (0)

static void
test_faults(void)
{
	uint64_t absent = (uintptr_t)page_at(0), cr0;

	CASE("divide by 0", 0, 0, false, "xor %%eax, %%eax", "div %%rax", "r"(one));
	CASE("divide overflow", 0, 0, false, "mov $2, %%edx; mov $1, %%ecx", "div %%rcx", "r"(one));
	CASE("ud2", 6, 0, false, "", "ud2", "r"(one));
	CASE("ud1", 6, 0, false, "", "ud1 %%eax, %%eax", "r"(one));
	CASE("a page that is not there", 14, 0, false, "", "mov (%2), %%rax", "r"(absent));
	CASE("a write to it", 14, 2, false, "", "mov %%rax, (%2)", "r"(absent));
	guest_check(trap_seen.cr2 == absent, "cr2 %lx", trap_seen.cr2);
	CASE("a non-canonical address", 13, 0, false, "", "mov (%2), %%rax", "r"(0x800000000000ull));
	CASE("a null selector into SS with RPL 3", 13, 0, false, "", "mov %w2, %%ss", "r"(3));
	CASE("a selector beyond the GDT", 13, 0xfff8, false, "", "mov %w2, %%ds", "r"(0xfff8));
	__asm__ volatile("lldt %w0" : : "r"(0));
	CASE("a selector in no LDT", 13, 0x7c, false, "", "mov %w2, %%ds", "r"(0x7c));
	CASE("an unknown MSR", 13, 0, false, "mov $0x12345678, %%ecx", "rdmsr", "r"(one));
	CASE("reserved bits of CR4", 13, 0, false, "mov %%cr4, %%rax; bts $63, %%rax", "mov %%rax, %%cr4",
	     "r"(one));
	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | 8));
	CASE("x87 with CR0.TS", 7, 0, false, "", "fninit", "r"(one));
	__asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | 4));
	CASE("x87 with CR0.EM", 7, 0, false, "", "fninit", "r"(one));
	CASE("SSE with CR0.EM", 6, 0, false, "", "movaps %%xmm0, %%xmm0", "r"(one));
	__asm__ volatile("mov %0, %%cr0" : : "r"(cr0));
	CASE("SSE memory that is not aligned", 13, 0, false, "", "movaps 1(%%rsp), %%xmm0", "r"(one));
}

static void
test_traps(void)
{
	CASE("int3", 3, 0, true, "", "int3", "r"(one));
	CASE("int 3 in two bytes", 3, 0, true, "", ".byte 0xcd, 3", "r"(one));
	CASE("int 0x50", 0x50, 0, true, "", "int $0x50", "r"(one));
	clear_dr6();
	CASE("int1", 1, 0, true, "", ".byte 0xf1", "r"(one));
	guest_check((dr6() & BS) == 0, "int1: dr6 %lx", dr6());
}

/* A not present segment and gate: the selector, the vector with the IDT bit. */
static void
test_not_present(void)
{
	uint64_t saved = gdt[0x60 / 8];
	uint8_t *gate = (uint8_t *)idt_pointer.base + 16 * 0x51;

	gdt[0x60 / 8] = 0x00cf13000000ffff; /* data, P clear */
	CASE("a segment that is not present", 11, 0x60, false, "", "mov %w2, %%ds", "r"(0x60));
	CASE("a stack segment that is not present", 12, 0x60, false, "", "mov %w2, %%ss", "r"(0x60));
	gdt[0x60 / 8] = saved;
	gate[5] &= 0x7f;
	CASE("a gate that is not present", 11, 0x51 << 3 | 2, false, "", "int $0x51", "r"(one));
	gate[5] |= 0x80;
}

/* TF: a trap behind the next instruction; MOV SS puts it off by one, and POPF itself is not stepped. */
static void
test_single_step(void)
{
	uint64_t want;

	trap_clear();
	clear_dr6();
	trap_resume = 0;
	__asm__ volatile(
	    "lea 1f(%%rip), %0; movq $77f, trap_resume; pushf; orl $0x100, (%%rsp); popf; nop\n1:\tnop\n77:"
	    : "=&r"(want)
	    :
	    : "memory", "cc");
	__asm__ volatile("pushf; andl $~0x100, (%%rsp); popf" : : : "memory", "cc");
	expect("single step", 1, 0, want);
	guest_check((dr6() & BS) != 0, "single step: dr6 %lx", dr6());
	clear_dr6();
	trap_clear();
	__asm__ volatile(
	    "lea 1f(%%rip), %0; movq $77f, trap_resume; mov %%ss, %%eax; pushf; orl $0x100, (%%rsp); popf;"
	    "mov %%eax, %%ss; nop\n1:\tnop\n77:"
	    : "=&r"(want)
	    :
	    : "rax", "memory", "cc");
	__asm__ volatile("pushf; andl $~0x100, (%%rsp); popf" : : : "memory", "cc");
	expect("single step behind MOV SS", 1, 0, want);
}

/* #PF while #GP's handler is looked up, #GP while #PF's is: double faults on a stack of their own. */
static void
test_double_fault(void)
{
	uint8_t *table = (uint8_t *)idt_pointer.base;

	tss.ist[DF_STACK - 1] = (uintptr_t)df_stack + sizeof(df_stack);
	trap_set_ist(8, DF_STACK);
	table[16 * 13 + 5] &= 0x7f;
	CASE("#GP whose gate is not present", 8, 0, false, "", "mov (%2), %%rax", "r"(0x800000000000ull));
	table[16 * 13 + 5] |= 0x80;
	table[16 * 14 + 5] &= 0x7f;
	CASE("#PF whose gate is not present", 8, 0, false, "", "mov (%2), %%rax", "r"(page_at(0)));
	table[16 * 14 + 5] |= 0x80;
	table[16 * 6 + 5] &= 0x7f;
	CASE("#UD whose gate is not present", 11, 6 << 3 | 3, false, "", "ud2", "r"(one));
	table[16 * 6 + 5] |= 0x80;
	trap_set_ist(8, 0);
}

int
main(void)
{
	test_faults();
	test_traps();
	test_not_present();
	test_single_step();
	test_double_fault();
	return guest_summary();
}
