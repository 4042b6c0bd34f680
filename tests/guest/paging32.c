/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Paging outside long mode (SDM vol. 3A 4.3, 4.4): none, 32-bit with and without 4 MiB pages (PSE, PSE-36),
 * PAE. The permission matrix against a model, A and D, reserved bits, the PDPTEs that MOV CR3 loads.
 */
#include "tests/guest/guest.h"

enum {
	P = 1,
	W = 2,
	U = 4,
	A = 32,
	D = 64,
	PS = 128,
	ERR_P = 1,
	ERR_W = 2,
	ERR_U = 4,
	ERR_RSVD = 8,
	ERR_I = 16,
	READ = 0,
	WRITE,
	FETCH,
	CR0_WP = 1 << 16,
	CR4_PSE = 1 << 4,
	CR4_PAE = 1 << 5,
	CR4_SMEP = 1 << 20,
	CR4_SMAP = 1 << 21,
	FL_AC = 1 << 18,
	USER_CODE = 0x3ff000,
	END = GUEST_ENDED,
};
#define CR0_PG	 0x80000000u
#define PAGE	 0x40201000u /* PDPTE 1, PDE 1 of PAE; PDE 0x100 of 32-bit paging; PTE 1 */
#define NX	 (1ull << 63)
#define EFER	 0xc0000080
#define CONTENTS 0x80cd90u /* nop; int $0x80 */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Both formats; the first 4 MiB are mapped one to one for CPL 0; CPL 3 sees its code at USER_CODE. */
static uint32_t directory32[1024] __attribute__((aligned(4096)));
static uint32_t low32[1024] __attribute__((aligned(4096)));
static uint32_t table32[1024] __attribute__((aligned(4096)));
static uint64_t pdptes[4] __attribute__((aligned(32)));
static uint64_t low_directory[512] __attribute__((aligned(4096)));
static uint64_t low64[2][512] __attribute__((aligned(4096)));
static uint64_t directory64[512] __attribute__((aligned(4096)));
static uint64_t table64[512] __attribute__((aligned(4096)));
static uint8_t page[4096] __attribute__((aligned(4096)));
static bool has_smep, has_smap, has_nx, has_pse36;
static unsigned phys_bits;

extern uint8_t access_page[], access_read[], access_write[];
__asm__("	.pushsection .text\n"
	"	.balign 4096\n"
	"access_page:\n"
	"access_read: mov (%ebx), %eax; " GUEST_END "\n"
	"access_write: mov %eax, (%ebx); " GUEST_END "\n"
	"	.balign 4096\n"
	"	.popsection\n");

enum format { BITS32, PAE };

static void
fill_low(void)
{
	for (unsigned n = 0; n < 1024; n++) {
		uint32_t entry = n << 12 | P | W;

		if (n == USER_CODE >> 12)
			entry = (uintptr_t)access_page | P | U;

		low32[n] = entry;
		low64[n / 512][n % 512] = entry;
	}
	directory32[0] = (uintptr_t)low32 | P | W | U;
	low_directory[0] = (uintptr_t)low64[0] | P | W | U;
	low_directory[1] = (uintptr_t)low64[1] | P | W | U;
	pdptes[0] = (uintptr_t)low_directory | P;
	pdptes[1] = (uintptr_t)directory64 | P;
}

static void
paging_on(enum format f)
{
	write_cr4((read_cr4() & ~(unsigned long)CR4_PAE) | CR4_PSE | (f == PAE ? CR4_PAE : 0));
	if (has_nx)
		wrmsr(EFER, (rdmsr(EFER) & ~0x800ull) | (f == PAE ? 0x800 : 0));
	write_cr3(f == PAE ? (uintptr_t)pdptes : (uintptr_t)directory32);
	write_cr0(read_cr0() | CR0_PG);
}

static void
paging_off(void)
{
	write_cr0(read_cr0() & ~CR0_PG);
	write_cr4(read_cr4() & ~(unsigned long)(CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP));
}

static struct context
access_context(int kind, bool user, uint32_t at)
{
	struct context c = {.ip = (uintptr_t)(kind == WRITE ? access_write : access_read),
			    .cs = user ? SEL_USER_CODE : SEL_CODE,
			    .ss = user ? SEL_USER_DATA : SEL_DATA,
			    .sp = (uintptr_t)user_stack_top,
			    .ds = SEL_USER_DATA,
			    .es = SEL_USER_DATA,
			    .flags = 2,
			    .ax = CONTENTS,
			    .bx = at};

	if (user && (read_cr0() & CR0_PG) != 0)
		c.ip += USER_CODE - (uintptr_t)access_page;
	if (kind == FETCH)
		c.ip = at;
	return c;
}

struct setting {
	bool wp, smep, smap, ac;
};

static int
model(enum format f, uint64_t leaf, uint64_t upper, int kind, bool user, const struct setting *s)
{
	bool i = (f == PAE && has_nx) || s->smep;
	int err = (kind == WRITE ? ERR_W : 0) | (user ? ERR_U : 0) | (kind == FETCH && i ? ERR_I : 0);
	bool u = (leaf & upper & U) != 0, w = (leaf & upper & W) != 0, nx = ((leaf | upper) & NX) != 0, ok;

	if (!(leaf & P))
		return err;
	if (user)
		ok = u && (kind == READ || (kind == WRITE ? w : !nx));
	else if (kind == FETCH)
		ok = !nx && !(u && s->smep);
	else
		ok = !(u && s->smap && !s->ac) && (kind == READ || w || !s->wp);
	return ok ? -1 : err | ERR_P;
}

/* Where page[] shows, with a 4 KiB leaf or a large one. */
static uint32_t
mapped_at(enum format f, bool large)
{
	uint32_t mask = !large ? 0xfff : f == PAE ? 0x1fffff : 0x3fffff;

	return (PAGE & ~mask) | ((uintptr_t)page & mask);
}

static void
map(enum format f, bool large, uint64_t leaf, uint64_t upper)
{
	uint32_t mask = !large ? 0xfff : f == PAE ? 0x1fffff : 0x3fffff;
	uint64_t entry = ((uintptr_t)page & ~mask) | leaf | (large ? PS : 0);

	if (f == PAE) {
		table64[1] = entry;
		directory64[1] = large ? entry : (uintptr_t)table64 | P | upper;
	} else {
		table32[0x201] = (uint32_t)entry;
		directory32[0x100] = large ? (uint32_t)entry : (uintptr_t)table32 | P | (uint32_t)upper;
	}
	invlpg((void *)(uintptr_t)mapped_at(f, large));
}

static uint64_t
leaf_now(enum format f, bool large)
{
	if (f == PAE)
		return large ? directory64[1] : table64[1];
	return large ? directory32[0x100] : table32[0x201];
}

static void
one_access(enum format f, bool large, uint64_t leaf, uint64_t upper, int kind, bool user,
	   const struct setting *s)
{
	uint32_t at = mapped_at(f, large);
	struct context c = access_context(kind, user, at);
	int want = model(f, leaf, large ? leaf : upper, kind, user, s);

	map(f, large, leaf, upper);
	if (s->ac)
		c.flags |= FL_AC;
	int v = guest_enter(&c);
	guest_check(want < 0 ? v == END : v == 14 && trap_seen.error == (unsigned)want && trap_seen.cr2 == at,
		    "format %d large %d leaf %llx upper %llx access %d user %d wp %d smep %d smap %d ac %d: "
		    "trap %d error "
		    "%lx cr2 %lx, not %x",
		    f, large, leaf, upper, kind, user, s->wp, s->smep, s->smap, s->ac, v, trap_seen.error,
		    trap_seen.cr2, (unsigned)want);
	uint64_t now = leaf_now(f, large);
	guest_check(((now & D) != 0) == (want < 0 && kind == WRITE) && (want >= 0 || (now & A) != 0),
		    "format %d leaf %llx access %d: now %llx", f, leaf, kind, now);
	if (want < 0 && !large)
		guest_check(((f == PAE ? directory64[1] : directory32[0x100]) & A) != 0,
			    "format %d: A of the directory", f);
}

static void
test_matrix(enum format f)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		struct setting s = {bits & 1, bits & 2, bits & 4, bits & 8};

		if ((s.smep && !has_smep) || (s.smap && !has_smap) || (s.ac && !s.smap))
			continue;
		write_cr0((read_cr0() & ~(unsigned long)CR0_WP) | (s.wp ? CR0_WP : 0));
		write_cr4((read_cr4() & ~(unsigned long)(CR4_SMEP | CR4_SMAP)) | (s.smep ? CR4_SMEP : 0) |
			  (s.smap ? CR4_SMAP : 0));
		for (unsigned n = 0; n < 2 * 16 * 8 * 6; n++) {
			unsigned l = n / 2 % 16, u = n / 32 % 8, k = n / 256;

			if (((l & 8) || (u & 4)) && (f != PAE || !has_nx))
				continue;
			one_access(f, n % 2, (l & 7) | (l & 8 ? NX : 0), (u & 3) << 1 | (u & 4 ? NX : 0),
				   (int)(k % 3), k / 3, &s);
		}
	}
	write_cr4(read_cr4() & ~(unsigned long)(CR4_SMEP | CR4_SMAP));
	write_cr0(read_cr0() | CR0_WP);
}

/* ---- reserved bits ---- */

static void
reserved(enum format f, bool large, bool in_directory, uint64_t bits)
{
	for (unsigned user = 0; user < 2; user++) {
		struct context c = access_context(READ, user, mapped_at(f, large));

		map(f, large, P | W | U, W | U);
		if (f == BITS32)
			directory32[0x100] |= (uint32_t)bits;
		else if (in_directory || large)
			directory64[1] |= bits;
		else
			table64[1] |= bits;
		invlpg((void *)(uintptr_t)c.bx);
		int v = guest_enter(&c);
		guest_check(v == 14 && trap_seen.error == (unsigned)(ERR_P | ERR_RSVD | (user ? ERR_U : 0)),
			    "format %d large %d directory %d, bits %llx: trap %d error %lx", f, large,
			    in_directory, bits, v, trap_seen.error);
	}
}

static void
test_reserved32(void)
{
	if (!has_pse36)
		guest_skip("PSE-36");
	unsigned first = has_pse36 ? 13 + (phys_bits > 40 ? 8 : phys_bits - 32) : 13;
	for (unsigned bit = first; bit < 22; bit++)
		reserved(BITS32, true, true, 1u << bit);
	/* PSE-36: an address above 4 GiB, where nothing is. */
	if (has_pse36 && phys_bits > 36) {
		map(BITS32, true, P | W | U, 0);
		directory32[0x100] |= 1u << 17; /* bit 36 */
		invlpg((void *)(uintptr_t)mapped_at(BITS32, true));
		uint32_t v = 0;
		TRY("mov (%1), %0", : "=r"(v) : "r"(mapped_at(BITS32, true)) : "memory");
		guest_check(trap_seen.vector == -1 && v != CONTENTS, "PSE-36: trap %d, %x", trap_seen.vector,
			    v);
	}
	/* With PSE off, PS means nothing. */
	map(BITS32, false, P | W | U, W | U);
	directory32[0x100] |= PS;
	write_cr4(read_cr4() & ~(unsigned long)CR4_PSE);
	guest_check(*(volatile uint32_t *)PAGE == CONTENTS, "PS without CR4.PSE: %x",
		    *(volatile uint32_t *)PAGE);
	write_cr4(read_cr4() | CR4_PSE);
}

static void
test_reserved_pae(void)
{
	for (unsigned bit = phys_bits; bit < 63; bit++) {
		reserved(PAE, false, false, 1ull << bit);
		reserved(PAE, false, true, 1ull << bit);
		reserved(PAE, true, true, 1ull << bit);
	}
	for (unsigned bit = 13; bit < 21; bit++)
		reserved(PAE, true, true, 1ull << bit);
	if (has_nx) {
		wrmsr(EFER, rdmsr(EFER) & ~0x800ull);
		reserved(PAE, false, false, NX);
		reserved(PAE, false, true, NX);
		wrmsr(EFER, rdmsr(EFER) | 0x800);
	}
	/* PDPTEs: #GP when they are loaded, and CR3 stays. */
	unsigned long before = read_cr3();
	static const unsigned bits[] = {1, 2, 5, 6, 7, 8, 63};
	for (unsigned n = 0; n < COUNT(bits); n++) {
		pdptes[2] = P | 1ull << bits[n];
		TRY("mov %0, %%cr3", : : "r"(before) : "memory");
		guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "PDPTE with bit %u: trap %d",
			    bits[n], trap_seen.vector);
		pdptes[2] = 1ull << bits[n]; /* not present: anything goes */
		TRY("mov %0, %%cr3", : : "r"(before) : "memory");
		guest_check(trap_seen.vector == -1, "absent PDPTE with bit %u: trap %d", bits[n],
			    trap_seen.vector);
	}
	pdptes[2] = 0;
	/* They count when CR3 is loaded, not when memory changes. */
	map(PAE, false, P | W | U, W | U);
	guest_check(*(volatile uint32_t *)PAGE == CONTENTS, "PAE: %x", *(volatile uint32_t *)PAGE);
	pdptes[1] = 0;
	write_cr3(before);
	TRY("mov (%0), %%eax", : : "r"(PAGE) : "eax", "memory");
	guest_check(trap_seen.vector == 14 && trap_seen.error == 0, "no PDPTE: trap %d error %lx",
		    trap_seen.vector, trap_seen.error);
	pdptes[1] = (uintptr_t)directory64 | P;
	write_cr3(before);
	guest_check(*(volatile uint32_t *)PAGE == CONTENTS, "PAE again: %x", *(volatile uint32_t *)PAGE);
}

/* Without paging all is there, also for CPL 3; linear addresses are physical ones, and wrap at 4 GiB. */
static void
test_none(void)
{
	for (int kind = READ; kind <= FETCH; kind++) {
		for (unsigned user = 0; user < 2; user++) {
			struct context c = access_context(kind, user, (uintptr_t)page);
			int v = guest_enter(&c);

			guest_check(v == END, "no paging, access %d user %u: trap %d", kind, user, v);
		}
	}
	gdt[SEL_FREE / 8] = descriptor(0xfffff000, 0xfffff, 0x93, DESC_D | DESC_G);
	uint32_t v = 0;
	TRY("mov %w2, %%fs; mov %%fs:(%1), %0",
	    : "=&r"(v)
	    : "r"((uintptr_t)page + 0x1000), "r"(SEL_FREE)
	    : "memory");
	guest_check(trap_seen.vector == -1 && v == CONTENTS, "base and offset beyond 4 GiB: trap %d %x",
		    trap_seen.vector, v);
	__asm__ volatile("mov %w0, %%fs" : : "r"(0));
}

static void
features(void)
{
	uint32_t r[4];

	cpuid(7, 0, r);
	has_smep = r[1] >> 7 & 1;
	has_smap = r[1] >> 20 & 1;
	cpuid(1, 0, r);
	has_pse36 = r[3] >> 17 & 1;
	cpuid(0x80000001, 0, r);
	has_nx = r[3] >> 20 & 1;
	cpuid(0x80000008, 0, r);
	phys_bits = r[0] & 0xff;
}

int
main(void)
{
	features();
	*(uint32_t *)page = CONTENTS;
	fill_low();
	test_none();
	for (unsigned round = 0; round < 2; round++) { /* formats follow one another */
		paging_on(BITS32);
		test_matrix(BITS32);
		test_reserved32();
		paging_off();
		paging_on(PAE);
		test_matrix(PAE);
		test_reserved_pae();
		paging_off();
	}
	test_none();
	return guest_summary();
}
