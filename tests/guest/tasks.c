/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hardware tasks (SDM vol. 3A ch. 7): CALL, JMP, IRET, INT and exceptions through a TSS or a task gate, busy
 * bits, links, the T bit, what is refused; interrupt and trap gates from every level; virtual-8086 extensions
 * (vol. 3A 20.3); SYSENTER and SYSCALL of protected mode.
 */
#include "tests/guest/guest.h"

enum {
	TASK = SEL_FREE, /* the other task */
	TASK_GATE = SEL_FREE + 8,
	TASK16 = SEL_FREE + 16,
	BAD = SEL_FREE + 24, /* a descriptor for cases */
	BEYOND = 0x1000,
	END = GUEST_ENDED,
	FLAT = DESC_D | DESC_G,
	FL_TF = 0x100,
	FL_IF = 0x200,
	FL_NT = 0x4000,
	FL_RF = 0x10000,
	FL_VM = 0x20000,
	CR0_TS = 8,
	BT = 1 << 15,
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct tss other;
static uint8_t other_stack[4096] __attribute__((aligned(16)));
static struct tss16 {
	uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss,
	    ds, ldt;
} other16;

void far_jump(void), far_call(void), int_50(void), fault(void), iret_only(void), task_end(void),
    task_iret(void), task_flags(void), task16_iret(void), end_code(void), after_int_50(void),
    after_fault(void), after_call(void), flags_code(void), task_error(void), after_iret(void);
__asm__("far_jump: ljmp *(%ebx)\n"
	"far_call: lcall *(%ebx)\n"
	"after_call: mov $0xca11, %ecx; " GUEST_END "\n"
	"int_50: int $0x50\n"
	"after_int_50: mov $0x50, %ecx; " GUEST_END "\n"
	"fault: mov %ebx, %fs\n"
	"after_fault: mov $0xfa, %ecx; " GUEST_END "\n"
	"iret_only: iret\n"
	"after_iret: " GUEST_END "\n"
	"end_code: " GUEST_END "\n"
	/* in the other task */
	"task_end: pushf; pop %eax; str %ecx; " GUEST_END "\n"
	"task_iret: mov $0x7777, %edx; iret; jmp task_iret\n"
	"task_error: pop %edx; " GUEST_END "\n"
	/* a handler: its flags, and where its stack is */
	"flags_code: pushf; pop %eax; " GUEST_END "\n"
	".pushsection .low, \"ax\", @progbits\n.code16\n"
	"task16_iret: mov $0x1616, %dx; iret; jmp task16_iret\n"
	".code32\n.popsection\n");

/* Everything as at the start: our task runs, the other is free. */
static void
fresh(void)
{
	other = (struct tss){.ss0 = SEL_DATA,
			     .esp0 = (uintptr_t)other_stack + 2048,
			     .cr3 = read_cr3(),
			     .eip = (uintptr_t)task_end,
			     .eflags = 2,
			     .eax = 0xaaaa,
			     .esp = (uintptr_t)other_stack + 4096,
			     .cs = SEL_CODE,
			     .ss = SEL_DATA,
			     .ds = SEL_DATA,
			     .es = SEL_USER_DATA,
			     .fs = SEL_USER_DATA,
			     .gs = 0,
			     .iomap = sizeof(other)};
	gdt[TASK / 8] = descriptor((uintptr_t)&other, sizeof(other) - 1, 0x89, 0);
	gdt[TASK16 / 8] = descriptor((uintptr_t)&other16, sizeof(other16) - 1, 0x81, 0);
	gdt[TASK_GATE / 8] = (uint64_t)TASK << 16 | 0xe5ull << 40;
	gdt[SEL_TSS / 8] = descriptor((uintptr_t)&tss, sizeof(tss) - 1, 0x89, 0);
	tss.link = 0;
	tss.cr3 = read_cr3();
	__asm__ volatile("ltr %w0; clts" : : "r"(SEL_TSS));
	write_dr6(0);
}

static bool
busy(unsigned selector)
{
	return (gdt[selector / 8] >> 41 & 1) != 0;
}

static struct context
start(void (*code)(void), unsigned cpl)
{
	struct context c = {.ip = (uintptr_t)code,
			    .cs = cpl == 3 ? SEL_USER_CODE : SEL_CODE,
			    .ss = cpl == 3 ? SEL_USER_DATA : SEL_DATA,
			    .sp = (uintptr_t)user_stack_top,
			    .ds = SEL_USER_DATA,
			    .es = SEL_USER_DATA,
			    .flags = 2,
			    .ax = 0x1a,
			    .si = 0x51};

	return c;
}

static struct __attribute__((packed)) {
	uint32_t offset;
	uint16_t selector;
} pointer;

/* ---- switches that work ---- */

static const struct {
	const char *name;
	void (*code)(void), (*next)(void);
	uint16_t selector;
	unsigned cpl;
	bool nests;
} switches[] = {
    {"JMP to a TSS", far_jump, far_call, TASK, 0, false},
    {"CALL of a TSS", far_call, after_call, TASK, 0, true},
    {"JMP to a task gate", far_jump, far_call, TASK_GATE, 0, false},
    {"CALL of a task gate", far_call, after_call, TASK_GATE, 0, true},
    {"CALL of a task gate at CPL 3", far_call, after_call, TASK_GATE, 3, true},
    {"INT through a task gate", int_50, after_int_50, 0, 0, true},
    {"INT through a task gate at CPL 3", int_50, after_int_50, 0, 3, true},
};

static void
test_switch(unsigned n)
{
	struct context c = start(switches[n].code, switches[n].cpl);

	fresh();
	pointer.selector = switches[n].selector;
	c.bx = (uintptr_t)&pointer;
	int v = guest_enter(&c);
	guest_check(v == END && c.ip == (uintptr_t)task_end + 7, "%s: trap %d error %lx at %lx",
		    switches[n].name, v, trap_seen.error, c.ip);
	if (v != END)
		return;
	guest_check(c.ax == (switches[n].nests ? FL_NT | 2 : 2) && (c.cx & 0xffff) == TASK,
		    "%s: flags %lx tr %lx", switches[n].name, c.ax, c.cx);
	guest_check(busy(SEL_TSS) == switches[n].nests && busy(TASK), "%s: busy %d %d", switches[n].name,
		    busy(SEL_TSS), busy(TASK));
	guest_check(other.link == (switches[n].nests ? SEL_TSS : 0), "%s: link %x", switches[n].name,
		    other.link);
	guest_check(tss.eip == (uintptr_t)switches[n].next, "%s: saved eip %x, not %lx", switches[n].name,
		    tss.eip, (unsigned long)switches[n].next);
	guest_check(tss.eax == 0x1a && tss.esi == 0x51 && tss.eflags == 2, "%s: saved %x %x %x",
		    switches[n].name, tss.eax, tss.esi, tss.eflags);
	guest_check((tss.cs & 0xffff) == (switches[n].cpl ? SEL_USER_CODE : SEL_CODE) &&
			(tss.ds & 0xffff) == SEL_USER_DATA,
		    "%s: saved cs %x ds %x", switches[n].name, tss.cs, tss.ds);
	guest_check(c.ds == SEL_DATA && c.gs == 0 && c.fs == SEL_USER_DATA, "%s: ds %lx gs %lx",
		    switches[n].name, c.ds, c.gs);
	guest_check((read_cr0() & CR0_TS) != 0, "%s: CR0.TS", switches[n].name);
}

/* There and back by IRET, also by way of a 16-bit TSS. */
static void
test_return(unsigned selector, unsigned cpl)
{
	struct context c = start(far_call, cpl);

	fresh();
	other.eip = (uintptr_t)task_iret;
	other16 = (struct tss16){.ip = (uint16_t)(uintptr_t)task16_iret,
				 .flags = 2,
				 .sp = 0x7000,
				 .cs = SEL_CODE16,
				 .ss = SEL_DATA16,
				 .ds = SEL_DATA16,
				 .es = SEL_DATA16};
	pointer.selector = (uint16_t)selector;
	c.bx = (uintptr_t)&pointer;
	c.bp = 0xb9;
	int v = guest_enter(&c);
	guest_check(v == END && c.cx == 0xca11 && c.ax == 0x1a && c.bp == 0xb9,
		    "task %x: trap %d error %lx, cx %lx ax %lx", selector, v, trap_seen.error, c.cx, c.ax);
	guest_check(busy(SEL_TSS) && !busy(selector), "task %x: busy %d %d", selector, busy(SEL_TSS),
		    busy(selector));
	if (selector == TASK16)
		guest_check(other16.dx == 0x1616 && (other16.flags & FL_NT) == 0 && other16.link == SEL_TSS,
			    "task of 16 bits: %x %x link %x", other16.dx, other16.flags, other16.link);
	else
		guest_check(other.edx == 0x7777 && (other.eflags & FL_NT) == 0, "task: %x %x", other.edx,
			    other.eflags);
	guest_check((c.flags & FL_NT) == 0, "task %x: flags %lx", selector, c.flags);
}

/* An exception through a task gate: its error code lies on the task's stack; the saved EIP is the fault's. */
static void
test_exception_task(unsigned cpl)
{
	struct context c = start(fault, cpl);

	fresh();
	other.eip = (uintptr_t)task_error;
	idt_set(13, TASK, 0, 0x85);
	c.bx = BEYOND;
	int v = guest_enter(&c);
	trap_gate(13, 0x8e);
	guest_check(v == END && c.dx == BEYOND, "#GP through a task gate: trap %d, code %lx", v, c.dx);
	guest_check(tss.eip == (uintptr_t)fault && other.link == SEL_TSS,
		    "#GP through a task gate: eip %x link %x", tss.eip, other.link);
}

/* The T bit: #DB before the task's first instruction. */
static void
test_t_bit(void)
{
	struct context c = start(far_call, 0);

	fresh();
	other.trap = 1;
	pointer.selector = TASK;
	c.bx = (uintptr_t)&pointer;
	int v = guest_enter(&c);
	guest_check(v == 1 && c.ip == (uintptr_t)task_end, "T bit: trap %d at %lx", v, c.ip);
	guest_check((read_dr6() & (BT | 0x400f)) == BT, "T bit: DR6 %lx", read_dr6());
}

/* ---- switches that fail ---- */

static void
no_change(void)
{
}
static void
make_busy(void)
{
	gdt[TASK / 8] |= 2ull << 40;
}
static void
make_absent(void)
{
	gdt[TASK / 8] &= ~(0x80ull << 40);
}
static void
make_short(void)
{
	gdt[TASK / 8] = descriptor((uintptr_t)&other, 0x66, 0x89, 0);
}
static void
gate_absent(void)
{
	gdt[TASK_GATE / 8] &= ~(0x80ull << 40);
}
static void
gate_to_code(void)
{
	gdt[TASK_GATE / 8] = (uint64_t)SEL_CODE << 16 | 0xe5ull << 40;
}
static void
gate_dpl0(void)
{
	gdt[TASK_GATE / 8] &= ~(0x60ull << 40);
}
static void
link_null(void)
{
	tss.link = 0;
}
static void
link_free(void)
{
	tss.link = TASK;
}
static void
link_code(void)
{
	tss.link = SEL_CODE;
}
static void
ds_beyond(void)
{
	other.ds = BEYOND;
}
static void
ds_absent(void)
{
	gdt[BAD / 8] = descriptor(0, 0xfffff, 0x13, FLAT);
	other.ds = BAD;
}
static void
ds_code(void)
{
	gdt[BAD / 8] = descriptor(0, 0xfffff, 0x99, FLAT);
	other.fs = BAD;
}
static void
ds_privilege(void)
{
	gdt[BAD / 8] = descriptor(0, 0xfffff, 0x93, FLAT);
	other.gs = BAD | 3;
}
static void
ip_beyond(void)
{
	gdt[BAD / 8] = descriptor(0, 0xff, 0x9b, DESC_D);
	other.cs = BAD;
}

static const struct {
	const char *name;
	void (*spoil)(void);
	void (*code)(void);
	uint16_t selector;
	unsigned cpl;
	int vector;
	unsigned error;
	bool in_new; /* the fault is the new task's */
} refused[] = {
    {"a busy TSS", make_busy, far_call, TASK, 0, 13, TASK, false},
    {"a busy TSS, jump", make_busy, far_jump, TASK, 0, 13, TASK, false},
    {"our own TSS", no_change, far_jump, SEL_TSS, 0, 13, SEL_TSS, false},
    {"a TSS that is not present", make_absent, far_call, TASK, 0, 11, TASK, false},
    {"a TSS that is too short", make_short, far_call, TASK, 0, 10, TASK, false},
    {"a TSS of DPL 0 at CPL 3", no_change, far_call, TASK, 3, 13, TASK, false},
    {"a TSS of DPL 0 with RPL 3", no_change, far_call, TASK | 3, 0, 13, TASK, false},
    {"a task gate that is not present", gate_absent, far_call, TASK_GATE, 0, 11, TASK_GATE, false},
    {"a task gate to code", gate_to_code, far_call, TASK_GATE, 0, 13, SEL_CODE, false},
    {"a task gate of DPL 0 at CPL 3", gate_dpl0, far_call, TASK_GATE, 3, 13, TASK_GATE, false},
    {"a busy TSS behind a gate", make_busy, far_call, TASK_GATE, 3, 13, TASK, false},
    {"IRET to no task", link_null, iret_only, 0, 0, 10, 0, false},
    {"IRET to a free task", link_free, iret_only, 0, 0, 10, TASK, false},
    {"IRET to code", link_code, iret_only, 0, 0, 10, SEL_CODE, false},
    {"a task with DS beyond the GDT", ds_beyond, far_call, TASK, 0, 10, BEYOND, true},
    {"a task with DS that is not present", ds_absent, far_call, TASK, 0, 11, BAD, true},
    {"a task with FS that cannot be read", ds_code, far_call, TASK, 0, 10, BAD, true},
    {"a task with GS of another level", ds_privilege, far_call, TASK, 0, 10, BAD, true},
    {"a task with EIP beyond the limit", ip_beyond, far_call, TASK, 0, 13, 0, true},
};

static void
test_refused(unsigned n)
{
	struct context c = start(refused[n].code, refused[n].cpl);
	uint16_t tr;

	fresh();
	refused[n].spoil();
	pointer.selector = refused[n].selector;
	c.bx = (uintptr_t)&pointer;
	if (refused[n].code == iret_only)
		c.flags |= FL_NT;
	int v = guest_enter(&c);
	uintptr_t ip = refused[n].in_new ? (uintptr_t)task_end : (uintptr_t)refused[n].code;
	__asm__ volatile("str %0" : "=r"(tr));
	guest_check(v == refused[n].vector && trap_seen.error == refused[n].error,
		    "%s: trap %d error %lx, not %d %x", refused[n].name, v, trap_seen.error,
		    refused[n].vector, refused[n].error);
	guest_check(c.ip == ip, "%s: ip %lx, not %lx", refused[n].name, c.ip, (unsigned long)ip);
	guest_check(tr == (refused[n].in_new ? TASK : SEL_TSS), "%s: tr %x", refused[n].name, tr);
}

/* ---- interrupt and trap gates ---- */

static const struct {
	const char *name;
	unsigned access, cpl;
	uint32_t flags; /* before */
	int vector;	/* END: the handler ran */
	uint32_t inside;
} idt_gates[] = {
    {"interrupt gate at CPL 0", 0x8e, 0, 2 | FL_IF, END, 2},
    {"trap gate at CPL 0", 0x8f, 0, 2 | FL_IF, END, 2 | FL_IF},
    {"trap gate, IF clear", 0x8f, 0, 2, END, 2},
    {"interrupt gate at CPL 3", 0xee, 3, 2 | FL_IF, END, 2},
    {"trap gate at CPL 3", 0xef, 3, 2 | FL_IF | FL_NT, END, 2 | FL_IF},
    {"trap gate, flags that stay", 0xef, 3, 2 | 0x40000 | 0x400 | 1, END, 2 | 0x40000 | 0x400 | 1},
    {"interrupt gate of DPL 0 at CPL 3", 0x8e, 3, 2, 13, 0x50 << 3 | 2},
    {"interrupt gate that is not present", 0x6e, 3, 2, 11, 0x50 << 3 | 2},
    {"privilege before presence", 0x0e, 3, 2, 13, 0x50 << 3 | 2},
    {"a call gate in the IDT", 0xec, 0, 2, 13, 0x50 << 3 | 2},
    {"an empty gate", 0, 0, 2, 13, 0x50 << 3 | 2},
};

static void
test_idt_gate(unsigned n)
{
	struct context c = start(int_50, idt_gates[n].cpl);

	fresh();
	idt_set(0x50, SEL_CODE, (uintptr_t)flags_code, idt_gates[n].access);
	c.flags = idt_gates[n].flags;
	int v = guest_enter(&c);
	guest_check(v == idt_gates[n].vector, "%s: trap %d error %lx", idt_gates[n].name, v, trap_seen.error);
	if (v == END) {
		uint32_t *frame = (uint32_t *)c.sp;

		guest_check(c.ax == idt_gates[n].inside, "%s: flags %lx, not %x", idt_gates[n].name, c.ax,
			    idt_gates[n].inside);
		guest_check(frame[0] == (uintptr_t)after_int_50 && frame[2] == idt_gates[n].flags,
			    "%s: frame %x %x %x", idt_gates[n].name, frame[0], frame[1], frame[2]);
	} else {
		guest_check(trap_seen.error == idt_gates[n].inside && c.ip == (uintptr_t)int_50,
			    "%s: error %lx at %lx", idt_gates[n].name, trap_seen.error, c.ip);
	}
}

/* ---- virtual-8086 extensions ---- */

void vme_flags(void), vme_sti(void), vme_int(void), vme_handler(void), vme_pending(void),
    vme_sti_pending(void);
__asm__(REAL_MODE "vme_flags: cli; pushf; pop %ax; sti; pushf; pop %bx; int $0x60\n"
		  "vme_int: int $0x61; mov %ax, %dx; int $0x60\n"
		  "vme_handler: pushf; pop %cx; mov $0x600d, %ax; iret\n"
		  "vme_sti: sti; int $0x60\n" REAL_END);

static void
test_vme(void)
{
	struct context c = {.ip = (uintptr_t)vme_flags, .sp = 0x7000, .flags = FL_VM | FL_IF | 2};
	uint32_t r[4];

	cpuid(1, 0, r);
	if ((r[3] & 2) == 0) {
		guest_skip("VME");
		return;
	}
	fresh();
	write_cr4(read_cr4() | 1);
	for (unsigned n = 0; n < 32; n++)
		tss.map[n] = 0;
	tss.iomap = 0x88;
	tss.map[0x60 / 8] |=
	    1; /* this one goes to protected mode, where its gate's DPL counts not: IOPL does */
	int v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0, "VME, INT that is not redirected: trap %d error %lx", v,
		    trap_seen.error);
	guest_check((c.ax & 0x3200) == 0x3000 && (c.bx & 0x3200) == 0x3200, "VME: flags images %lx %lx", c.ax,
		    c.bx);
	guest_check((c.flags & (FL_IF | 0x80000)) == (FL_IF | 0x80000), "VME: flags %lx", c.flags);
	uintptr_t at = 4 * 0x61;
	__asm__ volatile("movl %1, (%0)" : : "r"(at), "r"(vme_handler) : "memory");
	c = (struct context){.ip = (uintptr_t)vme_int, .sp = 0x7000, .flags = FL_VM | FL_IF | 0x80000 | 2};
	v = guest_enter(&c);
	guest_check(v == 13 && (c.dx & 0xffff) == 0x600d && (c.cx & FL_IF) == 0,
		    "VME, redirected INT: trap %d, %lx %lx", v, c.dx, c.cx);
	c = (struct context){.ip = (uintptr_t)vme_sti, .sp = 0x7000, .flags = FL_VM | FL_IF | 0x100000 | 2};
	v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0 && c.ip == (uintptr_t)vme_sti,
		    "VME, STI with VIP: trap %d at %lx", v, c.ip);
	write_cr4(read_cr4() & ~1ul);
	tss.iomap = sizeof(tss);
}

/* ---- fast system calls ---- */

void sysenter_code(void), sysexit_code(void), sysenter_entry(void), syscall_code(void), syscall_entry(void),
    sysret_code(void);
__asm__("sysenter_code: sysenter\n"
	"sysexit_code: mov $end_code, %edx; mov $user_stack_top, %ecx; sysexit\n"
	"sysenter_entry: pushf; pop %eax; " GUEST_END "\n"
	"syscall_code: syscall\n"
	"sysret_code: mov $end_code, %ecx; sysret\n"
	"syscall_entry: mov $user_stack_top, %esp; pushf; pop %eax; " GUEST_END "\n");

static void
test_sysenter(void)
{
	struct context c = start(sysenter_code, 3);
	int v;

	fresh();
	wrmsr(0x174, 0);
	v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0, "SYSENTER with no CS: trap %d", v);
	wrmsr(0x174, SEL_CODE | 3); /* RPL does not count */
	wrmsr(0x175, (uintptr_t)other_stack + 1024);
	wrmsr(0x176, (uintptr_t)sysenter_entry);
	c = start(sysenter_code, 3);
	c.flags |= FL_IF;
	v = guest_enter(&c);
	guest_check(v == END && c.cs == SEL_CODE && c.ss == SEL_DATA &&
			c.sp == (uintptr_t)other_stack + 1024 && c.ax == 2,
		    "SYSENTER: trap %d cs %lx ss %lx sp %lx flags %lx", v, c.cs, c.ss, c.sp, c.ax);
	c = start(sysexit_code, 3);
	v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0, "SYSEXIT at CPL 3: trap %d", v);
	c = start(sysexit_code, 0);
	v = guest_enter(&c);
	guest_check(v == END && c.cs == (SEL_CODE + 16) + 3 && c.ss == (SEL_CODE + 24) + 3 &&
			c.sp == (uintptr_t)user_stack_top && c.ip == (uintptr_t)end_code + 2,
		    "SYSEXIT: trap %d cs %lx ss %lx sp %lx", v, c.cs, c.ss, c.sp);
}

/* SYSCALL outside long mode is AMD's; elsewhere it is undefined. */
static void
test_syscall(void)
{
	struct context c = start(syscall_code, 3);
	uint32_t r[4];
	int v;

	cpuid(0, 0, r);
	bool amd = r[1] == 0x68747541 || r[1] == 0x6f677948;
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ull);
	v = guest_enter(&c);
	guest_check(v == 6, "SYSCALL with EFER.SCE clear: trap %d", v);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
	wrmsr(0xc0000081,
	      (uint64_t)(SEL_CODE + 16) << 48 | (uint64_t)SEL_CODE << 32 | (uintptr_t)syscall_entry);
	c = start(syscall_code, 3);
	c.flags |= FL_IF;
	v = guest_enter(&c);
	if (!amd) {
		guest_check(v == 6, "SYSCALL in protected mode: trap %d", v);
		return;
	}
	guest_check(v == END && c.cs == SEL_CODE && c.ss == SEL_DATA && c.cx == (uintptr_t)sysret_code &&
			c.ax == 2,
		    "SYSCALL: trap %d cs %lx ss %lx cx %lx flags %lx", v, c.cs, c.ss, c.cx, c.ax);
	c = start(sysret_code, 0);
	v = guest_enter(&c);
	guest_check(v == END && c.cs == (SEL_CODE + 16) + 3 && c.ss == (SEL_CODE + 24) + 3 &&
			(c.flags & FL_IF) != 0,
		    "SYSRET: trap %d cs %lx ss %lx flags %lx", v, c.cs, c.ss, c.flags);
	c = start(sysret_code, 3);
	v = guest_enter(&c);
	guest_check(v == 13 && trap_seen.error == 0, "SYSRET at CPL 3: trap %d", v);
}

int
main(void)
{
	/* IF is set here and there: nothing may interrupt but what cannot be masked. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	idt_set(0x50, TASK, 0, 0xe5);
	for (unsigned n = 0; n < COUNT(switches); n++)
		test_switch(n);
	test_return(TASK, 0);
	test_return(TASK_GATE, 3);
	test_return(TASK16, 0);
	test_exception_task(0);
	test_exception_task(3);
	test_t_bit();
	for (unsigned n = 0; n < COUNT(refused); n++)
		test_refused(n);
	for (unsigned n = 0; n < COUNT(idt_gates); n++)
		test_idt_gate(n);
	fresh();
	test_vme();
	test_sysenter();
	test_syscall();
	return guest_summary();
}
