/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's /dev/kvm: opening it, and what it can do. Private to engine/kvm. One thread an object. */
#ifndef LHYVE_KVM_DEV_H
#define LHYVE_KVM_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/kvm.h>
#include "base/err.h"

struct kvm_dev {
	int fd;
	size_t run_bytes; /* of a vCPU's shared page */
	unsigned slots;	  /* memory slots of a VM */
	bool sregs2, xcrs, payload, emulation_exit, enforce_pv, pmu, tsc_offset;
	bool clock;	     /* KVM_SET_CLOCK */
	bool irqchip, split; /* controllers in the kernel; the local APICs only */
	bool pit;	     /* an 8254 in the kernel, with all of its state */
	bool irqfd;
	unsigned quirks;     /* that can be switched off */
	unsigned dirty_ring; /* most entries of a ring; 0: no rings */
};

/* 0, or -errno: the message says what is missing and who can help. */
LH_MUST_CHECK int kvm_dev_open(struct kvm_dev *d, struct err *err);
void kvm_dev_close(struct kvm_dev *d);

/* KVM_GET_SUPPORTED_CPUID, which takes half a millisecond on some hosts: asked once a process. NULL: it
 * failed. */
const struct kvm_cpuid2 *kvm_supported_cpuid(void);

/* ioctl() that goes on after a signal. */
int kvm_ioctl(int fd, unsigned long request, void *arg);
/* The same for an argument that is a plain number. */
int kvm_ioctl_n(int fd, unsigned long request, unsigned long arg);
/* KVM_CREATE_VM; the descriptor, or -errno. */
LH_MUST_CHECK int kvm_dev_create_vm(const struct kvm_dev *d, struct err *err);
LH_MUST_CHECK int kvm_enable_cap(int fd, unsigned cap, unsigned long arg);

#endif
