/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Accesses that are no plain loads and stores: device memory in each width, by each kind of instruction,
 * across page ends; accesses and instructions that cross into a page that is not there; addresses that are
 * not canonical; code that changes itself, and code that another CPU changes (SDM vol. 3A 8.1.3, 11.6).
 */
#include "tests/guest/guest.h"

enum {
	DEVICE = 0xff000000u,
	READS = 0xec,
	DEV0 = 0,  /* page_map() indexes: two pages of the device */
	RAM2 = 2,  /* RAM, then the device */
	DEV4 = 4,  /* the device, then RAM */
	DEV6 = 6,  /* the device, then nothing */
	RAM8 = 8,  /* RAM, then nothing */
	CODE = 10, /* two pages of code */
	END = GUEST_ENDED,
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t ram[2][4096] __attribute__((aligned(4096)));
static uint8_t code[2][4096] __attribute__((aligned(4096)));
static volatile uint8_t *const device = (volatile uint8_t *)(uintptr_t)DEVICE;

static uint64_t
load(uint64_t at, unsigned size)
{
	uint64_t v = 0;

	if (size == 1)
		TRY("movzbl (%1), %k0", : "=r"(v) : "S"(at) : "memory");
	else if (size == 2)
		TRY("movzwl (%1), %k0", : "=r"(v) : "S"(at) : "memory");
	else if (size == 4)
		TRY("movl (%1), %k0", : "=r"(v) : "S"(at) : "memory");
	else
		TRY("movq (%1), %0", : "=r"(v) : "S"(at) : "memory");
	return v;
}

static void
store(uint64_t at, unsigned size, uint64_t v)
{
	if (size == 1)
		TRY("movb %b0, (%1)", : : "r"(v), "D"(at) : "memory");
	else if (size == 2)
		TRY("movw %w0, (%1)", : : "r"(v), "D"(at) : "memory");
	else if (size == 4)
		TRY("movl %k0, (%1)", : : "r"(v), "D"(at) : "memory");
	else
		TRY("movq %0, (%1)", : : "r"(v), "D"(at) : "memory");
}

static void
fill(volatile uint8_t *p, unsigned n, unsigned from)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(from + i);
}

/* The little-endian number that fill() left at an offset. */
static uint64_t
filled(unsigned from, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)(uint8_t)(from + i) << (8 * i);
	return v;
}

/* ---- widths, alignments, page ends ---- */

static const struct {
	const char *name;
	unsigned page;
	volatile uint8_t *first, *second; /* what its two pages are */
} places[] = {
    {"device", DEV0, (volatile uint8_t *)(uintptr_t)DEVICE, (volatile uint8_t *)(uintptr_t)(DEVICE + 0x5000)},
    {"RAM and device", RAM2, ram[0], (volatile uint8_t *)(uintptr_t)DEVICE},
    {"device and RAM", DEV4, (volatile uint8_t *)(uintptr_t)DEVICE, ram[1]},
};

static void
test_widths(unsigned n)
{
	static const unsigned sizes[] = {1, 2, 4, 8};
	uint64_t at = (uintptr_t)page_at(places[n].page);

	for (unsigned k = 0; k < 4 * 24; k++) {
		unsigned size = sizes[k % 4], off = 4096 - 16 + k / 4;

		fill(places[n].first + 4080, 16, 0x10);
		fill(places[n].second, 16, 0x20);
		uint64_t v = load(at + off, size);
		guest_check(trap_seen.vector == -1 && v == filled(off - 4080 + 0x10, size),
			    "%s: load of %u at %x: %lx, trap %d", places[n].name, size, off, v,
			    trap_seen.vector);
		store(at + off, size, 0x8877665544332211);
		for (unsigned i = 0; i < 32; i++) {
			uint8_t is = i < 16 ? places[n].first[4080 + i] : places[n].second[i - 16];
			unsigned rel = i - (off - 4080);
			uint8_t want = (uint8_t)(rel < size ? 0x11 * (rel + 1) : 0x10 + i);

			guest_check(is == want, "%s: store of %u at %x: byte %u is %x, not %x",
				    places[n].name, size, off, i, is, want);
		}
	}
}

/* ---- kinds of instructions, at an address that straddles or not ---- */

/* name, instruction on (%rbx) with RAX = 0x0102030405060708; then the 8 bytes there and RAX */
#define OLD 0x1716151413121110ull
#define NEW 0x0102030405060708ull
#define KINDS(X)                                                                                             \
	X(xchg, "xchg %rax, (%rbx)", NEW, OLD)                                                               \
	X(add, "add %rax, (%rbx)", OLD + NEW, NEW)                                                           \
	X(lock_add, "lock; add %rax, (%rbx)", OLD + NEW, NEW)                                                \
	X(lock_xadd, "lock; xadd %rax, (%rbx)", OLD + NEW, OLD)                                              \
	X(not_, "notq (%rbx)", ~OLD, NEW)                                                                    \
	X(inc, "incq (%rbx)", OLD + 1, NEW)                                                                  \
	X(shl, "shlq $4, (%rbx)", OLD << 4, NEW)                                                             \
	X(bts, "btsq $63, (%rbx)", OLD | 1ull << 63, NEW)                                                    \
	X(cmpxchg_fails, "lock; cmpxchg %rcx, (%rbx)", OLD, OLD)                                             \
	X(cmpxchg_works, "mov (%rbx), %rax; mov %rax, %rdx; mov $5, %ecx; lock; cmpxchg %rcx, (%rbx)", 5,    \
	  OLD)                                                                                               \
	X(push, "mov %rsp, %rbp; lea 8(%rbx), %rsp; push %rax; mov %rbp, %rsp", NEW, NEW)                    \
	X(push_memory, "push (%rbx); pop %rax", OLD, OLD)                                                    \
	X(pop, "push %rax; pop (%rbx)", NEW, NEW)                                                            \
	X(pop_from, "mov %rsp, %rbp; mov %rbx, %rsp; pop %rax; mov %rbp, %rsp", OLD, OLD)                    \
	X(stos, "mov %rbx, %rdi; stosq", NEW, NEW)                                                           \
	X(lods, "mov %rbx, %rsi; lodsq", OLD, OLD)                                                           \
	X(movs, "mov %rbx, %rsi; lea local(%rip), %rdi; movsq; mov local(%rip), %rax", OLD, OLD)             \
	X(movs_to, "mov %rax, local(%rip); mov %rbx, %rdi; lea local(%rip), %rsi; movsq", NEW, NEW)          \
	X(movs_bytes,                                                                                        \
	  "mov %rax, local(%rip); mov %rbx, %rdi; lea local(%rip), %rsi; mov $8, %ecx; rep movsb", NEW, NEW) \
	X(scas, "mov %rbx, %rdi; mov $0x11, %eax; mov $8, %ecx; repne scasb; mov %rcx, %rax", OLD, 6)        \
	X(movbe, "bswap %rax; mov %rax, (%rbx)", 0x0807060504030201ull, 0x0807060504030201ull)               \
	X(sse_store, "movq %rax, %xmm0; movlps %xmm0, (%rbx)", NEW, NEW)                                     \
	X(sse_load, "movq (%rbx), %xmm1; movq %xmm1, %rax", OLD, OLD)                                        \
	X(x87, "fildll (%rbx); fistpll (%rbx); mov (%rbx), %rax", OLD, OLD)                                  \
	X(setcc, "cmp %al, %al; setne (%rbx); setne 1(%rbx)", OLD & ~0xffffull, NEW)                         \
	X(sidt, "sidt local(%rip); movzwl local(%rip), %eax", OLD, 0xfff)
#define KIND_CODE(name, insn, memory, ax)                     \
	__asm__("kind_" #name ": " insn "; " GUEST_END "\n"); \
	void kind_##name(void);
KINDS(KIND_CODE)
void ret_code(void);
__asm__("ret_code: ret\n	.pushsection .bss\nlocal: .skip 16\n	.popsection\n");

static const struct {
	const char *name;
	void (*code)(void);
	uint64_t memory, ax;
} kinds[] = {
#define KIND_ROW(name, insn, memory, ax) {#name, kind_##name, memory, ax},
    KINDS(KIND_ROW)};

static void
test_kinds(unsigned n)
{
	for (unsigned p = 0; p < COUNT(places); p++) {
		for (unsigned off = 4080; off < 4096 + 4; off += 3) {
			uint64_t at = (uintptr_t)page_at(places[p].page) + off;
			struct context c = {.ip = (uintptr_t)kinds[n].code,
					    .cs = SEL_CODE,
					    .ss = SEL_DATA,
					    .sp = (uintptr_t)user_stack_top,
					    .flags = 2,
					    .ax = NEW,
					    .bx = at};

			store(at, 8, OLD);
			int v = guest_enter(&c);
			guest_check(v == END, "%s on %s: trap %d cr2 %lx", kinds[n].name, places[p].name, v,
				    trap_seen.cr2);
			uint64_t is = load(at, 8);
			guest_check(is == kinds[n].memory && c.ax == kinds[n].ax,
				    "%s on %s at %x: %lx, rax %lx", kinds[n].name, places[p].name, off, is,
				    c.ax);
		}
	}
}

/* A read is one read: the device counts them. */
static void
test_counts(void)
{
	static const struct {
		unsigned size;
		unsigned reads;
	} rows[] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}};

	for (unsigned n = 0; n < COUNT(rows); n++) {
		outl(READS, 0);
		(void)load(DEVICE, rows[n].size);
		guest_check(inl(READS) == rows[n].reads, "a load of %u: %u reads", rows[n].size, inl(READS));
	}
	outl(READS, 0);
	store(DEVICE, 8, 1);
	guest_check(inl(READS) == 0, "a store: %u reads", inl(READS));
}

/* ---- the second page is not there ---- */

static void
test_absent(unsigned page, volatile uint8_t *first, const char *name)
{
	uint64_t at = (uintptr_t)page_at(page), hole = at + 4096;

	for (unsigned n = 1; n < 8; n++) {
		fill(first + 4080, 16, 0x40);
		(void)load(hole - n, 8);
		guest_check(trap_seen.vector == 14 && trap_seen.error == 0 && trap_seen.cr2 == hole,
			    "%s, load of %u + %u: trap %d error %lx cr2 %lx", name, n, 8 - n,
			    trap_seen.vector, trap_seen.error, trap_seen.cr2);
		store(hole - n, 8, 0);
		guest_check(trap_seen.vector == 14 && trap_seen.error == 2 && trap_seen.cr2 == hole,
			    "%s, store of %u + %u: trap %d error %lx cr2 %lx", name, n, 8 - n,
			    trap_seen.vector, trap_seen.error, trap_seen.cr2);
		TRY("lock; addq $1, (%0)", : : "r"(hole - n) : "memory");
		guest_check(trap_seen.vector == 14 && trap_seen.error == 2,
			    "%s, locked add: trap %d error %lx", name, trap_seen.vector, trap_seen.error);
		for (unsigned i = 0; i < 16; i++)
			guest_check(first[4080 + i] == 0x40 + i, "%s: byte %u changed to %x", name, i,
				    first[4080 + i]);
	}
	/* A string instruction goes as far as it gets. */
	uint64_t to = hole - 5, count = 9;
	TRY("rep stosb", : "+D"(to), "+c"(count) : "a"(0x77) : "memory");
	guest_check(trap_seen.vector == 14 && to == hole && count == 4 && first[4095] == 0x77,
		    "%s, rep stosb: trap %d rdi %lx rcx %lu", name, trap_seen.vector, to, count);
}

static void
test_canonical(void)
{
	static const uint64_t bad[] = {0x800000000000, 0x8000000000000000, 0xffff7ffffffffff8,
				       0x7fffffffffffffff};

	for (unsigned n = 0; n < COUNT(bad); n++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			(void)load(bad[n], size);
			guest_check(trap_seen.vector == 13 && trap_seen.error == 0,
				    "load of %u at %lx: trap %d", size, bad[n], trap_seen.vector);
			store(bad[n], size, 0);
			guest_check(trap_seen.vector == 13 && trap_seen.error == 0,
				    "store of %u at %lx: trap %d", size, bad[n], trap_seen.vector);
		}
		TRY("invlpg (%0)", : : "r"(bad[n]) : "memory");
		guest_check(trap_seen.vector == -1, "invlpg %lx: trap %d", bad[n], trap_seen.vector);
		struct context c = {.ip = (uintptr_t)kind_push_memory,
				    .cs = SEL_CODE,
				    .ss = SEL_DATA,
				    .sp = (uintptr_t)user_stack_top,
				    .flags = 2,
				    .bx = bad[n]};
		int v = guest_enter(&c);
		guest_check(v == 13, "push of what is at %lx: trap %d", bad[n], v);
		static uint64_t stack[256];
		stack[255] = bad[n];
		c.ip = (uintptr_t)ret_code;
		c.sp = (uintptr_t)&stack[255];
		v = guest_enter(&c);
		guest_check(v == 13 && trap_seen.error == 0, "ret to %lx: trap %d", bad[n], v);
	}
}

/* Code that runs off the end of the lower half faults there, not at the last indirect branch. */
static void
test_canonical_end(void)
{
	static uint64_t tables[3][512] __attribute__((aligned(4096)));
	static uint8_t code[4096] __attribute__((aligned(4096)));
	enum { UD2 = 0xff0, TARGET = 0xff8 };
	static const uint8_t tail[] = {0xff, 0xc9, 0x78, 0xf4,
				       0x90, 0x90, 0x90, 0x90}; /* dec; js UD2; nops */
	const uint64_t end = 0x800000000000, page = end - 4096;
	uint64_t turns = 3;

	code[0] = 0xff; /* jmp *%rax */
	code[1] = 0xe0;
	code[UD2] = 0x0f;
	code[UD2 + 1] = 0x0b;
	for (unsigned n = 0; n < sizeof(tail); n++)
		code[TARGET + n] = tail[n];
	pml4[255] = (uintptr_t)tables[0] | PTE_P | PTE_W;
	tables[0][511] = (uintptr_t)tables[1] | PTE_P | PTE_W;
	tables[1][511] = (uintptr_t)tables[2] | PTE_P | PTE_W;
	tables[2][511] = (uintptr_t)code | PTE_P | PTE_W;
	TRY("jmp *%1", : "+c"(turns) : "r"(page), "a"(page + TARGET) : "memory");
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0 && trap_seen.rip == end && turns == 2,
		    "off the end: trap %d at %lx, %lu left", trap_seen.vector, trap_seen.rip, turns);
}

/* ---- instructions across a page end ---- */

static const struct {
	const char *name;
	uint8_t bytes[15];
	unsigned len;
} straddlers[] = {
    {"mov imm32", {0xb8, 0x44, 0x33, 0x22, 0x11}, 5},
    {"mov imm64", {0x48, 0xb8, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0}, 10},
    {"prefixes",
     {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x48, 0xc7, 0xc0, 0x44, 0x33, 0x22, 0x11},
     15},
    {"lea", {0x48, 0x8d, 0x80, 0x44, 0x33, 0x22, 0x11}, 7},
};

static void
test_straddling(void)
{
	for (unsigned n = 0; n < COUNT(straddlers); n++) {
		for (unsigned before = 1; before < straddlers[n].len; before++) {
			uint64_t at = (uintptr_t)page_at(CODE) + 4096 - before,
				 second = (uintptr_t)page_at(CODE + 1);
			uint8_t *to = &code[0][4096 - before];

			for (unsigned i = 0; i < straddlers[n].len; i++)
				to[i] = straddlers[n].bytes[i];
			to[straddlers[n].len] = 0xcd;
			to[straddlers[n].len + 1] = 0x80;
			struct context start = {.ip = at,
						.cs = SEL_CODE,
						.ss = SEL_DATA,
						.sp = (uintptr_t)user_stack_top,
						.flags = 2},
				       c = start;
			page_map(CODE + 1, (uintptr_t)code[1], 0);
			int v = guest_enter(&c);
			guest_check(v == 14 && trap_seen.cr2 == second && trap_seen.error == 0x10 &&
					c.ip == at,
				    "%s, %u bytes before a hole: trap %d error %lx cr2 %lx ip %lx",
				    straddlers[n].name, before, v, trap_seen.error, trap_seen.cr2, c.ip);
			page_map(CODE + 1, (uintptr_t)code[1], PTE_P | 1ull << 63);
			c = start;
			v = guest_enter(&c);
			guest_check(v == 14 && trap_seen.cr2 == second && trap_seen.error == 0x11,
				    "%s, %u bytes before NX: trap %d error %lx", straddlers[n].name, before,
				    v, trap_seen.error);
			page_map(CODE + 1, (uintptr_t)code[1], PTE_P);
			c = start;
			v = guest_enter(&c);
			guest_check(v == END && c.ax == 0x11223344, "%s, %u bytes before: trap %d rax %lx",
				    straddlers[n].name, before, v, c.ax);
			/* The second page changes: so does the instruction. */
			if (n == 0 && before < 5) {
				code[1][straddlers[n].len - before - 1] = 0x99;
				c = start;
				v = guest_enter(&c);
				guest_check(v == END && c.ax == 0x99223344,
					    "%s changed behind the page end: rax %lx", straddlers[n].name,
					    c.ax);
			}
		}
	}
}

/* ---- code that changes ---- */

void patch_next(void), patched(void), patch_loop(void), patched2(void), patch_back(void);
__asm__("	.pushsection .data\n"
	"	.balign 64\n"
	/* The very next instruction, in the same line. */
	"patch_next: movl %ecx, patched + 1(%rip)\n"
	"patched: mov $0, %eax\n"
	"	" GUEST_END "\n"
	/* A loop that changes its own body every time round. */
	"patch_loop: xor %edx, %edx\n"
	"1:	movl %ecx, patched2 + 1(%rip)\n"
	"patched2: mov $0, %eax\n"
	"	add %eax, %edx\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	mov %edx, %eax\n"
	"	" GUEST_END "\n"
	"	.popsection\n");

static void
test_self_modifying(void)
{
	for (unsigned n = 1; n < 200; n++) {
		struct context start = {.ip = (uintptr_t)patch_next,
					.cs = SEL_CODE,
					.ss = SEL_DATA,
					.sp = (uintptr_t)user_stack_top,
					.flags = 2,
					.cx = n},
			       c = start;

		(void)guest_enter(&c);
		guest_check(c.ax == n, "the next instruction: %lu, not %u", c.ax, n);
		c = start;
		c.ip = (uintptr_t)patch_loop;
		(void)guest_enter(&c);
		guest_check(c.ax == n * (n + 1) / 2, "a loop's body: %lu, not %u", c.ax, n * (n + 1) / 2);
		/* By an alias, by a string instruction. */
		page_map(20, (uintptr_t)patched & ~0xfffull, PTE_P | PTE_W);
		*(volatile uint32_t *)((uintptr_t)page_at(20) + ((uintptr_t)patched & 0xfff) + 1) = n + 1000;
		c = start;
		c.ip = (uintptr_t)patched;
		(void)guest_enter(&c);
		guest_check(c.ax == n + 1000, "through an alias: %lu", c.ax);
		uint32_t imm = n + 5000;
		memcpy((uint8_t *)patched + 1, &imm, 4);
		c = start;
		c.ip = (uintptr_t)patched;
		(void)guest_enter(&c);
		guest_check(c.ax == imm, "by rep movsb: %lu", c.ax);
	}
}

/* The second CPU calls a function again and again; this one changes it. Synchronized: the new one must be
 * seen. */
static uint32_t (*const changing)(void) = (uint32_t(*)(void))(uintptr_t)code[0];
static volatile uint32_t asked, answered, result, bad_results;

static void
other_cpu(void)
{
	for (uint32_t seen = 0;;) {
		uint32_t r[4], v = changing();

		if (v != seen && v != seen + 1)
			bad_results++; /* neither the old nor the new */
		if (asked == answered)
			continue;
		seen = asked;
		cpuid(0, 0, r); /* serializes, as the manual wants it */
		result = changing();
		answered = seen;
	}
}

static void
test_cross_modifying(void)
{
	/* mov $0, %eax; ret, with the immediate aligned */
	code[0][3] = 0xb8;
	code[0][8] = 0xc3;
	code[0][0] = code[0][1] = code[0][2] = 0x90;
	*(volatile uint32_t *)&code[0][4] = 0;
	guest_start_ap(other_cpu);
	for (uint32_t n = 1; n <= 2000; n++) {
		*(volatile uint32_t *)&code[0][4] = n;
		__asm__ volatile("mfence" : : : "memory");
		asked = n;
		while (answered != n)
			__asm__ volatile("pause");
		guest_check(result == n, "the other CPU runs %u, not %u", result, n);
	}
	guest_check(bad_results == 0, "the other CPU ran %u things that were never there", bad_results);
}

int
main(void)
{
	page_map(DEV0, DEVICE, PTE_P | PTE_W);
	page_map(DEV0 + 1, DEVICE + 0x5000, PTE_P | PTE_W);
	page_map(RAM2, (uintptr_t)ram[0], PTE_P | PTE_W);
	page_map(RAM2 + 1, DEVICE, PTE_P | PTE_W);
	page_map(DEV4, DEVICE, PTE_P | PTE_W);
	page_map(DEV4 + 1, (uintptr_t)ram[1], PTE_P | PTE_W);
	page_map(DEV6, DEVICE, PTE_P | PTE_W);
	page_map(RAM8, (uintptr_t)ram[0], PTE_P | PTE_W);
	page_map(CODE, (uintptr_t)code[0], PTE_P | PTE_W);
	for (unsigned n = 0; n < COUNT(places); n++)
		test_widths(n);
	for (unsigned n = 0; n < COUNT(kinds); n++)
		test_kinds(n);
	test_counts();
	test_absent(DEV6, device, "device");
	test_absent(RAM8, ram[0], "RAM");
	test_canonical();
	test_canonical_end();
	test_straddling();
	test_self_modifying();
	test_cross_modifying();
	return guest_summary();
}
