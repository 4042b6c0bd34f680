/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vCPU threads on a fake engine: what a vCPU "executes" is a callback that fills in the next exit. Real
 * local APICs send the messages. Waiting is by condition, never by time: a lost wake-up hangs the test.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "board/cpus.h"
#include "dev/bus.h"
#include "engine/engine.h"
#include "vmmapi/internal.h"
#include "x86/state.h"

enum { MAX_CPUS = 4 };

struct rig;

struct engine_vcpu {
	struct rig *rig;
	unsigned id;
	struct x86_state s;
	_Atomic bool kicked;
	bool window;
	int pending;   /* vector to be delivered with the next run(), or -1 */
	unsigned nmis; /* latched */
	unsigned nmis_taken, nmis_answered;
	unsigned step; /* for the program */
	unsigned runs;
	unsigned left;	  /* accesses to come of the instruction that asked a device */
	bool open;	  /* it has not ended */
	pthread_t thread; /* that ran it */
};

struct rig {
	struct io_bus *pio, *mmio;
	struct vm_clock *clock;
	struct lapic_set *lapic;
	struct vmctx *vm;
	struct cpus *c;
	struct engine_vcpu vcpu[MAX_CPUS];
	unsigned count;
	/* One step of guest code: fill *x and return, or loop while not kicked. */
	void (*program)(struct rig *r, struct engine_vcpu *v, struct vm_exit *x);

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended;
	enum board_end end;
	unsigned events; /* counted by programs */
	_Atomic unsigned total;
	_Atomic uint64_t port_value;
	_Atomic bool go;
};

static struct rig *the_rig;

static void
event(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	r->events++;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void
wait_events(struct rig *r, unsigned n)
{
	pthread_mutex_lock(&r->lock);
	while (r->events < n)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void
on_end(void *ctx, enum board_end end)
{
	struct rig *r = ctx;

	pthread_mutex_lock(&r->lock);
	if (!r->ended)
		r->end = end;
	r->ended = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	cpus_request_stop(r->c);
}

static enum board_end
wait_end(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->ended)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
	cpus_stop(r->c);
	return r->end;
}

/* ---- the engine ---- */

static struct engine_vm *
fake_vm_create(const struct engine_vm_cfg *cfg, struct err *err)
{
	(void)cfg;
	(void)err;
	return (struct engine_vm *)the_rig;
}

static void
fake_vm_destroy(struct engine_vm *vm)
{
	(void)vm;
}

static void
fake_filter(struct x86_cpuid *t)
{
	(void)t;
}

static struct engine_vcpu *
fake_create(struct engine_vm *vm, unsigned id, const struct x86_cpuid *cpuid, struct err *err)
{
	struct engine_vcpu *v = &the_rig->vcpu[id];

	(void)vm;
	(void)cpuid;
	(void)err;
	v->rig = the_rig;
	v->id = id;
	v->pending = -1;
	return v;
}

static void
fake_destroy(struct engine_vcpu *v)
{
	v->rig = NULL;
}

static bool
can_take(const struct engine_vcpu *v)
{
	return (v->s.rflags & FL_IF) != 0 && v->pending < 0;
}

/* The next access of the instruction that the last exit was of, or its end. True: run() ends. */
static bool
go_on(struct engine_vcpu *v, struct vm_exit *x)
{
	if (!v->open)
		return false;
	if (v->left > 0) {
		v->left--;
		*x = (struct vm_exit){.kind = VM_EXIT_IO, .u.io = {.port = 0x80, .size = 1}};
		return true;
	}
	v->open = false;
	atomic_fetch_add(&v->rig->total, 1);
	return false;
}

static void
fake_run(struct engine_vcpu *v, struct vm_exit *x)
{
	v->runs++;
	if (go_on(v, x))
		return;
	v->thread = pthread_self();
	/* Guest handlers of the fake: an interrupt or NMI is one event each. */
	if (v->nmis > 0) {
		v->nmis--;
		v->nmis_taken++;
		v->s.activity = ACT_RUNNING;
		event(v->rig);
	}
	if (v->pending >= 0) {
		v->pending = -1;
		v->s.activity = ACT_RUNNING;
		event(v->rig);
	}
	if (atomic_exchange(&v->kicked, false) || (v->window && can_take(v))) {
		v->window = false;
		x->kind = VM_EXIT_INTR;
		return;
	}
	v->rig->program(v->rig, v, x);
}

static void
fake_kick(struct engine_vcpu *v)
{
	atomic_store(&v->kicked, true);
}

static void
fake_get(struct engine_vcpu *v, unsigned mask, struct x86_state *s)
{
	(void)mask;
	*s = v->s;
}

static int
fake_set(struct engine_vcpu *v, unsigned mask, const struct x86_state *s, struct err *err)
{
	(void)mask;
	(void)err;
	v->s = *s;
	return 0;
}

static bool
fake_ready(struct engine_vcpu *v, bool want_window)
{
	if (can_take(v))
		return true;
	v->window = want_window;
	return false;
}

static void
fake_inject(struct engine_vcpu *v, uint8_t vector)
{
	assert_true(can_take(v));
	v->pending = vector;
}

static void
fake_nmi(struct engine_vcpu *v)
{
	v->nmis++;
}

static const struct engine_ops fake_engine = {
    .name = "fake",
    .vm_create = fake_vm_create,
    .vm_destroy = fake_vm_destroy,
    .cpuid_filter = fake_filter,
    .vcpu_create = fake_create,
    .vcpu_destroy = fake_destroy,
    .run = fake_run,
    .kick = fake_kick,
    .get_state = fake_get,
    .set_state = fake_set,
    .intr_ready = fake_ready,
    .inject_intr = fake_inject,
    .inject_nmi = fake_nmi,
};

/* ---- rig ---- */

static uint64_t
port_read(void *dev, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return ((struct rig *)dev)->port_value;
}

static void
port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	(void)off;
	(void)size;
	((struct rig *)dev)->port_value = val;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct io_region port = {"port", 0x80, 4, IO_ANY, port_read, port_write, r};
	struct err err = {0};

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->pio = io_bus_create("pio", 0x10000, &err);
	r->mmio = io_bus_create("mmio", 1ull << 36, &err);
	r->clock = vm_clock_create(VM_CLOCK_MANUAL, &err);
	if (io_bus_add(r->pio, &port, &err) != 0)
		return -1;
	port.base = 0xc0000000;
	if (io_bus_add(r->mmio, &port, &err) != 0)
		return -1;
	vm_clock_start(r->clock);
	the_rig = r;
	*state = r;
	return 0;
}

static void
rig_start(struct rig *r, unsigned count,
	  void (*program)(struct rig *r, struct engine_vcpu *v, struct vm_exit *x))
{
	struct cpus_cfg cfg = {.count = count, .pio = r->pio, .mmio = r->mmio, .ended = on_end, .ctx = r};
	const struct lapic_cfg lc = {.cpus = count, .x2apic = true};
	struct lapic_wires lw = {.clock = r->clock, .cpu_ops = &cpus_lapic_ops};
	struct x86_state s;
	struct err err = {0};

	r->count = count;
	r->program = program;
	cfg.vm = r->vm = vmctx_create("fake", &fake_engine, 0, &err);
	assert_non_null(r->vm);
	assert_int_equal(vm_setup_memory(r->vm, 1 << 20, VM_MMAP_ALL), 0);
	assert_int_equal(vm_set_topology(r->vm, 1, (uint16_t)count, 1, 0), 0);
	r->c = cpus_create(&cfg, &err);
	assert_non_null(r->c);
	lw.cpu_ctx = r->c;
	r->lapic = lapic_create(&lc, &lw, &err);
	assert_non_null(r->lapic);
	cpus_set_lapic(r->c, r->lapic);
	for (unsigned i = 0; i < count; i++) {
		x86_state_reset(&s);
		s.activity = i == 0 ? ACT_RUNNING : ACT_WAIT_SIPI;
		s.rflags |= FL_IF;
		assert_int_equal(cpus_add(r->c, i, &s, &err), 0);
		/* Software-enable the APIC: SVR. */
		assert_true(lapic_mmio_write(r->lapic, i, 0xfee000f0, 4, 0x1ff));
	}
	assert_int_equal(cpus_start(r->c, &err), 0);
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	if (r->c != NULL) {
		cpus_destroy(r->c);
		lapic_device_ops.destroy(r->lapic);
	}
	vm_destroy(r->vm);
	io_bus_destroy(r->pio);
	io_bus_destroy(r->mmio);
	vm_clock_destroy(r->clock);
	free(r);
	return 0;
}

/* ---- pieces of guest code ---- */

static void
x_io(struct vm_exit *x, bool write, uint32_t data)
{
	*x = (struct vm_exit){.kind = VM_EXIT_IO};
	x->u.io.port = 0x80;
	x->u.io.size = 4;
	x->u.io.write = write;
	x->u.io.data = data;
}

static void
x_mmio(struct vm_exit *x, uint64_t gpa, bool write, uint64_t data)
{
	*x = (struct vm_exit){.kind = VM_EXIT_MMIO};
	x->u.mmio.gpa = gpa;
	x->u.mmio.size = 4;
	x->u.mmio.write = write;
	x->u.mmio.data = data;
}

static void
x_hlt(struct engine_vcpu *v, struct vm_exit *x, bool interrupts)
{
	v->s.rflags = (v->s.rflags & ~(uint64_t)FL_IF) | (interrupts ? FL_IF : 0);
	v->s.activity = ACT_HALTED;
	x->kind = VM_EXIT_HLT;
}

static void
spin(struct engine_vcpu *v, struct vm_exit *x)
{
	while (!atomic_load(&v->kicked))
		sched_yield();
	atomic_store(&v->kicked, false);
	x->kind = VM_EXIT_INTR;
}

/* ---- tests ---- */

static void
program_dispatch(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	switch (v->step++) {
	case 0:
		x_io(x, true, 0x12345678);
		return;
	case 1:
		assert_int_equal(r->port_value, 0x12345678);
		x_io(x, false, 0);
		return;
	case 2:
		assert_int_equal(x->u.io.data, 0x12345678);
		x_mmio(x, 0xc0000000, false, 0);
		return;
	case 3:
		assert_int_equal(x->u.mmio.data, 0x12345678);
		x_mmio(x, 0xc0000000, true, 99);
		return;
	case 4:
		assert_int_equal(r->port_value, 99);
		x_mmio(x, 0xfee00030, false, 0); /* the APIC's version comes before the bus */
		return;
	case 5:
		assert_int_equal(x->u.mmio.data & 0xf0, 0x10);
		x_mmio(x, 0xfee00080, true, 0x50); /* TPR: CR8 follows */
		return;
	case 6:
		assert_int_equal(v->s.cr8, 5);
		x->kind = VM_EXIT_CR8;
		x->u.cr8 = 3;
		return;
	case 7:
		assert_int_equal(lapic_get_cr8(r->lapic, 0), 3);
		x->kind = VM_EXIT_RDMSR;
		x->u.msr.index = 0x1b;
		return;
	case 8:
		assert_false(x->u.msr.fault);
		assert_int_equal(x->u.msr.val, 0xfee00900);
		x->kind = VM_EXIT_RDMSR;
		x->u.msr.index = 0x802; /* x2APIC mode is off */
		return;
	case 9:
		assert_true(x->u.msr.fault);
		x->kind = VM_EXIT_WRMSR;
		x->u.msr.index = 0x12345; /* nobody's */
		return;
	case 10:
		assert_true(x->u.msr.fault);
		x->kind = VM_EXIT_PAUSE;
		return;
	case 11:
		x->kind = VM_EXIT_DEBUG;
		return;
	case 12:
		x->kind = VM_EXIT_CR8_READ;
		return;
	default:
		assert_int_equal(x->u.cr8, 3);
		x->kind = VM_EXIT_SHUTDOWN;
	}
}

static void
count_exits(void *arg, unsigned cpu, const char *name, uint64_t value)
{
	uint64_t *got = arg;

	assert_int_equal(cpu, 0);
	if (strcmp(name, "exit.io") == 0)
		got[0] = value;
	if (strcmp(name, "exit.mmio") == 0)
		got[1] = value;
}

static void
test_dispatch(void **state)
{
	struct rig *r = *state;
	uint64_t exits[2] = {0};

	rig_start(r, 1, program_dispatch);
	assert_int_equal(wait_end(r), BOARD_TRIPLE_FAULT);
	assert_int_equal(r->vcpu[0].step, 14);
	assert_int_equal(r->vcpu[0].runs, 14); /* not one instruction after the end */
	cpus_stats(r->c, count_exits, exits);
	assert_int_equal(exits[0], 2);
	assert_int_equal(exits[1], 4);
}

static void
program_unsupported(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	(void)r;
	(void)v;
	x->kind = VM_EXIT_UNSUPPORTED;
	strcpy(x->u.why, "expected by this test");
}

static void
test_unsupported(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_unsupported);
	assert_int_equal(wait_end(r), BOARD_ERROR);
}

static void
program_sleep(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	(void)r;
	x_hlt(v, x, true);
}

/* HLT until an interrupt, many times: none is lost, whatever the vCPU is doing when it comes. */
static void
test_wake_from_hlt(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_sleep);
	for (unsigned i = 1; i <= 20000; i++) {
		lapic_msi(r->lapic, 0xfee00000, 0x40);
		wait_events(r, i);
		assert_true(lapic_mmio_write(r->lapic, 0, 0xfee000b0, 4, 0)); /* EOI */
		if (i % 64 == 0)
			sched_yield();
	}
	assert_false(r->ended);
}

static void
program_spin(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	(void)r;
	spin(v, x);
}

static void
test_interrupt_running(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_spin);
	for (unsigned i = 1; i <= 5000; i++) {
		lapic_msi(r->lapic, 0xfee00000, 0x41);
		wait_events(r, i);
		assert_true(lapic_mmio_write(r->lapic, 0, 0xfee000b0, 4, 0));
	}
}

/* Interrupts off: the interrupt waits for the window, and a pending one wakes nobody who cannot take it. */
static void
program_window(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	switch (v->step) {
	case 0:
		v->s.rflags &= ~(uint64_t)FL_IF;
		v->step++;
		event(r); /* 1 */
		spin(v, x);
		return;
	case 1:
		assert_true(v->window);
		assert_int_equal(r->events, 1);
		v->s.rflags |= FL_IF;
		v->step++;
		x_io(x, true, 0);
		return;
	default:
		spin(v, x);
	}
}

static void
test_window(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_window);
	wait_events(r, 1);
	lapic_msi(r->lapic, 0xfee00000, 0x42);
	wait_events(r, 2);
}

static void
program_dead(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	(void)r;
	x_hlt(v, x, false);
}

static void
test_halt_alone(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_dead);
	assert_int_equal(wait_end(r), BOARD_HALT);
	assert_int_equal(r->vcpu[0].runs, 1);
}

/* APs that were never started count as halted. */
static void
test_halt_with_waiting_aps(void **state)
{
	struct rig *r = *state;

	rig_start(r, 4, program_dead);
	assert_int_equal(wait_end(r), BOARD_HALT);
	assert_int_equal(r->vcpu[1].runs + r->vcpu[2].runs + r->vcpu[3].runs, 0);
}

/* BSP: INIT and start-up messages to all others, then waits for each to have run, then all halt for good. */
static void
program_smp(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	if (v->id != 0) {
		assert_int_equal(v->s.seg[X86_CS].base, 0x9a000);
		assert_int_equal(v->s.seg[X86_CS].sel, 0x9a00);
		assert_int_equal(v->s.rip, 0);
		if (v->step++ == 0) {
			atomic_fetch_add(&r->total, 1);
			x_io(x, true, v->id);
			return;
		}
		x_hlt(v, x, false);
		return;
	}
	switch (v->step) {
	case 0:
		x_mmio(x, 0xfee00300, true, 0x000c4500); /* INIT, all but self */
		break;
	case 1:
	case 2:
		x_mmio(x, 0xfee00300, true, 0x000c469a); /* start-up, twice */
		break;
	default:
		if (atomic_load(&r->total) < r->count - 1) {
			x->kind = VM_EXIT_PAUSE;
			return;
		}
		x_hlt(v, x, false);
	}
	v->step++;
}

static void
test_smp_start_and_halt(void **state)
{
	struct rig *r = *state;

	rig_start(r, 4, program_smp);
	assert_int_equal(wait_end(r), BOARD_HALT);
	assert_int_equal(atomic_load(&r->total), 3);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(r->vcpu[i].runs, 2);
		assert_false(pthread_equal(r->vcpu[i].thread, r->vcpu[0].thread));
	}
}

/* Two vCPUs hand an NMI to each other and halt with interrupts off each time: never counted as halted while
 * one is on its way. */
static void
program_nmi_ping_pong(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	static const uint32_t start[2] = {0x000c4500, 0x000c4601}; /* INIT, start-up: all but self */
	bool serve = v->id == 1 && v->step == 0;

	if (v->id == 0 && v->step < 2) {
		x_mmio(x, 0xfee00300, true, start[v->step++]);
		return;
	}
	if (v->nmis_taken > v->nmis_answered) {
		v->nmis_answered++;
		serve = atomic_fetch_add(&r->total, 1) < 20000;
	}
	v->step = 2;
	if (serve)
		x_mmio(x, 0xfee00300, true, 0x000c4400); /* NMI to the other */
	else
		x_hlt(v, x, false);
}

static void
test_nmi_ping_pong(void **state)
{
	struct rig *r = *state;

	rig_start(r, 2, program_nmi_ping_pong);
	assert_int_equal(wait_end(r), BOARD_HALT);
	assert_true(atomic_load(&r->total) >= 20000);
}

static void
test_nmi_wakes(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_sleep);
	cpus_nmi(r->c, 7); /* none such */
	for (unsigned i = 1; i <= 100; i++) {
		cpus_nmi(r->c, 0);
		wait_events(r, i);
	}
}

static void
program_init_self(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	(void)r;
	(void)v;
	x_mmio(x, 0xfee00300, true, 0x00044500); /* INIT, self */
}

/* The reset vector holds no firmware: INIT of the boot processor is a reboot. */
static void
test_init_of_bsp(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_init_self);
	lapic_message(r->lapic, 0, false, 5, 0, false);
	assert_int_equal(wait_end(r), BOARD_REBOOT);
}

/* Pause: nothing runs meanwhile; resume: everything goes on; also nested, also for sleepers. */
static void
program_count(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	atomic_fetch_add(&r->total, 1);
	if (v->id == 0 && v->step++ == 0) {
		x_mmio(x, 0xfee00300, true, 0x000c4500);
	} else if (v->id == 0 && v->step == 2) {
		x_mmio(x, 0xfee00300, true, 0x000c4601);
	} else if (v->id == 2) {
		x_hlt(v, x, true);
	} else {
		x_io(x, true, 1);
	}
}

static void
test_pause(void **state)
{
	struct rig *r = *state;

	rig_start(r, 4, program_count);
	for (unsigned i = 0; i < 500; i++) {
		unsigned before;

		cpus_pause(r->c);
		before = atomic_load(&r->total);
		cpus_pause(r->c);
		cpus_resume(r->c);
		for (unsigned n = 0; n < 20; n++)
			sched_yield();
		assert_int_equal(atomic_load(&r->total), before);
		cpus_resume(r->c);
		while (atomic_load(&r->total) == before)
			sched_yield();
	}
	cpus_pause(r->c); /* and destroyed while paused */
}

/* Each instruction asks a device three times. */
static void
program_three(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	(void)r;
	v->open = true;
	v->left = 3;
	assert_true(go_on(v, x));
}

/* A paused vCPU is between two instructions, also when the last exit was in the middle of one; so that its
 * state can be taken away. */
static void
test_pause_between_instructions(void **state)
{
	struct rig *r = *state;

	rig_start(r, 1, program_three);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned before;
		struct x86_state s;

		cpus_pause(r->c);
		assert_false(r->vcpu[0].open);
		cpus_get_state(r->c, 0, &s);
		assert_int_equal(s.activity, ACT_RUNNING);
		before = atomic_load(&r->total);
		cpus_resume(r->c);
		while (atomic_load(&r->total) == before)
			sched_yield();
	}
}

/* Interrupts from two threads at three vCPUs which sleep, spin and mask: each is seen, or is one with an
 * earlier pending one; the last always is. */
static void *
storm_main(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < 20000; i++)
		lapic_msi(r->lapic, 0xfee00000 | (uint64_t)(i % 3) << 12, 0x30 + i % 3);
	return NULL;
}

static void
program_storm(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	if (v->id == 0 && v->step == 0) {
		v->step = 1;
		x_mmio(x, 0xfee00300, true, 0x000c4500);
		return;
	}
	if (v->id == 0 && v->step == 1) {
		v->step = 2;
		x_mmio(x, 0xfee00300, true, 0x000c4601);
		return;
	}
	if (v->id != 0 && v->step == 0) {
		v->step = 2;
		v->s.rflags |= FL_IF;
		/* INIT has disabled the APIC. */
		x_mmio(x, 0xfee000f0, true, 0x1ff);
		return;
	}
	if (v->step == 2) {
		v->step = 3;
		atomic_fetch_add(&r->total, 1);
	}
	if (v->step++ % 2 == 0)
		x_mmio(x, 0xfee000b0, true, 0); /* EOI */
	else
		x_hlt(v, x, true);
}

static void
test_storm(void **state)
{
	struct rig *r = *state;
	pthread_t t[2];

	rig_start(r, 3, program_storm);
	while (atomic_load(&r->total) < 3)
		sched_yield();
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, storm_main, r), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	/* Everything drains: no vCPU sleeps on a deliverable interrupt. */
	for (unsigned i = 0; i < 3; i++) {
		while (lapic_pending(r->lapic, i) != LAPIC_NONE)
			sched_yield();
	}
	assert_false(r->ended);
}

/* A device holds all vCPUs from within a vCPU's access, as S3 does; then they go on from where they are put.
 */
static void
hold_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct rig *r = dev;

	(void)off;
	(void)size;
	(void)val;
	cpus_hold(r->c);
	event(r);
}

static void
program_held(struct rig *r, struct engine_vcpu *v, struct vm_exit *x)
{
	if (v->s.rip == 0x1234) {
		assert_int_equal(v->id, 0);
		x_hlt(v, x, false);
	} else if (v->id == 0 && v->step < 2) {
		x_mmio(x, 0xfee00300, true, v->step++ == 0 ? 0x000c4500 : 0x000c4601);
	} else if (v->id == 0 && atomic_load(&r->total) != 0) {
		assert_int_equal(v->step++, 2); /* not one instruction more */
		x_io(x, true, 0);
		x->u.io.port = 0x90;
	} else {
		atomic_fetch_add(&r->total, v->id);
		x->kind = VM_EXIT_PAUSE;
	}
}

static void
test_hold_and_restart(void **state)
{
	struct rig *r = *state;
	struct io_region port = {"hold", 0x90, 4, IO_ANY, port_read, hold_write, r};
	struct x86_state s;
	struct err err = {0};

	assert_int_equal(io_bus_add(r->pio, &port, &err), 0);
	rig_start(r, 2, program_held);
	wait_events(r, 1);
	cpus_pause(r->c);
	cpus_nmi(r->c, 1); /* dropped */
	x86_state_reset(&s);
	s.rip = 0x1234;
	assert_int_equal(cpus_restart(r->c, 0, &s, &err), 0);
	s.activity = ACT_WAIT_SIPI;
	assert_int_equal(cpus_restart(r->c, 1, &s, &err), 0);
	cpus_resume(r->c);
	cpus_resume(r->c);
	assert_int_equal(wait_end(r), BOARD_HALT);
	assert_int_equal(r->vcpu[1].nmis_taken, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_dispatch),
	    T(test_unsupported),
	    T(test_wake_from_hlt),
	    T(test_interrupt_running),
	    T(test_window),
	    T(test_halt_alone),
	    T(test_halt_with_waiting_aps),
	    T(test_smp_start_and_halt),
	    T(test_nmi_ping_pong),
	    T(test_nmi_wakes),
	    T(test_init_of_bsp),
	    T(test_pause),
	    T(test_pause_between_instructions),
	    T(test_hold_and_restart),
	    T(test_storm),
	};

	return cmocka_run_group_tests_name("cpus", tests, NULL, NULL);
}
