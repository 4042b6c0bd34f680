/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptor tables: GDTR, IDTR, LDTR and TR are what was loaded, base and limit, across every way out of the
 * guest, and their hidden parts are not read again from memory.
 */
#include "tests/guest/guest.h"

enum { TSS_SEL = 0x28, LDT_SEL = 0x38, SELF_VECTOR = 0x40, LAPIC = 0xfee00000u };

static const uint16_t limits[] = {0, 7, 0x27, 0xfff, 0xffff};
static uint64_t ldt[4] __attribute__((aligned(16)));
static uint64_t words[4] = {0x1111, 0x2222, 0x3333, 0x4444};
static uint8_t ist_stack[4096] __attribute__((aligned(16)));
static volatile unsigned interrupts;
static volatile uint64_t interrupt_rsp;

/* ---- ways out ---- */

static void
by_port(void)
{
	(void)inb(0x61);
	outb(0x80, 0);
}

static void
by_string_port(void)
{
	uint8_t buf[16];
	void *to = buf;
	uint64_t n = sizeof(buf);

	__asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"((uint16_t)0xe0) : "memory");
}

static void
by_mmio(void)
{
	*(volatile uint32_t *)0xff000000ull = 5;
	(void)*(volatile uint32_t *)0xff000000ull;
}

static void
by_cpuid(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
	cpuid(0x40000000, 0, r);
}

static void
by_msr(void)
{
	wrmsr(0xc0000102, rdmsr(0xc0000102)); /* KERNEL_GS_BASE */
	(void)rdmsr(0x1b);
}

static void
by_control_register(void)
{
	uint64_t v;

	__asm__ volatile(
	    "mov %%cr4, %0; mov %0, %%cr4; mov %%cr3, %0; mov %0, %%cr3; mov %%cr0, %0; mov %0, %%cr0"
	    : "=&r"(v)
	    :
	    : "memory");
	__asm__ volatile("mov %%dr7, %0; mov %0, %%dr7; mov %%cr8, %0; mov %0, %%cr8"
			 : "=&r"(v)
			 :
			 : "memory");
}

static void
by_others(void)
{
	__asm__ volatile("wbinvd; pause; clts; invlpg (%0)" : : "r"(words) : "memory");
}

static void
by_interrupt(void)
{
	unsigned before = interrupts;

	*(volatile uint32_t *)(LAPIC + 0x300ull) = 0x40000 | SELF_VECTOR;
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	guest_check(interrupts == before + 1, "self IPI: %u interrupts", interrupts - before);
}

static void
by_hlt(void)
{
	unsigned before = interrupts;

	*(volatile uint32_t *)(LAPIC + 0x300ull) = 0x40000 | SELF_VECTOR;
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	guest_check(interrupts == before + 1, "hlt: %u interrupts", interrupts - before);
}

static void
by_fault(void)
{
	TRY("ud2", : : : "memory");
	guest_check(trap_seen.vector == 6, "ud2: trap %d", trap_seen.vector);
	TRY("mov (%0), %%rax", : : "r"(PAGES) : "rax", "memory");
	guest_check(trap_seen.vector == 14, "page fault: trap %d", trap_seen.vector);
	TRY("int3", : : : "memory");
	guest_check(trap_seen.vector == 3, "int3: trap %d", trap_seen.vector);
}

static void
nothing(uint64_t unused)
{
	(void)unused;
}

static void
by_user_level(void)
{
	guest_user(nothing, 0);
}

static const struct exit_kind {
	const char *name;
	void (*run)(void);
	bool needs_tables; /* delivers through the IDT and loads CS from the GDT */
} exits[] = {
    {"port", by_port, false},
    {"string port", by_string_port, false},
    {"mmio", by_mmio, false},
    {"cpuid", by_cpuid, false},
    {"msr", by_msr, false},
    {"control registers", by_control_register, false},
    {"others", by_others, false},
    {"interrupt", by_interrupt, true},
    {"hlt", by_hlt, true},
    {"fault", by_fault, true},
    {"user level", by_user_level, true},
};
enum { EXITS = sizeof(exits) / sizeof(exits[0]), LIMITS = sizeof(limits) / sizeof(limits[0]) };

/* ---- GDTR and IDTR ---- */

static void
expect_tables(const char *after, struct dtable g, struct dtable i)
{
	struct dtable now;

	__asm__ volatile("sgdt %0" : "=m"(now));
	guest_check(now.base == g.base && now.limit == g.limit, "%s: gdtr %lx %x, not %lx %x", after,
		    now.base, now.limit, g.base, g.limit);
	__asm__ volatile("sidt %0" : "=m"(now));
	guest_check(now.base == i.base && now.limit == i.limit, "%s: idtr %lx %x, not %lx %x", after,
		    now.base, now.limit, i.base, i.limit);
}

static void
load_tables(struct dtable g, struct dtable i)
{
	__asm__ volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
}

/* Each limit with each way out; those that need the tables get them whole, with the odd limit where it is
 * enough. */
static void
test_limits(void)
{
	for (unsigned n = 0; n < LIMITS * LIMITS; n++) {
		struct dtable g = {limits[n / LIMITS], gdt_pointer.base},
			      i = {limits[n % LIMITS], idt_pointer.base};

		for (unsigned e = 0; e < EXITS; e++) {
			/* Interrupts want selectors up to 0x27, the TSS is loaded already. */
			if (exits[e].needs_tables && (g.limit < 0x27 || i.limit < 0xfff))
				continue;
			load_tables(g, i);
			expect_tables("load", g, i);
			exits[e].run();
			expect_tables(exits[e].name, g, i);
			load_tables(gdt_pointer, idt_pointer);
		}
	}
}

/* A base is kept whole, wherever it points; nothing reads the tables meanwhile. */
static void
test_bases(void)
{
	static const uint64_t bases[] = {0,
					 1,
					 0xfff,
					 0x12345678,
					 0xffffffffull,
					 0x123456789abcull,
					 0x7fffffffffffull,
					 0xffff800000000000ull,
					 0xffffffffffffffffull};

	for (unsigned n = 0; n < sizeof(bases) / sizeof(bases[0]); n++) {
		struct dtable t = {0xabcd, bases[n]};

		for (unsigned e = 0; e < EXITS; e++) {
			if (exits[e].needs_tables)
				continue;
			load_tables(t, t);
			exits[e].run();
			expect_tables(exits[e].name, t, t);
			load_tables(gdt_pointer, idt_pointer);
		}
	}
	struct dtable bad = {0xffff, 0x100000000000000ull}; /* in 57 bits, too */

	TRY("lgdt %0", : : "m"(bad) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "lgdt non-canonical: trap %d",
		    trap_seen.vector);
	TRY("lidt %0", : : "m"(bad) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "lidt non-canonical: trap %d",
		    trap_seen.vector);
	expect_tables("a refused load", gdt_pointer, idt_pointer);
}

/* Beyond the limit: #GP with the selector, or with the vector and IDT bit. */
static void
test_beyond(void)
{
	struct dtable g = {0x27, gdt_pointer.base}, i = {SELF_VECTOR * 16 + 14, idt_pointer.base};

	load_tables(g, idt_pointer);
	TRY("mov %0, %%fs", : : "r"(0x28) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0x28, "beyond the GDT: trap %d error %lx",
		    trap_seen.vector, trap_seen.error);
	load_tables((struct dtable){0x26, gdt_pointer.base}, idt_pointer);
	TRY("mov %0, %%fs", : : "r"(0x23) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0x20, "at the GDT's end: trap %d error %lx",
		    trap_seen.vector, trap_seen.error);
	load_tables(gdt_pointer, i);
	TRY("int $0x40", : : : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == (SELF_VECTOR << 3 | 2),
		    "beyond the IDT: trap %d error %lx", trap_seen.vector, trap_seen.error);
	load_tables(gdt_pointer, idt_pointer);
}

/* ---- LDTR and TR: visible and hidden parts ---- */

static uint64_t
through_fs(void)
{
	uint64_t v = 0;

	TRY("mov %1, %%fs; mov %%fs:0, %0", : "=&r"(v) : "r"(0x0c) : "memory");
	return v;
}

/* 32-bit data segment with a base: entry 1 of the LDT. */
static void
fill_ldt(void)
{
	uint64_t base = (uintptr_t)words;

	ldt[1] = 0xffff | (base & 0xffffff) << 16 | 0x93ull << 40 | 0xcfull << 48 | (base >> 24 & 0xff) << 56;
}

static void
test_ldt(void)
{
	uint16_t sel;

	fill_ldt();
	gdt_set_system(LDT_SEL, (uintptr_t)ldt, 0x0f, 0x2);
	__asm__ volatile("lldt %w0" : : "r"(LDT_SEL));
	gdt_set_system(LDT_SEL, 0x1234, 0, 0); /* what is loaded does not follow */
	for (unsigned e = 0; e < EXITS; e++) {
		exits[e].run();
		__asm__ volatile("sldt %0" : "=r"(sel));
		guest_check(sel == LDT_SEL, "%s: ldtr %x", exits[e].name, sel);
		guest_check(through_fs() == 0x1111, "%s: LDT's base, trap %d", exits[e].name,
			    trap_seen.vector);
		TRY("mov %0, %%fs", : : "r"(0x14) : "memory");
		guest_check(trap_seen.vector == 13 && trap_seen.error == 0x14,
			    "%s: LDT's limit, trap %d error %lx", exits[e].name, trap_seen.vector,
			    trap_seen.error);
	}
	__asm__ volatile("lldt %w0; mov %w0, %%fs" : : "r"(0));
	TRY("mov %0, %%fs", : : "r"(0x0c) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0x0c, "no LDT: trap %d error %lx",
		    trap_seen.vector, trap_seen.error);
}

/* Odd limits: the last selector whose eight bytes lie within is good, whatever has happened since LLDT. */
static void
test_ldt_limits(void)
{
	static const uint16_t ldt_limits[] = {0, 6, 7, 0xe, 0xf, 0x16, 0x1e, 0x1f};

	for (unsigned n = 0; n < sizeof(ldt_limits) / sizeof(ldt_limits[0]); n++) {
		unsigned good = (ldt_limits[n] + 1u) / 8;

		for (unsigned e = 0; e < 4; e++)
			ldt[e] = descriptor((uint32_t)(uintptr_t)words, 0xffff, 0x93, DESC_D);
		gdt_set_system(LDT_SEL, (uintptr_t)ldt, ldt_limits[n], 0x2);
		__asm__ volatile("lldt %w0" : : "r"(LDT_SEL));
		gdt_set_system(LDT_SEL, 0x1234, 0xffff, 0x2);
		for (unsigned e = 0; e < EXITS; e++) {
			exits[e].run();
			for (unsigned k = 0; k < 4; k++) {
				TRY("mov %0, %%fs", : : "r"(k * 8 | 4) : "memory");
				guest_check(trap_seen.vector == (k < good ? -1 : 13),
					    "%s: LDT of limit %x, entry %u: trap %d", exits[e].name,
					    ldt_limits[n], k, trap_seen.vector);
			}
		}
	}
	__asm__ volatile("mov %w0, %%fs; lldt %w0" : : "r"(0));
}

static void
on_interrupt(struct trap_frame *f)
{
	interrupts++;
	interrupt_rsp = (uintptr_t)f;
	*(volatile uint32_t *)(LAPIC + 0xb0ull) = 0;
}

static bool
within(unsigned long at, const uint8_t *stack)
{
	return at > (uintptr_t)stack && at < (uintptr_t)stack + 4096;
}

/* A second TSS with stacks of its own; once loaded, its descriptor is spoiled. Its limit ends with IST1 at
 * the least. */
static void
test_tr(uint16_t limit)
{
	static struct tss other;
	static uint8_t inner_stack[4096] __attribute__((aligned(16)));
	uint16_t sel;
	bool has_ist = limit >= 0x2b;

	other = tss;
	other.rsp[0] = (uintptr_t)inner_stack + sizeof(inner_stack);
	other.ist[0] = (uintptr_t)ist_stack + sizeof(ist_stack);
	gdt_set_system(TSS_SEL, (uintptr_t)&other, limit, 0x9);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SEL));
	guest_check((gdt[TSS_SEL / 8] >> 40 & 0x1f) == 0xb, "ltr: type %lx", gdt[TSS_SEL / 8] >> 40 & 0x1f);
	gdt_set_system(TSS_SEL, 0x1000, 1, 0xb);
	for (unsigned e = 0; e < EXITS; e++) {
		exits[e].run();
		if (exits[e].run == by_user_level)
			guest_check(within(trap_seen.frame, inner_stack), "limit %x: RSP0, frame at %lx",
				    limit, trap_seen.frame);
		trap_set_ist(SELF_VECTOR, 1);
		if (has_ist) {
			by_interrupt();
			guest_check(within(interrupt_rsp, ist_stack), "%s: interrupt at %lx", exits[e].name,
				    interrupt_rsp);
		} else {
			TRY("int $0x40", : : : "memory");
			guest_check(trap_seen.vector == 10 && trap_seen.error == TSS_SEL,
				    "%s: limit %x, trap %d error %lx", exits[e].name, limit, trap_seen.vector,
				    trap_seen.error);
		}
		trap_set_ist(SELF_VECTOR, 0);
		__asm__ volatile("str %0" : "=r"(sel));
		guest_check(sel == TSS_SEL, "%s: tr %x", exits[e].name, sel);
	}
	TRY("ltr %w0", : : "r"(TSS_SEL) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == TSS_SEL,
		    "ltr of a busy TSS: trap %d error %lx", trap_seen.vector, trap_seen.error);
}

static void
on_trap(struct trap_frame *f)
{
	on_interrupt(f);
}

int
main(void)
{
	trap_interrupt = on_trap;
	wrmsr(0x1b, (rdmsr(0x1b) & ~0x400ull) | 0x800);
	*(volatile uint32_t *)(LAPIC + 0xf0ull) = 0x1ff;
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	test_limits();
	test_bases();
	test_beyond();
	test_ldt();
	test_ldt_limits();
	for (unsigned n = 0; n < 5; n++) {
		static const uint16_t tss_limits[] = {0xffff, 0x67, 0x2b, 0x2a, 0x0b};

		test_tr(tss_limits[n]);
	}
	return guest_summary();
}
