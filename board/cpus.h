/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processors: one host thread a vCPU, each in a loop of "take requests, inject what
 * the local APIC has, vm_run(), handle the exit".
 *
 * Threads: cpus_lapic_ops, cpus_nmi, cpus_request_stop and the pause pair from any thread
 * (pause and resume from no vCPU thread); the rest from the thread that owns the board.
 *
 * Locks: each vCPU has one, for its requests; it is taken with device locks held and
 * takes none. The set has one for parking and one for the halt count, taken last.
 */
#ifndef LHYVE_BOARD_CPUS_H
#define LHYVE_BOARD_CPUS_H

#include "base/err.h"
#include "board/board.h"
#include "dev/chipset/lapic.h"

struct cpus;
struct io_bus;
struct vmctx;
struct x86_state;

struct cpus_cfg {
	struct vmctx *vm;
	bool remote_apics; /* local APICs are the engine's: HLT, messages and waiting are not seen here */
	unsigned count;
	struct io_bus *pio, *mmio;
	/* The guest ended. From a vCPU thread, no lock held; may come several times. */
	void (*ended)(void *ctx, enum board_end end);
	void *ctx;
};

LH_MUST_CHECK struct cpus *cpus_create(const struct cpus_cfg *cfg, struct err *err);
extern const struct lapic_cpu_ops cpus_lapic_ops; /* ctx = struct cpus * */
void cpus_set_lapic(struct cpus *c, struct lapic_set *lapic);

/* The library's vCPU n, once it is open. */
struct vcpu *cpus_vcpu(struct cpus *c, unsigned n);
/*
 * With remote APICs nobody hears that all vCPUs have halted for good. Call it now and then, from the event
 * loop's thread: when none has had an exit since the last call, all are stopped and looked at.
 */
void cpus_look_for_halt(struct cpus *c);
/* Open vCPU n, in the state given. An ACT_WAIT_SIPI one waits for a start-up message. */
LH_MUST_CHECK int cpus_add(struct cpus *c, unsigned n, const struct x86_state *s, struct err *err);
LH_MUST_CHECK int cpus_start(struct cpus *c, struct err *err);

/* Every vCPU leaves the guest between two instructions and stays out: on return none runs. Calls nest. */
void cpus_pause(struct cpus *c);
void cpus_resume(struct cpus *c);
/* As cpus_pause(), but waits for nobody: each stays out from its next exit on. Any thread, vCPU threads too,
 * device locks held. */
void cpus_hold(struct cpus *c);
/* While paused: vCPU n goes on in state s, as a reset leaves it; what waited for it is dropped. The boot
 * processor's first. */
LH_MUST_CHECK int cpus_restart(struct cpus *c, unsigned n, const struct x86_state *s, struct err *err);

/* No vCPU runs another guest instruction once it has seen this; does not wait. Any thread, vCPU threads too.
 */
void cpus_request_stop(struct cpus *c);
/* Stop and join all threads. */
void cpus_stop(struct cpus *c);
void cpus_destroy(struct cpus *c);

void cpus_nmi(struct cpus *c, unsigned n);
/* vCPU n as it stands, while paused or after cpus_stop(). activity is what this loop knows: WAIT_SIPI as
 * well. */
void cpus_get_state(struct cpus *c, unsigned n, struct x86_state *s);
/* Counters, one call each: exits by kind, interrupts, then the library's and its engine's. While paused or
 * after cpus_stop(). */
void cpus_stats(struct cpus *c, void (*fn)(void *arg, unsigned cpu, const char *name, uint64_t value),
		void *arg);

#endif
