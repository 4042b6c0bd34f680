/* SPDX-License-Identifier: BSD-2-Clause */
/* See world.h. */
#include "tests/native/world.h"

#include <stdio.h>
#include <string.h>
#include "base/util.h"
#include "engine/soft/soft.h"

enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD = 0x3000,
	PT_LOW = 0x4000,
	PT_CODE = 0x5000,
	PT_DATA = 0x6000,
	GDT = 0x7000,
	IDT = 0x8000,
	TSS = 0x9000,
	GATES = 0xa000,
	STACK_TOP = 0xc000,
	CODE_GPA = 0x100000,
	DATA_GPA = 0x110000,
	PTE_P = 1,
	PTE_W = 2,
	PTE_U = 4,
	KERNEL_CS = 0x10,
	KERNEL_SS = 0x18,
	TR = 0x40,
};
#define PTE_NX (1ull << 63)

enum {
	ATTR_CODE64 = 0xb | SEG_S | SEG_P | SEG_L | SEG_G,
	ATTR_CODE32 = 0xb | SEG_S | SEG_P | SEG_DB | SEG_G,
	ATTR_DATA = 0x3 | SEG_S | SEG_P | SEG_DB | SEG_G,
	ATTR_RING3 = 3 << SEG_DPL_SHIFT,
	ATTR_TSS = 0xb | SEG_P,
};

static void
make_page_tables(struct rig *r)
{
	const uint64_t table = PTE_P | PTE_W | PTE_U;

	rig_write64(r, PML4, PDPT | table);
	rig_write64(r, PDPT, PD | table);
	rig_write64(r, PD, PT_LOW | table);
	rig_write64(r, PD + 8 * (ORACLE_CODE >> 21), PT_CODE | table);
	rig_write64(r, PD + 8 * (ORACLE_DATA >> 21), PT_DATA | table);
	for (uint64_t i = 0; i < 16; i++)
		rig_write64(r, PT_LOW + 8 * i, i << 12 | PTE_P | PTE_W);
	for (uint64_t i = 0; i < ORACLE_CODE_SIZE >> 12; i++)
		rig_write64(r, PT_CODE + 8 * i, (CODE_GPA + (i << 12)) | PTE_P | PTE_U);
	for (uint64_t i = 0; i < ORACLE_DATA_SIZE >> 12; i++)
		rig_write64(r, PT_DATA + 8 * i,
			    (DATA_GPA + (i << 12)) | PTE_P | PTE_U | PTE_NX |
				(i << 12 < ORACLE_DATA_RO ? PTE_W : 0));
}

/* A flat descriptor from its attributes: bits 0-7 and 12-15 of the attributes are bits 40-47 and 52-55. */
static uint64_t
descriptor(uint32_t attr)
{
	return 0x000f00000000ffffull | (uint64_t)(attr & 0xff) << 40 | (uint64_t)(attr & 0xf000) << 40;
}

static void
make_descriptors(struct rig *r)
{
	rig_write64(r, GDT + KERNEL_CS, descriptor(ATTR_CODE64));
	rig_write64(r, GDT + KERNEL_SS, descriptor(ATTR_DATA));
	rig_write64(r, GDT + (ORACLE_CS32 & ~7), descriptor(ATTR_CODE32 | ATTR_RING3));
	rig_write64(r, GDT + (ORACLE_SS & ~7), descriptor(ATTR_DATA | ATTR_RING3));
	rig_write64(r, GDT + (ORACLE_CS64 & ~7), descriptor(ATTR_CODE64 | ATTR_RING3));
	rig_write64(r, TSS + 4, STACK_TOP); /* RSP0 */
	for (uint64_t v = 0; v < 32; v++) {
		static const uint8_t halt[] = {0xf4, 0xeb, 0xfd};
		uint64_t gate = GATES + 16 * v;

		rig_write(r, gate, halt, sizeof(halt));
		rig_write64(r, IDT + 16 * v,
			    (gate & 0xffff) | KERNEL_CS << 16 | 0x8eull << 40 | (gate >> 16) << 48);
		rig_write64(r, IDT + 16 * v + 8, 0);
	}
}

static struct x86_state base_state;

static void
make_base_state(void)
{
	struct x86_state *s = &base_state;

	x86_state_reset(s);
	s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	s->cr3 = PML4;
	s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	s->xcr0 = oracle_xcr0();
	s->msr.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	s->gdtr = (struct x86_dtable){.base = GDT, .limit = 0x7f};
	s->idtr = (struct x86_dtable){.base = IDT, .limit = 32 * 16 - 1};
	for (unsigned i = 0; i < X86_NSEG; i++)
		s->seg[i] = rig_segment(0, SEG_UNUSABLE);
	s->seg[X86_DS] = s->seg[X86_ES] = s->seg[X86_SS] = rig_segment(ORACLE_SS, ATTR_DATA | ATTR_RING3);
	s->seg[X86_TR] = (struct x86_segment){.sel = TR, .attr = ATTR_TSS, .limit = 0x67, .base = TSS};
	s->activity = ACT_RUNNING;
}

/* The interrupted state from the frame on the gate's stack. */
static void
take_frame(struct rig *r, struct oracle_state *s, const struct x86_state *x)
{
	uint64_t frame[6];
	unsigned first = 0;

	s->vector = (int)((x->rip - GATES) / 16);
	rig_read(r, STACK_TOP - sizeof(frame), frame, sizeof(frame));
	if (x->gpr[X86_RSP] == STACK_TOP - sizeof(frame))
		s->error = (uint32_t)frame[0];
	first = 1;
	s->rip = frame[first];
	s->rflags = frame[first + 2];
	s->gpr[X86_RSP] = frame[first + 3];
	if (s->vector == EXC_PF)
		s->cr2 = x->cr2;
}

int
world_open(struct rig *r, struct err *err)
{
	int ret = rig_open(r, 0x200000, err);
	if (ret != 0)
		return ret;
	make_page_tables(r);
	make_descriptors(r);
	return 0;
}

bool
world_run(struct rig *r, struct oracle_state *s, const uint8_t *code, unsigned len, enum world_way way,
	  uint64_t limit, char *why, size_t size)
{
	static struct x86_state x;
	struct vm_exit exit = {.kind = VM_EXIT_INTR};
	struct err err = {0};
	bool ended = true;

	if (base_state.xcr0 == 0)
		make_base_state(); /* the oracle is open by now */
	x = base_state;
	memcpy(x.gpr, s->gpr, sizeof(x.gpr));
	x.rip = s->rip;
	x.rflags = (s->rflags & (FL_ARITH | FL_DF | FL_AC)) | FL_1 | FL_IF;
	x.seg[X86_CS] = s->compat ? rig_segment(ORACLE_CS32, ATTR_CODE32 | ATTR_RING3)
				  : rig_segment(ORACLE_CS64, ATTR_CODE64 | ATTR_RING3);
	x.xs = s->xs;
	rig_write(r, CODE_GPA + (s->rip - ORACLE_CODE), code, len);
	rig_write(r, DATA_GPA, s->data, ORACLE_DATA_SIZE);
	if (engine_soft.set_state(r->vcpu, X86_STATE_ALL, &x, &err) != 0) {
		snprintf(why, size, "set_state: %.250s", err.msg);
		return false;
	}
	if (way == WORLD_WHOLE)
		engine_soft.run(r->vcpu, &exit);
	else
		ended = (way == WORLD_STEP ? soft_vcpu_step : soft_vcpu_step_translated)(r->vcpu, limit,
											 &exit) != 0;
	if (ended && exit.kind != VM_EXIT_HLT) {
		snprintf(why, size, "exit %d %.200s", exit.kind,
			 exit.kind == VM_EXIT_UNSUPPORTED ? exit.u.why : "");
		return false;
	}
	engine_soft.get_state(r->vcpu, X86_STATE_ALL, &x);
	memcpy(s->gpr, x.gpr, sizeof(s->gpr));
	s->rip = x.rip;
	s->rflags = x.rflags;
	s->xs = x.xs;
	s->vector = ORACLE_NO_FAULT;
	s->error = 0;
	s->cr2 = 0;
	rig_read(r, DATA_GPA, s->data, ORACLE_DATA_SIZE);
	if ((x.seg[X86_CS].sel & 3) == 0)
		take_frame(r, s, &x);
	s->rflags &= ~(uint64_t)FL_TF;
	return true;
}
