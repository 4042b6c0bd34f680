/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Routes of KVM's GSIs, and eventfds that signal one. KVM takes the whole table at once.
 *
 * Split: 0 to 23 are the caller's I/O APIC pins; a level-triggered one has the message that it sends as its
 * route, by which KVM knows whose EOIs to hand up.
 *
 * Kernel: 1 to 23 are KVM's I/O APIC pins, PIN0_GSI pin 0, PIC_GSI on the 8259s' lines, so that the caller
 * wires ISA lines to both as its board does. KVM's 8254 raises GSI 0, which is both. It also waits for the
 * ends of those interrupts by that number, and of a pin's routes KVM looks at the one that came last.
 *
 * MSI_GSI on: messages that eventfds send.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include "base/util.h"

enum { PIC_GSI = 32, PIN0_GSI = 48, MSI_GSI = 64, MSI_ROUTES = 256 };
enum { CHIP_PINS = 8, PIT_PIN = 2 };
enum { ROUTES = X86_IOAPIC_PINS + X86_PIC_LINES + 2 + MSI_ROUTES };

struct kvm_msi_route {
	bool used;
	int fd;
	uint64_t addr;
	uint32_t data;
};

struct routing {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entry[ROUTES];
};

/* Bits 11:5 of the address are destination bits 14:8; KVM wants those above the low 8 in the upper half. */
void
kvm_msi_address(uint64_t addr, uint32_t *low, uint32_t *high)
{
	*low = (uint32_t)addr & ~0xfe0u;
	*high = (uint32_t)(bits(addr, 5, 7) << 8);
}

static void
add_message(struct routing *t, unsigned gsi, uint64_t addr, uint32_t data)
{
	struct kvm_irq_routing_entry *e = &t->entry[t->head.nr++];

	*e = (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI};
	kvm_msi_address(addr, &e->u.msi.address_lo, &e->u.msi.address_hi);
	e->u.msi.data = data;
}

static void
add_chip_pin(struct routing *t, unsigned gsi, unsigned chip, unsigned pin)
{
	t->entry[t->head.nr++] = (struct kvm_irq_routing_entry){
	    .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {.irqchip = chip, .pin = pin}};
}

unsigned
kvm_ioapic_gsi(unsigned pin)
{
	return pin == 0 ? PIN0_GSI : pin;
}

unsigned
kvm_pic_gsi(unsigned line)
{
	return PIC_GSI + line;
}

static void
add_chips(struct routing *t)
{
	for (unsigned n = 0; n < X86_IOAPIC_PINS; n++)
		add_chip_pin(t, kvm_ioapic_gsi(n), KVM_IRQCHIP_IOAPIC, n);
	for (unsigned n = 0; n < X86_PIC_LINES; n++)
		add_chip_pin(t, kvm_pic_gsi(n),
			     n < CHIP_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, n % CHIP_PINS);
	add_chip_pin(t, 0, KVM_IRQCHIP_PIC_MASTER, 0);
	add_chip_pin(t, 0, KVM_IRQCHIP_IOAPIC, PIT_PIN);
}

/* Lock held, but for the first time. */
static int
apply(const struct kvm_vm *vm)
{
	struct routing t = {0};

	if (vm->apic == ENGINE_APIC_KERNEL)
		add_chips(&t);
	for (unsigned n = 0; n < vm->routes.pins; n++)
		add_message(&t, vm->routes.pin[n].pin, vm->routes.pin[n].addr, vm->routes.pin[n].data);
	for (unsigned n = 0; vm->routes.msi != NULL && n < MSI_ROUTES; n++) {
		const struct kvm_msi_route *m = &vm->routes.msi[n];

		if (m->used)
			add_message(&t, MSI_GSI + n, m->addr, m->data);
	}
	return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &t);
}

int
kvm_routes_init(struct kvm_vm *vm)
{
	return apply(vm);
}

void
kvm_routes_destroy(struct kvm_vm *vm)
{
	free(vm->routes.msi);
}

int
kvm_set_pins(struct engine_vm *v, const struct x86_pin_message *pin, unsigned count)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int r;

	pthread_mutex_lock(&vm->routes.lock);
	vm->routes.pins = MIN(count, (unsigned)X86_IOAPIC_PINS);
	for (unsigned n = 0; n < vm->routes.pins; n++)
		vm->routes.pin[n] = pin[n];
	r = apply(vm);
	pthread_mutex_unlock(&vm->routes.lock);
	return r;
}

/* ---- eventfds: lock held ---- */

static int
attach(const struct kvm_vm *vm, const struct kvm_msi_route *m, bool add)
{
	struct kvm_irqfd q = {.fd = (uint32_t)m->fd,
			      .gsi = (uint32_t)(MSI_GSI + (m - vm->routes.msi)),
			      .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN};

	return kvm_ioctl(vm->fd, KVM_IRQFD, &q);
}

static struct kvm_msi_route *
find(const struct kvm_vm *vm, bool used, int fd)
{
	for (unsigned n = 0; vm->routes.msi != NULL && n < MSI_ROUTES; n++) {
		struct kvm_msi_route *m = &vm->routes.msi[n];

		if (m->used == used && (!used || m->fd == fd))
			return m;
	}
	return NULL;
}

static int
add_irqfd(struct kvm_vm *vm, int fd, uint64_t addr, uint32_t data)
{
	struct kvm_msi_route *m;
	int r;

	if (vm->routes.msi == NULL)
		vm->routes.msi = calloc(MSI_ROUTES, sizeof(*vm->routes.msi));
	if (vm->routes.msi == NULL)
		return -ENOMEM;
	if (find(vm, true, fd) != NULL)
		return -EEXIST;
	m = find(vm, false, fd);
	if (m == NULL)
		return -ENOSPC;
	*m = (struct kvm_msi_route){true, fd, addr, data};
	r = apply(vm);
	if (r == 0)
		r = attach(vm, m, true);
	m->used = r == 0;
	vm->routes.irqfds += r == 0;
	return r;
}

/* KVM waits for what it has begun to send. The route stays until the table changes: nothing takes it. */
static int
remove_irqfd(struct kvm_vm *vm, int fd)
{
	struct kvm_msi_route *m = find(vm, true, fd);

	if (m == NULL)
		return -ENOENT;
	m->used = false;
	return attach(vm, m, false);
}

int
kvm_set_irqfd(struct engine_vm *v, int fd, uint64_t addr, uint32_t data, bool add)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	int r;

	if (!kvm_has_apic(vm) || !vm->dev.irqfd)
		return -ENOTSUP;
	pthread_mutex_lock(&vm->routes.lock);
	r = add ? add_irqfd(vm, fd, addr, data) : remove_irqfd(vm, fd);
	pthread_mutex_unlock(&vm->routes.lock);
	return r;
}

uint64_t
kvm_irqfds_added(struct kvm_vm *vm)
{
	uint64_t n;

	pthread_mutex_lock(&vm->routes.lock);
	n = vm->routes.irqfds;
	pthread_mutex_unlock(&vm->routes.lock);
	return n;
}
