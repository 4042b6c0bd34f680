/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM_RUN and its exits.
 *
 * Kicks. Who kicks sets `kicked`, then immediate_exit in the shared page, and then sends SIGUSR1 if the
 * vCPU's thread is in KVM_RUN. The signal is blocked in that thread outside of KVM_RUN, so that one which
 * comes late stays pending and ends the next KVM_RUN, where it is taken out again. The vCPU clears
 * immediate_exit before it looks at `kicked`: a kick that it does not see has set immediate_exit after that.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/log.h"
#include "base/util.h"
#include "engine/pieces.h"
#include "mem/gpmap.h"

enum { MSR_APIC_BASE = 0x1b, RESET_IP = 0xfff0 };
/* Accesses of one instruction: the largest operand (FXSAVE's 512 bytes) in pieces of 8, and more than twice
 * that. */
enum { SETTLE_MAX = 256 };
#define RESET_CS_BASE 0xffff0000u /* SDM vol. 3A table 9-1 */

/* ---- kicks ---- */

static void
set_immediate_exit(struct kvm_cpu *c, uint8_t v)
{
	__atomic_store_n(&c->run->immediate_exit, v, __ATOMIC_SEQ_CST);
}

void
kvm_kick(struct engine_vcpu *v)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	int tid;

	if (atomic_exchange(&c->kicked, true))
		return; /* the other one's signal is on its way */
	set_immediate_exit(c, 1);
	tid = atomic_load(&c->tid);
	if (tid != 0)
		(void)syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
}

/* Once a thread. */
static int
prepare_thread(struct kvm_cpu *c)
{
	int tid = (int)syscall(SYS_gettid);
	sigset_t set;

	if (tid == c->signal_tid)
		return tid;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	c->signal_tid = tid;
	return tid;
}

static void
take_signal(struct kvm_cpu *c)
{
	const struct timespec now = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	while (sigtimedwait(&set, NULL, &now) == SIGUSR1)
		c->ctr.signals++;
}

bool
kvm_take_kick(struct kvm_cpu *c)
{
	if (!atomic_load(&c->kicked))
		return false;
	set_immediate_exit(c, 0);
	return atomic_exchange(&c->kicked, false);
}

int
kvm_enter(struct kvm_cpu *c)
{
	int r;

	atomic_store(&c->tid, prepare_thread(c));
	c->ctr.runs++;
	r = ioctl(c->fd, KVM_RUN, 0) < 0 ? -errno : 0;
	atomic_store(&c->tid, 0);
	if (r == -EINTR) {
		take_signal(c);
		if (!atomic_load(&c->kicked)) {
			set_immediate_exit(c, 0);
			if (atomic_load(&c->kicked)) /* it came in between */
				set_immediate_exit(c, 1);
		}
	}
	return r;
}

/* The answer is given: let the instruction go on, to its end or its next access, and nothing more. */
static int
complete(struct kvm_cpu *c)
{
	int r;

	c->open = OPEN_NONE;
	set_immediate_exit(c, 1);
	r = kvm_enter(c);
	set_immediate_exit(c, 0);
	if (atomic_load(&c->kicked))
		set_immediate_exit(c, 1);
	return r;
}

/* As where nobody is. */
static void
answer_by_nobody(struct kvm_cpu *c)
{
	struct kvm_run *k = c->run;

	switch (k->exit_reason) {
	case KVM_EXIT_IO:
		if (k->io.direction == KVM_EXIT_IO_IN)
			memset((uint8_t *)k + k->io.data_offset, 0xff, (size_t)k->io.size * k->io.count);
		break;
	case KVM_EXIT_MMIO:
		if (!k->mmio.is_write)
			memset(k->mmio.data, 0xff, sizeof(k->mmio.data));
		break;
	case KVM_EXIT_X86_RDMSR:
		k->msr.data = 0;
		k->msr.error = 0;
		break;
	case KVM_EXIT_X86_WRMSR:
		k->msr.error = 0;
		break;
	default:
		break;
	}
}

/* KVM waits for an answer to the exit that it has just given. */
static bool
wants_answer(const struct kvm_run *k)
{
	return k->exit_reason == KVM_EXIT_IO || k->exit_reason == KVM_EXIT_MMIO ||
	       k->exit_reason == KVM_EXIT_X86_RDMSR || k->exit_reason == KVM_EXIT_X86_WRMSR;
}

void
kvm_settle(struct kvm_cpu *c)
{
	int r = 0;

	if (c->open == OPEN_NONE && !c->deferred)
		return;
	c->deferred = false;
	for (unsigned n = 0; r == 0 && n < SETTLE_MAX; n++) {
		answer_by_nobody(c);
		r = complete(c);
		if (r == 0 && !wants_answer(c->run))
			return; /* it ended otherwise: nothing waits */
	}
	if (r != -EINTR && r != -EAGAIN)
		log_warn("kvm: vCPU %u: an access stays open: %s", c->id,
			 r == 0 ? "it has no end" : strerror(-r));
}

/* ---- exits ---- */

static uint8_t *
io_item(struct kvm_cpu *c)
{
	return (uint8_t *)c->run + c->run->io.data_offset + (size_t)c->io_done * c->run->io.size;
}

/* The next item of a port access; INS and OUTS have many. */
static void
give_io(struct kvm_cpu *c, struct vm_exit *x)
{
	const struct kvm_run *k = c->run;

	x->kind = VM_EXIT_IO;
	x->u.io.port = k->io.port;
	x->u.io.size = k->io.size;
	x->u.io.write = k->io.direction == KVM_EXIT_IO_OUT;
	x->u.io.data = 0;
	if (x->u.io.write)
		memcpy(&x->u.io.data, io_item(c), MIN(k->io.size, (uint8_t)4));
	c->open = OPEN_IO;
	c->ctr.io++;
}

/* The next piece of a memory access: KVM cuts only at pages and at 8 bytes. */
static void
give_mmio(struct kvm_cpu *c, struct vm_exit *x)
{
	const struct kvm_run *k = c->run;
	unsigned at = c->io_done;

	x->kind = VM_EXIT_MMIO;
	x->u.mmio.gpa = k->mmio.phys_addr + at;
	x->u.mmio.size = (uint8_t)engine_io_piece(x->u.mmio.gpa, MIN(k->mmio.len, 8u) - at);
	x->u.mmio.write = k->mmio.is_write;
	x->u.mmio.data = 0;
	if (k->mmio.is_write)
		memcpy(&x->u.mmio.data, k->mmio.data + at, x->u.mmio.size);
	c->open = OPEN_MMIO;
	c->ctr.mmio++;
}

/* The caller's answer goes where KVM looks for it. True: the exit has more items. */
static bool
take_answer(struct kvm_cpu *c, const struct vm_exit *x)
{
	struct kvm_run *k = c->run;

	switch (c->open) {
	case OPEN_IO:
		if (k->io.direction == KVM_EXIT_IO_IN)
			memcpy(io_item(c), &x->u.io.data, MIN(k->io.size, (uint8_t)4));
		if (++c->io_done < k->io.count)
			return true;
		break;
	case OPEN_MMIO:
		if (!k->mmio.is_write)
			memcpy(k->mmio.data + c->io_done, &x->u.mmio.data, x->u.mmio.size);
		c->io_done += x->u.mmio.size;
		if (c->io_done < MIN(k->mmio.len, 8u))
			return true;
		break;
	case OPEN_RDMSR:
		k->msr.data = x->u.msr.val;
		k->msr.error = x->u.msr.fault;
		break;
	case OPEN_WRMSR:
		k->msr.error = x->u.msr.fault;
		if (k->msr.index == MSR_APIC_BASE && !x->u.msr.fault &&
		    kvm_set_apic_base(c, k->msr.data) != 0)
			log_warn("kvm: vCPU %u: no APIC base of %#llx", c->id,
				 (unsigned long long)k->msr.data);
		break;
	default:
		break;
	}
	return false;
}

/* ROM swallows writes; what else comes as MMIO from where memory is, is an access that KVM could not finish.
 */
static bool
exit_mmio(struct kvm_cpu *c, struct vm_exit *x)
{
	if (c->run->mmio.is_write && gpmap_find(c->vm->cfg.mem, c->run->mmio.phys_addr) != NULL)
		return false;
	c->io_done = 0;
	give_mmio(c, x);
	return true;
}

static bool
exit_msr(struct kvm_cpu *c, struct vm_exit *x, bool write)
{
	struct kvm_run *k = c->run;
	uint64_t val = write ? k->msr.data : 0;

	c->ctr.msr++;
	if (kvm_has_apic(c->vm) || !kvm_msr_board(k->msr.index)) {
		bool known = k->msr.reason != KVM_MSR_EXIT_REASON_INVAL;

		k->msr.error = !known || !kvm_msr_unknown(c, k->msr.index, write, &val);
		if (!write)
			k->msr.data = val;
		c->open = OPEN_NONE;
		return false;
	}
	x->kind = write ? VM_EXIT_WRMSR : VM_EXIT_RDMSR;
	x->u.msr.index = k->msr.index;
	x->u.msr.val = val;
	x->u.msr.fault = false;
	c->open = write ? OPEN_WRMSR : OPEN_RDMSR;
	return true;
}

static bool
unsupported(struct kvm_cpu *c, struct vm_exit *x, const char *what, uint64_t code)
{
	struct x86_state s = {0};

	(void)kvm_fetch(c, X86_STATE_GPR | X86_STATE_SEG, &s);
	x->kind = VM_EXIT_UNSUPPORTED;
	snprintf(x->u.why, sizeof(x->u.why), "kvm: %s %#llx, vcpu %u at %04x:%#llx", what,
		 (unsigned long long)code, c->id, s.seg[X86_CS].sel, (unsigned long long)s.rip);
	return true;
}

/* INIT to the boot processor, which an APIC in KVM takes there, and no memory at the reset vector. */
static bool
at_reset_vector(struct kvm_cpu *c)
{
	struct x86_state s;

	return kvm_fetch(c, X86_STATE_GPR | X86_STATE_SEG, &s) == 0 && s.rip == RESET_IP &&
	       s.seg[X86_CS].base == RESET_CS_BASE &&
	       gpmap_find(c->vm->cfg.mem, RESET_CS_BASE + RESET_IP) == NULL;
}

static bool
exit_internal_error(struct kvm_cpu *c, struct vm_exit *x)
{
	unsigned sub = c->run->internal.suberror;

	if (kvm_has_apic(c->vm) && at_reset_vector(c)) {
		x->kind = VM_EXIT_RESET;
		return true;
	}
	if (sub == KVM_INTERNAL_ERROR_EMULATION || sub == KVM_INTERNAL_ERROR_DELIVERY_EV) {
		c->ctr.assists++;
		return kvm_assist(c, x, "an instruction that KVM cannot emulate");
	}
	return unsupported(c, x, "internal error", sub);
}

static bool
exit_shutdown(struct kvm_cpu *c, struct vm_exit *x)
{
	if (kvm_assist_doubts_shutdown(c)) {
		c->ctr.shutdowns++;
		return kvm_assist(c, x, "a triple fault");
	}
	x->kind = VM_EXIT_SHUTDOWN;
	return true;
}

static bool
exit_hlt(struct kvm_cpu *c, struct vm_exit *x)
{
	c->halted = true;
	c->ready = c->run->if_flag; /* HLT ends the shadow of STI */
	x->kind = VM_EXIT_HLT;
	return true;
}

/* What KVM_RUN came back with. True: for the caller. */
static bool
take_exit(struct kvm_cpu *c, struct vm_exit *x)
{
	struct kvm_run *k = c->run;

	switch (k->exit_reason) {
	case KVM_EXIT_IO:
		c->io_done = 0;
		give_io(c, x);
		return true;
	case KVM_EXIT_MMIO:
		return exit_mmio(c, x);
	case KVM_EXIT_X86_RDMSR:
		return exit_msr(c, x, false);
	case KVM_EXIT_X86_WRMSR:
		return exit_msr(c, x, true);
	case KVM_EXIT_HLT:
		return exit_hlt(c, x);
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		c->ctr.windows++;
		c->want_window = false;
		x->kind = VM_EXIT_INTR;
		return true;
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_INTR:
		return false;
	case KVM_EXIT_SHUTDOWN:
		return exit_shutdown(c, x);
	case KVM_EXIT_DIRTY_RING_FULL:
		kvm_dirty_drain(c);
		return false;
	case KVM_EXIT_IOAPIC_EOI:
		x->kind = VM_EXIT_EOI;
		x->u.vector = k->eoi.vector;
		return true;
	case KVM_EXIT_UNKNOWN: /* a vCPU that waits for a start-up message was woken */
		if (kvm_has_apic(c->vm))
			return false;
		return unsupported(c, x, "unknown exit", k->hw.hardware_exit_reason);
	case KVM_EXIT_DEBUG:
		if (c->vm->cfg.trace.path != NULL)
			return false; /* one step of a trace, or a late one */
		x->kind = VM_EXIT_DEBUG;
		return true;
	case KVM_EXIT_INTERNAL_ERROR:
		return exit_internal_error(c, x);
	case KVM_EXIT_FAIL_ENTRY:
		return unsupported(c, x, "the processor refuses the guest's state, reason",
				   k->fail_entry.hardware_entry_failure_reason);
	default:
		return unsupported(c, x, "exit", k->exit_reason);
	}
}

/* ---- the loop ---- */

/* CR8 moved in the guest: the caller hears of it before anything else. */
static bool
tell_cr8(struct kvm_cpu *c, struct vm_exit *x)
{
	if (c->run->cr8 == c->cr8 || kvm_has_apic(c->vm))
		return false;
	c->cr8 = c->run->cr8;
	x->kind = VM_EXIT_CR8;
	x->u.cr8 = c->cr8;
	return true;
}

static bool
leave(struct vm_exit *x, enum vm_exit_kind kind)
{
	x->kind = kind;
	return true;
}

/* Before KVM_RUN. True: *x holds an exit. */
static bool
before(struct kvm_cpu *c, struct vm_exit *x)
{
	if (c->deferred) {
		c->deferred = false;
		if (take_exit(c, x))
			return true;
	}
	if (c->assist.open && kvm_assist_continue(c, x))
		return true;
	if (c->open != OPEN_NONE)
		return false; /* the instruction is completed first; a kick stays */
	if (kvm_take_kick(c))
		return leave(x, VM_EXIT_INTR);
	if (c->halted)
		return leave(x, VM_EXIT_HLT);
	kvm_tsc_follow(c);
	return false;
}

static void
run_error(struct kvm_cpu *c, struct vm_exit *x, int code)
{
	x->kind = VM_EXIT_UNSUPPORTED;
	snprintf(x->u.why, sizeof(x->u.why), "kvm: KVM_RUN, vcpu %u: %s%s", c->id, strerror(code),
		 code == ENOMEM ? " (the host is short of memory)" : "");
}

/* One instruction at the most; an access that has its answer is completed on its own. */
static int
enter_traced(struct kvm_cpu *c)
{
	int r;

	if (c->open == OPEN_NONE) {
		kvm_trace_step(c);
		r = kvm_enter(c);
		c->trace.idle = c->trace.file != NULL && (r == -EINTR || r == -EAGAIN);
		return r;
	}
	set_immediate_exit(c, 1);
	r = kvm_enter(c);
	set_immediate_exit(c, 0);
	if (atomic_load(&c->kicked))
		set_immediate_exit(c, 1);
	return r;
}

void
kvm_run(struct engine_vcpu *v, struct vm_exit *x)
{
	struct kvm_cpu *c = kvm_cpu_of(v);

	if (c->vm->no_hardware) {
		kvm_helped_run(c, x);
		return;
	}
	if (!c->assist.open && c->open != OPEN_NONE && take_answer(c, x)) {
		(c->open == OPEN_IO ? give_io : give_mmio)(c, x);
		return;
	}
	for (;;) {
		int r;

		if (before(c, x))
			return;
		c->run->request_interrupt_window = c->want_window && !c->ready;
		r = c->trace.file != NULL ? enter_traced(c) : kvm_enter(c);
		c->open = OPEN_NONE;
		c->ready = c->run->ready_for_interrupt_injection && c->run->if_flag;
		if (r == -EINTR || r == -EAGAIN) {
			if (tell_cr8(c, x))
				return;
			continue;
		}
		if (r != 0) {
			run_error(c, x, -r);
			return;
		}
		if (tell_cr8(c, x)) {
			c->deferred = true;
			return;
		}
		if (take_exit(c, x))
			return;
	}
}

/* ---- interrupts ---- */

bool
kvm_intr_ready(struct engine_vcpu *v, bool want_window)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	bool ready = c->ready && !c->deferred;

	if (c->assist.open)
		return engine_soft.intr_ready(c->assist.soft, want_window);
	c->want_window = !ready && want_window;
	return ready;
}

void
kvm_inject_intr(struct engine_vcpu *v, uint8_t vector)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	struct kvm_interrupt i = {.irq = vector};
	int r;

	c->ctr.injected++;
	if (c->assist.open) {
		engine_soft.inject_intr(c->assist.soft, vector);
		return;
	}
	r = kvm_ioctl(c->fd, KVM_INTERRUPT, &i);
	LH_ASSERT(r == 0);
	c->halted = false;
	c->ready = false;
	c->want_window = false;
}

void
kvm_inject_nmi(struct engine_vcpu *v)
{
	struct kvm_cpu *c = kvm_cpu_of(v);

	if (c->assist.open) {
		engine_soft.inject_nmi(c->assist.soft);
		return;
	}
	if (kvm_ioctl_n(c->fd, KVM_NMI, 0) != 0)
		log_error("kvm: vCPU %u: no NMI", c->id);
	c->halted = false;
}

/* As an exception that has been accepted already: KVM delivers it with the next entry. */
void
kvm_inject_exception(struct engine_vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	struct kvm_vcpu_events e;
	int r;

	if (c->assist.open) {
		engine_soft.inject_exception(c->assist.soft, vector, has_error, error);
		return;
	}
	r = kvm_ioctl(c->fd, KVM_GET_VCPU_EVENTS, &e);
	e.exception.injected = 1;
	e.exception.pending = 0;
	e.exception.nr = vector;
	e.exception.has_error_code = has_error;
	e.exception.error_code = error;
	e.exception_has_payload = 0;
	e.flags &= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (r != 0 || kvm_ioctl(c->fd, KVM_SET_VCPU_EVENTS, &e) != 0)
		log_error("kvm: vCPU %u: no exception %u", c->id, vector);
	c->halted = false;
}
