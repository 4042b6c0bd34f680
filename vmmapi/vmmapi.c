/* SPDX-License-Identifier: BSD-2-Clause */
/* VMs: life, errors, topology, suspension. */
#include "vmmapi/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/evloop.h"
#include "base/util.h"
#include "base/vmclock.h"

/* ---- errors ---- */

int
vmctx_fail(struct vmctx *ctx, int code, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&ctx->err_lock);
	ctx->err.code = code;
	va_start(ap, fmt);
	vsnprintf(ctx->err.text, sizeof(ctx->err.text), fmt, ap);
	va_end(ap);
	pthread_mutex_unlock(&ctx->err_lock);
	return -code;
}

int
vmctx_fail_err(struct vmctx *ctx, const struct err *err)
{
	return vmctx_fail(ctx, err->code != 0 ? err->code : EIO, "%s", err->msg);
}

void
vm_get_error(struct vmctx *ctx, struct vm_error *e)
{
	if (ctx == NULL || e == NULL)
		return;
	pthread_mutex_lock(&ctx->err_lock);
	*e = ctx->err;
	pthread_mutex_unlock(&ctx->err_lock);
}

static void
tell(struct vm_error *e, int code, const char *text)
{
	if (e == NULL)
		return;
	e->code = code;
	snprintf(e->text, sizeof(e->text), "%s", text);
}

/* ---- life ---- */

struct vmctx *
vmctx_create(const char *name, const struct engine_ops *ops, unsigned flags, struct err *err)
{
	struct vmctx *ctx = calloc(1, sizeof(*ctx));

	if (ctx == NULL) {
		err_set(err, ENOMEM, "vm_create: no memory");
		return NULL;
	}
	pthread_mutex_init(&ctx->err_lock, NULL);
	snprintf(ctx->name, sizeof(ctx->name), "%s", name);
	ctx->flags = flags;
	ctx->ops = ops;
	ctx->sockets = ctx->cores = ctx->threads = ctx->maxcpus = 1;
	ctx->tuning = (struct vm_tuning){.strict_msr = true, .soft_code_cache = 32 * MIB};
	ctx->mem = gpmap_create(err);
	if (ctx->mem != NULL)
		ctx->clock = vm_clock_create(VM_CLOCK_HOST, err);
	if (ctx->clock != NULL)
		return ctx;
	vm_destroy(ctx);
	return NULL;
}

struct vmctx *
vm_create(const char *name, const char *engine, unsigned flags, struct vm_error *e)
{
	const struct engine_ops *ops;
	struct vmctx *ctx = NULL;
	struct err err = {0};

	tell(e, 0, "");
	if (name == NULL || name[0] == '\0' ||
	    (flags & ~(unsigned)(VM_CREATE_INTC | VM_CREATE_DIRTY_RING)) != 0) {
		tell(e, EINVAL, "vm_create: no name, or a flag that this version does not know");
		return NULL;
	}
	ops = vmctx_choose_engine(engine, &err);
	if (ops != NULL)
		ctx = vmctx_create(name, ops, flags, &err);
	if (ctx == NULL)
		tell(e, err.code, err.msg);
	return ctx;
}

void
vm_destroy(struct vmctx *ctx)
{
	if (ctx == NULL)
		return;
	if (ctx->loop_runs) { /* no timer wakes a vCPU from here on */
		evloop_stop(ctx->loop);
		pthread_join(ctx->thread, NULL);
	}
	for (unsigned n = 0; ctx->vcpu != NULL && n < ctx->maxcpus; n++)
		vm_vcpu_close(ctx->vcpu[n]);
	md_ctx_fini(ctx);
	if (ctx->vm != NULL)
		ctx->ops->vm_destroy(ctx->vm);
	free(ctx->vcpu);
	vm_clock_destroy(ctx->clock);
	evloop_destroy(ctx->loop);
	gpmap_destroy(ctx->mem);
	for (unsigned n = 0; n < VM_SEGMENTS; n++)
		memobj_destroy(ctx->seg[n]);
	pthread_mutex_destroy(&ctx->err_lock);
	free(ctx);
}

const char *
vm_get_name(const struct vmctx *ctx)
{
	return ctx != NULL ? ctx->name : NULL;
}

const char *
vm_get_engine(const struct vmctx *ctx)
{
	return ctx != NULL ? ctx->ops->name : NULL;
}

struct gpmap *
vmctx_gpmap(struct vmctx *ctx)
{
	return ctx->mem;
}

struct vm_clock *
vmctx_clock(struct vmctx *ctx)
{
	return ctx->clock;
}

void
vmctx_tidy(struct vmctx *ctx)
{
	if (ctx->ops->tidy != NULL)
		ctx->ops->tidy();
}

void
vmctx_set_tuning(struct vmctx *ctx, const struct vm_tuning *t)
{
	LH_ASSERT(ctx->vm == NULL);
	ctx->tuning = *t;
}

static void *
loop_main(void *arg)
{
	evloop_run(arg);
	return NULL;
}

/* Timers of the machine's controllers. The program's signals are its own threads' business. */
static int
start_loop(struct vmctx *ctx, struct err *err)
{
	sigset_t all, old;
	int r;

	if (ctx->loop_runs || !(ctx->flags & VM_CREATE_INTC))
		return 0;
	if (ctx->loop == NULL) {
		ctx->loop = evloop_create(err);
		if (ctx->loop == NULL || vm_clock_attach(ctx->clock, ctx->loop, err) != 0)
			return -err->code;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&ctx->thread, NULL, loop_main, ctx->loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return err_set(err, r, "%s: no thread: %s (raise the limit of processes: ulimit -u)",
			       ctx->name, strerror(r));
	ctx->loop_runs = true;
	return 0;
}

static struct engine_vm_cfg
engine_cfg(const struct vmctx *ctx)
{
	const struct vm_tuning *t = &ctx->tuning;

	return (struct engine_vm_cfg){
	    .mem = ctx->mem,
	    .clock = ctx->clock,
	    .maxcpus = ctx->maxcpus,
	    .dirty_ring = (ctx->flags & VM_CREATE_DIRTY_RING) != 0,
	    .strict_msr = t->strict_msr,
	    .pmu = t->pmu,
	    .vmware_backdoors = t->vmware_backdoors,
	    .pit_discard = t->pit_discard,
	    .trace = {.path = t->trace.path,
		      .binary = t->trace.binary,
		      .translated = t->trace.translated,
		      .vcpu = t->trace.vcpu,
		      .start = t->trace.start,
		      .count = t->trace.count},
	    .soft_verify = t->soft_verify,
	    .soft_profile = t->soft_profile,
	    .soft_perf_map = t->soft_perf_map,
	    .soft_symbols = t->soft_symbols,
	    .soft_interpret = t->soft_interpret,
	    .soft_code_cache = t->soft_code_cache,
	};
}

int
vmctx_fix(struct vmctx *ctx)
{
	struct engine_vm_cfg cfg = engine_cfg(ctx);
	struct err err = {0};

	if (ctx->vm != NULL)
		return 0;
	if (gpmap_count(ctx->mem) == 0)
		return vmctx_fail(ctx, EINVAL, "%s: no memory yet (vm_setup_memory() first)", ctx->name);
	ctx->vcpu = calloc(ctx->maxcpus, sizeof(struct vcpu *));
	if (ctx->vcpu == NULL)
		return vmctx_fail(ctx, ENOMEM, "%s: no memory", ctx->name);
	md_engine_cfg(ctx, &cfg);
	ctx->vm = ctx->ops->vm_create(&cfg, &err);
	if (ctx->vm != NULL && md_ctx_init(ctx, &err) == 0 && start_loop(ctx, &err) == 0) {
		if (!ctx->tuning.clock_stands)
			vm_clock_start(ctx->clock);
		return 0;
	}
	md_ctx_fini(ctx);
	if (ctx->vm != NULL)
		ctx->ops->vm_destroy(ctx->vm);
	ctx->vm = NULL;
	free(ctx->vcpu);
	ctx->vcpu = NULL;
	return vmctx_fail_err(ctx, &err);
}

/* ---- topology ---- */

enum { CPUS_MAX = 1024 };

int
vm_set_topology(struct vmctx *ctx, uint16_t sockets, uint16_t cores, uint16_t threads, uint16_t maxcpus)
{
	uint64_t all = (uint64_t)sockets * cores * threads;

	if (ctx == NULL)
		return -EINVAL;
	if (all == 0 || all > CPUS_MAX)
		return vmctx_fail(ctx, EINVAL, "%s: %u sockets * %u cores * %u threads: 1 to %d CPUs",
				  ctx->name, sockets, cores, threads, CPUS_MAX);
	if (maxcpus != 0 && maxcpus < all)
		return vmctx_fail(ctx, EINVAL, "%s: %u CPUs at most, and %llu in the topology", ctx->name,
				  maxcpus, (unsigned long long)all);
	if (ctx->vm != NULL)
		return vmctx_fail(ctx, EBUSY, "%s: the topology is fixed once there is a vCPU", ctx->name);
	if (maxcpus > all)
		return vmctx_fail(ctx, ENOTSUP, "%s: this version adds no CPUs while it runs", ctx->name);
	ctx->sockets = sockets;
	ctx->cores = cores;
	ctx->threads = threads;
	ctx->maxcpus = (uint16_t)all;
	return 0;
}

int
vm_get_topology(const struct vmctx *ctx, uint16_t *sockets, uint16_t *cores, uint16_t *threads,
		uint16_t *maxcpus)
{
	if (ctx == NULL || sockets == NULL || cores == NULL || threads == NULL || maxcpus == NULL)
		return -EINVAL;
	*sockets = ctx->sockets;
	*cores = ctx->cores;
	*threads = ctx->threads;
	*maxcpus = ctx->maxcpus;
	return 0;
}

/* ---- suspension ---- */

int
vm_suspend(struct vmctx *ctx, enum vm_suspend_how how)
{
	int none = VM_SUSPEND_NONE;

	if (ctx == NULL)
		return -EINVAL;
	if (how <= VM_SUSPEND_NONE || how > VM_SUSPEND_LAST)
		return vmctx_fail(ctx, EINVAL, "%s: no such suspension %d", ctx->name, (int)how);
	if (!atomic_compare_exchange_strong(&ctx->suspend, &none, (int)how))
		return -EALREADY;
	for (unsigned n = 0; ctx->vcpu != NULL && n < ctx->maxcpus; n++) {
		if (ctx->vcpu[n] != NULL)
			vcpu_wake(ctx->vcpu[n]);
	}
	return 0;
}

int
vm_reinit(struct vmctx *ctx)
{
	int r = 0;

	if (ctx == NULL)
		return -EINVAL;
	for (unsigned n = 0; r == 0 && ctx->vcpu != NULL && n < ctx->maxcpus; n++) {
		if (ctx->vcpu[n] != NULL)
			r = vcpu_reset(ctx->vcpu[n]);
	}
	if (r == 0)
		atomic_store(&ctx->suspend, VM_SUSPEND_NONE);
	return r;
}
