/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vCPU threads on the library's vCPUs. How a wake-up is never lost: who asks sets a bit in `requests`, then
 * looks at `in_guest`; the vCPU sets `in_guest`, then looks at `requests` (all
 * sequentially consistent). So either the asker sees a vCPU in the guest and kicks
 * it, which holds until the next vm_run(); or the vCPU sees the request. A vCPU that
 * sleeps checks `requests` under its lock, and who asks signals under that lock.
 */
#include "board/cpus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"
#include "vmmapi/x86_64/lhyve.h"

enum {
	REQ_LOOK = 1 << 0, /* interrupts may have changed; stop or pause was asked for */
	REQ_INIT = 1 << 1,
	REQ_SIPI = 1 << 2,
	REQ_NMI = 1 << 3,
	REQ_SIGNALS = REQ_INIT | REQ_SIPI | REQ_NMI,
};
enum { EXITS_MI = VM_EXITCODE_ERROR + 1, EXIT_KINDS = EXITS_MI + VM_EXITCODE_PMI - VM_EXITCODE_MD + 1 };
enum { LAPIC_TPR_OFFSET = 0x80, MSR_X2APIC_TPR = 0x808, MSR_TSC_DEADLINE = 0x6e0 };

/* What the vCPU is doing, as far as this loop must know. Own thread only. */
enum activity { RUNNING, HALTED, WAIT_SIPI };

struct cpu {
	struct cpus *set;
	unsigned n;
	struct vcpu *vcpu;
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* requests that depend on one another; sleeping */
	pthread_cond_t woken;
	_Atomic unsigned requests;
	_Atomic bool in_guest;
	uint8_t sipi_vector;   /* under lock */
	_Atomic unsigned nmis; /* that came since the last look */

	enum activity activity;
	bool dead; /* under set->halt_lock: halted with interrupts off, or waiting for SIPI */
	uint64_t tsc_adjust;
	struct vmexit exit;
	uint64_t exits[EXIT_KINDS];
	uint64_t exits_seen;	   /* their sum when cpus_look_for_halt() looked last */
	uint64_t irqs, nmis_given; /* given to the vCPU */
};

struct cpus {
	struct cpus_cfg cfg;
	struct lapic_set *lapic;
	struct cpu *cpu; /* cfg.count */
	bool yield;	 /* vCPUs outnumber processors */
	_Atomic bool stop;

	pthread_mutex_t park_lock;
	pthread_cond_t parked_cond, resume_cond;
	unsigned pauses; /* cpus_pause() less cpus_resume() */
	unsigned running, parked;
	_Atomic bool pause;

	pthread_mutex_t halt_lock;
	unsigned dead;
};

static _Thread_local struct cpu *current;

/* ---- requests ---- */

/* Set request bits; a vCPU in the guest is made to leave it. Returns true when it may be asleep. With or
 * without its lock. */
static bool
poke(struct cpu *p, unsigned bits)
{
	atomic_fetch_or(&p->requests, bits);
	if (p == current)
		return false; /* it looks before it enters the guest or sleeps */
	if (!atomic_load(&p->in_guest))
		return true;
	(void)vm_kick(p->vcpu);
	return false;
}

static void
request(struct cpu *p, unsigned bits)
{
	if (!poke(p, bits))
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_signal(&p->woken);
	pthread_mutex_unlock(&p->lock);
}

static void
on_wake(void *ctx, unsigned n)
{
	struct cpus *c = ctx;

	request(&c->cpu[n], REQ_LOOK);
}

/* A start-up message that came before INIT is void. */
static void
on_init(void *ctx, unsigned n)
{
	struct cpus *c = ctx;
	struct cpu *p = &c->cpu[n];

	pthread_mutex_lock(&p->lock);
	atomic_fetch_and(&p->requests, ~(unsigned)REQ_SIPI);
	poke(p, REQ_INIT);
	pthread_cond_signal(&p->woken);
	pthread_mutex_unlock(&p->lock);
}

static void
on_sipi(void *ctx, unsigned n, uint8_t vector)
{
	struct cpus *c = ctx;
	struct cpu *p = &c->cpu[n];

	pthread_mutex_lock(&p->lock);
	p->sipi_vector = vector;
	poke(p, REQ_SIPI);
	pthread_cond_signal(&p->woken);
	pthread_mutex_unlock(&p->lock);
}

static void
on_nmi(void *ctx, unsigned n)
{
	cpus_nmi(ctx, n);
}

/* There is no SMM: nothing would answer. */
static void
on_smi(void *ctx, unsigned n)
{
	(void)ctx;
	log_guest("cpu%u: SMI ignored", n);
}

const struct lapic_cpu_ops cpus_lapic_ops = {
    .wake = on_wake,
    .init = on_init,
    .sipi = on_sipi,
    .nmi = on_nmi,
    .smi = on_smi,
};

void
cpus_nmi(struct cpus *c, unsigned n)
{
	if (n >= c->cfg.count)
		return;
	atomic_fetch_add(&c->cpu[n].nmis, 1);
	request(&c->cpu[n], REQ_NMI);
}

static void
request_all(struct cpus *c)
{
	for (unsigned i = 0; i < c->cfg.count; i++)
		request(&c->cpu[i], REQ_LOOK);
}

/* ---- halted for good ---- */

static bool
signals_pending(const struct cpus *c)
{
	for (unsigned i = 0; i < c->cfg.count; i++) {
		if ((atomic_load(&c->cpu[i].requests) & REQ_SIGNALS) != 0)
			return true;
	}
	return false;
}

/* A vCPU that only INIT, SIPI or NMI could wake. When all are, and none of these is on its way, nobody is
 * left to send one: the guest has halted. */
static void
set_dead(struct cpu *p, bool dead)
{
	struct cpus *c = p->set;
	bool ended = false;

	pthread_mutex_lock(&c->halt_lock);
	if (dead != p->dead) {
		p->dead = dead;
		c->dead += dead ? 1u : -1u;
		ended = c->dead == c->cfg.count && !signals_pending(c);
	}
	pthread_mutex_unlock(&c->halt_lock);
	if (ended)
		c->cfg.ended(c->cfg.ctx, BOARD_HALT);
}

/* ---- exits ---- */

static void
exit_nothing(struct cpu *p)
{
	(void)p;
}

static void
exit_io(struct cpu *p)
{
	struct io_bus *pio = p->set->cfg.pio;
	union vmexit_md *x = &p->exit.u.md;

	if (x->inout.in)
		x->inout.eax = (uint32_t)io_bus_read(pio, x->inout.port, x->inout.bytes);
	else
		io_bus_write(pio, x->inout.port, x->inout.bytes, x->inout.eax);
}

/* The guest set the task priority by another way than CR8: the processor's CR8 is the same register. */
static void
sync_cr8(struct cpu *p)
{
	uint64_t cr8 = lapic_get_cr8(p->set->lapic, p->n);
	struct x86_state s;
	struct err err = {0};

	vcpu_get_state(p->vcpu, X86_STATE_CR, &s);
	if (s.cr8 == cr8)
		return;
	s.cr8 = cr8;
	if (vcpu_set_state(p->vcpu, X86_STATE_CR, &s, &err) != 0)
		log_warn("cpu%u: %s", p->n, err.msg);
}

static void
exit_mmio(struct cpu *p)
{
	struct cpus *c = p->set;
	uint64_t gpa = p->exit.u.mmio.gpa;
	unsigned size = p->exit.u.mmio.size;

	if (!p->exit.u.mmio.write) {
		if (!lapic_mmio_read(c->lapic, p->n, gpa, size, &p->exit.u.mmio.data))
			p->exit.u.mmio.data = io_bus_read(c->cfg.mmio, gpa, size);
		return;
	}
	if (!lapic_mmio_write(c->lapic, p->n, gpa, size, p->exit.u.mmio.data))
		io_bus_write(c->cfg.mmio, gpa, size, p->exit.u.mmio.data);
	else if ((gpa & 0xff0) == LAPIC_TPR_OFFSET)
		sync_cr8(p);
}

static void
exit_rdmsr(struct cpu *p)
{
	uint64_t val = 0;

	p->exit.u.md.msr.fault = !lapic_msr_owned(p->exit.u.md.msr.code) ||
				 lapic_msr_read(p->set->lapic, p->n, p->exit.u.md.msr.code, &val) != 0;
	p->exit.u.md.msr.val = val;
}

/* The deadline is in the guest's TSC, which the engine keeps. */
static void
sync_tsc_adjust(struct cpu *p)
{
	struct x86_state s;

	vcpu_get_state(p->vcpu, X86_STATE_MSR, &s);
	if (s.msr.tsc_adjust == p->tsc_adjust)
		return;
	p->tsc_adjust = s.msr.tsc_adjust;
	lapic_set_tsc_adjust(p->set->lapic, p->n, p->tsc_adjust);
}

static void
exit_wrmsr(struct cpu *p)
{
	uint32_t msr = p->exit.u.md.msr.code;

	if (msr == MSR_TSC_DEADLINE)
		sync_tsc_adjust(p);
	p->exit.u.md.msr.fault =
	    !lapic_msr_owned(msr) || lapic_msr_write(p->set->lapic, p->n, msr, p->exit.u.md.msr.val) != 0;
	if (msr == MSR_X2APIC_TPR && !p->exit.u.md.msr.fault)
		sync_cr8(p);
}

static void
exit_cr8(struct cpu *p)
{
	if (p->exit.u.md.cr8.read)
		p->exit.u.md.cr8.val = lapic_get_cr8(p->set->lapic, p->n);
	else
		lapic_set_cr8(p->set->lapic, p->n, p->exit.u.md.cr8.val);
}

static void
exit_eoi(struct cpu *p)
{
	lapic_remote_eoi(p->set->lapic, p->exit.u.md.vector);
}

static void
exit_hlt(struct cpu *p)
{
	struct x86_state s;

	p->activity = HALTED;
	vcpu_get_state(p->vcpu, X86_STATE_GPR, &s);
	set_dead(p, (s.rflags & FL_IF) == 0);
}

static void
exit_pause(struct cpu *p)
{
	if (p->set->yield)
		sched_yield();
}

static void
exit_pmi(struct cpu *p)
{
	lapic_pmi(p->set->lapic, p->n);
}

/* All vCPUs come here once one has: the end that was first counts. */
static void
exit_suspended(struct cpu *p)
{
	if (p->exit.u.suspended.how == VM_SUSPEND_FAULT)
		p->set->cfg.ended(p->set->cfg.ctx, BOARD_TRIPLE_FAULT);
	else if (p->exit.u.suspended.how == VM_SUSPEND_RESET)
		p->set->cfg.ended(p->set->cfg.ctx, BOARD_REBOOT);
	atomic_store(&p->set->stop, true);
}

static void
exit_error(struct cpu *p)
{
	fprintf(stderr, "lhyve: cpu%u: %.*s (this version cannot go on from here)\n", p->n,
		(int)sizeof(p->exit.u.error.text), p->exit.u.error.text);
	p->set->cfg.ended(p->set->cfg.ctx, BOARD_ERROR);
	atomic_store(&p->set->stop, true);
}

#define EXIT_MD(code) [EXITS_MI + (code)-VM_EXITCODE_MD]

static const struct {
	const char *name;
	void (*handle)(struct cpu *p);
	bool open; /* the instruction ends in the next vm_run(), which takes the answer */
} exit_table[EXIT_KINDS] = {
    [VM_EXITCODE_BOGUS] = {"exit.intr", exit_nothing},
    [VM_EXITCODE_MMIO] = {"exit.mmio", exit_mmio, true},
    [VM_EXITCODE_HLT] = {"exit.hlt", exit_hlt},
    [VM_EXITCODE_PAUSE] = {"exit.pause", exit_pause},
    [VM_EXITCODE_SUSPENDED] = {"exit.suspended", exit_suspended},
    [VM_EXITCODE_DEBUG] = {"exit.debug", exit_nothing},
    [VM_EXITCODE_ERROR] = {"exit.error", exit_error},
    EXIT_MD(VM_EXITCODE_INOUT) = {"exit.io", exit_io, true},
    EXIT_MD(VM_EXITCODE_RDMSR) = {"exit.rdmsr", exit_rdmsr, true},
    EXIT_MD(VM_EXITCODE_WRMSR) = {"exit.wrmsr", exit_wrmsr, true},
    EXIT_MD(VM_EXITCODE_CR8) = {"exit.cr8", exit_cr8, true},
    EXIT_MD(VM_EXITCODE_IOAPIC_EOI) = {"exit.eoi", exit_eoi},
    EXIT_MD(VM_EXITCODE_PMI) = {"exit.pmi", exit_pmi},
};

/* Row of the last exit in exit_table. */
static unsigned
exit_row(const struct cpu *p)
{
	unsigned code = (unsigned)p->exit.exitcode;
	unsigned row = code < VM_EXITCODE_MD ? code : code - VM_EXITCODE_MD + EXITS_MI;

	LH_ASSERT(row < EXIT_KINDS);
	return row;
}

/* ---- INIT, SIPI, NMI ---- */

static void
replace_state(struct cpu *p, void (*change)(struct x86_state *s, uint8_t vector), uint8_t vector)
{
	struct x86_state s;
	struct err err = {0};

	vcpu_get_state(p->vcpu, X86_STATE_ALL, &s);
	change(&s, vector);
	if (vcpu_set_state(p->vcpu, X86_STATE_ALL, &s, &err) == 0)
		return;
	log_error("cpu%u: %s", p->n, err.msg);
	p->set->cfg.ended(p->set->cfg.ctx, BOARD_ERROR);
}

static void
state_init(struct x86_state *s, uint8_t vector)
{
	(void)vector;
	x86_state_init(s);
	s->activity = ACT_WAIT_SIPI;
}

static void
state_sipi(struct x86_state *s, uint8_t vector)
{
	x86_state_sipi(s, vector);
	s->activity = ACT_RUNNING;
}

/* INIT sends the boot processor to the reset vector, where firmware would start the machine anew. */
static void
take_init(struct cpu *p)
{
	if (p->n == 0) {
		p->set->cfg.ended(p->set->cfg.ctx, BOARD_REBOOT);
		return;
	}
	lapic_init_reset(p->set->lapic, p->n);
	replace_state(p, state_init, 0);
	p->activity = WAIT_SIPI;
}

static void
take_sipi(struct cpu *p)
{
	uint8_t vector;

	if (p->activity != WAIT_SIPI)
		return;
	pthread_mutex_lock(&p->lock);
	vector = p->sipi_vector;
	pthread_mutex_unlock(&p->lock);
	replace_state(p, state_sipi, vector);
	p->activity = RUNNING;
}

static void
take_nmi(struct cpu *p)
{
	unsigned count = atomic_exchange(&p->nmis, 0);

	if (p->activity == WAIT_SIPI)
		return; /* blocked there (SDM vol. 3A 9.4.2) */
	for (unsigned i = 0; i < count && i < 2;
	     i++) { /* one being taken and one latched: no more can wait */
		vcpu_inject_nmi(p->vcpu);
		p->nmis_given++;
	}
	p->activity = RUNNING;
}

static void
take_requests(struct cpu *p)
{
	bool was_dead = p->dead;
	unsigned r;

	if (atomic_load_explicit(&p->requests, memory_order_relaxed) == 0)
		return;
	/* Alive first: a signal that is off the list already must not let the others count this one as dead.
	 */
	set_dead(p, false);
	r = atomic_exchange(&p->requests, 0);
	if ((r & REQ_INIT) != 0)
		take_init(p);
	if ((r & REQ_SIPI) != 0)
		take_sipi(p);
	if ((r & REQ_NMI) != 0)
		take_nmi(p);
	set_dead(p, p->activity == WAIT_SIPI || (was_dead && p->activity == HALTED));
}

/* ---- interrupts ---- */

static void
deliver(struct cpu *p)
{
	int vector;

	if (lapic_pending(p->set->lapic, p->n) == LAPIC_NONE)
		return;
	if (!vcpu_intr_ready(p->vcpu, true))
		return;
	vector = lapic_accept(p->set->lapic, p->n);
	if (vector < 0)
		return;
	vcpu_inject_intr(p->vcpu, (uint8_t)vector);
	p->irqs++;
	p->activity = RUNNING;
	/* One more, of higher priority or from the PIC: as soon as there is a window. */
	if (lapic_pending(p->set->lapic, p->n) != LAPIC_NONE)
		(void)vcpu_intr_ready(p->vcpu, true);
}

/* ---- the loop ---- */

static void
sleep_until_request(struct cpu *p)
{
	pthread_mutex_lock(&p->lock);
	while (atomic_load(&p->requests) == 0)
		pthread_cond_wait(&p->woken, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static void
run_once(struct cpu *p)
{
	int ret = vm_run(p->vcpu, &p->exit);

	LH_ASSERT(ret == 0);
	__atomic_store_n(&p->exits[exit_row(p)], p->exits[exit_row(p)] + 1, __ATOMIC_RELAXED);
}

static void
handle_exit(struct cpu *p)
{
	exit_table[exit_row(p)].handle(p);
}

static void
enter(struct cpu *p)
{
	atomic_store(&p->in_guest, true);
	if (atomic_load(&p->requests) != 0) {
		atomic_store(&p->in_guest, false);
		return;
	}
	run_once(p);
	atomic_store(&p->in_guest, false);
	handle_exit(p);
}
/*
 * Who looks at a parked vCPU must find it between two instructions: one whose device access was the last exit
 * has had its effect on the device, and would have it again if it were saved now. It ends in vm_run(), and
 * the kick ends that before the next one. It may access devices again first.
 */
static void
end_instruction(struct cpu *p)
{
	while (p->activity == RUNNING && exit_table[exit_row(p)].open && !atomic_load(&p->set->stop)) {
		(void)vm_kick(p->vcpu);
		run_once(p);
		handle_exit(p);
	}
}

static void
park(struct cpu *p)
{
	struct cpus *c = p->set;

	end_instruction(p);
	pthread_mutex_lock(&c->park_lock);
	c->parked++;
	pthread_cond_broadcast(&c->parked_cond);
	while (c->pauses > 0 && !atomic_load(&c->stop))
		pthread_cond_wait(&c->resume_cond, &c->park_lock);
	c->parked--;
	pthread_mutex_unlock(&c->park_lock);
}

static void *
cpu_main(void *arg)
{
	struct cpu *p = arg;
	struct cpus *c = p->set;
	char name[16];

	current = p;
	snprintf(name, sizeof(name), "vcpu%u", p->n);
	pthread_setname_np(pthread_self(), name);
	while (!atomic_load_explicit(&c->stop, memory_order_acquire)) {
		take_requests(p);
		if (atomic_load_explicit(&c->pause, memory_order_acquire)) {
			park(p);
			continue;
		}
		if (p->activity != WAIT_SIPI)
			deliver(p);
		if (atomic_load_explicit(&c->stop, memory_order_acquire))
			break;
		if (p->activity == RUNNING)
			enter(p);
		else
			sleep_until_request(p);
	}
	pthread_mutex_lock(&c->park_lock);
	c->running--;
	pthread_cond_broadcast(&c->parked_cond);
	pthread_mutex_unlock(&c->park_lock);
	return NULL;
}

/* ---- halted for good, with remote APICs ---- */

static bool
any_exit_since(struct cpus *c)
{
	bool any = false;

	for (unsigned i = 0; i < c->cfg.count; i++) {
		struct cpu *p = &c->cpu[i];
		uint64_t sum = 0;

		for (unsigned k = 0; k < EXIT_KINDS; k++)
			sum += __atomic_load_n(&p->exits[k], __ATOMIC_RELAXED);
		any |= sum != p->exits_seen;
		p->exits_seen = sum;
	}
	return any;
}

/* The vCPU does not run. */
static bool
halted_for_good(struct cpu *p)
{
	struct x86_state s;

	if ((atomic_load(&p->requests) & REQ_SIGNALS) != 0)
		return false;
	vcpu_get_state(p->vcpu, X86_STATE_GPR | X86_STATE_EVENT, &s);
	return s.nmi_pending == 0 &&
	       (s.activity == ACT_WAIT_SIPI || (s.activity == ACT_HALTED && (s.rflags & FL_IF) == 0));
}

void
cpus_look_for_halt(struct cpus *c)
{
	bool all = true;

	if (!c->cfg.remote_apics || any_exit_since(c))
		return;
	cpus_pause(c);
	for (unsigned i = 0; i < c->cfg.count && all; i++)
		all = halted_for_good(&c->cpu[i]);
	cpus_resume(c);
	(void)any_exit_since(c); /* the pause's own */
	if (all)
		c->cfg.ended(c->cfg.ctx, BOARD_HALT);
}

/* ---- control ---- */

void
cpus_hold(struct cpus *c)
{
	pthread_mutex_lock(&c->park_lock);
	c->pauses++;
	atomic_store(&c->pause, true);
	pthread_mutex_unlock(&c->park_lock);
	request_all(c);
}

void
cpus_pause(struct cpus *c)
{
	LH_ASSERT(current == NULL);
	cpus_hold(c);
	pthread_mutex_lock(&c->park_lock);
	while (c->parked < c->running)
		pthread_cond_wait(&c->parked_cond, &c->park_lock);
	pthread_mutex_unlock(&c->park_lock);
}

void
cpus_resume(struct cpus *c)
{
	pthread_mutex_lock(&c->park_lock);
	LH_ASSERT(c->pauses > 0);
	if (--c->pauses == 0) {
		atomic_store(&c->pause, false);
		pthread_cond_broadcast(&c->resume_cond);
	}
	pthread_mutex_unlock(&c->park_lock);
}

void
cpus_get_state(struct cpus *c, unsigned n, struct x86_state *s)
{
	static const uint8_t activity[] = {
	    [RUNNING] = ACT_RUNNING, [HALTED] = ACT_HALTED, [WAIT_SIPI] = ACT_WAIT_SIPI};
	struct cpu *p = &c->cpu[n];

	LH_ASSERT(n < c->cfg.count);
	vcpu_get_state(p->vcpu, X86_STATE_ALL, s);
	if (!c->cfg.remote_apics)
		s->activity = activity[p->activity];
}

void
cpus_request_stop(struct cpus *c)
{
	atomic_store(&c->stop, true);
	(void)vm_suspend(c->cfg.vm, VM_SUSPEND_POWEROFF); /* or it is already */
	request_all(c);
	pthread_mutex_lock(&c->park_lock);
	pthread_cond_broadcast(&c->resume_cond);
	pthread_mutex_unlock(&c->park_lock);
}

void
cpus_stop(struct cpus *c)
{
	cpus_request_stop(c);
	for (unsigned i = 0; i < c->cfg.count; i++) {
		if (c->cpu[i].started)
			pthread_join(c->cpu[i].thread, NULL);
		c->cpu[i].started = false;
	}
}

int
cpus_start(struct cpus *c, struct err *err)
{
	for (unsigned i = 0; i < c->cfg.count; i++) {
		struct cpu *p = &c->cpu[i];
		int ret;

		LH_ASSERT(p->vcpu != NULL && c->lapic != NULL);
		pthread_mutex_lock(&c->park_lock);
		c->running++;
		pthread_mutex_unlock(&c->park_lock);
		ret = pthread_create(&p->thread, NULL, cpu_main, p);
		if (ret != 0) {
			pthread_mutex_lock(&c->park_lock);
			c->running--;
			pthread_mutex_unlock(&c->park_lock);
			return err_set(
			    err, ret,
			    "cpu%u: no thread: %s (fewer CPUs, or raise the limit of processes: ulimit -u)",
			    i, strerror(ret));
		}
		p->started = true;
	}
	return 0;
}

struct stats_sink {
	void (*fn)(void *arg, unsigned cpu, const char *name, uint64_t value);
	void *arg;
	unsigned cpu;
};

static void
engine_counter(void *arg, const char *name, uint64_t value)
{
	const struct stats_sink *sink = arg;

	sink->fn(sink->arg, sink->cpu, name, value);
}

void
cpus_stats(struct cpus *c, void (*fn)(void *arg, unsigned cpu, const char *name, uint64_t value), void *arg)
{
	for (unsigned i = 0; i < c->cfg.count; i++) {
		struct stats_sink sink = {fn, arg, i};

		for (unsigned k = 0; k < EXIT_KINDS; k++)
			fn(arg, i, exit_table[k].name, c->cpu[i].exits[k]);
		fn(arg, i, "interrupts", c->cpu[i].irqs);
		fn(arg, i, "nmis", c->cpu[i].nmis_given);
		(void)vm_get_stats(c->cpu[i].vcpu, engine_counter, &sink);
	}
}

/* ---- life ---- */

struct cpus *
cpus_create(const struct cpus_cfg *cfg, struct err *err)
{
	struct cpus *c = calloc(1, sizeof(*c));
	long host = sysconf(_SC_NPROCESSORS_ONLN);

	if (c != NULL)
		c->cpu = calloc(cfg->count, sizeof(*c->cpu));
	if (c == NULL || c->cpu == NULL) {
		err_set(err, ENOMEM, "cpus: no memory");
		free(c);
		return NULL;
	}
	c->cfg = *cfg;
	c->yield = host > 0 && cfg->count > (unsigned long)host;
	pthread_mutex_init(&c->park_lock, NULL);
	pthread_cond_init(&c->parked_cond, NULL);
	pthread_cond_init(&c->resume_cond, NULL);
	pthread_mutex_init(&c->halt_lock, NULL);
	for (unsigned i = 0; i < cfg->count; i++) {
		c->cpu[i].set = c;
		c->cpu[i].n = i;
		pthread_mutex_init(&c->cpu[i].lock, NULL);
		pthread_cond_init(&c->cpu[i].woken, NULL);
	}
	return c;
}

void
cpus_set_lapic(struct cpus *c, struct lapic_set *lapic)
{
	c->lapic = lapic;
}

struct vcpu *
cpus_vcpu(struct cpus *c, unsigned n)
{
	return c->cpu[n].vcpu;
}

/* Remote APICs wait for start-up messages themselves. */
static void
set_activity(struct cpu *p, const struct x86_state *s)
{
	p->activity = s->activity == ACT_WAIT_SIPI && !p->set->cfg.remote_apics ? WAIT_SIPI : RUNNING;
	set_dead(p, p->activity == WAIT_SIPI);
}

int
cpus_add(struct cpus *c, unsigned n, const struct x86_state *s, struct err *err)
{
	struct cpu *p = &c->cpu[n];

	LH_ASSERT(n < c->cfg.count && p->vcpu == NULL);
	p->vcpu = vm_vcpu_open(c->cfg.vm, (int)n);
	if (p->vcpu == NULL) {
		struct vm_error why;

		vm_get_error(c->cfg.vm, &why);
		return err_set(err, why.code, "%s", why.text);
	}
	p->exit.exitcode = VM_EXITCODE_BOGUS;
	set_activity(p, s);
	return vcpu_set_state(p->vcpu, X86_STATE_ALL, s, err);
}

int
cpus_restart(struct cpus *c, unsigned n, const struct x86_state *s, struct err *err)
{
	struct cpu *p = &c->cpu[n];

	LH_ASSERT(n < c->cfg.count && c->pauses > 0);
	atomic_fetch_and(&p->requests, ~(unsigned)REQ_SIGNALS);
	atomic_store(&p->nmis, 0);
	p->tsc_adjust = s->msr.tsc_adjust;
	p->exit.exitcode = VM_EXITCODE_BOGUS;
	set_activity(p, s);
	return vcpu_set_state(p->vcpu, X86_STATE_ALL, s, err);
}

void
cpus_destroy(struct cpus *c)
{
	if (c == NULL)
		return;
	cpus_stop(c);
	for (unsigned i = 0; i < c->cfg.count; i++) {
		if (c->cpu[i].vcpu != NULL)
			vm_vcpu_close(c->cpu[i].vcpu);
		pthread_mutex_destroy(&c->cpu[i].lock);
		pthread_cond_destroy(&c->cpu[i].woken);
	}
	pthread_mutex_destroy(&c->park_lock);
	pthread_cond_destroy(&c->parked_cond);
	pthread_cond_destroy(&c->resume_cond);
	pthread_mutex_destroy(&c->halt_lock);
	free(c->cpu);
	free(c);
}
