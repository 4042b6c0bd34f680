/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What KVM cannot emulate runs in the soft engine's interpreter: a vCPU of that engine on the same memory
 * gets the state, runs one instruction, and the state goes back. Device accesses go to the caller as exits of
 * its own; until the instruction is done the soft vCPU holds the state.
 *
 * One instruction at first. Where KVM fails again at once, at the very address it was given, twice as many as
 * the last time, so that a mode that KVM does not have at all costs little more than interpreting. The
 * interpreter compares each instruction with memory before it runs it, so other vCPUs may write code
 * meanwhile.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"
#include "engine/kvm/kvm.h"
#include "engine/soft/soft.h"

enum { BURST_MAX = 4096, PIECE = 64 };

static struct engine_vm *
make_soft(struct kvm_vm *vm, const struct engine_vm_cfg *cfg, struct err *err)
{
	struct engine_vm *soft = engine_soft.vm_create(cfg, err);

	if (soft == NULL || !vm->logging || engine_soft.dirty_start(soft, err) == 0)
		return soft;
	engine_soft.vm_destroy(soft);
	return NULL;
}

/* The soft VM is made when first needed: most hosts' KVM never does. */
int
kvm_assist_init(struct kvm_cpu *c, struct err *err)
{
	struct kvm_vm *vm = c->vm;
	struct engine_vm_cfg cfg = vm->cfg;
	struct err e = {0}; /* *err may hold an earlier error */

	if (c->assist.soft != NULL)
		return 0;
	cfg.soft_interpret = true;
	cfg.trace.path = NULL;
	c->assist.state = aligned_alloc(64, align_up(sizeof(*c->assist.state), 64));
	if (c->assist.state == NULL)
		return err_set(err, ENOMEM, "no memory");
	memset(c->assist.state, 0, sizeof(*c->assist.state));
	pthread_mutex_lock(&vm->lock);
	if (vm->soft == NULL)
		vm->soft = make_soft(vm, &cfg, &e);
	kvm_dirty_watch(vm);
	if (vm->soft != NULL)
		c->assist.soft = engine_soft.vcpu_create(vm->soft, c->id, c->cpuid, &e);
	pthread_mutex_unlock(&vm->lock);
	if (c->assist.soft != NULL)
		return 0;
	*err = e;
	return -e.code;
}

void
kvm_assist_destroy(struct kvm_cpu *c)
{
	if (c->assist.soft != NULL)
		engine_soft.vcpu_destroy(c->assist.soft);
	free(c->assist.state);
	c->assist.soft = NULL;
	c->assist.state = NULL;
}

static bool
give_up(struct kvm_cpu *c, struct vm_exit *x, const char *what)
{
	x->kind = VM_EXIT_UNSUPPORTED;
	snprintf(x->u.why, sizeof(x->u.why), "kvm: vcpu %u: %s, and no interpreter: %.70s", c->id,
		 c->assist.why, what);
	return true;
}

/* The state goes back to KVM. True: it does not take it, *x says so. */
static bool
put_back(struct kvm_cpu *c, struct vm_exit *x)
{
	struct x86_state *s = c->assist.state;
	struct err err = {0};

	engine_soft.get_state(c->assist.soft, X86_STATE_ALL, s);
	c->assist.open = false;
	c->assist.rip = s->rip;
	s->cr8 = c->cr8;
	if (kvm_store(c, X86_STATE_ALL, s, &err) != 0)
		return give_up(c, x, err.msg);
	c->ready = (s->rflags & FL_IF) && s->shadow == 0 && !s->intr_pending && s->pending_db == 0;
	return false;
}

/* The soft vCPU has left: what becomes of it. True: *x is for the caller. */
static bool
take_soft_exit(struct kvm_cpu *c, struct vm_exit *x)
{
	enum vm_exit_kind kind = x->kind;
	char why[100];

	if (kvm_has_apic(c->vm) && kind == VM_EXIT_HLT)
		return put_back(c, x); /* and KVM waits */
	switch (kind) {
	case VM_EXIT_IO:
	case VM_EXIT_MMIO:
	case VM_EXIT_RDMSR:
	case VM_EXIT_WRMSR:
	case VM_EXIT_CR8_READ:
		return true;
	case VM_EXIT_CR8:
		c->run->cr8 = c->cr8 = x->u.cr8 & 15;
		return true;
	case VM_EXIT_UNSUPPORTED:
		snprintf(why, sizeof(why), "%.99s", x->u.why);
		return give_up(c, x, why);
	default: /* HLT, INTR, PAUSE, SHUTDOWN, PMI */
		if (put_back(c, x))
			return true;
		x->kind = kind;
		return true;
	}
}

/* The soft vCPU is at the instruction that KVM refused. */
static bool
at_first(struct kvm_cpu *c)
{
	struct x86_state *s = c->assist.state;

	engine_soft.get_state(c->assist.soft, X86_STATE_GPR, s);
	return s->rip == c->assist.refused;
}

/* Step until the burst is over and no instruction is half done. True: *x holds an exit for the caller. */
static bool
step(struct kvm_cpu *c, struct vm_exit *x, unsigned burst)
{
	do {
		unsigned n = MIN(burst, (unsigned)PIECE); /* look for kicks now and then */

		c->ctr.assisted += n;
		while (soft_vcpu_step(c->assist.soft, n, x) != 0) {
			if (!kvm_has_apic(c->vm) || !kvm_apic_owns(c, x))
				return take_soft_exit(c, x);
			if (!kvm_apic_answer(c, x, at_first(c)))
				return put_back(c, x);
		}
		burst -= n;
	} while ((burst > 0 && !atomic_load(&c->kicked)) || soft_vcpu_open(c->assist.soft));
	return put_back(c, x);
}

bool
kvm_assist_continue(struct kvm_cpu *c, struct vm_exit *x)
{
	return step(c, x, 1);
}

/* The soft vCPU gets the state. */
static int
fetch(struct kvm_cpu *c, struct err *err)
{
	int r = kvm_assist_init(c, err);

	if (r == 0)
		r = kvm_fetch(c, X86_STATE_ALL, c->assist.state);
	c->cr8 = r == 0 && kvm_has_apic(c->vm) ? c->assist.state->cr8 : c->cr8;
	if (r == 0)
		r = engine_soft.set_state(c->assist.soft, X86_STATE_ALL, c->assist.state, err);
	if (r != 0 && err->code == 0)
		err_set(err, -r, "%s", strerror(-r));
	return r;
}

bool
kvm_assist(struct kvm_cpu *c, struct vm_exit *x, const char *why)
{
	struct err err = {0};

	snprintf(c->assist.why, sizeof(c->assist.why), "%s", why);
	if (fetch(c, &err) != 0)
		return give_up(c, x, err.msg);
	c->assist.open = true;
	c->assist.refused = c->assist.state->rip;
	if (c->assist.state->rip == c->assist.rip && c->trace.file == NULL)
		c->assist.burst = MIN(c->assist.burst * 2, (unsigned)BURST_MAX);
	else
		c->assist.burst = 1;
	return step(c, x, c->assist.burst);
}

/* Asked at the first triple fault, so that a KVM which needs no help is not examined. */
bool
kvm_assist_doubts_shutdown(struct kvm_cpu *c)
{
	struct kvm_vm *vm = c->vm;
	struct err err = {0};
	bool doubt;

	pthread_mutex_lock(&vm->lock);
	if (vm->broken < 0)
		vm->broken = MAX(kvm_examine(KVM_PARTS_ALL, &err), 0);
	doubt = vm->broken != 0;
	pthread_mutex_unlock(&vm->lock);
	return doubt;
}
