/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers (SDM vol. 4; APM vol. 2, appendix A). KVM holds most of the canonical ones; those
 * that this host's KVM does not know are held here, by the same rules as in the soft engine. The APIC's are
 * the board's: KVM is told to hand every access up.
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "engine/soft/soft.h"

enum {
	MSR_APIC_BASE = 0x1b,
	MSR_TSC_ADJUST = 0x3b,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC = 0x800,
	MSR_HWCR = 0xc0010015u,
	MSR_X2APIC_END = 0x900
};

/* `count` consecutive indexes and members. EFER, FS and GS are in the special registers, the TSC is kept
 * apart. */
static const struct {
	uint32_t index, count;
	size_t off;
} rows[] = {
#define ROW(i, n, m)                               \
	{                                          \
		i, n, offsetof(struct x86_msrs, m) \
	}
    ROW(0x3a, 1, feature_control),
    ROW(0x48, 1, spec_ctrl),
    ROW(0x122, 1, tsx_ctrl),
    ROW(0x174, 1, sysenter_cs),
    ROW(0x175, 1, sysenter_esp),
    ROW(0x176, 1, sysenter_eip),
    ROW(0x17a, 1, mcg_status),
    ROW(0x1a0, 1, misc_enable),
    ROW(0x1d9, 1, debugctl),
    ROW(0x200, 2 * X86_MTRR_VAR, mtrr_var),
    ROW(0x250, 1, mtrr_fix[0]),
    ROW(0x258, 2, mtrr_fix[1]),
    ROW(0x268, 8, mtrr_fix[3]),
    ROW(0x277, 1, pat),
    ROW(0x2ff, 1, mtrr_def_type),
    ROW(0x6e1, 1, pkrs),
    ROW(0xda0, 1, xss),
    ROW(0xc0000081, 1, star),
    ROW(0xc0000082, 1, lstar),
    ROW(0xc0000083, 1, cstar),
    ROW(0xc0000084, 1, fmask),
    ROW(0xc0000102, 1, kernel_gs_base),
    ROW(0xc0000103, 1, tsc_aux),
    ROW(0xc0010000, 4, perf_ctl),
    ROW(0xc0010004, 4, perf_ctr),
    ROW(0xc0010010, 1, syscfg),
    ROW(0xc0010015, 1, hwcr),
    ROW(0xc001011f, 1, virt_spec_ctrl),
#undef ROW
};

static unsigned
row_total(void)
{
	unsigned total = 0;

	for (size_t n = 0; n < ARRAY_LEN(rows); n++)
		total += rows[n].count;
	return total;
}

/* Row number `at`, counted through all. */
static uint32_t
row_index(unsigned at, size_t *off)
{
	size_t n = 0;

	while (at >= rows[n].count)
		at -= rows[n++].count;
	*off = rows[n].off + 8 * (size_t)at;
	return rows[n].index + at;
}

static bool
row_find(uint32_t msr, size_t *off)
{
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (msr - rows[n].index < rows[n].count) {
			*off = rows[n].off + 8 * (size_t)(msr - rows[n].index);
			return true;
		}
	}
	return false;
}

struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[KVM_MSR_ROWS];
};

/* Here, whatever KVM makes of it: it refuses bit 24, which says that the TSC counts at the P0 frequency. */
static bool
row_ours(uint32_t index)
{
	return index == MSR_HWCR;
}

/* Which rows KVM can read: it works through a batch up to the first that it does not know. */
int
kvm_msr_init(struct kvm_vm *vm, int vcpu_fd, struct err *err)
{
	unsigned total = row_total();
	struct msr_batch b;
	size_t off;

	LH_ASSERT(total <= KVM_MSR_ROWS);
	if (vm->msrs_known)
		return 0;
	memset(vm->msr_held, 0, sizeof(vm->msr_held));
	for (unsigned at = 0; at < total;) {
		int got;

		memset(&b, 0, sizeof(b));
		b.head.nmsrs = total - at;
		for (unsigned n = at; n < total; n++)
			b.entry[n - at].index = row_index(n, &off);
		got = kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &b);
		if (got < 0)
			return err_set(err, -got, "kvm: KVM_GET_MSRS: %s", strerror(-got));
		for (int n = 0; n < got; n++, at++)
			vm->msr_held[at] = !row_ours(b.entry[n].index);
		if (at < total)
			at++;
	}
	vm->msrs_known = true;
	return 0;
}

static void
batch_fill(struct kvm_cpu *c, struct msr_batch *b, const struct x86_msrs *m)
{
	unsigned total = row_total();
	size_t off;

	memset(&b->head, 0, sizeof(b->head));
	for (unsigned at = 0; at < total; at++) {
		uint32_t index = row_index(at, &off);

		if (!c->vm->msr_held[at])
			continue;
		b->entry[b->head.nmsrs] = (struct kvm_msr_entry){.index = index};
		if (m != NULL)
			b->entry[b->head.nmsrs].data = get_le64((const char *)m + off);
		b->head.nmsrs++;
	}
}

/* ---- the TSC ---- */

static uint64_t
clock_offset(const struct kvm_cpu *c)
{
	return vm_clock_tsc_offset(c->vm->cfg.clock);
}

static int
tsc_attr(struct kvm_cpu *c, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr a = {
	    .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)(uintptr_t)offset};

	return kvm_ioctl(c->fd, request, &a);
}

/*
 * What the guest wrote to its TSC is in KVM's offset; the clock's own part is what we put there. Where KVM
 * takes no offset, or takes it and forgets it, the guest reads the host's TSC: then that is what the state
 * says.
 */
static int
tsc_fetch(struct kvm_cpu *c, struct x86_msrs *m)
{
	uint64_t offset;
	int r;

	m->tsc_adjust = c->shadow.tsc_adjust;
	if (!c->tsc_known)
		return 0;
	if (!c->vm->dev.tsc_offset) {
		m->tsc_adjust = 0 - clock_offset(c);
		return 0;
	}
	r = tsc_attr(c, KVM_GET_DEVICE_ATTR, &offset);
	m->tsc_adjust += offset - c->tsc_offset;
	return r;
}

static int
tsc_store(struct kvm_cpu *c, uint64_t adjust)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} b = {.head = {.nmsrs = 1}, .entry = {.index = MSR_TSC_ADJUST, .data = adjust}};
	uint64_t offset = clock_offset(c) + adjust, now = offset;
	int r = 0;

	c->shadow.tsc_adjust = adjust;
	c->tsc_offset = offset;
	if (kvm_ioctl(c->fd, KVM_SET_MSRS, &b) < 0)
		return -EIO;
	if (c->vm->dev.tsc_offset)
		r = tsc_attr(c, KVM_SET_DEVICE_ATTR, &offset);
	if (r == 0 && c->vm->dev.tsc_offset && !c->tsc_known) {
		r = tsc_attr(c, KVM_GET_DEVICE_ATTR, &now);
		if (now != offset)
			c->vm->dev.tsc_offset = false;
	}
	c->tsc_known = true;
	return r;
}

/* KVM's own clock shows what the VM's does. */
static void
clock_follow(struct kvm_vm *vm)
{
	struct kvm_clock_data d = {.clock = vm_clock_now_ns(vm->cfg.clock)};

	if (vm->dev.clock && kvm_ioctl(vm->fd, KVM_SET_CLOCK, &d) != 0)
		vm->dev.clock = false; /* nothing that we offer depends on it */
}

void
kvm_tsc_follow(struct kvm_cpu *c)
{
	struct x86_msrs m;

	if (c->tsc_known && !c->vm->dev.tsc_offset)
		return;
	if (c->tsc_known && clock_offset(c) + c->shadow.tsc_adjust == c->tsc_offset)
		return;
	if (tsc_fetch(c, &m) != 0 || tsc_store(c, m.tsc_adjust) != 0)
		log_error("kvm: vCPU %u: the TSC cannot be set", c->id);
	clock_follow(c->vm);
	if (kvm_has_apic(c->vm))
		kvm_apic_deadline_moved(c);
}

/* ---- all ---- */

int
kvm_msrs_fetch(struct kvm_cpu *c, struct x86_msrs *m)
{
	unsigned total = row_total(), n = 0;
	struct msr_batch b;
	size_t off;
	int r;

	batch_fill(c, &b, NULL);
	r = kvm_ioctl(c->fd, KVM_GET_MSRS, &b);
	if (r < 0)
		return r;
	if ((unsigned)r != b.head.nmsrs)
		return -EIO;
	*m = c->shadow;
	for (unsigned at = 0; at < total; at++) {
		row_index(at, &off);
		if (c->vm->msr_held[at])
			put_le64((char *)m + off, b.entry[n++].data);
	}
	return tsc_fetch(c, m);
}

/* Leave out what KVM has already: some writes are slow, some are logged by the host. */
static int
batch_reduce(struct kvm_cpu *c, struct msr_batch *b)
{
	struct msr_batch now = *b;
	int r = kvm_ioctl(c->fd, KVM_GET_MSRS, &now);
	unsigned kept = 0;

	for (unsigned n = 0; r >= 0 && n < b->head.nmsrs; n++) {
		if (n >= (unsigned)r || now.entry[n].data != b->entry[n].data)
			b->entry[kept++] = b->entry[n];
	}
	if (r >= 0)
		b->head.nmsrs = kept;
	return MIN(r, 0);
}

/* A value that this KVM refuses (another host's) is told and left out: the rest must still get there. */
int
kvm_msrs_store(struct kvm_cpu *c, const struct x86_msrs *m)
{
	struct msr_batch b;
	int r;

	c->shadow = *m;
	batch_fill(c, &b, m);
	r = batch_reduce(c, &b);
	while (r == 0 && b.head.nmsrs > 0) {
		int done = kvm_ioctl(c->fd, KVM_SET_MSRS, &b);

		if (done < 0)
			return done;
		if ((unsigned)done == b.head.nmsrs)
			break;
		log_info("kvm: vCPU %u: this host refuses %#llx in MSR %#x", c->id,
			 (unsigned long long)b.entry[done].data, b.entry[done].index);
		b.head.nmsrs -= (unsigned)done + 1;
		memmove(b.entry, b.entry + done + 1, b.head.nmsrs * sizeof(b.entry[0]));
	}
	return r != 0 ? r : tsc_store(c, m->tsc_adjust);
}

/* ---- accesses that KVM hands up ---- */

bool
kvm_msr_board(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC && msr < MSR_X2APIC_END);
}

/*
 * What KVM must hand up though it knows it; but for the first, only when it has no APIC. x2APIC registers
 * cannot be filtered, and need not be: without an APIC in the kernel KVM knows none of them.
 */
static const uint32_t filtered[] = {MSR_HWCR, MSR_APIC_BASE, MSR_TSC_DEADLINE};

int
kvm_msr_filter(struct kvm_vm *vm, struct err *err)
{
	static uint8_t none[8]; /* a bitmap of what is allowed */
	struct kvm_msr_filter f = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
	const unsigned reasons =
	    KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
	int r = kvm_enable_cap(vm->fd, KVM_CAP_X86_USER_SPACE_MSR, reasons);

	for (size_t n = 0; n < (kvm_has_apic(vm) ? 1 : ARRAY_LEN(filtered)); n++) {
		f.ranges[n] =
		    (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
						  .nmsrs = 1,
						  .base = filtered[n],
						  .bitmap = none};
	}
	if (r == 0)
		r = kvm_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f);
	return r == 0 ? 0 : err_set(err, -r, "kvm: MSR filter: %s", strerror(-r));
}

bool
kvm_msr_unknown(struct kvm_cpu *c, uint32_t msr, bool write, uint64_t *val)
{
	uint64_t fixed;
	size_t off;

	switch (soft_msr_kind(msr, &fixed)) {
	case SOFT_MSR_IGNORED:
		if (!write)
			*val = fixed;
		return true;
	case SOFT_MSR_READONLY:
		if (!write)
			*val = fixed;
		return !write;
	case SOFT_MSR_STATE:
		if (!row_find(msr, &off))
			return false;
		if (write)
			put_le64((char *)&c->shadow + off, *val);
		else
			*val = get_le64((const char *)&c->shadow + off);
		return true;
	default:
		break;
	}
	if (write)
		log_guest("vcpu %u: wrmsr of unknown MSR %#x, value %#llx", c->id, msr,
			  (unsigned long long)*val);
	else
		log_guest("vcpu %u: rdmsr of unknown MSR %#x", c->id, msr);
	if (!write)
		*val = 0;
	return !c->vm->cfg.strict_msr;
}
