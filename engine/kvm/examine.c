/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Does guest code run as it should? A VM of 128 KiB runs a few instructions in each mode; each piece ends in
 * HLT with a value in RAX that shows that it got there, by the memory that it should have read. Some hosts
 * offer a /dev/kvm that emulates ring 0 in part only: opening it says nothing.
 *
 *   0x1000 code   0x2000 data   0x3000 IDT   0x4000 GDT   0x7000 stack, down
 *   0x8000 page tables: identity, and the same memory once more at ALIAS
 */
#include "engine/kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/tsc_host.h"
#include "base/util.h"
#include "engine/kvm/internal.h"
#include "x86/state.h"

enum {
	CODE = 0x1000,
	DATA = 0x2000,
	IDT = 0x3000,
	GDT = 0x4000,
	STACK = 0x7000,
	TABLES = 0x8000,
	BYTES = 0x20000,
	HANDLER = CODE + 0x800,
	ALIAS32 = 0x400000, /* 4 MiB pages */
	ALIAS64 = 0x200000, /* 2 MiB pages */
	MAGIC = 0x1234567,
	VECTOR = 0x40,
	RUNS_MAX = 64,
};

/* ---- the pieces ---- */

#define PIECE(name, bits, text)                                                          \
	__asm__(".pushsection .rodata\n.code" bits "\n" #name ":\n" text "\nhlt\n" #name \
		"_end:\n.code64\n.popsection");                                          \
	extern const uint8_t name[] __attribute__((visibility("hidden"))),               \
	    name##_end[] __attribute__((visibility("hidden")));

PIECE(piece_real, "16", "movl 0x2000, %eax\n pushw %ax\n popw %bx\n cmpw %ax, %bx\n jne 1f\n incl %eax\n1:")
PIECE(piece_32, "32", "movl 0x2000, %eax\n pushl %eax\n popl %ebx\n cmpl %eax, %ebx\n jne 1f\n incl %eax\n1:")
PIECE(piece_paged32, "32", "movl 0x402000, %eax\n incl %eax")
PIECE(piece_pae, "32", "movl 0x202000, %eax\n incl %eax")
PIECE(piece_64, "64", "movl 0x202000, %eax\n pushq %rax\n popq %r15\n movq %r15, %rax\n incl %eax")
PIECE(piece_int, "64", "movl 0x2000, %ecx\n int $0x40\n incl %eax")
PIECE(piece_handler, "64", "movl %ecx, %eax\n iretq")
PIECE(piece_cx16, "64",
      "xorl %eax, %eax\n xorl %edx, %edx\n xorl %ecx, %ecx\n movl 0x2000, %ebx\n lock cmpxchg16b 0x2100\n"
      "movl 0x2100, %eax\n incl %eax")
/* Leaf 1's ECX, but for OSXSAVE, as it was given. */
PIECE(piece_cpuid, "64",
      "movl $1, %eax\n cpuid\n andl $0xf7ffffff, %ecx\n xorl 0x2008, %ecx\n movl 0x2000, %eax\n addl %ecx, "
      "%eax\n"
      "incl %eax")
/* Set back to about 0: the upper half is. */
PIECE(piece_tsc, "64", "rdtsc\n movl 0x2000, %eax\n addl %edx, %eax\n incl %eax")
PIECE(piece_sse, "64",
      "movd 0x2000, %xmm1\n pxor %xmm2, %xmm2\n paddd %xmm1, %xmm2\n movd %xmm2, %eax\n incl %eax")
PIECE(piece_avx, "64",
      "vmovd 0x2000, %xmm1\n vpxor %xmm2, %xmm2, %xmm2\n vpaddd %ymm1, %ymm2, %ymm3\n vmovd %xmm3, %eax\n "
      "incl %eax")

enum mode { REAL, PROTECTED, PAGED32, PAE, LONG };

static const struct {
	const char *name;
	enum mode mode;
	const uint8_t *from, *to;
	unsigned ecx; /* bit of CPUID 1 that offers it, or 0 */
} parts[KVM_PARTS] = {
    [KVM_PART_REAL] = {"real mode", REAL, piece_real, piece_real_end, 0},
    [KVM_PART_PROTECTED] = {"32-bit mode", PROTECTED, piece_32, piece_32_end, 0},
    [KVM_PART_PAGING32] = {"32-bit paging", PAGED32, piece_paged32, piece_paged32_end, 0},
    [KVM_PART_PAE] = {"PAE paging", PAE, piece_pae, piece_pae_end, 0},
    [KVM_PART_LONG] = {"64-bit mode", LONG, piece_64, piece_64_end, 0},
    [KVM_PART_INT] = {"INT n", LONG, piece_int, piece_int_end, 0},
    [KVM_PART_CX16] = {"CMPXCHG16B", LONG, piece_cx16, piece_cx16_end, 13},
    [KVM_PART_CPUID] = {"CPUID", LONG, piece_cpuid, piece_cpuid_end, 0},
    [KVM_PART_TSC] = {"TSC offset", LONG, piece_tsc, piece_tsc_end, 0},
    [KVM_PART_SSE] = {"SSE2", LONG, piece_sse, piece_sse_end, 0},
    [KVM_PART_AVX] = {"AVX2", LONG, piece_avx, piece_avx_end, 28},
};

const char *
kvm_part_name(enum kvm_part part)
{
	return parts[part].name;
}

/* ---- the machine ---- */

struct rig {
	struct kvm_dev dev;
	int vm, vcpu;
	uint8_t *mem;
	struct kvm_run *run;
	struct kvm_sregs initial;
	uint32_t ecx, ebx7; /* features that KVM offers */
};

static void
put(struct rig *r, uint32_t at, uint64_t v)
{
	put_le64(r->mem + at, v);
}

static void
fill_memory(struct rig *r, unsigned n)
{
	const uint64_t large = 0x83 | 0x60; /* present, writable, large; accessed, dirty */
	const uint64_t gate = 0x8e000008ull << 16 | (HANDLER & 0xffff);

	memset(r->mem, 0, BYTES);
	memcpy(r->mem + CODE, parts[n].from, (size_t)(parts[n].to - parts[n].from));
	memcpy(r->mem + HANDLER, piece_handler, (size_t)(piece_handler_end - piece_handler));
	put_le32(r->mem + DATA, MAGIC);
	put_le32(r->mem + DATA + 8, r->ecx & ~(1u << 27));
	put(r, IDT + VECTOR * 16, gate);
	put(r, GDT + 8, 0x00af9b000000ffff);
	put(r, GDT + 16, 0x00cf93000000ffff);
	put_le32(r->mem + TABLES, (uint32_t)large); /* 32-bit: the directory */
	put_le32(r->mem + TABLES + 4, (uint32_t)large);
	put(r, TABLES + 0x1000, (TABLES + 0x2000) | 1); /* PAE: pointers, directory */
	put(r, TABLES + 0x2000, large);
	put(r, TABLES + 0x2008, large);
	put(r, TABLES + 0x3000, (TABLES + 0x4000) | 0x23); /* 64-bit: PML4, pointers, the same directory */
	put(r, TABLES + 0x4000, (TABLES + 0x2000) | 0x23);
}

static void
set_segments(struct kvm_sregs *s, enum mode mode)
{
	struct kvm_segment flat = {
	    .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	struct kvm_segment code = flat;

	if (mode == REAL) {
		s->cs.base = 0;
		s->cs.selector = 0;
		return;
	}
	code.selector = 8;
	code.type = 11;
	code.l = mode == LONG;
	code.db = mode != LONG;
	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = flat;
	s->gdt = (struct kvm_dtable){.base = GDT, .limit = 23};
	s->idt = (struct kvm_dtable){.base = IDT, .limit = 0xfff};
}

static void
set_controls(struct kvm_sregs *s, enum mode mode)
{
	static const struct {
		uint64_t cr0, cr3, cr4, efer;
	} c[] = {
	    [REAL] = {CR0_ET, 0, 0, 0},
	    [PROTECTED] = {CR0_ET | CR0_PE, 0, 0, 0},
	    [PAGED32] = {CR0_ET | CR0_PE | CR0_PG, TABLES, CR4_PSE, 0},
	    [PAE] = {CR0_ET | CR0_PE | CR0_PG, TABLES + 0x1000, CR4_PAE, 0},
	    [LONG] = {CR0_ET | CR0_NE | CR0_MP | CR0_PE | CR0_PG, TABLES + 0x3000,
		      CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT, EFER_LME | EFER_LMA},
	};

	s->cr0 = c[mode].cr0;
	s->cr3 = c[mode].cr3;
	s->cr4 = c[mode].cr4;
	s->efer = c[mode].efer;
}

static int
set_tsc(struct rig *r)
{
	uint64_t offset = 0 - __builtin_ia32_rdtsc();
	struct kvm_device_attr a = {
	    .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)(uintptr_t)&offset};

	return kvm_ioctl(r->vcpu, KVM_SET_DEVICE_ATTR, &a);
}

static int
set_state(struct rig *r, unsigned n)
{
	struct kvm_regs regs = {.rip = CODE, .rsp = STACK, .rflags = FL_1};
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 7}}};
	struct kvm_vcpu_events none = {0};
	struct kvm_sregs s = r->initial;
	int ret;

	set_segments(&s, parts[n].mode);
	set_controls(&s, parts[n].mode);
	if (n == KVM_PART_AVX)
		s.cr4 |= CR4_OSXSAVE;
	ret = kvm_ioctl(r->vcpu, KVM_SET_SREGS, &s);
	if (ret == 0 && n == KVM_PART_AVX)
		ret = kvm_ioctl(r->vcpu, KVM_SET_XCRS, &x);
	if (ret == 0 && n == KVM_PART_TSC)
		ret = set_tsc(r);
	if (ret == 0)
		ret = kvm_ioctl(r->vcpu, KVM_SET_REGS, &regs);
	return ret != 0 ? ret : kvm_ioctl(r->vcpu, KVM_SET_VCPU_EVENTS, &none);
}

static bool
offered(const struct rig *r, unsigned n)
{
	return parts[n].ecx == 0 ||
	       ((r->ecx >> parts[n].ecx & 1) && (n != KVM_PART_AVX || (r->ebx7 >> 5 & 1)));
}

static bool
part_works(struct rig *r, unsigned n)
{
	struct kvm_regs regs;

	fill_memory(r, n);
	if (set_state(r, n) != 0)
		return false;
	for (unsigned i = 0; i < RUNS_MAX; i++) {
		if (ioctl(r->vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			return false;
		}
		return r->run->exit_reason == KVM_EXIT_HLT && kvm_ioctl(r->vcpu, KVM_GET_REGS, &regs) == 0 &&
		       (uint32_t)regs.rax == MAGIC + 1;
	}
	return false;
}

/* ---- making and unmaking it ---- */

static int
set_cpuid(struct rig *r)
{
	const struct kvm_cpuid2 *k = kvm_supported_cpuid();

	for (unsigned n = 0; k != NULL && n < k->nent; n++) {
		if (k->entries[n].function == 1)
			r->ecx = k->entries[n].ecx;
		if (k->entries[n].function == 7 && k->entries[n].index == 0)
			r->ebx7 = k->entries[n].ebx;
	}
	return k == NULL ? -EIO : kvm_ioctl(r->vcpu, KVM_SET_CPUID2, (void *)(uintptr_t)k);
}

static int
rig_set_up(struct rig *r)
{
	struct kvm_userspace_memory_region k = {.memory_size = BYTES};
	int ret;

	r->mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->mem == MAP_FAILED)
		return -errno;
	k.userspace_addr = (uint64_t)(uintptr_t)r->mem;
	ret = kvm_ioctl(r->vm, KVM_SET_USER_MEMORY_REGION, &k);
	if (ret != 0)
		return ret;
	r->vcpu = kvm_ioctl_n(r->vm, KVM_CREATE_VCPU, 0);
	if (r->vcpu < 0)
		return r->vcpu;
	r->run = mmap(NULL, r->dev.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->vcpu, 0);
	if (r->run == MAP_FAILED)
		return -errno;
	return kvm_ioctl(r->vcpu, KVM_GET_SREGS, &r->initial);
}

static void
rig_close(struct rig *r)
{
	if (r->run != MAP_FAILED)
		munmap(r->run, r->dev.run_bytes);
	if (r->vcpu >= 0)
		close(r->vcpu);
	if (r->vm >= 0)
		close(r->vm);
	if (r->mem != MAP_FAILED)
		munmap(r->mem, BYTES);
	kvm_dev_close(&r->dev);
}

/* A rig with the guest's table of CPUID, or all that KVM offers (NULL); or an error. rig_close() in either
 * case. */
static int
rig_open(struct rig *r, const struct x86_cpuid *cpuid, struct err *err)
{
	int ret;

	*r = (struct rig){.vm = -1, .vcpu = -1, .mem = MAP_FAILED, .run = MAP_FAILED, .dev.fd = -1};
	ret = kvm_dev_open(&r->dev, err);
	if (ret != 0)
		return ret;
	r->vm = kvm_dev_create_vm(&r->dev, err);
	if (r->vm < 0)
		return r->vm;
	ret = rig_set_up(r);
	if (ret == 0)
		ret = cpuid != NULL ? kvm_cpuid_set(r->vcpu, cpuid, err) : set_cpuid(r);
	if (ret != 0)
		err_set(err, -ret, "kvm: no VM for a probe: %s", strerror(-ret));
	return ret;
}

int
kvm_examine(unsigned wanted, struct err *err)
{
	struct rig r;
	int broken = 0, ret = rig_open(&r, NULL, err);

	for (unsigned n = 0; ret == 0 && n < KVM_PARTS; n++) {
		if ((wanted >> n & 1) && offered(&r, n) && !part_works(&r, n))
			broken |= 1 << n;
	}
	rig_close(&r);
	return ret != 0 ? ret : broken;
}

/* ---- what is wanted of each suspicious KVM: one VM for both, since making VMs takes most of the time ----
 */

static _Atomic int int_found = -1; /* kvm_examine_int()'s, once it is known */

int
kvm_examine_int(struct err *err)
{
	int found = atomic_load(&int_found);

	if (found < 0) {
		found = kvm_examine(1u << KVM_PART_INT, err);
		if (found >= 0)
			atomic_store(&int_found, found);
	}
	return found;
}

/*
 * The machine of the last kvm_ask_cpuid(). Unmaking it takes longer than the rest of it, and making the first
 * vCPU of another VM is quicker while it is there: so it waits for somebody who has the time.
 */
static _Atomic(struct rig *) kept;

static void
keep(struct rig *r)
{
	struct rig *before = atomic_exchange(&kept, r);

	if (before != NULL) {
		rig_close(before);
		free(before);
	}
}

void
kvm_examine_end(void)
{
	keep(NULL);
}

bool
kvm_ask_cpuid(const struct x86_cpuid *offer, struct kvm_cpuid2 *told)
{
	struct rig *r = malloc(sizeof(*r));
	struct err err = {0};
	bool ok = false;

	if (r == NULL)
		return false;
	if (rig_open(r, offer, &err) == 0) {
		tsc_host_told(kvm_ioctl_n(r->vm, KVM_GET_TSC_KHZ, 0));
		ok = kvm_ioctl(r->vcpu, KVM_GET_CPUID2, told) == 0;
		atomic_store(&int_found, part_works(r, KVM_PART_INT) ? 0 : 1 << KVM_PART_INT);
	}
	keep(r);
	return ok;
}

/* ---- single steps ---- */

/* Each instruction of a piece of straight code is an exit of its own. */
static bool
steps(struct rig *r, unsigned n, unsigned instructions)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
	uint64_t rip = CODE;
	struct kvm_regs regs;

	fill_memory(r, n);
	if (set_state(r, n) != 0 || kvm_ioctl(r->vcpu, KVM_SET_GUEST_DEBUG, &d) != 0)
		return false;
	for (unsigned i = 0; i < instructions; i++) {
		if (kvm_ioctl(r->vcpu, KVM_RUN, NULL) != 0 || r->run->exit_reason != KVM_EXIT_DEBUG ||
		    kvm_ioctl(r->vcpu, KVM_GET_REGS, &regs) != 0 || regs.rip <= rip || regs.rip > rip + 15)
			return false;
		rip = regs.rip;
	}
	return true;
}

int
kvm_examine_steps(struct err *err)
{
	struct rig r;
	int ret = rig_open(&r, NULL, err);

	if (ret == 0 && (!steps(&r, KVM_PART_REAL, 3) || !steps(&r, KVM_PART_LONG, 5)))
		ret = err_set(err, ENOTSUP, "kvm: guest code is not stepped through here");
	rig_close(&r);
	return ret;
}
