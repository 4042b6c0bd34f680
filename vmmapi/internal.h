/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The handles' insides, and what a machine's folder gives to the machine-independent files (md_*). Private to
 * vmmapi/ and the unit tests that put an engine of their own under it.
 *
 * Locks: err_lock guards the last error; a vCPU's lock guards its sleep. Neither is held while another is
 * taken, nor in a call of the engine.
 */
#ifndef VMMAPI_INTERNAL_H
#define VMMAPI_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <vmmapi.h>
#include "base/err.h"
#include "engine/engine.h"
#include "mem/gpmap.h"
#include "vmmapi/lhyve.h"

struct md_ctx;
struct md_vcpu;

struct vmctx {
	char name[128];
	unsigned flags;
	const struct engine_ops *ops;
	struct gpmap *mem;
	struct memobj *seg[VM_SEGMENTS];
	size_t lowmem, highmem;
	uint16_t sockets, cores, threads, maxcpus;
	struct vm_clock *clock;
	struct evloop *loop; /* timers: runs in `thread` */
	pthread_t thread;
	bool loop_runs;
	struct engine_vm *vm; /* NULL: memory and topology may still change */
	struct vcpu **vcpu;   /* maxcpus */
	_Atomic int suspend;  /* enum vm_suspend_how */
	bool dirty_log;
	struct vm_tuning tuning;
	struct md_ctx *md;

	pthread_mutex_t err_lock;
	struct vm_error err;
};

struct vcpu {
	struct vmctx *ctx;
	int id;
	struct engine_vcpu *e;
	struct vm_exit exit; /* the engine's last one */
	_Atomic bool kicked;
	uint64_t runs;

	pthread_mutex_t lock;
	pthread_cond_t woken;
	bool wake; /* under lock: look again before sleeping */
	struct md_vcpu *md;
};

/* Record an error of the VM; returns -code. */
int vmctx_fail(struct vmctx *ctx, int code, const char *fmt, ...) LH_PRINTF(3, 4);
int vmctx_fail_err(struct vmctx *ctx, const struct err *err);

/* A VM on this engine. NULL: see err. */
LH_MUST_CHECK struct vmctx *vmctx_create(const char *name, const struct engine_ops *ops, unsigned flags,
					 struct err *err);
/* engines.c: the engine of vm_create()'s name, or NULL and why. What "auto" passes over is logged. */
LH_MUST_CHECK const struct engine_ops *vmctx_choose_engine(const char *want, struct err *err);
/* The first vCPU: from here on memory and topology are fixed. */
LH_MUST_CHECK int vmctx_fix(struct vmctx *ctx);
/* The vCPU may sleep: it looks again. Any thread. */
void vcpu_wake(struct vcpu *vcpu);
/* Sleep until vcpu_wake(), a kick, or suspension. */
void vcpu_sleep(struct vcpu *vcpu);

/* ---- what a machine gives ---- */

/* The machine's part of the engine's configuration. */
void md_engine_cfg(struct vmctx *ctx, struct engine_vm_cfg *cfg);
LH_MUST_CHECK int md_ctx_init(struct vmctx *ctx, struct err *err);
void md_ctx_fini(struct vmctx *ctx);
LH_MUST_CHECK int md_vcpu_init(struct vcpu *vcpu, struct err *err);
void md_vcpu_fini(struct vcpu *vcpu);
LH_MUST_CHECK int md_vcpu_reset(struct vcpu *vcpu, struct err *err);
/* The caller's answer to the last exit. */
void md_take_answer(struct vcpu *vcpu, const struct vmexit *x);
/* The last exit's instruction ends in the next run. */
bool md_exit_open(const struct vcpu *vcpu);
/* Run the engine once. True: *x is for the caller. */
bool md_run(struct vcpu *vcpu, struct vmexit *x);
void md_inject_nmi(struct vcpu *vcpu);
/* Limits of the machine's memory: the hole of vm_setup_memory(). */
void md_memory_split(size_t bytes, size_t *low, size_t *high, vm_paddr_t *high_base);

#endif
