/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PIC, IOAPIC, local APICs, PIT, HPET and RTC wired as on a board, with vCPU threads that sleep until
 * they are woken, on the host's clock. A lost interrupt or wake, or a wrong lock order, is a hang
 * (the runner's time limit), and a data race is ThreadSanitizer's to find.
 */
#include "tests/unit/chipset_util.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/evloop.h"
#include "dev/chipset/hpet.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/lapic.h"
#include "dev/chipset/pic.h"
#include "dev/chipset/pit.h"
#include "dev/chipset/rtc.h"

#define CPUS   4
#define ROUNDS 2000

enum { V_LEVEL = 0x51, V_EDGE = 0x61, V_PING = 0x71, V_TIMER = 0x81, V_PIT = 0x91, V_QUIT = 0xf1 };

struct machine;

struct cpu {
	struct machine *m;
	unsigned id;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool woken;
	_Atomic unsigned got[257];
};

struct machine {
	struct io_bus *pio, *mmio;
	struct vm_clock *clock;
	struct evloop *loop;
	struct pic *pic;
	struct ioapic *ioapic;
	struct lapic_set *lapics;
	struct hpet *hpet;
	struct pit *pit;
	struct rtc *rtc;
	struct cpu cpu[CPUS];
	_Atomic bool line_high;
};

static void
cpu_wake(void *ctx, unsigned cpu)
{
	struct cpu *c = &((struct machine *)ctx)->cpu[cpu];

	pthread_mutex_lock(&c->lock);
	c->woken = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

static void
cpu_ignore(void *ctx, unsigned cpu)
{
	(void)ctx;
	(void)cpu;
}

static void
cpu_ignore_sipi(void *ctx, unsigned cpu, uint8_t vector)
{
	(void)ctx;
	(void)cpu;
	(void)vector;
}

static const struct lapic_cpu_ops cpu_ops = {cpu_wake, cpu_ignore, cpu_ignore_sipi, cpu_ignore, cpu_ignore};

/* As a board's router: an ISA line goes to the PIC and to the IOAPIC, IRQ0 there to pin 2. */
static void
isa_set(void *ctx, unsigned irq, bool level)
{
	struct machine *m = ctx;

	pic_set_irq(m->pic, irq, level);
	ioapic_set_irq(m->ioapic, irq == 0 ? 2 : irq, level);
}

static void
lint0_set(void *ctx, unsigned line, bool level)
{
	struct machine *m = ctx;

	(void)line;
	lapic_lint0(m->lapics, level);
	ioapic_set_irq(m->ioapic, 0, level);
}

static void
lapic_write(struct machine *m, unsigned cpu, unsigned off, uint32_t val)
{
	assert_true(lapic_mmio_write(m->lapics, cpu, 0xfee00000u + off, 4, val));
}

static void
ioapic_entry(struct machine *m, unsigned pin, uint64_t entry)
{
	for (int half = 1; half >= 0; half--) {
		io_bus_write(m->mmio, 0xfec00000, 4, 0x10 + 2 * pin + (unsigned)half);
		io_bus_write(m->mmio, 0xfec00010, 4, (uint32_t)(entry >> (32 * half)));
	}
}

/* What a guest's handlers do. */
static bool
handle(struct cpu *c, int vector)
{
	struct machine *m = c->m;

	atomic_fetch_add(&c->got[vector], 1);
	if (vector == V_LEVEL) {
		ioapic_set_irq(m->ioapic, 20, false);
		atomic_store(&m->line_high, false); /* now the driver may raise it again */
	}
	lapic_write(m, c->id, 0xb0, 0);
	if (vector == V_PING && c->id != 0) { /* pass it on; vCPU 0 ends the round */
		lapic_write(m, c->id, 0x310, ((c->id + 1) % CPUS) << 24);
		lapic_write(m, c->id, 0x300, 0x4000 | V_PING);
	}
	return vector != V_QUIT;
}

static void *
cpu_thread(void *arg)
{
	struct cpu *c = arg;
	bool on = true;

	while (on) {
		int vector;

		pthread_mutex_lock(&c->lock);
		while (!c->woken && lapic_pending(c->m->lapics, c->id) == LAPIC_NONE)
			pthread_cond_wait(&c->wake, &c->lock);
		c->woken = false;
		pthread_mutex_unlock(&c->lock);
		while (on && (vector = lapic_accept(c->m->lapics, c->id)) >= 0)
			on = handle(c, vector);
	}
	return NULL;
}

static void *
loop_thread(void *arg)
{
	evloop_run(arg);
	return NULL;
}

/* IOAPIC and APICs know one another by way of the machine. */
static bool
to_lapics(void *ctx, uint32_t dest, bool logical, unsigned mode, uint8_t vector, bool level)
{
	return lapic_message(((struct machine *)ctx)->lapics, dest, logical, mode, vector, level);
}

static void
to_ioapic(void *ctx, uint8_t vector)
{
	ioapic_eoi(((struct machine *)ctx)->ioapic, vector);
}

static int
to_pic(void *ctx)
{
	return pic_ack(((struct machine *)ctx)->pic);
}

static void
build_controllers(struct machine *m)
{
	const struct pic_wires pic_wires = {.intr = {lint0_set, m, 0}};
	const struct ioapic_wires ioapic_wires = {to_lapics, m};
	const struct lapic_wires lapic_wires = {m->clock, &cpu_ops, m, to_ioapic, m, to_pic, m};

	m->lapics = lapic_create(&(struct lapic_cfg){.cpus = CPUS}, &lapic_wires, NULL);
	m->ioapic = ioapic_create(&(struct ioapic_cfg){.id = CPUS}, &ioapic_wires, NULL);
	m->pic = pic_create(&pic_wires, NULL);
	assert_true(m->lapics != NULL && m->ioapic != NULL && m->pic != NULL);
	assert_int_equal(ioapic_map(m->ioapic, m->mmio, NULL), 0);
	assert_int_equal(pic_map(m->pic, m->pio, NULL), 0);
}

static void
build_timers(struct machine *m)
{
	const struct hpet_wires hpet_wires = {m->clock,	       {isa_set, m, 0},
					      {isa_set, m, 8}, {ioapic_set_irq, m->ioapic, 0},
					      lapic_msi_wire,  m->lapics};
	struct pit_wires pit_wires = {m->clock, {hpet_pit_irq, NULL, 0}};
	struct rtc_wires rtc_wires = {.clock = m->clock, .irq8 = {hpet_rtc_irq, NULL, 0}};

	m->hpet = hpet_create(&(struct hpet_cfg){.msi = true}, &hpet_wires, NULL);
	assert_non_null(m->hpet);
	pit_wires.irq0.ctx = rtc_wires.irq8.ctx = m->hpet;
	m->pit = pit_create(&pit_wires, NULL);
	m->rtc = rtc_create(&(struct rtc_cfg){.cpus = CPUS}, &rtc_wires, NULL);
	assert_true(m->pit != NULL && m->rtc != NULL);
	assert_int_equal(hpet_map(m->hpet, m->mmio, NULL), 0);
	assert_int_equal(pit_map(m->pit, m->pio, NULL), 0);
	assert_int_equal(rtc_map(m->rtc, m->pio, NULL), 0);
}

struct part {
	const struct device_ops *ops;
	void *dev;
};

/* In order of creation, as a board's list. */
static size_t
parts(struct machine *m, struct part *list)
{
	const struct part all[] = {{&lapic_device_ops, m->lapics}, {&ioapic_device_ops, m->ioapic},
				   {&pic_device_ops, m->pic},	   {&hpet_device_ops, m->hpet},
				   {&pit_device_ops, m->pit},	   {&rtc_device_ops, m->rtc}};

	memcpy(list, all, sizeof(all));
	return ARRAY_LEN(all);
}

static int
setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct part list[8];
	size_t n;

	m->pio = make_bus(0x10000);
	m->mmio = make_bus(1ull << 40);
	m->loop = evloop_create(NULL);
	m->clock = vm_clock_create(VM_CLOCK_HOST, NULL);
	assert_int_equal(vm_clock_attach(m->clock, m->loop, NULL), 0);
	for (unsigned i = 0; i < CPUS; i++) {
		m->cpu[i].m = m;
		m->cpu[i].id = i;
		pthread_mutex_init(&m->cpu[i].lock, NULL);
		pthread_cond_init(&m->cpu[i].wake, NULL);
	}
	build_controllers(m);
	build_timers(m);
	n = parts(m, list);
	for (size_t i = 0; i < n; i++) {
		if (list[i].ops->start != NULL)
			list[i].ops->start(list[i].dev);
	}
	for (unsigned i = 0; i < CPUS; i++)
		lapic_write(m, i, 0xf0, 0x1ff);
	*state = m;
	return 0;
}

static int
teardown(void **state)
{
	struct machine *m = *state;
	struct part list[8];
	size_t n = parts(m, list);

	for (size_t i = n; i-- > 0;) {
		if (list[i].ops->stop != NULL)
			list[i].ops->stop(list[i].dev);
	}
	for (size_t i = n; i-- > 0;)
		list[i].ops->destroy(list[i].dev);
	vm_clock_destroy(m->clock);
	evloop_destroy(m->loop);
	io_bus_destroy(m->pio);
	io_bus_destroy(m->mmio);
	for (unsigned i = 0; i < CPUS; i++) {
		pthread_mutex_destroy(&m->cpu[i].lock);
		pthread_cond_destroy(&m->cpu[i].wake);
	}
	free(m);
	return 0;
}

/* Raise a level line whenever it is low: each time some handler must come and lower it. */
static void
drive_level(struct machine *m)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		atomic_store(&m->line_high, true);
		ioapic_set_irq(m->ioapic, 20, true);
		while (atomic_load(&m->line_high))
			sched_yield();
	}
}

static unsigned
total(struct machine *m, unsigned vector)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CPUS; i++)
		n += atomic_load(&m->cpu[i].got[vector]);
	return n;
}

/* An IPI goes round all vCPUs; the next round starts when the last has come. */
static void
drive_pings(struct machine *m)
{
	for (unsigned i = 1; i <= ROUNDS; i++) {
		lapic_write(m, 0, 0x310, 1u << 24);
		lapic_write(m, 0, 0x300, 0x4000 | V_PING);
		while (atomic_load(&m->cpu[0].got[V_PING]) != i)
			sched_yield();
	}
}

static void *
ping_thread(void *arg)
{
	drive_pings(arg);
	return NULL;
}

static void
test_nothing_is_lost(void **state)
{
	struct machine *m = *state;
	pthread_t loop, pings;

	ioapic_entry(m, 2, V_PIT | 3ull << 56);
	ioapic_entry(m, 4, V_EDGE | 2ull << 56);
	ioapic_entry(m, 20, 0x8000 | 1u << 8 | V_LEVEL | 0xffull << 56); /* lowest priority, everyone */
	for (unsigned i = 0; i < CPUS; i++) {
		lapic_write(m, i, 0x3e0, 0xb);
		lapic_write(m, i, 0x320, 0x20000 | V_TIMER);
		lapic_write(m, i, 0x380, 1000000);
	}
	io_bus_write(m->pio, 0x43, 1, 0x34);
	io_bus_write(m->pio, 0x40, 1, 0xa9);
	io_bus_write(m->pio, 0x40, 1, 0x04); /* 1 kHz */
	vm_clock_start(m->clock);
	assert_int_equal(pthread_create(&loop, NULL, loop_thread, m->loop), 0);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&m->cpu[i].thread, NULL, cpu_thread, &m->cpu[i]), 0);
	assert_int_equal(pthread_create(&pings, NULL, ping_thread, m), 0);
	drive_level(m);
	for (unsigned i = 1; i <= 200; i++) {
		isa_set(m, 4, true);
		isa_set(m, 4, false);
		while (atomic_load(&m->cpu[2].got[V_EDGE]) != i)
			sched_yield();
	}
	pthread_join(pings, NULL);
	/* Timers go on all the while: wait for some ticks of each. */
	for (unsigned i = 0; i < CPUS; i++) {
		while (atomic_load(&m->cpu[i].got[V_TIMER]) < 20)
			sched_yield();
	}
	while (atomic_load(&m->cpu[3].got[V_PIT]) < 20)
		sched_yield();
	lapic_write(m, 0, 0x300, 0x84000 | V_QUIT);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(m->cpu[i].thread, NULL);
	evloop_stop(m->loop);
	pthread_join(loop, NULL);
	assert_int_equal(total(m, V_PING), ROUNDS * CPUS);
	assert_int_equal(total(m, V_EDGE), 200);
	assert_true(total(m, V_LEVEL) >= ROUNDS);
}

/* As Linux' check_timer() sees it: the PIT by the IOAPIC, by the PIC as ExtINT, by the PIC and pin 0. */
static void
test_timer_paths(void **state)
{
	struct machine *m = *state;
	static const uint8_t icws[] = {0x11, 0x30, 0x04, 0x01, 0xfe};
	unsigned n;

	/* PIC: IRQ0 alone unmasked; virtual wire. A high line stands for the tick. */
	for (unsigned i = 0; i < 5; i++)
		io_bus_write(m->pio, i == 0 ? 0x20 : 0x21, 1, icws[i]);
	lapic_virtual_wire(m->lapics);
	for (n = 0; n < 5; n++) {
		isa_set(m, 0, true);
		assert_int_equal(lapic_pending(m->lapics, 0), LAPIC_EXTINT);
		assert_int_equal(lapic_accept(m->lapics, 0), 0x30);
		assert_int_equal(lapic_pending(m->lapics, 0), LAPIC_NONE);
		isa_set(m, 0, false);
		io_bus_write(m->pio, 0x20, 1, 0x20);
	}
	/* By IOAPIC pin 0 as ExtINT, LINT0 masked. */
	lapic_write(m, 0, 0x350, 0x10700);
	ioapic_entry(m, 0, 0x700);
	for (n = 0; n < 5; n++) {
		isa_set(m, 0, true);
		assert_int_equal(lapic_pending(m->lapics, 0), LAPIC_EXTINT);
		assert_int_equal(lapic_accept(m->lapics, 0), 0x30);
		assert_int_equal(lapic_pending(m->lapics, 0), LAPIC_NONE);
		isa_set(m, 0, false);
		io_bus_write(m->pio, 0x20, 1, 0x20);
	}
	/* By the IOAPIC, pin 2. */
	ioapic_entry(m, 0, 0x10000);
	io_bus_write(m->pio, 0x21, 1, 0xff);
	ioapic_entry(m, 2, V_PIT);
	isa_set(m, 0, true);
	assert_int_equal(lapic_accept(m->lapics, 0), V_PIT);
	assert_int_equal(lapic_accept(m->lapics, 0), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_timer_paths, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_nothing_is_lost, setup, teardown),
	};

	return cmocka_run_group_tests_name("interrupts", tests, NULL, NULL);
}
