/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vCPU's side of translated code: entering it, what it calls, traps in it.
 *
 * Vector registers and MXCSR stay in the host's registers while the vCPU's thread is in this engine, so what
 * is reached from here is compiled without vector instructions; soft_vec_sync() comes before all that is not.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "engine/soft/jit_int.h"
#include "engine/soft/ops.h"
#include "engine/soft/stub.h"

#define GUARD	    4096u
#define STACK_PITCH (JIT_STACK_BYTES + GUARD)
#define ALT_BYTES   (64 * KIB)
#define SENTINELS   16

static __thread struct soft_cpu *tls_cpu; /* whose GS base and alternate stack this thread has */

/* ---- the return stacks ---- */
static uint8_t *
stack_top(const struct soft_cpu *cpu, unsigned mmu)
{
	return cpu->jit_stacks + GUARD + mmu * STACK_PITCH + JIT_STACK_BYTES - SENTINELS * 8;
}

int
soft_jit_vcpu_init(struct soft_cpu *cpu, struct err *err)
{
	size_t bytes = GUARD + MMU_COUNT * STACK_PITCH + ALT_BYTES;
	struct jit *j = cpu->vm->code->jit;
	cpu->jit_on = j != NULL;
	if (j == NULL)
		return 0;
	cpu->self = cpu;
	cpu->fpu_out = 1;
	cpu->fximage[512] = 1;
	cpu->jit_stacks = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (cpu->jit_stacks == MAP_FAILED) {
		cpu->jit_stacks = NULL;
		return err_set(err, errno, "soft engine: no memory for vCPU %u", cpu->id);
	}
	for (unsigned m = 0; m <= MMU_COUNT; m++) {
		uint8_t *at = cpu->jit_stacks + GUARD + m * STACK_PITCH;
		if (mprotect(at, m < MMU_COUNT ? JIT_STACK_BYTES : ALT_BYTES, PROT_READ | PROT_WRITE) != 0)
			return err_set(err, errno, "soft engine: no memory for vCPU %u", cpu->id);
		for (unsigned n = 0; n < SENTINELS && m < MMU_COUNT; n++)
			put_le64(stack_top(cpu, m) + 8 * n, (uintptr_t)jit_rx(j, j->c.underflow));
		if (m < MMU_COUNT)
			cpu->jit_stack_sp[m] = stack_top(cpu, m);
		if (m < MMU_COUNT) {
			cpu->jit_nused[m] = JIT_JC_USED + 1;
			cpu->jit_page_nused[m] = JIT_PAGES_USED + 1;
		}
	}
	cpu->jit_sp = cpu->jit_sp_top = stack_top(cpu, 0);
	return 0;
}

void
soft_jit_vcpu_fini(struct soft_cpu *cpu)
{
	if (tls_cpu == cpu) { /* this thread's alternate stack is about to go */
		stack_t none = {.ss_flags = SS_DISABLE};
		sigaltstack(&none, NULL);
		tls_cpu = NULL;
	}
	if (cpu->jit_stacks != NULL)
		munmap(cpu->jit_stacks, GUARD + MMU_COUNT * STACK_PITCH + ALT_BYTES);
}

static void
take_thread(struct soft_cpu *cpu)
{
	stack_t alt = {.ss_sp = cpu->jit_stacks + GUARD + MMU_COUNT * STACK_PITCH, .ss_size = ALT_BYTES};
	syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
	sigaltstack(&alt, NULL);
	tls_cpu = cpu;
}

/* ---- modes ---- */

/* The mode of units for the vCPU as it stands. 0: not translated. */
static uint32_t
mode_now(const struct soft_cpu *cpu)
{
	uint32_t m = cpu->mode;
	uint64_t cr0 = cpu->st.cr0, cr4 = cpu->st.cr4;
	if (cpu->ac_on || (m & (MODE_REAL | MODE_VM86)))
		return 0;
	if ((m & MODE_CS) != MODE_64 &&
	    (m & (MODE_CS | MODE_SS32 | MODE_FLAT)) != (MODE_32 | MODE_SS32 | MODE_FLAT))
		return 0;
	m |= (uint32_t)(cpu->dtlb - cpu->tlb) << JMODE_MMU_SHIFT;
	if (cpu->vm->tsc_is_host && (cpu->cpl == 0 || !(cr4 & CR4_TSD)))
		m |= JMODE_TSC;
	if (cr4 & CR4_LA57)
		m |= JMODE_LA57;
	if (!(cr0 & (CR0_EM | CR0_TS))) {
		m |= JMODE_X87;
		if (cr4 & CR4_OSFXSR)
			m |= JMODE_SSE;
		if ((cr4 & CR4_OSXSAVE) && (cpu->st.xcr0 & 6) == 6)
			m |= JMODE_AVX;
	}
	return m;
}

static void
empty_entry(struct soft_cpu *cpu, unsigned m, unsigned n)
{
	cpu->jit_jc[m][n].rip = JIT_JC_NONE;
	cpu->jit_jc[m][n].unit = &cpu->vm->code->jit->nowhere;
	cpu->jit_jc[m][n].entry = cpu->vm->code->jit->nowhere.entry;
}

static void
empty_table(struct soft_cpu *cpu, unsigned m)
{
	if (cpu->jit_nused[m] <= JIT_JC_USED) {
		for (unsigned k = 0; k < cpu->jit_nused[m]; k++)
			empty_entry(cpu, m, cpu->jit_used[m][k]);
	} else {
		for (unsigned n = 0; n < JIT_JC_SIZE; n++)
			empty_entry(cpu, m, n);
	}
	cpu->jit_nused[m] = 0;
	if (cpu->jit_page_nused[m] <= JIT_PAGES_USED) {
		for (unsigned k = 0; k < cpu->jit_page_nused[m]; k++)
			cpu->jit_page_at[m][cpu->jit_page_used[m][k]] = JIT_PAGE_NONE;
	} else {
		for (unsigned n = 0; n < JIT_PAGES; n++)
			cpu->jit_page_at[m][n] = JIT_PAGE_NONE;
	}
	cpu->jit_page_nused[m] = 0;
}

/* Make the table and the return stack those of `mode`. */
static void
take_mode(struct soft_cpu *cpu, uint32_t mode)
{
	unsigned m = mode >> JMODE_MMU_SHIFT & 3;
	if (cpu->jit_mmu != m) {
		cpu->jit_stack_sp[cpu->jit_mmu] = cpu->jit_sp;
		cpu->jit_sp = cpu->jit_stack_sp[m];
		cpu->jit_sp_top = stack_top(cpu, m);
		cpu->jit_mmu = m;
	}
	if (cpu->jit_mode[m] == mode && cpu->jit_gen[m] == cpu->jc_gen &&
	    (cpu->jit_gen_local[m] == cpu->jc_gen_local || !cpu->jit_local[m]))
		return;
	cpu->jit_mode[m] = mode;
	cpu->jit_gen[m] = cpu->jc_gen;
	cpu->jit_gen_local[m] = cpu->jc_gen_local;
	cpu->jit_local[m] = false;
	cpu->jit_sp = cpu->jit_sp_top;
	empty_table(cpu, m);
}

/* ---- finding ---- */
static struct jit_jc *
jc_slot(struct soft_cpu *cpu, uint64_t rip)
{
	return &cpu->jit_jc[cpu->jit_mmu][JIT_JC_INDEX(rip)];
}

/*
 * An indirect branch or return to an address that is not canonical faults as the branch itself, not begun.
 * Takes back what it did to the stack pointer. True: cpu->rip is the branch, to be done by the interpreter.
 */
static bool
undo_branch(struct soft_cpu *cpu)
{
	uint64_t rip = cpu->jit_pagebase + (cpu->jit_br & 0xfff), gpa;
	if (!soft_is64(cpu) || soft_canonical(cpu, cpu->rip) || (cpu->jit_br & BR_NONE))
		return false;
	const uint8_t *p = soft_fetch_ptr(cpu, rip, &gpa);
	unsigned pop = 8;
	if (cpu->jit_br & BR_RET) {
		while (p != NULL && *p != 0xc2 && *p != 0xc3) /* prefixes */
			p++;
		if (p != NULL && *p == 0xc2)
			pop += get_le16(p + 1);
		cpu->gpr[X86_RSP] -= pop;
	} else if (cpu->jit_br & BR_CALL) {
		cpu->gpr[X86_RSP] += 8;
	}
	cpu->rip = rip;
	return true;
}

/* JX_CHAIN: the exit that was taken; cpu->rip is set. False: its target is not canonical, cpu->rip is the
 * branch. */
static bool
take_exit(struct soft_cpu *cpu)
{
	const struct jit_exit *x = cpu->jit_exit;
	cpu->rip = cpu->jit_pagebase + (uint64_t)x->target;
	if (x->page == NULL)
		return true;
	cpu->rip &= cpu->ip_mask;
	cpu->jit_br = x->br;
	return !undo_branch(cpu);
}

/* Note in the vCPU's table that u is what runs at la. */
static void
jc_enter(struct soft_cpu *cpu, struct jit_jc *s, uint64_t la, struct jit_unit *u)
{
	unsigned *n = &cpu->jit_nused[cpu->jit_mmu];
	if (s->rip == JIT_JC_NONE && *n < JIT_JC_USED)
		cpu->jit_used[cpu->jit_mmu][(*n)++] = (uint16_t)(s - cpu->jit_jc[cpu->jit_mmu]);
	else if (s->rip == JIT_JC_NONE)
		*n = JIT_JC_USED + 1;
	*s = (struct jit_jc){.rip = la, .unit = u, .entry = u->entry, .pagebase = la & PAGE_MASK4};
}

/* Note that page of code `number` is at linear address `page`. */
static void
page_enter(struct soft_cpu *cpu, uint32_t number, uint64_t page)
{
	unsigned m = cpu->jit_mmu, *n = &cpu->jit_page_nused[m];
	uint64_t *at = &cpu->jit_page_at[m][number];
	if (number == 0 || *at == page)
		return;
	if (*at == JIT_PAGE_NONE && *n < JIT_PAGES_USED)
		cpu->jit_page_used[m][(*n)++] = (uint16_t)number;
	else if (*at == JIT_PAGE_NONE)
		*n = JIT_PAGES_USED + 1;
	*at = page;
}

/* The unit at cpu->rip, of a mode and variant. NULL: the interpreter must do the instruction there. Raises
 * fetch faults. */
static struct jit_unit *
find_unit(struct soft_cpu *cpu, uint32_t mode)
{
	struct jit_jc *s = jc_slot(cpu, cpu->rip);
	struct jit *j = cpu->vm->code->jit;
	uint64_t la = cpu->rip, gpa;
	bool in_table = (mode & (JMODE_ONE | JMODE_VERIFY | JMODE_VARIANT)) ==
			0; /* what lookups from translated code want */
	cpu->jit_pagebase = la & PAGE_MASK4;
	if (in_table && s->rip == la && s->unit->valid)
		return s->unit;
	cpu->ctr.jit_lookup++;
	cpu->cur = NULL;
	const uint8_t *hva = soft_fetch_ptr(cpu, la, &gpa);
	if (hva == NULL)
		return NULL;
	struct jit_unit *u = soft_jit_find(j, gpa, mode);
	if (u == NULL && !(mode & JMODE_ONE) && soft_code_cold(cpu, gpa))
		return NULL;
	if (u == NULL)
		u = soft_jit_translate(cpu, gpa, hva, mode);
	if (u == NULL)
		return NULL;
	cpu->jit_local[cpu->jit_mmu] |= !soft_fetch_global(cpu, la);
	page_enter(cpu, u->page_number, la & PAGE_MASK4);
	if (in_table)
		jc_enter(cpu, s, la, u);
	return u;
}

static void
chain(struct soft_cpu *cpu, struct jit_exit *x, struct jit_unit *to)
{
	struct soft_code *c = cpu->vm->code;
	soft_code_lock(c, cpu);
	if ((x->page != NULL || (to->gpa & PAGE_MASK4) == (x->from->gpa & PAGE_MASK4)) &&
	    to->mode == x->mode) {
		jit_chain(c, x, to);
		cpu->ctr.jit_chain++;
	}
	pthread_mutex_unlock(&c->lock);
}

/* This thread, the tables and what units read from the vCPU, for running units of `mode`. */
static void
prepare(struct soft_cpu *cpu, uint32_t mode)
{
	if (UNLIKELY(tls_cpu != cpu))
		take_thread(cpu);
	take_mode(cpu, mode);
	cpu->jit_tsc = cpu->tsc_base + cpu->tsc_offset;
	atomic_store(&cpu->go, 1);
}

/* Run translated code from u on. Returns enum jit_reason. */
static unsigned
enter(struct soft_cpu *cpu, const struct jit_unit *u)
{
	const struct jit *j = cpu->vm->code->jit;
	unsigned (*fn)(struct soft_cpu *, const uint8_t *) =
	    (unsigned (*)(struct soft_cpu *, const uint8_t *))(uintptr_t)jit_rx(j, j->c.enter);
	return fn(cpu, u->entry);
}

/* One unit, which leaves where it ends; cpu->rip is set. */
static void
run_unit(struct soft_cpu *cpu, const struct jit_unit *u)
{
	cpu->jit_variant = 0;
	switch (enter(cpu, u)) {
	case JX_LOOKUP:
		undo_branch(cpu);
		break;
	case JX_CHAIN:
		if (take_exit(cpu))
			cpu->jit_variant = cpu->jit_exit->mode & JMODE_VARIANT;
		break;
	default:
		break;
	}
}

/* soft_jit_run() under soft.verify: a unit and its repetition, or one instruction where there is none. */
static void
run_verified(struct soft_cpu *cpu, uint32_t mode)
{
	uint64_t begin = cpu->rip;
	prepare(cpu, mode);
	if (atomic_load(&cpu->attn) != 0) {
		atomic_store(&cpu->go, 0);
		return;
	}
	struct jit_unit *u = find_unit(cpu, mode | cpu->jit_variant);
	cpu->jit_variant = 0;
	if (u != NULL)
		soft_verify_unit(cpu, u, run_unit);
	if (u != NULL && cpu->rip != begin)
		return;
	cpu->ctr.jit_step++;
	soft_attn_set(cpu, ATTN_STEP);
	soft_run_single(cpu);
	atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_STEP);
}

bool
soft_jit_run(struct soft_cpu *cpu)
{
	uint32_t mode = mode_now(cpu);
	struct jit_exit *exit = NULL;
	if (mode == 0)
		return false;
	if (UNLIKELY(cpu->verify != NULL)) {
		run_verified(cpu, mode | JMODE_VERIFY);
		return true;
	}
	prepare(cpu, mode);
	for (;;) {
		if (atomic_load(&cpu->attn) != 0) {
			atomic_store(&cpu->go, 0);
			return true;
		}
		struct jit_unit *u = find_unit(cpu, exit != NULL ? exit->mode : mode);
		if (u == NULL)
			break;
		if (exit != NULL)
			chain(cpu, exit, u);
		exit = NULL;
		switch (enter(cpu, u)) {
		case JX_LOOKUP:
			cpu->ctr.jit_left++;
			if (undo_branch(cpu))
				goto step;
			break;
		case JX_CHAIN:
			cpu->ctr.jit_left++;
			if (!take_exit(cpu))
				goto step;
			exit = cpu->jit_exit->from->valid ? cpu->jit_exit : NULL;
			break;
		case JX_STEP:
			goto step;
		default:
			return true;
		}
	}
step:
	cpu->ctr.jit_step++;
	soft_attn_set(cpu, ATTN_STEP);
	soft_run_single(cpu);
	atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_STEP);
	return true;
}

bool
soft_jit_one(struct soft_cpu *cpu)
{
	uint32_t mode = mode_now(cpu);
	if (mode == 0 || (cpu->rflags & (FL_TF | FL_RF)) || cpu->shadow || cpu->iolog_n != 0 ||
	    (cpu->st.dr[7] & 0xff))
		return false;
	prepare(cpu, mode | JMODE_ONE);
	mode |= JMODE_ONE | (cpu->ctr.jit_lookup & 1 ? JMODE_EFLAGS : 0); /* both variants in turn */
	struct jit_unit *u = find_unit(cpu, mode);
	if (u == NULL)
		return false;
	cpu->step_left--;
	switch (enter(cpu, u)) {
	case JX_LOOKUP:
		if (undo_branch(cpu)) {
			cpu->step_left++;
			return false;
		}
		break;
	case JX_CHAIN:
		if (!take_exit(cpu)) {
			cpu->step_left++;
			return false;
		}
		break;
	case JX_STEP:
		cpu->step_left++;
		return false;
	default:
		break;
	}
	return true;
}

/* ---- called by generated code ---- */
const struct soft_insn *
op_jit_resume(struct soft_cpu *cpu, const struct soft_insn *i)
{
	(void)cpu;
	return i;
}

/* One instruction by the interpreter. False: leave, cpu->rip is set. */
bool
soft_jit_interp(struct soft_cpu *cpu, const struct soft_insn *i)
{
	const struct soft_insn *r, *behind = i + 1;
	bool closed = (cpu->rflags & FL_IF) == 0;
	cpu->gpr[REG_RIPBASE] = cpu->jit_pagebase;
	r = i->fn(cpu, i);
	while (r != NULL && r != behind)
		r = r->fn(cpu, r);
	cpu->ctr.jit_interp++;
	cpu->ctr.helper[i->mnemonic]++;
	if (r == NULL)
		return false;
	cpu->rip = (cpu->jit_pagebase + behind->off) & cpu->ip_mask;
	const struct jit_unit *u = behind->aux.p;
	if (u->valid && atomic_load_explicit(&cpu->attn, memory_order_relaxed) == 0 && cpu->shadow == 0 &&
	    mode_now(cpu) == (u->mode & ~JMODE_VARIANT) && cpu->jc_gen == cpu->jit_gen[cpu->jit_mmu])
		return true;
	/* Somebody came after op_sti() looked: it is left between STI and what STI still shields. */
	if (closed && i->fn == op_sti && (cpu->rflags & FL_IF))
		cpu->shadow = SHADOW_STI;
	return false;
}

/* Make an access possible. False: the interpreter must do the instruction, cpu->rip is set. */
bool
soft_jit_slow(struct soft_cpu *cpu, uint64_t la, uint32_t what)
{
	uint32_t protected = cpu->wprotects;
	cpu->ctr.jit_slow++;
	if (soft_tlb_fill(cpu, la, what & SLOW_SIZE, what & SLOW_WRITE, &cpu->jit_addend) &&
	    cpu->wprotects == protected) { /* else what a group may write has changed */
		cpu->jit_la = la;
		return true;
	}
	cpu->rip = cpu->jit_pagebase + (what >> SLOW_OFF_SHIFT);
	return false;
}

/* Make a group's range accessible, by no more than the access that begins it does. False: it cannot be. */
bool
soft_jit_group(struct soft_cpu *cpu, uint64_t la, uint32_t what)
{
	uint32_t protected = cpu->wprotects;
	cpu->ctr.jit_slow++;
	if (!soft_tlb_fill(cpu, la, what & SLOW_SIZE, false, &cpu->jit_addend) || cpu->wprotects != protected)
		return false;
	return !(what & SLOW_WRITE) || TLB_HIT(cpu->dtlb->e[TLB_INDEX(la)].nw, la);
}

void
soft_vec_sync(struct soft_cpu *cpu)
{
	struct jit *j = cpu->vm->code->jit;
	if (!cpu->vec_live)
		return;
	void (*save)(struct soft_cpu *) = (void (*)(struct soft_cpu *))(uintptr_t)jit_rx(j, j->c.vec_save);
	save(cpu);
	cpu->vec_live = 0;
}

/* ---- traps ---- */
bool
soft_jit_signal(void *ucontext, void *fault_addr)
{
	static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					    REG_RSI, REG_RDI, REG_R8,  REG_R9,	REG_R10, REG_R11,
					    REG_R12, REG_R13, REG_R14, REG_R15};
	ucontext_t *uc = ucontext;
	greg_t *g = uc->uc_mcontext.gregs;
	const uint8_t *pc = (const uint8_t *)(uintptr_t)g[REG_RIP];
	struct soft_cpu *cpu = tls_cpu;
	if (cpu == NULL || !soft_jit_contains(cpu->vm->code->jit, pc))
		return false;
	struct jit *j = cpu->vm->code->jit;
	const uint8_t *low = stack_top(cpu, cpu->jit_mmu) + SENTINELS * 8 - JIT_STACK_BYTES;
	if ((const uint8_t *)fault_addr < low && (const uint8_t *)fault_addr >= low - GUARD) {
		g[REG_RSP] = (greg_t)(uintptr_t)cpu->jit_sp_top; /* calls without end: forget the oldest */
		return true;
	}
	struct jit_unit *u = soft_jit_unit_of(cpu->vm->code, pc);
	for (unsigned n = 0; u != NULL && n < u->nfault; n++) {
		if (u->fault[n].host != (uint32_t)(pc - j->rx))
			continue;
		for (unsigned r = 0; r < 16; r++) {
			if (jit_host[r] != EM_NONE)
				cpu->gpr[r] = (uint64_t)g[greg_of[jit_host[r]]];
		}
		cpu->fl = u->fault[n].ax ? (uint16_t)g[REG_RAX] : soft_eflags_to_fl((uint64_t)g[REG_EFL]);
		cpu->rip = cpu->jit_pagebase + u->fault[n].off;
		g[REG_RIP] = (greg_t)(uintptr_t)jit_rx(j, j->c.fault);
		return true;
	}
	return false;
}
