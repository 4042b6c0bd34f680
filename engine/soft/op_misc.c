/* SPDX-License-Identifier: BSD-2-Clause */
/* Integer instructions that fit no family: conversions, flag bits, BCD, random numbers, fences. */
#include "engine/soft/ops.h"

OP(op_nop)
{
	NEXT(cpu, i);
}

OP(op_pause)
{
	/* Spinning beside other vCPUs: give the processor away now and then, so that a lock's holder can run.
	 */
	if (atomic_load_explicit(&cpu->vm->ncpus, memory_order_relaxed) > 1 && (++cpu->pauses & 31) == 0) {
		cpu->exit->kind = VM_EXIT_PAUSE;
		cpu->exit_open = false;
		cpu->rip = soft_next_rip(cpu, i);
		cpu->cur = NULL;
		longjmp(cpu->jb, LEAVE_EXIT);
	}
	NEXT(cpu, i);
}

OP(op_bswap)
{
	if (i->size == 8)
		CPU_REG(cpu, i->dst, uint64_t) = __builtin_bswap64(CPU_REG(cpu, i->dst, uint64_t));
	else if (i->size == 4)
		CPU_REG(cpu, i->dst, uint64_t) = __builtin_bswap32(CPU_REG(cpu, i->dst, uint32_t));
	else /* undefined by the SDM; processors give zero */
		CPU_REG(cpu, i->dst, uint16_t) = 0;
	NEXT(cpu, i);
}

/* CBW, CWDE, CDQE */
OP(op_cbw)
{
	if (i->size == 2)
		CPU_REG(cpu, 0, uint16_t) = (uint16_t)CPU_REG(cpu, 0, int8_t);
	else if (i->size == 4)
		CPU_REG(cpu, 0, uint64_t) = (uint32_t)CPU_REG(cpu, 0, int16_t);
	else
		CPU_REG(cpu, 0, uint64_t) = (uint64_t)(int64_t)CPU_REG(cpu, 0, int32_t);
	NEXT(cpu, i);
}

/* CWD, CDQ, CQO */
OP(op_cwd)
{
	uint64_t sign = soft_reg_get(cpu, 0, i->size) >> (i->size * 8 - 1) ? ~0ull : 0;
	soft_reg_set(cpu, X86_RDX * 8, i->size, sign);
	NEXT(cpu, i);
}

OP(op_xlat)
{
	uint64_t ea = (cpu->gpr[X86_RBX] + CPU_REG(cpu, 0, uint8_t)) & size_mask(i->addrsize);
	cpu->cur = i;
	uint64_t la = i->flags & IF_EASLOW && !soft_is64(cpu) ? soft_seg_la(cpu, i->seg, ea, 1, false)
							      : ea + cpu->seg_base[i->segslot];
	CPU_REG(cpu, 0, uint8_t) = soft_ld8(cpu, la);
	NEXT(cpu, i);
}

OP(op_lahf)
{
	CPU_REG(cpu, 1, uint8_t) = (uint8_t)soft_rflags(cpu);
	NEXT(cpu, i);
}

OP(op_sahf)
{
	uint16_t of = cpu->fl & SFL_OF;
	cpu->fl = soft_eflags_to_fl(CPU_REG(cpu, 1, uint8_t)) | of;
	NEXT(cpu, i);
}

OP(op_flag)
{
	switch (i->imm2) {
	case 0:
		cpu->fl &= (uint16_t)~SFL_CF;
		break;
	case 1:
		cpu->fl |= SFL_CF;
		break;
	case 2:
		cpu->fl ^= SFL_CF;
		break;
	case 3:
		cpu->rflags &= ~(uint64_t)FL_DF;
		break;
	default:
		cpu->rflags |= FL_DF;
		break;
	}
	NEXT(cpu, i);
}

/* ---- BCD: not encodable in 64-bit mode (SDM vol. 2, the operations' pseudo-code) ---- */
static void
set_szp(struct soft_cpu *cpu, uint8_t v, bool cf, bool af)
{
	uint16_t f = 0;
	__asm__("testb %1, %1\n\t" SOFT_FLAGS_OUT : "=&a"(f) : "q"(v) : "cc");
	f &= (uint16_t) ~(SFL_CF | SFL_AF);
	cpu->fl = (uint16_t)(f | (cf ? SFL_CF : 0) | (af ? SFL_AF : 0));
}

static void
bcd_daa_das(struct soft_cpu *cpu, bool sub)
{
	uint8_t al = CPU_REG(cpu, 0, uint8_t), old = al;
	bool cf = cpu->fl & SFL_CF, af = cpu->fl & SFL_AF, ncf = false;
	if ((al & 15) > 9 || af) {
		ncf = cf || (sub ? al < 6 : al > 0xf9);
		al = (uint8_t)(sub ? al - 6 : al + 6);
		af = true;
	} else {
		af = false;
	}
	if (old > 0x99 || cf) {
		al = (uint8_t)(sub ? al - 0x60 : al + 0x60);
		ncf = true;
	}
	CPU_REG(cpu, 0, uint8_t) = al;
	set_szp(cpu, al, ncf, af);
}

static void
bcd_aaa_aas(struct soft_cpu *cpu, bool sub)
{
	uint16_t ax = CPU_REG(cpu, 0, uint16_t);
	bool adj = (ax & 15) > 9 || (cpu->fl & SFL_AF);
	if (adj)
		ax = (uint16_t)(sub ? ax - 0x106 : ax + 0x106);
	ax &= 0xff0f;
	CPU_REG(cpu, 0, uint16_t) = ax;
	set_szp(cpu, (uint8_t)ax, adj, adj);
}

OP(op_bcd)
{
	uint8_t al = CPU_REG(cpu, 0, uint8_t), ah = CPU_REG(cpu, 1, uint8_t), base = (uint8_t)i->imm;
	cpu->cur = i;
	switch (i->imm2) {
	case 0:
		bcd_daa_das(cpu, false);
		break;
	case 1:
		bcd_daa_das(cpu, true);
		break;
	case 2:
		bcd_aaa_aas(cpu, false);
		break;
	case 3:
		bcd_aaa_aas(cpu, true);
		break;
	case 4: /* AAM */
		if (base == 0)
			soft_raise(cpu, EXC_DE);
		CPU_REG(cpu, 1, uint8_t) = al / base;
		CPU_REG(cpu, 0, uint8_t) = al % base;
		set_szp(cpu, al % base, false, false);
		break;
	default: /* AAD */
		al = (uint8_t)(al + ah * base);
		CPU_REG(cpu, 0, uint16_t) = al;
		set_szp(cpu, al, false, false);
		break;
	}
	NEXT(cpu, i);
}

OP(op_salc)
{
	CPU_REG(cpu, 0, uint8_t) = cpu->fl & SFL_CF ? 0xff : 0;
	NEXT(cpu, i);
}

/* MOV between the accumulator and an absolute offset of the address size; imm2: store. */
OP(op_mov_moffs)
{
	uint64_t la;
	cpu->cur = i;
	if (i->flags & IF_EASLOW && !soft_is64(cpu))
		la = soft_seg_la(cpu, i->seg, (uint64_t)i->imm & size_mask(i->addrsize), i->size, i->imm2);
	else
		la = ((uint64_t)i->imm & size_mask(i->addrsize)) + cpu->seg_base[i->segslot];
	if (i->imm2)
		soft_store(cpu, la, i->size, soft_reg_get(cpu, 0, i->size));
	else
		soft_reg_set(cpu, 0, i->size, soft_load(cpu, la, i->size));
	NEXT(cpu, i);
}

/* RDRAND, RDSEED (imm2): from the host's generator; CF says whether there was entropy. */
OP(op_rdrand)
{
	uint64_t v = 0;
	uint8_t ok;
	if (i->imm2)
		__asm__ volatile("rdseed %0\n\tsetc %1" : "=r"(v), "=qm"(ok) : : "cc");
	else
		__asm__ volatile("rdrand %0\n\tsetc %1" : "=r"(v), "=qm"(ok) : : "cc");
	soft_reg_set(cpu, i->dst, i->size, v);
	cpu->fl = ok ? SFL_CF : 0;
	NEXT(cpu, i);
}

OP(op_fence)
{
	__asm__ volatile("mfence" : : : "memory");
	NEXT(cpu, i);
}

OP(op_movnti)
{
	soft_store(cpu, soft_la(cpu, i, i->size, true), i->size, soft_reg_get(cpu, i->src, i->size));
	NEXT(cpu, i);
}

/* RDPKRU, WRPKRU (imm2): ECX must be 0, and EDX for the write; #UD without CR4.PKE. */
OP(op_pkru)
{
	cpu->cur = i;
	if (!(cpu->st.cr4 & CR4_PKE))
		soft_ud(cpu);
	if ((uint32_t)cpu->gpr[X86_RCX] != 0 || (i->imm2 && (uint32_t)cpu->gpr[X86_RDX] != 0))
		soft_gp(cpu, 0);
	if (!i->imm2) {
		cpu->gpr[X86_RAX] = cpu->st.xs.pkru;
		cpu->gpr[X86_RDX] = 0;
		NEXT(cpu, i);
	}
	if (cpu->st.xs.pkru == (uint32_t)cpu->gpr[X86_RAX])
		return soft_leave_after(cpu, i);
	cpu->st.xs.pkru = (uint32_t)cpu->gpr[X86_RAX];
	soft_tlb_recheck(cpu);
	return soft_leave_after(cpu, i);
}
