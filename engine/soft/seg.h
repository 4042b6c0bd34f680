/* SPDX-License-Identifier: BSD-2-Clause */
/* Pieces of segment handling shared by transfers and exception delivery. Private to engine/soft. */
#ifndef LHYVE_SOFT_SEG_H
#define LHYVE_SOFT_SEG_H

#include "engine/soft/cpu.h"

void soft_mark_accessed(struct soft_cpu *cpu, uint64_t la, uint64_t desc);
void soft_load_seg_real(struct soft_cpu *cpu, unsigned seg, uint16_t sel);
void soft_check_stack(struct soft_cpu *cpu, uint16_t sel, unsigned cpl, bool from_tss,
		      struct x86_segment *out);
void soft_drop_inner_segs(struct soft_cpu *cpu);
bool soft_segment_reaches(const struct soft_cpu *cpu, const struct x86_segment *s, uint64_t ea, unsigned size,
			  bool write);
/* Checks as of an access through *s, whichever register it will be in. */
uint64_t soft_segment_la(struct soft_cpu *cpu, const struct x86_segment *s, bool ss, uint64_t ea,
			 unsigned size, bool write);

/* A stack being pushed to or popped from, before it becomes the current one. */
struct soft_stack {
	struct x86_segment ss;
	uint64_t sp, mask;
	unsigned cpl;
	bool wide;  /* 64-bit: no segment checks */
	bool fresh; /* from the TSS: #SS names its selector */
};

void soft_stack_current(struct soft_cpu *cpu, struct soft_stack *s);
void soft_stack_push(struct soft_cpu *cpu, struct soft_stack *s, unsigned size, uint64_t val);
uint64_t soft_stack_pop(struct soft_cpu *cpu, struct soft_stack *s, unsigned size);
/* SS:SP for level `cpl` from the TSS (32 or 16-bit), or RSP0-2 / IST in long mode (ist 0: RSPn). */
void soft_stack_from_tss(struct soft_cpu *cpu, struct soft_stack *s, unsigned cpl, unsigned ist);
/* The stack pointer back into RSP, and SS when it changed level. */
void soft_stack_commit_sp(struct soft_cpu *cpu, const struct soft_stack *s);

uint64_t soft_return_desc(struct soft_cpu *cpu, uint16_t sel, uint64_t *la);
void soft_return_stack(struct soft_cpu *cpu, uint16_t sel, uint64_t code_desc, unsigned rpl,
		       struct x86_segment *out);

/* A code descriptor into CS with the given RPL; sets CPL. */
void soft_commit_cs(struct soft_cpu *cpu, uint16_t sel, uint64_t desc, uint64_t la, unsigned cpl);
/* #GP(0) unless off is a legal IP in the segment of `desc`. */
void soft_check_ip(struct soft_cpu *cpu, uint64_t desc, uint64_t off);

/* ---- task.c ---- */
enum soft_task_how { TASK_JMP, TASK_CALL /* and interrupts: nests */, TASK_IRET };
/* err: error code to push on the new stack, or -1. */
void soft_task_switch(struct soft_cpu *cpu, uint16_t sel, enum soft_task_how how, uint64_t next_rip, int err);
uint16_t soft_task_gate_target(uint64_t desc);

/* ---- vme.c ---- */
bool soft_virtual_if(const struct soft_cpu *cpu); /* CLI and friends work on VIF here */
void soft_virtual_cli_sti(struct soft_cpu *cpu, bool sti);
uint16_t soft_vme_flags_image(const struct soft_cpu *cpu);
void soft_vme_pop_flags(struct soft_cpu *cpu, uint16_t image);
bool soft_vme_int(struct soft_cpu *cpu, unsigned vec, uint64_t next_rip);

#endif
