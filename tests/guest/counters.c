/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AMD's legacy performance counters as the soft engine counts (one cycle an instruction, no branch misses),
 * and VMware's backdoors. Run with x86.pmu and x86.vmware_backdoors on.
 */
#include "tests/guest/guest.h"

enum { CTL = 0xc0010000u, CTR = 0xc0010004u, GP = 13 };
enum { USER = 1 << 16, OS = 1 << 17, ENABLE = 1 << 22, INVERT = 1 << 23 };
enum { CYCLES = 0x76, INSTRUCTIONS = 0xc0, BRANCHES = 0xc2, MISSES = 0xc3 };
enum { VMWARE_PORT = 0x5658, VMWARE_MAGIC = 0x564d5868 };
#define WIDTH_MASK 0xffffffffffffull
#define BIG	   (1ull << 47)

static uint64_t
rdpmc(uint32_t n)
{
	uint32_t lo, hi;

	__asm__ volatile("rdpmc" : "=a"(lo), "=d"(hi) : "c"(n));
	return (uint64_t)hi << 32 | lo;
}

/* Three instructions and one branch a turn; it crosses device accesses, which run an instruction twice. */
static __attribute__((noinline)) void
turns(uint64_t n)
{
	__asm__ volatile("1: outb %%al, $0x80\n\tdec %0\n\tjnz 1b" : "+r"(n));
}

static __attribute__((noinline, noclone)) uint64_t
measure(unsigned n, uint64_t ctl, uint64_t count)
{
	wrmsr(CTR + n, 0);
	wrmsr(CTL + n, ctl | ENABLE);
	turns(count);
	wrmsr(CTL + n, ctl);
	return rdmsr(CTR + n);
}

static void
events(void)
{
	static const struct {
		uint64_t ctl;
		uint64_t a_turn;
		const char *what;
	} t[] = {
	    {OS | INSTRUCTIONS, 3, "instructions"},
	    {OS | USER | INSTRUCTIONS, 3, "instructions in all rings"},
	    {OS | CYCLES, 3, "cycles"},
	    {OS | BRANCHES, 1, "branches"},
	    {OS | MISSES, 0, "branch misses"},
	    {USER | INSTRUCTIONS, 0, "instructions of CPL 3"},
	    {INSTRUCTIONS, 0, "instructions in no ring"},
	    {OS | INSTRUCTIONS | 1 << 24, 3, "cycles with an instruction"},
	    {OS | INSTRUCTIONS | 2 << 24, 0, "cycles with two instructions"},
	    {OS | BRANCHES | INVERT | 1 << 24, 2, "cycles without a branch"},
	    {OS | 0x123, 0, "an event nobody knows"},
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		for (unsigned n = 0; n < 4; n++) {
			/* The difference of two lengths: what is around the loop is the same in both. */
			uint64_t more = measure(n, t[i].ctl, 1100) - measure(n, t[i].ctl, 100);

			guest_check(more == 1000 * t[i].a_turn, "%s, counter %d: %lu in 1000 turns",
				    t[i].what, (int)n, more);
		}
	}
}

static volatile uint64_t user_count;

static void
user_turns(uint64_t n)
{
	turns(n);
}

static void
user_reads(uint64_t n)
{
	user_count = rdpmc((uint32_t)n);
}

static void
rings(void)
{
	uint64_t count[2][2];

	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 2; k++) {
			wrmsr(CTR, 0);
			wrmsr(CTL, (k == 0 ? USER : OS) | INSTRUCTIONS | ENABLE);
			trap_clear();
			guest_user(user_turns, 100 + 1000 * i);
			wrmsr(CTL, 0);
			count[i][k] = rdmsr(CTR);
		}
	}
	/* OUT faults at CPL 3: one instruction there, whatever the count. */
	guest_check(count[0][0] == count[1][0] && count[0][0] > 0 && count[0][0] < 100, "CPL 3 counts %lu",
		    count[0][0]);
	guest_check(count[0][1] == count[1][1] && count[0][1] > 0, "CPL 0 counts %lu", count[0][1]);
}

static void
registers(void)
{
	wrmsr(CTR + 2, 0xff0123456789ull);
	guest_check(rdmsr(CTR + 2) == 0xff0123456789ull && rdpmc(2) == 0xff0123456789ull,
		    "counter 2 keeps %lx", rdmsr(CTR + 2));
	wrmsr(CTR + 2, ~0ull);
	guest_check(rdmsr(CTR + 2) == WIDTH_MASK, "48 bits, not %lx", rdmsr(CTR + 2));
	wrmsr(CTL + 2, OS | INSTRUCTIONS | ENABLE);
	turns(10);
	wrmsr(CTL + 2, OS | INSTRUCTIONS);
	guest_check(rdmsr(CTR + 2) < 100, "wraps to %lx", rdmsr(CTR + 2));
	guest_check(rdmsr(CTL + 2) == (OS | INSTRUCTIONS), "control reads %lx", rdmsr(CTL + 2));
	TRY("wrmsr", : : "a"(1 << 21), "d"(0), "c"(CTL));
	guest_check(trap_seen.vector == GP, "reserved bit: vector %d", trap_seen.vector);
	TRY("rdpmc", : : "c"(4) : "rax", "rdx");
	guest_check(trap_seen.vector == GP, "counter 4: vector %d", trap_seen.vector);
	trap_clear();
	guest_user(user_reads, 2);
	guest_check(trap_seen.vector == GP, "RDPMC of CPL 3: vector %d", trap_seen.vector);
}

/* ---- overflow ---- */

enum { INTR = 1 << 20, LAPIC = 0xfee00000u, PMI_VECTOR = 0x41 };
static volatile unsigned overflows;

static volatile uint32_t *
apic(unsigned reg)
{
	return (volatile uint32_t *)(uintptr_t)(LAPIC + reg);
}

static void
on_overflow(struct trap_frame *f)
{
	guest_check(f->vector == PMI_VECTOR, "interrupt %d", (int)f->vector);
	overflows++;
	wrmsr(CTL, 0);
	*apic(0xb0) = 0;
}

/* The counter wraps in a loop that leaves the guest by nothing else: an interrupt comes, and only when asked
 * for. */
static void
overflow(void)
{
	uint64_t count;

	outb(0x21, 0xff); /* no timer of the PIC's: what waits there comes by LINT0 */
	outb(0xa1, 0xff);
	*apic(0x350) = 0x10000;
	*apic(0xf0) = 0x1ff;
	*apic(0x340) = PMI_VECTOR;
	trap_interrupt = on_overflow;
	wrmsr(CTR, ~999ull);
	wrmsr(CTL, OS | INSTRUCTIONS | ENABLE | INTR);
	__asm__ volatile("sti\n1: cmpl $0, %0\n\tje 1b\n\tcli" : : "m"(overflows) : "cc");
	count = rdmsr(CTR);
	guest_check(overflows == 1 && count < BIG, "%d overflows, counter %lx", (int)overflows, count);
	wrmsr(CTR, ~999ull);
	wrmsr(CTL, OS | INSTRUCTIONS | ENABLE);
	__asm__ volatile("sti");
	turns(10000);
	__asm__ volatile("cli");
	wrmsr(CTL, 0);
	guest_check(overflows == 1 && rdmsr(CTR) < BIG, "no interrupt was asked for: %d", (int)overflows);
	trap_interrupt = NULL;
}

/* ---- VMware ---- */

static volatile uint32_t call_eax, call_ebx;

static void
call(uint64_t command)
{
	uint32_t eax = VMWARE_MAGIC, ebx = 0xdeadbeef, ecx = (uint32_t)command;

	__asm__ volatile("inl %%dx, %%eax" : "+a"(eax), "+b"(ebx), "+c"(ecx) : "d"(VMWARE_PORT));
	call_eax = eax;
	call_ebx = ebx;
}

static void
backdoors(void)
{
	uint64_t a, b;

	for (uint32_t n = 0x10000; n <= 0x10002; n++) {
		trap_clear();
		guest_user(user_reads, n); /* whatever CR4.PCE says */
		a = user_count;
		b = rdpmc(n);
		guest_check(b > a, "pseudo counter %x: %lx, then %lx", n, a, b);
	}
	TRY("rdpmc", : : "c"(0x10003) : "rax", "rdx");
	guest_check(trap_seen.vector == GP, "counter 0x10003: vector %d", trap_seen.vector);
	call(10);
	guest_check(call_eax == 6 && call_ebx == VMWARE_MAGIC, "version: %x %x", call_eax, call_ebx);
	call_ebx = 0;
	guest_user(call, 10);
	guest_check(call_ebx == VMWARE_MAGIC, "version from CPL 3: %x", call_ebx);
	call(0xfff);
	guest_check(call_eax == 0xffffffff && call_ebx == 0xdeadbeef, "no such command: %x %x", call_eax,
		    call_ebx);
	guest_check(inl(VMWARE_PORT) == 0xffffffff, "without the magic it is a port as others");
}

/* A counter that interrupts is told to the VMM's timer, whose code uses what the guest has in these. */
static void
vectors(void)
{
	const uint64_t want[2] = {0x0123456789abcdef, 0xfedcba9876543210};
	unsigned wrong = 0;

	for (unsigned n = 0; n < 20; n++) {
		uint64_t ctl = OS | INSTRUCTIONS | (n & 1 ? 0 : ENABLE | 1 << 20 /* INT */), got[2];

		wrmsr(CTR, 0);
		__asm__ volatile("movups %1, %%xmm0\n\tmovups %1, %%xmm1\n\twrmsr\n\tpxor %%xmm1, "
				 "%%xmm0\n\tmovups %%xmm0, %0"
				 : "=m"(got)
				 : "m"(want), "a"((uint32_t)ctl), "d"((uint32_t)(ctl >> 32)), "c"(CTL)
				 : "memory");
		wrong += got[0] != 0 || got[1] != 0;
	}
	wrmsr(CTL, 0);
	guest_check(wrong == 0, "WRMSR changed vector registers %u times", wrong);
}

int
main(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
	if (r[2] == 0x444d4163) { /* ..cAMD */
		events();
		rings();
		registers();
		overflow();
		vectors();
	} else {
		guest_skip("AMD performance counters");
	}
	backdoors();
	return guest_summary();
}
