/* SPDX-License-Identifier: BSD-2-Clause */
/* vCPUs: life, running, sleep, statistics. */
#include "vmmapi/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"

/* ---- life ---- */

struct vcpu *
vm_vcpu_open(struct vmctx *ctx, int id)
{
	struct vcpu *v;
	struct err err = {0};

	if (ctx == NULL)
		return NULL;
	if (id < 0 || id >= ctx->maxcpus) {
		(void)vmctx_fail(ctx, EINVAL, "%s: no vCPU %d in a topology of %u", ctx->name, id,
				 ctx->maxcpus);
		return NULL;
	}
	if (vmctx_fix(ctx) != 0)
		return NULL;
	if (ctx->vcpu[id] != NULL)
		return ctx->vcpu[id];
	v = calloc(1, sizeof(*v));
	if (v == NULL) {
		(void)vmctx_fail(ctx, ENOMEM, "%s: no memory for vCPU %d", ctx->name, id);
		return NULL;
	}
	v->ctx = ctx;
	v->id = id;
	v->exit.kind = VM_EXIT_INTR;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->woken, NULL);
	if (md_vcpu_init(v, &err) == 0) {
		ctx->vcpu[id] = v;
		if (!ctx->tuning.tidies)
			vmctx_tidy(ctx);
		return v;
	}
	(void)vmctx_fail_err(ctx, &err);
	md_vcpu_fini(v);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->woken);
	free(v);
	return NULL;
}

void
vm_vcpu_close(struct vcpu *v)
{
	if (v == NULL)
		return;
	v->ctx->vcpu[v->id] = NULL;
	md_vcpu_fini(v);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->woken);
	free(v);
}

int
vcpu_id(const struct vcpu *v)
{
	return v != NULL ? v->id : -1;
}

struct vmctx *
vcpu_ctx(const struct vcpu *v)
{
	return v != NULL ? v->ctx : NULL;
}

int
vcpu_reset(struct vcpu *v)
{
	struct err err = {0};

	if (v == NULL)
		return -EINVAL;
	v->exit.kind = VM_EXIT_INTR;
	return md_vcpu_reset(v, &err) == 0 ? 0 : vmctx_fail_err(v->ctx, &err);
}

/* ---- running ---- */

int
vm_run(struct vcpu *v, struct vmexit *x)
{
	if (v == NULL || x == NULL)
		return -EINVAL;
	md_take_answer(v, x);
	v->runs++;
	for (;;) {
		int how = atomic_load(&v->ctx->suspend);

		if (how != VM_SUSPEND_NONE) {
			x->exitcode = VM_EXITCODE_SUSPENDED;
			x->u.suspended.how = (enum vm_suspend_how)how;
			return 0;
		}
		/* An instruction whose access has been answered ends first: the engine's own kick sees to
		 * that. */
		if (atomic_load_explicit(&v->kicked, memory_order_relaxed) && !md_exit_open(v)) {
			atomic_store(&v->kicked, false);
			x->exitcode = VM_EXITCODE_BOGUS;
			return 0;
		}
		if (md_run(v, x))
			return 0;
	}
}

void
vcpu_wake(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->wake = true;
	pthread_cond_signal(&v->woken);
	pthread_mutex_unlock(&v->lock);
	v->ctx->ops->kick(v->e);
}

void
vcpu_sleep(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	while (!v->wake)
		pthread_cond_wait(&v->woken, &v->lock);
	v->wake = false;
	pthread_mutex_unlock(&v->lock);
}

int
vm_kick(struct vcpu *v)
{
	if (v == NULL)
		return -EINVAL;
	atomic_store(&v->kicked, true);
	vcpu_wake(v);
	return 0;
}

int
vm_inject_nmi(struct vcpu *v)
{
	if (v == NULL)
		return -EINVAL;
	md_inject_nmi(v);
	return 0;
}

/* ---- statistics ---- */

int
vm_get_stats(struct vcpu *v, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	if (v == NULL || fn == NULL)
		return -EINVAL;
	fn(arg, "runs", v->runs);
	if (v->ctx->ops->stats != NULL)
		v->ctx->ops->stats(v->e, fn, arg);
	return 0;
}
