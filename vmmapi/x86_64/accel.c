/* SPDX-License-Identifier: BSD-2-Clause */
/* For lhyve's board: interrupt controllers and doorbells that the engine may have in a kernel. */
#include <errno.h>
#include "vmmapi/x86_64/md.h"

static const char *const names[] = {"user", "split", "kernel", "auto"};
_Static_assert((int)VM_APIC_USER == ENGINE_APIC_USER && (int)VM_APIC_SPLIT == ENGINE_APIC_SPLIT &&
		   (int)VM_APIC_KERNEL == ENGINE_APIC_KERNEL && (int)VM_APIC_AUTO == ENGINE_APIC_AUTO,
	       "one list of kinds");

int
vmctx_settle_apic(struct vmctx *ctx, enum vm_apic *kind, struct err *err)
{
	const struct engine_accel *a = ctx->ops->accel;
	struct md_ctx *md = md_of(ctx, err);

	if (md == NULL)
		return -err->code;
	if (a == NULL && *kind != VM_APIC_AUTO && *kind != VM_APIC_USER)
		return err_set(err, ENOTSUP,
			       "x86.apic=%s: the %s engine has no interrupt controllers (use user)",
			       names[*kind], ctx->ops->name);
	md->apic = (enum engine_apic) * kind;
	if (vmctx_fix(ctx) != 0) {
		pthread_mutex_lock(&ctx->err_lock);
		err_set(err, ctx->err.code, "%s", ctx->err.text);
		pthread_mutex_unlock(&ctx->err_lock);
		return -err->code;
	}
	*kind = a != NULL ? (enum vm_apic)a->apic(ctx->vm) : VM_APIC_USER;
	return 0;
}

bool
vmctx_msi(struct vmctx *ctx, uint64_t addr, uint32_t data)
{
	return ctx->ops->accel->msi(ctx->vm, addr, data);
}

int
vmctx_set_pins(struct vmctx *ctx, const struct x86_pin_message *pin, unsigned count)
{
	return ctx->ops->accel->pins(ctx->vm, pin, count);
}

void
vmctx_ioapic_line(struct vmctx *ctx, unsigned pin, bool level)
{
	ctx->ops->accel->ioapic_line(ctx->vm, pin, level);
}

void
vmctx_pic_line(struct vmctx *ctx, unsigned line, bool level)
{
	ctx->ops->accel->pic_line(ctx->vm, line, level);
}

int
vmctx_get_ioapic(struct vmctx *ctx, struct x86_ioapic *io)
{
	return ctx->ops->accel->get_ioapic(ctx->vm, io);
}

int
vmctx_set_ioapic(struct vmctx *ctx, const struct x86_ioapic *io)
{
	return ctx->ops->accel->set_ioapic(ctx->vm, io);
}

int
vmctx_get_pic(struct vmctx *ctx, struct x86_pic pic[2])
{
	return ctx->ops->accel->get_pic(ctx->vm, pic);
}

int
vmctx_set_pic(struct vmctx *ctx, const struct x86_pic pic[2])
{
	return ctx->ops->accel->set_pic(ctx->vm, pic);
}

int
vmctx_get_pit(struct vmctx *ctx, struct x86_pit *pit)
{
	return ctx->ops->accel->get_pit(ctx->vm, pit);
}

int
vmctx_set_pit(struct vmctx *ctx, const struct x86_pit *pit)
{
	return ctx->ops->accel->set_pit(ctx->vm, pit);
}

int
vcpu_get_apic(struct vcpu *v, struct x86_apic *a)
{
	return v->ctx->ops->accel->get_apic(v->e, a);
}

int
vcpu_set_apic(struct vcpu *v, const struct x86_apic *a)
{
	return v->ctx->ops->accel->set_apic(v->e, a);
}

int
vmctx_doorbell(struct vmctx *ctx, uint64_t gpa, int fd, bool add)
{
	const struct engine_accel *a = ctx->ops->accel;

	return a != NULL && ctx->vm != NULL ? a->doorbell(ctx->vm, gpa, fd, add) : -ENOTSUP;
}

int
vmctx_irqfd(struct vmctx *ctx, int fd, uint64_t addr, uint32_t data, bool add)
{
	const struct engine_accel *a = ctx->ops->accel;

	return a != NULL && ctx->vm != NULL ? a->irqfd(ctx->vm, fd, addr, data, add) : -ENOTSUP;
}
