/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmmapi as a program sees it: this file includes nothing of lhyve's but <vmmapi.h>, and links the shared
 * library. Every call gets nonsense, and says so; what should work does, on each engine that is here.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <vmmapi.h>

enum { RAM = 2 << 20, CODE = 0x1000, STACK = 0x8000 };

static const char *engine; /* of the tests that follow */

static struct vmctx *
make(unsigned flags)
{
	struct vm_error e;
	struct vmctx *ctx = vm_create("test", engine, flags, &e);

	if (ctx == NULL) {
		print_message("%s\n", e.text);
		skip();
	}
	assert_int_equal(vm_setup_memory(ctx, RAM, VM_MMAP_ALL), 0);
	return ctx;
}

#define LOAD(ctx, at, ...)                                                        \
	do {                                                                      \
		const uint8_t code_[] = {__VA_ARGS__};                            \
		assert_int_equal(vm_write_gpa(ctx, at, code_, sizeof(code_)), 0); \
	} while (0)

static struct vcpu *
real_mode(struct vmctx *ctx)
{
	struct vcpu *v = vm_vcpu_open(ctx, 0);

	assert_non_null(v);
	assert_int_equal(vm_setup_real(v, 0, CODE), 0);
	assert_int_equal(vm_set_register(v, VM_REG_GUEST_RSP, STACK), 0);
	return v;
}

static void
run_to(struct vcpu *v, struct vmexit *x, int want)
{
	assert_int_equal(vm_run(v, x), 0);
	if (x->exitcode == VM_EXITCODE_ERROR)
		fail_msg("%s", x->u.error.text);
	assert_int_equal(x->exitcode, want);
}

/* ---- nonsense ---- */

static void
test_nothing_at_all(void **state)
{
	struct vmexit x = {0};
	uint64_t v;
	int i;

	(void)state;
	vm_destroy(NULL);
	vm_vcpu_close(NULL);
	vm_get_error(NULL, NULL);
	assert_null(vm_get_name(NULL));
	assert_null(vm_get_engine(NULL));
	assert_null(vm_vcpu_open(NULL, 0));
	assert_null(vcpu_ctx(NULL));
	assert_int_equal(vcpu_id(NULL), -1);
	assert_int_equal(vcpu_reset(NULL), -EINVAL);
	assert_int_equal(vm_set_topology(NULL, 1, 1, 1, 0), -EINVAL);
	assert_int_equal(vm_setup_memory(NULL, RAM, VM_MMAP_ALL), -EINVAL);
	assert_int_equal(vm_alloc_memseg(NULL, 0, RAM, NULL), -EINVAL);
	assert_int_equal(vm_mmap_memseg(NULL, 0, 0, 0, RAM, VM_PROT_READ), -EINVAL);
	assert_null(vm_map_gpa(NULL, 0, 1));
	assert_true(vm_rev_map_gpa(NULL, &v) == ~(vm_paddr_t)0);
	assert_int_equal(vm_read_gpa(NULL, 0, &v, 8), -EINVAL);
	assert_int_equal(vm_write_gpa(NULL, 0, &v, 8), -EINVAL);
	assert_int_equal(vm_run(NULL, &x), -EINVAL);
	assert_int_equal(vm_kick(NULL), -EINVAL);
	assert_int_equal(vm_suspend(NULL, VM_SUSPEND_HALT), -EINVAL);
	assert_int_equal(vm_reinit(NULL), -EINVAL);
	assert_int_equal(vm_get_register(NULL, VM_REG_GUEST_RAX, &v), -EINVAL);
	assert_int_equal(vm_set_register(NULL, VM_REG_GUEST_RAX, 0), -EINVAL);
	assert_int_equal(vm_inject_exception(NULL, 13, true, 0, true), -EINVAL);
	assert_int_equal(vm_inject_nmi(NULL), -EINVAL);
	assert_int_equal(vm_lapic_irq(NULL, 32), -EINVAL);
	assert_int_equal(vm_lapic_msi(NULL, 0xfee00000, 32), -EINVAL);
	assert_int_equal(vm_ioapic_assert_irq(NULL, 1), -EINVAL);
	assert_int_equal(vm_ioapic_pincount(NULL, &i), -EINVAL);
	assert_int_equal(vm_isa_pulse_irq(NULL, 4, 4), -EINVAL);
	assert_int_equal(vm_dirty_log_start(NULL), -EINVAL);
	assert_int_equal(vm_get_stats(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(vm_get_capability(NULL, 0, &i), -EINVAL);
}

static void
test_creation_refuses(void **state)
{
	struct vm_error e;

	(void)state;
	assert_null(vm_create(NULL, "soft", 0, &e));
	assert_int_equal(e.code, EINVAL);
	assert_null(vm_create("", "soft", 0, &e));
	assert_null(vm_create("a", "xen", 0, &e));
	assert_non_null(strstr(e.text, "xen"));
	assert_null(vm_create("a", "soft", 0x80, &e));
	assert_null(vm_create("a", "xen", 0, NULL));
}

static void
test_wrong_arguments(void **state)
{
	struct vmctx *ctx = make(0);
	struct vm_error e;
	struct vcpu *v;
	uint64_t val, base;
	uint32_t limit, access;
	int regs[] = {VM_REG_GUEST_RAX, 9999}, i;

	(void)state;
	assert_int_equal(vm_set_topology(ctx, 0, 1, 1, 0), -EINVAL);
	assert_int_equal(vm_set_topology(ctx, 1000, 1000, 1, 0), -EINVAL);
	assert_int_equal(vm_set_topology(ctx, 2, 1, 1, 1), -EINVAL);
	vm_get_error(ctx, &e);
	assert_int_equal(e.code, EINVAL);
	assert_non_null(strstr(e.text, "2 in the topology"));
	assert_int_equal(vm_alloc_memseg(ctx, -1, RAM, NULL), -EINVAL);
	assert_int_equal(vm_alloc_memseg(ctx, VM_SEGMENTS, RAM, NULL), -EINVAL);
	assert_int_equal(vm_alloc_memseg(ctx, 1, 100, NULL), -EINVAL);
	assert_int_equal(vm_alloc_memseg(ctx, VM_SYSMEM, RAM, NULL), -EEXIST);
	assert_int_equal(vm_mmap_memseg(ctx, 0x10000000, 7, 0, RAM, VM_PROT_READ), -ENOENT);
	assert_int_equal(vm_mmap_memseg(ctx, 0x10000000, VM_SYSMEM, 0, RAM, 0), -EINVAL);
	assert_true(vm_mmap_memseg(ctx, 0x1000, VM_SYSMEM, 0, RAM, VM_PROT_READ) < 0); /* overlaps */
	assert_true(vm_mmap_memseg(ctx, 0x10000000, VM_SYSMEM, RAM, RAM, VM_PROT_READ) < 0);
	assert_null(vm_map_gpa(ctx, RAM - 4, 8));
	assert_null(vm_map_gpa(ctx, 0, SIZE_MAX));
	assert_int_equal(vm_read_gpa(ctx, RAM - 4, &val, 8), -EFAULT);
	assert_null(vm_vcpu_open(ctx, -1));
	assert_null(vm_vcpu_open(ctx, 1));
	v = real_mode(ctx);
	assert_ptr_equal(vm_vcpu_open(ctx, 0), v);
	assert_int_equal(vm_set_topology(ctx, 1, 1, 1, 0), -EBUSY);
	assert_int_equal(vm_mmap_memseg(ctx, 0x10000000, VM_SYSMEM, 0, RAM, VM_PROT_READ), -EBUSY);
	assert_int_equal(vm_get_register(v, -1, &val), -EINVAL);
	assert_int_equal(vm_get_register(v, VM_REG_GUEST_GDTR, &val), -EINVAL);
	assert_int_equal(vm_get_register_set(v, 2, regs, &val), -EINVAL);
	assert_int_equal(vm_set_register(v, VM_REG_LAST, 0), -EINVAL);
	assert_int_equal(vm_get_desc(v, VM_REG_GUEST_RAX, &base, &limit, &access), -EINVAL);
	assert_int_equal(vm_set_desc(v, VM_REG_GUEST_GDTR, 0, 0x10000, 0), -EINVAL);
	assert_int_equal(vm_set_desc(v, VM_REG_GUEST_CS, 0, 0xffff, 0xffffffff), -EINVAL);
	assert_int_equal(vm_inject_exception(v, 2, false, 0, true), -EINVAL);
	assert_int_equal(vm_inject_exception(v, 32, false, 0, true), -EINVAL);
	assert_int_equal(vm_inject_exception(v, 13, true, 0, false), -EINVAL);
	assert_int_equal(vm_lapic_irq(v, 32), -ENODEV);
	assert_int_equal(vm_get_capability(v, 99, &i), -EINVAL);
	assert_int_equal(vm_set_capability(v, VM_CAP_UNRESTRICTED_GUEST, 0), -ENOTSUP);
	assert_int_equal(vm_suspend(ctx, (enum vm_suspend_how)77), -EINVAL);
	assert_int_equal(vm_dirty_log_stop(ctx), -EINVAL);
	assert_int_equal(vm_dirty_log_fetch(ctx, 0, (uint8_t *)&val, 8), -EINVAL);
	vm_destroy(ctx);
}

/* ---- what works ---- */

static void
test_memory(void **state)
{
	struct vmctx *ctx = make(0);
	uint32_t v = 0x11223344, w = 0;
	char *p = vm_map_gpa(ctx, 0x2000, 4);

	(void)state;
	assert_non_null(p);
	assert_int_equal(vm_get_lowmem_size(ctx), RAM);
	assert_int_equal(vm_get_highmem_size(ctx), 0);
	assert_int_equal(vm_rev_map_gpa(ctx, p + 3), 0x2003);
	assert_int_equal(vm_write_gpa(ctx, 0x2000, &v, 4), 0);
	assert_memory_equal(p, &v, 4);
	assert_int_equal(vm_read_gpa(ctx, 0x2000, &w, 4), 0);
	assert_int_equal(w, v);
	vm_destroy(ctx);
}

static void
test_registers(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	const int regs[] = {VM_REG_GUEST_RBX, VM_REG_GUEST_CR2, VM_REG_GUEST_LSTAR, VM_REG_GUEST_DR1};
	const uint64_t in[] = {0x123456789abcdef0, 0xdead000, 0xffffffff81000000, 0x4000};
	uint64_t out[4], base;
	uint32_t limit, access;

	(void)state;
	assert_int_equal(vm_set_register_set(v, 4, regs, in), 0);
	assert_int_equal(vm_get_register_set(v, 4, regs, out), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(vm_set_desc(v, VM_REG_GUEST_FS, 0x12340, 0xffff, 0x93), 0);
	assert_int_equal(vm_get_desc(v, VM_REG_GUEST_FS, &base, &limit, &access), 0);
	assert_int_equal(base, 0x12340);
	assert_int_equal(limit, 0xffff);
	assert_int_equal(access, 0x93);
	assert_int_equal(vm_set_desc(v, VM_REG_GUEST_IDTR, 0x5000, 0xff, 0), 0);
	assert_int_equal(vm_get_desc(v, VM_REG_GUEST_IDTR, &base, &limit, &access), 0);
	assert_int_equal(base, 0x5000);
	assert_int_equal(limit, 0xff);
	vm_destroy(ctx);
}

static void
test_ports_and_devices(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};

	(void)state;
	/* in $0x10, %al; inc %ax; out %al, $0x11; mov $0x2000, %ax (ds = 0x20000 later); hlt */
	LOAD(ctx, CODE, 0xe4, 0x10, 0x40, 0xe6, 0x11, 0xa1, 0x10, 0x00, 0xa3, 0x20, 0x00, 0xf4);
	assert_int_equal(vm_set_desc(v, VM_REG_GUEST_DS, 0x10000000, 0xffff, 0x93), 0);
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_true(x.u.md.inout.in);
	assert_int_equal(x.u.md.inout.port, 0x10);
	x.u.md.inout.eax = 0x41;
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_false(x.u.md.inout.in);
	assert_int_equal(x.u.md.inout.eax, 0x42);
	run_to(v, &x, VM_EXITCODE_MMIO);
	assert_int_equal(x.u.mmio.gpa, 0x10000010);
	assert_int_equal(x.u.mmio.size, 2);
	x.u.mmio.data = 0x7788;
	run_to(v, &x, VM_EXITCODE_MMIO);
	assert_true(x.u.mmio.write);
	assert_int_equal(x.u.mmio.gpa, 0x10000020);
	assert_int_equal(x.u.mmio.data, 0x7788);
	run_to(v, &x, VM_EXITCODE_HLT);
	vm_destroy(ctx);
}

static void
test_an_exception(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};

	(void)state;
	LOAD(ctx, 6 * 4, 0x00, 0x18, 0x00, 0x00); /* #UD: 0:1800 */
	LOAD(ctx, 0x1800, 0xe6, 0x66, 0xf4);	  /* out %al, $0x66; hlt */
	LOAD(ctx, CODE, 0x90, 0xf4);
	assert_int_equal(vm_inject_exception(v, 6, false, 0, true), 0);
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_int_equal(x.u.md.inout.port, 0x66);
	vm_destroy(ctx);
}

static void
test_an_nmi(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};

	(void)state;
	LOAD(ctx, 2 * 4, 0x00, 0x18, 0x00, 0x00);
	LOAD(ctx, 0x1800, 0xe6, 0x66, 0xf4);
	LOAD(ctx, CODE, 0xeb, 0xfe); /* jmp . */
	assert_int_equal(vm_inject_nmi(v), 0);
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_int_equal(x.u.md.inout.port, 0x66);
	vm_destroy(ctx);
}

static void *
suspend_main(void *arg)
{
	(void)vm_suspend(arg, VM_SUSPEND_POWEROFF);
	return NULL;
}

static void
test_suspension(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};
	pthread_t t;

	(void)state;
	LOAD(ctx, CODE, 0xeb, 0xfe);
	assert_int_equal(pthread_create(&t, NULL, suspend_main, ctx), 0);
	run_to(v, &x, VM_EXITCODE_SUSPENDED);
	assert_int_equal(x.u.suspended.how, VM_SUSPEND_POWEROFF);
	pthread_join(t, NULL);
	assert_int_equal(vm_suspend(ctx, VM_SUSPEND_RESET), -EALREADY);
	assert_int_equal(vm_reinit(ctx), 0);
	assert_int_equal(vm_setup_real(v, 0, CODE), 0);
	LOAD(ctx, CODE, 0xf4);
	run_to(v, &x, VM_EXITCODE_HLT);
	assert_int_equal(vm_kick(v), 0);
	run_to(v, &x, VM_EXITCODE_BOGUS);
	vm_destroy(ctx);
}

static void
test_a_triple_fault(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};

	(void)state;
	assert_int_equal(vm_set_desc(v, VM_REG_GUEST_IDTR, 0, 0, 0), 0);
	LOAD(ctx, CODE, 0x0f, 0x0b); /* ud2 */
	run_to(v, &x, VM_EXITCODE_SUSPENDED);
	assert_int_equal(x.u.suspended.how, VM_SUSPEND_FAULT);
	vm_destroy(ctx);
}

/* The 8259 in its reset state of a real-mode PC: base 0x20 here, IRQ 4 unmasked, then a pulse from outside.
 */
static void
test_an_isa_interrupt(void **state)
{
	struct vmctx *ctx = make(VM_CREATE_INTC);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};
	int pins = 0;

	(void)state;
	assert_int_equal(vm_ioapic_pincount(ctx, &pins), 0);
	assert_int_equal(pins, 24);
	LOAD(ctx, 0x24 * 4, 0x00, 0x18, 0x00, 0x00);
	LOAD(ctx, 0x1800, 0xe6, 0x66, 0xf4);
	/* ICW1 0x11, ICW2 0x20, ICW3 4, ICW4 1, OCW1 0xef; out %al, $0x67; sti; hlt; jmp . */
	LOAD(ctx, CODE, 0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 4, 0xe6, 0x21, 0xb0, 1, 0xe6,
	     0x21, 0xb0, 0xef, 0xe6, 0x21, 0xe6, 0x67, 0xfb, 0xf4, 0xeb, 0xfe);
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_int_equal(x.u.md.inout.port, 0x67);
	assert_int_equal(vm_isa_assert_irq(ctx, 4, 4), 0);
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_int_equal(x.u.md.inout.port, 0x66);
	assert_int_equal(vm_isa_deassert_irq(ctx, 4, 4), 0);
	assert_int_equal(vm_isa_pulse_irq(ctx, 16, 4), -EINVAL);
	assert_int_equal(vm_ioapic_pulse_irq(ctx, 24), -EINVAL);
	assert_int_equal(vm_lapic_irq(v, 3), -EINVAL);
	assert_int_equal(vm_lapic_msi(ctx, 0x1000, 0), -EINVAL);
	vm_destroy(ctx);
}

static void
test_the_dirty_log(void **state)
{
	static const unsigned flags[] = {0, VM_CREATE_DIRTY_RING};

	(void)state;
	for (size_t n = 0; n < 2; n++) {
		struct vmctx *ctx = make(flags[n]);
		struct vcpu *v = real_mode(ctx);
		struct vmexit x = {0};
		uint8_t map[64] = {0xff}, one = 1;

		/* 1: movb %al, 0x5000; movb 0x6000, %bl; out %al, $1; jmp 1b */
		LOAD(ctx, CODE, 0xa2, 0x00, 0x50, 0x8a, 0x1e, 0x00, 0x60, 0xe6, 0x01, 0xeb, 0xf5);
		run_to(v, &x, VM_EXITCODE_INOUT); /* the page may be written with no further notice */
		assert_int_equal(vm_dirty_log_start(ctx), 0);
		assert_int_equal(vm_dirty_log_start(ctx), -EALREADY);
		assert_int_equal(vm_dirty_log_fetch(ctx, 0, map, sizeof(map)), 0);
		for (unsigned round = 0; round < 3; round++) {
			run_to(v, &x, VM_EXITCODE_INOUT);
			assert_int_equal(vm_write_gpa(ctx, 0x9000, &one, 1), 0);
			assert_int_equal(vm_dirty_log_fetch(ctx, 0, map, sizeof(map)), 0);
			assert_int_equal(map[0], 1 << 5);
			assert_int_equal(map[1], 1 << 1);
			assert_int_equal(vm_dirty_log_fetch(ctx, 0, map, sizeof(map)), 0);
			assert_int_equal(map[0] | map[1], 0);
		}
		assert_int_equal(vm_dirty_log_stop(ctx), 0);
		vm_destroy(ctx);
	}
}

enum { ROUNDS = 40, PAGES = RAM / 4096 };

/*
 * The law of the log: a page whose contents differ between two fetches is in the second. A guest writes
 * bytes, words and strings all over, in ways that it chooses itself by a generator; the program watches
 * contents.
 */
static void
test_the_dirty_law(void **state)
{
	static uint8_t before[RAM];
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	struct vmexit x = {0};
	uint8_t map[PAGES / 8];
	unsigned changed = 0, told = 0;

	(void)state;
	/*
	 * 0: movw $5, %si
	 * 3: imul $25173, %ax, %ax; addw $13849, %ax; movw %ax, %di; orw $0x2000, %di; movb %al, (%di); incw
	 * (%di); lock addb $3, (%di); movw $3, %cx; cld; rep stosw; decw %si; jnz 3; out %al, $1; jmp 0
	 */
	LOAD(ctx, CODE, 0xbe, 0x05, 0x00,		     /* 0: movw $5, %si */
	     0x69, 0xc0, 0x55, 0x62, 0x05, 0x19, 0x36,	     /* 3: */
	     0x89, 0xc7, 0x81, 0xcf, 0x00, 0x20, 0x88, 0x05, /* */
	     0xff, 0x05, 0xf0, 0x80, 0x05, 0x03,	     /* */
	     0xb9, 0x03, 0x00, 0xfc, 0xf3, 0xab,	     /* */
	     0x4e, 0x75, 0xe2, 0xe6, 0x01, 0xeb, 0xdb);	     /* decw %si; jnz 3; out; jmp 0 */
	assert_int_equal(vm_set_register(v, VM_REG_GUEST_RAX, 12345), 0);
	run_to(v, &x, VM_EXITCODE_INOUT);
	assert_int_equal(vm_dirty_log_start(ctx), 0);
	memcpy(before, vm_map_gpa(ctx, 0, RAM), RAM);
	for (unsigned round = 0; round < ROUNDS; round++) {
		const uint8_t *now = vm_map_gpa(ctx, 0, RAM);

		run_to(v, &x, VM_EXITCODE_INOUT);
		assert_int_equal(vm_dirty_log_fetch(ctx, 0, map, sizeof(map)), 0);
		for (unsigned page = 0; page < PAGES; page++) {
			bool in_log = map[page / 8] >> (page % 8) & 1;
			bool differs = memcmp(before + page * 4096, now + page * 4096, 4096) != 0;

			if (differs && !in_log)
				fail_msg("round %u: page %u changed and is not in the log", round, page);
			changed += differs;
			told += in_log;
		}
		memcpy(before, now, RAM);
	}
	assert_true(changed >= ROUNDS);
	assert_true(told < 2 * changed + 2 * ROUNDS); /* it is no log if it names them all */
	vm_destroy(ctx);
}

static void
count_stat(void *arg, const char *name, uint64_t value)
{
	(void)value;
	assert_non_null(name);
	++*(unsigned *)arg;
}

static void
test_statistics_and_capabilities(void **state)
{
	struct vmctx *ctx = make(0);
	struct vcpu *v = real_mode(ctx);
	unsigned count = 0;
	int val;

	(void)state;
	assert_int_equal(vm_get_stats(v, count_stat, &count), 0);
	assert_true(count > 5);
	for (int n = 0; n < VM_CAP_MAX; n++) {
		assert_int_equal(vm_capability_name2type(vm_capability_type2name(n)), n);
		assert_int_equal(vm_get_capability(v, n, &val), 0);
	}
	assert_int_equal(vm_capability_name2type("nothing"), -1);
	assert_null(vm_capability_type2name(-1));
	vm_destroy(ctx);
}

static void
test_two_vms(void **state)
{
	struct vmctx *a = make(0), *b = make(0);
	struct vcpu *va = real_mode(a), *vb = real_mode(b);
	struct vmexit xa = {0}, xb = {0};

	(void)state;
	LOAD(a, CODE, 0xe6, 0x11, 0xf4);
	LOAD(b, CODE, 0xe6, 0x22, 0xf4);
	run_to(va, &xa, VM_EXITCODE_INOUT);
	run_to(vb, &xb, VM_EXITCODE_INOUT);
	assert_int_equal(xa.u.md.inout.port, 0x11);
	assert_int_equal(xb.u.md.inout.port, 0x22);
	vm_destroy(a);
	run_to(vb, &xb, VM_EXITCODE_HLT);
	vm_vcpu_close(vb);
	assert_non_null(vm_vcpu_open(b, 0));
	vm_destroy(b);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nothing_at_all),   cmocka_unit_test(test_creation_refuses),
	    cmocka_unit_test(test_wrong_arguments),  cmocka_unit_test(test_memory),
	    cmocka_unit_test(test_registers),	     cmocka_unit_test(test_ports_and_devices),
	    cmocka_unit_test(test_an_exception),     cmocka_unit_test(test_an_nmi),
	    cmocka_unit_test(test_suspension),	     cmocka_unit_test(test_a_triple_fault),
	    cmocka_unit_test(test_an_isa_interrupt), cmocka_unit_test(test_the_dirty_log),
	    cmocka_unit_test(test_the_dirty_law),    cmocka_unit_test(test_statistics_and_capabilities),
	    cmocka_unit_test(test_two_vms),
	};

	engine = argc > 1 ? argv[1] : "auto";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
