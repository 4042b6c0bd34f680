/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt controllers in KVM: the local APICs (split), or the I/O APIC and the 8259s as well (kernel).
 * Their state goes in and out in architectural form (x86/apic.h). What goes where is in routes.c.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"

/* Where KVM has its I/O APIC. */
enum { IOAPIC_GPA = 0xfec00000u, IOAPIC_BYTES = 0x100 };
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, PAGE_ID = 0x20, PAGE_REGS = 0xff0 };

#define BASE_EXTD BIT(10)
#define BASE_ADDR 0x000ffffffffff000ull

/* ---- making them ---- */

static int
make_kernel(struct kvm_vm *vm)
{
	int r = kvm_ioctl_n(vm->fd, KVM_CREATE_IRQCHIP, 0);

	if (r == 0)
		r = kvm_routes_init(vm);
	return r != 0 ? r : kvm_pit_init(vm);
}

static enum engine_apic
settle(const struct kvm_vm *vm)
{
	if (vm->cfg.apic != ENGINE_APIC_AUTO)
		return vm->cfg.apic;
	return vm->dev.split && !vm->no_hardware && vm->cfg.trace.path == NULL ? ENGINE_APIC_SPLIT
									       : ENGINE_APIC_USER;
}

int
kvm_irqchip_init(struct kvm_vm *vm, struct err *err)
{
	int r = 0;

	vm->apic = settle(vm);
	if (vm->apic == ENGINE_APIC_USER)
		return 0;
	if (!(vm->apic == ENGINE_APIC_SPLIT ? vm->dev.split : vm->dev.irqchip && vm->dev.pit))
		return err_set(
		    err, ENOTSUP,
		    "kvm: this kernel's KVM lacks interrupt controllers of this kind (use x86.apic=user)");
	r = kvm_enable_cap(vm->fd, KVM_CAP_X2APIC_API,
			   KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	if (r == 0)
		r = vm->apic == ENGINE_APIC_SPLIT
			? kvm_enable_cap(vm->fd, KVM_CAP_SPLIT_IRQCHIP, X86_IOAPIC_PINS)
			: make_kernel(vm);
	return r == 0 ? 0 : err_set(err, -r, "kvm: no interrupt controllers: %s", strerror(-r));
}

static enum engine_apic
accel_apic(struct engine_vm *v)
{
	return kvm_vm_of(v)->apic;
}

/* ---- messages and lines ---- */

static bool
accel_msi(struct engine_vm *v, uint64_t addr, uint32_t data)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	struct kvm_msi m = {.data = data};

	kvm_msi_address(addr, &m.address_lo, &m.address_hi);
	return kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &m) > 0;
}

static void
line(struct kvm_vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level l = {.irq = gsi, .level = level};
	int r = kvm_ioctl(vm->fd, KVM_IRQ_LINE, &l);

	LH_ASSERT(r >= 0);
}

static void
accel_ioapic_line(struct engine_vm *v, unsigned pin, bool level)
{
	if (pin < X86_IOAPIC_PINS)
		line(kvm_vm_of(v), kvm_ioapic_gsi(pin), level);
}

static void
accel_pic_line(struct engine_vm *v, unsigned n, bool level)
{
	if (n < X86_PIC_LINES)
		line(kvm_vm_of(v), kvm_pic_gsi(n), level);
}

/* ---- state of the I/O APIC ---- */

static int
accel_get_ioapic(struct engine_vm *v, struct x86_ioapic *io)
{
	struct kvm_irqchip k = {.chip_id = KVM_IRQCHIP_IOAPIC};
	const struct kvm_ioapic_state *s = &k.chip.ioapic;
	int r = kvm_ioctl(kvm_vm_of(v)->fd, KVM_GET_IRQCHIP, &k);

	*io = (struct x86_ioapic){.id = (s->id & 15) << 24, .select = s->ioregsel, .lines = s->irr};
	for (unsigned n = 0; n < X86_IOAPIC_PINS; n++)
		io->redir[n] = s->redirtbl[n].bits;
	return r;
}

static int
accel_set_ioapic(struct engine_vm *v, const struct x86_ioapic *io)
{
	struct kvm_irqchip k = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_ioapic_state *s = &k.chip.ioapic;
	int r = kvm_ioctl(kvm_vm_of(v)->fd, KVM_GET_IRQCHIP, &k);

	s->id = io->id >> 24;
	s->ioregsel = io->select;
	s->irr = io->lines;
	for (unsigned n = 0; n < X86_IOAPIC_PINS; n++)
		s->redirtbl[n].bits = io->redir[n];
	return r != 0 ? r : kvm_ioctl(kvm_vm_of(v)->fd, KVM_SET_IRQCHIP, &k);
}

/* ---- state of the 8259s ---- */

static void
pic_out(const struct kvm_pic_state *k, struct x86_pic *p)
{
	*p = (struct x86_pic){
	    .lines = k->last_irr | (k->irr & k->elcr),
	    .latched = k->irr & ~k->elcr,
	    .isr = k->isr,
	    .imr = k->imr,
	    .elcr = k->elcr,
	    .vector_base = k->irq_base,
	    .lowest = (k->priority_add + 7) & 7,
	    .init = k->init_state,
	    .want_icw4 = k->init4,
	    .aeoi = k->auto_eoi,
	    .rotate_aeoi = k->rotate_on_auto_eoi,
	    .sfnm = k->special_fully_nested_mode,
	    .smm = k->special_mask,
	    .poll = k->poll,
	    .read_isr = k->read_reg_select,
	};
}

static void
pic_in(struct kvm_pic_state *k, const struct x86_pic *p)
{
	uint8_t mask = k->elcr_mask;

	*k = (struct kvm_pic_state){
	    .last_irr = p->lines & (uint8_t)~p->elcr,
	    .irr = (p->latched & ~p->elcr) | (p->lines & p->elcr),
	    .imr = p->imr,
	    .isr = p->isr,
	    .priority_add = (p->lowest + 1) & 7,
	    .irq_base = p->vector_base,
	    .read_reg_select = p->read_isr,
	    .poll = p->poll,
	    .special_mask = p->smm,
	    .init_state = p->init,
	    .auto_eoi = p->aeoi,
	    .rotate_on_auto_eoi = p->rotate_aeoi,
	    .special_fully_nested_mode = p->sfnm,
	    .init4 = p->want_icw4,
	    .elcr = p->elcr,
	    .elcr_mask = mask,
	};
}

static int
accel_get_pic(struct engine_vm *v, struct x86_pic pic[2])
{
	int r = 0;

	for (unsigned n = 0; r == 0 && n < 2; n++) {
		struct kvm_irqchip k = {.chip_id = n == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE};

		r = kvm_ioctl(kvm_vm_of(v)->fd, KVM_GET_IRQCHIP, &k);
		pic_out(&k.chip.pic, &pic[n]);
	}
	return r;
}

static int
accel_set_pic(struct engine_vm *v, const struct x86_pic pic[2])
{
	int r = 0;

	for (unsigned n = 0; r == 0 && n < 2; n++) {
		struct kvm_irqchip k = {.chip_id = n == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE};

		r = kvm_ioctl(kvm_vm_of(v)->fd, KVM_GET_IRQCHIP, &k);
		pic_in(&k.chip.pic, &pic[n]);
		if (r == 0)
			r = kvm_ioctl(kvm_vm_of(v)->fd, KVM_SET_IRQCHIP, &k);
	}
	return r;
}

/* ---- state of a local APIC ---- */

_Static_assert(sizeof(struct kvm_lapic_state) == X86_APIC_PAGE_BYTES, "KVM's form is the page");

static int
msr(struct kvm_cpu *c, unsigned long request, uint32_t index, uint64_t *val)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} b = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = *val}};
	int r = kvm_ioctl(c->fd, request, &b);

	*val = b.entry.data;
	return r == 1 ? 0 : r < 0 ? r : -EINVAL;
}

static int
apic_get(struct kvm_cpu *c, struct x86_apic *a)
{
	struct kvm_lapic_state page;
	struct kvm_sregs2 k;
	int r = kvm_sregs_get(c, &k);

	memset(a, 0, sizeof(*a));
	if (r == 0)
		r = kvm_ioctl(c->fd, KVM_GET_LAPIC, &page);
	if (r != 0)
		return r;
	a->base = k.apic_base;
	memcpy(a->page, page.regs, sizeof(a->page));
	return msr(c, KVM_GET_MSRS, MSR_TSC_DEADLINE, &a->tsc_deadline);
}

/* The base first: it says of which mode the page is. A deadline is taken in deadline mode only: last. */
static int
apic_set(struct kvm_cpu *c, const struct x86_apic *a)
{
	struct kvm_lapic_state page;
	uint64_t deadline = a->tsc_deadline;
	int r = kvm_set_apic_base(c, a->base);

	memcpy(page.regs, a->page, sizeof(page.regs));
	if (r == 0)
		r = kvm_ioctl(c->fd, KVM_SET_LAPIC, &page);
	if (r == 0 && deadline != 0)
		r = msr(c, KVM_SET_MSRS, MSR_TSC_DEADLINE, &deadline);
	return r;
}

static int
accel_get_apic(struct engine_vcpu *v, struct x86_apic *a)
{
	return apic_get(kvm_cpu_of(v), a);
}

static int
accel_set_apic(struct engine_vcpu *v, const struct x86_apic *a)
{
	return apic_set(kvm_cpu_of(v), a);
}

void
kvm_apic_deadline_moved(struct kvm_cpu *c)
{
	uint64_t deadline = 0;

	if (msr(c, KVM_GET_MSRS, MSR_TSC_DEADLINE, &deadline) == 0 && deadline != 0)
		(void)msr(c, KVM_SET_MSRS, MSR_TSC_DEADLINE, &deadline);
}

/* ---- activity ---- */

int
kvm_activity_get(struct kvm_cpu *c, uint8_t *activity)
{
	struct kvm_mp_state m;
	int r = kvm_ioctl(c->fd, KVM_GET_MP_STATE, &m);

	if (r != 0)
		return r;
	switch (m.mp_state) {
	case KVM_MP_STATE_HALTED:
		*activity = ACT_HALTED;
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
		*activity = ACT_WAIT_SIPI;
		break;
	default:
		*activity = ACT_RUNNING;
		break;
	}
	return 0;
}

int
kvm_activity_set(struct kvm_cpu *c, uint8_t activity)
{
	struct kvm_mp_state m = {.mp_state = activity == ACT_HALTED	 ? KVM_MP_STATE_HALTED
					     : activity == ACT_WAIT_SIPI ? KVM_MP_STATE_INIT_RECEIVED
									 : KVM_MP_STATE_RUNNABLE};

	return kvm_ioctl(c->fd, KVM_SET_MP_STATE, &m);
}

/* ---- what the interpreter wants of the controllers in KVM ---- */

/* The 8259s, their ELCR, the 8254 and port 0x61. */
static bool
is_kernel_port(const struct kvm_vm *vm, uint16_t port)
{
	uint16_t pair = (uint16_t)(port & ~1u);

	return vm->apic == ENGINE_APIC_KERNEL &&
	       (pair == 0x20 || pair == 0xa0 || pair == 0x4d0 || (port & ~3u) == 0x40 || port == 0x61);
}

static bool
is_kernel_ioapic(const struct kvm_vm *vm, uint64_t gpa)
{
	return vm->apic == ENGINE_APIC_KERNEL && gpa >= IOAPIC_GPA && gpa < IOAPIC_GPA + IOAPIC_BYTES;
}

static bool
in_page(struct kvm_cpu *c, uint64_t gpa)
{
	struct kvm_sregs2 k;

	return kvm_sregs_get(c, &k) == 0 && (gpa & ~0xfffull) == (k.apic_base & BASE_ADDR) &&
	       !(k.apic_base & BASE_EXTD);
}

bool
kvm_apic_owns(struct kvm_cpu *c, const struct vm_exit *x)
{
	switch (x->kind) {
	case VM_EXIT_RDMSR:
	case VM_EXIT_WRMSR:
	case VM_EXIT_CR8_READ:
	case VM_EXIT_CR8:
		return true;
	case VM_EXIT_MMIO:
		return is_kernel_ioapic(c->vm, x->u.mmio.gpa) || in_page(c, x->u.mmio.gpa);
	case VM_EXIT_IO:
		return is_kernel_port(c->vm, x->u.io.port);
	default:
		return false;
	}
}

/* A read by the page; a write has effects that only the guest's own access has: KVM must run it. It has
 * refused the `first` instruction of a burst already. */
static bool
answer_mmio(struct kvm_cpu *c, struct vm_exit *x, bool first)
{
	struct kvm_lapic_state page;
	unsigned off = x->u.mmio.gpa & PAGE_REGS;

	if (x->u.mmio.write) {
		if (first)
			log_guest("vcpu %u: a write to its APIC that KVM cannot do is dropped", c->id);
		return first;
	}
	x->u.mmio.data = 0;
	if (off < sizeof(page.regs) && kvm_ioctl(c->fd, KVM_GET_LAPIC, &page) == 0)
		memcpy(&x->u.mmio.data, page.regs + off, 4);
	return true;
}

/* The other controllers' registers have effects when they are read, too. */
static bool
answer_other(struct kvm_cpu *c, struct vm_exit *x, bool first)
{
	if (!first)
		return false;
	log_guest("vcpu %u: an access to an interrupt controller that KVM cannot do is dropped", c->id);
	if (x->kind == VM_EXIT_IO && !x->u.io.write)
		x->u.io.data = ~0u;
	else if (x->kind == VM_EXIT_MMIO && !x->u.mmio.write)
		x->u.mmio.data = ~0ull;
	return true;
}

bool
kvm_apic_answer(struct kvm_cpu *c, struct vm_exit *x, bool first)
{
	switch (x->kind) {
	case VM_EXIT_CR8: /* it goes back with the state */
		c->cr8 = x->u.cr8 & 15;
		return true;
	case VM_EXIT_CR8_READ:
		x->u.cr8 = c->cr8;
		return true;
	case VM_EXIT_RDMSR:
		x->u.msr.fault = msr(c, KVM_GET_MSRS, x->u.msr.index, &x->u.msr.val) != 0;
		return true;
	case VM_EXIT_WRMSR:
		x->u.msr.fault = msr(c, KVM_SET_MSRS, x->u.msr.index, &x->u.msr.val) != 0;
		return true;
	case VM_EXIT_MMIO:
		return is_kernel_ioapic(c->vm, x->u.mmio.gpa) ? answer_other(c, x, first)
							      : answer_mmio(c, x, first);
	default:
		return answer_other(c, x, first);
	}
}

/* ---- doorbells ---- */

static int
accel_doorbell(struct engine_vm *v, uint64_t gpa, int fd, bool add)
{
	struct kvm_ioeventfd e = {.addr = gpa, .fd = fd, .flags = add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};

	return kvm_ioctl(kvm_vm_of(v)->fd, KVM_IOEVENTFD, &e);
}

const struct engine_accel kvm_accel = {
    .apic = accel_apic,
    .msi = accel_msi,
    .pins = kvm_set_pins,
    .ioapic_line = accel_ioapic_line,
    .pic_line = accel_pic_line,
    .get_ioapic = accel_get_ioapic,
    .set_ioapic = accel_set_ioapic,
    .get_pic = accel_get_pic,
    .set_pic = accel_set_pic,
    .get_pit = kvm_get_pit,
    .set_pit = kvm_set_pit,
    .get_apic = accel_get_apic,
    .set_apic = accel_set_apic,
    .doorbell = accel_doorbell,
    .irqfd = kvm_set_irqfd,
};
