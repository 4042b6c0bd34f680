/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bhyve(8)'s option letters. Each is one row: what it takes and which keys it writes; a feature that is not
 * there yet is refused by the schema's row of its key, so no option is ever ignored.
 */
#include "vmm/options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "dev/pci/model.h"
#include "vmm/config.h"
#include "vmm/devices.h"

struct option {
	char letter;
	const char *arg;   /* its name in the usage, or NULL */
	const char *key;   /* written by the default handler */
	const char *value; /* written when there is no argument */
	int (*set)(struct config *c, const char *where, char *arg, struct err *err); /* or NULL: key=value */
	const char *help;
};

/* -c 4  |  -c [cpus=]n[,sockets=n][,cores=n][,threads=n][,maxcpus=n] */
static int
set_cpus(struct config *c, const char *where, char *arg, struct err *err)
{
	static const char *const parts[] = {"cpus", "sockets", "cores", "threads", "maxcpus"};
	char *save = NULL;
	int r = 0;

	if (*arg == '\0')
		return err_set(err, EINVAL, "%s: empty (a number of CPUs)", where);
	for (char *part = strtok_r(arg, ",", &save); part != NULL && r == 0;
	     part = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(part, '=');
		unsigned i = 0;

		if (eq == NULL) {
			r = config_set(c, where, "cpus", part, err);
			continue;
		}
		*eq = '\0';
		while (i < ARRAY_LEN(parts) && strcmp(parts[i], part) != 0)
			i++;
		if (i == ARRAY_LEN(parts))
			return err_set(err, EINVAL,
				       "%s: no such part '%s' (cpus, sockets, cores, threads, maxcpus)",
				       where, part);
		r = config_set(c, where, part, eq + 1, err);
	}
	return r;
}

/* The three numbers of [[bus:]slot[:function]]; bhyve's order. */
static bool
parse_slot(const char *text, unsigned out[3])
{
	static const unsigned limits[3] = {256, 32, 8};
	unsigned n = 0, v[3];
	const char *p = text;

	for (;;) {
		char *end;
		unsigned long x;

		if (n == 3 || *p < '0' || *p > '9')
			return false;
		x = strtoul(p, &end, 10);
		v[n++] = (unsigned)MIN(x, 1000ul);
		if (*end == '\0')
			break;
		if (*end != ':')
			return false;
		p = end + 1;
	}
	out[0] = n == 3 ? v[0] : 0;
	out[1] = n == 3 ? v[1] : v[0];
	out[2] = n == 3 ? v[2] : n == 2 ? v[1] : 0;
	return out[0] < limits[0] && out[1] < limits[1] && out[2] < limits[2];
}

/* -s slot,device[,options] */
static int
set_slot(struct config *c, const char *where, char *arg, struct err *err)
{
	char key[64], slot[32], *device = strchr(arg, ','), *options;
	unsigned bsf[3];
	int r;

	if (device == NULL)
		return err_set(err, EINVAL, "%s: no device (-s bus:slot:function,device; -s help lists them)",
			       where);
	*device++ = '\0';
	options = strchr(device, ',');
	if (options != NULL)
		*options++ = '\0';
	if (!parse_slot(arg, bsf))
		return err_set(err, EINVAL, "%s: '%s' is no slot ([bus:]slot[:function], up to 255:31:7)",
			       where, arg);
	snprintf(slot, sizeof(slot), "pci.%u.%u.%u", bsf[0], bsf[1], bsf[2]);
	snprintf(key, sizeof(key), "%s.device", slot);
	if (config_is_set(c, key))
		return err_set(err, EEXIST, "%s: slot %u:%u:%u is taken by %s", where, bsf[0], bsf[1], bsf[2],
			       config_get(c, key));
	/* AMD's host bridge differs in its ids only; bhyve's manual offers both. */
	if (strcmp(device, "amd_hostbridge") == 0)
		return err_set(err, ENOTSUP,
			       "%s: amd_hostbridge: not there yet (this version can: hostbridge)", where);
	if (options != NULL && (strcmp(device, "hostbridge") == 0 || strcmp(device, "lpc") == 0))
		return err_set(err, EINVAL, "%s: %s takes no options ('%s')", where, device, options);
	r = config_set(c, where, key, device, err);
	return r != 0 || options == NULL ? r : devices_parse_options(c, where, slot, device, options, err);
}

/* -l com1,stdio | bootrom,file[,vars] | fwcfg,type | pc-testdev */
static int
set_lpc(struct config *c, const char *where, char *arg, struct err *err)
{
	char key[32], *value = strchr(arg, ','), *more;

	if (value != NULL)
		*value++ = '\0';
	if (strlen(arg) == 4 && strncmp(arg, "com", 3) == 0 && arg[3] >= '1' && arg[3] <= '4') {
		snprintf(key, sizeof(key), "lpc.%s.path", arg);
		return config_set(c, where, key, value != NULL ? value : "", err);
	}
	if (strcmp(arg, "bootrom") == 0) {
		more = value != NULL ? strchr(value, ',') : NULL;
		if (more != NULL)
			*more++ = '\0';
		int r = config_set(c, where, "boot.firmware", value != NULL ? value : "", err);
		return r != 0 || more == NULL ? r : config_set(c, where, "boot.vars", more, err);
	}
	if (strcmp(arg, "fwcfg") == 0)
		return config_set(c, where, "lpc.fwcfg", value != NULL ? value : "", err);
	if (strcmp(arg, "pc-testdev") == 0)
		return config_set(c, where, "lpc.pc-testdev", "true", err);
	return err_set(err, EINVAL, "%s: no such LPC device '%s' (com1..com4, bootrom, fwcfg, pc-testdev)",
		       where, arg);
}

static int
set_any(struct config *c, const char *where, char *arg, struct err *err)
{
	return config_assign(c, where, arg, err);
}

static int
set_from_file(struct config *c, const char *where, char *arg, struct err *err)
{
	(void)where;
	return config_read_file(c, arg, err);
}

/* -p vcpu:hostcpu */
static int
set_pin(struct config *c, const char *where, char *arg, struct err *err)
{
	char key[64], *colon = strchr(arg, ':');
	size_t digits = strspn(arg, "0123456789");

	if (colon == NULL || digits == 0 || arg + digits != colon || digits > 4)
		return err_set(err, EINVAL, "%s: not a pair (-p vcpu:hostcpu)", where);
	*colon = '\0';
	snprintf(key, sizeof(key), "vcpu.%s.cpuset", arg);
	return config_set(c, where, key, colon + 1, err);
}

static int
refuse_fwcfg_file(struct config *c, const char *where, char *arg, struct err *err)
{
	(void)c, (void)arg;
	return err_set(err, ENOTSUP, "%s: not there yet (this version has no firmware configuration device)",
		       where);
}

static int
refuse_numa(struct config *c, const char *where, char *arg, struct err *err)
{
	(void)c, (void)arg;
	return err_set(err, ENOTSUP, "%s: not there yet (this version has one NUMA domain)", where);
}

static int
accept_ioapic(struct config *c, const char *where, char *arg, struct err *err)
{
	(void)c, (void)where, (void)arg, (void)err;
	return 0; /* bhyve keeps -I for old scripts: there is always an IOAPIC, in bhyve and here */
}

/* clang-format off */
static const struct option options[] = {
	{'a', NULL, "x86.x2apic", "false", NULL, "local APICs in xAPIC mode only"},
	{'A', NULL, "acpi_tables", "true", NULL, "make ACPI tables (default)"},
	{'C', NULL, "memory.guest_in_core", "true", NULL, "guest RAM in core dumps"},
	{'c', "[cpus=]N[,sockets=N][,cores=N][,threads=N][,maxcpus=N]", NULL, NULL, set_cpus, "virtual CPUs and their topology"},
	{'D', NULL, "destroy_on_poweroff", "true", NULL, "the VM goes at poweroff (always so)"},
	{'e', NULL, "x86.strictio", "true", NULL, "end on I/O to ports nobody has"},
	{'f', "NAME,file=PATH|string=TEXT", NULL, NULL, refuse_fwcfg_file, "fw_cfg file"},
	{'G', "PORT", "gdb.port", NULL, NULL, "debugger stub"},
	{'H', NULL, "x86.vmexit_on_hlt", "true", NULL, "HLT blocks the thread (always so)"},
	{'I', NULL, NULL, NULL, accept_ioapic, "an IOAPIC (always so)"},
	{'K', "LAYOUT", "keyboard.layout", NULL, NULL, "keyboard layout"},
	{'k', "FILE", NULL, NULL, set_from_file, "read a configuration file"},
	{'l', "help|DEVICE[,CONF]", NULL, NULL, set_lpc, "LPC device: com1..com4,stdio|PATH|tcp=HOST:PORT"},
	{'m', "SIZE", "memory.size", NULL, NULL, "guest RAM, MiB or with K, M, G, T"},
	{'n', "ID,SIZE,CPUS", NULL, NULL, refuse_numa, "NUMA domain"},
	{'o', "KEY=VALUE", NULL, NULL, set_any, "set a configuration key"},
	{'P', NULL, "x86.vmexit_on_pause", "true", NULL, "PAUSE may yield (always so)"},
	{'p', "VCPU:HOSTCPU", NULL, NULL, set_pin, "pin a virtual CPU"},
	{'r', "FILE", "restore", NULL, NULL, "restore a snapshot"},
	{'S', NULL, "memory.wired", "true", NULL, "lock guest RAM in memory"},
	{'s', "help|SLOT,DEVICE[,CONF]", NULL, NULL, set_slot, "PCI device at [bus:]slot[:function]"},
	{'U', "UUID", "uuid", NULL, NULL, "SMBIOS system UUID"},
	{'u', NULL, "rtc.use_localtime", "false", NULL, "the RTC keeps UTC (default)"},
	{'W', NULL, "virtio_msix", "false", NULL, "virtio by MSI"},
	{'w', NULL, "x86.strictmsr", "false", NULL, "unknown MSRs read 0"},
	{'x', NULL, "x86.x2apic", "true", NULL, "offer x2APIC (default)"},
	{'Y', NULL, "x86.mptable", "false", NULL, "no MP table"},
};
/* clang-format on */

bool
options_letter(unsigned i, char *letter, const char **arg, const char **help)
{
	if (i >= ARRAY_LEN(options))
		return false;
	*letter = options[i].letter;
	*arg = options[i].arg;
	*help = options[i].help;
	return true;
}

static const struct option *
find_option(char letter)
{
	for (unsigned i = 0; i < ARRAY_LEN(options); i++)
		if (options[i].letter == letter)
			return &options[i];
	return NULL;
}

static int
apply(const struct option *o, const char *value, struct config *c, struct err *err)
{
	char where[200], *copy;
	int r;

	if (value != NULL)
		snprintf(where, sizeof(where), "-%c %s", o->letter, value);
	else
		snprintf(where, sizeof(where), "-%c", o->letter);
	if (o->set == NULL)
		return config_set(c, where, o->key, value != NULL ? value : o->value, err);
	copy = strdup(value != NULL ? value : "");
	if (copy == NULL)
		return err_set(err, ENOMEM, "%s: out of memory", where);
	r = o->set(c, where, copy, err);
	free(copy);
	return r;
}

static bool
wants_device_list(const struct option *o, const char *value)
{
	return (o->letter == 's' || o->letter == 'l') && value != NULL && strcmp(value, "help") == 0;
}

/* One argument that starts with '-': a cluster of letters, the last of which may take a value. */
static int
parse_cluster(int argc, char **argv, int *at, struct config *c, enum options_action *action, struct err *err)
{
	for (const char *p = argv[*at] + 1; *p != '\0'; p++) {
		const struct option *o = find_option(*p);
		const char *value = NULL;
		int r;

		if (*p == 'h') {
			*action = OPTIONS_HELP;
			return 0;
		}
		if (o == NULL)
			return err_set(err, EINVAL, "-%c: no such option (-h lists them)", *p);
		if (o->arg != NULL) {
			value = p[1] != '\0' ? p + 1 : *at + 1 < argc ? argv[++*at] : NULL;
			if (value == NULL)
				return err_set(err, EINVAL, "-%c: no argument (-%c %s)", *p, *p, o->arg);
		}
		if (wants_device_list(o, value)) {
			*action = OPTIONS_DEVICES;
			return 0;
		}
		r = apply(o, value, c, err);
		if (r != 0 || value != NULL)
			return r;
	}
	return 0;
}

static int
parse_long(const char *arg, struct config *c, enum options_action *action, struct err *err)
{
	if (strcmp(arg, "--help") == 0)
		*action = OPTIONS_HELP;
	else if (strcmp(arg, "--version") == 0)
		*action = OPTIONS_VERSION;
	else if (strcmp(arg, "--schema") == 0)
		*action = OPTIONS_SCHEMA;
	else if (strcmp(arg, "--stats") == 0)
		return config_set(c, arg, "debug.stats", "true", err);
	else
		return err_set(err, EINVAL, "%s: no such option (-h lists them; a tunable is -o key=value)",
			       arg);
	return 0;
}

/* --ucl FILE | --ucl=FILE: *file. Else *file stays NULL. */
static int
parse_ucl(int argc, char **argv, int *at, enum options_action *action, const char **file, struct err *err)
{
	const char *arg = argv[*at];

	if (strncmp(arg, "--ucl=", 6) == 0)
		*file = arg + 6;
	else if (strcmp(arg, "--ucl") == 0 && *at + 1 < argc)
		*file = argv[++*at];
	else if (strcmp(arg, "--ucl") == 0)
		return err_set(err, EINVAL, "--ucl: no argument (--ucl FILE)");
	if (*file != NULL)
		*action = OPTIONS_UCL;
	return 0;
}

int
options_parse(int argc, char **argv, struct config *c, enum options_action *action, const char **file,
	      struct err *err)
{
	bool only_names = false, named = false;
	int r = 0;

	*action = OPTIONS_RUN;
	*file = NULL;
	for (int i = 1; i < argc && r == 0 && *action == OPTIONS_RUN; i++) {
		const char *arg = argv[i];

		if (!only_names && strcmp(arg, "--") == 0) {
			only_names = true;
		} else if (!only_names && strncmp(arg, "--", 2) == 0) {
			r = parse_ucl(argc, argv, &i, action, file, err);
			if (r == 0 && *file == NULL)
				r = parse_long(arg, c, action, err);
		} else if (!only_names && arg[0] == '-' && arg[1] != '\0') {
			r = parse_cluster(argc, argv, &i, c, action, err);
		} else if (named) {
			r = err_set(err, EINVAL,
				    "%s: a second name (one VM a process; options come with a dash)", arg);
		} else {
			named = true;
			r = config_set(c, "name", "name", arg, err);
		}
	}
	return r;
}

void
options_print_usage(FILE *out)
{
	fprintf(out, "usage: lhyve [options] name\n");
	for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
		char head[80];

		snprintf(head, sizeof(head), "-%c %s", options[i].letter,
			 options[i].arg != NULL ? options[i].arg : "");
		fprintf(out,
			strlen(head) < 30 ? "  %-30s %s\n" : "  %s\n                                 %s\n",
			head, options[i].help);
	}
	fprintf(out, "  %-30s %s\n  %-30s %s\n  %-30s %s\n  %-30s %s\n  %-30s %s\n", "-h, --help",
		"this text", "--version", "the version", "--schema", "every configuration key", "--stats",
		"print counters when the VM ends", "--ucl FILE", "any UCL file as JSON");
	fprintf(out, "exit: 0 reboot, 1 poweroff, 2 halt, 3 triple fault, 4 error, 5 suspended\n");
}

void
options_print_devices(FILE *out)
{
	const struct pci_model *m;

	fprintf(out,
		"PCI devices (-s slot,device[,options]):\n"
		"  hostbridge   the chipset's host bridge, at 0:0:0; there without being named\n"
		"  lpc          the ISA bridge of the LPC devices, at 0:31:0; there without being named\n");
	for (unsigned i = 0; (m = pci_model_get(i)) != NULL; i++)
		fprintf(out, strlen(m->name) <= 12 ? "  %-12s %s\n" : "  %s\n               %s\n", m->name,
			m->help);
	fprintf(
	    out,
	    "LPC devices (-l device,conf):\n"
	    "  com1..com4   serial port: stdio, a terminal or file, or tcp=host:port\n"
	    "  fwcfg,qemu   firmware configuration: memory size, CPU count\n"
	    "  pc-testdev   devices that tests look for: exit port 0xf4, latch, interrupt lines, memory\n");
}
