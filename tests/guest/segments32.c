/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments of 32-bit protected mode (SDM vol. 3A ch. 3, 5; vol. 2: MOV, LSS, CALL, JMP, RET, IRET): limits,
 * expand-down, types and privilege of each load, conforming code, call gates with their stacks, far returns,
 * LDT.
 */
#include "tests/guest/guest.h"

enum {
	CODE = SEL_FREE,
	GATE = SEL_FREE + 8,
	DATA = SEL_FREE + 16,
	STACK1 = SEL_FREE + 24,
	CODE1 = SEL_FREE + 32,
	BEYOND = 0x1000,
	END = GUEST_ENDED,
	FLAT = DESC_D | DESC_G,
};
/* Access bytes; DPL 0. */
enum {
	RO = 0x91,
	RW = 0x93,
	DOWN_RO = 0x95,
	DOWN = 0x97,
	XO = 0x99,
	XR = 0x9b,
	CONFORMING = 0x9f,
	ABSENT_RW = 0x13,
	ABSENT_XR = 0x1b,
	DPL1 = 0x20,
	DPL2 = 0x40,
	DPL3 = 0x60
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t window[0x20000] __attribute__((aligned(4096)));
static uint64_t ldt[2];

/* ---- loads of a data segment and accesses through it ---- */

static const struct {
	const char *name;
	uint16_t selector;
	unsigned access, flags;
	uint32_t limit, offset;
	unsigned size;
	bool write;
	int vector;
	unsigned error;
} accesses[] = {
    {"last byte", DATA, RW, DESC_D, 0xff, 0xff, 1, false, -1, 0},
    {"behind the last byte", DATA, RW, DESC_D, 0xff, 0x100, 1, false, 13, 0},
    {"last word", DATA, RW, DESC_D, 0xff, 0xfc, 4, true, -1, 0},
    {"across the end", DATA, RW, DESC_D, 0xff, 0xfd, 4, false, 13, 0},
    {"across the end, write", DATA, RW, DESC_D, 0xff, 0xfe, 4, true, 13, 0},
    {"offset that wraps", DATA, RW, DESC_D, 0xff, 0xfffffffe, 4, false, 13, 0},
    {"limit 0, a byte", DATA, RW, DESC_D, 0, 0, 1, true, -1, 0},
    {"limit 0, two bytes", DATA, RW, DESC_D, 0, 0, 2, false, 13, 0},
    {"pages, last byte", DATA, RW, FLAT, 0, 0xfff, 1, false, -1, 0},
    {"pages, behind it", DATA, RW, FLAT, 0, 0x1000, 1, false, 13, 0},
    {"offset wraps with a limit of 4 GiB", DATA, RW, FLAT, 0xfffff, 0xfffffffe, 4, false, 13, 0},
    {"read-only, read", DATA, RO, DESC_D, 0xff, 0, 4, false, -1, 0},
    {"read-only, write", DATA, RO, DESC_D, 0xff, 0, 4, true, 13, 0},
    {"code, read", DATA, XR, DESC_D, 0xff, 0, 4, false, -1, 0},
    {"code, write", DATA, XR, DESC_D, 0xff, 0, 4, true, 13, 0},
    {"conforming code, read", DATA | 3, CONFORMING, DESC_D, 0xff, 0, 4, false, -1, 0},
    {"code that cannot be read", DATA, XO, DESC_D, 0xff, 0, 4, false, 13, DATA},
    {"expand-down, below", DATA, DOWN, DESC_D, 0xff, 0xff, 1, false, 13, 0},
    {"expand-down, first byte", DATA, DOWN, DESC_D, 0xff, 0x100, 1, true, -1, 0},
    {"expand-down, across the start", DATA, DOWN, DESC_D, 0xff, 0xfe, 4, false, 13, 0},
    {"expand-down, end", DATA, DOWN, DESC_D, 0xff, 0xfffffffc, 4, false, -1, 0},
    {"expand-down, across the end", DATA, DOWN, DESC_D, 0xff, 0xfffffffd, 4, false, 13, 0},
    {"expand-down of 16 bits, end", DATA, DOWN, 0, 0xff, 0xffff, 1, false, -1, 0},
    {"expand-down of 16 bits, across it", DATA, DOWN, 0, 0xff, 0xffff, 2, false, 13, 0},
    {"expand-down of 16 bits, beyond", DATA, DOWN, 0, 0xff, 0x10000, 1, false, 13, 0},
    {"expand-down of 16 bits, none", DATA, DOWN, 0, 0xffff, 0xffff, 1, false, 13, 0},
    {"expand-down in pages", DATA, DOWN, FLAT, 0, 0xfff, 1, false, 13, 0},
    {"expand-down in pages, first", DATA, DOWN, FLAT, 0, 0x1000, 4, false, -1, 0},
    {"expand-down, read-only", DATA, DOWN_RO, DESC_D, 0xff, 0x100, 1, true, 13, 0},
    {"not present", DATA, ABSENT_RW, DESC_D, 0xff, 0, 1, false, 11, DATA},
    {"an LDT", DATA, 0x82, DESC_D, 0xff, 0, 1, false, 13, DATA},
    {"a TSS", DATA, 0x89, DESC_D, 0xff, 0, 1, false, 13, DATA},
    {"RPL 3 on DPL 0", DATA | 3, RW, DESC_D, 0xff, 0, 1, false, 13, DATA},
    {"RPL 3 on DPL 3", DATA | 3, RW | DPL3, DESC_D, 0xff, 0, 1, false, -1, 0},
    {"RPL 2 on DPL 1", DATA | 2, RW | DPL1, DESC_D, 0xff, 0, 1, false, 13, DATA},
    {"RPL 1 on DPL 2", DATA | 1, RW | DPL2, DESC_D, 0xff, 0, 1, false, -1, 0},
    {"RPL 3 on code of DPL 0", DATA | 3, XR, DESC_D, 0xff, 0, 1, false, 13, DATA},
    {"privilege before presence", DATA | 3, ABSENT_RW, DESC_D, 0xff, 0, 1, false, 13, DATA},
    {"null", 0, RW, DESC_D, 0xff, 0, 1, false, 13, 0},
    {"null with RPL 3", 3, RW, DESC_D, 0xff, 0, 1, true, 13, 0},
    {"beyond the GDT", BEYOND, RW, DESC_D, 0xff, 0, 1, false, 13, BEYOND},
    {"LDT", 4 | 8, RW, DESC_D, 0xff, 0xff, 1, false, -1, 0},
    {"LDT's first entry is no null", 4, RW, DESC_D, 0xff, 0x100, 1, false, 13, 4},
    {"beyond the LDT", 4 | 16, RW, DESC_D, 0xff, 0, 1, false, 13, 4 | 16},
};

static void
test_accesses(void)
{
	gdt[SEL_LDT / 8] = descriptor((uintptr_t)ldt, sizeof(ldt) - 1, 0x82, 0);
	__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
	for (unsigned n = 0; n < COUNT(accesses); n++) {
		uint64_t d = descriptor((uintptr_t)window + 4096, accesses[n].limit, accesses[n].access & ~1u,
					accesses[n].flags);
		uint64_t *at = accesses[n].selector & 4 ? &ldt[1] : &gdt[DATA / 8];
		uint32_t sel = accesses[n].selector, off = accesses[n].offset;

		__asm__ volatile("mov %w0, %%fs" : : "r"(0)); /* traps load it again */
		*at = d;
		if (accesses[n].size == 1 && accesses[n].write)
			TRY("mov %w0, %%fs; movb $1, %%fs:(%1)", : : "r"(sel), "r"(off) : "memory");
		else if (accesses[n].size == 1)
			TRY("mov %w0, %%fs; movb %%fs:(%1), %%al", : : "r"(sel), "r"(off) : "eax", "memory");
		else if (accesses[n].size == 2)
			TRY("mov %w0, %%fs; movw %%fs:(%1), %%ax", : : "r"(sel), "r"(off) : "eax", "memory");
		else if (accesses[n].write)
			TRY("mov %w0, %%fs; movl $1, %%fs:(%1)", : : "r"(sel), "r"(off) : "memory");
		else
			TRY("mov %w0, %%fs; movl %%fs:(%1), %%eax", : : "r"(sel), "r"(off) : "eax", "memory");
		guest_check(trap_seen.vector == accesses[n].vector &&
				(trap_seen.vector < 0 || trap_seen.error == accesses[n].error),
			    "%s: trap %d error %lx, not %d %x", accesses[n].name, trap_seen.vector,
			    trap_seen.error, accesses[n].vector, accesses[n].error);
		bool loaded = accesses[n].vector < 0 || (trap_seen.error == 0 && (sel & ~3u) != 0);
		guest_check((*at >> 40 & 1) == (loaded && (sel & ~3u) != 4), "%s: accessed bit of %llx",
			    accesses[n].name, *at);
	}
	__asm__ volatile("mov %w0, %%fs; lldt %w0" : : "r"(0));
	TRY("mov %w0, %%fs", : : "r"(4 | 8) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == (4 | 8), "no LDT: trap %d error %lx",
		    trap_seen.vector, trap_seen.error);
}

/* ---- loads of SS ---- */

static const struct {
	const char *name;
	uint16_t selector;
	unsigned access;
	int vector;
	unsigned error;
} stacks[] = {
    {"null", 0, RW, 13, 0},
    {"null with RPL 3", 3, RW, 13, 0},
    {"writable", DATA, RW, -1, 0},
    {"read-only", DATA, RO, 13, DATA},
    {"code", DATA, XR, 13, DATA},
    {"RPL 3", DATA | 3, RW, 13, DATA},
    {"DPL 3", DATA, RW | DPL3, 13, DATA},
    {"not present", DATA, ABSENT_RW, 12, DATA},
    {"beyond the GDT", BEYOND, RW, 13, BEYOND},
};

static void
test_stacks(void)
{
	for (unsigned n = 0; n < COUNT(stacks); n++) {
		gdt[DATA / 8] = descriptor(0, 0xfffff, stacks[n].access, FLAT);
		TRY("mov %w0, %%ss", : : "r"(stacks[n].selector) : "memory");
		guest_check(trap_seen.vector == stacks[n].vector &&
				(trap_seen.vector < 0 || trap_seen.error == stacks[n].error),
			    "SS %s: trap %d error %lx", stacks[n].name, trap_seen.vector, trap_seen.error);
		__asm__ volatile("mov %w0, %%ss" : : "r"(SEL_DATA));
	}
}

/* Stacks of CPL 3: what a PUSH there does. */
void push_code(void), end_code(void), far_jump(void), far_call(void), far_return(void), gate_code(void),
    gate_code16(void), iret_code(void);
__asm__(
    "push_code: push %eax; " GUEST_END "\n"
    "end_code: " GUEST_END "\n"
    "far_jump: ljmp *(%ebx)\n"
    "far_call: push $0x2222; push $0x1111; lcall *(%ebx)\n"
    "far_return: mov %ebx, %esp; lret\n"
    "iret_code: mov %ebx, %esp; iret\n"
    /* What the gate pushed: [0] EIP, [1] CS, then parameters or ESP, SS. */
    "gate_code: mov 8(%esp), %eax; mov 12(%esp), %ecx; mov 16(%esp), %edx; mov 20(%esp), %esi; " GUEST_END
    "\n"
    ".pushsection .low, \"ax\", @progbits\n"
    "gate_code16: movzwl 4(%esp), %eax; movzwl 6(%esp), %ecx; movzwl 8(%esp), %edx; movzwl 10(%esp), %esi;"
    "movzwl 2(%esp), %edi; " GUEST_END "\n"
    ".popsection\n");

static struct context
level(unsigned cpl, void (*code)(void))
{
	bool outer = cpl == 3;
	struct context c = {.ip = (uintptr_t)code,
			    .cs = outer ? SEL_USER_CODE : SEL_CODE,
			    .ss = outer ? SEL_USER_DATA : SEL_DATA,
			    .sp = (uintptr_t)user_stack_top - 64,
			    .ds = SEL_USER_DATA,
			    .es = SEL_USER_DATA,
			    .flags = 2};

	return c;
}

static const struct {
	const char *name;
	unsigned access, flags;
	uint32_t base, limit, sp;
	int vector;
	uint32_t end_sp; /* with a 16-bit stack IRET loads only SP */
} pushes[] = {
    {"full", RW, DESC_D, 0, 0xff, 0x100, END, 0xfc},
    {"beyond", RW, DESC_D, 0, 0xff, 0x104, 12, 0x104},
    {"across", RW, DESC_D, 0, 0xff, 0x102, 12, 0x102},
    {"wraps below 0", RW, DESC_D, 0, 0xff, 0, 12, 0},
    {"16 bits wrap", RW, 0, 0, 0xffff, 0, END, 0xfffc},
    {"16 bits cut across", RW, 0, 0, 0xffff, 2, 12, 2},
    {"expand-down, room", DOWN, DESC_D, 0, 0xff, 0x104, END, 0x100},
    {"expand-down, none", DOWN, DESC_D, 0, 0xff, 0x103, 12, 0x103},
};

static void
test_outer_stack(void)
{
	for (unsigned n = 0; n < COUNT(pushes); n++) {
		struct context c = level(3, push_code);

		gdt[DATA / 8] =
		    descriptor((uintptr_t)window, pushes[n].limit, pushes[n].access | DPL3, pushes[n].flags);
		c.ss = DATA | 3;
		c.sp = pushes[n].sp;
		int v = guest_enter(&c);
		guest_check(v == pushes[n].vector && (v == END || trap_seen.error == 0) &&
				((c.sp ^ pushes[n].end_sp) & (pushes[n].flags ? 0xffffffff : 0xffff)) == 0,
			    "push, stack %s: trap %d error %lx sp %lx", pushes[n].name, v, trap_seen.error,
			    c.sp);
	}
}

/* ---- far jumps and calls ---- */

enum { JMP = 1, CALL = 2, BOTH = 3 };
static const struct {
	const char *name;
	unsigned how, cpl;
	uint16_t selector;
	unsigned access;
	uint32_t limit;
	int vector;
	unsigned result; /* CS, or the error code */
} transfers[] = {
    {"CPL 0 to DPL 0", BOTH, 0, CODE, XR, 0xfffff, END, CODE},
    {"CPL 0 to DPL 0, RPL 3", BOTH, 0, CODE | 3, XR, 0xfffff, 13, CODE},
    {"CPL 3 to DPL 3", BOTH, 3, CODE | 3, XR | DPL3, 0xfffff, END, CODE | 3},
    {"CPL 3 to DPL 3, RPL 0", BOTH, 3, CODE, XR | DPL3, 0xfffff, END, CODE | 3},
    {"CPL 3 to DPL 0", BOTH, 3, CODE, XR, 0xfffff, 13, CODE},
    {"CPL 0 to DPL 3", BOTH, 0, CODE, XR | DPL3, 0xfffff, 13, CODE},
    {"CPL 3 to conforming DPL 0", BOTH, 3, CODE, CONFORMING, 0xfffff, END, CODE | 3},
    {"CPL 3 to conforming DPL 2", BOTH, 3, CODE, CONFORMING | DPL2, 0xfffff, END, CODE | 3},
    {"CPL 0 to conforming, RPL 3", BOTH, 0, CODE | 3, CONFORMING, 0xfffff, END, CODE},
    {"CPL 0 to conforming DPL 3", BOTH, 0, CODE, CONFORMING | DPL3, 0xfffff, 13, CODE},
    {"not present", BOTH, 0, CODE, ABSENT_XR, 0xfffff, 11, CODE},
    {"privilege before presence", BOTH, 3, CODE, ABSENT_XR, 0xfffff, 13, CODE},
    {"data", BOTH, 0, CODE, RW, 0xfffff, 13, CODE},
    {"beyond the limit", BOTH, 0, CODE, XR, 0x1ff, 13, 0},
    {"null", BOTH, 0, 0, XR, 0xfffff, 13, 0},
    {"null, RPL 3", BOTH, 3, 3, XR, 0xfffff, 13, 0},
    {"beyond the GDT", BOTH, 0, BEYOND, XR, 0xfffff, 13, BEYOND},
    {"an LDT", BOTH, 0, CODE, 0x82, 0xfffff, 13, CODE},
    {"an interrupt gate", BOTH, 0, CODE, 0x8e, 0xfffff, 13, CODE},
};

static void
transfer(unsigned n, unsigned how)
{
	struct __attribute__((packed)) {
		uint32_t offset;
		uint16_t selector;
	} pointer = {(uintptr_t)end_code, transfers[n].selector};
	struct context c = level(transfers[n].cpl, how == JMP ? far_jump : far_call);
	uint32_t sp = c.sp;

	gdt[CODE / 8] = descriptor(0, transfers[n].limit, transfers[n].access, FLAT);
	c.bx = (uintptr_t)&pointer;
	int v = guest_enter(&c);
	guest_check(v == transfers[n].vector, "%s, %s: trap %d error %lx", transfers[n].name,
		    how == JMP ? "jump" : "call", v, trap_seen.error);
	if (v != transfers[n].vector)
		return;
	if (v == END) {
		guest_check(c.cs == transfers[n].result, "%s: cs %lx", transfers[n].name, c.cs);
		guest_check(transfers[n].cpl == 0 || c.sp == sp - (how == CALL ? 16 : 0),
			    "%s: sp %lx, not %lx", transfers[n].name, c.sp, (unsigned long)sp);
	} else {
		guest_check(trap_seen.error == transfers[n].result, "%s: error %lx, not %x",
			    transfers[n].name, trap_seen.error, transfers[n].result);
	}
}

/* ---- call gates ---- */

enum { NO_STACK = 0xffff };
static const struct gate_case {
	const char *name;
	unsigned how, cpl;
	uint16_t selector; /* of the gate */
	unsigned gate, params;
	uint16_t target;
	unsigned access;
	int vector;
	unsigned result;
	uint16_t ss1; /* for targets of DPL 1, when not 0 */
	uint32_t ss1_limit;
} gates[] = {
    {"CPL 3 to DPL 0", CALL, 3, GATE, 0xec, 0, CODE, XR, END, CODE, 0, 0},
    {"CPL 3 to DPL 0, two parameters", CALL, 3, GATE, 0xec, 2, CODE, XR, END, CODE, 0, 0},
    {"jump from CPL 3 to DPL 0", JMP, 3, GATE, 0xec, 0, CODE, XR, 13, CODE, 0, 0},
    {"to conforming code", BOTH, 3, GATE, 0xec, 0, CODE, CONFORMING, END, CODE | 3, 0, 0},
    {"CPL 0 to DPL 0", BOTH, 0, GATE, 0xec, 0, CODE, XR, END, CODE, 0, 0},
    {"CPL 0 to DPL 3", BOTH, 0, GATE, 0xec, 0, CODE, XR | DPL3, 13, CODE, 0, 0},
    {"CPL 3 to DPL 3", BOTH, 3, GATE, 0xec, 0, CODE, XR | DPL3, END, CODE | 3, 0, 0},
    {"gate of DPL 0 at CPL 3", BOTH, 3, GATE, 0x8c, 0, CODE, XR, 13, GATE, 0, 0},
    {"gate of DPL 2, RPL 3", BOTH, 0, GATE | 3, 0xcc, 0, CODE, XR, 13, GATE, 0, 0},
    {"gate that is not present", BOTH, 3, GATE, 0x6c, 0, CODE, XR, 11, GATE, 0, 0},
    {"target not present", BOTH, 0, GATE, 0xec, 0, CODE, ABSENT_XR, 11, CODE, 0, 0},
    {"target data", BOTH, 0, GATE, 0xec, 0, CODE, RW, 13, CODE, 0, 0},
    {"target null", BOTH, 0, GATE, 0xec, 0, 0, XR, 13, 0, 0, 0},
    {"target beyond the GDT", BOTH, 3, GATE, 0xec, 0, BEYOND, XR, 13, BEYOND, 0, 0},
    {"RPL of the target does not count", CALL, 3, GATE | 3, 0xec, 0, CODE | 3, XR, END, CODE, 0, 0},
    {"to CPL 1", CALL, 3, GATE, 0xec, 0, CODE, XR | DPL1, END, CODE | 1, STACK1 | 1, 0xfffff},
    {"to CPL 1, its stack null", CALL, 3, GATE, 0xec, 0, CODE, XR | DPL1, 10, 0, NO_STACK, 0xfffff},
    {"to CPL 1, its stack's RPL 0", CALL, 3, GATE, 0xec, 0, CODE, XR | DPL1, 10, STACK1, STACK1, 0xfffff},
    {"to CPL 1, its stack beyond", CALL, 3, GATE, 0xec, 0, CODE, XR | DPL1, 10, BEYOND, BEYOND | 1, 0xfffff},
    {"to CPL 1, stack of DPL 0", CALL, 3, GATE, 0xec, 0, CODE, XR | DPL1, 10, SEL_DATA, SEL_DATA | 1,
     0xfffff},
    {"to CPL 1, its stack's limit", CALL, 3, GATE, 0xec, 0, CODE, XR | DPL1, 12, STACK1, STACK1 | 1, 1},
};

static void
check_gate_frame(const struct gate_case *g, const struct context *c, uint32_t sp)
{
	uint32_t want[4] = {sp - 8, SEL_USER_DATA};

	if (g->cpl != 3 || (g->access & 4) != 0 || (g->access & DPL3) == DPL3)
		return;
	if (g->params == 2) {
		want[0] = 0x1111;
		want[1] = 0x2222;
		want[2] = sp - 8;
		want[3] = SEL_USER_DATA;
	}
	guest_check(c->ax == want[0] && (c->cx & 0xffff) == want[1], "%s: frame %lx %lx", g->name, c->ax,
		    c->cx);
	guest_check(g->params == 0 || (c->dx == want[2] && (c->si & 0xffff) == want[3]), "%s: frame %lx %lx",
		    g->name, c->dx, c->si);
}

static void
through_gate(const struct gate_case *g, unsigned how)
{
	struct __attribute__((packed)) {
		uint32_t offset;
		uint16_t selector;
	} pointer = {0xdeadbeef, g->selector};
	struct context c = level(g->cpl, how == JMP ? far_jump : far_call);
	uint32_t sp = c.sp, to = (uintptr_t)gate_code;

	gdt[CODE / 8] = descriptor(0, 0xfffff, g->access, FLAT);
	gdt[GATE / 8] = (to & 0xffff) | (uint64_t)g->target << 16 | (uint64_t)g->params << 32 |
			(uint64_t)g->gate << 40 | (uint64_t)(to >> 16) << 48;
	gdt[STACK1 / 8] = descriptor(0, g->ss1_limit, RW | DPL1, FLAT & (g->ss1_limit == 1 ? DESC_D : FLAT));
	tss.ss1 = g->ss1 == NO_STACK ? 1 : g->ss1;
	tss.esp1 = (uintptr_t)window + 0x1000;
	c.bx = (uintptr_t)&pointer;
	int v = guest_enter(&c);
	guest_check(v == g->vector, "gate, %s: trap %d error %lx", g->name, v, trap_seen.error);
	if (v != g->vector)
		return;
	if (v != END) {
		guest_check(trap_seen.error == g->result, "gate, %s: error %lx, not %x", g->name,
			    trap_seen.error, g->result);
		guest_check(c.ip >= (uintptr_t)far_jump && c.ip < (uintptr_t)far_return, "gate, %s: ip %lx",
			    g->name, c.ip);
		return;
	}
	guest_check(c.cs == g->result, "gate, %s: cs %lx, not %x", g->name, c.cs, g->result);
	check_gate_frame(g, &c, sp);
}

/* A 16-bit gate pushes words and has 16 bits of offset. */
static void
test_gate16(void)
{
	struct __attribute__((packed)) {
		uint32_t offset;
		uint16_t selector;
	} pointer = {0, GATE};
	struct context c = level(3, far_call);
	uint32_t sp = c.sp - 8;

	gdt[CODE / 8] = descriptor(0, 0xfffff, XR, FLAT);
	gdt[GATE / 8] =
	    (uintptr_t)gate_code16 | (uint64_t)CODE << 16 | 1ull << 32 | 0xe4ull << 40 | 0xbadull << 48;
	c.bx = (uintptr_t)&pointer;
	int v = guest_enter(&c);
	guest_check(v == END && c.cs == CODE, "16-bit gate: trap %d error %lx cs %lx", v, trap_seen.error,
		    c.cs);
	guest_check(c.ax == 0x1111 && c.cx == (sp & 0xffff) && c.dx == SEL_USER_DATA && c.di == SEL_USER_CODE,
		    "16-bit gate: frame %lx %lx %lx %lx", c.ax, c.cx, c.dx, c.di);
}

/* ---- far returns ---- */

static const struct {
	const char *name;
	unsigned cpl; /* from */
	uint16_t cs, ss;
	unsigned code, data; /* access bytes of CODE and DATA */
	uint32_t limit;
	int vector;
	unsigned result;
} returns[] = {
    {"to the same level", 0, CODE, 0, XR, RW, 0xfffff, END, CODE},
    {"to level 3", 0, CODE | 3, DATA | 3, XR | DPL3, RW | DPL3, 0xfffff, END, CODE | 3},
    {"to level 1", 0, CODE | 1, DATA | 1, XR | DPL1, RW | DPL1, 0xfffff, END, CODE | 1},
    {"to conforming code of DPL 0 at level 3", 0, CODE | 3, DATA | 3, CONFORMING, RW | DPL3, 0xfffff, END,
     CODE | 3},
    {"inwards", 3, CODE, DATA, XR, RW, 0xfffff, 13, CODE},
    {"DPL 0 with RPL 3", 0, CODE | 3, DATA | 3, XR, RW | DPL3, 0xfffff, 13, CODE},
    {"conforming code of DPL 3 at level 0", 0, CODE, 0, CONFORMING | DPL3, RW, 0xfffff, 13, CODE},
    {"CS null", 0, 0, 0, XR, RW, 0xfffff, 13, 0},
    {"CS data", 0, CODE, 0, RW, RW, 0xfffff, 13, CODE},
    {"CS not present", 0, CODE, 0, ABSENT_XR, RW, 0xfffff, 11, CODE},
    {"CS beyond the GDT", 0, BEYOND | 3, DATA | 3, XR, RW, 0xfffff, 13, BEYOND},
    {"EIP beyond the limit", 0, CODE, 0, XR, RW, 0x1ff, 13, 0},
    {"EIP beyond the limit at level 3", 0, CODE | 3, DATA | 3, XR | DPL3, RW | DPL3, 0x1ff, 13, 0},
    {"SS null", 0, CODE | 3, 3, XR | DPL3, RW | DPL3, 0xfffff, 13, 0},
    {"SS with another RPL", 0, CODE | 3, DATA | 1, XR | DPL3, RW | DPL3, 0xfffff, 13, DATA},
    {"SS with another DPL", 0, CODE | 3, DATA | 3, XR | DPL3, RW, 0xfffff, 13, DATA},
    {"SS read-only", 0, CODE | 3, DATA | 3, XR | DPL3, RO | DPL3, 0xfffff, 13, DATA},
    {"SS not present", 0, CODE | 3, DATA | 3, XR | DPL3, ABSENT_RW | DPL3, 0xfffff, 12, DATA},
    {"SS beyond the GDT", 0, CODE | 3, BEYOND | 3, XR | DPL3, RW | DPL3, 0xfffff, 13, BEYOND},
};

static void
far_return_case(unsigned n, bool by_iret)
{
	static uint32_t frame[64 + 5];
	uint32_t *f = frame + 64;
	struct context c = level(returns[n].cpl, by_iret ? iret_code : far_return);
	bool outer = (returns[n].cs & 3) != returns[n].cpl;

	gdt[CODE / 8] = descriptor(0, returns[n].limit, returns[n].code, FLAT);
	gdt[DATA / 8] = descriptor(0, 0xfffff, returns[n].data, FLAT);
	*f++ = (uintptr_t)end_code;
	*f++ = returns[n].cs;
	if (by_iret)
		*f++ = 2;
	f[0] = (uintptr_t)window + 0x1000;
	f[1] = returns[n].ss;
	c.bx = (uintptr_t)(frame + 64);
	c.es = SEL_DATA; /* DPL 0: dropped on the way out */
	c.gs = CODE1;	 /* conforming: kept */
	if (returns[n].cpl == 3)
		c.es = SEL_USER_DATA;
	int v = guest_enter(&c);
	guest_check(v == returns[n].vector, "%s %s: trap %d error %lx", by_iret ? "IRET" : "RET",
		    returns[n].name, v, trap_seen.error);
	if (v != returns[n].vector)
		return;
	if (v != END) {
		guest_check(trap_seen.error == returns[n].result, "return %s: error %lx", returns[n].name,
			    trap_seen.error);
		guest_check(c.sp == (uintptr_t)(frame + 64) || returns[n].cpl == 0, "return %s: sp %lx",
			    returns[n].name, c.sp);
		return;
	}
	guest_check(c.cs == returns[n].result, "return %s: cs %lx", returns[n].name, c.cs);
	guest_check(!outer || (c.sp == (uintptr_t)window + 0x1000 && c.ss == returns[n].ss),
		    "return %s: %lx:%lx", returns[n].name, c.ss, c.sp);
	guest_check(c.es == (outer ? 0 : SEL_DATA) && c.ds == SEL_USER_DATA && c.gs == CODE1,
		    "return %s: es %lx ds %lx gs %lx", returns[n].name, c.es, c.ds, c.gs);
}

int
main(void)
{
	test_accesses();
	test_stacks();
	test_outer_stack();
	for (unsigned n = 0; n < COUNT(transfers); n++) {
		for (unsigned how = JMP; how <= CALL; how++) {
			if (transfers[n].how & how)
				transfer(n, how);
		}
	}
	for (unsigned n = 0; n < COUNT(gates); n++) {
		for (unsigned how = JMP; how <= CALL; how++) {
			if (gates[n].how & how)
				through_gate(&gates[n], how);
		}
	}
	test_gate16();
	gdt[CODE1 / 8] = descriptor(0, 0xfffff, CONFORMING, FLAT);
	for (unsigned n = 0; n < COUNT(returns); n++) {
		far_return_case(n, false);
		far_return_case(n, true);
	}
	return guest_summary();
}
