/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening /dev/kvm and reading its capabilities (Documentation/virt/kvm/api.rst in the kernel's sources). */
#include "engine/kvm/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/util.h"

#define KVM_PATH "/dev/kvm"

int
kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int
kvm_ioctl_n(int fd, unsigned long request, unsigned long arg)
{
	return kvm_ioctl(fd, request, (void *)arg);
}

int
kvm_enable_cap(int fd, unsigned cap, unsigned long arg)
{
	struct kvm_enable_cap e = {.cap = cap, .args = {arg}};

	return kvm_ioctl(fd, KVM_ENABLE_CAP, &e);
}

/* The group that may open it, as udev sets it up on most systems. */
static int
permission_error(struct err *err)
{
	struct stat st;
	char text[1024];
	struct group g, *found = NULL;

	if (stat(KVM_PATH, &st) == 0 && st.st_gid != 0 && (st.st_mode & 060) == 060 &&
	    getgrgid_r(st.st_gid, &g, text, sizeof(text), &found) == 0 && found != NULL)
		return err_set(err, EACCES,
			       KVM_PATH ": no permission (join the group %s: usermod -aG %s USER)",
			       found->gr_name, found->gr_name);
	return err_set(err, EACCES,
		       KVM_PATH
		       ": no permission, and it belongs to no group that has it (root: chgrp kvm " KVM_PATH
		       " && chmod 660 " KVM_PATH ", then join the group kvm)");
}

static int
open_error(struct err *err, int code)
{
	switch (code) {
	case EACCES:
	case EPERM:
		return permission_error(err);
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return err_set(err, code,
			       KVM_PATH
			       ": %s (is virtualization on in the firmware, and the module kvm_amd or "
			       "kvm_intel loaded?)",
			       strerror(code));
	case EMFILE:
	case ENFILE:
		return err_set(err, code, KVM_PATH ": %s (raise the limit of open files: ulimit -n)",
			       strerror(code));
	default:
		return err_set(err, code, KVM_PATH ": %s", strerror(code));
	}
}

/* Without these nothing here works; all have been there since Linux 5.10. */
static const struct {
	int cap;
	const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    {KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
};

static int
check(const struct kvm_dev *d, int cap)
{
	return kvm_ioctl_n(d->fd, KVM_CHECK_EXTENSION, (unsigned long)cap);
}

enum { X2APIC_API = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK };

static int
read_caps(struct kvm_dev *d, struct err *err)
{
	int version = kvm_ioctl_n(d->fd, KVM_GET_API_VERSION, 0);
	int bytes = kvm_ioctl_n(d->fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (version != KVM_API_VERSION)
		return err_set(err, ENOTSUP, KVM_PATH ": API version %d, not %d", version, KVM_API_VERSION);
	for (size_t n = 0; n < ARRAY_LEN(needed); n++) {
		if (check(d, needed[n].cap) <= 0)
			return err_set(err, ENOTSUP,
				       KVM_PATH ": this kernel's KVM lacks %s (Linux 5.10 has it)",
				       needed[n].name);
	}
	if (bytes < (int)sizeof(struct kvm_run))
		return err_set(err, ENOTSUP, KVM_PATH ": a vCPU's page of %d bytes", bytes);
	d->run_bytes = (size_t)bytes;
	d->slots = (unsigned)MAX(check(d, KVM_CAP_NR_MEMSLOTS), 32);
	d->sregs2 = check(d, KVM_CAP_SREGS2) > 0;
	d->xcrs = check(d, KVM_CAP_XCRS) > 0;
	d->payload = check(d, KVM_CAP_EXCEPTION_PAYLOAD) > 0;
	d->emulation_exit = check(d, KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0;
	d->enforce_pv = check(d, KVM_CAP_ENFORCE_PV_FEATURE_CPUID) > 0;
	d->pmu = (check(d, KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE) != 0;
	d->tsc_offset = check(d, KVM_CAP_VCPU_ATTRIBUTES) > 0;
	d->clock = check(d, KVM_CAP_ADJUST_CLOCK) > 0;
	d->irqchip = check(d, KVM_CAP_IRQCHIP) > 0 && check(d, KVM_CAP_SIGNAL_MSI) > 0 &&
		     check(d, KVM_CAP_IRQ_ROUTING) > 0 && check(d, KVM_CAP_MP_STATE) > 0 &&
		     (check(d, KVM_CAP_X2APIC_API) & X2APIC_API) == X2APIC_API;
	d->split = d->irqchip && check(d, KVM_CAP_SPLIT_IRQCHIP) > 0;
	d->pit = check(d, KVM_CAP_PIT2) > 0 && check(d, KVM_CAP_PIT_STATE2) > 0 &&
		 check(d, KVM_CAP_REINJECT_CONTROL) > 0;
	d->irqfd = check(d, KVM_CAP_IRQFD) > 0;
	d->quirks = (unsigned)MAX(check(d, KVM_CAP_DISABLE_QUIRKS2), 0);
	d->dirty_ring =
	    (unsigned)MAX(check(d, KVM_CAP_DIRTY_LOG_RING_ACQ_REL), 0) / sizeof(struct kvm_dirty_gfn);
	return 0;
}

int
kvm_dev_open(struct kvm_dev *d, struct err *err)
{
	int r;

	*d = (struct kvm_dev){.fd = open(KVM_PATH, O_RDWR | O_CLOEXEC)};
	if (d->fd < 0)
		return open_error(err, errno);
	r = read_caps(d, err);
	if (r != 0)
		kvm_dev_close(d);
	return r;
}

void
kvm_dev_close(struct kvm_dev *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

int
kvm_dev_create_vm(const struct kvm_dev *d, struct err *err)
{
	int fd = kvm_ioctl_n(d->fd, KVM_CREATE_VM, 0);

	switch (-fd) {
	case EMFILE:
	case ENFILE:
		return err_set(err, -fd, "kvm: no VM: %s (raise the limit of open files: ulimit -n)",
			       strerror(-fd));
	case EBUSY:
		return err_set(err, EBUSY,
			       "kvm: no VM: the processor's virtualization is in use (another hypervisor "
			       "is running)");
	default:
		break;
	}
	return fd >= 0 ? fd : err_set(err, -fd, "kvm: no VM: %s", strerror(-fd));
}

/* ---- what it offers ---- */

enum { CPUID_ENTRIES = 256 };

static pthread_once_t supported_once = PTHREAD_ONCE_INIT;
static struct kvm_cpuid2 *supported;

static void
read_supported(void)
{
	int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);

	supported = calloc(1, sizeof(*supported) + CPUID_ENTRIES * sizeof(supported->entries[0]));
	if (supported != NULL)
		supported->nent = CPUID_ENTRIES;
	if (supported != NULL && (fd < 0 || kvm_ioctl(fd, KVM_GET_SUPPORTED_CPUID, supported) != 0)) {
		free(supported);
		supported = NULL;
	}
	if (fd >= 0)
		close(fd);
}

const struct kvm_cpuid2 *
kvm_supported_cpuid(void)
{
	pthread_once(&supported_once, read_supported);
	return supported;
}
