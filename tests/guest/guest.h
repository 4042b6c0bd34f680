/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library of lhyve's own test guests: 64-bit code at CPL 0, one to one mapping of 4 GiB, no interrupts
 * until a guest wants them. main() makes checks and returns guest_summary(); the VMM ends with that value
 * through port 0xf4.
 */
#ifndef LHYVE_TESTS_GUEST_H
#define LHYVE_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- output: "%s %d %u %x %lx", nothing else ---- */
void guest_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A check that holds prints nothing; one that fails prints "FAIL" and the text. */
void guest_check(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void guest_skip(const char *what);
/* "done: N checks, N failed"; 0 when none failed. */
int guest_summary(void);
void guest_exit(int status) __attribute__((noreturn));

/* ---- traps ---- */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* The last trap since trap_clear(). vector is -1 when there was none. */
struct trap_seen {
	int vector;
	unsigned count;
	uint64_t error, rip, rflags, cr2;
};
extern volatile struct trap_seen trap_seen;
void trap_clear(void);
/* Where a fault goes on instead of ending the guest; 0: ends it. */
extern volatile uint64_t trap_resume;
/* Instead of that, when not NULL: called for vectors of 32 and more. */
extern void (*volatile trap_interrupt)(struct trap_frame *f);
/* The gate of a vector uses this IST entry (0: none). */
void trap_set_ist(unsigned vector, unsigned ist);

/* Run one piece of assembly; afterwards trap_seen tells whether it trapped. */
#define TRY(code, ...)                                                       \
	do {                                                                 \
		trap_clear();                                                \
		__asm__ volatile("movq $77f, trap_resume\n\t" code           \
				 "\n77:\tmovq $0, trap_resume" __VA_ARGS__); \
	} while (0)

/* code(arg) at CPL 3; a trap there comes back here. */
void guest_user(void (*code)(uint64_t arg), uint64_t arg);

/* ---- machine ---- */
extern uint64_t gdt[];
struct __attribute__((packed)) dtable {
	uint16_t limit;
	uint64_t base;
};
extern struct dtable gdt_pointer, idt_pointer;
extern uint64_t pml4[512];
extern struct __attribute__((packed)) tss {
	uint32_t pad0;
	uint64_t rsp[3], pad1, ist[7], pad2;
	uint16_t pad3, iomap;
} tss;

void gdt_set_system(unsigned selector, uint64_t base, uint32_t limit, unsigned type);
/* Map a 4 KiB page at one of 512 addresses from PAGES on, with these flags (0: not present). */
#define PAGES 0x8000000000ull
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PCD = 16 };
void page_map(unsigned index, uint64_t physical, uint64_t flags);
static inline void *
page_at(unsigned index)
{
	return (void *)(PAGES + 4096ull * index);
}

static inline void
outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t
inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void
outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint32_t
inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void
cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static inline uint64_t
rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static inline void
wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(msr));
}

#endif
