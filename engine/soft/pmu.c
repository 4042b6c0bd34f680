/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AMD's four legacy performance counters (APM vol. 2 13.2), which no CPUID bit announces, and
 * VMware's backdoors: pseudo counters of RDPMC, and the call through a port. Both are off unless
 * the configuration asks (x86.pmu, x86.vmware_backdoors).
 *
 * The engine counts instructions and branches anyway, by whole blocks; a counter is brought up to
 * date when somebody looks, and when the privilege level changes, since a counter may count in
 * one only. The machine that they measure takes one cycle an instruction and guesses every branch.
 * While a counter is to interrupt, a timer makes the vCPU look for an overflow every millisecond.
 */
#include "base/vmclock.h"
#include "engine/soft/cpu.h"
#include "engine/soft/jit.h"

enum { COUNTERS = 4, WIDTH = 48, TICK_NS = 1000000 };

/* PERF_CTL: 7:0 and 35:32 event, 15:8 unit mask, then these */
#define CTL_USER     (1ull << 16)
#define CTL_OS	     (1ull << 17)
#define CTL_INTR     (1ull << 20)
#define CTL_ENABLE   (1ull << 22)
#define CTL_INVERT   (1ull << 23)
#define CTL_CMASK(c) ((unsigned)((c) >> 24 & 0xff))
#define CTL_EVENT(c) ((unsigned)(((c)&0xff) | ((c) >> 24 & 0xf00)))
#define CTL_RESERVED 0xfffffff000280000ull

enum { EV_CYCLES = 0x76, EV_INSTRUCTIONS = 0xc0, EV_BRANCHES = 0xc2 };

enum { VMWARE_TSC = 0x10000, VMWARE_REAL_TIME, VMWARE_APPARENT_TIME };
enum { VMWARE_PORT = 0x5658, VMWARE_MAGIC = 0x564d5868, VMWARE_GET_VERSION = 10 };

static bool
has_counters(const struct soft_cpu *cpu)
{
	return cpu->vm->pmu && x86_cpuid_is_amd(cpu->cpuid);
}

/* What a counter gains in `cycles` cycles with so many branches. No event comes twice in a cycle. */
static uint64_t
gain(uint64_t ctl, uint64_t cycles, uint64_t branches)
{
	unsigned event = CTL_EVENT(ctl), cmask = CTL_CMASK(ctl);
	uint64_t n = event == EV_CYCLES || event == EV_INSTRUCTIONS ? cycles
		     : event == EV_BRANCHES			    ? branches
								    : 0;

	if (cmask == 0)
		return n;
	if (cmask > 1)
		n = 0;
	return ctl & CTL_INVERT ? cycles - n : n;
}

void
soft_pmu_sync(struct soft_cpu *cpu)
{
	uint64_t icount = cpu->icount, branches = cpu->branches;
	uint64_t ring = cpu->cpl == 3 ? CTL_USER : CTL_OS;
	const struct soft_block *b = cpu->cur_block;

	if (cpu->cur != NULL && b != NULL && cpu->cur >= b->insn && cpu->cur < b->insn + b->count) {
		icount -= b->count - (uint64_t)(cpu->cur - b->insn);
		branches -= b->branches;
	}
	for (unsigned n = 0; n < COUNTERS && cpu->pmu_on; n++) {
		uint64_t ctl = cpu->st.msr.perf_ctl[n], *ctr = &cpu->st.msr.perf_ctr[n];

		if ((ctl & CTL_ENABLE) && (ctl & ring)) {
			uint64_t old = *ctr;
			*ctr = (*ctr + gain(ctl, icount - cpu->pmu_icount, branches - cpu->pmu_branches)) &
			       (BIT(WIDTH) - 1);
			cpu->pmi |= (ctl & CTL_INTR) && *ctr < old;
		}
	}
	cpu->pmu_icount = icount;
	cpu->pmu_branches = branches;
}

static void
tick(void *arg)
{
	struct soft_cpu *cpu = arg;

	if (!atomic_load(&cpu->pmu_ticks))
		return;
	soft_attn_set(cpu, ATTN_LEAVE);
	vm_timer_set(&cpu->pmu_timer, vm_clock_now_ns(cpu->vm->clock) + TICK_NS);
}

void
soft_pmu_init(struct soft_cpu *cpu)
{
	if (cpu->vm->pmu)
		vm_timer_init(&cpu->pmu_timer, cpu->vm->clock, tick, cpu);
}

void
soft_pmu_fini(struct soft_cpu *cpu)
{
	atomic_store(&cpu->pmu_ticks, false);
	if (cpu->vm->pmu)
		vm_timer_cancel_sync(&cpu->pmu_timer);
}

void
soft_pmu_changed(struct soft_cpu *cpu)
{
	bool ticks = false;

	cpu->pmu_on = 0;
	for (unsigned n = 0; n < COUNTERS && has_counters(cpu); n++) {
		uint64_t ctl = cpu->st.msr.perf_ctl[n];

		cpu->pmu_on |= (ctl & CTL_ENABLE) != 0;
		ticks |= (ctl & CTL_ENABLE) && (ctl & CTL_INTR);
	}
	if (ticks != atomic_load(&cpu->pmu_ticks)) {
		atomic_store(&cpu->pmu_ticks, ticks);
		soft_vec_sync(cpu);
		if (ticks)
			vm_timer_set(&cpu->pmu_timer, vm_clock_now_ns(cpu->vm->clock) + TICK_NS);
	}
	soft_attn_set(cpu, ATTN_LEAVE); /* out of translated code, which does not count */
}

uint64_t
soft_pmu_rdmsr(struct soft_cpu *cpu, unsigned n)
{
	if (!has_counters(cpu))
		return 0;
	soft_pmu_sync(cpu);
	return n < COUNTERS ? cpu->st.msr.perf_ctl[n] : cpu->st.msr.perf_ctr[n - COUNTERS];
}

void
soft_pmu_wrmsr(struct soft_cpu *cpu, unsigned n, uint64_t v)
{
	if (!has_counters(cpu))
		return;
	soft_pmu_sync(cpu);
	if (n >= COUNTERS) {
		cpu->st.msr.perf_ctr[n - COUNTERS] = v & (BIT(WIDTH) - 1);
		return;
	}
	if (v & CTL_RESERVED)
		soft_gp(cpu, 0);
	cpu->st.msr.perf_ctl[n] = v;
	soft_pmu_changed(cpu);
}

static uint64_t
vmware_counter(struct soft_cpu *cpu, uint32_t index)
{
	switch (index) {
	case VMWARE_TSC:
		return __builtin_ia32_rdtsc();
	default: /* real and apparent time, in ns: the VM's clock never lags */
		return vm_clock_now_ns(cpu->vm->clock);
	}
}

/* Without counters, the architecture's legacy indexes read 0. */
uint64_t
soft_rdpmc(struct soft_cpu *cpu, uint32_t index)
{
	if (cpu->vm->vmware_backdoors && index >= VMWARE_TSC && index <= VMWARE_APPARENT_TIME)
		return vmware_counter(cpu, index);
	if ((cpu->cpl != 0 && !(cpu->st.cr4 & CR4_PCE)) || index >= COUNTERS)
		soft_gp(cpu, 0);
	return soft_pmu_rdmsr(cpu, COUNTERS + index);
}

bool
soft_vmware_port(const struct soft_cpu *cpu, uint16_t port, unsigned size)
{
	return port == VMWARE_PORT && size == 4 && cpu->vm->vmware_backdoors;
}

/* EAX magic, ECX command. Commands that are not there give all ones, and leave the other registers. */
bool
soft_vmware_call(struct soft_cpu *cpu)
{
	enum { INTERFACE_VERSION = 6, PRODUCT_SERVER = 2 };

	if ((uint32_t)cpu->gpr[X86_RAX] != VMWARE_MAGIC)
		return false;
	if ((uint16_t)cpu->gpr[X86_RCX] != VMWARE_GET_VERSION) {
		cpu->gpr[X86_RAX] = UINT32_MAX;
		return true;
	}
	cpu->gpr[X86_RAX] = INTERFACE_VERSION;
	cpu->gpr[X86_RBX] = VMWARE_MAGIC;
	cpu->gpr[X86_RCX] = PRODUCT_SERVER;
	return true;
}
