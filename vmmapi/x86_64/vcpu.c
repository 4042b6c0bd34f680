/* SPDX-License-Identifier: BSD-2-Clause */
/* A processor: CPUID, reset, start-up messages, interrupts, and the engine's exits as the library's. */
#include "vmmapi/x86_64/md.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "x86/state.h"

enum { CPUID_ADDRESS_SIZES = 0x80000008u, PHYS_BITS_DEFAULT = 36, XAPIC_ID_MAX = 254 };
enum { TPR_OFFSET = 0x80, MSR_X2APIC_TPR = 0x808, MSR_TSC_DEADLINE = 0x6e0 };

void
md_memory_split(size_t bytes, size_t *low, size_t *high, vm_paddr_t *high_base)
{
	*low = MIN(bytes, VM_LOWMEM_LIMIT);
	*high = bytes - *low;
	*high_base = 4 * GIB;
}

/* ---- what the controllers ask of a processor ---- */

static void
request(void *ctx, unsigned cpu, unsigned bits)
{
	struct vcpu *v = ((struct vmctx *)ctx)->vcpu[cpu];

	if (v == NULL)
		return;
	atomic_fetch_or(&v->md->requests, bits);
	vcpu_wake(v);
}

static void
on_wake(void *ctx, unsigned cpu)
{
	request(ctx, cpu, 0);
}

/* A start-up message from before INIT is void. */
static void
on_init(void *ctx, unsigned cpu)
{
	struct vcpu *v = ((struct vmctx *)ctx)->vcpu[cpu];

	if (v != NULL)
		atomic_fetch_and(&v->md->requests, ~(unsigned)REQ_SIPI);
	request(ctx, cpu, REQ_INIT);
}

static void
on_sipi(void *ctx, unsigned cpu, uint8_t vector)
{
	struct vcpu *v = ((struct vmctx *)ctx)->vcpu[cpu];

	if (v != NULL)
		atomic_store(&v->md->sipi_vector, vector);
	request(ctx, cpu, REQ_SIPI);
}

static void
on_nmi(void *ctx, unsigned cpu)
{
	request(ctx, cpu, REQ_NMI);
}

void
md_inject_nmi(struct vcpu *v)
{
	request(v->ctx, (unsigned)v->id, REQ_NMI);
}

/* ---- the VM ---- */

static struct x86_topology
topology(const struct vmctx *ctx)
{
	return (struct x86_topology){.cpus = ctx->maxcpus,
				     .sockets = ctx->sockets,
				     .cores = ctx->cores,
				     .threads = ctx->threads,
				     .maxcpus = ctx->maxcpus};
}

struct md_ctx *
md_of(struct vmctx *ctx, struct err *err)
{
	if (ctx->md != NULL)
		return ctx->md;
	ctx->md = calloc(1, sizeof(*ctx->md));
	if (ctx->md == NULL) {
		err_set(err, ENOMEM, "%s: no memory", ctx->name);
		return NULL;
	}
	x86_cpuid_host(&ctx->md->cpuid);
	ctx->ops->cpuid_filter(&ctx->md->cpuid);
	return ctx->md;
}

const struct x86_cpuid *
vmctx_cpuid(struct vmctx *ctx, struct err *err)
{
	struct md_ctx *md = md_of(ctx, err);

	return md != NULL ? &md->cpuid : NULL;
}

int
vmctx_add_features(struct vmctx *ctx, uint32_t features, struct err *err)
{
	struct md_ctx *md = md_of(ctx, err);

	if (md == NULL)
		return -err->code;
	if (ctx->ops->cpuid_add != NULL)
		ctx->ops->cpuid_add(&md->cpuid, features);
	return 0;
}

int
vmctx_set_cpuid(struct vmctx *ctx, vcpu_cpuid_fn finish, void *arg, struct err *err)
{
	struct md_ctx *md = md_of(ctx, err);

	if (md == NULL)
		return -err->code;
	md->finish = finish;
	md->finish_ctx = arg;
	return 0;
}

void
md_engine_cfg(struct vmctx *ctx, struct engine_vm_cfg *cfg)
{
	cfg->apic = ctx->md != NULL ? ctx->md->apic : ENGINE_APIC_USER;
}

int
md_ctx_init(struct vmctx *ctx, struct err *err)
{
	struct x86_topology t = topology(ctx);
	struct md_ctx *md = md_of(ctx, err);
	struct intc_cfg cfg = {.cpus = ctx->maxcpus,
			       .clock = ctx->clock,
			       .wake = on_wake,
			       .init = on_init,
			       .sipi = on_sipi,
			       .nmi = on_nmi,
			       .ctx = ctx};
	uint32_t out[4];

	if (md == NULL)
		return -err->code;
	md->apic_ids = calloc(ctx->maxcpus, sizeof(uint32_t));
	if (md->apic_ids == NULL)
		return err_set(err, ENOMEM, "%s: no memory", ctx->name);
	for (unsigned n = 0; n < ctx->maxcpus; n++)
		md->apic_ids[n] = x86_apic_id(&t, n);
	x86_cpuid_query(&md->cpuid, CPUID_ADDRESS_SIZES, 0, out);
	md->phys_bits = (out[0] & 0xff) != 0 ? (uint8_t)out[0] : PHYS_BITS_DEFAULT;
	if (!(ctx->flags & VM_CREATE_INTC))
		return 0;
	cfg.apic_ids = md->apic_ids;
	cfg.phys_bits = md->phys_bits;
	md->intc = intc_create(&cfg, err);
	return md->intc != NULL ? 0 : -err->code;
}

void
md_ctx_fini(struct vmctx *ctx)
{
	if (ctx->md == NULL)
		return;
	if (ctx->md->intc != NULL)
		intc_destroy(ctx->md->intc);
	free(ctx->md->apic_ids);
	free(ctx->md);
	ctx->md = NULL;
}

/* ---- a vCPU ---- */

int
md_vcpu_init(struct vcpu *v, struct err *err)
{
	struct x86_topology t = topology(v->ctx);

	v->md = calloc(1, sizeof(*v->md));
	if (v->md == NULL)
		return err_set(err, ENOMEM, "%s: no memory", v->ctx->name);
	v->md->cpuid = v->ctx->md->cpuid;
	if (v->ctx->md->finish != NULL)
		v->ctx->md->finish(v->ctx->md->finish_ctx, (unsigned)v->id, &v->md->cpuid);
	else
		x86_cpuid_finish(&v->md->cpuid, &t, (unsigned)v->id, true);
	v->e = v->ctx->ops->vcpu_create(v->ctx->vm, (unsigned)v->id, &v->md->cpuid, err);
	return v->e != NULL ? md_vcpu_reset(v, err) : -err->code;
}

void
md_vcpu_fini(struct vcpu *v)
{
	if (v->e != NULL)
		v->ctx->ops->vcpu_destroy(v->e);
	free(v->md);
}

/* With controllers all but the first wait for a start-up message, as after power-on. */
int
md_vcpu_reset(struct vcpu *v, struct err *err)
{
	struct x86_state s;

	x86_state_reset(&s);
	atomic_store(&v->md->requests, 0);
	v->md->halted = false;
	v->md->tsc_adjust = 0;
	v->md->wait_sipi = v->ctx->md->intc != NULL && v->id != 0;
	return v->ctx->ops->set_state(v->e, X86_STATE_ALL, &s, err);
}

static bool
replace(struct vcpu *v, void (*change)(struct x86_state *s, uint8_t vector), uint8_t vector)
{
	struct x86_state s;
	struct err err = {0};

	v->ctx->ops->get_state(v->e, X86_STATE_ALL, &s);
	change(&s, vector);
	if (v->ctx->ops->set_state(v->e, X86_STATE_ALL, &s, &err) == 0)
		return true;
	(void)vmctx_fail_err(v->ctx, &err);
	return false;
}

static void
to_init(struct x86_state *s, uint8_t vector)
{
	(void)vector;
	x86_state_init(s);
}

static void
take_requests(struct vcpu *v)
{
	unsigned r;

	if (atomic_load_explicit(&v->md->requests, memory_order_relaxed) == 0)
		return;
	r = atomic_exchange(&v->md->requests, 0);
	if ((r & REQ_INIT) && v->id == 0) {
		(void)vm_suspend(v->ctx, VM_SUSPEND_RESET);
	} else if (r & REQ_INIT) {
		intc_init_reset(v->ctx->md->intc, (unsigned)v->id);
		v->md->wait_sipi = replace(v, to_init, 0);
		v->md->halted = false;
	}
	if ((r & REQ_SIPI) && v->md->wait_sipi)
		v->md->wait_sipi = !replace(v, x86_state_sipi, (uint8_t)atomic_load(&v->md->sipi_vector));
	if ((r & REQ_NMI) && !v->md->wait_sipi) {
		v->ctx->ops->inject_nmi(v->e);
		v->md->halted = false;
	}
}

static void
deliver(struct vcpu *v)
{
	const struct engine_ops *e = v->ctx->ops;
	struct intc *c = v->ctx->md->intc;
	unsigned cpu = (unsigned)v->id;
	int vector;

	if (c == NULL || !intc_pending(c, cpu) || !e->intr_ready(v->e, true))
		return;
	vector = intc_accept(c, cpu);
	if (vector < 0)
		return;
	e->inject_intr(v->e, (uint8_t)vector);
	v->md->halted = false;
	if (intc_pending(c, cpu))
		(void)e->intr_ready(v->e, true);
}

/* ---- exits ---- */

/* The task priority was set by other means than CR8: the engine's copy follows. */
static void
sync_cr8(struct vcpu *v)
{
	struct x86_state s;
	struct err err = {0};

	v->ctx->ops->get_state(v->e, X86_STATE_CR, &s);
	s.cr8 = intc_get_cr8(v->ctx->md->intc, (unsigned)v->id);
	if (v->ctx->ops->set_state(v->e, X86_STATE_CR, &s, &err) != 0)
		(void)vmctx_fail_err(v->ctx, &err);
}

static bool
exit_mmio(struct vcpu *v, struct vmexit *x)
{
	struct vm_exit *k = &v->exit;
	struct intc *c = v->ctx->md->intc;

	if (c != NULL &&
	    intc_mmio(c, (unsigned)v->id, k->u.mmio.gpa, k->u.mmio.size, k->u.mmio.write, &k->u.mmio.data)) {
		if (k->u.mmio.write && (k->u.mmio.gpa & 0xff0) == TPR_OFFSET)
			sync_cr8(v);
		return false;
	}
	x->exitcode = VM_EXITCODE_MMIO;
	x->u.mmio.gpa = k->u.mmio.gpa;
	x->u.mmio.size = k->u.mmio.size;
	x->u.mmio.write = k->u.mmio.write;
	x->u.mmio.data = k->u.mmio.data;
	return true;
}

static bool
exit_io(struct vcpu *v, struct vmexit *x)
{
	struct vm_exit *k = &v->exit;
	struct intc *c = v->ctx->md->intc;

	if (c != NULL && intc_port(c, k->u.io.port, k->u.io.size, k->u.io.write, &k->u.io.data))
		return false;
	x->exitcode = VM_EXITCODE_INOUT;
	x->u.md.inout.port = k->u.io.port;
	x->u.md.inout.bytes = k->u.io.size;
	x->u.md.inout.in = !k->u.io.write;
	x->u.md.inout.eax = k->u.io.data;
	return true;
}

/* The deadline is in the guest's TSC, which the engine keeps. */
static void
sync_tsc_adjust(struct vcpu *v)
{
	struct x86_state s;

	v->ctx->ops->get_state(v->e, X86_STATE_MSR, &s);
	if (s.msr.tsc_adjust == v->md->tsc_adjust)
		return;
	v->md->tsc_adjust = s.msr.tsc_adjust;
	intc_set_tsc_adjust(v->ctx->md->intc, (unsigned)v->id, s.msr.tsc_adjust);
}

static bool
exit_msr(struct vcpu *v, struct vmexit *x, bool write)
{
	struct vm_exit *k = &v->exit;
	struct intc *c = v->ctx->md->intc;

	if (c != NULL) {
		if (write && k->u.msr.index == MSR_TSC_DEADLINE)
			sync_tsc_adjust(v);
		k->u.msr.fault = !intc_msr(c, (unsigned)v->id, k->u.msr.index, write, &k->u.msr.val);
		if (write && k->u.msr.index == MSR_X2APIC_TPR)
			sync_cr8(v);
		return false;
	}
	x->exitcode = write ? VM_EXITCODE_WRMSR : VM_EXITCODE_RDMSR;
	x->u.md.msr.code = k->u.msr.index;
	x->u.md.msr.val = k->u.msr.val;
	x->u.md.msr.fault = false;
	return true;
}

static bool
exit_cr8(struct vcpu *v, struct vmexit *x, bool read)
{
	struct intc *c = v->ctx->md->intc;

	if (c == NULL) {
		x->exitcode = VM_EXITCODE_CR8;
		x->u.md.cr8.read = read;
		x->u.md.cr8.val = v->exit.u.cr8;
		return true;
	}
	if (read)
		v->exit.u.cr8 = intc_get_cr8(c, (unsigned)v->id);
	else
		intc_set_cr8(c, (unsigned)v->id, v->exit.u.cr8);
	return false;
}

/* With controllers it sleeps here, unless nothing could wake it. */
static bool
exit_hlt(struct vcpu *v, struct vmexit *x)
{
	struct x86_state s;

	v->md->halted = true;
	v->ctx->ops->get_state(v->e, X86_STATE_GPR, &s);
	x->exitcode = VM_EXITCODE_HLT;
	return v->ctx->md->intc == NULL || v->md->halt_exit || !(s.rflags & FL_IF);
}

static bool
simple(struct vmexit *x, int code)
{
	x->exitcode = code;
	return true;
}

static bool
take_window(struct vcpu *v)
{
	bool asked = v->md->window;

	v->md->window = false;
	return asked;
}

static bool
take_exit(struct vcpu *v, struct vmexit *x)
{
	switch (v->exit.kind) {
	case VM_EXIT_INTR: /* it may be the window that the caller waits for */
		x->exitcode = VM_EXITCODE_BOGUS;
		return take_window(v);
	case VM_EXIT_IO:
		return exit_io(v, x);
	case VM_EXIT_MMIO:
		return exit_mmio(v, x);
	case VM_EXIT_RDMSR:
	case VM_EXIT_WRMSR:
		return exit_msr(v, x, v->exit.kind == VM_EXIT_WRMSR);
	case VM_EXIT_CR8:
	case VM_EXIT_CR8_READ:
		return exit_cr8(v, x, v->exit.kind == VM_EXIT_CR8_READ);
	case VM_EXIT_HLT:
		return exit_hlt(v, x);
	case VM_EXIT_PAUSE:
		return simple(x, VM_EXITCODE_PAUSE);
	case VM_EXIT_EOI:
		x->u.md.vector = v->exit.u.vector;
		return simple(x, VM_EXITCODE_IOAPIC_EOI);
	case VM_EXIT_RESET:
		(void)vm_suspend(v->ctx, VM_SUSPEND_RESET);
		return false;
	case VM_EXIT_PMI:
		return v->ctx->md->intc == NULL && simple(x, VM_EXITCODE_PMI);
	case VM_EXIT_DEBUG:
		return simple(x, VM_EXITCODE_DEBUG);
	case VM_EXIT_SHUTDOWN:
		(void)vm_suspend(v->ctx, VM_SUSPEND_FAULT);
		return false;
	case VM_EXIT_UNSUPPORTED:
		snprintf(x->u.error.text, sizeof(x->u.error.text), "%.199s", v->exit.u.why);
		return simple(x, VM_EXITCODE_ERROR);
	default:
		return false;
	}
}

void
md_take_answer(struct vcpu *v, const struct vmexit *x)
{
	struct vm_exit *k = &v->exit;

	switch (x->exitcode) {
	case VM_EXITCODE_INOUT:
		if (k->kind == VM_EXIT_IO && !k->u.io.write)
			k->u.io.data = x->u.md.inout.eax;
		break;
	case VM_EXITCODE_MMIO:
		if (k->kind == VM_EXIT_MMIO && !k->u.mmio.write)
			k->u.mmio.data = x->u.mmio.data;
		break;
	case VM_EXITCODE_RDMSR:
	case VM_EXITCODE_WRMSR:
		if (k->kind == VM_EXIT_RDMSR || k->kind == VM_EXIT_WRMSR) {
			k->u.msr.val = x->u.md.msr.val;
			k->u.msr.fault = x->u.md.msr.fault;
		}
		break;
	case VM_EXITCODE_CR8:
		if (k->kind == VM_EXIT_CR8_READ)
			k->u.cr8 = x->u.md.cr8.val;
		break;
	default:
		break;
	}
}

bool
md_exit_open(const struct vcpu *v)
{
	switch (v->exit.kind) {
	case VM_EXIT_IO:
	case VM_EXIT_MMIO:
	case VM_EXIT_RDMSR:
	case VM_EXIT_WRMSR:
	case VM_EXIT_CR8:
	case VM_EXIT_CR8_READ:
		return true;
	default:
		return false;
	}
}

bool
md_run(struct vcpu *v, struct vmexit *x)
{
	take_requests(v);
	if (!v->md->wait_sipi)
		deliver(v);
	if (v->md->wait_sipi || (v->md->halted && v->ctx->md->intc != NULL)) {
		vcpu_sleep(v);
		return false;
	}
	v->ctx->ops->run(v->e, &v->exit);
	return take_exit(v, x);
}

/* ---- for lhyve ---- */

void
vcpu_get_state(struct vcpu *v, unsigned mask, struct x86_state *s)
{
	v->ctx->ops->get_state(v->e, mask, s);
}

int
vcpu_set_state(struct vcpu *v, unsigned mask, const struct x86_state *s, struct err *err)
{
	if (mask == X86_STATE_ALL)
		v->exit.kind = VM_EXIT_INTR;
	return v->ctx->ops->set_state(v->e, mask, s, err);
}

bool
vcpu_intr_ready(struct vcpu *v, bool want_window)
{
	bool ready = v->ctx->ops->intr_ready(v->e, want_window);

	v->md->window = want_window && !ready;
	return ready;
}

void
vcpu_inject_intr(struct vcpu *v, uint8_t vector)
{
	v->ctx->ops->inject_intr(v->e, vector);
}

void
vcpu_inject_nmi(struct vcpu *v)
{
	v->ctx->ops->inject_nmi(v->e);
}
