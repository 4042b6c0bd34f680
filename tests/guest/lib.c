/* SPDX-License-Identifier: BSD-2-Clause */
/* Serial output, traps, pages: what every guest starts with. Runs on one CPU. */
#include "tests/guest/guest.h"

#include <stdarg.h>

enum { COM1 = 0x3f8, LSR = 5, LSR_THRE = 0x20, EXIT_PORT = 0xf4, USER_BACK = 0x80 };

volatile struct trap_seen trap_seen;
volatile uint64_t trap_resume;
void (*volatile trap_interrupt)(struct trap_frame *f);
struct tss tss;
struct dtable idt_pointer;

static struct __attribute__((packed, aligned(16))) gate {
	uint16_t offset0, selector;
	uint8_t ist, type;
	uint16_t offset1;
	uint32_t offset2, pad;
} idt[256];
static uint64_t page_table[512] __attribute__((aligned(4096)));
static uint64_t page_directory[512] __attribute__((aligned(4096)));
static uint64_t page_pointers[512] __attribute__((aligned(4096)));
static unsigned checks, failures;
extern uint8_t trap_entries[], guest_user_back[];

/* The compiler may call these. */
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void *
memset(void *to, int c, size_t n)
{
	void *p = to;

	__asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *
memcpy(void *to, const void *from, size_t n)
{
	void *p = to;

	__asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) : : "memory");
	return to;
}

/* ---- output ---- */

static void
put(char c)
{
	while ((inb(COM1 + LSR) & LSR_THRE) == 0)
		;
	outb(COM1, (uint8_t)c);
}

static void
put_number(uint64_t v, unsigned base)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v != 0);
	while (n > 0)
		put(digits[--n]);
}

static void
put_signed(int64_t v)
{
	if (v < 0)
		put('-');
	put_number(v < 0 ? (uint64_t)-v : (uint64_t)v, 10);
}

static void
put_format(const char *fmt, va_list ap)
{
	for (; *fmt != '\0'; fmt++) {
		bool is_long = false;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		if (*++fmt == 'l') {
			is_long = true;
			fmt++;
		}
		if (*fmt == 's')
			for (const char *s = va_arg(ap, const char *); *s != '\0'; s++)
				put(*s);
		else if (*fmt == 'd')
			put_signed(is_long ? va_arg(ap, int64_t) : va_arg(ap, int));
		else if (*fmt == 'u' || *fmt == 'x')
			put_number(is_long ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
				   *fmt == 'u' ? 10 : 16);
	}
}

void
guest_printf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_format(fmt, ap);
	va_end(ap);
}

void
guest_check(bool ok, const char *fmt, ...)
{
	va_list ap;

	checks++;
	if (ok)
		return;
	failures++;
	guest_printf("FAIL ");
	va_start(ap, fmt);
	put_format(fmt, ap);
	va_end(ap);
	put('\n');
}

void
guest_skip(const char *what)
{
	guest_printf("SKIP %s\n", what);
}

int
guest_summary(void)
{
	guest_printf("done: %u checks, %u failed\n", checks, failures);
	return failures != 0;
}

void
guest_exit(int status)
{
	outl(EXIT_PORT, (uint32_t)status);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* ---- traps ---- */

void
trap_clear(void)
{
	trap_seen.vector = -1;
	trap_seen.count = 0;
}

static void
die(const struct trap_frame *f)
{
	guest_printf("FAIL trap %u error %x at %lx, cr2 %lx\n", (unsigned)f->vector, (unsigned)f->error,
		     f->rip, trap_seen.cr2);
	guest_exit(2);
}

void guest_trap(struct trap_frame *f);

void
guest_trap(struct trap_frame *f)
{
	uint64_t cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	if (f->vector == USER_BACK) {
		f->rip = (uintptr_t)guest_user_back;
		f->cs = 0x08;
		f->ss = 0x10;
		f->rflags = 2;
		return;
	}
	trap_seen.vector = (int)f->vector;
	trap_seen.count++;
	trap_seen.error = f->error;
	trap_seen.rip = f->rip;
	trap_seen.rflags = f->rflags;
	trap_seen.cr2 = cr2;
	if (f->vector >= 32 && trap_interrupt != NULL) {
		trap_interrupt(f);
	} else if ((f->cs & 3) == 3) {
		f->rip = (uintptr_t)guest_user_back;
		f->cs = 0x08;
		f->ss = 0x10;
		f->rflags = 2;
	} else if (trap_resume != 0) {
		f->rip = trap_resume;
		trap_resume = 0;
	} else {
		die(f);
	}
}

void
trap_set_ist(unsigned vector, unsigned ist)
{
	idt[vector].ist = (uint8_t)ist;
}

/* ---- machine ---- */

void
gdt_set_system(unsigned selector, uint64_t base, uint32_t limit, unsigned type)
{
	gdt[selector / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)(0x80 | type) << 40 |
			    (uint64_t)(limit >> 16 & 0xf) << 48 | (base >> 24 & 0xff) << 56;
	gdt[selector / 8 + 1] = base >> 32;
}

void
page_map(unsigned index, uint64_t physical, uint64_t flags)
{
	page_table[index] = physical | flags;
	__asm__ volatile("invlpg (%0)" : : "r"(page_at(index)) : "memory");
}

void guest_init(void);

void
guest_init(void)
{
	for (unsigned v = 0; v < 256; v++) {
		uintptr_t to = (uintptr_t)trap_entries + 16 * v;

		idt[v] = (struct gate){.offset0 = (uint16_t)to,
				       .selector = 0x08,
				       .type = v == USER_BACK || v == 3 || v == 4 ? 0xee : 0x8e,
				       .offset1 = (uint16_t)(to >> 16),
				       .offset2 = (uint32_t)(to >> 32)};
	}
	idt_pointer = (struct dtable){sizeof(idt) - 1, (uintptr_t)idt};
	__asm__ volatile("lidt %0" : : "m"(idt_pointer));
	tss.iomap = sizeof(tss);
	gdt_set_system(0x28, (uintptr_t)&tss, sizeof(tss) - 1, 0x9);
	__asm__ volatile("ltr %w0" : : "r"(0x28));
	page_directory[0] = (uintptr_t)page_table | 7;
	page_pointers[0] = (uintptr_t)page_directory | 7;
	pml4[1] = (uintptr_t)page_pointers | 7;
	trap_clear();
}
