/* SPDX-License-Identifier: BSD-2-Clause */
/* libvmmapi, what is x86-64's. Included by <vmmapi.h>; rules and threads are told there. */
#ifndef VMMAPI_X86_64_H
#define VMMAPI_X86_64_H

#define VM_LOWMEM_LIMIT 0xc0000000ull /* RAM beyond it is above 4 GiB */

/* ---- exits ---- */

enum vm_exitcode_md {
	VM_EXITCODE_INOUT = 0x100, /* u.md.inout */
	VM_EXITCODE_RDMSR,	   /* an MSR of the local APIC's, without VM_CREATE_INTC: u.md.msr */
	VM_EXITCODE_WRMSR,
	VM_EXITCODE_CR8,	/* CR8 was written, or is read: without VM_CREATE_INTC */
	VM_EXITCODE_IOAPIC_EOI, /* lhyve's own: a level-triggered interrupt ended at an APIC of the engine's
				 */
	VM_EXITCODE_PMI,	/* a performance counter overflowed that interrupts: without VM_CREATE_INTC */
};

union vmexit_md {
	struct {
		uint16_t port;
		uint8_t bytes; /* 1, 2, 4 */
		bool in;
		uint32_t eax; /* written, or the answer */
	} inout;
	struct {
		uint32_t code;
		uint64_t val; /* written, or the answer */
		bool fault;   /* answer: #GP(0) */
	} msr;
	struct {
		bool read;
		uint64_t val;
	} cr8;
	uint8_t vector;
};

/* ---- registers ---- */

enum vm_reg_name {
	VM_REG_GUEST_RAX,
	VM_REG_GUEST_RCX,
	VM_REG_GUEST_RDX,
	VM_REG_GUEST_RBX,
	VM_REG_GUEST_RSP,
	VM_REG_GUEST_RBP,
	VM_REG_GUEST_RSI,
	VM_REG_GUEST_RDI,
	VM_REG_GUEST_R8,
	VM_REG_GUEST_R9,
	VM_REG_GUEST_R10,
	VM_REG_GUEST_R11,
	VM_REG_GUEST_R12,
	VM_REG_GUEST_R13,
	VM_REG_GUEST_R14,
	VM_REG_GUEST_R15,
	VM_REG_GUEST_RIP,
	VM_REG_GUEST_RFLAGS,
	VM_REG_GUEST_CR0,
	VM_REG_GUEST_CR2,
	VM_REG_GUEST_CR3,
	VM_REG_GUEST_CR4,
	VM_REG_GUEST_CR8,
	VM_REG_GUEST_XCR0,
	VM_REG_GUEST_EFER,
	VM_REG_GUEST_DR0,
	VM_REG_GUEST_DR1,
	VM_REG_GUEST_DR2,
	VM_REG_GUEST_DR3,
	VM_REG_GUEST_DR6,
	VM_REG_GUEST_DR7,
	/* Selectors. The hidden parts go by vm_set_desc(). */
	VM_REG_GUEST_ES,
	VM_REG_GUEST_CS,
	VM_REG_GUEST_SS,
	VM_REG_GUEST_DS,
	VM_REG_GUEST_FS,
	VM_REG_GUEST_GS,
	VM_REG_GUEST_LDTR,
	VM_REG_GUEST_TR,
	/* For vm_set_desc() and vm_get_desc() only. */
	VM_REG_GUEST_GDTR,
	VM_REG_GUEST_IDTR,
	/* MSRs */
	VM_REG_GUEST_STAR,
	VM_REG_GUEST_LSTAR,
	VM_REG_GUEST_CSTAR,
	VM_REG_GUEST_FMASK,
	VM_REG_GUEST_KGS_BASE,
	VM_REG_GUEST_SYSENTER_CS,
	VM_REG_GUEST_SYSENTER_ESP,
	VM_REG_GUEST_SYSENTER_EIP,
	VM_REG_GUEST_PAT,
	VM_REG_GUEST_TSC_AUX,
	VM_REG_GUEST_TSC_ADJUST,
	VM_REG_GUEST_INTR_SHADOW,
	VM_REG_LAST,
};

struct seg_desc {
	uint64_t base;
	uint32_t limit;	 /* bytes */
	uint32_t access; /* as in VMX: 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable */
};

/* ES to TR, GDTR, IDTR. */
int vm_set_desc(struct vcpu *vcpu, int reg, uint64_t base, uint32_t limit, uint32_t access);
int vm_get_desc(struct vcpu *vcpu, int reg, uint64_t *base, uint32_t *limit, uint32_t *access);
int vm_get_seg_desc(struct vcpu *vcpu, int reg, struct seg_desc *d);
/* Flat 32-bit protected mode at eip, paging off, interrupts off: what multiboot and PVH begin with. */
int vm_setup_protected(struct vcpu *vcpu, uint32_t eip);
/* Real mode at sel:ip. */
int vm_setup_real(struct vcpu *vcpu, uint16_t sel, uint16_t ip);

/* ---- capabilities ---- */

enum vm_cap_type {
	VM_CAP_HALT_EXIT,	   /* HLT leaves vm_run() */
	VM_CAP_PAUSE_EXIT,	   /* PAUSE may leave vm_run() */
	VM_CAP_UNRESTRICTED_GUEST, /* real mode and paging off run */
	VM_CAP_ENABLE_INVPCID,	   /* CPUID offers INVPCID */
	VM_CAP_RDTSCP,		   /* CPUID offers RDTSCP and RDPID */
	VM_CAP_X2APIC,		   /* CPUID offers the x2APIC */
	VM_CAP_MAX,
};

/* ---- interrupt controllers: with VM_CREATE_INTC, else -ENODEV ---- */

/* Assert a vector, 16 to 255, at this vCPU's local APIC. */
int vm_lapic_irq(struct vcpu *vcpu, int vector);
/* A message: address 0xfeexxxxx and data as in the SDM vol. 3A 11.11. */
int vm_lapic_msi(struct vmctx *ctx, uint64_t addr, uint64_t msg);
int vm_ioapic_assert_irq(struct vmctx *ctx, int pin);
int vm_ioapic_deassert_irq(struct vmctx *ctx, int pin);
int vm_ioapic_pulse_irq(struct vmctx *ctx, int pin);
int vm_ioapic_pincount(struct vmctx *ctx, int *pins);
/* An ISA line: at the 8259s, and at the I/O APIC too unless ioapic_irq is -1. */
int vm_isa_assert_irq(struct vmctx *ctx, int atpic_irq, int ioapic_irq);
int vm_isa_deassert_irq(struct vmctx *ctx, int atpic_irq, int ioapic_irq);
int vm_isa_pulse_irq(struct vmctx *ctx, int atpic_irq, int ioapic_irq);

#endif
