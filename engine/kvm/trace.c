/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * debug.trace under KVM: the vCPU stops after each instruction (KVM_GUESTDBG_SINGLESTEP), and what it changed
 * in registers is written. What goes to memory, and which events are delivered, is not to be seen from here,
 * and processors do not stop in the handler that an event leads to before its IRET: traces are for straight
 * code.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <string.h>
#include "base/util.h"
#include "engine/kvm/kvm.h"
#include "engine/trace.h"
#include "mem/gpmap.h"

/* Asked anew before each step: KVM puts the trap flag in for the RIP that it sees with the question. */
static int
arm(struct kvm_cpu *c, bool on)
{
	struct kvm_guest_debug d = {.control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};

	return kvm_ioctl(c->fd, KVM_SET_GUEST_DEBUG, &d);
}

int
kvm_trace_init(struct kvm_cpu *c, struct err *err)
{
	const struct engine_trace *cfg = &c->vm->cfg.trace;
	struct err why = {0};
	int ret;

	if (cfg->path == NULL || cfg->vcpu != c->id)
		return 0;
	if (cfg->translated)
		return err_set(err, EINVAL, "debug.trace_translated: for engine=soft");
	ret = kvm_examine_steps(&why);
	if (ret == 0)
		ret = arm(c, true);
	if (ret != 0)
		return err_set(err, -ret, "debug.trace: %s (engine=soft traces everywhere)",
			       why.msg[0] != '\0' ? why.msg : strerror(-ret));
	c->trace.file = tracer_create(cfg, true, err);
	c->trace.idle = false;
	return c->trace.file != NULL ? 0 : -err->code;
}

/* Registers as they are; false: KVM does not tell. */
static bool
look(struct kvm_cpu *c, struct x86_state *s, struct trace_snap *snap)
{
	const unsigned mask = X86_STATE_GPR | X86_STATE_SEG | X86_STATE_CR | X86_STATE_XSAVE;
	struct kvm_sregs2 k;

	if (kvm_fetch(c, mask, s) != 0 || kvm_sregs_get(c, &k) != 0)
		return false;
	memset(snap, 0, sizeof(*snap));
	memcpy(snap->gpr, s->gpr, sizeof(snap->gpr));
	snap->fl = s->rflags;
	snap->cr0 = s->cr0;
	snap->cr2 = s->cr2;
	snap->cr3 = s->cr3;
	snap->cr4 = s->cr4;
	snap->cr8 = c->run->cr8;
	snap->efer = k.efer;
	snap->xcr0 = s->xcr0;
	for (unsigned n = 0; n < 6; n++) {
		snap->sel[n] = s->seg[n].sel;
		snap->base[n] = s->seg[n].base;
	}
	snap->gdtr[0] = s->gdtr.base;
	snap->gdtr[1] = s->gdtr.limit;
	snap->idtr[0] = s->idtr.base;
	snap->idtr[1] = s->idtr.limit;
	snap->ldtr = s->seg[X86_LDTR].sel;
	snap->tr = s->seg[X86_TR].sel;
	snap->mxcsr = s->xs.mxcsr;
	memcpy(snap->k, s->xs.k, sizeof(snap->k));
	memcpy(snap->vec, s->xs.vec, sizeof(snap->vec));
	return true;
}

/* The bytes at a linear address as far as they are in memory; how many. */
static unsigned
read_code(struct kvm_cpu *c, uint64_t la, uint8_t bytes[TRACER_INSN_MAX])
{
	unsigned n = 0;

	while (n < TRACER_INSN_MAX) {
		struct kvm_translation t = {.linear_address = la + n};
		unsigned part = (unsigned)MIN(TRACER_INSN_MAX - n, 0x1000 - (t.linear_address & 0xfff));

		if (kvm_ioctl(c->fd, KVM_TRANSLATE, &t) != 0 || !t.valid ||
		    !gm_read(c->vm->cfg.mem, t.physical_address, bytes + n, part))
			break;
		n += part;
	}
	return n;
}

static enum tracer_mode
mode_of(const struct x86_state *s, const struct trace_snap *snap)
{
	uint16_t attr = s->seg[X86_CS].attr;

	if ((snap->efer & EFER_LMA) && (attr & SEG_L))
		return TRACER_64;
	return attr & SEG_DB ? TRACER_32 : TRACER_16;
}

/* Enough: the guest goes on at full speed. */
static void
stop(struct kvm_cpu *c)
{
	kvm_trace_destroy(c);
	(void)arm(c, false);
}

/* A record ends, another begins. False: there is no more to write. */
static bool
record(struct kvm_cpu *c)
{
	uint8_t bytes[TRACER_INSN_MAX];
	enum tracer_next next;
	struct trace_snap snap;
	struct x86_state s;
	enum tracer_mode mode;
	uint64_t la;

	if (!look(c, &s, &snap))
		return false;
	if (tracer_pending(c->trace.file))
		tracer_end(c->trace.file, &snap);
	next = tracer_next(c->trace.file);
	if (next == TRACER_DONE || next == TRACER_SKIP)
		return next == TRACER_SKIP;
	mode = mode_of(&s, &snap);
	if (next == TRACER_FIRST)
		tracer_start(c->trace.file, s.rip, mode, &snap);
	la = mode == TRACER_64 ? s.rip : (s.rip + s.seg[X86_CS].base) & 0xffffffff;
	tracer_begin(c->trace.file, s.rip, mode, bytes, read_code(c, la, bytes));
	return true;
}

void
kvm_trace_step(struct kvm_cpu *c)
{
	bool same = c->trace.idle; /* the same instruction again */

	c->trace.idle = false;
	if (!same && !record(c))
		stop(c);
	else
		(void)arm(c, true);
}

void
kvm_trace_destroy(struct kvm_cpu *c)
{
	struct trace_snap snap;
	struct x86_state s;

	if (c->trace.file == NULL)
		return;
	if (tracer_pending(c->trace.file) && look(c, &s, &snap))
		tracer_end(c->trace.file, &snap);
	tracer_destroy(c->trace.file);
	c->trace.file = NULL;
}
