/* SPDX-License-Identifier: BSD-2-Clause */
/* vCPUs of KVM's: making and unmaking them, counters, and the table of the engine's operations. */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/log.h"
#include "base/util.h"
#include "engine/kvm/kvm.h"

/* KVM's signal mask of struct kvm_signal_mask: the kernel's sigset_t, 8 bytes. */
enum { KERNEL_SIGSET_BYTES = 8 };

/*
 * While the guest runs, the kick's signal is let through; outside it is blocked (run.c). So it ends KVM_RUN
 * and nothing else, and the process needs no handler.
 */
static int
set_signal_mask(struct kvm_cpu *c, struct err *err)
{
	struct {
		struct kvm_signal_mask head;
		uint8_t set[KERNEL_SIGSET_BYTES];
	} m = {.head = {.len = KERNEL_SIGSET_BYTES}};
	sigset_t now;
	int r;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	sigdelset(&now, SIGUSR1);
	memcpy(m.set, &now, sizeof(m.set));
	r = kvm_ioctl(c->fd, KVM_SET_SIGNAL_MASK, &m);
	return r == 0 ? 0 : err_set(err, -r, "kvm: KVM_SET_SIGNAL_MASK: %s", strerror(-r));
}

static int
open_fd(struct kvm_cpu *c, struct err *err)
{
	int fd = c->vm->parked[c->id] - 1;
	void *page;

	c->vm->parked[c->id] = 0;
	if (fd < 0)
		fd = kvm_ioctl_n(c->vm->fd, KVM_CREATE_VCPU, kvm_has_apic(c->vm) ? c->apic_id : c->id);

	if (fd < 0) {
		const char *hint = fd == -EMFILE || fd == -ENFILE
				       ? " (raise the limit of open files: ulimit -n)"
				   : fd == -EINVAL ? " (more than this KVM allows?)"
						   : "";
		return err_set(err, -fd, "kvm: vCPU %u: %s%s", c->id, strerror(-fd), hint);
	}
	c->fd = fd;
	page = mmap(NULL, c->vm->dev.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return err_set(err, errno, "kvm: vCPU %u: %s", c->id, strerror(errno));
	c->run = page;
	return 0;
}

/* XCR0's components that both the guest's CPUID and KVM's image have. */
static void
read_xfeatures(struct kvm_cpu *c)
{
	uint32_t one[4], d[4];

	x86_cpuid_query(c->cpuid, 1, 0, one);
	x86_cpuid_query(c->cpuid, 0xd, 0, d);
	c->xfeatures = 3 | (one[2] >> 26 & 1 ? d[0] | (uint64_t)d[3] << 32 : 0);
}

/* Leaf 11 has 32 bits of it, where there is one. */
static void
read_apic_id(struct kvm_cpu *c)
{
	uint32_t one[4], topology[4];

	x86_cpuid_query(c->cpuid, 1, 0, one);
	x86_cpuid_query(c->cpuid, 0xb, 0, topology);
	c->apic_id = topology[1] != 0 ? topology[3] : one[1] >> 24;
}

static int
set_up(struct kvm_cpu *c, struct err *err)
{
	struct x86_state s;
	int r;

	read_apic_id(c);
	r = open_fd(c, err);

	if (r == 0)
		r = kvm_cpuid_set(c->fd, c->cpuid, err);
	if (r == 0 && c->vm->dev.enforce_pv &&
	    kvm_enable_cap(c->fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1) != 0)
		log_info("kvm: vCPU %u: the guest can reach the KVM clock's MSRs", c->id);
	if (r == 0)
		r = kvm_msr_init(c->vm, c->fd, err);
	if (r == 0)
		r = set_signal_mask(c, err);
	if (r == 0)
		r = kvm_dirty_vcpu(c, err);
	read_xfeatures(c);
	x86_state_reset(&s);
	if (r == 0)
		r = kvm_store(c, X86_STATE_ALL, &s, err);
	if (r == 0)
		r = kvm_trace_init(c, err);
	return r != 0 || !c->vm->no_hardware ? r : kvm_helped_init(c, err);
}

void
kvm_vcpu_destroy(struct engine_vcpu *v)
{
	struct kvm_cpu *c = kvm_cpu_of(v);

	if (c == NULL)
		return;
	kvm_trace_destroy(c);
	kvm_assist_destroy(c);
	c->vm->cpus[c->id] = NULL;
	kvm_dirty_vcpu_end(c);
	if (c->run != NULL)
		munmap(c->run, c->vm->dev.run_bytes);
	if (c->fd >= 0)
		c->vm->parked[c->id] = c->fd + 1; /* KVM makes each vCPU but once */
	free(c->xsave);
	free(c->cpuid);
	free(c);
}

struct engine_vcpu *
kvm_vcpu_create(struct engine_vm *v, unsigned id, const struct x86_cpuid *cpuid, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	struct kvm_cpu *c;

	if (id >= vm->cfg.maxcpus || vm->cpus[id] != NULL) {
		err_set(err, EINVAL, "kvm: vCPU %u cannot be made (maximum %u)", id, vm->cfg.maxcpus);
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		err_set(err, ENOMEM, "kvm: no memory for vCPU %u", id);
		return NULL;
	}
	c->vm = vm;
	c->id = id;
	c->fd = -1;
	vm->cpus[id] = c;
	c->cpuid = malloc(sizeof(*cpuid));
	c->xsave = calloc(1, vm->xsave_bytes);
	if (c->cpuid == NULL || c->xsave == NULL) {
		err_set(err, ENOMEM, "kvm: no memory for vCPU %u", id);
	} else {
		*c->cpuid = *cpuid;
		if (set_up(c, err) == 0)
			return (struct engine_vcpu *)(void *)c;
	}
	kvm_vcpu_destroy((struct engine_vcpu *)(void *)c);
	return NULL;
}

static void
kvm_stats(struct engine_vcpu *v, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	const struct kvm_cpu *c = kvm_cpu_of(v);
	const struct {
		const char *name;
		uint64_t value;
	} row[] = {
	    {"kvm.runs", c->ctr.runs},
	    {"kvm.port exits", c->ctr.io},
	    {"kvm.MMIO exits", c->ctr.mmio},
	    {"kvm.MSR exits", c->ctr.msr},
	    {"kvm.interrupt windows", c->ctr.windows},
	    {"kvm.interrupts", c->ctr.injected},
	    {"kvm.signals", c->ctr.signals},
	    {"kvm.not emulated", c->ctr.assists},
	    {"kvm.triple faults not believed", c->ctr.shutdowns},
	    {"kvm.native bursts", c->ctr.native},
	    {"kvm.shadow pages forgotten", c->ctr.forgotten},
	    {"kvm.instructions interpreted", c->ctr.assisted},
	};

	for (size_t n = 0; n < ARRAY_LEN(row); n++)
		fn(arg, row[n].name, row[n].value);
	if (c->id == 0) /* the VM's */
		fn(arg, "kvm.irqfds", kvm_irqfds_added(c->vm));
}

static int
kvm_usable(struct err *err)
{
	struct kvm_dev d;
	int r = kvm_dev_open(&d, err);

	if (r == 0)
		kvm_dev_close(&d);
	return r;
}

static int
kvm_probe(struct err *err)
{
	int broken = kvm_examine(KVM_PARTS_ALL, err), r = 0;

	if (broken <= 0)
		return broken;
	r = err_set(err, ENOTSUP, "guest code does not run as on a processor:");
	for (unsigned n = 0; n < KVM_PARTS && err != NULL; n++) {
		size_t len = strlen(err->msg);

		if (broken >> n & 1)
			snprintf(err->msg + len, sizeof(err->msg) - len, "%s %s",
				 n != 0 && err->msg[len - 1] != ':' ? "," : "",
				 kvm_part_name((enum kvm_part)n));
	}
	return r;
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .usable = kvm_usable,
    .probe = kvm_probe,
    .tidy = kvm_examine_end,
    .vm_create = kvm_vm_create,
    .vm_destroy = kvm_vm_destroy,
    .cpuid_filter = kvm_cpuid_filter,
    .vcpu_create = kvm_vcpu_create,
    .vcpu_destroy = kvm_vcpu_destroy,
    .run = kvm_run,
    .kick = kvm_kick,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .intr_ready = kvm_intr_ready,
    .inject_intr = kvm_inject_intr,
    .inject_nmi = kvm_inject_nmi,
    .inject_exception = kvm_inject_exception,
    .dirty_start = kvm_dirty_start,
    .dirty_fetch = kvm_dirty_fetch,
    .dirty_stop = kvm_dirty_stop,
    .accel = &kvm_accel,
    .stats = kvm_stats,
};
