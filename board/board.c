/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a PC: memory, processors and devices made in order, firmware tables and a
 * kernel put in place, then one run. The thread inside board_run() is the event loop's.
 *
 * Lock: `end_lock` guards how the run ended; nothing is taken under it. Everything else
 * is set up before any other thread starts and taken down after all have gone.
 */
#include "board/board.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/evloop.h"
#include "base/util.h"
#include "base/vmclock.h"
#include "board/acpi.h"
#include "board/internal.h"
#include "board/loader.h"
#include "dev/bus.h"
#include "dev/chipset/acpipm.h"
#include "mem/gpmap.h"
#include "vmmapi/x86_64/lhyve.h"
#include "x86/state.h"

enum { PIO_LIMIT = 0x10000, CPUID_ADDRESS_SIZES = 0x80000008u, PHYS_BITS_DEFAULT = 36, PHYS_BITS_MAX = 52 };

/* ---- processors' identity ---- */

/* Features that the configuration asks for: the engine adds what the host has not, or it cannot be. */
static int
add_features(struct board *b, struct err *err)
{
	const struct {
		bool wanted;
		uint32_t bit; /* of leaf 7's ECX */
		const char *key;
	} row[] = {
	    {b->cfg.la57, VM_FEATURE_LA57, "x86.la57"},
	    {b->cfg.pku, VM_FEATURE_PKU, "x86.pku"},
	    {b->cfg.pks, VM_FEATURE_PKS, "x86.pks"},
	};
	uint32_t wanted = 0, out[4];
	int ret = 0;

	for (size_t i = 0; i < ARRAY_LEN(row); i++)
		wanted |= row[i].wanted ? row[i].bit : 0;
	if (wanted != 0)
		ret = vmctx_add_features(b->vm, wanted, err);
	if (ret != 0)
		return ret;
	x86_cpuid_query(b->cpuid, 7, 0, out);
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		if (row[i].wanted && (out[2] & row[i].bit) == 0)
			return err_set(err, ENOTSUP,
				       "%s: not with this host's processor and engine %s (use engine=soft)",
				       row[i].key, vm_get_engine(b->vm));
	}
	return 0;
}

static int
probe_cpuid(struct board *b, struct err *err)
{
	uint32_t out[4];
	int ret;

	b->cpuid = vmctx_cpuid(b->vm, err);
	if (b->cpuid == NULL)
		return -err->code;
	ret = add_features(b, err);
	if (ret != 0)
		return ret;
	x86_cpuid_query(b->cpuid, CPUID_ADDRESS_SIZES, 0, out);
	b->phys_bits = out[0] & 0xff;
	if (b->phys_bits < PHYS_BITS_DEFAULT || b->phys_bits > PHYS_BITS_MAX)
		b->phys_bits = PHYS_BITS_DEFAULT;
	x86_cpuid_query(b->cpuid, 1, 0, out);
	b->machine.cpu_signature = out[0];
	b->machine.cpu_features = out[3];
	return 0;
}

static int
make_apic_ids(struct board *b, struct err *err)
{
	unsigned cpus = b->machine.topo.cpus;

	b->apic_ids = calloc(cpus, sizeof(*b->apic_ids));
	if (b->apic_ids == NULL)
		return err_set(err, ENOMEM, "board: no memory");
	for (unsigned i = 0; i < cpus; i++) {
		b->apic_ids[i] = x86_apic_id(&b->machine.topo, i);
		if (b->apic_ids[i] > 254 && !b->cfg.x2apic)
			return err_set(err, EINVAL,
				       "cpu.count: processor %u has APIC id %u, beyond an xAPIC's 254 (use "
				       "x86.x2apic=true)",
				       i, b->apic_ids[i]);
	}
	b->machine.apic_ids = b->apic_ids;
	return 0;
}

/* ---- memory ---- */

/* What the library said, as an error of the board's. */
static int
vm_failed(struct board *b, struct err *err)
{
	struct vm_error why;

	vm_get_error(b->vm, &why);
	return err_set(err, why.code, "%s", why.text);
}

static int
make_memory(struct board *b, struct err *err)
{
	const int ram = VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXEC, rom = VM_PROT_READ | VM_PROT_EXEC;
	const struct {
		uint64_t gpa, end, off;
		int prot;
	} part[] = {
	    {0, MACHINE_VGA_BASE, 0, ram},
	    {MACHINE_ROM_BASE, MACHINE_HIGH_BASE, MACHINE_ROM_BASE, rom},
	    {MACHINE_HIGH_BASE, b->machine.low_ram, MACHINE_HIGH_BASE, ram},
	    {MACHINE_HIGH_RAM_BASE, MACHINE_HIGH_RAM_BASE + b->machine.high_ram, b->machine.low_ram, ram},
	};

	if (vm_setup_memory(b->vm, b->cfg.memory_bytes, VM_MMAP_NONE) != 0)
		return vm_failed(b, err);
	for (size_t i = 0; i < ARRAY_LEN(part); i++) {
		if (part[i].end > part[i].gpa && vm_mmap_memseg(b->vm, part[i].gpa, VM_SYSMEM, part[i].off,
								part[i].end - part[i].gpa, part[i].prot) != 0)
			return vm_failed(b, err);
	}
	return 0;
}

/* ---- tables and kernel ---- */

static int
load_kernel(struct board *b, const struct acpi_image *acpi, struct x86_state *bsp, struct err *err)
{
	struct boot_request r = {
	    .mem = b->mem,
	    .rsdp_gpa = acpi != NULL ? MACHINE_TABLES_BASE : 0,
	    .kernel = b->cfg.boot.kernel,
	    .initrd = b->cfg.boot.initrd,
	    .cmdline = b->cfg.boot.cmdline,
	    .module = b->cfg.boot.module,
	    .modules = b->cfg.boot.modules,
	};
	struct e820 map;

	machine_e820(&b->machine, acpi, &map);
	r.map = &map;
	return boot_load(&r, bsp, err);
}

static int
load_memory(struct board *b, struct x86_state *bsp, struct err *err)
{
	struct acpi_image image, *acpi = NULL;
	int ret;

	if (b->cfg.acpi_tables) {
		ret = acpi_build(&image, &b->machine, b->machine.low_ram, err);
		if (ret != 0)
			return ret;
		acpi = &image;
		b->sleep.facs_gpa = image.facs_gpa;
	}
	if (acpi != NULL && (acpi->gpa > b->machine.low_ram || acpi->gpa < MACHINE_HIGH_BASE))
		ret = err_set(err, EINVAL, "memory.size: no room for the firmware's tables (give more)");
	else
		ret = board_firmware_memory(b, acpi, err);
	if (ret == 0)
		ret = load_kernel(b, acpi, bsp, err);
	if (acpi != NULL)
		acpi_free(acpi);
	return ret;
}

/* ---- processors ---- */

/*
 * CPUID 0x15 and 0x16: the TSC as a ratio of the local APIC timer's clock, so that nobody has to measure it
 * against the PIT, which fails on a busy host. Linux multiplies the crystal in kHz by the numerator in 32
 * bits, which bounds it: take the best fraction below that, off by less than one in a million.
 */
static void
add_clock_leaves(struct board *b, struct x86_cpuid *t)
{
	const uint32_t crystal_khz = LAPIC_TIMER_HZ / 1000, max = UINT32_MAX / crystal_khz;
	uint64_t tsc_khz = vm_clock_tsc_khz(b->clock), best = UINT64_MAX;
	struct x86_cpuid_leaf *basic = x86_cpuid_find(t, 0, 0, false);
	struct x86_cpuid_leaf *ratio = x86_cpuid_find(t, 0x15, 0, true),
			      *mhz = x86_cpuid_find(t, 0x16, 0, true);

	if (basic == NULL || ratio == NULL || mhz == NULL)
		return;
	basic->eax = MAX(basic->eax, 0x16u);
	ratio->ecx = LAPIC_TIMER_HZ;
	for (uint32_t den = 1; den <= max; den++) {
		uint64_t num = (tsc_khz * den + crystal_khz / 2) / crystal_khz, is, off;

		if (num == 0 || num > max)
			continue;
		is = num * crystal_khz / den;
		off = is > tsc_khz ? is - tsc_khz : tsc_khz - is;
		if (off < best) {
			best = off;
			ratio->eax = den;
			ratio->ebx = (uint32_t)num;
		}
	}
	mhz->eax = mhz->ebx = (uint32_t)(tsc_khz / 1000);
	mhz->ecx = 100;
}

static void
finish_cpuid(void *ctx, unsigned cpu, struct x86_cpuid *t)
{
	struct board *b = ctx;

	x86_cpuid_finish(t, &b->machine.topo, cpu, b->cfg.x2apic);
	add_clock_leaves(b, t);
}

static int
make_cpus(struct board *b, const struct x86_state *bsp, struct err *err)
{
	struct x86_state ap;
	int ret = 0;

	x86_state_reset(&ap);
	board_firmware_state(b, &ap);
	ap.activity = ACT_WAIT_SIPI;
	for (unsigned i = 0; i < b->machine.topo.cpus && ret == 0; i++)
		ret = cpus_add(b->cpus, i, i == 0 ? bsp : &ap, err);
	return ret;
}

static int
make_vm(struct board *b, struct err *err)
{
	const struct x86_topology *t = &b->machine.topo;
	const struct vm_tuning tuning = {
	    .strict_msr = b->cfg.strict_msr,
	    .pmu = b->cfg.pmu,
	    .vmware_backdoors = b->cfg.vmware_backdoors,
	    .pit_discard = b->cfg.pit_discard,
	    .trace = b->cfg.trace,
	    .soft_verify = b->cfg.soft_verify,
	    .soft_profile = b->cfg.stats,
	    .soft_perf_map = b->cfg.soft_perf_map,
	    .soft_symbols = b->cfg.soft_symbols,
	    .soft_interpret = b->cfg.soft_interpret,
	    .soft_code_cache = b->cfg.soft_code_cache,
	    .clock_stands = true,
	    .tidies = true,
	};
	struct vm_error why;

	b->vm = vm_create(b->cfg.name, b->cfg.engine, 0, &why);
	if (b->vm == NULL)
		return err_set(err, why.code, "%s", why.text);
	b->clock = vmctx_clock(b->vm);
	b->mem = vmctx_gpmap(b->vm);
	vmctx_set_tuning(b->vm, &tuning);
	if (vm_set_topology(b->vm, (uint16_t)t->sockets, (uint16_t)t->cores, (uint16_t)t->threads,
			    (uint16_t)t->maxcpus) != 0)
		return vm_failed(b, err);
	return vmctx_set_cpuid(b->vm, finish_cpuid, b, err);
}

/* ---- life ---- */

#define HALT_LOOK_NS NSEC_PER_SEC

static void
look_for_halt(void *arg)
{
	struct board *b = arg;

	cpus_look_for_halt(b->cpus);
	vm_timer_set(&b->halt_timer, vm_clock_now_ns(b->clock) + HALT_LOOK_NS);
}

static void
on_guest_end(void *ctx, enum board_end end)
{
	board_end_now(ctx, end);
}

static int
make_base(struct board *b, struct err *err)
{
	b->loop = evloop_create(err);
	if (b->loop == NULL)
		return -err->code;
	b->pio = io_bus_create("port", PIO_LIMIT, err);
	if (b->pio == NULL)
		return -err->code;
	b->mmio = io_bus_create("memory", BIT(b->phys_bits), err);
	if (b->mmio == NULL)
		return -err->code;
	if (board_sleep_init(b, err) != 0)
		return -err->code;
	return board_call_init(b, err);
}

static int
settle_apic(struct board *b, struct err *err)
{
	/* Messages that the remapping unit changes cannot be routes of KVM's. */
	if (b->cfg.vtd && (b->cfg.apic == VM_APIC_SPLIT || b->cfg.apic == VM_APIC_KERNEL))
		return err_set(err, ENOTSUP, "x86.apic: only user goes with x86.vtd");
	b->apic = b->cfg.vtd ? VM_APIC_USER : b->cfg.apic;
	board_remote_init(b);
	return vmctx_settle_apic(b->vm, &b->apic, err);
}

static int
make_cpu_set(struct board *b, struct err *err)
{
	const struct cpus_cfg c = {
	    .vm = b->vm,
	    .remote_apics = b->apic != VM_APIC_USER,
	    .count = b->machine.topo.cpus,
	    .pio = b->pio,
	    .mmio = b->mmio,
	    .ended = on_guest_end,
	    .ctx = b,
	};

	b->cpus = cpus_create(&c, err);
	return b->cpus != NULL ? 0 : -err->code;
}

/* What takes a while and is not waited for: the TSC's rate, which nothing needs before the processors are
 * made. */
static void *
find_tsc_rate(void *clock)
{
	(void)vm_clock_tsc_khz(clock);
	return NULL;
}

static int
build(struct board *b, struct err *err)
{
	struct x86_state bsp;
	pthread_t finder;
	bool finding;
	int ret;

	ret = make_vm(b, err);
	if (ret == 0)
		ret = probe_cpuid(b, err);
	finding = ret == 0 && pthread_create(&finder, NULL, find_tsc_rate, b->clock) == 0;
	if (ret == 0)
		ret = machine_layout(&b->machine, b->cfg.memory_bytes, b->phys_bits, err);
	if (ret == 0)
		ret = make_apic_ids(b, err);
	if (ret == 0)
		ret = make_base(b, err);
	if (ret == 0)
		ret = make_memory(b, err);
	if (ret == 0)
		ret = settle_apic(b, err);
	if (ret == 0)
		ret = make_cpu_set(b, err);
	if (ret == 0)
		ret = board_make_devices(b, err);
	if (ret == 0)
		board_firmware_devices(b);
	x86_state_reset(&bsp);
	board_firmware_state(b, &bsp);
	if (ret == 0)
		ret = load_memory(b, &bsp, err);
	if (ret == 0)
		ret = make_cpus(b, &bsp, err);
	if (ret == 0)
		ret = vm_clock_attach(b->clock, b->loop, err);
	if (ret == 0)
		vm_timer_init(&b->halt_timer, b->clock, look_for_halt, b);
	if (finding)
		pthread_join(finder, NULL);
	return ret;
}

struct board *
board_create(const struct board_cfg *cfg, struct err *err)
{
	struct board *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		err_set(err, ENOMEM, "board: no memory");
		return NULL;
	}
	b->cfg = *cfg;
	b->machine.name = cfg->name;
	b->machine.uuid = cfg->uuid;
	b->machine.topo = cfg->topo;
	b->end = BOARD_ERROR;
	b->sleep.fd = b->call.fd = -1;
	pthread_mutex_init(&b->call.callers, NULL);
	pthread_mutex_init(&b->call.lock, NULL);
	pthread_cond_init(&b->call.done, NULL);
	pthread_mutex_init(&b->end_lock, NULL);
	if (build(b, err) == 0)
		return b;
	board_destroy(b);
	return NULL;
}

static void
print_counter(void *arg, const char *who, const char *name, uint64_t value)
{
	(void)arg;
	if (value != 0)
		fprintf(stderr, "lhyve: %s.%s %llu\n", who, name, (unsigned long long)value);
}

enum board_end
board_run(struct board *b)
{
	struct err err = {0};
	enum board_end end;
	int ret = board_start_devices(b, &err);

	if (ret == 0) {
		vm_clock_start(b->clock);
		ret = cpus_start(b->cpus, &err);
	}
	if (ret == 0) {
		b->started = true;
		vmctx_tidy(b->vm);
		if (b->apic != VM_APIC_USER)
			look_for_halt(b);
		evloop_run(b->loop);
		vm_timer_cancel_sync(&b->halt_timer);
	}
	board_call_close(b);
	cpus_stop(b->cpus);
	vm_clock_stop(b->clock);
	board_stop_devices(b);
	if (ret != 0)
		fprintf(stderr, "lhyve: %s\n", err.msg);
	if (b->cfg.stats)
		board_get_stats(b, print_counter, NULL);
	pthread_mutex_lock(&b->end_lock);
	end = ret != 0 ? BOARD_ERROR : b->end;
	pthread_mutex_unlock(&b->end_lock);
	return end;
}

/* The first end counts. */
void
board_end_with(struct board *b, enum board_end end, unsigned status)
{
	pthread_mutex_lock(&b->end_lock);
	if (!b->ended) {
		b->ended = true;
		b->end = end;
		b->exit_status = status;
	}
	pthread_mutex_unlock(&b->end_lock);
	cpus_request_stop(b->cpus);
	evloop_stop(b->loop);
}

void
board_end_now(struct board *b, enum board_end end)
{
	board_end_with(b, end, 0);
}

unsigned
board_exit_status(struct board *b)
{
	unsigned status;

	pthread_mutex_lock(&b->end_lock);
	status = b->exit_status;
	pthread_mutex_unlock(&b->end_lock);
	return status;
}

const char *
board_engine(const struct board *b)
{
	return vm_get_engine(b->vm);
}

void
board_power_button(struct board *b)
{
	acpipm_power_button(b->acpipm);
}

void
board_nmi(struct board *b, unsigned cpu)
{
	cpus_nmi(b->cpus, cpu);
}

void
board_destroy(struct board *b)
{
	if (b == NULL)
		return;
	cpus_destroy(b->cpus);
	board_destroy_devices(b);
	io_bus_destroy(b->pio);
	io_bus_destroy(b->mmio);
	vm_destroy(b->vm);
	board_sleep_destroy(b);
	board_call_destroy(b);
	evloop_destroy(b->loop);
	pthread_mutex_destroy(&b->end_lock);
	free(b->apic_ids);
	free(b);
}
