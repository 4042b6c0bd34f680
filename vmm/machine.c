/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys that depend on one another are checked here, where the board's configuration is made of them. */
#include "vmm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/devices.h"

static unsigned
cpu_part(const struct config *c, const char *key)
{
	return config_is_set(c, key) ? (unsigned)config_uint(c, key) : 0;
}

int
machine_topology(const struct config *c, struct x86_topology *t, struct err *err)
{
	unsigned cpus = cpu_part(c, "cpu.count"), s = cpu_part(c, "cpu.sockets"),
		 k = cpu_part(c, "cpu.cores");
	unsigned h = cpu_part(c, "cpu.threads"), max = cpu_part(c, "cpu.maxcpus");
	uint64_t given = (uint64_t)MAX(s, 1u) * MAX(k, 1u) * MAX(h, 1u);
	bool all = s != 0 && k != 0 && h != 0;

	if (cpus == 0) {
		if (given > 1024)
			return err_set(err, ERANGE,
				       "cpu: %u sockets * %u cores * %u threads = %llu CPUs (at most 1024)",
				       MAX(s, 1u), MAX(k, 1u), MAX(h, 1u), (unsigned long long)given);
		cpus = (unsigned)given;
	}
	if (all ? given != cpus : cpus % given != 0)
		return err_set(err, EINVAL,
			       "cpu: %u sockets * %u cores * %u threads = %llu, and %u CPUs are no multiple "
			       "of it (change cpu.count, "
			       "or leave one part out)",
			       MAX(s, 1u), MAX(k, 1u), MAX(h, 1u), (unsigned long long)given, cpus);
	/* What is left goes to the first part that was not given: cores, then sockets, then threads. */
	if (k == 0)
		k = (unsigned)(cpus / given);
	else if (s == 0)
		s = (unsigned)(cpus / given);
	else if (h == 0)
		h = (unsigned)(cpus / given);
	*t = (struct x86_topology){.cpus = cpus,
				   .sockets = MAX(s, 1u),
				   .cores = k,
				   .threads = MAX(h, 1u),
				   .maxcpus = max != 0 ? max : cpus};
	if (t->maxcpus < cpus)
		return err_set(err, EINVAL, "cpu.maxcpus: %u is below cpu.count %u", t->maxcpus, cpus);
	if (t->maxcpus > cpus)
		return err_set(err, ENOTSUP,
			       "cpu.maxcpus: %u: not there yet (this version adds no CPUs while running)",
			       t->maxcpus);
	return 0;
}

/* Where configuration keys with numbers in their names end up. */
struct fill {
	struct board_cfg *b;
	struct err *err;
};

/* Modules come in order of their numbers; their keys come in order of letters. */
static int
add_module(void *arg, const char *name, const char *value)
{
	const struct fill *to = arg;
	struct board_module *m = to->b->boot.module;
	unsigned number, at = to->b->boot.modules;

	LH_ASSERT(sscanf(name, "boot.module.%u", &number) == 1);
	if (at == BOARD_MODULES)
		return err_set(to->err, E2BIG, "%s: more than %d modules", name, BOARD_MODULES);
	for (; at > 0 && m[at - 1].number > number; at--)
		m[at] = m[at - 1];
	if (at > 0 && m[at - 1].number == number)
		return err_set(to->err, EEXIST, "%s: this number is taken (leading zeroes do not count)",
			       name);
	m[at] = (struct board_module){.number = number, .path = value};
	to->b->boot.modules++;
	return 0;
}

static int
add_module_text(void *arg, const char *name, const char *value)
{
	const struct fill *to = arg;
	unsigned number;

	LH_ASSERT(sscanf(name, "boot.module.%u", &number) == 1);
	for (unsigned i = 0; i < to->b->boot.modules; i++) {
		if (to->b->boot.module[i].number == number) {
			to->b->boot.module[i].cmdline = value;
			return 0;
		}
	}
	return err_set(to->err, EINVAL, "%s: there is no such module (set boot.module.%u.path)", name,
		       number);
}

static int
set_numbered(const struct config *c, struct board_cfg *b, struct err *err)
{
	struct fill to = {b, err};
	int r = config_each_of(c, "boot.module.*.path", add_module, &to);

	return r != 0 ? r : config_each_of(c, "boot.module.*.cmdline", add_module_text, &to);
}

static int
set_com(const struct config *c, unsigned i, struct board_cfg *b, struct err *err)
{
	char key[] = "lpc.com1.path";
	const char *path;

	key[7] = (char)('1' + i);
	path = config_get(c, key);
	if (path == NULL)
		return 0; /* CONSOLE_NONE */
	for (unsigned j = 0; j < i; j++)
		if (b->com[j].path != NULL && strcmp(b->com[j].path, path) == 0)
			return err_set(err, EINVAL, "%s: %s serves com%u already (one port a terminal)", key,
				       path, j + 1);
	b->com[i].path = path;
	b->com[i].kind = CONSOLE_PATH;
	if (strcmp(path, "stdio") == 0) {
		b->com[i].kind = CONSOLE_STDIO;
	} else if (strncmp(path, "tcp=", 4) == 0) {
		b->com[i].kind = CONSOLE_TCP;
		b->com[i].path = path + 4;
	}
	return 0;
}

static enum vm_apic
apic_kind(const char *word)
{
	return strcmp(word, "user") == 0     ? VM_APIC_USER
	       : strcmp(word, "split") == 0  ? VM_APIC_SPLIT
	       : strcmp(word, "kernel") == 0 ? VM_APIC_KERNEL
					     : VM_APIC_AUTO;
}

int
machine_board_cfg(const struct config *c, struct board_cfg *b, struct err *err)
{
	int r;

	*b = (struct board_cfg){
	    .name = config_get(c, "name"),
	    .engine = config_get(c, "engine"),
	    .apic = apic_kind(config_get(c, "x86.apic")),
	    .memory_bytes = config_uint(c, "memory.size"),
	    .boot = {.kernel = config_get(c, "boot.kernel"),
		     .initrd = config_get(c, "boot.initrd"),
		     .cmdline = config_get(c, "boot.cmdline")},
	    .option = devices_option,
	    .option_ctx = (void *)c,
	    .virtio_msix = config_bool(c, "virtio_msix"),
	    .pc_testdev = config_bool(c, "lpc.pc-testdev"),
	    .fwcfg = config_is_set(c, "lpc.fwcfg"),
	    .x2apic = config_bool(c, "x86.x2apic"),
	    .hpet = config_bool(c, "x86.hpet"),
	    .pit_discard = !config_bool(c, "x86.pit_reinject"),
	    .vtd = config_bool(c, "x86.vtd"),
	    .pku = config_bool(c, "x86.pku"),
	    .pks = config_bool(c, "x86.pks"),
	    .la57 = config_bool(c, "x86.la57"),
	    .mptable = config_bool(c, "x86.mptable"),
	    .strict_msr = config_bool(c, "x86.strictmsr"),
	    .pmu = config_bool(c, "x86.pmu"),
	    .vmware_backdoors = config_bool(c, "x86.vmware_backdoors"),
	    .acpi_tables = config_bool(c, "acpi_tables"),
	    .rtc_localtime = config_bool(c, "rtc.use_localtime"),
	    .uuid = config_get(c, "uuid"),
	    .soft_verify = config_bool(c, "soft.verify"),
	    .soft_perf_map = config_bool(c, "debug.perf_map"),
	    .soft_symbols = config_get(c, "debug.symbols"),
	    .soft_interpret = !config_bool(c, "soft.translate"),
	    .soft_code_cache = config_uint(c, "soft.code_cache"),
	    .trace = {.path = config_get(c, "debug.trace"),
		      .binary = strcmp(config_get(c, "debug.trace_format"), "binary") == 0,
		      .translated = config_bool(c, "debug.trace_translated"),
		      .vcpu = (unsigned)config_uint(c, "debug.trace_vcpu"),
		      .start = config_uint(c, "debug.trace_start"),
		      .count = config_uint(c, "debug.trace_count")},
	    .stats = config_bool(c, "debug.stats"),
	};
	if (b->name == NULL)
		return err_set(err, EINVAL, "name: missing (lhyve [options] name)");
	if (b->boot.kernel == NULL)
		return err_set(err, EINVAL, "boot.kernel: missing (-o boot.kernel=FILE, a kernel)");
	if (b->memory_bytes % 4096 != 0)
		return err_set(err, EINVAL, "memory.size: %llu bytes are no multiple of 4096",
			       (unsigned long long)b->memory_bytes);
	r = machine_topology(c, &b->topo, err);
	for (unsigned i = 0; i < ARRAY_LEN(b->com) && r == 0; i++)
		r = set_com(c, i, b, err);
	if (r == 0)
		r = set_numbered(c, b, err);
	if (r == 0)
		r = devices_list(c, (struct board_pci **)&b->pci, &b->pcis, err);
	return r;
}

void
machine_board_cfg_free(struct board_cfg *b)
{
	free((void *)b->pci);
	b->pci = NULL;
}
