/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The XSAVE image in standard form (SDM vol. 1 13.4), as KVM_GET_XSAVE2 and KVM_SET_XSAVE have it, whatever
 * the guest's XCR0 says. Offsets of components are the host's (CPUID 0xD).
 */
#include "engine/kvm/internal.h"

#include <cpuid.h>
#include <string.h>
#include "base/util.h"

enum { XF_X87, XF_SSE, XF_AVX, XF_OPMASK = 5, XF_ZMM_HI256, XF_HI16_ZMM, XF_PKRU = 9 };
enum { OFF_MXCSR = 24, OFF_MXCSR_MASK = 28, OFF_XMM = 160, OFF_BV = 512, OFF_HEADER_END = 576 };

struct component {
	unsigned number;
	unsigned regs, reg_bytes; /* registers in the image */
	size_t first, stride;	  /* of them in struct x86_xstate */
};

static const struct component components[] = {
    {XF_AVX, 16, 16, offsetof(struct x86_xstate, vec) + 16, 64},
    {XF_OPMASK, 8, 8, offsetof(struct x86_xstate, k), 8},
    {XF_ZMM_HI256, 16, 32, offsetof(struct x86_xstate, vec) + 32, 64},
    {XF_HI16_ZMM, 16, 64, offsetof(struct x86_xstate, vec) + 16 * 64, 64},
    {XF_PKRU, 1, 4, offsetof(struct x86_xstate, pkru), 4},
};

/* Once a VM: a host that is a guest itself takes 7 us and more for each CPUID. */
void
kvm_xstate_init(struct kvm_vm *vm)
{
	unsigned a, c, d;

	_Static_assert(ARRAY_LEN(components) == KVM_XSAVE_PARTS, "an offset each");
	for (size_t n = 0; n < ARRAY_LEN(components); n++)
		__cpuid_count(0xd, components[n].number, a, vm->xsave_offset[n], c, d);
}

/* Copy a component from or to the image; one that the image has no room for stays as it is. */
static void
copy_component(struct kvm_cpu *c, const struct component *k, char *x, bool out)
{
	unsigned off = c->vm->xsave_offset[k - components];

	if (off < OFF_HEADER_END || off + k->regs * k->reg_bytes > c->vm->xsave_bytes)
		return;
	for (unsigned n = 0; n < k->regs; n++) {
		char *reg = x + k->first + n * k->stride;
		uint8_t *image = c->xsave + off + n * k->reg_bytes;

		if (out)
			memcpy(reg, image, k->reg_bytes);
		else
			memcpy(image, reg, k->reg_bytes);
	}
}

int
kvm_xstate_fetch(struct kvm_cpu *c, struct x86_xstate *x)
{
	unsigned long request =
	    c->vm->xsave_bytes > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
	int r = kvm_ioctl(c->fd, request, c->xsave);
	uint64_t bv;

	if (r < 0)
		return r;
	bv = get_le64(c->xsave + OFF_BV);
	memset(x, 0, sizeof(*x));
	memcpy(x->fx, c->xsave, sizeof(x->fx));
	if (!(bv & BIT(XF_X87))) {
		/* In its initial state (SDM vol. 1 13.6); the image may hold anything. */
		memset(x->fx, 0, sizeof(x->fx));
		put_le16(x->fx, 0x37f);
	}
	x->mxcsr = get_le32(c->xsave + OFF_MXCSR);
	if (!(bv & (BIT(XF_SSE) | BIT(XF_AVX))) && x->mxcsr == 0)
		x->mxcsr = 0x1f80;
	put_le32(x->fx + OFF_MXCSR, 0x1f80); /* x->mxcsr is the copy that counts */
	put_le32(x->fx + OFF_MXCSR_MASK, 0);
	for (unsigned n = 0; n < 16 && (bv & BIT(XF_SSE)); n++)
		memcpy(x->vec[n], c->xsave + OFF_XMM + 16 * n, 16);
	for (size_t n = 0; n < ARRAY_LEN(components); n++) {
		if (bv & c->xfeatures & BIT(components[n].number))
			copy_component(c, &components[n], (char *)x, true);
	}
	return 0;
}

int
kvm_xstate_store(struct kvm_cpu *c, const struct x86_xstate *x)
{
	memset(c->xsave, 0, c->vm->xsave_bytes);
	memcpy(c->xsave, x->fx, sizeof(x->fx));
	put_le32(c->xsave + OFF_MXCSR, x->mxcsr);
	put_le32(c->xsave + OFF_MXCSR_MASK, 0xffff);
	for (unsigned n = 0; n < 16; n++)
		memcpy(c->xsave + OFF_XMM + 16 * n, x->vec[n], 16);
	for (size_t n = 0; n < ARRAY_LEN(components); n++) {
		if (c->xfeatures & BIT(components[n].number))
			copy_component(c, &components[n], (char *)(uintptr_t)x, false);
	}
	put_le64(c->xsave + OFF_BV, c->xfeatures);
	return kvm_ioctl(c->fd, KVM_SET_XSAVE, c->xsave);
}
