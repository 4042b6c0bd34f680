/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages of random bytes run as guest code, in every mode. Whatever they do, the engine ends each with an exit
 * or at the step limit, in a state that a processor can be in; it never crashes, and never writes outside
 * guest RAM (that is the sanitizers' part). fuzz_pages [PAGES [SEED [ONLY]]]
 *
 * A child runs the pages, so that a crash can be told with the page's number.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/util.h"
#include "engine/soft/soft.h"
#include "tests/native/gen.h"
#include "tests/native/rig.h"

enum {
	RAM = 0x40000, /* 256 KiB: addresses beyond are devices' */
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD = 0x3000,
	GDT = 0x5000,
	IDT = 0x6000,
	TSS = 0x7000,
	CODE = 0x10000,
	STACK = 0x20000,
	STEPS = 400,
	KICKS = 2,
	EXITS = 40,
};

enum mode { REAL, PROTECTED_16, PROTECTED_32, PAGED_32, PAGED_PAE, COMPAT, LONG, MODES };
static const char *const mode_names[] = {
    "real", "16-bit protected", "32-bit protected", "32-bit paging", "PAE paging", "compatibility", "64-bit"};

struct shared {
	uint64_t page; /* the one that runs */
	uint64_t done;
	uint64_t ended[MODES][VM_EXIT_UNSUPPORTED + 2]; /* by exit kind; the last: at the step limit */
	char complaint[256];
};
static struct shared *shared;

static uint32_t
code_attr(enum mode m)
{
	uint32_t attr = 0xb | SEG_S | SEG_P;

	if (m == LONG)
		return attr | SEG_L | SEG_G;
	return m == REAL || m == PROTECTED_16 ? attr : attr | SEG_DB | SEG_G;
}

/* Half of the pages: instructions that decode. The others: any bytes. */
static void
random_code(struct gen_rng *rng, uint8_t *page)
{
	unsigned at = 0;

	for (unsigned i = 0; i < 4096; i += 8)
		put_le64(page + i, gen_next(rng));
	if (gen_below(rng, 2) == 0)
		return;
	/* Runs of the opcodes that do the most harm, operands left to chance. */
	while (at < 4000) {
		static const uint8_t harm[][2] = {
		    {0x0f, 0x01}, {0x0f, 0x00}, {0x0f, 0x22}, {0x0f, 0x20}, {0x0f, 0x30}, {0x0f, 0x32},
		    {0xcf, 0},	  {0xcb, 0},	{0x8e, 0},    {0x9d, 0},    {0xfa, 0},	  {0xfb, 0},
		    {0xf4, 0},	  {0xcd, 0},	{0xff, 0},    {0x0f, 0xae}, {0x0f, 0xc7}, {0xf3, 0xa4},
		    {0xf3, 0xab}, {0x6c, 0},	{0xee, 0},    {0xec, 0},    {0x0f, 0x09}, {0x0f, 0x05},
		    {0x0f, 0x07}, {0x0f, 0x34}, {0x0f, 0x35}, {0xea, 0},    {0x9a, 0},	  {0x0f, 0x23},
		    {0x0f, 0xa2}, {0xc8, 0},	{0xd9, 0},    {0xdd, 0},    {0x62, 0},	  {0xc4, 0},
		    {0xc5, 0},	  {0x0f, 0x38}, {0x0f, 0x3a}, {0xf0, 0x0f}, {0x67, 0},	  {0x66, 0},
		    {0x0f, 0xb2}, {0xc5, 0xf8}};
		const uint8_t *h = harm[gen_below(rng, ARRAY_LEN(harm))];

		page[at++] = h[0];
		if (h[1] != 0)
			page[at++] = h[1];
		at += (unsigned)gen_below(rng, 6);
	}
}

static void
fill_tables(struct gen_rng *rng, uint8_t *ram, enum mode m)
{
	uint64_t flags = 0x87; /* present, writable, user, large where it is a leaf */

	/* Gates of long mode lead to 64-bit code. */
	put_le64(ram + GDT + 8, m >= COMPAT ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull);
	put_le64(ram + GDT + 16, 0x00cf93000000ffffull);
	put_le64(ram + GDT + 24, 0x00cf9b000000ffffull);
	for (unsigned i = 4; i < 64; i++)
		put_le64(ram + GDT + 8 * i, gen_next(rng));
	for (unsigned v = 0; v < 256; v++) {
		uint64_t gate = CODE + gen_below(rng, 4096);

		if (m >= COMPAT) {
			put_le64(ram + IDT + 16 * v,
				 (gate & 0xffff) | 8ull << 16 | 0xeeull << 40 | (gate >> 16) << 48);
			put_le64(ram + IDT + 16 * v + 8, 0);
		} else {
			put_le64(ram + IDT + 8 * v,
				 (gate & 0xffff) | 8ull << 16 | 0xeeull << 40 | (gate >> 16) << 48);
		}
	}
	if (m == PAGED_32) {
		put_le32(ram + PML4, (uint32_t)flags);
	} else if (m == PAGED_PAE) {
		put_le64(ram + PML4, PD | 1);
		put_le64(ram + PD, flags);
	} else if (m >= COMPAT) {
		put_le64(ram + PML4, PDPT | 7);
		put_le64(ram + PDPT, PD | 7);
		put_le64(ram + PD, flags);
	}
}

static void
fill_state(struct gen_rng *rng, struct x86_state *s, enum mode m)
{
	uint32_t data = 0x3 | SEG_S | SEG_P | (m == REAL || m == PROTECTED_16 ? 0 : SEG_DB | SEG_G);

	x86_state_reset(s);
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = gen_below(rng, 2) ? gen_below(rng, RAM) : gen_next(rng);
	s->gpr[X86_RSP] = m == REAL ? 0xfff0 : STACK;
	s->rip = m == REAL ? 0 : CODE;
	s->rflags = FL_1 | (gen_next(rng) & (FL_ARITH | FL_IF | FL_DF | FL_AC | FL_IOPL)) |
		    (gen_below(rng, 20) == 0 ? FL_TF : 0);
	s->idtr = (struct x86_dtable){.base = m == REAL ? 0 : IDT, .limit = 0xfff};
	s->gdtr = (struct x86_dtable){.base = GDT, .limit = 0x1ff};
	if (gen_below(rng, 4) == 0)
		s->idtr.limit = (uint16_t)gen_below(rng, 64); /* most exceptions become a triple fault */
	s->cr0 = CR0_ET | CR0_NE | (m == REAL ? 0 : CR0_PE) | (m >= PAGED_32 ? CR0_PG | CR0_WP | CR0_AM : 0);
	s->cr3 = m >= PAGED_32 ? PML4 : 0;
	s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PSE | (m >= PAGED_PAE ? CR4_PAE : 0);
	if (m == PAGED_PAE)
		s->pdpte[0] = PD | 1;
	if (m >= COMPAT)
		s->msr.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	for (unsigned i = X86_ES; i <= X86_GS; i++) {
		s->seg[i] = rig_segment(m == REAL ? 0 : 16, i == X86_CS ? code_attr(m) : data);
		if (m == REAL || m == PROTECTED_16)
			s->seg[i].limit = 0xffff;
	}
	s->seg[X86_CS].sel = m == REAL ? CODE >> 4 : m == COMPAT ? 24 : 8;
	s->seg[X86_CS].base = m == REAL || m == PROTECTED_16 ? CODE : 0;
	if (m == PROTECTED_16)
		s->rip = 0;
	s->seg[X86_TR] = (struct x86_segment){.sel = 32, .attr = 0xb | SEG_P, .limit = 0x67, .base = TSS};
	s->seg[X86_LDTR] = rig_segment(0, SEG_UNUSABLE);
	s->activity = ACT_RUNNING;
}

static bool
canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* What no sequence of instructions can leave behind on a processor (SDM vol. 3A). */
static const char *
impossible(const struct x86_state *s)
{
	bool pe = s->cr0 & CR0_PE, pg = s->cr0 & CR0_PG, lme = s->msr.efer & EFER_LME,
	     lma = s->msr.efer & EFER_LMA;

	if (!(s->rflags & FL_1) || (s->rflags & ~0x3f7fd7ull) != 0)
		return "reserved flags";
	if (pg && !pe)
		return "paging without protection";
	if (lma != (pg && lme))
		return "EFER.LMA is not CR0.PG and EFER.LME";
	if (lma && !(s->cr4 & CR4_PAE))
		return "long mode without PAE";
	if ((s->rflags & FL_VM) && (!pe || lma))
		return "virtual-8086 flag outside of protected mode";
	if (!canonical(s->seg[X86_FS].base) || !canonical(s->seg[X86_GS].base) || !canonical(s->gdtr.base))
		return "non-canonical base";
	if (s->dr[6] >> 32 != 0 || s->dr[7] >> 32 != 0 || s->cr0 >> 32 != 0)
		return "upper half of DR6, DR7 or CR0";
	if (s->xs.mxcsr & ~0x2ffffu)
		return "reserved bits of MXCSR";
	return NULL;
}

/* The board's answer to an exit. False: the guest is at its end. */
static bool
answer(struct gen_rng *rng, struct rig *r, struct vm_exit *x)
{
	switch (x->kind) {
	case VM_EXIT_IO:
		x->u.io.data = (uint32_t)gen_next(rng);
		return true;
	case VM_EXIT_MMIO:
		LH_ASSERT(x->u.mmio.size >= 1 && x->u.mmio.size <= 8 &&
			  (x->u.mmio.gpa & 4095) + x->u.mmio.size <= 4096 && x->u.mmio.gpa >= RAM);
		x->u.mmio.data = gen_next(rng);
		return true;
	case VM_EXIT_RDMSR:
	case VM_EXIT_WRMSR:
		x->u.msr.val = gen_next(rng);
		x->u.msr.fault = gen_below(rng, 2);
		return true;
	case VM_EXIT_HLT:
		if (!engine_soft.intr_ready(r->vcpu, false))
			return false;
		engine_soft.inject_intr(r->vcpu, (uint8_t)(32 + gen_below(rng, 224)));
		return true;
	case VM_EXIT_INTR:
	case VM_EXIT_CR8:
	case VM_EXIT_CR8_READ:
	case VM_EXIT_PAUSE:
		return true;
	case VM_EXIT_UNSUPPORTED:
		LH_ASSERT(x->u.why[0] != '\0' && memchr(x->u.why, '\0', sizeof(x->u.why)) != NULL);
		return false;
	case VM_EXIT_SHUTDOWN:
	case VM_EXIT_PMI:
	case VM_EXIT_EOI:
	case VM_EXIT_RESET:
	case VM_EXIT_DEBUG:
		return false;
	}
	return false;
}

/* Every second page runs in blocks, as guests do, until it was kicked a few times; the others step by step.
 */
static unsigned
run_in_blocks(struct gen_rng *rng, struct rig *r, struct vm_exit *x)
{
	for (unsigned exits = 0, kicks = 0; kicks < KICKS && exits < EXITS; exits++) {
		engine_soft.run(r->vcpu, x);
		kicks += x->kind == VM_EXIT_INTR;
		if (!answer(rng, r, x))
			return x->kind;
	}
	return VM_EXIT_UNSUPPORTED + 1;
}

static void *
kick_now_and_then(void *arg)
{
	struct rig *r = arg;

	for (;;) {
		usleep(50);
		engine_soft.kick(r->vcpu);
	}
	return NULL;
}

static void
run_page(struct rig *r, uint64_t seed, uint64_t number)
{
	static uint8_t ram[RAM];
	static struct x86_state s;
	struct vm_exit x = {.kind = VM_EXIT_INTR};
	enum mode m = (enum mode)(number % MODES);
	unsigned exits = 0, end = VM_EXIT_UNSUPPORTED + 1;
	struct err err = {0};
	struct gen_rng rng;
	const char *wrong;

	gen_seed(&rng, seed + number * 0x9e3779b97f4a7c15ull);
	memset(ram, 0, sizeof(ram));
	random_code(&rng, ram + CODE);
	fill_tables(&rng, ram, m);
	rig_write(r, 0, ram, RAM);
	fill_state(&rng, &s, m);
	if (engine_soft.set_state(r->vcpu, X86_STATE_ALL, &s, &err) != 0) {
		snprintf(shared->complaint, sizeof(shared->complaint), "set_state: %.200s", err.msg);
		_exit(1);
	}
	if (number / MODES % 2 == 1)
		end = run_in_blocks(&rng, r, &x);
	else
		while (soft_vcpu_step(r->vcpu, STEPS, &x) != 0 && exits++ < EXITS) {
			if (!answer(&rng, r, &x)) {
				end = x.kind;
				break;
			}
		}
	engine_soft.get_state(r->vcpu, X86_STATE_ALL, &s);
	wrong = impossible(&s);
	if (wrong != NULL) {
		snprintf(shared->complaint, sizeof(shared->complaint), "%s", wrong);
		_exit(1);
	}
	shared->ended[m][end]++;
}

static int
run_pages(uint64_t first, uint64_t pages, uint64_t seed)
{
	struct err err = {0};
	struct rig rig;
	pthread_t kicker;

	if (rig_open(&rig, RAM, &err) != 0) {
		snprintf(shared->complaint, sizeof(shared->complaint), "%.200s", err.msg);
		return 1;
	}
	if (pthread_create(&kicker, NULL, kick_now_and_then, &rig) != 0)
		return 1;
	for (uint64_t i = first; i < pages; i++) {
		shared->page = i;
		run_page(&rig, seed, i);
		shared->done++;
	}
	pthread_cancel(kicker);
	pthread_join(kicker, NULL);
	rig_close(&rig);
	return 0;
}

/* Wait for the child; one page that takes a minute (a thousand steps!) hangs, and ends it. Its wait status.
 */
static int
watch(pid_t child)
{
	uint64_t page = 0;
	unsigned ticks = 0;
	int status;

	while (waitpid(child, &status, WNOHANG) == 0) {
		usleep(100000);
		ticks = shared->page == page ? ticks + 1 : 0;
		page = shared->page;
		if (ticks == 600) {
			snprintf(shared->complaint, sizeof(shared->complaint), "hangs");
			kill(child, SIGKILL);
		}
	}
	return status;
}

/* An exception with no usable IDT is a triple fault. */
static bool
empty_idt_is_shutdown(void)
{
	static const uint8_t ud2[] = {0x0f, 0x0b};
	static struct x86_state s;
	struct vm_exit x = {.kind = VM_EXIT_INTR};
	struct err err = {0};
	struct gen_rng rng;
	struct rig rig;
	bool ok;

	if (rig_open(&rig, RAM, &err) != 0)
		return false;
	gen_seed(&rng, 1);
	fill_state(&rng, &s, PROTECTED_32);
	s.idtr.limit = 0;
	s.rflags = FL_1;
	rig_write(&rig, CODE, ud2, sizeof(ud2));
	ok = engine_soft.set_state(rig.vcpu, X86_STATE_ALL, &s, &err) == 0 &&
	     soft_vcpu_step(rig.vcpu, 10, &x) == 1 && x.kind == VM_EXIT_SHUTDOWN;
	rig_close(&rig);
	return ok;
}

int
main(int argc, char **argv)
{
	uint64_t pages = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, seed = 0, first = 0;
	int status = 0;
	pid_t child;

	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return 1;
	if (argc > 3) {
		first = strtoull(argv[3], NULL, 0);
		pages = first + 1;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	printf("# %s %" PRIu64 " %" PRIu64 "\n", argv[0], pages, seed);
	fflush(stdout);
	child = fork();
	if (child == 0)
		exit(run_pages(first, pages, seed));
	status = watch(child);
	if (status != 0)
		printf("# page %" PRIu64 ": %s (again: %s 1 %" PRIu64 " %" PRIu64 ")\n", shared->page,
		       shared->complaint[0] != '\0' ? shared->complaint : "crashed", argv[0], seed,
		       shared->page);
	for (unsigned m = 0; m < MODES; m++) {
		const uint64_t *e = shared->ended[m];

		printf("# %s: %" PRIu64 " shut down, %" PRIu64 " halted, %" PRIu64 " unsupported, %" PRIu64
		       " at the limit\n",
		       mode_names[m], e[VM_EXIT_SHUTDOWN], e[VM_EXIT_HLT], e[VM_EXIT_UNSUPPORTED],
		       e[VM_EXIT_UNSUPPORTED + 1]);
	}
	printf("%s 1 - %" PRIu64 " random pages\n",
	       status == 0 && shared->done == pages - first ? "ok" : "not ok", shared->done);
	printf("%s 2 - an exception without an IDT is a triple fault\n",
	       empty_idt_is_shutdown() ? "ok" : "not ok");
	printf("1..2\n");
	return status != 0 || shared->done != pages - first;
}
