/* SPDX-License-Identifier: BSD-2-Clause */
/* System instructions: flags, ports, control and debug registers, TLB and cache control, processor state. */
#include "base/vmclock.h"
#include "engine/soft/ops.h"
#include "engine/soft/seg.h"

static void
need_cpl0(struct soft_cpu *cpu)
{
	if (cpu->cpl != 0)
		soft_gp(cpu, 0);
}

/* ---- interrupts and ports ---- */
OP(op_cli)
{
	cpu->cur = i;
	if (UNLIKELY(soft_virtual_if(cpu))) {
		soft_virtual_cli_sti(cpu, false);
		DONE(cpu, i);
	}
	if (cpu->cpl > (cpu->rflags & FL_IOPL) >> 12 ||
	    (soft_is_vm86(cpu) && (cpu->rflags & FL_IOPL) != FL_IOPL))
		soft_gp(cpu, 0);
	cpu->rflags &= ~(uint64_t)FL_IF;
	DONE(cpu, i);
}

/* Interrupts stay off for one more instruction. Between blocks is where they are taken, so the block only
 * has to end when somebody waits, or when STI is its last instruction. */
OP(op_sti)
{
	bool was = cpu->rflags & FL_IF;
	cpu->cur = i;
	if (UNLIKELY(soft_virtual_if(cpu))) {
		soft_virtual_cli_sti(cpu, true);
		DONE(cpu, i);
	}
	if (cpu->cpl > (cpu->rflags & FL_IOPL) >> 12 ||
	    (soft_is_vm86(cpu) && (cpu->rflags & FL_IOPL) != FL_IOPL))
		soft_gp(cpu, 0);
	cpu->rflags |= FL_IF;
	if (!was && (i[1].fn == op_end_block || cpu->want_window ||
		     atomic_load_explicit(&cpu->attn, memory_order_relaxed))) {
		cpu->shadow = SHADOW_STI;
		return soft_leave_after(cpu, i);
	}
	DONE(cpu, i);
}

OP(op_hlt)
{
	cpu->cur = i;
	need_cpl0(cpu);
	cpu->halted = true;
	cpu->ctr.hlt++;
	soft_attn_set(cpu, ATTN_LEAVE);
	return soft_leave_after(cpu, i);
}

/* I/O permission: IOPL, else the TSS's bit map (SDM vol. 1 19.5). */
bool
soft_io_allowed(struct soft_cpu *cpu, uint16_t port, unsigned size)
{
	const struct x86_segment *tr = &cpu->st.seg[X86_TR];
	if (soft_is_real(cpu) || (!soft_is_vm86(cpu) && cpu->cpl <= (cpu->rflags & FL_IOPL) >> 12))
		return true;
	if (!(tr->attr & 8) || tr->limit < 0x67) /* a 16-bit TSS has no map */
		return false;
	uint32_t map = (uint32_t)soft_load_sys(cpu, tr->base + 0x66, 2) + port / 8;
	if (map + 1 > tr->limit)
		return false;
	uint32_t b = (uint32_t)soft_load_sys(cpu, tr->base + map, 2) >> (port & 7);
	return (b & ((1u << size) - 1)) == 0;
}

static uint16_t
port_of(struct soft_cpu *cpu, const struct soft_insn *i)
{
	uint16_t port = i->imm2 ? CPU_REG(cpu, X86_RDX * 8, uint16_t) : (uint16_t)i->imm;
	cpu->cur = i;
	if (!soft_io_allowed(cpu, port, i->size) && !soft_vmware_port(cpu, port, i->size))
		soft_gp(cpu, 0);
	return port;
}

OP(op_in)
{
	bool fault;
	uint16_t port = port_of(cpu, i);
	if (UNLIKELY(soft_vmware_port(cpu, port, i->size)) && soft_vmware_call(cpu))
		DONE(cpu, i);
	soft_reg_set(cpu, 0, i->size, soft_io(cpu, IOLOG_IN, port, i->size, 0, &fault));
	DONE(cpu, i);
}

OP(op_out)
{
	bool fault;
	uint16_t port = port_of(cpu, i);
	soft_io(cpu, IOLOG_OUT, port, i->size, soft_reg_get(cpu, 0, i->size), &fault);
	DONE(cpu, i);
}

/* ---- identification and time ---- */
void
soft_cpuid(struct soft_cpu *cpu, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	x86_cpuid_query(cpu->cpuid, leaf, sub, out);
	if (leaf == 1) {
		if (!cpu->apic_on) /* IA32_APIC_BASE.EN clear: as if there were none (SDM vol. 3A 11.4.3) */
			out[3] &= ~(1u << 9);
		out[2] = (out[2] & ~(1u << 27)) | (cpu->st.cr4 & CR4_OSXSAVE ? 1u << 27 : 0);
	} else if (leaf == 7 && sub == 0) {
		out[2] = (out[2] & ~(1u << 4)) | (cpu->st.cr4 & CR4_PKE ? 1u << 4 : 0);
	} else if (leaf == 0xd && sub <= 1) {
		out[1] = soft_xsave_size(cpu, sub == 1);
	}
}

OP(op_cpuid)
{
	uint32_t r[4];
	soft_cpuid(cpu, (uint32_t)cpu->gpr[X86_RAX], (uint32_t)cpu->gpr[X86_RCX], r);
	cpu->gpr[X86_RAX] = r[0];
	cpu->gpr[X86_RBX] = r[1];
	cpu->gpr[X86_RCX] = r[2];
	cpu->gpr[X86_RDX] = r[3];
	DONE(cpu, i);
}

uint64_t
soft_rdtsc(struct soft_cpu *cpu)
{
	if (cpu->vm->tsc_is_host)
		return __builtin_ia32_rdtsc() + cpu->tsc_base + cpu->tsc_offset;
	return vm_clock_tsc(cpu->vm->clock) + cpu->tsc_offset;
}

OP(op_rdtsc) /* imm2: RDTSCP */
{
	cpu->cur = i;
	if ((cpu->st.cr4 & CR4_TSD) && cpu->cpl != 0)
		soft_gp(cpu, 0);
	uint64_t t = soft_rdtsc(cpu);
	cpu->gpr[X86_RAX] = (uint32_t)t;
	cpu->gpr[X86_RDX] = t >> 32;
	if (i->imm2)
		cpu->gpr[X86_RCX] = (uint32_t)cpu->st.msr.tsc_aux;
	DONE(cpu, i);
}

OP(op_rdpid)
{
	soft_reg_set(cpu, i->dst, soft_is64(cpu) ? 8 : 4, cpu->st.msr.tsc_aux & 0xffffffff);
	DONE(cpu, i);
}

OP(op_rdpmc)
{
	cpu->cur = i;
	uint64_t v = soft_rdpmc(cpu, (uint32_t)cpu->gpr[X86_RCX]);
	cpu->gpr[X86_RAX] = (uint32_t)v;
	cpu->gpr[X86_RDX] = v >> 32;
	DONE(cpu, i);
}

OP(op_rdmsr)
{
	cpu->cur = i;
	need_cpl0(cpu);
	uint64_t v = soft_rdmsr(cpu, (uint32_t)cpu->gpr[X86_RCX]);
	cpu->gpr[X86_RAX] = (uint32_t)v;
	cpu->gpr[X86_RDX] = v >> 32;
	DONE(cpu, i);
}

OP(op_wrmsr)
{
	cpu->cur = i;
	need_cpl0(cpu);
	soft_wrmsr(cpu, (uint32_t)cpu->gpr[X86_RCX], (uint32_t)cpu->gpr[X86_RAX] | cpu->gpr[X86_RDX] << 32);
	return soft_leave_after(cpu, i);
}

/* ---- control registers ---- */
static void
set_lma(struct soft_cpu *cpu, bool on)
{
	if (on)
		cpu->st.msr.efer |= EFER_LMA;
	else
		cpu->st.msr.efer &= ~(uint64_t)EFER_LMA;
}

void
soft_write_cr0(struct soft_cpu *cpu, uint64_t v)
{
	uint64_t old = cpu->st.cr0, known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP |
					    CR0_AM | CR0_NW | CR0_CD | CR0_PG;
	bool lme = cpu->st.msr.efer & EFER_LME, pg_on = (v & CR0_PG) && !(old & CR0_PG);
	if (v >> 32 || ((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD)))
		soft_gp(cpu, 0);
	v = (v & known) | CR0_ET;
	if (pg_on && lme && (!(cpu->st.cr4 & CR4_PAE) || (cpu->st.seg[X86_CS].attr & SEG_L)))
		soft_gp(cpu, 0);
	if (!(v & CR0_PG) && (old & CR0_PG) && (soft_is64(cpu) || (cpu->st.cr4 & CR4_PCIDE)))
		soft_gp(cpu, 0);
	if ((v & CR0_PG) && (cpu->st.cr4 & CR4_PAE) && !lme && ((v ^ old) & (CR0_PG | CR0_CD | CR0_NW)) &&
	    !soft_load_pdptes(cpu, cpu->st.cr3))
		soft_gp(cpu, 0);
	cpu->st.cr0 = v;
	set_lma(cpu, lme && (v & CR0_PG));
	if ((old ^ v) & (CR0_PG | CR0_PE | CR0_WP))
		soft_tlb_flush(cpu);
	if (!(v & CR0_PE))
		soft_set_cpl(cpu, 0);
	soft_mmu_update(cpu);
	soft_update_mode(cpu);
}

void
soft_write_cr3(struct soft_cpu *cpu, uint64_t v)
{
	bool lm = soft_long_mode(cpu), pcide = cpu->st.cr4 & CR4_PCIDE, keep = false;
	if (lm) {
		keep = pcide && v >> 63;
		if (pcide)
			v &= ~(1ull << 63);
		if (v & ~cpu->phys_mask & ~0xfffull)
			soft_gp(cpu, 0);
	} else {
		v &= 0xffffffff;
		if ((cpu->st.cr0 & CR0_PG) && (cpu->st.cr4 & CR4_PAE) && !soft_load_pdptes(cpu, v))
			soft_gp(cpu, 0);
	}
	if (keep && v == cpu->st.cr3)
		return;
	cpu->st.cr3 = v;
	soft_tlb_switch(cpu, pcide ? v & 0xfff : 0, keep);
}

void
soft_write_cr4(struct soft_cpu *cpu, uint64_t v)
{
	uint64_t old = cpu->st.cr4, flush = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP |
					    CR4_PKE | CR4_PKS | CR4_LA57;
	bool lma = soft_long_mode(cpu);
	if (v & ~cpu->cr4_allowed)
		soft_gp(cpu, 0);
	if (lma && (!(v & CR4_PAE) || ((v ^ old) & CR4_LA57)))
		soft_gp(cpu, 0);
	if ((v & CR4_PCIDE) && !(old & CR4_PCIDE) && (!lma || (cpu->st.cr3 & 0xfff)))
		soft_gp(cpu, 0);
	if ((cpu->st.cr0 & CR0_PG) && !lma && (v & CR4_PAE) &&
	    ((v ^ old) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && !soft_load_pdptes(cpu, cpu->st.cr3))
		soft_gp(cpu, 0);
	cpu->st.cr4 = v;
	if ((v ^ old) & flush)
		soft_tlb_flush(cpu);
	soft_mmu_update(cpu);
}

OP(op_mov_from_cr)
{
	bool fault;
	uint64_t v = 0;
	cpu->cur = i;
	need_cpl0(cpu);
	switch (i->src) {
	case 0:
		v = cpu->st.cr0;
		break;
	case 2:
		v = cpu->st.cr2;
		break;
	case 3:
		v = cpu->st.cr3;
		break;
	case 4:
		v = cpu->st.cr4;
		break;
	case 8:
		v = soft_io(cpu, IOLOG_CR8_R, 0, 8, 0, &fault);
		break;
	default:
		soft_ud(cpu);
	}
	soft_reg_set(cpu, i->dst, soft_is64(cpu) ? 8 : 4, v);
	DONE(cpu, i);
}

OP(op_mov_to_cr)
{
	bool fault;
	uint64_t v = soft_reg_get(cpu, i->src, soft_is64(cpu) ? 8 : 4);
	cpu->cur = i;
	need_cpl0(cpu);
	switch (i->dst) {
	case 0:
		soft_write_cr0(cpu, v);
		break;
	case 2:
		cpu->st.cr2 = v;
		break;
	case 3:
		soft_write_cr3(cpu, v);
		break;
	case 4:
		soft_write_cr4(cpu, v);
		break;
	case 8:
		if (v & ~0xfull)
			soft_gp(cpu, 0);
		soft_io(cpu, IOLOG_CR8_W, 0, 8, v, &fault);
		cpu->st.cr8 = v;
		break;
	default:
		soft_ud(cpu);
	}
	return soft_leave_after(cpu, i);
}

OP(op_clts)
{
	cpu->cur = i;
	need_cpl0(cpu);
	cpu->st.cr0 &= ~(uint64_t)CR0_TS;
	return soft_leave_after(cpu, i);
}

OP(op_lmsw)
{
	uint64_t v;
	cpu->cur = i;
	need_cpl0(cpu);
	v = i->flags & IF_MEM ? soft_ld16(cpu, soft_la(cpu, i, 2, false)) : CPU_REG(cpu, i->dst, uint16_t);
	v = (v & 0xf) | (cpu->st.cr0 & CR0_PE); /* cannot leave protected mode */
	soft_write_cr0(cpu, (cpu->st.cr0 & ~0xfull) | v);
	return soft_leave_after(cpu, i);
}

void
soft_umip_check(struct soft_cpu *cpu)
{
	if ((cpu->st.cr4 & CR4_UMIP) && cpu->cpl != 0)
		soft_gp(cpu, 0);
}

OP(op_smsw)
{
	cpu->cur = i;
	soft_umip_check(cpu);
	if (i->flags & IF_MEM)
		soft_st16(cpu, soft_la(cpu, i, 2, true), (uint16_t)cpu->st.cr0);
	else
		soft_reg_set(cpu, i->dst, i->size, cpu->st.cr0);
	DONE(cpu, i);
}

/* ---- debug registers (SDM vol. 3B 17.2) ---- */
static unsigned
dr_number(struct soft_cpu *cpu, unsigned n)
{
	if (n > 7 || ((n == 4 || n == 5) && (cpu->st.cr4 & CR4_DE)))
		soft_ud(cpu);
	need_cpl0(cpu);
	if (cpu->st.dr[7] & (1u << 13)) { /* general detect */
		cpu->exc_dr6 = 1u << 13;
		cpu->st.dr[7] &= ~(1ull << 13);
		cpu->exc_vec = EXC_DB;
		cpu->exc_has_err = 0;
		cpu->exc_kind = EXCK_FAULT;
		longjmp(cpu->jb, LEAVE_EXC);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

OP(op_mov_from_dr)
{
	cpu->cur = i;
	soft_reg_set(cpu, i->dst, soft_is64(cpu) ? 8 : 4, cpu->st.dr[dr_number(cpu, i->src)]);
	DONE(cpu, i);
}

OP(op_mov_to_dr)
{
	uint64_t v = soft_reg_get(cpu, i->src, soft_is64(cpu) ? 8 : 4);
	cpu->cur = i;
	unsigned n = dr_number(cpu, i->dst);
	if (n >= 6 && v >> 32)
		soft_gp(cpu, 0);
	if (n == 6)
		v = (v & 0xe00f) | 0xffff0ff0;
	else if (n == 7)
		v = (v & 0xffff2bff) | 0x400;
	else if (!soft_canonical(cpu, v))
		v &= 0xffffffffffffull; /* never matches; kept readable */
	cpu->st.dr[n] = n < 4 ? soft_reg_get(cpu, i->src, soft_is64(cpu) ? 8 : 4) : v;
	soft_tlb_flush(cpu); /* watched pages take the slow path */
	soft_attn_set(cpu, ATTN_LEAVE);
	return soft_leave_after(cpu, i);
}

/* ---- TLB and caches ---- */
OP(op_invlpg)
{
	cpu->cur = i;
	need_cpl0(cpu);
	uint64_t la = soft_ea(cpu, i) & size_mask(i->addrsize);
	if (soft_is64(cpu)) {
		la += cpu->seg_base[i->segslot];
		if (!soft_canonical_wide(cpu, la))
			DONE(cpu, i); /* no operation (SDM vol. 2) */
	} else {
		la = (la + cpu->st.seg[i->seg].base) & 0xffffffff;
	}
	soft_tlb_flush_page(cpu, la, cpu->tlb2.pcid);
	return soft_leave_after(cpu, i);
}

OP(op_invpcid)
{
	unsigned n = soft_is64(cpu) ? 8 : 4;
	uint64_t desc[2];
	cpu->cur = i;
	need_cpl0(cpu);
	uint64_t type = soft_reg_get(cpu, i->dst, n), la = soft_la(cpu, i, 16, false);
	soft_load_bytes(cpu, la, desc, 16);
	bool pcide = cpu->st.cr4 & CR4_PCIDE;
	if (type > 3 || (desc[0] >> 12))
		soft_gp(cpu, 0);
	if (type <= 1 && !pcide && (desc[0] & 0xfff))
		soft_gp(cpu, 0);
	if (type == 0 && !soft_canonical_wide(cpu, desc[1]))
		soft_gp(cpu, 0);
	switch (type) {
	case 0:
		soft_tlb_flush_page(cpu, desc[1], desc[0] & 0xfff);
		break;
	case 1:
		soft_tlb_flush_pcid(cpu, desc[0] & 0xfff);
		break;
	case 2:
		soft_tlb_flush(cpu);
		break;
	default:
		soft_tlb_flush_locals(cpu);
		break;
	}
	return soft_leave_after(cpu, i);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: the access check of a byte load, and nothing else: caches are coherent here,
 * and device memory must not be read. imm2: CLZERO, which stores the line at rAX. */
OP(op_cacheline)
{
	static const uint8_t zero[64];
	if (i->imm2) {
		cpu->cur = i;
		uint64_t ea = cpu->gpr[X86_RAX] & size_mask(i->addrsize) & ~63ull;
		soft_store_bytes(cpu, soft_seg_la(cpu, i->seg, ea, 64, true), zero, 64);
		DONE(cpu, i);
	}
	soft_probe(cpu, soft_la(cpu, i, 1, false), 1, false);
	DONE(cpu, i);
}

OP(op_wbinvd)
{
	cpu->cur = i;
	need_cpl0(cpu);
	DONE(cpu, i);
}

/* ---- bases, SMAP, MONITOR ---- */
OP(op_swapgs)
{
	cpu->cur = i;
	need_cpl0(cpu);
	uint64_t t = cpu->st.seg[X86_GS].base;
	cpu->st.seg[X86_GS].base = cpu->seg_base[X86_GS] = cpu->st.msr.kernel_gs_base;
	cpu->st.msr.kernel_gs_base = t;
	DONE(cpu, i);
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: imm2 0..3 */
OP(op_fsgsbase)
{
	unsigned seg = i->imm2 & 1 ? X86_GS : X86_FS;
	cpu->cur = i;
	if (!(cpu->st.cr4 & CR4_FSGSBASE))
		soft_ud(cpu);
	if (i->imm2 < 2) {
		soft_reg_set(cpu, i->dst, i->size, cpu->st.seg[seg].base);
	} else {
		uint64_t v = soft_reg_get(cpu, i->dst, i->size);
		if (!soft_canonical_wide(cpu, v))
			soft_gp(cpu, 0);
		cpu->st.seg[seg].base = cpu->seg_base[seg] = v;
	}
	DONE(cpu, i);
}

OP(op_stac)
{
	cpu->cur = i;
	if (cpu->cpl != 0 || !(cpu->cr4_allowed & CR4_SMAP))
		soft_ud(cpu);
	if (i->imm2)
		cpu->rflags |= FL_AC;
	else
		cpu->rflags &= ~(uint64_t)FL_AC;
	soft_mmu_update(cpu);
	DONE(cpu, i);
}

/* MONITOR and MWAIT exist when CPUID says so; MWAIT may end at any time, so it is a pause. */
static void
need_monitor(struct soft_cpu *cpu)
{
	uint32_t r[4];
	soft_cpuid(cpu, 1, 0, r);
	if (!(r[2] & 8) || cpu->cpl != 0)
		soft_ud(cpu);
}

OP(op_monitor)
{
	cpu->cur = i;
	need_monitor(cpu);
	if ((uint32_t)cpu->gpr[X86_RCX] != 0)
		soft_gp(cpu, 0);
	uint64_t ea = cpu->gpr[X86_RAX] & size_mask(i->addrsize);
	soft_probe(cpu, soft_seg_la(cpu, i->seg, ea, 1, false), 1, false);
	DONE(cpu, i);
}

OP(op_mwait)
{
	cpu->cur = i;
	need_monitor(cpu);
	cpu->pauses |= 31;
	return soft_leave_after(cpu, i);
}

/* KVM_HC_SEND_IPI to nobody reaches nobody; to a vCPU it is not offered (leaf 0x40000001 does not announce
 * it). */
static uint64_t
hypercall(struct soft_cpu *cpu, uint64_t nr)
{
	enum { HC_SEND_IPI = 10 };
	if (cpu->cpl != 0)
		return (uint64_t)-1; /* EPERM */
	if (nr == HC_SEND_IPI && (uint32_t)cpu->gpr[X86_RDX] > cpu->vm->maxcpus)
		return 0;
	return (uint64_t)-1000; /* KVM_ENOSYS */
}

/* VMCALL is Intel's and VMMCALL AMD's (imm2): the other vendor's is undefined. */
OP(op_hypercall)
{
	cpu->cur = i;
	if (i->imm2 != x86_cpuid_is_amd(cpu->cpuid) || soft_is_real(cpu))
		soft_ud(cpu);
	cpu->gpr[X86_RAX] = hypercall(cpu, cpu->gpr[X86_RAX]);
	DONE(cpu, i);
}
