/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt controllers and the 8254 in KVM: state in and out, messages by call and by eventfd, ticks. */
#include "tests/unit/kvm_util.h"

/* A VM of its own, whose controllers are KVM's. */
static struct engine_vm *
vm_with(struct rig *r, enum engine_apic apic, struct engine_vcpu **v)
{
	const struct engine_vm_cfg cfg = {
	    .maxcpus = 1, .strict_msr = true, .mem = r->mem, .clock = r->clock, .apic = apic};
	struct err err = {0};
	struct engine_vm *vm = engine_kvm.vm_create(&cfg, &err);

	if (vm == NULL) {
		print_message("%s\n", err.msg);
		skip();
	}
	assert_int_equal(engine_kvm.accel->apic(vm), apic);
	*v = engine_kvm.vcpu_create(vm, 0, &r->cpuid, &err);
	if (*v == NULL)
		fail_msg("%s", err.msg);
	return vm;
}

enum { PAGE_TPR = 0x80, PAGE_SVR = 0xf0, PAGE_IRR = 0x200, PAGE_LINT0 = 0x350, PAGE_DIVIDE = 0x3e0 };

static void
test_apic_state(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_SPLIT, &v);
	const struct engine_accel *a = engine_kvm.accel;
	struct x86_apic apic, back;

	assert_int_equal(a->get_apic(v, &apic), 0);
	assert_int_equal(apic.base & ~0x100ull, 0xfee00800); /* on, at its place */
	put_le32(apic.page + PAGE_TPR, 0x20);
	put_le32(apic.page + PAGE_SVR, 0x1ff);
	put_le32(apic.page + PAGE_LINT0, 0x700);
	put_le32(apic.page + PAGE_DIVIDE, 3);
	assert_int_equal(a->set_apic(v, &apic), 0);
	assert_int_equal(a->get_apic(v, &back), 0);
	assert_int_equal(back.base, apic.base);
	assert_int_equal(get_le32(back.page + PAGE_TPR), 0x20);
	assert_int_equal(get_le32(back.page + PAGE_SVR), 0x1ff);
	assert_int_equal(get_le32(back.page + PAGE_LINT0), 0x700);
	assert_int_equal(get_le32(back.page + PAGE_DIVIDE), 3);
	/* A message to it, and one to nobody. */
	assert_true(a->msi(vm, 0xfee00000, 0x45));
	assert_false(a->msi(vm, 0xfee07000, 0x46));
	assert_int_equal(a->get_apic(v, &back), 0);
	assert_int_equal(get_le32(back.page + PAGE_IRR + 0x20), 1 << 5);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

static void
test_ioapic_state(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_KERNEL, &v);
	const struct engine_accel *a = engine_kvm.accel;
	struct x86_ioapic io, back;

	assert_int_equal(a->get_ioapic(vm, &io), 0);
	assert_int_equal(io.redir[5], 0x10000); /* masked, as after a reset */
	io.redir[5] = 0x1000000000018045;	/* level, masked */
	io.id = 3 << 24;
	io.select = 0x11;
	assert_int_equal(a->set_ioapic(vm, &io), 0);
	assert_int_equal(a->get_ioapic(vm, &back), 0);
	assert_memory_equal(&io, &back, sizeof(io));
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

static void
test_pic_state(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_KERNEL, &v);
	const struct engine_accel *a = engine_kvm.accel;
	struct x86_pic pic[2] = {{0}}, back[2];

	pic[0].imr = 0xfb;
	pic[0].isr = 4;
	pic[0].vector_base = 0x30;
	pic[0].lowest = 7;
	pic[0].read_isr = true;
	pic[1].imr = 0xfe;
	pic[1].vector_base = 0x38;
	pic[1].lowest = 3;
	pic[1].elcr = 0x0e;
	pic[1].aeoi = true;
	assert_int_equal(a->set_pic(vm, pic), 0);
	assert_int_equal(a->get_pic(vm, back), 0);
	assert_memory_equal(pic, back, sizeof(pic));
	a->pic_line(vm, 9, true); /* a level */
	assert_int_equal(a->get_pic(vm, back), 0);
	assert_int_equal(back[1].lines, 2);
	a->pic_line(vm, 9, false);
	assert_int_equal(a->get_pic(vm, back), 0);
	assert_int_equal(back[1].lines, 0);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

static void
assert_counter(const struct x86_pit_counter *a, const struct x86_pit_counter *b)
{
	assert_int_equal(a->count, b->count);
	assert_int_equal(a->latch, b->latch);
	assert_int_equal(a->latched, b->latched);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->rw, b->rw);
	assert_int_equal(a->write_low, b->write_low);
	assert_int_equal(a->status, b->status);
	assert_int_equal(a->bcd, b->bcd);
	assert_int_equal(a->gate, b->gate);
	assert_int_equal(a->status_latched, b->status_latched);
	assert_int_equal(a->write_high_next, b->write_high_next);
	assert_int_equal(a->read_high_next, b->read_high_next);
}

static void
test_pit_state(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_KERNEL, &v);
	const struct engine_accel *a = engine_kvm.accel;
	const struct x86_pit reset = {
	    .counter = {{.rw = 3, .gate = true}, {.rw = 3, .gate = true}, {.rw = 3}}};
	const struct x86_pit busy = {
	    .counter = {{.count = 0x10000,
			 .latch = 0x1234,
			 .latched = 1,
			 .mode = 2,
			 .rw = 3,
			 .write_low = 0x56,
			 .gate = true,
			 .write_high_next = true,
			 .read_high_next = true},
			{.count = 18, .latch = 0x77, .latched = 1, .mode = 3, .rw = 1, .gate = true},
			{.count = 500,
			 .mode = 2,
			 .rw = 2,
			 .status = 0xa4,
			 .latch = 0x100,
			 .latched = 1,
			 .bcd = true,
			 .gate = true,
			 .status_latched = true}},
	    .speaker = true,
	    .hpet = true,
	};
	struct x86_pit back;

	assert_int_equal(a->set_pit(vm, &busy), 0);
	assert_int_equal(a->get_pit(vm, &back), 0);
	for (unsigned n = 0; n < 3; n++)
		assert_counter(&back.counter[n], &busy.counter[n]);
	assert_true(back.hpet);
	assert_int_equal(back.counter[0].elapsed, 0);
	assert_int_equal(a->set_pit(vm, NULL), 0); /* quiet: no counter 0 */
	assert_int_equal(a->get_pit(vm, &back), 0);
	assert_int_equal(back.counter[0].count, 0);
	assert_counter(&back.counter[2], &busy.counter[2]);
	assert_int_equal(a->set_pit(vm, &reset), 0);
	assert_int_equal(a->get_pit(vm, &back), 0);
	assert_int_equal(back.counter[0].count, 0);
	assert_int_equal(back.counter[0].rw, 3);
	assert_false(back.hpet);
	assert_false(back.speaker);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

/* A one-shot that runs is given what is left of it, so that it ends in time. */
static void
test_pit_goes_on(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_KERNEL, &v);
	const struct engine_accel *a = engine_kvm.accel;
	struct x86_pit p = {.counter = {{.count = 5000, .elapsed = 1000, .mode = 4, .rw = 3, .gate = true},
					{.count = 5000, .elapsed = 1000, .mode = 2, .rw = 3, .gate = true},
					{.count = 5000, .elapsed = 9000, .rw = 3, .gate = true}}};

	assert_int_equal(a->set_pit(vm, &p), 0);
	assert_int_equal(a->get_pit(vm, &p), 0);
	assert_int_equal(p.counter[0].count, 4000);
	assert_int_equal(p.counter[1].count, 5000);
	assert_int_equal(p.counter[2].count, 1);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

/* On, and LINT0 takes the 8259s' interrupts. */
static void
wire_apic(struct engine_vcpu *v)
{
	struct x86_apic apic;

	assert_int_equal(engine_kvm.accel->get_apic(v, &apic), 0);
	put_le32(apic.page + PAGE_SVR, 0x1ff);
	put_le32(apic.page + PAGE_LINT0, 0x700);
	assert_int_equal(engine_kvm.accel->set_apic(v, &apic), 0);
}

/* As firmware leaves them; the master's IRQ0 is vector 0x20. */
static void
wire_8259(struct engine_vm *vm, struct engine_vcpu *v)
{
	const struct engine_accel *a = engine_kvm.accel;
	struct x86_pic pic[2] = {{.imr = 0xfe, .vector_base = 0x20, .lowest = 7},
				 {.imr = 0xff, .vector_base = 0x28, .lowest = 7}};

	wire_apic(v);
	assert_int_equal(a->set_pic(vm, pic), 0);
}

static void
run_to_port(struct engine_vcpu *v, struct vm_exit *x, uint16_t port)
{
	engine_kvm.run(v, x);
	if (x->kind == VM_EXIT_UNSUPPORTED)
		fail_msg("%s", x->u.why);
	assert_int_equal(x->kind, VM_EXIT_IO);
	assert_int_equal(x->u.io.port, port);
}

/* The guest programs KVM's 8254, and its ticks come, one after the other's end, at both ends of a stop. */
static void
test_pit_ticks(void **state)
{
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_KERNEL, &v);
	const struct engine_accel *a = engine_kvm.accel;
	const uint32_t vector = 0x1800;
	/* out %al, $0x10; mov $0x20, %al; out %al, $0x20; iret */
	const uint8_t handler[] = {0xe6, 0x10, 0xb0, 0x20, 0xe6, 0x20, 0xcf};
	/* Counter 0: mode 2, 11932 (10 ms). Port 0x61: 3. sti; hlt; jmp back to it */
	const uint8_t code[] = {0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xb0, 0x2e,
				0xe6, 0x40, 0xb0, 0x03, 0xe6, 0x61, 0xfb, 0xf4, 0xeb, 0xfd};
	struct err err = {0};
	struct x86_pit p;
	struct vm_exit x = {.kind = VM_EXIT_INTR};

	wire_8259(vm, v);
	assert_true(gm_write(r->mem, 0x20 * 4, &vector, 4));
	assert_true(gm_write(r->mem, vector, handler, sizeof(handler)));
	assert_true(gm_write(r->mem, CODE, code, sizeof(code)));
	assert_int_equal(engine_kvm.set_state(v, X86_STATE_ALL, &r->s, &err), 0);
	for (unsigned n = 0; n < 3; n++)
		run_to_port(v, &x, 0x10);
	assert_int_equal(a->get_pit(vm, &p), 0);
	assert_int_equal(p.counter[0].mode, 2);
	assert_int_equal(p.counter[0].count, 11932);
	assert_int_equal(p.counter[0].rw, 3);
	assert_true(p.counter[2].gate);
	assert_int_equal(a->set_pit(vm, NULL), 0);
	assert_int_equal(a->set_pit(vm, &p), 0);
	for (unsigned n = 0; n < 3; n++)
		run_to_port(v, &x, 0x10);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

static void
signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* Of vectors 0x40 to 0x5f, those that wait. */
static uint32_t
requests(struct engine_vcpu *v)
{
	struct x86_apic apic;

	assert_int_equal(engine_kvm.accel->get_apic(v, &apic), 0);
	return get_le32(apic.page + PAGE_IRR + 0x20);
}

static void
one_irqfd(struct rig *r, enum engine_apic kind)
{
	const struct x86_pin_message pin = {.pin = 5, .addr = 0xfee00000, .data = 0xc051};
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, kind, &v);
	const struct engine_accel *a = engine_kvm.accel;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0 && other >= 0);
	wire_apic(v);
	assert_int_equal(a->irqfd(vm, fd, 0, 0, false), -ENOENT);
	assert_int_equal(a->irqfd(vm, fd, 0xfee00000, 0x45, true), 0);
	assert_int_equal(a->irqfd(vm, fd, 0xfee00000, 0x46, true), -EEXIST);
	assert_int_equal(a->irqfd(vm, other, 0xfee00000, 0x47, true), 0);
	if (kind == ENGINE_APIC_SPLIT)
		assert_int_equal(a->pins(vm, &pin, 1), 0); /* the table is the same one */
	assert_int_equal(requests(v), 0);
	signal_fd(fd);
	assert_int_equal(a->irqfd(vm, fd, 0, 0, false), 0);
	assert_int_equal(requests(v), 1 << 5);
	signal_fd(fd); /* nobody's any more */
	signal_fd(other);
	assert_int_equal(a->irqfd(vm, other, 0, 0, false), 0);
	assert_int_equal(requests(v), 1 << 5 | 1 << 7);
	assert_int_equal(a->irqfd(vm, other, 0xfee00000, 0x48, true), 0);
	signal_fd(other);
	assert_int_equal(a->irqfd(vm, other, 0, 0, false), 0);
	assert_int_equal(requests(v), 1 << 5 | 1 << 7 | 1 << 8);
	close(fd);
	close(other);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

/* A write to the eventfd is the message, from when it is added until it is taken away. */
static void
test_irqfd(void **state)
{
	struct rig *r = rig_of(state);

	assert_int_equal(engine_kvm.accel->irqfd(r->vm, 0, 0xfee00000, 0x45, true), -ENOTSUP);
	one_irqfd(r, ENGINE_APIC_SPLIT);
	one_irqfd(r, ENGINE_APIC_KERNEL);
}

static void
test_irqfds_run_out(void **state)
{
	enum { MANY = 300 };
	struct rig *r = rig_of(state);
	struct engine_vcpu *v;
	struct engine_vm *vm = vm_with(r, ENGINE_APIC_SPLIT, &v);
	const struct engine_accel *a = engine_kvm.accel;
	int fd[MANY], ret = 0;
	unsigned n, made;

	wire_apic(v);
	for (n = 0; n < MANY && ret == 0; n++) {
		fd[n] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(fd[n] >= 0);
		ret = a->irqfd(vm, fd[n], 0xfee00000, 0x40 + n % 32, true);
	}
	assert_int_equal(ret, -ENOSPC);
	made = n - 1;
	assert_true(made >= 32);
	assert_int_equal(a->irqfd(vm, fd[7], 0, 0, false), 0);
	assert_int_equal(a->irqfd(vm, fd[made], 0xfee00000, 0x59, true), 0); /* one is free again */
	signal_fd(fd[made]);
	signal_fd(fd[made - 1]);
	assert_int_equal(a->irqfd(vm, fd[made], 0, 0, false), 0);
	assert_int_equal(a->irqfd(vm, fd[made - 1], 0, 0, false), 0);
	assert_int_equal(requests(v), 1u << 25 | 1u << (made - 1) % 32);
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
	engine_kvm.vcpu_destroy(v);
	engine_kvm.vm_destroy(vm);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_apic_state),  TEST(test_ioapic_state), TEST(test_pic_state), TEST(test_pit_state),
	    TEST(test_pit_goes_on), TEST(test_pit_ticks),    TEST(test_irqfd),	   TEST(test_irqfds_run_out),
	};

	return cmocka_run_group_tests_name("kvm_irqchip", tests, NULL, NULL);
}
