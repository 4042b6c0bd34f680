/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cache instructions (SDM vol. 2: CLFLUSH, CLFLUSHOPT, CLWB, CLDEMOTE, PREFETCHh, PREFETCHW, INVD, WBINVD):
 * contents stay, nothing is read from a device, what must fault faults as a load of that byte would, hints
 * never do.
 */
#include "tests/guest/cache_ops.h"

enum { DEVICE = 0xff000000u, READS = 0xec };
enum { PAGE_RAM, PAGE_READ_ONLY, PAGE_ABSENT, PAGE_DEVICE, PAGE_SUPERVISOR };

static uint8_t ram[4096] __attribute__((aligned(4096)));
static uint64_t at;

#define OPERATION(name, insn)                                 \
	static void do_##name(uint64_t p)                     \
	{                                                     \
		TRY(insn, : : "r"(p) : "memory");             \
	}                                                     \
	static void user_##name(uint64_t p)                   \
	{                                                     \
		__asm__ volatile(insn : : "r"(p) : "memory"); \
	}
OPERATION(clflush, "clflush (%0)")
OPERATION(clflushopt, "clflushopt (%0)")
OPERATION(clwb, "clwb (%0)")
OPERATION(cldemote, "mov %0, %%rax; .byte 0x0f, 0x1c, 0x00")
OPERATION(prefetcht0, "prefetcht0 (%0)")
OPERATION(prefetcht1, "prefetcht1 (%0)")
OPERATION(prefetcht2, "prefetcht2 (%0)")
OPERATION(prefetchnta, "prefetchnta (%0)")
OPERATION(prefetchw, "prefetchw (%0)")

static const struct operation {
	const char *name;
	void (*run)(uint64_t p), (*user)(uint64_t p);
	bool hint; /* never faults */
	uint32_t leaf;
	unsigned reg, bit; /* CPUID; leaf 0: no need to ask */
} operations[] = {
    {"clflush", do_clflush, user_clflush, false, 1, 3, 19},
    {"clflushopt", do_clflushopt, user_clflushopt, false, 7, 1, 23},
    {"clwb", do_clwb, user_clwb, false, 7, 1, 24},
    {"cldemote", do_cldemote, user_cldemote, true, 0, 0, 0}, /* a NOP where it is not known */
    {"prefetcht0", do_prefetcht0, user_prefetcht0, true, 0, 0, 0},
    {"prefetcht1", do_prefetcht1, user_prefetcht1, true, 0, 0, 0},
    {"prefetcht2", do_prefetcht2, user_prefetcht2, true, 0, 0, 0},
    {"prefetchnta", do_prefetchnta, user_prefetchnta, true, 0, 0, 0},
    {"prefetchw", do_prefetchw, user_prefetchw, true, 0, 0, 0},
};

static bool
offered(const struct operation *o)
{
	uint32_t r[4];

	if (o->leaf == 0)
		return true;
	cpuid(o->leaf, 0, r);
	return (r[o->reg] >> o->bit & 1) != 0;
}

static void
expect_none(const struct operation *o, const char *where)
{
	guest_check(trap_seen.vector == -1, "%s %s: trap %d error %lx", o->name, where, trap_seen.vector,
		    trap_seen.error);
}

static void
expect_fault(const struct operation *o, const char *where, int vector, uint64_t error, uint64_t cr2)
{
	if (o->hint) {
		expect_none(o, where);
		return;
	}
	guest_check(trap_seen.vector == vector && trap_seen.error == error, "%s %s: trap %d error %lx",
		    o->name, where, trap_seen.vector, trap_seen.error);
	guest_check(vector != 14 || trap_seen.cr2 == cr2, "%s %s: cr2 %lx, not %lx", o->name, where,
		    trap_seen.cr2, cr2);
}

/* Plain memory: contents stay, also at the very end of a page whose neighbour is not there. */
static void
on_ram(const struct operation *o)
{
	at = (uintptr_t)page_at(PAGE_RAM);
	for (unsigned i = 0; i < sizeof(ram); i++)
		ram[i] = (uint8_t)(i * 7);
	for (unsigned off = 0; off < 4096; off += 511) {
		o->run(at + off);
		expect_none(o, "on RAM");
	}
	o->run((uintptr_t)page_at(PAGE_READ_ONLY));
	expect_none(o, "on a read-only page");
	o->run((uintptr_t)page_at(PAGE_READ_ONLY) + 4095);
	expect_none(o, "on a page's last byte");
	for (unsigned i = 0; i < sizeof(ram); i++)
		guest_check(ram[i] == (uint8_t)(i * 7), "%s: byte %u changed to %x", o->name, i, ram[i]);
}

static void
on_device(const struct operation *o)
{
	outl(READS, 0);
	for (unsigned off = 0; off < 4096; off += 64) {
		o->run((uintptr_t)page_at(PAGE_DEVICE) + off);
		expect_none(o, "on a device");
		o->run(DEVICE + off);
		expect_none(o, "on a device through a large page");
	}
	guest_check(inl(READS) == 0, "%s read the device %u times", o->name, inl(READS));
	(void)*(volatile uint32_t *)page_at(PAGE_DEVICE);
	guest_check(inl(READS) == 1, "one load: the device counted %u", inl(READS));
}

static void
on_nothing(const struct operation *o)
{
	uint64_t p = (uintptr_t)page_at(PAGE_ABSENT);

	o->run(p);
	expect_fault(o, "on a page that is not there", 14, 0, p);
	o->run(p + 4095);
	expect_fault(o, "on the end of one", 14, 0, p + 4095);
	o->run(0x800000000000ull);
	expect_fault(o, "on a non-canonical address", 13, 0, 0);
	o->run(0xffff7fffffffffffull);
	expect_fault(o, "on the last non-canonical address", 13, 0, 0);
}

static void
at_user_level(const struct operation *o)
{
	uint64_t p = (uintptr_t)page_at(PAGE_SUPERVISOR);

	trap_clear();
	guest_user(o->user, (uintptr_t)page_at(PAGE_RAM));
	expect_none(o, "at CPL 3");
	trap_clear();
	guest_user(o->user, p + 8);
	expect_fault(o, "at CPL 3 on a supervisor page", 14, 5, p + 8);
	trap_clear();
	guest_user(o->user, (uintptr_t)page_at(PAGE_ABSENT) + 8);
	expect_fault(o, "at CPL 3 on no page", 14, 4, (uintptr_t)page_at(PAGE_ABSENT) + 8);
}

static void
user_invd(uint64_t unused)
{
	(void)unused;
	__asm__ volatile("invd");
}

static void
user_wbinvd(uint64_t unused)
{
	(void)unused;
	__asm__ volatile("wbinvd");
}

/* The whole cache: RAM keeps what was written back before, and both are for CPL 0 only. */
static void
whole_cache(void)
{
	ram[5] = 0x5a;
	TRY("wbinvd", : : : "memory");
	guest_check(trap_seen.vector == -1 && ram[5] == 0x5a, "wbinvd: trap %d, %x", trap_seen.vector,
		    ram[5]);
	TRY("wbinvd; invd", : : : "memory");
	guest_check(trap_seen.vector == -1 && ram[5] == 0x5a, "invd: trap %d, %x", trap_seen.vector, ram[5]);
	trap_clear();
	guest_user(user_wbinvd, 0);
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "wbinvd at CPL 3: trap %d",
		    trap_seen.vector);
	trap_clear();
	guest_user(user_invd, 0);
	guest_check(trap_seen.vector == 13 && trap_seen.error == 0, "invd at CPL 3: trap %d",
		    trap_seen.vector);
}

/* A LOCK prefix, or a register in place of memory: #UD. */
static void
wrong_forms(void)
{
	TRY(".byte 0xf0; clflush (%0)", : : "r"(ram) : "memory");
	guest_check(trap_seen.vector == 6, "lock clflush: trap %d", trap_seen.vector);
	TRY(".byte 0xf0, 0x0f, 0x09", : : : "memory");
	guest_check(trap_seen.vector == 6, "lock wbinvd: trap %d", trap_seen.vector);
}

/* Compatibility mode, code of 32 and of 16 bits, on pages below 4 GiB. */
static void
in_compatibility_mode(void)
{
	enum { CODE32 = SEL_FREE, USER32 = SEL_FREE + 8, CODE16 = SEL_FREE + 16 };
#define LINEAR 0xc0000000u
	static uint8_t code[64] __attribute__((aligned(64)));
	static uint64_t small[512] __attribute__((aligned(4096)));
	const struct cache_place places[] = {
	    {"RAM", LINEAR + 5, 0, 0, ram + 5},
	    {"the last byte before a hole", LINEAR + 4095, 0, 0, ram + 4095},
	    {"a page that is not there", LINEAR + 0x1000, 14, 0, NULL},
	    {"a read-only page", LINEAR + 0x2fff, 0, 0, ram + 4095},
	    {"a device", LINEAR + 0x3000, 0, 0, NULL},
	};
	const struct context start = {.ip = (uintptr_t)code,
				      .cs = CODE32,
				      .ss = SEL_DATA,
				      .ds = SEL_USER_DATA,
				      .es = SEL_USER_DATA,
				      .sp = (uintptr_t)user_stack_top,
				      .flags = 2};
	struct cache_mode modes[] = {
	    {"compatibility mode", code, false, false, start, guest_enter},
	    {"compatibility mode, CPL 3", code, false, true, start, guest_enter},
	    {"compatibility mode, 16 bits", code, true, false, start, guest_enter},
	    {"64-bit mode", code, false, false, start, guest_enter},
	};
	uint64_t *pdpt = (uint64_t *)(pml4[0] & ~0xfffull), *pd = (uint64_t *)(pdpt[3] & ~0xfffull),
		 saved = pd[0];

	gdt[CODE32 / 8] = descriptor(0, 0xfffff, 0x9b, DESC_D | DESC_G);
	gdt[USER32 / 8] = descriptor(0, 0xfffff, 0xfb, DESC_D | DESC_G);
	gdt[CODE16 / 8] = descriptor((uint32_t)(uintptr_t)code, 0xffff, 0x9b, 0);
	modes[1].start.cs = USER32 | 3;
	modes[1].start.ss = SEL_USER_DATA;
	modes[2].start.cs = CODE16;
	modes[2].start.ip = 0;
	modes[3].start.cs = SEL_CODE;
	small[0] = (uintptr_t)ram | PTE_P | PTE_W | PTE_U;
	small[2] = (uintptr_t)ram | PTE_P | PTE_U;
	small[3] = DEVICE | PTE_P | PTE_W | PTE_U;
	pd[0] = (uintptr_t)small | PTE_P | PTE_W | PTE_U;
	write_cr3(read_cr3());
	for (unsigned n = 0; n < sizeof(modes) / sizeof(modes[0]); n++)
		cache_check_all(&modes[n], places, sizeof(places) / sizeof(places[0]));
	pd[0] = saved;
	write_cr3(read_cr3());
}

int
main(void)
{
	page_map(PAGE_RAM, (uintptr_t)ram, PTE_P | PTE_W | PTE_U);
	page_map(PAGE_READ_ONLY, (uintptr_t)ram, PTE_P | PTE_U);
	page_map(PAGE_ABSENT, (uintptr_t)ram, 0);
	page_map(PAGE_DEVICE, DEVICE, PTE_P | PTE_W | PTE_U | PTE_PCD);
	page_map(PAGE_SUPERVISOR, (uintptr_t)ram, PTE_P | PTE_W);
	for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		const struct operation *o = &operations[i];

		if (!offered(o)) {
			guest_skip(o->name);
			continue;
		}
		on_ram(o);
		on_device(o);
		on_nothing(o);
		at_user_level(o);
	}
	whole_cache();
	wrong_forms();
	in_compatibility_mode();
	return guest_summary();
}
