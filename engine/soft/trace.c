/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * debug.trace in the software engine: what each instruction of one vCPU changed. The vCPU runs one
 * instruction at a time and has no entry in its TLB that allows writes, so that every one comes by (mmu.c).
 */
#include <string.h>

#include "engine/soft/jit.h"
#include "engine/trace.h"

static void
take_snap(struct soft_cpu *cpu, struct trace_snap *s)
{
	const struct x86_state *st = &cpu->st;

	soft_vec_sync(cpu);
	memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
	s->fl = soft_rflags(cpu);
	s->cr0 = st->cr0;
	s->cr2 = st->cr2;
	s->cr3 = st->cr3;
	s->cr4 = st->cr4;
	s->cr8 = st->cr8;
	s->efer = st->msr.efer;
	s->xcr0 = st->xcr0;
	for (unsigned n = 0; n < 6; n++) {
		s->sel[n] = st->seg[n].sel;
		s->base[n] = st->seg[n].base;
	}
	s->gdtr[0] = st->gdtr.base;
	s->gdtr[1] = st->gdtr.limit;
	s->idtr[0] = st->idtr.base;
	s->idtr[1] = st->idtr.limit;
	s->ldtr = st->seg[X86_LDTR].sel;
	s->tr = st->seg[X86_TR].sel;
	s->mxcsr = st->xs.mxcsr;
	memcpy(s->k, st->xs.k, sizeof(s->k));
	memcpy(s->fx, cpu->fximage, sizeof(s->fx));
	memcpy(s->vec, st->xs.vec, sizeof(s->vec));
}

static void
begin(struct soft_cpu *cpu)
{
	uint64_t la = soft_is64(cpu) ? cpu->rip : (cpu->rip + cpu->st.seg[X86_CS].base) & 0xffffffff;
	uint8_t bytes[TRACER_INSN_MAX];
	unsigned n = 0;

	/* The bytes at RIP as far as they can be read without a side effect. */
	while (n < sizeof(bytes)) {
		uint64_t at = la + n, gpa;
		unsigned part = (unsigned)MIN(sizeof(bytes) - n, 0x1000 - (at & 0xfff));

		if (!soft_translate(cpu, at, &gpa) || !gm_read(cpu->vm->mem, gpa, bytes + n, part))
			break;
		n += part;
	}
	tracer_begin(cpu->trace, cpu->rip, (enum tracer_mode)(cpu->mode & MODE_CS), bytes, n);
}

static void
finish(struct soft_cpu *cpu)
{
	struct trace_snap now;

	if (!tracer_pending(cpu->trace))
		return;
	take_snap(cpu, &now);
	tracer_end(cpu->trace, &now);
}

void
soft_trace_close(struct soft_cpu *cpu)
{
	if (cpu->trace == NULL)
		return;
	finish(cpu);
	tracer_destroy(cpu->trace);
	cpu->trace = NULL;
}

void
soft_trace_step(struct soft_cpu *cpu)
{
	struct trace_snap now;

	if (cpu->iolog_n != 0)
		return; /* a device answered: the same instruction again */
	soft_vec_sync(cpu);
	finish(cpu);
	switch (tracer_next(cpu->trace)) {
	case TRACER_SKIP:
		return;
	case TRACER_DONE:
		soft_trace_close(cpu);
		cpu->jit_one = 0;
		soft_tlb_flush(cpu);
		soft_attn_set(cpu, ATTN_LEAVE);
		return;
	case TRACER_FIRST:
		take_snap(cpu, &now);
		tracer_start(cpu->trace, cpu->rip, (enum tracer_mode)(cpu->mode & MODE_CS), &now);
		break;
	case TRACER_GO:
		break;
	}
	begin(cpu);
}

void
soft_trace_event(struct soft_cpu *cpu)
{
	bool has_error = cpu->exc_kind != EXCK_EXT && cpu->exc_has_err;

	tracer_event(cpu->trace, cpu->exc_vec, has_error, cpu->exc_has_err ? cpu->exc_err : 0);
}

void
soft_trace_write(struct soft_cpu *cpu, uint64_t gpa, uint64_t len)
{
	uint8_t *p;

	if (!tracer_pending(cpu->trace))
		return;
	soft_vec_sync(cpu);
	p = tracer_memory(cpu->trace, gpa, len);
	if (p != NULL && !gm_read(cpu->vm->mem, gpa, p, len))
		tracer_memory_undo(cpu->trace, len);
}
