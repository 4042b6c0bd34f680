/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's TSC (SDM vol. 3B 18.17; perf_event_open(2), cap_user_time). No state but
 * the frequency, found once under pthread_once, and what KVM said of it.
 */
#include "base/tsc_host.h"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

#define CALIBRATE_NS	 10000000ull
#define CALIBRATE_ROUNDS 16
#define KHZ_MIN		 100000ull /* 100 MHz .. 20 GHz: anything else is no answer */
#define KHZ_MAX		 20000000ull

static bool
cpuid_invariant_tsc(void)
{
	unsigned a, b, c, d;

	/* CPUID 0x80000007 EDX[8] */
	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8)) != 0;
}

/* Hypervisors often hide the invariant bit; a kernel that keeps its own time by the TSC has judged it good.
 */
static bool
kernel_uses_tsc(void)
{
	char name[16] = {0};
	int fd =
	    open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, name, sizeof(name) - 1);
	close(fd);
	return n >= 3 && strncmp(name, "tsc", 3) == 0 && (name[3] == '\n' || name[3] == '\0');
}

bool
tsc_host_usable(void)
{
	return cpuid_invariant_tsc() || kernel_uses_tsc();
}

/* The kernel's cycles-to-ns factor: ns = cycles * time_mult >> time_shift. Of an event of a task or of a CPU.
 */
static uint64_t
khz_from_perf(pid_t task, int cpu)
{
	struct perf_event_attr attr = {
	    .type = PERF_TYPE_SOFTWARE,
	    .size = sizeof(attr),
	    .config = PERF_COUNT_SW_DUMMY,
	    .exclude_kernel = 1,
	    .exclude_hv = 1,
	};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const struct perf_event_mmap_page *m;
	uint64_t khz = 0;
	int fd = (int)syscall(SYS_perf_event_open, &attr, task, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return 0;
	m = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	if (m != MAP_FAILED) {
		if (m->cap_user_time && m->time_mult != 0 && m->time_shift < 64) {
			unsigned __int128 num = (unsigned __int128)1000000 << m->time_shift;

			khz = (uint64_t)((num + m->time_mult / 2) / m->time_mult);
		}
		munmap((void *)(uintptr_t)m, page);
	}
	close(fd);
	return khz;
}

/* For who has CAP_PERFMON. */
static uint64_t
khz_from_cpu_event(void)
{
	return khz_from_perf(-1, 0);
}

/* For all others. The first such event of a host makes the kernel wait for all its processors: 5 to 20 ms. */
static uint64_t
khz_from_task_event(void)
{
	return khz_from_perf(0, -1);
}

static _Atomic int told_khz; /* by KVM, when it was asked elsewhere */

void
tsc_host_told(int khz)
{
	if (khz > 0)
		atomic_store(&told_khz, khz);
}

/* A VM that no vCPU runs in: KVM tells the rate that it would give it, the host's (KVM_CAP_VM_TSC_CONTROL).
 */
static uint64_t
khz_from_kvm(void)
{
	int fd, vm, khz = atomic_load(&told_khz);

	if (khz > 0)
		return (uint64_t)khz;
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0;
	vm = ioctl(fd, KVM_CREATE_VM, 0);
	if (vm >= 0) {
		khz = ioctl(vm, KVM_GET_TSC_KHZ, 0);
		close(vm);
	}
	close(fd);
	return khz > 0 ? (uint64_t)khz : 0;
}

/* CPUID 0x15: TSC = crystal (ECX) * EBX / EAX. Only where the crystal is stated. */
static uint64_t
khz_from_cpuid(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid_count(0x15, 0, &a, &b, &c, &d) || a == 0 || b == 0 || c == 0)
		return 0;
	return mul_div_u64(c, b, a) / 1000;
}

/* One pair of readings; the narrowest of some rounds, so that a preemption between the two does not count. */
static void
read_pair(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < CALIBRATE_ROUNDS; i++) {
		struct timespec ts;
		uint64_t t0 = tsc_host_read(), t1;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		t1 = tsc_host_read();
		if (t1 - t0 < best) {
			best = t1 - t0;
			*tsc = t0 + (t1 - t0) / 2;
			*ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
		}
	}
}

static uint64_t
khz_calibrate(void)
{
	uint64_t t0 = 0, t1 = 0, n0 = 0, n1 = 0;
	const struct timespec pause = {.tv_nsec = (long)CALIBRATE_NS};

	read_pair(&t0, &n0);
	nanosleep(&pause, NULL);
	do
		read_pair(&t1, &n1);
	while (n1 - n0 < CALIBRATE_NS);
	return mul_div_u64(t1 - t0, 1000000, n1 - n0);
}

static pthread_once_t khz_once = PTHREAD_ONCE_INIT;
static uint64_t khz_found;

static void
find_khz(void)
{
	static uint64_t (*const source[])(void) = {khz_from_cpu_event, khz_from_kvm, khz_from_cpuid,
						   khz_from_task_event, khz_calibrate};

	for (size_t i = 0; i < ARRAY_LEN(source); i++) {
		khz_found = source[i]();
		if (khz_found >= KHZ_MIN && khz_found <= KHZ_MAX)
			return;
	}
	khz_found = 1000000;
}

uint64_t
tsc_host_khz(void)
{
	pthread_once(&khz_once, find_khz);
	return khz_found;
}
