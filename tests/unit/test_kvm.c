/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The KVM engine on this host's /dev/kvm: state in and out, exits and their answers, kicks, interrupts. What
 * a processor would do is the matter of tests/guest; here it is that nothing is lost on the way.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "tests/unit/kvm_util.h"

/* ---- what the host may lack ---- */

static void
test_no_files_left(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vm_cfg cfg = {.maxcpus = 1, .mem = r->mem, .clock = r->clock};
	struct rlimit old, few;
	struct err err = {0};
	int lowest = dup(0);

	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (rlim_t more = 0; more < 2; more++) { /* not even /dev/kvm; no VM */
		few = (struct rlimit){(rlim_t)lowest + more, old.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		assert_null(engine_kvm.vm_create(&cfg, &err));
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(err.code, EMFILE);
		assert_non_null(strstr(err.msg, "ulimit -n"));
	}
}

/* More ranges of memory than any KVM has slots. */
static void
test_no_slots_left(void **state)
{
	enum { RANGES = 0x8000 };
	struct rig *r = rig_of(state);
	struct gpmap *mem;
	struct engine_vm_cfg cfg = {.maxcpus = 1, .clock = r->clock};
	struct err err = {0};

	mem = gpmap_create(&err);
	assert_non_null(mem);
	for (uint64_t n = 0; n < RANGES; n++)
		assert_int_equal(gpmap_map(mem, n * 0x2000, 0x1000, r->ram, 0, GM_RAM, &err), 0);
	cfg.mem = mem;
	assert_null(engine_kvm.vm_create(&cfg, &err));
	assert_int_equal(err.code, ENOSPC);
	assert_non_null(strstr(err.msg, "slots"));
	gpmap_destroy(mem);
}

static void
test_vcpus_are_made_once(void **state)
{
	struct rig *r = rig_of(state);
	struct err err = {0};

	assert_null(engine_kvm.vcpu_create(r->vm, 0, &r->cpuid, &err));
	assert_null(engine_kvm.vcpu_create(r->vm, 1, &r->cpuid, &err));
	engine_kvm.vcpu_destroy(r->v);
	r->v = engine_kvm.vcpu_create(r->vm, 0, &r->cpuid, &err);
	if (r->v == NULL)
		fail_msg("%s", err.msg);
	LOAD(r, 0xf4);
	run(r, VM_EXIT_HLT);
}

/* ---- state ---- */

static void
random_xstate(const struct rig *r, struct x86_xstate *x)
{
	uint32_t seed = 1, out[4];
	bool avx;

	x86_cpuid_query(&r->cpuid, 1, 0, out);
	avx = out[2] >> 28 & 1;
	for (unsigned n = 0; n < 16; n++) {
		for (unsigned b = 0; b < (avx ? 32u : 16u); b++) {
			seed = seed * 1664525 + 1013904223;
			x->vec[n][b] = (uint8_t)(seed >> 24);
		}
	}
	for (unsigned n = 0; n < 8; n++) {
		memset(x->fx + 32 + 16 * n, 0x41 + (int)n, 10);
		x->fx[32 + 16 * n + 9] = 0x40;
	}
	put_le16(x->fx, 0x27f);
	x->fx[4] = 0xff; /* all in use */
	put_le32(x->fx + 24, 0x1f80);
	x->mxcsr = 0x1fa0;
}

/* A 64-bit supervisor with everything that can be told from 0 told from 0. */
static void
rich_state(const struct rig *r, struct x86_state *s)
{
	static const uint32_t attr[X86_NSEG] = {0xc093, 0xa09b, 0xc093, 0xc093, 0xc093, 0xc093, 0x82, 0x8b};

	x86_state_reset(s);
	for (unsigned n = 0; n < 16; n++)
		s->gpr[n] = 0x1111111111111111u * n + 5;
	s->rip = 0x12345;
	s->rflags = FL_1 | FL_CF | FL_OF | FL_IF;
	for (unsigned n = 0; n < X86_NSEG; n++)
		s->seg[n] =
		    (struct x86_segment){.sel = (uint16_t)(8 * n + 8), .attr = attr[n], .limit = 0xffffffff};
	s->seg[X86_FS].base = 0x7fff00001000;
	s->seg[X86_GS].base = 0xffff888000002000;
	s->seg[X86_LDTR] =
	    (struct x86_segment){.sel = 0x48, .attr = 0x82, .limit = 0xff, .base = 0xffff800000003000};
	s->seg[X86_TR] =
	    (struct x86_segment){.sel = 0x50, .attr = 0x8b, .limit = 0x2067, .base = 0xffff800000004000};
	s->gdtr = (struct x86_dtable){.base = 0xffff800000005000, .limit = 0x7f};
	s->idtr = (struct x86_dtable){.base = 0xffff800000006000, .limit = 0xfff};
	s->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP;
	s->cr2 = 0xffffffff81000000;
	s->cr3 = 0x9000;
	s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	s->cr8 = 5;
	for (unsigned n = 0; n < 4; n++)
		s->dr[n] = 0x1000 * n + 0x10000;
	s->dr[6] = 0xffff0ff1;
	s->dr[7] = 0x402;
	s->msr.efer = EFER_LME | EFER_LMA | EFER_SCE;
	s->msr.star = 0x0023001000000000;
	s->msr.lstar = 0xffffffff81001000;
	s->msr.cstar = 0xffffffff81002000;
	s->msr.fmask = 0x47700;
	s->msr.kernel_gs_base = 0x7fff00002000;
	s->msr.sysenter_cs = 0x10;
	s->msr.sysenter_eip = 0x81003000; /* AMD keeps 32 bits */
	s->msr.pat = 0x0007010600070106;
	s->msr.tsc_adjust = 0x123456789;
	s->msr.hwcr = 1u << 24;
	s->nmi_blocked = 1;
	random_xstate(r, &s->xs);
}

static void
test_state_comes_back(void **state)
{
	struct rig *r = rig_of(state);
	static struct x86_state want;
	struct err err = {0};
	const uint8_t *a = (const uint8_t *)&want, *b = (const uint8_t *)&r->s;

	memset(&want, 0, sizeof(want));
	rich_state(r, &want);
	if (engine_kvm.set_state(r->v, X86_STATE_ALL, &want, &err) != 0)
		fail_msg("%s", err.msg);
	get(r);
	want.msr.misc_enable = r->s.msr.misc_enable; /* KVM keeps bits of its own there */
	if (kvm_examine(KVM_PARTS_ALL, &err) >> KVM_PART_TSC & 1)
		want.msr.tsc_adjust = r->s.msr.tsc_adjust;
	for (size_t n = 0; n < sizeof(want); n++) {
		if (a[n] != b[n])
			fail_msg("byte %zu of struct x86_state: %#x, not %#x", n, b[n], a[n]);
	}
}

static void
test_components_are_apart(void **state)
{
	struct rig *r = rig_of(state);
	static struct x86_state s;
	struct err err = {0};

	rich_state(r, &s);
	assert_int_equal(engine_kvm.set_state(r->v, X86_STATE_ALL, &s, &err), 0);
	for (unsigned bit = 1; bit < X86_STATE_ALL; bit <<= 1) {
		memset(&s, 0xff, sizeof(s));
		engine_kvm.get_state(r->v, bit, &s);
		assert_int_equal(s.gpr[3] == ~0ull, bit != X86_STATE_GPR);
		assert_int_equal(s.seg[X86_TR].base == ~0ull, bit != X86_STATE_SEG);
		assert_int_equal(s.cr3 == ~0ull, bit != X86_STATE_CR);
		assert_int_equal(s.msr.lstar == ~0ull, bit != X86_STATE_MSR);
		assert_int_equal(s.nmi_blocked == 0xff, bit != X86_STATE_EVENT);
		assert_int_equal(s.xs.mxcsr == ~0u, bit != X86_STATE_XSAVE);
	}
	s.gpr[X86_RBX] = 99;
	s.gpr[X86_RCX] = 98;
	s.rip = CODE;
	s.rflags = FL_1;
	assert_int_equal(engine_kvm.set_state(r->v, X86_STATE_GPR, &s, &err), 0);
	get(r);
	assert_int_equal(r->s.gpr[X86_RBX], 99);
	assert_int_equal(r->s.cr3, 0x9000);
	assert_int_equal(r->s.msr.kernel_gs_base, 0x7fff00002000);
}

static void
test_waiting_events_come_back(void **state)
{
	struct rig *r = rig_of(state);
	struct err err = {0};

	r->s.intr_pending = 1;
	r->s.intr_vector = 0x41;
	r->s.shadow = SHADOW_STI;
	r->s.nmi_pending = 1;
	assert_int_equal(engine_kvm.set_state(r->v, X86_STATE_ALL, &r->s, &err), 0);
	get(r);
	assert_int_equal(r->s.intr_pending, 1);
	assert_int_equal(r->s.intr_vector, 0x41);
	assert_true(r->s.shadow & (SHADOW_STI | SHADOW_MOVSS));
	assert_int_equal(r->s.nmi_pending, 1);
}

/* ---- exits ---- */

static void
test_ports(void **state)
{
	struct rig *r = rig_of(state);

	/* mov $0x1234, %dx; in (%dx), %ax; inc %ax; out %ax, (%dx); hlt */
	LOAD(r, 0xba, 0x34, 0x12, 0xed, 0x40, 0xef, 0xf4);
	run(r, VM_EXIT_IO);
	assert_int_equal(r->x.u.io.port, 0x1234);
	assert_int_equal(r->x.u.io.size, 2);
	assert_false(r->x.u.io.write);
	r->x.u.io.data = 0x5566;
	run(r, VM_EXIT_IO);
	assert_true(r->x.u.io.write);
	assert_int_equal(r->x.u.io.data, 0x5567);
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.rip, CODE + 7);
	assert_int_equal(r->s.activity, ACT_HALTED);
}

static void
test_string_ports(void **state)
{
	struct rig *r = rig_of(state);
	uint8_t got[5];

	/* mov $0x77, %dx; mov $DATA, %di; mov $5, %cx; rep insb; mov $DATA, %si; mov $5, %cx; rep outsb; hlt
	 */
	LOAD(r, 0xba, 0x77, 0, 0xbf, 0, 0x20, 0xb9, 5, 0, 0xf3, 0x6c, 0xbe, 0, 0x20, 0xb9, 5, 0, 0xf3, 0x6e,
	     0xf4);
	for (unsigned n = 0; n < 5; n++) {
		run(r, VM_EXIT_IO);
		assert_false(r->x.u.io.write);
		assert_int_equal(r->x.u.io.size, 1);
		r->x.u.io.data = 0x30 + n;
	}
	for (unsigned n = 0; n < 5; n++) {
		run(r, VM_EXIT_IO);
		assert_true(r->x.u.io.write);
		assert_int_equal(r->x.u.io.data, 0x30 + n);
	}
	run(r, VM_EXIT_HLT);
	assert_true(gm_read(r->mem, DATA, got, sizeof(got)));
	assert_memory_equal(got, "01234", 5);
}

static void
test_device_memory(void **state)
{
	struct rig *r = rig_of(state);

	r->s.seg[X86_DS].base = 0x200000;
	/* movl 0x10, %eax; inc %eax; movl %eax, 0x20; hlt */
	LOAD(r, 0x66, 0xa1, 0x10, 0, 0x66, 0x40, 0x66, 0xa3, 0x20, 0, 0xf4);
	run(r, VM_EXIT_MMIO);
	assert_false(r->x.u.mmio.write);
	assert_int_equal(r->x.u.mmio.gpa, 0x200010);
	assert_int_equal(r->x.u.mmio.size, 4);
	r->x.u.mmio.data = 0x89abcdef;
	run(r, VM_EXIT_MMIO);
	assert_true(r->x.u.mmio.write);
	assert_int_equal(r->x.u.mmio.gpa, 0x200020);
	assert_int_equal(r->x.u.mmio.data, 0x89abcdf0);
	run(r, VM_EXIT_HLT);
}

/* Four bytes across a page's end: devices see 1, 2 and 1, as from the soft engine. */
static void
test_device_memory_in_pieces(void **state)
{
	static const struct {
		uint64_t gpa;
		unsigned size;
		uint64_t data;
	} piece[] = {{0x200fff, 1, 0x11}, {0x201000, 2, 0x3322}, {0x201002, 1, 0x44}};
	struct rig *r = rig_of(state);

	r->s.seg[X86_DS].base = 0x200000;
	/* movl 0xfff, %eax; movl %eax, 0xfff; hlt */
	LOAD(r, 0x66, 0xa1, 0xff, 0x0f, 0x66, 0xa3, 0xff, 0x0f, 0xf4);
	for (unsigned n = 0; n < 2 * ARRAY_LEN(piece); n++) {
		run(r, VM_EXIT_MMIO);
		assert_int_equal(r->x.u.mmio.write, n >= ARRAY_LEN(piece));
		assert_int_equal(r->x.u.mmio.gpa, piece[n % 3].gpa);
		assert_int_equal(r->x.u.mmio.size, piece[n % 3].size);
		if (r->x.u.mmio.write)
			assert_int_equal(r->x.u.mmio.data, piece[n % 3].data);
		else
			r->x.u.mmio.data = piece[n % 3].data;
	}
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.gpr[X86_RAX], 0x44332211);
}

static void
test_rom_swallows_writes(void **state)
{
	struct rig *r = rig_of(state);
	struct err err = {0};
	uint16_t v = 0x4142;

	(void)err;
	assert_true(gm_load(r->mem, ROM_GPA + 8, &v, 2));
	r->s.seg[X86_DS].base = ROM_GPA;
	/* movw $0, 8; movw 8, %ax; hlt */
	LOAD(r, 0xc7, 0x06, 8, 0, 0, 0, 0xa1, 8, 0, 0xf4);
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.gpr[X86_RAX] & 0xffff, 0x4142);
}

static void
test_board_msrs(void **state)
{
	struct rig *r = rig_of(state);

	/* mov $0x1b, %ecx; rdmsr; incw %ax; mov $0x6e0, %cx; wrmsr; hlt */
	LOAD(r, 0x66, 0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x40, 0xb9, 0xe0, 0x06, 0x0f, 0x30, 0xf4);
	run(r, VM_EXIT_RDMSR);
	assert_int_equal(r->x.u.msr.index, 0x1b);
	r->x.u.msr.val = 0x1fee00900;
	r->x.u.msr.fault = false;
	run(r, VM_EXIT_WRMSR);
	assert_int_equal(r->x.u.msr.index, 0x6e0);
	assert_int_equal(r->x.u.msr.val, 0x1fee00901);
	r->x.u.msr.fault = false;
	run(r, VM_EXIT_HLT);
}

/* #GP goes through a real-mode vector to a HLT at 0x1800. */
static void
test_msr_faults(void **state)
{
	struct rig *r = rig_of(state);
	const uint32_t vector = 0x1800;
	const uint8_t hlt = 0xf4;

	assert_true(gm_write(r->mem, 13 * 4, &vector, 4));
	assert_true(gm_write(r->mem, vector, &hlt, 1));
	/* mov $0x1b, %ecx; wrmsr; hlt */
	LOAD(r, 0x66, 0xb9, 0x1b, 0, 0, 0, 0x0f, 0x30, 0xf4);
	run(r, VM_EXIT_WRMSR);
	r->x.u.msr.fault = true;
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.rip, vector + 1);
	/* mov $0x99999999, %ecx; rdmsr; hlt: nobody has it */
	x86_state_reset(&r->s);
	r->s.seg[X86_CS].sel = 0;
	r->s.seg[X86_CS].base = 0;
	r->s.rip = CODE;
	r->s.gpr[X86_RSP] = STACK;
	LOAD(r, 0x66, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x0f, 0x32, 0xf4);
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.rip, vector + 1);
}

enum { XCR0_AVX = 7, XSAVE_AVX_BYTES = 576 + 256 };

static bool
has_avx(const struct rig *r)
{
	uint32_t d[4];

	x86_cpuid_query(&r->cpuid, 0xd, 0, d);
	return (d[0] & XCR0_AVX) == XCR0_AVX;
}

/* What the guest finds in EBX of CPUID leaf 0xd: what XSAVE needs for what XCR0 has. */
static void
expect_xsave_bytes(struct rig *r, unsigned sub, unsigned bytes)
{
	uint64_t xcr0 = r->s.xcr0;

	r->s.rip = CODE;
	r->s.activity = ACT_RUNNING;
	r->s.gpr[X86_RCX] = sub;
	LOAD(r, 0x66, 0xb8, 0x0d, 0, 0, 0, 0x0f, 0xa2, 0xf4); /* mov $0xd, %eax; cpuid; hlt */
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.gpr[X86_RBX], bytes);
	assert_int_equal(r->s.xcr0, xcr0);
}

static void
test_xsave_sizes_follow_xcr0(void **state)
{
	struct rig *r = rig_of(state);
	uint32_t d1[4];

	if (!has_avx(r))
		skip();
	x86_cpuid_query(&r->cpuid, 0xd, 1, d1);
	for (unsigned round = 0; round < 2; round++) { /* there and back */
		r->s.xcr0 = 1;
		expect_xsave_bytes(r, 0, 576);
		r->s.xcr0 = XCR0_AVX;
		expect_xsave_bytes(r, 0, XSAVE_AVX_BYTES);
		if (d1[0] & 2) /* XSAVEC */
			expect_xsave_bytes(r, 1, XSAVE_AVX_BYTES);
	}
}

static void
test_xsave_sizes_follow_the_guest(void **state)
{
	struct rig *r = rig_of(state);

	if (!has_avx(r))
		skip();
	r->s.cr4 |= CR4_OSXSAVE;
	r->s.gpr[X86_RAX] = XCR0_AVX;
	LOAD(r, 0x66, 0x31, 0xc9, 0x66, 0x31, 0xd2, 0x0f, 0x01, 0xd1, 0xf4); /* XCR0 = EAX; hlt */
	run(r, VM_EXIT_HLT);
	get(r);
	if (r->s.xcr0 != XCR0_AVX) {
		print_message("this host's processor runs XSETBV without telling KVM\n");
		skip();
	}
	expect_xsave_bytes(r, 0, XSAVE_AVX_BYTES);
}

/* Another state comes, and runs from its first instruction to its end. */
static void
goes_on_in(struct rig *r, const struct x86_state *s)
{
	r->s = *s;
	LOAD(r, 0xb0, 0x33, 0xf4); /* mov $0x33, %al; hlt */
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.gpr[X86_RAX], 0x33);
	assert_int_equal(r->s.rip, CODE + 3);
}

static void
test_state_may_replace_an_open_access(void **state)
{
	struct rig *r = rig_of(state);
	struct x86_state s = r->s;

	LOAD(r, 0xe4, 0x10, 0xf4); /* in $0x10, %al; hlt */
	run(r, VM_EXIT_IO);
	goes_on_in(r, &s);
}

/* Of one instruction there may be more accesses than one: none may go on in the state that comes instead. */
static void
test_state_may_replace_accesses_half_done(void **state)
{
	static const uint8_t half_done[][6] = {
	    {0x66, 0xa1, 0xff, 0x0f},	    /* movl 0xfff, %eax: in three pieces */
	    {0x66, 0xa3, 0xff, 0x0f},	    /* movl %eax, 0xfff */
	    {0x66, 0x01, 0x06, 0xff, 0x0f}, /* addl %eax, 0xfff: and three more */
	};
	struct rig *r = rig_of(state);
	const struct x86_state s = r->s;

	for (size_t n = 0; n < ARRAY_LEN(half_done); n++) {
		r->s = s;
		r->s.seg[X86_DS].base = 0x200000;
		load(r, half_done[n], sizeof(half_done[n]));
		run(r, VM_EXIT_MMIO);
		goes_on_in(r, &s);
	}
}

/* ---- kicks and interrupts ---- */

static void
test_a_kick_before_the_run(void **state)
{
	struct rig *r = rig_of(state);

	LOAD(r, 0xeb, 0xfe); /* jmp . */
	engine_kvm.kick(r->v);
	run(r, VM_EXIT_INTR);
	engine_kvm.kick(r->v);
	engine_kvm.kick(r->v);
	run(r, VM_EXIT_INTR);
	LOAD(r, 0xf4);
	run(r, VM_EXIT_HLT); /* both kicks were one */
}

static void
test_a_kick_lets_the_instruction_end(void **state)
{
	struct rig *r = rig_of(state);

	LOAD(r, 0xe4, 0x10, 0xf4); /* in $0x10, %al; hlt */
	run(r, VM_EXIT_IO);
	r->x.u.io.data = 0x21;
	engine_kvm.kick(r->v);
	run(r, VM_EXIT_INTR);
	get(r);
	assert_int_equal(r->s.gpr[X86_RAX] & 0xff, 0x21);
	assert_int_equal(r->s.rip, CODE + 2);
}

struct kicker {
	struct engine_vcpu *v;
	_Atomic unsigned asked, seen;
	unsigned rounds;
};

static void *
kick_main(void *arg)
{
	struct kicker *k = arg;

	for (unsigned n = 1; n <= k->rounds; n++) {
		atomic_store(&k->asked, n);
		engine_kvm.kick(k->v);
		while (atomic_load(&k->seen) < n)
			;
	}
	return NULL;
}

/* Each kick ends a run: a lost one hangs the test. */
static void
test_no_kick_is_lost(void **state)
{
	struct rig *r = rig_of(state);
	struct kicker k = {.v = r->v, .rounds = 300};
	pthread_t t;

	LOAD(r, 0xeb, 0xfe);
	assert_int_equal(pthread_create(&t, NULL, kick_main, &k), 0);
	while (atomic_load(&k.seen) < k.rounds) {
		run(r, VM_EXIT_INTR);
		atomic_store(&k.seen, atomic_load(&k.asked));
	}
	pthread_join(t, NULL);
}

static void
test_an_interrupt_waits_for_its_window(void **state)
{
	struct rig *r = rig_of(state);
	const uint32_t vector = 0x1800;
	const uint8_t handler[] = {0xb0, 0x77, 0xf4}; /* mov $0x77, %al; hlt */

	assert_true(gm_write(r->mem, 0x40 * 4, &vector, 4));
	assert_true(gm_write(r->mem, vector, handler, sizeof(handler)));
	LOAD(r, 0xe6, 0x10, 0xfb, 0x90, 0xeb, 0xfe); /* out %al, $0x10; sti; nop; jmp . */
	run(r, VM_EXIT_IO);
	assert_false(engine_kvm.intr_ready(r->v, true));
	run(r, VM_EXIT_INTR);
	assert_true(engine_kvm.intr_ready(r->v, true));
	engine_kvm.inject_intr(r->v, 0x40);
	assert_false(engine_kvm.intr_ready(r->v, false));
	run(r, VM_EXIT_HLT);
	get(r);
	assert_int_equal(r->s.gpr[X86_RAX] & 0xff, 0x77);
}

static void
test_an_interrupt_ends_a_halt(void **state)
{
	struct rig *r = rig_of(state);
	const uint32_t vector = 0x1800;
	const uint8_t handler[] = {0xe6, 0x22, 0xf4}; /* out %al, $0x22; hlt */

	assert_true(gm_write(r->mem, 0x40 * 4, &vector, 4));
	assert_true(gm_write(r->mem, vector, handler, sizeof(handler)));
	LOAD(r, 0xfb, 0xf4); /* sti; hlt */
	run(r, VM_EXIT_HLT);
	run(r, VM_EXIT_HLT); /* it stays halted */
	assert_true(engine_kvm.intr_ready(r->v, true));
	engine_kvm.inject_intr(r->v, 0x40);
	run(r, VM_EXIT_IO);
	assert_int_equal(r->x.u.io.port, 0x22);
}

static void
test_cr8_is_kept(void **state)
{
	struct rig *r = rig_of(state);

	r->s.cr8 = 9;
	LOAD(r, 0xf4);
	run(r, VM_EXIT_HLT);
	engine_kvm.get_state(r->v, X86_STATE_CR, &r->s);
	assert_int_equal(r->s.cr8, 9);
}

static void
test_the_parts_have_names(void **state)
{
	(void)state;
	for (unsigned n = 0; n < KVM_PARTS; n++)
		assert_true(strlen(kvm_part_name((enum kvm_part)n)) > 2);
}

/* Whatever does not work here, real mode does: the tests above ran in it. */
static void
test_examination(void **state)
{
	struct err err = {0};
	int broken;

	(void)rig_of(state);
	broken = kvm_examine(KVM_PARTS_ALL, &err);
	assert_true(broken >= 0);
	assert_false(broken & 1 << KVM_PART_REAL);
	assert_int_equal(engine_kvm.probe(&err) == 0, broken == 0);
	if (broken != 0)
		print_message("%s\n", err.msg);
}

/* ---- doorbells ---- */

/* A write of the guest rings the eventfd, or comes as an exit: never both, never neither. */
static void
test_doorbell(void **state)
{
	struct rig *r = rig_of(state);
	const struct engine_accel *a = engine_kvm.accel;
	uint64_t count = 0;
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(a->doorbell(r->vm, RAM, fd, true), 0);
	assert_int_equal(a->doorbell(r->vm, RAM, fd, true), -EEXIST);
	/* movw $0xffff, %ax; movw %ax, %ds; movw %ax, (0x10); hlt */
	LOAD(r, 0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xa3, 0x10, 0x00, 0xf4);
	engine_kvm.run(r->v, &r->x);
	if (r->x.kind == VM_EXIT_MMIO) {
		assert_int_equal(r->x.u.mmio.gpa, RAM);
		run(r, VM_EXIT_HLT);
		assert_int_equal(read(fd, &count, sizeof(count)), -1);
	} else {
		assert_int_equal(r->x.kind, VM_EXIT_HLT);
		assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
		assert_int_equal(count, 1);
	}
	assert_int_equal(a->doorbell(r->vm, RAM, fd, false), 0);
	LOAD(r, 0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xa3, 0x10, 0x00, 0xf4);
	run(r, VM_EXIT_MMIO);
	run(r, VM_EXIT_HLT);
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_no_files_left),
	    TEST(test_no_slots_left),
	    TEST(test_vcpus_are_made_once),
	    TEST(test_state_comes_back),
	    TEST(test_components_are_apart),
	    TEST(test_waiting_events_come_back),
	    TEST(test_ports),
	    TEST(test_string_ports),
	    TEST(test_device_memory),
	    TEST(test_device_memory_in_pieces),
	    TEST(test_rom_swallows_writes),
	    TEST(test_board_msrs),
	    TEST(test_msr_faults),
	    TEST(test_xsave_sizes_follow_xcr0),
	    TEST(test_xsave_sizes_follow_the_guest),
	    TEST(test_state_may_replace_an_open_access),
	    TEST(test_state_may_replace_accesses_half_done),
	    TEST(test_a_kick_before_the_run),
	    TEST(test_a_kick_lets_the_instruction_end),
	    TEST(test_no_kick_is_lost),
	    TEST(test_an_interrupt_waits_for_its_window),
	    TEST(test_an_interrupt_ends_a_halt),
	    TEST(test_cr8_is_kept),
	    TEST(test_doorbell),
	    TEST(test_the_parts_have_names),
	    TEST(test_examination),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
