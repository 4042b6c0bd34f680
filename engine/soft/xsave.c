/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * FXSAVE, XSAVE and their relatives: the extended state as memory images (SDM
 * vol. 1 10.5 and ch. 13). Component offsets of the standard form are CPUID's.
 */
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"
#include "engine/soft/stub.h"

#define XSAVE_MAX 4096u

enum { XC_X87, XC_SSE, XC_AVX, XC_OPMASK = 5, XC_ZMM_HI256, XC_HI16_ZMM, XC_PKRU = 9, XC_COUNT };

static uint32_t
mxcsr_mask(void)
{
	static uint32_t mask;
	if (mask == 0) {
		_Alignas(16) uint8_t img[512] = {0};
		__asm__ volatile("fxsave64 %0" : "=m"(img));
		mask = get_le32(img + 28) ? get_le32(img + 28) : 0xffbf;
	}
	return mask;
}

static const struct x86_cpuid_leaf *
component(struct soft_cpu *cpu, unsigned n)
{
	return x86_cpuid_find((struct x86_cpuid *)(uintptr_t)cpu->cpuid, 0xd, n, false);
}

/* Offset of component n (>= 2) for the given set: standard, or packed in order with 64-byte alignment where
 * asked. */
static uint32_t
component_offset(struct soft_cpu *cpu, unsigned n, uint64_t set, bool compact)
{
	uint32_t off = 576;
	if (!compact)
		return component(cpu, n) != NULL ? component(cpu, n)->ebx : XSAVE_MAX;
	for (unsigned k = 2; k <= n; k++) {
		const struct x86_cpuid_leaf *c = component(cpu, k);
		if (!(set >> k & 1) || c == NULL)
			continue;
		if (c->ecx & 2)
			off = (uint32_t)align_up(off, 64);
		if (k == n)
			return off;
		off += c->eax;
	}
	return off;
}

uint32_t
soft_xsave_size(struct soft_cpu *cpu, bool compact)
{
	uint64_t set = cpu->st.xcr0 | (compact ? cpu->st.msr.xss : 0);
	uint32_t end = 576;
	for (unsigned n = 2; n < XC_COUNT; n++) {
		const struct x86_cpuid_leaf *c = component(cpu, n);
		if ((set >> n & 1) && c != NULL)
			end = MAX(end, component_offset(cpu, n, set, compact) + c->eax);
	}
	return end;
}

/* ---- components to and from an image ---- */
static void
legacy_out(struct soft_cpu *cpu, uint8_t *img, bool wide)
{
	memcpy(img, cpu->fximage, 24);
	if (!wide) { /* 32-bit pointers, and selectors, which are deprecated: zero */
		put_le32(img + 8, get_le32(cpu->fximage + 8));
		put_le32(img + 12, 0);
		put_le32(img + 16, get_le32(cpu->fximage + 16));
		put_le32(img + 20, 0);
	}
	for (unsigned n = 0; n < 8; n++) {
		memcpy(img + 32 + 16 * n, cpu->fximage + 32 + 16 * n, 10);
		memset(img + 42 + 16 * n, 0, 6);
	}
}

static void
legacy_in(struct soft_cpu *cpu, const uint8_t *img, bool wide)
{
	memcpy(cpu->fximage, img, 24);
	put_le16(cpu->fximage, (get_le16(img) & 0x1f3f) | 0x40); /* reserved bits do not stick */
	cpu->fximage[5] = 0;
	uint16_t fsw = get_le16(img + 2) & 0x7f7f; /* ES and B follow from the flags and masks */
	put_le16(cpu->fximage + 2, fsw & ~get_le16(img) & 0x3f ? fsw | 0x8080 : fsw);
	if (!wide) {
		put_le64(cpu->fximage + 8, get_le32(img + 8));
		put_le64(cpu->fximage + 16, get_le32(img + 16));
	}
	for (unsigned n = 0; n < 8; n++) {
		memcpy(cpu->fximage + 32 + 16 * n, img + 32 + 16 * n, 10);
		memset(cpu->fximage + 42 + 16 * n, 0, 6);
	}
}

static void
legacy_init(struct soft_cpu *cpu)
{
	memset(cpu->fximage, 0, 24);
	put_le16(cpu->fximage, 0x37f);
	memset(cpu->fximage + 32, 0, 128);
}

static bool
legacy_is_init(const struct soft_cpu *cpu)
{
	static const uint8_t zero[128];
	return get_le16(cpu->fximage) == 0x37f && memcmp(cpu->fximage + 2, zero, 22) == 0 &&
	       memcmp(cpu->fximage + 32, zero, 128) == 0;
}

struct vec_part {
	uint8_t first, count, at, bytes; /* registers, and which bytes of each */
};
static const struct vec_part vec_parts[XC_COUNT] = {
    [XC_SSE] = {0, 16, 0, 16},
    [XC_AVX] = {0, 16, 16, 16},
    [XC_ZMM_HI256] = {0, 16, 32, 32},
    [XC_HI16_ZMM] = {16, 16, 0, 64},
};

/* Registers 8-15 (and their upper parts) exist in 64-bit mode only. */
static unsigned
part_count(const struct soft_cpu *cpu, const struct vec_part *p)
{
	return soft_is64(cpu) ? p->count : p->first == 0 ? 8 : 0;
}

static void
component_out(struct soft_cpu *cpu, unsigned n, uint8_t *at)
{
	const struct vec_part *p = &vec_parts[n];
	if (n == XC_OPMASK)
		memcpy(at, cpu->st.xs.k, 64);
	else if (n == XC_PKRU)
		put_le64(at, cpu->st.xs.pkru);
	else
		for (unsigned r = 0; r < part_count(cpu, p); r++)
			memcpy(at + r * p->bytes, &cpu->st.xs.vec[p->first + r][p->at], p->bytes);
}

/* at NULL: the initial configuration. */
static void
component_in(struct soft_cpu *cpu, unsigned n, const uint8_t *at)
{
	const struct vec_part *p = &vec_parts[n];
	static const uint8_t zero[64];
	if (n == XC_OPMASK) {
		for (unsigned r = 0; r < 8; r++)
			cpu->st.xs.k[r] = at != NULL ? get_le64(at + 8 * r) : 0;
	} else if (n == XC_PKRU) {
		uint32_t v = at != NULL ? get_le32(at) : 0;
		if (v != cpu->st.xs.pkru)
			soft_tlb_recheck(cpu);
		cpu->st.xs.pkru = v;
	} else {
		for (unsigned r = 0; r < part_count(cpu, p); r++)
			memcpy(&cpu->st.xs.vec[p->first + r][p->at], at != NULL ? at + r * p->bytes : zero,
			       p->bytes);
	}
}

static bool
component_is_init(const struct soft_cpu *cpu, unsigned n)
{
	const struct vec_part *p = &vec_parts[n];
	static const uint8_t zero[64];
	if (n == XC_X87)
		return legacy_is_init(cpu);
	if (n == XC_OPMASK)
		return memcmp(cpu->st.xs.k, zero, 64) == 0;
	if (n == XC_PKRU)
		return cpu->st.xs.pkru == 0;
	for (unsigned r = 0; r < p->count; r++) {
		if (memcmp(&cpu->st.xs.vec[p->first + r][p->at], zero, p->bytes) != 0)
			return false;
	}
	return true;
}

/* ---- FXSAVE, FXRSTOR: imm2 = 64-bit pointers ---- */
static uint64_t
fx_begin(struct soft_cpu *cpu, const struct soft_insn *i, bool write)
{
	cpu->cur = i;
	if (cpu->st.cr0 & (CR0_EM | CR0_TS))
		soft_raise(cpu, EXC_NM);
	uint64_t la = soft_la(cpu, i, 512, write);
	if (la & 15)
		soft_gp(cpu, 0);
	return la;
}

OP(op_fxsave)
{
	uint8_t img[512] = {0};
	soft_vec_sync(cpu);
	uint64_t la = fx_begin(cpu, i, true);
	legacy_out(cpu, img, i->imm2);
	put_le32(img + 24, cpu->st.xs.mxcsr);
	put_le32(img + 28, mxcsr_mask());
	component_out(cpu, XC_SSE, img + 160);
	soft_probe(cpu, la, 512, true);
	soft_store_bytes(cpu, la, img, soft_is64(cpu) ? 416 : 288); /* the rest is left as it was */
	DONE(cpu, i);
}

OP(op_fxrstor)
{
	uint8_t img[512];
	soft_vec_sync(cpu);
	uint64_t la = fx_begin(cpu, i, false);
	soft_load_bytes(cpu, la, img, 512);
	if (get_le32(img + 24) & ~mxcsr_mask())
		soft_gp(cpu, 0);
	legacy_in(cpu, img, i->imm2);
	cpu->st.xs.mxcsr = get_le32(img + 24);
	component_in(cpu, XC_SSE, img + 160);
	DONE(cpu, i);
}

/* ---- XSAVE family ---- */
static uint64_t
xs_begin(struct soft_cpu *cpu, const struct soft_insn *i, bool write, uint64_t *rfbm, uint64_t *la)
{
	uint64_t set = cpu->st.xcr0 | (i->imm2 & XS_SUPER ? cpu->st.msr.xss : 0);
	cpu->cur = i;
	soft_vec_sync(cpu);
	if (!(cpu->st.cr4 & CR4_OSXSAVE))
		soft_ud(cpu);
	if (cpu->st.cr0 & CR0_TS)
		soft_raise(cpu, EXC_NM);
	if ((i->imm2 & XS_SUPER) && cpu->cpl != 0)
		soft_gp(cpu, 0);
	*rfbm = ((uint32_t)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32) & set;
	*la = soft_la(cpu, i, 576, write);
	if (*la & 63)
		soft_gp(cpu, 0);
	return set;
}

/* Store the parts of the image that the instruction writes, everything checked first. */
OP(op_xsave)
{
	uint64_t rfbm, la;
	bool compact = i->imm2 & XS_COMPACT;
	uint8_t img[XSAVE_MAX] = {0}, hdr[64] = {0};
	xs_begin(cpu, i, true, &rfbm, &la);

	uint64_t in_use = 0, write;
	uint32_t end = 576;
	for (unsigned n = 0; n < XC_COUNT; n++) {
		if ((rfbm >> n & 1) && !component_is_init(cpu, n))
			in_use |= 1ull << n;
	}
	if ((rfbm & 2) && cpu->st.xs.mxcsr != 0x1f80 && compact)
		in_use |= 2;
	write = compact ? in_use : rfbm;
	for (unsigned n = 2; n < XC_COUNT; n++) {
		if (rfbm >> n & 1)
			end = MAX(end, component_offset(cpu, n, rfbm, compact) + component(cpu, n)->eax);
	}
	soft_probe(cpu, la, end, true);
	if (!compact)
		soft_load_bytes(cpu, la + 512, hdr, 64);
	put_le64(hdr, compact ? in_use : (get_le64(hdr) & ~rfbm) | in_use);
	if (compact) {
		memset(hdr + 8, 0, 56);
		put_le64(hdr + 8, rfbm | 1ull << 63);
	}
	if (write & 1) {
		legacy_out(cpu, img, i->imm2 & XS_64);
		soft_store_bytes(cpu, la, img, 24);
		soft_store_bytes(cpu, la + 32, img + 32, 128);
	}
	if (compact ? write & 2 : rfbm & 6) {
		put_le32(img + 24, cpu->st.xs.mxcsr);
		put_le32(img + 28, mxcsr_mask());
		soft_store_bytes(cpu, la + 24, img + 24, 8);
	}
	for (unsigned n = 1; n < XC_COUNT; n++) {
		if (!(write >> n & 1))
			continue;
		uint32_t off = n == XC_SSE ? 160 : component_offset(cpu, n, rfbm, compact);
		uint32_t bytes = n == XC_PKRU	  ? 8
				 : n == XC_OPMASK ? 64
						  : part_count(cpu, &vec_parts[n]) * vec_parts[n].bytes;
		component_out(cpu, n, img + off);
		if (bytes != 0)
			soft_store_bytes(cpu, la + off, img + off, bytes);
	}
	soft_store_bytes(cpu, la + 512, hdr, compact ? 64 : 8);
	DONE(cpu, i);
}

static bool
all_zero(const uint8_t *p, unsigned n)
{
	while (n-- > 0) {
		if (*p++ != 0)
			return false;
	}
	return true;
}

OP(op_xrstor)
{
	uint64_t rfbm, la, set;
	uint8_t img[XSAVE_MAX] = {0};
	set = xs_begin(cpu, i, false, &rfbm, &la);
	soft_load_bytes(cpu, la, img, 576);
	uint64_t bv = get_le64(img + 512), comp = get_le64(img + 520);
	bool compact = comp >> 63;
	if ((i->imm2 & XS_SUPER) && !compact)
		soft_gp(cpu, 0);
	if (compact) {
		if (((comp & ~(1ull << 63)) & ~set) || (bv & ~comp) || !all_zero(img + 528, 48))
			soft_gp(cpu, 0);
	} else if ((bv & ~cpu->st.xcr0) || comp != 0 || !all_zero(img + 528, 8)) {
		soft_gp(cpu, 0);
	}
	for (unsigned n = 2; n < XC_COUNT; n++) {
		if ((rfbm & bv) >> n & 1) {
			uint32_t off = component_offset(cpu, n, comp, compact);
			soft_load_bytes(cpu, la + off, img + off, component(cpu, n)->eax);
		}
	}
	/* MXCSR goes with SSE; in the standard form with AVX too, whatever XSTATE_BV says */
	bool load_mxcsr = compact ? (rfbm & bv & 2) != 0 : (rfbm & 6) != 0;
	if (load_mxcsr && (get_le32(img + 24) & ~mxcsr_mask()))
		soft_gp(cpu, 0);
	if (load_mxcsr)
		cpu->st.xs.mxcsr = get_le32(img + 24);
	else if (compact && (rfbm & 2))
		cpu->st.xs.mxcsr = 0x1f80;
	if (rfbm & 1) {
		if (bv & 1)
			legacy_in(cpu, img, i->imm2 & XS_64);
		else
			legacy_init(cpu);
	}
	for (unsigned n = 1; n < XC_COUNT; n++) {
		if (rfbm >> n & 1)
			component_in(cpu, n,
				     bv >> n & 1
					 ? img + (n == XC_SSE ? 160 : component_offset(cpu, n, comp, compact))
					 : NULL);
	}
	DONE(cpu, i);
}

/* XCR0; ECX 1: XCR0 & XINUSE. */
OP(op_xgetbv)
{
	uint32_t n = (uint32_t)cpu->gpr[X86_RCX];
	cpu->cur = i;
	if (!(cpu->st.cr4 & CR4_OSXSAVE))
		soft_ud(cpu);
	if (n > 1)
		soft_gp(cpu, 0);
	uint64_t v = cpu->st.xcr0;
	for (unsigned k = 0; n == 1 && k < XC_COUNT; k++) {
		if ((v >> k & 1) && component_is_init(cpu, k) && !(k == XC_SSE && cpu->st.xs.mxcsr != 0x1f80))
			v &= ~(1ull << k);
	}
	cpu->gpr[X86_RAX] = (uint32_t)v;
	cpu->gpr[X86_RDX] = v >> 32;
	DONE(cpu, i);
}

OP(op_xsetbv)
{
	cpu->cur = i;
	if (!(cpu->st.cr4 & CR4_OSXSAVE))
		soft_ud(cpu);
	if (cpu->cpl != 0 || (uint32_t)cpu->gpr[X86_RCX] != 0)
		soft_gp(cpu, 0);
	uint64_t v = (uint32_t)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32;
	if (!(v & 1) || (v & ~cpu->xcr0_allowed) || ((v & 4) && !(v & 2)) ||
	    ((v & 0xe0) && ((v & 0xe0) != 0xe0 || (v & 6) != 6)))
		soft_gp(cpu, 0);
	cpu->st.xcr0 = v;
	return soft_leave_after(cpu, i);
}

OP(op_ldmxcsr)
{
	cpu->cur = i;
	soft_vec_sync(cpu);
	soft_check_units(cpu, UNIT_SSE);
	uint32_t v = soft_ld32(cpu, soft_la(cpu, i, 4, false));
	if (v & ~mxcsr_mask())
		soft_gp(cpu, 0);
	cpu->st.xs.mxcsr = v;
	DONE(cpu, i);
}

OP(op_stmxcsr)
{
	cpu->cur = i;
	soft_vec_sync(cpu);
	soft_check_units(cpu, UNIT_SSE);
	soft_st32(cpu, soft_la(cpu, i, 4, true), cpu->st.xs.mxcsr);
	DONE(cpu, i);
}
