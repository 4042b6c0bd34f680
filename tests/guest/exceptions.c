/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions of 64-bit code (SDM vol. 3A ch. 6, vol. 3B ch. 17): vector, error code, saved RIP (a fault's
 * own, a trap's next), RF in the saved flags, shadows of STI and MOV SS, debug exceptions, NMI, and what
 * comes of exceptions while one is delivered. Gates of protected mode are in tasks.c.
 */
#include "tests/guest/guest.h"

enum { RF = 0x10000, BS = 1 << 14, DF_STACK = 2 };

static uint8_t df_stack[4096] __attribute__((aligned(16)));
static const uint64_t one = 1;

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
	write_dr6(0);
	CASE("int1", 1, 0, true, "", ".byte 0xf1", "r"(one));
	guest_check((read_dr6() & BS) == 0, "int1: dr6 %lx", read_dr6());
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
	write_dr6(0);
	trap_resume = 0;
	__asm__ volatile(
	    "lea 1f(%%rip), %0; movq $77f, trap_resume; pushf; orl $0x100, (%%rsp); popf; nop\n1:\tnop\n77:"
	    : "=&r"(want)
	    :
	    : "memory", "cc");
	__asm__ volatile("pushf; andl $~0x100, (%%rsp); popf" : : : "memory", "cc");
	expect("single step", 1, 0, want);
	guest_check((read_dr6() & BS) != 0, "single step: dr6 %lx", read_dr6());
	write_dr6(0);
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

/* ---- code that is entered by IRET: what comes before, label NAME_at the instruction, NAME_next ---- */

#define CODE(name, before, insn)                                                                          \
	__asm__(#name "_code: " before "\n" #name "_at: " insn "\n" #name "_next: nop\n" GUEST_END "\n"); \
	void name##_code(void), name##_at(void), name##_next(void);
CODE(plain, "nop", "nop")
CODE(store, "nop", "movq $1, (%rbx)")
CODE(store_ss, "mov %ss, %eax", "mov (%rbx), %ss")
CODE(store_ss_int, "mov (%rbx), %ss", "int $0x50")
CODE(rep, "mov $4, %ecx; mov %rbx, %rdi", "rep stosb")
CODE(read_dr, "nop", "mov %db0, %rax")
CODE(misaligned, "nop", "mov 1(%rbx), %eax")
CODE(x87, "fninit; pushw $0x372; fldcw (%rsp); fld1; fldz; fdivrp", "fwait")
CODE(sse,
     "push $0x1d00; ldmxcsr (%rsp); xorps %xmm0, %xmm0; pcmpeqd %xmm1, %xmm1; psrld $25, %xmm1; pslld $23, "
     "%xmm1",
     "divps %xmm0, %xmm1")
CODE(int50, "nop", "int $0x50")
CODE(sti, "nop", "sti; nop")
CODE(sti_cli, "nop", "sti; cli; nop")
CODE(sti_ss, "nop; sti", "mov %ss, %eax; mov %eax, %ss; nop")
CODE(popf, "pushf; orl $0x200, (%rsp)", "popf")
CODE(two_ss, "mov %ss, %eax; sti; nop", "nop")
CODE(hlt, "sti", "hlt")
CODE(nmi, "mov $0xfee00300, %ebx; movl $0, 0x10(%rbx); movl $0x400, (%rbx)", ".fill 4096, 1, 0x90")

static struct context
context_at(void (*code)(void), bool user)
{
	struct context c = {.ip = (uintptr_t)code,
			    .cs = user ? SEL_USER_CODE : SEL_CODE,
			    .ss = user ? SEL_USER_DATA : SEL_DATA,
			    .sp = (uintptr_t)user_stack_top - 64,
			    .flags = 2};

	return c;
}

static void
write_dr(unsigned long address, unsigned long control)
{
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(address), "r"(control));
}

/* Debug exceptions: kind, saved RIP, DR6, RF (SDM vol. 3B 17.2, 17.3). */
static void
test_debug(void)
{
	static uint64_t word[2] = {SEL_DATA, 0};
	enum {
		L0 = 1,
		EXECUTE = 0,
		WRITES = 1 << 16,
		ACCESSES = 3 << 16,
		LEN8 = 2 << 18,
		LEN2 = 1 << 18,
		GD = 1 << 13
	};
	enum { TF = 0x100 };
	const struct {
		const char *name;
		void (*code)(void);
		unsigned long address, control, flags;
		int vector;
		unsigned long ip, dr6, rf;
	} rows[] = {
	    {"breakpoint", plain_code, (uintptr_t)plain_at, L0 | EXECUTE, 0, 1, (uintptr_t)plain_at, 1, 0},
	    {"breakpoint under RF", plain_code, (uintptr_t)plain_code, L0, RF, GUEST_ENDED,
	     (uintptr_t)plain_next + 3, 0, 0},
	    {"watchpoint", store_code, (uintptr_t)word, L0 | WRITES | LEN8, 0, 1, (uintptr_t)store_next, 1,
	     0},
	    {"watchpoint elsewhere", store_code, (uintptr_t)(word + 1), L0 | WRITES | LEN8, 0, GUEST_ENDED,
	     (uintptr_t)store_next + 3, 0, 0},
	    {"breakpoint and watchpoint", store_code, (uintptr_t)store_at, L0, TF, 1, (uintptr_t)store_at, BS,
	     0},
	    {"watchpoint at MOV SS", store_ss_code, (uintptr_t)word, L0 | ACCESSES | LEN2, 0, 1,
	     (uintptr_t)store_ss_next + 1, 1, 0},
	    {"general detect", read_dr_code, 0, GD, 0, 1, (uintptr_t)read_dr_at, 1 << 13, RF},
	    {"step into REP", rep_code, 0, 0, TF, 1, (uintptr_t)rep_code + 5, BS, 0},
	};

	for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		struct context c = context_at(rows[n].code, false);

		c.bx = (uintptr_t)word;
		c.flags |= rows[n].flags;
		word[0] = SEL_DATA;
		write_dr6(0);
		write_dr(rows[n].address, rows[n].control);
		int v = guest_enter(&c);
		write_dr(0, 0);
		guest_check(v == rows[n].vector && c.ip == rows[n].ip, "%s: trap %d at %lx, not %lx",
			    rows[n].name, v, c.ip, rows[n].ip);
		guest_check((read_dr6() & 0xe00f) == rows[n].dr6, "%s: DR6 %lx", rows[n].name, read_dr6());
		guest_check(v != 1 || (c.flags & RF) == rows[n].rf, "%s: flags %lx", rows[n].name, c.flags);
	}
}

/* A string instruction that is stepped traps after every iteration, with RF but for the last. */
static void
test_stepped_rep(void)
{
	struct context c = context_at(rep_at, false);
	static uint8_t to[16];

	c.cx = 4;
	c.di = (uintptr_t)to;
	for (unsigned left = 3; left < 4; left--) {
		c.flags |= 0x100;
		int v = guest_enter(&c);
		guest_check(v == 1 && c.cx == left && c.ip == (uintptr_t)(left ? rep_at : rep_next),
			    "stepped REP: trap %d, %lu left at %lx", v, c.cx, c.ip);
		guest_check(((c.flags & RF) != 0) == (left != 0), "stepped REP, %u left: flags %lx", left,
			    c.flags);
		c.flags &= ~(unsigned long)RF;
	}
}

/* Arithmetic exceptions and #AC: masks off, vectors and RIPs. */
static void
test_arithmetic(void)
{
	static uint64_t word;
	const struct {
		const char *name;
		void (*code)(void), (*at)(void);
		bool user;
		unsigned long flags;
		int vector;
	} rows[] = {
	    {"x87 division by 0", x87_code, x87_at, false, 0, 16},
	    {"SSE division by 0", sse_code, sse_at, false, 0, 19},
	    {"misaligned at CPL 3", misaligned_code, misaligned_at, true, 0x40000, 17},
	    {"misaligned at CPL 3, no AC", misaligned_code, misaligned_next, true, 0, GUEST_ENDED},
	    {"misaligned at CPL 0", misaligned_code, misaligned_next, false, 0x40000, GUEST_ENDED},
	};
	write_cr0(read_cr0() | 1 << 18);
	for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		struct context c = context_at(rows[n].code, rows[n].user);

		c.flags |= rows[n].flags;
		c.bx = (uintptr_t)&word;
		int v = guest_enter(&c);
		unsigned long at = (unsigned long)rows[n].at + (v == GUEST_ENDED ? 3 : 0);
		guest_check(v == rows[n].vector && c.ip == at && (v == GUEST_ENDED || trap_seen.error == 0),
			    "%s: trap %d error %lx at %lx, not %lx", rows[n].name, v, trap_seen.error, c.ip,
			    at);
		__asm__ volatile("fninit");
	}
	uint32_t mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	write_cr0(read_cr0() & ~(1ul << 18));
}

/* What comes of two: SDM table 6-5. The second comes from a gate that is not present, or from a stack that is
 * not. */
static void
test_nesting(void)
{
	enum { NP, STACK, IST_BAD = 3 };
	const struct {
		const char *name;
		int first, second;
		int vector;
		unsigned long error;
	} rows[] = {
	    {"#UD, #NP", 6, NP, 11, 6 << 3 | 3},
	    {"#UD, #PF", 6, STACK, 14, 2},
	    {"#DE, #NP", 0, NP, 8, 0},
	    {"#DE, #PF", 0, STACK, 14, 2},
	    {"#GP, #NP", 13, NP, 8, 0},
	    {"#GP, #PF", 13, STACK, 14, 2},
	    {"#SS, #NP", 12, NP, 8, 0},
	    {"#SS, #PF", 12, STACK, 14, 2},
	    {"#NP, #NP", 11, NP, 8, 0},
	    {"#NP, #PF", 11, STACK, 14, 2},
	    {"#PF, #NP", 14, NP, 8, 0},
	    {"#PF, #PF", 14, STACK, 8, 0},
	    {"INT, #NP", 0x50, NP, 11, 0x50 << 3 | 2},
	    {"INT, #PF", 0x50, STACK, 14, 2},
	};
	uint64_t hole = (uintptr_t)page_at(3);

	tss.ist[DF_STACK - 1] = (uintptr_t)df_stack + sizeof(df_stack);
	tss.ist[IST_BAD - 1] = hole + 4096;
	trap_set_ist(8, DF_STACK);
	gdt[0x60 / 8] = descriptor(0, 0xfffff, 0x13, DESC_D | DESC_G); /* not present */
	for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		unsigned first = (unsigned)rows[n].first;

		if (rows[n].second == NP)
			*idt_access(first) &= 0x7f;
		else
			trap_set_ist(first, IST_BAD);
		trap_clear();
		if (first == 6)
			TRY("ud2", : : : "memory");
		else if (first == 0)
			TRY("xor %%eax, %%eax; div %%eax", : : : "rax", "rdx", "memory", "cc");
		else if (first == 13)
			TRY("mov (%0), %%rax", : : "D"(0x800000000000ull) : "rax", "memory");
		else if (first == 12)
			TRY("mov %0, %%rax; mov %%ss:(%%rbp,%%rax), %%rax",
			    :
			    : "r"(0x4000000000000000)
			    : "rax", "memory");
		else if (first == 11)
			TRY("mov %w0, %%ds", : : "r"(0x60) : "memory");
		else if (first == 14)
			TRY("mov (%0), %%rax", : : "D"(page_at(0)) : "rax", "memory");
		else
			TRY("int $0x50", : : : "memory");
		*idt_access(first) |= 0x80;
		trap_set_ist(first, first == 8 ? DF_STACK : 0);
		guest_check(trap_seen.vector == rows[n].vector && trap_seen.error == rows[n].error,
			    "%s: trap %d error %lx, not %d %lx", rows[n].name, trap_seen.vector,
			    trap_seen.error, rows[n].vector, rows[n].error);
		guest_check(rows[n].vector != 14 || trap_seen.cr2 == hole + 4088, "%s: cr2 %lx", rows[n].name,
			    trap_seen.cr2);
	}
	trap_set_ist(8, 0);
}

/* Frames: aligned to 16 bytes, RSP as it was, from each level, with and without IST. */
static void
test_frames(void)
{
	for (unsigned n = 0; n < 64; n++) {
		bool user = n & 1, ist = n & 2;
		struct context c = context_at(int50_code, user);
		unsigned long sp = (uintptr_t)user_stack_top - 64 - n / 4;

		c.sp = sp;
		tss.ist[DF_STACK - 1] = (uintptr_t)df_stack + sizeof(df_stack) - n / 4;
		trap_gate(0x50, 0xee);
		trap_set_ist(0x50, ist ? DF_STACK : 0);
		int v = guest_enter(&c);
		guest_check(v == 0x50 && c.sp == sp && c.ip == (uintptr_t)int50_next,
			    "frame %u: trap %d rsp %lx, not %lx", n, v, c.sp, sp);
		guest_check((trap_seen.frame & 15) == 0, "frame %u at %lx", n, trap_seen.frame);
		guest_check(!ist || (trap_seen.frame > (uintptr_t)df_stack &&
				     trap_seen.frame < (uintptr_t)df_stack + sizeof(df_stack)),
			    "frame %u at %lx, not on the IST stack", n, trap_seen.frame);
	}
	trap_gate(0x50, 0x8e);
}

/* A handler that tells its own flags. */
void flags_handler(void);
__asm__("flags_handler: pushfq; popq %rax; iretq");

/* Interrupt gates clear IF, trap gates leave it; both clear TF, NT and RF, and what is saved has them. */
static void
test_gate_flags(void)
{
	enum { TF = 0x100, IF = 0x200, DF = 0x400, NT = 0x4000, AC = 0x40000, ARITHMETIC = 0x8d5 };

	for (unsigned n = 0; n < 32; n++) {
		bool user = n & 1, trap = n & 2;
		struct context c = context_at(int50_code, user);

		c.flags = 2 | ARITHMETIC | DF | (n & 4 ? IF : 0) | (n & 8 ? NT : 0) | (n & 16 ? AC : 0);
		unsigned long want = (c.flags & ~(unsigned long)NT) & (trap ? ~0ul : ~(unsigned long)IF);
		unsigned long saved = c.flags;
		idt_set(0x50, SEL_CODE, (uintptr_t)flags_handler, trap ? 0xef : 0xee);
		int v = guest_enter(&c);
		guest_check(v == GUEST_ENDED && c.ax == want,
			    "%s gate, user %d: flags %lx in the handler, not %lx",
			    trap ? "trap" : "interrupt", user, c.ax, want);
		guest_check((trap_seen.rflags & 0x1ffff) == (saved & 0x1ffff),
			    "flags after IRET: %lx, not %lx", trap_seen.rflags, saved);
	}
	trap_gate(0x50, 0x8e);
}

/* ---- interrupts: shadows, NMI ---- */

static volatile uint32_t *const lapic = (volatile uint32_t *)0xfee00000ul;
enum { IRQ = 0x41, ICR_SELF = 0x40000, ICR_NMI = 0x400 };

static void
test_shadows(void)
{
	const struct {
		const char *name;
		void (*code)(void), (*at)(void);
		unsigned more; /* bytes behind it */
		int vector;
	} rows[] = {
	    {"STI", sti_code, sti_at, 2, IRQ},			      /* behind the NOP */
	    {"STI, CLI", sti_cli_code, sti_cli_next, 3, GUEST_ENDED}, /* never */
	    {"STI, MOV from SS", sti_ss_code, sti_ss_at, 2, IRQ},
	    {"POPF", popf_code, popf_next, 0, IRQ}, /* no shadow */
	    {"HLT behind STI", hlt_code, hlt_next, 0, IRQ},
	};

	for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		struct context c = context_at(rows[n].code, false);

		lapic[0x300 / 4] = ICR_SELF | IRQ;
		int v = guest_enter(&c);
		guest_check(v == rows[n].vector && c.ip == (uintptr_t)rows[n].at + rows[n].more,
			    "%s: trap %d at %lx, not %lx", rows[n].name, v, c.ip,
			    (unsigned long)rows[n].at + rows[n].more);
		if (v != IRQ) {
			c = context_at(popf_code, false);
			v = guest_enter(&c);
			guest_check(v == IRQ, "%s: the interrupt is lost", rows[n].name);
		}
		lapic[0xb0 / 4] = 0;
	}
	/* With IF set, MOV SS puts it off behind the next instruction. */
	struct context c = context_at(two_ss_at, false);
	*idt_access(IRQ) &= 0x7f; /* an external interrupt whose gate fails: EXT in the error code */
	lapic[0x300 / 4] = ICR_SELF | IRQ;
	c.flags |= 0x200;
	int v = guest_enter(&c);
	*idt_access(IRQ) |= 0x80;
	guest_check(v == 11 && trap_seen.error == (IRQ << 3 | 3) && c.ip == (uintptr_t)two_ss_at,
		    "an interrupt's gate that is not present: trap %d error %lx", v, trap_seen.error);
	lapic[0xb0 / 4] = 0;
}

/* One NMI at a time: the next waits for IRET. guest_enter() comes back from a trap without one. */
static void
test_nmi(void)
{
	struct context c = context_at(nmi_code, false);
	int v = guest_enter(&c);

	guest_check(v == 2 && c.ip >= (uintptr_t)nmi_at && c.ip <= (uintptr_t)nmi_next, "NMI: trap %d at %lx",
		    v, c.ip);
	trap_clear();
	lapic[0x300 / 4] = ICR_NMI;
	for (unsigned n = 0; n < 1000; n++)
		(void)inb(0x61);
	guest_check(trap_seen.vector == -1, "NMI in an NMI's handler: trap %d", trap_seen.vector);
	c = context_at(plain_code, false);
	v = guest_enter(&c); /* IRET */
	guest_check(v == 2 && c.ip == (uintptr_t)plain_code, "NMI after IRET: trap %d at %lx", v, c.ip);
	c = context_at(plain_code, false);
	v = guest_enter(&c);
	guest_check(v == GUEST_ENDED, "no third NMI: trap %d", v);
}

int
main(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	lapic[0xf0 / 4] = 0x1ff;
	test_faults();
	test_traps();
	test_not_present();
	test_single_step();
	test_double_fault();
	test_debug();
	test_stepped_rep();
	test_arithmetic();
	test_nesting();
	test_frames();
	test_gate_flags();
	test_shadows();
	test_nmi();
	return guest_summary();
}
