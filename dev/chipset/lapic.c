/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APICs (SDM vol. 3A chapter 11): registers by MMIO and MSR, modes, priorities.
 *
 * One lock an APIC, taken after every device's lock and never two at a time; what a change
 * asks of others is done after it is dropped (lapic_act()). `pending` is recomputed under
 * the lock at every change, so that vCPUs look at it with one atomic load.
 */
#include "dev/chipset/lapic_internal.h"

#include <errno.h>

#include "base/log.h"

/* Version 0x14, 7 LVT entries, EOI broadcast suppression (11.4.8). */
#define VERSION (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

/* ---- priorities ---- */

/* The highest vector of a 256-bit register, or -1. */
static int
highest(const uint32_t reg[8])
{
	for (int i = 7; i >= 0; i--) {
		if (reg[i] != 0)
			return i * 32 + 31 - __builtin_clz(reg[i]);
	}
	return -1;
}

/* Processor priority (11.8.3.1). */
uint8_t
lapic_ppr(const struct lapic *l)
{
	int isrv = highest(l->st.isr);
	unsigned service = isrv < 0 ? 0 : (unsigned)isrv & 0xf0;

	return (uint8_t)((l->st.tpr & 0xf0) >= service ? l->st.tpr : service);
}

static bool
extint_asserted(const struct lapic *l)
{
	uint32_t lint0 = l->st.lvt[LVT_LINT0];

	if (l->st.extint)
		return true;
	if (!l->st.lint0)
		return false;
	/* With the APIC off the pin is the processor's own INTR (11.4.3). */
	return !lapic_hw_enabled(l) || ((lint0 & LVT_MASKED) == 0 && bits(lint0, 8, 3) == DM_EXTINT);
}

static int
compute_pending(const struct lapic *l)
{
	int irrv;

	if (lapic_is_remote(l))
		return l->st.lint0 ? LAPIC_EXTINT : LAPIC_NONE;
	if (extint_asserted(l))
		return LAPIC_EXTINT;
	if (!lapic_hw_enabled(l))
		return LAPIC_NONE;
	irrv = highest(l->st.irr);
	return irrv >= 0 && (irrv & 0xf0) > (lapic_ppr(l) & 0xf0) ? irrv : LAPIC_NONE;
}

void
lapic_update(struct lapic *l, struct lapic_actions *act)
{
	int old = atomic_load_explicit(&l->pending, memory_order_relaxed), new = compute_pending(l);

	if (new == old)
		return;
	/* Sequentially consistent: a vCPU that says "asleep" and then looks must not miss it. */
	atomic_store(&l->pending, new);
	if (new != LAPIC_NONE)
		act->what |= ACT_WAKE;
}

int
lapic_pending(struct lapic_set *s, unsigned cpu)
{
	return atomic_load(&s->apic[cpu]->pending);
}

int
lapic_accept(struct lapic_set *s, unsigned cpu)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};
	int vector;

	pthread_mutex_lock(&l->lock);
	vector = compute_pending(l);
	if (vector == LAPIC_EXTINT) {
		l->st.extint = false;
	} else if (vector >= 0) {
		l->st.irr[vector / 32] &= ~(1u << (vector & 31));
		l->st.isr[vector / 32] |= 1u << (vector & 31);
	}
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
	if (vector == LAPIC_EXTINT)
		return s->w.extint_ack != NULL ? s->w.extint_ack(s->w.extint_ctx) : LAPIC_NONE;
	return vector;
}

/* ---- registers: lock held ---- */

static uint32_t
read_id(struct lapic *l)
{
	return lapic_x2(l) ? l->id : (uint32_t)l->st.xapic_id << 24;
}

/* An xAPIC's id is the guest's to change, also to one that another has: both take its messages (11.4.6). */
static void
write_id(struct lapic *l, uint32_t val)
{
	l->st.xapic_id = (uint8_t)(val >> 24);
	if (l->st.xapic_id != (uint8_t)l->id)
		atomic_store(&l->set->renamed, true);
}

static uint32_t
x2apic_ldr(uint32_t id)
{
	return (id >> 4) << 16 | 1u << (id & 15); /* 11.12.10.2 */
}

static void
write_tpr(struct lapic *l, uint32_t val)
{
	l->st.tpr = val & 0xff;
}

static void
write_eoi(struct lapic *l, uint32_t val, struct lapic_actions *act)
{
	int vector = highest(l->st.isr);
	uint32_t bit;

	(void)val;
	if (vector < 0)
		return;
	bit = 1u << (vector & 31);
	l->st.isr[vector / 32] &= ~bit;
	if ((l->st.tmr[vector / 32] & bit) == 0)
		return;
	/* A level: LINT0's own, or an IOAPIC's. */
	if ((uint8_t)l->st.lvt[LVT_LINT0] == vector)
		l->st.lvt[LVT_LINT0] &= ~LVT_REMOTE_IRR;
	lapic_lint0_level(l, act);
	if ((l->st.svr & SVR_EOI_SUPPRESS) == 0) {
		act->what |= ACT_EOI;
		act->vector = (uint8_t)vector;
	}
}

static void
write_svr(struct lapic *l, uint32_t val)
{
	l->st.svr = val & 0x13ff;
	/* Software-disabled: all LVT entries are masked, and cannot be unmasked (11.4.7.2). */
	if ((val & SVR_ENABLE) == 0) {
		for (unsigned i = 0; i < LVT_COUNT; i++)
			l->st.lvt[i] |= LVT_MASKED;
	}
}

static void
write_icr(struct lapic *l, uint32_t val, struct lapic_actions *act)
{
	unsigned mode = (unsigned)bits(val, 8, 3);

	l->st.icr = (l->st.icr & ~0xffffffffull) | (val & ~0x1000u);
	if ((mode == DM_FIXED || mode == DM_LOWEST) && (val & 0xff) < 16) {
		lapic_error(l, ESR_SEND_VECTOR, act);
		return;
	}
	act->what |= ACT_IPI;
	act->ipi = l->st.icr;
	act->ipi_wide = lapic_x2(l);
}

static void
write_self_ipi(struct lapic *l, uint32_t val, struct lapic_actions *act)
{
	if ((val & 0xff) < 16)
		lapic_error(l, ESR_SEND_VECTOR, act);
	else if (lapic_sw_enabled(l))
		lapic_accept_vector(l, (uint8_t)val, false, act);
}

/* A write makes what was found since the last one readable (11.5.3). */
static void
write_esr(struct lapic *l)
{
	l->st.esr = l->st.esr_pending;
	l->st.esr_pending = 0;
}

/* Writable bits; bits that may be 1 in an x2APIC write; register. The order of enum lvt_index. */
static const struct {
	uint32_t writable, allowed;
} lvt_bits[LVT_COUNT] = {
    [LVT_CMCI] = {0x107ff, 0x117ff},  [LVT_TIMER] = {0x700ff, 0x710ff}, [LVT_THERMAL] = {0x107ff, 0x117ff},
    [LVT_PERF] = {0x107ff, 0x117ff},  [LVT_LINT0] = {0x1a7ff, 0x1f7ff}, [LVT_LINT1] = {0x1a7ff, 0x1f7ff},
    [LVT_ERROR] = {0x100ff, 0x110ff},
};

uint32_t
lapic_lvt_writable(enum lvt_index i)
{
	return lvt_bits[i].writable;
}

static enum lvt_index
lvt_of_reg(unsigned reg)
{
	return reg == R_LVT_CMCI ? LVT_CMCI : (enum lvt_index)(reg - R_LVT_TIMER + LVT_TIMER);
}

static void
write_lvt(struct lapic *l, enum lvt_index i, uint32_t val, struct lapic_actions *act)
{
	uint32_t old = l->st.lvt[i];

	val &= lvt_bits[i].writable;
	if (!lapic_sw_enabled(l))
		val |= LVT_MASKED;
	if (i == LVT_TIMER) {
		lapic_timer_write_lvt(l, val);
		return;
	}
	/* Remote IRR lives only while the entry is a fixed level. */
	if ((val & LVT_LEVEL) != 0 && bits(val, 8, 3) == DM_FIXED)
		val |= old & LVT_REMOTE_IRR;
	l->st.lvt[i] = val;
	if (i == LVT_LINT0)
		lapic_lint0_level(l, act);
}

/* ---- access by register number ---- */

/* What each register allows in either mode; `allowed`: bits that an x2APIC write may set. */
enum { XR = 1, XW = 2, X2R = 4, X2W = 8, RW = 15 };

static const struct {
	uint8_t access;
	uint32_t allowed;
} reg_desc[R_COUNT] = {
    [R_ID] = {XR | XW | X2R, 0},
    [R_VERSION] = {XR | X2R, 0},
    [R_TPR] = {RW, 0xff},
    [R_APR] = {XR, 0},
    [R_PPR] = {XR | X2R, 0},
    [R_EOI] = {XW | X2W, 0},
    [R_RRD] = {XR, 0},
    [R_LDR] = {XR | XW | X2R, 0},
    [R_DFR] = {XR | XW, 0},
    [R_SVR] = {RW, 0x13ff},
    [R_ISR... R_ISR + 7] = {XR | X2R, 0},
    [R_TMR... R_TMR + 7] = {XR | X2R, 0},
    [R_IRR... R_IRR + 7] = {XR | X2R, 0},
    [R_ESR] = {RW, 0},
    [R_LVT_CMCI] = {RW, 0x117ff},
    [R_ICR] = {RW, 0xcdfff}, /* 31:20, 17:16 and 13 are reserved */
    [R_ICR_HIGH] = {XR | XW, 0},
    [R_LVT_TIMER... R_LVT_ERROR] = {RW, 0}, /* see lvt_bits */
    [R_TIMER_INIT] = {RW, 0xffffffff},
    [R_TIMER_CURRENT] = {XR | X2R, 0},
    [R_TIMER_DIVIDE] = {RW, 0xb},
    [R_SELF_IPI] = {X2W, 0xff},
};

static uint32_t
reg_read(struct lapic *l, unsigned reg)
{
	switch (reg) {
	case R_ID:
		return read_id(l);
	case R_VERSION:
		return VERSION;
	case R_TPR:
		return l->st.tpr;
	case R_PPR:
		return lapic_ppr(l);
	case R_LDR:
		return l->st.ldr;
	case R_DFR:
		return l->st.dfr;
	case R_SVR:
		return l->st.svr;
	case R_ISR ... R_ISR + 7:
		return l->st.isr[reg - R_ISR];
	case R_TMR ... R_TMR + 7:
		return l->st.tmr[reg - R_TMR];
	case R_IRR ... R_IRR + 7:
		return l->st.irr[reg - R_IRR];
	case R_ESR:
		return l->st.esr;
	case R_ICR:
		return (uint32_t)l->st.icr;
	case R_ICR_HIGH:
		return (uint32_t)(l->st.icr >> 32);
	case R_LVT_CMCI:
	case R_LVT_TIMER ... R_LVT_ERROR:
		return l->st.lvt[lvt_of_reg(reg)];
	case R_TIMER_INIT:
		return l->st.timer_init;
	case R_TIMER_CURRENT:
		return lapic_timer_current(l);
	case R_TIMER_DIVIDE:
		return l->st.timer_divide;
	default:
		return 0;
	}
}

static void
reg_write(struct lapic *l, unsigned reg, uint32_t val, struct lapic_actions *act)
{
	switch (reg) {
	case R_ID:
		write_id(l, val);
		break;
	case R_TPR:
		write_tpr(l, val);
		break;
	case R_EOI:
		write_eoi(l, val, act);
		break;
	case R_LDR:
		l->st.ldr = val & 0xff000000;
		break;
	case R_DFR:
		l->st.dfr = val | 0x0fffffff;
		break;
	case R_SVR:
		write_svr(l, val);
		break;
	case R_ESR:
		write_esr(l);
		break;
	case R_ICR:
		write_icr(l, val, act);
		break;
	case R_ICR_HIGH:
		l->st.icr = (uint32_t)l->st.icr | (uint64_t)(val & 0xff000000) << 32;
		break;
	case R_LVT_CMCI:
	case R_LVT_TIMER ... R_LVT_ERROR:
		write_lvt(l, lvt_of_reg(reg), val, act);
		break;
	case R_TIMER_INIT:
		lapic_timer_write_init(l, val);
		break;
	case R_TIMER_DIVIDE:
		lapic_timer_write_divide(l, val);
		break;
	case R_SELF_IPI:
		write_self_ipi(l, val, act);
		break;
	default:
		break;
	}
}

/* Registers that the timer has a part in; the others do not pay for a look at the clock. */
static bool
concerns_timer(unsigned reg)
{
	return reg == R_LVT_TIMER || reg == R_SVR || (reg >= R_TIMER_INIT && reg <= R_TIMER_DIVIDE);
}

/* The lock is taken; what happened up to now is in the state. */
static void
access_begin(struct lapic *l, unsigned reg, struct lapic_actions *act)
{
	if (concerns_timer(reg) || (reg >= R_IRR && reg < R_IRR + 8))
		lapic_timer_sync(l, act);
}

/* Let the access take effect, drop the lock, do the rest. */
static void
access_end(struct lapic *l, unsigned reg, bool write, struct lapic_actions *act)
{
	if (write && concerns_timer(reg)) {
		lapic_timer_sync(l, act); /* a deadline in the past, a count of nothing */
		lapic_timer_rearm(l);
	}
	lapic_update(l, act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, act);
}

/* ---- MMIO: xAPIC ---- */

static bool
mmio_hits(const struct lapic *l, uint64_t gpa)
{
	return (gpa & ~0xfffull) == atomic_load_explicit(&l->mmio_base, memory_order_relaxed);
}

static void
illegal_register(struct lapic *l, unsigned off, struct lapic_actions *act)
{
	log_guest("lapic %u: access to register 0x%x, which does not exist", l->id, off);
	lapic_error(l, ESR_REGISTER, act);
}

bool
lapic_mmio_read(struct lapic_set *s, unsigned cpu, uint64_t gpa, unsigned size, uint64_t *val)
{
	struct lapic *l = s->apic[cpu];
	unsigned off = gpa & 0xfff, reg = off >> 4, byte = off & 15;
	struct lapic_actions act = {0};
	uint64_t r = 0;

	if (!mmio_hits(l, gpa))
		return false;
	pthread_mutex_lock(&l->lock);
	access_begin(l, reg, &act);
	if (reg >= R_COUNT || (reg_desc[reg].access & (XR | XW)) == 0)
		illegal_register(l, off, &act);
	else if ((reg_desc[reg].access & XR) != 0 && byte < 4)
		r = reg_read(l, reg) >> (8 * byte); /* bytes 4-15 of a register are nothing */
	access_end(l, reg, false, &act);
	*val = r & size_mask(size);
	return true;
}

bool
lapic_mmio_write(struct lapic_set *s, unsigned cpu, uint64_t gpa, unsigned size, uint64_t val)
{
	struct lapic *l = s->apic[cpu];
	unsigned off = gpa & 0xfff, reg = off >> 4;
	struct lapic_actions act = {0};

	if (!mmio_hits(l, gpa))
		return false;
	/* Only aligned accesses of 32 bits are defined (11.4.1). */
	if ((off & 15) != 0 || size < 4) {
		log_guest("lapic %u: %u-byte write at 0x%x dropped", l->id, size, off);
		return true;
	}
	pthread_mutex_lock(&l->lock);
	access_begin(l, reg, &act);
	if (reg >= R_COUNT || (reg_desc[reg].access & (XR | XW)) == 0)
		illegal_register(l, off, &act);
	else if ((reg_desc[reg].access & XW) != 0)
		reg_write(l, reg, (uint32_t)val, &act);
	access_end(l, reg, true, &act);
	return true;
}

/* ---- MSRs ---- */

/* Registers for a mode, keeping id and base: what INIT and going off do. */
void
lapic_reset_registers(struct lapic *l)
{
	struct lapic_st st = {
	    .apic_base = l->st.apic_base,
	    .tsc_adjust = l->st.tsc_adjust,
	    .lint0 = l->st.lint0, /* a pin, not a register */
	    .xapic_id = l->st.xapic_id,
	    .dfr = 0xffffffff,
	    .svr = 0xff,
	};

	if (lapic_x2(l))
		st.ldr = x2apic_ldr(l->id);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		st.lvt[i] = LVT_MASKED;
	l->st = st;
	lapic_timer_rearm(l);
}

void
lapic_set_base(struct lapic *l, uint64_t base)
{
	bool mapped = (base & (BASE_EN | BASE_EXTD)) == BASE_EN && !lapic_is_remote(l);

	l->st.apic_base = base;
	atomic_store_explicit(&l->mmio_base, mapped ? base & BASE_ADDR : UINT64_MAX, memory_order_relaxed);
}

/* The transitions of figure 11-27; the rest are #GP. */
static bool
base_legal(const struct lapic *l, uint64_t val)
{
	uint64_t old = l->st.apic_base & (BASE_EN | BASE_EXTD), new = val &(BASE_EN | BASE_EXTD);

	if ((val & l->set->base_reserved) != 0 || new == BASE_EXTD)
		return false;
	if (new == old || new == 0)
		return true;
	if (new == BASE_EN)
		return old == 0;
	return old == BASE_EN;
}

static int
write_base(struct lapic *l, uint64_t val, struct lapic_actions *act)
{
	uint64_t old = l->st.apic_base, changed;

	if (!base_legal(l, val))
		return -EINVAL;
	lapic_set_base(l, (val & ~BASE_BSP) | (old & BASE_BSP));
	changed = old ^ val;
	if ((changed & BASE_EN) != 0) {
		l->st.xapic_id = (uint8_t)l->id; /* as after power-up (11.4.3), not INIT */
		lapic_reset_registers(l);
	} else if ((changed & BASE_EXTD) != 0) {
		l->st.ldr = x2apic_ldr(l->id);
		l->st.icr = (uint32_t)l->st.icr;
	}
	lapic_update(l, act);
	return 0;
}

static int
x2apic_read(struct lapic *l, unsigned reg, uint64_t *val)
{
	if (!lapic_x2(l) || reg >= R_COUNT || (reg_desc[reg].access & X2R) == 0)
		return -EINVAL;
	*val = reg == R_ICR ? l->st.icr : reg_read(l, reg);
	return 0;
}

static uint64_t
x2apic_allowed(unsigned reg)
{
	if (reg == R_ICR)
		return 0xffffffffull << 32 | reg_desc[reg].allowed;
	if (reg >= R_LVT_TIMER && reg <= R_LVT_ERROR)
		return lvt_bits[lvt_of_reg(reg)].allowed;
	return reg_desc[reg].allowed;
}

static int
x2apic_write(struct lapic *l, unsigned reg, uint64_t val, struct lapic_actions *act)
{
	if (!lapic_x2(l) || reg >= R_COUNT || (reg_desc[reg].access & X2W) == 0 ||
	    (val & ~x2apic_allowed(reg)) != 0)
		return -EINVAL;
	if (reg == R_ICR)
		l->st.icr = val;
	reg_write(l, reg, (uint32_t)val, act);
	return 0;
}

bool
lapic_msr_owned(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr & ~0xffu) == MSR_X2APIC;
}

/* The register of an MSR for access_begin(): the deadline counts as one of the timer's. */
static unsigned
msr_reg(uint32_t msr)
{
	if (msr == MSR_TSC_DEADLINE)
		return R_TIMER_INIT;
	return msr == MSR_APIC_BASE ? R_COUNT : msr - MSR_X2APIC;
}

int
lapic_msr_read(struct lapic_set *s, unsigned cpu, uint32_t msr, uint64_t *val)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};
	int rc = 0;

	if (!lapic_msr_owned(msr))
		return -EINVAL;
	pthread_mutex_lock(&l->lock);
	access_begin(l, msr_reg(msr), &act);
	if (msr == MSR_APIC_BASE)
		*val = l->st.apic_base;
	else if (msr == MSR_TSC_DEADLINE)
		*val = l->st.tsc_deadline;
	else
		rc = x2apic_read(l, msr - MSR_X2APIC, val);
	access_end(l, msr_reg(msr), false, &act);
	return rc;
}

int
lapic_msr_write(struct lapic_set *s, unsigned cpu, uint32_t msr, uint64_t val)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};
	int rc = 0;

	if (!lapic_msr_owned(msr))
		return -EINVAL;
	pthread_mutex_lock(&l->lock);
	access_begin(l, msr_reg(msr), &act);
	if (msr == MSR_APIC_BASE)
		rc = write_base(l, val, &act);
	else if (msr == MSR_TSC_DEADLINE)
		lapic_timer_write_deadline(l, val);
	else
		rc = x2apic_write(l, msr - MSR_X2APIC, val, &act);
	access_end(l, msr_reg(msr), true, &act);
	return rc;
}

/* ---- from the processor and the board ---- */

uint64_t
lapic_get_cr8(struct lapic_set *s, unsigned cpu)
{
	struct lapic *l = s->apic[cpu];
	uint64_t cr8;

	pthread_mutex_lock(&l->lock);
	cr8 = l->st.tpr >> 4;
	pthread_mutex_unlock(&l->lock);
	return cr8;
}

void
lapic_set_cr8(struct lapic_set *s, unsigned cpu, uint64_t cr8)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	l->st.tpr = (uint32_t)(cr8 & 0xf) << 4;
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}

void
lapic_set_tsc_adjust(struct lapic_set *s, unsigned cpu, uint64_t adjust)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	l->st.tsc_adjust = adjust;
	access_end(l, R_TIMER_INIT, true, &act);
}

void
lapic_init_reset(struct lapic_set *s, unsigned cpu)
{
	struct lapic *l = s->apic[cpu];
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	lapic_reset_registers(l);
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}

uint32_t
lapic_id(const struct lapic_set *s, unsigned cpu)
{
	return s->apic[cpu]->id;
}

void
lapic_virtual_wire(struct lapic_set *s)
{
	struct lapic *l = s->apic[0];
	struct lapic_actions act = {0};

	pthread_mutex_lock(&l->lock);
	write_svr(l, SVR_ENABLE | 0xff);
	write_lvt(l, LVT_LINT0, DM_EXTINT << 8, &act);
	write_lvt(l, LVT_LINT1, DM_NMI << 8, &act);
	if (lapic_is_remote(l) && l->started)
		lapic_remote_send(l);
	lapic_update(l, &act);
	pthread_mutex_unlock(&l->lock);
	lapic_act(l, &act);
}
