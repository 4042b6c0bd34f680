/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's TSC: whether the VM clock may be built on it, and its frequency. Any thread. */
#ifndef LHYVE_BASE_TSC_HOST_H
#define LHYVE_BASE_TSC_HOST_H

#include <stdbool.h>
#include <stdint.h>

/* One rate in all power states, on all processors: by CPUID, or the host kernel keeps time by it. */
bool tsc_host_usable(void);

/*
 * Frequency in kHz, the best source that can be had: the host kernel's own figure
 * (perf_event mmap page, then KVM_GET_TSC_KHZ), CPUID 0x15, else a calibration of
 * about 10 ms. Found once a process; never 0.
 */
uint64_t tsc_host_khz(void);

/* What KVM said (KVM_GET_TSC_KHZ of a VM, or an error) to somebody who had a VM: it need not be asked again.
 */
void tsc_host_told(int khz);

static inline uint64_t
tsc_host_read(void)
{
	return __builtin_ia32_rdtsc();
}

#endif
