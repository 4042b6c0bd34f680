/* SPDX-License-Identifier: BSD-2-Clause */
/* Serial output, checks, traps: what every guest has. The rest is in lib64.c and lib32.c. */
#include "tests/guest/guest.h"

#include <stdarg.h>

enum { COM1 = 0x3f8, LSR = 5, LSR_THRE = 0x20, EXIT_PORT = 0xf4 };

volatile struct trap_seen trap_seen;
volatile unsigned long trap_resume;
void (*volatile trap_interrupt)(struct trap_frame *f);

static struct context *entered; /* guest_enter() is under way */
static unsigned checks, failures;
void guest_enter_asm(const struct context *c);
void guest_leave(void) __attribute__((noreturn));
void guest_trap(struct trap_frame *f);

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

/* 64 by 32 bits, without the compiler's library. */
static unsigned
divide(uint64_t *v, unsigned by)
{
	uint32_t hi = (uint32_t)(*v >> 32), lo = (uint32_t)*v, rest = hi % by;

	__asm__("divl %2" : "+a"(lo), "+d"(rest) : "r"(by));
	*v = (uint64_t)(hi / by) << 32 | lo;
	return rest;
}

static void
put_number(uint64_t v, unsigned base)
{
	char digits[20];
	unsigned n = 0;

	do
		digits[n++] = "0123456789abcdef"[divide(&v, base)];
	while (v != 0);
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

static uint64_t
next_number(va_list *ap, unsigned longs, bool is_signed)
{
	if (longs == 2)
		return va_arg(*ap, uint64_t);
	if (is_signed)
		return (uint64_t)(longs ? va_arg(*ap, long) : va_arg(*ap, int));
	return longs ? va_arg(*ap, unsigned long) : va_arg(*ap, unsigned);
}

static void
put_format(const char *fmt, va_list *ap)
{
	for (; *fmt != '\0'; fmt++) {
		unsigned longs = 0;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		while (*++fmt == 'l')
			longs++;
		if (*fmt == 's')
			for (const char *s = va_arg(*ap, const char *); *s != '\0'; s++)
				put(*s);
		else if (*fmt == 'd')
			put_signed((int64_t)next_number(ap, longs, true));
		else if (*fmt == 'u' || *fmt == 'x')
			put_number(next_number(ap, longs, false), *fmt == 'u' ? 10 : 16);
	}
}

void
guest_printf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_format(fmt, &ap);
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
	put_format(fmt, &ap);
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
	guest_printf("FAIL trap %u error %x at %x:%lx, cr2 %lx\n", (unsigned)f->vector, (unsigned)f->error,
		     (unsigned)f->cs, (unsigned long)f->ip, trap_seen.cr2);
	guest_exit(2);
}

static void
remember(const struct trap_frame *f)
{
	unsigned long cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	trap_seen.vector = (int)f->vector;
	trap_seen.count++;
	trap_seen.error = f->error;
	trap_seen.rip = f->ip;
	trap_seen.cs = (uint16_t)f->cs;
	trap_seen.rflags = f->flags;
	trap_seen.cr2 = cr2;
	trap_seen.frame = (uintptr_t)&f->error;
}

/* The registers of what guest_enter() started. */
static void
keep(struct context *c, struct trap_frame *f)
{
	c->ax = f->ax;
	c->cx = f->cx;
	c->dx = f->dx;
	c->bx = f->bx;
	c->bp = f->bp;
	c->si = f->si;
	c->di = f->di;
	c->ip = f->ip;
	c->cs = (uint16_t)f->cs;
	c->flags = f->flags;
#ifdef __x86_64__
	uint16_t sel;

	c->sp = f->sp;
	c->ss = (uint16_t)f->ss;
	__asm__ volatile("mov %%ds, %0" : "=r"(sel));
	c->ds = sel;
	__asm__ volatile("mov %%es, %0" : "=r"(sel));
	c->es = sel;
	__asm__ volatile("mov %%fs, %0" : "=r"(sel));
	c->fs = sel;
	__asm__ volatile("mov %%gs, %0" : "=r"(sel));
	c->gs = sel;
#else
	bool vm = (f->flags & 0x20000) != 0, outer = vm || (f->cs & 3) != 0;

	c->sp = outer ? f->sp : (uintptr_t)&f->sp;
	c->ss = (uint16_t)(outer ? f->ss : f->own_ss);
	c->ds = (uint16_t)(vm ? f->v_ds : f->ds);
	c->es = (uint16_t)(vm ? f->v_es : f->es);
	c->fs = (uint16_t)(vm ? f->v_fs : f->fs);
	c->gs = (uint16_t)(vm ? f->v_gs : f->gs);
#endif
}

void
guest_trap(struct trap_frame *f)
{
	struct context *c = entered;

	remember(f);
	if (f->vector >= 32 && f->vector != GUEST_ENDED && trap_interrupt != NULL) {
		trap_interrupt(f);
	} else if (c != NULL) {
		entered = NULL;
		keep(c, f);
		guest_leave();
	} else if (trap_resume != 0) {
		f->ip = trap_resume;
		f->flags &= ~0x100u; /* no more single steps */
		trap_resume = 0;
	} else {
		die(f);
	}
}

int
guest_enter(struct context *c)
{
	trap_clear();
	entered = c;
	guest_enter_asm(c);
	return trap_seen.vector;
}
