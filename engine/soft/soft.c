/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft engine's run loop and its face to the rest of lhyve (engine.h).
 *
 * Between blocks, in this order: requests of other threads, the device access
 * that an instruction waits for, debug traps, NMI, external interrupts, HLT.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/platform/x86.h>
#include "base/log.h"
#include "base/vmclock.h"
#include "engine/soft/code.h"
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"
#include "engine/soft/profile.h"
#include "engine/soft/soft.h"
#include "engine/trace.h"

#define DR6_BS		 (1u << 14)
#define BENIGN		 255
#define CODE_CACHE_BYTES (128 * MIB)

/* ---- exits ---- */
void
soft_unsupported(struct soft_cpu *cpu, const char *fmt, ...)
{
	va_list ap;
	char text[140];
	uint64_t rip = cpu->cur != NULL ? soft_insn_rip(cpu, cpu->cur) : cpu->rip;
	soft_vec_sync(cpu);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cpu->exit->kind = VM_EXIT_UNSUPPORTED;
	snprintf(cpu->exit->u.why, sizeof(cpu->exit->u.why), "%s: not implemented, vcpu %u at %04x:%#llx",
		 text, cpu->id, cpu->st.seg[X86_CS].sel, (unsigned long long)rip);
	cpu->exit_open = false;
	longjmp(cpu->jb, LEAVE_EXIT);
}

static void
exit_fill(struct soft_cpu *cpu, enum io_kind kind, uint64_t addr, unsigned size, uint64_t data)
{
	struct vm_exit *x = cpu->exit;
	memset(x, 0, sizeof(*x));
	switch (kind) {
	case IOLOG_MMIO_R:
	case IOLOG_MMIO_W:
		x->kind = VM_EXIT_MMIO;
		x->u.mmio.gpa = addr;
		x->u.mmio.size = (uint8_t)size;
		x->u.mmio.write = kind == IOLOG_MMIO_W;
		x->u.mmio.data = data;
		cpu->ctr.mmio++;
		break;
	case IOLOG_IN:
	case IOLOG_OUT:
		x->kind = VM_EXIT_IO;
		x->u.io.port = (uint16_t)addr;
		x->u.io.size = (uint8_t)size;
		x->u.io.write = kind == IOLOG_OUT;
		x->u.io.data = (uint32_t)data;
		cpu->ctr.io++;
		break;
	case IOLOG_RDMSR:
	case IOLOG_WRMSR:
		x->kind = kind == IOLOG_RDMSR ? VM_EXIT_RDMSR : VM_EXIT_WRMSR;
		x->u.msr.index = (uint32_t)addr;
		x->u.msr.val = data;
		cpu->ctr.msr++;
		break;
	case IOLOG_CR8_W:
	case IOLOG_CR8_R:
		x->kind = kind == IOLOG_CR8_W ? VM_EXIT_CR8 : VM_EXIT_CR8_READ;
		x->u.cr8 = data;
		break;
	}
}

uint64_t
soft_io(struct soft_cpu *cpu, enum io_kind kind, uint64_t addr, unsigned size, uint64_t data, bool *fault)
{
	if (cpu->iolog_pos < cpu->iolog_n) {
		const struct soft_iolog *e = &cpu->iolog[cpu->iolog_pos];
		if (e->kind == kind && e->addr == addr && e->size == size) {
			cpu->iolog_pos++;
			*fault = e->fault;
			return e->data;
		}
		cpu->iolog_n =
		    cpu->iolog_pos; /* another vCPU changed what this instruction reads: go on from here */
	}
	if (cpu->iolog_n == IOLOG_MAX) {
		soft_vec_sync(cpu);
		log_guest("vcpu %u: one instruction with over %u device accesses", cpu->id, IOLOG_MAX);
		*fault = false;
		return ~0ull;
	}
	struct soft_iolog *e = &cpu->iolog[cpu->iolog_n];
	*e = (struct soft_iolog){.kind = (uint8_t)kind, .size = (uint8_t)size, .addr = addr, .data = data};
	exit_fill(cpu, kind, addr, size, data);
	cpu->open_kind = kind;
	cpu->exit_open = true;
	longjmp(cpu->jb, LEAVE_EXIT);
}

/* The caller's answer to the exit goes into the log; the instruction will find it there. */
static void
take_answer(struct soft_cpu *cpu)
{
	const struct vm_exit *x = cpu->exit;
	struct soft_iolog *e = &cpu->iolog[cpu->iolog_n++];
	cpu->exit_open = false;
	switch (cpu->open_kind) {
	case IOLOG_MMIO_R:
		e->data = x->u.mmio.data & size_mask(e->size);
		break;
	case IOLOG_IN:
		e->data = x->u.io.data & size_mask(e->size);
		break;
	case IOLOG_RDMSR:
	case IOLOG_WRMSR:
		e->data = x->u.msr.val;
		e->fault = x->u.msr.fault;
		break;
	case IOLOG_CR8_R:
		e->data = x->u.cr8;
		break;
	default:
		break;
	}
}

/* ---- exceptions in delivery ---- */
static bool
contributory(unsigned vec)
{
	return vec == EXC_DE || (vec >= EXC_TS && vec <= EXC_GP) || vec == EXC_CP;
}

static void
apply_exception_state(struct soft_cpu *cpu)
{
	if (cpu->exc_kind == EXCK_EXT || cpu->exc_kind == EXCK_INT || cpu->exc_kind == EXCK_INT3 ||
	    cpu->exc_kind == EXCK_NMI)
		return;
	if (cpu->exc_vec == EXC_PF)
		cpu->st.cr2 = cpu->exc_cr2;
	if (cpu->exc_vec == EXC_DB) {
		cpu->st.dr[6] = (cpu->st.dr[6] & ~0xfull) | cpu->exc_dr6;
		cpu->st.dr[7] &= ~(1ull << 13);
	}
}

/* Deliver what exc_* says. Leaves by longjmp when that faults itself. */
static void
deliver(struct soft_cpu *cpu)
{
	cpu->in_delivery = 1;
	cpu->cur = NULL;
	cpu->rip = cpu->fault_rip;
	apply_exception_state(cpu);
	soft_deliver(cpu, cpu->deliver_ret);
	cpu->in_delivery = 0;
	cpu->shadow = 0;
	soft_iolog_clear(cpu);
}

static void
begin_delivery(struct soft_cpu *cpu, uint64_t ret)
{
	bool soft_or_ext = cpu->exc_kind != EXCK_FAULT && cpu->exc_kind != EXCK_TRAP;
	cpu->delivering_vec = soft_or_ext ? BENIGN : cpu->exc_vec;
	cpu->deliver_ret = ret;
	if (UNLIKELY(cpu->trace != NULL))
		soft_trace_event(cpu);
	deliver(cpu);
}

/* An exception was raised: by an instruction, or by the delivery of another event (SDM table 6-5).
 * False: triple fault. */
static bool
take_exception(struct soft_cpu *cpu)
{
	cpu->ctr.exceptions++;
	cpu->st.pending_db &= ~DR6_BS; /* the step that MOV SS held back is lost with the exception */
	if (!cpu->in_delivery) {
		if (cpu->cur != NULL)
			soft_uncount(cpu, cpu->cur, cpu->exc_kind != EXCK_FAULT);
		uint64_t rip = cpu->cur != NULL ? soft_insn_rip(cpu, cpu->cur) : cpu->rip;
		cpu->fault_rip = rip;
		begin_delivery(cpu, cpu->exc_kind == EXCK_FAULT ? rip : soft_next_rip(cpu, cpu->cur));
		return true;
	}
	unsigned first = cpu->delivering_vec, second = cpu->exc_vec;
	if (first == EXC_DF && (contributory(second) || second == EXC_PF))
		return false;
	if ((contributory(first) && contributory(second)) ||
	    (first == EXC_PF && (contributory(second) || second == EXC_PF))) {
		if (second == EXC_PF)
			cpu->st.cr2 = cpu->exc_cr2;
		cpu->exc_vec = EXC_DF;
		cpu->exc_has_err = 1;
		cpu->exc_err = 0;
	}
	cpu->exc_kind = EXCK_FAULT;
	begin_delivery(cpu, cpu->fault_rip);
	return true;
}

static void
deliver_event(struct soft_cpu *cpu, unsigned vec, enum soft_exc_kind kind)
{
	cpu->exc_vec = (uint8_t)vec;
	cpu->exc_kind = (uint8_t)kind;
	cpu->exc_has_err = 0;
	cpu->fault_rip = cpu->rip;
	begin_delivery(cpu, cpu->rip);
}

/* ---- between blocks ---- */
static bool
intr_open(const struct soft_cpu *cpu)
{
	return (cpu->rflags & FL_IF) && !cpu->shadow && !cpu->intr_pending && !cpu->in_delivery &&
	       cpu->iolog_n == 0 && cpu->st.pending_db == 0;
}

static bool
must_step(const struct soft_cpu *cpu)
{
	return (cpu->rflags & (FL_TF | FL_RF)) || cpu->shadow || cpu->iolog_n != 0 ||
	       (cpu->st.dr[7] & 0xff) || cpu->step_limited || cpu->trace != NULL;
}

static bool
leave(struct soft_cpu *cpu, enum vm_exit_kind kind)
{
	cpu->exit->kind = kind;
	cpu->exit_open = false;
	return true;
}

/* Events that wait for the end of an instruction. True: run() ends. */
static bool
take_events(struct soft_cpu *cpu)
{
	if (UNLIKELY(cpu->injected.waits)) {
		cpu->injected.waits = 0;
		cpu->halted = false;
		cpu->exc_vec = cpu->injected.vector;
		cpu->exc_kind = EXCK_FAULT;
		cpu->exc_has_err = cpu->injected.has_err;
		cpu->exc_err = cpu->injected.err;
		cpu->exc_cr2 = cpu->st.cr2;
		cpu->exc_dr6 = (uint32_t)cpu->st.dr[6] & 0xf;
		cpu->fault_rip = cpu->rip;
		begin_delivery(cpu, cpu->rip);
	}
	if (cpu->st.pending_db && cpu->shadow != SHADOW_MOVSS) {
		cpu->exc_dr6 = cpu->st.pending_db;
		cpu->st.pending_db = 0;
		cpu->halted = false; /* a trap after HLT wakes */
		deliver_event(cpu, EXC_DB, EXCK_TRAP);
	}
	if (cpu->st.nmi_pending && !cpu->st.nmi_blocked && !cpu->shadow) {
		cpu->st.nmi_pending--;
		cpu->st.nmi_blocked = 1;
		cpu->halted = false;
		deliver_event(cpu, EXC_NMI, EXCK_NMI);
	}
	if (cpu->intr_pending && (cpu->rflags & FL_IF) && !cpu->shadow) {
		cpu->intr_pending = false;
		cpu->halted = false;
		cpu->ctr.interrupts++;
		deliver_event(cpu, cpu->intr_vector, EXCK_EXT);
	}
	if (cpu->want_window && intr_open(cpu)) {
		cpu->want_window = 0;
		return leave(cpu, VM_EXIT_INTR);
	}
	if (cpu->halted)
		return leave(cpu, VM_EXIT_HLT);
	return false;
}

/* True: run() ends. */
static bool
between_blocks(struct soft_cpu *cpu)
{
	uint32_t a = atomic_load(&cpu->attn);
	if (a & ATTN_FLUSH)
		soft_flush_wait(cpu);
	if (cpu->want_flush) {
		cpu->want_flush = 0;
		soft_code_flush(cpu);
	}
	soft_safepoint(cpu);
	if (cpu->in_delivery) { /* an exit came in the middle of it */
		cpu->iolog_pos = 0;
		deliver(cpu);
	}
	if (cpu->iolog_n == 0) { /* else: the instruction that asked a device is finished first */
		if (a & ATTN_KICK) {
			atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_KICK);
			return leave(cpu, VM_EXIT_INTR);
		}
		if (UNLIKELY(cpu->pmu_on)) {
			cpu->cur = NULL;
			soft_pmu_sync(cpu);
		}
		if (UNLIKELY(cpu->pmi)) {
			cpu->pmi = 0;
			return leave(cpu, VM_EXIT_PMI);
		}
		if (take_events(cpu))
			return true;
		if (cpu->step_limited && cpu->step_left == 0)
			return leave(cpu, VM_EXIT_INTR);
	}
	atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_LEAVE);
	if (must_step(cpu))
		soft_attn_set(cpu, ATTN_STEP);
	else
		atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_STEP);
	return false;
}

/* Execution breakpoints: a fault before the instruction, unless RF (SDM vol. 3B 17.3.1.1). */
static void
check_breakpoints(struct soft_cpu *cpu)
{
	uint32_t hit = 0;
	uint64_t la = soft_is64(cpu) ? cpu->rip : (cpu->rip + cpu->st.seg[X86_CS].base) & 0xffffffff;
	for (unsigned n = 0; n < 4; n++) {
		if ((cpu->st.dr[7] >> (2 * n) & 3) && (cpu->st.dr[7] >> (16 + 4 * n) & 15) == 0 &&
		    cpu->st.dr[n] == la)
			hit |= 1u << n;
	}
	if (hit == 0)
		return;
	cpu->cur = NULL;
	cpu->exc_vec = EXC_DB;
	cpu->exc_has_err = 0;
	cpu->exc_kind = EXCK_FAULT;
	cpu->exc_dr6 = hit;
	longjmp(cpu->jb, LEAVE_EXC);
}

void
soft_run_single(struct soft_cpu *cpu)
{
	bool tf = cpu->rflags & FL_TF;
	uint8_t shadow = cpu->shadow;
	if ((cpu->st.dr[7] & 0xff) && !(cpu->rflags & FL_RF) && cpu->iolog_n == 0)
		check_breakpoints(cpu);
	cpu->iolog_pos = 0;
	if (cpu->step_left > 0)
		cpu->step_left--; /* also for one that cannot even be fetched */
	struct soft_block *b = soft_single(cpu);
	cpu->rflags &= ~(uint64_t)FL_RF;
	cpu->shadow = 0;
	cpu->gpr[REG_RIPBASE] = cpu->rip;
	cpu->cur_block = b;
	cpu->icount++;
	cpu->branches += b->branches;
	cpu->single_shadow = shadow;
	cpu->tf_masked = 0;
	const struct soft_insn *i = b->insn;
	cpu->ctr.step[i->mnemonic]++;
	while (i != NULL)
		i = i->fn(cpu, i);
	soft_iolog_clear(cpu);
	cpu->single_shadow = 0;
	if (tf && !cpu->tf_masked)
		cpu->st.pending_db |= DR6_BS;
	cpu->tf_masked = 0;
	if (cpu->shadow == SHADOW_MOVSS && shadow == SHADOW_MOVSS)
		cpu->shadow = 0; /* only the first of two counts (SDM vol. 2, MOV) */
}

static void
run_guest(struct soft_cpu *cpu)
{
	switch (_setjmp(cpu->jb)) {
	case LEAVE_EXIT:
		if (!cpu->in_delivery && cpu->cur != NULL) {
			cpu->rip = soft_insn_rip(cpu, cpu->cur);
			soft_uncount(cpu, cpu->cur, 0);
		}
		cpu->cur = NULL;
		if (cpu->exit_open && cpu->single_shadow)
			cpu->shadow = cpu->single_shadow; /* the instruction will run again */
		cpu->single_shadow = 0;
		return;
	case LEAVE_EXC:
		if (!take_exception(cpu)) {
			cpu->in_delivery = 0;
			leave(cpu, VM_EXIT_SHUTDOWN);
			return;
		}
		break;
	default:
		break;
	}
	cpu->single_shadow = 0;
	for (;;) {
		if (atomic_load_explicit(&cpu->attn, memory_order_relaxed) || cpu->shadow || cpu->halted ||
		    cpu->intr_pending || cpu->want_window || cpu->iolog_n || cpu->st.pending_db ||
		    cpu->st.nmi_pending || cpu->want_flush || cpu->in_delivery) {
			if (between_blocks(cpu))
				return;
			cpu->rep_open = 0;
			if (atomic_load(&cpu->attn) & ATTN_STEP) {
				if (UNLIKELY(cpu->trace != NULL))
					soft_trace_step(cpu);
				if (!cpu->jit_one || !soft_jit_one(cpu))
					soft_run_single(cpu);
				continue;
			}
		}
		cpu->rep_open = 0;
		if (cpu->jit_on && !cpu->pmu_on && soft_jit_run(cpu))
			continue;
		const struct soft_insn *i = soft_goto(cpu, cpu->rip);
		while (i != NULL)
			i = i->fn(cpu, i);
	}
}

static struct soft_cpu *
cpu_of(struct engine_vcpu *v)
{
	return (struct soft_cpu *)(void *)v;
}

static void
soft_run(struct engine_vcpu *v, struct vm_exit *x)
{
	struct soft_cpu *cpu = cpu_of(v);
	cpu->exit = x;
	if (cpu->exit_open)
		take_answer(cpu);
	cpu->tsc_base = vm_clock_tsc_offset(cpu->vm->clock); /* changes only while the clock stands still */
	atomic_store(&cpu->running, 1);
	run_guest(cpu);
	soft_vec_sync(cpu);
	atomic_store(&cpu->running, 0);
}

int
soft_vcpu_step(struct engine_vcpu *v, uint64_t max_insns, struct vm_exit *x)
{
	struct soft_cpu *cpu = cpu_of(v);
	cpu->step_limited = true;
	cpu->step_left = max_insns;
	soft_attn_set(cpu, ATTN_LEAVE);
	soft_run(v, x);
	cpu->step_limited = false;
	soft_attn_set(cpu, ATTN_LEAVE);
	return x->kind == VM_EXIT_INTR && cpu->step_left == 0 ? 0 : 1;
}

int
soft_vcpu_step_translated(struct engine_vcpu *v, uint64_t max_insns, struct vm_exit *x)
{
	struct soft_cpu *cpu = cpu_of(v);
	cpu->jit_one = cpu->jit_on;
	int r = soft_vcpu_step(v, max_insns, x);
	cpu->jit_one = 0;
	return r;
}

bool
soft_vcpu_open(const struct engine_vcpu *v)
{
	const struct soft_cpu *cpu = (const struct soft_cpu *)(const void *)v;
	return cpu->exit_open || cpu->iolog_n != 0 || cpu->in_delivery;
}

uint64_t
soft_vcpu_flushes(const struct engine_vcpu *v)
{
	const struct soft_cpu *cpu = (const struct soft_cpu *)(const void *)v;
	return cpu->ctr.tlb_flush + cpu->ctr.tlb_flush_part;
}

/* ---- engine_ops ---- */
static int
soft_probe_engine(struct err *err)
{
	(void)err;
	return 0;
}

static void
gm_written(void *arg, uint64_t gpa, uint64_t len)
{
	if (soft_dirty_logging(arg))
		soft_dirty_host(arg, gpa, len);
	soft_code_written(arg, NULL, gpa, len);
}

static void
soft_vm_destroy(struct engine_vm *evm)
{
	struct soft_vm *vm = (struct soft_vm *)(void *)evm;
	if (vm == NULL)
		return;
	gpmap_set_watcher(vm->mem, NULL, NULL);
	soft_code_destroy(vm->code);
	soft_stub_pool_destroy(vm->stubs);
	soft_perf_map_destroy(vm->perf_map);
	free(vm->cpus);
	free(vm->dirty);
	free(vm);
}

static struct engine_vm *
soft_vm_create(const struct engine_vm_cfg *cfg, struct err *err)
{
	struct soft_vm *vm = calloc(1, sizeof(*vm));
	uint64_t code_cache = cfg->soft_code_cache != 0 ? cfg->soft_code_cache : CODE_CACHE_BYTES;
	if (vm == NULL) {
		err_set(err, ENOMEM, "soft engine: no memory");
		return NULL;
	}
	vm->mem = cfg->mem;
	vm->clock = cfg->clock;
	vm->maxcpus = cfg->maxcpus;
	vm->verify = cfg->soft_verify;
	vm->profile = cfg->soft_profile;
	vm->strict_msr = cfg->strict_msr;
	vm->pmu = cfg->pmu;
	vm->trace = cfg->trace;
	vm->vmware_backdoors = cfg->vmware_backdoors;
	vm->cpus = calloc(cfg->maxcpus, sizeof(struct soft_cpu *));
	vm->code = soft_code_create(cfg->mem, code_cache, err);
	vm->stubs = vm->code != NULL ? soft_stub_pool_create(err) : NULL;
	if (vm->stubs != NULL && !cfg->soft_interpret && CPU_FEATURE_ACTIVE(BMI2)) {
		vm->code->jit = soft_jit_create(code_cache, err);
		if (vm->code->jit != NULL && cfg->soft_perf_map) {
			vm->perf_map = soft_perf_map_create(cfg->soft_symbols, err);
			if (vm->perf_map != NULL)
				soft_jit_name_routines(vm->code->jit, vm->perf_map);
		}
		if (vm->code->jit == NULL || (vm->perf_map == NULL && cfg->soft_perf_map)) {
			soft_vm_destroy((struct engine_vm *)(void *)vm);
			return NULL;
		}
	}
	if (vm->cpus == NULL || vm->code == NULL || vm->stubs == NULL) {
		if (err->code == 0)
			err_set(err, ENOMEM, "soft engine: no memory");
		soft_vm_destroy((struct engine_vm *)(void *)vm);
		return NULL;
	}
	vm->tsc_is_host = vm_clock_tsc_is_host(cfg->clock);
	gpmap_set_watcher(cfg->mem, gm_written, vm);
	return (struct engine_vm *)(void *)vm;
}

/* What the offered CPUID allows in CR4, EFER and XCR0 (SDM vol. 3A 2.5). */
static void
derive_allowed(struct soft_cpu *cpu)
{
	uint32_t l1[4], l7[4], ld[4], e1[4], e8[4], e21[4];
	x86_cpuid_query(cpu->cpuid, 1, 0, l1);
	x86_cpuid_query(cpu->cpuid, 7, 0, l7);
	x86_cpuid_query(cpu->cpuid, 0xd, 0, ld);
	x86_cpuid_query(cpu->cpuid, 0x80000001, 0, e1);
	x86_cpuid_query(cpu->cpuid, 0x80000008, 0, e8);
	x86_cpuid_query(cpu->cpuid, 0x80000021, 0, e21);
	uint64_t c =
	    CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	const struct {
		uint32_t word, bit;
		uint64_t cr4;
	} map[] = {
	    {l1[3], 1, CR4_VME | CR4_PVI}, {l7[2], 2, CR4_UMIP},   {l7[2], 16, CR4_LA57},
	    {l7[1], 0, CR4_FSGSBASE},	   {l1[2], 17, CR4_PCIDE}, {l1[2], 26, CR4_OSXSAVE},
	    {l7[1], 7, CR4_SMEP},	   {l7[1], 20, CR4_SMAP},  {l7[2], 3, CR4_PKE},
	    {l7[2], 31, CR4_PKS},
	};
	for (unsigned n = 0; n < ARRAY_LEN(map); n++)
		c |= map[n].word >> map[n].bit & 1 ? map[n].cr4 : 0;
	cpu->cr4_allowed = c;
	cpu->efer_allowed = EFER_SCE | (e1[3] >> 29 & 1 ? EFER_LME : 0) | (e1[3] >> 20 & 1 ? EFER_NXE : 0) |
			    (e1[3] >> 25 & 1 ? EFER_FFXSR : 0) | (e21[0] >> 8 & 1 ? EFER_AIBRSE : 0);
	cpu->xcr0_allowed = ld[0] | (uint64_t)ld[3] << 32;
	unsigned phys = e8[0] & 0xff ? e8[0] & 0xff : 36;
	cpu->phys_mask = (1ull << phys) - 1;
}

static void soft_vcpu_destroy(struct engine_vcpu *v);

/* Most of it are tables that a quiet vCPU never touches: pages that are zero because they are fresh. */
struct soft_cpu *
soft_cpu_alloc(void)
{
	void *p =
	    mmap(NULL, sizeof(struct soft_cpu), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED ? p : NULL;
}

void
soft_cpu_free(struct soft_cpu *cpu)
{
	if (cpu != NULL)
		munmap(cpu, sizeof(*cpu));
}

static struct engine_vcpu *
soft_vcpu_create(struct engine_vm *evm, unsigned id, const struct x86_cpuid *cpuid, struct err *err)
{
	struct soft_vm *vm = (struct soft_vm *)(void *)evm;
	struct soft_cpu *cpu;
	if (id >= vm->maxcpus || vm->cpus[id] != NULL) {
		err_set(err, EINVAL, "soft engine: vCPU %u cannot be made (maximum %u)", id, vm->maxcpus);
		return NULL;
	}
	cpu = soft_cpu_alloc();
	if (cpu != NULL)
		cpu->cpuid = malloc(sizeof(*cpuid));
	if (cpu == NULL || cpu->cpuid == NULL) {
		if (cpu != NULL) {
			free(cpu->cpuid);
		}
		soft_cpu_free(cpu);
		err_set(err, ENOMEM, "soft engine: no memory for vCPU %u", id);
		return NULL;
	}
	cpu->vm = vm;
	cpu->id = id;
	*cpu->cpuid = *cpuid;
	cpu->jc_gen = 1;
	cpu->host_mxcsr = 0x1f80;
	cpu->apic_on = 1;
	put_le32(cpu->fximage + 24, 0x1f80);
	derive_allowed(cpu);
	soft_pmu_init(cpu);
	bool second = vm->verify && id != 0;
	if (second)
		err_set(err, EINVAL, "soft.verify: for one virtual CPU only");
	if (second || soft_jit_vcpu_init(cpu, err) != 0 ||
	    (vm->verify && cpu->jit_on && soft_verify_create(cpu, err) != 0)) {
		soft_jit_vcpu_fini(cpu);
		free(cpu->cpuid);
		soft_cpu_free(cpu);
		return NULL;
	}
	for (unsigned n = 0; n < MMU_COUNT; n++)
		cpu->tlb_globals[n] = true; /* so that the first flush empties them */
	vm->cpus[id] = cpu;
	unsigned n = atomic_load(&vm->ncpus);
	atomic_store(&vm->ncpus, MAX(n, id + 1));
	struct x86_state s;
	x86_state_reset(&s);
	engine_soft.set_state((struct engine_vcpu *)(void *)cpu, X86_STATE_ALL, &s, err);
	if (vm->trace.path == NULL || vm->trace.vcpu != id)
		return (struct engine_vcpu *)(void *)cpu;
	cpu->trace = tracer_create(&vm->trace, false, err);
	cpu->jit_one = cpu->jit_on && vm->trace.translated;
	if (cpu->trace != NULL)
		return (struct engine_vcpu *)(void *)cpu;
	soft_vcpu_destroy((struct engine_vcpu *)(void *)cpu);
	return NULL;
}

static void
soft_vcpu_destroy(struct engine_vcpu *v)
{
	struct soft_cpu *cpu = cpu_of(v);
	if (cpu == NULL)
		return;
	soft_trace_close(cpu);
	soft_pmu_fini(cpu);
	cpu->vm->cpus[cpu->id] = NULL;
	for (unsigned n = 0; n < ARRAY_LEN(cpu->single); n++)
		free(cpu->single[n]);
	soft_verify_destroy(cpu);
	soft_jit_vcpu_fini(cpu);
	free(cpu->cpuid);
	soft_cpu_free(cpu);
}

static void
soft_kick(struct engine_vcpu *v)
{
	soft_attn_set(cpu_of(v), ATTN_KICK);
}

static void
soft_inject_nmi(struct engine_vcpu *v)
{
	struct soft_cpu *cpu = cpu_of(v);
	/* One can wait; a second, while the first has not begun. */
	if (cpu->st.nmi_pending < (cpu->st.nmi_blocked ? 1 : 2))
		cpu->st.nmi_pending++;
	soft_attn_set(cpu, ATTN_LEAVE);
}

static bool
soft_intr_ready(struct engine_vcpu *v, bool want_window)
{
	struct soft_cpu *cpu = cpu_of(v);
	bool ready = intr_open(cpu) && !cpu->exit_open;
	cpu->want_window = !ready && want_window;
	return ready;
}

static void
soft_inject_intr(struct engine_vcpu *v, uint8_t vector)
{
	struct soft_cpu *cpu = cpu_of(v);
	cpu->intr_vector = vector;
	cpu->intr_pending = true;
	cpu->want_window = 0;
}

static void
soft_inject_exception(struct engine_vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	struct soft_cpu *cpu = cpu_of(v);
	cpu->injected.vector = vector;
	cpu->injected.has_err = has_error;
	cpu->injected.err = error;
	cpu->injected.waits = 1;
	soft_attn_set(cpu, ATTN_LEAVE);
}

static void
soft_get_state(struct engine_vcpu *v, unsigned mask, struct x86_state *s)
{
	struct soft_cpu *cpu = cpu_of(v);
	struct x86_state *c = &cpu->st;
	cpu->cur = NULL;
	soft_pmu_sync(cpu);
	memcpy(c->gpr, cpu->gpr, sizeof(c->gpr));
	c->rip = cpu->rip;
	c->rflags = soft_rflags(cpu);
	c->shadow = cpu->shadow;
	c->activity = cpu->halted ? ACT_HALTED : ACT_RUNNING;
	c->intr_pending = cpu->intr_pending;
	c->intr_vector = cpu->intr_pending ? cpu->intr_vector : 0;
	memcpy(c->xs.fx, cpu->fximage, sizeof(c->xs.fx));
	x86_state_copy(s, c, mask);
}

static unsigned
cpl_of(const struct x86_state *s)
{
	if (!(s->cr0 & CR0_PE))
		return 0;
	if (s->rflags & FL_VM)
		return 3;
	return (s->seg[X86_SS].attr & SEG_DPL) >> SEG_DPL_SHIFT;
}

static int
soft_set_state(struct engine_vcpu *v, unsigned mask, const struct x86_state *s, struct err *err)
{
	struct soft_cpu *cpu = cpu_of(v);
	struct x86_state *c = &cpu->st;
	(void)err;
	cpu->cur = NULL;
	soft_pmu_sync(cpu);
	c->rflags = soft_rflags(cpu);
	c->rip = cpu->rip;
	memcpy(c->gpr, cpu->gpr, sizeof(c->gpr));
	c->shadow = cpu->shadow;
	c->activity = cpu->halted ? ACT_HALTED : ACT_RUNNING;
	memcpy(c->xs.fx, cpu->fximage, sizeof(c->xs.fx));
	x86_state_copy(c, s, mask);

	memcpy(cpu->gpr, c->gpr, sizeof(c->gpr));
	cpu->gpr[REG_NONE] = 0;
	cpu->rip = c->rip;
	cpu->shadow = c->shadow;
	cpu->halted = c->activity == ACT_HALTED;
	cpu->tsc_offset = c->msr.tsc_adjust; /* all changes of the TSC are in it */
	memcpy(cpu->fximage, c->xs.fx, sizeof(c->xs.fx));
	put_le32(cpu->fximage + 24, 0x1f80);
	if (mask & X86_STATE_EVENT) {
		cpu->intr_pending = c->intr_pending;
		cpu->intr_vector = c->intr_vector;
		cpu->injected.waits = 0;
		cpu->in_delivery = 0;
		cpu->exit_open = false;
		soft_iolog_clear(cpu);
	}
	cpu->rflags = 0;
	soft_set_rflags(cpu, c->rflags);
	soft_pmu_changed(cpu);
	soft_set_cpl(cpu, cpl_of(c));
	soft_update_mode(cpu);
	if (mask & (X86_STATE_CR | X86_STATE_MSR)) /* what translations depend on */
		soft_tlb_flush(cpu);
	soft_attn_set(cpu, ATTN_LEAVE);
	return 0;
}

static void
soft_stats(struct engine_vcpu *v, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct soft_cpu *cpu = cpu_of(v);
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
	    {"instructions", cpu->icount},
	    {"blocks decoded", cpu->ctr.blocks_decoded},
	    {"instructions decoded", cpu->ctr.insns_decoded},
	    {"block lookups", cpu->ctr.block_lookup},
	    {"TLB misses", cpu->ctr.tlb_miss},
	    {"TLB flushes", cpu->ctr.tlb_flush},
	    {"units translated", cpu->ctr.jit_units},
	    {"instructions translated", cpu->ctr.jit_insns},
	    {"of these by the interpreter", cpu->ctr.jit_interp_made},
	    {"unit lookups", cpu->ctr.jit_lookup},
	    {"exits chained", cpu->ctr.jit_chain},
	    {"calls of the interpreter", cpu->ctr.jit_interp},
	    {"single steps from units", cpu->ctr.jit_step},
	    {"translation, us", cpu->ctr.jit_ns / 1000},
	    {"page walks", cpu->ctr.walks},
	    {"units verified", cpu->ctr.jit_verified},
	    {"slow accesses from units", cpu->ctr.jit_slow},
	    {"writes to code", cpu->ctr.smc},
	    {"stub calls", cpu->ctr.stub_calls},
	    {"exceptions", cpu->ctr.exceptions},
	    {"interrupts", cpu->ctr.interrupts},
	    {"port exits", cpu->ctr.io},
	    {"MMIO exits", cpu->ctr.mmio},
	    {"MSR exits", cpu->ctr.msr},
	    {"halts", cpu->ctr.hlt},
	    /* the VM's, not this vCPU's */
	    {"bytes of translated code", cpu->id == 0 ? soft_jit_bytes(cpu->vm->code->jit) : 0},
	    {"bytes beside it", cpu->id == 0 ? soft_arena_used(cpu->vm->code) : 0},
	    {"generations of code forgotten", cpu->id == 0 ? cpu->vm->code->evictions : 0},
	};
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++)
		fn(arg, rows[n].name, rows[n].value);
	soft_profile_stats(cpu, fn, arg);
}

const struct engine_ops engine_soft = {
    .name = "soft",
    .probe = soft_probe_engine,
    .vm_create = soft_vm_create,
    .vm_destroy = soft_vm_destroy,
    .cpuid_filter = soft_cpuid_filter,
    .cpuid_add = soft_cpuid_add,
    .vcpu_create = soft_vcpu_create,
    .vcpu_destroy = soft_vcpu_destroy,
    .run = soft_run,
    .kick = soft_kick,
    .get_state = soft_get_state,
    .set_state = soft_set_state,
    .intr_ready = soft_intr_ready,
    .inject_intr = soft_inject_intr,
    .inject_nmi = soft_inject_nmi,
    .inject_exception = soft_inject_exception,
    .dirty_start = soft_dirty_start,
    .dirty_fetch = soft_dirty_fetch,
    .dirty_stop = soft_dirty_stop,
    .stats = soft_stats,
};
