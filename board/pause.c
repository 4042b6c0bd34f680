/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A running board, seen from outside: pause, resume, state, counters.
 *
 * What another thread asks for is done on the event loop's thread, where no timer and no console input can be
 * under way; the vCPUs are then parked, each between two instructions. A pause is thus what a save needs:
 * nothing moves but the writer threads of consoles, which end when what was written is out.
 *
 * Locks: call.callers, then call.lock; none is held while the function runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "board/internal.h"
#include "dev/console/console.h"
#include "x86/state.h"

/* ---- calls on the loop's thread ---- */

static void
on_call(void *arg, uint32_t events)
{
	struct board *b = arg;
	uint64_t count;

	(void)events;
	if (read(b->call.fd, &count, sizeof(count)) != sizeof(count))
		return;
	pthread_mutex_lock(&b->call.lock);
	if (b->call.fn != NULL && !b->call.closed) {
		pthread_mutex_unlock(&b->call.lock);
		b->call.fn(b, b->call.arg);
		pthread_mutex_lock(&b->call.lock);
	}
	b->call.fn = NULL;
	pthread_cond_broadcast(&b->call.done);
	pthread_mutex_unlock(&b->call.lock);
}

int
board_call_init(struct board *b, struct err *err)
{
	b->call.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->call.fd < 0)
		return err_set(err, errno, "board: eventfd: %s (raise the limit of open files?)",
			       strerror(errno));
	b->call.source = ev_add(b->loop, b->call.fd, EPOLLIN, on_call, b, err);
	return b->call.source != NULL ? 0 : -err->code;
}

void
board_call_close(struct board *b)
{
	pthread_mutex_lock(&b->call.lock);
	b->call.closed = true;
	pthread_cond_broadcast(&b->call.done);
	pthread_mutex_unlock(&b->call.lock);
}

void
board_call_destroy(struct board *b)
{
	if (b->call.source != NULL)
		ev_remove(b->call.source);
	if (b->call.fd >= 0)
		close(b->call.fd);
	pthread_mutex_destroy(&b->call.callers);
	pthread_mutex_destroy(&b->call.lock);
	pthread_cond_destroy(&b->call.done);
}

/* Have fn run on the loop's thread, and wait for its end. */
static int
board_call(struct board *b, void (*fn)(struct board *b, void *arg), void *arg, struct err *err)
{
	const uint64_t one = 1;
	bool ended;

	pthread_mutex_lock(&b->call.callers);
	pthread_mutex_lock(&b->call.lock);
	if (!b->call.closed) {
		b->call.arg = arg;
		b->call.fn = fn;
		LH_ASSERT(write(b->call.fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	}
	while (b->call.fn != NULL && !b->call.closed)
		pthread_cond_wait(&b->call.done, &b->call.lock);
	ended = b->call.closed;
	b->call.fn = NULL;
	pthread_mutex_unlock(&b->call.lock);
	pthread_mutex_unlock(&b->call.callers);
	return ended ? err_set(err, ECANCELED, "the guest has ended") : 0;
}

/* ---- pause ---- */

static void
pause_now(struct board *b, void *arg)
{
	(void)arg;
	if (b->paused)
		return;
	cpus_pause(b->cpus);
	vm_clock_stop(b->clock);
	board_halt_devices(b);
	b->paused = true;
}

static void
resume_now(struct board *b, void *arg)
{
	(void)arg;
	if (!b->paused)
		return;
	b->paused = false;
	board_wake_devices(b);
	vm_clock_start(b->clock);
	cpus_resume(b->cpus);
	board_sleep_resumed(b);
}

int
board_pause(struct board *b, struct err *err)
{
	return board_call(b, pause_now, NULL, err);
}

int
board_resume(struct board *b, struct err *err)
{
	return board_call(b, resume_now, NULL, err);
}

void
board_get_status(struct board *b, struct board_status *s)
{
	*s = (struct board_status){
	    .started = b->started,
	    .paused = b->paused,
	    .clock_ns = vm_clock_now_ns(b->clock),
	    .tsc_khz = vm_clock_tsc_khz(b->clock),
	};
	pthread_mutex_lock(&b->end_lock);
	s->ended = b->ended;
	pthread_mutex_unlock(&b->end_lock);
}

unsigned
board_cpu_count(const struct board *b)
{
	return b->machine.topo.cpus;
}

unsigned
board_console_port(struct board *b, unsigned i)
{
	return i < MACHINE_COMS && b->console[i] != NULL ? console_tcp_port(b->console[i]) : 0;
}

/* ---- state ---- */

void
board_state_free(struct board_state *s)
{
	for (unsigned i = 0; s->device != NULL && i < s->devices; i++)
		free(s->device[i].st);
	free(s->device);
	free(s->cpu);
	free(s->apic_id);
	*s = (struct board_state){0};
}

/* Everything that needs memory, before anything is parked. */
static int
make_room(struct board *b, struct board_state *s, struct err *err)
{
	*s = (struct board_state){.cpus = b->machine.topo.cpus};
	s->apic_id = calloc(s->cpus, sizeof(*s->apic_id));
	s->cpu = calloc(s->cpus, sizeof(*s->cpu));
	s->device = calloc(b->devices, sizeof(*s->device));
	if (s->apic_id == NULL || s->cpu == NULL || s->device == NULL)
		goto no_memory;
	for (size_t i = 0; i < b->devices; i++) {
		const struct device *d = &b->device[i];
		struct board_device_state *to = &s->device[s->devices];

		if (d->ops->copy_st == NULL)
			continue;
		to->table = d->ops->state;
		to->st = malloc(to->table->size);
		if (to->st == NULL)
			goto no_memory;
		memcpy(to->name, d->name, sizeof(to->name));
		s->devices++;
	}
	return 0;
no_memory:
	board_state_free(s);
	return err_set(err, ENOMEM, "board: no memory");
}

static void
copy_state(struct board *b, void *arg)
{
	struct board_state *s = arg;
	unsigned n = 0;

	cpus_pause(b->cpus);
	for (unsigned i = 0; i < s->cpus; i++) {
		s->apic_id[i] = b->apic_ids[i];
		cpus_get_state(b->cpus, i, &s->cpu[i]);
	}
	for (size_t i = 0; i < b->devices; i++) {
		if (b->device[i].ops->copy_st != NULL)
			b->device[i].ops->copy_st(b->device[i].dev, s->device[n++].st);
	}
	cpus_resume(b->cpus);
}

int
board_get_state(struct board *b, struct board_state *s, struct err *err)
{
	int ret = make_room(b, s, err);

	if (ret != 0)
		return ret;
	ret = board_call(b, copy_state, s, err);
	if (ret != 0)
		board_state_free(s);
	return ret;
}

/* ---- counters ---- */

struct sink {
	void (*fn)(void *arg, const char *who, const char *name, uint64_t value);
	void *arg;
	const char *who;
};

static void
cpu_counter(void *arg, unsigned cpu, const char *name, uint64_t value)
{
	const struct sink *sink = arg;
	char who[16];

	snprintf(who, sizeof(who), "cpu%u", cpu);
	sink->fn(sink->arg, who, name, value);
}

static void
device_counter(void *arg, const char *name, uint64_t value)
{
	const struct sink *sink = arg;

	sink->fn(sink->arg, sink->who, name, value);
}

void
board_get_stats(struct board *b, void (*fn)(void *arg, const char *who, const char *name, uint64_t value),
		void *arg)
{
	struct sink sink = {fn, arg, NULL};

	cpus_pause(b->cpus);
	cpus_stats(b->cpus, cpu_counter, &sink);
	cpus_resume(b->cpus);
	for (size_t i = 0; i < b->devices; i++) {
		sink.who = b->device[i].name;
		if (b->device[i].ops->stats != NULL)
			b->device[i].ops->stats(b->device[i].dev, device_counter, &sink);
	}
}
