/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions, interrupts, capabilities. */
#include "vmmapi/x86_64/md.h"

#include <errno.h>
#include <string.h>
#include "base/util.h"
#include "x86/state.h"

int
vm_inject_exception(struct vcpu *v, int vector, bool errcode_valid, uint32_t errcode, bool restart)
{
	if (v == NULL)
		return -EINVAL;
	if (vector < 0 || vector >= 32 || vector == EXC_NMI || !restart)
		return vmctx_fail(v->ctx, EINVAL, "%s: vCPU %d: exception %d%s", v->ctx->name, v->id, vector,
				  restart ? ": there is no such fault" : " without restart");
	v->ctx->ops->inject_exception(v->e, (uint8_t)vector, errcode_valid, errcode);
	v->md->halted = false;
	return 0;
}

/* ---- controllers ---- */

static struct intc *
controllers(struct vmctx *ctx, int *r)
{
	*r = -EINVAL;
	if (ctx == NULL)
		return NULL;
	*r = 0;
	if (ctx->md != NULL && ctx->md->intc != NULL)
		return ctx->md->intc;
	*r = vmctx_fail(ctx, ENODEV, "%s: no interrupt controllers (VM_CREATE_INTC, and a vCPU)", ctx->name);
	return NULL;
}

int
vm_lapic_irq(struct vcpu *v, int vector)
{
	int r;
	struct intc *c = controllers(v != NULL ? v->ctx : NULL, &r);

	if (c == NULL)
		return r;
	if (vector < 16 || vector > 255)
		return vmctx_fail(v->ctx, EINVAL, "%s: vector %d (16 to 255)", v->ctx->name, vector);
	intc_local_irq(c, (unsigned)v->id, (uint8_t)vector);
	return 0;
}

int
vm_lapic_msi(struct vmctx *ctx, uint64_t addr, uint64_t msg)
{
	int r;
	struct intc *c = controllers(ctx, &r);

	if (c == NULL)
		return r;
	if ((addr & ~0xfffffull) != 0xfee00000 || msg > UINT32_MAX)
		return vmctx_fail(ctx, EINVAL, "%s: message %#llx to %#llx is no interrupt", ctx->name,
				  (unsigned long long)msg, (unsigned long long)addr);
	intc_msi(c, addr, (uint32_t)msg);
	return 0;
}

static int
ioapic(struct vmctx *ctx, int pin, bool first, bool second)
{
	int r;
	struct intc *c = controllers(ctx, &r);

	if (c == NULL)
		return r;
	if (pin < 0 || pin >= INTC_PINS)
		return vmctx_fail(ctx, EINVAL, "%s: I/O APIC pin %d (0 to %d)", ctx->name, pin,
				  INTC_PINS - 1);
	intc_ioapic(c, (unsigned)pin, first);
	if (second != first)
		intc_ioapic(c, (unsigned)pin, second);
	return 0;
}

int
vm_ioapic_assert_irq(struct vmctx *ctx, int pin)
{
	return ioapic(ctx, pin, true, true);
}

int
vm_ioapic_deassert_irq(struct vmctx *ctx, int pin)
{
	return ioapic(ctx, pin, false, false);
}

int
vm_ioapic_pulse_irq(struct vmctx *ctx, int pin)
{
	return ioapic(ctx, pin, true, false);
}

int
vm_ioapic_pincount(struct vmctx *ctx, int *pins)
{
	int r;

	if (pins == NULL)
		return -EINVAL;
	if (controllers(ctx, &r) == NULL)
		return r;
	*pins = INTC_PINS;
	return 0;
}

static int
isa(struct vmctx *ctx, int line, int pin, bool first, bool second)
{
	int r;
	struct intc *c = controllers(ctx, &r);

	if (c == NULL)
		return r;
	if (line < 0 || line >= INTC_ISA || pin < -1 || pin >= INTC_PINS)
		return vmctx_fail(ctx, EINVAL, "%s: ISA line %d, I/O APIC pin %d", ctx->name, line, pin);
	for (int n = 0; n < (second != first ? 2 : 1); n++) {
		bool level = n == 0 ? first : second;

		intc_isa(c, (unsigned)line, level);
		if (pin >= 0)
			intc_ioapic(c, (unsigned)pin, level);
	}
	return 0;
}

int
vm_isa_assert_irq(struct vmctx *ctx, int atpic_irq, int ioapic_irq)
{
	return isa(ctx, atpic_irq, ioapic_irq, true, true);
}

int
vm_isa_deassert_irq(struct vmctx *ctx, int atpic_irq, int ioapic_irq)
{
	return isa(ctx, atpic_irq, ioapic_irq, false, false);
}

int
vm_isa_pulse_irq(struct vmctx *ctx, int atpic_irq, int ioapic_irq)
{
	return isa(ctx, atpic_irq, ioapic_irq, true, false);
}

/* ---- capabilities ---- */

static const char *const cap_names[VM_CAP_MAX] = {
    [VM_CAP_HALT_EXIT] = "hlt_exit",
    [VM_CAP_PAUSE_EXIT] = "pause_exit",
    [VM_CAP_UNRESTRICTED_GUEST] = "unrestricted_guest",
    [VM_CAP_ENABLE_INVPCID] = "enable_invpcid",
    [VM_CAP_RDTSCP] = "rdtscp",
    [VM_CAP_X2APIC] = "x2apic",
};

int
vm_capability_name2type(const char *name)
{
	for (int n = 0; name != NULL && n < VM_CAP_MAX; n++) {
		if (strcmp(cap_names[n], name) == 0)
			return n;
	}
	return -1;
}

const char *
vm_capability_type2name(int type)
{
	return type >= 0 && type < VM_CAP_MAX ? cap_names[type] : NULL;
}

static int
cpuid_bit(const struct vcpu *v, uint32_t leaf, unsigned word, unsigned bit)
{
	uint32_t out[4];

	x86_cpuid_query(&v->md->cpuid, leaf, 0, out);
	return (int)(out[word] >> bit & 1);
}

int
vm_get_capability(struct vcpu *v, int type, int *val)
{
	if (v == NULL || val == NULL)
		return -EINVAL;
	switch (type) {
	case VM_CAP_HALT_EXIT:
		*val = v->md->halt_exit || v->ctx->md->intc == NULL;
		return 0;
	case VM_CAP_PAUSE_EXIT:
	case VM_CAP_UNRESTRICTED_GUEST:
		*val = 1;
		return 0;
	case VM_CAP_ENABLE_INVPCID:
		*val = cpuid_bit(v, 7, 1, 10);
		return 0;
	case VM_CAP_RDTSCP:
		*val = cpuid_bit(v, 0x80000001, 3, 27);
		return 0;
	case VM_CAP_X2APIC:
		*val = cpuid_bit(v, 1, 2, 21);
		return 0;
	default:
		return vmctx_fail(v->ctx, EINVAL, "%s: no capability %d", v->ctx->name, type);
	}
}

int
vm_set_capability(struct vcpu *v, int type, int val)
{
	int now, r = vm_get_capability(v, type, &now);

	if (r != 0)
		return r;
	if (type == VM_CAP_HALT_EXIT && v->ctx->md->intc != NULL) {
		v->md->halt_exit = val != 0;
		return 0;
	}
	if (now == (val != 0))
		return 0;
	return vmctx_fail(v->ctx, ENOTSUP, "%s: capability %s is fixed", v->ctx->name, cap_names[type]);
}
