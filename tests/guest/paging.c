/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 4-level paging (SDM vol. 3A ch. 4): the whole permission matrix against a model of the rules, A and D,
 * reserved bits, protection keys, what a TLB may not keep.
 */
#include "tests/guest/guest.h"

enum {
	P = 1,
	W = 2,
	U = 4,
	A = 32,
	D = 64,
	PS = 128,
	G = 256,
	ERR_P = 1,
	ERR_W = 2,
	ERR_U = 4,
	ERR_RSVD = 8,
	ERR_I = 16,
	ERR_PK = 32,
	READ = 0,
	WRITE,
	FETCH,
	CR0_WP = 1 << 16,
	CR4_PGE = 1 << 7,
	CR4_PCIDE = 1 << 17,
	CR4_SMEP = 1 << 20,
	CR4_SMAP = 1 << 21,
	CR4_PKE = 1 << 22,
	CR4_PKS = 1 << 24,
	FL_AC = 1 << 18,
	USER_CODE = 100, /* page_map() indexes */
	END = GUEST_ENDED,
};
#define NX	 (1ull << 63)
#define AREA	 0x10000000000ull	/* PML4 entry 2 */
#define PAGE	 (AREA + 0x40201000ull) /* entry 1 at each level below */
#define CONTENTS 0x80cd90ul		/* nop; int $0x80: what writes leave for fetches */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[512] __attribute__((aligned(4096)));
static uint64_t pt[512] __attribute__((aligned(4096)));
static uint8_t pages[2][4096] __attribute__((aligned(4096)));
/* The entries that lead to PAGE, from the leaf up. */
static uint64_t *const entries[] = {&pt[1], &pd[1], &pdpt[1], &pml4[2]};
static bool has_smep, has_smap, has_pku, has_pks, has_1g, has_pcid, has_invpcid;
static unsigned phys_bits;

/* One page for both levels: mapped for CPL 3 at page_at(USER_CODE). */
extern uint8_t access_page[], access_write[], access_read[];
__asm__("	.pushsection .text\n"
	"	.balign 4096\n"
	"	.globl access_page, access_write, access_read\n"
	"access_page:\n"
	"access_read: mov (%rbx), %rax; " GUEST_END "\n"
	"access_write: mov %rax, (%rbx); " GUEST_END "\n"
	"	.balign 4096\n"
	"	.popsection\n");

static struct context
access_context(int kind, bool user, uint64_t at)
{
	const uint8_t *code = kind == WRITE ? access_write : access_read;
	struct context c = {.ip = user ? (uintptr_t)page_at(USER_CODE) + (unsigned)(code - access_page)
				       : (uintptr_t)code,
			    .cs = user ? SEL_USER_CODE : SEL_CODE,
			    .ss = user ? SEL_USER_DATA : SEL_DATA,
			    .sp = (uintptr_t)user_stack_top,
			    .flags = 2,
			    .bx = at,
			    .ax = CONTENTS};

	if (kind == FETCH)
		c.ip = at;
	return c;
}

/* Map PAGE by a leaf at `level` (0: 4 KiB, 1: 2 MiB, 2: 1 GiB). pages[0] comes in any case. */
static void
map(unsigned level, uint64_t leaf, uint64_t upper)
{
	static const uint64_t masks[] = {0xfff, 0x1fffff, 0x3fffffff};
	uint64_t *tables[] = {pt, pd, pdpt};

	for (unsigned l = level + 1; l < 4; l++)
		*entries[l] = (uintptr_t)tables[l - 1] | P | (l == level + 1 ? upper : W | U);
	*entries[level] = ((uintptr_t)pages[0] & ~masks[level]) | leaf | (level ? PS : 0);
}

/* Where pages[0] shows with a leaf at that level. */
static uint64_t
mapped_at(unsigned level)
{
	static const uint64_t masks[] = {0xfff, 0x1fffff, 0x3fffffff};

	return (PAGE & ~masks[level]) | ((uintptr_t)pages[0] & masks[level]);
}

/* ---- the matrix ---- */

struct setting {
	bool wp, smep, smap, ac;
};

static void
apply(const struct setting *s)
{
	write_cr0((read_cr0() & ~(unsigned long)CR0_WP) | (s->wp ? CR0_WP : 0));
	write_cr4((read_cr4() & ~(unsigned long)(CR4_SMEP | CR4_SMAP)) | (s->smep ? CR4_SMEP : 0) |
		  (s->smap ? CR4_SMAP : 0));
}

/* The rules of SDM 4.6: -1 when the access is fine, else the error code. */
static int
model(uint64_t leaf, uint64_t upper, int kind, bool user, const struct setting *s)
{
	int err = (kind == WRITE ? ERR_W : 0) | (user ? ERR_U : 0) | (kind == FETCH ? ERR_I : 0);
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

static void
one_access(unsigned level, uint64_t leaf, uint64_t upper, int kind, bool user, const struct setting *s)
{
	uint64_t at = mapped_at(level);
	struct context c = access_context(kind, user, at);
	int want = model(leaf, upper, kind, user, s);

	map(level, leaf, upper);
	invlpg((void *)at);
	if (s->ac)
		c.flags |= FL_AC;
	int v = guest_enter(&c);
	bool right = want < 0 ? v == END
			      : v == 14 && trap_seen.error == (unsigned)want && trap_seen.cr2 == at &&
				    trap_seen.rip == access_context(kind, user, at).ip;
	guest_check(right,
		    "level %u leaf %lx upper %lx access %d user %d wp %d smep %d smap %d ac %d: trap %d "
		    "error %lx cr2 "
		    "%lx, not %x",
		    level, leaf, upper, kind, user, s->wp, s->smep, s->smap, s->ac, v, trap_seen.error,
		    trap_seen.cr2, (unsigned)want);
	if (want < 0) {
		bool all = true;

		for (unsigned l = level; l < 4; l++)
			all = all && (*entries[l] & A) != 0;
		guest_check(all, "level %u leaf %lx: an A bit is missing", level, leaf);
	}
	guest_check(((*entries[level] & D) != 0) == (want < 0 && kind == WRITE),
		    "level %u leaf %lx access %d: D of %lx", level, leaf, kind, *entries[level]);
}

static void
test_matrix(void)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		struct setting s = {bits & 1, bits & 2, bits & 4, bits & 8};

		if ((s.smep && !has_smep) || (s.smap && !has_smap) || (s.ac && !s.smap))
			continue;
		apply(&s);
		for (unsigned n = 0; n < 3 * 16 * 8 * 6; n++) {
			unsigned level = n % 3, l = n / 3 % 16, u = n / 48 % 8, k = n / 384;
			uint64_t leaf = (l & 7) | (l & 8 ? NX : 0), upper = (u & 3) << 1 | (u & 4 ? NX : 0);

			if (level == 2 && !has_1g)
				continue;
			one_access(level, leaf, upper, (int)(k % 3), k / 3, &s);
		}
	}
	apply(&(struct setting){true, false, false, false});
}

/* ---- reserved bits ---- */

static void
reserved(unsigned level, unsigned in, uint64_t bits, bool user, int kind)
{
	uint64_t at = mapped_at(level);
	struct context c = access_context(kind, user, at);
	unsigned want =
	    ERR_P | ERR_RSVD | (kind == WRITE ? ERR_W : 0) | (user ? ERR_U : 0) | (kind == FETCH ? ERR_I : 0);

	map(level, P | W | U, W | U);
	*entries[in] |= bits;
	invlpg((void *)at);
	int v = guest_enter(&c);
	guest_check(v == 14 && trap_seen.error == want && trap_seen.cr2 == at,
		    "leaf at %u, bits %lx reserved at %u: trap %d error %lx, not %x", level, bits, in, v,
		    trap_seen.error, want);
}

static void
test_reserved(void)
{
	for (int kind = READ; kind <= FETCH; kind++) {
		for (unsigned user = 0; user < 2; user++) {
			for (unsigned bit = phys_bits; bit < 52; bit++) {
				for (unsigned l = 0; l < 4; l++)
					reserved(0, l, 1ull << bit, user, kind);
			}
			reserved(0, 3, PS, user, kind);
			for (unsigned bit = 13; bit < 21; bit++)
				reserved(1, 1, 1ull << bit, user, kind);
			for (unsigned bit = 13; has_1g && bit < 30; bit++)
				reserved(2, 2, 1ull << bit, user, kind);
		}
	}
	if (!has_1g)
		reserved(0, 2, PS, false, READ);
	/* Without NXE the NX bit is one of them, and the error code has no I bit. */
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
	for (unsigned l = 0; l < 4; l++)
		reserved(0, l, NX, false, READ);
	struct context c = access_context(FETCH, true, PAGE);
	map(0, W, W | U);
	invlpg((void *)PAGE);
	int v = guest_enter(&c);
	guest_check(v == 14 && trap_seen.error == ERR_U, "fetch without NXE: trap %d error %lx", v,
		    trap_seen.error);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
}

/* ---- protection keys ---- */

static void
wrpkru(uint32_t v)
{
	__asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(v), "c"(0), "d"(0));
}

enum { MSR_PKRS = 0x6e1 };

/* Rights of user pages' keys (PKRU), or of supervisor pages' (PKRS). */
static void
set_rights(bool supervisor, uint32_t v)
{
	if (supervisor)
		wrmsr(MSR_PKRS, v);
	else
		wrpkru(v);
}

static void
one_key(bool supervisor, unsigned n)
{
	int kind = (int)(n % 3);
	unsigned rights = n / 3 % 4, key = n / 96 ? 15 : 1;
	bool user = n / 12 % 2, user_page = n / 24 % 2, wp = n / 48 % 2;
	struct setting s = {wp, false, false, false};
	uint64_t leaf = P | W | (user_page ? U : 0) | (uint64_t)key << 59;
	int want = model(leaf, W | U, kind, user, &s);

	if (user_page != supervisor && kind != FETCH &&
	    ((rights & 1) || (kind == WRITE && (rights & 2) && (user || wp))))
		want = ERR_P | ERR_PK | (kind == WRITE ? ERR_W : 0) | (user ? ERR_U : 0);
	apply(&s);
	map(0, leaf, W | U);
	invlpg((void *)PAGE);
	struct context c = access_context(kind, user, PAGE);
	set_rights(supervisor, rights << (2 * key));
	int v = guest_enter(&c);
	set_rights(supervisor, 0);
	/* A user's access to a supervisor page is forbidden twice; whether the key shows, manuals leave open.
	 */
	if (supervisor && user && want >= 0 && (want & ERR_PK) && v == 14)
		want = (want & ~ERR_PK) | (int)(trap_seen.error & ERR_PK);
	guest_check(want < 0 ? v == END : v == 14 && trap_seen.error == (unsigned)want,
		    "%s key %u rights %u access %d user %d page %d wp %d: trap %d error %lx, not %x",
		    supervisor ? "PKS" : "PKU", key, rights, kind, user, user_page, wp, v, trap_seen.error,
		    (unsigned)want);
}

/* Rights take effect without a flush of the TLB. */
static void
rights_at_once(bool supervisor)
{
	apply(&(struct setting){true, false, false, false});
	map(0, P | W | (supervisor ? 0 : U) | 1ull << 59, W | U);
	invlpg((void *)PAGE);
	for (unsigned n = 0; n < 4; n++) {
		struct context c = access_context(READ, !supervisor, PAGE);
		set_rights(supervisor, n & 1 ? 4 : 0);
		int v = guest_enter(&c);
		set_rights(supervisor, 0);
		guest_check(v == (n & 1 ? 14 : END), "%s after a hit: trap %d", supervisor ? "PKRS" : "PKRU",
			    v);
	}
}

static void
test_keys(bool supervisor, unsigned long cr4)
{
	write_cr4(read_cr4() | cr4);
	for (unsigned n = 0; n < 3 * 4 * 2 * 2 * 2 * 2; n++)
		one_key(supervisor, n);
	rights_at_once(supervisor);
	/* Rights that nobody asks for have no effect. */
	write_cr4(read_cr4() & ~cr4);
	if (supervisor)
		wrmsr(MSR_PKRS, 0xffffffff & ~3u);
	map(0, P | W | (supervisor ? 0 : U) | 1ull << 59, W | U);
	invlpg((void *)PAGE);
	struct context c = access_context(READ, !supervisor, PAGE);
	int v = guest_enter(&c);
	guest_check(v == END, "a key with CR4's bit off: trap %d", v);
	if (supervisor)
		wrmsr(MSR_PKRS, 0);
}

static uint32_t
rdpkru(void)
{
	uint32_t v, high;

	__asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(v), "=d"(high) : "c"(0));
	return v;
}

/* XSAVE's component 9: where CPUID says, initial when 0, and at once in force. */
static void
test_pkru_state(void)
{
	enum { CR4_OSXSAVE = 1 << 18, PKRU = 1 << 9, HEADER = 512, RIGHTS = 0x5550 };
	static uint8_t area[4096] __attribute__((aligned(64)));
	uint64_t *bv = (uint64_t *)(area + HEADER);
	uint32_t r[4], size;

	cpuid(0xd, 9, r);
	size = r[0];
	volatile uint32_t *saved = (volatile uint32_t *)(area + r[1]);
	guest_check(size == 8 && r[1] >= 576 && r[1] % 8 == 0 && r[2] == 0, "CPUID d, 9: %x %x %x", r[0],
		    r[1], r[2]);
	write_cr4(read_cr4() | CR4_OSXSAVE | CR4_PKE);
	cpuid(7, 0, r);
	guest_check((r[2] >> 4 & 1) == 1, "CPUID has no OSPKE with CR4.PKE");
	TRY("xsetbv", : : "a"(1 | PKRU), "c"(0), "d"(0) : "memory");
	guest_check(trap_seen.vector == -1, "XCR0 with PKRU: trap %d", trap_seen.vector);
	cpuid(0xd, 0, r);
	guest_check(r[1] >= (uintptr_t)saved - (uintptr_t)area + size, "CPUID d, 0: %u bytes", r[1]);
	wrpkru(RIGHTS);
	__asm__ volatile("xsave (%2)" : : "a"(PKRU), "d"(0), "r"(area) : "memory");
	guest_check(*saved == RIGHTS && (*bv & PKRU) != 0, "saved: %x %lx", *saved, *bv);
	wrpkru(0);
	__asm__ volatile("xsave (%2)" : : "a"(PKRU), "d"(0), "r"(area) : "memory");
	guest_check((*bv & PKRU) == 0 || *saved == 0, "saved in its initial state: %x %lx", *saved, *bv);
	*bv |= PKRU;
	*saved = 4; /* no access by key 1 */
	map(0, P | W | U | 1ull << 59, W | U);
	invlpg((void *)PAGE);
	TRY("mov (%0), %%rax", : : "r"(PAGE) : "rax", "memory");
	guest_check(trap_seen.vector == -1, "before XRSTOR: trap %d", trap_seen.vector);
	TRY("xrstor (%2); mov (%3), %%rbx", : : "a"(PKRU), "d"(0), "r"(area), "r"(PAGE) : "rbx", "memory");
	guest_check(trap_seen.vector == 14 && trap_seen.error == (ERR_P | ERR_PK) && rdpkru() == 4,
		    "after XRSTOR: trap %d error %lx, PKRU %x", trap_seen.vector, trap_seen.error, rdpkru());
	*bv = 0;
	TRY("xrstor (%2); mov (%3), %%rbx", : : "a"(PKRU), "d"(0), "r"(area), "r"(PAGE) : "rbx", "memory");
	guest_check(trap_seen.vector == -1 && rdpkru() == 0,
		    "after XRSTOR of the initial state: trap %d, PKRU %x", trap_seen.vector, rdpkru());
	write_cr4(read_cr4() & ~(unsigned long)(CR4_OSXSAVE | CR4_PKE));
	cpuid(7, 0, r);
	guest_check((r[2] >> 4 & 1) == 0, "CPUID has OSPKE without CR4.PKE");
}

/* CPUID, CR4 and the registers agree. */
static void
test_key_registers(void)
{
	TRY("rdmsr", : : "c"(MSR_PKRS) : "rax", "rdx");
	guest_check(trap_seen.vector == (has_pks ? -1 : 13), "RDMSR of PKRS: trap %d", trap_seen.vector);
	TRY("wrmsr", : : "c"(MSR_PKRS), "a"(0), "d"(1));
	guest_check(trap_seen.vector == 13, "WRMSR of PKRS' upper half: trap %d", trap_seen.vector);
	TRY("mov %0, %%cr4", : : "r"(read_cr4() | CR4_PKS) : "memory");
	guest_check(trap_seen.vector == (has_pks ? -1 : 13), "CR4.PKS: trap %d", trap_seen.vector);
	write_cr4(read_cr4() & ~(unsigned long)CR4_PKS);
	TRY(".byte 0x0f, 0x01, 0xee", : : "c"(0) : "rax", "rdx");
	guest_check(trap_seen.vector == 6, "RDPKRU with CR4.PKE off: trap %d", trap_seen.vector);
	if (has_pks)
		test_keys(true, CR4_PKS);
	else
		guest_skip("PKS");
	if (has_pku) {
		test_keys(false, CR4_PKE);
		test_pkru_state();
	} else {
		guest_skip("PKU");
	}
}

/* ---- TLB ---- */

static uint64_t other_pml4[512] __attribute__((aligned(4096)));

static void
invpcid(unsigned long type, uint64_t pcid, uint64_t address)
{
	uint64_t d[2] = {pcid, address};

	__asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

static void
by_invlpg(void)
{
	invlpg((void *)PAGE);
}
static void
by_invlpg_end(void)
{
	invlpg((void *)(PAGE + 4095));
}
static void
by_cr3(void)
{
	write_cr3(read_cr3());
}
static void
by_pge(void)
{
	write_cr4(read_cr4() ^ CR4_PGE);
	write_cr4(read_cr4() ^ CR4_PGE);
}
static void
by_wp(void)
{
	write_cr0(read_cr0() ^ 0x80000000 ^ 0x80000000 ^ CR0_WP);
	write_cr0(read_cr0() ^ CR0_WP);
	by_cr3(); /* WP alone need not flush */
}
static void
by_invpcid0(void)
{
	invpcid(0, 0, PAGE);
}
static void
by_invpcid1(void)
{
	invpcid(1, 0, 0);
}
static void
by_invpcid2(void)
{
	invpcid(2, 0, 0);
}
static void
by_invpcid3(void)
{
	invpcid(3, 0, 0);
}
static void
by_other_cr3(void)
{
	uint64_t old = read_cr3();

	write_cr3((uintptr_t)other_pml4);
	write_cr3(old);
}

static const struct {
	const char *name;
	void (*flush)(void);
	bool global, invpcid; /* good for global pages; needs INVPCID */
} flushes[] = {
    {"INVLPG", by_invlpg, true, false},
    {"INVLPG of the last byte", by_invlpg_end, true, false},
    {"MOV CR3", by_cr3, false, false},
    {"MOV CR3 to other tables and back", by_other_cr3, false, false},
    {"CR4.PGE", by_pge, true, false},
    {"CR0.WP, MOV CR3", by_wp, false, false},
    {"INVPCID of an address", by_invpcid0, false, true},
    {"INVPCID of a context", by_invpcid1, false, true},
    {"INVPCID of all", by_invpcid2, true, true},
    {"INVPCID of all but global", by_invpcid3, false, true},
};

static volatile uint64_t *const word = (volatile uint64_t *)PAGE;

static void
test_flush(unsigned n, bool global, bool pge)
{
	uint64_t g = global ? G : 0;

	if (pge)
		write_cr4(read_cr4() | CR4_PGE);
	*(volatile uint64_t *)pages[0] = 0x1111;
	*(volatile uint64_t *)pages[1] = 0x2222;
	map(0, P | W | U | g, W | U);
	by_invlpg();
	(void)*word;
	pt[1] = (uintptr_t)pages[1] | P | W | U | g;
	uint64_t stale = *word;
	guest_check(stale == 0x1111 || stale == 0x2222, "%s: neither page: %lx", flushes[n].name, stale);
	flushes[n].flush();
	guest_check(*word == 0x2222, "%s, global %d: %lx is stale", flushes[n].name, global, *word);
	/* A write must set D again once it was cleared and flushed; the page went read-only. */
	*word = 0x2222;
	guest_check((pt[1] & D) != 0, "%s: D", flushes[n].name);
	pt[1] &= ~(uint64_t)D;
	flushes[n].flush();
	*word = 0x2222;
	guest_check((pt[1] & D) != 0, "%s: D after clearing it", flushes[n].name);
	pt[1] &= ~(uint64_t)W;
	flushes[n].flush();
	TRY("movq $1, (%0)", : : "r"(PAGE) : "memory");
	guest_check(trap_seen.vector == 14 && trap_seen.error == 3,
		    "%s: write after the page went read-only: trap %d", flushes[n].name, trap_seen.vector);
	pt[1] = 0;
	flushes[n].flush();
	TRY("mov (%0), %%rax", : : "r"(PAGE) : "rax", "memory");
	guest_check(trap_seen.vector == 14 && trap_seen.error == 0, "%s: read after the page went: trap %d",
		    flushes[n].name, trap_seen.vector);
	/* What is not present is never remembered. */
	pt[1] = (uintptr_t)pages[0] | P | W | U | g;
	TRY("mov (%0), %%rax", : : "r"(PAGE) : "rax", "memory");
	guest_check(trap_seen.vector == -1, "%s: read after the page came: trap %d", flushes[n].name,
		    trap_seen.vector);
	write_cr4(read_cr4() & ~(unsigned long)CR4_PGE);
}

/* A large page goes with INVLPG of any byte of it; code is fetched anew too. */
static void
test_large_flush(void)
{
	for (unsigned level = 1; level <= (has_1g ? 2u : 1u); level++) {
		uint64_t at = mapped_at(level);

		map(level, P | W | U, W | U);
		invlpg((void *)at);
		(void)*(volatile uint64_t *)at;
		(void)*(volatile uint64_t *)(at ^ 0x10000);
		*entries[level] = 0;
		invlpg((void *)(at ^ 0x1000));
		TRY("mov (%0), %%rax", : : "r"(at ^ 0x10000) : "rax", "memory");
		guest_check(trap_seen.vector == 14, "level %u: trap %d after INVLPG elsewhere in the page",
			    level, trap_seen.vector);
	}
	static const uint8_t code[2][4] = {{0x31, 0xc0, 0xcd, 0x80}, {0xb0, 0x07, 0xcd, 0x80}};
	memcpy(pages[0], code[0], 4);
	memcpy(pages[1], code[1], 4);
	for (unsigned n = 0; n < 4; n++) {
		pt[1] = (uintptr_t)pages[n & 1] | P | U;
		map(0, P | U, W | U);
		pt[1] = (uintptr_t)pages[n & 1] | P | U;
		invlpg((void *)PAGE);
		struct context c = access_context(FETCH, true, PAGE);
		c.ax = 0;
		int v = guest_enter(&c);
		guest_check(v == END && c.ax == (n & 1 ? 7 : 0), "code after INVLPG: trap %d ax %lx", v,
			    c.ax);
	}
}

static void
test_pcid(void)
{
	uint64_t base = read_cr3();

	if (!has_pcid) {
		guest_skip("PCID");
		return;
	}
	TRY("mov %0, %%cr3; mov %1, %%cr4", : : "r"(base | 1), "r"(read_cr4() | CR4_PCIDE) : "memory");
	guest_check(trap_seen.vector == 13, "PCIDE with CR3 11:0 set: trap %d", trap_seen.vector);
	write_cr3(base);
	write_cr4(read_cr4() | CR4_PCIDE);
	for (unsigned pcid = 1; pcid < 4; pcid++) {
		*(volatile uint64_t *)pages[0] = 0x1111;
		*(volatile uint64_t *)pages[1] = 0x2222;
		write_cr3(base | pcid);
		map(0, P | W | U, W | U);
		invlpg((void *)PAGE);
		(void)*word;
		write_cr3(base | 5);
		pt[1] = (uintptr_t)pages[1] | P | W | U;
		if (has_invpcid && pcid == 1) {
			invpcid(0, pcid, PAGE);
			write_cr3(base | pcid | 1ull << 63);
		} else if (has_invpcid && pcid == 2) {
			invpcid(1, pcid, 0);
			write_cr3(base | pcid | 1ull << 63);
		} else {
			write_cr3(base | pcid); /* bit 63 clear: flushes this PCID */
		}
		guest_check(*word == 0x2222, "PCID %u: %lx is stale", pcid, *word);
		guest_check(read_cr3() == (base | pcid), "PCID %u: CR3 %lx", pcid, read_cr3());
	}
	TRY("mov %0, %%cr0", : : "r"(read_cr0() & ~0x80000000ul) : "memory");
	guest_check(trap_seen.vector == 13, "paging off in 64-bit mode: trap %d", trap_seen.vector);
	write_cr3(base);
	write_cr4(read_cr4() & ~(unsigned long)CR4_PCIDE);
	if (!has_invpcid)
		return;
	static const struct {
		unsigned long type;
		uint64_t pcid, address;
		int vector;
	} bad[] = {{4, 0, 0, 13},
		   {0, 0x1000, 0, 13},
		   {0, 1, 0, 13},
		   {0, 0, 0x100000000000000, 13}, /* in 57 bits, too */
		   {1, 0, 0x100000000000000, -1}};
	for (unsigned n = 0; n < COUNT(bad); n++) {
		uint64_t d[2] = {bad[n].pcid, bad[n].address};

		TRY("invpcid %0, %1", : : "m"(d), "r"(bad[n].type) : "memory");
		guest_check(trap_seen.vector == bad[n].vector, "INVPCID %lu %lx %lx: trap %d", bad[n].type,
			    bad[n].pcid, bad[n].address, trap_seen.vector);
	}
}

static void
features(void)
{
	uint32_t r[4];

	cpuid(7, 0, r);
	has_smep = r[1] >> 7 & 1;
	has_smap = r[1] >> 20 & 1;
	has_invpcid = r[1] >> 10 & 1;
	has_pku = r[2] >> 3 & 1;
	has_pks = r[2] >> 31;
	cpuid(1, 0, r);
	has_pcid = r[2] >> 17 & 1;
	cpuid(0x80000001, 0, r);
	has_1g = r[3] >> 26 & 1;
	cpuid(0x80000008, 0, r);
	phys_bits = r[0] & 0xff;
}

int
main(void)
{
	features();
	*(uint64_t *)pages[0] = CONTENTS;
	page_map(USER_CODE, (uintptr_t)access_page, PTE_P | PTE_U);
	pml4[0] &= ~(uint64_t)U; /* the library's own memory is the supervisor's, for SMEP and SMAP */
	by_cr3();
	test_matrix();
	test_reserved();
	test_key_registers();
	memcpy(other_pml4, pml4, 16); /* its third entry, AREA's, stays empty */
	for (unsigned n = 0; n < COUNT(flushes); n++) {
		if (flushes[n].invpcid && !has_invpcid) {
			guest_skip("INVPCID");
			continue;
		}
		test_flush(n, false, false);
		test_flush(n, false, true);
		if (flushes[n].global)
			test_flush(n, true, true);
	}
	test_large_flush();
	test_pcid();
	return guest_summary();
}
