/* SPDX-License-Identifier: BSD-2-Clause */
/* Registers by name: where each is in the canonical state. */
#include "vmmapi/x86_64/md.h"

#include <errno.h>
#include <string.h>
#include "base/util.h"
#include "x86/state.h"

#define AT(m) offsetof(struct x86_state, m)

static const struct {
	uint8_t component; /* enum x86_state_mask; 0: no register of this name */
	uint8_t bytes;
	uint16_t off;
} reg_table[VM_REG_LAST] = {
#define GPR(n)                                                  \
	{                                                       \
		X86_STATE_GPR, 8, (uint16_t)(AT(gpr) + 8 * (n)) \
	}
#define ROW(c, b, m)                              \
	{                                         \
		X86_STATE_##c, b, (uint16_t)AT(m) \
	}
#define SEG(n)                                                                           \
	{                                                                                \
		X86_STATE_SEG, 2, (uint16_t)(AT(seg) + sizeof(struct x86_segment) * (n)) \
	}
#define DR(n)                                                 \
	{                                                     \
		X86_STATE_CR, 8, (uint16_t)(AT(dr) + 8 * (n)) \
	}
    [VM_REG_GUEST_RAX] = GPR(X86_RAX),
    [VM_REG_GUEST_RCX] = GPR(X86_RCX),
    [VM_REG_GUEST_RDX] = GPR(X86_RDX),
    [VM_REG_GUEST_RBX] = GPR(X86_RBX),
    [VM_REG_GUEST_RSP] = GPR(X86_RSP),
    [VM_REG_GUEST_RBP] = GPR(X86_RBP),
    [VM_REG_GUEST_RSI] = GPR(X86_RSI),
    [VM_REG_GUEST_RDI] = GPR(X86_RDI),
    [VM_REG_GUEST_R8] = GPR(X86_R8),
    [VM_REG_GUEST_R9] = GPR(X86_R9),
    [VM_REG_GUEST_R10] = GPR(X86_R10),
    [VM_REG_GUEST_R11] = GPR(X86_R11),
    [VM_REG_GUEST_R12] = GPR(X86_R12),
    [VM_REG_GUEST_R13] = GPR(X86_R13),
    [VM_REG_GUEST_R14] = GPR(X86_R14),
    [VM_REG_GUEST_R15] = GPR(X86_R15),
    [VM_REG_GUEST_RIP] = ROW(GPR, 8, rip),
    [VM_REG_GUEST_RFLAGS] = ROW(GPR, 8, rflags),
    [VM_REG_GUEST_CR0] = ROW(CR, 8, cr0),
    [VM_REG_GUEST_CR2] = ROW(CR, 8, cr2),
    [VM_REG_GUEST_CR3] = ROW(CR, 8, cr3),
    [VM_REG_GUEST_CR4] = ROW(CR, 8, cr4),
    [VM_REG_GUEST_CR8] = ROW(CR, 8, cr8),
    [VM_REG_GUEST_XCR0] = ROW(CR, 8, xcr0),
    [VM_REG_GUEST_EFER] = ROW(MSR, 8, msr.efer),
    [VM_REG_GUEST_DR0] = DR(0),
    [VM_REG_GUEST_DR1] = DR(1),
    [VM_REG_GUEST_DR2] = DR(2),
    [VM_REG_GUEST_DR3] = DR(3),
    [VM_REG_GUEST_DR6] = DR(6),
    [VM_REG_GUEST_DR7] = DR(7),
    [VM_REG_GUEST_ES] = SEG(X86_ES),
    [VM_REG_GUEST_CS] = SEG(X86_CS),
    [VM_REG_GUEST_SS] = SEG(X86_SS),
    [VM_REG_GUEST_DS] = SEG(X86_DS),
    [VM_REG_GUEST_FS] = SEG(X86_FS),
    [VM_REG_GUEST_GS] = SEG(X86_GS),
    [VM_REG_GUEST_LDTR] = SEG(X86_LDTR),
    [VM_REG_GUEST_TR] = SEG(X86_TR),
    [VM_REG_GUEST_STAR] = ROW(MSR, 8, msr.star),
    [VM_REG_GUEST_LSTAR] = ROW(MSR, 8, msr.lstar),
    [VM_REG_GUEST_CSTAR] = ROW(MSR, 8, msr.cstar),
    [VM_REG_GUEST_FMASK] = ROW(MSR, 8, msr.fmask),
    [VM_REG_GUEST_KGS_BASE] = ROW(MSR, 8, msr.kernel_gs_base),
    [VM_REG_GUEST_SYSENTER_CS] = ROW(MSR, 8, msr.sysenter_cs),
    [VM_REG_GUEST_SYSENTER_ESP] = ROW(MSR, 8, msr.sysenter_esp),
    [VM_REG_GUEST_SYSENTER_EIP] = ROW(MSR, 8, msr.sysenter_eip),
    [VM_REG_GUEST_PAT] = ROW(MSR, 8, msr.pat),
    [VM_REG_GUEST_TSC_AUX] = ROW(MSR, 8, msr.tsc_aux),
    [VM_REG_GUEST_TSC_ADJUST] = ROW(MSR, 8, msr.tsc_adjust),
    [VM_REG_GUEST_INTR_SHADOW] = ROW(EVENT, 1, shadow),
};

/* The components that hold these registers; 0: one is no register. */
static unsigned
components(unsigned count, const int *regs)
{
	unsigned mask = 0;

	for (unsigned n = 0; n < count; n++) {
		if (regs[n] < 0 || regs[n] >= VM_REG_LAST || reg_table[regs[n]].component == 0)
			return 0;
		mask |= reg_table[regs[n]].component;
	}
	return mask;
}

static int
no_register(struct vcpu *v)
{
	return vmctx_fail(v->ctx, EINVAL, "%s: vCPU %d: no register of this number (enum vm_reg_name)",
			  v->ctx->name, v->id);
}

int
vm_get_register_set(struct vcpu *v, unsigned count, const int *regs, uint64_t *vals)
{
	struct x86_state s;
	unsigned mask;

	if (v == NULL || (count != 0 && (regs == NULL || vals == NULL)))
		return -EINVAL;
	if (count == 0)
		return 0;
	mask = components(count, regs);
	if (mask == 0)
		return no_register(v);
	v->ctx->ops->get_state(v->e, mask, &s);
	for (unsigned n = 0; n < count; n++) {
		vals[n] = 0;
		memcpy(&vals[n], (const char *)&s + reg_table[regs[n]].off, reg_table[regs[n]].bytes);
	}
	return 0;
}

static int
store(struct vcpu *v, unsigned mask, const struct x86_state *s)
{
	struct err err = {0};

	if (v->ctx->ops->set_state(v->e, mask, s, &err) == 0)
		return 0;
	return vmctx_fail_err(v->ctx, &err);
}

int
vm_set_register_set(struct vcpu *v, unsigned count, const int *regs, const uint64_t *vals)
{
	struct x86_state s;
	unsigned mask;

	if (v == NULL || (count != 0 && (regs == NULL || vals == NULL)))
		return -EINVAL;
	if (count == 0)
		return 0;
	mask = components(count, regs);
	if (mask == 0)
		return no_register(v);
	v->ctx->ops->get_state(v->e, mask, &s);
	for (unsigned n = 0; n < count; n++)
		memcpy((char *)&s + reg_table[regs[n]].off, &vals[n], reg_table[regs[n]].bytes);
	if (mask & X86_STATE_GPR)
		v->md->halted = false;
	return store(v, mask, &s);
}

int
vm_get_register(struct vcpu *v, int reg, uint64_t *val)
{
	return vm_get_register_set(v, 1, &reg, val);
}

int
vm_set_register(struct vcpu *v, int reg, uint64_t val)
{
	return vm_set_register_set(v, 1, &reg, &val);
}

/* ---- descriptors ---- */

static bool
is_segment(int reg)
{
	return reg >= VM_REG_GUEST_ES && reg <= VM_REG_GUEST_TR;
}

static bool
is_table(int reg)
{
	return reg == VM_REG_GUEST_GDTR || reg == VM_REG_GUEST_IDTR;
}

int
vm_get_desc(struct vcpu *v, int reg, uint64_t *base, uint32_t *limit, uint32_t *access)
{
	struct x86_state s;

	if (v == NULL || base == NULL || limit == NULL || access == NULL)
		return -EINVAL;
	if (!is_segment(reg) && !is_table(reg))
		return no_register(v);
	v->ctx->ops->get_state(v->e, X86_STATE_SEG, &s);
	if (is_table(reg)) {
		const struct x86_dtable *t = reg == VM_REG_GUEST_GDTR ? &s.gdtr : &s.idtr;

		*base = t->base;
		*limit = t->limit;
		*access = 0;
	} else {
		const struct x86_segment *g = &s.seg[reg - VM_REG_GUEST_ES];

		*base = g->base;
		*limit = g->limit;
		*access = g->attr;
	}
	return 0;
}

int
vm_get_seg_desc(struct vcpu *v, int reg, struct seg_desc *d)
{
	if (d == NULL)
		return -EINVAL;
	return vm_get_desc(v, reg, &d->base, &d->limit, &d->access);
}

int
vm_set_desc(struct vcpu *v, int reg, uint64_t base, uint32_t limit, uint32_t access)
{
	struct x86_state s;

	if (v == NULL)
		return -EINVAL;
	if (!is_segment(reg) && !is_table(reg))
		return no_register(v);
	if ((is_table(reg) && (limit > 0xffff || access != 0)) || (access & ~0x1f0ffu) != 0)
		return vmctx_fail(v->ctx, EINVAL, "%s: limit %#x, access %#x: no such descriptor",
				  v->ctx->name, limit, access);
	v->ctx->ops->get_state(v->e, X86_STATE_SEG, &s);
	if (reg == VM_REG_GUEST_GDTR)
		s.gdtr = (struct x86_dtable){.base = base, .limit = (uint16_t)limit};
	else if (reg == VM_REG_GUEST_IDTR)
		s.idtr = (struct x86_dtable){.base = base, .limit = (uint16_t)limit};
	else {
		s.seg[reg - VM_REG_GUEST_ES].base = base;
		s.seg[reg - VM_REG_GUEST_ES].limit = limit;
		s.seg[reg - VM_REG_GUEST_ES].attr = access;
	}
	return store(v, X86_STATE_SEG, &s);
}

/* ---- beginnings ---- */

int
vm_setup_protected(struct vcpu *v, uint32_t eip)
{
	const uint32_t data = 3 | SEG_S | SEG_P | SEG_DB | SEG_G;
	struct x86_state s;

	if (v == NULL)
		return -EINVAL;
	x86_state_reset(&s);
	s.cr0 = CR0_PE | CR0_ET;
	for (unsigned n = 0; n <= X86_GS; n++)
		s.seg[n] = (struct x86_segment){.sel = 0x10, .attr = data, .limit = 0xffffffff};
	s.seg[X86_CS].sel = 8;
	s.seg[X86_CS].attr = data | 0xb;
	s.rip = eip;
	v->md->halted = v->md->wait_sipi = false;
	return store(v, X86_STATE_ALL, &s);
}

int
vm_setup_real(struct vcpu *v, uint16_t sel, uint16_t ip)
{
	struct x86_state s;

	if (v == NULL)
		return -EINVAL;
	x86_state_reset(&s);
	s.seg[X86_CS].sel = sel;
	s.seg[X86_CS].base = (uint64_t)sel << 4;
	s.rip = ip;
	v->md->halted = v->md->wait_sipi = false;
	return store(v, X86_STATE_ALL, &s);
}
