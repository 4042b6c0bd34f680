/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments of long mode (SDM vol. 3A 3.4.4, 5.8; vol. 2: IRET, SYSCALL, SYSRET, CALL): 64-bit code beside
 * compatibility mode, null SS, bases that are not canonical, 16-byte gates, fast system calls and the SS that
 * they leave.
 */
#include "tests/guest/guest.h"

enum {
	CODE = SEL_FREE,
	GATE = SEL_FREE + 8, /* 16 bytes */
	DATA = SEL_FREE + 24,
	CODE32 = SEL_FREE + 32, /* DPL 3, flat */
	CODE32_0 = SEL_FREE + 40,
	SYSTEM = SEL_FREE + 48, /* 16 bytes */
	BEYOND = 0x1000,
	END = GUEST_ENDED,
	FS_BASE = 0xc0000100,
	GS_BASE,
	KERNEL_GS_BASE,
	EFER = 0xc0000080,
	STAR,
	LSTAR,
	CSTAR,
	FMASK,
};
#define NON_CANONICAL 0x800000000000ull
#define NEVER	      0x100000000000000ull /* for processors with 57 bits neither: bases take all that they have */
#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))

static bool amd;
void end64(void), end32(void), push64(void), compat(void), far_call(void), gate_code(void), do_syscall(void),
    after_syscall(void), entry(void), sysretq_code(void), sysretl_code(void), sysenter_code(void),
    far_end(void), compat_push(void), compat_read(void), compat_syscall(void);
__asm__(
    "end64: " GUEST_END "\n"
    "push64: push %rax; " GUEST_END "\n"
    "far_call: lcall *(%rbx)\n"
    "far_end: " GUEST_END "\n"
    "gate_code: mov 8(%rsp), %rax; mov 16(%rsp), %rcx; mov 24(%rsp), %rdx; mov %ss, %esi; " GUEST_END "\n"
    "do_syscall: syscall\n"
    "after_syscall: " GUEST_END "\n"
    "entry: mov $stack_top - 8192, %rsp; pushf; pop %rax; push %rax; mov %ss, %ebx; " GUEST_END "\n"
    "sysretq_code: sysretq\n"
    "sysretl_code: sysretl\n"
    "sysenter_code: sysenter\n"
    ".code32\n"
    "end32: " GUEST_END "\n"
    /* 32-bit instructions that 64-bit mode has not, addresses of 32 bits */
    "compat: push $7; pusha; popa; pop %ecx; mov $0xffffffff, %eax; inc %eax; lea -1(%eax), %edx; " GUEST_END
    "\n"
    "compat_push: push %eax; " GUEST_END "\n"
    "compat_read: mov (%ebx), %eax; " GUEST_END "\n"
    "compat_syscall: syscall\n"
    ".code64\n");

static struct context
start(void (*code)(void), unsigned cs, unsigned ss)
{
	struct context c = {
	    .ip = (uintptr_t)code, .cs = cs, .ss = ss, .sp = (uintptr_t)user_stack_top, .flags = 2};

	return c;
}

/* ---- IRET ---- */

static const struct {
	const char *name;
	uint16_t cs, ss;
	void (*code)(void);
	unsigned access, flags; /* of CODE */
	unsigned data;		/* access byte of DATA */
	uint64_t ip;		/* when not 0 */
	int vector;
	unsigned error;
} irets[] = {
    {"to CPL 0", SEL_CODE, SEL_DATA, end64, 0, 0, 0, 0, END, 0},
    {"to CPL 0, SS null", SEL_CODE, 0, end64, 0, 0, 0, 0, END, 0},
    {"to CPL 1, SS null", CODE | 1, 1, end64, 0xbb, DESC_L, 0, 0, END, 0},
    {"to CPL 3", SEL_USER_CODE, SEL_USER_DATA, end64, 0, 0, 0, 0, END, 0},
    {"to CPL 3, SS null", SEL_USER_CODE, 3, end64, 0, 0, 0, 0, 13, 0},
    {"to CPL 0, SS null with RPL 3", SEL_CODE, 3, end64, 0, 0, 0, 0, 13, 0},
    {"to compatibility mode", CODE32 | 3, SEL_USER_DATA, end32, 0, 0, 0, 0, END, 0},
    {"to compatibility mode at CPL 0", CODE32_0, SEL_DATA, end32, 0, 0, 0, 0, END, 0},
    {"to compatibility mode, SS null", CODE32_0, 0, end32, 0, 0, 0, 0, 13, 0},
    {"to code with L and D", CODE, SEL_DATA, end64, 0x9b, DESC_L | DESC_D, 0, 0, 13, CODE},
    {"to code that is not present", CODE, SEL_DATA, end64, 0x1b, DESC_L, 0, 0, 11, CODE},
    {"to data", CODE, SEL_DATA, end64, 0x93, DESC_L, 0, 0, 13, CODE},
    {"to a null CS", 0, SEL_DATA, end64, 0, 0, 0, 0, 13, 0},
    {"to a CS beyond the GDT", BEYOND, SEL_DATA, end64, 0, 0, 0, 0, 13, BEYOND},
    {"to DPL 0 with RPL 3", CODE | 3, SEL_USER_DATA, end64, 0x9b, DESC_L, 0, 0, 13, CODE},
    {"to conforming code at CPL 3", CODE | 3, SEL_USER_DATA, end64, 0x9f, DESC_L, 0, 0, END, 0},
    {"to conforming code of DPL 3 at CPL 0", CODE, SEL_DATA, end64, 0xff, DESC_L, 0, 0, 13, CODE},
    {"to a RIP that is not canonical", SEL_CODE, SEL_DATA, end64, 0, 0, 0, NON_CANONICAL, 13, 0},
    {"to such a RIP at CPL 3", SEL_USER_CODE, SEL_USER_DATA, end64, 0, 0, 0, NON_CANONICAL, 13, 0},
    {"to EIP beyond 4 GiB", CODE32 | 3, SEL_USER_DATA, end32, 0, 0, 0, 0x100000000, 13, 0},
    {"to EIP beyond the limit", CODE, SEL_DATA, end32, 0x9b, DESC_D, 0, 0, 13, 0},
    {"SS read-only", SEL_CODE, DATA, end64, 0, 0, 0x91, 0, 13, DATA},
    {"SS of another DPL", SEL_CODE, DATA, end64, 0, 0, 0xf3, 0, 13, DATA},
    {"SS not present", SEL_CODE, DATA, end64, 0, 0, 0x13, 0, 12, DATA},
    {"SS with a limit of 0", SEL_CODE, DATA, push64, 0, 0, 0x93, 0, END, 0},
};

static void
test_iret(unsigned n)
{
	struct context c = start(irets[n].code, irets[n].cs, irets[n].ss);

	gdt[CODE / 8] = descriptor(0, 0xff, irets[n].access, irets[n].flags);
	gdt[DATA / 8] = descriptor(0, 0, irets[n].data, 0);
	if (irets[n].ip != 0)
		c.ip = irets[n].ip;
	int v = guest_enter(&c);
	guest_check(v == irets[n].vector && (v == END || trap_seen.error == irets[n].error),
		    "IRET %s: trap %d error %lx at %lx", irets[n].name, v, trap_seen.error, c.ip);
	if (v == END)
		guest_check(c.cs == irets[n].cs && c.ss == irets[n].ss, "IRET %s: cs %lx ss %lx",
			    irets[n].name, c.cs, c.ss);
}

static void
test_iret_flags(void)
{
	struct context c = start(end64, SEL_CODE, SEL_DATA);

	c.flags = 0x20002; /* VM: not in long mode */
	int v = guest_enter(&c);
	guest_check(v == END && (c.flags & 0x20000) == 0, "IRET with VM: trap %d flags %lx", v, c.flags);
	TRY("pushf; orl $0x4000, (%%rsp); popf; iretq", : : : "memory", "cc");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "IRET with NT: trap %d",
		    trap_seen.vector);
	__asm__ volatile("push $2; popf" : : : "cc", "memory");
	c = start(push64, SEL_USER_CODE, SEL_USER_DATA);
	c.sp = NON_CANONICAL;
	v = guest_enter(&c);
	guest_check(v == 14 && trap_seen.cr2 == NON_CANONICAL - 8,
		    "push below the first bad address: trap %d", v);
	c = start(push64, SEL_USER_CODE, SEL_USER_DATA);
	c.sp = NON_CANONICAL + 4096;
	v = guest_enter(&c);
	guest_check(v == 12 && trap_seen.error == 0, "push to a bad address: trap %d error %lx", v,
		    trap_seen.error);
}

/* ---- compatibility mode ---- */

static void
test_compatibility(void)
{
	for (unsigned cpl = 0; cpl < 4; cpl += 3) {
		struct context c = start(compat, cpl ? CODE32 | 3 : CODE32_0, cpl ? SEL_USER_DATA : SEL_DATA);

		c.ds = c.es = SEL_USER_DATA;
		int v = guest_enter(&c);
		guest_check(v == END && c.cx == 7 && c.ax == 0 && c.dx == 0xffffffff,
			    "CPL %u: trap %d, %lx %lx %lx", cpl, v, c.cx, c.ax, c.dx);
		/* Limits count here, in 64-bit code they do not. */
		gdt[DATA / 8] = descriptor((uintptr_t)&amd, 3, 0xf3, DESC_D);
		c = start(compat_read, cpl ? CODE32 | 3 : CODE32_0, cpl ? SEL_USER_DATA : SEL_DATA);
		c.ds = DATA | 3;
		v = guest_enter(&c);
		guest_check(v == END, "CPL %u, within the limit: trap %d", cpl, v);
		c = start(compat_read, cpl ? CODE32 | 3 : CODE32_0, cpl ? SEL_USER_DATA : SEL_DATA);
		c.ds = DATA | 3;
		c.bx = 1;
		v = guest_enter(&c);
		guest_check(v == 13 && trap_seen.error == 0, "CPL %u, beyond the limit: trap %d", cpl, v);
		c.ds = 0;
		c.ip = (uintptr_t)compat_read;
		v = guest_enter(&c);
		guest_check(v == 13 && trap_seen.error == 0, "CPL %u, DS null: trap %d", cpl, v);
	}
	struct context c = start(compat_push, CODE32 | 3, DATA | 3);
	gdt[DATA / 8] = descriptor(0, 0xff, 0xf3, DESC_D);
	int v = guest_enter(&c);
	guest_check(v == 12 && trap_seen.error == 0, "a push beyond the limit: trap %d", v);
	__asm__ volatile("mov %w0, %%ds" : : "r"(DATA | 3));
	TRY("mov (%0), %%rax", : : "r"(&amd) : "rax", "memory");
	guest_check(trap_seen.vector == -1, "64-bit mode, beyond DS's limit: trap %d", trap_seen.vector);
	__asm__ volatile("mov %w0, %%ds" : : "r"(SEL_DATA));
}

/* ---- bases ---- */

static void
test_bases(void)
{
	static const struct {
		uint32_t msr;
		uint64_t value;
		bool ok;
	} writes[] = {
	    {FS_BASE, NEVER, false},
	    {GS_BASE, NEVER, false},
	    {KERNEL_GS_BASE, NEVER, false},
	    {FS_BASE, ~NEVER, false},
	    {FS_BASE, NON_CANONICAL - 1, true},
	    {GS_BASE, 0xffff800000000000ull, true},
	    {KERNEL_GS_BASE, 0xffffffffffffffffull, true},
	    {LSTAR, NEVER, false},
	    {CSTAR, NEVER, false},
	    {STAR, ~0ull, true},
	    {FMASK, 0xffffffff, true},
	};
	static uint64_t word = 0x1234;
	uint64_t v = 0;

	for (unsigned n = 0; n < COUNT(writes); n++) {
		TRY("wrmsr",
		    :
		    : "c"(writes[n].msr), "a"((uint32_t)writes[n].value),
		      "d"((uint32_t)(writes[n].value >> 32))
		    : "memory");
		guest_check(trap_seen.vector == (writes[n].ok ? -1 : 13), "wrmsr %x %lx: trap %d",
			    writes[n].msr, writes[n].value, trap_seen.vector);
		guest_check(!writes[n].ok || rdmsr(writes[n].msr) == writes[n].value, "wrmsr %x: %lx",
			    writes[n].msr, rdmsr(writes[n].msr));
	}
	wrmsr(FS_BASE, (uintptr_t)&word - 0x10);
	TRY("mov %%fs:0x10, %0", : "=r"(v) : : "memory");
	guest_check(trap_seen.vector == -1 && v == 0x1234, "FS base: trap %d %lx", trap_seen.vector, v);
	wrmsr(FS_BASE, NON_CANONICAL - 8);
	TRY("mov %%fs:8, %%rax", : : : "rax", "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "FS base and offset: trap %d",
		    trap_seen.vector);
	wrmsr(FS_BASE, 0xffffffffffffff00ull);
	TRY("mov %%fs:(%1), %0", : "=r"(v) : "r"((uintptr_t)&word + 0x100) : "memory");
	guest_check(trap_seen.vector == -1 && v == 0x1234, "FS base, a sum that wraps: trap %d",
		    trap_seen.vector);
	gdt[DATA / 8] = descriptor((uintptr_t)&word, 0, 0x93, 0);
	TRY("mov %w1, %%gs; mov %%gs:0, %0", : "=r"(v) : "r"(DATA) : "memory");
	guest_check(v == 0x1234 && rdmsr(GS_BASE) == (uintptr_t)&word, "GS from the GDT: base %lx",
		    rdmsr(GS_BASE));
	wrmsr(KERNEL_GS_BASE, 0x5000);
	__asm__ volatile("swapgs");
	guest_check(rdmsr(GS_BASE) == 0x5000 && rdmsr(KERNEL_GS_BASE) == (uintptr_t)&word, "swapgs: %lx %lx",
		    rdmsr(GS_BASE), rdmsr(KERNEL_GS_BASE));
	__asm__ volatile("mov %w0, %%gs; mov %w0, %%fs" : : "r"(0));
	uint32_t r[4];
	cpuid(0x80000021, 0, r);
	if (!amd || (r[0] & 0x40) != 0)
		guest_check(rdmsr(GS_BASE) == 0, "null into GS: base %lx", rdmsr(GS_BASE));
	TRY("mov %0, %%rbp; mov (%%rbp), %%rax", : : "r"(NON_CANONICAL) : "rax", "rbp", "memory");
	guest_check(trap_seen.vector == 12 && trap_seen.error == 0, "stack address: trap %d",
		    trap_seen.vector);
}

/* ---- CR4.UMIP: what tells of the system's tables is for CPL 0 ---- */

#define TELLS(name, insn)                             \
	__asm__(#name ": " insn "; " GUEST_END "\n"); \
	void name(void);
TELLS(tell_gdt, "sgdt -16(%rsp)")
TELLS(tell_idt, "sidt -16(%rsp)")
TELLS(tell_ldt, "sldt %eax")
TELLS(tell_tr, "str %eax")
TELLS(tell_msw, "smsw %eax")
TELLS(tell_ldt_to_memory, "sldt -16(%rsp)")

static void
test_umip(void)
{
	static void (*const codes[])(void) = {tell_gdt, tell_idt, tell_ldt,
					      tell_tr,	tell_msw, tell_ldt_to_memory};
	enum { CR4_UMIP = 1 << 11 };
	uint32_t r[4];

	cpuid(7, 0, r);
	bool has_umip = r[2] >> 2 & 1;
	TRY("mov %0, %%cr4", : : "r"(read_cr4() | CR4_UMIP) : "memory");
	guest_check(trap_seen.vector == (has_umip ? -1 : 13), "CR4.UMIP: trap %d", trap_seen.vector);
	for (unsigned n = 0; n < 2 * COUNT(codes) * 2; n++) {
		bool user = n & 1, on = n & 2;
		struct context c =
		    start(codes[n / 4], user ? SEL_USER_CODE : SEL_CODE, user ? SEL_USER_DATA : SEL_DATA);

		if (on && !has_umip)
			continue;
		write_cr4((read_cr4() & ~(unsigned long)CR4_UMIP) | (on ? CR4_UMIP : 0));
		int v = guest_enter(&c);
		guest_check(v == (on && user ? 13 : END) && (v == END || trap_seen.error == 0),
			    "UMIP %d, user %d, number %u: trap %d error %lx", on, user, n / 4, v,
			    trap_seen.error);
	}
	write_cr4(read_cr4() & ~(unsigned long)CR4_UMIP);
	if (!has_umip)
		guest_skip("UMIP");
}

/* ---- descriptors of 16 bytes ---- */

static void
test_system(void)
{
	static const struct {
		const char *name;
		unsigned type;
		uint64_t high;
		bool ltr;
		int vector;
	} rows[] = {
	    {"LDT", 2, 0, false, -1},
	    {"LDT above 4 GiB", 2, 0x7fff, false, -1},
	    {"LDT at a bad address", 2, 0x1000000, false, 13},
	    {"LDT with a type above", 2, 0x100ull << 32, false, 13},
	    {"LDT that is a TSS", 9, 0, false, 13},
	    {"TSS at a bad address", 9, 0x1000000, true, 13},
	    {"TSS that is busy", 11, 0, true, 13},
	    {"TSS of 16 bits", 1, 0, true, 13},
	};

	for (unsigned n = 0; n < COUNT(rows); n++) {
		gdt_set_system(SYSTEM, 0x1000, 0xff, rows[n].type);
		gdt[SYSTEM / 8 + 1] = rows[n].high;
		if (rows[n].ltr)
			TRY("ltr %w0", : : "r"(SYSTEM) : "memory");
		else
			TRY("lldt %w0", : : "r"(SYSTEM) : "memory");
		guest_check(trap_seen.vector == rows[n].vector &&
				(rows[n].vector < 0 || trap_seen.error == SYSTEM),
			    "%s: trap %d error %lx", rows[n].name, trap_seen.vector, trap_seen.error);
	}
	__asm__ volatile("lldt %w0" : : "r"(0));
}

static const struct {
	const char *name;
	unsigned cpl, gate, access, flags;
	uint64_t high;
	int vector;
	unsigned result;
} gates[] = {
    {"CPL 3 to DPL 0", 3, 0xec, 0x9b, DESC_L, 0, END, CODE},
    {"CPL 0 to DPL 0", 0, 0xec, 0x9b, DESC_L, 0, END, CODE},
    {"CPL 3 to conforming", 3, 0xec, 0x9f, DESC_L, 0, END, CODE | 3},
    {"to 32-bit code", 3, 0xec, 0x9b, DESC_D, 0, 13, CODE},
    {"to L and D", 3, 0xec, 0x9b, DESC_D | DESC_L, 0, 13, CODE},
    {"to a bad address", 3, 0xec, 0x9b, DESC_L, 0x8000, 13, 0},
    {"with a type above", 3, 0xec, 0x9b, DESC_L, 0x100ull << 32, 13, GATE},
    {"gate of 16 bits", 3, 0xe4, 0x9b, DESC_L, 0, 13, GATE},
    {"task gate", 3, 0xe5, 0x9b, DESC_L, 0, 13, GATE},
    {"gate of DPL 0", 3, 0x8c, 0x9b, DESC_L, 0, 13, GATE},
    {"gate that is not present", 3, 0x6c, 0x9b, DESC_L, 0, 11, GATE},
};

static void
test_gate(unsigned n)
{
	struct __attribute__((packed)) {
		uint32_t offset;
		uint16_t selector;
	} pointer = {0, GATE};
	bool user = gates[n].cpl == 3;
	struct context c = start(far_call, user ? SEL_USER_CODE : SEL_CODE, user ? SEL_USER_DATA : SEL_DATA);
	uint64_t to = (uintptr_t)gate_code;

	gdt[CODE / 8] = descriptor(0, 0xfffff, gates[n].access, gates[n].flags | DESC_G);
	gdt[GATE / 8] =
	    (to & 0xffff) | (uint64_t)CODE << 16 | (uint64_t)gates[n].gate << 40 | (to >> 16 & 0xffff) << 48;
	gdt[GATE / 8 + 1] = gates[n].high;
	c.bx = (uintptr_t)&pointer;
	int v = guest_enter(&c);
	guest_check(v == gates[n].vector && (v == END || trap_seen.error == gates[n].result),
		    "call gate %s: trap %d error %lx", gates[n].name, v, trap_seen.error);
	if (v != END)
		return;
	guest_check(c.cs == gates[n].result && (c.ax & 0xffff) == (user ? SEL_USER_CODE : SEL_CODE),
		    "call gate %s: cs %lx from %lx", gates[n].name, c.cs, c.ax);
	if (user && (gates[n].access & 4) == 0)
		guest_check(c.cx == (uintptr_t)user_stack_top && (c.dx & 0xffff) == SEL_USER_DATA &&
				c.si == 0,
			    "call gate %s: rsp %lx ss %lx, new ss %lx", gates[n].name, c.cx, c.dx, c.si);
}

/* ---- fast system calls ---- */

static void
test_syscall(void)
{
	enum {
		KERNEL = 0x7f8,
		USER = 0x7e8
	}; /* selectors that the GDT does not have: hidden parts are fixed */
	struct context c = start(do_syscall, SEL_USER_CODE, SEL_USER_DATA);
	int v;

	wrmsr(STAR, (uint64_t)(USER | 3) << 48 | (uint64_t)(KERNEL | 3) << 32);
	wrmsr(LSTAR, (uintptr_t)entry);
	wrmsr(CSTAR, (uintptr_t)entry);
	wrmsr(FMASK, 0x600);
	c.flags = 0x10e03 & ~0x100u; /* RF, OF, DF, IF, CF */
	v = guest_enter(&c);
	guest_check(v == END && c.cs == KERNEL && c.bx == KERNEL + 8, "SYSCALL: trap %d cs %lx ss %lx", v,
		    c.cs, c.bx);
	guest_check(c.cx == (uintptr_t)after_syscall && c.ax == 0x803, "SYSCALL: rcx %lx flags %lx", c.cx,
		    c.ax);
	c = start(sysretq_code, SEL_CODE, SEL_DATA);
	c.cx = (uintptr_t)end64;
	v = guest_enter(&c);
	guest_check(v == END && c.cs == USER + 16 + 3 && c.ss == USER + 8 + 3,
		    "SYSRET: trap %d cs %lx ss %lx", v, c.cs, c.ss);
	c = start(sysretl_code, SEL_CODE, SEL_DATA);
	c.cx = (uintptr_t)compat;
	v = guest_enter(&c); /* pushes: SS is flat and writable, whatever the GDT says */
	guest_check(v == END && c.cs == USER + 3 && c.ss == USER + 8 + 3 && c.dx == 0xffffffff,
		    "SYSRET to compatibility mode: trap %d cs %lx ss %lx", v, c.cs, c.ss);
	c = start(sysretq_code, SEL_CODE, SEL_DATA);
	c.cx = NON_CANONICAL;
	v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0 && c.ip == (uintptr_t)sysretq_code && c.cs == SEL_CODE,
		    "SYSRET to a bad address: trap %d at %lx:%lx", v, c.cs, c.ip);
	c = start(sysretq_code, SEL_USER_CODE, SEL_USER_DATA);
	v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0, "SYSRET at CPL 3: trap %d", v);
	c = start(compat_syscall, CODE32 | 3, SEL_USER_DATA);
	v = guest_enter(&c);
	guest_check(amd ? v == END && c.cs == KERNEL : v == 6,
		    "SYSCALL of compatibility mode: trap %d cs %lx", v, c.cs);
	wrmsr(EFER, rdmsr(EFER) & ~1ull);
	c = start(do_syscall, SEL_USER_CODE, SEL_USER_DATA);
	v = guest_enter(&c);
	guest_check(v == 6, "SYSCALL with EFER.SCE clear: trap %d", v);
	c = start(sysretq_code, SEL_CODE, SEL_DATA);
	v = guest_enter(&c);
	guest_check(v == 6, "SYSRET with EFER.SCE clear: trap %d", v);
	wrmsr(EFER, rdmsr(EFER) | 1);
}

/* Intel's SYSENTER works in long mode, AMD's does not. */
static void
test_sysenter(void)
{
	struct context c = start(sysenter_code, SEL_USER_CODE, SEL_USER_DATA);
	int v;

	wrmsr(0x174, SEL_CODE);
	wrmsr(0x175, (uintptr_t)stack_top - 8192);
	wrmsr(0x176, (uintptr_t)entry);
	v = guest_enter(&c);
	guest_check(amd ? v == 6 : v == END && c.cs == SEL_CODE, "SYSENTER: trap %d cs %lx", v, c.cs);
	TRY("rex.W sysexit", : : "c"(NON_CANONICAL), "d"(NON_CANONICAL) : "memory");
	guest_check(trap_seen.vector == (amd ? 6 : 13), "SYSEXIT to a bad address: trap %d",
		    trap_seen.vector);
}

/* What 64-bit mode has given up. */
static void
test_undefined(void)
{
	static const uint8_t opcodes[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37,
					  0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea};
	static uint8_t code[16] __attribute__((aligned(16)));

	for (unsigned n = 0; n < COUNT(opcodes); n++) {
		struct context c = {
		    .ip = (uintptr_t)code, .cs = SEL_CODE, .sp = (uintptr_t)user_stack_top, .flags = 2};

		code[0] = opcodes[n];
		int v = guest_enter(&c);
		guest_check(v == 6 && c.ip == (uintptr_t)code, "opcode %x: trap %d", opcodes[n], v);
	}
}

int
main(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
	outb(0x21, 0xff); /* IF is set here and there */
	outb(0xa1, 0xff);
	amd = r[1] == 0x68747541 || r[1] == 0x6f677948;
	gdt[CODE32 / 8] = descriptor(0, 0xfffff, 0xfb, DESC_D | DESC_G);
	gdt[CODE32_0 / 8] = descriptor(0, 0xfffff, 0x9b, DESC_D | DESC_G);
	for (unsigned n = 0; n < COUNT(irets); n++)
		test_iret(n);
	test_iret_flags();
	test_compatibility();
	test_bases();
	test_umip();
	test_system();
	for (unsigned n = 0; n < COUNT(gates); n++)
		test_gate(n);
	test_syscall();
	test_sysenter();
	test_undefined();
	return guest_summary();
}
