/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt controllers that the engine has in the host's kernel: the wires from the board's models to them.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "board/internal.h"

static struct vmctx *
vm_of(void *ctx)
{
	return ((struct board *)ctx)->vm;
}

/* ---- local APICs ---- */

static bool
send_msi(void *ctx, uint64_t addr, uint32_t data)
{
	return vmctx_msi(vm_of(ctx), addr, data);
}

static int
get_apic(void *ctx, unsigned cpu, struct x86_apic *a)
{
	return vcpu_get_apic(cpus_vcpu(((struct board *)ctx)->cpus, cpu), a);
}

static int
set_apic(void *ctx, unsigned cpu, const struct x86_apic *a)
{
	return vcpu_set_apic(cpus_vcpu(((struct board *)ctx)->cpus, cpu), a);
}

/* ---- the I/O APIC and the 8259s ---- */

static void
ioapic_line(void *ctx, unsigned pin, bool level)
{
	vmctx_ioapic_line(vm_of(ctx), pin, level);
}

static int
get_ioapic(void *ctx, struct x86_ioapic *io)
{
	return vmctx_get_ioapic(vm_of(ctx), io);
}

static int
set_ioapic(void *ctx, const struct x86_ioapic *io)
{
	return vmctx_set_ioapic(vm_of(ctx), io);
}

static void
pic_line(void *ctx, unsigned irq, bool level)
{
	vmctx_pic_line(vm_of(ctx), irq, level);
}

static int
get_pic(void *ctx, struct x86_pic pic[2])
{
	return vmctx_get_pic(vm_of(ctx), pic);
}

static int
set_pic(void *ctx, const struct x86_pic pic[2])
{
	return vmctx_set_pic(vm_of(ctx), pic);
}

/* ---- the 8254 ---- */

static int
get_pit(void *ctx, struct x86_pit *pit)
{
	return vmctx_get_pit(vm_of(ctx), pit);
}

static int
set_pit(void *ctx, const struct x86_pit *pit)
{
	return vmctx_set_pit(vm_of(ctx), pit);
}

void
board_remote_init(struct board *b)
{
	b->lapic_remote = (struct lapic_remote){send_msi, get_apic, set_apic, b};
	b->ioapic_remote = (struct ioapic_remote){ioapic_line, get_ioapic, set_ioapic, b};
	b->pic_remote = (struct pic_remote){pic_line, get_pic, set_pic, b};
	b->pit_remote = (struct pit_remote){get_pit, set_pit, b};
}

/* ---- what goes to them though the I/O APIC is here ---- */

void
board_remote_pins(void *ctx, const struct x86_pin_message *pin, unsigned count)
{
	int ret = vmctx_set_pins(vm_of(ctx), pin, count);

	if (ret != 0)
		log_error("ioapic: no routes for %u pins: %s", count, strerror(-ret));
}

/* Where the engine has none, each write exits: the device need not know. */
void
board_remote_doorbell(void *ctx, uint64_t gpa, int fd, bool add)
{
	(void)vmctx_doorbell(vm_of(ctx), gpa, fd, add);
}

int
board_remote_irqfd(void *ctx, int fd, uint64_t addr, uint32_t data, bool add)
{
	if (add && !lapic_msi_plain(&addr, &data))
		return -EINVAL;
	return vmctx_irqfd(vm_of(ctx), fd, addr, data, add);
}
