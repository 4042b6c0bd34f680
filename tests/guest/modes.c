/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 16-bit code in real mode, virtual-8086 mode and 16-bit protected mode; unreal mode; the ways between real,
 * protected, compatibility and 64-bit mode (SDM vol. 3A ch. 9.9, 10.8.5, 20). One table: where a case runs,
 * what it ends with.
 */
#include "tests/guest/guest.h"

/* REAL: real mode. V86: virtual-8086 with IOPL 3, V86_0 with IOPL 0. P16: protected, CPL 0. BIG: real mode
 * with limits of 4 GiB. */
enum { REAL = 1, V86 = 2, P16 = 4, V86_0 = 8, BIG = 16, ALL = REAL | V86 | P16 };
enum { END = GUEST_ENDED, STACK = 0x7000, FL_VM = 0x20000, FL_IOPL = 0x3000 };
/* AT: the instruction is where it ends, NEXT: behind it. */
enum { AT, NEXT, ANY };

/* name, modes, what comes before, the instruction, vector, place, AX (0: any) */
#define CASES(X)                                                                                             \
	X(operand_32, ALL, "mov $0x12345678, %eax", "shr $16, %eax", END, NEXT, 0x1234)                      \
	X(address_32, ALL, "movl $0x6000, %ebx; movw $0x4242, 0x6000", "mov (%ebx), %ax", END, NEXT, 0x4242) \
	X(paragraphs, REAL | V86, "mov $0x600, %ax; mov %ax, %fs; movw $0x33, %fs:0", "mov 0x6000, %ax",     \
	  END, NEXT, 0x33)                                                                                   \
	X(limit, ALL, "mov $0xffff, %bx", "mov (%bx), %ax", 13, AT, 0)                                       \
	X(limit_byte, ALL, "mov $0xffff, %bx", "mov (%bx), %al", END, NEXT, 0)                               \
	X(limit_write, ALL, "mov $0xffff, %bx", "mov %ax, (%bx)", 13, AT, 0)                                 \
	X(limit_32, ALL, "mov $0x10000, %ebx", "mov (%ebx), %ax", 13, AT, 0)                                 \
	X(limit_stack, ALL, "mov $0xffff, %bp", "mov (%bp), %ax", 12, AT, 0)                                 \
	X(big, BIG, "mov $0x200000, %ebx", "mov (%ebx), %ax", END, NEXT, 4)                                  \
	X(big_reload, BIG, "xor %cx, %cx; mov %cx, %ds; mov $0x200000, %ebx", "mov (%ebx), %ax", END, NEXT,  \
	  4)                                                                                                 \
	X(big_base, BIG, "mov $0x1000, %cx; mov %cx, %ds; mov $0x1f0000, %ebx", "mov (%ebx), %ax", END,      \
	  NEXT, 4)                                                                                           \
	X(big_other, BIG, "mov $0x200000, %ebx", "mov %fs:(%ebx), %ax", 13, AT, 0)                           \
	X(make_big, REAL,                                                                                    \
	  "mov %cr0, %eax; inc %ax; mov %eax, %cr0; mov $0x10, %cx; mov %cx, %es; dec %ax; mov %eax, %cr0;"  \
	  "xor %cx, %cx; mov %cx, %es; mov $0x200000, %ebx",                                                 \
	  "mov %es:(%ebx), %ax", END, NEXT, 4)                                                               \
	X(lmsw_enters, REAL, "mov $0x11, %ax; lmsw %ax; mov $0x10, %cx; mov %cx, %es; mov $0x200000, %ebx",  \
	  "mov %es:(%ebx), %ax; mov %cr0, %ecx; dec %cx; mov %ecx, %cr0", END, NEXT, 4)                      \
	X(lmsw_stays, P16, "xor %ax, %ax; lmsw %ax", "smsw %ax; and $1, %ax; orw $0x30, %ax", END, NEXT,     \
	  0x31)                                                                                              \
	X(divide, ALL, "xor %cx, %cx", "div %cx", 0, AT, 0)                                                  \
	X(divide_overflow, ALL, "mov $1, %dx; mov $1, %cx", "div %cx", 0, AT, 0)                             \
	X(aam_zero, ALL, "", ".byte 0xd4, 0", 0, AT, 0)                                                      \
	X(bound, ALL, "movl $0x00050003, 0x6000; mov $9, %dx", "bound %dx, 0x6000", 5, AT, 0)                \
	X(bound_within, ALL, "movl $0x00050003, 0x6000; mov $5, %dx", "bound %dx, 0x6000", END, NEXT, 0)     \
	X(into, ALL, "mov $0x7fff, %cx; inc %cx", "into", 4, NEXT, 0)                                        \
	X(int3, ALL | V86_0, "", "int3", 3, NEXT, 0)                                                         \
	X(int_n, REAL | P16, "", "int $0x41", 0x41, NEXT, 0)                                                 \
	X(int_gate, V86, "", "int $0x41", 13, AT, 0)                                                         \
	X(ud2, ALL, "", "ud2", 6, AT, 0)                                                                     \
	X(mov_cs, ALL, "", ".byte 0x8e, 0xc8", 6, AT, 0)                                                     \
	X(lock_nop, ALL, "", ".byte 0xf0, 0x90", 6, AT, 0)                                                   \
	X(lock_register, ALL, "", ".byte 0xf0, 0x01, 0xc0", 6, AT, 0)                                        \
	X(too_long, ALL, "", ".fill 15, 1, 0x66; nop", 13, AT, 0)                                            \
	X(sldt, REAL | V86, "", "sldt %ax", 6, AT, 0)                                                        \
	X(str, REAL | V86, "", "str %ax", 6, AT, 0)                                                          \
	X(str_16, P16, "", "str %ax", END, NEXT, SEL_TSS)                                                    \
	X(lldt, REAL | V86, "xor %ax, %ax", "lldt %ax", 6, AT, 0)                                            \
	X(ltr, REAL | V86, "mov $0x28, %ax", "ltr %ax", 6, AT, 0)                                            \
	X(verr, REAL | V86, "", "verr %ax", 6, AT, 0)                                                        \
	X(lar, REAL | V86, "", "lar %ax, %ax", 6, AT, 0)                                                     \
	X(lsl, REAL | V86, "", "lsl %ax, %ax", 6, AT, 0)                                                     \
	X(arpl, REAL | V86, "", ".byte 0x63, 0xc8", 6, AT, 0)                                                \
	X(arpl_16, P16, "mov $0x10, %ax; mov $3, %cx", ".byte 0x63, 0xc8", END, NEXT, 0x13)                  \
	X(loop, ALL, "mov $3, %cx; xor %ax, %ax; 1: inc %ax", "loop 1b", END, NEXT, 3)                       \
	X(loop_ecx, ALL, "mov $0x10002, %ecx; xor %eax, %eax; 1: inc %eax", "loopl 1b; shr $8, %eax", END,   \
	  NEXT, 0x100)                                                                                       \
	X(string_wraps, ALL, "mov $0xfffe, %si; mov $0x6000, %di; mov $4, %cx; cld",                         \
	  "rep movsb; mov %si, %ax", END, NEXT, 2)                                                           \
	X(push_wraps, ALL, "mov %sp, %dx; xor %sp, %sp", "push %ax; mov %sp, %ax; mov %dx, %sp", END, NEXT,  \
	  0xfffe)                                                                                            \
	X(push_across, V86, "mov $1, %sp", "push %ax", 12, AT, 0)                                            \
	X(enter, ALL, "mov $0x6f00, %bp", "enter $8, $1; mov %sp, %ax; leave", END, NEXT, STACK - 12)        \
	X(pusha, ALL, "mov $7, %ax; pusha; xor %ax, %ax", "popa", END, NEXT, 7)                              \
	X(pusha_32, ALL, "mov $7, %ax; pushal; xor %ax, %ax", "popal", END, NEXT, 7)                         \
	X(xlat, ALL, "mov $0x6000, %bx; movb $0x5a, 0x6003; mov $3, %ax", "xlat", END, NEXT, 0x5a)           \
	X(lds, REAL | V86, "movl $0x12345678, 0x6000", "lds 0x6000, %ax", END, NEXT, 0x5678)                 \
	X(lds_beyond, P16, "movl $0x12345678, 0x6000", "lds 0x6000, %ax", 13, AT, 0)                         \
	X(far_call, REAL | V86, "jmp 2f; 1: mov $0x77, %ax; lret; 2:", "lcall $0, $1b", END, NEXT, 0x77)     \
	X(far_call_16, P16, "jmp 2f; 1: mov $0x77, %ax; lret; 2:", "lcall $0x48, $1b", END, NEXT, 0x77)      \
	X(far_ret, ALL, "push $0x99; push %cs; push $1f; lret $2; 1:", "mov %sp, %ax", END, NEXT, STACK)     \
	X(iret, ALL, "pushf; push %cs; push $1f; iret; 1:", "mov %sp, %ax", END, NEXT, STACK)                \
	X(iret_32, ALL, "pushfl; pushl %cs; pushl $1f; iretl; 1:", "mov %sp, %ax", END, NEXT, STACK)         \
	X(jump_32, ALL, "mov $0x18000, %ebx", ".byte 0x66, 0xff, 0xe3", 13, AT, 0)                           \
	X(end_of_segment, ALL, "mov $0xffff, %bx; movb $0x90, (%bx)", "jmp *%bx", 13, ANY, 0)                \
	X(system_flags, REAL | P16, "pushf; pop %ax; or $0x7000, %ax; push %ax; popf",                       \
	  "pushf; pop %ax; and $0x7000, %ax; pushw $2; popf", END, NEXT, 0x7000)                             \
	X(single_step, ALL, "pushf; pop %ax; or $0x100, %ax; push %ax; popf", "nop", 1, NEXT, 0)             \
	X(smsw_real, REAL, "", "smsw %ax; and $1, %ax; or $8, %ax", END, NEXT, 8)                            \
	X(smsw_protected, V86 | P16, "", "smsw %ax; and $1, %ax; or $8, %ax", END, NEXT, 9)                  \
	X(read_cr0, V86, "", "mov %cr0, %eax", 13, AT, 0)                                                    \
	X(read_dr7, V86, "", "mov %db7, %eax", 13, AT, 0)                                                    \
	X(hlt, V86, "", "hlt", 13, AT, 0)                                                                    \
	X(clts, V86, "", "clts", 13, AT, 0)                                                                  \
	X(invd, V86, "", "invd", 13, AT, 0)                                                                  \
	X(lgdt, V86, "", "lgdt 0x6000", 13, AT, 0)                                                           \
	X(rdmsr, V86, "mov $0x10, %ecx", "rdmsr", 13, AT, 0)                                                 \
	X(in, V86, "", "in $0x61, %al", 13, AT, 0)                                                           \
	X(in_0, REAL | P16, "", "in $0x61, %al", END, NEXT, 0)                                               \
	X(cli, V86_0, "", "cli", 13, AT, 0)                                                                  \
	X(sti, V86_0, "", "sti", 13, AT, 0)                                                                  \
	X(pushf, V86_0, "", "pushf", 13, AT, 0)                                                              \
	X(popf, V86_0, "", "popf", 13, AT, 0)                                                                \
	X(iret_0, V86_0, "", "iret", 13, AT, 0)                                                              \
	X(int_0, V86_0, "", "int $0x80", 13, AT, 0)                                                          \
	X(cli_3, V86, "", "cli; pushf; pop %ax; and $0x3200, %ax", END, NEXT, 0x3000)                        \
	X(short_ivt, REAL, "lidt %cs:ivt_37", "int $0x41", 13, AT, 0)                                        \
	X(moved_ivt, REAL, "lidt %cs:ivt_moved", "int $0x41", 0x42, NEXT, 0)

#define CODE(name, modes, before, insn, ...)                                        \
	__asm__(REAL_MODE #name "_case: " before "\n" #name "_at: " insn "\n" #name \
				"_next: " GUEST_END REAL_END);                      \
	extern uint8_t name##_case[], name##_at[], name##_next[];
CASES(CODE)
__asm__(REAL_MODE "ivt_37: .word 0x37; .long 0\nivt_moved: .word 0x3ff; .long 4" REAL_END);

static const struct test {
	const char *name;
	unsigned modes;
	const uint8_t *start, *at, *next;
	int vector;
	unsigned place, ax;
} tests[] = {
#define ROW(name, modes, before, insn, vector, place, ax) \
	{#name, modes, name##_case, name##_at, name##_next, vector, place, ax},
    CASES(ROW)};

static const struct mode {
	const char *name;
	unsigned bit;
	uint16_t cs, data;
	uint32_t flags;
} modes[] = {
    {"real mode", REAL, 0, 0, 2},
    {"unreal mode", BIG, 0, 0, 2},
    {"virtual-8086 mode", V86, 0, 0, FL_VM | FL_IOPL | 2},
    {"virtual-8086 mode, IOPL 0", V86_0, 0, 0, FL_VM | 2},
    {"16-bit protected mode", P16, SEL_CODE16, SEL_DATA16, 2},
};

static void
run(const struct test *t, const struct mode *m)
{
	struct context c = {.ax = 0x5555,
			    .ip = (uintptr_t)t->start,
			    .cs = m->cs,
			    .flags = m->flags,
			    .sp = STACK,
			    .ss = m->data,
			    .ds = m->data,
			    .es = m->data,
			    .fs = m->data,
			    .gs = m->data};
	int vector = m->bit & (REAL | BIG) ? guest_enter_real(&c, m->bit == BIG) : guest_enter(&c);
	unsigned long ip = (unsigned long)(t->place == AT ? t->at : t->next) + (t->vector == END ? 2 : 0);

	guest_check(vector == t->vector, "%s in %s: trap %d, not %d, at %lx:%lx", t->name, m->name, vector,
		    t->vector, c.cs, c.ip);
	if (vector != t->vector)
		return;
	guest_check(t->place == ANY || c.ip == ip, "%s in %s: ip %lx, not %lx", t->name, m->name, c.ip, ip);
	guest_check(t->ax == 0 || (c.ax & 0xffff) == t->ax, "%s in %s: ax %lx, not %x", t->name, m->name,
		    c.ax & 0xffff, t->ax);
	guest_check(((c.flags & FL_VM) != 0) == ((m->flags & FL_VM) != 0), "%s in %s: flags %lx", t->name,
		    m->name, c.flags);
}

/* ---- long mode and back ---- */

static uint64_t tables[6 * 512] __attribute__((aligned(4096))); /* PML4, PDPT, 4 directories */
static volatile uint32_t seen[8];
void long_and_back(uint64_t *pml4);
/* Compatibility mode, 64-bit mode, compatibility mode, 32-bit mode: what each can do goes to seen[]. */
__asm__("	.globl long_and_back\n"
	"long_and_back:\n"
	"	mov 4(%esp), %eax\n"
	"	push %ebx\n"
	"	mov %eax, %cr3\n"
	"	mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4\n"
	"	mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr\n"
	"	mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
	"	mov $0xc0000080, %ecx; rdmsr; mov %eax, seen\n" /* LMA */
	"	mov $0xffffffff, %eax; inc %eax; mov %eax, seen + 4\n"
	"	.byte 0x40; mov $1, %eax; mov %eax, seen + 8\n" /* INC EAX here, REX there */
	"	ljmp $0x58, $1f\n"
	"	.code64\n"
	"1:	mov $0x123456789abcdef0, %rax; shr $32, %rax; mov %eax, seen + 12(%rip)\n"
	"	xor %ecx, %ecx; .byte 0x40; mov $1, %cl; mov %ecx, seen + 16(%rip)\n"
	"	mov $0xffffffff80000000, %rsp; mov %rsp, %rax; shr $60, %rax; mov %eax, seen + 20(%rip)\n"
	"	ljmp *2f(%rip)\n"
	"2:	.long 3f; .word 0x08\n"
	"	.code32\n"
	"3:	mov enter_here, %esp\n"
	"	mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n"
	"	mov $0xc0000080, %ecx; rdmsr; mov %eax, seen + 24; and $~0x100, %eax; wrmsr\n"
	"	mov %cr4, %eax; and $~0x20, %eax; mov %eax, %cr4\n"
	"	pop %ebx\n"
	"	ret\n"
	"	.data\n"
	"	.globl enter_here\n"
	"enter_here: .long 0\n"
	"	.text\n");
extern uint32_t enter_here;

static void
test_long_mode(void)
{
	for (unsigned n = 0; n < 4; n++)
		tables[512 + n] = ((uintptr_t)tables + (2 + n) * 4096) | 7;
	for (unsigned n = 0; n < 2048; n++)
		tables[1024 + n] = (uint64_t)n << 21 | 0xe7;
	tables[0] = ((uintptr_t)tables + 4096) | 7;
	gdt[SEL_FREE / 8] = descriptor(0, 0xfffff, 0x9b, DESC_L | DESC_G);
	for (unsigned n = 0; n < 3; n++) {
		/* The stack pointer behind the PUSH: the call's return address, EBX. */
		__asm__ volatile(
		    "push %0; lea -8(%%esp), %%eax; mov %%eax, enter_here; call long_and_back; pop %%eax"
		    :
		    : "r"(tables)
		    : "eax", "ecx", "edx", "memory");
		guest_check((seen[0] & 0x500) == 0x500, "EFER %x with paging on", seen[0]);
		guest_check(seen[1] == 0 && seen[2] == 1, "compatibility mode: %x %x", seen[1], seen[2]);
		guest_check(seen[3] == 0x12345678, "64-bit mode: rax %x", seen[3]);
		guest_check(seen[4] == 1, "64-bit mode: REX, cl %x", seen[4]);
		guest_check(seen[5] == 0xf, "64-bit mode: rsp's upper bits %x", seen[5]);
		guest_check((seen[6] & 0x500) == 0x100, "EFER %x with paging off", seen[6]);
	}
}

/* Combinations of control bits that there are not: #GP, and nothing changes. */
static void
test_consistency(void)
{
	static const struct {
		const char *name;
		uint32_t set, clear;
	} bad[] = {
	    {"CR0.PG without PE", 0x80000000, 1},
	    {"CR0.NW without CD", 0x20000000, 0x40000000},
	};
	uint32_t before = read_cr0();

	for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		TRY("mov %0, %%cr0", : : "r"((before | bad[n].set) & ~bad[n].clear) : "memory");
		guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "%s: trap %d error %lx",
			    bad[n].name, trap_seen.vector, trap_seen.error);
		guest_check(read_cr0() == before, "%s: CR0 %lx", bad[n].name, read_cr0());
	}
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x100);
	write_cr3((uintptr_t)tables);
	TRY("mov %0, %%cr0", : : "r"(before | 0x80000000u) : "memory");
	guest_check(trap_seen.vector == 13, "long mode without PAE: trap %d", trap_seen.vector);
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x100ull);
	TRY("mov %0, %%cr4", : : "r"(1u << 17) : "memory");
	guest_check(trap_seen.vector == 13, "CR4.PCIDE outside long mode: trap %d", trap_seen.vector);
	TRY("mov %0, %%cr4", : : "r"(1u << 31) : "memory");
	guest_check(trap_seen.vector == 13, "a reserved bit of CR4: trap %d", trap_seen.vector);
}

int
main(void)
{
	for (unsigned m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
		for (unsigned n = 0; n < sizeof(tests) / sizeof(tests[0]); n++) {
			if (tests[n].modes & modes[m].bit)
				run(&tests[n], &modes[m]);
		}
	}
	test_long_mode();
	test_consistency();
	return guest_summary();
}
