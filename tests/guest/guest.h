/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library of lhyve's own test guests. A 64-bit guest runs at CPL 0 over a one to one mapping of 4 GiB; a
 * 32-bit guest (guests.list says which) in flat protected mode with paging off. No interrupts until a guest
 * wants them. main() makes checks and returns guest_summary(); the VMM ends with that value through port
 * 0xf4.
 */
#ifndef LHYVE_TESTS_GUEST_H
#define LHYVE_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The compiler may call these, too. */
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

/* ---- output: %s, and %d %u %x with no, one or two l; nothing else ---- */
void guest_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A check that holds prints nothing; one that fails prints "FAIL" and the text. */
void guest_check(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void guest_skip(const char *what);
/* "done: N checks, N failed"; 0 when none failed. */
int guest_summary(void);
void guest_exit(int status) __attribute__((noreturn));

/* boot.cmdline; "" when there is none. 64-bit guests only. */
const char *guest_cmdline(void);

/* ---- traps ---- */
#ifdef __x86_64__
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
	uint64_t vector, error, ip, cs, flags, sp, ss;
};
#else
struct trap_frame {
	uint32_t own_ss, gs, fs, es, ds, di, si, bp, own_sp, bx, dx, cx, ax;
	uint32_t vector, error, ip, cs, flags;
	uint32_t sp, ss;		 /* from an outer level only */
	uint32_t v_es, v_ds, v_fs, v_gs; /* from virtual-8086 mode only */
};
#endif

/* The last trap since trap_clear(). vector is -1 when there was none. */
struct trap_seen {
	int vector;
	unsigned count;
	unsigned long error, rip, cs, rflags, cr2;
	unsigned long frame; /* where the handler's frame begins: its error code or a 0 */
};
extern volatile struct trap_seen trap_seen;
void trap_clear(void);
/* Where a fault goes on instead of ending the guest; 0: ends it. */
extern volatile unsigned long trap_resume;
/* Instead of that, when not NULL: called for vectors of 32 and more. */
extern void (*volatile trap_interrupt)(struct trap_frame *f);

/* Run one piece of assembly; afterwards trap_seen tells whether it trapped. */
#ifdef __x86_64__
#define TRY_WORD "movq"
#else
#define TRY_WORD "movl"
#endif
#define TRY(code, ...)                                                                     \
	do {                                                                               \
		trap_clear();                                                              \
		__asm__ volatile(TRY_WORD " $77f, trap_resume\n\t" code "\n77:\t" TRY_WORD \
					  " $0, trap_resume" __VA_ARGS__);                 \
	} while (0)

/*
 * Registers to go to any mode with: guest_enter() loads all of them by one IRET (a 32-bit guest goes to
 * virtual-8086 mode when flags say so) and comes back with the first trap but those that trap_interrupt
 * takes; the code there ends with GUEST_END. Registers are then those of the trap, its vector comes back,
 * trap_seen has the rest.
 */
struct context {
	unsigned long ax, cx, dx, bx, bp, si, di, ds, es, fs, gs;
	unsigned long ip, cs, flags, sp, ss;
};
enum { GUEST_ENDED = 0x80 };
#define GUEST_END "int $0x80"
int guest_enter(struct context *c);

/* ---- machine ---- */
enum {
	SEL_CODE = 0x08,
	SEL_DATA = 0x10,
	SEL_USER_DATA = 0x1b,
	SEL_USER_CODE = 0x23,
	SEL_TSS = 0x28,
	SEL_LDT = 0x38,
	SEL_CODE16 = 0x48,
	SEL_DATA16 = 0x50,
	SEL_FREE = 0x58, /* and 29 more */
};
extern uint64_t gdt[];
struct __attribute__((packed)) dtable {
	uint16_t limit;
	unsigned long base;
};
extern struct dtable gdt_pointer, idt_pointer;

/* Descriptor with access byte and flags (bits 3:0: AVL, L, D, G); the limit in the units that G says. */
enum { DESC_L = 2, DESC_D = 4, DESC_G = 8 };
static inline uint64_t
descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
	       (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

enum {
	GATE_TASK = 5,
	GATE_CALL16 = 4,
	GATE_INT16 = 6,
	GATE_TRAP16 = 7,
	GATE_CALL = 12,
	GATE_INT = 14,
	GATE_TRAP = 15
};
/* A gate of the IDT: access is 0x80 | DPL << 5 | GATE_*. trap_gate() makes one for the library's own handler.
 */
void idt_set(unsigned vector, unsigned selector, unsigned long offset, unsigned access);
void trap_gate(unsigned vector, unsigned access);
/* The gate's byte with access, to change it in place. */
uint8_t *idt_access(unsigned vector);

static inline unsigned long
read_cr0(void)
{
	unsigned long v;

	__asm__ volatile("mov %%cr0, %0" : "=r"(v));
	return v;
}

static inline void
write_cr0(unsigned long v)
{
	__asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory");
}

static inline unsigned long
read_cr3(void)
{
	unsigned long v;

	__asm__ volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

static inline void
write_cr3(unsigned long v)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}

static inline unsigned long
read_cr4(void)
{
	unsigned long v;

	__asm__ volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}

static inline void
write_cr4(unsigned long v)
{
	__asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}

static inline unsigned long
read_dr6(void)
{
	unsigned long v;

	__asm__ volatile("mov %%dr6, %0" : "=r"(v));
	return v;
}

static inline void
write_dr6(unsigned long v)
{
	__asm__ volatile("mov %0, %%dr6" : : "r"(v));
}

static inline void
invlpg(const volatile void *p)
{
	__asm__ volatile("invlpg (%0)" : : "r"(p) : "memory");
}

#ifdef __x86_64__
/* ---- 64-bit guests only ---- */

/* code(arg) at CPL 3; a trap there comes back here. */
void guest_user(void (*code)(uint64_t arg), uint64_t arg);
/* Run code() on the second CPU, 64-bit mode, CPL 0, interrupts off. Once. */
void guest_start_ap(void (*code)(void));
extern void (*guest_ap_main)(void);
/* The gate of a vector uses this IST entry (0: none). */
void trap_set_ist(unsigned vector, unsigned ist);
void gdt_set_system(unsigned selector, uint64_t base, uint32_t limit, unsigned type);
extern uint64_t pml4[512];
extern struct __attribute__((packed)) tss {
	uint32_t pad0;
	uint64_t rsp[3], pad1, ist[7], pad2;
	uint16_t pad3, iomap;
} tss;
/* Map a 4 KiB page at one of 512 addresses from PAGES on, with these flags (0: not present). */
#define PAGES 0x8000000000ull
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PCD = 16 };
void page_map(unsigned index, uint64_t physical, uint64_t flags);
static inline void *
page_at(unsigned index)
{
	return (void *)(PAGES + 4096ull * index);
}
#else
/* ---- 32-bit guests only ---- */

/* As guest_enter(), but in real mode: selectors are paragraphs, code ends with GUEST_END, exceptions come
 * back too. With `unreal`, DS and ES keep limits of 4 GiB. Code for real mode lies in the section REAL_MODE,
 * below 64 KiB. */
int guest_enter_real(struct context *c, bool unreal);
#define REAL_MODE ".pushsection .low, \"ax\", @progbits\n\t.code16\n\t"
#define REAL_END  "\n\t.code32\n\t.popsection"

struct tss {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi,
	    edi;
	uint32_t es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
	uint8_t map[36];
};
extern struct tss tss;
#endif
extern uint8_t stack_top[], user_stack_top[];

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
